//! What the cells of a deterministic column give away by how often they occur: a frequency attack, carried out on counts.
//!
//! The attacker knows how often each value really occurs (the worst case: public statistics only come near it), sees the cells
//! and puts both in order. A value whose count no other has is recovered, with all its rows; among values of one count
//! the attacker can but guess, and guesses one of them right on average. Guarantees: pure, and no value is needed.

use crate::server::examine::Frequency;
use std::fmt;

/// Of fewer rows nothing can be told.
const FEWEST_ROWS: f64 = 100.0;
/// From this share of recovered rows on it is worth a word.
const TELLING: f64 = 0.01;

/// The outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attack {
    rows: f64,
    values: f64,
    /// Shares of the rows: of the most frequent value, recovered for certain, and on average with guesses.
    top: f64,
    certain: f64,
    expected: f64,
    /// Of the distribution, in bits.
    entropy: f64,
}

impl Attack {
    pub fn is_telling(&self) -> bool {
        self.rows >= FEWEST_ROWS && self.expected >= TELLING
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:.0} different values in {:.0} rows, the most frequent in {:.1} % of them, {:.1} bits of entropy; who knows how often \
             each value occurs recovers {:.1} % of the rows for certain, {:.1} % with guesses",
            self.values,
            self.rows,
            100.0 * self.top,
            self.entropy,
            100.0 * self.certain,
            100.0 * self.expected
        )
    }
}

/// `None` of a column without rows.
pub fn attack(frequencies: &[Frequency]) -> Option<Attack> {
    let counted: Vec<(f64, f64)> =
        frequencies.iter().map(|found| (found.rows as f64, found.values as f64)).collect();
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| counted.iter().map(|(rows, values)| of(*rows, *values)).sum::<f64>();
    let all = sum(&|rows, values| rows * values);
    if all <= 0.0 {
        return None;
    }
    let top = counted.iter().map(|(rows, _)| *rows).fold(0.0, f64::max);
    Some(Attack {
        rows: all,
        values: sum(&|_, values| values),
        top: top / all,
        certain: sum(&|rows, values| if values == 1.0 { rows } else { 0.0 }) / all,
        expected: sum(&|rows, _| rows) / all,
        entropy: sum(&|rows, values| values * (rows / all) * (all / rows).log2()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(frequencies: &[(u64, u64)]) -> Attack {
        let list: Vec<Frequency> =
            frequencies.iter().map(|(rows, values)| Frequency { rows: *rows, values: *values }).collect();
        attack(&list).unwrap()
    }

    #[test]
    fn a_skewed_column_is_recovered_and_a_unique_one_is_not() {
        let cities = found(&[(125, 2), (250, 1), (500, 1)]);
        assert_eq!((cities.rows, cities.values, cities.top), (1000.0, 4.0, 0.5));
        assert_eq!((cities.certain, cities.expected), (0.75, 0.875));
        assert!((cities.entropy - 1.75).abs() < 1e-9 && cities.is_telling());
        let unique = found(&[(1, 100_000)]);
        assert_eq!((unique.certain, unique.top), (0.0, 1e-5));
        assert!((unique.entropy - 100_000_f64.log2()).abs() < 1e-9 && !unique.is_telling());
        assert!(!found(&[(3, 1), (1, 1)]).is_telling(), "too few rows to tell");
        assert_eq!(attack(&[]), None);
    }
}
