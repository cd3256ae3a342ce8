//! The relay: the process beside PID 1 that carries the output of the programs. It writes log files and rotates them, and
//! it writes whole lines to rsup's own stdout and stderr. PID 1 forks it only if the configuration needs it, and forks it
//! again if it dies. It ends when no process can write to its pipes any more.

mod carrier;
mod line_format;
mod log_file;
mod outlet;
mod plan;
mod skipped_line;
mod stream;
mod whole_lines;

pub use carrier::{FINISHED, run};
pub use plan::{Channel, FilePlan, LineFormat, Plan, StreamPlan, ended_record};
