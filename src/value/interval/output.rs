//! Intervals as PostgreSQL prints them in each IntervalStyle (`datetime.c` `EncodeInterval`).

use super::Parts;
use crate::value::Malformed;

/// The fields that are printed, each with its own sign.
struct Fields {
    years: i64,
    months: i64,
    days: i64,
    hours: i64,
    minutes: i64,
    /// Seconds and their fraction, in microseconds.
    micros: i64,
}

/// The text form of canonical bytes.
pub(in crate::value) fn write_text(canonical: &[u8], style: &str) -> Result<String, Malformed> {
    let parts = Parts::of(canonical)?;
    let fields = Fields {
        years: (parts.months / 12).into(),
        months: (parts.months % 12).into(),
        days: parts.days.into(),
        hours: parts.micros / 3_600_000_000,
        minutes: parts.micros / 60_000_000 % 60,
        micros: parts.micros % 60_000_000,
    };
    Ok(match style {
        "iso_8601" => iso_8601(&fields),
        "postgres_verbose" => verbose(&fields),
        "sql_standard" => sql_standard(&fields),
        _ => postgres(&fields),
    })
}

impl Fields {
    fn all(&self) -> [i64; 6] {
        [self.years, self.months, self.days, self.hours, self.minutes, self.micros]
    }

    fn has_time(&self) -> bool {
        self.hours != 0 || self.minutes != 0 || self.micros != 0
    }

    fn negative_time(&self) -> bool {
        self.hours < 0 || self.minutes < 0 || self.micros < 0
    }
}

/// Seconds without sign, trailing zeros of the fraction left out; `pad` to two digits.
fn seconds(micros: i64, pad: bool) -> String {
    let (whole, fraction) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let whole = if pad { format!("{whole:02}") } else { whole.to_string() };
    if fraction == 0 {
        return whole;
    }
    format!("{whole}.{}", format!("{fraction:06}").trim_end_matches('0'))
}

fn iso_8601(fields: &Fields) -> String {
    if fields.all() == [0; 6] {
        return "PT0S".to_owned();
    }
    let mut out = "P".to_owned();
    for (value, unit) in [(fields.years, 'Y'), (fields.months, 'M'), (fields.days, 'D')] {
        if value != 0 {
            out.push_str(&format!("{value}{unit}"));
        }
    }
    if fields.has_time() {
        out.push('T');
    }
    for (value, unit) in [(fields.hours, 'H'), (fields.minutes, 'M')] {
        if value != 0 {
            out.push_str(&format!("{value}{unit}"));
        }
    }
    if fields.micros != 0 {
        let sign = if fields.micros < 0 { "-" } else { "" };
        out.push_str(&format!("{sign}{}S", seconds(fields.micros, false)));
    }
    out
}

/// A positive field that follows a negative one is given its sign.
fn postgres(fields: &Fields) -> String {
    let mut words: Vec<String> = vec![];
    let mut after_negative = false;
    for (value, unit) in [(fields.years, "year"), (fields.months, "mon"), (fields.days, "day")] {
        if value != 0 {
            let plus = if after_negative && value > 0 { "+" } else { "" };
            let plural = if value == 1 { "" } else { "s" };
            words.push(format!("{plus}{value} {unit}{plural}"));
            after_negative = value < 0;
        }
    }
    if fields.has_time() || words.is_empty() {
        let sign = match (fields.negative_time(), after_negative) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let (hours, minutes) = (fields.hours.abs(), fields.minutes.abs());
        words.push(format!("{sign}{hours:02}:{minutes:02}:{}", seconds(fields.micros, true)));
    }
    words.join(" ")
}

/// `@ 1 year -2 mons ago`: the first field decides the direction, others are relative to it.
fn verbose(fields: &Fields) -> String {
    let mut out = "@".to_owned();
    let mut ago: Option<bool> = None;
    let named = [
        (fields.years, "year"),
        (fields.months, "mon"),
        (fields.days, "day"),
        (fields.hours, "hour"),
        (fields.minutes, "min"),
    ];
    for (value, unit) in named.into_iter().filter(|(value, _)| *value != 0) {
        let back = *ago.get_or_insert(value < 0);
        let value = if back { -value } else { value };
        out.push_str(&format!(" {value} {unit}{}", if value == 1 { "" } else { "s" }));
    }
    if fields.micros != 0 {
        let negative = fields.micros < 0;
        let back = *ago.get_or_insert(negative);
        let sign = if negative != back { "-" } else { "" };
        let plural = if fields.micros.abs() == 1_000_000 { "" } else { "s" };
        out.push_str(&format!(" {sign}{} sec{plural}", seconds(fields.micros, false)));
    }
    match ago {
        None => out.push_str(" 0"),
        Some(true) => out.push_str(" ago"),
        Some(false) => {}
    }
    out
}

/// One sign for all where the standard can say it, else a sign for each part.
fn sql_standard(fields: &Fields) -> String {
    let negative = fields.all().iter().any(|value| *value < 0);
    let positive = fields.all().iter().any(|value| *value > 0);
    let has_months = fields.years != 0 || fields.months != 0;
    let has_days = fields.days != 0;
    if !negative && !positive {
        return "0".to_owned();
    }
    let (years, months, days) = (fields.years.abs(), fields.months.abs(), fields.days.abs());
    let (hours, minutes) = (fields.hours.abs(), fields.minutes.abs());
    let clock = format!("{hours}:{minutes:02}:{}", seconds(fields.micros, true));
    if (negative && positive) || (has_months && (has_days || fields.has_time())) {
        let sign = |negative: bool| if negative { '-' } else { '+' };
        let of_months = sign(fields.years < 0 || fields.months < 0);
        let (of_days, of_time) = (sign(fields.days < 0), sign(fields.negative_time()));
        return format!("{of_months}{years}-{months} {of_days}{days} {of_time}{clock}");
    }
    let sign = if negative { "-" } else { "" };
    if has_months {
        format!("{sign}{years}-{months}")
    } else if has_days {
        format!("{sign}{days} {clock}")
    } else {
        format!("{sign}{clock}")
    }
}
