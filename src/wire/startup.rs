//! Start-up packets, which carry no tag: StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

use super::{Limits, Violation};
use bytes::{Bytes, BytesMut};

/// What a client sends first.
#[derive(Clone, PartialEq, Eq)]
pub enum Startup {
    Ssl,
    Gss,
    Cancel { process_id: i32, secret: Bytes },
    /// Protocol version as (major << 16 | minor) and the parameters in order, `user` and `database` among them.
    Start { version: u32, parameters: Vec<(String, String)> },
}

/// Takes one start-up packet off the front of `buffer`, or `None` when more bytes are needed.
pub fn split(_buffer: &mut BytesMut, _limits: &Limits) -> Result<Option<Startup>, Violation> {
    todo!()
}

/// Encodes a StartupMessage for protocol 3.0.
pub fn encode_start(_parameters: &[(String, String)]) -> Bytes {
    todo!()
}

/// Encodes a CancelRequest.
pub fn encode_cancel(_process_id: i32, _secret: &[u8]) -> Bytes {
    todo!()
}
