//! What must hold of subscriptions, recomputed from the journal alone.

use std::collections::BTreeMap;

use farthing_money::Timestamp;

use super::{What, expect};
use crate::{
    Ending, Event, Payment, PaymentId, Record, Settlement, Subscribed, SubscribedPart,
    SubscriptionEvent, SubscriptionFacts, SubscriptionId,
};

/// The subscriptions of a journal, as far as the audit follows them.
#[derive(Default)]
pub(super) struct Subscriptions {
    seen: BTreeMap<SubscriptionId, Seen>,
    /// Charges on their way.
    in_flight: BTreeMap<PaymentId, (SubscriptionId, u64)>,
}

struct Seen {
    facts: SubscriptionFacts,
    anchor: Option<Timestamp>,
    charged: Option<u64>,
    is_charging: bool,
    /// No charge may follow.
    is_cancelled: bool,
    is_over: bool,
}

impl Seen {
    fn index(&self, at: Timestamp) -> Option<u64> {
        self.anchor.map_or(Some(0), |anchor| self.facts.period.index(anchor, at.max(anchor)))
    }

    fn paid(&mut self, period: u64, settlement: &Settlement) -> bool {
        let is_next = self.charged.is_none_or(|charged| charged < period);
        self.anchor = self.anchor.or(Some(settlement.settled_at));
        self.charged = Some(period);
        is_next
    }
}

impl Subscriptions {
    /// Follows a record's event.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), What> {
        match &record.event {
            Event::Claimed { payment, settlement, .. } => match payment.subscription {
                Some(part) => self.claimed(record.at, payment, part, settlement.as_ref()),
                None => Ok(()),
            },
            Event::Posted { payment, settlement } => {
                let Some((id, period)) = self.in_flight.remove(payment) else { return Ok(()) };
                let seen = self.of(id)?;
                seen.is_charging = false;
                expect(seen.paid(period, settlement), What::Subscription(id))
            }
            Event::Voided { payment, .. } => {
                if let Some((id, _)) = self.in_flight.remove(payment) {
                    self.of(id)?.is_charging = false;
                }
                Ok(())
            }
            Event::Subscription { subscription, step } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                self.follow(record.at, *subscription, step)
            }
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
            | Event::Erased { .. } => Ok(()),
        }
    }

    fn of(&mut self, id: SubscriptionId) -> Result<&mut Seen, What> {
        self.seen.get_mut(&id).ok_or(What::Subscription(id))
    }

    /// A period is charged once, when it is that period, at its price, and never after the end; what is used
    /// costs nothing and lies in a period that was paid for.
    fn claimed(
        &mut self,
        at: Timestamp,
        payment: &Payment,
        part: Subscribed,
        settlement: Option<&Settlement>,
    ) -> Result<(), What> {
        let wrong = What::Subscription(part.id);
        let seen = self.of(part.id)?;
        let expired = seen.facts.expires_at.is_some_and(|expires| expires <= at);
        expect(!seen.is_over && !expired, wrong.clone())?;
        let index = seen.index(at).ok_or_else(|| wrong.clone())?;
        match part.part {
            SubscribedPart::Charge { .. } => {
                let fits = part.period == index
                    && seen.charged.is_none_or(|charged| charged < index)
                    && !seen.is_charging
                    && !seen.is_cancelled
                    && payment.payee == seen.facts.payee
                    && payment.amount == seen.facts.price();
                expect(fits, wrong.clone())?;
                if let Some(settlement) = settlement {
                    return expect(seen.paid(index, settlement), wrong);
                }
                seen.is_charging = true;
                self.in_flight.insert(payment.id, (part.id, index));
                Ok(())
            }
            SubscribedPart::Use => {
                let is_paid = seen.charged.is_some_and(|charged| charged >= index);
                let fits = is_paid && seen.charged == Some(part.period) && settlement.is_some();
                expect(fits && payment.amount.is_zero(), wrong)
            }
        }
    }

    fn follow(
        &mut self,
        at: Timestamp,
        id: SubscriptionId,
        step: &SubscriptionEvent,
    ) -> Result<(), What> {
        let wrong = What::Subscription(id);
        if let SubscriptionEvent::Opened { facts } = step {
            let seen = Seen {
                facts: (**facts).clone(),
                anchor: None,
                charged: None,
                is_charging: false,
                is_cancelled: false,
                is_over: false,
            };
            let is_new = self.seen.insert(id, seen).is_none();
            return expect(is_new && facts.id == id && facts.atoms > 0, wrong);
        }
        let seen = self.of(id)?;
        expect(!seen.is_over, wrong.clone())?;
        match step {
            SubscriptionEvent::Opened { .. } => Ok(()),
            SubscriptionEvent::Failed { period, .. } => {
                let unpaid = seen.charged.is_none_or(|charged| charged < *period);
                expect(unpaid && seen.index(at) == Some(*period), wrong)
            }
            SubscriptionEvent::Cancelled { .. } => {
                let first = !seen.is_cancelled;
                seen.is_cancelled = true;
                expect(first, wrong)
            }
            SubscriptionEvent::Ended { why } => {
                let fits = match why {
                    Ending::Declined => seen.charged.is_none(),
                    Ending::Lapsed => seen.charged.is_some(),
                    Ending::Expired => seen.facts.expires_at.is_some_and(|expires| expires <= at),
                    Ending::Cancelled => seen.is_cancelled,
                };
                let fits = fits && !seen.is_charging;
                seen.is_over = true;
                expect(fits, wrong)
            }
        }
    }
}
