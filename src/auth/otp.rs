//! The second factor: one-time codes by time (TOTP, RFC 6238), as every authenticator app makes them.
//!
//! SHA-1, six digits, thirty seconds: what apps take without asking. Guarantees: codes are compared in constant time, and
//! one step of the clock early or late is forgiven. Deliberately absent: whether a code was used before, and how often
//! someone may try (the ledger that all proxies share knows), and how secrets are kept.

use std::collections::BTreeMap;
use std::fmt::Write;
use totp_rs::{Algorithm, Builder, Secret};
use zeroize::Zeroizing;

/// Bytes of a secret, as RFC 4226 recommends.
pub const SECRET_BYTES: usize = 20;

/// Seconds for which one code holds.
const STEP_SECONDS: u64 = 30;
const DIGITS: u8 = 6;
/// How many steps a clock may be off.
const SKEW_STEPS: u16 = 1;

/// One person's authenticator. No `Debug`.
pub struct Totp(totp_rs::Totp);

/// Who has a second factor, by user.
pub type SecondFactors = BTreeMap<String, Totp>;

impl Totp {
    /// `None`: not as long as a secret is.
    pub fn new(secret: &[u8]) -> Option<Totp> {
        let secret = Zeroizing::new(<[u8; SECRET_BYTES]>::try_from(secret).ok()?);
        let builder = Builder::new().with_algorithm(Algorithm::SHA1).with_digits(DIGITS);
        let builder = builder.with_skew(SKEW_STEPS).with_step_duration(STEP_SECONDS);
        builder.with_secret(Secret::new_stack(*secret)).build().ok().map(Totp)
    }

    /// The step of time that `code` is of, where that is about now; `now` is Unix seconds.
    pub fn step(&self, code: &str, now: u64) -> Option<u64> {
        self.0.check(code, now)
    }

    /// What an authenticator app reads, as text or from a QR code. It holds the secret.
    pub fn address(&self, user: &str) -> Zeroizing<String> {
        let secret = Zeroizing::new(self.0.secret().to_base32());
        let mut account = String::new();
        for byte in user.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                account.push(char::from(byte));
            } else {
                // Writing to a String does not fail.
                let _ = write!(account, "%{byte:02X}");
            }
        }
        Zeroizing::new(format!(
            "otpauth://totp/pgveil:{account}?secret={}&issuer=pgveil&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
            secret.as_str()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key of RFC 6238, Appendix B, for SHA-1.
    const KEY: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_rfc() {
        let totp = Totp::new(KEY).unwrap();
        // The RFC prints eight digits; a code of six is their end.
        for (time, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(totp.step(&code[2..], time), Some(time / 30), "{time}");
        }
    }

    #[test]
    fn one_step_early_or_late_is_forgiven_and_no_more() {
        let totp = Totp::new(KEY).unwrap();
        let step = 1_111_111_109 / 30;
        for (off, holds) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let now = 1_111_111_109_i64 + off * 30;
            assert_eq!(totp.step("081804", now.unsigned_abs()), holds.then_some(step), "{off}");
        }
        for wrong in ["", "81804", "0081804", "08180x", "+81804", " 81804", "081805"] {
            assert_eq!(totp.step(wrong, 1_111_111_109), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_names_the_person_and_holds_the_secret() {
        let address = Totp::new(KEY).unwrap().address("ann o'hara:ü");
        assert_eq!(
            address.as_str(),
            "otpauth://totp/pgveil:ann%20o%27hara%3A%C3%BC?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\
             &issuer=pgveil&algorithm=SHA1&digits=6&period=30"
        );
        assert!(Totp::new(b"short").is_none());
    }
}
