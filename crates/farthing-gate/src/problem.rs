//! The only place that knows status codes of refusals.

use std::time::Duration;

use farthing_core::{Refusal, Rejection, SessionRefusal, SubscriptionRefusal};
use farthing_ledger::{ChannelError, SubscriptionError, SubscriptionState};
use farthing_mpp::{Problem, ProblemType};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};

use crate::Body;
use crate::body::full;

#[cfg(test)]
mod tests;

/// How long to wait before asking again when it is our turn to mend something.
const RETRY: Duration = Duration::from_secs(1);

/// What a refusal looks like from outside.
pub(crate) struct Answer {
    pub(crate) problem: Problem,
    pub(crate) retry_after: Option<Duration>,
}

impl Answer {
    /// Whether fresh challenges belong to it.
    pub(crate) fn wants_challenges(&self) -> bool {
        // Whoever's session is gone, or never came about, is told how to open another (§22 D4).
        matches!(self.problem.status, 402 | 410)
            || self.problem.uri == ProblemType::SessionTransactionReverted.uri()
    }

    /// The response, without challenges.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(self.problem.to_json()));
        let status = StatusCode::from_u16(self.problem.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that waits as told must not come too early.
            let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
            fields.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// No credential came, and the resource costs something.
pub(crate) fn payment_required() -> Answer {
    payer(ProblemType::PaymentRequired, "This resource costs money; answer one of the challenges.")
}

/// Why a credential bought nothing, and what to do next.
pub(crate) fn refused(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::Payer(rejection) => rejected(*rejection),
        Refusal::Session(refusal) => in_session(refusal),
        Refusal::Undone(channel) => {
            let mut answer = payer(
                ProblemType::SessionTransactionReverted,
                "The chain has undone the transaction, or would. Nothing was taken; open the session with another.",
            );
            answer.problem.extra.insert("channelId".into(), channel.on_rail().into());
            answer
        }
        Refusal::Unfunded => payer(
            ProblemType::SessionInsufficientBalance,
            "The account does not give the deposit: it holds too little, or the authorisation is not good. Nothing was taken.",
        ),
        Refusal::Subscription(refusal) => in_subscription(refusal),
        Refusal::Replayed => payer(
            ProblemType::InvalidChallenge,
            "This challenge was answered before; each can be answered once. Answer a fresh one.",
        ),
        Refusal::GivenBack => payer(
            ProblemType::InvalidChallenge,
            "This payment was given back, since its answer would not come. Answer a fresh challenge to buy again.",
        ),
        Refusal::Short => payer(
            ProblemType::PaymentInsufficient,
            "The account does not hold the price. Fund it, then send the same credential again.",
        ),
        Refusal::Declined => payer(
            ProblemType::VerificationFailed,
            "The payment was declined. Answer a fresh challenge with another payment.",
        ),
        Refusal::Conflict => ours(
            409,
            "Conflict",
            "This Idempotency-Key was used for another payment. Nothing was taken this time.",
            None,
        ),
        Refusal::KeyMisused => ours(
            422,
            "Idempotency Key Misused",
            "This Idempotency-Key was used for another request. Nothing was taken; use a new key for a new request.",
            None,
        ),
        Refusal::OtherBody => ours(
            409,
            "Another Body",
            "This payment was made for the same request with another body. Nothing was taken; send the body that was paid for, or make a new request without this credential.",
            None,
        ),
        Refusal::Answered => ours(
            409,
            "Answered Before",
            "This payment was answered, with more than is kept here. Nothing was taken this time; do not pay again unless you want it again.",
            None,
        ),
        Refusal::Interrupted => interrupted(),
        Refusal::InProgress(_) => ours(
            503,
            "Payment In Progress",
            "This payment is being settled or answered. Send the same credential again later; do not pay again.",
            Some(RETRY),
        ),
        Refusal::TryAgain => ours(
            503,
            "Payment Not Completed",
            "The payment could not be completed now. Send the same credential again later; do not pay again.",
            Some(RETRY),
        ),
    }
}

/// What a session does not allow, and what would be allowed.
fn in_session(refusal: &SessionRefusal) -> Answer {
    let SessionRefusal { channel, error } = refusal;
    let (problem, detail, figures) = match error {
        ChannelError::Closed => (
            ProblemType::SessionChannelFinalized,
            "The session is closed, or being closed. Open another.",
            None,
        ),
        ChannelError::Signer => {
            (ProblemType::SessionSignerMismatch, "Somebody else may sign for this session.", None)
        }
        ChannelError::Binding => (
            ProblemType::VerificationFailed,
            "The session was opened for something else. Open one for this.",
            None,
        ),
        ChannelError::NotAdvancing(figures) => (
            ProblemType::SessionInsufficientBalance,
            "The voucher authorises nothing new. Send one for requiredCumulative.",
            Some(figures),
        ),
        ChannelError::Short(figures) => (
            ProblemType::SessionInsufficientBalance,
            "The voucher authorises less than the price. Send one for requiredCumulative.",
            Some(figures),
        ),
        ChannelError::DeltaTooSmall(figures) => (
            ProblemType::SessionDeltaTooSmall,
            "The voucher advances by too little. Send one for requiredCumulative.",
            Some(figures),
        ),
        ChannelError::OverDeposit(figures) => (
            ProblemType::SessionAmountExceedsDeposit,
            "The voucher authorises more than was deposited. Top the deposit up first.",
            Some(figures),
        ),
        // The core makes no refusal of the others that is the payer's to mend.
        ChannelError::Unknown
        | ChannelError::Opening
        | ChannelError::Taken
        | ChannelError::Busy
        | ChannelError::Overdrawn
        | ChannelError::UnknownKey
        | ChannelError::Stale
        | ChannelError::NoPayment
        | ChannelError::OutOfOrder
        | ChannelError::Unavailable => {
            (ProblemType::SessionChannelNotFound, "There is no such session here. Open one.", None)
        }
    };
    let mut answer = payer(problem, detail);
    let extra = &mut answer.problem.extra;
    extra.insert("channelId".into(), channel.on_rail().into());
    if let Some(figures) = figures {
        let needed = figures.required.saturating_sub(figures.deposit);
        for (name, atoms) in [
            ("requiredCumulative", figures.required),
            ("acceptedCumulative", figures.accepted),
            ("spent", figures.spent),
            ("deposit", figures.deposit),
            ("requiredTopUp", needed),
        ] {
            extra.insert(name.into(), atoms.to_string().into());
        }
    }
    answer
}

/// What a subscription does not allow, and how it stands. Each is answered with a fresh challenge (§7.6).
fn in_subscription(refusal: &SubscriptionRefusal) -> Answer {
    let SubscriptionRefusal { id, stands, error } = refusal;
    let state = stands.as_ref().map(|it| it.state);
    let mut answer = match (error, state) {
        (SubscriptionError::Unpaid, Some(SubscriptionState::PastDue)) => payer(
            ProblemType::PaymentInsufficient,
            "The subscription is past due: its period could not be charged. Fund the account, then ask again.",
        ),
        (SubscriptionError::Unpaid | SubscriptionError::Over, _) => payer(
            ProblemType::PaymentRequired,
            "The subscription is over. Answer a fresh challenge to begin another.",
        ),
        (
            SubscriptionError::Unknown
            | SubscriptionError::Paid
            | SubscriptionError::Busy
            | SubscriptionError::Taken
            | SubscriptionError::OutOfOrder
            | SubscriptionError::Unavailable,
            _,
        ) => payer(
            ProblemType::VerificationFailed,
            "There is no such subscription of this payer for this. Answer a fresh challenge to begin one.",
        ),
    };
    let extra = &mut answer.problem.extra;
    extra.insert("subscriptionId".into(), id.to_string().into());
    if let Some(it) = stands {
        extra.insert("state".into(), it.state.name().into());
        extra.insert("charges".into(), it.charges.into());
        if let Some(at) = it.retry_at {
            extra.insert("retryAt".into(), at.to_string().into());
        }
    }
    answer
}

fn rejected(rejection: Rejection) -> Answer {
    match rejection {
        Rejection::Malformed => payer(
            ProblemType::MalformedCredential,
            "The credential cannot be read. Answer a fresh challenge.",
        ),
        Rejection::Ambiguous => {
            let mut answer = payer(
                ProblemType::MalformedCredential,
                "The request carries more than one credential. Send exactly one.",
            );
            answer.problem.status = 400;
            answer
        }
        Rejection::Foreign | Rejection::OtherBody(_) => payer(
            ProblemType::InvalidChallenge,
            "The challenge is not one of ours for this request. Answer a fresh one.",
        ),
        Rejection::Expired => {
            payer(ProblemType::PaymentExpired, "The challenge has expired. Answer a fresh one.")
        }
        Rejection::Unsupported => payer(
            ProblemType::MethodUnsupported,
            "The payment method is not accepted here. Answer one of the challenges.",
        ),
        Rejection::Insufficient => payer(
            ProblemType::PaymentInsufficient,
            "The payment is for less than the price. Answer a fresh challenge in full.",
        ),
        Rejection::Signature => payer(
            ProblemType::SessionInvalidSignature,
            "The signature does not verify. Sign with the session's key.",
        ),
        Rejection::Invalid => payer(
            ProblemType::VerificationFailed,
            "The payment does not verify. Answer a fresh challenge.",
        ),
    }
}

/// A paid handler stopped in the middle.
pub(crate) fn interrupted() -> Answer {
    ours(
        500,
        "Delivery Interrupted",
        "The payment was taken and its delivery was interrupted; it may have been carried out, and is not carried out again. The seller makes up for it, as a rule by giving the money back; do not pay again before you know what was done.",
        None,
    )
}

/// The client asks too often.
pub(crate) fn too_often(wait: Duration) -> Answer {
    ours(429, "Too Many Requests", "Too many requests from this address; slow down.", Some(wait))
}

/// The body is longer than what a payment can be bound to.
pub(crate) fn body_too_long() -> Answer {
    ours(413, "Content Too Large", "The body is longer than this route reads.", None)
}

/// The body broke off.
pub(crate) fn body_broken() -> Answer {
    ours(400, "Bad Request", "The body could not be read to its end.", None)
}

/// The body did not come in time.
pub(crate) fn body_slow() -> Answer {
    ours(408, "Request Timeout", "The body took too long to come.", None)
}

/// The `Idempotency-Key` is not one.
pub(crate) fn bad_idempotency_key() -> Answer {
    ours(400, "Bad Request", "Idempotency-Key is one value of 1 to 255 printable characters.", None)
}

/// The route has a price that no rail can carry.
pub(crate) fn unpayable() -> Answer {
    ours(
        500,
        "Price Not Payable",
        "The seller has set a price that none of its rails can carry. Nothing was taken.",
        None,
    )
}

fn payer(problem: ProblemType, detail: &str) -> Answer {
    Answer { problem: Problem::new(problem, detail), retry_after: None }
}

fn ours(status: u16, title: &str, detail: &str, retry_after: Option<Duration>) -> Answer {
    Answer { problem: Problem::untyped(status, title, detail), retry_after }
}
