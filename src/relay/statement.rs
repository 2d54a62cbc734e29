//! The client's prepared statements and portals: what each name stands for, here and in the server.
//!
//! A named statement has a name of ours in the server (`pgveil_s…`), the unnamed one is unnamed there too. Changes are
//! made when the client speaks, so that a pipeline finds them, and put back when the server skips the message.

use super::cells::Compared;
use super::errors::Positions;
use super::queue::Class;
use crate::plan::{Local, Pass, StatementPlan};
use crate::wire::backend::ErrorFields;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Names that only we give in the server begin with this.
const OURS: &str = "pgveil_";

pub(super) enum Decided {
    Pass(Pass),
    Plan(Arc<StatementPlan>),
    Local(Local),
}

/// A statement that the client prepared.
pub(super) struct Prepared {
    pub(super) server_name: String,
    pub(super) decided: Decided,
    pub(super) kind: &'static str,
    pub(super) class: Class,
    /// As the client sent it, to plan it again when the world has changed. Holds literals: no `Debug`.
    pub(super) text: Box<str>,
    /// Parameter types that the client declared, 0 for none.
    pub(super) declared: Vec<u32>,
    /// What its literals compare: counted at each Bind.
    pub(super) compared: Compared,
    pub(super) positions: Positions,
    /// The world for which the plan is known to hold.
    pub(super) generation: AtomicU64,
}

impl Prepared {
    pub(super) fn plan(&self) -> Option<&Arc<StatementPlan>> {
        match &self.decided {
            Decided::Plan(plan) => Some(plan),
            Decided::Pass(_) | Decided::Local(_) => None,
        }
    }
}

/// A portal that the client bound.
pub(super) struct Portal {
    pub(super) statement: Arc<Prepared>,
    pub(super) bound: Option<Bound>,
    /// The run of its first Execute, while it is not complete.
    pub(super) run: Option<u64>,
}

/// What binding a planned statement decided.
pub(super) struct Bound {
    /// The client's result formats, as sent.
    pub(super) formats: Vec<i16>,
    /// Under an oracle.
    pub(super) compared: Compared,
}

/// How to put our tables back when the server skipped a message.
#[derive(Default)]
pub(super) enum Undo {
    #[default]
    Nothing,
    /// What the name stood for before.
    Statement { name: String, before: Option<Arc<Prepared>> },
}

#[derive(Default)]
pub(super) struct Statements {
    by_name: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    named: u64,
}

impl Statements {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.by_name.get(name)
    }
    /// The server's name for a Parse of `name`: the same while the name lives, so that the server itself reports a
    /// duplicate.
    pub(super) fn name_for_parse(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        if let Some(living) = self.by_name.get(name) {
            return living.server_name.clone();
        }
        self.named += 1;
        format!("{OURS}s{}", self.named)
    }
    /// A Parse was sent. A living name keeps what it stands for: the server will refuse the duplicate.
    pub(super) fn parsed(&mut self, name: &str, prepared: &Arc<Prepared>) -> Undo {
        if !name.is_empty() && self.by_name.contains_key(name) {
            return Undo::Nothing;
        }
        let before = self.by_name.insert(name.to_owned(), prepared.clone());
        Undo::Statement { name: name.to_owned(), before }
    }
    /// The server confirmed a Parse: whatever we assumed, this is what the name stands for.
    pub(super) fn confirm(&mut self, name: String, prepared: Arc<Prepared>) {
        let replaced = self.by_name.get(&name).is_none_or(|known| known.server_name == prepared.server_name);
        if replaced && !name.is_empty() {
            self.by_name.insert(name, prepared);
        }
    }
    pub(super) fn forget(&mut self, name: &str) -> Undo {
        let before = self.by_name.remove(name);
        Undo::Statement { name: name.to_owned(), before }
    }
    pub(super) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Statement { name, before: Some(before) } => {
                self.by_name.insert(name, before);
            }
            Undo::Statement { name, before: None } => {
                self.by_name.remove(&name);
            }
        }
    }
    /// `DISCARD ALL`, `DEALLOCATE ALL`: only the unnamed statement survives.
    pub(super) fn discard(&mut self) {
        self.by_name.retain(|name, _| name.is_empty());
    }
    /// What a name of the client's is called in the server. A name that looks like ours but is not known is changed, so
    /// that nobody reaches our statements.
    pub(super) fn server_name(&self, name: &str) -> String {
        match self.by_name.get(name) {
            Some(prepared) => prepared.server_name.clone(),
            None if name.starts_with(OURS) => format!("{OURS}?{name}"),
            None => name.to_owned(),
        }
    }

    pub(super) fn portal(&self, name: &str) -> Option<&Portal> {
        self.portals.get(name)
    }
    pub(super) fn portal_mut(&mut self, name: &str) -> Option<&mut Portal> {
        self.portals.get_mut(name)
    }
    pub(super) fn bind(&mut self, name: &str, portal: Option<Portal>) -> Option<Portal> {
        match portal {
            Some(portal) => self.portals.insert(name.to_owned(), portal),
            None => self.portals.remove(name),
        }
    }
    /// Portals end with their transaction. Returns the runs that had not ended.
    pub(super) fn end_portals(&mut self) -> Vec<u64> {
        self.portals.drain().filter_map(|(_, portal)| portal.run).collect()
    }

    /// Puts the client's names for ours in an error's texts.
    pub(super) fn rename(&self, fields: &mut ErrorFields) {
        for (kind, text) in &mut fields.fields {
            if *kind != b'M' || !text.contains(OURS) {
                continue;
            }
            for (name, prepared) in &self.by_name {
                let ours = format!("\"{}\"", prepared.server_name);
                if !prepared.server_name.is_empty() && text.contains(&ours) {
                    *text = text.replace(&ours, &format!("\"{name}\""));
                }
            }
        }
    }
}

/// A message that begins with the given strings and goes on with `rest`, bytes untouched.
pub(super) fn message(tag: u8, strings: &[&str], rest: &[u8]) -> Bytes {
    let length = 4 + strings.iter().map(|text| text.len() + 1).sum::<usize>() + rest.len();
    let mut bytes = BytesMut::with_capacity(1 + length);
    bytes.put_u8(tag);
    bytes.put_i32(i32::try_from(length).unwrap_or(i32::MAX));
    for text in strings {
        bytes.put_slice(text.as_bytes());
        bytes.put_u8(0);
    }
    bytes.put_slice(rest);
    bytes.freeze()
}

/// What follows the first `strings` NUL-terminated strings of a body.
pub(super) fn after_strings(body: &[u8], strings: usize) -> &[u8] {
    let mut rest = body;
    for _ in 0..strings {
        let end = rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |at| at + 1);
        rest = rest.get(end..).unwrap_or_default();
    }
    rest
}
