//! Subscriptions, top to bottom: what is done about each action, and what is charged beside.
//!
//! ```text
//! presented ─► check (pure) ─► begin │ use ─► period paid? ─ no ─► charge, once ─┬─► answer
//!                          └─► cancel                                           └─► 402, past due
//!
//! subscriptions ─► plan (pure) ─► charge   a period has begun, or a failed charge is due again
//!                             └─► end      expired, cancelled and used up, or past due for too long
//! ```
//!
//! A renewal is made by whoever comes first: the payer who asks, or whoever looks after subscriptions. The
//! book claims it by subscription and period, so that it is made once. Where a rail moves the money, the order
//! that moves it is written down with the claim: what became of a charge that was interrupted is asked by that
//! order, and no other is made before.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_ledger::{
    Account, AccountKind, ChargeFailure, Claim, ClaimError, ClaimRequest, Ending, Leg, Money, Open,
    Outcome, Payment, PaymentId, Proof, Side, Subscribed, SubscribedPart, Subscription,
    SubscriptionError, SubscriptionFacts, SubscriptionId, SubscriptionState, SubscriptionStep,
    SubscriptionsDue, Terms, TraceId, VoidReason,
};
use farthing_money::Timestamp;

use crate::books;
use crate::sessions::quoted;
use crate::stage::{Right, entropy_of};
use crate::{
    Admission, Ask, Checked, Due, Dunning, Grant, NoCharge, Presented, Quote, Refusal, Rejection,
    SUBSCRIPTION, SettleError, Settled, Subscribing, SubscriptionPrice, SubscriptionRail,
    SubscriptionRefusal, Till,
};

#[cfg(test)]
mod tests;

/// What a charge is answered with: the period itself, and nothing beside.
pub(crate) const GRANTED: Outcome = Outcome { status: 204 };

/// What was done with a subscription and has bought nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// The wire.
    pub protocol: &'static str,
    /// The challenge that was answered.
    pub challenge: String,
    /// When.
    pub at: Timestamp,
    /// How the subscription stands now.
    pub subscription: Subscription,
}

impl Till {
    /// Decides one request that comes with a subscription.
    ///
    /// # Idempotency
    ///
    /// The same credential begins one subscription, is charged once and is given the same answer; any
    /// number of requests in one period are charged once.
    pub(crate) async fn admit_subscribed(
        &self,
        presented: Presented,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let quote = quoted(ask, &presented)?;
        let price = quote.subscription_price().ok_or(Rejection::Foreign)?;
        let rail = self.subscription_rail(&presented.method)?;
        let subscription = match rail.check_subscription(&presented, now)? {
            Subscribing::Begin(grant) => {
                let joins = grant.joins;
                let facts = Box::new(facts_of(&presented, quote, price, *grant));
                let join = SubscriptionStep::Join;
                let step = if joins { join(facts) } else { SubscriptionStep::Open(facts) };
                self.stepped(step, now).await?
            }
            Subscribing::Use { id, payer } => self.theirs(id, &payer, quote, price, now).await?,
            Subscribing::Cancel { id, payer } => {
                self.theirs(id, &payer, quote, price, now).await?;
                let step = SubscriptionStep::Cancel { id, by: Side::Payer };
                let subscription = self.stepped(step, now).await?;
                let Presented { protocol, challenge, .. } = presented;
                let done = Unsubscribed { protocol, challenge, at: now, subscription };
                return Ok(Admission::Unsubscribed(Box::new(done)));
            }
        };
        let (subscription, unpaid) = match self.paid(&subscription, &price.dunning, now).await {
            Ok(subscription) => (subscription, None),
            Err(refusal) => (subscription, Some(refusal)),
        };
        // What was answered before is answered again, whatever became of the subscription since.
        let answered = self.used(presented, &subscription, ask, now).await;
        match (answered, unpaid) {
            (Err(Refusal::Subscription(_)), Some(refusal)) => Err(refusal),
            (answered, _) => answered,
        }
    }

    /// A subscription, if it is this payer's and for what is asked for. Whoever asks for another is told no
    /// more than if there were none.
    async fn theirs(
        &self,
        id: SubscriptionId,
        payer: &str,
        quote: &Quote,
        price: &SubscriptionPrice,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        let known = self.stepped(SubscriptionStep::Look { id }, now).await?;
        let facts = &known.facts;
        let is_theirs = facts.payer == payer
            && facts.method == quote.method()
            && facts.payee == *quote.payee()
            && facts.plan == *price.plan;
        if is_theirs { Ok(known) } else { Err(unknown(id)) }
    }

    /// Answers within a period that is paid for: from here on, a payment like any other.
    async fn used(
        &self,
        presented: Presented,
        subscription: &Subscription,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let period = subscription.charged.unwrap_or_default();
        let checked = Checked::within(presented, subscription, period, ask);
        let refused = |error| refused(subscription, error);
        // An answer within a period moves no money.
        self.admitted(books::claim_within(&self.store, checked, refused, now).await?).await
    }

    /// Sees to it that the period that it is by now is paid for.
    async fn paid(
        &self,
        subscription: &Subscription,
        dunning: &Dunning,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        if subscription.may_use(now).is_ok() {
            return Ok(subscription.clone());
        }
        match subscription.may_charge(now) {
            Ok(period) => {
                // Whoever asks has it tried at once: the account may have been funded a moment ago.
                self.charge(subscription, period, dunning, now).await
            }
            Err(SubscriptionError::Busy) => self.resumed(subscription, now).await,
            Err(error) => Err(refused(subscription, error)),
        }
    }

    /// Finds out about the charge that is on its way, if nobody is at it.
    async fn resumed(
        &self,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        let rail = self.rail(&subscription.facts.method)?;
        let work = self.store.work().await?;
        let mut open = work.payments.into_iter().filter(|it| it.open == Open::Unsettled);
        let ours = subscription.in_flight.map(|it| it.payment);
        let it = open.find(|it| Some(it.payment.id) == ours).ok_or(Refusal::TryAgain)?;
        let right = books::take_up(&self.store, it.payment.id).await.ok_or(Refusal::TryAgain)?;
        let settled = match rail.inquire(&it.payment).await {
            // What was certainly never sent is safe to send now: it is the same order.
            Err(SettleError::Unsent) => {
                self.subscription_rail(&it.payment.method)?.charge(&it.payment).await
            }
            answered => answered,
        };
        if self.collected(right, settled, now).await? {
            self.stands(subscription.facts.id, now).await
        } else {
            // It came to nothing: another may be made.
            Err(Refusal::TryAgain)
        }
    }

    /// Writes down what a rail says of a charge: whether it was made.
    async fn collected(
        &self,
        right: Right,
        settled: Result<Settled, SettleError>,
        now: Timestamp,
    ) -> Result<bool, Refusal> {
        let payment = right.payment();
        match settled {
            Ok(settled) => {
                books::found(&self.store, right, settled, now).await?;
                self.granted(payment, now).await?;
                Ok(true)
            }
            Err(SettleError::Declined) => {
                self.store.void(payment, VoidReason::Declined, now).await?;
                Ok(false)
            }
            // The order is in the book: whoever looks next, or recovery, asks the rail about it.
            Err(SettleError::Unsent | SettleError::Unknown) => Err(Refusal::TryAgain),
        }
    }

    /// How a subscription stands that was charged, if it can be used now.
    async fn stands(&self, id: SubscriptionId, now: Timestamp) -> Result<Subscription, Refusal> {
        let stands = self.stepped(SubscriptionStep::Look { id }, now).await?;
        match stands.may_use(now) {
            Ok(_) => Ok(stands),
            Err(SubscriptionError::Unpaid) => Err(Refusal::TryAgain),
            Err(error) => Err(refused(&stands, error)),
        }
    }

    /// What the rail is to carry out so that a period is paid for; nothing where the book does it.
    async fn ordered(
        &self,
        subscription: &Subscription,
        period: u64,
    ) -> Result<Option<Box<str>>, NoCharge> {
        if subscription.facts.money != Money::Rail {
            return Ok(None);
        }
        let rail = self.subscription_rail(&subscription.facts.method);
        let begins_at = subscription.begins(period);
        let due = Due { subscription, period, begins_at };
        // What is not sold here any more is not charged either.
        rail.map_err(|_| NoCharge::Later)?.prepare_charge(due).await.map(Some)
    }

    /// Charges one period.
    ///
    /// # Idempotency
    ///
    /// However many do so at once, in however many processes, it is charged once.
    async fn charge(
        &self,
        subscription: &Subscription,
        period: u64,
        dunning: &Dunning,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        let order = match self.ordered(subscription, period).await {
            Ok(order) => order,
            Err(no) => {
                let why = match no {
                    NoCharge::Short => ChargeFailure::Short,
                    NoCharge::Revoked => ChargeFailure::Revoked,
                    NoCharge::Declined => ChargeFailure::Declined,
                    NoCharge::Later => return Err(Refusal::TryAgain),
                };
                return Err(self.failed(subscription, period, why, dunning, now).await?);
            }
        };
        let request = charge_of(subscription, period, order, now);
        let (id, is_ordered) = (request.payment.id, request.money == Money::Rail);
        let payment = is_ordered.then(|| request.payment.clone());
        match (self.store.claim(request, now).await, payment) {
            (Ok(Claim::Fresh), Some(payment)) => {
                let right = Right::new(id, Arc::clone(&self.store));
                let rail = self.subscription_rail(&payment.method)?;
                if !self.collected(right, rail.charge(&payment).await, now).await? {
                    let why = ChargeFailure::Declined;
                    return Err(self.failed(subscription, period, why, dunning, now).await?);
                }
            }
            (claimed, _) => self.claimed(subscription, period, (id, claimed), dunning, now).await?,
        }
        self.stands(subscription.facts.id, now).await
    }

    /// What a claim comes to with which everything has moved that is to move, or which was not made.
    async fn claimed(
        &self,
        subscription: &Subscription,
        period: u64,
        (id, claimed): (PaymentId, Result<Claim, ClaimError>),
        dunning: &Dunning,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match claimed {
            Ok(Claim::Fresh | Claim::Undelivered(_)) => {
                // Whatever becomes of the note, nobody else waits for it: recovery makes it, then.
                let _right = Right::new(id, Arc::clone(&self.store));
                self.granted(id, now).await?;
            }
            Ok(Claim::Interrupted) => self.granted(id, now).await?,
            // It was ordered before, and nobody knows what became of it: to be asked about by that order.
            Ok(Claim::Unsettled | Claim::Abandoned) => {
                drop(Right::new(id, Arc::clone(&self.store)));
            }
            // Somebody else was faster, or is at it: what the book says of it by now counts.
            Ok(
                Claim::Pending(_)
                | Claim::Bought(..)
                | Claim::Delivered(..)
                | Claim::GivenBack
                | Claim::Spent,
            )
            | Err(ClaimError::Subscription(_)) => {}
            Err(ClaimError::Overdrawn) => {
                return Err(self
                    .failed(subscription, period, ChargeFailure::Short, dunning, now)
                    .await?);
            }
            Err(ClaimError::UnknownKey) => {
                return Err(self
                    .failed(subscription, period, ChargeFailure::Declined, dunning, now)
                    .await?);
            }
            Err(
                ClaimError::OverCap
                | ClaimError::OverBudget { .. }
                | ClaimError::Frozen
                | ClaimError::Duplicate
                | ClaimError::KeyMisused
                | ClaimError::Legs
                | ClaimError::Channel(_)
                | ClaimError::Unavailable,
            ) => return Err(Refusal::TryAgain),
        }
        Ok(())
    }

    /// Notes that a period was given for its charge: nothing else is owed for it.
    pub(crate) async fn granted(&self, payment: PaymentId, now: Timestamp) -> Result<(), Refusal> {
        Ok(self.store.record_delivery(payment, GRANTED, None, now).await?)
    }

    /// Notes that a period was not paid for, and says so. A subscription that never began stays so: the same
    /// credential may begin it until it expires.
    async fn failed(
        &self,
        subscription: &Subscription,
        period: u64,
        why: ChargeFailure,
        dunning: &Dunning,
        now: Timestamp,
    ) -> Result<Refusal, Refusal> {
        let id = subscription.facts.id;
        if subscription.state == SubscriptionState::Opening {
            return Ok(match why {
                ChargeFailure::Short => Refusal::Short,
                ChargeFailure::Declined | ChargeFailure::Revoked => {
                    Refusal::Payer(Rejection::Invalid)
                }
            });
        }
        let failures = subscription.failures;
        if why == ChargeFailure::Revoked {
            // No retry can succeed: it is a cancellation, by the other way that a payer has.
            let fail = SubscriptionStep::Fail { id, period, failures, why, retry_at: None };
            self.stepped(fail, now).await?;
            let cancel = SubscriptionStep::Cancel { id, by: Side::Payer };
            let stands = self.stepped(cancel, now).await?;
            return Ok(refused(&stands, SubscriptionError::Over));
        }
        // Between two tries by the book, nothing more is to be noted.
        let is_due = subscription.retry_at.is_none_or(|at| at <= now);
        let stands = if failures == 0 || (is_due && subscription.retry_at.is_some()) {
            let retry_at = dunning.retry_at(failures, now);
            let step = SubscriptionStep::Fail { id, period, failures, why, retry_at };
            self.stepped(step, now).await?
        } else {
            subscription.clone()
        };
        Ok(refused(&stands, SubscriptionError::Unpaid))
    }

    /// Cancels a subscription on the seller's side: nothing is charged any more, and what was paid for can
    /// be used. Cancelling again says where it stands.
    ///
    /// # Errors
    ///
    /// A [`Refusal`].
    pub async fn cancel_subscription(
        &self,
        id: SubscriptionId,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        self.stepped(SubscriptionStep::Cancel { id, by: Side::Seller }, now).await
    }

    async fn stepped(
        &self,
        step: SubscriptionStep,
        now: Timestamp,
    ) -> Result<Subscription, Refusal> {
        let id = step.id();
        self.store.subscribe(step, now).await.map_err(|error| match error {
            SubscriptionError::Unknown | SubscriptionError::Over => unknown(id),
            SubscriptionError::Taken => Refusal::Replayed,
            SubscriptionError::Unpaid
            | SubscriptionError::Paid
            | SubscriptionError::Busy
            | SubscriptionError::OutOfOrder
            | SubscriptionError::Unavailable => Refusal::TryAgain,
        })
    }

    fn subscription_rail(&self, method: &str) -> Result<&dyn SubscriptionRail, Rejection> {
        self.rail(method)?.subscription().ok_or(Rejection::Unsupported)
    }
}

fn unknown(id: SubscriptionId) -> Refusal {
    let error = SubscriptionError::Unknown;
    Refusal::Subscription(Box::new(SubscriptionRefusal { id, stands: None, error }))
}

/// What the book's word about a subscription is to whoever asked.
fn refused(subscription: &Subscription, error: SubscriptionError) -> Refusal {
    match error {
        SubscriptionError::Unknown
        | SubscriptionError::Over
        | SubscriptionError::Unpaid
        | SubscriptionError::Taken => Refusal::Subscription(Box::new(SubscriptionRefusal {
            id: subscription.facts.id,
            stands: Some(Box::new(subscription.clone())),
            error,
        })),
        SubscriptionError::Paid
        | SubscriptionError::Busy
        | SubscriptionError::OutOfOrder
        | SubscriptionError::Unavailable => Refusal::TryAgain,
    }
}

/// What is agreed on by answering a challenge. Pure: the same credential makes the same.
fn facts_of(
    presented: &Presented,
    quote: &Quote,
    price: &SubscriptionPrice,
    grant: Grant,
) -> SubscriptionFacts {
    let Grant { payer, from, expires_at, money, words, joins: _ } = grant;
    let id = SubscriptionId::of(presented.protocol, &presented.challenge);
    let expires_at = match (price.expires_at, expires_at) {
        (Some(sellers), Some(payers)) => Some(sellers.min(payers)),
        (sellers, payers) => sellers.or(payers),
    };
    let mut facts = SubscriptionFacts {
        id,
        trace: presented.trace,
        protocol: presented.protocol.to_owned(),
        method: presented.method.clone(),
        challenge: presented.challenge.clone(),
        offered_until: presented.expires_at,
        payer,
        payee: quote.payee().clone(),
        asset: price.amount.asset().clone(),
        atoms: price.amount.atoms(),
        period: price.period,
        expires_at,
        plan: price.plan.to_string(),
        route: presented.route.to_string(),
        from,
        money,
        grant: words,
    };
    // The challenge's own trace is that of the request that it answers.
    let entropy = entropy_of(&facts.proof().fingerprint);
    facts.trace = TraceId::new(presented.trace.begins_at(), entropy);
    facts
}

/// What the book is asked for to charge a period, by the order that was made ready for it. Pure.
fn charge_of(
    subscription: &Subscription,
    period: u64,
    order: Option<Box<str>>,
    now: Timestamp,
) -> ClaimRequest {
    let facts = &subscription.facts;
    let attempt = subscription.attempts;
    let fingerprint = facts.charge(period, attempt);
    // Nobody presents a charge again: it is kept for as long as its period lasts.
    let ends = period.checked_add(1).and_then(|next| subscription.begins(next));
    let expires_at = ends.unwrap_or(facts.offered_until).max(now);
    let leg = Leg {
        from: facts.from.clone(),
        to: Account::new(AccountKind::Payable, facts.payee.clone(), facts.asset.clone()),
        atoms: facts.atoms,
    };
    ClaimRequest {
        payment: Payment {
            id: PaymentId::of(&fingerprint),
            trace: TraceId::new(now, entropy_of(&fingerprint)),
            protocol: facts.protocol.clone(),
            method: facts.method.clone(),
            intent: SUBSCRIPTION.to_owned(),
            challenge: facts.challenge.clone(),
            amount: facts.price(),
            payer: facts.payer.clone(),
            payee: facts.payee.clone(),
            route: facts.route.clone(),
            scope: facts.id.to_string(),
            credential: fingerprint,
            expires_at,
            request: None,
            inquiry: order,
            terms: Terms { repeatable: true, ..Terms::default() },
            voucher: None,
            decision: None,
            subscription: Some(Subscribed {
                id: facts.id,
                period,
                part: SubscribedPart::Charge { attempt },
            }),
        },
        proofs: vec![Proof { fingerprint, keep_until: Some(expires_at) }],
        idempotency: None,
        legs: vec![leg],
        money: facts.money,
        caps: Vec::new(),
        voucher: None,
    }
}

// --- looking after them ------------------------------------------------------------------------

/// What looking after subscriptions remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Renewing {
    /// What is done where a charge comes to nothing.
    pub dunning: Dunning,
    tried: BTreeMap<SubscriptionId, Timestamp>,
    census: Vec<(String, SubscriptionState, u64)>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// Periods that were charged.
    pub charged: usize,
    /// Charges that came to nothing.
    pub failed: usize,
    /// Subscriptions that are over.
    pub ended: usize,
    /// Things that came to nothing and will be tried again.
    pub open: usize,
}

/// One thing to do about a subscription, which can be done any number of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore<'a> {
    /// Charge a period.
    Charge(&'a Subscription, u64),
    /// Note that it is over.
    End(&'a Subscription, Ending),
}

impl Renewing {
    /// Looks after subscriptions with this dunning.
    #[must_use]
    pub fn with(dunning: Dunning) -> Self {
        Self { dunning, ..Self::default() }
    }

    /// How many subscriptions are not over, by payment method and by where they stand, as of the last look.
    #[must_use]
    pub fn census(&self) -> &[(String, SubscriptionState, u64)] {
        &self.census
    }

    /// What is to be done now. Pure.
    #[must_use]
    pub fn plan<'a>(&self, all: &'a [Subscription], now: Timestamp) -> Vec<Chore<'a>> {
        let chore = |it: &'a Subscription| {
            if self.tried.get(&it.facts.id).is_some_and(|until| *until > now) {
                return None;
            }
            // What is on its way is finished first.
            if it.in_flight.is_some() || it.state.is_over() {
                return None;
            }
            if it.is_expired(now) {
                return Some(Chore::End(it, Ending::Expired));
            }
            match it.state {
                // The credential that begins it cannot be presented any more.
                SubscriptionState::Opening => {
                    let is_over = it.facts.offered_until <= now;
                    is_over.then_some(Chore::End(it, Ending::Declined))
                }
                SubscriptionState::Cancelled { .. } => {
                    let is_over = it.paid_until().is_none_or(|until| until <= now);
                    is_over.then_some(Chore::End(it, Ending::Cancelled))
                }
                SubscriptionState::Active => {
                    it.may_charge(now).ok().map(|period| Chore::Charge(it, period))
                }
                SubscriptionState::PastDue => {
                    let since = it.past_due_since.unwrap_or(it.opened_at);
                    if since.after(self.dunning.grace) <= now {
                        return Some(Chore::End(it, Ending::Lapsed));
                    }
                    let is_due = it.retry_at.is_some_and(|at| at <= now);
                    let period = it.may_charge(now).ok().filter(|_| is_due)?;
                    Some(Chore::Charge(it, period))
                }
                SubscriptionState::Ended { .. } => None,
            }
        };
        all.iter().filter_map(chore).collect()
    }
}

impl Till {
    /// Looks after every subscription once that is due: charges its period, or notes that it is over.
    ///
    /// # Idempotency
    ///
    /// Any number of processes may do so at once: a period is charged once, and a failure noted once.
    pub async fn renew(&self, renewing: &mut Renewing, now: Timestamp) -> Renewed {
        let mut renewed = Renewed::default();
        // A store that does not answer is asked at the next look.
        let due = self.store.subscriptions_due(now, renewing.dunning.grace).await;
        let Ok(SubscriptionsDue { due, census }) = due else { return renewed };
        renewing.census = census;
        renewing.tried.retain(|_, until| *until > now);
        for chore in renewing.plan(&due, now) {
            let (it, count) = match chore {
                Chore::Charge(it, period) => {
                    let count = match self.renewed(it, period, &renewing.dunning, now).await {
                        Ok(()) => &mut renewed.charged,
                        Err(Refusal::Subscription(_)) => &mut renewed.failed,
                        Err(_) => &mut renewed.open,
                    };
                    (it, count)
                }
                Chore::End(it, why) => {
                    let step = SubscriptionStep::End { id: it.facts.id, why };
                    let count = match self.stepped(step, now).await {
                        Ok(_) => &mut renewed.ended,
                        Err(_) => &mut renewed.open,
                    };
                    (it, count)
                }
            };
            *count = count.saturating_add(1);
            renewing.tried.insert(it.facts.id, now.after(crate::recover::PAUSE));
        }
        renewed
    }

    async fn renewed(
        &self,
        it: &Subscription,
        period: u64,
        dunning: &Dunning,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        // What is not sold here any more is not charged either.
        self.subscription_rail(&it.facts.method)?;
        self.charge(it, period, dunning, now).await.map(|_| ())
    }
}
