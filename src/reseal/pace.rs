//! How fast rows are filled: no faster than asked, and not while the database is behind with its own work.
//!
//! Guarantees: replicas that lag, sessions that wait for a lock of ours, and a server with much to do are given time. Deliberately absent: rows.

use super::run::Options;
use super::{Failure, Progress};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Bytes that a replica may be behind.
const LAG_BYTES_MAX: i64 = 64 << 20;
/// How often the database is asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(500);
/// A replica that stands still does not stop a conversion for ever, nor does a server that never rests.
const PAUSES_MAX: u32 = 120;

pub(super) struct Pace {
    /// Rows a second; `None`: as fast as it goes.
    rate: Option<u64>,
    /// Other sessions at work.
    active_max: u32,
    began: Instant,
    rows: u64,
    looked: Option<Instant>,
}

impl Pace {
    pub(super) fn new(options: &Options) -> Pace {
        let Options { rate, active_max, .. } = *options;
        Pace { rate, active_max, began: Instant::now(), rows: 0, looked: None }
    }

    /// Whether we are shown what others do, and how far replicas are: to most roles the statistics say nothing of it.
    pub(super) async fn sees(client: &Client) -> Result<bool, Failure> {
        let query = "SELECT pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')";
        Ok(client.query_one(query, &[]).await?.try_get(0)?)
    }

    /// Waits, after a batch of so many rows, as long as is due.
    pub(super) async fn after(
        &mut self,
        client: &Client,
        rows: usize,
        report: &mut dyn FnMut(Progress),
    ) -> Result<(), Failure> {
        self.rows += rows as u64;
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.rows as f64 / rate.max(1) as f64);
            tokio::time::sleep(due.saturating_sub(self.began.elapsed())).await;
        }
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        for _ in 0..PAUSES_MAX {
            let Some(why) = reason(client, self.active_max).await? else { break };
            report(Progress::Paused(why));
            tokio::time::sleep(PAUSE).await;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }
}

/// Why to wait. A session is at work while the server runs its statement: not while it waits for its client, sleeps, or does nothing.
async fn reason(client: &Client, active_max: u32) -> Result<Option<&'static str>, Failure> {
    let query = "\
        SELECT coalesce((SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), \
                           coalesce(r.replay_lsn, s.confirmed_flush_lsn, s.restart_lsn))) \
                         FROM pg_catalog.pg_stat_replication r \
                         LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid), 0)::bigint, \
               EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE NOT l.granted \
                 AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(l.pid))), \
               (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a \
                 WHERE a.backend_type = 'client backend' AND a.state = 'active' AND a.pid <> pg_catalog.pg_backend_pid() \
                   AND (a.wait_event_type IS NULL OR a.wait_event_type NOT IN ('Client', 'Timeout', 'Activity')))";
    let row = client.query_one(query, &[]).await?;
    let (lag, blocks, active): (i64, bool, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(if lag > LAG_BYTES_MAX {
        Some("a replica lags behind")
    } else if blocks {
        Some("a session waits for a lock of ours")
    } else if active > i64::from(active_max) {
        Some("more sessions are at work than --max-active says")
    } else {
        None
    })
}
