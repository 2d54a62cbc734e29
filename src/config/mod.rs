//! Files → validated domain values; the only place that knows what the files look like.
//!
//! One folder, four TOML files, one per person: `proxy.toml` (the SRE's), `tags.toml` (the DBA's), `policy.toml` (the
//! privacy officer's), `users.toml` (kept by `pgveil users`). Guarantees: [`load`] reports every mistake of all files in
//! one run, with file, line and remedy, or gives a configuration in which every name leads somewhere; relative paths
//! are relative to the folder. Deliberately absent: the database (`check` asks it), keys (only where they are).

pub mod account;
pub mod against;
pub mod doctor;
mod document;
pub mod expect;
pub mod keys;
mod policy;
mod proxy;
pub mod sarif;
pub mod sensitive;
mod tags;
pub mod users;

use crate::auth::Verifiers;
use crate::catalog::Tags;
use crate::policy::Policy;
use crate::server::settings::Settings;
use document::Document;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use keys::{KeySettings, KeysUnusable, MasterKeySource};
pub use tags::{column_of, table_of};

/// The four files' names.
pub const PROXY: &str = "proxy.toml";
pub const TAGS: &str = "tags.toml";
pub const POLICY: &str = "policy.toml";
pub const USERS: &str = "users.toml";

/// Everything that the folder says.
pub struct Config {
    pub dir: PathBuf,
    pub settings: Settings,
    pub keys: KeySettings,
    pub policy: Policy,
    pub tags: Tags,
    pub users: Verifiers,
    /// Secrets of second factors, sealed, by user.
    pub factors: BTreeMap<String, String>,
    /// Passwords of roles in the database, sealed, by role.
    pub credentials: BTreeMap<String, String>,
    pub places: Places,
    /// Lighter than mistakes: the configuration holds, but someone should look.
    pub remarks: Vec<Mistake>,
    /// SHA-256 over the four files, hexadecimal: what the audit log calls this configuration.
    pub digest: String,
    /// (name, SHA-256 in hexadecimal) of each file that there is, the keyring last.
    pub files: Vec<(String, String)>,
}

/// Where the files say what, for messages about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `[database]` and `[keys]`, or the file's first line.
    pub database: Place,
    pub keys: Place,
    /// Of `tags.tags[i]`, `policy.rules[i]` and `policy.domains[i]`, by the same index.
    pub tags: Vec<Place>,
    /// Of `tags.record_keys[i]`.
    pub record_keys: Vec<Place>,
    pub rules: Vec<Place>,
    pub domains: Vec<Place>,
}

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    /// 1-based.
    pub line: usize,
}

/// What is wrong with a configuration, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// What kind of finding it is, for programs: it stays, whatever happens to the message. One of [`sarif::RULES`].
    pub id: &'static str,
    pub weight: Weight,
    pub file: PathBuf,
    /// 1-based.
    pub line: usize,
    pub message: String,
    /// A sentence.
    pub hint: String,
}

/// How much a mistake matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// The configuration does not hold: nothing starts with it.
    Mistake,
    /// Something can never take effect as the files stand. `check` fails; `serve` goes on, because two people write
    /// `policy.toml` and `tags.toml` one after the other.
    Idle,
    /// Worth a look: `check` prints it and passes.
    Advice,
}

impl fmt::Display for Mistake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file.display(), self.line, self.message)
    }
}

/// Reads and validates the folder.
///
/// # Errors
/// Every mistake of all files, in their order.
pub fn load(dir: &Path) -> Result<Config, Vec<Mistake>> {
    load_with(dir, Missing::Mistake)
}

/// As [`load`], before `init` has run: files that it makes (passwords, keys) may be missing.
///
/// # Errors
/// As [`load`].
pub fn load_unprepared(dir: &Path) -> Result<Config, Vec<Mistake>> {
    load_with(dir, Missing::Allowed)
}

/// Reads `[keys]` of a file that has the form of proxy.toml; paths in it are relative to its folder.
///
/// # Errors
/// Every mistake of the file.
pub fn load_keys(file: &Path) -> Result<KeySettings, Vec<Mistake>> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let document = Document::read(dir, &file.file_name().unwrap_or_default().to_string_lossy(), false);
    let keys = proxy::read(&document, dir, Missing::Allowed).keys;
    let mistakes = document.into_mistakes();
    if mistakes.iter().any(|mistake| mistake.weight == Weight::Mistake) { Err(mistakes) } else { Ok(keys) }
}

/// What the privacy officer's and the DBA's files say together: all that decides who may see what.
pub struct PolicyFiles {
    pub policy: Policy,
    pub tags: Tags,
    /// Of `policy.rules[i]`.
    pub rules: Vec<Place>,
}

/// Reads policy.toml and tags.toml, and nothing else of the folder.
///
/// # Errors
/// Every mistake of both, in their order.
pub fn load_policy(dir: &Path) -> Result<PolicyFiles, Vec<Mistake>> {
    let [policy, tags] = [POLICY, TAGS].map(|name| Document::read(dir, name, false));
    let rules = policy::read(&policy);
    let columns = tags::read(&tags, &rules.domains);
    let places = rules.places.iter().map(|span| place(&policy, span.start)).collect();
    let mistakes: Vec<Mistake> = [policy, tags].into_iter().flat_map(Document::into_mistakes).collect();
    if mistakes.iter().any(|mistake| mistake.weight == Weight::Mistake) {
        return Err(mistakes);
    }
    let domains = rules.policy.domains.clone();
    Ok(PolicyFiles {
        policy: rules.policy,
        tags: Tags {
            tags: columns.tags,
            record_keys: columns.record_keys,
            domains,
            refuse_unsealed: rules.refuse_unsealed,
        },
        rules: places,
    })
}

/// What the absence of a file that `init` makes is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Mistake,
    Allowed,
}

fn load_with(dir: &Path, missing: Missing) -> Result<Config, Vec<Mistake>> {
    let [proxy, tags, policy] = [PROXY, TAGS, POLICY].map(|name| Document::read(dir, name, false));
    let users = Document::read(dir, USERS, true);
    let digest = digest(&[&proxy, &tags, &policy, &users]);
    let mut files: Vec<(String, String)> = [&proxy, &tags, &policy, &users]
        .into_iter()
        .filter(|document| !document.text.is_empty())
        .filter_map(|document| named_digest(&document.path, document.text.as_bytes()))
        .collect();

    let read = proxy::read(&proxy, dir, missing);
    let rules = policy::read(&policy);
    let columns = tags::read(&tags, &rules.domains);
    policy::note_idle_domains(&policy, &rules, &columns);
    policy::note_contradictions(&policy, &rules);
    let known = users::read(&users);
    let service_user = read.settings.as_ref().map(|settings| settings.database.service_user.as_str());
    let log_ins = proxy::resolve(&proxy, &read.methods, &read.certificates, &rules.policy, service_user);

    let places = Places {
        database: place(&proxy, read.database_span.start),
        keys: place(&proxy, read.keys_span.start),
        tags: columns.places.iter().map(|span| place(&tags, span.start)).collect(),
        record_keys: columns.key_places.iter().map(|span| place(&tags, span.start)).collect(),
        rules: rules.places.iter().map(|span| place(&policy, span.start)).collect(),
        domains: rules.domains.values().map(|(_, span)| place(&policy, span.start)).collect(),
    };
    let domains = rules.policy.domains.clone();
    let mut remarks = Vec::new();
    for document in [proxy, tags, policy, users] {
        remarks.extend(document.into_mistakes());
    }
    remarks.sort_by(|one, other| one.file.cmp(&other.file).then(one.line.cmp(&other.line)));
    match read.settings {
        Some(mut settings) if remarks.iter().all(|remark| remark.weight != Weight::Mistake) => Ok(Config {
            files: {
                let keyring = std::fs::read(&read.keys.path).ok();
                files.extend(keyring.and_then(|bytes| named_digest(&read.keys.path, &bytes)));
                files
            },
            dir: dir.to_owned(),
            settings: {
                settings.log_ins = Arc::new(log_ins);
                settings
            },
            keys: read.keys,
            policy: rules.policy,
            tags: Tags {
                tags: columns.tags,
                record_keys: columns.record_keys,
                domains,
                refuse_unsealed: rules.refuse_unsealed,
            },
            users: known.verifiers,
            factors: known.factors,
            credentials: known.credentials,
            places,
            remarks,
            digest,
        }),
        _ => Err(remarks),
    }
}

fn place(document: &Document, offset: usize) -> Place {
    Place { file: document.path.clone(), line: document.line(offset) }
}

fn named_digest(path: &Path, bytes: &[u8]) -> Option<(String, String)> {
    let name = path.file_name()?.to_string_lossy().into_owned();
    Some((name, faster_hex::hex_string(Sha256::digest(bytes).as_slice())))
}

/// Lengths go in too, so that moving a line from one file to the next is another configuration.
fn digest(documents: &[&Document]) -> String {
    let mut hash = Sha256::new();
    for document in documents {
        hash.update((document.text.len() as u64).to_be_bytes());
        hash.update(document.text.as_bytes());
    }
    faster_hex::hex_string(hash.finalize().as_slice())
}
