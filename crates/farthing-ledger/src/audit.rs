//! Reads a journal from its first line and believes nothing else.

use std::collections::{BTreeMap, BTreeSet};

use farthing_money::{Amount, AssetId};
use serde::Serialize;

use crate::book::claimed_proofs;
use crate::{
    Account, Balance, Balances, Event, Fingerprint, PaymentId, Phase, Record, TransferError,
    TransferId, balance,
};

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
    /// Debits and credits of each asset; equal, or the journal is not sound.
    pub totals: BTreeMap<AssetId, (Amount, Amount)>,
    /// Every account's balance.
    pub accounts: BTreeMap<Account, Balance>,
}

/// Recomputes everything a journal says.
///
/// Checks, record by record: places count up from 1 without a gap; transfers fit the accounts they
/// touch, and overdraw none; every id and every proof stands once; a payment is claimed before it
/// is posted or voided, and posted before it is delivered, each once; its money is its price. At the
/// end, that debits equal credits for every asset.
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

/// Where a payment stands, as far as the journal has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reached {
    Claimed,
    Posted,
    Delivered,
    Voided,
}

#[derive(Default)]
struct Auditor {
    seq: u64,
    balances: Balances,
    transfers: BTreeSet<TransferId>,
    proofs: BTreeSet<Fingerprint>,
    payments: BTreeMap<PaymentId, Reached>,
    held: BTreeMap<PaymentId, BTreeSet<TransferId>>,
}

impl Auditor {
    fn take(&mut self, record: &Record) -> Result<(), What> {
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
            if !self.proofs.insert(proof.fingerprint) {
                return Err(What::ProofTwice(proof.fingerprint));
            }
        }
        self.follow(record)?;
        self.balances.apply(&record.transfers).map_err(What::Transfer)
    }

    fn follow(&mut self, record: &Record) -> Result<(), What> {
        match &record.event {
            Event::Opened { .. } | Event::KeyAttached { .. } | Event::KeyDetached { .. } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)
            }
            Event::Funded { .. } => {
                expect(record.transfers.iter().all(|it| it.phase == Phase::Posted), What::Phase)
            }
            Event::Claimed { payment, settlement, .. } => {
                let (phase, reached) = match settlement {
                    Some(_) => (Phase::Posted, Reached::Posted),
                    None => (Phase::Pending, Reached::Claimed),
                };
                expect(record.transfers.iter().all(|it| it.phase == phase), What::Phase)?;
                expect(is_the_price(record, &payment.amount), What::NotThePrice)?;
                let first = self.payments.insert(payment.id, reached).is_none();
                expect(first, What::PaymentTwice(payment.id))?;
                if reached == Reached::Claimed {
                    let held = record.transfers.iter().map(|transfer| transfer.id).collect();
                    self.held.insert(payment.id, held);
                }
                Ok(())
            }
            Event::Posted { payment, settlement } => {
                self.step(*payment, Reached::Claimed, Reached::Posted)?;
                self.finishes(record, *payment, settlement.cost.as_ref())
            }
            Event::Voided { payment, .. } => {
                self.step(*payment, Reached::Claimed, Reached::Voided)?;
                self.finishes(record, *payment, None)
            }
            Event::Failed { payment, .. } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                self.step(*payment, Reached::Posted, Reached::Posted)
            }
            Event::Delivered { payment, .. } => {
                expect(record.transfers.is_empty(), What::StrayTransfer)?;
                self.step(*payment, Reached::Posted, Reached::Delivered)
            }
        }
    }

    fn step(&mut self, payment: PaymentId, from: Reached, to: Reached) -> Result<(), What> {
        let standing = self.payments.get_mut(&payment).ok_or(What::NoSuchPayment(payment))?;
        expect(*standing == from, What::OutOfOrder(payment))?;
        *standing = to;
        Ok(())
    }

    /// The transfers of a record must finish exactly those the payment's claim held, and carry the
    /// cost beside them.
    fn finishes(
        &mut self,
        record: &Record,
        payment: PaymentId,
        mut cost: Option<&Amount>,
    ) -> Result<(), What> {
        let mut held = self.held.remove(&payment).unwrap_or_default();
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

    fn finish(self) -> Result<Audit, Fault> {
        let totals = balance::totals(self.balances.iter());
        if let Some((asset, _)) = totals.iter().find(|(_, (debits, credits))| debits != credits) {
            return Err(Fault { seq: self.seq, what: What::Unbalanced(asset.clone()) });
        }
        let count = |reached| {
            let there = self.payments.values().filter(|&&standing| standing == reached);
            u64::try_from(there.count()).unwrap_or(u64::MAX)
        };
        Ok(Audit {
            records: self.seq,
            claimed: u64::try_from(self.payments.len()).unwrap_or(u64::MAX),
            pending: count(Reached::Claimed),
            voided: count(Reached::Voided),
            undelivered: count(Reached::Posted),
            delivered: count(Reached::Delivered),
            totals,
            accounts: self.balances.iter().map(|(a, b)| (a.clone(), *b)).collect(),
        })
    }
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
    /// A payment was finished and some of its money still hangs.
    #[error("the payment {0} was finished and part of its money is still pending")]
    LeftPending(PaymentId),
    /// Debits and credits of an asset differ.
    #[error("debits and credits of {0} differ")]
    Unbalanced(AssetId),
}
