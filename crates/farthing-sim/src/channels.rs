//! The auditor's model of sessions, held against the journal's money and what lies in the chest.

use std::collections::BTreeMap;

use farthing_ledger::{
    Account, AccountKind, Channel, ChannelEvent, ChannelId, ChannelState, Event, Phase, Record,
    Transfer, Voucher,
};

use crate::Invariant;
use crate::auditor::{Check, expect};
use crate::rail::Kind;
use crate::truth::Truth;

/// Every session, as its records tell it.
#[derive(Default)]
pub(crate) struct Channels(BTreeMap<ChannelId, Seen>);

#[derive(Clone, Debug, Default)]
struct Seen {
    deposit: u128,
    pending: Option<(u128, String)>,
    accepted: u128,
    /// What was taken by vouchers and for streams, less what was given back into it.
    spent: u128,
    /// The most that it ever was.
    spent_max: u128,
    settled: u128,
    returned: u128,
    /// What the journal's money says is left.
    left: u128,
    is_closed: bool,
}

impl Channels {
    /// Follows a record.
    pub(crate) fn read(&mut self, record: &Record, truth: &Truth) -> Check {
        match &record.event {
            Event::Channel { channel, step } => self.step(record, channel, step, truth)?,
            Event::Claimed { payment, .. } => {
                if let Some(voucher) = &payment.voucher {
                    let price = payment.amount.atoms();
                    let seen = self.open(&voucher.channel)?;
                    seen.advance(&voucher.channel, voucher.cumulative)?;
                    seen.take(price);
                }
            }
            Event::Refunded { .. } | Event::RefundPosted { .. } => {
                for it in record.transfers.iter().filter(|it| counts(it)) {
                    if let Some(id) = of(&it.credit) {
                        let seen = self.open(&id)?;
                        seen.spent = seen.spent.saturating_sub(it.atoms);
                    }
                }
            }
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Posted { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::PaidOut { .. }
            | Event::Owner { .. }
            | Event::Subscription { .. }
            | Event::Erased { .. } => {}
        }
        self.hold(&record.transfers)?;
        // What should have moved and has not is seen here.
        if let Event::Channel { channel, .. } = &record.event {
            self.holds(channel)
        } else {
            Ok(())
        }
    }

    fn open(&mut self, id: &ChannelId) -> Result<&mut Seen, (Invariant, String)> {
        let closed = || (Invariant::ClosedForGood, format!("{id} is closed, or was never opened"));
        self.0.get_mut(id).filter(|seen| !seen.is_closed).ok_or_else(closed)
    }

    fn step(
        &mut self,
        record: &Record,
        id: &ChannelId,
        step: &ChannelEvent,
        truth: &Truth,
    ) -> Check {
        let into = |phase: Phase| {
            let its = record.transfers.iter().filter(move |it| it.phase == phase);
            its.filter(|it| of(&it.credit).as_ref() == Some(id)).map(|it| it.atoms)
        };
        let (posted, waits): (u128, u128) = (into(Phase::Posted).sum(), into(Phase::Pending).sum());
        let is_elsewhere = id.method() == Kind::Chest.method();
        match step {
            ChannelEvent::Opened { order, voucher, .. } => {
                let known = self.0.insert(id.clone(), Seen::default()).is_some();
                expect(!known, Invariant::ClosedForGood, || format!("{id} is opened again"))?;
                let seen = self.open(id)?;
                seen.come(posted, waits, order.as_deref());
                if let Some(voucher) = voucher {
                    seen.accepted = voucher.cumulative;
                }
            }
            ChannelEvent::ToppedUp { order, .. } => {
                self.open(id)?.come(posted, waits, order.as_deref());
            }
            ChannelEvent::Confirmed { .. } => {
                let seen = self.open(id)?;
                let (atoms, token) = seen.pending.take().unwrap_or_default();
                seen.deposit = seen.deposit.saturating_add(atoms);
                let moved = truth.tokens.get(&token).is_some_and(|it| it.moved > 0);
                expect(moved, Invariant::Agreed, || {
                    format!("{id} has a deposit that has not moved")
                })?;
            }
            ChannelEvent::Abandoned => {
                let seen = self.open(id)?;
                let (_, token) = seen.pending.take().unwrap_or_default();
                seen.is_closed = seen.deposit == 0;
                let moved = truth.tokens.get(&token).is_some_and(|it| it.moved > 0);
                expect(!moved, Invariant::Agreed, || {
                    format!("{id} has given up a deposit that has moved")
                })?;
            }
            ChannelEvent::Vouched { voucher } => {
                self.open(id)?.advance(id, voucher.cumulative)?;
            }
            ChannelEvent::Took { .. } => {
                let from = record.transfers.iter().filter(|it| of(&it.debit).as_ref() == Some(id));
                let atoms = from.map(|it| it.atoms).sum();
                self.open(id)?.take(atoms);
            }
            // It may go to the payer's account, once the session is closed.
            ChannelEvent::Returned { .. } => {
                let into = record.transfers.iter().filter(|it| of(&it.credit).as_ref() == Some(id));
                let atoms = into.map(|it| it.atoms).sum::<u128>();
                if let Some(seen) = self.0.get_mut(id) {
                    seen.spent = seen.spent.saturating_sub(atoms);
                }
            }
            ChannelEvent::Settled { settled, .. } => {
                self.open(id)?.settle(id, *settled, is_elsewhere, truth)?;
            }
            ChannelEvent::Closed { settled, voucher, .. } => {
                let seen = self.open(id)?;
                seen.end_by(voucher.as_ref());
                seen.settle(id, *settled, is_elsewhere, truth)?;
                let back = record.transfers.iter().filter(|it| of(&it.debit).as_ref() == Some(id));
                seen.returned = back.map(|it| it.atoms).sum();
                (seen.is_closed, seen.pending) = (true, None);
                let closed = truth.chest.get(id).is_some_and(|it| it.is_closed);
                expect(!is_elsewhere || closed, Invariant::Agreed, || {
                    format!("{id} is closed in the book, and not in the chest")
                })?;
            }
            ChannelEvent::Closing { voucher } => self.open(id)?.end_by(voucher.as_ref()),
            ChannelEvent::CloseRequested { .. }
            | ChannelEvent::CloseCancelled
            | ChannelEvent::CloseOverdue => {
                self.open(id)?;
            }
        }
        Ok(())
    }

    /// Follows the money, and holds every session that it was of against it.
    fn hold(&mut self, transfers: &[Transfer]) -> Check {
        let mut touched = Vec::new();
        for it in transfers.iter().filter(|it| counts(it)) {
            if let Some(seen) = of(&it.credit).and_then(|id| self.0.get_mut(&id)) {
                seen.left = seen.left.saturating_add(it.atoms);
            }
            if let Some(seen) = of(&it.debit).and_then(|id| self.0.get_mut(&id)) {
                seen.left = seen.left.saturating_sub(it.atoms);
            }
            touched.extend([&it.credit, &it.debit].into_iter().filter_map(of));
        }
        touched.iter().try_for_each(|id| self.holds(id))
    }

    fn holds(&self, id: &ChannelId) -> Check {
        let Some(it) = self.0.get(id) else { return Ok(()) };
        let sum = it.spent.saturating_add(it.left).saturating_add(it.returned);
        expect(sum == it.deposit, Invariant::Conserved, || format!("{id}: {it:?}"))?;
        let within = it.spent <= it.accepted && it.accepted <= it.deposit;
        expect(within, Invariant::Authorised, || format!("{id}: {it:?}"))?;
        expect(!it.is_closed || it.left == 0, Invariant::Conserved, || {
            format!("{id} is closed, and something is left: {it:?}")
        })
    }

    /// Whether a session stands in the journal at least as somebody was told that it does.
    pub(crate) fn is_as_told(&self, told: &ToldChannel) -> bool {
        self.0.get(&told.id).is_some_and(|seen| {
            seen.deposit >= told.deposit
                && seen.accepted >= told.accepted
                && (seen.is_closed || !told.is_closed)
        })
    }

    /// Holds what a book says of its channels against this.
    pub(crate) fn compare<'a>(
        &self,
        book: impl Iterator<Item = &'a Channel>,
    ) -> Result<(), String> {
        for channel in book {
            let id = &channel.facts.id;
            let seen = self.0.get(id).cloned().unwrap_or_default();
            let theirs = (
                channel.deposit,
                channel.accepted,
                channel.spent,
                channel.settled,
                channel.returned,
                channel.state == ChannelState::Closed,
            );
            let ours = (
                seen.deposit,
                seen.accepted,
                seen.spent,
                seen.settled,
                seen.returned,
                seen.is_closed,
            );
            if ours != theirs {
                return Err(format!("{id}: {ours:?} and {theirs:?}"));
            }
        }
        Ok(())
    }

    /// When everything has come to rest, nobody waits for anything: each session is closed, as the chest
    /// says.
    pub(crate) fn finish_up(&self, truth: &Truth) -> Check {
        for (id, seen) in &self.0 {
            expect(seen.is_closed && seen.pending.is_none(), Invariant::NotStuck, || {
                format!("{id} is not closed: {seen:?}")
            })?;
            let settled = truth.chest.get(id).map_or(0, |it| it.settled);
            let same = id.method() != Kind::Chest.method() || settled == seen.settled;
            expect(same, Invariant::Agreed, || format!("{id}: {settled} and {seen:?}"))?;
        }
        let lost = truth.chest.keys().find(|id| !self.0.contains_key(id));
        expect(lost.is_none(), Invariant::Agreed, || format!("{lost:?} is in no book"))
    }
}

/// How a session stood when somebody was told.
#[derive(Clone, Debug)]
pub(crate) struct ToldChannel {
    id: ChannelId,
    deposit: u128,
    accepted: u128,
    is_closed: bool,
}

impl ToldChannel {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self {
            id: channel.facts.id.clone(),
            deposit: channel.deposit,
            accepted: channel.accepted,
            is_closed: channel.state == ChannelState::Closed,
        }
    }
}

impl Seen {
    fn come(&mut self, posted: u128, waits: u128, order: Option<&str>) {
        self.deposit = self.deposit.saturating_add(posted);
        self.pending = order.map(|order| (waits, order.to_owned()));
    }

    fn advance(&mut self, id: &ChannelId, cumulative: u128) -> Check {
        let before = std::mem::replace(&mut self.accepted, cumulative);
        let fits = cumulative > before && cumulative <= self.deposit;
        expect(fits, Invariant::Authorised, || {
            format!("{id}: {cumulative} after {before} of {}", self.deposit)
        })
    }

    /// A payer's last voucher may say less than another before it.
    fn end_by(&mut self, voucher: Option<&Voucher>) {
        let last = voucher.map_or(0, |voucher| voucher.cumulative);
        self.accepted = self.accepted.max(last);
    }

    fn take(&mut self, atoms: u128) {
        self.spent = self.spent.saturating_add(atoms);
        self.spent_max = self.spent_max.max(self.spent);
    }

    fn settle(&mut self, id: &ChannelId, settled: u128, elsewhere: bool, truth: &Truth) -> Check {
        let paid = truth.chest.get(id).map_or(0, |it| it.settled);
        expect(!elsewhere || settled <= paid, Invariant::Agreed, || {
            format!("{id}: {settled} is settled, and {paid} was paid")
        })?;
        let fits = settled >= self.settled && settled <= self.spent_max;
        expect(fits, Invariant::SettledWithin, || format!("{id}: {settled} of {self:?}"))?;
        self.settled = settled;
        Ok(())
    }
}

const fn counts(transfer: &Transfer) -> bool {
    matches!(transfer.phase, Phase::Posted | Phase::Post(_))
}

fn of(account: &Account) -> Option<ChannelId> {
    if account.kind == AccountKind::Channel { ChannelId::of(account) } else { None }
}
