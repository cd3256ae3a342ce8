//! The binaries that `make dist` builds for several machines. `RSUP_DIST` names their directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::resource_use::is_static;
use crate::support::{
    SIGHUP, SIGKILL, Setup, both_ways, command, handler, installed, needs, program, rsup, skip,
};

/// The paths of the binaries. The error says that there are none without `make dist`.
fn binaries() -> Result<Vec<PathBuf>, &'static str> {
    let dist = env::var_os("RSUP_DIST").ok_or("needs the binaries of `make dist`")?;
    let entries = fs::read_dir(dist).unwrap().map(|entry| entry.unwrap().path());
    let is_binary = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("rsup-");
    let binaries: Vec<_> = entries.filter(is_binary).collect();
    assert!(!binaries.is_empty());
    Ok(binaries)
}

/// The machine that a binary is built for: the part of its name after `rsup-`.
fn machine(binary: &Path) -> &str {
    binary.file_name().unwrap().to_str().unwrap().strip_prefix("rsup-").unwrap()
}

/// The command that runs a binary on this machine. The command is empty if the binary is built for this machine.
fn emulator(binary: &Path) -> Result<Vec<String>, String> {
    let name = match machine(binary) {
        own if own == env::consts::ARCH => return Ok(vec![]),
        "i686" => "i386",
        "armv7" => "arm",
        "riscv64gc" => "riscv64",
        same => same,
    };
    let emulator = format!("qemu-{name}-static");
    installed(&emulator).map(|()| vec![emulator])
}

#[test]
fn each_binary_is_static_and_contains_no_path_of_the_build_machine() {
    needs!(binaries());
    for binary in binaries().unwrap() {
        let data = fs::read(&binary).unwrap();
        assert!(is_static(&data), "{}", binary.display());
        let paths =
            ["HOME", "CARGO_HOME", "CARGO_MANIFEST_DIR"].into_iter().filter_map(|name| env::var(name).ok());
        for path in paths.filter(|path| path.len() > 1) {
            let found = data.windows(path.len()).any(|window| window == path.as_bytes());
            assert!(!found, "{} contains {path}", binary.display());
        }
    }
}

#[test]
fn each_binary_supervises_programs_and_runs_a_command() {
    needs!(binaries());
    for binary in binaries().unwrap() {
        let emulator = match emulator(&binary) {
            Ok(words) => words,
            Err(why) => {
                skip(&format!("the binary for {}: {why}", machine(&binary)));
                continue;
            }
        };
        let words: Vec<_> = emulator.iter().map(String::as_str).collect();
        let through = |setup: Setup| setup.through(&words).of(&binary);

        let conf = program("web", "sleep 1000")
            + "autorestart=true\n"
            + &handler("db", "HUP", "echo hup > db; exit 3")
            + "autorestart=false\nshutdown_on=exited\n";
        for way in both_ways() {
            let mut rsup = through(rsup(&conf)).run_as(way).start();
            rsup.expect_all(&["success: web", "success: db"]);
            rsup.expect_ready(&["db"]);
            rsup.kill("web", SIGKILL);
            rsup.expect("exited: web (terminated by SIGKILL; not expected)");
            rsup.expect("success: web");
            rsup.signal(SIGHUP);
            rsup.expect_in_file("db", "hup");
            assert_eq!(rsup.exit_code(), 3, "{} {way:?}", binary.display());

            let (code, rsup) = through(command(&["sh", "-c", "echo said; exit 7"])).run_as(way).run();
            assert_eq!((code, rsup.read("stdout").as_str()), (7, "said\n"), "{} {way:?}", binary.display());
        }
        let (code, mut rsup) = through(self::rsup("[program:web]\n")).run();
        rsup.expect("web");
        assert_eq!(code, 2, "{}", binary.display());
    }
}

#[test]
fn a_build_in_another_directory_gives_the_same_bytes() {
    needs!(binaries());
    let other = tempfile::tempdir().unwrap();
    let sources =
        ["Cargo.toml", "Cargo.lock", "Makefile", "rust-toolchain.toml", ".cargo", "docker", "src", "tests"];
    let mut copy = Command::new("cp");
    copy.arg("-r").args(sources).arg(other.path()).current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(copy.status().unwrap().success());
    let build = Command::new("make")
        .arg("binaries")
        .current_dir(other.path())
        .env("CARGO_TARGET_DIR", other.path().join("elsewhere"))
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    let sums = |dist: &Path| fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    let ours = binaries().unwrap()[0].parent().unwrap().to_owned();
    assert_eq!(sums(&ours), sums(&other.path().join("elsewhere/dist")));
}
