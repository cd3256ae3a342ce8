//! What the log of supervisord or of rsup says about listeners.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Rsup;

/// The level and the text of each line of the log. The lines of programs are left out.
pub(super) fn log_of(server: &Rsup) -> Vec<(String, String)> {
    let lines = server.log().into_iter().filter_map(|line| {
        let mut words = line.0.splitn(4, ' ').skip(2);
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    lines.filter(|(level, _)| level.len() == 4).collect()
}

/// The process that each PID belonged to.
pub(super) fn pids(log: &[(String, String)]) -> BTreeMap<String, String> {
    let spawned = log.iter().filter_map(|(_, text)| {
        let (name, pid) = text.strip_prefix("spawned: '")?.split_once("' with pid ")?;
        Some((pid.to_owned(), name.to_owned()))
    });
    spawned.collect()
}

/// The subject of a line: a listener or a pool, or a program whose captured output became an event.
pub(super) fn subject(text: &str) -> Option<String> {
    const STATES: [&str; 4] = ["ACKNOWLEDGED", "READY", "BUSY", "UNKNOWN"];
    const REPORTS: [&str; 4] =
        ["event was ", "event caused ", "bad result line: ", "has entered the UNKNOWN "];
    if let Some((_, rest)) = text.split_once(" to listener ") {
        return Some(rest.split(',').next()?.to_owned());
    }
    if let Some((_, rest)) = text.split_once(" for pool ").filter(|_| text.starts_with("rebuffering event "))
    {
        return Some(format!("pool {}", rest.split(" (").next()?));
    }
    if let Some((pool, _)) = text.split_once(" event buffer overflowed, ") {
        return Some(pool.to_owned());
    }
    if text.ends_with(" emitted a comm event") {
        return Some(text.split(' ').next()?.to_owned());
    }
    let (name, rest) = text.split_once(": ")?;
    let is_change = rest.split_once(" -> ").is_some_and(|(from, _)| STATES.contains(&from));
    (is_change || REPORTS.iter().any(|report| rest.starts_with(report))).then(|| name.to_owned())
}

/// The number of the event that a line of the log begins with.
fn serial(text: &str) -> Option<&str> {
    let words = ["rebuffering event ", "event ", "epipe occurred while sending event "];
    words.iter().find_map(|begin| text.strip_prefix(begin))?.split(' ').next()
}

/// An event and the pool that it is put back into.
type PutBack<'a> = (&'a str, &'a str);

/// What the log says about listeners and pools.
pub(super) struct Lines {
    /// The lines about each listener, about each pool, and about each program with captured output, in order.
    pub(super) of: BTreeMap<String, Vec<String>>,
    /// Whether each event that had to be put back into its pool was put back.
    pub(super) is_complete: bool,
}

impl Lines {
    /// Reads a log. `pools` are the names of all pools.
    ///
    /// supervisord puts an event back, with a line, whenever it finds more events than listeners. These lines depend on
    /// the timing, so that only the lines count that belong to a rejected event, or to the first time that an event could
    /// not be sent because a listener had closed its stdin. A listener that has closed its stdin gets a line in each turn
    /// of supervisord's loop; the first one for each event counts.
    pub(super) fn of(log: &[(String, String)], pools: &[&str]) -> Self {
        let mut due = put_back(log, pools);
        let mut of: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut tried: BTreeSet<(&str, String)> = BTreeSet::new();
        for (level, text) in log {
            let Some(subject) = subject(text) else { continue };
            let event = serial(text).unwrap_or("");
            let own = |pool: &&str| subject.strip_prefix("pool ") == Some(*pool);
            let pool = pools.iter().copied().find(own).filter(|_| text.starts_with("rebuffering "));
            if let Some(pool) = pool {
                let was_tried =
                    tried.iter().any(|(other, to)| *other == event && pool_of(to, pools) == Some(pool));
                match due.get_mut(&(pool, event)).filter(|due| was_tried && **due > 0) {
                    Some(due) => *due -= 1,
                    None => continue,
                }
            } else if !tried.insert((event, subject.clone())) && text.starts_with("epipe ") {
                continue;
            }
            of.entry(subject).or_default().push(format!("{level} {text}"));
        }
        Self { of, is_complete: due.values().all(|due| *due == 0) }
    }
}

/// How many times each event has to be put back into its pool. The line about the end of a listener may come after the
/// line about the event that this listener had not answered. It may also come before the line about the result that this
/// listener had written: PID 1 writes the first line, and the relay writes the second.
fn put_back<'a>(log: &'a [(String, String)], pools: &[&'a str]) -> BTreeMap<PutBack<'a>, usize> {
    let mut due: BTreeMap<_, usize> = BTreeMap::new();
    let mut unanswered: BTreeMap<String, &str> = BTreeMap::new();
    let mut unanswered_at_end: BTreeMap<String, &str> = BTreeMap::new();
    let mut sent = BTreeSet::new();
    let mut unsent = BTreeSet::new();
    for (_, text) in log {
        let name = end_of_process(text).map(str::to_owned).or_else(|| subject(text)).unwrap_or_default();
        let Some(pool) = pool_of(&name, pools) else { continue };
        let event = serial(text).unwrap_or("");
        let is_rejected = REJECTIONS.iter().any(|rejection| text.contains(rejection));
        if text.starts_with("event ") {
            sent.insert((pool, event));
            unanswered_at_end.remove(&name);
            unanswered.insert(name, event);
        } else if text.starts_with("epipe ") {
            unsent.insert((pool, event));
        } else if text.ends_with(": event was processed") {
            if unanswered.remove(&name).is_none()
                && let Some(event) = unanswered_at_end.remove(&name)
            {
                *due.entry((pool, event)).or_default() -= 1;
            }
        } else if (is_rejected || end_of_process(text).is_some())
            && let Some(event) = unanswered.remove(&name)
        {
            *due.entry((pool, event)).or_default() += 1;
            unanswered_at_end.insert(name, event);
        }
    }
    for event in unsent.difference(&sent) {
        *due.entry(*event).or_default() += 1;
    }
    due
}

/// What the log says about a listener that rejects an event.
pub(super) const REJECTIONS: [&str; 3] =
    [": event was rejected", ": event caused an error", ": bad result line: "];

/// The process whose end a line reports.
fn end_of_process(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("exited: ").or_else(|| text.strip_prefix("stopped: "))?;
    Some(rest.split_once(" (")?.0)
}

/// The pool of a listener. The name of a listener begins with that of its pool.
pub(super) fn pool_of<'a>(listener: &str, pools: &[&'a str]) -> Option<&'a str> {
    let is_of = |pool: &&&str| {
        listener.strip_prefix(**pool).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    pools.iter().find(is_of).copied()
}

#[test]
fn a_result_after_the_line_about_the_exit_of_its_listener_completes_the_event() {
    let is_complete_with = |last: &str| {
        let texts = ["event 0 sent to listener x", "exited: x (exit status 1; not expected)", last];
        let log: Vec<_> = texts.iter().map(|text| ("DEBG".to_owned(), (*text).to_owned())).collect();
        Lines::of(&log, &["x"]).is_complete
    };
    assert!(is_complete_with("x: event was processed"));
    assert!(is_complete_with("rebuffering event 0 for pool x (buf size=0, max=100)"));
    assert!(!is_complete_with("spawned: 'x' with pid 1"));
}
