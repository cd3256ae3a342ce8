//! What the relay has to know about the event listeners of a configuration.

use crate::config::{Config, ProcessConfig, Replacement, StreamEvents};
use crate::relay::{Channel, FilePlan, ListenerPlan, ListenersPlan, PoolPlan, ProcessName, is_subscribed};
use crate::sys::FdPassingSockets;

/// The largest number of events in the buffer of a pool. supervisord has no maximum for the key `buffer_size`. rsup has
/// one, because the buffer of a pool whose listeners do not answer becomes full.
const MAX_BUFFER_SIZE: usize = 100_000;

/// Collects the pools and the listeners while the programs are prepared.
#[derive(Default)]
pub(super) struct ListenersBuilder {
    pools: Vec<PoolPlan>,
    listeners: Vec<ListenerPlan>,
}

impl ListenersBuilder {
    /// Adds a process, if it is a listener. `log` is the log file for its stdout.
    pub(super) fn add(&mut self, (index, process): (usize, &ProcessConfig), log: Option<FilePlan>) {
        let Some(listener) = &process.listener else { return };
        if self.pools.last().is_none_or(|pool| pool.name != process.group) {
            self.pools.push(PoolPlan {
                name: process.group.clone(),
                events: listener.events.clone(),
                buffer_size: listener.buffer_size.min(MAX_BUFFER_SIZE),
            });
        }
        let pool = self.pools.len().saturating_sub(1);
        self.listeners.push(ListenerPlan { process: index, pool, log });
    }

    /// Returns the plan. `pipes` is the pair of sockets through which rsup passes the listeners' pipes to the relay.
    pub(super) fn build(self, config: &Config, pipes: FdPassingSockets) -> ListenersPlan {
        let name = |process: &ProcessConfig| ProcessName {
            process: process.name.clone(),
            group: process.group.clone(),
        };
        ListenersPlan {
            server: config.supervisord.identifier.clone(),
            names: config.processes.iter().map(name).collect(),
            pids: vec![0; config.processes.len()],
            pools: self.pools,
            listeners: self.listeners,
            pipes,
        }
    }
}

/// The events that event listeners subscribe to. They decide which streams have to go through the relay for the
/// listeners.
pub(super) struct SubscribedEvents {
    /// The events of the listeners that rsup runs. They are the listeners whose work rsup does not do itself.
    by_listeners: Vec<&'static str>,
    /// The events of the listener supervisor_stdout. rsup does not run this listener, and writes the names of the
    /// programs itself. Empty if the file does not have this listener.
    by_supervisor_stdout_listener: Vec<&'static str>,
}

/// What event listeners need from one stream. A listener that rsup replaces counts too.
#[derive(Clone, Copy, Default)]
pub(super) struct ListenerNeeds {
    /// Whether listeners receive each piece of output as an event.
    pub(super) has_log_events: bool,
    /// Whether rsup does the work of supervisor_stdout for this stream: the name of the process comes before each line.
    pub(super) supervisor_stdout_subscribes: bool,
    /// How many bytes between the tokens of the capture mode are kept. `None` if the stream has no capture mode, or if
    /// no listener subscribes to the events of the capture mode.
    pub(super) capture_maxbytes: Option<usize>,
}

impl ListenerNeeds {
    pub(super) fn has_any_need(self) -> bool {
        self.has_log_events || self.supervisor_stdout_subscribes || self.capture_maxbytes.is_some()
    }
}

impl SubscribedEvents {
    pub(super) fn new(config: &Config) -> Self {
        let mut subscribed = Self { by_listeners: Vec::new(), by_supervisor_stdout_listener: Vec::new() };
        for process in config.processes.iter().chain(&config.replaced_listeners) {
            let Some(listener) = &process.listener else { continue };
            match listener.replacement {
                None => subscribed.by_listeners.extend(&listener.events),
                Some(Replacement::SupervisorStdoutListener) => {
                    subscribed.by_supervisor_stdout_listener.extend(&listener.events)
                }
                Some(Replacement::OrderedStart) => {}
            }
        }
        subscribed
    }

    pub(super) fn stream(&self, process: &ProcessConfig, channel: Channel) -> ListenerNeeds {
        let (StreamEvents { enabled, capture_maxbytes }, log, communication) = match channel {
            Channel::Stdout => (process.stdout_events, "PROCESS_LOG_STDOUT", "PROCESS_COMMUNICATION_STDOUT"),
            Channel::Stderr => (process.stderr_events, "PROCESS_LOG_STDERR", "PROCESS_COMMUNICATION_STDERR"),
        };
        let contains = |subscribed: &[&str], event| subscribed.iter().any(|name| is_subscribed(name, event));
        let limit = usize::try_from(capture_maxbytes).unwrap_or(usize::MAX);
        ListenerNeeds {
            has_log_events: enabled && contains(&self.by_listeners, log),
            supervisor_stdout_subscribes: enabled && contains(&self.by_supervisor_stdout_listener, log),
            capture_maxbytes: (limit > 0 && contains(&self.by_listeners, communication)).then_some(limit),
        }
    }
}
