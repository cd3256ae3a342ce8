//! The log files that are FIFOs, which rsup keeps open between two runs of a program.

use crate::policy::ProcId;
use crate::sys::{self, Errno, Fifo, FifoCheck, LogFileErrors, Output, PipeId, SpawnSpec};
use std::ffi::CStr;

/// The FIFOs that rsup has open for writing, with the process whose log file each one is.
pub(super) struct Fifos {
    open: Vec<(ProcId, Fifo)>,
    /// The pipes among rsup's own stdout and stderr.
    own: Vec<PipeId>,
    /// The number of descriptors that rsup needs for other purposes. A FIFO is kept open only if it leaves them free.
    reserve: u64,
}

impl Fifos {
    pub(super) fn new(reserve: u64) -> Self {
        Self { open: Vec::new(), own: sys::own_pipes(), reserve }
    }

    /// Returns what a child has to check at a start of this program.
    pub(super) fn check(&self, program: &SpawnSpec) -> FifoCheck {
        let mut known = Vec::new();
        if program.log_files().next().is_some() {
            known.extend_from_slice(&self.own);
            known.extend(self.open.iter().map(|(_, fifo)| fifo.id));
        }
        FifoCheck::Report(known)
    }

    /// Closes the FIFOs of the processes for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(ProcId) -> bool) {
        self.open.retain(|(id, _)| keep(*id));
    }

    /// Opens the log files of a program that are FIFOs. rsup keeps them open until the process will not be started
    /// again. Passes each FIFO to `no_descriptor` that cannot be kept open because of the reserve; the program opens
    /// such a FIFO itself.
    pub(super) fn open_log_files(
        &mut self,
        id: ProcId,
        program: &SpawnSpec,
        mut no_descriptor: impl FnMut(&CStr),
    ) -> LogFileErrors {
        // A FIFO that was opened before may have been replaced by another file at the same path.
        self.retain(|owner| owner != id);
        let mut open = |output: &Output| {
            let path = output.log_file()?;
            match Fifo::open(path, self.reserve) {
                Ok(fifo) => self.open.extend(fifo.map(|fifo| (id, fifo))),
                Err(Errno::EMFILE | Errno::ENFILE) => no_descriptor(path),
                Err(errno) => return Some(errno),
            }
            None
        };
        LogFileErrors { stdout: open(&program.stdout), stderr: open(&program.stderr) }
    }
}
