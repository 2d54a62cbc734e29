//! PostgreSQL's own clients: psql describes, pg_dump dumps and pgbench runs, through the proxy as over PostgreSQL itself.
//!
//! The programs are the machine's, beside the server or in `PATH`.

use std::process::Command;

use crate::foreign::Twins;
use crate::postgres;

/// A script of the shell, in which `$bin` has the programs and the last argument is the URL.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    let bin = postgres::tool("psql").parent().expect("a program is in a folder").to_owned();
    shell.env("bin", bin).env("LC_ALL", "C").args(["-euc", script]);
    shell.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/postgres"));
    shell
}

/// What must differ: the port, and the details of errors, which quote values.
const ALIKE: &str = r#"sed -e 's/at port "[0-9]*"/at port "…"/' -e '/^DETAIL:  Key (email)=/d'"#;

#[test]
fn psql_notices_no_proxy() {
    let about = "Every command of psql 15 that asks the server something, over tables and whatever else a user may make \
                 (tests/tools/postgres/psql.sql).";
    let script = format!(r#""$bin/psql" --no-psqlrc --file="$0/psql.sql" "$1" 2>&1 | {ALIKE}"#);
    Twins::start().same("psql", about, || shell(&script));
}

/// Every form of a dump. pgveil's own schema is left out: `init` makes it, and its types are sealed by its own keys.
const DUMPS: [&str; 9] = [
    "",
    "--schema-only",
    "--data-only",
    "--inserts --rows-per-insert=3",
    "--column-inserts --on-conflict-do-nothing --quote-all-identifiers",
    "--table=person --no-owner --no-privileges",
    "--schema=public --clean --if-exists --exclude-table-data=log* --load-via-partition-root",
    "--format=custom",
    "--serializable-deferrable --section=pre-data --disable-triggers --no-comments",
];

#[test]
fn pg_dump_notices_no_proxy() {
    let about = "Dumps of pg_dump 15 in every form that has SQL in it (tests/it/tools_postgres.rs) of one of everything that a \
                 user may make (tests/tools/postgres/schema.sql).";
    let twins = Twins::start();
    // `\restrict` has a word of each run's own.
    let mut script =
        r#""$bin/psql" --no-psqlrc --quiet --file="$0/schema.sql" "$1"; alike() { grep -v "restrict "; };"#
            .to_owned();
    for form in DUMPS {
        let read = if form.contains("custom") { r#"| "$bin/pg_restore" --file=-"# } else { "" };
        script += &format!(r#"set -f; "$bin/pg_dump" --exclude-schema=pgveil {form} "$1" {read} | alike;"#);
    }
    let printed = twins.same("pg_dump", about, || shell(&script));
    assert_eq!(printed.matches("-- PostgreSQL database dump complete").count(), DUMPS.len());
    assert!(
        printed.contains("\to'neil@x.org\ttab\\tand\\nline\\\\\t1985-12-31\t"),
        "a reader's dump can be read"
    );
    restores(&twins);
}

/// What was dumped through the proxy comes back through it: the tables are made anew, sealed, with the same rows.
fn restores(twins: &Twins) {
    let run = |script: &str| {
        let output = shell(script).arg(twins.proxy.url("shop")).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{script}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let rows = || run(r#""$bin/pg_dump" --data-only --table='person|visit' "$1" | grep -v 'restrict '"#);
    let tables = "select string_agg(distinct c.oid::text, ' '), count(*) from pg_attribute a join pg_class c on c.oid = attrelid \
                  where c.relkind = 'r' and atttypid::regtype::text like 'pgveil.%'";
    let (before, mut tables_before) = (rows(), postgres::query(twins.proxy.direct(), tables));
    assert!(before.contains("\tana@x.org\tAna\t"), "{before}");
    let file = twins.proxy.dir().join("dump");
    let (file, clean) = (file.display(), "--exclude-schema=pgveil --clean --if-exists --no-privileges");
    let plain = |form: &str| {
        format!(
            r#""$bin/pg_dump" {clean} {form} "$1" > "{file}"; "$bin/psql" -Xq -v ON_ERROR_STOP=1 -f "{file}" "$1" > /dev/null"#
        )
    };
    let custom = |form: &str| {
        let restore = format!("--clean --if-exists --no-privileges --exit-on-error {form}");
        format!(
            r#""$bin/pg_dump" --exclude-schema=pgveil --format=custom "$1" > "{file}"; "$bin/pg_restore" {restore} --dbname="$1" "{file}""#
        )
    };
    for script in [
        plain(""),
        plain("--inserts"),
        plain("--column-inserts --rows-per-insert=2"),
        custom(""),
        custom("--jobs=2"),
    ] {
        run(&script);
        let tables = postgres::query(twins.proxy.direct(), tables);
        assert_ne!(tables[0][0], tables_before[0][0], "{script}: other tables");
        assert_eq!(tables[0][1], tables_before[0][1], "{script}: sealed as before");
        assert_eq!(rows(), before, "{script}");
        tables_before = tables;
    }
}

/// Every built-in script in every protocol, by the same dice, and what is in the tables then; times left out. Accounts and
/// branches are known by sealed keys, which refer to each other.
const BENCH: &str = r#"
run() {
    "$bin/pgbench" "$@" "$url" 2>&1 | grep -v 'latency\|tps\|connection time\|done in\| tuples '
}
url="$1"
export PGBENCH_RANDOM_SEED=7
run --initialize --init-steps=dtgvpf
run --protocol=simple --transactions=3
run --protocol=simple --transactions=3 --builtin=select-only
run --protocol=extended --transactions=30 --client=2
run --protocol=extended --transactions=30 --builtin=simple-update --vacuum-all
run --protocol=prepared --transactions=50 --client=4 --jobs=2 --no-vacuum
run --protocol=prepared --transactions=50 --builtin=select-only --connect
all() { "$bin/psql" --no-psqlrc --quiet --command="$1" "$url" | sort; }
all 'copy (select aid, bid, abalance from pgbench_accounts where abalance <> 0) to stdout'
all 'copy (select bid, bbalance from pgbench_branches) to stdout'
all 'copy (select tid, bid, tbalance from pgbench_tellers) to stdout'
all 'copy (select tid, bid, aid, delta from pgbench_history) to stdout'
run --initialize --init-steps=dtvp --scale=2 --fillfactor=70
"#;

#[test]
fn pgbench_notices_no_proxy() {
    let about = "Initialization and the built-in scripts of pgbench 15 in every protocol (tests/it/tools_postgres.rs).";
    let printed = Twins::start().same("pgbench", about, || shell(BENCH));
    assert_eq!(printed.matches("number of failed transactions: 0 ").count(), 6, "{printed}");
}
