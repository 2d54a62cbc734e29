//! Vectors, round trips and everything that must not open.

use super::*;

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

/// While keys rotate, cells of two versions stand side by side.
#[test]
fn versions_may_change_from_cell_to_cell() {
    for mode in [Mode::Deterministic, Mode::Randomized] {
        let cipher = cipher(1, mode, 1);
        let (mut plain, mut mixed) = (vec![], Cells::new());
        for number in 0..100_u8 {
            let (version, value) =
                (KeyVersion(1 + u16::from(number / 20 % 2 + number % 3 / 2) % 2), [number; 40]);
            let value = &value[..usize::from(number % 40)];
            let mut one = Cells::new();
            cipher.seal(version, &cells(&[value]), &mut Counter(number), &mut one).expect("seals");
            mixed.push(one.get(0));
            plain.push(value.to_vec());
        }
        assert_eq!(opened(&cipher, &mixed).expect("opens"), plain);
        let mut altered: Vec<Vec<u8>> = mixed.iter().map(<[u8]>::to_vec).collect();
        altered[71][9] ^= 4;
        altered[90][0] = 0;
        let altered: Vec<&[u8]> = altered.iter().map(Vec::as_slice).collect();
        let error = opened(&cipher, &cells(&altered)).expect_err("altered");
        assert_eq!(error, OpenError { cell: 71, cause: OpenCause::Altered });
        let error = opened(&cipher, &cells(&altered[72..])).expect_err("not an envelope");
        assert_eq!(error, OpenError { cell: 18, cause: OpenCause::NotAnEnvelope });
    }
}
