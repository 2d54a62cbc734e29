//! How many instructions do the hot functions take?
//!
//! Question: has a change made one of them slower? Clocks cannot say on a machine that does other things; valgrind counts the
//! instructions of one call, and the next run of the same build counts the same.
//! Budget: what `benches/instructions.txt` keeps, and 5 % (`benches/counts` compares and renews); `instructions-dev.txt` for the tests' build.
//! How to read: one call, warm, set-up left out; what a call allocates is in it, sockets and disks are not. An instruction is not
//! a nanosecond: a table that misses the cache, or a wider vector, is for the other benches to see.

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    reason = "shares the tests' shop, cells and conversations"
)]
// gungraun's `main!` ends the process with what its runner says.
#![allow(clippy::disallowed_methods)]

#[path = "../tests/it/cell.rs"]
mod cell;
#[path = "../tests/it/conversation.rs"]
mod conversation;
#[path = "../fuzz/src/shop.rs"]
mod golden;

use bytes::BytesMut;
use cell::{ciphers, circumstances, customer, hex, planned, row};
use conversation::{Counting, Pump, Seen, client_frame, server_frames, world};
use golden::{Shop, shop};
use gungraun::{library_benchmark, library_benchmark_group, main};
use pgveil::audit::canonical::write_record;
use pgveil::audit::chain::{Chain, Hash};
use pgveil::audit::{AuditRecord, Connection, Event, Intent, Said, UsedColumn};
use pgveil::cell::{CopyOpener, CopySealer, Formats, RowOpener};
use pgveil::crypto::{CellCipher, Cells, Ciphers};
use pgveil::plan::cache::PlanCache;
use pgveil::plan::{NO_NAMES, Session, plan as decide};
use pgveil::policy::Principal;
use pgveil::value::Style;
use pgveil::wire::{Frame, Messages, backend};
use std::hint::black_box;
use std::sync::Arc;

/// One call of what is counted, with all that it needs.
type Work = Box<dyn FnMut()>;

/// What a first call does once (buffers that grow, statements that are understood) is not counted.
fn warm(mut work: impl FnMut() + 'static) -> Work {
    work();
    Box::new(work)
}

/// The process counts one thing and ends.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn cipher(domain: &str) -> &'static CellCipher {
    &kept(ciphers(&shop())).by_domain[domain]
}

/// So many cells of 32 bytes.
fn plaintexts(batch: usize) -> Cells {
    let mut cells = Cells::new();
    for cell in 0..batch {
        cells.push(&std::array::from_fn::<u8, 32, _>(|at| (at * 7 + cell) as u8));
    }
    cells
}

fn seal(domain: &str, batch: usize) -> Work {
    let (cipher, plain) = (cipher(domain), plaintexts(batch));
    let (mut random, mut out) = (Counting(0), Cells::new());
    warm(move || {
        out.clear();
        cipher.seal(cipher.current(), black_box(&plain), &mut random, &mut out).unwrap();
        black_box(&out);
    })
}

fn open(domain: &str, batch: usize) -> Work {
    let (cipher, mut sealed, mut out) = (cipher(domain), Cells::new(), Cells::new());
    cipher.seal(cipher.current(), &plaintexts(batch), &mut Counting(0), &mut sealed).unwrap();
    warm(move || {
        out.clear();
        cipher.open(black_box(&sealed), &mut out).unwrap();
        black_box(&out);
    })
}

#[library_benchmark]
#[bench::seal_64_deterministic(seal("email", 64))]
#[bench::seal_64_randomized(seal("name", 64))]
#[bench::seal_1_deterministic(seal("email", 1))]
#[bench::seal_1_randomized(seal("name", 1))]
#[bench::open_64_deterministic(open("email", 64))]
#[bench::open_64_randomized(open("name", 64))]
#[bench::open_1_deterministic(open("email", 1))]
#[bench::open_1_randomized(open("name", 1))]
fn cells(mut work: Work) -> Work {
    work();
    work
}

/// Rows as the server sends them, in text (0) or binary (1), one after the other: six columns, three of them sealed.
fn sent(shop: &Shop, ciphers: &Ciphers, format: i16, rows: u64) -> Vec<u8> {
    let one = |number: u64| {
        let email = format!("customer.{number:06}@example.org");
        let cells = customer(shop, ciphers, [&email, "Maria Schneider", "1974-11-02"]);
        let (cells, id) = match format {
            1 => (cells, number.to_be_bytes().to_vec()),
            _ => (cells.iter().map(|cell| hex(cell)).collect(), number.to_string().into_bytes()),
        };
        let note = b"prefers to be called in the morning".as_slice();
        row(&[&id, &cells[0], note, &cells[1], &id, &cells[2]].map(Some)).bytes().to_vec()
    };
    (0..rows).flat_map(one).collect()
}

/// 100 rows as one read of the socket brings them, for who sees them in clear (`shop`) or masked (`alice`).
fn rows_of(user: &str, format: i16) -> Work {
    let shop = shop();
    let ciphers = ciphers(&shop);
    let rows = sent(&shop, &ciphers, format, 100);
    let plan = planned(&shop, user, "SELECT id, email, note, name, id, born FROM customers");
    let judgement = plan.judge(&shop.policy, &Principal::assumed(user.to_owned()), &circumstances()).unwrap();
    let mut opener =
        RowOpener::new(plan.columns.as_ref().unwrap(), &judgement, &Formats::same(&[format]), &ciphers);
    let (style, mut out) = (Style::default(), BytesMut::new());
    warm(move || {
        out.clear();
        black_box(opener.rows_in(black_box(&rows), &style, None, &mut out).unwrap());
    })
}

#[library_benchmark]
#[bench::clear_binary(rows_of("shop", 1))]
#[bench::clear_text(rows_of("shop", 0))]
#[bench::masked_binary(rows_of("alice", 1))]
#[bench::masked_text(rows_of("alice", 0))]
fn rows(mut work: Work) -> Work {
    work();
    work
}

const COPIED: &str = "customers (id, email, note, name, born)";

/// How a row of a COPY is spelled that has these values.
fn spelled(options: &str, values: [&[u8]; 5]) -> Vec<u8> {
    match options {
        "binary" => {
            let length = |value: &[u8]| (value.len() as u32).to_be_bytes();
            let values = values.map(|value| [&length(value), value].concat());
            [&5_i16.to_be_bytes()[..], &values.concat()].concat()
        }
        "csv" => [&values.join(&b','), &b"\n"[..]].concat(),
        _ => [&values.join(&b'\t'), &b"\n"[..]].concat(),
    }
}

/// What a client copies in: what stands before the rows, and 100 rows, of whose five columns three are to be sealed.
fn copied(options: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let binary = options == "binary";
    let before = if binary { b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec() } else { vec![] };
    let row = |number: u64| {
        let email = format!("customer.{number:06}@example.org");
        let note = b"prefers to be called in the morning";
        let (id, born) = match binary {
            true => (number.to_be_bytes().to_vec(), 1_000_i32.to_be_bytes().to_vec()),
            false => (number.to_string().into_bytes(), b"1974-11-02".to_vec()),
        };
        spelled(options, [&id, email.as_bytes(), note, b"Maria Schneider", &born])
    };
    (before, (0..100).map(row).collect())
}

/// What seals rows as they come, after what stands before them.
fn copy_sealer(
    shop: &Shop,
    ciphers: &Arc<Ciphers>,
    options: &str,
) -> impl FnMut(&[u8], &mut BytesMut) + use<> {
    let plan = planned(shop, "shop", &format!("COPY {COPIED} FROM STDIN (FORMAT {options})"));
    let mut sealer = CopySealer::new(plan.copy.as_ref().unwrap(), ciphers.clone(), true, 1 << 20);
    let (style, mut random) = (Style::default(), Counting(0));
    move |data, out| {
        sealer.read(data);
        sealer.seal(false, &style, &mut random, out).1.unwrap();
    }
}

/// 100 rows that one message of the client brings.
fn copied_in(options: &str) -> Work {
    let shop = shop();
    let mut seal = copy_sealer(&shop, &Arc::new(ciphers(&shop)), options);
    let ((before, rows), mut out) = (copied(options), BytesMut::new());
    seal(&before, &mut out);
    let rows = rows.concat();
    warm(move || {
        out.clear();
        seal(black_box(&rows), &mut out);
        black_box(&out);
    })
}

/// 100 rows that one read of the server brings, a message each, for who sees them in clear (`shop`) or masked (`alice`).
fn copied_out(user: &str, options: &str) -> Work {
    let shop = shop();
    let ciphers = Arc::new(ciphers(&shop));
    let mut seal = copy_sealer(&shop, &ciphers, options);
    let mut sent = |data: &[u8]| {
        let mut sealed = BytesMut::new();
        seal(data, &mut sealed);
        Frame::from_bytes(sealed.freeze())
    };
    let (before, rows) = copied(options);
    let before = if before.is_empty() { Messages::default() } else { sent(&before).into() };
    let mut messages = Messages::default();
    rows.iter().for_each(|row| messages.append(sent(row).into()));
    let plan = planned(&shop, user, &format!("COPY {COPIED} TO STDOUT (FORMAT {options})"));
    let judgement = plan.judge(&shop.policy, &Principal::assumed(user.to_owned()), &circumstances()).unwrap();
    let copy = plan.copy.as_ref().unwrap();
    let mut opener = CopyOpener::new(copy, plan.columns.as_deref(), &judgement, &ciphers, false);
    let (style, mut out) = (Style::default(), BytesMut::new());
    opener.read(&before).unwrap();
    opener.release(&style, None, None, &mut out).unwrap();
    warm(move || {
        out.clear();
        opener.read(black_box(&messages)).unwrap();
        black_box(opener.release(&style, None, None, &mut out).unwrap());
    })
}

#[library_benchmark]
#[bench::in_text(copied_in("text"))]
#[bench::in_csv(copied_in("csv"))]
#[bench::in_binary(copied_in("binary"))]
#[bench::out_text(copied_out("shop", "text"))]
#[bench::out_csv(copied_out("shop", "csv"))]
#[bench::out_binary(copied_out("shop", "binary"))]
#[bench::out_text_masked(copied_out("alice", "text"))]
fn copy(mut work: Work) -> Work {
    work();
    work
}

/// Plays one exchange: the client's messages, then the server's, and the log's answer. Gives the tags of what the client was sent.
fn play(pump: &mut Pump, client: &[Frame], server: &[Frame]) -> Vec<u8> {
    let mut told = vec![];
    let mut seen = |pump: &mut Pump| {
        told.extend(pump.seen().iter().filter_map(|seen| match seen {
            Seen::ToClient(frame) => Some(frame.tag()),
            _ => None,
        }));
    };
    pump.client.extend(client.iter().cloned());
    while pump.step() {}
    pump.server.extend(server.iter().cloned());
    while pump.step() {}
    seen(pump);
    while pump.gates > 0 {
        pump.log(true);
        seen(pump);
    }
    assert!(pump.relay.is_idle(), "the exchange is whole");
    told
}

/// A conversation of its own: what comes before (client, server), then the exchange that is counted. Lines as in
/// `tests/golden/relay`; the server's rows come so many times.
fn exchange(before: [&str; 2], client: &str, server: &str, rows: usize) -> Work {
    let world = world(|_| {});
    let sent = |lines: &str| lines.lines().map(|line| client_frame(&world, line)).collect::<Vec<_>>();
    let answered = |lines: &str, rows: usize| {
        let is_row = |line: &str| line.starts_with("DataRow") || line.starts_with("BinaryRow");
        let times = |line: &str| if is_row(line) { rows } else { 1 };
        let lines = lines.lines().flat_map(|line| vec![line; times(line)]);
        lines.flat_map(|line| server_frames(&world, line)).collect::<Vec<_>>()
    };
    let mut pump = Pump::unheard(world.clone(), "shop");
    play(&mut pump, &[], &answered("Path pg_catalog,public I", 1));
    play(&mut pump, &sent(before[0]), &answered(before[1], 1));
    let (client, server) = (sent(client), answered(server, rows));
    let told = play(&mut pump, &client, &server);
    assert_eq!(told.iter().filter(|tag| **tag == b'D').count(), rows, "the rows leave");
    warm(move || drop(black_box(play(&mut pump, &client, &server))))
}

const NOTHING: [&str; 2] = ["", ""];
const SEALED_ROW: &str = "DataRow (1) {email ann@example.com}";
/// As a Bind asks for it.
const BINARY_ROW: &str = "BinaryRow (1) {email ann@example.com}";

fn simple(sql: &str, answer: &str, rows: usize) -> Work {
    exchange(
        NOTHING,
        &format!("Query {sql}"),
        &format!("{answer}\nCommandComplete SELECT {rows}\nReadyForQuery I"),
        rows,
    )
}

fn pass_extended() -> Work {
    exchange(
        NOTHING,
        "Parse - select 1\nBind - -\nExecute - 0\nSync",
        "ParseComplete\nBindComplete\nDataRow (1)\nCommandComplete SELECT 1\nReadyForQuery I",
        1,
    )
}

fn pass_prepared() -> Work {
    exchange(
        ["Parse s1 select 1\nSync", "ParseComplete\nReadyForQuery I"],
        "Bind - s1\nExecute - 0\nSync",
        "BindComplete\nDataRow (1)\nCommandComplete SELECT 1\nReadyForQuery I",
        1,
    )
}

fn sealed_prepared() -> Work {
    exchange(
        [
            "Parse s1 select id, email from customers where email = $1\nDescribe S s1\nSync",
            "ParseComplete\nParameterDescription 17\nRowDescription id:20 email:17\nReadyForQuery I",
        ],
        "Bind - s1 (ann@example.com)\nExecute - 0\nSync",
        &format!("BindComplete\n{BINARY_ROW}\nCommandComplete SELECT 1\nReadyForQuery I"),
        1,
    )
}

/// A simple statement would go by the extended protocol, too, once it gave so many.
fn sealed_rows(rows: usize) -> Work {
    exchange(
        [
            "Parse s1 select id, email from customers\nDescribe S s1\nSync",
            "ParseComplete\nParameterDescription\nRowDescription id:20 email:17\nReadyForQuery I",
        ],
        "Bind - s1\nExecute - 0\nSync",
        &format!("BindComplete\n{BINARY_ROW}\nCommandComplete SELECT {rows}\nReadyForQuery I"),
        rows,
    )
}

#[library_benchmark]
#[bench::pass_simple(simple("select 1", "RowDescription a:23\nDataRow (1)", 1))]
#[bench::pass_extended(pass_extended())]
#[bench::pass_prepared(pass_prepared())]
#[bench::pass_1000_rows(simple(
    "select id, note from plain",
    "RowDescription id:23 note:25\nDataRow (1) (ann@example.com)",
    1000
))]
#[bench::sealed_simple(simple(
    "select id, email from customers where email = 'ann@example.com'",
    &format!("RowDescription id:20 email:17\n{SEALED_ROW}"),
    1
))]
#[bench::sealed_prepared(sealed_prepared())]
#[bench::sealed_1000_rows(sealed_rows(1000))]
fn relay(mut work: Work) -> Work {
    work();
    work
}

const POINT_SELECT: &str = "SELECT id, email, name, card FROM customers WHERE email = $1";
const UNTAGGED: &str =
    "SELECT a.x, b.y FROM plain a JOIN plain b ON a.id = b.id WHERE a.email = $1 ORDER BY b.y LIMIT 10";
const MASKED: &str = "SELECT c.id, c.phone FROM customers c WHERE c.phone LIKE $1 ORDER BY c.phone LIMIT 10";
const BYTES_200: &str = "SELECT c.id, c.email, c.name, c.born, c.card, o.id, o.billing_email, o.total FROM customers c \
     LEFT JOIN orders o ON o.customer_id = c.id WHERE c.email = $1 AND o.total >= $2 ORDER BY o.id LIMIT 50 OFFSET 0";

/// Whose statements are planned, and where.
fn session(user: &str) -> Session<'static> {
    Session {
        principal: kept(Principal::assumed(user.to_owned())),
        circumstances: kept(circumstances()),
        search_path: kept(["pg_catalog".to_owned(), "public".to_owned()]),
        named: &NO_NAMES,
    }
}

fn split(sql: &'static str) -> Work {
    warm(move || drop(black_box(pgveil::sql::split(black_box(sql)))))
}

fn missed(user: &str, sql: &'static str) -> Work {
    let (shop, session) = (shop(), session(user));
    warm(move || drop(black_box(decide(black_box(sql), &[], &shop.catalog, &shop.policy, &session))))
}

fn hit(sql: &'static str) -> Work {
    let (shop, session, cache) = (shop(), session("shop"), PlanCache::new(1000, [7; 16]));
    warm(move || drop(black_box(cache.plan(black_box(sql), &[], 1, &shop.catalog, &shop.policy, &session))))
}

#[library_benchmark]
#[bench::hit_200_bytes(hit(BYTES_200))]
#[bench::split_200_bytes(split(BYTES_200))]
#[bench::miss_200_bytes(missed("shop", BYTES_200))]
#[bench::miss_point_select(missed("shop", POINT_SELECT))]
#[bench::miss_untagged(missed("shop", UNTAGGED))]
#[bench::miss_masked(missed("alice", MASKED))]
fn plan(mut work: Work) -> Work {
    work();
    work
}

fn record(statement: u64) -> AuditRecord {
    let used = |column: &str| UsedColumn {
        column: column.to_owned(),
        label: "pii.email".to_owned(),
        action: "read".to_owned(),
        rule: "support-desk".to_owned(),
        disclosure: "mask:partial".to_owned(),
    };
    let shape = "select id, email, phone from public.customers where id = $1 order by id limit $2";
    AuditRecord {
        time: 1_764_072_000_000_000,
        connection: Said::from(Connection {
            number: 17,
            user: "alice".to_owned(),
            database: "shop".to_owned(),
            application: "support desk".to_owned(),
            address: "10.0.0.7:5123".to_owned(),
        }),
        event: Event::Intent {
            statement,
            intent: Said::from(Intent {
                kind: "select".to_owned(),
                shape: shape.to_owned(),
                purpose: Some("support".to_owned()),
                uses: vec![used("public.customers.email"), used("public.customers.phone")],
            }),
        },
    }
}

/// A group of so many records, as the writer spells and chains them: of one connection, which carries out one statement again and again.
fn spell(group: u64) -> Work {
    let first = record(0);
    let Event::Intent { intent, .. } = &first.event else { unreachable!("it is an intent") };
    let event = |statement| Event::Intent { statement, intent: intent.clone() };
    let records: Vec<_> =
        (0..group).map(|statement| AuditRecord { event: event(statement), ..first.clone() }).collect();
    // As the connection itself.
    let kept = first.clone();
    let (mut line, mut chain) = (vec![], Chain { size: 1000, head: Hash([7; 32]) });
    warm(move || {
        black_box(&kept);
        for record in black_box(&records) {
            line.clear();
            write_record(chain, record, &mut line);
            chain = chain.then(&line);
        }
        black_box(chain);
    })
}

#[library_benchmark]
#[bench::spell_1(spell(1))]
#[bench::spell_8(spell(8))]
fn audit(mut work: Work) -> Work {
    work();
    work
}

library_benchmark_group!(name = hot, benchmarks = [cells, rows, copy, relay, plan, audit]);
main!(library_benchmark_groups = hot);
