//! `users.toml`: who may log in, by PostgreSQL's own verifiers. Read with the other files; written by `pgveil users`.
//!
//! Guarantees: the file is replaced whole or not at all, and only its owner reads it. Deliberately absent: passwords.

use super::document::Document;
use super::{Mistake, USERS};
use crate::auth::{Verifier, Verifiers};
use crate::crypto::Random;
use crate::crypto::provider::SystemRandom;
use crate::crypto::provider::file::{FileError, write_private};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::path::Path;
use zeroize::Zeroizing;

/// What stands above the users in the file: the commented example, which has none.
pub const EXAMPLE: &str = include_str!("../../config/users.toml");

/// The verifiers of `document`; each that cannot be read is a mistake.
pub(super) fn read(document: &Document) -> Verifiers {
    let table = document.parse();
    let mut top = document.top(&table);
    let mut found = Verifiers::new();
    for (name, named) in top.section("users").named() {
        match named.text().and_then(|text| parse(&text.value)) {
            Some(verifier) => {
                found.insert(name.value, verifier);
            }
            None => document.mistake(
                &name.span,
                format!("users.{} is not a SCRAM-SHA-256 verifier", name.value),
                format!("Run: pgveil users add {}", name.value),
            ),
        }
    }
    top.finish();
    found
}

/// Reads the file alone: `pgveil users` must work while other files have mistakes.
///
/// # Errors
/// Its mistakes.
pub fn read_file(dir: &Path) -> Result<Verifiers, Vec<Mistake>> {
    let document = Document::read(dir, USERS, true);
    let users = read(&document);
    let mistakes = document.into_mistakes();
    if mistakes.is_empty() { Ok(users) } else { Err(mistakes) }
}

/// The file's text for these users.
fn file_text(users: &Verifiers) -> String {
    let mut text = EXAMPLE.to_owned();
    for (name, verifier) in users {
        // JSON's strings are TOML's basic strings but for U+007F, which `users add` does not let in.
        let key = serde_json::Value::String(name.clone());
        // Writing to a String does not fail.
        let _ = writeln!(text, "{key} = \"{}\"", print(verifier));
    }
    text
}

/// Replaces the file whole, mode 0600.
///
/// # Errors
/// What the file system says.
pub fn write_file(dir: &Path, users: &Verifiers) -> Result<(), FileError> {
    write_private(&dir.join(USERS), file_text(users).as_bytes())
}

/// Reads PostgreSQL's text form; `None` for another method or a damaged one.
pub fn parse(text: &str) -> Option<Verifier> {
    let rest = text.strip_prefix("SCRAM-SHA-256$")?;
    let (head, keys) = rest.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
    Some(Verifier {
        iterations: iterations.parse().ok().filter(|iterations| *iterations > 0)?,
        salt: STANDARD.decode(salt).ok()?,
        stored_key: key(stored)?,
        server_key: key(server)?,
    })
}

/// PostgreSQL's text form.
pub fn print(verifier: &Verifier) -> String {
    let Verifier { iterations, salt, stored_key, server_key } = verifier;
    let [salt, stored, server] = [&salt[..], stored_key, server_key].map(|bytes| STANDARD.encode(bytes));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored}:{server}")
}

/// PostgreSQL's default (scram_iterations).
const ITERATIONS: u32 = 4096;

/// A verifier of this password with a fresh salt, as PostgreSQL makes it (RFC 5802, RFC 7677; a password that SASLprep
/// does not take is used as it is, as in src/common/saslprep.c).
pub fn make(password: &str) -> Verifier {
    let mut salt = [0; 16];
    SystemRandom.fill(&mut salt);
    let prepared = stringprep::saslprep(password).unwrap_or_else(|_| password.into());
    let keyed = |key: &[u8], parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    };
    let mut block = keyed(prepared.as_bytes(), &[&salt, &1_u32.to_be_bytes()]);
    let mut salted = Zeroizing::new(block);
    for _ in 1..ITERATIONS {
        block = keyed(prepared.as_bytes(), &[&block]);
        salted.iter_mut().zip(block).for_each(|(sum, byte)| *sum ^= byte);
    }
    let client_key = Zeroizing::new(keyed(salted.as_ref(), &[b"Client Key"]));
    Verifier {
        iterations: ITERATIONS,
        salt: salt.to_vec(),
        stored_key: Sha256::digest(client_key.as_ref()).into(),
        server_key: keyed(salted.as_ref(), &[b"Server Key"]),
    }
}
