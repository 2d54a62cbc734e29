//! Golden plans: `tests/golden/plan/*.md` hold SQL and the plan exactly as `pgveil explain` prints it, over the small
//! world of `tests/golden/shop`. `UPDATE=1` rewrites the plans; prose and SQL are never touched.

pub use crate::fuzz::bodies::shop::{Shop, shop, shop_where};
use pgveil::plan::explain::Explained;
use pgveil::plan::{NO_NAMES, Session, plan};
use pgveil::policy::{Circumstances, Principal};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// What `explain` prints for `sql` as `user`.
pub fn explained(shop: &Shop, user: &str, purpose: Option<&str>, sql: &str) -> String {
    let principal = Principal::assumed(user.to_owned());
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: None,
        purpose: purpose.map(str::to_owned),
        second_factor_at: None,
        glass_broken_at: None,
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
        std::fs::read_dir(golden().join("plan")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let mut wrong = vec![];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let now = rendered(&shop, &text);
        if now == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, now).unwrap();
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
