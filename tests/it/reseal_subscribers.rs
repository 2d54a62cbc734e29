//! `pgveil reseal` beside a subscriber of logical replication, a second PostgreSQL: it goes on getting what it may have, gets never a
//! cell that it has no column for, and is set up anew as it is told.

use crate::postgres::{self, Postgres};
use crate::proxy::{self, Proxy, eventually};
use crate::reseal::{must, one, reseal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

const TABLE: &str =
    "create table customers (id int primary key, email text, card text, joined date, note text)";

/// Publisher with its proxy, and subscriber.
struct Pair {
    proxy: Proxy,
    _subscriber: Postgres,
    there: String,
}

impl Pair {
    /// The table has rows here and is empty there, and nobody is subscribed.
    fn start() -> Pair {
        let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
        let subscriber = Postgres::private();
        let there = subscriber.database("copy");
        let rows = "insert into customers select n, 'ann' || n, '4111 ' || n, null, 'x' from generate_series(1, 1000) n";
        postgres::execute(proxy.direct(), &format!("{TABLE}; grant all on customers to shop; {rows}"));
        postgres::execute(&there, TABLE);
        Pair { proxy, _subscriber: subscriber, there }
    }

    fn here(&self, sql: &str) {
        postgres::execute(self.proxy.direct(), sql);
    }

    fn there(&self, sql: &str) {
        postgres::execute(&self.there, sql);
    }

    fn subscribe(&self, publication: &str) {
        self.follow(publication);
        self.arrives("select count(*) from customers", "1000");
    }

    fn follow(&self, publication: &str) {
        let database = postgres::database_name(self.proxy.direct());
        self.there(&format!(
            "create subscription copy connection 'host=127.0.0.1 port={} user={} password={} dbname={database}' publication {publication}",
            self.proxy.postgres.port(),
            postgres::SUPERUSER,
            postgres::PASSWORD,
        ));
    }

    /// Waits until a query there answers so.
    fn arrives(&self, sql: &str, expected: &str) {
        eventually(&format!("{sql} = {expected}, but {}", one(&self.there, sql)), || {
            one(&self.there, sql) == expected
        });
    }

    /// Nothing that looks like a cell ever came.
    fn has_no_cell(&self) {
        assert_eq!(
            one(&self.there, "select count(*) from customers where email !~ '^(ann|new)[0-9]+$'"),
            "0"
        );
    }

    /// Writes rows through the proxy from 1001 on, one after the other, until it is stopped.
    fn write(&self) -> Writer {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(1000)));
        let (shop, stopped, written) = (self.proxy.url("shop"), stop.clone(), last.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let id = written.load(Ordering::Relaxed) + 1;
                let row = format!(
                    "insert into customers values ({id}, 'new{id}', null, null, 'y'); update customers set note = 'z' where id = {}",
                    id - 900
                );
                postgres::execute(&shop, &row);
                written.store(id, Ordering::Relaxed);
            }
        });
        Writer { stop, last, thread }
    }
}

struct Writer {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicU32>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.last.load(Ordering::Relaxed)
    }
}

const WAYS: [&[&str]; 2] = [&["--max-lock", "120"], &["--online"]];

/// Whoever is sent other columns only is sent them before, during and after, by either way.
#[test]
fn a_subscriber_of_other_columns_goes_on() {
    if postgres::major() < 15 {
        // No publication has a list of columns.
        return;
    }
    let pair = Pair::start();
    pair.here("create publication others for table customers (id, note)");
    pair.subscribe("others");
    let writer = pair.write();
    for way in WAYS {
        for (command, column_type) in [("start", "pgveil.email_1"), ("undo", "text")] {
            must(&pair.proxy, &[&[command, "public.customers.email"], way].concat());
            let is = "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'customers'::regclass and attname = 'email'";
            assert_eq!(one(pair.proxy.direct(), is), column_type);
            let last = writer.last();
            eventually("a write after the swap", || writer.last() > last + 2);
        }
    }
    let last = writer.end();
    pair.here("delete from customers where id = 5");
    pair.arrives("select count(*) from customers", &(last - 1).to_string());
    let all = "select md5(string_agg(concat(id, note), ',' order by id)) from customers";
    pair.arrives(all, &one(pair.proxy.direct(), all));
    assert_eq!(one(&pair.there, "select count(email) from customers"), "0");
}

/// Whoever is sent the column gets what was written before, and nothing after; and gets all again as `start` says.
#[test]
fn a_subscriber_of_the_column_gets_no_cell_and_is_set_up_anew() {
    for way in WAYS {
        let pair = Pair::start();
        pair.here("create publication whole for table customers");
        pair.subscribe("whole");
        let refused = reseal(&pair.proxy, &["start", "public.customers.email"]);
        assert!(refused.2 == 1 && refused.1.contains("publication whole sends table"), "{}", refused.1);
        // It is behind at the swap.
        pair.there("alter subscription copy disable");
        let writer = pair.write();
        eventually("some writes", || writer.last() > 1010);
        must(&pair.proxy, &[&["start", "public.customers.email", "--unpublish", "--prepare"], way].concat());
        let before = writer.last();
        let said = must(&pair.proxy, &["start"]);
        let last = writer.last();
        eventually("a write after the swap", || writer.last() > last + 2);
        pair.there("alter subscription copy enable");
        let last = writer.end();
        eventually("what was written before", || {
            one(&pair.there, "select max(id) from customers").parse::<u32>().unwrap() >= before
        });
        let mark = "insert into customers values (0, 'new0', null, null, 'y')";
        postgres::execute(&pair.proxy.url("shop"), mark);
        let sent = "select bool_and(confirmed_flush_lsn >= pg_current_wal_lsn()) from pg_replication_slots";
        eventually("all that was sent", || one(pair.proxy.direct(), sent) == "t");
        pair.has_no_cell();
        let count = one(&pair.there, "select count(*) from customers where id > 0");
        assert_eq!(one(&pair.there, "select max(id) from customers"), count, "rows are lost");
        assert!(
            count.parse::<u32>().unwrap() < last && one(&pair.there, "select min(id) from customers") == "1"
        );
        set_up_anew(&pair, &said);
        let all = "select md5(string_agg(concat(id, email, note), ',' order by id)) from customers";
        pair.arrives(all, &one(pair.proxy.direct(), all));
        postgres::execute(&pair.proxy.url("shop"), "update customers set email = 'new7' where id = 7");
        pair.arrives(all, &one(pair.proxy.direct(), all));
        assert_eq!(one(&pair.there, "select pg_typeof(email) from customers limit 1"), "pgveil.email_1");
    }
}

/// Does what `start` said, word by word.
fn set_up_anew(pair: &Pair, said: &str) {
    let (_, said) = said.split_once("\n1. At each subscriber").expect(said);
    let (first, rest) = said.split_once("\n2. Here:").expect(said);
    let (second, third) = rest.split_once("\n3. At each subscriber").expect(said);
    assert!(first.contains("pgveil init --database"), "{first}");
    pair.proxy.must(&["init", "--database", &pair.there]);
    for (url, step) in
        [(pair.there.as_str(), first), (pair.proxy.direct(), second), (pair.there.as_str(), third)]
    {
        for statement in step.lines().filter(|line| line.ends_with(';')) {
            postgres::execute(url, &statement.replace('…', "copy"));
        }
    }
}

/// The statements of a remedy, where there is one.
fn remedy(pair: &Pair, way: &[&str], obstacle: &str) -> Vec<String> {
    let all = [&["plan", "public.customers.email", "--json", "--unpublish"], way].concat();
    let (plan, error, code) = reseal(&pair.proxy, &all);
    assert_eq!(code, 1, "{plan}{error}");
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let obstacles = plan["obstacles"].as_array().unwrap();
    let mut own = obstacles.iter().filter(|one| one["what"].as_str().unwrap().contains(obstacle));
    let remedy = own.next().unwrap_or_else(|| panic!("{obstacle}: {plan:#}"))["remedy"].as_str().unwrap();
    assert!(own.next().is_none() && remedy.ends_with(';'));
    let statements = remedy.split_terminator(';').map(|part| {
        let begins = ["CREATE PUBLICATION", "ALTER PUBLICATION", "ALTER SUBSCRIPTION", "DROP PUBLICATION"];
        let at = begins.iter().find_map(|begin| part.find(begin)).unwrap_or_else(|| panic!("{part}"));
        part[at..].replace('…', "copy")
    });
    statements.collect()
}

/// A publication of all, or of a schema, is made one that names its tables, and nobody misses a row; then it is as any other.
#[test]
fn a_publication_of_everything_names_its_tables_first() {
    let mut ways = vec![("for all tables", WAYS[1])];
    if postgres::major() >= 15 {
        ways.push(("for tables in schema public, pgveil, table customers", WAYS[0]));
    }
    for (of, way) in ways {
        let pair = Pair::start();
        let regions = "create table regions (code int primary key) partition by hash (code); \
                       create table region partition of regions for values with (modulus 1, remainder 0)";
        pair.here(regions);
        pair.there(regions);
        pair.here(&format!("create publication everything {of}"));
        pair.subscribe("everything");
        let writer = pair.write();
        let schema = of.contains("schema");
        let statements = remedy(&pair, way, if schema { "all of schema" } else { "sends all tables" });
        assert_eq!(statements.len(), if schema { 2 } else { 3 }, "{statements:?}");
        for statement in &statements {
            if statement.starts_with("ALTER SUBSCRIPTION") {
                let passed = format!(
                    "select bool_and(confirmed_flush_lsn > '{}') from pg_replication_slots",
                    one(pair.proxy.direct(), "select pg_current_wal_lsn()")
                );
                eventually("the slot", || one(pair.proxy.direct(), &passed) == "t");
                pair.there(statement);
            } else {
                pair.here(statement);
            }
        }
        must(&pair.proxy, &[&["start", "public.customers.email", "--unpublish"], way].concat());
        writer.end();
        pair.here("insert into regions values (7)");
        pair.arrives("select count(*) from regions", "1");
        pair.has_no_cell();
        let count = one(&pair.there, "select count(*) from customers");
        assert_eq!(one(&pair.there, "select max(id) from customers"), count, "rows are lost");
        assert!(count.parse::<u32>().unwrap() > 1000);
    }
}

/// A subscriber that falls behind is given time: one whose process stands still, while a hundred megabytes are written that it has not
/// said to have.
#[test]
fn a_subscriber_that_lags_is_waited_for() {
    let pair = Pair::start();
    let notes = "create table notes (id int primary key)";
    pair.here(&format!("{notes}; insert into notes values (1); create publication lagging for table notes"));
    pair.there(notes);
    pair.follow("lagging");
    pair.arrives("select count(*) from notes", "1");
    let process =
        one(&pair.there, "select pid from pg_stat_subscription where subname = 'copy' and relid is null");
    proxy::signal(&process, "STOP");
    pair.here(
        "select pg_logical_emit_message(false, 'lag', repeat(n::text, 1000000 / length(n::text))) from generate_series(1, 100) n",
    );
    let goes_on = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(8));
        proxy::signal(&process, "CONT");
    });
    let (_, said, code) = reseal(&pair.proxy, &["start", "public.customers.email"]);
    goes_on.join().unwrap();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("waiting: a replica lags behind"), "{said}");
    pair.here("insert into notes values (2)");
    pair.arrives("select count(*) from notes", "2");
}
