//! `date`, `time`, `timestamp` and `timestamptz`: DateStyle and TimeZone honoured both ways.
//!
//! Canonical bytes are PostgreSQL's binary forms: days or microseconds from 2000-01-01, big-endian. Relative input
//! (`now`, `today`) is refused: there is no clock here, and a sealed value must not depend on when it is read.

use super::{DataType, Malformed, Style, ValueError};
use jiff::tz::TimeZone;

const MICROS_DAY: i64 = 86_400_000_000;
/// Days from 1970-01-01 to 2000-01-01.
const EPOCH_SHIFT: i64 = 10_957;
/// `timestamp.h` `MIN_TIMESTAMP` and `END_TIMESTAMP`, `date.h` limits, as days and microseconds from 2000-01-01.
const DATE_MIN: i64 = -2_451_545;
const DATE_END: i64 = 2_145_031_949;
const TIMESTAMP_MIN: i64 = -211_813_488_000_000_000;
const TIMESTAMP_END: i64 = 9_223_371_331_200_000_000;

/// What a text said.
#[derive(Default)]
struct Fields {
    date: Option<(i64, i64, i64)>,
    bc: bool,
    /// Microseconds after midnight.
    time: Option<i64>,
    zone: Option<Zone>,
    infinite: Option<bool>,
    epoch: bool,
}

enum Zone {
    /// Seconds east of Greenwich.
    Offset(i64),
    Named(TimeZone),
}

fn wrong(data_type: DataType) -> ValueError {
    ValueError::new("22007", format!("invalid input syntax for type {}", data_type.sql()))
}

fn out_of_range() -> ValueError {
    ValueError::new("22008", "date/time field value out of range")
}

pub(super) fn read_text(
    data_type: DataType,
    text: &str,
    style: &Style,
    canonical: &mut Vec<u8>,
) -> Result<(), ValueError> {
    let fields = parse(data_type, text, style)?;
    match data_type {
        DataType::Time => {
            let time = fields.time.ok_or_else(|| wrong(data_type))?;
            canonical.extend_from_slice(&time.to_be_bytes());
        }
        DataType::Date => {
            let days = match fields.infinite {
                Some(future) => {
                    if future {
                        i32::MAX
                    } else {
                        i32::MIN
                    }
                }
                None => {
                    let days = days_of(data_type, &fields)?;
                    if !(DATE_MIN..DATE_END).contains(&days) {
                        return Err(ValueError::new("22008", "date out of range"));
                    }
                    i32::try_from(days).map_err(|_| out_of_range())?
                }
            };
            canonical.extend_from_slice(&days.to_be_bytes());
        }
        _ => canonical.extend_from_slice(&instant(data_type, &fields, style)?.to_be_bytes()),
    }
    Ok(())
}

fn days_of(data_type: DataType, fields: &Fields) -> Result<i64, ValueError> {
    if fields.epoch {
        return Ok(-EPOCH_SHIFT);
    }
    let (year, month, day) = fields.date.ok_or_else(|| wrong(data_type))?;
    let year = if fields.bc { 1 - year } else { year };
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) || (year == 0 && !fields.bc)
    {
        return Err(out_of_range());
    }
    Ok(days_from_civil(year, month, day))
}

fn instant(data_type: DataType, fields: &Fields, style: &Style) -> Result<i64, ValueError> {
    if let Some(future) = fields.infinite {
        return Ok(if future { i64::MAX } else { i64::MIN });
    }
    let days = days_of(data_type, fields)?;
    let local = i128::from(days) * i128::from(MICROS_DAY) + i128::from(fields.time.unwrap_or(0));
    let local = i64::try_from(local).map_err(|_| out_of_range())?;
    let micros = match (data_type, &fields.zone) {
        (DataType::Timestamptz, _) if fields.epoch => local,
        (DataType::Timestamptz, Some(Zone::Offset(seconds))) => local - seconds * 1_000_000,
        (DataType::Timestamptz, Some(Zone::Named(zone))) => local - offset_of_local(zone, local) * 1_000_000,
        (DataType::Timestamptz, None) => local - offset_of_local(&session_zone(style)?, local) * 1_000_000,
        _ => local,
    };
    if !(TIMESTAMP_MIN..TIMESTAMP_END).contains(&micros) {
        return Err(ValueError::new("22008", "timestamp out of range"));
    }
    Ok(micros)
}

fn session_zone(style: &Style) -> Result<TimeZone, ValueError> {
    zone_named(&style.time_zone)
        .ok_or_else(|| ValueError::new("22023", "the session's time zone is not known here"))
}

/// An IANA name, or POSIX such as `<+03>-03`.
fn zone_named(name: &str) -> Option<TimeZone> {
    if name.eq_ignore_ascii_case("gmt") || name.eq_ignore_ascii_case("utc") {
        return Some(TimeZone::UTC);
    }
    TimeZone::get(name).ok().or_else(|| TimeZone::posix(name).ok())
}

/// Seconds east at a local time; a gap reads with the offset before it, a fold with standard time (`DetermineTimeZoneOffset`).
fn offset_of_local(zone: &TimeZone, local_micros: i64) -> i64 {
    let as_utc = local_micros.div_euclid(1_000_000);
    let before = offset_at(zone, as_utc - 86_400);
    let after = offset_at(zone, as_utc + 86_400);
    if before == after {
        return offset_at(zone, as_utc - before);
    }
    let fits_before = offset_at(zone, as_utc - before) == before;
    let fits_after = offset_at(zone, as_utc - after) == after;
    match (fits_before, fits_after) {
        (true, false) => before,
        (false, true) => after,
        // In a fold the later reading, in a gap the earlier offset.
        (true, true) => before.min(after),
        (false, false) => before,
    }
}

/// Seconds east at an instant, given as seconds from 2000-01-01 UTC.
fn offset_at(zone: &TimeZone, seconds: i64) -> i64 {
    let unix = (seconds + EPOCH_SHIFT * 86_400).clamp(-377_705_000_000, 253_402_000_000);
    match jiff::Timestamp::from_second(unix) {
        Ok(at) => i64::from(zone.to_offset(at).seconds()),
        Err(_) => 0,
    }
}

fn parse(data_type: DataType, text: &str, style: &Style) -> Result<Fields, ValueError> {
    let mut fields = Fields::default();
    let lower = text.trim().to_ascii_lowercase();
    match lower.as_str() {
        "infinity" | "+infinity" => fields.infinite = Some(true),
        "-infinity" => fields.infinite = Some(false),
        "epoch" => fields.epoch = true,
        "now" | "today" | "tomorrow" | "yesterday" | "allballs" => {
            return Err(ValueError::new(
                "22007",
                "relative date/time input is not supported for sealed columns",
            ));
        }
        _ => return words(data_type, text.trim(), style),
    }
    Ok(fields)
}

fn words(data_type: DataType, text: &str, style: &Style) -> Result<Fields, ValueError> {
    let mut fields = Fields::default();
    let spaced = text.replace(',', " ");
    // An ISO `T` between digits separates like a space.
    let bytes = spaced.as_bytes();
    let separated: String = spaced
        .char_indices()
        .map(|(at, c)| {
            let digit = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_digit);
            if (c == 'T' || c == 't') && at > 0 && digit(at - 1) && digit(at + 1) { ' ' } else { c }
        })
        .collect();
    let mut month_name = None;
    let mut loose: Vec<i64> = vec![];
    for word in separated.split_whitespace() {
        let lower = word.to_ascii_lowercase();
        if lower == "bc" || lower == "ad" {
            fields.bc = lower == "bc";
        } else if word.contains(':') {
            clock(data_type, word, &mut fields)?;
        } else if lower == "am" || lower == "pm" {
            meridiem(&lower, &mut fields).ok_or_else(|| wrong(data_type))?;
        } else if let Some(month) = month_number(&lower) {
            month_name = Some(month);
        } else if day_name(&lower)
            || (fields.time.is_some() && fields.zone.is_none() && zone(word, &mut fields).is_some())
        {
            // The day's name says nothing; the zone was taken.
        } else if word.bytes().all(|b| b.is_ascii_digit()) && !matches!(word.len(), 6 | 8) {
            loose.push(word.parse().map_err(|_| wrong(data_type))?);
        } else {
            date_word(data_type, word, style, &mut fields)?;
        }
    }
    if let Some(month) = month_name {
        let [first, second] = loose.as_slice() else { return Err(wrong(data_type)) };
        fields.date =
            Some(if *first > 31 { (*first, month, *second) } else { (short_year(*second), month, *first) });
    } else if !loose.is_empty() {
        return Err(wrong(data_type));
    }
    if data_type != DataType::Time && fields.date.is_none() {
        return Err(wrong(data_type));
    }
    Ok(fields)
}

fn month_number(word: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let three = word.get(..3)?;
    let index = MONTHS.iter().position(|month| *month == three)?;
    word.bytes().all(|b| b.is_ascii_lowercase()).then_some(i64::try_from(index).ok()? + 1)
}

fn day_name(word: &str) -> bool {
    matches!(word.get(..3), Some("mon" | "tue" | "wed" | "thu" | "fri" | "sat" | "sun"))
        && word.bytes().all(|b| b.is_ascii_lowercase())
}

/// Two-digit years: 70 to 99 are 1900s, the others 2000s (`ValidateDate`).
fn short_year(year: i64) -> i64 {
    match year {
        0..=69 => year + 2000,
        70..=99 => year + 1900,
        other => other,
    }
}

fn date_word(data_type: DataType, word: &str, style: &Style, fields: &mut Fields) -> Result<(), ValueError> {
    let bad = || wrong(data_type);
    if fields.date.is_some() {
        return Err(bad());
    }
    let number = |text: &str| -> Result<i64, ValueError> {
        if text.is_empty() || text.len() > 7 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        text.parse().map_err(|_| bad())
    };
    if word.bytes().all(|b| b.is_ascii_digit()) {
        let split = word.len() - 4;
        let year = number(&word[..split])?;
        let year = if split == 2 { short_year(year) } else { year };
        fields.date = Some((year, number(&word[split..split + 2])?, number(&word[split + 2..])?));
        return Ok(());
    }
    let parts: Vec<&str> = word.split(['-', '/', '.']).collect();
    let [a, b, c] = parts.as_slice() else { return Err(bad()) };
    if let Some(month) = month_number(&b.to_ascii_lowercase()) {
        let (day, year) = (number(a)?, number(c)?);
        fields.date = Some(if a.len() > 2 { (day, month, year) } else { (short_year(year), month, day) });
        return Ok(());
    }
    let (x, y, z) = (number(a)?, number(b)?, number(c)?);
    let order = style.date_style.rsplit([',', ' ']).next().unwrap_or("MDY");
    fields.date = Some(if a.len() > 2 {
        (x, y, z)
    } else {
        let year = if c.len() <= 2 { short_year(z) } else { z };
        match order {
            "DMY" => (year, y, x),
            "YMD" => (short_year(x), y, z),
            _ => (year, x, y),
        }
    });
    Ok(())
}

/// `HH:MM[:SS[.ffffff]]` and what follows of a zone.
fn clock(data_type: DataType, word: &str, fields: &mut Fields) -> Result<(), ValueError> {
    let bad = || wrong(data_type);
    let end = word.find(|c: char| !(c.is_ascii_digit() || matches!(c, ':' | '.'))).unwrap_or(word.len());
    let (time, rest) = word.split_at(end);
    let mut parts = time.split(':');
    let mut next = || -> Result<Option<&str>, ValueError> { Ok(parts.next()) };
    let hours: i64 = next()?.and_then(|t| t.parse().ok()).ok_or_else(bad)?;
    let minutes: i64 = next()?.and_then(|t| t.parse().ok()).ok_or_else(bad)?;
    let (seconds, micros) = match next()? {
        Some(text) => second_field(text).ok_or_else(bad)?,
        None => (0, 0),
    };
    if next()?.is_some() {
        return Err(bad());
    }
    let total = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    if minutes > 59 || seconds > 60 || hours > 24 || total > MICROS_DAY {
        return Err(out_of_range());
    }
    fields.time = Some(total);
    match rest.to_ascii_lowercase().as_str() {
        "" => Ok(()),
        half @ ("am" | "pm") => meridiem(half, fields).ok_or_else(bad),
        _ => zone(rest, fields).ok_or_else(bad),
    }
}

/// Seconds and microseconds, rounded to the nearest.
fn second_field(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if fraction.is_empty() {
        return Some((seconds, 0));
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seven: i64 = format!("{fraction:0<7}").get(..7)?.parse().ok()?;
    Some((seconds, (seven + 5) / 10))
}

fn meridiem(half: &str, fields: &mut Fields) -> Option<()> {
    let time = fields.time?;
    let hour = time / 3_600_000_000;
    if !(1..=12).contains(&hour) {
        return None;
    }
    let within = time % 3_600_000_000;
    let hour = hour % 12 + if half == "pm" { 12 } else { 0 };
    fields.time = Some(hour * 3_600_000_000 + within);
    Some(())
}

/// `Z`, `+HH[:MM[:SS]]`, `+HHMM`, or a zone's name.
fn zone(text: &str, fields: &mut Fields) -> Option<()> {
    if text.eq_ignore_ascii_case("z") {
        fields.zone = Some(Zone::Offset(0));
        return Some(());
    }
    let (sign, digits) = match text.as_bytes().first()? {
        b'+' => (1, &text[1..]),
        b'-' => (-1, &text[1..]),
        _ => {
            fields.zone = Some(Zone::Named(zone_named(text)?));
            return Some(());
        }
    };
    let parts: Vec<i64> = if digits.contains(':') {
        digits.split(':').map(|part| part.parse().ok()).collect::<Option<_>>()?
    } else if digits.len() > 2 {
        let split = digits.len().checked_sub(2)?;
        vec![digits.get(..split)?.parse().ok()?, digits.get(split..)?.parse().ok()?]
    } else {
        vec![digits.parse().ok()?]
    };
    let seconds = parts.iter().zip([3600, 60, 1]).map(|(part, unit)| part * unit).sum::<i64>();
    if seconds > 15 * 3600 + 59 * 60 + 59 {
        return None;
    }
    fields.zone = Some(Zone::Offset(sign * seconds));
    Some(())
}

/// Days from 2000-01-01 of a proleptic Gregorian date (Howard Hinnant's `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468 - EPOCH_SHIFT
}

/// The inverse: (year, month, day), year 0 being 1 BC.
pub(super) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_SHIFT + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// January 1st of the value's year, canonical: what the mask `year` shows. Infinite values stay.
pub(crate) fn start_of_year(data_type: DataType, canonical: &[u8]) -> Option<Vec<u8>> {
    match data_type {
        DataType::Date => {
            let days = i32::from_be_bytes(canonical.try_into().ok()?);
            if days == i32::MAX || days == i32::MIN {
                return Some(canonical.to_vec());
            }
            let (year, ..) = civil_from_days(days.into());
            Some(i32::try_from(days_from_civil(year, 1, 1)).ok()?.to_be_bytes().to_vec())
        }
        DataType::Timestamp | DataType::Timestamptz => {
            let micros = i64::from_be_bytes(canonical.try_into().ok()?);
            if micros == i64::MAX || micros == i64::MIN {
                return Some(canonical.to_vec());
            }
            let (year, ..) = civil_from_days(micros.div_euclid(MICROS_DAY));
            Some(days_from_civil(year, 1, 1).checked_mul(MICROS_DAY)?.to_be_bytes().to_vec())
        }
        _ => None,
    }
}

pub(super) fn write_text(data_type: DataType, canonical: &[u8], style: &Style) -> Result<String, Malformed> {
    let long = || canonical.try_into().map(i64::from_be_bytes).map_err(|_| Malformed);
    match data_type {
        DataType::Date => {
            let days = i32::from_be_bytes(canonical.try_into().map_err(|_| Malformed)?);
            Ok(match days {
                i32::MAX => "infinity".to_owned(),
                i32::MIN => "-infinity".to_owned(),
                days => {
                    let (text, bc) = date_text(days.into(), style, false);
                    format!("{text}{bc}")
                }
            })
        }
        DataType::Time => Ok(time_text(long()?)),
        _ => match long()? {
            i64::MAX => Ok("infinity".to_owned()),
            i64::MIN => Ok("-infinity".to_owned()),
            micros => timestamp_text(data_type, micros, style),
        },
    }
}

/// The date in the style's order, and ` BC` where it is.
fn date_text(days: i64, style: &Style, in_timestamp: bool) -> (String, &'static str) {
    let (year, month, day) = civil_from_days(days);
    let (shown, bc) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    let dmy = style.date_style.ends_with("DMY");
    let text = match style.date_style.split([',', ' ']).next().unwrap_or("ISO") {
        "SQL" if dmy => format!("{day:02}/{month:02}/{shown:04}"),
        "SQL" => format!("{month:02}/{day:02}/{shown:04}"),
        "German" => format!("{day:02}.{month:02}.{shown:04}"),
        "Postgres" if in_timestamp => String::new(),
        "Postgres" if dmy => format!("{day:02}-{month:02}-{shown:04}"),
        "Postgres" => format!("{month:02}-{day:02}-{shown:04}"),
        _ => format!("{shown:04}-{month:02}-{day:02}"),
    };
    (text, bc)
}

fn time_text(micros: i64) -> String {
    let (hours, minutes) = (micros / 3_600_000_000, micros / 60_000_000 % 60);
    let (seconds, fraction) = (micros / 1_000_000 % 60, micros % 1_000_000);
    let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction != 0 {
        text.push('.');
        text.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

fn timestamp_text(data_type: DataType, micros: i64, style: &Style) -> Result<String, Malformed> {
    let zone = match data_type {
        DataType::Timestamptz => Some(session_zone(style).map_err(|_| Malformed)?),
        _ => None,
    };
    let offset = zone.as_ref().map_or(0, |zone| offset_at(zone, micros.div_euclid(1_000_000)));
    let local = micros.checked_add(offset * 1_000_000).ok_or(Malformed)?;
    let days = local.div_euclid(MICROS_DAY);
    let time = time_text(local.rem_euclid(MICROS_DAY));
    let kind = style.date_style.split([',', ' ']).next().unwrap_or("ISO");
    let (date, bc) = date_text(days, style, true);
    let shift = match (&zone, kind) {
        (None, _) => String::new(),
        (Some(_), "ISO") => offset_text(offset),
        (Some(zone), _) => match abbreviation(zone, micros) {
            Some(name) => format!(" {name}"),
            None => format!(" {}", offset_text(offset)),
        },
    };
    if kind == "Postgres" {
        const DAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (year, month, day) = civil_from_days(days);
        let shown = if year > 0 { year } else { 1 - year };
        let weekday = usize::try_from(days.rem_euclid(7)).map_err(|_| Malformed)?;
        let month = MONTHS[usize::try_from(month - 1).map_err(|_| Malformed)?];
        let date = if style.date_style.ends_with("DMY") {
            format!("{day:02} {month}")
        } else {
            format!("{month} {day:02}")
        };
        return Ok(format!("{} {date} {time} {shown:04}{shift}{bc}", DAYS[weekday]));
    }
    Ok(format!("{date} {time}{shift}{bc}"))
}

/// The zone's abbreviation at an instant, where it is letters.
fn abbreviation(zone: &TimeZone, micros: i64) -> Option<String> {
    let unix = micros.div_euclid(1_000_000) + EPOCH_SHIFT * 86_400;
    let at = jiff::Timestamp::from_second(unix).ok()?;
    let info = zone.to_offset_info(at);
    let name = info.abbreviation().to_owned();
    name.bytes().all(|b| b.is_ascii_alphabetic()).then_some(name)
}

/// `+HH[:MM[:SS]]` (`EncodeTimezone`).
fn offset_text(offset: i64) -> String {
    let sign = if offset < 0 { '-' } else { '+' };
    let all = offset.abs();
    let mut text = format!("{sign}{:02}", all / 3600);
    if all % 3600 != 0 {
        text.push_str(&format!(":{:02}", all / 60 % 60));
    }
    if all % 60 != 0 {
        text.push_str(&format!(":{:02}", all % 60));
    }
    text
}
