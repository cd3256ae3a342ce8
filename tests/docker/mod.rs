//! The real thing: containers, with rsup as their PID 1. What Docker and podman do alike is tested with both; the examples
//! are Docker's.

mod base;
mod beside;
mod examples;
mod kubernetes;
mod limits;
mod run;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::pty::Terminal;
use crate::support::{SIGKILL, binary, eventually, kill, proc};

/// A test for each engine, of functions that take one.
macro_rules! with_each_engine {
    ($($name:ident),+ $(,)?) => {
        mod docker {
            $(#[test] fn $name() { $crate::docker::test_with(&$crate::docker::docker(), super::$name) })+
        }
        mod podman {
            $(#[test] fn $name() { $crate::docker::test_with(&$crate::docker::podman(), super::$name) })+
        }
    };
}
pub(crate) use with_each_engine;

fn test_with(engine: &Result<Engine, String>, test: fn(Engine)) {
    match engine {
        Ok(engine) => test(*engine),
        Err(why) => crate::support::skip(why),
    }
}

/// What runs containers: a command and its own options, and those of its `run`.
#[derive(Clone, Copy)]
pub(crate) struct Engine {
    words: &'static [&'static str],
    run: &'static [&'static str],
}

/// podman raises limits, which not every machine lets it do.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];
const DOCKER: Engine = Engine { words: &["docker"], run: &[] };
/// With its usual runtime, crun, which does not work with every hierarchy of cgroups; and with Docker's.
const PODMAN: [Engine; 2] = [
    Engine { words: &["podman"], run: &LIMITS },
    Engine { words: &["podman", "--runtime", "runc"], run: &LIMITS },
];

/// Docker, if an engine answers.
fn docker() -> Result<Engine, String> {
    static FOUND: OnceLock<Result<Engine, String>> = OnceLock::new();
    let ask = || match DOCKER.command(&["version", "--format", "{{.Server.Version}}"]).output() {
        Ok(asked) if asked.status.success() => Ok(DOCKER),
        Ok(_) => Err("needs a Docker engine: none answers".to_owned()),
        Err(_) => Err("needs a Docker engine: there is no docker command".to_owned()),
    };
    FOUND.get_or_init(ask).clone()
}

/// podman, if it is installed and a container runs.
fn podman() -> Result<Engine, String> {
    static FOUND: OnceLock<Result<Engine, String>> = OnceLock::new();
    let runs = |engine: Engine| {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sbin")).unwrap();
        fs::copy(binary(), root.path().join("sbin/rsup")).unwrap();
        let ran = engine.import(root.path()).run(&[], &["--version"]);
        let error = String::from_utf8_lossy(&ran.stderr);
        let why = || format!("{} runs no container here: {}", engine.words.join(" "), error.trim());
        ran.status.success().then_some(engine).ok_or_else(why)
    };
    let find = || {
        crate::support::installed("podman")?;
        let [usual, other] = PODMAN;
        runs(usual).or_else(|why| {
            crate::support::skip(&why);
            runs(other)
        })
    };
    FOUND.get_or_init(find).clone()
}

/// What a web server is asked.
const GET: &str = "GET / HTTP/1.0\r\n\r\n";

/// Runs a command to its good end; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Engine {
    fn command(self, args: &[&str]) -> Command {
        let mut command = Command::new(self.words[0]);
        command.args(&self.words[1..]).args(args);
        command
    }

    /// Runs its command to its good end; what it printed.
    #[track_caller]
    fn call(self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    /// Builds a Dockerfile in this directory.
    #[track_caller]
    fn build(self, dockerfile: &str, context: &Path) -> Image {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), dockerfile).unwrap();
        let image = Image { engine: self, name: new_name() };
        let (file, context) = (file.path().to_str().unwrap(), context.to_str().unwrap());
        self.call(&["build", "-q", "-t", &image.name, "-f", file, context]);
        image
    }

    /// Makes an image of a root file system, with rsup as its entry point.
    #[track_caller]
    fn import(self, root: &Path) -> Image {
        let mut tar = Command::new("tar");
        let mut tar = tar.args(["-c", "."]).current_dir(root).stdout(Stdio::piped()).spawn().unwrap();
        let image = Image { engine: self, name: new_name() };
        let change = "ENTRYPOINT [\"/sbin/rsup\"]";
        let mut import = self.command(&["import", "--change", change, "-", &image.name]);
        run(import.stdin(tar.stdout.take().unwrap()));
        assert!(tar.wait().unwrap().success());
        image
    }
}

/// A name that no other image has, of this run or another.
fn new_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("rsup-tests:{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An image by its name; removed with it.
struct Image {
    engine: Engine,
    name: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        let _output = self.engine.command(&["rmi", "-f", &self.name]).output();
    }
}

impl Image {
    /// What starts a container of it.
    fn command(&self, options: &[&str], words: &[&str]) -> Vec<String> {
        let run = [self.engine.words, &["run"], self.engine.run, options, &[&self.name], words].concat();
        run.into_iter().map(String::from).collect()
    }

    /// Runs a container of it to its end, without a network.
    fn run(&self, options: &[&str], words: &[&str]) -> Output {
        let command = self.command(&[&["--rm", "--network", "none"], options].concat(), words);
        Command::new(&command[0]).args(&command[1..]).output().unwrap()
    }

    /// A running container of it, without a network.
    #[track_caller]
    fn start(&self, options: &[&str], words: &[&str]) -> Container<'_> {
        self.detach(&[&["--network", "none"], options].concat(), words)
    }

    /// A running container of it, with the ports published that its Dockerfile names.
    #[track_caller]
    fn publish(&self, options: &[&str]) -> Container<'_> {
        self.detach(&[&["-P"], options].concat(), &[])
    }

    #[track_caller]
    fn detach(&self, options: &[&str], words: &[&str]) -> Container<'_> {
        let dir = tempfile::tempdir().unwrap();
        let command = self.command(&[&["-d"], options].concat(), words);
        let id = run(Command::new(&command[0]).args(&command[1..]).current_dir(dir.path()));
        Container { image: self, id, _dir: dir }
    }

    /// A container of it that has not been started, with the same ports.
    fn create(&self) -> Container<'_> {
        let id = self.engine.call(&["create", "-P", &self.name]);
        Container { image: self, id, _dir: tempfile::tempdir().unwrap() }
    }

    /// A running container of it on a new terminal, without a network.
    fn start_on_terminal(&self, options: &[&str], words: &[&str]) -> (Terminal, Container<'_>) {
        let dir = tempfile::tempdir().unwrap();
        let cid = dir.path().join("cid");
        let usual = ["-it", "--network", "none", "--cidfile", cid.to_str().unwrap()];
        let command = self.command(&[&usual, options].concat(), words);
        let words: Vec<_> = command.iter().map(String::as_str).collect();
        let terminal = Terminal::start(&words, dir.path());
        let id = || fs::read_to_string(&cid).ok().filter(|id| !id.is_empty());
        let id = eventually("the container has an id", id);
        (terminal, Container { image: self, id, _dir: dir })
    }
}

/// A container by its id. It goes before its image, which could not be removed while it is there.
struct Container<'a> {
    image: &'a Image,
    id: String,
    /// Where it was started: podman's monitor writes a file there when memory is used up.
    _dir: TempDir,
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (stdout, stderr) = self.streams();
            eprintln!("--- what the container wrote to stdout\n{stdout}--- and to stderr\n{stderr}---");
        }
        let _output = self.image.engine.command(&["rm", "-f", &self.id]).output();
    }
}

impl Container<'_> {
    /// What it has said so far: its stdout, its stderr.
    fn streams(&self) -> (String, String) {
        let output = self.image.engine.command(&["logs", &self.id]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// What it has said so far, on both streams.
    fn logs(&self) -> String {
        let (stdout, stderr) = self.streams();
        stdout + &stderr
    }

    fn expect_log(&self, text: &str, times: usize) {
        let what = format!("the container's log shows {text:?} {times} times");
        eventually(&what, || (self.logs().matches(text).count() >= times).then_some(()));
    }

    /// Waits until these programs are RUNNING.
    fn expect_running(&self, programs: &[&str]) {
        programs
            .iter()
            .for_each(|name| self.expect_log(&format!("success: {name} entered RUNNING state"), 1));
    }

    fn inspect(&self, field: &str) -> String {
        self.image.engine.call(&["inspect", "-f", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// Its PID 1 as the host sees it.
    fn pid(&self) -> i32 {
        self.inspect(".State.Pid").parse().unwrap()
    }

    /// Waits for its end; its exit code.
    fn exit_code(&self) -> i32 {
        let ended = || (self.inspect(".State.Running") == "false").then_some(());
        eventually("the container ends", ended);
        self.inspect(".State.ExitCode").parse().unwrap()
    }

    /// Runs a command in it.
    fn exec(&self, words: &[&str]) -> Output {
        self.image.engine.command(&[&["exec", &self.id], words].concat()).output().unwrap()
    }

    /// Runs a script in it to its good end; what it printed.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.image.engine.call(&["exec", &self.id, "sh", "-c", script])
    }

    /// Sends its PID 1 a signal.
    fn signal(&self, name: &str) {
        self.image.engine.call(&["kill", "-s", name, &self.id]);
    }

    /// The process, as the host sees it, of what the last `spawned:` line of this program names.
    #[track_caller]
    fn program(&self, name: &str) -> i32 {
        let text = format!("spawned: '{name}' with pid ");
        let logs = self.logs();
        let (_, number) = logs.rsplit_once(&text).unwrap_or_else(|| panic!("no {text:?}"));
        let inner = number.lines().next().and_then(|number| number.parse().ok());
        let tree = proc::descendants(self.pid());
        let found = tree.iter().find(|process| proc::inner_pid(process.pid) == inner);
        found.unwrap_or_else(|| panic!("no process {inner:?} in {tree:?}")).pid
    }

    /// Kills a program for the first time; waits until another process has taken its place.
    #[track_caller]
    fn kill_and_expect_another(&self, program: &str) {
        kill(self.program(program), SIGKILL);
        self.expect_log(&format!("exited: {program} (terminated by SIGKILL; not expected)"), 1);
        self.expect_log(&format!("spawned: '{program}' with pid"), 2);
        self.expect_log(&format!("success: {program} entered RUNNING state"), 2);
    }

    /// Starts it.
    fn start(&self) {
        self.image.engine.call(&["start", &self.id]);
    }

    /// Where the host reaches a port of it.
    fn published(&self, port: u16) -> SocketAddr {
        let lines = self.image.engine.call(&["port", &self.id, &port.to_string()]);
        lines.lines().find_map(|line| line.parse().ok()).unwrap_or_else(|| panic!("port {port} of {lines:?}"))
    }

    /// Waits until the server on this port says this to that; what it has said up to there.
    fn expect_answer(&self, port: u16, question: &str, answer: &str) -> String {
        let server = self.published(port);
        eventually(&format!("port {port} answers {answer:?}"), || ask(server, question, answer))
    }

    /// `docker stop`; how long it took.
    fn stop(&self) -> Duration {
        let before = Instant::now();
        self.image.engine.call(&["stop", &self.id]);
        before.elapsed()
    }

    /// `docker stop`, which has to be quick and clean.
    fn stop_well(&self) {
        let pid = self.pid();
        let zombie = || proc::children(pid).iter().any(proc::Process::is_zombie);
        eventually("PID 1 has reaped all that died", || (!zombie()).then_some(()));
        let took = self.stop();
        // Far from the 10 seconds after which the engine kills, and yet enough for a busy machine.
        assert!(took < Duration::from_secs(5), "the stop took {took:?}");
        assert_eq!(self.exit_code(), 0);
        let logs = self.logs();
        assert!(logs.contains("received SIGTERM indicating exit request"), "{logs}");
    }
}

/// What a server says to this, up to what is waited for; none if it does not say it.
fn ask(server: SocketAddr, question: &str, answer: &str) -> Option<String> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    let (mut said, mut piece) = (String::new(), [0; 4096]);
    while !said.contains(answer) {
        match stream.read(&mut piece).ok()? {
            0 => return None,
            length => said += &String::from_utf8_lossy(&piece[..length]),
        }
    }
    Some(said)
}

/// Copies a file of this machine into a root file system, where it has the same place.
fn copy_in(root: &Path, file: &Path) {
    let to = root.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The libraries that a program of this machine is loaded with, the loader included.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let listed = run(Command::new("ldd").arg(file));
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).collect()
}

/// An image with a shell and what scripts need, with rsup as its entry point and this configuration.
fn shell_image(engine: Engine, conf: &str) -> Image {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for dir in ["bin", "sbin", "etc", "tmp", "out"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for name in ["sh", "sleep", "setsid", "cat", "env"] {
        let found = ["/bin", "/usr/bin"].map(|dir| Path::new(dir).join(name));
        let file = found.iter().find(|file| file.exists()).unwrap();
        fs::copy(file, root.join("bin").join(name)).unwrap();
        libraries(file).iter().for_each(|library| copy_in(root, library));
    }
    fs::copy(binary(), root.join("sbin/rsup")).unwrap();
    fs::write(root.join("etc/supervisord.conf"), conf).unwrap();
    engine.import(root)
}

/// A directory of the host that is `/out` in a container, open to every user.
struct Out(TempDir);

impl Out {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(dir.path(), everybody).unwrap();
        Self(dir)
    }

    fn volume(&self) -> String {
        format!("{}:/out", self.0.path().display())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn expect(&self, name: &str, text: &str) {
        eventually(&format!("{name} has {text:?}"), || self.read(name).contains(text).then_some(()));
    }
}

/// A script that answers a signal by a line in the volume.
fn on(signal: &str, name: &str, and: &str) -> String {
    format!(
        "trap \"echo {signal} >> /out/{name}; {and}\" {signal}; echo ready > /out/{name}.ready; \
         while :; do sleep 0.02; done"
    )
}
