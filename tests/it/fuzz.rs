//! The fuzz targets' bodies over random bytes and over damaged messages: what `cargo fuzz` does for hours, for a moment and
//! without nightly. A failure prints the bytes and a seed that repeats it.

#[path = "../../fuzz/src/lib.rs"]
pub mod bodies;

use bytes::BytesMut;
use pgveil::sql::lex::lex;
use pgveil::wire::{self, Limits};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Well-formed bytes to damage: the interesting paths begin where a message is almost right.
const SEEDS: [&[u8]; 14] = [
    b"Q\0\0\0\x0dselect 1\0P\0\0\0\x0es\0q\0\0\x01\0\0\0\x19S\0\0\0\x04",
    b"B\0\0\0\x1cp\0s\0\0\x01\0\x01\0\x02\0\0\0\x02ab\xff\xff\xff\xff\0\x01\0\0E\0\0\0\x0ap\0\0\0\0\x07",
    b"T\0\0\0\x1b\0\x01id\0\0\0\x40\0\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0D\0\0\0\x0b\0\x01\0\0\0\x011Z\0\0\0\x05I",
    b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0E\0\0\0\x13SERROR\0C42501\0\0",
    b"\0\0\0\x1f\0\x03\0\0user\0ada\0database\0crm\0\0",
    b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\x07\x07\x07\x07\0\0\0\x08\x04\xd2\x16\x2f",
    b"n,,n=,r=abc\0c=biws,r=abcnonce,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"r=noncemore,s=AAAAAAAAAAAAAAAAAAAAAA==,i=1\0v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"SCRAM-SHA-256$4096:AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"\0\x051\ta\\tb\t\\N\r\n2\t\\x41\\101\t\\\r\n\\.\r\n",
    b"\x02\x031,\"a\n\"\"b\",\r\n\\.\r\n",
    b"\x04\x0ePGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\x01a\xff\xff\xff\xff\xff\xff",
    b"eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6ImFkYSIsImV4cCI6MX0.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    br#"{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"},{"kty":"EC","crv":"P-256","x":"AQAB","y":"AQAB"},{"kty":"oct","k":"AQAB"}]}"#,
];

fn all(data: &[u8]) {
    bodies::frame(data);
    bodies::startup(data);
    bodies::scram(data);
    bodies::token(data);
    bodies::copy(data);
    bodies::cells(data);
}

#[test]
fn undamaged_seeds_pass_to_their_ends() {
    SEEDS.into_iter().for_each(all);
    let limits = Limits { message_bytes_max: 1 << 16 };
    for (index, seed) in SEEDS.into_iter().take(6).enumerate() {
        let mut buffer = BytesMut::from(seed);
        while match index {
            0..4 => wire::split(&mut buffer, &limits).unwrap().is_some(),
            _ => wire::startup::split(&mut buffer, &limits).unwrap().is_some(),
        } {}
        assert!(buffer.is_empty(), "seed {index} is well-formed");
    }
}

proptest! {
    #[test]
    fn random_bytes_pass(data in prop::collection::vec(any::<u8>(), 0..300)) {
        all(&data);
    }

    #[test]
    fn damaged_messages_pass(
        seed in 0..SEEDS.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..5),
    ) {
        let mut data = SEEDS[seed].to_vec();
        for (at, byte, kind) in damage {
            let at = at.index(data.len() + 1).min(data.len());
            match kind {
                0 => data.insert(at, byte),
                1 => data.truncate(at),
                _ => data.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            }
        }
        all(&data);
    }
}

/// Statements to damage.
fn statements() -> Vec<&'static str> {
    let applications = include_str!("../corpus/applications.sql").split("\n;\n");
    let twin = include_str!("../corpus/twin.sql").lines().filter(|line| !line.starts_with("--"));
    let plans = [
        include_str!("../golden/plan/compare.md"),
        include_str!("../golden/plan/define.md"),
        include_str!("../golden/plan/grammar.md"),
        include_str!("../golden/plan/nested.md"),
        include_str!("../golden/plan/write.md"),
    ];
    let golden = plans.into_iter().flat_map(|plan| {
        plan.split("```sql")
            .skip(1)
            .filter_map(|block| Some(block.split_once('\n')?.1.split_once("\n```")?.0))
    });
    applications.chain(twin).chain(golden).filter(|sql| !sql.is_empty()).collect()
}

/// Puts a statement's words in other places, and other statements' words in theirs.
fn damaged(random: &mut StdRng, statements: &[&str]) -> String {
    let words = |sql: &str| -> Vec<String> {
        let tokens = lex(sql).unwrap_or_default();
        tokens.iter().map(|token| token.text(sql).to_owned()).collect()
    };
    let mut sql = words(statements.choose(random).expect("there are some"));
    for _ in 0..random.random_range(0..4) {
        let other = words(statements.choose(random).expect("there are some"));
        let from = random.random_range(0..=other.len());
        let to = random.random_range(from..=other.len().min(from + 12));
        let at = random.random_range(0..=sql.len());
        let until = random.random_range(at..=sql.len().min(at + 6));
        match random.random_range(0..4) {
            0 => drop(sql.drain(at..until)),
            1 => drop(sql.splice(at..until, other[from..to].iter().cloned())),
            2 => drop(sql.splice(at..at, other[from..to].iter().cloned())),
            _ => {
                let copy = sql[at..until].to_vec();
                sql.splice(at..at, copy);
            }
        }
    }
    sql.join(" ")
}

fn damage(seed: u64, count: usize) {
    let statements = statements();
    assert!(statements.len() > 200, "{}", statements.len());
    for seed in seed..seed + count as u64 {
        let sql = damaged(&mut StdRng::seed_from_u64(seed), &statements);
        if let Err(panic) = std::panic::catch_unwind(|| bodies::plan(sql.as_bytes())) {
            eprintln!("seed {seed}: {sql}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn damaged_statements_are_planned_or_refused() {
    damage(1, 3000);
}

#[test]
#[ignore = "takes minutes: PGVEIL_FUZZ_SEED, PGVEIL_FUZZ_STATEMENTS"]
fn very_many_damaged_statements_are_planned_or_refused() {
    let number =
        |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    damage(number("PGVEIL_FUZZ_SEED", 1_000_000), number("PGVEIL_FUZZ_STATEMENTS", 300_000) as usize);
}
