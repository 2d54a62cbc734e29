//! Plans that were made once, for all connections: keyed by text, rights and generations, bounded.
//!
//! A hit is one hash and one look-up. The key is a SipHash of 128 bits, under a key that each process draws for itself, of everything
//! that the plan depends on: nobody outside can look for two texts that share one, and by chance two of 2⁴⁰ statements do with
//! a probability below 2⁻⁴⁸. The text itself is compared with nothing and kept nowhere, for a cached plan keeps no literal.
//! A change of policy, catalog or keys changes the generation, and so the key: old plans are never found again, and go when room
//! is made. Several connections that miss one text at one time plan it once. What changes with the moment (hours, an expired
//! second factor) is judged again at each Execute.

use super::{Planned, Script, Session};
use crate::catalog::Catalog;
use crate::policy::Policy;
use dashmap::DashMap;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// A text of so many bytes takes the room of one plan; longer ones take more.
const TEXT_BYTES: usize = 1024;

/// What one text may take of the whole cache: one in so many.
const SHARE: usize = 16;

/// Shared by all connections.
pub struct PlanCache {
    plans: DashMap<u128, Arc<Entry>, BuildHasherDefault<Spread>>,
    secret: [u8; 16],
    room: usize,
    /// The weights of all entries. For a moment it may be less or more.
    taken: AtomicUsize,
    sweeping: AtomicBool,
}

/// A plan, or the place of one that is being made.
struct Entry {
    script: OnceLock<Arc<Script>>,
    weight: usize,
    /// Since room was made the last time.
    used: AtomicBool,
}

impl Entry {
    fn touch(&self) {
        // Looked at first: writing would take the line away from the other cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl PlanCache {
    /// `entries_max` plans of ordinary length at most, fewer of longer ones; 0 caches nothing. `secret` is random.
    pub fn new(entries_max: usize, secret: [u8; 16]) -> PlanCache {
        PlanCache {
            plans: DashMap::default(),
            secret,
            room: entries_max,
            taken: AtomicUsize::new(0),
            sweeping: AtomicBool::new(false),
        }
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
        let make = || Arc::new(super::plan(text, declared, catalog, policy, session));
        let weight = 1 + text.len() / TEXT_BYTES;
        // What a name stands for is the session's own.
        if weight > self.room.div_ceil(SHARE) || !session.named.is_empty() && uses_names(text) {
            return (make(), false);
        }
        let key = self.key(text, declared, world, catalog, session);
        if let Some(entry) = self.plans.get(&key)
            && let Some(script) = entry.script.get()
        {
            entry.touch();
            return (script.clone(), true);
        }
        let entry = self.place(key, weight);
        let mut made = false;
        let script = entry.script.get_or_init(|| {
            made = true;
            make()
        });
        if made && !cacheable(script) {
            self.plans.remove_if(&key, |_, there| Arc::ptr_eq(there, &entry) && self.forget(there));
        }
        (script.clone(), !made)
    }

    /// The place of a plan. Whoever comes to one that is empty fills it, and others wait for that.
    fn place(&self, key: u128, weight: usize) -> Arc<Entry> {
        if self.taken.load(Ordering::Relaxed) + weight > self.room {
            self.make_room();
        }
        let new = || {
            self.taken.fetch_add(weight, Ordering::Relaxed);
            Arc::new(Entry { script: OnceLock::new(), weight, used: AtomicBool::new(false) })
        };
        self.plans.entry(key).or_insert_with(new).clone()
    }

    /// What nobody used since the last time goes; where that is too little, all of it. One sweep pays for many misses, and
    /// plans of an older generation go with the first that follows it by one.
    fn make_room(&self) {
        if self.sweeping.swap(true, Ordering::Acquire) {
            return;
        }
        self.plans.retain(|_, entry| entry.used.swap(false, Ordering::Relaxed) || !self.forget(entry));
        if self.taken.load(Ordering::Relaxed) > self.room / 4 * 3 {
            self.plans.retain(|_, entry| !self.forget(entry));
        }
        self.sweeping.store(false, Ordering::Release);
    }

    /// An entry leaves the map.
    fn forget(&self, entry: &Entry) -> bool {
        self.taken.fetch_sub(entry.weight, Ordering::Relaxed);
        true
    }

    pub fn len(&self) -> usize {
        self.plans.len()
    }
    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Every list is preceded by its length, and every text by its own, so that no two different inputs read alike.
    fn key(
        &self,
        text: &str,
        declared: &[u32],
        world: u64,
        catalog: &Catalog,
        session: &Session<'_>,
    ) -> u128 {
        let Session { principal, circumstances, search_path, named: _ } = session;
        let mut parts = Parts::new(&self.secret);
        parts.number(world);
        parts.number(catalog.generation);
        parts.bytes(catalog.database.as_bytes());
        parts.bytes(principal.user().as_bytes());
        parts.length(principal.database_roles().len());
        principal.database_roles().iter().for_each(|role| parts.bytes(role.as_bytes()));
        parts.length(search_path.len());
        search_path.iter().for_each(|schema| parts.bytes(schema.as_bytes()));
        parts.length(usize::from(circumstances.purpose.is_some()));
        parts.bytes(circumstances.purpose.as_deref().unwrap_or_default().as_bytes());
        parts.length(usize::from(circumstances.second_factor_at.is_some()));
        parts.length(usize::from(circumstances.glass_broken_at.is_some()));
        match circumstances.address {
            None => parts.bytes(&[]),
            Some(IpAddr::V4(address)) => parts.bytes(&address.octets()),
            Some(IpAddr::V6(address)) => parts.bytes(&address.octets()),
        }
        parts.length(declared.len());
        declared.iter().for_each(|oid| parts.number(u64::from(*oid)));
        parts.bytes(text.as_bytes());
        parts.hash()
    }
}

/// What goes into a key. Short pieces are gathered: the hash takes long ones faster.
struct Parts {
    hash: SipHasher13,
    gathered: [u8; 256],
    used: usize,
}

impl Parts {
    fn new(secret: &[u8; 16]) -> Parts {
        Parts { hash: SipHasher13::new_with_key(secret), gathered: [0; 256], used: 0 }
    }

    fn append(&mut self, bytes: &[u8]) {
        if bytes.len() > self.gathered.len() - self.used {
            self.flush();
        }
        match self.gathered.get_mut(self.used..self.used + bytes.len()) {
            Some(free) => {
                free.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.hash.write(bytes),
        }
    }

    fn flush(&mut self) {
        self.hash.write(&self.gathered[..self.used]);
        self.used = 0;
    }

    fn number(&mut self, number: u64) {
        self.append(&number.to_le_bytes());
    }
    fn length(&mut self, length: usize) {
        self.number(length as u64);
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.append(bytes);
    }
    fn hash(mut self) -> u128 {
        self.flush();
        self.hash.finish128().as_u128()
    }
}

/// A key is spread evenly already.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

/// Refusals depend on the moment, a code of the second factor must not be kept, and a relation that is not there may be at any time.
fn cacheable(script: &Script) -> bool {
    script.statements.iter().all(|planned| match planned {
        Planned::Pass(pass) => !pass.unresolved,
        Planned::Plan(_) => true,
        Planned::Refuse(_) | Planned::Local(_) | Planned::Unresolved(_) => false,
    })
}

/// Whether a statement of `text` may be EXECUTE or FETCH.
fn uses_names(text: &str) -> bool {
    let found = |word: &[u8]| text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    found(b"execute") || found(b"fetch")
}
