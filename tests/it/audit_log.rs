//! Audit logs for the tests that look at one from outside.

use pgveil::audit::verify::{Against, Verified, verify_against};
use pgveil::audit::writer::{Log, LogSettings, SegmentSettings};
use pgveil::audit::{AuditRecord, Connection, Event, Intent, Said, UsedColumn, keys, segments};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

pub fn pgveil(arguments: &[&str]) -> Output {
    pgveil_with(arguments, "")
}

/// With something to read.
pub fn pgveil_with(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

pub fn record(user: &str, connection: u64, statement: u64) -> AuditRecord {
    let used = UsedColumn {
        column: "public.customers.email".to_owned(),
        label: "pii.email".to_owned(),
        action: "read".to_owned(),
        rule: "support-desk".to_owned(),
        disclosure: "mask:partial".to_owned(),
    };
    AuditRecord {
        time: 1_764_072_000_000_000 + statement as i64 * 60_000_000,
        connection: Said::from(Connection {
            number: connection,
            user: user.to_owned(),
            database: "shop".to_owned(),
            application: "psql".to_owned(),
            address: "10.0.0.7:5123".to_owned(),
        }),
        event: Event::Intent {
            statement,
            intent: Said::from(Intent {
                kind: "select".to_owned(),
                shape: "select email from customers where id = $1".to_owned(),
                purpose: None,
                uses: vec![used],
            }),
        },
    }
}

/// A log of several segments, some compressed, under two keys one after the other.
pub struct Making {
    folder: tempfile::TempDir,
    first_key: PathBuf,
}

impl Making {
    pub fn of_segments() -> Making {
        let folder = tempfile::tempdir().unwrap();
        let first = keys::ensure_keys(folder.path()).unwrap().public_key;
        let first_key = folder.path().join("first.pem");
        std::fs::copy(first, &first_key).unwrap();
        let making = Making { folder, first_key };
        making.write(12);
        keys::prepare_next(making.path()).unwrap();
        making.write(12);
        let (_, sealed) = segments::sealed_in(making.path()).unwrap().swap_remove(1);
        segments::compress(&sealed).unwrap();
        making
    }
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
    /// The public key of the first segment.
    pub fn first_key(&self) -> PathBuf {
        self.first_key.clone()
    }
    /// Opens the log, writes so many records and closes it.
    pub fn write(&self, records: u64) {
        let small = SegmentSettings { bytes: 3000, ..SegmentSettings::default() };
        let settings = LogSettings { segments: small, ..LogSettings::new(self.path()) };
        let log = Log::open(settings, Arc::new(|| 1_764_072_000_000_000)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for number in 0..records {
            runtime.block_on(log.record(record("alice", 1, number))).unwrap();
        }
    }
    pub fn verified(&self) -> Verified {
        let key = keys::public_key(&self.first_key).unwrap();
        let log = segments::Segments::new(segments::list(self.path()).unwrap());
        verify_against(log, &Against { key, known: vec![], part: false }).unwrap()
    }
}
