//! What the gate tells whoever watches.

use std::time::Duration;

use farthing_core::Refusal;
use farthing_ledger::{Payment, TraceId};
use farthing_meter::Summary;

/// Watches decisions: for metrics, for logs. Must not block.
pub trait Observer: Send + Sync {
    /// Called once for every request of a priced route, when it is decided.
    fn decided(&self, decision: &Decision<'_>);

    /// An answer of a route is being given that is paid for as it is given.
    fn stream_began(&self, route: &str) {
        let _ = route;
    }

    /// Such an answer begins to wait for a voucher, or does not wait any more.
    fn stream_paused(&self, route: &str, paused: bool) {
        let _ = (route, paused);
    }

    /// Such an answer has ended, in whatever way.
    fn stream_ended(&self, end: &StreamEnd<'_>) {
        let _ = end;
    }
}

/// How an answer ended that was paid for as it was given.
#[derive(Clone, Copy, Debug)]
pub struct StreamEnd<'a> {
    /// The payment that it was given for. Its amount is the price of one unit.
    pub payment: &'a Payment,
    /// What came of it.
    pub summary: Summary,
}

/// One decision. It names no secret and no credential.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The route's name.
    pub route: &'a str,
    /// What was decided.
    pub verdict: Verdict<'a>,
    /// How long the decision took, the seller's own work not included.
    pub took: Duration,
}

/// What was decided.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// Payment was asked for.
    Challenged,
    /// A payment was taken.
    Paid(&'a Payment),
    /// A payment is held until its handler has succeeded.
    Reserved(&'a Payment),
    /// An answer was given again.
    Again,
    /// A credential bought nothing.
    Refused(&'a Refusal),
    /// Something was done with a session or a subscription that bought nothing.
    Managed,
    /// The client asks too often.
    Limited,
    /// The request cannot be read as this route wants it.
    Unfit,
}

impl Verdict<'_> {
    /// A word for the verdict, as metrics label it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::Paid(_) => "paid",
            Self::Reserved(_) => "reserved",
            Self::Again => "again",
            Self::Managed => "managed",
            Self::Limited => "limited",
            Self::Unfit => "unfit",
            Self::Refused(refusal) => match refusal {
                Refusal::Payer(_) => "rejected",
                Refusal::Replayed => "replayed",
                Refusal::GivenBack => "given_back",
                Refusal::Short => "short",
                Refusal::Declined => "declined",
                Refusal::Conflict => "conflict",
                Refusal::KeyMisused => "key_misused",
                Refusal::OtherBody => "other_body",
                Refusal::Answered => "answered",
                Refusal::Interrupted => "interrupted",
                Refusal::Session(_) => "session_refused",
                Refusal::Undone(_) => "undone",
                Refusal::Unfunded => "unfunded",
                Refusal::Subscription(_) => "subscription_refused",
                Refusal::InProgress(_) => "in_progress",
                Refusal::TryAgain => "try_again",
            },
        }
    }

    /// The payment's story, where there is one.
    #[must_use]
    pub const fn trace(&self) -> Option<TraceId> {
        match self {
            Self::Paid(payment) | Self::Reserved(payment) => Some(payment.trace),
            Self::Challenged
            | Self::Again
            | Self::Refused(_)
            | Self::Managed
            | Self::Limited
            | Self::Unfit => None,
        }
    }
}

/// Watches nothing.
pub(crate) struct Nobody;

impl Observer for Nobody {
    fn decided(&self, _: &Decision<'_>) {}
}
