//! What each mask shows of a value. Works on canonical bytes and keeps the value's logical type.
//!
//! | mask | fits | shows |
//! |---|---|---|
//! | `redact` | every type | nothing of the value: `***`, 0, 2000-01-01, midnight, `false`, `{}`, `0.0.0.0`, no bytes |
//! | `partial` | text | first and last character around `***`; all of three characters or fewer hidden |
//! | `email` | text | `a***@e***.com`; as `redact` when it is no address in a domain of letters |
//! | `card` | text | `**** **** **** 1234`; as `redact` with fewer than 12 digits |
//! | `year` | date, timestamp, timestamptz | January 1st of the year, for timestamptz of the year in UTC |
//! | `hash` | text, uuid, bytea | a keyed fingerprint: equal values look equal |
//!
//! The number of characters never shows. Of sealed columns [`Mask::apply`] makes the mask, of guarded clear ones the
//! server does ([`Mask::sql`]); a test holds the two to each other. Deliberately absent: random noise, which averages
//! away.

use super::Mask;
use crate::value::{DataType, start_of_year};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const HIDDEN: &str = "***";
const HIDDEN_DOT: &str = "***.";

impl Mask {
    /// Whether the mask can be shown as `data_type` (a partial text mask of an integer cannot).
    pub fn fits(&self, data_type: &DataType) -> bool {
        let text = matches!(data_type, DataType::Text | DataType::Varchar(_));
        match self {
            Mask::Redact => true,
            Mask::Partial | Mask::Email | Mask::Card => text,
            Mask::Year => matches!(data_type, DataType::Date | DataType::Timestamp | DataType::Timestamptz),
            Mask::Hash => text || matches!(data_type, DataType::Uuid | DataType::Bytea),
        }
    }

    /// Appends the canonical bytes of the masked value. `fingerprint_key` is for `hash`.
    /// `None` when the mask does not fit the type: nothing may be shown then.
    pub fn apply(
        &self,
        data_type: &DataType,
        canonical: &[u8],
        fingerprint_key: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        let text = || std::str::from_utf8(canonical).ok();
        match self {
            _ if !self.fits(data_type) => return None,
            Mask::Redact => redacted(data_type, out),
            Mask::Partial => put(data_type, &partial(text()?), out),
            Mask::Email => put(data_type, &email(text()?), out),
            Mask::Card => card(text()?, data_type, out),
            Mask::Year => start_of_year(*data_type, canonical, out)?,
            Mask::Hash => hash(data_type, canonical, fingerprint_key, out)?,
        }
        Some(())
    }

    /// As [`apply`](Self::apply), for canonical bytes that are known to be of the type: what is hidden need not be looked at.
    pub fn apply_to_valid(
        &self,
        data_type: &DataType,
        canonical: &[u8],
        fingerprint_key: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<()> {
        // More than three characters, however long each is.
        const SURELY_FOUR: usize = 13;
        match (self, data_type, canonical) {
            (Mask::Partial, DataType::Text | DataType::Varchar(None), [first, .., last])
                if canonical.len() >= SURELY_FOUR && first.is_ascii() && last.is_ascii() =>
            {
                out.extend_from_slice(&[*first, b'*', b'*', b'*', *last]);
                Some(())
            }
            _ => self.apply(data_type, canonical, fingerprint_key, out),
        }
    }

    /// The same mask as an SQL expression over `column` (already quoted), of the logical type, for guarded clear columns.
    /// `None` when SQL cannot express it (`hash`) or it does not fit.
    pub fn sql(&self, data_type: &DataType, column: &str) -> Option<String> {
        if !self.fits(data_type) {
            return None;
        }
        let shown = match self {
            Mask::Redact => {
                let constant = redacted_sql(data_type);
                format!("CASE WHEN {column} IS NOT NULL THEN '{constant}'::{} END", data_type.sql())
            }
            Mask::Partial => format!(
                "CASE WHEN pg_catalog.length({column}) OPERATOR(pg_catalog.<=) 3 THEN '{HIDDEN}' \
                 WHEN {column} IS NOT NULL THEN pg_catalog.left({column}, 1) OPERATOR(pg_catalog.||) '{HIDDEN}' \
                 OPERATOR(pg_catalog.||) pg_catalog.right({column}, 1) END"
            ),
            Mask::Email => format!(
                "CASE WHEN {column} OPERATOR(pg_catalog.~) '{EMAIL}' \
                 THEN pg_catalog.regexp_replace({column}, '{EMAIL}', '\\1{HIDDEN}@\\2{HIDDEN}\\3') \
                 WHEN {column} IS NOT NULL THEN '{HIDDEN}' END"
            ),
            Mask::Card => {
                let digits = format!("pg_catalog.regexp_replace({column}, '[^0-9]', '', 'g')");
                format!(
                    "CASE WHEN pg_catalog.length({digits}) OPERATOR(pg_catalog.>=) 12 \
                     THEN '**** **** **** ' OPERATOR(pg_catalog.||) pg_catalog.right({digits}, 4) \
                     WHEN {column} IS NOT NULL THEN '{HIDDEN}' END"
                )
            }
            Mask::Year => year_sql(data_type, column),
            Mask::Hash => return None,
        };
        Some(format!("({shown})::{}", data_type.sql()))
    }
}

/// What `email` takes for an address, for PostgreSQL; [`email`] reads the same. One expression tests and replaces:
/// `regexp_replace` gives back whole what does not match.
const EMAIL: &str = "^([^@])[^@]*@([^@.])[^@]*([.][A-Za-z]{2,24})$";

/// The first year of PostgreSQL's calendar has no January, and infinity no year.
fn year_sql(data_type: &DataType, column: &str) -> String {
    let own = data_type.sql();
    let first_day = match data_type {
        DataType::Date => format!("pg_catalog.make_date(EXTRACT(YEAR FROM {column})::integer, 1, 1)"),
        DataType::Timestamptz => format!("pg_catalog.date_trunc('year', {column}, 'UTC')"),
        _ => format!("pg_catalog.date_trunc('year', {column})"),
    };
    let zone = if *data_type == DataType::Timestamptz { "+00" } else { "" };
    let midnight = if *data_type == DataType::Date { "" } else { " 00:00:00" };
    format!(
        "CASE WHEN NOT pg_catalog.isfinite({column}) THEN {column} \
         WHEN {column} OPERATOR(pg_catalog.<) '4713-01-01{midnight}{zone} BC'::{own} \
         THEN '4714-11-24{midnight}{zone} BC'::{own} ELSE {first_day} END"
    )
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

/// The literal of the same value.
fn redacted_sql(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Text | DataType::Varchar(_) => HIDDEN,
        DataType::Boolean => "false",
        DataType::Date => "2000-01-01",
        DataType::Time => "00:00:00",
        DataType::Timestamp => "2000-01-01 00:00:00",
        DataType::Timestamptz => "2000-01-01 00:00:00+00",
        DataType::Uuid => "00000000-0000-0000-0000-000000000000",
        DataType::Bytea => "",
        DataType::Json | DataType::Jsonb => "{}",
        DataType::Inet => "0.0.0.0",
        DataType::Smallint
        | DataType::Integer
        | DataType::Bigint
        | DataType::Numeric(_)
        | DataType::Real
        | DataType::DoublePrecision
        | DataType::Interval => "0",
    }
}

/// The first character, and what comes after it.
fn first(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.chars().next()?.len_utf8())
}

fn partial(text: &str) -> [&str; 3] {
    let ends = || {
        let (first, rest) = first(text)?;
        let last = rest.chars().next_back()?.len_utf8();
        rest.chars().nth(2)?;
        Some([first, HIDDEN, rest.get(rest.len() - last..)?])
    };
    ends().unwrap_or([HIDDEN, "", ""])
}

fn email(text: &str) -> [&str; 6] {
    let parts = || {
        let (local, domain) = text.split_once('@')?;
        let (host, top) = domain.rsplit_once('.')?;
        // A longer top could be anything, and it is shown.
        let plain = (2..=24).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_alphabetic());
        let (host, _) = first(host).filter(|(first, _)| *first != "." && !domain.contains('@'))?;
        Some([first(local)?.0, HIDDEN, "@", host, HIDDEN_DOT, top]).filter(|_| plain)
    };
    parts().unwrap_or([HIDDEN, "", "", "", "", ""])
}

fn card(text: &str, data_type: &DataType, out: &mut Vec<u8>) {
    let (mut last, mut count) = ([0; 4], 0);
    for digit in text.bytes().filter(u8::is_ascii_digit) {
        last.rotate_left(1);
        last[3] = digit;
        count += 1;
    }
    match std::str::from_utf8(&last) {
        Ok(last) if count >= 12 => put(data_type, &["**** **** **** ", last], out),
        _ => put(data_type, &[HIDDEN], out),
    }
}

fn hash(data_type: &DataType, canonical: &[u8], key: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
    mac.update(canonical);
    let digest = mac.finalize().into_bytes();
    match data_type {
        DataType::Uuid => out.extend_from_slice(digest.get(..16)?),
        DataType::Bytea => out.extend_from_slice(&digest),
        _ => {
            let mut room = [0; 16];
            put(data_type, &[faster_hex::hex_encode(digest.get(..8)?, &mut room).ok()?], out);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(mask: Mask, value: &str) -> String {
        let mut out = vec![];
        mask.apply(&DataType::Text, value.as_bytes(), b"key", &mut out).expect("fits text");
        String::from_utf8(out).expect("masks of text are text")
    }

    #[test]
    fn masks_of_text() {
        let cases = [
            (Mask::Partial, "Annabelle", "A***e"),
            (Mask::Partial, "Ann", "***"),
            (Mask::Partial, "", "***"),
            (Mask::Email, "anna@example.org", "a***@e***.org"),
            (Mask::Email, "not an address", "***"),
            (Mask::Email, "a@b@c.org", "***"),
            (Mask::Email, "anna@.com", "***"),
            (Mask::Card, "4111-1111-1111-1234", "**** **** **** 1234"),
            (Mask::Card, "1234", "***"),
            (Mask::Redact, "anything", "***"),
        ];
        for (mask, value, expected) in cases {
            assert_eq!(shown(mask, value), expected, "{mask:?}");
        }
    }

    #[test]
    fn what_is_valid_is_masked_alike() {
        let letters = ["a", "ä", "€", "😀", "@", ".", "1"];
        for length in 0..16 {
            for (first, last) in letters.iter().flat_map(|first| letters.map(|last| (first, last))) {
                let middles = letters.map(|middle| middle.repeat(length));
                for value in middles.map(|middle| format!("{first}{middle}{last}")) {
                    for data_type in [DataType::Text, DataType::Varchar(None), DataType::Varchar(Some(4))] {
                        let (mut checked, mut valid) = (vec![], vec![]);
                        let value = value.as_bytes();
                        Mask::Partial.apply(&data_type, value, b"", &mut checked).expect("fits");
                        Mask::Partial.apply_to_valid(&data_type, value, b"", &mut valid).expect("fits");
                        assert_eq!(checked, valid);
                    }
                }
            }
        }
    }

    #[test]
    fn a_mask_keeps_to_the_columns_length() {
        let mut out = vec![];
        Mask::Card.apply(&DataType::Varchar(Some(4)), b"4111111111111234", b"", &mut out).expect("fits");
        assert_eq!(out, b"****");
    }

    #[test]
    fn equal_values_hash_alike_under_one_key_only() {
        assert_eq!(shown(Mask::Hash, "x"), shown(Mask::Hash, "x"));
        assert_ne!(shown(Mask::Hash, "x"), shown(Mask::Hash, "y"));
        let mut other = vec![];
        Mask::Hash.apply(&DataType::Text, b"x", b"other key", &mut other).expect("fits");
        assert_ne!(shown(Mask::Hash, "x").as_bytes(), other);
    }
}
