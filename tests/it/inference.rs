//! What errors tell, and to whom; and what is said of columns whose values are soon guessed.

use crate::postgres;
use crate::proxy::Proxy;
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
    let shown = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    let violated = "\"cells\":[{\"label\":\"pii.email\",\"disclosure\":\"clear\",\"cells\":1}],\"comparisons\":0,\"sqlstate\":\"23505\"";
    assert!(shown.contains(violated), "{shown}");
    assert!(shown.contains("\"cells\":[],\"comparisons\":1,\"sqlstate\":\"23505\""), "{shown}");
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
