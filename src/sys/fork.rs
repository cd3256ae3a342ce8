//! Forking, and how the parent learns what came of the exec.
//!
//! Programs of a configuration are started by `fork`, whose child runs beside rsup in rsup's own memory: see [`ChildMemory`].
//! `vfork` and `posix_spawn` hold the parent up until the exec, and a hung mount below one program must not hold up PID 1.
//! The child reports each step that failed through a close-on-exec pipe; the pipe's end without a report says that the
//! exec worked. One command may be started by `vfork`: there is nothing else that rsup could do meanwhile.

use super::alloc::retry_allocations;
use super::clone_vm::{ChildMemory, ChildSetup};
use super::{Errno, Pid, cvt};
use nix::fcntl::OFlag;
use std::cell::UnsafeCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Strings that each end in NUL, one behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackedCStrings(Box<[u8]>);

/// A string that has a NUL byte, which the kernel cannot be handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InteriorNul;

impl PackedCStrings {
    /// Packs strings, each given in pieces.
    ///
    /// # Errors
    /// One of them cannot be handed to the kernel.
    pub fn pack<const N: usize>(
        strings: impl Iterator<Item = [impl AsRef<[u8]>; N]>,
    ) -> Result<Self, InteriorNul> {
        let mut bytes = Vec::new();
        for piece in strings.flat_map(|pieces| pieces.into_iter().map(Some).chain([None])) {
            match &piece {
                Some(piece) if piece.as_ref().contains(&0) => return Err(InteriorNul),
                Some(piece) => bytes.extend_from_slice(piece.as_ref()),
                None => bytes.push(0),
            }
        }
        Ok(Self(bytes.into_boxed_slice()))
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> + Clone {
        iter_cstrs(&self.0)
    }
}

/// Strings that each end in NUL, one behind the other.
pub(super) fn iter_cstrs(bytes: &[u8]) -> impl Iterator<Item = &CStr> + Clone {
    bytes.split_inclusive(|byte| *byte == 0).filter_map(|string| CStr::from_bytes_with_nul(string).ok())
}

/// A list of strings as `execve` takes it: pointers, a null pointer behind the last. (The default is not even that.)
#[derive(Debug, Default)]
pub(super) struct CStrArray<'a> {
    list: Vec<*const c_char>,
    strings: PhantomData<&'a CStr>,
}

impl<'a> FromIterator<&'a CStr> for CStrArray<'a> {
    fn from_iter<T: IntoIterator<Item = &'a CStr>>(strings: T) -> Self {
        let mut pointers = Self::default();
        pointers.extend(strings);
        pointers
    }
}

impl<'a> Extend<&'a CStr> for CStrArray<'a> {
    fn extend<T: IntoIterator<Item = &'a CStr>>(&mut self, strings: T) {
        self.list.pop();
        self.list.extend(strings.into_iter().map(CStr::as_ptr).chain([std::ptr::null()]));
    }
}

unsafe extern "C" {
    /// The C library's list of rsup's own variables.
    static environ: *const *const c_char;
}

impl<'a> CStrArray<'a> {
    /// rsup's own environment, as it came: nothing in rsup changes it.
    pub(super) fn environment() -> Self {
        // SAFETY: it was set before `main`.
        let list = unsafe { environ };
        let is_end = |index: &usize| {
            // SAFETY: nobody asks for what is beyond the end,
            let place = unsafe { list.add(*index) };
            // SAFETY: which a null pointer marks.
            unsafe { *place }.is_null()
        };
        let count = (0..).take_while(|index| !is_end(index)).count();
        // SAFETY: so many and the end are there, as long as rsup is.
        let list = unsafe { std::slice::from_raw_parts(list, count + 1) };
        Self { list: list.to_vec(), strings: PhantomData }
    }

    /// Where the first string is that begins so.
    pub(super) fn position(&self, beginning: &str) -> Option<usize> {
        self.list.iter().take_while(|pointer| !pointer.is_null()).position(|pointer| {
            // SAFETY: all but the null pointer at the end point to strings.
            unsafe { CStr::from_ptr(*pointer) }.to_bytes().starts_with(beginning.as_bytes())
        })
    }

    /// Puts a string in the place of one of the list. Async-signal-safe.
    pub(super) fn replace(&mut self, index: usize, string: &'a CStr) {
        if let Some(place) = self.list.get_mut(index) {
            *place = string.as_ptr();
        }
    }

    /// Takes all strings off the list.
    pub(super) fn clear(&mut self) {
        self.list.clear();
    }
}

/// Why nothing was forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// No pipe could be made.
    Pipe(Errno),
    /// No process could be made.
    Fork(Errno),
}

/// A step between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExecStep {
    /// The file for stdout could not be opened; rsup's own stream is used instead.
    Stdout,
    /// The same for stderr.
    Stderr,
    /// None of the candidates exists.
    NotFound,
    /// The candidate is a directory.
    Directory,
    /// The candidate has no x bit.
    NotExecutable,
    /// The candidate has an x bit, but not for rsup.
    NoPermission,
    /// Descriptors 0 to 2 could not be put in place.
    Streams,
    /// setgroups(2) failed.
    Groups,
    /// setgid(2) failed.
    Gid,
    /// setuid(2) failed.
    Uid,
    /// The directory could not be entered.
    Chdir,
    /// execve(2) failed.
    Exec,
}

impl ExecStep {
    const ALL: [Self; 12] = [
        Self::Stdout,
        Self::Stderr,
        Self::NotFound,
        Self::Directory,
        Self::NotExecutable,
        Self::NoPermission,
        Self::Streams,
        Self::Groups,
        Self::Gid,
        Self::Uid,
        Self::Chdir,
        Self::Exec,
    ];

    /// Whether the start goes on in spite of it.
    #[must_use]
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Stdout | Self::Stderr)
    }
}

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecFailure {
    /// Which.
    pub step: ExecStep,
    /// Which of the candidates it was about.
    pub candidate: u16,
    /// Why.
    pub errno: Errno,
}

impl ExecFailure {
    const SIZE: usize = 8;

    fn to_bytes(self) -> [u8; Self::SIZE] {
        let [a, b, c, d] = (self.errno as i32).to_le_bytes();
        let [e, f] = self.candidate.to_le_bytes();
        [self.step as u8, 0, e, f, a, b, c, d]
    }

    fn from_bytes([step, _, e, f, a, b, c, d]: [u8; Self::SIZE]) -> Option<Self> {
        let step = *ExecStep::ALL.get(usize::from(step))?;
        let errno = Errno::from_raw(i32::from_le_bytes([a, b, c, d]));
        Some(Self { step, candidate: u16::from_le_bytes([e, f]), errno })
    }
}

/// The parent's end of the pipe that says whether an exec works, and what the child is lent until then.
#[derive(Debug)]
pub struct ExecStatusPipe<S> {
    pipe: OwnedFd,
    /// The child's, also when nobody asks for it any more: only the pipe's end says that the child is gone from there.
    memory: ManuallyDrop<ChildMemory<S>>,
    ended: bool,
}

impl<S> ExecStatusPipe<S> {
    /// Hands over the reports that are there. Returns whether there will be no more: the exec has worked, unless one
    /// of the reports was about a step without which the start cannot go on.
    #[must_use]
    pub fn read(&mut self, mut receive: impl FnMut(ExecFailure)) -> bool {
        let mut bytes = [0; ExecFailure::SIZE];
        while !self.ended {
            match nix::unistd::read(&self.pipe, &mut bytes) {
                Ok(0) => self.ended = true,
                Ok(_) => {
                    if let Some(report) = ExecFailure::from_bytes(bytes) {
                        receive(report);
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// What the child had: the kernel takes a process out of the old memory before it closes what is close-on-exec, and
    /// one that dies out of its memory before its descriptors.
    pub(super) fn reclaim(self) -> Option<ChildMemory<S>> {
        self.ended.then(|| ManuallyDrop::into_inner(self.memory))
    }
}

impl<S> AsFd for ExecStatusPipe<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Lists where a command may be, as supervisord looks for it: a word with a slash is the path itself; else every entry of
/// `path`, an empty one being the current directory. Each ends in NUL.
pub(super) fn path_candidates(word: &[u8], path: &[u8], list: &mut Vec<u8>) {
    if word.contains(&b'/') {
        list.extend(word);
        list.push(0);
        return;
    }
    for directory in path.split(|byte| *byte == b':') {
        if !directory.is_empty() {
            list.extend(directory);
            list.push(b'/');
        }
        list.extend(word);
        list.push(0);
    }
}

/// Forks a process that leads a group of its own and does the steps until it is another program, or reports why not.
/// Returns at once, whatever the child will meet.
///
/// # Errors
/// Says what could not be made.
pub(super) fn spawn_with_status<S: ChildSetup>(
    mut memory: ChildMemory<S>,
) -> Result<(Pid, ExecStatusPipe<S>), SpawnError> {
    let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let (pipe, status) = nix::unistd::pipe2(flags).map_err(SpawnError::Pipe)?;
    let pid = memory.clone(status.as_raw_fd()).map_err(SpawnError::Fork)?;
    retry_allocations();
    set_process_group(pid.number());
    Ok((pid, ExecStatusPipe { pipe, memory: ManuallyDrop::new(memory), ended: false }))
}

/// Forks a process that leads a group of its own and does `steps` until it is another program, or leaves with the code
/// that they return.
///
/// # Errors
/// Of `clone(2)`.
pub(super) fn fork_exec(steps: impl FnOnce() -> u8) -> Result<Pid, Errno> {
    // SAFETY: rsup has one thread: the child may do what its parent may.
    let Some(pid) = unsafe { raw_fork() }? else {
        let code = set_group_and_run(steps);
        // SAFETY: takes a number; unlike exit(3) it runs nothing of the parent's.
        unsafe { libc::_exit(code) }
    };
    set_process_group(pid.number());
    Ok(pid)
}

/// The same, but rsup stands still until the child is another program, and lends it its memory: to copy that would take a
/// third of the time by which rsup delays a command.
///
/// # Errors
/// Of `clone(2)`.
pub(super) fn vfork_exec<ChildSetup: FnOnce() -> u8>(steps: ChildSetup) -> Result<Pid, Errno> {
    extern "C" fn run<ChildSetup: FnOnce() -> u8>(steps: *mut c_void) -> c_int {
        // SAFETY: it is the caller's, who stands still.
        let steps = unsafe { &mut *steps.cast::<Option<ChildSetup>>() };
        steps.take().map_or(0, set_group_and_run)
    }
    let mut steps = Some(steps);
    // It grows downwards, where rsup runs.
    // SAFETY: the end of the array.
    let top = unsafe { STACK.0.get().add(1) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: rsup has one thread, and that one stands still: stack and steps are the child's.
    let pid = unsafe { libc::clone(run::<ChildSetup>, top.cast(), flags, (&raw mut steps).cast()) };
    Pid::new(pid).ok_or_else(Errno::last)
}

fn set_group_and_run(steps: impl FnOnce() -> u8) -> c_int {
    set_process_group(0);
    steps().into()
}

/// Makes a child the leader of a group of its own; 0 is the caller. It is done in the child and in the parent: whoever
/// comes first, a signal to the group finds it. In the parent it fails when the exec came first. Async-signal-safe.
pub(super) fn set_process_group(pid: c_int) {
    // SAFETY: numbers.
    unsafe { libc::setpgid(pid, pid) };
}

/// For a few calls one in the other, and a line of text. Not on rsup's own stack: that would be touched page by page, and
/// each costs as much as a system call.
static STACK: Stack = Stack(UnsafeCell::new([0; STACK_SIZE]));

const STACK_SIZE: usize = 16 * 1024;

#[repr(align(16))]
struct Stack(UnsafeCell<[u8; STACK_SIZE]>);

// SAFETY: only children run on it, of whom there is one at a time.
unsafe impl Sync for Stack {}

/// fork(2) by itself, without what the C library does around it for threads and its own handlers: among that is a mask
/// for rsup that is only right while nothing fails. Returns the child, and in the child none.
///
/// # Safety
/// As of fork(2): the child may only do what is async-signal-safe.
pub(super) unsafe fn raw_fork() -> Result<Option<Pid>, Errno> {
    let (flags, stack) = (libc::c_long::from(libc::SIGCHLD), 0 as libc::c_long);
    let [first, second] = if cfg!(target_arch = "s390x") { [stack, flags] } else { [flags, stack] };
    // SAFETY: no flag but the signal, and the stack of the parent: a copy of it, as fork(2) makes.
    let pid = cvt(unsafe { libc::syscall(libc::SYS_clone, first, second, 0, 0, 0) })?;
    Ok(i32::try_from(pid).ok().and_then(Pid::new))
}

/// Reports a failed step. Async-signal-safe.
pub(super) fn report_failure(status: BorrowedFd<'_>, report: ExecFailure) {
    // An empty pipe has room for it. Were the reader gone, nobody would want to know.
    let _ = nix::unistd::write(status, &report.to_bytes());
}

/// Becomes another program; returns only when that fails. Async-signal-safe.
pub(super) fn exec(path: &CStr, argv: &CStrArray<'_>, envp: &CStrArray<'_>) -> Errno {
    // SAFETY: the path ends in NUL, and both lists are ended by a null pointer and point to strings that do.
    unsafe { libc::execve(path.as_ptr(), argv.list.as_ptr(), envp.list.as_ptr()) };
    Errno::last()
}
