//! AES-256-SIV over the cells of one domain, in batches.

use super::envelope::{Envelope, NONCE_BYTES, SIV_BYTES, header, overhead};
use super::{Cells, DomainId, KeyVersion, Mode, OpenCause, OpenError, Random};
use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Bytes of an AES-256-SIV key: half for S2V, half for CTR.
pub(super) const KEY_BYTES: usize = 64;

/// Seals and opens the cells of one domain: all versions of its key for opening, one for sealing.
pub struct CellCipher {
    domain: DomainId,
    mode: Mode,
    current: KeyVersion,
    keys: BTreeMap<KeyVersion, Zeroizing<[u8; KEY_BYTES]>>,
}

impl CellCipher {
    /// `keys` holds `current`.
    pub(super) fn new(
        domain: DomainId,
        mode: Mode,
        current: KeyVersion,
        keys: BTreeMap<KeyVersion, Zeroizing<[u8; KEY_BYTES]>>,
    ) -> CellCipher {
        debug_assert!(keys.contains_key(&current));
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
        self.keys.contains_key(&version)
    }

    fn siv(&self, version: KeyVersion) -> Option<Aes256Siv> {
        let key: &[u8; KEY_BYTES] = self.keys.get(&version)?;
        Some(Aes256Siv::new(key.into()))
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
        let mut siv = self.siv(version).ok_or(OpenCause::UnknownVersion(version))?;
        let header = header(self.mode, self.domain, version);
        let mut nonces = vec![];
        if self.mode == Mode::Randomized {
            nonces.resize(NONCE_BYTES * plain.len(), 0);
            random.fill(&mut nonces);
        }
        let mut nonces = nonces.chunks_exact(NONCE_BYTES);
        sealed.reserve(plain.bytes_total() + overhead(self.mode) * plain.len());
        for cell in plain.iter() {
            let nonce = nonces.next().unwrap_or_default();
            sealed.reserve(cell.len() + overhead(self.mode));
            sealed.push_with(|out| {
                out.extend_from_slice(&header);
                out.extend_from_slice(nonce);
                encrypt(&mut siv, &header, nonce, cell, out);
            });
        }
        Ok(())
    }

    /// Opens every envelope of `sealed` and appends the plaintexts to `plain`, in order.
    ///
    /// # Errors
    /// The first cell that does not open; nothing of the batch is left in `plain`.
    pub fn open(&self, sealed: &Cells, plain: &mut Cells) -> Result<(), OpenError> {
        let before = plain.len();
        // The key schedule is kept while the version stays the same, which it mostly does.
        let mut siv: Option<(KeyVersion, Aes256Siv)> = None;
        for (index, cell) in sealed.iter().enumerate() {
            if let Err(cause) = self.open_one(cell, &mut siv, plain) {
                plain.truncate(before);
                return Err(OpenError { cell: index, cause });
            }
        }
        Ok(())
    }

    fn open_one(
        &self,
        cell: &[u8],
        kept: &mut Option<(KeyVersion, Aes256Siv)>,
        plain: &mut Cells,
    ) -> Result<(), OpenCause> {
        let envelope = Envelope::parse(cell)?;
        if envelope.domain != self.domain || envelope.mode != self.mode {
            return Err(OpenCause::OtherDomain);
        }
        let siv = match kept {
            Some((version, siv)) if *version == envelope.version => siv,
            _ => {
                let siv = self.siv(envelope.version).ok_or(OpenCause::UnknownVersion(envelope.version))?;
                &mut kept.insert((envelope.version, siv)).1
            }
        };
        plain.reserve(envelope.sealed.len());
        plain.push_with(|out| decrypt(siv, &envelope, out)).ok_or(OpenCause::Altered)
    }
}

/// Appends SIV and ciphertext of `plain`. At most two associated data: far below S2V's limit of 126, which is the only
/// error there is.
fn encrypt(siv: &mut Aes256Siv, header: &[u8], nonce: &[u8], plain: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; SIV_BYTES]);
    out.extend_from_slice(plain);
    let (tag, text) = out[start..].split_at_mut(SIV_BYTES);
    let result = match nonce {
        [] => siv.encrypt_inout_detached([header], text.into()),
        nonce => siv.encrypt_inout_detached([header, nonce], text.into()),
    };
    tag.copy_from_slice(&result.expect("two associated data are below the limit of S2V"));
}

/// Appends the plaintext. `None`: the SIV does not fit, and what was appended is ciphertext again.
fn decrypt(siv: &mut Aes256Siv, envelope: &Envelope<'_>, out: &mut Vec<u8>) -> Option<()> {
    let header: &[u8] = envelope.header;
    let (tag, ciphertext) = envelope.sealed.split_first_chunk::<SIV_BYTES>()?;
    let start = out.len();
    out.extend_from_slice(ciphertext);
    let text = &mut out[start..];
    let result = match envelope.nonce {
        [] => siv.decrypt_inout_detached([header], text.into(), tag.into()),
        nonce => siv.decrypt_inout_detached([header, nonce], text.into(), tag.into()),
    };
    result.ok()
}

#[cfg(test)]
mod tests;
