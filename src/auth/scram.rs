//! SCRAM exchanges as state machines: the server towards clients, the client towards the database.
//!
//! Both are bound to the TLS channel (SCRAM-SHA-256-PLUS, `tls-server-end-point` of RFC 5929) where there is one and both sides can; the rules
//! against a downgrade in between are PostgreSQL's (`auth-scram.c`, `fe-auth-scram.c`). Deliberately absent: other kinds of binding.

use super::{ITERATIONS_DEFAULT, SALT_BYTES, Verifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

pub const MECHANISM: &str = "SCRAM-SHA-256";
pub const MECHANISM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// What a proof is bound to: the hash of the server's certificate.
pub type Binding = Vec<u8>;

/// How a header that binds begins.
const BOUND: &str = "p=tls-server-end-point,,";

/// Why an exchange ended. The client is told of all but [`Failure::Syntax`] that the password is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The message is not one of the exchange: a protocol violation.
    Syntax,
    /// The client demands a kind of channel binding that there is not, or without the mechanism for it.
    ChannelBinding,
    /// The client thinks that we cannot bind, and we said that we can: someone in between took it out.
    Downgraded,
    /// The proof is bound to another channel: someone is in between.
    OtherChannel,
    /// The proof is not that of the password, or there is no such user.
    Proof,
    /// Upstream: the server's salt or iterations are not those of our verifier, so its password was changed.
    OtherVerifier,
    /// Upstream: the server does not know the password either.
    ServerSignature,
    /// Upstream: the server asks for more work than it is worth.
    Iterations,
}

pub(super) fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|index| a[index] ^ b[index])
}

/// The two keys of a password that a log-in needs. No `Debug`.
#[derive(Clone)]
pub struct Keys {
    pub client_key: Zeroizing<[u8; 32]>,
    pub server_key: [u8; 32],
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl Keys {
    /// From the password: PBKDF2 with HMAC-SHA-256 (RFC 5802 `Hi`).
    pub fn derive(password: &str, salt: &[u8], iterations: u32) -> Keys {
        let prepared: Cow<'_, str> = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
        let mut block = hmac(prepared.as_bytes(), &[salt, &1u32.to_be_bytes()]);
        let mut salted = block;
        let keyed =
            <Hmac<Sha256> as KeyInit>::new_from_slice(prepared.as_bytes()).expect("a key of any length");
        for _ in 1..iterations {
            let mut mac = keyed.clone();
            mac.update(&block);
            block = mac.finalize().into_bytes().into();
            salted = xor(&salted, &block);
        }
        block.zeroize();
        let client_key = Zeroizing::new(hmac(&salted, &[b"Client Key"]));
        let server_key = hmac(&salted, &[b"Server Key"]);
        salted.zeroize();
        Keys { client_key, server_key, salt: salt.to_vec(), iterations }
    }
}

/// A password was proved: only a successful exchange makes one.
pub struct Proved(Keys);

impl Proved {
    pub(super) fn into_keys(self) -> Keys {
        self.0
    }
}

/// Rounds of PBKDF2 that a database may ask for: a second of one core.
const ITERATIONS_MAX: u32 = 2_000_000;

/// A password of a role in the database, kept for those who prove none. No `Debug`.
pub struct Credential {
    password: Zeroizing<String>,
    /// For the salt that the database named last: until the password changes it stays the same.
    derived: Mutex<Option<Keys>>,
}

impl Credential {
    pub fn new(password: Zeroizing<String>) -> Credential {
        Credential { password, derived: Mutex::default() }
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> Result<Keys, Failure> {
        if !(1..=ITERATIONS_MAX).contains(&iterations) {
            return Err(Failure::Iterations);
        }
        // Held while deriving: of many log-ins at once one does the work.
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        match derived.as_ref().filter(|keys| keys.salt == salt && keys.iterations == iterations) {
            Some(known) => Ok(known.clone()),
            None => Ok(derived.insert(Keys::derive(&self.password, salt, iterations)).clone()),
        }
    }
}

/// What a log-in to the database is proved with.
#[derive(Clone)]
pub enum Secret {
    /// The client's own keys, which its proof revealed.
    Proved(Keys),
    Kept(Arc<Credential>),
}

impl Secret {
    /// # Errors
    /// [`Failure::OtherVerifier`] when the database's password is not the one that the client proved to us.
    fn keys(self, salt: &[u8], iterations: u32) -> Result<Keys, Failure> {
        match self {
            Secret::Proved(keys) if keys.salt == salt && keys.iterations == iterations => Ok(keys),
            Secret::Proved(_) => Err(Failure::OtherVerifier),
            Secret::Kept(credential) => credential.keys(salt, iterations),
        }
    }
}

/// Towards a client, before its first message.
pub struct ServerFirst {
    verifier: Verifier,
    /// False for a made-up verifier: the exchange then fails where a wrong password does.
    known: bool,
}

/// Towards a client, before its proof.
pub struct ServerFinal {
    verifier: Verifier,
    known: bool,
    /// What client-final must repeat: the header of client-first and what it binds to, against someone in between.
    channel_binding: String,
    /// It binds.
    bound: bool,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl ServerFirst {
    /// For an unknown user a verifier is made up from `mock_secret` (of this process), the same at every attempt.
    pub fn new(user: &str, verifier: Option<Verifier>, mock_secret: &[u8; 32]) -> ServerFirst {
        match verifier {
            Some(verifier) => ServerFirst { verifier, known: true },
            None => {
                let salt = hmac(mock_secret, &[user.as_bytes()]);
                let verifier = Verifier {
                    iterations: ITERATIONS_DEFAULT,
                    salt: salt[..SALT_BYTES].to_vec(),
                    stored_key: hmac(mock_secret, &[b"stored", user.as_bytes()]),
                    server_key: hmac(mock_secret, &[b"server", user.as_bytes()]),
                };
                ServerFirst { verifier, known: false }
            }
        }
    }

    /// Answers client-first-message. `server_nonce` is printable and fresh; `binding` is what was offered to bind to, `plus` that
    /// the client chose the mechanism that does.
    pub fn respond(
        self,
        client_first: &[u8],
        server_nonce: &str,
        binding: Option<&Binding>,
        plus: bool,
    ) -> Result<(ServerFinal, Vec<u8>), Failure> {
        let text = std::str::from_utf8(client_first).map_err(|_| Failure::Syntax)?;
        // An authorization identity between the commas is not taken, as PostgreSQL does not.
        let (header, bound, bare) = match (text.split_at_checked(3), text.strip_prefix(BOUND)) {
            (_, Some(bare)) => {
                (BOUND, binding.filter(|_| plus).ok_or(Failure::ChannelBinding)?.as_slice(), bare)
            }
            (Some(("n,,", bare)), _) if !plus => ("n,,", [].as_slice(), bare),
            (Some(("y,,", bare)), _) if !plus && binding.is_none() => ("y,,", [].as_slice(), bare),
            (Some(("y,,", _)), _) if !plus => return Err(Failure::Downgraded),
            _ if text.starts_with("p=") => return Err(Failure::ChannelBinding),
            _ => return Err(Failure::Syntax),
        };
        let channel_binding = STANDARD.encode([header.as_bytes(), bound].concat());
        let mut attributes = bare.split(',');
        // The name here is ignored, as PostgreSQL does: the start-up packet has it.
        let name = attributes.next().is_some_and(|name| name.starts_with("n="));
        let client_nonce =
            attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).filter(|nonce| printable(nonce));
        let (true, Some(client_nonce)) = (name, client_nonce) else { return Err(Failure::Syntax) };
        let nonce = format!("{client_nonce}{server_nonce}");
        let server_first =
            format!("r={nonce},s={},i={}", STANDARD.encode(&self.verifier.salt), self.verifier.iterations);
        let reply = server_first.clone().into_bytes();
        let next = ServerFinal {
            verifier: self.verifier,
            known: self.known,
            channel_binding,
            bound: plus,
            client_first_bare: bare.to_owned(),
            server_first,
            nonce,
        };
        Ok((next, reply))
    }
}

impl ServerFinal {
    /// Checks client-final-message; gives the proved keys and server-final-message.
    pub fn finish(self, client_final: &[u8]) -> Result<(Proved, Vec<u8>), Failure> {
        let text = std::str::from_utf8(client_final).map_err(|_| Failure::Syntax)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(Failure::Syntax)?;
        let mut attributes = without_proof.split(',');
        let bound = attributes.next().and_then(|bound| bound.strip_prefix("c=")).ok_or(Failure::Syntax)?;
        if bound != self.channel_binding {
            return Err(if self.bound { Failure::OtherChannel } else { Failure::Syntax });
        }
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(Failure::Syntax)?;
        if nonce != self.nonce {
            return Err(Failure::Syntax);
        }
        let proof: [u8; 32] =
            STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(Failure::Syntax)?;
        let message = [
            self.client_first_bare.as_bytes(),
            b",",
            self.server_first.as_bytes(),
            b",",
            without_proof.as_bytes(),
        ];
        let signature = hmac(&self.verifier.stored_key, &message);
        let client_key = Zeroizing::new(xor(&proof, &signature));
        let proved = sha256(client_key.as_ref()).ct_eq(&self.verifier.stored_key);
        if !bool::from(proved) || !self.known {
            return Err(Failure::Proof);
        }
        let server_signature = hmac(&self.verifier.server_key, &message);
        let keys = Keys {
            client_key,
            server_key: self.verifier.server_key,
            salt: self.verifier.salt,
            iterations: self.verifier.iterations,
        };
        Ok((Proved(keys), format!("v={}", STANDARD.encode(server_signature)).into_bytes()))
    }
}

/// Towards the database, before its first message.
pub struct ClientFirst {
    secret: Secret,
    bare: String,
    /// The header and what it binds to, in base64.
    channel_binding: String,
}

/// Towards the database, before its last message.
pub struct ClientFinal {
    server_signature: [u8; 32],
}

impl ClientFirst {
    /// Begins a log-in; gives the mechanism and client-first-message. `binding` is what the channel can be bound to;
    /// `offered` that the server offers to.
    pub fn begin(
        secret: Secret,
        nonce: &str,
        binding: Option<&Binding>,
        offered: bool,
    ) -> (ClientFirst, &'static str, Vec<u8>) {
        let (mechanism, header, bound) = match binding {
            Some(binding) if offered => (MECHANISM_PLUS, BOUND, binding.as_slice()),
            Some(_) => (MECHANISM, "y,,", [].as_slice()),
            None => (MECHANISM, "n,,", [].as_slice()),
        };
        let bare = format!("n=,r={nonce}");
        let message = format!("{header}{bare}").into_bytes();
        let channel_binding = STANDARD.encode([header.as_bytes(), bound].concat());
        (ClientFirst { secret, bare, channel_binding }, mechanism, message)
    }

    /// Whether [`prove`](Self::prove) may take a second: it has a password to derive keys from.
    pub fn takes_time(&self) -> bool {
        matches!(self.secret, Secret::Kept(_))
    }

    /// Answers server-first-message with the proof.
    ///
    /// # Errors
    /// As of [`Secret::keys`].
    pub fn prove(self, server_first: &[u8]) -> Result<(ClientFinal, Vec<u8>), Failure> {
        let text = std::str::from_utf8(server_first).map_err(|_| Failure::Syntax)?;
        let mut attributes = text.split(',');
        let nonce = attributes.next().and_then(|nonce| nonce.strip_prefix("r=")).ok_or(Failure::Syntax)?;
        let salt = attributes.next().and_then(|salt| salt.strip_prefix("s=")).ok_or(Failure::Syntax)?;
        let iterations =
            attributes.next().and_then(|count| count.strip_prefix("i=")).ok_or(Failure::Syntax)?;
        let own_nonce = self.bare.strip_prefix("n=,r=").unwrap_or_default();
        if !nonce.starts_with(own_nonce) || nonce.len() == own_nonce.len() {
            return Err(Failure::Syntax);
        }
        let salt = STANDARD.decode(salt).map_err(|_| Failure::Syntax)?;
        let iterations = iterations.parse().map_err(|_| Failure::Syntax)?;
        let keys = self.secret.keys(&salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", self.channel_binding);
        let message = [self.bare.as_bytes(), b",", text.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hmac(&sha256(keys.client_key.as_ref()), &message);
        let proof = STANDARD.encode(xor(&keys.client_key, &signature));
        let server_signature = hmac(&keys.server_key, &message);
        Ok((ClientFinal { server_signature }, format!("{without_proof},p={proof}").into_bytes()))
    }
}

impl ClientFinal {
    /// Checks server-final-message: the database must know the password, too.
    pub fn finish(self, server_final: &[u8]) -> Result<(), Failure> {
        let text = std::str::from_utf8(server_final).map_err(|_| Failure::Syntax)?;
        let signature = text.split(',').next().and_then(|v| v.strip_prefix("v=")).ok_or(Failure::Syntax)?;
        let signature = STANDARD.decode(signature).map_err(|_| Failure::Syntax)?;
        let same = signature.as_slice().ct_eq(self.server_signature.as_slice());
        if bool::from(same) { Ok(()) } else { Err(Failure::ServerSignature) }
    }
}

/// Printable ASCII without the comma (RFC 5802 `printable`).
fn printable(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte) && byte != b',')
}
