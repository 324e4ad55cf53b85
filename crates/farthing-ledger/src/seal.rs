//! Seals: what makes a line of the journal that was altered later be found, and named.

use serde::{Deserialize, Serialize};

use crate::merkle::{Hash, Tree};

#[cfg(test)]
mod tests;

/// What is hashed before everything that makes up a link of the chain.
const CHAIN: &[u8] = b"farthing seal v1\n";

/// What one commit added to the journal, written in that same commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// How many records the journal has with it.
    pub size: u64,
    /// The root of the tree over all of them.
    pub root: Hash,
    /// The hash of the seal before, of this size and of this root.
    pub chain: Hash,
    /// The leaves that were added: by them the very line that was altered is named.
    pub leaves: Vec<Hash>,
}

/// Seals batches of lines, one behind the other.
///
/// Costs the hash of each line and about one node a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealer {
    tree: Tree,
    chain: Hash,
}

impl Default for Sealer {
    fn default() -> Self {
        Self { tree: Tree::default(), chain: Hash::from_bytes([0; 32]) }
    }
}

impl Sealer {
    /// Goes on behind the seal whose chain is `chain`, over a journal whose tree is `tree`.
    #[must_use]
    pub const fn after(tree: Tree, chain: Hash) -> Self {
        Self { tree, chain }
    }

    /// The tree over everything sealed so far.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Seals the lines of one commit. The seal has to be written in it.
    pub fn seal<L: AsRef<str>>(&mut self, lines: impl IntoIterator<Item = L>) -> Seal {
        let leaves = lines.into_iter().map(|line| Hash::leaf(line.as_ref().as_bytes()));
        self.seal_leaves(leaves.collect())
    }

    pub(crate) fn seal_leaves(&mut self, leaves: Vec<Hash>) -> Seal {
        for leaf in &leaves {
            self.tree.push(*leaf);
        }
        let (size, root) = (self.tree.size(), self.tree.root());
        self.chain = chain(&self.chain, size, &root);
        Seal { size, root, chain: self.chain, leaves }
    }
}

/// The next link of the chain.
fn chain(before: &Hash, size: u64, root: &Hash) -> Hash {
    Hash::over(&[CHAIN, before.as_bytes(), &size.to_be_bytes(), root.as_bytes()])
}

/// What is wrong with a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealFault {
    /// It does not begin where the one before ends.
    #[error("it does not begin where the seal before it ends: one was deleted or moved")]
    Gap,
    /// Its leaves do not have its root.
    #[error("its leaves do not have its root: it was edited")]
    Root,
    /// Its chain does not follow.
    #[error("its chain does not follow from the seal before it: one of the two was edited")]
    Chain,
}

/// Checks that seals follow one another from the first on. The first that does not ends the check.
pub(crate) fn follow(seals: &[Seal]) -> Result<Sealer, (u64, SealFault)> {
    let mut sealer = Sealer::default();
    for seal in seals {
        let fault = |what| (seal.size, what);
        let added = u64::try_from(seal.leaves.len()).unwrap_or(u64::MAX);
        if added == 0 || sealer.tree.size().checked_add(added) != Some(seal.size) {
            return Err(fault(SealFault::Gap));
        }
        let sound = sealer.seal_leaves(seal.leaves.clone());
        if sound.root != seal.root {
            return Err(fault(SealFault::Root));
        }
        if sound.chain != seal.chain {
            return Err(fault(SealFault::Chain));
        }
    }
    Ok(sealer)
}
