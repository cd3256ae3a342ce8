//! Thousands of damaged configuration files, read by rsup and by the real supervisord. Both must accept or refuse the
//! same files, and must read the same processes from them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rsup::config::{self, Machine, Overrides};
use serde_json::Value;

use crate::corpus::corpus;
use crate::support::{python, skip};

/// The number of damaged files.
const FILES: u64 = 10_000;
const SEED: u64 = 4;
/// The number of files in a thousand that may differ in a way that `known` lists. No file may differ in any other way.
const MAY_DIFFER: u64 = 5;
const ORACLE: &str = include_str!("oracle.py");

/// The texts of the files to damage: those in tests/conf, and real files if there is a corpus.
fn bases() -> Vec<String> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conf");
    let mut files: Vec<_> = fs::read_dir(&ours).unwrap().map(|entry| entry.unwrap().path()).collect();
    match corpus() {
        Ok(corpus) => files.extend(crate::support::files_below(&corpus.join("files"))),
        Err(why) => skip(&format!("the real files: {why}")),
    }
    files.sort();
    let texts = files.into_iter().filter_map(|file| fs::read_to_string(file).ok());
    // Large files take time and find no more differences.
    texts.filter(|text| text.len() < 8_000).collect()
}

/// Damages a file at one to three random places, and adds the section `[supervisord]`, which supervisord requires.
fn damaged(text: &str, random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(..lines.len());
        let other = random.usize(..lines.len());
        match random.u8(..8) {
            0 if lines.len() > 2 => drop(lines.remove(at)),
            1 => lines.swap(at, other),
            2 => lines.insert(other, lines[at].clone()),
            3 => lines[at].insert_str(0, [" ", "  ", "\t", "\u{a0}"][random.usize(..4)]),
            4 => lines[at] = lines[at].trim_start().to_owned(),
            5 => {
                let end = random.usize(..=lines[at].len());
                let end = (0..=end).rev().find(|end| lines[at].is_char_boundary(*end)).unwrap();
                lines[at].truncate(end);
            }
            _ => insert(&mut lines[at], random),
        }
    }
    lines.join(["\n", "\n", "\n", "\r\n", "\r"][random.usize(..5)]) + "\n[supervisord]\n"
}

/// Inserts text that has a meaning in configuration files at a random place of a line.
fn insert(line: &mut String, random: &mut fastrand::Rng) {
    const PIECES: [&str; 36] = [
        ";",
        " ; ",
        "#",
        " #",
        "=",
        ":",
        "[",
        "]",
        "%",
        "%%",
        "%(here)s",
        "%(x)s",
        "%(process_num)02d",
        "\"",
        "'",
        "\\",
        ",",
        " ",
        "\t",
        "\n",
        "\n ",
        "\r",
        "0",
        "-",
        "x",
        "X",
        "é",
        "É",
        "\u{feff}",
        "\u{2028}",
        "\u{1f}",
        "\0",
        "true",
        "KB",
        "_",
        "/",
    ];
    let at = random.usize(..=line.len());
    let at = (0..=at).rev().find(|at| line.is_char_boundary(*at)).unwrap();
    line.insert_str(at, PIECES[random.usize(..PIECES.len())]);
}

/// Whether the file has a `numprocs` of more than three digits: supervisord would need hours for this file.
fn is_endless(text: &str) -> bool {
    let digits = |line: &str| line.chars().filter(char::is_ascii_digit).count();
    text.lines().any(|line| line.contains("numprocs") && digits(line) > 3)
}

/// The environment for rsup and for supervisord.
fn environment() -> Vec<(String, String)> {
    let mut all = BTreeMap::from([("HOME", "/root"), ("PATH", "/bin"), ("PORT", "80"), ("REGION", "x")])
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect::<BTreeMap<_, _>>();
    if let Ok(corpus) = corpus() {
        for row in fs::read_to_string(corpus.join("expected.jsonl")).unwrap().lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            let named = row["env"].as_object().unwrap().iter();
            all.extend(named.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())));
        }
    }
    // Without LC_ALL, Python may set LC_CTYPE in its own environment, and `%(ENV_LC_CTYPE)s` would differ.
    all.insert("LC_ALL".into(), "C.UTF-8".into());
    all.into_iter().collect()
}

/// Loads a file with rsup. Returns the processes as JSON, or the error messages.
fn ours(file: &Path, environment: &[(String, String)]) -> Result<Value, String> {
    let inputs = Machine {
        environment,
        non_utf8_env_names: &[],
        host: "node1",
        list_directory: &rsup::sys::list_directory,
        check_user: &|_| Ok(()),
        try_step: None,
    };
    let loaded = config::load(file, &Overrides::default(), &inputs);
    let config = loaded.config.ok_or_else(|| loaded.report.lines(false).collect::<Vec<_>>().join("\n"))?;
    let mut shown: Value = serde_json::from_str(&config.to_json()).unwrap();
    Ok(shown["programs"].take())
}

/// Parses a line that oracle.py printed. Returns supervisord's processes, or supervisord's error message.
fn theirs(line: &str) -> Result<Value, String> {
    let mut answer: Value = serde_json::from_str(line).unwrap();
    match answer["error"].as_str() {
        Some(why) => Err(why.to_owned()),
        None => Ok(answer["programs"].take()),
    }
}

/// The first difference between rsup and supervisord in the keys that oracle.py prints, if there is a difference.
fn difference(ours: &Result<Value, String>, theirs: &Result<Value, String>) -> Option<String> {
    match (ours, theirs) {
        (Err(_), Err(_)) => None,
        (Ok(_), Err(why)) => Some(format!("accepted, but supervisord says: {why}")),
        (Err(why), Ok(_)) => Some(format!("refused: {why}")),
        (Ok(ours), Ok(theirs)) => {
            let ours = ours.as_array().unwrap();
            let theirs = theirs.as_array().unwrap();
            if ours.len() != theirs.len() {
                return Some(format!("{} processes, not {}", ours.len(), theirs.len()));
            }
            let mut pairs = ours.iter().zip(theirs);
            pairs.find_map(|(ours, theirs)| {
                let mut keys = theirs.as_object().unwrap().iter();
                let (key, value) = keys.find(|(key, value)| ours[key.as_str()] != **value)?;
                Some(format!("{}: {key}: {}, not {value}", ours["name"], ours[key.as_str()]))
            })
        }
    }
}

/// The known difference that a difference belongs to, if there is one. docker/MIGRATING.md lists all of them.
fn known(text: &str, difference: &str) -> Option<&'static str> {
    let quoting =
        ["environment: ", "No closing quotation", "No escaped character", "key/value pairs in value"];
    let is_quoted = |c: char| matches!(c, '"' | '\'' | '\\') || !c.is_ascii();
    if quoting.iter().any(|words| difference.contains(words)) && text.contains(is_quoted) {
        return Some("quotes in environment=");
    }
    let others = [
        ("no section headers", "\u{feff}", "byte order mark"),
        ("needs a name, as in %(here)", "%", "% without a name"),
        ("umask: ", "-", "negative umask"),
        ("embedded null byte", "\0", "NUL in a path"),
        ("the value contains a NUL byte", "\0", "NUL in a value"),
    ];
    others
        .iter()
        .find(|(words, in_text, _)| difference.contains(words) && text.contains(in_text))
        .map(|(.., name)| *name)
}

#[test]
fn rsup_reads_damaged_files_like_supervisord() {
    let python = match python::supervisor() {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    let included = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conf/conf.d/over.conf");
    fs::copy(included, directory.path().join("conf.d/over.conf")).unwrap();
    let environment = environment();
    let bases = bases();
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut texts = Vec::new();
    while (texts.len() as u64) < FILES {
        let text = damaged(&bases[texts.len() % bases.len()], &mut random);
        if !is_endless(&text) {
            texts.push(text);
        }
    }
    let path = |number: usize| directory.path().join(format!("{number}.conf"));
    for (number, text) in texts.iter().enumerate() {
        fs::write(path(number), text).unwrap();
    }

    let mut oracle = Command::new(python)
        .args(["-c", ORACLE])
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut requests = oracle.stdin.take().unwrap();
    let lines: Vec<_> = (0..texts.len()).map(|number| format!("{}\n", path(number).display())).collect();
    let writer = thread::spawn(move || lines.iter().try_for_each(|line| requests.write_all(line.as_bytes())));
    let answers = BufReader::new(oracle.stdout.take().unwrap()).lines();
    let mut known_differences: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unknown = Vec::new();
    let mut accepted = 0;
    for ((number, text), answer) in texts.iter().enumerate().zip(answers) {
        let ours = ours(&path(number), &environment);
        let theirs = theirs(&answer.unwrap());
        accepted += u64::from(theirs.is_ok());
        if let Some(difference) = difference(&ours, &theirs) {
            match known(text, &difference) {
                Some(name) => *known_differences.entry(name).or_default() += 1,
                None => unknown.push(format!("--- {number}: {difference}\n{text}")),
            }
        }
    }
    writer.join().unwrap().unwrap();
    assert!(oracle.wait().unwrap().success());
    let differ = known_differences.values().sum::<u64>();
    eprintln!(
        "{FILES} damaged files, {accepted} accepted by supervisord, {differ} with a known difference: \
         {known_differences:?}"
    );
    assert!(
        unknown.is_empty(),
        "{} files differ:\n{}",
        unknown.len(),
        unknown[..unknown.len().min(20)].join("\n")
    );
    assert!(differ * 1000 <= MAY_DIFFER * FILES, "{differ} of {FILES} files differ: {known_differences:?}");
}
