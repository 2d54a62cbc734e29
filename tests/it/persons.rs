//! Whose cells were shown: records name persons by pseudonyms, `audit who-saw` answers for one, `audit forget` ends that; over a real
//! PostgreSQL, through the proxy, with the log's files as they lie there.

use crate::postgres::{execute, query, try_query};
use crate::proxy::{POLICY, Proxy, TAGS, eventually, password};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The key of the person that this is about: no number that stands anywhere else.
const KEY: &str = "7305518246";

const KEYS: &str = r#"
"public.members.email" = "email"
"public.members.card" = "card"
[table."public.customers"]
record_key = "id"
[table."public.members"]
record_key = "email"
"#;

const ROWS: &str = "create table customers (id bigint, email text, card text, joined date);
    create table members (email text primary key, card text);
    create view people as select email as mail, id as number, card from customers;
    create table orders (id int, customer bigint);
    insert into customers values (7305518246, 'ann@canary.example', '4111111111111111', '2021-02-03'),
        (2, 'bob@canary.example', '4222222222222222', null), (3, null, null, null),
        (null, 'eve@canary.example', null, null);
    insert into members values ('ann@canary.example', '4333333333333333'), ('zoe@canary.example', null);
    insert into orders values (1, 7305518246), (2, 2), (3, 7305518246)";

fn proxy() -> Proxy {
    let proxy = Proxy::start(POLICY, &format!("{TAGS}{KEYS}"));
    for statement in ROWS.split(";\n") {
        execute(&proxy.url("shop"), statement);
    }
    proxy
}

/// The outcomes in the log, when every statement that was begun has one: an outcome may be written after the client has its answer.
fn outcomes(proxy: &Proxy) -> Vec<Value> {
    let records = |event: &str| -> Vec<Value> {
        let shown = proxy.must(&["audit", "show", "--json", "--event", event]);
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut outcomes = vec![];
    eventually("an outcome for each intent", || {
        let begun = records("intent").len();
        outcomes = records("outcome");
        outcomes.len() == begun
    });
    outcomes
}

/// What the log says of the persons that a statement showed: pseudonyms, rows of more, rows of whom is not known. `None`: it does not
/// speak of persons.
fn told(proxy: &Proxy, act: impl FnOnce()) -> Option<(Vec<String>, u64, u64)> {
    let before = outcomes(proxy).len();
    act();
    let mut after = outcomes(proxy);
    assert_eq!(after.len(), before + 1, "the outcome of one statement");
    let last = after.pop().unwrap();
    let persons = last.get("persons")?;
    let seen = persons["seen"].as_array().unwrap();
    let seen = seen.iter().map(|pseudonym| pseudonym.as_str().unwrap().to_owned()).collect();
    Some((seen, persons["more"].as_u64().unwrap(), persons["unknown"].as_u64().unwrap()))
}

fn asked(proxy: &Proxy, user: &str, sql: &str) -> Option<(Vec<String>, u64, u64)> {
    told(proxy, || drop(query(&proxy.url(user), sql)))
}

/// Who saw the person, as (user, rule, disclosures, rows).
fn who_saw(proxy: &Proxy, key: &str) -> Vec<(String, Value, Vec<String>, u64)> {
    let said = proxy.must(&["audit", "who-saw", "public.customers", key, "--json"]);
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let cells = line["cells"].as_array().unwrap().iter();
        let cells = cells.map(|cell| format!("{} {}", cell["label"].as_str().unwrap(), cell["disclosure"]));
        let user = line["user"].as_str().unwrap().to_owned();
        (user, line["rules"].clone(), cells.collect(), line["rows"].as_u64().unwrap())
    };
    said.lines().map(line).collect()
}

/// Whether a text stands in any file below a folder.
fn stands_below(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let bytes = if path.is_dir() { vec![] } else { fs::read(&path).unwrap() };
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

#[test]
fn rows_name_the_persons_whose_keys_come_with_them() {
    let proxy = proxy();
    let ann = asked(&proxy, "shop", &format!("select id, email from customers where id = {KEY}")).unwrap();
    assert_eq!((ann.0.len(), ann.1, ann.2), (1, 0, 0));
    let ann = ann.0[0].clone();
    let all = asked(&proxy, "alice", "select id, email, card from customers").unwrap();
    // Nothing of the third is shown; of the fourth nobody knows who it is.
    assert_eq!((all.0.len(), all.1, all.2), (2, 0, 1));
    assert!(all.0.contains(&ann) && all.0.is_sorted());
    let only = |sql: &str| {
        let (seen, more, unknown) = asked(&proxy, "shop", sql).unwrap_or_else(|| panic!("{sql}"));
        assert_eq!((seen, more, unknown), (vec![ann.clone()], 0, 0), "{sql}");
    };
    for sql in [
        "select p.mail, p.number from people p order by number desc nulls last limit 1",
        "select c.id, o.id, c.card from customers c join orders o on o.customer = c.id where o.id = 3",
        "select x.number, x.e from (select id as number, email as e from customers order by id desc nulls last limit 1) as x",
        "with c as (select email, id from customers) select c.* from c where id > 5",
        "select id, email from customers where id > 5 union all select id, email from customers where id > 9",
        "select distinct id, email from customers where id > 5",
        "update customers set joined = '2022-02-02' where id > 5 returning id, joined",
        "copy (select card, id from customers where id > 5) to stdout",
    ] {
        if sql.starts_with("copy") {
            let out = told(&proxy, || copied(&proxy, sql));
            assert_eq!(out, Some((vec![ann.clone()], 0, 0)), "{sql}");
        } else {
            only(sql);
        }
    }
    // The key is not in the rows, but in a condition.
    for sql in [
        format!("select email from customers where id = {KEY}"),
        format!(
            "select c.card, o.id from orders o, customers c where o.id = 1 and (c.id = '{KEY}') and c.card is not null"
        ),
        format!("select mail from people where {KEY}::bigint = number"),
        format!("with c as (select * from customers where id = {KEY}) select email from c"),
        format!("delete from customers where id = {KEY} and email is null returning card"),
    ] {
        let rows = u64::from(!sql.starts_with("delete"));
        let (seen, more, unknown) = asked(&proxy, "shop", &sql).unwrap();
        assert_eq!((seen.len() as u64, more, unknown), (rows, 0, 0), "{sql}");
        assert!(seen.is_empty() || seen == [ann.clone()], "{sql}");
    }
    let nobody = |sql: &str, rows: u64| {
        assert_eq!(asked(&proxy, "shop", sql), Some((vec![], 0, rows)), "{sql}");
    };
    for (sql, rows) in [
        ("select email from customers", 3),
        ("select email from customers where id = 2 or id = 2", 1),
        ("select email from customers where id = 2.0", 1),
        ("select a.email from customers a, customers b where b.id = 2 and a.id > 5", 1),
        // Keys of other rows, and what is made of a key.
        ("select a.id, b.email from customers a, customers b where a.id > 5 and b.id between 2 and 2", 1),
        (
            "with c as (select * from customers) select a.id, b.email from c a, c b where a.id > 5 and b.id between 2 and 2",
            1,
        ),
        ("select id + 0 as id, email from customers where id > 5", 1),
        ("select max(id), array_agg(email) from customers where id > 5", 1),
        (
            "select o.customer, c.email from customers c join orders o on true where o.id = 1 and c.id between 2 and 2",
            1,
        ),
        ("select id, (select email from customers b where b.id = 2) as e from customers a where id > 5", 1),
        (
            "select id, email from customers where id > 5 union all select 2, email from customers where id = 2",
            2,
        ),
        // From the second row on it is another's.
        (
            "with recursive t as (select id, email, email as next, 1 as n from customers where id = 2 union all
               select t.id, t.next, c.email, n + 1 from t, customers c where c.id > 5 and n < 3)
             select id, email from t where n = 3",
            1,
        ),
        ("select row_to_json(c) from customers c where id > 5", 1),
    ] {
        nobody(sql, rows);
    }
    let both =
        "select c.id, c.email, m.card from customers c, members m where c.id > 5 and m.card is not null";
    assert_eq!(
        asked(&proxy, "shop", both),
        Some((vec![ann.clone()], 0, 1)),
        "one is known, the other is not"
    );
    assert_eq!(
        asked(&proxy, "shop", "update customers set email = null where id = 3"),
        None,
        "no cell was read"
    );
    // A key that is sealed itself, whatever of it is shown.
    let zoe = asked(&proxy, "shop", "select email, card from members where email = 'zoe@canary.example'");
    let masked = asked(&proxy, "alice", "select card, email from members order by card is null desc limit 1");
    assert_eq!(zoe, masked);
    assert_eq!(zoe.map(|(seen, ..)| seen.len()), Some(1));
}

fn copied(proxy: &Proxy, sql: &str) {
    let (url, sql) = (proxy.url("shop"), sql.to_owned());
    let (_, error, code) = crate::postgres::psql(&url, &sql);
    assert_eq!(code, 0, "{error}");
}

#[test]
fn every_way_to_read_finds_the_same_person() {
    let proxy = proxy();
    let ann = asked(&proxy, "shop", "select id, email from customers where id > 5").unwrap();
    assert_eq!(ann.0.len(), 1);
    let rows = "select id, email from customers where id > 5";
    // Binary rows, a cursor, EXECUTE, and COPY in each format.
    let binary = told(&proxy, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&proxy.url("shop"), tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let row = client.query_one(rows, &[]).await.unwrap();
            assert_eq!(row.get::<_, i64>(0).to_string(), KEY);
        });
    });
    assert_eq!(binary.as_ref(), Some(&ann));
    // Parameters, of a type that the server finds out or the client says.
    for (sql, known) in [
        ("select email from customers where id = $1", true),
        ("select card from customers where email is not null and $1::bigint = id", true),
        ("select email from customers where id = $1 and $1 > 5", false),
    ] {
        let told = told(&proxy, || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(&proxy.url("shop"), tokio_postgres::NoTls).await.unwrap();
                tokio::spawn(connection);
                client.query_one(sql, &[&KEY.parse::<i64>().unwrap()]).await.unwrap();
            });
        });
        let expected = if known { ann.clone() } else { (vec![], 0, 1) };
        assert_eq!(told, Some(expected), "{sql}");
    }
    let fetched = format!("begin; declare c cursor for {rows}; fetch all from c; commit");
    let executed = format!("prepare p as {rows}; execute p");
    for sql in [fetched, executed] {
        let mut told = told(&proxy, || {
            let mut raw = crate::raw::Raw::log_in(&proxy.url("shop"));
            for statement in sql.split("; ") {
                assert_eq!(raw.query(statement).errors, [""; 0], "{statement}");
            }
        });
        eventually("the last outcome", || {
            let last = outcomes(&proxy).into_iter().rev().find(|outcome| outcome["rows"] != 0).unwrap();
            let persons = &last["persons"];
            told = Some((
                persons["seen"].as_array().unwrap().iter().map(|p| p.as_str().unwrap().to_owned()).collect(),
                persons["more"].as_u64().unwrap(),
                persons["unknown"].as_u64().unwrap(),
            ));
            told.as_ref() == Some(&ann)
        });
    }
    for options in [
        "",
        "(format csv, header, quote '7')",
        "(format csv, force_quote *)",
        "(format binary)",
        "(delimiter '|')",
    ] {
        let sql = format!("copy ({rows}) to stdout {options}");
        assert_eq!(told(&proxy, || copied(&proxy, &sql)).as_ref(), Some(&ann), "{options}");
    }
    let whole = told(&proxy, || copied(&proxy, "copy customers (email, id) to stdout")).unwrap();
    assert_eq!((whole.0.len(), whole.1, whole.2), (2, 0, 1));
    assert!(whole.0.contains(&ann.0[0]));
    let sealed = asked(&proxy, "shop", "select email, card from members").unwrap();
    for options in ["", "(format csv)", "(format binary)"] {
        let sql = format!("copy members to stdout {options}");
        assert_eq!(told(&proxy, || copied(&proxy, &sql)).as_ref(), Some(&sealed), "{options}");
    }
    assert_eq!(sealed.0.len(), 2);
}

#[test]
fn who_saw_a_person_is_known_until_the_person_is_forgotten() {
    let mut proxy = proxy();
    let log = proxy.dir().join("audit");
    asked(&proxy, "shop", &format!("select id, email, card from customers where id = {KEY}"));
    asked(&proxy, "alice", "select id, email from customers");
    asked(&proxy, "shop", "select id, email from customers where id = 2");
    asked(&proxy, "shop", "select email from customers");
    assert!(try_query(&proxy.url("intern"), "select id, email from customers").is_err());
    let expected = [
        ("shop".to_owned(), serde_json::json!(["application"]), 2, 1),
        ("alice".to_owned(), serde_json::json!(["support-desk"]), 1, 3),
    ];
    let found = who_saw(&proxy, KEY);
    let short: Vec<_> =
        found.iter().cloned().map(|(user, rules, cells, rows)| (user, rules, cells.len(), rows)).collect();
    assert_eq!(short, expected);
    assert_eq!(found[1].2, ["pii.email \"mask:partial\""]);
    // As a table, offline, and with what is not certain.
    let folder = log.display().to_string();
    let (out, err, code) = proxy.run(&["audit", "who-saw", "public.customers", KEY, &folder]);
    assert_eq!(code, 0);
    assert!(out.contains("support-desk") && out.contains("application"), "{out}");
    assert!(
        err.starts_with("statements that read public.customers without naming all whom they showed: 1"),
        "{err}"
    );
    let possible = proxy.must(&["audit", "who-saw", "PUBLIC.Customers", KEY, "--json", "--possible"]);
    assert_eq!(possible.lines().count(), 3);
    // By pseudonym, and by table and key, the same records.
    let shown = proxy.must(&["audit", "show", "--json", "--person", "public.customers", KEY]);
    assert_eq!(shown.lines().count(), 2);
    let first: Value = serde_json::from_str(shown.lines().next().unwrap()).unwrap();
    let pseudonym = first["persons"]["seen"][0].as_str().unwrap().to_owned();
    assert_eq!(proxy.must(&["audit", "show", "--json", "--person", &pseudonym]), shown);
    let named = |key: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/pseudonym.py");
        let mut python = Command::new(crate::python::interpreter());
        python.arg(script).args([
            &folder,
            crate::postgres::database_name(proxy.direct()),
            "public",
            "customers",
            key,
        ]);
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(named(KEY), pseudonym, "another program finds it from the format alone");
    assert_eq!(named("3"), "");
    // A restart keeps the pseudonym.
    proxy.signal("TERM");
    proxy.wait();
    proxy.serve();
    let again = asked(&proxy, "shop", &format!("select id, email from customers where id = {KEY}")).unwrap();
    assert_eq!(again.0, std::slice::from_ref(&pseudonym));
    assert_eq!(who_saw(&proxy, KEY).len(), 3);
    assert_eq!(who_saw(&proxy, "2").len(), 2);

    let before = fs::read(log.join("log.jsonl")).unwrap();
    let said = proxy.must(&["audit", "forget", "public.customers", KEY]);
    assert!(said.starts_with("Forgotten"), "{said}");
    assert!(who_saw(&proxy, KEY).is_empty());
    let (_, err, code) = proxy.run(&["audit", "show", "--person", "public.customers", KEY]);
    assert!(code == 1 && err.contains("the log knows no such person"), "{err}");
    assert_eq!(who_saw(&proxy, "2").len(), 2, "another person is known as before");
    let after = fs::read(log.join("log.jsonl")).unwrap();
    assert!(after.starts_with(&before), "no record changed");
    let forgotten = proxy.must(&["audit", "show", "--json", "--event", "person_forgotten"]);
    assert!(
        forgotten.contains("\"table\":\"public.customers\"") && !forgotten.contains(&pseudonym),
        "{forgotten}"
    );
    assert!(!log.join("persons.forget").exists());
    proxy.must(&["audit", "verify"]);
    // Nothing more to forget; seen again, the person is another one.
    let said = proxy.must(&["audit", "forget", "public.customers", KEY]);
    assert!(said.contains("nothing to forget"), "{said}");
    let new = asked(&proxy, "alice", &format!("select id, email from customers where id = {KEY}")).unwrap();
    assert!(new.0.len() == 1 && new.0[0] != pseudonym);
    assert_eq!(who_saw(&proxy, KEY).len(), 1);
    // Without a running proxy it is done at once.
    proxy.signal("TERM");
    proxy.wait();
    proxy.must(&["audit", "forget", "public.customers", KEY]);
    assert!(who_saw(&proxy, KEY).is_empty());
    proxy.must(&["audit", "verify"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/verify_audit.py");
    let output = Command::new(crate::python::interpreter())
        .arg(script)
        .args([log.join("audit.pub"), log.clone()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    for clear in [KEY, "canary", "4111111111111111", &password("shop")] {
        assert!(!stands_below(&log, clear), "{clear} stands in the log's folder");
    }
    // Nor as the eight bytes that it is.
    let number: i64 = KEY.parse().unwrap();
    for entry in fs::read_dir(&log).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == number.to_be_bytes()));
    }
}

#[test]
fn a_record_names_a_thousand_persons_at_most_and_counts_the_rest() {
    let proxy = proxy();
    execute(
        &proxy.url("shop"),
        "insert into customers (id, joined) select n + 100, null from generate_series(1, 2500) as n",
    );
    // The emails of all, without a cell for each row in the text.
    execute(
        &proxy.url("shop"),
        "update customers set email = 'x@canary.example' where id > 100 and id < 3000",
    );
    let (seen, more, unknown) =
        asked(&proxy, "shop", "select id, email from customers where id < 3000").unwrap();
    assert_eq!((seen.len(), unknown), (1000, 0));
    assert_eq!(more, 1501);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 1000);
    proxy.must(&["audit", "verify"]);
}

const NOTES: &str = r#"
default = "refuse"
[domain.note]
label = "health.note"
type = "text"
seal = "none"
[roles]
app = ["shop"]
support = ["alice"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["*"]
allow = ["read"]
show = "mask:partial"
"#;

#[test]
fn persons_of_columns_stored_in_clear_are_known_too() {
    let tags = "[columns]\n\"public.patients.note\" = \"note\"\n\"public.visits.note\" = \"note\"\n\
                [table.\"public.patients\"]\nrecord_key = \"id\"\n[table.\"public.visits\"]\nrecord_key = \"number\"\n";
    let proxy = Proxy::start(NOTES, tags);
    let shop = proxy.url("shop");
    execute(&shop, "create table patients (id uuid primary key, note text)");
    execute(&shop, "create table visits (id int, note text) partition by range (id)");
    execute(&shop, "create table visits_old partition of visits for values from (0) to (100)");
    let (one, two) = ("0b1f4b5e-0000-4000-8000-000000000001", "0b1f4b5e-0000-4000-8000-000000000002");
    execute(&shop, &format!("insert into patients values ('{one}', 'well'), ('{two}', 'ill')"));
    execute(&shop, "insert into visits values (1, 'long')");
    let ann = asked(&proxy, "shop", &format!("select * from patients where id = '{one}'")).unwrap();
    assert_eq!((ann.0.len(), ann.1, ann.2), (1, 0, 0));
    for (user, sql) in [
        ("alice", format!("select note from patients where id = '{one}'::uuid")),
        ("alice", format!("select id, note from patients where id <> '{two}'")),
        // That the row is there tells of the note.
        ("shop", "select id from patients where note = 'well'".to_owned()),
        ("shop", format!("select count(*) from patients where note like 'w%' and id = '{one}'")),
    ] {
        assert_eq!(asked(&proxy, user, &sql), Some(ann.clone()), "{sql}");
    }
    assert_eq!(
        told(&proxy, || copied(&proxy, "copy (select note, id from patients where note > 'r') to stdout")),
        Some(ann)
    );
    for sql in [
        "select id, upper(note) from patients",
        "select count(*), note from patients where note <> '' group by note",
        "select a.id from patients a, patients b where b.note = 'well'",
    ] {
        let rows = query(&shop, sql).len() as u64;
        assert_eq!(asked(&proxy, "shop", sql), Some((vec![], 0, rows)), "{sql}");
    }
    // What check says of a key that is no column, and what the record says as long as it is none.
    let (_, err, code) = proxy.run(&["check"]);
    assert_eq!(code, 1);
    let said = "nobody can be known by record_key number of table public.visits of database";
    assert!(
        err.contains("tags.toml:7: ") && err.contains(said) && err.contains("there is no such column"),
        "{err}"
    );
    assert!(!err.contains("record_key id"), "{err}");
    let visits = "select id, note from visits_old";
    assert_eq!(asked(&proxy, "shop", visits), Some((vec![], 0, 1)));
    // A partition's rows are its table's.
    fs::write(proxy.dir().join("tags.toml"), tags.replace("\"number\"", "\"id\"")).unwrap();
    proxy.reload("the new configuration holds");
    let visit = asked(&proxy, "shop", visits).unwrap();
    assert_eq!((visit.0.len(), visit.1, visit.2), (1, 0, 0));
    assert_eq!(asked(&proxy, "alice", "select * from visits"), Some(visit));
    let explained = proxy.must(&["explain", "--as", "alice", "select id, note from visits"]);
    assert!(explained.contains("person     of public.visits by column 1, shown by column 2"), "{explained}");
    let explained = proxy.must(&["explain", "--as", "alice", "select note from visits"]);
    assert!(explained.contains("person     not known of all rows"), "{explained}");
}
