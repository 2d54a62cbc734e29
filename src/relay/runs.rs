//! The disclosing statements that have not ended, by their number.
//!
//! Numbers only rise, and replies come in order: so they stand in a queue, which costs no hash. A connection without any keeps
//! next to no memory of those that it had.

use super::run::Run;
use std::collections::VecDeque;

#[derive(Default)]
pub(super) struct Runs(VecDeque<(u64, Box<Run>)>);

impl Runs {
    /// `number` is higher than any before.
    pub(super) fn push(&mut self, number: u64, run: Run) {
        debug_assert!(self.0.back().is_none_or(|(last, _)| *last < number), "numbers rise");
        self.0.push_back((number, Box::new(run)));
    }

    pub(super) fn get(&self, number: &u64) -> Option<&Run> {
        self.at(*number).map(|at| &*self.0[at].1)
    }

    pub(super) fn get_mut(&mut self, number: &u64) -> Option<&mut Run> {
        self.at(*number).map(|at| &mut *self.0[at].1)
    }

    pub(super) fn remove(&mut self, number: &u64) -> Option<Box<Run>> {
        let (_, run) = self.0.remove(self.at(*number)?)?;
        Some(run)
    }

    /// All of them, oldest first.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|(number, _)| *number).collect()
    }

    fn at(&self, number: u64) -> Option<usize> {
        self.0.binary_search_by_key(&number, |(number, _)| *number).ok()
    }
}
