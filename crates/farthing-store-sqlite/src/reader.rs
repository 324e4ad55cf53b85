//! Reading a book beside whoever writes it.

use std::path::Path;

use farthing_core::Answer;
use farthing_ledger::{Fingerprint, PaymentId, Record, TraceId};
use farthing_store_writer::{Kept, Source, read_fields};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::file::{self, OpenError};

/// Reads the journal of a book; any number of readers beside one writer.
pub struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the book at `path`.
    ///
    /// # Errors
    ///
    /// An [`OpenError`] when there is no book, or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { connection: file::open_for_reading(path)? })
    }

    /// The records from place `from` on, at most `limit`, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, body FROM journal WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
        )?;
        collect(statement.query((from.cast_signed(), limit))?)
    }

    /// The whole journal, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn journal(&self) -> Result<Vec<Record>, ReadError> {
        let mut statement =
            self.connection.prepare("SELECT seq, body FROM journal ORDER BY seq")?;
        collect(statement.query(())?)
    }

    /// The records of one payment's story, in order.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn of_trace(&self, trace: TraceId) -> Result<Vec<Record>, ReadError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT seq, body FROM journal WHERE trace = ?1 ORDER BY seq")?;
        collect(statement.query([trace.to_bytes()])?)
    }

    /// What was last noted under `name`.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn noted(&self, name: &str) -> Result<Option<String>, ReadError> {
        let select = "SELECT body FROM note WHERE name = ?1";
        let mut select = self.connection.prepare_cached(select)?;
        Ok(select.query_row([name], |row| row.get(0)).optional()?)
    }

    /// The story of the payment that claimed `proof`, if the index still knows it.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn trace_of(&self, proof: &Fingerprint) -> Result<Option<TraceId>, ReadError> {
        self.trace_of_payment(PaymentId::of(proof))
    }

    /// The story of `payment`, if the index still knows it.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn trace_of_payment(&self, payment: PaymentId) -> Result<Option<TraceId>, ReadError> {
        // A payment's id is the head of its first proof's key, and the index is by bucket and key:
        // one seek a bucket, from the latest on.
        let (mut low, mut high) = ([0; 32], [0xff; 32]);
        for bound in [&mut low, &mut high] {
            bound.split_at_mut(16).0.copy_from_slice(&payment.to_bytes());
        }
        let mut next = self.connection.prepare_cached(
            "SELECT bucket FROM proof WHERE bucket < ?1 ORDER BY bucket DESC LIMIT 1",
        )?;
        let mut seek = self.connection.prepare_cached(
            "SELECT trace FROM proof WHERE bucket = ?1 AND key BETWEEN ?2 AND ?3 AND trace IS NOT NULL",
        )?;
        let mut bucket = i64::MAX;
        while let Some(earlier) = next.query_row([bucket], |row| row.get(0)).optional()? {
            bucket = earlier;
            let found = seek.query_row((bucket, low, high), |row| row.get(0)).optional()?;
            if let Some(trace) = found {
                return Ok(Some(TraceId::from_bytes(trace)));
            }
        }
        Ok(None)
    }
}

impl Source for Reader {
    type Error = ReadError;

    fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, ReadError> {
        Self::records(self, from, limit)
    }

    fn kept(&self, after: Option<PaymentId>, limit: u32) -> Result<Vec<Kept>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT answered, status, fields, body FROM answer
             WHERE ?1 IS NULL OR payment > ?1 ORDER BY payment LIMIT ?2",
        )?;
        let mut rows = statement.query((after.map(PaymentId::to_bytes), limit))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(kept(row)?);
        }
        Ok(all)
    }
}

fn kept(row: &Row<'_>) -> Result<Kept, ReadError> {
    let answered: String = row.get(0)?;
    let answered = serde_json::from_str(&answered).map_err(|_| ReadError::DamagedAnswer)?;
    let answer = match row.get::<_, Option<Vec<u8>>>(3)? {
        Some(body) => {
            let fields: Vec<u8> = row.get(2)?;
            Some(Box::new(Answer { status: row.get(1)?, fields: read_fields(&fields), body }))
        }
        None => None,
    };
    Ok(Kept { answered, answer })
}

fn collect(mut rows: rusqlite::Rows<'_>) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    Ok(records)
}

fn record(row: &Row<'_>) -> Result<Record, ReadError> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    let body: String = row.get(1)?;
    let record = Record::from_json(body.as_bytes()).map_err(|_| ReadError::Damaged { seq })?;
    // The row's place is what the index trusts; a body that says another was moved here.
    if record.seq == seq { Ok(record) } else { Err(ReadError::Damaged { seq }) }
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A record is not what a book writes.
    #[error("record {seq} is damaged")]
    Damaged {
        /// Its place.
        seq: u64,
    },
    /// An answer that is kept is not what a book writes.
    #[error("an answer that is kept is damaged")]
    DamagedAnswer,
    /// SQLite says no.
    #[error("the book cannot be read: {0}")]
    Sqlite(#[from] rusqlite::Error),
}
