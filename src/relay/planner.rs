//! The seam between the conversation and planning: the plan cache in production, canned plans in tests.

use super::World;
use crate::plan::cache::PlanCache;
use crate::plan::{Script, Session};
use std::sync::Arc;

/// Decides a client's text. The flag says whether the plan was in a cache; `None` when there is none.
pub trait Planner: Send + Sync {
    fn plan(
        &self,
        text: &str,
        declared: &[u32],
        world: &World,
        session: &Session<'_>,
    ) -> (Arc<Script>, Option<bool>);
    /// How many plans are kept.
    fn entries(&self) -> usize {
        0
    }
}

impl Planner for PlanCache {
    fn plan(
        &self,
        text: &str,
        declared: &[u32],
        world: &World,
        session: &Session<'_>,
    ) -> (Arc<Script>, Option<bool>) {
        let (script, found) =
            PlanCache::plan(self, text, declared, world.generation, &world.catalog, &world.policy, session);
        (script, Some(found))
    }
    fn entries(&self) -> usize {
        self.len()
    }
}
