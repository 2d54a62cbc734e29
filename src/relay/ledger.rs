//! What this conversation asks of the ledger that all proxies share, and what waits for the answers.
//!
//! Two things can wait: the client's message (a one-time code is tried before the statement that gives it goes to the
//! server), and rows that have come. Each waits for one answer at a time, and nothing overtakes it. Deliberately absent:
//! where the ledger is kept, and whether it can be had (the answer says so).

use super::spending::Spending;
use super::{Held, Now, Relay, Step};
use crate::audit::Event;
use crate::plan::{Local, Planned, Reason, Refusal, Script};
use crate::policy::RowLimits;
use crate::policy::budget::Span;
use crate::wire::Violation;
use std::sync::Arc;
use zeroize::Zeroizing;

/// What waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The client's message, or what is left of its text.
    Client,
    /// Rows that have come.
    Server,
}

/// What is asked. No `Debug`: a code is a secret until it was used.
pub enum Question {
    /// Whether this one-time code of the user steps the session up. Asked once, it does so never again.
    Code { user: String, code: Zeroizing<String> },
    /// Rows of what these rules give the user over time: up to `wanted` of each.
    Lease { user: String, rules: Vec<(Arc<str>, RowLimits)>, wanted: u64 },
}

/// What the ledger says.
pub enum Answer {
    Code(Tried),
    /// `None`: they cannot be counted.
    Lease(Option<Leased>),
}

/// Rows that were counted.
pub struct Leased {
    /// Of every rule, at most as many as were wanted.
    pub rows: u64,
    /// The rule, and which of its limits, that had no more.
    pub short: Option<(Arc<str>, Span)>,
}

/// What came of a one-time code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    Given,
    Wrong,
    /// It, or a later one, was given before.
    Used,
    /// Too many were wrong; for so many seconds more none is looked at.
    Locked(u64),
    /// Nobody of that name was enrolled.
    Unknown,
    /// What was used before could not be looked up or written down, so none counts.
    Unavailable,
}

impl Tried {
    /// As records and metrics have it.
    pub fn name(&self) -> &'static str {
        match self {
            Tried::Given => "given",
            Tried::Wrong => "wrong",
            Tried::Used => "used",
            Tried::Locked(_) => "locked",
            Tried::Unknown => "unknown",
            Tried::Unavailable => "unavailable",
        }
    }

    /// What the client reads, unless it was given.
    fn refusal(&self) -> Option<Refusal> {
        let (sqlstate, message, hint) = match self {
            Tried::Given => return None,
            Tried::Wrong => (
                "28P01",
                "one-time code is wrong".to_owned(),
                "Give the code that your authenticator shows now; compare the clocks if it goes on."
                    .to_owned(),
            ),
            Tried::Used => (
                "28P01",
                "one-time code was used before".to_owned(),
                "Wait for the next code of your authenticator: each is good for one time.".to_owned(),
            ),
            Tried::Locked(seconds) => (
                "28000",
                "too many wrong one-time codes".to_owned(),
                format!("Try again in {} minutes.", seconds.div_ceil(60).max(1)),
            ),
            Tried::Unknown => (
                "28000",
                "second factor is not set up for this user".to_owned(),
                "Ask the operator of pgveil: pgveil otp enroll USER.".to_owned(),
            ),
            Tried::Unavailable => (
                "58030",
                "one-time codes cannot be checked now".to_owned(),
                "Tell the operator of pgveil; its log says why.".to_owned(),
            ),
        };
        Some(Refusal::new(Reason::SecondFactor, sqlstate, message).hint(hint))
    }
}

/// What was asked and not answered.
#[derive(Default)]
pub(super) struct Asking {
    /// The client's message waits, or what is left of its text.
    pub(super) client: bool,
    /// Rows of a run wait, which count against these.
    pub(super) run: Option<(u64, Spending)>,
}

/// The one-time code of a text, where it has one.
///
/// # Errors
/// It has several, of which each would be used.
fn code(script: &Script) -> Result<Option<&Zeroizing<String>>, Refusal> {
    let mut codes = script.statements.iter().filter_map(|planned| match planned {
        Planned::Local(Local::SetOtp(code)) => Some(code),
        _ => None,
    });
    match (codes.next(), codes.next()) {
        (code, None) => Ok(code),
        _ => Err(Refusal::new(
            Reason::Setting,
            "0A000",
            "several one-time codes in one text are not supported",
        )
        .hint("Send one SET pgveil.otp at a time.")),
    }
}

impl Relay {
    /// The answer to the question of `asker`.
    ///
    /// # Errors
    /// As `server`.
    pub fn ledger_answered(
        &mut self,
        asker: Asker,
        answer: Answer,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Violation> {
        self.now = now;
        self.out.within(&self.backlog);
        let result = match asker {
            Asker::Client => {
                self.asking.client = false;
                // While a text is under way, no other message asks.
                if let Some(conversion) = &mut self.conversion {
                    conversion.answered(answer);
                } else if let Some(held) = &mut self.held {
                    held.answer = Some(answer);
                }
                Ok(())
            }
            Asker::Server => self.rows_leased(answer),
        };
        let result = result.and_then(|()| self.advance());
        self.finish(result, steps)
    }

    /// Has the code that a text gives tried, before anything of the text is sent. `Ok(None)`: the message waits.
    ///
    /// # Errors
    /// The code does not count.
    pub(super) fn try_code(&mut self, held: Held, script: &Script) -> Result<Option<Held>, Refusal> {
        match code(script)? {
            Some(code) if !held.stepped_up => self.stepped_up(held, code),
            _ => Ok(Some(held)),
        }
    }

    /// As [`try_code`](Self::try_code), of a statement that was prepared.
    pub(super) fn stepped_up(
        &mut self,
        mut held: Held,
        code: &Zeroizing<String>,
    ) -> Result<Option<Held>, Refusal> {
        if let Some(answer) = held.answer.take() {
            let tried = match answer {
                Answer::Code(tried) => tried,
                Answer::Lease(_) => Tried::Unavailable,
            };
            self.metrics.second_factor(tried.name());
            self.record(Event::SecondFactor { outcome: tried.name().to_owned() }, false);
            return match tried.refusal() {
                Some(refusal) => Err(refusal),
                None => Ok(Some(Held { stepped_up: true, ..held })),
            };
        }
        let user = self.session.principal.user().to_owned();
        self.asking.client = true;
        self.out
            .step(Step::Ask { asker: Asker::Client, question: Question::Code { user, code: code.clone() } });
        self.held = Some(held);
        Ok(None)
    }

    /// Why a command of ours is not taken, whatever comes of it.
    pub(super) fn check_local(&self, local: &Local) -> Result<(), Refusal> {
        if let Local::SetBreakGlass(Some(_)) = local
            && !self.world.policy.has_glass_for(&self.session.principal)
        {
            return Err(Refusal::new(Reason::Denied, "42501", "permission denied to break the glass")
                .detail("No rule of the policy gives this user anything for it."));
        }
        Ok(())
    }
}
