//! What records add up to, three ways: by receipts, by the ledger, and by settlements.

use std::collections::BTreeMap;

use farthing_ledger::{Event, Payment, PaymentId, Phase, Record, RefundId, Transfer};
use farthing_money::AssetId;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The sums of one asset, in atoms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// The prices of payments that the rails said were settled.
    #[serde(with = "atoms_text")]
    pub settlements: u128,
    /// What the transfers of these payments moved, counted from the transfers alone.
    #[serde(with = "atoms_text")]
    pub ledger: u128,
    /// The prices of payments that were answered with success: each has a receipt.
    #[serde(with = "atoms_text")]
    pub receipts: u128,
    /// The prices of payments that were settled and not, or not yet, answered with success.
    #[serde(with = "atoms_text")]
    pub without_receipt: u128,
    /// What was given back of all of them.
    #[serde(with = "atoms_text")]
    pub refunded: u128,
}

impl Sums {
    /// Whether receipts, ledger and settlements say the same.
    #[must_use]
    pub fn agree(&self) -> bool {
        let receipts = self.receipts.checked_add(self.without_receipt);
        self.settlements == self.ledger && receipts == Some(self.settlements)
    }
}

/// Adds up whole stories of payments, asset by asset. What passes 2^128 atoms stays there.
#[must_use]
pub fn sums<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<AssetId, Sums> {
    let mut adding = Adding::default();
    for record in records {
        adding.take(record);
    }
    adding.finish()
}

#[derive(Default)]
struct Adding<'a> {
    sums: BTreeMap<AssetId, Sums>,
    payments: BTreeMap<PaymentId, Seen<'a>>,
    refunds: BTreeMap<RefundId, u128>,
}

struct Seen<'a> {
    payment: &'a Payment,
    settled: bool,
    receipted: bool,
}

impl<'a> Adding<'a> {
    fn take(&mut self, record: &'a Record) {
        match &record.event {
            Event::Claimed { payment, settlement, .. } => {
                let settled = settlement.is_some();
                self.payments.insert(payment.id, Seen { payment, settled, receipted: false });
                self.moved(payment.id, record, |it| it.phase == Phase::Posted);
            }
            Event::Posted { payment, .. } => {
                if let Some(seen) = self.payments.get_mut(payment) {
                    seen.settled = true;
                }
                self.moved(*payment, record, |it| matches!(it.phase, Phase::Post(_)));
            }
            Event::Delivered { payment, outcome, .. } => {
                if let Some(seen) = self.payments.get_mut(payment) {
                    seen.receipted = (200..300).contains(&outcome.status);
                }
            }
            Event::Refunded { refund, settlement } => {
                self.refunds.insert(refund.id, refund.amount.atoms());
                if settlement.is_some() {
                    self.refunded(refund.payment, refund.id);
                }
            }
            Event::RefundPosted { payment, refund, .. } => self.refunded(*payment, *refund),
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::PaidOut { .. }
            | Event::Channel { .. }
            | Event::Owner { .. }
            | Event::Subscription { .. }
            | Event::Erased { .. } => {}
        }
    }

    /// Counts the transfers that made a payment's money count.
    fn moved(&mut self, payment: PaymentId, record: &Record, counts: fn(&Transfer) -> bool) {
        let Some(seen) = self.payments.get(&payment) else { return };
        let sums = self.sums.entry(seen.payment.amount.asset().clone()).or_default();
        for transfer in record.transfers.iter().filter(|it| counts(it)) {
            sums.ledger = sums.ledger.saturating_add(transfer.atoms);
        }
    }

    fn refunded(&mut self, payment: PaymentId, refund: RefundId) {
        let Some(seen) = self.payments.get(&payment) else { return };
        let sums = self.sums.entry(seen.payment.amount.asset().clone()).or_default();
        let atoms = self.refunds.get(&refund).copied().unwrap_or_default();
        sums.refunded = sums.refunded.saturating_add(atoms);
    }

    fn finish(mut self) -> BTreeMap<AssetId, Sums> {
        for seen in self.payments.values().filter(|seen| seen.settled) {
            let atoms = seen.payment.amount.atoms();
            let sums = self.sums.entry(seen.payment.amount.asset().clone()).or_default();
            sums.settlements = sums.settlements.saturating_add(atoms);
            let side = if seen.receipted { &mut sums.receipts } else { &mut sums.without_receipt };
            *side = side.saturating_add(atoms);
        }
        self.sums
    }
}

/// Atoms as a decimal string, since a JSON number loses digits past 2^53.
pub(crate) mod atoms_text {
    use farthing_money::parse_atoms;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(atoms: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(atoms)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<u128, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_atoms(&text).map_err(serde::de::Error::custom)
    }
}
