//! One column's values from one form into another, many at a time, on all cores.
//!
//! Guarantees: what comes out is what a client that reads the old form and writes it through the proxy would have stored;
//! a value that does not fit is named by its place in the batch, and the others are carried. Deliberately absent: I/O.

use super::Failure;
use super::spec::{Column, Form};
use crate::crypto::keyring::Keyring;
use crate::crypto::provider::SystemRandom;
use crate::crypto::{CellCipher, Cells, KeyVersion, Mode};
use crate::value::{DETERMINISTIC_BYTES_MAX, DataType, Format, Style};
use std::sync::Arc;

/// A form, with what reads and writes it.
pub(super) struct Side {
    data_type: DataType,
    sealed: Option<Sealed>,
}

struct Sealed {
    cipher: Arc<CellCipher>,
    version: KeyVersion,
    deterministic: bool,
}

/// Carries a column's values.
pub(super) struct Carrier {
    from: Side,
    to: Side,
}

/// What came out of a batch, in its order.
#[derive(Default)]
pub(super) struct Carried {
    cells: Cells,
    /// For each value, its cell; `None` for NULL and what did not fit.
    places: Vec<Option<usize>>,
    /// Places of values that did not fit, and why.
    pub(super) misfits: Vec<(usize, String)>,
}

impl Carried {
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.places.get(index).copied().flatten().map(|place| self.cells.get(place))
    }
}

/// Values are carried by several threads from so many on.
const THREADS_FROM: usize = 512;

fn unknown_type(name: &str) -> Failure {
    Failure::new(format!("values of type {name} cannot be converted"))
        .hint("Give the column the logical type of its domain first: ALTER TABLE … ALTER COLUMN … TYPE ….")
}

impl Side {
    pub(super) fn new(form: &Form, keyring: &Keyring) -> Result<Side, Failure> {
        match form {
            Form::Plain { type_name, .. } => {
                let data_type = DataType::parse(type_name).ok_or_else(|| unknown_type(type_name))?;
                Ok(Side { data_type, sealed: None })
            }
            Form::Sealed { domain, deterministic, version, key, data_type, .. } => {
                let mode = if *deterministic { Mode::Deterministic } else { Mode::Randomized };
                let ciphers = keyring.ciphers([(domain.as_str(), mode, key.as_str())]);
                let ciphers = ciphers.map_err(|error| Failure::new(error.to_string()))?;
                let cipher = ciphers.by_domain.get(domain).cloned();
                let cipher = cipher.ok_or_else(|| Failure::new(format!("no key for domain {domain}")))?;
                let version = KeyVersion(*version);
                let data_type = DataType::parse(data_type).ok_or_else(|| unknown_type(data_type))?;
                Ok(Side {
                    data_type,
                    sealed: Some(Sealed { cipher, version, deterministic: *deterministic }),
                })
            }
        }
    }

    /// Canonical bytes of each value, as [`Carried::cells`]; wire forms are the database's binary ones.
    pub(super) fn canonical(&self, wires: &[Option<&[u8]>], out: &mut Carried) {
        match &self.sealed {
            None => self.read(wires, out),
            Some(sealed) => sealed.open(wires, out),
        }
    }

    fn read(&self, wires: &[Option<&[u8]>], out: &mut Carried) {
        let style = Style::default();
        for (at, wire) in wires.iter().enumerate() {
            let Some(wire) = wire else {
                out.places.push(None);
                continue;
            };
            out.cells.reserve(2 * wire.len());
            let read = out
                .cells
                .push_with(|bytes| self.data_type.read(&self.data_type, Format::Binary, wire, &style, bytes));
            match read {
                Ok(()) => out.places.push(Some(out.cells.len() - 1)),
                Err(error) => {
                    out.cells.truncate(out.cells.len() - 1);
                    out.places.push(None);
                    out.misfits.push((at, error.message));
                }
            }
        }
    }
}

impl Sealed {
    fn open(&self, wires: &[Option<&[u8]>], out: &mut Carried) {
        let mut sealed = Cells::new();
        wires.iter().flatten().for_each(|cell| sealed.push(cell));
        if self.cipher.open(&sealed, &mut out.cells).is_ok() {
            let mut next = 0..;
            out.places = wires.iter().map(|wire| wire.and_then(|_| next.next())).collect();
            return;
        }
        // Some cell does not open: one by one, to know which.
        for (at, wire) in wires.iter().enumerate() {
            let Some(cell) = wire else {
                out.places.push(None);
                continue;
            };
            let mut one = Cells::new();
            one.push(cell);
            if self.cipher.open(&one, &mut out.cells).is_ok() {
                out.places.push(Some(out.cells.len() - 1));
            } else {
                out.places.push(None);
                out.misfits.push((at, "it does not open under the keyring's keys".to_owned()));
            }
        }
    }
}

impl Carrier {
    pub(super) fn new(column: &Column, keyring: &Keyring) -> Result<Carrier, Failure> {
        Ok(Carrier { from: Side::new(&column.from, keyring)?, to: Side::new(&column.to, keyring)? })
    }

    /// Whether both wire forms, old and new, are of the same value.
    pub(super) fn same(&self, old: &[Option<&[u8]>], new: &[Option<&[u8]>]) -> Vec<bool> {
        let (mut from, mut to) = (Carried::default(), Carried::default());
        self.from.canonical(old, &mut from);
        self.to.canonical(new, &mut to);
        let from = self.converted(from);
        let whole = |at: usize| old[at].is_some() == new[at].is_some();
        let fits = |carried: &Carried, at: usize| !carried.misfits.iter().any(|(misfit, _)| *misfit == at);
        (0..old.len())
            .map(|at| whole(at) && fits(&from, at) && fits(&to, at) && from.get(at) == to.get(at))
            .collect()
    }

    /// Carries a batch.
    pub(super) fn carry(&self, wires: &[Option<&[u8]>]) -> Vec<Carried> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        if wires.len() < THREADS_FROM || threads == 1 {
            return vec![self.carry_here(wires)];
        }
        let share = wires.len().div_ceil(threads);
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                wires.chunks(share).map(|part| scope.spawn(|| self.carry_here(part))).collect();
            parts.into_iter().map(|part| part.join().expect("carrying values does not panic")).collect()
        })
    }

    fn carry_here(&self, wires: &[Option<&[u8]>]) -> Carried {
        let mut plain = Carried::default();
        self.from.canonical(wires, &mut plain);
        let mut plain = self.converted(plain);
        match &self.to.sealed {
            None => self.write(plain),
            Some(sealed) => {
                if sealed.deterministic {
                    plain.refuse(|cell| cell.len() > DETERMINISTIC_BYTES_MAX, || {
                        format!("it is longer than a deterministic cell can be ({DETERMINISTIC_BYTES_MAX} bytes)")
                    });
                }
                let mut cells = Cells::new();
                sealed
                    .cipher
                    .seal(sealed.version, &plain.cells, &mut SystemRandom, &mut cells)
                    .expect("the recipe names a version that the keyring was seen to have");
                Carried { cells, ..plain }
            }
        }
    }

    /// Canonical bytes of the new type.
    fn converted(&self, plain: Carried) -> Carried {
        let (from, to) = (self.from.data_type, self.to.data_type);
        if from == to {
            return plain;
        }
        let style = Style::default();
        plain.map(2, |cell, out| {
            let mut wire = zeroize::Zeroizing::new(Vec::with_capacity(cell.len() + 16));
            from.write(cell, Format::Binary, &style, &mut wire).map_err(|_| "it is malformed".to_owned())?;
            to.read(&from, Format::Binary, &wire, &style, out).map_err(|error| error.message)
        })
    }

    fn write(&self, plain: Carried) -> Carried {
        let style = Style::default();
        plain.map(4, |cell, out| {
            let written = self.to.data_type.write(cell, Format::Binary, &style, out);
            written.map_err(|_| "its cell holds no value of the column's type".to_owned())
        })
    }
}

impl Carried {
    /// Each cell as `make` writes it, or why there is none. `room`: how many times as long it may become.
    fn map(self, room: usize, make: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), String>) -> Carried {
        let mut out = Carried { misfits: self.misfits, ..Carried::default() };
        for (at, place) in self.places.iter().enumerate() {
            let Some(place) = place else {
                out.places.push(None);
                continue;
            };
            let cell = self.cells.get(*place);
            out.cells.reserve(room * cell.len());
            match out.cells.push_with(|bytes| make(cell, bytes)) {
                Ok(()) => out.places.push(Some(out.cells.len() - 1)),
                Err(why) => {
                    out.cells.truncate(out.cells.len() - 1);
                    out.places.push(None);
                    out.misfits.push((at, why));
                }
            }
        }
        out
    }

    fn refuse(&mut self, wrong: impl Fn(&[u8]) -> bool, why: impl Fn() -> String) {
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.is_some_and(|cell| wrong(self.cells.get(cell))) {
                *place = None;
                self.misfits.push((at, why()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Random;

    struct Counting(u8);
    impl Random for Counting {
        fn fill(&mut self, bytes: &mut [u8]) {
            bytes.iter_mut().for_each(|byte| {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            });
        }
    }

    fn keyring() -> Keyring {
        let mut keyring = Keyring::create();
        keyring.ensure_key("default", 0, &mut Counting(0));
        keyring.ensure_domain("email").unwrap();
        keyring
    }

    fn plain(type_name: &str) -> Form {
        Form::Plain { type_name: type_name.to_owned(), collation: None }
    }

    fn sealed(deterministic: bool) -> Form {
        Form::Sealed {
            type_name: "email_1".into(),
            domain: "email".into(),
            deterministic,
            version: 1,
            key: "default".into(),
            data_type: "text".into(),
        }
    }

    fn carrier(from: Form, to: Form) -> Carrier {
        let column = Column { name: "email".into(), number: 1, from, to };
        Carrier::new(&column, &keyring()).map_err(|failure| failure.message).unwrap()
    }

    fn all(parts: &[Carried]) -> Vec<Option<Vec<u8>>> {
        let of = |part: &Carried| {
            (0..part.places.len()).map(|at| part.get(at).map(<[u8]>::to_vec)).collect::<Vec<_>>()
        };
        parts.iter().flat_map(of).collect()
    }

    #[test]
    fn values_come_back_as_they_were_and_nulls_stay() {
        let values: Vec<Option<Vec<u8>>> =
            (0..2000).map(|n| (n % 7 != 0).then(|| format!("ann{n}@example.com").into_bytes())).collect();
        let wires: Vec<Option<&[u8]>> = values.iter().map(|value| value.as_deref()).collect();
        for deterministic in [true, false] {
            let there = all(&carrier(plain("text"), sealed(deterministic)).carry(&wires));
            let cells: Vec<Option<&[u8]>> = there.iter().map(|cell| cell.as_deref()).collect();
            let carrier = carrier(sealed(deterministic), plain("text"));
            assert_eq!(all(&carrier.carry(&cells)), values);
            assert!(carrier.same(&cells, &wires).iter().all(|same| *same));
            let mut others = wires.clone();
            others[1] = Some(b"bob");
            let same = carrier.same(&cells, &others);
            assert_eq!(same.iter().filter(|same| !**same).count(), 1);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_by_its_place() {
        let long = vec![b'x'; DETERMINISTIC_BYTES_MAX + 1];
        let carried = carrier(plain("text"), sealed(true)).carry(&[Some(b"a"), Some(&long), None]);
        assert_eq!(carried[0].misfits.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1]);
        assert!(carried[0].get(0).is_some() && carried[0].get(1).is_none());
        let cell = all(&carried)[0].clone().unwrap();
        let back = carrier(sealed(true), plain("character varying(3)"));
        assert_eq!(all(&back.carry(&[Some(&cell)])), [Some(b"a".to_vec())]);
        let mut altered = cell;
        *altered.last_mut().unwrap() ^= 1;
        assert_eq!(back.carry(&[Some(&altered), None])[0].misfits.len(), 1);
    }
}
