//! Statements that are long or deep: planned, or refused as PostgreSQL refuses them; the stack is never overrun, which would end
//! the proxy for everybody.

use crate::golden::shop;
use pgveil::plan::{NO_NAMES, Planned, Session, plan};
use pgveil::policy::{Circumstances, Principal};

/// How a statement was decided: `plan`, `pass`, or the SQLSTATE of its refusal.
fn decided(sql: &str) -> &'static str {
    let shop = shop();
    let principal = Principal::assumed("shop".into());
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
    };
    let path = ["pg_catalog".to_owned(), "public".to_owned()];
    let session = Session {
        principal: &principal,
        circumstances: &circumstances,
        search_path: &path,
        named: &NO_NAMES,
    };
    match &plan(sql, &[], &shop.catalog, &shop.policy, &session).statements[0] {
        Planned::Plan(_) => "plan",
        Planned::Pass(_) => "pass",
        Planned::Refuse(refusal) => refusal.sqlstate,
        Planned::Local(_) | Planned::Unresolved(_) => "other",
    }
}

/// A statement over `table` that nests or chains so often, for each way to do that.
fn shapes(table: &str, times: usize) -> Vec<(&'static str, String)> {
    let join = |piece: &str, between: &str| vec![piece; times].join(between);
    let query = |list: &str| format!("select {list} from {table}");
    let select = |condition: String| format!("select id from {table} where {condition}");
    vec![
        ("or", select(join("email = 'a@x'", " or "))),
        ("and", select(join("id <> 7", " and "))),
        ("plus", select(format!("id > {}", join("1", " + ")))),
        ("concat", query(&join("note", " || "))),
        ("cast", query(&format!("id{}", "::int".repeat(times)))),
        ("not", select(format!("{} id > 1", "not ".repeat(times.min(300))))),
        ("minus", select(format!("id > {} 1", "- ".repeat(times.min(300))))),
        ("is", select(format!("(id > 1) {}", "is true ".repeat(times)))),
        ("collate", select(format!("note {} = 'x'", "collate \"C\" ".repeat(times)))),
        ("union", join(&query("email"), " union all ")),
        ("except", join(&query("id, email"), " except ")),
        ("json", query(&format!("id {}", "-> 'a' ".repeat(times)))),
        ("joins", format!("select 1 from {table} c0 {}", "cross join plain ".repeat(times.min(500)))),
    ]
}

#[test]
fn chains_are_as_long_as_anybody_writes_them() {
    for (name, sql) in shapes("customers", 3000) {
        assert_eq!(decided(&sql), "plan", "{name}");
    }
    for (name, sql) in shapes("plain", 30_000) {
        assert_eq!(decided(&sql), "pass", "{name}");
    }
}

#[test]
fn what_is_too_deep_is_refused_as_postgresql_refuses_it() {
    for (name, sql) in shapes("customers", 30_000) {
        let expected = if matches!(name, "joins" | "not" | "minus") { "plan" } else { "54001" };
        assert_eq!(decided(&sql), expected, "{name}");
    }
}

#[test]
fn brackets_nest_as_deep_as_programs_write_them() {
    let around = |open: &str, inside: &str, close: &str, times: usize| {
        format!("{}{inside}{}", open.repeat(times), close.repeat(times))
    };
    for (sql, expected) in [
        (format!("select id from customers where {}", around("(", "email = 'a@x'", ")", 60)), "plan"),
        (
            format!("select id from customers where {}", around("(id = 7 or ", "email = 'a@x'", ")", 60)),
            "plan",
        ),
        (around("select email from (", "select email from customers", ") x", 30), "plan"),
        (format!("select {} from customers", around("coalesce(", "email", ")", 60)), "plan"),
        (
            format!(
                "select {} from customers",
                around("case when id = 1 then email else ", "email", " end", 40)
            ),
            "plan",
        ),
        (format!("select id from customers where {} id > 1", "not ".repeat(5_000)), "0A000"),
        // Deeper than anybody writes: no understanding, and no overrun.
        (format!("select id from customers where {}", around("(", "email = 'a@x'", ")", 5_000)), "0A000"),
        (format!("select id from customers where {}", around("(", "email = 'a@x'", ")", 50_000)), "54001"),
    ] {
        assert_eq!(decided(&sql), expected, "{sql:.70}");
    }
}
