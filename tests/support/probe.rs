//! Static programs that tests run under rsup, built from `tests/programs/` when a test first needs them. If the
//! variable `RSUP_PROGRAMS` is set, the variable names a directory that already contains these programs.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The target of static programs for a machine.
fn target(machine: &str) -> String {
    format!("{machine}-unknown-linux-musl")
}

/// The directory of the programs that were built on another machine.
fn prebuilt() -> Option<PathBuf> {
    std::env::var_os("RSUP_PROGRAMS").map(PathBuf::from)
}

/// Whether static programs are available: they were built before, or this machine can build them.
pub(crate) fn static_programs() -> Result<(), String> {
    if prebuilt().is_some() {
        return Ok(());
    }
    let target = target(ARCH);
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", &target]).output();
    let there = asked.is_ok_and(|asked| Path::new(String::from_utf8_lossy(&asked.stdout).trim()).exists());
    there.then_some(()).ok_or_else(|| format!("needs rustc's target {target}"))
}

/// Builds `tests/programs/NAME.rs` as a static program at a path.
pub(crate) fn build(name: &str, to: &Path) {
    match prebuilt() {
        Some(directory) => drop(std::fs::copy(directory.join(name), to).unwrap()),
        None => build_for(ARCH, name, to),
    }
}

/// Builds `tests/programs/NAME.rs` as a static program for a machine.
pub(crate) fn build_for(machine: &str, name: &str, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name).with_extension("rs");
    let flags = ["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"];
    let mut rustc = Command::new("rustc");
    let built = rustc
        .args(flags)
        .args(["-Ctarget-feature=+crt-static", "-Clinker=rust-lld", "--target", &target(machine), "-o"])
        .arg(to)
        .arg(source);
    let built = built.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// The path of the program `tests/programs/probe.rs`, which is built once and which every user may execute.
pub(crate) fn probe() -> &'static str {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        // The program is next to the test binary. It is built under another name and renamed, because a test of another
        // run may be executing the old one.
        let path = std::env::current_exe().unwrap().with_file_name("probe");
        let new = path.with_extension(std::process::id().to_string());
        build("probe", &new);
        std::fs::rename(new, &path).unwrap();
        path
    });
    path.to_str().unwrap()
}
