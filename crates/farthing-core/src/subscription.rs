//! The port to money that is paid again and again: one authorisation, and one charge for each period.
//!
//! ```text
//!          checked (pure)          written down        charged
//! begin  ─► Subscribing::Begin ──► Opening ──────────► Active, period 0 is paid; the request is answered
//! use    ─► Subscribing::Use ────► (nothing, if the period is paid; else it is charged first)
//! cancel ─► Subscribing::Cancel ─► Cancelled           nothing is charged any more
//! ```
//!
//! The money lies in the book: charging a period is one record. The charge is a payment of its own, claimed
//! by subscription and period. The answers within it
//! are payments of nothing: each has a trace, a receipt, and an answer that is kept.
//!
//! **Architecture invariant:** knowing a subscription's name is not enough to use it: whoever uses it proves
//! anew that they hold the payer's key, for the very request (`draft-payment-intent-subscription-00` §7.3).

use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::{Holder, Source, SubscriptionId};
use farthing_money::{Amount, Period, Timestamp};

use crate::{Object, Presented, Rejection, Unquotable};

/// The intent of subscription offers, as the wire names it.
pub const SUBSCRIPTION: &str = "subscription";

/// A rail on which one authorisation is charged period by period.
/// [`Rail::subscription`](crate::Rail::subscription) gives it.
pub trait SubscriptionRail: Send + Sync {
    /// Says on the wire what is subscribed to: the `request` of a subscription challenge.
    ///
    /// # Errors
    ///
    /// [`Unquotable`], as [`Rail::quote`](crate::Rail::quote); also for a period that the rail cannot
    /// charge exactly (§5.1).
    fn quote_subscription(
        &self,
        price: &SubscriptionPrice,
        payee: &Holder,
    ) -> Result<Object, Unquotable>;

    /// Decides what was presented: reads the action, and verifies its signature.
    ///
    /// Pure: the same arguments give the same answer.
    ///
    /// # Errors
    ///
    /// A [`Rejection`].
    fn check_subscription(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Subscribing, Rejection>;
}

/// What is subscribed to, and for how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionPrice {
    /// The price of a period.
    pub amount: Amount,
    /// How long a period is.
    pub period: Period,
    /// From when on nothing is charged any more; nothing where it goes on.
    pub expires_at: Option<Timestamp>,
    /// The seller's name for what is subscribed to. Routes with the same plan are used with the same
    /// subscription.
    pub plan: Arc<str>,
    /// What is done where a charge comes to nothing.
    pub dunning: Dunning,
}

/// What is done where a charge comes to nothing: it is tried again after each of these times, and the
/// subscription is over once it was past due for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dunning {
    /// How long after each failure the next charge is tried.
    pub retries: Vec<Duration>,
    /// How long a subscription may be past due.
    pub grace: Duration,
}

impl Default for Dunning {
    /// After an hour, a day, and three days; over after a week.
    fn default() -> Self {
        let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
        Self { retries: vec![hour, day, day.saturating_mul(3)], grace: day.saturating_mul(7) }
    }
}

impl Dunning {
    /// When a charge is tried again after as many failures in a row as there were before this one.
    #[must_use]
    pub fn retry_at(&self, failures: u32, now: Timestamp) -> Option<Timestamp> {
        let pause = self.retries.get(usize::try_from(failures).ok()?)?;
        Some(now.after(*pause))
    }
}

/// What a payer asks for, as the rail has verified it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscribing {
    /// To begin a subscription.
    Begin(Box<Grant>),
    /// To be answered within one.
    Use {
        /// The subscription.
        id: SubscriptionId,
        /// Who asks, as the rail has verified it.
        payer: String,
    },
    /// That nothing is charged any more.
    Cancel {
        /// The subscription.
        id: SubscriptionId,
        /// Who asks, as the rail has verified it.
        payer: String,
    },
}

/// What a rail found in a valid authorisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who pays, as the rail has verified it.
    pub payer: String,
    /// Which account of the book gives.
    pub from: Source,
    /// From when on nothing may be charged any more, by the payer's own word.
    pub expires_at: Option<Timestamp>,
}
