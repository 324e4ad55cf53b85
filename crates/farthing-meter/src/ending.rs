//! How streams end, and the fields in which they speak of it.

use farthing_mpp::Receipt;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::meter::MeterError;

/// An error, whatever it was before.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The field that receipts stand in, at the head of an answer and in its trailer.
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The upstream ended, and all of it was given.
    Complete,
    /// No voucher came in time.
    Unpaid,
    /// The channel is closed to the stream.
    Closed,
    /// The books cannot be written.
    Unavailable,
    /// The upstream broke off.
    Upstream,
    /// The upstream sent what cannot be held.
    TooLong,
    /// The client went away.
    Dropped,
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How it ended.
    pub end: End,
    /// Units that the payer is charged for.
    pub units: u64,
    /// How often it paused for payment.
    pub pauses: u64,
    /// Names of events, and fields of the head and the trailer, by which the upstream spoke of
    /// payments.
    pub forged: u64,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// No voucher came in time, or the channel closed: the payer's. A new request with a new voucher
    /// is answered.
    #[error("the answer was not paid for to its end")]
    Unpaid,
    /// The books cannot be written: the seller's.
    #[error("the answer cannot be charged for at the moment")]
    Unavailable,
    /// What the upstream sent cannot be held: the seller's.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// The upstream broke off.
    #[error("the upstream broke off")]
    Upstream(#[source] BoxError),
}

/// Takes out the fields by which an upstream speaks of payments, and says how many those were.
pub(crate) fn take_reserved(fields: &mut HeaderMap) -> u64 {
    let is_ours = |name: &&HeaderName| name.as_str().starts_with("payment-");
    let forged: Vec<HeaderName> = fields.keys().filter(is_ours).cloned().collect();
    for name in &forged {
        fields.remove(name);
    }
    u64::try_from(forged.len()).unwrap_or(u64::MAX)
}

/// A receipt among the trailers.
pub(crate) fn with_receipt(mut trailers: HeaderMap, receipt: Option<&Receipt>) -> HeaderMap {
    let value = receipt.and_then(|receipt| HeaderValue::try_from(receipt.format()).ok());
    if let Some(value) = value {
        trailers.insert(PAYMENT_RECEIPT, value);
    }
    trailers
}
