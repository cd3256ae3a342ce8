//! The law of one process: supervisord's states and what moves a process between them.
//!
//! A process is its leader (the child rsup started) and the rest of the leader's process group. The leader's life is
//! [`State`]; what is left of the group once the leader has been reaped is [`Rest`].

use super::{AutoRestart, Exit, Message, Signal, Spec, Time};

/// Seconds between two starts of one process, whatever ended the first: nothing spins.
const FLOOR: i64 = 1;
/// Seconds that what has been sent SIGKILL may take to vanish before nobody waits for it any longer.
pub(super) const GRACE: i64 = 1;

/// supervisord's process states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never started, or stopped because rsup leaves.
    Stopped,
    /// Forked. `up_since` is when the exec was known to have worked, none before that.
    Starting {
        /// Start of the `startsecs` it has to stay up.
        up_since: Option<Time>,
    },
    /// Stayed up for `startsecs`.
    Running,
    /// The start failed; tried again at `until`.
    Backoff {
        /// The earliest next start.
        until: Time,
    },
    /// Asked to stop. `kill_at` is when SIGKILL follows, none once it was sent.
    Stopping {
        /// End of `stopwaitsecs`.
        kill_at: Option<Time>,
    },
    /// Ended from RUNNING. `restart_at` is when it starts again, none when it will not.
    Exited {
        /// The earliest next start.
        restart_at: Option<Time>,
    },
    /// Could not be started, and will not be.
    Fatal,
}

/// What is left of the process group behind its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing that is waited for.
    None,
    /// Members that are left alone: a launcher's daemon.
    Alone,
    /// Members that were sent SIGTERM; SIGKILL follows at `kill_at`.
    Clearing {
        /// End of `stopwaitsecs`.
        kill_at: Time,
    },
    /// Members that were sent SIGKILL; nobody waits for them after `until`.
    Killed {
        /// End of the grace.
        until: Time,
    },
}

/// What can happen to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// rsup has come up, and the process has `autostart`.
    Start,
    /// The exec of the last [`Action::Spawn`] is known to have worked.
    Spawned,
    /// The last [`Action::Spawn`] came to nothing, and no process is left of it.
    SpawnFailed,
    /// The last [`Action::Spawn`] was taken back before it was carried out.
    Cancelled,
    /// The leader was reaped.
    Exited {
        /// How it ended.
        exit: Exit,
        /// Whether its process group has other members.
        rest: bool,
    },
    /// The last member of the process group is gone.
    GroupGone,
    /// Time has passed.
    Tick,
    /// rsup begins to leave: nothing starts any more.
    Hold,
    /// It is this process's turn to stop.
    Stop,
    /// Nobody waits any longer: SIGKILL to all of it.
    Kill,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the program. [`Event::Spawned`] or [`Event::SpawnFailed`] answers.
    Spawn,
    /// Send a signal.
    Send(Signal, To),
    /// Forget the process group: whoever is left of it is not waited for.
    Forget,
    /// Say it.
    Log(Message),
}

/// Whom a signal is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The child rsup started.
    Leader,
    /// The whole process group.
    Group,
}

/// One process and its history, as far as the law needs it.
#[derive(Clone, Debug)]
pub struct Process {
    state: State,
    rest: Rest,
    /// Failed starts in a row.
    failures: i64,
    /// When the last start was tried.
    started: Option<Time>,
    /// Nothing starts any more.
    held: bool,
    /// How the leader ended last, and whether that was expected.
    last_exit: Option<(Exit, bool)>,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            state: State::Stopped,
            rest: Rest::None,
            failures: 0,
            started: None,
            held: false,
            last_exit: None,
        }
    }
}

impl Process {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How the leader ended last, and whether that was expected.
    #[must_use]
    pub fn last_exit(&self) -> Option<(Exit, bool)> {
        self.last_exit
    }

    /// Whether a child of rsup runs, or may.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        match self.state {
            State::Starting { .. } | State::Running | State::Stopping { .. } => true,
            State::Stopped | State::Backoff { .. } | State::Exited { .. } | State::Fatal => false,
        }
    }

    /// Whether anything is still to come of it by itself: it runs, it will run, or its leftovers are being cleared.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        let state = match self.state {
            State::Starting { .. } | State::Running | State::Stopping { .. } | State::Backoff { .. } => true,
            State::Exited { restart_at } => restart_at.is_some(),
            State::Stopped | State::Fatal => false,
        };
        state || self.is_clearing()
    }

    /// Whether the stop has yet to wait for it: part of it lives and was not sent SIGKILL.
    #[must_use]
    pub fn holds_up_stop(&self) -> bool {
        let killed = matches!(self.state, State::Stopping { kill_at: None });
        self.has_leader() && !killed || matches!(self.rest, Rest::Clearing { .. })
    }

    fn is_clearing(&self) -> bool {
        matches!(self.rest, Rest::Clearing { .. } | Rest::Killed { .. })
    }

    /// When [`Event::Tick`] will have something to do. A start that waits for the group to be gone has no deadline
    /// of its own: [`Event::GroupGone`] brings it, or the group's own deadline.
    #[must_use]
    pub fn deadline(&self, spec: &Spec) -> Option<Time> {
        let state = match self.state {
            State::Starting { up_since } => up_since.map(|since| since.after(spec.startsecs)),
            State::Stopping { kill_at } => kill_at,
            State::Backoff { until } => (!self.is_clearing()).then_some(until),
            State::Exited { restart_at } => restart_at.filter(|_| !self.is_clearing()),
            State::Stopped | State::Running | State::Fatal => None,
        };
        let rest = match self.rest {
            Rest::Clearing { kill_at } => Some(kill_at),
            Rest::Killed { until } => Some(until),
            Rest::None | Rest::Alone => None,
        };
        state.into_iter().chain(rest).min()
    }

    /// The law: every state under every event.
    pub fn step(&mut self, spec: &Spec, event: Event, now: Time, act: &mut impl FnMut(Action)) {
        use State::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping};
        match event {
            Event::Start => match self.state {
                Stopped => self.start(now, act),
                Starting { .. } | Running | Backoff { .. } | Stopping { .. } | Exited { .. } | Fatal => {}
            },
            Event::Spawned => match self.state {
                Starting { up_since: None } => self.come_up(spec, now, act),
                // The exec was under way when the stop came: it is a program that stops.
                Stopping { .. } => act(Action::Log(Message::Spawned)),
                Starting { up_since: Some(_) }
                | Stopped
                | Running
                | Backoff { .. }
                | Exited { .. }
                | Fatal => {}
            },
            Event::SpawnFailed => match self.state {
                Starting { .. } => {
                    act(Action::Log(Message::SpawnError));
                    self.fail(spec, now, act);
                }
                Stopping { .. } => {
                    act(Action::Log(Message::SpawnError));
                    self.state = Stopped;
                }
                Stopped | Running | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::Cancelled => match self.state {
                Starting { .. } => self.state = Stopped,
                Stopped | Running | Backoff { .. } | Stopping { .. } | Exited { .. } | Fatal => {}
            },
            Event::Exited { exit, rest } => match self.state {
                Starting { up_since } => {
                    // Reaped before any timed transition, so a program that is dead is never called RUNNING. One that
                    // had its `startsecs` by now ran, though its turn to be told so did not come.
                    if up_since.is_some_and(|since| now >= since.after(spec.startsecs)) {
                        self.end(spec, exit, rest, now, act);
                    } else {
                        self.die_early(spec, exit, rest, now, act);
                    }
                }
                Running => self.end(spec, exit, rest, now, act),
                Stopping { kill_at } => self.finish_stop(spec, exit, rest, kill_at, now, act),
                // No leader: nothing of ours was reaped.
                Stopped | Backoff { .. } | Exited { .. } | Fatal => {}
            },
            Event::GroupGone => match self.state {
                Backoff { .. } | Exited { .. } => {
                    self.rest = Rest::None;
                    self.start_if_due(now, act);
                }
                Stopped | Fatal => self.rest = Rest::None,
                // A living leader is a member.
                Starting { .. } | Running | Stopping { .. } => {}
            },
            Event::Tick => match self.state {
                Starting { up_since: Some(since) } if now >= since.after(spec.startsecs) => {
                    self.succeed(spec, act);
                }
                Stopping { kill_at: Some(kill_at) } if now >= kill_at => self.kill_all(act),
                Backoff { .. } | Exited { .. } => {
                    self.tick_rest(now, act);
                    self.start_if_due(now, act);
                }
                Stopped | Fatal => self.tick_rest(now, act),
                Starting { .. } | Running | Stopping { .. } => {}
            },
            Event::Hold => {
                self.held = true;
                match self.state {
                    Backoff { .. } => self.state = Fatal,
                    Exited { .. } => self.state = Exited { restart_at: None },
                    Stopped | Starting { .. } | Running | Stopping { .. } | Fatal => {}
                }
            }
            Event::Stop => match self.state {
                Starting { .. } | Running => self.stop(spec, now, act),
                Backoff { .. } => self.state = Fatal,
                Exited { .. } => {
                    self.state = Exited { restart_at: None };
                    self.clear_if_alone(spec, now, act);
                }
                Stopped | Fatal => self.clear_if_alone(spec, now, act),
                Stopping { .. } => {}
            },
            Event::Kill => match self.state {
                Starting { .. } | Running | Stopping { kill_at: Some(_) } => self.kill_all(act),
                Backoff { .. } => {
                    self.state = Fatal;
                    self.kill_rest(now, act);
                }
                Exited { .. } => {
                    self.state = Exited { restart_at: None };
                    self.kill_rest(now, act);
                }
                Stopped | Fatal => self.kill_rest(now, act),
                Stopping { kill_at: None } => {}
            },
        }
    }

    fn start(&mut self, now: Time, act: &mut impl FnMut(Action)) {
        if !self.held {
            self.state = State::Starting { up_since: None };
            self.rest = Rest::None;
            self.started = Some(now);
            act(Action::Spawn);
        }
    }

    /// Starts when the time has come and nothing is left of the last one.
    fn start_if_due(&mut self, now: Time, act: &mut impl FnMut(Action)) {
        let due = match self.state {
            State::Backoff { until } => Some(until),
            State::Exited { restart_at } => restart_at,
            State::Stopped
            | State::Starting { .. }
            | State::Running
            | State::Stopping { .. }
            | State::Fatal => None,
        };
        if due.is_some_and(|due| now >= due) && !self.is_clearing() {
            self.start(now, act);
        }
    }

    fn come_up(&mut self, spec: &Spec, now: Time, act: &mut impl FnMut(Action)) {
        self.state = State::Starting { up_since: Some(now) };
        act(Action::Log(Message::Spawned));
        // With `startsecs=0` no start is too quick: RUNNING before any exit can be seen.
        if spec.startsecs <= 0 {
            self.succeed(spec, act);
        }
    }

    fn succeed(&mut self, spec: &Spec, act: &mut impl FnMut(Action)) {
        self.state = State::Running;
        self.failures = 0;
        act(Action::Log(Message::Success { startsecs: spec.startsecs }));
    }

    /// A start that came to nothing: BACKOFF, and FATAL once the retries are used up.
    fn fail(&mut self, spec: &Spec, now: Time, act: &mut impl FnMut(Action)) {
        self.failures += 1;
        if self.held {
            self.state = State::Fatal;
        } else if self.failures > spec.startretries {
            self.state = State::Fatal;
            self.failures = 0;
            act(Action::Log(Message::GaveUp));
        } else {
            self.state = State::Backoff { until: now.after(self.failures) };
        }
    }

    /// The leader ended before its `startsecs` were over. Its exit code does not matter.
    fn die_early(&mut self, spec: &Spec, exit: Exit, rest: bool, now: Time, act: &mut impl FnMut(Action)) {
        self.last_exit = Some((exit, false));
        act(Action::Log(Message::Exited { exit, expected: false }));
        self.fail(spec, now, act);
        self.leave_rest(rest, Leftovers::Clear, spec, now, act);
    }

    /// The leader ended from RUNNING.
    fn end(&mut self, spec: &Spec, exit: Exit, rest: bool, now: Time, act: &mut impl FnMut(Action)) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.failures = 0;
        act(Action::Log(Message::Exited { exit, expected }));
        let again = match spec.autorestart {
            AutoRestart::Always => true,
            AutoRestart::Unexpected => !expected,
            AutoRestart::Never => false,
        };
        let floor = self.started.map_or(now, |started| started.after(FLOOR));
        let restart_at = (again && !self.held).then_some(now.max(floor));
        self.state = State::Exited { restart_at };
        // What a launcher leaves behind is its daemon, unless the launcher is to run again or all is to stop.
        let clear = restart_at.is_some() || self.held;
        self.leave_rest(rest, if clear { Leftovers::Clear } else { Leftovers::Keep }, spec, now, act);
        self.start_if_due(now, act);
    }

    /// The leader ended because it was told to.
    fn finish_stop(
        &mut self,
        spec: &Spec,
        exit: Exit,
        rest: bool,
        kill_at: Option<Time>,
        now: Time,
        act: &mut impl FnMut(Action),
    ) {
        let expected = exit.is_expected(&spec.exitcodes);
        self.last_exit = Some((exit, expected));
        self.state = State::Stopped;
        act(Action::Log(Message::Stopped { exit, expected }));
        match kill_at {
            // The rest has what is left of the leader's time.
            Some(kill_at) if rest => self.clear(kill_at, act),
            // SIGKILL went to the whole group.
            None if rest => self.rest = Rest::Killed { until: now.after(GRACE) },
            Some(_) | None => self.rest = Rest::None,
        }
    }

    fn leave_rest(
        &mut self,
        rest: bool,
        leftovers: Leftovers,
        spec: &Spec,
        now: Time,
        act: &mut impl FnMut(Action),
    ) {
        match leftovers {
            Leftovers::Clear if rest => self.clear(now.after(spec.stopwaitsecs), act),
            Leftovers::Keep if rest => self.rest = Rest::Alone,
            Leftovers::Clear | Leftovers::Keep => self.rest = Rest::None,
        }
    }

    fn clear_if_alone(&mut self, spec: &Spec, now: Time, act: &mut impl FnMut(Action)) {
        match self.rest {
            Rest::Alone => self.clear(now.after(spec.stopwaitsecs), act),
            Rest::None | Rest::Clearing { .. } | Rest::Killed { .. } => {}
        }
    }

    /// SIGTERM, and SIGCONT behind it: a stopped process cannot act on the first without the second.
    fn clear(&mut self, kill_at: Time, act: &mut impl FnMut(Action)) {
        self.rest = Rest::Clearing { kill_at };
        act(Action::Send(Signal::TERM, To::Group));
        act(Action::Send(Signal::CONT, To::Group));
    }

    fn tick_rest(&mut self, now: Time, act: &mut impl FnMut(Action)) {
        match self.rest {
            Rest::Clearing { kill_at } if now >= kill_at => self.kill_rest(now, act),
            // A zombie that its own parent does not reap, or a process stuck in the kernel: it must not keep the
            // program down for ever.
            Rest::Killed { until } if now >= until => {
                self.rest = Rest::None;
                act(Action::Log(Message::LeftBehind));
                act(Action::Forget);
            }
            Rest::None | Rest::Alone | Rest::Clearing { .. } | Rest::Killed { .. } => {}
        }
    }

    fn kill_rest(&mut self, now: Time, act: &mut impl FnMut(Action)) {
        match self.rest {
            Rest::Alone | Rest::Clearing { .. } => {
                self.rest = Rest::Killed { until: now.after(GRACE) };
                act(Action::Log(Message::Killing));
                kill(To::Group, act);
            }
            Rest::None | Rest::Killed { .. } => {}
        }
    }

    fn stop(&mut self, spec: &Spec, now: Time, act: &mut impl FnMut(Action)) {
        self.state = State::Stopping { kill_at: Some(now.after(spec.stopwaitsecs)) };
        let to = if spec.stopasgroup { To::Group } else { To::Leader };
        act(Action::Log(Message::Sending { signal: spec.stopsignal, to }));
        act(Action::Send(spec.stopsignal, to));
        act(Action::Send(Signal::CONT, To::Group));
    }

    /// The leader too, since it may have left its group.
    fn kill_all(&mut self, act: &mut impl FnMut(Action)) {
        self.state = State::Stopping { kill_at: None };
        act(Action::Log(Message::Killing));
        act(Action::Send(Signal::KILL, To::Leader));
        kill(To::Group, act);
    }
}

fn kill(to: To, act: &mut impl FnMut(Action)) {
    act(Action::Log(Message::Sending { signal: Signal::KILL, to }));
    act(Action::Send(Signal::KILL, to));
}

/// What becomes of the group's other members when the leader has ended by itself.
#[derive(Clone, Copy)]
enum Leftovers {
    Clear,
    Keep,
}

#[cfg(test)]
mod tests;
