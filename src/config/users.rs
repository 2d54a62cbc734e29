//! `users.toml`: who may log in, by PostgreSQL's own verifiers, and, sealed, their second factors and the passwords of the roles that log
//! in upstream for those who prove none. Read with the other files; written by `pgveil users`, `pgveil otp` and `pgveil upstream`.
//!
//! Guarantees: the file is replaced whole or not at all, and only its owner reads it. Deliberately absent: passwords in clear, and
//! opening what is sealed.

use super::document::{Document, Section};
use super::{Mistake, USERS};
use crate::auth::{ITERATIONS_DEFAULT, SALT_BYTES, Verifier, Verifiers};
use crate::crypto::Random;
use crate::crypto::provider::SystemRandom;
use crate::crypto::provider::file::{self, FileError};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// What stands above the users in the file: the commented example, which has none.
pub const EXAMPLE: &str = include_str!("../../config/users.toml");

/// What the file says.
#[derive(Default, PartialEq, Eq)]
pub struct Users {
    pub verifiers: Verifiers,
    /// The secrets of second factors, as `crypto::SecretBox` seals them, by user.
    pub factors: BTreeMap<String, String>,
    /// The passwords of roles in the database, sealed likewise, by role.
    pub credentials: BTreeMap<String, String>,
}

/// What [`crypto::SecretBox`](crate::crypto::SecretBox) is told of the password of a role in the database.
pub fn credential_names(role: &str) -> [&str; 2] {
    ["upstream credential", role]
}

/// What [`crypto::SecretBox`](crate::crypto::SecretBox) is told of a user's secret of the second factor.
pub fn factor_names(user: &str) -> [&str; 2] {
    ["second factor", user]
}

/// The users of `document`; each that cannot be read is a mistake.
pub(super) fn read(document: &Document) -> Users {
    let table = document.parse();
    let mut top = document.top(&table);
    let mut found = Users::default();
    for (name, named) in top.section("users").named() {
        match named.text().and_then(|text| Verifier::parse(&text.value)) {
            Some(verifier) => {
                found.verifiers.insert(name.value, verifier);
            }
            None => document.mistake(
                &name.span,
                format!("users.{} is not a SCRAM-SHA-256 verifier", name.value),
                format!("Run: pgveil users add {}", name.value),
            ),
        }
    }
    found.factors = sealed(document, top.section("otp"), "pgveil otp enroll --replace");
    found.credentials = sealed(document, top.section("upstream"), "pgveil upstream set");
    top.finish();
    found
}

/// Sealed secrets by name; `command` makes one again.
fn sealed(document: &Document, mut section: Section<'_>, command: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (name, named) in section.named() {
        let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match named.text().filter(|text| hex(&text.value)) {
            Some(text) => {
                found.insert(name.value, text.value);
            }
            None => document.mistake(
                &name.span,
                format!("{} is not a sealed secret", section.full(&name.value)),
                format!("Run: {command} {}", name.value),
            ),
        }
    }
    found
}

/// Reads the file alone: `pgveil users` must work while other files have mistakes.
///
/// # Errors
/// Its mistakes.
pub fn read_file(dir: &Path) -> Result<Users, Vec<Mistake>> {
    let document = Document::read(dir, USERS, true);
    let users = read(&document);
    let mistakes = document.into_mistakes();
    if mistakes.is_empty() { Ok(users) } else { Err(mistakes) }
}

/// The file's text for these users.
fn file_text(users: &Users) -> String {
    let mut text = EXAMPLE.to_owned();
    for (name, verifier) in &users.verifiers {
        write_line(&mut text, name, &verifier.text());
    }
    for (header, sealed) in [(FACTORS, &users.factors), (CREDENTIALS, &users.credentials)] {
        if !sealed.is_empty() {
            text.push_str(header);
        }
        for (name, sealed) in sealed {
            write_line(&mut text, name, sealed);
        }
    }
    text
}

fn write_line(text: &mut String, name: &str, value: &str) {
    // JSON's strings are TOML's basic strings but for U+007F, which `users add` does not let in.
    let key = serde_json::Value::String(name.to_owned());
    // Writing to a String does not fail.
    let _ = writeln!(text, "{key} = \"{value}\"");
}

/// What stands above the second factors.
const FACTORS: &str = "
# Second factors (pgveil otp enroll), sealed under a key of the keyring for the user of the line.
[otp]
";

/// What stands above the credentials.
const CREDENTIALS: &str = "
# Passwords of roles in the database (pgveil upstream set), sealed under a key of the keyring for the role of the line.
[upstream]
";

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
pub fn change<T>(dir: &Path, change: impl FnOnce(&mut Users) -> T) -> Result<T, NotChanged> {
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
