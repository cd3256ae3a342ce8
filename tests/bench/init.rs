//! The inits that keep programs running, and what each wants to be told.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::tools;

/// The name of another build of rsup in the tables.
pub(crate) const OTHER_RSUP: &str = "other rsup";

/// An init.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Init {
    /// A loop of vfork, exec and waitpid: what every other is measured by.
    Bare,
    Rsup,
    /// Another build of rsup, which `RSUP_OTHER` names: a change is measured before and after in one run.
    OtherRsup,
    Dinit,
    Nitro,
    S6,
    Runit,
    Supervisord,
}

impl Init {
    pub(crate) const ALL: [Self; 8] = [
        Self::Bare,
        Self::Rsup,
        Self::OtherRsup,
        Self::Dinit,
        Self::Nitro,
        Self::S6,
        Self::Runit,
        Self::Supervisord,
    ];

    /// Those that this machine has.
    pub(crate) fn installed() -> Vec<Self> {
        let is_installed = |init: &Self| match init {
            Self::OtherRsup => tools::other_rsup().is_some(),
            _ => init.commands().iter().all(|command| tools::find(command).is_some()),
        };
        Self::ALL.into_iter().filter(is_installed).collect()
    }

    /// The commands that the init consists of. rsup is not searched for on PATH.
    pub(crate) fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Bare | Self::Rsup | Self::OtherRsup => &[],
            Self::Dinit => &["dinit"],
            Self::Nitro => &["nitro"],
            Self::S6 => &["s6-svscan", "s6-supervise"],
            Self::Runit => &["runsvdir", "runsv"],
            Self::Supervisord => &["supervisord"],
        }
    }

    /// What ends it and all that it runs.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            // SIGTERM ends runsvdir alone.
            Self::Runit => Signal::SIGHUP,
            _ => Signal::SIGTERM,
        }
    }

    /// Sets up this many of the program `run` of the directory, and says how the init is started on them.
    pub(crate) fn set_up(self, directory: &Path, programs: usize) -> Vec<OsString> {
        let run = directory.join("run");
        symlink(tools::program(), &run).unwrap();
        let services = directory.join("services");
        let word = |word: &str| OsString::from(word);
        let command = |name: &str| tools::find(name).unwrap().into();
        match self {
            Self::Bare => {
                vec![tools::program().into(), word("bare"), word(&programs.to_string()), run.into()]
            }
            Self::Rsup | Self::OtherRsup => {
                let conf = supervisord_conf(directory, programs);
                let binary = if self == Self::Rsup { Some(tools::rsup()) } else { tools::other_rsup() };
                vec![binary.unwrap().into(), word("-c"), conf]
            }
            Self::Supervisord => {
                vec![command("supervisord"), word("-c"), supervisord_conf(directory, programs)]
            }
            Self::Dinit => {
                fs::create_dir_all(services.join("boot.d")).unwrap();
                fs::write(services.join("boot"), "type = internal\nwaits-for.d = boot.d\n").unwrap();
                let service = format!(
                    "type = process\ncommand = {}\nrestart = true\nrestart-limit-count = 0\n",
                    run.display()
                );
                for number in 0..programs {
                    fs::write(services.join(format!("p{number}")), &service).unwrap();
                    fs::write(services.join(format!("boot.d/p{number}")), "").unwrap();
                }
                let socket = directory.join("dinitctl").into();
                vec![command("dinit"), word("-o"), word("-p"), socket, word("-d"), services.into()]
            }
            Self::Nitro | Self::S6 | Self::Runit => {
                for number in 0..programs {
                    let service = services.join(format!("p{number}"));
                    fs::create_dir_all(&service).unwrap();
                    symlink(&run, service.join("run")).unwrap();
                }
                match self {
                    Self::Nitro => vec![command("nitro"), services.into()],
                    // It takes 500 services unless told otherwise.
                    Self::S6 => {
                        vec![
                            command("s6-svscan"),
                            word("-c"),
                            word(&(programs + 500).to_string()),
                            services.into(),
                        ]
                    }
                    _ => vec![command("runsvdir"), services.into()],
                }
            }
        }
    }
}

/// One file for both who read it.
fn supervisord_conf(directory: &Path, programs: usize) -> OsString {
    let conf = directory.join("supervisord.conf");
    let place = directory.display();
    let mut text = String::new();
    // supervisord wants four descriptors for each program, and closes as many at each start.
    let descriptors = (4 * programs + 100).max(1024);
    write!(
        text,
        "[supervisord]\nnodaemon=true\nlogfile={place}/log\npidfile={place}/pid\nminfds={descriptors}\n\
         [program:p]\ncommand={place}/run\nprocess_name=p%(process_num)d\nnumprocs={programs}\nautorestart=true\n\
         stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\nstderr_logfile=/dev/stderr\n\
         stderr_logfile_maxbytes=0\n"
    )
    .unwrap();
    fs::write(&conf, text).unwrap();
    conf.into()
}

impl fmt::Display for Init {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bare => "vfork loop",
            Self::Rsup => "rsup",
            Self::OtherRsup => OTHER_RSUP,
            Self::Dinit => "dinit",
            Self::Nitro => "nitro",
            Self::S6 => "s6",
            Self::Runit => "runit",
            Self::Supervisord => "supervisord",
        })
    }
}
