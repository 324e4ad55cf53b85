//! Erasing personal data, without breaking what was sealed.
//!
//! ```text
//! Erasure ─► Survey (every record) ─► Plan ─► rewrite (the records it names) ─► Rewritten
//!                                       └──► Book::erase ─► Event::Erased { row: sealed, stands }
//! ```
//!
//! A line in which somebody stands is written anew with a pseudonym in their place, and a record says so:
//! which hash was sealed there, and which one stands there now. The tree goes on standing over what was
//! sealed, so that nothing that was published or proven before loses its meaning; [`Leaves`] holds lines,
//! seals and records of erasures together.
//!
//! A pseudonym is one-way: it follows from the name and from a key that is drawn for one erasure and
//! never written down. Within an erasure the same name has the same pseudonym, so that stories stay whole
//! and balances add up.

use std::fmt;

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::merkle::Hash;
use crate::{
    Account, AccountKind, Book, ChannelId, Event, Fingerprint, PaymentId, Proof, Record, RefundId,
    SpendingKey, SubscriptionId,
};

mod leaves;
mod plan;
mod survey;
#[cfg(test)]
mod tests;

pub use leaves::{Leaves, Unexplained};
pub use plan::Plan;
pub(crate) use survey::OpenWith;
pub use survey::Survey;

/// What stands where a text was erased.
pub const ERASED: &str = "erased";

/// How every pseudonym begins.
const PSEUDONYM: &str = "erased-";

/// How the bytes of every key begin that was erased. No key is found that does so by itself.
const KEY_PSEUDONYM: &[u8; 16] = b"farthing erased ";

/// The most rows that one erasure writes anew, since all of them are one transaction.
pub const ERASED_ROWS_MAX: usize = 100_000;

/// How many rows one record of an erasure names; a larger erasure has several.
const ROWS_A_RECORD: usize = 500;

/// Asks for somebody's personal data to be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// Whose.
    pub whose: Whose,
    /// Why, in words that name nobody: it stays.
    pub reason: String,
    /// What its pseudonyms are made with; drawn for this erasure, and never written down.
    pub key: ErasureKey,
}

/// Whose personal data is erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// A payer's, or that of the holder of a prepaid account with everybody who has spent it.
    Payer {
        /// The payer as its method knows it, or the holder.
        name: String,
        /// The key that the name stands for, if it stands for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<SpendingKey>,
    },
    /// That in payments and accounts to which nothing has happened since. What is open is passed over.
    Before(Timestamp),
}

/// What the pseudonyms of one erasure are made with. It has no `Debug` that shows it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureKey(pub [u8; 32]);

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ErasureKey")
    }
}

/// Whether a name is one that an erasure has left: whose it was, nobody can say.
#[must_use]
pub fn is_pseudonym(name: &str) -> bool {
    name.strip_prefix(PSEUDONYM).is_some_and(|rest| {
        rest.len() == 32 && rest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether a key is one that an erasure has left.
fn is_pseudonymous(key: &SpendingKey) -> bool {
    key.0.starts_with(KEY_PSEUDONYM)
}

impl ErasureKey {
    fn over(&self, kind: &str, what: &[u8]) -> Fingerprint {
        Fingerprint::of(kind, &[&self.0, what])
    }

    fn pseudonym(&self, name: &str) -> String {
        if is_pseudonym(name) {
            return name.to_owned();
        }
        let digest = self.over("erased name", name.as_bytes()).to_string();
        format!("{PSEUDONYM}{}", digest.get(..32).unwrap_or_default())
    }
}

/// A row of the journal that was written anew, as [`Event::Erased`] records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedRow {
    /// Its place.
    pub seq: u64,
    /// The hash of the line that was sealed there.
    pub sealed: Hash,
    /// The hash of the line that stands there now.
    pub stands: Hash,
}

/// A line that was written anew, and what else changes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// What is recorded of it.
    pub row: ErasedRow,
    /// The line that stands there from now on.
    pub line: String,
    /// The payment that it claims, whose answer is not kept any longer.
    pub payment: Option<PaymentId>,
    /// Proofs that say a name: before and after.
    pub proofs: Vec<(Proof, Proof)>,
}

/// How much was erased, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// Payments whose payer is not known any more.
    pub payments: u64,
    /// Holders of accounts that have a pseudonym now.
    pub holders: u64,
    /// Keys that are not known any more.
    pub keys: u64,
    /// Rows of the journal that were written anew.
    pub rows: u64,
    /// Whether the old rows are gone from where the book is kept, as far as its store can see to it:
    /// somebody who was reading may have kept them a while longer. Erasing again sees to it again.
    pub wiped: bool,
}

/// Something that is open with somebody, so that their data is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StillOpen {
    /// A payment that is neither delivered nor given up.
    #[error("{0} is not finished; `farthing payments stuck` says why")]
    Payment(PaymentId),
    /// A payment that the rail has not confirmed, or has disowned.
    #[error("{0} was not confirmed by its rail yet, or was disowned by it")]
    Unconfirmed(PaymentId),
    /// A payment that somebody looks into.
    #[error("the payout of {0} is held; release it first")]
    PayoutHeld(PaymentId),
    /// Money on its way back.
    #[error("{0} is on its way back")]
    Refund(RefundId),
    /// Money that is owed.
    #[error("{0} holds money; give it back or let it be spent")]
    Balance(Account),
    /// A session that is not closed.
    #[error("the session {0} is not closed; `farthing sessions close` closes it")]
    Session(ChannelId),
    /// A subscription that is not over.
    #[error("the subscription {0} is not over; `farthing subscriptions cancel` cancels it")]
    Subscription(SubscriptionId),
    /// A key that spends somebody else's account.
    #[error("the key {0} may spend an account; detach it first")]
    Key(SpendingKey),
}

/// Why nothing was erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum EraseError {
    /// The book knows nobody of that name.
    #[error("the book knows no payer and no holder of this name")]
    Unknown,
    /// Something is open with them.
    #[error("nothing was erased, since something is open: {}", sentences(.0))]
    Open(Vec<StillOpen>),
    /// The reason says whom it is about.
    #[error("the reason names whom it is about, and it stays; name a case instead")]
    Named,
    /// More than one transaction should write.
    #[error(
        "{0} rows are more than are erased at once ({ERASED_ROWS_MAX}); name an earlier date first"
    )]
    TooMany(u64),
    /// The journal is not sound.
    #[error("record {0} cannot be read; `farthing ledger verify` says more")]
    Damaged(u64),
    /// The store cannot answer. Erasing again is safe.
    #[error("the store does not answer")]
    Unavailable,
}

fn sentences(open: &[StillOpen]) -> String {
    open.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Whether an account is somebody's who pays. Sellers, rails and wallets stay who they are.
const fn is_customers(kind: AccountKind) -> bool {
    match kind {
        AccountKind::Prepaid | AccountKind::Funding => true,
        AccountKind::Clearing
        | AccountKind::Channel
        | AccountKind::Payable
        | AccountKind::Purse
        | AccountKind::Spent
        | AccountKind::PaidOut => false,
    }
}

impl Book {
    /// Follows an erasure that the journal is about to: the records to write of it, none if no row
    /// changes.
    ///
    /// The rows have to be written anew in the same commit, with everything that is kept of the book
    /// beside its journal.
    pub fn erase(&mut self, plan: &Plan, rows: &[Rewritten], now: Timestamp) -> Vec<Record> {
        self.forget_names(plan);
        for (before, after) in rows.iter().flat_map(|row| &row.proofs) {
            self.replace_proof(before, after);
        }
        let chunks = rows.chunks(ROWS_A_RECORD);
        let records = chunks.map(|rows| {
            let event = Event::Erased {
                reason: plan.reason().to_owned(),
                payments: rows.iter().filter_map(|row| row.payment).collect(),
                rows: rows.iter().map(|row| row.row).collect(),
            };
            self.enter_event(now, event)
        });
        records.collect()
    }
}
