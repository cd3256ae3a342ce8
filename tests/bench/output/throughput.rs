//! One program that writes as fast as it can, and the processes that carry its output into a log file which they rotate.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::writers::{self, BACKUPS, MAX_BYTES, Place, Processes};
use crate::init::OTHER_RSUP;
use crate::reap::processor_time;
use crate::table::{self, median, short};
use crate::tools;

const ROUNDS: usize = 5;
/// The length of the writer's blocks.
const BLOCK: u64 = 64 * 1024;

/// What carries the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Rsup,
    OtherRsup,
    S6Log,
    Svlogd,
    Supervisord,
}

impl Carrier {
    const ALL: [Self; 5] = [Self::Rsup, Self::OtherRsup, Self::S6Log, Self::Svlogd, Self::Supervisord];

    fn binary(self) -> Option<PathBuf> {
        match self {
            Self::Rsup => Some(tools::rsup()),
            Self::OtherRsup => tools::other_rsup(),
            Self::S6Log => tools::find("s6-log"),
            Self::Svlogd => tools::find("svlogd"),
            Self::Supervisord => tools::find("supervisord"),
        }
    }

    /// The number of megabytes of one round, which takes a few seconds.
    fn megabytes(self, writes: Writes) -> u64 {
        match (self, writes) {
            (_, Writes::Lines) => 100,
            (Self::Rsup | Self::OtherRsup | Self::Supervisord, Writes::Blocks) => 2_000,
            (Self::S6Log, Writes::Blocks) => 500,
            (Self::Svlogd, Writes::Blocks) => 200,
        }
    }

    /// Starts the carrier and a writer. Returns the PID of the process that carries the output, or of an ancestor.
    fn start(self, blocks: u64, writes: Writes, place: &Place, processes: &mut Processes) -> i32 {
        let binary = self.binary().unwrap();
        let words = ["fill", &blocks.to_string(), "1", writes.word()].map(str::to_owned);
        if matches!(self, Self::Rsup | Self::OtherRsup | Self::Supervisord) {
            place.write_conf(&words.join(" "), 1, &place.rotation_keys());
            let mut command = place.supervisor(&binary);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            return processes.start(command);
        }
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = Command::new(binary);
        if self == Self::Svlogd {
            fs::write(place.logs().join("config"), format!("s{MAX_BYTES}\nn{BACKUPS}\n")).unwrap();
        } else {
            command.args([format!("n{BACKUPS}"), format!("s{MAX_BYTES}")]);
        }
        command.arg(place.logs()).stdin(reader).stdout(Stdio::null());
        let carrier = processes.start(command);
        let mut command = Command::new(tools::writer());
        command.arg(place.path()).args(words).stdin(Stdio::null()).stdout(writer);
        processes.start(command);
        carrier
    }

    /// The name of the process that carries the output.
    fn process(self) -> &'static str {
        match self {
            Self::Rsup | Self::OtherRsup => "rsup-relay",
            Self::S6Log => "s6-log",
            Self::Svlogd => "svlogd",
            Self::Supervisord => "supervisord",
        }
    }
}

/// What the program writes with one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    /// 64 KiB.
    Blocks,
    /// One line of about 100 bytes.
    Lines,
}

impl Writes {
    /// The last argument of the writer.
    fn word(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Lines => "lines",
        }
    }
}

/// Seconds and the carrier's processor time in seconds, each for a gigabyte.
struct Cost {
    time: f64,
    processor: f64,
}

pub(super) fn measure() {
    for (writes, title) in
        [(Writes::Blocks, "in writes of 64 KiB"), (Writes::Lines, "one line in each write")]
    {
        compare(writes, title);
    }
}

/// Compares the carriers of a program with such writes, and prints their table.
fn compare(writes: Writes, title: &str) {
    let carriers: Vec<Carrier> =
        Carrier::ALL.into_iter().filter(|carrier| carrier.binary().is_some()).collect();
    let mut times = vec![vec![]; carriers.len()];
    let mut processor = vec![vec![]; carriers.len()];
    for round in 0..ROUNDS {
        for turn in 0..carriers.len() {
            let at = (turn + round) % carriers.len();
            let cost = run(carriers[at], writes);
            times[at].push(cost.time);
            processor[at].push(cost.processor);
        }
    }
    let medians: Vec<f64> = times.into_iter().filter_map(median).collect();
    let rows = carriers.iter().zip(&medians).zip(processor).map(|((carrier, time), processor)| {
        let processor = median(processor).map_or_else(|| "–".to_owned(), short);
        vec![carrier.to_string(), short(1000.0 / time), short(time / medians[0]), processor]
    });
    let columns = ["MB/s", "rsup's multiple", "CPU seconds for 1 GB"].map(str::to_owned);
    let title = format!(
        "Output: a program fills a log file, {title}; the file is rotated at {} MB, with {BACKUPS} old files",
        MAX_BYTES / 1_000_000
    );
    table::print(&title, &columns, &rows.collect::<Vec<_>>());
}

/// One round of one carrier.
fn run(carrier: Carrier, writes: Writes) -> Cost {
    let blocks = carrier.megabytes(writes) * 1_000_000 / BLOCK;
    let mut place = Place::new();
    let mut processes = Processes::new();
    let ancestor = carrier.start(blocks, writes, &place, &mut processes);
    place.record();
    let pid = writers::find(ancestor, carrier.process());
    writers::wait_until_asleep(pid);
    let before = processor_time(pid);
    place.go(1);
    let start = place.record();
    let end = place.record();
    // The carrier has yet to read what the pipe holds, which is little.
    writers::wait_until_asleep(pid);
    let gigabytes = (blocks * BLOCK) as f64 / 1e9;
    let cost = Cost {
        time: (end - start) as f64 / 1e9 / gigabytes,
        processor: (processor_time(pid) - before) / 1e6 / gigabytes,
    };
    // This shows that the carrier rotates the file and keeps the old ones.
    let lengths = fs::read_dir(place.logs()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    let length: u64 = lengths.sum();
    let expected = BACKUPS * MAX_BYTES * 9 / 10..=(BACKUPS + 1) * MAX_BYTES * 11 / 10;
    assert!(expected.contains(&length), "{carrier}: the log files have {length} bytes");
    cost
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rsup => "rsup",
            Self::OtherRsup => OTHER_RSUP,
            Self::S6Log => "s6-log",
            Self::Svlogd => "svlogd",
            Self::Supervisord => "supervisord",
        })
    }
}
