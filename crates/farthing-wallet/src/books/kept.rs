//! A book that is kept open between steps, and handed to another process that waits for it.
//!
//! ```text
//! a step ─► open? ─ yes ─► use it
//!             │ no
//!             ▼
//!           open it, and look every few milliseconds ─┬─ another process waits ─► let go of it, and pause
//!                                                     └─ nobody uses it ────────► let go of it
//! ```
//!
//! Whoever waits for the book says so with an empty file beside it. What is under way when it is let go is finished
//! first; its last user closes it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_money::Timestamp;
use farthing_store_sqlite::SqliteStore;
use tokio::sync::Mutex;

use super::{BUSY_PAUSE, BooksError};

#[cfg(test)]
mod tests;

/// How often it is looked whether the book should be let go.
const LOOK: Duration = Duration::from_millis(10);

/// How long the book is kept that nobody uses.
const IDLE: Duration = Duration::from_millis(200);

/// How long nobody here opens the book once it was let go for another process: longer than it pauses.
const YIELD: Duration = Duration::from_millis(50);

const _: () = assert!(YIELD.as_millis() > BUSY_PAUSE.as_millis().saturating_mul(2));

/// A book that is kept open for a while. Clones are the same.
#[derive(Clone)]
pub struct OpenBook(Arc<Inner>);

struct Inner {
    path: PathBuf,
    open: Mutex<State>,
}

#[derive(Default)]
struct State {
    store: Option<Arc<SqliteStore>>,
    used_at: Option<Instant>,
    /// Until when it is another process's turn.
    yields_until: Option<Instant>,
}

impl OpenBook {
    /// The book at `path`, which is opened at the first step.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(Arc::new(Inner { path: path.to_owned(), open: Mutex::default() }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// The open book.
    pub(super) async fn store(&self, now: Timestamp) -> Result<Arc<SqliteStore>, BooksError> {
        let mut state = self.0.open.lock().await;
        state.used_at = Some(Instant::now());
        // One that could not write is of no use any more.
        if let Some(store) = state.store.as_ref().filter(|store| store.is_running()) {
            return Ok(Arc::clone(store));
        }
        state.store = None;
        if let Some(until) = state.yields_until.take() {
            tokio::time::sleep_until(until.into()).await;
        }
        let store = Arc::new(super::open(&self.0.path, now).await?);
        state.store = Some(Arc::clone(&store));
        state.used_at = Some(Instant::now());
        drop(state);
        tokio::spawn(look_after(Arc::downgrade(&self.0), Arc::downgrade(&store)));
        Ok(store)
    }
}

/// Lets go of the book when it is time to.
async fn look_after(book: std::sync::Weak<Inner>, store: std::sync::Weak<SqliteStore>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(book) = book.upgrade() else { return };
        let mut state = book.open.lock().await;
        let is_same = state.store.as_ref().is_some_and(|it| Arc::as_ptr(it) == store.as_ptr());
        if !is_same {
            return;
        }
        let is_wanted = wanted(&book.path).exists();
        let is_idle = state.used_at.is_none_or(|at| at.elapsed() >= IDLE);
        if is_wanted {
            wanted_no_more(&book.path);
            state.yields_until = Instant::now().checked_add(YIELD);
        }
        if is_wanted || is_idle {
            let store = state.store.take();
            drop(state);
            // Closing waits for the disk.
            let _ = tokio::task::spawn_blocking(move || drop(store)).await;
            return;
        }
    }
}

/// The file that says that somebody waits.
fn wanted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wanted");
    name.into()
}

/// Says that somebody waits for the book. Where that cannot be said, whoever has it lets go when it is idle.
pub(super) fn want(path: &Path) {
    let _ = std::fs::write(wanted(path), []);
}

/// Takes that back.
pub(super) fn wanted_no_more(path: &Path) {
    let _ = std::fs::remove_file(wanted(path));
}
