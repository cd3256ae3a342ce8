//! Programs that write numbered lines as fast as they can, and the check of the lines that arrive.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::program;

/// The file `load.py` of a set-up.
pub(super) const LOAD: &str = include_str!("load.py");

/// The most that the relay may lose of one stream when it is killed.
pub(super) const HELD: u64 = 64 * 1024;

/// A program that writes lines of `size` bytes to these streams: `count` lines, or with 0 until the file `stop` exists.
pub(super) fn writer(name: &str, streams: &str, size: usize, count: u64) -> String {
    program(name, &format!("python3 -IS load.py {name} {streams} {size} {count}")) + "startsecs=0\n"
}

/// The line without its newline, as load.py writes it.
fn expected(name: &str, stream: &str, number: u64, size: usize) -> String {
    let head = format!("{name} {stream} {number} ");
    let letter = char::from(b'a' + u8::try_from(number % 26).unwrap()).to_string();
    let filler = if number.is_multiple_of(50) { "\"\\\t" } else { &letter };
    let room = size - head.len() - 2;
    let filler = filler.repeat(room.div_ceil(filler.len()));
    format!("{head}{}.", &filler[..room])
}

/// What has arrived of one stream of one program.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The number of the next line.
    next: u64,
    pub(super) arrived: u64,
    pub(super) lost: u64,
    /// The number of lines, which the last line says.
    pub(super) end: Option<u64>,
}

/// What has arrived, with the size of the lines as `SIZE`.
#[derive(Debug, Default)]
pub(super) struct Tally<const SIZE: usize> {
    pub(super) streams: BTreeMap<(String, String), Stream>,
    /// rsup's own lines.
    pub(super) own: Vec<String>,
    /// The lines that are not whole, not in order or not in the right form.
    pub(super) wrong: Vec<String>,
}

impl<const SIZE: usize> Tally<SIZE> {
    /// Takes a line of the mode `lines`.
    pub(super) fn plain(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if is_own(&line) { self.own.push(line.into_owned()) } else { self.take(&line) }
    }

    /// Takes a line of the mode `prefix`, where all names have the same length.
    pub(super) fn prefixed(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        match line.split_once(" | ") {
            _ if is_own(&line) => self.own.push(line.into_owned()),
            Some((name, rest)) if rest.split(' ').next() == Some(name) => self.take(rest),
            _ => self.reject("no prefix", &line),
        }
    }

    /// Takes a line of the mode `json`.
    pub(super) fn json(&mut self, line: &[u8]) {
        let object: Value = match serde_json::from_slice(line) {
            Ok(object) => object,
            Err(error) => return self.reject(&error.to_string(), &String::from_utf8_lossy(line)),
        };
        let text = |key: &str| object[key].as_str().unwrap_or_default();
        if !text("level").is_empty() {
            return self.own.push(text("message").to_owned());
        }
        let stream = if text("stream") == "stdout" { "1" } else { "2" };
        let head = format!("{} {stream} ", text("program"));
        if text("message").starts_with(&head) {
            self.take(text("message"));
        } else {
            self.reject("another program or stream", &String::from_utf8_lossy(line));
        }
    }

    fn take(&mut self, line: &str) {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        let [name, stream, number, rest] = words[..] else { return self.reject("torn", line) };
        let of_stream = self.streams.entry((name.to_owned(), stream.to_owned())).or_default();
        if number == "end" {
            of_stream.end = rest.parse().ok();
            of_stream.lost += of_stream.end.map_or(0, |end| end.saturating_sub(of_stream.next));
            return;
        }
        match number.parse() {
            Ok(number) if line == expected(name, stream, number, SIZE) => {
                if number < of_stream.next {
                    return self.reject("twice or out of order", line);
                }
                of_stream.lost += number - of_stream.next;
                of_stream.next = number + 1;
                of_stream.arrived += 1;
            }
            _ => self.reject("torn", line),
        }
    }

    fn reject(&mut self, why: &str, line: &str) {
        let length = line.len();
        let text = line.escape_debug().to_string();
        let shown = |text: &str| text.chars().take(100).collect::<String>();
        let end: String = text.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        self.wrong.push(format!("{why}: {length} bytes: {} … {end}", shown(&text)));
    }

    /// The number of lines that have arrived of each stream.
    pub(super) fn arrived(&self) -> Vec<u64> {
        self.streams.values().map(|stream| stream.arrived).collect()
    }

    /// Whether the last line of this many streams has arrived.
    pub(super) fn is_complete(&self, streams: usize) -> bool {
        self.streams.values().filter(|stream| stream.end.is_some()).count() == streams
    }

    /// Checks that every line was whole and in order, and that each stream lost at most this number of bytes.
    #[track_caller]
    pub(super) fn check(&self, streams: usize, may_lose: u64) {
        let some = &self.wrong[..self.wrong.len().min(10)];
        assert!(self.wrong.is_empty(), "{} lines are wrong:\n{}", self.wrong.len(), some.join("\n"));
        assert_eq!(self.streams.len(), streams, "{:?}", self.streams);
        for (name, stream) in &self.streams {
            assert!(stream.lost * SIZE as u64 <= may_lose, "{name:?} may lose {may_lose} bytes: {stream:?}");
            assert_eq!(stream.end, Some(stream.arrived + stream.lost), "{name:?}: {stream:?}");
        }
    }
}

/// Whether this is a line of rsup's log.
fn is_own(line: &str) -> bool {
    let levels = [" CRIT ", " ERRO ", " WARN ", " INFO ", " DEBG "];
    line.get(23..29).is_some_and(|level| levels.contains(&level)) && line.as_bytes()[10] == b' '
}
