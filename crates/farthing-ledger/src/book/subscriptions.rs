//! Subscriptions: what may be charged and used, and what follows.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Book, Cold};
use crate::{
    Ending, Event, InFlight, Payment, PaymentId, Proof, Record, Settlement, Subscribed,
    SubscribedPart, Subscription, SubscriptionError, SubscriptionEvent, SubscriptionFacts,
    SubscriptionId, SubscriptionState, SubscriptionStep, SubscriptionsDue,
};
use register::Register;

mod register;
#[cfg(test)]
pub(crate) mod tests;

/// How many subscriptions are remembered with all they were once they are over.
const OVER_MAX: usize = 10_000;

/// Every subscription that is not over, and those that ended last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(super) struct Subscriptions {
    all: BTreeMap<SubscriptionId, Subscription>,
    /// Those that are over, in the order they ended.
    over: VecDeque<SubscriptionId>,
    /// Whose charge is on its way.
    in_flight: BTreeMap<PaymentId, SubscriptionId>,
    /// Where to find some of them without looking at all.
    register: Register,
}

/// What is kept of them in a snapshot; the rest follows from it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    all: BTreeMap<SubscriptionId, Subscription>,
    over: VecDeque<SubscriptionId>,
    in_flight: BTreeMap<PaymentId, SubscriptionId>,
}

impl From<Kept> for Subscriptions {
    fn from(Kept { all, over, in_flight }: Kept) -> Self {
        let register = Register::of(all.values());
        Self { all, over, in_flight, register }
    }
}

impl From<Subscriptions> for Kept {
    fn from(Subscriptions { all, over, in_flight, register: _ }: Subscriptions) -> Self {
        Self { all, over, in_flight }
    }
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

    /// The subscriptions that something is to be done about at `now`, where one may be past due for `grace`,
    /// and how many there are. It costs as much as it tells.
    #[must_use]
    pub fn subscriptions_due(&self, now: Timestamp, grace: Duration) -> SubscriptionsDue {
        let Subscriptions { all, register, .. } = &self.subscriptions;
        let due = register.due(now, grace).into_iter().filter_map(|id| all.get(&id).cloned());
        SubscriptionsDue { due: due.collect(), census: register.census() }
    }

    pub(super) fn each_subscription(&mut self, each: &mut dyn FnMut(&mut Subscription)) {
        let known = &mut self.subscriptions;
        known.all.values_mut().for_each(each);
        known.register = Register::of(known.all.values());
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
            SubscriptionStep::Join(facts) => match self.joined(&facts, now) {
                Some(there) => return Ok((there.clone(), None)),
                // What was shown to be let into another, which is over by now, begins none.
                None if self.subscription(facts.id).is_none()
                    && self.is_answered(&facts, cold)? =>
                {
                    return Err(SubscriptionError::Over);
                }
                None => self.open_subscription(facts, cold)?,
            },
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

    fn is_answered(
        &self,
        facts: &SubscriptionFacts,
        cold: &impl Cold,
    ) -> Result<bool, SubscriptionError> {
        let answered = self.is_claimed(&facts.answer(), cold);
        answered.map_err(|_| SubscriptionError::Unavailable)
    }

    /// The subscription that whoever begins another one for the same has already. One whose own credential it
    /// is stays what it is.
    fn joined(&self, facts: &SubscriptionFacts, now: Timestamp) -> Option<&Subscription> {
        let Subscriptions { all, register, .. } = &self.subscriptions;
        if all.contains_key(&facts.id) {
            return None;
        }
        let is_same = |it: &&Subscription| {
            let theirs = &it.facts;
            (&theirs.payer, &theirs.method, &theirs.payee, &theirs.plan)
                == (&facts.payer, &facts.method, &facts.payee, &facts.plan)
                && (&theirs.asset, theirs.atoms, theirs.period)
                    == (&facts.asset, facts.atoms, facts.period)
        };
        let goes_on = |it: &&Subscription| match it.state {
            SubscriptionState::Opening => it.facts.offered_until > now,
            SubscriptionState::Active | SubscriptionState::PastDue => !it.is_expired(now),
            SubscriptionState::Cancelled { .. } => it.may_use(now).is_ok(),
            SubscriptionState::Ended { .. } => false,
        };
        let theirs = register.of_payer(&facts.payer).filter_map(|id| all.get(&id));
        theirs.filter(is_same).find(goes_on)
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
                if settlement.is_none() {
                    known.in_flight.insert(payment.id, part.id);
                }
                known.change(part.id, |it| {
                    it.attempts = it.attempts.saturating_add(1);
                    if let Some(settlement) = settlement {
                        it.paid(part.period, settlement);
                    } else {
                        let (payment, period) = (payment.id, part.period);
                        it.in_flight = Some(InFlight { payment, period });
                    }
                });
            }
            Event::Posted { payment, settlement } => {
                let Some(id) = known.in_flight.remove(payment) else { return };
                known.change(id, |it| {
                    if let Some(in_flight) = it.in_flight.take() {
                        it.paid(in_flight.period, settlement);
                    }
                });
            }
            Event::Voided { payment, .. } => {
                let Some(id) = known.in_flight.remove(payment) else { return };
                known.change(id, |it| it.in_flight = None);
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
    /// Changes a subscription, and where it is found.
    fn change(&mut self, id: SubscriptionId, change: impl FnOnce(&mut Subscription)) {
        let Some(it) = self.all.get_mut(&id) else { return };
        self.register.strike(it);
        change(it);
        self.register.list(it);
    }

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
            self.register.list(&begun);
            self.all.insert(id, begun);
            return;
        }
        self.change(id, |it| match step {
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
            }
        });
        if matches!(step, SubscriptionEvent::Ended { .. }) {
            self.over.push_back(id);
            if self.over.len() > OVER_MAX
                && let Some(oldest) = self.over.pop_front()
            {
                self.all.remove(&oldest);
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
