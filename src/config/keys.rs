//! `[keys]`: where the keyring is and what unwraps it, and the ways to open it.
//!
//! Guarantees: errors say which file or token and what to do, never what a secret was; a master key that a provider unwrapped once
//! is not asked for again, so that an outage stops neither a reload nor a second look. Deliberately absent: making keys (`init`).

pub mod keeper;

use super::Config;
use super::users::{credential_names, factor_names};
use crate::audit::persons;
use crate::auth::Credentials;
use crate::auth::otp::{SecondFactors, Totp};
use crate::auth::scram::Credential;
use crate::catalog::{Domain, Seal};
use crate::crypto::keyring::{Keyring, MasterKey, WrappedKey};
use crate::crypto::provider::{ProviderError, SystemRandom, file};
use crate::crypto::{Ciphers, Mode};
use keeper::Keeper;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// `[keys]` of proxy.toml.
pub struct KeySettings {
    pub path: PathBuf,
    pub master_key: MasterKeySource,
    /// How often `serve` looks whether the keys could be had again.
    pub check_every: Duration,
    pub memory: Memory,
}

/// Where the 32 bytes come from.
pub enum MasterKeySource {
    /// In hex or base64.
    Text(Zeroizing<String>),
    /// In hex or base64.
    File(PathBuf),
    /// They stand in the keyring, wrapped by a key that someone keeps.
    Kept(Keeper),
}

/// The master key that this process has had unwrapped, and the form that it was wrapped in. Its clones share it.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Option<Unwrapped>>>);

struct Unwrapped {
    wrapped: WrappedKey,
    master: Arc<MasterKey>,
}

impl Memory {
    fn recall(&self, wrapped: &WrappedKey) -> Option<Arc<MasterKey>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().filter(|known| known.wrapped == *wrapped).map(|known| known.master.clone())
    }
    fn keep(&self, wrapped: WrappedKey, master: Arc<MasterKey>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Unwrapped { wrapped, master });
    }
}

/// The keys cannot be used: why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysUnusable {
    pub message: String,
    pub hint: String,
    /// Asking again with the same settings may do harm.
    pub is_final: bool,
}

impl From<ProviderError> for KeysUnusable {
    fn from(error: ProviderError) -> KeysUnusable {
        KeysUnusable { message: error.message, hint: error.hint, is_final: error.is_final }
    }
}

fn unusable(error: impl std::fmt::Display, hint: impl Into<String>) -> KeysUnusable {
    KeysUnusable { message: error.to_string(), hint: hint.into(), is_final: false }
}

const ENROLL: &str = "Run: pgveil otp enroll --replace USER; or pgveil otp disable USER.";

const PERSONS: &str = "Put the file back from a backup, or take the record keys out of tags.toml.";

const RUN_INIT: &str = "Run: pgveil init (it makes what is missing); or correct [keys] of proxy.toml.";

impl KeySettings {
    /// The master key of the keyring.
    ///
    /// # Errors
    /// The file is missing, open to others, or holds no key; the provider does not unwrap it.
    pub fn master_key(&self) -> Result<Arc<MasterKey>, KeysUnusable> {
        match &self.master_key {
            MasterKeySource::Text(text) => MasterKey::parse(text)
                .map(Arc::new)
                .map_err(|error| unusable(error, "Make one with: openssl rand -hex 32")),
            MasterKeySource::File(path) => {
                file::read_master_key(path).map(Arc::new).map_err(|error| unusable(error, RUN_INIT))
            }
            MasterKeySource::Kept(keeper) => {
                let wrapped = self.wrapped(keeper)?;
                if let Some(master) = self.memory.recall(&wrapped) {
                    return Ok(master);
                }
                let master = Arc::new(keeper.provider()?.unwrap(&wrapped)?);
                self.memory.keep(wrapped, master.clone());
                Ok(master)
            }
        }
    }

    /// # Errors
    /// As [`master_key`](Self::master_key), and a keyring that is missing, damaged or wrapped by another master key.
    pub fn keyring(&self) -> Result<Keyring, KeysUnusable> {
        let master = self.master_key()?;
        file::load(&self.path, &master).map_err(|error| unusable(error, RUN_INIT))
    }

    /// Whether a process that starts now would get its keys: nothing that this one remembers counts.
    ///
    /// # Errors
    /// As [`keyring`](Self::keyring).
    pub fn try_anew(&self) -> Result<(), KeysUnusable> {
        let master = match &self.master_key {
            MasterKeySource::Kept(keeper) => Arc::new(keeper.provider()?.unwrap(&self.wrapped(keeper)?)?),
            MasterKeySource::Text(_) | MasterKeySource::File(_) => self.master_key()?,
        };
        file::load(&self.path, &master).map(|_| ()).map_err(|error| unusable(error, RUN_INIT))
    }

    /// A new master key for the keyring in its provider's care; `None` where no provider is set.
    ///
    /// # Errors
    /// The provider does not wrap it.
    pub fn new_wrapped_key(&self, keyring: &mut Keyring) -> Result<Option<Arc<MasterKey>>, KeysUnusable> {
        let MasterKeySource::Kept(keeper) = &self.master_key else { return Ok(None) };
        let master = MasterKey::generate(&mut SystemRandom);
        let wrapped = keeper.provider()?.wrap(&master, keyring.identify(&mut SystemRandom))?;
        let master = Arc::new(master.wrapped_as(wrapped.clone()));
        self.memory.keep(wrapped, master.clone());
        Ok(Some(master))
    }

    /// The key that wraps the keyring's master key, where the settings name another one by now.
    pub fn outdated_key(&self) -> Option<String> {
        let MasterKeySource::Kept(keeper) = &self.master_key else { return None };
        let wrapped = self.wrapped(keeper).ok()?;
        (!keeper.wrapped(&wrapped)).then(|| wrapped.named.unwrap_or(wrapped.key))
    }

    /// The keyring's master key as its provider wrapped it.
    fn wrapped(&self, keeper: &Keeper) -> Result<WrappedKey, KeysUnusable> {
        let path = self.path.display();
        let json = file::read_private(&self.path).map_err(|error| unusable(error, RUN_INIT))?;
        let damaged = |error| unusable(format!("{path}: {error}"), "Restore it from a backup.");
        let wrapped = Keyring::wrapped_master(&json).map_err(damaged)?.ok_or_else(|| {
            let message = format!("{path} was wrapped by a master key of provider file");
            let hint = "Run: pgveil keys rewrap --old-master-key-file FILE; or set keys.provider = \"file\".";
            unusable(message, hint)
        })?;
        if wrapped.provider != keeper.name() {
            let message = format!(
                "{path} was wrapped by key \"{}\" of provider {}, and keys.provider is {}",
                wrapped.named.as_ref().unwrap_or(&wrapped.key),
                wrapped.provider,
                keeper.name()
            );
            let hint = format!(
                "Run: pgveil keys rewrap --old-config FILE (proxy.toml as it was); or set keys.provider = \"{}\".",
                wrapped.provider
            );
            return Err(unusable(message, hint));
        }
        Ok(wrapped)
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

    /// The passwords of roles in the database that are kept.
    ///
    /// # Errors
    /// As [`second_factors`](Self::second_factors).
    pub fn upstream_credentials(&self) -> Result<Credentials, KeysUnusable> {
        let opened = self.upstream_passwords()?.into_iter();
        Ok(opened.map(|(role, password)| (role, Arc::new(Credential::new(password)))).collect())
    }

    /// As [`upstream_credentials`](Self::upstream_credentials), to try them by.
    ///
    /// # Errors
    /// As there.
    pub fn upstream_passwords(&self) -> Result<BTreeMap<String, Zeroizing<String>>, KeysUnusable> {
        if self.credentials.is_empty() {
            return Ok(BTreeMap::new());
        }
        let secrets = self.keys.keyring()?.secrets().map_err(|error| unusable(error, RUN_INIT))?;
        let open = |(role, sealed): (&String, &String)| {
            let opened = secrets.open(credential_names(role), sealed);
            let text = opened.and_then(|bytes| std::str::from_utf8(&bytes).map(str::to_owned).ok());
            let why = format!(
                "the credential of role {role} does not open: it was sealed by another keyring, or altered"
            );
            let hint = format!("Run: pgveil upstream set {role}; or pgveil upstream remove {role}.");
            Ok((role.clone(), text.map(Zeroizing::new).ok_or_else(|| unusable(why, hint))?))
        };
        self.credentials.iter().map(open).collect()
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
