//! Limits to the row, as a client sees them: in every protocol, in and out of transactions, in pieces; and what PostgreSQL
//! keeps of a statement that went over one.

use crate::postgres;
use crate::proxy::Proxy;
use crate::raw::Raw;

/// alice may see three masked rows a statement and write blindly; ada may only compare.
const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[roles]
app = ["shop"]
support = ["alice"]
matching = ["ada"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "support-desk"
roles = ["support"]
labels = ["pii.*"]
allow = ["read", "write"]
show = "mask:partial"
write_blind = true
rows_per_statement = 3
[[rule]]
name = "matching"
roles = ["matching"]
labels = ["pii.*"]
allow = ["compare"]
show = "null"
"#;

const TAGS: &str = "[columns]\n\"public.customers.email\" = \"email\"\n\"public.pairs.one\" = \"email\"\n\"public.pairs.other\" = \"email\"\n";

const SPENT: &str = "53400 row limit of rule \"support-desk\" is spent";

/// Ten customers, the last without an address, and an untagged table.
fn ten() -> Proxy {
    ten_under(POLICY)
}

fn ten_under(policy: &str) -> Proxy {
    let proxy = Proxy::start(policy, TAGS);
    proxy.add_user("ada");
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text unique)",
        "create table visits (id int)",
        "insert into customers select n from generate_series(1, 10) n",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    for id in 1..10 {
        let sql = format!("update customers set email = 'person{id}@example.com' where id = {id}");
        assert_eq!(shop.query(&sql).errors, [""; 0]);
    }
    proxy
}

fn count(proxy: &Proxy, table: &str) -> String {
    postgres::query(proxy.direct(), &format!("select count(*) from {table}"))[0][0].clone().unwrap()
}

#[test]
fn rows_are_counted_to_the_row() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let sql = "select id, email from customers order by id";
    let simple = alice.query(sql);
    assert_eq!(
        (simple.rows.len(), simple.errors.as_slice(), simple.status),
        (3, &[SPENT.to_owned()][..], 'I')
    );
    assert_eq!(simple.order, "TDDDEZ");
    for format in [0, 1] {
        let reply = alice.extended(sql, &[], [format, format]);
        assert_eq!(
            (reply.rows.len(), reply.errors.as_slice(), reply.status),
            (3, &[SPENT.to_owned()][..], 'I')
        );
        assert_eq!(reply.order, "12TDDDEZ");
    }
    let whole = alice.query("select id, email from customers order by id limit 3");
    assert_eq!((whole.rows.len(), whole.order.as_str()), (3, "TDDDCZ"));
    let shown = String::from_utf8(whole.rows[0][1].clone().unwrap()).unwrap();
    assert!(!shown.contains("person1") && shown.starts_with('p'), "{shown}");
    // What shows no cell is not counted: other columns, and rows where there is nothing to show.
    assert_eq!(alice.query("select id from customers").rows.len(), 10);
    let seven_to_ten = alice.query("select email from customers where id > 6 order by id");
    assert_eq!((seven_to_ten.rows.len(), seven_to_ten.order.as_str()), (4, "TDDDDCZ"));
    assert_eq!(Raw::log_in(&proxy.url("shop")).query(sql).rows.len(), 10);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_refusals_total{reason=\"limit\"} 3"), "{metrics}");
    // Three replies that stopped after three rows, one of three, and of two more the NULL in the tenth row counts for nothing.
    assert!(metrics.contains("pgveil_rows_released_total{label=\"pii.email\"} 24\n"), "{metrics}");
    // What was worked, and how long: every statement that ended, and every batch of cells.
    let count = |name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("a count")
    };
    assert!(count("pgveil_statement_overhead_seconds_count") >= 8, "{metrics}");
    assert!(count("pgveil_cell_seconds_count{operation=\"open\"}") >= 6, "{metrics}");
    assert!(count("pgveil_cell_seconds_count{operation=\"seal\"}") >= 1, "{metrics}");
}

/// What a document or an array is made of counts, not the one row that it comes in.
#[test]
fn rows_inside_of_a_document_are_rows() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for format in [0, 1] {
        for all in ["json_agg(c)", "jsonb_agg(to_jsonb(c))", "array_agg(email)", "json_object_agg(id, email)"]
        {
            let reply = alice.extended(&format!("select {all} from customers c"), &[], [format, format]);
            assert_eq!((reply.rows.len(), reply.errors.as_slice()), (0, &[SPENT.to_owned()][..]), "{all}");
            let few = format!("select {all} from customers c where id < 4");
            let reply = alice.extended(&few, &[], [format, format]);
            let shown = String::from_utf8_lossy(reply.rows[0][0].as_ref().unwrap()).into_owned();
            assert!(reply.errors.is_empty() && !shown.contains("person") && shown.contains("***"), "{shown}");
        }
    }
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_rows_released_total{label=\"pii.email\"} 24\n"), "{metrics}");
}

/// What a table joined with itself, or columns side by side, show of many rows counts, not the one row that it comes in.
#[test]
fn rows_side_by_side_are_rows() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let joined = |count: usize| {
        let each = |text: &str, between: &str| {
            let one = |n: usize| text.replace("{}", &n.to_string());
            (1..=count).map(one).collect::<Vec<_>>().join(between)
        };
        let from = format!("customers c{}", each("{}", ", customers c"));
        (each("c{}.email", ", "), format!("{from} where {}", each("c{}.id = {}", " and ")))
    };
    let (few, few_from) = joined(3);
    let (four, four_from) = joined(4);
    for format in [0, 1] {
        for (few, four) in [
            (few.clone(), four.clone()),
            (format!("row({few})"), format!("row({four})")),
            (format!("array[{few}]"), format!("array[{four}]")),
            (format!("jsonb_build_array({few})"), format!("jsonb_build_array({four})")),
            (format!("c1.email, json_build_array({few})"), format!("c1.email, json_build_array({four})")),
        ] {
            let reply = alice.extended(&format!("select {few} from {few_from}"), &[], [format, format]);
            assert_eq!((reply.rows.len(), reply.errors.len()), (1, 0), "{few}: {:?}", reply.errors);
            let reply = alice.extended(&format!("select {four} from {four_from}"), &[], [format, format]);
            assert_eq!((reply.rows.len(), reply.errors.as_slice()), (0, &[SPENT.to_owned()][..]), "{four}");
        }
    }
    let copied = alice.query(&format!("copy (select {four} from {four_from}) to stdout"));
    assert_eq!(copied.errors, [SPENT], "{copied:?}");
    // Columns that were tagged are one person's, as a first name and a last name are.
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table pairs (id int, one text, other text)",
        "insert into pairs values (1, 'a@x', 'b@x'), (2, 'c@x', 'd@x'), (3, 'e@x', 'f@x'), (4, 'g@x', 'h@x')",
        "grant all on pairs to public",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    for pairs in ["one, other", "pairs", "to_jsonb(pairs), other"] {
        let reply = alice.query(&format!("select {pairs} from pairs order by id"));
        assert_eq!((reply.rows.len(), reply.errors.as_slice()), (3, &[SPENT.to_owned()][..]), "{pairs}");
    }
    // The same cell beside itself is one.
    let twice = "select email, c.email as again, to_jsonb(c) from customers c where id < 4";
    assert_eq!(alice.query(twice).rows.len(), 3);
}

#[test]
fn a_transaction_that_went_over_is_rolled_back() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for over in ["select email from customers order by id", "select email from customers where id < 9"] {
        alice.query("begin");
        assert_eq!(alice.query("insert into visits values (1)").errors, [""; 0]);
        let reply = alice.query(over);
        assert_eq!(
            (reply.rows.len(), reply.errors.as_slice(), reply.status),
            (3, &[SPENT.to_owned()][..], 'E')
        );
        let after = alice.query("select 1");
        assert!(after.errors[0].starts_with("25P02 "), "{after:?}");
        assert_eq!(alice.query("commit").status, 'I');
        assert_eq!(count(&proxy, "visits"), "0");
    }
    // With Sync and COMMIT already on their way behind it.
    alice.query("begin");
    alice.parse("", "insert into visits values (1)", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.parse("", "select email from customers order by id", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.parse("", "commit", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.sync();
    let reply = alice.reply();
    assert_eq!((reply.rows.len(), reply.errors.as_slice(), reply.status), (3, &[SPENT.to_owned()][..], 'E'));
    alice.query("rollback");
    // An implicit transaction: all statements up to one Sync, or of one simple query.
    alice.parse("", "insert into visits values (2)", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.parse("", "select email from customers", &[]);
    alice.bind("", "", &[], [0, 0]);
    alice.execute("", 0);
    alice.sync();
    assert_eq!(alice.reply().errors, [SPENT]);
    let reply = alice.query("insert into visits values (3); select email from customers order by id; insert into visits values (4)");
    assert_eq!((reply.rows.len(), reply.errors.as_slice(), reply.status), (3, &[SPENT.to_owned()][..], 'I'));
    assert_eq!(count(&proxy, "visits"), "0");
}

#[test]
fn a_portal_is_counted_over_its_pieces() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    alice.query("begin");
    alice.parse("", "select email from customers order by id", &[]);
    alice.bind("pieces", "", &[], [0, 1]);
    alice.execute("pieces", 2);
    alice.sync();
    let first = alice.reply();
    assert_eq!((first.rows.len(), first.order.as_str(), first.status), (2, "12DDsZ", 'T'));
    alice.execute("pieces", 2);
    alice.sync();
    let second = alice.reply();
    assert_eq!(
        (second.rows.len(), second.errors.as_slice(), second.status),
        (1, &[SPENT.to_owned()][..], 'E')
    );
    alice.query("rollback");
    // Three rows and no more asked for is no breach, though there are more.
    alice.query("begin");
    alice.parse("", "select email from customers order by id", &[]);
    alice.bind("pieces", "", &[], [0, 0]);
    for _ in 0..3 {
        alice.execute("pieces", 1);
    }
    alice.sync();
    let third = alice.reply();
    assert_eq!((third.order.as_str(), third.status), ("12DsDsDsZ", 'T'));
    alice.close(b'P', "pieces");
    alice.sync();
    assert_eq!(alice.reply().order, "3Z");
    assert_eq!(alice.query("commit").order, "CZ");
}

#[test]
fn writes_that_return_too_much_did_not_happen() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    let values = |from: i32| {
        let rows: Vec<String> = (from..from + 4).map(|id| format!("({id}, 'new{id}@example.com')")).collect();
        format!("insert into customers (id, email) values {}", rows.join(", "))
    };
    let returning = values(20) + " returning email";
    let simple = alice.query(&returning);
    assert_eq!(
        (simple.rows.len(), simple.errors.as_slice(), simple.status),
        (3, &[SPENT.to_owned()][..], 'I')
    );
    let extended = alice.extended(&returning, &[], [0, 0]);
    assert_eq!((extended.errors.as_slice(), extended.status), (&[SPENT.to_owned()][..], 'I'));
    assert_eq!(count(&proxy, "customers"), "10");
    assert_eq!(alice.query(&(values(20) + " returning id")).rows.len(), 4);
    assert_eq!(count(&proxy, "customers"), "14");
    let reply = alice.query("update customers set email = null returning email");
    assert_eq!(reply.rows.len(), 14, "{:?}", reply.errors);
}

#[test]
fn an_oracle_answers_twenty_questions_a_statement() {
    let proxy = ten();
    let mut ada = Raw::log_in(&proxy.url("ada"));
    let list = |n: usize| (0..n).map(|n| format!("'person{n}@example.com'")).collect::<Vec<_>>().join(", ");
    let twenty = ada.query(&format!("select id from customers where email in ({}) order by id", list(20)));
    assert_eq!((twenty.rows.len(), twenty.errors.len()), (9, 0), "{:?}", twenty.errors);
    let more = ada.query(&format!("select id from customers where email in ({})", list(21)));
    assert_eq!(more.errors, ["53400 comparison limit of rule \"matching\" is spent"]);
    let array = |n: usize| format!("{{{}}}", list(n).replace('\'', "")).into_bytes();
    let any = "select id from customers where email = any($1)";
    assert_eq!(ada.extended(any, &[Some(&array(20))], [0, 0]).rows.len(), 9);
    let reply = ada.extended(any, &[Some(&array(21))], [0, 0]);
    assert_eq!(reply.errors, ["53400 comparison limit of rule \"matching\" is spent"]);
    let read = ada.query("select email from customers");
    assert!(read.errors[0].starts_with("42501 permission denied for column email"), "{:?}", read.errors);
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_comparisons_total{label=\"pii.email\"} 40"), "{metrics}");
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    assert!(shown.contains("\"comparisons\":20"), "{shown}");
}

#[test]
fn an_hours_rows_are_shared_by_all_connections() {
    let proxy = ten_under(&POLICY.replace("rows_per_statement = 3", "rows_per_hour = 12"));
    let sql = "select id, email from customers order by id";
    // Nine of the ten rows show a cell.
    let first = Raw::log_in(&proxy.url("alice")).query(sql);
    assert_eq!((first.rows.len(), first.errors.as_slice()), (10, &[][..]));
    let second = Raw::log_in(&proxy.url("alice")).query(sql);
    let spent = "53400 hourly row limit of rule \"support-desk\" is spent";
    assert_eq!((second.rows.len(), second.errors.as_slice()), (3, &[spent.to_owned()][..]));
    let third = Raw::log_in(&proxy.url("alice")).query("select email from customers where id = 1");
    assert_eq!((third.rows.len(), third.errors.as_slice()), (0, &[spent.to_owned()][..]));
    assert_eq!(Raw::log_in(&proxy.url("shop")).query(sql).rows.len(), 10, "other rules are not touched");
}

/// What a cursor gives is one statement's, in however many pieces it is fetched.
#[test]
fn a_cursor_is_counted_over_its_fetches() {
    let proxy = ten();
    let mut alice = Raw::log_in(&proxy.url("alice"));
    for fetch in ["fetch 2 from c", "fetch forward 2 in c"] {
        alice.query("begin");
        alice.query("declare c cursor for select email from customers order by id");
        assert_eq!(alice.query("fetch 2 from c").rows.len(), 2);
        let second = alice.query(fetch);
        assert_eq!((second.rows.len(), second.errors), (1, vec![SPENT.to_owned()]));
        alice.query("rollback");
    }
    // By the extended protocol, and pipelined.
    alice.query("begin");
    alice.query("declare c cursor for select email from customers order by id");
    for _ in 0..2 {
        alice.parse("", "fetch 2 from c", &[]);
        alice.bind("", "", &[], [0, 0]);
        alice.execute("", 0);
    }
    alice.sync();
    let both = alice.reply();
    assert_eq!((both.rows.len(), both.errors), (3, vec![SPENT.to_owned()]));
    alice.query("rollback");
    // Another cursor of the name begins anew, and so does one that shows nothing.
    alice.query("begin");
    alice.query("declare c cursor for select email from customers order by id");
    assert_eq!(alice.query("fetch 3 from c").rows.len(), 3);
    alice.query("close c");
    alice.query("declare c cursor for select email from customers order by id");
    assert_eq!(alice.query("fetch 3 from c").rows.len(), 3);
    alice.query("commit");
}

/// What cannot be counted is not given: values that are gathered into one, and whatever a function of a user's reads.
#[test]
fn columns_in_clear_are_not_gathered_past_their_limit() {
    let policy = "default = \"refuse\"\n[domain.phone]\nlabel = \"pii.phone\"\ntype = \"text\"\nseal = \"none\"\n\
                  [roles]\napp = [\"shop\"]\nfew = [\"alice\"]\n\
                  [[rule]]\nname = \"app\"\nroles = [\"app\"]\nlabels = [\"*\"]\nallow = [\"read\", \"write\"]\nshow = \"clear\"\n\
                  [[rule]]\nname = \"few\"\nroles = [\"few\"]\nlabels = [\"*\"]\nallow = [\"read\"]\nshow = \"clear\"\n\
                  rows_per_statement = 3\n";
    let proxy = Proxy::start(policy, "[columns]\n\"public.customers.phone\" = \"phone\"\n");
    postgres::execute(
        proxy.direct(),
        "create table customers (id int, phone text); insert into customers select n, '+49-' || n from generate_series(1, 10) n; \
         grant all on customers to shop, alice; \
         create view gathered as select string_agg(phone, ',') as all_of_them, max(id) as most from customers; \
         create view again as select all_of_them from gathered; \
         create view listed as select array(select phone from customers) as phones; \
         grant all on gathered, again, listed to shop, alice; \
         create function phones() returns text language sql as 'select string_agg(phone, '','') from customers'",
    );
    let (mut shop, mut alice) = (Raw::log_in(&proxy.url("shop")), Raw::log_in(&proxy.url("alice")));
    assert_eq!(alice.query("select phone from customers").rows.len(), 3);
    assert_eq!(alice.query("select max(phone), count(phone) from customers").rows.len(), 1);
    assert_eq!(alice.query("select array_agg(id) from customers").rows.len(), 1);
    for gathered in [
        "select string_agg(phone, ',') from customers",
        "select array_agg(p) from (select phone as p from customers) x",
        "select json_agg(c) from customers c",
        "select array(select phone from customers)",
        "select jsonb_object_agg(id, phone) from customers",
        "select phones()",
        "select all_of_them from gathered",
        "select * from again",
        "select phones from listed",
        "declare c cursor with hold for select string_agg(phone, ',') from customers",
        "prepare p as select string_agg(phone, ',') from customers",
    ] {
        assert_eq!(shop.query(gathered).errors, [""; 0], "{gathered}");
        for reply in [alice.query(gathered), alice.extended(gathered, &[], [0, 0])] {
            assert!(reply.errors[0].starts_with("0A000 "), "{gathered}: {:?}", reply.errors);
        }
    }
    // By label in the metrics, too: three rows were shown of ten, and of one that computes with it.
    let (_, metrics) = proxy.get("/metrics").unwrap();
    assert!(metrics.contains("pgveil_rows_released_total{label=\"pii.phone\"}"), "{metrics}");
}
