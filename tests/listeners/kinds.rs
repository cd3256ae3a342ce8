//! The kinds of listeners that people run, none of which was written for rsup. The tests run each kind in the foreground,
//! as PID 1 of a PID namespace, and in Docker.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::{eventually, program, python, script};

/// The packages of the listeners that are written in Python, and a mail server for them.
const PACKAGES: &str = "superlance==2.0.0 supervisor==4.3.0 aiosmtpd==1.4.6";
const MODULE: &str = "superlance.crashmail";

/// The directory that contains these packages.
///
/// # Errors
/// Returns the reason if they cannot be installed.
pub(crate) fn packages() -> Result<PathBuf, String> {
    python::with(PACKAGES, MODULE)?;
    python::directory_of(PACKAGES, "aiosmtpd")
}

/// One kind of listener.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    conf: String,
    /// The files beside the configuration, each with its text.
    files: &'static [(&'static str, &'static str)],
    effect: Effect,
}

/// What a listener does when a program has died.
enum Effect {
    /// It ends rsup with this signal.
    Ends(&'static str),
    /// It writes a file with these texts, and rsup continues.
    Writes(&'static str, &'static [&'static str]),
    /// It gets no event.
    Nothing,
}

/// rsup with a kind of listener: in this PID namespace, in another one, or in a container.
pub(crate) trait Server {
    /// Waits until the log contains a text.
    fn expect(&mut self, text: &str);
    /// The log so far.
    fn text_of_log(&self) -> String;
    /// The text of a file in the directory of the configuration. Empty if there is no such file.
    fn read(&self, file: &str) -> String;
    /// Waits until rsup has exited. Returns the exit code.
    fn exit_code(&mut self) -> i32;
    /// Sends SIGTERM, and waits until rsup has exited. Returns the exit code.
    fn stop(&mut self) -> i32;
}

/// Ends its parent, and answers. Source: the documentation of the package.
const CHILDUTILS: &str = r#"
import os, signal, sys
from supervisor import childutils

while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    process, _ = childutils.eventdata(payload + "\n")
    sys.stderr.write("%s of %s\n" % (headers["eventname"], process["processname"]))
    os.kill(os.getppid(), signal.SIGQUIT)
    childutils.listener.ok(sys.stdout)
"#;

/// Writes the text of each event to the file `got`.
const RECORDER: &str = r#"
import sys
from supervisor import childutils

while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    with open("got", "a", encoding="utf-8") as got:
        got.write(headers["eventname"] + " " + payload + "\n")
    childutils.listener.ok(sys.stdout)
"#;

/// Exits with an error when the mail server is ready.
const FAILS: &str = r#"
import socket, sys, time

while True:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        sys.exit(3)
    except OSError:
        time.sleep(0.05)
"#;

/// A program that keeps running.
const APP: &str = "[program:app]\ncommand=sleep 1000\n";
/// A program that exits with an error.
const JOB: &str = "[program:job]\ncommand=sh -c \"exit 3\"\nautorestart=false\nstartsecs=0\n";
/// With this section, supervisord's listeners get the variable SUPERVISOR_SERVER_URL.
const SERVER: &str = "[unix_http_server]\nfile=%(here)s/supervisor.sock\n";

/// A listener with this command.
fn listener(command: &str, events: &str) -> String {
    format!("[eventlistener:l]\ncommand={command}\nevents={events}\n")
}

/// A listener that writes READY once, acts on each line that it reads, and never answers.
pub(super) fn ready_once(action: &str, events: &str) -> String {
    listener(&format!("sh -c \"printf 'READY\\n'; while read -r line; do {action}; done\""), events)
}

/// A port that no server listens on now.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Kind {
    fn new(name: &'static str, listener: String, effect: Effect) -> Self {
        Self { name, conf: listener + APP + JOB, files: &[], effect }
    }

    /// A listener that ends rsup with SIGTERM.
    fn ends(name: &'static str, action: &str) -> Self {
        let events = "PROCESS_STATE_STOPPED,PROCESS_STATE_EXITED,PROCESS_STATE_FATAL";
        Self::new(name, ready_once(action, events), Effect::Ends("SIGTERM"))
    }

    /// Whether the listener names rsup by something that only a PID namespace makes unique.
    pub(crate) fn needs_pid_1(&self) -> bool {
        ["the number 1", "the name"].contains(&self.name)
    }

    pub(crate) fn needs_packages(&self) -> bool {
        self.conf.contains("python3")
    }

    /// Writes the configuration and its files.
    pub(crate) fn write(&self, directory: &Path) {
        let conf = [("supervisord.conf", &*self.conf)];
        for (name, text) in conf.iter().chain(self.files) {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    /// Waits until the listener has had its effect, and ends rsup if the listener has not.
    pub(crate) fn check(&self, server: &mut dyn Server) {
        match self.effect {
            Effect::Ends(signal) => {
                assert_eq!(server.exit_code(), 0, "{}", self.name);
                let log = server.text_of_log();
                for line in [
                    &format!("received {signal} indicating exit request"),
                    "stopped: app (terminated by SIGTERM)",
                ] {
                    assert!(log.contains(line), "{}: {log}", self.name);
                }
            }
            Effect::Writes(file, texts) => {
                let what = format!("{}: {file} contains {texts:?}", self.name);
                let has_all = || {
                    let written = server.read(file);
                    texts.iter().all(|text| written.contains(text)).then_some(())
                };
                eventually(&what, has_all);
                assert_eq!(server.stop(), 0, "{}", self.name);
            }
            Effect::Nothing => {
                server.expect("success: l entered RUNNING state");
                assert_eq!(server.stop(), 0, "{}", self.name);
                assert_eq!(server.read("got"), "", "{}", self.name);
            }
        }
    }
}

/// All kinds.
pub(crate) fn all() -> Vec<Kind> {
    let events = "PROCESS_STATE";
    let port = free_port();
    let crashmail = "python3 -m superlance.crashmail -a -m ops@example.com -s 'cat >mail'";
    let fatalmail = format!(
        "python3 -m superlance.fatalmailbatch -i 0.01 -e TICK_5 -t ops@example.com -f rsup@example.com \
         -s dead -H 127.0.0.1:{port}"
    );
    let mail_server =
        format!("python3 -u -m aiosmtpd -n -l 127.0.0.1:{port} -c aiosmtpd.handlers.Debugging stdout");
    let fatal = program("job", &format!("python3 fails.py {port}")) + "startsecs=1000\nstartretries=0\n";
    let fatal_conf = listener(&fatalmail, "PROCESS_STATE,TICK_5")
        + SERVER
        + APP
        + &program("smtp", &mail_server)
        + "stdout_logfile=%(here)s/mail\nstdout_logfile_maxbytes=0\n"
        + &fatal;
    vec![
        Kind::ends("the parent", "kill -TERM $PPID"),
        Kind {
            conf: "[supervisord]\npidfile=%(here)s/rsup.pid\n".to_owned()
                + &ready_once("kill -3 $(cat rsup.pid)", events)
                + APP
                + JOB,
            ..Kind::new("the pid file", String::new(), Effect::Ends("SIGQUIT"))
        },
        Kind::ends("the number 1", "kill -TERM 1"),
        Kind::ends("the name", "killall -TERM supervisord || busybox killall -TERM supervisord"),
        Kind::new(
            "READY once and no RESULT",
            ready_once("echo $line >>got", "PROCESS_STATE_EXITED"),
            Effect::Writes("got", &["pool:l poolserial:0 eventname:PROCESS_STATE_EXITED len:"]),
        ),
        Kind::new(
            "no READY",
            listener("sh -c \"while read -r line; do echo $line >>got; done\"", events),
            Effect::Nothing,
        ),
        Kind {
            files: &[("ender.py", CHILDUTILS)],
            ..Kind::new(
                "childutils",
                listener("python3 ender.py", "PROCESS_STATE_EXITED"),
                Effect::Ends("SIGQUIT"),
            )
        },
        Kind {
            files: &[("recorder.py", RECORDER)],
            ..Kind::new(
                "childutils and text that is not ASCII",
                listener("python3 recorder.py", "PROCESS_LOG,PROCESS_STATE_EXITED")
                    + &script("talker", "echo Köln; echo Malmö; exec sleep 1000")
                    + "stdout_events_enabled=true\nstdout_logfile=NONE\n",
                Effect::Writes("got", &["Köln\n", "Malmö\n", "PROCESS_STATE_EXITED processname:job "]),
            )
        },
        Kind::new(
            "crashmail",
            listener(crashmail, "PROCESS_STATE_EXITED") + SERVER,
            Effect::Writes(
                "mail",
                &[
                    "To: ops@example.com\nSubject:  job crashed at ",
                    "\n\nProcess job in group job exited unexpectedly (pid ",
                    ") from state RUNNING",
                ],
            ),
        ),
        Kind {
            name: "fatalmailbatch",
            conf: fatal_conf,
            files: &[("fails.py", FAILS)],
            effect: Effect::Writes(
                "mail",
                &[
                    "Subject: dead\n",
                    "From: rsup@example.com\nTo: ops@example.com\n",
                    "-- Process job:job failed to start too many times\n",
                ],
            ),
        },
    ]
}
