//! Moving what was written from the write-ahead log into the file, beside the writer.
//!
//! A checkpoint copies pages and syncs twice; done by the writer, everybody would wait for it. A
//! second connection does the bulk of it while the writer goes on, and the writer itself only the
//! rest, after which the log starts over at its beginning and does not grow.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use rusqlite::Connection;

use crate::file::OpenError;

/// After how many records the log is worth copying: a few megabytes.
const RECORDS: usize = 8_192;

/// The writer's half.
pub(crate) struct Checkpoint {
    since: usize,
    ask: Sender<()>,
    copied: Arc<AtomicBool>,
}

impl Checkpoint {
    /// Starts the other half, which ends when this one is dropped.
    pub(crate) fn start(path: &Path) -> Result<Self, OpenError> {
        let connection = Connection::open(path)?;
        let (ask, asked) = mpsc::channel();
        let copied = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&copied);
        std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || copy(&connection, &asked, &told))
            .map_err(OpenError::Io)?;
        Ok(Self { since: 0, ask, copied })
    }

    /// Called after each commit of `records`, by the one who writes through `connection`.
    pub(crate) fn committed(&mut self, records: usize, connection: &Connection) {
        let before = self.since;
        self.since = before.saturating_add(records);
        if before < RECORDS && self.since >= RECORDS {
            // Nobody listening means that this is ending.
            let _ = self.ask.send(());
        }
        if self.copied.swap(false, Ordering::Acquire) {
            passive(connection);
            self.since = 0;
        }
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
