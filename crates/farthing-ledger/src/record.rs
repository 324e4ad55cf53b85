//! The journal's records.

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ChannelEvent, ChannelId, ErasedRow, Finding, Fingerprint, Holder, Outcome, OwnerStep, Payment,
    PaymentId, Proof, Refund, RefundId, Settlement, SpendingKey, SubscriptionEvent, SubscriptionId,
    TraceId, Transfer, VoidReason,
};

/// One line of the journal: something that happened, and the transfers it consists of.
///
/// Balances follow from the transfers alone, payments from the events alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its place: 1, 2, 3, without gaps.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The payment's story it belongs to, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
    /// What happened.
    pub event: Event,
    /// The money that moved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Transfer>,
}

impl Record {
    /// Writes the record as one line of JSON, members in the order of declaration.
    #[must_use]
    pub fn to_json(&self) -> String {
        // In-memory data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What happened, in a few words for people.
    #[must_use]
    pub fn summary(&self) -> String {
        crate::report::sentence(&self.event)
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// Whatever is wrong with the text, as `serde_json` says it.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}

/// What can happen to a book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A writer took the book over, after every earlier one had stopped.
    Opened {
        /// Which one, counting from 1.
        epoch: u64,
    },
    /// A key may spend a prepaid account from now on.
    KeyAttached {
        /// The key.
        key: SpendingKey,
        /// The holder of the account.
        holder: Holder,
    },
    /// A key may no longer spend.
    KeyDetached {
        /// The key.
        key: SpendingKey,
    },
    /// The operator put money into a prepaid account.
    Funded {
        /// The operator's own reference, which counts once.
        reference: String,
    },
    /// A payment's proof was taken.
    Claimed {
        /// The payment.
        payment: Box<Payment>,
        /// What must not be used again.
        proofs: Vec<Proof>,
        /// Present where the money moved in the same moment, within this book.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settlement: Option<Settlement>,
    },
    /// The rail said that the money moved.
    Posted {
        /// The payment.
        payment: PaymentId,
        /// The rail's word.
        settlement: Settlement,
    },
    /// A pending payment was given up.
    Voided {
        /// The payment.
        payment: PaymentId,
        /// Why.
        reason: VoidReason,
    },
    /// The answer that was paid for was not given: the handler failed. It is still owed.
    Failed {
        /// The payment.
        payment: PaymentId,
        /// How it went.
        outcome: Outcome,
    },
    /// The answer of a payment that must not happen twice is tried for again: from here on nobody can
    /// tell whether its handler has begun.
    Resumed {
        /// The payment.
        payment: PaymentId,
    },
    /// The answer that was paid for was given.
    Delivered {
        /// The payment.
        payment: PaymentId,
        /// How it went.
        outcome: Outcome,
        /// The digest of what is kept to be given again, as [`answer_digest`](crate::answer_digest)
        /// makes it; nothing in books from before there were such digests.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<Fingerprint>,
    },
    /// Money of a payment was ordered back, or credited to its payer.
    Refunded {
        /// The refund.
        refund: Box<Refund>,
        /// Present where the money moved in the same moment, within this book.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settlement: Option<Settlement>,
    },
    /// The rail said that a refund's money moved.
    RefundPosted {
        /// The payment.
        payment: PaymentId,
        /// The refund.
        refund: RefundId,
        /// The rail's word.
        settlement: Settlement,
    },
    /// A refund's money did not move and never will.
    RefundVoided {
        /// The payment.
        payment: PaymentId,
        /// The refund.
        refund: RefundId,
    },
    /// The book was held against what the rail says by now.
    Reconciled {
        /// The payment.
        payment: PaymentId,
        /// What was found.
        finding: Finding,
    },
    /// What a seller earned with a payment is not to be paid out for now.
    PayoutHeld {
        /// The payment.
        payment: PaymentId,
        /// Why.
        reason: String,
    },
    /// What a seller earned with a payment may be paid out again.
    PayoutReleased {
        /// The payment.
        payment: PaymentId,
        /// Why.
        reason: String,
    },
    /// Something happened to a channel. What is paid with a voucher is a payment like any other.
    Channel {
        /// The channel.
        channel: ChannelId,
        /// What happened.
        step: ChannelEvent,
    },
    /// The owner of a wallet has decided something. What was allowed stands with the payment's claim.
    Owner {
        /// What.
        step: OwnerStep,
    },
    /// Something happened to a subscription. What is charged and used is a payment like any other.
    Subscription {
        /// The subscription.
        subscription: SubscriptionId,
        /// What happened.
        step: SubscriptionEvent,
    },
    /// What a seller earned with a payment was paid out.
    PaidOut {
        /// The payment.
        payment: PaymentId,
        /// The operator's own reference.
        reference: String,
    },
    /// Personal data was erased: these rows were written anew, and stand there instead of what was
    /// sealed.
    Erased {
        /// Why.
        reason: String,
        /// The payments among them whose payer is not known any more, and whose answers are not kept.
        payments: Vec<PaymentId>,
        /// The rows.
        rows: Vec<ErasedRow>,
    },
}
