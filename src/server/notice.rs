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
    /// What changed was seen elsewhere. The wait may have ended for it, and would end for nothing else any more: it begins anew with
    /// the next poll.
    pub(super) fn seen(&mut self) {
        self.0 = None;
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn world(generation: u64) -> Arc<World> {
        let policy = crate::policy::Policy::default();
        let (catalog, ciphers) = (Arc::default(), Arc::default());
        Arc::new(World { generation, catalog, policy: Arc::new(policy), ciphers, memberships: None })
    }

    #[test]
    fn what_was_seen_elsewhere_hides_no_later_change() {
        let (worlds, mut seen_worlds) = watch::channel(world(1));
        let (phases, mut seen_phases) = watch::channel(Phase::Serving);
        let wakes = Arc::new(Wakes::default());
        let waker = wakes.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut notice = Notice::default();
        assert!(!notice.poll(&mut context, &mut seen_worlds, &mut seen_phases));
        worlds.send_replace(world(2));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        // A message came first, and what it was planned by is this world.
        seen_worlds.borrow_and_update();
        notice.seen();
        assert!(!notice.poll(&mut context, &mut seen_worlds, &mut seen_phases));
        phases.send_replace(Phase::Stopping);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2, "the task sleeps on");
        assert!(notice.poll(&mut context, &mut seen_worlds, &mut seen_phases));
    }
}
