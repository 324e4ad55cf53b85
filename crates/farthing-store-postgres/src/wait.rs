//! Waiting for a database from code that does not know a runtime.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime for one thread's own waiting.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Runs `future` on a thread of its own, which is right inside of another runtime too.
pub(crate) fn wait<T: Send>(runtime: &Runtime, future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| runtime.block_on(future));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
