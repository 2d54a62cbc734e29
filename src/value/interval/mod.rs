//! `interval`: microseconds, days and months, canonical as `interval_send` sends them (sixteen bytes).
//!
//! Absent: a form that agrees with `=` (a day equals 24 hours, a month 30 days), so it is never deterministic; and
//! infinity, which PostgreSQL has from 17 on.

mod input;
mod output;

use super::{DataType, Malformed, ValueError};
pub(super) use input::read_text;
pub(super) use output::write_text;

/// What an interval is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) months: i32,
    pub(super) days: i32,
    pub(super) micros: i64,
}

impl Parts {
    pub(super) fn of(canonical: &[u8]) -> Result<Parts, Malformed> {
        let (micros, rest) = canonical.split_first_chunk::<8>().ok_or(Malformed)?;
        let (days, months) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
        Ok(Parts {
            months: i32::from_be_bytes(months.try_into().map_err(|_| Malformed)?),
            days: i32::from_be_bytes(*days),
            micros: i64::from_be_bytes(*micros),
        })
    }

    pub(super) fn put(&self, canonical: &mut Vec<u8>) {
        canonical.extend_from_slice(&self.micros.to_be_bytes());
        canonical.extend_from_slice(&self.days.to_be_bytes());
        canonical.extend_from_slice(&self.months.to_be_bytes());
    }
}

fn wrong() -> ValueError {
    ValueError::new("22007", format!("invalid input syntax for type {}", DataType::Interval.family_name()))
}

fn out_of_range() -> ValueError {
    ValueError::new("22015", "interval field value out of range")
}
