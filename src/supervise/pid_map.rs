//! A map whose keys are process IDs.

use crate::sys::Pid;

/// A map from process IDs to values: a list in ascending order of the IDs. The kernel assigns ascending IDs until it
/// begins again with the smallest ones, so almost every new entry is added at the end.
pub(super) struct PidMap<V>(Vec<(Pid, V)>);

impl<V> PidMap<V> {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// The index of an entry. If there is no such entry, the index at which to insert it.
    fn find(&self, pid: Pid) -> Result<usize, usize> {
        self.0.binary_search_by_key(&pid, |(known, _)| *known)
    }

    pub(super) fn get(&self, pid: Pid) -> Option<&V> {
        self.0.get(self.find(pid).ok()?).map(|(_, value)| value)
    }

    /// Sets the value of a process ID.
    pub(super) fn insert(&mut self, pid: Pid, value: V) {
        match self.find(pid) {
            Ok(index) => {
                if let Some((_, old)) = self.0.get_mut(index) {
                    *old = value;
                }
            }
            Err(index) => self.0.insert(index, (pid, value)),
        }
    }

    pub(super) fn remove(&mut self, pid: Pid) -> Option<V> {
        self.find(pid).ok().map(|index| self.0.remove(index).1)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }
}

impl<V> FromIterator<(Pid, V)> for PidMap<V> {
    fn from_iter<I: IntoIterator<Item = (Pid, V)>>(entries: I) -> Self {
        let mut entries: Vec<(Pid, V)> = entries.into_iter().collect();
        entries.sort_unstable_by_key(|(pid, _)| *pid);
        Self(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::new(number).unwrap()
    }

    #[test]
    fn entries_are_found_in_whatever_order_they_were_added() {
        let mut map: PidMap<char> = [(pid(9), 'a'), (pid(5), 'b')].into_iter().collect();
        for (number, value) in [(7, 'c'), (2, 'd'), (11, 'e'), (7, 'f')] {
            map.insert(pid(number), value);
        }
        assert_eq!([5, 7, 8].map(|number| map.get(pid(number)).copied()), [Some('b'), Some('f'), None]);
        assert_eq!([9, 9].map(|number| map.remove(pid(number))), [Some('a'), None]);
        assert_eq!(map.values().collect::<String>(), "dbfe");
        assert_eq!(map.into_values().collect::<String>(), "dbfe");
    }
}
