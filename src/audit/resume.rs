//! Reading the end of an existing log, so that it can be continued.
//!
//! Guarantees: it continues only from a checkpoint that our own key signed over the line before it, and the whole records
//! after that; what is cut was never whole on disk, so nobody was told that it was recorded. Reads the header and
//! the end, not the whole log. Deliberately absent: checking what stands before that checkpoint ([`super::verify`]).

use super::Fault;
use super::canonical::{Header, LINE_BYTES_MAX, Line, Malformed};
use super::chain::{Chain, Hash};
use super::checkpoint::KeyId;
use ed25519_dalek::VerifyingKey;
use std::io::{self, Read, Seek, SeekFrom};

/// Where an existing log can be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub header: Header,
    pub chain: Chain,
    /// Bytes to keep; what follows is a torn end.
    pub length: u64,
    /// Whole records after the last checkpoint.
    pub unsigned: u64,
    /// Bytes after `length`.
    pub cut: u64,
}

/// The first look back, in bytes; doubled until a checkpoint is found.
const WINDOW_BYTES: u64 = 256 * 1024;

/// Finds where the log continues. Messages do not name the file: the caller does.
pub fn resume(log: &mut (impl Read + Seek), key: &VerifyingKey) -> Result<Resumed, Fault> {
    let cannot = |error: io::Error| Fault::new(format!("it could not be read: {error}"));
    let header = read_header(log, key)?;
    let total = log.seek(SeekFrom::End(0)).map_err(cannot)?;
    let mut window = WINDOW_BYTES;
    loop {
        let from = total.saturating_sub(window);
        log.seek(SeekFrom::Start(from)).map_err(cannot)?;
        let mut end = Vec::new();
        log.by_ref().take(total - from).read_to_end(&mut end).map_err(cannot)?;
        if let Some(resumed) = resume_in(&end, from, &header, key) {
            return Ok(resumed);
        }
        if from == 0 {
            return Err(Fault::new("no checkpoint in it is signed by the audit signing key")
                .hint("`pgveil audit verify` says what is wrong with it. To go on, begin a new log in another folder."));
        }
        window *= 2;
    }
}

fn read_header(log: &mut (impl Read + Seek), key: &VerifyingKey) -> Result<Header, Fault> {
    let mut start = Vec::new();
    log.seek(SeekFrom::Start(0))
        .and_then(|_| log.by_ref().take(4096).read_to_end(&mut start))
        .map_err(|error| Fault::new(format!("it could not be read: {error}")))?;
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match Line::parse(line) {
        Ok(Line::Header(header)) if header.key == KeyId::of(key) => Ok(header),
        Ok(Line::Header(_)) => Err(Fault::new("it was begun with another signing key")
            .hint("Restore that key, or begin a new log in another folder.")),
        Err(Malformed::Version(version)) => {
            Err(Fault::new(format!("it has format version {version}, which this program does not know")))
        }
        _ => Err(Fault::new("it does not begin with the header of an audit log")),
    }
}

/// Looks for the last good checkpoint in the log's last bytes, which stand at offset `from`.
fn resume_in(end: &[u8], from: u64, header: &Header, key: &VerifyingKey) -> Option<Resumed> {
    let lines = lines(end);
    let (mut at, checkpoint) = lines.windows(2).enumerate().rev().find_map(|(index, pair)| {
        // Ahead of time and cheaply: almost all lines of a torn end are records.
        pair[1].1.starts_with(b"{\"checkpoint\"").then_some(())?;
        let Ok(Line::Checkpoint(checkpoint)) = Line::parse(pair[1].1) else { return None };
        let holds = checkpoint.chain.head == Hash::of(pair[0].1) && checkpoint.is_signed_by(header.log, key);
        holds.then_some((index + 1, checkpoint))
    })?;
    let mut chain = checkpoint.chain.then(lines[at].1);
    let mut unsigned = 0;
    while let Some((_, line)) = lines.get(at + 1)
        && line.len() <= LINE_BYTES_MAX
        && matches!(Line::parse(line), Ok(Line::Record(said, _)) if said == chain)
    {
        (chain, unsigned, at) = (chain.then(line), unsigned + 1, at + 1);
    }
    let (start, line) = lines[at];
    let length = start + line.len() + 1;
    let (length, cut) = (from + length as u64, (end.len() - length) as u64);
    Some(Resumed { header: *header, chain, length, unsigned, cut })
}

/// The lines that end with a line feed, with their offsets. The first may be the end of a longer one; its hash tells.
fn lines(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut start = 0;
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Some(whole) = line.strip_suffix(b"\n") {
            lines.push((start, whole));
        }
        start += line.len();
    }
    lines
}
