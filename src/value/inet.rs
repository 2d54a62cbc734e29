//! `inet`: addresses with a prefix length, canonical as `inet_send` sends them (`network.c`).

use super::{DataType, Malformed, ValueError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `PGSQL_AF_INET` and `PGSQL_AF_INET6` (`inet.h`).
const FAMILY_4: u8 = 2;
const FAMILY_6: u8 = 3;

pub(super) fn read_text(text: &str, canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    let wrong = || ValueError::syntax(DataType::Inet);
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
        None => (text, None),
    };
    match address.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(address) => put(FAMILY_4, bits.unwrap_or(32), 32, &address.octets(), canonical),
        IpAddr::V6(address) => put(FAMILY_6, bits.unwrap_or(128), 128, &address.octets(), canonical),
    }
    .ok_or_else(wrong)
}

fn put(family: u8, bits: u8, bits_max: u8, octets: &[u8], canonical: &mut Vec<u8>) -> Option<()> {
    if bits > bits_max {
        return None;
    }
    canonical.extend_from_slice(&[family, bits, 0, u8::try_from(octets.len()).ok()?]);
    canonical.extend_from_slice(octets);
    Some(())
}

pub(super) fn read_binary(wire: &[u8], canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    let [family, bits, _cidr, _length, octets @ ..] = wire else { return Err(ValueError::binary()) };
    let stored = match (*family, octets.len()) {
        (FAMILY_4, 4) => put(FAMILY_4, *bits, 32, octets, canonical),
        (FAMILY_6, 16) => put(FAMILY_6, *bits, 128, octets, canonical),
        _ => None,
    };
    stored.ok_or_else(ValueError::binary)
}

pub(super) fn write_text(canonical: &[u8]) -> Result<String, Malformed> {
    let [family, bits, _cidr, _length, octets @ ..] = canonical else { return Err(Malformed) };
    let (address, full): (IpAddr, u8) = match *family {
        FAMILY_4 => (Ipv4Addr::from(<[u8; 4]>::try_from(octets).map_err(|_| Malformed)?).into(), 32),
        FAMILY_6 => (Ipv6Addr::from(<[u8; 16]>::try_from(octets).map_err(|_| Malformed)?).into(), 128),
        _ => return Err(Malformed),
    };
    Ok(if *bits == full { address.to_string() } else { format!("{address}/{bits}") })
}
