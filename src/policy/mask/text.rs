//! Masks of text that show a part of it.

use super::{HIDDEN, put};
use crate::policy::form::Ends;
use crate::value::DataType;
use zeroize::Zeroizing;

const HIDDEN_DOT: &str = "***.";
/// A card number is shown like this, however long it is.
pub(super) const CARD: &str = "**** **** **** ****";
const CARD_SLOTS: usize = 16;
pub(super) const CARD_DIGITS_LEAST: usize = 12;
pub(super) const CARD_HIDDEN_LEAST: usize = 5;
pub(super) const PHONE_DIGITS_LEAST: usize = 8;
pub(super) const PHONE_SHOWN: usize = 4;
pub(super) const PHONE_BEFORE: &str = "*** *** ";
pub(super) const IBAN_BETWEEN: &str = "** **** **** ";
/// ISO 13616: country, check digits, and up to thirty letters and digits; no country has fewer than eleven.
const IBAN_REST: std::ops::RangeInclusive<usize> = 11..=30;

/// The first character, and what comes after it.
fn first(text: &str) -> Option<(&str, &str)> {
    text.split_at_checked(text.chars().next()?.len_utf8())
}

/// Nothing where less would be hidden than shown.
pub(super) fn partial(text: &str, ends: Ends) -> [&str; 3] {
    let shown = || {
        text.char_indices().nth(2 * ends.shown() - 1)?;
        let head = text.char_indices().nth(ends.first.into())?.0;
        let tail = match ends.last {
            0 => text.len(),
            last => text.char_indices().nth_back(usize::from(last) - 1)?.0,
        };
        Some([text.get(..head)?, HIDDEN, text.get(tail..)?])
    };
    shown().unwrap_or([HIDDEN, "", ""])
}

pub(super) fn email(text: &str) -> [&str; 6] {
    let parts = || {
        let (local, domain) = text.split_once('@')?;
        let (host, top) = domain.rsplit_once('.')?;
        // A longer top could be anything, and it is shown.
        let plain = (2..=24).contains(&top.len()) && top.bytes().all(|byte| byte.is_ascii_alphabetic());
        let (host, _) = first(host).filter(|(first, _)| *first != "." && !domain.contains('@'))?;
        Some([first(local)?.0, HIDDEN, "@", host, HIDDEN_DOT, top]).filter(|_| plain)
    };
    parts().unwrap_or([HIDDEN, "", "", "", "", ""])
}

/// How many digits a card number has at least, for so much of it to be shown.
pub(super) fn card_digits_least(ends: Ends) -> usize {
    CARD_DIGITS_LEAST.max(ends.shown() + CARD_HIDDEN_LEAST)
}

/// What stands between the digits of a card number that are shown first and last.
pub(super) fn card_between(ends: Ends) -> &'static str {
    // Where a digit stands in `CARD`.
    let place = |digit: usize| digit + digit / 4;
    let from = usize::from(ends.first).checked_sub(1).map_or(0, |shown| place(shown) + 1);
    let to = match ends.last {
        0 => CARD.len(),
        last => place(CARD_SLOTS - usize::from(last)),
    };
    CARD.get(from..to).unwrap_or(CARD)
}

/// The first and last of the ASCII digits, and how many there are.
struct Digits {
    first: [u8; 6],
    last: [u8; 4],
    count: usize,
}

fn digits(text: &str) -> Digits {
    let digits = || text.bytes().filter(u8::is_ascii_digit);
    let mut found = Digits { first: [0; 6], last: [0; 4], count: digits().count() };
    found.first.iter_mut().zip(digits()).for_each(|(place, digit)| *place = digit);
    found.last.iter_mut().rev().zip(digits().rev()).for_each(|(place, digit)| *place = digit);
    found
}

pub(super) fn card(text: &str, ends: Ends, data_type: &DataType, out: &mut Vec<u8>) {
    let Digits { first, last, count } = digits(text);
    if count < card_digits_least(ends) {
        return put(data_type, &[HIDDEN], out);
    }
    let ascii = |digits| std::str::from_utf8(digits).unwrap_or_default();
    let head = ascii(first.get(..ends.first.into()).unwrap_or_default());
    let tail = ascii(last.get(last.len() - usize::from(ends.last)..).unwrap_or_default());
    let (group, rest) = head.split_at(head.len().min(4));
    let space = if rest.is_empty() { "" } else { " " };
    put(data_type, &[group, space, rest, card_between(ends), tail], out);
}

pub(super) fn phone(text: &str, data_type: &DataType, out: &mut Vec<u8>) {
    let Digits { last, count, .. } = digits(text);
    match std::str::from_utf8(&last) {
        Ok(last) if count >= PHONE_DIGITS_LEAST => put(data_type, &[PHONE_BEFORE, last], out),
        _ => put(data_type, &[HIDDEN], out),
    }
}

pub(super) fn iban(text: &str, data_type: &DataType, out: &mut Vec<u8>) {
    // No IBAN is longer with spaces between its characters, and what is longer is not copied.
    let squeezed = text.chars().filter(|c| *c != ' ').take(5 + IBAN_REST.end()).collect::<String>();
    let squeezed = Zeroizing::new(squeezed);
    let parts = || {
        let (country, rest) = squeezed.split_at_checked(2)?;
        let (check, rest) = rest.split_at_checked(2)?;
        let formed = country.bytes().all(|byte| byte.is_ascii_alphabetic())
            && check.bytes().all(|byte| byte.is_ascii_digit())
            && IBAN_REST.contains(&rest.len())
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Some([country, IBAN_BETWEEN, rest.get(rest.len().checked_sub(4)?..)?]).filter(|_| formed)
    };
    put(data_type, &parts().unwrap_or([HIDDEN, "", ""]), out);
}
