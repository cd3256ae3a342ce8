//! The records that rsup writes to a pipe of the relay: what has happened to the processes. rsup and the relay both
//! use this description.

use crate::policy::{StateName, Transition};

/// What has happened to one process, or to rsup itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeRecord {
    /// The child of a process has exited.
    Ended {
        /// The index of the process in the configuration, as in the other records.
        process: usize,
    },
    /// A child was forked for a process. If the process is a listener, rsup has sent its pipes before this record.
    Forked { process: usize, pid: i32 },
    /// A process has entered a state. `pid` is the PID of the leader that the process had in the state
    /// `transition.from`, or 0 if it had none.
    StateEntered { process: usize, pid: i32, transition: Transition },
    /// rsup starts the processes now.
    SupervisorRunning,
    /// rsup begins to stop every process.
    SupervisorStopping,
}

impl ChangeRecord {
    /// The length of a record in bytes.
    pub(super) const LENGTH: usize = 16;

    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let none = Transition { from: StateName::Stopped, to: StateName::Stopped, tries: 0, expected: false };
        let (kind, process, pid, transition) = match self {
            Self::Ended { process } => (0, process, 0, none),
            Self::Forked { process, pid } => (1, process, pid, none),
            Self::StateEntered { process, pid, transition } => (2, process, pid, transition),
            Self::SupervisorRunning => (3, 0, 0, none),
            Self::SupervisorStopping => (4, 0, 0, none),
        };
        let [t0, t1, t2, t3] = i32::try_from(transition.tries).unwrap_or(i32::MAX).to_le_bytes();
        let [n0, n1, n2, n3] = u32::try_from(process).unwrap_or(u32::MAX).to_le_bytes();
        let [p0, p1, p2, p3] = pid.to_le_bytes();
        let Transition { from, to, expected, .. } = transition;
        [kind, from as u8, to as u8, expected.into(), t0, t1, t2, t3, n0, n1, n2, n3, p0, p1, p2, p3]
    }

    /// `None` if the bytes are no record.
    fn from_bytes(bytes: [u8; Self::LENGTH]) -> Option<Self> {
        let [flags, tries, process, pid] = bytes.as_chunks::<4>().0 else { return None };
        let [kind, from, to, expected] = *flags;
        let process = u32::from_le_bytes(*process) as usize;
        let pid = i32::from_le_bytes(*pid);
        Some(match kind {
            0 => Self::Ended { process },
            1 => Self::Forked { process, pid },
            2 => {
                let state = |number: u8| StateName::ALL.get(usize::from(number)).copied();
                let tries = i32::from_le_bytes(*tries).into();
                let transition =
                    Transition { from: state(from)?, to: state(to)?, tries, expected: expected != 0 };
                Self::StateEntered { process, pid, transition }
            }
            3 => Self::SupervisorRunning,
            4 => Self::SupervisorStopping,
            _ => return None,
        })
    }

    /// The records that the pipe has returned.
    pub(super) fn read(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.as_chunks().0.iter().filter_map(|bytes| Self::from_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_read_is_the_one_that_was_written() {
        let transitions = StateName::ALL.into_iter().flat_map(|from| {
            StateName::ALL.map(|to| Transition { from, to, tries: 70_000, expected: from == to })
        });
        let changes =
            transitions.map(|transition| ChangeRecord::StateEntered { process: 5, pid: -1, transition });
        let others = [
            ChangeRecord::Ended { process: 70_000 },
            ChangeRecord::Forked { process: 1, pid: i32::MAX },
            ChangeRecord::SupervisorRunning,
            ChangeRecord::SupervisorStopping,
        ];
        let records: Vec<ChangeRecord> = changes.chain(others).collect();
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
        assert!(ChangeRecord::read(&bytes).eq(records));
    }

    #[test]
    fn other_bytes_are_no_record() {
        assert_eq!(ChangeRecord::read(&[9; 40]).next(), None);
        assert_eq!(ChangeRecord::read(&[2; ChangeRecord::LENGTH - 1]).next(), None);
        let no_state = [2, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(ChangeRecord::read(&no_state).next(), None);
    }
}
