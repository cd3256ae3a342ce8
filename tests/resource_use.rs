//! The resources that rsup uses: one thread, no wake-ups while idle, no leaked descriptor, no dynamic library.

use std::time::Duration;

use object::elf::{DT_NEEDED, FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind};

use crate::support::{SIGKILL, binary, both_ways, eventually, kill, needs, never, proc, program, rsup};

#[test]
fn rsup_has_one_thread_and_never_wakes_up_while_idle() {
    for way in both_ways() {
        let mut rsup = rsup(&program("web", "sleep 1000")).run_as(way).start();
        rsup.expect("success: web");
        let pid = rsup.pid();
        assert_eq!(proc::status(pid, "Threads").as_deref(), Some("1"));
        // rsup writes the log line before it sleeps again.
        eventually("rsup sleeps", || (proc::process(pid)?.state == 'S').then_some(()));
        let before = proc::context_switches(pid);
        never("rsup woke up although nothing happened", Duration::from_secs(1), || {
            proc::context_switches(pid) != before
        });
        assert_eq!(rsup.stop(), 0, "{way:?}");
    }
}

#[test]
fn restarts_leak_no_descriptor() {
    const PROGRAMS: usize = 50;
    let conf =
        program("web", "sleep 1000") + &format!("process_name=w%(process_num)d\nnumprocs={PROGRAMS}\n");
    let mut rsup = rsup(&conf).start();
    let success: Vec<_> = (0..PROGRAMS).map(|number| format!("success: w{number} ")).collect();
    rsup.expect_all(&success);
    let before = proc::open_descriptors(rsup.pid());
    for _ in 0..2 {
        rsup.tree().iter().for_each(|process| kill(process.pid, SIGKILL));
        rsup.expect_all(&success);
        assert_eq!(proc::open_descriptors(rsup.pid()), before);
    }
    assert_eq!(rsup.stop(), 0);
}

#[test]
fn failed_starts_leak_no_descriptor() {
    let conf = program("web", "sleep 1000") + &program("broken", "./broken") + "startretries=2\n";
    let mut rsup = rsup(&conf).file("broken", "#!/no/such/interpreter\n", 0o755).start();
    rsup.expect("success: web");
    let before = proc::open_descriptors(rsup.pid());
    rsup.expect("gave up: broken");
    assert!(proc::open_descriptors(rsup.pid()) <= before);
    assert_eq!(rsup.stop(), 0);
}

/// Whether the ELF headers of a binary name a dynamic loader, and how many dynamic libraries they name.
fn dependencies<Header: FileHeader<Endian = Endianness>>(data: &[u8]) -> (bool, usize) {
    let header = Header::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let segments = header.program_headers(endian, data).unwrap();
    let interpreter = segments.iter().any(|segment| segment.p_type(endian) == PT_INTERP);
    let entries = segments.iter().filter_map(|segment| segment.dynamic(endian, data).unwrap()).flatten();
    (interpreter, entries.filter(|entry| entry.tag(endian) == DT_NEEDED).count())
}

/// Whether a binary needs no dynamic loader and no dynamic library.
pub(crate) fn is_static(data: &[u8]) -> bool {
    let dependencies = match FileKind::parse(data).unwrap() {
        FileKind::Elf32 => dependencies::<FileHeader32<_>>,
        _ => dependencies::<FileHeader64<_>>,
    };
    dependencies(data) == (false, 0)
}

/// Whether the binary under test is the static release binary, and not the debug binary that cargo built for the tests.
pub(crate) fn shipped_binary() -> Result<(), &'static str> {
    std::env::var_os("RSUP_BIN").map(|_| ()).ok_or("needs the static binary in RSUP_BIN: use `make test`")
}

#[test]
fn the_binary_needs_no_dynamic_loader_and_no_dynamic_library() {
    needs!(shipped_binary());
    assert!(is_static(&std::fs::read(binary()).unwrap()));
}
