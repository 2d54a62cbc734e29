//! `date`, `time`, `timestamp` and `timestamptz`: DateStyle and TimeZone honoured both ways.
//!
//! Canonical bytes are PostgreSQL's binary forms: days (four bytes) or microseconds (eight) from 2000-01-01, big-endian.
//! Zones come from the time zone database that this build carries, so the same text gives the same bytes wherever the
//! proxy runs. Relative input (`now`, `today`) is refused: there is no clock here, and a sealed value must not depend on
//! when it is read.

mod calendar;
mod decode;
mod print;
mod zone;

use super::token;
use super::{DataType, Malformed, Style, ValueError};
use calendar::{civil_from_days, days_before_month, days_from_civil};
pub(super) use print::append_text;

pub(super) const MICROS_DAY: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_SHIFT: i64 = 10_957;
/// `timestamp.h` `DATETIME_MIN_JULIAN` and `DATE_END_JULIAN`, in days from 2000-01-01.
const DATE_MIN: i64 = -2_451_545;
const DATE_END: i64 = 2_145_031_949;
/// `MIN_TIMESTAMP` and `END_TIMESTAMP`, in microseconds from 2000-01-01.
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// Why a text is not read; each has its own SQLSTATE (`datetime.c` `DateTimeParseError`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bad {
    Format,
    Field,
    Displacement,
    Zone,
    Relative,
}

impl Bad {
    fn error(self, data_type: DataType) -> ValueError {
        match self {
            Bad::Format => {
                ValueError::new("22007", format!("invalid input syntax for type {}", input_name(data_type)))
            }
            Bad::Field => ValueError::new("22008", "date/time field value out of range"),
            Bad::Displacement => ValueError::new("22009", "time zone displacement out of range"),
            Bad::Zone => ValueError::new("22023", "time zone not recognized"),
            Bad::Relative => ValueError::new("22007", "relative date/time input is not supported"),
        }
    }
}

/// Input errors name the type shorter than `format_type` does, except for `timestamptz`.
fn input_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Time => "time",
        DataType::Timestamp => "timestamp",
        other => other.family_name(),
    }
}

fn out_of_range(what: &str) -> ValueError {
    ValueError::new("22008", format!("{what} out of range"))
}

/// Which of three bare numbers is what: the second word of DateStyle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Ymd,
    Dmy,
    Mdy,
}

fn order(style: &Style) -> Order {
    match style.date_style.rsplit([',', ' ']).next() {
        Some("YMD") => Order::Ymd,
        Some("DMY") => Order::Dmy,
        _ => Order::Mdy,
    }
}

/// `date_in`, `time_in`, `timestamp_in`, `timestamptz_in`: appends the canonical bytes.
pub(super) fn read_text(
    data_type: DataType,
    text: &str,
    style: &Style,
    canonical: &mut Vec<u8>,
) -> Result<(), ValueError> {
    if let (DataType::Date, Some(days)) = (data_type, iso_day(text)) {
        canonical.extend_from_slice(&days.to_be_bytes());
        return Ok(());
    }
    let tokens = token::split(text, 153).ok_or_else(|| Bad::Format.error(data_type))?;
    let fail = |bad: Bad| bad.error(data_type);
    if data_type == DataType::Time {
        let time = decode::time(&tokens, order(style)).map_err(fail)?;
        canonical.extend_from_slice(&time.to_be_bytes());
        return Ok(());
    }
    let moment = decode::moment(&tokens, order(style)).map_err(fail)?;
    match data_type {
        DataType::Date => canonical.extend_from_slice(&date(&moment)?.to_be_bytes()),
        _ => canonical.extend_from_slice(&instant(data_type, &moment, style)?.to_be_bytes()),
    }
    Ok(())
}

/// Whether a text has words beyond those that every zone knows the same: a zone's name may be among them.
pub(super) fn names_zone(text: &[u8]) -> bool {
    const NO_ZONE: [&str; 8] = ["t", "z", "bc", "ad", "am", "pm", "infinity", "epoch"];
    let words = text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    words.into_iter().any(|word| !NO_ZONE.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
}

/// `1999-01-08`, which is the same day in every DateStyle: what most dates are, without the detour.
fn iso_day(text: &str) -> Option<i32> {
    let [y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = text.as_bytes() else { return None };
    let number = |digits: &[&u8]| {
        let digit = |sum: i64, byte: &&u8| byte.is_ascii_digit().then(|| sum * 10 + i64::from(**byte - b'0'));
        digits.iter().try_fold(0, digit)
    };
    let (year, month, day) = (number(&[y, yy, yyy, yyyy])?, number(&[m, mm])?, number(&[d, dd])?);
    let is_day =
        year > 0 && (1..=12).contains(&month) && (1..=calendar::days_in_month(year, month)).contains(&day);
    is_day.then(|| days_from_civil(year, month, day)).and_then(|days| i32::try_from(days).ok())
}

fn date(moment: &decode::Moment) -> Result<i32, ValueError> {
    match moment {
        decode::Moment::Infinite { future } => Ok(if *future { i32::MAX } else { i32::MIN }),
        decode::Moment::Epoch => i32::try_from(-EPOCH_SHIFT).map_err(|_| out_of_range("date")),
        decode::Moment::At { days, .. } => valid_date(*days),
    }
}

fn valid_date(days: i64) -> Result<i32, ValueError> {
    if !(DATE_MIN..DATE_END).contains(&days) {
        return Err(out_of_range("date"));
    }
    i32::try_from(days).map_err(|_| out_of_range("date"))
}

fn instant(data_type: DataType, moment: &decode::Moment, style: &Style) -> Result<i64, ValueError> {
    match moment {
        decode::Moment::Infinite { future } => Ok(if *future { i64::MAX } else { i64::MIN }),
        decode::Moment::Epoch => Ok(-EPOCH_SHIFT * MICROS_DAY),
        decode::Moment::At { days, micros, zone } => {
            let local = i128::from(*days) * i128::from(MICROS_DAY) + i128::from(*micros);
            let local = i64::try_from(local).map_err(|_| out_of_range("timestamp"))?;
            let east = match (data_type, zone) {
                (DataType::Timestamptz, Some(zone)) => zone.offset_of_local(local),
                (DataType::Timestamptz, None) => session_zone(style)?.offset_of_local(local),
                _ => 0,
            };
            valid_timestamp(local.checked_sub(east * 1_000_000))
        }
    }
}

fn valid_timestamp(micros: Option<i64>) -> Result<i64, ValueError> {
    micros
        .filter(|micros| (TIMESTAMP_MIN..TIMESTAMP_END).contains(micros))
        .ok_or_else(|| out_of_range("timestamp"))
}

fn session_zone(style: &Style) -> Result<zone::Zone, ValueError> {
    zone::Zone::named(&style.time_zone)
        .ok_or_else(|| ValueError::new("22023", "the session's time zone is not known here"))
}

/// `date_recv`, `time_recv`, `timestamp_recv`: sizes and ranges.
pub(super) fn read_binary(data_type: DataType, wire: &[u8]) -> Result<Vec<u8>, ValueError> {
    match data_type {
        DataType::Date => {
            let days = i32::from_be_bytes(wire.try_into().map_err(|_| ValueError::binary())?);
            if days != i32::MAX && days != i32::MIN {
                valid_date(days.into())?;
            }
        }
        DataType::Time => {
            let micros = i64::from_be_bytes(wire.try_into().map_err(|_| ValueError::binary())?);
            if !(0..=MICROS_DAY).contains(&micros) {
                return Err(out_of_range("time"));
            }
        }
        _ => {
            let micros = i64::from_be_bytes(wire.try_into().map_err(|_| ValueError::binary())?);
            if micros != i64::MAX && micros != i64::MIN {
                valid_timestamp(Some(micros))?;
            }
        }
    }
    Ok(wire.to_vec())
}

/// Canonical bytes of a date: days, `i32::MAX` and `i32::MIN` being ±infinity.
pub(super) fn days_of(canonical: &[u8]) -> Result<i32, Malformed> {
    let days = canonical.try_into().map(i32::from_be_bytes).map_err(|_| Malformed)?;
    let finite = days != i32::MAX && days != i32::MIN;
    if finite && valid_date(days.into()).is_err() { Err(Malformed) } else { Ok(days) }
}

/// Canonical bytes of a timestamp: microseconds, `i64::MAX` and `i64::MIN` being ±infinity.
pub(super) fn micros_of(canonical: &[u8]) -> Result<i64, Malformed> {
    let micros = canonical.try_into().map(i64::from_be_bytes).map_err(|_| Malformed)?;
    let finite = micros != i64::MAX && micros != i64::MIN;
    if finite && valid_timestamp(Some(micros)).is_err() { Err(Malformed) } else { Ok(micros) }
}

/// Canonical bytes of a time: microseconds after midnight.
pub(super) fn time_of(canonical: &[u8]) -> Result<i64, Malformed> {
    let micros = canonical.try_into().map(i64::from_be_bytes).map_err(|_| Malformed)?;
    if (0..=MICROS_DAY).contains(&micros) { Ok(micros) } else { Err(Malformed) }
}

/// `date` → `timestamp`, midnight.
pub(super) fn date_to_timestamp(days: i32) -> Result<i64, ValueError> {
    match days {
        i32::MAX => Ok(i64::MAX),
        i32::MIN => Ok(i64::MIN),
        days => valid_timestamp(i64::from(days).checked_mul(MICROS_DAY))
            .map_err(|_| ValueError::new("22008", "date out of range for timestamp")),
    }
}

/// `timestamp` → `date`, the day it is in.
pub(super) fn timestamp_to_date(micros: i64) -> Result<i32, ValueError> {
    match micros {
        i64::MAX => Ok(i32::MAX),
        i64::MIN => Ok(i32::MIN),
        micros => valid_date(micros.div_euclid(MICROS_DAY)),
    }
}

/// `timestamp` → `timestamptz`: the session's clock showed it.
pub(super) fn local_to_instant(local: i64, style: &Style) -> Result<i64, ValueError> {
    if local == i64::MAX || local == i64::MIN {
        return Ok(local);
    }
    valid_timestamp(local.checked_sub(session_zone(style)?.offset_of_local(local) * 1_000_000))
}

/// `timestamptz` → `timestamp`: what the session's clock shows.
pub(super) fn instant_to_local(micros: i64, style: &Style) -> Result<i64, ValueError> {
    if micros == i64::MAX || micros == i64::MIN {
        return Ok(micros);
    }
    let east = session_zone(style)?.offset_at(micros.div_euclid(1_000_000));
    valid_timestamp(micros.checked_add(east * 1_000_000))
}

/// A part of the calendar that a mask leaves of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    Year,
    Month,
}

/// Appends the first day of the value's year or month (of a `timestamptz`, in UTC), canonical: what the masks `year` and
/// `month` show. Infinite values stay; the first of all begin where the type does.
pub(crate) fn start_of(
    period: Period,
    data_type: DataType,
    canonical: &[u8],
    out: &mut Vec<u8>,
) -> Option<()> {
    match data_type {
        DataType::Date => out.extend_from_slice(&date_start(period, canonical)?),
        DataType::Timestamp | DataType::Timestamptz => {
            let micros = match micros_of(canonical).ok()? {
                micros @ (i64::MAX | i64::MIN) => micros,
                micros => first_day(period, micros.div_euclid(MICROS_DAY)).checked_mul(MICROS_DAY)?,
            };
            out.extend_from_slice(&micros.to_be_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// As [`start_of`], of a date.
#[inline]
pub(crate) fn date_start(period: Period, canonical: &[u8]) -> Option<[u8; 4]> {
    let days = match days_of(canonical).ok()? {
        days @ (i32::MAX | i32::MIN) => days,
        days => i32::try_from(first_day(period, days.into())).ok()?,
    };
    Some(days.to_be_bytes())
}

fn first_day(period: Period, days: i64) -> i64 {
    let (year, month, day) = civil_from_days(days);
    let of_year = match period {
        Period::Year => days_before_month(year, month),
        Period::Month => 0,
    };
    (days - of_year - (day - 1)).max(DATE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_with_its_first_day() {
        for days in
            (DATE_MIN..DATE_MIN + 3000).chain(-800_000..800_000).chain((0..DATE_END).step_by(9_999_991))
        {
            let (year, month, _) = civil_from_days(days);
            assert_eq!(first_day(Period::Year, days), days_from_civil(year, 1, 1).max(DATE_MIN), "{days}");
            assert_eq!(
                first_day(Period::Month, days),
                days_from_civil(year, month, 1).max(DATE_MIN),
                "{days}"
            );
        }
    }

    #[test]
    fn the_usual_spelling_of_a_day_is_read_as_every_other() {
        for style in ["ISO, MDY", "ISO, DMY", "ISO, YMD", "SQL, DMY", "German, DMY"] {
            let style = Style { date_style: style.to_owned(), ..Style::default() };
            for text in (0..9).flat_map(|year| {
                let year = [0, 1, 99, 1582, 1900, 1999, 2000, 2024, 9999][year];
                (0..15)
                    .flat_map(move |month| (0..33).map(move |day| format!("{year:04}-{month:02}-{day:02}")))
            }) {
                let (mut short, mut long) = (vec![], vec![]);
                // A space more, and it is read the long way.
                let read = read_text(DataType::Date, &text, &style, &mut short);
                let other = read_text(DataType::Date, &format!(" {text}"), &style, &mut long);
                assert_eq!((read, short), (other, long), "{text} {}", style.date_style);
            }
        }
        for text in
            ["1999-1-08", "99-01-0008", "1999-01-0a", "1999/01/08", "-999-01-08", "1999-01--8", "+999-01-08"]
        {
            assert_eq!(iso_day(text), None, "{text}");
        }
    }
}
