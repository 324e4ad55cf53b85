//! What can be asked of a book, and what it says.

use std::time::Duration;

use farthing_core::Answer;
use farthing_ledger::{
    BudgetKey, Channel, ChannelError, ChannelId, ChannelNews, ChannelStep, ChannelsHeard,
    ChannelsPlace, Claim, ClaimError, ClaimRequest, Entry, EntryError, EraseError, Erased, Erasure,
    Finding, Fingerprint, Outcome, OwnerView, PaymentId, RefundError, RefundId, RefundRequest,
    RefundStanding, Settlement, Subscription, SubscriptionError, SubscriptionStep,
    SubscriptionsDue, VoidReason, Work,
};
use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::spelt;

/// One request of a book: a method of [`farthing_core::Store`] and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Takes a payment's proofs; answered by [`Said::Claim`].
    Claim(Box<ClaimRequest>, Timestamp),
    /// Makes a pending payment count; answered by [`Said::Done`].
    Post(PaymentId, Settlement, Timestamp),
    /// Gives a pending payment up; answered by [`Said::Voided`].
    Void(PaymentId, VoidReason, Timestamp),
    /// Makes an operator's entry; answered by [`Said::Entered`].
    Enter(Box<Entry>, Timestamp),
    /// Notes that the answer was given; answered by [`Said::Done`].
    Deliver(
        PaymentId,
        Outcome,
        #[serde(with = "spelt")] Option<Box<Answer>>,
        Fingerprint,
        Timestamp,
    ),
    /// Notes that the handler failed; answered by [`Said::Done`].
    Fail(PaymentId, Outcome, Timestamp),
    /// Gives a right back; answered by [`Said::Done`].
    GiveBack(PaymentId, bool),
    /// Asks for the answer that was kept; answered by [`Said::Answer`].
    Answer(PaymentId),
    /// Asks whether a proof was claimed; answered by [`Said::Known`].
    IsClaimed(Fingerprint),
    /// Asks for everything that is open; answered by [`Said::Work`].
    Work,
    /// Orders money back; answered by [`Said::Refund`].
    Refund(Box<RefundRequest>, Timestamp),
    /// Notes that a refund's money moved; answered by [`Said::Done`].
    PostRefund(PaymentId, RefundId, Settlement, Timestamp),
    /// Gives a refund up; answered by [`Said::Done`].
    VoidRefund(PaymentId, RefundId, Timestamp),
    /// Notes what the rail says by now; answered by [`Said::Done`].
    Reconcile(PaymentId, Finding, Timestamp),
    /// Takes a payment up to find out about it; answered by [`Said::TakenUp`].
    TakeUp(PaymentId),
    /// Makes a step of a channel; answered by [`Said::Channel`].
    Step(Box<ChannelStep>, Timestamp),
    /// Asks how a wallet's owner has left the book; answered by [`Said::Owner`].
    Owner(Vec<BudgetKey>, Timestamp),
    /// Asks for the channels; answered by [`Said::Channels`].
    Channels,
    /// Asks for those that have changed, and those that are named; answered by [`Said::ChannelNews`].
    ChannelNews(Option<ChannelsPlace>, Vec<ChannelId>),
    /// Notes what a rail says of all its channels; answered by [`Said::Done`].
    HeardOfChannels(Box<ChannelsHeard>),
    /// Makes a step of a subscription; answered by [`Said::Subscription`].
    Subscribe(Box<SubscriptionStep>, Timestamp),
    /// Asks for the subscriptions; answered by [`Said::Subscriptions`].
    Subscriptions,
    /// Asks for the subscriptions that something is to be done about at a moment, where one may be past due
    /// for so long; answered by [`Said::SubscriptionsDue`].
    SubscriptionsDue(Timestamp, Duration),
    /// Notes a text under a name, beside the book; answered by [`Said::Done`].
    Note(String, String),
    /// Erases personal data; answered by [`Said::Erased`].
    Erase(Box<Erasure>, Timestamp),
}

impl Ask {
    /// Notes that an answer was given. The digest of what is kept of it is made here, by whoever asks: the
    /// writer is one, and everybody waits for it.
    #[must_use]
    pub fn deliver(
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> Self {
        let kept = Answer::digest(answer.as_ref());
        Self::Deliver(payment, outcome, answer.map(Box::new), kept, now)
    }

    /// The payment whose right is asked for, if one is.
    #[must_use]
    pub fn right(&self) -> Option<PaymentId> {
        match self {
            Self::Claim(request, _) => Some(request.payment.id),
            Self::TakeUp(payment) => Some(*payment),
            Self::Post(..)
            | Self::Void(..)
            | Self::Enter(..)
            | Self::Deliver(..)
            | Self::Fail(..)
            | Self::GiveBack(..)
            | Self::Answer(_)
            | Self::IsClaimed(_)
            | Self::Work
            | Self::Refund(..)
            | Self::PostRefund(..)
            | Self::VoidRefund(..)
            | Self::Reconcile(..)
            | Self::Step(..)
            | Self::Channels
            | Self::ChannelNews(..)
            | Self::HeardOfChannels(_)
            | Self::Owner(..)
            | Self::Subscribe(..)
            | Self::Subscriptions
            | Self::SubscriptionsDue(..)
            | Self::Note(..)
            | Self::Erase(..) => None,
        }
    }

    /// The payment whose right this ends, whatever comes of it. Giving a payment up is not among them: it
    /// ends the right if it was still pending, as [`Said::Voided`] says.
    #[must_use]
    pub fn ends_right(&self) -> Option<PaymentId> {
        match self {
            Self::Deliver(payment, ..) | Self::Fail(payment, ..) | Self::GiveBack(payment, _) => {
                Some(*payment)
            }
            Self::Claim(..)
            | Self::Post(..)
            | Self::Void(..)
            | Self::Enter(..)
            | Self::Answer(_)
            | Self::IsClaimed(_)
            | Self::Work
            | Self::Refund(..)
            | Self::PostRefund(..)
            | Self::VoidRefund(..)
            | Self::Reconcile(..)
            | Self::Step(..)
            | Self::Channels
            | Self::ChannelNews(..)
            | Self::HeardOfChannels(_)
            | Self::Owner(..)
            | Self::Subscribe(..)
            | Self::Subscriptions
            | Self::SubscriptionsDue(..)
            | Self::Note(..)
            | Self::Erase(..)
            | Self::TakeUp(_) => None,
        }
    }

    /// Whether asking a second time, after nobody heard the first answer, does the same and is answered
    /// the same. A claim is not among them: whoever was answered may hold a right.
    #[must_use]
    pub fn may_be_repeated(&self) -> bool {
        match self {
            Self::Post(..)
            | Self::Void(..)
            | Self::Deliver(..)
            | Self::Answer(_)
            | Self::IsClaimed(_)
            | Self::Work
            | Self::PostRefund(..)
            | Self::VoidRefund(..)
            | Self::Reconcile(..)
            | Self::Channels
            | Self::ChannelNews(..)
            | Self::HeardOfChannels(_)
            | Self::Owner(..)
            | Self::Subscribe(..)
            | Self::Subscriptions
            | Self::SubscriptionsDue(..)
            | Self::Note(..) => true,
            // What is taken for an answer is taken each time; every other step is made once.
            Self::Step(step, _) => !matches!(**step, ChannelStep::Take { .. }),
            Self::Claim(..)
            | Self::Enter(..)
            | Self::Fail(..)
            | Self::GiveBack(..)
            | Self::Refund(..)
            | Self::Erase(..)
            | Self::TakeUp(_) => false,
        }
    }
}

/// What a book says to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// What a claim found.
    Claim(Result<Claim, ClaimError>),
    /// It was noted, now or before.
    Done,
    /// Whether the payment was given up by this very request, and every right to it with it.
    Voided(bool),
    /// Whether a proof was claimed, or a delivery stands in the book.
    Known(bool),
    /// Whether the payment was taken up.
    TakenUp(bool),
    /// What was kept.
    Answer(#[serde(with = "spelt")] Option<Box<Answer>>),
    /// What is open.
    Work(Box<Work>),
    /// Where a refund stands, and whether it was new.
    Refund(Result<(RefundStanding, bool), RefundError>),
    /// How a channel stands behind a step.
    Channel(Result<Box<Channel>, ChannelError>),
    /// The channels that are not closed, and those closed last.
    Channels(Vec<Channel>),
    /// What has changed.
    ChannelNews(Box<ChannelNews>),
    /// How a wallet's owner has left the book.
    Owner(Box<OwnerView>),
    /// How a subscription stands behind a step.
    Subscription(Result<Box<Subscription>, SubscriptionError>),
    /// The subscriptions that are not over, and those that ended last.
    Subscriptions(Vec<Subscription>),
    /// The subscriptions that something is to be done about, and how many there are.
    SubscriptionsDue(Box<SubscriptionsDue>),
    /// Whether an entry was new.
    Entered(Result<bool, EntryError>),
    /// How much was erased.
    Erased(Result<Erased, EraseError>),
}

impl Said {
    /// Whether this gives a right to whoever hears it.
    #[must_use]
    pub fn gives_right(&self) -> bool {
        match self {
            Self::Claim(Ok(
                Claim::Fresh
                | Claim::Bought(..)
                | Claim::Unsettled
                | Claim::Abandoned
                | Claim::Undelivered(_),
            ))
            | Self::TakenUp(true) => true,
            Self::Claim(
                Ok(
                    Claim::Pending(_)
                    | Claim::Interrupted
                    | Claim::Delivered(..)
                    | Claim::GivenBack
                    | Claim::Spent,
                )
                | Err(_),
            )
            | Self::TakenUp(false)
            | Self::Done
            | Self::Voided(_)
            | Self::Known(_)
            | Self::Answer(_)
            | Self::Work(_)
            | Self::Refund(_)
            | Self::Channel(_)
            | Self::Channels(_)
            | Self::ChannelNews(_)
            | Self::Owner(_)
            | Self::Subscription(_)
            | Self::Subscriptions(_)
            | Self::SubscriptionsDue(_)
            | Self::Entered(_)
            | Self::Erased(_) => false,
        }
    }
}
