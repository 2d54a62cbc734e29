//! The small world of `tests/golden/shop`: its policy and tags through the real loader, its catalog from text.

use pgveil::catalog::build::build;
use pgveil::catalog::queries::{RawCatalog, RawColumn, RawRelation, RawType};
use pgveil::catalog::{Catalog, Seal};
use pgveil::policy::Policy;
use std::fs;
use std::path::{Path, PathBuf};

pub struct Shop {
    pub catalog: Catalog,
    pub policy: Policy,
}

/// Where the files are, seen from the product's folder and from this one.
fn folder() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = [own.join("tests/golden/shop"), own.join("../tests/golden/shop")];
    found.into_iter().find(|folder| folder.is_dir()).expect("tests/golden/shop")
}

/// The world of the golden files: policy and tags through the real loader, the catalog from its text.
pub fn shop() -> Shop {
    shop_where(|text| text, 1)
}

/// The same after the database changed.
pub fn shop_where(change: impl FnOnce(String) -> String, generation: u64) -> Shop {
    let config = pgveil::config::load_unprepared(&folder())
        .unwrap_or_else(|mistakes| panic!("tests/golden/shop: {mistakes:#?}"));
    let text = change(fs::read_to_string(folder().join("catalog.txt")).unwrap());
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
    let catalog = build(raw, &config.tags, "shop", generation, None);
    Shop { catalog, policy: config.policy }
}
