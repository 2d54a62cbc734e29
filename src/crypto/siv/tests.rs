//! Bit for bit what `aes-siv` gives, for every length, with and without a nonce, alone and in groups of any shape.

use super::*;
use aes::Aes128Enc;
use aes_siv::siv::Aes256Siv;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Many cells in one buffer, and where they stand in it.
fn together(cells: &[Vec<u8>], around: usize) -> (Vec<u8>, Vec<Span>) {
    let (mut bytes, mut spans) = (vec![0xa5; around], vec![]);
    for cell in cells {
        spans.push(Span { start: bytes.len(), end: bytes.len() + cell.len() });
        bytes.extend_from_slice(cell);
        bytes.resize(bytes.len() + around, 0x5a);
    }
    (bytes, spans)
}

/// Room for cells that are this much longer.
fn room_for(cells: &[Vec<u8>], more: usize) -> (Vec<u8>, Vec<Span>) {
    let (mut end, mut spans) = (0, vec![]);
    for cell in cells {
        spans.push(Span { start: end, end: end + cell.len() + more });
        end += cell.len() + more;
    }
    (vec![0xee; end + SLACK], spans)
}

fn cut(bytes: &[u8], spans: &[Span]) -> Vec<Vec<u8>> {
    spans.iter().map(|span| bytes[span.start..span.end].to_vec()).collect()
}

fn sealed_in<const L: usize, const K: usize>(
    siv: &Siv<impl Cipher>,
    nonces: &[Nonce],
    cells: &[Vec<u8>],
) -> Vec<Vec<u8>> {
    let overhead = HEADER_BYTES + SIV_BYTES + if nonces.is_empty() { 0 } else { NONCE_BYTES };
    let (plain, from) = together(cells, 0);
    let (mut bytes, to) = room_for(cells, overhead);
    let (mut room, mut at) = (Room::<L, K>::new(), 0);
    while at < from.len() {
        let count = room.take(&from[at..], 0);
        let now = at..at + count;
        let nonces = nonces.get(now.clone()).unwrap_or_default();
        room.seal(siv, nonces, (&plain, &from[now.clone()]), (&mut bytes, &to[now]));
        at += count;
    }
    cut(&bytes, &to)
}

fn opened_in<const L: usize, const K: usize>(
    siv: &Siv<impl Cipher>,
    randomized: bool,
    sealed: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, usize> {
    let overhead = HEADER_BYTES + SIV_BYTES + if randomized { NONCE_BYTES } else { 0 };
    let texts: Vec<Vec<u8>> = sealed.iter().map(|cell| cell[overhead..].to_vec()).collect();
    // Not one after the other, and with nothing after the last one.
    let (bytes, from) = together(sealed, 3);
    let bytes = &bytes[..bytes.len() - 3];
    let (mut plain, to) = room_for(&texts, 0);
    let (mut room, mut at) = (Room::<L, K>::new(), 0);
    while at < from.len() {
        let count = room.take(&from[at..], overhead);
        let now = at..at + count;
        room.open(siv, randomized, (bytes, &from[now.clone()]), (&mut plain, &to[now]))
            .map_err(|cell| at + cell)?;
        at += count;
    }
    Ok(cut(&plain, &to))
}

/// One by one.
fn sealed_alone(siv: &Siv<impl Cipher>, nonces: &[Nonce], cells: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let overhead = HEADER_BYTES + SIV_BYTES + if nonces.is_empty() { 0 } else { NONCE_BYTES };
    let seal = |(at, cell): (usize, &Vec<u8>)| {
        let mut bytes = vec![0xee; cell.len() + overhead + SLACK];
        siv.seal_one(nonces.get(at), cell, &mut bytes);
        bytes.truncate(cell.len() + overhead);
        bytes
    };
    cells.iter().enumerate().map(seal).collect()
}

fn opened_alone(siv: &Siv<impl Cipher>, nonce: Option<&Nonce>, sealed: &[u8]) -> Option<Vec<u8>> {
    let (tag, text) = sealed.split_first_chunk::<SIV_BYTES>()?;
    let mut bytes = vec![0xee; text.len() + SLACK];
    siv.open_one(nonce, tag, text, &mut bytes).then(|| bytes[..text.len()].to_vec())
}

fn by_the_crate(key: &[u8; KEY_BYTES], header: &[u8], nonces: &[Nonce], cells: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut siv = Aes256Siv::new(key.into());
    let seal = |(at, cell): (usize, &Vec<u8>)| match nonces.get(at) {
        None => [header, &siv.encrypt([header], cell).unwrap()].concat(),
        Some(nonce) => [header, nonce, &siv.encrypt([header, nonce], cell).unwrap()].concat(),
    };
    cells.iter().enumerate().map(seal).collect()
}

/// Everything about one batch.
fn check(random: &mut StdRng, randomized: bool, cells: &[Vec<u8>]) {
    let (mut key, mut header) = ([0; KEY_BYTES], [0; HEADER_BYTES]);
    random.fill(&mut key);
    random.fill(&mut header);
    let mut nonces = vec![[0; NONCE_BYTES]; if randomized { cells.len() } else { 0 }];
    nonces.iter_mut().for_each(|nonce| random.fill(nonce));
    let siv = Siv::new(&key, header);
    let expected = by_the_crate(&key, &header, &nonces, cells);
    assert!(sealed_alone(&siv, &nonces, cells) == expected, "alone");
    assert!(sealed_in::<16, 64>(&siv, &nonces, cells) == expected, "in a small room");
    assert!(sealed_in::<64, 256>(&siv, &nonces, cells) == expected, "in a large room");
    let head = HEADER_BYTES + if randomized { NONCE_BYTES } else { 0 };
    for (at, (cell, sealed)) in cells.iter().zip(&expected).enumerate() {
        assert!(opened_alone(&siv, nonces.get(at), &sealed[head..]).as_ref() == Some(cell), "opened alone");
    }
    assert!(
        opened_in::<16, 64>(&siv, randomized, &expected).as_deref() == Ok(cells),
        "opened in a small room"
    );
    assert!(
        opened_in::<64, 256>(&siv, randomized, &expected).as_deref() == Ok(cells),
        "opened in a large room"
    );

    // One changed bit, after the header, is found in its cell; the header is not read here.
    let mut altered = expected;
    let at = random.random_range(0..altered.len());
    let byte = random.random_range(HEADER_BYTES..altered[at].len());
    altered[at][byte] ^= 1 << random.random_range(0..8);
    assert_eq!(opened_in::<16, 64>(&siv, randomized, &altered).err(), Some(at));
    assert_eq!(opened_in::<64, 256>(&siv, randomized, &altered).err(), Some(at));
    let nonce = altered[at][HEADER_BYTES..head].first_chunk();
    assert_eq!(opened_alone(&siv, nonce, &altered[at][head..]), None);
}

#[test]
fn every_length_is_as_the_crate_seals_it() {
    let mut random = StdRng::seed_from_u64(1);
    let mut cells: Vec<Vec<u8>> = (0..=300).map(|length| vec![0; length]).collect();
    cells.extend([1023, 1024, 1025, 4096, 70_000].map(|length| vec![0; length]));
    cells.iter_mut().for_each(|cell| random.fill(cell.as_mut_slice()));
    for randomized in [false, true] {
        check(&mut random, randomized, &cells);
        cells.reverse();
        for cells in cells.chunks(1) {
            check(&mut random, randomized, cells);
        }
    }
}

/// As many cells as `PGVEIL_TEST_CELLS` says, in batches of every shape; a failure prints the seed of its batch.
#[test]
fn batches_of_any_shape_are_as_the_crate_seals_them() {
    let wanted = std::env::var("PGVEIL_TEST_CELLS").map_or(10_000, |count| count.parse().unwrap());
    let (mut seed, mut done) = (0, 0);
    while done < wanted {
        let mut random = StdRng::seed_from_u64(seed);
        let count = [1, 2, 4, 15, 17, 63, 64, 65, 130, 300][random.random_range(0..10)];
        let longest = [1, 16, 17, 33, 64, 65, 128, 150, 400, 3000][random.random_range(0..10)];
        let alike = random.random_bool(0.3);
        let same = random.random_range(0..=longest);
        let mut cell = || {
            let length = if alike { same } else { random.random_range(0..=longest) };
            let mut cell = vec![0; length];
            random.fill(cell.as_mut_slice());
            cell
        };
        let cells: Vec<Vec<u8>> = (0..count).map(|_| cell()).collect();
        let randomized = seed % 2 == 1;
        println!("seed {seed}: {count} cells of up to {longest} bytes, randomized: {randomized}");
        check(&mut random, randomized, &cells);
        (seed, done) = (seed + 1, done + count);
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let mut bytes = vec![0; digits.len() / 2];
    faster_hex::hex_decode(digits.as_bytes(), &mut bytes).unwrap();
    bytes
}

/// RFC 5297, A.1 and A.2: with AES-128, and the nonce of A.2, which is not of our length, as one more associated datum.
#[test]
fn rfc_5297_vectors() {
    let vectors = [
        (
            "fffefdfc fbfaf9f8 f7f6f5f4 f3f2f1f0 f0f1f2f3 f4f5f6f7 f8f9fafb fcfdfeff",
            vec!["10111213 14151617 18191a1b 1c1d1e1f 20212223 24252627"],
            "11223344 55667788 99aabbcc ddee",
            "85632d07 c6e8f37f 950acd32 0a2ecc93 40c02b96 90c4dc04 daef7f6a fe5c",
        ),
        (
            "7f7e7d7c 7b7a7978 77767574 73727170 40414243 44454647 48494a4b 4c4d4e4f",
            vec![
                "00112233 44556677 8899aabb ccddeeff deaddada deaddada ffeeddcc bbaa9988 77665544 33221100",
                "10203040 50607080 90a0",
                "09f91102 9d74e35b d84156c5 635688c0",
            ],
            "74686973 20697320 736f6d65 20706c61 696e7465 78742074 6f20656e 63727970 74207573 696e6720 \
             5349562d 414553",
            "7bdb6e3b 432667eb 06f4d14b ff2fbd0f cb900f2f ddbe4043 26601965 c889bf17 dba77ceb 094fa663 \
             b7a3f748 ba8af829 ea64ad54 4a272e9c 485b62a3 fd5c0d",
        ),
    ];
    for (key, data, plain, sealed) in vectors {
        let (key, data, plain) = (hex(key), data.into_iter().map(hex).collect::<Vec<_>>(), hex(plain));
        let cipher = |half: &[u8]| Aes128Enc::new_from_slice(half).unwrap();
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        let siv = Siv::with(cipher(&key[..16]), cipher(&key[16..]), [0; HEADER_BYTES], &data);
        let expected = [&[0; HEADER_BYTES], hex(sealed).as_slice()].concat();
        for count in [1, 5, 64, 100] {
            let (cells, expected) = (vec![plain.clone(); count], vec![expected.clone(); count]);
            assert_eq!(sealed_alone(&siv, &[], &cells), expected);
            assert_eq!(sealed_in::<16, 64>(&siv, &[], &cells), expected);
            assert_eq!(sealed_in::<64, 256>(&siv, &[], &cells), expected);
            assert_eq!(opened_in::<64, 256>(&siv, false, &expected).as_ref(), Ok(&cells));
        }
    }
}
