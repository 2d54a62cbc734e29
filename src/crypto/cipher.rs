//! The cells of one domain, sealed and opened in batches under the versions of its key.

use super::envelope::{Envelope, HEADER_BYTES, NONCE_BYTES, SIV_BYTES, header, overhead};
use super::siv::{Few, KEY_BYTES, Many, Nonce, Room, SLACK, Siv};
use super::{Batch, Cells, DomainId, KeyVersion, Mode, OpenCause, OpenError, Random, Span};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Seals and opens the cells of one domain: all versions of its key for opening, one for sealing.
pub struct CellCipher {
    domain: DomainId,
    mode: Mode,
    current: KeyVersion,
    /// The current one first: it is what most cells have.
    keys: Vec<(KeyVersion, Siv)>,
}

/// Batches of fewer cells are done one by one: their chains are too few to be worth lanes.
const LANES_FROM: usize = 3;

/// Batches of more than so many cells have the larger room.
const FEW_CELLS: usize = 16;

impl CellCipher {
    /// `keys` holds `current`.
    pub(super) fn new(
        domain: DomainId,
        mode: Mode,
        current: KeyVersion,
        keys: BTreeMap<KeyVersion, Zeroizing<[u8; KEY_BYTES]>>,
    ) -> CellCipher {
        debug_assert!(keys.contains_key(&current));
        let siv = |(version, key): (&KeyVersion, &Zeroizing<[u8; KEY_BYTES]>)| {
            (*version, Siv::new(key, header(mode, domain, *version)))
        };
        let mut keys: Vec<_> = keys.iter().map(siv).collect();
        keys.sort_by_key(|(version, _)| *version != current);
        CellCipher { domain, mode, current, keys }
    }
    pub fn domain(&self) -> DomainId {
        self.domain
    }
    pub fn mode(&self) -> Mode {
        self.mode
    }
    /// The version that new randomized cells are sealed with.
    pub fn current(&self) -> KeyVersion {
        self.current
    }
    pub fn has(&self, version: KeyVersion) -> bool {
        self.siv(version).is_some()
    }

    fn siv(&self, version: KeyVersion) -> Option<&Siv> {
        self.keys.iter().find(|(known, _)| *known == version).map(|(_, siv)| siv)
    }

    /// Seals every cell of `plain` under `version` and appends the envelopes to `sealed`, in order.
    ///
    /// # Errors
    /// The keyring has no such version: nothing was sealed.
    pub fn seal(
        &self,
        version: KeyVersion,
        plain: &Cells,
        random: &mut dyn Random,
        sealed: &mut Cells,
    ) -> Result<(), OpenCause> {
        self.seal_batch(version, plain.batch(), random, sealed)
    }

    /// As [`seal`](Self::seal), of cells where they stand.
    ///
    /// # Errors
    /// The keyring has no such version: nothing was sealed.
    pub fn seal_batch(
        &self,
        version: KeyVersion,
        plain: Batch<'_>,
        random: &mut dyn Random,
        sealed: &mut Cells,
    ) -> Result<(), OpenCause> {
        let siv = self.siv(version).ok_or(OpenCause::UnknownVersion(version))?;
        let overhead = overhead(self.mode);
        let lengths = plain.spans.iter().map(|span| span.len() + overhead);
        sealed.push_all(lengths, SLACK, |bytes, to| match plain.spans.len() {
            0..LANES_FROM => self.seal_alone(siv, plain, random, bytes, to),
            LANES_FROM..=FEW_CELLS => self.seal_groups(&mut Few::new(), siv, plain, random, bytes, to),
            _ => self.seal_groups(&mut Many::new(), siv, plain, random, bytes, to),
        });
        Ok(())
    }

    fn seal_alone(
        &self,
        siv: &Siv,
        plain: Batch<'_>,
        random: &mut dyn Random,
        bytes: &mut [u8],
        to: &[Span],
    ) {
        for (at, to) in to.iter().enumerate() {
            let into = bytes.get_mut(to.start..to.end + SLACK).unwrap_or_default();
            let mut nonce: Option<Nonce> = None;
            if self.mode == Mode::Randomized {
                random.fill(nonce.insert([0; NONCE_BYTES]));
            }
            siv.seal_one(nonce.as_ref(), plain.get(at), into);
        }
    }

    fn seal_groups<const L: usize, const K: usize>(
        &self,
        room: &mut Room<L, K>,
        siv: &Siv,
        plain: Batch<'_>,
        random: &mut dyn Random,
        bytes: &mut [u8],
        mut to: &[Span],
    ) {
        let mut from = plain.spans;
        let mut nonces = [[0; NONCE_BYTES]; L];
        while !from.is_empty() {
            let count = room.take(from, 0);
            let nonces = match self.mode {
                Mode::Deterministic => &[][..],
                Mode::Randomized => {
                    let nonces = nonces.get_mut(..count).unwrap_or_default();
                    random.fill(nonces.as_flattened_mut());
                    nonces
                }
            };
            let (now, later) = from.split_at(count);
            room.seal(siv, nonces, (plain.bytes, now), (bytes, to));
            from = later;
            to = to.get(count..).unwrap_or_default();
        }
    }

    /// Opens every envelope of `sealed` and appends the plaintexts to `plain`, in order.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of the batch is left in `plain`.
    pub fn open(&self, sealed: &Cells, plain: &mut Cells) -> Result<(), OpenError> {
        self.open_batch(sealed.batch(), plain)
    }

    /// As [`open`](Self::open), of cells where they stand.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of the batch is left in `plain`.
    pub fn open_batch(&self, sealed: Batch<'_>, plain: &mut Cells) -> Result<(), OpenError> {
        let before = plain.len();
        let overhead = overhead(self.mode);
        // What is too short opens as nothing, and is found out below.
        let lengths = sealed.spans.iter().map(|span| span.len().saturating_sub(overhead));
        let opened = plain.push_all(lengths, SLACK, |bytes, to| {
            let mut at = 0;
            while at < to.len() {
                let (siv, count) = self.run(sealed, at).map_err(|cause| OpenError { cell: at, cause })?;
                let run = Batch { spans: &sealed.spans[at..at + count], ..sealed };
                let to = &to[at..at + count];
                let opened = match count {
                    0..LANES_FROM => self.open_alone(siv, run, bytes, to),
                    LANES_FROM..=FEW_CELLS => self.open_groups(&mut Few::new(), siv, run, bytes, to),
                    _ => self.open_groups(&mut Many::new(), siv, run, bytes, to),
                };
                opened.map_err(|cell| OpenError { cell: at + cell, cause: OpenCause::Altered })?;
                at += count;
            }
            Ok(())
        });
        if opened.is_err() {
            plain.truncate(before);
        }
        opened
    }

    /// The key of the cell at `at`, and how many cells from there on have it.
    fn run(&self, sealed: Batch<'_>, at: usize) -> Result<(&Siv, usize), OpenCause> {
        let envelope = Envelope::parse(sealed.get(at))?;
        if envelope.domain != self.domain || envelope.mode != self.mode {
            return Err(OpenCause::OtherDomain);
        }
        let siv = self.siv(envelope.version).ok_or(OpenCause::UnknownVersion(envelope.version))?;
        if at + 1 == sealed.spans.len() {
            return Ok((siv, 1));
        }
        let (header, overhead) = (siv.header(), overhead(self.mode));
        let alike = |span: &&Span| {
            let begins = sealed.bytes.get(span.start..).and_then(|rest| rest.first_chunk::<HEADER_BYTES>());
            span.len() >= overhead && begins == Some(&header)
        };
        Ok((siv, sealed.spans[at..].iter().take_while(alike).count()))
    }

    fn open_alone(&self, siv: &Siv, sealed: Batch<'_>, bytes: &mut [u8], to: &[Span]) -> Result<(), usize> {
        for (at, to) in to.iter().enumerate() {
            let into = bytes.get_mut(to.start..to.end + SLACK).unwrap_or_default();
            let cell = sealed.get(at).get(HEADER_BYTES..).unwrap_or_default();
            let (nonce, cell) = match self.mode {
                Mode::Deterministic => (None, cell),
                Mode::Randomized => {
                    let (nonce, cell) = cell.split_first_chunk::<NONCE_BYTES>().ok_or(at)?;
                    (Some(nonce), cell)
                }
            };
            let (tag, text) = cell.split_first_chunk::<SIV_BYTES>().ok_or(at)?;
            if !siv.open_one(nonce, tag, text, into) {
                return Err(at);
            }
        }
        Ok(())
    }

    fn open_groups<const L: usize, const K: usize>(
        &self,
        room: &mut Room<L, K>,
        siv: &Siv,
        sealed: Batch<'_>,
        bytes: &mut [u8],
        to: &[Span],
    ) -> Result<(), usize> {
        let (mut at, randomized) = (0, self.mode == Mode::Randomized);
        while at < to.len() {
            let (from, to) = (&sealed.spans[at..], &to[at..]);
            let count = room.take(from, overhead(self.mode));
            let (from, to) = (&from[..count], &to[..count]);
            room.open(siv, randomized, (sealed.bytes, from), (bytes, to)).map_err(|cell| at + cell)?;
            at += count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
