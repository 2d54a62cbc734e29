//! The client's prepared statements and portals: what each name stands for, here and in the server.
//!
//! A named statement has a name of ours in the server (`pgveil_s…`), the unnamed one is unnamed there too. Changes are
//! made when the client speaks, so that a pipeline finds them, and put back when the server skips the message.

use super::by_name::ByName;
use super::cells::Compared;
use super::errors::Positions;
use super::judge::Judged;
use super::queue::Class;
use super::renew::Told;
use crate::cell::Formats;
use crate::cell::person::Pinned;
use crate::plan::{Local, Pass, StatementPlan};
use crate::wire::backend::ErrorFields;
use bytes::{BufMut, Bytes, BytesMut};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Names that only we give in the server begin with this.
const OURS: &str = "pgveil_";

pub(super) enum Decided {
    Pass(Pass),
    Plan(Arc<StatementPlan>),
    Local(Local),
}

impl Decided {
    /// `path`, when on another one the statement might not pass.
    pub(super) fn bound_to(&self, path: &[String]) -> Option<Vec<String>> {
        match self {
            Decided::Pass(pass) if pass.by_meaning => Some(path.to_vec()),
            Decided::Pass(_) | Decided::Plan(_) | Decided::Local(_) => None,
        }
    }
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
    /// In which segment of the queue it was parsed.
    pub(super) segment: u64,
    /// The world for which the plan is known to hold.
    pub(super) generation: AtomicU64,
    /// The path on which it passes, where another path could give its names another meaning. The server plans it anew
    /// when the path changes (`plancache.c`); a plan of ours names its schemas.
    pub(super) path: Option<Vec<String>>,
    /// For a planned statement: what the client knows of its types.
    pub(super) told: Told,
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
    /// In which segment of the queue it was bound.
    pub(super) segment: u64,
    /// The run of its first Execute, while it is not complete.
    pub(super) run: Option<u64>,
}

/// What binding a planned statement decided.
pub(super) struct Bound {
    pub(super) formats: Arc<Formats>,
    /// Under an oracle.
    pub(super) compared: Compared,
    /// Whom it names by constants.
    pub(super) pinned: Pinned,
    pub(super) judged: Arc<Judged>,
}

/// How to put our tables back when the server skipped a message.
#[derive(Default)]
pub(super) enum Undo {
    #[default]
    Nothing,
    /// What the name stood for before, and since.
    Statement { name: String, before: Option<Arc<Prepared>>, since: Option<Arc<Prepared>> },
    /// The unnamed statement was prepared anew, which the client does not know of.
    Unnamed,
    /// The portal that had the name before a Bind. A failed Bind leaves it alone, and a savepoint may bring it back.
    Portal { name: String, before: Option<Box<Portal>> },
}

impl Undo {
    /// Whether it puts this name back.
    pub(super) fn concerns(&self, name: &str) -> bool {
        matches!(self, Undo::Statement { name: own, .. } if own == name)
    }
}

#[derive(Default)]
pub(super) struct Statements {
    by_name: ByName<Arc<Prepared>>,
    portals: ByName<Portal>,
    named: u64,
    /// A reply failed after a later Parse of the unnamed statement was sent: the server has another one than the client
    /// knows of.
    unnamed_lost: bool,
}

impl Statements {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Prepared>> {
        self.by_name.get(name)
    }
    /// Whether there is one beside the unnamed.
    pub(super) fn any_named(&self) -> bool {
        !self.by_name.named().is_empty()
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
        self.further_name(name)
    }
    /// A name in the server for a statement beside the living one of this name.
    pub(super) fn further_name(&mut self, name: &str) -> String {
        if name.is_empty() {
            return String::new();
        }
        self.named += 1;
        format!("{OURS}s{}", self.named)
    }
    /// A statement was prepared anew: it takes the old one's place.
    pub(super) fn renewed(&mut self, name: &str, old: &Arc<Prepared>, new: Arc<Prepared>) {
        if let Some(known) = self.by_name.get_mut(name)
            && Arc::ptr_eq(known, old)
        {
            *known = new;
        }
    }
    /// A Parse was sent. A living name keeps what it stands for: the server will refuse the duplicate.
    pub(super) fn parsed(&mut self, name: &str, prepared: &Arc<Prepared>) -> Undo {
        if self.by_name.named().contains_key(name) {
            return Undo::Nothing;
        }
        let before = self.by_name.insert(name, prepared.clone());
        self.unnamed_lost &= !name.is_empty();
        Undo::Statement { name: name.to_owned(), before, since: Some(prepared.clone()) }
    }
    /// The server took a Parse of a living name, which had gone behind our back: this is what it stands for now.
    pub(super) fn replaced(&mut self, name: &str, prepared: Arc<Prepared>) {
        if let Some(known) = self.by_name.get_mut(name)
            && known.server_name == prepared.server_name
        {
            *known = prepared;
        }
    }
    pub(super) fn forget(&mut self, name: &str) -> Undo {
        let before = self.by_name.remove(name);
        Undo::Statement { name: name.to_owned(), before, since: None }
    }
    /// Puts a name back, unless something later has changed it again.
    pub(super) fn undo(&mut self, undo: Undo) -> bool {
        let (name, before, since) = match undo {
            Undo::Statement { name, before, since } => (name, before, since),
            Undo::Portal { name, before } => {
                self.bind(&name, before.map(|before| *before));
                return false;
            }
            Undo::Nothing | Undo::Unnamed => return false,
        };
        let unchanged = match (self.by_name.get(&name), &since) {
            (None, None) => true,
            (Some(known), Some(since)) => Arc::ptr_eq(known, since),
            _ => false,
        };
        if unchanged {
            match before {
                Some(before) => self.by_name.insert(&name, before),
                None => self.by_name.remove(&name),
            };
        }
        unchanged
    }
    /// A message that the server has taken, or will take, never happened for the client. The unnamed statement cannot be
    /// put back: the server has the newer one.
    /// Gives the portal that is gone with it: nor can the unnamed one be put back.
    pub(super) fn disown(&mut self, undo: Undo) -> Option<Portal> {
        let undo = match undo {
            Undo::Portal { name, before } if name.is_empty() => return before.map(|before| *before),
            Undo::Unnamed => {
                self.lose_unnamed();
                return None;
            }
            undo => undo,
        };
        let unnamed = matches!(&undo, Undo::Statement { name, .. } if name.is_empty());
        if self.undo(undo) && unnamed {
            self.lose_unnamed();
        }
        None
    }
    fn lose_unnamed(&mut self) {
        self.by_name.remove("");
        self.unnamed_lost = true;
    }
    /// A Parse failed: of a named statement it has changed nothing, the unnamed one it has dropped.
    pub(super) fn failed(&mut self, undo: Undo) {
        if matches!(undo, Undo::Unnamed) {
            self.lose_unnamed();
            return;
        }
        let unnamed = matches!(&undo, Undo::Statement { name, .. } if name.is_empty());
        if self.undo(undo) && unnamed {
            self.by_name.remove("");
        }
    }
    /// Whether the unnamed statement is not the one that the server has.
    pub(super) fn lost(&self, name: &str) -> bool {
        name.is_empty() && self.unnamed_lost
    }
    /// `DISCARD ALL`, `DEALLOCATE ALL`: only the unnamed statement survives.
    pub(super) fn discard(&mut self) {
        self.by_name.forget_named();
    }
    /// What a name of the client's is called in the server. A name that looks like ours but is not known is changed, so
    /// that nobody reaches our statements.
    pub(super) fn server_name<'n>(&'n self, name: &'n str) -> Cow<'n, str> {
        match self.by_name.get(name) {
            Some(prepared) => Cow::Borrowed(&prepared.server_name),
            None if name.starts_with(OURS) => Cow::Owned(format!("{OURS}?{name}")),
            None => Cow::Borrowed(name),
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
            Some(portal) => self.portals.insert(name, portal),
            None => self.portals.remove(name),
        }
    }
    /// Portals end with their transaction, but those of later segments. Returns the runs that had not ended.
    pub(super) fn end_portals(&mut self, segment: u64) -> Vec<u64> {
        let mut runs: Vec<u64> = Vec::new();
        self.portals.retain(|portal| {
            let later = portal.segment > segment;
            runs.extend(portal.run.filter(|_| !later));
            later
        });
        runs.sort_unstable();
        runs
    }
    pub(super) fn holds_run(&self, run: u64) -> bool {
        self.portals.values().any(|portal| portal.run == Some(run))
    }

    /// Puts the client's names for ours in an error's texts.
    pub(super) fn rename(&self, fields: &mut ErrorFields) {
        for (kind, text) in &mut fields.fields {
            if *kind != b'M' || !text.contains(OURS) {
                continue;
            }
            for (name, prepared) in self.by_name.named() {
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

/// The NUL-terminated string after the first `skipped` ones; empty where there is none, or it is not UTF-8.
pub(super) fn first_string(body: &[u8], skipped: usize) -> &str {
    let rest = after_strings(body, skipped);
    let end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
    std::str::from_utf8(rest.get(..end).unwrap_or_default()).unwrap_or_default()
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
