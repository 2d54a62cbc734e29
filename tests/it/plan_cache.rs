//! The plan cache: one plan for what is the same in everything that decides, never for what is not; bounded; planned once.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Barrier;

use crate::golden::{Shop, shop};
use pgveil::plan::cache::PlanCache;
use pgveil::plan::{NO_NAMES, Session};
use pgveil::policy::{Circumstances, Principal};

const SELECT: &str = "select email from customers where email = 'a@x.org'";

/// Everything that a plan depends on beside the policy.
#[derive(Clone, Debug)]
struct Asked {
    text: String,
    declared: Vec<u32>,
    world: u64,
    user: &'static str,
    path: Vec<String>,
    purpose: Option<String>,
    second_factor_at: Option<i64>,
    glass_broken_at: Option<i64>,
    address: Option<IpAddr>,
}

fn asked(text: &str) -> Asked {
    Asked {
        text: text.to_owned(),
        declared: vec![],
        world: 1,
        user: "shop",
        path: vec!["public".to_owned()],
        purpose: None,
        second_factor_at: None,
        glass_broken_at: None,
        address: None,
    }
}

/// Whether the plan was there.
fn plan(cache: &PlanCache, shop: &Shop, asked: &Asked) -> bool {
    let principal = Principal::assumed(asked.user.to_owned());
    let circumstances = Circumstances {
        now: 1_795_000_000,
        address: asked.address,
        purpose: asked.purpose.clone(),
        second_factor_at: asked.second_factor_at,
        glass_broken_at: asked.glass_broken_at,
    };
    let session = Session {
        principal: &principal,
        circumstances: &circumstances,
        search_path: &asked.path,
        named: &NO_NAMES,
    };
    cache.plan(&asked.text, &asked.declared, asked.world, &shop.catalog, &shop.policy, &session).1
}

fn cache(entries: usize) -> PlanCache {
    PlanCache::new(entries, [3; 16])
}

#[test]
fn no_two_rights_or_generations_share_a_plan() {
    let (cache, shop) = (cache(1000), shop());
    let first = asked(SELECT);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let different = [
        Asked { text: format!("{SELECT} "), ..first.clone() },
        Asked { declared: vec![25], ..first.clone() },
        Asked { declared: vec![0], ..first.clone() },
        Asked { declared: vec![0, 0], ..first.clone() },
        Asked { world: 2, ..first.clone() },
        Asked { user: "app2", ..first.clone() },
        Asked { path: names(&["public", "archive"]), ..first.clone() },
        Asked { path: names(&["archive", "public"]), ..first.clone() },
        Asked { path: names(&["public,archive"]), ..first.clone() },
        Asked { path: names(&["public", ""]), ..first.clone() },
        Asked { purpose: Some("support".to_owned()), ..first.clone() },
        Asked { purpose: Some(String::new()), ..first.clone() },
        Asked { second_factor_at: Some(1), ..first.clone() },
        Asked { glass_broken_at: Some(1), ..first.clone() },
        Asked { address: Some("10.0.0.1".parse().unwrap()), ..first.clone() },
        Asked { address: Some("10.0.0.2".parse().unwrap()), ..first.clone() },
        Asked { address: Some("::ffff:10.0.0.1".parse().unwrap()), ..first.clone() },
    ];
    assert!(!plan(&cache, &shop, &first));
    for (index, other) in different.iter().enumerate() {
        let found = plan(&cache, &shop, other);
        assert!(!found, "{index}: {other:?}");
    }
    // A later moment of the same circumstances is judged when it is executed.
    assert!(plan(&cache, &shop, &first));
    assert!(plan(&cache, &shop, &Asked { second_factor_at: Some(2), ..first.clone() }));
    let mut catalog = shop.catalog.clone();
    catalog.generation += 1;
    let renewed = Shop { catalog, policy: shop.policy.clone() };
    assert!(!plan(&cache, &renewed, &first));
}

#[test]
fn refusals_and_what_stops_here_are_not_kept() {
    let (cache, shop) = (cache(1000), shop());
    for text in [
        "select email from customers order by email",
        "set pgveil.otp = '123456'",
        "select 1 from missing_customers",
    ] {
        plan(&cache, &shop, &asked(text));
    }
    assert!(!plan(&cache, &shop, &asked("set pgveil.otp = '123456'")));
    assert!(!plan(&cache, &shop, &asked("select email from customers order by email")));
    assert!(!plan(&cache, &shop, &Asked { user: "nobody", ..asked(SELECT) }));
    assert!(!plan(&cache, &shop, &Asked { user: "nobody", ..asked(SELECT) }));
}

#[test]
fn what_is_used_stays_and_the_rest_makes_room() {
    let (cache, shop) = (cache(64), shop());
    let mut found = 0;
    for number in 0..1000 {
        plan(&cache, &shop, &asked(&format!("{SELECT} or id = {number}")));
        found += u32::from(plan(&cache, &shop, &asked(SELECT)));
        assert!(cache.len() <= 64, "{} plans", cache.len());
    }
    assert_eq!(found, 999, "a plan in use is never made twice");
    // A long text takes the room of many, or is not kept at all.
    let long =
        |bytes: usize, number: usize| asked(&format!("{SELECT} or id = {number} -- {}", "x".repeat(bytes)));
    for number in 0..200 {
        plan(&cache, &shop, &long(3000, number));
    }
    assert!(cache.len() <= 21, "{} plans of 3 kB", cache.len());
    plan(&cache, &shop, &long(6000, 0));
    assert!(!plan(&cache, &shop, &long(6000, 0)), "longer than its share");
    let none = PlanCache::new(0, [0; 16]);
    plan(&none, &shop, &asked(SELECT));
    assert!(!plan(&none, &shop, &asked(SELECT)) && none.is_empty());
}

#[test]
fn what_many_miss_at_one_time_is_planned_once() {
    let (cache, shop) = (cache(1000), shop());
    let texts: Vec<String> = (0..50).map(|number| format!("{SELECT} or id = {number}")).collect();
    let barrier = Barrier::new(4);
    let made: usize = std::thread::scope(|scope| {
        let run = || {
            let all = texts.iter().map(|text| {
                barrier.wait();
                usize::from(!plan(&cache, &shop, &asked(text)))
            });
            all.sum::<usize>()
        };
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(made, texts.len());
    assert_eq!(cache.len(), texts.len());
    let distinct: BTreeSet<&String> = texts.iter().collect();
    assert_eq!(distinct.len(), texts.len());
}
