//! What many records say alike, and is therefore spelled once.
//!
//! A connection names itself in each of its records, and a statement that is carried out again says what it said before: most of a
//! line's bytes are known before there is anything to record. Guarantees: two of these are equal when what they say is; what was spelled is
//! never another value's, since a value in here does not change. Deliberately absent: how it is spelled ([`super::canonical`]).

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A value that is shared by records, and its bytes in their lines once one was written.
pub struct Said<T>(Arc<Once<T>>);

struct Once<T> {
    value: T,
    spelled: OnceLock<Box<[u8]>>,
}

impl<T> Said<T> {
    /// Its bytes; `spell` must be the same each time. `None` where nobody else has it: they would be kept for nobody.
    pub(super) fn spelled(&self, spell: impl FnOnce(&T) -> Vec<u8>) -> Option<&[u8]> {
        let others = Arc::strong_count(&self.0) > 1;
        others.then(|| &**self.0.spelled.get_or_init(|| spell(&self.0.value).into_boxed_slice()))
    }
}

impl<T: Clone> Said<T> {
    /// Another value, which begins as this one.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut T)) -> Said<T> {
        let mut value = self.0.value.clone();
        change(&mut value);
        Said::from(value)
    }
}

impl<T> From<T> for Said<T> {
    fn from(value: T) -> Said<T> {
        Said(Arc::new(Once { value, spelled: OnceLock::new() }))
    }
}

impl<T> Deref for Said<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Said<T> {
    fn clone(&self) -> Said<T> {
        Said(self.0.clone())
    }
}

impl<T: PartialEq> PartialEq for Said<T> {
    fn eq(&self, other: &Said<T>) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Said<T> {}

impl<T: fmt::Debug> fmt::Debug for Said<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(out)
    }
}
