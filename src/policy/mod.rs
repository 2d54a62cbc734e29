//! Who may see what: principals, rules, the one decision, masks and limits. Pure: time is an argument.
//!
//! Guarantees: [`Policy::decide`] is total and always names the rule or the absence of one; only it makes a
//! [`Disclosure`] other than through [`Disclosure::withheld`]. Deliberately absent: SQL, sessions, I/O, clocks.

pub mod budget;
pub mod decide;
pub mod form;
pub mod hours;
pub mod mask;
pub mod matrix;
pub mod shadow;
pub mod why;

use crate::catalog::Domain;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

pub use crate::catalog::Action;
pub use form::{Form, Mask};
pub use mask::QUICK_BYTES;

/// Who is speaking, after a successful exchange. Made only in `auth` (and by `explain`, which discloses nothing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    user: String,
    /// Role memberships that the database vouches for; counted only where `trust_database_roles` says so.
    database_roles: BTreeSet<String>,
}

/// Of every user of a database its roles there, as for [`Principal::database_roles`].
pub type Memberships = HashMap<String, BTreeSet<String>>;

impl Principal {
    /// What the database vouches for now; a user that it does not know has no roles there.
    pub fn follow(&mut self, memberships: &Memberships) {
        self.database_roles = memberships.get(&self.user).cloned().unwrap_or_default();
    }
    /// Only `auth` and `cli::explain` may call this: a test reads the sources for it.
    pub(crate) fn authenticated(user: String, database_roles: BTreeSet<String>) -> Principal {
        Principal { user, database_roles }
    }
    /// A principal for planning without a session: what `explain` and golden plans judge by. Nothing is disclosed to it,
    /// since there is no connection to disclose to.
    pub fn assumed(user: String) -> Principal {
        Principal { user, database_roles: BTreeSet::new() }
    }
    pub fn user(&self) -> &str {
        &self.user
    }
    pub fn database_roles(&self) -> &BTreeSet<String> {
        &self.database_roles
    }
}

/// The form in which a value may be shown: a right, which only [`Policy::decide`] gives. `PartialOrd`-free on
/// purpose: revealing order is `decide`'s business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Disclosure(Form);

impl Disclosure {
    pub fn form(&self) -> Form {
        self.0
    }
    pub fn is_clear(&self) -> bool {
        matches!(self.0, Form::Clear)
    }
    /// The disclosure that shows nothing: always allowed.
    pub fn withheld() -> Disclosure {
        Disclosure(Form::Withheld)
    }
    /// As [`Form::name`].
    pub fn name(&self) -> Cow<'static, str> {
        self.0.name()
    }
    /// As [`Form::kind`].
    pub fn kind(&self) -> &'static str {
        self.0.kind()
    }
}

/// What is true of the session and the moment, for a rule's conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Unix time in seconds.
    pub now: i64,
    /// The client's address; `None` over a Unix socket.
    pub address: Option<IpAddr>,
    /// `SET pgveil.purpose`.
    pub purpose: Option<String>,
    /// When the second factor was last given, Unix seconds.
    pub second_factor_at: Option<i64>,
    /// When `SET pgveil.break_glass` was last given a reason, Unix seconds.
    pub glass_broken_at: Option<i64>,
}

/// Limits of one rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RowLimits {
    pub rows_per_statement: Option<u64>,
    pub rows_per_hour: Option<u64>,
    pub rows_per_day: Option<u64>,
}

impl RowLimits {
    /// Whether there is any.
    pub fn are_set(&self) -> bool {
        self.rows_per_statement.is_some() || self.is_shared()
    }
    /// Whether what was taken before counts: then all proxies count together.
    pub fn is_shared(&self) -> bool {
        self.rows_per_hour.is_some() || self.rows_per_day.is_some()
    }
    /// The limits that are counted over time.
    pub fn shared(&self) -> impl Iterator<Item = (budget::Span, u64)> {
        let limits = [(budget::Span::Hour, self.rows_per_hour), (budget::Span::Day, self.rows_per_day)];
        limits.into_iter().filter_map(|(span, limit)| Some((span, limit?)))
    }

    /// How many values one statement may compare under an oracle ruling with these limits.
    pub fn comparisons_per_statement(&self) -> u64 {
        self.rows_per_statement.unwrap_or(COMPARISONS_PER_STATEMENT_DEFAULT)
    }
}

/// Values that one statement may compare under an oracle ruling whose rule sets no `rows_per_statement`.
pub const COMPARISONS_PER_STATEMENT_DEFAULT: u64 = 20;

/// A rule by its place in the file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    pub index: usize,
    pub name: Arc<str>,
}

/// The policy's answer for one use of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow {
        /// `None` only for `default = "null"`.
        rule: Option<RuleRef>,
        /// For `Read`, how a value is shown. For `Compare` and `Write`, how the same rule would show it.
        disclosure: Disclosure,
        limits: RowLimits,
        /// `Compare` or `Write` without clear read of the same label: every compared value, and every unique violation, is
        /// counted and recorded.
        oracle: bool,
    },
    Deny {
        /// What is missing, when some rule would allow it under other circumstances: the text of a HINT.
        hint: Option<String>,
    },
}

impl Decision {
    pub fn is_limited(&self) -> bool {
        matches!(self, Decision::Allow { limits, .. } if limits.are_set())
    }
    /// In clear, and as often as one likes.
    pub fn is_clear_without_limits(&self) -> bool {
        matches!(self, Decision::Allow { disclosure, limits, .. } if disclosure.is_clear() && !limits.are_set())
    }
}

/// What `policy.toml` gives, validated. Built by `config`.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub default_null: bool,
    pub trust_database_roles: bool,
    pub otp_minutes: u32,
    pub break_glass_minutes: u32,
    pub domains: Vec<Arc<Domain>>,
    /// Role → users.
    pub roles: std::collections::BTreeMap<String, BTreeSet<String>>,
    pub rules: Vec<Rule>,
}

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: Arc<str>,
    pub roles: Vec<String>,
    /// `pii.*`, `pii.email`, `*`.
    pub labels: Vec<String>,
    pub allow: Vec<Action>,
    pub show: Form,
    /// Allows `write` although `show` is not clear.
    pub write_blind: bool,
    pub limits: RowLimits,
    /// Conditions; empty (or false, or `None`) means that the rule does not ask for this one.
    pub purposes: Vec<String>,
    pub second_factor: bool,
    pub break_glass: bool,
    pub from: Vec<ipnet::IpNet>,
    pub hours: Option<Hours>,
}

/// `mon-fri 08:00-18:00 Europe/Berlin`. A span whose end is before its start runs past midnight and belongs to the
/// day that it starts on.
#[derive(Clone, Debug)]
pub struct Hours {
    /// As policy.toml has it, for hints.
    pub text: Arc<str>,
    /// Monday is 0.
    pub days: [bool; 7],
    /// Minutes after midnight, from inclusive, to exclusive; up to 1440, never equal.
    pub from_minute: u16,
    pub to_minute: u16,
    pub zone: jiff::tz::TimeZone,
}

impl Policy {
    /// The answer for `principal` doing `action` with a column of `domain` now.
    pub fn decide(
        &self,
        principal: &Principal,
        domain: &Domain,
        action: Action,
        circumstances: &Circumstances,
    ) -> Decision {
        decide::decide(self, principal, domain, action, circumstances)
    }

    /// Whether any rule asks for what all proxies must share: one-time codes that were used, rows of an hour or a day.
    pub fn needs_ledger(&self) -> bool {
        self.rules.iter().any(|rule| rule.second_factor || rule.limits.is_shared())
    }

    /// Whether any rule gives `principal` something for breaking the glass.
    pub fn has_glass_for(&self, principal: &Principal) -> bool {
        self.rules.iter().any(|rule| rule.break_glass && decide::means(self, rule, principal))
    }
}
