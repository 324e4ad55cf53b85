//! Moving what was written from the write-ahead log into the file, beside the writer.
//!
//! A checkpoint copies pages and syncs twice; done by the writer, everybody would wait for it. A
//! second connection does the bulk of it while the writer goes on, and the writer itself only the
//! rest, after which the log starts over at its beginning and does not grow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use rusqlite::Connection;

/// After how many records the log is worth copying: a few megabytes.
const RECORDS: usize = 8_192;

/// The writer's half. The other one starts when there is something to copy: most openings of a small
/// book never need it.
pub(crate) struct Checkpoint {
    path: PathBuf,
    since: usize,
    ask: Option<Sender<()>>,
    copied: Arc<AtomicBool>,
}

impl Checkpoint {
    /// For the book at `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), since: 0, ask: None, copied: Arc::default() }
    }

    /// Called after each commit of `records`, by the one who writes through `connection`.
    pub(crate) fn committed(&mut self, records: usize, connection: &Connection) {
        let before = self.since;
        self.since = before.saturating_add(records);
        if before < RECORDS && self.since >= RECORDS {
            self.ask();
        }
        if self.copied.swap(false, Ordering::Acquire) {
            passive(connection);
            self.since = 0;
        }
    }

    /// Asks the other half to copy, which ends when this one is dropped. Where it cannot be started
    /// the writer copies all by itself, after its next commit.
    fn ask(&mut self) {
        if self.ask.is_none() {
            self.ask = self.start().ok();
        }
        if self.ask.as_ref().is_none_or(|ask| ask.send(()).is_err()) {
            self.ask = None;
            self.copied.store(true, Ordering::Release);
        }
    }

    fn start(&self) -> Result<Sender<()>, Box<dyn std::error::Error>> {
        let connection = Connection::open(&self.path)?;
        let (ask, asked) = mpsc::channel();
        let copied = Arc::clone(&self.copied);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        thread.spawn(move || copy(&connection, &asked, &copied))?;
        Ok(ask)
    }
}

fn copy(connection: &Connection, asked: &Receiver<()>, copied: &AtomicBool) {
    while asked.recv().is_ok() {
        passive(connection);
        copied.store(true, Ordering::Release);
    }
}

/// Copies what can be copied without waiting for anybody. What cannot stays in the log, where it is
/// as safe, until the next time; so that a failure here is no failure of the book.
fn passive(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}
