//! Much output into one log file that the relay rotates. The directory of the log files never needs more room than the
//! configuration allows, no byte is lost, and PID 1 and the relay use as much memory and as many descriptors as before.
//!
//! `OUTPUT_SOAK` is the number of megabytes that the program writes. Without it, the program writes 1,000.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::soak::{anonymous_memory, assert_no_growth, setting};
use crate::support::probe::{build, static_programs};
use crate::support::{Rsup, eventually, make_fifo, needs, pid_namespace, proc, program, rsup};

/// The length of the writer's blocks (tests/programs/writer.rs).
const BLOCK: usize = 64 * 1024;
/// The length of the number at the beginning of each block.
const NUMBER: usize = 20;
/// Memory and descriptors are measured after each of these equal parts of the output.
const STEPS: usize = 20;
/// The most that all files may have: four files of 10 MB, and one piece, which is what one read returns at most.
const MOST: u64 = 4 * 10 * 1024 * 1024 + 128 * 1024;
/// The log files, the oldest one first.
const FILES: [&str; 4] = ["log.3", "log.2", "log.1", "log"];

/// The length of all log files. There may be no other file.
fn length(directory: &Path) -> u64 {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let other: Vec<_> = names.filter(|name| !FILES.iter().any(|file| name == file)).collect();
    assert!(other.is_empty(), "{other:?}");
    // A file that is renamed meanwhile may be absent.
    FILES.iter().filter_map(|name| fs::metadata(directory.join(name)).ok()).map(|file| file.len()).sum()
}

/// Whether the writer has made its next record. `records` does not block.
fn has_record(mut records: &File) -> bool {
    match records.read(&mut [0; 8]) {
        Ok(length) => length == 8,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// Opens a new FIFO for both directions, so that no open waits and the FIFO has no end of file.
fn fifo(path: &Path) -> File {
    make_fifo(path);
    File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).unwrap()
}

/// Asserts that the log files contain the last of `blocks` blocks, without a gap.
fn assert_last_blocks(directory: &Path, blocks: usize) {
    let text: Vec<u8> = FILES.iter().flat_map(|name| fs::read(directory.join(name)).unwrap()).collect();
    assert!(text.len() > 3 * 10 * 1024 * 1024, "only {} bytes are left", text.len());
    let whole = text.len() / BLOCK;
    let found: Vec<_> = text[text.len() % BLOCK..].chunks_exact(BLOCK).collect();
    for (block, number) in found.iter().zip(blocks - whole..) {
        assert_eq!(String::from_utf8_lossy(&block[..NUMBER]), format!("{number:020}"));
        assert!(block[NUMBER..] == found[0][NUMBER..], "block {number} has another text than the first one");
    }
}

fn relay(rsup: &Rsup) -> i32 {
    let find = || rsup.tree().into_iter().find(|process| process.name == "rsup-relay");
    eventually("a process rsup-relay", find).pid
}

#[test]
fn a_rotated_log_file_needs_no_more_room_memory_or_descriptors_with_time() {
    needs!(pid_namespace(), static_programs());
    let blocks = usize::try_from(setting("OUTPUT_SOAK", 1000)).unwrap() * 1_000_000 / BLOCK;
    // On a tmpfs, the speed of the disk does not matter.
    let builder = tempfile::Builder::new();
    let directory = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir()).unwrap();
    let path = |name: &str| directory.path().join(name);
    let logs: PathBuf = path("logs");
    fs::create_dir(&logs).unwrap();
    let mut go = fifo(&path("go"));
    let records = fifo(&path("records"));
    build("writer", &path("writer"));
    let place = directory.path().display();
    let conf = program("writer", &format!("{place}/writer {place} fill {blocks} {STEPS} blocks"))
        + &format!(
            "stdout_logfile={}/log\nstdout_logfile_maxbytes=10MB\nstdout_logfile_backups=3\n",
            logs.display()
        );
    let mut rsup = rsup(&conf).pid_1().start();
    eventually("the writer is ready", || has_record(&records).then_some(()));
    let processes = [rsup.pid(), relay(&rsup)];

    let mut longest = 0;
    let mut memory = processes.map(|_| vec![]);
    let mut descriptors = processes.map(|_| vec![]);
    for step in 0..STEPS {
        go.write_all(&[0]).unwrap();
        for end in ["beginning", "end"] {
            eventually(&format!("the {end} of step {step}"), || {
                longest = longest.max(length(&logs));
                has_record(&records).then_some(())
            });
        }
        for (at, pid) in processes.into_iter().enumerate() {
            eventually("the process sleeps", || (proc::process(pid)?.state == 'S').then_some(()));
            memory[at].push(anonymous_memory(pid));
            descriptors[at].push(proc::open_descriptors(pid));
        }
    }
    assert_eq!(rsup.stop(), 0);
    println!("at most {longest} bytes, memory in KiB: {memory:?}, descriptors: {descriptors:?}");
    assert_last_blocks(&logs, blocks);
    assert!(longest.max(length(&logs)) <= MOST, "the log files had {longest} bytes");
    memory.iter().for_each(|memory| assert_no_growth(memory, 16));
    descriptors.iter().for_each(|open| assert!(open.iter().all(|number| *number == open[0]), "{open:?}"));
}
