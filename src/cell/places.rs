//! Where cells stand in a JSON document that the server made, by the places that lineage knows.
//!
//! Guarantees: total on any bytes; what is not where it should be is left as it is, as ciphertext. Members that are not
//! named in the plan are passed over unread. Deliberately absent: judging the JSON, which is the server's.

use crate::plan::Node;
use std::ops::Range;

/// A value at a cell's place: the leaf that it belongs to, and the bytes of its whole token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) leaf: usize,
    pub(super) token: Range<usize>,
}

impl Spot {
    /// The hex digits of the cell; `None` where no cell stands (NULL, or a constant of the client's).
    pub(super) fn digits<'t>(&self, json: &'t [u8]) -> Option<&'t [u8]> {
        json.get(self.token.clone())?.strip_prefix(b"\"\\\\x")?.strip_suffix(b"\"")
    }
}

/// Every cell's place in `json`, in its order. `None`: this is no JSON.
pub(super) fn spots(json: &[u8], node: &Node) -> Option<Vec<Spot>> {
    // `jsonb_send` puts a version before it.
    let at = usize::from(json.first() == Some(&1));
    let mut walk = Walk { json, at, spots: vec![] };
    walk.value(node)?;
    Some(walk.spots)
}

struct Walk<'j> {
    json: &'j [u8],
    at: usize,
    spots: Vec<Spot>,
}

impl Walk<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    fn take(&mut self, expected: u8) -> Option<()> {
        (self.peek()? == expected).then(|| self.at += 1)
    }

    fn value(&mut self, node: &Node) -> Option<()> {
        match (self.peek()?, node) {
            (_, Node::Leaf(leaf)) => {
                let start = self.at;
                self.skip()?;
                self.spots.push(Spot { leaf: *leaf, token: start..self.at });
                Some(())
            }
            (b'{', Node::Object(members)) => self.object(|name| {
                let found = members.iter().find(|(known, _)| known == name);
                found.map_or(&Node::Plain, |(_, node)| node)
            }),
            (b'{', Node::Map(each)) => self.object(|_| each),
            (b'[', Node::Tuple(nodes)) => self.array(|index| nodes.get(index).unwrap_or(&Node::Plain)),
            (b'[', Node::Each(each)) => self.array(|_| each),
            _ => self.skip(),
        }
    }

    fn object<'n>(&mut self, node_of: impl Fn(&str) -> &'n Node) -> Option<()> {
        self.take(b'{')?;
        if self.peek()? == b'}' {
            return self.take(b'}');
        }
        loop {
            self.peek()?;
            let start = self.at;
            self.string()?;
            let name: String = serde_json::from_slice(self.json.get(start..self.at)?).ok()?;
            self.take(b':')?;
            self.value(node_of(&name))?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(b'}'),
            }
        }
    }

    fn array<'n>(&mut self, node_of: impl Fn(usize) -> &'n Node) -> Option<()> {
        self.take(b'[')?;
        if self.peek()? == b']' {
            return self.take(b']');
        }
        for index in 0.. {
            self.value(node_of(index))?;
            match self.peek()? {
                b',' => self.at += 1,
                _ => break,
            }
        }
        self.take(b']')
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.json.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// Passes over one value, however deep it is.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => self.literal()?,
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A number, `true`, `false` or `null`.
    fn literal(&mut self) -> Option<()> {
        let rest = self.json.get(self.at..)?;
        let length =
            rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        self.at += length;
        (length > 0).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(members: &[(&str, Node)]) -> Node {
        Node::Object(members.iter().map(|(name, node)| ((*name).to_owned(), node.clone())).collect())
    }

    fn found(json: &str, node: &Node) -> Option<Vec<(usize, String)>> {
        let spots = spots(json.as_bytes(), node)?;
        Some(spots.into_iter().map(|spot| (spot.leaf, json[spot.token].to_owned())).collect())
    }

    #[test]
    fn cells_are_found_by_their_places() {
        let person = object(&[("e\"mail", Node::Leaf(0)), ("tags", Node::Each(Box::new(Node::Leaf(1))))]);
        let json = r#"[{"id": [1, {"e\"mail": "no"}], "e\"mail" : "\\x11", "tags":["\\x12",null]}, {"tags": "x"}, null]"#;
        let expected =
            [(0, r#""\\x11""#), (1, r#""\\x12""#), (1, "null")].map(|(leaf, text)| (leaf, text.to_owned()));
        assert_eq!(found(json, &Node::Each(Box::new(person))), Some(expected.to_vec()));
        assert_eq!(
            found("{\"a\":-1.5e+3,\"b\":true}", &Node::Map(Box::new(Node::Leaf(2)))).unwrap().len(),
            2
        );
        assert_eq!(
            found("[1,2,3]", &Node::Tuple(vec![Node::Plain, Node::Leaf(0)])).unwrap(),
            [(0, "2".to_owned())]
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let node = Node::Each(Box::new(object(&[("a", Node::Map(Box::new(Node::Leaf(0))))])));
        let whole = br#"[{"a": {"b\\": "\\x11", "c": [1, "]"]}}, {"a": null}]"#;
        for end in 0..whole.len() {
            assert_eq!(spots(&whole[..end], &node), None, "{end}");
            let mut changed = whole.to_vec();
            for byte in [b'"', b'\\', b'{', b']', 0xff] {
                changed[end] = byte;
                let _ = spots(&changed, &node);
            }
        }
        assert!(spots(&[b'['; 100_000], &Node::Plain).is_none(), "nor does depth");
    }
}
