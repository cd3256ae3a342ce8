//! The events that listeners are sent: their names, and their text (supervisord's documentation, "Event Types").

use crate::policy::{StateName, Transition};
use crate::relay::plan::{Channel, ProcessName};
use std::ascii::escape_default;
use std::fmt::Write;

/// An event, before a pool has taken it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) payload: String,
}

/// Whether a pool that subscribes to `subscribed` gets the event `event`. The name of a family is the beginning of the
/// names of its members; the family `EVENT` contains every event.
#[must_use]
pub fn is_subscribed(subscribed: &str, event: &str) -> bool {
    let rest = event.strip_prefix(subscribed);
    subscribed == "EVENT" || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

impl Event {
    /// An event without text.
    pub(super) fn without_payload(name: &str) -> Self {
        Self { name: name.to_owned(), payload: String::new() }
    }

    /// A process has entered a state. `pid` is the PID of the leader that the process had in the state
    /// `transition.from`, or 0 if it had none.
    pub(super) fn process_state(process: &ProcessName, transition: Transition, pid: i32) -> Self {
        let Transition { from, to, tries, expected } = transition;
        let mut payload = format!("{} from_state:{}", subject(process), from.name());
        // Writing to a String never fails.
        let _ = match to {
            StateName::Starting | StateName::Backoff => write!(payload, " tries:{tries}"),
            StateName::Running | StateName::Stopping | StateName::Stopped => write!(payload, " pid:{pid}"),
            StateName::Exited => write!(payload, " expected:{} pid:{pid}", i32::from(expected)),
            StateName::Fatal => Ok(()),
        };
        Self { name: format!("PROCESS_STATE_{}", to.name()), payload }
    }

    /// A process has written `data`. If `is_communication` is true, `data` is a message: the bytes between the tokens
    /// of supervisord's capture mode. Otherwise, `data` is output, or a part of a message.
    pub(super) fn output(
        process: &ProcessName,
        pid: i32,
        channel: Channel,
        data: &[u8],
        is_communication: bool,
    ) -> Self {
        let channel = channel.name();
        let mut payload = format!("{} pid:{pid}", subject(process));
        let family = if is_communication {
            "COMMUNICATION"
        } else {
            payload += " channel:";
            payload += channel;
            "LOG"
        };
        payload += "\n";
        payload += &text_or_literal(data);
        Self { name: format!("PROCESS_{family}_{}", channel.to_ascii_uppercase()), payload }
    }

    /// `when` is in seconds since 1970.
    pub(super) fn tick(period: u64, when: u64) -> Self {
        Self { name: format!("TICK_{period}"), payload: format!("when:{when}") }
    }

    /// The event that supervisord sends after it has created a group.
    pub(super) fn group_added(group: &str) -> Self {
        Self { name: "PROCESS_GROUP_ADDED".to_owned(), payload: format!("groupname:{group}\n") }
    }
}

fn subject(process: &ProcessName) -> String {
    format!("processname:{} groupname:{}", process.process, process.group)
}

/// As in supervisord, data that is not UTF-8 becomes `Undecodable: ` and the bytes as a Python literal.
pub(super) fn text_or_literal(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("Undecodable: {}", python_bytes(data)),
    }
}

/// The bytes as a Python literal.
pub(super) fn python_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { b'"' } else { b'\'' };
    let mut literal = vec![b'b', quote];
    for byte in bytes {
        match byte {
            b'"' | b'\'' if *byte != quote => literal.push(*byte),
            _ => literal.extend(escape_default(*byte)),
        }
    }
    literal.push(quote);
    String::from_utf8(literal).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_contains_the_events_whose_names_begin_with_its_name() {
        let table = [
            ("EVENT", "TICK_5", true),
            ("TICK", "TICK_5", true),
            ("TICK_5", "TICK_5", true),
            ("TICK_5", "TICK_60", false),
            ("TICK_6", "TICK_60", false),
            ("PROCESS_STATE", "PROCESS_STATE_RUNNING", true),
            ("PROCESS_STATE_RUNNING", "PROCESS_STATE", false),
            ("SUPERVISOR_STATE_CHANGE", "SUPERVISOR_STATE_CHANGE_STOPPING", true),
            ("PROCESS_LOG", "PROCESS_COMMUNICATION_STDOUT", false),
        ];
        for (subscribed, event, expected) in table {
            assert_eq!(is_subscribed(subscribed, event), expected, "{subscribed} {event}");
        }
    }

    fn process() -> ProcessName {
        ProcessName { process: "w1".to_owned(), group: "w".to_owned() }
    }

    #[test]
    fn every_state_has_the_payload_of_supervisord() {
        let table = [
            (StateName::Starting, "from_state:BACKOFF tries:2"),
            (StateName::Backoff, "from_state:BACKOFF tries:2"),
            (StateName::Running, "from_state:BACKOFF pid:7"),
            (StateName::Stopping, "from_state:BACKOFF pid:7"),
            (StateName::Stopped, "from_state:BACKOFF pid:7"),
            (StateName::Exited, "from_state:BACKOFF expected:1 pid:7"),
            (StateName::Fatal, "from_state:BACKOFF"),
        ];
        for (to, payload) in table {
            let transition = Transition { from: StateName::Backoff, to, tries: 2, expected: true };
            let event = Event::process_state(&process(), transition, 7);
            assert_eq!(event.name, format!("PROCESS_STATE_{}", to.name()));
            assert_eq!(event.payload, format!("processname:w1 groupname:w {payload}"));
        }
    }

    #[test]
    fn output_that_is_not_utf_8_is_sent_as_a_python_literal() {
        let sent = |data: &[u8]| {
            let event = Event::output(&process(), 7, Channel::Stderr, data, false);
            assert_eq!(event.name, "PROCESS_LOG_STDERR");
            event.payload
        };
        let head = "processname:w1 groupname:w pid:7 channel:stderr\n";
        assert_eq!(sent("é\n".as_bytes()), format!("{head}é\n"));
        assert_eq!(sent(b"bad\xffbyte\n"), format!("{head}Undecodable: b'bad\\xffbyte\\n'"));
        assert_eq!(python_bytes(b"\xffit's"), "b\"\\xffit's\"");
        assert_eq!(python_bytes(b"'\"\\\t"), "b'\\'\"\\\\\\t'");
    }
}
