//! The administrator's endpoint over a real socket: what each path answers, and what a rude client can do to it.

use pgveil::metrics::{Metrics, Outcome};
use pgveil::server::admin::{self, Part, Readiness};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

struct Endpoint {
    address: SocketAddr,
    metrics: Metrics,
    readiness: Readiness,
    /// Serves until dropped.
    _runtime: tokio::runtime::Runtime,
}

fn start() -> Endpoint {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, readiness) = (Metrics::new(), Readiness::new());
    runtime.spawn(admin::serve(listener, metrics.clone(), readiness.clone()));
    Endpoint { address, metrics, readiness, _runtime: runtime }
}

/// The status, the head and the body of the answer.
fn request(address: SocketAddr, line: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{line} HTTP/1.1\r\nHost: pgveil\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

#[test]
fn metrics_are_served_in_prometheus_format() {
    let endpoint = start();
    endpoint.metrics.statement("select", Outcome::Refused);
    let (status, head, body) = request(endpoint.address, "GET /metrics");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains(r#"pgveil_statements_total{kind="select",outcome="refused"} 1"#), "{body}");
}

#[test]
fn ready_only_when_every_part_works() {
    let endpoint = start();
    let ready = || {
        let (status, _, body) = request(endpoint.address, "GET /readyz");
        (status, body)
    };
    let unchecked =
        "database: not checked yet\nkeys: not checked yet\nlog: not checked yet\nlistener: not checked yet\n";
    assert_eq!(ready(), (503, unchecked.to_owned()));
    for part in [Part::Database, Part::Keys, Part::Log, Part::Listener] {
        endpoint.readiness.set(part, Ok(()));
    }
    assert_eq!(ready(), (200, "# ready\n".to_owned()));
    endpoint.readiness.set(Part::Log, Err("no space\nleft".to_owned()));
    assert_eq!(ready(), (503, "log: no space left\n".to_owned()));
    let (status, _, body) = request(endpoint.address, "GET /healthz");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
}

#[test]
fn other_paths_and_methods_are_refused() {
    let endpoint = start();
    assert_eq!(request(endpoint.address, "GET /").0, 404);
    assert_eq!(request(endpoint.address, "GET /metrics/../etc").0, 404);
    assert_eq!(request(endpoint.address, "POST /elsewhere").0, 404);
    let (status, head, _) = request(endpoint.address, "POST /metrics");
    assert_eq!(status, 405);
    assert!(head.contains("allow: get, head"), "{head}");
    assert_eq!(request(endpoint.address, "HEAD /healthz").2, "");
}

#[test]
fn silent_clients_lose_their_places() {
    let endpoint = start();
    let mut silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(endpoint.address).unwrap()).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
    }
    // More than all places are taken; they are given back after a few seconds.
    let (status, _, _) = request(endpoint.address, "GET /healthz");
    assert_eq!(status, 200);
}
