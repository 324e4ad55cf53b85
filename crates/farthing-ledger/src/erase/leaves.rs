//! What was sealed, what stands, and the records that say why the two differ.

use std::collections::BTreeMap;

use super::ErasedRow;
use crate::merkle::Hash;
use crate::{Event, Record};

/// Holds the lines of a journal against what was sealed of them, from the first line on or from any.
///
/// A line that differs from what was sealed is explained by a later record of an erasure, and by nothing
/// else; and what a record says was erased has to be what stands.
#[derive(Clone, Debug, Default)]
pub struct Leaves {
    /// Lines that are not what was sealed: what was, and what stands.
    differ: BTreeMap<u64, (Hash, Hash)>,
    /// Where the lines that were taken begin.
    from: Option<u64>,
    /// Whether the line that was taken last is what was sealed.
    is_sealed: bool,
    /// What was erased, and the last record that says so.
    erased: BTreeMap<u64, (ErasedRow, u64)>,
}

/// A row that is not what was sealed, or not what was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// No record says that it was erased, or that this stands there since.
    Edited {
        /// Its place.
        seq: u64,
        /// What stands there.
        stands: Hash,
    },
    /// A record says that it was erased, and it is not what the record says.
    NotErased {
        /// Its place.
        seq: u64,
        /// The record.
        by: u64,
    },
}

impl Leaves {
    /// Takes the line at `seq`, where `sealed` was sealed if anything was. Says which leaf of the tree
    /// it is.
    pub fn line(&mut self, seq: u64, sealed: Option<Hash>, line: &str) -> Hash {
        self.from = Some(self.from.map_or(seq, |from| from.min(seq)));
        let stands = Hash::leaf(line.as_bytes());
        self.is_sealed = sealed == Some(stands);
        match sealed {
            Some(sealed) if sealed != stands => {
                self.differ.insert(seq, (sealed, stands));
                sealed
            }
            Some(_) | None => stands,
        }
    }

    /// Takes the record in that line. One that is not what was sealed explains nothing.
    pub fn record(&mut self, record: &Record) {
        let Event::Erased { rows, .. } = &record.event else { return };
        for row in rows.iter().filter(|_| self.is_sealed) {
            self.erased.insert(row.seq, (*row, record.seq));
        }
    }

    /// How many rows stand there as an erasure has left them.
    #[must_use]
    pub fn erased(&self) -> u64 {
        u64::try_from(self.erased.len()).unwrap_or(u64::MAX)
    }

    /// The hash of the line that was sealed at `seq`, if it was erased.
    #[must_use]
    pub fn sealed(&self, seq: u64) -> Option<Hash> {
        self.erased.get(&seq).map(|(row, _)| row.sealed)
    }

    /// Everything that is not explained, in order. What lies before the lines that were taken is nobody's
    /// to explain here.
    #[must_use]
    pub fn unexplained(&self) -> Vec<Unexplained> {
        let mut all = BTreeMap::new();
        for (&seq, &(sealed, stands)) in &self.differ {
            let is_explained = self
                .erased
                .get(&seq)
                .is_some_and(|(row, by)| row.sealed == sealed && row.stands == stands && seq < *by);
            if !is_explained {
                all.insert(seq, Unexplained::Edited { seq, stands });
            }
        }
        for (&seq, (_, by)) in &self.erased {
            let is_taken = self.from.is_some_and(|from| from <= seq);
            if is_taken && !self.differ.contains_key(&seq) {
                all.insert(seq, Unexplained::NotErased { seq, by: *by });
            }
        }
        all.into_values().collect()
    }
}
