//! The callers' side of the queue.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::task::{Context, Poll};

use farthing_core::StoreError;
use farthing_ledger::{PaymentId, Record, TraceId};
use tokio::sync::oneshot;

use crate::{Ask, Options, Said};

/// Whoever can be asked what a book is asked. [`store_that_asks!`](crate::store_that_asks) makes a
/// store of it.
pub trait Asks {
    /// Asks and waits for what the book says. Nothing means that it does not answer.
    fn ask(&self, ask: Ask) -> impl Future<Output = Option<Said>> + Send;

    /// Says something to the book without waiting.
    fn tell(&self, ask: Ask);

    /// Reads records from the journal itself; see [`farthing_core::Store::records`].
    fn read(
        &self,
        from: u64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Reads a story from the journal itself; see [`farthing_core::Store::story`].
    fn read_story(
        &self,
        trace: TraceId,
    ) -> impl Future<Output = Result<Vec<Record>, StoreError>> + Send;

    /// Reads what stands under a name; see [`farthing_core::Store::noted`].
    fn read_note(
        &self,
        name: String,
    ) -> impl Future<Output = Result<Option<String>, StoreError>> + Send;

    /// Whether this process does what only one should do; see [`farthing_core::Store::leads`].
    fn leads(&self) -> bool {
        true
    }
}

/// One thing for the writer to do.
pub struct Job(pub(crate) Kind);

#[expect(clippy::large_enum_variant, reason = "nearly every job is the large one")]
pub(crate) enum Kind {
    Ask(Ask, Option<Asker>),
    /// Whoever held this payment is gone, and nobody knows how far they came.
    Abandon(PaymentId),
}

/// Gives a payment's right back that never reached whoever asked for it.
pub type GiveBack = Arc<dyn Fn(PaymentId) + Send + Sync>;

/// Somebody who waits.
pub struct Asker {
    answer: oneshot::Sender<Reply>,
    /// Where a right goes back to that never reaches its asker.
    right: Option<(PaymentId, GiveBack)>,
}

/// An answer to be, from whoever owes it to whoever waits. `right` is the payment whose right the answer
/// may give.
#[must_use]
pub fn owe(right: Option<PaymentId>, give_back: &GiveBack) -> (Asker, Owed) {
    let (answer, answered) = oneshot::channel();
    let right = right.map(|payment| (payment, Arc::clone(give_back)));
    (Asker { answer, right }, Owed(answered))
}

impl Asker {
    /// Answers.
    pub fn say(self, said: Said) {
        let right = self.right.filter(|_| said.gives_right());
        // Whoever went away meanwhile does not need to know; the grant then goes back by itself.
        drop(self.answer.send(Reply { said, grant: Grant(right) }));
    }
}

/// What was said, with what guards it on its way.
struct Reply {
    said: Said,
    grant: Grant,
}

/// The right to settle or deliver a payment, on its way to the caller who claimed it.
///
/// A caller may go away at any moment, even when the answer was sent and not yet read. The grant
/// then drops on the floor, and the right goes back to the book.
struct Grant(Option<(PaymentId, GiveBack)>);

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some((payment, give_back)) = self.0.take() {
            give_back(payment);
        }
    }
}

/// What others may see of the writer's work.
#[derive(Debug, Default)]
pub struct Counts {
    waiting: AtomicUsize,
    unfinished: AtomicUsize,
}

impl Counts {
    /// How many requests wait for the writer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many payments were claimed and are neither delivered nor given up.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.unfinished.load(Ordering::Relaxed)
    }

    pub(crate) fn answered(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn note_unfinished(&self, unfinished: usize) {
        self.unfinished.store(unfinished, Ordering::Relaxed);
    }
}

/// Where requests are handed in. Clones share the queue, which ends when the last of them is dropped.
#[derive(Clone)]
pub struct Desk {
    jobs: Sender<Job>,
    give_back: GiveBack,
    counts: Arc<Counts>,
    queue_max: usize,
}

/// Why a request was not taken. Nothing came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too many wait already.
    Full,
    /// The writer has stopped.
    Stopped,
}

/// Opens a desk, and the queue that a [`crate::Writer`] works off.
#[must_use]
pub fn open(options: &Options) -> (Desk, Receiver<Job>) {
    let (jobs, queue) = mpsc::channel();
    let backwards = jobs.clone();
    let give_back: GiveBack = Arc::new(move |payment| {
        // The writer gone, the next one starts with nothing held.
        let _ = backwards.send(Job(Kind::Ask(Ask::GiveBack(payment, false), None)));
    });
    (Desk { jobs, give_back, counts: Arc::default(), queue_max: options.queue_max }, queue)
}

impl Desk {
    /// What can be seen of the writer's work.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Hands a request in that somebody waits for. It is in the queue when this returns.
    ///
    /// # Errors
    ///
    /// [`Refused`]. What an answer that was given depends on is never too much.
    pub fn put(&self, ask: Ask) -> Result<Owed, Refused> {
        let before = self.counts.waiting.fetch_add(1, Ordering::Relaxed);
        if before >= self.queue_max && ask.ends_right().is_none() {
            self.counts.answered();
            return Err(Refused::Full);
        }
        let (asker, owed) = owe(ask.right(), &self.give_back);
        if self.jobs.send(Job(Kind::Ask(ask, Some(asker)))).is_err() {
            self.counts.answered();
            return Err(Refused::Stopped);
        }
        Ok(owed)
    }

    /// Hands a request in that nobody waits for.
    ///
    /// # Errors
    ///
    /// [`Refused::Stopped`]; nothing came of it.
    pub fn tell(&self, ask: Ask) -> Result<(), Refused> {
        self.jobs.send(Job(Kind::Ask(ask, None))).map_err(|_| Refused::Stopped)
    }

    /// Says that whoever held a payment is gone. One that was not posted is given back, for recovery to
    /// find out about; of one that was, its handler may have run.
    pub fn abandon(&self, payment: PaymentId) {
        // The writer gone, the next one starts with nothing held.
        let _ = self.jobs.send(Job(Kind::Abandon(payment)));
    }
}

/// An answer that the writer owes. Whoever has polled it to its end holds the right it may give; dropped
/// before, the right goes back to the book.
pub struct Owed(oneshot::Receiver<Reply>);

impl Future for Owed {
    type Output = Option<Said>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Said>> {
        Pin::new(&mut self.0).poll(context).map(|reply| {
            let Reply { said, mut grant } = reply.ok()?;
            // The caller has the answer in this very step, and with it what the grant guards.
            grant.0 = None;
            Some(said)
        })
    }
}

/// Makes a [`Store`](farthing_core::Store) of a type that [`Asks`].
#[macro_export]
macro_rules! store_that_asks {
    ($store:ty) => {
        const _: () = {
            use ::farthing_core::{Answer, BoxFuture, Ordered, Store, StoreError};
            use ::farthing_ledger::{
                Claim, ClaimError, ClaimRequest, Entry, EntryError, EraseError, Erased, Erasure, Finding, Fingerprint, Outcome, PaymentId, Record, RefundError, RefundId, RefundRequest, Settlement, TraceId, Channel, ChannelError, ChannelId, ChannelNews, ChannelStep, ChannelsHeard, ChannelsPlace,
                Subscription, SubscriptionError, SubscriptionStep, SubscriptionsDue,
                VoidReason, Work,
            };
            use ::farthing_money::Timestamp;
            use $crate::{Ask, Asks, Said};

            // A store that says something else than what it was asked does not answer.
            macro_rules! asked {
                ($self:ident, $ask:expr, $said:pat => $is:expr, $otherwise:expr) => {{
                    let ask = $ask;
                    Box::pin(async move {
                        let Some($said) = Asks::ask($self, ask).await else {
                            return Err($otherwise);
                        };
                        $is
                    })
                }};
            }

            impl Store for $store {
                fn claim(
                    &self,
                    request: ClaimRequest,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<Claim, ClaimError>> {
                    asked!(self, Ask::Claim(Box::new(request), now),
                        Said::Claim(claim) => claim, ClaimError::Unavailable)
                }

                fn is_claimed(
                    &self,
                    proof: Fingerprint,
                ) -> BoxFuture<'_, Result<bool, StoreError>> {
                    asked!(self, Ask::IsClaimed(proof), Said::Known(known) => Ok(known), StoreError)
                }

                fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>> {
                    asked!(self, Ask::Work, Said::Work(work) => Ok(*work), StoreError)
                }

                fn take_up(&self, payment: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>> {
                    asked!(self, Ask::TakeUp(payment), Said::TakenUp(taken) => Ok(taken), StoreError)
                }

                fn post(
                    &self,
                    payment: PaymentId,
                    settlement: Settlement,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::Post(payment, settlement, now), Said::Done => Ok(()), StoreError)
                }

                fn void(
                    &self,
                    payment: PaymentId,
                    reason: VoidReason,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::Void(payment, reason, now), Said::Voided(_) => Ok(()), StoreError)
                }

                fn deliver(
                    &self,
                    payment: PaymentId,
                    outcome: Outcome,
                    answer: Option<Answer>,
                    now: Timestamp,
                ) {
                    Asks::tell(self, Ask::deliver(payment, outcome, answer, now));
                }

                fn record_delivery(
                    &self,
                    payment: PaymentId,
                    outcome: Outcome,
                    answer: Option<Answer>,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::deliver(payment, outcome, answer, now),
                        Said::Known(true) => Ok(()), StoreError)
                }

                fn fail(&self, payment: PaymentId, outcome: Outcome, now: Timestamp) {
                    Asks::tell(self, Ask::Fail(payment, outcome, now));
                }

                fn answer(
                    &self,
                    payment: PaymentId,
                ) -> BoxFuture<'_, Result<Option<Answer>, StoreError>> {
                    asked!(self, Ask::Answer(payment),
                        Said::Answer(answer) => Ok(answer.map(|answer| *answer)), StoreError)
                }

                fn give_back(&self, payment: PaymentId, begun: bool) {
                    Asks::tell(self, Ask::GiveBack(payment, begun));
                }

                fn refund(
                    &self,
                    request: RefundRequest,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<Ordered, RefundError>> {
                    asked!(self, Ask::Refund(Box::new(request), now),
                        Said::Refund(refund) => {
                            refund.map(|(standing, is_new)| Ordered { standing, is_new })
                        },
                        RefundError::Unavailable)
                }

                fn post_refund(
                    &self,
                    payment: PaymentId,
                    refund: RefundId,
                    settlement: Settlement,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::PostRefund(payment, refund, settlement, now),
                        Said::Done => Ok(()), StoreError)
                }

                fn void_refund(
                    &self,
                    payment: PaymentId,
                    refund: RefundId,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::VoidRefund(payment, refund, now),
                        Said::Done => Ok(()), StoreError)
                }

                fn reconcile(
                    &self,
                    payment: PaymentId,
                    finding: Finding,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::Reconcile(payment, finding, now),
                        Said::Done => Ok(()), StoreError)
                }

                fn step(
                    &self,
                    step: ChannelStep,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<Channel, ChannelError>> {
                    asked!(self, Ask::Step(Box::new(step), now),
                        Said::Channel(channel) => channel.map(|channel| *channel),
                        ChannelError::Unavailable)
                }

                fn channels(&self) -> BoxFuture<'_, Result<Vec<Channel>, StoreError>> {
                    asked!(self, Ask::Channels,
                        Said::Channels(channels) => Ok(channels), StoreError)
                }

                fn channel_news(
                    &self,
                    since: Option<ChannelsPlace>,
                    named: Vec<ChannelId>,
                ) -> BoxFuture<'_, Result<ChannelNews, StoreError>> {
                    asked!(self, Ask::ChannelNews(since, named),
                        Said::ChannelNews(news) => Ok(*news), StoreError)
                }

                fn heard_of_channels(
                    &self,
                    heard: ChannelsHeard,
                ) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::HeardOfChannels(Box::new(heard)),
                        Said::Done => Ok(()), StoreError)
                }

                fn owner(
                    &self,
                    budgets: Vec<$crate::BudgetKey>,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<$crate::OwnerView, StoreError>> {
                    asked!(self, Ask::Owner(budgets, now),
                        Said::Owner(view) => Ok(*view), StoreError)
                }

                fn subscribe(
                    &self,
                    step: SubscriptionStep,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<Subscription, SubscriptionError>> {
                    asked!(self, Ask::Subscribe(Box::new(step), now),
                        Said::Subscription(it) => it.map(|it| *it),
                        SubscriptionError::Unavailable)
                }

                fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
                    asked!(self, Ask::Subscriptions,
                        Said::Subscriptions(all) => Ok(all), StoreError)
                }

                fn subscriptions_due(
                    &self,
                    now: Timestamp,
                    grace: ::std::time::Duration,
                ) -> BoxFuture<'_, Result<SubscriptionsDue, StoreError>> {
                    asked!(self, Ask::SubscriptionsDue(now, grace),
                        Said::SubscriptionsDue(due) => Ok(*due), StoreError)
                }

                fn enter(
                    &self,
                    entry: Entry,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<bool, EntryError>> {
                    asked!(self, Ask::Enter(Box::new(entry), now),
                        Said::Entered(entered) => entered, EntryError::Unavailable)
                }

                fn erase(
                    &self,
                    erasure: Erasure,
                    now: Timestamp,
                ) -> BoxFuture<'_, Result<Erased, EraseError>> {
                    asked!(self, Ask::Erase(Box::new(erasure), now),
                        Said::Erased(erased) => erased, EraseError::Unavailable)
                }

                fn records(
                    &self,
                    from: u64,
                    limit: u32,
                ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
                    Box::pin(Asks::read(self, from, limit))
                }

                fn story(
                    &self,
                    trace: TraceId,
                ) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
                    Box::pin(Asks::read_story(self, trace))
                }

                fn noted(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
                    Box::pin(Asks::read_note(self, name.to_owned()))
                }

                fn note(&self, name: &str, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
                    asked!(self, Ask::Note(name.to_owned(), text),
                        Said::Done => Ok(()), StoreError)
                }

                fn leads(&self) -> bool {
                    Asks::leads(self)
                }
            }
        };
    };
}
