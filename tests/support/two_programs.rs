//! rsup with two programs, and checks of its work that do not use its log, because the log itself may be what fails.

use std::time::{Duration, Instant};

use super::{PATIENCE, Rsup, SIGKILL, SIGTERM, Setup, kill, proc, program, rsup, within};

/// The programs `web` and `job`, which keep running and are always restarted. `keys` are further keys of `job`.
pub(crate) fn two_programs(keys: &str) -> String {
    let always = "autorestart=true\nstartsecs=0\nstartretries=1000\nstopwaitsecs=1\n";
    let sleep = |name, mark| program(name, &format!("sleep {mark}")) + always;
    sleep("web", TwoPrograms::WEB) + &sleep("job", TwoPrograms::JOB) + keys
}

/// A set-up with the two programs, of which `job` is in a file that a pattern of `[include]` matches.
pub(crate) fn two_programs_with_an_include() -> Setup {
    let conf = two_programs("");
    let (web, job) = conf.split_at(conf.find("[program:job]").unwrap());
    rsup(&format!("[include]\nfiles=included/*.conf\n{web}")).file("included/job.conf", job, 0o644)
}

/// rsup with the two programs.
pub(crate) struct TwoPrograms {
    pub(crate) rsup: Rsup,
    pub(crate) pid: i32,
}

impl TwoPrograms {
    /// The argument of `web`'s sleep, which identifies the process.
    pub(crate) const WEB: &str = "1001";
    /// The argument of `job`'s sleep.
    pub(crate) const JOB: &str = "1002";

    pub(crate) fn start(setup: Setup) -> Self {
        let rsup = setup.start();
        Self { pid: rsup.pid(), rsup }
    }

    /// The processes of a program.
    pub(crate) fn running(&self, mark: &str) -> Vec<i32> {
        let is_it = |pid: &i32| proc::words(*pid) == ["sleep", mark];
        proc::children_listed(self.pid).into_iter().filter(is_it).collect()
    }

    /// Waits until a program runs with a PID that is not in `not`. Returns the PID.
    pub(crate) fn runs(&mut self, mark: &str, not: &[i32]) -> Result<i32, String> {
        let new = |life: &Self| life.running(mark).into_iter().find(|pid| !not.contains(pid));
        self.until(&format!("sleep {mark} runs"), new)
    }

    /// Waits for a fact.
    pub(crate) fn until<T>(
        &mut self,
        what: &str,
        mut fact: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(code) = self.rsup.ended() {
                return self.fails(&format!("rsup exited with {code:?} before: {what}"));
            }
            match fact(self) {
                Some(fact) => return Ok(fact),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.fails(&format!("not in time: {what}"))
    }

    /// Returns an error with a reason and rsup's log.
    pub(crate) fn fails<T>(&self, why: &str) -> Result<T, String> {
        let log: Vec<_> = self.rsup.log().into_iter().map(|line| line.0).collect();
        Err(format!("{why}\n    {}", log.join("\n    ")))
    }

    /// Fails if rsup is busy for a given time. A loop that never sleeps causes many thousand context switches under a
    /// tracer, and uses all of the processor time without one.
    pub(crate) fn sleeps(&self, time: Duration) -> Result<(), String> {
        let switches = proc::context_switches(self.pid);
        let ticks = proc::ticks(self.pid);
        std::thread::sleep(time);
        let switches = proc::context_switches(self.pid) - switches;
        let ticks = proc::ticks(self.pid) - ticks;
        let milliseconds = u64::try_from(time.as_millis()).unwrap();
        // After a failed read(2), rsup pauses for 50 ms. Each time it makes several system calls, and each of them causes
        // two switches: 240 switches per second. The limit is twice as many.
        // The limit for ticks is a hundredth of the time, plus one tick that may have begun before the measurement.
        if switches > milliseconds / 2 || ticks > 1 + milliseconds / 1000 {
            return self.fails(&format!("it spins: {switches} switches, {ticks} ticks in {time:?}"));
        }
        Ok(())
    }

    /// Checks that both programs run exactly once, and are restarted, and that rsup is idle afterwards.
    pub(crate) fn serves(&mut self) -> Result<(), String> {
        let old = [self.runs(Self::WEB, &[])?, self.runs(Self::JOB, &[])?];
        // rsup forwards SIGURG to both programs, which ignore it by default.
        kill(self.pid, libc::SIGURG);
        old.iter().for_each(|pid| kill(*pid, SIGKILL));
        let new = [self.runs(Self::WEB, &old)?, self.runs(Self::JOB, &old)?];
        self.until("each runs once", |life| {
            (life.running(Self::WEB) == new[..1] && life.running(Self::JOB) == new[1..]).then_some(())
        })?;
        self.sleeps(Duration::from_millis(200))
    }

    /// Checks that SIGTERM stops rsup with exit code 0.
    pub(crate) fn ends(&mut self) -> Result<(), String> {
        kill(self.pid, SIGTERM);
        match within(PATIENCE, || self.rsup.ended()) {
            Some(Some(0)) => Ok(()),
            code => self.fails(&format!("SIGTERM: {code:?}")),
        }
    }

    /// Checks the restarts and the stop.
    pub(crate) fn serves_and_ends(&mut self) -> Result<(), String> {
        self.serves().and_then(|()| self.ends())
    }
}
