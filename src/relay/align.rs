//! Where the tokens of a rewritten statement stand in the client's text, so that an error points to where it was written.
//!
//! The print keeps the client's tokens in order and adds some (schemas, casts, columns of `*`); sealed constants stand for the
//! client's. Tokens that agree, with their neighbours, are the same token. Deliberately absent: places within what was added.

use crate::sql::lex::{Kind, Token, lex};

/// Longer texts are data, most of them.
pub(super) const LONGEST: usize = 16 * 1024;
/// How many tokens may have been added in one place.
const ADDED: usize = 256;

/// (sent, client's, length) in characters from 0, of what the texts have in common.
pub(super) fn pieces(sent: &str, client: &str, client_offset: usize) -> Vec<(usize, usize, usize)> {
    let common = common(sent, client);
    let mut pieces = vec![(0, client_offset, common)];
    let (Ok(ours), Ok(theirs)) = (lex(sent), lex(client)) else { return pieces };
    let same = |ours_at: usize, theirs_at: usize| match (ours.get(ours_at), theirs.get(theirs_at)) {
        (Some(one), Some(other)) => alike(one.text(sent), one, other.text(client), other),
        (None, None) => true,
        _ => false,
    };
    let (mut sent_at, mut client_at) = (Characters::of(sent), Characters::of(client));
    let (mut at, mut own) = (0, 0);
    while at < ours.len() && own < theirs.len() {
        if !same(at, own) {
            let meets = |added: &usize| same(at + added, own) && same(at + added + 1, own + 1);
            match (1..ADDED).find(meets) {
                Some(added) => at += added,
                None => {
                    own += 1;
                    continue;
                }
            }
        }
        let (start, place) = (sent_at.before(ours[at].span.start), client_at.before(theirs[own].span.start));
        let length = ours[at].text(sent).chars().count().min(theirs[own].text(client).chars().count());
        if start >= common {
            pieces.push((start, client_offset + place, length));
        }
        (at, own) = (at + 1, own + 1);
    }
    pieces
}

/// How many characters two texts have in common at the start.
pub(super) fn common(one: &str, other: &str) -> usize {
    one.chars().zip(other.chars()).take_while(|(left, right)| left == right).count()
}

/// One token written in two ways: constants for constants, names whatever their quotes and letters.
fn alike(ours: &str, our: &Token, theirs: &str, their: &Token) -> bool {
    let constant = |kind: Kind| {
        matches!(
            kind,
            Kind::String
                | Kind::EscapeString
                | Kind::UnicodeString
                | Kind::BitString
                | Kind::HexString
                | Kind::NationalString
                | Kind::DollarString
                | Kind::Number
        )
    };
    if our.is_identifier() && their.is_identifier() {
        return ours.trim_matches('"').eq_ignore_ascii_case(theirs.trim_matches('"'));
    }
    (constant(our.kind) && constant(their.kind)) || (our.kind == their.kind && ours == theirs)
}

/// Byte offsets as numbers of characters, asked for in rising order.
struct Characters<'t> {
    text: &'t str,
    byte: usize,
    characters: usize,
}

impl<'t> Characters<'t> {
    fn of(text: &'t str) -> Characters<'t> {
        Characters { text, byte: 0, characters: 0 }
    }
    fn before(&mut self, byte: usize) -> usize {
        self.characters += self.text.get(self.byte..byte).map_or(0, |between| between.chars().count());
        self.byte = byte;
        self.characters
    }
}

#[cfg(test)]
mod tests {
    use super::pieces;

    /// What each token of the client's text is taken for, by where the sent text has it.
    fn found(sent: &str, client: &str, at: &str) -> Option<usize> {
        let place =
            sent.chars().count() - sent.split_once(at).unwrap().1.chars().count() - at.chars().count();
        let pieces = pieces(sent, client, 0);
        let piece = pieces.iter().find(|(start, _, length)| (*start..start + length).contains(&place))?;
        Some(piece.1 + place - piece.0)
    }

    #[test]
    fn tokens_are_found_again() {
        let client = "select nothing, é from t where email = 'a' and lost = $1";
        let sent = "SELECT nothing, é FROM \"public\".\"t\" WHERE email = '\\x11'::\"pgveil\".\"email_1\" AND lost = $2";
        for token in ["nothing", "é", "email =", "lost"] {
            assert_eq!(
                found(sent, client, token),
                client.find(token).map(|at| client[..at].chars().count()),
                "{token}"
            );
        }
        assert_eq!(found(sent, client, "\"t\""), Some(client.find("t where").unwrap() - 1));
        assert_eq!(found(sent, client, "\"public\""), None, "it was added");
        assert_eq!(found(sent, client, "\"pgveil\""), None);
        let star = "SELECT \"c\".\"id\", \"c\".\"email\" FROM \"public\".\"c\" JOIN lost ON true";
        assert_eq!(found(star, "select * from c join lost on true", "lost"), Some(21));
        assert_eq!(found(star, "select * from c join lost on true", "\"id\""), None);
    }
}
