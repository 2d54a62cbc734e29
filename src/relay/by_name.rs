//! What a client's names stand for, where the unnamed one is used most: it has a place of its own, and costs no hash.

use std::collections::HashMap;

pub(super) struct ByName<T> {
    unnamed: Option<T>,
    named: HashMap<String, T>,
}

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName { unnamed: None, named: HashMap::new() }
    }
}

impl<T> ByName<T> {
    #[inline]
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        if name.is_empty() { self.unnamed.as_mut() } else { self.named.get_mut(name) }
    }

    /// Gives what the name stood for before.
    #[inline]
    pub(super) fn insert(&mut self, name: &str, value: T) -> Option<T> {
        match self.get_mut(name) {
            Some(living) => Some(std::mem::replace(living, value)),
            None if name.is_empty() => self.unnamed.replace(value),
            None => self.named.insert(name.to_owned(), value),
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, name: &str) -> Option<T> {
        if name.is_empty() { self.unnamed.take() } else { self.named.remove(name) }
    }

    /// Those that have a name.
    pub(super) fn named(&self) -> &HashMap<String, T> {
        &self.named
    }

    pub(super) fn forget_named(&mut self) {
        self.named.clear();
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.unnamed.iter().chain(self.named.values())
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        if !self.unnamed.as_ref().is_none_or(&mut keeps) {
            self.unnamed = None;
        }
        self.named.retain(|_, value| keeps(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unnamed_one_is_one_of_them() {
        let mut names = ByName::default();
        for (name, value) in [("", 1), ("a", 2), ("b", 3)] {
            assert_eq!(names.get(name), None);
            assert_eq!([names.insert(name, 0), names.insert(name, value)], [None, Some(0)]);
            assert_eq!(names.get_mut(name).copied(), Some(value));
        }
        names.retain(|value| *value != 2);
        let mut left: Vec<i32> = names.values().copied().collect();
        left.sort_unstable();
        assert_eq!((left, names.get("a"), names.named().len()), (vec![1, 3], None, 1));
        assert_eq!(names.remove(""), Some(1));
        assert_eq!(names.get(""), None);
        names.insert("", 4);
        names.retain(|value| *value != 4);
        names.forget_named();
        assert_eq!(names.values().count(), 0);
    }
}
