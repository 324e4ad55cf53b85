//! Looking through a journal for what an erasure is about.

use std::collections::{BTreeMap, BTreeSet};

use farthing_money::Timestamp;

use super::{
    ERASED_ROWS_MAX, EraseError, Erasure, Plan, StillOpen, Whose, is_customers, is_pseudonym,
    is_pseudonymous,
};
use crate::book::Sought;
use crate::merkle::Hash;
use crate::{
    Account, Book, ChannelEvent, Event, Holder, PaymentId, Record, SpendingKey, SubscriptionEvent,
    TraceId,
};

/// How many things that are open are named.
const OPEN_NAMED_MAX: usize = 20;

/// Looks through a whole journal for what an erasure is about.
#[derive(Debug)]
pub struct Survey {
    erasure: Erasure,
    /// The places of every record of a story, and when something last happened in it.
    stories: BTreeMap<TraceId, Told>,
    /// The same of everything that touches a holder's accounts.
    holders: BTreeMap<Holder, Touched>,
    keys: BTreeMap<SpendingKey, Touched>,
    /// What was sealed of rows that were erased before.
    sealed: BTreeMap<u64, Hash>,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    /// One, since a challenge is answered by one payment.
    pub(super) payments: Vec<PaymentId>,
    /// Whether anybody knows who paid.
    is_known: bool,
    at: Timestamp,
    pub(super) seqs: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Touched {
    at: Timestamp,
    pub(super) seqs: Vec<u64>,
}

impl Touched {
    fn note(&mut self, record: &Record) {
        self.at = self.at.max(record.at);
        if self.seqs.last() != Some(&record.seq) {
            self.seqs.push(record.seq);
        }
    }
}

impl Survey {
    /// Begins to look.
    #[must_use]
    pub const fn begin(erasure: Erasure) -> Self {
        Self {
            erasure,
            stories: BTreeMap::new(),
            holders: BTreeMap::new(),
            keys: BTreeMap::new(),
            sealed: BTreeMap::new(),
        }
    }

    /// Takes the next record of the journal.
    pub fn take(&mut self, record: &Record) {
        match &record.event {
            Event::Erased { rows, .. } => {
                self.sealed.extend(rows.iter().map(|row| (row.seq, row.sealed)));
            }
            Event::Claimed { payment, .. } if self.is_about(record, &payment.payer) => {
                let told = self.stories.entry(payment.trace).or_default();
                told.payments.push(payment.id);
                told.is_known |= !is_pseudonym(&payment.payer);
            }
            Event::Channel { step: ChannelEvent::Opened { facts, .. }, .. }
                if self.is_about(record, &facts.payer) =>
            {
                let told = self.stories.entry(facts.trace).or_default();
                told.is_known |= !is_pseudonym(&facts.payer);
            }
            Event::Subscription { step: SubscriptionEvent::Opened { facts }, .. }
                if self.is_about(record, &facts.payer) =>
            {
                let told = self.stories.entry(facts.trace).or_default();
                told.is_known |= !is_pseudonym(&facts.payer);
            }
            Event::KeyAttached { key, holder } => {
                if self.wants(holder) {
                    self.holders.entry(holder.clone()).or_default().note(record);
                    self.keys.entry(*key).or_default();
                }
                self.note_key(key, record);
            }
            Event::KeyDetached { key } => self.note_key(key, record),
            Event::Claimed { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. }
            | Event::Opened { .. }
            | Event::Funded { .. }
            | Event::Posted { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::Refunded { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Owner { .. }
            | Event::PaidOut { .. } => {}
        }
        for account in record.transfers.iter().flat_map(|it| [&it.debit, &it.credit]) {
            if is_customers(account.kind) && self.wants(&account.holder) {
                self.holders.entry(account.holder.clone()).or_default().note(record);
            }
        }
        if let Some(told) = record.trace.and_then(|trace| self.stories.get_mut(&trace)) {
            told.at = told.at.max(record.at);
            told.seqs.push(record.seq);
        }
    }

    fn is_about(&self, claim: &Record, payer: &str) -> bool {
        match &self.erasure.whose {
            Whose::Payer { name, .. } => {
                let spends = |account: &Account| {
                    is_customers(account.kind) && account.holder.as_str() == name
                };
                payer == name || claim.transfers.iter().any(|it| spends(&it.debit))
            }
            Whose::Before(date) => claim.at < *date,
        }
    }

    fn wants(&self, holder: &Holder) -> bool {
        match &self.erasure.whose {
            Whose::Payer { name, .. } => holder.as_str() == name,
            Whose::Before(_) => !is_pseudonym(holder.as_str()),
        }
    }

    fn note_key(&mut self, of: &SpendingKey, record: &Record) {
        let is_wanted = match &self.erasure.whose {
            Whose::Payer { key, .. } => key.as_ref() == Some(of),
            Whose::Before(_) => true,
        };
        if (is_wanted || self.keys.contains_key(of)) && !is_pseudonymous(of) {
            self.keys.entry(*of).or_default().note(record);
        }
    }

    /// Ends: what is to be erased, in a book that has come as far as what was looked through.
    ///
    /// # Errors
    ///
    /// An [`EraseError`]: nothing is to be erased.
    pub fn end(self, book: &Book) -> Result<Plan, EraseError> {
        let Self { erasure, stories, holders, keys, sealed } = self;
        let Erasure { whose, reason, key } = erasure;
        let of = |(trace, told): (&TraceId, &Told)| {
            told.payments.iter().map(|payment| (*payment, *trace)).collect::<Vec<_>>()
        };
        let payments = stories.iter().flat_map(of).collect();
        let open = book.open_with(&Sought {
            payments: &payments,
            stories: &|trace| stories.contains_key(trace),
            holder: &|holder| holders.contains_key(holder),
            key: &|spending, holder| keys.contains_key(spending) && !holders.contains_key(holder),
        });
        let mut plan = Plan::new(key, reason, sealed);
        match &whose {
            Whose::Payer { name, .. } => {
                let is_known = !stories.is_empty() || !holders.is_empty() || !keys.is_empty();
                if !is_known {
                    return Err(EraseError::Unknown);
                }
                if plan.reason().to_lowercase().contains(&name.to_lowercase()) {
                    return Err(EraseError::Named);
                }
                if !open.found.is_empty() {
                    return Err(EraseError::Open(open.found));
                }
                for (trace, told) in stories {
                    plan.story(trace, told);
                }
                for (holder, touched) in holders {
                    plan.holder(holder, &touched);
                }
                for (spending, touched) in keys {
                    plan.spending(spending, &touched);
                }
            }
            Whose::Before(date) => {
                for (trace, told) in stories {
                    if told.at < *date && told.is_known && !open.stories.contains(&trace) {
                        plan.story(trace, told);
                    }
                }
                for (holder, touched) in holders {
                    if touched.at < *date && !open.holders.contains(&holder) {
                        plan.holder(holder, &touched);
                    }
                }
                for (spending, touched) in keys {
                    let attached = book.keys().get(&spending);
                    let is_used = attached.is_some_and(|holder| !plan.holders.contains(holder));
                    if touched.at < *date && !is_used {
                        plan.spending(spending, &touched);
                    }
                }
            }
        }
        let rows = plan.seqs().len();
        if rows > ERASED_ROWS_MAX {
            return Err(EraseError::TooMany(u64::try_from(rows).unwrap_or(u64::MAX)));
        }
        Ok(plan)
    }
}

/// What is open, and whose.
#[derive(Debug, Default)]
pub(crate) struct OpenWith {
    pub(crate) found: Vec<StillOpen>,
    pub(crate) stories: BTreeSet<TraceId>,
    pub(crate) holders: BTreeSet<Holder>,
}

impl OpenWith {
    pub(crate) fn story(&mut self, trace: TraceId, open: StillOpen) {
        self.stories.insert(trace);
        self.note(open);
    }

    pub(crate) fn holder(&mut self, holder: Holder, open: StillOpen) {
        self.holders.insert(holder);
        self.note(open);
    }

    pub(crate) fn note(&mut self, open: StillOpen) {
        if self.found.len() < OPEN_NAMED_MAX && !self.found.contains(&open) {
            self.found.push(open);
        }
    }
}
