//! A virtual machine with Debian's kernel for arm64, in which rsup is the init. The kernel starts rsup as the real PID
//! 1, and rsup runs 50 programs, a program of another user, and other tests of this test binary, which is built for
//! arm64 too. qemu-user refuses clone(CLONE_VM), so the tests of `make dist` never share memory with a child on arm64.
//!
//! `make arm64` builds the binary. `RSUP_ARM64` names the directory that contains it.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::probe::build_for;
use crate::support::{installed, needs, root, skip, within};

const TARGET: &str = "aarch64-unknown-linux-musl";

/// Debian's packages in the virtual machine: the kernel, the commands that the tests use, and other inits for the
/// benchmark.
const PACKAGES: &str =
    "linux-image-cloud-arm64,busybox-static,dash,coreutils,util-linux,mount,grep,sed,strace,tini,catatonit";

/// Files of these packages that would only make the initramfs larger.
const LEFT_OUT: [&str; 5] =
    ["/usr/share/*", "/lib/modules/*", "/lib/udev/*", "/usr/lib/linux-image*", "/usr/lib/*/gconv/*"];

/// The tests that run in the virtual machine. They do not depend on the speed of the machine, which qemu emulates.
const TESTS: [&str; 22] = [
    "command::a_command_that_cannot_be_executed_causes_exit_code_127_or_126_and_one_line",
    "command::every_signal_that_can_be_caught_reaches_each_member_of_the_group_once",
    "command::pid_1_terminates_every_process_before_it_exits",
    "command::remaining_members_get_sigterm_when_the_command_has_exited",
    "command::the_command_inherits_every_descriptor_but_rsups_own",
    "command::the_command_inherits_the_mask_and_the_ignored_signals",
    "environment::a_program_of_another_user_inherits_the_streams",
    "environment::a_program_starts_with_default_dispositions_and_an_empty_mask",
    "environment::a_uid_needs_no_passwd_file",
    "environment::a_user_name_sets_uid_gid_and_all_groups",
    "environment::minfds_and_minprocs_raise_the_limits",
    "environment::only_the_three_standard_descriptors_are_open",
    "faults::an_exec_that_hangs_delays_no_other_program",
    "lifecycle::rsup_as_pid_1_restarts_a_killed_program",
    "lifecycle::rsup_in_the_foreground_restarts_a_killed_program",
    "lifecycle::remaining_members_of_a_crashed_program_exit_before_the_restart",
    "lifecycle::rsup_stays_while_a_launchers_daemon_lives",
    "lifecycle::the_exit_code_is_that_of_the_first_program_whose_last_exit_was_unexpected",
    "reaping::fifty_programs_that_exit_at_once_are_each_restarted_once",
    "stop::a_daemon_that_forked_twice_gets_sigterm_too",
    "stop::a_program_is_stopped_by_its_stopsignal",
    "stop::stopasgroup_sends_the_stopsignal_to_the_whole_group",
];

/// The number of processes that are killed and restarted in each round of the storm.
const STORM: usize = 50;
const ROUNDS: usize = 5;

/// The first program that the kernel executes: a script, which becomes rsup. The kernel's trace records the flags of
/// each clone(2) in the virtual machine.
const INIT: &str = "#!/bin/busybox sh
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs -o mode=1777 tmp /tmp
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox ip link set lo up
echo 1 >/sys/kernel/tracing/events/task/task_newtask/enable
exec /sbin/rsup -c /etc/supervisord.conf
";

/// What the program `tests` executes. Exit status 42 means that everything succeeded.
const SCRIPT: &str = r#"
cd /
clones() { busybox grep ' rsup-1 ' /sys/kernel/tracing/trace; }
sleeping() { busybox pidof sleep | busybox wc -w; }
processes=$((STORM + 1))
starts=$((processes + 1))
for round in $(busybox seq ROUNDS); do
    until [ "$(clones | busybox wc -l)" = $starts ] && [ "$(sleeping)" = $processes ]; do busybox sleep 0.1; done
    kill -KILL $(busybox pidof sleep)
    starts=$((starts + processes))
done
until [ "$(clones | busybox wc -l)" = $starts ]; do busybox sleep 0.1; done
clones | busybox sed 's/.*clone_flags=\([0-9a-f]*\).*/clone of PID 1 with flags \1/'
echo 0 >/sys/kernel/tracing/tracing_on
export RSUP_BIN=/sbin/rsup RSUP_PROGRAMS=/programs
/tests/all --test-threads 4 --exact TESTS && ROUNDS=30 /tests/bench command && exit 42
"#;

fn conf() -> String {
    let restarted = "command=/storm/sleep 1000\nstartsecs=0\nautorestart=true\n";
    format!(
        "[program:storm]\n{restarted}process_name=storm%(process_num)d\nnumprocs={STORM}\n\
         [program:other-user]\n{restarted}user=65534:65534\n\
         [program:tests]\ncommand=sh /etc/tests.sh\nautorestart=false\nstartsecs=0\nshutdown_on=exited\n"
    )
}

/// The binary for arm64.
fn binary() -> Result<PathBuf, &'static str> {
    let directory = env::var_os("RSUP_ARM64").map(PathBuf::from);
    let file = directory.map(|directory| directory.join("rsup")).filter(|file| file.exists());
    file.ok_or("needs the binary of `make arm64`")
}

/// Installs Debian's packages for arm64 in a directory.
fn extract_packages(to: &Path) -> Result<(), String> {
    let mut mmdebstrap = Command::new("mmdebstrap");
    // The variant `extract` runs no program of the packages.
    mmdebstrap
        .args(["--quiet", "--architectures=arm64", "--variant=extract", "--skip=check/qemu"])
        .arg(format!("--include={PACKAGES}"))
        .args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")))
        .arg("bookworm")
        .arg(to);
    let output = mmdebstrap.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let why = || format!("needs Debian's packages for arm64, and mmdebstrap fails: {}", error.trim());
    output.status.success().then_some(()).ok_or_else(why)
}

/// Builds a test binary or a benchmark for arm64.
fn cross_build(words: &[&str]) -> PathBuf {
    let mut cargo = Command::new("cargo");
    cargo
        .args(words)
        .args(["--no-run", "--locked", "--message-format=json", "--target", TARGET])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", binary().unwrap().with_file_name("build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_STRIP", "debuginfo")
        // The flags of .cargo/config.toml leave out the unwind tables, which a test binary needs.
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).unwrap();
    let messages = messages.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_a_test = messages.filter(|message| message["target"]["kind"] != "bin");
    let executables: Vec<_> =
        of_a_test.filter_map(|message| Some(message["executable"].as_str()?.into())).collect();
    executables.last().cloned().expect("cargo names the executable")
}

/// Writes an executable file.
fn write_executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// Adds rsup, the tests and their programs to the root directory of the virtual machine.
fn fill(root: &Path) {
    for directory in ["dev", "etc", "proc", "programs", "sbin", "storm", "sys", "tests", "tmp"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(binary().unwrap(), root.join("sbin/rsup")).unwrap();
    fs::copy(cross_build(&["test", "--test", "all"]), root.join("tests/all")).unwrap();
    fs::copy(cross_build(&["bench", "--profile", "dev", "--bench", "bench"]), root.join("tests/bench"))
        .unwrap();
    for name in ["bench", "probe"] {
        build_for("aarch64", name, &root.join("programs").join(name));
    }
    symlink("/bin/busybox", root.join("storm/sleep")).unwrap();
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n").unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").unwrap();
    fs::write(root.join("etc/supervisord.conf"), conf()).unwrap();
    let script = SCRIPT
        .replace("STORM", &STORM.to_string())
        .replace("seq ROUNDS", &format!("seq {ROUNDS}"))
        .replace("TESTS", &TESTS.join(" "));
    fs::write(root.join("etc/tests.sh"), script).unwrap();
    write_executable(&root.join("init"), INIT);
}

/// qemu, which is killed when the value is dropped.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Boots the kernel with a root directory. Returns everything that was written to the console.
fn boot(root: &Path, directory: &Path) -> String {
    let kernels = fs::read_dir(root.join("boot")).unwrap().map(|entry| entry.unwrap().path());
    let kernel = kernels.into_iter().find(|file| file.to_str().unwrap().contains("/vmlinuz-")).unwrap();
    let initrd = directory.join("initrd");
    // The archive is not compressed, because the emulated machine decompresses slowly.
    let pack = "find . -path ./boot -prune -o -print | cpio --quiet -o -H newc";
    let mut packed = Command::new("sh");
    packed.args(["-c", pack]).current_dir(root).stdout(File::create(&initrd).unwrap());
    assert!(packed.status().unwrap().success());

    let console = directory.join("console");
    let mut qemu = Command::new("qemu-system-aarch64");
    qemu.args(["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "1024", "-nic", "none", "-nographic"])
        // The kernel panics when PID 1 exits, and reboots because of `panic=-1`. qemu exits instead of rebooting.
        .args(["-no-reboot", "-append", "console=ttyAMA0 panic=-1 quiet", "-kernel"])
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd)
        .stdin(Stdio::null())
        .stdout(File::create(&console).unwrap());
    let mut machine = Machine(qemu.spawn().unwrap());
    let ended = within(Duration::from_secs(300), || machine.0.try_wait().unwrap());
    let console = String::from_utf8_lossy(&fs::read(console).unwrap()).replace('\r', "");
    assert!(ended.is_some(), "the virtual machine did not end:\n{console}");
    console
}

/// The microseconds that an init adds to a command, according to the table of `make bench TABLES=command`.
fn added(console: &str, init: &str) -> Option<f64> {
    let row = console.lines().find(|line| line.starts_with(&format!("| {init} |")))?;
    row.split('|').nth(3)?.trim().parse().ok()
}

#[test]
fn rsup_is_the_init_of_an_arm64_kernel() {
    needs!(binary(), root(), installed("qemu-system-aarch64"), installed("mmdebstrap"), installed("cpio"));
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    if let Err(why) = extract_packages(&root) {
        return skip(&why);
    }
    fill(&root);
    let console = boot(&root, directory.path());
    let count = |text: &str| console.matches(text).count();

    // Each line of the kernel's trace is one start by the real PID 1. Flag 100 is CLONE_VM. A child that changes its
    // user is forked.
    let with_flags = |flags: &str| console.lines().filter(|line| line.ends_with(flags)).count();
    let starts = ROUNDS + 1;
    assert_eq!(with_flags("clone of PID 1 with flags 100"), starts * STORM + 1, "{console}");
    assert_eq!(with_flags("clone of PID 1 with flags 0"), starts, "{console}");
    for process in (0..STORM).map(|number| format!("storm{number}")).chain(["other-user".into()]) {
        assert_eq!(count(&format!("INFO spawned: '{process}' with pid ")), starts, "{process}: {console}");
        let killed = format!("exited: {process} (terminated by SIGKILL; not expected)");
        assert_eq!(count(&killed), ROUNDS, "{process}: {console}");
        assert_eq!(count(&format!("stopped: {process} (terminated by SIGTERM)")), 1, "{process}: {console}");
    }

    let result = format!("test result: ok. {} passed; 0 failed;", TESTS.len());
    assert!(console.contains(&result) && !console.contains("SKIP "), "{console}");

    // These times only show that no path of rsup is many times slower on arm64.
    let of_rsup = added(&console, "rsup").unwrap_or_else(|| panic!("{console}"));
    let of_peers = ["catatonit", "tini-static"].map(|init| added(&console, init));
    for of_peer in of_peers {
        let of_peer = of_peer.unwrap_or_else(|| panic!("{console}"));
        assert!(of_rsup < 5.0 * of_peer, "{console}");
    }
    println!("added to a command, in µs: rsup {of_rsup}, catatonit and tini {of_peers:?}");

    // The kernel's message contains the wait status of PID 1: exit status 42 is 2a.
    assert!(console.contains("Attempted to kill init! exitcode=0x00002a00"), "{console}");
}
