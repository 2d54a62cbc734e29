//! The server's errors on their way to the client: positions mapped back, names ours to theirs, texts that could quote
//! a value of a tagged column taken out.

use super::align;
use crate::wire::backend::ErrorFields;
use std::sync::Arc;

/// Where pieces of the sent text stand in the client's.
#[derive(Clone, Default)]
pub(super) struct Positions(Option<Arc<[Piece]>>);

/// Holds texts with literals: no `Debug`.
#[derive(Clone)]
pub(super) enum Piece {
    /// (sent, client's, length), in characters from 0.
    Same(usize, usize, usize),
    /// A rewritten statement: aligned when an error asks for a place in it.
    Rewritten { sent: Arc<str>, sent_at: usize, client: Arc<str>, client_at: usize },
}

impl Piece {
    fn shifted(&self, by: usize) -> Piece {
        match self.clone() {
            Piece::Same(sent, client, length) => Piece::Same(sent + by, client, length),
            Piece::Rewritten { sent, sent_at, client, client_at } => {
                Piece::Rewritten { sent, sent_at: sent_at + by, client, client_at }
            }
        }
    }
    fn map(&self, at: usize) -> Option<usize> {
        let within = |at: usize, (sent, client, length): (usize, usize, usize)| {
            (sent..sent + length).contains(&at).then(|| client + (at - sent))
        };
        match self {
            Piece::Same(sent, client, length) => within(at, (*sent, *client, *length)),
            Piece::Rewritten { sent, sent_at, client, client_at } => {
                let at = at.checked_sub(*sent_at)?;
                align::pieces(sent, client, *client_at).into_iter().find_map(|piece| within(at, piece))
            }
        }
    }
}

impl Positions {
    /// The text was sent as it was.
    pub(super) fn same() -> Positions {
        Positions(None)
    }
    pub(super) fn pieces(pieces: Vec<Piece>) -> Positions {
        Positions(Some(pieces.into()))
    }
    /// One rewritten statement: positions hold where its tokens are the client's.
    pub(super) fn rewritten(sent: &str, client: &str, client_at: usize) -> Positions {
        Positions::pieces(vec![if sent.len().max(client.len()) > align::LONGEST {
            Piece::Same(0, client_at, align::common(sent, client))
        } else {
            Piece::Rewritten { sent: sent.into(), sent_at: 0, client: client.into(), client_at }
        }])
    }
    /// The same pieces when the text stands `by` characters further on in what is sent.
    pub(super) fn shifted(&self, by: usize) -> impl Iterator<Item = Piece> {
        self.0.iter().flat_map(|pieces| pieces.iter()).map(move |piece| piece.shifted(by))
    }
    /// The client's 1-based position for a 1-based position of the sent text, where there is one.
    fn map(&self, sent: usize) -> Option<usize> {
        let Some(pieces) = &self.0 else { return Some(sent) };
        let at = sent.checked_sub(1)?;
        pieces.iter().find_map(|piece| piece.map(at)).map(|at| at + 1)
    }
}

/// Maps field P, or drops it where the client's text has no such place.
pub(super) fn place(fields: &mut ErrorFields, positions: &Positions) {
    if positions.0.is_none() {
        return;
    }
    fields.fields.retain_mut(|(kind, text)| {
        if *kind != b'P' {
            return true;
        }
        match text.parse().ok().and_then(|sent| positions.map(sent)) {
            Some(at) => {
                *text = at.to_string();
                true
            }
            None => false,
        }
    });
}

/// SQLSTATEs whose primary message PostgreSQL makes of names and numbers only. By class, or whole.
const QUOTES_NO_DATA: &[&str] = &[
    "23505", "23502", "23503", "23514", "42", "40", "55", "57", "53", "25", "26", "34", "08", "3D", "3F",
    "28",
];

/// Primary messages of other classes that are the same for all values.
const QUOTES_NOTHING: &[&str] = &[
    "stack depth limit exceeded",
    "division by zero",
    "smallint out of range",
    "integer out of range",
    "bigint out of range",
    "numeric field overflow",
    "value overflows numeric format",
    "date out of range",
    "timestamp out of range",
    "interval out of range",
    "cannot take logarithm of zero",
    "cannot take logarithm of a negative number",
    "cannot take square root of a negative number",
    "negative substring length not allowed",
    "LIMIT must not be negative",
    "OFFSET must not be negative",
    "more than one row returned by a subquery used as an expression",
    "ON CONFLICT DO UPDATE command cannot affect row a second time",
    "MERGE command cannot affect row a second time",
];

/// Whether a primary message is one that PostgreSQL makes of no value.
fn quotes_nothing(message: &str) -> bool {
    // `varchar.c`: the type is the column's.
    let length = message.strip_prefix("value too long for type character").map(|rest| {
        let rest = rest.strip_prefix(" varying").unwrap_or(rest);
        rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or("-")
    });
    length.is_some_and(|length| length.bytes().all(|byte| byte.is_ascii_digit()))
        || QUOTES_NOTHING.contains(&message)
}

/// Takes out what could quote a value: DETAIL, CONTEXT, internal query and position, and most primary messages.
/// What tells a program what happened stays: severity, SQLSTATE, hint, names of objects, the routine.
pub(super) fn scrub(fields: &mut ErrorFields) {
    let state = fields.sqlstate().to_owned();
    fields.fields.retain(|(kind, _)| !matches!(kind, b'D' | b'W' | b'q' | b'p'));
    if QUOTES_NO_DATA.iter().any(|known| state.starts_with(known)) {
        return;
    }
    let what = if matches!(fields.severity(), "ERROR" | "FATAL" | "PANIC") { "error" } else { "notice" };
    for (kind, text) in &mut fields.fields {
        if *kind == b'M' && !quotes_nothing(text) {
            *text =
                format!("{what} {state} in a statement over tagged columns (its text could quote a value)");
        }
    }
}

/// Whether an error of a planned statement may mean that the database changed under the plan.
pub(super) fn may_be_stale(fields: &ErrorFields) -> bool {
    let message = fields.get(b'M').unwrap_or_default();
    match fields.sqlstate() {
        "42883" | "42704" | "42804" => true,
        "23514" => message.contains("value for domain"),
        "XX000" => message.contains("cache lookup failed for type"),
        "0A000" => message.contains("cached plan must not change result type"),
        // Formats are asked for column by column where the client asks for all at once.
        "08P01" => message.starts_with("bind message has") && message.contains("result formats"),
        _ => false,
    }
}

/// Whether such an error speaks of a sealed type: no statement of a client's does by itself.
pub(super) fn names_sealed_type(fields: &ErrorFields) -> bool {
    fields.get(b'M').unwrap_or_default().contains("pgveil.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_hold_where_the_text_is_the_clients() {
        let positions = Positions::rewritten("select é, f(x) from public.t", "select é, f(x) from t", 4);
        assert_eq!(positions.map(1), Some(5));
        assert_eq!(positions.map(11), Some(15));
        assert_eq!(positions.map(24), None);
        assert_eq!(positions.map(28), Some(25));
        assert_eq!(Positions::same().map(7), Some(7));
    }

    #[test]
    fn scrubbing_leaves_what_programs_need() {
        let mut fields =
            ErrorFields::new("ERROR", "22P02", "invalid input: \"4111\"", Some("x 4111"), Some("h"), None);
        fields.fields.push((b't', "customers".into()));
        scrub(&mut fields);
        assert!(fields.fields.iter().all(|(_, text)| !text.contains("4111")));
        assert_eq!(
            (fields.sqlstate(), fields.get(b't'), fields.get(b'H')),
            ("22P02", Some("customers"), Some("h"))
        );
        let kept = |message: &str| {
            let mut fields = ErrorFields::new("ERROR", "22001", message, None, None, None);
            scrub(&mut fields);
            fields.get(b'M') == Some(message)
        };
        assert!(kept("division by zero") && kept("value too long for type character varying(20)"));
        assert!(!kept("value too long for type character varying(20): 4111") && !kept("division by 4111"));
    }
}
