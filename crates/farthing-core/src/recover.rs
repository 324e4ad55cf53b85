//! Finishing what was begun: payments whose settlement ended without an answer.
//!
//! ```text
//! unfinished ─► plan (pure) ─► take up ─► ask the rail ─► conclude (pure) ─► post │ void │ leave
//! ```
//!
//! **Architecture invariant:** recovery only ever asks. It sends nothing that could move money, so that
//! an unknown outcome is never sent a second time by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{Open, Payment, PaymentId, Unfinished, VoidReason};
use farthing_money::{Assets, Timestamp};

use crate::{SettleError, Settled, Till, books};

#[cfg(test)]
mod tests;

/// How long after a question that was not answered the next one follows; twice as long each time.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest between two questions.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// What recovery remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    asked: BTreeMap<PaymentId, Asked>,
}

/// How often a payment was asked about in vain.
#[derive(Clone, Copy, Debug)]
struct Asked {
    pause: Duration,
    next_at: Timestamp,
}

/// What a look came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Payments whose money turned out to have moved.
    pub posted: usize,
    /// Payments that were given up: their money did not move and never will.
    pub voided: usize,
    /// Payments that nobody knows about yet.
    pub open: usize,
}

/// What to do with what a rail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The money moved.
    Post(Settled),
    /// It did not, and never will.
    Void(VoidReason),
    /// Ask again later.
    Leave,
}

impl Recovery {
    /// The payments that are to be asked about now. Pure.
    #[must_use]
    pub fn plan<'a>(&self, unfinished: &'a [Unfinished], now: Timestamp) -> Vec<&'a Payment> {
        let is_due = |payment: &Payment| {
            self.asked.get(&payment.id).is_none_or(|asked| asked.next_at <= now)
        };
        let open = unfinished.iter().filter(|it| it.open == Open::Unsettled);
        open.map(|it| &it.payment).filter(|payment| is_due(payment)).collect()
    }

    /// Notes that nobody knew.
    fn asked_in_vain(&mut self, payment: PaymentId, now: Timestamp) {
        let before = self.asked.get(&payment).map(|asked| asked.pause);
        let pause = before.map_or(PAUSE, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        self.asked.insert(payment, Asked { pause, next_at: now.after(pause) });
    }
}

/// What a rail's answer means for a payment. Pure.
#[must_use]
pub fn conclude(
    answer: Result<Settled, SettleError>,
    payment: &Payment,
    now: Timestamp,
) -> Conclusion {
    match answer {
        Ok(settled) => Conclusion::Post(settled),
        Err(SettleError::Declined) => Conclusion::Void(VoidReason::Declined),
        // Nothing was sent, and nobody can present the credential any more.
        Err(SettleError::Unsent) if payment.expires_at <= now => {
            Conclusion::Void(VoidReason::Expired)
        }
        Err(SettleError::Unsent | SettleError::Unknown) => Conclusion::Leave,
    }
}

impl Till {
    /// Asks the rails about every payment whose settlement ended without an answer and that is due, and
    /// writes down what they say. One such call at a time.
    ///
    /// # Idempotency
    ///
    /// Each step can be taken any number of times, in any process: a payment is posted or voided once.
    pub async fn recover(&self, recovery: &mut Recovery, now: Timestamp) -> Recovered {
        let mut recovered = Recovered::default();
        let Ok(unfinished) = self.store.unfinished().await else { return recovered };
        let open: BTreeSet<_> = unfinished.iter().map(|it| it.payment.id).collect();
        recovery.asked.retain(|payment, _| open.contains(payment));
        for payment in recovery.plan(&unfinished, now) {
            match self.find_out(payment, now).await {
                Some(Conclusion::Post(_)) => recovered.posted = recovered.posted.saturating_add(1),
                Some(Conclusion::Void(_)) => recovered.voided = recovered.voided.saturating_add(1),
                Some(Conclusion::Leave) => {
                    recovery.asked_in_vain(payment.id, now);
                    recovered.open = recovered.open.saturating_add(1);
                }
                None => {}
            }
        }
        recovered
    }

    /// Asks the rail about one payment and writes down what it says; nothing if somebody else is at it,
    /// or the store does not answer.
    async fn find_out(&self, payment: &Payment, now: Timestamp) -> Option<Conclusion> {
        let rail = self.rails.iter().find(|rail| rail.method() == payment.method);
        // A rail that is not configured any more cannot be asked.
        let Some(rail) = rail else { return Some(Conclusion::Leave) };
        let right = books::take_up(&self.store, payment.id).await?;
        let conclusion = conclude(rail.inquire(payment).await, payment, now);
        match &conclusion {
            Conclusion::Post(settled) => {
                books::found(&self.store, right, settled.clone(), now).await.ok()?;
            }
            Conclusion::Void(reason) => {
                self.store.void(payment.id, *reason, now).await.ok()?;
            }
            Conclusion::Leave => drop(right),
        }
        Some(conclusion)
    }
}

/// A payment that is not finished, for people: where it hangs, and what happens next.
#[must_use]
pub fn explain(unfinished: &Unfinished, assets: &Assets, now: Timestamp) -> String {
    let Unfinished { payment, open } = unfinished;
    let amount = assets.print(&payment.amount);
    let of = format!("{amount} for {} from {}", payment.route, payment.payer);
    let method = &payment.method;
    let in_time = payment.expires_at > now;
    let until = payment.expires_at;
    match open {
        Open::Settling => format!("{of} is being settled on {method}."),
        Open::Unsettled => format!(
            "{of}: nobody knows whether its money moved on {method}. A running gateway asks the rail \
             again, at least once a minute, and posts or voids it by what it says."
        ),
        Open::Delivering => format!("{of} was paid and is being answered."),
        Open::Owed if in_time => format!(
            "{of} was paid and its answer is owed. The same credential is answered until {until}."
        ),
        Open::Owed => format!(
            "{of} was paid, its answer is owed, and its credential expired at {until}: nobody can ask \
             for it any more. Make it up to the payer."
        ),
        Open::Interrupted => format!(
            "{of} was paid, and a crash interrupted its delivery, so that it may have been carried out. \
             Where it may happen twice the same credential is answered until {until}; where it must not, \
             look at the upstream and make it up to the payer."
        ),
    }
}
