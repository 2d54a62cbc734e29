//! Where a client really comes from, when a load balancer stands in between (PROXY protocol, version 2).
//!
//! Guarantees: only listed addresses may say where a client comes from, and they must; a header is at most 536 bytes long, as the
//! protocol has it without large extensions, and nothing is read behind it. Deliberately absent: version 1 of the protocol, and its
//! extensions' meanings.

use super::stream::Stream;
use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header, ParseError};
use std::net::SocketAddr;
use tokio::io::AsyncReadExt;

/// Without extensions a header has at most 232 bytes (addresses of Unix sockets); some are sent with a few.
const HEADER_BYTES_MAX: usize = 536;
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// The stream behind the header, and the address that it names; a connection of somebody else is as it is.
///
/// # Errors
/// Why the connection is dropped: a listed address says nothing, or nonsense.
pub(super) async fn origin(
    mut stream: Box<dyn Stream>,
    peer: Option<SocketAddr>,
    proxies: &[IpNet],
) -> Result<(Box<dyn Stream>, Option<SocketAddr>), &'static str> {
    let listed = peer.is_some_and(|peer| proxies.iter().any(|net| net.contains(&peer.ip().to_canonical())));
    if !listed {
        return Ok((stream, peer));
    }
    const NONE: &str = "no PROXY header (version 2) from an address that must send one";
    let mut header = vec![0; FIXED_BYTES];
    stream.read_exact(&mut header).await.map_err(|_| NONE)?;
    if !header.starts_with(ppp::v2::PROTOCOL_PREFIX) {
        return Err(NONE);
    }
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if FIXED_BYTES + rest > HEADER_BYTES_MAX {
        return Err("the PROXY header is too long");
    }
    header.resize(FIXED_BYTES + rest, 0);
    stream.read_exact(&mut header[FIXED_BYTES..]).await.map_err(|_| "the PROXY header is cut off")?;
    let parsed =
        Header::try_from(header.as_slice()).map_err(|_: ParseError| "the PROXY header is malformed")?;
    let address = match (parsed.command, parsed.addresses) {
        // The load balancer speaks for itself: a health check.
        (Command::Local, _) => peer,
        (Command::Proxy, Addresses::IPv4(ip)) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        (Command::Proxy, Addresses::IPv6(ip)) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        (Command::Proxy, Addresses::Unix(_) | Addresses::Unspecified) => {
            return Err("the PROXY header names no address");
        }
    };
    Ok((stream, address))
}
