//! The scenarios of the differential test. A scenario is a configuration file and what happens to its processes. At the
//! end, the server is sent SIGTERM. The events of the stop are compared only where the scenario contains the signal.
//!
//! The order of the events has to be the same under both servers, although supervisord starts processes and notices that
//! they run in one turn of its loop, and rsup at once, in the order in which it learns of their execs. Therefore no scenario
//! depends on the order in which processes that start at the same time are RUNNING: most programs are started by request
//! when the listener runs, or the listener has `startsecs=1` and runs last.

use crate::support::SIGKILL;

/// What happens next in a scenario.
pub(super) enum Act {
    /// Waits until a listener has received this number of events, those of its earlier starts included.
    Got(&'static str, usize),
    /// Waits until the log has a line with this text.
    Log(&'static str),
    /// Waits until the log has this number of lines with this text.
    Logs(&'static str, usize),
    /// Waits until a log file `NAME.out` ends with this text. What a process writes before its end may reach the file after
    /// the line about this end.
    Has(&'static str, &'static str),
    /// Writes a line into the FIFO of a listener (see listener.py) or of a program (see puppet.sh).
    Tell(&'static str, &'static str),
    /// Requests the start of a program that executes puppet.sh, and waits until it waits for its first line.
    Start(&'static str),
    /// Requests the start of another process.
    Launch(&'static str),
    /// Waits until a program that executes puppet.sh waits for its first line.
    Up(&'static str),
    /// Requests the stop of a process.
    Stop(&'static str),
    /// Sends a process a signal.
    Kill(&'static str, i32),
    /// Sends the server SIGTERM.
    Term,
}

impl Act {
    /// The name of the process that has to have a FIFO.
    pub(super) fn puppet(&self) -> Option<&'static str> {
        match self {
            Self::Tell(name, _) | Self::Start(name) | Self::Up(name) => {
                Some(name.split_once(':').map_or(name, |(_, process)| process))
            }
            _ => None,
        }
    }
}

/// A scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) conf: &'static str,
    pub(super) acts: &'static [Act],
}

impl Scenario {
    /// Whether the stop of the server belongs to the scenario.
    pub(super) fn contains_the_end(&self) -> bool {
        self.acts.iter().any(|act| matches!(act, Term))
    }

    /// The names of all pools.
    pub(super) fn pools(&self) -> Vec<&'static str> {
        self.conf.split("[eventlistener:").skip(1).filter_map(|section| section.split(']').next()).collect()
    }

    /// The names of the pools whose listeners execute listener.py.
    pub(super) fn recording_pools(&self) -> Vec<&'static str> {
        let sections = self.conf.split("[eventlistener:").skip(1);
        let own = sections
            .filter(|section| section.split("\n[").next().is_some_and(|own| own.contains("listener.py")));
        own.filter_map(|section| section.split(']').next()).collect()
    }

    /// Whether the listener `z` receives each exit of the program `p`.
    pub(super) fn has_witness(&self) -> bool {
        self.conf == MANUAL
    }
}

const fn scenario(name: &'static str, conf: &'static str, acts: &'static [Act]) -> Scenario {
    Scenario { name, conf, acts }
}

/// The section of a listener: its name, the arguments of listener.py, its events and further keys.
macro_rules! listener {
    ($name:literal, $arguments:literal, $events:literal) => {
        listener!($name, $arguments, $events, "")
    };
    ($name:literal, $arguments:literal, $events:literal, $keys:literal) => {
        concat!(
            "[eventlistener:",
            $name,
            "]\ncommand=python3 -IS listener.py ",
            $arguments,
            "\nevents=",
            $events,
            "\nbuffer_size=100\nstartsecs=0\nautorestart=false\nstderr_logfile=NONE\nstdout_logfile=NONE\n",
            $keys
        )
    };
}

/// The section of a program that executes puppet.sh and is started by request: its name and further keys.
macro_rules! puppet {
    ($name:literal) => {
        puppet!($name, "")
    };
    ($name:literal, $keys:literal) => {
        program!($name, "sh puppet.sh", $keys)
    };
}

/// The section of a program that is started by request: its name, its command and further keys.
macro_rules! program {
    ($name:literal, $command:literal, $keys:literal) => {
        concat!(
            "[program:",
            $name,
            "]\ncommand=",
            $command,
            "\nautostart=false\nstartsecs=0\nautorestart=false\n\
             stdout_logfile=NONE\nstderr_logfile=NONE\n",
            $keys
        )
    };
}

use Act::{Got, Has, Kill, Launch, Log, Logs, Start, Stop, Tell, Term, Up};

/// All scenarios.
pub(super) fn all() -> Vec<&'static Scenario> {
    [STATES, START_AND_STOP, OUTPUT, CAPTURE, POOLS, PROTOCOL, DEATHS].into_iter().flatten().collect()
}

/// The states of programs.
const STATES: &[Scenario] = &[
    scenario(
        "a program exits as expected",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[Got("x", 2), Start("p"), Got("x", 4), Tell("p", "exit 0"), Got("x", 5)],
    ),
    scenario(
        "a program exits with another status",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[Got("x", 2), Start("p"), Got("x", 4), Tell("p", "exit 3"), Got("x", 5)],
    ),
    scenario(
        "a program exits with a status of exitcodes",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p", "exitcodes=0,3\n")),
        &[Got("x", 2), Start("p"), Got("x", 4), Tell("p", "exit 3"), Got("x", 5)],
    ),
    scenario(
        "a program dies of a signal",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[Got("x", 2), Start("p"), Got("x", 4), Kill("p", SIGKILL), Got("x", 5)],
    ),
    scenario(
        "a program with startsecs=0 exits at once",
        concat!(listener!("x", "auto", "PROCESS_STATE"), program!("p", "sh -c 'exit 7'", "")),
        &[Got("x", 2), Launch("p"), Got("x", 5)],
    ),
    scenario(
        "a program backs off and becomes FATAL",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!("p", "sh -c 'exit 1'", "startsecs=1\nstartretries=1\n")
        ),
        &[Got("x", 2), Launch("p"), Got("x", 7)],
    ),
    scenario(
        "a program becomes FATAL and is started again",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!("p", "sh -c 'exit 1'", "startsecs=1\nstartretries=0\n")
        ),
        &[Got("x", 2), Launch("p"), Got("x", 5), Launch("p"), Got("x", 8)],
    ),
    scenario(
        "a program backs off and then runs",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!(
                "p",
                "sh -c 'test -e p.again || { : >p.again; exit 1; }; exec sleep 1000'",
                "startsecs=1\n"
            )
        ),
        &[Got("x", 2), Launch("p"), Got("x", 6)],
    ),
    scenario(
        "a command does not exist",
        concat!(
            listener!("x", "auto", "PROCESS_STATE", "startsecs=1\n"),
            program!("p", "/nonexistent", "autostart=true\nstartretries=0\n")
        ),
        &[Got("x", 5)],
    ),
    scenario(
        "a command is not executable",
        concat!(
            listener!("x", "auto", "PROCESS_STATE", "startsecs=1\n"),
            program!("p", "/etc/passwd", "autostart=true\nstartretries=0\n")
        ),
        &[Got("x", 5)],
    ),
    scenario(
        "a program is stopped and started",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[Got("x", 2), Start("p"), Got("x", 4), Stop("p"), Got("x", 6), Start("p"), Got("x", 8)],
    ),
    scenario(
        "a program exits and is started",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[Got("x", 2), Start("p"), Got("x", 4), Tell("p", "exit 1"), Got("x", 5), Start("p"), Got("x", 7)],
    ),
    scenario(
        "a program is stopped while it is STARTING",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p", "startsecs=100\n")),
        &[Got("x", 2), Start("p"), Got("x", 3), Stop("p"), Got("x", 5)],
    ),
    scenario(
        "a program is stopped in BACKOFF",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!("p", "sh -c 'exit 1'", "startsecs=10\nstartretries=9\n")
        ),
        &[Got("x", 2), Launch("p"), Got("x", 6), Stop("p"), Got("x", 7)],
    ),
    scenario(
        "a program is killed because it does not stop",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!("p", "sh puppet.sh hold", "stopwaitsecs=1\n")
        ),
        &[Got("x", 2), Start("p"), Got("x", 4), Stop("p"), Got("x", 6)],
    ),
    scenario(
        "a program is restarted always",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p", "autorestart=true\n")),
        &[Got("x", 2), Start("p"), Got("x", 4), Tell("p", "exit 0"), Got("x", 7), Up("p")],
    ),
    scenario(
        "a program is restarted after an unexpected exit",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p", "autorestart=unexpected\n")),
        &[
            Got("x", 2),
            Start("p"),
            Got("x", 4),
            Tell("p", "exit 1"),
            Got("x", 7),
            Up("p"),
            Tell("p", "exit 0"),
            Got("x", 8),
        ],
    ),
    scenario(
        "the processes of a section have numbers",
        concat!(
            listener!("x", "auto", "PROCESS_STATE_RUNNING,PROCESS_STATE_EXITED"),
            puppet!("p", "numprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\n")
        ),
        &[
            Got("x", 1),
            Start("p:p_01"),
            Got("x", 2),
            Start("p:p_00"),
            Got("x", 3),
            Tell("p_00", "exit 0"),
            Got("x", 4),
            Tell("p_01", "exit 5"),
            Got("x", 5),
        ],
    ),
    scenario(
        "programs have a group",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            puppet!("a"),
            puppet!("b"),
            "[group:g]\nprograms=a,b\n"
        ),
        &[
            Got("x", 2),
            Start("g:b"),
            Got("x", 4),
            Start("g:a"),
            Got("x", 6),
            Tell("b", "exit 0"),
            Got("x", 7),
        ],
    ),
    scenario(
        "each state has a pool of its own",
        concat!(
            listener!("starting", "auto", "PROCESS_STATE_STARTING", "priority=-9\n"),
            listener!("running", "auto", "PROCESS_STATE_RUNNING", "priority=-8\nautostart=false\n"),
            listener!("backoff", "auto", "PROCESS_STATE_BACKOFF", "priority=-7\nautostart=false\n"),
            listener!("stopping", "auto", "process_state_stopping", "priority=-6\nautostart=false\n"),
            listener!("exited", "auto", "PROCESS_STATE_EXITED", "priority=-5\nautostart=false\n"),
            listener!("stopped", "auto", "PROCESS_STATE_STOPPED", "priority=-4\nautostart=false\n"),
            listener!("fatal", "auto", "PROCESS_STATE_FATAL", "priority=-3\nautostart=false\n"),
            listener!("unknown", "auto", "PROCESS_STATE_UNKNOWN", "priority=-2\nautostart=false\n"),
            puppet!("p"),
            program!("bad", "sh -c 'exit 1'", "startsecs=1\nstartretries=0\n")
        ),
        &[
            Logs("entered RUNNING state", 1),
            Launch("running"),
            Logs("entered RUNNING state", 2),
            Launch("backoff"),
            Logs("entered RUNNING state", 3),
            Launch("stopping"),
            Logs("entered RUNNING state", 4),
            Launch("exited"),
            Logs("entered RUNNING state", 5),
            Launch("stopped"),
            Logs("entered RUNNING state", 6),
            Launch("fatal"),
            Logs("entered RUNNING state", 7),
            Launch("unknown"),
            Logs("entered RUNNING state", 8),
            Got("starting", 8),
            Got("running", 8),
            Start("p"),
            Got("running", 9),
            Stop("p"),
            Got("stopped", 1),
            Start("p"),
            Got("running", 10),
            Tell("p", "exit 0"),
            Got("exited", 1),
            Launch("bad"),
            Got("fatal", 1),
            Got("backoff", 1),
        ],
    ),
];

/// The start and the stop of the server.
const START_AND_STOP: &[Scenario] = &[
    scenario(
        "the server runs and stops",
        concat!(
            listener!("x", "auto", "SUPERVISOR_STATE_CHANGE"),
            listener!("r", "auto", "SUPERVISOR_STATE_CHANGE_RUNNING", "priority=-2\n"),
            listener!("s", "auto", "SUPERVISOR_STATE_CHANGE_STOPPING", "priority=-3\n"),
            program!("p", "sh puppet.sh hold", "")
        ),
        &[
            Got("x", 1),
            Got("r", 1),
            Log("s: ACKNOWLEDGED -> READY"),
            Start("p"),
            Term,
            Got("x", 2),
            Got("s", 1),
            Tell("p", "exit 0"),
        ],
    ),
    scenario(
        "a program stops with the server",
        concat!(listener!("x", "auto", "PROCESS_STATE"), program!("p", "sh puppet.sh hold", "")),
        &[Got("x", 2), Start("p"), Got("x", 4), Term, Got("x", 5), Tell("p", "exit 0")],
    ),
    scenario(
        "groups stop one after the other",
        concat!(
            listener!("x", "auto", "PROCESS_STATE,SUPERVISOR_STATE_CHANGE_STOPPING"),
            program!("a", "sh puppet.sh hold", "priority=3\n"),
            program!("b", "sh puppet.sh hold", "priority=4\n"),
            program!("c", "sh puppet.sh hold", "priority=2\n")
        ),
        &[
            Got("x", 2),
            Start("a"),
            Got("x", 4),
            Start("b"),
            Got("x", 6),
            Start("c"),
            Got("x", 8),
            Term,
            Got("x", 10),
            Tell("b", "exit 0"),
            Got("x", 12),
            Tell("a", "exit 1"),
            Got("x", 14),
            Tell("c", "exit 0"),
        ],
    ),
    scenario(
        "a program in BACKOFF becomes FATAL when the server stops",
        concat!(
            listener!("x", "auto", "PROCESS_STATE"),
            program!("hold", "sh puppet.sh hold", "priority=1\n"),
            program!("p", "sh -c 'exit 1'", "startsecs=10\nstartretries=9\n")
        ),
        &[
            Got("x", 2),
            Start("hold"),
            Got("x", 4),
            Launch("p"),
            Got("x", 8),
            Term,
            Got("x", 10),
            Tell("hold", "exit 0"),
        ],
    ),
    scenario(
        "a pool sees that another pool stops",
        concat!(
            listener!("x", "auto", "PROCESS_STATE_STOPPING,PROCESS_STATE_STOPPED", "priority=1\n"),
            concat!(
                "[eventlistener:y]\ncommand=sh puppet.sh hold\nevents=PROCESS_STATE_FATAL\npriority=2\nstartsecs=0\n",
                "stdout_logfile=NONE\nstderr_logfile=NONE\n"
            ),
            program!("p", "sh puppet.sh hold", "")
        ),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Up("y"),
            Start("p"),
            Term,
            Got("x", 1),
            Tell("p", "exit 0"),
            Got("x", 3),
            Tell("y", "exit 0"),
        ],
    ),
    scenario(
        "all events of a start and a stop",
        concat!(
            listener!("x", "auto", "EVENT", "startsecs=1\n"),
            program!("p", "sh puppet.sh hold", "autostart=true\n")
        ),
        &[Got("x", 7), Up("p"), Term, Got("x", 9), Tell("p", "exit 0")],
    ),
    scenario(
        "groups are added",
        concat!(
            listener!("late", "auto", "PROCESS_GROUP_ADDED", "priority=2000\n"),
            listener!("same", "auto", "PROCESS_GROUP", "priority=999\n"),
            listener!("early", "auto", "PROCESS_GROUP_ADDED,PROCESS_GROUP_REMOVED"),
            listener!("middle", "auto", "PROCESS_GROUP", "priority=5\n"),
            puppet!("p"),
            puppet!("first", "priority=-9\n"),
            puppet!("a"),
            puppet!("b"),
            "[group:g]\nprograms=a,b\npriority=6\n"
        ),
        &[Got("late", 1), Got("same", 2), Got("early", 6), Got("middle", 5)],
    ),
    scenario(
        "the clock ticks",
        concat!(listener!("x", "manual", "TICK_5"), listener!("y", "manual", "TICK", "priority=-2\n")),
        &[Tell("x", r"write READY\n"), Tell("y", r"write READY\n"), Got("x", 1), Got("y", 1)],
    ),
    scenario(
        "a listener has startsecs",
        concat!(listener!("x", "auto", "PROCESS_STATE", "startsecs=2\n"), puppet!("p")),
        &[Log("x: ACKNOWLEDGED -> READY"), Start("p"), Tell("p", "exit 0"), Got("x", 5)],
    ),
    scenario(
        "a listener never runs",
        concat!(
            "[eventlistener:x]\ncommand=sh -c 'exit 1'\nevents=PROCESS_STATE_EXITED\nbuffer_size=1\nstartsecs=1\n\
             startretries=0\npriority=-2\n",
            listener!("y", "auto", "PROCESS_STATE_EXITED,PROCESS_STATE_FATAL"),
            puppet!("p")
        ),
        &[
            Got("y", 1),
            Start("p"),
            Tell("p", "exit 0"),
            Got("y", 2),
            Start("p"),
            Tell("p", "exit 0"),
            Got("y", 3),
        ],
    ),
    scenario(
        "listeners have variables",
        "[eventlistener:x]\ncommand=sh -c 'env | grep -E \"^SUPERVISOR_(ENABLED|.*NAME)|^OWN\" | sort >&2; exec python3 -IS listener.py auto'\n\
         events=PROCESS_STATE_FATAL\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)d\n\
         environment=OWN=\"%(group_name)s %(process_num)d\"\nstartsecs=0\nstderr_logfile=%(program_name)s_%(process_num)d.out\n",
        &[Logs("ACKNOWLEDGED -> READY", 2)],
    ),
];

/// The output of programs.
const OUTPUT: &[Scenario] = &[
    scenario(
        "each write to stdout is an event",
        concat!(listener!("x", "auto", "PROCESS_LOG_STDOUT"), puppet!("p", "stdout_events_enabled=true\n")),
        &[
            Start("p"),
            Tell("p", r"printf 'one\n'"),
            Got("x", 1),
            Tell("p", r"printf 'two\nthree'"),
            Got("x", 2),
            Tell("p", r"printf '\n\n'"),
            Got("x", 3),
            Tell("p", r"printf 'no event' >&2; printf 'four:4 pid:1\n'"),
            Got("x", 4),
        ],
    ),
    scenario(
        "stderr has events of its own",
        concat!(
            listener!("x", "auto", "PROCESS_LOG_STDERR"),
            listener!("y", "auto", "PROCESS_LOG", "priority=-2\n"),
            puppet!("p", "stdout_events_enabled=true\nstderr_events_enabled=true\n")
        ),
        &[
            Start("p"),
            Tell("p", r"printf 'one\n'"),
            Got("y", 1),
            Tell("p", r"printf 'two\n' >&2"),
            Got("x", 1),
            Got("y", 2),
        ],
    ),
    scenario(
        "stderr is redirected to stdout",
        concat!(
            listener!("x", "auto", "PROCESS_LOG"),
            puppet!("p", "stdout_events_enabled=true\nstderr_events_enabled=true\nredirect_stderr=true\n")
        ),
        &[Start("p"), Tell("p", "echo one >&2"), Got("x", 1), Tell("p", "echo two"), Got("x", 2)],
    ),
    scenario(
        "output is not UTF-8",
        concat!(listener!("x", "auto", "PROCESS_LOG"), puppet!("p", "stdout_events_enabled=true\n")),
        &[
            Start("p"),
            Tell("p", r"printf 'bad\377byte\n'"),
            Got("x", 1),
            Tell("p", r#"printf 'quote"s \047and\\ \t\r\001\177\303'"#),
            Got("x", 2),
            Tell("p", r"printf '\247 \047single\047 \200'"),
            Got("x", 3),
            Tell("p", r"printf 'no null \000 byte\n'"),
            Got("x", 4),
            Tell("p", r"printf 'surrogate \355\240\200 overlong \300\200'"),
            Got("x", 5),
        ],
    ),
    scenario(
        "output is not ASCII",
        concat!(listener!("x", "auto", "PROCESS_LOG"), puppet!("p", "stdout_events_enabled=true\n")),
        &[
            Start("p"),
            Tell("p", r"printf 'Øresund\n'"),
            Got("x", 1),
            Tell("p", r"printf 'ends in Malmö €𝄞'"),
            Got("x", 2),
        ],
    ),
    scenario(
        "names are not ASCII",
        concat!(listener!("écoute", "auto", "PROCESS_STATE"), puppet!("prógram")),
        &[Got("écoute", 2), Start("prógram"), Got("écoute", 4), Tell("prógram", "exit 0"), Got("écoute", 5)],
    ),
    scenario(
        "output goes to a file too",
        concat!(
            listener!("x", "auto", "PROCESS_LOG"),
            puppet!(
                "p",
                "stdout_events_enabled=true\nstderr_events_enabled=true\nstdout_logfile=p.out\n\
                 stdout_logfile_maxbytes=0\nstderr_logfile=e.out\n"
            )
        ),
        &[Start("p"), Tell("p", "echo one"), Got("x", 1), Tell("p", "echo two >&2"), Got("x", 2)],
    ),
    scenario(
        "output goes to the server's stdout too",
        concat!(
            listener!("x", "auto", "PROCESS_LOG"),
            puppet!(
                "p",
                "stdout_events_enabled=true\nstdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\n\
                 stderr_events_enabled=true\nstderr_logfile=/dev/fd/2\nstderr_logfile_maxbytes=0\n"
            )
        ),
        &[Start("p"), Tell("p", "echo one"), Got("x", 1), Tell("p", "echo two >&2"), Got("x", 2)],
    ),
    scenario(
        "the last output comes before the exit",
        concat!(
            listener!("x", "auto", "PROCESS_LOG,PROCESS_STATE_EXITED,PROCESS_STATE_STOPPED"),
            puppet!("p", "stdout_events_enabled=true\n")
        ),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "echo bye; exit 3"),
            Got("x", 2),
            Start("p"),
            Tell("p", "trap 'echo term; exit 0' TERM; echo trapped"),
            Got("x", 3),
            Stop("p"),
            Got("x", 5),
        ],
    ),
    scenario(
        "the stderr of a listener has events",
        concat!(
            listener!("x", "manual", "PROCESS_LOG", "stderr_events_enabled=true\nstderr_logfile=x.out\n"),
            listener!("y", "auto", "PROCESS_LOG_STDERR", "priority=-2\n")
        ),
        &[
            Log("y: ACKNOWLEDGED -> READY"),
            Tell("x", r"err before\n"),
            Got("y", 1),
            Tell("x", "auto"),
            Got("x", 1),
            Tell("x", r"err behind\n"),
            Got("x", 2),
            Got("y", 2),
        ],
    ),
    scenario(
        "the stdout of a listener is copied to its log file",
        concat!(
            listener!(
                "x",
                "manual",
                "PROCESS_STATE_STARTING",
                "stdout_logfile=x.out\nstdout_events_enabled=true\n"
            ),
            listener!("y", "auto", "PROCESS_LOG", "priority=-2\n")
        ),
        &[
            Tell("x", r"write READY\n"),
            Got("x", 1),
            Tell("x", r"write RESULT 2\n"),
            Tell("x", r"write OKmore than READY\n"),
            Log("x: ACKNOWLEDGED -> UNKNOWN"),
            Tell("x", r"write and so\non\n"),
            Tell("x", "exit 0"),
            Log("exited: x"),
            Has("x", "and so\non\n"),
        ],
    ),
];

/// Output between tokens.
const CAPTURE: &[Scenario] = &[
    scenario(
        "captured text is an event",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION_STDOUT"),
            puppet!("p", "stdout_capture_maxbytes=1MB\nstdout_logfile=p.out\n")
        ),
        &[
            Start("p"),
            Tell(
                "p",
                "printf 'before<!--XSUPERVISOR:BEGIN-->inside<!--XSUPERVISOR:END-->behind, which is long enough'",
            ),
            Got("x", 1),
            Tell("p", "exit 0"),
            Log("exited: p"),
            Has("p", "long enough"),
        ],
    ),
    scenario(
        "captured text of stderr is an event",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION_STDERR"),
            listener!("y", "auto", "PROCESS_COMMUNICATION", "priority=-2\n"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstderr_capture_maxbytes=1000\n")
        ),
        &[
            Start("p"),
            Tell("p", "echo '<!--XSUPERVISOR:BEGIN-->one<!--XSUPERVISOR:END-->'"),
            Got("y", 1),
            Tell("p", "echo '<!--XSUPERVISOR:BEGIN-->two<!--XSUPERVISOR:END-->' >&2"),
            Got("y", 2),
            Got("x", 1),
        ],
    ),
    scenario(
        "captured text is a log event too",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION,PROCESS_LOG"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstdout_events_enabled=true\nstdout_logfile=p.out\n")
        ),
        &[
            Start("p"),
            Tell(
                "p",
                "echo 'before<!--XSUPERVISOR:BEGIN-->inside<!--XSUPERVISOR:END-->behind, which is long enough'",
            ),
            Got("x", 4),
        ],
    ),
    scenario(
        "tokens come in pieces",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION,PROCESS_LOG"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstdout_events_enabled=true\nstdout_logfile=p.out\n")
        ),
        &[
            Start("p"),
            Tell("p", "printf 'text before the first token <!--XSUPER'"),
            Got("x", 1),
            Tell("p", "printf 'VISOR:BEGIN-->the first part of the capture, '"),
            Got("x", 2),
            Tell("p", "printf 'and the second part of it<!--XSUPERVISOR:EN'"),
            Got("x", 3),
            Tell("p", "printf 'D-->and text behind the last one'"),
            Got("x", 5),
        ],
    ),
    scenario(
        "a capture has more than maxbytes",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION,PROCESS_LOG"),
            puppet!("p", "stdout_capture_maxbytes=60\nstdout_events_enabled=true\n")
        ),
        &[
            Start("p"),
            Tell("p", "printf '<!--XSUPERVISOR:BEGIN-->12345678901234567890123456789012345'"),
            Got("x", 1),
            Tell("p", "printf 'abcdefghijklmnopqrstuvwxyz'"),
            Got("x", 2),
            Tell("p", "printf 'ABCDEFGHIJKLMNOPQRSTUVWXYZ'"),
            Got("x", 3),
            Tell("p", "printf 'the end of the capture<!--XSUPERVISOR:END-->'"),
            Got("x", 5),
            Tell(
                "p",
                "printf '<!--XSUPERVISOR:BEGIN-->a piece that alone has more bytes than the capture may have<!--XSUPERVISOR:END-->'",
            ),
            Got("x", 7),
            Tell("p", "printf '<!--XSUPERVISOR:BEGIN-->a capture after these<!--XSUPERVISOR:END-->'"),
            Got("x", 9),
        ],
    ),
    scenario(
        "a write has two captures",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstdout_logfile=p.out\n")
        ),
        &[
            Start("p"),
            Tell(
                "p",
                "printf '<!--XSUPERVISOR:BEGIN-->one<!--XSUPERVISOR:END--> and <!--XSUPERVISOR:BEGIN-->two\\n<!--XSUPERVISOR:END-->'",
            ),
            Got("x", 2),
            Tell(
                "p",
                "echo; echo '<!--XSUPERVISOR:BEGIN--><!--XSUPERVISOR:BEGIN-->within<!--XSUPERVISOR:END-->'",
            ),
            Got("x", 3),
            Tell("p", "echo '<!--XSUPERVISOR:BEGIN--><!--XSUPERVISOR:END-->'"),
            Got("x", 4),
        ],
    ),
    scenario(
        "a capture does not end",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION,PROCESS_STATE_EXITED,PROCESS_LOG"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstdout_events_enabled=true\nstdout_logfile=p.out\n")
        ),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "printf '<!--XSUPERVISOR:BEGIN-->this is never ended'"),
            Tell("p", "exit 0"),
            Log("exited: p"),
            Got("x", 1),
            Start("p"),
            Tell("p", "echo 'text that is long enough for an event'"),
            Got("x", 2),
        ],
    ),
    scenario(
        "the last output of a program with capture comes before its exit",
        concat!(
            listener!("x", "auto", "PROCESS_STATE_EXITED,PROCESS_LOG"),
            puppet!("p", "stdout_capture_maxbytes=1000\nstdout_events_enabled=true\nstdout_logfile=p.out\n")
        ),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "printf '%025d' 1; exit 0"),
            Got("x", 2),
            Start("p"),
            Tell("p", "printf '%0100d' 2; exit 1"),
            Got("x", 4),
        ],
    ),
    scenario(
        "tokens are text without a capture",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION,PROCESS_LOG"),
            puppet!("p", "stdout_events_enabled=true\n")
        ),
        &[Start("p"), Tell("p", "echo '<!--XSUPERVISOR:BEGIN-->in<!--XSUPERVISOR:END-->'"), Got("x", 1)],
    ),
    scenario(
        "a capture is not UTF-8",
        concat!(
            listener!("x", "auto", "PROCESS_COMMUNICATION"),
            puppet!("p", "stdout_capture_maxbytes=1000\n")
        ),
        &[
            Start("p"),
            Tell("p", r"printf '<!--XSUPERVISOR:BEGIN-->bad\377byte\n<!--XSUPERVISOR:END-->'"),
            Got("x", 1),
        ],
    ),
];

/// Pools and their buffers.
const POOLS: &[Scenario] = &[
    scenario(
        "a pool lists an event and its family",
        concat!(
            listener!(
                "x",
                "auto",
                "PROCESS_STATE_EXITED,PROCESS_STATE,EVENT,PROCESS_STATE_EXITED",
                "startsecs=1\n"
            ),
            puppet!("p")
        ),
        &[Got("x", 7), Start("p"), Got("x", 11), Tell("p", "exit 0"), Got("x", 14)],
    ),
    scenario(
        "a pool lists an event twice",
        concat!(listener!("x", "auto", "PROCESS_STATE_EXITED, process_state_exited"), puppet!("p")),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "exit 0"),
            Got("x", 1),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 2),
        ],
    ),
    scenario(
        "two pools have different priorities",
        concat!(
            listener!("x", "auto", "PROCESS_STATE_RUNNING,PROCESS_STATE_EXITED", "priority=-2\n"),
            listener!("y", "auto", "PROCESS_STATE_STARTING,PROCESS_STATE_EXITED", "autostart=false\n"),
            puppet!("p")
        ),
        &[
            Got("x", 1),
            Launch("y"),
            Got("x", 2),
            Got("y", 2),
            Start("p"),
            Got("x", 3),
            Got("y", 3),
            Tell("p", "exit 0"),
            Got("x", 4),
            Got("y", 4),
        ],
    ),
    scenario(
        "two pools have the same priority",
        concat!(
            listener!("y", "auto", "PROCESS_STATE_EXITED", "autostart=false\n"),
            listener!("x", "auto", "PROCESS_STATE"),
            puppet!("p")
        ),
        &[
            Got("x", 2),
            Launch("y"),
            Log("y: ACKNOWLEDGED -> READY"),
            Got("x", 4),
            Start("p"),
            Got("x", 6),
            Tell("p", "exit 0"),
            Got("x", 7),
            Got("y", 1),
        ],
    ),
    scenario(
        "serials are counted for all pools and for each",
        concat!(
            listener!("x", "auto", "PROCESS_STATE_STARTING", "priority=-2\n"),
            listener!("y", "auto", "PROCESS_STATE_EXITED"),
            puppet!("p")
        ),
        &[
            Got("x", 2),
            Start("p"),
            Got("x", 3),
            Tell("p", "exit 0"),
            Got("y", 1),
            Start("p"),
            Got("x", 4),
            Tell("p", "exit 0"),
            Got("y", 2),
        ],
    ),
    scenario(
        "the first listener that is READY gets an event",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "numprocs=2\nprocess_name=x_%(process_num)d\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x_1", r"write READY\n"),
            Log("x_1: ACKNOWLEDGED -> READY"),
            Tell("x_0", r"write READY\n"),
            Log("x_0: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x_0", 1),
            Up("p"),
            Tell("p", "exit 2"),
            Got("x_1", 1),
            Up("p"),
            Tell("p", "exit 3"),
            Logs("exited: p", 3),
            Up("p"),
            Tell("x_1", r"write RESULT 2\nOKREADY\n"),
            Got("x_1", 2),
            Tell("x_0", r"write RESULT 2\nOKREADY\n"),
            Logs("x_0: ACKNOWLEDGED -> READY", 2),
            Tell("x_1", r"write RESULT 2\nOKREADY\n"),
            Logs("x_1: ACKNOWLEDGED -> READY", 3),
            Tell("p", "exit 4"),
            Got("x_0", 2),
        ],
    ),
    scenario(
        "the listeners of a pool share the events",
        concat!(
            listener!(
                "x",
                "manual",
                "PROCESS_STATE_EXITED",
                "numprocs=3\nprocess_name=%(program_name)s_%(process_num)02d\n"
            ),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Start("p"),
            Tell("p", "exit 1"),
            Up("p"),
            Tell("p", "exit 2"),
            Up("p"),
            Tell("p", "exit 3"),
            Up("p"),
            Tell("x_02", r"write READY\n"),
            Got("x_02", 1),
            Tell("x_00", r"write READY\n"),
            Got("x_00", 1),
            Tell("x_01", r"write READY\n"),
            Got("x_01", 1),
        ],
    ),
    scenario(
        "a buffer of one event overflows",
        concat!(listener!("x", "manual", "PROCESS_STATE", "buffer_size=1\n"), puppet!("p")),
        &[
            Log("entered RUNNING state"),
            Start("p"),
            Tell("p", "exit 0"),
            Log("exited: p"),
            Tell("x", r"write READY\n"),
            Got("x", 1),
            Start("p"),
            Logs("p entered RUNNING state", 2),
            Tell("x", r"write RESULT 2\nOKREADY\n"),
            Got("x", 2),
        ],
    ),
    scenario(
        "a listener that is never READY loses all but ten events",
        concat!(
            "[eventlistener:x]\ncommand=python3 -IS listener.py manual\nevents=PROCESS_STATE\nstartsecs=0\n\
             stdout_logfile=NONE\nstderr_logfile=NONE\n",
            puppet!("p")
        ),
        &[
            Log("entered RUNNING state"),
            Start("p"),
            Tell("p", "exit 0"),
            Logs("exited: p", 1),
            Start("p"),
            Tell("p", "exit 1"),
            Logs("exited: p", 2),
            Start("p"),
            Tell("p", "exit 2"),
            Logs("exited: p", 3),
            Start("p"),
            Stop("p"),
            Log("stopped: p"),
            Tell("x", "auto"),
            Got("x", 10),
        ],
    ),
    scenario(
        "an event that is listed twice needs two places",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED,PROCESS_STATE", "buffer_size=3\n"),
            puppet!("p")
        ),
        &[
            Log("entered RUNNING state"),
            Start("p"),
            Tell("p", "exit 0"),
            Log("exited: p"),
            Tell("x", "auto"),
            Got("x", 3),
        ],
    ),
    scenario(
        "a rejected event discards the oldest one of a full buffer",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "buffer_size=2\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Up("p"),
            Tell("p", "exit 2"),
            Up("p"),
            Tell("p", "exit 3"),
            Up("p"),
            Tell("x", r"write RESULT 4\nFAIL"),
            Log("x: event was rejected"),
            Tell("x", "auto"),
            Got("x", 3),
        ],
    ),
    scenario(
        "a rejected event returns to its own pool",
        concat!(
            listener!("x", "auto 'RESULT 4\\nFAIL' 'RESULT 2\\nOK'", "PROCESS_STATE_EXITED", "priority=-2\n"),
            listener!("y", "auto", "PROCESS_STATE_EXITED,PROCESS_STATE_STARTING"),
            puppet!("p")
        ),
        &[
            Log("x: ACKNOWLEDGED -> READY"),
            Got("y", 2),
            Start("p"),
            Got("y", 3),
            Tell("p", "exit 1"),
            Got("y", 4),
            Got("x", 2),
            Start("p"),
            Got("y", 5),
            Tell("p", "exit 2"),
            Got("y", 6),
            Got("x", 3),
        ],
    ),
];

/// A listener that writes what the scenario says, for the exits of a program that is always restarted. The listener `z` gets the
/// same events after it, so that the events of `z` show what `x` has not received.
const MANUAL: &str = concat!(
    listener!("x", "manual", "PROCESS_STATE_EXITED"),
    listener!("z", "auto", "PROCESS_STATE_EXITED", "priority=5\n"),
    puppet!("p", "autorestart=true\n")
);

/// What listeners write.
const PROTOCOL: &[Scenario] = &[
    scenario(
        "a rejected event is sent again",
        concat!(
            listener!(
                "x",
                "auto 'RESULT 4\\nFAIL' 'RESULT 5\\nMAYBE' 'RESULT 3\\nOK\\n' 'RESULT 2\\nOK'",
                "PROCESS_STATE"
            ),
            puppet!("p")
        ),
        &[Got("x", 5), Start("p"), Got("x", 7), Tell("p", "exit 0"), Got("x", 8)],
    ),
    scenario(
        "RESULT 0 rejects when more bytes come",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT 0\n"),
            Up("p"),
            Tell("p", "exit 2"),
            Got("z", 2),
            Tell("x", r"write READY\n"),
            Got("x", 2),
            Tell("x", r"write RESULT 2\nOKREADY\n"),
            Got("x", 3),
            Tell("x", r"write RESULT 0\nREADY\n"),
            Got("x", 4),
        ],
    ),
    scenario(
        "a newline behind OK breaks the protocol",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT 2\nOK\nREADY\n"),
            Log("x: ACKNOWLEDGED -> UNKNOWN"),
            Up("p"),
            Tell("p", "exit 2"),
            Got("z", 2),
            Tell("x", r"write READY\n"),
            Up("p"),
            Tell("p", "exit 3"),
            Got("z", 3),
        ],
    ),
    scenario(
        "a newline behind OK breaks the protocol later",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT 2\nOK\n"),
            Log("x: event was processed"),
            Tell("x", r"write READY\n"),
            Log("x: ACKNOWLEDGED -> UNKNOWN"),
        ],
    ),
    scenario(
        "a result without a length",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT x\nREADY\n"),
            Log("x: BUSY -> UNKNOWN"),
            Tell("x", r"write READY\n"),
            Up("p"),
            Tell("p", "exit 2"),
            Got("z", 2),
        ],
    ),
    scenario(
        "a result that is only OK",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write OK\n"),
            Log("x: BUSY -> UNKNOWN"),
        ],
    ),
    scenario(
        "an empty line as a result",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write \n"),
            Log("x: BUSY -> UNKNOWN"),
        ],
    ),
    scenario(
        "a result without a number",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT \n"),
            Log("x: BUSY -> UNKNOWN"),
        ],
    ),
    scenario(
        "a result with quotes",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r#"write it's "two" \\ 2\n"#),
            Log("x: BUSY -> UNKNOWN"),
        ],
    ),
    scenario(
        "a result that is not UTF-8",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write it's \xff\n"),
            Log("x: BUSY -> UNKNOWN"),
        ],
    ),
    scenario(
        "the first seven bytes of a result are any bytes",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write \x00\xff-----2\nOKREADY\n"),
            Log("x: event was processed"),
            Up("p"),
            Tell("p", "exit 2"),
            Got("x", 2),
            Tell("x", r"write ANSWER  2\nOKREADY\n"),
            Logs("x: event was processed", 2),
        ],
    ),
    scenario(
        "the length of a result is what Python takes for a number",
        concat!(listener!("x", "manual", "PROCESS_STATE"), puppet!("p")),
        &[
            Tell("x", r"write READY\n"),
            Got("x", 1),
            Tell("x", r"write RESULT 2 \nOKREADY\n"),
            Got("x", 2),
            Tell("x", r"write RESULT 2\r\nOKREADY\n"),
            Logs("x: event was processed", 2),
            Start("p"),
            Got("x", 3),
            Tell("x", r"write RESULT +2\nOKREADY\n"),
            Got("x", 4),
            Tell("x", r"write RESULT \t002\x0b\nOKREADY\n"),
            Logs("x: event was processed", 4),
            Tell("p", "exit 0"),
            Got("x", 5),
            Tell("x", r"write RESULT 2.0\nOKREADY\n"),
            Log("x: bad result line"),
        ],
    ),
    scenario(
        "READY comes twice",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Log("x: ACKNOWLEDGED -> READY"),
            Tell("x", r"write READY\n"),
            Log("x: READY -> UNKNOWN"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("z", 1),
        ],
    ),
    scenario(
        "READY comes twice in one write",
        MANUAL,
        &[
            Tell("x", r"write READY\nREADY\n"),
            Log("x: READY -> UNKNOWN"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("z", 1),
        ],
    ),
    scenario(
        "a banner comes before READY",
        MANUAL,
        &[
            Tell("x", r"write starting\nREADY\n"),
            Log("x: ACKNOWLEDGED -> UNKNOWN"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("z", 1),
        ],
    ),
    scenario(
        "six wrong bytes are enough",
        MANUAL,
        &[Tell("x", "write READY "), Log("x: ACKNOWLEDGED -> UNKNOWN")],
    ),
    scenario(
        "READY comes in pieces",
        concat!(listener!("x", "manual", "PROCESS_STATE_RUNNING", "stdout_logfile=x.out\n")),
        &[
            Tell("x", "write R"),
            Logs("'x' stdout output:", 1),
            Tell("x", "write EADY"),
            Logs("'x' stdout output:", 2),
            Tell("x", r"write \n"),
            Got("x", 1),
        ],
    ),
    scenario(
        "a result comes in pieces",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", "write RES"),
            Logs("'x' stdout output:", 2),
            Tell("x", "write ULT 2"),
            Logs("'x' stdout output:", 3),
            Tell("x", r"write \n"),
            Logs("'x' stdout output:", 4),
            Tell("x", "write O"),
            Logs("'x' stdout output:", 5),
            Up("p"),
            Tell("p", "exit 2"),
            Got("z", 2),
            Tell("x", "write K"),
            Log("x: BUSY -> ACKNOWLEDGED"),
            Tell("x", "write READ"),
            Logs("'x' stdout output:", 7),
            Tell("x", r"write Y\nX"),
            Log("x: READY -> UNKNOWN"),
        ],
    ),
    scenario(
        "a long result",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", r"write RESULT 60\n123456789012345678901234567890"),
            Tell("x", r"write 123456789012345678901234567890READY\n"),
            Got("x", 2),
        ],
    ),
    scenario(
        "an answer comes without an event",
        MANUAL,
        &[
            Tell("x", r"write READY\nRESULT 2\nOK"),
            Log("x: READY -> UNKNOWN"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("z", 1),
        ],
    ),
    scenario(
        "a listener does not answer",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Up("p"),
            Tell("p", "exit 2"),
            Got("z", 2),
        ],
    ),
];

/// Listeners that end, and listeners that read nothing.
const DEATHS: &[Scenario] = &[
    scenario(
        "a listener dies while it is BUSY",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "autorestart=true\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Up("p"),
            Tell("p", "exit 2"),
            Logs("exited: p", 2),
            Kill("x", SIGKILL),
            Logs("spawned: 'x'", 2),
            Tell("x", "auto"),
            Got("x", 4),
        ],
    ),
    scenario(
        "a listener dies while it is READY",
        concat!(listener!("x", "manual", "PROCESS_STATE", "autorestart=true\n"), puppet!("p")),
        &[
            Tell("x", r"write READY\n"),
            Got("x", 1),
            Tell("x", r"write RESULT 2\nOKREADY\n"),
            Got("x", 2),
            Tell("x", r"write RESULT 2\nOKREADY\n"),
            Logs("x: ACKNOWLEDGED -> READY", 3),
            Tell("x", "exit 0"),
            Logs("x entered RUNNING state", 2),
            Start("p"),
            Tell("x", "auto"),
            Got("x", 7),
        ],
    ),
    scenario(
        "a listener dies in UNKNOWN and starts again",
        concat!(listener!("x", "manual", "PROCESS_STATE_EXITED", "autorestart=true\n"), puppet!("p")),
        &[
            Tell("x", r"write banner\n"),
            Log("x: ACKNOWLEDGED -> UNKNOWN"),
            Start("p"),
            Tell("p", "exit 1"),
            Log("exited: p"),
            Kill("x", SIGKILL),
            Logs("spawned: 'x'", 2),
            Tell("x", "auto"),
            Got("x", 2),
        ],
    ),
    scenario(
        "a listener dies while it is BUSY and another one takes its event",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "numprocs=2\nprocess_name=x_%(process_num)d\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x_0", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x_0", 1),
            Kill("x_0", SIGKILL),
            Log("exited: x_0"),
            Tell("x_1", "auto"),
            Got("x_1", 2),
        ],
    ),
    scenario(
        "a listener dies after its result",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "autorestart=unexpected\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            // One read of the FIFO has both lines.
            Tell("x", "write RESULT 2\\nOK\nexit 1"),
            Logs("spawned: 'x'", 2),
            Up("p"),
            Tell("p", "exit 2"),
            Logs("exited: p", 2),
            Tell("x", "auto"),
            Got("x", 3),
        ],
    ),
    scenario(
        "a listener dies in the middle of its result",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "autorestart=unexpected\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", "write RESULT 2\\nO\nexit 1"),
            Logs("spawned: 'x'", 2),
            Tell("x", "auto"),
            Got("x", 3),
        ],
    ),
    scenario(
        "a listener dies and stays away",
        concat!(listener!("x", "manual", "PROCESS_STATE_EXITED"), puppet!("p", "autorestart=true\n")),
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Tell("x", "exit 1"),
            Log("exited: x"),
            Up("p"),
            Tell("p", "exit 2"),
            Logs("exited: p", 2),
        ],
    ),
    scenario(
        "a listener is stopped and started",
        concat!(listener!("x", "auto", "PROCESS_STATE"), puppet!("p")),
        &[
            Got("x", 2),
            Log("x: ACKNOWLEDGED -> READY"),
            Stop("x"),
            Log("stopped: x"),
            Start("p"),
            Launch("x"),
            Got("x", 8),
        ],
    ),
    scenario(
        "a pool sees the changes of another pool's listener",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_FATAL", "autorestart=true\nautostart=false\n"),
            listener!("y", "auto", "PROCESS_STATE")
        ),
        &[
            Got("y", 2),
            Launch("x"),
            Got("y", 4),
            Tell("x", "exit 5"),
            Got("y", 7),
            Tell("x", r"write READY\n"),
            Log("x: ACKNOWLEDGED -> READY"),
            Stop("x"),
            Got("y", 9),
        ],
    ),
    scenario(
        "a listener closes its stdin",
        MANUAL,
        &[
            Tell("x", "close"),
            Tell("x", r"write READY\n"),
            Log("x: ACKNOWLEDGED -> READY"),
            Start("p"),
            Tell("p", "exit 1"),
            Log("epipe occurred while sending"),
            Got("z", 1),
            Up("p"),
        ],
    ),
    scenario(
        "a listener closes its stdin and another one takes its events",
        concat!(
            listener!("x", "manual", "PROCESS_STATE_EXITED", "numprocs=2\nprocess_name=x_%(process_num)d\n"),
            puppet!("p", "autorestart=true\n")
        ),
        &[
            Tell("x_0", "close"),
            Tell("x_0", r"write READY\n"),
            Tell("x_1", r"write READY\n"),
            Logs("ACKNOWLEDGED -> READY", 2),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x_1", 1),
            Tell("x_1", r"write RESULT 2\nOKREADY\n"),
            Logs("x_1: ACKNOWLEDGED -> READY", 2),
            Up("p"),
            Tell("p", "exit 2"),
            Got("x_1", 2),
        ],
    ),
    scenario(
        "the server stops while a listener is BUSY",
        MANUAL,
        &[
            Tell("x", r"write READY\n"),
            Start("p"),
            Tell("p", "exit 1"),
            Got("x", 1),
            Up("p"),
            Got("z", 1),
            Term,
        ],
    ),
];
