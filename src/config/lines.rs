//! Physical lines to logical lines, by the rules of Python's `RawConfigParser` as supervisord sets it up (not strict,
//! inline comments with `;` and `#`). The result is text that says the same in a form rust-ini cannot misread.

use super::python::{is_space, repr, strip, strip_end};

/// A file, read line by line.
#[derive(Debug, Default)]
pub(super) struct Logical {
    /// A text for each header: it and its entries, one per line, each with the number of its line in front:
    /// `[LINE:NAME;]`, `.KEY=LINE:VALUE`. The marks keep rust-ini from trimming what Python keeps; the rest is escaped.
    pub(super) canonical: Vec<String>,
    /// Lines that are no configuration, with supervisord's words for them.
    pub(super) errors: Vec<(usize, String)>,
    /// Lines whose comment starts inside quotes, with what is left of them.
    pub(super) cut_quotes: Vec<(usize, String)>,
}

/// Reads a whole file. A byte order mark is skipped.
pub(super) fn read(text: &str) -> Logical {
    let mut reader = Reader::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in physical(text).zip(1..) {
        reader.line(line, number);
    }
    reader.finish_option();
    reader.out
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
    if !line.bytes().any(|byte| matches!(byte, b';' | b'#')) {
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

/// An entry that may still be continued.
#[derive(Debug)]
struct Pending {
    key: String,
    value: String,
    line: usize,
}

#[derive(Debug, Default)]
struct Reader {
    out: Logical,
    /// Whether a header was seen, and whether its lack was reported.
    in_section: bool,
    lack_reported: bool,
    pending: Option<Pending>,
    /// The indentation of the last header or entry.
    indent: usize,
}

impl Reader {
    fn line(&mut self, line: &str, number: usize) {
        let comment = comment_start(line);
        let kept = comment.and_then(|at| line.get(..at)).unwrap_or(line);
        let value = strip(kept);
        if value.is_empty() {
            self.blank(comment.is_some());
            return;
        }
        if comment.is_some() && is_inside_quotes(kept) {
            self.out.cut_quotes.push((number, value.to_owned()));
        }
        let indent = line.chars().take_while(|c| is_space(*c)).count();
        match &mut self.pending {
            Some(pending) if indent > self.indent => {
                pending.value.push('\n');
                pending.value.push_str(value);
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
            pending.value.push('\n');
        }
    }

    fn header_or_option(&mut self, line: &str, value: &str, number: usize) {
        if let Some(name) = header(value) {
            self.finish_option();
            self.in_section = true;
            self.write_header(name, number);
        } else if !self.in_section {
            self.outside(number);
        } else {
            self.option(line, value, number);
        }
    }

    /// Python gives up here; the rest is read on for what else is wrong, and this is said once.
    fn outside(&mut self, number: usize) {
        if !self.lack_reported {
            self.lack_reported = true;
            self.out.errors.push((number, "File contains no section headers.".to_owned()));
        }
    }

    fn option(&mut self, line: &str, value: &str, number: usize) {
        let Some((key, value)) = value.split_once(['=', ':']) else {
            self.malformed(line, number);
            return;
        };
        self.finish_option();
        let key = strip_end(key).to_ascii_lowercase();
        if key.is_empty() {
            self.malformed(line, number);
        } else {
            self.pending = Some(Pending { key, value: strip(value).to_owned(), line: number });
        }
    }

    fn malformed(&mut self, line: &str, number: usize) {
        self.out.errors.push((number, format!("Source contains parsing errors: {}", repr(line))));
    }

    fn write_header(&mut self, name: &str, number: usize) {
        let mut text = format!("[{number}:");
        escape(&mut text, name);
        text.push_str(";]\n");
        self.out.canonical.push(text);
    }

    fn finish_option(&mut self) {
        let Some(Pending { key, value, line }) = self.pending.take() else { return };
        let Some(out) = self.out.canonical.last_mut() else { return };
        out.push('.');
        escape(out, &key);
        out.push_str(&format!("={line}:"));
        escape(out, strip_end(&value));
        out.push('\n');
    }
}

/// Writes text so that rust-ini's escapes give it back.
fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\n' | b'\\' | b']')) {
        let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(plain);
        out.push('\\');
        out.push(special.chars().next().filter(|c| *c != '\n').unwrap_or('n'));
        rest = special.get(1..).unwrap_or("");
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn logical_lines() {
        let table = [
            ("[s]\na = 1\n  2\n\n  3 ; c\n\n", "[1:s;]\n.a=2:1\\n2\\n\\n3\n"),
            ("[s]\na=1\n  ; no part of it\n  2", "[1:s;]\n.a=2:1\\n2\n"),
            ("  [s]\n  A: 1\n  b=2\n", "[1:s;]\n.a=2:1\n.b=3:2\n"),
            ("[s]\na=1\n [t]\n b=2\n", "[1:s;]\n.a=2:1\\n[t\\]\\nb=2\n"),
            ("[ s ] junk\n", "[1: s ;]\n"),
            ("[a]b]\n[program:y\n[x=1\n", "[1:a\\]b;]\n.[program=2:y\n.[x=3:1\n"),
            ("[s]\na=x \\\nb=\\n", "[1:s;]\n.a=2:x \\\\\n.b=3:\\\\n\n"),
            ("\u{feff}[s]\r\na=\r\n", "[1:s;]\n.a=2:\n"),
        ];
        for (text, want) in table {
            let got = read(text);
            assert_eq!(got.canonical.concat(), want, "{text:?}");
            assert!(got.errors.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_bad_line_is_named() {
        let got = read("foo=1\nbar=2\n[s]\nx=1\ngarbage line\n  goes on\n=3\n");
        let lines: Vec<_> = got.errors.iter().map(|(line, text)| (*line, text.as_str())).collect();
        assert_eq!(
            lines,
            [
                (1, "File contains no section headers."),
                (5, "Source contains parsing errors: 'garbage line'"),
                (7, "Source contains parsing errors: '=3'"),
            ]
        );
        assert_eq!(got.canonical.concat(), "[3:s;]\n.x=4:1\\ngoes on\n");
    }
}
