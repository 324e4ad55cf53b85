//! Subscriptions: one authorisation, and one charge at most for each period.
//!
//! ```text
//!           opened                paid                    not paid
//! (nobody) ───────► Opening ────────────► Active ◄──────────────────► PastDue
//!                      │ declined           │ cancelled   paid           │ grace is over
//!                      ▼                    ▼                            ▼
//!                    Ended              Cancelled ── paid time is up ─► Ended
//! ```
//!
//! A charge is a payment like any other, claimed by the subscription and the period: it can be made once, by
//! whoever comes first. What was missed is never made up for: only the period that it is now is charged.
//! What is used is a payment too, of nothing, which says that its period was paid for.

use farthing_money::{Amount, AssetId, Period, Timestamp};
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;
use crate::{Fingerprint, Holder, Money, PaymentId, Proof, Source, SubscriptionId, TraceId};

/// What is agreed on when a subscription is begun, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionFacts {
    /// Names it.
    pub id: SubscriptionId,
    /// Names its story: what happened to it, and not the payments made on it.
    pub trace: TraceId,
    /// The wire protocol.
    pub protocol: String,
    /// The payment method.
    pub method: String,
    /// The challenge that it was begun with.
    pub challenge: String,
    /// Until when that challenge could be answered.
    pub offered_until: Timestamp,
    /// Who pays, as the method knows them.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// What is paid in.
    pub asset: AssetId,
    /// How much for each period, in atoms.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
    /// How long a period is.
    pub period: Period,
    /// From when on nothing may be charged any more; nothing where it was not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What is subscribed to: the seller's name for it.
    pub plan: String,
    /// The route that it was begun at.
    pub route: String,
    /// Where the money comes from.
    pub from: Source,
    /// Who moves it.
    pub money: Money,
    /// What the rail charges with, in its own words. Not a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Box<str>>,
}

impl SubscriptionFacts {
    /// The price of a period.
    #[must_use]
    pub fn price(&self) -> Amount {
        Amount::new(self.asset.clone(), self.atoms)
    }

    /// What makes sure that it is begun once.
    #[must_use]
    pub fn proof(&self) -> Proof {
        let fingerprint = Fingerprint::of("subscription opened", &[&self.id.to_bytes()]);
        Proof { fingerprint, keep_until: Some(self.offered_until) }
    }

    /// What answering the challenge is known by, whatever is bought with it.
    #[must_use]
    pub fn answer(&self) -> Proof {
        let parts = [self.protocol.as_bytes(), self.challenge.as_bytes()];
        let fingerprint = Fingerprint::of("challenge", &parts);
        Proof { fingerprint, keep_until: Some(self.offered_until) }
    }

    /// What identifies attempt `attempt` at charging period `period`.
    #[must_use]
    pub fn charge(&self, period: u64, attempt: u64) -> Fingerprint {
        let parts = [&self.id.to_bytes()[..], &period.to_be_bytes(), &attempt.to_be_bytes()];
        Fingerprint::of("subscription charge", &parts)
    }
}

/// What a payment has to do with a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribed {
    /// The subscription.
    pub id: SubscriptionId,
    /// The period, counted from 0.
    pub period: u64,
    /// What it is to it.
    pub part: SubscribedPart,
}

/// What a payment is to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscribedPart {
    /// It pays for the period.
    Charge {
        /// How many charges of the subscription were tried before.
        attempt: u64,
    },
    /// It is an answer within a period that was paid for.
    Use,
}

impl Subscribed {
    /// Whether it pays for a period.
    #[must_use]
    pub const fn is_charge(&self) -> bool {
        matches!(self.part, SubscribedPart::Charge { .. })
    }
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionState {
    /// Its first charge is on its way.
    Opening,
    /// It is charged at the beginning of each period.
    Active,
    /// The last charge came to nothing; it is tried again.
    PastDue,
    /// It is not charged any more. What was paid for can be used.
    Cancelled {
        /// Who has cancelled it.
        by: Side,
    },
    /// It is over.
    Ended {
        /// Why.
        why: Ending,
    },
}

impl SubscriptionState {
    /// Its name, as listings and metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Active => "active",
            Self::PastDue => "past_due",
            Self::Cancelled { .. } | Self::Ended { why: Ending::Cancelled } => "cancelled",
            Self::Ended { why: Ending::Expired } => "expired",
            Self::Ended { why: Ending::Declined | Ending::Lapsed } => "ended",
        }
    }

    /// Whether nothing can be used or charged any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// One of the two sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Who pays.
    Payer,
    /// Who is paid.
    Seller,
}

/// Why a subscription is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its first charge was declined: it never began.
    Declined,
    /// It was not paid for as long as the seller waits.
    Lapsed,
    /// What was authorised has expired.
    Expired,
    /// It was cancelled, and what was paid for is used up.
    Cancelled,
}

/// Why a period was not paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChargeFailure {
    /// The payer's account does not hold the price.
    Short,
    /// The rail said no, or the payer's key may not spend the account any more.
    Declined,
    /// The payer has taken back at the rail what the charges were authorised with: by the payer's own will,
    /// and for good.
    Revoked,
}

/// A subscription, as the book knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscription {
    /// What is agreed on.
    pub facts: SubscriptionFacts,
    /// Where it stands.
    pub state: SubscriptionState,
    /// When its first charge settled: periods are counted from here.
    pub anchor: Option<Timestamp>,
    /// The last period that was paid for.
    pub charged: Option<u64>,
    /// How many periods were paid for.
    pub charges: u64,
    /// What the rail calls the last charge.
    pub reference: Option<String>,
    /// The charge that its rail has not confirmed.
    pub in_flight: Option<InFlight>,
    /// How many charges were tried in all.
    pub attempts: u64,
    /// How many failed since the last one that did not.
    pub failures: u32,
    /// When the next charge is tried that follows a failed one.
    pub retry_at: Option<Timestamp>,
    /// Since when it is past due.
    pub past_due_since: Option<Timestamp>,
    /// When it was begun.
    pub opened_at: Timestamp,
}

/// A charge that its rail has not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFlight {
    /// The payment.
    pub payment: PaymentId,
    /// What it pays for.
    pub period: u64,
}

impl Subscription {
    /// The period that it is at `now`; the first one before it was ever paid.
    #[must_use]
    pub fn period_at(&self, now: Timestamp) -> Option<u64> {
        match self.anchor {
            None => Some(0),
            // A clock that is a little behind the one that has set the anchor is in the first period.
            Some(anchor) => self.facts.period.index(anchor, now.max(anchor)),
        }
    }

    /// When period `index` begins.
    #[must_use]
    pub fn begins(&self, index: u64) -> Option<Timestamp> {
        self.facts.period.boundary(self.anchor?, index)
    }

    /// Until when it is paid for.
    #[must_use]
    pub fn paid_until(&self) -> Option<Timestamp> {
        let ends = self.begins(self.charged?.checked_add(1)?)?;
        Some(self.facts.expires_at.map_or(ends, |expires| expires.min(ends)))
    }

    /// When something is next to be done about it by itself: a period charged, a failed charge tried again,
    /// or its end noted. Nothing where nothing is, and while a charge is on its way. How long one may be past
    /// due, the seller decides: [`Subscription::past_due_since`].
    #[must_use]
    pub fn due_at(&self) -> Option<Timestamp> {
        if self.in_flight.is_some() {
            return None;
        }
        let next = match self.state {
            SubscriptionState::Ended { .. } => return None,
            // Until then the credential that begins it can be presented.
            SubscriptionState::Opening => Some(self.facts.offered_until),
            SubscriptionState::Active => {
                self.charged.and_then(|it| self.begins(it.checked_add(1)?))
            }
            SubscriptionState::PastDue => self.retry_at,
            SubscriptionState::Cancelled { .. } => {
                Some(self.paid_until().unwrap_or(self.opened_at))
            }
        };
        match (next, self.facts.expires_at) {
            (Some(next), Some(expires)) => Some(next.min(expires)),
            (next, expires) => next.or(expires),
        }
    }

    /// Whether what was authorised has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.facts.expires_at.is_some_and(|expires| expires <= now)
    }

    /// Whether an answer may be given at `now`, and within which period.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError::Over`] or [`SubscriptionError::Unpaid`].
    pub fn may_use(&self, now: Timestamp) -> Result<u64, SubscriptionError> {
        match self.state {
            SubscriptionState::Ended { .. } => return Err(SubscriptionError::Over),
            SubscriptionState::Opening
            | SubscriptionState::Active
            | SubscriptionState::PastDue
            | SubscriptionState::Cancelled { .. } => {}
        }
        if self.is_expired(now) {
            return Err(SubscriptionError::Over);
        }
        let period = self.period_at(now).ok_or(SubscriptionError::Over)?;
        match self.charged {
            Some(charged) if charged >= period => Ok(charged),
            Some(_) | None => match self.state {
                SubscriptionState::Cancelled { .. } => Err(SubscriptionError::Over),
                SubscriptionState::Opening
                | SubscriptionState::Active
                | SubscriptionState::PastDue
                | SubscriptionState::Ended { .. } => Err(SubscriptionError::Unpaid),
            },
        }
    }

    /// The period that may be charged at `now`.
    ///
    /// # Errors
    ///
    /// [`SubscriptionError::Over`] where nothing may be charged any more, [`SubscriptionError::Paid`] where
    /// the period is paid for, [`SubscriptionError::Busy`] where a charge is on its way.
    pub fn may_charge(&self, now: Timestamp) -> Result<u64, SubscriptionError> {
        match self.state {
            SubscriptionState::Cancelled { .. } | SubscriptionState::Ended { .. } => {
                return Err(SubscriptionError::Over);
            }
            SubscriptionState::Opening | SubscriptionState::Active | SubscriptionState::PastDue => {
            }
        }
        if self.is_expired(now) {
            return Err(SubscriptionError::Over);
        }
        if self.in_flight.is_some() {
            return Err(SubscriptionError::Busy);
        }
        let period = self.period_at(now).ok_or(SubscriptionError::Over)?;
        if self.charged.is_some_and(|charged| charged >= period) {
            return Err(SubscriptionError::Paid);
        }
        Ok(period)
    }
}

/// What somebody asks to be done with a subscription. One step is one record, or none if it was done before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStep {
    /// Begins it. Beginning the same again says where it stands.
    Open(Box<SubscriptionFacts>),
    /// Begins it, unless its payer has one already for the same at the same price, which can be used or
    /// charged: that one is the answer then, and nothing is written.
    Join(Box<SubscriptionFacts>),
    /// Says where it stands, and changes nothing.
    Look {
        /// The subscription.
        id: SubscriptionId,
    },
    /// Notes that a period was not paid for, and when that is tried again.
    Fail {
        /// The subscription.
        id: SubscriptionId,
        /// The period.
        period: u64,
        /// How many failures were noted before, in a row. The same one is noted once.
        failures: u32,
        /// Why.
        why: ChargeFailure,
        /// When it is tried again by itself; never, if nothing is said.
        retry_at: Option<Timestamp>,
    },
    /// Ends the charges. What was paid for can be used.
    Cancel {
        /// The subscription.
        id: SubscriptionId,
        /// Who cancels it.
        by: Side,
    },
    /// Notes that it is over.
    End {
        /// The subscription.
        id: SubscriptionId,
        /// Why.
        why: Ending,
    },
}

impl SubscriptionStep {
    /// The subscription it is about.
    #[must_use]
    pub fn id(&self) -> SubscriptionId {
        match self {
            Self::Open(facts) | Self::Join(facts) => facts.id,
            Self::Look { id }
            | Self::Fail { id, .. }
            | Self::Cancel { id, .. }
            | Self::End { id, .. } => *id,
        }
    }
}

/// The subscriptions that something is to be done about, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionsDue {
    /// Those that are due, the longest due first.
    pub due: Vec<Subscription>,
    /// How many are not over, by payment method and by where they stand.
    pub census: Vec<(String, SubscriptionState, u64)>,
}

/// What happened to a subscription. What is charged is a payment like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SubscriptionEvent {
    /// It was begun; its first charge is still to come.
    Opened {
        /// What is agreed on.
        facts: Box<SubscriptionFacts>,
    },
    /// A period was not paid for.
    Failed {
        /// The period.
        period: u64,
        /// Why.
        why: ChargeFailure,
        /// When it is tried again by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_at: Option<Timestamp>,
    },
    /// It is not charged any more.
    Cancelled {
        /// Who has cancelled it.
        by: Side,
    },
    /// It is over.
    Ended {
        /// Why.
        why: Ending,
    },
}

/// Why nothing was done with a subscription. Nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionError {
    /// There is no such subscription.
    #[error("there is no such subscription")]
    Unknown,
    /// It is over, or is not charged any more.
    #[error("the subscription is over")]
    Over,
    /// The period was not paid for.
    #[error("the subscription's period is not paid for")]
    Unpaid,
    /// The period was paid for before.
    #[error("the subscription's period is paid for")]
    Paid,
    /// A charge is on its way.
    #[error("a charge of the subscription is on its way")]
    Busy,
    /// Somebody else has begun it, or something else.
    #[error("the subscription is somebody else's, or for something else")]
    Taken,
    /// The request contradicts where it stands: ours to fix, or somebody was faster.
    #[error("the step does not fit where the subscription stands")]
    OutOfOrder,
    /// The store cannot answer.
    #[error("the store does not answer")]
    Unavailable,
}
