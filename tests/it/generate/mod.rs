//! A seeded generator of SQL statements over `shop.rs`: everything that sealed columns give meaning to, and now and then
//! what they refuse.
//!
//! A statement is made to give the same rows in any order on any database with the same rows: LIMIT stands only behind
//! an order by a key, aggregates that keep order are told one, and what could give several rows to a scalar is bound to
//! a key. It remembers which constructs it has, so that what is refused can be counted by them.

mod expression;
mod predicate;
mod query;
mod structured;
mod wrapped;
mod write;

pub use write::binary;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::shop::{self, Column, Kind, Power, Relation};

/// A value that goes with a statement.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The OID that the client declares, 0 for none.
    pub declared: u32,
    pub kind: Kind,
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Statement {
    pub sql: String,
    pub parameters: Vec<Parameter>,
    pub constructs: BTreeSet<&'static str>,
    /// The rows come in one order.
    pub ordered: bool,
    pub writes: bool,
    /// Has something that ciphertext cannot serve.
    pub forbidden: bool,
    /// What is said after it, in its transaction: what it defined is used.
    pub then: Vec<String>,
}

/// One item of FROM, as its columns are referred to.
#[derive(Clone, Debug)]
struct Source {
    alias: String,
    columns: Vec<Column>,
    /// `alias.id` is one row's.
    keyed: bool,
}

/// What expressions can see.
#[derive(Clone, Debug, Default)]
struct Scope {
    sources: Vec<Source>,
    /// Of the queries around, those that no inner alias hides.
    outer: Vec<Source>,
}

impl Scope {
    /// What a query inside sees of this one.
    fn inside(&self) -> Scope {
        let outer = self.sources.iter().chain(&self.outer).cloned().collect();
        Scope { sources: Vec::new(), outer }
    }
}

/// The values that an expression has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Type {
    kind: Kind,
    power: Power,
    domain: &'static str,
}

impl Type {
    fn of(column: &Column) -> Type {
        Type { kind: column.kind, power: column.power, domain: column.domain }
    }

    const fn plain(kind: Kind) -> Type {
        let domain = match kind {
            Kind::Int => "id",
            Kind::Bool => "bool",
            _ => "note",
        };
        Type { kind, power: Power::Untagged, domain }
    }

    fn sealed(self) -> bool {
        matches!(self.power, Power::Compare | Power::Move)
    }

    /// Equality is defined: every type's but randomized ones'.
    fn comparable(self) -> bool {
        self.power != Power::Move && self.kind != Kind::Json
    }
}

pub struct Generator {
    random: StdRng,
    relations: Vec<Relation>,
    statement: Statement,
    /// Whether parameters may be used.
    parameters: bool,
    /// All of them get a type.
    declared: bool,
    depth: u32,
    aliases: u32,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator {
            random: StdRng::seed_from_u64(seed),
            relations: shop::relations(),
            statement: Statement::default(),
            parameters: false,
            declared: false,
            depth: 0,
            aliases: 0,
        }
    }

    /// The next statement.
    pub fn statement(&mut self) -> Statement {
        self.statement = Statement::default();
        self.parameters = self.chance(40);
        self.depth = 0;
        self.aliases = 0;
        let sql = match self.below(100) {
            0..58 => self.top_query(),
            58..84 => self.write(),
            84..95 => self.wrapped(),
            _ => {
                let mistake = self.mistake();
                if !mistake.contains('$') {
                    self.statement.parameters.clear();
                }
                mistake
            }
        };
        let mut statement = std::mem::take(&mut self.statement);
        statement.sql = sql;
        statement
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    fn below(&mut self, end: u32) -> u32 {
        self.random.random_range(0..end)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        from.choose(&mut self.random).expect("there is one to pick")
    }

    fn uses(&mut self, construct: &'static str) {
        self.statement.constructs.insert(construct);
    }

    /// As [`Generator::uses`], of what may be refused for good.
    fn forbids(&mut self, construct: &'static str) {
        self.statement.forbidden = true;
        self.uses(construct);
    }

    /// An alias; often one that a query around has as well.
    fn alias(&mut self, taken: &[Source]) -> String {
        loop {
            let letter = ["a", "b", "c", "t", "email", "\"T\"", "x1"][self.below(7) as usize];
            if taken.iter().all(|source| source.alias != letter) {
                return letter.to_owned();
            }
            self.aliases += 1;
            if self.aliases.is_multiple_of(4) {
                return format!("s{}", self.aliases);
            }
        }
    }

    fn relation(&mut self) -> Relation {
        let weights = [14, 12, 8, 2, 2, 5, 2, 5, 3, 2, 3, 2, 1];
        let mut left = self.below(weights.iter().sum());
        for (relation, weight) in self.relations.iter().zip(weights) {
            if left < weight {
                return relation.clone();
            }
            left -= weight;
        }
        self.relations[0].clone()
    }

    fn relation_named(&self, name: &str) -> Relation {
        self.relations.iter().find(|relation| relation.name == name).expect("a relation of the shop").clone()
    }
}
