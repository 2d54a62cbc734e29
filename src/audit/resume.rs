//! Reading the newest segment of an existing log, so that it can be continued.
//!
//! Guarantees: it continues only from a checkpoint that our own key signed over everything that stands before it in the segment, and
//! the whole records after that; what is cut was never whole on disk, so nobody was told that it was recorded. A segment that was
//! altered behind such a checkpoint is left as it is.
//! Deliberately absent: older segments, and saying what is wrong where ([`super::verify`]).

use super::Fault;
use super::canonical::{Header, Line, Malformed};
use super::chain::{Chain, Hash};
use super::checkpoint::{Checkpoint, KeyId};
use super::lines::{Lines, RawLine};
use super::tree::Tree;
use ed25519_dalek::VerifyingKey;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// Where an existing log can be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    pub header: Header,
    pub chain: Chain,
    pub tree: Tree,
    /// Bytes to keep; what follows is a torn end.
    pub length: u64,
    /// Whole records after the last checkpoint.
    pub unsigned: u64,
    /// Bytes after `length`.
    pub cut: u64,
}

/// The state after a checkpoint that says what stands before it.
struct Known {
    checkpoint: Checkpoint,
    chain: Chain,
    tree: Tree,
    length: u64,
}

/// Finds where the log continues. Messages do not name the file: the caller does.
pub fn resume(log: &mut (impl Read + Seek), key: &VerifyingKey) -> Result<Resumed, Fault> {
    let total = log.seek(SeekFrom::End(0)).map_err(cannot)?;
    log.seek(SeekFrom::Start(0)).map_err(cannot)?;
    let mut lines = Lines::new(BufReader::with_capacity(1 << 20, log.by_ref()));
    let first = lines.next().map_err(cannot)?;
    let header = header_in(first.as_ref(), key)?;
    let known = last_checkpoint(first.as_ref(), &mut lines, &header).map_err(cannot)?;
    let signed = |known: &Known| known.checkpoint.is_signed_by(header.log, key);
    let Some(Known { mut chain, mut tree, mut length, .. }) = known.filter(signed) else {
        return Err(Fault::new("no checkpoint in it is signed by the audit signing key").hint(
            "`pgveil audit verify` says what is wrong with it. To go on, begin a new log in another folder.",
        ));
    };
    log.seek(SeekFrom::Start(length)).map_err(cannot)?;
    let mut rest = Lines::new(BufReader::new(log.by_ref()));
    let (from, mut unsigned) = (length, 0);
    let mut behind = Behind::default();
    while let Some(line) = rest.next().map_err(cannot)? {
        let parsed = Line::parse(&line.bytes).ok().filter(|_| line.whole);
        match parsed {
            Some(Line::Record(said, _)) if said == chain && behind.lines == 0 => {
                chain = chain.then(&line.bytes);
                tree.push(chain.head);
                (length, unsigned) = (from + line.end(), unsigned + 1);
            }
            parsed => behind.take(parsed.as_ref(), &header, key),
        }
    }
    if behind.is_altered() {
        return Err(Fault::new("it was altered: what follows its last good line was signed")
            .hint("`pgveil audit verify` says what is wrong with it. Keep it as evidence, and begin a new log in another folder."));
    }
    Ok(Resumed { header, chain, tree, length, unsigned, cut: total - length })
}

/// What stands behind the last good line. One write that a crash tore leaves pieces of lines, and perhaps the checkpoint that it was to
/// end in; whoever changes a line that was signed leaves whole lines, and a checkpoint that no longer fits them.
#[derive(Default)]
struct Behind {
    lines: u64,
    /// Some are no lines.
    torn: bool,
    /// Checkpoints of our key.
    signed: u64,
    /// The last of them is the last line.
    signed_last: bool,
}

impl Behind {
    fn take(&mut self, line: Option<&Line>, header: &Header, key: &VerifyingKey) {
        self.lines += 1;
        self.torn |= line.is_none();
        self.signed_last =
            matches!(line, Some(Line::Checkpoint(checkpoint)) if checkpoint.is_signed_by(header.log, key));
        self.signed += u64::from(self.signed_last);
    }

    fn is_altered(&self) -> bool {
        self.signed > 1 || self.signed == 1 && !(self.signed_last && self.torn)
    }
}

fn cannot(error: io::Error) -> Fault {
    Fault::new(format!("it could not be read: {error}"))
}

fn header_in(line: Option<&RawLine>, key: &VerifyingKey) -> Result<Header, Fault> {
    let line = line.filter(|line| line.whole).map(|line| line.bytes.as_slice());
    match Line::parse(line.unwrap_or_default()) {
        Ok(Line::Header(header)) if header.key == KeyId::of(key) => Ok(header),
        Ok(Line::Header(_)) => Err(Fault::new("it was begun with another signing key")
            .hint("Restore that key, or begin a new log in another folder.")),
        Err(Malformed::Version(version)) => {
            Err(Fault::new(format!("it has format version {version}, which this program does not know")))
        }
        _ => Err(Fault::new("it does not begin with the header of an audit log")),
    }
}

/// The last checkpoint whose root is that of the lines before it.
fn last_checkpoint<R: Read>(
    first: Option<&RawLine>,
    lines: &mut Lines<BufReader<R>>,
    header: &Header,
) -> io::Result<Option<Known>> {
    let (mut chain, mut tree, mut known) = (header.chain, header.tree.clone(), None);
    let push = |line: &[u8], chain: &mut Chain, tree: &mut Tree| {
        *chain = Chain { size: chain.size + 1, head: Hash::of(line) };
        tree.push(chain.head);
    };
    if let Some(first) = first {
        push(&first.bytes, &mut chain, &mut tree);
    }
    while let Some(line) = lines.next()? {
        let before = chain;
        let root = line.bytes.starts_with(b"{\"checkpoint\"").then(|| tree.root());
        push(&line.bytes, &mut chain, &mut tree);
        if let Some(root) = root
            && line.whole
            && let Ok(Line::Checkpoint(checkpoint)) = Line::parse(&line.bytes)
            && checkpoint.chain == before
            && checkpoint.root == root
        {
            known = Some(Known { checkpoint, chain, tree: tree.clone(), length: line.end() });
        }
    }
    Ok(known)
}
