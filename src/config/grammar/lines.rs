//! Physical lines to logical lines, by the rules of Python's `RawConfigParser` as supervisord sets it up (not strict,
//! inline comments with `;` and `#`). They are pieces of the text wherever that is possible: nothing is copied but
//! values that go over several lines.

use std::borrow::Cow;

use super::python::{is_space, repr, strip, strip_end};

/// What a logical line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogicalLine<'a> {
    /// The header of a section: its name, not stripped.
    Header(&'a str),
    /// A key in lower case, and its value.
    Entry(Cow<'a, str>, Cow<'a, str>),
    /// No configuration: supervisord's words for it.
    Wrong(String),
    /// What is left of a line whose comment begins inside quotes; the line itself comes too.
    CommentInsideQuotes(&'a str),
    /// A line that is part of the value above it, being indented, though it reads as a header or an entry: its name.
    IndentedEntry(&'a str),
}

/// Reads a whole file: hands out each line with the number of its first one. A byte order mark is skipped.
pub(crate) fn read<'a>(text: &'a str, take: impl FnMut(usize, LogicalLine<'a>)) {
    let mut reader = LineReader { take, in_section: false, lack_reported: false, pending: None, indent: 0 };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in physical(text).zip(1..) {
        reader.line(line, number);
    }
    reader.finish_option();
}

/// Lines end at `\n`, `\r\n` and a lone `\r`, as in Python's text mode, and at nothing else.
fn physical(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Where the comment of a line begins.
///
/// A `;` or `#` counts in the first column and behind a blank; quotes protect nothing. Python looks at the first `;`
/// and the first `#` together, then at the second of each, and stops at the first pass with a hit: in `a#b #c ;d`
/// the first `#` does not count and the first `;` does, so ` #c` stays.
fn comment_start(line: &str) -> Option<usize> {
    if !line.contains(';') && !line.contains('#') {
        return None;
    }
    if strip(line).starts_with(['#', ';']) {
        return Some(0);
    }
    let mut semicolons = line.match_indices(';');
    let mut hashes = line.match_indices('#');
    loop {
        let pass = [semicolons.next(), hashes.next()];
        let hit = pass.iter().flatten().map(|(at, _)| *at).filter(|at| follows_blank(line, *at)).min();
        if hit.is_some() || pass.iter().all(Option::is_none) {
            return hit;
        }
    }
}

fn follows_blank(line: &str, at: usize) -> bool {
    let before = line.get(..at).and_then(|before| before.chars().next_back());
    before.is_none_or(is_space)
}

/// Whether a quote is open at the end of the text.
fn is_inside_quotes(text: &str) -> bool {
    let mut open = None;
    for c in text.chars().filter(|c| matches!(c, '"' | '\'')) {
        match open {
            None => open = Some(c),
            Some(quote) if quote == c => open = None,
            Some(_) => {}
        }
    }
    open.is_some()
}

/// The name in a section header: everything up to the last `]`, not stripped, and what follows is ignored.
fn header(value: &str) -> Option<&str> {
    let (name, _) = value.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// The key and the value of an entry: what stands before and behind the first `=` or `:`.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(['=', ':'])?;
    Some((strip_end(key), strip(value)))
}

/// An entry that may still be continued.
#[derive(Debug)]
struct Pending<'a> {
    key: &'a str,
    value: Cow<'a, str>,
    line: usize,
    /// Empty lines since: part of the value once it goes on.
    blanks: usize,
}

struct LineReader<'a, F> {
    take: F,
    /// Whether a header was seen, and whether its lack was reported.
    in_section: bool,
    lack_reported: bool,
    pending: Option<Pending<'a>>,
    /// The indentation of the last header or entry.
    indent: usize,
}

impl<'a, F: FnMut(usize, LogicalLine<'a>)> LineReader<'a, F> {
    fn line(&mut self, line: &'a str, number: usize) {
        let comment = comment_start(line);
        let kept = comment.and_then(|at| line.get(..at)).unwrap_or(line);
        let value = strip(kept);
        if value.is_empty() {
            self.blank(comment.is_some());
            return;
        }
        if comment.is_some() && is_inside_quotes(kept) {
            (self.take)(number, LogicalLine::CommentInsideQuotes(value));
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        match &mut self.pending {
            Some(pending) if indent > self.indent => {
                pending.go_on(value);
                if let Some(name) = header(value).or_else(|| entry(value).map(|(key, _)| key)) {
                    (self.take)(number, LogicalLine::IndentedEntry(name));
                }
            }
            _ => {
                self.indent = indent;
                self.header_or_option(line, value, number);
            }
        }
    }

    /// An empty line belongs to the value before it (which matters when the value goes on), a comment does not.
    fn blank(&mut self, comment: bool) {
        if let Some(pending) = self.pending.as_mut().filter(|_| !comment) {
            pending.blanks = pending.blanks.saturating_add(1);
        }
    }

    fn header_or_option(&mut self, line: &str, value: &'a str, number: usize) {
        if let Some(name) = header(value) {
            self.finish_option();
            self.in_section = true;
            (self.take)(number, LogicalLine::Header(name));
        } else if !self.in_section {
            self.outside(value, number);
        } else {
            self.option(line, value, number);
        }
    }

    /// Python gives up here; the rest is read on for what else is wrong, and this is said once.
    fn outside(&mut self, value: &str, number: usize) {
        if !self.lack_reported {
            self.lack_reported = true;
            let hint = if value.starts_with('[') { " A section's header ends with ]" } else { "" };
            (self.take)(number, LogicalLine::Wrong(format!("File contains no section headers.{hint}")));
        }
    }

    fn option(&mut self, line: &str, value: &'a str, number: usize) {
        let Some((key, value)) = entry(value) else {
            self.malformed(line, number);
            return;
        };
        self.finish_option();
        if key.is_empty() {
            self.malformed(line, number);
        } else {
            self.pending = Some(Pending { key, value: value.into(), line: number, blanks: 0 });
        }
    }

    fn malformed(&mut self, line: &str, number: usize) {
        (self.take)(number, LogicalLine::Wrong(format!("Source contains parsing errors: {}", repr(line))));
    }

    fn finish_option(&mut self) {
        if let Some(Pending { key, value, line, .. }) = self.pending.take() {
            let key = if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
                key.to_ascii_lowercase().into()
            } else {
                key.into()
            };
            (self.take)(line, LogicalLine::Entry(key, value));
        }
    }
}

impl Pending<'_> {
    /// Takes in a further line.
    fn go_on(&mut self, more: &str) {
        let value = self.value.to_mut();
        for _line_end in 0..=std::mem::take(&mut self.blanks) {
            value.push('\n');
        }
        value.push_str(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries and headers as `LINE:[NAME]` and `LINE:KEY=VALUE`, and what is wrong.
    fn lines(text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        read(text, |number, line| match line {
            LogicalLine::Header(name) => lines.push(format!("{number}:[{name}]")),
            LogicalLine::Entry(key, value) => lines.push(format!("{number}:{key}={value}")),
            LogicalLine::Wrong(why) => wrong.push((number, why)),
            LogicalLine::CommentInsideQuotes(rest) => wrong.push((number, format!("cut: {rest}"))),
            LogicalLine::IndentedEntry(_) => {}
        });
        (lines, wrong)
    }

    #[test]
    fn comments_begin_where_python_says() {
        let table = [
            ("a=1 ; c", Some(4)),
            ("a=1;c", None),
            ("a=1\t#c", Some(4)),
            (";c", Some(0)),
            ("  # c", Some(0)),
            ("a=b#c ;d", Some(6)),
            ("a#b #c ;d", Some(7)),
            ("a;b;c ;d", Some(6)),
            ("x\u{a0};y", Some(3)),
            ("sh -c \"a ; b\"", Some(9)),
            ("plain", None),
        ];
        for (line, want) in table {
            assert_eq!(comment_start(line), want, "{line:?}");
        }
    }

    #[test]
    fn lines_end_as_in_text_mode() {
        let lines: Vec<_> = physical("a\r\nb\rc\n\nd\u{2028}e\u{c}f").collect();
        assert_eq!(lines, ["a", "b", "c", "", "d\u{2028}e\u{c}f"]);
        let lines: Vec<_> = physical("a\r\r\nb\n\rc\r\r\rd").collect();
        assert_eq!(lines, ["a", "", "b", "", "c", "", "", "d"]);
    }

    #[test]
    fn logical_lines() {
        let table: [(&str, &[&str]); 9] = [
            ("[s]\na = 1\n  2\n\n  3 ; c\n\n", &["1:[s]", "2:a=1\n2\n\n3"]),
            ("[s]\na=1\n  ; no part of it\n  2", &["1:[s]", "2:a=1\n2"]),
            ("[s]\na=\n  1\n", &["1:[s]", "2:a=\n1"]),
            ("  [s]\n  A: 1\n  b=2\n", &["1:[s]", "2:a=1", "3:b=2"]),
            ("[s]\na=1\n [t]\n b=2\n", &["1:[s]", "2:a=1\n[t]\nb=2"]),
            ("[ s ] junk\n", &["1:[ s ]"]),
            ("[a]b]\n[program:y\n[x=1\n", &["1:[a]b]", "2:[program=y", "3:[x=1"]),
            ("[s]\na=x \\\nb=\\n", &["1:[s]", "2:a=x \\", "3:b=\\n"]),
            ("\u{feff}[s]\r\na=\r\n", &["1:[s]", "2:a="]),
        ];
        for (text, want) in table {
            assert_eq!(
                lines(text),
                (want.iter().map(|line| (*line).to_owned()).collect(), vec![]),
                "{text:?}"
            );
        }
    }

    #[test]
    fn every_bad_line_is_named() {
        let (read, wrong) = lines("foo=1\nbar=2\n[s]\nx=1\ngarbage line\n  goes on\n=3\ny='a ; b'\n");
        let wrong: Vec<_> = wrong.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(
            wrong,
            [
                (1, "File contains no section headers."),
                (5, "Source contains parsing errors: 'garbage line'"),
                (7, "Source contains parsing errors: '=3'"),
                (8, "cut: y='a"),
            ]
        );
        assert_eq!(read, ["3:[s]", "4:x=1\ngoes on", "8:y='a"]);
        let (_, wrong) = lines("[program:x\ncommand=y\n");
        assert_eq!(
            wrong,
            [(1, "File contains no section headers. A section's header ends with ]".to_owned())]
        );
    }
}
