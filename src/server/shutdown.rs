//! How the server ends: SIGTERM drains, a second one stops; SIGINT stops as an interactive Ctrl-C should, draining first.

use tokio::sync::watch;

/// What connections are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Serving,
    /// No new clients; a connection closes when its transaction has ended.
    Draining,
    /// Every connection closes now.
    Stopping,
}

/// Moves the server from phase to phase; they only go forward.
#[derive(Clone)]
pub struct Shutdown(watch::Sender<Phase>);

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown(watch::Sender::new(Phase::Serving))
    }
}

impl Shutdown {
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
    /// The next phase: draining first, then stopping.
    pub fn advance(&self) {
        self.0.send_modify(|phase| {
            *phase = match phase {
                Phase::Serving => Phase::Draining,
                Phase::Draining | Phase::Stopping => Phase::Stopping,
            }
        });
    }
    pub fn stop(&self) {
        self.0.send_replace(Phase::Stopping);
    }
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }
}
