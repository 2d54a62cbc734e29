//! What keyed masks are made with: the key of one domain's masks, and the three things that it does.
//!
//! Guarantees: equal values of one domain give equal results and those of different domains unrelated ones, whatever the
//! version of the data key; the key is zeroised and has no `Debug`. Deliberately absent: what a mask looks like (`policy`),
//! and the way back: nothing here undoes a permutation. What FF1 computes on is in memory that is not zeroised, since the
//! crate that implements it takes and gives vectors of its own.

use aes::Aes256;
use fpe::ff1::{FF1, FlexibleNumeralString};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// Fewer than a million numbers could be told apart by trying (SP 800-38G Rev. 1), and a longer one takes long.
const DIGITS_LEAST: usize = 6;
const DIGITS_MOST: usize = 64;

/// The key of one domain's masks.
pub struct MaskKey {
    /// Keyed, and nothing put in yet.
    mac: Hmac<Sha256>,
    /// Set up when it is first asked for.
    permutation: OnceLock<FF1<Aes256>>,
}

impl MaskKey {
    /// Of the secret that the keyring has for masks, and the domain's name.
    pub fn new(secret: &[u8], domain: &str) -> MaskKey {
        let own = Zeroizing::new(digest(keyed(secret), &[b"pgveil mask v1", domain.as_bytes()]));
        MaskKey { mac: keyed(own.as_ref()), permutation: OnceLock::new() }
    }

    /// Equal for equal values.
    pub fn fingerprint(&self, value: &[u8]) -> [u8; 32] {
        self.derived(b"fingerprint", value)
    }

    /// What everything random of a stand-in for the value is made of.
    pub fn seed(&self, value: &[u8]) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.derived(b"stand-in", value))
    }

    /// Replaces the digits (0 to 9, not their characters) by others, each number by another of the same length (FF1).
    /// `None`, and nothing replaced: they are too few, too many, or no digits.
    pub fn permute(&self, digits: &mut [u8]) -> Option<()> {
        if !(DIGITS_LEAST..=DIGITS_MOST).contains(&digits.len()) {
            return None;
        }
        let permutation = self.permutation.get_or_init(|| {
            let key = Zeroizing::new(self.derived(b"ff1", b""));
            FF1::new(key.as_ref(), 10).expect("ten is a radix, and 32 bytes are a key of AES-256")
        });
        let numerals = digits.iter().copied().map(u16::from).collect::<Vec<u16>>();
        let permuted: Vec<u16> =
            permutation.encrypt(&[], &FlexibleNumeralString::from(numerals)).ok()?.into();
        for (digit, numeral) in digits.iter_mut().zip(permuted) {
            *digit = u8::try_from(numeral).ok()?;
        }
        Some(())
    }

    fn derived(&self, use_: &[u8], value: &[u8]) -> [u8; 32] {
        digest(self.mac.clone(), &[use_, value])
    }
}

pub(super) fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(secret).expect("HMAC takes a key of any length")
}

/// Of the parts with a zero byte between them: none but the last can hold one.
pub(super) fn digest(mut mac: Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
    for part in parts {
        mac.update(part);
        mac.update(&[0]);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permuted(key: &MaskKey, digits: &str) -> Option<String> {
        let mut digits: Vec<u8> = digits.bytes().map(|byte| byte - b'0').collect();
        key.permute(&mut digits)?;
        Some(digits.iter().map(|digit| char::from(b'0' + digit)).collect())
    }

    #[test]
    fn domains_have_unrelated_masks() {
        let [email, phone, other] = [("s", "email"), ("s", "phone"), ("t", "email")]
            .map(|(secret, domain)| MaskKey::new(secret.as_bytes(), domain));
        assert_eq!(email.fingerprint(b"x"), MaskKey::new(b"s", "email").fingerprint(b"x"));
        for wrong in [&phone, &other] {
            assert_ne!(email.fingerprint(b"x"), wrong.fingerprint(b"x"));
            assert_ne!(email.seed(b"x"), wrong.seed(b"x"));
            assert_ne!(permuted(&email, "123456"), permuted(wrong, "123456"));
        }
        assert_ne!(email.fingerprint(b"x"), *email.seed(b"x"));
    }

    #[test]
    fn a_permutation_is_one() {
        let key = MaskKey::new(b"s", "card");
        let all: std::collections::BTreeSet<String> =
            (0..2000).filter_map(|number| permuted(&key, &format!("{number:06}"))).collect();
        assert_eq!(all.len(), 2000, "no two numbers give one");
        assert!(all.iter().all(|digits| digits.len() == 6));
        assert_eq!(permuted(&key, "12345"), None);
        assert_eq!(permuted(&key, &"1".repeat(64)).map(|digits| digits.len()), Some(64));
        assert_eq!(permuted(&key, &"1".repeat(65)), None);
        assert_eq!(key.permute(&mut [1, 2, 3, 4, 5, 10]), None);
    }
}
