//! Sorting, and look-up by name.
//!
//! Each type in this file has one fixed key type, because the compiler generates the code of a sort or a map again for
//! each key type.

use std::collections::HashMap;

/// Sorts by a number and a text. Items with the same number and text keep their order.
#[derive(Default)]
pub(crate) struct StableSort(Vec<(i64, String, usize)>);

impl StableSort {
    /// Adds the next item: the number and the text by which it is sorted.
    pub(crate) fn push(&mut self, number: i64, text: String) {
        let index = self.0.len();
        self.0.push((number, text, index));
    }

    /// The sorted texts, each with the index of its item before the sort.
    pub(crate) fn into_sorted(mut self) -> impl Iterator<Item = (String, usize)> {
        // No two elements are equal, because each has its own index.
        self.0.sort_unstable();
        self.0.into_iter().map(|(_, text, index)| (text, index))
    }

    /// Returns `items` in the sorted order. `items` must be in the order of the calls of [`Self::push`].
    pub(crate) fn apply<T>(self, items: Vec<T>) -> impl Iterator<Item = T> {
        pick(items, self.into_sorted().map(|(_, index)| index))
    }
}

/// The items with these indices, in the order of the indices. If an index is repeated, its item is returned only once.
pub(crate) fn pick<T>(items: Vec<T>, indices: impl Iterator<Item = usize>) -> impl Iterator<Item = T> {
    let mut items: Vec<_> = items.into_iter().map(Some).collect();
    indices.filter_map(move |index| items.get_mut(index).and_then(Option::take))
}

/// A map from names to indices.
#[derive(Debug, Default)]
pub(crate) struct NameIndex(HashMap<String, usize>);

impl NameIndex {
    pub(crate) fn get(&self, name: &str) -> Option<usize> {
        self.0.get(name).copied()
    }

    /// The index of a name. A new name gets the index `new`.
    pub(crate) fn get_or_insert(&mut self, name: &str, new: usize) -> usize {
        *self.0.entry(name.to_owned()).or_insert(new)
    }

    /// Adds a name, for callers that need no index. Returns whether the name is new.
    pub(crate) fn insert(&mut self, name: &str) -> bool {
        self.0.insert(name.to_owned(), 0).is_none()
    }
}

/// Environment variables, in the order in which their names are first set, as in a Python dictionary.
#[derive(Debug, Default)]
pub(crate) struct EnvMap {
    variables: Vec<(String, String)>,
    index: NameIndex,
}

impl EnvMap {
    /// Sets a variable. If the variable is already set, the new value replaces the old one, and the order does not
    /// change.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.set_owned(name.to_owned(), value.to_owned());
    }

    /// Like [`Self::set`], but takes the name and the value instead of copying them.
    pub(crate) fn set_owned(&mut self, name: String, value: String) {
        let index = self.index.get_or_insert(&name, self.variables.len());
        match self.variables.get_mut(index) {
            Some((_, old)) => *old = value,
            None => self.variables.push((name, value)),
        }
    }

    pub(crate) fn set_all(&mut self, variables: &[(String, String)]) {
        for (name, value) in variables {
            self.set(name, value);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(self.index.get(name)?).map(|(_, value)| value.as_str())
    }

    pub(crate) fn as_slice(&self) -> &[(String, String)] {
        &self.variables
    }

    pub(crate) fn into_vec(self) -> Vec<(String, String)> {
        self.variables
    }
}

impl From<&[(String, String)]> for EnvMap {
    fn from(variables: &[(String, String)]) -> Self {
        let mut map = EnvMap::default();
        map.set_all(variables);
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_sort_by_number_then_text_then_former_position() {
        let mut order = StableSort::default();
        for (number, text) in [(2, "a"), (1, "b"), (1, "a"), (1, "b")] {
            order.push(number, text.to_owned());
        }
        assert_eq!(order.apply(vec!['w', 'x', 'y', 'z']).collect::<String>(), "yxzw");
    }

    #[test]
    fn a_variable_that_is_set_again_keeps_its_first_position() {
        let mut variables = EnvMap::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            variables.set(name, value);
        }
        assert_eq!((variables.get("a"), variables.get("c")), (Some("3"), None));
        assert_eq!(
            variables.into_vec(),
            [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]
        );
    }

    #[test]
    fn a_hundred_assignments_to_fifty_variables_leave_the_last_values() {
        let mut variables = EnvMap::default();
        for number in 0..100 {
            variables.set(&(number % 50).to_string(), &number.to_string());
        }
        assert_eq!(variables.as_slice().len(), 50);
        for number in 0..50 {
            let value = (number + 50).to_string();
            assert_eq!(variables.get(&number.to_string()), Some(value.as_str()));
        }
    }
}
