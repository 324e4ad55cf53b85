//! What an erasure comes to, and how it writes a record anew.

use std::collections::{BTreeMap, BTreeSet};

use super::survey::{Told, Touched};
use super::{
    ERASED, EraseError, Erased, ErasedRow, ErasureKey, KEY_PSEUDONYM, Rewritten, is_customers,
    is_pseudonym, is_pseudonymous,
};
use crate::merkle::Hash;
use crate::{
    Account, Channel, ChannelEvent, ChannelFacts, Event, Finding, Holder, PaymentId, Proof, Record,
    Source, SpendingKey, Subscription, SubscriptionEvent, SubscriptionFacts, TraceId, Voucher,
    claimed_proofs,
};

/// What an erasure comes to.
#[derive(Debug)]
pub struct Plan {
    key: ErasureKey,
    reason: String,
    stories: BTreeSet<TraceId>,
    payments: Vec<PaymentId>,
    pub(super) holders: BTreeSet<Holder>,
    keys: BTreeSet<SpendingKey>,
    /// The places of the records that may have to be written anew.
    seqs: BTreeSet<u64>,
    sealed: BTreeMap<u64, Hash>,
}

impl Plan {
    pub(super) const fn new(key: ErasureKey, reason: String, sealed: BTreeMap<u64, Hash>) -> Self {
        Self {
            key,
            reason,
            stories: BTreeSet::new(),
            payments: Vec::new(),
            holders: BTreeSet::new(),
            keys: BTreeSet::new(),
            seqs: BTreeSet::new(),
            sealed,
        }
    }

    pub(super) fn story(&mut self, trace: TraceId, told: Told) {
        self.stories.insert(trace);
        self.payments.extend(told.payments);
        self.seqs.extend(told.seqs);
    }

    pub(super) fn holder(&mut self, holder: Holder, touched: &Touched) {
        if !is_pseudonym(holder.as_str()) {
            self.holders.insert(holder);
            self.seqs.extend(&touched.seqs);
        }
    }

    pub(super) fn spending(&mut self, key: SpendingKey, touched: &Touched) {
        if !is_pseudonymous(&key) {
            self.keys.insert(key);
            self.seqs.extend(&touched.seqs);
        }
    }

    /// The places of the records that have to be read to write them anew, in order.
    #[must_use]
    pub fn seqs(&self) -> Vec<u64> {
        self.seqs.iter().copied().collect()
    }

    /// The payments whose answers are not kept any longer.
    #[must_use]
    pub fn payments(&self) -> &[PaymentId] {
        &self.payments
    }

    /// Why.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// How much `rows` are.
    #[must_use]
    pub fn counts(&self, rows: &[Rewritten]) -> Erased {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Erased {
            payments: count(rows.iter().filter(|it| it.payment.is_some()).count()),
            holders: count(self.holders.len()),
            keys: count(self.keys.len()),
            rows: count(rows.len()),
            wiped: false,
        }
    }

    /// Writes the line of a record anew; nothing if nobody who is erased stands in it.
    ///
    /// # Errors
    ///
    /// [`EraseError::Damaged`]: the line is no record.
    pub fn rewrite(&self, seq: u64, line: &str) -> Result<Option<Rewritten>, EraseError> {
        let record = Record::from_json(line.as_bytes()).map_err(|_| EraseError::Damaged(seq))?;
        let mut anew = record.clone();
        self.erase(&mut anew);
        if anew == record {
            return Ok(None);
        }
        let stands = anew.to_json();
        let sealed = self.sealed.get(&seq).copied();
        let pair = |((before, _), (after, _)): ((Proof, _), (Proof, _))| {
            (before != after).then_some((before, after))
        };
        let proofs = claimed_proofs(&record).into_iter().zip(claimed_proofs(&anew));
        let claims = if let Event::Claimed { payment, .. } = &record.event {
            self.stories.contains(&payment.trace).then_some(payment.id)
        } else {
            None
        };
        Ok(Some(Rewritten {
            row: ErasedRow {
                seq,
                sealed: sealed.unwrap_or_else(|| Hash::leaf(line.as_bytes())),
                stands: Hash::leaf(stands.as_bytes()),
            },
            line: stands,
            payment: claims,
            proofs: proofs.filter_map(pair).collect(),
        }))
    }

    /// Puts pseudonyms where somebody stands who is erased.
    fn erase(&self, record: &mut Record) {
        for transfer in &mut record.transfers {
            transfer.debit = self.account(&transfer.debit);
            transfer.credit = self.account(&transfer.credit);
        }
        if let Event::KeyAttached { key, holder } = &mut record.event {
            (*key, *holder) = (self.spending_key(key), self.named(holder));
        }
        if let Event::KeyDetached { key } = &mut record.event {
            *key = self.spending_key(key);
        }
        if record.trace.is_some_and(|trace| self.stories.contains(&trace)) {
            self.erase_story(&mut record.event);
        }
    }

    fn erase_story(&self, event: &mut Event) {
        match event {
            Event::Claimed { payment, .. } => {
                // Of a credential that is not known, its digest keeps the line that was sealed from
                // being guessed. One that was erased before stays as it is.
                if !is_pseudonym(&payment.payer) {
                    payment.payer = self.key.pseudonym(&payment.payer);
                    let digest = self.key.over("erased", payment.credential.as_bytes());
                    payment.credential = digest;
                }
                ERASED.clone_into(&mut payment.scope);
                payment.request = None;
                erase_box(&mut payment.inquiry);
                payment.voucher.as_deref_mut().map(erase_voucher);
                if let Some(decided) = &mut payment.decision {
                    decided.facts = ERASED.into();
                }
            }
            Event::Channel { step, .. } => self.erase_step(step),
            Event::Subscription { step: SubscriptionEvent::Opened { facts }, .. } => {
                self.erase_subscriber(facts);
            }
            Event::Refunded { refund, .. } => {
                refund.payer = self.key.pseudonym(&refund.payer);
                ERASED.clone_into(&mut refund.reason);
                erase_box(&mut refund.order);
            }
            Event::PayoutHeld { reason, .. } | Event::PayoutReleased { reason, .. } => {
                ERASED.clone_into(reason);
            }
            Event::Reconciled { finding: Finding::Resolved { note }, .. } => {
                ERASED.clone_into(note);
            }
            Event::Reconciled { .. }
            | Event::Subscription { .. }
            | Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Posted { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::PaidOut { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => {}
        }
    }

    fn erase_step(&self, step: &mut ChannelEvent) {
        match step {
            ChannelEvent::Opened { facts, voucher, order, .. } => {
                self.erase_facts(facts);
                voucher.as_mut().map(erase_voucher);
                erase_box(order);
            }
            ChannelEvent::ToppedUp { order, .. } => erase_box(order),
            ChannelEvent::Vouched { voucher } => erase_voucher(voucher),
            ChannelEvent::Closing { voucher } | ChannelEvent::Closed { voucher, .. } => {
                voucher.as_mut().map(erase_voucher);
            }
            ChannelEvent::Confirmed { .. }
            | ChannelEvent::Abandoned
            | ChannelEvent::Took { .. }
            | ChannelEvent::Returned { .. }
            | ChannelEvent::CloseRequested { .. }
            | ChannelEvent::CloseCancelled
            | ChannelEvent::CloseOverdue
            | ChannelEvent::Settled { .. } => {}
        }
    }

    fn erase_facts(&self, facts: &mut ChannelFacts) {
        facts.payer = self.key.pseudonym(&facts.payer);
        ERASED.clone_into(&mut facts.signer);
        erase_box(&mut facts.inquiry);
    }

    fn erase_subscriber(&self, facts: &mut SubscriptionFacts) {
        facts.payer = self.key.pseudonym(&facts.payer);
        erase_box(&mut facts.grant);
        self.erase_source(&mut facts.from);
    }

    /// A key that paid is named by its digest, and an account by its holder's pseudonym.
    fn erase_source(&self, from: &mut Source) {
        *from = match from {
            Source::Account(account) => Source::Account(self.account(account)),
            Source::Key(key) => Source::Key(self.key_pseudonym(key)),
        };
    }

    /// A subscription as its records tell it from now on.
    pub(crate) fn subscription(&self, subscription: &mut Subscription) {
        if self.stories.contains(&subscription.facts.trace) {
            self.erase_subscriber(&mut subscription.facts);
        }
    }

    /// A channel as its records tell it from now on.
    pub(crate) fn channel(&self, channel: &mut Channel) {
        channel.source = self.account(&channel.source);
        if self.stories.contains(&channel.facts.trace) {
            self.erase_facts(&mut channel.facts);
            channel.voucher.as_mut().map(erase_voucher);
        }
    }

    /// A holder's name, or its pseudonym.
    fn named(&self, holder: &Holder) -> Holder {
        if !self.holders.contains(holder) {
            return holder.clone();
        }
        // A pseudonym is short and printable.
        Holder::new(&self.key.pseudonym(holder.as_str())).unwrap_or_else(|_| holder.clone())
    }

    /// An account, under its holder's pseudonym if that one is erased.
    pub(crate) fn account(&self, account: &Account) -> Account {
        if !is_customers(account.kind) {
            return account.clone();
        }
        Account { holder: self.named(&account.holder), ..account.clone() }
    }

    /// A key and its holder, or what stands in their place.
    pub(crate) fn attached(&self, key: &SpendingKey, holder: &Holder) -> (SpendingKey, Holder) {
        (self.spending_key(key), self.named(holder))
    }

    fn spending_key(&self, key: &SpendingKey) -> SpendingKey {
        if self.keys.contains(key) { self.key_pseudonym(key) } else { *key }
    }

    fn key_pseudonym(&self, key: &SpendingKey) -> SpendingKey {
        if is_pseudonymous(key) {
            return *key;
        }
        let mut pseudonym = *self.key.over("erased key", &key.0).as_bytes();
        for (byte, mark) in pseudonym.iter_mut().zip(KEY_PSEUDONYM) {
            *byte = *mark;
        }
        SpendingKey(pseudonym)
    }
}

fn erase_voucher(voucher: &mut Voucher) {
    voucher.signature = ERASED.into();
}

fn erase_box(text: &mut Option<Box<str>>) {
    if text.is_some() {
        *text = Some(ERASED.into());
    }
}
