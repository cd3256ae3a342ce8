//! Ordered start: what each process waits for before its first start, and who may start when another process has
//! reached a state. Later starts wait for nothing.

use super::spec::{ProcessIndex, ProcessSpec};
use super::state_name::StateName;
use std::mem;
use std::rc::Rc;

/// Something that a process reaches and that other processes can wait for: a state, or being up. [`Goals`] has one bit
/// for each goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Reached(StateName),
    /// The process is up in the sense of `startup_wait`.
    Up,
}

/// The goals that a process has reached, one bit for each [`Goal`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Goals(u8);

impl Goals {
    pub(super) fn insert(&mut self, state: StateName) {
        self.0 |= Goal::Reached(state).bit();
    }

    pub(super) fn insert_up_goal(&mut self) {
        self.0 |= Goal::Up.bit();
    }
}

impl Goal {
    fn bit(self) -> u8 {
        match self {
            Self::Reached(state) => 1 << state as u8,
            Self::Up => 1 << 7,
        }
    }
}

/// One thing that processes wait for. Its members are the processes that have to reach a goal. The condition is
/// satisfied once there is one goal that all members have reached.
#[derive(Debug)]
struct Condition {
    /// Whether the condition before this one in the list must be satisfied first. This is true for every condition of
    /// `startup=ordered` except the first one. Without this rule, a step would begin when a client has started the
    /// processes of the previous step, although earlier steps are not up yet.
    requires_previous_condition: bool,
    members: Rc<[ProcessIndex]>,
    /// Each goal, and how many members have not reached it.
    goals: Vec<(Goal, usize)>,
    /// The processes that wait for this condition.
    waiters: Vec<ProcessIndex>,
    reason: WaitReason,
    is_satisfied: bool,
    /// Whether rsup has already found that the waiters can never start.
    is_known_hopeless: bool,
}

/// What a process waits for. Log lines and the status board show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// The processes of this program have to reach one of these states.
    Program { name: Rc<str>, states: Rc<[StateName]> },
    /// With `startup=ordered`: the processes with a lower priority have to be up.
    LowerPriorities,
}

/// What is known about one process: the conditions that concern it, and the goals that it has reached.
#[derive(Debug, Default)]
struct StartupEntry {
    /// The indexes of the conditions that this process waits for.
    waits_for: Vec<usize>,
    /// The number of conditions in `waits_for` that are not satisfied.
    unsatisfied: usize,
    /// The indexes of the conditions of which this process is a member.
    member_of: Vec<usize>,
    reached: Goals,
    /// Whether the process is to be started as soon as nothing is left to wait for.
    is_waiting: bool,
    /// Whether rsup has already found that the process can never start.
    is_stuck: bool,
}

/// What the processes wait for before their first start. It is empty and costs nothing if no process has dependencies
/// and `startup=ordered` is not set.
#[derive(Debug, Default)]
pub(super) struct StartupOrder {
    conditions: Vec<Condition>,
    /// One entry for each process. Empty if no process has dependencies and `startup=ordered` is not set.
    entries: Vec<StartupEntry>,
}

impl StartupOrder {
    /// Finds out what the processes wait for. `is_ordered` says whether `startup=ordered` is set.
    pub(super) fn new(specs: &[ProcessSpec], is_ordered: bool) -> Self {
        let mut order = Self::default();
        let has_dependencies = specs.iter().any(|spec| !spec.dependencies.is_empty());
        if !has_dependencies && !is_ordered {
            return order;
        }
        order.entries.resize_with(specs.len(), StartupEntry::default);
        for (index, spec) in specs.iter().enumerate() {
            for dependency in &spec.dependencies {
                let goals = dependency.states.iter().map(|state| Goal::Reached(*state)).collect();
                let reason = WaitReason::Program {
                    name: Rc::clone(&dependency.name),
                    states: Rc::clone(&dependency.states),
                };
                order.add_condition(
                    false,
                    Rc::clone(&dependency.processes),
                    goals,
                    vec![ProcessIndex(index)],
                    reason,
                );
            }
        }
        if is_ordered {
            order.add_steps(specs);
        }
        order
    }

    /// Adds the conditions of `startup=ordered`. A step consists of the processes with `autostart` that have the same
    /// group priority and the same priority. Event listeners belong to no step. Each step except the first waits until
    /// all processes of the previous steps are up.
    fn add_steps(&mut self, specs: &[ProcessSpec]) {
        let step = |(id, spec): (usize, &ProcessSpec)| (spec.group_priority, spec.priority, ProcessIndex(id));
        let mut all_step_members: Vec<_> = specs
            .iter()
            .enumerate()
            .filter(|(_, spec)| spec.autostart && !spec.is_listener)
            .map(step)
            .collect();
        all_step_members.sort_unstable();
        let mut before: Option<Rc<[ProcessIndex]>> = None;
        let mut requires_previous_condition = false;
        for step in all_step_members.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1)) {
            let step: Vec<ProcessIndex> = step.iter().map(|member| member.2).collect();
            if let Some(before) = before.replace(step.as_slice().into()) {
                self.add_condition(
                    requires_previous_condition,
                    before,
                    vec![Goal::Up],
                    step,
                    WaitReason::LowerPriorities,
                );
                requires_previous_condition = true;
            }
        }
    }

    fn add_condition(
        &mut self,
        requires_previous_condition: bool,
        members: Rc<[ProcessIndex]>,
        goals: Vec<Goal>,
        waiters: Vec<ProcessIndex>,
        reason: WaitReason,
    ) {
        let number = self.conditions.len();
        for id in &waiters {
            if let Some(entry) = self.entries.get_mut(id.0) {
                entry.waits_for.push(number);
                entry.unsatisfied += 1;
            }
        }
        for id in members.iter() {
            if let Some(member) = self.entries.get_mut(id.0) {
                member.member_of.push(number);
            }
        }
        let goals = goals.into_iter().map(|goal| (goal, members.len())).collect();
        self.conditions.push(Condition {
            requires_previous_condition,
            members,
            goals,
            waiters,
            reason,
            is_satisfied: false,
            is_known_hopeless: false,
        });
    }

    /// Notes that the process is to be started. Returns whether it may start at once.
    pub(super) fn request(&mut self, id: ProcessIndex) -> bool {
        let Some(entry) = self.entries.get_mut(id.0) else { return true };
        entry.is_waiting = entry.unsatisfied > 0;
        !entry.is_waiting
    }

    /// Notes that the process no longer waits, because a client has requested its start or its stop.
    pub(super) fn cancel_wait(&mut self, id: ProcessIndex) {
        if let Some(entry) = self.entries.get_mut(id.0) {
            entry.is_waiting = false;
        }
    }

    /// What the process still waits for. Empty if it does not wait.
    pub(super) fn reasons(&self, id: ProcessIndex) -> Vec<WaitReason> {
        let Some(entry) = self.entries.get(id.0).filter(|entry| entry.is_waiting) else {
            return Vec::new();
        };
        let conditions = entry.waits_for.iter().filter_map(|number| self.conditions.get(*number));
        conditions
            .filter(|condition| !condition.is_satisfied)
            .map(|condition| condition.reason.clone())
            .collect()
    }

    /// Notes the goals that a process has reached. Returns the waiting processes that wait for less than before.
    /// Each comes with the answer whether it may start now.
    pub(super) fn note_reached(&mut self, id: ProcessIndex, goals: Goals) -> Vec<(ProcessIndex, bool)> {
        let mut advanced_waiters = Vec::new();
        let Some(member) = self.entries.get_mut(id.0) else { return advanced_waiters };
        let new = goals.0 & !member.reached.0;
        if new == 0 {
            return advanced_waiters;
        }
        member.reached.0 |= new;
        for number in member.member_of.clone() {
            let Some(condition) = self.conditions.get_mut(number) else { continue };
            for (_, missing) in condition.goals.iter_mut().filter(|(goal, _)| goal.bit() & new != 0) {
                *missing = missing.saturating_sub(1);
            }
            self.mark_condition_if_satisfied(number, &mut advanced_waiters);
        }
        advanced_waiters
    }

    /// Marks a condition as satisfied if one of its goals is reached by all members, and if the previous condition is
    /// satisfied or not required. Then does the same with each next condition that requires the previous one.
    fn mark_condition_if_satisfied(
        &mut self,
        mut number: usize,
        advanced_waiters: &mut Vec<(ProcessIndex, bool)>,
    ) {
        let mut may_have_become_satisfied =
            self.previous_if_required(number).is_none_or(|before| before.is_satisfied);
        while may_have_become_satisfied && let Some(condition) = self.conditions.get_mut(number) {
            let any_goal_reached = condition.goals.iter().any(|(_, missing)| *missing == 0);
            if !any_goal_reached || mem::replace(&mut condition.is_satisfied, true) {
                return;
            }
            for waiting in &condition.waiters {
                let Some(entry) = self.entries.get_mut(waiting.0) else { continue };
                entry.unsatisfied = entry.unsatisfied.saturating_sub(1);
                if entry.is_waiting {
                    entry.is_waiting = entry.unsatisfied > 0;
                    advanced_waiters.push((*waiting, !entry.is_waiting));
                }
            }
            number = number.saturating_add(1);
            may_have_become_satisfied = self.requires_previous_condition(number);
        }
    }

    /// Whether the condition before this one has to be satisfied too.
    fn requires_previous_condition(&self, number: usize) -> bool {
        self.conditions.get(number).is_some_and(|condition| condition.requires_previous_condition)
    }

    /// The condition that has to be satisfied before this one.
    fn previous_if_required(&self, number: usize) -> Option<&Condition> {
        if self.requires_previous_condition(number) {
            self.conditions.get(number.checked_sub(1)?)
        } else {
            None
        }
    }

    /// Notes that a process will reach no further state by itself. `has_ended_for_good` returns whether this is true of
    /// a given process. Returns the waiting processes that can never start now and were not returned before.
    pub(super) fn end(
        &mut self,
        id: ProcessIndex,
        has_ended_for_good: impl Fn(ProcessIndex) -> bool,
    ) -> Vec<ProcessIndex> {
        let mut stuck = Vec::new();
        let mut ended = vec![id];
        while let Some(id) = ended.pop() {
            let conditions =
                self.entries.get(id.0).map(|member| member.member_of.clone()).unwrap_or_default();
            for mut number in conditions {
                if !self.has_unreached_goal(id, number)
                    || !self.is_condition_newly_hopeless(number, &has_ended_for_good)
                {
                    continue;
                }
                while let Some(condition) = self.conditions.get_mut(number) {
                    if mem::replace(&mut condition.is_known_hopeless, true) {
                        break;
                    }
                    for waiting in &condition.waiters {
                        let Some(entry) = self.entries.get_mut(waiting.0) else { continue };
                        if entry.is_waiting && !mem::replace(&mut entry.is_stuck, true) {
                            stuck.push(*waiting);
                            ended.push(*waiting);
                        }
                    }
                    number = number.saturating_add(1);
                    if !self.requires_previous_condition(number) {
                        break;
                    }
                }
            }
        }
        stuck.sort_unstable();
        stuck
    }

    /// Whether the condition has a goal that this member has not reached.
    fn has_unreached_goal(&self, id: ProcessIndex, number: usize) -> bool {
        let reached = self.entries.get(id.0).map_or(0, |member| member.reached.0);
        let goals = self.conditions.get(number).map(|condition| &condition.goals);
        goals.is_some_and(|goals| goals.iter().any(|(goal, _)| goal.bit() & reached == 0))
    }

    /// Whether a condition can never be satisfied: for each of its goals, there is a member that will never reach
    /// this goal. Returns false if the function [`Self::end`] has found this out before.
    fn is_condition_newly_hopeless(
        &self,
        number: usize,
        has_ended_for_good: &impl Fn(ProcessIndex) -> bool,
    ) -> bool {
        let is_open = |condition: &&Condition| !condition.is_satisfied && !condition.is_known_hopeless;
        let Some(condition) = self.conditions.get(number).filter(is_open) else { return false };
        let never_reaches = |id: &ProcessIndex, goal: Goal| {
            let member = self.entries.get(id.0);
            let has_reached = member.is_some_and(|member| member.reached.0 & goal.bit() != 0);
            let is_stuck = member.is_some_and(|member| member.is_waiting && member.is_stuck);
            !has_reached && (is_stuck || has_ended_for_good(*id))
        };
        condition.goals.iter().all(|(goal, _)| condition.members.iter().any(|id| never_reaches(id, *goal)))
    }

    /// Whether there are no conditions at all. Conditions that are satisfied count too.
    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::spec::Dependency;

    fn spec(priority: i64) -> ProcessSpec {
        ProcessSpec { priority, ..ProcessSpec::example() }
    }

    fn waiting_for(name: &str, processes: &[usize], states: &[StateName]) -> ProcessSpec {
        let processes = processes.iter().copied().map(ProcessIndex).collect();
        let dependency = Dependency { name: name.into(), processes, states: states.into() };
        ProcessSpec { dependencies: vec![dependency], ..spec(999) }
    }

    fn reached(state: StateName) -> Goals {
        let mut goals = Goals::default();
        goals.insert(state);
        goals
    }

    fn up() -> Goals {
        let mut goals = Goals::default();
        goals.insert_up_goal();
        goals
    }

    fn start_all(order: &mut StartupOrder, count: usize) -> Vec<usize> {
        (0..count).filter(|id| order.request(ProcessIndex(*id))).collect()
    }

    #[test]
    fn without_waits_every_process_starts_at_once() {
        let specs = [spec(1), spec(2)];
        let mut order = StartupOrder::new(&specs, false);
        assert!(order.is_empty());
        assert_eq!(start_all(&mut order, 2), [0, 1]);
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Running)), []);
    }

    #[test]
    fn all_processes_of_a_program_must_have_reached_the_state_once() {
        let specs = [spec(1), spec(1), waiting_for("db", &[0, 1], &[StateName::Running])];
        let mut order = StartupOrder::new(&specs, false);
        assert_eq!(start_all(&mut order, 3), [0, 1]);
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Running)), []);
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Running)), [], "reached again");
        assert_eq!(order.reasons(ProcessIndex(2)).len(), 1);
        assert_eq!(
            order.note_reached(ProcessIndex(1), reached(StateName::Running)),
            [(ProcessIndex(2), true)]
        );
        assert_eq!(order.reasons(ProcessIndex(2)), []);
    }

    #[test]
    fn one_of_several_states_is_enough() {
        let states = [StateName::Exited, StateName::Fatal];
        let specs = [spec(1), waiting_for("job", &[0], &states)];
        let mut order = StartupOrder::new(&specs, false);
        start_all(&mut order, 2);
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Running)), []);
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Fatal)), [(ProcessIndex(1), true)]);
        assert_eq!(
            order.note_reached(ProcessIndex(0), reached(StateName::Exited)),
            [],
            "it was released before"
        );
    }

    #[test]
    fn a_step_begins_when_every_process_of_the_step_before_is_up() {
        let specs = [spec(1), spec(1), spec(2), spec(3)];
        let mut order = StartupOrder::new(&specs, true);
        assert_eq!(start_all(&mut order, 4), [0, 1]);
        assert_eq!(order.note_reached(ProcessIndex(0), up()), []);
        assert_eq!(order.note_reached(ProcessIndex(1), reached(StateName::Running)), []);
        assert_eq!(order.note_reached(ProcessIndex(1), up()), [(ProcessIndex(2), true)]);
        assert_eq!(order.reasons(ProcessIndex(3)), [WaitReason::LowerPriorities]);
        assert_eq!(order.note_reached(ProcessIndex(2), up()), [(ProcessIndex(3), true)]);
    }

    #[test]
    fn a_step_that_a_client_has_started_early_does_not_begin_the_next() {
        let specs = [spec(1), spec(2), spec(3), spec(4)];
        let mut order = StartupOrder::new(&specs, true);
        start_all(&mut order, 4);
        order.cancel_wait(ProcessIndex(1));
        assert_eq!(order.note_reached(ProcessIndex(1), up()), []);
        assert_eq!(order.reasons(ProcessIndex(2)), [WaitReason::LowerPriorities]);
        // The last step waits for the one before it as well.
        assert_eq!(order.note_reached(ProcessIndex(0), up()), [(ProcessIndex(2), true)]);

        let mut order = StartupOrder::new(&specs, true);
        start_all(&mut order, 4);
        order.cancel_wait(ProcessIndex(1));
        order.note_reached(ProcessIndex(1), up());
        assert_eq!(
            order.end(ProcessIndex(0), |id| id == ProcessIndex(0)),
            [ProcessIndex(2), ProcessIndex(3)]
        );
    }

    #[test]
    fn a_cancelled_wait_is_not_released() {
        let specs = [spec(1), waiting_for("db", &[0], &[StateName::Running])];
        let mut order = StartupOrder::new(&specs, false);
        start_all(&mut order, 2);
        order.cancel_wait(ProcessIndex(1));
        assert_eq!(order.note_reached(ProcessIndex(0), reached(StateName::Running)), []);
    }

    #[test]
    fn the_processes_that_can_never_start_are_returned_once() {
        let specs = [
            spec(1),
            waiting_for("job", &[0], &[StateName::Running]),
            waiting_for("server", &[1], &[StateName::Running]),
            waiting_for("job", &[0], &[StateName::Fatal]),
        ];
        let mut order = StartupOrder::new(&specs, false);
        start_all(&mut order, 4);
        order.note_reached(ProcessIndex(0), reached(StateName::Fatal));
        assert_eq!(
            order.end(ProcessIndex(0), |id| id == ProcessIndex(0)),
            [ProcessIndex(1), ProcessIndex(2)]
        );
        assert_eq!(order.end(ProcessIndex(0), |id| id == ProcessIndex(0)), []);
    }

    #[test]
    fn a_thousand_processes_in_fifty_steps_start_in_order() {
        let specs: Vec<_> = (0..1000).map(|id| spec(id / 20)).collect();
        let mut order = StartupOrder::new(&specs, true);
        let mut running = start_all(&mut order, specs.len());
        let mut steps = 0;
        while !running.is_empty() {
            assert_eq!(running, (steps * 20..steps * 20 + 20).collect::<Vec<_>>());
            steps += 1;
            let released = running.iter().flat_map(|id| order.note_reached(ProcessIndex(*id), up()));
            running = released.map(|(id, _)| id.0).collect();
        }
        assert_eq!(steps, 50);
    }
}
