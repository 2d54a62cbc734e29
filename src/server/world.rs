//! The world of each database: catalog, policy, tags and keys of one generation, swapped whole.
//!
//! A database's catalog is read by the service user at the first log-in to it, again when its signature changes (polled
//! each second while connections are open), when a statement asks for it, and when the configuration changes. Requests
//! that wait for one reading share it. Guarantees: a world is immutable; a database to which tags could apply has none
//! until its catalog was read; whoever logs in finds one that was compared with the database in the last seconds; once a
//! new configuration holds, no world is made from an older one. Deliberately absent: deciding what tags mean (`catalog`).

use super::Prepared;
use super::fence::{Fence, Passage};
use super::pump::unix_micros;
use super::service::{self, ServiceError};
use crate::audit::{AuditRecord, Event};
use crate::catalog::build::{SCHEMA, build};
use crate::catalog::queries::RawCatalog;
use crate::catalog::{Catalog, Seal, State, Tags};
use crate::policy::Memberships;
use crate::relay::World;
use arc_swap::{ArcSwap, ArcSwapOption};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::Client;

/// Longest wait for the database's answer about its catalog: a connection that hangs is given up and made anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A comparison with the database that is younger need not be repeated at log-in: twice the time between polls.
const CURRENT_FOR: Duration = Duration::from_secs(2);
/// How long statements are held while those before them come to their end, for a conversion's sake. It will ask again.
const DRAINED_WITHIN: Duration = Duration::from_secs(2);
/// Longest wait of a statement before the fence.
const HELD_FOR: Duration = Duration::from_secs(30);

/// Who is told of a column that is stored otherwise than before.
pub type Tell = Arc<dyn Fn(AuditRecord) + Send + Sync>;

/// All databases that someone logged in to.
pub struct Worlds {
    tell: Tell,
    prepared: Arc<ArcSwap<Prepared>>,
    databases: Mutex<HashMap<String, Arc<Database>>>,
    generation: Arc<AtomicU64>,
    memberships: Arc<ArcSwapOption<Memberships>>,
}

/// One database's world, and the means to read it anew.
pub struct Database {
    name: String,
    /// The configuration that holds, as [`Worlds`] has it.
    prepared: Arc<ArcSwap<Prepared>>,
    current: watch::Sender<Arc<World>>,
    fence: Arc<Fence>,
    reading: tokio::sync::Mutex<Reading>,
    /// Requests for a reading so far.
    asked: AtomicU64,
    connections: AtomicUsize,
    /// Somebody connected since the last poll.
    came: AtomicBool,
    generation: Arc<AtomicU64>,
    /// As [`Worlds`] has them.
    memberships: Arc<ArcSwapOption<Memberships>>,
    tell: Tell,
    /// (columns, share of rows) of the conversion that is under way, as last polled.
    converting: Mutex<Vec<(String, f64)>>,
}

#[derive(Default)]
struct Reading {
    /// Holds the fence's lock; and its number there.
    client: Option<Client>,
    number: u64,
    raw: Option<RawCatalog>,
    signature: String,
    /// When the signature was last compared with the database's.
    compared: Option<Instant>,
    /// The requests that the last reading served.
    served: u64,
}

/// Counts a connection to a database, which keeps its catalog polled.
pub struct Attached(Arc<Database>);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Worlds {
    pub fn new(prepared: Arc<Prepared>, tell: Tell) -> Worlds {
        Worlds {
            tell,
            prepared: Arc::new(ArcSwap::new(prepared)),
            databases: Mutex::default(),
            generation: Arc::new(AtomicU64::new(1)),
            memberships: Arc::default(),
        }
    }

    /// What the configuration says now.
    pub fn prepared(&self) -> Arc<Prepared> {
        self.prepared.load_full()
    }

    /// The world of a database, read now unless it is known to be current.
    ///
    /// # Errors
    /// The service user cannot read the catalog, though tags could apply there.
    pub async fn open(&self, name: &str) -> Result<(Arc<Database>, Attached), ServiceError> {
        let database = self.database(name);
        database.connections.fetch_add(1, Ordering::SeqCst);
        database.came.store(true, Ordering::SeqCst);
        let attached = Attached(database.clone());
        let mut reading = database.reading.lock().await;
        if reading.compared.is_none_or(|at| at.elapsed() > CURRENT_FOR) {
            database.compare(&mut reading).await?;
        }
        drop(reading);
        Ok((database, attached))
    }

    /// Lets a new configuration hold: every database's world is made anew from the catalog as last read.
    pub async fn replace(&self, prepared: Arc<Prepared>) {
        self.prepared.store(prepared);
        for database in self.all() {
            if let Err(error) = database.read(false).await {
                tracing::error!(database = database.name, %error, "the catalog could not be read for the new configuration");
            }
        }
    }

    /// A database that is looked at whether anybody ever connects to it or not.
    pub fn know(&self, name: &str) {
        drop(self.database(name));
    }

    fn database(&self, name: &str) -> Arc<Database> {
        let mut databases = self.databases.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Database::new(name, self));
        databases.entry(name.to_owned()).or_insert_with(make).clone()
    }

    /// Reads again what changed, with `idle` also where nobody is connected; the first failure of any database that has connections.
    /// One that somebody used since the last poll has them still: who connects for each query would else find everything unread.
    pub async fn poll(&self, idle: bool) -> Result<(), ServiceError> {
        let mut result = Ok(());
        for database in self.all() {
            let mut reading = database.reading.lock().await;
            let came = database.came.swap(false, Ordering::SeqCst);
            if came || database.connections.load(Ordering::SeqCst) > 0 {
                result = result.and(database.compare(&mut reading).await);
                continue;
            }
            if idle && let Err(error) = database.compare(&mut reading).await {
                // It may be there no more.
                tracing::debug!(database = database.name, %error, "the catalog could not be read");
            }
            database.leave(&mut reading);
        }
        result
    }

    /// What the database says of its users' roles holds from now on, for those too that are connected.
    pub async fn follow(&self, memberships: Memberships) {
        if self.memberships.load().as_deref() == Some(&memberships) {
            return;
        }
        self.memberships.store(Some(Arc::new(memberships)));
        for database in self.all() {
            let mut reading = database.reading.lock().await;
            database.publish(&mut reading);
        }
    }

    fn all(&self) -> Vec<Arc<Database>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// (`schema.table.column`, 1 when sealed) of every column that its tag would have sealed, of every database; one that
    /// is to stay in clear has nothing to tell, and one that is being sealed tells how far it is.
    pub fn sealed_ratios(&self) -> Vec<(String, f64)> {
        let mut ratios: HashMap<String, f64> = HashMap::new();
        for database in self.all() {
            let world = database.world();
            let relations = world.catalog.relations.values();
            for relation in relations.filter(|relation| relation.schema != SCHEMA) {
                for column in &relation.columns {
                    let Some(tag) = column.tag.as_ref().filter(|tag| tag.domain.seal != Seal::None) else {
                        continue;
                    };
                    let name = format!("{}.{}.{}", relation.schema, relation.name, column.name);
                    let sealed = match tag.state {
                        State::Sealed { .. } => 1.0,
                        State::Clear | State::Broken(_) => database.progress_of(&name),
                    };
                    let least = ratios.entry(name).or_insert(sealed);
                    *least = least.min(sealed);
                }
            }
        }
        ratios.into_iter().collect()
    }
}

/// Whether any tag could apply to a database of this name.
fn could_be_tagged(tags: &Tags, database: &str) -> bool {
    tags.tags.iter().any(|tag| tag.database.as_deref().is_none_or(|only| only == database))
}

impl Database {
    fn new(name: &str, worlds: &Worlds) -> Database {
        let prepared = worlds.prepared.clone();
        let catalog = Catalog { database: name.to_owned(), ..Catalog::default() };
        Database {
            name: name.to_owned(),
            current: watch::Sender::new(Arc::new(world_of(0, catalog, &prepared.load(), None))),
            prepared,
            fence: Arc::default(),
            reading: tokio::sync::Mutex::default(),
            asked: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            came: AtomicBool::new(false),
            generation: worlds.generation.clone(),
            memberships: worlds.memberships.clone(),
            tell: worlds.tell.clone(),
            converting: Mutex::default(),
        }
    }

    pub fn world(&self) -> Arc<World> {
        self.current.borrow().clone()
    }

    /// Told of every new world.
    pub fn watch(&self) -> watch::Receiver<Arc<World>> {
        self.current.subscribe()
    }

    /// A connection's way through the fence.
    pub fn passage(&self) -> Passage {
        self.fence.passage()
    }

    /// Reads the catalog again for a statement that needs it, once the fence is down. The world now: the old one when that
    /// failed.
    pub async fn refresh(&self) -> Arc<World> {
        self.fence.lowered(HELD_FOR).await;
        if let Err(error) = self.read(true).await {
            tracing::warn!(database = self.name, %error, "the catalog could not be read again");
        }
        self.world()
    }

    /// Makes a new world. `fresh`: from the catalog as it is after this call began; otherwise as it was last read.
    async fn read(&self, fresh: bool) -> Result<(), ServiceError> {
        let mine = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let mut reading = self.reading.lock().await;
        if fresh && reading.served >= mine {
            return Ok(());
        }
        let serves = self.asked.load(Ordering::SeqCst);
        if could_be_tagged(&self.prepared.load().tags, &self.name) && (fresh || reading.raw.is_none()) {
            self.load(&mut reading).await?;
        }
        reading.served = serves;
        self.publish(&mut reading);
        Ok(())
    }

    /// Nobody is connected: conversions need not wait for this proxy, which looks again when somebody comes.
    fn leave(&self, reading: &mut Reading) {
        if reading.client.take().is_some() {
            self.fence.raise();
            reading.compared = None;
        }
    }

    /// How far a column's conversion is.
    fn progress_of(&self, column: &str) -> f64 {
        let converting = self.converting.lock().unwrap_or_else(PoisonError::into_inner);
        converting.iter().find(|(name, _)| name == column).map_or(0.0, |(_, ratio)| *ratio)
    }

    /// Looks how far a conversion is, where there ever was one. What cannot be read is no progress.
    async fn look_at_conversion(&self, reading: &Reading) {
        let known = self.world().catalog.find_in(SCHEMA, service::CONVERSIONS).is_some();
        let client = reading.client.as_ref().filter(|_| known);
        let progress = match client {
            Some(client) => {
                service::in_time(ANSWER_TIMEOUT, service::progress(client)).await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        *self.converting.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Makes a new world when the catalog is no longer as it was last read, or never was read; stands aside for who waits to
    /// change it.
    async fn compare(&self, reading: &mut Reading) -> Result<(), ServiceError> {
        let unread = self.world().generation == 0;
        if !could_be_tagged(&self.prepared.load().tags, &self.name) {
            if unread {
                self.publish(reading);
            }
        } else {
            match seen(reading).await {
                Some(seen) if reading.raw.is_some() && !seen.changed && !seen.awaited => {}
                Some(seen) if seen.awaited => self.stand_aside(reading).await?,
                _ => {
                    self.load(reading).await?;
                    self.publish(reading);
                }
            }
        }
        self.look_at_conversion(reading).await;
        reading.compared = Some(Instant::now());
        Ok(())
    }

    /// Lets a conversion have the lock, once no statement is under way that it would change; then sees what it did.
    async fn stand_aside(&self, reading: &mut Reading) -> Result<(), ServiceError> {
        self.fence.raise();
        if self.fence.drained(DRAINED_WITHIN).await
            && let Some(client) = reading.client.take()
        {
            service::in_time(ANSWER_TIMEOUT, service::unlock_fence(&client)).await?;
            service::in_time(ANSWER_TIMEOUT, service::lock_fence(&client)).await?;
            reading.client = Some(client);
        }
        self.load(reading).await?;
        self.publish(reading);
        Ok(())
    }

    /// The configuration is looked up here, under the lock on the reading: a world of an older one cannot come after.
    fn publish(&self, reading: &mut Reading) {
        let prepared = self.prepared.load_full();
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let taggable = could_be_tagged(&prepared.tags, &self.name);
        if !taggable {
            (reading.raw, reading.client) = (None, None);
        }
        let catalog = match &reading.raw {
            Some(raw) => {
                build(raw.clone(), &prepared.tags, &self.name, generation, Some(&self.world().catalog))
            }
            None => Catalog { generation, database: self.name.clone(), ..Catalog::default() },
        };
        let memberships = self.memberships.load_full().filter(|_| prepared.policy.trust_database_roles);
        let world = world_of(generation, catalog, &prepared, memberships);
        let before = self.current.send_replace(Arc::new(world));
        if before.generation != 0 {
            self.tell_changes(&before.catalog, &self.world().catalog);
        }
        if !taggable {
            self.fence.not_needed();
        } else if let Some(client) = reading.client.as_ref().filter(|client| !client.is_closed()) {
            self.fence.lower(reading.number);
            // It may have ended before it was known to hold the lock.
            if client.is_closed() {
                self.fence.ended(reading.number);
            }
        }
    }

    /// Records which tagged columns are stored otherwise than before.
    fn tell_changes(&self, before: &Catalog, now: &Catalog) {
        let (before, now) = (before.storage(), now.storage());
        for column in before.keys().chain(now.keys().filter(|column| !before.contains_key(*column))) {
            let stored = |storage: &BTreeMap<String, String>| {
                storage.get(column).map_or_else(|| "absent".to_owned(), String::clone)
            };
            let (from, to) = (stored(&before), stored(&now));
            if from != to {
                let event = Event::ColumnChanged { column: column.clone(), from, to };
                let record = AuditRecord::of_the_proxy(unix_micros(), event);
                let connection =
                    record.connection.changed(|connection| connection.database = self.name.clone());
                (self.tell)(AuditRecord { connection, ..record });
            }
        }
    }

    /// One reading, over the kept connection or a new one. A connection that failed is not kept.
    async fn load(&self, reading: &mut Reading) -> Result<(), ServiceError> {
        let kept = reading.client.take().filter(|client| !client.is_closed());
        let prepared = self.prepared.load_full();
        let number = if kept.is_some() { reading.number } else { self.fence.number() };
        let read = async {
            let mut client = match kept {
                Some(client) => client,
                None => {
                    let fence = self.fence.clone();
                    let ended = move || fence.ended(number);
                    let client = service::watched(&prepared.settings.database, &self.name, ended).await?;
                    service::lock_fence(&client).await?;
                    client
                }
            };
            let signature = service::signature(&client).await?;
            let raw = service::read_catalog(&mut client).await?;
            Ok((signature, raw, client))
        };
        let (signature, raw, client) = service::in_time(ANSWER_TIMEOUT, read).await?;
        (reading.signature, reading.raw, reading.client) = (signature, Some(raw), Some(client));
        reading.number = number;
        Ok(())
    }
}

/// What the database says of its catalog.
struct Seen {
    /// It is no longer as it was last read.
    changed: bool,
    /// Someone waits for the fence's lock.
    awaited: bool,
}

/// `None` when it cannot be asked.
async fn seen(reading: &mut Reading) -> Option<Seen> {
    let client = reading.client.as_ref().filter(|client| !client.is_closed())?;
    let answers = async { tokio::try_join!(service::signature(client), service::is_fence_awaited(client)) };
    match service::in_time(ANSWER_TIMEOUT, answers).await {
        Ok((signature, awaited)) => Some(Seen { changed: signature != reading.signature, awaited }),
        Err(_) => {
            reading.client = None;
            None
        }
    }
}

fn world_of(
    generation: u64,
    catalog: Catalog,
    prepared: &Prepared,
    memberships: Option<Arc<Memberships>>,
) -> World {
    World {
        memberships,
        generation,
        catalog: Arc::new(catalog),
        policy: prepared.policy.clone(),
        ciphers: prepared.ciphers.clone(),
    }
}
