//! The same faults for rsup and its peers. `make peers` prints a table of what each of them does, and the README shows
//! parts of this table. Peers that are not installed are left out. The test fails only if rsup does not do what
//! `wanted` says.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::cgroup::Cgroup;
use crate::support::{
    Rsup, SIGKILL, SIGSTOP, SIGTERM, Setup, binary, each, eventually, installed, kill, make_fifo, needs,
    pid_namespace, proc, root, rsup, skip, within,
};

/// The time after which a missing reaction counts as no reaction. Each peer that reacts at all reacts much sooner.
const SOON: Duration = Duration::from_secs(8);

/// rsup and its peers, as Debian packages them. The options make tini and dumb-init log what they do.
const SUBJECTS: [(&str, &[&str]); 5] = [
    ("rsup", &[]),
    ("tini", &["-vvv", "--"]),
    ("dumb-init", &["-v", "--"]),
    ("catatonit", &["--"]),
    ("supervisord", &["-n", "-c", "supervisord.conf"]),
];

const IGNORES_SIGTERM: &str = "ignores SIGTERM";

/// One of `SUBJECTS` with a program.
struct Case {
    /// Whether the subject restarts its program. The other subjects exit together with their program.
    restarts: bool,
    setup: Setup,
}

impl Case {
    /// The subject as PID 1, with this script as its program.
    fn new((name, options): (&'static str, &[&str]), script: &str) -> Self {
        let conf = format!(
            "[supervisord]\nnodaemon=true\nlogfile=%(here)s/supervisord.log\npidfile=%(here)s/supervisord.pid\n\
             [program:x]\ncommand=sh -c '{script}'\nstartsecs=0\nautorestart=true\nstopwaitsecs=2\n\
             stdout_logfile=%(here)s/out\nredirect_stderr=true\n"
        );
        let setup = rsup(&conf).pid_1();
        let binary = binary();
        let (word, command) = match name {
            "rsup" => (binary.to_str().unwrap(), &["-c", "supervisord.conf"][..]),
            "supervisord" => (name, &[][..]),
            _ => (name, &["sh", "-c", script][..]),
        };
        let words = [&[word], options, command].concat();
        Self { restarts: ["rsup", "supervisord"].contains(&name), setup: setup.running(&words) }
    }

    fn after(self, script: &str) -> Self {
        Self { setup: self.setup.after(script), ..self }
    }

    fn through(self, words: &[&str]) -> Self {
        Self { setup: self.setup.through(words), ..self }
    }

    fn start(self) -> Running {
        Running { restarts: self.restarts, rsup: self.setup.start() }
    }
}

struct Running {
    restarts: bool,
    rsup: Rsup,
}

impl Running {
    /// The number of starts of the program: each start writes a line into the file `starts`.
    fn starts(&self) -> usize {
        self.rsup.read("starts").lines().count()
    }

    /// Waits for the end of the subject. Returns its exit code, or -1 if a signal has ended the subject.
    fn exit_code(&mut self) -> Option<i32> {
        within(SOON, || self.rsup.ended()).map(|code| code.unwrap_or(-1))
    }

    /// What the subject does when its program, which is `ENDS`, exits with 7: restart the program, or exit with 7 too.
    fn reacts_to_exit(mut self) -> String {
        let done = within(SOON, || {
            let works = if self.restarts { self.starts() >= 2 } else { self.rsup.ended() == Some(Some(7)) };
            (works || self.rsup.has_left()).then_some(works)
        });
        match done {
            Some(true) => "works".into(),
            Some(false) => format!("exits with {}", self.exit_code().unwrap()),
            None if self.starts() == 0 => "hangs, starts nothing".into(),
            None => "hangs".into(),
        }
    }

    /// What the subject does when it gets SIGTERM after its program has started.
    fn reacts_to_sigterm(mut self) -> String {
        let up = within(SOON, || (self.starts() > 0 || self.rsup.has_left()).then_some(()));
        if let Some(code) = self.rsup.ended() {
            return format!("exits with {}", code.unwrap_or(-1));
        }
        if up.is_none() {
            return "hangs, starts nothing".into();
        }
        self.rsup.signal(SIGTERM);
        match self.exit_code() {
            Some(_) => "works".into(),
            None => IGNORES_SIGTERM.into(),
        }
    }
}

const FORK_FAILS: &str = "no process can be forked for 2 s";
const SIGTERM_AT_START: &str = "SIGTERM comes 50 ms after the start";
const PROGRAM_IGNORES_SIGTERM: &str = "the program ignores SIGTERM";
const PROGRAM_IS_STOPPED: &str = "SIGTERM comes while the program is stopped";
const PROGRAM_LEAVES_A_CHILD: &str = "the program crashes and leaves a child";
const ORPHANS_DIE: &str = "500 orphans die: zombies after 0.2 s";

/// The first column of the table, and the function that returns what a subject does.
type Scenario = (&'static str, fn((&'static str, &[&str])) -> String);

const ENDS: &str = "echo start >> starts; exit 7";
const STAYS: &str = "echo start >> starts; exec sleep 1000";

const SCENARIOS: [Scenario; 11] = [
    ("SIGCHLD is ignored at start", |subject| {
        Case::new(subject, ENDS).through(&["env", "--ignore-signal=CHLD"]).start().reacts_to_exit()
    }),
    ("every signal is blocked at start", |subject| {
        Case::new(subject, STAYS).through(&["env", "--block-signal"]).start().reacts_to_sigterm()
    }),
    ("descriptors 0 to 2 are closed at start", |subject| {
        Case::new(subject, ENDS).after("exec <&- >&- 2>&-").start().reacts_to_exit()
    }),
    ("at most 16 descriptors can be open", |subject| {
        Case::new(subject, ENDS).after("ulimit -n 16").start().reacts_to_exit()
    }),
    ("its log is a full pipe", full_log),
    (FORK_FAILS, fork_fails),
    (SIGTERM_AT_START, |subject| {
        let mut running = Case::new(subject, STAYS).start();
        running.rsup.pid();
        thread::sleep(Duration::from_millis(50));
        running.rsup.signal(SIGTERM);
        running.exit_code().map_or("loses it", |_| "stops").into()
    }),
    (PROGRAM_IGNORES_SIGTERM, |subject| {
        let program = "trap : TERM; echo start >> starts; while :; do sleep 0.1; done";
        match Case::new(subject, program).start().reacts_to_sigterm().as_str() {
            "works" => "kills it".into(),
            IGNORES_SIGTERM => "waits for ever".into(),
            outcome => outcome.into(),
        }
    }),
    (PROGRAM_IS_STOPPED, stopped_program),
    (PROGRAM_LEAVES_A_CHILD, |subject| {
        let running = Case::new(subject, "sleep 1001 & echo start >> starts; sleep 0.2; exit 1").start();
        if !running.restarts {
            return "exits".into();
        }
        if within(SOON, || (running.starts() >= 2).then_some(())).is_none() {
            return "does not restart it".into();
        }
        let left = running
            .rsup
            .tree()
            .iter()
            .filter(|process| proc::words(process.pid) == ["sleep", "1001"])
            .count();
        if left > 1 { "restarts next to the child" } else { "ends the child, then restarts" }.into()
    }),
    (ORPHANS_DIE, orphans),
];

fn full_log(subject: (&'static str, &[&str])) -> String {
    let fill = "dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec >pipe 2>pipe";
    let case =
        Case::new(subject, "exec >/dev/null 2>/dev/null; echo start >> starts; exec sleep 1000").after(fill);
    let pipe = case.setup.path("pipe");
    make_fifo(&pipe);
    let _reader_that_does_not_read = File::options().read(true).write(true).open(&pipe).unwrap();
    case.start().reacts_to_sigterm()
}

fn fork_fails(subject: (&'static str, &[&str])) -> String {
    let cgroup = match Cgroup::new(subject.0) {
        Ok(cgroup) => cgroup,
        Err(why) => return why,
    };
    cgroup.allow("1");
    let mut running = Case::new(subject, STAYS).after(&cgroup.enter()).start();
    thread::sleep(Duration::from_secs(2));
    cgroup.allow("max");
    let runs = within(SOON, || (running.starts() > 0).then_some(()));
    match (runs, running.rsup.ended()) {
        (Some(()), _) => "starts it afterwards".into(),
        (None, Some(code)) => format!("exits with {}", code.unwrap_or(-1)),
        (None, None) => "hangs, starts nothing".into(),
    }
}

fn stopped_program(subject: (&'static str, &[&str])) -> String {
    let clean = "trap \"echo clean > clean; exit\" TERM; echo start >> starts; while :; do sleep 0.1; done";
    let mut running = Case::new(subject, clean).start();
    eventually("the program runs", || (running.starts() > 0).then_some(()));
    let shell = proc::children(running.rsup.pid())[0].pid;
    kill(shell, SIGSTOP);
    eventually("the program is stopped", || (proc::process(shell)?.state == 'T').then_some(()));
    running.rsup.signal(SIGTERM);
    match (running.exit_code(), running.rsup.path("clean").exists()) {
        (None, _) => "waits for ever",
        (Some(_), true) => "continues it, so that it exits",
        (Some(_), false) => "kills it",
    }
    .into()
}

fn orphans(subject: (&'static str, &[&str])) -> String {
    const ORPHANS: usize = 500;
    let program = "i=0; while [ $i -lt 500 ]; do (sleep 1000 &); i=$((i+1)); done; echo start >> starts; exec sleep 1002";
    let running = Case::new(subject, program).start();
    let pid = running.rsup.pid();
    let children = eventually("500 orphans", || {
        let is_orphan = |child: &i32| proc::words(*child) == ["sleep", "1000"];
        let children: Vec<_> = proc::children_listed(pid).into_iter().filter(is_orphan).collect();
        (children.len() == ORPHANS).then_some(children)
    });
    children.iter().for_each(|child| kill(*child, SIGKILL));
    // This pause is part of the scenario: the subject has 0.2 s to reap the orphans.
    thread::sleep(Duration::from_millis(200));
    proc::children(pid).iter().filter(|child| child.is_zombie()).count().to_string()
}

/// What rsup must do.
fn wanted(scenario: &str) -> &'static str {
    match scenario {
        FORK_FAILS => "starts it afterwards",
        SIGTERM_AT_START => "stops",
        PROGRAM_IGNORES_SIGTERM => "kills it",
        PROGRAM_IS_STOPPED => "continues it, so that it exits",
        PROGRAM_LEAVES_A_CHILD => "ends the child, then restarts",
        ORPHANS_DIE => "0",
        _ => "works",
    }
}

#[test]
fn rsup_does_what_is_wanted_in_each_fault() {
    needs!(root(), pid_namespace());
    let subjects: Vec<_> =
        SUBJECTS.into_iter().filter(|(name, _)| *name == "rsup" || installed(name).is_ok()).collect();
    for (name, _) in SUBJECTS.iter().filter(|subject| !subjects.contains(subject)) {
        skip(&format!("the column of {name}: it is not installed"));
    }
    let cases: Vec<_> = SCENARIOS
        .iter()
        .flat_map(|scenario| subjects.iter().map(move |subject| (scenario, *subject)))
        .collect();
    let table: Mutex<BTreeMap<(&str, &str), String>> = Mutex::default();
    each(&cases, |((title, scenario), subject)| {
        let outcome = scenario(*subject);
        let wrong = subject.0 == "rsup" && wanted(title) != outcome;
        let why = format!("{title}: rsup {outcome}, but must: {}", wanted(title));
        table.lock().unwrap().insert((*title, subject.0), outcome);
        if wrong { Err(why) } else { Ok(()) }
    });
    let table = table.into_inner().unwrap();
    let names: Vec<_> = subjects.iter().map(|(name, _)| *name).collect();
    println!("| | {} |\n|{}", names.join(" | "), "---|".repeat(names.len() + 1));
    for (title, _) in SCENARIOS {
        let row: Vec<_> = names.iter().map(|name| table[&(title, *name)].as_str()).collect();
        println!("| {title} | {} |", row.join(" | "));
    }
}
