//! Where a book is kept, whichever database it is.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::Store;
use farthing_ledger::{
    AllWrong, Fingerprint, PaymentId, Published, Record, Row as Line, TraceId, Verified,
};
use farthing_money::Timestamp;
use farthing_store_memory::MemoryStore;
use farthing_store_postgres as postgres;
use farthing_store_postgres::{Address, PostgresStore};
use farthing_store_sqlite as sqlite;
use farthing_store_sqlite::SqliteStore;

/// Where the book is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreConfig {
    /// In memory, and gone with the process.
    Memory,
    /// In a SQLite file.
    Sqlite(PathBuf),
    /// In PostgreSQL, or an engine that speaks like it.
    Postgres(Box<PostgresConfig>),
}

/// A book in PostgreSQL, and how several gateways share it.
#[derive(Clone)]
pub struct PostgresConfig {
    /// Where the database is; it may contain a password.
    pub address: Address,
    /// Where the address was found, such as `env:DATABASE_URL`.
    pub place: String,
    /// The book's name.
    pub book: String,
    /// Where this gateway listens for the others while it writes the book.
    pub listen: SocketAddr,
    /// Where the others reach that, if it is somewhere else.
    pub advertise: Option<String>,
    /// How long the lease lasts without being renewed.
    pub lease_ttl: Duration,
}

impl PartialEq for PostgresConfig {
    fn eq(&self, other: &Self) -> bool {
        let known = |it: &Self| {
            let Self { place, book, listen, advertise, lease_ttl, .. } = it;
            (place.clone(), book.clone(), *listen, advertise.clone(), *lease_ttl)
        };
        known(self) == known(other)
    }
}

impl Eq for PostgresConfig {}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, book, .. } = self;
        f.debug_struct("PostgresConfig")
            .field("place", place)
            .field("book", book)
            .finish_non_exhaustive()
    }
}

/// The open book, wherever it is kept.
#[derive(Clone)]
pub enum OpenStore {
    /// In memory.
    Memory(Arc<MemoryStore>),
    /// In a file.
    Sqlite(Arc<SqliteStore>),
    /// In a database that others share.
    Postgres(Arc<PostgresStore>),
}

impl OpenStore {
    /// Opens the book to write it, making it if there is none.
    ///
    /// # Errors
    ///
    /// A [`StoreOpenError`].
    pub fn open(config: &StoreConfig, now: Timestamp) -> Result<Self, StoreOpenError> {
        Ok(match config {
            StoreConfig::Memory => Self::Memory(Arc::new(MemoryStore::new(now))),
            StoreConfig::Sqlite(path) => {
                let options = sqlite::Options::default();
                Self::Sqlite(Arc::new(SqliteStore::open(path, options, now)?))
            }
            StoreConfig::Postgres(config) => {
                let options = postgres::Options {
                    lease_ttl: config.lease_ttl,
                    listen: config.listen,
                    advertise: config.advertise.clone(),
                    ..postgres::Options::default()
                };
                let address = config.address.clone();
                let store = PostgresStore::open(address, &config.book, &options, now)?;
                Self::Postgres(Arc::new(store))
            }
        })
    }

    /// The port to it.
    #[must_use]
    pub fn port(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => store.clone(),
            Self::Sqlite(store) => store.clone(),
            Self::Postgres(store) => store.clone(),
        }
    }

    /// Whether it can be written.
    #[must_use]
    pub fn is_running(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Sqlite(store) => store.is_running(),
            Self::Postgres(store) => store.is_running(),
        }
    }

    /// How many requests wait for it.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Sqlite(store) => store.queue_len(),
            Self::Postgres(store) => store.queue_len(),
        }
    }

    /// How many payments were claimed and are not finished, as far as this process knows.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        match self {
            Self::Memory(store) => store.unfinished(),
            Self::Sqlite(store) => store.unfinished(),
            Self::Postgres(store) => store.unfinished(),
        }
    }

    /// Resolves when it cannot be written any more by this process.
    pub async fn stopped(&self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Sqlite(store) => store.stopped().await,
            Self::Postgres(store) => store.stopped().await,
        }
    }
}

/// Why a book cannot be opened for writing.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// A file.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// A database.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
}

impl StoreOpenError {
    /// Whether another process has the book, so that it is the one to be asked.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        matches!(self, Self::Sqlite(sqlite::OpenError::Locked))
    }
}

/// A book, open for reading beside whoever writes it.
pub enum BookReader {
    /// In a file.
    Sqlite(sqlite::Reader),
    /// In a database.
    Postgres(postgres::Reader),
}

/// Why a book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum BookReadError {
    /// It is gone with its process.
    #[error("the configuration keeps its book in memory")]
    Memory,
    /// The file cannot be opened.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        error: sqlite::OpenError,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Sqlite(#[from] sqlite::ReadError),
    /// The database cannot be read.
    #[error(transparent)]
    Postgres(#[from] postgres::ReadError),
    /// It is not sound.
    #[error("not sound:\n{0}")]
    Wrong(AllWrong),
}

impl From<sqlite::VerifyError> for BookReadError {
    fn from(error: sqlite::VerifyError) -> Self {
        match error {
            sqlite::VerifyError::Wrong(wrong) => Self::Wrong(wrong),
            sqlite::VerifyError::Read(error) => Self::Sqlite(error),
        }
    }
}

impl From<postgres::VerifyError> for BookReadError {
    fn from(error: postgres::VerifyError) -> Self {
        match error {
            postgres::VerifyError::Wrong(wrong) => Self::Wrong(wrong),
            postgres::VerifyError::Read(error) => Self::Postgres(error),
        }
    }
}

/// The same question to whichever it is.
macro_rules! either {
    ($self:ident, $reader:ident => $ask:expr) => {
        match $self {
            Self::Sqlite($reader) => Ok($ask?),
            Self::Postgres($reader) => Ok($ask?),
        }
    };
}

impl BookReader {
    /// Opens the book of a configuration.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`], as when there is none.
    pub fn open(config: &StoreConfig) -> Result<Self, BookReadError> {
        match config {
            StoreConfig::Memory => Err(BookReadError::Memory),
            StoreConfig::Sqlite(path) => {
                let reader = sqlite::Reader::open(path);
                let named = |error| BookReadError::File { path: path.clone(), error };
                Ok(Self::Sqlite(reader.map_err(named)?))
            }
            StoreConfig::Postgres(config) => {
                Ok(Self::Postgres(postgres::Reader::open(&config.address, &config.book)?))
            }
        }
    }

    /// The records from place `from` on, at most `limit`, in order.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, BookReadError> {
        either!(self, reader => reader.records(from, limit))
    }

    /// The whole journal, in order.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn journal(&self) -> Result<Vec<Record>, BookReadError> {
        either!(self, reader => reader.journal())
    }

    /// The whole journal as it was written, with what stands beside each line.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn lines(&self) -> Result<Vec<Line>, BookReadError> {
        either!(self, reader => reader.lines())
    }

    /// Recomputes everything, and holds it against what was `published`.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`] that names everything that is wrong.
    pub fn verify(
        &self,
        published: Vec<Published>,
        now: Timestamp,
    ) -> Result<Verified, BookReadError> {
        either!(self, reader => reader.verify(published, now))
    }

    /// The records of one payment's story, in order.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn of_trace(&self, trace: TraceId) -> Result<Vec<Record>, BookReadError> {
        either!(self, reader => reader.of_trace(trace))
    }

    /// What was last noted under `name`.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn noted(&self, name: &str) -> Result<Option<String>, BookReadError> {
        either!(self, reader => reader.noted(name))
    }

    /// The story of the payment that claimed `proof`, if the index still knows it.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn trace_of(&self, proof: &Fingerprint) -> Result<Option<TraceId>, BookReadError> {
        either!(self, reader => reader.trace_of(proof))
    }

    /// The story of `payment`, if the index still knows it.
    ///
    /// # Errors
    ///
    /// A [`BookReadError`].
    pub fn trace_of_payment(&self, payment: PaymentId) -> Result<Option<TraceId>, BookReadError> {
        either!(self, reader => reader.trace_of_payment(payment))
    }
}
