//! Messages from the client: tags, views, and encoding of those that we make ourselves.

use super::{Frame, Reader, Violation, Writer};
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

/// `p`: a password, or what stands in for one.
pub fn password(frame: &Frame) -> Result<&str, Violation> {
    let mut reader = Reader::new(frame.body());
    let password = reader.string()?;
    reader.end().map(|()| password)
}

/// `Q`: the text of a simple query.
pub fn query_text(frame: &Frame) -> Result<&str, Violation> {
    let mut reader = Reader::new(frame.body());
    let sql = reader.string()?;
    reader.end().map(|()| sql)
}

/// Whether the text of a Query, or the name or text of a Parse, is whole and not UTF-8: the client's mistake, not the protocol's.
pub fn is_garbled(frame: &Frame) -> bool {
    let strings = if frame.tag() == PARSE { 2 } else { 1 };
    let mut parts = frame.body().split(|byte| *byte == 0);
    let texts: Vec<&[u8]> = parts.by_ref().take(strings).collect();
    parts.next().is_some() && texts.iter().any(|text| std::str::from_utf8(text).is_err())
}

pub fn encode_query(sql: &str) -> Frame {
    let mut writer = Writer::new(QUERY);
    writer.string(sql);
    writer.frame()
}

/// `P`.
pub struct Parse<'a> {
    pub name: &'a str,
    pub sql: &'a str,
    /// The parameter types that the client declares; 0 is unspecified. May be shorter than the parameters used.
    pub types: Vec<u32>,
}

impl<'a> Parse<'a> {
    pub fn view(frame: &'a Frame) -> Result<Parse<'a>, Violation> {
        let mut reader = Reader::new(frame.body());
        let name = reader.string()?;
        let sql = reader.string()?;
        let count = reader.count()?;
        let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Parse { name, sql, types })
    }
    pub fn encode(&self) -> Frame {
        let mut writer = Writer::new(PARSE);
        writer.string(self.name);
        writer.string(self.sql);
        writer.count(self.types.len());
        self.types.iter().for_each(|oid| writer.u32(*oid));
        writer.frame()
    }
}

/// The portal and the statement of a `B`, which is checked as [`Bind::view`] does, and nothing else kept of it.
pub fn bind_names(frame: &Frame) -> Result<(&str, &str), Violation> {
    let mut reader = Reader::new(frame.body());
    let names = (reader.string()?, reader.string()?);
    let formats = skip_formats(&mut reader)?;
    let parameters = reader.count()?;
    for _ in 0..parameters {
        reader.value()?;
    }
    skip_formats(&mut reader)?;
    reader.end()?;
    if formats > 1 && formats != parameters {
        return Err(mismatched());
    }
    Ok(names)
}

fn skip_formats(reader: &mut Reader<'_>) -> Result<u16, Violation> {
    let count = reader.count()?;
    for _ in 0..count {
        format(reader)?;
    }
    Ok(count)
}

fn mismatched() -> Violation {
    Violation::new("bind message has mismatched numbers of parameters and formats")
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
    pub fn view(frame: &'a Frame) -> Result<Bind<'a>, Violation> {
        let mut reader = Reader::new(frame.body());
        let portal = reader.string()?;
        let statement = reader.string()?;
        let parameter_formats = formats(&mut reader)?;
        let count = reader.count()?;
        let parameters = (0..count).map(|_| reader.value()).collect::<Result<Vec<_>, _>>()?;
        let result_formats = formats(&mut reader)?;
        reader.end()?;
        if parameter_formats.len() > 1 && parameter_formats.len() != parameters.len() {
            return Err(mismatched());
        }
        Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
    }
    pub fn encode(&self) -> Frame {
        let values = self.parameters.iter().map(|value| 6 + value.map_or(0, <[u8]>::len));
        let names = self.portal.len() + self.statement.len();
        let mut writer =
            Writer::with_room(BIND, 16 + names + values.sum::<usize>() + 2 * self.result_formats.len());
        writer.string(self.portal);
        writer.string(self.statement);
        writer.count(self.parameter_formats.len());
        self.parameter_formats.iter().for_each(|format| writer.i16(*format));
        writer.count(self.parameters.len());
        self.parameters.iter().for_each(|value| writer.value(*value));
        writer.count(self.result_formats.len());
        self.result_formats.iter().for_each(|format| writer.i16(*format));
        writer.frame()
    }
    /// The format code of parameter `index` under the none/one/each rule.
    pub fn parameter_format(&self, index: usize) -> i16 {
        match self.parameter_formats.as_slice() {
            [] => 0,
            [all] => *all,
            each => each.get(index).copied().unwrap_or(0),
        }
    }
}

fn formats(reader: &mut Reader<'_>) -> Result<Vec<i16>, Violation> {
    let count = reader.count()?;
    (0..count).map(|_| format(reader)).collect()
}

fn format(reader: &mut Reader<'_>) -> Result<i16, Violation> {
    match reader.i16()? {
        code @ (0 | 1) => Ok(code),
        _ => Err(Violation::new("unsupported format code")),
    }
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Statement,
    Portal,
}

/// `D` and `C`: kind and name.
pub fn target(frame: &Frame) -> Result<(Target, &str), Violation> {
    let mut reader = Reader::new(frame.body());
    let target = match reader.u8()? {
        b'S' => Target::Statement,
        b'P' => Target::Portal,
        _ => return Err(Violation::new("invalid subtype of Describe or Close")),
    };
    let name = reader.string()?;
    reader.end().map(|()| (target, name))
}

pub fn encode_describe(target: Target, name: &str) -> Frame {
    named(DESCRIBE, target, name)
}

pub fn encode_close(target: Target, name: &str) -> Frame {
    named(CLOSE, target, name)
}

fn named(tag: u8, target: Target, name: &str) -> Frame {
    let mut writer = Writer::new(tag);
    writer.u8(match target {
        Target::Statement => b'S',
        Target::Portal => b'P',
    });
    writer.string(name);
    writer.frame()
}

/// `E`: portal name and row limit (0 is no limit; negative counts as 0, as PostgreSQL does).
pub fn execute(frame: &Frame) -> Result<(&str, u32), Violation> {
    let mut reader = Reader::new(frame.body());
    let portal = reader.string()?;
    let rows = reader.i32()?;
    reader.end()?;
    Ok((portal, u32::try_from(rows).unwrap_or(0)))
}

pub fn encode_execute(portal: &str, rows_max: u32) -> Frame {
    let mut writer = Writer::new(EXECUTE);
    writer.string(portal);
    writer.u32(rows_max);
    writer.frame()
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
pub fn encode_copy_fail(reason: &str) -> Frame {
    let mut writer = Writer::new(COPY_FAIL);
    writer.string(reason);
    writer.frame()
}

/// `p` as PasswordMessage / SASLResponse: the raw data.
pub fn encode_password(data: &[u8]) -> Frame {
    let mut writer = Writer::new(PASSWORD);
    writer.bytes(data);
    writer.frame()
}

/// `p` as SASLInitialResponse.
pub fn encode_sasl_initial(mechanism: &str, data: &[u8]) -> Frame {
    let mut writer = Writer::new(PASSWORD);
    writer.string(mechanism);
    writer.value(Some(data));
    writer.frame()
}

/// Reads `p` as SASLInitialResponse: mechanism and data.
pub fn sasl_initial(frame: &Frame) -> Result<(&str, &[u8]), Violation> {
    let mut reader = Reader::new(frame.body());
    let mechanism = reader.string()?;
    let data = reader.value()?.unwrap_or(&[]);
    reader.end().map(|()| (mechanism, data))
}
