//! A statement that we will not send: the only error text of ours that a client reads in full.

/// Why, closed; the label of `pgveil_refusals_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Policy does not give it: 42501.
    Denied,
    /// A condition (purpose, second factor, hour, address) is missing: 42501 with a HINT.
    Condition,
    /// Ciphertext cannot serve this use: 0A000.
    SealedUse,
    /// Not understood and could touch a tagged column: 0A000.
    NotUnderstood,
    /// Row limit or budget spent: 53400.
    Limit,
    /// The value does not fit the logical type: PostgreSQL's SQLSTATE.
    Value,
    /// A one-time code does not count: 28P01, 28000, or 58030 where that cannot be known.
    SecondFactor,
    /// What a session may not change: 0A000.
    Setting,
    /// A relation whose tags cannot be applied: 55000.
    Broken,
    /// Rows of an hour or a day cannot be counted: 58030.
    Uncounted,
    /// The log cannot be written: 58030.
    Unrecorded,
}

impl Reason {
    /// Metric label.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::Denied => "denied",
            Reason::Condition => "condition",
            Reason::SealedUse => "sealed_use",
            Reason::NotUnderstood => "not_understood",
            Reason::Limit => "limit",
            Reason::Value => "value",
            Reason::SecondFactor => "second_factor",
            Reason::Setting => "setting",
            Reason::Broken => "broken",
            Reason::Uncounted => "uncounted",
            Reason::Unrecorded => "unrecorded",
        }
    }
}

/// What the client reads. Never contains a literal, a parameter or a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub sqlstate: &'static str,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Byte offset into the client's text; the relay turns it into PostgreSQL's 1-based character position.
    pub position: Option<usize>,
    /// What was refused, for the record: (`schema.table.column`, label, action).
    pub uses: Vec<(String, String, crate::policy::Action)>,
}

impl Refusal {
    pub fn new(reason: Reason, sqlstate: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            sqlstate,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            uses: vec![],
        }
    }
    /// A statement that was prepared means something else now: the database, the tags or the policy changed under it.
    pub fn changed() -> Refusal {
        // `plancache.c`
        Refusal::new(Reason::Condition, "0A000", "cached plan must not change result type")
            .hint("Prepare the statement again.")
    }
    /// Whether preparing the statement again would help, as after [`Refusal::changed`].
    pub fn is_changed(&self) -> bool {
        self.message == Refusal::changed().message
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Refusal {
        self.hint = Some(hint.into());
        self
    }
    pub fn detail(mut self, detail: impl Into<String>) -> Refusal {
        self.detail = Some(detail.into());
        self
    }
    pub fn at(mut self, position: usize) -> Refusal {
        self.position.get_or_insert(position);
        self
    }
}

impl From<crate::sql::Problem> for Refusal {
    fn from(problem: crate::sql::Problem) -> Refusal {
        use crate::sql::Trouble;
        let reason = match problem.trouble {
            Trouble::SealedUse => Reason::SealedUse,
            Trouble::NotUnderstood => Reason::NotUnderstood,
            Trouble::Setting => Reason::Setting,
            Trouble::Broken => Reason::Broken,
            Trouble::Unresolved | Trouble::Mismatch => Reason::Value,
        };
        Refusal {
            reason,
            sqlstate: problem.sqlstate,
            message: problem.message,
            detail: problem.detail,
            hint: problem.hint,
            position: problem.position,
            uses: vec![],
        }
    }
}
