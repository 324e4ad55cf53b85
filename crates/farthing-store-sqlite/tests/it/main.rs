//! The SQLite store against the suite every store must pass, and what only a file can go through.

#![allow(clippy::unwrap_used)]

mod erasing;
mod file;
mod tampering;

use std::sync::Arc;

use farthing_core::Store;
use farthing_ledger::Record;
use farthing_money::Timestamp;
use farthing_store_sqlite::{Options, Reader, SqliteStore};
use farthing_testkit::store::{Opened, Stores};
use tempfile::TempDir;

struct Sqlite {
    folder: TempDir,
    options: Options,
}

impl Sqlite {
    fn new(options: Options) -> Self {
        Self { folder: TempDir::new().unwrap(), options }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("book.db")
    }
}

impl Stores for Sqlite {
    fn open(&self, now: Timestamp) -> Opened {
        let store = Arc::new(SqliteStore::open(&self.path(), self.options, now).unwrap());
        let port: Arc<dyn Store> = store.clone();
        // Whoever still delivers in the background lets go before the file can be opened again.
        Opened::closed_by(port, move || {
            let mut store = store;
            loop {
                match Arc::try_unwrap(store) {
                    Ok(last) => return drop(last),
                    Err(shared) => store = shared,
                }
                std::thread::yield_now();
            }
        })
    }

    fn journal(&self) -> Vec<Record> {
        let reader = Reader::open(&self.path()).unwrap();
        // Whatever the story, the book is what was written, to whoever looks much later.
        let later = farthing_testkit::store::START.after(std::time::Duration::from_hours(24 * 365));
        reader.verify(Vec::new(), later).unwrap();
        reader.journal().unwrap()
    }
}

farthing_testkit::store_suite!(Sqlite::new(Options::default()));

/// The same stories with a snapshot after every other record, so that every start reads one.
mod with_snapshots {
    use super::{Options, Sqlite};

    farthing_testkit::store_suite!(Sqlite::new(Options {
        snapshot_every: 2,
        batch_max: 3,
        ..Options::default()
    }));
}
