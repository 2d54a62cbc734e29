//! A report as one HTML file: charts are SVG in it, nothing is fetched, nothing runs.

use super::{Report, ReportTable};
use crate::audit::show::printable;
use std::fmt::Write;

/// A policy that lets nothing be fetched or run, should a text get through the escaping.
const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #1c2330; }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
.state { padding: .6em 1em; border-radius: 4px; background: #fbe3e3; border-left: 6px solid #b3261e; overflow-wrap: anywhere }
.state.good { background: #e3f3e6; border-color: #1e7b34 }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25em .7em .25em 0; vertical-align: top }
th { border-bottom: 2px solid #c5cbd6 } td { border-bottom: 1px solid #e6e9ee; overflow-wrap: anywhere }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
svg text { font: 11px system-ui, sans-serif; fill: #56606f }
.clear { fill: #b3261e } .other { fill: #7d9cc9 } .key { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
@media print { body { margin: 0 } h2 { break-after: avoid } }
</style>
"#;

impl Report {
    pub fn html(&self) -> String {
        let (good, words) = &self.verification;
        let (class, verified) = if *good { ("state good", "Verified") } else { ("state", "NOT VERIFIED") };
        let title = escaped(&self.title());
        let mut out = format!(
            "{HEAD}<title>{title}</title></head><body>\n<h1>{title}</h1>\n\
             <p class=\"{class}\"><b>{verified}.</b> {}</p>\n<p>{}</p>\n",
            escaped(words),
            escaped(&self.summary())
        );
        out.push_str(&self.charts());
        for table in self.tables() {
            out.push_str(&table.html());
        }
        out + "</body></html>\n"
    }

    fn charts(&self) -> String {
        let days: Vec<(String, u64, u64)> =
            self.days.iter().map(|(day, (clear, other))| (day.to_string(), *clear, *other)).collect();
        let hours: Vec<(String, u64, u64)> =
            self.hours.iter().zip(0..).map(|(count, hour)| (format!("{hour:02}"), 0, *count)).collect();
        let takers: Vec<(String, u64, u64)> = self
            .biggest()
            .into_iter()
            .take(12)
            .map(|(user, taker)| (printable(user), taker.clear, taker.masked))
            .collect();
        let mut out = String::new();
        if !days.is_empty() {
            out.push_str(
                "<h2>Cells shown, by day</h2>\n<p><svg class=\"key\" viewBox=\"0 0 1 1\"><rect class=\"clear\" width=\"1\" \
                 height=\"1\"/></svg>in clear<svg class=\"key\" viewBox=\"0 0 1 1\"><rect class=\"other\" width=\"1\" \
                 height=\"1\"/></svg>otherwise</p>\n",
            );
            out.push_str(&columns(&days));
            out.push_str("<h2>Cells shown, by user</h2>\n");
            out.push_str(&bars(&takers));
        }
        out.push_str("<h2>Statements, by hour of the day (UTC)</h2>\n");
        out + &columns(&hours)
    }
}

const WIDTH: f64 = 900.0;

/// Stacked columns, one for each item.
fn columns(items: &[(String, u64, u64)]) -> String {
    const HEIGHT: f64 = 160.0;
    let most = items.iter().map(|(_, clear, other)| clear + other).max().unwrap_or(0).max(1) as f64;
    let step = WIDTH / items.len().max(1) as f64;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">\n", HEIGHT + 24.0);
    // Labels that would run into each other are left out.
    let every = (90.0 / step).ceil().max(1.0) as usize;
    let every = if items.iter().all(|(name, _, _)| name.len() <= 2) { 1 } else { every };
    for (index, (name, clear, other)) in items.iter().enumerate() {
        let (x, width) = (step * index as f64, (step * 0.8).min(40.0));
        let (red, blue) = (HEIGHT * *clear as f64 / most, HEIGHT * *other as f64 / most);
        let name = escaped(name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<g><title>{name}: {clear} in clear, {other} otherwise</title>\
             <rect class=\"other\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{blue:.1}\"/>\
             <rect class=\"clear\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{red:.1}\"/></g>",
            HEIGHT - blue - red,
            HEIGHT - red,
        );
        if index.is_multiple_of(every) {
            let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{}\">{name}</text>", HEIGHT + 16.0);
        }
    }
    out + "</svg>\n"
}

/// Stacked bars with their names before them.
fn bars(items: &[(String, u64, u64)]) -> String {
    const LINE: f64 = 22.0;
    const NAMES: f64 = 160.0;
    let most = items.iter().map(|(_, clear, other)| clear + other).max().unwrap_or(0).max(1) as f64;
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">\n", LINE * items.len() as f64);
    for (index, (name, clear, other)) in items.iter().enumerate() {
        let y = LINE * index as f64;
        let wide = |count: u64| (WIDTH - NAMES - 90.0) * count as f64 / most;
        let (red, blue) = (wide(*clear), wide(*other));
        let short: String = name.chars().take(24).collect();
        let _ = writeln!(
            out,
            "<text x=\"0\" y=\"{:.1}\">{}</text>\
             <rect class=\"clear\" x=\"{NAMES}\" y=\"{y:.1}\" width=\"{red:.1}\" height=\"16\"/>\
             <rect class=\"other\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{blue:.1}\" height=\"16\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            y + 13.0,
            escaped(&short),
            NAMES + red,
            NAMES + red + blue + 6.0,
            y + 13.0,
            clear + other,
        );
    }
    out + "</svg>\n"
}

impl ReportTable {
    fn html(&self) -> String {
        let mut out = format!("<h2>{}</h2>\n", escaped(&self.heading));
        if !self.note.is_empty() {
            let _ = writeln!(out, "<p>{}</p>", escaped(&self.note));
        }
        if self.rows.is_empty() {
            return out + "<p>None.</p>\n";
        }
        let numbers: Vec<bool> = (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                cells
                    .into_iter()
                    .all(|cell| !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit()))
            })
            .collect();
        let line = |tag: &str, cells: &[String]| {
            let cell = |(text, number): (&String, &bool)| {
                let class = if *number { " class=\"n\"" } else { "" };
                format!("<{tag}{class}>{}</{tag}>", escaped(text))
            };
            format!("<tr>{}</tr>\n", cells.iter().zip(&numbers).map(cell).collect::<String>())
        };
        out.push_str("<table>\n");
        out.push_str(&line("th", &self.columns));
        self.rows.iter().for_each(|row| out.push_str(&line("td", row)));
        out.push_str("</table>\n");
        if self.more > 0 {
            let _ = writeln!(out, "<p>{} more are not shown.</p>", self.more);
        }
        out
    }
}

/// Text that is nothing but text in HTML, attributes included.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
    }
    out
}
