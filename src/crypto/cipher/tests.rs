//! Vectors, round trips and everything that must not open.

use super::*;
use aes_siv::Key;

struct Counter(u8);
impl Random for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
}

fn cipher(domain: u16, mode: Mode, key: u8) -> CellCipher {
    let keys = BTreeMap::from([
        (KeyVersion(1), Zeroizing::new([key; KEY_BYTES])),
        (KeyVersion(2), Zeroizing::new([key ^ 0xff; KEY_BYTES])),
    ]);
    CellCipher::new(DomainId(domain), mode, KeyVersion(2), keys)
}

fn cells(values: &[&[u8]]) -> Cells {
    let mut cells = Cells::new();
    values.iter().for_each(|value| cells.push(value));
    cells
}

fn sealed(cipher: &CellCipher, values: &[&[u8]]) -> Cells {
    let mut out = Cells::new();
    cipher.seal(KeyVersion(1), &cells(values), &mut Counter(0), &mut out).expect("version 1 is there");
    out
}

fn opened(cipher: &CellCipher, sealed: &Cells) -> Result<Vec<Vec<u8>>, OpenError> {
    let mut out = Cells::new();
    cipher.open(sealed, &mut out)?;
    Ok(out.iter().map(<[u8]>::to_vec).collect())
}

#[test]
fn batches_open_as_they_were_sealed() {
    let long = vec![7; 5000];
    let values: [&[u8]; 5] = [b"", b"a", b"exactly sixteen!", b"\0\xff", &long];
    for mode in [Mode::Deterministic, Mode::Randomized] {
        let cipher = cipher(3, mode, 9);
        let sealed = sealed(&cipher, &values);
        assert_eq!(opened(&cipher, &sealed).expect("opens"), values);
        for (value, cell) in values.iter().zip(sealed.iter()) {
            assert_eq!(cell.len(), value.len() + crate::crypto::envelope::overhead(mode));
        }
    }
}

#[test]
fn equal_values_are_equal_cells_only_where_that_is_wanted() {
    let same: [&[u8]; 2] = [b"x", b"x"];
    let deterministic = sealed(&cipher(1, Mode::Deterministic, 1), &same);
    assert_eq!(deterministic.get(0), deterministic.get(1));
    let randomized = sealed(&cipher(1, Mode::Randomized, 1), &same);
    assert_ne!(randomized.get(0), randomized.get(1));
    assert_ne!(deterministic.get(0), sealed(&cipher(2, Mode::Deterministic, 1), &same).get(0));
}

#[test]
fn any_changed_byte_fails_and_leaves_nothing() {
    for mode in [Mode::Deterministic, Mode::Randomized] {
        let cipher = cipher(1, mode, 1);
        let cell = sealed(&cipher, &[b"canary"]).get(0).to_vec();
        for at in 0..cell.len() {
            let mut altered = cell.clone();
            altered[at] ^= 1;
            let mut out = Cells::new();
            out.push(b"before");
            let error = cipher.open(&cells(&[&cell, &altered]), &mut out).expect_err("altered");
            assert_eq!((error.cell, out.len()), (1, 1), "byte {at}");
        }
        for length in 0..cell.len() {
            assert!(opened(&cipher, &cells(&[&cell[..length]])).is_err(), "cut to {length}");
        }
    }
}

#[test]
fn a_cell_opens_only_for_its_domain_mode_key_and_version() {
    let home = cipher(1, Mode::Deterministic, 1);
    let cell = sealed(&home, &[b"v"]);
    let cause = |other: CellCipher| opened(&other, &cell).expect_err("foreign").cause;
    assert_eq!(cause(cipher(2, Mode::Deterministic, 1)), OpenCause::OtherDomain);
    assert_eq!(cause(cipher(1, Mode::Randomized, 1)), OpenCause::OtherDomain);
    assert_eq!(cause(cipher(1, Mode::Deterministic, 2)), OpenCause::Altered);
    let keys = BTreeMap::from([(KeyVersion(2), Zeroizing::new([1; KEY_BYTES]))]);
    let newer = CellCipher::new(DomainId(1), Mode::Deterministic, KeyVersion(2), keys);
    assert_eq!(cause(newer), OpenCause::UnknownVersion(KeyVersion(1)));
}

/// RFC 5297, A.1 (deterministic) and A.2 (nonce-based) use AES-128; the same calls with its keys show that associated
/// data and nonce go where the RFC says.
#[test]
fn rfc_5297_vectors() {
    let hex = |text: &str| {
        let digits: String = text.split_whitespace().collect();
        let mut bytes = vec![0; digits.len() / 2];
        faster_hex::hex_decode(digits.as_bytes(), &mut bytes).expect("hex");
        bytes
    };
    let key = hex("fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff");
    let mut siv =
        aes_siv::siv::Aes128Siv::new(&Key::<aes_siv::siv::Aes128Siv>::try_from(key.as_slice()).expect("32"));
    let ad = hex("10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627");
    let out = siv.encrypt([&ad], &hex("11223344 55667788 99aabbcc ddee")).expect("seals");
    assert_eq!(out, hex("85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c"));

    let key = hex("7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f");
    let mut siv =
        aes_siv::siv::Aes128Siv::new(&Key::<aes_siv::siv::Aes128Siv>::try_from(key.as_slice()).expect("32"));
    let ad1 =
        hex("00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100");
    let ad2 = hex("10203040 50607080 90a0");
    let nonce = hex("09f91102 9d74e35b d84156c5 635688c0");
    let plain = hex(
        "74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 74207573 696e6720 5349562d 414553",
    );
    let out = siv.encrypt([&ad1, &ad2, &nonce], &plain).expect("seals");
    assert_eq!(
        out,
        hex(
            "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 b7a3f748 ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d"
        )
    );
}
