//! Who keeps the master key where it stands in the keyring, wrapped: `keys.pkcs11`, `keys.aws_kms`, `keys.vault`.
//!
//! Guarantees: secrets in files are read when they are needed, so that whoever renews them needs to tell nobody. Deliberately absent:
//! what a provider does (`crypto/provider`).

use super::{KeysUnusable, unusable};
use crate::crypto::keyring::WrappedKey;
use crate::crypto::provider::aws_kms::{self, Kms};
use crate::crypto::provider::pkcs11::{self, Token};
use crate::crypto::provider::vault::{self, Transit};
use crate::crypto::provider::{Provider, file};
use std::path::PathBuf;
use zeroize::Zeroizing;

/// One of them, as it is set.
pub enum Keeper {
    Pkcs11(TokenSettings),
    AwsKms(KmsSettings),
    Vault(VaultSettings),
}

/// `keys.pkcs11`.
pub struct TokenSettings {
    pub module: PathBuf,
    pub token: String,
    pub key: String,
    pub pin: Secret,
}

/// `keys.aws_kms`.
pub struct KmsSettings {
    pub key: String,
    pub region: Option<String>,
    pub endpoint: Option<hyper::Uri>,
    pub profile: Option<String>,
    pub ca: Option<PathBuf>,
}

/// `keys.vault`.
pub struct VaultSettings {
    pub address: hyper::Uri,
    pub mount: String,
    pub key: String,
    pub namespace: Option<String>,
    pub token: Secret,
    pub ca: Option<PathBuf>,
}

/// Where a PIN or token comes from.
pub enum Secret {
    Text(Zeroizing<String>),
    /// Its first line.
    File(PathBuf),
}

impl Secret {
    /// `what` it is, as in "the token's PIN".
    fn read(&self, what: &str) -> Result<Zeroizing<String>, KeysUnusable> {
        match self {
            Secret::Text(text) => Ok(text.clone()),
            Secret::File(path) => {
                let text = file::read_private(path).map_err(|error| {
                    let hint =
                        format!("Write {what} into that file, which only its owner may read (mode 0600).");
                    unusable(error, hint)
                })?;
                Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
            }
        }
    }
}

impl Keeper {
    /// As keyrings and `keys.provider` name it.
    pub fn name(&self) -> &'static str {
        match self {
            Keeper::Pkcs11(_) => pkcs11::NAME,
            Keeper::AwsKms(_) => aws_kms::NAME,
            Keeper::Vault(_) => vault::NAME,
        }
    }

    /// The key that wraps from now on.
    pub fn key(&self) -> &str {
        match self {
            Keeper::Pkcs11(settings) => &settings.key,
            Keeper::AwsKms(settings) => &settings.key,
            Keeper::Vault(settings) => &settings.key,
        }
    }

    /// Whether the key that is set now wrapped this, as far as can be told without asking.
    pub(super) fn wrapped(&self, wrapped: &WrappedKey) -> bool {
        let is_id = |key: &str| !key.is_empty() && wrapped.key.ends_with(&format!("/{key}"));
        let (key, named) = (self.key(), wrapped.named.as_deref());
        key == wrapped.key || named == Some(key) || (matches!(self, Keeper::AwsKms(_)) && is_id(key))
    }

    /// Ready to be asked.
    ///
    /// # Errors
    /// A secret that cannot be read.
    pub(super) fn provider(&self) -> Result<Box<dyn Provider>, KeysUnusable> {
        Ok(match self {
            Keeper::Pkcs11(settings) => Box::new(Token {
                module: settings.module.clone(),
                token: settings.token.clone(),
                key: settings.key.clone(),
                pin: settings.pin.read("the token's PIN")?,
            }),
            Keeper::AwsKms(settings) => Box::new(Kms {
                key: settings.key.clone(),
                region: settings.region.clone(),
                endpoint: settings.endpoint.clone(),
                profile: settings.profile.clone(),
                ca: settings.ca.clone(),
            }),
            Keeper::Vault(settings) => Box::new(Transit {
                address: settings.address.clone(),
                mount: settings.mount.clone(),
                key: settings.key.clone(),
                namespace: settings.namespace.clone(),
                token: settings.token.read("the token of Vault")?,
                ca: settings.ca.clone(),
            }),
        })
    }
}
