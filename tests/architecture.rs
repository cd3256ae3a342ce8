//! The walls of the house (README, "Architecture"), as far as the compiler does not hold them: who names what.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::files_below;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The code of every file of `src/`: its path from there, and its lines without comments and without unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    let src = repository().join("src");
    let code =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs");
    let rust = files_below(&src).into_iter().filter(code);
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        (path.strip_prefix(&src).unwrap().into(), lines.collect::<Vec<_>>().join("\n"))
    };
    rust.map(read).collect()
}

/// Whether a text holds this name, not as the end of a longer one; a name like `ini::` is a package's, and not that of
/// a module in something.
fn names(code: &str, name: &str) -> bool {
    let package = name.ends_with("::");
    let longer = |c: char| c.is_alphanumeric() || c == '_' || (package && c == ':');
    code.match_indices(name).any(|(at, _)| !code[..at].ends_with(longer))
}

/// Asserts that only these places name any of these.
#[track_caller]
fn only_in(rooms: &[&str], forbidden: &[&str]) {
    let outside = |path: &Path| !rooms.iter().any(|room| path.starts_with(room));
    for (path, code) in sources().into_iter().filter(|(path, _)| outside(path)) {
        for name in forbidden {
            assert!(!names(&code, name), "src/{} names `{name}`: that belongs to {rooms:?}", path.display());
        }
    }
}

/// Asserts that this room names none of these.
#[track_caller]
fn not_in(room: &str, forbidden: &[&str]) {
    let inside: Vec<_> = sources().into_iter().filter(|(path, _)| path.starts_with(room)).collect();
    assert!(!inside.is_empty(), "src/{room} is gone");
    for (path, code) in inside {
        for name in forbidden {
            assert!(!names(&code, name), "src/{} names `{name}`", path.display());
        }
    }
}

#[test]
fn the_kernel_is_in_sys() {
    only_in(
        // main.rs is the C `main`, which nothing but unsafe code can be.
        &["sys", "main.rs"],
        &["nix::", "libc::", "unsafe {", "unsafe impl", "unsafe fn", "allow(unsafe_code"],
    );
}

#[test]
fn sys_knows_nothing_of_ours() {
    not_in("sys", &["crate::config", "crate::policy", "crate::supervise", "crate::log", "crate::cli"]);
}

#[test]
fn the_ini_parser_is_in_one_file() {
    only_in(&["config/grammar/document.rs"], &["ini::"]);
}

#[test]
fn the_configuration_is_text() {
    not_in("config", &["crate::sys", "crate::supervise"]);
    let files = ["std::fs", "std::env", "std::process", "std::io"];
    let pure =
        sources().into_iter().filter(|(path, _)| path.starts_with("config") && !path.ends_with("load.rs"));
    for (path, code) in pure {
        for name in files {
            assert!(!names(&code, name), "src/{} names `{name}`: only load.rs reads files", path.display());
        }
    }
}

#[test]
fn policy_is_pure() {
    let world = ["std::fs", "std::env", "std::process", "std::io", "std::thread", "std::net", "std::os"];
    not_in("policy", &world);
    not_in(
        "policy",
        &[
            "crate::sys",
            "crate::config",
            "crate::log",
            "crate::supervise",
            "crate::cli",
            "Instant",
            "SystemTime",
        ],
    );
}

#[test]
fn every_state_and_event_of_a_process_is_decided() {
    let (_, code) = sources().into_iter().find(|(path, _)| path.ends_with("policy/process.rs")).unwrap();
    let arms = code.lines().map(str::trim);
    let wild: Vec<_> = arms.filter(|arm| arm.starts_with("_ =>") || arm.starts_with("(_, _) =>")).collect();
    assert!(wild.is_empty(), "policy/process.rs has a wildcard arm: {wild:?}");
}

#[test]
fn one_thread_and_no_sleep() {
    only_in(&[], &["thread::spawn", "thread::sleep", "thread::Builder", "async fn", "process::exit"]);
}

#[test]
fn no_file_names_a_place_of_somebodys_machine() {
    let places = ["/home/", "/root/", "/Users/"];
    let kept = ["src", "tests", "docker", ".github", ".ci"].map(|dir| repository().join(dir));
    let top = ["Cargo.toml", "Makefile", "README.md", "CHANGELOG.md"].map(|file| repository().join(file));
    let files = kept.iter().filter(|dir| dir.exists()).flat_map(|dir| files_below(dir)).chain(top);
    let built = repository().join("tests/fuzz/target");
    for path in files.filter(|path| !path.ends_with("architecture.rs") && !path.starts_with(&built)) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let place = places.iter().find(|place| names(&text, place));
        assert_eq!(place, None, "{}", path.display());
    }
}
