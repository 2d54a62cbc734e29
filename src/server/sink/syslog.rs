//! Syslog over TCP or TLS. Syslog answers nothing, so a connection carries one batch and is closed from our side: when the other side
//! closes too, it has read all of it. That is as sure as syslog gets; who needs an answer takes HTTP or a table.

use crate::audit::follow::Followed;
use crate::audit::sink::{Form, syslog};
use crate::server::remote::connect;
use crate::server::settings::RemoteAddress;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(super) async fn send(address: &RemoteAddress, form: Form, records: &[Followed]) -> io::Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let bytes: Vec<u8> = records.iter().flat_map(|followed| syslog(followed, form, host.trim())).collect();
    let mut stream = connect(address).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    let mut rest = [0; 256];
    loop {
        // What it may say is not for us; its end is.
        match stream.read(&mut rest).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Many close the connection and not TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
