//! Messages from the client: tags, views, and encoding of those that we make ourselves.

use super::{Frame, Violation};
use bytes::Bytes;

pub const BIND: u8 = b'B';
pub const CLOSE: u8 = b'C';
pub const COPY_DATA: u8 = b'd';
pub const COPY_DONE: u8 = b'c';
pub const COPY_FAIL: u8 = b'f';
pub const DESCRIBE: u8 = b'D';
pub const EXECUTE: u8 = b'E';
pub const FLUSH: u8 = b'H';
pub const FUNCTION_CALL: u8 = b'F';
pub const PARSE: u8 = b'P';
/// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share it.
pub const PASSWORD: u8 = b'p';
pub const QUERY: u8 = b'Q';
pub const SYNC: u8 = b'S';
pub const TERMINATE: u8 = b'X';

/// `Q`: the text of a simple query.
pub fn query_text(_frame: &Frame) -> Result<&str, Violation> {
    todo!()
}

pub fn encode_query(_sql: &str) -> Frame {
    todo!()
}

/// `P`.
pub struct Parse<'a> {
    pub name: &'a str,
    pub sql: &'a str,
    /// The parameter types that the client declares; 0 is unspecified. May be shorter than the parameters used.
    pub types: Vec<u32>,
}

impl<'a> Parse<'a> {
    pub fn view(_frame: &'a Frame) -> Result<Parse<'a>, Violation> {
        todo!()
    }
    pub fn encode(&self) -> Frame {
        todo!()
    }
}

/// `B`. Format codes are as sent: none (all text), one (for all) or one each; anything but 0 and 1 is a violation.
pub struct Bind<'a> {
    pub portal: &'a str,
    pub statement: &'a str,
    pub parameter_formats: Vec<i16>,
    /// `None` is NULL.
    pub parameters: Vec<Option<&'a [u8]>>,
    pub result_formats: Vec<i16>,
}

impl<'a> Bind<'a> {
    pub fn view(_frame: &'a Frame) -> Result<Bind<'a>, Violation> {
        todo!()
    }
    pub fn encode(&self) -> Frame {
        todo!()
    }
    /// The format code of parameter `index` under the none/one/each rule.
    pub fn parameter_format(&self, _index: usize) -> i16 {
        todo!()
    }
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// `D` and `C`: kind and name.
pub fn target(_frame: &Frame) -> Result<(Target, &str), Violation> {
    todo!()
}

pub fn encode_describe(_target: Target, _name: &str) -> Frame {
    todo!()
}

pub fn encode_close(_target: Target, _name: &str) -> Frame {
    todo!()
}

/// `E`: portal name and row limit (0 is no limit; negative counts as 0, as PostgreSQL does).
pub fn execute(_frame: &Frame) -> Result<(&str, u32), Violation> {
    todo!()
}

pub fn encode_execute(_portal: &str, _rows_max: u32) -> Frame {
    todo!()
}

pub fn encode_sync() -> Frame {
    Frame::from_bytes(Bytes::from_static(b"S\0\0\0\x04"))
}

pub fn encode_flush() -> Frame {
    Frame::from_bytes(Bytes::from_static(b"H\0\0\0\x04"))
}

pub fn encode_terminate() -> Frame {
    Frame::from_bytes(Bytes::from_static(b"X\0\0\0\x04"))
}

/// `f`.
pub fn encode_copy_fail(_reason: &str) -> Frame {
    todo!()
}

/// `p` as PasswordMessage / SASLResponse: the raw data.
pub fn encode_password(_data: &[u8]) -> Frame {
    todo!()
}

/// `p` as SASLInitialResponse.
pub fn encode_sasl_initial(_mechanism: &str, _data: &[u8]) -> Frame {
    todo!()
}

/// Reads `p` as SASLInitialResponse: mechanism and data.
pub fn sasl_initial(_frame: &Frame) -> Result<(&str, &[u8]), Violation> {
    todo!()
}
