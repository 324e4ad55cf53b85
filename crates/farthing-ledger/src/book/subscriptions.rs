//! Subscriptions: what may be charged and used, and what follows.

use std::collections::{BTreeMap, VecDeque};

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Book, Cold};
use crate::{
    Ending, Event, InFlight, Payment, PaymentId, Proof, Record, Settlement, Subscribed,
    SubscribedPart, Subscription, SubscriptionError, SubscriptionEvent, SubscriptionFacts,
    SubscriptionId, SubscriptionState, SubscriptionStep,
};

#[cfg(test)]
mod tests;

/// How many subscriptions are remembered with all they were once they are over.
const OVER_MAX: usize = 10_000;

/// Every subscription that is not over, and those that ended last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscriptions {
    all: BTreeMap<SubscriptionId, Subscription>,
    /// Those that are over, in the order they ended.
    over: VecDeque<SubscriptionId>,
    /// Whose charge is on its way.
    in_flight: BTreeMap<PaymentId, SubscriptionId>,
}

impl Book {
    /// The subscription called `id`, if it is not over or was not long ago.
    #[must_use]
    pub fn subscription(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.all.get(&id)
    }

    /// Every subscription that is not over, and those that ended last.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.all.values()
    }

    pub(super) fn each_subscription(&mut self, each: &mut dyn FnMut(&mut Subscription)) {
        self.subscriptions.all.values_mut().for_each(each);
    }

    /// Makes a step of a subscription. Answers with how it stands behind it.
    ///
    /// # Idempotency
    ///
    /// A step that was made before changes nothing and is answered as it was.
    ///
    /// # Errors
    ///
    /// A [`SubscriptionError`]; nothing has changed.
    pub fn subscribe(
        &mut self,
        step: SubscriptionStep,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<(Subscription, Option<Record>), SubscriptionError> {
        let id = step.id();
        let event = match step {
            SubscriptionStep::Open(facts) => self.open_subscription(facts, cold)?,
            SubscriptionStep::Look { .. } => None,
            SubscriptionStep::Fail { period, failures, why, retry_at, .. } => {
                let it = self.known(id)?;
                let is_next = it.failures == failures && it.may_charge(now) == Ok(period);
                is_next.then_some(SubscriptionEvent::Failed { period, why, retry_at })
            }
            SubscriptionStep::Cancel { by, .. } => match self.known(id)?.state {
                SubscriptionState::Opening
                | SubscriptionState::Active
                | SubscriptionState::PastDue => Some(SubscriptionEvent::Cancelled { by }),
                SubscriptionState::Cancelled { .. } | SubscriptionState::Ended { .. } => None,
            },
            SubscriptionStep::End { why, .. } => self.ended(id, why, now)?,
        };
        let record = event.map(|step| {
            let trace = match &step {
                SubscriptionEvent::Opened { facts } => Some(facts.trace),
                SubscriptionEvent::Failed { .. }
                | SubscriptionEvent::Cancelled { .. }
                | SubscriptionEvent::Ended { .. } => self.subscription(id).map(|it| it.facts.trace),
            };
            let event = Event::Subscription { subscription: id, step };
            self.note(&event, &[], None);
            self.write(now, trace, event, Vec::new())
        });
        Ok((self.known(id)?.clone(), record))
    }

    fn known(&self, id: SubscriptionId) -> Result<&Subscription, SubscriptionError> {
        self.subscription(id).ok_or(SubscriptionError::Unknown)
    }

    fn open_subscription(
        &self,
        facts: Box<SubscriptionFacts>,
        cold: &impl Cold,
    ) -> Result<Option<SubscriptionEvent>, SubscriptionError> {
        if let Some(known) = self.subscription(facts.id) {
            let is_same = known.facts == *facts;
            return if is_same { Ok(None) } else { Err(SubscriptionError::Taken) };
        }
        let taken = self.is_claimed(&facts.proof(), cold);
        if taken.map_err(|_| SubscriptionError::Unavailable)? {
            return Err(SubscriptionError::Over);
        }
        if facts.atoms == 0 || facts.money == crate::Money::None {
            return Err(SubscriptionError::OutOfOrder);
        }
        Ok(Some(SubscriptionEvent::Opened { facts }))
    }

    /// Whether a subscription is over for the reason that is given.
    fn ended(
        &self,
        id: SubscriptionId,
        why: Ending,
        now: Timestamp,
    ) -> Result<Option<SubscriptionEvent>, SubscriptionError> {
        let it = self.known(id)?;
        let fits = match why {
            Ending::Declined => it.state == SubscriptionState::Opening,
            Ending::Lapsed => it.state == SubscriptionState::PastDue,
            Ending::Expired => it.is_expired(now),
            Ending::Cancelled => {
                let is_cancelled = matches!(it.state, SubscriptionState::Cancelled { .. });
                is_cancelled && it.paid_until().is_none_or(|until| until <= now)
            }
        };
        if it.state.is_over() {
            return Ok(None);
        }
        // What is on its way may still settle, and belongs to a subscription then.
        if it.in_flight.is_some() {
            return Err(SubscriptionError::Busy);
        }
        if fits {
            Ok(Some(SubscriptionEvent::Ended { why }))
        } else {
            Err(SubscriptionError::OutOfOrder)
        }
    }

    /// Whether a payment may be claimed that is one of a subscription; the rail's word that it cites, where
    /// it is an answer within a period that was paid for.
    pub(super) fn of_subscription(
        &self,
        part: &Subscribed,
        payment: &Payment,
        now: Timestamp,
    ) -> Result<Option<String>, SubscriptionError> {
        let it = self.known(part.id)?;
        let is_its = it.facts.payer == payment.payer
            && it.facts.payee == payment.payee
            && it.facts.asset == *payment.amount.asset();
        if !is_its {
            return Err(SubscriptionError::Taken);
        }
        match part.part {
            SubscribedPart::Charge { attempt } => {
                let period = it.may_charge(now)?;
                let is_next = period == part.period && attempt == it.attempts;
                let is_price = payment.amount.atoms() == it.facts.atoms;
                if is_next && is_price { Ok(None) } else { Err(SubscriptionError::OutOfOrder) }
            }
            SubscribedPart::Use => {
                let fits = it.may_use(now)? == part.period && payment.amount.is_zero();
                if fits { Ok(it.reference.clone()) } else { Err(SubscriptionError::OutOfOrder) }
            }
        }
    }

    /// Follows a record into the subscriptions.
    pub(super) fn follow_subscriptions(&mut self, at: Timestamp, event: &Event) {
        let known = &mut self.subscriptions;
        match event {
            Event::Claimed { payment, settlement, .. } => {
                let Some(part) = payment.subscription.filter(Subscribed::is_charge) else { return };
                let Some(it) = known.all.get_mut(&part.id) else { return };
                it.attempts = it.attempts.saturating_add(1);
                if let Some(settlement) = settlement {
                    it.paid(part.period, settlement);
                } else {
                    let (payment, period) = (payment.id, part.period);
                    it.in_flight = Some(InFlight { payment, period });
                    known.in_flight.insert(payment, part.id);
                }
            }
            Event::Posted { payment, settlement } => {
                let Some(id) = known.in_flight.remove(payment) else { return };
                let Some(it) = known.all.get_mut(&id) else { return };
                if let Some(in_flight) = it.in_flight.take() {
                    it.paid(in_flight.period, settlement);
                }
            }
            Event::Voided { payment, .. } => {
                let Some(id) = known.in_flight.remove(payment) else { return };
                if let Some(it) = known.all.get_mut(&id) {
                    it.in_flight = None;
                }
            }
            Event::Subscription { subscription, step } => known.follow(at, *subscription, step),
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Channel { .. }
            | Event::Owner { .. }
            | Event::PaidOut { .. }
            | Event::Erased { .. } => {}
        }
    }
}

impl Subscriptions {
    fn follow(&mut self, at: Timestamp, id: SubscriptionId, step: &SubscriptionEvent) {
        if let SubscriptionEvent::Opened { facts } = step {
            let begun = Subscription {
                facts: (**facts).clone(),
                state: SubscriptionState::Opening,
                anchor: None,
                charged: None,
                charges: 0,
                reference: None,
                in_flight: None,
                attempts: 0,
                failures: 0,
                retry_at: None,
                past_due_since: None,
                opened_at: at,
            };
            self.all.insert(id, begun);
            return;
        }
        let Some(it) = self.all.get_mut(&id) else { return };
        match step {
            SubscriptionEvent::Opened { .. } => {}
            SubscriptionEvent::Failed { retry_at, .. } => {
                it.failures = it.failures.saturating_add(1);
                it.retry_at = *retry_at;
                it.past_due_since = it.past_due_since.or(Some(at));
                if it.state == SubscriptionState::Active {
                    it.state = SubscriptionState::PastDue;
                }
            }
            SubscriptionEvent::Cancelled { by } => {
                it.state = SubscriptionState::Cancelled { by: *by };
                it.retry_at = None;
            }
            SubscriptionEvent::Ended { why } => {
                it.state = SubscriptionState::Ended { why: *why };
                it.retry_at = None;
                self.over.push_back(id);
                if self.over.len() > OVER_MAX
                    && let Some(oldest) = self.over.pop_front()
                {
                    self.all.remove(&oldest);
                }
            }
        }
    }
}

impl Subscription {
    /// A period is paid for. One that was cancelled meanwhile stays so.
    fn paid(&mut self, period: u64, settlement: &Settlement) {
        self.anchor = self.anchor.or(Some(settlement.settled_at));
        self.charged = Some(self.charged.map_or(period, |before| before.max(period)));
        self.charges = self.charges.saturating_add(1);
        self.reference = Some(settlement.reference.clone());
        self.failures = 0;
        self.retry_at = None;
        self.past_due_since = None;
        if matches!(self.state, SubscriptionState::Opening | SubscriptionState::PastDue) {
            self.state = SubscriptionState::Active;
        }
    }
}

/// The proofs that a step claims, and their owner.
pub(super) fn claimed(step: &SubscriptionEvent) -> Vec<(Proof, PaymentId)> {
    match step {
        SubscriptionEvent::Opened { facts } => {
            let proof = facts.proof();
            vec![(proof, PaymentId::of(&proof.fingerprint))]
        }
        SubscriptionEvent::Failed { .. }
        | SubscriptionEvent::Cancelled { .. }
        | SubscriptionEvent::Ended { .. } => Vec::new(),
    }
}
