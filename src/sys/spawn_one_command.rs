//! Starts one command as a shell would. The command inherits the environment, the descriptors and the signal mask that
//! rsup was started with. It gets its own process group, which can replace rsup's process group in the foreground of
//! the terminal.

use super::errno::Errno;
use super::exec::{CStrArray, exec, path_candidates};
use super::exec_status::{ExecFailure, ExecStep};
use super::fork::{fork_exec, vfork_exec};
use super::interpreter::{Interpreter, is_text, unusable_interpreter};
use super::kill::Pid;
use super::signals::SavedMask;
use super::signals::block_all;
use super::terminal;
use nix::unistd::AccessFlags;
use std::convert::Infallible;
use std::env;
use std::ffi::{CStr, CString, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The directories in which a command is looked for if PATH is unset, as in musl's `execvp`.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/bin:/usr/bin";

/// Starts the command. If `wants_foreground` is set and rsup's process group is the foreground process group of the
/// terminal on stdin, the command's process group becomes the foreground process group instead. If the exec fails, the
/// child calls `report_error`, which returns the child's exit status. If the exec fails because of an interpreter, the
/// second argument of `report_error` is the interpreter's path; otherwise it is empty.
///
/// # Errors
/// Returns the errno of clone(2).
pub fn spawn_one_command(
    words: &[OsString],
    inherited_mask: SavedMask,
    wants_foreground: bool,
    report_error: impl FnOnce(ExecFailure, &CStr) -> u8,
) -> Result<Pid, Errno> {
    // The kernel ends each argument of rsup at a NUL byte, so no argument contains one.
    let words: Vec<CString> = words.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
    let candidates = command_candidates(&words);
    let argv: CStrArray<'_> = words.iter().map(CString::as_c_str).collect();
    let mut script_shell = ScriptShell::new(&words);
    let mut envp = CStrArray::environment();
    let listen_pid_index = if has_own_listen_pid() {
        envp.remove(LISTEN_PIDFDID_KEY);
        envp.position(LISTEN_PID_KEY)
    } else {
        None
    };
    let mut listen_pid = [0; LISTEN_PID_SIZE];
    let rsups_group = terminal::own_group();
    let steps = || {
        if wants_foreground {
            // This call comes before the exec, because the command may read from the terminal at once.
            terminal::take_foreground_from(rsups_group);
        }
        if let Some(index) = listen_pid_index {
            envp.replace(index, write_listen_pid(&mut listen_pid));
        }
        let restored = inherited_mask.restore();
        let mask_failed = |errno| ExecFailure { step: ExecStep::Exec, candidate: 0, errno };
        let Err(failure) = restored
            .map_err(mask_failed)
            .and_then(|()| exec_first_candidate(&candidates, &argv, &mut script_shell, &envp));
        // With `stty tostop`, a background process that writes an error message to the terminal gets SIGTTOU, which
        // stops the process. Signals are blocked to prevent this stop, because rsup cannot notice it while vfork
        // suspends rsup.
        let _ = block_all();
        let path =
            candidates.get(usize::from(failure.candidate)).filter(|_| failure.step != ExecStep::NotFound);
        let interpreter = path.and_then(|path| unusable_interpreter(path));
        report_error(failure, interpreter.as_ref().map_or(c"", Interpreter::path))
    };
    // A terminal key such as ^Z can stop a foreground process before its exec. rsup can notice this stop only if vfork
    // does not suspend rsup, so a command in the foreground is forked.
    if wants_foreground { fork_exec(steps) } else { vfork_exec(steps) }
}

fn command_candidates(words: &[CString]) -> Vec<CString> {
    let word = words.first().map_or(&b""[..], |word| word.as_bytes());
    if word.is_empty() {
        // An empty command name is not looked up in PATH, because each candidate path would be a directory of PATH.
        return Vec::new();
    }
    let path = env::var_os("PATH").map_or_else(|| DEFAULT_PATH.to_vec(), OsString::into_vec);
    path_candidates(word, &path).collect()
}

const LISTEN_PID_KEY: &[u8] = b"LISTEN_PID=";
/// The variable of systemd 259 with the inode number of rsup's pidfd. sd_listen_fds(3) refuses another number than the
/// caller's own, but accepts that the variable is missing.
const LISTEN_PIDFDID_KEY: &[u8] = b"LISTEN_PIDFDID=";
/// Room for the key, the digits of a 32-bit number, and NUL.
const LISTEN_PID_SIZE: usize = LISTEN_PID_KEY.len() + 10 + 1;

/// Whether LISTEN_PID contains rsup's PID. If it does, the descriptors of sd_listen_fds(3) were passed to rsup, which
/// passes them on to the command. LISTEN_PID must then contain the command's PID.
fn has_own_listen_pid() -> bool {
    env::var_os("LISTEN_PID").is_some_and(|pid| *pid == *std::process::id().to_string())
}

/// Writes `LISTEN_PID=` with the pid of the caller into `buffer`. Async-signal-safe.
fn write_listen_pid(buffer: &mut [u8; LISTEN_PID_SIZE]) -> &CStr {
    let mut free_space = buffer.as_mut_slice();
    // Neither write fails, because the buffer has room for both.
    let _ = free_space.write_all(LISTEN_PID_KEY);
    let _ = write!(free_space, "{}", std::process::id());
    CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}

/// The shell that runs a script without a `#!` line, as POSIX requires of `execvp`.
struct ScriptShell<'a> {
    argv: CStrArray<'a>,
    /// The index of the script's path in `argv`.
    script_index: usize,
}

impl<'a> ScriptShell<'a> {
    const PATH: &'static CStr = c"/bin/sh";

    /// Prepares the arguments of the shell before the fork. The path of the script is not known yet.
    fn new(words: &'a [CString]) -> Self {
        let word = words.first().map_or(&b""[..], |word| word.as_bytes());
        // The shell would take a path that begins with `-` or `+` for an option.
        let end_of_options = matches!(word, [b'-' | b'+', ..]).then_some(c"--");
        // The shell's argv[0] is its own path and not the first word of the command: busybox runs the applet that
        // argv[0] names.
        let options = [Self::PATH].into_iter().chain(end_of_options);
        let script_index = options.clone().count();
        let arguments = words.iter().skip(1).map(CString::as_c_str);
        Self { argv: options.chain([c""]).chain(arguments).collect(), script_index }
    }

    /// Executes the shell with the script at `path`, if the file at `path` is text. Returns only if the file is not
    /// text or the exec fails. Async-signal-safe.
    fn exec_script(&mut self, path: &'a CStr, envp: &CStrArray<'_>) {
        if is_text(path) {
            self.argv.replace(self.script_index, path);
            exec(Self::PATH, &self.argv, envp);
        }
    }
}

/// Executes the first path of `candidates` that can be executed, as `execvp` does. After a failed exec, tries the next
/// path only if the file does not exist or the errno is EACCES. Returns at once after any other errno. If no path is
/// left, returns the last failure with EACCES, or ENOENT if there was no such failure. Async-signal-safe.
fn exec_first_candidate<'a>(
    candidates: &'a [CString],
    argv: &CStrArray<'_>,
    shell: &mut ScriptShell<'a>,
    envp: &CStrArray<'_>,
) -> Result<Infallible, ExecFailure> {
    let mut failure = ExecFailure { step: ExecStep::NotFound, candidate: 0, errno: Errno::ENOENT };
    for (candidate, path) in (0..=u16::MAX).zip(candidates) {
        let errno = exec(path, argv, envp);
        if errno == Errno::ENOEXEC {
            shell.exec_script(path, envp);
        }
        match errno {
            // execve(2) also fails with ENOENT for a script that exists, if the script's interpreter does not exist.
            Errno::ENOENT | Errno::ENOTDIR if !exists(path) => {}
            Errno::EACCES => {
                failure = ExecFailure { step: ExecStep::NoPermission, candidate, errno: Errno::EACCES };
            }
            errno => return Err(ExecFailure { step: ExecStep::Exec, candidate, errno }),
        }
    }
    Err(failure)
}

fn exists(path: &CStr) -> bool {
    nix::unistd::access(path, AccessFlags::F_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_word_has_no_candidates() {
        assert!(command_candidates(&[]).is_empty());
        assert!(command_candidates(&[c"".to_owned()]).is_empty());
    }

    fn shell_arguments(words: &[&CStr]) -> Vec<CString> {
        let words: Vec<CString> = words.iter().copied().map(CStr::to_owned).collect();
        let mut shell = ScriptShell::new(&words);
        shell.argv.replace(shell.script_index, c"SCRIPT");
        shell.argv.strings().map(CStr::to_owned).collect()
    }

    #[test]
    fn the_shell_gets_the_path_of_the_script_and_the_commands_arguments() {
        assert_eq!(
            shell_arguments(&[c"job", c"-a", c"b"]),
            [c"/bin/sh", c"SCRIPT", c"-a", c"b"].map(CStr::to_owned)
        );
        assert_eq!(
            shell_arguments(&[c"-job", c"a"]),
            [c"/bin/sh", c"--", c"SCRIPT", c"a"].map(CStr::to_owned)
        );
        assert_eq!(shell_arguments(&[c"+job"]), [c"/bin/sh", c"--", c"SCRIPT"].map(CStr::to_owned));
    }

    #[test]
    fn listen_pid_names_the_calling_process() {
        let mut buffer = [0; LISTEN_PID_SIZE];
        let expected = format!("LISTEN_PID={}", std::process::id());
        assert_eq!(write_listen_pid(&mut buffer).to_bytes(), expected.as_bytes());
    }
}
