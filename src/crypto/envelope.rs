//! The envelope around one sealed cell; FORMAT.md specifies it. Parsing is total.

use super::{DomainId, KeyVersion, Mode, OpenCause};

/// Header, nonce and SIV of each mode, in bytes.
pub const HEADER_BYTES: usize = 5;
pub const NONCE_BYTES: usize = 12;
pub const SIV_BYTES: usize = 16;
pub const DETERMINISTIC_OVERHEAD_BYTES: usize = HEADER_BYTES + SIV_BYTES;
pub const RANDOMIZED_OVERHEAD_BYTES: usize = HEADER_BYTES + NONCE_BYTES + SIV_BYTES;

/// The first byte: format 1 in the high half, the mode in the low one.
pub fn mode_byte(mode: Mode) -> u8 {
    match mode {
        Mode::Deterministic => 0x11,
        Mode::Randomized => 0x12,
    }
}

/// How much longer than its plaintext a cell of this mode is, in bytes.
pub fn overhead(mode: Mode) -> usize {
    match mode {
        Mode::Deterministic => DETERMINISTIC_OVERHEAD_BYTES,
        Mode::Randomized => RANDOMIZED_OVERHEAD_BYTES,
    }
}

/// The header of every cell of a domain under one key version.
pub fn header(mode: Mode, domain: DomainId, version: KeyVersion) -> [u8; HEADER_BYTES] {
    let [d0, d1] = domain.0.to_be_bytes();
    let [v0, v1] = version.0.to_be_bytes();
    [mode_byte(mode), d0, d1, v0, v1]
}

/// A cell taken apart.
pub struct Envelope<'a> {
    pub mode: Mode,
    pub domain: DomainId,
    pub version: KeyVersion,
    pub header: &'a [u8; HEADER_BYTES],
    /// Empty for deterministic cells.
    pub nonce: &'a [u8],
    /// SIV and ciphertext.
    pub sealed: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Takes `cell` apart.
    ///
    /// # Errors
    /// [`OpenCause::NotAnEnvelope`] for another format, or fewer bytes than the overhead.
    pub fn parse(cell: &'a [u8]) -> Result<Envelope<'a>, OpenCause> {
        let (header, rest) = cell.split_first_chunk::<HEADER_BYTES>().ok_or(OpenCause::NotAnEnvelope)?;
        let [first, d0, d1, v0, v1] = *header;
        let mode = match first {
            0x11 => Mode::Deterministic,
            0x12 => Mode::Randomized,
            _ => return Err(OpenCause::NotAnEnvelope),
        };
        let nonce_bytes = overhead(mode) - HEADER_BYTES - SIV_BYTES;
        let (nonce, sealed) = rest.split_at_checked(nonce_bytes).ok_or(OpenCause::NotAnEnvelope)?;
        if sealed.len() < SIV_BYTES {
            return Err(OpenCause::NotAnEnvelope);
        }
        Ok(Envelope {
            mode,
            domain: DomainId(u16::from_be_bytes([d0, d1])),
            version: KeyVersion(u16::from_be_bytes([v0, v1])),
            header,
            nonce,
            sealed,
        })
    }
}
