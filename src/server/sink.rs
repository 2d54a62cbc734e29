//! Sends the log's records on: one task for each sink, which reads the log from where the sink is and keeps that place when the sink has
//! accepted.
//!
//! Guarantees: at least once, in order; a sink that is down is tried again, longer and longer apart, and holds nothing up but itself; what it is
//! behind shows in a metric. Deliberately absent: a limit to how far behind: the log's own retention is one.

mod http;
mod postgres;
mod syslog;

use super::listener::Shared;
use super::settings::{AuditSettings, DatabaseSettings, SinkKind, SinkSettings};
use crate::audit::follow::{Followed, Follower, Place};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// Records in one batch.
const BATCH_RECORDS: usize = 500;
/// Bytes of the log that are sent at once; of records that are longer one.
const CHUNK_BYTES: usize = 256 * 1024;
/// Between looks at a log without anything new.
const POLL: Duration = Duration::from_millis(200);
/// The first pause after a failure; doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LAST: Duration = Duration::from_secs(30);
/// How long one batch may take.
const DELIVERY: Duration = Duration::from_secs(30);

/// Follows the log for one sink until the task is dropped. `index` is the sink's place among all.
pub(super) async fn run(shared: Arc<Shared>, audit: AuditSettings, sink: SinkSettings, index: usize) {
    let place = Place::of(&audit.folder, &sink.name, shared.log.origin());
    let mut sent = place.read().unwrap_or_else(|fault| {
        tracing::warn!(sink = sink.name, reason = %fault, "the sink's place in the audit log is lost: it gets all of it");
        0
    });
    let database = shared.rim.load().settings.database.clone();
    let mut follower = Follower::new(audit.folder.clone(), sent);
    loop {
        let durable = shared.log.lines();
        let read = tokio::task::spawn_blocking(move || {
            let batch = follower.batch(BATCH_RECORDS, durable);
            (follower, batch)
        });
        let Ok((returned, batch)) = read.await else { return };
        follower = returned;
        if let Some((from, to)) = follower.skipped() {
            tracing::error!(
                sink = sink.name,
                from,
                to,
                "lines of the audit log were removed before the sink had them"
            );
        }
        match batch {
            Ok(Some(batch)) => {
                for chunk in chunks(&batch.records) {
                    send(&shared, &sink, &database, chunk, &mut sent, index).await;
                    keep(&place, &sink, sent);
                }
                sent = batch.next;
                keep(&place, &sink, sent);
            }
            Ok(None) => {
                // It has all that a checkpoint stands under.
                shared.metrics.audit_sink_behind(index, 0);
                tokio::time::sleep(POLL).await;
            }
            Err(error) => {
                tracing::error!(sink = sink.name, %error, "the audit log cannot be read for its sink");
                shared.metrics.audit_sink_behind(index, shared.log.lines().saturating_sub(sent).max(1));
                // Read from where it is, when it can be.
                follower = Follower::new(audit.folder.clone(), sent);
                tokio::time::sleep(PAUSE_LAST).await;
            }
        }
    }
}

fn keep(place: &Place, sink: &SinkSettings, sent: u64) {
    if let Err(error) = place.write(sent) {
        tracing::error!(sink = sink.name, %error, "the sink's place cannot be kept: after a restart it gets records again");
    }
}

/// Pieces that no sink should find too long, unless one record is.
fn chunks(records: &[Followed]) -> impl Iterator<Item = &[Followed]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = |followed: &&Followed| {
            bytes += followed.line.len();
            bytes <= CHUNK_BYTES
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (chunk, after) = rest.split_at(count);
        rest = after;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Sends until it is accepted; `sent` is then the line after the last.
async fn send(
    shared: &Shared,
    sink: &SinkSettings,
    database: &DatabaseSettings,
    records: &[Followed],
    sent: &mut u64,
    index: usize,
) {
    let log = shared.log.origin();
    let (mut pause, mut told) = (PAUSE_FIRST, false);
    while let Err(error) = deliver(sink, database, &log, records).await {
        if !told {
            tracing::warn!(sink = sink.name, %error, "a sink of the audit log does not accept; trying on");
            told = true;
        }
        shared.metrics.audit_sink_behind(index, shared.log.lines().saturating_sub(*sent));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
    if told {
        tracing::info!(sink = sink.name, "the sink of the audit log accepts again");
    }
    *sent = records.last().map_or(*sent, |last| last.number + 1);
}

async fn deliver(
    sink: &SinkSettings,
    database: &DatabaseSettings,
    log: &str,
    records: &[Followed],
) -> io::Result<()> {
    let lines = || records.iter().map(|followed| sink.form.write(followed));
    if sink.kind == SinkKind::Stdout {
        // However long its reader takes: what was written once must not be written again meanwhile.
        return print(lines().collect()).await;
    }
    let delivery = async {
        match &sink.kind {
            SinkKind::Stdout => Ok(()),
            SinkKind::Http { address, path, headers } => http::post(address, path, headers, lines()).await,
            SinkKind::Syslog(address) => syslog::send(address, sink.form, records).await,
            SinkKind::Postgres { url, ca } => {
                let database = postgres::database(database, ca.as_deref());
                postgres::insert(url, &database, log, records, sink.form).await
            }
        }
    };
    tokio::time::timeout(DELIVERY, delivery).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// On a thread of its own, which nobody waits for but the sink: standard output may be a pipe that nobody reads.
async fn print(lines: Vec<String>) -> io::Result<()> {
    let (sender, printed) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("audit-stdout".to_owned()).spawn(move || {
        let mut out = io::stdout().lock();
        let written = lines.iter().try_for_each(|line| {
            out.write_all(line.as_bytes())?;
            out.write_all(b"\n")
        });
        // Nobody may wait for it any more.
        let _ = sender.send(written.and_then(|()| out.flush()));
    })?;
    printed.await.unwrap_or_else(|_| Err(io::Error::other("the thread that prints ended")))
}
