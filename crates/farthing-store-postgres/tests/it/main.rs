//! The PostgreSQL store against the suite every store must pass, and what only a database that others
//! share can go through.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]

mod commits;
mod copies;
mod database;
mod disk;
mod erasing;
mod gateways;
mod processes;
mod standby;
mod tampering;
mod tls;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use farthing_core::Store;
use farthing_ledger::Record;
use farthing_money::Timestamp;
use farthing_store_postgres::{Address, Options, PostgresStore, Reader};
use farthing_testkit::postgres::Cluster;
use farthing_testkit::store::{Opened, Stores};

/// A book in the server that all tests share.
struct Postgres {
    url: String,
    book: String,
    options: Options,
}

impl Postgres {
    fn new(options: Options) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let book = format!("book {}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self { url: Cluster::shared().url(), book, options }
    }

    fn address(&self) -> Address {
        Address::parse(&self.url).unwrap()
    }

    fn store(&self, now: Timestamp) -> PostgresStore {
        PostgresStore::open(self.address(), &self.book, &self.options, now).unwrap()
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.address(), &self.book).unwrap()
    }

    /// Says something to the database.
    fn sql(&self, statement: &str) -> Result<String, String> {
        let statement = statement.replace("$book", &format!("'{}'", self.book));
        farthing_testkit::postgres::ask(&self.url, &statement)
    }
}

/// A lease that is soon lost.
fn short() -> Options {
    Options {
        lease_ttl: Duration::from_secs(1),
        patience: Duration::from_secs(20),
        ..Options::default()
    }
}

/// A lease that lasts longer than a test.
fn long() -> Options {
    Options { lease_ttl: Duration::from_mins(10), ..Options::default() }
}

/// Whoever still delivers in the background lets go before the book can be opened again.
fn opened(store: Arc<PostgresStore>) -> Opened {
    let port: Arc<dyn Store> = store.clone();
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

impl Stores for Postgres {
    fn open(&self, now: Timestamp) -> Opened {
        opened(Arc::new(self.store(now)))
    }

    fn journal(&self) -> Vec<Record> {
        let reader = self.reader();
        // Whatever the story, the book is what was written, to whoever looks much later.
        let later = farthing_testkit::store::START.after(Duration::from_hours(24 * 365));
        reader.verify(Vec::new(), later).unwrap();
        reader.journal().unwrap()
    }
}

farthing_testkit::store_suite!(Postgres::new(Options::default()));

/// The same stories with a snapshot after every other record, so that every start reads one.
mod with_snapshots {
    use super::{Options, Postgres};

    farthing_testkit::store_suite!(Postgres::new(Options {
        writer: farthing_store_writer::Options {
            snapshot_every: 2,
            batch_max: 3,
            ..farthing_store_writer::Options::default()
        },
        ..Options::default()
    }));
}

/// The same stories told to a gateway that does not write: everything goes over the link.
mod over_the_link {
    use std::sync::Arc;

    use farthing_ledger::Record;
    use farthing_money::Timestamp;
    use farthing_store_postgres::Role;
    use farthing_testkit::store::{Opened, Stores};

    use super::{Options, Postgres, opened};

    struct Linked(Postgres);

    impl Stores for Linked {
        fn open(&self, now: Timestamp) -> Opened {
            let writer = self.0.store(now);
            let forwards = Arc::new(self.0.store(now));
            assert_eq!((writer.role(), forwards.role()), (Role::Writes, Role::Forwards));
            // The one that forwards goes first, so that all it was told has arrived.
            let Opened { store, close } = opened(forwards);
            Opened::closed_by(store, move || {
                close.unwrap()();
                drop(writer);
            })
        }

        fn journal(&self) -> Vec<Record> {
            self.0.journal()
        }
    }

    farthing_testkit::store_suite!(Linked(Postgres::new(Options::default())));
}
