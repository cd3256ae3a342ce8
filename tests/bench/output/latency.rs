//! The time from a program's write of one line to the read of this line at the other end of rsup's stdout, which is a
//! pipe.

use std::io::{PipeReader, Read};
use std::process::Stdio;

use super::writers::{self, Place, Processes};
use crate::table::{self, short};
use crate::tools::{self, now};

/// The modes of `--output`. The first one has no process between the program and the pipe.
const MODES: [&str; 4] = ["direct", "lines", "prefix", "json"];
const LINES: usize = 5_000;

/// rsup with one program, which writes a line when it is asked to.
struct Answering {
    place: Place,
    output: PipeReader,
    /// The program, and the relay if there is one.
    sleepers: Vec<i32>,
    _processes: Processes,
}

impl Answering {
    fn start(mode: &str) -> Self {
        let mut place = Place::new();
        let mut processes = Processes::new();
        place.write_conf("answer", 1, "stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n");
        let (output, writer) = std::io::pipe().unwrap();
        let mut command = place.supervisor(&tools::rsup());
        command.args(["--output", mode]).stdin(Stdio::null()).stdout(writer);
        let namespace = processes.start(command);
        place.record();
        let program = Some(writers::find(namespace, "writer-program"));
        let relay = (mode != MODES[0]).then(|| writers::find(namespace, "rsup-relay"));
        Self { place, output, sleepers: program.into_iter().chain(relay).collect(), _processes: processes }
    }

    /// Asks for one line when nothing runs. Returns how many microseconds the line has taken.
    fn ask(&mut self) -> f64 {
        self.sleepers.iter().for_each(|pid| writers::wait_until_asleep(*pid));
        self.place.go(1);
        let mut bytes = [0; 1024];
        let mut length = 0;
        while bytes[..length].last() != Some(&b'\n') {
            writers::wait_for_input(&self.output);
            length += self.output.read(&mut bytes[length..]).unwrap();
        }
        let read_at = now();
        let line = std::str::from_utf8(&bytes[..length]).unwrap();
        let (_, rest) = line.split_once("at=").expect("the time of the write");
        let written_at: u64 = rest.split(' ').next().unwrap().parse().unwrap();
        (read_at - written_at) as f64 / 1e3
    }
}

pub(super) fn measure() {
    let mut answering = MODES.map(Answering::start);
    let mut times = MODES.map(|_| vec![]);
    for _ in 0..LINES {
        for (answering, times) in answering.iter_mut().zip(&mut times) {
            times.push(answering.ask());
        }
    }
    times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let direct = times[0][LINES / 2];
    let rows = MODES.iter().zip(&times).map(|(mode, times)| {
        let [half, most] = [LINES / 2, LINES * 99 / 100].map(|place| times[place]);
        vec![(*mode).to_owned(), short(half), short(most), short(half - direct)]
    });
    let columns = ["median", "99th percentile", "median above direct"].map(str::to_owned);
    table::print(
        "Output: from the write of a line to its read at rsup's stdout, in µs, by --output",
        &columns,
        &rows.collect::<Vec<_>>(),
    );
}
