//! Other servers than the database: sinks of the audit log, the provider of tokens.
//!
//! Guarantees: where an address names authorities, nobody answers in its name whom they do not vouch for. Deliberately absent:
//! proxies and redirections.

use super::settings::{DatabaseTls, RemoteAddress};
use super::stream::Stream;
use super::tls::DatabaseConnector;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::io;
use tokio::net::TcpStream;

/// A connection, inside TLS where the address says whom to trust.
pub(super) async fn connect(address: &RemoteAddress) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    let Some(ca) = &address.ca else { return Ok(Box::new(stream)) };
    let connector = DatabaseConnector::to(&address.host, DatabaseTls::VerifyFull, Some(ca));
    let connector = connector.map_err(|error| io::Error::other(error.0))?;
    let (tls, name) = connector.wanted().ok_or_else(|| io::Error::other("TLS is off"))?;
    Ok(Box::new(tls.connect(name.clone(), stream).await?))
}

/// Sends one request by HTTP: the answer's status and its body, which is an error where it is longer than `most` bytes or breaks off.
pub(super) async fn ask<B>(
    address: &RemoteAddress,
    request: Request<B>,
    most: usize,
) -> io::Result<(StatusCode, io::Result<Bytes>)>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let stream = TokioIo::new(connect(address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    let answer = match answer {
        Ok(answer) => {
            let status = answer.status();
            let body = Limited::new(answer.into_body(), most).collect().await;
            Ok((status, body.map(|body| body.to_bytes()).map_err(io::Error::other)))
        }
        Err(error) => Err(io::Error::other(error)),
    };
    connection.abort();
    answer
}
