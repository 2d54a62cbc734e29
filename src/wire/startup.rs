//! Start-up packets, which carry no tag: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

use super::{Limits, Reader, Violation};
use bytes::{BufMut, Bytes, BytesMut};

/// What a client sends first.
#[derive(Clone, PartialEq, Eq)]
pub enum Startup {
    Ssl,
    Gss,
    Cancel {
        process_id: i32,
        secret: Bytes,
    },
    /// Protocol version as (major << 16 | minor) and the parameters in order, `user` and `database` among them; none where
    /// major is not 3.
    Start {
        version: u32,
        parameters: Vec<(String, String)>,
    },
}

/// Takes one start-up packet off the front of `buffer`, or `None` when more bytes are needed.
///
/// # Errors
/// A length below 8 or above the limit (nothing is reserved for it), a request code that PostgreSQL does not have, a cancel
/// secret outside 4 to 256 bytes, parameters that are not NUL-terminated UTF-8.
pub fn split(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Startup>, Violation> {
    let Some(field) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = super::length_within(*field, limits)?;
    if length < 8 {
        return Err(Violation::new("invalid length of startup packet"));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let packet = buffer.split_to(length).freeze();
    let mut reader = Reader::new(&packet[4..]);
    match reader.u32()? {
        SSL_REQUEST => reader.end().map(|()| Some(Startup::Ssl)),
        GSS_REQUEST => reader.end().map(|()| Some(Startup::Gss)),
        CANCEL_REQUEST => {
            let process_id = reader.i32()?;
            let secret = reader.rest();
            if !(4..=256).contains(&secret.len()) {
                return Err(Violation::new("invalid length of cancel request"));
            }
            Ok(Some(Startup::Cancel { process_id, secret: Bytes::copy_from_slice(secret) }))
        }
        version if version >> 16 == 3 => start(version, reader).map(Some),
        // How another version lays out what follows is not known: its number is all that can be answered.
        version if version >> 16 < 1000 => Ok(Some(Startup::Start { version, parameters: vec![] })),
        _ => Err(Violation::new("unsupported startup packet")),
    }
}

fn start(version: u32, mut reader: Reader<'_>) -> Result<Startup, Violation> {
    let mut parameters = vec![];
    while !reader.is_empty() {
        let name = reader.string()?;
        if name.is_empty() {
            reader.end()?;
            return Ok(Startup::Start { version, parameters });
        }
        parameters.push((name.to_owned(), reader.string()?.to_owned()));
    }
    Err(Violation::new("invalid startup packet layout: expected terminator as last byte"))
}

/// Request codes: protocol.h, `NEGOTIATE_SSL_CODE` and its neighbours.
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Encodes an SSLRequest.
pub fn encode_ssl_request() -> Bytes {
    let mut out = BytesMut::with_capacity(8);
    out.put_u32(8);
    out.put_u32(SSL_REQUEST);
    out.freeze()
}

/// Encodes a StartupMessage for protocol 3.0.
pub fn encode_start(parameters: &[(String, String)]) -> Bytes {
    let mut out = BytesMut::with_capacity(128);
    out.put_u32(0);
    out.put_u32(3 << 16);
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(text.bytes().filter(|byte| *byte != 0));
        out.put_u8(0);
    }
    out.put_u8(0);
    patch(out)
}

fn patch(mut out: BytesMut) -> Bytes {
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// Encodes a CancelRequest.
pub fn encode_cancel(process_id: i32, secret: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u32(0);
    out.put_u32(CANCEL_REQUEST);
    out.put_i32(process_id);
    out.put_slice(secret);
    patch(out)
}
