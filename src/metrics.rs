//! Every counter, in one struct, with its help text.
//!
//! Guarantees: exactly the metrics of the contract, prefix `pgveil_`; label values come from closed lists or from the
//! configuration (labels, columns), never from what a client sent. Only this file names `prometheus`. Deliberately
//! absent: serving them (`server::admin`), and measuring: whoever does the work says how long it took.

use prometheus::core::Collector;
use prometheus::{GaugeVec, exponential_buckets};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The content type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Values of `kind`, sorted; what is not among them counts as `other`, so that no statement can add a time series.
pub const KINDS: &[&str] = &[
    "alter table",
    "begin",
    "call",
    "close",
    "commit",
    "copy",
    "create index",
    "create table",
    "create view",
    "deallocate",
    "declare",
    "delete",
    "discard",
    "drop",
    "execute",
    "explain",
    "fetch",
    "insert",
    "listen",
    "lock",
    "merge",
    "notify",
    "prepare",
    "release",
    "reset",
    "rollback",
    "savepoint",
    "select",
    "set",
    "show",
    "truncate",
    "unlisten",
    "update",
    "vacuum",
    "values",
];

/// Where a client's connection stands; values of `connections{state}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionState {
    /// Accepted, not yet ReadyForQuery.
    LoggingIn,
    /// Nothing is owed to the client.
    Idle,
    /// A reply is owed.
    Active,
}

impl ConnectionState {
    const ALL: [ConnectionState; 3] =
        [ConnectionState::LoggingIn, ConnectionState::Idle, ConnectionState::Active];

    fn name(self) -> &'static str {
        match self {
            ConnectionState::LoggingIn => "logging_in",
            ConnectionState::Idle => "idle",
            ConnectionState::Active => "active",
        }
    }
}

/// How a statement ended; values of `statements_total{outcome}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server ended it with success and the reply left.
    Succeeded,
    /// The server or we ended it with an error after it was sent.
    Failed,
    /// It was never sent.
    Refused,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
        }
    }
}

/// Values of `cell_seconds{operation}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellOperation {
    Seal,
    Open,
}

impl CellOperation {
    const ALL: [CellOperation; 2] = [CellOperation::Seal, CellOperation::Open];

    fn name(self) -> &'static str {
        match self {
            CellOperation::Seal => "seal",
            CellOperation::Open => "open",
        }
    }
}

/// Values of `bytes_total{direction}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    FromClient,
    ToClient,
    FromServer,
    ToServer,
}

impl Direction {
    const ALL: [Direction; 4] =
        [Direction::FromClient, Direction::ToClient, Direction::FromServer, Direction::ToServer];

    fn name(self) -> &'static str {
        match self {
            Direction::FromClient => "from_client",
            Direction::ToClient => "to_client",
            Direction::FromServer => "from_server",
            Direction::ToServer => "to_server",
        }
    }
}

/// All counters of one proxy. A clone counts into the same ones.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    /// In the order of [`ConnectionState::ALL`].
    connections: [IntGauge; 3],
    statements: IntCounterVec,
    /// Those of `statements` that were counted, by place in [`KINDS`] (after the last: `other`) and outcome: what every
    /// statement counts is not to be looked up by name.
    counted: Vec<[OnceLock<IntCounter>; 3]>,
    refusals: IntCounterVec,
    cells_sealed: IntCounterVec,
    cells_opened: IntCounterVec,
    rows_released: IntCounterVec,
    /// In the order of [`CellOperation::ALL`].
    cell_seconds: [Histogram; 2],
    statement_overhead_seconds: Histogram,
    comparisons: IntCounterVec,
    second_factors: IntCounterVec,
    glass_broken: IntCounter,
    plan_cache_hits: IntCounter,
    plan_cache_misses: IntCounter,
    plan_cache_entries: IntGauge,
    audit_records: IntCounter,
    audit_append_seconds: Histogram,
    audit_behind_records: IntGauge,
    behind: std::sync::Mutex<Behind>,
    /// In the order of [`Direction::ALL`].
    bytes: [IntCounter; 4],
    config_generation: IntGauge,
    config_last_reload_successful: IntGauge,
    key_provider_up: IntGauge,
    token_keys_up: IntGauge,
    sealed_ratio: GaugeVec,
}

/// Why building the fixed set below cannot fail.
const WELL_FORMED: &str = "the names, labels and buckets in this file are well formed and distinct";

/// Makes metrics of the prefix and registers each, so that none is forgotten.
struct Maker(Registry);

impl Maker {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> M {
        self.0.register(Box::new(metric.clone())).expect(WELL_FORMED);
        metric
    }
    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Opts::new(name, help)).expect(WELL_FORMED))
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }
    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Opts::new(name, help)).expect(WELL_FORMED))
    }
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels).expect(WELL_FORMED))
    }
    /// `count` buckets that begin at `first` seconds, each `factor` times the one before.
    fn seconds(&self, name: &str, help: &str, first: f64, factor: f64, count: usize) -> HistogramOpts {
        let buckets = exponential_buckets(first, factor, count).expect(WELL_FORMED);
        HistogramOpts::new(name, help).buckets(buckets)
    }
    fn histogram(&self, options: HistogramOpts) -> Histogram {
        self.register(Histogram::with_opts(options).expect(WELL_FORMED))
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// What the audit log's gauge is made of.
#[derive(Default)]
struct Behind {
    writer: u64,
    sinks: Vec<u64>,
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Metrics {
        let registry = Registry::new_custom(Some("pgveil".to_owned()), None).expect(WELL_FORMED);
        let m = Maker(registry.clone());
        let build = m.gauges("build_info", "Always 1; the label says which version runs.", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Metrics(Arc::new(Inner {
            connections: {
                let gauges = m.gauges("connections", "Client connections now, by state.", &["state"]);
                ConnectionState::ALL.map(|state| gauges.with_label_values(&[state.name()]))
            },
            counted: std::iter::repeat_with(Default::default).take(KINDS.len() + 1).collect(),
            statements: m.counters(
                "statements_total",
                "Statements that clients sent, by kind and how they ended.",
                &["kind", "outcome"],
            ),
            refusals: m.counters("refusals_total", "Statements refused, by reason.", &["reason"]),
            cells_sealed: m.counters("cells_sealed_total", "Cells sealed on their way in.", &["label"]),
            cells_opened: m.counters(
                "cells_opened_total",
                "Cells opened on their way out, by the form in which they were shown.",
                &["label", "disclosure"],
            ),
            rows_released: m.counters(
                "rows_released_total",
                "Rows that reached a client and disclosed at least one cell of the label.",
                &["label"],
            ),
            cell_seconds: {
                let options = m.seconds(
                    "cell_seconds",
                    "Time to seal or open one cell, from wire to wire: the mean of the batch it was in, in seconds.",
                    25e-9,
                    2.0,
                    14,
                );
                let histograms = HistogramVec::new(options, &["operation"]).expect(WELL_FORMED);
                let histograms = m.register(histograms);
                CellOperation::ALL.map(|operation| histograms.with_label_values(&[operation.name()]))
            },
            statement_overhead_seconds: m.histogram(m.seconds(
                "statement_overhead_seconds",
                "Time that pgveil worked on a statement, without waiting for peers or the audit log, in seconds.",
                5e-6,
                2.0,
                16,
            )),
            comparisons: m.counters(
                "comparisons_total",
                "Values that a statement compared with a column its user may not read in clear.",
                &["label"],
            ),
            second_factors: m.counters(
                "second_factors_total",
                "One-time codes that were tried, by what came of it.",
                &["outcome"],
            ),
            glass_broken: m.counter(
                "break_glass_total",
                "How often someone broke the glass, which lets rules for emergencies hold in a session.",
            ),
            plan_cache_hits: m.counter("plan_cache_hits_total", "Statements whose plan was in the cache."),
            plan_cache_misses: m.counter("plan_cache_misses_total", "Statements that had to be planned."),
            plan_cache_entries: m.gauge("plan_cache_entries", "Plans in the cache now."),
            audit_records: m.counter("audit_records_total", "Records that are on disk in the audit log."),
            audit_append_seconds: m.histogram(m.seconds(
                "audit_append_seconds",
                "Time to bring one group of records to disk, in seconds.",
                50e-6,
                2.0,
                16,
            )),
            audit_behind_records: m.gauge(
                "audit_behind_records",
                "Records that wait to reach the disk, or the sink that is furthest behind.",
            ),
            behind: std::sync::Mutex::default(),
            bytes: {
                let help = "Bytes relayed, by where they came from or went.";
                let counters = m.counters("bytes_total", help, &["direction"]);
                Direction::ALL.map(|direction| counters.with_label_values(&[direction.name()]))
            },
            config_generation: m
                .gauge("config_generation", "How many configurations have held since the start."),
            config_last_reload_successful: m.gauge(
                "config_last_reload_successful",
                "1 when the configuration was last read without a mistake, 0 when an older one holds on.",
            ),
            key_provider_up: m.gauge(
                "key_provider_up",
                "1 when a proxy that starts now would get its keys, 0 when this one lives on those in its memory.",
            ),
            token_keys_up: m.gauge(
                "token_keys_up",
                "1 when the token provider's keys could last be read, 0 when those that are known hold on, or there are none.",
            ),
            sealed_ratio: m.register(
                GaugeVec::new(
                    Opts::new(
                        "sealed_ratio",
                        "1 when a column that is to be sealed is, 0 when it is clear, between them while it is converted.",
                    ),
                    &["column"],
                )
                .expect(WELL_FORMED),
            ),
            registry,
        }))
    }

    /// Counts a connection in `state` for as long as the result lives.
    pub fn connection(&self, state: ConnectionState) -> Connection {
        self.0.connections[state as usize].inc();
        Connection { metrics: self.clone(), state }
    }
    /// Connections in `state` now.
    pub fn connections(&self, state: ConnectionState) -> i64 {
        self.0.connections[state as usize].get()
    }
    /// A statement ended. `kind` as in `StatementPlan::kind`; outside [`KINDS`] it counts as `other`.
    pub fn statement(&self, kind: &str, outcome: Outcome) {
        let place = KINDS.binary_search(&kind).unwrap_or(KINDS.len());
        let counter = &self.0.counted[place][outcome as usize];
        let named = || {
            let kind = KINDS.get(place).copied().unwrap_or("other");
            self.0.statements.with_label_values(&[kind, outcome.name()])
        };
        counter.get_or_init(named).inc();
    }
    /// A statement was refused; `reason` is `plan::refusal::Reason::name`.
    pub fn refused(&self, reason: &'static str) {
        self.0.refusals.with_label_values(&[reason]).inc();
    }
    /// `cells` of `label` (a domain's, from policy) were sealed.
    pub fn cells_sealed(&self, label: &str, cells: u64) {
        self.0.cells_sealed.with_label_values(&[label]).inc_by(cells);
    }
    /// `cells` of `label` were opened and shown as `disclosure` (`policy::Disclosure::name`).
    pub fn cells_opened(&self, label: &str, disclosure: &'static str, cells: u64) {
        self.0.cells_opened.with_label_values(&[label, disclosure]).inc_by(cells);
    }
    /// `rows` that disclosed a cell of `label` reached the client.
    pub fn rows_released(&self, label: &str, rows: u64) {
        self.0.rows_released.with_label_values(&[label]).inc_by(rows);
    }
    /// Does `work` on a batch and observes what each of its cells took; `cells` tells from the result how many they were.
    pub fn timed_cells<R>(
        &self,
        operation: CellOperation,
        work: impl FnOnce() -> R,
        cells: impl FnOnce(&R) -> u64,
    ) -> R {
        let began = Instant::now();
        let result = work();
        let elapsed = began.elapsed();
        self.cells_took(operation, cells(&result), elapsed);
        result
    }

    /// A batch of `cells` took `elapsed`. Nothing is observed for an empty batch.
    pub fn cells_took(&self, operation: CellOperation, cells: u64, elapsed: Duration) {
        if cells > 0 {
            let mean = elapsed.as_secs_f64() / cells as f64;
            self.0.cell_seconds[operation as usize].observe(mean);
        }
    }

    /// What we worked on one statement: not the database's time, nor the log's, which `audit_append_seconds` tells.
    pub fn statement_overhead(&self, overhead: Duration) {
        self.0.statement_overhead_seconds.observe(overhead.as_secs_f64());
    }
    /// `values` were compared with a column of `label` under an oracle ruling.
    pub fn comparisons(&self, label: &str, values: u64) {
        self.0.comparisons.with_label_values(&[label]).inc_by(values);
    }
    /// A one-time code was tried; `outcome` is `relay::Tried::name`.
    pub fn second_factor(&self, outcome: &'static str) {
        self.0.second_factors.with_label_values(&[outcome]).inc();
    }
    /// Someone gave a reason for breaking the glass.
    pub fn glass_broken(&self) {
        self.0.glass_broken.inc();
    }
    /// A plan was found in the cache, or was not.
    pub fn plan_looked_up(&self, found: bool) {
        if found { &self.0.plan_cache_hits } else { &self.0.plan_cache_misses }.inc();
    }
    /// Plans in the cache now.
    pub fn plan_cache_entries(&self, entries: usize) {
        self.0.plan_cache_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
    }
    /// A group of `records` reached the disk after `took`.
    pub fn audit_appended(&self, records: u64, took: Duration) {
        self.0.audit_records.inc_by(records);
        self.0.audit_append_seconds.observe(took.as_secs_f64());
    }
    /// Records that wait to reach the disk now.
    pub fn audit_behind(&self, records: u64) {
        self.behind(|behind| behind.writer = records);
    }
    /// Lines of the log that the sink with this number has not accepted.
    pub fn audit_sink_behind(&self, sink: usize, lines: u64) {
        self.behind(|behind| {
            if behind.sinks.len() <= sink {
                behind.sinks.resize(sink + 1, 0);
            }
            behind.sinks[sink] = lines;
        });
    }
    /// What waits for the disk, and what the sink that is furthest behind lacks.
    fn behind(&self, change: impl FnOnce(&mut Behind)) {
        let mut behind = self.0.behind.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut behind);
        let records = behind.writer.saturating_add(behind.sinks.iter().copied().max().unwrap_or(0));
        self.0.audit_behind_records.set(i64::try_from(records).unwrap_or(i64::MAX));
    }
    /// `count` bytes of the protocol (before TLS) went `direction`.
    pub fn bytes(&self, direction: Direction, count: u64) {
        self.0.bytes[direction as usize].inc_by(count);
    }
    /// The generation of the configuration that holds now; the first is 1.
    pub fn config_generation(&self, generation: u64) {
        self.0.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
    }
    /// Whether the configuration that was read last (at the start or a reload) holds.
    pub fn config_read(&self, holds: bool) {
        self.0.config_last_reload_successful.set(i64::from(holds));
    }
    /// Whether the keys could be had again, when it was last looked.
    pub fn key_provider(&self, is_up: bool) {
        self.0.key_provider_up.set(i64::from(is_up));
    }
    /// Whether the token provider's keys could last be read, where there is one.
    pub fn token_keys(&self, is_up: bool) {
        self.0.token_keys_up.set(i64::from(is_up));
    }
    /// The columns to be sealed (`schema.table.column`) and how far each is, 0 to 1; forgets all others.
    pub fn sealed_ratios<'a>(&self, columns: impl IntoIterator<Item = (&'a str, f64)>) {
        self.0.sealed_ratio.reset();
        for (column, ratio) in columns {
            self.0.sealed_ratio.with_label_values(&[column]).set(ratio);
        }
    }
    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.0.registry.gather())
            .expect("every family here has samples, and writing to a String cannot fail")
    }
}

/// One connection's place in `connections{state}`; leaves it when dropped, however the connection ends.
pub struct Connection {
    metrics: Metrics,
    state: ConnectionState,
}

impl Metrics {
    /// Connections to which a reply is owed.
    pub fn active_connections(&self) -> i64 {
        self.0.connections[ConnectionState::Active as usize].get()
    }
}

impl Connection {
    /// Moves the connection to `state`.
    pub fn enter(&mut self, state: ConnectionState) {
        if state != self.state {
            let connections = &self.metrics.0.connections;
            connections[self.state as usize].dec();
            connections[state as usize].inc();
            self.state = state;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.0.connections[self.state as usize].dec();
    }
}
