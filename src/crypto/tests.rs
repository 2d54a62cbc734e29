//! The envelope against vectors that other code made, and batches of any shape.

use super::keyring::cell_key;
use super::siv::KEY_BYTES;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Gives the bytes it was made with, in order, over and over.
struct Given(Vec<u8>, usize);

impl Random for Given {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
    }
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = vec![0; text.len() / 2];
    faster_hex::hex_decode(text.as_bytes(), &mut bytes).expect("hexadecimal");
    bytes
}

fn batch(cells: &[Vec<u8>]) -> Cells {
    let mut batch = Cells::new();
    cells.iter().for_each(|cell| batch.push(cell));
    batch
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    mode: String,
    domain: u16,
    version: u16,
    data_key: String,
    nonce: String,
    plaintext: String,
    envelope: String,
}

impl Vector {
    fn cipher(&self) -> CellCipher {
        let secret = <[u8; KEY_BYTES]>::try_from(bytes(&self.data_key)).expect("64 bytes");
        let (domain, version) = (DomainId(self.domain), KeyVersion(self.version));
        let keys = BTreeMap::from([(version, cell_key(&secret, domain, self.mode()))]);
        CellCipher::new(domain, self.mode(), version, keys)
    }
    fn mode(&self) -> Mode {
        if self.mode == "randomized" { Mode::Randomized } else { Mode::Deterministic }
    }
}

#[test]
fn envelopes_are_those_that_another_implementation_makes() {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../tests/vectors/envelope.json")).expect("vectors");
    assert!(vectors.len() >= 48);
    for vector in vectors {
        let (cipher, envelope) = (vector.cipher(), bytes(&vector.envelope));
        let plaintext = bytes(&vector.plaintext);
        let mut nonce = Given(if vector.nonce.is_empty() { vec![0] } else { bytes(&vector.nonce) }, 0);
        let mut sealed = Cells::new();
        let version = KeyVersion(vector.version);
        cipher
            .seal(version, &batch(std::slice::from_ref(&plaintext)), &mut nonce, &mut sealed)
            .expect("version is there");
        assert_eq!(sealed.get(0), envelope, "{} {}", vector.mode, plaintext.len());
        let mut opened = Cells::new();
        cipher.open(&batch(&[envelope]), &mut opened).expect("opens");
        assert_eq!(opened.get(0), plaintext);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_is_its_cells_one_by_one(
        cells in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..40),
        randomized: bool,
        seed in prop::collection::vec(any::<u8>(), 1..50),
        spoilt: prop::sample::Index,
    ) {
        let mode = if randomized { Mode::Randomized } else { Mode::Deterministic };
        let keys = BTreeMap::from([(KeyVersion(3), cell_key(&[5; KEY_BYTES], DomainId(4), mode))]);
        let cipher = CellCipher::new(DomainId(4), mode, KeyVersion(3), keys);
        let mut whole = Cells::new();
        cipher.seal(KeyVersion(3), &batch(&cells), &mut Given(seed.clone(), 0), &mut whole).expect("seals");
        let mut random = Given(seed, 0);
        let mut single = Cells::new();
        for cell in &cells {
            let one = batch(std::slice::from_ref(cell));
            cipher.seal(KeyVersion(3), &one, &mut random, &mut single).expect("seals");
        }
        prop_assert!(whole.iter().eq(single.iter()));
        let mut opened = Cells::new();
        cipher.open(&whole, &mut opened).expect("opens");
        prop_assert!(opened.iter().eq(cells.iter().map(Vec::as_slice)));

        if !cells.is_empty() {
            let at = spoilt.index(cells.len());
            let mut altered: Vec<Vec<u8>> = whole.iter().map(<[u8]>::to_vec).collect();
            *altered[at].last_mut().expect("no envelope is empty") ^= 0x80;
            let error = cipher.open(&batch(&altered), &mut opened).expect_err("altered");
            prop_assert_eq!(error, OpenError { cell: at, cause: OpenCause::Altered });
            prop_assert_eq!(opened.len(), cells.len(), "nothing of a batch that fails stays");
        }
    }

    #[test]
    fn any_bytes_are_refused_or_taken_apart(cell in prop::collection::vec(any::<u8>(), 0..80)) {
        match envelope::Envelope::parse(&cell) {
            Ok(parsed) => {
                prop_assert_eq!(&envelope::header(parsed.mode, parsed.domain, parsed.version), parsed.header);
                prop_assert_eq!([parsed.header, parsed.nonce, parsed.sealed].concat(), cell);
            }
            Err(cause) => prop_assert_eq!(cause, OpenCause::NotAnEnvelope),
        }
    }
}

#[test]
fn cells_are_cut_off_whole() {
    let mut cells = Cells::new();
    cells.push(b"kept");
    cells.push(&[7; 3000]);
    cells.push(b"");
    cells.truncate(2);
    assert!(cells.iter().eq([b"kept".as_slice(), &[7; 3000]]));
    cells.truncate(5);
    assert_eq!(cells.len(), 2);
    cells.truncate(1);
    assert_eq!((cells.len(), cells.bytes_total(), cells.get(0)), (1, 4, b"kept".as_slice()));
    cells.clear();
    assert!(cells.is_empty() && cells.bytes_total() == 0);
}
