//! What one call of the relay gives the pump: steps in order, with neighbouring output of one direction joined.
//!
//! Joined, so that what one read brought leaves in one write. What stood together in what came in leaves as it came, without
//! a copy; the rest is joined in one buffer, whose room is used again once the pump has sent what was in it.

use super::Step;
use crate::wire::Messages;
use bytes::{Bytes, BytesMut};

/// Where output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Output that later output of the same side may still join.
#[derive(Default)]
enum Tail {
    #[default]
    None,
    One(Side, Bytes),
    /// It stands in the room.
    Joined(Side),
}

#[derive(Default)]
pub(super) struct Out {
    steps: Vec<Step>,
    tail: Tail,
    /// What came in: output that is part of it need not be copied to be joined.
    within: Bytes,
    /// Where output is joined.
    room: BytesMut,
}

/// Room that is kept for the next output, in bytes.
const ROOM_KEPT: usize = 64 * 1024;

impl Out {
    /// From now on output may be part of these messages.
    pub(super) fn within(&mut self, messages: &Messages) {
        self.within = messages.bytes().clone();
    }
    pub(super) fn client(&mut self, bytes: Bytes) {
        self.push(Side::Client, bytes);
    }
    pub(super) fn server(&mut self, bytes: Bytes) {
        self.push(Side::Server, bytes);
    }
    pub(super) fn step(&mut self, step: Step) {
        self.settle();
        self.steps.push(step);
    }
    /// Moves everything to the pump's list.
    pub(super) fn drain_into(&mut self, steps: &mut Vec<Step>) {
        self.settle();
        self.within = Bytes::new();
        steps.append(&mut self.steps);
    }
    /// The buffer that output to the client is joined in, for rows that are made in place.
    pub(super) fn client_buffer(&mut self) -> &mut BytesMut {
        self.buffer(Side::Client)
    }
    /// As [`client_buffer`](Self::client_buffer), to the server.
    pub(super) fn server_buffer(&mut self) -> &mut BytesMut {
        self.buffer(Side::Server)
    }

    fn buffer(&mut self, side: Side) -> &mut BytesMut {
        match std::mem::take(&mut self.tail) {
            Tail::Joined(before) if before == side => {}
            Tail::One(before, bytes) if before == side => self.room.extend_from_slice(&bytes),
            other => {
                self.tail = other;
                self.settle();
            }
        }
        self.tail = Tail::Joined(side);
        &mut self.room
    }

    fn push(&mut self, side: Side, bytes: Bytes) {
        self.tail = match std::mem::take(&mut self.tail) {
            Tail::One(before, first) if before == side => match self.together(&first, &bytes) {
                Some(whole) => Tail::One(side, whole),
                None => {
                    self.room.reserve(first.len() + bytes.len());
                    self.room.extend_from_slice(&first);
                    self.room.extend_from_slice(&bytes);
                    Tail::Joined(side)
                }
            },
            Tail::Joined(before) if before == side => {
                self.room.extend_from_slice(&bytes);
                Tail::Joined(side)
            }
            other => {
                self.tail = other;
                self.settle();
                Tail::One(side, bytes)
            }
        };
    }

    /// Both in one piece, where the second follows the first in what came in.
    fn together(&self, first: &Bytes, second: &Bytes) -> Option<Bytes> {
        let address = |bytes: &Bytes| bytes.as_ptr().addr();
        let start = address(first).checked_sub(address(&self.within))?;
        let end = start + first.len() + second.len();
        let follows = address(first) + first.len() == address(second);
        (follows && end <= self.within.len()).then(|| self.within.slice(start..end))
    }

    fn settle(&mut self) {
        let (side, bytes) = match std::mem::take(&mut self.tail) {
            Tail::None => return,
            Tail::One(side, bytes) => (side, bytes),
            Tail::Joined(side) => {
                let joined = self.room.split().freeze();
                if self.room.capacity() > ROOM_KEPT {
                    self.room = BytesMut::new();
                }
                (side, joined)
            }
        };
        if bytes.is_empty() {
            return;
        }
        self.steps.push(match side {
            Side::Client => Step::ToClient(bytes),
            Side::Server => Step::ToServer(bytes),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Frame, Limits, frontend, whole};

    fn steps(out: &mut Out) -> Vec<(bool, Bytes)> {
        let mut steps = Vec::new();
        out.drain_into(&mut steps);
        let bytes = |step| match step {
            Step::ToClient(bytes) => (true, bytes),
            Step::ToServer(bytes) => (false, bytes),
            Step::Record { .. } | Step::Ask { .. } | Step::RefreshCatalog | Step::Close => {
                panic!("no such step was given")
            }
        };
        steps.into_iter().map(bytes).collect()
    }

    #[test]
    fn what_stood_together_leaves_without_a_copy() {
        let sent = [frontend::encode_execute("p", 0), frontend::encode_sync(), frontend::encode_flush()];
        let bytes = sent.map(Frame::into_bytes).concat();
        let messages = whole(&mut bytes[..].into(), &Limits { message_bytes_max: 100 }).expect("well-formed");
        let at = messages.bytes().as_ptr();
        let mut out = Out::default();
        out.within(&messages);
        let [execute, sync, flush] = [0, 1, 2].map(|at| messages.clone().nth(at).expect("there are three"));
        out.server(execute.clone().into_bytes());
        out.server(sync.clone().into_bytes());
        out.server(flush.clone().into_bytes());
        let passed = steps(&mut out);
        assert_eq!(passed, [(false, bytes.clone().into())]);
        assert_eq!(passed[0].1.as_ptr(), at, "the same bytes");

        // Another order, another side, something of ours between: joined, in the order given.
        out.within(&messages);
        out.server(sync.clone().into_bytes());
        out.server(execute.clone().into_bytes());
        out.client(flush.clone().into_bytes());
        out.client_buffer().extend_from_slice(b"row");
        out.server(sync.clone().into_bytes());
        let [sync, execute, flush] = [sync, execute, flush].map(Frame::into_bytes);
        let expected = [
            (false, [&sync[..], &execute].concat().into()),
            (true, [&flush[..], b"row"].concat().into()),
            (false, sync),
        ];
        assert_eq!(steps(&mut out), expected);
    }
}
