//! Proofs out of a log, for those who do not have it: that a line is in it, and that it continues what it was.
//!
//! Guarantees: a proof is made for the tree of the log's last checkpoint, in the forms of C2SP's `tlog-proof` and `tlog-witness`.
//! Deliberately absent: verifying the log first ([`super::verify`]); a proof out of an altered log does not hold.

use super::canonical::Line;
use super::chain::Hash;
use super::checkpoint::Checkpoint;
use super::lines::Lines;
use super::note::base64_of;
use super::tree;
use super::verify::{Failure, Flaw, Kind};
use std::fmt::Write;
use std::io::BufRead;

/// The hashes of a log's lines, and the last checkpoint over them.
pub struct Leaves {
    hashes: Vec<Hash>,
    checkpoint: Checkpoint,
}

impl Leaves {
    /// Reads a whole log; `None` when its first segments are not there.
    pub fn read(log: impl BufRead) -> Result<Option<Leaves>, Failure> {
        let mut lines = Lines::new(log);
        let mut hashes: Vec<Hash> = vec![];
        let mut checkpoint = None;
        let flaw = |kind, line, offset| Failure::Flawed(Flaw { kind, line, offset, trusted: None });
        while let Some(line) = lines.next()? {
            let number = hashes.len() as u64;
            if number == 0 {
                match Line::parse(&line.bytes) {
                    Ok(Line::Header(header)) if header.chain.size == 0 => {}
                    Ok(Line::Header(_)) => return Ok(None),
                    _ => return Err(flaw(Kind::NotALog, 0, 0)),
                }
            }
            if line.whole && line.bytes.starts_with(b"{\"checkpoint\"") {
                match Line::parse(&line.bytes) {
                    Ok(Line::Checkpoint(found)) if found.chain.size == number => checkpoint = Some(found),
                    _ => return Err(flaw(Kind::Altered, number, line.offset)),
                }
            }
            hashes.push(Hash::of(&line.bytes));
        }
        let checkpoint = checkpoint.ok_or(flaw(Kind::NotALog, 0, 0))?;
        hashes.truncate(checkpoint.chain.size as usize);
        Ok(Some(Leaves { hashes, checkpoint }))
    }

    /// The last checkpoint of some segments; `None` when there is none.
    pub fn last_checkpoint(log: impl BufRead) -> Result<Option<Checkpoint>, Failure> {
        let (mut lines, mut last) = (Lines::new(log), None);
        while let Some(line) = lines.next()? {
            if line.whole
                && line.bytes.starts_with(b"{\"checkpoint\"")
                && let Ok(Line::Checkpoint(found)) = Line::parse(&line.bytes)
            {
                last = Some(found);
            }
        }
        Ok(last)
    }

    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// That the line with this number, counted from 0, is in the log (`tlog-proof`).
    pub fn inclusion(&self, index: u64) -> Option<String> {
        let proof = tree::prove_inclusion(&self.hashes, usize::try_from(index).ok()?)?;
        Some(self.text(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n"), &proof))
    }

    /// That the log continues its first `old` lines (the body of `add-checkpoint` in `tlog-witness`).
    pub fn consistency(&self, old: u64) -> Option<String> {
        let proof = match old {
            0 => vec![],
            old => tree::prove_consistency(&self.hashes, usize::try_from(old).ok()?)?,
        };
        Some(self.text(&format!("old {old}\n"), &proof))
    }

    fn text(&self, start: &str, proof: &[Hash]) -> String {
        let mut text = start.to_owned();
        for hash in proof {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", base64_of(hash));
        }
        text + "\n" + &self.checkpoint.note().write()
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoint::LogId;
    use super::super::note::hash_from_base64;
    use super::super::tree::Tree;
    use super::super::verify::tests::{key, sample};
    use super::*;

    #[test]
    fn proofs_lead_to_the_checkpoint() {
        let log = sample().concat();
        let leaves = Leaves::read(log.as_slice()).unwrap().unwrap();
        let size = leaves.hashes.len() as u64;
        assert_eq!(size, leaves.checkpoint.chain.size);
        assert!(leaves.checkpoint.is_signed_by(LogId([3; 16]), &key().verifying_key()));
        let hashes = |text: &str| -> Vec<Hash> {
            let lines = text.split("\n\n").next().unwrap().lines();
            lines.filter_map(hash_from_base64).collect()
        };
        for index in 0..size {
            let text = leaves.inclusion(index).unwrap();
            assert!(text.starts_with(&format!("c2sp.org/tlog-proof@v1\nindex {index}\n")));
            let leaf = leaves.hashes[index as usize];
            assert!(tree::is_included(leaf, index, size, &hashes(&text), leaves.checkpoint.root));
        }
        let mut tree = Tree::default();
        for old in 0..=size {
            let old = tree::Head { size: old, root: tree.root() };
            let new = tree::Head { size, root: leaves.checkpoint.root };
            let text = leaves.consistency(old.size).unwrap();
            assert!(tree::is_consistent(old, new, &hashes(&text)), "{}", old.size);
            if let Some(leaf) = leaves.hashes.get(old.size as usize) {
                tree.push(*leaf);
            }
        }
        assert_eq!((leaves.inclusion(size), leaves.consistency(size + 1)), (None, None));
    }
}
