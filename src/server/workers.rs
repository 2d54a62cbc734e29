//! The threads that carry connections: one a core, each with a runtime of its own.
//!
//! A connection stays on the thread that it was given to, so that neither its task nor its wake-ups cross threads; new ones go
//! to the thread that has fewest. Measured against one runtime that steals work (`benches/README.md`): less CPU a transaction,
//! for less evenness when few connections do much. Guarantee: dropping this ends the threads, and what runs on them.
//! Deliberately absent: listeners, the admin endpoint and polling, which stay on the caller's runtime.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

pub struct Workers {
    workers: Vec<Worker>,
    /// Dropped with this: the threads wait for it.
    _living: watch::Sender<()>,
}

struct Worker {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
}

/// Counts a connection for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// One thread for each core that this process may use.
    ///
    /// # Errors
    /// The system gives no thread, or no poller.
    pub fn start() -> io::Result<Workers> {
        let (living, waits) = watch::channel(());
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let workers = (0..cores).map(|core| Worker::start(core, waits.clone())).collect::<io::Result<_>>()?;
        Ok(Workers { workers, _living: living })
    }

    /// Runs a connection on the thread that has fewest.
    pub fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let least = self.workers.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        let worker = least.expect("there is at least one core");
        worker.connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(worker.connections.clone());
        worker.runtime.spawn(async move {
            connection.await;
            drop(counted);
        });
    }
}

impl Worker {
    fn start(core: usize, mut living: watch::Receiver<()>) -> io::Result<Worker> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let run = move || runtime.block_on(async { while living.changed().await.is_ok() {} });
        thread::Builder::new().name(format!("worker-{core}")).spawn(run)?;
        Ok(Worker { runtime: handle, connections: Arc::default() })
    }
}
