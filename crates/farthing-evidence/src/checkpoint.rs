//! Checkpoints (C2SP tlog-checkpoint): a journal's size and root, signed, to be kept by others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use farthing_ledger::Published;
use farthing_ledger::merkle::Hash;

use crate::keys::{Notary, TrustedKeys, is_name};
use crate::note::{self, NoteError, NoteKey};

#[cfg(test)]
mod tests;

/// What a book is called in its checkpoints, behind the realm.
const BOOK: &str = "/book";

/// A journal at one moment: whoever keeps it can prove later that nothing before it was rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose journal: the realm, and `/book`.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The journal of `notary`'s book.
    #[must_use]
    pub fn new(notary: &Notary, size: u64, root: Hash) -> Self {
        Self { origin: origin(notary.realm()), size, root }
    }

    /// Signs it, as a note by the name of its origin.
    #[must_use]
    pub fn sign(&self, notary: &Notary) -> String {
        // A notary's realm can always name a note.
        note::sign(&self.text(), &origin(notary.realm()), notary.key()).unwrap_or_default()
    }

    /// Reads a checkpoint that one of `keys` has signed by the name of its origin.
    ///
    /// # Errors
    ///
    /// A [`CheckpointError`].
    pub fn open(note: &str, keys: &TrustedKeys) -> Result<Self, CheckpointError> {
        let origin = note.lines().next().unwrap_or_default();
        let named = keys.keys().iter().filter_map(|key| NoteKey::new(origin, *key));
        let text = note::open(note, &named.collect::<Vec<_>>())?;
        Self::parse(text).ok_or(CheckpointError::Malformed)
    }

    /// The seller's realm.
    #[must_use]
    pub fn realm(&self) -> Option<&str> {
        self.origin.strip_suffix(BOOK)
    }

    /// What a journal can be held against.
    #[must_use]
    pub const fn published(&self) -> Published {
        Published { size: self.size, root: self.root }
    }

    /// The three lines that are signed.
    fn text(&self) -> String {
        let Self { origin, size, root } = self;
        format!("{origin}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
    }

    /// Reads three lines, in the one spelling they have.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root: [u8; 32] = STANDARD.decode(root).ok()?.try_into().ok()?;
        let (size, root) = (size.parse().ok()?, Hash::from_bytes(root));
        let read = Self { origin: origin.to_owned(), size, root };
        // What would be written otherwise is something else: leading zeros, signs, further lines.
        (is_name(origin) && read.text() == text).then_some(read)
    }
}

/// What the book of a realm is called.
pub(crate) fn origin(realm: &str) -> String {
    format!("{realm}{BOOK}")
}

/// Why a checkpoint is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Its signature is not right.
    #[error("the checkpoint is not believed: {0}")]
    Note(#[from] NoteError),
    /// What was signed is no checkpoint.
    #[error("what was signed is not a checkpoint: an origin, a size and a root, a line each")]
    Malformed,
}
