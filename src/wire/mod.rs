//! PostgreSQL's frontend/backend protocol as frames and views into them, with limits; and start-up packets.
//!
//! A [`Frame`] keeps the very bytes it came in, so that what is not touched leaves unchanged. Reading a frame's
//! content is total: every malformed body is a [`Violation`]. Lengths are computed in u64 and capped.
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol". Deliberately absent: sockets, meaning, state.

pub mod backend;
pub mod frontend;
pub mod startup;

use bytes::{Bytes, BytesMut};

/// The peer broke the protocol: FATAL 08P01 and the connection ends. The text never quotes the peer's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

/// Caps on what a peer may make us hold, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one message, tag and length included.
    pub message_bytes_max: u64,
}

/// One protocol message with its tag, exactly as received or as it will be sent.
#[derive(Clone)]
pub struct Frame {
    bytes: Bytes,
}

impl Frame {
    /// Wraps a complete message: tag, length, body.
    pub fn from_bytes(bytes: Bytes) -> Frame {
        debug_assert!(bytes.len() >= 5);
        Frame { bytes }
    }
    pub fn tag(&self) -> u8 {
        self.bytes[0]
    }
    /// The body after tag and length.
    pub fn body(&self) -> &[u8] {
        &self.bytes[5..]
    }
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Takes the next whole message off the front of `buffer`, or `None` when more bytes are needed.
///
/// # Errors
/// A length below 4 or above the limit is a [`Violation`]; nothing is reserved for it.
pub fn split(_buffer: &mut BytesMut, _limits: &Limits) -> Result<Option<Frame>, Violation> {
    todo!()
}
