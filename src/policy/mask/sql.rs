//! Masks as SQL expressions, for guarded clear columns. No expression holds a key.

use super::HIDDEN;
use super::text::{
    IBAN_BETWEEN, PHONE_BEFORE, PHONE_DIGITS_LEAST, PHONE_SHOWN, card_between, card_digits_least,
};
use crate::policy::form::{Ends, Mask};
use crate::value::{DataType, Period};

impl Mask {
    /// The same mask as an SQL expression over `column` (already quoted), of the logical type, for guarded clear columns.
    /// `None` when SQL cannot express it (it is keyed) or it does not fit.
    pub fn sql(&self, data_type: &DataType, column: &str) -> Option<String> {
        if !self.fits(data_type) {
            return None;
        }
        let own = data_type.sql();
        let shown = match self {
            Mask::Redact => constant(redacted(data_type), &own, column),
            Mask::Zero => constant("0", &own, column),
            Mask::Partial(ends) => partial(*ends, column),
            Mask::Email => format!(
                "CASE WHEN {column} OPERATOR(pg_catalog.~) '{EMAIL}' \
                 THEN pg_catalog.regexp_replace({column}, '{EMAIL}', '\\1{HIDDEN}@\\2{HIDDEN}\\3') \
                 WHEN {column} IS NOT NULL THEN '{HIDDEN}' END"
            ),
            Mask::Card(ends) => card(*ends, column),
            Mask::Iban => {
                let squeezed = format!("pg_catalog.replace({column}, ' ', '')");
                format!(
                    "CASE WHEN {squeezed} OPERATOR(pg_catalog.~) '{IBAN}' \
                     THEN pg_catalog.left({squeezed}, 2) OPERATOR(pg_catalog.||) '{IBAN_BETWEEN}' \
                     OPERATOR(pg_catalog.||) pg_catalog.right({squeezed}, 4) \
                     WHEN {column} IS NOT NULL THEN '{HIDDEN}' END"
                )
            }
            Mask::Phone => {
                let shown = [format!("'{PHONE_BEFORE}'"), last(&digits(column), PHONE_SHOWN)];
                with_digits(column, PHONE_DIGITS_LEAST, &shown)
            }
            Mask::Year => start_of(Period::Year, data_type, column),
            Mask::Month => start_of(Period::Month, data_type, column),
            Mask::Bucket(width) => bucket(*width, data_type, column),
            Mask::Hash | Mask::Fake(_) | Mask::Ff1 => return None,
        };
        Some(format!("({shown})::{own}"))
    }
}

/// What `email` takes for an address, for PostgreSQL; [`super::text::email`] reads the same. One expression tests and
/// replaces: `regexp_replace` gives back whole what does not match.
const EMAIL: &str = "^([^@])[^@]*@([^@.])[^@]*([.][A-Za-z]{2,24})$";
/// As [`super::text::iban`].
const IBAN: &str = "^[A-Za-z]{2}[0-9]{2}[A-Za-z0-9]{11,30}$";

fn constant(shown: &str, own: &str, column: &str) -> String {
    format!("CASE WHEN {column} IS NOT NULL THEN '{shown}'::{own} END")
}

fn joined(pieces: &[String]) -> String {
    pieces.join(" OPERATOR(pg_catalog.||) ")
}

fn last(text: &str, count: usize) -> String {
    format!("pg_catalog.right({text}, {count})")
}

fn digits(column: &str) -> String {
    format!("pg_catalog.regexp_replace({column}, '[^0-9]', '', 'g')")
}

/// The pieces where there are so many digits.
fn with_digits(column: &str, least: usize, pieces: &[String]) -> String {
    format!(
        "CASE WHEN pg_catalog.length({}) OPERATOR(pg_catalog.>=) {least} THEN {} \
         WHEN {column} IS NOT NULL THEN '{HIDDEN}' END",
        digits(column),
        joined(pieces)
    )
}

fn partial(ends: Ends, column: &str) -> String {
    let mut pieces = vec![format!("'{HIDDEN}'")];
    if ends.first > 0 {
        pieces.insert(0, format!("pg_catalog.left({column}, {})", ends.first));
    }
    if ends.last > 0 {
        pieces.push(last(column, ends.last.into()));
    }
    format!(
        "CASE WHEN pg_catalog.length({column}) OPERATOR(pg_catalog.<=) {} THEN '{HIDDEN}' \
         WHEN {column} IS NOT NULL THEN {} END",
        2 * ends.shown() - 1,
        joined(&pieces)
    )
}

fn card(ends: Ends, column: &str) -> String {
    let digits = digits(column);
    let first = usize::from(ends.first);
    let mut pieces = match first {
        0 => vec![],
        1..=4 => vec![format!("pg_catalog.left({digits}, {first})")],
        // The second group begins in it.
        _ => vec![
            format!("pg_catalog.left({digits}, 4)"),
            "' '".to_owned(),
            format!("pg_catalog.substr({digits}, 5, {})", first - 4),
        ],
    };
    pieces.push(format!("'{}'", card_between(ends)));
    if ends.last > 0 {
        pieces.push(last(&digits, ends.last.into()));
    }
    with_digits(column, card_digits_least(ends), &pieces)
}

/// The first year and month of PostgreSQL's calendar have no first day, and infinity no year.
fn start_of(period: Period, data_type: &DataType, column: &str) -> String {
    let own = data_type.sql();
    let (unit, month, second) = match period {
        Period::Year => ("year", "1".to_owned(), "4713-01-01"),
        Period::Month => ("month", format!("EXTRACT(MONTH FROM {column})::integer"), "4714-12-01"),
    };
    let first_day = match data_type {
        DataType::Date => {
            format!("pg_catalog.make_date(EXTRACT(YEAR FROM {column})::integer, {month}, 1)")
        }
        DataType::Timestamptz => format!("pg_catalog.date_trunc('{unit}', {column}, 'UTC')"),
        _ => format!("pg_catalog.date_trunc('{unit}', {column})"),
    };
    let zone = if *data_type == DataType::Timestamptz { "+00" } else { "" };
    let midnight = if *data_type == DataType::Date { "" } else { " 00:00:00" };
    format!(
        "CASE WHEN NOT pg_catalog.isfinite({column}) THEN {column} \
         WHEN {column} OPERATOR(pg_catalog.<) '{second}{midnight}{zone} BC'::{own} \
         THEN '4714-11-24{midnight}{zone} BC'::{own} ELSE {first_day} END"
    )
}

/// Division of integers, and the rest of numerics, go towards 0.
fn bucket(width: u32, data_type: &DataType, column: &str) -> String {
    if matches!(data_type, DataType::Numeric(_)) {
        return format!(
            "pg_catalog.trunc({column} OPERATOR(pg_catalog.-) pg_catalog.mod({column}, {width}))"
        );
    }
    format!("{column} OPERATOR(pg_catalog./) {width} OPERATOR(pg_catalog.*) {width}")
}

/// The literal of what `redact` shows.
fn redacted(data_type: &DataType) -> &'static str {
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
