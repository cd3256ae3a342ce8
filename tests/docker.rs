//! The real thing: containers of a Docker engine, with rsup as their PID 1.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::kernel::shipped_binary;
use crate::support::pty::Terminal;
use crate::support::witness::{build, static_programs};
use crate::support::{SIGKILL, binary, eventually, files_below, installed, kill, needs, proc, root};
use crate::terminal::job_control;

/// Whether a Docker engine answers.
fn engine() -> Result<(), String> {
    static ENGINE: OnceLock<Result<(), String>> = OnceLock::new();
    let ask = || {
        let asked = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
        match asked {
            Ok(asked) if asked.status.success() => Ok(()),
            Ok(_) => Err("needs a Docker engine: none answers".to_owned()),
            Err(_) => Err("needs a Docker engine: there is no docker command".to_owned()),
        }
    };
    ENGINE.get_or_init(ask).clone()
}

/// Runs a command to its good end; what it printed.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{error}", output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Runs docker to its good end; what it printed.
#[track_caller]
fn docker(args: &[&str]) -> String {
    run(Command::new("docker").args(args))
}

/// An image by its id; removed with its last reference here.
struct Image(String);

impl Drop for Image {
    fn drop(&mut self) {
        let _output = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

impl Image {
    /// Builds a directory that holds a Dockerfile. The label makes it an image of its own: removing it must not take
    /// the same one from somebody who has built it too.
    fn build(context: &Path) -> Self {
        let label = format!("test={}", context.display());
        Self(docker(&["build", "-q", "--label", &label, context.to_str().unwrap()]))
    }

    /// Makes an image of a root file system.
    fn import(root: &Path) -> Self {
        let mut tar = Command::new("tar");
        let mut tar = tar.args(["-c", "."]).current_dir(root).stdout(Stdio::piped()).spawn().unwrap();
        let change = "ENTRYPOINT [\"/sbin/rsup\"]";
        let id = run(Command::new("docker")
            .args(["import", "--change", change, "-"])
            .stdin(tar.stdout.take().unwrap()));
        assert!(tar.wait().unwrap().success());
        Self(id)
    }

    /// A running container of it, without a network.
    fn start(&self) -> Container {
        Container(docker(&["run", "-d", "--network", "none", &self.0]))
    }
}

/// A container by its id.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- docker logs\n{}\n---", self.logs());
        }
        let _output = Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

impl Container {
    /// What it has said so far, on both streams.
    fn logs(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.0]).output().unwrap();
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    fn inspect(&self, field: &str) -> i32 {
        docker(&["inspect", "-f", &format!("{{{{.State.{field}}}}}"), &self.0]).parse().unwrap()
    }

    /// Its PID 1 as the host sees it.
    fn pid(&self) -> i32 {
        self.inspect("Pid")
    }

    /// What the server on this port in it says to this, if one answers.
    fn ask(&self, port: &str, question: &str) -> Option<String> {
        let asked = Command::new("docker")
            .args(["exec", &self.0, "/bin/talk", "ask", port, question])
            .output()
            .unwrap();
        asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned())
    }

    fn expect_answer(&self, port: &str, question: &str, answer: &str) -> String {
        let what = format!("port {port} answers {answer:?}");
        eventually(&what, || self.ask(port, question).filter(|said| said.contains(answer)))
    }

    fn expect_log(&self, text: &str, times: usize) {
        let what = format!("docker logs shows {text:?} {times} times");
        eventually(&what, || (self.logs().matches(text).count() >= times).then_some(()));
    }

    /// The process with this name that rsup itself started.
    fn program(&self, name: &str) -> i32 {
        let children = proc::children(self.pid());
        let found = children.iter().find(|process| process.name == name && !process.is_zombie());
        found.unwrap_or_else(|| panic!("no {name} in {children:?}")).pid
    }

    /// Kills a program; waits until another process has taken its place.
    fn kill_and_expect_another(&self, program: &str, process: &str) {
        kill(self.program(process), SIGKILL);
        self.expect_log(&format!("exited: {program} (terminated by SIGKILL; not expected)"), 1);
        self.expect_log(&format!("spawned: '{program}' with pid"), 2);
        self.expect_log(&format!("success: {program} entered RUNNING state"), 2);
    }

    /// `docker stop`, which has to be quick and clean.
    fn stop(&self) {
        let tree = proc::descendants(self.pid());
        assert!(!tree.iter().any(proc::Process::is_zombie), "{tree:?}");
        let before = Instant::now();
        docker(&["stop", &self.0]);
        assert!(before.elapsed() < Duration::from_secs(2), "docker stop took {:?}", before.elapsed());
        assert_eq!(self.inspect("ExitCode"), 0);
        let logs = self.logs();
        assert!(logs.contains("received SIGTERM indicating exit request"), "{logs}");
    }
}

#[test]
fn an_image_that_holds_nothing_else() {
    needs!(engine(), root(), shipped_binary(), static_programs());
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));

    // The Dockerfile that ships: rsup alone says what it is missing.
    let context = tempfile::tempdir().unwrap();
    fs::copy(repository.join("docker/Dockerfile"), context.path().join("Dockerfile")).unwrap();
    fs::copy(binary(), context.path().join("rsup")).unwrap();
    let base = Image::build(context.path());
    let alone = Command::new("docker").args(["run", "--rm", "--network", "none", &base.0]).output().unwrap();
    assert_eq!(alone.status.code(), Some(2));
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains("No config file found at default paths"), "{said}");

    // What a user puts on top of it.
    let context = tempfile::tempdir().unwrap();
    build("talk", &context.path().join("talk"));
    let dockerfile =
        format!("FROM {}\nCOPY talk /bin/talk\nCOPY supervisord.conf /etc/supervisord.conf\n", base.0);
    fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    let conf = "[program:talk]\ncommand=/bin/talk serve 8080\nuser=1000\nautorestart=true\n";
    fs::write(context.path().join("supervisord.conf"), conf).unwrap();
    let image = Image::build(context.path());

    let container = image.start();
    let first = container.expect_answer("8080", "", "served by ");
    container.expect_log("success: talk entered RUNNING state", 1);
    container.expect_log("rsup started with pid 1", 1);
    container.expect_log("talk listens", 1);
    container.kill_and_expect_another("talk", "talk");
    let second = container.expect_answer("8080", "", "served by ");
    assert_ne!(first, second, "another process answers");
    container.stop();
}

/// Copies a file of this machine into a root file system, where it has the same place.
fn copy_in(root: &Path, file: &Path) {
    let to = root.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(file, &to).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// The libraries that a program or module of this machine is loaded with, the loader included.
fn libraries(file: &Path) -> Vec<PathBuf> {
    let listed = run(Command::new("ldd").arg(file));
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(|word| PathBuf::from(word.trim_end_matches(':'))).collect()
}

/// A root file system with nginx and redis-server of this machine's packages, and what they read.
fn servers_root(root: &Path) {
    let modules = Path::new("/usr/lib/nginx/modules");
    let modules = if modules.exists() { files_below(modules) } else { vec![] };
    let programs = ["/usr/sbin/nginx", "/usr/bin/redis-server"].map(PathBuf::from);
    for file in programs.iter().chain(&modules) {
        copy_in(root, &fs::canonicalize(file).unwrap());
        libraries(file).iter().for_each(|library| copy_in(root, library));
    }
    let redis = root.join("usr/bin/redis-server");
    if !redis.exists() {
        let name = fs::canonicalize("/usr/bin/redis-server").unwrap();
        symlink(name, redis).unwrap();
    }
    for dir in
        ["etc", "usr/share", "run", "tmp", "var/log/nginx", "var/lib/nginx", "var/lib/redis", "sbin", "bin"]
    {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    for dir in ["/etc/nginx", "/usr/share/nginx", "/var/www"] {
        let parent = root.join(dir.strip_prefix('/').unwrap()).parent().unwrap().to_owned();
        run(Command::new("cp").arg("-a").arg(dir).arg(parent));
    }
    for file in ["/etc/passwd", "/etc/group"] {
        copy_in(root, Path::new(file));
    }
    run(Command::new("chown").arg("redis:redis").arg(root.join("var/lib/redis")));
}

#[test]
fn nginx_and_redis_as_the_example_shows_them() {
    needs!(
        engine(),
        root(),
        shipped_binary(),
        static_programs(),
        installed("nginx"),
        installed("redis-server")
    );
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    servers_root(root);
    fs::copy(binary(), root.join("sbin/rsup")).unwrap();
    build("talk", &root.join("bin/talk"));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/nginx-redis/supervisord.conf");
    fs::copy(example, root.join("etc/supervisord.conf")).unwrap();

    let image = Image::import(root);
    let container = image.start();
    let answers = || {
        container.expect_answer("80", "GET / HTTP/1.0\\n\\n", "200 OK");
        container.expect_answer("6379", "PING\\n", "+PONG");
    };
    answers();
    for program in ["nginx", "redis"] {
        container.expect_log(&format!("success: {program} entered RUNNING state"), 1);
    }
    container.kill_and_expect_another("nginx", "nginx");
    answers();
    container.kill_and_expect_another("redis", "redis-server");
    answers();
    container.stop();
    let logs = container.logs();
    assert!(logs.contains("stopped: nginx (exit status 0)"), "{logs}");
    assert!(logs.contains("stopped: redis (exit status 0)"), "{logs}");
    assert!(logs.contains("Ready to accept connections"), "redis writes to docker logs: {logs}");
}

/// An image with a shell and what scripts need, with rsup as its entry point and this configuration.
fn shell_image(conf: &str) -> Image {
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
    Image::import(root)
}

/// A directory of the host that is `/out` in a container.
struct Out(tempfile::TempDir);

impl Out {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn volume(&self) -> String {
        format!("{}:/out", self.0.path().display())
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_default()
    }

    fn expect(&self, name: &str, text: &str) {
        eventually(&format!("{name} has {text:?}"), || self.read(name).contains(text).then_some(()));
    }
}

impl Image {
    /// Starts a container of it with this volume.
    fn start_with(&self, out: &Out, words: &[&str]) -> Container {
        let options = ["run", "-d", "--network", "none", "-v", &out.volume(), &self.0];
        Container(docker(&[&options[..], words].concat()))
    }

    /// Starts a container of it on a new terminal.
    fn start_on_terminal(&self, options: &[&str], words: &[&str]) -> (Terminal, Container) {
        let dir = tempfile::tempdir().unwrap();
        let cid = dir.path().join("cid");
        let run = ["docker", "run", "-it", "--network", "none", "--cidfile", cid.to_str().unwrap()];
        let terminal = Terminal::start(&[&run[..], options, &[&self.0], words].concat(), dir.path());
        let id = || fs::read_to_string(&cid).ok().filter(|id| !id.is_empty());
        (terminal, Container(eventually("the container has an id", id)))
    }

    /// Runs a container of it to its end.
    fn run(&self, words: &[&str]) -> Output {
        let mut docker = Command::new("docker");
        docker.args(["run", "--rm", "--network", "none", &self.0]).args(words).output().unwrap()
    }
}

/// A script that answers a signal by a line in the volume.
fn on(signal: &str, name: &str, and: &str) -> String {
    format!(
        "trap \"echo {signal} >> /out/{name}; {and}\" {signal}; echo ready > /out/{name}.ready; \
         while :; do sleep 0.02; done"
    )
}

#[test]
fn one_command_is_what_the_container_leaves_with() {
    needs!(engine(), root(), shipped_binary());
    let image = shell_image("");
    for (words, code) in [
        (&["--", "sh", "-c", "exit 7"][..], 7),
        (&["sh", "-c", "exit 0"], 0),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["--", "no-such-command"], 127),
        (&["/etc/supervisord.conf"], 126),
    ] {
        let output = image.run(words);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    let out = Out::new();
    let container = image.start_with(&out, &["--", "sh", "-c", &on("HUP", "web", "exit 3")]);
    out.expect("web.ready", "ready");
    docker(&["kill", "-s", "HUP", &container.0]);
    assert_eq!(docker(&["wait", &container.0]), "3");
    assert_eq!(out.read("web"), "HUP\n");

    let container = image.start_with(&out, &["--", "sh", "-c", &on("TERM", "db", "exit 4")]);
    out.expect("db.ready", "ready");
    let before = Instant::now();
    docker(&["stop", &container.0]);
    assert!(before.elapsed() < Duration::from_secs(5), "docker stop took {:?}", before.elapsed());
    assert_eq!((container.inspect("ExitCode"), out.read("db").as_str()), (4, "TERM\n"));
}

#[test]
fn docker_kill_reaches_the_programs_and_docker_stop_everything_that_is_left() {
    needs!(engine(), root(), shipped_binary());
    let section = |name: &str, script: &str| format!("[program:{name}]\ncommand=sh -c '{script}'\n");
    let conf = section("waits", "sleep 1000 & wait")
        + &section("forks", "(setsid sh /out/daemon.sh &); exec sleep 1000")
        + &section("leads", "sh /out/member.sh & exec sleep 1000")
        + &section("deaf", &on("TERM", "deaf", ":"))
        + "stopwaitsecs=2\n"
        + &section("hup", &on("HUP", "hup", ":"));
    let image = shell_image(&conf);
    let out = Out::new();
    fs::write(out.0.path().join("daemon.sh"), on("TERM", "daemon", "exit")).unwrap();
    fs::write(out.0.path().join("member.sh"), on("TERM", "member", "exit")).unwrap();
    let container = image.start_with(&out, &[]);
    for name in ["daemon", "member", "deaf", "hup"] {
        out.expect(&format!("{name}.ready"), "ready");
    }
    container.expect_log("success: waits", 1);

    docker(&["kill", "-s", "HUP", &container.0]);
    out.expect("hup", "HUP\n");
    // HUP ends those that do not catch it; they come back.
    container.expect_log("exited: waits (terminated by SIGHUP; not expected)", 1);
    container.expect_log("success: waits", 2);
    container.expect_log("success: forks", 2);
    container.expect_log("success: leads", 2);
    ["daemon", "member", "deaf"].iter().for_each(|name| out.expect(&format!("{name}.ready"), "ready"));

    let before = Instant::now();
    docker(&["stop", &container.0]);
    let took = before.elapsed();
    assert!(
        took >= Duration::from_millis(1900) && took < Duration::from_secs(5),
        "docker stop took {took:?}"
    );
    assert_eq!(container.inspect("ExitCode"), 0, "{}", container.logs());
    for name in ["daemon", "member", "deaf"] {
        assert!(out.read(name).contains("TERM\n"), "{name} was not told\n{}", container.logs());
    }
    let logs = container.logs();
    assert!(logs.contains("stopped: deaf (terminated by SIGKILL)"), "{logs}");
}

#[test]
fn docker_run_it_has_job_control() {
    needs!(engine(), root(), shipped_binary());
    let image = shell_image("");
    let (mut terminal, _container) = image.start_on_terminal(&["-e", "PS1=inner> "], &["--", "sh", "-i"]);
    job_control(&mut terminal, "inner> ");
    terminal.enter("exit 7\n");
    assert_eq!(terminal.exit_code(), 7);
}

#[test]
fn docker_run_it_of_a_configuration_keeps_the_terminals_signals_from_the_programs() {
    needs!(engine(), root(), shipped_binary());
    let tell = |signal: &str| format!("trap \"echo {signal} >> /out/web\" {signal}; ");
    let conf = format!(
        "[program:web]\ncommand=sh -c '{}{}{}'\n",
        tell("WINCH"),
        tell("USR1"),
        on("TERM", "web", "exit 0")
    );
    let image = shell_image(&conf);
    let out = Out::new();
    let (mut terminal, container) = image.start_on_terminal(&["-v", &out.volume()], &[]);
    out.expect("web.ready", "ready");
    terminal.expect("success: web");
    terminal.resize(33, 99);
    docker(&["exec", &container.0, "sh", "-c", "kill -USR1 1"]);
    out.expect("web", "USR1\n");
    assert_eq!(out.read("web"), "USR1\n");
    // Both the kernel's and the one that docker's client has proxied are kept back; somebody's in the container is not.
    docker(&["exec", &container.0, "sh", "-c", "kill -WINCH 1"]);
    out.expect("web", "WINCH\n");
    terminal.enter("\x03");
    terminal.expect("received SIGINT indicating exit request");
    terminal.expect("stopped: web (exit status 0)");
    assert_eq!(terminal.exit_code(), 0);
    assert_eq!(out.read("web"), "USR1\nWINCH\nTERM\n");
}
