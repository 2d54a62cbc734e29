//! The masks of ordinary text and of days, made where they are shown.
//!
//! What is masked is mostly ASCII and formed as it should be, and then its mask is short and has a fixed form: it is written at once into room that
//! is there, without a call for each of its pieces. Guarantees: what is written is what [`Mask::apply`] makes (`tests/it/mask.rs` holds
//! all that it tries to both). Deliberately absent: everything else, which is left to that.

use super::text::{CARD, PHONE_BEFORE, PHONE_DIGITS_LEAST, card_digits_least};
use super::{Ends, HIDDEN, Mask};
use crate::value::{DataType, Period, date_start};

/// Room that every mask made here has, in bytes; none is longer.
pub const QUICK_BYTES: usize = 64;

/// More characters than are shown are hidden, however long each is.
const SURELY_FIVE_CHARACTERS: usize = 2 + 2 * 4 + 1;

impl Mask {
    /// Writes the mask at the start of `room`, and gives its length. `None`: nothing was written, and [`apply`](Mask::apply) must make it.
    #[inline]
    pub fn quickly(
        &self,
        data_type: &DataType,
        canonical: &[u8],
        room: &mut [u8; QUICK_BYTES],
    ) -> Option<usize> {
        if !matches!(data_type, DataType::Text | DataType::Varchar(None)) {
            return self.day(data_type, canonical, room);
        }
        match self {
            Mask::Redact => {
                *room.first_chunk_mut()? = *hidden();
                Some(HIDDEN.len())
            }
            Mask::Partial(Ends { first: 1, last: 1 }) => partial(canonical, room),
            Mask::Email => email(canonical, room),
            Mask::Card(ends @ Ends { first: 0, last: 4 }) => {
                let last = last_digits(canonical, card_digits_least(*ends))?;
                before_last(CARD.as_bytes().first_chunk::<15>()?, last, room)
            }
            Mask::Phone => {
                let last = last_digits(canonical, PHONE_DIGITS_LEAST)?;
                before_last(PHONE_BEFORE.as_bytes().first_chunk::<8>()?, last, room)
            }
            _ => None,
        }
    }

    fn day(&self, data_type: &DataType, canonical: &[u8], room: &mut [u8; QUICK_BYTES]) -> Option<usize> {
        let day = match (self, data_type) {
            (Mask::Year, DataType::Date) => date_start(Period::Year, canonical)?,
            (Mask::Month, DataType::Date) => date_start(Period::Month, canonical)?,
            _ => return None,
        };
        *room.first_chunk_mut()? = day;
        Some(day.len())
    }
}

const fn hidden() -> &'static [u8; 3] {
    HIDDEN.as_bytes().first_chunk().expect("it has three characters")
}

fn partial(text: &[u8], room: &mut [u8; QUICK_BYTES]) -> Option<usize> {
    let ([first, .., last], SURELY_FIVE_CHARACTERS..) = (text, text.len()) else { return None };
    if !first.is_ascii() || !last.is_ascii() {
        return None;
    }
    *room.first_chunk_mut()? = [*first, b'*', b'*', b'*', *last];
    Some(5)
}

fn email(text: &[u8], room: &mut [u8; QUICK_BYTES]) -> Option<usize> {
    /// Of a top so long, and with what must stand before it.
    const TOP: usize = 8;
    let at = text.iter().position(|byte| *byte == b'@')?;
    let domain = text.get(at + 1..)?;
    let top = domain.iter().rev().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (dot, host) = domain.get(..domain.len() - top)?.split_last()?;
    let (local, host_first) = (text.first()?, host.first()?);
    let plain = at > 0
        && *dot == b'.'
        && *host_first != b'.'
        && (2..=TOP).contains(&top)
        && local.is_ascii()
        && host_first.is_ascii()
        && !host.contains(&b'@');
    if !plain {
        return None;
    }
    // With what stands before the top, which is overwritten.
    *room.get_mut(10 + top - TOP..)?.first_chunk_mut::<TOP>()? = *text.last_chunk()?;
    *room.first_chunk_mut()? = [*local, b'*', b'*', b'*', b'@', *host_first, b'*', b'*', b'*', b'.'];
    Some(10 + top)
}

/// The last four ASCII digits, where there are at least so many.
fn last_digits(text: &[u8], least: usize) -> Option<[u8; 4]> {
    let (mut last, mut count) = (0_u32, 0);
    for digit in text.iter().filter(|byte| byte.is_ascii_digit()) {
        last = last << 8 | u32::from(*digit);
        count += 1;
    }
    (count >= least).then(|| last.to_be_bytes())
}

fn before_last<const N: usize>(
    before: &[u8; N],
    last: [u8; 4],
    room: &mut [u8; QUICK_BYTES],
) -> Option<usize> {
    *room.first_chunk_mut()? = *before;
    *room.get_mut(N..)?.first_chunk_mut()? = last;
    Some(N + 4)
}
