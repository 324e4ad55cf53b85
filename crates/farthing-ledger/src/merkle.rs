//! The journal as a Merkle tree (RFC 6962 §2.1): one hash that stands for every line.
//!
//! A leaf is a line of the journal, exactly as written. What is hashed says first whether it is a leaf
//! or a node, so that neither can be passed off as the other. [`Tree`] keeps only the right edge, and
//! costs about one node a line; [`Forest`] keeps everything, and makes proofs. A proof is verified from
//! itself alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Fingerprint, ParseIdError};

#[cfg(test)]
mod tests;

/// What is hashed before a leaf.
const LEAF: &[u8] = &[0x00];

/// What is hashed before the two halves of a node.
const NODE: &[u8] = &[0x01];

/// The SHA-256 of a leaf, of a node, or of something that stands beside a tree.
///
/// Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    /// The root of the tree without leaves.
    #[must_use]
    pub fn empty() -> Self {
        Self(Sha256::digest([]).into())
    }

    /// A line of the journal as a leaf.
    #[must_use]
    pub fn leaf(line: &[u8]) -> Self {
        Self::over(&[LEAF, line])
    }

    /// The node over two others.
    #[must_use]
    pub fn node(left: &Self, right: &Self) -> Self {
        Self::over(&[NODE, &left.0, &right.0])
    }

    pub(crate) fn over(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads hashes that stand one behind the other.
    #[must_use]
    pub fn read_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        rest.is_empty().then(|| hashes.iter().map(|bytes| Self(*bytes)).collect())
    }

    /// Writes hashes one behind the other.
    #[must_use]
    pub fn write_all(hashes: &[Self]) -> Vec<u8> {
        hashes.iter().flat_map(|hash| hash.0).collect()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fingerprint::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse::<Fingerprint>().map(|bytes| Self(*bytes.as_bytes()))
    }
}

impl TryFrom<String> for Hash {
    type Error = ParseIdError;

    fn try_from(text: String) -> Result<Self, ParseIdError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

/// A tree that grows at its right edge, and keeps nothing else of itself: log n hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    /// The roots of the whole subtrees, the largest first: one for each bit of the size that is set.
    edge: Vec<Hash>,
}

impl Tree {
    /// The tree of this size and right edge, if there can be one.
    #[must_use]
    pub fn from_edge(size: u64, edge: Vec<Hash>) -> Option<Self> {
        let wanted = usize::try_from(size.count_ones()).ok()?;
        (edge.len() == wanted).then_some(Self { size, edge })
    }

    /// How many leaves it has.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Its right edge, the largest subtree first.
    #[must_use]
    pub fn edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Adds a leaf. Costs one node on average.
    pub fn push(&mut self, leaf: Hash) {
        let mut right = leaf;
        // Each bit that is set at the end of the size is a subtree as large as the one in hand.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.edge.pop() {
                right = Hash::node(&left, &right);
            }
        }
        self.edge.push(right);
        self.size = self.size.saturating_add(1);
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut edge = self.edge.iter().rev().copied();
        let smallest = edge.next().unwrap_or_else(Hash::empty);
        edge.fold(smallest, |right, left| Hash::node(&left, &right))
    }
}

/// A whole tree, for making proofs: twice as many hashes as there are leaves.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// The roots of all whole subtrees of 1, 2, 4, … leaves.
    levels: Vec<Vec<Hash>>,
}

impl FromIterator<Hash> for Forest {
    fn from_iter<I: IntoIterator<Item = Hash>>(leaves: I) -> Self {
        let mut forest = Self::default();
        for leaf in leaves {
            forest.push(leaf);
        }
        forest
    }
}

impl Forest {
    /// Adds a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else { return };
            row.push(hash);
            match row.as_slice() {
                [.., left, right] if row.len().is_multiple_of(2) => {
                    hash = Hash::node(left, right);
                }
                _ => return,
            }
        }
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.levels.first().map_or(0, Vec::len)).unwrap_or(u64::MAX)
    }

    /// The leaf at `index`, counting from 0.
    #[must_use]
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.levels.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// The root of the first `size` leaves; nothing if there are fewer.
    #[must_use]
    pub fn root(&self, size: u64) -> Option<Hash> {
        (size <= self.size()).then(|| if size == 0 { Hash::empty() } else { self.over(0, size) })
    }

    /// Proves that the leaf at `index` is in the tree of the first `size` leaves (RFC 6962 §2.1.1);
    /// nothing if there are fewer.
    #[must_use]
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        if index >= size || size > self.size() {
            return None;
        }
        let mut proof = Vec::new();
        let (mut start, mut end) = (0, size);
        while size_of(start, end) > 1 {
            let middle = middle(start, end);
            if index < middle {
                proof.push(self.over(middle, end));
                end = middle;
            } else {
                proof.push(self.over(start, middle));
                start = middle;
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// Proves that the tree of the first `older` leaves is the beginning of that of the first `size`
    /// (RFC 6962 §2.1.2); nothing if there are fewer. Of nothing, everything is the continuation.
    #[must_use]
    pub fn consistency(&self, older: u64, size: u64) -> Option<Vec<Hash>> {
        if older > size || size > self.size() {
            return None;
        }
        let mut proof = Vec::new();
        if older == 0 || older == size {
            return Some(proof);
        }
        let (mut start, mut end) = (0, size);
        while older < end {
            let middle = middle(start, end);
            if older <= middle {
                proof.push(self.over(middle, end));
                end = middle;
            } else {
                proof.push(self.over(start, middle));
                start = middle;
            }
        }
        // The older tree itself is known to whoever verifies, unless it ends inside another.
        if start > 0 {
            proof.push(self.over(start, end));
        }
        proof.reverse();
        Some(proof)
    }

    /// The root over the leaves from `start` to before `end`, where `start` begins a whole subtree.
    fn over(&self, start: u64, end: u64) -> Hash {
        let size = size_of(start, end);
        if size.is_power_of_two() {
            let row = usize::try_from(size.trailing_zeros()).ok();
            let row = row.and_then(|row| self.levels.get(row));
            let at = start.checked_div(size).and_then(|at| usize::try_from(at).ok());
            return row
                .zip(at)
                .and_then(|(row, at)| row.get(at))
                .copied()
                .unwrap_or_else(Hash::empty);
        }
        let middle = middle(start, end);
        Hash::node(&self.over(start, middle), &self.over(middle, end))
    }
}

const fn size_of(start: u64, end: u64) -> u64 {
    end.saturating_sub(start)
}

/// Where a tree of more than one leaf divides: after the largest power of two that is smaller than it.
fn middle(start: u64, end: u64) -> u64 {
    let last = size_of(start, end).saturating_sub(1);
    start.saturating_add(1 << last.checked_ilog2().unwrap_or_default())
}

/// Whether `proof` shows that `leaf` stands at `index` of the tree of this size and root.
#[must_use]
pub fn includes(root: &Hash, size: u64, index: u64, leaf: &Hash, proof: &[Hash]) -> bool {
    if index >= size {
        return false;
    }
    // Where the leaf and the last leaf stand on each level, on the way up.
    let (mut at, mut last) = (index, size.saturating_sub(1));
    let mut hash = *leaf;
    for step in proof {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            hash = Hash::node(step, &hash);
            // A subtree that is not whole has no right sibling until its level is left.
            let up = if at % 2 == 1 { 0 } else { at.trailing_zeros().min(63) };
            (at, last) = (at >> up, last >> up);
        } else {
            hash = Hash::node(&hash, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `size` and `root` continues the one of `older` size and
/// root.
#[must_use]
pub fn continues(root: &Hash, size: u64, older_root: &Hash, older: u64, proof: &[Hash]) -> bool {
    if older == 0 {
        return *older_root == Hash::empty() && proof.is_empty();
    }
    if older >= size {
        return older == size && older_root == root && proof.is_empty();
    }
    // Where the last leaves of both stand, on the level at which the older one's last subtree ends.
    let (mut at, mut last) = (older.saturating_sub(1), size.saturating_sub(1));
    let whole = at.trailing_ones();
    (at, last) = (at >> whole, last >> whole);
    let mut steps = proof.iter();
    // A whole older tree is its own beginning; any other begins with its last subtree.
    let first = if at == 0 { Some(older_root) } else { steps.next() };
    let Some(first) = first else { return false };
    let (mut old, mut new) = (*first, *first);
    for step in steps {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            old = Hash::node(step, &old);
            new = Hash::node(step, &new);
            let up = if at % 2 == 1 { 0 } else { at.trailing_zeros().min(63) };
            (at, last) = (at >> up, last >> up);
        } else {
            new = Hash::node(&new, step);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *older_root && new == *root
}
