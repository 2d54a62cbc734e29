//! `inet`: addresses with a prefix length, canonical as `inet_send` sends them (`network.c`), the `is_cidr` byte zero.

use super::{DataType, Malformed, ValueError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `PGSQL_AF_INET` and `PGSQL_AF_INET6` (`inet.h`).
const FAMILY_4: u8 = 2;
const FAMILY_6: u8 = 3;

/// `inet_in`: an address in full (IPv4 with leading zeros too, which are decimal), and `/bits`.
pub(super) fn read_text(text: &str, canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    let wrong = || ValueError::syntax(DataType::Inet);
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(decimal(bits).ok_or_else(wrong)?)),
        None => (text, None),
    };
    let stored = if address.contains(':') {
        // Only IPv4's reader takes leading zeros.
        if text.split_once('/').is_some_and(|(_, bits)| bits.len() > 1 && bits.starts_with('0')) {
            return Err(wrong());
        }
        let octets = address.parse::<Ipv6Addr>().map_err(|_| wrong())?.octets();
        put(FAMILY_6, bits.unwrap_or(128), 128, &octets, canonical)
    } else {
        let octets: Vec<u8> = address.split('.').map(decimal).collect::<Option<_>>().ok_or_else(wrong)?;
        if octets.len() != 4 {
            return Err(wrong());
        }
        put(FAMILY_4, bits.unwrap_or(32), 32, &octets, canonical)
    };
    stored.ok_or_else(wrong)
}

fn decimal(text: &str) -> Option<u8> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn put(family: u8, bits: u8, bits_max: u8, octets: &[u8], canonical: &mut Vec<u8>) -> Option<()> {
    if bits > bits_max {
        return None;
    }
    canonical.extend_from_slice(&[family, bits, 0, u8::try_from(octets.len()).ok()?]);
    canonical.extend_from_slice(octets);
    Some(())
}

/// `inet_recv`.
pub(super) fn read_binary(wire: &[u8], canonical: &mut Vec<u8>) -> Result<(), ValueError> {
    let [family, bits, _is_cidr, length, octets @ ..] = wire else { return Err(ValueError::binary()) };
    if usize::from(*length) != octets.len() {
        return Err(ValueError::new("22P03", "invalid length in external \"inet\" value"));
    }
    match (*family, octets.len()) {
        (FAMILY_4, 4) => put(FAMILY_4, *bits, 32, octets, canonical),
        (FAMILY_6, 16) => put(FAMILY_6, *bits, 128, octets, canonical),
        _ => return Err(ValueError::new("22P03", "invalid address family in external \"inet\" value")),
    }
    .ok_or_else(|| ValueError::new("22P03", "invalid bits in external \"inet\" value"))
}

/// `inet_out`; with `always_bits` as the cast to `text` prints it.
pub(super) fn write_text(canonical: &[u8], always_bits: bool) -> Result<String, Malformed> {
    let [family, bits, 0, length, octets @ ..] = canonical else { return Err(Malformed) };
    if usize::from(*length) != octets.len() {
        return Err(Malformed);
    }
    let (address, full): (IpAddr, u8) = match *family {
        FAMILY_4 => (Ipv4Addr::from(<[u8; 4]>::try_from(octets).map_err(|_| Malformed)?).into(), 32),
        FAMILY_6 => (Ipv6Addr::from(<[u8; 16]>::try_from(octets).map_err(|_| Malformed)?).into(), 128),
        _ => return Err(Malformed),
    };
    if *bits > full {
        return Err(Malformed);
    }
    let address = match address {
        IpAddr::V6(address) => embedded(&address).unwrap_or_else(|| address.to_string()),
        IpAddr::V4(address) => address.to_string(),
    };
    Ok(if *bits == full && !always_bits { address } else { format!("{address}/{bits}") })
}

/// PostgreSQL prints the last 32 bits of `::a.b.c.d` as IPv4 when exactly the first 96 are its longest run of zeros
/// (`inet_net_ntop.c`); the standard library does so for `::ffff:a.b.c.d` alone.
fn embedded(address: &Ipv6Addr) -> Option<String> {
    let segments = address.segments();
    let zeros = segments.iter().take_while(|segment| **segment == 0).count();
    let [.., a, b, c, d] = address.octets();
    (zeros == 6).then(|| format!("::{a}.{b}.{c}.{d}"))
}
