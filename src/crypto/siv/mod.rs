//! AES-256-SIV (RFC 5297) under one key and one header, over many cells at once.
//!
//! What S2V does before it meets a cell is the same for every cell of a domain and key version: it is computed once. What is
//! left is a chain of CMAC blocks for each cell, each waiting for the one before, and a few blocks of CTR. The chains of
//! different cells know nothing of each other: `group` steps all of them together, one block of each, through the
//! cipher's parallel blocks. A cell that comes alone is sealed and opened here, without lanes, however long it is: the
//! crate sets up a key for each cell, which costs more than all that it could save.
//!
//! Guarantees: bit for bit what the `aes-siv` crate gives (`tests.rs`); tags are compared in constant time; what is left on
//! the stack of keys and cells is zeroised. Deliberately absent: key versions, allocation.

mod blocks;
mod group;

use super::Span;
use super::envelope::{HEADER_BYTES, NONCE_BYTES, SIV_BYTES};
use aes::cipher::consts::U16;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes::{Aes256Enc, Block};
use blocks::{BLOCK, Bytes, Chain, Counter, Ends, Form, Narrow, Wide, Word, double, end_of, load, word};
pub(super) use group::{Few, Many, Room};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of an AES-256-SIV key: half for S2V, half for CTR.
pub(super) const KEY_BYTES: usize = 64;

/// Bytes that must stand after the last cell in what is written to: cells are written block by block.
pub(super) const SLACK: usize = BLOCK;

/// Cells of up to so many blocks have their key stream made together with those of others.
const SHORT: usize = 8;

pub(super) type Nonce = [u8; NONCE_BYTES];

/// One key with the header that its cells have. `C` is another cipher only in tests: RFC 5297 has no vectors for AES-256.
pub(super) struct Siv<C = Aes256Enc> {
    header: [u8; HEADER_BYTES],
    mac: C,
    ctr: C,
    /// What CMAC XORs to a last block that is whole, and to one that is padded.
    subkeys: [Word; 2],
    /// S2V after the header, doubled: what a nonce is XORed to.
    before_nonce: Word,
    /// For cells without a nonce, by their form.
    ends: [Ends; Form::COUNT],
}

impl<C> Drop for Siv<C> {
    fn drop(&mut self) {
        // The ciphers zeroise themselves.
        self.subkeys.zeroize();
        self.before_nonce.zeroize();
        self.ends.zeroize();
    }
}

impl Siv {
    pub(super) fn new(key: &[u8; KEY_BYTES], header: [u8; HEADER_BYTES]) -> Siv {
        let (mac, ctr) = key.split_at(KEY_BYTES / 2);
        let cipher = |half| Aes256Enc::new_from_slice(half).expect("a key has two halves of 32 bytes");
        Siv::with(cipher(mac), cipher(ctr), header, &[&header])
    }
}

/// The cipher.
pub(super) trait Cipher: BlockCipherEncrypt<BlockSize = U16> {}
impl<C: BlockCipherEncrypt<BlockSize = U16>> Cipher for C {}

impl<C: Cipher> Siv<C> {
    /// `data` is associated with every cell, before its nonce.
    fn with(mac: C, ctr: C, header: [u8; HEADER_BYTES], data: &[&[u8]]) -> Siv<C> {
        let whole = double(encrypted(&mac, 0));
        let subkeys = [whole, double(whole)];
        let mut state = encrypted(&mac, whole);
        for data in data {
            let mut tag = 0;
            let ends = |_| Ends::of_cmac(data.len(), &subkeys);
            mac.encrypt_with_backend(Chain { nonce: None, cell: data, ends, tag: &mut tag });
            state = double(state) ^ tag;
        }
        let ends = std::array::from_fn(|form| Ends::of(Form::nth(form as u8), state, &subkeys));
        Siv { header, mac, ctr, subkeys, before_nonce: double(state), ends }
    }

    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        self.header
    }

    /// A nonce as CMAC's one block.
    fn nonce_block(&self, nonce: &Nonce) -> Word {
        end_of(nonce) ^ Ends::of_cmac(NONCE_BYTES, &self.subkeys).last
    }

    /// How a cell ends whose nonce was encrypted.
    fn ends_after(&self, nonce: Word, form: Form) -> Ends {
        Ends::of(form, self.before_nonce ^ nonce, &self.subkeys)
    }

    /// The tag of one cell.
    fn tag(&self, nonce: Option<&Nonce>, cell: &[u8]) -> Word {
        let form = Form::of(cell.len());
        let mut tag = 0;
        match nonce {
            None => {
                let ends = |_| self.ends[form.index()];
                self.mac.encrypt_with_backend(Chain { nonce: None, cell, ends, tag: &mut tag });
            }
            Some(nonce) => {
                let nonce = Some(self.nonce_block(nonce));
                let ends = |encrypted| self.ends_after(encrypted, form);
                self.mac.encrypt_with_backend(Chain { nonce, cell, ends, tag: &mut tag });
            }
        }
        tag
    }

    /// XORs the key stream of `tag` to `from`; `into` is as long and has [`SLACK`] after it.
    fn stream(&self, tag: Word, from: &[u8], into: &mut [u8]) {
        let mut counter = Counter::new(tag);
        if from.len() <= BLOCK * SHORT {
            let mut room = [[0; BLOCK]; SHORT];
            let keys = room.get_mut(..from.len().div_ceil(BLOCK)).unwrap_or_default();
            counter.fill(keys);
            self.ctr.encrypt_with_backend(Narrow(keys));
            add(from, keys, into);
            // All of it: a length that is known needs no call.
            room.as_flattened_mut().zeroize();
        } else {
            let mut keys = [[0; BLOCK]; 64];
            let pieces = from.chunks(BLOCK * keys.len());
            for (at, piece) in pieces.enumerate() {
                let count = piece.len().div_ceil(BLOCK);
                counter.fill(keys.get_mut(..count).unwrap_or_default());
                self.ctr.encrypt_with_backend(Wide { blocks: &mut keys, count });
                let into = into.get_mut(BLOCK * keys.len() * at..).unwrap_or_default();
                add(piece, keys.get(..count).unwrap_or_default(), into);
            }
            keys.as_flattened_mut().zeroize();
        }
    }

    /// Seals one cell; its envelope takes the first bytes of `into`, which has [`SLACK`] after it.
    pub(super) fn seal_one(&self, nonce: Option<&Nonce>, cell: &[u8], into: &mut [u8]) {
        let tag = self.tag(nonce, cell);
        let into = self.write_head(nonce, tag, into);
        self.stream(tag, cell, into);
    }

    /// Writes what stands before the ciphertext; gives what comes after.
    #[inline(always)]
    fn write_head<'i>(&self, nonce: Option<&Nonce>, tag: Word, into: &'i mut [u8]) -> &'i mut [u8] {
        const DETERMINISTIC: usize = HEADER_BYTES + SIV_BYTES;
        const RANDOMIZED: usize = HEADER_BYTES + NONCE_BYTES + SIV_BYTES;
        let room = "an envelope has room for its head";
        match nonce {
            None => {
                let (head, rest) = into.split_first_chunk_mut::<DETERMINISTIC>().expect(room);
                head[..HEADER_BYTES].copy_from_slice(&self.header);
                head[HEADER_BYTES..].copy_from_slice(&tag.to_le_bytes());
                rest
            }
            Some(nonce) => {
                let (head, rest) = into.split_first_chunk_mut::<RANDOMIZED>().expect(room);
                head[..HEADER_BYTES].copy_from_slice(&self.header);
                head[HEADER_BYTES..HEADER_BYTES + NONCE_BYTES].copy_from_slice(nonce);
                head[HEADER_BYTES + NONCE_BYTES..].copy_from_slice(&tag.to_le_bytes());
                rest
            }
        }
    }

    /// Opens one cell into the first bytes of `into`, which has [`SLACK`] after it. False: it does not open, and what
    /// was written is not to be read.
    #[must_use]
    pub(super) fn open_one(&self, nonce: Option<&Nonce>, tag: &Bytes, text: &[u8], into: &mut [u8]) -> bool {
        let tag = word(tag);
        self.stream(tag, text, into);
        let expected = self.tag(nonce, into.get(..text.len()).unwrap_or_default());
        expected.ct_eq(&tag).into()
    }
}

/// XORs `keys` to `from`, into the first bytes of `into` and the rest of their last block.
#[inline(always)]
fn add(from: &[u8], keys: &[Bytes], into: &mut [u8]) {
    let into = into.get_mut(..BLOCK * keys.len()).unwrap_or_default().as_chunks_mut().0.iter_mut().zip(keys);
    match from.get(..BLOCK * keys.len()) {
        Some(from) => {
            for ((into, key), from) in into.zip(from.as_chunks().0) {
                *into = (word(from) ^ word(key)).to_le_bytes();
            }
        }
        None => {
            for (at, (into, key)) in into.enumerate() {
                *into = (load(from, BLOCK * at) ^ word(key)).to_le_bytes();
            }
        }
    }
}

fn encrypted(cipher: &impl Cipher, block: Word) -> Word {
    let mut block = Block::from(block.to_le_bytes());
    cipher.encrypt_block(&mut block);
    word(&block.0)
}

#[cfg(test)]
mod tests;
