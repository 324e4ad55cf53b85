//! Holds everything that a store keeps against its journal, and the journal against its seals.

use std::collections::{BTreeMap, VecDeque};

use farthing_money::Timestamp;

use crate::audit::Auditor;
use crate::book::claimed_proofs;
use crate::merkle::{Hash, Tree};
use crate::seal::{self, Seal, SealFault};
use crate::{
    Account, Answered, Audit, Book, Event, Fault, Fingerprint, Leaves, PaymentId, Proof, Record,
    Snapshot, SpendingKey, TraceId, TransferId, Unexplained,
};

#[cfg(test)]
mod tests;

/// How many things are named before the rest is only counted.
const NAMED_MAX: usize = 100;

/// A line of the journal with what the store keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: u64,
    /// When it was decided, as the store's column says.
    pub at: Timestamp,
    /// The story it belongs to, as the store's column says.
    pub trace: Option<TraceId>,
    /// The line, as it was written.
    pub line: String,
}

/// An entry of the index of proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// The proof.
    pub proof: Proof,
    /// The payment that owns it.
    pub payment: PaymentId,
    /// Its story, if it belongs to one.
    pub trace: Option<TraceId>,
}

/// A journal that somebody published a root of, so that it is known to whoever can alter the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// How many records it had.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// A verification under way: the rows in order, then the projections, then the verdict.
///
/// Believes nothing but the lines of the journal, and these only as far as they were sealed.
pub struct Verification {
    wrong: Vec<Wrong>,
    more: usize,
    /// What was sealed, by place; nothing where a seal is missing.
    sealed: Vec<Option<Hash>>,
    seals: u64,
    /// The journal as it was sealed, and as it is where nothing was.
    tree: Tree,
    leaves: Leaves,
    next: u64,
    published: VecDeque<Published>,
    auditor: Auditor,
    fault: Option<Fault>,
    /// The book as the journal makes it; nothing once it cannot be followed.
    book: Option<Book>,
    snapshot: Option<(Snapshot, Tree)>,
    proofs: BTreeMap<Fingerprint, (u64, Indexed)>,
    /// What was delivered, and the digest of what is kept of it where the journal says one.
    answers: BTreeMap<PaymentId, (Answered, Option<Fingerprint>)>,
}

impl Verification {
    /// Begins with what the journal is held against: its seals in order, the store's last snapshot of
    /// the book, and what was published of it.
    #[must_use]
    pub fn begin(
        seals: &[Seal],
        snapshot: Option<(Snapshot, Tree)>,
        mut published: Vec<Published>,
    ) -> Self {
        published.sort_by_key(|it| it.size);
        let mut begun = Self {
            wrong: Vec::new(),
            more: 0,
            sealed: sealed(seals),
            seals: u64::try_from(seals.len()).unwrap_or(u64::MAX),
            tree: Tree::default(),
            leaves: Leaves::default(),
            next: 1,
            published: published.into(),
            auditor: Auditor::default(),
            fault: None,
            book: Some(Book::default()),
            snapshot,
            proofs: BTreeMap::new(),
            answers: BTreeMap::new(),
        };
        if let Err((size, what)) = seal::follow(seals) {
            begun.note(Wrong::Seal { size, what });
        }
        begun.compare_published();
        begun
    }

    /// Notes something that the store itself has found wrong.
    pub fn note(&mut self, wrong: Wrong) {
        if self.wrong.len() < NAMED_MAX {
            self.wrong.push(wrong);
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    /// Takes the next line of the journal.
    pub fn row(&mut self, row: &Row) {
        self.missing_until(row.seq);
        self.next = row.seq.saturating_add(1);
        let sealed = self.sealed_at(row.seq);
        if sealed.is_none() {
            self.note(Wrong::Unsealed { seq: row.seq });
        }
        self.tree.push(self.leaves.line(row.seq, sealed, &row.line));
        self.compare_published();
        let Ok(record) = Record::from_json(row.line.as_bytes()) else {
            self.book = None;
            return self.note(Wrong::Unreadable { seq: row.seq });
        };
        for (column, same) in [
            ("seq", record.seq == row.seq),
            ("at", record.at == row.at),
            ("trace", record.trace == row.trace),
        ] {
            if !same {
                self.note(Wrong::Column { seq: row.seq, column });
            }
        }
        if self.fault.is_none()
            && let Err(what) = self.auditor.take(&record)
        {
            self.fault = Some(Fault { seq: row.seq, what });
        }
        self.follow(&record);
    }

    /// Every record from the next one to before `seq` is missing.
    fn missing_until(&mut self, seq: u64) {
        for missing in self.next..seq {
            if self.wrong.len() == NAMED_MAX {
                let rest = usize::try_from(seq.saturating_sub(missing)).unwrap_or(usize::MAX);
                self.more = self.more.saturating_add(rest);
                return;
            }
            self.note(Wrong::Missing { seq: missing });
        }
    }

    fn sealed_at(&self, seq: u64) -> Option<Hash> {
        let place = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        place.and_then(|place| self.sealed.get(place)).copied().flatten()
    }

    /// Names the rows that are not what was sealed, and not what an erasure has left of it.
    fn compare_sealed(&mut self) {
        for unexplained in self.leaves.unexplained() {
            let wrong = match unexplained {
                Unexplained::NotErased { seq, by } => Wrong::NotErased { seq, by },
                Unexplained::Edited { seq, .. } if self.wrong.len() >= NAMED_MAX => {
                    Wrong::Edited { seq }
                }
                Unexplained::Edited { seq, stands } => {
                    let mut from = self.sealed.iter().zip(1..);
                    let from = from.find(|(other, _)| **other == Some(stands));
                    from.map_or(Wrong::Edited { seq }, |(_, from)| Wrong::Moved { seq, from })
                }
            };
            self.note(wrong);
        }
    }

    fn compare_published(&mut self) {
        let size = self.tree.size();
        while let Some(published) = self.published.pop_front_if(|it| it.size == size) {
            if published.root != self.tree.root() {
                self.note(Wrong::Published { size });
            }
        }
    }

    /// Follows a record into the projections.
    fn follow(&mut self, record: &Record) {
        self.leaves.record(record);
        if let Event::Erased { payments, .. } = &record.event {
            for payment in payments {
                self.answers.remove(payment);
            }
        }
        for (proof, payment) in claimed_proofs(record) {
            let indexed = Indexed { proof, payment, trace: record.trace };
            self.proofs.insert(proof.fingerprint, (record.seq, indexed));
        }
        let Some(book) = &mut self.book else { return };
        if book.replay(record).is_err() {
            // The audit says what is wrong with it.
            self.book = None;
            return;
        }
        if let Event::Delivered { payment, kept, .. } = &record.event
            && let Some(answered) = book.answered(*payment)
        {
            self.answers.insert(*payment, (answered, *kept));
        }
        let Some((snapshot, tree)) = self.snapshot.take_if(|it| it.0.seq <= record.seq) else {
            return;
        };
        if let Some(part) = snapshot.difference(&book.snapshot()) {
            self.note(Wrong::Snapshot { seq: snapshot.seq, part });
        } else if tree != self.tree {
            self.note(Wrong::Snapshot { seq: snapshot.seq, part: SnapshotPart::Tree });
        }
    }

    /// Takes an entry of the index of proofs.
    pub fn proof(&mut self, indexed: &Indexed) {
        let proof = indexed.proof.fingerprint;
        match self.proofs.remove(&proof) {
            Some((_, claimed)) if claimed == *indexed => {}
            Some((seq, _)) => self.note(Wrong::ProofEdited { proof, seq }),
            None => self.note(Wrong::ProofInserted { proof }),
        }
    }

    /// Takes an answer that is kept to be given again, as far as the journal knows it, and the digest of
    /// the rest of it.
    pub fn answer(&mut self, answered: &Answered, kept: Fingerprint) {
        let payment = answered.payment;
        match self.answers.remove(&payment) {
            Some((known, digest)) if known == *answered => {
                if digest.is_some_and(|digest| digest != kept) {
                    self.note(Wrong::AnswerForged { payment });
                }
            }
            Some(_) => self.note(Wrong::AnswerEdited { payment }),
            None => self.note(Wrong::AnswerInserted { payment }),
        }
    }

    /// Ends. Proofs that could be presented until `proofs_from`, and answers that could be given until
    /// `answers_from`, may have been dropped.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, in the order of the book, once the journal is not what was sealed or
    /// something else is not what the journal makes of it.
    pub fn finish(
        mut self,
        proofs_from: Timestamp,
        answers_from: Timestamp,
    ) -> Result<Verified, AllWrong> {
        let sealed = u64::try_from(self.sealed.len()).unwrap_or(u64::MAX);
        self.missing_until(sealed.saturating_add(1));
        self.compare_sealed();
        let records = self.tree.size();
        for published in std::mem::take(&mut self.published) {
            self.note(Wrong::Cut { size: published.size, records });
        }
        if let Some((snapshot, _)) = self.snapshot.take().filter(|_| self.book.is_some()) {
            self.note(Wrong::Snapshot { seq: snapshot.seq, part: SnapshotPart::Place });
        }
        for (proof, (seq, indexed)) in std::mem::take(&mut self.proofs) {
            if indexed.proof.keep_until.is_none_or(|until| until >= proofs_from) {
                self.note(Wrong::ProofMissing { proof, seq });
            }
        }
        for (payment, (answered, _)) in std::mem::take(&mut self.answers) {
            if answered.kept_until >= answers_from {
                self.note(Wrong::AnswerMissing { payment });
            }
        }
        let audit = match self.fault.take() {
            Some(fault) => Err(fault),
            None => std::mem::take(&mut self.auditor).finish(),
        };
        match audit {
            Ok(audit) if self.wrong.is_empty() => {
                let (seals, root, erased) = (self.seals, self.tree.root(), self.leaves.erased());
                Ok(Verified { audit, seals, root, erased })
            }
            Ok(_) => Err(AllWrong { named: self.wrong, more: self.more }),
            Err(fault) => {
                self.note(Wrong::Fault(fault));
                Err(AllWrong { named: self.wrong, more: self.more })
            }
        }
    }
}

/// The leaves that were sealed, each at its place.
fn sealed(seals: &[Seal]) -> Vec<Option<Hash>> {
    let mut sealed: Vec<Option<Hash>> = Vec::new();
    let leaves: usize = seals.iter().map(|seal| seal.leaves.len()).sum();
    for seal in seals {
        let end = usize::try_from(seal.size).unwrap_or(usize::MAX);
        // A place far beyond everything that was sealed is nobody's; the check of the seals names it.
        if end > leaves.saturating_mul(2).saturating_add(NAMED_MAX) {
            continue;
        }
        sealed.resize(end.max(sealed.len()), None);
        let places = sealed.get_mut(..end).unwrap_or_default().iter_mut().rev();
        for (place, leaf) in places.zip(seal.leaves.iter().rev()) {
            *place = Some(*leaf);
        }
    }
    sealed
}

/// A book of which everything is as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What the journal adds up to.
    pub audit: Audit,
    /// How many seals there are.
    pub seals: u64,
    /// The root over the whole journal, as it was sealed.
    pub root: Hash,
    /// How many records stand there as an erasure has left them.
    pub erased: u64,
}

/// Everything that is wrong with a book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", sentences(.named, *.more))]
pub struct AllWrong {
    /// What is named.
    pub named: Vec<Wrong>,
    /// How much more there is.
    pub more: usize,
}

fn sentences(named: &[Wrong], more: usize) -> String {
    let mut lines: Vec<String> = named.iter().map(ToString::to_string).collect();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A record is not there.
    #[error("record {seq} was deleted")]
    Missing {
        /// Its place.
        seq: u64,
    },
    /// A record is not the line that was sealed.
    #[error("record {seq} is not the line that was sealed: it was edited")]
    Edited {
        /// Its place.
        seq: u64,
    },
    /// A record of an erasure names a row that it did not erase, or that was altered since.
    #[error("record {by} says that record {seq} was erased, and that is not what stands there")]
    NotErased {
        /// The row's place.
        seq: u64,
        /// The record of the erasure.
        by: u64,
    },
    /// A record was sealed at another place.
    #[error("record {seq} was sealed as record {from}: records were moved")]
    Moved {
        /// Its place now.
        seq: u64,
        /// Its place when it was sealed.
        from: u64,
    },
    /// A record was never sealed.
    #[error("record {seq} was never sealed: it was inserted, or its seal was deleted")]
    Unsealed {
        /// Its place.
        seq: u64,
    },
    /// A line is not a record.
    #[error("record {seq} cannot be read")]
    Unreadable {
        /// Its place.
        seq: u64,
    },
    /// A column beside a line says something else than the line.
    #[error("record {seq}: the column `{column}` does not say what the line says")]
    Column {
        /// Its place.
        seq: u64,
        /// The column.
        column: &'static str,
    },
    /// A record cannot be true.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A seal does not follow.
    #[error("the seal over the first {size} records: {what}")]
    Seal {
        /// How many records it says there are.
        size: u64,
        /// What is wrong with it.
        what: SealFault,
    },
    /// A seal cannot be read.
    #[error("the seal over the first {size} records cannot be read")]
    SealUnreadable {
        /// How many records it says there are.
        size: u64,
    },
    /// The journal is not the one of which a checkpoint was published.
    #[error(
        "the first {size} records are not those of the published checkpoint: the journal was \
         rewritten after it was published"
    )]
    Published {
        /// How many records were published.
        size: u64,
    },
    /// The journal is shorter than one that was published.
    #[error(
        "a checkpoint of {size} records was published, and there are {records}: some were cut off"
    )]
    Cut {
        /// How many records were published.
        size: u64,
        /// How many there are.
        records: u64,
    },
    /// The snapshot is not what the journal makes.
    #[error("the snapshot at record {seq} is not what the journal makes: {part}")]
    Snapshot {
        /// The last record it contains.
        seq: u64,
        /// What differs.
        part: SnapshotPart,
    },
    /// The snapshot cannot be read.
    #[error("the snapshot at record {seq} cannot be read")]
    SnapshotUnreadable {
        /// The last record it says it contains.
        seq: u64,
    },
    /// A row of a projection is none.
    #[error("a row of the table `{table}` is not one that a book writes")]
    RowUnreadable {
        /// The table.
        table: &'static str,
    },
    /// A claimed proof is not in the index: it could be used again.
    #[error("the proof {proof} of record {seq} was deleted from the index: it could be used again")]
    ProofMissing {
        /// The proof.
        proof: Fingerprint,
        /// The record that claimed it.
        seq: u64,
    },
    /// A proof in the index is not as it was claimed.
    #[error("the proof {proof} of record {seq} does not stand in the index as it was claimed")]
    ProofEdited {
        /// The proof.
        proof: Fingerprint,
        /// The record that claimed it.
        seq: u64,
    },
    /// A proof in the index was never claimed.
    #[error("the proof {proof} in the index was never claimed: it was inserted")]
    ProofInserted {
        /// The proof.
        proof: Fingerprint,
    },
    /// An answer that should be kept is not.
    #[error("the answer kept for {payment} was deleted")]
    AnswerMissing {
        /// The payment.
        payment: PaymentId,
    },
    /// What is kept about an answer is not what the journal says.
    #[error("what is kept about the answer for {payment} is not what the journal says")]
    AnswerEdited {
        /// The payment.
        payment: PaymentId,
    },
    /// The answer that is kept is not the one that was given.
    #[error("the answer kept for {payment} is not the one that was given: it was edited")]
    AnswerForged {
        /// The payment.
        payment: PaymentId,
    },
    /// An answer is kept that was never given.
    #[error("an answer is kept for {payment}, which was never delivered: it was inserted")]
    AnswerInserted {
        /// The payment.
        payment: PaymentId,
    },
}

/// What differs between a snapshot and the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotPart {
    /// There is no such record.
    #[error("there is no such record")]
    Place,
    /// How often the book was taken over.
    #[error("how often the book was opened")]
    Epoch,
    /// An account's balance.
    #[error("the balance of {0}")]
    Account(Account),
    /// A pending transfer.
    #[error("the pending transfer {0}")]
    Pending(TransferId),
    /// A key that may spend.
    #[error("the key {0}")]
    Key(SpendingKey),
    /// An unfinished payment.
    #[error("the payment {0}")]
    Payment(PaymentId),
    /// What was given back.
    #[error("what was given back")]
    Refunds,
    /// What the rails are to be asked about.
    #[error("what the rails are to be asked about")]
    Unmatched,
    /// Whose payout is held.
    #[error("whose payout is held")]
    PayoutsHeld,
    /// The channels.
    #[error("where the channels stand")]
    Channels,
    /// What of the owner's budgets is held and spent.
    #[error("what of the budgets is held and spent")]
    Budgets,
    /// Whom the owner has frozen.
    #[error("who is frozen")]
    Frozen,
    /// The subscriptions.
    #[error("where the subscriptions stand")]
    Subscriptions,
    /// The edge of the tree.
    #[error("the hashes of the journal's tree")]
    Tree,
}
