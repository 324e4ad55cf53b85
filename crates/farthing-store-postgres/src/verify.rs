//! Recomputing a book from its journal, and the journal from its seals.

use farthing_ledger::{
    AllWrong, Fingerprint, Indexed, PaymentId, Proof, Published, Row as Line, Seal, TraceId,
    Verified,
};
use farthing_money::Timestamp;
use farthing_store_writer::{KeptRow, LastSnapshot, Rows};
use tokio_postgres::Row;

use crate::journal::bytes;
use crate::reader::{PAGE, ReadError, Reader, Row1, SEALS, seal};

const LINES: &str = "
SELECT seq, at, trace, body FROM farthing.journal
WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const SNAPSHOT: &str = "
SELECT seq, body, edge FROM farthing.snapshot WHERE book = $1 ORDER BY seq DESC LIMIT 1";

const PROOFS: &str = "
SELECT bucket, key, until, payment, trace FROM farthing.proof
WHERE book = $1 AND (bucket, key) > ($2, $3) ORDER BY bucket, key LIMIT $4";

const ANSWERED: &str = "
SELECT payment, kept_until, answered, status, fields, body FROM farthing.answer
WHERE book = $1 AND payment > $2 ORDER BY payment LIMIT $3";

/// How many answers are read at once, bodies and all.
const ANSWERS_PAGE: u32 = 500;

/// Everything that follows is read as it stands at one moment.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl Reader {
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
        self.execute(ONE_MOMENT)?;
        let checked = farthing_store_writer::verify(self, published, now);
        self.execute("COMMIT")?;
        Ok(checked??)
    }
}

impl Rows for Reader {
    type Error = ReadError;

    fn each_seal(&self, each: &mut dyn FnMut(u64, Option<Seal>)) -> Result<(), ReadError> {
        let mut after = 0_i64;
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(PAGE)];
            let rows = self.rows(SEALS, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                let (size, seal) = seal(row)?;
                each(size, seal);
            }
            if is_last(&rows) {
                return Ok(());
            }
        }
    }

    fn last_snapshot(&self) -> Result<Option<LastSnapshot>, ReadError> {
        let rows = self.rows(SNAPSHOT, &[&self.book])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let seq = row.try_get::<_, i64>(0)?.cast_unsigned();
        let snapshot = serde_json::from_str(row.try_get(1)?).ok();
        Ok(Some(LastSnapshot::read(seq, snapshot, row.try_get(2)?)))
    }

    fn each_line(&self, each: &mut dyn FnMut(Line, bool)) -> Result<(), ReadError> {
        let mut after = 0_i64;
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(PAGE)];
            let rows = self.rows(LINES, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                let trace: Option<&[u8]> = row.try_get(2)?;
                let known = trace.and_then(|trace| trace.try_into().ok());
                let line = Line {
                    seq: after.cast_unsigned(),
                    at: Timestamp::from_micros(row.try_get::<_, i64>(1)?.cast_unsigned()),
                    trace: known.map(TraceId::from_bytes),
                    line: row.try_get(3)?,
                };
                each(line, trace.is_some() == known.is_some());
            }
            if is_last(&rows) {
                return Ok(());
            }
        }
    }

    fn each_proof(&self, each: &mut dyn FnMut(i64, Option<Indexed>)) -> Result<(), ReadError> {
        let (mut lies_in, mut key) = (i64::MIN, Vec::<u8>::new());
        loop {
            let row: Row1<'_> = &[&self.book, &lies_in, &key, &i64::from(PAGE)];
            let rows = self.rows(PROOFS, row)?;
            for row in &rows {
                (lies_in, key) = (row.try_get(0)?, row.try_get(1)?);
                each(lies_in, indexed(row)?);
            }
            if is_last(&rows) {
                return Ok(());
            }
        }
    }

    fn each_answer(&self, each: &mut dyn FnMut(&KeptRow<'_>)) -> Result<(), ReadError> {
        let mut after = Vec::<u8>::new();
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(ANSWERS_PAGE)];
            let rows = self.rows(ANSWERED, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                let answered: &str = row.try_get(2)?;
                let parts: (Option<i32>, Option<&[u8]>, Option<&[u8]>) =
                    (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
                let answer = match parts {
                    (None, None, None) => None,
                    (status, fields, body) => Some((
                        // What is there in part is no answer that was ever given.
                        i64::from(status.unwrap_or_default()),
                        fields.unwrap_or_default(),
                        body.unwrap_or_default(),
                    )),
                };
                each(&KeptRow {
                    payment: &after,
                    kept_until: row.try_get(1)?,
                    answered: answered.as_bytes(),
                    answer,
                });
            }
            if u32::try_from(rows.len()).is_ok_and(|rows| rows < ANSWERS_PAGE) {
                return Ok(());
            }
        }
    }
}

/// An entry of the index of proofs; nothing if it is none.
fn indexed(row: &Row) -> Result<Option<Indexed>, ReadError> {
    let until: Option<i64> = row.try_get(2)?;
    let trace: Option<&[u8]> = row.try_get(4)?;
    let trace = trace.map(TryInto::try_into).transpose();
    let (Some(key), Some(payment), Ok(trace)) = (bytes(row, 1), bytes(row, 3), trace) else {
        return Ok(None);
    };
    Ok(Some(Indexed {
        proof: Proof {
            fingerprint: Fingerprint::from_bytes(key),
            keep_until: until.map(|until| Timestamp::from_micros(until.cast_unsigned())),
        },
        payment: PaymentId::from_bytes(payment),
        trace: trace.map(TraceId::from_bytes),
    }))
}

fn is_last(rows: &[Row]) -> bool {
    u32::try_from(rows.len()).is_ok_and(|rows| rows < PAGE)
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
