//! What one call of the relay gives the pump: steps in order, with neighbouring output of one direction joined.
//!
//! Joined, so that what one read brought leaves in one write. A single frame is handed on without a copy.

use super::Step;
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
    Many(Side, BytesMut),
}

#[derive(Default)]
pub(super) struct Out {
    steps: Vec<Step>,
    tail: Tail,
}

impl Out {
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
        steps.append(&mut self.steps);
    }
    /// The buffer that output to the client is joined in, for rows that are made in place.
    pub(super) fn client_buffer(&mut self) -> &mut BytesMut {
        if !matches!(self.tail, Tail::Many(Side::Client, _)) {
            let before = match std::mem::take(&mut self.tail) {
                Tail::One(Side::Client, bytes) => BytesMut::from(&bytes[..]),
                other => {
                    self.tail = other;
                    self.settle();
                    BytesMut::new()
                }
            };
            self.tail = Tail::Many(Side::Client, before);
        }
        match &mut self.tail {
            Tail::Many(_, buffer) => buffer,
            Tail::None | Tail::One(..) => unreachable!("the lines above made it Many"),
        }
    }

    fn push(&mut self, side: Side, bytes: Bytes) {
        self.tail = match std::mem::take(&mut self.tail) {
            Tail::One(before, first) if before == side => {
                let mut joined = BytesMut::with_capacity((first.len() + bytes.len()).max(512));
                joined.extend_from_slice(&first);
                joined.extend_from_slice(&bytes);
                Tail::Many(side, joined)
            }
            Tail::Many(before, mut joined) if before == side => {
                joined.extend_from_slice(&bytes);
                Tail::Many(side, joined)
            }
            other => {
                self.tail = other;
                self.settle();
                Tail::One(side, bytes)
            }
        };
    }

    fn settle(&mut self) {
        let (side, bytes) = match std::mem::take(&mut self.tail) {
            Tail::None => return,
            Tail::One(side, bytes) => (side, bytes),
            Tail::Many(side, joined) => (side, joined.freeze()),
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
