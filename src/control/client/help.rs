//! The texts of `help`.

/// The output of `help` without an argument. The first table is supervisorctl's.
pub(super) const LISTING: &str = "
default commands (type help <topic>):
=====================================
add    exit      open  reload  restart   start   tail  \x20
avail  fg        pid   remove  shutdown  status  update\x20
clear  maintail  quit  reread  signal    stop    version

rsup's own commands (type help <topic>):
========================================
health

";

/// The help of each command.
const TOPICS: [(&str, &str); 23] = [
    ("add", "add <name> [...]\tActivates any updates in config for process/group\n"),
    ("avail", "avail\t\t\tDisplay all configured processes\n"),
    (
        "clear",
        "\
clear <name>\t\tClear a process' log files.\n\
clear <name> <name>\tClear multiple process' log files\n\
clear all\t\tClear all process' log files\n",
    ),
    ("exit", "exit\tExit the supervisor shell.\n"),
    (
        "fg",
        "\
fg <process>\tConnect to a process in foreground mode\n\
\t\tCtrl-C to exit\n",
    ),
    (
        "health",
        "\
health\t\t\tExit with 0 if every process that is meant to run is RUNNING\n\
health <name> [...]\tThe same for some processes or groups\n",
    ),
    (
        "help",
        "\
help\t\tPrint a list of available actions\n\
help <action>\tPrint help for <action>\n",
    ),
    (
        "maintail",
        "\
maintail -f \tContinuous tail of supervisor main log file (Ctrl-C to exit)\n\
maintail -100\tlast 100 *bytes* of supervisord main log file\n\
maintail\tlast 1600 *bytes* of supervisor main log file\n\
\n",
    ),
    (
        "open",
        "\
open <url>\tConnect to a remote supervisord process.\n\
\t\t(for UNIX domain socket, use unix:///socket/path)\n",
    ),
    (
        "pid",
        "\
pid\t\t\tGet the PID of supervisord.\n\
pid <name>\t\tGet the PID of a single child process by name.\n\
pid all\t\t\tGet the PID of every child process, one per line.\n",
    ),
    ("quit", "quit\tExit the supervisor shell.\n"),
    ("reload", "reload \t\tRestart the remote supervisord.\n"),
    ("remove", "remove <name> [...]\tRemoves process/group from active config\n"),
    ("reread", "reread \t\t\tReload the daemon's configuration files without add/remove\n"),
    (
        "restart",
        "\
restart <name>\t\tRestart a process\n\
restart <gname>:*\tRestart all processes in a group\n\
restart <name> <name>\tRestart multiple processes or groups\n\
restart all\t\tRestart all processes\n\
Note: restart does not reread config files. For that, see reread and update.\n",
    ),
    ("shutdown", "shutdown \tShut the remote supervisord down.\n"),
    (
        "signal",
        "\
signal <signal name> <name>\t\tSignal a process\n\
signal <signal name> <gname>:*\t\tSignal all processes in a group\n\
signal <signal name> <name> <name>\tSignal multiple processes or groups\n\
signal <signal name> all\t\tSignal all processes\n",
    ),
    (
        "start",
        "\
start <name>\t\tStart a process\n\
start <gname>:*\t\tStart all processes in a group\n\
start <name> <name>\tStart multiple processes or groups\n\
start all\t\tStart all processes\n",
    ),
    (
        "status",
        "\
status <name>\t\tGet status for a single process\n\
status <gname>:*\tGet status for all processes in a group\n\
status <name> <name>\tGet status for multiple named processes\n\
status\t\t\tGet all process status info\n",
    ),
    (
        "stop",
        "\
stop <name>\t\tStop a process\n\
stop <gname>:*\t\tStop all processes in a group\n\
stop <name> <name>\tStop multiple processes or groups\n\
stop all\t\tStop all processes\n",
    ),
    (
        "tail",
        "\
tail [-f] <name> [stdout|stderr] (default stdout)\n\
Ex:\n\
tail -f <name>\t\tContinuous tail of named process stdout\n\
\t\t\tCtrl-C to exit.\n\
tail -100 <name>\tlast 100 *bytes* of process stdout\n\
tail <name> stderr\tlast 1600 *bytes* of process stderr\n",
    ),
    (
        "update",
        "\
update\t\t\tReload config and add/remove as necessary, and will restart affected programs\n\
update all\t\tReload config and add/remove as necessary, and will restart affected programs\n\
update <gname> [...]\tUpdate specific groups\n",
    ),
    ("version", "version\t\t\tShow the version of the remote supervisord process\n"),
];

/// Returns the help of a command.
pub(super) fn of(command: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(topic, _)| *topic == command).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_table_is_that_of_supervisorctl() {
        let want = "\ndefault commands (type help <topic>):\n=====================================\n\
                    add    exit      open  reload  restart   start   tail   \n\
                    avail  fg        pid   remove  shutdown  status  update \n\
                    clear  maintail  quit  reread  signal    stop    version\n\n";
        assert!(LISTING.starts_with(want), "{LISTING}");
    }

    #[test]
    fn every_command_of_the_tables_has_a_help() {
        let tables = LISTING.lines().filter(|line| !line.contains(['(', '=']));
        let commands: Vec<&str> = tables.flat_map(str::split_whitespace).collect();
        assert_eq!(commands.len(), 22);
        for command in commands {
            let help = of(command).unwrap();
            assert!(help.starts_with(command) && help.ends_with('\n'), "{command}");
        }
        assert_eq!(of("nosuch"), None);
    }

    #[test]
    fn the_help_is_that_of_supervisorctl() {
        let stop = "stop <name>\t\tStop a process\nstop <gname>:*\t\tStop all processes in a group\n\
                    stop <name> <name>\tStop multiple processes or groups\nstop all\t\tStop all processes\n";
        assert_eq!(of("stop"), Some(stop));
        assert_eq!(of("shutdown"), Some("shutdown \tShut the remote supervisord down.\n"));
        let fg = "fg <process>\tConnect to a process in foreground mode\n\t\tCtrl-C to exit\n";
        assert_eq!(of("fg"), Some(fg));
        let maintail = of("maintail").unwrap();
        assert!(maintail.ends_with("of supervisor main log file\n\n"), "{maintail}");
        let help = "help\t\tPrint a list of available actions\nhelp <action>\tPrint help for <action>\n";
        assert_eq!(of("help"), Some(help));
    }
}
