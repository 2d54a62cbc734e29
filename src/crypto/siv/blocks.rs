//! Blocks: how the end of a cell meets S2V, and how the cipher is given many blocks, or one chain of them.

use aes::Block;
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{BlockCipherEncBackend, BlockCipherEncClosure, BlockSizeUser, ParBlocksSizeUser};
use zeroize::Zeroize;

/// Bytes of a block.
pub(super) const BLOCK: usize = 16;

/// The bytes of one block, as the cipher takes them.
pub(super) type Bytes = [u8; BLOCK];

/// The same as a number, little-endian, so that the first byte is the lowest: in two registers, where an array of bytes
/// ends up in sixteen.
pub(super) type Word = u128;

#[inline(always)]
pub(super) fn word(block: &Bytes) -> Word {
    Word::from_le_bytes(*block)
}

/// `dbl` of RFC 5297, section 2.3: in constant time.
#[inline(always)]
pub(super) fn double(block: Word) -> Word {
    let value = block.swap_bytes();
    let carry = (value >> 127).wrapping_neg() & 0x87;
    ((value << 1) ^ carry).swap_bytes()
}

/// How many blocks a cell has in CMAC, where an empty one has one.
#[inline(always)]
pub(super) fn blocks_of(length: usize) -> usize {
    length.div_ceil(BLOCK).max(1)
}

/// All that the end of S2V depends on but the bytes: cells below one block by their length, others by what stands in
/// their last block.
#[derive(Clone, Copy)]
pub(super) struct Form(u8);

impl Form {
    pub(super) const COUNT: usize = 2 * BLOCK;

    #[inline(always)]
    pub(super) fn of(length: usize) -> Form {
        let last = (length % BLOCK) as u8;
        Form(if length < BLOCK { last } else { BLOCK as u8 + last })
    }
    #[inline(always)]
    pub(super) fn nth(number: u8) -> Form {
        Form(number % Form::COUNT as u8)
    }
    #[inline(always)]
    pub(super) fn number(self) -> u8 {
        self.0
    }
    #[inline(always)]
    pub(super) fn index(self) -> usize {
        usize::from(self.0) % Form::COUNT
    }
    fn is_short(self) -> bool {
        self.index() < BLOCK
    }
    /// Bytes of the last block.
    #[inline(always)]
    pub(super) fn last_bytes(self) -> usize {
        if self.index() == BLOCK { BLOCK } else { self.index() % BLOCK }
    }
    /// Keeps the bytes of the last block.
    #[inline(always)]
    pub(super) fn mask(self) -> Word {
        MASKS[self.index()]
    }
}

static MASKS: [Word; Form::COUNT] = masks();

const fn masks() -> [Word; Form::COUNT] {
    let mut masks = [Word::MAX; Form::COUNT];
    let mut bytes = 0;
    while bytes < BLOCK {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        // A whole block has no last one that is empty.
        if bytes > 0 {
            masks[BLOCK + bytes] = masks[bytes];
        }
        bytes += 1;
    }
    masks
}

/// What S2V and CMAC together XOR to the last two blocks of a cell: its end meets what came before it (`xorend`, or `dbl`
/// and padding where it is shorter than a block), is padded, and a subkey is added.
#[derive(Clone, Copy, Default, Zeroize)]
pub(super) struct Ends {
    pub(super) before: Word,
    pub(super) last: Word,
}

impl Ends {
    /// `state` is S2V before the cell; the subkeys are those of whole and of padded blocks.
    #[inline(always)]
    pub(super) fn of(form: Form, state: Word, subkeys: &[Word; 2]) -> Ends {
        let [whole, padded] = *subkeys;
        let bits = 8 * form.last_bytes();
        if form.is_short() {
            // Padded to a block by S2V, so whole to CMAC.
            return Ends { before: 0, last: double(state) ^ whole ^ 0x80 << bits };
        }
        if form.last_bytes() == BLOCK {
            return Ends { before: 0, last: state ^ whole };
        }
        // The last sixteen bytes lie across two blocks.
        Ends { before: state << bits, last: state >> (8 * BLOCK - bits) ^ padded ^ 0x80 << bits }
    }
}

impl Ends {
    /// Those of CMAC by itself, for `length` bytes.
    #[inline(always)]
    pub(super) fn of_cmac(length: usize, subkeys: &[Word; 2]) -> Ends {
        let [whole, padded] = *subkeys;
        let bytes = length % BLOCK;
        let is_whole = bytes == 0 && length > 0;
        Ends { before: 0, last: if is_whole { whole } else { padded ^ 0x80 << (8 * bytes) } }
    }
}

/// The block that begins at `at`; where the bytes end within it, what there is of it.
#[inline(always)]
pub(super) fn load(bytes: &[u8], at: usize) -> Word {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<BLOCK>()) {
        Some(block) => word(block),
        None => load_end(bytes, at),
    }
}

#[cold]
#[inline(never)]
fn load_end(bytes: &[u8], at: usize) -> Word {
    end_of(bytes.get(at..).unwrap_or_default())
}

/// At most a block of bytes, and zeros. Two loads that overlap: a copy of so few bytes of unknown number costs more.
#[inline(always)]
pub(super) fn end_of(bytes: &[u8]) -> Word {
    let length = bytes.len();
    if let (Some(low), Some(high)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let high = Word::from(u64::from_le_bytes(*high));
        Word::from(u64::from_le_bytes(*low)) | high << (8 * (length.min(BLOCK) - 8))
    } else if let (Some(low), Some(high)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let high = u64::from(u32::from_le_bytes(*high));
        Word::from(u64::from(u32::from_le_bytes(*low)) | high << (8 * (length - 4)))
    } else {
        let shifted = |(at, byte): (usize, &u8)| u32::from(*byte) << (8 * at);
        Word::from(bytes.iter().enumerate().map(shifted).fold(0, |sum, byte| sum | byte))
    }
}

/// The counters that begin at a tag (RFC 5297, section 2.5). Their lower half begins with two bits of zero in its words, and
/// counts no cell to its end.
pub(super) struct Counter {
    high: u64,
    low: u64,
}

impl Counter {
    #[inline(always)]
    pub(super) fn new(tag: Word) -> Counter {
        let low = ((tag >> 64) as u64).swap_bytes();
        Counter { high: tag as u64, low: low & !(1 << 63 | 1 << 31) }
    }
    #[inline(always)]
    pub(super) fn fill(&mut self, blocks: &mut [Bytes]) {
        for block in blocks {
            let word = Word::from(self.low.swap_bytes()) << 64 | Word::from(self.high);
            *block = word.to_le_bytes();
            self.low += 1;
        }
    }
}

/// Encrypts the first `count` blocks. Those after them may be encrypted, too: what the machine takes at once costs the same
/// for fewer.
pub(super) struct Wide<'b> {
    pub(super) blocks: &'b mut [Bytes],
    pub(super) count: usize,
}

impl BlockSizeUser for Wide<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Wide<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let width = <B as ParBlocksSizeUser>::ParBlocksSize::USIZE;
        let rest = self.count % width;
        let up = self.count - rest + width;
        // Measured: blocks one by one cost somewhat more than twice as much.
        let count = if 5 * rest > 2 * width && up <= self.blocks.len() { up } else { self.count };
        let blocks = Block::cast_slice_from_core_mut(self.blocks.get_mut(..count).unwrap_or_default());
        let (many, few) = Array::<Block, B::ParBlocksSize>::slice_as_chunks_mut(blocks);
        for blocks in many {
            backend.encrypt_par_blocks_inplace(blocks);
        }
        for block in few {
            backend.encrypt_block_inplace(block);
        }
    }
}

/// As [`Wide`], for a handful of blocks: without what it takes to be ready for many.
pub(super) struct Narrow<'b>(pub(super) &'b mut [Bytes]);

impl BlockSizeUser for Narrow<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Narrow<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        for block in Block::cast_slice_from_core_mut(self.0) {
            backend.encrypt_block_inplace(block);
        }
    }
}

/// CMAC over one cell, from its nonce or first block to its tag, without leaving the cipher.
pub(super) struct Chain<'c, E> {
    /// The nonce as a block, where there is one.
    pub(super) nonce: Option<Word>,
    pub(super) cell: &'c [u8],
    /// How the cell ends, after the encrypted nonce.
    pub(super) ends: E,
    pub(super) tag: &'c mut Word,
}

impl<E> BlockSizeUser for Chain<'_, E> {
    type BlockSize = U16;
}

impl<E: FnOnce(Word) -> Ends> BlockCipherEncClosure for Chain<'_, E> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let encrypted = |block: Word| {
            let mut block = Block::from(block.to_le_bytes());
            backend.encrypt_block_inplace(&mut block);
            word(&block.0)
        };
        let Chain { nonce, cell, ends, tag } = self;
        let ends = ends(nonce.map_or(0, encrypted));
        let (firsts, last) = cell.split_at(BLOCK * (blocks_of(cell.len()) - 1));
        let mut state = 0;
        if let Some((firsts, before)) = firsts.split_last_chunk::<BLOCK>() {
            if !firsts.is_empty() {
                // Of many, bytes: a number would go through other registers between every two blocks.
                let mut bytes = Block::default();
                for block in firsts.as_chunks::<BLOCK>().0 {
                    bytes.iter_mut().zip(block).for_each(|(state, byte)| *state ^= byte);
                    backend.encrypt_block_inplace(&mut bytes);
                }
                state = word(&bytes.0);
            }
            state = encrypted(state ^ word(before) ^ ends.before);
        }
        *tag = encrypted(state ^ end_of(last) ^ ends.last);
    }
}
