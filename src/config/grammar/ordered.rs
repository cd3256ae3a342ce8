//! Order and uniqueness for the whole room, each for one type of key only: every further type of tree or sort would
//! be kilobytes of program for lists of a few lines.

use std::collections::{BTreeMap, BTreeSet};

/// Things by (number, text) and, where both are the same, by their place before.
#[derive(Default)]
pub(crate) struct StableSort(BTreeSet<(i64, String, usize)>);

impl StableSort {
    /// Adds the next thing, by its keys.
    pub(crate) fn push(&mut self, number: i64, text: String) {
        let place = self.0.len();
        self.0.insert((number, text, place));
    }

    /// The texts with their former places, in order.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = (String, usize)> {
        self.0.into_iter().map(|(_, text, place)| (text, place))
    }

    /// The things themselves, in order.
    pub(crate) fn apply<T>(self, things: Vec<T>) -> impl Iterator<Item = T> {
        pick(things, self.into_iter().map(|(_, place)| place))
    }
}

/// The things at these places, each but once.
pub(crate) fn pick<T>(things: Vec<T>, places: impl Iterator<Item = usize>) -> impl Iterator<Item = T> {
    let mut things: Vec<_> = things.into_iter().map(Some).collect();
    places.filter_map(move |place| things.get_mut(place).and_then(Option::take))
}

/// Places by name.
#[derive(Debug, Default)]
pub(crate) struct NameIndex(BTreeMap<String, usize>);

impl NameIndex {
    /// The place of a name.
    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// The place of a name, which is this one when it is new.
    pub(crate) fn get_or_insert(&mut self, name: &str, new: usize) -> usize {
        *self.0.entry(name.to_owned()).or_insert(new)
    }

    /// Whether this name was not there before; now it is.
    pub(crate) fn insert(&mut self, name: &str) -> bool {
        self.0.insert(name.to_owned(), 0).is_none()
    }
}

/// Variables in the order of their first mention.
#[derive(Debug, Default)]
pub(crate) struct EnvMap {
    pairs: Vec<(String, String)>,
    /// Where each stands, once there are more than [`FEW`].
    places: NameIndex,
}

/// So many are looked through faster than looked up.
const FEW: usize = 8;

impl EnvMap {
    /// Sets a variable, at its first place when it has one.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.set_owned(key.to_owned(), value.to_owned());
    }

    /// The same with what need not be copied.
    pub(crate) fn set_owned(&mut self, key: String, value: String) {
        if let Some((_, old)) = self.place(&key).and_then(|place| self.pairs.get_mut(place)) {
            *old = value;
            return;
        }
        self.pairs.push((key, value));
        if self.pairs.len() > FEW {
            let known = if self.pairs.len() == FEW.saturating_add(1) {
                0
            } else {
                self.pairs.len().saturating_sub(1)
            };
            for (place, (key, _)) in self.pairs.iter().enumerate().skip(known) {
                let _place = self.places.get_or_insert(key, place);
            }
        }
    }

    fn place(&self, key: &str) -> Option<usize> {
        if self.pairs.len() > FEW {
            self.places.get(key)
        } else {
            self.pairs.iter().position(|(known, _)| known == key)
        }
    }

    /// Sets them all.
    pub(crate) fn set_all(&mut self, pairs: &[(String, String)]) {
        self.pairs.reserve(pairs.len());
        for (key, value) in pairs {
            self.set(key, value);
        }
    }

    /// The value of a variable.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(self.place(key)?).map(|(_, value)| value.as_str())
    }

    /// All of them.
    pub(crate) fn as_slice(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// All of them.
    pub(crate) fn into_vec(self) -> Vec<(String, String)> {
        self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order() {
        let mut order = StableSort::default();
        for (number, text) in [(2, "a"), (1, "b"), (1, "a"), (1, "b")] {
            order.push(number, text.to_owned());
        }
        assert_eq!(order.apply(vec!['w', 'x', 'y', 'z']).collect::<String>(), "yxzw");
    }

    #[test]
    fn variables_keep_their_first_place() {
        let mut pairs = EnvMap::default();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            pairs.set(key, value);
        }
        assert_eq!((pairs.get("a"), pairs.get("c")), (Some("3"), None));
        assert_eq!(pairs.into_vec(), [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]);
    }

    #[test]
    fn many_variables_are_found_too() {
        let mut pairs = EnvMap::default();
        for number in 0..100 {
            pairs.set(&(number % 50).to_string(), &number.to_string());
        }
        assert_eq!(pairs.as_slice().len(), 50);
        for number in 0..50 {
            let value = (number + 50).to_string();
            assert_eq!(pairs.get(&number.to_string()), Some(value.as_str()));
        }
    }
}
