//! The same configuration files and the same listeners under supervisord and under rsup. Each listener must receive the
//! same bytes, and the log must contain the same lines about the listeners.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Side;
use super::log::{Lines, REJECTIONS, log_of, pids, pool_of, subject};
use super::scenarios::{self, Act, Scenario};
use crate::support::{
    PATIENCE, Rsup, SIGTERM, binary, each, make_fifo, needs, python as packages, root, rsup, skip, within,
};

const LISTENER: &str = include_str!("listener.py");
const PUPPET: &str = include_str!("puppet.sh");
const SERVER: &str = "[supervisord]\nnodaemon=true\nloglevel=debug\nlogfile=/dev/null\nlogfile_maxbytes=0\n\
    pidfile=%(here)s/supervisord.pid\nchildlogdir=%(here)s\n\
    [unix_http_server]\nfile=%(here)s/s.sock\n\
    [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n";

/// How often a scenario is repeated when the clock has sent a TICK event in between.
const ATTEMPTS: usize = 4;

/// What one side has made of a scenario.
struct Seen {
    /// The events that each start of each listener received.
    events: BTreeMap<String, Vec<Event>>,
    /// The lines about each listener, each pool, and the captured output of each program.
    lines: BTreeMap<String, Vec<String>>,
    /// The files whose names end in `.out`.
    files: BTreeMap<String, String>,
}

/// An event as a listener has received it, without PIDs.
#[derive(Clone, PartialEq, Eq)]
struct Event {
    header: String,
    payload: String,
}

impl Event {
    fn text(&self) -> String {
        format!("{} | {}", self.header, self.payload.escape_debug())
    }

    /// The value of a key of the header.
    fn value(&self, key: &str) -> Option<&str> {
        self.header.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix(':'))
    }

    fn name(&self) -> &str {
        self.value("eventname").unwrap_or("")
    }

    /// Whether this event can be the last of a listener that ends at the same time.
    fn belongs_to_the_stop(&self) -> bool {
        let names = ["PROCESS_STATE_STOPPING", "PROCESS_STATE_STOPPED", "SUPERVISOR_STATE_CHANGE_STOPPING"];
        names.contains(&self.name())
    }
}

/// One side while it runs a scenario.
struct Stage<'a> {
    side: Side<'a>,
    server: Rsup,
    fifos: BTreeMap<&'a str, File>,
    clients: Vec<Child>,
}

impl<'a> Stage<'a> {
    fn new(side: Side<'a>, scenario: &Scenario) -> Self {
        let setup = rsup(&format!("{SERVER}{}", scenario.conf)).file("listener.py", LISTENER, 0o644).file(
            "puppet.sh",
            PUPPET,
            0o644,
        );
        let names: BTreeSet<_> = scenario.acts.iter().filter_map(Act::puppet).collect();
        let fifos = names.into_iter().map(|name| {
            let path = setup.path(&format!("{name}.fifo"));
            make_fifo(&path);
            (name, File::options().read(true).write(true).open(path).unwrap())
        });
        let fifos = fifos.collect();
        // rsup exits when no program runs and none will. A child of its own keeps it up.
        let setup = if side.is_rsup() { setup.after("sleep 1000 >/dev/null 2>&1 &") } else { setup };
        let server = side.start(setup);
        Self { side, server, fifos, clients: vec![] }
    }

    /// Waits for a fact. supervisord's loop turns once per second or when something happens: a connection is such a
    /// thing, and has no other effect.
    fn until<T>(&mut self, what: &str, mut fact: impl FnMut(&mut Rsup) -> Option<T>) -> Result<T, String> {
        const TURN: Duration = Duration::from_millis(50);
        for _ in 0..PATIENCE.as_millis() / TURN.as_millis() {
            if let Some(value) = within(TURN, || fact(&mut self.server)) {
                return Ok(value);
            }
            if self.server.has_left() {
                return fact(&mut self.server).ok_or_else(|| format!("{what}: the server has exited"));
            }
            if !self.side.is_rsup() {
                let _connection = UnixStream::connect(self.server.path("s.sock"));
            }
        }
        Err(format!("{what}: not within {PATIENCE:?}"))
    }

    fn until_log_has(&mut self, text: &str, count: usize) -> Result<(), String> {
        let what = format!("the log has {count} lines with {text:?}");
        self.until(&what, |server| (server.lines(text).len() >= count).then_some(()))
    }

    fn until_up(&mut self, name: &str) -> Result<(), String> {
        let ready = format!("{name}.ready");
        self.until(&ready, |server| fs::remove_file(server.path(&ready)).ok())
    }

    /// Requests the start or the stop of a process.
    fn request(&mut self, word: &str, name: &str) -> Result<(), String> {
        // The listener starts when the server can be controlled.
        self.until_log_has("spawned: '", 1)?;
        if self.side.is_rsup() {
            let mut client = Command::new(binary());
            client.args(["--ctl", word, name]).env("RSUP_PID", self.server.pid().to_string());
            self.clients.push(client.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
            return Ok(());
        }
        let body = format!(
            "<methodCall><methodName>supervisor.{word}Process</methodName><params><param><value><string>{name}\
             </string></value></param><param><value><boolean>0</boolean></value></param></params></methodCall>"
        );
        let request = format!(
            "POST /RPC2 HTTP/1.0\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let socket = self.server.path("s.sock");
        let mut stream = self.until("a socket", |_| UnixStream::connect(&socket).ok())?;
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        // A program that has ended at once makes the answer a fault.
        answer.contains("<methodResponse>").then_some(()).ok_or(answer)
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        match *act {
            Act::Got(name, count) => self.until(&format!("{name} has received {count} events"), |server| {
                (count_events(&server.path(""), name) >= count).then_some(())
            }),
            Act::Log(text) => self.until_log_has(text, 1),
            Act::Logs(text, count) => self.until_log_has(text, count),
            Act::Has(name, text) => self.until(&format!("{name}.out ends with {text:?}"), |server| {
                let bytes = fs::read(server.path(&format!("{name}.out"))).unwrap_or_default();
                bytes.ends_with(text.as_bytes()).then_some(())
            }),
            Act::Tell(name, line) => {
                self.fifos.get_mut(name).unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
                Ok(())
            }
            Act::Start(name) => {
                self.request("start", name)?;
                match act.puppet() {
                    Some(puppet) => self.until_up(puppet),
                    None => Ok(()),
                }
            }
            Act::Launch(name) => self.request("start", name),
            Act::Up(name) => self.until_up(name),
            Act::Stop(name) => self.request("stop", name),
            Act::Kill(name, signal) => {
                self.server.kill(name, signal);
                Ok(())
            }
            Act::Term => {
                self.server.signal(SIGTERM);
                Ok(())
            }
        }
    }

    fn until_quiet(&mut self, scenario: &Scenario) -> Result<(), String> {
        self.until("the log has all lines about the listeners", |server| {
            is_quiet(scenario, &log_of(server), &server.path("")).then_some(())
        })
    }

    /// Performs all acts. Returns what has happened up to the end of the server if the scenario contains the signal for
    /// this end, and otherwise what has happened before it.
    fn perform(&mut self, scenario: &Scenario) -> Result<Seen, String> {
        for (at, act) in scenario.acts.iter().enumerate() {
            self.act(act).map_err(|why| format!("act {at}: {why}"))?;
        }
        let before = match scenario.contains_the_end() {
            true => None,
            false => {
                if scenario.has_witness() {
                    let exits = self.server.lines("exited: p (").len();
                    self.act(&Act::Got("z", exits))?;
                }
                self.until_quiet(scenario)?;
                let seen = self.seen(scenario)?;
                self.server.signal(SIGTERM);
                Some(seen)
            }
        };
        self.until("the server has exited", |server| server.has_left().then_some(()))?;
        for mut client in self.clients.drain(..) {
            let _status = client.wait();
        }
        match (self.server.exit_code(), before) {
            (0, Some(seen)) => Ok(seen),
            (0, None) => self.seen(scenario),
            (code, _) => Err(format!("exit code {code}")),
        }
    }

    /// What has happened so far.
    fn seen(&self, scenario: &Scenario) -> Result<Seen, String> {
        let log = log_of(&self.server);
        let names = pids(&log);
        let mut seen = Seen {
            events: BTreeMap::new(),
            lines: Lines::of(&log, &scenario.pools()).of,
            files: BTreeMap::new(),
        };
        for (name, bytes) in files_that_end_in(&self.server.path(""), ".got") {
            let events = Events { names: &names };
            let text = bytes.escape_ascii().to_string();
            seen.events
                .insert(name.clone(), events.of(&bytes).map_err(|why| format!("{name}: {why} in {text}"))?);
        }
        for (name, bytes) in files_that_end_in(&self.server.path(""), ".out") {
            seen.files.insert(name, bytes.escape_ascii().to_string());
        }
        Ok(seen)
    }
}

/// The files of a directory whose names have an ending, with their bytes.
fn files_that_end_in(dir: &Path, end: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(end)?.to_owned();
        Some((name, fs::read(path).ok()?))
    });
    named.collect()
}

/// How many events all starts of a listener have received.
fn count_events(dir: &Path, name: &str) -> usize {
    let records = files_that_end_in(dir, ".got");
    let own = records.iter().filter(|(record, _)| record.rsplit_once('.').is_some_and(|(of, _)| of == name));
    own.map(|(_, bytes)| bytes.windows(11).filter(|at| at == b" eventname:").count()).sum()
}

/// Whether every start of each listener has its record and each line that has to follow another one has followed.
fn is_quiet(scenario: &Scenario, log: &[(String, String)], dir: &Path) -> bool {
    let pools = scenario.pools();
    let lines = Lines::of(log, &pools);
    let records = files_that_end_in(dir, ".got");
    let spawned = |text: &str| Some(text.strip_prefix("spawned: '")?.split_once('\'')?.0.to_owned());
    let names: Vec<_> = log.iter().filter_map(|(_, text)| spawned(text)).collect();
    let listeners: BTreeSet<_> =
        names.iter().filter(|name| pool_of(name, &scenario.recording_pools()).is_some()).collect();
    listeners.len() >= scenario.recording_pools().len()
        && lines.is_complete
        && listeners.into_iter().all(|name| {
            let starts = names.iter().filter(|other| *other == name).count();
            let is_record = |record: &&String| record.rsplit_once('.').is_some_and(|(of, _)| of == name);
            let of_listener = lines.of.get(name).map_or(&[][..], Vec::as_slice);
            let sent = of_listener.iter().filter(|line| line.contains(" sent to listener ")).count();
            let last = log.iter().rev().find(|(_, text)| {
                subject(text).as_ref() == Some(name) || spawned(text).as_ref() == Some(name)
            });
            let (_, last) = last.unwrap();
            let is_incomplete = last.ends_with(" -> UNKNOWN")
                || last.ends_with(": event was processed")
                || REJECTIONS.iter().any(|rejection| last.contains(rejection));
            let answers = dir.join(format!("{name}.auto")).exists();
            records.keys().filter(is_record).count() == starts
                && sent == count_events(dir, name)
                && !is_incomplete
                && (!answers || last.ends_with(" -> READY"))
        })
}

/// How the bytes of a listener are read.
struct Events<'a> {
    names: &'a BTreeMap<String, String>,
}

impl Events<'_> {
    fn of(&self, mut bytes: &[u8]) -> Result<Vec<Event>, String> {
        let mut events = vec![];
        while !bytes.is_empty() {
            let text = str::from_utf8(bytes).map_err(|error| error.to_string())?;
            let (header, rest) = text.split_once('\n').ok_or("a header without an end")?;
            let (keys, length) = header.rsplit_once(" len:").ok_or("a header without a length")?;
            let length: usize = length.parse().map_err(|_| "a length that is not a number")?;
            // supervisord counts characters.
            let in_bytes = rest.chars().take(length).map(char::len_utf8).sum();
            let payload = &rest[..in_bytes];
            if payload.chars().count() < length {
                return Err("a payload that is too short".into());
            }
            let payload = self.without_pid(payload)?;
            // The length of a PID differs.
            let length = payload.chars().count();
            events.push(Event { header: format!("{keys} len:{length}"), payload });
            bytes = &rest.as_bytes()[in_bytes..];
        }
        Ok(events)
    }

    /// A payload with the name of a process in the place of its PID, and without the time of a TICK.
    fn without_pid(&self, payload: &str) -> Result<String, String> {
        if let Some(when) = payload.strip_prefix("when:") {
            let when: u64 = when.parse().map_err(|_| "a TICK without a time")?;
            return (when.is_multiple_of(5) && when > 0)
                .then(|| "when:SLICE".to_owned())
                .ok_or("a TICK inside a slice".into());
        }
        let (first, data) =
            payload.split_once('\n').map_or((payload, None), |(first, data)| (first, Some(data)));
        let words = first.split(' ').map(|word| match word.strip_prefix("pid:") {
            Some(pid) => format!("pid:{}", self.names.get(pid).map_or(pid, String::as_str)),
            None => word.to_owned(),
        });
        let first = words.collect::<Vec<_>>().join(" ");
        Ok(data.map_or(first.clone(), |data| format!("{first}\n{data}")))
    }
}

/// Runs a scenario under one side.
fn run(side: Side, scenario: &Scenario) -> Result<Seen, String> {
    let mut attempt = 1;
    loop {
        let mut stage = Stage::new(side, scenario);
        let performed = stage.perform(scenario);
        let text = match &performed {
            Ok(seen) => seen.text(),
            Err(_) => stage.seen(scenario).map_or_else(|why| why, |seen| seen.text()),
        };
        if text.contains("eventname:TICK_") && !scenario.conf.contains("TICK") && attempt < ATTEMPTS {
            attempt += 1;
            continue;
        }
        return performed.map_err(|why| {
            let log: Vec<_> = stage.server.log().into_iter().map(|line| line.0).collect();
            format!("{why}\n{text}\n--- the log\n{}\n---", log.join("\n"))
        });
    }
}

impl Seen {
    fn text(&self) -> String {
        let mut lines = vec![];
        for (name, events) in &self.events {
            lines.push(format!("    [{name}]"));
            lines.extend(events.iter().map(|event| format!("        {}", event.text())));
        }
        for (name, of_subject) in &self.lines {
            lines.push(format!("    [log: {name}]"));
            lines.extend(of_subject.iter().map(|line| format!("        {line}")));
        }
        lines.extend(self.files.iter().map(|(name, bytes)| format!("    [file: {name}] {bytes}")));
        lines.join("\n")
    }

    /// Whether `other` has seen the same. A listener is stopped as soon as the last program has ended. Under supervisord
    /// it receives no event of this turn. rsup may have written the event before the listener ends.
    fn is_same(&self, other: &Self, may_have_more: bool) -> bool {
        let later = |event: &Event| may_have_more && event.belongs_to_the_stop();
        let mut has_more = false;
        let names = self.events.keys().eq(other.events.keys());
        let events = self.events.iter().all(|(name, events)| {
            let others = other.events.get(name).map_or(&[][..], Vec::as_slice);
            has_more |= others.len() > events.len();
            others.starts_with(events) && others[events.len()..].iter().all(later)
        });
        let lines = match has_more {
            false => self.lines == other.lines,
            true => self
                .lines
                .iter()
                .all(|(name, lines)| other.lines.get(name).is_some_and(|others| others.starts_with(lines))),
        };
        names && events && lines && self.files == other.files
    }
}

/// Runs a scenario under two sides at the same time and compares what they have made of it.
fn compare(sides: [Side; 2], scenario: &Scenario) -> Result<(), String> {
    let [first, second] = thread::scope(|scope| {
        let runs = sides.map(|side| scope.spawn(move || run(side, scenario)));
        runs.map(|run| run.join().unwrap_or_else(|_| Err(format!("{}: it panicked", scenario.name))))
    });
    let may_have_more = sides[1].is_rsup() && scenario.contains_the_end();
    if let (Some(_), Ok(seen)) = (std::env::var_os("RSUP_SCENARIO"), &first) {
        eprintln!("{}\n{}", scenario.name, seen.text());
    }
    match (first, second) {
        (Ok(first), Ok(second)) if first.is_same(&second, may_have_more) => Ok(()),
        (first, second) => {
            let text = |seen: Result<Seen, String>| seen.map_or_else(|why| why, |seen| seen.text());
            let first = text(first);
            let second = text(second);
            Err(format!("{}:\n  {:?}\n{first}\n  {:?}\n{second}", scenario.name, sides[0], sides[1]))
        }
    }
}

/// All scenarios, or those with a text in their names that the variable `RSUP_SCENARIO` has.
fn chosen() -> Vec<&'static Scenario> {
    let wanted = std::env::var("RSUP_SCENARIO").unwrap_or_default();
    let all = scenarios::all();
    assert!(all.len() >= 40);
    all.into_iter().filter(|scenario| scenario.name.contains(&wanted)).collect()
}

#[test]
fn listeners_receive_the_same_events_under_supervisord_and_under_rsup() {
    needs!(root());
    let python = match packages::supervisor() {
        Ok(python) => python,
        Err(why) => return skip(&why),
    };
    each(&chosen(), |scenario| compare([Side::Supervisord(&python), Side::Rsup], scenario));
}

#[test]
#[ignore = "shows that the scenarios do not depend on the timing, and does not run rsup"]
fn supervisord_sends_the_same_events_twice() {
    needs!(root());
    let python = packages::supervisor().unwrap();
    let side = Side::Supervisord(&python);
    each(&chosen(), |scenario| compare([side, side], scenario));
}
