//! The floor: a relay on tokio that looks at nothing.
//!
//! What every user-space proxy on tokio pays in system calls. `benches/compare` runs it beside PgBouncer and pgveil, so that
//! our own share can be told from the system's. `floor LISTEN UPSTREAM [THREADS]`: with 1 thread (the usual) everything
//! runs on a current-thread runtime, with more on the work-stealing one. It reads up to 16 kB, writes it all, and has no
//! other buffer; it speaks neither TLS nor PostgreSQL.

use std::env::args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

async fn relay(client: TcpStream, upstream: String) {
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a connected socket takes TCP_NODELAY");
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::join!(one_way(from_client, to_server), one_way(from_server, to_client));
}

async fn serve(listen: String, upstream: String) {
    let listener = TcpListener::bind(listen).await.expect("the address to listen on is free");
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(relay(client, upstream.clone()));
    }
}

fn main() {
    // `cargo bench` and `cargo test --benches` run it without a purpose: then it has nothing to do.
    let mut arguments = args().skip(1).filter(|argument| !argument.starts_with("--"));
    let (Some(listen), Some(upstream)) = (arguments.next(), arguments.next()) else { return };
    let threads = arguments.next().map_or(1, |threads| threads.parse().expect("THREADS is a number"));
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let builder = if threads == 1 { &mut builder } else { builder.worker_threads(threads) };
    let runtime = builder.enable_all().build().expect("the system gives a runtime its threads");
    runtime.block_on(serve(listen, upstream));
}
