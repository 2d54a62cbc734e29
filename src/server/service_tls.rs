//! TLS for tokio-postgres: hands its connections to the [`DatabaseConnector`] that clients' upstreams use too.
//!
//! Deliberately absent: channel binding (the service user's password never leaves SCRAM either way), and any choice of
//! what is verified.

use super::tls::{DatabaseConnector, TlsError};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

/// Speaks TLS as the connector says.
#[derive(Clone)]
pub(super) struct ServiceTls(pub(super) DatabaseConnector);

/// A connection inside TLS.
pub(super) struct Inside<S>(tokio_rustls::client::TlsStream<S>);

impl<S> MakeTlsConnect<S> for ServiceTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Inside<S>;
    type TlsConnect = ServiceTls;
    type Error = TlsError;

    fn make_tls_connect(&mut self, _domain: &str) -> Result<ServiceTls, TlsError> {
        Ok(self.clone())
    }
}

impl<S> TlsConnect<S> for ServiceTls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Inside<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Inside<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move {
            let (connector, name) = self.0.wanted().ok_or_else(|| io::Error::other("TLS is off"))?;
            Ok(Inside(connector.connect(name.clone(), stream).await?))
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Inside<S> {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Inside<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Inside<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
