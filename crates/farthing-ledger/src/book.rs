//! The state machine: what a request means, given everything that happened before.

use std::collections::{BTreeMap, BTreeSet};

use farthing_money::{Amount, Timestamp};
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;
use crate::{
    Account, AccountKind, Balance, Balances, BudgetKey, Capture, ChannelError, Claim, Event,
    Finding, Fingerprint, Holder, Outcome, OwnerStep, OwnerView, Payment, PaymentId, Phase, Proof,
    Record, Refund, Settlement, SnapshotPart, Source, SpendingKey, Standing, Story,
    SubscriptionError, TraceId, Transfer, TransferError, TransferId, Used, VoidReason,
    VoucherClaim,
};

mod budgets;
mod channels;
mod erasing;
mod matching;
mod payouts;
mod refunds;
mod subscriptions;

use budgets::Budgets;
use channels::{Changes, Channels, Heard};
pub(crate) use erasing::Sought;
pub use matching::Expected;
use matching::Unmatched;
use refunds::Refunds;
use subscriptions::Subscriptions;

#[cfg(test)]
pub(crate) mod tests;

/// How many outdated proofs one claim may forget, so that no claim pays for all of them.
const FORGET_MAX: usize = 4;

/// A writer that never was: whoever held a payment and stopped in the middle.
const NOBODY: u64 = 0;

/// How many delivered payments are remembered at most, so that their answers can be given again. One
/// beyond them is refused as used, as it would be once its credential has expired.
const ANSWERED_MAX: usize = 100_000;

/// Asks to take a payment's proof and to hold or move its money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// The facts.
    pub payment: Payment,
    /// What must not be used twice; never empty, and the first is what the payment's id is of.
    pub proofs: Vec<Proof>,
    /// The client's `Idempotency-Key`, scoped to payer and route: claimed along with the proofs. With
    /// one, [`Payment::request`] says for which request.
    pub idempotency: Option<Proof>,
    /// The money, leg by leg.
    pub legs: Vec<Leg>,
    /// Whether this book can move the money itself.
    pub money: Money,
    /// Limits that hold in the same moment as the claim.
    pub caps: Vec<Cap>,
    /// The voucher that it is made with, where it is made on a channel. The book completes
    /// [`Payment::payer`] and [`Payment::voucher`] then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voucher: Option<Box<VoucherClaim>>,
}

/// One part of a payment's money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// The account debited.
    pub from: Source,
    /// The account credited.
    pub to: Account,
    /// How much, in atoms of the credited account's asset.
    #[serde(with = "atoms_text")]
    pub atoms: u128,
}

/// Who moves a payment's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Money {
    /// It lies in this book: the claim moves it.
    Book,
    /// It lies elsewhere: the claim holds its place until the rail has spoken.
    Rail,
    /// There is none: the price is zero, and the proof itself is what was asked for.
    None,
}

/// A limit on an account's credits, checked in the same transaction as the claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The account.
    pub account: Account,
    /// The most that may ever be credited to it, held or posted, in atoms.
    #[serde(with = "atoms_text")]
    pub credits_max: u128,
}

/// A payment that was delivered, as far as giving its answer again needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The payment.
    pub payment: PaymentId,
    /// Names its story.
    pub trace: TraceId,
    /// Its credential.
    pub credential: Fingerprint,
    /// What was paid for, where the client named the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Fingerprint>,
    /// The rail's word.
    pub settlement: Settlement,
    /// How it went.
    pub outcome: Outcome,
    /// Until when the answer can be given again.
    pub kept_until: Timestamp,
}

/// A payment that was claimed and is neither delivered nor given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// The facts.
    pub payment: Payment,
    /// Where it hangs.
    pub open: Open,
    /// Where its money came from, which is where it goes back to.
    pub from: Option<Account>,
    /// How much of it is left that was not given back, in atoms.
    #[serde(with = "atoms_text")]
    pub left: u128,
    /// How many refunds of it were ordered and given up: the next one is another.
    pub refunds_voided: usize,
}

/// Everything that is open and that nobody is at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Payments that are neither delivered nor given up.
    pub payments: Vec<Unfinished>,
    /// Refunds that were ordered and that the rail has not confirmed.
    pub refunds: Vec<Refund>,
    /// Payments that are to be held against what the rail says by now.
    pub expected: Vec<Expected>,
}

/// Where a payment hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Open {
    /// Somebody is settling it.
    Settling,
    /// Nobody knows whether its money moved, and nobody is finding out.
    Unsettled,
    /// Its money was held for a handler, and whoever ran the handler has stopped.
    Abandoned,
    /// Somebody is delivering it.
    Delivering,
    /// It was paid, and the answer is owed.
    Owed,
    /// It was paid, the handler failed, and the answer is owed.
    Failed,
    /// It was paid, and its delivery was interrupted.
    Interrupted,
    /// It was paid, the answer will not come, and the money is on its way back.
    Refunding,
    /// It was paid for as its answer was given, and whoever gave the answer has stopped: what was paid for
    /// was given, and nothing is owed.
    Given,
}

impl Open {
    /// Whether somebody is at it.
    #[must_use]
    pub const fn is_held(self) -> bool {
        match self {
            Self::Settling | Self::Delivering => true,
            Self::Unsettled
            | Self::Abandoned
            | Self::Owed
            | Self::Failed
            | Self::Interrupted
            | Self::Refunding
            | Self::Given => false,
        }
    }
}

/// What an operator may enter into the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Puts money into a prepaid account. A reference counts once.
    Fund {
        /// Whose account.
        holder: Holder,
        /// How much.
        amount: Amount,
        /// The operator's own name for it.
        reference: String,
    },
    /// Lets a key spend a prepaid account.
    AttachKey {
        /// The key.
        key: SpendingKey,
        /// Whose account.
        holder: Holder,
    },
    /// Stops a key from spending.
    DetachKey {
        /// The key.
        key: SpendingKey,
    },
    /// Says that somebody has looked into a payment that the rail does not know any more.
    Resolve {
        /// The payment.
        payment: PaymentId,
        /// What they found.
        note: String,
    },
    /// Keeps what was earned with a payment from being paid out.
    HoldPayout {
        /// The payment.
        payment: Earned,
        /// Why.
        reason: String,
    },
    /// Lets what was earned with a payment be paid out again.
    ReleasePayout {
        /// The payment.
        payment: Earned,
        /// Why.
        reason: String,
    },
    /// Notes that what was earned with a payment was paid out. A payment is paid out once.
    PayOut {
        /// The payment.
        payment: Earned,
        /// How much of it.
        amount: Amount,
        /// The operator's own name for it.
        reference: String,
    },
    /// Writes down what a wallet's owner has decided.
    Owner(Box<OwnerStep>),
}

/// A payment that a seller has earned something with, as its story tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earned {
    /// The payment.
    pub payment: PaymentId,
    /// Names its story.
    pub trace: TraceId,
    /// Whose earnings.
    pub payee: Holder,
    /// How much of the payment was given back, or is on its way, in atoms.
    pub given_back: u128,
}

impl Earned {
    /// What a seller has earned with the payment that `story` tells of.
    #[must_use]
    pub fn of(story: &Story) -> Self {
        Self {
            payment: story.payment.id,
            trace: story.trace,
            payee: story.payment.payee.clone(),
            given_back: story.lifecycle.given_back(),
        }
    }
}

/// Proofs the book no longer has in memory, wherever the store keeps them.
pub trait Cold {
    /// Whether `proof` was ever claimed.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Unavailable`] when it cannot be known.
    fn is_claimed(&self, proof: &Proof) -> Result<bool, ClaimError>;
}

/// Everything the book knows, as projections of the journal.
///
/// Each method decides one request. It answers with the record to write, if there is anything to
/// write; its own state has then changed already, so a store that cannot write must stop.
#[derive(Debug, Default)]
pub struct Book {
    seq: u64,
    epoch: u64,
    balances: Balances,
    keys: BTreeMap<SpendingKey, Holder>,
    live: BTreeMap<PaymentId, Live>,
    proofs: BTreeMap<Fingerprint, PaymentId>,
    outdated: BTreeSet<(Timestamp, Fingerprint)>,
    /// Proofs that were claimed anew after they were over, and until when they are kept now.
    renewed: BTreeMap<Fingerprint, Timestamp>,
    /// Proofs kept no longer than this may have been forgotten: ask the cold index.
    forgotten_until: Timestamp,
    /// Payments that were delivered, and until when their answers can be given again.
    answered: BTreeSet<(Timestamp, PaymentId)>,
    refunds: Refunds,
    /// Payments that the rail is to be asked about once more, or has disowned.
    unmatched: BTreeMap<PaymentId, Unmatched>,
    /// Payments whose earnings are not to be paid out for now.
    payouts_held: BTreeSet<PaymentId>,
    channels: Channels,
    budgets: Budgets,
    /// The agents that nothing is paid for; nobody named means everybody.
    frozen: BTreeSet<Option<String>>,
    heard: Heard,
    changes: Changes,
    subscriptions: Subscriptions,
}

/// A payment that is not finished, or was delivered not long ago.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Live {
    trace: TraceId,
    credential: Fingerprint,
    standing: Standing,
    /// When the last proof that names it stops being good.
    kept_until: Timestamp,
    /// What was paid for, where the client named the purchase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<Fingerprint>,
    /// The facts, for as long as it is not finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payment: Option<Box<Payment>>,
    /// The pending transfers, in order.
    held: Vec<TransferId>,
    /// The writer in whose time somebody holds the payment: settles it, or delivers it.
    holder: Option<u64>,
    /// Where the money came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Account>,
    /// Whether a handler has failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
    /// How much was taken beyond the price while the answer was given, in atoms; nothing where the answer is
    /// not one that is paid for as it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<u128>,
}

impl Live {
    /// Whether the money is held until a handler has succeeded.
    fn is_reserved(&self) -> bool {
        self.payment.as_ref().is_some_and(|it| it.terms.capture == Capture::After)
            && self.standing == Standing::Pending
    }
}

/// A book at one point of its journal, without the proofs, which the store indexes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The last record contained.
    pub seq: u64,
    epoch: u64,
    accounts: Vec<(Account, Balance)>,
    pending: Vec<Transfer>,
    keys: Vec<(SpendingKey, Holder)>,
    live: Vec<(PaymentId, Live)>,
    #[serde(default)]
    refunds: Refunds,
    #[serde(default)]
    unmatched: Vec<(PaymentId, Unmatched)>,
    #[serde(default)]
    payouts_held: BTreeSet<PaymentId>,
    #[serde(default)]
    channels: Channels,
    #[serde(default)]
    budgets: Budgets,
    #[serde(default)]
    frozen: BTreeSet<Option<String>>,
    #[serde(default)]
    subscriptions: Subscriptions,
}

impl Snapshot {
    /// What of this snapshot is not as in a `sound` one of the same place, the first thing that differs.
    ///
    /// Who is at a payment is not compared: it is nobody's any more once the book is opened again.
    #[must_use]
    pub fn difference(&self, sound: &Self) -> Option<SnapshotPart> {
        let anybodys = |live: &Live| Live { holder: None, ..live.clone() };
        let lives = |live: &Vec<(PaymentId, Live)>| -> Vec<(PaymentId, Live)> {
            live.iter().map(|(id, live)| (*id, anybodys(live))).collect()
        };
        let pending = |pending: &Vec<Transfer>| -> Vec<(TransferId, Transfer)> {
            pending.iter().map(|transfer| (transfer.id, transfer.clone())).collect()
        };
        let whole = |same: bool, part| (!same).then_some(part);
        whole(self.seq == sound.seq, SnapshotPart::Place)
            .or_else(|| whole(self.epoch == sound.epoch, SnapshotPart::Epoch))
            .or_else(|| first_other(&self.accounts, &sound.accounts).map(SnapshotPart::Account))
            .or_else(|| {
                let differs = first_other(&pending(&self.pending), &pending(&sound.pending));
                differs.map(SnapshotPart::Pending)
            })
            .or_else(|| first_other(&self.keys, &sound.keys).map(SnapshotPart::Key))
            .or_else(|| {
                let differs = first_other(&lives(&self.live), &lives(&sound.live));
                differs.map(SnapshotPart::Payment)
            })
            .or_else(|| whole(self.refunds == sound.refunds, SnapshotPart::Refunds))
            .or_else(|| whole(self.unmatched == sound.unmatched, SnapshotPart::Unmatched))
            .or_else(|| whole(self.payouts_held == sound.payouts_held, SnapshotPart::PayoutsHeld))
            .or_else(|| whole(self.channels == sound.channels, SnapshotPart::Channels))
            .or_else(|| whole(self.budgets == sound.budgets, SnapshotPart::Budgets))
            .or_else(|| whole(self.frozen == sound.frozen, SnapshotPart::Frozen))
            .or_else(|| {
                whole(self.subscriptions == sound.subscriptions, SnapshotPart::Subscriptions)
            })
    }
}

/// The first name under which two lists do not have the same; of a name that stands twice, all count.
fn first_other<N: Ord + Clone, T: PartialEq>(ours: &[(N, T)], sound: &[(N, T)]) -> Option<N> {
    let mut by_name: BTreeMap<&N, (Vec<&T>, Vec<&T>)> = BTreeMap::new();
    for (name, value) in ours {
        by_name.entry(name).or_default().0.push(value);
    }
    for (name, value) in sound {
        by_name.entry(name).or_default().1.push(value);
    }
    by_name.into_iter().find(|(_, (ours, sound))| ours != sound).map(|(name, _)| name.clone())
}

impl Book {
    /// The last record's place.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Every account's balance.
    #[must_use]
    pub const fn balances(&self) -> &Balances {
        &self.balances
    }

    /// The keys that may spend, and whose account.
    #[must_use]
    pub const fn keys(&self) -> &BTreeMap<SpendingKey, Holder> {
        &self.keys
    }

    /// Every payment that was claimed and is neither delivered nor given up.
    pub fn all_unfinished(&self) -> impl Iterator<Item = Unfinished> {
        self.live.values().filter_map(|live| {
            let payment = live.payment.as_deref()?;
            let left = self.refunds.left(payment);
            let open = match &live.standing {
                Standing::Pending if live.holder == Some(self.epoch) => Open::Settling,
                Standing::Pending if live.is_reserved() => Open::Abandoned,
                Standing::Pending => Open::Unsettled,
                Standing::Posted(_) if live.holder == Some(self.epoch) => Open::Delivering,
                Standing::Posted(_) if self.is_given_back(payment) => Open::Refunding,
                Standing::Posted(_) if live.taken.is_some() => Open::Given,
                Standing::Posted(_) if live.holder.is_some() => Open::Interrupted,
                Standing::Posted(_) if live.failed => Open::Failed,
                Standing::Posted(_) => Open::Owed,
                Standing::Delivered(..) => return None,
            };
            Some(Unfinished {
                payment: payment.clone(),
                open,
                from: live.from.clone(),
                left,
                refunds_voided: self.refunds_voided(payment.id),
            })
        })
    }

    /// Everything that is open and that nobody is at.
    #[must_use]
    pub fn work(&self) -> Work {
        Work {
            payments: self.all_unfinished().filter(|it| !it.open.is_held()).collect(),
            refunds: self.refunds.pending().cloned().collect(),
            expected: self.expected().collect(),
        }
    }

    /// Takes up a payment that was claimed and that nobody is settling, to find out about it. Until it
    /// is posted, voided or given back, nobody else is told to.
    pub fn take_up(&mut self, payment: PaymentId) -> bool {
        let epoch = self.epoch;
        match self.live.get_mut(&payment) {
            Some(live) if live.standing == Standing::Pending && live.holder != Some(epoch) => {
                live.holder = Some(epoch);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether a proof was claimed and can still be presented.
    #[must_use]
    pub fn knows(&self, proof: &Fingerprint) -> bool {
        self.proofs.contains_key(proof)
    }

    /// How many payments were claimed and are neither delivered nor given up.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.live.len().saturating_sub(self.answered.len())
    }

    /// Where a payment stands, if it is not finished.
    #[must_use]
    pub fn standing(&self, payment: PaymentId) -> Option<&Standing> {
        self.live.get(&payment).map(|live| &live.standing)
    }

    /// Takes the book over from every earlier writer.
    ///
    /// What they were settling or delivering is nobody's any more: an honest retry, or recovery, may
    /// take it up again.
    pub fn open(&mut self, now: Timestamp) -> Record {
        self.epoch = self.epoch.saturating_add(1);
        self.write(now, None, Event::Opened { epoch: self.epoch }, Vec::new())
    }

    /// Takes a payment's proofs and holds or moves its money: all of it, or nothing.
    ///
    /// # Idempotency
    ///
    /// Claiming again with the same credential says where the payment stands and moves nothing;
    /// except that [`Claim::Undelivered`] hands the right to deliver to the caller,
    /// [`Claim::Unsettled`] the right to find out, and [`Claim::Abandoned`] the right to give up.
    ///
    /// # Errors
    ///
    /// A [`ClaimError`]; nothing has changed, and the same proof may be claimed again later.
    pub fn claim(
        &mut self,
        mut request: ClaimRequest,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<(Claim, Option<Record>), ClaimError> {
        if let Some(voucher) = request.voucher.take() {
            return self.claim_with(request, &voucher, cold, now);
        }
        if let Some(known) = self.find(&request, cold, now)? {
            let resumed = self.resumed(&known, request.payment.id, now);
            return Ok((known, resumed));
        }
        if let Some(key) = &request.idempotency
            && self.is_claimed(key, cold)?
        {
            return self.named_before(key, &request, now).map(|claim| (claim, None));
        }
        self.allowed(&mut request.payment, now)?;
        let paid_by = match &request.payment.subscription {
            Some(part) => self.of_subscription(part, &request.payment, now)?,
            None => None,
        };
        let transfers = self.transfers(&request)?;
        self.within(&request.caps, &transfers)?;
        self.balances.apply(&transfers)?;
        let settlement = match request.money {
            Money::Book if request.payment.terms.capture == Capture::After => None,
            Money::Book => Some(request.payment.id.to_string()),
            Money::None => Some(paid_by.unwrap_or_else(|| request.payment.challenge.clone())),
            Money::Rail => None,
        };
        let settlement = settlement.map(|reference| Settlement::new(reference, now));
        let ClaimRequest { payment, mut proofs, idempotency, .. } = request;
        proofs.extend(idempotency);
        self.forget(now);
        let trace = Some(payment.trace);
        let event = Event::Claimed { payment: Box::new(payment), proofs, settlement };
        self.note(&event, &transfers, Some(self.epoch));
        Ok((Claim::Fresh, Some(self.write(now, trace, event, transfers))))
    }

    /// Makes a pending payment count. Nothing to write means it did already.
    pub fn post(
        &mut self,
        payment: PaymentId,
        settlement: Settlement,
        now: Timestamp,
    ) -> Option<Record> {
        let live = self.live.get(&payment).filter(|live| live.standing == Standing::Pending)?;
        let (trace, mut transfers) = (live.trace, self.finish(payment, live, "post", Phase::Post));
        if let Some(moved) = &settlement.moved {
            let mut left = moved.atoms();
            for transfer in &mut transfers {
                transfer.atoms = transfer.atoms.min(left);
                left = left.saturating_sub(transfer.atoms);
            }
        }
        transfers.extend(settlement.cost.as_ref().map(|cost| fee(&payment.to_bytes(), cost)));
        let event = Event::Posted { payment, settlement };
        Some(self.commit(now, trace, event, transfers))
    }

    /// Gives a pending payment up; its proofs stay claimed. Nothing to write means it was not
    /// pending any more.
    pub fn void(
        &mut self,
        payment: PaymentId,
        reason: VoidReason,
        now: Timestamp,
    ) -> Option<Record> {
        let live = self.live.get(&payment).filter(|live| live.standing == Standing::Pending)?;
        let (trace, transfers) = (live.trace, self.finish(payment, live, "void", Phase::Void));
        let event = Event::Voided { payment, reason };
        Some(self.commit(now, trace, event, transfers))
    }

    /// Notes that the handler failed: the answer is still owed, and whoever asks next may try again.
    /// Nothing to write means that no answer is owed.
    pub fn fail(&mut self, payment: PaymentId, outcome: Outcome, now: Timestamp) -> Option<Record> {
        let live = self.live.get(&payment);
        let live = live.filter(|live| matches!(live.standing, Standing::Posted(_)))?;
        let trace = live.trace;
        Some(self.commit(now, trace, Event::Failed { payment, outcome }, Vec::new()))
    }

    /// Notes that the answer was given. Nothing to write means it was noted already.
    pub fn deliver(
        &mut self,
        payment: PaymentId,
        outcome: Outcome,
        now: Timestamp,
    ) -> Option<Record> {
        self.deliver_kept(payment, outcome, None, now)
    }

    /// The same, with the digest of what is `kept` to be given again.
    pub fn deliver_kept(
        &mut self,
        payment: PaymentId,
        outcome: Outcome,
        kept: Option<Fingerprint>,
        now: Timestamp,
    ) -> Option<Record> {
        let live = self.live.get(&payment);
        let live = live.filter(|live| matches!(live.standing, Standing::Posted(_)))?;
        let trace = live.trace;
        Some(self.commit(now, trace, Event::Delivered { payment, outcome, kept }, Vec::new()))
    }

    /// Gives the right to settle or to deliver back. The payment can be claimed again at once; where
    /// its delivery was `begun`, as one that was interrupted.
    pub fn give_back(&mut self, payment: PaymentId, begun: bool) {
        if let Some(live) = self.live.get_mut(&payment) {
            live.holder = begun.then_some(NOBODY);
        }
    }

    /// Makes an operator's entry. Nothing to write means it was made already.
    ///
    /// # Errors
    ///
    /// An [`EntryError`]; nothing has changed.
    pub fn enter(
        &mut self,
        entry: Entry,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<Option<Record>, EntryError> {
        match entry {
            Entry::Fund { holder, amount, reference } => {
                self.fund(&holder, &amount, reference, cold, now)
            }
            Entry::AttachKey { key, holder } => match self.keys.get(&key) {
                Some(known) if *known == holder => Ok(None),
                Some(_) => Err(EntryError::KeyTaken),
                None => Ok(Some(self.enter_event(now, Event::KeyAttached { key, holder }))),
            },
            Entry::DetachKey { key } if self.keys.contains_key(&key) => {
                Ok(Some(self.enter_event(now, Event::KeyDetached { key })))
            }
            Entry::DetachKey { .. } => Ok(None),
            Entry::Resolve { payment, note } => {
                let finding = Finding::Resolved { note };
                Ok(Some(self.reconcile(payment, finding, now).ok_or(EntryError::OutOfOrder)?))
            }
            Entry::HoldPayout { payment, reason } => self.hold_payout(&payment, reason, cold, now),
            Entry::ReleasePayout { payment, reason } => {
                Ok(self.release_payout(&payment, reason, now))
            }
            Entry::PayOut { payment, amount, reference } => {
                self.pay_out(&payment, &amount, reference, cold, now)
            }
            Entry::Owner(step) => {
                let is_new = match &*step {
                    OwnerStep::Decided(_) => true,
                    OwnerStep::Frozen { agent, .. } => !self.frozen.contains(agent),
                    OwnerStep::Thawed { agent, .. } => self.frozen.contains(agent),
                };
                Ok(is_new.then(|| self.enter_event(now, Event::Owner { step: *step })))
            }
        }
    }

    /// Follows a record that was written before, in another life of the book.
    ///
    /// # Errors
    ///
    /// A [`TransferError`] when the record cannot follow what came before it; [`crate::audit`] says
    /// more.
    pub fn replay(&mut self, record: &Record) -> Result<(), TransferError> {
        self.balances.apply(&record.transfers)?;
        // Whoever held a payment then held it in the epoch of then.
        self.note(&record.event, &record.transfers, Some(self.epoch));
        if let Event::Refunded { refund, .. } = &record.event {
            self.refunds.count(&refund.amount, record.at);
        }
        self.follow_channels((record.seq, record.at), &record.event, &record.transfers);
        self.budgets.follow(record.at, &record.event);
        self.follow_subscriptions(record.at, &record.event);
        self.seq = record.seq;
        Ok(())
    }

    /// Remembers a proof from the store's index.
    pub fn remember(&mut self, proof: Proof, payment: PaymentId) {
        let known = self.proofs.insert(proof.fingerprint, payment);
        let Some(keep_until) = proof.keep_until else { return };
        let is_new = self.outdated.insert((keep_until, proof.fingerprint));
        // The index and the journal may tell of the same claims, in whatever order.
        let is_renewed = is_new || self.renewed.contains_key(&proof.fingerprint);
        if known.is_some() && is_renewed {
            let until = self.renewed.entry(proof.fingerprint).or_default();
            *until = keep_until.max(*until);
        }
    }

    /// Leaves a proof that is kept for ever to the store's index, which holds it from now on.
    pub fn shelve(&mut self, proof: &Proof) {
        if proof.keep_until.is_none() {
            self.proofs.remove(&proof.fingerprint);
        }
    }

    /// Says that the store's index, and not the book, knows the proofs kept no longer than `until`.
    pub fn forgot_until(&mut self, until: Timestamp) {
        self.forgotten_until = self.forgotten_until.max(until);
    }

    /// The book as it stands, without what was delivered: see [`Book::answered`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let clone = |(a, b): (&Account, &Balance)| (a.clone(), *b);
        let unfinished =
            |(_, live): &(&PaymentId, &Live)| !matches!(live.standing, Standing::Delivered(..));
        Snapshot {
            seq: self.seq,
            epoch: self.epoch,
            accounts: self.balances.iter().map(clone).collect(),
            pending: self.balances.all_pending().cloned().collect(),
            keys: self.keys.iter().map(|(key, holder)| (*key, holder.clone())).collect(),
            live: self
                .live
                .iter()
                .filter(unfinished)
                .map(|(id, live)| (*id, live.clone()))
                .collect(),
            refunds: self.refunds.clone(),
            unmatched: self.unmatched.iter().map(|(id, it)| (*id, it.clone())).collect(),
            payouts_held: self.payouts_held.clone(),
            channels: self.channels.clone(),
            budgets: self.budgets.clone(),
            frozen: self.frozen.clone(),
            subscriptions: self.subscriptions.clone(),
        }
    }

    /// What has to be kept of a payment that was delivered, so that its answer can be given again.
    #[must_use]
    pub fn answered(&self, payment: PaymentId) -> Option<Answered> {
        let live = self.live.get(&payment)?;
        let Standing::Delivered(settlement, outcome) = &live.standing else { return None };
        Some(Answered {
            payment,
            trace: live.trace,
            credential: live.credential,
            request: live.request,
            settlement: settlement.clone(),
            outcome: *outcome,
            kept_until: live.kept_until,
        })
    }

    /// Recalls a payment that was delivered in an earlier life of the book.
    pub fn recall(&mut self, answered: Answered) {
        let live = Live {
            trace: answered.trace,
            credential: answered.credential,
            standing: Standing::Delivered(answered.settlement, answered.outcome),
            kept_until: answered.kept_until,
            request: answered.request,
            payment: None,
            held: Vec::new(),
            holder: None,
            from: None,
            failed: false,
            taken: None,
        };
        self.answered.insert((answered.kept_until, answered.payment));
        self.live.insert(answered.payment, live);
    }

    /// A book as it stood, without its proofs.
    #[must_use]
    pub fn restore(snapshot: Snapshot) -> Self {
        let mut balances: Balances = snapshot.accounts.into_iter().collect();
        balances.extend(snapshot.pending);
        Self {
            seq: snapshot.seq,
            epoch: snapshot.epoch,
            balances,
            keys: snapshot.keys.into_iter().collect(),
            live: snapshot.live.into_iter().collect(),
            refunds: snapshot.refunds,
            unmatched: snapshot.unmatched.into_iter().collect(),
            payouts_held: snapshot.payouts_held,
            channels: snapshot.channels,
            budgets: snapshot.budgets,
            frozen: snapshot.frozen,
            subscriptions: snapshot.subscriptions,
            ..Self::default()
        }
    }

    // --- claiming -----------------------------------------------------------------------------

    /// What is known of the payment or of one of its proofs; nothing if all of it is new.
    fn find(
        &mut self,
        request: &ClaimRequest,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<Option<Claim>, ClaimError> {
        let id = request.payment.id;
        for proof in &request.proofs {
            match self.proofs.get(&proof.fingerprint) {
                Some(&owner) if owner == id => return Ok(Some(self.again(request, now))),
                Some(_) => return Ok(Some(Claim::Spent)),
                None if self.is_cold(proof) && cold.is_claimed(proof)? => {
                    return Ok(Some(Claim::Spent));
                }
                None => {}
            }
        }
        Ok(None)
    }

    /// Where a payment stands whose proof is presented again.
    fn again(&mut self, request: &ClaimRequest, now: Timestamp) -> Claim {
        let epoch = self.epoch;
        if self.is_given_back(&request.payment) {
            if !self.is_refunding(request.payment.id) {
                return Claim::GivenBack;
            }
            // Money on its way back may come to nothing yet, and whoever is told that it is back buys anew.
            // What was answered is answered again meanwhile.
            let live = self.live.get(&request.payment.id);
            if !live.is_some_and(|live| matches!(live.standing, Standing::Delivered(..))) {
                return Claim::Pending(request.payment.id);
            }
        }
        let Some(live) = self.live.get_mut(&request.payment.id) else { return Claim::Spent };
        if live.credential != request.payment.credential {
            return Claim::Spent;
        }
        // What was undertaken when it was paid for counts, whatever the seller undertakes by now.
        let terms = live.payment.as_ref().map_or(request.payment.terms, |facts| facts.terms);
        match &live.standing {
            Standing::Pending | Standing::Posted(_) if live.holder == Some(epoch) => {
                Claim::Pending(request.payment.id)
            }
            Standing::Pending => {
                let is_abandoned = live.is_reserved() && !terms.repeatable;
                live.holder = Some(epoch);
                if is_abandoned { Claim::Abandoned } else { Claim::Unsettled }
            }
            // What was paid for as it was given was given, as far as it was paid for.
            Standing::Posted(_) if live.taken.is_some() && live.kept_until <= now => Claim::Spent,
            Standing::Posted(settlement) if live.taken.is_some() => {
                let outcome = Outcome { status: 200 };
                Claim::Delivered(request.payment.id, settlement.clone(), outcome)
            }
            Standing::Posted(_) if live.holder.is_some() && !terms.repeatable => Claim::Interrupted,
            Standing::Posted(settlement) => {
                live.holder = Some(epoch);
                match live.payment.as_ref().filter(|facts| facts.voucher.is_some()) {
                    Some(facts) => Claim::Bought(facts.clone(), settlement.clone()),
                    None => Claim::Undelivered(settlement.clone()),
                }
            }
            Standing::Delivered(..) if live.kept_until <= now => Claim::Spent,
            Standing::Delivered(settlement, outcome) => {
                Claim::Delivered(request.payment.id, settlement.clone(), *outcome)
            }
        }
    }

    /// Writes down that a delivery is tried for again which must not happen twice: a crash in the middle
    /// of it must not look as if it had never begun.
    fn resumed(&mut self, known: &Claim, payment: PaymentId, now: Timestamp) -> Option<Record> {
        let again = matches!(known, Claim::Undelivered(_) | Claim::Bought(..));
        let live = self.live.get(&payment).filter(|_| again)?;
        let facts = live.payment.as_ref().filter(|facts| !facts.terms.repeatable)?;
        let trace = facts.trace;
        Some(self.commit(now, trace, Event::Resumed { payment }, Vec::new()))
    }

    /// What came of the payment that the client gave the same name.
    fn named_before(
        &self,
        key: &Proof,
        request: &ClaimRequest,
        now: Timestamp,
    ) -> Result<Claim, ClaimError> {
        let owner = self.proofs.get(&key.fingerprint);
        let owner = owner.and_then(|id| Some((*id, self.live.get(id)?)));
        let Some((id, live)) = owner else { return Err(ClaimError::Duplicate) };
        if live.request != request.payment.request {
            return Err(ClaimError::KeyMisused);
        }
        match &live.standing {
            Standing::Delivered(settlement, outcome) if live.kept_until > now => {
                Ok(Claim::Delivered(id, settlement.clone(), *outcome))
            }
            Standing::Pending | Standing::Posted(_) if live.holder == Some(self.epoch) => {
                Ok(Claim::Pending(id))
            }
            Standing::Pending | Standing::Posted(_) | Standing::Delivered(..) => {
                Err(ClaimError::Duplicate)
            }
        }
    }

    fn is_claimed(&self, proof: &Proof, cold: &impl Cold) -> Result<bool, ClaimError> {
        let known = self.proofs.contains_key(&proof.fingerprint);
        Ok(known || (self.is_cold(proof) && cold.is_claimed(proof)?))
    }

    /// Whether only the store's index knows if `proof` was claimed, unless the book still has it.
    #[must_use]
    pub fn is_cold(&self, proof: &Proof) -> bool {
        proof.keep_until.is_none_or(|until| until <= self.forgotten_until)
    }

    /// The transfers a claim consists of.
    fn transfers(&self, request: &ClaimRequest) -> Result<Vec<Transfer>, ClaimError> {
        let id = request.payment.id;
        let phase = match (request.money, request.payment.terms.capture) {
            (Money::Book, Capture::Before) | (Money::None, _) => Phase::Posted,
            (Money::Book, Capture::After) | (Money::Rail, _) => Phase::Pending,
        };
        let transfer = |(at, leg): (usize, &Leg)| {
            let debit = match &leg.from {
                Source::Account(account) => account.clone(),
                Source::Key(key) => {
                    let holder = self.keys.get(key).ok_or(ClaimError::UnknownKey)?;
                    Account::new(AccountKind::Prepaid, holder.clone(), leg.to.asset.clone())
                }
            };
            let id = TransferId::derive(&id.to_bytes(), &format!("claim {at}"));
            Ok(Transfer { id, debit, credit: leg.to.clone(), atoms: leg.atoms, phase })
        };
        request.legs.iter().enumerate().map(transfer).collect()
    }

    /// Whether the owner's budgets hold what a payment draws, and nobody is frozen who asks for it.
    fn allowed(&self, payment: &mut Payment, now: Timestamp) -> Result<(), ClaimError> {
        let Some(decided) = &mut payment.decision else { return Ok(()) };
        if self.frozen.contains(&None) || self.frozen.contains(&Some(decided.agent.clone())) {
            return Err(ClaimError::Frozen);
        }
        if let Some(draft) = &mut decided.draft {
            self.budgets.try_out(draft, now);
        }
        self.budgets.within(&mut decided.draws, now)
    }

    /// How a wallet's owner has left it: how much is held and spent of `budgets`, and who is frozen.
    #[must_use]
    pub fn owner(&self, budgets: Vec<BudgetKey>, now: Timestamp) -> OwnerView {
        let used = |key: BudgetKey| Used { amount: self.budgets.used(key.as_str(), now), key };
        OwnerView {
            used: budgets.into_iter().map(used).collect(),
            frozen: self.frozen.iter().cloned().collect(),
        }
    }

    /// Whether `transfers`, on top of what was credited before, stay within `caps`.
    fn within(&self, caps: &[Cap], transfers: &[Transfer]) -> Result<(), ClaimError> {
        for cap in caps {
            let credits = transfers.iter().filter(|transfer| transfer.credit == cap.account);
            let held = self.balances.of(&cap.account).credits_held();
            let total = credits.fold(held, |sum, transfer| sum.saturating_add(transfer.atoms));
            if total > cap.credits_max {
                return Err(ClaimError::OverCap);
            }
        }
        Ok(())
    }

    fn forget(&mut self, now: Timestamp) {
        for _ in 0..FORGET_MAX {
            match self.answered.first().copied() {
                Some((kept_until, payment))
                    if kept_until < now || self.answered.len() > ANSWERED_MAX =>
                {
                    self.answered.pop_first();
                    self.live.remove(&payment);
                }
                _ => break,
            }
        }
        for _ in 0..FORGET_MAX {
            match self.outdated.first().copied() {
                Some((keep_until, fingerprint)) if keep_until < now => {
                    self.outdated.pop_first();
                    // What was claimed anew is kept for longer than it was at first.
                    if self.renewed.get(&fingerprint).is_none_or(|until| *until <= keep_until) {
                        self.renewed.remove(&fingerprint);
                        self.proofs.remove(&fingerprint);
                    }
                    self.forgotten_until = self.forgotten_until.max(keep_until);
                }
                _ => return,
            }
        }
    }

    // --- finishing ----------------------------------------------------------------------------

    /// The transfers that finish a payment's pending ones.
    fn finish(
        &self,
        payment: PaymentId,
        live: &Live,
        step: &str,
        phase: fn(TransferId) -> Phase,
    ) -> Vec<Transfer> {
        let held = live.held.iter().filter_map(|id| self.balances.pending(*id));
        held.enumerate()
            .map(|(at, pending)| Transfer {
                id: TransferId::derive(&payment.to_bytes(), &format!("{step} {at}")),
                phase: phase(pending.id),
                ..pending.clone()
            })
            .collect()
    }

    fn commit(
        &mut self,
        now: Timestamp,
        trace: TraceId,
        event: Event,
        transfers: Vec<Transfer>,
    ) -> Record {
        // The transfers finish pending ones of this book, in full and on the same accounts.
        let applied = self.balances.apply(&transfers);
        assert_eq!(applied, Ok(()), "finishing a pending transfer in full always fits");
        self.note(&event, &transfers, Some(self.epoch));
        self.write(now, Some(trace), event, transfers)
    }

    // --- entering -----------------------------------------------------------------------------

    fn fund(
        &mut self,
        holder: &Holder,
        amount: &Amount,
        reference: String,
        cold: &impl Cold,
        now: Timestamp,
    ) -> Result<Option<Record>, EntryError> {
        let transfer = funding(holder, amount, &reference);
        let [by_reference, in_full] = funding_proofs(&reference, &transfer);
        if self.is_claimed(&by_reference, cold)? {
            let same = self.is_claimed(&in_full, cold)?;
            return if same { Ok(None) } else { Err(EntryError::ReferenceTaken) };
        }
        self.balances.apply(std::slice::from_ref(&transfer))?;
        let event = Event::Funded { reference };
        self.note(&event, std::slice::from_ref(&transfer), None);
        Ok(Some(self.write(now, None, event, vec![transfer])))
    }

    pub(crate) fn enter_event(&mut self, now: Timestamp, event: Event) -> Record {
        self.note(&event, &[], None);
        self.write(now, None, event, Vec::new())
    }

    // --- projecting ---------------------------------------------------------------------------

    /// Follows an event into every projection but the balances. `holder` is the writer in whose
    /// time somebody now holds the payment.
    fn note(&mut self, event: &Event, transfers: &[Transfer], holder: Option<u64>) {
        match event {
            Event::Opened { epoch } => self.epoch = *epoch,
            Event::KeyAttached { key, holder } => {
                self.keys.insert(*key, holder.clone());
            }
            Event::KeyDetached { key } => {
                self.keys.remove(key);
            }
            Event::Funded { reference } => {
                for transfer in transfers {
                    for proof in funding_proofs(reference, transfer) {
                        self.remember(proof, PaymentId::of(&proof.fingerprint));
                    }
                }
            }
            Event::Claimed { payment, proofs, settlement } => {
                self.note_claim(payment, (proofs, settlement.as_ref()), transfers, holder);
            }
            Event::Posted { payment, settlement } => {
                self.expect(*payment, settlement);
                if let Some(live) = self.live.get_mut(payment) {
                    live.standing = Standing::Posted(settlement.clone());
                    live.held.clear();
                    live.holder = holder;
                }
            }
            Event::Failed { payment, .. } => {
                self.give_back(*payment, false);
                if let Some(live) = self.live.get_mut(payment) {
                    live.failed = true;
                }
            }
            Event::Resumed { payment } => {
                if let Some(live) = self.live.get_mut(payment) {
                    live.holder = holder;
                }
            }
            Event::Voided { payment, .. } => {
                self.live.remove(payment);
            }
            Event::Delivered { payment, outcome, .. } => {
                let Some(live) = self.live.get_mut(payment) else { return };
                if let Standing::Posted(settlement) = &live.standing {
                    live.standing = Standing::Delivered(settlement.clone(), *outcome);
                    live.holder = None;
                    live.payment = None;
                    self.answered.insert((live.kept_until, *payment));
                }
            }
            Event::Refunded { refund, settlement } => {
                self.refunds.note(refund, settlement.as_ref(), transfers);
                self.close_if_given_back(refund.payment);
            }
            Event::RefundPosted { payment, refund, settlement } => {
                self.refunds.posted(*payment, *refund, settlement);
                self.close_if_given_back(*payment);
            }
            Event::RefundVoided { payment, refund } => self.refunds.voided(*payment, *refund),
            Event::Reconciled { payment, finding } => self.note_finding(*payment, finding),
            Event::PayoutHeld { payment, .. } => {
                self.payouts_held.insert(*payment);
            }
            Event::PayoutReleased { payment, .. } => {
                self.payouts_held.remove(payment);
            }
            Event::Channel { channel, step } => {
                for (proof, owner) in channels::claimed(channel, step) {
                    self.remember(proof, owner);
                }
                self.note_taken(step, transfers);
            }
            Event::Subscription { step, .. } => {
                for (proof, owner) in subscriptions::claimed(step) {
                    self.remember(proof, owner);
                }
            }
            Event::PaidOut { payment, .. } => {
                let proof = payouts::paid_out(*payment);
                self.remember(proof, *payment);
            }
            Event::Erased { payments, .. } => {
                for payment in payments {
                    self.forget_answer(*payment);
                }
            }
            Event::Owner { step } => match step {
                OwnerStep::Decided(_) => {}
                OwnerStep::Frozen { agent, .. } => {
                    self.frozen.insert(agent.clone());
                }
                OwnerStep::Thawed { agent, .. } => {
                    self.frozen.remove(agent);
                }
            },
        }
    }

    fn note_claim(
        &mut self,
        payment: &Payment,
        (proofs, settlement): (&[Proof], Option<&Settlement>),
        transfers: &[Transfer],
        holder: Option<u64>,
    ) {
        for proof in proofs {
            self.remember(*proof, payment.id);
        }
        let kept_until = proofs.iter().filter_map(|proof| proof.keep_until).max();
        let live = Live {
            trace: payment.trace,
            credential: payment.credential,
            kept_until: kept_until.unwrap_or(payment.expires_at),
            request: payment.request,
            standing: settlement.cloned().map_or(Standing::Pending, Standing::Posted),
            payment: Some(Box::new(payment.clone())),
            held: match settlement {
                Some(_) => Vec::new(),
                None => transfers.iter().map(|transfer| transfer.id).collect(),
            },
            holder,
            from: transfers.first().map(|transfer| transfer.debit.clone()),
            failed: false,
            taken: None,
        };
        self.live.insert(payment.id, live);
        if let Some(settlement) = settlement {
            self.expect(payment.id, settlement);
        }
    }

    fn write(
        &mut self,
        now: Timestamp,
        trace: Option<TraceId>,
        event: Event,
        transfers: Vec<Transfer>,
    ) -> Record {
        self.budgets.follow(now, &event);
        self.follow_subscriptions(now, &event);
        self.seq = self.seq.saturating_add(1);
        self.follow_channels((self.seq, now), &event, &transfers);
        Record { seq: self.seq, at: now, trace, event, transfers }
    }
}

/// The proofs that an event claims, and the payment that owns them: what a store must index.
#[must_use]
pub fn claimed_proofs(record: &Record) -> Vec<(Proof, PaymentId)> {
    match &record.event {
        Event::Claimed { payment, proofs, .. } => {
            proofs.iter().map(|proof| (*proof, payment.id)).collect()
        }
        Event::Funded { reference } => record
            .transfers
            .iter()
            .flat_map(|transfer| funding_proofs(reference, transfer))
            .map(|proof| (proof, PaymentId::of(&proof.fingerprint)))
            .collect(),
        Event::Opened { .. }
        | Event::KeyAttached { .. }
        | Event::KeyDetached { .. }
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
        | Event::Erased { .. } => Vec::new(),
        Event::Channel { channel, step } => channels::claimed(channel, step),
        Event::Subscription { step, .. } => subscriptions::claimed(step),
        Event::PaidOut { payment, .. } => vec![(payouts::paid_out(*payment), *payment)],
    }
}

/// What moving the money of a payment or of a refund cost us.
fn fee(of: &[u8; 16], cost: &Amount) -> Transfer {
    let account = |kind| Account::new(kind, fees(), cost.asset().clone());
    Transfer {
        id: TransferId::derive(of, "fee"),
        debit: account(AccountKind::Spent),
        credit: account(AccountKind::Purse),
        atoms: cost.atoms(),
        phase: Phase::Posted,
    }
}

/// The holder of what is spent on networks' fees.
fn fees() -> Holder {
    // A name of printable letters is always a holder.
    Holder::new("fees").unwrap_or_else(|_| unreachable!("\"fees\" is a holder's name"))
}

fn funding(holder: &Holder, amount: &Amount, reference: &str) -> Transfer {
    let account = |kind| Account::new(kind, holder.clone(), amount.asset().clone());
    Transfer {
        id: TransferId::derive(reference.as_bytes(), "fund"),
        debit: account(AccountKind::Funding),
        credit: account(AccountKind::Prepaid),
        atoms: amount.atoms(),
        phase: Phase::Posted,
    }
}

/// A reference is taken once; with the same account and amount it is the same funding.
fn funding_proofs(reference: &str, transfer: &Transfer) -> [Proof; 2] {
    let account = transfer.credit.to_string();
    let atoms = transfer.atoms.to_be_bytes();
    let in_full = [reference.as_bytes(), account.as_bytes(), &atoms];
    [
        Fingerprint::of("funding reference", &[reference.as_bytes()]),
        Fingerprint::of("funding in full", &in_full),
    ]
    .map(|fingerprint| Proof { fingerprint, keep_until: None })
}

/// Why a claim was refused. Nothing is written and nothing is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ClaimError {
    /// The payer's account does not hold the price.
    #[error("the account does not hold the price")]
    Overdrawn,
    /// The key may not spend any account here.
    #[error("the key may not spend an account here")]
    UnknownKey,
    /// A cap of the wallet's own would be passed.
    #[error("the payment would pass a cap")]
    OverCap,
    /// A budget of the wallet's owner does not hold the payment.
    #[error("a budget does not hold the payment")]
    OverBudget {
        /// Which one: the place among the draws of the payment's decision.
        draw: u16,
        /// How much of it is held and spent.
        #[serde(with = "atoms_text")]
        used: u128,
    },
    /// The wallet's owner has frozen whoever asks.
    #[error("the wallet is frozen for whoever asks")]
    Frozen,
    /// The `Idempotency-Key` was used for another payment, whose answer cannot be given now.
    #[error("the idempotency key was used before")]
    Duplicate,
    /// The `Idempotency-Key` was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyMisused,
    /// The request contradicts itself: ours to fix.
    #[error("the payment's legs contradict each other")]
    Legs,
    /// The voucher buys nothing.
    #[error("{0}")]
    Channel(ChannelError),
    /// The subscription does not allow it.
    #[error("{0}")]
    Subscription(#[from] SubscriptionError),
    /// The store cannot answer. Claiming again is safe.
    #[error("the store does not answer")]
    Unavailable,
}

impl From<TransferError> for ClaimError {
    fn from(error: TransferError) -> Self {
        match error {
            TransferError::Overdrawn => Self::Overdrawn,
            TransferError::SameAccount
            | TransferError::AssetMismatch
            | TransferError::NotPending
            | TransferError::PendingMismatch
            | TransferError::Overflow
            | TransferError::Duplicate => Self::Legs,
        }
    }
}

/// Why an operator's entry was refused. Nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum EntryError {
    /// The reference funded something else already.
    #[error("the reference was used for another account or amount")]
    ReferenceTaken,
    /// The key spends somebody else's account.
    #[error("the key belongs to another account")]
    KeyTaken,
    /// The payment does not stand where this could follow.
    #[error(
        "the payment does not stand where this could be done; `farthing trace` says where it stands"
    )]
    OutOfOrder,
    /// The money cannot be moved so.
    #[error("{0}")]
    Transfer(#[from] TransferError),
    /// The store cannot answer. Entering again is safe.
    #[error("the store does not answer")]
    Unavailable,
}

impl From<ClaimError> for EntryError {
    fn from(_: ClaimError) -> Self {
        // Only the cold index can fail on this path.
        Self::Unavailable
    }
}
