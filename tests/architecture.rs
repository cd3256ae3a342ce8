//! The layers of the source code (src/README.md, "Layout"): which directory may use what. The compiler and the lints do
//! not check these rules, so these tests read the text of the source files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::imports::{cycles, imports};
use crate::support::files_below;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The path below `src/` and the code of every source file, without comment lines and without unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    let src = repository().join("src");
    let code =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs");
    let rust = files_below(&src).into_iter().filter(code);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (path.strip_prefix(&src).unwrap().into(), lines.collect::<Vec<_>>().join("\n"))
    };
    rust.map(read).collect()
}

/// The path and the text of every Rust file in `src/` and `tests/`.
fn rust_files() -> Vec<(PathBuf, String)> {
    let built = repository().join("tests/fuzz/target");
    let files = ["src", "tests"].into_iter().flat_map(|dir| files_below(&repository().join(dir)));
    let is_rust =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") && !path.starts_with(&built);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path.strip_prefix(repository()).unwrap().into(), text)
    };
    files.filter(is_rust).map(read).collect()
}

/// Whether the code contains this name, and not only as the end of a longer name. A name such as `ini::` means the
/// crate of that name, and not a module `ini` in another module.
fn contains_name(code: &str, name: &str) -> bool {
    let is_crate = name.ends_with("::");
    let continues = |c: char| c.is_alphanumeric() || c == '_' || (is_crate && c == ':');
    code.match_indices(name).any(|(at, _)| !code[..at].ends_with(continues))
}

/// Asserts that only these directories and files of `src/` contain any of these names.
#[track_caller]
fn assert_only_in(places: &[&str], names: &[&str]) {
    let is_elsewhere = |path: &Path| !places.iter().any(|place| path.starts_with(place));
    for (path, code) in sources().into_iter().filter(|(path, _)| is_elsewhere(path)) {
        for name in names {
            let path = path.display();
            assert!(!contains_name(&code, name), "src/{path} contains `{name}`, which belongs to {places:?}");
        }
    }
}

/// Asserts that this directory or file of `src/` contains none of these names.
#[track_caller]
fn assert_not_in(place: &str, names: &[&str]) {
    let files: Vec<_> = sources().into_iter().filter(|(path, _)| path.starts_with(place)).collect();
    assert!(!files.is_empty(), "src/{place} does not exist");
    for (path, code) in files {
        for name in names {
            assert!(!contains_name(&code, name), "src/{} contains `{name}`", path.display());
        }
    }
}

#[test]
fn only_sys_uses_libc_nix_and_unsafe_code() {
    assert_only_in(
        // main.rs defines the C function `main`, which needs unsafe code.
        &["sys", "main.rs"],
        &["nix::", "libc::", "unsafe {", "unsafe impl", "unsafe fn", "allow(unsafe_code"],
    );
}

#[test]
fn sys_uses_no_other_module() {
    assert_not_in(
        "sys",
        &["crate::config", "crate::policy", "crate::supervise", "crate::log", "crate::cli", "crate::error"],
    );
}

#[test]
fn only_the_document_uses_rust_ini() {
    assert_only_in(&["config/grammar/document.rs"], &["ini::"]);
}

#[test]
fn config_uses_no_system_call_and_reads_files_only_in_load() {
    assert_not_in("config", &["crate::sys", "crate::supervise", "crate::log", "crate::cli", "crate::error"]);
    let files = ["std::fs", "std::env", "std::process", "std::io"];
    let text_only =
        sources().into_iter().filter(|(path, _)| path.starts_with("config") && !path.ends_with("load.rs"));
    for (path, code) in text_only {
        for name in files {
            let path = path.display();
            assert!(!contains_name(&code, name), "src/{path} contains `{name}`: only load.rs reads files");
        }
    }
}

#[test]
fn policy_uses_no_other_module_no_clock_and_nothing_of_the_machine() {
    let machine = ["std::fs", "std::env", "std::process", "std::io", "std::thread", "std::net", "std::os"];
    assert_not_in("policy", &machine);
    assert_not_in(
        "policy",
        &[
            "crate::sys",
            "crate::config",
            "crate::log",
            "crate::supervise",
            "crate::cli",
            "crate::error",
            "Instant",
            "SystemTime",
        ],
    );
}

#[test]
fn cli_supervise_control_relay_and_log_use_only_the_layers_below() {
    assert_not_in("cli", &["crate::sys", "crate::supervise", "crate::log", "crate::error"]);
    assert_not_in("supervise", &["crate::cli"]);
    assert_not_in("control", &["crate::supervise", "crate::policy"]);
    assert_not_in("relay", &["crate::config", "crate::supervise", "crate::control", "crate::cli"]);
    assert_not_in("log.rs", &["crate::config", "crate::supervise", "crate::cli"]);
}

#[test]
fn no_two_source_files_import_each_other() {
    let imports = imports(&sources());
    // Without this assertion, the test would also pass if it found no import at all.
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 50, "{imports:?}");
    let cycles = cycles(&imports);
    assert!(cycles.is_empty(), "files of src/ import each other: {cycles:#?}");
}

#[test]
fn the_state_machine_of_a_process_has_no_wildcard_arm() {
    let (_, code) = sources().into_iter().find(|(path, _)| path.ends_with("policy/process.rs")).unwrap();
    let arms = code.lines().map(str::trim);
    let wildcards: Vec<_> =
        arms.filter(|arm| arm.starts_with("_ =>") || arm.starts_with("(_, _) =>")).collect();
    assert!(wildcards.is_empty(), "policy/process.rs has a wildcard arm: {wildcards:?}");
}

#[test]
fn no_file_starts_a_thread_sleeps_or_calls_process_exit() {
    assert_only_in(&[], &["thread::spawn", "thread::sleep", "thread::Builder", "async fn", "process::exit"]);
}

#[test]
fn a_mod_rs_of_config_policy_and_sys_is_only_a_table_of_contents() {
    let tables =
        ["config", "config/grammar", "config/sections", "policy", "sys"].map(|dir| format!("{dir}/mod.rs"));
    let is_allowed = |statement: &&str| {
        let visibility = ["pub(crate) ", "pub(super) ", "pub "];
        let item = visibility.iter().find_map(|word| statement.strip_prefix(word)).unwrap_or(statement);
        item.is_empty() || item.starts_with("mod ") || item.starts_with("use ")
    };
    for table in tables {
        let (_, code) = sources().into_iter().find(|(path, _)| *path == Path::new(&table)).unwrap();
        let without_attributes: String = code.lines().filter(|line| !line.starts_with('#')).collect();
        let statements = without_attributes.split(';').map(str::trim);
        let other: Vec<_> = statements.filter(|statement| !is_allowed(statement)).collect();
        assert!(other.is_empty(), "src/{table} is more than a table of contents: {other:?}");
    }
}

#[test]
fn no_file_contains_the_path_of_a_home_directory() {
    let homes = ["/home/", "/root/", "/Users/"];
    let directories = ["src", "tests", "docker", ".github", ".ci"].map(|dir| repository().join(dir));
    let top = ["Cargo.toml", "Makefile", "README.md", "CHANGELOG.md"].map(|file| repository().join(file));
    let files = directories.iter().filter(|dir| dir.exists()).flat_map(|dir| files_below(dir)).chain(top);
    let built = repository().join("tests/fuzz/target");
    for path in files.filter(|path| !path.ends_with("architecture.rs") && !path.starts_with(&built)) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let home = homes.iter().find(|home| contains_name(&text, home));
        assert_eq!(home, None, "{}", path.display());
    }
}

/// The place and the text of each comment that begins with `mark`. The next lines of a comment begin with `next_mark`.
fn comments(mark: &str, next_mark: &str) -> Vec<(String, String)> {
    let mut comments: Vec<(String, String)> = vec![];
    for (path, text) in rust_files() {
        let mut is_inside = false;
        for (number, line) in (1..).zip(text.lines().map(str::trim_start)) {
            if let Some(words) = line.strip_prefix(next_mark).filter(|_| is_inside) {
                comments.last_mut().unwrap().1.push_str(words);
            } else if let Some(words) = line.strip_prefix(mark) {
                comments.push((format!("{}:{number}", path.display()), words.to_owned()));
                is_inside = true;
            } else {
                is_inside = false;
            }
        }
    }
    assert!(!comments.is_empty(), "no comment begins with {mark}");
    comments
}

#[test]
fn no_doc_comment_is_a_single_word() {
    // A single name in backquotes is allowed: it refers to an option or a key.
    let is_word = |text: &str| text.trim().trim_end_matches('.').chars().all(char::is_alphabetic);
    for mark in ["///", "//!"] {
        let comments = comments(mark, mark);
        let short: Vec<_> = comments.iter().filter(|(_, text)| is_word(text)).collect();
        assert!(short.is_empty(), "these doc comments say nothing beyond the name: {short:#?}");
    }
}

#[test]
fn every_safety_comment_has_at_least_three_words() {
    let comments = comments("// SAFETY:", "//");
    let short: Vec<_> = comments.iter().filter(|(_, text)| text.split_whitespace().count() < 3).collect();
    assert!(short.is_empty(), "these comments do not say why the code is sound: {short:#?}");
}

#[test]
fn every_let_declares_one_value() {
    let is_tuple = |line: &str| {
        let line = line.trim_start();
        line.starts_with("let (") && line.contains(") = (") && line.ends_with(");")
    };
    let mut tuples = vec![];
    for (path, text) in rust_files() {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| is_tuple(line));
        tuples.extend(lines.map(|(number, line)| format!("{}:{number} {}", path.display(), line.trim())));
    }
    assert!(tuples.is_empty(), "write one `let` for each value: {tuples:#?}");
}
