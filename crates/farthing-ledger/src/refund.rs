//! Giving money back: refunds, and credits in the seller's book.

use farthing_money::Amount;
use serde::{Deserialize, Serialize};

use crate::{Account, Holder, Payment, PaymentId, RefundId, Settlement, TraceId, TransferError};

/// The facts of one refund, written down once, when it is ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refund {
    /// Names the refund.
    pub id: RefundId,
    /// The payment it gives back.
    pub payment: PaymentId,
    /// The payment's story.
    pub trace: TraceId,
    /// The payment method.
    pub method: String,
    /// How much.
    pub amount: Amount,
    /// Who is given it.
    pub payer: String,
    /// Whose earnings it is taken from.
    pub payee: Holder,
    /// Where it goes.
    pub way: Way,
    /// What it is made under: the same reference again is the same refund.
    pub reference: String,
    /// Why, in words for people.
    pub reason: String,
    /// What the rail is to send, in its own words; sent again it moves nothing twice. Nothing where
    /// the book itself moves the money.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Box<str>>,
}

/// Where the money of a refund goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Back where it came from.
    Back,
    /// To a prepaid account in the payer's name, in the seller's book.
    Credit,
}

/// Asks to give money of a payment back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundRequest {
    /// The facts.
    pub refund: Refund,
    /// The account credited.
    pub to: Account,
    /// The payment's price: no more than that is ever given back.
    pub price: Amount,
    /// Limits that hold in the same moment.
    pub limits: RefundLimits,
    /// Whether it makes up for an answer that will not come: it is refused once the answer was given, or
    /// while somebody tries for it.
    pub only_if_owed: bool,
}

impl RefundRequest {
    /// Asks to give `amount` of `payment` back under `reference`, to the account `to`. What was given
    /// back before counts.
    #[must_use]
    pub fn new(payment: &Payment, amount: Amount, to: Account, way: Way, reference: &str) -> Self {
        let refund = Refund {
            id: RefundId::of(payment.id, reference),
            payment: payment.id,
            trace: payment.trace,
            method: payment.method.clone(),
            amount,
            payer: payment.payer.clone(),
            payee: payment.payee.clone(),
            way,
            reference: reference.to_owned(),
            reason: String::new(),
            order: None,
        };
        let price = payment.amount.clone();
        Self { refund, to, price, limits: RefundLimits::default(), only_if_owed: false }
    }
}

/// How much may be given back, in atoms of each asset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLimits(pub Vec<RefundLimit>);

/// How much of one asset may be given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundLimit {
    /// The most that one refund may be.
    pub each_max: Amount,
    /// The most that all refunds ordered in one day of UTC may be.
    pub per_day_max: Amount,
}

/// Where a refund stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStanding {
    /// Ordered; the rail has not said that the money moved.
    Pending,
    /// The money moved.
    Posted(Settlement),
    /// It did not move and never will.
    Voided,
}

/// Why a refund was refused. Nothing is written, and nothing has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RefundError {
    /// The payment is being settled or delivered: ask again when it is finished. Or it was delivered
    /// meanwhile, and what was asked for makes up for an answer that is owed.
    #[error("the payment is being settled or answered; ask again when it is finished")]
    InProgress,
    /// The payment's money has not moved, so that there is nothing to give back.
    #[error("the payment was not paid; there is nothing to give back")]
    NotPaid,
    /// More than is left of the payment.
    #[error("no more can be given back than is left of the payment")]
    TooMuch,
    /// More than the operator's limits allow: today's or one refund's.
    #[error("the operator's limits for refunds do not allow it; see [refunds]")]
    OverLimit,
    /// The seller's account does not hold it.
    #[error("the seller's account does not hold that much any more")]
    Short,
    /// The reference was used for another amount or another way.
    #[error("the reference was used for another refund of this payment")]
    ReferenceTaken,
    /// Nobody knows any more who paid.
    #[error("who paid was erased, so that there is nobody to give it back to")]
    Erased,
    /// The request contradicts itself: ours to fix.
    #[error("the refund contradicts itself")]
    Malformed,
    /// The store cannot answer. Asking again is safe.
    #[error("the store does not answer")]
    Unavailable,
}

impl From<TransferError> for RefundError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Overdrawn => Self::Short,
            TransferError::SameAccount
            | TransferError::AssetMismatch
            | TransferError::NotPending
            | TransferError::PendingMismatch
            | TransferError::Overflow
            | TransferError::Duplicate => Self::Malformed,
        }
    }
}
