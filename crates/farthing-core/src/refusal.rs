//! Why a credential bought nothing, and whose turn it is.

use farthing_ledger::{
    ChannelError, ChannelId, Fingerprint, PaymentId, Subscription, SubscriptionError,
    SubscriptionId,
};

/// What a payer got wrong. Each becomes a fresh challenge and one problem type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The credential cannot be read: `malformed-credential`.
    #[error("the credential cannot be read")]
    Malformed,
    /// More than one credential came: 400, since nobody can say which one was meant.
    #[error("the request carries more than one credential")]
    Ambiguous,
    /// The challenge was not issued here, was altered, or is for another request:
    /// `invalid-challenge`.
    #[error("the challenge is not one of ours for this request")]
    Foreign,
    /// The challenge is ours and for this very thing, with another body: `invalid-challenge`, unless
    /// it was answered already.
    #[error("the challenge is for another body")]
    OtherBody(Fingerprint),
    /// The challenge has expired: `payment-expired`.
    #[error("the challenge has expired")]
    Expired,
    /// The method or intent is not accepted: `method-unsupported`.
    #[error("the payment method is not accepted")]
    Unsupported,
    /// The proof is for less than the price: `payment-insufficient`.
    #[error("the payment is for less than the price")]
    Insufficient,
    /// The proof does not verify: `verification-failed`.
    #[error("the proof does not verify")]
    Invalid,
    /// The signature of an action within a session does not verify: `session/invalid-signature`.
    #[error("the signature does not verify")]
    Signature,
}

/// Why a credential bought nothing. The variants are the answers a caller may give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The payer's fault: a fresh challenge and a problem.
    #[error(transparent)]
    Payer(#[from] Rejection),
    /// The challenge was answered before: a fresh challenge, `invalid-challenge`.
    #[error("the challenge was answered before")]
    Replayed,
    /// The payment was given back, since its answer would not come: a fresh challenge,
    /// `invalid-challenge`.
    #[error("the payment was given back")]
    GivenBack,
    /// The payer's account does not hold the price: a fresh challenge, `payment-insufficient`.
    #[error("the account does not hold the price")]
    Short,
    /// The rail said no: a fresh challenge, `verification-failed`.
    #[error("the rail declined the payment")]
    Declined,
    /// The `Idempotency-Key` belongs to another payment, which is not answered yet: 409. Nothing was
    /// taken.
    #[error("the idempotency key was used for another payment")]
    Conflict,
    /// The `Idempotency-Key` belongs to another request: 422. Nothing was taken.
    #[error("the idempotency key was used for another request")]
    KeyMisused,
    /// The credential has paid for the same thing with another body: 409. Nothing was taken, and a
    /// client that only tries again must not pay again.
    #[error("the credential was used with another body")]
    OtherBody,
    /// The payment was answered, with more than is kept: 409. Nothing was taken.
    #[error("the payment was answered, and its answer was not kept")]
    Answered,
    /// The payment's delivery was interrupted, and what was bought must not happen twice: 500. The
    /// books show it, and it is the seller's to mend.
    #[error("the delivery was interrupted")]
    Interrupted,
    /// This very payment is being settled or delivered: 503. The payer keeps the credential.
    #[error("the payment is in progress")]
    InProgress(PaymentId),
    /// The rail has undone the payer's transaction, or would: 409 with a fresh challenge,
    /// `session/transaction-reverted`. Nothing was taken.
    #[error("the rail has undone the payer's transaction")]
    Undone(Box<ChannelId>),
    /// The payer's account does not give the deposit: a fresh challenge, `session/insufficient-balance`.
    #[error("the payer's account does not give the deposit")]
    Unfunded,
    /// The session does not allow it: a fresh challenge, and one of the session's problems.
    #[error(transparent)]
    Session(Box<SessionRefusal>),
    /// The subscription does not allow it: a fresh challenge, and what is wrong with it.
    #[error(transparent)]
    Subscription(Box<SubscriptionRefusal>),
    /// Ours or the rail's fault, or an outcome nobody knows yet: 503 with `Retry-After`. The payer
    /// keeps the credential.
    #[error("the payment could not be completed now")]
    TryAgain,
}

/// What a session does not allow. It is the payer's to mend: with another voucher, more deposit, or another
/// session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{channel}: {error}")]
pub struct SessionRefusal {
    /// The channel.
    pub channel: ChannelId,
    /// Why.
    pub error: ChannelError,
}

/// What a subscription does not allow. It is the payer's to mend: by seeing to it that it can be charged, or
/// with another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id}: {error}")]
pub struct SubscriptionRefusal {
    /// The subscription.
    pub id: SubscriptionId,
    /// How it stands; nothing to whom it does not belong.
    pub stands: Option<Box<Subscription>>,
    /// Why.
    pub error: SubscriptionError,
}

impl Refusal {
    /// What the book's word about a channel is to whoever asked.
    pub(crate) fn of(channel: ChannelId, error: ChannelError) -> Self {
        match error {
            ChannelError::Overdrawn => Self::Short,
            ChannelError::UnknownKey => Self::Payer(Rejection::Invalid),
            ChannelError::Taken => Self::Replayed,
            ChannelError::Unknown
            | ChannelError::Closed
            | ChannelError::Signer
            | ChannelError::Binding
            | ChannelError::NotAdvancing(_)
            | ChannelError::DeltaTooSmall(_)
            | ChannelError::OverDeposit(_)
            | ChannelError::Short(_) => Self::Session(Box::new(SessionRefusal { channel, error })),
            ChannelError::Opening
            | ChannelError::Busy
            | ChannelError::Stale
            | ChannelError::NoPayment
            | ChannelError::OutOfOrder
            | ChannelError::Unavailable => Self::TryAgain,
        }
    }
}
