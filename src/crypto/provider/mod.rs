//! Where the keyring and its master key are kept. The only part of `crypto` that does I/O.
//!
//! The keyring is a [`file`]. Its master key is a setting, another file, or stands in the keyring itself, wrapped by a key that a
//! [`Provider`] keeps and never gives out: a token ([`pkcs11`]), or a service that is asked over HTTPS ([`aws_kms`], [`vault`]).
//! Guarantees: no error holds a secret; each says what would mend it. Deliberately absent: what is remembered of an answer (`config`).

pub mod aws_kms;
pub mod file;
pub mod http;
pub mod pkcs11;
pub mod vault;

use super::Random;
use super::keyring::{MasterKey, WrappedKey};
use std::fmt;

/// The operating system's generator, for keys and nonces.
pub struct SystemRandom;

impl Random for SystemRandom {
    /// # Panics
    /// When the operating system gives no randomness: nothing can be sealed then.
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives randomness");
    }
}

/// Keeps a key that wraps master keys. Calls may block for as long as whoever keeps the key takes.
pub trait Provider {
    /// Wraps it for the keyring of this identity.
    ///
    /// # Errors
    /// The key cannot be used now.
    fn wrap(&self, master: &MasterKey, keyring: &str) -> Result<WrappedKey, ProviderError>;
    /// # Errors
    /// The key cannot be used now, or is not the one that wrapped it, or did so for another keyring.
    fn unwrap(&self, wrapped: &WrappedKey) -> Result<MasterKey, ProviderError>;
}

/// Why a provider did not wrap or unwrap, and what to do. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    pub message: String,
    pub hint: String,
    /// Asking again with the same settings may do harm, as another wrong PIN does to a token that counts them.
    pub is_final: bool,
    /// Asking again in a moment may help.
    may_pass: bool,
}

impl ProviderError {
    fn new(message: impl Into<String>, hint: impl Into<String>) -> ProviderError {
        ProviderError { message: message.into(), hint: hint.into(), is_final: false, may_pass: false }
    }

    fn passing(self) -> ProviderError {
        ProviderError { may_pass: true, ..self }
    }
}

impl fmt::Display for ProviderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for ProviderError {}
