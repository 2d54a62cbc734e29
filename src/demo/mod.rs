//! The private PostgreSQL and the guided tour: one customer as the application, the support desk, the DBA and the disk see
//! it; a refused statement; the audit records of just that, verified.
//!
//! Everything is done with pgveil's own commands and over the wire, as a user would. Guarantees: nothing is left behind when
//! it ends; with `--check` every claim that the tour makes is checked. Deliberately absent: anything that `serve` lacks.

mod people;
mod postgres;
mod proxy;
mod setup;
mod tour;

use postgres::PrivatePostgres;
use proxy::Proxy;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, NoTls};

/// Customers that the demo makes.
const CUSTOMERS: u32 = 3_000;
/// Makes them the same at every run.
const SEED: u64 = 20_261_124;

/// A running demo; dropping it stops everything and removes its folder.
struct Demo {
    // In this order: the proxy goes first, then the server, then the folder.
    proxy: Proxy,
    postgres: PrivatePostgres,
    folder: TempDir,
    people: Vec<people::Person>,
}

/// Runs the demo. With `check`, without a person: true when every claim held. Tables are `width` characters wide at most.
///
/// # Errors
/// What could not be set up.
pub async fn run(check: bool, width: Option<u16>) -> Result<bool, String> {
    let refused = |error: std::io::Error| format!("cannot listen for signals: {error}");
    // From the start: an interrupted set-up leaves nothing behind, either.
    let mut terminate = signal(SignalKind::terminate()).map_err(refused)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(refused)?;
    tokio::select! {
        result = stay(check, width) => result,
        _ = terminate.recv() => Ok(!check),
        _ = interrupt.recv() => Ok(!check),
        _ = hangup.recv() => Ok(!check),
    }
}

/// Everything, and then nothing until the caller gives up; with `check`, until the claims are checked.
async fn stay(check: bool, width: Option<u16>) -> Result<bool, String> {
    let demo = setup::start(check).await?;
    let held = tour::show(&demo, check, width).await?;
    if check {
        return Ok(held);
    }
    println!("Stop with Ctrl-C; nothing is left behind.");
    std::future::pending().await
}

/// A connection that lives as long as its client.
async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // Its end shows at the client's next statement.
        let _ = connection.await;
    });
    Ok(client)
}

impl Demo {
    /// A connection through the proxy.
    async fn through(&self, user: &str) -> Result<Client, String> {
        let url = self.url(user);
        connect(&url)
            .await
            .map_err(|error| format!("cannot connect through pgveil as {user}: {}", said(&error)))
    }

    fn url(&self, user: &str) -> String {
        format!("postgresql://{user}:{}@{}/shop", setup::password(user), self.proxy.address)
    }
}

/// The server's words, or the client's.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(answer) => format!("{} {}", answer.code().code(), answer.message()),
        None => error.to_string(),
    }
}
