//! Where to find subscriptions without looking at all of them: by when something is due, and by who pays.
//!
//! It follows from the subscriptions themselves, so that it is not kept and cannot disagree with them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_money::Timestamp;

use crate::{Subscription, SubscriptionId, SubscriptionState};

#[cfg(test)]
mod tests;

/// The subscriptions that are not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Register {
    /// When something is next to be done about each.
    due: BTreeSet<(Timestamp, SubscriptionId)>,
    /// Since when each is past due that is.
    past_due: BTreeSet<(Timestamp, SubscriptionId)>,
    by_payer: BTreeMap<String, BTreeSet<SubscriptionId>>,
    census: BTreeMap<(String, SubscriptionState), u64>,
}

impl Register {
    pub(super) fn of<'a>(all: impl Iterator<Item = &'a Subscription>) -> Self {
        let mut register = Self::default();
        all.for_each(|it| register.list(it));
        register
    }

    /// Enters a subscription as it stands. What is over is not entered.
    pub(super) fn list(&mut self, it: &Subscription) {
        if it.state.is_over() {
            return;
        }
        let id = it.facts.id;
        self.due.extend(it.due_at().map(|at| (at, id)));
        self.past_due.extend(past_due(it).map(|since| (since, id)));
        self.by_payer.entry(it.facts.payer.clone()).or_default().insert(id);
        let count = self.census.entry((it.facts.method.clone(), it.state)).or_default();
        *count = count.saturating_add(1);
    }

    /// Takes out a subscription that was entered as it stands.
    pub(super) fn strike(&mut self, it: &Subscription) {
        if it.state.is_over() {
            return;
        }
        let id = it.facts.id;
        if let Some(at) = it.due_at() {
            self.due.remove(&(at, id));
        }
        if let Some(since) = past_due(it) {
            self.past_due.remove(&(since, id));
        }
        if let Some(theirs) = self.by_payer.get_mut(&it.facts.payer) {
            theirs.remove(&id);
            if theirs.is_empty() {
                self.by_payer.remove(&it.facts.payer);
            }
        }
        let place = (it.facts.method.clone(), it.state);
        if let Some(count) = self.census.get_mut(&place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.census.remove(&place);
            }
        }
    }

    /// Those that something is to be done about, the longest due first; each once.
    pub(super) fn due(&self, now: Timestamp, grace: Duration) -> Vec<SubscriptionId> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        let given_up = self.past_due.iter().take_while(|(since, _)| since.after(grace) <= now);
        let mut seen = BTreeSet::new();
        due.chain(given_up).map(|(_, id)| *id).filter(|id| seen.insert(*id)).collect()
    }

    /// Those that somebody pays for.
    pub(super) fn of_payer(&self, payer: &str) -> impl Iterator<Item = SubscriptionId> {
        self.by_payer.get(payer).into_iter().flatten().copied()
    }

    /// How many there are.
    pub(super) fn census(&self) -> Vec<(String, SubscriptionState, u64)> {
        let line = |((method, state), count): (&(String, SubscriptionState), &u64)| {
            (method.clone(), *state, *count)
        };
        self.census.iter().map(line).collect()
    }
}

/// Since when a subscription is past due, if it is and can be given up.
fn past_due(it: &Subscription) -> Option<Timestamp> {
    let is = it.state == SubscriptionState::PastDue && it.in_flight.is_none();
    is.then(|| it.past_due_since.unwrap_or(it.opened_at))
}
