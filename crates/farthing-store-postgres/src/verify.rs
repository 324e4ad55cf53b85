//! Recomputing a book from its journal, and the journal from its seals.

use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{
    AllWrong, Answered, Fingerprint, Indexed, PaymentId, Proof, Published, Row as Line, Seal,
    Snapshot, TraceId, Verification, Verified, Wrong,
};
use farthing_money::Timestamp;
use farthing_store_writer::{PROOFS_KEPT, bucket};
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
SELECT payment, kept_until, answered FROM farthing.answer
WHERE book = $1 AND payment > $2 ORDER BY payment LIMIT $3";

/// Everything that follows is read as it stands at one moment.
const ONE_MOMENT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl Reader {
    /// The whole journal as it was written, in order, with what stands beside each line.
    ///
    /// # Errors
    ///
    /// A [`ReadError`].
    pub fn lines(&self) -> Result<Vec<Line>, ReadError> {
        let mut lines = Vec::new();
        self.each_line(|line| lines.push(line), |seq| Err(ReadError::Damaged { seq }))?;
        Ok(lines)
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
        let checked = self.check(published);
        self.execute("COMMIT")?;
        Ok(checked?.finish(now.before(PROOFS_KEPT), now)?)
    }

    fn check(&self, published: Vec<Published>) -> Result<Verification, ReadError> {
        let mut unread = Vec::new();
        let seals = self.all_seals(&mut unread)?;
        let snapshot = self.last_snapshot(&mut unread)?;
        let mut check = Verification::begin(&seals, snapshot, published);
        for wrong in unread {
            check.note(wrong);
        }
        let mut odd = Vec::new();
        self.each_line(
            |line| check.row(&line),
            |seq| {
                odd.push(Wrong::Column { seq, column: "trace" });
                Ok(())
            },
        )?;
        for wrong in odd {
            check.note(wrong);
        }
        self.check_proofs(&mut check)?;
        self.check_answers(&mut check)?;
        Ok(check)
    }

    /// Reads the journal line by line; `odd` is told the place of a row whose columns are none.
    fn each_line(
        &self,
        mut each: impl FnMut(Line),
        mut odd: impl FnMut(u64) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let mut after = 0_i64;
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(PAGE)];
            let rows = self.rows(LINES, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                let seq = after.cast_unsigned();
                let trace: Option<&[u8]> = row.try_get(2)?;
                let known = trace.and_then(|trace| trace.try_into().ok());
                if trace.is_some() && known.is_none() {
                    odd(seq)?;
                }
                each(Line {
                    seq,
                    at: Timestamp::from_micros(row.try_get::<_, i64>(1)?.cast_unsigned()),
                    trace: known.map(TraceId::from_bytes),
                    line: row.try_get(3)?,
                });
            }
            if is_last(&rows) {
                return Ok(());
            }
        }
    }

    fn all_seals(&self, unread: &mut Vec<Wrong>) -> Result<Vec<Seal>, ReadError> {
        let (mut after, mut seals) = (0_i64, Vec::new());
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(PAGE)];
            let rows = self.rows(SEALS, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                match seal(row)? {
                    (_, Some(seal)) => seals.push(seal),
                    (size, None) => unread.push(Wrong::SealUnreadable { size }),
                }
            }
            if is_last(&rows) {
                return Ok(seals);
            }
        }
    }

    fn last_snapshot(
        &self,
        unread: &mut Vec<Wrong>,
    ) -> Result<Option<(Snapshot, Tree)>, ReadError> {
        let rows = self.rows(SNAPSHOT, &[&self.book])?;
        let Some(row) = rows.first() else { return Ok(None) };
        let seq = row.try_get::<_, i64>(0)?.cast_unsigned();
        let (body, edge): (&str, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
        let snapshot = serde_json::from_str::<Snapshot>(body).ok().filter(|it| it.seq == seq);
        let tree = Hash::read_all(edge).and_then(|edge| Tree::from_edge(seq, edge));
        let says = snapshot.zip(tree);
        if says.is_none() {
            unread.push(Wrong::SnapshotUnreadable { seq });
        }
        Ok(says)
    }

    fn check_proofs(&self, check: &mut Verification) -> Result<(), ReadError> {
        let (mut lies_in, mut key) = (i64::MIN, Vec::<u8>::new());
        loop {
            let row: Row1<'_> = &[&self.book, &lies_in, &key, &i64::from(PAGE)];
            let rows = self.rows(PROOFS, row)?;
            for row in &rows {
                (lies_in, key) = (row.try_get(0)?, row.try_get(1)?);
                match indexed(row)? {
                    // Nobody looks for a proof in another bucket than its own: there it is as good as
                    // deleted.
                    Some(indexed) if lies_in == bucket(indexed.proof.keep_until) => {
                        check.proof(&indexed);
                    }
                    Some(_) => {}
                    None => check.note(Wrong::RowUnreadable { table: "proof" }),
                }
            }
            if is_last(&rows) {
                return Ok(());
            }
        }
    }

    fn check_answers(&self, check: &mut Verification) -> Result<(), ReadError> {
        let mut after = Vec::<u8>::new();
        loop {
            let row: Row1<'_> = &[&self.book, &after, &i64::from(PAGE)];
            let rows = self.rows(ANSWERED, row)?;
            for row in &rows {
                after = row.try_get(0)?;
                let until = Timestamp::from_micros(row.try_get::<_, i64>(1)?.cast_unsigned());
                let answered = serde_json::from_str::<Answered>(row.try_get(2)?).ok();
                let answered =
                    answered.filter(|it| it.payment.to_bytes() == *after && it.kept_until == until);
                match answered {
                    Some(answered) => check.answer(&answered),
                    None => check.note(Wrong::RowUnreadable { table: "answer" }),
                }
            }
            if is_last(&rows) {
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
