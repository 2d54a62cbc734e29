//! One peer's byte stream with its read buffer: frames in, bytes out. Plain TCP, Unix socket or TLS alike.

use crate::auth::scram::Binding;
use crate::wire::{self, Frame, Limits, Violation};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

/// What a connection is made of.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream and what was read of it but not yet used.
pub struct Peer {
    pub stream: Box<dyn Stream>,
    pub input: BytesMut,
    /// What a proof of a password over this stream can be bound to.
    pub binding: Option<Binding>,
    /// The name in the peer's own certificate.
    pub certified: Option<String>,
}

/// Why a peer's next message could not be had.
#[derive(Debug)]
pub enum PeerError {
    /// The peer closed or reset the connection.
    Gone(io::Error),
    Violation(Violation),
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> PeerError {
        PeerError::Gone(error)
    }
}

impl From<Violation> for PeerError {
    fn from(violation: Violation) -> PeerError {
        PeerError::Violation(violation)
    }
}

impl Peer {
    pub fn new(stream: Box<dyn Stream>) -> Peer {
        Peer { stream, input: BytesMut::with_capacity(8 * 1024), binding: None, certified: None }
    }

    /// Reads more bytes into the buffer. Not cancel safe for partial use: nothing is lost, since bytes stay in `input`.
    ///
    /// # Errors
    /// [`PeerError::Gone`] at the end of the stream.
    pub async fn read_more(&mut self) -> Result<(), PeerError> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(PeerError::Gone(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn frame(&mut self, limits: &Limits) -> Result<Frame, PeerError> {
        loop {
            if let Some(frame) = wire::split(&mut self.input, limits)? {
                return Ok(frame);
            }
            self.read_more().await?;
        }
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// The peer is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        Ok(())
    }
}

/// A stream whose first bytes were read already: they are read again, then the stream's own.
pub struct Prefixed<S> {
    prefix: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    pub fn new(prefix: Bytes, stream: S) -> Prefixed<S> {
        Prefixed { prefix, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, into);
        }
        let count = self.prefix.len().min(into.remaining());
        into.put_slice(&self.prefix[..count]);
        self.prefix.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
