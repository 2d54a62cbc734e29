//! A master key in shares (Shamir's secret sharing over GF(2^8), in constant time): any so many of them make it again, fewer say nothing.
//!
//! A share is a line of text: `pgveil-share-v1`, the set that it is of, how many are needed, its number, its 32 bytes, a checksum, with
//! hyphens between. Guarantees: a mistyped share, one of another set and one given twice are told before they are combined; no error
//! holds what was read. Deliberately absent: whether what comes out is the right key (the keyring tells), and who holds which share.

use super::Random;
use super::keyring::{MASTER_KEY_BYTES, MasterKey};
use rand::rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest, Sha256};
use std::convert::Infallible;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

const PREFIX: &str = "pgveil-share-v1";
const SET_BYTES: usize = 4;
const CHECK_BYTES: usize = 4;

/// How many shares there are, and how many of them make the key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    needed: u8,
    of: u8,
}

/// One share. No `Debug`.
pub struct Share {
    set: [u8; SET_BYTES],
    needed: u8,
    number: u8,
    secret: Zeroizing<[u8; MASTER_KEY_BYTES]>,
}

/// Why shares make no key; numbers are those of the shares as they were given, from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    #[error("what was given as number {0} is not a share of a master key")]
    NotAShare(usize),
    #[error("the share that was given as number {0} is mistyped: its checksum does not fit")]
    Mistyped(usize),
    #[error("the share that was given as number {0} is of set {1}, and the first one of set {2}")]
    OtherSet(usize, String, String),
    #[error("the share that was given as number {0} was given before")]
    Twice(usize),
    #[error("{given} of the {needed} shares that set {set} needs were given")]
    TooFew { given: usize, needed: u8, set: String },
}

impl Quorum {
    /// `3/5`: any three of five. `None` when that is no quorum: fewer than two needed, or more than there are.
    pub fn parse(text: &str) -> Option<Quorum> {
        let (needed, of) = text.split_once('/')?;
        let (needed, of) = (needed.parse().ok()?, of.parse().ok()?);
        (2 <= needed && needed <= of).then_some(Quorum { needed, of })
    }
    pub fn needed(self) -> u8 {
        self.needed
    }
}

/// The shares of a master key, of a set that `random` names.
pub fn split(master: &MasterKey, quorum: Quorum, random: &mut dyn Random) -> Vec<Share> {
    let mut set = [0; SET_BYTES];
    random.fill(&mut set);
    let (needed, of) = (usize::from(quorum.needed), usize::from(quorum.of));
    let shares = Gf256::split_bytes(needed, of, master.bytes(), Source(random));
    let shares = Zeroizing::new(shares.expect("two to 255 shares of 32 bytes can be made"));
    let share = |bytes: &Vec<u8>| {
        let (number, rest) = bytes.split_first().expect("its number stands before its bytes");
        let mut secret = Zeroizing::new([0; MASTER_KEY_BYTES]);
        secret.copy_from_slice(rest);
        Share { set, needed: quorum.needed, number: *number, secret }
    };
    shares.iter().map(share).collect()
}

/// The master key that shares make. More than are needed may be given.
///
/// # Errors
/// [`ShareError`].
pub fn combine(shares: &[Share]) -> Result<MasterKey, ShareError> {
    let Some(first) = shares.first() else {
        return Err(ShareError::TooFew { given: 0, needed: 2, set: "any".to_owned() });
    };
    for (index, share) in shares.iter().enumerate() {
        if (share.set, share.needed) != (first.set, first.needed) {
            return Err(ShareError::OtherSet(index + 1, share.set(), first.set()));
        }
        if shares[..index].iter().any(|before| before.number == share.number) {
            return Err(ShareError::Twice(index + 1));
        }
    }
    let too_few = || ShareError::TooFew { given: shares.len(), needed: first.needed, set: first.set() };
    if shares.len() < usize::from(first.needed) {
        return Err(too_few());
    }
    let bytes = |share: &Share| [&[share.number][..], share.secret.as_ref()].concat();
    let bytes = Zeroizing::new(shares.iter().map(bytes).collect::<Vec<Vec<u8>>>());
    let combined = Gf256::combine_bytes(bytes.as_slice()).map(Zeroizing::new);
    // Numbers are distinct and not 0, lengths are equal: what could be wrong was refused above.
    combined.ok().and_then(|combined| MasterKey::from_slice(&combined)).ok_or_else(too_few)
}

impl Share {
    /// The line of text.
    pub fn text(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(faster_hex::hex_string(self.secret.as_ref()));
        let mut text = Zeroizing::new(String::with_capacity(128));
        for part in
            [PREFIX, "-", &self.set(), "-", &self.needed.to_string(), "-", &self.number.to_string(), "-"]
        {
            text.push_str(part);
        }
        text.push_str(&secret);
        let check = check(&text);
        text.push('-');
        text.push_str(&check);
        text
    }

    /// Reads the line of text; white space and the case of letters do not matter. `position` is for the error.
    ///
    /// # Errors
    /// [`ShareError::NotAShare`] or [`ShareError::Mistyped`].
    pub fn parse(text: &str, position: usize) -> Result<Share, ShareError> {
        let strange = || ShareError::NotAShare(position);
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        plain.extend(text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_ascii_lowercase()));
        let rest = plain.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')).ok_or_else(strange)?;
        let parts: Vec<&str> = rest.split('-').collect();
        let [set, needed, number, secret, given] = parts[..] else { return Err(strange()) };
        let covered = plain.len() - given.len() - 1;
        if check(&plain[..covered]) != given {
            return Err(ShareError::Mistyped(position));
        }
        let mut share = Share {
            set: [0; SET_BYTES],
            needed: needed.parse().ok().filter(|needed| *needed >= 2).ok_or_else(strange)?,
            number: number.parse().ok().filter(|number| *number >= 1).ok_or_else(strange)?,
            secret: Zeroizing::new([0; MASTER_KEY_BYTES]),
        };
        faster_hex::hex_decode(set.as_bytes(), &mut share.set).map_err(|_| strange())?;
        faster_hex::hex_decode(secret.as_bytes(), share.secret.as_mut()).map_err(|_| strange())?;
        Ok(share)
    }

    /// The name of its set.
    pub fn set(&self) -> String {
        faster_hex::hex_string(&self.set)
    }
    pub fn needed(&self) -> u8 {
        self.needed
    }
}

fn check(text: &str) -> String {
    faster_hex::hex_string(&Sha256::digest(text.as_bytes())[..CHECK_BYTES])
}

/// Randomness that was handed in, as the sharing's crate asks for it.
struct Source<'r>(&'r mut dyn Random);

impl TryRng for Source<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

/// What hands it in says of itself that it is the operating system's.
impl TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use super::super::provider::SystemRandom;
    use super::*;

    fn shares(quorum: &str) -> Vec<Share> {
        split(&MasterKey::new([7; 32]), Quorum::parse(quorum).expect("a quorum"), &mut SystemRandom)
    }

    fn again(share: &Share) -> Share {
        Share::parse(&share.text(), 1).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn any_so_many_make_the_key_again_and_fewer_do_not() {
        let all = shares("3/5");
        for mask in 0u32..32 {
            let some: Vec<Share> =
                (0..5).filter(|bit| mask >> bit & 1 == 1).map(|bit| again(&all[bit])).collect();
            match combine(&some) {
                Ok(key) => assert!(some.len() >= 3 && key.bytes() == &[7; 32], "{mask:b}"),
                Err(error) => {
                    assert!(
                        some.len() < 3 && matches!(error, ShareError::TooFew { .. }),
                        "{mask:b}: {error}"
                    );
                }
            }
        }
        assert!(combine(&shares("255/255")).is_ok_and(|key| key.bytes() == &[7; 32]));
    }

    #[test]
    fn one_key_has_other_shares_each_time() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..64 {
            seen.insert(shares("2/2")[0].secret[0]);
        }
        assert!(seen.len() > 32, "{}", seen.len());
    }

    #[test]
    fn wrong_shares_are_told_apart() {
        let (one, other) = (shares("2/3"), shares("2/3"));
        let foreign = combine(&[again(&one[0]), again(&other[1])]).err();
        assert_eq!(foreign, Some(ShareError::OtherSet(2, other[1].set(), one[0].set())));
        assert_eq!(combine(&[again(&one[0]), again(&one[0])]).err(), Some(ShareError::Twice(2)));
        let text = one[0].text();
        for (at, byte) in text.bytes().enumerate().skip(PREFIX.len() + 1) {
            let mut wrong = text.to_string();
            wrong.replace_range(at..=at, if byte == b'1' { "2" } else { "1" });
            assert!(Share::parse(&wrong, 4).is_err_and(|error| {
                error == ShareError::Mistyped(4) || error == ShareError::NotAShare(4)
            }));
        }
        for text in ["", "secret", &text[1..], &text[..text.len() - 9]] {
            assert_eq!(Share::parse(text, 2).err(), Some(ShareError::NotAShare(2)));
        }
        assert!(Share::parse(&format!("  {}\n", text.to_uppercase()), 1).is_ok());
    }

    #[test]
    fn quorums() {
        for (text, is_one) in
            [("2/3", true), ("2/2", true), ("1/2", false), ("4/3", false), ("2/256", false), ("3", false)]
        {
            assert_eq!(Quorum::parse(text).is_some(), is_one, "{text}");
        }
    }
}
