//! How fast rows are filled: no faster than asked, and not while the database is behind with its own work.
//!
//! Guarantees: replicas that lag, and sessions that wait for a lock of ours, are given time. Deliberately absent: rows.

use super::{Failure, Progress};
use std::time::{Duration, Instant};
use tokio_postgres::Client;

/// Bytes that a replica may be behind.
const LAG_BYTES_MAX: i64 = 64 << 20;
/// How often the database is asked how it is.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(500);
/// A replica that stands still does not stop a conversion for ever.
const PAUSES_MAX: u32 = 120;

pub(super) struct Pace {
    /// Rows a second; `None`: as fast as it goes.
    rate: Option<u64>,
    began: Instant,
    rows: u64,
    looked: Option<Instant>,
}

impl Pace {
    pub(super) fn new(rate: Option<u64>) -> Pace {
        Pace { rate, began: Instant::now(), rows: 0, looked: None }
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
            let Some(why) = reason(client).await? else { break };
            report(Progress::Paused(why));
            tokio::time::sleep(PAUSE).await;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }
}

/// Why to wait.
async fn reason(client: &Client) -> Result<Option<&'static str>, Failure> {
    let query = "\
        SELECT coalesce((SELECT pg_catalog.max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), r.replay_lsn)) \
                         FROM pg_catalog.pg_stat_replication r), 0)::bigint, \
               EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE NOT l.granted \
                 AND pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(l.pid)))";
    let row = client.query_one(query, &[]).await?;
    let (lag, blocks): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    Ok(if lag > LAG_BYTES_MAX {
        Some("a replica lags behind")
    } else if blocks {
        Some("a session waits for a lock of ours")
    } else {
        None
    })
}
