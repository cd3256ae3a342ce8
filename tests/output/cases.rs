//! The cases of the rotation test: what a program writes, what other programs do to its log files meanwhile, and the
//! keys of its section.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::rotation::Files;

/// What is in the directory before the first start.
#[derive(Clone, Copy)]
pub(super) enum Before {
    File(&'static str, usize),
    Private(&'static str, usize),
    Link(&'static str, &'static str),
}

impl Before {
    /// Creates the file. Its text names the file, so that the comparison shows where each file ends up.
    pub(super) fn create(self, directory: &Path) {
        match self {
            Self::File(name, size) | Self::Private(name, size) => {
                let path = directory.join(name);
                let text = format!("{name} existed before. ").repeat(size);
                fs::write(&path, &text[..size]).unwrap();
                let mode = if matches!(self, Self::Private(..)) { 0o600 } else { 0o644 };
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            Self::Link(name, target) => symlink(target, directory.join(name)).unwrap(),
        }
    }
}

/// The steps of one run of the program (see pieces.py).
pub(super) type Run = Vec<Value>;

/// One run of supervisord or rsup: the keys of the program's section, and what its runs do.
pub(super) struct Phase {
    pub(super) keys: &'static str,
    pub(super) runs: Vec<Run>,
}

/// How the two results are compared.
#[derive(Clone, Copy)]
pub(super) enum Compare {
    /// Every name, type, owner, mode and byte is the same.
    Same,
    /// The result depends on where pieces end, or the case belongs to an intended difference. The check sees the result
    /// of one side and returns what is wrong.
    Each(fn(&Files) -> Result<(), String>),
}

/// A case. Its log files are in a directory of its own; `DIR` in its keys stands for this directory.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) umask: &'static str,
    pub(super) before: Vec<Before>,
    pub(super) phases: Vec<Phase>,
    pub(super) compare: Compare,
}

impl Case {
    fn before(mut self, before: &[Before]) -> Self {
        self.before = before.to_vec();
        self
    }

    /// With one more run of the program in the same run of the server.
    fn then(mut self, run: Run) -> Self {
        self.phases.last_mut().unwrap().runs.push(run);
        self
    }

    /// With one more run of the server.
    fn again(mut self, keys: &'static str, run: Run) -> Self {
        self.phases.push(Phase { keys, runs: vec![run] });
        self
    }

    fn umask(mut self, umask: &'static str) -> Self {
        self.umask = umask;
        self
    }

    fn compare(mut self, check: fn(&Files) -> Result<(), String>) -> Self {
        self.compare = Compare::Each(check);
        self
    }
}

fn case(name: &'static str, keys: &'static str, run: Run) -> Case {
    let phases = vec![Phase { keys, runs: vec![run] }];
    Case { name, umask: "022", before: vec![], phases, compare: Compare::Same }
}

fn out(piece: impl Into<String>) -> Value {
    json!(["out", piece.into()])
}

fn err(piece: impl Into<String>) -> Value {
    json!(["err", piece.into()])
}

fn size(file: &str, bytes: usize) -> Value {
    json!(["size", file, bytes])
}

fn remove(file: &str) -> Value {
    json!(["remove", file])
}

/// Waits until no process has the file open. PID 1 reaps a program before the relay closes the file of the program.
fn closed(file: &str) -> Value {
    json!(["closed", file])
}

fn rename(from: &str, to: &str) -> Value {
    json!(["rename", from, to])
}

/// A line of 26 bytes.
pub(super) fn line(number: usize) -> String {
    format!("{number:025}\n")
}

/// Pieces of one line.
fn lines(numbers: std::ops::Range<usize>) -> Run {
    numbers.map(|number| out(line(number))).collect()
}

/// Joins the parts of a run.
fn run(parts: &[&[Value]]) -> Run {
    parts.concat()
}

/// Numbered lines of 300,000 bytes in total, which are one write.
pub(super) fn large() -> String {
    (0..12_000).map(|number| format!("{number:024}\n")).collect()
}

const BOTH: &str = "stdout_logfile_maxbytes=100\nstdout_logfile_backups=3\nstderr_logfile=DIR/err.log\n\
                    stderr_logfile_maxbytes=60\nstderr_logfile_backups=1\n";
const FROM_100_WITH_2: &str = "stdout_logfile_maxbytes=100\nstdout_logfile_backups=2\n";
const FROM_100_WITH_3: &str = "stdout_logfile_maxbytes=100\nstdout_logfile_backups=3\n";
const FROM_100_WITH_5: &str = "stdout_logfile_maxbytes=100\nstdout_logfile_backups=5\n";
const FROM_100_WITH_10: &str = "stdout_logfile_maxbytes=100\nstdout_logfile_backups=10\n";
const NEVER: &str = "stdout_logfile_maxbytes=0\n";

/// All cases.
pub(super) fn all() -> Vec<Case> {
    let mut cases = vec![];
    cases.extend(limits());
    cases.extend(earlier_files());
    cases.extend(streams());
    cases.extend(restarts());
    cases.extend(others());
    cases.extend(pieces());
    cases.extend(modes());
    cases
}

/// Sizes and numbers of backups.
fn limits() -> Vec<Case> {
    vec![
        case("every_piece_rotates", "stdout_logfile_maxbytes=1\nstdout_logfile_backups=3\n", lines(0..6)),
        case("every_line_rotates", "stdout_logfile_maxbytes=26\nstdout_logfile_backups=3\n", lines(0..6)),
        case("a_line_and_a_byte", "stdout_logfile_maxbytes=27\nstdout_logfile_backups=3\n", lines(0..7)),
        case("four_lines_three_backups", FROM_100_WITH_3, lines(0..22)),
        case("four_lines_ten_backups", FROM_100_WITH_10, lines(0..60)),
        case("thousand_bytes", "stdout_logfile_maxbytes=1000\nstdout_logfile_backups=2\n", lines(0..130)),
        case("one_kilobyte", "stdout_logfile_maxbytes=1KB\nstdout_logfile_backups=2\n", lines(0..130)),
        case("no_backup", "stdout_logfile_maxbytes=100\nstdout_logfile_backups=0\n", lines(0..10)),
        case("no_backup_and_empty", "stdout_logfile_maxbytes=100\nstdout_logfile_backups=0\n", lines(0..8)),
        case("one_backup", "stdout_logfile_maxbytes=100\nstdout_logfile_backups=1\n", lines(0..21)),
        case("two_backups", FROM_100_WITH_2, lines(0..21)),
        case("the_newest_file_is_empty", FROM_100_WITH_2, lines(0..20)),
        case("negative_backups", "stdout_logfile_maxbytes=100\nstdout_logfile_backups=-1\n", lines(0..10)),
        case("fewer_backups_than_before", FROM_100_WITH_10, lines(0..60))
            .again(FROM_100_WITH_2, lines(60..75)),
        case("more_backups_than_before", FROM_100_WITH_2, lines(0..30)).again(FROM_100_WITH_5, lines(30..50)),
        case("rotation_is_switched_on", NEVER, lines(0..10)).again(FROM_100_WITH_3, lines(10..20)),
        case("rotation_is_switched_off", FROM_100_WITH_3, lines(0..10)).again(NEVER, lines(10..20)),
        case("default_limits", "", lines(0..20)),
        case("never", NEVER, lines(0..20)),
    ]
}

/// Files that exist before the first start.
fn earlier_files() -> Vec<Case> {
    use Before::{File, Link, Private};
    let backups = [File("out.log.1", 50), File("out.log.2", 60)];
    vec![
        case("a_larger_file", FROM_100_WITH_2, lines(0..4)).before(&[File("out.log", 500)]),
        case("a_larger_file_and_one_line", FROM_100_WITH_2, lines(0..1)).before(&[File("out.log", 500)]),
        case("a_larger_file_and_no_output", FROM_100_WITH_2, vec![]).before(&[File("out.log", 500)]),
        case("a_file_below_the_limit", FROM_100_WITH_2, lines(0..3)).before(&[File("out.log", 30)]),
        case(
            "a_file_below_the_limit_without_backups",
            "stdout_logfile_maxbytes=100\nstdout_logfile_backups=0\n",
            lines(0..3),
        )
        .before(&[File("out.log", 30), File("out.log.1", 40)]),
        case("earlier_backups", FROM_100_WITH_3, lines(0..5)).before(&backups),
        case("earlier_backups_are_shifted_out", FROM_100_WITH_3, lines(0..14)).before(&backups),
        case("more_earlier_backups_than_allowed", FROM_100_WITH_2, lines(0..10)).before(&[
            File("out.log.1", 51),
            File("out.log.2", 52),
            File("out.log.3", 53),
            File("out.log.4", 54),
            File("out.log.10", 55),
        ]),
        case("a_gap_in_the_backups", FROM_100_WITH_5, lines(0..5))
            .before(&[File("out.log.1", 51), File("out.log.3", 53)]),
        case("a_gap_moves_up", FROM_100_WITH_5, lines(0..9))
            .before(&[File("out.log.2", 52), File("out.log.5", 55)]),
        case("no_first_backup", FROM_100_WITH_3, lines(0..5))
            .before(&[File("out.log.2", 52), File("out.log.3", 53)]),
        case("a_broken_link_as_the_first_backup", FROM_100_WITH_3, lines(0..10))
            .before(&[Link("out.log.1", "nowhere")]),
        case("a_broken_link_as_the_last_backup", FROM_100_WITH_2, lines(0..10))
            .before(&[File("out.log.1", 51), Link("out.log.2", "nowhere")]),
        case("a_broken_link_in_the_middle", FROM_100_WITH_5, lines(0..14)).before(&[
            File("out.log.1", 51),
            Link("out.log.2", "nowhere"),
            File("out.log.3", 53),
        ]),
        case("a_link_as_the_first_backup", FROM_100_WITH_3, lines(0..10))
            .before(&[Link("out.log.1", "other"), File("other", 10)]),
        case("a_link_as_the_last_backup", FROM_100_WITH_2, lines(0..14)).before(&[
            File("out.log.1", 51),
            Link("out.log.2", "other"),
            File("other", 10),
        ]),
        case("a_link_as_the_file", FROM_100_WITH_3, lines(0..10))
            .before(&[Link("out.log", "other"), File("other", 10)]),
        case("a_broken_link_as_the_file", FROM_100_WITH_3, lines(0..10)).before(&[Link("out.log", "other")]),
        case("a_private_file", FROM_100_WITH_3, lines(0..10)).before(&[Private("out.log", 10)]),
        case("other_names_stay", FROM_100_WITH_3, lines(0..30)).before(&[
            File("out.log.01", 10),
            File("out.log.4", 10),
            File("out.log.1.gz", 10),
            File("out.log.0", 10),
            File("out.log.", 10),
        ]),
    ]
}

/// stdout and stderr.
fn streams() -> Vec<Case> {
    let both = |numbers: std::ops::Range<usize>| -> Run {
        let pieces = |number| [out(line(number)), err(format!("error {}", line(number)))];
        numbers.flat_map(pieces).collect()
    };
    vec![
        case("two_files", BOTH, both(0..14)),
        case("only_the_second_stream", BOTH, (0..9).map(|number| err(line(number))).collect()),
        case(
            "one_pipe",
            "redirect_stderr=true\nstdout_logfile_maxbytes=100\nstdout_logfile_backups=3\n",
            both(0..11),
        ),
        case("one_pipe_without_rotation", "redirect_stderr=true\nstdout_logfile_maxbytes=0\n", both(0..11)),
        case("one_path_below_the_limit", "stderr_logfile=DIR/out.log\n", both(0..11)),
        case(
            "one_path_without_rotation",
            "stdout_logfile_maxbytes=0\nstderr_logfile=DIR/out.log\nstderr_logfile_maxbytes=0\n",
            both(0..11),
        ),
        case(
            "rotation_of_one_of_two",
            "stdout_logfile_maxbytes=0\nstderr_logfile=DIR/err.log\nstderr_logfile_maxbytes=80\n",
            both(0..11),
        ),
        case(
            "a_file_and_none",
            "stdout_logfile=NONE\nstderr_logfile=DIR/err.log\nstderr_logfile_maxbytes=80\nstderr_logfile_backups=2\n",
            both(0..11),
        ),
        case(
            "a_name_with_blanks",
            "stdout_logfile=DIR/a log file\nstdout_logfile_maxbytes=100\nstdout_logfile_backups=2\n",
            lines(0..10),
        ),
        case(
            "a_name_that_ends_in_a_number",
            "stdout_logfile=DIR/out.1\nstdout_logfile_maxbytes=100\nstdout_logfile_backups=2\n",
            lines(0..14),
        ),
    ]
}

/// Several runs of a program, and several of the server.
fn restarts() -> Vec<Case> {
    let leave = |number| vec![json!(["leave", line(number)])];
    vec![
        case("three_runs", FROM_100_WITH_3, lines(0..3)).then(lines(3..6)).then(lines(6..9)),
        case("a_run_ends_with_a_rotation", FROM_100_WITH_3, lines(0..4)).then(lines(4..6)),
        case("the_last_piece_of_a_run", FROM_100_WITH_3, leave(0)).then(leave(1)).then(lines(2..4)),
        case("a_run_without_output", FROM_100_WITH_3, vec![]).then(lines(0..5)),
        case("two_runs_of_the_server", FROM_100_WITH_3, lines(0..7)).again(FROM_100_WITH_3, lines(7..16)),
        case(
            "removed_between_two_runs",
            FROM_100_WITH_3,
            run(&[&lines(0..2), &[size("out.log", 52), remove("out.log")]]),
        )
        .then(run(&[&[closed("out.log (deleted)")], &lines(2..7)])),
        case(
            "renamed_between_two_runs",
            FROM_100_WITH_3,
            run(&[&lines(0..2), &[size("out.log", 52), rename("out.log", "old")]]),
        )
        .then(run(&[&[closed("old")], &lines(2..7)])),
        case(
            "a_limit_of_one_byte_in_two_runs",
            "stdout_logfile_maxbytes=1\nstdout_logfile_backups=2\n",
            lines(0..2),
        )
        .then(lines(2..4)),
    ]
}

/// Other programs remove or change the files.
fn others() -> Vec<Case> {
    let file = "out.log";
    let first = "out.log.1";
    let with = |numbers, steps: &[Value], more| run(&[&lines(numbers), steps, &lines(more)]);
    vec![
        case("a_backup_is_removed", FROM_100_WITH_3, with(0..5, &[size(file, 26), remove(first)], 5..9)),
        case(
            "the_middle_backup_is_removed",
            FROM_100_WITH_3,
            with(0..13, &[size(file, 26), remove("out.log.2")], 13..21),
        ),
        case(
            "all_backups_are_removed",
            FROM_100_WITH_2,
            with(0..9, &[size(file, 26), remove(first), remove("out.log.2")], 9..13),
        ),
        case(
            "a_backup_is_renamed",
            FROM_100_WITH_3,
            with(0..5, &[size(file, 26), rename(first, "kept")], 5..13),
        ),
        case(
            "truncated_by_others",
            FROM_100_WITH_3,
            with(0..3, &[size(file, 78), json!(["truncate", file])], 3..6),
        ),
        case(
            "truncated_by_others_then_rotated",
            FROM_100_WITH_3,
            with(0..3, &[size(file, 78), json!(["truncate", file])], 3..8),
        ),
        case(
            "others_append",
            FROM_100_WITH_3,
            with(0..2, &[size(file, 52), json!(["append", file, "x".repeat(40)])], 2..4),
        ),
        case(
            "the_mode_is_changed",
            FROM_100_WITH_3,
            with(0..2, &[size(file, 52), json!(["chmod", file, 0o640])], 2..6),
        ),
        case("removed_while_open", FROM_100_WITH_3, with(0..2, &[size(file, 52), remove(file)], 2..5))
            .compare(a_new_file_at_some_line),
    ]
}

/// rsup may notice at any line that the file is gone, because it looks at most once a second. supervisord notices it at
/// the next rotation.
fn a_new_file_at_some_line(files: &Files) -> Result<(), String> {
    let text = files.text("out.log")?;
    let may_be = |first| (first..5).map(line).collect::<String>() == text;
    let is_alone = files.names() == ["out.log"];
    (is_alone && (2..5).any(may_be)).then_some(()).ok_or_else(|| "not the last lines".into())
}

/// What is in a piece, and its size.
fn pieces() -> Vec<Case> {
    let large_write = || vec![out(large())];
    vec![
        case("no_output", FROM_100_WITH_3, vec![]),
        case("no_output_without_rotation", NEVER, vec![]),
        case("no_newline", FROM_100_WITH_3, (0..9).map(|_| out("no newline in this piece")).collect()),
        case(
            "only_newlines",
            "stdout_logfile_maxbytes=3\nstdout_logfile_backups=2\n",
            (0..10).map(|_| out("\n")).collect(),
        ),
        case(
            "nul_bytes_and_no_utf8",
            FROM_100_WITH_3,
            (0..7).map(|_| out("a\0b\0\0\u{ff}\u{fe}\u{80}\u{c3}(\r\n\r\x1b[31mred\x1b[0m\0")).collect(),
        ),
        case(
            "pieces_of_many_sizes",
            "stdout_logfile_maxbytes=1000\nstdout_logfile_backups=4\n",
            (0..60).map(|n| out("0123456789".repeat(n % 13 * n % 31))).collect(),
        ),
        case(
            "pieces_above_the_limit",
            FROM_100_WITH_2,
            (0..5).map(|n| out(line(n).repeat(10 + n))).collect(),
        ),
        case(
            "thirty_kilobytes_at_once",
            FROM_100_WITH_2,
            (0..4).map(|n| out(line(n).repeat(1200))).collect(),
        ),
        case(
            "a_page_at_once",
            "stdout_logfile_maxbytes=4096\nstdout_logfile_backups=3\n",
            (0..6).map(|n| out(format!("{n}").repeat(4096))).collect(),
        ),
        case("a_large_write_below_the_limit", "", large_write()),
        case("a_large_write_without_rotation", NEVER, large_write()),
        case("a_large_write_above_the_limit", FROM_100_WITH_2, large_write())
            .compare(the_end_of_the_large_write),
        case(
            "a_large_write_of_which_nothing_is_removed",
            "stdout_logfile_maxbytes=1000\nstdout_logfile_backups=1000\n",
            large_write(),
        )
        .compare(the_whole_large_write),
    ]
}

/// The backups, oldest first, and then the file, joined; each of them is at least as large as the limit and at most one
/// piece larger.
fn joined(files: &Files, limit: usize) -> Result<String, String> {
    let mut joined = String::new();
    let backups = files.names().len() - 1;
    for number in (1..=backups).rev() {
        let text = files.text(&format!("out.log.{number}"))?;
        let piece = 128 * 1024;
        if text.len() < limit || text.len() > limit + piece {
            return Err(format!("out.log.{number} has {} bytes", text.len()));
        }
        joined += &text;
    }
    let text = files.text("out.log")?;
    (text.len() < limit).then(|| joined + &text).ok_or_else(|| "out.log is as large as the limit".into())
}

fn the_end_of_the_large_write(files: &Files) -> Result<(), String> {
    let text = joined(files, 100)?;
    let is_good = files.names().len() == 3 && large().ends_with(&text) && text.len() > 200;
    is_good.then_some(()).ok_or_else(|| "not the end of the output in three files".into())
}

fn the_whole_large_write(files: &Files) -> Result<(), String> {
    (joined(files, 1000)? == large()).then_some(()).ok_or_else(|| "not the whole output".into())
}

/// Owner, mode and umask.
fn modes() -> Vec<Case> {
    let rotated = |name, umask| case(name, FROM_100_WITH_3, lines(0..10)).umask(umask);
    let plain = |name, umask| case(name, NEVER, lines(0..3)).umask(umask);
    vec![
        rotated("rotated_with_umask_027", "027"),
        plain("plain_with_umask_027", "027"),
        rotated("rotated_with_umask_077", "077"),
        plain("plain_with_umask_077", "077"),
        rotated("rotated_with_umask_000", "000"),
        case(
            "a_program_with_a_umask",
            "stdout_logfile_maxbytes=100\nstdout_logfile_backups=3\numask=077\n",
            lines(0..10),
        ),
        case(
            "no_backup_and_a_private_file",
            "stdout_logfile_maxbytes=100\nstdout_logfile_backups=0\n",
            lines(0..10),
        )
        .before(&[Before::Private("out.log", 10)]),
        case(
            "a_program_with_a_user",
            "stdout_logfile_maxbytes=100\nstdout_logfile_backups=3\nuser=nobody\n",
            lines(0..10),
        ),
    ]
}
