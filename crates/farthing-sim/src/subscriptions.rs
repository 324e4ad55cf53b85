//! The auditor's model of subscriptions: what was agreed on, what was charged and when, by its own reckoning of
//! days.

use std::collections::BTreeMap;

use farthing_ledger::{
    Event, PaymentId, Record, Settlement, Subscribed, SubscribedPart, Subscription,
    SubscriptionEvent, SubscriptionId,
};
use farthing_money::Timestamp;

use crate::Invariant;
use crate::auditor::{Check, expect};
use crate::truth::{OfPeriod, Truth};

/// How long every period is here.
const DAY_MICROS: u64 = 86_400_000_000;

/// Every subscription, as its records tell it.
#[derive(Default)]
pub(crate) struct Subscriptions {
    seen: BTreeMap<SubscriptionId, Seen>,
    /// The charges that nobody has heard of yet.
    on_their_way: BTreeMap<PaymentId, (SubscriptionId, u64)>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    anchor: Option<Timestamp>,
    paid: Vec<u64>,
    on_its_way: Option<u64>,
    is_cancelled: bool,
    is_over: bool,
}

impl Seen {
    /// The day that it is, counted from the first charge.
    fn day(&self, at: Timestamp) -> u64 {
        let anchor = self.anchor.unwrap_or(at);
        let since = at.as_micros().saturating_sub(anchor.as_micros());
        since.checked_div(DAY_MICROS).unwrap_or_default()
    }

    fn pay(&mut self, id: SubscriptionId, period: u64, settlement: &Settlement) -> Check {
        self.anchor = self.anchor.or(Some(settlement.settled_at));
        let first = !self.paid.contains(&period);
        self.paid.push(period);
        expect(first, Invariant::PeriodOnce, || format!("{id} is charged for {period} twice"))
    }
}

impl Subscriptions {
    fn known(&mut self, id: SubscriptionId) -> Result<&mut Seen, (Invariant, String)> {
        let unknown = || (Invariant::Gapless, format!("{id} was never begun"));
        self.seen.get_mut(&id).ok_or_else(unknown)
    }

    /// Follows a record.
    pub(crate) fn read(&mut self, record: &Record) -> Check {
        match &record.event {
            Event::Claimed { payment, settlement, .. } => {
                let Some(part) = payment.subscription else { return Ok(()) };
                self.claimed(record.at, payment.id, part, settlement.as_ref())
            }
            Event::Posted { payment, settlement } => {
                let Some((id, period)) = self.on_their_way.remove(payment) else { return Ok(()) };
                let seen = self.known(id)?;
                seen.on_its_way = None;
                seen.pay(id, period, settlement)
            }
            Event::Voided { payment, .. } => {
                if let Some((id, _)) = self.on_their_way.remove(payment) {
                    self.known(id)?.on_its_way = None;
                }
                Ok(())
            }
            Event::Subscription { subscription, step } => self.step(*subscription, step),
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
            | Event::PaidOut { .. }
            | Event::Owner { .. }
            | Event::Channel { .. }
            | Event::Erased { .. } => Ok(()),
        }
    }

    fn claimed(
        &mut self,
        at: Timestamp,
        payment: PaymentId,
        part: Subscribed,
        settlement: Option<&Settlement>,
    ) -> Check {
        let (id, period) = (part.id, part.period);
        let seen = self.known(id)?;
        let day = seen.day(at);
        expect(!seen.is_over, Invariant::InTerm, || format!("{id} is over, and {payment} comes"))?;
        match part.part {
            SubscribedPart::Charge { .. } => {
                let beside = seen.on_its_way.replace(period);
                let twice = beside.is_some() || seen.paid.contains(&period);
                expect(!twice, Invariant::PeriodOnce, || {
                    format!("{id} is charged for {period} twice: {beside:?} {:?}", seen.paid)
                })?;
                expect(period == day && !seen.is_cancelled, Invariant::InTerm, || {
                    format!("{id} is charged for {period} on day {day}: {seen:?}")
                })?;
                if let Some(settlement) = settlement {
                    seen.on_its_way = None;
                    return seen.pay(id, period, settlement);
                }
                self.on_their_way.insert(payment, (id, period));
                Ok(())
            }
            SubscribedPart::Use => {
                let paid = seen.paid.iter().any(|paid| *paid >= day) && seen.paid.contains(&period);
                expect(paid, Invariant::InTerm, || {
                    format!("{id} is used on day {day} as of {period}: {seen:?}")
                })
            }
        }
    }

    fn step(&mut self, id: SubscriptionId, step: &SubscriptionEvent) -> Check {
        if matches!(step, SubscriptionEvent::Opened { .. }) {
            let first = self.seen.insert(id, Seen::default()).is_none();
            return expect(first, Invariant::ConsumedOnce, || format!("{id} is begun twice"));
        }
        let seen = self.known(id)?;
        expect(!seen.is_over, Invariant::InTerm, || format!("{id} is over, and goes on"))?;
        match step {
            SubscriptionEvent::Opened { .. } => {}
            SubscriptionEvent::Failed { period, .. } => {
                let unpaid = !seen.paid.contains(period);
                expect(unpaid, Invariant::InTerm, || format!("{id}: {period} is paid for"))?;
            }
            SubscriptionEvent::Cancelled { .. } => seen.is_cancelled = true,
            SubscriptionEvent::Ended { .. } => {
                seen.is_over = true;
                let alone = seen.on_its_way.is_none();
                expect(alone, Invariant::InTerm, || format!("{id} ends under its charge"))?;
            }
        }
        Ok(())
    }

    /// Whether a subscription stands in the journal at least as somebody was told that it does.
    pub(crate) fn is_as_told(&self, told: &ToldSubscription) -> bool {
        self.seen.get(&told.id).is_some_and(|seen| {
            let paid = u64::try_from(seen.paid.len()).unwrap_or(u64::MAX);
            let ended = seen.is_cancelled || seen.is_over;
            paid >= told.charges && (ended || !told.is_ended)
        })
    }

    /// Holds what a book says of its subscriptions against this.
    pub(crate) fn compare<'a>(
        &self,
        book: impl Iterator<Item = &'a Subscription>,
    ) -> Result<(), String> {
        for it in book {
            let id = it.facts.id;
            let seen = self.seen.get(&id).cloned().unwrap_or_default();
            let paid = u64::try_from(seen.paid.len()).unwrap_or(u64::MAX);
            let ours = (paid, seen.anchor, seen.on_its_way, seen.is_over);
            let flies = it.in_flight.map(|it| it.period);
            let theirs = (it.charges, it.anchor, flies, it.state.is_over());
            if ours != theirs {
                return Err(format!("{id}: {ours:?} and {theirs:?}"));
            }
        }
        Ok(())
    }

    /// When everything has come to rest, no charge is on its way, and each period that the rail was paid for
    /// is one that the book was paid for.
    pub(crate) fn finish_up(&self, truth: &Truth) -> Check {
        let waits = self.on_their_way.first_key_value();
        expect(waits.is_none(), Invariant::NotStuck, || format!("{waits:?} is on its way"))?;
        for token in truth.tokens.values().filter(|it| it.moved > 0) {
            let Some(OfPeriod { subscription, period }) = token.of else { continue };
            let booked = self.seen.get(&subscription).is_some_and(|it| it.paid.contains(&period));
            expect(booked, Invariant::Agreed, || {
                format!("{subscription} was charged for {period}, and the book does not know")
            })?;
        }
        Ok(())
    }
}

/// How a subscription stood when somebody was told.
#[derive(Clone, Debug)]
pub(crate) struct ToldSubscription {
    id: SubscriptionId,
    charges: u64,
    /// Whether it was said to be cancelled, or over.
    is_ended: bool,
}

impl ToldSubscription {
    pub(crate) fn of(it: &Subscription) -> Self {
        let is_ended = matches!(it.state.name(), "cancelled" | "expired" | "ended");
        Self { id: it.facts.id, charges: it.charges, is_ended }
    }
}
