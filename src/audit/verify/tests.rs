//! Whatever is done to a log's bytes is found, named and placed.

use super::super::canonical::tests::samples;
use super::super::canonical::{Header, LINE_BYTES_MAX};
use super::super::checkpoint::LogId;
use super::*;
use crate::audit::chain::Hash;
use ed25519_dalek::SigningKey;

pub(in crate::audit) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A log in the making: its lines with their line feeds, and what they say.
struct Making {
    chain: Chain,
    tree: Tree,
    lines: Vec<Vec<u8>>,
    key: SigningKey,
}

const LOG: LogId = LogId([3; 16]);

impl Making {
    fn new() -> Making {
        let mut making = Making { chain: Chain::EMPTY, tree: Tree::default(), lines: vec![], key: key() };
        making.segment();
        making
    }
    fn push(&mut self, line: &Line) {
        let mut bytes = Vec::new();
        line.write(&mut bytes);
        self.chain = self.chain.then(&bytes);
        self.tree.push(self.chain.head);
        bytes.push(b'\n');
        self.lines.push(bytes);
    }
    fn sign(&mut self) {
        let checkpoint = Checkpoint::sign(LOG, self.chain, &self.tree, 5, &self.key);
        self.push(&Line::Checkpoint(checkpoint));
    }
    fn record(&mut self, record: AuditRecord) {
        self.push(&Line::Record(self.chain, Box::new(record)));
    }
    fn segment(&mut self) {
        let key = KeyId::of(&self.key.verifying_key());
        let header = Header { log: LOG, key, chain: self.chain, tree: self.tree.clone(), time: 1 };
        self.push(&Line::Header(header));
        self.sign();
    }
    /// Groups of three records, as the writer makes them.
    fn records(&mut self) {
        for group in harmless().chunks(3) {
            group.iter().for_each(|record| self.record(record.clone()));
            self.sign();
        }
    }
}

/// One record of each event that says nothing of the log itself.
fn harmless() -> Vec<AuditRecord> {
    let own = |record: &AuditRecord| matches!(record.event, Event::Removed { .. } | Event::KeyChanged { .. });
    samples().into_iter().filter(|record| !own(record)).collect()
}

/// A log of one segment. Lines with their line feeds.
pub(in crate::audit) fn sample() -> Vec<Vec<u8>> {
    let mut making = Making::new();
    making.records();
    making.lines
}

/// A log of two segments, the second of which another key signs.
fn two_segments() -> Vec<Vec<u8>> {
    let mut making = Making::new();
    making.records();
    let next = SigningKey::from_bytes(&[8; 32]);
    let key = faster_hex::hex_string(next.verifying_key().as_bytes());
    making.record(AuditRecord { event: Event::KeyChanged { key }, ..samples().swap_remove(0) });
    making.sign();
    making.key = next;
    making.segment();
    making.records();
    making.lines
}

fn check(lines: &[Vec<u8>]) -> Result<Verified, Flaw> {
    verify_bytes(&lines.concat())
}

fn verify_bytes(bytes: &[u8]) -> Result<Verified, Flaw> {
    verify(bytes, &key().verifying_key()).map_err(|failure| match failure {
        Failure::Flawed(flaw) => flaw,
        Failure::Read(error) => panic!("{error}"),
    })
}

fn offset(lines: &[Vec<u8>], line: usize) -> u64 {
    lines[..line].iter().map(|line| line.len() as u64).sum()
}

#[test]
fn an_untouched_log_verifies() {
    let lines = sample();
    let verified = check(&lines).unwrap();
    assert_eq!((verified.records, verified.recoveries, verified.segments), (harmless().len() as u64, 1, 1));
    assert_eq!(verified.chain.size, lines.len() as u64);
    assert_eq!(verified.chain.head, Hash::of(lines.last().unwrap().strip_suffix(b"\n").unwrap()));
}

#[test]
fn every_changed_byte_is_found_in_its_line() {
    let lines = sample();
    let bytes = lines.concat();
    let ends: Vec<u64> = (1..=lines.len()).map(|line| offset(&lines, line)).collect();
    for at in 0..bytes.len() {
        let line = ends.iter().position(|end| (at as u64) < *end).unwrap();
        for change in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            let flaw = verify_bytes(&changed).expect_err("a changed byte was not found");
            let place = (flaw.line, flaw.offset);
            assert_eq!(place, (line as u64, offset(&lines, line)), "byte {at} ^ {change}: {flaw:?}");
            let expected = match line {
                0 => matches!(flaw.kind, Kind::NotALog | Kind::OtherKey | Kind::Version(_) | Kind::Altered),
                _ if at + 1 == bytes.len() => flaw.kind == Kind::Torn,
                _ => flaw.kind == Kind::Altered,
            };
            assert!(expected, "byte {at} ^ {change}: {flaw:?}");
        }
    }
}

#[test]
fn every_removed_line_is_missed() {
    for removed in 1..sample().len() - 1 {
        let mut lines = sample();
        lines.remove(removed);
        let flaw = check(&lines).unwrap_err();
        assert_eq!(flaw.kind, Kind::Missing { first: removed as u64 }, "line {removed}");
        assert_eq!(flaw.offset, offset(&lines, removed));
        assert!(
            flaw.to_string().starts_with(&format!("line {} is missing before byte", removed + 1)),
            "{flaw}"
        );
    }
    let mut lines = sample();
    lines.drain(3..6);
    let flaw = check(&lines).unwrap_err();
    assert_eq!(flaw.to_string(), format!("lines 4 to 6 are missing before byte {}", offset(&lines, 3)));
}

#[test]
fn every_swap_and_every_repetition_is_found() {
    let whole = sample();
    for first in 1..whole.len() {
        for second in first + 1..whole.len() {
            let mut lines = sample();
            lines.swap(first, second);
            let flaw = check(&lines).unwrap_err();
            let expected = (Kind::Reordered, first as u64, offset(&lines, first));
            assert_eq!((flaw.kind, flaw.line, flaw.offset), expected, "{first} and {second}");
        }
        for to in first + 1..=whole.len() {
            let mut lines = sample();
            lines.insert(to, whole[first].clone());
            let flaw = check(&lines).unwrap_err();
            assert_eq!(
                (flaw.kind, flaw.offset),
                (Kind::Repeated, offset(&lines, to)),
                "{first} again at {to}"
            );
        }
    }
}

#[test]
fn every_truncation_is_found_but_that_to_a_checkpoint() {
    let lines = sample();
    let bytes = lines.concat();
    for length in 1..bytes.len() {
        let whole = (1..=lines.len()).find(|line| offset(&lines, *line) == length as u64);
        let after_checkpoint = whole.is_some_and(|line| lines[line - 1].starts_with(b"{\"checkpoint\""));
        match verify_bytes(&bytes[..length]) {
            Ok(_) => assert!(after_checkpoint, "cut to {length}"),
            Err(flaw) if whole.is_some() => assert!(matches!(flaw.kind, Kind::Unsigned { .. }), "{flaw:?}"),
            Err(flaw) => assert_eq!(flaw.kind, Kind::Torn, "cut to {length}"),
        }
    }
}

#[test]
fn an_unsigned_end_and_another_key_are_named() {
    let mut lines = sample();
    lines.pop();
    let flaw = check(&lines).unwrap_err();
    let last = harmless().chunks(3).last().map_or(0, <[_]>::len) as u64;
    assert_eq!((flaw.kind, flaw.line), (Kind::Unsigned { lines: last }, lines.len() as u64 - last));
    assert_eq!(flaw.trusted.unwrap().chain.size, lines.len() as u64 - last - 1);
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let failure = verify(sample().concat().as_slice(), &other).unwrap_err();
    assert!(matches!(failure, Failure::Flawed(Flaw { kind: Kind::OtherKey, .. })), "{failure:?}");
}

/// Someone without the key changes a record and computes all hashes after it anew.
#[test]
fn a_chain_made_anew_lacks_its_signatures() {
    let whole = sample();
    let mut making = Making::new();
    let honest = making.key.clone();
    for line in &whole[2..] {
        match Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap() {
            Line::Record(_, mut record) => {
                record.connection =
                    record.connection.changed(|connection| connection.user = "mallory".to_owned());
                making.record(*record);
            }
            _ => {
                making.key = SigningKey::from_bytes(&[9; 32]);
                making.sign();
            }
        }
    }
    assert_ne!(making.key, honest);
    let flaw = check(&making.lines).unwrap_err();
    assert_eq!((flaw.kind, flaw.line), (Kind::Altered, 5));
}

#[test]
fn segments_follow_each_other_under_keys_that_name_each_other() {
    let lines = two_segments();
    let verified = check(&lines).unwrap();
    assert_eq!((verified.segments, verified.header.chain.size), (2, 0));
    assert_eq!(verified.key, SigningKey::from_bytes(&[8; 32]).verifying_key());
    let second = lines.iter().rposition(|line| line.starts_with(b"{\"pgveil_audit\"")).unwrap();
    // A part verifies by itself, with its own key, but is not the log.
    let part = lines[second..].concat();
    let against =
        |part| Against { key: SigningKey::from_bytes(&[8; 32]).verifying_key(), known: vec![], part };
    let verified = verify_against(part.as_slice(), &against(true)).unwrap();
    assert_eq!(verified.header.chain.size, second as u64);
    let Err(Failure::Flawed(flaw)) = verify_against(part.as_slice(), &against(false)) else { panic!() };
    assert_eq!((flaw.kind, flaw.line), (Kind::Missing { first: 0 }, second as u64));
    // Without the handing over, the second key is nobody's.
    let mut making = Making::new();
    making.records();
    making.key = SigningKey::from_bytes(&[8; 32]);
    making.segment();
    assert_eq!(check(&making.lines).unwrap_err().kind, Kind::OtherKey);
    // A segment in the middle.
    let mut making = Making::new();
    making.records();
    let first = making.lines.len();
    making.segment();
    making.records();
    let third = making.lines.len();
    making.segment();
    making.records();
    assert_eq!(check(&making.lines).unwrap().segments, 3);
    making.lines.drain(first..third);
    assert_eq!(check(&making.lines).unwrap_err().kind, Kind::Missing { first: first as u64 });
}

#[test]
fn a_stump_is_the_log_when_the_log_says_so() {
    let mut making = Making::new();
    making.records();
    let second = making.lines.len();
    making.segment();
    let removed = Event::Removed { before: second as u64 };
    making.record(AuditRecord { event: removed, ..samples().swap_remove(0) });
    making.sign();
    assert!(check(&making.lines).is_ok());
    assert_eq!(check(&making.lines[second..]).unwrap().header.chain.size, second as u64);
    // More is gone than it says.
    let mut later = Making { lines: vec![], ..making };
    later.segment();
    later.records();
    assert_eq!(check(&later.lines).unwrap_err().kind, Kind::Missing { first: 0 });
    // Another tree in front of the same lines does not lead to what is signed.
    let mut forged = later.lines.clone();
    let mut header = match Line::parse(forged[0].strip_suffix(b"\n").unwrap()) {
        Ok(Line::Header(header)) => header,
        other => panic!("{other:?}"),
    };
    let mut subtrees = header.tree.subtrees().to_vec();
    subtrees[0].0[0] ^= 1;
    header.tree = Tree::from_subtrees(header.chain.size, subtrees).unwrap();
    forged[0].clear();
    Line::Header(header).write(&mut forged[0]);
    forged[0].push(b'\n');
    assert_eq!(check(&forged).unwrap_err().kind, Kind::Altered);
}

#[test]
fn a_known_checkpoint_shows_forks_and_truncation() {
    let lines = sample();
    let verified = check(&lines).unwrap();
    let head = Head { size: verified.checkpoint.chain.size, root: verified.checkpoint.root };
    let against = |known| Against { key: key().verifying_key(), known: vec![known], part: false };
    let flaw = |bytes: &[u8], known| match verify_against(bytes, &against(known)) {
        Ok(_) => None,
        Err(Failure::Flawed(flaw)) => Some(flaw.kind),
        Err(Failure::Read(error)) => panic!("{error}"),
    };
    assert_eq!(flaw(&lines.concat(), head), None);
    let last_but_one = lines[..lines.len() - 1].iter().rposition(|line| line.starts_with(b"{\"checkpoint\""));
    let short = lines[..=last_but_one.unwrap()].concat();
    assert!(verify(short.as_slice(), &key().verifying_key()).is_ok(), "by itself it looks whole");
    assert_eq!(flaw(&short, head), Some(Kind::Truncated { known: head.size }));
    let other = Head { root: Hash([1; 32]), ..head };
    assert_eq!(flaw(&lines.concat(), other), Some(Kind::Forked));
    let early = Head { size: 4, root: Hash([1; 32]) };
    assert_eq!(flaw(&lines.concat(), early), Some(Kind::Forked));
}

#[test]
fn a_giant_line_is_refused_in_bounded_memory() {
    let mut lines = sample();
    lines.push(vec![b'x'; 3 * LINE_BYTES_MAX]);
    let flaw = check(&lines).unwrap_err();
    assert_eq!((flaw.kind, flaw.line), (Kind::Altered, lines.len() as u64 - 1));
    let mut seen = Vec::new();
    let expected = harmless();
    let last = expected.len();
    let result = records(sample().concat().as_slice(), |_, record| {
        seen.push(record.clone());
        seen.len() < last
    });
    assert!(result.is_ok());
    assert_eq!(seen, expected);
}
