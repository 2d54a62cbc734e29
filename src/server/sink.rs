//! Sends the log's records on: one task for each sink, which reads the log from where the sink is and keeps that place when the sink has
//! accepted.
//!
//! Guarantees: at least once, in order; a sink that is down is tried again, longer and longer apart, and holds nothing up but itself; what it is
//! behind shows in a metric. Deliberately absent: a limit to how far behind: the log's own retention is one.

mod http;
mod postgres;
mod syslog;

use super::listener::Shared;
use super::settings::{AuditSettings, DatabaseSettings, DatabaseTls, SinkAddress, SinkKind, SinkSettings};
use super::stream::Stream;
use super::tls::DatabaseConnector;
use crate::audit::follow::{Batch, Follower, Place};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

/// Records in one batch.
const BATCH_RECORDS: usize = 500;
/// Between looks at a log without anything new.
const POLL: Duration = Duration::from_millis(200);
/// The first pause after a failure; doubled up to the last.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_LAST: Duration = Duration::from_secs(30);
/// How long one batch may take.
const DELIVERY: Duration = Duration::from_secs(30);

/// Follows the log for one sink until the task is dropped. `index` is the sink's place among all.
pub(super) async fn run(shared: Arc<Shared>, audit: AuditSettings, sink: SinkSettings, index: usize) {
    let place = Place::of(&audit.folder, &sink.name);
    let next = match place.read() {
        Ok(next) => next,
        Err(fault) => {
            tracing::error!(sink = sink.name, reason = %fault, "the sink's place in the audit log is lost: it gets nothing");
            return;
        }
    };
    let database = shared.rim.load().settings.database.clone();
    let mut follower = Follower::new(audit.folder.clone(), next);
    let mut pause = PAUSE_FIRST;
    let mut sent = next;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let batch = follower.batch(BATCH_RECORDS);
            (follower, batch)
        });
        let Ok((returned, batch)) = read.await else { return };
        follower = returned;
        let batch = match batch {
            Ok(Some(batch)) => batch,
            Ok(None) => {
                // All that a checkpoint stands under.
                shared.metrics.audit_sink_behind(index, 0);
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => {
                tracing::error!(sink = sink.name, %error, "the audit log cannot be read for its sink");
                tokio::time::sleep(PAUSE_LAST).await;
                continue;
            }
        };
        let mut told = false;
        let log = shared.log.origin();
        while let Err(error) = deliver(&sink, &database, &log, &batch).await {
            if !told {
                tracing::warn!(sink = sink.name, %error, "a sink of the audit log does not accept; trying on");
                told = true;
            }
            shared.metrics.audit_sink_behind(index, shared.log.lines().saturating_sub(sent));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_LAST);
        }
        if told {
            tracing::info!(sink = sink.name, "the sink of the audit log accepts again");
        }
        pause = PAUSE_FIRST;
        sent = batch.next;
        if let Err(error) = place.write(sent) {
            tracing::error!(sink = sink.name, %error, "the sink's place cannot be kept: after a restart it gets records again");
        }
    }
}

async fn deliver(
    sink: &SinkSettings,
    database: &DatabaseSettings,
    log: &str,
    batch: &Batch,
) -> io::Result<()> {
    let lines = || batch.records.iter().map(|followed| sink.form.write(followed));
    let delivery = async {
        match &sink.kind {
            SinkKind::Stdout => print(lines()),
            SinkKind::Http { address, path, headers } => http::post(address, path, headers, lines()).await,
            SinkKind::Syslog(address) => syslog::send(address, sink.form, &batch.records).await,
            SinkKind::Postgres { url } => postgres::insert(url, database, log, batch, sink.form).await,
        }
    };
    tokio::time::timeout(DELIVERY, delivery).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn print(lines: impl Iterator<Item = String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        out.write_all(line.as_bytes())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A connection, inside TLS where the address says whom to trust.
async fn connect(address: &SinkAddress) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let Some(ca) = &address.ca else { return Ok(Box::new(stream)) };
    let connector = DatabaseConnector::to(&address.host, DatabaseTls::VerifyFull, Some(ca));
    let connector = connector.map_err(|error| io::Error::other(error.0))?;
    let (tls, name) = connector.wanted().ok_or_else(|| io::Error::other("TLS is off"))?;
    Ok(Box::new(tls.connect(name.clone(), stream).await?))
}
