//! Provider `vault`: a key of the transit engine of HashiCorp Vault or OpenBao wraps the master key.
//!
//! Two calls of its HTTP API, `encrypt` and `decrypt`, written from OpenBao's documentation and sources. The identity of the keyring is
//! bound into what is wrapped: as associated data, and as the context of keys that are derived. Guarantees: the token is read anew
//! for each call, so that an agent may renew it, and goes to the address that is set and nowhere else; a key is used for a keyring only after
//! it has opened what it wrapped. What is wrapped names the version of the key; a new one comes with the next master key (`keys rewrap`:
//! transit's own `rewrap` cannot, for it takes no associated data). Deliberately absent: logging in, renewing tokens (an agent does),
//! making and rotating keys (their owner does). **It has not met a real server yet**: none can be had where it is tested, against one of
//! our own that does what the sources say (`tests/it/transit.rs`; who has a real one runs `a_real_server_conforms`).

use super::http::{self, Answer, Client, InClear, Unreachable};
use super::{Provider, ProviderError};
use crate::crypto::keyring::{MASTER_KEY_BYTES, MasterKey, WrappedKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use serde::Deserialize;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// How a keyring names this provider.
pub const NAME: &str = "vault";

/// Before the keyring's identity, so that the key opens nothing else for us.
const PURPOSE: &str = "pgveil master key v1 ";

/// Which key, and how to reach it.
pub struct Transit {
    /// As [`http::base`] takes it.
    pub address: Uri,
    /// Where the engine is mounted.
    pub mount: String,
    /// The key that wraps. What is wrapped already names its own.
    pub key: String,
    pub namespace: Option<String>,
    pub token: Zeroizing<String>,
    /// The authorities to trust; the system's where it is absent.
    pub ca: Option<PathBuf>,
}

/// What succeeds.
#[derive(Deserialize)]
struct Success {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    ciphertext: Option<String>,
    plaintext: Option<String>,
}

/// What fails.
#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    errors: Vec<String>,
}

impl Provider for Transit {
    fn wrap(&self, master: &MasterKey, keyring: &str) -> Result<WrappedKey, ProviderError> {
        let plaintext = Zeroizing::new(STANDARD.encode(master.bytes()));
        let answer = self.ask("encrypt", &self.key, keyring, ("plaintext", &plaintext))?;
        let wrapped =
            answer.ciphertext.filter(|text| version(text).is_some()).ok_or_else(|| self.strange())?;
        let wrapped = WrappedKey {
            provider: NAME.to_owned(),
            key: self.key.clone(),
            named: None,
            keyring: keyring.to_owned(),
            wrapped: wrapped.into_bytes(),
        };
        if self.unwrap(&wrapped)?.bytes() != master.bytes() {
            return Err(self.strange());
        }
        Ok(wrapped)
    }

    fn unwrap(&self, wrapped: &WrappedKey) -> Result<MasterKey, ProviderError> {
        let ciphertext = std::str::from_utf8(&wrapped.wrapped).ok().filter(|text| version(text).is_some());
        let ciphertext = ciphertext
            .filter(|_| {
                wrapped.provider == NAME && is_name(&wrapped.key, false) && is_name(&wrapped.keyring, false)
            })
            .ok_or_else(|| self.foreign(&wrapped.key, "not what this provider makes"))?;
        let answer = self.ask("decrypt", &wrapped.key, &wrapped.keyring, ("ciphertext", ciphertext))?;
        let plaintext = Zeroizing::new(answer.plaintext.ok_or_else(|| self.strange())?);
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * MASTER_KEY_BYTES));
        STANDARD.decode_vec(plaintext.as_bytes(), &mut bytes).map_err(|_| self.strange())?;
        let master = MasterKey::from_slice(&bytes).ok_or_else(|| self.strange())?;
        Ok(master.wrapped_as(wrapped.clone()))
    }
}

/// The version of the key that made a ciphertext: `vault:v3:…`.
fn version(ciphertext: &str) -> Option<u32> {
    let (version, body) = ciphertext.strip_prefix("vault:v")?.split_once(':')?;
    let is_base64 = body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    version.parse().ok().filter(|_| is_base64 && !body.is_empty())
}

/// Whether a mount or key can have this name: part of a path that leads nowhere else.
pub fn is_name(name: &str, may_have_slashes: bool) -> bool {
    let fits = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    if may_have_slashes { name.split('/').all(fits) } else { fits(name) }
}

impl Transit {
    fn ask(
        &self,
        action: &str,
        key: &str,
        keyring: &str,
        (field, value): (&str, &str),
    ) -> Result<Data, ProviderError> {
        let client = Client::new(self.ca.as_deref(), InClear::Loopback)?;
        let bound = STANDARD.encode(format!("{PURPOSE}{keyring}"));
        // Base64 and ciphertexts need no escapes in JSON; built here so that there is one copy, which is wiped.
        let quoted = [
            r#"{"associated_data":""#,
            &bound,
            r#"","context":""#,
            &bound,
            r#"",""#,
            field,
            r#"":""#,
            value,
            r#""}"#,
        ];
        let mut body = Zeroizing::new(Vec::with_capacity(quoted.iter().map(|part| part.len()).sum()));
        quoted.iter().for_each(|part| body.extend_from_slice(part.as_bytes()));
        http::ask(|| self.ask_once(&client, action, key, body.clone()))
    }

    async fn ask_once(
        &self,
        client: &Client,
        action: &str,
        key: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Data, ProviderError> {
        let request = self.request(action, key, body)?;
        let answer = client.send(request).await.map_err(|error| self.unreachable(&error))?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(action, key, &answer));
        }
        let success: Success = serde_json::from_slice(&answer.body).map_err(|_| self.strange())?;
        Ok(success.data)
    }

    fn request(
        &self,
        action: &str,
        key: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<Request<Zeroizing<Vec<u8>>>, ProviderError> {
        let unusable = |what: &str| {
            ProviderError::new(format!("{what} cannot be sent to {}", self.shown(key)), "Correct keys.vault.")
        };
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|_| unusable("the token"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let uri =
            format!("{}/v1/{}/{action}/{key}", self.address.to_string().trim_end_matches('/'), self.mount);
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, "application/json")
            // Agents and proxies in between may insist on it: no browser can be made to send it.
            .header("x-vault-request", "true")
            .header("x-vault-token", secret(self.token.trim())?);
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        request.body(body).map_err(|_| unusable("a mount, key or namespace of this name"))
    }

    fn shown(&self, key: &str) -> String {
        format!("key \"{key}\" of {} at {}", self.mount, self.address.to_string().trim_end_matches('/'))
    }

    fn unreachable(&self, error: &Unreachable) -> ProviderError {
        let message = format!("{} cannot be used: {error}", self.shown(&self.key));
        ProviderError::new(message, "Start it, or correct keys.vault.address and ca.").passing()
    }

    fn strange(&self) -> ProviderError {
        let message = format!("{} does not answer as transit does", self.shown(&self.key));
        ProviderError::new(
            message,
            "See that keys.vault.mount is a transit engine, and its key encrypts and decrypts (aes256-gcm96).",
        )
    }

    fn foreign(&self, key: &str, cause: &str) -> ProviderError {
        ProviderError::new(
            format!(
                "{} does not open the keyring's master key ({cause}): another key wrapped it, or for another keyring, or it was altered",
                self.shown(key)
            ),
            "Name the server, namespace and mount whose key wrapped it; or put back the keyring that belongs to this one.",
        )
    }

    /// What an answer other than 200 says.
    fn refused(&self, action: &str, key: &str, answer: &Answer) -> ProviderError {
        let failure: Failure = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = failure.errors.join("; ").split_whitespace().collect::<Vec<_>>().join(" ");
        let cause = if said.is_empty() {
            answer.status.to_string()
        } else {
            format!("{}: {said}", answer.status.as_u16())
        };
        let error =
            |hint: String| ProviderError::new(format!("{} cannot be used: {cause}", self.shown(key)), hint);
        let has = |part: &str| said.contains(part);
        let (mount, namespace) = (&self.mount, self.namespace.as_deref().unwrap_or("(none)"));
        match answer.status.as_u16() {
            403 => error(format!(
                "Renew the token (keys.vault.token or token_file), and give its policy: path \"{mount}/{action}/{key}\" {{ capabilities = [\"update\"] }}."
            )),
            404 => error(format!(
                "Enable it (vault secrets enable -path={mount} transit), or correct keys.vault.mount and namespace ({namespace})."
            )),
            400 if has("encryption key not found") || has("no existing key") => error(format!(
                "Make it (vault write -f {mount}/keys/{key}), or correct keys.vault.key; a key that was deleted opens nothing any more."
            )),
            400 if has("too old") => error(format!(
                "Allow its version again (vault write {mount}/keys/{key}/config min_decryption_version=…), then run: pgveil keys rewrap"
            )),
            400 if action == "decrypt"
                && (has("message authentication failed") || has("unable to decrypt") || has("invalid ciphertext")) =>
            {
                self.foreign(key, &cause)
            }
            400 => error("See that the key is one that encrypts with associated data (aes256-gcm96, chacha20-poly1305).".to_owned()),
            // Another node of the cluster has the work; a redirect is not followed.
            301..=308 => error("Name the active node, or what balances the load, by keys.vault.address.".to_owned()),
            429 => error("It limits requests; raise its quota for this path, or wait.".to_owned()).passing(),
            503 => error("Unseal it (vault operator unseal), or wait until it is up.".to_owned()).passing(),
            500..=599 => error("See its log.".to_owned()).passing(),
            // A standby that cannot forward yet, or a replica that is behind.
            412 | 472 | 473 => error("Name a node that is active and has the key.".to_owned()).passing(),
            _ => error("Correct keys.vault.".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_names_its_version() {
        assert_eq!(version("vault:v3:AAAA"), Some(3));
        for other in
            ["", "vault:v3:", "vault:v:AA", "vault:vx:AA", "v3:AAAA", "hvault:v1:AA", "vault:v1:A\"A"]
        {
            assert_eq!(version(other), None, "{other}");
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        assert!(is_name("pgveil-1.master", false) && is_name("team/transit", true));
        for other in ["", "..", "a/b", "a?b", "a%2fb", "\u{e4}"] {
            assert!(!is_name(other, false), "{other}");
        }
        for other in ["", "/transit", "transit/", "a/../b"] {
            assert!(!is_name(other, true), "{other}");
        }
    }
}
