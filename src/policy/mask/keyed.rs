//! Masks that are made with a key, and so never by the server.

use super::{number, put, redacted};
use crate::crypto::MaskKey;
use crate::policy::form::Kind;
use crate::value::DataType;
use fake::Fake;
use fake::faker::address::en::{BuildingNumber, CityName, StreetName};
use fake::faker::company::en::CompanyName;
use fake::faker::name::en::{FirstName, LastName};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use zeroize::Zeroizing;

pub(super) fn hash(data_type: &DataType, canonical: &[u8], key: &MaskKey, out: &mut Vec<u8>) -> Option<()> {
    let digest = key.fingerprint(canonical);
    match data_type {
        DataType::Uuid => out.extend_from_slice(digest.get(..16)?),
        DataType::Bytea => out.extend_from_slice(&digest),
        // No sign: who sees one looks for a meaning.
        DataType::Bigint => {
            let number = i64::from_be_bytes(*digest.first_chunk()?) & i64::MAX;
            out.extend_from_slice(&number.to_be_bytes());
        }
        _ => {
            let mut room = [0; 16];
            put(data_type, &[faster_hex::hex_encode(digest.get(..8)?, &mut room).ok()?], out);
        }
    }
    Some(())
}

/// Something of this kind that nobody has, or that says nothing of anybody: the addresses are of domains for examples (RFC
/// 2606), the numbers of a country code that is nobody's.
pub(super) fn fake(kind: Kind, canonical: &[u8], key: &MaskKey) -> String {
    let mut rng = ChaCha8Rng::from_seed(*key.seed(canonical));
    let first = |rng: &mut ChaCha8Rng| -> String { FirstName().fake_with_rng(rng) };
    let last = |rng: &mut ChaCha8Rng| -> String { LastName().fake_with_rng(rng) };
    match kind {
        Kind::Name => format!("{} {}", first(&mut rng), last(&mut rng)),
        Kind::FirstName => first(&mut rng),
        Kind::LastName => last(&mut rng),
        Kind::Email => {
            let letters = |name: String| -> String {
                name.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase()).collect()
            };
            let (first, last) = (letters(first(&mut rng)), letters(last(&mut rng)));
            let top = ["com", "net", "org"][rng.random_range(0..3)];
            format!("{first}.{last}{}@example.{top}", rng.random_range(1..1000))
        }
        Kind::Phone => {
            let [area, number] = [rng.random_range(100..1000), rng.random_range(100_000..1_000_000)];
            format!("+999 {area} {number}")
        }
        Kind::City => CityName().fake_with_rng(&mut rng),
        Kind::Street => {
            let number: String = BuildingNumber().fake_with_rng(&mut rng);
            let street: String = StreetName().fake_with_rng(&mut rng);
            format!("{number} {street}")
        }
        Kind::Company => CompanyName().fake_with_rng(&mut rng),
    }
}

/// Other digits in the place of the digits.
pub(super) fn ff1(data_type: &DataType, canonical: &[u8], key: &MaskKey, out: &mut Vec<u8>) -> Option<()> {
    let shown = match data_type {
        DataType::Smallint | DataType::Integer | DataType::Bigint => {
            let value = number::integer(canonical)?;
            let mut digits = Zeroizing::new(value.unsigned_abs().to_string().into_bytes());
            let sign = value.signum();
            walk(key, &mut digits, |digits| {
                signed(sign, digits).is_some_and(|value| in_range(data_type, value))
            })
            .and_then(|()| signed(sign, &digits))
            .map(|value| out.extend_from_slice(&value.to_be_bytes()))
        }
        DataType::Numeric(_) => {
            let text = std::str::from_utf8(canonical).ok()?;
            let (sign, digits) = text.split_at(text.len() - text.trim_start_matches('-').len());
            let mut digits = Zeroizing::new(digits.as_bytes().to_vec());
            walk(key, &mut digits, |_| true).map(|()| {
                out.extend_from_slice(sign.as_bytes());
                out.extend_from_slice(&digits);
            })
        }
        _ => spaced(std::str::from_utf8(canonical).ok()?, key, out),
    };
    if shown.is_none() {
        redacted(data_type, out);
    }
    Some(())
}

/// Permutes until what comes out is a number that the type holds, without a 0 in front: so it stays a permutation.
fn walk(key: &MaskKey, digits: &mut [u8], holds: impl Fn(&[u8]) -> bool) -> Option<()> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let as_numerals = |digits: &mut [u8]| digits.iter_mut().for_each(|digit| *digit -= b'0');
    let as_text = |digits: &mut [u8]| digits.iter_mut().for_each(|digit| *digit += b'0');
    loop {
        as_numerals(digits);
        let permuted = key.permute(digits);
        as_text(digits);
        permuted?;
        if digits.first() != Some(&b'0') && holds(digits) {
            return Some(());
        }
    }
}

fn signed(sign: i64, digits: &[u8]) -> Option<i64> {
    let magnitude: i128 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    i64::try_from(i128::from(sign) * magnitude).ok()
}

fn in_range(data_type: &DataType, value: i64) -> bool {
    *data_type != DataType::Integer || i32::try_from(value).is_ok()
}

/// Digits with what is usual between them, which is kept where it stands. Anything else would show.
fn spaced(text: &str, key: &MaskKey, out: &mut Vec<u8>) -> Option<()> {
    let between = |byte: &u8| b" -./()+".contains(byte);
    let bytes = text.as_bytes();
    if !bytes.iter().all(|byte| byte.is_ascii_digit() || between(byte)) {
        return None;
    }
    let mut digits = Zeroizing::new(
        bytes.iter().filter(|byte| !between(byte)).map(|digit| digit - b'0').collect::<Vec<u8>>(),
    );
    key.permute(&mut digits)?;
    let mut next = digits.iter();
    let shown = bytes.iter().map(|byte| match byte {
        byte if between(byte) => *byte,
        _ => next.next().map_or(b'0', |digit| b'0' + digit),
    });
    out.extend(shown);
    Some(())
}
