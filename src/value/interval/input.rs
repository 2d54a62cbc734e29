//! Interval input: PostgreSQL's units, SQL's `Y-M D H:M:S`, and ISO 8601 durations (`datetime.c` `DecodeInterval`,
//! `DecodeISO8601Interval`). Absent: ISO 8601's alternative form without designators.

use super::{Parts, out_of_range, wrong};
use crate::value::token::{self, Keyword, Kind, Token};
use crate::value::{Style, ValueError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    /// So many years.
    Years(i64),
    /// What `ago` leaves to a number before it: nothing that it could count.
    Ago,
}

/// `deltatktbl`; words are compared up to ten characters.
fn unit(word: &str) -> Option<Unit> {
    Some(match word.get(..10).unwrap_or(word) {
        "us" | "usec" | "usecond" | "useconds" | "usecs" | "microsecon" => Unit::Microsecond,
        "ms" | "msec" | "msecond" | "mseconds" | "msecs" | "millisecon" => Unit::Millisecond,
        "s" | "sec" | "second" | "seconds" | "secs" => Unit::Second,
        "m" | "min" | "minute" | "minutes" | "mins" => Unit::Minute,
        "h" | "hour" | "hours" | "hr" | "hrs" => Unit::Hour,
        "d" | "day" | "days" => Unit::Day,
        "w" | "week" | "weeks" => Unit::Week,
        "mon" | "mons" | "month" | "months" => Unit::Month,
        "y" | "year" | "years" | "yr" | "yrs" => Unit::Years(1),
        "dec" | "decade" | "decades" | "decs" => Unit::Years(10),
        "c" | "cent" | "centuries" | "century" => Unit::Years(100),
        "mil" | "millennia" | "millennium" | "mils" => Unit::Years(1000),
        _ => return None,
    })
}

const MICROS_SECOND: i64 = 1_000_000;
const MICROS_DAY: f64 = 86_400e6;

/// A sum in the making; years apart from months, as they overflow apart.
#[derive(Default)]
struct Sum {
    years: i32,
    months: i32,
    days: i32,
    micros: i64,
}

/// Why an interval is not read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bad {
    Format,
    Range,
}

impl Sum {
    fn micros(&mut self, value: i64, fraction: f64, scale: i64) -> Result<(), Bad> {
        let whole = value.checked_mul(scale).and_then(|micros| self.micros.checked_add(micros));
        self.micros = whole.ok_or(Bad::Range)?;
        self.part_of(fraction, scale as f64)
    }

    /// Adds a fraction of `scale` microseconds, the last rounded half away from zero.
    fn part_of(&mut self, fraction: f64, scale: f64) -> Result<(), Bad> {
        let product = fraction * scale;
        let whole = product.trunc();
        let left = product - whole;
        let rounded = if left > 0.5 {
            1
        } else if left < -0.5 {
            -1
        } else {
            0
        };
        self.micros = self.micros.checked_add(whole as i64 + rounded).ok_or(Bad::Range)?;
        Ok(())
    }

    fn days(&mut self, value: i64, scale: i32) -> Result<(), Bad> {
        let days = i32::try_from(value).ok().and_then(|value| value.checked_mul(scale));
        self.days = days.and_then(|days| self.days.checked_add(days)).ok_or(Bad::Range)?;
        Ok(())
    }

    /// Adds a fraction of `scale` days: whole days, and the rest as time.
    fn part_of_days(&mut self, fraction: f64, scale: f64) -> Result<(), Bad> {
        let product = fraction * scale;
        let whole = product.trunc();
        self.days(whole as i64, 1)?;
        self.part_of(product - whole, MICROS_DAY)
    }

    fn add(&mut self, value: i64, fraction: f64, unit: Unit) -> Result<(), Bad> {
        match unit {
            Unit::Microsecond => self.micros(value, fraction, 1),
            Unit::Millisecond => self.micros(value, fraction, 1000),
            Unit::Second => self.micros(value, fraction, MICROS_SECOND),
            Unit::Minute => self.micros(value, fraction, 60 * MICROS_SECOND),
            Unit::Hour => self.micros(value, fraction, 3600 * MICROS_SECOND),
            Unit::Day => {
                self.days(value, 1)?;
                self.part_of(fraction, MICROS_DAY)
            }
            Unit::Week => {
                self.days(value, 7)?;
                self.part_of_days(fraction, 7.0)
            }
            Unit::Month => {
                let months = i32::try_from(value).ok().and_then(|value| self.months.checked_add(value));
                self.months = months.ok_or(Bad::Range)?;
                self.part_of_days(fraction, 30.0)
            }
            Unit::Years(scale) => {
                let years = value.checked_mul(scale).and_then(|years| i32::try_from(years).ok());
                self.years = years.and_then(|years| self.years.checked_add(years)).ok_or(Bad::Range)?;
                let months = (fraction * scale as f64 * 12.0).round_ties_even() as i32;
                self.months = self.months.checked_add(months).ok_or(Bad::Range)?;
                Ok(())
            }
            Unit::Ago => Err(Bad::Format),
        }
    }

    fn negate(&mut self) -> Result<(), Bad> {
        self.years = self.years.checked_neg().ok_or(Bad::Range)?;
        self.months = self.months.checked_neg().ok_or(Bad::Range)?;
        self.days = self.days.checked_neg().ok_or(Bad::Range)?;
        self.micros = self.micros.checked_neg().ok_or(Bad::Range)?;
        Ok(())
    }
}

/// `interval_in`: appends the canonical bytes.
pub(in crate::value) fn read_text(
    text: &str,
    style: &Style,
    canonical: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let worded = match token::split(text, 256) {
        Some(tokens) => units(&tokens, style.interval_style == "sql_standard"),
        None => Err(Bad::Format),
    };
    let sum = match worded {
        Err(Bad::Format) => iso_8601(text),
        other => other,
    };
    let sum = sum.map_err(|bad| if bad == Bad::Range { out_of_range() } else { wrong() })?;
    let months = i64::from(sum.years) * 12 + i64::from(sum.months);
    let months = i32::try_from(months).map_err(|_| ValueError::new("22008", "interval out of range"))?;
    Parts { months, days: sum.days, micros: sum.micros }.put(canonical);
    Ok(())
}

/// What one token may be said of once only, as a set.
fn seen(unit: Unit, fraction: f64) -> u32 {
    match unit {
        Unit::Microsecond => 1,
        Unit::Millisecond => 1 << 1,
        // A fraction of a second is micro- and milliseconds as well.
        Unit::Second if fraction != 0.0 => 1 | 1 << 1 | 1 << 2,
        Unit::Second => 1 << 2,
        Unit::Minute => 1 << 3,
        Unit::Hour => 1 << 4,
        Unit::Day => 1 << 5,
        Unit::Week => 1 << 6,
        Unit::Month => 1 << 7,
        Unit::Years(1) => 1 << 8,
        Unit::Years(10) => 1 << 9,
        Unit::Years(100) => 1 << 10,
        Unit::Years(_) => 1 << 11,
        Unit::Ago => 0,
    }
}

const CLOCK: u32 = 0b11111;

/// Numbers with their units, read from the right, so that a unit is known before its number.
fn units(tokens: &[Token], sql_standard: bool) -> Result<Sum, Bad> {
    // The standard's `-1 2:03:04` is negative throughout, if no other sign is given.
    let signed = |token: &Token| token.text.starts_with(['-', '+']);
    let negative = sql_standard
        && tokens.first().is_some_and(|first| first.text.starts_with('-'))
        && !tokens.iter().skip(1).any(signed);
    let mut sum = Sum::default();
    let mut found = 0;
    let mut current = None;
    let mut ago = false;
    for token in tokens.iter().rev() {
        let what = match token.kind {
            Kind::Word | Kind::Special => {
                if token.text == "ago" {
                    ago = true;
                    current = Some(Unit::Ago);
                } else if let Some(unit) = unit(&token.text) {
                    current = Some(unit);
                } else if token::keyword(&token.text) != Some(Keyword::Ignored) {
                    return Err(Bad::Format);
                }
                continue;
            }
            Kind::Time => {
                let micros = clock(&token.text)?;
                sum.micros = if negative && micros > 0 { -micros } else { micros };
                current = Some(Unit::Day);
                CLOCK
            }
            Kind::Signed if token.text.contains(':') && clock(&token.text[1..]).is_ok() => {
                let micros = clock(&token.text[1..])?;
                sum.micros = if token.text.starts_with('-') { -micros } else { micros };
                current = Some(Unit::Day);
                CLOCK
            }
            Kind::Signed | Kind::Date | Kind::Number => {
                number(&token.text, &mut current, negative, &mut sum)?
            }
        };
        if found & what != 0 {
            return Err(Bad::Format);
        }
        found |= what;
    }
    if found == 0 {
        return Err(Bad::Format);
    }
    if ago {
        sum.negate()?;
    }
    Ok(sum)
}

/// `[±]H:M[:S[.f]]`, hours without limit; with a point after the second field, `M:S.f`.
fn clock(text: &str) -> Result<i64, Bad> {
    let (digits, fraction) = text.split_once('.').map_or((text, None), |(d, f)| (d, Some(f)));
    let mut parts = vec![];
    for part in digits.split(':') {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Bad::Format);
        }
        parts.push(part.parse::<i64>().map_err(|_| Bad::Range)?);
    }
    let micros = match fraction {
        Some("") | None => 0,
        Some(fraction) => (decimal(fraction)? * 1e6).round_ties_even() as i64,
    };
    let (hour, minute, second) = match (parts.as_slice(), fraction) {
        ([hour, minute, second], _) => (*hour, *minute, *second),
        ([hour, minute], None) => (*hour, *minute, 0),
        ([minute, second], Some(_)) => (0, *minute, *second),
        _ => return Err(Bad::Format),
    };
    if minute > 59 || second > 60 {
        return Err(Bad::Range);
    }
    let within = (minute * 60 + second) * MICROS_SECOND + micros;
    hour.checked_mul(3600 * MICROS_SECOND).and_then(|hours| hours.checked_add(within)).ok_or(Bad::Range)
}

/// Digits after a point.
fn decimal(digits: &str) -> Result<f64, Bad> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Bad::Format);
    }
    format!("0.{digits}0").parse().map_err(|_| Bad::Format)
}

/// A number of the unit that stood to its right; without one of seconds. `1-2` is years and months.
fn number(text: &str, current: &mut Option<Unit>, negative: bool, sum: &mut Sum) -> Result<u32, Bad> {
    let (sign, digits) = match text.split_at_checked(1) {
        Some(("-", rest)) => (-1, rest),
        Some(("+", rest)) => (1, rest),
        _ => (1, text),
    };
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (whole, rest) = digits.split_at(end);
    let mut value = if whole.is_empty() { 0 } else { whole.parse::<i64>().map_err(|_| Bad::Range)? * sign };
    let mut fraction = 0.0;
    let mut unit = current.unwrap_or(Unit::Second);
    if let Some(months) = rest.strip_prefix('-') {
        if months.is_empty() || !months.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Bad::Format);
        }
        let months = months.parse::<i64>().ok().filter(|months| *months < 12).ok_or(Bad::Range)?;
        let all = value.checked_mul(12).and_then(|value| value.checked_add(months * sign));
        value = all.ok_or(Bad::Range)?;
        unit = Unit::Month;
        *current = Some(unit);
    } else if let Some(digits) = rest.strip_prefix('.') {
        fraction = decimal(digits)? * f64::from(i32::try_from(sign).unwrap_or(1));
    } else if !rest.is_empty() {
        return Err(Bad::Format);
    }
    if negative {
        value = -value.abs();
        fraction = -fraction.abs();
    }
    sum.add(value, fraction, unit)?;
    if unit == Unit::Hour {
        *current = Some(Unit::Day);
    } else if current.is_none() {
        *current = Some(unit);
    }
    Ok(seen(unit, fraction))
}

/// `P1Y2M3W4DT5H6M7.8S`, in capitals.
fn iso_8601(text: &str) -> Result<Sum, Bad> {
    let mut rest = text.strip_prefix('P').filter(|rest| !rest.is_empty()).ok_or(Bad::Format)?;
    let mut sum = Sum::default();
    let mut time = false;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            time = true;
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic() && c != 'e').ok_or(Bad::Format)?;
        let (number, after) = rest.split_at(end);
        let unit = match (after.as_bytes().first(), time) {
            (Some(b'Y'), false) => Unit::Years(1),
            (Some(b'M'), false) => Unit::Month,
            (Some(b'W'), false) => Unit::Week,
            (Some(b'D'), false) => Unit::Day,
            (Some(b'H'), true) => Unit::Hour,
            (Some(b'M'), true) => Unit::Minute,
            (Some(b'S'), true) => Unit::Second,
            _ => return Err(Bad::Format),
        };
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'e'));
        let value: f64 = number.parse().ok().filter(|_| plain).ok_or(Bad::Format)?;
        if !(-1e15..=1e15).contains(&value) {
            return Err(Bad::Range);
        }
        sum.add(value.trunc() as i64, value.fract(), unit)?;
        rest = after.get(1..).unwrap_or_default();
    }
    Ok(sum)
}
