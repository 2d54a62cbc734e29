//! PostgreSQL's frontend/backend protocol as frames and views into them, with limits; and start-up packets.
//!
//! A [`Frame`] keeps the very bytes it came in, so that what is not touched leaves unchanged; [`Messages`], all that one read
//! brought, do so too. Reading a frame's content is total: every malformed body is a [`Violation`]. Lengths are computed in
//! u64 and capped.
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol". Deliberately absent: sockets, meaning, state.

pub mod backend;
pub mod frontend;
pub mod startup;

use bytes::{BufMut, Bytes, BytesMut};

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
pub fn split(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Frame>, Violation> {
    let Some(header) = buffer.first_chunk::<5>() else { return Ok(None) };
    let [_, length @ ..] = *header;
    let total = 1 + length_within(length, limits)?;
    if buffer.len() < total {
        return Ok(None);
    }
    Ok(Some(Frame { bytes: buffer.split_to(total).freeze() }))
}

/// Takes all whole messages off the front of `buffer`, in one piece; it is empty when more bytes are needed.
///
/// # Errors
/// As [`split`] for the first message; those before a bad one are taken.
pub fn whole(buffer: &mut BytesMut, limits: &Limits) -> Result<Messages, Violation> {
    let mut end = 0;
    while let Some([_, length @ ..]) = buffer[end..].first_chunk::<5>() {
        let after = match length_within(*length, limits) {
            Ok(length) => end + 1 + length,
            Err(violation) if end == 0 => return Err(violation),
            Err(_) => break,
        };
        if after > buffer.len() {
            break;
        }
        end = after;
    }
    Ok(Messages { bytes: buffer.split_to(end).freeze() })
}

/// Whole messages, one after the other in the bytes that they came in; iterating takes them off the front. What is taken
/// off shares these bytes.
#[derive(Clone, Default)]
pub struct Messages {
    bytes: Bytes,
}

impl Messages {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
    /// The tag of the first one.
    pub fn tag(&self) -> Option<u8> {
        self.bytes.first().copied()
    }
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
    /// Takes all up to the first that has another tag.
    pub fn take_run(&mut self, tag: u8) -> Messages {
        let mut end = 0;
        while self.bytes.get(end) == Some(&tag)
            && let Some(length) = end_of_first(&self.bytes[end..])
        {
            end += length;
        }
        Messages { bytes: self.bytes.split_to(end) }
    }
    /// The bodies of all.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (message, after) = rest.split_at(end_of_first(rest)?);
            rest = after;
            Some(&message[5..])
        })
    }
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bodies().count()
    }
    /// Puts `more` behind what there is.
    pub fn append(&mut self, more: Messages) {
        if self.is_empty() {
            *self = more;
        } else if !more.is_empty() {
            self.bytes = [&self.bytes[..], &more.bytes[..]].concat().into();
        }
    }
}

impl From<Frame> for Messages {
    fn from(frame: Frame) -> Messages {
        Messages { bytes: frame.bytes }
    }
}

impl Iterator for Messages {
    type Item = Frame;
    fn next(&mut self) -> Option<Frame> {
        let end = end_of_first(&self.bytes)?;
        Some(Frame { bytes: self.bytes.split_to(end) })
    }
}

/// Where the first of some whole messages ends; `None` where there is none.
fn end_of_first(messages: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *messages.first_chunk::<5>()?;
    let end = usize::try_from(u32::from_be_bytes(length)).ok()?.checked_add(1)?;
    (end <= messages.len()).then_some(end)
}

/// The length field (itself included), held to the limit; as usize, which is at least 32 bits here.
fn length_within(field: [u8; 4], limits: &Limits) -> Result<usize, Violation> {
    let length = i32::from_be_bytes(field);
    let length = u64::try_from(length).map_err(|_| Violation::new("invalid message length"))?;
    if length < 4 {
        return Err(Violation::new("invalid message length"));
    }
    if length + 1 > limits.message_bytes_max {
        return Err(Violation::new("message is longer than allowed"));
    }
    usize::try_from(length).map_err(|_| Violation::new("message is longer than allowed"))
}

impl Violation {
    pub fn new(text: &str) -> Violation {
        Violation(text.to_owned())
    }
}

/// Reads a message body from the front; every step checks what is left.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Violation> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Violation> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(short)?;
        self.rest = rest;
        Ok(*taken)
    }
    pub(crate) fn u8(&mut self) -> Result<u8, Violation> {
        self.array::<1>().map(|[byte]| byte)
    }
    pub(crate) fn i16(&mut self) -> Result<i16, Violation> {
        self.array().map(i16::from_be_bytes)
    }
    /// A count: negative ones are a violation.
    pub(crate) fn count(&mut self) -> Result<u16, Violation> {
        self.array().map(u16::from_be_bytes)
    }
    pub(crate) fn i32(&mut self) -> Result<i32, Violation> {
        self.array().map(i32::from_be_bytes)
    }
    pub(crate) fn u32(&mut self) -> Result<u32, Violation> {
        self.array().map(u32::from_be_bytes)
    }
    /// A NUL-terminated string, which must be UTF-8.
    pub(crate) fn string(&mut self) -> Result<&'a str, Violation> {
        std::str::from_utf8(self.raw_string()?).map_err(|_| Violation::new("invalid string in message"))
    }
    pub(crate) fn raw_string(&mut self) -> Result<&'a [u8], Violation> {
        let end = self.rest.iter().position(|byte| *byte == 0).ok_or_else(short)?;
        let text = self.bytes(end)?;
        self.bytes(1)?;
        Ok(text)
    }
    /// A value preceded by its length; -1 is NULL.
    pub(crate) fn value(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| Violation::new("invalid value length"))?;
                self.bytes(length).map(Some)
            }
        }
    }
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }
    pub(crate) fn end(self) -> Result<(), Violation> {
        if self.rest.is_empty() { Ok(()) } else { Err(Violation::new("invalid message format")) }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

fn short() -> Violation {
    Violation::new("insufficient data left in message")
}

/// Builds one message; the length is patched at the end.
pub(crate) struct Writer {
    out: BytesMut,
}

impl Writer {
    pub(crate) fn new(tag: u8) -> Writer {
        Writer::with_room(tag, 64)
    }
    /// For a message of about so many bytes.
    pub(crate) fn with_room(tag: u8, bytes: usize) -> Writer {
        let mut out = BytesMut::with_capacity(bytes);
        out.put_u8(tag);
        out.put_u32(0);
        Writer { out }
    }
    pub(crate) fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }
    pub(crate) fn i16(&mut self, value: i16) {
        self.out.put_i16(value);
    }
    pub(crate) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.out.put_u32(value);
    }
    /// A count of at most 65,535; more is cut off by the caller's own limits.
    pub(crate) fn count(&mut self, count: usize) {
        self.out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
    }
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }
    /// A NUL inside the text would end it early for the reader: it is left out.
    pub(crate) fn string(&mut self, text: &str) {
        if text.as_bytes().contains(&0) {
            self.out.extend(text.bytes().filter(|byte| *byte != 0));
        } else {
            self.out.put_slice(text.as_bytes());
        }
        self.out.put_u8(0);
    }
    pub(crate) fn value(&mut self, value: Option<&[u8]>) {
        match value {
            None => self.out.put_i32(-1),
            Some(bytes) => {
                self.out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.out.put_slice(bytes);
            }
        }
    }
    pub(crate) fn frame(mut self) -> Frame {
        let length = u32::try_from(self.out.len() - 1).unwrap_or(u32::MAX);
        self.out[1..5].copy_from_slice(&length.to_be_bytes());
        Frame { bytes: self.out.freeze() }
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod referee;
