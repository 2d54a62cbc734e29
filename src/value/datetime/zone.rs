//! Time zones: offsets, IANA names, POSIX specifications and the abbreviations that mean one offset everywhere.
//!
//! Abbreviations are those of PostgreSQL's `Default` set that have a fixed offset and common use; others are refused,
//! not guessed. Names are looked up in the database that this build carries: no file is read here.

use super::EPOCH_SHIFT;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::cell::RefCell;
use std::sync::OnceLock;

/// A zone that a text or a session names.
#[derive(Clone, Debug)]
pub(super) enum Zone {
    /// Seconds east of Greenwich.
    Offset(i64),
    Named(TimeZone),
}

/// Lower case, minutes east.
const ABBREVIATIONS: &[(&str, i64)] = &[
    ("acdt", 630),
    ("acst", 570),
    ("adt", -180),
    ("aedt", 660),
    ("aest", 600),
    ("akdt", -480),
    ("akst", -540),
    ("ast", -240),
    ("awst", 480),
    ("bst", 60),
    ("cdt", -300),
    ("cest", 120),
    ("cet", 60),
    ("cst", -360),
    ("eat", 180),
    ("edt", -240),
    ("eest", 180),
    ("eet", 120),
    ("est", -300),
    ("gmt", 0),
    ("hkt", 480),
    ("hst", -600),
    ("idt", 180),
    ("ist", 120),
    ("jst", 540),
    ("kst", 540),
    ("mdt", -360),
    ("mest", 120),
    ("mesz", 120),
    ("met", 60),
    ("mez", 60),
    ("mst", -420),
    ("ndt", -150),
    ("nst", -210),
    ("nzdt", 780),
    ("nzst", 720),
    ("pdt", -420),
    ("pkt", 300),
    ("pst", -480),
    ("sast", 120),
    ("uct", 0),
    ("ut", 0),
    ("utc", 0),
    ("wat", 60),
    ("wet", 0),
    ("z", 0),
    ("zulu", 0),
];

/// 400 Gregorian years in seconds: the rules of all zones repeat after it.
const CYCLE: i64 = 146_097 * 86_400;
/// The last second, from 1970, that is looked up as it is; and the first of year -9999.
const LOOKUP_MAX: i64 = 253_000_000_000;
const LOOKUP_MIN: i64 = -377_700_000_000;

impl Zone {
    /// `EST`, `utc`: an abbreviation, in any case.
    pub(super) fn abbreviated(word: &str) -> Option<Zone> {
        let lower = word.to_ascii_lowercase();
        let found = ABBREVIATIONS.iter().find(|(name, _)| *name == lower)?;
        Some(Zone::Offset(found.1 * 60))
    }

    /// An IANA name in any case, or a POSIX specification such as `<+03>-03`.
    pub(super) fn named(name: &str) -> Option<Zone> {
        thread_local! {
            // The session's zone is asked for at each value.
            static LAST: RefCell<Option<(String, TimeZone)>> = const { RefCell::new(None) };
        }
        LAST.with_borrow_mut(|last| {
            if let Some((known, zone)) = last
                && known == name
            {
                return Some(Zone::Named(zone.clone()));
            }
            let zone = look_up(name)?;
            *last = Some((name.to_owned(), zone.clone()));
            Some(Zone::Named(zone))
        })
    }

    /// Seconds east at an instant, in seconds from 2000-01-01 UTC.
    pub(super) fn offset_at(&self, seconds: i64) -> i64 {
        match self {
            Zone::Offset(east) => *east,
            Zone::Named(zone) => zone.to_offset(at(seconds)).seconds().into(),
        }
    }

    /// Seconds east where a clock of the zone shows `local` microseconds. In a gap the offset before it, in a fold the
    /// one after it (`DetermineTimeZoneOffset`).
    pub(super) fn offset_of_local(&self, local: i64) -> i64 {
        let zone = match self {
            Zone::Offset(east) => return *east,
            Zone::Named(zone) => zone,
        };
        let local = local.div_euclid(1_000_000);
        let day_before = at(local - 86_400);
        let before = i64::from(zone.to_offset(day_before).seconds());
        let Some(transition) = zone.following(day_before).next() else { return before };
        let after = i64::from(transition.offset().seconds());
        // The transition is in the lookup's year; compare there.
        let local = at(local).as_second();
        let boundary = transition.timestamp().as_second();
        let (by_before, by_after) = (local - before, local - after);
        if by_before < boundary && by_after < boundary {
            before
        } else if (by_before > boundary && by_after >= boundary) || by_before <= by_after {
            after
        } else {
            before
        }
    }

    /// The zone's abbreviation at an instant, as SQL and POSTGRES styles print it.
    pub(super) fn abbreviation_at(&self, seconds: i64) -> Option<String> {
        match self {
            Zone::Offset(_) => None,
            Zone::Named(zone) => {
                let at = at(seconds);
                Some(zone.to_offset_info(at).abbreviation().to_owned())
            }
        }
    }
}

fn look_up(name: &str) -> Option<TimeZone> {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    let zones = ZONES.get_or_init(TimeZoneDatabase::bundled);
    zones.get(name).ok().or_else(|| TimeZone::posix(&name.to_ascii_uppercase()).ok())
}

/// An instant in seconds from 2000-01-01 UTC, moved by whole cycles into what can be looked up.
fn at(seconds: i64) -> Timestamp {
    let unix = seconds + EPOCH_SHIFT * 86_400;
    let cycles = (unix - LOOKUP_MAX + CYCLE - 1).div_euclid(CYCLE).max(0);
    let within = (unix - cycles * CYCLE).max(LOOKUP_MIN);
    Timestamp::from_second(within).expect("the bounds are inside what a Timestamp holds")
}
