//! Small secrets that a configuration file keeps, sealed under a key of the keyring: those of the second factor.
//!
//! Guarantees: a secret opens only under the names that it was sealed for, so that one person's cannot be given to another
//! by editing the file; what was altered never opens. Deliberately absent: files, and what the secrets are good for.

use super::Random;
use super::siv::KEY_BYTES;
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use zeroize::Zeroizing;

/// Bytes of the nonce that stands before each sealed secret.
const NONCE_BYTES: usize = 16;

/// Seals and opens secrets. No `Debug`.
pub struct SecretBox(Zeroizing<[u8; KEY_BYTES]>);

impl SecretBox {
    pub(super) fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> SecretBox {
        SecretBox(key)
    }

    /// In hexadecimal: nonce, SIV, sealed bytes. `names` say what the secret is, and whose.
    pub fn seal(&self, names: [&str; 2], secret: &[u8], random: &mut dyn Random) -> String {
        let mut nonce = [0; NONCE_BYTES];
        random.fill(&mut nonce);
        let sealed = self.siv().encrypt(bound(names, &nonce), secret);
        let sealed = sealed.expect("three associated data are below the limit of S2V");
        faster_hex::hex_string(&[&nonce[..], &sealed].concat())
    }

    /// `None`: not sealed by this key for these names.
    pub fn open(&self, names: [&str; 2], sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = vec![0; sealed.len() / 2];
        faster_hex::hex_decode(sealed.as_bytes(), &mut bytes).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_BYTES)?;
        self.siv().decrypt(bound(names, nonce), sealed).ok().map(Zeroizing::new)
    }

    fn siv(&self) -> Aes256Siv {
        Aes256Siv::new((&*self.0).into())
    }
}

/// As RFC 5297 has it: associated data, the nonce last.
fn bound<'a>(names: [&'a str; 2], nonce: &'a [u8]) -> [&'a [u8]; 3] {
    [names[0].as_bytes(), names[1].as_bytes(), nonce]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Random for Fixed {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.fill(self.0);
        }
    }

    #[test]
    fn a_secret_opens_for_its_own_names_only() {
        let secrets = SecretBox::new(Zeroizing::new([7; KEY_BYTES]));
        let sealed = secrets.seal(["second factor", "alice"], b"a secret", &mut Fixed(1));
        assert_eq!(secrets.open(["second factor", "alice"], &sealed).unwrap().as_slice(), b"a secret");
        assert!(secrets.open(["second factor", "bob"], &sealed).is_none());
        assert!(secrets.open(["password", "alice"], &sealed).is_none());
        let other = SecretBox::new(Zeroizing::new([8; KEY_BYTES]));
        assert!(other.open(["second factor", "alice"], &sealed).is_none());
        let mut altered = sealed.clone();
        altered.replace_range(0..1, if altered.starts_with('0') { "1" } else { "0" });
        assert!(secrets.open(["second factor", "alice"], &altered).is_none());
        for broken in ["", "00", "zz", &sealed[1..]] {
            assert!(secrets.open(["second factor", "alice"], broken).is_none(), "{broken}");
        }
        assert_ne!(sealed, secrets.seal(["second factor", "alice"], b"a secret", &mut Fixed(2)));
    }
}
