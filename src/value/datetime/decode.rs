//! Tokens → a date, a time, a zone: PostgreSQL's reading of them (`datetime.c` `DecodeDateTime`, `DecodeTimeOnly`).
//!
//! Guarantees: what is accepted is read as PostgreSQL reads it. Deliberately refused though PostgreSQL knows them:
//! Julian days, the `DST` modifier, relative words, abbreviations that are not in the table of `zone`.

use super::calendar::{days_from_civil, days_in_month};
use super::zone::Zone;
use super::{Bad, Order};
use crate::value::token::{Keyword, Kind, Token, keyword};

/// What a date or timestamp text says.
pub(super) enum Moment {
    Infinite {
        future: bool,
    },
    Epoch,
    At {
        /// From 2000-01-01.
        days: i64,
        /// After midnight; a day and more for `24:00`.
        micros: i64,
        zone: Option<Zone>,
    },
}

// What has been seen, as a set.
const YEAR: u32 = 1;
const MONTH: u32 = 1 << 1;
const DAY: u32 = 1 << 2;
const DATE: u32 = YEAR | MONTH | DAY;
const YEAR_MONTH: u32 = YEAR | MONTH;
const MONTH_DAY: u32 = MONTH | DAY;
const DAY_OF_YEAR: u32 = 1 << 3;
const TIME: u32 = 1 << 4;
const ZONE: u32 = 1 << 5;
const HALF: u32 = 1 << 6;
const ERA: u32 = 1 << 7;
const WEEKDAY: u32 = 1 << 8;

/// What has been read so far.
struct Fields {
    order: Order,
    seen: u32,
    year: i64,
    month: i64,
    day: i64,
    day_of_year: Option<i64>,
    /// The year had one or two digits.
    short_year: bool,
    month_by_name: bool,
    before_christ: bool,
    time: Time,
    afternoon: Option<bool>,
    zone: Option<Zone>,
    /// A zone given by name counts only together with a date.
    zone_by_name: bool,
}

#[derive(Clone, Copy, Default)]
struct Time {
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
}

impl Time {
    /// Microseconds after midnight.
    fn total(self) -> i64 {
        ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micros
    }

    /// At most a day (`time_overflows`).
    fn check(self) -> Result<(), Bad> {
        let fits =
            self.minute <= 59 && self.second <= 60 && self.hour <= 24 && self.total() <= super::MICROS_DAY;
        if fits { Ok(()) } else { Err(Bad::Field) }
    }
}

impl Fields {
    fn new(order: Order) -> Fields {
        Fields {
            order,
            seen: 0,
            year: 0,
            month: 0,
            day: 0,
            day_of_year: None,
            short_year: false,
            month_by_name: false,
            before_christ: false,
            time: Time::default(),
            afternoon: None,
            zone: None,
            zone_by_name: false,
        }
    }

    /// Notes that something was read; twice the same is an error.
    fn note(&mut self, what: u32) -> Result<(), Bad> {
        if self.seen & what != 0 {
            return Err(Bad::Format);
        }
        self.seen |= what;
        Ok(())
    }
}

/// A date or timestamp.
pub(super) fn moment(tokens: &[Token], order: Order) -> Result<Moment, Bad> {
    match tokens {
        [only] if matches!(only.kind, Kind::Word | Kind::Special) => match keyword(&only.text) {
            Some(Keyword::Infinity { future }) => return Ok(Moment::Infinite { future }),
            Some(Keyword::Epoch) => return Ok(Moment::Epoch),
            _ => {}
        },
        _ => {}
    }
    let mut fields = Fields::new(order);
    let mut iso_time = false;
    for (index, token) in tokens.iter().enumerate() {
        let what = match token.kind {
            Kind::Date if iso_time => time_and_zone(&token.text, &mut fields)?,
            Kind::Date if fields.seen & (MONTH | DAY) == MONTH | DAY => {
                if token.text.starts_with(|c: char| c.is_ascii_digit()) {
                    time_and_zone(&token.text, &mut fields)?
                } else {
                    named_zone(&token.text, &mut fields)?
                }
            }
            Kind::Date => date(&token.text, &mut fields)?,
            Kind::Time => {
                let what = clock(&token.text, &mut fields)?;
                // PostgreSQL checks here, and does not where a time is run together: 99:99:99 is a time.
                fields.time.check()?;
                what
            }
            Kind::Signed if iso_time => return Err(Bad::Format),
            Kind::Signed => offset(&token.text, &mut fields)?,
            Kind::Number if iso_time => match run_together(&token.text, DATE, &mut fields)? {
                TIME => TIME,
                _ => return Err(Bad::Format),
            },
            Kind::Number => bare_number(&token.text, &mut fields)?,
            Kind::Word | Kind::Special => {
                if keyword(&token.text) == Some(Keyword::IsoTime) {
                    let next = tokens.get(index + 1).map(|next| next.kind);
                    let timely = matches!(next, Some(Kind::Number | Kind::Time | Kind::Date));
                    if iso_time || fields.seen & DATE != DATE || !timely {
                        return Err(Bad::Format);
                    }
                    iso_time = true;
                    continue;
                }
                word(&token.text, &mut fields)?
            }
        };
        iso_time = false;
        fields.note(what)?;
    }
    finish(fields)
}

fn finish(mut fields: Fields) -> Result<Moment, Bad> {
    validate(&mut fields)?;
    let micros = with_half(&fields)?.total();
    if fields.seen & DATE != DATE {
        return Err(Bad::Format);
    }
    Ok(Moment::At { days: days_from_civil(fields.year, fields.month, fields.day), micros, zone: fields.zone })
}

/// A time of day. A date and a zone may stand with it and do not matter.
pub(super) fn time(tokens: &[Token], order: Order) -> Result<i64, Bad> {
    let mut fields = Fields::new(order);
    let last_is_zone = tokens.last().is_some_and(|last| last.kind == Kind::Date);
    let date_leads =
        tokens.get(1).is_some_and(|second| second.kind == Kind::Time) || (tokens.len() > 1 && last_is_zone);
    let mut iso_time = false;
    for (index, token) in tokens.iter().enumerate() {
        let digit = token.text.starts_with(|c: char| c.is_ascii_digit());
        let what = match token.kind {
            Kind::Date if index == 0 && date_leads => date(&token.text, &mut fields)?,
            Kind::Date if digit => time_and_zone(&token.text, &mut fields)?,
            Kind::Date => named_zone(&token.text, &mut fields)?,
            Kind::Time => clock(&token.text, &mut fields)?,
            Kind::Signed if iso_time => return Err(Bad::Format),
            Kind::Signed => offset(&token.text, &mut fields)?,
            Kind::Number => run_together(&token.text, DATE, &mut fields)?,
            Kind::Word | Kind::Special => {
                if keyword(&token.text) == Some(Keyword::IsoTime) {
                    let next = tokens.get(index + 1).map(|next| next.kind);
                    if iso_time || !matches!(next, Some(Kind::Number | Kind::Time | Kind::Date)) {
                        return Err(Bad::Format);
                    }
                    iso_time = true;
                    continue;
                }
                word(&token.text, &mut fields)?
            }
        };
        iso_time = false;
        fields.note(what)?;
    }
    validate(&mut fields)?;
    let time = with_half(&fields)?;
    time.check()?;
    let dated = fields.seen & DATE == DATE;
    if fields.seen & TIME == 0 || (fields.zone_by_name && !dated) {
        return Err(Bad::Format);
    }
    Ok(time.total())
}

/// `AM` and `PM` over an hour up to 12.
fn with_half(fields: &Fields) -> Result<Time, Bad> {
    let mut time = fields.time;
    match fields.afternoon {
        Some(_) if time.hour > 12 => return Err(Bad::Field),
        Some(false) if time.hour == 12 => time.hour = 0,
        Some(true) if time.hour != 12 => time.hour += 12,
        _ => {}
    }
    Ok(time)
}

/// Years of few digits and before Christ, the day of the year, and the ranges (`ValidateDate`).
fn validate(fields: &mut Fields) -> Result<(), Bad> {
    if fields.seen & YEAR != 0 {
        if fields.before_christ {
            if fields.year <= 0 {
                return Err(Bad::Field);
            }
            fields.year = 1 - fields.year;
        } else if fields.short_year {
            fields.year += if fields.year < 70 { 2000 } else { 1900 };
        } else if fields.year <= 0 {
            return Err(Bad::Field);
        }
    }
    if let Some(day_of_year) = fields.day_of_year {
        let days = days_from_civil(fields.year, 1, 1) + day_of_year - 1;
        (fields.year, fields.month, fields.day) = super::civil_from_days(days);
    }
    let month_fits = fields.seen & MONTH == 0 || (1..=12).contains(&fields.month);
    let day_fits = fields.seen & DAY == 0 || (1..=31).contains(&fields.day);
    let whole = fields.seen & DATE == DATE;
    if !month_fits || !day_fits || (whole && fields.day > days_in_month(fields.year, fields.month)) {
        return Err(Bad::Field);
    }
    Ok(())
}

/// Letters: months, days, halves, eras, zones.
fn word(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    // Abbreviations of zones come before all other meanings.
    if let Some(zone) = Zone::abbreviated(text) {
        fields.zone = Some(zone);
        return Ok(ZONE);
    }
    match keyword(text) {
        Some(Keyword::Ignored) => Ok(0),
        Some(Keyword::DayOfWeek) => Ok(WEEKDAY),
        Some(Keyword::Am) => {
            fields.afternoon = Some(false);
            Ok(HALF)
        }
        Some(Keyword::Pm) => {
            fields.afternoon = Some(true);
            Ok(HALF)
        }
        Some(Keyword::Ad) => Ok(ERA),
        Some(Keyword::Bc) => {
            fields.before_christ = true;
            Ok(ERA)
        }
        Some(Keyword::Month(month)) => {
            // A number before it that was taken for the month was the day.
            let moved = fields.seen & (MONTH | DAY) == MONTH
                && !fields.month_by_name
                && (1..=31).contains(&fields.month);
            if moved {
                fields.day = fields.month;
            }
            fields.month_by_name = true;
            fields.month = month;
            Ok(if moved { DAY } else { MONTH })
        }
        Some(Keyword::Relative) => Err(Bad::Relative),
        Some(_) => Err(Bad::Format),
        None => named_zone(text, fields).map_err(|_| Bad::Format),
    }
}

fn named_zone(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    fields.zone = Some(Zone::named(text).ok_or(Bad::Zone)?);
    fields.zone_by_name = true;
    Ok(ZONE)
}

/// `HH:MM[:SS[.f]]`; with a point after the second field, `MM:SS.f`.
fn clock(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    let (digits, fraction) = text.split_once('.').map_or((text, None), |(d, f)| (d, Some(f)));
    let parts = digits.split(':').map(integer).collect::<Result<Vec<_>, _>>()?;
    let micros = fraction.map_or(Ok(0), micros_of_fraction)?;
    let (hour, minute, second) = match (parts.as_slice(), fraction) {
        ([hour, minute, second], _) => (*hour, *minute, *second),
        ([hour, minute], None) => (*hour, *minute, 0),
        ([minute, second], Some(_)) => (0, *minute, *second),
        _ => return Err(Bad::Format),
    };
    fields.time = Time { hour, minute, second, micros };
    if minute > 59 || second > 60 { Err(Bad::Field) } else { Ok(TIME) }
}

/// Decimal digits that fit C's `int`.
fn integer(text: &str) -> Result<i64, Bad> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Bad::Format);
    }
    text.parse::<i32>().map(i64::from).map_err(|_| Bad::Field)
}

/// The digits after the point, rounded as PostgreSQL rounds them: a double, to even.
pub(super) fn micros_of_fraction(digits: &str) -> Result<i64, Bad> {
    if digits.is_empty() {
        return Ok(0);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Bad::Format);
    }
    let fraction: f64 = format!("0.{digits}").parse().map_err(|_| Bad::Format)?;
    Ok((fraction * 1e6).round_ties_even() as i64)
}

/// `±HH[:MM[:SS]]` or `±HHMM` (`DecodeTimezone`).
fn offset(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    let (sign, digits) = text.split_at_checked(1).ok_or(Bad::Format)?;
    let parts = digits.split(':').map(integer).collect::<Result<Vec<_>, _>>();
    let parts = parts.map_err(|bad| if bad == Bad::Field { Bad::Displacement } else { bad })?;
    let (hour, minute, second) = match parts.as_slice() {
        [together] if digits.len() > 2 => (together / 100, together % 100, 0),
        [hour] => (*hour, 0, 0),
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return Err(Bad::Format),
    };
    if hour > 15 || minute > 59 || second > 59 {
        return Err(Bad::Displacement);
    }
    let seconds = (hour * 60 + minute) * 60 + second;
    fields.zone = Some(Zone::Offset(if sign == "-" { -seconds } else { seconds }));
    Ok(ZONE)
}

/// `040506-08`: a time run together, and a zone.
fn time_and_zone(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    let at = text.find('-').ok_or(Bad::Format)?;
    let (time, zone) = text.split_at(at);
    if fields.seen & TIME != 0 {
        return Err(Bad::Format);
    }
    let zone = offset(zone, fields)?;
    Ok(zone | run_together(time, fields.seen | DATE, fields)?)
}

/// A number that stands alone in a date or timestamp.
fn bare_number(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    let whole = text.find('.');
    match whole {
        Some(_) if fields.seen & DATE == 0 => date(text, fields),
        Some(digits) if digits > 2 => run_together(text, fields.seen, fields),
        None if text.len() >= 6 && (fields.seen & DATE == 0 || fields.seen & TIME == 0) => {
            run_together(text, fields.seen, fields)
        }
        _ => number(text, fields.month_by_name, fields.seen, fields),
    }
}

/// `YYYYMMDD`, `YYMMDD`, `HHMMSS[.f]`, `HHMM` (`DecodeNumberField`).
fn run_together(text: &str, seen: u32, fields: &mut Fields) -> Result<u32, Bad> {
    let (digits, fraction) = text.split_once('.').map_or((text, None), |(d, f)| (d, Some(f)));
    let part = |from: usize, to: usize| digits.get(from..to).ok_or(Bad::Format).and_then(integer);
    let length = digits.len();
    if fraction.is_none() && seen & DATE != DATE && length >= 6 {
        fields.year = part(0, length - 4)?;
        fields.month = part(length - 4, length - 2)?;
        fields.day = part(length - 2, length)?;
        fields.short_year = length == 6;
        return Ok(DATE);
    }
    if seen & TIME == 0 && matches!(length, 4 | 6) {
        let micros = fraction.map_or(Ok(0), micros_of_fraction)?;
        let second = if length == 6 { part(4, 6)? } else { 0 };
        fields.time = Time { hour: part(0, 2)?, minute: part(2, 4)?, second, micros };
        return Ok(TIME);
    }
    Err(Bad::Format)
}

/// `1999-01-08`, `8-Jan-1999`, `1/8/1999`, `1999.008` (`DecodeDate`).
fn date(text: &str, fields: &mut Fields) -> Result<u32, Bad> {
    let mut by_name = false;
    let mut numbers = vec![];
    let mut found = 0;
    for part in text
        .trim_start_matches(|c: char| !c.is_ascii_alphanumeric())
        .split(|c: char| !c.is_ascii_alphanumeric())
    {
        if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
            numbers.push(part);
        } else if let Some(Keyword::Month(month)) = keyword(part)
            && !by_name
        {
            by_name = true;
            fields.month = month;
            found |= MONTH;
        } else {
            return Err(Bad::Format);
        }
    }
    if fields.seen & found != 0 {
        return Err(Bad::Format);
    }
    for part in numbers {
        let what = number(part, by_name, fields.seen | found, fields)?;
        if (fields.seen | found) & what != 0 {
            return Err(Bad::Format);
        }
        found |= what;
    }
    // Nothing but a zone may have come before.
    if (fields.seen | found) & !(DAY_OF_YEAR | ZONE) != DATE {
        return Err(Bad::Format);
    }
    Ok(found)
}

/// One number of a date; what it is depends on what came before (`DecodeNumber`).
fn number(text: &str, by_name: bool, seen: u32, fields: &mut Fields) -> Result<u32, Bad> {
    let value = integer(text)?;
    let long = text.len() >= 3;
    if text.len() == 3 && seen & DATE == YEAR && (1..=366).contains(&value) {
        fields.day_of_year = Some(value);
        return Ok(DAY_OF_YEAR | MONTH | DAY);
    }
    let what = match (seen & DATE, by_name) {
        (0, _) => match fields.order {
            _ if long => YEAR,
            Order::Ymd => YEAR,
            Order::Dmy => DAY,
            Order::Mdy => MONTH,
        },
        (YEAR, _) => MONTH,
        (MONTH, true) if long || fields.order == Order::Ymd => YEAR,
        (MONTH, _) => DAY,
        (YEAR_MONTH, true) if long && fields.short_year => {
            // The first number was the day after all: 8-Jan-1999 in YMD order.
            fields.day = fields.year;
            fields.year = value;
            fields.short_year = false;
            return Ok(DAY);
        }
        (YEAR_MONTH, _) => DAY,
        (DAY, _) => MONTH,
        (MONTH_DAY, _) => YEAR,
        (DATE, _) => return run_together(text, seen, fields),
        _ => return Err(Bad::Format),
    };
    match what {
        YEAR => {
            fields.year = value;
            fields.short_year = text.len() <= 2;
        }
        MONTH => fields.month = value,
        _ => fields.day = value,
    }
    Ok(what)
}
