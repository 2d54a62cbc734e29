//! Plans that were made once, for all connections: keyed by text, rights and generations, bounded.
//!
//! The key holds a SHA-256 of everything that the plan depends on, never the text: a cached plan keeps no literal.
//! What changes with the moment (hours, an expired second factor) is judged again at each Execute.

use super::{Planned, Script, Session};
use crate::catalog::Catalog;
use crate::policy::Policy;
use dashmap::DashMap;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Key = [u8; 32];

/// Shared by all connections.
pub struct PlanCache {
    plans: DashMap<Key, Arc<Script>>,
    entries_max: usize,
    /// Entries may be more than the map's length for a moment; only the bound depends on it.
    entries: AtomicUsize,
}

impl PlanCache {
    /// `entries_max` plans at most; 0 caches nothing.
    pub fn new(entries_max: usize) -> PlanCache {
        PlanCache { plans: DashMap::new(), entries_max, entries: AtomicUsize::new(0) }
    }

    /// The plan of `text` for this session under this catalog and policy, made now if it is not there.
    /// The flag says whether it was there. `world` is the generation of catalog, policy and keys together.
    pub fn plan(
        &self,
        text: &str,
        declared: &[u32],
        world: u64,
        catalog: &Catalog,
        policy: &Policy,
        session: &Session<'_>,
    ) -> (Arc<Script>, bool) {
        // What a name stands for is the session's own.
        if !session.named.is_empty() && uses_names(text) {
            return (Arc::new(super::plan(text, declared, catalog, policy, session)), false);
        }
        let key = key(text, declared, world, catalog, session);
        if let Some(found) = self.plans.get(&key) {
            return (found.clone(), true);
        }
        let script = Arc::new(super::plan(text, declared, catalog, policy, session));
        if cacheable(&script) && self.entries_max > 0 {
            self.make_room();
            if self.plans.insert(key, script.clone()).is_none() {
                self.entries.fetch_add(1, Ordering::Relaxed);
            }
        }
        (script, false)
    }

    /// Plans of an older generation are never asked for again: when the cache is full, all of it goes.
    fn make_room(&self) {
        if self.entries.load(Ordering::Relaxed) >= self.entries_max {
            self.plans.clear();
            self.entries.store(0, Ordering::Relaxed);
        }
    }

    pub fn len(&self) -> usize {
        self.plans.len()
    }
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }
}

/// Refusals depend on the moment, and a code of the second factor must not be kept.
fn cacheable(script: &Script) -> bool {
    script.statements.iter().all(|planned| matches!(planned, Planned::Pass(_) | Planned::Plan(_)))
}

/// Whether a statement of `text` may be EXECUTE or FETCH.
fn uses_names(text: &str) -> bool {
    let found = |word: &[u8]| text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    found(b"execute") || found(b"fetch")
}

/// Every part is preceded by its length, so that no two different inputs read alike.
fn key(text: &str, declared: &[u32], world: u64, catalog: &Catalog, session: &Session<'_>) -> Key {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(text.as_bytes());
    part(catalog.database.as_bytes());
    part(&world.to_be_bytes());
    part(&catalog.generation.to_be_bytes());
    part(session.principal.user().as_bytes());
    for role in session.principal.database_roles() {
        part(role.as_bytes());
    }
    part(b"path");
    for schema in session.search_path {
        part(schema.as_bytes());
    }
    let declared: Vec<u8> = declared.iter().flat_map(|oid| oid.to_be_bytes()).collect();
    part(&declared);
    let circumstances = session.circumstances;
    part(circumstances.purpose.as_deref().unwrap_or("").as_bytes());
    part(&[u8::from(circumstances.second_factor_at.is_some())]);
    part(circumstances.address.map(|address| address.to_string()).unwrap_or_default().as_bytes());
    hash.finalize().into()
}
