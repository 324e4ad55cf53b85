//! Payouts: what a seller has earned, held, released and paid out by an operator.

use farthing_money::{Amount, Timestamp};

use super::{Book, Cold, Earned, EntryError};
use crate::{
    Account, AccountKind, Event, Fingerprint, PaymentId, Phase, Proof, Record, Standing, Transfer,
    TransferId,
};

#[cfg(test)]
mod tests;

/// What makes sure that a payment is paid out once.
pub(super) fn paid_out(payment: PaymentId) -> Proof {
    let fingerprint = Fingerprint::of("paid out", &[&payment.to_bytes()]);
    Proof { fingerprint, keep_until: None }
}

impl Book {
    pub(super) fn hold_payout(
        &mut self,
        earned: &Earned,
        reason: String,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<Option<Record>, EntryError> {
        let payment = earned.payment;
        if self.is_claimed(&paid_out(payment), cold)? {
            return Err(EntryError::OutOfOrder);
        }
        let is_new = !self.payouts_held.contains(&payment);
        let event = Event::PayoutHeld { payment, reason };
        Ok(is_new.then(|| self.commit(now, earned.trace, event, Vec::new())))
    }

    pub(super) fn release_payout(
        &mut self,
        earned: &Earned,
        reason: String,
        now: Timestamp,
    ) -> Option<Record> {
        let payment = earned.payment;
        let is_held = self.payouts_held.contains(&payment);
        let event = Event::PayoutReleased { payment, reason };
        is_held.then(|| self.commit(now, earned.trace, event, Vec::new()))
    }

    /// Moves what is due to a seller out of the book. Whether the payment was delivered, its story has
    /// said; what may have changed since is looked at here.
    pub(super) fn pay_out(
        &mut self,
        earned: &Earned,
        amount: &Amount,
        reference: String,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<Option<Record>, EntryError> {
        let payment = earned.payment;
        if self.is_claimed(&paid_out(payment), cold)? {
            return Ok(None);
        }
        let disowned = self.unmatched.get(&payment).is_some_and(super::Unmatched::is_missing);
        let is_open = |live: &super::Live| !matches!(live.standing, Standing::Delivered(..));
        let open = self.live.get(&payment).is_some_and(is_open);
        // Money that was given back since the story was read is not earned any more.
        let given_back = self.refunds.ordered(payment) != earned.given_back;
        if self.payouts_held.contains(&payment) || disowned || open || given_back {
            return Err(EntryError::OutOfOrder);
        }
        let account = |kind| Account::new(kind, earned.payee.clone(), amount.asset().clone());
        let transfer = Transfer {
            id: TransferId::derive(&payment.to_bytes(), "pay out"),
            debit: account(AccountKind::Payable),
            credit: account(AccountKind::PaidOut),
            atoms: amount.atoms(),
            phase: Phase::Posted,
        };
        self.balances.apply(std::slice::from_ref(&transfer))?;
        let event = Event::PaidOut { payment, reference };
        self.note(&event, std::slice::from_ref(&transfer), None);
        Ok(Some(self.write(now, Some(earned.trace), event, vec![transfer])))
    }
}
