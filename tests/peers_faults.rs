//! The same faults for rsup and its peers, as far as they are installed: what each does, as a table for README.
//! `make peers` prints it. Only of rsup is it asked that it does the right thing.

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::cgroup::Cgroup;
use crate::support::{
    Rsup, SIGKILL, SIGSTOP, SIGTERM, Setup, binary, each, eventually, installed, kill, needs, pid_namespace,
    proc, root, rsup, skip, within,
};

/// How long a peer may take for what it does at once if it does it at all.
const SOON: Duration = Duration::from_secs(8);

/// The peers, as Debian packages them, and with what options they tell of what they do.
const SUBJECTS: [(&str, &[&str]); 5] = [
    ("rsup", &[]),
    ("tini", &["-vvv", "--"]),
    ("dumb-init", &["-v", "--"]),
    ("catatonit", &["--"]),
    ("supervisord", &["-n", "-c", "supervisord.conf"]),
];

const DEAF: &str = "deaf to SIGTERM";

/// One of them with a program.
struct Case {
    /// It restarts its program; the others leave with it.
    restarts: bool,
    setup: Setup,
}

impl Case {
    /// As PID 1, which runs this script.
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
    /// How often the program has been started, as it says itself.
    fn starts(&self) -> usize {
        self.rsup.read("starts").lines().count()
    }

    fn left(&mut self) -> Option<i32> {
        within(SOON, || self.rsup.ended()).map(|code| code.unwrap_or(-1))
    }

    /// What comes of a program that says that it starts, and ends with 7.
    fn follows_its_end(mut self) -> String {
        let done = within(SOON, || {
            let seen = if self.restarts { self.starts() >= 2 } else { self.rsup.ended() == Some(Some(7)) };
            (seen || self.rsup.has_left()).then_some(seen)
        });
        match done {
            Some(true) => "works".into(),
            Some(false) => format!("exits with {}", self.left().unwrap()),
            None if self.starts() == 0 => "hangs, starts nothing".into(),
            None => "hangs".into(),
        }
    }

    /// What comes of SIGTERM once the program has started.
    fn stops(mut self) -> String {
        let up = within(SOON, || (self.starts() > 0 || self.rsup.has_left()).then_some(()));
        if let Some(code) = self.rsup.ended() {
            return format!("exits with {}", code.unwrap_or(-1));
        }
        if up.is_none() {
            return "hangs, starts nothing".into();
        }
        self.rsup.signal(SIGTERM);
        match self.left() {
            Some(_) => "works".into(),
            None => DEAF.into(),
        }
    }
}

type Scenario = (&'static str, fn((&'static str, &[&str])) -> String);

const ENDS: &str = "echo start >> starts; exit 7";
const STAYS: &str = "echo start >> starts; exec sleep 1000";

const SCENARIOS: [Scenario; 11] = [
    ("started with SIGCHLD ignored", |subject| {
        Case::new(subject, ENDS).through(&["env", "--ignore-signal=CHLD"]).start().follows_its_end()
    }),
    ("started with every signal blocked", |subject| {
        Case::new(subject, STAYS).through(&["env", "--block-signal"]).start().stops()
    }),
    ("started with 0 to 2 closed", |subject| {
        Case::new(subject, ENDS).after("exec <&- >&- 2>&-").start().follows_its_end()
    }),
    ("at most 16 descriptors", |subject| {
        Case::new(subject, ENDS).after("ulimit -n 16").start().follows_its_end()
    }),
    ("its log is a full pipe", full_log),
    ("no process to spare for 2 s", fork_fails),
    ("SIGTERM 50 ms after its start", |subject| {
        let mut running = Case::new(subject, STAYS).start();
        running.rsup.pid();
        thread::sleep(Duration::from_millis(50));
        running.rsup.signal(SIGTERM);
        running.left().map_or("is lost", |_| "stops").into()
    }),
    ("the program ignores SIGTERM", |subject| {
        let deaf = "trap : TERM; echo start >> starts; while :; do sleep 0.1; done";
        let outcome = Case::new(subject, deaf).start().stops();
        if outcome == DEAF { "waits for ever".into() } else { outcome }
    }),
    ("SIGTERM while the program is stopped", stopped_program),
    ("the program crashes and leaves a child", |subject| {
        let running = Case::new(subject, "sleep 1001 & echo start >> starts; sleep 0.2; exit 1").start();
        if !running.restarts {
            return "leaves with it".into();
        }
        if within(SOON, || (running.starts() >= 2).then_some(())).is_none() {
            return "does not start it again".into();
        }
        let left = running
            .rsup
            .tree()
            .iter()
            .filter(|process| proc::words(process.pid) == ["sleep", "1001"])
            .count();
        if left > 1 { "starts it again beside the child" } else { "ends the child first" }.into()
    }),
    ("500 orphans die at once: zombies 0.2 s later", orphans),
];

fn full_log(subject: (&'static str, &[&str])) -> String {
    let fill = "dd if=/dev/zero of=pipe oflag=nonblock bs=4096 2>/dev/null; exec >pipe 2>pipe";
    let case =
        Case::new(subject, "exec >/dev/null 2>/dev/null; echo start >> starts; exec sleep 1000").after(fill);
    let pipe = case.setup.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let _reader_that_does_not_read = File::options().read(true).write(true).open(&pipe).unwrap();
    case.start().stops()
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
        (Some(()), _) => "starts it then".into(),
        (None, Some(code)) => format!("exits with {}", code.unwrap_or(-1)),
        (None, None) => "never starts it".into(),
    }
}

fn stopped_program(subject: (&'static str, &[&str])) -> String {
    let clean = "trap \"echo clean > clean; exit\" TERM; echo start >> starts; while :; do sleep 0.1; done";
    let mut running = Case::new(subject, clean).start();
    eventually("the program runs", || (running.starts() > 0).then_some(()));
    let shell = proc::children(running.rsup.pid())[0].pid;
    kill(shell, SIGSTOP);
    eventually("it is stopped", || (proc::process(shell)?.state == 'T').then_some(()));
    running.rsup.signal(SIGTERM);
    match (running.left(), running.rsup.path("clean").exists()) {
        (None, _) => "waits for ever",
        (Some(_), true) => "it stops cleanly",
        (Some(_), false) => "it is killed",
    }
    .into()
}

fn orphans(subject: (&'static str, &[&str])) -> String {
    const ORPHANS: usize = 500;
    let mother = "i=0; while [ $i -lt 500 ]; do (sleep 1000 &); i=$((i+1)); done; echo start >> starts; exec sleep 1002";
    let running = Case::new(subject, mother).start();
    let pid = running.rsup.pid();
    let children = eventually("500 orphans", || {
        let is_one = |child: &i32| proc::words(*child) == ["sleep", "1000"];
        let children: Vec<_> = proc::children_listed(pid).into_iter().filter(is_one).collect();
        (children.len() == ORPHANS).then_some(children)
    });
    children.iter().for_each(|child| kill(*child, SIGKILL));
    thread::sleep(Duration::from_millis(200)); // The time that it has.
    proc::children(pid).iter().filter(|child| child.is_zombie()).count().to_string()
}

/// What rsup does.
fn wanted(scenario: &str) -> &'static str {
    match scenario {
        "no process to spare for 2 s" => "starts it then",
        "SIGTERM 50 ms after its start" => "stops",
        "SIGTERM while the program is stopped" => "it stops cleanly",
        "the program crashes and leaves a child" => "ends the child first",
        "500 orphans die at once: zombies 0.2 s later" => "0",
        _ => "works",
    }
}

#[test]
fn when_things_go_wrong() {
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
        let why = format!("rsup, {title}: {outcome}");
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
