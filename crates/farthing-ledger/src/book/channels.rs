//! Channels: deposits, vouchers, and what is taken on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Book, ClaimRequest, Cold, Live, Money};
use crate::{
    Account, AccountKind, Channel, ChannelDeposit, ChannelError, ChannelEvent, ChannelFacts,
    ChannelId, ChannelNews, ChannelOpening, ChannelSeen, ChannelSpent, ChannelState, ChannelStep,
    ChannelsHeard, ChannelsPlace, Claim, ClaimError, Closing, EarlierVoucher, Event, Fingerprint,
    Holder, Payment, PaymentId, PendingDeposit, Phase, Proof, Record, Settlement, Source, Standing,
    Transfer, TransferError, TransferId, Voucher, VoucherClaim,
};

#[cfg(test)]
mod tests;

/// How many closed channels are remembered with all they were. One beyond them is known only to have
/// been.
const CLOSED_MAX: usize = 10_000;

/// How many vouchers below the highest one are remembered of a channel that a rail settles; half of them
/// at most say no more than was taken.
const EARLIER_MAX: usize = 8;

/// Every channel that is not closed, and those closed last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channels {
    all: BTreeMap<ChannelId, Channel>,
    /// Those that are closed, in the order they were.
    closed: VecDeque<ChannelId>,
}

/// When the rail was last heard of about each channel, and about all of a method's. Not part of the journal:
/// after a start, it is to be heard of anew.
///
/// What is heard of all counts for those only that were looked at once, and of which nothing was told since.
/// What was heard of a channel before something was told of it stays what it was, and ages.
#[derive(Debug, Default)]
pub(super) struct Heard {
    each: BTreeMap<ChannelId, Word>,
    all: BTreeMap<String, Timestamp>,
}

/// The rail's last word about a channel.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    at: Timestamp,
    /// Whether something was told of the channel since, so that what is heard of all is not of this one.
    is_old: bool,
}

impl Heard {
    fn note(&mut self, id: &ChannelId, at: Timestamp) {
        let heard = self.each.entry(id.clone()).or_default();
        *heard = Word { at: at.max(heard.at), is_old: false };
    }

    fn at(&self, id: &ChannelId) -> Option<Timestamp> {
        let word = *self.each.get(id)?;
        Some(word.or_all(self.all.get(id.method()).copied()))
    }

    /// Something was told of some channels of a method, and of all of them what is true at `at`.
    fn told(&mut self, heard: &ChannelsHeard) {
        let ChannelsHeard { method, at, told, anew } = heard;
        let all = self.all.insert(method.clone(), *at);
        let age = |word: &mut Word| *word = Word { at: word.or_all(all), is_old: true };
        if *anew {
            let of_method = self.each.iter_mut().filter(|(id, _)| id.method() == method);
            of_method.for_each(|(_, word)| age(word));
        }
        for id in told {
            self.each.get_mut(id).into_iter().for_each(age);
        }
    }
}

impl Word {
    fn or_all(self, all: Option<Timestamp>) -> Timestamp {
        all.filter(|_| !self.is_old).map_or(self.at, |all| all.max(self.at))
    }
}

/// Which channels have changed, in the order in which they last did. Not part of the journal.
#[derive(Debug, Default)]
pub(super) struct Changes {
    order: BTreeSet<(u64, ChannelId)>,
    last: BTreeMap<ChannelId, u64>,
}

impl Changes {
    fn note(&mut self, id: &ChannelId, seq: u64) {
        if let Some(before) = self.last.insert(id.clone(), seq) {
            self.order.remove(&(before, id.clone()));
        }
        self.order.insert((seq, id.clone()));
    }

    fn forget(&mut self, id: &ChannelId) {
        if let Some(before) = self.last.remove(id) {
            self.order.remove(&(before, id.clone()));
        }
    }
}

/// What a step came to.
type Stepped = Result<Option<(Event, Vec<Transfer>)>, ChannelError>;

impl Book {
    /// The channel called `id`, if it is not closed or was not long ago.
    #[must_use]
    pub fn channel(&self, id: &ChannelId) -> Option<&Channel> {
        self.channels.all.get(id)
    }

    /// Every channel that is not closed, and those closed last.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.all.values()
    }

    /// The channels that have changed since somebody came as far as `since`, and the `named` ones. All that
    /// are not closed, where nothing is said, or in another life of the book.
    #[must_use]
    pub fn channel_news(&self, since: Option<ChannelsPlace>, named: &[ChannelId]) -> ChannelNews {
        let until = ChannelsPlace { epoch: self.epoch, seq: self.seq };
        let Some(since) = since.filter(|it| it.epoch == self.epoch && it.seq <= self.seq) else {
            let open = self.channels().filter(|it| it.state != ChannelState::Closed);
            return ChannelNews { channels: open.cloned().collect(), is_all: true, until };
        };
        let later = self.changes.order.iter().rev().take_while(|(seq, _)| *seq > since.seq);
        let ids: BTreeSet<&ChannelId> = later.map(|(_, id)| id).chain(named).collect();
        let channels = ids.into_iter().filter_map(|id| self.channels.all.get(id)).cloned();
        ChannelNews { channels: channels.collect(), is_all: false, until }
    }

    /// Notes what a rail says of all its channels at once. Nothing of it is written: after a start, each
    /// channel is to be looked at anew.
    pub fn heard_of_channels(&mut self, heard: &ChannelsHeard) {
        self.heard.told(heard);
    }

    pub(super) fn each_channel(&mut self, each: &mut dyn FnMut(&mut Channel)) {
        self.channels.all.values_mut().for_each(each);
    }

    /// Makes a step of a channel. Answers with how the channel stands behind it.
    ///
    /// # Idempotency
    ///
    /// A step that was made before changes nothing and is answered as it was; except for
    /// [`ChannelStep::Take`], each of which takes.
    ///
    /// # Errors
    ///
    /// A [`ChannelError`]; nothing has changed.
    pub fn step(
        &mut self,
        step: ChannelStep,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<(Channel, Option<Record>), ChannelError> {
        let id = step.channel().clone();
        let done = match step {
            ChannelStep::Open(opening) => self.open_channel(*opening, cold)?,
            ChannelStep::TopUp { channel, payer, binding, deposit } => {
                self.top_up(&channel, &payer, &binding, *deposit, cold)?
            }
            ChannelStep::Confirm { channel, settlement } => {
                self.heard.note(&channel, now);
                self.confirm(&channel, settlement)?
            }
            ChannelStep::Abandon { channel } => self.abandon_deposit(&channel)?,
            ChannelStep::Overdue { channel } => self.note_overdue(&channel)?,
            ChannelStep::Vouch(claim) => self.vouch(*claim, cold)?,
            ChannelStep::Take { channel, payment, atoms, units } => {
                self.take(&channel, payment, atoms, units)?
            }
            ChannelStep::Return { channel, payment, keep } => {
                self.return_taken(&channel, payment, keep)?
            }
            ChannelStep::Note { channel, seen } => self.note_seen(&channel, &seen)?,
            ChannelStep::Settle { channel, settled, settlement } => {
                self.settle_channel(&channel, settled, settlement)?
            }
            ChannelStep::Close { channel, voucher, exactly } => {
                self.close_channel(&channel, voucher.map(|it| *it), exactly, cold)?
            }
            ChannelStep::Closed { channel, settled, settlement } => {
                self.closed_channel(&channel, settled, settlement)?
            }
        };
        let record = match done {
            None => None,
            Some((event, transfers)) => {
                self.balances.apply(&transfers)?;
                self.note(&event, &transfers, Some(self.epoch));
                let trace = self.trace_of(&event);
                Some(self.write(now, trace, event, transfers))
            }
        };
        let channel = self.channels.all.get(&id).ok_or(ChannelError::Unknown)?;
        Ok((channel.clone(), record))
    }

    fn trace_of(&self, event: &Event) -> Option<crate::TraceId> {
        let Event::Channel { channel, step } = event else { return None };
        match step {
            ChannelEvent::Opened { facts, .. } => Some(facts.trace),
            // What is taken for an answer belongs to the story of the payment it is given for.
            ChannelEvent::Took { payment, .. } | ChannelEvent::Returned { payment } => {
                Some(self.live.get(payment)?.trace)
            }
            ChannelEvent::ToppedUp { .. }
            | ChannelEvent::Confirmed { .. }
            | ChannelEvent::Abandoned
            | ChannelEvent::Vouched { .. }
            | ChannelEvent::CloseRequested { .. }
            | ChannelEvent::CloseCancelled
            | ChannelEvent::CloseOverdue
            | ChannelEvent::Settled { .. }
            | ChannelEvent::Closing { .. }
            | ChannelEvent::Closed { .. } => Some(self.channels.all.get(channel)?.facts.trace),
        }
    }

    // --- paying -------------------------------------------------------------------------------

    /// Takes a payment's price from the channel of its voucher, if the voucher advances.
    pub(super) fn claim_with(
        &mut self,
        mut request: ClaimRequest,
        claim: &VoucherClaim,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<(Claim, Option<Record>), ClaimError> {
        let channel = self.channel_of(claim, cold)?;
        let price = request.payment.amount.atoms();
        let figures = channel.figures(price, claim.delta_min);
        let is_its = request.payment.payee == channel.facts.payee
            && *request.payment.amount.asset() == channel.facts.asset;
        if !is_its {
            return Err(ChannelError::Binding.into());
        }
        request.payment.payer.clone_from(&channel.facts.payer);
        request.payment.voucher = Some(Box::new(claim.voucher.clone()));
        match self.find(&request, cold, now)? {
            // What the voucher has bought was something else.
            Some(Claim::Spent) => {
                self.in_use(&claim.voucher.channel)?;
                return Err(ChannelError::NotAdvancing(figures).into());
            }
            Some(known) => {
                let resumed = self.resumed(&known, request.payment.id, now);
                return Ok((known, resumed));
            }
            None => {}
        }
        if let Some(key) = &request.idempotency
            && self.is_claimed(key, cold)?
        {
            return self.named_before(key, &request, now).map(|claim| (claim, None));
        }
        let channel = self.open_for(claim)?;
        advances(channel, claim, price)?;
        let settlement = Settlement {
            channel: Some(ChannelSpent {
                accepted: claim.voucher.cumulative,
                spent: channel.spent.saturating_add(price),
            }),
            ..Settlement::new(claim.voucher.channel.on_rail().to_owned(), now)
        };
        let transfers = self.transfers(&request)?;
        let from = claim.voucher.channel.account(request.payment.amount.asset());
        if transfers.iter().any(|it| it.debit != from || it.phase != Phase::Posted) {
            return Err(ClaimError::Legs);
        }
        self.balances.apply(&transfers)?;
        let ClaimRequest { payment, mut proofs, idempotency, .. } = request;
        proofs.extend(idempotency);
        self.forget(now);
        let bought = Claim::Bought(Box::new(payment.clone()), settlement.clone());
        let trace = Some(payment.trace);
        let settlement = Some(settlement);
        let event = Event::Claimed { payment: Box::new(payment), proofs, settlement };
        self.note(&event, &transfers, Some(self.epoch));
        Ok((bought, Some(self.write(now, trace, event, transfers))))
    }

    /// The channel that a voucher is for, if it is one of it at all.
    fn channel_of(&self, claim: &VoucherClaim, cold: &impl Cold) -> Result<&Channel, ChannelError> {
        let id = &claim.voucher.channel;
        let Some(channel) = self.channels.all.get(id) else {
            let was = cold.is_claimed(&id.proof()).map_err(|_| ChannelError::Unavailable)?;
            return Err(if was { ChannelError::Closed } else { ChannelError::Unknown });
        };
        if channel.facts.signer != claim.signer {
            return Err(ChannelError::Signer);
        }
        if channel.facts.binding != claim.binding {
            return Err(ChannelError::Binding);
        }
        Ok(channel)
    }

    /// The same channel, if its vouchers count now.
    fn open_for(&self, claim: &VoucherClaim) -> Result<&Channel, ChannelError> {
        let channel = self.in_use(&claim.voucher.channel)?;
        let heard = self.heard.at(&claim.voucher.channel);
        if claim.heard_since.is_some_and(|since| heard.is_none_or(|heard| heard < since)) {
            return Err(ChannelError::Stale);
        }
        Ok(channel)
    }

    fn in_use(&self, id: &ChannelId) -> Result<&Channel, ChannelError> {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        match channel.state {
            ChannelState::Open => Ok(channel),
            ChannelState::Opening => Err(ChannelError::Opening),
            ChannelState::CloseRequested { .. } | ChannelState::Closing | ChannelState::Closed => {
                Err(ChannelError::Closed)
            }
        }
    }

    fn vouch(&mut self, claim: VoucherClaim, cold: &impl Cold) -> Stepped {
        self.channel_of(&claim, cold)?;
        let channel = self.open_for(&claim)?;
        if claim.voucher.cumulative == channel.accepted {
            return Ok(None);
        }
        advances(channel, &claim, 0)?;
        let VoucherClaim { voucher, .. } = claim;
        Ok(Some((about(&voucher.channel.clone(), ChannelEvent::Vouched { voucher }), Vec::new())))
    }

    fn take(&self, id: &ChannelId, payment: PaymentId, atoms: u128, units: u64) -> Stepped {
        let channel = self.in_use(id)?;
        let (_, facts) = self.being_answered(id, payment)?;
        if channel.available() < atoms {
            return Err(ChannelError::Short(channel.figures(atoms, 0)));
        }
        let asset = &channel.facts.asset;
        let step = format!("take {}", self.seq.saturating_add(1));
        let transfer = Transfer {
            id: TransferId::derive(&payment.to_bytes(), &step),
            debit: id.account(asset),
            credit: Account::new(AccountKind::Payable, facts.payee.clone(), asset.clone()),
            atoms,
            phase: Phase::Posted,
        };
        Ok(Some((about(id, ChannelEvent::Took { payment, units }), some(transfer))))
    }

    /// Nothing is given back twice: what was given back counts as not taken.
    fn return_taken(&self, id: &ChannelId, payment: PaymentId, keep: u128) -> Stepped {
        let (live, facts) = self.being_answered(id, payment)?;
        let atoms = live.taken.unwrap_or_default().saturating_sub(keep);
        if atoms == 0 {
            return Ok(None);
        }
        let asset = facts.amount.asset();
        let step = format!("return {}", self.seq.saturating_add(1));
        let transfer = Transfer {
            id: TransferId::derive(&payment.to_bytes(), &step),
            debit: Account::new(AccountKind::Payable, facts.payee.clone(), asset.clone()),
            credit: self.back_to(id.account(asset), &facts.payer),
            atoms,
            phase: Phase::Posted,
        };
        Ok(Some((about(id, ChannelEvent::Returned { payment }), some(transfer))))
    }

    /// A payment that was made on a channel and whose answer is being given.
    fn being_answered(
        &self,
        id: &ChannelId,
        payment: PaymentId,
    ) -> Result<(&Live, &Payment), ChannelError> {
        let live = self.live.get(&payment).ok_or(ChannelError::NoPayment)?;
        let facts = live.payment.as_deref().ok_or(ChannelError::NoPayment)?;
        let on_it = facts.voucher.as_ref().is_some_and(|voucher| voucher.channel == *id);
        let is_owed = on_it && matches!(live.standing, Standing::Posted(_));
        if is_owed { Ok((live, facts)) } else { Err(ChannelError::NoPayment) }
    }

    /// Follows what was taken for answers into the payments: from the first taking on, an answer is given as
    /// it is paid for, and nobody gives it a second time.
    pub(super) fn note_taken(&mut self, step: &ChannelEvent, transfers: &[Transfer]) {
        let (ChannelEvent::Took { payment, .. } | ChannelEvent::Returned { payment }) = step else {
            return;
        };
        let Some(live) = self.live.get_mut(payment) else { return };
        let moved = transfers.iter().fold(0, |sum: u128, it| sum.saturating_add(it.atoms));
        let taken = live.taken.unwrap_or_default();
        let is_more = matches!(step, ChannelEvent::Took { .. });
        let change = if is_more { u128::saturating_add } else { u128::saturating_sub };
        live.taken = Some(change(taken, moved));
    }

    // --- depositing ---------------------------------------------------------------------------

    fn open_channel(&mut self, opening: ChannelOpening, cold: &impl Cold) -> Stepped {
        let ChannelOpening { facts, deposit, voucher } = opening;
        if let Some(known) = self.channels.all.get(&facts.id) {
            // A retry comes with another challenge, and so with another story.
            let same = ChannelFacts { trace: known.facts.trace, ..facts } == known.facts;
            return match known.state {
                ChannelState::Closed => Err(ChannelError::Closed),
                ChannelState::Opening
                | ChannelState::Open
                | ChannelState::CloseRequested { .. }
                | ChannelState::Closing => {
                    if same {
                        Ok(None)
                    } else {
                        Err(ChannelError::Taken)
                    }
                }
            };
        }
        if self.is_taken(&facts.id.proof(), cold)? {
            return Err(ChannelError::Closed);
        }
        for proof in &deposit.proofs {
            if self.is_taken(proof, cold)? {
                return Err(ChannelError::Taken);
            }
        }
        let source = self.source(&deposit.from, &facts)?;
        let is_books = deposit.money == Money::Book;
        let fits = is_books == facts.cash.is_none() && is_books == deposit.order.is_none();
        if !fits || deposit.money == Money::None || deposit.atoms == 0 {
            return Err(ChannelError::OutOfOrder);
        }
        let voucher = match voucher {
            Some(claim) => {
                let fits = claim.voucher.channel == facts.id
                    && claim.signer == facts.signer
                    && claim.binding == facts.binding;
                if !fits {
                    return Err(ChannelError::Signer);
                }
                if claim.voucher.cumulative > deposit.atoms {
                    let deposit = deposit.atoms;
                    let figures = crate::ChannelFigures { deposit, ..Default::default() };
                    return Err(ChannelError::OverDeposit(figures));
                }
                Some(claim.voucher).filter(|voucher| voucher.cumulative > 0)
            }
            None => None,
        };
        let named = facts.id.proof().fingerprint;
        let transfer = deposited(&named, &deposit, source, facts.id.account(&facts.asset));
        let ChannelDeposit { order, proofs, .. } = deposit;
        let id = facts.id.clone();
        let step = ChannelEvent::Opened { facts: Box::new(facts), voucher, proofs, order };
        Ok(Some((about(&id, step), some(transfer))))
    }

    fn top_up(
        &mut self,
        id: &ChannelId,
        payer: &str,
        binding: &Fingerprint,
        deposit: ChannelDeposit,
        cold: &impl Cold,
    ) -> Stepped {
        let Some(channel) = self.channels.all.get(id) else {
            let was = self.is_taken(&id.proof(), cold)?;
            return Err(if was { ChannelError::Closed } else { ChannelError::Unknown });
        };
        if channel.facts.payer != payer {
            return Err(ChannelError::Signer);
        }
        if channel.facts.binding != *binding {
            return Err(ChannelError::Binding);
        }
        let named = deposit.proofs.first().ok_or(ChannelError::OutOfOrder)?.fingerprint;
        if self.proofs.get(&named) == Some(&deposit_of(id, &named)) {
            return Ok(None);
        }
        match channel.state {
            ChannelState::Opening => return Err(ChannelError::Opening),
            ChannelState::Closing | ChannelState::Closed => return Err(ChannelError::Closed),
            ChannelState::Open | ChannelState::CloseRequested { .. } => {}
        }
        if channel.pending.is_some() {
            return Err(ChannelError::Busy);
        }
        for proof in &deposit.proofs {
            if self.is_taken(proof, cold)? {
                return Err(ChannelError::Taken);
            }
        }
        let source = self.source(&deposit.from, &channel.facts)?;
        let is_books = deposit.money == Money::Book;
        let fits = is_books == channel.facts.cash.is_none() && is_books == deposit.order.is_none();
        if !fits || deposit.money == Money::None || deposit.atoms == 0 {
            return Err(ChannelError::OutOfOrder);
        }
        if source != channel.source {
            return Err(ChannelError::Signer);
        }
        let transfer = deposited(&named, &deposit, source, id.account(&channel.facts.asset));
        let ChannelDeposit { order, proofs, .. } = deposit;
        Ok(Some((about(id, ChannelEvent::ToppedUp { proofs, order }), some(transfer))))
    }

    fn confirm(&self, id: &ChannelId, settlement: Settlement) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        let Some(pending) = &channel.pending else { return Ok(None) };
        let mut transfers = self.finish_deposit(pending, "post", Phase::Post);
        let fee = |cost| super::fee(&head(id, &format!("deposited {}", pending.named)), cost);
        transfers.extend(settlement.cost.as_ref().map(fee));
        Ok(Some((about(id, ChannelEvent::Confirmed { settlement }), transfers)))
    }

    fn abandon_deposit(&self, id: &ChannelId) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        let Some(pending) = &channel.pending else { return Ok(None) };
        let transfers = self.finish_deposit(pending, "void", Phase::Void);
        Ok(Some((about(id, ChannelEvent::Abandoned), transfers)))
    }

    fn finish_deposit(
        &self,
        pending: &PendingDeposit,
        step: &str,
        phase: fn(TransferId) -> Phase,
    ) -> Vec<Transfer> {
        let held = self.balances.pending(pending.transfer);
        let finish = |held: &Transfer| Transfer {
            id: TransferId::derive(pending.named.as_bytes(), step),
            phase: phase(held.id),
            ..held.clone()
        };
        held.map(finish).into_iter().collect()
    }

    /// The account that a deposit comes from.
    fn source(&self, from: &Source, facts: &ChannelFacts) -> Result<Account, ChannelError> {
        match from {
            Source::Account(account) => Ok(account.clone()),
            Source::Key(key) => {
                let holder = self.keys.get(key).ok_or(ChannelError::UnknownKey)?;
                Ok(Account::new(AccountKind::Prepaid, holder.clone(), facts.asset.clone()))
            }
        }
    }

    fn is_taken(&self, proof: &Proof, cold: &impl Cold) -> Result<bool, ChannelError> {
        self.is_claimed(proof, cold).map_err(|_| ChannelError::Unavailable)
    }

    // --- following the rail, and closing ------------------------------------------------------

    fn note_seen(&mut self, id: &ChannelId, seen: &ChannelSeen) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        self.heard.note(id, seen.at);
        let event = match (channel.state, seen.close_requested) {
            (ChannelState::Closed, _) => None,
            _ if seen.settled > channel.settled => {
                let settled = seen.settled;
                let transfers = moved_to_cash(channel, settled, &format!("noted {settled}"));
                let step = ChannelEvent::Settled { settled, settlement: None };
                return Ok(Some((about(id, step), transfers)));
            }
            (ChannelState::Open, Some(until)) => Some(ChannelEvent::CloseRequested { until }),
            (ChannelState::CloseRequested { .. }, None) => Some(ChannelEvent::CloseCancelled),
            (
                ChannelState::Opening
                | ChannelState::Open
                | ChannelState::CloseRequested { .. }
                | ChannelState::Closing,
                _,
            ) => None,
        };
        Ok(event.map(|step| (about(id, step), Vec::new())))
    }

    fn note_overdue(&self, id: &ChannelId) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        let is_news = channel.closing.is_some_and(|closing| !closing.is_overdue);
        Ok(is_news.then(|| (about(id, ChannelEvent::CloseOverdue), Vec::new())))
    }

    fn settle_channel(&self, id: &ChannelId, settled: u128, settlement: Settlement) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        if settled == channel.settled {
            return Ok(None);
        }
        let is_open = !matches!(channel.state, ChannelState::Opening | ChannelState::Closed);
        // Equality is no progress, and nobody can have settled what was never signed for.
        if settled < channel.settled || settled > channel.accepted || !is_open {
            return Err(ChannelError::OutOfOrder);
        }
        let mut transfers = moved_to_cash(channel, settled, &format!("settled {settled}"));
        let fee = |cost| super::fee(&head(id, &format!("settled {settled}")), cost);
        transfers.extend(settlement.cost.as_ref().map(fee));
        let step = ChannelEvent::Settled { settled, settlement: Some(settlement) };
        Ok(Some((about(id, step), transfers)))
    }

    fn close_channel(
        &mut self,
        id: &ChannelId,
        voucher: Option<VoucherClaim>,
        exactly: bool,
        cold: &impl Cold,
    ) -> Stepped {
        if let Some(claim) = &voucher {
            self.channel_of(claim, cold)?;
        }
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        match channel.state {
            ChannelState::Opening => return Err(ChannelError::Opening),
            ChannelState::Closing | ChannelState::Closed => return Ok(None),
            ChannelState::Open | ChannelState::CloseRequested { .. } => {}
        }
        // What is on its way in has to arrive, or not, before it is known what is left.
        if channel.pending.is_some() {
            return Err(ChannelError::Busy);
        }
        if let Some(claim) = &voucher {
            let cumulative = claim.voucher.cumulative;
            let least = channel.spent.max(channel.settled);
            let figures = crate::ChannelFigures { required: least, ..channel.figures(0, 0) };
            if cumulative > channel.deposit {
                return Err(ChannelError::OverDeposit(figures));
            }
            if cumulative < least || (exactly && cumulative != channel.spent) {
                return Err(ChannelError::NotAdvancing(figures));
            }
        }
        let voucher = voucher.map(|claim| claim.voucher);
        if channel.facts.cash.is_some() {
            return Ok(Some((about(id, ChannelEvent::Closing { voucher }), Vec::new())));
        }
        let settled = channel.spent;
        let transfers = self.left_over(channel, settled);
        let step = ChannelEvent::Closed { voucher, settled, settlement: None };
        Ok(Some((about(id, step), transfers)))
    }

    fn closed_channel(&self, id: &ChannelId, settled: u128, settlement: Settlement) -> Stepped {
        let channel = self.channels.all.get(id).ok_or(ChannelError::Unknown)?;
        match channel.state {
            ChannelState::Closed => return Ok(None),
            ChannelState::Opening => return Err(ChannelError::Opening),
            ChannelState::Open | ChannelState::CloseRequested { .. } | ChannelState::Closing => {}
        }
        if settled < channel.settled || settled > channel.deposit || channel.facts.cash.is_none() {
            return Err(ChannelError::OutOfOrder);
        }
        let mut transfers = moved_to_cash(channel, settled, "closed");
        // A deposit that came before is given back by the rail, and one that did not never will.
        let pending = channel.pending.iter();
        transfers.extend(pending.flat_map(|it| self.finish_deposit(it, "void", Phase::Void)));
        transfers.extend(self.left_over(channel, settled));
        transfers
            .extend(settlement.cost.as_ref().map(|cost| super::fee(&head(id, "closed"), cost)));
        let step = ChannelEvent::Closed { voucher: None, settled, settlement: Some(settlement) };
        Ok(Some((about(id, step), transfers)))
    }

    /// Gives back what is left in a channel of which `settled` was settled: to where the deposit came from
    /// as far as it did, and to the payer's account with us what was settled beyond what was spent.
    fn left_over(&self, channel: &Channel, settled: u128) -> Vec<Transfer> {
        let account = channel.facts.id.account(&channel.facts.asset);
        let left = self.balances.of(&account).available();
        let back = left.min(channel.deposit.saturating_sub(settled));
        let credit = Self::home_of(channel);
        let parts =
            [("return", &channel.source, back), ("credit", &credit, left.saturating_sub(back))];
        let transfer = |(step, to, atoms): (&str, &Account, u128)| Transfer {
            id: TransferId::derive(&head(&channel.facts.id, "closed"), step),
            debit: account.clone(),
            credit: to.clone(),
            atoms,
            phase: Phase::Posted,
        };
        parts.into_iter().filter(|(.., atoms)| *atoms > 0).map(transfer).collect()
    }

    /// The payer's own account with us.
    fn home_of(channel: &Channel) -> Account {
        if channel.source.kind == AccountKind::Prepaid {
            return channel.source.clone();
        }
        let holder = Holder::new(&channel.facts.payer);
        let home = |it| Account::new(AccountKind::Prepaid, it, channel.facts.asset.clone());
        holder.map_or_else(|_| channel.source.clone(), home)
    }

    /// Where money of a payment goes back to that came from `from`: to its channel as long as that lives,
    /// and to the payer's account with us afterwards.
    pub(super) fn back_to(&self, from: Account, payer: &str) -> Account {
        let Some(id) = ChannelId::of(&from) else { return from };
        match self.channels.all.get(&id) {
            Some(channel) if channel.state != ChannelState::Closed => from,
            Some(channel) => Self::home_of(channel),
            None => match Holder::new(payer) {
                Ok(holder) => Account::new(AccountKind::Prepaid, holder, from.asset),
                Err(_) => from,
            },
        }
    }

    // --- projecting ---------------------------------------------------------------------------

    /// Follows the record at `seq` into the channels. The balances have followed already.
    pub(super) fn follow_channels(
        &mut self,
        (seq, at): (u64, Timestamp),
        event: &Event,
        transfers: &[Transfer],
    ) {
        if let Event::Claimed { payment, .. } = event
            && let Some(voucher) = &payment.voucher
        {
            self.channels.accept(voucher, at);
            self.changes.note(&voucher.channel, seq);
        }
        if let Event::Channel { channel, step } = event {
            if let Some(forgotten) = self.channels.follow(at, channel, step, transfers) {
                self.changes.forget(&forgotten);
            }
            self.changes.note(channel, seq);
        }
        for transfer in transfers {
            for account in [&transfer.debit, &transfer.credit] {
                let Some(id) = ChannelId::of(account) else { continue };
                if let Some(channel) = self.channels.all.get_mut(&id) {
                    let left = self.balances.of(account).available();
                    let kept = channel.deposit.saturating_sub(channel.returned);
                    channel.spent = kept.saturating_sub(left);
                    channel.owe(at);
                    self.changes.note(&id, seq);
                }
            }
        }
    }
}

impl Channels {
    fn accept(&mut self, voucher: &Voucher, at: Timestamp) {
        let Some(channel) = self.all.get_mut(&voucher.channel) else { return };
        channel.used_at = at;
        channel.keep(voucher);
    }

    /// Follows a step. Says which channel is forgotten for it, if one is.
    fn follow(
        &mut self,
        at: Timestamp,
        id: &ChannelId,
        step: &ChannelEvent,
        moved: &[Transfer],
    ) -> Option<ChannelId> {
        if let ChannelEvent::Opened { facts, voucher, order, .. } = step {
            let named = facts.id.proof().fingerprint;
            let (transfer, pending) = incoming(moved, named, order.as_deref())?;
            let channel = Channel {
                facts: (**facts).clone(),
                state: pending.as_ref().map_or(ChannelState::Open, |_| ChannelState::Opening),
                source: transfer.debit.clone(),
                deposit: if pending.is_some() { 0 } else { transfer.atoms },
                accepted: voucher.as_ref().map_or(0, |it| it.cumulative),
                spent: 0,
                settled: 0,
                returned: 0,
                voucher: voucher.clone(),
                earlier: Vec::new(),
                pending,
                opened_at: at,
                used_at: at,
                owed_since: None,
                closing: None,
            };
            self.all.insert(id.clone(), channel);
            return None;
        }
        let channel = self.all.get_mut(id)?;
        match step {
            ChannelEvent::Opened { .. } => {}
            ChannelEvent::ToppedUp { proofs, order } => {
                channel.used_at = at;
                let named = proofs.first().map_or(id.proof().fingerprint, |it| it.fingerprint);
                let (transfer, pending) = incoming(moved, named, order.as_deref())?;
                if pending.is_none() {
                    channel.deposit = channel.deposit.saturating_add(transfer.atoms);
                }
                channel.pending = pending;
            }
            ChannelEvent::Confirmed { .. } => {
                let pending = channel.pending.take();
                let atoms = pending.map_or(0, |it| it.atoms);
                channel.deposit = channel.deposit.saturating_add(atoms);
                if channel.state == ChannelState::Opening {
                    channel.state = ChannelState::Open;
                }
            }
            ChannelEvent::Abandoned => {
                channel.pending = None;
                if channel.state == ChannelState::Opening {
                    channel.state = ChannelState::Closed;
                    return self.retire(id);
                }
            }
            ChannelEvent::Vouched { voucher } => self.accept(voucher, at),
            ChannelEvent::Took { .. } | ChannelEvent::Returned { .. } => channel.used_at = at,
            ChannelEvent::CloseRequested { until } => {
                channel.state = ChannelState::CloseRequested { until: *until };
                channel.closing =
                    Some(Closing { since: at, until: Some(*until), is_overdue: false });
            }
            ChannelEvent::CloseCancelled => {
                channel.state = ChannelState::Open;
                channel.closing = None;
            }
            ChannelEvent::CloseOverdue => {
                if let Some(closing) = &mut channel.closing {
                    closing.is_overdue = true;
                }
            }
            ChannelEvent::Settled { settled, .. } => {
                channel.settled = *settled;
                // What is left of it is owed from now on.
                channel.owed_since = None;
                channel.owe(at);
            }
            ChannelEvent::Closing { voucher } => {
                channel.state = ChannelState::Closing;
                let asked = Closing { since: at, until: None, is_overdue: false };
                channel.closing = channel.closing.or(Some(asked));
                if let Some(voucher) = voucher {
                    channel.keep(voucher);
                }
            }
            ChannelEvent::Closed { voucher, settled, .. } => {
                channel.state = ChannelState::Closed;
                if let Some(voucher) = voucher {
                    channel.keep(voucher);
                }
                (channel.owed_since, channel.closing, channel.pending) = (None, None, None);
                channel.earlier = Vec::new();
                channel.settled = *settled;
                let account = id.account(&channel.facts.asset);
                let back = moved.iter().filter(|it| it.debit == account).map(|it| it.atoms);
                channel.returned = back.fold(channel.returned, u128::saturating_add);
                return self.retire(id);
            }
        }
        None
    }

    /// Remembers a channel that is closed, and forgets the one closed longest ago, which it says.
    fn retire(&mut self, id: &ChannelId) -> Option<ChannelId> {
        self.closed.push_back(id.clone());
        if self.closed.len() <= CLOSED_MAX {
            return None;
        }
        let oldest = self.closed.pop_front()?;
        self.all.remove(&oldest);
        Some(oldest)
    }
}

impl Channel {
    /// Keeps a voucher: as the highest if it is, and beside it where a rail may settle by it.
    fn keep(&mut self, voucher: &Voucher) {
        if voucher.cumulative > self.accepted {
            self.accepted = voucher.cumulative;
            if let Some(before) = self.voucher.replace(voucher.clone()) {
                self.keep_earlier(&before);
            }
        } else if voucher.cumulative < self.accepted {
            self.keep_earlier(voucher);
        }
    }

    fn keep_earlier(&mut self, voucher: &Voucher) {
        if self.facts.cash.is_none() {
            return;
        }
        let Voucher { cumulative, signature, .. } = voucher.clone();
        let at = self.earlier.partition_point(|it| it.cumulative < cumulative);
        if self.earlier.get(at).is_none_or(|it| it.cumulative != cumulative) {
            self.earlier.insert(at, EarlierVoucher { cumulative, signature });
        }
        // Nothing less than what was settled can be settled any more.
        self.earlier.retain(|it| it.cumulative > self.settled);
        if self.earlier.len() > EARLIER_MAX {
            self.thin_out();
        }
    }

    /// Forgets one of the earlier vouchers: the lowest of many that say no more than was taken, and
    /// otherwise the one whose neighbours beyond that are the closest.
    fn thin_out(&mut self) {
        let covered = self.earlier.partition_point(|it| it.cumulative <= self.spent);
        if covered > EARLIER_MAX.div_ceil(2) {
            self.earlier.remove(0);
            return;
        }
        let ahead = self.earlier.iter().skip(covered).map(|it| it.cumulative);
        let steps: Vec<u128> =
            std::iter::once(self.spent).chain(ahead).chain([self.accepted]).collect();
        let gap = |three: &[u128]| match three {
            [below, _, above] => above.saturating_sub(*below),
            _ => u128::MAX,
        };
        let closest = steps.windows(3).map(gap).enumerate().min_by_key(|(_, gap)| *gap);
        if let Some((at, _)) = closest {
            self.earlier.remove(covered.saturating_add(at));
        }
    }

    /// Notes since when more was taken than was settled, where a rail settles it.
    fn owe(&mut self, at: Timestamp) {
        let is_owed = self.owed() > 0 && self.state != ChannelState::Closed;
        self.owed_since = if is_owed { self.owed_since.or(Some(at)) } else { None };
    }
}

/// Whether a voucher advances and leaves enough for `price`.
fn advances(channel: &Channel, claim: &VoucherClaim, price: u128) -> Result<(), ChannelError> {
    let cumulative = claim.voucher.cumulative;
    let figures = channel.figures(price, claim.delta_min);
    if cumulative <= channel.accepted {
        return Err(ChannelError::NotAdvancing(figures));
    }
    if cumulative > channel.deposit {
        return Err(ChannelError::OverDeposit(figures));
    }
    if cumulative.saturating_sub(channel.accepted) < claim.delta_min {
        return Err(ChannelError::DeltaTooSmall(figures));
    }
    if cumulative.saturating_sub(channel.spent) < price {
        return Err(ChannelError::Short(figures));
    }
    Ok(())
}

/// The transfer of a deposit, and the deposit where it waits for the rail.
fn incoming<'a>(
    moved: &'a [Transfer],
    named: Fingerprint,
    order: Option<&str>,
) -> Option<(&'a Transfer, Option<PendingDeposit>)> {
    let transfer = moved.first()?;
    let pending = (transfer.phase == Phase::Pending).then(|| PendingDeposit {
        named,
        atoms: transfer.atoms,
        transfer: transfer.id,
        order: order.map(Box::from),
    });
    Some((transfer, pending))
}

fn deposited(
    named: &Fingerprint,
    deposit: &ChannelDeposit,
    source: Account,
    channel: Account,
) -> Transfer {
    Transfer {
        id: TransferId::derive(named.as_bytes(), "deposit"),
        debit: source,
        credit: channel,
        atoms: deposit.atoms,
        phase: match deposit.money {
            Money::Book | Money::None => Phase::Posted,
            Money::Rail => Phase::Pending,
        },
    }
}

/// What was settled on the rail since the last time arrives where the seller's money on it is.
fn moved_to_cash(channel: &Channel, settled: u128, step: &str) -> Vec<Transfer> {
    let atoms = settled.saturating_sub(channel.settled);
    let Some(cash) = channel.facts.cash.clone().filter(|_| atoms > 0) else { return Vec::new() };
    let id = TransferId::derive(&head(&channel.facts.id, step), "cash");
    let credit = channel.source.clone();
    vec![Transfer { id, debit: cash, credit, atoms, phase: Phase::Posted }]
}

/// Names a step of a channel, for what is derived from it.
fn head(id: &ChannelId, step: &str) -> [u8; 16] {
    let parts = [id.to_string(), step.to_owned()];
    let parts = parts.each_ref().map(String::as_bytes);
    PaymentId::of(&Fingerprint::of("channel step", &parts)).to_bytes()
}

/// Who owns the proofs of a deposit: the channel and the deposit's own name.
fn deposit_of(id: &ChannelId, named: &Fingerprint) -> PaymentId {
    let parts = [id.to_string().into_bytes(), named.as_bytes().to_vec()];
    let parts = parts.each_ref().map(Vec::as_slice);
    PaymentId::of(&Fingerprint::of("channel deposit", &parts))
}

/// The proofs that a step claims, and their owner.
pub(super) fn claimed(id: &ChannelId, step: &ChannelEvent) -> Vec<(Proof, PaymentId)> {
    match step {
        ChannelEvent::Opened { proofs, .. } => {
            let own = id.proof();
            let owner = PaymentId::of(&own.fingerprint);
            std::iter::once(&own).chain(proofs).map(|proof| (*proof, owner)).collect()
        }
        ChannelEvent::ToppedUp { proofs, .. } => {
            let Some(named) = proofs.first() else { return Vec::new() };
            let owner = deposit_of(id, &named.fingerprint);
            proofs.iter().map(|proof| (*proof, owner)).collect()
        }
        ChannelEvent::Confirmed { .. }
        | ChannelEvent::Abandoned
        | ChannelEvent::Vouched { .. }
        | ChannelEvent::Took { .. }
        | ChannelEvent::Returned { .. }
        | ChannelEvent::CloseRequested { .. }
        | ChannelEvent::CloseCancelled
        | ChannelEvent::CloseOverdue
        | ChannelEvent::Settled { .. }
        | ChannelEvent::Closing { .. }
        | ChannelEvent::Closed { .. } => Vec::new(),
    }
}

fn about(channel: &ChannelId, step: ChannelEvent) -> Event {
    Event::Channel { channel: channel.clone(), step }
}

/// A transfer of nothing is none.
fn some(transfer: Transfer) -> Vec<Transfer> {
    (transfer.atoms > 0).then_some(transfer).into_iter().collect()
}

impl From<TransferError> for ChannelError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Overdrawn => Self::Overdrawn,
            TransferError::SameAccount
            | TransferError::AssetMismatch
            | TransferError::NotPending
            | TransferError::PendingMismatch
            | TransferError::Overflow
            | TransferError::Duplicate => Self::OutOfOrder,
        }
    }
}

impl From<ChannelError> for ClaimError {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}
