//! What every durable book has in common: one writer, batches, and answers after the sync.
//!
//! ```text
//! callers ──► Desk ──► queue ──► Writer ──► Journal::commit ──► every caller of the batch
//!                                  │ drains the queue, no timer: batches form by themselves under load
//!                                  └ the Book, in memory: decides each request before it is written
//! ```
//!
//! A database is a [`Journal`]: it writes a [`Batch`] whole and durably, or not at all, and looks a few
//! things up. Everything else is here, so that every book that lasts behaves the same.
//!
//! # Crash safety
//!
//! A caller is answered after the commit that contains its record. An error while writing stops the
//! writer for good: the book in memory is then ahead of the journal and must not answer again. Whoever
//! opens the journal next continues from what is there.
//!
//! **Architecture invariant:** nothing here knows a database, a file or a network.
//!
//! **Architecture invariant:** what was decided on top of a batch is not told to anybody before that
//! batch is written.

mod answer;
mod ask;
mod batch;
mod desk;
mod index;
mod sealed;
mod source;
mod verify;
mod writer;

pub use answer::read_fields;
pub use ask::{Ask, Said};
pub use batch::{Batch, Erasing, Kept, Line};
pub use desk::{Asker, Asks, Counts, Desk, GiveBack, Job, Owed, Refused, open, owe};
pub use farthing_core::write_fields;
#[doc(hidden)]
pub use farthing_ledger::{BudgetKey, OwnerView};
pub use index::{PROOFS_KEPT, REMEMBERED, bucket};
pub use sealed::Sealed;
pub use source::Source;
pub use verify::{KeptRow, LastSnapshot, Rows, verify};
pub use writer::{Journal, Writer};

/// How a writer behaves under load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many requests may wait for the writer; the next one is told to try again later.
    pub queue_max: usize,
    /// How many requests one commit may contain.
    pub batch_max: usize,
    /// After how many records the book is written down whole, so that a start stays quick.
    pub snapshot_every: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_max: 4_096, batch_max: 1_024, snapshot_every: 50_000 }
    }
}
