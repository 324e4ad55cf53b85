//! The port to money that is paid again and again: one authorisation, and one charge for each period.
//!
//! ```text
//!          checked (pure)          written down        charged
//! begin  ─► Subscribing::Begin ──► Opening ──────────► Active, period 0 is paid; the request is answered
//! use    ─► Subscribing::Use ────► (nothing, if the period is paid; else it is charged first)
//! cancel ─► Subscribing::Cancel ─► Cancelled           nothing is charged any more
//! ```
//!
//! The charge of a period is a payment of its own, claimed by subscription and period. The answers within it
//! are payments of nothing: each has a trace, a receipt, and an answer that is kept.
//!
//! Where the money lies in the book, a charge is one record. Where a rail moves it, the order to do so is made
//! ready first and written down with the claim, so that whoever finds the claim after a crash asks the rail
//! about that very order, and never makes a second one while the first can still be carried out.
//!
//! ```text
//! ready? ─► prepare ─► claim, with the order ─► charge ─► settled ─► post
//!              │                                  ├──────► declined ► void, past due
//!              └─ short, revoked, declined        └──────► unknown ─► inquire, later
//! ```
//!
//! **Architecture invariant:** knowing a subscription's name is not enough to use it: whoever uses it proves
//! anew that they hold the payer's key, for the very request (`draft-payment-intent-subscription-00` §7.3).

use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::{Holder, Money, Payment, Source, Subscription, SubscriptionId, TraceId};
use farthing_money::{Amount, Period, Timestamp};

use crate::{BoxFuture, Object, Presented, Rejection, SettleError, Settled, Unquotable};

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

    /// What completes the request of each offer, where no two offers may share all of it.
    fn completes(&self) -> Option<Arc<dyn Complete>> {
        None
    }

    /// Makes everything ready to charge a period, and sends nothing: the order that
    /// [`SubscriptionRail::charge`] carries out. It is written down before it is carried out, so it must not
    /// be a secret. Never called for [`Money::Book`], which moves with the claim.
    ///
    /// # Errors
    ///
    /// A [`NoCharge`]; nothing was sent.
    fn prepare_charge<'a>(&'a self, due: Due<'a>) -> BoxFuture<'a, Result<Box<str>, NoCharge>> {
        let _ = due;
        Box::pin(async { Err(NoCharge::Later) })
    }

    /// Carries out the order that a charge was claimed with, which is its [`Payment::inquiry`].
    /// [`Rail::inquire`](crate::Rail::inquire) says what became of it.
    ///
    /// # Idempotency
    ///
    /// Called any number of times with the same order, moves the money at most once.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]. [`SettleError::Declined`] means that this order has not moved the money and never
    /// can: another may be made.
    fn charge<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let _ = payment;
        Box::pin(async { Err(SettleError::Unknown) })
    }
}

/// A period that is to be charged.
#[derive(Clone, Copy, Debug)]
pub struct Due<'a> {
    /// Of what.
    pub subscription: &'a Subscription,
    /// Which one, counted from 0.
    pub period: u64,
    /// When it begins: nothing may be charged before. Nothing before the first charge has settled.
    pub begins_at: Option<Timestamp>,
}

/// Completes the request of an offer with what it shares with no other.
pub trait Complete: Send + Sync {
    /// The request of the offer that is named `trace`. Pure: the same offer gets the same request, so that
    /// nothing needs to be kept of it.
    fn complete(&self, request: &Object, trace: TraceId) -> Object;
}

/// Why a period cannot be charged. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoCharge {
    /// The payer's account does not hold the price: the payer's to fund.
    #[error("the account does not hold the price")]
    Short,
    /// The payer has taken the authorisation back, by their own will and for good: another subscription can
    /// be begun.
    #[error("the payer has revoked the authorisation")]
    Revoked,
    /// The rail would not take it, because of the payer or of their account.
    #[error("the rail would not take the charge")]
    Declined,
    /// It does not answer now, or is not as far as the period, or nobody pays for it: ours, or the rail's.
    #[error("the rail cannot be asked to charge now")]
    Later,
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
    /// Who moves the money.
    pub money: Money,
    /// What the rail will charge with, in its own words. Written down, so it must not be a secret.
    pub words: Option<Box<str>>,
    /// Whether an authorisation like it, by the same payer for the same, is one to use the subscription that
    /// there is. A rail says so whose standard wallets know nothing else to show.
    pub joins: bool,
}
