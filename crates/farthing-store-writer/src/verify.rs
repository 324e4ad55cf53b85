//! Verifying a book, wherever its rows are.

use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{
    AllWrong, Answered, Indexed, PaymentId, Published, Row, Seal, Snapshot, Verification, Verified,
    Wrong, answer_digest,
};
use farthing_money::Timestamp;

use crate::{PROOFS_KEPT, bucket};

/// The rows of a book as they stand, table by table, all as of one moment. A row that is not one that a
/// book writes is told as such, and read no further.
pub trait Rows {
    /// Why they cannot be read.
    type Error;

    /// Every seal, in order: the size it stands for, and the seal if it is one.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn each_seal(&self, each: &mut dyn FnMut(u64, Option<Seal>)) -> Result<(), Self::Error>;

    /// The last snapshot, if there is one.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn last_snapshot(&self) -> Result<Option<LastSnapshot>, Self::Error>;

    /// Every line of the journal, in order, and whether its trace is one.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn each_line(&self, each: &mut dyn FnMut(Row, bool)) -> Result<(), Self::Error>;

    /// Every entry of the index of proofs: the bucket it lies in, and the entry if it is one.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn each_proof(&self, each: &mut dyn FnMut(i64, Option<Indexed>)) -> Result<(), Self::Error>;

    /// Every answer that is kept.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn each_answer(&self, each: &mut dyn FnMut(&KeptRow<'_>)) -> Result<(), Self::Error>;
}

/// The last snapshot.
#[derive(Debug)]
pub struct LastSnapshot {
    /// Its place.
    pub seq: u64,
    /// The book and the tree of its journal, if they can be read.
    pub says: Option<(Snapshot, Tree)>,
}

impl LastSnapshot {
    /// Reads the text of a book and the right edge of its tree, both as of `seq`.
    #[must_use]
    pub fn read(seq: u64, snapshot: Option<Snapshot>, edge: &[u8]) -> Self {
        let snapshot = snapshot.filter(|it| it.seq == seq);
        let tree = Hash::read_all(edge).and_then(|edge| Tree::from_edge(seq, edge));
        Self { seq, says: snapshot.zip(tree) }
    }
}

/// An answer that is kept, column by column.
#[derive(Clone, Copy, Debug)]
pub struct KeptRow<'a> {
    /// Whose it is.
    pub payment: &'a [u8],
    /// Until when it can be given again.
    pub kept_until: i64,
    /// What the book has to know, as JSON.
    pub answered: &'a [u8],
    /// The status, the header fields and the body, where the answer was not too long to keep.
    pub answer: Option<(i64, &'a [u8], &'a [u8])>,
}

impl KeptRow<'_> {
    /// What the book has to know, if the columns agree on it.
    fn answered(&self) -> Option<Answered> {
        let answered = serde_json::from_slice::<Answered>(self.answered).ok()?;
        let payment = PaymentId::from_bytes(self.payment.try_into().ok()?);
        let until = Timestamp::from_micros(self.kept_until.cast_unsigned());
        (answered.payment == payment && answered.kept_until == until).then_some(answered)
    }

    /// The digest of the rest. A status that is none has another than every answer.
    fn digest(&self) -> farthing_ledger::Fingerprint {
        answer_digest(self.answer.map(|(status, fields, body)| {
            (u16::try_from(status).unwrap_or_default(), fields, body)
        }))
    }
}

/// Recomputes everything from the journal, and the journal from its seals: what is wrong with the book,
/// row by row. What was `published` of it is known to whoever could alter everything else.
///
/// # Errors
///
/// The rows cannot be read. What is wrong with them is the answer.
pub fn verify<R: Rows + ?Sized>(
    rows: &R,
    published: Vec<Published>,
    now: Timestamp,
) -> Result<Result<Verified, AllWrong>, R::Error> {
    let (mut seals, mut unread) = (Vec::new(), Vec::new());
    rows.each_seal(&mut |size, seal| match seal {
        Some(seal) => seals.push(seal),
        None => unread.push(Wrong::SealUnreadable { size }),
    })?;
    let snapshot = rows.last_snapshot()?.and_then(|LastSnapshot { seq, says }| {
        if says.is_none() {
            unread.push(Wrong::SnapshotUnreadable { seq });
        }
        says
    });
    let mut check = Verification::begin(&seals, snapshot, published);
    for wrong in unread {
        check.note(wrong);
    }
    rows.each_line(&mut |row, is_whole| {
        let seq = row.seq;
        check.row(&row);
        if !is_whole {
            check.note(Wrong::Column { seq, column: "trace" });
        }
    })?;
    rows.each_proof(&mut |lies_in, indexed| match indexed {
        // Nobody looks for a proof in another bucket than its own: there it is as good as deleted.
        Some(indexed) if lies_in == bucket(indexed.proof.keep_until) => check.proof(&indexed),
        Some(_) => {}
        None => check.note(Wrong::RowUnreadable { table: "proof" }),
    })?;
    rows.each_answer(&mut |row| match row.answered() {
        Some(answered) => check.answer(&answered, row.digest()),
        None => check.note(Wrong::RowUnreadable { table: "answer" }),
    })?;
    Ok(check.finish(now.before(PROOFS_KEPT), now))
}
