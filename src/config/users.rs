//! `users.toml`: who may log in, by PostgreSQL's own verifiers. Read with the other files; written by `pgveil users`.
//!
//! Guarantees: the file is replaced whole or not at all, and only its owner reads it. Deliberately absent: passwords.

use super::document::Document;
use super::{Mistake, USERS};
use crate::auth::{ITERATIONS_DEFAULT, SALT_BYTES, Verifier, Verifiers};
use crate::crypto::Random;
use crate::crypto::provider::SystemRandom;
use crate::crypto::provider::file::{self, FileError};
use std::fmt::Write;
use std::path::Path;

/// What stands above the users in the file: the commented example, which has none.
pub const EXAMPLE: &str = include_str!("../../config/users.toml");

/// The verifiers of `document`; each that cannot be read is a mistake.
pub(super) fn read(document: &Document) -> Verifiers {
    let table = document.parse();
    let mut top = document.top(&table);
    let mut found = Verifiers::new();
    for (name, named) in top.section("users").named() {
        match named.text().and_then(|text| Verifier::parse(&text.value)) {
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
        let _ = writeln!(text, "{key} = \"{}\"", verifier.text());
    }
    text
}

/// Why users.toml was not changed.
pub enum NotChanged {
    /// It holds mistakes.
    Mistakes(Vec<Mistake>),
    File(FileError),
}

/// Lets `change` make the users of the file others and replaces it whole, mode 0600. One process at a time does so: none
/// loses what another added.
///
/// # Errors
/// [`NotChanged`].
pub fn change<T>(dir: &Path, change: impl FnOnce(&mut Verifiers) -> T) -> Result<T, NotChanged> {
    let lock = file::lock(&dir.join(USERS)).map_err(NotChanged::File)?;
    let mut users = read_file(dir).map_err(NotChanged::Mistakes)?;
    let result = change(&mut users);
    file::replace_private(&lock, file_text(&users).as_bytes()).map_err(NotChanged::File)?;
    Ok(result)
}

/// A verifier of this password with a fresh salt, as PostgreSQL makes it.
pub fn make(password: &str) -> Verifier {
    let mut salt = [0; SALT_BYTES];
    SystemRandom.fill(&mut salt);
    Verifier::from_password(password, &salt, ITERATIONS_DEFAULT)
}
