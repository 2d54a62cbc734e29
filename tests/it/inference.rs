//! What errors tell, and to whom; and what is said of columns whose values are soon guessed.

use crate::copy::{message, transcript};
use crate::postgres;
use crate::proxy::{Proxy, eventually};
use crate::raw::Raw;

/// ada may write and compare without reading; bob sees masks.
const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[roles]
app = ["shop"]
matching = ["ada"]
[[rule]]
name = "application"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "matching"
roles = ["matching"]
labels = ["pii.*"]
allow = ["read", "compare", "write"]
show = "mask:partial"
write_blind = true
"#;

const TAGS: &str = "[columns]\n\"public.customers.email\" = \"email\"\n\"public.orders.email\" = \"email\"\n";

fn shop() -> Proxy {
    let proxy = Proxy::start(POLICY, TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (tenant int, email text unique, unique (tenant, email))",
        "create table orders (id int, email text references customers (email))",
        "insert into customers values (1, 'ann@example.com')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    proxy.add_user("ada");
    proxy
}

/// The DETAIL of each error that was read.
fn details(raw: &Raw) -> Vec<String> {
    let fields = raw.told.split(|byte| *byte == 0);
    fields
        .filter_map(|field| field.strip_prefix(b"D"))
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

#[test]
fn a_violated_key_reads_well_for_those_entitled_and_tells_others_nothing() {
    let proxy = shop();
    let statements = [
        "insert into customers values (2, 'ann@example.com')",
        "insert into orders values (1, 'eve@example.com')",
        "delete from customers where tenant = 1",
    ];
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query("insert into orders values (1, 'ann@example.com')").errors, [""; 0]);
    let told = [
        "Key (email)=(ann@example.com) already exists.",
        "Key (email)=(eve@example.com) is not present in table \"customers\".",
        "Key (email)=(ann@example.com) is still referenced from table \"orders\".",
    ];
    for (sql, detail) in statements.iter().zip(told) {
        for way in 0..3 {
            let mut raw = Raw::log_in(&proxy.url("shop"));
            let reply = match way {
                0 => raw.query(sql),
                1 => raw.extended(sql, &[], [0, 0]),
                _ => {
                    raw.query("begin");
                    raw.query(sql)
                }
            };
            assert!(reply.errors[0].starts_with("2350"), "{reply:?}");
            // What is deleted without a tagged column in the statement has no record of its own: it tells nothing.
            let expected: &[&str] = if sql.starts_with("delete") { &[] } else { &[detail] };
            assert_eq!(details(&raw), expected, "{sql}");
        }
    }
    let mut ada = Raw::log_in(&proxy.url("ada"));
    for sql in statements {
        assert!(ada.query(sql).errors[0].starts_with("2350"));
    }
    let told = String::from_utf8_lossy(&ada.told).into_owned();
    assert_eq!(details(&ada), [""; 0], "{told}");
    assert!(!told.contains("ann@") && !told.contains("eve@") && !told.contains("\\x"), "{told}");
    // What was told is in the record, and a guess is counted.
    let violated = "\"cells\":[{\"label\":\"pii.email\",\"disclosure\":\"clear\",\"cells\":1}],\"comparisons\":0,\"sqlstate\":\"23505\"".to_owned();
    let guessed = ["23505", "23503"]
        .map(|sqlstate| format!("\"cells\":[],\"comparisons\":1,\"sqlstate\":\"{sqlstate}\""));
    eventually("the records", || {
        let shown =
            proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
        shown.contains(&violated) && guessed.iter().all(|guessed| shown.contains(guessed))
    });
}

/// Nor which row violated a key: those before it did not.
#[test]
fn errors_of_a_copy_do_not_say_which_row_was_there() {
    let proxy = shop();
    let mut ada = Raw::log_in(&proxy.url("ada"));
    for (columns, data) in [
        ("customers (tenant, email)", "2\tbob@example.com\n3\tann@example.com\n4\teve@example.com\n"),
        ("customers (email)", "bob@example.com\nann@example.com\n"),
        ("orders (id, email)", "1\tann@example.com\n2\teve@example.com\n"),
        ("customers (tenant, email)", "2\tbob@example.com\nx\teve@example.com\n"),
    ] {
        ada.say_query(&format!("copy {columns} from stdin"));
        assert_eq!(ada.read().unwrap().0, 'G');
        ada.send(&[message(b'd', data.as_bytes()), message(b'c', b"")].concat());
        let replies = transcript(&mut ada);
        let (_, error) = replies.iter().find(|(tag, _)| *tag == 'E').expect("an error");
        let told = String::from_utf8_lossy(error).into_owned();
        assert!(told.contains("C2350") || told.contains("C22P02"), "{columns}: {told}");
        assert!(
            !told.contains("example") && !told.contains("line ") && !told.contains("\\x"),
            "{columns}: {told}"
        );
    }
    let kept = postgres::query(proxy.direct(), "select count(*) from customers")[0][0].clone();
    assert_eq!(kept.as_deref(), Some("1"));
}

/// What functions say while a statement runs (triggers, that is: a call is refused) is read by those from whom nothing is hidden.
#[test]
fn what_a_trigger_says_is_not_for_everybody() {
    let policy = POLICY.replace(
        "[roles]",
        "[domain.phone]\nlabel = \"pii.phone\"\ntype = \"text\"\nseal = \"none\"\n[roles]",
    );
    let proxy = Proxy::start(&policy, "[columns]\n\"public.people.phone\" = \"phone\"\n");
    proxy.add_user("ada");
    postgres::execute(
        proxy.direct(),
        "create table people (id int primary key, phone text unique check (phone <> '0'), note text); \
         insert into people values (1, '+49 555 1', ''), (2, '+49 555 2', ''); \
         create function tell() returns trigger language plpgsql as 'begin \
           raise notice ''calls %'', new.phone using detail = new.phone, hint = ''said once''; \
           if new.note = ''fail'' then raise exception ''calls %'', new.phone using detail = new.phone; end if; \
           return new; end'; \
         create trigger tell before update on people for each row execute function tell(); \
         grant all on people to shop, ada, alice; analyze people",
    );
    let statements = [
        "update people set note = 'x' where id = 1",
        "update people set note = 'fail' where id = 1",
        "update people set phone = '+49 555 2' where id = 1",
        "update people set phone = '0' where id = 1",
        "update people set id = 2 where id = 1",
        "insert into people (id, phone) values (3, '+49 555 1')",
        "explain (analyze, verbose, costs off, timing off, summary off) select id from people where phone = '+49 555 1'",
        "explain select id from people where phone = '+49 555 1'",
        "select most_common_vals, histogram_bounds from pg_stats where tablename = 'people'",
        "select phone::int from people",
    ];
    for (user, reads) in [("shop", true), ("ada", false), ("alice", false)] {
        let mut raw = Raw::log_in(&proxy.url(user));
        for sql in statements {
            raw.told.clear();
            let reply = raw.query(sql);
            let told = String::from_utf8_lossy(&raw.told).into_owned();
            let shown: Vec<u8> = reply.rows.into_iter().flatten().flatten().flatten().collect();
            let told = told + &String::from_utf8_lossy(&shown);
            // Their own guess may be read back, in a plan: masked values are compared with it.
            let others = told.replace("= '+49 555 1'", "").replace("\"+49 555 1\"", "");
            assert!(reads || !others.contains("555"), "{user}: {sql}: {told}");
            if sql == statements[0] && user != "alice" {
                let said =
                    if reads { "calls +49 555 1" } else { "notice 00000 in a statement over tagged columns" };
                assert!(told.contains(said) && told.contains("said once"), "{user}: {told}");
            }
        }
    }
}

#[test]
fn check_warns_where_all_values_can_be_tried() {
    let proxy = shop();
    let mut shop = Raw::log_in(&proxy.url("shop"));
    assert_eq!(shop.query("create table plain (id int)").errors, [""; 0]);
    let insert = "insert into orders select n, 'ann@example.com' from generate_series(1, 500) n";
    assert_eq!(shop.query(insert).errors, [""; 0]);
    // The harness gives everybody all, which is a finding of its own.
    postgres::execute(proxy.direct(), "revoke all on customers, orders from public; analyze");
    let (_, stderr, code) = proxy.run(&["check", "--database", proxy.direct()]);
    assert_eq!(code, 0, "{stderr}");
    let warning = "rule \"matching\" lets people compare public.orders.email of database ";
    assert!(stderr.contains(warning) && stderr.contains("which has about 1 different values"), "{stderr}");
    assert!(
        !stderr.contains("rule \"application\"") && !stderr.contains("public.customers.email"),
        "{stderr}"
    );
    // Of a table that the service user may not read it sees no statistics.
    postgres::execute(proxy.direct(), "revoke all on orders from public, pgveil");
    let (_, stderr, code) = proxy.run(&["check"]);
    assert!(code == 0 && !stderr.contains(warning), "{stderr}");
}
