//! Reads the journal as it becomes durable, keeps a model of its own, and holds it against what is true.

use std::collections::{BTreeMap, BTreeSet};

use farthing_core::{RefundRefusal, explain};
use farthing_ledger::{
    AccountKind, Book, Capture, Channel, Event, Finding, Fingerprint, Payment, PaymentId, Phase,
    Record, Refund, RefundId, Remedy, Subscription, TraceId, Transfer, TransferId, Work, audit,
};
use farthing_money::{Assets, Timestamp};

use crate::Invariant;
use crate::channels::{Channels, ToldChannel};
use crate::disk::Image;
use crate::process::limits;
use crate::sim::State;
use crate::subscriptions::{Subscriptions, ToldSubscription};
use crate::truth::Truth;

/// What somebody was told is done.
#[derive(Clone, Debug)]
pub(crate) enum Ack {
    /// The payment stands in the journal.
    Claimed(PaymentId),
    /// It was paid.
    Posted(PaymentId),
    /// It is not pending any more.
    Finished(PaymentId),
    /// Its answer may be given.
    Delivered(PaymentId),
    /// The refund stands in the journal.
    Refunded(PaymentId, RefundId),
    /// It is not pending any more.
    RefundFinished(PaymentId, RefundId),
    /// A session stands like this.
    Channel(ToldChannel),
    /// A subscription stands like this.
    Subscription(ToldSubscription),
}

impl Ack {
    pub(crate) fn channel(channel: &Channel) -> Self {
        Self::Channel(ToldChannel::of(channel))
    }

    pub(crate) fn subscription(it: &Subscription) -> Self {
        Self::Subscription(ToldSubscription::of(it))
    }
}

/// The model.
#[derive(Default)]
pub(crate) struct Auditor {
    seen: usize,
    /// The latest moment that any record was decided at.
    latest: Timestamp,
    payments: BTreeMap<PaymentId, Entry>,
    proofs: BTreeMap<Fingerprint, Option<Timestamp>>,
    accounts: BTreeMap<String, Sums>,
    pending: BTreeMap<TransferId, Transfer>,
    /// What was ordered back in a day, by asset.
    days: BTreeMap<(String, u64), u128>,
    /// Why money that is owed could not be given back, the last time it was tried.
    refusals: BTreeMap<PaymentId, RefundRefusal>,
    /// Whose clients were given what they bought.
    told: BTreeSet<PaymentId>,
    channels: Channels,
    subscriptions: Subscriptions,
}

/// A payment, as its records tell it.
struct Entry {
    facts: Payment,
    came: Came,
    was_matched: bool,
    is_missing: bool,
    refunds: BTreeMap<RefundId, Back>,
    paid_out: Option<u128>,
}

/// How far a payment came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Claimed,
    Voided,
    Paid,
    Delivered,
}

/// A refund, as its records tell it.
struct Back {
    atoms: u128,
    order: Option<Box<str>>,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Pending,
    Posted,
    Voided,
}

/// What went through an account: counting now, and perhaps later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sums {
    debits: u128,
    credits: u128,
    debits_pending: u128,
    credits_pending: u128,
}

pub(crate) type Check = Result<(), (Invariant, String)>;

pub(crate) fn expect(holds: bool, invariant: Invariant, what: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err((invariant, what())) }
}

impl Entry {
    fn is_paid(&self) -> bool {
        matches!(self.came, Came::Paid | Came::Delivered)
    }

    /// What was ordered back and not given up.
    fn ordered(&self) -> u128 {
        let counts = |it: &&Back| it.standing != Standing::Voided;
        self.refunds.values().filter(counts).map(|it| it.atoms).fold(0, u128::saturating_add)
    }

    fn is_given_back(&self) -> bool {
        !self.refunds.is_empty() && self.ordered() >= self.facts.amount.atoms()
    }

    fn has_pending_refund(&self) -> bool {
        self.refunds.values().any(|it| it.standing == Standing::Pending)
    }

    fn is_open(&self) -> bool {
        let is_back = self.is_given_back() && !self.has_pending_refund();
        match self.came {
            Came::Claimed => true,
            Came::Paid => !is_back,
            Came::Voided | Came::Delivered => false,
        }
    }
}

impl State {
    /// Somebody is told that something is done: it must be on the disk.
    pub(crate) fn acknowledged(&mut self, ack: &Ack) {
        self.audit();
        if let Err(what) = self.auditor.holds(ack) {
            self.breaks(Invariant::Durable, what);
        }
    }

    /// Loses power.
    pub(crate) fn lose_power(&mut self) {
        self.disk.crash(&mut self.random);
        self.disk.open();
        if let Err((invariant, what)) = self.auditor.begins_as_before(&self.disk.image) {
            self.breaks(invariant, what);
        }
    }
}

impl Auditor {
    fn entry(&self, payment: PaymentId) -> Option<&Entry> {
        self.payments.get(&payment)
    }

    pub(crate) fn is_voided(&self, payment: PaymentId) -> bool {
        self.entry(payment).is_some_and(|it| it.came == Came::Voided)
    }

    pub(crate) fn is_paid(&self, payment: PaymentId) -> bool {
        self.entry(payment).is_some_and(Entry::is_paid)
    }

    pub(crate) fn is_repeatable(&self, payment: PaymentId) -> bool {
        self.entry(payment).is_some_and(|it| it.facts.terms.repeatable)
    }

    /// Whether the journal says that a refund is carried out by this order.
    pub(crate) fn is_ordered(&self, refund: RefundId, order: &str) -> bool {
        let mut refunds = self.payments.values().filter_map(|it| it.refunds.get(&refund));
        refunds.any(|it| it.order.as_deref() == Some(order))
    }

    /// Whether the journal says that a charge is carried out by this order.
    pub(crate) fn is_charge_ordered(&self, payment: PaymentId, order: &str) -> bool {
        self.entry(payment).is_some_and(|it| it.facts.inquiry.as_deref() == Some(order))
    }

    /// The stories of payments of which something can be given back, or paid out: of all, or of those that were
    /// made `singly`.
    pub(crate) fn traces(&self, singly: bool) -> Vec<TraceId> {
        let is_paid = |it: &&Entry| {
            let fits = !singly || it.facts.voucher.is_none();
            fits && matches!(it.came, Came::Paid | Came::Delivered) && !it.facts.amount.is_zero()
        };
        self.payments.values().filter(is_paid).map(|it| it.facts.trace).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.payments.len()
    }

    pub(crate) fn could_not_give_back(&mut self, payment: PaymentId, refusal: RefundRefusal) {
        self.refusals.insert(payment, refusal);
    }

    /// Whether what somebody was told is done stands in the journal.
    fn holds(&self, ack: &Ack) -> Result<(), String> {
        let (payment, holds) = match *ack {
            Ack::Channel(ref told) => {
                let holds = self.channels.is_as_told(told);
                let missing = || format!("{told:?} is not in the journal");
                return if holds { Ok(()) } else { Err(missing()) };
            }
            Ack::Subscription(ref told) => {
                let holds = self.subscriptions.is_as_told(told);
                let missing = || format!("{told:?} is not in the journal");
                return if holds { Ok(()) } else { Err(missing()) };
            }
            Ack::Claimed(payment) => (payment, self.entry(payment).is_some()),
            Ack::Posted(payment) => (payment, self.is_paid(payment)),
            Ack::Finished(payment) => {
                (payment, self.entry(payment).is_some_and(|it| it.came != Came::Claimed))
            }
            Ack::Delivered(payment) => {
                (payment, self.entry(payment).is_some_and(|it| it.came == Came::Delivered))
            }
            Ack::Refunded(payment, refund) => {
                (payment, self.entry(payment).is_some_and(|it| it.refunds.contains_key(&refund)))
            }
            Ack::RefundFinished(payment, refund) => {
                let back = self.entry(payment).and_then(|it| it.refunds.get(&refund));
                (payment, back.is_some_and(|it| it.standing != Standing::Pending))
            }
        };
        if holds { Ok(()) } else { Err(format!("{payment}: {ack:?} is not in the journal")) }
    }

    /// What was read before a crash must be there after it.
    fn begins_as_before(&self, image: &Image) -> Check {
        let kept = image.records.len() >= self.seen;
        expect(kept, Invariant::Durable, || {
            format!("{} records were durable, and {} are left", self.seen, image.records.len())
        })
    }

    /// Reads what has become durable since.
    pub(crate) fn read(&mut self, records: &[Record], truth: &Truth) -> Check {
        for record in records.get(self.seen..).unwrap_or_default() {
            self.seen = self.seen.saturating_add(1);
            let place = u64::try_from(self.seen).unwrap_or(u64::MAX);
            expect(record.seq == place, Invariant::Gapless, || {
                format!("record {} stands at place {place}", record.seq)
            })?;
            self.move_money(&record.transfers)?;
            self.follow(record, truth)?;
            self.channels.read(record, truth)?;
            self.subscriptions.read(record)?;
            self.latest = self.latest.max(record.at);
        }
        Ok(())
    }

    fn move_money(&mut self, transfers: &[Transfer]) -> Check {
        for it in transfers {
            let finished = match it.phase {
                Phase::Posted => None,
                Phase::Pending => {
                    self.pending.insert(it.id, it.clone());
                    None
                }
                Phase::Post(id) | Phase::Void(id) => {
                    let pending = self.pending.remove(&id);
                    Some(pending.ok_or((Invariant::Balanced, format!("{id} is not pending")))?)
                }
            };
            let counts = matches!(it.phase, Phase::Posted | Phase::Post(_));
            let waits = it.phase == Phase::Pending;
            for (account, is_debit) in [(&it.debit, true), (&it.credit, false)] {
                let sums = self.accounts.entry(account.to_string()).or_default();
                let (posted, pending) = if is_debit {
                    (&mut sums.debits, &mut sums.debits_pending)
                } else {
                    (&mut sums.credits, &mut sums.credits_pending)
                };
                *posted = posted.saturating_add(if counts { it.atoms } else { 0 });
                *pending = pending.saturating_add(if waits { it.atoms } else { 0 });
                let less = finished.as_ref().map_or(0, |it| it.atoms);
                *pending = pending.saturating_sub(less);
                let owes = matches!(
                    account.kind,
                    AccountKind::Prepaid | AccountKind::Payable | AccountKind::Channel
                );
                let within = sums.debits.saturating_add(sums.debits_pending) <= sums.credits;
                expect(!owes || within, Invariant::Balanced, || format!("{account} is overdrawn"))?;
            }
        }
        let sum = |side: fn(&Sums) -> u128| {
            self.accounts.values().map(side).fold(0, u128::saturating_add)
        };
        let debits = sum(|it| it.debits.saturating_add(it.debits_pending));
        let credits = sum(|it| it.credits.saturating_add(it.credits_pending));
        expect(debits == credits, Invariant::Balanced, || format!("{debits} and {credits}"))
    }

    fn follow(&mut self, record: &Record, truth: &Truth) -> Check {
        match &record.event {
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::Erased { .. }
            | Event::Owner { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. } => Ok(()),
            Event::Claimed { payment, proofs, settlement } => {
                for proof in proofs {
                    let before = self.proofs.insert(proof.fingerprint, proof.keep_until);
                    let over = |until: Option<Timestamp>| until.is_some_and(|it| it < self.latest);
                    expect(before.is_none_or(over), Invariant::ConsumedOnce, || {
                        format!("{} takes {} again", payment.id, proof.fingerprint)
                    })?;
                }
                let entry = Entry {
                    facts: (**payment).clone(),
                    came: if settlement.is_some() { Came::Paid } else { Came::Claimed },
                    was_matched: false,
                    is_missing: false,
                    refunds: BTreeMap::new(),
                    paid_out: None,
                };
                let first = self.payments.insert(payment.id, entry).is_none();
                expect(first, Invariant::ConsumedOnce, || format!("{} twice", payment.id))
            }
            Event::Posted { payment, .. } => {
                let it = self.known(*payment)?;
                expect(it.came == Came::Claimed, Invariant::ConsumedOnce, || {
                    format!("{payment} is posted a second time, or after it was given up")
                })?;
                it.came = Came::Paid;
                let held = it.facts.terms.capture == Capture::After;
                let token = truth.token_of.get(payment).and_then(|it| truth.tokens.get(it));
                let moved = token.is_some_and(|it| it.moved > 0 || it.is_disowned);
                expect(held || moved, Invariant::Agreed, || {
                    format!("{payment} is posted, and its money has not moved")
                })
            }
            Event::Voided { payment, .. } => {
                let it = self.known(*payment)?;
                expect(!it.is_paid(), Invariant::Agreed, || format!("{payment} was paid"))?;
                it.came = Came::Voided;
                let token = truth.token_of.get(payment).and_then(|it| truth.tokens.get(it));
                expect(token.is_none_or(|it| it.moved == 0), Invariant::Agreed, || {
                    format!("{payment} is given up, and its money has moved")
                })
            }
            Event::Failed { payment, .. } | Event::Resumed { payment } => {
                self.known(*payment).map(drop)
            }
            Event::Delivered { payment, .. } => {
                let it = self.known(*payment)?;
                let is_owed = it.came == Came::Paid;
                it.came = Came::Delivered;
                // What pays for a period is answered by that.
                let is_charge = it.facts.subscription.is_some_and(|part| part.is_charge());
                let succeeded = is_charge || truth.has_succeeded(*payment);
                expect(is_owed && succeeded, Invariant::PaidFirst, || {
                    format!("{payment} is delivered without an answer that was owed")
                })
            }
            Event::Refunded { refund, settlement } => {
                self.limit(record.at, refund)?;
                self.give_back(refund, settlement.is_some())
            }
            Event::RefundPosted { payment, refund, .. } => {
                self.finish(*payment, *refund, Standing::Posted)?;
                let moved = truth.orders.values().any(|it| it.refund == *refund && it.moved > 0);
                expect(moved, Invariant::Agreed, || format!("{refund} has not moved"))
            }
            Event::RefundVoided { payment, refund } => {
                self.finish(*payment, *refund, Standing::Voided)?;
                let moved = truth.orders.values().any(|it| it.refund == *refund && it.moved > 0);
                expect(!moved, Invariant::Agreed, || format!("{refund} has moved"))
            }
            Event::Reconciled { payment, finding } => {
                let it = self.known(*payment)?;
                match finding {
                    Finding::Matched => it.was_matched = true,
                    Finding::Missing | Finding::OtherReference { .. } => it.is_missing = true,
                    Finding::Resolved { .. } => {}
                }
                Ok(())
            }
            Event::PaidOut { payment, .. } => {
                let atoms = record.transfers.iter().map(|it| it.atoms).sum::<u128>();
                let it = self.known(*payment)?;
                let first = it.paid_out.replace(atoms).is_none();
                let whole = it.ordered().saturating_add(atoms) <= it.facts.amount.atoms();
                expect(first && whole && it.came == Came::Delivered, Invariant::EarnedOnly, || {
                    format!("{payment} is paid out: {atoms}, with {} given back", it.ordered())
                })
            }
        }
    }

    /// The client has what it bought.
    pub(crate) fn told(&mut self, payment: PaymentId) {
        self.told.insert(payment);
    }

    fn give_back(&mut self, refund: &Refund, has_moved: bool) -> Check {
        let is_told = self.told.contains(&refund.payment);
        let it = self.known(refund.payment)?;
        let by_itself = refund.reference.starts_with("remedy ");
        expect(!(by_itself && it.came == Came::Delivered), Invariant::OwedOnly, || {
            format!("{} was delivered, and is given back by itself", refund.payment)
        })?;
        let told = is_told && !it.facts.terms.repeatable;
        expect(!(by_itself && told), Invariant::OwedOnly, || {
            format!("{} was answered, and is given back by itself", refund.payment)
        })?;
        let standing = if has_moved { Standing::Posted } else { Standing::Pending };
        let atoms = refund.amount.atoms();
        let back = Back { atoms, order: refund.order.clone(), standing };
        let first = it.refunds.insert(refund.id, back).is_none();
        let fits = it.ordered() <= it.facts.amount.atoms();
        expect(first && fits && it.is_paid(), Invariant::RefundedOnce, || {
            format!("{} gives back too much of {}", refund.id, refund.payment)
        })
    }

    fn known(&mut self, payment: PaymentId) -> Result<&mut Entry, (Invariant, String)> {
        let unknown = || (Invariant::Gapless, format!("{payment} was never claimed"));
        self.payments.get_mut(&payment).ok_or_else(unknown)
    }

    fn finish(&mut self, payment: PaymentId, refund: RefundId, standing: Standing) -> Check {
        let back = self.known(payment)?.refunds.get_mut(&refund);
        let back = back.filter(|it| it.standing == Standing::Pending);
        let twice = || (Invariant::RefundedOnce, format!("{refund} is finished twice"));
        back.ok_or_else(twice)?.standing = standing;
        Ok(())
    }

    /// Holds a refund against the limits.
    fn limit(&mut self, at: Timestamp, refund: &Refund) -> Check {
        const DAY_SECS: u64 = 24 * 60 * 60;
        let asset = refund.amount.asset();
        let day = at.as_secs().checked_div(DAY_SECS).unwrap_or_default();
        let today = self.days.entry((asset.to_string(), day)).or_default();
        *today = today.saturating_add(refund.amount.atoms());
        let today = *today;
        let limits = limits();
        let mut limits = limits.0.iter().filter(|it| it.each_max.asset() == asset);
        let within = limits.all(|it| {
            refund.amount.atoms() <= it.each_max.atoms() && today <= it.per_day_max.atoms()
        });
        expect(within, Invariant::Limits, || {
            format!("{} of {}: {today} today", refund.amount.atoms(), refund.payment)
        })
    }

    /// Holds a book that was read from the disk against the one that the whole journal makes, and both
    /// against the model.
    pub(crate) fn compare(&self, image: &Image, book: &Book) -> Result<(), String> {
        let whole = image.whole().map_err(|seq| format!("record {seq} does not follow"))?;
        let unfinished = |book: &Book| {
            let facts =
                |it: farthing_ledger::Unfinished| (it.payment, it.from, it.left, it.refunds_voided);
            book.all_unfinished().map(facts).collect::<Vec<_>>()
        };
        let same = whole.balances() == book.balances()
            && whole.keys() == book.keys()
            && whole.channels().eq(book.channels())
            && whole.subscriptions().eq(book.subscriptions())
            && unfinished(&whole) == unfinished(book)
            && whole.work().refunds == book.work().refunds
            && whole.work().expected == book.work().expected;
        if !same {
            return Err("the snapshot and the journal make different books".to_owned());
        }
        if image.records.len() != self.seen {
            // The end of the journal has not been read yet.
            return Ok(());
        }
        for (account, balance) in book.balances().iter() {
            let sums = self.accounts.get(&account.to_string()).copied().unwrap_or_default();
            let known = Sums {
                debits: balance.debits_posted,
                credits: balance.credits_posted,
                debits_pending: balance.debits_pending,
                credits_pending: balance.credits_pending,
            };
            if sums != known {
                return Err(format!("{account}: {sums:?} and {known:?}"));
            }
        }
        self.channels.compare(book.channels())?;
        self.subscriptions.compare(book.subscriptions())?;
        let open: BTreeSet<_> = book.all_unfinished().map(|it| it.payment.id).collect();
        let known: BTreeSet<_> =
            self.payments.iter().filter(|(_, it)| it.is_open()).map(|(id, _)| *id).collect();
        if open == known { Ok(()) } else { Err(format!("open are {open:?}, or {known:?}")) }
    }

    /// What must be true when everything has come to rest.
    pub(crate) fn finish_up(
        &self,
        image: &Image,
        truth: &Truth,
        (work, now): &(Work, Timestamp),
    ) -> Check {
        let sound = audit(&image.records);
        expect(sound.is_ok(), Invariant::Audited, || format!("{sound:?}"))?;
        for (id, it) in self.payments.iter().filter(|(_, it)| it.is_open()) {
            let listed = work.payments.iter().find(|listed| listed.payment.id == *id);
            let Some(listed) = listed else {
                return Err((Invariant::NotStuck, format!("{id} is open and nobody lists it")));
            };
            let reason = it.is_paid() && it.facts.terms.remedy == Remedy::Review;
            let reason = reason || self.refusals.contains_key(id);
            let explained = !explain(listed, &Assets::default(), *now).is_empty();
            expect(reason && explained, Invariant::NotStuck, || {
                format!("{id} is open without a reason: {:?}", listed.open)
            })?;
        }
        for (id, it) in &self.payments {
            expect(!it.has_pending_refund(), Invariant::NotStuck, || {
                format!("a refund of {id} is still on its way")
            })?;
            let token = truth.token_of.get(id).and_then(|it| truth.tokens.get(it));
            let moved = token.is_some_and(|it| it.moved > 0);
            expect(!moved || it.is_paid(), Invariant::Agreed, || {
                format!("{id} has moved and is not posted")
            })?;
            let disowned = token.is_some_and(|it| it.is_disowned) && it.is_paid();
            let asked = it.facts.inquiry.is_some() && !it.was_matched;
            expect(!(disowned && asked) || it.is_missing, Invariant::Agreed, || {
                format!("{id} was disowned, and nobody has noticed")
            })?;
        }
        self.channels.finish_up(truth)?;
        self.subscriptions.finish_up(truth)?;
        self.charged_once(truth)
    }

    /// No client pays twice for one intent, unless it meant to.
    fn charged_once(&self, truth: &Truth) -> Check {
        let mut charged: BTreeMap<u64, Vec<PaymentId>> = BTreeMap::new();
        for (id, it) in &self.payments {
            let intent = truth.challenges.get(&it.facts.challenge);
            // A subscription is charged again and again by what was agreed on once.
            let kept = it.facts.subscription.is_none()
                && it.is_paid()
                && !it.is_given_back()
                && !it.is_open();
            if let Some(intent) = intent.filter(|_| kept && it.facts.amount.atoms() > 0) {
                charged.entry(*intent).or_default().push(*id);
            }
        }
        let twice = charged.iter().find(|(_, payments)| payments.len() > 1);
        let twice =
            twice.filter(|(intent, _)| truth.intents.get(*intent).is_some_and(|it| !it.pays_twice));
        expect(twice.is_none(), Invariant::ChargedOnce, || format!("{twice:?}"))
    }
}
