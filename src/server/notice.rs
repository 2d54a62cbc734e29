//! Wakes a connection's task when the world or the server's phase changes.
//!
//! Looking whether one has is an atomic read, done each turn; to be woken costs a place in the sender's list, taken once for
//! each change and not once a turn. Guarantee: after a poll that found nothing, the task is woken by the next change.

use super::shutdown::Phase;
use crate::relay::World;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::sync::watch;

/// Ends when either changes.
type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Default)]
pub(super) struct Notice(Option<(Change, Waker)>);

impl Notice {
    /// Whether one of them has changed since it was last seen. Until the next poll both count as seen.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        worlds: &mut watch::Receiver<Arc<World>>,
        phase: &mut watch::Receiver<Phase>,
    ) -> bool {
        let mut changed = false;
        loop {
            // A sender that is gone changes nothing any more.
            if worlds.has_changed().unwrap_or(false) || phase.has_changed().unwrap_or(false) {
                worlds.mark_unchanged();
                phase.mark_unchanged();
                self.0 = None;
                changed = true;
            }
            if self.0.as_ref().is_some_and(|(_, waker)| waker.will_wake(context.waker())) {
                return changed;
            }
            let mut change = wait(worlds.clone(), phase.clone());
            if change.as_mut().poll(context) == Poll::Pending {
                self.0 = Some((change, context.waker().clone()));
                return changed;
            }
        }
    }
}

fn wait(mut worlds: watch::Receiver<Arc<World>>, mut phase: watch::Receiver<Phase>) -> Change {
    Box::pin(async move {
        tokio::select! {
            Ok(()) = worlds.changed() => {}
            Ok(()) = phase.changed() => {}
            else => std::future::pending().await,
        }
    })
}
