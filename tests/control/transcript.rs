//! The same programs under supervisord and under rsup, and the same commands to supervisorctl. The file transcript.txt
//! says what both print, and where they differ. The format of this file is described in steps.rs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

use super::steps::{Run, Side, Step, steps};
use super::{command_beside, with_supervisorctl};
use crate::support::{Rsup, Setup, eventually, needs, pid_namespace, python, root, rsup, skip};

const CONF: &str = include_str!("transcript.conf");
const CLIENT: &str = include_str!("supervisorctl.py");

/// The classes of the differences. docker/MIGRATING.md describes each of them.
const DIFFERENCES: [&str; 10] = [
    "a program without a log file of its own",
    "help names rsup and its own command",
    "no command changes the list of programs",
    "no command for log files or for the terminal of a program",
    "no configuration file and no server is needed",
    "no file name and line number of Python",
    "only names of signals",
    "start of a command that cannot be found is tried",
    "start waits for the end of a process in STOPPING",
    "time of the last end of a process that never ran",
];

/// The real supervisorctl (see supervisorctl.py). Dropping the value ends it.
struct RealClient {
    python: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl RealClient {
    fn new(python: &Path, directory: &Path) -> Self {
        let mut command = real_client(python, directory);
        let mut python = command.args(["-c", CLIENT]).spawn().unwrap();
        let requests = python.stdin.take().unwrap();
        let answers = BufReader::new(python.stdout.take().unwrap());
        Self { python, requests, answers }
    }

    fn run(&mut self, words: &[&str], input: &str) -> Printed {
        writeln!(self.requests, "{}", serde_json::json!({ "words": words, "stdin": input })).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let text = |key: &str| answer[key].as_str().unwrap().to_owned();
        Printed { stdout: text("stdout"), stderr: text("stderr"), status: answer["status"].as_i64().unwrap() }
    }
}

impl Drop for RealClient {
    fn drop(&mut self) {
        let _result = self.python.kill();
        let _status = self.python.wait();
    }
}

/// A Python in the directory of a test.
fn real_client(python: &Path, directory: &Path) -> Command {
    let mut command = Command::new(python);
    command.current_dir(directory).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// What a client prints.
struct Printed {
    stdout: String,
    stderr: String,
    status: i64,
}

impl From<Output> for Printed {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            status: output.status.code().unwrap().into(),
        }
    }
}

/// Replaces what differs from run to run: PIDs, times and the directory.
fn normalised(line: &str, directory: &Path) -> String {
    let line = line.replace(directory.to_str().unwrap(), "DIR");
    if line.parse().is_ok_and(|pid: u32| pid > 0) {
        return "PID".into();
    }
    let is_clock = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
    let mut words: Vec<&str> = line.split(' ').collect();
    let mut at = 0;
    while at < words.len() {
        match words[at..] {
            ["pid", _, "uptime", clock] if is_clock(clock) => {
                words.splice(at.., ["pid", "PID,", "uptime", "UPTIME"]);
            }
            // supervisord prints the time 0 for a process that has never run and was stopped.
            ["Jan", "01", "12:00", "AM"] => {}
            [_, day, clock, "AM" | "PM"] if is_clock(day) && is_clock(clock) => {
                words.splice(at.., ["DATE"]);
            }
            ["file:", _, "line:", _] => {
                words.splice(at.., ["file:", "FILE", "line:", "LINE"]);
            }
            _ => {}
        }
        at += 1;
    }
    words.join(" ")
}

/// Makes tabs, and blanks at the end of a line, visible.
fn visible(line: &str) -> String {
    let kept = line.trim_end_matches(' ');
    kept.replace('\t', "→") + &"·".repeat(line.len() - kept.len())
}

/// Sorts the lines about processes that are handled at the same time: those of a group, or all. They may come in any
/// order.
fn sort_reports(words: &[&str], lines: &mut [String]) {
    let many = |word: &&str| *word == "all" || word.ends_with(['*', ':']);
    match words {
        ["start" | "stop", word] if many(word) => lines.sort(),
        ["start" | "stop" | "restart" | "signal", ..] if words.iter().any(many) => {
            let report = |line: &String| line.split_once(": ").map(|(_, report)| report.to_owned());
            lines.chunk_by_mut(|a, b| report(a).is_some() && report(a) == report(b)).for_each(<[_]>::sort);
        }
        _ => {}
    }
}

impl Printed {
    /// The lines of this output in the form of the transcript.
    fn lines(&self, run: &Run<'_>, directory: &Path) -> Vec<String> {
        let shown = |text: &str| {
            let mut lines: Vec<_> =
                text.split_terminator('\n').map(|line| visible(&normalised(line, directory))).collect();
            if !text.ends_with('\n')
                && let Some(last) = lines.last_mut()
            {
                last.push('⏎');
            }
            lines
        };
        let mut lines = shown(&self.stdout);
        sort_reports(&run.words(), &mut lines);
        lines.extend(shown(&self.stderr).iter().map(|line| format!("2: {line}")));
        lines.push(format!("-> {}", self.status));
        lines
    }
}

/// The programs of the transcript. stdout of PID 1 is a pipe.
fn programs() -> Setup {
    rsup(CONF).pid_1().after("mkfifo pipe; cat pipe >/dev/null & exec >pipe")
}

/// A running supervisord or rsup, with the programs of the transcript.
struct Session {
    side: Side,
    server: Rsup,
    python: Option<(std::path::PathBuf, RealClient)>,
}

impl Session {
    fn supervisord(python: &Path) -> Self {
        let words = [python.to_str().unwrap(), "-m", "supervisor.supervisord", "-c", "supervisord.conf"];
        let server = programs().env("TZ", "UTC").running(&words).start();
        let client = RealClient::new(python, &server.path(""));
        Self { side: Side::Supervisord, server, python: Some((python.into(), client)) }
    }

    fn rsup() -> Self {
        let server = with_supervisorctl(programs()).start();
        Self { side: Side::Rsup, server, python: None }
    }

    /// Runs supervisorctl to its end.
    fn run(&mut self, words: &[&str], input: &str) -> Printed {
        if let Some((_, client)) = &mut self.python {
            return client.run(words, input);
        }
        let mut client = self.spawn(words);
        client.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        client.wait_with_output().unwrap().into()
    }

    /// Starts a supervisorctl of its own.
    fn spawn(&self, words: &[&str]) -> Child {
        let mut command = match &self.python {
            Some((python, _)) => {
                let mut command = real_client(python, &self.server.path(""));
                command.args(["-m", "supervisor.supervisorctl"]).args(words).stderr(Stdio::piped());
                command
            }
            None => command_beside(&self.server, &[&["supervisorctl"], words].concat()),
        };
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Waits until a process is in a state.
    fn wait_for_state(&mut self, process: &str, state: &str) {
        let what = format!("{process} is {state}");
        eventually(&what, || {
            let status = self.run(&["status", process], "").stdout;
            (status.split_whitespace().nth(1) == Some(state)).then_some(())
        });
    }

    /// Runs the whole transcript. Returns the commands that did not print what the transcript says.
    fn run_all(&mut self) -> Vec<String> {
        let directory = self.server.path("");
        let directory = directory.to_str().unwrap().trim_end_matches('/').to_owned();
        let directory = Path::new(&directory);
        let mut background = None;
        let mut wrong = vec![];
        let mut check = |run: &Run<'_>, printed: Printed, side| {
            let lines = printed.lines(run, directory);
            if lines != run.expected(side) {
                wrong.push(format!("$ {}\n{}\n", run.line, lines.join("\n")));
            }
        };
        for step in steps() {
            match step {
                Step::Run(run) if run.line.ends_with(" &") => {
                    let earlier = background.replace((self.spawn(&run.words()), run));
                    assert!(earlier.is_none(), "two commands in the background");
                }
                Step::Run(run) => {
                    let printed = self.run(&run.words(), &run.input());
                    check(&run, printed, self.side);
                }
                Step::Wait(mut run) => {
                    let (client, started): (Child, Run<'_>) = background.take().unwrap();
                    run.line = started.line;
                    check(&run, client.wait_with_output().unwrap().into(), self.side);
                }
                Step::State(process, state) => self.wait_for_state(process, state),
                Step::Contains(file, text) => {
                    let contains = |text: &str, wanted| text.replace('\n', " ").contains(wanted);
                    let has = || contains(&self.server.read(file), text).then_some(());
                    eventually(&format!("{file} contains {text}"), has);
                }
                Step::Touch(file) => self.server.touch(file),
                Step::Remove(file) => std::fs::remove_file(self.server.path(file)).unwrap(),
            }
        }
        wrong
    }
}

#[track_caller]
fn assert_prints_the_transcript(mut session: Session) {
    let wrong = session.run_all();
    assert!(wrong.is_empty(), "{} commands print something else:\n\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(session.server.exit_code(), 0);
}

#[test]
fn supervisord_prints_the_transcript() {
    needs!(pid_namespace());
    match python::supervisor() {
        Ok(python) => assert_prints_the_transcript(Session::supervisord(&python)),
        Err(why) => skip(&why),
    }
}

#[test]
fn rsup_prints_the_transcript() {
    needs!(root(), pid_namespace());
    assert_prints_the_transcript(Session::rsup());
}

#[test]
fn the_transcript_has_150_commands_and_a_class_for_every_difference() {
    let runs = steps().into_iter().filter_map(|step| match step {
        Step::Run(run) | Step::Wait(run) => Some(run),
        _ => None,
    });
    let mut count = 0;
    let mut classes = BTreeSet::new();
    for run in runs {
        count += 1;
        let differs = run.expected(Side::Supervisord) != run.expected(Side::Rsup);
        assert_eq!(differs, run.class.is_some(), "$ {}: a difference and its class", run.line);
        classes.extend(run.class);
    }
    assert!(count >= 150, "{count} commands");
    assert_eq!(classes, DIFFERENCES.into());
    let documented = include_str!("../../docker/MIGRATING.md");
    for class in DIFFERENCES {
        assert!(documented.contains(&format!("\n| {class} |")), "MIGRATING.md does not name {class:?}");
    }
}
