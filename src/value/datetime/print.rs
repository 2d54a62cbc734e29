//! Dates and times as PostgreSQL prints them in each DateStyle (`datetime.c` `EncodeDateOnly`, `EncodeDateTime`).

use super::calendar::civil_from_days;
use super::zone::Zone;
use super::{MICROS_DAY, Order, days_of, micros_of, order, session_zone, time_of};
use crate::value::{DataType, Malformed, Style};

/// The first word of DateStyle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Iso,
    Sql,
    Postgres,
    German,
}

fn form(style: &Style) -> Form {
    match style.date_style.split([',', ' ']).next() {
        Some("SQL") => Form::Sql,
        Some("Postgres") => Form::Postgres,
        Some("German") => Form::German,
        _ => Form::Iso,
    }
}

const WEEKDAYS: [&str; 7] = ["Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `datetime.h` `MAXTZLEN`: characters of a zone's abbreviation that are printed.
const ABBREVIATION_MAX: usize = 10;

/// Appends the text form of canonical bytes.
pub(in crate::value) fn append_text(
    data_type: DataType,
    canonical: &[u8],
    style: &Style,
    wire: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let days = match data_type {
        // What most dates are, without the detour.
        DataType::Date if style.date_style.starts_with("ISO") => Some(days_of(canonical)?),
        _ => None,
    };
    if let Some((year @ 1..=9999, month, day)) = days.map(|days| civil_from_days(days.into())) {
        let digit = |number: i64| b'0' + (number % 10).unsigned_abs() as u8;
        let [y, m, d] = [year, month, day];
        wire.extend_from_slice(&[
            digit(y / 1000),
            digit(y / 100),
            digit(y / 10),
            digit(y),
            b'-',
            digit(m / 10),
            digit(m),
            b'-',
            digit(d / 10),
            digit(d),
        ]);
        return Ok(());
    }
    wire.extend_from_slice(text(data_type, canonical, style)?.as_bytes());
    Ok(())
}

fn text(data_type: DataType, canonical: &[u8], style: &Style) -> Result<String, Malformed> {
    match data_type {
        DataType::Date => Ok(match days_of(canonical)? {
            i32::MAX => "infinity".to_owned(),
            i32::MIN => "-infinity".to_owned(),
            days => {
                let (year, bc) = shown_year(days.into());
                format!("{}{bc}", date(days.into(), year, style))
            }
        }),
        DataType::Time => Ok(clock(time_of(canonical)?)),
        _ => match micros_of(canonical)? {
            i64::MAX => Ok("infinity".to_owned()),
            i64::MIN => Ok("-infinity".to_owned()),
            micros => timestamp(data_type, micros, style),
        },
    }
}

/// The year's number, and ` BC` where it is.
fn shown_year(days: i64) -> (i64, &'static str) {
    match civil_from_days(days).0 {
        year if year > 0 => (year, ""),
        year => (1 - year, " BC"),
    }
}

fn date(days: i64, shown: i64, style: &Style) -> String {
    let (_, month, day) = civil_from_days(days);
    let day_first = order(style) == Order::Dmy;
    match form(style) {
        Form::Iso => format!("{shown:04}-{month:02}-{day:02}"),
        Form::Sql if day_first => format!("{day:02}/{month:02}/{shown:04}"),
        Form::Sql => format!("{month:02}/{day:02}/{shown:04}"),
        Form::German => format!("{day:02}.{month:02}.{shown:04}"),
        Form::Postgres if day_first => format!("{day:02}-{month:02}-{shown:04}"),
        Form::Postgres => format!("{month:02}-{day:02}-{shown:04}"),
    }
}

fn clock(micros: i64) -> String {
    let (hours, minutes) = (micros / 3_600_000_000, micros / 60_000_000 % 60);
    let (seconds, fraction) = (micros / 1_000_000 % 60, micros % 1_000_000);
    let mut text = format!("{hours:02}:{minutes:02}:{seconds:02}");
    if fraction != 0 {
        text.push('.');
        text.push_str(format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

fn timestamp(data_type: DataType, micros: i64, style: &Style) -> Result<String, Malformed> {
    let seconds = micros.div_euclid(1_000_000);
    let zone = match data_type {
        DataType::Timestamptz => Some(session_zone(style).map_err(|_| Malformed)?),
        _ => None,
    };
    let east = zone.as_ref().map_or(0, |zone| zone.offset_at(seconds));
    let local = micros.checked_add(east * 1_000_000).ok_or(Malformed)?;
    let (days, time) = (local.div_euclid(MICROS_DAY), clock(local.rem_euclid(MICROS_DAY)));
    let (year, bc) = shown_year(days);
    let form = form(style);
    let shift = zone.map_or_else(String::new, |zone| suffix(&zone, seconds, east, form));
    if form != Form::Postgres {
        return Ok(format!("{} {time}{shift}{bc}", date(days, year, style)));
    }
    let (_, month, day) = civil_from_days(days);
    let weekday = usize::try_from(days.rem_euclid(7)).map_err(|_| Malformed)?;
    let month = MONTHS[usize::try_from(month - 1).map_err(|_| Malformed)?];
    let date = match order(style) {
        Order::Dmy => format!("{day:02} {month}"),
        _ => format!("{month} {day:02}"),
    };
    Ok(format!("{} {date} {time} {year:04}{shift}{bc}", WEEKDAYS[weekday]))
}

/// `+02` in ISO style, ` CEST` in the others.
fn suffix(zone: &Zone, seconds: i64, east: i64, form: Form) -> String {
    match zone.abbreviation_at(seconds) {
        Some(name) if form != Form::Iso => {
            format!(" {}", name.chars().take(ABBREVIATION_MAX).collect::<String>())
        }
        _ => offset(east),
    }
}

/// `+HH[:MM[:SS]]` (`EncodeTimezone`).
fn offset(east: i64) -> String {
    let sign = if east < 0 { '-' } else { '+' };
    let all = east.abs();
    let mut text = format!("{sign}{:02}", all / 3600);
    if all % 3600 != 0 {
        text.push_str(&format!(":{:02}", all / 60 % 60));
    }
    if all % 60 != 0 {
        text.push_str(&format!(":{:02}", all % 60));
    }
    text
}
