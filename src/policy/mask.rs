//! What each mask shows of a value. Works on canonical bytes and keeps the value's logical type.
//!
//! | mask | fits | shows |
//! |---|---|---|
//! | `redact` | every type | nothing of the value: `***`, 0, 2000-01-01, midnight, `false`, `{}`, `0.0.0.0`, no bytes |
//! | `zero` | numbers, interval, text | 0, whatever the value |
//! | `partial(f,l)` | text | the first and last characters around `***`, one each unless said; all of it hidden where more would show than not |
//! | `email` | text | `a***@e***.com`; as `redact` when it is no address in a domain of letters |
//! | `card(f,l)` | text | `**** **** **** 1234`, or the first six too; as `redact` with fewer than 12 digits, or when too few were hidden |
//! | `iban` | text | `DE** **** **** 3000`; as `redact` when it is not formed like one |
//! | `phone` | text | `*** *** 4567`; as `redact` with fewer than 8 digits |
//! | `year`, `month` | date, timestamp, timestamptz | their first day, for timestamptz in UTC |
//! | `bucket(n)` | integers, numeric | the multiple of n that is next to it on the side of 0 |
//! | `hash` | text, uuid, bytea, bigint | a keyed fingerprint: equal values of a domain look equal |
//! | `ff1` | text of digits, integers, numeric without fraction | other digits, as many, what stands between them kept; as `redact` with fewer than 6 or more than 64 |
//! | `fake:…` | text | something made up, the same for equal values of a domain: name, first_name, last_name, email, phone, city, street, company |
//!
//! The number of characters never shows, but under `ff1`, whose purpose is the form. NULL stays NULL. Of sealed columns
//! [`Mask::apply`] makes the mask, of guarded clear ones the server does ([`Mask::sql`]), but those that need a key, which no
//! server gets; a test holds the two to each other. Deliberately absent: random noise, which averages away.

mod keyed;
mod number;
mod quick;
mod sql;
mod text;

pub use quick::QUICK_BYTES;

use super::form::{Ends, Mask};
use crate::crypto::MaskKey;
use crate::value::{DataType, Period, start_of};

const HIDDEN: &str = "***";

impl Mask {
    /// Whether the mask can be shown as `data_type` (a partial text mask of an integer cannot).
    pub fn fits(&self, data_type: &DataType) -> bool {
        let text = matches!(data_type, DataType::Text | DataType::Varchar(_));
        let integer = matches!(data_type, DataType::Smallint | DataType::Integer | DataType::Bigint);
        match self {
            Mask::Redact => true,
            Mask::Zero => {
                let other = matches!(
                    data_type,
                    DataType::Numeric(_) | DataType::Real | DataType::DoublePrecision | DataType::Interval
                );
                text || integer || other
            }
            Mask::Partial(_) | Mask::Email | Mask::Card(_) | Mask::Iban | Mask::Phone | Mask::Fake(_) => text,
            Mask::Year | Mask::Month => {
                matches!(data_type, DataType::Date | DataType::Timestamp | DataType::Timestamptz)
            }
            // Numbers of a negative scale are no multiples of what they were rounded to; floating ones of nothing.
            Mask::Bucket(_) => integer || matches!(data_type, DataType::Numeric(None | Some((_, 0..)))),
            Mask::Hash => text || matches!(data_type, DataType::Uuid | DataType::Bytea | DataType::Bigint),
            Mask::Ff1 => text || integer || matches!(data_type, DataType::Numeric(Some((_, 0)))),
        }
    }

    /// Whether it is made with a key: not by the server, then.
    pub fn is_keyed(&self) -> bool {
        matches!(self, Mask::Hash | Mask::Fake(_) | Mask::Ff1)
    }

    /// Appends the canonical bytes of the masked value.
    /// `None` when the mask does not fit the type: nothing may be shown then.
    pub fn apply(
        &self,
        data_type: &DataType,
        canonical: &[u8],
        key: &MaskKey,
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let text = || std::str::from_utf8(canonical).ok();
        match self {
            _ if !self.fits(data_type) => return None,
            Mask::Redact => redacted(data_type, out),
            Mask::Zero => zero(data_type, out),
            Mask::Partial(ends) => put(data_type, &text::partial(text()?, *ends), out),
            Mask::Email => put(data_type, &text::email(text()?), out),
            Mask::Card(ends) => text::card(text()?, *ends, data_type, out),
            Mask::Iban => text::iban(text()?, data_type, out),
            Mask::Phone => text::phone(text()?, data_type, out),
            Mask::Year => start_of(Period::Year, *data_type, canonical, out)?,
            Mask::Month => start_of(Period::Month, *data_type, canonical, out)?,
            Mask::Bucket(width) => number::bucket(*width, data_type, canonical, out)?,
            Mask::Hash => keyed::hash(data_type, canonical, key, out)?,
            Mask::Ff1 => keyed::ff1(data_type, canonical, key, out)?,
            Mask::Fake(kind) => put(data_type, &[&keyed::fake(*kind, canonical, key)], out),
        }
        Some(())
    }
}

/// Text that obeys the column's length.
fn put(data_type: &DataType, shown: &[&str], out: &mut Vec<u8>) {
    let start = out.len();
    shown.iter().for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    if let DataType::Varchar(Some(length)) = data_type {
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        let begins = |(_, byte): &(usize, &u8)| *byte & 0xc0 != 0x80;
        let beyond = out.iter().enumerate().skip(start).filter(begins).nth(length);
        let end = beyond.map_or(out.len(), |(end, _)| end);
        out.truncate(end);
    }
}

fn zero(data_type: &DataType, out: &mut Vec<u8>) {
    match data_type {
        DataType::Text | DataType::Varchar(_) => out.push(b'0'),
        other => redacted(other, out),
    }
}

fn redacted(data_type: &DataType, out: &mut Vec<u8>) {
    match data_type {
        DataType::Text | DataType::Varchar(_) => put(data_type, &[HIDDEN], out),
        DataType::Smallint | DataType::Integer | DataType::Bigint => {
            out.extend_from_slice(&0i64.to_be_bytes())
        }
        DataType::Numeric(Some((_, scale))) if *scale > 0 => {
            out.extend_from_slice(format!("0.{}", "0".repeat(scale.unsigned_abs().into())).as_bytes());
        }
        DataType::Numeric(_) => out.push(b'0'),
        DataType::Real => out.extend_from_slice(&0f32.to_be_bytes()),
        DataType::DoublePrecision => out.extend_from_slice(&0f64.to_be_bytes()),
        DataType::Boolean => out.push(0),
        // 2000-01-01, PostgreSQL's own epoch.
        DataType::Date => out.extend_from_slice(&0i32.to_be_bytes()),
        DataType::Time | DataType::Timestamp | DataType::Timestamptz => {
            out.extend_from_slice(&0i64.to_be_bytes())
        }
        DataType::Interval | DataType::Uuid => out.extend_from_slice(&[0; 16]),
        DataType::Bytea => {}
        DataType::Json | DataType::Jsonb => out.extend_from_slice(b"{}"),
        DataType::Inet => out.extend_from_slice(&[2, 32, 0, 4, 0, 0, 0, 0]),
    }
}
