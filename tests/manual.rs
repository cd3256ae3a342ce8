//! Checks that the manual page, docker/rsup.8, names every option and every key.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::rsup;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The arguments of each `.It` line of the page that begins with this macro, without punctuation.
fn items(page: &str, macro_name: &str) -> BTreeSet<String> {
    let lines = page.lines().filter_map(|line| line.strip_prefix(&format!(".It {macro_name} ")));
    let words = lines.flat_map(str::split_whitespace);
    words.filter(|word| *word != ",").map(str::to_owned).collect()
}

/// The long options that `rsup --help` lists, with one dash, because the macro `Fl` adds the other.
fn options() -> BTreeSet<String> {
    let (code, rsup) = rsup("").only_args(&["--help"]).run();
    assert_eq!(code, 0);
    let help = rsup.read("stdout");
    let rows = help.lines().take_while(|line| *line != "Notes:").filter(|line| line.starts_with("  -"));
    let words = rows.flat_map(str::split_whitespace);
    words.filter_map(|word| word.strip_prefix('-')).filter(|word| word.len() > 2).map(str::to_owned).collect()
}

/// The keys, and the sections without a name of their own, in the tables of known keys: every string literal of
/// lower-case letters and `_`.
fn keys() -> BTreeSet<String> {
    let source = read("src/config/sections/known_keys.rs");
    let code = source.split("#[cfg(test)]").next().unwrap();
    let tables = code.split("= &[").skip(1).filter_map(|table| table.split("];").next());
    let literals = tables.flat_map(|table| table.split('"').skip(1).step_by(2));
    let is_key = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    literals.filter(is_key).map(str::to_owned).collect()
}

#[test]
fn the_manual_page_lists_the_options_of_the_help() {
    let page = read("docker/rsup.8");
    let options = options();
    assert!(options.len() > 10, "{options:?}");
    let listed = items(&page, "Fl");
    let listed: BTreeSet<_> = listed.into_iter().filter(|word| word.starts_with('-')).collect();
    assert_eq!(listed, options);
}

#[test]
fn the_manual_page_names_every_key_and_no_other() {
    let page = read("docker/rsup.8");
    let keys = keys();
    assert!(keys.len() > 50, "{keys:?}");
    let words = page.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned());
    let words: BTreeSet<_> = words.collect();
    let missing: Vec<_> = keys.difference(&words).collect();
    assert!(missing.is_empty(), "docker/rsup.8 does not name {missing:?}");
    let unknown: Vec<_> = items(&page, "Ic").difference(&keys).cloned().collect();
    assert!(unknown.is_empty(), "docker/rsup.8 has keys that rsup does not know: {unknown:?}");
}
