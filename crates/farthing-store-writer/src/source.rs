//! A book that is read from its first record to its last, to be copied somewhere else.

use farthing_ledger::{PaymentId, Record, Seal};

use crate::Kept;

/// Everything of a book that is not derived from something else, and how far those have come who follow
/// it. The index of proofs follows from the records.
pub trait Source {
    /// Why it cannot be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The records from place `from` on, at most `limit`, in order.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn records(&self, from: u64, limit: u32) -> Result<Vec<Record>, Self::Error>;

    /// The seals behind the one over `size` records, at most `limit`, in order.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn seals(&self, size: u64, limit: u32) -> Result<Vec<Seal>, Self::Error>;

    /// The answers that are kept, of payments after `after` and in their order, at most `limit`.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn kept(&self, after: Option<PaymentId>, limit: u32) -> Result<Vec<Kept>, Self::Error>;

    /// Every note, in the order of their names.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn notes(&self) -> Result<Vec<(String, String)>, Self::Error>;
}
