//! Golden plans: `tests/golden/plan/*.md` hold SQL and the plan exactly as `pgveil explain` prints it, over the small
//! world of `tests/golden/shop`. `UPDATE=1` rewrites the plans; prose and SQL are never touched.

use pgveil::catalog::build::build;
use pgveil::catalog::queries::{RawCatalog, RawColumn, RawRelation, RawType};
use pgveil::catalog::{Catalog, Seal};
use pgveil::plan::explain::Explained;
use pgveil::plan::{NO_NAMES, Session, plan};
use pgveil::policy::{Circumstances, Policy, Principal};
use std::fs;
use std::path::{Path, PathBuf};

pub struct Shop {
    pub catalog: Catalog,
    pub policy: Policy,
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The world of the golden files: policy and tags through the real loader, the catalog from its text.
pub fn shop() -> Shop {
    let config = pgveil::config::load_unprepared(&golden().join("shop"))
        .unwrap_or_else(|mistakes| panic!("tests/golden/shop: {mistakes:#?}"));
    let text = fs::read_to_string(golden().join("shop/catalog.txt")).unwrap();
    let mut raw = RawCatalog { schemas: vec!["public".into(), "archive".into()], ..RawCatalog::default() };
    for (index, domain) in config.policy.domains.iter().enumerate() {
        let oid = 50_000 + 2 * u32::try_from(index).unwrap();
        let name = match domain.seal {
            Seal::Deterministic => format!("{}_1", domain.name),
            Seal::Randomized => domain.name.clone(),
            Seal::None => continue,
        };
        raw.sealed_types.push(RawType { oid, array_oid: oid + 1, name });
    }
    let mut number = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(column) = line.strip_prefix("  ") {
            number += 1;
            let (name, type_name) = column.split_once(' ').unwrap();
            let relation = raw.relations.last().unwrap().oid;
            let sealed = raw
                .sealed_types
                .iter()
                .find(|sealed| Some(sealed.name.as_str()) == type_name.strip_prefix("pgveil."));
            let known = pgveil::value::DataType::parse(type_name).map(|known| known.oid());
            if name == "id" {
                raw.keys.push((relation, vec![number]));
            }
            raw.columns.push(RawColumn {
                relation,
                number,
                name: name.into(),
                type_oid: sealed.map(|sealed| sealed.oid).or(known).unwrap(),
                type_name: type_name.into(),
                not_null: false,
                generated: false,
                altered: false,
            });
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let (schema, name) = words.next().unwrap().split_once('.').unwrap();
        let kind = words.next().unwrap().chars().next().unwrap();
        let oid = 20_000 + u32::try_from(raw.relations.len()).unwrap();
        raw.relations.push(RawRelation { oid, schema: schema.into(), name: name.into(), kind });
        raw.definitions.extend(words.next().map(|definition| (oid, Some(definition.to_owned()))));
        number = 0;
    }
    let catalog = build(raw, &config.tags, "shop", 1, None);
    Shop { catalog, policy: config.policy }
}

/// What `explain` prints for `sql` as `user`.
pub fn explained(shop: &Shop, user: &str, purpose: Option<&str>, sql: &str) -> String {
    let principal = Principal::assumed(user.to_owned());
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: purpose.map(str::to_owned),
        second_factor_at: None,
    };
    let path = ["public".to_owned()];
    let session = Session {
        principal: &principal,
        circumstances: &circumstances,
        search_path: &path,
        named: &NO_NAMES,
    };
    Explained(&plan(sql, &[], &shop.catalog, &shop.policy, &session)).to_string()
}

/// Renders one file anew: after each `sql` block a `plan` block.
fn rendered(shop: &Shop, text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(attributes) = line.strip_prefix("```sql ") else { continue };
        let attribute = |name: &str| {
            attributes
                .split(' ')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let mut sql = vec![];
        for line in lines.by_ref() {
            out.push_str(line);
            out.push('\n');
            if line == "```" {
                break;
            }
            sql.push(line);
        }
        let plan =
            explained(shop, &attribute("as").unwrap(), attribute("purpose").as_deref(), &sql.join("\n"));
        while lines.peek().is_some_and(|line| line.is_empty()) {
            lines.next();
        }
        if lines.peek() == Some(&"```plan") {
            lines.by_ref().find(|line| *line == "```");
        }
        out.push_str(&format!("\n```plan\n{}\n```\n", plan.trim_end()));
    }
    out
}

#[test]
fn plans_are_as_the_golden_files_say() {
    let shop = shop();
    let mut files: Vec<PathBuf> =
        fs::read_dir(golden().join("plan")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = vec![];
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let now = rendered(&shop, &text);
        if now == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, now).unwrap();
            continue;
        }
        let differs = now.lines().zip(text.lines()).find(|(now, then)| now != then);
        wrong.push(format!("{}: {differs:?}", file.display()));
    }
    assert!(
        wrong.is_empty(),
        "plans changed; look, and run with UPDATE=1 when they are right:\n{}",
        wrong.join("\n")
    );
}
