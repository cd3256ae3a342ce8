//! One program that writes as fast as it can, and what carries its output into a log file and rotates the file.

use super::carrier::Carrier;
use super::writers::{self, BACKUPS, MAX_BYTES, Place, Processes};
use crate::reap::processor_time;
use crate::table::{self, median, short};

const ROUNDS: usize = 5;
/// The length of the writer's blocks.
const BLOCK: u64 = 64 * 1024;

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

/// The number of megabytes of one round, which takes a few seconds.
fn megabytes(carrier: Carrier, writes: Writes) -> u64 {
    match (carrier, writes) {
        (_, Writes::Lines) => 100,
        (Carrier::Rsup | Carrier::OtherRsup | Carrier::Supervisord, Writes::Blocks) => 2_000,
        (Carrier::S6Log, Writes::Blocks) => 500,
        (Carrier::Svlogd, Writes::Blocks) => 200,
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
    let carriers = Carrier::installed();
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
    let blocks = megabytes(carrier, writes) * 1_000_000 / BLOCK;
    let mut place = Place::new();
    let mut processes = Processes::new();
    let words = ["fill", &blocks.to_string(), "1", writes.word()];
    let pid = carrier.start(&words, &mut place, &mut processes);
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
    let length = place.length_of_logs();
    let expected = BACKUPS * MAX_BYTES * 9 / 10..=(BACKUPS + 1) * MAX_BYTES * 11 / 10;
    assert!(expected.contains(&length), "{carrier}: the log files have {length} bytes");
    cost
}
