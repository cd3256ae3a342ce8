//! A pool of listeners: the processes of one `[eventlistener:x]`. Each event goes to one process of the pool, and waits
//! in the pool's buffer until a process is ready.

use super::event::{Event, is_subscribed};
use super::pending_log_lines::PendingLogLines;
use crate::policy::Level;
use crate::relay::plan::PoolPlan;
use std::collections::VecDeque;
use std::rc::Rc;

/// An event that a pool has taken.
#[derive(Clone, Debug)]
pub(super) struct PoolEvent {
    pub(super) event: Rc<Event>,
    /// The number of the event among the events that at least one pool has taken.
    pub(super) serial: u64,
    /// The number of the event among the events of this pool.
    pool_serial: u64,
}

#[derive(Debug)]
pub(super) struct Pool<'a> {
    plan: &'a PoolPlan,
    /// The events that wait. The first one is sent next.
    buffer: VecDeque<PoolEvent>,
    next_pool_serial: u64,
}

impl<'a> Pool<'a> {
    pub(super) fn new(plan: &'a PoolPlan) -> Self {
        Self { plan, buffer: VecDeque::new(), next_pool_serial: 0 }
    }

    pub(super) fn name(&self) -> &'a str {
        &self.plan.name
    }

    /// Whether the pool takes an event of this name.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.plan.events.iter().any(|subscribed| is_subscribed(subscribed, name))
    }

    /// Adds an event to the buffer. The key `events` may contain the name of the event and the names of families that
    /// contain the event. The buffer gets one copy of the event for each of these names. As in supervisord, the copies
    /// have equal serial numbers. Returns whether the buffer got a copy.
    pub(super) fn take(&mut self, event: &Rc<Event>, serial: u64, log_lines: &mut PendingLogLines) -> bool {
        let times = self.plan.events.iter().filter(|name| is_subscribed(name, &event.name)).count();
        let taken = PoolEvent { event: Rc::clone(event), serial, pool_serial: self.next_pool_serial };
        self.next_pool_serial += u64::from(times > 0);
        for time in 0..times {
            if time > 0 {
                self.log_rebuffering(&taken, log_lines);
            }
            self.make_room(log_lines);
            self.buffer.push_back(taken.clone());
        }
        times > 0
    }

    /// Takes an event back that no listener has accepted. This event is the next one that is sent.
    pub(super) fn put_back(&mut self, event: PoolEvent, log_lines: &mut PendingLogLines) {
        self.log_rebuffering(&event, log_lines);
        self.make_room(log_lines);
        self.buffer.push_front(event);
    }

    /// Removes the event that has to be sent next.
    pub(super) fn next(&mut self) -> Option<PoolEvent> {
        self.buffer.pop_front()
    }

    fn log_rebuffering(&self, event: &PoolEvent, log_lines: &mut PendingLogLines) {
        let serial = event.serial;
        let name = self.name();
        let length = self.buffer.len();
        let maximum = self.plan.buffer_size;
        let text =
            format_args!("rebuffering event {serial} for pool {name} (buf size={length}, max={maximum})");
        log_lines.add(Level::Debug, text);
    }

    fn make_room(&mut self, log_lines: &mut PendingLogLines) {
        if self.buffer.len() >= self.plan.buffer_size
            && let Some(PoolEvent { serial, .. }) = self.buffer.pop_front()
        {
            let name = self.name();
            let text = format_args!("pool {name} event buffer overflowed, discarding event {serial}");
            log_lines.add(Level::Error, text);
        }
    }

    /// The event as a listener reads it. `server` is the `identifier` of `[supervisord]`. supervisord's documentation
    /// says that the length counts bytes. But supervisord counts characters, and listeners in Python read this number
    /// of characters. If the length counted bytes, they would wait for ever for more characters.
    pub(super) fn envelope(&self, server: &str, event: &PoolEvent) -> String {
        let PoolEvent { event, serial, pool_serial } = event;
        let Event { name, payload } = &**event;
        let pool = self.name();
        let length = payload.chars().count();
        format!(
            "ver:3.0 server:{server} serial:{serial} pool:{pool} poolserial:{pool_serial} eventname:{name} \
             len:{length}\n{payload}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(events: &[&'static str], buffer_size: usize) -> PoolPlan {
        PoolPlan { name: "p".to_owned(), events: events.to_vec(), buffer_size }
    }

    fn tick(when: u64) -> Rc<Event> {
        Rc::new(Event::tick(5, when))
    }

    /// The serial numbers of the events in the buffer.
    fn waiting(pool: &Pool<'_>) -> Vec<(u64, u64)> {
        pool.buffer.iter().map(|event| (event.serial, event.pool_serial)).collect()
    }

    fn texts(log_lines: &mut PendingLogLines) -> Vec<String> {
        log_lines.take().into_iter().map(|(level, text)| format!("{} {text}", level.tag())).collect()
    }

    #[test]
    fn events_wait_in_order_and_the_oldest_is_discarded_if_there_is_no_room() {
        let plan = plan(&["TICK"], 2);
        let mut pool = Pool::new(&plan);
        let mut log_lines = PendingLogLines::new(Some(Level::Debug));
        for serial in [4, 7, 9] {
            pool.take(&tick(serial), serial, &mut log_lines);
        }
        assert_eq!(waiting(&pool), [(7, 1), (9, 2)]);
        assert_eq!(texts(&mut log_lines), ["ERRO pool p event buffer overflowed, discarding event 4"]);
    }

    #[test]
    fn an_event_that_is_put_back_is_the_next_one() {
        let plan = plan(&["TICK_5"], 2);
        let mut pool = Pool::new(&plan);
        let mut log_lines = PendingLogLines::new(Some(Level::Debug));
        for serial in [0, 1] {
            pool.take(&tick(serial), serial, &mut log_lines);
        }
        let first = pool.next().unwrap();
        pool.take(&tick(2), 2, &mut log_lines);
        pool.put_back(first, &mut log_lines);
        assert_eq!(waiting(&pool), [(0, 0), (2, 2)]);
        assert_eq!(
            texts(&mut log_lines),
            [
                "DEBG rebuffering event 0 for pool p (buf size=2, max=2)",
                "ERRO pool p event buffer overflowed, discarding event 1"
            ]
        );
    }

    #[test]
    fn a_pool_that_lists_an_event_twice_takes_it_twice() {
        let plan = plan(&["TICK", "PROCESS_STATE", "TICK_5"], 10);
        let mut pool = Pool::new(&plan);
        let mut log_lines = PendingLogLines::new(Some(Level::Debug));
        pool.take(&tick(1), 3, &mut log_lines);
        assert_eq!(waiting(&pool), [(3, 0), (3, 0)]);
        assert_eq!(texts(&mut log_lines), ["DEBG rebuffering event 3 for pool p (buf size=1, max=10)"]);
        assert!(pool.wants("PROCESS_STATE_FATAL") && !pool.wants("PROCESS_LOG_STDOUT"));
    }

    #[test]
    fn the_length_in_the_header_counts_characters() {
        let plan = plan(&["EVENT"], 10);
        let mut pool = Pool::new(&plan);
        let event = Rc::new(Event { name: "PROCESS_LOG_STDOUT".to_owned(), payload: "é\n".to_owned() });
        pool.take(&event, 12, &mut PendingLogLines::new(None));
        let event = pool.next().unwrap();
        let header = "ver:3.0 server:s serial:12 pool:p poolserial:0 eventname:PROCESS_LOG_STDOUT len:2\né\n";
        assert_eq!(pool.envelope("s", &event), header);
    }
}
