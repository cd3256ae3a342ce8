//! The modes `lines`, `prefix` and `json`: whole lines, in order, with the name of their program.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::load::{HELD, LOAD, Tally, writer};
use super::reader::{Arrived, Reader, all_lines};
use super::{python, relay, relay_but, relays, shown};
use crate::soak::setting;
use crate::support::pty::Terminal;
use crate::support::{
    CONF, Rsup, SIGKILL, Setup, at_once, binary, command, each, eventually, kill, needs, proc, program, rsup,
    script, within,
};

const MODES: [&str; 3] = ["lines", "prefix", "json"];
const WRITERS: [&str; 4] = ["w0", "w1", "w2", "w3"];
/// The size of the lines. A pipe takes a write of up to 4,096 bytes whole, and tears longer ones.
const SIZE: usize = 8000;

/// The time for all lines of one test, which depends on the machine.
const LONG: Duration = Duration::from_secs(1800);

/// A set-up in a mode, whose stdout is the FIFO `pipe`.
fn in_mode(mode: &str, conf: &str) -> Setup {
    rsup(conf).file("load.py", LOAD, 0o644).args(&["--output", mode]).after("exec >pipe")
}

/// Four programs that write lines to these streams.
fn writers(streams: &str, count: u64) -> String {
    WRITERS.iter().map(|name| writer(name, streams, SIZE, count)).collect()
}

/// A reader that checks the lines of a mode.
fn tally(mode: &str, path: &Path) -> Reader<Tally<SIZE>> {
    let take = match mode {
        "lines" => Tally::plain,
        "prefix" => Tally::prefixed,
        _ => Tally::json,
    };
    Reader::new(path, take)
}

/// Four programs write this number of lines each. Every line arrives whole and in order.
fn no_line_is_torn_or_lost(mode: &str, count: u64) {
    let setup = in_mode(mode, &writers("1", count));
    let reader = tally(mode, &setup.path("pipe"));
    let mut rsup = setup.start();
    let complete = reader.find_within(LONG, |tally| tally.is_complete(WRITERS.len()).then_some(()));
    assert_eq!(rsup.stop(), 0, "{mode}");
    let tally = reader.end();
    tally.check(WRITERS.len(), 0);
    assert!(complete.is_some(), "{mode}");
    assert_eq!(tally.arrived(), [count; 4], "{mode}");
    assert!(tally.own.is_empty(), "rsup's own lines are on stderr: {:?}", tally.own);
}

/// The number of lines of each program.
const COUNT: u64 = 3000;

#[test]
fn lines_of_four_programs_are_whole() {
    needs!(python());
    no_line_is_torn_or_lost("lines", COUNT);
}

#[test]
fn lines_of_four_programs_are_whole_with_prefix() {
    needs!(python());
    no_line_is_torn_or_lost("prefix", COUNT);
}

#[test]
fn lines_of_four_programs_are_whole_with_json() {
    needs!(python());
    no_line_is_torn_or_lost("json", COUNT);
}

#[test]
#[ignore = "3.2 GB in each mode"]
fn a_hundred_thousand_lines_of_each_of_four_programs_are_whole() {
    needs!(python());
    MODES.iter().for_each(|mode| no_line_is_torn_or_lost(mode, 100_000));
}

#[test]
fn lines_are_whole_when_both_streams_of_all_programs_are_one_pipe() {
    needs!(python());
    each(&MODES, |mode| {
        let setup = in_mode(mode, &writers("12", COUNT / 4)).after("exec 2>&1");
        let reader = tally(mode, &setup.path("pipe"));
        let mut rsup = setup.start();
        let streams = 2 * WRITERS.len();
        let complete = reader.find_within(LONG, |tally| tally.is_complete(streams).then_some(()));
        assert_eq!(rsup.stop(), 0, "{mode}");
        let tally = reader.end();
        tally.check(streams, 0);
        let has = |text: &str| tally.own.iter().any(|line| line.contains(text));
        assert!(has("rsup started with pid") && has("stopped: w3"), "{mode}: {:?}", tally.own);
        complete.ok_or_else(|| format!("{mode}: not all lines"))
    });
}

/// Waits until every stream has at least this number of further lines.
#[track_caller]
fn expect_progress(reader: &Reader<Tally<SIZE>>, streams: usize, lines: u64) {
    let before = reader.find("the lines so far", |tally| Some(tally.arrived()));
    let old = |at: usize| before.get(at).copied().unwrap_or_default();
    reader.find("every program continues to write", |tally| {
        let arrived = tally.arrived();
        let is_further = |(at, new): (usize, &u64)| *new >= old(at) + lines;
        (arrived.len() == streams && arrived.iter().enumerate().all(is_further)).then_some(())
    });
}

/// How the relay is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// While lines pass through it.
    Fast,
    /// While it waits for the reader, with a part of a line in the pipe.
    Stalled,
}

/// The relay is killed `KILLS` times; each line that arrives is whole and in order, and few are lost.
fn no_line_is_torn_when_the_relay_is_killed(mode: &str, reading: Reading) {
    let kills = setting("KILLS", 5);
    let setup = in_mode(mode, &writers("1", 0));
    let reader = tally(mode, &setup.path("pipe"));
    let mut rsup = setup.start();
    let programs: Vec<_> = WRITERS.iter().map(|name| rsup.pid_of(name)).collect();
    let mut last = 0;
    for _ in 0..kills {
        let pid = relay_but(&rsup, last);
        expect_progress(&reader, WRITERS.len(), 50);
        if reading == Reading::Stalled {
            reader.pause();
            let waits = |pid: &i32| proc::process(*pid).is_some_and(|process| process.state == 'S');
            let all_wait = || programs.iter().chain([&pid]).all(waits);
            // A process may also sleep for a moment while it gives way to another.
            eventually("all programs and the relay wait", || (0..20).all(|_| all_wait()).then_some(()));
        }
        kill(pid, SIGKILL);
        last = pid;
        reader.resume();
    }
    relay_but(&rsup, last);
    expect_progress(&reader, WRITERS.len(), 50);
    rsup.touch("stop");
    reader.find("the last lines", |tally| tally.is_complete(WRITERS.len()).then_some(()));
    assert_eq!(WRITERS.map(|name| rsup.pid_of(name)).to_vec(), programs, "no program has ended");
    assert_eq!(rsup.stop(), 0, "{mode}");
    reader.end().check(WRITERS.len(), kills * HELD);
}

#[test]
fn lines_are_whole_when_the_relay_is_killed() {
    needs!(python());
    no_line_is_torn_when_the_relay_is_killed("lines", Reading::Fast);
}

#[test]
fn lines_are_whole_when_the_relay_is_killed_with_prefix() {
    needs!(python());
    no_line_is_torn_when_the_relay_is_killed("prefix", Reading::Fast);
}

#[test]
fn lines_are_whole_when_the_relay_is_killed_with_json() {
    needs!(python());
    no_line_is_torn_when_the_relay_is_killed("json", Reading::Fast);
}

#[test]
fn lines_are_whole_when_the_relay_is_killed_while_it_waits_for_the_reader() {
    needs!(python());
    no_line_is_torn_when_the_relay_is_killed("lines", Reading::Stalled);
}

#[test]
fn lines_are_whole_when_the_relay_is_killed_while_it_waits_for_the_reader_with_json() {
    needs!(python());
    no_line_is_torn_when_the_relay_is_killed("json", Reading::Stalled);
}

/// The relay is killed several times while stdout and stderr are one file or one pipe. rsup's own lines are whole too.
fn all_lines_are_whole_when_the_relay_is_killed(mode: &str, to_file: bool) -> Result<(), String> {
    let kills = setting("KILLS", 5);
    let conf = writers("12", 0);
    let streams = 2 * WRITERS.len();
    let setup = rsup(&conf).file("load.py", LOAD, 0o644).args(&["--output", mode]);
    let pipe = setup.path("pipe");
    let reader = (!to_file).then(|| tally(mode, &pipe));
    // The position of a file has another meaning if all writes append to it.
    let redirect = if mode == "json" { "exec >pipe 2>&1" } else { "exec >>pipe 2>&1" };
    let mut rsup = setup.after(redirect).start();
    let size = |rsup: &Rsup| std::fs::metadata(rsup.path("pipe")).map_or(0, |file| file.len());
    let progress = |rsup: &Rsup| match &reader {
        Some(reader) => expect_progress(reader, streams, 20),
        None => {
            let before = size(rsup);
            eventually("the file grows", || (size(rsup) > before + 2_000_000).then_some(()));
        }
    };
    let mut last = 0;
    for _ in 0..kills {
        let pid = relay_but(&rsup, last);
        progress(&rsup);
        kill(pid, SIGKILL);
        last = pid;
    }
    relay_but(&rsup, last);
    progress(&rsup);
    rsup.touch("stop");
    // SIGTERM would end a program before its last line.
    WRITERS.iter().for_each(|name| {
        eventually("the program is done", || rsup.path(&format!("{name}.done")).exists().then_some(()));
    });
    assert_eq!(rsup.stop(), 0, "{mode}");
    let tally = match reader {
        Some(reader) => reader.end(),
        None => {
            let mut tally = Tally::default();
            let bytes = std::fs::read(rsup.path("pipe")).unwrap();
            let lines = bytes.split(|byte| *byte == b'\n');
            let take = if mode == "json" { Tally::json } else { Tally::plain };
            lines.filter(|line| !line.is_empty()).for_each(|line| take(&mut tally, line));
            tally
        }
    };
    tally.check(streams, kills * HELD);
    let count = |text: &str| tally.own.iter().filter(|line| line.contains(text)).count() as u64;
    let is_good =
        count("relay") == kills && count("stopped: w") == 4 && count("rsup exits with status 0") == 1;
    is_good.then_some(()).ok_or_else(|| format!("{mode}: {:?}", tally.own))
}

#[test]
fn rsups_own_lines_are_whole_too_when_the_relay_is_killed() {
    needs!(python());
    each(&["lines", "json"], |mode| all_lines_are_whole_when_the_relay_is_killed(mode, false));
}

#[test]
fn lines_in_a_file_are_whole_when_the_relay_is_killed() {
    needs!(python());
    each(&["lines", "json"], |mode| all_lines_are_whole_when_the_relay_is_killed(mode, true));
}

/// A program that writes a line to each stream. It keeps running.
fn speaker(name: &str) -> String {
    script(name, "echo out; echo err >&2; exec sleep 1000") + "startsecs=0\n"
}

/// Runs programs until rsup's stdout and stderr, which are two FIFOs, have this number of lines each that are not rsup's
/// own. Returns the lines of stdout and of stderr, sorted, and without rsup's own lines.
fn both_outputs(setup: Setup, wanted: [usize; 2]) -> [Vec<String>; 2] {
    let setup = setup.after("exec 2>errors");
    let readers = [all_lines(&setup.path("pipe")), all_lines(&setup.path("errors"))];
    let mut rsup = setup.start();
    let is_own = |line: &&Arrived| line.text().starts_with("20") || line.text().contains("\"level\":");
    let kept = |lines: &Vec<Arrived>| -> Vec<String> {
        lines.iter().filter(|line| !is_own(line)).map(Arrived::text).collect()
    };
    for (reader, wanted) in readers.iter().zip(wanted) {
        reader.find("all lines", |lines| (kept(lines).len() >= wanted).then_some(()));
    }
    assert_eq!(rsup.stop(), 0);
    readers.map(|reader| {
        let mut lines = kept(&reader.end());
        lines.sort();
        lines
    })
}

/// The programs of the tests of names.
fn named_programs() -> String {
    let two = speaker("w") + "process_name=w%(process_num)d\nnumprocs=2\n";
    speaker("a") + &two + &speaker("longer-name") + &speaker("member") + "[group:g]\nprograms=member\n"
}

#[test]
fn prefix_is_the_name_that_supervisorctl_prints_padded_to_the_longest() {
    let [out, err] = both_outputs(in_mode("prefix", &named_programs()), [5, 5]);
    let names = ["a", "g:member", "longer-name", "w:w0", "w:w1"];
    let lines = |text| names.map(|name| format!("{name:11} | {text}"));
    assert_eq!(out, lines("out"));
    assert_eq!(err, lines("err"));
}

#[test]
fn lines_have_no_prefix_in_the_mode_lines() {
    let [out, err] = both_outputs(in_mode("lines", &named_programs()), [5, 5]);
    assert_eq!((out, err), (vec!["out".to_owned(); 5], vec!["err".to_owned(); 5]));
}

#[test]
fn json_has_the_time_the_program_the_stream_and_the_message() {
    let utc = || {
        let date = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M"]).output().unwrap();
        String::from_utf8(date.stdout).unwrap().trim_end().to_owned()
    };
    let before = utc();
    let outputs = both_outputs(in_mode("json", &named_programs()), [5, 5]);
    let minutes = [before, utc()];
    for (lines, stream, message) in [(&outputs[0], "stdout", "out"), (&outputs[1], "stderr", "err")] {
        let mut programs = vec![];
        for line in lines {
            let object: Value = serde_json::from_str(line).unwrap();
            let mut keys: Vec<_> = object.as_object().unwrap().keys().collect();
            keys.sort();
            assert_eq!(keys, ["message", "program", "stream", "time"], "{line}");
            assert_eq!((&object["stream"], &object["message"]), (&stream.into(), &message.into()), "{line}");
            assert_is_time(&object["time"], &minutes);
            programs.push(object["program"].as_str().unwrap().to_owned());
        }
        programs.sort();
        assert_eq!(programs, ["a", "g:member", "longer-name", "w:w0", "w:w1"]);
    }
}

/// Checks the form of RFC 3339 in UTC with milliseconds, and that the time is in one of these minutes.
#[track_caller]
fn assert_is_time(time: &Value, minutes: &[String]) {
    let time = time.as_str().unwrap();
    let (minute, rest) = time.split_at(16);
    assert!(minutes.iter().any(|known| known == minute), "{time} is not in {minutes:?}");
    let form: String = rest.chars().map(|c| if c.is_ascii_digit() { 'd' } else { c }).collect();
    assert_eq!(form, ":dd.dddZ", "{time}");
}

#[test]
fn rsups_own_lines_are_json_in_the_mode_json() {
    let conf = program("a", "sleep 1000") + &program("b\"\\", "./none") + "startretries=0\n";
    let mut rsup = rsup(&conf).args(&["--output", "json"]).start();
    rsup.expect_all(&["success: a entered RUNNING state", "gave up: b"]);
    rsup.kill("a", SIGKILL);
    rsup.expect("exited: a (terminated by SIGKILL; not expected)");
    assert_eq!(rsup.stop(), 0);
    let lines: Vec<Value> = rsup.log().iter().map(|line| serde_json::from_str(&line.0).unwrap()).collect();
    for line in &lines {
        let mut keys: Vec<_> = line.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["level", "message", "time"], "{line}");
        let minute = line["time"].as_str().unwrap().get(..16).unwrap().to_owned();
        assert_is_time(&line["time"], &[minute]);
    }
    let has = |level: &str, text: &str| {
        let is_it =
            |line: &&Value| line["level"] == level && line["message"].as_str().unwrap().contains(text);
        lines.iter().filter(is_it).count()
    };
    assert_eq!(has("INFO", "rsup started with pid"), 1, "{lines:?}");
    assert_eq!(has("WARN", "exited: a (terminated by SIGKILL; not expected)"), 1, "{lines:?}");
    assert_eq!(has("INFO", "can't find command './none'"), 1, "{lines:?}");
}

#[test]
fn rsups_own_lines_are_as_always_in_the_other_modes() {
    at_once(&["direct", "lines", "prefix"], |&mode| {
        let setup = rsup(&script("a", "exec sleep 1000")).args(&["--output", mode]);
        let mut rsup = setup.start();
        let line = rsup.expect("success: a entered RUNNING state");
        assert!(line.message().starts_with("INFO success: a"), "{mode}: {line:?}");
        assert_eq!(rsup.stop(), 0);
    });
}

#[test]
fn the_mode_comes_from_the_file_and_the_option_takes_precedence() {
    let conf = "[supervisord]\noutput=prefix\n".to_owned() + &speaker("web");
    let from_file = || rsup(&conf).after("exec >pipe");
    let [out, err] = both_outputs(from_file(), [1, 1]);
    assert_eq!((out, err), (vec!["web | out".to_owned()], vec!["web | err".to_owned()]));
    for mode in ["lines", "direct"] {
        let [out, err] = both_outputs(from_file().args(&["--output", mode]), [1, 1]);
        assert_eq!((out, err), (vec!["out".to_owned()], vec!["err".to_owned()]), "{mode}");
    }
    let [out, _] = both_outputs(from_file().args(&["--output=json"]), [1, 1]);
    assert!(out[0].starts_with('{'), "{out:?}");
}

#[test]
fn a_wrong_mode_is_an_error() {
    let conf = script("web", "echo ran >ran");
    let (code, wrong_option) = rsup(&conf).args(&["--output", "colour"]).run();
    assert_eq!((code, wrong_option.read("ran").as_str()), (2, ""));
    assert_eq!(wrong_option.lines("colour").len(), 1, "{:?}", wrong_option.log());
    for args in [&[][..], &["--check"]] {
        let (code, wrong_key) = rsup(&format!("[supervisord]\noutput=colour\n{conf}")).args(args).run();
        assert_eq!((code, wrong_key.read("ran").as_str()), (2, ""));
        assert!(wrong_key.log()[0].0.contains("colour"), "{:?}", wrong_key.log());
        assert!(wrong_key.log()[0].0.contains(&format!("{CONF}:2")), "{:?}", wrong_key.log());
    }
    let (code, no_value) = rsup(&conf).only_args(&["-c", CONF, "--output"]).run();
    assert_eq!((code, no_value.read("ran").as_str()), (2, ""));
}

#[test]
fn a_mode_and_a_command_are_an_error() {
    for mode in MODES.iter().chain(&["direct"]) {
        let (code, rsup) = command(&["sh", "-c", "echo ran >ran"]).args(&["--output", mode]).run();
        assert_eq!((code, rsup.read("ran").as_str()), (2, ""), "{mode}");
    }
}

/// A program that runs a script in Python.
fn python_program(name: &str) -> String {
    program(name, &format!("python3 -IS {name}.py")) + "startsecs=0\n"
}

/// What a program of this kind prints, in a mode, up to a line that contains `end`.
fn printed(mode: &str, script: &str) -> Vec<Vec<u8>> {
    let setup = in_mode(mode, &python_program("job"));
    let script = format!("import os, time\n{script}\nos.write(1, b'end\\n')\ntime.sleep(1000)\n");
    let setup = setup.file("job.py", &script, 0o644);
    let reader = all_lines(&setup.path("pipe"));
    let mut rsup = setup.start();
    reader.find("the last line", |lines| lines.iter().any(|line| line.text().contains("end")).then_some(()));
    assert_eq!(rsup.stop(), 0);
    let mut lines: Vec<_> = reader.end().into_iter().map(|line| line.text).collect();
    lines.pop();
    lines
}

/// The messages of JSON lines.
fn messages(lines: &[Vec<u8>]) -> Vec<String> {
    let object = |line: &Vec<u8>| serde_json::from_slice::<Value>(line).unwrap();
    lines.iter().map(|line| object(line)["message"].as_str().unwrap().to_owned()).collect()
}

/// Writes of any bytes, as Python.
const ANY_BYTES: &str = r#"
os.write(1, b'quote " backslash \\ tab \t escape \x1b[1m bell \x07 nul \0 delete \x7f\n')
os.write(1, 'ä € 😀 \u2028\n'.encode())
os.write(1, b'no UTF-8: \xff \xc3( \x80 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf \xf5\x80\x80\x80 .\n')
os.write(1, b'\n')
os.write(1, b'   blanks   \r\n')
os.write(1, b'two\nlines\n')
os.write(1, b'in ')
os.write(1, b'parts\n')
"#;

#[test]
fn json_escapes_what_is_not_utf8() {
    needs!(python());
    let lines = messages(&printed("json", ANY_BYTES));
    let lower: Vec<_> = lines.iter().map(String::as_str).collect();
    assert_eq!(lower[0], "quote \" backslash \\ tab \t escape \u{1b}[1m bell \u{7} nul \0 delete \u{7f}");
    assert_eq!(lower[1], "ä € 😀 \u{2028}");
    let escaped = r"no UTF-8: \xff \xc3( \x80 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf \xf5\x80\x80\x80 .";
    assert_eq!(lower[2].to_lowercase(), escaped.to_lowercase());
    assert_eq!(lower[3], "");
    assert!(["   blanks   \r", "   blanks   "].contains(&lower[4]), "{:?}", lower[4]);
    assert_eq!(lower[5..], ["two", "lines", "in parts"]);
}

#[test]
fn any_byte_passes_in_the_other_modes() {
    needs!(python());
    for (mode, prefix) in [("lines", ""), ("prefix", "job | ")] {
        let lines = printed(mode, ANY_BYTES);
        let expected: [&[u8]; 8] = [
            b"quote \" backslash \\ tab \t escape \x1b[1m bell \x07 nul \0 delete \x7f",
            "ä € 😀 \u{2028}".as_bytes(),
            b"no UTF-8: \xff \xc3( \x80 \xe2\x82 \xf0\x9f\x98 \xed\xa0\x80 \xc0\xaf \xf5\x80\x80\x80 .",
            b"",
            b"   blanks   \r",
            b"two",
            b"lines",
            b"in parts",
        ];
        let expected = expected.map(|line| [prefix.as_bytes(), line].concat());
        let shown = |lines: &[Vec<u8>]| -> Vec<String> {
            lines.iter().map(|line| line.escape_ascii().to_string()).collect()
        };
        assert_eq!(shown(&lines), shown(&expected), "{mode}");
    }
}

#[test]
fn a_very_long_line_is_split() {
    needs!(python());
    const LONGEST: usize = 64 * 1024;
    let long: String = (0..50_000).map(|number| format!("{number:06}")).collect();
    let script = "os.write(1, b'before\\n')\n\
                  data = b''.join(b'%06d' % n for n in range(50000)) + b'\\nafter\\n'\n\
                  while data: data = data[os.write(1, data):]";
    for mode in MODES {
        let lines = printed(mode, script);
        let lines: Vec<String> = match mode {
            "json" => messages(&lines),
            _ => lines.into_iter().map(|line| String::from_utf8(line).unwrap()).collect(),
        };
        let prefix = if mode == "prefix" { "job | " } else { "" };
        let lines: Vec<_> = lines.iter().map(|line| line.strip_prefix(prefix).unwrap()).collect();
        let (last, parts) = lines[1..].split_last().unwrap();
        assert_eq!((lines[0], *last), ("before", "after"), "{mode}");
        assert!(parts.concat() == long, "{mode}: the parts are not the line");
        let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
        // The newline may count.
        assert!(lengths.iter().all(|length| *length <= LONGEST), "{mode}: {lengths:?}");
        assert!(lengths.len() <= 10, "{mode}: {lengths:?}");
    }
}

#[test]
fn json_lines_of_bytes_that_are_all_escaped_are_whole() {
    needs!(python());
    for (byte, shown) in [(r"\xff", r"\xff"), (r"\x01", "\u{1}"), (r"\\", "\\"), ("\"", "\"")] {
        let script = format!(
            "data = b'before\\n' + b'{byte}' * 100000 + b'\\nafter\\n'\nwhile data: data = data[os.write(1, data):]"
        );
        let lines = messages(&printed("json", &script));
        let (first, rest) = lines.split_first().unwrap();
        let (last, parts) = rest.split_last().unwrap();
        assert_eq!((first.as_str(), last.as_str()), ("before", "after"), "{byte}");
        assert!(parts.concat() == shown.repeat(100_000), "{byte}: {} characters", parts.concat().len());
    }
}

#[test]
fn a_line_without_end_goes_on_when_the_relay_is_killed() {
    needs!(python());
    let endless = r"
import os, time
n = 0
while True:
    os.write(1, b''.join(b'%09d,' % number for number in range(n, n + 100)))
    n += 100
    time.sleep(0.001)
";
    each(&MODES, |mode| {
        let setup = in_mode(mode, &python_program("job")).file("job.py", endless, 0o644);
        let reader = all_lines(&setup.path("pipe"));
        let mut rsup = setup.start();
        let mut last = 0;
        for _ in 0..4 {
            let pid = relay_but(&rsup, last);
            let before = reader.find("the lines so far", |lines| Some(lines.len()));
            let more = |lines: &Vec<Arrived>| (lines.len() >= before + 3).then_some(());
            if reader.find_within(Duration::from_secs(20), more).is_none() {
                return Err(format!("{mode}: nothing arrives after the end of relay {last}"));
            }
            kill(pid, SIGKILL);
            last = pid;
        }
        assert_eq!(rsup.stop(), 0, "{mode}");
        drop(reader.end());
        Ok(())
    });
}

#[test]
fn the_next_run_begins_with_a_new_line_when_the_relay_was_killed_inside_a_line() {
    needs!(python());
    let runs = r"
import os, time
if os.path.exists('part'):
    os.write(1, b'first\nsecond\n')
    time.sleep(1000)
os.write(1, b'part')
open('part', 'w')
while not os.path.exists('go'):
    time.sleep(0.01)
";
    each(&MODES, |mode| {
        let conf = python_program("job") + "autorestart=true\n";
        let setup = in_mode(mode, &conf).file("job.py", runs, 0o644);
        let reader = all_lines(&setup.path("pipe"));
        let mut rsup = setup.start();
        let pid = relay(&rsup);
        eventually("the part is written", || rsup.path("part").exists().then_some(()));
        eventually("the relay sleeps", || (proc::process(pid)?.state == 'S').then_some(()));
        kill(pid, SIGKILL);
        relay_but(&rsup, pid);
        rsup.touch("go");
        let has = |lines: &[Arrived], text: &str| lines.iter().any(|line| line.text().contains(text));
        reader.find("the second line", |lines| has(lines, "second").then_some(()));
        assert_eq!(rsup.stop(), 0, "{mode}");
        let lines = reader.end();
        has(&lines, "first")
            .then_some(())
            .ok_or_else(|| format!("{mode}: {:?}", lines.iter().map(Arrived::text).collect::<Vec<_>>()))
    });
}

/// Milliseconds since the start of 1970.
fn milliseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The number of milliseconds from a text that contains the time at which it was written, as `<milliseconds>`, to its
/// arrival.
fn delay(line: &Arrived) -> u64 {
    let text = line.text();
    let written = text.split_once('<').unwrap().1.split_once('>').unwrap().0;
    milliseconds(line.at).saturating_sub(written.parse().unwrap())
}

/// A set-up of the program `job`, which writes an unfinished line and then runs Python statements, next to a program
/// that writes a line every 20 ms. With the latter's lines, the test sees that an unfinished line gets a newline.
fn unfinished(mode: &str, then: &str) -> Setup {
    let job = format!("import os, time\nos.write(1, b'part <%d>' % (time.time() * 1000))\n{then}\n");
    let other = "import os, time\nwhile True:\n os.write(1, b'whole\\n')\n time.sleep(0.02)\n";
    let conf = python_program("job") + "autorestart=true\n" + &python_program("other");
    in_mode(mode, &conf).file("job.py", &job, 0o644).file("other.py", other, 0o644)
}

/// The delays of the first unfinished lines.
fn delays(setup: Setup, count: usize) -> Vec<u64> {
    let reader = all_lines(&setup.path("pipe"));
    let mut rsup = setup.start();
    let is_part = |line: &&Arrived| line.text().contains("part <");
    let found = reader.find("the unfinished lines", |lines| {
        let parts: Vec<_> = lines.iter().filter(is_part).map(delay).collect();
        (parts.len() >= count).then_some(parts)
    });
    assert_eq!(rsup.stop(), 0);
    for line in reader.end() {
        let text = line.text();
        assert!(!(text.contains("part") && text.contains("whole")), "two programs in one line: {text:?}");
    }
    found
}

#[test]
fn an_unfinished_line_appears_after_a_second() {
    needs!(python());
    each(&MODES, |mode| {
        let delays = delays(unfinished(mode, "time.sleep(2)"), 3);
        // A busy machine may delay one of the lines.
        let is_good = delays.iter().all(|delay| *delay >= 900) && delays.iter().any(|delay| *delay <= 1500);
        is_good.then_some(()).ok_or_else(|| format!("{mode}: {delays:?}"))
    });
}

#[test]
fn an_unfinished_line_appears_at_once_when_the_program_has_died() {
    needs!(python());
    each(&MODES, |mode| {
        let delays = delays(unfinished(mode, "raise SystemExit(0)"), 4);
        let is_good = delays.iter().any(|delay| *delay <= 500);
        is_good.then_some(()).ok_or_else(|| format!("{mode}: {delays:?}"))
    });
}

#[test]
fn further_output_delays_an_unfinished_line() {
    needs!(python());
    let then = "for n in range(12):\n time.sleep(0.25)\n os.write(1, b'%d,' % n)\nos.write(1, b'\\n')\ntime.sleep(100)";
    let setup = unfinished("lines", then);
    let reader = all_lines(&setup.path("pipe"));
    let mut rsup = setup.start();
    let line =
        reader.find("the line", |lines| lines.iter().find(|line| line.text().contains("part")).cloned());
    assert_eq!(rsup.stop(), 0);
    assert!(line.text().ends_with(">0,1,2,3,4,5,6,7,8,9,10,11,"), "{:?}", line.text());
}

/// Removes the escape sequences that set colours.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').unwrap().1)
}

/// What a terminal shows of a program in a mode, with a variable in rsup's environment.
fn on_terminal(mode: &str, variable: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let conf =
        script("web", "echo hello; exec sleep 1000") + "startsecs=0\n" + &program("longer", "sleep 1000");
    std::fs::write(dir.path().join(CONF), conf).unwrap();
    let binary = std::fs::canonicalize(binary()).unwrap();
    let words = ["env", "TERM=xterm", variable, shown(&binary), "--output", mode, "-c", CONF];
    let mut terminal = Terminal::start(&words, dir.path());
    terminal.expect("hello");
    terminal.expect("success: longer");
    terminal.enter("\x03");
    assert_eq!(terminal.exit_code(), 0);
    terminal.shown().to_owned()
}

#[test]
fn names_are_in_colour_only_on_a_terminal_and_not_with_no_color() {
    let coloured = on_terminal("prefix", "X=1");
    let line = coloured.lines().find(|line| line.contains("hello")).unwrap();
    assert!(line.contains("\x1b["), "{line:?}");
    assert_eq!(without_colours(line).trim_end(), "web    | hello");
    assert!(line.trim_end().ends_with("hello"), "only the name is coloured: {line:?}");
    let plain = on_terminal("prefix", "NO_COLOR=1");
    assert!(!plain.contains('\x1b') && plain.contains("web    | hello"), "{plain:?}");
    for mode in ["lines", "json"] {
        assert!(!on_terminal(mode, "X=1").contains('\x1b'), "{mode}");
    }
}

#[test]
fn a_terminal_shows_progress_at_once() {
    for mode in ["lines", "prefix"] {
        let dir = tempfile::tempdir().unwrap();
        let bar = r#"
            n=0
            while :; do
                n=$((n + 1))
                printf "<$n>\r"
                touch wrote$n
                until [ -e go$n ]; do sleep 0.01; done
            done
        "#;
        let conf = program("bar", "sh bar.sh") + "startsecs=0\n";
        std::fs::write(dir.path().join(CONF), conf).unwrap();
        std::fs::write(dir.path().join("bar.sh"), bar).unwrap();
        let binary = std::fs::canonicalize(binary()).unwrap();
        let words = ["env", "NO_COLOR=1", shown(&binary), "--output", mode, "-c", CONF];
        let mut terminal = Terminal::start(&words, dir.path());
        let mut at_once = 0;
        for number in 1..=6 {
            eventually("progress is written", || {
                dir.path().join(format!("wrote{number}")).exists().then_some(())
            });
            let text = format!("<{number}>\r");
            let soon = within(Duration::from_millis(500), || terminal.shown().contains(&text).then_some(()));
            at_once += u32::from(soon.is_some());
            terminal.expect(&text);
            std::fs::write(dir.path().join(format!("go{number}")), "").unwrap();
        }
        // A busy machine may delay some of them. Progress that is written after a second is never in time.
        assert!(at_once >= 3, "{mode}: {at_once} of 6");
        terminal.enter("\x03");
        assert_eq!(terminal.exit_code(), 0, "{mode}");
    }
}

#[test]
fn streams_that_are_rsups_own_under_another_name_pass_through_the_relay() {
    let keys = [
        ("auto", "stdout_logfile=AUTO\nstderr_logfile=AUTO\n"),
        ("device", "stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\nstderr_logfile=/dev/stderr\n"),
        ("number", "stdout_logfile=/dev/fd/1\nstderr_logfile=/proc/self/fd/2\nstderr_logfile_maxbytes=0\n"),
        ("syslog", "stdout_logfile=syslog\nstderr_logfile=syslog\n"),
        ("crossed", "stdout_logfile=/dev/stderr\nstderr_logfile=/dev/stdout\n"),
        ("none", "stdout_logfile=NONE\nstderr_logfile=NONE\n"),
        ("joined", "redirect_stderr=true\n"),
        ("file", "stdout_logfile=%(here)s/log\nstderr_logfile=%(here)s/log\nstdout_logfile_maxbytes=0\n"),
    ];
    let conf: String = keys.iter().map(|(name, keys)| speaker(name) + keys).collect();
    let [out, err] = both_outputs(in_mode("prefix", &conf), [7, 5]);
    let lines = ["auto    | out", "crossed | err", "device  | out", "joined  | err", "joined  | out"];
    assert_eq!(out, [&lines[..], &["number  | out", "syslog  | out"]].concat());
    assert_eq!(err, ["auto    | err", "crossed | out", "device  | err", "number  | err", "syslog  | err"]);
}

#[test]
fn without_a_mode_no_relay_runs() {
    for conf in ["", "[supervisord]\noutput=direct\n"] {
        let plain = "stdout_logfile=%(here)s/log\nstdout_logfile_maxbytes=0\n";
        let none = "stdout_logfile=NONE\n";
        let conf = conf.to_owned() + &speaker("a") + plain + &speaker("b") + none + &speaker("c");
        let mut rsup: Rsup = rsup(&conf).start();
        rsup.expect_all(&["success: a", "success: b", "success: c"]);
        assert_eq!(relays(&rsup), [0; 0]);
        assert_eq!(rsup.stop(), 0);
    }
}

#[test]
fn a_mode_has_one_relay_whose_name_is_rsup_relay() {
    for mode in MODES {
        let setup = in_mode(mode, &named_programs());
        let reader = all_lines(&setup.path("pipe"));
        let mut rsup = setup.start();
        reader.find("all lines", |lines| (lines.len() == 5).then_some(()));
        assert_eq!(relays(&rsup), [relay(&rsup)], "{mode}");
        assert_eq!(rsup.stop(), 0, "{mode}");
    }
}
