//! Reading /proc.

use std::fs;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    pub(crate) group: i32,
}

impl Process {
    /// Whether the process has exited and has not been reaped.
    pub(crate) fn is_zombie(&self) -> bool {
        self.state == 'Z'
    }
}

/// A process, if the PID exists.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = tail.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Process { pid, name, state, parent: number()?, group: number()? })
}

/// Every process of the machine.
fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The children of a process.
pub(crate) fn children(parent: i32) -> Vec<Process> {
    all().into_iter().filter(|process| process.parent == parent).collect()
}

/// All descendants of a process, parents before children. The descendants of a PID 1 are its whole PID namespace.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = vec![];
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        let below = all.iter().filter(|process| process.parent == parent);
        parents.extend(below.clone().map(|process| process.pid));
        found.extend(below.cloned());
    }
    found
}

/// The value of a key in `/proc/PID/status`.
pub(crate) fn status(pid: i32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    field(&status, key).map(str::to_owned)
}

/// The value of a key in the text of `/proc/PID/status`.
pub(crate) fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
}

/// The PID of a process in the process's own PID namespace.
pub(crate) fn inner_pid(pid: i32) -> Option<i32> {
    status(pid, "NSpid")?.split_whitespace().last()?.parse().ok()
}

/// The descriptors that rsup always has: stdin, stdout, stderr, the signalfd, the epoll descriptor, the status board, and
/// both ends of the request pipe.
pub(crate) const OWN_DESCRIPTORS: usize = 8;

/// The number of descriptors that a process has open.
pub(crate) fn open_descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The number of voluntary and involuntary context switches of a process. Each wake-up adds one.
pub(crate) fn context_switches(pid: i32) -> u64 {
    let of = |key| status(pid, key).unwrap().parse::<u64>().unwrap();
    of("voluntary_ctxt_switches") + of("nonvoluntary_ctxt_switches")
}

/// The children of a process from `/proc/PID/task/PID/children`. This is fast, but may omit a child while others exit.
pub(crate) fn children_listed(pid: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// All descendants of a process, from the same lists of children.
pub(crate) fn descendants_listed(pid: i32) -> Vec<i32> {
    let children = children_listed(pid);
    let below = children.iter().flat_map(|child| descendants_listed(*child)).collect();
    [children, below].concat()
}

/// The command line of a process. The command line of a zombie is empty.
pub(crate) fn words(pid: i32) -> Vec<String> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split_terminator('\0').map(str::to_owned).collect()
}

/// The processor time that a process has used, in hundredths of a second.
pub(crate) fn ticks(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, tail)| tail).split(' ');
    fields.skip(11).take(2).map(|time| time.parse::<u64>().unwrap()).sum()
}

/// A variable in the environment that a process was started with.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let variables = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    variables.rev().find_map(|text| Some(text.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}
