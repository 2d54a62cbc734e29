//! HTTP: one POST of JSON lines for a batch; accepted when the answer is of the 200s.

use crate::server::remote;
use crate::server::settings::RemoteAddress;
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use std::io;
use zeroize::Zeroizing;

/// Bytes of an answer that are read: nobody needs it, but its end says that the request was taken.
const ANSWER_MAX: usize = 64 * 1024;

pub(super) async fn post(
    address: &RemoteAddress,
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
    // An answer that is longer is not waited for.
    let (status, _) = remote::ask(address, request, ANSWER_MAX).await?;
    if status.is_success() { Ok(()) } else { Err(io::Error::other(format!("it answered {status}"))) }
}
