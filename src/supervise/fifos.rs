//! Keeps the log files that are FIFOs open for writing between two runs of a program. Otherwise the reader of a FIFO
//! gets end of file when the program exits.

use crate::policy::ProcessIndex;
use crate::sys::{self, Errno, Fifo, FifoHandling, FifoOpenErrors, Output, PipeId, SpawnSpec};
use std::ffi::CStr;

/// The FIFOs that rsup has open for writing. Each FIFO comes with the process whose log file it is.
pub(super) struct OpenFifos {
    open: Vec<(ProcessIndex, Fifo)>,
    /// The pipes that are rsup's own stdout or stderr. rsup has them open anyway, so it need not open a log file that
    /// leads to one of them.
    own_output_pipes: Vec<PipeId>,
    /// The largest number of FIFOs that rsup keeps open. With more of them, too few descriptors would be left to start
    /// programs.
    capacity: u64,
}

impl OpenFifos {
    pub(super) fn new(capacity: u64) -> Self {
        Self { open: Vec::new(), own_output_pipes: sys::own_output_pipes(), capacity }
    }

    /// Returns what a child checks at a start of this process: whether a log file is a FIFO that rsup has not opened
    /// for this process. A FIFO that is open only for another process counts as not opened, because rsup may close it
    /// before this process ends.
    pub(super) fn fifo_handling_for(&self, id: ProcessIndex, program: &SpawnSpec) -> FifoHandling {
        let mut known = Vec::new();
        if program.log_files().next().is_some() {
            known.extend_from_slice(&self.own_output_pipes);
            known.extend(self.open.iter().filter(|(owner, _)| *owner == id).map(|(_, fifo)| fifo.id));
        }
        FifoHandling::ExitIfUnopened(known)
    }

    /// Closes the FIFOs of the processes for which `keep` returns false.
    pub(super) fn retain(&mut self, keep: impl Fn(ProcessIndex) -> bool) {
        self.open.retain(|(id, _)| keep(*id));
    }

    /// Opens the log files of a program that are FIFOs. rsup keeps each FIFO open as long as it may start the process
    /// again. If too few descriptors are free for a FIFO, passes its path to `no_descriptor`; the program opens such a
    /// FIFO itself.
    pub(super) fn open_fifos(
        &mut self,
        id: ProcessIndex,
        program: &SpawnSpec,
        mut no_descriptor: impl FnMut(&CStr),
    ) -> FifoOpenErrors {
        let mut opened = Vec::new();
        let mut open = |output: &Output| {
            let path = output.log_file()?;
            let count = self.open.len() + opened.len();
            match Fifo::open(path, (count as u64) < self.capacity) {
                Ok(fifo) => opened.extend(fifo),
                Err(Errno::EMFILE | Errno::ENFILE) => no_descriptor(path),
                Err(errno) => return Some(errno),
            }
            None
        };
        let errors = FifoOpenErrors { stdout: open(&program.stdout), stderr: open(&program.stderr) };
        // The earlier descriptors of this process's FIFOs are closed only now, when the new descriptors are open. So
        // the reader of a FIFO that is opened again gets no end of file.
        self.retain(|owner| owner != id);
        self.open.extend(opened.into_iter().map(|fifo| (id, fifo)));
        errors
    }
}
