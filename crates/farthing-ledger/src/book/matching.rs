//! Holding the book against what the rails say once some time has passed.

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use super::Book;
use crate::{Event, Finding, Payment, PaymentId, Record, Settlement};

#[cfg(test)]
mod tests;

/// A payment that the rail is to be asked about once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The facts.
    pub payment: Payment,
    /// What the rail called it.
    pub reference: String,
    /// When the rail said that its money moved.
    pub settled_at: Timestamp,
    /// Whether the rail has disowned it, so that a person is to look into it.
    pub is_missing: bool,
}

/// What the book remembers of a payment until the rail has confirmed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unmatched {
    payment: Box<Payment>,
    reference: String,
    settled_at: Timestamp,
    #[serde(default)]
    is_missing: bool,
}

impl Unmatched {
    pub(super) const fn is_missing(&self) -> bool {
        self.is_missing
    }
}

impl Book {
    /// The payments that the rail is to be asked about once more, or has disowned.
    pub fn expected(&self) -> impl Iterator<Item = Expected> {
        self.unmatched.values().map(|it| Expected {
            payment: (*it.payment).clone(),
            reference: it.reference.clone(),
            settled_at: it.settled_at,
            is_missing: it.is_missing,
        })
    }

    /// Notes what holding a payment against the rail came to. Nothing to write means that nothing was
    /// expected, or that it is known already.
    pub fn reconcile(
        &mut self,
        payment: PaymentId,
        finding: Finding,
        now: Timestamp,
    ) -> Option<Record> {
        let unmatched = self.unmatched.get(&payment)?;
        let follows = match (&finding, unmatched.is_missing) {
            (Finding::Matched, _) | (Finding::Resolved { .. }, true) => true,
            (Finding::Missing | Finding::OtherReference { .. }, is_missing) => !is_missing,
            (Finding::Resolved { .. }, false) => false,
        };
        let trace = unmatched.payment.trace;
        follows.then(|| {
            let event = Event::Reconciled { payment, finding };
            self.commit(now, trace, event, Vec::new())
        })
    }

    /// Remembers to ask the rail about a payment once more, if the rail can be asked.
    pub(super) fn expect(&mut self, payment: PaymentId, settlement: &Settlement) {
        let facts = self.live.get(&payment).and_then(|live| live.payment.clone());
        if let Some(facts) = facts.filter(|facts| facts.inquiry.is_some()) {
            let unmatched = Unmatched {
                payment: facts,
                reference: settlement.reference.clone(),
                settled_at: settlement.settled_at,
                is_missing: false,
            };
            self.unmatched.insert(payment, unmatched);
        }
    }

    pub(super) fn note_finding(&mut self, payment: PaymentId, finding: &Finding) {
        match finding {
            Finding::Matched | Finding::Resolved { .. } => {
                self.unmatched.remove(&payment);
            }
            Finding::Missing | Finding::OtherReference { .. } => {
                if let Some(unmatched) = self.unmatched.get_mut(&payment) {
                    unmatched.is_missing = true;
                }
            }
        }
    }
}
