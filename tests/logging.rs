//! rsup's own log: no line waits for a reader, no line is lost while there is room for it, lost lines are counted, and
//! one event is one line.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::pty::Terminal;
use crate::support::{
    CONF, Line, Rsup, SIGKILL, SIGTERM, Setup, at_once, binary, both_ways, command, each, eventually,
    files_below, installed, kill, make_fifo, needs, pid_namespace, proc, program, root, rsup, script, within,
};

/// Makes stderr a full pipe whose reader does not read.
fn unread(setup: Setup) -> (Setup, File) {
    let pipe = setup.path("pipe");
    make_fifo(&pipe);
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    (setup.after("dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec 2>pipe"), reader)
}

#[test]
fn a_full_stderr_does_not_delay_the_exit_code_126_or_127() {
    for way in both_ways() {
        let (setup, _reader) = unread(command(&["no-such-command"]));
        assert_eq!(setup.run_as(way).run().0, 127, "{way:?}");
    }
}

#[test]
fn a_full_stderr_delays_nothing() {
    for way in both_ways() {
        let conf = script("job", "echo start >> starts; exec sleep 1000");
        let (setup, _reader) = unread(rsup(&conf));
        let mut rsup = setup.run_as(way).start();
        for starts in ["start\n", "start\nstart\n"] {
            rsup.expect_in_file("starts", starts);
            kill(sleeper(&rsup), SIGKILL);
        }
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn a_stderr_without_a_reader_delays_nothing() {
    let conf = script("job", "echo ran > job; exit 6") + "startsecs=0\nautorestart=false\n";
    let gone = "mkfifo pipe; exec 8<>pipe 2>pipe 8<&-";
    let (code, rsup) = rsup(&conf).after(gone).run();
    assert_eq!((code, rsup.read("job").as_str()), (6, "ran\n"));
}

/// Waits until the program runs. Returns its PID.
fn sleeper(rsup: &Rsup) -> i32 {
    let running = || rsup.tree().into_iter().find(|process| process.name == "sleep");
    eventually("the program runs", running).pid
}

/// Whether rsup sleeps for a while without a wake-up.
fn is_idle(rsup: i32) -> bool {
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{rsup}/status")).unwrap();
        status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = switches();
    within(Duration::from_millis(1500), || (switches() != before).then_some(())).is_none()
}

#[test]
fn a_debug_log_without_a_reader_does_not_keep_rsup_busy() {
    // Every line that cannot be written causes a SIGPIPE. A log line about SIGPIPE would cause the next one.
    let conf = program("web", "sleep 1000");
    let mut rsup = rsup(&conf).args(&["-e", "debug"]).after("mkfifo pipe; exec 8<>pipe 2>pipe 8<&-").start();
    kill(sleeper(&rsup), SIGKILL);
    sleeper(&rsup);
    eventually("rsup is idle", || is_idle(rsup.pid()).then_some(()));
    assert_eq!(rsup.stop(), 0);
}

/// A number of programs that exit at once, and one that keeps running.
fn burst(programs: usize) -> String {
    let keys = "startsecs=0\nautorestart=false\nprocess_name=j%(process_num)d\n";
    let jobs = program("j", "true") + keys + &format!("numprocs={programs}\n");
    program("web", "sleep 1000") + "startsecs=0\n" + &jobs
}

/// The number of lines that these programs cause: one for rsup's start, and for each program `spawned`, `success` and,
/// except for the program that keeps running, `exited`.
fn lines_of(programs: usize) -> usize {
    1 + 2 + 3 * programs
}

/// Waits until only the program that keeps running is left and rsup has logged every exit. Returns the program's PID.
fn after_the_burst(rsup: i32) -> i32 {
    let web = eventually("only one is left", || match proc::children_listed(rsup)[..] {
        [only] if proc::words(only) == ["sleep", "1000"] => Some(only),
        _ => None,
    });
    eventually("rsup is idle", || is_idle(rsup).then_some(()));
    web
}

/// A set-up whose log is a pipe that only the test reads.
fn with_pipe(conf: &str) -> (Setup, File) {
    let setup = rsup(conf).after("exec 2>pipe");
    let pipe = setup.path("pipe");
    make_fifo(&pipe);
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    (setup, reader)
}

/// Reads lines up to the first one that contains a text.
fn read_until(reader: &mut File, text: &str) -> Vec<Line> {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains(text) || !seen.ends_with('\n') {
        let length = reader.read(&mut buffer).unwrap();
        seen += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    lines_until(&seen, text)
}

/// The lines up to the first one that contains a text. Checks that every line is complete.
fn lines_until(seen: &str, text: &str) -> Vec<Line> {
    let end = seen.lines().position(|line| line.contains(text)).unwrap();
    let lines: Vec<_> = seen.lines().take(end + 1).map(|line| Line(line.to_owned())).collect();
    lines.iter().for_each(|line| drop(line.message()));
    lines
}

#[test]
fn no_line_is_lost_when_a_burst_is_read_late() {
    const PROGRAMS: usize = 400;
    let (setup, mut reader) = with_pipe(&burst(PROGRAMS));
    let mut rsup = setup.start();
    let web = after_the_burst(rsup.pid());
    let lines = lines_after(&mut reader, web);
    let size: usize = lines.iter().map(|line| line.0.len() + 1).sum();
    assert!(size > 64 * 1024, "a pipe would have held these {size} bytes");
    assert_eq!(lines.iter().filter(|line| line.0.contains("lost")).count(), 0);
    assert_eq!(lines.len(), lines_of(PROGRAMS) + 1);
    assert_eq!(rsup.stop(), 0);
}

/// Kills the program that keeps running. Returns all lines up to the one about its exit.
fn lines_after(reader: &mut File, web: i32) -> Vec<Line> {
    kill(web, SIGKILL);
    read_until(reader, "exited: web")
}

#[test]
fn lines_beyond_the_backlog_are_lost_whole_and_counted() {
    const PROGRAMS: usize = 1000;
    let (setup, mut reader) = with_pipe(&burst(PROGRAMS));
    let mut rsup = setup.start();
    let web = after_the_burst(rsup.pid());
    let info = fs::read_to_string(format!("/proc/{}/fdinfo/2", rsup.pid())).unwrap();
    let flags = i32::from_str_radix(proc::field(&info, "flags").unwrap(), 8).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0, "programs share it");
    // rsup logs the number of lost lines as soon as there is room, after the lines of the backlog.
    let lines = read_until(&mut reader, "log lines lost: ");
    assert!(lines[0].0.contains("rsup started with pid"), "{lines:?}");
    let last = lines.last().unwrap();
    let lost = usize::try_from(last.number_after("WARN log lines lost: ")).unwrap();
    assert_eq!(lines.len() - 1 + lost, lines_of(PROGRAMS), "{last:?}");
    // After that, lines are logged as before.
    let lines = lines_after(&mut reader, web);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn no_line_is_lost_on_a_terminal_that_is_read_late() {
    const PROGRAMS: usize = 150;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONF), burst(PROGRAMS)).unwrap();
    let mut terminal = Terminal::start(&[binary().to_str().unwrap(), "-c", CONF], dir.path());
    let web = after_the_burst(terminal.pid());
    kill(web, SIGKILL);
    terminal.expect("exited: web");
    let shown = terminal.shown();
    assert!(shown.len() > 16 * 1024, "a terminal would have held these {} bytes", shown.len());
    assert!(!shown.contains("lost"), "{shown}");
    assert_eq!(lines_until(shown, "exited: web").len(), lines_of(PROGRAMS) + 1);
    terminal.enter("\x03");
    assert_eq!(terminal.exit_code(), 0);
}

/// A set-up as PID 1 whose log is a file on a full disk.
fn on_a_full_disk(conf: &str) -> Setup {
    let fill = "mkdir disk; mount -t tmpfs -o size=400k none disk; dd if=/dev/zero of=disk/filler bs=4k 2>&-";
    rsup(conf).after(&format!("{fill}; exec 2>disk/log")).pid_1()
}

/// The path, as this test sees it, of a file on that disk.
fn on_disk(rsup: &Rsup, name: &str) -> PathBuf {
    let inside = rsup.path("disk").join(name);
    Path::new(&format!("/proc/{}/root", rsup.pid())).join(inside.strip_prefix("/").unwrap())
}

/// Makes room, kills the program that keeps running, and waits for the line about its exit. Returns all lines.
fn with_room(rsup: &Rsup, web: i32) -> Vec<Line> {
    let log = on_disk(rsup, "log");
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "the disk is full");
    fs::remove_file(on_disk(rsup, "filler")).unwrap();
    kill(web, SIGKILL);
    let text = eventually("a line about the death", || {
        let text = fs::read_to_string(&log).unwrap();
        (text.contains("exited: web") && text.ends_with('\n')).then_some(text)
    });
    lines_until(&text, "exited: web")
}

#[test]
fn lines_wait_for_room_on_a_full_disk() {
    needs!(root(), pid_namespace());
    const PROGRAMS: usize = 100;
    let mut rsup = on_a_full_disk(&burst(PROGRAMS)).start();
    let web = after_the_burst(rsup.pid());
    let lines = with_room(&rsup, web);
    assert_eq!(lines.iter().filter(|line| line.0.contains("lost")).count(), 0);
    assert_eq!(lines.len(), lines_of(PROGRAMS) + 1);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn lines_beyond_the_backlog_are_counted_on_a_full_disk() {
    needs!(root(), pid_namespace());
    const PROGRAMS: usize = 600;
    let mut rsup = on_a_full_disk(&burst(PROGRAMS)).start();
    let web = after_the_burst(rsup.pid());
    let lines = with_room(&rsup, web);
    let counts = lines.iter().filter(|line| line.0.contains("log lines lost: "));
    let lost: i32 = counts.clone().map(|line| line.number_after("log lines lost: ")).sum();
    let lost = usize::try_from(lost).unwrap();
    let counts = counts.count();
    assert_eq!((lines.len() - counts + lost, counts), (lines_of(PROGRAMS) + 1, 1));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn rsup_keeps_running_when_the_reader_of_a_socket_exits() {
    needs!(installed("bash"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let connect = format!("exec 2<>/dev/tcp/127.0.0.1/{port}; exec \"$@\"");
    let conf = script("web", "echo start >> starts; exec sleep 1000") + "startsecs=0\n";
    let mut rsup = rsup(&conf).through(&["bash", "-c", &connect, "bash"]).start();
    let (mut reader, _) = listener.accept().unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("success: web") {
        let length = reader.read(&mut buffer).unwrap();
        assert!(length > 0, "{seen}");
        seen += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    drop((reader, listener));
    for starts in ["start\nstart\n", "start\nstart\nstart\n"] {
        kill(sleeper(&rsup), SIGKILL);
        rsup.expect_in_file("starts", starts);
    }
    eventually("rsup is idle", || is_idle(rsup.pid()).then_some(()));
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn one_event_is_one_line() {
    // Escape sequences that colour a terminal, a forged line, and a value that spans two lines.
    let cases = [
        ("colour", "./\x1b[31mred", "spawnerr: can't find command './\\x1b[31mred'"),
        (
            "lines",
            "true\ndirectory=/none\n  2026-01-01 00:00:00,000 INFO forged",
            "spawnerr: couldn't chdir to /none\\n2026-01-01 00:00:00,000 INFO forged: ENOENT",
        ),
        ("file", "true\nstdout_logfile=/none\x07\x7f\u{85}/x", "/none\\u{7}\\u{7f}\\u{85}/x"),
    ];
    let conf: String =
        cases.iter().map(|(name, command, _)| program(name, command) + "startretries=0\n").collect();
    let (_, rsup) = rsup(&conf).run();
    for line in rsup.log() {
        assert!(!line.message().contains(char::is_control), "{line:?}");
    }
    for (name, _, text) in cases {
        assert!(!rsup.lines(text).is_empty(), "{name}: no {text:?}");
    }
}

#[test]
fn a_slow_reader_gets_the_last_lines() {
    // rsup logs more than a pipe holds while it exits.
    const PROGRAMS: usize = 400;
    let mut conf = program("j", "sleep 1000") + "startsecs=0\nprocess_name=j%(process_num)d\n";
    conf += &format!("numprocs={PROGRAMS}\n");
    let (setup, mut reader) = with_pipe(&conf);
    let mut rsup = setup.start();
    eventually("all run", || {
        let children = proc::children_listed(rsup.pid());
        let run = children.iter().filter(|child| proc::words(**child) == ["sleep", "1000"]).count();
        (run == PROGRAMS).then_some(())
    });
    rsup.signal(SIGTERM);
    let lines = read_until(&mut reader, "rsup exits with status 0");
    assert_eq!(lines.iter().filter(|line| line.0.contains("stopped: j")).count(), PROGRAMS);
    assert_eq!(rsup.exit_code(), 0);
}

#[test]
fn a_full_stderr_does_not_change_exit_code_2_for_a_wrong_file() {
    let fill = "dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec 2>pipe";
    at_once(&both_ways(), |&way| {
        let setup = rsup("[program:x]\nstartsecs=never\n").after(fill);
        let pipe = setup.path("pipe");
        make_fifo(&pipe);
        let _reader_that_does_not_read = File::options().read(true).write(true).open(&pipe).unwrap();
        assert_eq!(setup.run_as(way).run().0, 2, "{way:?}");
    });
}

/// What date(1) of this machine prints for a time zone: the date, the hour and the minute.
fn date(zone: &str) -> String {
    let output = Command::new("date").env("TZ", zone).arg("+%Y-%m-%d %H:%M").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn log_lines_have_the_time_that_date_prints_in_every_time_zone() {
    let database = Path::new("/usr/share/zoneinfo");
    let all = if database.exists() { files_below(database) } else { vec![] };
    let names = all.iter().map(|file| file.strip_prefix(database).unwrap().to_str().unwrap());
    // `posix` repeats all names, and the zones of `right` count leap seconds.
    let names = names.filter(|name| !name.starts_with("posix/") && !name.starts_with("right/"));
    let posix_strings =
        ["", "UTC", "EST5", "EST5EDT", "PST8PDT", "ABC5DEF", ":EST5EDT", "ABC5DEF,M4.1.0,M10.5.0", "x/y"];
    let zones: Vec<_> = names.chain(posix_strings).collect();
    each(&zones, |zone| {
        let before = date(zone);
        let (_, rsup) = rsup("[supervisord]\n").env("TZ", zone).run();
        let after = date(zone);
        let log = rsup.log();
        let is_good = |line: &Line| [&before, &after].iter().any(|date| line.0.starts_with(*date));
        let all_good = !log.is_empty() && log.iter().all(is_good);
        all_good.then_some(()).ok_or_else(|| format!("TZ={zone}: {before} or {after}, not {log:?}"))
    });
}

#[test]
fn a_time_zone_reaches_the_programs_unchanged() {
    let conf =
        script("job", "echo \"$TZ\" %(ENV_TZ)s > job; env >> job") + "startsecs=0\nautorestart=false\n";
    let (code, rsup) = rsup(&conf).env("TZ", "EST5EDT").env("AFTER", "kept").run();
    assert_eq!((code, rsup.read("job").lines().next()), (0, Some("EST5EDT EST5EDT")));
    let variables = rsup.read("job");
    assert!(variables.lines().any(|line| line == "AFTER=kept"), "{variables}");
    assert_eq!(variables.lines().filter(|line| line.starts_with("TZ=")).collect::<Vec<_>>(), ["TZ=EST5EDT"]);
}
