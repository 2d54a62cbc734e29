//! What the server says of a key that was violated, with the cells that it quotes opened: `Key (email)=(\x1100…) already exists.`
//!
//! Guarantees: all of them are opened, or nothing is told. Deliberately absent: who may read it (the relay asks the policy).

use crate::catalog::ByLabel;
use crate::crypto::envelope::Envelope;
use crate::crypto::{CellCipher, Cells};
use crate::value::{DataType, Format, Style};

/// A sealed column of the table that the key is of.
pub struct KeyColumn<'a> {
    pub cipher: &'a CellCipher,
    pub data_type: DataType,
    pub label: &'a str,
}

/// The text with its cells as values, and how many were opened of each label. `None`: it holds something that looks like
/// bytes and is no cell of these columns.
pub fn opened(detail: &str, columns: &[KeyColumn<'_>], style: &Style) -> Option<(String, ByLabel)> {
    let mut text = String::with_capacity(detail.len());
    let mut counts: ByLabel = Vec::new();
    let mut rest = detail;
    while let Some((before, after)) = rest.split_once("\\x") {
        let digits = after.bytes().take_while(u8::is_ascii_hexdigit).count();
        let (hex, after) = after.split_at(digits);
        let mut cell = Vec::new();
        super::open::unhex(hex.as_bytes(), &mut cell)?;
        let domain = Envelope::parse(&cell).ok()?.domain;
        let column = columns.iter().find(|column| column.cipher.domain() == domain)?;
        let (mut sealed, mut plain, mut shown) = (Cells::new(), Cells::new(), Vec::new());
        sealed.push(&cell);
        column.cipher.open(&sealed, &mut plain).ok()?;
        for canonical in plain.iter() {
            column.data_type.write(canonical, Format::Text, style, &mut shown).ok()?;
        }
        text.push_str(before);
        text.push_str(std::str::from_utf8(&shown).ok()?);
        match counts.iter_mut().find(|(label, _)| **label == *column.label) {
            Some((_, count)) => *count += 1,
            None => counts.push((column.label.into(), 1)),
        }
        rest = after;
    }
    text.push_str(rest);
    Some((text, counts))
}
