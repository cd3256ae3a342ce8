//! Containers with rsup as their PID 1. Most tests run with Docker and with podman. The examples run with Docker only.

mod base;
mod beside;
mod control;
mod examples;
mod kubernetes;
mod limits;
mod listeners;
mod run;
mod seccomp;

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

/// Makes a test for each engine of each function that takes an engine.
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

/// A container engine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Podman,
}

/// Docker, if its daemon answers.
fn docker() -> Result<Engine, String> {
    static FOUND: OnceLock<Result<Engine, String>> = OnceLock::new();
    let ask = || match Engine::Docker.command(&["version", "--format", "{{.Server.Version}}"]).output() {
        Ok(asked) if asked.status.success() => Ok(Engine::Docker),
        Ok(_) => Err("needs a Docker engine: none answers".to_owned()),
        Err(_) => Err("needs a Docker engine: there is no docker command".to_owned()),
    };
    FOUND.get_or_init(ask).clone()
}

/// podman, if it is installed and can run a container.
fn podman() -> Result<Engine, String> {
    static FOUND: OnceLock<Result<Engine, String>> = OnceLock::new();
    let find = || {
        crate::support::installed("podman")?;
        crate::support::installed("runc")?;
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("sbin")).unwrap();
        fs::copy(binary(), root.path().join("sbin/rsup")).unwrap();
        let here = |why: &str| format!("podman runs no container here: {}", why.trim().replace('\n', " "));
        let image = Engine::Podman.try_import(root.path()).map_err(|why| here(&why))?;
        let ran = image.run(&[], &["--version"]);
        let error = String::from_utf8_lossy(&ran.stderr);
        // podman exits with 125, 126 or 127 if it could not start the container. Any other exit code is that of rsup.
        match ran.status.code() {
            Some(0) => Ok(Engine::Podman),
            Some(125..=127) => Err(here(&error)),
            _ => panic!("rsup --version in podman: {}\n{error}", ran.status),
        }
    };
    FOUND.get_or_init(find).clone()
}

/// The request for a web server.
const GET: &str = "GET / HTTP/1.0\r\n\r\n";

/// Runs a command, which must succeed. Returns the command's output.
#[track_caller]
fn run(command: &mut Command) -> String {
    try_run(command).unwrap_or_else(|why| panic!("{command:?}: {why}"))
}

/// Runs a command. Returns the command's output, or why the command failed.
fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let why = || format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let said = || String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then(said).ok_or_else(why)
}

impl Engine {
    /// The words of the engine's command, through env(1) if the command needs a variable.
    fn words(self) -> &'static [&'static str] {
        const CONF: &str =
            concat!("CONTAINERS_CONF=", env!("CARGO_MANIFEST_DIR"), "/tests/docker/containers.conf");
        match self {
            Self::Docker => &["docker"],
            Self::Podman => &["env", CONF, "podman"],
        }
    }

    fn command(self, args: &[&str]) -> Command {
        let words = [self.words(), args].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Runs a command of the engine, which must succeed. Returns the command's output.
    #[track_caller]
    fn call(self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    /// Builds a Dockerfile with a directory as the context.
    #[track_caller]
    fn build(self, dockerfile: &str, context: &Path) -> Image {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), dockerfile).unwrap();
        let image = Image { engine: self, name: new_name() };
        let file = file.path().to_str().unwrap();
        let context = context.to_str().unwrap();
        self.call(&["build", "-q", "-t", &image.name, "-f", file, context]);
        image
    }

    /// Imports a root file system as an image with rsup as the entry point.
    #[track_caller]
    fn import(self, root: &Path) -> Image {
        self.try_import(root).unwrap_or_else(|why| panic!("import: {why}"))
    }

    fn try_import(self, root: &Path) -> Result<Image, String> {
        let mut tar = Command::new("tar");
        let mut tar = tar.args(["-c", "."]).current_dir(root).stdout(Stdio::piped()).spawn().unwrap();
        let image = Image { engine: self, name: new_name() };
        let change = "ENTRYPOINT [\"/sbin/rsup\"]";
        let mut import = self.command(&["import", "--change", change, "-", &image.name]);
        let imported = try_run(import.stdin(tar.stdout.take().unwrap()));
        // tar gets SIGPIPE if the engine ends before it has read everything, and if no process has the read end open
        // any more. `import` still has it.
        drop(import);
        let made = tar.wait().unwrap();
        imported.map(|_id| {
            assert!(made.success(), "tar: {made}");
            image
        })
    }
}

impl Image {
    /// Copies the image to another engine.
    #[track_caller]
    fn copy_to(&self, engine: Engine) -> Image {
        let mut save = self.engine.command(&["save", &self.name]);
        let mut save = save.stdout(Stdio::piped()).spawn().unwrap();
        let image = Image { engine, name: self.name.clone() };
        run(engine.command(&["load", "-q"]).stdin(save.stdout.take().unwrap()));
        assert!(save.wait().unwrap().success());
        image
    }
}

/// A name that no other image of this or another run has.
fn new_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("rsup-tests:{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An image. Dropping the value removes the image.
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
    /// The command that starts a container of the image.
    fn command(&self, options: &[&str], words: &[&str]) -> Vec<String> {
        let run = [self.engine.words(), &["run"], options, &[&self.name], words].concat();
        run.into_iter().map(String::from).collect()
    }

    /// Runs a container without a network until the container exits.
    fn run(&self, options: &[&str], words: &[&str]) -> Output {
        let command = self.command(&[&["--rm", "--network", "none"], options].concat(), words);
        Command::new(&command[0]).args(&command[1..]).output().unwrap()
    }

    /// Starts a container without a network.
    #[track_caller]
    fn start(&self, options: &[&str], words: &[&str]) -> Container<'_> {
        self.detach(&[&["--network", "none"], options].concat(), words)
    }

    /// Starts a container, and publishes the ports that the Dockerfile names.
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

    /// Creates a container with the same ports, without starting it.
    fn create(&self) -> Container<'_> {
        let id = self.engine.call(&["create", "-P", &self.name]);
        Container { image: self, id, _dir: tempfile::tempdir().unwrap() }
    }

    /// Starts a container without a network on a new terminal.
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

/// A container. The borrow makes sure that the container is removed before its image, which the engine requires.
struct Container<'a> {
    image: &'a Image,
    id: String,
    /// The engine's working directory. podman's monitor writes a file there when the container runs out of memory.
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
    /// The output so far: stdout and stderr.
    fn streams(&self) -> (String, String) {
        let output = self.image.engine.command(&["logs", &self.id]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    }

    /// The output so far of both streams.
    fn logs(&self) -> String {
        let (stdout, stderr) = self.streams();
        stdout + &stderr
    }

    fn expect_log(&self, text: &str, times: usize) {
        let what = format!("the container's log shows {text:?} {times} times");
        eventually(&what, || (self.logs().matches(text).count() >= times).then_some(()));
    }

    /// Waits until programs are RUNNING.
    fn expect_running(&self, programs: &[&str]) {
        programs
            .iter()
            .for_each(|name| self.expect_log(&format!("success: {name} entered RUNNING state"), 1));
    }

    fn inspect(&self, field: &str) -> String {
        self.image.engine.call(&["inspect", "-f", &format!("{{{{{field}}}}}"), &self.id])
    }

    /// The PID of the container's PID 1 on the host.
    fn pid(&self) -> i32 {
        self.inspect(".State.Pid").parse().unwrap()
    }

    /// Waits until the container has exited. Returns the exit code.
    fn exit_code(&self) -> i32 {
        let ended = || (self.inspect(".State.Running") == "false").then_some(());
        eventually("the container ends", ended);
        self.inspect(".State.ExitCode").parse().unwrap()
    }

    /// Runs a command in the container.
    fn exec(&self, words: &[&str]) -> Output {
        self.image.engine.command(&[&["exec", &self.id], words].concat()).output().unwrap()
    }

    /// Runs a script in the container, which must succeed. Returns the script's output.
    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.image.engine.call(&["exec", &self.id, "sh", "-c", script])
    }

    /// Sends a signal to the container's PID 1.
    fn signal(&self, name: &str) {
        self.image.engine.call(&["kill", "-s", name, &self.id]);
    }

    /// The PID on the host of the process in the last `spawned:` line of a program.
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

    /// Kills a program for the first time, and waits until rsup has restarted the program.
    #[track_caller]
    fn kill_and_expect_another(&self, program: &str) {
        kill(self.program(program), SIGKILL);
        self.expect_log(&format!("exited: {program} (terminated by SIGKILL; not expected)"), 1);
        self.expect_log(&format!("spawned: '{program}' with pid"), 2);
        self.expect_log(&format!("success: {program} entered RUNNING state"), 2);
    }

    /// Starts the container.
    fn start(&self) {
        self.image.engine.call(&["start", &self.id]);
    }

    /// The address on the host of a published port.
    fn published(&self, port: u16) -> SocketAddr {
        let lines = self.image.engine.call(&["port", &self.id, &port.to_string()]);
        lines.lines().find_map(|line| line.parse().ok()).unwrap_or_else(|| panic!("port {port} of {lines:?}"))
    }

    /// Waits until the server on a port answers a request with a text. Returns the answer up to that text.
    fn expect_answer(&self, port: u16, question: &str, answer: &str) -> String {
        let server = self.published(port);
        eventually(&format!("port {port} answers {answer:?}"), || ask(server, question, answer))
    }

    /// Runs `docker stop`. Returns the duration.
    fn stop(&self) -> Duration {
        let before = Instant::now();
        self.image.engine.call(&["stop", &self.id]);
        before.elapsed()
    }

    /// Runs `docker stop`, which must be fast and end with exit code 0.
    fn stop_well(&self) {
        let pid = self.pid();
        let zombie = || proc::children(pid).iter().any(proc::Process::is_zombie);
        eventually("PID 1 has reaped all that died", || (!zombie()).then_some(()));
        self.expect_good_stop(self.stop());
    }

    /// Checks the result of a stop that took this long.
    fn expect_good_stop(&self, took: Duration) {
        // The limit is well below the 10 seconds after which the engine sends SIGKILL, and high enough for a busy
        // machine.
        assert!(took < Duration::from_secs(5), "the stop took {took:?}");
        assert_eq!(self.exit_code(), 0);
        let logs = self.logs();
        assert!(logs.contains("received SIGTERM indicating exit request"), "{logs}");
    }
}

/// The answer of a server to a request, up to an expected text. `None` if the server does not answer with that text.
fn ask(server: SocketAddr, question: &str, answer: &str) -> Option<String> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(question.as_bytes()).ok()?;
    let mut said = String::new();
    let mut piece = [0; 4096];
    while !said.contains(answer) {
        match stream.read(&mut piece).ok()? {
            0 => return None,
            length => said += &String::from_utf8_lossy(&piece[..length]),
        }
    }
    Some(said)
}

/// Copies a file of this machine to the same path in a root file system.
fn copy_in(root: &Path, file: &Path) {
    let to = root.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The libraries that a program of this machine needs, including the dynamic loader.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let listed = run(Command::new("ldd").arg(file));
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).collect()
}

/// An image with a shell, a few commands for scripts, a configuration, and rsup as the entry point.
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

/// A directory of the host that is mounted at `/out` in a container and that every user may write to.
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

/// A script that handles a signal by writing a line into a file of the volume.
fn on(signal: &str, name: &str, and: &str) -> String {
    format!(
        "trap \"echo {signal} >> /out/{name}; {and}\" {signal}; echo ready > /out/{name}.ready; \
         while :; do sleep 0.02; done"
    )
}
