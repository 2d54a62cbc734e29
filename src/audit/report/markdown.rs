//! A report as Markdown.

use super::{Report, ReportTable};
use crate::audit::show::printable;

impl Report {
    pub fn markdown(&self) -> String {
        let (good, words) = &self.verification;
        let verified = if *good { "verified" } else { "NOT VERIFIED" };
        let mut out = format!("# {}\n\n**{verified}**: {words}\n\n{}\n", self.title(), self.summary());
        for table in self.tables() {
            out.push_str(&table.markdown());
        }
        out
    }
}

impl ReportTable {
    fn markdown(&self) -> String {
        let mut out = format!("\n## {}\n\n", self.heading);
        if !self.note.is_empty() {
            out.push_str(&format!("{}\n\n", self.note));
        }
        if self.rows.is_empty() {
            return out + "None.\n";
        }
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|text| escaped(text)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        out.push_str(&line(&self.columns));
        out.push_str(&format!("|{}\n", "---|".repeat(self.columns.len())));
        self.rows.iter().for_each(|row| out.push_str(&line(row)));
        if self.more > 0 {
            out.push_str(&format!("\n{} more are not shown.\n", self.more));
        }
        out
    }
}

/// Text that no reader of Markdown takes for markup: a peer's text may stand here.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in printable(text).chars() {
        if "\\`*_{}[]<>#|~!&".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
