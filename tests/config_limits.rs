//! Configuration files that are far too large, and files that include without end. For each of them, `rsup --check`
//! must end soon and use little memory.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{binary, installed, make_fifo, needs};

/// The CPU time in seconds after which the kernel kills rsup. Each file of these tests needs much less.
const MAX_CPU_SECONDS: u32 = 20;
/// The address space in KiB that rsup may use.
const MAX_MEMORY: &str = "500000";

/// Runs `rsup --check` on `supervisord.conf` in this directory, with the two limits.
fn check(directory: &Path) -> Output {
    let limits = format!("ulimit -v {MAX_MEMORY}; ulimit -t {MAX_CPU_SECONDS}");
    Command::new("sh")
        .args(["-c", &format!("{limits}; exec \"$0\" --check -c supervisord.conf")])
        .arg(binary())
        .current_dir(directory)
        .output()
        .unwrap()
}

/// Checks a file. Returns rsup's exit code and stderr.
#[track_caller]
fn checked(text: &str, prepare: impl FnOnce(&Path)) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("supervisord.conf"), text).unwrap();
    prepare(directory.path());
    let output = check(directory.path());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Asserts that rsup refuses this file with this error message.
#[track_caller]
fn refused(text: &str, message: &str) {
    let (code, stderr) = checked(text, |_| {});
    assert_eq!(code, Some(2), "{}", stderr.chars().take(2_000).collect::<String>());
    assert!(stderr.contains(message), "no {message:?} in {}", stderr.chars().take(2_000).collect::<String>());
}

#[test]
fn a_line_of_one_mebibyte_is_read_and_a_line_of_ten_is_refused() {
    let line = |length| format!("[program:x]\ncommand={}\n", "x".repeat(length));
    assert_eq!(checked(&line(1 << 20), |_| {}), (Some(0), String::new()));
    refused(&line(10 << 20), "could not read config file supervisord.conf: too large");
}

#[test]
fn a_million_empty_lines_are_read_with_every_line_ending() {
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
fn lines_that_end_with_a_carriage_return_are_read() {
    let many = "\r".repeat(3 << 20);
    assert_eq!(checked(&format!("[program:x]\rcommand=x\r{many}"), |_| {}), (Some(0), String::new()));
}

#[test]
fn text_that_many_sections_inherit_from_default_is_bounded() {
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
    // Each of the 50,000 sections inherits all 100,000 keys of [DEFAULT].
    let keys: String = (0..100_000).map(|number| format!("k{number}=%(here)s\n")).collect();
    let plugins: String = (0..50_000).map(|number| format!("[rpcinterface:p{number}]\n")).collect();
    let (code, _) =
        checked(&format!("[DEFAULT]\nsupervisor.rpcinterface_factory=x\n{keys}{plugins}"), |_| {});
    assert_eq!(code, Some(2), "%(here)s is not allowed in a key of [rpcinterface:x]");
}

#[test]
fn a_number_that_makes_too_many_processes_or_too_much_text_is_refused() {
    refused(
        "[program:x]\ncommand=x\nnumprocs=1000000000\nprocess_name=%(process_num)d\n",
        "numprocs=1000000000 makes more processes than a machine can run",
    );
    let name = "%(process_num)50000d".repeat(1000);
    refused(&format!("[program:x]\ncommand={name}\n"), "the result is too long");
}

#[test]
fn a_hundred_thousand_processes_are_read() {
    let text = "[program:x]\ncommand=x %(process_num)d\nnumprocs=100000\nprocess_name=%(process_num)06d\n";
    assert_eq!(checked(text, |_| {}), (Some(0), String::new()));
}

#[test]
fn a_file_that_includes_itself_is_read_once() {
    let text = "[include]\nfiles=*.conf *.conf supervisord.conf\n[program:x]\ncommand=x\n";
    let (code, stderr) =
        checked(text, |directory| symlink("supervisord.conf", directory.join("loop.conf")).unwrap());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn ten_thousand_included_files_are_read_and_one_more_is_refused() {
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
    let (code, stderr) = checked(text, files(10_001));
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("supervisord.conf:2: error: [include] files: ")
            && stderr.contains("exceeds the limit of 10000 matching paths"),
        "{stderr}"
    );
}

#[test]
fn an_included_fifo_or_device_is_not_read() {
    needs!(installed("mkfifo"));
    let text = "[include]\nfiles=fifo zero\n[program:x]\ncommand=x\n";
    let (code, stderr) = checked(text, |directory| {
        make_fifo(&directory.join("fifo"));
        symlink("/dev/zero", directory.join("zero")).unwrap();
    });
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stderr.matches(": not a regular file").count(), 2, "{stderr}");
}

/// The CPU time in seconds of `rsup --check`. Other load on the machine hardly changes the CPU time.
fn cpu_seconds(directory: &Path) -> f64 {
    let output = Command::new("bash")
        .args(["-c", "TIMEFORMAT='%3U %3S'; time \"$0\" --check -c supervisord.conf"])
        .arg(binary())
        .current_dir(directory)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    stderr.split_whitespace().map(|seconds| seconds.parse::<f64>().expect(&stderr)).sum()
}

#[test]
fn the_time_to_read_a_file_grows_linearly_with_its_size() {
    needs!(installed("bash"));
    let file = |programs: u32| -> String {
        let program =
            |number| format!("[program:p{number}]\ncommand=x %(program_name)s\nenvironment=A=1,B=\"2\"\n");
        (0..programs).map(program).collect()
    };
    let best = |text: String| {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("supervisord.conf"), text).unwrap();
        (0..5).map(|_| cpu_seconds(directory.path())).fold(f64::INFINITY, f64::min)
    };
    let small = best(file(5_000));
    let large = best(file(20_000));
    // The large file has four times as many programs. If the time were quadratic, the large file would take 16 times as
    // long as the small file.
    assert!(large < small * 9.0, "{small} s for 5,000 programs, {large} s for 20,000");
}
