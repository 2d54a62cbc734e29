//! What tools ask the catalogs about tables with sealed columns: they are told what they would be told of plain ones.

use crate::postgres;
use crate::proxy::{POLICY, Proxy};

const TAGS: &str = r#"
[columns]
"public.customers.email" = { domain = "email", type = "varchar(120)" }
"public.customers.mail" = "email"
"public.customers.card" = "card"
"public.customers.joined" = "joined"
"#;

const TABLES: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(120) UNIQUE NOT NULL, mail text, card text, \
     joined date, note text DEFAULT 'none', total numeric(12,2));
     CREATE INDEX by_mail ON customers (mail);
     CREATE VIEW contacts AS SELECT id, email AS address, card FROM customers;";

/// Statements as the named tools send them, by their sources.
const ASKED: &[(&str, &str)] = &[
    ("psql", "\\d customers"),
    ("psql with storage", "\\d+ customers"),
    ("psql of a view", "\\d contacts"),
    ("psql of an index", "\\d by_mail"),
    (
        "information_schema",
        "SELECT * FROM information_schema.columns WHERE table_name IN ('customers', 'contacts') \
         ORDER BY table_name, ordinal_position;",
    ),
    (
        "JPA",
        "SELECT column_name, data_type, udt_name, character_maximum_length, is_nullable, column_default \
         FROM information_schema.columns AS columns WHERE columns.table_schema = 'public' ORDER BY table_name, 1;",
    ),
    (
        "Rails",
        "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, \
         a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, \
         attidentity AS identity, attgenerated AS attgenerated FROM pg_attribute a \
         LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
         LEFT JOIN pg_type t ON a.atttypid = t.oid \
         LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation \
         WHERE a.attrelid = '\"customers\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;",
    ),
    (
        "Django",
        "SELECT a.attname AS column_name, NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable, \
         pg_get_expr(ad.adbin, ad.adrelid) AS column_default, CASE WHEN collname = 'default' THEN NULL ELSE collname END \
         AS collation, a.attidentity != '' AS is_autofield, col_description(a.attrelid, a.attnum) AS column_comment \
         FROM pg_attribute a LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum \
         LEFT JOIN pg_collation co ON a.attcollation = co.oid JOIN pg_type t ON a.atttypid = t.oid \
         JOIN pg_class c ON a.attrelid = c.oid JOIN pg_namespace n ON c.relnamespace = n.oid \
         WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND c.relname = 'customers' \
         AND n.nspname NOT IN ('pg_catalog', 'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY attnum;",
    ),
    (
        "everything of an attribute",
        "SELECT c.relname, a.* FROM pg_catalog.pg_attribute AS a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relname IN ('customers', 'contacts') AND attnum > 0 ORDER BY c.relname, attnum;",
    ),
];

#[test]
fn tools_are_told_the_logical_types() {
    let proxy = Proxy::start(POLICY, TAGS);
    let plain = postgres::database("plain");
    let url = proxy.url("shop");
    for url in [plain.as_str(), url.as_str()] {
        let (_, error, _) = postgres::psql_with(url, &["--quiet"], TABLES);
        assert_eq!(error, "");
    }
    // OIDs and the database's name differ between two databases.
    let names =
        [postgres::database_name(&plain).to_owned(), postgres::database_name(proxy.direct()).to_owned()];
    let told = |url: &str, asked: &str| {
        let (out, error, _) = postgres::psql_with(url, &["--expanded", "--no-align"], asked);
        let mut lines = vec![];
        for line in out.lines().filter(|line| !line.starts_with("attrelid|")) {
            lines.push(names.iter().fold(line.to_owned(), |line, name| line.replace(name, "DATABASE")));
        }
        (lines, error)
    };
    for (tool, asked) in ASKED {
        let expected = told(&plain, asked);
        assert_eq!(expected.1, "", "{tool}");
        assert!(expected.0.len() > 3, "{tool}: {expected:?}");
        let seen = told(&url, asked);
        assert_eq!(seen, expected, "{tool}");
    }
    let (raw, _, _) = postgres::psql(proxy.direct(), "\\d customers");
    assert!(raw.contains("pgveil.email_1"), "and in the database they are sealed: {raw}");
}
