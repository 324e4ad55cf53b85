//! Refunds: how much of each payment was given back, and what is on its way.

use std::collections::BTreeMap;

use farthing_money::{Amount, AssetId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Book;
use crate::{
    Account, AccountKind, Event, Payment, PaymentId, Phase, Record, Refund, RefundError, RefundId,
    RefundLimits, RefundRequest, RefundStanding, Settlement, Standing, Transfer, TransferId,
};

#[cfg(test)]
mod tests;

/// A day, in microseconds.
const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// Every refund ever ordered, by payment. A payment that was never refunded has no place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refunds {
    of: BTreeMap<PaymentId, Vec<Known>>,
    /// What was ordered on the last day on which something was, asset by asset.
    today: BTreeMap<AssetId, Ordered>,
}

/// What the book remembers of a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    id: RefundId,
    #[serde(with = "crate::balance::atoms_text")]
    atoms: u128,
    standing: RefundStanding,
    /// The pending transfer, and the facts, for as long as it is pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<TransferId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refund: Option<Box<Refund>>,
}

/// What was ordered back in one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ordered {
    /// Days since 1970, UTC.
    day: u64,
    #[serde(with = "crate::balance::atoms_text")]
    atoms: u128,
}

const fn day(now: Timestamp) -> u64 {
    now.as_micros() / DAY_MICROS
}

impl Refunds {
    fn of(&self, payment: PaymentId) -> &[Known] {
        self.of.get(&payment).map(Vec::as_slice).unwrap_or_default()
    }

    fn find(&self, payment: PaymentId, refund: RefundId) -> Option<&Known> {
        self.of(payment).iter().find(|known| known.id == refund)
    }

    fn find_mut(&mut self, payment: PaymentId, refund: RefundId) -> Option<&mut Known> {
        self.of.get_mut(&payment)?.iter_mut().find(|known| known.id == refund)
    }

    /// How much of a payment was given back or is on its way.
    pub(super) fn ordered(&self, payment: PaymentId) -> u128 {
        let counts = |known: &&Known| known.standing != RefundStanding::Voided;
        let atoms = self.of(payment).iter().filter(counts).map(|known| known.atoms);
        atoms.fold(0, u128::saturating_add)
    }

    /// How much of a payment is left.
    pub(super) fn left(&self, payment: &Payment) -> u128 {
        payment.amount.atoms().saturating_sub(self.ordered(payment.id))
    }

    /// The refunds that the rail has not confirmed.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Refund> {
        self.of.values().flatten().filter_map(|known| known.refund.as_deref())
    }

    pub(super) fn note(
        &mut self,
        refund: &Refund,
        settlement: Option<&Settlement>,
        transfers: &[Transfer],
    ) {
        let known = Known {
            id: refund.id,
            atoms: refund.amount.atoms(),
            standing: settlement.cloned().map_or(RefundStanding::Pending, RefundStanding::Posted),
            held: settlement.is_none().then(|| transfers.first().map(|it| it.id)).flatten(),
            refund: settlement.is_none().then(|| Box::new(refund.clone())),
        };
        self.of.entry(refund.payment).or_default().push(known);
    }

    /// Counts what was ordered towards its day. A clock that is set back opens no other day.
    pub(super) fn count(&mut self, amount: &Amount, now: Timestamp) {
        let ordered = self.today.entry(amount.asset().clone()).or_default();
        if ordered.day < day(now) {
            *ordered = Ordered { day: day(now), atoms: 0 };
        }
        ordered.atoms = ordered.atoms.saturating_add(amount.atoms());
    }

    pub(super) fn posted(&mut self, payment: PaymentId, refund: RefundId, settlement: &Settlement) {
        if let Some(known) = self.find_mut(payment, refund) {
            known.standing = RefundStanding::Posted(settlement.clone());
            (known.held, known.refund) = (None, None);
        }
    }

    pub(super) fn voided(&mut self, payment: PaymentId, refund: RefundId) {
        if let Some(known) = self.find_mut(payment, refund) {
            known.standing = RefundStanding::Voided;
            (known.held, known.refund) = (None, None);
        }
    }

    /// Whether an amount is within what may be given back at once and today.
    fn within(&self, amount: &Amount, limits: &RefundLimits, now: Timestamp) -> bool {
        let RefundLimits(limits) = limits;
        limits.iter().filter(|limit| limit.each_max.asset() == amount.asset()).all(|limit| {
            let today = self.today.get(amount.asset()).filter(|it| it.day >= day(now));
            let ordered = today.map_or(0, |it| it.atoms).saturating_add(amount.atoms());
            amount.atoms() <= limit.each_max.atoms() && ordered <= limit.per_day_max.atoms()
        })
    }
}

impl Book {
    /// Orders money of a payment back: at once where the book moves it, and pending until the rail
    /// has spoken otherwise.
    ///
    /// Of a payment that is finished the book knows no more than what was given back of it: whoever asks
    /// has read in its story that it was paid.
    ///
    /// # Idempotency
    ///
    /// A payment's reference counts once: ordering the same again says where it stands and changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// A [`RefundError`]; nothing has changed.
    pub fn refund(
        &mut self,
        request: RefundRequest,
        now: Timestamp,
    ) -> Result<(RefundStanding, Option<Record>), RefundError> {
        let RefundRequest { refund, to, price, limits, only_if_owed } = request;
        let (payment, atoms) = (refund.payment, refund.amount.atoms());
        if let Some(known) = self.refunds.find(payment, refund.id) {
            let same = known.atoms == atoms;
            let standing = known.standing.clone();
            return if same { Ok((standing, None)) } else { Err(RefundError::ReferenceTaken) };
        }
        if let Some(live) = self.live.get(&payment) {
            match &live.standing {
                Standing::Pending => return Err(RefundError::NotPaid),
                Standing::Posted(_) if live.holder == Some(self.epoch) => {
                    return Err(RefundError::InProgress);
                }
                Standing::Posted(_) | Standing::Delivered(..) => {}
            }
        }
        let is_owed = self
            .live
            .get(&payment)
            .is_some_and(|live| matches!(live.standing, Standing::Posted(_)));
        if only_if_owed && !is_owed {
            return Err(RefundError::InProgress);
        }
        let left = price.atoms().saturating_sub(self.refunds.ordered(payment));
        let nothing = atoms == 0 && !price.is_zero();
        if atoms > left || nothing || price.asset() != refund.amount.asset() {
            return Err(RefundError::TooMuch);
        }
        if !self.refunds.within(&refund.amount, &limits, now) {
            return Err(RefundError::OverLimit);
        }
        let asset = refund.amount.asset().clone();
        let transfer = Transfer {
            id: TransferId::derive(&refund.id.to_bytes(), "refund"),
            debit: Account::new(AccountKind::Payable, refund.payee.clone(), asset),
            credit: self.back_to(to, &refund.payer),
            atoms,
            phase: if refund.order.is_some() { Phase::Pending } else { Phase::Posted },
        };
        let transfers: Vec<_> = (atoms > 0).then_some(transfer).into_iter().collect();
        self.balances.apply(&transfers)?;
        self.refunds.count(&refund.amount, now);
        let settlement =
            refund.order.is_none().then(|| Settlement::new(refund.id.to_string(), now));
        let standing = settlement.clone().map_or(RefundStanding::Pending, RefundStanding::Posted);
        let trace = refund.trace;
        let event = Event::Refunded { refund: Box::new(refund), settlement };
        self.note(&event, &transfers, None);
        Ok((standing, Some(self.write(now, Some(trace), event, transfers))))
    }

    /// Makes a pending refund count. Nothing to write means it was not pending any more.
    pub fn post_refund(
        &mut self,
        payment: PaymentId,
        refund: RefundId,
        settlement: Settlement,
        now: Timestamp,
    ) -> Option<Record> {
        let (trace, mut transfers) = self.finish_refund(payment, refund, "post", Phase::Post)?;
        transfers.extend(settlement.cost.as_ref().map(|cost| super::fee(&refund.to_bytes(), cost)));
        let event = Event::RefundPosted { payment, refund, settlement };
        Some(self.commit(now, trace, event, transfers))
    }

    /// Gives a pending refund up: its money did not move and never will. Nothing to write means it was
    /// not pending any more.
    pub fn void_refund(
        &mut self,
        payment: PaymentId,
        refund: RefundId,
        now: Timestamp,
    ) -> Option<Record> {
        let (trace, transfers) = self.finish_refund(payment, refund, "void", Phase::Void)?;
        Some(self.commit(now, trace, Event::RefundVoided { payment, refund }, transfers))
    }

    /// How many refunds of a payment were ordered and given up.
    #[must_use]
    pub fn refunds_voided(&self, payment: PaymentId) -> usize {
        let voided = |known: &&Known| known.standing == RefundStanding::Voided;
        self.refunds.of(payment).iter().filter(voided).count()
    }

    fn finish_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        step: &str,
        phase: fn(TransferId) -> Phase,
    ) -> Option<(crate::TraceId, Vec<Transfer>)> {
        let known = self.refunds.find(payment, refund)?;
        let trace = known.refund.as_deref()?.trace;
        let pending = known.held.and_then(|id| self.balances.pending(id));
        let finish = |pending: &Transfer| Transfer {
            id: TransferId::derive(&refund.to_bytes(), step),
            phase: phase(pending.id),
            ..pending.clone()
        };
        Some((trace, pending.map(finish).into_iter().collect()))
    }

    /// Whether all of a payment was given back, or is on its way, so that its answer is not owed.
    pub(super) fn is_given_back(&self, payment: &Payment) -> bool {
        !self.refunds.of(payment.id).is_empty() && self.refunds.left(payment) == 0
    }

    /// A payment whose money is back is finished, if its answer was owed.
    pub(super) fn close_if_given_back(&mut self, payment: PaymentId) {
        let is_owed = |live: &&super::Live| matches!(live.standing, Standing::Posted(_));
        let Some(live) = self.live.get(&payment).filter(is_owed) else { return };
        let Some(facts) = live.payment.as_deref() else { return };
        let pending = self.refunds.of(payment).iter().any(|known| known.refund.is_some());
        if self.is_given_back(facts) && !pending {
            self.live.remove(&payment);
        }
    }
}
