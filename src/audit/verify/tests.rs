//! Whatever is done to a log's bytes is found, named and placed.

use super::super::canonical::tests::samples;
use super::super::canonical::{self, Header};
use super::super::checkpoint::LogId;
use super::*;
use ed25519_dalek::SigningKey;

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn push(chain: Option<Chain>, lines: &mut Vec<Vec<u8>>, line: Line) -> Chain {
    let mut bytes = Vec::new();
    line.write(&mut bytes);
    let chain = chain.map_or(Chain::begin(&bytes), |chain| chain.then(&bytes));
    bytes.push(b'\n');
    lines.push(bytes);
    chain
}

/// A log as the writer makes it: groups of three records. Lines with their line feeds.
fn sample() -> Vec<Vec<u8>> {
    let header = Header { log: LogId([3; 16]), key: KeyId::of(&key().verifying_key()), time: 1 };
    let mut lines = Vec::new();
    let mut chain = push(None, &mut lines, Line::Header(header));
    let sign = |chain| Line::Checkpoint(Checkpoint::sign(header.log, chain, 5, &key()));
    chain = push(Some(chain), &mut lines, sign(chain));
    for group in samples().chunks(3) {
        for record in group {
            chain = push(Some(chain), &mut lines, Line::Record(chain, Box::new(record.clone())));
        }
        chain = push(Some(chain), &mut lines, sign(chain));
    }
    lines
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
    assert_eq!((verified.records, verified.recoveries), (samples().len() as u64, 1));
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
    let last = samples().chunks(3).last().map_or(0, <[_]>::len) as u64;
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
    let Ok(Line::Header(header)) = Line::parse(whole[0].strip_suffix(b"\n").unwrap()) else { panic!() };
    let forger = SigningKey::from_bytes(&[9; 32]);
    let mut lines = Vec::new();
    let mut chain = push(None, &mut lines, Line::Header(header));
    for line in &whole[1..] {
        let line = match Line::parse(line.strip_suffix(b"\n").unwrap()).unwrap() {
            Line::Record(_, mut record) => {
                record.user = "mallory".to_owned();
                Line::Record(chain, record)
            }
            Line::Checkpoint(old) if old.chain == chain => Line::Checkpoint(old),
            _ => Line::Checkpoint(Checkpoint::sign(header.log, chain, 5, &forger)),
        };
        chain = push(Some(chain), &mut lines, line);
    }
    let flaw = check(&lines).unwrap_err();
    assert_eq!((flaw.kind, flaw.line), (Kind::Altered, 5));
}

#[test]
fn a_giant_line_is_refused_in_bounded_memory() {
    let mut lines = sample();
    lines.push(vec![b'x'; 3 * LINE_BYTES_MAX]);
    let flaw = check(&lines).unwrap_err();
    assert_eq!((flaw.kind, flaw.line), (Kind::Altered, lines.len() as u64 - 1));
    let mut seen = Vec::new();
    let last = canonical::tests::samples().len();
    let result = records(sample().concat().as_slice(), |_, record| {
        seen.push(record.clone());
        seen.len() < last
    });
    assert!(result.is_ok());
    assert_eq!(seen, samples());
}
