//! A server with a transit engine, as far as pgveil asks for it: `encrypt` and `decrypt` of HashiCorp Vault's and OpenBao's HTTP API over TLS.
//!
//! No real one can be had where the tests run. This one seals with AES-256-GCM under versions of keys and binds associated data and
//! context, and its answers and refusals have the statuses and texts of OpenBao's sources (`builtin/logical/transit`, `vault`).

use crate::handshake::{Certificates, certificates};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, rand::SecureRandom};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

pub const TOKEN: &str = "hvs.token-of-the-tests";

pub struct Key {
    pub versions: Vec<[u8; 32]>,
    pub min_decryption_version: usize,
    pub derived: bool,
}

/// What it is and does, which tests change.
pub struct State {
    pub keys: BTreeMap<String, Key>,
    pub token: String,
    /// The paths that the token may update.
    pub may: Vec<&'static str>,
    pub namespace: Option<&'static str>,
    pub sealed: bool,
    /// So many requests are one too many.
    pub throttled: usize,
    /// Connections are closed unheard.
    pub away: bool,
    /// Method, path and body of each request that was heard.
    pub heard: Vec<(String, Value)>,
}

pub struct Transit {
    state: Arc<Mutex<State>>,
    port: u16,
    files: Certificates,
}

impl Transit {
    /// Has key `pgveil`, which [`TOKEN`] may use.
    pub fn start() -> Transit {
        let files = certificates("localhost", false);
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let tls =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(chain, PrivateKeyDer::from_pem_file(&files.key).unwrap())
                .unwrap();
        let state = State {
            keys: BTreeMap::new(),
            token: TOKEN.to_owned(),
            may: vec!["transit/encrypt/", "transit/decrypt/"],
            namespace: None,
            sealed: false,
            throttled: 0,
            away: false,
            heard: vec![],
        };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (own, tls) = (state.clone(), Arc::new(tls));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !own.lock().unwrap().away {
                    // Whoever does not speak TLS hears nothing.
                    let _ = serve(stream, tls.clone(), &own);
                }
            }
        });
        let transit = Transit { state, port, files };
        transit.rotate("pgveil");
        transit
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn ca(&self) -> &Path {
        &self.files.ca
    }

    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A new version of a key, the first one, too.
    pub fn rotate(&self, name: &str) {
        let mut version = [0; 32];
        ring::rand::SystemRandom::new().fill(&mut version).unwrap();
        let mut state = self.state();
        let key = state.keys.entry(name.to_owned()).or_insert(Key {
            versions: vec![],
            min_decryption_version: 1,
            derived: false,
        });
        key.versions.push(version);
    }
}

fn serve(stream: TcpStream, tls: Arc<rustls::ServerConfig>, state: &Mutex<State>) -> std::io::Result<()> {
    let connection = rustls::ServerConnection::new(tls).map_err(std::io::Error::other)?;
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let header = |wanted: &str| {
        let mut headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.to_owned())
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request {
        line: lines.first().cloned().unwrap_or_default(),
        token: header("x-vault-token"),
        namespace: header("x-vault-namespace"),
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    let (status, body) = answer(&mut state.lock().unwrap(), &request);
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())?;
    stream.flush()
}

struct Request {
    line: String,
    token: Option<String>,
    namespace: Option<String>,
    body: Value,
}

type Answered = (u16, Value);

fn errors(status: u16, text: impl Into<String>) -> Answered {
    (status, json!({ "errors": [text.into()] }))
}

/// In the order in which the real ones look: seal, quota, token and its policy, route, engine.
fn answer(state: &mut State, request: &Request) -> Answered {
    let mut words = request.line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    state.heard.push((format!("{method} {path}"), request.body.clone()));
    if state.sealed {
        return errors(503, "Vault is sealed");
    }
    let Some(path) = path.strip_prefix("/v1/") else { return errors(404, "") };
    if state.throttled > 0 {
        state.throttled -= 1;
        return errors(429, format!("request path \"{path}\": rate limit quota exceeded"));
    }
    let allowed = state.may.iter().any(|allowed| path.starts_with(allowed));
    let inside = request.namespace.as_deref() == state.namespace;
    if request.token.as_deref() != Some(&state.token) || !allowed || !inside {
        return errors(403, "1 error occurred:\n\t* permission denied\n\n");
    }
    if !matches!(method, "POST" | "PUT") {
        return errors(405, "1 error occurred:\n\t* unsupported operation\n\n");
    }
    let missing = || errors(404, format!("no handler for route \"{path}\". route entry not found."));
    let Some((action, name)) = path.strip_prefix("transit/").and_then(|rest| rest.split_once('/')) else {
        return missing();
    };
    let done = match action {
        "encrypt" => encrypt(state, name, &request.body),
        "decrypt" => decrypt(state, name, &request.body),
        _ => return missing(),
    };
    match done {
        Ok(data) => (
            200,
            json!({
                "request_id": "5a0a2b1e-0000-0000-0000-000000000000", "lease_id": "", "renewable": false,
                "lease_duration": 0, "data": data, "wrap_info": null, "warnings": null, "auth": null,
            }),
        ),
        Err(text) => errors(400, text),
    }
}

fn bytes(body: &Value, field: &str) -> Result<Vec<u8>, String> {
    let text = body[field].as_str().unwrap_or_default();
    STANDARD.decode(text).map_err(|_| format!("illegal base64 data in {field}"))
}

/// The AEAD of a version, derived by the context where the key says so.
fn aead(key: &Key, version: usize, context: &[u8]) -> Result<LessSafeKey, String> {
    let mut secret = key.versions[version - 1];
    if key.derived {
        if context.is_empty() {
            return Err("missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key".to_owned());
        }
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret);
        derived.expand(&[context], hkdf::HKDF_SHA256).unwrap().fill(&mut secret).unwrap();
    }
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).unwrap()))
}

fn encrypt(state: &State, name: &str, body: &Value) -> Result<Value, String> {
    let (mut text, bound, context) =
        (bytes(body, "plaintext")?, bytes(body, "associated_data")?, bytes(body, "context")?);
    let key = state.keys.get(name).ok_or("encryption key not found")?;
    let version = key.versions.len();
    let mut nonce = [0; 12];
    ring::rand::SystemRandom::new().fill(&mut nonce).unwrap();
    let aead = aead(key, version, &context)?;
    aead.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text).unwrap();
    let sealed = STANDARD.encode([&nonce[..], &text].concat());
    Ok(json!({ "ciphertext": format!("vault:v{version}:{sealed}"), "key_version": version }))
}

fn decrypt(state: &State, name: &str, body: &Value) -> Result<Value, String> {
    let (bound, context) = (bytes(body, "associated_data")?, bytes(body, "context")?);
    let key = state.keys.get(name).ok_or("encryption key not found")?;
    let text = body["ciphertext"].as_str().unwrap_or_default();
    let text = text.strip_prefix("vault:v").ok_or("invalid ciphertext: no prefix")?;
    let (version, text) = text.split_once(':').ok_or("invalid ciphertext: wrong number of fields")?;
    let version: usize =
        version.parse().map_err(|_| "invalid ciphertext: version number could not be decoded")?;
    if version > key.versions.len() {
        return Err("invalid ciphertext: version is too new".to_owned());
    }
    if version < key.min_decryption_version {
        return Err("ciphertext or signature version is disallowed by policy (too old)".to_owned());
    }
    let mut sealed = STANDARD.decode(text).map_err(|_| "invalid ciphertext: could not decode base64")?;
    if sealed.len() < 12 {
        return Err("invalid ciphertext: too short".to_owned());
    }
    let mut rest = sealed.split_off(12);
    let nonce = Nonce::try_assume_unique_for_key(&sealed).unwrap();
    let opened = aead(key, version, &context)?.open_in_place(nonce, Aad::from(bound), &mut rest);
    let opened = opened.map_err(|_| "cipher: message authentication failed")?;
    Ok(json!({ "plaintext": STANDARD.encode(opened) }))
}
