//! Provider `pkcs11`: an AES key of a hardware security module, or of anything else that speaks PKCS #11, wraps the master key.
//!
//! The module is a shared library of the token's vendor; it does the cryptography (AES-GCM), here is only the order of calls.
//! Guarantees: the token's key is used where it is and never asked for; one call logs in at most once, and not at all where the
//! token says that another wrong PIN would lock it; between calls nobody is logged in and no session is open, so that what comes
//! back after an outage is found again. Deliberately absent: making keys in the token, changing PINs: its owner does that.

use super::{Provider, ProviderError, SystemRandom};
use crate::crypto::Random;
use crate::crypto::keyring::{MASTER_KEY_BYTES, MasterKey, WrappedKey};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

/// How a keyring names this provider.
pub const NAME: &str = "pkcs11";

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// Bound into what is wrapped, so that the token's key opens nothing else for us.
const PURPOSE: &[u8] = b"pgveil master key v1";

/// Which key of which token, and how to reach it.
pub struct Token {
    /// The shared library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// The label of the AES key that wraps. What is wrapped already names its own.
    pub key: String,
    pub pin: Zeroizing<String>,
}

/// Modules that were loaded once: they stay, since not every one survives to be unloaded. Whoever holds the lock is the only
/// one of this process that talks to a token.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

impl Provider for Token {
    fn wrap(&self, master: &MasterKey, keyring: &str) -> Result<WrappedKey, ProviderError> {
        let module = Module::start(&self.module)?;
        let (session, key) = self.session(&module, &self.key)?;
        let mut nonce = [0; NONCE_BYTES];
        SystemRandom.fill(&mut nonce);
        let sealed = {
            let mechanism = Mechanism::AesGcm(gcm(&mut nonce)?);
            session.encrypt(&mechanism, key, master.bytes()).map_err(|error| self.failed(&error))?
        };
        // A token may insist on a nonce of its own; then that is the one which stands there now.
        Ok(WrappedKey {
            provider: NAME.to_owned(),
            key: self.key.clone(),
            named: None,
            keyring: keyring.to_owned(),
            wrapped: [&nonce[..], &sealed].concat(),
        })
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<MasterKey, ProviderError> {
        let foreign = |cause: &str| {
            ProviderError::new(
                format!(
                    "key \"{}\" of token \"{}\" does not open the keyring's master key ({cause}): another key wrapped it, or it was altered",
                    wrapped.key, self.token
                ),
                "Name the token that wrapped it; or put back the keyring that belongs to this one.",
            )
        };
        let strange = || foreign("not what this provider makes");
        let parts = wrapped.wrapped.split_at_checked(NONCE_BYTES);
        let (nonce, sealed) = parts.filter(|_| wrapped.provider == NAME).ok_or_else(strange)?;
        if sealed.len() != MASTER_KEY_BYTES + TAG_BYTES {
            return Err(strange());
        }
        let mut nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| strange())?;
        let module = Module::start(&self.module)?;
        let (session, key) = self.session(&module, &wrapped.key)?;
        let mechanism = Mechanism::AesGcm(gcm(&mut nonce)?);
        let opened = session.decrypt(&mechanism, key, sealed).map(Zeroizing::new);
        let opened = opened.map_err(|error| match &error {
            // SoftHSM says GeneralError of a tag that does not fit.
            Error::Pkcs11(
                RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange | RvError::GeneralError,
                Function::Decrypt,
            ) => foreign(&cause(&error)),
            _ => self.failed(&error),
        })?;
        let master = MasterKey::from_slice(&opened).ok_or_else(strange)?;
        Ok(master.wrapped_as(wrapped.clone()))
    }
}

fn gcm(nonce: &mut [u8; NONCE_BYTES]) -> Result<GcmParams<'_>, ProviderError> {
    let tag_bits = cryptoki::types::Ulong::new(8 * TAG_BYTES as u64);
    GcmParams::new(nonce, PURPOSE, tag_bits)
        .map_err(|_| ProviderError::new("AES-GCM has no such parameters here", "Report this."))
}

/// A module between `C_Initialize` and `C_Finalize`.
struct Module<'m> {
    pkcs11: Pkcs11,
    _alone: MutexGuard<'m, BTreeMap<PathBuf, Pkcs11>>,
}

impl Module<'_> {
    fn start(path: &Path) -> Result<Module<'static>, ProviderError> {
        let failed = |error: &Error| {
            ProviderError::new(
                format!("the PKCS #11 module {} cannot be used: {}", path.display(), cause(error)),
                "Install the module of the token's vendor, and name its shared library by keys.pkcs11.module.",
            )
        };
        // A panic elsewhere leaves a map that is whole: it is only ever added to.
        let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
        let pkcs11 = match modules.get(path) {
            Some(loaded) => loaded.clone(),
            None => {
                let loaded = Pkcs11::new(path).map_err(|error| failed(&error))?;
                modules.insert(path.to_owned(), loaded.clone());
                loaded
            }
        };
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) => {}
            // The end of the call before failed; what it left works, or the next step says why not.
            Err(error) if rv(&error) == Some(RvError::CryptokiAlreadyInitialized) => {}
            Err(error) => return Err(failed(&error)),
        }
        Ok(Module { pkcs11, _alone: modules })
    }
}

impl Drop for Module<'_> {
    fn drop(&mut self) {
        // What cannot be ended now is found initialised by the next call.
        let _ = self.pkcs11.clone().finalize();
    }
}

impl Token {
    /// Logs in, and finds the key. The session ends, and with it the log-in, when it is dropped.
    fn session(&self, module: &Module<'_>, key: &str) -> Result<(Session, ObjectHandle), ProviderError> {
        let (slot, info) = self.slot(&module.pkcs11)?;
        let session = module.pkcs11.open_ro_session(slot).map_err(|error| self.failed(&error))?;
        if info.login_required() {
            self.log_in(&session, &info)?;
        }
        let wanted = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Label(key.as_bytes().to_vec()),
        ];
        let found = session.find_objects(&wanted).map_err(|error| self.failed(&error))?;
        match found[..] {
            [key] => Ok((session, key)),
            [] => Err(ProviderError::new(
                format!("token \"{}\" has no AES key \"{key}\"", self.token),
                format!(
                    "Make it: pkcs11-tool --module {} --token-label {} --login --keygen --key-type aes:32 --label {key} --sensitive; or correct keys.pkcs11.key.",
                    self.module.display(),
                    self.token
                ),
            )),
            _ => Err(ProviderError::new(
                format!("token \"{}\" has {} AES keys \"{key}\"", self.token, found.len()),
                "Give each key of the token a label of its own.",
            )),
        }
    }

    fn slot(&self, pkcs11: &Pkcs11) -> Result<(Slot, TokenInfo), ProviderError> {
        let slots = pkcs11.get_slots_with_token().map_err(|error| self.failed(&error))?;
        // A token that was pulled out meanwhile is one that is not there.
        let tokens = slots.into_iter().filter_map(|slot| Some((slot, pkcs11.get_token_info(slot).ok()?)));
        let mut found: Vec<(Slot, TokenInfo)> =
            tokens.filter(|(_, info)| info.label() == self.token).collect();
        match (found.pop(), found.is_empty()) {
            (Some(token), true) => Ok(token),
            (Some(_), false) => Err(ProviderError::new(
                format!("{} has several tokens \"{}\"", self.module.display(), self.token),
                "Give each token a label of its own.",
            )),
            (None, _) => Err(ProviderError::new(
                format!("{} has no token \"{}\"", self.module.display(), self.token),
                "Connect it, or correct keys.pkcs11.token (pkcs11-tool --list-token-slots shows their labels).",
            )),
        }
    }

    fn log_in(&self, session: &Session, info: &TokenInfo) -> Result<(), ProviderError> {
        let barred = |message: String, hint: &str| ProviderError {
            is_final: true,
            ..ProviderError::new(message, hint)
        };
        let locked = || {
            let hint = "Its security officer must set a new PIN.";
            barred(format!("the PIN of token \"{}\" is locked", self.token), hint)
        };
        if info.user_pin_locked() {
            return Err(locked());
        }
        if info.user_pin_final_try() {
            return Err(barred(
                format!("token \"{}\" would be locked by one more wrong PIN, so none is tried", self.token),
                "Log in once with the right PIN (pkcs11-tool --login --list-objects), which makes it count from the start; then correct keys.pkcs11.",
            ));
        }
        let pin = AuthPin::new(self.pin.as_str().into());
        let Err(error) = session.login(UserType::User, Some(&pin)) else { return Ok(()) };
        Err(match rv(&error) {
            // Some modules share log-ins between processes.
            Some(RvError::UserAlreadyLoggedIn) => return Ok(()),
            Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => barred(
                format!("token \"{}\" does not accept the PIN", self.token),
                "Correct keys.pkcs11.pin or pin_file. It was tried once: tokens count wrong ones, and lock.",
            ),
            Some(RvError::PinLocked) => locked(),
            _ => self.failed(&error),
        })
    }

    fn failed(&self, error: &Error) -> ProviderError {
        ProviderError::new(
            format!("token \"{}\" cannot be used: {}", self.token, cause(error)),
            "See that the token is connected and its key may encrypt and decrypt with AES-GCM.",
        )
    }
}

fn rv(error: &Error) -> Option<RvError> {
    match error {
        Error::Pkcs11(rv, _) => Some(*rv),
        _ => None,
    }
}

/// Which call failed, and how.
fn cause(error: &Error) -> String {
    match error {
        Error::Pkcs11(rv, function) => format!("C_{function:?} failed with {rv:?}"),
        Error::LibraryLoading(error) => error.to_string(),
        other => other.to_string(),
    }
}
