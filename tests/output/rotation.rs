//! Log files that are rotated. The differential test writes the same bytes through supervisord and through rsup, and
//! requires the same files: names, types, owners, modes and bytes.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::cases::{self, Case, Compare};
use super::{python, shown};
use crate::support::{eventually, needs, program, python as packages, root, rsup, skip};

const PIECES: &str = include_str!("pieces.py");

/// A file of a case.
#[derive(PartialEq, Eq)]
struct File {
    /// Where a symbolic link leads.
    link: Option<String>,
    mode: u32,
    owner: (u32, u32),
    bytes: Vec<u8>,
}

/// The files of a case on one side.
#[derive(PartialEq, Eq)]
pub(super) struct Files(BTreeMap<String, File>);

impl Files {
    fn of(directory: &Path) -> Self {
        let entries = fs::read_dir(directory).unwrap().map(|entry| {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let is_file = metadata.is_file();
            let file = File {
                link: fs::read_link(&path).ok().map(|target| shown(&target).to_owned()),
                mode: metadata.mode(),
                owner: (metadata.uid(), metadata.gid()),
                bytes: if is_file { fs::read(&path).unwrap() } else { vec![] },
            };
            (shown(Path::new(path.file_name().unwrap())).to_owned(), file)
        });
        Self(entries.collect())
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub(super) fn text(&self, name: &str) -> Result<String, String> {
        let file = self.0.get(name).ok_or_else(|| format!("no file {name}"))?;
        Ok(String::from_utf8_lossy(&file.bytes).into_owned())
    }
}

impl fmt::Display for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, File { link, mode, owner: (uid, gid), bytes }) in &self.0 {
            let target = link.as_ref().map_or(String::new(), |target| format!("-> {target}"));
            let length = bytes.len();
            let text = bytes.escape_ascii().to_string();
            let text = if text.len() <= 160 {
                text
            } else {
                format!("{}…{}", &text[..70], &text[text.len() - 70..])
            };
            writeln!(f, "        {name:14} {mode:o} {uid}:{gid} {length:6} bytes {target} {text}")?;
        }
        Ok(())
    }
}

/// Which program supervises the cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Supervisord,
    Rsup,
}

/// The section of a case in one of its phases.
fn section(case: &Case, phase: usize, dir: &Path) -> String {
    let name = case.name;
    let dir = shown(dir);
    let logs = format!("{dir}/logs/{name}");
    let command = format!("python3 -IS {dir}/pieces.py {logs} {dir}/{name}");
    let mut keys = "startsecs=0\nautorestart=true\n".to_owned();
    for key in ["stdout_logfile=DIR/out.log\n", "stderr_logfile=NONE\n"] {
        let (key_name, _) = key.split_once('=').unwrap();
        if !case.phases[phase].keys.contains(&format!("{key_name}=")) {
            keys += key;
        }
    }
    program(name, &command) + &(keys + case.phases[phase].keys).replace("DIR", &logs)
}

/// Runs one phase of these cases under one server, in a directory.
fn run_phase(side: Side, cases: &[&Case], phase: usize, dir: &Path, python: &Path) {
    let mut conf = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\n\
                    pidfile=%(here)s/supervisord.pid\n"
        .to_owned();
    // supervisord stops one group after the other, and the processes of a group at once.
    let names: Vec<_> = cases.iter().map(|case| case.name).collect();
    conf += &format!("[group:cases]\nprograms={}\n", names.join(","));
    for case in cases {
        let steps = serde_json::to_string(&case.phases[phase].runs).unwrap();
        fs::write(dir.join(format!("{}.steps", case.name)), steps).unwrap();
        conf += &section(case, phase, dir);
    }
    let setup = rsup(&conf).after(&format!("umask {}", cases[0].umask));
    let words = [shown(python), "-m", "supervisor.supervisord", "-c", "supervisord.conf"];
    let mut server = match side {
        Side::Supervisord => setup.running(&words),
        Side::Rsup => setup,
    }
    .start();
    for case in cases {
        let file = |end: &str| dir.join(format!("{}.{end}", case.name));
        let what = format!("{side:?}: the program of {} has written everything", case.name);
        eventually(&what, || {
            let failure = fs::read_to_string(file("failed")).ok();
            assert!(failure.is_none(), "{side:?} {}: {}", case.name, failure.unwrap_or_default());
            file("done").exists().then_some(())
        });
        fs::remove_file(file("done")).unwrap();
        fs::remove_file(file("starts")).unwrap();
    }
    assert_eq!(server.stop(), 0, "{side:?}");
}

/// Runs all cases with one umask under one side, in a directory.
fn run_side(side: Side, cases: &[&Case], dir: &Path, python: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
    fs::write(dir.join("pieces.py"), PIECES).unwrap();
    for case in cases {
        let logs = dir.join("logs").join(case.name);
        fs::create_dir_all(&logs).unwrap();
        case.before.iter().for_each(|before| before.create(&logs));
    }
    for phase in 0..2 {
        let of_phase: Vec<_> = cases.iter().copied().filter(|case| case.phases.len() > phase).collect();
        if !of_phase.is_empty() {
            run_phase(side, &of_phase, phase, dir, python);
        }
    }
}

/// The files of every case after both sides have run them. The servers run at the same time.
fn run_all(cases: &[Case], sides: &[Side], python: &Path) -> BTreeMap<&'static str, Vec<Files>> {
    let results: Mutex<BTreeMap<_, Vec<_>>> = Mutex::default();
    let mut by_umask: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for case in cases {
        by_umask.entry(case.umask).or_default().push(case);
    }
    thread::scope(|scope| {
        for (cases, side) in by_umask.values().flat_map(|cases| sides.iter().map(move |side| (cases, *side)))
        {
            let results = &results;
            scope.spawn(move || {
                let dir = tempfile::Builder::new().prefix("rsup-").tempdir().unwrap();
                run_side(side, cases, dir.path(), python);
                let mut results = results.lock().unwrap();
                for case in cases {
                    let files = Files::of(&dir.path().join("logs").join(case.name));
                    results.entry(case.name).or_default().push((side, files));
                }
            });
        }
    });
    let ordered = |mut of_sides: Vec<(Side, Files)>| -> Vec<Files> {
        of_sides.sort_by_key(|(side, _)| *side == Side::Rsup);
        of_sides.into_iter().map(|(_, files)| files).collect()
    };
    results.into_inner().unwrap().into_iter().map(|(name, of_sides)| (name, ordered(of_sides))).collect()
}

/// What is wrong with the results of a case.
fn verdict(case: &Case, results: &[Files]) -> Option<String> {
    let wrong = match case.compare {
        Compare::Same if results.iter().any(|files| *files != results[0]) => Some("they differ".to_owned()),
        Compare::Same => None,
        Compare::Each(check) => results.iter().find_map(|files| check(files).err()),
    };
    wrong.map(|why| {
        let mut text = format!("{}: {why}\n", case.name);
        results
            .iter()
            .enumerate()
            .for_each(|(side, files)| write!(text, "    side {side}\n{files}").unwrap());
        text
    })
}

#[test]
fn the_same_output_makes_the_same_files_under_supervisord_and_under_rsup() {
    needs!(root(), python());
    let python = match packages::supervisor() {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    let cases = cases::all();
    assert!(cases.len() >= 30);
    let results = run_all(&cases, &[Side::Supervisord, Side::Rsup], &python);
    let wrong: Vec<_> = cases.iter().filter_map(|case| verdict(case, &results[case.name])).collect();
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
#[ignore = "shows that the cases do not depend on the timing, and does not run rsup"]
fn supervisord_makes_the_same_files_twice() {
    needs!(root(), python());
    let python = packages::supervisor().unwrap();
    let cases = cases::all();
    let results = run_all(&cases, &[Side::Supervisord, Side::Supervisord], &python);
    let wrong: Vec<_> = cases.iter().filter_map(|case| verdict(case, &results[case.name])).collect();
    assert!(wrong.is_empty(), "{} of {} cases\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
