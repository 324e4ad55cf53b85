//! The book of a gateway that is killed: a file, or a database that outlives it.

use std::path::PathBuf;
use std::sync::Mutex;

use farthing_gateway::BookReader;
use farthing_ledger::{PaymentId, Record, Story};
use farthing_store_postgres::{Address, Reader as Rows};
use farthing_store_sqlite::Reader;
use farthing_testkit::postgres::{Begun, Cluster, begin};

use crate::world::World;

/// Where the book is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    File,
    Database,
}

impl Place {
    /// What the point is called in the table.
    pub(crate) fn name(self, point: &str) -> String {
        match self {
            Self::File => point.to_owned(),
            Self::Database => format!("{point}, PostgreSQL"),
        }
    }
}

/// A book.
pub(crate) enum Book {
    File(PathBuf),
    /// One connection for everything that is read of it.
    Database(String, Box<Mutex<BookReader>>),
}

/// Somebody else who writes, a backup for example, and leaves nothing behind.
pub(crate) enum Blocker {
    File(rusqlite::Connection),
    Database(Begun),
}

impl Book {
    /// Makes the book of a world at a place; `toml` is its configuration, with a file's.
    pub(crate) fn make(world: &World, place: Place, toml: &str) -> Self {
        if place == Place::File {
            world.write("farthing.toml", toml);
            return Self::File(world.path("book.db"));
        }
        let url = Cluster::shared().new_database();
        let store = "postgres = \"env:DATABASE\"\nbook = \"shop\"\nlease_ttl_ms = 1000";
        world.write("farthing.toml", &toml.replace("sqlite = \"book.db\"", store));
        world.write("database", &url);
        let did = world.did();
        world.farthing(&["prepaid", "attach", &did, "agent-inc"]).ok();
        let fund = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "first"];
        world.farthing(&fund).ok();
        let reader = Rows::open(&Address::parse(&url).unwrap(), "shop").unwrap();
        Self::Database(url, Box::new(Mutex::new(BookReader::Postgres(reader))))
    }

    /// The story of a payment, if it has one.
    pub(crate) fn story(&self, payment: PaymentId) -> Option<Story> {
        let tell = |reader: &BookReader| {
            let trace = reader.trace_of_payment(payment).unwrap()?;
            Story::tell(&reader.of_trace(trace).unwrap())
        };
        self.read(tell)
    }

    /// Every record.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.read(|reader| reader.journal().unwrap())
    }

    fn read<T>(&self, read: impl FnOnce(&BookReader) -> T) -> T {
        match self {
            Self::File(path) => read(&BookReader::Sqlite(Reader::open(path).unwrap())),
            Self::Database(_, reader) => read(&reader.lock().unwrap()),
        }
    }

    /// Keeps whoever writes from writing.
    pub(crate) fn block(&self) -> Blocker {
        match self {
            Self::File(path) => {
                let blocker = rusqlite::Connection::open(path).unwrap();
                // The log is for the next gateway to find.
                let keep_the_log = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
                blocker.set_db_config(keep_the_log, true).unwrap();
                blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
                Blocker::File(blocker)
            }
            Self::Database(url, _) => {
                let lock = "LOCK TABLE farthing.journal IN SHARE ROW EXCLUSIVE MODE";
                Blocker::Database(begin(url, lock))
            }
        }
    }
}

impl Blocker {
    /// Lets everybody write again.
    pub(crate) fn end(self) {
        match self {
            Self::File(blocker) => blocker.execute_batch("ROLLBACK").unwrap(),
            Self::Database(begun) => drop(begun),
        }
    }
}
