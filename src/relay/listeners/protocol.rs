//! supervisord's event listener protocol, as the sender of the events sees it (supervisord's documentation, "Event
//! Listener States" and "Event Listener Notification Protocol"; where the documentation is silent,
//! `PEventListenerDispatcher` in supervisord's dispatchers.py).

use std::mem;

/// The state of an event listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// The listener was started or has answered, and has not written `READY` since.
    #[default]
    Acknowledged,
    /// The listener waits for an event.
    Ready,
    /// The listener was sent an event and has not answered.
    Busy,
    /// The listener has violated the protocol. It gets no events until it is started again.
    Unknown,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Ready => "READY",
            Self::Busy => "BUSY",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// What the output of a listener has caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Entered {
        from: State,
        to: State,
    },
    /// The listener has answered `OK`.
    Processed,
    /// The listener has given an answer other than `OK`.
    Rejected,
    /// The listener has written this line where a result line was expected.
    BadResultLine(Vec<u8>),
    /// The event that the listener was sent has to be sent again.
    GiveBack,
}

const READY: &[u8] = b"READY\n";
/// A result line is this text and the length of the answer. As in supervisord, any other text with the same number of
/// bytes is accepted too.
const RESULT: &[u8] = b"RESULT ";
/// The answer that accepts an event.
const OK: &[u8] = b"OK";
/// If more bytes than this were read without a newline, this many bytes count as a result line. supervisord has no
/// limit, and its memory grows.
const MAX_RESULT_LINE: usize = 4096;

/// The answer of a listener, as far as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// The number of bytes of the answer that were not read yet.
    bytes_left: u64,
    /// The beginning of the answer: at most one byte more than [`OK`]. The extra byte shows that the answer is not
    /// `OK`.
    beginning: Vec<u8>,
}

/// The state of one listener and what it has written.
#[derive(Debug, Default)]
pub(super) struct Protocol {
    state: State,
    /// The bytes that were not interpreted yet.
    input: Vec<u8>,
    /// The answer that is being read. `None` before the result line, and after the last byte of the answer.
    answer: Option<Answer>,
}

impl Protocol {
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Notes that the listener was sent an event.
    pub(super) fn note_event_sent(&mut self) {
        self.state = State::Busy;
    }

    /// Interprets what the listener has written.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<Effect> {
        self.input.extend(bytes);
        let mut effects = Vec::new();
        while !self.input.is_empty() && self.step(&mut effects) {}
        effects
    }

    /// Interprets the beginning of the input. Returns false if this needs more bytes.
    fn step(&mut self, effects: &mut Vec<Effect>) -> bool {
        match self.state {
            State::Unknown => self.input = Vec::new(),
            State::Acknowledged if self.input.len() < READY.len() => return false,
            State::Acknowledged if self.input.starts_with(READY) => {
                self.input.drain(..READY.len());
                self.enter(State::Ready, effects);
            }
            State::Acknowledged | State::Ready => self.enter(State::Unknown, effects),
            State::Busy => match self.answer.take() {
                None => return self.read_result_line(effects),
                Some(answer) => self.read_answer(answer, effects),
            },
        }
        true
    }

    fn read_result_line(&mut self, effects: &mut Vec<Effect>) -> bool {
        let newline = self.input.iter().position(|byte| *byte == b'\n');
        if newline.is_none() && self.input.len() <= MAX_RESULT_LINE {
            return false;
        }
        let mut line: Vec<u8> = self.input.drain(..newline.map_or(MAX_RESULT_LINE, |at| at + 1)).collect();
        if newline.is_some() {
            line.pop();
        }
        self.answer = answer_length(&line).map(|bytes_left| Answer { bytes_left, ..Answer::default() });
        if self.answer.is_none() {
            effects.push(Effect::BadResultLine(line));
            self.enter(State::Unknown, effects);
            effects.push(Effect::GiveBack);
        }
        true
    }

    fn read_answer(&mut self, mut answer: Answer, effects: &mut Vec<Effect>) {
        let length = usize::try_from(answer.bytes_left).unwrap_or(usize::MAX).min(self.input.len());
        let part = self.input.drain(..length);
        answer.bytes_left -= length as u64;
        let room = (OK.len() + 1).saturating_sub(answer.beginning.len());
        answer.beginning.extend(part.take(room));
        if answer.bytes_left > 0 {
            self.answer = Some(answer);
        } else if answer.beginning == OK {
            effects.push(Effect::Processed);
            self.enter(State::Acknowledged, effects);
        } else {
            effects.push(Effect::Rejected);
            self.enter(State::Acknowledged, effects);
            effects.push(Effect::GiveBack);
        }
    }

    fn enter(&mut self, to: State, effects: &mut Vec<Effect>) {
        let from = mem::replace(&mut self.state, to);
        effects.push(Effect::Entered { from, to });
    }
}

/// The length that a result line states. `None` if it states none.
fn answer_length(line: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(line.get(RESULT.len()..)?).ok()?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::Effect::{BadResultLine, GiveBack, Processed, Rejected};
    use super::State::{Acknowledged, Busy, Ready, Unknown};
    use super::{Effect, MAX_RESULT_LINE, Protocol, State};

    /// A listener in a state. Nothing of an answer was read.
    fn listener(state: State) -> Protocol {
        Protocol { state, ..Protocol::default() }
    }

    fn entered(from: State, to: State) -> Effect {
        Effect::Entered { from, to }
    }

    fn bad(line: &str) -> [Effect; 3] {
        [BadResultLine(line.into()), entered(Busy, Unknown), GiveBack]
    }

    const ALL: [State; 4] = [Acknowledged, Ready, Busy, Unknown];
    const INPUTS: [&str; 16] = [
        "",
        "READ",
        "READY\n",
        "READY\nREADY\n",
        "NOTHING",
        "RESULT 2",
        "RESULT 2\n",
        "RESULT 2\nO",
        "RESULT 2\nOK",
        "RESULT 4\nFAIL",
        "RESULT 2\nOKREADY\n",
        "RESULT 2\nOK\nREADY\n",
        "RESULT 0\n",
        "RESULT 0\nREADY\n",
        "1234567 +2 \nOK",
        "RESULT -1\n",
    ];

    fn expected(state: State, input: &str) -> Vec<Effect> {
        let done = || vec![Processed, entered(Busy, Acknowledged)];
        let rejected = || vec![Rejected, entered(Busy, Acknowledged), GiveBack];
        match (state, input) {
            (_, "") | (Unknown, _) | (Acknowledged, "READ") => vec![],
            (Acknowledged, "READY\n") => vec![entered(Acknowledged, Ready)],
            (Acknowledged, "READY\nREADY\n") => {
                vec![entered(Acknowledged, Ready), entered(Ready, Unknown)]
            }
            (Acknowledged, _) => vec![entered(Acknowledged, Unknown)],
            (Ready, _) => vec![entered(Ready, Unknown)],
            (Busy, "READ" | "NOTHING" | "RESULT 2" | "RESULT 2\n" | "RESULT 2\nO" | "RESULT 0\n") => vec![],
            (Busy, "READY\n" | "READY\nREADY\n") => bad("READY").into(),
            (Busy, "RESULT 2\nOK" | "1234567 +2 \nOK") => done(),
            (Busy, "RESULT 4\nFAIL") => rejected(),
            (Busy, "RESULT 2\nOKREADY\n") => [done(), vec![entered(Acknowledged, Ready)]].concat(),
            (Busy, "RESULT 2\nOK\nREADY\n") => [done(), vec![entered(Acknowledged, Unknown)]].concat(),
            (Busy, "RESULT 0\nREADY\n") => [rejected(), vec![entered(Acknowledged, Ready)]].concat(),
            (Busy, "RESULT -1\n") => bad("RESULT -1").into(),
            _ => panic!("the table has no entry for {state:?} and {input:?}"),
        }
    }

    #[test]
    fn every_state_has_the_effects_of_the_table_for_every_input() {
        for state in ALL {
            for input in INPUTS {
                assert_eq!(
                    listener(state).read(input.as_bytes()),
                    expected(state, input),
                    "{state:?} {input:?}"
                );
            }
        }
    }

    #[test]
    fn input_in_single_bytes_has_the_same_effects() {
        for state in ALL {
            // In the state READY, the first byte violates the protocol, and the later bytes have no effect. So the
            // effects that `expected` returns do not depend on how many bytes are read at once.
            for input in INPUTS {
                let mut protocol = listener(state);
                let effects: Vec<Effect> =
                    input.as_bytes().chunks(1).flat_map(|byte| protocol.read(byte)).collect();
                assert_eq!(effects, expected(state, input), "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn a_listener_that_was_sent_an_event_is_busy_until_it_answers() {
        let mut protocol = Protocol::default();
        protocol.read(b"READY\n");
        protocol.note_event_sent();
        assert_eq!(protocol.state(), Busy);
        protocol.read(b"RESULT 2\nOK");
        assert_eq!(protocol.state(), Acknowledged);
    }

    #[test]
    fn a_long_answer_is_rejected_and_not_kept() {
        let mut protocol = listener(Busy);
        assert_eq!(protocol.read(b"RESULT 1000000\n"), []);
        for _ in 0..999 {
            assert_eq!(protocol.read(&[b'O'; 1000]), []);
            assert!(protocol.input.capacity() < 10_000);
        }
        assert_eq!(protocol.read(&[b'K'; 1000]).first(), Some(&Rejected));
    }

    #[test]
    fn a_result_line_without_end_is_bad() {
        let mut protocol = listener(Busy);
        assert_eq!(protocol.read(&[b'1'; MAX_RESULT_LINE]), []);
        let effects = protocol.read(b"1");
        assert_eq!(effects, bad(&"1".repeat(MAX_RESULT_LINE)));
        assert_eq!(protocol.read(b"READY\n"), []);
    }
}
