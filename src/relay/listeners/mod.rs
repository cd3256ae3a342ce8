//! Event listeners. rsup starts them and says what happens to the processes; everything else is done here. supervisord
//! does the same in dispatchers.py (`PEventListenerDispatcher`) and process.py (`EventListenerPool`).

mod event;
mod listener;
mod pending_log_lines;
mod pool;
mod protocol;
mod ticks;

pub use event::is_subscribed;

use super::plan::{Channel, ListenersPlan, ProcessName};
use super::record::ChangeRecord;
use crate::policy::{Level, StateName, Transition};
use crate::sys::{self, ListenerPipes, Poller, WallTime};
use event::{Event, python_bytes, text_or_literal};
use listener::Listener;
pub(super) use pending_log_lines::PendingLogLines;
use pool::{Pool, PoolEvent};
use protocol::{Effect, State};
use std::rc::Rc;
use std::time::Duration;
use ticks::Ticks;

/// The first of the numbers that the poller reports for listeners. Listener n has the number `FIRST_TAG + n`.
pub(super) const FIRST_TAG: u64 = 1 << 32;

/// How many bytes one read of a listener's stdout returns at most.
const READ_SIZE: usize = 16 * 1024;
/// How many reads a listener gets after its child has exited: enough for everything that a pipe holds.
const MAX_READS_AFTER_EXIT: usize = 6;

/// All listeners, as the relay sees them.
pub(super) struct Listeners<'a> {
    plan: &'a ListenersPlan,
    pools: Vec<Pool<'a>>,
    listeners: Vec<Listener<'a>>,
    /// The PID of the last child of each process. 0 if there was none.
    pids: Vec<i32>,
    /// The number of events that at least one pool has taken.
    next_serial: u64,
    ticks: Ticks,
    pub(super) log_lines: PendingLogLines,
}

impl<'a> Listeners<'a> {
    pub(super) fn new(plan: &'a ListenersPlan, threshold: Option<Level>) -> Self {
        let pools: Vec<_> = plan.pools.iter().map(Pool::new).collect();
        let ticks = Ticks::new(WallTime::now().seconds(), &|name| pools.iter().any(|pool| pool.wants(name)));
        Self {
            plan,
            pools,
            listeners: plan.listeners.iter().map(Listener::new).collect(),
            pids: plan.pids.clone(),
            next_serial: 0,
            ticks,
            log_lines: PendingLogLines::new(threshold),
        }
    }

    /// Applies a record of rsup.
    pub(super) fn apply(&mut self, record: ChangeRecord, poller: &Poller) {
        match record {
            ChangeRecord::Ended { process } => self.drain_and_close_pipes(process, poller),
            ChangeRecord::Forked { process, pid } => self.note_forked(process, pid, poller),
            ChangeRecord::StateEntered { process, pid, transition } => {
                self.note_transition(process, pid, transition)
            }
            ChangeRecord::SupervisorRunning => self.announce_start(),
            ChangeRecord::SupervisorStopping => {
                self.notify_pools(Event::without_payload("SUPERVISOR_STATE_CHANGE_STOPPING"))
            }
        }
    }

    /// Sends the events about the creation of the groups, and then SUPERVISOR_STATE_CHANGE_RUNNING. As in supervisord,
    /// a pool gets the events about its own group and the groups created after it, because the pool did not exist
    /// before.
    fn announce_start(&mut self) {
        let mut last_group = "";
        let mut pools = 0;
        for ProcessName { group, .. } in &self.plan.names {
            if group != last_group {
                last_group = group;
                pools += usize::from(self.pools.get(pools).is_some_and(|pool| pool.name() == group));
                self.accept_by_first_pools(Event::group_added(group), pools);
            }
        }
        self.notify_pools(Event::without_payload("SUPERVISOR_STATE_CHANGE_RUNNING"));
    }

    /// Notes that a process has written `data`. If `is_communication`, it was between the tokens of the capture mode.
    pub(super) fn output(&mut self, process: usize, channel: Channel, data: &[u8], is_communication: bool) {
        let (Some(name), Some(pid)) = (self.plan.names.get(process), self.pids.get(process)) else { return };
        self.notify_pools(Event::output(name, *pid, channel, data, is_communication));
        if is_communication {
            let text = format_args!("'{}' {} emitted a comm event", name.process, channel.name());
            self.log_lines.add(Level::Debug, text);
        }
    }

    /// How long the relay may wait until a TICK event is due. `None` if none will be.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.ticks.wait(WallTime::now().nanoseconds() / 1_000_000)
    }

    /// Passes an event to the pools that want it.
    fn notify_pools(&mut self, event: Event) {
        self.accept_by_first_pools(event, self.pools.len());
    }

    fn accept_by_first_pools(&mut self, event: Event, pool_count: usize) {
        let event = Rc::new(event);
        let mut is_taken = false;
        for pool in self.pools.iter_mut().take(pool_count) {
            is_taken |= pool.take(&event, self.next_serial, &mut self.log_lines);
        }
        self.next_serial += u64::from(is_taken);
    }

    fn note_transition(&mut self, process: usize, pid: i32, transition: Transition) {
        if let Some(name) = self.plan.names.get(process) {
            self.notify_pools(Event::process_state(name, transition, pid));
        }
        let Some(number) = self.listener_index(process) else { return };
        let Some(listener) = self.listeners.get_mut(number) else { return };
        listener.is_running = transition.to == StateName::Running;
        if !transition.to.has_leader() {
            self.give_back(number);
        }
    }

    fn listener_index(&self, process: usize) -> Option<usize> {
        self.listeners.iter().position(|listener| listener.plan.process == process)
    }

    fn note_forked(&mut self, process: usize, pid: i32, poller: &Poller) {
        if let Some(known) = self.pids.get_mut(process) {
            *known = pid;
        }
        let Some(number) = self.listener_index(process) else { return };
        let Some(listener) = self.listeners.get_mut(number) else { return };
        // The socket may still contain the pipes of an earlier start, which are skipped. The pipes are still there if
        // the record of that start was lost, or if an earlier relay has read the record and has died.
        let received_pipes = std::iter::from_fn(|| self.plan.pipes.receive());
        let mut received_pipes = received_pipes.skip_while(|(owner, _)| *owner != pid);
        let pipes = received_pipes.next().map(|(_, pipes)| pipes);
        if let Some(ListenerPipes { stdin, stdout }) = &pipes {
            let tag = FIRST_TAG + number as u64;
            // If the relay cannot watch `stdout`, the listener gets no events, like one that never writes READY. If the
            // relay cannot watch `stdin`, an event that does not fit into the pipe may never be sent completely.
            let _ = poller.add(stdout, tag);
            let _ = poller.watch_writable(stdin, tag);
        }
        listener.reset_with_pipes(pipes);
    }

    /// Reads the last output of a listener whose child has exited. Then closes the relay's ends of the pipes.
    fn drain_and_close_pipes(&mut self, process: usize, poller: &Poller) {
        let Some(number) = self.listener_index(process) else { return };
        for _ in 0..MAX_READS_AFTER_EXIT {
            if !self.read(number, poller) {
                break;
            }
        }
        if let Some(listener) = self.listeners.get_mut(number) {
            listener.reset_with_pipes(None);
        }
    }

    /// Reads what a listener has written, and continues to write an event. `tag` says which listener is ready.
    pub(super) fn read_and_flush(&mut self, tag: u64, poller: &Poller) {
        let number = usize::try_from(tag.saturating_sub(FIRST_TAG)).unwrap_or(usize::MAX);
        self.read(number, poller);
        self.flush_listener(number);
    }

    /// Calls [`Self::read_and_flush`] for every listener, because any of them may be ready.
    pub(super) fn read_and_flush_all(&mut self, poller: &Poller) {
        for number in 0..self.listeners.len() as u64 {
            self.read_and_flush(FIRST_TAG + number, poller);
        }
    }

    /// Reads what a listener has written. Returns whether it has written something.
    fn read(&mut self, number: usize, poller: &Poller) -> bool {
        let Some(listener) = self.listeners.get_mut(number) else { return false };
        let Some(pipes) = &listener.pipes else { return false };
        let mut buffer = vec![0; READ_SIZE];
        let length = sys::read_pipe(&pipes.stdout, &mut buffer);
        if length == Ok(0) {
            poller.remove(&pipes.stdout);
        }
        let bytes = buffer.get(..length.unwrap_or(0)).unwrap_or_default();
        if bytes.is_empty() {
            return false;
        }
        let name = process_name(self.plan, listener);
        if self.log_lines.shows(Level::Debug) {
            let text = format_args!("'{name}' stdout output:\n{}", python_bytes(bytes));
            self.log_lines.add(Level::Debug, text);
        }
        if let Some(log) = &mut listener.log {
            let path = log.path();
            let log_lines = &mut self.log_lines;
            log.write(bytes, sys::monotonic_nanos(), &mut |trouble| {
                log_lines.add(Level::Warn, format_args!("{}", trouble.log_text(path)));
            });
        }
        for effect in listener.protocol.read(bytes) {
            self.apply_effect(number, effect);
        }
        true
    }

    fn apply_effect(&mut self, number: usize, effect: Effect) {
        let Some(listener) = self.listeners.get_mut(number) else { return };
        let name = process_name(self.plan, listener);
        let log_lines = &mut self.log_lines;
        match effect {
            Effect::Entered { from, to } => {
                log_lines.add(Level::Debug, format_args!("{name}: {} -> {}", from.name(), to.name()));
                if to == State::Unknown {
                    let text = format_args!(
                        "{name}: has entered the UNKNOWN state and will no longer receive events, this usually \
                         indicates the process violated the eventlistener protocol"
                    );
                    log_lines.add(Level::Warn, text);
                }
            }
            Effect::Processed => {
                listener.event = None;
                log_lines.add(Level::Debug, format_args!("{name}: event was processed"));
            }
            Effect::Rejected => log_lines.add(Level::Warn, format_args!("{name}: event was rejected")),
            Effect::BadResultLine(line) => {
                let line = text_or_literal(&line);
                log_lines.add(Level::Warn, format_args!("{name}: bad result line: '{line}'"));
            }
            Effect::GiveBack => self.give_back(number),
        }
    }

    /// Puts the event that a listener was sent back into the buffer of the listener's pool, so that it is sent again.
    fn give_back(&mut self, number: usize) {
        let Some(listener) = self.listeners.get_mut(number) else { return };
        let event = listener.event.take();
        if let Some(pool) = self.pools.get_mut(listener.plan.pool)
            && let Some(event) = event
        {
            pool.put_back(event, &mut self.log_lines);
        }
    }

    /// Continues to write an event for which the stdin of a listener had no room.
    fn flush_listener(&mut self, number: usize) {
        if let Some(listener) = self.listeners.get_mut(number) {
            // As in supervisord, an event that was sent in part to a listener that closes its stdin counts as sent.
            let _ = listener.flush();
        }
    }

    /// Passes each TICK event whose time has come to the pools. Then sends the events in the buffers to ready
    /// listeners.
    pub(super) fn send_events(&mut self) {
        for event in self.ticks.due(WallTime::now().seconds()) {
            self.notify_pools(event);
        }
        for number in 0..self.pools.len() {
            let is_ready = |listener: &Listener<'_>| listener.plan.pool == number && is_ready(listener);
            if self.listeners.iter().any(is_ready) {
                self.dispatch_pool(number);
            }
        }
    }

    fn dispatch_pool(&mut self, number: usize) {
        while let Some(event) = self.pools.get_mut(number).and_then(Pool::next) {
            if let Some(event) = self.send(number, event) {
                if let Some(pool) = self.pools.get_mut(number) {
                    pool.put_back(event, &mut self.log_lines);
                }
                return;
            }
        }
    }

    /// Sends an event to a ready listener of a pool. Returns the event if no listener is ready, or if each ready
    /// listener has closed its stdin.
    fn send(&mut self, number: usize, event: PoolEvent) -> Option<PoolEvent> {
        let Some(pool) = self.pools.get(number) else { return Some(event) };
        let listeners = self.listeners.iter_mut().filter(|listener| listener.plan.pool == number);
        for listener in listeners.filter(|listener| is_ready(listener)) {
            let name = process_name(self.plan, listener);
            let serial = event.serial;
            if listener.send(pool.envelope(&self.plan.server, &event).as_bytes()).is_ok() {
                listener.protocol.note_event_sent();
                let text = format_args!("event {serial} sent to listener {name}");
                self.log_lines.add(Level::Debug, text);
                listener.event = Some(event);
                return None;
            }
            let text = format_args!(
                "epipe occurred while sending event {serial} to listener {name}, listener state unchanged"
            );
            self.log_lines.add(Level::Debug, text);
        }
        Some(event)
    }
}

fn is_ready(listener: &Listener<'_>) -> bool {
    listener.is_running && listener.protocol.state() == State::Ready
}

fn process_name<'a>(plan: &'a ListenersPlan, listener: &Listener<'_>) -> &'a str {
    plan.names.get(listener.plan.process).map_or("", |name| &name.process)
}
