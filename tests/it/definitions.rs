//! Definitions through the proxy: a table that a transaction makes is protected in that very transaction, and afterwards.

use crate::postgres;
use crate::proxy::{POLICY, Proxy, TAGS};

fn told(url: &str, script: &str) -> String {
    let (out, error, _) = postgres::psql_with(url, &["--tuples-only", "--no-align", "--quiet"], script);
    assert_eq!(error, "", "{script}");
    out
}

#[test]
fn a_migration_makes_and_fills_a_table_in_one_transaction() {
    let proxy = Proxy::start(POLICY, TAGS);
    let url = proxy.url("shop");
    let out = told(
        &url,
        "BEGIN;
         CREATE TABLE customers (id bigint PRIMARY KEY, email text UNIQUE NOT NULL);
         INSERT INTO customers VALUES (1, 'ana@example.org');
         SAVEPOINT more;
         ALTER TABLE customers ADD COLUMN card text;
         INSERT INTO customers VALUES (2, 'bob@example.org', '4111');
         SELECT * FROM customers ORDER BY id;
         ROLLBACK TO more;
         SELECT * FROM customers;
         CREATE TABLE notes (id bigint, about text);
         SELECT count(*) FROM notes n JOIN customers c ON c.id = n.id WHERE c.email = 'ana@example.org';
         COMMIT;
         SELECT email FROM customers WHERE email = 'ana@example.org';",
    );
    assert_eq!(out, "1|ana@example.org|\n2|bob@example.org|4111\n1|ana@example.org\n0\nana@example.org\n");
    let (raw, error, _) = postgres::psql(proxy.direct(), "SELECT email::bytea FROM customers");
    assert!(raw.starts_with("\\x11"), "sealed from the first row on: {raw}{error}");
}

#[test]
fn what_a_rolled_back_transaction_made_is_forgotten() {
    let proxy = Proxy::start(POLICY, TAGS);
    let url = proxy.url("shop");
    let (out, error, _) = postgres::psql_with(
        &url,
        &["--tuples-only", "--no-align", "--quiet"],
        "BEGIN;
         CREATE TABLE customers (id bigint, email text);
         INSERT INTO customers VALUES (1, 'ana@example.org');
         ROLLBACK;
         SELECT email FROM customers;
         CREATE TABLE customers (id bigint, note text, email text);
         INSERT INTO customers VALUES (1, 'n', 'eve@example.org');
         SELECT * FROM customers;",
    );
    assert!(error.contains("relation \"customers\" does not exist"), "{error}");
    assert_eq!(out, "1|n|eve@example.org\n");
}

#[test]
fn views_of_sealed_columns_are_opened_for_those_who_may() {
    let proxy = Proxy::start(POLICY, TAGS);
    proxy.add_user("ivan");
    let out = told(
        &proxy.url("shop"),
        "CREATE TABLE customers (id bigint PRIMARY KEY, email text, card text);
         INSERT INTO customers VALUES (1, 'ana@example.org', '4111111111111111');
         CREATE VIEW contacts AS SELECT id, email AS mail FROM customers;
         GRANT SELECT ON contacts TO alice, ivan;
         SELECT * FROM contacts WHERE mail = 'ana@example.org';",
    );
    assert_eq!(out, "1|ana@example.org\n");
    assert_eq!(told(&proxy.url("alice"), "SELECT mail FROM contacts"), "a***g\n");
    let (_, error, _) = postgres::psql(&proxy.url("ivan"), "SELECT mail FROM contacts");
    assert!(error.contains("permission denied for column email of table customers"), "{error}");
}

/// The server prints a definition with casts to what a sealed type is over, and a NULL with a type.
#[test]
fn views_whose_columns_are_computed_of_sealed_ones_are_read() {
    let proxy = Proxy::start(POLICY, TAGS);
    proxy.add_user("ivan");
    let out = told(
        &proxy.url("shop"),
        "CREATE TABLE customers (id bigint PRIMARY KEY, email text, card text);
         INSERT INTO customers VALUES (1, 'ana@example.org', '4111'), (6, 'bob@example.org', NULL);
         CREATE VIEW v AS SELECT id, CASE WHEN id > 5 THEN email END AS e, coalesce(email, NULL) AS f,
                                 ARRAY[email, NULL] AS h FROM customers;
         GRANT SELECT ON v TO alice, ivan;
         SELECT * FROM v ORDER BY id;
         SELECT id FROM v WHERE e = 'bob@example.org';
         SELECT f FROM v JOIN customers c ON c.email = v.e;
         CREATE VIEW w AS SELECT coalesce(e, f, 'none') AS x FROM v;
         SELECT x FROM w WHERE x = 'bob@example.org';
         CREATE VIEW u AS SELECT NULLIF(email, 'ana@example.org') AS g FROM customers
                          UNION ALL SELECT NULL UNION ALL VALUES ('eve@example.org');
         SELECT g FROM u WHERE g IS NOT NULL ORDER BY g = 'eve@example.org';",
    );
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute
                 WHERE attrelid = 'v'::regclass AND attnum < 4";
    assert_eq!(told(&proxy.url("shop"), types), "bigint text text\n");
    let expected = "1||ana@example.org|{ana@example.org,NULL}\n\
                    6|bob@example.org|bob@example.org|{bob@example.org,NULL}\n\
                    6\nbob@example.org\nbob@example.org\nbob@example.org\neve@example.org\n";
    assert_eq!(out, expected);
    assert_eq!(told(&proxy.url("alice"), "SELECT e FROM v WHERE id = 6"), "b***g\n");
    for view in ["v", "w"] {
        let (_, error, _) = postgres::psql(&proxy.url("ivan"), &format!("SELECT * FROM {view}"));
        assert!(error.contains("permission denied for column email of table customers"), "{error}");
    }
}

/// What is cast to plain bytes is no cell any more; nor may cells be shown as text.
#[test]
fn views_made_past_the_proxy_do_not_turn_cells_into_something_else() {
    let proxy = Proxy::start(POLICY, TAGS);
    told(
        &proxy.url("shop"),
        "CREATE TABLE customers (id bigint PRIMARY KEY, email text, card text);
         INSERT INTO customers VALUES (1, 'ana@example.org', '4111');",
    );
    for (view, of) in [
        ("texts", "email::text"),
        ("bytes", "coalesce(email, '\\x00'::bytea)"),
        ("other", "coalesce(email::bytea, card::bytea)"),
        ("lengths", "length(email::bytea)"),
    ] {
        postgres::execute(proxy.direct(), &format!("CREATE VIEW {view} AS SELECT {of} AS e FROM customers"));
        postgres::execute(proxy.direct(), &format!("GRANT SELECT ON {view} TO shop"));
    }
    // The catalog is looked at each second.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    for view in ["texts", "bytes", "other", "lengths"] {
        let (out, error, _) = postgres::psql(&proxy.url("shop"), &format!("SELECT e FROM {view}"));
        assert!(out.is_empty() && error.contains("ERROR:"), "{view}: {out}{error}");
        assert!(error.contains("not supported") || error.contains("cannot"), "{view}: {error}");
    }
    let (_, error, _) = postgres::psql(
        &proxy.url("shop"),
        "CREATE VIEW hex AS SELECT coalesce(email::bytea, NULL) FROM customers",
    );
    assert!(error.contains("a cast to bytea"), "{error}");
}

/// A child is tagged by its parent's name: without the parent it would be by none.
#[test]
fn a_tagged_child_stays_with_its_parent() {
    let proxy = Proxy::start(POLICY, TAGS);
    let url = proxy.url("shop");
    told(
        &url,
        "CREATE TABLE customers (id int, email text, card text) PARTITION BY LIST (id);
         CREATE TABLE early PARTITION OF customers FOR VALUES IN (1);
         INSERT INTO customers VALUES (1, 'ana@example.org', '4111');",
    );
    assert_eq!(told(&url, "SELECT email FROM early"), "ana@example.org\n");
    for leave in ["ALTER TABLE customers DETACH PARTITION early", "ALTER TABLE early NO INHERIT customers"] {
        let (_, error, _) = postgres::psql_with(&url, &["--quiet"], leave);
        assert!(error.contains("ERROR:  detaching tagged table early is not supported"), "{error}");
        assert!(error.contains("HINT:  Change tags.toml first"), "{error}");
    }
    assert_eq!(told(&url, "SELECT email FROM early"), "ana@example.org\n");
}

/// A copy holds the cells of what it was made from, under the same rules, without a tag of its own.
#[test]
fn copies_of_sealed_columns_are_opened_for_those_who_may() {
    let proxy = Proxy::start(POLICY, TAGS);
    let url = proxy.url("shop");
    proxy.add_user("ivan");
    let out = told(
        &url,
        "CREATE TABLE customers (id bigint, email text, card text);
         INSERT INTO customers VALUES (1, 'ana@example.org', '4111'), (2, 'bob@example.org', NULL);
         CREATE TEMP TABLE pairs AS SELECT id, email FROM customers;
         SELECT email FROM pairs WHERE email = 'bob@example.org';
         SELECT p.id, c.card FROM pairs p JOIN customers c USING (email) ORDER BY 1;
         SELECT email AS mail, card, id INTO TEMPORARY TABLE more FROM customers WHERE card IS NOT NULL;
         INSERT INTO more VALUES ('eve@example.org', '4222', 3);
         SELECT * FROM more ORDER BY id;
         BEGIN;
         CREATE TABLE copied AS SELECT * FROM customers;
         UPDATE copied SET email = 'new@example.org' WHERE id = 1;
         SELECT * FROM copied ORDER BY id;
         COMMIT;
         CREATE TABLE empty (LIKE customers);
         INSERT INTO empty SELECT * FROM copied WHERE email = 'new@example.org';
         SELECT email FROM empty;
         GRANT SELECT ON copied TO ivan;",
    );
    let expected = "bob@example.org\n1|4111\n2|\nana@example.org|4111|1\neve@example.org|4222|3\n\
                    1|new@example.org|4111\n2|bob@example.org|\nnew@example.org\n";
    assert_eq!(out, expected);
    for table in ["copied", "empty"] {
        let (raw, _, _) = postgres::psql(proxy.direct(), &format!("SELECT email::bytea FROM {table}"));
        assert!(raw.lines().all(|line| line.starts_with("\\x11")), "{raw}");
    }
    let (out, error, _) = postgres::psql(&proxy.url("ivan"), "SELECT email FROM copied");
    assert!(
        out.is_empty() && error.contains("permission denied for column email of table copied"),
        "{error}"
    );
}
