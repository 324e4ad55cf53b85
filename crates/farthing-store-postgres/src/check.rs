//! Whether all is well with a book in the database.

use std::time::Instant;

use farthing_money::Timestamp;
use tokio_postgres::Client;

use crate::address::Address;
use crate::connection::connect;
use crate::reader::ReadError;
use crate::schema::{SCHEMA_VERSION, version};
use crate::wait::Waiter;

const LEASE: &str = "
SELECT epoch, holder, address,
    (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint
FROM farthing.lease WHERE book = $1";

const JOURNAL: &str = "
SELECT count(*), coalesce(min(seq), 0)::bigint, coalesce(max(seq), 0)::bigint
FROM farthing.journal WHERE book = $1";

const GUARDS: &str = "
SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'farthing' AND c.relname IN ('journal', 'seal') AND t.tgenabled <> 'D'
    AND t.tgname IN ('journal_is_never_changed', 'journal_is_never_emptied',
                     'seal_is_never_changed', 'seal_is_never_emptied')";

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const DURABLE: &str = "SELECT current_setting('fsync', true)";

/// How many triggers guard the journal and its seals.
const GUARDS_COUNT: i64 = 4;

/// How far the clocks may be apart before it is worth saying.
const SKEW_MS_MAX: u64 = 1_000;

/// How a book stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The version of the schema.
    pub schema_version: u32,
    /// Who has the lease, if anybody ever had.
    pub lease: Option<LeaseHealth>,
    /// How many records there are.
    pub records: u64,
    /// How far the database's clock is ahead of ours, in milliseconds; negative where it is behind.
    pub clock_ahead_ms: i64,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseHealth {
    /// How many holders there were.
    pub epoch: i64,
    /// The last one, for people.
    pub holder: String,
    /// Where the others reach it.
    pub address: String,
    /// For how long it is valid, in milliseconds; negative where it has expired.
    pub valid_for_ms: i64,
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The schema is of another version.
    #[error("the schema has version {found}, and this program speaks version {SCHEMA_VERSION}")]
    Version {
        /// Its version; 0 is none at all.
        found: u32,
    },
    /// The triggers are missing or switched off.
    #[error(
        "no trigger keeps the journal append-only; where the engine has none, see that no role of a \
         gateway may update, delete or truncate it"
    )]
    Unguarded,
    /// Records are missing.
    #[error("the journal is not contiguous: {count} records from {first} to {last}")]
    Gaps {
        /// How many there are.
        count: u64,
        /// The first one's place.
        first: u64,
        /// The last one's place.
        last: u64,
    },
    /// The clocks differ.
    #[error("the database's clock and this machine's are {apart_ms} ms apart")]
    Clock {
        /// By how much.
        apart_ms: u64,
    },
    /// The server does not wait for its disk.
    #[error("the server runs with fsync off: a power cut loses what was acknowledged")]
    NotSynced,
}

/// Looks at the book called `name`, and changes nothing. `now` is this machine's clock.
///
/// # Errors
///
/// A [`ReadError`] when the database cannot be asked.
pub fn check(
    address: &Address,
    name: &str,
    now: impl Fn() -> Timestamp + Sync,
) -> Result<Health, ReadError> {
    Waiter::new()?.wait(async {
        let client = connect(address).await?;
        let found = version(&client).await?;
        let clock_ahead_ms = clock_ahead_ms(&client, &now).await?;
        let mut problems = Vec::new();
        if found != SCHEMA_VERSION {
            problems.push(Problem::Version { found });
        }
        if clock_ahead_ms.unsigned_abs() > SKEW_MS_MAX {
            problems.push(Problem::Clock { apart_ms: clock_ahead_ms.unsigned_abs() });
        }
        if !is_synced(&client).await? {
            problems.push(Problem::NotSynced);
        }
        if found == 0 {
            let (lease, records) = (None, 0);
            return Ok(Health { schema_version: found, lease, records, clock_ahead_ms, problems });
        }
        let guards: i64 = client.query_one(GUARDS, &[]).await?.try_get(0)?;
        if guards != GUARDS_COUNT {
            problems.push(Problem::Unguarded);
        }
        let (records, gaps) = records(&client, name).await?;
        problems.extend(gaps);
        let lease = lease(&client, name).await?;
        Ok(Health { schema_version: found, lease, records, clock_ahead_ms, problems })
    })
}

async fn lease(client: &Client, name: &str) -> Result<Option<LeaseHealth>, ReadError> {
    let Some(row) = client.query_opt(LEASE, &[&name]).await? else { return Ok(None) };
    Ok(Some(LeaseHealth {
        epoch: row.try_get(0)?,
        holder: row.try_get(1)?,
        address: row.try_get(2)?,
        valid_for_ms: row.try_get(3)?,
    }))
}

async fn records(client: &Client, name: &str) -> Result<(u64, Option<Problem>), ReadError> {
    let row = client.query_one(JOURNAL, &[&name]).await?;
    let count = row.try_get::<_, i64>(0)?.cast_unsigned();
    let first = row.try_get::<_, i64>(1)?.cast_unsigned();
    let last = row.try_get::<_, i64>(2)?.cast_unsigned();
    let is_whole = last == count && first <= 1;
    Ok((count, (!is_whole).then_some(Problem::Gaps { count, first, last })))
}

async fn clock_ahead_ms(client: &Client, now: impl Fn() -> Timestamp) -> Result<i64, ReadError> {
    // The first exchange of a statement takes longer.
    let clock = client.prepare(CLOCK).await?;
    let (before, asked_at) = (now(), Instant::now());
    let theirs: i64 = client.query_one(&clock, &[]).await?.try_get(0)?;
    let half = asked_at.elapsed().checked_div(2).unwrap_or_default();
    let ours = before.after(half).as_micros().cast_signed();
    Ok(theirs.saturating_sub(ours).checked_div(1_000).unwrap_or_default())
}

async fn is_synced(client: &Client) -> Result<bool, ReadError> {
    let row = client.query_one(DURABLE, &[]).await?;
    let fsync: Option<&str> = row.try_get(0)?;
    Ok(fsync != Some("off"))
}
