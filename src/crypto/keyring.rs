//! The keyring: named data keys with versions, and the ids of domains; its JSON form, wrapped by the master key.
//!
//! Guarantees: a data key leaves this module only as a domain's derived key; a domain id is never given out twice, not
//! even after its domain is gone; nothing in the file, ids among it, can be changed without the master key; a wrong master
//! key is told apart from a damaged file.
//! Deliberately absent: files (see `provider`), rotation policy.

use super::cipher::CellCipher;
use super::siv::KEY_BYTES;
use super::{Ciphers, DomainId, KeyVersion, MaskKey, Mode, Random, SecretBox, envelope};
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Bytes of the master key.
pub const MASTER_KEY_BYTES: usize = 32;

/// The data key that is always there, for domains that name no other.
pub const DEFAULT_KEY: &str = "default";

/// 32 bytes that wrap the data keys. No `Debug`.
pub struct MasterKey {
    bytes: Zeroizing<[u8; MASTER_KEY_BYTES]>,
    /// The same, as a provider wrapped it: it stands in every keyring that this key wraps.
    wrapped: Option<WrappedKey>,
}

/// A master key that only its provider can unwrap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The provider's name.
    pub provider: String,
    /// What the provider calls the key that wraps, unmistakably.
    pub key: String,
    /// What the settings called it, where that is another name (an alias, which may lead elsewhere tomorrow).
    pub named: Option<String>,
    /// The [identity](Keyring::identify) of the keyring that it was wrapped for, which providers bind into it that can.
    pub keyring: String,
    /// As the provider made it.
    pub wrapped: Vec<u8>,
}

/// Why a keyring cannot be used. Never holds key material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("the master key is not 32 bytes in hexadecimal or base64")]
    MasterKeySyntax,
    #[error("the keyring was wrapped by another master key")]
    WrongMasterKey,
    #[error("the keyring is damaged: {0}")]
    Damaged(&'static str),
    #[error("the keyring has no key named \"{0}\"")]
    UnknownKey(String),
    #[error("the keyring has given no id to domain \"{0}\"")]
    UnknownDomain(String),
    #[error("all domain ids are given out")]
    DomainsExhausted,
    #[error("all versions of key \"{0}\" are given out")]
    VersionsExhausted(String),
    #[error("key \"{0}\" has no version {1}")]
    UnknownVersion(String, u16),
    #[error("version {1} of key \"{0}\" is the newest one: new cells are sealed with it")]
    Newest(String, u16),
    #[error("version {1} of key \"{0}\" makes the fingerprints of mask:hash, which must not change")]
    Fingerprints(String, u16),
}

impl MasterKey {
    pub fn new(bytes: [u8; MASTER_KEY_BYTES]) -> MasterKey {
        MasterKey { bytes: Zeroizing::new(bytes), wrapped: None }
    }

    /// A new one.
    pub fn generate(random: &mut dyn Random) -> MasterKey {
        let mut master = MasterKey::new([0; MASTER_KEY_BYTES]);
        random.fill(master.bytes.as_mut());
        master
    }

    /// The same key, which keyrings carry in this form from now on.
    pub fn wrapped_as(self, wrapped: WrappedKey) -> MasterKey {
        MasterKey { wrapped: Some(wrapped), ..self }
    }

    /// `None` for any other length.
    pub(super) fn from_slice(slice: &[u8]) -> Option<MasterKey> {
        let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
        if slice.len() != MASTER_KEY_BYTES {
            return None;
        }
        bytes.copy_from_slice(slice);
        Some(MasterKey { bytes, wrapped: None })
    }

    pub(super) fn bytes(&self) -> &[u8; MASTER_KEY_BYTES] {
        &self.bytes
    }

    /// Reads 32 bytes in hexadecimal or base64 (with or without padding); white space around them is ignored.
    ///
    /// # Errors
    /// [`KeyringError::MasterKeySyntax`].
    pub fn parse(text: &str) -> Result<MasterKey, KeyringError> {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
        let text = text.trim();
        let mut bytes = Zeroizing::new([0; MASTER_KEY_BYTES]);
        if text.len() == 2 * MASTER_KEY_BYTES
            && faster_hex::hex_decode(text.as_bytes(), bytes.as_mut()).is_ok()
        {
            return Ok(MasterKey { bytes, wrapped: None });
        }
        let decoded = STANDARD.decode(text).or_else(|_| STANDARD_NO_PAD.decode(text));
        let decoded = Zeroizing::new(decoded.map_err(|_| KeyringError::MasterKeySyntax)?);
        MasterKey::from_slice(&decoded).ok_or(KeyringError::MasterKeySyntax)
    }

    /// What [`parse`](Self::parse) reads, as a line.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(2 * MASTER_KEY_BYTES + 1));
        let hex = Zeroizing::new(faster_hex::hex_string(self.bytes.as_ref()));
        text.push_str(&hex);
        text.push('\n');
        text
    }

    /// The key that wraps data keys: the master key itself encrypts nothing.
    fn wrapping(&self) -> Aes256Siv {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        expand(self.bytes.as_ref(), &[b"pgveil keyring v1"], key.as_mut());
        Aes256Siv::new((&*key).into())
    }
}

fn expand(ikm: &[u8], info: &[&[u8]], out: &mut [u8]) {
    Hkdf::<Sha256>::new(None, ikm).expand_multi_info(info, out).expect("HKDF-SHA256 gives up to 8,160 bytes");
}

struct DataKey {
    /// Unix seconds.
    created: i64,
    secret: Zeroizing<[u8; KEY_BYTES]>,
}

/// What `keys list` shows of one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySummary {
    pub name: String,
    pub version: u16,
    /// Unix seconds.
    pub created: i64,
}

/// Data keys and domain ids, unwrapped. No `Debug`.
#[derive(Default)]
pub struct Keyring {
    keys: BTreeMap<String, BTreeMap<KeyVersion, DataKey>>,
    domains: BTreeMap<String, DomainId>,
    /// The next id to give out; ids below it were given out once.
    next_domain: u16,
    /// What tells this keyring from others to who keeps its master key.
    identity: Option<String>,
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    /// Absent where nobody asked for it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
    /// Absent where the master key is kept elsewhere. It needs no protection: another one does not open the keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    master: Option<StoredMaster>,
    /// A known text under the wrapping key: tells a wrong master key from a damaged file.
    check: String,
    next_domain: u16,
    domains: BTreeMap<String, u16>,
    keys: BTreeMap<String, Vec<StoredKey>>,
    /// The SIV over all of the above: a changed id would give one domain's cells to the readers of another.
    content: String,
}

impl Stored {
    /// What `content` covers.
    fn covered(&self) -> Vec<Vec<u8>> {
        let covered = (self.format, self.next_domain, &self.domains, &self.keys);
        let json = serde_json::to_vec(&covered).expect("strings and numbers are JSON");
        let identity = self.identity.iter().map(|identity| identity.as_bytes().to_vec());
        [b"content".to_vec(), json].into_iter().chain(identity).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredMaster {
    provider: String,
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    named: Option<String>,
    wrapped: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey {
    version: u16,
    created: i64,
    wrapped: String,
}

/// What [`Keyring::export`] makes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported<'t> {
    pgveil_keys: u32,
    /// Where it stands, so that no copy is made of it.
    master_key: &'t str,
    keyring: Stored,
}

const IDENTITY_BYTES: usize = 16;

const CHECK_TEXT: &[u8] = b"pgveil keyring";

impl Keyring {
    /// An empty keyring; the first domain gets id 1.
    pub fn create() -> Keyring {
        Keyring { next_domain: 1, ..Keyring::default() }
    }

    /// The master key of a keyring in its JSON form, as a provider wrapped it; `None` where it is kept elsewhere.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`].
    pub fn wrapped_master(json: &str) -> Result<Option<WrappedKey>, KeyringError> {
        let stored = stored(json)?;
        let Some(StoredMaster { provider, key, named, wrapped }) = stored.master else { return Ok(None) };
        let keyring = stored.identity.unwrap_or_default();
        Ok(Some(WrappedKey { provider, key, named, keyring, wrapped: unhex(&wrapped)? }))
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// [`KeyringError::WrongMasterKey`] or [`KeyringError::Damaged`].
    pub fn unwrap_json(json: &str, master: &MasterKey) -> Result<Keyring, KeyringError> {
        Keyring::unwrap_stored(stored(json)?, master)
    }

    fn unwrap_stored(stored: Stored, master: &MasterKey) -> Result<Keyring, KeyringError> {
        if stored.format != 1 {
            return Err(KeyringError::Damaged("a newer format"));
        }
        let mut siv = master.wrapping();
        let check = unhex(&stored.check)?;
        match siv.decrypt([b"check".as_slice()], &check) {
            Ok(text) if text == CHECK_TEXT => {}
            _ => return Err(KeyringError::WrongMasterKey),
        }
        if siv.decrypt(stored.covered(), &unhex(&stored.content)?).is_err() {
            return Err(KeyringError::Damaged(
                "it was changed by something that does not have the master key",
            ));
        }
        let mut keyring =
            Keyring { next_domain: stored.next_domain, identity: stored.identity, ..Keyring::default() };
        for (name, versions) in stored.keys {
            for key in versions {
                let opened = siv.decrypt(binding(&name, key.version), &unhex(&key.wrapped)?);
                let opened =
                    Zeroizing::new(opened.map_err(|_| KeyringError::Damaged("a key does not unwrap"))?);
                let secret = <[u8; KEY_BYTES]>::try_from(opened.as_slice());
                let secret =
                    Zeroizing::new(secret.map_err(|_| KeyringError::Damaged("a key of another length"))?);
                let data_key = DataKey { created: key.created, secret };
                keyring.keys.entry(name.clone()).or_default().insert(KeyVersion(key.version), data_key);
            }
        }
        for (name, id) in stored.domains {
            let twice = keyring.domains.values().any(|known| known.0 == id);
            if twice || id == 0 || id >= stored.next_domain {
                return Err(KeyringError::Damaged("a domain id that was not given out"));
            }
            keyring.domains.insert(name, DomainId(id));
        }
        Ok(keyring)
    }

    /// The JSON form, every key wrapped by `master`.
    pub fn wrap_json(&self, master: &MasterKey) -> String {
        let mut siv = master.wrapping();
        let mut wrap = |ad: Vec<Vec<u8>>, secret: &[u8]| {
            faster_hex::hex_string(
                &siv.encrypt(ad, secret).expect("three associated data are below the limit of S2V"),
            )
        };
        let check = wrap(vec![b"check".to_vec()], CHECK_TEXT);
        let mut keys: BTreeMap<String, Vec<StoredKey>> = BTreeMap::new();
        for (name, versions) in &self.keys {
            for (version, key) in versions {
                let wrapped = wrap(binding(name, version.0), key.secret.as_ref());
                let stored = StoredKey { version: version.0, created: key.created, wrapped };
                keys.entry(name.clone()).or_default().push(stored);
            }
        }
        let domains = self.domains.iter().map(|(name, id)| (name.clone(), id.0)).collect();
        let mut stored = Stored {
            format: 1,
            identity: self.identity.clone(),
            master: master.wrapped.as_ref().map(|master| StoredMaster {
                provider: master.provider.clone(),
                key: master.key.clone(),
                named: master.named.clone(),
                wrapped: faster_hex::hex_string(&master.wrapped),
            }),
            check,
            next_domain: self.next_domain,
            domains,
            keys,
            content: String::new(),
        };
        stored.content = wrap(stored.covered(), b"");
        let mut json = serde_json::to_string_pretty(&stored).expect("strings and numbers are JSON");
        json.push('\n');
        json
    }

    /// Everything that the keyring is, for its own safe: the JSON form, and the master key that opens it, one made for this. It is
    /// as secret as the keys: it leaves sealed.
    pub fn export(&self, random: &mut dyn Random) -> Zeroizing<String> {
        let master = MasterKey::generate(random);
        let keyring = self.wrap_json(&master);
        let mut text = Zeroizing::new(String::with_capacity(keyring.len() + 256));
        for part in [
            "{\"pgveil_keys\":1,\"master_key\":\"",
            master.text().trim_end(),
            "\",\"keyring\":",
            &keyring,
            "}\n",
        ] {
            text.push_str(part);
        }
        text
    }

    /// What [`export`](Self::export) made.
    ///
    /// # Errors
    /// [`KeyringError::Damaged`], when it is anything else.
    pub fn import(text: &str) -> Result<Keyring, KeyringError> {
        let strange = |_| KeyringError::Damaged("not what keys export makes");
        let exported: Exported<'_> = serde_json::from_str(text).map_err(strange)?;
        if exported.pgveil_keys != 1 {
            return Err(KeyringError::Damaged("a newer format"));
        }
        let master = MasterKey::parse(exported.master_key)?;
        Keyring::unwrap_stored(exported.keyring, &master)
    }

    /// What tells this keyring from others to who keeps its master key; made now if it has none. It never changes, whatever wraps
    /// the keyring, and is no secret.
    pub fn identify(&mut self, random: &mut dyn Random) -> &str {
        self.identity.get_or_insert_with(|| {
            let mut bytes = [0; IDENTITY_BYTES];
            random.fill(&mut bytes);
            faster_hex::hex_string(&bytes)
        })
    }

    /// The id of a domain, given out now if it has none. True when it was given out now.
    ///
    /// # Errors
    /// [`KeyringError::DomainsExhausted`].
    pub fn ensure_domain(&mut self, name: &str) -> Result<bool, KeyringError> {
        if self.domains.contains_key(name) {
            return Ok(false);
        }
        let id = self.next_domain;
        self.next_domain = id.checked_add(1).ok_or(KeyringError::DomainsExhausted)?;
        self.domains.insert(name.to_owned(), DomainId(id));
        Ok(true)
    }

    pub fn domain_id(&self, name: &str) -> Option<DomainId> {
        self.domains.get(name).copied()
    }

    /// Every domain that has an id, by name.
    pub fn domains(&self) -> impl Iterator<Item = (&str, DomainId)> {
        self.domains.iter().map(|(name, id)| (name.as_str(), *id))
    }

    /// Makes version 1 of a data key when there is none of that name. `now` is Unix seconds. True when it was made.
    pub fn ensure_key(&mut self, name: &str, now: i64, random: &mut dyn Random) -> bool {
        if self.keys.contains_key(name) {
            return false;
        }
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        random.fill(secret.as_mut());
        self.keys
            .insert(name.to_owned(), BTreeMap::from([(KeyVersion(1), DataKey { created: now, secret })]));
        true
    }

    /// Makes a new version of a data key: new randomized cells are sealed with it.
    ///
    /// # Errors
    /// There is no key of that name, or it had every version.
    pub fn rotate(
        &mut self,
        name: &str,
        now: i64,
        random: &mut dyn Random,
    ) -> Result<KeyVersion, KeyringError> {
        let versions = self.keys.get_mut(name).ok_or_else(|| KeyringError::UnknownKey(name.to_owned()))?;
        let newest = versions.keys().next_back().map_or(0, |version| version.0);
        let next = newest.checked_add(1).ok_or_else(|| KeyringError::VersionsExhausted(name.to_owned()))?;
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        random.fill(secret.as_mut());
        versions.insert(KeyVersion(next), DataKey { created: now, secret });
        Ok(KeyVersion(next))
    }

    /// Whether a version may be forgotten, as far as the keyring knows: what is sealed with it is lost then.
    ///
    /// # Errors
    /// It is not there, or still in use by the keyring's own rules.
    pub fn may_retire(&self, name: &str, version: KeyVersion) -> Result<(), KeyringError> {
        let versions = self.keys.get(name).ok_or_else(|| KeyringError::UnknownKey(name.to_owned()))?;
        let of = |make: fn(String, u16) -> KeyringError| Err(make(name.to_owned(), version.0));
        if !versions.contains_key(&version) {
            return of(KeyringError::UnknownVersion);
        }
        if versions.keys().next_back() == Some(&version) {
            return of(KeyringError::Newest);
        }
        let fingerprints = name == DEFAULT_KEY
            || (!self.keys.contains_key(DEFAULT_KEY)
                && self.keys.keys().next().is_some_and(|first| first == name));
        if fingerprints && versions.keys().next() == Some(&version) {
            return of(KeyringError::Fingerprints);
        }
        Ok(())
    }

    /// Forgets a version of a data key.
    ///
    /// # Errors
    /// As [`may_retire`](Self::may_retire).
    pub fn retire(&mut self, name: &str, version: KeyVersion) -> Result<(), KeyringError> {
        self.may_retire(name, version)?;
        if let Some(versions) = self.keys.get_mut(name) {
            versions.remove(&version);
        }
        Ok(())
    }

    /// The newest version of a data key.
    pub fn current_version(&self, name: &str) -> Option<KeyVersion> {
        self.keys.get(name)?.keys().next_back().copied()
    }

    pub fn key_versions(&self) -> Vec<KeySummary> {
        let versions = self.keys.iter().flat_map(|(name, versions)| versions.iter().map(move |v| (name, v)));
        versions
            .map(|(name, (version, key))| KeySummary {
                name: name.clone(),
                version: version.0,
                created: key.created,
            })
            .collect()
    }

    /// The ciphers of `domains`: (name, mode, name of its data key).
    ///
    /// # Errors
    /// The first domain or key that the keyring does not have; of an empty keyring, key `default`.
    pub fn ciphers<'a>(
        &self,
        domains: impl IntoIterator<Item = (&'a str, Mode, &'a str)>,
    ) -> Result<Ciphers, KeyringError> {
        let (fingerprint_key, mut ciphers) = (self.fingerprint_key()?, Ciphers::default());
        for (name, mode, key_name) in domains {
            let id = self.domain_id(name).ok_or_else(|| KeyringError::UnknownDomain(name.to_owned()))?;
            let versions =
                self.keys.get(key_name).ok_or_else(|| KeyringError::UnknownKey(key_name.to_owned()))?;
            let current =
                *versions.keys().next_back().ok_or_else(|| KeyringError::UnknownKey(key_name.to_owned()))?;
            let derived =
                versions.iter().map(|(version, key)| (*version, cell_key(&key.secret, id, mode))).collect();
            ciphers.by_domain.insert(name.to_owned(), Arc::new(CellCipher::new(id, mode, current, derived)));
            ciphers.mask_keys.insert(name.to_owned(), Arc::new(MaskKey::new(&fingerprint_key, name)));
        }
        Ok(ciphers)
    }

    /// What seals the secrets of the second factor.
    ///
    /// # Errors
    /// Of an empty keyring, key `default`.
    pub fn secrets(&self) -> Result<SecretBox, KeyringError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        expand(self.lasting_key()?.secret.as_ref(), &[b"pgveil secrets v1"], key.as_mut());
        Ok(SecretBox::new(key))
    }

    fn fingerprint_key(&self) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let mut out = Zeroizing::new(vec![0; 32]);
        // Without any key there is no fingerprint that a reader could not make.
        expand(self.lasting_key()?.secret.as_ref(), &[b"pgveil fingerprint v1"], &mut out);
        Ok(out)
    }

    /// The oldest version of key `default`, which `init` always makes, else of the first one: what is derived from it must
    /// change neither when keys rotate nor when more are made.
    fn lasting_key(&self) -> Result<&DataKey, KeyringError> {
        let versions = self.keys.get(DEFAULT_KEY).or_else(|| self.keys.values().next());
        let key = versions.and_then(|versions| versions.values().next());
        key.ok_or_else(|| KeyringError::UnknownKey(DEFAULT_KEY.to_owned()))
    }
}

/// The key of one domain and mode under one version of its data key; FORMAT.md specifies it.
pub(super) fn cell_key(secret: &[u8; KEY_BYTES], domain: DomainId, mode: Mode) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    let info: [&[u8]; 3] = [b"pgveil cell v1", &domain.0.to_be_bytes(), &[envelope::mode_byte(mode)]];
    expand(secret, &info, out.as_mut());
    out
}

/// A wrapped key opens only under its own name and version.
fn binding(name: &str, version: u16) -> Vec<Vec<u8>> {
    vec![b"key".to_vec(), name.as_bytes().to_vec(), version.to_be_bytes().to_vec()]
}

fn stored(json: &str) -> Result<Stored, KeyringError> {
    serde_json::from_str(json).map_err(|_| KeyringError::Damaged("not the JSON of a keyring"))
}

fn unhex(text: &str) -> Result<Vec<u8>, KeyringError> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes)
        .map_err(|_| KeyringError::Damaged("not hexadecimal"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
