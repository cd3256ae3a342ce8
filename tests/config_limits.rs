//! Files that nobody would write: rsup answers all the same, soon, and with little memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{binary, installed, needs};

/// The seconds of processor time that rsup may take: more than any of these needs, less than one that went wrong would.
const SOON: u32 = 20;
/// What rsup may take, in KiB.
const MEMORY: &str = "500000";

/// `rsup --check` of `supervisord.conf` in this directory, with bounded memory.
fn check(directory: &Path) -> Output {
    let limits = format!("ulimit -v {MEMORY}; ulimit -t {SOON}");
    Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" --check -c supervisord.conf")])
        .arg(binary())
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Checks a file; its exit code, and what was said.
#[track_caller]
fn checked(text: &str, prepare: impl FnOnce(&Path)) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("supervisord.conf"), text).unwrap();
    prepare(directory.path());
    let output = check(directory.path());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[track_caller]
fn refused(text: &str, why: &str) {
    let (code, said) = checked(text, |_| {});
    assert_eq!(code, Some(2), "{}", said.chars().take(2_000).collect::<String>());
    assert!(said.contains(why), "no {why:?} in {}", said.chars().take(2_000).collect::<String>());
}

#[test]
fn a_long_line_is_read_or_refused() {
    let line = |length| format!("[program:x]\ncommand={}\n", "x".repeat(length));
    assert_eq!(checked(&line(1 << 20), |_| {}), (Some(0), String::new()));
    refused(&line(10 << 20), "could not read config file supervisord.conf: too large");
}

#[test]
fn a_million_lines_are_read_whatever_ends_them() {
    for end in ["\n", "\r", "\r\n"] {
        let text = ["[program:x]", end, "command=x", &end.repeat(1_000_000)].concat();
        assert_eq!(checked(&text, |_| {}), (Some(0), String::new()), "{end:?}");
    }
}

#[test]
fn a_hundred_thousand_sections_are_read() {
    let many: String = (0..100_000).map(|number| format!("[program:p{number}]\ncommand=x\n")).collect();
    assert_eq!(checked(&many, |_| {}), (Some(0), String::new()));
}

#[test]
fn lines_that_end_as_on_old_macs_are_read() {
    let many = "\r".repeat(3 << 20);
    assert_eq!(checked(&format!("[program:x]\rcommand=x\r{many}"), |_| {}), (Some(0), String::new()));
}

#[test]
fn what_many_sections_inherit_is_not_stored_for_each() {
    let many: String = (0..50_000).map(|number| format!("[program:p{number}]\n")).collect();
    let long = "x".repeat(1 << 20);
    refused(&format!("[DEFAULT]\ncommand={long}\n{many}"), "more text than a machine can hold");
    refused(&format!("[DEFAULT]\ncommand=x\nstartsecs={long}\n{many}"), "more findings are not shown");
    let words = "x ".repeat(150);
    refused(&format!("[DEFAULT]\ncommand={words}\n{many}"), "more text than a machine can hold");
    let variables: String = (0..5_000).map(|number| format!("V{number}=1,")).collect();
    refused(
        &format!("[supervisord]\nenvironment={variables}\n[DEFAULT]\ncommand=x\n{many}"),
        "more text than a machine can hold",
    );
    // Two of a kind, each with all that the other has.
    let keys: String = (0..100_000).map(|number| format!("k{number}=%(here)s\n")).collect();
    let plugins: String = (0..50_000).map(|number| format!("[rpcinterface:p{number}]\n")).collect();
    let (code, _) =
        checked(&format!("[DEFAULT]\nsupervisor.rpcinterface_factory=x\n{keys}{plugins}"), |_| {});
    assert_eq!(code, Some(2), "%(here)s is no name for a plugin");
}

#[test]
fn numbers_have_an_end() {
    refused(
        "[program:x]\ncommand=x\nnumprocs=1000000000\nprocess_name=%(process_num)d\n",
        "numprocs=1000000000 makes more processes than a machine can run",
    );
    let name = "%(process_num)50000d".repeat(1000);
    refused(&format!("[program:x]\ncommand={name}\n"), "the result is too long");
}

#[test]
fn many_processes_are_read() {
    let text = "[program:x]\ncommand=x %(process_num)d\nnumprocs=100000\nprocess_name=%(process_num)06d\n";
    assert_eq!(checked(text, |_| {}), (Some(0), String::new()));
}

#[test]
fn an_include_of_itself_ends() {
    let text = "[include]\nfiles=*.conf *.conf supervisord.conf\n[program:x]\ncommand=x\n";
    let (code, said) =
        checked(text, |directory| symlink("supervisord.conf", directory.join("loop.conf")).unwrap());
    assert_eq!((code, said.as_str()), (Some(0), ""));
}

#[test]
fn many_files_are_included_up_to_a_limit() {
    let text = "[include]\nfiles=d/*.conf\n";
    let files = |count: u32| {
        move |directory: &Path| {
            fs::create_dir(directory.join("d")).unwrap();
            for number in 0..count {
                let program = format!("[program:p{number}]\ncommand=x\n");
                fs::write(directory.join(format!("d/{number}.conf")), program).unwrap();
            }
        }
    };
    assert_eq!(checked(text, files(10_000)), (Some(0), String::new()));
    let (code, said) = checked(text, files(10_001));
    assert_eq!(code, Some(2));
    assert!(
        said.contains("supervisord.conf:2: error: [include] files: ")
            && said.contains("exceeds the limit of 10000 matching paths"),
        "{said}"
    );
}

#[test]
fn what_never_ends_is_not_read() {
    needs!(installed("mkfifo"));
    let text = "[include]\nfiles=fifo zero\n[program:x]\ncommand=x\n";
    let (code, said) = checked(text, |directory| {
        assert!(Command::new("mkfifo").arg(directory.join("fifo")).status().unwrap().success());
        symlink("/dev/zero", directory.join("zero")).unwrap();
    });
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches(": not a regular file").count(), 2, "{said}");
}

/// Seconds of processor time that a check takes: what else the machine does hardly changes them.
fn processor_time(directory: &Path) -> f64 {
    let output = Command::new("bash")
        .args(["-c", "TIMEFORMAT='%3U %3S'; time \"$0\" --check -c supervisord.conf"])
        .arg(binary())
        .current_dir(directory)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    said.split_whitespace().map(|seconds| seconds.parse::<f64>().expect(&said)).sum()
}

#[test]
fn twice_the_file_takes_twice_the_time() {
    needs!(installed("bash"));
    let file = |programs: u32| -> String {
        let program =
            |number| format!("[program:p{number}]\ncommand=x %(program_name)s\nenvironment=A=1,B=\"2\"\n");
        (0..programs).map(program).collect()
    };
    let best = |text: String| {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("supervisord.conf"), text).unwrap();
        (0..5).map(|_| processor_time(directory.path())).fold(f64::INFINITY, f64::min)
    };
    let (one, four) = (best(file(5_000)), best(file(20_000)));
    // Were it quadratic it would be sixteen times.
    assert!(four < one * 9.0, "{one} s for 5,000 programs, {four} s for 20,000");
}
