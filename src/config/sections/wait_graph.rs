//! Which program waits for which other program, and in which order the programs can start. This file reads no keys and
//! does not use the processes of a program.

use std::rc::Rc;

use crate::config::grammar::document::Section;
use crate::policy::StateName;

/// A program that waits for other programs, or that has `dependent_startup=true` or `startup_wait=exited` (set or by
/// default).
pub(crate) struct ProgramWaits<'a> {
    pub(crate) section: &'a Section<'a>,
    pub(crate) name: Rc<str>,
    /// `dependent_startup_inherit_priority`.
    pub(crate) inherits_priority: bool,
    pub(crate) waits: Vec<Wait>,
}

/// One program that a program waits for.
pub(crate) struct Wait {
    /// The key that names the other program.
    pub(crate) key: &'static str,
    /// The name of the other program, which may not exist.
    pub(crate) name: String,
    pub(crate) states: Rc<[StateName]>,
}

/// The result of [`sort`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// The programs that can start, each behind all that it waits for.
    pub(crate) order: Vec<usize>,
    /// The cycles. Each program of a cycle waits for the next, and the last waits for the first.
    pub(crate) cycles: Vec<Vec<usize>>,
}

/// Sorts programs so that each program comes after all programs that it waits for. `waits[n]` contains the indices of
/// the programs that program n waits for. The time is proportional to the number of programs and waits. If there are
/// several cycles, some of them may be missing from the result. The missing cycles are reported after the user has
/// corrected the returned cycles.
pub(crate) fn sort(waits: &[&[usize]]) -> Sorted {
    // For each program: how many of its waits are for programs that are not in `order` yet.
    let mut waits_left: Vec<usize> = waits.iter().map(|targets| targets.len()).collect();
    // For each program: the programs that wait for it.
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); waits.len()];
    for (program, targets) in waits.iter().enumerate() {
        for target in *targets {
            if let Some(waiters) = waiters.get_mut(*target) {
                waiters.push(program);
            }
        }
    }
    let mut order: Vec<usize> =
        (0..waits.len()).filter(|program| waits_left.get(*program) == Some(&0)).collect();
    let mut next = 0_usize;
    while let Some(waiters) = order.get(next).and_then(|program| waiters.get_mut(*program)) {
        for waiter in std::mem::take(waiters) {
            if let Some(left) = waits_left.get_mut(waiter) {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    order.push(waiter);
                }
            }
        }
        next = next.saturating_add(1);
    }
    let cycles = cycles(waits, &waits_left);
    Sorted { order, cycles }
}

/// Finds cycles among the remaining programs: those whose number in `waits_left` is not 0. Each remaining program waits
/// for a remaining program, which may be itself. A walk goes from a remaining program to a remaining program that it
/// waits for, and so on. Such a walk always reaches a cycle.
fn cycles(waits: &[&[usize]], waits_left: &[usize]) -> Vec<Vec<usize>> {
    let is_left = |program: usize| waits_left.get(program).is_some_and(|left| *left > 0);
    let mut cycles = Vec::new();
    // For each program: whether a walk has come to it.
    let mut seen = vec![false; waits.len()];
    for start in (0..waits.len()).filter(|program| is_left(*program)) {
        let mut path = Vec::new();
        let mut at = start;
        while let Some(seen) = seen.get_mut(at).filter(|seen| !**seen) {
            *seen = true;
            path.push(at);
            let targets = waits.get(at).copied().unwrap_or_default();
            at = targets.iter().copied().find(|target| is_left(*target)).unwrap_or(at);
        }
        // If the walk has come back to a program of its own path, a cycle begins at this program. Otherwise it has
        // come to a program of an earlier walk, and there is no new cycle.
        let cycle = path.split_off(path.iter().position(|program| *program == at).unwrap_or(path.len()));
        if !cycle.is_empty() {
            cycles.push(cycle);
        }
    }
    cycles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(waits: &[&[usize]]) -> (Vec<usize>, Vec<Vec<usize>>) {
        let Sorted { order, cycles } = sort(waits);
        (order, cycles)
    }

    #[test]
    fn a_program_comes_after_all_that_it_waits_for() {
        assert_eq!(sorted(&[]), (vec![], vec![]));
        assert_eq!(sorted(&[&[2, 1], &[2], &[], &[]]), (vec![2, 3, 1, 0], vec![]));
        assert_eq!(sorted(&[&[1, 1], &[]]), (vec![1, 0], vec![]));
    }

    #[test]
    fn each_cycle_is_found_once_and_begins_with_its_first_program() {
        assert_eq!(sorted(&[&[0]]), (vec![], vec![vec![0]]));
        assert_eq!(sorted(&[&[1], &[2], &[0], &[]]), (vec![3], vec![vec![0, 1, 2]]));
        // 0 waits for the cycle of 1 and 2, and is not part of it. 3 and 4 are a second cycle.
        assert_eq!(sorted(&[&[1], &[2], &[1], &[5, 4], &[3], &[]]), (vec![5], vec![vec![1, 2], vec![3, 4]]));
    }

    #[test]
    fn a_long_chain_needs_no_stack() {
        let count = 100_000;
        let next: Vec<_> = (1..=count).collect();
        let mut waits: Vec<_> = next.iter().map(std::slice::from_ref).collect();
        waits.push(&[]);
        assert_eq!(sort(&waits).order, (0..=count).rev().collect::<Vec<_>>());
        waits[count] = &[0];
        assert_eq!(sort(&waits).cycles, [(0..=count).collect::<Vec<_>>()]);
    }
}
