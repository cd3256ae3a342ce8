//! Python packages, which are installed below the target directory when a test first needs them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The Python package that contains the supervisord to compare with.
const SUPERVISOR: &str = "supervisor==4.3.0";
const SUPERVISOR_MODULE: &str = "supervisor.options";

/// Returns the absolute path of a python3 that has the package supervisor. The variable `RSUP_SUPERVISOR_PYTHON` may
/// name one. Without this variable, it is the python3 of the machine if that python3 has supervisor. Otherwise
/// supervisor is installed.
///
/// # Errors
/// Returns the reason if there is none and supervisor cannot be installed.
pub(crate) fn supervisor() -> Result<PathBuf, String> {
    let python = match env::var_os("RSUP_SUPERVISOR_PYTHON").map(PathBuf::from) {
        Some(python) if has(&python, SUPERVISOR_MODULE) => python,
        Some(_) => return Err("RSUP_SUPERVISOR_PYTHON has no supervisor".into()),
        None if has(Path::new("python3"), SUPERVISOR_MODULE) => "python3".into(),
        None => with(SUPERVISOR, SUPERVISOR_MODULE)?,
    };
    let path = run(Command::new(python).args(["-c", "import sys; print(sys.executable)"]), SUPERVISOR)?;
    Ok(path.trim().into())
}

/// Whether a python3 has a module.
pub(crate) fn has(python: &Path, module: &str) -> bool {
    run(Command::new(python).arg("-c").arg(format!("import {module}")), module).is_ok()
}

/// Returns a python3 that has a package (`name==version`) which contains a module. Further packages that are to be
/// installed with it follow, separated by blanks.
///
/// # Errors
/// Returns the reason if the package cannot be installed: no python3, or no network.
pub(crate) fn with(package: &str, module: &str) -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let python = python_of(package)?;
    if !has(&python, module) {
        let venv = python.ancestors().nth(2).unwrap();
        run(Command::new("python3").args(["-m", "venv"]).arg(venv), package)?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q"]).args(package.split(' ')), package)?;
    }
    Ok(python)
}

/// The path of the python3 for a package, whether it exists or not.
fn python_of(package: &str) -> Result<PathBuf, String> {
    // The target directory is three levels above the test binary.
    let tests = env::current_exe().map_err(|error| error.to_string())?;
    let (name, _) = package.split_once("==").unwrap();
    Ok(tests.ancestors().nth(3).unwrap().join(name).join("bin/python"))
}

/// The directory that contains a module of a package which [`with`] has installed.
///
/// # Errors
/// Returns the reason if there is no such module.
pub(crate) fn directory_of(package: &str, module: &str) -> Result<PathBuf, String> {
    let script = format!("import {module}; print({module}.__path__[0])");
    let path = run(Command::new(python_of(package)?).args(["-c", &script]), package)?;
    Ok(Path::new(path.trim()).parent().unwrap().into())
}

/// Runs a command, which must succeed. Returns what it printed.
fn run(command: &mut Command, package: &str) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("needs python3: {error}"))?;
    let why = || format!("needs {package}: {}", String::from_utf8_lossy(&output.stderr).trim());
    let printed = || String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(printed).ok_or_else(why)
}
