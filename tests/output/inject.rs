//! System calls of the relay that fail. strace makes every system call of the relay fail for a while, and every system
//! call of PID 1 and of the next relay while that relay starts. Afterwards the output passes as before.

use std::collections::BTreeSet;
use std::time::Duration;

use super::count::with_backups;
use super::files::with_log;
use super::reader::Reader;
use super::{python, relay, relay_but, relays};
use crate::support::injection::Injection;
use crate::support::{Rsup, SIGKILL, Setup, each, eventually, installed, kill, needs, proc, program, within};

/// The errors that a system call can return from a healthy kernel or from a seccomp filter.
fn errors(call: &str) -> &'static [&'static str] {
    match call {
        "brk" | "mmap" | "mremap" | "munmap" => &["ENOMEM"],
        // EAGAIN would contradict what epoll_wait(2) says about the pipes.
        "read" => &["EINTR", "EIO"],
        "write" | "writev" | "pwritev2" => &["EINTR", "EIO", "ENOSPC", "ENOSYS", "EPIPE"],
        "splice" => &["EINTR", "EINVAL", "ENOMEM", "ENOSYS", "EPERM"],
        "open" | "openat" => &["EMFILE", "EACCES", "EINTR", "ENOSPC"],
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "access" | "faccessat" | "readlink" => {
            &["ENOENT", "EIO", "EACCES", "ENOSYS"]
        }
        "rename" | "renameat" => &["EACCES", "EIO", "ENOSPC", "ENOENT"],
        "unlink" | "ftruncate" => &["EACCES", "EIO"],
        "lseek" | "ioctl" => &["EINVAL"],
        "close" => &["EINTR", "EIO"],
        "fcntl" | "dup2" | "pipe2" => &["EMFILE", "EINTR"],
        "fchmod" => &["EPERM", "ENOSYS"],
        "fork" | "clone" => &["EAGAIN", "ENOMEM", "EPERM"],
        "epoll_create1" => &["EMFILE", "ENOSYS"],
        "epoll_ctl" => &["ENOMEM", "ENOSPC", "EPERM"],
        "epoll_wait" | "epoll_pwait" | "poll" | "ppoll" => &["EINTR", "EINVAL"],
        "wait4" => &["EINTR", "EINVAL"],
        "kill" => &["EPERM", "EAGAIN"],
        "prctl" | "prlimit64" | "getrlimit" | "close_range" | "uname" => &["EPERM", "ENOSYS"],
        "clock_gettime" | "gettimeofday" => &["EINVAL"],
        "rt_sigaction" | "rt_sigprocmask" | "rt_sigreturn" => &["EINVAL"],
        "restart_syscall" | "getpid" | "getuid" | "umask" | "exit" | "exit_group" | "set_tid_address"
        | "arch_prctl" | "execve" | "setpgid" | "pwrite64" | "gettid" => &[],
        _ => panic!("{call}: this system call is not in the table of errors"),
    }
}

/// Whether lines may be lost while this call fails. A line that cannot be written is lost and counted; the relay blocks
/// all signals, so not even EINTR is an error that passes at once. As in supervisord, a backup that seems not to exist is
/// not moved up, and a log file that seems to have been removed is created anew.
fn may_lose_lines(call: &str, error: &str) -> bool {
    ["write", "writev", "pwritev2", "stat", "statx", "newfstatat"].contains(&call)
        || [call, error] == ["rename", "ENOENT"]
}

/// A program that writes a numbered line to both streams every 100 ms until the file `stop` exists. Then it writes the
/// number of lines to the file `done`.
const TICK: &str = r"
import os, time
n = 0
while not os.path.exists('stop'):
    for fd in 1, 2:
        os.write(fd, b'%d\n' % n)
    n += 1
    time.sleep(0.1)
open('last', 'w').write(str(n))
os.rename('last', 'done')
time.sleep(1000)
";

/// That program: its stdout is a log file that is rotated all the time, and its stderr is rsup's stdout, a pipe.
fn setup() -> Setup {
    let keys = "startsecs=0\nstderr_logfile=/dev/stdout\nstderr_logfile_maxbytes=0\n\
                stdout_logfile=%(here)s/log/out\nstdout_logfile_maxbytes=30\nstdout_logfile_backups=100\n";
    let web = program("web", "sleep 1000");
    with_log(&(web + &program("job", "python3 -IS tick.py") + keys))
        .file("tick.py", TICK, 0o644)
        .args(&["--output", "lines"])
        .after("exec >pipe")
}

/// rsup with that program, and the lines of its stdout.
struct Run {
    rsup: Rsup,
    reader: Reader<Vec<u64>>,
}

impl Run {
    fn start(setup: Setup) -> Self {
        let reader = Reader::new(&setup.path("pipe"), |numbers: &mut Vec<u64>, line| {
            numbers.push(String::from_utf8_lossy(line).parse().unwrap_or(u64::MAX));
        });
        let mut rsup = setup.start();
        rsup.expect("success: web");
        Self { rsup, reader }
    }

    fn fails(&self, what: &str, why: &str) -> String {
        let log: Vec<_> = self.rsup.lines(" WARN ").into_iter().map(|line| line.0).collect();
        format!("{what}: {why}\n    {}", log.join("\n    "))
    }

    /// Waits until this number of further lines has arrived in the log file and on stdout.
    fn passes(&self, lines: usize) -> Result<(), String> {
        let sizes = || {
            let files = (0..2000).map_while(|n| {
                let name = if n == 0 { "log/out".to_owned() } else { format!("log/out.{n}") };
                std::fs::metadata(self.rsup.path(&name)).ok().map(|file| file.len())
            });
            // A line of the file has at least two bytes.
            [files.sum::<u64>() / 2, self.reader.find("the lines so far", |lines| Some(lines.len() as u64))]
        };
        let before = sizes();
        let passed = || (0..2).all(|way| sizes()[way] >= before[way] + lines as u64).then_some(());
        within(Duration::from_secs(20), passed)
            .ok_or_else(|| format!("no lines pass: {before:?} {:?}", sizes()))
    }

    /// Checks the output after a fault, and the stop.
    fn check(&mut self, may_lose: bool) -> Result<(), String> {
        self.passes(5)?;
        self.rsup.touch("stop");
        let end: u64 = eventually("the program is done", || self.rsup.read("done").parse().ok());
        if self.rsup.stop() != 0 {
            return Err("the stop failed".into());
        }
        let file = String::from_utf8(with_backups(&self.rsup.path("log/out"))).unwrap();
        let in_file: Vec<u64> = file.lines().map(|line| line.parse().unwrap_or(u64::MAX)).collect();
        let in_pipe = self.reader.end();
        let is_good = |numbers: &[u64]| {
            let is_sorted = numbers.is_sorted_by(|a, b| a < b);
            is_sorted && (may_lose || numbers.len() as u64 == end) && numbers.last() == Some(&(end - 1))
        };
        // While the log file cannot be opened, its lines go to rsup's own stream, which has both then.
        let is_good = if self.rsup.lines("it gets no output until it can").is_empty() {
            is_good(&in_file) && is_good(&in_pipe)
        } else {
            let mut all = [&in_file[..], &in_pipe].concat();
            all.sort_unstable();
            let twice: Vec<u64> = (0..end).flat_map(|number| [number, number]).collect();
            all == twice || may_lose && all.chunk_by(|a, b| a == b).all(|same| same.len() <= 2)
        };
        if is_good {
            return Ok(());
        }
        Err(format!("{end} lines, in the file: {}, in the pipe: {}", ranges(&in_file), ranges(&in_pipe)))
    }
}

/// Numbers as ranges, for a message.
fn ranges(numbers: &[u64]) -> String {
    let ranges: Vec<_> = numbers
        .chunk_by(|a, b| *b == a + 1)
        .map(|range| format!("{}-{}", range[0], range[range.len() - 1]))
        .collect();
    ranges.join(" ")
}

/// The system calls that a relay makes from its fork on, and those of PID 1 while it starts the relay.
fn calls() -> BTreeSet<String> {
    let trace = ["strace", "-D", "-f", "-b", "execve", "-qq", "-e", "signal=none", "-o", "trace"];
    let mut run = Run::start(setup().through(&trace));
    let first = relay(&run.rsup);
    run.passes(5).unwrap();
    kill(first, SIGKILL);
    let second = relay_but(&run.rsup, first);
    run.passes(5).unwrap();
    assert_eq!(run.rsup.stop(), 0);
    let relays = [first, second].map(|pid| pid.to_string());
    let trace = run.rsup.read("trace");
    let of_relay = trace.lines().filter_map(|line| {
        let (pid, call) = line.trim_start().split_once(' ')?;
        let (name, _) = call.trim_start().split_once('(')?;
        (relays.iter().any(|relay| relay == pid) && !name.starts_with('<')).then(|| name.to_owned())
    });
    of_relay.collect()
}

#[test]
fn the_relay_survives_a_system_call_that_fails_for_a_while() {
    needs!(python(), installed("strace"), crate::resource_use::shipped_binary());
    let cases: Vec<_> = calls()
        .into_iter()
        .flat_map(|call| errors(&call).iter().map(move |error| (call.clone(), *error)))
        .collect();
    assert!(cases.len() > 10, "{cases:?}");
    each(&cases, |(call, error)| {
        let mut run = Run::start(setup());
        let fault = |run: &mut Run| -> Result<(), String> {
            run.passes(4)?;
            let rsup = &run.rsup;
            let pid = relay(rsup);
            let injection = Injection::start(pid, false, &format!("inject={call}:error={error}"));
            let before = proc::context_switches(pid);
            within(Duration::from_millis(1500), || None::<()>);
            let after = if relays(rsup) == [pid] { proc::context_switches(pid) } else { before };
            injection.stop();
            // A pipe whose read(2) fails stays ready, which no healthy kernel does.
            if after - before > 8000 && call != "read" {
                return Err(format!("the relay spins: {} switches", after - before));
            }
            run.check(may_lose_lines(call, error))
        };
        fault(&mut run).map_err(|why| run.fails(&format!("{call} {error}"), &why))
    });
}

#[test]
fn the_relay_is_started_again_after_a_system_call_has_failed_for_a_while() {
    needs!(python(), installed("strace"), crate::resource_use::shipped_binary());
    let start = ["brk", "mmap", "epoll_create1", "epoll_ctl", "pipe2", "fork", "clone", "close_range"];
    let start =
        start.iter().chain(&["fcntl", "close", "read", "open", "ioctl", "fstat", "stat", "epoll_wait"]);
    let start = start.chain(&["epoll_pwait", "poll", "splice", "wait4"]);
    let cases: Vec<_> =
        start.flat_map(|call| errors(call).iter().map(move |error| (*call, *error))).collect();
    each(&cases, |(call, error)| {
        let mut run = Run::start(setup());
        let fault = |run: &mut Run| -> Result<(), String> {
            run.passes(4)?;
            let rsup = &run.rsup;
            let pid = relay(rsup);
            let injection = Injection::start(rsup.pid(), true, &format!("inject={call}:error={error}"));
            kill(pid, SIGKILL);
            let before = proc::context_switches(rsup.pid());
            within(Duration::from_millis(2500), || None::<()>);
            let after = proc::context_switches(rsup.pid());
            injection.stop();
            if after - before > 2500 {
                return Err(format!("PID 1 spins: {} switches", after - before));
            }
            let new = within(Duration::from_secs(10), || relays(rsup).into_iter().find(|new| *new != pid));
            new.ok_or("no relay runs")?;
            // SIGKILL may lose what the relay held.
            run.check(true)
        };
        fault(&mut run).map_err(|why| run.fails(&format!("{call} {error}"), &why))
    });
}
