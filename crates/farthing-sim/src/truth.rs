//! What is true outside the process: whose money moved, and what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_core::{SettleError, Settled, SettledInAll};
use farthing_ledger::{ChannelId, ChannelSeen, Fingerprint, PaymentId, RefundId, SubscriptionId};
use farthing_money::Timestamp;

use crate::client::{Intent, Sent};
use crate::fault::Fault;
use crate::sim::State;
use crate::{Invariant, Planted};

/// Everything that is true.
#[derive(Default)]
pub(crate) struct Truth {
    /// What payers authorised, by its name.
    pub(crate) tokens: BTreeMap<String, Token>,
    pub(crate) token_of: BTreeMap<PaymentId, String>,
    /// What sellers sent back, by the order.
    pub(crate) orders: BTreeMap<String, Order>,
    /// How often each payment's handler was begun, and what came of it.
    pub(crate) runs: BTreeMap<PaymentId, Vec<Run>>,
    /// What clients want, by its number.
    pub(crate) intents: BTreeMap<u64, Intent>,
    /// Which challenge was answered for which intent.
    pub(crate) challenges: BTreeMap<String, u64>,
    /// Requests with credentials, for whoever listens.
    pub(crate) heard: Vec<Sent>,
    /// What lies in the chest, by channel.
    pub(crate) chest: BTreeMap<ChannelId, Deposit>,
    /// The channels that the chest has something to tell of.
    pub(crate) told: BTreeSet<ChannelId>,
    /// What payers have taken back that sellers may charge by.
    pub(crate) revoked: BTreeSet<String>,
}

/// What an order of a subscription's pays for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OfPeriod {
    pub(crate) subscription: SubscriptionId,
    pub(crate) period: u64,
}

/// What a payer authorised on a rail: it moves money once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Token {
    pub(crate) deadline: Timestamp,
    /// Whether a message with it ever left.
    pub(crate) has_left: bool,
    pub(crate) moved: u64,
    pub(crate) is_refused: bool,
    pub(crate) is_disowned: bool,
    /// The period that it pays for, where it is a seller's order.
    pub(crate) of: Option<OfPeriod>,
}

/// What somebody has put into the chest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deposit {
    pub(crate) atoms: u128,
    /// What was paid out of it to the seller.
    pub(crate) settled: u128,
    /// From when on the payer may take the rest, if the payer has asked for it.
    pub(crate) close_requested: Option<Timestamp>,
    pub(crate) is_closed: bool,
}

/// A refund on its way.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) refund: RefundId,
    pub(crate) moved: u64,
    pub(crate) is_refused: bool,
}

/// One run of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) life: u64,
    pub(crate) ended: Option<Ended>,
}

/// How a run of a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It succeeded, with this answer.
    Succeeded(String),
    /// It said that it failed.
    Failed,
    /// It died in the middle.
    Died,
}

impl Truth {
    /// Whether a handler of a payment has ever succeeded.
    pub(crate) fn has_succeeded(&self, payment: PaymentId) -> bool {
        let runs = self.runs.get(&payment).map(Vec::as_slice).unwrap_or_default();
        runs.iter().any(|run| matches!(run.ended, Some(Ended::Succeeded(_))))
    }
}

impl State {
    /// The rail is told to move what a payer authorised.
    pub(crate) fn settle_at_rail(
        &mut self,
        token: &str,
        payment: PaymentId,
    ) -> Result<Settled, SettleError> {
        let (now, planted) = (self.now, self.planted);
        let settled = Settled::new(format!("wire-{token}"));
        let declined = self.fault(Fault::Declined);
        let it = self.truth.tokens.get_mut(token).ok_or(SettleError::Declined)?;
        if it.moved > 0 {
            if planted == Some(Planted::MovesTwice) {
                it.moved = it.moved.saturating_add(1);
                self.breaks(Invariant::ChargedOnce, format!("{payment} moved twice by {token}"));
            }
            return Ok(settled);
        }
        if it.is_refused || declined || it.deadline < now {
            it.is_refused = true;
            return Err(SettleError::Declined);
        }
        it.moved = 1;
        let of = it.of;
        self.note(&format!("{payment} money moves by {token}"));
        if let Some(of) = of {
            self.charged(of, payment, token);
        }
        if self.auditor.is_voided(payment) {
            self.breaks(Invariant::Agreed, format!("{payment} was given up, and its money moves"));
        }
        Ok(settled)
    }

    /// Money has moved for a period: once, and by an order that is in the journal.
    fn charged(&mut self, of: OfPeriod, payment: PaymentId, token: &str) {
        let OfPeriod { subscription, period } = of;
        let moved = self.truth.tokens.values().filter(|it| it.of == Some(of) && it.moved > 0);
        if moved.count() > 1 {
            let what = format!("{subscription} period {period} moved twice, by {token} at last");
            self.breaks(Invariant::PeriodOnce, what);
        }
        if !self.auditor.is_charge_ordered(payment, token) {
            let what = format!("{subscription} moved by {token}, which is not in the journal");
            self.breaks(Invariant::PeriodOnce, what);
        }
    }

    /// An order is carried out that nobody has written down.
    pub(crate) fn charge_early(&mut self, token: &str) {
        let Some(it) = self.truth.tokens.get_mut(token) else { return };
        it.moved = 1;
        if let Some(of) = it.of {
            // No payment was claimed with it.
            let nobody = PaymentId::of(&Fingerprint::of("nobody", &[token.as_bytes()]));
            self.charged(of, nobody, token);
        }
    }

    /// The rail is asked what became of a payment.
    pub(crate) fn inquire_at_rail(&mut self, payment: PaymentId) -> Result<Settled, SettleError> {
        let now = self.now;
        let token = self.truth.token_of.get(&payment).cloned().unwrap_or_default();
        // What was never sent has no token here.
        let it = self.truth.tokens.get_mut(&token).ok_or(SettleError::Unsent)?;
        let answer = match it {
            it if it.moved > 0 => Ok(Settled::new(format!("wire-{token}"))),
            it if it.is_refused => Err(SettleError::Declined),
            it if it.deadline < now => {
                it.is_refused = true;
                Err(SettleError::Declined)
            }
            it if it.has_left => Err(SettleError::Unknown),
            _ => Err(SettleError::Unsent),
        };
        self.note(&format!("{payment} the rail is asked and says {answer:?}"));
        answer
    }

    /// The rail is told to give money back.
    pub(crate) fn refund_at_rail(&mut self, order: &str) -> Result<Settled, SettleError> {
        let declined = self.fault(Fault::RefundDeclined);
        let it = self.truth.orders.get_mut(order).ok_or(SettleError::Declined)?;
        let settled = Settled::new(format!("back-{order}"));
        if it.moved > 0 {
            return Ok(settled);
        }
        if it.is_refused || declined {
            it.is_refused = true;
            return Err(SettleError::Declined);
        }
        it.moved = 1;
        let refund = it.refund;
        self.note(&format!("{refund} money moves back by {order}"));
        let moved = self.truth.orders.values().filter(|it| it.refund == refund && it.moved > 0);
        if moved.count() > 1 {
            self.breaks(Invariant::RefundedOnce, format!("{refund} moved twice"));
        }
        if !self.auditor.is_ordered(refund, order) {
            let what = format!("{refund} moved by {order}, which is not in the journal");
            self.breaks(Invariant::RefundedOnce, what);
        }
        Ok(settled)
    }

    /// The chest is told to take a deposit that a payer has authorised.
    pub(crate) fn deposit_at_rail(
        &mut self,
        token: &str,
        channel: &ChannelId,
        atoms: u128,
    ) -> Result<Settled, SettleError> {
        let (now, confirms) = (self.now, self.planted == Some(Planted::ConfirmsUnmoved));
        let settled = Settled::new(format!("chest-{token}"));
        let declined = self.fault(Fault::Declined);
        let is_closed = self.truth.chest.get(channel).is_some_and(|it| it.is_closed);
        let it = self.truth.tokens.get_mut(token).ok_or(SettleError::Declined)?;
        if it.moved > 0 {
            return Ok(settled);
        }
        if it.is_refused || declined || is_closed || it.deadline < now {
            it.is_refused = true;
            return if confirms { Ok(settled) } else { Err(SettleError::Declined) };
        }
        it.moved = 1;
        let deposit = self.truth.chest.entry(channel.clone()).or_default();
        deposit.atoms = deposit.atoms.saturating_add(atoms);
        self.truth.told.insert(channel.clone());
        self.note(&format!("{channel} {atoms} are in the chest by {token}"));
        Ok(settled)
    }

    /// The chest is told to pay the seller, and perhaps to give the rest back.
    pub(crate) fn take_at_rail(
        &mut self,
        channel: &ChannelId,
        atoms: u128,
        closes: bool,
    ) -> Result<SettledInAll, SettleError> {
        let it = self.truth.chest.get_mut(channel).ok_or(SettleError::Declined)?;
        if !it.is_closed {
            it.settled = it.settled.max(atoms.min(it.atoms));
            it.is_closed = closes;
        } else if !closes {
            return Err(SettleError::Declined);
        }
        let settled = it.settled;
        self.truth.told.insert(channel.clone());
        self.note(&format!("{channel} the chest has paid {settled}, closes: {closes}"));
        let settled = SettledInAll { atoms: settled, settled: Settled::new("chest".to_owned()) };
        Ok(settled)
    }

    /// The chest is asked about a channel: how it stands there, and whether it is closed.
    pub(crate) fn inquire_at_chest(&self, channel: &ChannelId) -> Option<(ChannelSeen, bool)> {
        let it = self.truth.chest.get(channel)?;
        let (settled, close_requested) = (it.settled, it.close_requested);
        let at = self.clock();
        Some((ChannelSeen { at, settled, close_requested }, it.is_closed))
    }

    /// A payer asks the chest for the rest, and takes it when nobody has closed by then.
    pub(crate) fn request_close(&mut self, channel: &ChannelId, until: Timestamp) {
        let it = self.truth.chest.get_mut(channel).filter(|it| !it.is_closed);
        if let Some(it) = it {
            it.close_requested = it.close_requested.or(Some(until));
            self.truth.told.insert(channel.clone());
            self.note(&format!("{channel} the payer has asked for the rest"));
        }
    }

    pub(crate) fn withdraw(&mut self, channel: &ChannelId) {
        if let Some(it) = self.truth.chest.get_mut(channel).filter(|it| !it.is_closed) {
            it.is_closed = true;
            self.truth.told.insert(channel.clone());
            self.note(&format!("{channel} the payer has taken the rest"));
        }
    }

    /// The rail forgets a payment, if it had confirmed it.
    pub(crate) fn disown(&mut self, token: &str) {
        if let Some(it) = self.truth.tokens.get_mut(token).filter(|it| it.moved > 0) {
            (it.moved, it.is_refused, it.is_disowned) = (0, true, true);
            self.note(&format!("the rail disowns {token}"));
        }
    }

    /// A handler begins.
    pub(crate) fn begun(&mut self, payment: PaymentId) {
        self.note(&format!("{payment} handler begins"));
        let life = self.life;
        let may_repeat = self.auditor.is_repeatable(payment);
        let runs = self.truth.runs.entry(payment).or_default();
        let beside = runs.iter().any(|run| run.life == life && run.ended.is_none());
        let before = runs.iter().any(|run| run.ended != Some(Ended::Failed));
        runs.push(Run { life, ended: None });
        if beside {
            self.breaks(Invariant::BegunOnce, format!("{payment} is run by two at once"));
        } else if before && !may_repeat {
            self.breaks(Invariant::BegunOnce, format!("{payment} is begun twice"));
        }
    }

    /// A handler ends.
    pub(crate) fn ended(&mut self, payment: PaymentId, ended: &Ended) {
        self.note(&format!("{payment} handler ends: {ended:?}"));
        let run = self.truth.runs.get_mut(&payment).and_then(|runs| runs.last_mut());
        if let Some(run) = run {
            run.ended = Some(ended.clone());
        }
    }

    /// Somebody is given an answer.
    pub(crate) fn told(&mut self, payment: PaymentId, answer: &str) {
        self.note(&format!("{payment} is answered: {answer}"));
        self.audit();
        self.auditor.told(payment);
        if !self.auditor.is_paid(payment) {
            self.breaks(Invariant::PaidFirst, format!("{payment} is answered and not paid"));
        }
        let runs = self.truth.runs.get(&payment).map(Vec::as_slice).unwrap_or_default();
        let said = Ended::Succeeded(answer.to_owned());
        if !runs.iter().any(|run| run.ended.as_ref() == Some(&said)) {
            self.breaks(Invariant::SameAnswer, format!("{payment} was never answered: {answer}"));
        }
    }

    /// How long a message is under way.
    pub(crate) fn travel(&mut self) -> Duration {
        if self.fault(Fault::Late) {
            Duration::from_millis(self.random.between(4_000, 90_000))
        } else {
            Duration::from_millis(self.random.between(1, 300))
        }
    }
}
