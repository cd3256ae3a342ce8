//! The relay: a second process of rsup, which carries the output of the programs. It writes log files and rotates them,
//! and it writes whole lines to rsup's own stdout and stderr. rsup forks it only if the configuration needs it, and
//! forks it again if it dies. The relay also sends events to the event listeners. The relay ends when no process can
//! write to its pipes any more.

mod capture;
mod line_format;
mod listeners;
mod log_file;
mod outlet;
mod plan;
mod record;
mod relay_loop;
mod skipped_line;
mod stream;
mod whole_lines;

pub use listeners::is_subscribed;
pub use plan::{
    Channel, FilePlan, LineFormat, ListenerPlan, ListenersPlan, Plan, PoolPlan, ProcessName, StreamPlan,
};
pub use record::ChangeRecord;
pub use relay_loop::{FINISHED, run};
