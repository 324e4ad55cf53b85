//! What must hold of channels, recomputed from the journal alone.

use std::collections::BTreeMap;

use super::{What, expect};
use crate::{
    Account, AccountKind, Balances, ChannelEvent, ChannelId, Event, Phase, Record, TransferId,
};

/// The channels of a journal, as far as the audit follows them.
#[derive(Default)]
pub(super) struct Channels(BTreeMap<ChannelId, Seen>);

struct Seen {
    account: Account,
    deposit: u128,
    accepted: u128,
    settled: u128,
    returned: u128,
    pending: Option<(TransferId, u128)>,
    is_opening: bool,
    is_closed: bool,
    is_overdue: bool,
}

impl Channels {
    /// How many are to be closed and are late.
    pub(super) fn overdue(&self) -> u64 {
        let late = self.0.values().filter(|seen| seen.is_overdue && !seen.is_closed);
        u64::try_from(late.count()).unwrap_or(u64::MAX)
    }

    /// Follows a record's event. The balances have not followed yet.
    pub(super) fn take(&mut self, record: &Record) -> Result<(), What> {
        if let Event::Channel { channel, step } = &record.event {
            return self.follow(record, channel, step);
        }
        let Event::Claimed { payment, .. } = &record.event else { return Ok(()) };
        let Some(voucher) = &payment.voucher else { return Ok(()) };
        let id = &voucher.channel;
        let seen = self.open(id)?;
        let advances = voucher.cumulative > seen.accepted;
        let within = voucher.cumulative <= seen.deposit;
        expect(advances && within && !seen.is_opening, What::Channel(id.clone()))?;
        seen.accepted = voucher.cumulative;
        let from = |transfer: &crate::Transfer| ChannelId::of(&transfer.debit).as_ref() == Some(id);
        expect(record.transfers.iter().all(from), What::Channel(id.clone()))
    }

    fn open(&mut self, id: &ChannelId) -> Result<&mut Seen, What> {
        self.0.get_mut(id).filter(|seen| !seen.is_closed).ok_or_else(|| What::Channel(id.clone()))
    }

    fn follow(&mut self, record: &Record, id: &ChannelId, step: &ChannelEvent) -> Result<(), What> {
        let wrong = || What::Channel(id.clone());
        let own = |account: &Account| ChannelId::of(account).as_ref() == Some(id);
        if let ChannelEvent::Opened { facts, voucher, .. } = step {
            let [transfer] = record.transfers.as_slice() else { return Err(wrong()) };
            let pending = transfer.phase == Phase::Pending;
            let fits = facts.id == *id && own(&transfer.credit) && !self.0.contains_key(id);
            let accepted = voucher.as_ref().map_or(0, |it| it.cumulative);
            expect(fits && accepted <= transfer.atoms, wrong())?;
            let seen = Seen {
                account: transfer.credit.clone(),
                deposit: if pending { 0 } else { transfer.atoms },
                accepted,
                settled: 0,
                returned: 0,
                pending: pending.then_some((transfer.id, transfer.atoms)),
                is_opening: pending,
                is_closed: false,
                is_overdue: false,
            };
            self.0.insert(id.clone(), seen);
            return Ok(());
        }
        // What comes back after a channel was closed goes to the payer's account with us.
        if matches!(step, ChannelEvent::Returned { .. })
            && self.0.get(id).is_some_and(|seen| seen.is_closed)
        {
            return expect(record.transfers.iter().all(|it| !own(&it.credit)), wrong());
        }
        let seen = self.open(id)?;
        match step {
            ChannelEvent::Opened { .. } => {}
            ChannelEvent::ToppedUp { .. } => {
                let [transfer] = record.transfers.as_slice() else { return Err(wrong()) };
                expect(own(&transfer.credit) && seen.pending.is_none(), wrong())?;
                match transfer.phase {
                    Phase::Posted => seen.deposit = sum(seen.deposit, transfer.atoms, id)?,
                    Phase::Pending => seen.pending = Some((transfer.id, transfer.atoms)),
                    Phase::Post(_) | Phase::Void(_) => return Err(wrong()),
                }
            }
            ChannelEvent::Confirmed { .. } | ChannelEvent::Abandoned => {
                let (transfer, fees) = record.transfers.split_first().ok_or_else(wrong)?;
                let (pending, atoms) = seen.pending.take().ok_or_else(wrong)?;
                let posts = matches!(step, ChannelEvent::Confirmed { .. });
                let is_fee = |it: &crate::Transfer| !own(&it.debit) && !own(&it.credit);
                expect(fees.iter().all(is_fee) && (posts || fees.is_empty()), wrong())?;
                let phase = if posts { Phase::Post(pending) } else { Phase::Void(pending) };
                expect(transfer.phase == phase, wrong())?;
                if posts {
                    seen.deposit = sum(seen.deposit, atoms, id)?;
                } else {
                    seen.is_closed = seen.is_opening;
                }
                seen.is_opening = false;
            }
            ChannelEvent::Vouched { voucher } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                let fits = voucher.channel == *id
                    && voucher.cumulative > seen.accepted
                    && voucher.cumulative <= seen.deposit;
                expect(fits, wrong())?;
                seen.accepted = voucher.cumulative;
            }
            ChannelEvent::Took { .. } => {
                let fits = |it: &crate::Transfer| own(&it.debit) && it.phase == Phase::Posted;
                expect(record.transfers.iter().all(fits), wrong())?;
            }
            ChannelEvent::Returned { .. } => {
                let fits = |it: &crate::Transfer| !own(&it.debit) && it.phase == Phase::Posted;
                expect(record.transfers.iter().all(fits), wrong())?;
            }
            ChannelEvent::CloseRequested { .. }
            | ChannelEvent::CloseCancelled
            | ChannelEvent::CloseOverdue
            | ChannelEvent::Closing { .. } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                let thought_better = matches!(step, ChannelEvent::CloseCancelled);
                seen.is_overdue |= matches!(step, ChannelEvent::CloseOverdue);
                seen.is_overdue &= !thought_better;
            }
            ChannelEvent::Settled { settled, .. } => {
                expect(*settled > seen.settled, wrong())?;
                expect(record.transfers.iter().all(|it| !own(&it.debit)), wrong())?;
                seen.settled = *settled;
            }
            ChannelEvent::Closed { settled, .. } => {
                expect(*settled >= seen.settled && *settled <= seen.deposit, wrong())?;
                let back = record.transfers.iter().filter(|it| own(&it.debit));
                for transfer in back {
                    seen.returned = sum(seen.returned, transfer.atoms, id)?;
                }
                (seen.settled, seen.is_closed) = (*settled, true);
            }
        }
        Ok(())
    }

    /// Holds the channels that a record is about, or has moved money of, against their balances, which have
    /// followed.
    pub(super) fn hold(&self, record: &Record, balances: &Balances) -> Result<(), What> {
        for transfer in &record.transfers {
            for account in [&transfer.debit, &transfer.credit] {
                if account.kind == AccountKind::Channel {
                    let seen = ChannelId::of(account).and_then(|id| self.0.get(&id));
                    let its = seen.is_some_and(|seen| seen.account == *account);
                    expect(its, What::ChannelAccount(account.clone()))?;
                    self.holds(account, balances)?;
                }
            }
        }
        if let Event::Channel { channel, .. } = &record.event
            && let Some(seen) = self.0.get(channel)
        {
            self.holds(&seen.account, balances)?;
        }
        Ok(())
    }

    /// A deposit is what was spent, what was given back and what is left; no more is ever spent than
    /// vouchers have authorised; and nothing is left of what is closed.
    fn holds(&self, account: &Account, balances: &Balances) -> Result<(), What> {
        let Some(id) = ChannelId::of(account) else { return Ok(()) };
        let Some(seen) = self.0.get(&id) else { return Ok(()) };
        let left = balances.of(account).available();
        let kept = seen.deposit.checked_sub(seen.returned);
        let spent = kept.and_then(|kept| kept.checked_sub(left));
        let is_within = spent.is_some_and(|spent| spent <= seen.accepted);
        let is_empty = !seen.is_closed || left == 0;
        expect(is_within && is_empty, What::ChannelSum(id))
    }
}

/// Whose money moves in and out of channels is said by what happens to channels.
pub(super) fn may_move(record: &Record) -> Result<(), What> {
    let takes = record.transfers.iter().find(|it| it.debit.kind == AccountKind::Channel);
    let gives = record.transfers.iter().find(|it| it.credit.kind == AccountKind::Channel);
    let of_channels = matches!(record.event, Event::Channel { .. });
    let by_voucher =
        matches!(&record.event, Event::Claimed { payment, .. } if payment.voucher.is_some());
    // What is given back of a payment goes to where it came from.
    let gives_back = matches!(
        record.event,
        Event::Refunded { .. } | Event::RefundPosted { .. } | Event::RefundVoided { .. }
    );
    let (may_take, may_give) = (of_channels || by_voucher, of_channels || gives_back);
    let stray = takes.filter(|_| !may_take).map(|it| &it.debit);
    let stray = stray.or_else(|| gives.filter(|_| !may_give).map(|it| &it.credit));
    stray.map_or(Ok(()), |account| Err(What::ChannelAccount(account.clone())))
}

fn sum(a: u128, b: u128, id: &ChannelId) -> Result<u128, What> {
    a.checked_add(b).ok_or_else(|| What::ChannelSum(id.clone()))
}
