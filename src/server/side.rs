//! One side of a connection in its steady state: its stream, what was read of it, and what it is still to be sent.
//!
//! Guarantees: what leaves leaves in order; a side that waits holds no buffer. Room for reading is lent by the thread for as
//! long as something read stands in it, so that idle connections cost none and busy ones allocate none. Deliberately absent:
//! any knowledge of what the bytes mean.

use super::stream::{Peer, PeerError, Stream};
use bytes::{Buf, Bytes, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Room for one read, in bytes, and how little of it may be left before there is more. PostgreSQL sends 8 kB at a time,
/// which a busy proxy finds several of.
const READ_BYTES: usize = 64 * 1024;
const READ_BYTES_LEAST: usize = 8 * 1024;

/// Rooms that a thread keeps: while one side's stands for what it read, the other side is asked, too.
const ROOMS_KEPT: usize = 2;

thread_local! {
    /// The thread's rooms for reading that nothing stands in; the one that was used last is the last.
    static ROOMS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// What is to be written, oldest first. The usual one piece is written from where it stands, and what follows with it.
#[derive(Default)]
struct Output {
    first: Bytes,
    rest: BytesMut,
}

impl Output {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }
    fn push(&mut self, bytes: Bytes) {
        if self.len() == 0 {
            self.first = bytes;
        } else {
            self.rest.extend_from_slice(&bytes);
        }
    }
    /// All that there is, to be written at once.
    fn pieces(&self) -> [IoSlice<'_>; 2] {
        [IoSlice::new(&self.first), IoSlice::new(&self.rest)]
    }
    /// So many bytes were written.
    fn written(&mut self, count: usize) {
        let of_first = count.min(self.first.len());
        self.first.advance(of_first);
        self.rest.advance(count - of_first);
        if self.first.is_empty() {
            self.first = std::mem::take(&mut self.rest).freeze();
        }
    }
}

pub(super) struct Side {
    stream: Box<dyn Stream>,
    pub(super) input: BytesMut,
    output: Output,
    /// Written, but perhaps not yet out of a TLS session's buffer.
    unflushed: bool,
    pub(super) gone: bool,
}

impl Side {
    pub(super) fn new(peer: Peer) -> Side {
        let Peer { stream, input, binding: _, certified: _ } = peer;
        // What came with the log-in's last message keeps its buffer, and no other does.
        let input = if input.is_empty() { BytesMut::new() } else { input };
        Side { stream, input, output: Output::default(), unflushed: false, gone: false }
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.output.push(bytes);
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Writes what it can. Ready with the number of bytes; pending when there is nothing to write or no room.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let before = self.waiting();
        while self.waiting() > 0 {
            let pieces = self.output.pieces();
            // Most have one, and a plain write costs less.
            let some = if self.output.rest.is_empty() {
                Pin::new(&mut *self.stream).poll_write(context, &self.output.first)
            } else {
                Pin::new(&mut *self.stream).poll_write_vectored(context, &pieces)
            };
            match some {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => self.output.written(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
            self.unflushed = true;
        }
        if self.unflushed && self.waiting() == 0 {
            match Pin::new(&mut *self.stream).poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        match before - self.waiting() {
            0 => Poll::Pending,
            written => Poll::Ready(Ok(written)),
        }
    }

    /// Reads what there is, up to the room's end, behind what was read before. Ready with 0 at the stream's end.
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.is_empty() {
            self.input = ROOMS.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        if self.input.capacity() - self.input.len() < READ_BYTES_LEAST {
            self.input.reserve(READ_BYTES);
        }
        // Reading into the buffer is cancel safe: the future holds nothing between polls.
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        self.give_back_room();
        read
    }

    /// Gives the room for reading back where nothing stands in it.
    pub(super) fn give_back_room(&mut self) {
        if self.input.is_empty() && self.input.capacity() > 0 {
            let room = std::mem::take(&mut self.input);
            ROOMS.with_borrow_mut(|rooms| {
                if rooms.len() < ROOMS_KEPT {
                    rooms.push(room);
                }
            });
        }
    }

    /// Sends all that is owed, and says that it was the last.
    pub(super) async fn finish(&mut self) -> Result<(), PeerError> {
        for last in [std::mem::take(&mut self.output.first), std::mem::take(&mut self.output.rest).freeze()] {
            self.stream.write_all(&last).await?;
        }
        // TLS has a word for the end, without which clients suspect that something was cut off.
        Ok(self.stream.shutdown().await?)
    }

    /// Takes what the peer still sends, until it ends its side too. One whose next message met a closed socket would give up without
    /// having read what it was told last.
    pub(super) async fn linger(mut self) {
        let mut unread = [0; 4096];
        while let Ok(1..) = self.stream.read(&mut unread).await {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;
    use tokio::io::{DuplexStream, duplex};

    fn side() -> (Side, DuplexStream) {
        let (near, far) = duplex(1000);
        (Side::new(Peer::new(Box::new(near))), far)
    }

    #[tokio::test]
    async fn a_thread_reads_into_the_same_rooms_again() {
        let ((mut server, mut far), (mut client, _silent)) = (side(), side());
        let context = &mut Context::from_waker(std::task::Waker::noop());
        let mut known: Vec<Range<usize>> = vec![];
        for round in 0..1000 {
            far.write_all(&[7; 900]).await.unwrap();
            assert!(matches!(server.poll_read(context), Poll::Ready(Ok(900))));
            assert!(client.poll_read(context).is_pending());
            assert_eq!(server.input.split().freeze(), vec![7; 900]);
            server.give_back_room();
            assert_eq!((server.input.capacity(), client.input.capacity()), (0, 0), "who waits holds no room");
            let at = |room: &BytesMut| room.as_ptr().addr()..room.as_ptr().addr() + room.capacity();
            let rooms: Vec<Range<usize>> = ROOMS.with_borrow(|rooms| rooms.iter().map(at).collect());
            assert_eq!(rooms.len(), 2, "one for each side");
            if round == 0 {
                known.clone_from(&rooms);
            }
            let is_known = |room: &Range<usize>| {
                known.iter().any(|known| known.start - 900 <= room.start && room.end <= known.end)
            };
            assert!(rooms.iter().all(is_known), "round {round} took a new room");
        }
    }
}
