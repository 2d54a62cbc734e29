//! Statements of applications over sealed columns, on a real server: their results are those of a plain table.

use crate::postgres;
use crate::proxy::{POLICY, Proxy, TAGS};
use crate::raw::Raw;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

const TABLES: &str = "CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE, card text);
     CREATE TABLE proposed (id int, mail text);";

/// What psql prints of `script` through the proxy; on a plain database it prints the same.
fn alike(script: &str) {
    let proxy = Proxy::start(POLICY, TAGS);
    let plain = postgres::database("statements");
    let print = |url: &str| {
        let script = format!("{TABLES}\n{script}");
        let (out, error, _) = postgres::psql_with(url, &["--tuples-only", "--no-align"], &script);
        (out, error)
    };
    let expected = print(&plain);
    assert_eq!(expected.1, "", "the script itself");
    assert_eq!(print(&proxy.url("shop")), expected);
    let (raw, _, _) =
        postgres::psql(proxy.direct(), "SELECT count(*) FROM customers WHERE email::bytea IS NOT NULL");
    assert_ne!(raw.trim(), "0", "and what it prints was sealed");
}

#[test]
fn merge_updates_inserts_and_deletes() {
    if postgres::major() < 15 {
        let proxy = Proxy::start(POLICY, TAGS);
        postgres::psql_with(&proxy.url("shop"), &[], TABLES);
        let merge = "MERGE INTO customers c USING proposed p ON c.id = p.id WHEN MATCHED THEN DELETE";
        let (_, error, _) = postgres::psql(&proxy.url("shop"), merge);
        assert!(error.contains("syntax error"), "{error}");
        return;
    }
    alike(
        "INSERT INTO customers VALUES (1, 'ana@x.org', '41'), (2, 'bob@x.org', '42'), (3, NULL, '43');
         INSERT INTO proposed VALUES (1, 'new'), (2, 'gone'), (4, 'made');
         MERGE INTO customers c USING proposed p ON c.id = p.id
           WHEN MATCHED AND p.mail = 'gone' THEN DELETE
           WHEN MATCHED THEN UPDATE SET email = 'ana@new.org', card = NULL
           WHEN NOT MATCHED THEN INSERT VALUES (p.id, 'made@x.org', '44');
         SELECT * FROM customers ORDER BY id;
         MERGE INTO customers c USING (VALUES ('made@x.org', '50'), ('eve@x.org', '51')) AS s (email, card)
           ON c.email = s.email
           WHEN MATCHED THEN UPDATE SET card = s.card
           WHEN NOT MATCHED THEN INSERT VALUES (9, s.email, s.card);
         SELECT * FROM customers ORDER BY id;",
    );
}

#[test]
fn many_rows_are_written_from_a_list() {
    alike(
        "INSERT INTO customers VALUES (1, 'ana@x.org', '41'), (2, 'bob@x.org', '42'), (3, NULL, '43');
         UPDATE customers SET email = v.email, card = v.card
           FROM (VALUES (1, 'a@y.org', NULL), (3, 'c@y.org', '99')) AS v (id, email, card) WHERE customers.id = v.id;
         SELECT * FROM customers ORDER BY id;
         WITH v (id, email) AS (VALUES (4, 'd@y.org'), (5, 'a@y.org'))
           INSERT INTO customers (id, email) SELECT id, email FROM v
           WHERE NOT EXISTS (SELECT 1 FROM customers c WHERE c.email = v.email) RETURNING id, email;
         SELECT v.x FROM (VALUES ('a@y.org'), ('nobody@y.org')) AS v (x)
           LEFT JOIN customers c ON c.email = v.x WHERE c.id IS NULL;
         SELECT id FROM customers WHERE (email, id) IN (SELECT 'c@y.org', 3) AND 'd@y.org' IN (SELECT email FROM customers);
         SELECT 'none' UNION ALL SELECT email FROM customers WHERE id = 4;",
    );
}

#[test]
fn binary_cursors_give_binary_rows() {
    let proxy = Proxy::start(POLICY, TAGS);
    let plain = postgres::database("binary");
    let answers = |url: &str| {
        let mut raw = Raw::log_in(url);
        assert_eq!(raw.query(TABLES).errors, [""; 0]);
        assert_eq!(
            raw.query("insert into customers values (1, 'ana@x.org', '41'), (2, 'b', null)").errors,
            [""; 0]
        );
        let texts = [
            "begin",
            "declare c binary scroll cursor for select id, email, card, array[email], row(id, card), to_json(email) from customers order by id",
            "fetch 1 from c",
            "fetch next from c; select email from customers where id = 1",
            "update customers set email = 'c' where id = 2; fetch prior from c; insert into proposed values (1, 'x')",
            "fetch all c",
            "close c; declare c cursor for select email from customers where id = 1; fetch c; rollback",
        ];
        texts.map(|text| raw.query(text))
    };
    let (sealed, plain) = (answers(&proxy.url("shop")), answers(&plain));
    for (sealed, plain) in sealed.iter().zip(&plain) {
        assert_eq!((&sealed.rows, &sealed.types, &sealed.errors), (&plain.rows, &plain.types, &plain.errors));
    }
    assert_eq!(sealed[2].rows[0][0].as_deref(), Some(&[0, 0, 0, 1][..]));
}

#[test]
fn elements_and_fields_are_assigned_beside_cells() {
    alike(
        "CREATE TYPE place AS (street text, zip int);
         ALTER TABLE customers ADD tags text[], ADD home place, ADD homes place[];
         INSERT INTO customers (id, email, tags[1], tags[2], home.street, homes[1].zip) VALUES (1, 'ana@x.org', 'a', 'b', 's', 7);
         UPDATE customers SET tags[2] = 'c', home.zip = 5, email = 'new@x.org', homes[1].street = 't' WHERE tags[1] = 'a';
         UPDATE customers SET (email, tags[3:4], home.street) = ('newer@x.org', '{d,e}', 'u'), card = '41' WHERE id = 1
           RETURNING tags[2:3], (home).zip, email;
         INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET tags[1] = 'z', email = EXCLUDED.email;
         SELECT * FROM customers;",
    );
}

#[test]
fn views_keep_constants_sealed() {
    alike(
        "INSERT INTO customers VALUES (1, 'ana@x.org', '41'), (2, 'bob@x.org', NULL), (3, NULL, '43');
         INSERT INTO proposed VALUES (1, 'ana@x.org');
         CREATE VIEW anas AS SELECT id, email, card FROM customers WHERE email = 'ana@x.org' AND email <> 'eve@x.org';
         SELECT * FROM anas;
         CREATE VIEW chosen AS SELECT c.id, c.email FROM customers c WHERE c.email IN ('ana@x.org', 'bob@x.org')
           AND c.email = ANY ('{ana@x.org,NULL}') OR c.email IS NOT DISTINCT FROM NULL AND (c.id, c.email) <> (9, 'x');
         SELECT * FROM chosen ORDER BY id;
         CREATE VIEW shown AS SELECT id, coalesce(email, 'none') AS email, CASE WHEN id = 2 THEN card ELSE 'other' END AS card,
           nullif(email, 'bob@x.org') AS not_bob, CASE email WHEN 'ana@x.org' THEN 1 END AS is_ana FROM customers;
         SELECT * FROM shown ORDER BY id;
         SELECT s.id FROM shown s JOIN anas a ON a.email = s.email WHERE s.email = 'ana@x.org';
         CREATE VIEW pairs AS SELECT a.id, b.email FROM customers a JOIN customers b ON a.email = b.email AND b.email = 'bob@x.org';
         CREATE OR REPLACE VIEW over_views AS SELECT p.email, count(*) FROM pairs p WHERE p.email <> 'nobody' GROUP BY p.email;
         SELECT * FROM over_views;
         UPDATE anas SET card = '99'; SELECT * FROM anas;",
    );
}

#[test]
fn sql_executes_what_the_protocol_prepared() {
    let proxy = Proxy::start(POLICY, TAGS);
    let plain = postgres::database("executes");
    let answers = |url: &str| {
        let mut raw = Raw::log_in(url);
        assert_eq!(raw.query(TABLES).errors, [""; 0]);
        raw.parse("one", "select id, email, card from customers where email = $1 and id = any($2)", &[]);
        raw.parse("W r", "insert into customers values ($1, $2, $2) returning email", &[]);
        raw.parse("none", "with x as (select $1::int as n) select n from x", &[]);
        raw.sync();
        raw.reply();
        let texts = [
            "execute \"W r\"(1, 'ana@x.org'); execute \"W r\"(2, NULL)",
            "execute one('ana@x.org', '{1,2}')",
            "execute ONE('bob@x.org', array[1])",
            "execute one(null, null)",
            "execute one('ana@x.org')",
            "execute none(7)",
            "execute none('x')",
            "explain (costs off) execute none(7)",
            "explain (verbose, format json) execute nobody(1)",
            "deallocate none",
            "execute none(7)",
            "begin; execute \"W r\"(3, 'eve@x.org'); rollback; execute one('eve@x.org', '{3}')",
        ];
        let mut answers: Vec<_> = texts
            .map(|text| {
                let reply = raw.query(text);
                let codes: Vec<String> = reply.errors.iter().map(|error| error[..5].to_owned()).collect();
                (reply.rows, reply.tags, codes)
            })
            .into();
        let reply = raw.extended("execute one('ana@x.org', '{1}')", &[], [0, 0]);
        answers.push((reply.rows, reply.tags, reply.errors));
        // The plan shows ciphertext, or none of the constants; as many lines of it.
        for text in [
            "explain (verbose, format json) execute one(null, null)",
            "explain (costs off) execute one('ana@x.org', null)",
        ] {
            let reply = raw.extended(text, &[], [0, 0]);
            assert_eq!(reply.errors, [""; 0]);
            let shown: Vec<String> = reply
                .rows
                .iter()
                .flatten()
                .flatten()
                .map(|cell| String::from_utf8(cell.clone()).unwrap())
                .collect();
            assert!(url == plain || !shown.concat().contains("ana@x.org"), "{shown:?}");
            answers.push((vec![], reply.tags, vec![]));
        }
        answers
    };
    assert_eq!(answers(&proxy.url("shop")), answers(&plain));
}

#[tokio::test]
async fn arrays_are_parameters_of_many_rows() {
    let proxy = Proxy::start(POLICY, TAGS);
    let (client, connection) = tokio_postgres::connect(&proxy.url("shop"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(TABLES).await.unwrap();
    let statement = client
        .prepare("INSERT INTO customers SELECT * FROM unnest($1::int[], $2::text[], $3::text[]) AS v (id, email, card)")
        .await
        .unwrap();
    assert_eq!(statement.params(), [Type::INT4_ARRAY, Type::TEXT_ARRAY, Type::TEXT_ARRAY]);
    let cards = [Some("41"), None, Some("4, \"3")];
    client
        .execute(&statement, &[&[1, 2, 3].as_slice(), &["a", "b", "c"].as_slice(), &cards.as_slice()])
        .await
        .unwrap();
    let rows = client.query("SELECT email, card FROM customers ORDER BY id", &[]).await.unwrap();
    let read: Vec<(&str, Option<&str>)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(read, [("a", cards[0]), ("b", cards[1]), ("c", cards[2])]);
}

#[test]
fn cells_are_opened_inside_of_json_and_arrays() {
    alike(
        "INSERT INTO customers VALUES (1, 'ana\"x\\y@x.org', '41'), (2, 'bob@x.org', NULL), (3, NULL, '43');
         SELECT row_to_json(c) FROM customers c ORDER BY id;
         SELECT json_agg(c ORDER BY id), jsonb_agg(to_jsonb(c) ORDER BY id) FROM customers c;
         SELECT json_build_object('id', id, 'c', json_build_array(card, NULL, email)) FROM customers ORDER BY id;
         SELECT jsonb_build_object('none', coalesce(jsonb_agg(card), '[]')) FROM customers WHERE id > 99;
         SELECT json_object_agg(id, email ORDER BY id), json_strip_nulls(json_agg(c ORDER BY id)) FROM customers c;
         SELECT array_agg(email ORDER BY id), array_agg(card ORDER BY id) FROM customers;
         SELECT d.all FROM (SELECT json_agg(row_to_json((SELECT x FROM (SELECT c.email AS \"E m\", c.id) AS x)) ORDER BY id)
           AS all FROM customers c) AS d;
         SELECT p.id, l.docs FROM customers p LEFT JOIN LATERAL
           (SELECT json_agg(json_build_object('card', q.card)) AS docs FROM customers q WHERE q.id > p.id AND q.email IS NULL) l
           ON true ORDER BY 1;",
    );
}

#[test]
fn prepared_statements_and_cursors_of_sql_are_understood() {
    alike(
        "INSERT INTO customers VALUES (1, 'ana@x.org', '41'), (2, 'bob@x.org', NULL), (3, NULL, '43');
         PREPARE one (text) AS SELECT id, card FROM customers WHERE email = $1 AND email <> 'nobody';
         EXECUTE one ('ana@x.org');
         EXECUTE one (NULL);
         PREPARE two AS UPDATE customers SET email = $2, card = $2 WHERE id = $1 RETURNING *;
         EXECUTE two (3, 'c@x.org'); EXECUTE one('c@x.org'); DEALLOCATE one;
         PREPARE one AS SELECT email FROM customers WHERE email = ANY($1) ORDER BY id;
         EXECUTE one(ARRAY['ana@x.org', 'c@x.org', NULL]);
         PREPARE none AS SELECT email FROM customers ORDER BY id; EXECUTE none; EXECUTE none('secret', 2);
         DEALLOCATE ALL;
         PREPARE one AS SELECT count(*) FROM proposed; EXECUTE one;
         BEGIN;
         DECLARE c SCROLL CURSOR FOR SELECT id, email, card FROM customers WHERE email <> 'bob@x.org' ORDER BY id;
         FETCH c; FETCH FORWARD 5 FROM c; MOVE BACKWARD ALL IN c; FETCH ABSOLUTE 1 IN c; CLOSE c;
         DECLARE \"C\" CURSOR WITH HOLD FOR SELECT id FROM proposed; COMMIT; FETCH ALL FROM \"C\"; DISCARD ALL;",
    );
}

/// Nothing that EXECUTE is given reaches the server as it is, where it may have been meant for a sealed parameter.
#[test]
fn arguments_for_nothing_known_stay_here() {
    let proxy = Proxy::start(POLICY, TAGS);
    let url = proxy.url("shop");
    let told = |script: &str| postgres::psql_with(&url, &["--tuples-only", "--no-align", "--quiet"], script);
    told(TABLES);
    let (_, error, _) = told(
        "PREPARE p AS SELECT id FROM customers WHERE email LIKE $1;
         EXECUTE p ('secret one');
         PREPARE q AS SELECT id FROM customers WHERE email = $1;
         EXECUTE q ('secret two', 'secret three');
         EXECUTE q (upper('secret four'));
         PREPARE r AS SELECT email FROM customers; EXECUTE r ('secret five');
         EXECUTE q ('fine');",
    );
    assert!(error.contains("prepared statement \"p\" does not exist"), "{error}");
    assert!(error.contains("wrong number of parameters for prepared statement \"q\""), "{error}");
    assert!(
        error.contains("a computed argument of EXECUTE is not supported on sealed column email"),
        "{error}"
    );
    assert!(!proxy.postgres.log().contains("secret"), "none of it is in the server's log");
    // A role without the right learns so when it prepares, and one that loses it when it executes.
    let (_, error, _) = postgres::psql_with(
        &proxy.url("alice"),
        &["--quiet"],
        "PREPARE p AS SELECT card FROM customers; PREPARE q AS SELECT id FROM customers WHERE email = $1; EXECUTE p; EXECUTE q('x');",
    );
    assert!(error.contains("permission denied for column email"), "{error}");
}

#[test]
fn cursors_show_masks_to_those_who_see_masks() {
    let proxy = Proxy::start(POLICY, TAGS);
    let quiet = ["--tuples-only", "--no-align", "--quiet"];
    postgres::psql_with(
        &proxy.url("shop"),
        &quiet,
        &format!(
            "{TABLES} INSERT INTO customers VALUES (1, 'ana@x.org', '41'); GRANT SELECT ON customers TO alice;"
        ),
    );
    let (out, error, _) = postgres::psql_with(
        &proxy.url("alice"),
        &quiet,
        "BEGIN; DECLARE c CURSOR FOR SELECT email, id FROM customers; FETCH c; PREPARE p AS SELECT email FROM customers; EXECUTE p;",
    );
    assert_eq!((out.as_str(), error.as_str()), ("a***g|1\na***g\n", ""));
}

/// A column stored in clear that the desk sees masked, but for a call.
const MASKED: &str = r#"
default = "refuse"
[domain.phone]
label = "pii.phone"
type = "text"
seal = "none"
[roles]
app = ["shop"]
desk = ["alice"]
[[rule]]
name = "app"
roles = ["app"]
labels = ["*"]
allow = ["read", "compare", "write"]
show = "clear"
[[rule]]
name = "call"
roles = ["desk"]
labels = ["pii.phone"]
allow = ["read"]
show = "clear"
purposes = ["call"]
[[rule]]
name = "desk"
roles = ["desk"]
labels = ["pii.phone"]
allow = ["read"]
show = "mask:partial"
"#;

#[test]
fn names_over_masked_columns_hold_while_the_mask_does() {
    let proxy = Proxy::start(MASKED, "[columns]\n\"public.people.phone\" = \"phone\"\n");
    let tables = "CREATE TABLE people (id int PRIMARY KEY, phone text); GRANT SELECT ON people TO alice;
         INSERT INTO people VALUES (1, '+49 30 12'), (2, '+49 30 17');";
    let quiet = ["--tuples-only", "--no-align", "--quiet"];
    postgres::psql_with(&proxy.url("shop"), &quiet, tables);
    let (out, error, _) = postgres::psql_with(
        &proxy.url("alice"),
        &quiet,
        "BEGIN; DECLARE c CURSOR FOR SELECT phone FROM people WHERE phone LIKE '%2' OR id = 2 ORDER BY id; FETCH 1 FROM c;
         PREPARE p AS SELECT phone FROM people WHERE id = $1; EXECUTE p (2);
         COMMIT; BEGIN; DECLARE c CURSOR FOR SELECT phone FROM people;
         SET pgveil.purpose = 'call'; SAVEPOINT s; FETCH c; ROLLBACK TO s; EXECUTE p (2); ROLLBACK;
         EXECUTE p (2); SET pgveil.purpose = 'call';
         DEALLOCATE p; PREPARE p AS SELECT phone FROM people WHERE id = $1; EXECUTE p (2);",
    );
    assert_eq!(out, "+***2\n+***7\n+***7\n+49 30 17\n", "{error}");
    assert_eq!(error.matches("ERROR:  cached plan must not change result type").count(), 2, "{error}");
}

/// PostgreSQL 18 gives RETURNING the row before and after; older servers know no such table.
#[test]
fn rows_before_and_after_are_masked_and_opened() {
    let proxy = Proxy::start(MASKED, "[columns]\n\"public.people.phone\" = \"phone\"\n");
    let quiet = ["--tuples-only", "--no-align", "--quiet"];
    let tables =
        "CREATE TABLE people (id int PRIMARY KEY, phone text); GRANT SELECT, UPDATE ON people TO alice;
         INSERT INTO people VALUES (1, '+49 30 12');";
    postgres::psql_with(&proxy.url("shop"), &quiet, tables);
    let update = "UPDATE people SET id = id + 1 RETURNING old.phone, new.phone, old.id, phone";
    let (out, error, _) = postgres::psql_with(&proxy.url("alice"), &quiet, update);
    if postgres::major() < 18 {
        assert!(
            out.is_empty() && error.contains("missing FROM-clause entry for table \"old\""),
            "{out}{error}"
        );
        return;
    }
    assert_eq!((out.as_str(), error.as_str()), ("+***2|+***2|1|+***2\n", ""));
}
