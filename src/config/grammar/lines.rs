//! Joins physical lines to logical lines, as Python's `configparser.RawConfigParser` does with the options that
//! supervisord sets: `strict=False` and `inline_comment_prefixes=(';', '#')`.
//!
//! rsup differs from Python in this: it skips a byte order mark, and it reads the whole file even if there are lines
//! before the first section header, so that one run finds all errors. Keys and values are slices of the text, except
//! for values of several lines and keys with upper-case letters.

use std::borrow::Cow;

use super::python::{is_space, repr, strip, strip_end};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogicalLine<'a> {
    /// The name in a section header. White space around the name is part of the name, as in Python.
    Header(&'a str),
    /// A key and its value. The ASCII letters of the key are in lower case. Python also changes other letters, but the
    /// keys of supervisord have only ASCII letters.
    Entry(Cow<'a, str>, Cow<'a, str>),
    /// The message of supervisord about a line that is not valid. The report adds the file and the line number.
    Invalid(String),
    /// The text before a comment that begins inside quotes, for a warning. The reader also reads this text in the usual
    /// way, for example as an entry.
    CommentInsideQuotes(&'a str),
    /// The name of the section or key in an indented line that looks like a header or an entry. Because of its
    /// indentation, the line continues the value above it.
    EntryLikeContinuation(&'a str),
}

/// Passes every logical line of a file to `on_line`, with the number of its first physical line.
pub(crate) fn read<'a>(text: &'a str, on_line: impl FnMut(usize, LogicalLine<'a>)) {
    let mut reader = LineReader {
        on_line,
        in_section: false,
        missing_header_reported: false,
        pending: None,
        base_indent: 0,
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in physical_lines(text).zip(1..) {
        reader.read_line(line, number);
    }
    reader.finish_entry();
}

/// Splits at `\n`, `\r\n` and a lone `\r`, as Python's text mode does, but not at U+2028, form feeds and similar.
fn physical_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// Returns the byte index at which the comment of a line begins.
///
/// A `;` or `#` begins a comment in the first column and after white space, even inside quotes. Python searches in
/// passes: the first pass looks at the first `;` and the first `#` of the line, the second pass at the second of each,
/// and so on. The search ends with the first pass that finds a comment. In `a#b #c ;d`, the first pass finds the `;`,
/// so the second `#` does not begin a comment.
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
        let next_semicolon_and_hash = [semicolons.next(), hashes.next()];
        let starts = next_semicolon_and_hash.iter().flatten().map(|(index, _)| *index);
        let hit = starts.filter(|index| follows_space(line, *index)).min();
        if hit.is_some() || next_semicolon_and_hash.iter().all(Option::is_none) {
            return hit;
        }
    }
}

fn follows_space(line: &str, index: usize) -> bool {
    let before = line.get(..index).and_then(|before| before.chars().next_back());
    before.is_none_or(is_space)
}

fn ends_inside_quotes(text: &str) -> bool {
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

/// Returns the name in a section header: the text up to the last `]` of the line. Python ignores the text after it.
fn header_name(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

/// Splits an entry at the first `=` or `:` into key and value.
fn split_entry(line: &str) -> Option<(&str, &str)> {
    let end = line.bytes().position(|byte| matches!(byte, b'=' | b':'))?;
    let (key, value) = line.split_at_checked(end)?;
    Some((strip_end(key), strip(value.get(1..)?)))
}

/// An entry whose value may continue in the next line.
#[derive(Debug)]
struct PendingEntry<'a> {
    key: &'a str,
    value: Cow<'a, str>,
    line: usize,
    /// The number of empty lines after the value. If the value continues, these lines become part of the value.
    empty_lines: usize,
}

struct LineReader<'a, F> {
    on_line: F,
    in_section: bool,
    missing_header_reported: bool,
    pending: Option<PendingEntry<'a>>,
    /// The indentation, in characters, of the last line that did not continue a value. Empty lines and comment lines do
    /// not count.
    base_indent: usize,
}

impl<'a, F: FnMut(usize, LogicalLine<'a>)> LineReader<'a, F> {
    fn read_line(&mut self, line: &'a str, number: usize) {
        let comment = comment_start(line);
        let kept = comment.and_then(|index| line.get(..index)).unwrap_or(line);
        let stripped = strip(kept);
        if stripped.is_empty() {
            if comment.is_none() {
                self.read_empty_line();
            }
            return;
        }
        if comment.is_some() && ends_inside_quotes(kept) {
            (self.on_line)(number, LogicalLine::CommentInsideQuotes(stripped));
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        match &mut self.pending {
            Some(pending) if indent > self.base_indent => {
                pending.append_line(stripped);
                let name = header_name(stripped).or_else(|| split_entry(stripped).map(|(key, _)| key));
                if let Some(name) = name {
                    (self.on_line)(number, LogicalLine::EntryLikeContinuation(name));
                }
            }
            _ => {
                self.base_indent = indent;
                self.read_header_or_entry(line, stripped, number);
            }
        }
    }

    fn read_empty_line(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.empty_lines = pending.empty_lines.saturating_add(1);
        }
    }

    fn read_header_or_entry(&mut self, line: &str, stripped: &'a str, number: usize) {
        if let Some(name) = header_name(stripped) {
            self.finish_entry();
            self.in_section = true;
            (self.on_line)(number, LogicalLine::Header(name));
        } else if !self.in_section {
            self.report_missing_header(stripped, number);
        } else {
            self.read_entry(line, stripped, number);
        }
    }

    /// Reports, only once, that there are lines before the first header. Python stops at the first such line.
    fn report_missing_header(&mut self, stripped: &str, number: usize) {
        if !self.missing_header_reported {
            self.missing_header_reported = true;
            let hint = if stripped.starts_with('[') { " A section's header ends with ]" } else { "" };
            let why = format!("File contains no section headers.{hint}");
            (self.on_line)(number, LogicalLine::Invalid(why));
        }
    }

    fn read_entry(&mut self, line: &str, stripped: &'a str, number: usize) {
        let Some((key, value)) = split_entry(stripped) else {
            self.report_parsing_error(line, number);
            return;
        };
        self.finish_entry();
        if key.is_empty() {
            self.report_parsing_error(line, number);
        } else {
            self.pending = Some(PendingEntry { key, value: value.into(), line: number, empty_lines: 0 });
        }
    }

    fn report_parsing_error(&mut self, line: &str, number: usize) {
        let why = format!("Source contains parsing errors: {}", repr(line));
        (self.on_line)(number, LogicalLine::Invalid(why));
    }

    fn finish_entry(&mut self) {
        if let Some(PendingEntry { key, value, line, .. }) = self.pending.take() {
            let key = if key.bytes().any(|byte| byte.is_ascii_uppercase()) {
                key.to_ascii_lowercase().into()
            } else {
                key.into()
            };
            (self.on_line)(line, LogicalLine::Entry(key, value));
        }
    }
}

impl PendingEntry<'_> {
    /// Appends a line and the empty lines before it.
    fn append_line(&mut self, line: &str) {
        let value = self.value.to_mut();
        for _line_end in 0..=std::mem::take(&mut self.empty_lines) {
            value.push('\n');
        }
        value.push_str(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the headers as `LINE:[NAME]` and the entries as `LINE:KEY=VALUE`, and separately the problems.
    fn lines(text: &str) -> (Vec<String>, Vec<(usize, String)>) {
        let mut lines = Vec::new();
        let mut wrong = Vec::new();
        read(text, |number, line| match line {
            LogicalLine::Header(name) => lines.push(format!("{number}:[{name}]")),
            LogicalLine::Entry(key, value) => lines.push(format!("{number}:{key}={value}")),
            LogicalLine::Invalid(why) => wrong.push((number, why)),
            LogicalLine::CommentInsideQuotes(kept) => wrong.push((number, format!("cut: {kept}"))),
            LogicalLine::EntryLikeContinuation(_) => {}
        });
        (lines, wrong)
    }

    #[test]
    fn comments_begin_where_python_finds_them() {
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
    fn lines_end_as_in_pythons_text_mode() {
        let lines: Vec<_> = physical_lines("a\r\nb\rc\n\nd\u{2028}e\u{c}f").collect();
        assert_eq!(lines, ["a", "b", "c", "", "d\u{2028}e\u{c}f"]);
        let lines: Vec<_> = physical_lines("a\r\r\nb\n\rc\r\r\rd").collect();
        assert_eq!(lines, ["a", "", "b", "", "c", "", "", "d"]);
    }

    #[test]
    fn physical_lines_become_headers_and_entries() {
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
    fn every_invalid_line_is_reported() {
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
