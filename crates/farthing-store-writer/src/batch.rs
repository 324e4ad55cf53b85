//! What one commit contains.

use farthing_core::Answer;
use farthing_ledger::merkle::Tree;
use farthing_ledger::{
    Answered, PaymentId, Proof, Record, Rewritten, Seal, Snapshot, claimed_proofs,
};

/// What one commit contains: all of it is durable afterwards, or none of it happened.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records, in order and without gaps.
    pub lines: Vec<Line>,
    /// What seals the records: one seal, or none where there is no record. A copy has as many as its
    /// original.
    pub seals: Vec<Seal>,
    /// What is kept of payments that were delivered.
    pub kept: Vec<Kept>,
    /// Notes: names, and what stands under each from now on.
    pub notes: Vec<(String, String)>,
    /// What else changes with the records of an erasure.
    pub erasing: Option<Box<Erasing>>,
}

/// What an erasure leaves: written after the records and seals of the same commit.
#[derive(Debug)]
pub struct Erasing {
    /// The rows of the journal that are written anew, and the proofs that change in the index with them.
    pub rows: Vec<Rewritten>,
    /// The payments whose answers are not kept any longer.
    pub payments: Vec<PaymentId>,
    /// The book as it stands then: no older snapshot is kept.
    pub snapshot: Snapshot,
    /// The tree over its journal.
    pub tree: Tree,
}

/// A record, and what is written of it.
#[derive(Debug)]
pub struct Line {
    /// The record.
    pub record: Record,
    /// The record as JSON: the bytes that are written, computed once.
    pub json: String,
    /// The proofs it claims, and the payment that owns each.
    pub proofs: Vec<(Proof, PaymentId)>,
}

/// What is needed to give an answer again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What the book has to know.
    pub answered: Answered,
    /// The answer, if it was not too long to keep.
    pub answer: Option<Box<Answer>>,
}

impl From<Record> for Line {
    fn from(record: Record) -> Self {
        let (json, proofs) = (record.to_json(), claimed_proofs(&record));
        Self { record, json, proofs }
    }
}

impl Batch {
    /// Adds a record.
    pub fn write(&mut self, record: Record) {
        self.lines.push(record.into());
    }

    /// Adds what came of a request, if it came to a record.
    pub(crate) fn extend(&mut self, record: Option<Record>) {
        self.lines.extend(record.map(Line::from));
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.kept.is_empty() && self.notes.is_empty()
    }

    /// The last record's place, if there is a record.
    #[must_use]
    pub fn last_seq(&self) -> Option<u64> {
        self.lines.last().map(|line| line.record.seq)
    }
}
