//! The schema, and its versions in both directions.

use std::io;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::address::Address;
use crate::connection::{ConnectError, connect_to_write, told};
use crate::wait::Waiter;

/// The schema that this code reads and writes.
pub const SCHEMA_VERSION: u32 = 3;

/// How long one step of a migration may be idle, or wait for somebody else's.
const STEP_WAIT: Duration = Duration::from_secs(30);

/// How often somebody else may get in the way of making the first table.
const ATTEMPTS: u32 = 10;

/// One version to the next, and back.
struct Step {
    up: &'static str,
    down: &'static str,
    /// What makes the journal append-only. Left out where an engine has no triggers.
    guards: &'static str,
}

/// The steps: the first leads from nothing to version 1.
///
/// `proof` is ordered by the moment at which a proof stops mattering, so that commits touch the same few
/// pages again and again although fingerprints are random.
const STEPS: [Step; 3] = [
    Step {
        up: "
CREATE TABLE farthing.journal (
    book  text   NOT NULL,
    seq   bigint NOT NULL,
    at    bigint NOT NULL,
    trace bytea  CHECK (trace IS NULL OR length(trace) = 16),
    body  text   NOT NULL,
    PRIMARY KEY (book, seq)
);
CREATE INDEX journal_trace ON farthing.journal (book, trace, seq) WHERE trace IS NOT NULL;
CREATE TABLE farthing.proof (
    book    text   NOT NULL,
    bucket  bigint NOT NULL,
    key     bytea  NOT NULL CHECK (length(key) = 32),
    until   bigint,
    payment bytea  NOT NULL CHECK (length(payment) = 16),
    trace   bytea,
    PRIMARY KEY (book, bucket, key)
);
CREATE TABLE farthing.answer (
    book       text   NOT NULL,
    payment    bytea  NOT NULL CHECK (length(payment) = 16),
    kept_until bigint NOT NULL,
    answered   text   NOT NULL,
    status     integer,
    fields     bytea,
    body       bytea,
    PRIMARY KEY (book, payment)
);
CREATE INDEX answer_kept_until ON farthing.answer (book, kept_until);
CREATE TABLE farthing.seal (
    book   text   NOT NULL,
    size   bigint NOT NULL,
    root   bytea  NOT NULL CHECK (length(root) = 32),
    chain  bytea  NOT NULL CHECK (length(chain) = 32),
    leaves bytea  NOT NULL CHECK (length(leaves) % 32 = 0),
    PRIMARY KEY (book, size)
);
CREATE TABLE farthing.snapshot (
    book text   NOT NULL,
    seq  bigint NOT NULL,
    body text   NOT NULL,
    edge bytea  NOT NULL CHECK (length(edge) % 32 = 0),
    PRIMARY KEY (book, seq)
);
CREATE TABLE farthing.note (
    book text NOT NULL,
    name text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (book, name)
);
CREATE TABLE farthing.lease (
    book       text        NOT NULL PRIMARY KEY,
    epoch      bigint      NOT NULL,
    holder     text        NOT NULL,
    address    text        NOT NULL,
    token      bytea       NOT NULL,
    expires_at timestamptz NOT NULL
);",
        down: "
DROP TABLE farthing.lease;
DROP TABLE farthing.note;
DROP TABLE farthing.snapshot;
DROP TABLE farthing.seal;
DROP TABLE farthing.answer;
DROP TABLE farthing.proof;
DROP TABLE farthing.journal;",
        guards: "",
    },
    Step {
        up: "",
        down: "
DROP TRIGGER IF EXISTS seal_is_never_changed ON farthing.seal;
DROP TRIGGER IF EXISTS seal_is_never_emptied ON farthing.seal;
DROP TRIGGER IF EXISTS journal_is_never_changed ON farthing.journal;
DROP TRIGGER IF EXISTS journal_is_never_emptied ON farthing.journal;
DROP FUNCTION IF EXISTS farthing.refuse();",
        guards: "
CREATE FUNCTION farthing.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$;
CREATE TRIGGER journal_is_never_changed BEFORE UPDATE OR DELETE ON farthing.journal
FOR EACH ROW EXECUTE FUNCTION farthing.refuse();
CREATE TRIGGER journal_is_never_emptied BEFORE TRUNCATE ON farthing.journal
FOR EACH STATEMENT EXECUTE FUNCTION farthing.refuse();
CREATE TRIGGER seal_is_never_changed BEFORE UPDATE OR DELETE ON farthing.seal
FOR EACH ROW EXECUTE FUNCTION farthing.refuse();
CREATE TRIGGER seal_is_never_emptied BEFORE TRUNCATE ON farthing.seal
FOR EACH STATEMENT EXECUTE FUNCTION farthing.refuse();",
    },
    Step {
        // What lets a row be written anew under the record of an erasure, and in no other way. The commit
        // that fills it empties it, so that nobody else ever sees a row in it.
        up: "
CREATE TABLE farthing.erasing (
    book text   NOT NULL,
    seq  bigint NOT NULL,
    PRIMARY KEY (book, seq)
);",
        down: "
DO $down$ BEGIN
    IF EXISTS (SELECT 1 FROM pg_proc WHERE proname = 'refuse'
               AND pronamespace = 'farthing'::regnamespace) THEN
        CREATE OR REPLACE FUNCTION farthing.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the journal is append-only'; END $$;
    END IF;
END $down$;
DROP FUNCTION IF EXISTS farthing.is_recorded() CASCADE;
DROP TABLE farthing.erasing;",
        guards: "
CREATE OR REPLACE FUNCTION farthing.refuse() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'journal' THEN
        IF NEW.book = OLD.book AND NEW.seq = OLD.seq AND NEW.at = OLD.at
           AND NEW.trace IS NOT DISTINCT FROM OLD.trace
           AND EXISTS (SELECT 1 FROM farthing.erasing AS it
                       WHERE it.book = OLD.book AND it.seq = OLD.seq) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'the journal is append-only';
END $$;
CREATE FUNCTION farthing.is_recorded() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF EXISTS (SELECT 1 FROM (SELECT DISTINCT book FROM put) AS of
               WHERE NOT EXISTS (SELECT 1 FROM farthing.journal AS last WHERE last.book = of.book
                   AND last.seq = (SELECT max(seq) FROM farthing.journal AS it
                                   WHERE it.book = of.book)
                   AND strpos(left(last.body, 200), '\"event\":{\"is\":\"erased\"') > 0)) THEN
        RAISE EXCEPTION 'rows are written anew under a record of it';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER erasing_is_recorded AFTER INSERT ON farthing.erasing
REFERENCING NEW TABLE AS put FOR EACH STATEMENT EXECUTE FUNCTION farthing.is_recorded();",
    },
];

/// What keeps the journal append-only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guards {
    /// Triggers that refuse everything else.
    #[default]
    Triggers,
    /// Nothing in the schema: the engine has no triggers, and the right to update, delete and truncate
    /// is taken from the gateway's role instead.
    None,
}

/// Brings the schema to version `target`, up or down, and says which version it had.
///
/// Each step is a transaction, and any number of programs may do this at once.
///
/// # Errors
///
/// A [`SchemaError`]; the schema is then at some version between the two.
pub fn migrate(address: &Address, target: u32, guards: Guards) -> Result<u32, SchemaError> {
    Waiter::new()?.wait(async {
        let mut client = connect_to_write(address, STEP_WAIT).await?;
        let before = version(&client).await?;
        bring(&mut client, target, guards).await?;
        Ok(before)
    })
}

/// Brings the schema to version `target`.
pub(crate) async fn bring(
    client: &mut Client,
    target: u32,
    guards: Guards,
) -> Result<(), SchemaError> {
    if target > SCHEMA_VERSION {
        return Err(SchemaError::Version { found: target });
    }
    if target > 0 {
        prepare(client).await?;
    }
    while step(client, target, guards).await? {}
    Ok(())
}

/// The version of the schema; 0 where there is none.
pub(crate) async fn version(client: &Client) -> Result<u32, SchemaError> {
    let row = client.query_opt("SELECT version FROM farthing.version WHERE id = 1", &[]).await;
    match row {
        Ok(row) => Ok(row.map_or(0, |row| row.get::<_, i32>(0).unsigned_abs())),
        Err(error) if is_missing(&error) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Whether what was asked for does not exist.
fn is_missing(error: &tokio_postgres::Error) -> bool {
    let missing = [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
    error.code().is_some_and(|code| missing.contains(code))
}

/// Makes the table of versions, in which the steps are taken in turn.
async fn prepare(client: &Client) -> Result<(), SchemaError> {
    let make = "
        CREATE SCHEMA IF NOT EXISTS farthing;
        CREATE TABLE IF NOT EXISTS farthing.version
            (id integer PRIMARY KEY CHECK (id = 1), version integer NOT NULL);
        INSERT INTO farthing.version (id, version) VALUES (1, 0) ON CONFLICT DO NOTHING;";
    let mut attempts = 1;
    loop {
        match client.batch_execute(make).await {
            Ok(()) => return Ok(()),
            // Somebody else is making it.
            Err(error) if attempts < ATTEMPTS && error.code().is_some_and(is_in_the_way) => {
                attempts = attempts.saturating_add(1);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an error says that two are making the same thing at once.
fn is_in_the_way(code: &SqlState) -> bool {
    [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_SCHEMA,
        SqlState::DUPLICATE_TABLE,
        SqlState::INTERNAL_ERROR,
        SqlState::T_R_SERIALIZATION_FAILURE,
    ]
    .contains(code)
}

/// Takes one step towards `target`; `false` if it is reached.
async fn step(client: &mut Client, target: u32, guards: Guards) -> Result<bool, SchemaError> {
    let transaction = client.transaction().await?;
    let select = "SELECT version FROM farthing.version WHERE id = 1 FOR UPDATE";
    let row = match transaction.query_opt(select, &[]).await {
        Ok(row) => row,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let found = row.map_or(0, |row| row.get::<_, i32>(0).unsigned_abs());
    if found > SCHEMA_VERSION {
        return Err(SchemaError::Version { found });
    }
    if found == target {
        return Ok(false);
    }
    let (next, at) = if found < target {
        (found.saturating_add(1), found)
    } else {
        (found.saturating_sub(1), found.saturating_sub(1))
    };
    let step = usize::try_from(at).ok().and_then(|at| STEPS.get(at));
    let Some(step) = step else { return Ok(false) };
    if found < target {
        transaction.batch_execute(step.up).await?;
        if guards == Guards::Triggers {
            transaction.batch_execute(step.guards).await?;
        }
    } else {
        if next == 0 && is_used(&transaction).await? {
            return Err(SchemaError::InUse);
        }
        transaction.batch_execute(step.down).await?;
    }
    let set = "UPDATE farthing.version SET version = $1 WHERE id = 1";
    transaction.execute(set, &[&next.cast_signed()]).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Whether anything was ever written down.
async fn is_used(transaction: &tokio_postgres::Transaction<'_>) -> Result<bool, SchemaError> {
    let any = "SELECT 1 FROM farthing.journal LIMIT 1";
    Ok(transaction.query_opt(any, &[]).await?.is_some())
}

/// Why a schema cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// It is of another version.
    #[error(
        "the schema in the database has version {found}, and this program speaks version \
         {SCHEMA_VERSION}; `farthing store migrate` brings an older one up to it"
    )]
    Version {
        /// Its version; 0 is none at all.
        found: u32,
    },
    /// There are books in it.
    #[error("there are records in the journal; a schema that holds books is not taken down")]
    InUse,
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The operating system says no.
    #[error("the database cannot be spoken to: {0}")]
    Io(#[from] io::Error),
    /// The database says no.
    #[error("the schema cannot be read or changed: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
}
