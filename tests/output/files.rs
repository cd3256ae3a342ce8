//! Log files that the relay writes, where rsup differs from supervisord: other programs move or remove the files, and
//! files cannot be opened.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::count::{COUNT, counter, expect_written, finish, with_backups};
use super::{python, relay, relays, shown};
use crate::support::{
    Rsup, Setup, at_once, eventually, make_fifo, needs, never, program, root, rsup, script, within,
};

/// A set-up with the directory `log`, which every user may write.
pub(super) fn with_log(conf: &str) -> Setup {
    let setup = rsup(conf).file("count.py", COUNT, 0o644);
    fs::create_dir(setup.path("log")).unwrap();
    fs::set_permissions(setup.path("log"), Permissions::from_mode(0o777)).unwrap();
    setup
}

/// The keys of a stdout log file that is never full.
pub(super) const LARGE: &str = "stdout_logfile=%(here)s/log/out\n";

/// A program that writes a numbered line every 20 ms.
const TICK: &str = r"
import os, time
n = 0
while True:
    os.write(1, b'%d\n' % n)
    n += 1
    time.sleep(0.02)
";

/// The set-up of the ticker, with these keys.
fn ticking(keys: &str) -> Setup {
    with_log(&(program("job", "python3 -IS tick.py") + "startsecs=0\n" + keys)).file("tick.py", TICK, 0o644)
}

/// The numbers in files, joined in this order.
fn numbers(rsup: &Rsup, names: &[&str]) -> Vec<usize> {
    let text: String = names.iter().map(|name| rsup.read(name)).collect();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// Waits until the file has some lines.
fn expect_lines(rsup: &Rsup, name: &str, lines: usize) {
    eventually(&format!("{name} has {lines} lines"), || {
        (rsup.read(name).matches('\n').count() >= lines).then_some(())
    });
}

#[test]
fn a_log_file_that_was_moved_away_is_opened_again_within_a_second() {
    needs!(python());
    let mut rsup = ticking(LARGE).start();
    for round in 0..3 {
        expect_lines(&rsup, "log/out", 5);
        fs::rename(rsup.path("log/out"), rsup.path(&format!("log/moved{round}"))).unwrap();
        eventually("the file is opened again", || rsup.path("log/out").exists().then_some(()));
    }
    expect_lines(&rsup, "log/out", 5);
    assert_eq!(rsup.stop(), 0);
    let numbers = numbers(&rsup, &["log/moved0", "log/moved1", "log/moved2", "log/out"]);
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no line is lost");
    // A line is written every 20 ms, so these are the lines of about a second.
    for round in 1..3 {
        let lines = rsup.read(&format!("log/moved{round}")).lines().count();
        assert!(lines < 150, "{lines} lines went into the moved file");
    }
}

#[test]
fn a_log_file_that_another_program_has_replaced_is_used() {
    needs!(python());
    let mut rsup = ticking(LARGE).start();
    expect_lines(&rsup, "log/out", 5);
    // logrotate's `create` makes the new file itself.
    fs::write(rsup.path("log/new"), "").unwrap();
    fs::set_permissions(rsup.path("log/new"), Permissions::from_mode(0o640)).unwrap();
    fs::rename(rsup.path("log/out"), rsup.path("log/moved")).unwrap();
    fs::rename(rsup.path("log/new"), rsup.path("log/out")).unwrap();
    expect_lines(&rsup, "log/out", 5);
    assert_eq!(rsup.stop(), 0);
    let numbers = numbers(&rsup, &["log/moved", "log/out"]);
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "no line is lost");
    assert_eq!(fs::metadata(rsup.path("log/out")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn a_log_file_that_was_removed_is_created_again() {
    needs!(python());
    let mut rsup = ticking(LARGE).start();
    expect_lines(&rsup, "log/out", 5);
    fs::remove_file(rsup.path("log/out")).unwrap();
    expect_lines(&rsup, "log/out", 5);
    assert_eq!(rsup.stop(), 0);
    let numbers = numbers(&rsup, &["log/out"]);
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len()).collect::<Vec<_>>());
}

#[test]
fn a_log_file_that_was_truncated_has_no_hole() {
    needs!(python());
    // The second round truncates a file that the relay has opened for a rotation.
    let keys = LARGE.to_owned() + "stdout_logfile_maxbytes=200\nstdout_logfile_backups=5\n";
    for keys in [LARGE, &keys] {
        let mut rsup = ticking(keys).start();
        if keys != LARGE {
            expect_lines(&rsup, "log/out.1", 5);
        }
        expect_lines(&rsup, "log/out", 5);
        fs::File::create(rsup.path("log/out")).unwrap();
        expect_lines(&rsup, "log/out", 5);
        assert_eq!(rsup.stop(), 0);
        assert!(!rsup.read("log/out").contains('\0'), "{:?}", rsup.read("log/out"));
    }
}

#[test]
fn the_directory_of_a_log_file_may_be_removed_and_made_again() {
    needs!(python());
    at_once(&["", "stdout_logfile_maxbytes=200\nstdout_logfile_backups=2\n"], |&keys| {
        let mut rsup = ticking(&(LARGE.to_owned() + keys)).start();
        expect_lines(&rsup, "log/out", 5);
        let job = rsup.pid_of("job");
        let pid = relay(&rsup);
        // The relay may create a file meanwhile.
        eventually("the directory is removed", || fs::remove_dir_all(rsup.path("log")).ok());
        // Time passes in which the relay looks for the file, and rotates.
        never("the program or the relay ends", Duration::from_millis(1500), || {
            relays(&rsup) != [pid] || rsup.pid_of("job") != job
        });
        fs::create_dir(rsup.path("log")).unwrap();
        expect_lines(&rsup, "log/out", 5);
        assert_eq!((relays(&rsup), rsup.pid_of("job")), (vec![pid], job), "{keys:?}");
        assert_eq!(rsup.stop(), 0);
        let numbers = numbers(&rsup, &["log/out"]);
        let first = numbers[0];
        assert_eq!(numbers, (first..first + numbers.len()).collect::<Vec<_>>());
    });
}

#[test]
fn no_byte_is_lost_when_both_streams_rotate_one_file() {
    needs!(python());
    let keys = LARGE.to_owned()
        + "stdout_logfile_maxbytes=100000\nstdout_logfile_backups=10000\n\
           stderr_logfile=%(here)s/log/out\nstderr_logfile_maxbytes=100000\nstderr_logfile_backups=10000\n";
    let mut rsup = with_log(&(counter("job", "12 16") + &keys)).start();
    expect_written(&rsup, "job", 1_000_000);
    let written = finish(&rsup, &["job"])[0];
    assert_eq!(rsup.stop(), 0);
    let text = String::from_utf8(with_backups(&rsup.path("log/out"))).unwrap();
    let mut numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    let expected: Vec<u64> = (0..written / 16).flat_map(|number| [number, number]).collect();
    assert!(numbers == expected, "{} of {} numbers", numbers.len(), expected.len());
}

#[test]
fn a_log_file_that_cannot_be_opened_is_reported_and_the_program_has_rsups_stream() {
    at_once(&[(&[][..], "out\n"), (&["--output", "prefix"], "job | out\n")], |&(args, line)| {
        let conf = script("job", "echo out; exec sleep 1000") + "stdout_logfile=%(here)s/none/out\n";
        let mut rsup = rsup(&conf).args(args).start();
        rsup.expect("WARN can't open stdout_logfile of 'job': ENOENT");
        rsup.expect("success: job");
        rsup.expect_in_file("stdout", line);
        assert_eq!(rsup.stop(), 0);
        assert_eq!(rsup.read("stdout"), line);
    });
}

#[test]
fn a_log_file_is_used_from_the_next_start_on_when_it_can_be_opened() {
    let conf = script("job", "echo out; exec sleep 1000") + "startsecs=0\nstdout_logfile=%(here)s/none/out\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("WARN can't open stdout_logfile of 'job': ENOENT");
    rsup.expect("success: job");
    fs::create_dir(rsup.path("none")).unwrap();
    rsup.kill("job", libc::SIGKILL);
    rsup.expect("success: job");
    rsup.expect_in_file("none/out", "out");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn output_to_a_fifo_does_not_pass_through_the_relay() {
    let conf = script("job", "echo line; exec sleep 1000") + LARGE;
    let setup = with_log(&conf);
    make_fifo(&setup.path("log/out"));
    let mut setup_reader = fs::File::options().read(true).write(true).open(setup.path("log/out")).unwrap();
    let mut rsup = setup.start();
    let mut bytes = [0; 5];
    std::io::Read::read_exact(&mut setup_reader, &mut bytes).unwrap();
    assert_eq!(&bytes, b"line\n");
    rsup.expect("success: job");
    assert!(rsup.lines(" WARN ").is_empty(), "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_link_to_one_of_rsups_own_streams_is_that_stream() {
    let conf = script("job", "echo out; echo err >&2; exec sleep 1000")
        + LARGE
        + "stderr_logfile=%(here)s/log/err\n";
    let setup = with_log(&conf);
    // The two streams are crossed.
    symlink("/dev/stderr", setup.path("log/out")).unwrap();
    symlink("/dev/stdout", setup.path("log/err")).unwrap();
    let mut rsup = setup.start();
    rsup.expect("success: job");
    rsup.expect_in_file("stdout", "err\n");
    eventually("the line is in stderr", || rsup.log().iter().any(|line| line.0 == "out").then_some(()));
    assert!(rsup.lines(" WARN ").is_empty(), "{:?}", rsup.log());
    assert_eq!(rsup.stop(), 0);
    assert_eq!(rsup.read("stdout"), "err\n");
}

#[test]
fn a_device_as_a_log_file_is_not_rotated() {
    let conf =
        script("job", "echo line; exec sleep 1000") + "stdout_logfile=/dev/null\nstdout_logfile_maxbytes=1\n";
    let mut rsup = rsup(&conf).start();
    rsup.expect("success: job");
    assert_eq!(rsup.stop(), 0);
    let null = fs::metadata("/dev/null").unwrap();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&null.file_type()));
    assert!(!Path::new("/dev/null.1").exists());
}

/// rsup with a rotating log file and a program that has written more than one file.
fn rotating(setup: impl FnOnce(Setup) -> Setup) -> Rsup {
    let keys = LARGE.to_owned() + "stdout_logfile_maxbytes=100\nstdout_logfile_backups=3\n";
    let rsup = setup(ticking(&keys)).start();
    eventually("the log file is rotated", || rsup.path("log/out.3").exists().then_some(()));
    rsup
}

#[test]
fn the_relay_belongs_to_rsups_user() {
    needs!(root(), python());
    let words = ["setpriv", "--reuid=54399", "--regid=54399", "--clear-groups"];
    let ids = |pid: i32, key: &str| crate::support::proc::status(pid, key).unwrap();
    at_once(&[false, true], |&by_key| {
        let mut rsup = rotating(|setup| match by_key {
            false => setup.through(&words),
            true => setup.args(&["-u", "54399"]),
        });
        let pid = relay(&rsup);
        for key in ["Uid", "Gid"] {
            assert_eq!(ids(pid, key), "54399\t54399\t54399\t54399", "{key}");
        }
        assert_eq!(ids(pid, "CapEff"), "0000000000000000");
        for file in ["log/out", "log/out.1", "log/out.3"] {
            // The relay may just be renaming them.
            let owner = || fs::metadata(rsup.path(file)).ok().map(|file| (file.uid(), file.gid()));
            assert_eq!(eventually(file, owner), (54399, 54399), "{file}");
        }
        assert_eq!(rsup.stop(), 0);
    });
}

#[test]
fn log_files_are_rotated_on_a_read_only_root_and_without_proc() {
    needs!(root(), python(), crate::support::pid_namespace());
    // The directory of the test stays writable: rsup's own files are on it.
    let read_only =
        "mount --bind log log && mount -o remount,bind,ro / && umount -l /proc && umount -l /proc";
    let log = |setup: Setup| {
        let dir = shown(&setup.path("")).to_owned();
        setup.after(&format!("mount --bind {dir} {dir} && cd {dir} && {read_only}")).pid_1()
    };
    let mut rsup = rotating(log);
    assert!(rsup.lines(" WARN ").is_empty(), "{:?}", rsup.log());
    assert_eq!(relays(&rsup).len(), 1);
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_log_file_on_a_read_only_file_system_is_reported() {
    needs!(root(), crate::support::pid_namespace());
    let conf = script("job", "echo out; exec sleep 1000") + LARGE;
    let mut rsup =
        with_log(&conf).after("mount --bind log log && mount -o remount,bind,ro log").pid_1().start();
    rsup.expect("WARN can't open stdout_logfile of 'job': EROFS");
    rsup.expect("success: job");
    rsup.expect_in_file("stdout", "out\n");
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn a_rotated_log_file_works_with_standard_descriptors_closed() {
    needs!(python());
    at_once(&["<&-", ">&-", "2>&-", "<&- >&- 2>&-"], |&closed| {
        let mut rsup = rotating(|setup| setup.after(&format!("exec {closed}")));
        assert_eq!(rsup.stop(), 0, "{closed}");
        let sizes = || (1..=3).map(|n| rsup.read(&format!("log/out.{n}")).len());
        assert!(
            sizes().all(|size| (100..200).contains(&size)),
            "{closed}: {:?}",
            sizes().collect::<Vec<_>>()
        );
    });
}

#[test]
fn restarts_of_programs_leak_no_descriptor_of_the_relay() {
    const PROGRAMS: usize = 20;
    let keys = "process_name=w%(process_num)d\nnumprocs=20\nstartsecs=0\nautorestart=true\n\
                stdout_logfile=%(here)s/log/out%(process_num)d\nstderr_logfile=%(here)s/log/err%(process_num)d\n";
    let mut rsup = with_log(&(script("web", "echo line; exec sleep 1000") + keys)).start();
    let success: Vec<_> = (0..PROGRAMS).map(|number| format!("success: w{number} ")).collect();
    rsup.expect_all(&success);
    let counts = |rsup: &Rsup| [rsup.pid(), relay(rsup)].map(crate::support::proc::open_descriptors);
    let all_have = |rsup: &Rsup, lines: usize| {
        (0..PROGRAMS).for_each(|n| expect_lines(rsup, &format!("log/out{n}"), lines))
    };
    all_have(&rsup, 1);
    let before = counts(&rsup);
    for round in 2..4 {
        (0..PROGRAMS).for_each(|number| rsup.kill(&format!("w{number}"), libc::SIGKILL));
        rsup.expect_all(&success);
        all_have(&rsup, round);
        // The relay may hold a descriptor for a moment while it writes the last bytes.
        let same = within(Duration::from_secs(5), || (counts(&rsup) == before).then_some(()));
        assert!(same.is_some(), "{before:?} {:?}", counts(&rsup));
    }
    assert_eq!(rsup.stop(), 0);
}
