//! Who is speaking: SCRAM-SHA-256 (RFC 5802, RFC 7677) on both sides of the proxy → Principal. No I/O.
//!
//! The client proves its password to us against a stored verifier; the client key that its proof reveals is what we log
//! in upstream with, so that no password is ever known here. Guarantees: an unknown user sees exactly what a wrong
//! password sees; comparisons are constant-time; total parsing. Deliberately absent: sockets, files, policy.

pub mod scram;

use std::collections::BTreeMap;

/// PostgreSQL's stored form, `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (pg_authid.rolpassword).
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: [u8; 32],
    pub server_key: [u8; 32],
}

/// Who may log in, by name.
pub type Verifiers = BTreeMap<String, Verifier>;
