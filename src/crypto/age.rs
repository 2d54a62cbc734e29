//! Sealing to people in the age format (age-encryption.org/v1), armored: what they open with `age -d -i KEY`, and nobody without a key.
//!
//! The part of the format that is needed here, X25519 recipients, over the primitives that the program has anyway: the crate `age` would
//! bring ninety others. Guarantees: only recipients whose checksum fits are sealed to; a file key is used once. Deliberately absent:
//! opening, and other kinds of recipients (passphrases, SSH keys, plugins, post-quantum ones): they are refused by name.

use super::Random;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use sha2::Sha256;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
const FILE_KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;
/// Of a line of armor.
const COLUMNS: usize = 64;

/// The public key of someone who may open: `age1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    key: [u8; KEY_BYTES],
    text: String,
}

/// Nothing was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("a recipient's key is none that anything can be sealed to")]
    WeakRecipient,
    #[error("there is no recipient")]
    NoRecipient,
}

impl Recipient {
    /// Reads `age1…`. `None` for all that is no X25519 recipient, or mistyped.
    pub fn parse(text: &str) -> Option<Recipient> {
        let checked = CheckedHrpstring::new::<Bech32>(text).ok()?;
        let bytes: Vec<u8> = checked.byte_iter().collect();
        let key = <[u8; KEY_BYTES]>::try_from(bytes).ok()?;
        (checked.hrp().as_str() == "age").then(|| Recipient { key, text: text.to_owned() })
    }
}

impl std::fmt::Display for Recipient {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

/// The armored file, which each of `recipients` can open.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    plaintext: &[u8],
    recipients: &[Recipient],
    random: &mut dyn Random,
) -> Result<String, SealError> {
    if recipients.is_empty() {
        return Err(SealError::NoRecipient);
    }
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    random.fill(file_key.as_mut());
    let mut header = "age-encryption.org/v1\n".to_owned();
    for recipient in recipients {
        header += &stanza(recipient, &file_key)?;
    }
    header += "---";
    let key = derive(file_key.as_ref(), b"", b"header");
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_ref()).expect("HMAC takes keys of any length");
    mac.update(header.as_bytes());
    let mac = STANDARD_NO_PAD.encode(mac.finalize().into_bytes());
    let mut nonce = [0; NONCE_BYTES];
    random.fill(&mut nonce);
    let mut file = format!("{header} {mac}\n").into_bytes();
    file.extend_from_slice(&nonce);
    payload(plaintext, &derive(file_key.as_ref(), &nonce, b"payload"), &mut file);
    Ok(armored(&file))
}

/// The file key, wrapped for one recipient.
fn stanza(recipient: &Recipient, file_key: &[u8; FILE_KEY_BYTES]) -> Result<String, SealError> {
    let weak = |_| SealError::WeakRecipient;
    let own = EphemeralPrivateKey::generate(&X25519, &ring::rand::SystemRandom::new());
    let own = own.expect("the operating system gives randomness");
    let share = own.compute_public_key().expect("every X25519 key has a public one");
    let salt = [share.as_ref(), &recipient.key].concat();
    let theirs = UnparsedPublicKey::new(&X25519, &recipient.key);
    let key = agree_ephemeral(own, &theirs, |shared| derive(shared, &salt, b"age-encryption.org/v1/X25519"));
    let mut wrapped = file_key.to_vec();
    let key: Zeroizing<[u8; KEY_BYTES]> = key.map_err(weak)?;
    encrypt(&key, [0; 12], &mut wrapped);
    Ok(format!(
        "-> X25519 {}\n{}\n",
        STANDARD_NO_PAD.encode(share.as_ref()),
        STANDARD_NO_PAD.encode(&wrapped)
    ))
}

/// Chunks, each under its number; the last one says that it is.
fn payload(plaintext: &[u8], key: &[u8; KEY_BYTES], file: &mut Vec<u8>) {
    let chunks: Vec<&[u8]> = plaintext.chunks(CHUNK_BYTES).collect();
    let chunks = if chunks.is_empty() { vec![&[][..]] } else { chunks };
    for (number, chunk) in chunks.iter().enumerate() {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
        nonce[11] = u8::from(number + 1 == chunks.len());
        let mut sealed = chunk.to_vec();
        sealed.reserve_exact(CHACHA20_POLY1305.tag_len());
        encrypt(key, nonce, &mut sealed);
        file.extend_from_slice(&sealed);
    }
}

fn encrypt(key: &[u8; KEY_BYTES], nonce: [u8; 12], text: &mut Vec<u8>) {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("ChaCha20-Poly1305 has keys of 32 bytes");
    let sealed = LessSafeKey::new(key).seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::empty(),
        text,
    );
    sealed.expect("a chunk is shorter than ChaCha20-Poly1305 allows");
}

fn derive(secret: &[u8], salt: &[u8], info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    Hkdf::<Sha256>::new(Some(salt), secret)
        .expand(info, key.as_mut())
        .expect("HKDF-SHA256 gives up to 8,160 bytes");
    key
}

fn armored(file: &[u8]) -> String {
    let text = STANDARD.encode(file);
    let mut armored = "-----BEGIN AGE ENCRYPTED FILE-----\n".to_owned();
    for line in text.as_bytes().chunks(COLUMNS) {
        armored.extend(line.iter().map(|byte| char::from(*byte)));
        armored.push('\n');
    }
    armored + "-----END AGE ENCRYPTED FILE-----\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of age's own README.
    const KNOWN: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn recipients_are_read_and_mistyped_ones_are_not() {
        assert_eq!(Recipient::parse(KNOWN).expect("a recipient").to_string(), KNOWN);
        let mistyped = KNOWN.replacen('q', "p", 1);
        for text in ["", "age1", &mistyped, &KNOWN[1..], "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1QQ"] {
            assert_eq!(Recipient::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_of_low_order_is_refused() {
        let weak = Recipient { key: [0; KEY_BYTES], text: String::new() };
        let sealed = seal(b"x", &[weak], &mut super::super::provider::SystemRandom);
        assert_eq!(sealed, Err(SealError::WeakRecipient));
    }
}
