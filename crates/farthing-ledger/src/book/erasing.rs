//! What the book itself knows of somebody who is erased.

use std::collections::BTreeMap;

use super::Book;
use crate::erase::{OpenWith, Plan};
use crate::{
    Account, AccountKind, ChannelState, Holder, PaymentId, Proof, SpendingKey, Standing, StillOpen,
    TraceId,
};

/// Who is looked for.
pub(crate) struct Sought<'a> {
    /// Their payments, and the stories of these.
    pub(crate) payments: &'a BTreeMap<PaymentId, TraceId>,
    /// Whether a story is one of theirs.
    pub(crate) stories: &'a dyn Fn(&TraceId) -> bool,
    /// Whether an account of this holder's is theirs.
    pub(crate) holder: &'a dyn Fn(&Holder) -> bool,
    /// Whether a key that spends this holder's account is theirs, and the account is not.
    pub(crate) key: &'a dyn Fn(&SpendingKey, &Holder) -> bool,
}

impl Book {
    /// What is open with somebody, so that their data is needed.
    pub(crate) fn open_with(&self, sought: &Sought<'_>) -> OpenWith {
        let mut open = OpenWith::default();
        let story = |payment: &PaymentId| sought.payments.get(payment).copied();
        for payment in self.live.iter().filter_map(|(id, live)| live.payment.as_ref().map(|_| id)) {
            let from = self.live.get(payment).and_then(|live| live.from.as_ref());
            let holder = from.map(|account| &account.holder).filter(|it| (sought.holder)(it));
            if let Some(trace) = story(payment) {
                open.story(trace, StillOpen::Payment(*payment));
            }
            if let Some(holder) = holder {
                open.holder(holder.clone(), StillOpen::Payment(*payment));
            }
        }
        for refund in self.refunds.pending() {
            if let Some(trace) = story(&refund.payment) {
                open.story(trace, StillOpen::Refund(refund.id));
            }
        }
        for payment in self.unmatched.keys() {
            if let Some(trace) = story(payment) {
                open.story(trace, StillOpen::Unconfirmed(*payment));
            }
        }
        for payment in &self.payouts_held {
            if let Some(trace) = story(payment) {
                open.story(trace, StillOpen::PayoutHeld(*payment));
            }
        }
        for channel in self.channels() {
            let is_closed = matches!(channel.state, ChannelState::Closed);
            if (sought.stories)(&channel.facts.trace) && !is_closed {
                open.story(channel.facts.trace, StillOpen::Session(channel.facts.id.clone()));
            }
        }
        for it in self.subscriptions() {
            if (sought.stories)(&it.facts.trace) && !it.state.is_over() {
                open.story(it.facts.trace, StillOpen::Subscription(it.facts.id));
            }
        }
        for (account, balance) in self.balances.iter() {
            let is_theirs =
                account.kind == AccountKind::Prepaid && (sought.holder)(&account.holder);
            let is_settled = balance.debits_pending == 0
                && balance.credits_pending == 0
                && balance.available() == 0;
            if is_theirs && !is_settled {
                open.holder(account.holder.clone(), StillOpen::Balance(account.clone()));
            }
        }
        for (key, holder) in &self.keys {
            if (sought.key)(key, holder) {
                open.note(StillOpen::Key(*key));
            }
        }
        open
    }

    /// Puts pseudonyms where somebody stands who is erased.
    pub(crate) fn forget_names(&mut self, plan: &Plan) {
        self.balances.rename(&|account: &Account| plan.account(account));
        self.each_channel(&mut |channel| plan.channel(channel));
        self.each_subscription(&mut |subscription| plan.subscription(subscription));
        let keys = std::mem::take(&mut self.keys);
        self.keys = keys.iter().map(|(key, holder)| plan.attached(key, holder)).collect();
        for live in self.live.values_mut() {
            live.from = live.from.as_ref().map(|account| plan.account(account));
        }
    }

    /// Drops what is known of an answer that is not kept any longer: presented again, its credential is
    /// one that bought something already.
    pub(crate) fn forget_answer(&mut self, payment: PaymentId) {
        let Some(live) = self.live.get(&payment) else { return };
        if matches!(live.standing, Standing::Delivered(..)) {
            self.answered.remove(&(live.kept_until, payment));
            self.live.remove(&payment);
        }
    }

    /// Puts a proof in the place of one that says a name, where the book still has it.
    pub(crate) fn replace_proof(&mut self, before: &Proof, after: &Proof) {
        if self.proofs.remove(&before.fingerprint).is_some() {
            self.remember(*after, PaymentId::of(&after.fingerprint));
        }
    }
}
