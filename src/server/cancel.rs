//! Cancel keys: a client gets the server's process id and a secret of ours; a request with both is passed on to the server
//! with its own secret. Unknown requests are dropped in silence, as PostgreSQL does.

use bytes::Bytes;
use dashmap::DashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Bytes of our secret: what protocol 3.0 carries.
pub const SECRET_BYTES: usize = 4;

struct Entry {
    own_secret: [u8; SECRET_BYTES],
    server_secret: Bytes,
}

/// All connections that can be cancelled, by the server's process id.
#[derive(Clone, Default)]
pub struct CancelKeys {
    entries: Arc<DashMap<i32, Entry>>,
}

/// Takes the entry away when the connection ends.
pub struct Registration {
    keys: CancelKeys,
    process_id: i32,
    own_secret: [u8; SECRET_BYTES],
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The server may have given the number to a newer connection already: that one's entry stays.
        self.keys.entries.remove_if(&self.process_id, |_, entry| entry.own_secret == self.own_secret);
    }
}

impl CancelKeys {
    pub fn register(
        &self,
        process_id: i32,
        own_secret: [u8; SECRET_BYTES],
        server_secret: Bytes,
    ) -> Registration {
        self.entries.insert(process_id, Entry { own_secret, server_secret });
        Registration { keys: self.clone(), process_id, own_secret }
    }

    /// The server's secret for a request that fits.
    pub fn find(&self, process_id: i32, secret: &[u8]) -> Option<Bytes> {
        let entry = self.entries.get(&process_id)?;
        bool::from(entry.own_secret.as_slice().ct_eq(secret)).then(|| entry.server_secret.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_secret_cancels_and_only_while_the_connection_lives() {
        let keys = CancelKeys::default();
        let registration = keys.register(7, [1, 2, 3, 4], Bytes::from_static(b"theirs"));
        assert_eq!(keys.find(7, &[1, 2, 3, 4]).as_deref(), Some(&b"theirs"[..]));
        assert_eq!(keys.find(7, b"theirs"), None);
        assert_eq!(keys.find(8, &[1, 2, 3, 4]), None);
        let newer = keys.register(7, [5, 6, 7, 8], Bytes::from_static(b"newer"));
        drop(registration);
        assert_eq!(keys.find(7, &[5, 6, 7, 8]).as_deref(), Some(&b"newer"[..]));
        drop(newer);
        assert_eq!(keys.find(7, &[5, 6, 7, 8]), None);
        assert_eq!(keys.find(7, &[1, 2, 3, 4]), None);
    }
}
