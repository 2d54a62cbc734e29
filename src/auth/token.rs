//! Tokens of an OpenID provider (JSON Web Tokens, RFC 7519) that stand in for a password: is this one of ours, and whose is it?
//!
//! Guarantees: only asymmetric signatures by a key of the provider's key set (RFC 7517) count, and only by the algorithms that are
//! allowed; a key checks signatures of its own kind alone, so that no public key is ever taken for a shared secret; issuer, audience
//! and expiry must be there and fit. What the token names itself (`jwk`, `jku`, `x5c` …) is not looked at. Deliberately absent: where
//! keys come from, the clock, and whether a token was shown before: it is the bearer's until it expires.

use super::{Named, Naming, Unnamed};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind, new_error};
use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{DecodingKey, DecodingKeyKind, Validation};
use ring::signature as curves;
use serde_json::{Map, Value};

/// By what tokens may be signed: `jsonwebtoken`'s own, of which [`algorithm`] gives no symmetric one.
pub use jsonwebtoken::Algorithm;

/// What providers sign by, where nothing else is said.
pub const ALGORITHMS_DEFAULT: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// All that may be allowed, by name (RFC 7518, RFC 8037).
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The provider's keys. They are public.
pub struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    /// The only algorithm that the provider means it for, where it says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

/// Why a text is no key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("it is no JSON object with \"keys\" (a JSON Web Key Set)")]
    Syntax,
    #[error("none of its keys can check a signature that is understood")]
    Empty,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Keys that are not for signatures, or not understood, are left out, as RFC 7517 has it; symmetric ones
    /// always.
    ///
    /// # Errors
    /// Nothing of it can be used.
    pub fn parse(json: &[u8]) -> Result<KeySet, KeySetError> {
        let set: Value = serde_json::from_slice(json).map_err(|_| KeySetError::Syntax)?;
        let listed = set.get("keys").and_then(Value::as_array).ok_or(KeySetError::Syntax)?;
        let keys: Vec<Key> = listed.iter().filter_map(key).collect();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(KeySet(keys)) }
    }

    /// The key that a token names; of one that names none, the only one of its kind.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, Unfit> {
        let fits = |key: &&Key| {
            id.is_none_or(|id| key.id.as_deref() == Some(id))
                && key.key.family() == algorithm.family()
                && key.only.is_none_or(|only| only == algorithm)
        };
        let mut fitting = self.0.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            _ => Err(Unfit::UnknownKey),
        }
    }
}

fn key(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let common = &jwk.common;
    let signs = common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature)
        && common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    let only = match common.key_algorithm {
        Some(named) => Some(asymmetric(named)?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let symmetric = key.family() == jsonwebtoken::AlgorithmFamily::Hmac;
    (signs && !symmetric).then(|| Key { id: common.key_id.clone(), only, key })
}

/// Of a key's own algorithm; `None` for those that we do not check signatures by.
fn asymmetric(named: KeyAlgorithm) -> Option<Algorithm> {
    let name = named.to_string();
    ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
}

/// Which tokens hold, and whom they name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub issuer: String,
    /// One of these must be meant.
    pub audience: Vec<String>,
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the user.
    pub claim: String,
    pub naming: Naming,
    /// How far clocks may be apart.
    pub leeway_seconds: u64,
}

/// Why a token does not hold. The client is told the same of each; the audit log says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it is no token, or is signed by nothing that is understood")]
    Malformed,
    #[error("the token is signed by an algorithm that is not allowed")]
    Algorithm,
    #[error("the token asks for something that is not understood")]
    Critical,
    #[error("no key of the provider is the token's")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token does not say when it expires")]
    NoExpiry,
    #[error("the token has expired")]
    Expired,
    #[error("the token does not hold yet")]
    Early,
    #[error("the token names nobody")]
    Nameless,
    #[error("the token names another user")]
    OtherUser,
}

impl Rules {
    /// Whether `token` is `user`'s, by the provider's `keys`; `now` is Unix seconds.
    ///
    /// # Errors
    /// Why it is not.
    pub fn judge(&self, user: &str, token: &[u8], keys: &KeySet, now: u64) -> Result<Named, Unfit> {
        // There is one provider of cryptography here, and whichever call came first has set it.
        let _ = RING.install_default();
        let header = jsonwebtoken::decode_header(token).map_err(|error| unfit(&error))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Unfit::Algorithm);
        }
        // RFC 7515: what is critical must be understood, and we understand no extension.
        if header.crit.is_some() {
            return Err(Unfit::Critical);
        }
        let key = keys.find(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&self.audience);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // By our own clock below.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation);
        let claims = decoded.map_err(|error| unfit(&error))?.claims;
        self.in_time(&claims, now)?;
        let said = claims.get(&self.claim).and_then(Value::as_str).ok_or(Unfit::Nameless)?;
        match self.naming.names(said, user) {
            Ok(()) => Ok(Named(user.to_owned())),
            Err(Unnamed::Nobody) => Err(Unfit::Nameless),
            Err(Unnamed::Another) => Err(Unfit::OtherUser),
        }
    }

    fn in_time(&self, claims: &Map<String, Value>, now: u64) -> Result<(), Unfit> {
        let expires = seconds(claims.get("exp").ok_or(Unfit::NoExpiry)?)?;
        if expires.saturating_add(self.leeway_seconds) <= now {
            return Err(Unfit::Expired);
        }
        let holds_from = claims.get("nbf").map(seconds).transpose()?.unwrap_or(0);
        if holds_from > now.saturating_add(self.leeway_seconds) { Err(Unfit::Early) } else { Ok(()) }
    }
}

/// A NumericDate, whose fraction of a second is cut.
fn seconds(value: &Value) -> Result<u64, Unfit> {
    let whole = value.as_u64();
    let fractional = value.as_f64().filter(|seconds| (0.0..9e15).contains(seconds));
    whole.or_else(|| fractional.map(|seconds| seconds as u64)).ok_or(Unfit::Malformed)
}

fn unfit(error: &Error) -> Unfit {
    match error.kind() {
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm | ErrorKind::InvalidAlgorithmName => {
            Unfit::Algorithm
        }
        ErrorKind::InvalidSignature | ErrorKind::InvalidKeyFormat => Unfit::Signature,
        ErrorKind::InvalidIssuer => Unfit::Issuer,
        ErrorKind::InvalidAudience => Unfit::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => Unfit::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => Unfit::Audience,
        _ => Unfit::Malformed,
    }
}

/// What checks signatures: `ring`, as in TLS. Nothing signs here.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| {
        if key.family() != algorithm.family() {
            return Err(new_error(ErrorKind::InvalidKeyFormat));
        }
        Ok(Box::new(Checker { algorithm: *algorithm, key: key.clone() }))
    },
    key_utils: KeyUtils::new_unimplemented(),
};

struct Checker {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let rsa = |parameters| self.rsa(parameters, message, signature);
        let checked = match self.algorithm {
            Algorithm::RS256 => rsa(&curves::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::RS384 => rsa(&curves::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::RS512 => rsa(&curves::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::PS256 => rsa(&curves::RSA_PSS_2048_8192_SHA256),
            Algorithm::PS384 => rsa(&curves::RSA_PSS_2048_8192_SHA384),
            Algorithm::PS512 => rsa(&curves::RSA_PSS_2048_8192_SHA512),
            Algorithm::ES256 => self.point(&curves::ECDSA_P256_SHA256_FIXED, message, signature),
            Algorithm::ES384 => self.point(&curves::ECDSA_P384_SHA384_FIXED, message, signature),
            Algorithm::EdDSA => self.point(&curves::ED25519, message, signature),
            _ => None,
        };
        checked.ok_or_else(signature::Error::new)
    }
}

impl Checker {
    fn rsa(&self, parameters: &curves::RsaParameters, message: &[u8], signature: &[u8]) -> Option<()> {
        match self.key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => {
                curves::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).ok()
            }
            DecodingKeyKind::SecretOrDer(_) => None,
        }
    }

    /// A key that is a point of a curve, which `ring` holds to be on it.
    fn point(
        &self,
        parameters: &'static dyn curves::VerificationAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Option<()> {
        let key = self.key.try_get_as_bytes().ok()?;
        curves::UnparsedPublicKey::new(parameters, key).verify(message, signature).ok()
    }
}

#[cfg(test)]
mod tests;
