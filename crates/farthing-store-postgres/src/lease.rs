//! The lease: who writes a book.
//!
//! One row a book. It expires by the database's clock, and its epoch counts its holders. Nobody who held
//! it in an earlier epoch can write, whatever their own clock says.

use std::time::Duration;

use tokio_postgres::{Client, Error};

/// Renews the lease `$1` of epoch `$2` for `$3` milliseconds. No row means that the epoch is over.
pub(crate) const FENCE: &str = "
UPDATE farthing.lease SET expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
WHERE book = $1 AND epoch = $2";

/// Makes sure that there is a lease, which expired long ago.
const MAKE: &str = "
INSERT INTO farthing.lease (book, epoch, holder, address, token, expires_at)
VALUES ($1, 0, '', '', '', timestamptz '2000-01-01 00:00:00+00')
ON CONFLICT (book) DO NOTHING";

const TAKE: &str = "
UPDATE farthing.lease SET epoch = epoch + 1, holder = $2, address = $3, token = $4,
    expires_at = clock_timestamp() + $5::bigint * interval '1 millisecond'
WHERE book = $1 AND expires_at <= clock_timestamp() RETURNING epoch";

const LOOK: &str = "SELECT epoch, address, token FROM farthing.lease WHERE book = $1";

const RELEASE: &str = "
UPDATE farthing.lease SET expires_at = clock_timestamp() WHERE book = $1 AND epoch = $2";

/// How many bytes of a token there are.
pub(crate) const TOKEN_BYTES: usize = 32;

/// Whoever wants a lease.
pub(crate) struct Candidate<'a> {
    /// The book.
    pub(crate) book: &'a str,
    /// A name of its own, for people.
    pub(crate) holder: &'a str,
    /// Where the others reach it.
    pub(crate) address: &'a str,
    /// What proves to it that they read the lease.
    pub(crate) token: &'a [u8; TOKEN_BYTES],
    /// How long the lease lasts without being renewed.
    pub(crate) ttl: Duration,
}

/// Who has the lease.
pub(crate) enum Found {
    /// The candidate, from this epoch on.
    Ours(i64),
    /// Somebody else.
    Theirs(Holder),
}

/// Whoever holds a lease.
#[derive(Clone)]
pub(crate) struct Holder {
    pub(crate) epoch: i64,
    pub(crate) address: String,
    pub(crate) token: Vec<u8>,
}

/// A span in whole milliseconds, as the database counts it.
pub(crate) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Takes the lease if it is free, and says who has it otherwise.
pub(crate) async fn take(client: &Client, candidate: &Candidate<'_>) -> Result<Found, Error> {
    let Candidate { book, holder, address, token, ttl } = candidate;
    let token = token.as_slice();
    client.execute(MAKE, &[book]).await?;
    let taken = client.query_opt(TAKE, &[book, holder, address, &token, &millis(*ttl)]).await?;
    if let Some(row) = taken {
        return Ok(Found::Ours(row.try_get(0)?));
    }
    let row = client.query_one(LOOK, &[book]).await?;
    let (epoch, address, token) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Found::Theirs(Holder { epoch, address, token }))
}

/// Gives the lease up, so that the next one need not wait.
pub(crate) async fn release(client: &Client, book: &str, epoch: i64) -> Result<(), Error> {
    client.execute(RELEASE, &[&book, &epoch]).await.map(drop)
}
