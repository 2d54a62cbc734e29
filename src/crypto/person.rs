//! By what name a person is looked up: a keyed hash of the row's key.
//!
//! Guarantees: who does not have the key cannot tell of which row a handle is. Who has it can, by trying: keys are numbers.
//! So a handle is never written where it must be possible to forget (`audit/persons.rs` says what is). Deliberately absent: the key's file.

use super::mask_key::{digest, keyed};
use hmac::Hmac;
use sha2::Sha256;

/// Of one row of one table of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonHandle(pub [u8; 16]);

/// The key that handles are made with.
#[derive(Clone)]
pub struct PersonIndex(Hmac<Sha256>);

impl PersonIndex {
    pub fn new(secret: &[u8; 32]) -> PersonIndex {
        PersonIndex(keyed(secret))
    }

    /// `table` is database, schema and name; `family` the key's type (one for all integers); `canonical` the bytes
    /// of the key's value.
    pub fn handle(&self, table: &[String; 3], family: &str, canonical: &[u8]) -> PersonHandle {
        let [database, schema, name] = table.each_ref().map(String::as_bytes);
        PersonHandle(first(digest(self.0.clone(), &[database, schema, name, family.as_bytes(), canonical])))
    }
}

/// What stands for the person in records, under the person's own key.
pub fn pseudonym(own: &[u8; 16], handle: PersonHandle) -> [u8; 16] {
    first(digest(keyed(own), &[&handle.0]))
}

/// Half of a hash: more than enough to tell persons apart.
fn first(digest: [u8; 32]) -> [u8; 16] {
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_differ_in_whatever_differs() {
        let table = |database: &str| [database, "public", "customers"].map(str::to_owned);
        let index = PersonIndex::new(&[7; 32]);
        let handle = index.handle(&table("shop"), "bigint", &42i64.to_be_bytes());
        assert!(handle == index.handle(&table("shop"), "bigint", &42i64.to_be_bytes()));
        for other in [
            index.handle(&table("crm"), "bigint", &42i64.to_be_bytes()),
            index.handle(&table("shop"), "text", &42i64.to_be_bytes()),
            index.handle(&table("shop"), "bigint", &43i64.to_be_bytes()),
            PersonIndex::new(&[8; 32]).handle(&table("shop"), "bigint", &42i64.to_be_bytes()),
        ] {
            assert!(handle != other);
        }
        assert_ne!(pseudonym(&[1; 16], handle), pseudonym(&[2; 16], handle));
    }
}
