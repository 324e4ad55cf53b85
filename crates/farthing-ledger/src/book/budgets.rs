//! How much of every budget is held and spent.
//!
//! ```text
//! claimed ─► held ─┬─ posted ─► spent, from then on for as long as the window is
//!                  └─ voided ─► free
//! ```
//!
//! **Architecture invariant:** at no moment is more held and spent of a budget than the limit of the draw
//! that was taken last; whatever many claims come at once, since each is decided after the one before it.

use std::collections::{BTreeMap, BTreeSet};

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;
use crate::{BudgetKey, ClaimError, Drafted, Draw, Event, PaymentId, Window};

#[cfg(test)]
mod tests;

/// Into how many parts a rolling window is cut. What was spent within one part stops counting with the last
/// of it, so that a budget is a few numbers however many payments it has seen.
const PARTS: u64 = 1_000;

/// How many budgets that may be empty are looked at with one claim.
const FORGET_MAX: usize = 4;

/// Every budget that anything is held or spent of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Budgets {
    tallies: BTreeMap<BudgetKey, Tally>,
    held: BTreeMap<PaymentId, Held>,
    /// When budgets may be empty.
    ends: BTreeSet<(Timestamp, BudgetKey)>,
}

/// What a pending payment holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    /// The payment's amount in atoms, of which less may move.
    #[serde(with = "atoms_text")]
    atoms: u128,
    draws: Vec<Draw>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tally {
    window: Window,
    #[serde(with = "atoms_text")]
    held: u128,
    /// What was spent, by the microsecond at which it stops counting.
    spent: Vec<Spent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spent {
    until: Timestamp,
    #[serde(with = "atoms_text")]
    amount: u128,
}

/// When what is spent `at` a moment stops counting.
fn until(window: Window, at: Timestamp) -> Timestamp {
    match window {
        Window::Ever => Timestamp::from_micros(u64::MAX),
        Window::Until(end) => end,
        Window::Rolling(seconds) => {
            let span = seconds.saturating_mul(1_000_000);
            let part = (span / PARTS).max(1);
            // The end of the part that it falls into, and the window behind that.
            let parts = at.as_micros().div_ceil(part);
            Timestamp::from_micros(parts.saturating_mul(part).saturating_add(span))
        }
    }
}

impl Tally {
    const fn new(window: Window) -> Self {
        Self { window, held: 0, spent: Vec::new() }
    }

    fn used(&self, now: Timestamp) -> u128 {
        let counts = self.spent.iter().filter(|it| it.until > now);
        counts.fold(self.held, |sum, it| sum.saturating_add(it.amount))
    }

    fn spend(&mut self, window: Window, amount: u128, at: Timestamp) {
        let until = until(window, at);
        match self.spent.iter_mut().find(|it| it.until == until) {
            Some(spent) => spent.amount = spent.amount.saturating_add(amount),
            None => self.spent.push(Spent { until, amount }),
        }
    }

    /// When it may be empty, if nothing happens.
    fn end(&self) -> Option<Timestamp> {
        self.spent.iter().map(|it| it.until).max().filter(|_| self.held == 0)
    }
}

impl Budgets {
    /// Whether the budgets hold what a claim draws; writes down how much was used of each.
    pub(super) fn within(&self, draws: &mut [Draw], now: Timestamp) -> Result<(), ClaimError> {
        for (at, draw) in draws.iter_mut().enumerate() {
            let used = self.used(draw.key.as_str(), now);
            // Of a period that is over, what was spent is forgotten: nothing more is held of it.
            let is_over = matches!(draw.window, Window::Until(end) if end <= now);
            let used = if is_over { used.max(draw.limit) } else { used };
            draw.used = used;
            if is_over || used.checked_add(draw.amount).is_none_or(|total| total > draw.limit) {
                let draw = u16::try_from(at).unwrap_or(u16::MAX);
                return Err(ClaimError::OverBudget { draw, used });
            }
        }
        Ok(())
    }

    /// Writes down how much was used of what a draft would draw. It refuses nothing.
    pub(super) fn try_out(&self, draft: &mut Drafted, now: Timestamp) {
        for draw in &mut draft.draws {
            draw.used = self.used(draw.key.as_str(), now);
        }
    }

    /// How much is held and spent of a budget.
    pub(super) fn used(&self, key: &str, now: Timestamp) -> u128 {
        self.tallies.get(key).map_or(0, |it| it.used(now))
    }

    /// Follows an event of any kind.
    pub(super) fn follow(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Claimed { payment, settlement, .. } => {
                let Some(decided) = &payment.decision else { return };
                let draws: Vec<Draw> = decided.counted().cloned().collect();
                if draws.is_empty() {
                    return;
                }
                self.forget(at);
                let held = Held { atoms: payment.amount.atoms(), draws };
                self.hold(&held, at);
                if settlement.is_some() {
                    self.finish(held, Some(u128::MAX), at);
                } else {
                    self.held.insert(payment.id, held);
                }
            }
            Event::Posted { payment, settlement } => {
                let moved =
                    settlement.moved.as_ref().map_or(u128::MAX, farthing_money::Amount::atoms);
                if let Some(held) = self.held.remove(payment) {
                    self.finish(held, Some(moved), at);
                }
            }
            Event::Voided { payment, .. } => {
                if let Some(held) = self.held.remove(payment) {
                    self.finish(held, None, at);
                }
            }
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. }
            | Event::PaidOut { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => {}
        }
    }

    fn hold(&mut self, held: &Held, at: Timestamp) {
        for draw in &held.draws {
            let tally = self.tallies.entry(draw.key.clone()).or_insert(Tally::new(draw.window));
            tally.window = draw.window;
            tally.held = tally.held.saturating_add(draw.amount);
            // What has stopped counting is not kept for ever.
            tally.spent.retain(|it| it.until > at);
        }
    }

    /// A payment's end is known: what of it moved is spent, and the rest is free.
    fn finish(&mut self, held: Held, moved: Option<u128>, at: Timestamp) {
        for draw in held.draws {
            let Some(tally) = self.tallies.get_mut(&draw.key) else { continue };
            tally.held = tally.held.saturating_sub(draw.amount);
            let amount = moved.map_or(0, |moved| share(draw.amount, moved, held.atoms));
            if amount > 0 {
                tally.spend(draw.window, amount, at);
            }
            match tally.end() {
                Some(end) => {
                    self.ends.insert((end, draw.key));
                }
                None if tally.held == 0 => {
                    self.tallies.remove(&draw.key);
                }
                None => {}
            }
        }
    }

    /// Lets go of some budgets of which nothing is held and nothing counts any more.
    fn forget(&mut self, now: Timestamp) {
        for _ in 0..FORGET_MAX {
            let Some((end, _)) = self.ends.first() else { return };
            if *end > now {
                return;
            }
            let Some((_, key)) = self.ends.pop_first() else { return };
            let is_over =
                |tally: &Tally| tally.held == 0 && tally.end().is_none_or(|end| end <= now);
            if self.tallies.get(&key).is_some_and(is_over) {
                self.tallies.remove(&key);
            }
        }
    }
}

/// As much of a draw as moved of its payment, rounded up. A payment is one, however little of it moved.
fn share(draw: u128, moved: u128, of: u128) -> u128 {
    if moved >= of {
        return draw;
    }
    let exact = draw.checked_mul(moved).map(|it| it.div_ceil(of));
    exact.unwrap_or(draw).min(draw)
}
