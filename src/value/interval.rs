//! `interval`: microseconds, days and months, canonical as `interval_send` sends them.
//!
//! Input understands ISO 8601 durations, PostgreSQL's verbose units and SQL's year-month; output is in all of
//! PostgreSQL's styles.

use super::{DataType, Malformed, ValueError};

pub(super) fn read_text(text: &str, canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    let wrong =
        || ValueError::new("22007", format!("invalid input syntax for type {}", DataType::Interval.sql()));
    let mut total = Parts::default();
    let lower = text.trim().to_ascii_lowercase();
    let (body, ago) = match lower.strip_suffix("ago") {
        Some(rest) => (rest.trim(), true),
        None => (lower.as_str(), false),
    };
    if body.is_empty() {
        return Err(wrong());
    }
    if let Some(iso) = body.strip_prefix('p') {
        iso_duration(iso, &mut total).ok_or_else(wrong)?;
    } else {
        verbose(body, &mut total).ok_or_else(wrong)?;
    }
    if ago {
        total = Parts { months: -total.months, days: -total.days, micros: -total.micros };
    }
    let range = || ValueError::new("22008", "interval field value out of range");
    canonical.extend_from_slice(&i64::try_from(total.micros).map_err(|_| range())?.to_be_bytes());
    canonical.extend_from_slice(&i32::try_from(total.days).map_err(|_| range())?.to_be_bytes());
    canonical.extend_from_slice(&i32::try_from(total.months).map_err(|_| range())?.to_be_bytes());
    Ok(())
}

#[derive(Default)]
struct Parts {
    months: i128,
    days: i128,
    micros: i128,
}

impl Parts {
    /// Adds `number` of `unit`; fractions only where they are exact in the next smaller unit.
    fn add(&mut self, number: &str, unit: &str) -> Option<()> {
        let micros_per = match unit.strip_suffix('s').filter(|u| u.len() > 1).unwrap_or(unit) {
            "us" | "usec" | "microsecond" => 1,
            "ms" | "msec" | "millisecond" => 1_000,
            "s" | "sec" | "second" => 1_000_000,
            "m" | "min" | "minute" => 60_000_000,
            "h" | "hr" | "hour" => 3_600_000_000,
            "d" | "day" => {
                self.days += whole(number)?;
                return Some(());
            }
            "w" | "week" => {
                self.days += whole(number)? * 7;
                return Some(());
            }
            "mon" | "month" => {
                self.months += whole(number)?;
                return Some(());
            }
            "y" | "yr" | "year" => {
                self.months += whole(number)? * 12;
                return Some(());
            }
            _ => return None,
        };
        self.micros += scaled(number, micros_per)?;
        Some(())
    }
}

fn whole(number: &str) -> Option<i128> {
    number.parse::<i64>().ok().map(i128::from)
}

/// `number × factor`, exact, for a decimal number.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let integer: i128 = if integer.is_empty() { 0 } else { integer.parse::<u64>().ok()?.into() };
    let mut total = integer * factor;
    if !fraction.is_empty() {
        let digits = fraction.len().min(15);
        let numerator: i128 = fraction.get(..digits)?.parse::<u64>().ok()?.into();
        total += numerator * factor / 10i128.pow(u32::try_from(digits).ok()?);
    }
    Some(if negative { -total } else { total })
}

fn iso_duration(text: &str, total: &mut Parts) -> Option<()> {
    let mut time = false;
    let mut number = String::new();
    for c in text.chars() {
        match c {
            't' => time = true,
            '0'..='9' | '-' | '+' | '.' => number.push(c),
            unit => {
                let unit = match (unit, time) {
                    ('y', false) => "year",
                    ('m', false) => "month",
                    ('w', false) => "week",
                    ('d', false) => "day",
                    ('h', true) => "hour",
                    ('m', true) => "minute",
                    ('s', true) => "second",
                    _ => return None,
                };
                total.add(&std::mem::take(&mut number), unit)?;
            }
        }
    }
    number.is_empty().then_some(())
}

fn verbose(text: &str, total: &mut Parts) -> Option<()> {
    let mut words = text.trim_start_matches('@').split_whitespace().peekable();
    while let Some(word) = words.next() {
        if word.contains(':') {
            clock(word, total)?;
            continue;
        }
        if let Some(months) = year_month(word) {
            total.months += months;
            continue;
        }
        let split = word.find(|c: char| c.is_ascii_alphabetic());
        match split {
            Some(0) => return None,
            Some(at) => total.add(&word[..at], &word[at..])?,
            None => match words.peek() {
                Some(unit) if unit.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    total.add(word, unit)?;
                    words.next();
                }
                Some(_) => return None,
                None => total.add(word, "second")?,
            },
        }
    }
    Some(())
}

/// `[-]YEARS-MONTHS`, as SQL writes it.
fn year_month(word: &str) -> Option<i128> {
    let (negative, word) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let (years, months) = word.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(years) || !digits(months) {
        return None;
    }
    let months = whole(months).filter(|months| *months < 12)?;
    let total = whole(years)? * 12 + months;
    Some(if negative { -total } else { total })
}

/// `[-]HH:MM[:SS[.ffffff]]`.
fn clock(word: &str, total: &mut Parts) -> Option<()> {
    let (negative, word) = match word.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, word.strip_prefix('+').unwrap_or(word)),
    };
    let mut fields = word.split(':');
    let hours = scaled(fields.next()?, 3_600_000_000)?;
    let minutes = scaled(fields.next()?, 60_000_000)?;
    let seconds = fields.next().map_or(Some(0), |seconds| scaled(seconds, 1_000_000))?;
    let micros = hours + minutes + seconds;
    total.micros += if negative { -micros } else { micros };
    fields.next().is_none().then_some(())
}

pub(super) fn write_text(canonical: &[u8], style: &str) -> Result<String, Malformed> {
    let (micros, rest) = canonical.split_first_chunk::<8>().ok_or(Malformed)?;
    let (days, months) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
    let micros = i64::from_be_bytes(*micros);
    let days = i32::from_be_bytes(*days);
    let months = i32::from_be_bytes(months.try_into().map_err(|_| Malformed)?);
    Ok(match style {
        "iso_8601" => iso_output(months, days, micros),
        "sql_standard" => sql_output(months, days, micros),
        "postgres_verbose" => verbose_output(months, days, micros),
        _ => postgres_output(months, days, micros),
    })
}

fn seconds_text(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    if fraction == 0 {
        return seconds.to_string();
    }
    format!("{seconds}.{}", format!("{fraction:06}").trim_end_matches('0'))
}

fn iso_output(months: i32, days: i32, micros: i64) -> String {
    let mut out = "P".to_owned();
    let mut field = |value: i64, unit: char| {
        if value != 0 {
            out.push_str(&format!("{value}{unit}"));
        }
    };
    field(i64::from(months / 12), 'Y');
    field(i64::from(months % 12), 'M');
    field(i64::from(days), 'D');
    if micros != 0 {
        out.push('T');
        let sign = if micros < 0 { "-" } else { "" };
        let all = micros.unsigned_abs();
        let (hours, minutes) = (all / 3_600_000_000, all / 60_000_000 % 60);
        if hours != 0 {
            out.push_str(&format!("{sign}{hours}H"));
        }
        if minutes != 0 {
            out.push_str(&format!("{sign}{minutes}M"));
        }
        if !all.is_multiple_of(60_000_000) {
            out.push_str(&format!("{sign}{}S", seconds_text(all % 60_000_000)));
        }
    }
    if out == "P" { "PT0S".to_owned() } else { out }
}

/// `EncodeInterval`, `INTSTYLE_POSTGRES`: a sign is printed on a field that follows a negative one.
fn postgres_output(months: i32, days: i32, micros: i64) -> String {
    let mut words: Vec<String> = vec![];
    let mut before_negative = false;
    for (value, unit) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if value != 0 {
            let plus = if before_negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            words.push(format!("{plus}{value} {unit}{plural}"));
            before_negative = value < 0;
        }
    }
    if micros != 0 || words.is_empty() {
        let all = micros.unsigned_abs();
        let sign = if micros < 0 {
            "-"
        } else if before_negative {
            "+"
        } else {
            ""
        };
        let seconds = seconds_text(all % 60_000_000);
        let padded = if seconds.split('.').next().is_some_and(|whole| whole.len() < 2) { "0" } else { "" };
        words.push(format!(
            "{sign}{:02}:{:02}:{padded}{seconds}",
            all / 3_600_000_000,
            all / 60_000_000 % 60
        ));
    }
    words.join(" ")
}

/// `EncodeInterval`, `INTSTYLE_SQL_STANDARD`: signs on every part where the value is none of SQL's two kinds.
fn sql_output(months: i32, days: i32, micros: i64) -> String {
    let negative = months < 0 || days < 0 || micros < 0;
    let positive = months > 0 || days > 0 || micros > 0;
    let (year_month, day_time) = (months != 0, days != 0 || micros != 0);
    if !negative && !positive {
        return "0".to_owned();
    }
    let (years, months_left) = (months.unsigned_abs() / 12, months.unsigned_abs() % 12);
    let all = micros.unsigned_abs();
    let seconds = seconds_text(all % 60_000_000);
    let padded = if seconds.split('.').next().is_some_and(|whole| whole.len() < 2) { "0" } else { "" };
    let clock = format!("{}:{:02}:{padded}{seconds}", all / 3_600_000_000, all / 60_000_000 % 60);
    if (negative && positive) || (year_month && day_time) {
        let sign = |negative| if negative { '-' } else { '+' };
        let (first, second, third) = (sign(months < 0), sign(days < 0), sign(micros < 0));
        return format!("{first}{years}-{months_left} {second}{} {third}{clock}", days.unsigned_abs());
    }
    let sign = if negative { "-" } else { "" };
    match (year_month, days) {
        (true, _) => format!("{sign}{years}-{months_left}"),
        (false, 0) => format!("{sign}{clock}"),
        (false, days) => format!("{sign}{} {clock}", days.unsigned_abs()),
    }
}

/// `EncodeInterval`, `INTSTYLE_POSTGRES_VERBOSE`: the first part's sign becomes `ago` and turns the others'.
fn verbose_output(months: i32, days: i32, micros: i64) -> String {
    let mut out = "@".to_owned();
    // Whether the first part was negative, once there was one.
    let mut ago = None;
    let parts = [
        (i64::from(months / 12), "year"),
        (i64::from(months % 12), "mon"),
        (i64::from(days), "day"),
        (micros / 3_600_000_000, "hour"),
        (micros / 60_000_000 % 60, "min"),
    ];
    for (value, unit) in parts.into_iter().filter(|(value, _)| *value != 0) {
        let shown = if *ago.get_or_insert(value < 0) { -value } else { value };
        out.push_str(&format!(" {shown} {unit}{}", if shown == 1 { "" } else { "s" }));
    }
    let rest = micros % 60_000_000;
    if rest != 0 {
        let turned = *ago.get_or_insert(rest < 0) != (rest < 0);
        let plural = if rest.unsigned_abs() == 1_000_000 { "" } else { "s" };
        let sign = if turned { "-" } else { "" };
        out.push_str(&format!(" {sign}{} sec{plural}", seconds_text(rest.unsigned_abs())));
    }
    match ago {
        None => "@ 0".to_owned(),
        Some(true) => out + " ago",
        Some(false) => out,
    }
}
