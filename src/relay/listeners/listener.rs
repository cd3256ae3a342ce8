//! One process of a pool: its pipes, and the event that it was sent.

use super::pool::PoolEvent;
use super::protocol::Protocol;
use crate::relay::log_file::LogFile;
use crate::relay::plan::ListenerPlan;
use crate::sys::{Errno, ListenerPipes};

#[derive(Debug)]
pub(super) struct Listener<'a> {
    pub(super) plan: &'a ListenerPlan,
    pub(super) protocol: Protocol,
    /// Whether the process of the listener is in the state RUNNING.
    pub(super) is_running: bool,
    /// The event that the listener was sent and has not answered.
    pub(super) event: Option<PoolEvent>,
    /// `None` if no child of the listener runs, or if the relay has not received the pipes of the child.
    pub(super) pipes: Option<ListenerPipes>,
    /// The part of the event for which the pipe had no room.
    unsent: Vec<u8>,
    pub(super) log: Option<LogFile<'a>>,
}

impl<'a> Listener<'a> {
    pub(super) fn new(plan: &'a ListenerPlan) -> Self {
        Self {
            plan,
            protocol: Protocol::default(),
            is_running: false,
            event: None,
            pipes: None,
            unsent: Vec::new(),
            log: plan.log.as_ref().map(LogFile::new),
        }
    }

    /// Notes that a child was forked for the listener, and takes the relay's ends of its pipes. With `None`, notes that
    /// the child has exited and that everything it has written was read, or that the relay has not received the pipes
    /// of a new child.
    pub(super) fn reset_with_pipes(&mut self, pipes: Option<ListenerPipes>) {
        self.protocol = Protocol::default();
        self.unsent = Vec::new();
        self.pipes = pipes;
        if let Some(log) = &mut self.log {
            log.close();
        }
    }

    /// Sends bytes to the listener. What its stdin has no room for is sent later.
    ///
    /// # Errors
    /// Returns EPIPE if the listener has closed its stdin.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.unsent.extend(bytes);
        self.flush()
    }

    /// Sends what the stdin had no room for. One write is enough: if it takes only a part, the pipe is full, and the
    /// poller reports when it has room again.
    ///
    /// # Errors
    /// As [`Listener::send`].
    pub(super) fn flush(&mut self) -> Result<(), Errno> {
        let pipes = self.pipes.as_ref().ok_or(Errno::EPIPE);
        match pipes.and_then(|pipes| pipes.write(&self.unsent)) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(Errno::EAGAIN) => {}
            Err(errno) => {
                self.unsent.clear();
                return Err(errno);
            }
        }
        Ok(())
    }
}
