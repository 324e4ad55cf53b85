//! What was sealed, by place.

use std::collections::BTreeMap;

use farthing_ledger::merkle::Hash;

/// The leaves of seals, for whoever reads the lines of a journal beside them.
#[derive(Debug, Default)]
pub struct Sealed {
    /// By the place of the first of them.
    leaves: BTreeMap<u64, Vec<Hash>>,
}

impl Sealed {
    /// Adds the leaves of the seal over `size` records.
    pub fn add(&mut self, size: u64, leaves: Vec<Hash>) {
        let count = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        self.leaves.insert(size.saturating_sub(count).saturating_add(1), leaves);
    }

    /// What was sealed at a place, if anything was.
    #[must_use]
    pub fn at(&self, seq: u64) -> Option<Hash> {
        let (first, leaves) = self.leaves.range(..=seq).next_back()?;
        let at = usize::try_from(seq.checked_sub(*first)?).ok()?;
        leaves.get(at).copied()
    }
}
