//! Reads a journal from its first line and believes nothing else.

use std::collections::{BTreeMap, BTreeSet};

use farthing_money::{Amount, AssetId, Timestamp};
use serde::Serialize;

use crate::book::claimed_proofs;
use crate::{
    Account, AccountKind, Balance, Balances, ChannelEvent, ChannelId, Delivery, Event, Fingerprint,
    Lifecycle, Matching, Pay, PaymentId, Payout, Phase, Record, RefundId, SubscriptionId,
    TransferError, TransferId, balance,
};

mod channels;
mod subscriptions;

use channels::Channels;
use subscriptions::Subscriptions;

#[cfg(test)]
mod tests;

/// What a sound journal adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// How many records there are.
    pub records: u64,
    /// How many payments were claimed.
    pub claimed: u64,
    /// How many of them are still pending.
    pub pending: u64,
    /// How many were given up.
    pub voided: u64,
    /// How many are paid and still owed an answer.
    pub undelivered: u64,
    /// How many were delivered.
    pub delivered: u64,
    /// How many were given back, or are on their way, in full or in part.
    pub refunded: u64,
    /// How many the rail has disowned, without anybody having looked into it.
    pub missing: u64,
    /// How many of those delivered were paid out to their sellers.
    pub paid_out: u64,
    /// How many sessions are to be closed and are late.
    pub sessions_overdue: u64,
    /// Debits and credits of each asset; equal, or the journal is not sound.
    pub totals: BTreeMap<AssetId, (Amount, Amount)>,
    /// Every account's balance.
    pub accounts: BTreeMap<Account, Balance>,
}

/// Recomputes everything a journal says.
///
/// Checks, record by record: places count up from 1 without a gap; transfers fit the accounts they
/// touch, and overdraw none; every id stands once, and every proof for as long as it is kept; a payment
/// is claimed before it is posted or voided, and posted before it is delivered, each once; its money is its price, and no
/// more than that is given back; a channel's vouchers advance, and its deposit is what was spent, given
/// back and left. At the end, that debits equal credits for every asset.
///
/// # Errors
///
/// The first [`Fault`], by the place of the record at fault.
pub fn audit<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Audit, Fault> {
    let mut auditor = Auditor::default();
    for record in records {
        auditor.take(record).map_err(|what| Fault { seq: record.seq, what })?;
    }
    auditor.finish()
}

#[derive(Default)]
pub(crate) struct Auditor {
    seq: u64,
    balances: Balances,
    transfers: BTreeSet<TransferId>,
    /// Until when each proof is kept; nothing means for ever.
    proofs: BTreeMap<Fingerprint, Option<Timestamp>>,
    /// The latest moment at which anything was decided.
    latest: Timestamp,
    payments: BTreeMap<PaymentId, Lifecycle>,
    held: BTreeMap<PaymentId, BTreeSet<TransferId>>,
    /// The refunds that are pending: whose they are, how much, and the transfer.
    refunds: BTreeMap<RefundId, (PaymentId, u128, BTreeSet<TransferId>)>,
    refund_ids: BTreeSet<RefundId>,
    channels: Channels,
    subscriptions: Subscriptions,
}

impl Auditor {
    pub(crate) fn take(&mut self, record: &Record) -> Result<(), What> {
        if record.seq != self.seq.saturating_add(1) {
            return Err(What::Gap { after: self.seq });
        }
        self.seq = record.seq;
        for transfer in &record.transfers {
            if !self.transfers.insert(transfer.id) {
                return Err(What::TransferTwice(transfer.id));
            }
        }
        for (proof, _) in claimed_proofs(record) {
            let before = self.proofs.insert(proof.fingerprint, proof.keep_until);
            // What was to be kept until a moment may be claimed again after it, as the name that a client
            // gives to a purchase.
            let is_over = |until: Option<Timestamp>| until.is_some_and(|it| it < self.latest);
            if !before.is_none_or(is_over) {
                return Err(What::ProofTwice(proof.fingerprint));
            }
        }
        self.latest = self.latest.max(record.at);
        self.follow(record)?;
        channels::may_move(record)?;
        self.channels.take(record)?;
        self.subscriptions.take(record)?;
        self.balances.apply(&record.transfers).map_err(What::Transfer)?;
        self.channels.hold(record, &self.balances)
    }

    fn follow(&mut self, record: &Record) -> Result<(), What> {
        match &record.event {
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => expect(record.transfers.is_empty(), What::StrayTransfer),
            Event::Funded { .. } => {
                expect(record.transfers.iter().all(|it| it.phase == Phase::Posted), What::Phase)
            }
            Event::Claimed { payment, settlement, .. } => {
                let phase = if settlement.is_some() { Phase::Posted } else { Phase::Pending };
                expect(record.transfers.iter().all(|it| it.phase == phase), What::Phase)?;
                expect(is_the_price(record, &payment.amount), What::NotThePrice)?;
                let begun = Lifecycle::begin(payment, settlement.as_ref());
                let first = self.payments.insert(payment.id, begun).is_none();
                expect(first, What::PaymentTwice(payment.id))?;
                if settlement.is_none() {
                    self.held.insert(payment.id, ids(record));
                }
                Ok(())
            }
            Event::Posted { payment, settlement } => {
                self.step(*payment, &record.event, 0)?;
                let held = self.held.remove(payment).unwrap_or_default();
                finishes(record, *payment, held, settlement.cost.as_ref())
            }
            Event::Voided { payment, .. } => {
                self.step(*payment, &record.event, 0)?;
                let held = self.held.remove(payment).unwrap_or_default();
                finishes(record, *payment, held, None)
            }
            Event::Failed { payment, .. }
            | Event::Resumed { payment }
            | Event::Delivered { payment, .. }
            | Event::Reconciled { payment, .. }
            | Event::PayoutHeld { payment, .. }
            | Event::PayoutReleased { payment, .. } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                self.step(*payment, &record.event, 0)
            }
            Event::Refunded { refund, settlement } => {
                let phase = if settlement.is_some() { Phase::Posted } else { Phase::Pending };
                expect(record.transfers.iter().all(|it| it.phase == phase), What::Phase)?;
                expect(is_the_price(record, &refund.amount), What::NotThePrice)?;
                expect(self.refund_ids.insert(refund.id), What::RefundTwice(refund.id))?;
                let atoms = refund.amount.atoms();
                self.step(refund.payment, &record.event, atoms)?;
                if settlement.is_none() {
                    let pending = (refund.payment, atoms, ids(record));
                    self.refunds.insert(refund.id, pending);
                }
                Ok(())
            }
            Event::RefundPosted { payment, refund, settlement } => {
                let held = self.finish_refund(*payment, *refund, &record.event)?;
                finishes(record, *payment, held, settlement.cost.as_ref())
            }
            Event::RefundVoided { payment, refund } => {
                let held = self.finish_refund(*payment, *refund, &record.event)?;
                finishes(record, *payment, held, None)
            }
            Event::Channel {
                step: ChannelEvent::Took { payment, .. } | ChannelEvent::Returned { payment },
                ..
            } => {
                let taken = record.transfers.iter().map(|transfer| transfer.atoms);
                let taken = taken.fold(0, u128::saturating_add);
                self.step(*payment, &record.event, taken)
            }
            Event::Channel { .. } | Event::Subscription { .. } => Ok(()),
            Event::PaidOut { payment, .. } => {
                let to_sellers = |transfer: &crate::Transfer| {
                    transfer.phase == Phase::Posted && transfer.credit.kind == AccountKind::PaidOut
                };
                expect(record.transfers.iter().all(to_sellers), What::Phase)?;
                self.step(*payment, &record.event, 0)
            }
        }
    }

    fn step(&mut self, payment: PaymentId, event: &Event, refunded: u128) -> Result<(), What> {
        let standing = self.payments.get_mut(&payment).ok_or(What::NoSuchPayment(payment))?;
        let next = standing.after(event, refunded).map_err(|_| What::OutOfOrder(payment))?;
        *standing = next;
        Ok(())
    }

    /// Takes a pending refund off the list.
    fn finish_refund(
        &mut self,
        payment: PaymentId,
        refund: RefundId,
        event: &Event,
    ) -> Result<BTreeSet<TransferId>, What> {
        let pending = self.refunds.remove(&refund).ok_or(What::OutOfOrder(payment))?;
        let (owner, atoms, held) = pending;
        expect(owner == payment, What::OutOfOrder(payment))?;
        self.step(payment, event, atoms)?;
        Ok(held)
    }

    pub(crate) fn finish(self) -> Result<Audit, Fault> {
        let totals = balance::totals(self.balances.iter());
        if let Some((asset, _)) = totals.iter().find(|(_, (debits, credits))| debits != credits) {
            return Err(Fault { seq: self.seq, what: What::Unbalanced(asset.clone()) });
        }
        let count = |is: fn(&&Lifecycle) -> bool| {
            u64::try_from(self.payments.values().filter(is).count()).unwrap_or(u64::MAX)
        };
        Ok(Audit {
            records: self.seq,
            claimed: u64::try_from(self.payments.len()).unwrap_or(u64::MAX),
            pending: count(|it| it.pay == Pay::Held),
            voided: count(|it| it.pay == Pay::Voided),
            sessions_overdue: self.channels.overdue(),
            undelivered: count(|it| matches!(it.delivery, Delivery::Owed | Delivery::Failed)),
            delivered: count(|it| it.delivery == Delivery::Delivered),
            refunded: count(|it| {
                matches!(it.pay, Pay::Refunding | Pay::PartlyRefunded | Pay::Refunded)
            }),
            missing: count(|it| it.matching == Matching::Missing),
            paid_out: count(|it| it.payout == Payout::Paid),
            totals,
            accounts: self.balances.iter().map(|(a, b)| (a.clone(), *b)).collect(),
        })
    }
}

/// The transfers of a record must finish exactly those that were held, and carry the cost beside them.
fn finishes(
    record: &Record,
    payment: PaymentId,
    mut held: BTreeSet<TransferId>,
    mut cost: Option<&Amount>,
) -> Result<(), What> {
    for transfer in &record.transfers {
        let belongs = match transfer.phase {
            Phase::Post(id) | Phase::Void(id) => held.remove(&id),
            Phase::Posted => cost.take().is_some_and(|cost| {
                (transfer.atoms, &transfer.debit.asset) == (cost.atoms(), cost.asset())
            }),
            Phase::Pending => false,
        };
        expect(belongs, What::Phase)?;
    }
    expect(cost.is_none(), What::Cost)?;
    expect(held.is_empty(), What::LeftPending(payment))
}

fn ids(record: &Record) -> BTreeSet<TransferId> {
    record.transfers.iter().map(|transfer| transfer.id).collect()
}

/// Whether a record's transfers add up to the price.
fn is_the_price(record: &Record, price: &Amount) -> bool {
    let none = Amount::new(price.asset().clone(), 0);
    let mut amounts = record
        .transfers
        .iter()
        .map(|transfer| Amount::new(transfer.debit.asset.clone(), transfer.atoms));
    let sum = amounts.try_fold(none, |sum, amount| sum.checked_add(&amount));
    sum.as_ref() == Ok(price)
}

fn expect(holds: bool, otherwise: What) -> Result<(), What> {
    if holds { Ok(()) } else { Err(otherwise) }
}

/// A record that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {seq}: {what}")]
pub struct Fault {
    /// Its place in the journal.
    pub seq: u64,
    /// What is wrong with it.
    pub what: What,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// Its place does not follow the one before.
    #[error("it should follow record {after}: one was deleted, inserted or moved")]
    Gap {
        /// The place before.
        after: u64,
    },
    /// Its transfers cannot be made.
    #[error("{0}")]
    Transfer(TransferError),
    /// A transfer's id was used before.
    #[error("the transfer {0} stands twice")]
    TransferTwice(TransferId),
    /// A proof was used before.
    #[error("the proof {0} was claimed twice")]
    ProofTwice(Fingerprint),
    /// A payment was claimed before.
    #[error("the payment {0} was claimed twice")]
    PaymentTwice(PaymentId),
    /// A refund was ordered before.
    #[error("the refund {0} was ordered twice")]
    RefundTwice(RefundId),
    /// A payment was never claimed.
    #[error("the payment {0} was never claimed")]
    NoSuchPayment(PaymentId),
    /// A payment was not where the event finds it.
    #[error("the payment {0} does not stand where this event could follow")]
    OutOfOrder(PaymentId),
    /// A transfer's phase does not belong to the event.
    #[error("a transfer's phase does not belong to the event")]
    Phase,
    /// The event moves no money, and yet there are transfers.
    #[error("the event moves no money and has transfers")]
    StrayTransfer,
    /// The transfers do not add up to the price.
    #[error("the transfers do not add up to the price")]
    NotThePrice,
    /// What the settlement cost is not among the transfers.
    #[error("what the settlement cost is not among the transfers")]
    Cost,
    /// A channel was not where the event finds it.
    #[error("the channel {0} does not stand where this event could follow")]
    Channel(ChannelId),
    /// A subscription was not where the event finds it: a period was charged twice, too early or too late,
    /// or used without having been paid for.
    #[error("the subscription {0} does not stand where this event could follow")]
    Subscription(SubscriptionId),
    /// A channel's deposit is not what was spent, given back and left, or more was spent than authorised.
    #[error("the deposit of channel {0} is not what was spent and what is left of it")]
    ChannelSum(ChannelId),
    /// Money of a channel moved in a record that is not about it.
    #[error("the event moves money of {0}, which belongs to a channel")]
    ChannelAccount(Account),
    /// A payment was finished and some of its money still hangs.
    #[error("the payment {0} was finished and part of its money is still pending")]
    LeftPending(PaymentId),
    /// Debits and credits of an asset differ.
    #[error("debits and credits of {0} differ")]
    Unbalanced(AssetId),
}
