//! Messages from the server: tags, views, and encoding of those that we make or change ourselves.

use super::{Frame, Reader, Violation, Writer};
use bytes::{BufMut, BytesMut};

pub const AUTHENTICATION: u8 = b'R';
pub const BACKEND_KEY_DATA: u8 = b'K';
pub const BIND_COMPLETE: u8 = b'2';
pub const CLOSE_COMPLETE: u8 = b'3';
pub const COMMAND_COMPLETE: u8 = b'C';
pub const COPY_BOTH_RESPONSE: u8 = b'W';
pub const COPY_DATA: u8 = b'd';
pub const COPY_DONE: u8 = b'c';
pub const COPY_IN_RESPONSE: u8 = b'G';
pub const COPY_OUT_RESPONSE: u8 = b'H';
pub const DATA_ROW: u8 = b'D';
pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
pub const ERROR_RESPONSE: u8 = b'E';
pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
pub const NO_DATA: u8 = b'n';
pub const NOTICE_RESPONSE: u8 = b'N';
pub const NOTIFICATION_RESPONSE: u8 = b'A';
pub const PARAMETER_DESCRIPTION: u8 = b't';
pub const PARAMETER_STATUS: u8 = b'S';
pub const PARSE_COMPLETE: u8 = b'1';
pub const PORTAL_SUSPENDED: u8 = b's';
pub const READY_FOR_QUERY: u8 = b'Z';
pub const ROW_DESCRIPTION: u8 = b'T';

/// One field of RowDescription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub table_oid: u32,
    /// `pg_attribute.attnum`, 0 when not a plain column.
    pub column_number: i16,
    pub type_oid: u32,
    pub type_length: i16,
    pub type_modifier: i32,
    /// 0 text, 1 binary; 0 in the answer to Describe of a statement.
    pub format: i16,
}

fn field(reader: &mut Reader<'_>) -> Result<Field, Violation> {
    Ok(Field {
        name: reader.string()?.to_owned(),
        table_oid: reader.u32()?,
        column_number: reader.i16()?,
        type_oid: reader.u32()?,
        type_length: reader.i16()?,
        type_modifier: reader.i32()?,
        format: reader.i16()?,
    })
}

/// Reads `T`.
pub fn row_description(frame: &Frame) -> Result<Vec<Field>, Violation> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count()?;
    let fields = (0..count).map(|_| field(&mut reader)).collect::<Result<_, _>>()?;
    reader.end().map(|()| fields)
}

pub fn encode_row_description(fields: &[Field]) -> Frame {
    let mut writer = Writer::new(ROW_DESCRIPTION);
    writer.count(fields.len());
    for field in fields {
        writer.string(&field.name);
        writer.u32(field.table_oid);
        writer.i16(field.column_number);
        writer.u32(field.type_oid);
        writer.i16(field.type_length);
        writer.i32(field.type_modifier);
        writer.i16(field.format);
    }
    writer.frame()
}

/// Reads `t`.
pub fn parameter_description(frame: &Frame) -> Result<Vec<u32>, Violation> {
    let mut reader = Reader::new(frame.body());
    let count = reader.count()?;
    let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.end().map(|()| types)
}

pub fn encode_parameter_description(types: &[u32]) -> Frame {
    let mut writer = Writer::new(PARAMETER_DESCRIPTION);
    writer.count(types.len());
    types.iter().for_each(|oid| writer.u32(*oid));
    writer.frame()
}

/// Walks the columns of a `D` frame without copying: `None` is NULL.
pub struct DataRow<'a> {
    reader: Reader<'a>,
    columns: u16,
    left: u16,
}

impl<'a> DataRow<'a> {
    pub fn view(frame: &'a Frame) -> Result<DataRow<'a>, Violation> {
        let mut reader = Reader::new(frame.body());
        let columns = reader.count()?;
        if columns == 0 && !reader.is_empty() {
            return Err(Violation::new("invalid message format"));
        }
        Ok(DataRow { reader, columns, left: columns })
    }
    pub fn columns(&self) -> usize {
        usize::from(self.columns)
    }
    /// The next column. A body that ends early, or has bytes left after the last column, is a violation.
    #[allow(clippy::should_implement_trait, reason = "fallible and borrowing: not an Iterator")]
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        self.left = self.left.checked_sub(1).ok_or_else(|| Violation::new("row has no further column"))?;
        let value = self.reader.value()?;
        if self.left == 0 && !self.reader.is_empty() {
            return Err(Violation::new("invalid message format"));
        }
        Ok(value)
    }
}

/// Builds one `D` frame into `out`: call `begin`, then `column` for each, then `end`.
pub struct DataRowBuilder<'a> {
    pub out: &'a mut BytesMut,
    start: usize,
    columns: u16,
}

impl<'a> DataRowBuilder<'a> {
    pub fn begin(out: &'a mut BytesMut) -> Self {
        let start = out.len();
        out.put_u8(DATA_ROW);
        out.put_bytes(0, 6);
        DataRowBuilder { out, start, columns: 0 }
    }
    pub fn column(&mut self, value: Option<&[u8]>) {
        self.columns = self.columns.saturating_add(1);
        match value {
            None => self.out.put_i32(-1),
            Some(bytes) => {
                // A row above i32::MAX is refused at `end`.
                self.out.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
                self.out.put_slice(bytes);
            }
        }
    }
    /// Patches length and count. # Errors: a row above i32::MAX bytes.
    pub fn end(self) -> Result<(), Violation> {
        let length = i32::try_from(self.out.len() - self.start - 1)
            .map_err(|_| Violation::new("row is longer than a message can be"))?;
        self.out[self.start + 1..self.start + 5].copy_from_slice(&length.to_be_bytes());
        self.out[self.start + 5..self.start + 7].copy_from_slice(&self.columns.to_be_bytes());
        Ok(())
    }
}

/// The fields of ErrorResponse and NoticeResponse: (type byte, text), in the order sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    pub fields: Vec<(u8, String)>,
}

impl ErrorFields {
    /// Reads `E` or `N`. Text that is not UTF-8 is read lossily.
    pub fn view(frame: &Frame) -> Result<ErrorFields, Violation> {
        let mut reader = Reader::new(frame.body());
        let mut fields = vec![];
        loop {
            match reader.u8()? {
                0 => return reader.end().map(|()| ErrorFields { fields }),
                kind => fields.push((kind, String::from_utf8_lossy(reader.raw_string()?).into_owned())),
            }
        }
    }
    pub fn get(&self, field: u8) -> Option<&str> {
        self.fields.iter().find(|(kind, _)| *kind == field).map(|(_, text)| text.as_str())
    }
    /// Field `C`, or `XX000` when the server sent none.
    pub fn sqlstate(&self) -> &str {
        self.get(b'C').unwrap_or("XX000")
    }
    /// `V` (never translated) or else `S`.
    pub fn severity(&self) -> &str {
        self.get(b'V').or_else(|| self.get(b'S')).unwrap_or("ERROR")
    }
    /// `tag` is [`ERROR_RESPONSE`] or [`NOTICE_RESPONSE`].
    pub fn encode(&self, tag: u8) -> Frame {
        let mut writer = Writer::new(tag);
        for (kind, text) in &self.fields {
            writer.u8(*kind);
            writer.string(text);
        }
        writer.u8(0);
        writer.frame()
    }
    /// An error of ours: severity `ERROR` or `FATAL`, SQLSTATE, message, and optional detail, hint and position.
    pub fn new(
        severity: &str,
        sqlstate: &str,
        message: &str,
        detail: Option<&str>,
        hint: Option<&str>,
        position: Option<usize>,
    ) -> ErrorFields {
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', sqlstate.to_owned()),
            (b'M', message.to_owned()),
        ];
        fields.extend(detail.map(|text| (b'D', text.to_owned())));
        fields.extend(hint.map(|text| (b'H', text.to_owned())));
        fields.extend(position.map(|at| (b'P', at.to_string())));
        ErrorFields { fields }
    }
}

/// Reads `S`: name and value.
pub fn parameter_status(frame: &Frame) -> Result<(&str, &str), Violation> {
    let mut reader = Reader::new(frame.body());
    let name = reader.string()?;
    let value = reader.string()?;
    reader.end().map(|()| (name, value))
}

pub fn encode_parameter_status(name: &str, value: &str) -> Frame {
    let mut writer = Writer::new(PARAMETER_STATUS);
    writer.string(name);
    writer.string(value);
    writer.frame()
}

/// Transaction status that ReadyForQuery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

/// Reads `Z`.
pub fn ready_for_query(frame: &Frame) -> Result<TransactionStatus, Violation> {
    match frame.body() {
        [b'I'] => Ok(TransactionStatus::Idle),
        [b'T'] => Ok(TransactionStatus::InTransaction),
        [b'E'] => Ok(TransactionStatus::Failed),
        _ => Err(Violation::new("unknown transaction status")),
    }
}

/// Reads `G` or `H`: how many columns are copied.
pub fn copy_columns(frame: &Frame) -> Result<usize, Violation> {
    let mut reader = Reader::new(frame.body());
    reader.u8()?;
    let count = reader.count()?;
    for _ in 0..count {
        reader.i16()?;
    }
    reader.end().map(|()| usize::from(count))
}

/// `H`: text of so many columns is copied out.
pub fn encode_copy_out(columns: usize) -> Frame {
    encode_copy(COPY_OUT_RESPONSE, columns)
}

/// `G`: text of so many columns may be copied in.
pub fn encode_copy_in(columns: usize) -> Frame {
    encode_copy(COPY_IN_RESPONSE, columns)
}

fn encode_copy(tag: u8, columns: usize) -> Frame {
    let mut writer = Writer::new(tag);
    writer.u8(0);
    writer.count(columns);
    (0..columns).for_each(|_| writer.i16(0));
    writer.frame()
}

/// `c`: all of a copy was sent.
pub fn encode_copy_done() -> Frame {
    Writer::new(COPY_DONE).frame()
}

/// `d`: data of a copy, either way.
pub fn encode_copy_data(data: &[u8]) -> Frame {
    let mut writer = Writer::new(COPY_DATA);
    writer.bytes(data);
    writer.frame()
}

/// Reads `C`: the command tag, for example `SELECT 5`.
pub fn command_tag(frame: &Frame) -> Result<&str, Violation> {
    let mut reader = Reader::new(frame.body());
    let tag = reader.string()?;
    reader.end().map(|()| tag)
}

pub fn encode_command_complete(tag: &str) -> Frame {
    let mut writer = Writer::new(COMMAND_COMPLETE);
    writer.string(tag);
    writer.frame()
}

/// Reads `K`: process id and secret (4 bytes in 3.0, up to 256 in 3.2).
pub fn backend_key_data(frame: &Frame) -> Result<(i32, &[u8]), Violation> {
    let mut reader = Reader::new(frame.body());
    let process_id = reader.i32()?;
    Ok((process_id, reader.rest()))
}

pub fn encode_backend_key_data(process_id: i32, secret: &[u8]) -> Frame {
    let mut writer = Writer::new(BACKEND_KEY_DATA);
    writer.i32(process_id);
    writer.bytes(secret);
    writer.frame()
}

/// `v`: the newest minor version we speak and the options that we do not know.
pub fn encode_negotiate_protocol_version(minor: u32, unknown_options: &[String]) -> Frame {
    let mut writer = Writer::new(NEGOTIATE_PROTOCOL_VERSION);
    // PostgreSQL sends the whole version number here, major part included (protocol 3.0 is 196608).
    writer.u32(3 << 16 | minor);
    writer.u32(u32::try_from(unknown_options.len()).unwrap_or(u32::MAX));
    unknown_options.iter().for_each(|option| writer.string(option));
    writer.frame()
}

/// Authentication requests, both read (from the server) and made (towards the client).
#[derive(Clone, PartialEq, Eq)]
pub enum Authentication {
    Ok,
    CleartextPassword,
    Md5 {
        salt: [u8; 4],
    },
    Sasl {
        mechanisms: Vec<String>,
    },
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    /// Any other code, by number.
    Other(i32),
}

impl Authentication {
    pub fn view(frame: &Frame) -> Result<Authentication, Violation> {
        let mut reader = Reader::new(frame.body());
        match reader.i32()? {
            0 => reader.end().map(|()| Authentication::Ok),
            3 => reader.end().map(|()| Authentication::CleartextPassword),
            5 => {
                let salt = reader.bytes(4)?;
                let salt = salt.try_into().map_err(|_| Violation::new("invalid salt"))?;
                reader.end().map(|()| Authentication::Md5 { salt })
            }
            10 => {
                let mut mechanisms = vec![];
                loop {
                    match reader.string()? {
                        "" => return reader.end().map(|()| Authentication::Sasl { mechanisms }),
                        mechanism => mechanisms.push(mechanism.to_owned()),
                    }
                }
            }
            11 => Ok(Authentication::SaslContinue(reader.rest().to_vec())),
            12 => Ok(Authentication::SaslFinal(reader.rest().to_vec())),
            other => Ok(Authentication::Other(other)),
        }
    }
    pub fn encode(&self) -> Frame {
        let mut writer = Writer::new(AUTHENTICATION);
        match self {
            Authentication::Ok => writer.i32(0),
            Authentication::CleartextPassword => writer.i32(3),
            Authentication::Md5 { salt } => {
                writer.i32(5);
                writer.bytes(salt);
            }
            Authentication::Sasl { mechanisms } => {
                writer.i32(10);
                mechanisms.iter().for_each(|mechanism| writer.string(mechanism));
                writer.u8(0);
            }
            Authentication::SaslContinue(data) => {
                writer.i32(11);
                writer.bytes(data);
            }
            Authentication::SaslFinal(data) => {
                writer.i32(12);
                writer.bytes(data);
            }
            Authentication::Other(code) => writer.i32(*code),
        }
        writer.frame()
    }
}
