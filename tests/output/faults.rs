//! Faults of the relay and of what it writes to: the relay is killed or stopped, a reader does not read, a disk is
//! full, descriptors and processes are short.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::count::{COUNT, account, counter, expect_written, finish, with_backups, written};
use super::files::{LARGE, with_log};
use super::load::HELD;
use super::reader::{Reader, all_lines};
use super::{python, relay, relay_but, relays, shown};
use rsup::control::request::Request;

use crate::soak::setting;
use crate::support::board::Board;
use crate::support::cgroup::Cgroup;
use crate::support::probe::{probe, static_programs};
use crate::support::{
    Line, PATIENCE, Rsup, SIGKILL, SIGSTOP, SIGTERM, Setup, at_once, each, eventually, installed, kill,
    needs, never, pid_namespace, proc, program, root, rsup, script, within,
};

/// Keys of two log files from which no backup is removed.
const BOTH: &str = "stdout_logfile=%(here)s/log/out\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups=10000\n\
                    stderr_logfile=%(here)s/log/err\nstderr_logfile_maxbytes=3MB\nstderr_logfile_backups=10000\n";

/// The lines at level WARN about the relay.
fn warnings(rsup: &Rsup) -> Vec<Line> {
    let is_warning = |line: &Line| line.0.contains("WARN") && line.0.contains("relay");
    rsup.log().into_iter().filter(is_warning).collect()
}

/// A program that writes line N to both streams when the file `goN` exists.
const ASK: &str = r"
import os, time
n = 0
while True:
    n += 1
    while not os.path.exists('go%d' % n):
        time.sleep(0.01)
    for fd in 1, 2:
        os.write(fd, b'line %d\n' % n)
";

/// A reader that keeps every byte of lines, with their newlines.
fn all_bytes(path: &Path) -> Reader<Vec<u8>> {
    Reader::new(path, |bytes, line| {
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
    })
}

#[test]
fn a_killed_relay_loses_at_most_what_it_held() {
    needs!(python());
    const KILLS: u64 = 5;
    let mut rsup = with_log(&(counter("job", "12 256") + BOTH)).start();
    let job = rsup.pid_of("job");
    let mut last = 0;
    for _ in 0..KILLS {
        let pid = relay_but(&rsup, last);
        expect_written(&rsup, "job", 1_000_000);
        kill(pid, SIGKILL);
        last = pid;
    }
    relay_but(&rsup, last);
    expect_written(&rsup, "job", 1_000_000);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.pid_of("job"), job);
    assert_eq!(warnings(&rsup).len() as u64, KILLS, "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
    for (file, limit) in [("log/out", 1 << 20), ("log/err", 3 << 20)] {
        let bytes = with_backups(&rsup.path(file));
        let arrived = account(&bytes).unwrap();
        assert!(arrived.end == written && arrived.lost <= KILLS * HELD, "{file}: {arrived:?} of {written}");
        for entry in fs::read_dir(rsup.path("log")).unwrap() {
            let entry = entry.unwrap();
            let is_of_file = shown(&entry.path()).starts_with(shown(&rsup.path(file)));
            let size = entry.metadata().unwrap().len();
            assert!(!is_of_file || size < limit + 128 * 1024, "{entry:?} has {size} bytes");
        }
    }
}

#[test]
fn a_relay_that_is_killed_while_it_rotates_leaves_a_complete_order() {
    needs!(python());
    let kills = setting("KILLS", 5);
    // The relay spends most of its time with the backups, because each rotation looks for all of them.
    let keys =
        "stdout_logfile=%(here)s/log/out\nstdout_logfile_maxbytes=30000\nstdout_logfile_backups=3000\n";
    let mut rsup = with_log(&(counter("job", "1 64") + keys)).start();
    let mut last = 0;
    for _ in 0..kills {
        let pid = relay_but(&rsup, last);
        expect_written(&rsup, "job", 200_000);
        kill(pid, SIGKILL);
        last = pid;
    }
    relay_but(&rsup, last);
    expect_written(&rsup, "job", 200_000);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    assert!(written < 3000 * 30_000, "a backup was removed: {written}");
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert!(arrived.end == written && arrived.lost <= kills * HELD, "{arrived:?} of {written}");
}

#[test]
fn the_output_in_the_pipes_arrives_when_the_relay_is_killed_just_before_the_stop() {
    needs!(python());
    at_once(&["direct", "lines"], |&mode| {
        let keys = if mode == "direct" { BOTH } else { "" };
        let mut rsup = with_log(&(counter("job", "1 64") + keys)).args(&["--output", mode]).start();
        expect_written(&rsup, "job", 1_000_000);
        let first = relay(&rsup);
        kill(first, SIGKILL);
        // The second one may only be started again after a second.
        let second = relay_but(&rsup, first);
        expect_written(&rsup, "job", 100_000);
        kill(second, SIGKILL);
        expect_blocked(&rsup, "job");
        assert_eq!(rsup.stop(), 0, "{mode}");
        let written = written(&rsup, "job");
        let bytes = match mode {
            "direct" => with_backups(&rsup.path("log/out")),
            _ => fs::read(rsup.path("stdout")).unwrap(),
        };
        let arrived = account(&bytes).unwrap();
        let is_good = arrived.lost <= 2 * HELD && arrived.end >= written && arrived.end <= written + 1024;
        assert!(is_good, "{mode}: {arrived:?} of {written}");
    });
}

#[test]
fn the_relay_carries_on_and_exits_with_the_last_program_when_rsup_is_killed() {
    needs!(python());
    let rsup = with_log(&(counter("job", "1 64") + BOTH)).start();
    expect_written(&rsup, "job", 1_000_000);
    let pid = relay(&rsup);
    let job = rsup.pid_of("job");
    rsup.signal(SIGKILL);
    expect_written(&rsup, "job", 1_000_000);
    rsup.touch("stop");
    eventually("the program is done", || rsup.path("job.done").exists().then_some(()));
    kill(job, SIGKILL);
    let is_gone = |pid: i32| proc::process(pid).is_none_or(|process| process.is_zombie());
    eventually("the relay exits", || is_gone(pid).then_some(()));
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert_eq!((arrived.lost, arrived.end), (0, written(&rsup, "job")));
}

#[test]
fn nothing_is_lost_when_a_relay_without_work_is_killed() {
    needs!(python());
    at_once(&["direct", "lines"], |&mode| {
        let keys = if mode == "direct" { BOTH } else { "" };
        let setup = with_log(&(program("job", "python3 -IS ask.py") + "startsecs=0\n" + keys));
        let setup = setup.file("ask.py", ASK, 0o644).args(&["--output", mode]);
        let mut rsup = setup.start();
        let file = if mode == "direct" { "log/out" } else { "stdout" };
        let mut pid = relay(&rsup);
        for number in 1..5 {
            rsup.touch(&format!("go{number}"));
            rsup.expect_in_file(file, &format!("line {number}\n"));
            // The relay sleeps when it has nothing to do.
            eventually("the relay sleeps", || (proc::process(pid)?.state == 'S').then_some(()));
            kill(pid, SIGKILL);
            pid = relay_but(&rsup, pid);
        }
        assert_eq!(rsup.stop(), 0);
        let expected: String = (1..5).map(|number| format!("line {number}\n")).collect();
        assert_eq!(rsup.read(file), expected, "{mode}");
        assert_eq!(warnings(&rsup).len(), 4, "{:?}", rsup.log());
    });
}

#[test]
fn a_relay_that_dies_at_once_is_not_started_in_a_busy_loop() {
    let conf = script("job", "exec sleep 1000") + LARGE;
    let mut rsup = with_log(&conf).start();
    rsup.expect("success: job");
    let start = Instant::now();
    let mut pids = vec![];
    within(Duration::from_secs(4), || {
        for pid in relays(&rsup) {
            kill(pid, SIGKILL);
            if !pids.contains(&pid) {
                pids.push(pid);
            }
        }
        None::<()>
    });
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    assert!((2..=seconds + 2).contains(&pids.len()), "{} relays in {seconds} s", pids.len());
    relay_but(&rsup, *pids.last().unwrap());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn signals_do_not_end_the_relay() {
    needs!(python());
    let mut rsup = with_log(&(counter("job", "1 16") + BOTH)).start();
    let pid = relay(&rsup);
    let signals = (1..=64).filter(|signal| ![SIGKILL, SIGSTOP].contains(signal));
    signals.for_each(|signal| kill(pid, signal));
    // The same signals for PID 1's whole process group, as a terminal sends them.
    expect_written(&rsup, "job", 500_000);
    assert_eq!(relays(&rsup), [pid]);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert_eq!((arrived.lost, arrived.end), (0, written));
}

/// Waits until a program has filled its pipe: it sleeps in a write.
fn expect_blocked(rsup: &Rsup, name: &str) {
    let pid = rsup.pid_of(name);
    eventually("the program waits", || {
        let before = written(rsup, name);
        let waits = (0..20).all(|_| proc::process(pid).is_some_and(|process| process.state == 'S'));
        (waits
            && before > 0
            && within(Duration::from_millis(200), || (written(rsup, name) != before).then_some(())).is_none())
        .then_some(())
    });
}

/// A program that is killed and restarted: PID 1 works.
fn expect_restart(rsup: &mut Rsup, name: &str) {
    rsup.kill(name, SIGKILL);
    rsup.expect(&format!("exited: {name} (terminated by SIGKILL"));
    rsup.expect(&format!("success: {name} "));
}

fn web() -> String {
    program("web", "sleep 1000")
}

#[test]
fn while_the_relay_is_stopped_the_programs_wait_and_nothing_is_lost() {
    needs!(python());
    let mut rsup = with_log(&(web() + &counter("job", "12 256") + BOTH)).start();
    rsup.expect("success: web ");
    expect_written(&rsup, "job", 1_000_000);
    kill(relay(&rsup), SIGSTOP);
    expect_blocked(&rsup, "job");
    expect_restart(&mut rsup, "web");
    let begin = Instant::now();
    assert_eq!(rsup.stop(), 0);
    let time = begin.elapsed();
    assert!(time < Duration::from_secs(8), "the stop took {time:?}");
    let written = written(&rsup, "job");
    for file in ["log/out", "log/err"] {
        let arrived = account(&with_backups(&rsup.path(file))).unwrap();
        // The program has counted all writes but the last one.
        let is_good = arrived.lost == 0 && arrived.end >= written && arrived.end <= written + 2 * 4096;
        assert!(is_good, "{file}: {arrived:?} of {written}");
    }
}

#[test]
fn a_stopped_relay_that_is_continued_goes_on() {
    needs!(python());
    let mut rsup = with_log(&(counter("job", "1 256") + BOTH)).start();
    expect_written(&rsup, "job", 100_000);
    let pid = relay(&rsup);
    kill(pid, SIGSTOP);
    expect_blocked(&rsup, "job");
    kill(pid, libc::SIGCONT);
    expect_written(&rsup, "job", 1_000_000);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert_eq!((arrived.lost, arrived.end), (0, written));
}

/// A set-up in a mode, whose stdout is the FIFO `pipe`.
fn in_mode(mode: &str, conf: &str) -> Setup {
    rsup(conf).file("count.py", COUNT, 0o644).args(&["--output", mode]).after("exec >pipe")
}

#[test]
fn while_the_output_is_not_read_the_programs_wait_and_rsup_can_be_stopped() {
    needs!(python());
    at_once(&["lines", "json"], |&mode| {
        let setup = in_mode(mode, &(web() + &counter("job", "1 256")));
        let reader = all_lines(&setup.path("pipe"));
        let mut rsup = setup.start();
        rsup.expect("success: web ");
        expect_written(&rsup, "job", 100_000);
        reader.pause();
        expect_blocked(&rsup, "job");
        expect_restart(&mut rsup, "web");
        let begin = Instant::now();
        rsup.signal(SIGTERM);
        let ended = eventually("rsup exits", || rsup.ended());
        let time = begin.elapsed();
        assert_eq!(ended, Some(0), "{mode}");
        // The programs end at once, and rsup waits for the relay for 3 s.
        assert!((2500..8000).contains(&time.as_millis()), "{mode}: {time:?}");
        reader.resume();
        let lines = reader.end();
        assert!(lines.len() > 1000, "{mode}: {} lines", lines.len());
    });
}

#[test]
fn output_of_one_stream_passes_while_the_other_is_not_read() {
    needs!(python());
    let conf = counter("job", "2 256") + &script("other", "while :; do echo line; sleep 0.05; done");
    let setup = in_mode("lines", &conf).after("exec 2>errors");
    let out = all_lines(&setup.path("pipe"));
    let errors = all_bytes(&setup.path("errors"));
    let mut rsup = setup.start();
    out.find("the first line", |lines| (!lines.is_empty()).then_some(()));
    eventually("job writes", || (written(&rsup, "job") > 100_000).then_some(()));
    errors.pause();
    eventually("job waits", || {
        let before = written(&rsup, "job");
        within(Duration::from_millis(300), || (written(&rsup, "job") != before).then_some(()))
            .is_none()
            .then_some(())
    });
    let lines = out.find("the lines so far", |lines| Some(lines.len()));
    out.find("further lines", |more| (more.len() >= lines + 10).then_some(()));
    errors.resume();
    assert_eq!(rsup.stop(), 0);
    drop(out.end());
    drop(errors.end());
}

#[test]
fn a_log_file_is_written_while_the_output_is_not_read() {
    needs!(python());
    let setup = in_mode("lines", &(counter("job", "1 256") + &counter("file", "12 256") + BOTH));
    fs::create_dir(setup.path("log")).unwrap();
    let reader = all_lines(&setup.path("pipe"));
    let mut rsup = setup.start();
    expect_written(&rsup, "job", 100_000);
    reader.pause();
    expect_blocked(&rsup, "job");
    expect_written(&rsup, "file", 2_000_000);
    reader.resume();
    assert_eq!(rsup.stop(), 0);
    assert_eq!(account(&with_backups(&rsup.path("log/out"))).unwrap().lost, 0);
    drop(reader.end());
}

#[test]
fn rsup_waits_for_a_slow_reader_of_the_last_bytes() {
    needs!(python());
    let conf = counter("job", "1 256");
    let setup = in_mode("lines", &conf);
    let reader = all_bytes(&setup.path("pipe"));
    let mut rsup = setup.start();
    expect_written(&rsup, "job", 100_000);
    reader.pause();
    expect_blocked(&rsup, "job");
    rsup.signal(SIGTERM);
    rsup.expect("stopped: job");
    never("rsup exits although the reader has not read everything", Duration::from_millis(1000), || {
        rsup.has_left()
    });
    reader.resume();
    assert_eq!(rsup.exit_code(), 0);
    let written = written(&rsup, "job");
    let arrived = account(&reader.end()).unwrap();
    assert!(arrived.lost == 0 && arrived.end >= written, "{arrived:?} of {written}");
}

#[test]
fn no_line_of_a_program_that_writes_until_sigkill_is_lost() {
    needs!(python());
    let keys = "stopwaitsecs=1\n";
    let to_file = with_log(&(counter("job", "1 16 stubborn") + keys + BOTH));
    let to_pipe = in_mode("lines", &(counter("job", "1 16 stubborn") + keys));
    let reader = all_bytes(&to_pipe.path("pipe"));
    let [file, pipe] = [to_file, to_pipe].map(|setup| {
        let mut rsup = setup.start();
        expect_written(&rsup, "job", 100_000);
        assert_eq!(rsup.stop(), 0);
        assert_eq!(rsup.lines("killing 'job'").len(), 1, "{:?}", rsup.log());
        rsup
    });
    let in_file = account(&with_backups(&file.path("log/out"))).unwrap();
    let last = written(&file, "job");
    assert!(in_file.lost == 0 && in_file.end >= last, "{in_file:?} of {last}");
    let in_pipe = account(&reader.end()).unwrap();
    let last = written(&pipe, "job");
    assert!(in_pipe.lost == 0 && in_pipe.end >= last, "{in_pipe:?} of {last}");
}

#[test]
fn the_last_output_of_every_program_arrives_when_rsup_ends_by_itself() {
    const PROGRAMS: usize = 50;
    let conf = script("job", "echo %(process_num)d")
        + "startsecs=0\nautorestart=false\nnumprocs=50\n\
        process_name=w%(process_num)d\nstdout_logfile=%(here)s/log/out%(process_num)d\n";
    for (args, keys) in
        [(&[][..], conf.clone()), (&["--output", "lines"], conf.replace("stdout_logfile", "x_file"))]
    {
        let (code, rsup) = with_log(&keys).args(args).run();
        assert_eq!(code, 0);
        let mut lines: Vec<usize> = match args {
            [] => (0..PROGRAMS).map(|n| rsup.read(&format!("log/out{n}")).trim().parse().unwrap()).collect(),
            _ => rsup.read("stdout").lines().map(|line| line.parse().unwrap()).collect(),
        };
        lines.sort_unstable();
        assert_eq!(lines, (0..PROGRAMS).collect::<Vec<_>>());
    }
}

/// The path, as this test sees it, of a file on the disk `disk` in rsup's mount namespace.
fn on_disk(rsup: &Rsup, name: &str) -> PathBuf {
    let inside = rsup.path("disk").join(name);
    Path::new(&format!("/proc/{}/root", rsup.pid())).join(inside.strip_prefix("/").unwrap())
}

/// A program that writes 3,000 numbered lines for each of the files `go1`, `go2` … that exists, and then creates
/// `done1` …. A line has 100 bytes.
const ROUNDS: &str = r"
import os, time
for n in range(1, 9):
    while not os.path.exists('go%d' % n):
        time.sleep(0.01)
    for line in range(3000 * n - 3000, 3000 * n):
        os.write(1, (b'%d ' % line).ljust(99, b'.') + b'\n')
    open('done%d' % n, 'w')
";
const ROUND: u64 = 3000;

/// The number of a line of that program.
///
/// # Errors
/// Returns the line if it is not whole.
fn number(line: &str) -> Result<u64, String> {
    let number = line.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    let whole = |number: &u64| format!("{:.<99}", format!("{number} ")) == line;
    number.filter(whole).ok_or_else(|| format!("torn: {line:?}"))
}

/// Lines are lost whole and counted while the disk is full. `room` is the space that is left, in bytes.
fn lines_are_counted_on_a_full_disk(keys: &str, args: &[&str], redirect: &str, room: u32) {
    let fill = format!(
        "mkdir disk; mount -t tmpfs -o size=1000k none disk; dd if=/dev/zero of=disk/filler bs=4k 2>&-; \
         truncate -s -{room} disk/filler{redirect}"
    );
    let conf = program("job", "python3 -IS rounds.py") + "startsecs=0\n" + keys;
    let mut rsup = rsup(&conf).file("rounds.py", ROUNDS, 0o644).args(args).after(&fill).pid_1().start();
    let done = |rsup: &Rsup, round: u32| {
        rsup.touch(&format!("go{round}"));
        eventually("the program is not held up by the full disk", || {
            rsup.path(&format!("done{round}")).exists().then_some(())
        });
    };
    done(&rsup, 1);
    fs::remove_file(on_disk(&rsup, "filler")).unwrap();
    done(&rsup, 2);
    let file = on_disk(&rsup, "out");
    let last = eventually("the last line is on the disk", || {
        let text = fs::read_to_string(&file).unwrap();
        text.lines().last().is_some_and(|line| number(line) == Ok(2 * ROUND - 1)).then_some(text)
    });
    let numbers: Vec<u64> = last.lines().map(|line| number(line).unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "out of order or twice");
    let lost = 2 * ROUND - numbers.len() as u64;
    assert!(lost > 0 && numbers.contains(&(ROUND + ROUND / 2)), "{lost} lines were lost");
    let counts = || {
        let lines = rsup.lines("were lost").into_iter();
        lines.map(|line| line.message().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum()
    };
    let counted: u64 = eventually("the lost lines are counted", || (counts() > 0).then(counts));
    assert!(rsup.lines("lost").iter().all(|line| line.0.contains(" WARN ")), "{:?}", rsup.log());
    assert_eq!(counted, lost, "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn lines_for_a_log_file_on_a_full_disk_are_counted() {
    needs!(root(), pid_namespace(), python());
    let keys = "stdout_logfile=%(here)s/disk/out\n";
    for room in [0, 4096] {
        lines_are_counted_on_a_full_disk(keys, &[], "", room);
    }
}

#[test]
fn lines_for_a_stdout_on_a_full_disk_are_counted() {
    needs!(root(), pid_namespace(), python());
    for room in [0, 4096] {
        lines_are_counted_on_a_full_disk("", &["--output", "lines"], "; exec >disk/out", room);
    }
}

#[test]
fn a_log_file_without_newlines_goes_on_when_the_disk_has_room_again() {
    needs!(root(), pid_namespace(), python());
    let endless = r"
import os, time
n = 0
while True:
    os.write(1, b''.join(b'%09d,' % number for number in range(n, n + 100)))
    n += 100
    time.sleep(0.01)
";
    let fill =
        "mkdir disk; mount -t tmpfs -o size=1000k none disk; dd if=/dev/zero of=disk/filler bs=4k 2>&-";
    let keys = "startsecs=0\nstdout_logfile=%(here)s/disk/out\nstdout_logfile_maxbytes=100KB\nstdout_logfile_backups=1\n";
    let conf = program("job", "python3 -IS job.py") + keys;
    let mut rsup = rsup(&conf).file("job.py", endless, 0o644).after(fill).pid_1().start();
    rsup.expect("ENOSPC");
    fs::remove_file(on_disk(&rsup, "filler")).unwrap();
    eventually("the file grows", || (fs::metadata(on_disk(&rsup, "out")).ok()?.len() > 10_000).then_some(()));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_full_disk_does_not_hold_up_other_log_files() {
    needs!(root(), pid_namespace(), python());
    let fill = "mkdir disk; mount -t tmpfs -o size=400k none disk; dd if=/dev/zero of=disk/filler bs=4k 2>&-";
    let full = counter("full", "1 64") + "stdout_logfile=%(here)s/disk/out\n";
    let mut rsup = with_log(&(full + &counter("job", "12 256") + BOTH)).after(fill).pid_1().start();
    for name in ["job", "full"] {
        eventually("it writes", || (written(&rsup, name) > 1_000_000).then_some(()));
    }
    let all = finish(&rsup, &["job", "full"]);
    assert_eq!(rsup.stop(), 0);
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert_eq!((arrived.lost, arrived.end), (0, all[0]));
}

/// The number of programs of the test with many.
const MANY: usize = 1000;

/// Programs with a log file for each stream.
fn many(programs: usize) -> String {
    script("job", "echo out; echo err >&2; exec sleep 1000")
        + &format!("startsecs=0\nnumprocs={programs}\nprocess_name=w%(process_num)d\n")
        + "stdout_logfile=%(here)s/log/out%(process_num)d\nstderr_logfile=%(here)s/log/err%(process_num)d\n"
}

/// The hard limit on the number of descriptors.
fn hard_limit() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().unwrap()
}

#[test]
fn a_thousand_programs_have_two_log_files_each() {
    needs!((hard_limit() >= 9000).then_some(()).ok_or("needs a hard limit of 9,000 descriptors"));
    let mut rsup = with_log(&many(MANY)).after("ulimit -Sn 256").start();
    let missing = || {
        let is_missing = |n: &usize| {
            rsup.read(&format!("log/out{n}")) != "out\n" || rsup.read(&format!("log/err{n}")) != "err\n"
        };
        (0..MANY).filter(is_missing).count()
    };
    let complete = within(Duration::from_secs(60), || (missing() == 0).then_some(()));
    assert!(complete.is_some(), "{} programs have no log files, {:?}", missing(), warnings(&rsup));
    assert_eq!(relays(&rsup).len(), 1);
    // The programs have the limit that rsup was started with, or `minfds`.
    let warnings = rsup.lines(" WARN ");
    // A busy machine may read the log late.
    assert!(warnings.iter().all(|line| line.0.contains("log lines lost")), "{warnings:?}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn with_too_few_descriptors_the_output_is_direct_and_one_line_says_so() {
    const PROGRAMS: usize = 60;
    let conf = "[supervisord]\nminfds=1\n".to_owned() + &many(PROGRAMS);
    let mut rsup = with_log(&conf).after("ulimit -n 100").start();
    rsup.expect_all(&(0..PROGRAMS).map(|n| format!("success: w{n} ")).collect::<Vec<_>>());
    eventually("all output is somewhere", || {
        let in_file = |kind: &str, n: &usize| rsup.read(&format!("log/{kind}{n}")) == format!("{kind}\n");
        let in_files = |kind: &str| (0..PROGRAMS).filter(|n| in_file(kind, n)).count();
        let outs = in_files("out") + rsup.read("stdout").lines().count();
        let errs = in_files("err") + rsup.log().iter().filter(|line| line.0 == "err").count();
        (outs == PROGRAMS && errs == PROGRAMS).then_some(())
    });
    let warnings = rsup.lines(" WARN ");
    assert!(warnings.len() == 1 && warnings[0].0.contains("open files is too low"), "{warnings:?}");
    assert_eq!(relays(&rsup), [0; 0]);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn no_byte_is_lost_while_the_relay_has_too_few_descriptors_to_open_a_file() {
    needs!(python(), installed("prlimit"));
    let mut rsup = with_log(&(web() + &counter("job", "1 16") + BOTH)).start();
    rsup.expect("success: web ");
    expect_written(&rsup, "job", 10_000);
    let pid = relay(&rsup);
    let limit = |value: &str| {
        let status = Command::new("prlimit").args(["--pid", &pid.to_string(), value]).status().unwrap();
        assert!(status.success());
    };
    limit("--nofile=3:");
    rsup.expect("EMFILE");
    expect_written(&rsup, "job", 3_000_000);
    expect_restart(&mut rsup, "web");
    assert_eq!(relays(&rsup), [pid]);
    limit("--nofile=1000:");
    let before = rsup.read("log/out").len();
    eventually("the log file is used again", || (rsup.read("log/out").len() != before).then_some(()));
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    // rsup's own stream has what the log file has not.
    let text = String::from_utf8(with_backups(&rsup.path("log/out"))).unwrap() + &rsup.read("stdout");
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(
        numbers == (0..written / 16).collect::<Vec<_>>(),
        "{} of {} numbers",
        numbers.len(),
        written / 16
    );
    assert_eq!(rsup.lines("EMFILE").len(), 1, "{:?}", rsup.log());
}

#[test]
fn a_relay_that_cannot_be_forked_is_forked_later() {
    needs!(root(), python());
    let cgroup = match Cgroup::new("relay") {
        Ok(cgroup) => cgroup,
        Err(why) => return crate::support::skip(&why),
    };
    let setup = with_log(&(counter("job", "1 64") + BOTH)).after(&cgroup.enter());
    let mut rsup = setup.start();
    expect_written(&rsup, "job", 1_000_000);
    let pid = relay(&rsup);
    cgroup.allow("1");
    kill(pid, SIGKILL);
    expect_blocked(&rsup, "job");
    never("a relay runs", Duration::from_millis(2500), || !relays(&rsup).is_empty());
    cgroup.allow("max");
    relay_but(&rsup, pid);
    expect_written(&rsup, "job", 1_000_000);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    let arrived = account(&with_backups(&rsup.path("log/out"))).unwrap();
    assert!(arrived.lost <= HELD && arrived.end == written, "{arrived:?} of {written}");
}

#[test]
fn rsup_can_be_stopped_while_no_relay_can_be_forked() {
    needs!(root(), python());
    let cgroup = match Cgroup::new("stop") {
        Ok(cgroup) => cgroup,
        Err(why) => return crate::support::skip(&why),
    };
    let setup = with_log(&(counter("job", "1 64") + BOTH)).after(&cgroup.enter());
    let mut rsup = setup.start();
    expect_written(&rsup, "job", 1_000_000);
    cgroup.allow("1");
    kill(relay(&rsup), SIGKILL);
    expect_blocked(&rsup, "job");
    let begin = Instant::now();
    assert_eq!(rsup.stop(), 0);
    let time = begin.elapsed();
    assert!(time < Duration::from_secs(8), "{time:?}");
}

/// The number of kilobytes of a process that no other process shares and that were written to.
fn private_dirty(pid: i32) -> u64 {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let value = proc::field(&map, "Private_Dirty").unwrap();
    value.trim_end_matches(" kB").trim().parse().unwrap()
}

#[test]
fn the_relay_needs_little_memory() {
    needs!(python());
    const MORE: u64 = 100;
    let one = counter("job", "1 256") + LARGE;
    let quiet = script("quiet", "exec sleep 1000")
        + "startsecs=0\nprocess_name=q%(process_num)d\nnumprocs=100\nstdout_logfile=%(here)s/log/quiet%(process_num)d\n\
           stderr_logfile=NONE\n";
    let measured = [one.clone(), one + &quiet].map(|conf| {
        let mut rsup = with_log(&conf).start();
        expect_written(&rsup, "job", 10_000_000);
        finish(&rsup, &["job"]);
        let memory = private_dirty(relay(&rsup));
        assert_eq!(rsup.stop(), 0);
        memory
    });
    eprintln!("private dirty memory of the relay in kB, with 1 and with {} streams: {measured:?}", MORE + 1);
    assert!(measured[0] <= 96, "{measured:?} kB");
    assert!(measured[1] <= 96 + MORE, "{measured:?} kB");
}

#[test]
fn neither_rsup_nor_the_relay_wakes_up_while_nothing_is_written() {
    at_once(&["direct", "lines", "json"], |&mode| {
        let conf = script("job", "echo line; echo -n part; exec sleep 1000")
            + LARGE
            + &script("own", "echo -n part; exec sleep 1000");
        let mut rsup = with_log(&conf).args(&["--output", mode]).start();
        rsup.expect_all(&["success: job", "success: own"]);
        rsup.expect_in_file("stdout", "part");
        rsup.expect_in_file("log/out", "part");
        let pids = [rsup.pid(), relay(&rsup)];
        let switches = || pids.map(proc::context_switches);
        // The first seconds may have work to do: the unfinished line, and a look at the inode.
        eventually("both sleep", || {
            let before = switches();
            within(Duration::from_millis(2500), || (switches() != before).then_some(()))
                .is_none()
                .then_some(())
        });
        assert_eq!(rsup.stop(), 0, "{mode}");
    });
}

#[test]
fn pid_1_does_not_wake_up_while_output_passes() {
    needs!(python());
    for mode in ["direct", "lines"] {
        let conf = counter("job", "1 16") + if mode == "direct" { BOTH } else { "" };
        let mut rsup = with_log(&conf).args(&["--output", mode]).start();
        rsup.expect("success: job");
        expect_written(&rsup, "job", 10_000);
        eventually("rsup sleeps", || (proc::process(rsup.pid())?.state == 'S').then_some(()));
        let before = proc::context_switches(rsup.pid());
        expect_written(&rsup, "job", 5_000_000);
        assert_eq!(proc::context_switches(rsup.pid()), before, "{mode}");
        assert_eq!(rsup.stop(), 0, "{mode}");
    }
}

#[test]
fn rsups_own_lines_wait_while_the_relay_is_stopped() {
    at_once(&["lines", "json"], |&mode| {
        let mut rsup = rsup(&(web() + &program("other", "sleep 1000"))).args(&["--output", mode]).start();
        rsup.expect_all(&["success: web ", "success: other "]);
        kill(relay(&rsup), SIGSTOP);
        let old = rsup.pid_of("web");
        kill(old, SIGKILL);
        let is_web = |process: &proc::Process| process.name == "sleep" && process.pid != old;
        eventually("web runs again", || {
            (rsup.tree().iter().filter(|process| is_web(process)).count() == 2).then_some(())
        });
        assert!(rsup.lines("exited: web").is_empty(), "{mode}");
        assert_eq!(rsup.stop(), 0, "{mode}");
        for text in [
            "exited: web (terminated by SIGKILL",
            "stopped: web",
            "stopped: other",
            "rsup exits with status 0",
        ] {
            assert_eq!(rsup.lines(text).len(), 1, "{mode}: {text} {:?}", rsup.log());
        }
        assert!(
            rsup.log().last().unwrap().0.contains("rsup exits with status 0"),
            "{mode}: {:?}",
            rsup.log()
        );
    });
}

#[test]
fn rsups_own_lines_appear_although_no_relay_can_be_forked() {
    needs!(root());
    let cgroup = match Cgroup::new("lines") {
        Ok(cgroup) => cgroup,
        Err(why) => return crate::support::skip(&why),
    };
    let conf = web() + &program("other", "sleep 1000") + "autorestart=false\n";
    let mut rsup = rsup(&conf).args(&["--output", "json"]).after(&cgroup.enter()).start();
    rsup.expect_all(&["success: web ", "success: other "]);
    cgroup.allow("1");
    kill(relay(&rsup), SIGKILL);
    rsup.expect_all(&["exited (terminated by SIGKILL)", "can't start the relay"]);
    rsup.kill("other", SIGKILL);
    rsup.expect("exited: other (terminated by SIGKILL");
    assert_eq!(rsup.stop(), 0);
    let lines = rsup.log();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(&line.0).is_ok()), "{lines:?}");
    assert!(lines.last().unwrap().0.contains("rsup exits with status 0"), "{lines:?}");
}

/// Whether a process uses nearly no processor time for a while.
fn rests(pid: i32) -> bool {
    let before = (proc::ticks(pid), proc::context_switches(pid));
    within(Duration::from_millis(1500), || None::<()>);
    let after = (proc::ticks(pid), proc::context_switches(pid));
    after.0 - before.0 <= 2 && after.1 - before.1 <= 20
}

#[test]
fn the_relay_does_not_spin_while_the_output_is_not_read() {
    needs!(python());
    at_once(&["lines", "json"], |&mode| {
        let setup = in_mode(mode, &counter("job", "12 256")).after("exec 2>&1");
        let reader = all_lines(&setup.path("pipe"));
        let mut rsup = setup.start();
        eventually("job writes", || (written(&rsup, "job") > 100_000).then_some(()));
        reader.pause();
        let is_quiet = || rests(relay(&rsup)) && rests(rsup.pid());
        eventually("rsup and the relay rest", || is_quiet().then_some(()));
        reader.resume();
        assert_eq!(rsup.stop(), 0, "{mode}");
        drop(reader.end());
    });
}

#[test]
fn a_reader_that_is_gone_neither_ends_nor_blocks_anything() {
    needs!(python());
    at_once(&["lines", "json"], |&mode| {
        let setup = rsup(&(web() + &counter("job", "1 256"))).file("count.py", COUNT, 0o644);
        let mut rsup = setup.args(&["--output", mode]).after("mkfifo pipe; exec 8<>pipe >pipe 8<&-").start();
        rsup.expect("success: web ");
        let pid = relay(&rsup);
        expect_written(&rsup, "job", 1_000_000);
        expect_restart(&mut rsup, "web");
        finish(&rsup, &["job"]);
        eventually("rsup and the relay rest", || (rests(pid) && rests(rsup.pid())).then_some(()));
        assert_eq!(relays(&rsup), [pid], "{mode}");
        assert_eq!(rsup.stop(), 0, "{mode}");
    });
}

#[test]
fn the_relay_works_with_standard_descriptors_closed() {
    needs!(python());
    at_once(&["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], |&closed| {
        let setup = rsup(&counter("job", "12 16")).file("count.py", COUNT, 0o644);
        let mut rsup = setup.args(&["--output", "json"]).after(&format!("exec {closed}")).start();
        expect_written(&rsup, "job", 1_000_000);
        finish(&rsup, &["job"]);
        let pid = relay(&rsup);
        eventually("rsup and the relay rest", || (rests(pid) && rests(rsup.pid())).then_some(()));
        assert_eq!(rsup.stop(), 0, "{closed}");
    });
}

#[test]
fn a_reload_keeps_the_files_and_starts_one_relay() {
    needs!(python());
    for mode in ["direct", "prefix"] {
        let conf =
            counter("job", "1 16") + LARGE + &script("own", "echo own; exec sleep 1000") + "startsecs=0\n";
        let mut rsup = with_log(&conf).args(&["--output", mode]).start();
        let mut pid = 0;
        let mut descriptors = None;
        for round in 1..4 {
            rsup.expect("success: own ");
            pid = relay_but(&rsup, pid);
            expect_written(&rsup, "job", 100_000);
            let line = if mode == "direct" { "own\n" } else { "own | own\n" };
            let count = || rsup.read("stdout").lines().filter(|own| *own == line.trim_end()).count();
            eventually("the line of every run", || (count() == round).then_some(()));
            let open = [rsup.pid(), pid].map(proc::open_descriptors);
            assert_eq!(*descriptors.get_or_insert(open), open, "{mode}");
            assert_eq!(relays(&rsup), [pid]);
            if round < 3 {
                fs::remove_file(rsup.path("job.count")).unwrap();
                Board::of(rsup.pid()).send(Request::Reload);
                rsup.expect("stopped: job");
            }
        }
        assert_eq!(rsup.stop(), 0, "{mode}");
        let text = fs::read(rsup.path("log/out")).unwrap();
        // Each run begins with 0, and no run has a gap.
        let numbers: Vec<u64> =
            String::from_utf8(text).unwrap().lines().map(|line| line.parse().unwrap()).collect();
        let is_next = |pair: &[u64]| pair[1] == pair[0] + 1 || pair[1] == 0;
        assert!(numbers.windows(2).all(is_next) && numbers.iter().filter(|n| **n == 0).count() == 3);
    }
}

#[test]
fn the_last_line_of_an_orphan_arrives_when_pid_1_ends() {
    needs!(pid_namespace());
    let orphan = "trap \"echo bye; exit\" TERM; touch ready; while :; do sleep 0.02; done";
    at_once(&[(&[][..], "log/out"), (&["--output", "lines"], "stdout")], |&(args, file)| {
        let keys = if args.is_empty() { LARGE } else { "" };
        let conf = program("job", "sh job.sh") + keys;
        let setup = with_log(&conf).file("orphan.sh", orphan, 0o644);
        let job = "setsid sh orphan.sh & exec sleep 1000";
        let mut rsup = setup.file("job.sh", job, 0o644).args(args).pid_1().start();
        rsup.expect("success: job");
        eventually("the orphan is ready", || rsup.path("ready").exists().then_some(()));
        assert_eq!(rsup.stop(), 0);
        assert_eq!(rsup.read(file), "bye\n", "{:?}", rsup.log());
    });
}

#[test]
fn a_program_that_writes_much_and_exits_loses_nothing() {
    needs!(python());
    let write = "import os\ndata = b''.join(b'%015d\\n' % n for n in range(200000))\n\
                 while data: data = data[os.write(1, data):]\n";
    for mode in ["direct", "lines"] {
        let keys = if mode == "direct" { BOTH } else { "" };
        let conf = program("job", "python3 -IS write.py") + "startsecs=0\nautorestart=false\n" + keys;
        let (code, rsup) = with_log(&conf).file("write.py", write, 0o644).args(&["--output", mode]).run();
        assert_eq!(code, 0);
        let bytes = if mode == "direct" {
            with_backups(&rsup.path("log/out"))
        } else {
            fs::read(rsup.path("stdout")).unwrap()
        };
        let arrived = account(&bytes).unwrap();
        assert_eq!((arrived.lost, arrived.end), (0, 3_200_000), "{mode}");
    }
}

#[test]
fn the_relay_works_under_a_filter_that_refuses_one_call() {
    needs!(static_programs(), crate::resource_use::shipped_binary(), python());
    let calls = [
        libc::SYS_poll,
        libc::SYS_ppoll,
        libc::SYS_splice,
        libc::SYS_close_range,
        libc::SYS_prctl,
        libc::SYS_pwritev2,
        libc::SYS_clone3,
        libc::SYS_prlimit64,
        libc::SYS_sendto,
        libc::SYS_statx,
    ];
    let cases: Vec<_> =
        calls.iter().flat_map(|call| [libc::EPERM, libc::ENOSYS].map(|errno| (*call, errno))).collect();
    each(&cases, |(call, errno)| {
        let keys = "startsecs=0\nstderr_logfile=/dev/stdout\nstderr_logfile_maxbytes=0\n";
        let conf = program("job", "python3 -IS ask.py") + keys + LARGE;
        let filter = [probe(), "without", &errno.to_string(), &call.to_string()];
        let setup = with_log(&conf).file("ask.py", ASK, 0o644).args(&["--output", "lines"]).through(&filter);
        let mut rsup = setup.start();
        let fails = |rsup: &Rsup, why: &str| {
            Err(format!("call {call}, errno {errno}: {why} {:?}", rsup.lines(" WARN ")))
        };
        // A filter that refuses prctl(2) also refuses the relay its name.
        let children = |rsup: &Rsup| -> Vec<i32> {
            let children = proc::children(rsup.pid()).into_iter();
            children
                .filter(|child| !child.is_zombie() && child.name != "python3")
                .map(|child| child.pid)
                .collect()
        };
        let mut old = vec![];
        for number in 1..4 {
            rsup.touch(&format!("go{number}"));
            let line = format!("line {number}\n");
            let has = |file| rsup.read(file).contains(&line);
            if within(Duration::from_secs(15), || (has("log/out") && has("stdout")).then_some(())).is_none() {
                return fails(
                    &rsup,
                    &format!("line {number} does not arrive after the end of relay {old:?}"),
                );
            }
            let Some(pid) = within(PATIENCE, || children(&rsup).into_iter().find(|pid| !old.contains(pid)))
            else {
                return fails(&rsup, "no relay");
            };
            if number < 3 {
                eventually("the relay sleeps", || (proc::process(pid)?.state == 'S').then_some(()));
                kill(pid, SIGKILL);
                old.push(pid);
            }
        }
        if !rests(rsup.pid()) {
            return fails(&rsup, "PID 1 does not rest");
        }
        match rsup.stop() {
            0 => Ok(()),
            code => fails(&rsup, &format!("exit code {code}")),
        }
    });
}

#[test]
fn a_program_that_makes_its_stdout_nonblocking_does_not_change_the_next_run() {
    needs!(python());
    let flags = "import fcntl, os, time\nflags = fcntl.fcntl(1, fcntl.F_GETFL)\n\
                 os.write(1, b'flags %d\\n' % (flags & os.O_NONBLOCK))\n\
                 fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_NONBLOCK)\n";
    at_once(&[("direct", "log/out"), ("lines", "stdout")], |&(mode, file)| {
        let keys = if mode == "direct" { LARGE } else { "" };
        let conf = program("job", "python3 -IS flags.py") + "startsecs=0\nautorestart=true\n" + keys;
        let mut rsup = with_log(&conf).file("flags.py", flags, 0o644).args(&["--output", mode]).start();
        eventually("three runs", || (rsup.read(file).lines().count() >= 3).then_some(()));
        assert_eq!(rsup.stop(), 0);
        assert!(rsup.read(file).lines().all(|line| line == "flags 0"), "{mode}: {:?}", rsup.read(file));
    });
}

#[test]
fn a_user_with_small_pipes_has_a_thousand_programs_with_two_log_files_each() {
    needs!(root(), (hard_limit() >= 9000).then_some(()).ok_or("needs a hard limit of 9,000 descriptors"));
    let user = ["setpriv", "--reuid=54398", "--regid=54398", "--clear-groups"];
    let mut rsup = with_log(&many(MANY)).through(&user).start();
    let missing = || {
        let has = |kind: &str, n: usize| rsup.read(&format!("log/{kind}{n}")) == format!("{kind}\n");
        (0..MANY).filter(|n| !has("out", *n) || !has("err", *n)).count()
    };
    let complete = within(Duration::from_secs(60), || (missing() == 0).then_some(()));
    assert!(complete.is_some(), "{} programs have no log files, {:?}", missing(), rsup.lines(" WARN "));
    assert_eq!(relays(&rsup).len(), 1);
    assert_eq!(rsup.stop(), 0);
}
