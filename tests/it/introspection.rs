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

const TABLES: &str = "CREATE TABLE customers (id bigint PRIMARY KEY, email varchar(120) UNIQUE NOT NULL DEFAULT 'it''s', \
     mail text DEFAULT NULL, card text DEFAULT '', joined date DEFAULT '2024-02-29', note text DEFAULT 'none', total numeric(12,2));
     ALTER TABLE customers ALTER COLUMN mail SET DEFAULT 'm'; ALTER TABLE customers ALTER COLUMN mail SET DEFAULT NULL;
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
        "pgjdbc",
        "SELECT * FROM (SELECT n.nspname,c.relname,a.attname,a.atttypid,a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) \
         AS attnotnull,a.atttypmod,a.attlen,t.typtypmod,row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, \
         pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc,dsc.description,t.typbasetype,t.typtype \
         FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) \
         JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) \
         LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum) \
         LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) \
         WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped AND n.nspname LIKE 'public' \
         AND c.relname LIKE 'customers') c WHERE true  AND attname LIKE '%' ORDER BY nspname,c.relname,attnum;",
    ),
    (
        "SQLAlchemy",
        "SELECT pg_catalog.pg_attribute.attname AS name, CASE WHEN pg_catalog.pg_attribute.atthasdef THEN \
         (SELECT pg_catalog.pg_get_expr(pg_catalog.pg_attrdef.adbin, pg_catalog.pg_attrdef.adrelid) AS pg_get_expr_1 \
         FROM pg_catalog.pg_attrdef WHERE pg_catalog.pg_attrdef.adrelid = pg_catalog.pg_attribute.attrelid \
         AND pg_catalog.pg_attrdef.adnum = pg_catalog.pg_attribute.attnum AND pg_catalog.pg_attribute.atthasdef) END AS \"default\" \
         FROM pg_catalog.pg_class LEFT OUTER JOIN pg_catalog.pg_attribute ON pg_catalog.pg_class.oid = \
         pg_catalog.pg_attribute.attrelid AND pg_catalog.pg_attribute.attnum > 0 AND NOT pg_catalog.pg_attribute.attisdropped \
         WHERE pg_catalog.pg_class.relname = 'customers' ORDER BY pg_catalog.pg_attribute.attnum;",
    ),
    (
        "Prisma",
        "SELECT info.column_name, info.data_type, pg_get_expr(attdef.adbin, attdef.adrelid) AS column_default \
         FROM information_schema.columns info JOIN pg_attribute att ON att.attname = info.column_name \
         JOIN pg_class oid ON oid.oid = att.attrelid AND relname = info.table_name \
         LEFT OUTER JOIN pg_attrdef attdef ON attdef.adrelid = att.attrelid AND attdef.adnum = att.attnum \
         WHERE table_schema = 'public' ORDER BY table_name, ordinal_position;",
    ),
    (
        "defaults by themselves",
        "SELECT d FROM (SELECT adnum AS n, coalesce(pg_get_expr(adbin, adrelid), '-')::text AS d FROM pg_attrdef \
         WHERE adrelid = 'customers'::regclass UNION ALL SELECT 100 + ordinal_position, column_default \
         FROM information_schema.columns WHERE table_name = 'customers') AS defaults ORDER BY n;",
    ),
    (
        "everything of an attribute",
        "SELECT c.relname, a.* FROM pg_catalog.pg_attribute AS a JOIN pg_class c ON c.oid = a.attrelid \
         WHERE c.relname IN ('customers', 'contacts') AND attnum > 0 ORDER BY c.relname, attnum;",
    ),
];

/// What names no sealed type, or whose few lines are the same. (`pg_type`, `\dn` and the views of domains show that
/// there is a schema `pgveil` with domains in it, as they do any other.)
const ALSO_ASKED: &[&str] = &[
    "\\dT",
    "\\dT+",
    "\\dD",
    "\\d+ contacts",
    "\\sv contacts",
    "\\dS+ customers",
    "\\d+ customers_pkey",
    "SELECT pg_typeof(email), pg_typeof(card), pg_typeof(joined) FROM customers;",
    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'customers'::regclass ORDER BY attnum;",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public';",
    "SELECT pg_get_viewdef('contacts'::regclass), pg_get_viewdef('contacts'::regclass, true);",
    "SELECT view_definition FROM information_schema.views WHERE table_schema = 'public';",
    "SELECT * FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname;",
    "SELECT * FROM information_schema.column_domain_usage WHERE table_schema = 'public';",
    "SELECT * FROM information_schema.column_udt_usage WHERE udt_schema = 'pgveil';",
    "SELECT * FROM information_schema.element_types WHERE object_schema = 'public';",
    "SELECT * FROM information_schema.attributes;",
    "SELECT * FROM information_schema.key_column_usage WHERE table_schema = 'public' ORDER BY constraint_name;",
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
    for asked in ALSO_ASKED {
        assert_eq!(told(&url, asked), told(&plain, asked), "{asked}");
    }
    for (tool, asked) in ASKED {
        let expected = told(&plain, asked);
        assert_eq!(expected.1, "", "{tool}");
        assert!(expected.0.len() > 3, "{tool}: {expected:?}");
        let seen = told(&url, asked);
        assert_eq!(seen, expected, "{tool}");
    }
    let (raw, _, _) = postgres::psql(proxy.direct(), "\\d customers");
    assert!(raw.contains("pgveil.email_1"), "and in the database they are sealed: {raw}");
    // Who does not read the column in clear sees the default as it is stored.
    for user in ["alice", "intern"] {
        let (out, error, _) = postgres::psql(&proxy.url(user), "\\d customers");
        assert!(out.contains("::pgveil.email_1") && !out.contains("it''s"), "{user}: {out}{error}");
    }
    let records = proxy.must(&["audit", "show", &proxy.dir().join("audit").display().to_string(), "--json"]);
    let read = |user: &str| {
        let own = |line: &&str| line.contains("\"intent\"") && line.contains(&format!("\"user\":\"{user}\""));
        records.lines().filter(own).any(|line| line.contains("public.customers.email"))
    };
    assert!(read("shop") && !read("alice") && !read("intern"), "{records}");
}
