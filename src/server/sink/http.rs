//! HTTP: one POST of JSON lines for a batch; accepted when the answer is of the 200s.

use super::connect;
use crate::server::settings::SinkAddress;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use zeroize::Zeroizing;

/// Bytes of an answer that are read: nobody needs it, but its end says that the request was taken.
const ANSWER_MAX: usize = 64 * 1024;

pub(super) async fn post(
    address: &SinkAddress,
    path: &str,
    headers: &[(String, Zeroizing<String>)],
    lines: impl Iterator<Item = String>,
) -> io::Result<()> {
    let body: String = lines.map(|line| line + "\n").collect();
    let mut request = Request::post(path)
        .header("host", format!("{}:{}", address.host, address.port))
        .header("content-type", "application/x-ndjson")
        .header("user-agent", concat!("pgveil/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(name.as_str(), value.as_str());
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
    let stream = TokioIo::new(connect(address).await?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = answer.status();
    // An answer that is longer is not waited for.
    let _ = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    connection.abort();
    if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answered {status}"))) }
}
