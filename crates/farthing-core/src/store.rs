//! The port to memory.

use std::time::Duration;

use farthing_ledger::{
    BudgetKey, Channel, ChannelError, ChannelId, ChannelNews, ChannelStep, ChannelsHeard,
    ChannelsPlace, Claim, ClaimError, ClaimRequest, Entry, EntryError, EraseError, Erased, Erasure,
    Finding, Fingerprint, Outcome, OwnerView, PaymentId, Record, RefundError, RefundId,
    RefundRequest, RefundStanding, Settlement, Subscription, SubscriptionError, SubscriptionStep,
    SubscriptionsDue, TraceId, VoidReason, Work, answer_digest,
};
use farthing_money::Timestamp;
use http::HeaderMap;

use crate::BoxFuture;

/// The durable memory of payments: a book and its journal. One method is one transaction.
///
/// # Crash safety
///
/// When a future resolves to `Ok`, what it did survives the machine losing power. When it does not
/// resolve, because the process died, it happened entirely or not at all.
pub trait Store: Send + Sync {
    /// Takes a payment's proofs and holds or moves its money, unless any proof is taken.
    ///
    /// Linearizable: of any number of concurrent claims of one proof, exactly one is
    /// [`Claim::Fresh`]; and of any number of retries, at most one at a time holds the right to
    /// deliver.
    ///
    /// # Errors
    ///
    /// A [`ClaimError`]; nothing is claimed, and claiming again is safe.
    fn claim(
        &self,
        request: ClaimRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Claim, ClaimError>>;

    /// Whether a proof was claimed and can still be presented.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn is_claimed(&self, proof: Fingerprint) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Everything that is open and that nobody is at.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>>;

    /// Takes up a payment whose settlement ended without an answer, to find out about it. Whoever is
    /// told `true` is alone with it until it is posted, voided or given back.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is taken up.
    fn take_up(&self, payment: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Turns the pending transfers of a payment into posted ones. Idempotent.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the payment stays pending and recovery posts it later.
    fn post(
        &self,
        payment: PaymentId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives the pending transfers of a payment up. Its proofs stay claimed. Idempotent.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the payment stays pending and recovery voids it later.
    fn void(
        &self,
        payment: PaymentId,
        reason: VoidReason,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes that the answer was given, and keeps it to be given again where there is one to keep.
    /// Does not wait.
    ///
    /// # Crash safety
    ///
    /// Written in order, with the next commit. If the process dies first, the payment is found
    /// undelivered, and an honest retry is answered once more rather than never.
    fn deliver(&self, payment: PaymentId, outcome: Outcome, answer: Option<Answer>, now: Timestamp);

    /// As [`Store::deliver`], for an answer that has not been given yet: it may be once this returns.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the answer must not be given. Whether it was noted is not known.
    fn record_delivery(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes that the handler failed: the answer is still owed, and the same credential may try again
    /// at once. Does not wait.
    fn fail(&self, payment: PaymentId, outcome: Outcome, now: Timestamp);

    /// The answer that was given for a payment, if it was kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn answer(&self, payment: PaymentId) -> BoxFuture<'_, Result<Option<Answer>, StoreError>>;

    /// Gives the right to settle or to deliver back: the same credential may try again at once; where
    /// the delivery was `begun`, only if what was bought may happen twice. Does not wait; nothing is
    /// written.
    fn give_back(&self, payment: PaymentId, begun: bool);

    /// Orders money of a payment back: at once where it lies in the book, and pending until the rail
    /// has spoken otherwise.
    ///
    /// # Idempotency
    ///
    /// A payment's reference counts once.
    ///
    /// # Errors
    ///
    /// A [`RefundError`]; nothing is written, and asking again is safe.
    fn refund(
        &self,
        request: RefundRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Ordered, RefundError>>;

    /// Notes that the money of a pending refund moved. Idempotent.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the refund stays pending and recovery posts it later.
    fn post_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Gives a pending refund up, whose money did not move and never will. Idempotent.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the refund stays pending and recovery voids it later.
    fn void_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes what holding a payment against the rail came to. Idempotent.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; recovery asks again later.
    fn reconcile(
        &self,
        payment: PaymentId,
        finding: Finding,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes a step of a channel, and says how the channel stands behind it. One step is one record, or none
    /// if it was made before.
    ///
    /// # Idempotency
    ///
    /// The same step again changes nothing; except for [`ChannelStep::Take`], each of which takes.
    ///
    /// # Errors
    ///
    /// A [`ChannelError`]; nothing is written.
    fn step(
        &self,
        step: ChannelStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Channel, ChannelError>>;

    /// The channels that are not closed, and those closed last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn channels(&self) -> BoxFuture<'_, Result<Vec<Channel>, StoreError>>;

    /// The channels that have changed since somebody came as far as `since`, and the `named` ones; all that
    /// are not closed, where nothing is said or remembered. It costs as much as it tells.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn channel_news(
        &self,
        since: Option<ChannelsPlace>,
        named: Vec<ChannelId>,
    ) -> BoxFuture<'_, Result<ChannelNews, StoreError>>;

    /// Notes what a rail says of all its channels at once. Nothing of it is written: after a start, each
    /// channel is to be looked at anew.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; whether it was noted is not known.
    fn heard_of_channels(&self, heard: ChannelsHeard) -> BoxFuture<'_, Result<(), StoreError>>;

    /// How a wallet's owner has left the book: how much is held and spent of `budgets` at a moment, and who is
    /// frozen.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn owner(
        &self,
        budgets: Vec<BudgetKey>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<OwnerView, StoreError>>;

    /// Makes a step of a subscription, and says how it stands behind it. One step is one record, or none if
    /// it was made before.
    ///
    /// # Idempotency
    ///
    /// The same step again changes nothing.
    ///
    /// # Errors
    ///
    /// A [`SubscriptionError`]; nothing is written.
    fn subscribe(
        &self,
        step: SubscriptionStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Subscription, SubscriptionError>>;

    /// The subscriptions that are not over, and those that ended last.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>>;

    /// The subscriptions that something is to be done about at `now`, where one may be past due for `grace`,
    /// and how many there are. It costs as much as it tells.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn subscriptions_due(
        &self,
        now: Timestamp,
        grace: Duration,
    ) -> BoxFuture<'_, Result<SubscriptionsDue, StoreError>>;

    /// Makes an operator's entry. `true` if it was new, `false` if it had been made before.
    ///
    /// # Errors
    ///
    /// An [`EntryError`]; nothing is written, and entering again is safe.
    fn enter(&self, entry: Entry, now: Timestamp) -> BoxFuture<'_, Result<bool, EntryError>>;

    /// Erases somebody's personal data: what is kept of it is written anew with pseudonyms, and a record
    /// says so.
    ///
    /// # Idempotency
    ///
    /// What was erased is not found again: nothing more is written.
    ///
    /// # Errors
    ///
    /// An [`EraseError`]; nothing is written, and erasing again is safe.
    fn erase(&self, erasure: Erasure, now: Timestamp) -> BoxFuture<'_, Result<Erased, EraseError>>;

    /// The records from place `from` on, at most `limit`, in order. Only what is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn records(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// The records of one payment's story, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn story(&self, trace: TraceId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>>;

    /// What was last noted under `name`; nothing if nothing was.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it may be asked for again.
    fn noted(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// Notes `text` under `name`, instead of what was noted before. Notes are not part of the book: they
    /// are how far somebody has come who follows it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the note may or may not have been made.
    fn note(&self, name: &str, text: String) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether this process is the one to do what only one should do: recovery, messages to others.
    fn leads(&self) -> bool {
        true
    }
}

/// Where a refund stands that somebody has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// Where it stands.
    pub standing: RefundStanding,
    /// Whether it was new. What was ordered before keeps its own order, and no other may be carried out.
    pub is_new: bool,
}

/// What a handler answered, kept to be given again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub fields: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The digest of what is kept: what a store records where the answer was delivered.
    #[must_use]
    pub fn digest(answer: Option<&Self>) -> Fingerprint {
        let fields = answer.map(|it| write_fields(&it.fields)).unwrap_or_default();
        answer_digest(answer.map(|it| (it.status, &*fields, &*it.body)))
    }
}

/// Header fields as HTTP/1.1 writes them, and as stores keep them.
#[must_use]
pub fn write_fields(fields: &HeaderMap) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text
}

/// The store cannot answer: it is full, stopped, or out of reach. Ours to fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store does not answer")]
pub struct StoreError;
