//! The one-rule decision of design Part 1.

use super::{Action, Circumstances, Decision, Policy, Principal};
use crate::catalog::Domain;

pub(super) fn decide(
    _policy: &Policy,
    _principal: &Principal,
    _domain: &Domain,
    _action: Action,
    _circumstances: &Circumstances,
) -> Decision {
    todo!()
}
