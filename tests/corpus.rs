//! Real configuration files, compared with the results of supervisord 4.3 for these files. The files are not part of
//! this repository. `RSUP_CORPUS` names their directory; the default is `../shared/corpus`.
//!
//! Each row of `expected.jsonl` contains the name of a file, the environment in which supervisord loaded the file, and
//! the result of supervisord: the processes in start order, or the error.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

use crate::support::{binary, needs};

/// The keys of each process in a row.
const KEYS: [&str; 23] = [
    "group",
    "name",
    "kind",
    "command",
    "argv",
    "directory",
    "umask",
    "priority",
    "group_priority",
    "autostart",
    "autorestart",
    "startsecs",
    "startretries",
    "exitcodes",
    "stopsignal",
    "stopwaitsecs",
    "stopasgroup",
    "killasgroup",
    "user",
    "environment",
    "redirect_stderr",
    "stdout_logfile",
    "stderr_logfile",
];

/// The directory of the corpus. The error says why there is none.
pub(crate) fn corpus() -> Result<PathBuf, String> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let path = std::env::var_os("RSUP_CORPUS").map_or(default, PathBuf::from);
    match path.join("expected.jsonl").exists() {
        true => Ok(path),
        false => Err(format!("needs the corpus: {} does not exist (see RSUP_CORPUS)", path.display())),
    }
}

/// Loads the file of a row with `rsup --print-config`. Returns the processes, or the error messages.
fn loaded(file: &Path, environment: &Map<String, Value>) -> Result<Vec<Value>, String> {
    let variables = environment.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let output = Command::new(binary())
        .args(["--print-config", "-c"])
        .arg(file)
        .env_clear()
        .envs(variables)
        .output()
        .unwrap();
    match output.status.code() {
        Some(0) => {
            let mut shown: Value = serde_json::from_slice(&output.stdout).unwrap();
            Ok(shown["programs"].take().as_array().unwrap().clone())
        }
        Some(2) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        code => panic!("{}: rsup exited with {code:?}", file.display()),
    }
}

/// supervisord's result for the file of a row: the processes, or the error.
fn expected(row: &Value, file: &Path) -> Result<Vec<Value>, String> {
    if let Some(why) = row.get("error") {
        return Err(why.to_string());
    }
    let here = Value::from(file.parent().unwrap().to_str().unwrap()).to_string();
    let text = row["programs"].to_string().replace("@HERE@", here.trim_matches('"'));
    Ok(serde_json::from_str(&text).unwrap())
}

/// All differences as text.
fn differences(got: &[Value], want: &[Value]) -> Vec<String> {
    let name = |process: &Value| format!("{}:{}", process["group"], process["name"]);
    let names = |all: &[Value]| all.iter().map(name).collect::<Vec<_>>();
    if names(got) != names(want) {
        return vec![format!("processes {:?}, not {:?}", names(got), names(want))];
    }
    let pairs = got.iter().zip(want).flat_map(|pair| KEYS.iter().map(move |key| (pair, key)));
    let differ = pairs.filter(|((got, want), key)| got[*key] != want[*key]);
    differ.map(|((got, want), key)| format!("{} {key}: {}, not {}", name(got), got[key], want[key])).collect()
}

#[test]
fn rsup_reads_real_files_like_supervisord() {
    let corpus = corpus();
    needs!(corpus.as_ref());
    let corpus = corpus.unwrap();
    let rows = fs::read_to_string(corpus.join("expected.jsonl")).unwrap();
    let mut wrong = Vec::new();
    for row in rows.lines() {
        let row: Value = serde_json::from_str(row).unwrap();
        let name = row["file"].as_str().unwrap();
        let file = fs::canonicalize(corpus.join("files").join(name)).unwrap();
        match (loaded(&file, row["env"].as_object().unwrap()), expected(&row, &file)) {
            (Ok(got), Ok(want)) => {
                wrong.extend(differences(&got, &want).into_iter().map(|why| format!("{name}: {why}")));
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(why)) => wrong.push(format!("{name}: accepted, but supervisord says {why}")),
            (Err(why), Ok(_)) => wrong.push(format!("{name}: refused: {why}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.lines().count(), wrong.join("\n"));
    assert!(rows.lines().count() > 0, "expected.jsonl is empty");
}
