//! The cases of supervisord-dependent-startup 1.4.0: those of its README, of its example.md and of its tests. Each one runs
//! under supervisord with the plugin, or under rsup, which does not need the plugin. The benchmarks use this file too.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// The package, followed by the supervisor that it runs with.
pub(crate) const PLUGIN: &str = "supervisord-dependent-startup==1.4.0 supervisor==4.3.0";
pub(crate) const PLUGIN_MODULE: &str = "supervisord_dependent_startup.supervisord_dependent_startup";
/// The name of the plugin's process under supervisord.
const LISTENER: &str = "dependentstartup";
/// How long the next start may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CONF: &str = "supervisord.conf";
/// A variable that one of the cases expands, and its value.
const VARIABLE: (&str, &str) = ("DEPENDENT_STARTUP_WAIT_FOR", "service-parent:running");

/// The programs of a configuration, and in which order they start.
pub(crate) struct Case {
    /// The name of the case in the plugin's files.
    pub(crate) name: &'static str,
    programs: String,
    /// The processes in the order of their first starts.
    pub(crate) starts: &'static [&'static str],
    /// The milliseconds that the programs themselves need until the last start: `startsecs`, the time that a program runs,
    /// and the pause before the next try of a failed start.
    pub(crate) own_ms: u64,
}

/// What supervisord or rsup has started.
pub(crate) struct Starts {
    /// The processes in the order of their first starts. The plugin may start a program that ends soon more than once,
    /// because it sees the events late.
    pub(crate) names: Vec<String>,
    /// The time to the last start, from before there is a PID namespace.
    pub(crate) time: Duration,
    /// The lines of the log.
    pub(crate) log: Vec<String>,
}

/// A program that the plugin starts.
fn service(name: &str, command: &str, keys: &str) -> String {
    format!("[program:{name}]\ncommand={command}\nautostart=false\ndependent_startup=true\n{keys}\n")
}

/// A service of the plugin's tests.
fn sleep(name: &str, keys: &str) -> String {
    service(name, "/bin/sleep 100", keys)
}

/// A service of the plugin's tests that waits for others.
fn waiting(name: &str, wait_for: &str) -> String {
    sleep(name, &format!("dependent_startup_wait_for={wait_for}"))
}

/// The example, and its variants in the tests. `ping` is a command that stands for ping and needs no network. `sleep` has
/// `startsecs=1` instead of 5, to save time.
fn pings(ping: &str, state: &str) -> String {
    let keys = |wait_for: &str| format!("startsecs=0\ndependent_startup_wait_for={wait_for}");
    let sleep = format!("startsecs=1\nautorestart=true\ndependent_startup_wait_for=ping:{state}");
    service("ping", ping, "startsecs=0")
        + &service("sleep", "/bin/sleep 15", &sleep)
        + &service("ping2", ping, &keys("sleep:running"))
        + &service("ping3", ping, &keys(&format!("ping2:{state}")))
}

/// Two services in a group. The second one has a command of its own.
fn group(command: &str) -> String {
    sleep("consul", "")
        + &waiting("slurmd", "consul:running")
        + &service("slurmd2", command, "dependent_startup_wait_for=consul:running")
        + "[group:foo]\nprograms=slurmd,slurmd2\npriority=999\n"
}

/// Two processes of one service.
fn two_processes(command: &str) -> String {
    let keys = "numprocs=2\nprocess_name=%(program_name)s_%(process_num)02d\n";
    sleep("consul", "")
        + &service("slurmd", command, &format!("{keys}dependent_startup_wait_for=consul:running"))
}

/// The cases in which no service fails.
fn good_cases() -> Vec<Case> {
    let case = |name, own_ms, starts, programs| Case { name, programs, starts, own_ms };
    let pings_start = &["ping", "sleep", "ping2", "ping3"];
    let chain = sleep("consul", "")
        + &sleep("slurmd", "dependent_startup_wait_for=consul:running\npriority=10")
        + &waiting("slurmd2", "consul:running slurmd:running");
    let same_moment = |first: &str, second: &str| {
        sleep("consul", "")
            + &sleep("consul2", &format!("dependent_startup_wait_for=consul:running\n{first}"))
            + &sleep("slurmd", &format!("dependent_startup_wait_for=consul:running\n{second}"))
            + &waiting("slurmd2", "consul:running slurmd:running")
    };
    let same_moment_start = &["consul", "consul2", "slurmd", "slurmd2"];
    let inherited = sleep("consul", "priority=5")
        + &sleep("slurmd", "priority=10\ndependent_startup_wait_for=consul:running")
        + &sleep(
            "slurmd2",
            "dependent_startup_inherit_priority=true\ndependent_startup_wait_for=consul:running",
        )
        + &sleep(
            "slurmd3",
            "priority=15\ndependent_startup_inherit_priority=true\ndependent_startup_wait_for=consul:running slurmd:running",
        );
    let third = "dependent_startup_wait_for=consul:running slurmd:running\npriority=100";
    let custom = "process_name=slurmd_custom_procname\ndependent_startup_wait_for=consul:running";
    let parent = "autostart=false\ndependent_startup=true\n";
    let expanded = format!("dependent_startup_wait_for=%(ENV_{})s", VARIABLE.0);
    vec![
        case("README: one dependency", 1000, &["parent", "child"], {
            sleep("parent", "") + &waiting("child", "parent:running")
        }),
        case("README: two dependencies", 1000, &["parent1", "parent2", "child"], {
            sleep("parent1", "")
                + &sleep("parent2", "")
                + &waiting("child", "parent1:running parent2:running")
        }),
        case("example.md", 1600, pings_start, pings("/bin/sleep 0.3", "exited")),
        case("run_ping_example_running", 1000, pings_start, pings("/bin/sleep 1", "running")),
        case("run_ping_example_immedate_exit", 1000, pings_start, pings("/bin/sleep 0.3", "running")),
        case("run_plugin", 2000, &["consul", "slurmd", "slurmd2"], chain),
        case("basic_config", 2000, &["consul", "slurmd2", "slurmd", "slurmd3"], inherited),
        case(
            "config_with_numprocs",
            1000,
            &["consul", "slurmd_00", "slurmd_01"],
            two_processes("/bin/sleep 100"),
        ),
        case("config_with_custom_process_name", 1000, &["consul", "slurmd_custom_procname"], {
            sleep("consul", "") + &sleep("slurmd", custom)
        }),
        case("wait_for_with_env_var_expansion", 1000, &["service-parent", "service-child"], {
            format!("[program:service-parent]\ncommand=/bin/sleep 100\n{parent}")
                + &sleep("service-child", &expanded)
        }),
        case("two_services_started_simultaneously_with_priorities", 2000, same_moment_start, {
            same_moment("priority=10", "priority=15")
        }),
        case(
            "two_services_started_simultaneously_without_priorities",
            2000,
            same_moment_start,
            same_moment("", ""),
        ),
        case("start_service_check_order", 2000, &["consul", "consul2", "slurmd", "slurmd3", "slurmd2"], {
            same_moment("", "") + &sleep("slurmd3", third)
        }),
        case(
            "start_services_in_same_process_group",
            1000,
            &["consul", "slurmd", "slurmd2"],
            group("/bin/sleep 100"),
        ),
        case("event_data", 0, &["consul"], sleep("consul", "")),
    ]
}

/// The cases in which a service fails, or is written wrongly.
fn bad_cases() -> Vec<Case> {
    let case = |name, own_ms, starts, programs| Case { name, programs, starts, own_ms };
    let unhandled = |autostart: &str| {
        sleep("consul", "")
            + &format!("[program:unhandled]\ncommand=/bin/sleep 100\nautostart={autostart}\n")
            + &waiting("slurmd", "consul:running unhandled:running")
    };
    let both =
        "[program:service]\ncommand=/bin/sleep 100\nautostart=true\ndependent_startup=true\n".to_owned();
    vec![
        case("start_service_with_no_file_failure_20", 0, &["consul"], {
            sleep("consul", "")
                + &service("slurmd", "/bad/filename", "dependent_startup_wait_for=consul:running")
        }),
        case("start_bad_service_with_numproc_two_processes", 0, &["consul"], two_processes("/bad/filename")),
        case(
            "start_service_group_with_two_processes_force_error",
            1000,
            &["consul", "slurmd"],
            group("/bad/filename"),
        ),
        // In the plugin's test, nothing starts `unhandled`.
        case("not_starting_service_not_satisfying_deps", 0, &["consul"], unhandled("false")),
        case("the same with autostart", 1000, &["unhandled", "consul", "slurmd"], unhandled("true")),
        case("process_not_started_after_reaching_fatal_state", 1000, &["consul", "slurmd"], {
            service("consul", "false", "startretries=1") + &waiting("slurmd", "consul:fatal")
        }),
        case("config_with_both_autostart_and_dependent_startup_true", 0, &["service"], both),
        case("config_with_uknown_dependency", 0, &["service"], waiting("service", "uknown-service:running")),
    ]
}

/// All cases but that of a cycle, which rsup refuses.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = good_cases();
    cases.extend(bad_cases());
    cases
}

/// A cycle: the plugin starts nothing.
pub(crate) fn cycle() -> Case {
    let programs = waiting("consul", "consul3:running")
        + &waiting("consul2", "consul:running")
        + &waiting("consul3", "consul2:running");
    Case { name: "start_service_with_circular_dependency", programs, starts: &[], own_ms: 0 }
}

impl Case {
    /// The configuration. `python` is a python3 with the plugin. rsup does not run the event listener.
    pub(crate) fn conf(&self, python: &Path) -> String {
        format!(
            "[unix_http_server]\nfile=%(here)s/socket\n\
             [supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=%(here)s/pid\nchildlogdir=%(here)s\n\
             [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
             [eventlistener:{LISTENER}]\ncommand={} -m supervisord_dependent_startup -c %(here)s/{CONF}\n\
             autorestart=unexpected\nstartretries=0\nexitcodes=0,3\nevents=PROCESS_STATE\nbuffer_size=1000\n{}",
            python.display(),
            self.programs
        )
    }

    /// Runs the case under supervisord with the plugin.
    pub(crate) fn under_supervisord(&self, namespace: &[&str], python: &Path, rest: Duration) -> Starts {
        let words = [python.as_os_str(), OsStr::new("-m"), OsStr::new("supervisor.supervisord")];
        self.run(namespace, &words, python, rest)
    }

    /// Runs the case under rsup.
    pub(crate) fn under_rsup(
        &self,
        namespace: &[&str],
        rsup: &Path,
        python: &Path,
        rest: Duration,
    ) -> Starts {
        self.run(namespace, &[rsup.as_os_str()], python, rest)
    }

    /// Runs the case until there were as many starts as expected, and then for the time `rest`.
    fn run(&self, namespace: &[&str], words: &[&OsStr], python: &Path, rest: Duration) -> Starts {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(CONF), self.conf(python)).unwrap();
        let (mut unshare, lines) = start(namespace, words, directory.path());
        let mut log = vec![];
        let mut starts = vec![];
        let mut deadline = Instant::now() + PATIENCE;
        while let Ok((time, line)) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            let is_new = |name: &String| name != LISTENER && starts.iter().all(|(_, known, _)| known != name);
            if let Some((name, pid)) = spawned(&line).filter(|(name, _)| is_new(name)) {
                starts.push((pid, name, time));
            }
            log.push(line);
            if starts.len() == self.starts.len() && deadline > Instant::now() + rest {
                deadline = Instant::now() + rest;
            }
        }
        unshare.kill().unwrap();
        unshare.wait().unwrap();
        // rsup logs `spawned:` when it learns that the exec has worked. If programs are started at the same moment, their
        // lines can come in another order. In a new PID namespace, a later start has a higher PID.
        let time = starts.iter().map(|(.., time)| *time).max().unwrap_or_default();
        starts.sort();
        Starts { names: starts.into_iter().map(|(_, name, _)| name).collect(), time, log }
    }
}

/// Starts a command with the configuration of a directory as PID 1 of a PID namespace. Returns each line of its output with
/// the time since the start.
fn start(namespace: &[&str], words: &[&OsStr], directory: &Path) -> (Child, Receiver<(Duration, String)>) {
    let (output, writer) = std::io::pipe().unwrap();
    let mut command = Command::new(namespace[0]);
    command.args(&namespace[1..]).args(words).args(["-c", CONF]).current_dir(directory).env_clear();
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env(VARIABLE.0, VARIABLE.1);
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let begin = Instant::now();
    let child = command.spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send((begin.elapsed(), line)).is_err() {
                return;
            }
        }
    });
    (child, lines)
}

/// The process and the PID that a line says was started.
fn spawned(line: &str) -> Option<(String, u32)> {
    let (_, rest) = line.split_once("INFO spawned: '")?;
    let (name, pid) = rest.split_once("' with pid ")?;
    Some((name.to_owned(), pid.parse().ok()?))
}
