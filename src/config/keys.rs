//! `[keys]`: where the keyring is and what unwraps it, and the ways to open it.
//!
//! Guarantees: errors say which file and what to do, never what a secret was. Deliberately absent: making keys (`init`).

use super::Config;
use super::users::factor_names;
use crate::audit::persons;
use crate::auth::otp::{SecondFactors, Totp};
use crate::catalog::{Domain, Seal};
use crate::crypto::keyring::{Keyring, MasterKey};
use crate::crypto::provider::file;
use crate::crypto::{Ciphers, Mode};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// `[keys]` of proxy.toml.
pub struct KeySettings {
    pub path: PathBuf,
    pub master_key: MasterKeySource,
}

/// Where the 32 bytes, in hex or base64, come from.
pub enum MasterKeySource {
    Text(Zeroizing<String>),
    File(PathBuf),
}

/// The keys cannot be used: why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUnusable {
    pub message: String,
    pub hint: &'static str,
}

fn unusable(error: impl std::fmt::Display, hint: &'static str) -> KeysUnusable {
    KeysUnusable { message: error.to_string(), hint }
}

const ENROLL: &str = "Run: pgveil otp enroll --replace USER; or pgveil otp disable USER.";

const PERSONS: &str = "Put the file back from a backup, or take the record keys out of tags.toml.";

const RUN_INIT: &str = "Run: pgveil init (it makes what is missing); or correct [keys] of proxy.toml.";

impl KeySettings {
    /// # Errors
    /// The file is missing, open to others, or holds no key.
    pub fn master_key(&self) -> Result<MasterKey, KeysUnusable> {
        match &self.master_key {
            MasterKeySource::Text(text) => {
                MasterKey::parse(text).map_err(|error| unusable(error, "Make one with: openssl rand -hex 32"))
            }
            MasterKeySource::File(path) => {
                file::read_master_key(path).map_err(|error| unusable(error, RUN_INIT))
            }
        }
    }

    /// # Errors
    /// As [`master_key`](Self::master_key), and a keyring that is missing, damaged or wrapped by another master key.
    pub fn keyring(&self) -> Result<Keyring, KeysUnusable> {
        let master = self.master_key()?;
        file::load(&self.path, &master).map_err(|error| unusable(error, RUN_INIT))
    }
}

/// How a sealed domain is sealed; `None` for one that is stored in clear.
pub fn mode(domain: &Domain) -> Option<Mode> {
    match domain.seal {
        Seal::Deterministic => Some(Mode::Deterministic),
        Seal::Randomized => Some(Mode::Randomized),
        Seal::None => None,
    }
}

impl Config {
    /// The second factors of all users who have one.
    ///
    /// # Errors
    /// As [`KeySettings::keyring`], and a secret that was sealed by another keyring, or for another user.
    pub fn second_factors(&self) -> Result<SecondFactors, KeysUnusable> {
        if self.factors.is_empty() {
            return Ok(SecondFactors::new());
        }
        let secrets = self.keys.keyring()?.secrets().map_err(|error| unusable(error, RUN_INIT))?;
        let open = |(user, sealed): (&String, &String)| {
            let secret = secrets.open(factor_names(user), sealed);
            let totp = secret.and_then(|secret| Totp::new(&secret));
            let why = format!(
                "the second factor of {user} does not open: it was sealed by another keyring, or altered"
            );
            Ok((user.clone(), totp.ok_or_else(|| unusable(why, ENROLL))?))
        };
        self.factors.iter().map(open).collect()
    }

    /// The ciphers of all sealed domains; and, where a table has a record key, what the log knows persons by: it is made if missing.
    ///
    /// # Errors
    /// As [`KeySettings::keyring`], and a domain or key that the keyring does not have.
    pub fn ciphers(&self) -> Result<Ciphers, KeysUnusable> {
        let keyring = self.keys.keyring()?;
        let sealed = self
            .policy
            .domains
            .iter()
            .filter_map(|domain| Some((domain.name.as_str(), mode(domain)?, domain.key.as_str())));
        let mut ciphers = keyring.ciphers(sealed).map_err(|error| unusable(error, RUN_INIT))?;
        if !self.tags.record_keys.is_empty() {
            let index = persons::index(&self.settings.audit.folder, true);
            ciphers.persons = Some(index.map_err(|fault| unusable(fault, PERSONS))?);
        }
        Ok(ciphers)
    }
}
