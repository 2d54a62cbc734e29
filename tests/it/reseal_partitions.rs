//! `pgveil reseal --online` of partitioned tables: the copy is a tree, and follows the table's.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::reseal::{must, one, reseal};
use crate::reseal_online::{in_transaction, left, online, schemas};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_postgres::NoTls;

const TAGS: &str = r#"
[columns]
"public.events.email" = { domain = "email", type = "varchar(100)" }
"public.events.card" = "card"
"#;

/// Several levels by range, list and hash, partitions in another schema, with other columns' order and things of their own.
const TREE: &str = r#"
create schema past; grant usage on schema past to shop;
create table kinds (kind text primary key); insert into kinds values ('k'), ('l'), ('old'), ('m');
create table events (
  id bigint not null, day date not null, email varchar(100) collate "C" not null default 'nobody@example.com', card text,
  kind text not null default 'k', note text compression pglz, low text generated always as (lower(note)) stored, number serial,
  constraint events_pkey primary key (id, day, kind) with (fillfactor = 80), constraint once unique (email, day, kind) deferrable,
  constraint late check (day > '1990-01-01')
) partition by range (day);
create table past.events_2019 (note text, card text, gone int, day date not null, id bigint not null, kind text not null default 'old',
  number int not null default 7, email varchar(100) collate "C" not null default 'old@example.com',
  low text generated always as (lower(note)) stored,
  constraint late check (day > '1990-01-01'), constraint own check (kind <> 'x'), constraint own_spans exclude (id with =, day with =));
alter table past.events_2019 drop column gone;
alter table events attach partition past.events_2019 for values from ('2018-01-01') to ('2020-01-01');
create table events_2020 partition of events for values from ('2020-01-01') to ('2021-01-01') with (fillfactor = 70, autovacuum_enabled = false);
create table events_2021 partition of events for values from ('2021-01-01') to ('2022-01-01') partition by list (kind);
create table past.events_2021_k partition of events_2021 for values in ('k', 'l');
create table events_2021_rest partition of events_2021 default;
create unlogged table events_2022 partition of events for values from ('2022-01-01') to ('2023-01-01') partition by hash (kind);
create table events_2022_0 partition of events_2022 for values with (modulus 2, remainder 0);
create table events_2022_1 partition of events_2022 for values with (modulus 2, remainder 1);
create table events_rest partition of events default;
alter table events_2020 alter column email set default 'y2020@example.com', alter column card set storage external,
  alter column note set statistics 300, alter column kind drop default, alter column note set (n_distinct = 9);
alter table events alter column day set statistics 222;
alter table events_rest add constraint not_yet check (number > 0) not valid, add constraint kinds foreign key (kind) references kinds;
create table orders (id int primary key, event bigint, day date, kind text, constraint what foreign key (event, day, kind) references events on delete cascade);
create index events_lower on events (lower(email)); create index on events (low, day desc);
create index events_like on events (email varchar_pattern_ops) where note is not null;
create index own_note on past.events_2019 (note); create unique index own_number on events_2020 (number desc) include (note);
create index own_low on events_rest (lower(card));
create index only_here on only events_2021 (number);
alter table events_2020 cluster on own_number; alter table events_2020 replica identity using index own_number;
alter table events replica identity full;
create statistics corr on kind, day from events_2020;
create view people as select id, day, email from events where email is not null;
create view rest as select email from events_rest; create view old as select p.email from past.events_2019 p join people using (id);
create function touched() returns trigger language plpgsql as 'begin return new; end';
create function told() returns trigger language plpgsql as 'begin return null; end';
create trigger touch before update of email on events for each row execute function touched();
create trigger later after insert on events for each row execute function told();
create trigger said after insert on events for each statement execute function told();
create trigger own before insert on events_2020 for each row when (new.note is null) execute function touched();
create trigger own before insert on events_rest for each row when (new.note is not null) execute function touched();
alter table events_2020 disable trigger later; alter table events enable always trigger touch;
alter table events enable row level security; create policy all_of_it on events to shop using (true) with check (true);
create policy part on events_rest as restrictive for select using (kind in (select kind from kinds));
grant all on events, orders to shop; grant select on people, kinds to shop; grant usage on sequence events_number_seq to shop;
grant select (id, email) on events_2020 to intern; revoke all on events_rest from postgres; alter table events_2021 owner to alice;
comment on table events is 'what happened'; comment on table past.events_2019 is 'long ago'; comment on column events_2020.email is 'who';
comment on constraint own on past.events_2019 is 'never x'; comment on index past.own_note is 'its own';
comment on index events_like is 'like'; comment on trigger own on events_2020 is 'own'; comment on constraint events_pkey on events is 'key';
insert into events (id, day, email, card, kind, note)
  select n, date '2018-06-01' + n % 2000, 'ann' || n || '@example.com', case when n % 3 = 0 then null else '4111 ' || n end,
    (array['k', 'l', 'm'])[1 + n % 3], 'N' || n from generate_series(1, 3000) n;
insert into orders select id, id, day, kind from events where id % 5 = 0;
"#;

/// Nothing that a tree has is lost on the way there and back.
#[test]
fn a_tree_of_copies_has_all_that_its_table_had() {
    let proxy = Proxy::start(proxy::POLICY, TAGS);
    // Since PostgreSQL 18 only leaves may be unlogged.
    let newest = one(proxy.direct(), "select current_setting('server_version_num')::int >= 180000") == "t";
    let tree = if newest { TREE.replace("create unlogged table", "create table") } else { TREE.to_owned() };
    postgres::execute(proxy.direct(), &tree);
    let (shop, beside) = (proxy.url("shop"), left(&proxy));
    let dump = || schemas(&proxy, &["--schema=public", "--schema=past"]);
    let rows = "select id, day, email, card, kind, note, low, number from events order by id";
    let placed = "select tableoid::regclass::text, count(*) from events group by 1 order by 1";
    let before = (dump(), postgres::query(&shop, rows), postgres::query(proxy.direct(), placed));
    assert!(before.2.len() > 5, "{:?}", before.2);
    let plan = must(&proxy, &["plan", "public.events.email", "public.events.card", "--max-lock", "0"]);
    assert!(plan.contains("the tables are copied online instead"), "{plan}");
    let said = must(&proxy, &["start", "public.events.email", "public.events.card", "--max-lock", "0"]);
    assert!(said.contains("the tables were locked for"), "{said}");
    eprintln!("{said}");
    let sealed = dump();
    let lost: Vec<_> = before.0.iter().filter(|line| !sealed.contains(line)).collect();
    let new: Vec<_> = sealed.iter().filter(|line| !before.0.contains(line)).collect();
    for line in &lost {
        let changed = ["email", "card", "lower", "own_low"].iter().any(|word| line.contains(word));
        assert!(changed, "{line}\n{lost:#?}\n{new:#?}");
    }
    for line in &new {
        assert!(line.contains("pgveil.") || line.contains("email"), "{line}\n{lost:#?}\n{new:#?}");
    }
    assert_eq!(postgres::query(&shop, rows), before.1);
    assert_eq!(postgres::query(proxy.direct(), placed), before.2);
    assert_eq!(left(&proxy), beside);
    let fails = |sql: &str| postgres::try_query(&shop, sql).unwrap_err()[..5].to_owned();
    assert_eq!(fails("insert into events (id, day, email) values (3, '2018-06-04', 'x')"), "23505");
    assert_eq!(fails("insert into events (id, day, email) values (9001, '1980-01-01', 'x')"), "23514");
    assert_eq!(fails("insert into orders values (9001, 9001, '2020-02-02', 'k')"), "23503");
    assert_eq!(fails("insert into events (id, day, kind) values (9001, '2030-01-01', 'w')"), "23503");
    // Defaults are a partition's own where one writes to it.
    postgres::execute(
        proxy.direct(),
        "insert into events_2020 (id, day, kind) values (9001, '2020-02-02', 'k')",
    );
    postgres::execute(&shop, "insert into events (id, day) values (9002, '2020-02-02')");
    let given = "select email from events where id > 9000 order by id";
    let given: Vec<_> = postgres::query(&shop, given).into_iter().flatten().flatten().collect();
    assert_eq!(given, ["y2020@example.com", "nobody@example.com"]);
    postgres::execute(&shop, "delete from events where id > 9000");
    online(&proxy, &["undo", "public.events.email"]);
    let now = dump();
    let differing: Vec<_> = before.0.iter().zip(&now).filter(|(old, new)| old != new).take(9).collect();
    assert!(now == before.0, "{differing:#?}");
    assert_eq!(postgres::query(&shop, rows), before.1);
    assert_eq!(postgres::query(proxy.direct(), placed), before.2);
    assert_eq!(left(&proxy), beside);
}

const KEYED: &str = r#"
[columns]
"public.visits.email" = "email"
"#;

/// A table with partitions and a plain twin without.
const TWINS: &str = "\
    create table visits (id int, part int, email text, note text, primary key (id, part)) partition by list (part); \
    create table visits_1 partition of visits for values in (1); create table visits_2 partition of visits for values in (2); \
    create table visits_3 partition of visits for values in (3); create table visits_4 partition of visits for values in (4); \
    create table visits_5 partition of visits for values in (5); create table visits_6 partition of visits for values in (6); \
    create table visits_rest partition of visits default; create index on visits (email); \
    insert into visits select n, 1 + n % 9, 'ann' || n || '@example.com', 'n' from generate_series(1, 2700) n; \
    create table visits_twin as select id, part, email as mail, note from visits; alter table visits_twin add primary key (id, part); \
    grant all on all tables in schema public to shop";

/// A statement for the table, and the same for its twin.
fn twins(text: &str) -> String {
    format!("{text}; {}", text.replace("visits", "visits_twin").replace("email", "mail"))
}

fn same_as_twin(url: &str, when: &str) {
    let rows = "select id, part, email, note from visits order by id, part";
    let twin = twins(rows).split_once("; ").unwrap().1.to_owned();
    let (rows, twin) = (postgres::query(url, rows), postgres::query(url, &twin));
    assert_eq!(rows.len(), twin.len(), "{when}");
    let differing: Vec<_> = rows.iter().zip(&twin).filter(|(one, other)| one != other).take(3).collect();
    assert!(differing.is_empty(), "{when}: {differing:?}");
}

/// Partitions that come, go, or are others than they were, each with what the twin must have then.
const CHANGES: [&str; 11] = [
    "update visits set part = 2 where part = 1 and id < 500; update visits_twin set part = 2 where part = 1 and id < 500",
    "truncate visits_3; delete from visits_twin where part = 3; \
     insert into visits values (9003, 3, 'three', 'n'); insert into visits_twin values (9003, 3, 'three', 'n')",
    "create table visits_20 partition of visits for values in (20); insert into visits values (9020, 20, 'twenty', 'n'); \
     insert into visits_twin values (9020, 20, 'twenty', 'n')",
    "create table visits_21 (note text, email text, gone int, part int not null, id int not null); alter table visits_21 drop column gone; \
     insert into visits_21 select 'n', 'x' || n, 21, n from generate_series(1, 700) n; alter table visits attach partition visits_21 for values in (21); \
     insert into visits_twin select n, 21, 'x' || n, 'n' from generate_series(1, 700) n",
    "alter table visits detach partition visits_4; delete from visits_twin where part = 4",
    // What is written while it is none is nobody's note.
    "alter table visits detach partition visits_5; update visits_5 set email = 'apart' where id < 900; delete from visits_5 where id > 2000; \
     alter table visits attach partition visits_5 for values in (5); update visits_twin set mail = 'apart' where part = 5 and id < 900; \
     delete from visits_twin where part = 5 and id > 2000",
    "begin; create table visits_9 (like visits including all); with gone as (delete from visits_rest where part = 9 returning *) \
     insert into visits_9 select * from gone; alter table visits attach partition visits_9 for values in (9); commit",
    "drop table visits_6; delete from visits_twin where part = 6",
    "alter table visits_2 add constraint never_x check (note <> 'x'); create index on visits (note); create index own on visits_1 (id)",
    "create table visits_30 partition of visits for values in (30, 31) partition by range (id); \
     create table visits_30_low partition of visits_30 for values from (0) to (100); create table visits_30_high partition of visits_30 default; \
     insert into visits select n, 30, 'thirty', null from generate_series(50, 150) n; \
     insert into visits_twin select n, 30, 'thirty', null from generate_series(50, 150) n",
    "alter table visits_3 rename to visits_three; truncate visits_30_low; delete from visits_twin where part = 30 and id < 100; \
     truncate visits_20; delete from visits_twin where part = 20",
];

/// Writes to the table and its twin until it is told to stop; what a conversion interrupts is rolled back on both.
async fn write(url: String, stop: Arc<AtomicBool>) -> u64 {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let (mut random, mut done) = (5_u64, 0_u64);
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (kind, id, part) = (
            (random >> 33) % 5,
            1 + (random >> 40) % 2700,
            [1, 2, 3, 5, 7, 9, 21, 30][(random >> 50) as usize % 8],
        );
        let text = match kind {
            0 => format!("update visits set email = 'w{done}' where id = {id}"),
            1 => format!(
                "update visits set part = {part} where id = {id} and part in (1, 2, 7) and id not in (select id from visits where part = {part})"
            ),
            2 => format!("delete from visits where id = {id} and part = {part}"),
            3 => format!("insert into visits values ({}, {part}, 'w{done}', null)", 10_000 + done),
            _ => format!(
                "update visits set note = 'w{done}', id = id + 100000 where id = {id} and part = {part}"
            ),
        };
        in_transaction(&client, &twins(&text)).await;
        done += 1;
    }
    done
}

/// Statements that define. One that meets another definition may be told of a deadlock, as ever, and is given again.
fn define(proxy: &Proxy, text: &str) {
    let done = || {
        postgres::try_query(proxy.direct(), text)
            .map_err(|error| assert!(error.starts_with("40P01"), "{text}: {error}"))
    };
    proxy::eventually("a definition", || done().is_ok());
}

fn run(proxy: &Proxy, text: &str) {
    postgres::execute(proxy.direct(), text);
}

/// Row movement, truncation of one partition, and partitions that come and go: nothing is lost, neither between the steps of
/// a conversion nor under load, and whatever dies.
#[test]
fn a_tree_of_copies_follows_its_table() {
    let proxy = Proxy::start(proxy::POLICY, KEYED);
    run(&proxy, TWINS);
    let (shop, triggers) = (proxy.url("shop"), "select count(*) from pg_trigger where tgname like 'pgveil%'");
    let prepare = ["start", "public.visits.email", "--online", "--prepare", "--batch", "500"];
    must(&proxy, &prepare);
    assert!(must(&proxy, &["verify", "--all"]).starts_with("2700 rows"));
    for (at, change) in CHANGES.iter().enumerate() {
        run(&proxy, change);
        if at == 2 {
            let (_, error, code) = reseal(&proxy, &["verify", "--all"]);
            assert!(code == 1 && error.contains("the partitions of table public.visits changed"), "{error}");
        }
        // Some are followed one by one, others together.
        if at % 3 == 2 {
            must(&proxy, &prepare);
            let verified = must(&proxy, &["verify", "--all"]);
            assert!(verified.contains(" rows"), "{change}: {verified}");
        }
    }
    let schema = || schemas(&proxy, &["--table=visits*"]);
    same_as_twin(&shop, "before");
    let (stop, before) = (Arc::new(AtomicBool::new(false)), schema());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let writer = runtime.spawn(write(shop.clone(), stop.clone()));
    must(&proxy, &["start"]);
    assert_eq!(one(proxy.direct(), triggers), "0");
    let sealed = "select count(*) from pg_attribute where atttypid = 'pgveil.email_1'::regtype";
    let attributes = one(proxy.direct(), sealed);
    assert!(attributes.parse::<u32>().unwrap() >= 12, "{attributes}");
    let seen = "select count(*) from visits_4 where email like 'ann%'";
    assert_eq!(one(proxy.direct(), seen), "300", "what was detached is as it was");
    let (changed, now) = (|line: &&String| !line.contains("email"), schema());
    assert_eq!(
        now.iter().filter(changed).collect::<Vec<_>>(),
        before.iter().filter(changed).collect::<Vec<_>>()
    );
    // Back, while partitions come and go and everything dies.
    for round in 0_u64.. {
        assert!(round < 40, "it does not get on");
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
            .args([
                "reseal",
                "start",
                "public.visits.email",
                "--to",
                "plain",
                "--online",
                "--batch",
                "200",
                "--rate",
                "1200",
            ])
            .args(["--database", proxy.direct(), "--config"])
            .arg(proxy.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(250 + 250 * round));
        let part = 100 + round;
        if round < 8 {
            define(
                &proxy,
                &format!(
                    "create table visits_{part} (like visits including all); insert into visits_{part} values ({part}, {part}, null, 'n'); \
                     alter table visits attach partition visits_{part} for values in ({part}); insert into visits_twin values ({part}, {part}, null, 'n')"
                ),
            );
        }
        if round > 2 {
            let part = part - 2;
            define(
                &proxy,
                &format!("drop table if exists visits_{part}; delete from visits_twin where part = {part}"),
            );
        }
        std::thread::sleep(Duration::from_millis(150 * round));
        let ended = child.try_wait().unwrap();
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        if ended.is_some_and(|status| status.success()) {
            assert!(round > 2, "nothing was killed");
            break;
        }
        assert!(ended.is_none(), "a start failed by itself: {}", String::from_utf8_lossy(&output.stderr));
    }
    stop.store(true, Ordering::Relaxed);
    let done = runtime.block_on(writer).unwrap();
    assert!(done > 50, "{done} transactions are no load");
    same_as_twin(&shop, "after the load");
    same_as_twin(proxy.direct(), "in clear");
    assert_eq!((one(proxy.direct(), triggers), left(&proxy)), ("0".to_owned(), String::new()));
}
