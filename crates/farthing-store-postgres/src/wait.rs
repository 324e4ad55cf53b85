//! Waiting for a database from code that does not know a runtime, or is inside of another one.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime for one thread's own waiting.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Waits for futures, wherever it is used and dropped.
pub(crate) struct Waiter(Option<Runtime>);

impl Waiter {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Some(runtime()?)))
    }

    /// Runs `future` on a thread of its own, which is right inside of another runtime too.
    pub(crate) fn wait<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let Some(runtime) = &self.0 else { unreachable!("it is there until it is dropped") };
        apart(|| runtime.block_on(future))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Another runtime forbids to wait for this one to end, and nothing in it matters any more.
            runtime.shutdown_background();
        }
    }
}

/// Does something on a thread of its own, and waits for it.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(work).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
