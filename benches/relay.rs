//! What does the conversation itself cost, without sockets? One statement of each kind from the client's first message
//! to its ReadyForQuery, against a server that answers at once and a log that accepts at once.
//!
//! Budget: a transaction costs about 20 µs of system calls whoever relays it; `pass` must be small against that (2 µs),
//! a sealed statement may cost about as much as they do. Rows are per batch of 1000: divide by 1000, and compare
//! `rows_pass` with the 0.25 µs a row that a byte relay takes. Only ratios within one run mean anything.

#![allow(dead_code, clippy::unwrap_used, reason = "shares the tests' text conversations")]

#[path = "../tests/it/conversation.rs"]
mod conversation;
#[path = "../fuzz/src/shop.rs"]
mod golden;

use conversation::{Pump, client_frame, server_frames, world};
use criterion::{Criterion, criterion_group, criterion_main};
use pgveil::wire::Frame;

/// Plays one exchange: the client's messages, then the server's, and the log's answer.
fn exchange(pump: &mut Pump, client: &[Frame], server: &[Frame]) {
    pump.client.extend(client.iter().cloned());
    while pump.step() {}
    pump.server.extend(server.iter().cloned());
    while pump.step() {}
    pump.seen();
    while pump.gates > 0 {
        pump.log(true);
        pump.seen();
    }
    assert!(pump.relay.is_idle(), "the exchange is whole");
}

fn conversations(criterion: &mut Criterion) {
    let world = world(|_| {});
    let frames = |lines: &str| lines.lines().map(|line| client_frame(&world, line)).collect::<Vec<_>>();
    let replies =
        |lines: &[&str]| lines.iter().flat_map(|line| server_frames(&world, line)).collect::<Vec<_>>();
    let many = |row: &str| {
        let rows = vec![row; 1000];
        replies(
            &[
                &["RowDescription id:20 email:17"],
                &rows[..],
                &["CommandComplete SELECT 1000", "ReadyForQuery I"],
            ]
            .concat(),
        )
    };
    let row = "DataRow (1) {email ann@example.com}";
    let cases = [
        (
            "pass",
            frames("Query select 1"),
            replies(&["RowDescription a:23", "DataRow (1)", "CommandComplete SELECT 1", "ReadyForQuery I"]),
        ),
        (
            "pass_extended",
            frames("Parse - select 1\nBind - -\nExecute - 0\nSync"),
            replies(&[
                "ParseComplete",
                "BindComplete",
                "DataRow (1)",
                "CommandComplete SELECT 1",
                "ReadyForQuery I",
            ]),
        ),
        (
            "sealed",
            frames("Query select id, email from customers where email = 'ann@example.com'"),
            replies(&["RowDescription id:20 email:17", row, "CommandComplete SELECT 1", "ReadyForQuery I"]),
        ),
        ("rows_pass", frames("Query select id, note from plain"), many("DataRow (1) (ann@example.com)")),
        ("rows_sealed", frames("Query select id, email from customers"), many(row)),
    ];
    for (name, client, server) in cases {
        let mut pump = Pump::unheard(world.clone(), "shop");
        pump.server.extend(server_frames(&world, "Path pg_catalog,public I"));
        while pump.step() {}
        pump.seen();
        criterion.bench_function(name, |bencher| bencher.iter(|| exchange(&mut pump, &client, &server)));
    }
}

criterion_group!(benches, conversations);
criterion_main!(benches);
