//! One command: the time and the system calls that each init adds to a static program that does nothing.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::init::OTHER_RSUP;
use crate::table::{self, median, short};
use crate::tools::{self, now};

/// The inits that run one command, each with its arguments before the command. Only the static ones are comparable with
/// rsup, because the dynamic loader takes as long as everything else that the others do.
pub(crate) const INITS: [(&str, &[&str]); 6] = [
    ("rsup", &["--"]),
    (OTHER_RSUP, &["--"]),
    ("catatonit", &["--"]),
    ("dumb-init", &["--"]),
    ("tini", &["-s", "--"]),
    ("tini-static", &["-s", "--"]),
];

/// The number of runs of each init. The variable `ROUNDS` changes the number.
fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(500, |text| text.parse().expect("ROUNDS is a number"))
}

pub(crate) fn measure() {
    let nothing = [tools::program().into_os_string(), "true".into()];
    let mut commands: Vec<(&str, Vec<OsString>)> = vec![("nothing", nothing.to_vec())];
    for (name, words) in INITS {
        if let Some(file) = tools::init(name) {
            let words = [file.into_os_string()].into_iter().chain(words.iter().map(Into::into));
            commands.push((name, words.chain(nothing.clone()).collect()));
        }
    }
    let mut samples = vec![vec![]; commands.len()];
    for round in 0..rounds() {
        for turn in 0..commands.len() {
            let place = (turn + round) % commands.len();
            samples[place].push(run(&commands[place].1));
        }
    }
    let medians: Vec<f64> = samples.into_iter().map(|samples| median(samples).unwrap()).collect();
    let row = |(place, (name, words)): (usize, &(&str, Vec<OsString>))| {
        let file = Path::new(&words[0]);
        let kind = if place == 0 { "" } else { linkage(file) };
        let calls = if place == 0 { None } else { system_calls(words) };
        vec![
            format!("{name}{kind}"),
            short(medians[place]),
            short(medians[place] - medians[0]),
            calls.map_or_else(|| "–".to_owned(), |calls| calls.to_string()),
            fs::metadata(file).unwrap().len().to_string(),
        ]
    };
    let columns = ["µs", "added", "system calls from its exec to the command's", "bytes"].map(str::to_owned);
    let rows: Vec<_> = commands.iter().enumerate().map(row).collect();
    table::print("One command: a static program that does nothing, alone and below an init", &columns, &rows);
}

/// Runs a command until it exits. Returns the duration in microseconds.
fn run(words: &[OsString]) -> f64 {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = now();
    command.spawn().unwrap().wait().unwrap();
    (now() - start) as f64 / 1e3
}

fn linkage(file: &Path) -> &'static str {
    let dynamic = Command::new("readelf").arg("-lW").arg(file).output();
    match dynamic {
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("INTERP") => " (dynamic)",
        _ => "",
    }
}

/// The number of system calls that the init makes until its fork, and its child until the child executes the command.
fn system_calls(words: &[OsString]) -> Option<usize> {
    tools::find("strace")?;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("strace");
    let traced = Command::new("strace").args(["-f", "-o"]).arg(&log).args(words).output().unwrap();
    assert!(traced.status.success(), "{words:?}: {}", String::from_utf8_lossy(&traced.stderr));
    let log = fs::read_to_string(log).unwrap();
    // A line is `PID call(…`. The second half of an interrupted call begins with `<...`, and a signal with `---`.
    let calls: Vec<(&str, &str)> =
        log.lines().filter_map(|line| line.split_once(char::is_whitespace)).collect();
    let calls = calls.iter().map(|(pid, call)| (*pid, call.trim_start()));
    let calls: Vec<_> =
        calls.filter(|(_, call)| call.starts_with(|c: char| c.is_ascii_alphabetic())).collect();
    let init = calls.first()?.0;
    let forks = |call: &str| ["fork(", "vfork(", "clone("].iter().any(|name| call.starts_with(name));
    let of_init = calls.iter().filter(|(pid, _)| *pid == init);
    let until_fork = of_init.take_while(|(_, call)| !forks(call)).count();
    let of_child = calls.iter().filter(|(pid, _)| *pid != init);
    let until_exec = of_child.take_while(|(_, call)| !call.starts_with("execve(")).count();
    // The init's own exec does not count. The fork and the child's exec do.
    Some(until_fork - 1 + 1 + until_exec + 1)
}
