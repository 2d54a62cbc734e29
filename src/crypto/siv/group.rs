//! Many cells in lanes: one CMAC block of each at a time, and the key stream of all together.
//!
//! A lane is a cell's place in a group. Lanes are in the order of their cells' number of blocks, most first, so that those
//! still running are always the first ones. Writing goes in the order of the cells, a block at a time: what is written
//! beyond a cell's end is overwritten by the next one.

use super::blocks::{BLOCK, Bytes, Counter, Form, Wide, Word, blocks_of, load, word};
use super::{Cipher, Nonce, SHORT, Siv, Span, add};
use crate::crypto::envelope::{HEADER_BYTES, NONCE_BYTES, SIV_BYTES};
use std::ops::Range;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// For a handful of cells, and for many: what is not used of a room costs, too.
pub(in crate::crypto) type Few = Room<16, 64>;
pub(in crate::crypto) type Many = Room<64, 256>;

/// Cells of up to so many blocks are counted into their lanes, longer ones sorted.
const COUNTED: usize = 16;

/// Where a group of up to `L` cells with up to `K` blocks of key stream is worked on.
pub(in crate::crypto) struct Room<const L: usize, const K: usize> {
    /// By cell: its blocks, and its tag.
    counts: [usize; L],
    tags: [Word; L],
    /// How many cells have more than so many blocks.
    more: [usize; COUNTED + 1],
    most: usize,
    /// All have as many.
    alike: bool,
    /// By lane: its cell, where that begins, how it ends, and the state.
    order: [u8; L],
    starts: [usize; L],
    forms: [u8; L],
    states: [Bytes; L],
    own: Option<Own<L>>,
    keys: [Bytes; K],
    keys_used: usize,
}

/// What stands for [`super::Siv::ends`] where each cell has its own: by lane.
struct Own<const L: usize> {
    befores: [Word; L],
    lasts: [Word; L],
}

impl<const L: usize> Drop for Own<L> {
    fn drop(&mut self) {
        self.befores.zeroize();
        self.lasts.zeroize();
    }
}

impl<const L: usize, const K: usize> Drop for Room<L, K> {
    fn drop(&mut self) {
        // Flat: one sweep instead of one for each block.
        self.states.as_flattened_mut().zeroize();
        self.keys[..self.keys_used.min(K)].as_flattened_mut().zeroize();
    }
}

impl<const L: usize, const K: usize> Room<L, K> {
    pub(in crate::crypto) fn new() -> Self {
        Room {
            counts: [0; L],
            tags: [0; L],
            more: [0; COUNTED + 1],
            most: 0,
            alike: true,
            order: [0; L],
            starts: [0; L],
            forms: [0; L],
            states: [[0; BLOCK]; L],
            own: None,
            keys: [[0; BLOCK]; K],
            keys_used: 0,
        }
    }

    /// Takes as many cells as there is room for, at least one; gives their number. Each is `overhead` longer than its
    /// plaintext.
    pub(in crate::crypto) fn take(&mut self, cells: &[Span], overhead: usize) -> usize {
        let cells = cells.get(..L).unwrap_or(cells);
        let lengths = cells.iter().map(|span| span.len() - overhead);
        let (least, most) = lengths
            .clone()
            .fold((usize::MAX, 0), |(least, most), length| (least.min(length), most.max(length)));
        let (least, most) = (blocks_of(least), blocks_of(most));
        self.alike = least == most;
        if self.alike {
            let taken = if most <= SHORT { cells.len().min(K / most) } else { cells.len() };
            self.counts.iter_mut().take(taken).for_each(|count| *count = most);
            self.more = std::array::from_fn(|blocks| if blocks < most { taken } else { 0 });
            self.most = most;
            return taken;
        }
        let (mut taken, mut keys) = (0, 0);
        let mut kinds = [0; COUNTED + 2];
        self.most = 0;
        for (length, count) in lengths.zip(&mut self.counts) {
            let blocks = blocks_of(length);
            keys += if blocks <= SHORT { blocks } else { 0 };
            if keys > K {
                break;
            }
            *count = blocks;
            kinds[blocks.min(COUNTED + 1)] += 1;
            self.most = self.most.max(blocks);
            taken += 1;
        }
        let mut more = 0;
        for blocks in (0..=COUNTED).rev() {
            more += kinds[blocks + 1];
            self.more[blocks] = more;
        }
        taken
    }

    /// How many cells have more than so many blocks: these lanes come first.
    fn more_than(&self, blocks: usize) -> usize {
        let long = self.more[COUNTED];
        let longer = |cell: &u8| self.counts[usize::from(*cell) % L] > blocks;
        self.more.get(blocks).copied().unwrap_or_else(|| self.order[..long].partition_point(longer))
    }

    /// Puts the cells, as long as their plaintexts, in their lanes.
    fn place(&mut self, cells: &[Span]) {
        if self.alike {
            let lanes = self.order.iter_mut().zip(&mut self.starts).zip(&mut self.forms);
            for ((((order, start), form), span), cell) in lanes.zip(cells).zip(0..) {
                (*order, *start, *form) = (cell, span.start, Form::of(span.len()).number());
            }
            return;
        }
        // What is longer than is counted comes first.
        let mut next = [0; COUNTED + 2];
        next[..=COUNTED].copy_from_slice(&self.more);
        for ((blocks, span), cell) in self.counts.iter().zip(cells).zip(0..) {
            let lane = &mut next[(*blocks).min(COUNTED + 1)];
            self.order[*lane % L] = cell;
            self.starts[*lane % L] = span.start;
            self.forms[*lane % L] = Form::of(span.len()).number();
            *lane += 1;
        }
        let (order, counts) = (&mut self.order[..self.more[COUNTED]], &self.counts);
        order.sort_unstable_by_key(|cell| std::cmp::Reverse(counts[usize::from(*cell) % L]));
        for ((cell, start), form) in order.iter().zip(&mut self.starts).zip(&mut self.forms) {
            let span = cells[usize::from(*cell)];
            (*start, *form) = (span.start, Form::of(span.len()).number());
        }
    }

    /// Encrypts the nonces of the cells, and keeps how each cell ends after its own.
    fn nonces<'n>(&mut self, siv: &Siv<impl Cipher>, nonces: impl Iterator<Item = &'n Nonce>) {
        let mut count = 0;
        for (state, nonce) in self.states.iter_mut().zip(nonces) {
            *state = siv.nonce_block(nonce).to_le_bytes();
            count += 1;
        }
        siv.mac.encrypt_with_backend(Wide { blocks: &mut self.states, count });
        let own = self.own.get_or_insert_with(|| Own { befores: [0; L], lasts: [0; L] });
        let ends = own.befores.iter_mut().zip(&mut own.lasts);
        for (((before, last), form), cell) in ends.zip(&self.forms).zip(&self.order).take(count) {
            let nonce = word(&self.states[usize::from(*cell) % L]);
            let ends = siv.ends_after(nonce, Form::nth(*form));
            (*before, *last) = (ends.before, ends.last);
        }
    }

    /// Computes the tags of the cells, which are in their lanes, and whose plaintexts stand in `bytes`.
    fn tag(&mut self, siv: &Siv<impl Cipher>, bytes: &[u8]) {
        for step in 0..self.most {
            let [running, beyond, long] = [step, step + 1, step + 2].map(|blocks| self.more_than(blocks));
            let Room { states, starts, forms, own, .. } = self;
            let form = |lane: usize| Form::nth(forms[lane % L]);
            let mut meet = Meeting { states, starts, bytes, at: BLOCK * step };
            meet.meet(0..long, |_, block| block);
            match own {
                None => {
                    meet.meet(long..beyond, |lane, block| block ^ siv.ends[form(lane).index()].before);
                    meet.meet(beyond..running, |lane, block| {
                        block & form(lane).mask() ^ siv.ends[form(lane).index()].last
                    });
                }
                Some(own) => {
                    meet.meet(long..beyond, |lane, block| block ^ own.befores[lane % L]);
                    meet.meet(beyond..running, |lane, block| block & form(lane).mask() ^ own.lasts[lane % L]);
                }
            }
            siv.mac.encrypt_with_backend(Wide { blocks: states, count: running });
            let done = states.get(beyond..running).unwrap_or_default();
            for (state, cell) in done.iter().zip(self.order.get(beyond..).unwrap_or_default()) {
                self.tags[usize::from(*cell) % L] = word(state);
            }
        }
    }

    /// Makes the key streams of all cells of few blocks.
    fn keys(&mut self, siv: &Siv<impl Cipher>, tags: impl Iterator<Item = Word>) {
        let used = match (self.alike, self.most) {
            (true, 1) => self.keys_alike::<1>(tags),
            (true, 2) => self.keys_alike::<2>(tags),
            (true, 3) => self.keys_alike::<3>(tags),
            (true, 4) => self.keys_alike::<4>(tags),
            _ => {
                let mut used = 0;
                for (tag, count) in tags.zip(&self.counts).filter(|(_, count)| **count <= SHORT) {
                    Counter::new(tag).fill(self.keys.get_mut(used..used + count).unwrap_or_default());
                    used += count;
                }
                used
            }
        };
        self.keys_used = self.keys_used.max(used);
        siv.ctr.encrypt_with_backend(Wide { blocks: &mut self.keys, count: used });
    }

    /// The counters of cells of `N` blocks each; gives their number.
    fn keys_alike<const N: usize>(&mut self, tags: impl Iterator<Item = Word>) -> usize {
        let mut cells = 0;
        for (keys, tag) in self.keys.as_chunks_mut::<N>().0.iter_mut().zip(tags) {
            Counter::new(tag).fill(keys);
            cells += 1;
        }
        N * cells
    }

    /// XORs the key streams to the texts, which begin `source.skip` bytes after the begin of their spans, and `target.skip`.
    /// What is written after a text is at most one block.
    fn write(
        &self,
        siv: &Siv<impl Cipher>,
        source: Texts<'_, &[u8]>,
        target: Texts<'_, &mut [u8]>,
        tags: impl Iterator<Item = Word>,
    ) {
        match (self.alike, self.most) {
            (true, 1) => self.write_alike::<1>(source, target),
            (true, 2) => self.write_alike::<2>(source, target),
            (true, 3) => self.write_alike::<3>(source, target),
            (true, 4) => self.write_alike::<4>(source, target),
            _ => {
                let mut keys = self.keys.as_slice();
                let cells = source.spans.iter().zip(target.spans).zip(&self.counts).zip(tags);
                for (((from, to), count), tag) in cells {
                    let text = source.bytes.get(from.start + source.skip..).unwrap_or_default();
                    let into = target.bytes.get_mut(to.start + target.skip..).unwrap_or_default();
                    if *count <= SHORT {
                        let (own, rest) = keys.split_at(*count);
                        add(text, own, into);
                        keys = rest;
                    } else {
                        let text = text.get(..to.len() - target.skip).unwrap_or_default();
                        siv.stream(tag, text, into);
                    }
                }
            }
        }
    }

    fn write_alike<const N: usize>(&self, source: Texts<'_, &[u8]>, target: Texts<'_, &mut [u8]>) {
        let cells = source.spans.iter().zip(target.spans);
        for ((from, to), keys) in cells.zip(self.keys.as_chunks::<N>().0) {
            let text = source.bytes.get(from.start + source.skip..).unwrap_or_default();
            let into = target.bytes.get_mut(to.start + target.skip..).unwrap_or_default();
            add(text, keys, into);
        }
    }

    /// Seals the cells of `from`, which were [taken](Self::take), into `to`. `bytes` has [`super::SLACK`] after the last cell of
    /// `to`; nonces are given for all or for none.
    pub(in crate::crypto) fn seal(
        &mut self,
        siv: &Siv<impl Cipher>,
        nonces: &[Nonce],
        (plain, from): (&[u8], &[Span]),
        (bytes, to): (&mut [u8], &[Span]),
    ) {
        self.place(from);
        if !nonces.is_empty() {
            self.nonces(siv, nonces.iter());
        }
        self.tag(siv, plain);
        let tags = self.tags;
        self.keys(siv, tags.into_iter().take(from.len()));
        let skip = HEADER_BYTES + SIV_BYTES + if nonces.is_empty() { 0 } else { NONCE_BYTES };
        let target = Texts { bytes: &mut *bytes, spans: to, skip };
        self.write(siv, Texts { bytes: plain, spans: from, skip: 0 }, target, tags.into_iter());
        // Last, since a head stands where the text before it was written beyond its end.
        let mut nonces = nonces.iter();
        for (to, tag) in to.iter().zip(&tags) {
            siv.write_head(nonces.next(), *tag, bytes.get_mut(to.start..).unwrap_or_default());
        }
    }

    /// Opens the cells of `from`, which were [taken](Self::take), whole envelopes with the header of this key, into `to`.
    /// `bytes` has [`super::SLACK`] after the last cell of `to`.
    ///
    /// # Errors
    /// The first cell that does not open; what was written is not to be read.
    pub(in crate::crypto) fn open(
        &mut self,
        siv: &Siv<impl Cipher>,
        randomized: bool,
        (sealed, from): (&[u8], &[Span]),
        (bytes, to): (&mut [u8], &[Span]),
    ) -> Result<(), usize> {
        let head = HEADER_BYTES + if randomized { NONCE_BYTES } else { 0 };
        let tag_of = |span: &Span| load(sealed, span.start + head);
        self.keys(siv, from.iter().map(tag_of));
        let source = Texts { bytes: sealed, spans: from, skip: head + SIV_BYTES };
        let target = Texts { bytes: &mut *bytes, spans: to, skip: 0 };
        self.write(siv, source, target, from.iter().map(tag_of));
        self.place(to);
        if randomized {
            let nonce = |span: &Span| sealed.get(span.start + HEADER_BYTES..)?.first_chunk::<NONCE_BYTES>();
            self.nonces(siv, from.iter().filter_map(nonce));
        }
        self.tag(siv, bytes);
        let differ = from.iter().zip(&self.tags).fold(0, |all, (span, tag)| all | (tag ^ tag_of(span)));
        if differ.ct_eq(&0).into() {
            return Ok(());
        }
        let mut each = from.iter().zip(&self.tags);
        let first = each.position(|(span, tag)| !bool::from(tag.ct_eq(&tag_of(span))));
        Err(first.unwrap_or_default())
    }
}

/// Cells without what stands before their texts.
struct Texts<'t, B> {
    bytes: B,
    spans: &'t [Span],
    skip: usize,
}

/// One block of each of some lanes.
struct Meeting<'m, const L: usize> {
    states: &'m mut [Bytes; L],
    starts: &'m [usize; L],
    bytes: &'m [u8],
    at: usize,
}

impl<const L: usize> Meeting<'_, L> {
    /// XORs the block of each lane to its state, as `end` changes it.
    #[inline(always)]
    fn meet(&mut self, lanes: Range<usize>, end: impl Fn(usize, Word) -> Word) {
        let states = self.states.get_mut(lanes.clone()).unwrap_or_default();
        let starts = self.starts.get(lanes.clone()).unwrap_or_default();
        for ((state, start), lane) in states.iter_mut().zip(starts).zip(lanes) {
            let before = if self.at == 0 { 0 } else { word(state) };
            let block = load(self.bytes, start + self.at);
            *state = (before ^ end(lane, block)).to_le_bytes();
        }
    }
}
