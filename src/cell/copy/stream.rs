//! The stream of a COPY cut into rows: lines of text and CSV (`CopyReadLineText`), tuples of binary.
//!
//! Bytes may come in any pieces: a row that is not whole waits, and is looked at from where the look stopped. Line endings
//! are learned from the first line and must stay the same, as in PostgreSQL.

use super::BadCopy;
use crate::plan::{CopyFormat, CopyOptions};
use memchr::memchr3;
use std::ops::Range;
use zeroize::Zeroize;

/// What one piece of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Row,
    /// A header, an end marker or a trailer: it passes as it is.
    Verbatim,
}

/// A whole piece, as ranges of [`Stream::bytes`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub kind: Kind,
    pub whole: Range<usize>,
    /// Without what ends the line.
    pub body: Range<usize>,
    /// The line it begins on, or the number of the tuple; from 1.
    pub line: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Newline,
    Return,
    Both,
}

/// Where the look at an unfinished line stopped.
#[derive(Clone, Copy, Default)]
struct Look {
    at: usize,
    quoted: bool,
    escaped: bool,
}

pub struct Stream {
    format: CopyFormat,
    quote: u8,
    /// The escape character where it differs from the quote.
    escape: Option<u8>,
    /// A line `\.` ends the data of CSV, too: up to PostgreSQL 17.
    csv_marker: bool,
    row_bytes_max: usize,
    bytes: Vec<u8>,
    /// What of `bytes` was given out.
    start: usize,
    look: Look,
    ending: Option<Ending>,
    header: bool,
    /// After the end marker or trailer nothing counts.
    ended: bool,
    lines: u64,
}

/// What comes next.
enum Next {
    Piece(Piece),
    More,
}

/// `PGCOPY\n\377\r\n\0` (`copyto.c`), before flags and the length of the extension.
pub(super) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

impl Stream {
    /// `row_bytes_max` bounds what waits. `csv_marker`: the server ends CSV at a line `\.`.
    pub fn new(options: &CopyOptions, csv_marker: bool, row_bytes_max: usize) -> Stream {
        let format = options.format();
        Stream {
            format,
            quote: options.quote(),
            escape: Some(options.escape()).filter(|escape| *escape != options.quote()),
            csv_marker,
            row_bytes_max,
            bytes: vec![],
            start: 0,
            look: Look::default(),
            ending: None,
            header: options.header() || format == CopyFormat::Binary,
            ended: false,
            lines: 0,
        }
    }

    /// What pieces are ranges of, until [`Stream::forget`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As [`Stream::bytes`]: what was given out may be changed, it is not read again.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole piece. `last`: nothing more will come, so that a line needs no end.
    ///
    /// # Errors
    /// What PostgreSQL would say of the data, or a row longer than allowed.
    pub fn next(&mut self, last: bool) -> Result<Option<Piece>, BadCopy> {
        if self.ended {
            if self.format == CopyFormat::Binary && self.start < self.bytes.len() {
                return Err(BadCopy::format("received copy data after EOF marker"));
            }
            self.start = self.bytes.len();
            return Ok(None);
        }
        let next = match self.format {
            CopyFormat::Binary => self.tuple(last)?,
            CopyFormat::Text | CopyFormat::Csv => self.line(last)?,
        };
        match next {
            Next::Piece(piece) => {
                self.start = piece.whole.end;
                self.look = Look { at: self.start, ..Look::default() };
                Ok(Some(piece))
            }
            Next::More if self.bytes.len() - self.start > self.row_bytes_max => {
                Err(BadCopy { sqlstate: "54000", message: "row of copied data is longer than allowed" })
            }
            Next::More => Ok(None),
        }
    }

    /// Forgets what was given out: earlier pieces are no ranges of [`Stream::bytes`] any more.
    pub fn forget(&mut self) {
        if self.start == 0 {
            return;
        }
        let kept = self.bytes.len() - self.start;
        self.bytes.copy_within(self.start.., 0);
        if let Some(rest) = self.bytes.get_mut(kept..) {
            rest.zeroize();
        }
        self.bytes.truncate(kept);
        self.look.at = self.look.at.saturating_sub(self.start);
        self.start = 0;
    }

    /// Whether a row has begun that is not whole.
    pub fn is_waiting(&self) -> bool {
        self.start < self.bytes.len() && !self.ended
    }

    fn piece(&mut self, body_end: usize, end: usize) -> Next {
        let kind = if std::mem::take(&mut self.header) { Kind::Verbatim } else { Kind::Row };
        Next::Piece(Piece { kind, whole: self.start..end, body: self.start..body_end, line: self.lines })
    }

    fn marker(&mut self, end: usize) -> Next {
        self.ended = true;
        Next::Piece(Piece {
            kind: Kind::Verbatim,
            whole: self.start..end,
            body: self.start..end,
            line: self.lines,
        })
    }

    /// `CopyReadLineText`. What needs a look ahead that is not there yet is looked at again when more came.
    fn line(&mut self, last: bool) -> Result<Next, BadCopy> {
        let csv = self.format == CopyFormat::Csv;
        let mut look = Look { at: self.look.at.max(self.start), ..self.look };
        let begun = look.at == self.start;
        if begun {
            self.lines += u64::from(self.start < self.bytes.len());
        }
        while let Some(rest) = self.bytes.get(look.at..) {
            let plain = self.special(rest, look).unwrap_or(rest.len());
            look.at += plain;
            look.escaped &= plain == 0;
            let Some(&byte) = rest.get(plain) else { break };
            let after = rest.get(plain + 1).copied();
            if after.is_none() && !last && matches!(byte, b'\r' | b'\\') {
                self.wait(look, begun);
                return Ok(Next::More);
            }
            let mut quoted = look.quoted;
            let mut escaped = look.escaped;
            if csv {
                if quoted && Some(byte) == self.escape {
                    escaped = !escaped;
                }
                if byte == self.quote && !escaped {
                    quoted = !quoted;
                }
                if Some(byte) != self.escape {
                    escaped = false;
                }
                self.lines += u64::from(quoted && byte == self.counted());
            }
            if matches!(byte, b'\r' | b'\n') && !quoted {
                let end = self.ends(byte, after, look.at)?;
                return Ok(self.piece(look.at, end));
            }
            let mut step = 1;
            if byte == b'\\' && !csv {
                if after == Some(b'.') {
                    return self.text_marker(look, last, begun);
                }
                // Whatever stands after a backslash is a part of the row, a line's end too.
                step = if after.is_some() { 2 } else { 1 };
            } else if byte == b'\\' && self.csv_marker && look.at == self.start && after == Some(b'.') {
                match self.csv_marker_end(last)? {
                    Some(0) => {
                        self.wait(look, begun);
                        return Ok(Next::More);
                    }
                    Some(end) => return Ok(self.marker(end)),
                    None => {}
                }
            }
            look = Look { at: look.at + step, quoted, escaped };
        }
        if last && self.start < self.bytes.len() {
            let end = self.bytes.len();
            return Ok(self.piece(end, end));
        }
        self.wait(look, begun);
        Ok(Next::More)
    }

    /// The next byte that means something in a line.
    fn special(&self, rest: &[u8], look: Look) -> Option<usize> {
        match self.format {
            CopyFormat::Csv if look.at == self.start && self.csv_marker && rest.first() == Some(&b'\\') => {
                Some(0)
            }
            CopyFormat::Csv if look.quoted => {
                memchr3(self.quote, self.escape.unwrap_or(self.quote), self.counted(), rest)
            }
            CopyFormat::Csv => memchr3(b'\n', b'\r', self.quote, rest),
            CopyFormat::Text | CopyFormat::Binary => memchr3(b'\n', b'\r', b'\\', rest),
        }
    }

    /// What of a quoted line's end is counted.
    fn counted(&self) -> u8 {
        if self.ending == Some(Ending::Newline) { b'\n' } else { b'\r' }
    }

    /// Keeps the place; a line of which nothing was looked at is counted when it is.
    fn wait(&mut self, look: Look, begun: bool) {
        if begun && look.at == self.start && self.start < self.bytes.len() {
            self.lines -= 1;
        }
        self.look = look;
    }

    /// Where the line's end ends, when it is of the kind that the first line had.
    fn ends(&mut self, byte: u8, after: Option<u8>, at: usize) -> Result<usize, BadCopy> {
        let csv = self.format == CopyFormat::Csv;
        let mixed = |text, quoted| Err(BadCopy::format(if csv { quoted } else { text }));
        let both = byte == b'\r' && after == Some(b'\n');
        match (byte, self.ending) {
            (b'\r', None) if both => self.ending = Some(Ending::Both),
            (b'\r', None) => self.ending = Some(Ending::Return),
            (b'\r', Some(Ending::Return)) => return Ok(at + 1),
            (b'\r', Some(Ending::Both)) if both => {}
            (b'\r', _) => {
                return mixed(
                    "literal carriage return found in data",
                    "unquoted carriage return found in data",
                );
            }
            (_, Some(Ending::Return | Ending::Both)) => {
                return mixed("literal newline found in data", "unquoted newline found in data");
            }
            (_, _) => self.ending = Some(Ending::Newline),
        }
        Ok(at + if self.ending == Some(Ending::Both) { 2 } else { 1 })
    }

    /// `\.` in text: the end, which since PostgreSQL 18 must stand alone on its line.
    fn text_marker(&mut self, look: Look, last: bool, begun: bool) -> Result<Next, BadCopy> {
        if look.at != self.start {
            return Err(BadCopy::format("end-of-copy marker is not alone on its line"));
        }
        let rest = self.bytes.get(look.at + 2..).unwrap_or_default();
        let length = match (rest, self.ending) {
            ([b'\r', b'\n', ..], Some(Ending::Both) | None) => 2,
            ([b'\n', ..], Some(Ending::Newline) | None) | ([b'\r', ..], Some(Ending::Return)) => 1,
            ([b'\r', b, ..], None) if *b != b'\n' => 1,
            ([], _) | ([b'\r'], Some(Ending::Both) | None) if !last => {
                self.wait(look, begun);
                return Ok(Next::More);
            }
            // Nothing follows: the server judges it by its version.
            ([], _) | ([b'\r'], Some(Ending::Both) | None) => rest.len(),
            ([b'\r' | b'\n', ..], _) => {
                return Err(BadCopy::format("end-of-copy marker does not match previous newline style"));
            }
            _ => return Err(BadCopy::format("end-of-copy marker corrupt")),
        };
        Ok(self.marker(look.at + 2 + length))
    }

    /// A line `\.` in CSV: where it ends, 0 when that is not known yet, `None` when it is a value.
    fn csv_marker_end(&self, last: bool) -> Result<Option<usize>, BadCopy> {
        let at = self.start + 2;
        let rest = self.bytes.get(at..).unwrap_or_default();
        let mismatch = Err(BadCopy::format("end-of-copy marker does not match previous newline style"));
        match (rest, self.ending) {
            ([], _) => Ok(if last { None } else { Some(0) }),
            ([b'\r'], Some(Ending::Both)) => Ok(if last { None } else { Some(0) }),
            ([b'\r', b'\n', ..], Some(Ending::Both)) => Ok(Some(at + 2)),
            ([b'\r', b'\r', ..], Some(Ending::Both)) => mismatch,
            (_, Some(Ending::Both)) => Ok(None),
            ([b'\n', ..], Some(Ending::Return)) | ([b'\r', ..], Some(Ending::Newline)) => mismatch,
            ([b'\n' | b'\r', ..], _) => Ok(Some(at + 1)),
            _ => Ok(None),
        }
    }

    fn tuple(&mut self, last: bool) -> Result<Next, BadCopy> {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        if rest.is_empty() && !self.header {
            return Ok(Next::More);
        }
        let length = if self.header { header_length(rest)? } else { tuple_length(rest)? };
        match length {
            None if last && self.header => Err(BadCopy::format("COPY file signature not recognized")),
            None if last => Err(BadCopy::format("unexpected EOF in COPY data")),
            None => Ok(Next::More),
            Some(Length::Trailer) => Ok(self.marker(self.start + 2)),
            Some(Length::Bytes(length)) => {
                self.lines += u64::from(!self.header);
                let end = self.start + length;
                Ok(self.piece(end, end))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.bytes.as_mut_slice().zeroize();
    }
}

enum Length {
    Bytes(usize),
    Trailer,
}

fn header_length(bytes: &[u8]) -> Result<Option<Length>, BadCopy> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes.get(..known) != SIGNATURE.get(..known) {
        return Err(BadCopy::format("COPY file signature not recognized"));
    }
    let Some((flags, rest)) = bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>) else {
        return Ok(None);
    };
    // Bit 16 said that rows have OIDs; the others above it are critical, too.
    if u32::from_be_bytes(*flags) >> 16 != 0 {
        return Err(BadCopy::format("unrecognized critical flags in COPY file header"));
    }
    let Some((extension, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    let extension = usize::try_from(i32::from_be_bytes(*extension))
        .map_err(|_| BadCopy::format("invalid COPY file header (missing length)"))?;
    let length = SIGNATURE.len() + 8 + extension;
    Ok((rest.len() >= extension).then_some(Length::Bytes(length)))
}

fn tuple_length(bytes: &[u8]) -> Result<Option<Length>, BadCopy> {
    let Some((count, _)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
    let count = i16::from_be_bytes(*count);
    if count == -1 {
        return Ok(Some(Length::Trailer));
    }
    let mut at = 2;
    for _ in 0..count {
        let Some((length, rest)) = bytes.get(at..).and_then(<[u8]>::split_first_chunk::<4>) else {
            return Ok(None);
        };
        let length = match i32::from_be_bytes(*length) {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| BadCopy::format("invalid field size"))?,
        };
        if rest.len() < length {
            return Ok(None);
        }
        at += 4 + length;
    }
    Ok(Some(Length::Bytes(at)))
}
