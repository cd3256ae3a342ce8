//! Static programs for below rsup, built from `tests/programs/` where they are needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where Rust's static programs are built for.
fn target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Whether a static program can be built, for an image that holds nothing else.
pub(crate) fn static_programs() -> Result<(), String> {
    let asked = Command::new("rustc").args(["--print", "target-libdir", "--target", &target()]).output();
    let there = asked.is_ok_and(|asked| Path::new(String::from_utf8_lossy(&asked.stdout).trim()).exists());
    there.then_some(()).ok_or_else(|| format!("needs rustc's target {}", target()))
}

/// `tests/programs/NAME.rs` as a static program at this path.
pub(crate) fn build(name: &str, to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name).with_extension("rs");
    let flags = ["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Cstrip=symbols"];
    let mut rustc = Command::new("rustc");
    let built = rustc
        .args(flags)
        .args(["-Ctarget-feature=+crt-static", "-Clinker=rust-lld", "--target", &target(), "-o"])
        .arg(to)
        .arg(source);
    let built = built.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

/// `tests/programs/probe.rs`, built once for all tests and open to every user.
pub(crate) fn probe() -> &'static str {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        // Beside the tests' own binary; renamed, since another run may be using it.
        let path = std::env::current_exe().unwrap().with_file_name("probe");
        let new = path.with_extension(std::process::id().to_string());
        build("probe", &new);
        std::fs::rename(new, &path).unwrap();
        path
    });
    path.to_str().unwrap()
}
