//! Messages from the server: tags, views, and encoding of those that we make or change ourselves.

use super::{Frame, Violation};
use bytes::BytesMut;

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

/// Reads `T`.
pub fn row_description(_frame: &Frame) -> Result<Vec<Field>, Violation> {
    todo!()
}

pub fn encode_row_description(_fields: &[Field]) -> Frame {
    todo!()
}

/// Reads `t`.
pub fn parameter_description(_frame: &Frame) -> Result<Vec<u32>, Violation> {
    todo!()
}

pub fn encode_parameter_description(_types: &[u32]) -> Frame {
    todo!()
}

/// Walks the columns of a `D` frame without copying: `None` is NULL.
pub struct DataRow<'a> {
    rest: &'a [u8],
    columns: u16,
}

impl<'a> DataRow<'a> {
    pub fn view(_frame: &'a Frame) -> Result<DataRow<'a>, Violation> {
        todo!()
    }
    pub fn columns(&self) -> usize {
        usize::from(self.columns)
    }
    /// The next column. A body that ends early, or has bytes left after the last column, is a violation.
    #[allow(clippy::should_implement_trait, reason = "fallible and borrowing: not an Iterator")]
    pub fn next(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        let _ = &self.rest;
        todo!()
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
        DataRowBuilder { out, start, columns: 0 }
    }
    pub fn column(&mut self, _value: Option<&[u8]>) {
        let _ = self.columns;
        todo!()
    }
    /// Patches length and count. # Errors: a row above i32::MAX bytes.
    pub fn end(self) -> Result<(), Violation> {
        let _ = self.start;
        todo!()
    }
}

/// The fields of ErrorResponse and NoticeResponse: (type byte, text), in the order sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ErrorFields {
    pub fields: Vec<(u8, String)>,
}

impl ErrorFields {
    /// Reads `E` or `N`. Text that is not UTF-8 is read lossily.
    pub fn view(_frame: &Frame) -> Result<ErrorFields, Violation> {
        todo!()
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
    pub fn encode(&self, _tag: u8) -> Frame {
        todo!()
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
pub fn parameter_status(_frame: &Frame) -> Result<(&str, &str), Violation> {
    todo!()
}

pub fn encode_parameter_status(_name: &str, _value: &str) -> Frame {
    todo!()
}

/// Transaction status that ReadyForQuery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Idle,
    InTransaction,
    Failed,
}

/// Reads `Z`.
pub fn ready_for_query(_frame: &Frame) -> Result<TransactionStatus, Violation> {
    todo!()
}

/// Reads `C`: the command tag, for example `SELECT 5`.
pub fn command_tag(_frame: &Frame) -> Result<&str, Violation> {
    todo!()
}

pub fn encode_command_complete(_tag: &str) -> Frame {
    todo!()
}

/// Reads `K`: process id and secret (4 bytes in 3.0, up to 256 in 3.2).
pub fn backend_key_data(_frame: &Frame) -> Result<(i32, &[u8]), Violation> {
    todo!()
}

pub fn encode_backend_key_data(_process_id: i32, _secret: &[u8]) -> Frame {
    todo!()
}

/// `v`: the newest minor version we speak and the options that we do not know.
pub fn encode_negotiate_protocol_version(_minor: u32, _unknown_options: &[String]) -> Frame {
    todo!()
}

/// Authentication requests, both read (from the server) and made (towards the client).
#[derive(Clone, PartialEq, Eq)]
pub enum Authentication {
    Ok,
    CleartextPassword,
    Md5 { salt: [u8; 4] },
    Sasl { mechanisms: Vec<String> },
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    /// Any other code, by number.
    Other(i32),
}

impl Authentication {
    pub fn view(_frame: &Frame) -> Result<Authentication, Violation> {
        todo!()
    }
    pub fn encode(&self) -> Frame {
        todo!()
    }
}
