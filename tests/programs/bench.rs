//! The program that the benchmark runs under each init, and the two lower bounds: the loop that only starts and waits,
//! and the program that does nothing. The program does not use std, so that its own start costs almost nothing.
//!
//! Each start appends one record to the file that `BENCH_RECORDS` names: the nanoseconds of CLOCK_MONOTONIC, in eight
//! bytes.
#![no_std]
#![no_main]

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::ptr::null;

#[repr(C)]
struct Time {
    seconds: i64,
    nanoseconds: c_long,
}

#[link(name = "c")]
unsafe extern "C" {
    static environ: *const *const c_char;
    fn getenv(name: *const c_char) -> *const c_char;
    fn atol(text: *const c_char) -> c_long;
    fn clock_gettime(clock: c_int, time: *mut Time) -> c_int;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, count: usize) -> isize;
    fn close(fd: c_int) -> c_int;
    fn pause() -> c_int;
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn fork() -> c_int;
    fn setpgid(pid: c_int, group: c_int) -> c_int;
    fn clone(run: extern "C" fn(*mut c_void) -> c_int, stack: *mut c_void, flags: c_int, ...) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}

const SIGKILL: c_int = 9;
const SIGUSR1: c_int = 10;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unsafe { _exit(101) }
}

#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let word = |at: usize| unsafe { *argv.add(at) };
    let what = if argc < 2 { c"" } else { unsafe { CStr::from_ptr(word(1)) } };
    match what.to_bytes() {
        b"true" => 0,
        b"stamp" => stamp(unsafe { argv.add(2) }),
        b"bare" => bare(unsafe { atol(word(2)) }, word(3)),
        // s6 passes the name of the service as an argument.
        _ => program(),
    }
}

/// Appends one record.
fn record() {
    const MONOTONIC: c_int = 1;
    const WRITE_CREATE_APPEND: c_int = 0o1 | 0o100 | 0o2000;
    let mut time = Time { seconds: 0, nanoseconds: 0 };
    unsafe { clock_gettime(MONOTONIC, &raw mut time) };
    let nanoseconds = time.seconds * 1_000_000_000 + time.nanoseconds;
    let file = unsafe { open(getenv(c"BENCH_RECORDS".as_ptr()), WRITE_CREATE_APPEND, 0o666) };
    unsafe { write(file, (&raw const nanoseconds).cast(), size_of_val(&nanoseconds)) };
    unsafe { close(file) };
}

/// The supervised program: idle, or the creator of an exit storm if `BENCH_ORPHANS` is set.
fn program() -> c_int {
    record();
    let orphans = unsafe { getenv(c"BENCH_ORPHANS".as_ptr()) };
    if !orphans.is_null() {
        storm(unsafe { atol(orphans) });
    }
    loop {
        unsafe { pause() };
    }
}

/// Creates orphans of the init, appends a record, and kills all orphans when SIGUSR1 arrives.
fn storm(orphans: c_long) {
    static mut GROUP: c_int = 0;
    extern "C" fn kill_group(_: c_int) {
        unsafe { kill(-GROUP, SIGKILL) };
    }
    let parent = unsafe { fork() };
    if parent == 0 {
        unsafe { setpgid(0, 0) };
        for _ in 0..orphans {
            match unsafe { fork() } {
                0 => loop {
                    unsafe { pause() };
                },
                1.. => {}
                _ => unsafe { _exit(1) },
            }
        }
        unsafe { _exit(0) };
    }
    let mut status = 0;
    unsafe { waitpid(parent, &raw mut status, 0) };
    unsafe { GROUP = parent };
    unsafe { signal(SIGUSR1, kill_group) };
    if status == 0 {
        record();
    }
}

/// `stamp COMMAND…`: appends a record, and executes a command.
fn stamp(argv: *const *const c_char) -> c_int {
    record();
    unsafe { execve(*argv, argv, environ) };
    127
}

/// `bare COUNT PATH`: keeps `COUNT` processes of a program running, by vfork, exec and waitpid only. This is the least
/// that an init can do. If `BENCH_ORPHANS` is set, the loop reaps and restarts nothing. SIGTERM ends the loop and all
/// processes.
fn bare(count: c_long, path: *const c_char) -> c_int {
    extern "C" fn leave(_: c_int) {
        unsafe { kill(-1, SIGTERM) };
        while unsafe { waitpid(-1, core::ptr::null_mut(), 0) } > 0 {}
        unsafe { _exit(0) };
    }
    unsafe { signal(SIGTERM, leave) };
    for _ in 0..count {
        vfork_and_exec(path);
    }
    let starts_again = unsafe { getenv(c"BENCH_ORPHANS".as_ptr()) }.is_null();
    loop {
        if unsafe { waitpid(-1, core::ptr::null_mut(), 0) } > 0 && starts_again {
            vfork_and_exec(path);
        }
    }
}

/// vfork and exec through clone(2), because vfork(2) returns twice and so cannot be called from Rust.
fn vfork_and_exec(path: *const c_char) {
    const VM_VFORK: c_int = 0x100 | 0x4000;
    #[repr(align(16))]
    struct Stack(#[allow(dead_code)] [u8; 4096]);
    static mut STACK: Stack = Stack([0; 4096]);
    extern "C" fn run(path: *mut c_void) -> c_int {
        let argv = [path.cast_const().cast(), null()];
        unsafe { execve(argv[0], argv.as_ptr(), environ) };
        127
    }
    let top = unsafe { (&raw mut STACK).add(1) };
    unsafe { clone(run, top.cast(), VM_VFORK | SIGCHLD, path) };
}
