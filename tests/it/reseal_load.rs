//! `pgveil reseal` under a load through three proxies: every answer is right, before, during and after, and all that a
//! client may be told of a conversion is the 0A000 with which PostgreSQL itself asks to prepare again.

use crate::postgres;
use crate::proxy::{self, Proxy};
use crate::reseal::{self, one};
use crate::several::Sibling;
use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// What all workers did.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    statements: AtomicU64,
    /// 0A000 that a client was told.
    told: AtomicU64,
}

/// One client that has rows of its own, and knows what is in them.
struct Worker {
    client: Client,
    load: Arc<Load>,
    first: i32,
    rows: HashMap<i32, String>,
    random: u64,
    written: u64,
}

const OWN_ROWS: i32 = 200;

impl Worker {
    async fn connect(url: &str, load: Arc<Load>, first: i32) -> Worker {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = (first..first + OWN_ROWS).map(|id| (id, format!("ann{id}@example.com"))).collect();
        Worker { client, load, first, rows, random: u64::try_from(first).unwrap(), written: 0 }
    }

    fn next(&mut self, below: i32) -> i32 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i32::try_from((self.random >> 33) % u64::try_from(below).unwrap()).unwrap()
    }

    /// The answer, or that it is to be asked again.
    fn judged<T>(&self, what: &str, answer: Result<T, tokio_postgres::Error>) -> Option<T> {
        self.load.statements.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let state = error.code().map(|code| code.code().to_owned());
                assert_eq!(state.as_deref(), Some("0A000"), "{what}: {error:?}");
                self.load.told.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    async fn work(mut self) {
        let mut by_email = self.client.prepare("select id from customers where email = $1").await.unwrap();
        while !self.load.stop.load(Ordering::Relaxed) {
            let id = self.first + self.next(OWN_ROWS);
            let now = self.rows[&id].clone();
            match self.next(7) {
                0 => {
                    let new = self.fresh(id);
                    let done = self
                        .client
                        .execute("update customers set email = $2 where id = $1", &[&id, &new])
                        .await;
                    self.wrote("update", done, id, new);
                }
                1 => {
                    let new = self.fresh(id);
                    let sql =
                        format!("update customers set email = '{new}', card = '{new}' where email = '{now}'");
                    let done = self.client.simple_query(&sql).await.map(|messages| match messages.last() {
                        Some(tokio_postgres::SimpleQueryMessage::CommandComplete(count)) => *count,
                        _ => 0,
                    });
                    self.wrote("simple update", done, id, new);
                }
                2 => {
                    let found = self.client.query(&by_email, &[&now]).await;
                    if let Some(rows) = self.judged("prepared select", found) {
                        let ids: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
                        assert_eq!(ids, [id], "{now}");
                    } else {
                        by_email =
                            self.client.prepare("select id from customers where email = $1").await.unwrap();
                    }
                }
                3 => {
                    let found = self.client.query("select email from customers where id = $1", &[&id]).await;
                    if let Some(rows) = self.judged("select", found) {
                        assert_eq!(rows[0].get::<_, String>(0), now);
                    }
                }
                4 => self.in_transaction(id).await,
                5 => {
                    // Over ciphertext it would be another length, without an error.
                    let sql = format!(
                        "select count(*) from customers where id = {id} and length(email) = {}",
                        now.len()
                    );
                    let found = self.client.query(&sql, &[]).await;
                    if let Some(rows) = self.judged("length", found) {
                        assert_eq!(rows[0].get::<_, i64>(0), 1, "{now}");
                    }
                }
                _ => self.replace(id).await,
            }
        }
        for (id, email) in &self.rows {
            let row =
                self.client.query_one("select email from customers where id = $1", &[id]).await.unwrap();
            assert_eq!(&row.get::<_, String>(0), email, "{id}");
        }
    }

    fn fresh(&mut self, id: i32) -> String {
        self.written += 1;
        format!("ann{id}w{}@example.com", self.written)
    }

    fn wrote(&mut self, what: &str, done: Result<u64, tokio_postgres::Error>, id: i32, new: String) {
        if let Some(count) = self.judged(what, done) {
            assert_eq!(count, 1, "{what} of {id}");
            self.rows.insert(id, new);
        }
    }

    /// An update between two selects, as texts, in one transaction: what fails in it cannot be done again unseen.
    async fn in_transaction(&mut self, id: i32) {
        let (now, new) = (self.rows[&id].clone(), self.fresh(id));
        let statements = [
            "begin".to_owned(),
            format!("select id from customers where email = '{now}'"),
            format!("update customers set email = '{new}' where email = '{now}'"),
            format!("select id from customers where email = '{new}'"),
            "commit".to_owned(),
        ];
        for statement in statements {
            let done = self.client.simple_query(&statement).await;
            if self.judged(&statement, done).is_none() {
                self.client.simple_query("rollback").await.unwrap();
                return;
            }
        }
        self.rows.insert(id, new);
    }

    /// Deletes the row and inserts it anew, in one transaction.
    async fn replace(&mut self, id: i32) {
        let new = self.fresh(id);
        let transaction = self.client.transaction().await.unwrap();
        let done = async {
            transaction.execute("delete from customers where id = $1", &[&id]).await?;
            transaction
                .execute("insert into customers (id, email, card) values ($1, $2, $2)", &[&id, &new])
                .await?;
            transaction.commit().await
        };
        let done = done.await;
        if self.judged("replace", done).is_some() {
            self.rows.insert(id, new);
        }
    }
}

#[test]
fn three_proxies_answer_rightly_through_conversions() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text unique, card text, joined date); \
         insert into customers select n, 'ann' || n || '@example.com', 'c' || n, '2020-01-01' from generate_series(1, 20000) n; \
         grant all on customers to shop",
    );
    let siblings = [Sibling::of(&proxy), Sibling::of(&proxy)];
    let urls = [proxy.url("shop"), siblings[0].url("shop"), siblings[1].url("shop")];
    let load = Arc::new(Load::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let workers: Vec<_> = (0..6_i32)
        .map(|number| {
            let (url, load) = (urls[usize::try_from(number).unwrap() % 3].clone(), load.clone());
            runtime.spawn(async move { Worker::connect(&url, load, 1 + number * 1000).await.work().await })
        })
        .collect();
    let is_sealed = || one(proxy.direct(), "select pg_typeof(email)::text from customers limit 1") != "text";
    for round in 0..1 {
        std::thread::sleep(Duration::from_millis(500));
        reseal::must(
            &proxy,
            &[
                "start",
                "public.customers.email",
                "public.customers.card",
                "--batch",
                "1000",
                "--max-lock",
                "60",
            ],
        );
        assert!(is_sealed());
        std::thread::sleep(Duration::from_millis(1500));
        let clear = "select count(*) from customers where encode(email::bytea, 'escape') like '%example%'";
        assert_eq!(one(proxy.direct(), clear), "0");
        reseal::must(&proxy, &["undo", "public.customers.email", "--online"]);
        assert!(!is_sealed());
        let sealed = "select count(*) from customers where email like '\\\\x11%' or card like '\\\\x12%'";
        assert_eq!(one(proxy.direct(), sealed), "0", "round {round}");
    }
    load.stop.store(true, Ordering::Relaxed);
    for worker in workers {
        runtime.block_on(worker).unwrap();
    }
    let rows = "select id, email from customers order by id";
    let all = postgres::query(&urls[0], rows);
    assert_eq!(all.len(), 20_000);
    for url in &urls {
        assert_eq!(postgres::query(url, rows), all);
    }
    let (statements, told) = (load.statements.load(Ordering::Relaxed), load.told.load(Ordering::Relaxed));
    assert!(statements > 500, "{statements} statements are no load");
    eprintln!("{statements} statements, {told} told to prepare again");
}

/// The database, the proxy and the conversion itself die at random moments, again and again: no row is lost or converted
/// twice, and another start completes it.
#[test]
fn a_conversion_outlives_the_death_of_everything_around_it() {
    let mut proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text unique, card text, joined date); \
         insert into customers select n, 'ann' || n || '@example.com', 'c' || n, '2020-01-01' from generate_series(1, 30000) n; \
         grant all on customers to shop",
    );
    let rows = "select id, email, card from customers order by id";
    let mut expected = postgres::query(&proxy.url("shop"), rows);
    let mut random = 11_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let is_done = |proxy: &Proxy, sealed: bool| {
        let types = "select atttypid >= 16384 from pg_attribute where attrelid = 'customers'::regclass and attname = 'email'";
        let under_way = "select count(*) from pgveil.reseal where phase <> 'done'";
        one(proxy.direct(), types) == if sealed { "t" } else { "f" } && one(proxy.direct(), under_way) == "0"
    };
    let mut deaths = [0; 3];
    for direction in ["sealed", "plain"] {
        let sealed = direction == "sealed";
        for round in 0.. {
            assert!(round < 40, "it does not get on");
            let mut conversion = Command::new(env!("CARGO_BIN_EXE_pgveil"));
            conversion.args([
                "reseal",
                "start",
                "public.customers.email",
                "public.customers.card",
                "--to",
                direction,
            ]);
            conversion.args(["--batch", "500", "--max-lock", "60", "--database", proxy.direct(), "--config"]);
            conversion.arg(proxy.dir()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut conversion = conversion.spawn().unwrap();
            std::thread::sleep(Duration::from_millis(200 + next(1300)));
            // After a few rounds it is let through. Each way has two rounds at least, so that every death comes on a quick machine, too.
            let first = if sealed { 0 } else { 2 };
            let death = if round < 6 { (first + round) % 3 } else { 3 };
            match death {
                0 => {
                    proxy.postgres.stop();
                    assert!(
                        !conversion.wait().unwrap().success() || round > 0,
                        "the database had died under it"
                    );
                    proxy.postgres.start();
                }
                1 => {
                    proxy.signal("KILL");
                    proxy.wait();
                    proxy.serve();
                }
                2 => conversion.kill().unwrap(),
                _ => assert!(conversion.wait().unwrap().success()),
            }
            if let Some(count) = deaths.get_mut(usize::try_from(death).unwrap()) {
                *count += 1;
            }
            let _ = conversion.kill();
            conversion.wait().unwrap();
            // Life goes on between, through whatever is there.
            let id = 1 + usize::try_from(next(30_000)).unwrap();
            let email = format!("moved{id}r{round}@example.com");
            let update = format!("update customers set email = '{email}' where id = {id}");
            proxy::eventually("an update after a death", || {
                postgres::try_query(&proxy.url("shop"), &update).is_ok()
            });
            expected[id - 1][1] = Some(email);
            if round > 0 && is_done(&proxy, sealed) {
                break;
            }
        }
        assert_eq!(postgres::query(&proxy.url("shop"), rows), expected, "{direction}");
    }
    assert_eq!(postgres::query(proxy.direct(), rows), expected);
    let left = "select count(*) from pg_class where relnamespace = 'pgveil'::regnamespace and relname ~ '^(shadow|written)'";
    assert_eq!(one(proxy.direct(), left), "0");
    assert!(deaths.iter().all(|count| *count > 0), "{deaths:?}");
}

/// Two sessions that are busy with a statement, each in a thread of its own.
fn sessions(url: &str, statement: &'static str) -> [std::thread::JoinHandle<()>; 2] {
    let one = || {
        let url = url.to_owned();
        std::thread::spawn(move || drop(postgres::query(&url, statement)))
    };
    let both = [one(), one()];
    std::thread::sleep(Duration::from_millis(300));
    both
}

#[test]
fn a_server_with_much_to_do_is_given_time() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text unique, card text, joined date); \
         insert into customers select n, 'ann' || n || '@example.com', 'c' || n, '2020-01-01' from generate_series(1, 3000) n",
    );
    // Most roles are not shown what others do: that nobody is waited for then, they are told.
    postgres::execute(
        proxy.direct(),
        "create role owner login password 'owner'; grant create, usage on schema pgveil to owner; \
         alter table customers owner to owner; \
         do $$ begin execute 'grant create on database ' || current_database() || ' to owner'; end $$",
    );
    let owner = proxy.direct().replace("postgres:correct-horse@", "owner:owner@");
    let (_, said, code) =
        proxy.run(&["reseal", "start", "public.customers.email", "--max-lock", "120", "--database", &owner]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("not watching for load") && said.contains("GRANT pg_monitor"), "{said}");

    let waits = |command: &str| {
        let (_, said, code) =
            reseal::reseal(&proxy, &[command, "public.customers.email", "--max-active", "1"]);
        assert_eq!(code, 0, "{said}");
        assert!(!said.contains("not watching"), "{said}");
        said.contains("waiting: more sessions are at work than --max-active says")
    };
    let asleep = sessions(proxy.direct(), "select pg_sleep(4)");
    assert!(!waits("undo"), "who sleeps has nothing to do");
    asleep.into_iter().for_each(|session| session.join().unwrap());
    let at_work = sessions(proxy.direct(), "select count(*) from generate_series(1, 20000000)");
    assert!(waits("start"));
    at_work.into_iter().for_each(|session| session.join().unwrap());
}

/// `command` meets a session that `locks` something; while it waits for that, the session does `then` and commits.
fn meets(proxy: &Proxy, command: &[&str], locks: &str, then: &'static str) -> (String, String, i32) {
    // The proxy waits, too, to read of it in the catalogs.
    let waits = "select count(*) from pg_locks join pg_stat_activity using (pid) where not granted and usename = 'postgres'";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(proxy.direct(), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("begin; {locks}")).await.unwrap();
        client
    });
    std::thread::scope(|scope| {
        // Whatever ends this thread ends the session.
        let end = scope.spawn(move || {
            proxy::eventually("the conversion waits", || one(proxy.direct(), waits) == "1");
            runtime.block_on(client.batch_execute(&format!("{then}; commit"))).unwrap();
        });
        let said = reseal::reseal(proxy, command);
        end.join().unwrap();
        said
    })
}

const DROP_ALL_BUT_THE_ONE_THAT_IS_READ: &str = "\
    do $$ declare own text; begin set local lock_timeout = '100ms'; \
    for own in select 'slow_' || n from generate_series(1, 3) n loop \
      begin execute 'drop view ' || own; exception when lock_not_available then null; end; \
    end loop; end $$";

/// PostgreSQL has no definition to show of what was dropped since it was found, or an internal error in its place.
#[test]
fn what_is_dropped_while_it_is_read_is_passed_over() {
    let proxy = Proxy::start(proxy::POLICY, proxy::TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text unique, card text, joined date); \
         insert into customers select n, 'ann' || n || '@example.com', 'c' || n, '2020-01-01' from generate_series(1, 300) n; \
         create table extra (id int); create table slow (id int); \
         create view extras as select x.id, c.email from extra x, customers c; \
         create view kept as select email from customers; \
         create view slow_1 as select s.id, c.email from slow s, customers c; \
         create view slow_2 as select s.id, c.email from slow s, customers c; \
         create view slow_3 as select s.id, c.email from slow s, customers c",
    );
    let views =
        "select string_agg(viewname, ' ' order by viewname) from pg_views where schemaname = 'public'";
    // Under way already, so that it is the look before the swap that meets it.
    reseal::must(&proxy, &["start", "public.customers.email", "--online", "--prepare"]);
    let (_, said, code) = meets(&proxy, &["start"], "drop table extra cascade", "select 1");
    assert_eq!(code, 0, "{said}");
    assert_eq!(one(proxy.direct(), views), "kept slow_1 slow_2 slow_3");
    // And the first look, before anything is there.
    let undo = ["undo", "public.customers.email"];
    let (_, said, code) = meets(&proxy, &undo, "lock table slow", DROP_ALL_BUT_THE_ONE_THAT_IS_READ);
    assert_eq!(code, 0, "{said}");
    let left = one(proxy.direct(), views);
    assert!(left.starts_with("kept slow_") && left.len() == "kept slow_1".len(), "{left}");
    assert_eq!(one(proxy.direct(), "select count(*) from kept where email like 'ann%'"), "300");
}
