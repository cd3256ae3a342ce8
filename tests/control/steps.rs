//! The format of transcript.txt. A line has one of these forms:
//!
//! | line | meaning |
//! |---|---|
//! | `# text` | a comment |
//! | `until NAME STATE` | wait until a process is in a state |
//! | `until FILE contains TEXT` | wait until a file contains a text, where a line break counts as a blank |
//! | `touch FILE`, `remove FILE` | create or delete a file |
//! | `$ WORD...` | run `supervisorctl WORD...`; a word with blanks is in double quotes |
//! | `$ WORD... &` | run it in the background |
//! | `$ wait` | wait until the command in the background has ended |
//!
//! These lines follow the line of a command:
//!
//! | line | meaning |
//! |---|---|
//! | `! CLASS` | the class of the difference between supervisord and rsup: one of `DIFFERENCES` in transcript.rs |
//! | `< LINE` | a line of the command's input |
//! | `- LINE` | a line of the output that only supervisord's client prints |
//! | `+ LINE` | a line of the output that only rsup's client prints |
//! | `2: LINE` | a line that is printed on stderr, after all lines of stdout |
//! | `-> N` | the exit status, which is the last line; with a `-` or a `+` in front if it differs |
//! | any other | a line of the output of both |
//!
//! In the output, `→` is a tab, `·` a blank at the end of a line, and `⏎` a missing end of the last line.

const TRANSCRIPT: &str = include_str!("transcript.txt");

/// Who runs the programs and who is the client.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Supervisord,
    Rsup,
}

pub(super) enum Step<'a> {
    Run(Run<'a>),
    /// Waits for the command in the background.
    Wait(Run<'a>),
    /// Waits until a process is in a state.
    State(&'a str, &'a str),
    /// Waits until a file contains a text.
    Contains(&'a str, &'a str),
    Touch(&'a str),
    Remove(&'a str),
}

/// A command and what it prints.
#[derive(Default)]
pub(super) struct Run<'a> {
    pub(super) line: &'a str,
    pub(super) class: Option<&'a str>,
    input: Vec<&'a str>,
    /// The lines of the output, each with the side that it belongs to, if it does not belong to both.
    output: Vec<(Option<Side>, &'a str)>,
}

impl<'a> Run<'a> {
    /// Reads the lines that follow the line of a command, up to its exit status.
    fn parse(line: &'a str, lines: &mut impl Iterator<Item = &'a str>) -> Self {
        let mut run = Self { line, ..Self::default() };
        while !run.is_complete() {
            let line = lines.next().unwrap_or_else(|| panic!("$ {}: no exit status", run.line));
            let (mark, text) = match line.split_at_checked(1) {
                Some((mark @ ("!" | "<" | "-" | "+"), "")) => (mark, ""),
                Some((mark @ ("!" | "<" | "-" | "+"), text)) if text.starts_with(' ') => (mark, &text[1..]),
                _ => ("", line),
            };
            match mark {
                "!" => run.class = Some(text),
                "<" => run.input.push(text),
                "-" => run.output.push((Some(Side::Supervisord), text)),
                "+" => run.output.push((Some(Side::Rsup), text)),
                _ => run.output.push((None, text)),
            }
        }
        run
    }

    /// Whether the exit status for each of the sides was read. A command in the background has no output here.
    fn is_complete(&self) -> bool {
        let has_status = |side| self.expected(side).last().is_some_and(|line| line.starts_with("-> "));
        self.line.ends_with(" &") || (has_status(Side::Supervisord) && has_status(Side::Rsup))
    }

    /// The arguments of supervisorctl.
    pub(super) fn words(&self) -> Vec<&'a str> {
        // Every other part is in quotes.
        let parts = self.line.trim_end_matches(" &").split('"').enumerate();
        let words = |(number, part): (usize, &'a str)| match number % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        };
        parts.flat_map(words).collect()
    }

    pub(super) fn input(&self) -> String {
        self.input.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The output that one side prints.
    pub(super) fn expected(&self, side: Side) -> Vec<&'a str> {
        let belongs = |(of, text): &(Option<Side>, &'a str)| of.is_none_or(|of| of == side).then_some(*text);
        self.output.iter().filter_map(belongs).collect()
    }
}

/// The steps of transcript.txt.
pub(super) fn steps() -> Vec<Step<'static>> {
    let mut lines = TRANSCRIPT.lines();
    let mut steps = vec![];
    while let Some(line) = lines.next() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        steps.push(match words[..] {
            [""] | ["#", ..] => continue,
            ["$", "wait"] => Step::Wait(Run::parse("wait", &mut lines)),
            ["$", ..] => Step::Run(Run::parse(line[1..].trim_start(), &mut lines)),
            ["until", process, state] => Step::State(process, state),
            ["until", file, "contains", text] => Step::Contains(file, text),
            ["touch", file] => Step::Touch(file),
            ["remove", file] => Step::Remove(file),
            _ => panic!("not a line of a transcript: {line:?}"),
        });
    }
    steps
}
