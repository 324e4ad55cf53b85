//! Reading a book beside whoever writes it.

use std::io;
use std::sync::Arc;

use farthing_core::StoreError;
use farthing_ledger::merkle::Hash;
use farthing_ledger::{Fingerprint, PaymentId, Record, Seal, TraceId};
use farthing_store_writer::{Kept, Source};
use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::address::Address;
use crate::connection::{ConnectError, connect, connect_to_write, told};
use crate::journal::{answer, bytes};
use crate::schema::{SchemaError, version};
use crate::wait::Waiter;

const RECORDS: &str = "
SELECT seq, body FROM farthing.journal WHERE book = $1 AND seq >= $2 ORDER BY seq LIMIT $3";

const OF_TRACE: &str =
    "SELECT seq, body FROM farthing.journal WHERE book = $1 AND trace = $2 ORDER BY seq";

const NOTED: &str = "SELECT body FROM farthing.note WHERE book = $1 AND name = $2";

const NOTES: &str = "SELECT name, body FROM farthing.note WHERE book = $1 ORDER BY name";

/// A payment's id is the head of its first proof's key.
const TRACE_OF: &str = "
SELECT trace FROM farthing.proof
WHERE book = $1 AND key >= $2 AND key <= $3 AND trace IS NOT NULL ORDER BY bucket DESC LIMIT 1";

pub(crate) const SEALS: &str = "
SELECT size, root, chain, leaves FROM farthing.seal
WHERE book = $1 AND size > $2 ORDER BY size LIMIT $3";

const KEPT: &str = "
SELECT answered, status, fields, body FROM farthing.answer
WHERE book = $1 AND payment > $2 ORDER BY payment LIMIT $3";

/// How many records are read at once where all are.
pub(crate) const PAGE: u32 = 10_000;

pub(crate) type Row1<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Reads a book; any number of readers beside one writer. The connection may lead to a standby, which is
/// then a little behind.
pub struct Reader {
    waiter: Waiter,
    client: Client,
    pub(crate) book: String,
}

impl Reader {
    /// Opens the book called `name`.
    ///
    /// # Errors
    ///
    /// A [`ReadError`] when the database has no books, or cannot be reached.
    pub fn open(address: &Address, name: &str) -> Result<Self, ReadError> {
        let waiter = Waiter::new()?;
        let client = waiter.wait(async {
            let client = connect(address).await?;
            match version(&client).await? {
                0 => Err(ReadError::NoBooks),
                _ => Ok(client),
            }
        })?;
        Ok(Self { waiter, client, book: name.to_owned() })
    }

    pub(crate) fn rows(&self, select: &str, row: Row1<'_>) -> Result<Vec<Row>, ReadError> {
        Ok(self.waiter.wait(self.client.query(select, row))?)
    }

    pub(crate) fn execute(&self, statement: &str) -> Result<(), ReadError> {
        Ok(self.waiter.wait(self.client.batch_execute(statement))?)
    }

    /// The records from place `from` on, at most `limit`, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, ReadError> {
        let row: Row1<'_> = &[&self.book, &from.cast_signed(), &i64::from(limit)];
        collect(&self.rows(RECORDS, row)?)
    }

    /// The whole journal, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn journal(&self) -> Result<Vec<Record>, ReadError> {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.seq).saturating_add(1);
            let page = self.records(from, PAGE)?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// The records of one payment's story, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn of_trace(&self, trace: TraceId) -> Result<Vec<Record>, ReadError> {
        let trace = trace.to_bytes();
        collect(&self.rows(OF_TRACE, &[&self.book, &trace.as_slice()])?)
    }

    /// What was last noted under `name`.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn noted(&self, name: &str) -> Result<Option<String>, ReadError> {
        let rows = self.rows(NOTED, &[&self.book, &name])?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// The story of the payment that claimed `proof`, if the index still knows it.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn trace_of(&self, proof: &Fingerprint) -> Result<Option<TraceId>, ReadError> {
        self.trace_of_payment(PaymentId::of(proof))
    }

    /// The story of `payment`, if the index still knows it. Looks through the whole index of the book.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn trace_of_payment(&self, payment: PaymentId) -> Result<Option<TraceId>, ReadError> {
        let (mut low, mut high) = ([0_u8; 32], [0xff_u8; 32]);
        for bound in [&mut low, &mut high] {
            bound.split_at_mut(16).0.copy_from_slice(&payment.to_bytes());
        }
        let rows = self.rows(TRACE_OF, &[&self.book, &low.as_slice(), &high.as_slice()])?;
        Ok(rows.first().and_then(|row| bytes(row, 0)).map(TraceId::from_bytes))
    }
}

impl Source for Reader {
    type Error = ReadError;

    fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, ReadError> {
        Self::records(self, from, limit)
    }

    fn seals(&self, size: u64, limit: u32) -> Result<Vec<Seal>, ReadError> {
        let row: Row1<'_> = &[&self.book, &size.cast_signed(), &i64::from(limit)];
        let rows = self.rows(SEALS, row)?;
        let read = rows.iter().map(|row| match seal(row)? {
            (_, Some(seal)) => Ok(seal),
            (size, None) => Err(ReadError::Damaged { seq: size }),
        });
        read.collect()
    }

    fn kept(&self, after: Option<PaymentId>, limit: u32) -> Result<Vec<Kept>, ReadError> {
        let after = after.map(|after| after.to_bytes().to_vec()).unwrap_or_default();
        let rows = self.rows(KEPT, &[&self.book, &after, &i64::from(limit)])?;
        rows.iter().map(kept).collect()
    }

    fn notes(&self) -> Result<Vec<(String, String)>, ReadError> {
        let rows = self.rows(NOTES, &[&self.book])?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// A seal and the size it stands for; nothing if it is none.
pub(crate) fn seal(row: &Row) -> Result<(u64, Option<Seal>), ReadError> {
    let size = row.try_get::<_, i64>(0)?.cast_unsigned();
    let hash = |at| bytes(row, at).map(Hash::from_bytes);
    let leaves = row.try_get::<_, &[u8]>(3)?;
    let (Some(root), Some(chain), Some(leaves)) = (hash(1), hash(2), Hash::read_all(leaves)) else {
        return Ok((size, None));
    };
    Ok((size, Some(Seal { size, root, chain, leaves })))
}

fn kept(row: &Row) -> Result<Kept, ReadError> {
    let answered: &str = row.try_get(0)?;
    let answered = serde_json::from_str(answered).map_err(|_| ReadError::DamagedAnswer)?;
    let body: Option<&[u8]> = row.try_get(3)?;
    let answer = match body {
        Some(_) => Some(Box::new(answer(row, 1).map_err(|_| ReadError::DamagedAnswer)?)),
        None => None,
    };
    Ok(Kept { answered, answer })
}

fn collect(rows: &[Row]) -> Result<Vec<Record>, ReadError> {
    rows.iter().map(record).collect()
}

fn record(row: &Row) -> Result<Record, ReadError> {
    let seq = row.try_get::<_, i64>(0)?.cast_unsigned();
    let body: &str = row.try_get(1)?;
    // The row's place is what the index trusts; a body that says another was moved here.
    let record = Record::from_json(body.as_bytes()).ok().filter(|record| record.seq == seq);
    record.ok_or(ReadError::Damaged { seq })
}

/// Reading for those who ask a store: on the node's runtime, from wherever writes go.
pub(crate) struct Reads {
    book: Arc<str>,
    address: Arc<Address>,
    handle: Handle,
    client: Arc<tokio::sync::Mutex<Option<Client>>>,
}

/// How long reads may hold a lock, which they do not.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);

impl Reads {
    pub(crate) fn new(address: Arc<Address>, book: Arc<str>, handle: Handle) -> Self {
        Self { book, address, handle, client: Arc::default() }
    }

    /// Asks once more on a new connection where the old one broke.
    async fn rows(
        &self,
        select: &'static str,
        row: Vec<Box<dyn ToSql + Sync + Send>>,
    ) -> Result<Vec<Row>, StoreError> {
        let (address, client) = (Arc::clone(&self.address), Arc::clone(&self.client));
        let asked = self.handle.spawn(async move {
            let mut kept = client.lock().await;
            let row: Vec<&(dyn ToSql + Sync)> =
                row.iter().map(|value| -> &(dyn ToSql + Sync) { &**value }).collect();
            for is_last in [false, true] {
                let client = match kept.take().filter(|client| !client.is_closed()) {
                    Some(client) => client,
                    None => connect_to_write(&address, SILENCE).await.map_err(|_| StoreError)?,
                };
                match client.query(select, &row).await {
                    Ok(rows) => {
                        *kept = Some(client);
                        return Ok(rows);
                    }
                    Err(_) if !is_last => {}
                    Err(_) => break,
                }
            }
            Err(StoreError)
        });
        asked.await.map_err(|_| StoreError)?
    }

    pub(crate) async fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        let book = Box::new(self.book.to_string());
        let row: Vec<Box<dyn ToSql + Sync + Send>> =
            vec![book, Box::new(from.cast_signed()), Box::new(i64::from(limit))];
        collect(&self.rows(RECORDS, row).await?).map_err(|_| StoreError)
    }

    pub(crate) async fn of_trace(&self, trace: TraceId) -> Result<Vec<Record>, StoreError> {
        let book = Box::new(self.book.to_string());
        let row: Vec<Box<dyn ToSql + Sync + Send>> =
            vec![book, Box::new(trace.to_bytes().to_vec())];
        collect(&self.rows(OF_TRACE, row).await?).map_err(|_| StoreError)
    }

    pub(crate) async fn noted(&self, name: String) -> Result<Option<String>, StoreError> {
        let book = Box::new(self.book.to_string());
        let row: Vec<Box<dyn ToSql + Sync + Send>> = vec![book, Box::new(name)];
        let rows = self.rows(NOTED, row).await?;
        rows.first().map(|row| row.try_get(0)).transpose().map_err(|_| StoreError)
    }
}

/// Why a book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There are no books in the database.
    #[error("there is no book in the database; `farthing store migrate` makes room for some")]
    NoBooks,
    /// A record is not what a book writes.
    #[error("record {seq} is damaged")]
    Damaged {
        /// Its place.
        seq: u64,
    },
    /// An answer that is kept is not what a book writes.
    #[error("an answer that is kept is damaged")]
    DamagedAnswer,
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The schema cannot be read.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The operating system says no.
    #[error("the database cannot be spoken to: {0}")]
    Io(#[from] io::Error),
    /// The database says no.
    #[error("the book cannot be read: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
}
