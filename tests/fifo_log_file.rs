//! A FIFO as the log file of a program: rsup keeps it open, so its reader gets no end of file between two runs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use crate::support::{SIGKILL, Setup, eventually, make_fifo, needs, proc, program, root, rsup, script};

/// The read end of a FIFO.
struct Reader {
    pipe: File,
    text: String,
    at_eof: bool,
}

impl Reader {
    /// Makes a FIFO and opens it.
    fn new(path: &Path) -> Self {
        make_fifo(path);
        Self::open(path)
    }

    /// Opens a FIFO without waiting for a writer.
    fn open(path: &Path) -> Self {
        let pipe = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap();
        Self { pipe, text: String::new(), at_eof: false }
    }

    /// Waits until the FIFO has passed on this many lines. The reader must not get end of file after the first one.
    fn expect_lines(&mut self, lines: usize) {
        let what = format!("{lines} lines arrive");
        eventually(&what, || {
            self.read();
            assert!(!self.at_eof || self.text.is_empty(), "end of file after {:?}", self.text);
            (self.text.lines().count() >= lines).then_some(())
        });
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        match self.pipe.read(&mut bytes) {
            Ok(length) => {
                self.at_eof = length == 0;
                self.text += std::str::from_utf8(&bytes[..length]).unwrap();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
}

/// A program that writes one line into the FIFO `out` and exits, again and again.
fn short_runs() -> Setup {
    rsup(&(script("job", "echo line") + "startsecs=0\nautorestart=true\nstdout_logfile=%(here)s/out\n"))
}

#[test]
fn the_reader_gets_no_end_of_file_between_two_runs_of_the_only_writer() {
    let setup = short_runs();
    let mut reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    reader.expect_lines(3);
    assert_eq!(rsup.stop(), 0);
    eventually("the reader gets end of file when rsup has exited", || {
        reader.read();
        reader.at_eof.then_some(())
    });
    let starts = rsup.lines("spawned: 'job'").len();
    let lines = reader.text.lines().count();
    // The stop may have ended the last run before it wrote its line.
    assert!(lines == starts || lines + 1 == starts, "{lines} lines of {starts} starts");
    assert!(rsup.lines("can't").is_empty(), "{:?}", rsup.log());
}

#[test]
fn restarts_open_no_further_descriptor() {
    let keys = "process_name=w%(process_num)d\nnumprocs=3\nstdout_logfile=%(here)s/out\nstderr_logfile=%(here)s/out\n";
    let setup = rsup(&(program("web", "sleep 1000") + keys + &program("other", "sleep 1000")));
    let _reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    rsup.expect_all(&["success: w0", "success: w1", "success: w2", "success: other"]);
    let descriptors = proc::open_descriptors(rsup.pid());
    for _ in 0..3 {
        rsup.kill("w1", SIGKILL);
        rsup.expect_all(&["spawned: 'w1'", "success: w1"]);
    }
    assert_eq!(proc::open_descriptors(rsup.pid()), descriptors);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_new_fifo_at_the_same_path_is_kept_open_too() {
    let setup = short_runs();
    let path = setup.path("out");
    let mut first = Reader::new(&path);
    let mut rsup = setup.start();
    first.expect_lines(2);
    fs::rename(&path, path.with_file_name("moved")).unwrap();
    let mut second = Reader::new(&path);
    second.expect_lines(3);
    eventually("rsup closes the first FIFO", || {
        first.read();
        first.at_eof.then_some(())
    });
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_fifo_without_a_reader_is_reported_at_each_start_until_it_has_one() {
    let setup = short_runs();
    let path = setup.path("out");
    make_fifo(&path);
    let mut rsup = setup.start();
    for _ in 0..2 {
        rsup.expect("WARN can't open stdout_logfile of 'job': ENXIO");
    }
    let mut reader = Reader::open(&path);
    reader.expect_lines(3);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_program_can_be_stopped_while_its_fifo_is_full() {
    let keys = "stdout_logfile=%(here)s/out\n";
    let setup = rsup(&(script("job", "echo line; exec dd if=/dev/zero bs=65536") + keys));
    let mut reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    rsup.expect("success: job");
    reader.expect_lines(1);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn rsup_does_not_open_a_link_to_its_own_stdout() {
    let setup =
        rsup(&(program("job", "sleep 1000") + "stdout_logfile=%(here)s/out\nstdout_logfile_maxbytes=0\n"));
    symlink("/dev/stdout", setup.path("out")).unwrap();
    let own_stdout = Reader::new(&setup.path("own"));
    let mut rsup = setup.after("exec >own").start();
    rsup.expect("success: job");
    assert_eq!(proc::open_descriptors(rsup.pid()), proc::OWN_DESCRIPTORS);
    assert_eq!(rsup.stop(), 0);
    drop(own_stdout);
}

/// A program that writes one line into the FIFO `out`, waits until `cat` has passed the line on, and then runs `then`.
fn one_run(then: &str) -> String {
    let wait = "until grep -q line read; do sleep 0.02; done";
    script("job", &format!("echo line; {wait}; {then}")) + "stdout_logfile=%(here)s/out\nautorestart=false\n"
}

/// Starts a reader before rsup. Only end of file ends this reader, because it ignores SIGTERM.
const READER: &str = "touch read; (trap '' TERM; exec cat out >read) &";

/// Runs rsup until it exits with the exit code of the program. `cat` has then passed on the line, and got end of file.
#[track_caller]
fn expect_end_of_file_and_exit(setup: Setup) {
    // The FIFO has a reader even if `cat` opens it late.
    let _reader = Reader::new(&setup.path("out"));
    let (code, rsup) = setup.run();
    assert_eq!((code, rsup.read("read").as_str()), (3, "line\n"), "{:?}", rsup.log());
}

#[test]
fn a_reader_that_is_a_child_of_rsup_does_not_keep_rsup_running() {
    // The process ends in EXITED, and in FATAL.
    for keys in ["startsecs=0\n", "startsecs=100\nstartretries=0\n"] {
        expect_end_of_file_and_exit(rsup(&(one_run("exit 3") + keys)).after(READER));
    }
}

#[test]
fn a_program_that_reads_a_fifo_ends_with_the_last_run_of_the_writer() {
    let cat = script("cat", "exec cat out >read") + "startsecs=0\nautorestart=false\n";
    expect_end_of_file_and_exit(rsup(&(cat + &one_run("exit 3") + "startsecs=0\n")).after("touch read"));
}

#[test]
fn a_fifo_of_two_programs_stays_open_when_one_of_them_has_ended() {
    let once = script("once", "echo line") + "startsecs=0\nautorestart=false\nstdout_logfile=%(here)s/out\n";
    let again = script("job", "until [ -e go ]; do sleep 0.02; done; echo line")
        + "startsecs=0\nautorestart=true\nstdout_logfile=%(here)s/out\n";
    let setup = rsup(&(once + &again));
    let mut reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    rsup.expect_all(&["exited: once", "spawned: 'job'"]);
    rsup.touch("go");
    reader.expect_lines(4);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn the_stop_does_not_wait_for_a_reader_that_reads_until_end_of_file() {
    let setup = rsup(&one_run("exec sleep 1000")).after(READER);
    let _reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    rsup.expect_in_file("read", "line");
    assert_eq!(rsup.stop(), 0);
    assert!(rsup.lines("SIGKILL").is_empty(), "{:?}", rsup.log());
}

#[test]
fn a_fifo_that_rsup_may_not_open_is_reported_once_at_each_start() {
    needs!(root());
    let setup = short_runs();
    let _reader = Reader::new(&setup.path("out"));
    fs::set_permissions(setup.path("out"), fs::Permissions::from_mode(0o600)).unwrap();
    let mut rsup = setup.args(&["-u", "nobody"]).start();
    rsup.expect_all(&["spawned: 'job'", "spawned: 'job'"]);
    assert_eq!(rsup.stop(), 0);
    let starts = rsup.lines("spawned: 'job'").len();
    assert_eq!(rsup.lines("EACCES").len(), starts, "{:?}", rsup.log());
}

#[test]
fn rsup_raises_its_limit_on_descriptors_to_keep_every_fifo_open() {
    const PROGRAMS: usize = 8;
    let keys = |n: usize| format!("stdout_logfile=%(here)s/out{n}\nstderr_logfile=%(here)s/err{n}\n");
    let program = |n: usize| program(&format!("w{n}"), "sleep 1000") + &keys(n);
    let setup =
        rsup(&("[supervisord]\nminfds=1\n".to_owned() + &(0..PROGRAMS).map(program).collect::<String>()));
    let path = |name: &str, n: usize| setup.path(&format!("{name}{n}"));
    let _readers: Vec<_> =
        (0..PROGRAMS).flat_map(|n| [path("out", n), path("err", n)]).map(|path| Reader::new(&path)).collect();
    let mut rsup = setup.after("ulimit -Sn 20").start();
    rsup.expect_all(&(0..PROGRAMS).map(|n| format!("success: w{n} ")).collect::<Vec<_>>());
    assert!(rsup.lines("too few descriptors").is_empty(), "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_fifo_is_closed_although_other_members_of_the_process_group_are_still_terminated() {
    let reader = "(trap '' TERM; exec cat out >read) &";
    let conf = one_run("exec >&-; exit 3").replace("echo line;", &format!("{reader} echo line;"));
    let keys = "startsecs=100\nstartretries=0\nstopwaitsecs=100\n";
    expect_end_of_file_and_exit(rsup(&(conf + keys)).after("touch read"));
}

#[test]
fn programs_start_although_there_are_too_few_descriptors_to_keep_their_fifos_open() {
    const PROGRAMS: usize = 24;
    let program =
        |n: usize| program(&format!("w{n}"), "sleep 1000") + &format!("stdout_logfile=%(here)s/out{n}\n");
    let setup = rsup(&(0..PROGRAMS).map(program).collect::<String>());
    let _readers: Vec<_> = (0..PROGRAMS).map(|n| Reader::new(&setup.path(&format!("out{n}")))).collect();
    let mut rsup = setup.after("ulimit -n 64").start();
    rsup.expect_all(&(0..PROGRAMS).map(|n| format!("success: w{n} ")).collect::<Vec<_>>());
    assert!(!rsup.lines("too few descriptors to keep").is_empty(), "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
}
