//! What all black-box tests use: a configuration in a directory of its own, the real binary that runs the
//! configuration, and functions that wait for a fact with a deadline.

pub(crate) mod board;
pub(crate) mod cgroup;
pub(crate) mod freezer;
pub(crate) mod injection;
pub(crate) mod plugin;
pub(crate) mod probe;
pub(crate) mod proc;
pub(crate) mod pty;
pub(crate) mod python;
pub(crate) mod two_programs;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use libc::{SIGCONT, SIGHUP, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, SIGUSR1};

/// The deadline for every fact. The deadline is long, because the machine may be busy. Only a failing test waits that
/// long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the configuration file in the directory of a test. rsup's messages contain this name.
pub(crate) const CONF: &str = "supervisord.conf";

/// Skips the test with a message on stderr if the machine lacks a requirement: `needs!(root(), pid_namespace());`.
macro_rules! needs {
    ($($requirement:expr),+ $(,)?) => {
        $(if let Err(why) = $requirement {
            return $crate::support::skip(&why);
        })+
    };
}
pub(crate) use needs;

/// Reports on stderr that a check did not run. This writes to the real stderr, which libtest does not capture.
pub(crate) fn skip(why: &dyn Display) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let thread = thread::current();
    let line = format!("SKIP {}: {why} ({count} skipped so far)\n", thread.name().unwrap_or("?"));
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is writable");
}

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("RSUP_BIN").map_or_else(|| env!("CARGO_BIN_EXE_rsup").into(), PathBuf::from)
}

/// Whether tests run as root.
pub(crate) fn root() -> Result<(), &'static str> {
    match fs::read_to_string("/proc/self/status").unwrap().contains("\nUid:\t0\t0\t") {
        true => Ok(()),
        false => Err("needs root"),
    }
}

/// Makes a FIFO.
#[track_caller]
pub(crate) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Whether a command is installed on this machine.
pub(crate) fn installed(command: &str) -> Result<(), String> {
    find(command).map(drop)
}

/// The path of a command of this machine.
pub(crate) fn find(command: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let mut places = std::env::split_paths(&path).chain(std::env::split_paths(PATH));
    let found = places.find_map(|dir| Some(dir.join(command)).filter(|file| file.exists()));
    found.ok_or_else(|| format!("{command} is not installed"))
}

/// The words that run a command as PID 1 of a new PID namespace, if this machine allows one.
pub(crate) fn pid_namespace() -> Result<&'static [&'static str], &'static str> {
    const ROOT: [&str; 4] = ["unshare", "-pf", "--mount-proc", "--kill-child"];
    const USER: [&str; 4] = ["unshare", "-Urpf", "--mount-proc", "--kill-child"];
    static FOUND: OnceLock<Option<&[&str]>> = OnceLock::new();
    let works = |words: &&'static [&'static str]| {
        let tried = Command::new(words[0]).args(&words[1..]).arg("true").output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let found = FOUND.get_or_init(|| [&ROOT as &[_], &USER].into_iter().find(works));
    found.ok_or("needs a PID namespace, and neither `unshare -pf` nor `unshare -Urpf` works here")
}

/// Waits until `answer` returns a value. `what` describes that value in the message of a failure.
pub(crate) fn eventually<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, &mut answer).unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

/// The first value that `answer` returns within a time, if there is one.
pub(crate) fn within<T>(time: Duration, mut answer: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + time;
    loop {
        let last = Instant::now() >= deadline;
        match answer() {
            None if !last => thread::sleep(Duration::from_millis(2)),
            answer => return answer,
        }
    }
}

/// Checks for a time that something does not happen.
pub(crate) fn never(what: &str, time: Duration, mut happened: impl FnMut() -> bool) {
    let seen = within(time, || happened().then_some(()));
    assert!(seen.is_none(), "{what}");
}

/// Checks all cases, 12 at a time because most of the time is spent waiting, and fails with the messages of all
/// failures.
pub(crate) fn each<T: Sync>(cases: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    const AT_ONCE: usize = 12;
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(vec![]);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = check(case) {
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Runs a check for all cases at once, because most of the time is spent waiting.
pub(crate) fn at_once<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    // The line of a skipped check contains the name of the test.
    let name = thread::current().name().unwrap_or("?").to_owned();
    let check = &check;
    thread::scope(|scope| {
        for case in cases {
            thread::Builder::new().name(name.clone()).spawn_scoped(scope, move || check(case)).unwrap();
        }
    });
}

/// Sends a signal by its number, because real-time signals have no names.
pub(crate) fn kill(pid: i32, signal: i32) {
    assert!(pid > 1, "no test may signal process {pid}");
    // SAFETY: kill(2) takes two numbers and accesses no memory of this process.
    #[allow(unsafe_code, reason = "nix knows no real-time signals")]
    unsafe {
        libc::kill(pid, signal)
    };
}

/// How rsup runs under a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As an ordinary process.
    Foreground,
    /// As PID 1 of a PID namespace.
    Pid1,
}

/// Both ways, or only the foreground if this machine has no PID namespaces.
pub(crate) fn both_ways() -> Vec<Way> {
    match pid_namespace() {
        Ok(_) => vec![Way::Foreground, Way::Pid1],
        Err(why) => {
            skip(&format!("the part of the test as PID 1: {why}"));
            vec![Way::Foreground]
        }
    }
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A configuration in a directory of its own, and how rsup will be started with it. The directory is rsup's working
/// directory, so programs may name its files without a path. Every user may write there.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
    way: Way,
    through: Vec<String>,
    binary: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// A set-up with this configuration file.
pub(crate) fn rsup(conf: &str) -> Setup {
    let dir = tempfile::Builder::new().prefix("rsup-").tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.path().join(CONF), conf).unwrap();
    let args = vec!["-c".into(), CONF.into()];
    Setup { dir, way: Way::Foreground, through: vec![], binary: binary(), args, env: vec![] }
}

/// A set-up of rsup with this command. Its stdout goes to the file `stdout`, its stderr to the log.
pub(crate) fn command(words: &[&str]) -> Setup {
    rsup("").only_args(words).args(&["--"])
}

impl Setup {
    /// In the foreground or as PID 1.
    pub(crate) fn run_as(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// As PID 1.
    pub(crate) fn pid_1(self) -> Self {
        self.run_as(Way::Pid1)
    }

    /// With these arguments before `-c supervisord.conf`.
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.args.splice(0..0, args.iter().map(|arg| arg.to_string()));
        self
    }

    /// With these arguments and no others.
    pub(crate) fn only_args(mut self, args: &[&str]) -> Self {
        self.args.clear();
        self.args(args)
    }

    /// Started by a shell that runs a script first.
    pub(crate) fn after(mut self, script: &str) -> Self {
        let words = ["sh", "-c", &format!("{script}\nexec \"$@\""), "sh"].map(String::from);
        self.through.extend(words);
        self
    }

    /// Started through a command that executes the rest of its arguments.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.through.extend(words.iter().map(|word| word.to_string()));
        self
    }

    /// With a variable in rsup's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// With another build of rsup.
    pub(crate) fn of(mut self, binary: &Path) -> Self {
        self.binary = binary.into();
        self
    }

    /// Started under another name.
    pub(crate) fn called(mut self, name: &str) -> Self {
        let link = self.path(name);
        std::os::unix::fs::symlink(&self.binary, &link).unwrap();
        self.binary = link;
        self
    }

    /// With another program in rsup's place.
    pub(crate) fn instead(mut self, binary: PathBuf) -> Self {
        self.binary = binary;
        self
    }

    /// With another command in the place of rsup and its arguments.
    pub(crate) fn running(mut self, words: &[&str]) -> Self {
        self.args.clear();
        self.instead(words[0].into()).args(&words[1..])
    }

    /// With a further file in the directory.
    pub(crate) fn file(self, name: &str, text: &str, mode: u32) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if mode & 0o111 == 0 {
            fs::write(&path, text).unwrap();
        } else {
            let text_file = tempfile::NamedTempFile::new().unwrap();
            fs::write(text_file.path(), text).unwrap();
            copy_executable(text_file.path(), &path);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    /// The path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts rsup. rsup's stdout is the file `stdout`, and its stderr is the log.
    pub(crate) fn start(self) -> Rsup {
        let namespace = match self.way {
            Way::Foreground => &[][..],
            Way::Pid1 => pid_namespace().expect("the test has checked pid_namespace()"),
        };
        let mut words: Vec<OsString> = namespace.iter().map(Into::into).collect();
        words.extend(self.through.iter().map(Into::into));
        words.push(self.binary.clone().into());
        words.extend(self.args.iter().map(Into::into));

        let stdout = File::options().create(true).append(true).open(self.path("stdout")).unwrap();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", PATH)
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let log = Log::of(child.stderr.take().unwrap());
        Rsup { dir: self.dir, way: self.way, child, log, read: 0, pid: OnceLock::new() }
    }

    /// Runs rsup until it exits. Returns the exit code.
    pub(crate) fn run(self) -> (i32, Rsup) {
        let mut rsup = self.start();
        (rsup.exit_code(), rsup)
    }
}

/// A running rsup. Dropping the value kills rsup and all of its descendants.
pub(crate) struct Rsup {
    dir: tempfile::TempDir,
    way: Way,
    child: Child,
    log: Arc<Log>,
    /// The number of lines that `expect` has passed.
    read: usize,
    pid: OnceLock<i32>,
}

impl Rsup {
    /// Waits for the next line that contains a text, and passes that line: later calls search only the lines after it.
    pub(crate) fn expect(&mut self, text: &str) -> Line {
        self.expect_all(&[text]).remove(0)
    }

    /// Waits for several lines, which may come in any order.
    pub(crate) fn expect_all<T: AsRef<str>>(&mut self, texts: &[T]) -> Vec<Line> {
        let mut taken = HashSet::new();
        let mut found = vec![];
        for text in texts.iter().map(AsRef::as_ref) {
            let wanted = |(at, line): &(usize, &String)| line.contains(text) && !taken.contains(at);
            let line = self.log.wait(|lines| {
                let mut unread = lines.iter().enumerate().skip(self.read);
                unread.find(wanted).map(|(at, line)| (at, line.clone()))
            });
            let (at, line) = line.unwrap_or_else(|| panic!("no line {text:?} after line {}", self.read));
            taken.insert(at);
            found.push(Line(line));
        }
        self.read = taken.into_iter().max().map_or(self.read, |last| last + 1);
        found
    }

    /// All lines so far.
    pub(crate) fn log(&self) -> Vec<Line> {
        self.log.lines.lock().unwrap().0.iter().cloned().map(Line).collect()
    }

    /// The lines so far that contain a text.
    pub(crate) fn lines(&self, text: &str) -> Vec<Line> {
        self.log().into_iter().filter(|line| line.0.contains(text)).collect()
    }

    /// rsup's PID in the PID namespace of the test.
    pub(crate) fn pid(&self) -> i32 {
        let started = self.child.id().cast_signed();
        *self.pid.get_or_init(|| match self.way {
            Way::Foreground => started,
            Way::Pid1 => {
                eventually("rsup runs as PID 1", || proc::children(started).first().map(|child| child.pid))
            }
        })
    }

    /// The PID, in the PID namespace of the test, of the process in the last `spawned:` line of a program.
    pub(crate) fn pid_of(&self, program: &str) -> i32 {
        let text = format!("spawned: '{program}' with pid ");
        let spawned = eventually(&text, || self.lines(&text).pop());
        self.host_pid(spawned.number_after(&text))
    }

    /// The PID, in the PID namespace of the test, of a process with a given PID in rsup's PID namespace.
    pub(crate) fn host_pid(&self, inner: i32) -> i32 {
        let tree = self.tree();
        let found = tree.iter().find(|process| proc::inner_pid(process.pid) == Some(inner));
        found.unwrap_or_else(|| panic!("no process {inner} in {tree:?}")).pid
    }

    /// All descendants of rsup.
    pub(crate) fn tree(&self) -> Vec<proc::Process> {
        proc::descendants(self.pid())
    }

    /// Sends rsup a signal.
    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Sends a program a signal.
    pub(crate) fn kill(&self, program: &str, signal: i32) {
        kill(self.pid_of(program), signal);
    }

    /// Waits until rsup has exited and no process has rsup's stderr open any more, so that no process is left behind.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let status = eventually("rsup exits", || self.child.try_wait().unwrap());
        let closed = within(PATIENCE, || self.log.lines.lock().unwrap().1.then_some(()));
        assert!(closed.is_some(), "a process was left behind: it has rsup's stderr open");
        status.code().unwrap_or_else(|| panic!("rsup was killed: {status}"))
    }

    /// Sends rsup SIGTERM, and waits until rsup has exited.
    pub(crate) fn stop(&mut self) -> i32 {
        self.signal(SIGTERM);
        self.exit_code()
    }

    /// The exit code if rsup has exited; the inner value is `None` if a signal has killed rsup.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().unwrap().map(|status| status.code())
    }

    /// Whether rsup has exited.
    pub(crate) fn has_left(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The path of a file in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The content of a file in the directory. An absent file counts as empty.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Waits until a file in the directory contains a text.
    pub(crate) fn expect_in_file(&self, name: &str, text: &str) {
        eventually(&format!("{name} contains {text:?}"), || self.read(name).contains(text).then_some(()));
    }

    /// Waits until all these programs have reported that they are ready (see `forever`).
    pub(crate) fn expect_ready(&self, programs: &[&str]) {
        for program in programs {
            self.expect_in_file(&format!("{program}.ready"), "ready");
        }
    }

    /// Creates a file in the directory, for a program that waits for the file.
    pub(crate) fn touch(&self, name: &str) {
        File::create(self.path(name)).unwrap();
    }
}

impl Drop for Rsup {
    fn drop(&mut self) {
        if thread::panicking() {
            let lines: Vec<_> = self.log().into_iter().map(|line| line.0).collect();
            eprintln!("--- the log\n{}\n---", lines.join("\n"));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            let top = self.child.id().cast_signed();
            if self.way == Way::Foreground {
                kill(top, SIGSTOP);
            }
            let below = proc::descendants(top);
            kill(top, SIGKILL);
            below.iter().for_each(|process| kill(process.pid, SIGKILL));
            let _status = self.child.wait();
        }
    }
}

/// A line of rsup's stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line(pub(crate) String);

impl Line {
    /// The parts of `2026-01-31 13:01:34,159 INFO text`: the time in milliseconds of the day, the level, the text.
    pub(crate) fn parts(&self) -> (u32, &str, &str) {
        self.try_parts().unwrap_or_else(|| panic!("not a line of supervisord's form: {self:?}"))
    }

    fn try_parts(&self) -> Option<(u32, &str, &str)> {
        let shape = "dddd-dd-dd dd:dd:dd,ddd ";
        let stamp = self.0.get(..shape.len())?;
        let fits = |(c, form): (char, char)| if form == 'd' { c.is_ascii_digit() } else { c == form };
        let (level, text) = self.0[shape.len()..].split_once(' ')?;
        let known = ["CRIT", "ERRO", "WARN", "INFO", "DEBG", "TRAC", "BLAT"].contains(&level);
        let number = |range: std::ops::Range<usize>| stamp[range].parse::<u32>().ok();
        (known && stamp.chars().zip(shape.chars()).all(fits)).then_some(())?;
        let seconds = (number(11..13)? * 60 + number(14..16)?) * 60 + number(17..19)?;
        Some((seconds * 1000 + number(20..23)?, level, text))
    }

    /// `INFO text`.
    pub(crate) fn message(&self) -> String {
        let (_, level, text) = self.parts();
        format!("{level} {text}")
    }

    /// Milliseconds since an earlier line.
    pub(crate) fn since(&self, earlier: &Self) -> u32 {
        const DAY: u32 = 24 * 60 * 60 * 1000;
        (DAY + self.parts().0 - earlier.parts().0) % DAY
    }

    /// The number that follows a text.
    pub(crate) fn number_after(&self, text: &str) -> i32 {
        let (_, rest) = self.0.split_once(text).unwrap_or_else(|| panic!("no {text:?} in {self:?}"));
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|_| panic!("no number after {text:?} in {self:?}"))
    }
}

/// The lines received so far, and whether the stream has ended.
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grew: Condvar,
}

impl Log {
    fn of(stream: impl std::io::Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self { lines: Mutex::default(), grew: Condvar::new() });
        let writer = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                writer.lines.lock().unwrap().0.push(String::from_utf8_lossy(&line).into_owned());
                writer.grew.notify_all();
            }
            writer.lines.lock().unwrap().1 = true;
            writer.grew.notify_all();
        });
        log
    }

    /// Waits until `find` returns a value for the lines. Gives up at the end of the stream or at the deadline.
    fn wait<T>(&self, mut find: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.lines.lock().unwrap();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match find(&state.0) {
                None if !state.1 && !left.is_zero() => state = self.grew.wait_timeout(state, left).unwrap().0,
                found => return found,
            }
        }
    }
}

/// A `[program:x]` section, to which a test may append keys.
pub(crate) fn program(name: &str, command: &str) -> String {
    format!("[program:{name}]\ncommand={command}\n")
}

/// A `[program:x]` that runs a shell script without single quotes. A test may append keys.
pub(crate) fn script(name: &str, script: &str) -> String {
    program(name, &format!("sh -c '{script}'"))
}

/// A `[program:x]` that handles a signal and reports that it is ready for the signal. A test may append keys.
pub(crate) fn handler(name: &str, signal: &str, handler: &str) -> String {
    script(name, &format!("trap \"{handler}\" {signal}; {}", forever(name)))
}

/// The end of a script: the script reports that it is ready, and keeps running. The sleeps are short, because a shell
/// runs a trap only between two commands.
pub(crate) fn forever(name: &str) -> String {
    format!("echo ready > {name}.ready; while :; do sleep 0.02; done")
}

/// Copies a file that will be executed. Another process writes it: a child that another test forks at this moment would
/// inherit a descriptor of this process that is open for writing, and the exec of the file would fail with ETXTBSY.
#[track_caller]
pub(crate) fn copy_executable(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("--").arg(from).arg(to).status().unwrap().success());
}

/// All files below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
