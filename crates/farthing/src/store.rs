//! `farthing store`: where the book is kept.

use std::path::Path;

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{BookReader, PostgresConfig, StoreConfig};
use farthing_store_postgres::{Guards, SCHEMA_VERSION, check, copy, migrate};
use farthing_store_sqlite::{Reader, restore};

use crate::book::read_config;
use crate::cli::{Gateway, Store};
use crate::erase;
use crate::failure::{Done, Failure};

pub(crate) fn run(command: Store) -> Done {
    match command {
        Store::Check { at } => look(&at),
        Store::Migrate { at, to, without_triggers } => {
            let guards = if without_triggers { Guards::None } else { Guards::Triggers };
            let database = database(&at.config)?;
            let target = to.unwrap_or(SCHEMA_VERSION);
            let had = migrate(&database.address, target, guards).map_err(Failure::other)?;
            println!("the schema had version {had} and has version {target}");
            Ok(())
        }
        Store::Copy { at, to } => move_to(&at, &to),
        Store::Erase(args) => crate::concurrently(erase::run(args)),
        Store::Backup { file, at } => {
            let reader = Reader::open(&book_file(&at)?).map_err(Failure::other)?;
            reader.back_up(&file).map_err(|error| named(&file, error))?;
            let records = verified(&StoreConfig::Sqlite(file.clone()))?;
            println!("{}: {records} records, verified", file.display());
            Ok(())
        }
        Store::Restore { file, at } => {
            let book = book_file(&at)?;
            let records = verified(&StoreConfig::Sqlite(file.clone()))?;
            let aside = restore(&file, &book).map_err(|error| named(&book, error))?;
            println!("{}: {records} records, verified", book.display());
            if let Some(aside) = aside {
                println!("what was there is {} now", aside.display());
            }
            Ok(())
        }
    }
}

/// Looks a store over.
fn look(at: &Gateway) -> Done {
    let config = read_config(&at.config)?;
    if let StoreConfig::Postgres(database) = &config.store {
        let health = check(&database.address, &database.book, || SystemClock.now());
        let health = health.map_err(Failure::other)?;
        println!("schema version {}, {} records", health.schema_version, health.records);
        match &health.lease {
            Some(lease) if lease.valid_for_ms > 0 => {
                let (holder, address, epoch) = (&lease.holder, &lease.address, lease.epoch);
                println!("written by {holder} at {address}, the {epoch}. to do so");
            }
            Some(_) | None => println!("nobody writes it at this moment"),
        }
        if !health.problems.is_empty() {
            let problems: Vec<_> = health.problems.iter().map(ToString::to_string).collect();
            return Err(Failure::other(problems.join("\n")));
        }
    }
    println!("sound: {} records", verified(&config.store)?);
    Ok(())
}

/// Copies a book into a database, and compares.
fn move_to(at: &Gateway, to: &Path) -> Done {
    let from = read_config(&at.config)?.store;
    let database = database(to)?;
    migrate(&database.address, SCHEMA_VERSION, Guards::Triggers).map_err(Failure::other)?;
    let (address, book) = (&database.address, &database.book);
    let copied = match BookReader::open(&from).map_err(Failure::other)? {
        BookReader::Sqlite(mut reader) => {
            copy(&mut reader, address, book).map_err(Failure::other)?
        }
        BookReader::Postgres(mut reader) => {
            copy(&mut reader, address, book).map_err(Failure::other)?
        }
    };
    let store = StoreConfig::Postgres(Box::new(database));
    if verified(&store)? != copied.records {
        return Err(Failure::other("the copy has other records than were copied"));
    }
    let farthing_store_postgres::Copied { records, answers, notes } = copied;
    println!(
        "{records} records, {answers} answers and {notes} notes copied, compared and verified"
    );
    Ok(())
}

/// How many records a sound book has.
fn verified(store: &StoreConfig) -> Result<u64, Failure> {
    let reader = BookReader::open(store).map_err(Failure::other)?;
    let sound = reader.verify(Vec::new(), SystemClock.now()).map_err(Failure::other)?;
    Ok(sound.audit.records)
}

fn database(config: &Path) -> Result<PostgresConfig, Failure> {
    match read_config(config)?.store {
        StoreConfig::Postgres(database) => Ok(*database),
        StoreConfig::Sqlite(_) | StoreConfig::Memory => {
            Err(named(config, "its [store] is no database: postgres = \"env:DATABASE_URL\""))
        }
    }
}

fn book_file(at: &Gateway) -> Result<std::path::PathBuf, Failure> {
    match read_config(&at.config)?.store {
        StoreConfig::Sqlite(path) => Ok(path),
        StoreConfig::Postgres(_) | StoreConfig::Memory => Err(named(
            &at.config,
            "only a file is backed up here; a database has tools of its own, see docs/postgresql.md",
        )),
    }
}

fn named(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::other(format_args!("{}: {what}", path.display()))
}
