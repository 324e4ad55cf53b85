//! Reading a book beside whoever writes it.

use std::path::Path;

use farthing_core::Answer;
use farthing_ledger::merkle::Hash;
use farthing_ledger::{
    AllWrong, Fingerprint, Indexed, PaymentId, Proof, Published, Record, Row as Line, Seal,
    TraceId, Verified,
};
use farthing_money::Timestamp;
use farthing_store_writer::{Kept, KeptRow, LastSnapshot, Rows, Source, read_fields};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::file::{self, OpenError};

/// Reads the journal of a book; any number of readers beside one writer.
pub struct Reader {
    pub(crate) connection: Connection,
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

    /// The whole journal as it was written, in order, with what stands beside each line.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn lines(&self) -> Result<Vec<Line>, ReadError> {
        let (mut lines, mut damaged) = (Vec::new(), None);
        self.each_line(&mut |line, is_whole| {
            damaged = damaged.or((!is_whole).then_some(line.seq));
            lines.push(line);
        })?;
        damaged.map_or(Ok(lines), |seq| Err(ReadError::Damaged { seq }))
    }

    /// Recomputes everything from the journal, and the journal from its seals: what is wrong with the
    /// book, row by row. What was `published` of it is known to whoever could alter everything else.
    ///
    /// The book is read as it stood at one moment, beside whoever writes it.
    ///
    /// # Errors
    ///
    /// A [`VerifyError`] that names everything that is wrong, or says why it cannot be known.
    pub fn verify(
        &self,
        published: Vec<Published>,
        now: Timestamp,
    ) -> Result<Verified, VerifyError> {
        let moment = self.connection.unchecked_transaction()?;
        let checked = farthing_store_writer::verify(self, published, now)?;
        moment.finish()?;
        Ok(checked?)
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

impl Rows for Reader {
    type Error = ReadError;

    fn each_seal(&self, each: &mut dyn FnMut(u64, Option<Seal>)) -> Result<(), ReadError> {
        let select = "SELECT size, root, chain, leaves FROM seal ORDER BY size";
        let mut statement = self.connection.prepare(select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let (size, seal) = seal(row)?;
            each(size, seal);
        }
        Ok(())
    }

    fn last_snapshot(&self) -> Result<Option<LastSnapshot>, ReadError> {
        Ok(file::last_snapshot(&self.connection)?)
    }

    fn each_line(&self, each: &mut dyn FnMut(Line, bool)) -> Result<(), ReadError> {
        let select = "SELECT seq, at, trace, body FROM journal ORDER BY seq";
        let mut statement = self.connection.prepare(select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let trace = row.get::<_, Option<Vec<u8>>>(2)?;
            let known = trace.as_deref().and_then(|bytes| bytes.try_into().ok());
            let is_whole = trace.is_some() == known.is_some();
            let line = Line {
                seq: row.get::<_, i64>(0)?.cast_unsigned(),
                at: Timestamp::from_micros(row.get::<_, i64>(1)?.cast_unsigned()),
                trace: known.map(TraceId::from_bytes),
                // What is not even text is not what was sealed either.
                line: String::from_utf8_lossy(bytes(row, 3)?).into_owned(),
            };
            each(line, is_whole);
        }
        Ok(())
    }

    fn each_proof(&self, each: &mut dyn FnMut(i64, Option<Indexed>)) -> Result<(), ReadError> {
        let select = "SELECT bucket, key, until, payment, trace FROM proof";
        let mut statement = self.connection.prepare(select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            each(row.get(0)?, indexed(row)?);
        }
        Ok(())
    }

    fn each_answer(&self, each: &mut dyn FnMut(&KeptRow<'_>)) -> Result<(), ReadError> {
        let select = "SELECT payment, kept_until, answered, status, fields, body FROM answer";
        let mut statement = self.connection.prepare(select)?;
        let mut rows = statement.query(())?;
        while let Some(row) = rows.next()? {
            let status: Option<i64> = row.get(3)?;
            let answer = match (status, optional(row, 4)?, optional(row, 5)?) {
                (None, None, None) => None,
                (status, fields, body) => Some((
                    // What is there in part is no answer that was ever given.
                    status.unwrap_or_default(),
                    fields.unwrap_or_default(),
                    body.unwrap_or_default(),
                )),
            };
            each(&KeptRow {
                payment: bytes(row, 0)?,
                kept_until: row.get(1)?,
                answered: bytes(row, 2)?,
                answer,
            });
        }
        Ok(())
    }
}

impl Source for Reader {
    type Error = ReadError;

    fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, ReadError> {
        Self::records(self, from, limit)
    }

    fn seals(&self, size: u64, limit: u32) -> Result<Vec<Seal>, ReadError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT size, root, chain, leaves FROM seal WHERE size > ?1 ORDER BY size LIMIT ?2",
        )?;
        let mut rows = statement.query((size.cast_signed(), limit))?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            let (size, seal) = seal(row)?;
            all.push(seal.ok_or(ReadError::Damaged { seq: size })?);
        }
        Ok(all)
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

    fn notes(&self) -> Result<Vec<(String, String)>, ReadError> {
        let mut statement = self.connection.prepare("SELECT name, body FROM note ORDER BY name")?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

/// A seal and the size it stands for; nothing if it is none.
fn seal(row: &Row<'_>) -> Result<(u64, Option<Seal>), ReadError> {
    let size = row.get::<_, i64>(0)?.cast_unsigned();
    let hash = |column| row.get::<_, Vec<u8>>(column).map(TryInto::try_into);
    let leaves = Hash::read_all(&row.get::<_, Vec<u8>>(3)?);
    let (Ok(root), Ok(chain), Some(leaves)) = (hash(1)?, hash(2)?, leaves) else {
        return Ok((size, None));
    };
    let (root, chain) = (Hash::from_bytes(root), Hash::from_bytes(chain));
    Ok((size, Some(Seal { size, root, chain, leaves })))
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

fn bytes<'a>(row: &'a Row<'_>, column: usize) -> Result<&'a [u8], ReadError> {
    Ok(row.get_ref(column)?.as_bytes().map_err(rusqlite::Error::from)?)
}

fn optional<'a>(row: &'a Row<'_>, column: usize) -> Result<Option<&'a [u8]>, ReadError> {
    Ok(row.get_ref(column)?.as_bytes_or_null().map_err(rusqlite::Error::from)?)
}

/// An entry of the index of proofs, behind its bucket; nothing if it is none.
fn indexed(row: &Row<'_>) -> Result<Option<Indexed>, ReadError> {
    let (key, payment): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(3)?);
    let until: Option<i64> = row.get(2)?;
    let trace = row.get::<_, Option<Vec<u8>>>(4)?.map(TryInto::try_into).transpose();
    let (Ok(key), Ok(payment), Ok(trace)) = (key.try_into(), payment.try_into(), trace) else {
        return Ok(None);
    };
    let indexed = Indexed {
        proof: Proof {
            fingerprint: Fingerprint::from_bytes(key),
            keep_until: until.map(|until| Timestamp::from_micros(until.cast_unsigned())),
        },
        payment: PaymentId::from_bytes(payment),
        trace: trace.map(TraceId::from_bytes),
    };
    Ok(Some(indexed))
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

/// Why a book is not sound, or why nobody knows.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not what was written.
    #[error(transparent)]
    Wrong(#[from] AllWrong),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<rusqlite::Error> for VerifyError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}
