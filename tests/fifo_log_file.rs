//! A FIFO as the log file of a program: rsup keeps it open, so its reader gets no end of file between two runs.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{SIGKILL, Setup, eventually, proc, program, rsup, script};

/// The read end of a FIFO.
struct Reader {
    pipe: File,
    text: String,
    at_eof: bool,
}

impl Reader {
    /// Makes a FIFO and opens it.
    fn new(path: &Path) -> Self {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        Self { pipe: open(path), text: String::new(), at_eof: false }
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

/// Opens a FIFO for reading without waiting for a writer.
fn open(path: &Path) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
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
    assert_eq!(reader.text.lines().count(), starts, "each start writes one line");
    assert!(rsup.lines("can't").is_empty(), "{:?}", rsup.log());
}

#[test]
fn rsup_opens_a_fifo_once_for_all_processes_and_runs() {
    let keys = "process_name=w%(process_num)d\nnumprocs=3\nstdout_logfile=%(here)s/out\nstderr_logfile=%(here)s/out\n";
    let setup = rsup(&(program("web", "sleep 1000") + keys + &program("other", "sleep 1000")));
    let _reader = Reader::new(&setup.path("out"));
    let mut rsup = setup.start();
    rsup.expect_all(&["success: w0", "success: w1", "success: w2", "success: other"]);
    // stdin, stdout, stderr, the signalfd, the epoll descriptor, and the FIFO.
    assert_eq!(proc::open_descriptors(rsup.pid()), 6);
    rsup.kill("w1", SIGKILL);
    rsup.expect_all(&["spawned: 'w1'", "success: w1"]);
    assert_eq!(proc::open_descriptors(rsup.pid()), 6);
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
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut rsup = setup.start();
    for _ in 0..2 {
        rsup.expect("WARN can't open stdout_logfile of 'job': ENXIO");
    }
    let mut reader = Reader { pipe: open(&path), text: String::new(), at_eof: false };
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
    let setup = rsup(&(program("job", "sleep 1000") + "stdout_logfile=%(here)s/out\n"));
    symlink("/dev/stdout", setup.path("out")).unwrap();
    let own_stdout = Reader::new(&setup.path("own"));
    let mut rsup = setup.after("exec >own").start();
    rsup.expect("success: job");
    // stdin, stdout, stderr, the signalfd and the epoll descriptor.
    assert_eq!(proc::open_descriptors(rsup.pid()), 5);
    assert_eq!(rsup.stop(), 0);
    drop(own_stdout);
}
