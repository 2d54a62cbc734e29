//! Whether a statement that passes unread reads a relation which the catalog does not know: one that was created or renamed a
//! moment ago, behind our back, may hold what is tagged.
//!
//! From the tokens alone, for what passes is not parsed. Guarantees: a name in the FROM list of a SELECT or DELETE, after JOIN, or that
//! INSERT, UPDATE, MERGE, COPY and TABLE begin with is looked up as the server would. An item of WITH is no such name, nor is a function.
//! Deliberately absent: names within definitions (their time comes when they are used), and certainty: a name too many costs
//! a look at the catalog, and one too few the moment until the next.

use super::lineage::Context;
use super::words::Words;

/// Statements that read or write rows, or lead to one that does.
const FIRST: &[&str] = &[
    "copy", "declare", "delete", "explain", "insert", "merge", "prepare", "select", "table", "update", "with",
];

/// Whether a word ends a FROM list, as far as commas go.
fn ends_list(word: &str) -> bool {
    matches!(
        word,
        "except"
            | "fetch"
            | "for"
            | "group"
            | "having"
            | "intersect"
            | "limit"
            | "offset"
            | "order"
            | "returning"
            | "select"
            | "set"
            | "union"
            | "values"
            | "when"
            | "where"
            | "window"
            | "with"
    )
}

/// What one pair of parentheses holds.
#[derive(Clone, Copy, Default)]
struct Level {
    /// SELECT or DELETE stood here: FROM begins a list of relations (in `extract(… from …)` it does not).
    reads: bool,
    /// A comma is followed by another item of FROM.
    listing: bool,
}

/// Whether the statement names a relation that no schema in reach has.
pub fn unresolved(words: &Words<'_>, context: &Context<'_>) -> bool {
    if !FIRST.contains(&words.keyword(0)) {
        return false;
    }
    let symbol = |index: usize, symbol: &str| words.symbol(index) == symbol;
    let mut levels = vec![Level::default()];
    let mut expected = false;
    let (mut at, mut before) = (0, "");
    while at < words.tokens.len() {
        let own = words.keyword(at);
        let level = levels.last_mut();
        let separator = words.symbol(at);
        if separator == "(" {
            // A join in parentheses, or a query, which says so itself.
            levels.push(Level { reads: false, listing: expected });
        } else if separator == ")" {
            levels.pop();
            expected = false;
        } else if separator == "," {
            expected = level.is_some_and(|level| level.listing);
        } else if expected && !matches!(own, "only" | "lateral" | "rows") {
            let inserts = ["into", "copy"].contains(&before);
            let mut parts = vec![words.word(at)];
            while symbol(at + 1, ".") {
                parts.push(words.word(at + 2));
                at += 2;
            }
            let called = symbol(at + 1, "(") && !inserts;
            let query = parts.len() == 1 && ["select", "values", "with", "table"].contains(&own);
            expected = query && own == "table";
            if query {
                if let Some(level) = level {
                    *level = Level { reads: own == "select", listing: false };
                }
            } else if !called && !parts[0].is_empty() && !known(&parts, context) && !is_item(words, parts[0])
            {
                return true;
            }
        } else if let Some(level) = level.filter(|_| !own.is_empty()) {
            expected |= level.take(own, before, at == 0, symbol(at + 1, "("));
        }
        before = words.keyword(at);
        at += 1;
    }
    false
}

impl Level {
    /// Takes a word that is no relation's name; whether one comes next. `first`: it begins the statement; `opens`: a parenthesis follows.
    fn take(&mut self, word: &str, before: &str, first: bool, opens: bool) -> bool {
        let lists = match word {
            "from" => self.reads && before != "distinct",
            "join" => true,
            "using" => self.reads && !opens,
            _ => false,
        };
        if lists {
            self.listing = true;
            return true;
        }
        match word {
            "select" => *self = Level { reads: true, listing: false },
            "delete" => self.reads = true,
            "into" => return ["insert", "merge"].contains(&before),
            "update" if ["", "as", "explain", "analyze", "analyse", "verbose"].contains(&before) => {
                self.reads = true;
                return true;
            }
            "copy" | "table" if first => return !opens,
            word if ends_list(word) => self.listing = false,
            _ => {}
        }
        false
    }
}

fn known(parts: &[&str], context: &Context<'_>) -> bool {
    let catalog = context.catalog;
    match parts {
        [name] => catalog.find(context.path, name).is_some() || catalog.find_in("pg_catalog", name).is_some(),
        [schema, name] | [_, schema, name] => catalog.find_in(schema, name).is_some(),
        // The server refuses it.
        _ => true,
    }
}

/// Whether `name` is an item of WITH somewhere: `name AS (`, `name AS MATERIALIZED (`, `name (columns) AS (`.
fn is_item(words: &Words<'_>, name: &str) -> bool {
    let symbol = |index: usize, symbol: &str| words.symbol(index) == symbol;
    words.all().filter(|(_, word)| *word == name).any(|(at, _)| {
        let mut next = at + 1;
        if symbol(next, "(") {
            next = (next..words.tokens.len()).find(|index| symbol(*index, ")")).unwrap_or(next) + 1;
        }
        let opened = (next + 1..next + 4).find(|index| symbol(*index, "("));
        words.keyword(next) == "as"
            && opened.is_some_and(|opened| opened == next + 1 || words.keyword(opened - 1) == "materialized")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, Relation, RelationKind};
    use crate::sql::lineage::NO_NAMES;
    use crate::sql::split;
    use std::sync::Arc;

    fn missing(sql: &str) -> bool {
        let mut catalog = Catalog::default();
        for (oid, (schema, name)) in
            (1..).zip([("public", "a"), ("public", "b"), ("other", "c"), ("pg_catalog", "pg_class")])
        {
            catalog.names.entry(schema.to_owned()).or_default().insert(name.to_owned(), oid);
            let (schema, name) = (schema.to_owned(), name.to_owned());
            let kind = RelationKind::Table;
            let relation =
                Relation { oid, schema, name, kind, columns: vec![], definition: None, unreadable: None };
            catalog.relations.insert(oid, Arc::new(relation));
        }
        let path = ["public".to_owned()];
        let guard = |_, _: &str| None;
        let context =
            Context { catalog: &catalog, path: &path, guard: &guard, named: &NO_NAMES, defaults: &[] };
        let script = split(sql).unwrap();
        script.statements.iter().any(|statement| unresolved(&statement.words(sql), &context))
    }

    #[test]
    fn relations_that_are_there_are_found() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM a, b x, LATERAL (SELECT * FROM other.c) y WHERE x.i IN (1, 2)",
            "SELECT extract(year FROM day), trim(both FROM t), i IS DISTINCT FROM j FROM a",
            "SELECT * FROM ONLY a JOIN b USING (i), generate_series(1, 2) g, pg_class",
            "WITH n AS (SELECT 1), m (i, j) AS MATERIALIZED (SELECT 1, 2) SELECT * FROM n, m, a FOR UPDATE",
            "INSERT INTO a (i) SELECT i FROM b ON CONFLICT DO UPDATE SET i = 1 RETURNING i",
            "DELETE FROM a USING b WHERE a.i = b.i",
            "UPDATE a SET i = 1, j = 2 FROM b, other.c",
            "SELECT i FROM a WHERE i = 1 FOR NO KEY UPDATE OF a",
            "EXPLAIN (COSTS off) UPDATE a SET i = 1",
            "MERGE INTO a USING b ON a.i = b.i WHEN MATCHED THEN UPDATE SET i = 1, j = 2",
            "SELECT * FROM (a CROSS JOIN b), (VALUES (1), (2)) v (i)",
            "COPY a (i, j) TO STDOUT",
            "COPY (SELECT * FROM b) TO STDOUT",
            "SET search_path = nowhere",
            "DROP TABLE nowhere",
        ] {
            assert!(!missing(sql), "{sql}");
        }
    }

    #[test]
    fn relations_that_are_not_there_are_missed() {
        for sql in [
            "SELECT * FROM c",
            "SELECT * FROM a, c",
            "SELECT * FROM a WHERE i IN (SELECT i FROM public.c)",
            "SELECT (SELECT max(i) FROM \"C\") FROM a",
            "SELECT * FROM a JOIN c USING (i)",
            "SELECT * FROM (a CROSS JOIN c)",
            "SELECT * FROM a JOIN b ON a.i = b.i, c",
            "WITH n AS (SELECT * FROM c) SELECT * FROM n",
            "SELECT count(*) FROM a UNION ALL SELECT 1 FROM c",
            "TABLE c",
            "COPY c TO STDOUT",
            "COPY c (i) FROM STDIN",
            "INSERT INTO c (i) VALUES (1)",
            "UPDATE c SET i = 1",
            "PREPARE p AS UPDATE c SET i = 1",
            "WITH n AS (UPDATE c SET i = 1 RETURNING i) SELECT * FROM n",
            "DELETE FROM a USING c",
            "EXPLAIN SELECT * FROM c",
            "SELECT * FROM other.a",
        ] {
            assert!(missing(sql), "{sql}");
        }
    }
}
