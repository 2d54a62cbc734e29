//! When a rule holds: `mon-fri 08:00-18:00 Europe/Berlin`, read and asked. Pure: the moment is an argument.
//!
//! Guarantees: reading is total; local time follows the zone's own daylight-saving rules. Deliberately absent: clocks,
//! holidays.

use super::Hours;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Hours {
    /// Reads `DAYS FROM-TO ZONE`: days as `mon`, `mon-fri` or `mon,wed,sat-sun`; times as `HH:MM` (24:00 may end a
    /// span); an IANA zone or `UTC`.
    ///
    /// # Errors
    /// A sentence part that says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Hours, String> {
        let parts: Vec<&str> = text.split_whitespace().collect();
        let [days, times, zone] = parts.as_slice() else {
            return Err("needs days, times and a time zone".to_owned());
        };
        let (from, to) =
            times.split_once('-').ok_or_else(|| format!("\"{times}\" is not a span of times"))?;
        let (from_minute, to_minute) = (minute(from)?, minute(to)?);
        if from_minute == to_minute || from_minute == MINUTES_PER_DAY {
            return Err(format!("\"{times}\" is an empty span"));
        }
        let zone = jiff::tz::TimeZone::get(zone)
            .map_err(|_| format!("\"{zone}\" is not a time zone that we know"))?;
        Ok(Hours { text: text.into(), days: week(days)?, from_minute, to_minute, zone })
    }

    /// Whether the moment (Unix seconds) is within. A moment that the calendar cannot express is not.
    pub fn contains(&self, now: i64) -> bool {
        let Ok(moment) = jiff::Timestamp::from_second(now) else { return false };
        let local = moment.to_zoned_datetime(self.zone.clone());
        let minute = i32::from(local.hour()) * 60 + i32::from(local.minute());
        let (from, to) = (i32::from(self.from_minute), i32::from(self.to_minute));
        // 0..=6 by definition, so both lookups hit.
        let today = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or(false);
        if from < to {
            on(today) && (from..to).contains(&minute)
        } else {
            (on(today) && minute >= from) || (on(today + 6) && minute < to)
        }
    }
}

const MINUTES_PER_DAY: u16 = 24 * 60;

fn minute(text: &str) -> Result<u16, String> {
    let wrong = || format!("\"{text}\" is not a time of day");
    let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
    let two_digits = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok()).flatten();
    let (hours, minutes) = two_digits(hours).zip(two_digits(minutes)).ok_or_else(wrong)?;
    let total = hours * 60 + minutes;
    if minutes < 60 && total <= MINUTES_PER_DAY { Ok(total) } else { Err(wrong()) }
}

fn week(text: &str) -> Result<[bool; 7], String> {
    let day = |name: &str| {
        let known = DAYS.iter().position(|day| *day == name.to_ascii_lowercase());
        known.ok_or_else(|| format!("\"{name}\" is not a day (mon, tue, wed, thu, fri, sat, sun)"))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `sat-mon` runs over the week's end.
        for step in 0..=(last + 7 - first) % 7 {
            if let Some(on) = days.get_mut((first + step) % 7) {
                *on = true;
            }
        }
    }
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(moment: &str) -> i64 {
        moment.parse::<jiff::Timestamp>().unwrap().as_second()
    }

    #[test]
    fn local_time_decides() {
        let hours = Hours::parse("mon-fri 08:00-18:00 Europe/Berlin").unwrap();
        // A Monday in summer (UTC+2) and one in winter (UTC+1).
        assert!(hours.contains(at("2026-07-06T06:00:00Z")));
        assert!(!hours.contains(at("2026-07-06T05:59:59Z")));
        assert!(!hours.contains(at("2026-01-05T06:30:00Z")));
        assert!(!hours.contains(at("2026-07-06T16:00:00Z")), "the end is exclusive");
        assert!(!hours.contains(at("2026-07-05T10:00:00Z")), "a Sunday");
    }

    #[test]
    fn a_span_past_midnight_belongs_to_its_first_day() {
        let night = Hours::parse("sun 22:00-06:00 UTC").unwrap();
        assert!(night.contains(at("2026-07-05T22:00:00Z")));
        assert!(night.contains(at("2026-07-06T05:59:00Z")));
        assert!(!night.contains(at("2026-07-05T05:00:00Z")));
        assert!(!night.contains(at("2026-07-06T22:00:00Z")));
    }

    #[test]
    fn days_may_be_listed_and_wrap() {
        assert_eq!(week("sat-mon,wed").unwrap(), [true, false, true, false, false, true, true]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("mon 08:00-18:00", "needs days, times and a time zone"),
            ("mon 8-18 UTC", "\"8\" is not a time of day"),
            ("mon 08:00-24:01 UTC", "\"24:01\" is not a time of day"),
            ("mon 08:00-08:00 UTC", "\"08:00-08:00\" is an empty span"),
            ("moon 08:00-18:00 UTC", "\"moon\" is not a day (mon, tue, wed, thu, fri, sat, sun)"),
            ("mon 08:00-18:00 Mars/Base", "\"Mars/Base\" is not a time zone that we know"),
        ] {
            assert_eq!(Hours::parse(text).unwrap_err(), expected);
        }
        assert!(Hours::parse("mon-sun 00:00-24:00 UTC").is_ok());
    }
}
