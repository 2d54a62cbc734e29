//! In which formats the values of a result come, and in which they leave.
//!
//! A cell is bytes: the server sends it as it lies when binary is asked for, and as two hex digits a byte otherwise, which costs
//! the server, the wire and us more than the value itself. So cells are asked for in binary whatever the client wants to
//! read; all else in the client's formats. Deliberately absent: what stands inside of values (arrays, JSON, rows), which
//! comes in the client's format.

use crate::plan::ColumnSlot;
use crate::value::Format;

/// Format codes as a Bind has them: none (all text), one for all, or one for each column (PostgreSQL, "Bind").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formats {
    client: Vec<i16>,
    server: Vec<i16>,
}

fn of(codes: &[i16], column: usize) -> Format {
    let code = match codes {
        [] => 0,
        [all] => *all,
        each => each.get(column).copied().unwrap_or(0),
    };
    if code == 1 { Format::Binary } else { Format::Text }
}

impl Formats {
    /// What comes leaves in the same format.
    pub fn same(codes: &[i16]) -> Formats {
        Formats { client: codes.to_vec(), server: codes.to_vec() }
    }

    /// The client's formats, and cells in binary from the server. `None`: the client gives another number of codes than there are
    /// columns, which the server refuses.
    pub fn cells_in_binary(columns: Option<&[ColumnSlot]>, client: &[i16]) -> Option<Formats> {
        let Some(columns) = columns else { return Some(Formats::same(client)) };
        if client.len() > 1 && client.len() != columns.len() {
            return None;
        }
        let asked = |(index, slot): (usize, &ColumnSlot)| match of(client, index) {
            Format::Text if !slot.is_cell() => 0,
            Format::Text | Format::Binary => 1,
        };
        let widens = columns
            .iter()
            .enumerate()
            .any(|(index, slot)| slot.is_cell() && of(client, index) == Format::Text);
        if !widens {
            return Some(Formats::same(client));
        }
        let server = columns.iter().enumerate().map(asked).collect();
        Some(Formats { client: client.to_vec(), server })
    }

    /// As the client asked.
    pub fn asked(&self) -> &[i16] {
        &self.client
    }

    /// Whether cells come in another format than they leave.
    pub fn differ(&self) -> bool {
        self.client != self.server
    }

    /// As the server is asked, for a Bind.
    pub fn server(&self) -> &[i16] {
        &self.server
    }

    /// The format in which a column's values leave.
    pub fn leaves(&self, column: usize) -> Format {
        of(&self.client, column)
    }

    /// The format in which they come.
    pub fn comes(&self, column: usize) -> Format {
        of(&self.server, column)
    }
}
