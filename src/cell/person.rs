//! Whose cells rows show: the record keys that stand in them, or that the statement asks for, as handles.
//!
//! Guarantees: a person is noted only for a row that shows a cell of theirs, in whatever form; a key that is NULL, or not of its type,
//! is a person not known; nothing here fails a row. The key's value is forgotten with its row. Deliberately absent: pseudonyms and files (`audit`).

use super::formats::Formats;
use super::open::unhex;
use super::rows::{self, Walk};
use crate::catalog::RecordKey;
use crate::crypto::{Batch, CellCipher, Cells, Ciphers, PersonHandle, PersonIndex, Span};
use crate::plan::{ColumnSlot, Judgement, PersonKey, PersonSlot, Persons, StatementPlan};
use crate::policy::Form;
use crate::value::{DataType, Format, Style};
use crate::wire::frontend::Bind;
use std::collections::BTreeSet;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The persons of one run's rows.
pub struct PersonFinder {
    index: PersonIndex,
    slots: Vec<Slot>,
    /// The outputs that are looked at, in order.
    needed: Vec<usize>,
    width: usize,
    persons_max: usize,
    seen: BTreeSet<PersonHandle>,
    more: u64,
    unknown: u64,
    /// Of the row that is looked at, by `needed`.
    spans: Vec<Option<Span>>,
    canonical: Zeroizing<Vec<u8>>,
    plain: Cells,
}

/// A slot of the plan's, and the person whom its statement names by a constant.
pub type Pinned = Vec<(usize, PersonHandle)>;

/// Where a slot's person comes from.
enum Key {
    /// The value at this place among the needed.
    Place(usize),
    /// The same in every row; `None`: the constant is none of the key's type.
    Pinned(Option<PersonHandle>),
}

struct Slot {
    table: Arc<RecordKey>,
    key: Key,
    format: Format,
    cipher: Option<Arc<CellCipher>>,
    /// Places among the needed of cells that are shown.
    cells: Vec<usize>,
    every_row: bool,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub handles: Vec<PersonHandle>,
    /// Rows that came when as many persons were known as are named.
    pub more: u64,
    /// Rows whose person is not known.
    pub unknown: u64,
}

impl PersonFinder {
    /// `columns` are the plan's, and `formats` those of its rows. `None`: nobody can be known.
    pub fn new(
        persons: &Persons,
        columns: Option<&[ColumnSlot]>,
        formats: &Formats,
        judgement: &Judgement,
        ciphers: &Ciphers,
        pinned: &Pinned,
        persons_max: usize,
    ) -> Option<PersonFinder> {
        let index = ciphers.persons.clone()?;
        let shows = |output: &usize| match columns.and_then(|columns| columns.get(*output)) {
            Some(ColumnSlot::Open(slot)) => {
                let ruling = judgement.rulings.get(slot.ruling);
                ruling.is_some_and(|ruling| ruling.disclosure.form() != Form::Withheld)
            }
            _ => true,
        };
        let cells = |slot: &PersonSlot| slot.cells.iter().copied().filter(shows).collect::<Vec<_>>();
        let mut needed = BTreeSet::new();
        for slot in &persons.slots {
            needed.extend(cells(slot));
            needed.extend(match slot.key {
                PersonKey::Output(key) => Some(key),
                PersonKey::Parameter(_) | PersonKey::Literal(_) => None,
            });
        }
        let needed: Vec<usize> = needed.into_iter().collect();
        let place = |output: usize| needed.binary_search(&output).unwrap_or(usize::MAX);
        let slots = persons.slots.iter().zip(0..).map(|(slot, number)| {
            let domain = slot.table.column.as_ref().and_then(|column| column.domain.as_ref());
            let (key, format) = match slot.key {
                PersonKey::Output(key) => (Key::Place(place(key)), formats.comes(key)),
                PersonKey::Parameter(_) | PersonKey::Literal(_) => {
                    let known = pinned.iter().find(|(own, _)| *own == number);
                    (Key::Pinned(known.map(|(_, handle)| *handle)), Format::Text)
                }
            };
            Slot {
                table: slot.table.clone(),
                key,
                format,
                cipher: domain.and_then(|domain| ciphers.by_domain.get(domain)).cloned(),
                cells: cells(slot).into_iter().map(place).collect(),
                every_row: slot.every_row,
            }
        });
        Some(PersonFinder {
            slots: slots.collect(),
            index,
            needed,
            width: persons.width,
            persons_max,
            seen: BTreeSet::new(),
            more: 0,
            unknown: 0,
            spans: vec![],
            canonical: Zeroizing::default(),
            plain: Cells::new(),
        })
    }

    /// Whether rows need not be looked at.
    pub fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// The outputs that [`row`](Self::row) wants, in order.
    pub(super) fn needed(&self) -> &[usize] {
        &self.needed
    }

    /// Looks at the rows that `bytes` holds, whole DataRow messages as the server sent them.
    pub fn rows_in(&mut self, bytes: &[u8], style: &Style) {
        if self.is_idle() {
            return;
        }
        let mut at = 0;
        let mut spans = std::mem::take(&mut self.spans);
        while let Ok(row) = rows::message(bytes, at) {
            at = row.end;
            spans.clear();
            match self.walk(bytes, row, &mut spans) {
                Some(()) => self.row(bytes, &spans, style),
                None => self.unknown += 1,
            }
        }
        self.spans = spans;
    }

    fn walk(&self, bytes: &[u8], row: Span, spans: &mut Vec<Option<Span>>) -> Option<()> {
        let mut walk = Walk::new(bytes, row, self.width).ok()?;
        let mut next = 0;
        for output in &self.needed {
            walk.skip(output - next).ok()?;
            spans.push(walk.next().ok()?);
            next = output + 1;
        }
        Some(())
    }

    /// One row that leaves: where the needed outputs stand in `source`, `None` for NULL.
    pub(super) fn row(&mut self, source: &[u8], spans: &[Option<Span>], style: &Style) {
        let PersonFinder { index, slots, persons_max, seen, canonical, plain, .. } = self;
        let value = |place: &usize| spans.get(*place).copied().flatten();
        let (mut more, mut unknown) = (false, false);
        for slot in
            slots.iter().filter(|slot| slot.every_row || slot.cells.iter().any(|cell| value(cell).is_some()))
        {
            if seen.len() >= *persons_max {
                more = true;
                continue;
            }
            let handle = match &slot.key {
                Key::Pinned(handle) => *handle,
                Key::Place(place) => {
                    let key = value(place).and_then(|span| source.get(span.start..span.end));
                    key.and_then(|key| slot.handle(index, key, style, canonical, plain))
                }
            };
            canonical.as_mut_slice().zeroize();
            canonical.clear();
            plain.clear();
            match handle {
                Some(handle) => _ = seen.insert(handle),
                None => unknown = true,
            }
        }
        self.more += u64::from(more);
        self.unknown += u64::from(unknown);
    }

    /// What was found in all rows.
    pub fn finish(self) -> Found {
        Found { handles: self.seen.into_iter().collect(), more: self.more, unknown: self.unknown }
    }
}

/// Whom the plan's statement names by a constant: a literal of `text`, the client's whole text, or a parameter, of which the
/// client declared the type or did not.
pub fn pinned(
    plan: &StatementPlan,
    text: &str,
    (declared, bind): (&[u32], Option<&Bind<'_>>),
    style: &Style,
    ciphers: &Ciphers,
) -> Pinned {
    let (Some(persons), Some(index)) = (&plan.persons, &ciphers.persons) else { return vec![] };
    let handle = |slot: &PersonSlot| {
        let data_type = slot.table.column.as_ref()?.data_type;
        let (format, value) = match &slot.key {
            PersonKey::Output(_) => return None,
            PersonKey::Literal(span) => {
                let token = text.get(span.clone())?;
                let quoted = token.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                (Format::Text, quoted.unwrap_or(token).as_bytes())
            }
            PersonKey::Parameter(client) => {
                let bind = bind?;
                let sent = declared.get(*client).copied().unwrap_or(0);
                let alike = DataType::from_oid(sent).is_some_and(|sent| sent.family() == data_type.family());
                let untyped = matches!(sent, 0 | UNKNOWN);
                let value = bind.parameters.get(*client).copied().flatten().filter(|_| alike || untyped)?;
                (if bind.parameter_format(*client) == 1 { Format::Binary } else { Format::Text }, value)
            }
        };
        // A constant may be of a wider type than the key.
        let data_type =
            if data_type.family() == DataType::Bigint.family() { DataType::Bigint } else { data_type };
        let mut canonical = Zeroizing::new(vec![]);
        data_type.read(&data_type, format, value, style, &mut canonical).ok()?;
        Some(index.handle(&slot.table.table, data_type.family(), &canonical))
    };
    let known = persons.slots.iter().zip(0..).filter_map(|(slot, number)| Some((number, handle(slot)?)));
    known.collect()
}

/// `unknown`, which is a type to PostgreSQL.
const UNKNOWN: u32 = 705;

impl Slot {
    fn handle(
        &self,
        index: &PersonIndex,
        key: &[u8],
        style: &Style,
        canonical: &mut Vec<u8>,
        plain: &mut Cells,
    ) -> Option<PersonHandle> {
        let RecordKey { table, column } = &*self.table;
        let data_type = column.as_ref()?.data_type;
        let family = data_type.family();
        if column.as_ref()?.domain.is_none() {
            data_type.read(&data_type, self.format, key, style, canonical).ok()?;
            return Some(index.handle(table, family, canonical));
        }
        let cell = match self.format {
            Format::Binary => key,
            Format::Text => {
                unhex(key.strip_prefix(b"\\x")?, canonical)?;
                canonical.as_slice()
            }
        };
        let spans = [Span { start: 0, end: cell.len() }];
        self.cipher.as_ref()?.open_batch(Batch { bytes: cell, spans: &spans }, plain).ok()?;
        Some(index.handle(table, family, plain.get(0)))
    }
}
