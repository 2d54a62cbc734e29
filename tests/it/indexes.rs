//! Indexes: who reads a guarded column in clear, and who compares a sealed one, has them as without pgveil; a mask has none.

use crate::postgres;
use crate::proxy::Proxy;

const POLICY: &str = r#"
default = "refuse"
[domain.email]
label = "pii.email"
type = "text"
seal = "deterministic"
[domain.phone]
label = "pii.phone"
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
labels = ["pii.phone"]
allow = ["read"]
show = "mask:partial"
"#;

const TAGS: &str = r#"
[columns]
"public.people.email" = "email"
"public.people.phone" = "phone"
"#;

/// What EXPLAIN says: the line of the scan, and its highest cost.
fn explain(url: &str, sql: &str) -> (String, f64) {
    let rows = postgres::query(url, &format!("explain {sql}"));
    let lines: Vec<String> = rows.into_iter().flatten().flatten().collect();
    let scan = lines.iter().find(|line| line.contains("Scan")).unwrap_or_else(|| panic!("{sql}: {lines:?}"));
    let cost = scan.split_once("..").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    (scan.trim_start().trim_start_matches("-> ").trim_start().to_owned(), cost.expect("a cost"))
}

#[test]
fn an_index_serves_who_reads_in_clear() {
    let proxy = Proxy::start(POLICY, TAGS);
    let shop = proxy.url("shop");
    for sql in [
        "create table people (id int primary key, email text unique, phone text, note text not null default '')",
        "insert into people (id, phone, note) select n, '+49 ' || n, repeat('x', 100) from generate_series(1, 20000) n",
        "create index people_phone on people (phone)",
        "create index people_phone_like on people (phone text_pattern_ops)",
        "create index people_prefix on people (lower(phone)) where phone is not null",
    ] {
        postgres::execute(&shop, sql);
    }
    for number in 0..80 {
        let values: Vec<String> = (1..=25)
            .map(|n| format!("({}, 'p{}@x.org')", 30_000 + number * 25 + n, number * 25 + n))
            .collect();
        postgres::execute(&shop, &format!("insert into people (id, email) values {}", values.join(", ")));
    }
    postgres::execute(&shop, "analyze people");
    let alice = proxy.url("alice");
    for sql in [
        "select id, phone from people where phone = '+49 77'",
        "select id from people where phone in ('+49 77', '+49 78')",
        "select id from people where phone > '+49 9999'",
        "select id, phone from people order by phone limit 3",
        "select id from people where phone like '+49 777%'",
        "select id from people where lower(phone) = '+49 77' and phone is not null",
        "update people set note = 'y' where phone = '+49 77'",
        "select a.id from people a join people b on b.phone = a.phone where a.id = 7",
    ] {
        let (direct, plain_cost) = explain(proxy.direct(), sql);
        let (clear, cost) = explain(&shop, sql);
        assert_eq!(clear, direct, "{sql}");
        assert!(direct.contains("Index") || direct.contains("Bitmap"), "{sql}: {direct}");
        assert!((cost - plain_cost).abs() < f64::EPSILON, "{sql}: {cost}");
        let (masked, _) = explain(&alice, sql);
        println!("{sql}\n  clear  {clear}\n  masked {masked}");
    }
    // By a sealed column: one index, as for text.
    let (sealed, _) = explain(&shop, "select id, email from people where email = 'p77@x.org'");
    assert!(sealed.starts_with("Index Scan using people_email_key on people"), "{sealed}");
    // A mask is an expression: no index, whatever it looks for.
    let by_phone = "select id, phone from people where phone = '+49 77'";
    let ((clear, cheap), (masked, dear)) = (explain(&shop, by_phone), explain(&alice, by_phone));
    assert!(clear.starts_with("Index Scan using people_phone"), "{clear}");
    assert!(masked.starts_with("Seq Scan on people"), "{masked}");
    assert!(dear > 20.0 * cheap, "{dear} against {cheap}");
    // Other columns' indexes are theirs as well.
    let (by_key, _) = explain(&alice, "select phone from people where id = 7");
    assert!(by_key.starts_with("Index Scan using people_pkey"), "{by_key}");
}
