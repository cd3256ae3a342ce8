//! The inits that keep programs running, and the configuration and arguments of each.

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
    /// A loop of vfork, exec and waitpid: the lower bound that every init is compared with.
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

    /// The inits that are installed on this machine.
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

    /// The signal that stops the init and its programs.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            // SIGTERM stops runsvdir only, and not its programs.
            Self::Runit => Signal::SIGHUP,
            _ => Signal::SIGTERM,
        }
    }

    /// Writes the configuration for a number of programs, each of which is `run` in the directory. Returns the init's
    /// command.
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
                    // s6-svscan supervises 500 services by default.
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

/// The configuration file for rsup and supervisord.
fn supervisord_conf(directory: &Path, programs: usize) -> OsString {
    let conf = directory.join("supervisord.conf");
    let place = directory.display();
    let mut text = String::new();
    // supervisord needs four descriptors for each program. At each start it closes `minfds` descriptors.
    let descriptors = (4 * programs + 100).max(1024);
    write!(
        text,
        "[supervisord]\nnodaemon=true\nlogfile={place}/log\npidfile={place}/pid\nminfds={descriptors}\n\
         [unix_http_server]\nfile={place}/socket\n[supervisorctl]\nserverurl=unix://{place}/socket\n\
         [rpcinterface:supervisor]\n\
         supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
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
