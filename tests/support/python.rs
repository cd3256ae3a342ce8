//! Python packages, which are installed below the target directory when a test first needs them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Whether a python3 has a module.
pub(crate) fn has(python: &Path, module: &str) -> bool {
    run(Command::new(python).arg("-c").arg(format!("import {module}")), module).is_ok()
}

/// Returns a python3 that has a package (`name==version`) which contains a module.
///
/// # Errors
/// Returns the reason if the package cannot be installed: no python3, or no network.
pub(crate) fn with(package: &str, module: &str) -> Result<PathBuf, String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // The target directory is three levels above the test binary.
    let tests = std::env::current_exe().map_err(|error| error.to_string())?;
    let (name, _) = package.split_once("==").unwrap();
    let venv = tests.ancestors().nth(3).unwrap().join(name);
    let python = venv.join("bin/python");
    if !has(&python, module) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv), package)?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q", package]), package)?;
    }
    Ok(python)
}

fn run(command: &mut Command, package: &str) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("needs python3: {error}"))?;
    let why = || format!("needs {package}: {}", String::from_utf8_lossy(&output.stderr).trim());
    output.status.success().then_some(()).ok_or_else(why)
}
