//! Who a record's rows were about: pseudonyms, and the one file that leads from a person to theirs.
//!
//! A person is a row of a table that has a record key (tags.toml). The file `persons` holds, for each that was seen, a random key of
//! their own under their handle ([`PersonIndex`]); their pseudonym in records is a keyed hash under it. So whoever has the folder
//! finds a person's records, and nobody can once the entry is gone: no record changes, the tree stays what it is, and a person who
//! is seen again gets a new pseudonym.
//!
//! Guarantees: a person's key is on disk before a record that names the pseudonym; the file is replaced whole when somebody is forgotten, and
//! a crash leaves the old one or the new one; one process writes it, the one that has the log open. Limits: the file must be as
//! secret as the rows' keys, for who has it can try them all; an old copy of it (a backup, a snapshot, blocks that the disk has not written
//! over yet) still knows who was forgotten; all entries are held in memory (about 50 bytes each) by a proxy that records persons.
//! Deliberately absent: which rows were shown (`cell`).

use super::{AuditRecord, Event, Fault, Unrecorded, files, keys};
use crate::crypto::{PersonHandle, PersonIndex, pseudonym};
use crate::value::{DataType, Format, Style};
use serde_json::{Value, json};
use std::borrow::BorrowMut;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// File name in the log's folder.
pub const PERSONS_FILE: &str = "persons";
/// What asks the log's writer to forget somebody, until it has.
pub const FORGET_FILE: &str = "persons.forget";

/// Persons that one record names at most.
pub const PERSONS_MAX: usize = 1000;

/// What the file begins with: its version, then the key of the index.
const MAGIC: &[u8; 32] = b"pgveil persons 1\n\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
const HEAD_BYTES: usize = 64;
/// A handle and the person's own key. No entry is torn: sectors of disks are multiples of it.
const ENTRY_BYTES: usize = 32;

/// Whose cells a statement disclosed. What is not known is said, never left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persons {
    /// Before the log's writer has named them; nothing of these is ever written.
    pub handles: Vec<PersonHandle>,
    /// In ascending order, at most [`PERSONS_MAX`].
    pub seen: Vec<Pseudonym>,
    /// Rows that came when as many were named: of these or of other persons.
    pub more: u64,
    /// Rows that showed something of somebody whose key did not come with it.
    pub unknown: u64,
}

/// What stands for a person in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pseudonym(pub [u8; 16]);

impl Pseudonym {
    pub fn hex(&self) -> String {
        faster_hex::hex_string(&self.0)
    }
    pub fn from_hex(hex: &str) -> Option<Pseudonym> {
        let mut bytes = [0; 16];
        let lower = hex.len() == 32 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (lower && faster_hex::hex_decode(hex.as_bytes(), &mut bytes).is_ok()).then_some(Pseudonym(bytes))
    }
}

/// What makes handles; the file begins with it. Made if it is not there and `create`.
pub fn index(folder: &Path, create: bool) -> Result<PersonIndex, Fault> {
    let path = folder.join(PERSONS_FILE);
    if create && !path.exists() {
        keys::ensure_folder(folder)?;
        let mut head = Zeroizing::new([0; HEAD_BYTES]);
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        getrandom::fill(&mut head[MAGIC.len()..])
            .map_err(|error| Fault::new(format!("could not get random bytes for a key: {error}")))?;
        match files::create(&path, 0o600, head.as_slice()) {
            // Another process was quicker.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(|error| unusable(&path, &error))?,
        }
    }
    let mut file = open(&path, false)?;
    head(&mut file).map_err(|error| unusable(&path, &error))
}

fn open(path: &Path, write: bool) -> Result<File, Fault> {
    let file =
        OpenOptions::new().read(true).write(write).open(path).map_err(|error| unusable(path, &error))?;
    let mode = file.metadata().map_err(|error| unusable(path, &error))?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let fault = Fault::new(format!("others may read {} (mode {mode:04o})", path.display()));
        return Err(fault.hint(format!("Run `chmod 600 {}`.", path.display())));
    }
    Ok(file)
}

fn unusable(path: &Path, error: &io::Error) -> Fault {
    let fault =
        Fault::new(format!("the persons of the audit log, {}, cannot be read: {error}", path.display()));
    match error.kind() {
        ErrorKind::NotFound => fault
            .hint("It is made when a table has a record_key (tags.toml), and stays with the proxy's log."),
        _ => fault,
    }
}

fn head(file: &mut File) -> io::Result<PersonIndex> {
    let mut head = Zeroizing::new([0; HEAD_BYTES]);
    file.read_exact(head.as_mut_slice())?;
    let mut key = Zeroizing::new([0; 32]);
    let (magic, secret) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no such file, or of a newer version"));
    }
    key.copy_from_slice(secret);
    Ok(PersonIndex::new(&key))
}

/// The file, read.
pub struct Register {
    path: PathBuf,
    file: File,
    index: PersonIndex,
    own: HashMap<PersonHandle, [u8; 16]>,
    /// Bytes that are whole.
    length: u64,
}

impl Register {
    /// # Errors
    /// It is not there, open to others, or not such a file.
    pub fn read(folder: &Path) -> Result<Register, Fault> {
        Register::open(folder, false)
    }

    fn open(folder: &Path, write: bool) -> Result<Register, Fault> {
        let path = folder.join(PERSONS_FILE);
        let mut file = open(&path, write)?;
        let mut read = || -> io::Result<(PersonIndex, Zeroizing<Vec<u8>>)> {
            let index = head(&mut file)?;
            let mut entries = Zeroizing::new(Vec::new());
            file.read_to_end(&mut entries)?;
            Ok((index, entries))
        };
        let (index, entries) = read().map_err(|error| unusable(&path, &error))?;
        let (whole, _) = entries.as_chunks::<ENTRY_BYTES>();
        let own = whole.iter().map(|entry| {
            let (mut handle, mut own) = ([0; 16], [0; 16]);
            handle.copy_from_slice(&entry[..16]);
            own.copy_from_slice(&entry[16..]);
            (PersonHandle(handle), own)
        });
        let length = (HEAD_BYTES + whole.len() * ENTRY_BYTES) as u64;
        Ok(Register { own: own.collect(), path, file, index, length })
    }

    /// Every way in which `key` can be meant: by the types that a record key may have.
    pub fn handles(&self, table: &[String; 3], key: &str) -> BTreeSet<PersonHandle> {
        DataType::families()
            .filter(|data_type| data_type.deterministic().is_ok())
            .filter_map(|data_type| {
                let mut canonical = Zeroizing::new(vec![]);
                let style = Style::default();
                data_type.read(&data_type, Format::Text, key.as_bytes(), &style, &mut canonical).ok()?;
                Some(self.index.handle(table, data_type.family(), &canonical))
            })
            .collect()
    }

    /// What records call the person.
    pub fn pseudonym(&self, handle: PersonHandle) -> Option<Pseudonym> {
        self.own.get(&handle).map(|own| Pseudonym(pseudonym(own, handle)))
    }

    /// Gives each of these persons a key of their own who has none, on disk.
    fn enter(&mut self, handles: impl Iterator<Item = PersonHandle>) -> io::Result<()> {
        let new: BTreeSet<PersonHandle> = handles.filter(|handle| !self.own.contains_key(handle)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut secrets = Zeroizing::new(vec![0; 16 * new.len()]);
        getrandom::fill(&mut secrets).map_err(|error| io::Error::other(error.to_string()))?;
        let mut entries = Zeroizing::new(Vec::with_capacity(ENTRY_BYTES * new.len()));
        for (handle, own) in new.iter().zip(secrets.as_chunks::<16>().0) {
            entries.extend_from_slice(&handle.0);
            entries.extend_from_slice(own);
        }
        // Over whatever a write that failed has left.
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(&entries)?;
        self.file.sync_data()?;
        self.length += entries.len() as u64;
        self.own.extend(new.into_iter().zip(secrets.as_chunks::<16>().0.iter().copied()));
        Ok(())
    }

    /// Writes the file without these persons, whole.
    fn forget(&mut self, handles: &[PersonHandle]) -> io::Result<()> {
        if !handles.iter().any(|handle| self.own.contains_key(handle)) {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(0))?;
        let mut content = Zeroizing::new(vec![0; HEAD_BYTES]);
        self.file.read_exact(&mut content)?;
        content.reserve(self.own.len() * ENTRY_BYTES);
        let mut own = self.own.clone();
        own.retain(|handle, _| !handles.contains(handle));
        for (handle, own) in &own {
            content.extend_from_slice(&handle.0);
            content.extend_from_slice(own);
        }
        files::replace(&self.path, 0o600, &content)?;
        files::sync_folder(&self.path)?;
        self.file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        (self.own, self.length) = (own, content.len() as u64);
        Ok(())
    }
}

/// The writer's side: the file is read when the first person is named.
pub(super) struct Namer {
    folder: PathBuf,
    register: Option<Register>,
}

impl Namer {
    pub(super) fn new(folder: &Path) -> Namer {
        Namer { folder: folder.to_owned(), register: None }
    }

    fn register(&mut self) -> Result<&mut Register, Unrecorded> {
        let register = match self.register.take() {
            Some(register) => register,
            None => Register::open(&self.folder, true).map_err(|fault| Unrecorded(fault.message))?,
        };
        Ok(self.register.insert(register))
    }

    /// Puts pseudonyms in the place of handles.
    pub(super) fn name<R: BorrowMut<AuditRecord>>(&mut self, records: &mut [R]) -> Result<(), Unrecorded> {
        let persons = |record: &R| match &record.borrow().event {
            Event::Outcome { persons: Some(persons), .. } => persons.handles.clone(),
            _ => vec![],
        };
        let handles: Vec<PersonHandle> = records.iter().flat_map(persons).collect();
        if handles.is_empty() {
            return Ok(());
        }
        let register = self.register()?;
        if let Err(error) = register.enter(handles.into_iter()) {
            // What is on disk now is not certain: it is read again.
            self.register = None;
            return Err(Unrecorded(format!("the file {PERSONS_FILE} cannot be written: {error}")));
        }
        for record in records {
            if let Event::Outcome { persons: Some(persons), .. } = &mut record.borrow_mut().event {
                persons.seen =
                    persons.handles.drain(..).filter_map(|handle| register.pseudonym(handle)).collect();
                persons.seen.sort_unstable();
            }
        }
        Ok(())
    }

    /// Forgets whom the folder's request names. What is recorded of it; `None` where there is no request.
    pub(super) fn forget(&mut self) -> Result<Option<Event>, Unrecorded> {
        let request = self.folder.join(FORGET_FILE);
        if !request.exists() {
            return Ok(None);
        }
        let cannot =
            |why: String| Unrecorded(format!("the request {FORGET_FILE} cannot be carried out: {why}"));
        let text = fs::read(&request).map_err(|error| cannot(error.to_string()))?;
        let Some((table, handles)) = asked(&text) else { return Err(cannot("it cannot be read".to_owned())) };
        let forgotten = self.register()?.forget(&handles);
        if let Err(error) = forgotten {
            self.register = None;
            return Err(cannot(error.to_string()));
        }
        Ok(Some(Event::PersonForgotten { table }))
    }

    /// The request was carried out, and is recorded.
    pub(super) fn forgotten(&self) -> io::Result<()> {
        let request = self.folder.join(FORGET_FILE);
        fs::remove_file(&request)?;
        files::sync_folder(&request)
    }
}

/// Asks the log's writer to forget a person of `table`.
///
/// # Errors
/// The request could not be written, or another one waits.
pub fn ask_to_forget(folder: &Path, table: &str, handles: &[PersonHandle]) -> Result<(), Fault> {
    let path = folder.join(FORGET_FILE);
    let handles: Vec<String> = handles.iter().map(|handle| faster_hex::hex_string(&handle.0)).collect();
    let request = json!({ "table": table, "persons": handles }).to_string();
    files::create(&path, 0o600, request.as_bytes()).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Fault::new("another person is being forgotten").hint(
            "Try again in a moment; the running proxy, or the next start, carries the first request out.",
        ),
        _ => Fault::new(format!("could not write {}: {error}", path.display())),
    })
}

fn asked(request: &[u8]) -> Option<(String, Vec<PersonHandle>)> {
    let request: Value = serde_json::from_slice(request).ok()?;
    let handle = |hex: &Value| Some(PersonHandle(Pseudonym::from_hex(hex.as_str()?)?.0));
    let handles = request.get("persons")?.as_array()?.iter().map(handle).collect::<Option<Vec<_>>>()?;
    Some((request.get("table")?.as_str()?.to_owned(), handles))
}

#[cfg(test)]
mod tests {
    use super::super::canonical::tests::samples;
    use super::*;

    fn table() -> [String; 3] {
        ["shop", "public", "customers"].map(str::to_owned)
    }

    fn outcome(handles: Vec<PersonHandle>) -> AuditRecord {
        let mut record = samples().swap_remove(5);
        let Event::Outcome { persons, .. } = &mut record.event else { panic!("{record:?}") };
        *persons = Some(Persons { handles, ..Persons::default() });
        record
    }

    fn named(namer: &mut Namer, handles: &[PersonHandle]) -> Vec<Pseudonym> {
        let mut records = [outcome(handles.to_vec())];
        namer.name(&mut records).unwrap();
        match &records[0].event {
            Event::Outcome { persons: Some(persons), .. } => persons.seen.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_person_keeps_the_pseudonym_until_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let handle = |key: i64| index(folder, true).unwrap().handle(&table(), "bigint", &key.to_be_bytes());
        let (one, two) = (handle(1), handle(2));
        let mut namer = Namer::new(folder);
        let first = named(&mut namer, &[one]);
        let both = named(&mut namer, &[one, two]);
        assert!(both.contains(&first[0]) && both.len() == 2 && both.is_sorted());
        // As after a restart; and a write that broke off.
        let path = folder.join(PERSONS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 + 2 * 32);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[1; 7]).unwrap();
        let mut namer = Namer::new(folder);
        assert_eq!(named(&mut namer, &[one]), first);
        let register = Register::read(folder).unwrap();
        let found = |key: &str| -> Vec<Pseudonym> {
            let handles = register.handles(&table(), key);
            handles.into_iter().filter_map(|handle| register.pseudonym(handle)).collect()
        };
        assert_eq!((found("1"), found("3")), (first.clone(), vec![]));
        ask_to_forget(folder, "public.customers", &[one]).unwrap();
        assert!(ask_to_forget(folder, "public.customers", &[two]).is_err());
        let event = Event::PersonForgotten { table: "public.customers".to_owned() };
        assert_eq!(namer.forget().unwrap(), Some(event));
        namer.forgotten().unwrap();
        assert_eq!(namer.forget().unwrap(), None);
        let register = Register::read(folder).unwrap();
        assert_eq!((register.pseudonym(one), register.own.len()), (None, 1));
        let again = named(&mut namer, &[one, two]);
        assert!(!again.contains(&first[0]), "a person who is seen again has another pseudonym");
        assert!(both.iter().filter(|old| again.contains(old)).count() == 1, "the other one has the old one");
        assert_eq!(named(&mut Namer::new(folder), &[one, two]), again);
    }

    #[test]
    fn what_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        index(folder.path(), true).unwrap();
        let path = folder.path().join(PERSONS_FILE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Register::read(folder.path()).is_err_and(|fault| fault.message.contains("mode 0640")));
        assert!(index(folder.path(), false).is_err());
    }
}
