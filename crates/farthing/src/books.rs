//! Where the wallet's book is: in its folder, or in a database that several daemons share.

use std::sync::Arc;

use farthing_core::Clock;
use farthing_gate::SystemClock;
use farthing_gateway::{BookReader, OpenStore, PostgresConfig, StoreConfig, look_up};
use farthing_store_postgres::Address;
use farthing_wallet::{Books, OpenBook, SharedBook, WalletConfig};

use crate::failure::Failure;
use crate::home::Home;

/// Where the wallet's book is kept.
pub(crate) fn place(home: &Home, config: &WalletConfig) -> Result<StoreConfig, Failure> {
    let Some(place) = &config.store else { return Ok(StoreConfig::Sqlite(home.book())) };
    let wrong = |what: &dyn std::fmt::Display| {
        let path = home.config_path();
        Failure::usage(format_args!("{}: [store] postgres: {what}", path.display()))
    };
    let text = look_up(&place.postgres, home.folder(), &|name| std::env::var(name).ok());
    let text = text.map_err(|error| wrong(&error))?;
    let address = Address::parse(&text).map_err(|error| wrong(&error))?;
    Ok(StoreConfig::Postgres(Box::new(PostgresConfig {
        address,
        place: place.postgres.clone(),
        book: place.book.clone(),
        listen: place.listen,
        advertise: place.advertise.clone(),
        lease_ttl: place.lease_ttl,
    })))
}

/// The wallet's book, as a process that runs for long keeps it.
#[derive(Clone)]
pub(crate) enum LongBook {
    File(OpenBook),
    Shared(SharedBook),
}

impl LongBook {
    pub(crate) fn open(home: &Home, config: &WalletConfig) -> Result<Self, Failure> {
        match place(home, config)? {
            StoreConfig::Sqlite(path) => Ok(Self::File(OpenBook::new(&path))),
            place @ (StoreConfig::Postgres(_) | StoreConfig::Memory) => {
                shared(place).map(Self::Shared)
            }
        }
    }

    pub(crate) fn books(&self, clock: Arc<dyn Clock>) -> Books {
        match self {
            Self::File(book) => Books::keeping(book.clone(), clock),
            Self::Shared(book) => Books::sharing(book.clone(), clock),
        }
    }
}

/// The wallet's book for a command.
pub(crate) fn open(home: &Home, config: &WalletConfig) -> Result<Books, Failure> {
    let clock = Arc::new(SystemClock);
    match place(home, config)? {
        StoreConfig::Sqlite(path) => Ok(Books::new(&path, clock)),
        place @ (StoreConfig::Postgres(_) | StoreConfig::Memory) => {
            Ok(Books::sharing(shared(place)?, clock))
        }
    }
}

fn shared(place: StoreConfig) -> Result<SharedBook, Failure> {
    let store = OpenStore::open(&place, SystemClock.now()).map_err(Failure::other)?;
    let journal = move || BookReader::open(&place).ok()?.journal().ok();
    Ok(SharedBook::new(store.port(), journal))
}
