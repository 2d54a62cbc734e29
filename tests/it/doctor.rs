//! `pgveil check` with a database at hand: what it finds although the files hold, and that it shows no value.

use crate::postgres::{self, Postgres};
use crate::proxy::{POLICY, Proxy, TAGS};
use crate::raw::Raw;
use crate::reseal;
use serde_json::Value;
use std::io::Write;

/// A set-up system: all tagged columns are sealed.
const SEALED: &str = "create table customers (id int primary key, email pgveil.email_1, card pgveil.card, joined pgveil.joined)";

/// `check`'s findings, by an administrator's connection; it must pass.
fn check(proxy: &Proxy, more: &[&str]) -> String {
    let mut arguments = vec!["check", "--database", proxy.direct()];
    arguments.extend(more);
    let (stdout, stderr, code) = proxy.run(&arguments);
    assert_eq!(code, 0, "{stdout}{stderr}");
    if stderr.is_empty() { stdout } else { stderr }
}

/// The ids of the findings, each once.
fn ids(proxy: &Proxy, more: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--json"];
    arguments.extend(more);
    let list: Value = serde_json::from_str(&check(proxy, &arguments)).unwrap();
    let ids = list.as_array().unwrap().iter().map(|finding| finding["id"].as_str().unwrap().to_owned());
    let mut ids: Vec<String> = ids.collect();
    ids.sort();
    ids.dedup();
    ids
}

#[test]
fn a_column_in_clear_is_named_with_its_remedy() {
    let proxy = Proxy::start(POLICY, TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text, card pgveil.card, joined pgveil.joined); \
         insert into customers (id, email) values (1, 'canary@example.com')",
    );
    let found = check(&proxy, &[]);
    for expected in [
        "tags.toml:3: column public.customers.email of database ",
        " is stored in clear\nhint: It is guarded by the proxy alone until it is sealed: pgveil reseal start --database URL \
         'public.customers.email'.",
        "superusers (postgres) read past the proxy what is stored in clear: public.customers.email",
        "setting log_min_error_statement = error writes statements that fail to the server's log: values of \
         public.customers.email, stored in clear, are among it; values of sealed columns are ciphertext there",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    assert!(!found.contains("error: ") && !found.contains("canary"), "{found}");
    assert_eq!(ids(&proxy, &[]), ["clear-column", "kept-statements", "way-round-superuser"]);
    reseal::must(&proxy, &["start", "public.customers.email"]);
    assert_eq!(ids(&proxy, &[]), [""; 0]);
    // The service user sees the same.
    assert_eq!(proxy.must(&["check", "--json"]), "[]\n");
}

#[test]
fn settings_that_keep_statements_are_named() {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements,auto_explain"),
        ("auto_explain.log_min_duration", "10"),
        ("log_min_duration_statement", "250"),
        ("log_parameter_max_length_on_error", "-1"),
    ];
    let proxy = Proxy::start_before(Postgres::private_with(&settings), POLICY, TAGS, "");
    postgres::execute(proxy.direct(), SEALED);
    postgres::execute(proxy.direct(), "alter role shop set log_statement = 'all'");
    // The service user reads no superuser's setting, and sees what the libraries have.
    for arguments in [&["check"][..], &["check", "--database", proxy.direct()]] {
        let (_, found, code) = proxy.run(arguments);
        for expected in [
            "setting auto_explain.log_min_duration = 10 writes plans with constants and parameters",
            "setting log_min_duration_statement = 250 writes slow statements to the server's log, their parameters as well",
            "setting log_parameter_max_length_on_error = -1 writes the parameters of statements that fail",
            "setting log_statement = all of role shop writes statements",
            "setting pg_stat_statements.track = top keeps the text of statements",
        ] {
            assert!(found.contains(expected), "{expected}\n{found}");
        }
        assert!(code == 0 && !found.contains("stored in clear"), "{found}");
        let sealed =
            "values of sealed columns are ciphertext there, but plaintext in statements that go round pgveil";
        assert_eq!(found.matches(sealed).count(), 5, "{found}");
    }
}

#[test]
fn ways_round_the_proxy_are_named() {
    let proxy = Proxy::start_before(Postgres::private_with(&[("listen_addresses", "*")]), POLICY, TAGS, "");
    postgres::execute(proxy.direct(), SEALED);
    postgres::execute(
        proxy.direct(),
        "grant all on customers to shop, alice; \
         create role readers; grant select (email, card) on customers to readers; \
         create role reports login noinherit in role readers; create role idle login; create role closed; \
         grant update on customers to idle; create role writer login; grant insert (card) on customers to writer",
    );
    let found = check(&proxy, &[]);
    for expected in [
        "tags.toml:3: role idle, no user of pgveil, may past the proxy, in database ",
        ", write public.customers.email, public.customers.card, public.customers.joined\nhint: Run: REVOKE ALL ON \
         \"public\".\"customers\" FROM \"idle\"",
        ", read the ciphertext of public.customers.email, public.customers.card\n",
        "tags.toml:3: role reports, no user of pgveil,",
        "tags.toml:4: role writer, no user of pgveil, may past the proxy, in database ",
        // Who gets round the proxy writes plaintext, which is refused, and logged by the server as it comes.
        "setting log_min_error_statement = error",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    for user in ["role shop", "role alice", "role pgveil", "role closed", "PUBLIC", "superusers", "pg_hba"] {
        assert!(!found.contains(user), "{user}\n{found}");
    }
    postgres::execute(proxy.direct(), "grant select on customers to public");
    let found = check(&proxy, &[]);
    assert!(found.contains("everybody (PUBLIC) may past the proxy, in database "), "{found}");
    assert!(found.contains("FROM PUBLIC.") && !found.contains("role reports"), "what PUBLIC may: {found}");

    let file = proxy.postgres.data().join("pg_hba.conf");
    let lines = std::fs::read_to_string(&file).unwrap().lines().count();
    let mut hba = std::fs::File::options().append(true).open(&file).unwrap();
    hba.write_all(b"host all all 192.0.2.7/32 scram-sha-256\nhost shop all 10.0.0.0/8 scram-sha-256\n")
        .unwrap();
    let found = check(&proxy, &[]);
    let open =
        format!("pg_hba.conf lets in more than single hosts: line {} (10.0.0.0 255.0.0.0).", lines + 2);
    assert!(found.contains(&open), "{open}\n{found}");
    // Only superusers read those rules; an administrator who is none is told.
    postgres::execute(
        proxy.direct(),
        "create role admin login password 'x' in role pg_read_all_data, pg_write_all_data",
    );
    let url = proxy.postgres.url_as("admin", "x", postgres::database_name(proxy.direct()));
    let (_, found, code) = proxy.run(&["check", "--database", &url]);
    assert!(code == 0 && found.contains("pg_hba.conf could not be looked at: permission denied"), "{found}");
    assert!(found.contains("role admin, no user of pgveil,"), "it writes all by pg_write_all_data: {found}");
}

const CANARIES: [&str; 5] = ["canary", "4111111111111111", "GB82WEST", "901820", "Kanarienweg"];

#[test]
fn untagged_columns_that_look_sensitive_are_named_and_no_value_is_shown() {
    let proxy = Proxy::start(POLICY, TAGS);
    postgres::execute(proxy.direct(), SEALED);
    postgres::execute(
        proxy.direct(),
        "create table people (id int, first_name text, \"homeAddress\" text, date_of_birth date, email_verified boolean, \
           a text, b numeric, c text, d text, e text, cardinality bigint); \
         insert into people select n, 'canary', 'Kanarienweg ' || n, '1970-01-01', true, 'canary' || n || '@example.com', \
           4111111111111111, 'GB82WEST12345698765432', '+49 30 901820', 'nothing ' || n, 4000000000000000 + n * 7919 \
           from generate_series(1, 20000) n; \
         create table parts (email text) partition by list (email); create table parts_1 partition of parts default; \
         analyze",
    );
    let names = check(&proxy, &[]);
    for expected in [
        "tags.toml:1: column public.people.first_name of database ",
        " has no tag, and by its name holds people's names\nhint: Tag it: \"public.people.first_name\" = \"DOMAIN\".",
        "column public.people.\"homeAddress\" of database ",
        "hint: Tag it: \"public.people.\\\"homeAddress\\\"\" = \"DOMAIN\".",
        "by its name holds dates of birth",
        "column public.parts.email of database ",
    ] {
        assert!(names.contains(expected), "{expected}\n{names}");
    }
    assert_eq!(names.matches("warning: ").count(), 4, "{names}");
    // The service user needs no right to the tables for names.
    let (_, found, _) = proxy.run(&["check"]);
    assert_eq!(found.matches("warning: ").count(), 4, "{found}");
    let (_, refused, code) = proxy.run(&["check", "--sample", "200"]);
    assert!(code == 2 && refused.contains("--database"), "{refused}");

    let sampled = check(&proxy, &["--sample", "200"]);
    for (column, kind) in
        [("a", "e-mail addresses"), ("b", "card numbers"), ("c", "IBANs"), ("d", "phone numbers")]
    {
        let start = format!("column public.people.{column} of database ");
        let line = sampled
            .lines()
            .find(|line| line.contains(&start))
            .unwrap_or_else(|| panic!("{column}\n{sampled}"));
        assert!(
            line.ends_with(&format!(" has no tag, and holds {kind}: 100 % of 200 sampled values")),
            "{line}"
        );
    }
    assert!(!sampled.contains("people.e ") && !sampled.contains("cardinality"), "{sampled}");
    let outputs =
        [check(&proxy, &["--sample", "200", "--json"]), check(&proxy, &["--sample", "200", "--sarif"])];
    for canary in CANARIES {
        for output in [&names, &sampled, &outputs[0], &outputs[1]] {
            assert!(!output.contains(canary), "{canary}\n{output}");
        }
    }
}

#[test]
fn a_distribution_that_gives_rows_away_is_named() {
    let proxy = Proxy::start(POLICY, TAGS);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text, card text, joined date)",
        // 500 rows of one value, 250 of another, 125 of two each.
        "insert into customers (id, email) select n, 'half-canary@example.com' from generate_series(1, 500) n",
        "insert into customers (id, email) select n, 'quarter-canary@example.com' from generate_series(501, 750) n",
        "insert into customers (id, email) select n, 'eighth-canary@example.com' from generate_series(751, 875) n",
        "insert into customers (id, email) select n, 'last-canary@example.com' from generate_series(876, 1000) n",
        "insert into customers values (1001, null, '4111111111111111', '1970-01-01')",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    // The harness gives everybody all.
    postgres::execute(proxy.direct(), "revoke all on customers from public");
    let found = check(&proxy, &[]);
    let told = "is deterministic and gives rows away: 4 different values in 1000 rows, the most frequent in 50.0 % of them, 1.8 bits \
                of entropy; who knows how often each value occurs recovers 75.0 % of the rows for certain, 87.5 % with guesses";
    assert!(found.contains("tags.toml:3: column public.customers.email of database "), "{found}");
    assert!(
        found.contains(told) && !found.contains("canary") && !found.contains("customers.card"),
        "{found}"
    );
    // Without an administrator nothing is counted.
    assert_eq!(proxy.must(&["check", "--json"]), "[]\n");
    // What cannot be looked at is no error, and is said.
    let mut owner = Raw::log_in(proxy.direct());
    for sql in ["begin", "lock table customers"] {
        assert_eq!(owner.query(sql).errors, [""; 0], "{sql}");
    }
    assert!(check(&proxy, &[]).contains(
        "column public.customers.email could not be looked at: canceling statement due to lock timeout"
    ));
    assert_eq!(owner.query("rollback").errors, [""; 0]);
    postgres::execute(proxy.direct(), "delete from customers where id % 125 <> 0");
    assert_eq!(ids(&proxy, &[]), [""; 0], "of few rows nothing is told");
}

#[test]
fn findings_are_sarif_with_rules_levels_and_places() {
    let proxy = Proxy::start(POLICY, TAGS);
    postgres::execute(
        proxy.direct(),
        "create table customers (id int primary key, email text, card bytea, joined pgveil.joined)",
    );
    let (json, _, code) = proxy.run(&["check", "--json"]);
    let (sarif, stderr, same) = proxy.run(&["check", "--sarif"]);
    assert_eq!((code, same, stderr.as_str()), (1, 1, ""));
    let findings: Value = serde_json::from_str(&json).unwrap();
    let log: Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!((&log["version"], log["runs"].as_array().unwrap().len()), (&Value::from("2.1.0"), 1));
    let (driver, results) =
        (&log["runs"][0]["tool"]["driver"], log["runs"][0]["results"].as_array().unwrap());
    assert_eq!(driver["name"], "pgveil");
    let findings = findings.as_array().unwrap();
    assert!(findings.len() >= 4 && findings.len() == results.len(), "{json}{sarif}");
    for (finding, result) in findings.iter().zip(results) {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(driver["rules"][index]["id"], finding["id"]);
        assert_eq!((&result["ruleId"], &result["level"]), (&finding["id"], &finding["severity"]));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(
            place["artifactLocation"]["uri"].as_str().unwrap(),
            format!("file://{}", finding["file"].as_str().unwrap())
        );
        assert_eq!(place["region"]["startLine"], finding["line"]);
        let text = result["message"]["text"].as_str().unwrap();
        assert!(text.contains(finding["message"].as_str().unwrap()), "{text}");
    }
    let levels: Vec<&str> = results.iter().filter_map(|result| result["level"].as_str()).collect();
    assert!(levels.contains(&"error") && levels.contains(&"warning"), "{sarif}");
}

/// Every id that the sources give a finding is a rule of the SARIF log.
#[test]
fn every_id_is_a_rule() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = [
        "config/against.rs",
        "config/document.rs",
        "config/doctor.rs",
        "config/expect.rs",
        "cli/check.rs",
        "cli/check/log_ins.rs",
    ];
    let text: String = files.iter().map(|file| std::fs::read_to_string(root.join(file)).unwrap()).collect();
    let kebab = |literal: &&str| {
        literal.contains('-') && literal.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let used: std::collections::BTreeSet<&str> = text.split('"').filter(kebab).collect();
    let rules: std::collections::BTreeSet<&str> =
        pgveil::config::sarif::RULES.iter().map(|(id, _)| *id).collect();
    assert_eq!(used, rules);
}

/// What the audit log has of statements, and what the database has of indexes.
#[test]
fn sealed_columns_that_are_looked_up_without_an_index_are_named() {
    let tags = format!("{TAGS}\"public.visits.email\" = \"email\"\n\"public.orders.email\" = \"email\"\n");
    let proxy = Proxy::start(POLICY, &tags);
    let mut shop = Raw::log_in(&proxy.url("shop"));
    for sql in [
        "create table customers (id int primary key, email text, card text, joined date)",
        "create table orders (id int, email text)",
        "create table visits (id int, email text)",
        "create index on orders (id, email)",
        "insert into customers (id, email) select n, 'canary@example.com' from generate_series(1, 1500) n",
        "insert into orders select n, 'canary@example.com' from generate_series(1, 1500) n",
        "insert into visits values (1, 'canary@example.com')",
        "select id from customers where email = 'canary@example.com' limit 1",
        "update customers set card = 'x' where email = 'nobody@example.com'",
        "select count(*) from customers group by email",
        "select id from orders where email = 'canary@example.com' limit 1",
        "select id from visits where email = 'canary@example.com'",
    ] {
        assert_eq!(shop.query(sql).errors, [""; 0], "{sql}");
    }
    postgres::execute(proxy.direct(), "revoke all on customers, orders, visits from public; analyze");
    let found = check(&proxy, &[]);
    for expected in [
        "tags.toml:3: no index has column public.customers.email of database ",
        ", by which 2 recorded statements look up: each reads its table, of about 1500 rows, whole\nhint: Run: CREATE INDEX \
         CONCURRENTLY ON \"public\".\"customers\" (\"email\")",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    assert_eq!(found.matches("no index has").count(), 1, "{found}");
    assert!(
        ids(&proxy, &[]).contains(&"unindexed-column".to_owned()) && !found.contains("canary"),
        "{found}"
    );
    postgres::execute(proxy.direct(), "create index on customers (email)");
    assert!(!ids(&proxy, &[]).contains(&"unindexed-column".to_owned()));
}
