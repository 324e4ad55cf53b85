//! The store: the production book over the simulated disk, with a writer like the SQLite store's.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Answer, BoxFuture, Ordered, Store, StoreError};
use farthing_ledger::{
    AccountKind, Book, BudgetKey, Channel, ChannelError, ChannelEvent, ChannelId, ChannelNews,
    ChannelStep, ChannelsHeard, ChannelsPlace, Claim, ClaimError, ClaimRequest, Entry, EntryError,
    EraseError, Erased, Erasure, Event, Finding, Fingerprint, Outcome, OwnerView, PaymentId,
    Record, RefundError, RefundId, RefundRequest, Settlement, Subscription, SubscriptionError,
    SubscriptionState, SubscriptionStep, SubscriptionsDue, TraceId, VoidReason, Work,
    claimed_proofs,
};
use farthing_money::Timestamp;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::auditor::Ack;
use crate::disk::{Disk, Image, Line};
use crate::fault::Fault;
use crate::input::{Input, Output, decide};
use crate::sim::{Sim, State};
use crate::{Invariant, Planted};

/// A request of the book on its way to the writer.
pub(crate) struct Asked {
    input: Input,
    /// Guards what a claim hands over.
    grant: Option<Grant>,
    answer: Option<oneshot::Sender<Told>>,
}

/// What comes back.
struct Told {
    output: Output,
    grant: Option<Grant>,
    kept: Option<Answer>,
}

/// The right that a claim hands over, on its way to whoever claimed.
struct Grant {
    payment: PaymentId,
    jobs: Option<UnboundedSender<Asked>>,
}

impl Grant {
    fn keep(mut self) {
        self.jobs = None;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.take() {
            let input = Input::GiveBack(self.payment, false);
            // The writer gone, the next one starts with nothing held.
            let _ = jobs.send(Asked { input, grant: None, answer: None });
        }
    }
}

/// The callers' side.
pub(crate) struct SimStore {
    sim: Sim,
    jobs: UnboundedSender<Asked>,
}

impl SimStore {
    pub(crate) const fn new(sim: Sim, jobs: UnboundedSender<Asked>) -> Self {
        Self { sim, jobs }
    }

    fn send(&self, input: Input) {
        // The writer gone, nothing is written any more.
        let _ = self.jobs.send(Asked { input, grant: None, answer: None });
    }

    async fn ask(&self, input: Input) -> Option<Told> {
        self.sim.pause().await;
        if self.sim.fault(Fault::QueueFull) {
            return None;
        }
        let grant = if let Input::Claim(request, _) = &input {
            Some(Grant { payment: request.payment.id, jobs: Some(self.jobs.clone()) })
        } else {
            None
        };
        let (answer, answered) = oneshot::channel();
        let _ = self.jobs.send(Asked { input, grant, answer: Some(answer) });
        let told = answered.await.ok();
        self.sim.pause().await;
        told
    }

    /// Asks for something to be done, and tells the auditor when it is said to be durable.
    async fn order(&self, input: Input, ack: Ack) -> Result<(), StoreError> {
        self.ask(input).await.ok_or(StoreError)?;
        self.sim.with(|state| state.acknowledged(&ack));
        Ok(())
    }

    async fn read<T>(&self, read: impl FnOnce(&Image) -> T + Send) -> Result<T, StoreError> {
        self.sim.pause().await;
        if self.sim.fault(Fault::Unreadable) {
            return Err(StoreError);
        }
        Ok(self.sim.with(|state| read(&state.disk.image)))
    }
}

impl Store for SimStore {
    /// Nobody is erased in the simulator: its auditor knows every payer by name.
    fn erase(&self, _: Erasure, _: Timestamp) -> BoxFuture<'_, Result<Erased, EraseError>> {
        Box::pin(async { Err(EraseError::Unavailable) })
    }

    fn claim(
        &self,
        request: ClaimRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Claim, ClaimError>> {
        Box::pin(async move {
            let payment = request.payment.id;
            let told = self.ask(Input::Claim(Box::new(request), now)).await;
            let Some(Told { output: Output::Claim(claim), grant, .. }) = told else {
                return Err(ClaimError::Unavailable);
            };
            grant.into_iter().for_each(Grant::keep);
            if !matches!(claim, Ok(Claim::Pending(_))) {
                self.sim.note(&format!("{payment} claimed: {claim:?}"));
            }
            if claim == Ok(Claim::Fresh) {
                self.sim.with(|state| state.acknowledged(&Ack::Claimed(payment)));
            }
            if matches!(claim, Ok(Claim::Bought(..))) {
                self.sim.with(|state| state.acknowledged(&Ack::Posted(payment)));
            }
            claim
        })
    }

    fn is_claimed(&self, proof: Fingerprint) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::IsClaimed(proof)).await.ok_or(StoreError)?;
            let Output::Said(said) = told.output else { return Err(StoreError) };
            Ok(said)
        })
    }

    fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::Work).await.ok_or(StoreError)?;
            let Output::Work(work) = told.output else { return Err(StoreError) };
            Ok(work)
        })
    }

    fn take_up(&self, payment: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::TakeUp(payment)).await.ok_or(StoreError)?;
            let Output::Said(said) = told.output else { return Err(StoreError) };
            Ok(said)
        })
    }

    fn post(
        &self,
        payment: PaymentId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.order(Input::Post(payment, settlement, now), Ack::Posted(payment)))
    }

    fn void(
        &self,
        payment: PaymentId,
        reason: VoidReason,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.order(Input::Void(payment, reason, now), Ack::Finished(payment)))
    }

    fn deliver(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) {
        self.send(Input::Deliver(payment, outcome, answer.map(Box::new), now));
    }

    fn record_delivery(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let input = Input::Deliver(payment, outcome, answer.map(Box::new), now);
        Box::pin(async move {
            let told = self.ask(input).await.ok_or(StoreError)?;
            if !matches!(told.output, Output::Said(true)) {
                return Err(StoreError);
            }
            self.sim.with(|state| state.acknowledged(&Ack::Delivered(payment)));
            Ok(())
        })
    }

    fn fail(&self, payment: PaymentId, outcome: Outcome, now: Timestamp) {
        self.send(Input::Fail(payment, outcome, now));
    }

    fn answer(&self, payment: PaymentId) -> BoxFuture<'_, Result<Option<Answer>, StoreError>> {
        Box::pin(async move { Ok(self.ask(Input::Answer(payment)).await.ok_or(StoreError)?.kept) })
    }

    fn give_back(&self, payment: PaymentId, begun: bool) {
        self.send(Input::GiveBack(payment, begun));
    }

    fn refund(
        &self,
        request: RefundRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Ordered, RefundError>> {
        Box::pin(async move {
            let (payment, refund) = (request.refund.payment, request.refund.id);
            let reference = request.refund.reference.clone();
            let told = self.ask(Input::Refund(Box::new(request), now)).await;
            let told = told.ok_or(RefundError::Unavailable)?;
            let Output::Refund(ordered) = told.output else { return Err(RefundError::Unavailable) };
            self.sim.note(&format!("{payment} refund {reference}: {ordered:?}"));
            if ordered.is_ok() {
                self.sim.with(|state| state.acknowledged(&Ack::Refunded(payment, refund)));
            }
            ordered
        })
    }

    fn post_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ack = Ack::RefundFinished(payment, refund);
        Box::pin(self.order(Input::PostRefund(payment, refund, settlement, now), ack))
    }

    fn void_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ack = Ack::RefundFinished(payment, refund);
        Box::pin(self.order(Input::VoidRefund(payment, refund, now), ack))
    }

    fn reconcile(
        &self,
        payment: PaymentId,
        finding: Finding,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.order(Input::Reconcile(payment, finding, now), Ack::Claimed(payment)))
    }

    fn step(
        &self,
        step: ChannelStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Channel, ChannelError>> {
        Box::pin(async move {
            let told = self.ask(Input::Step(Box::new(step), now)).await;
            let Some(Told { output: Output::Channel(stepped), .. }) = told else {
                return Err(ChannelError::Unavailable);
            };
            if let Ok(channel) = &*stepped {
                self.sim.with(|state| state.acknowledged(&Ack::channel(channel)));
            }
            *stepped
        })
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<Channel>, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::Channels).await.ok_or(StoreError)?;
            let Output::Channels(channels) = told.output else { return Err(StoreError) };
            Ok(channels)
        })
    }

    fn channel_news(
        &self,
        since: Option<ChannelsPlace>,
        named: Vec<ChannelId>,
    ) -> BoxFuture<'_, Result<ChannelNews, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::News(since, named)).await.ok_or(StoreError)?;
            let Output::News(news) = told.output else { return Err(StoreError) };
            Ok(*news)
        })
    }

    fn heard_of_channels(&self, heard: ChannelsHeard) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.ask(Input::Heard(Box::new(heard))).await.map(drop).ok_or(StoreError)
        })
    }

    fn owner(
        &self,
        _: Vec<BudgetKey>,
        _: Timestamp,
    ) -> BoxFuture<'_, Result<OwnerView, StoreError>> {
        // Nobody pays from a wallet here.
        Box::pin(async { Err(StoreError) })
    }

    fn subscribe(
        &self,
        step: SubscriptionStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Subscription, SubscriptionError>> {
        Box::pin(async move {
            let id = step.id();
            let in_words = self.sim.is_planted(Planted::CancelsInWords);
            let says = if let SubscriptionStep::Cancel { by, .. } = &step {
                in_words.then_some(SubscriptionState::Cancelled { by: *by })
            } else {
                None
            };
            let step = if says.is_some() { SubscriptionStep::Look { id } } else { step };
            let looks = matches!(step, SubscriptionStep::Look { .. });
            let told = self.ask(Input::Subscribe(Box::new(step), now)).await;
            let Some(Told { output: Output::Subscription(stepped), .. }) = told else {
                return Err(SubscriptionError::Unavailable);
            };
            let mut it = (*stepped)?;
            it.state = says.filter(|_| !it.state.is_over()).unwrap_or(it.state);
            if !looks || says.is_some() {
                self.sim.note(&format!("{id} stands: {:?}, {} charges", it.state, it.charges));
            }
            self.sim.with(|state| state.acknowledged(&Ack::subscription(&it)));
            Ok(it)
        })
    }

    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::Subscriptions).await.ok_or(StoreError)?;
            let Output::Subscriptions(all) = told.output else { return Err(StoreError) };
            Ok(all)
        })
    }

    fn subscriptions_due(
        &self,
        now: Timestamp,
        grace: Duration,
    ) -> BoxFuture<'_, Result<SubscriptionsDue, StoreError>> {
        Box::pin(async move {
            let told = self.ask(Input::SubscriptionsDue(now, grace)).await.ok_or(StoreError)?;
            let Output::SubscriptionsDue(due) = told.output else { return Err(StoreError) };
            Ok(due)
        })
    }

    fn enter(&self, entry: Entry, now: Timestamp) -> BoxFuture<'_, Result<bool, EntryError>> {
        Box::pin(async move {
            let told = self.ask(Input::Enter(Box::new(entry), now)).await;
            let Some(Told { output: Output::Entered(entered), .. }) = told else {
                return Err(EntryError::Unavailable);
            };
            entered
        })
    }

    fn records(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Box::pin(self.read(move |image| {
            image.records.iter().filter(|it| it.seq >= from).take(limit).cloned().collect()
        }))
    }

    fn story(&self, trace: TraceId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.read(move |image| {
            image.records.iter().filter(|it| it.trace == Some(trace)).cloned().collect()
        }))
    }

    fn noted(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let name = name.to_owned();
        Box::pin(self.read(move |image| image.noted(&name)))
    }

    fn note(&self, name: &str, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        let input = Input::Note(name.to_owned(), text);
        Box::pin(async move { self.ask(input).await.map(drop).ok_or(StoreError) })
    }
}

/// What one writer was asked and did, in order, to be done again by another.
pub(crate) struct Life {
    before: Image,
    opened_at: Timestamp,
    deeds: Vec<Deed>,
    written: Vec<String>,
}

enum Deed {
    Decided(Input),
    Committed,
    /// A snapshot was taken, and what was outdated then swept away.
    Saved(Timestamp),
}

impl Life {
    /// Does the same again from the same beginning, and compares what is written, byte for byte.
    fn again(self) -> Result<(), String> {
        let mut image = self.before;
        let mut book = image.book(self.opened_at).map_err(|seq| format!("record {seq}"))?;
        let mut written = vec![book.open(self.opened_at)];
        let mut committed = 0;
        for deed in self.deeds {
            match deed {
                Deed::Decided(input) => {
                    written.extend(decide(&mut book, &image, input).record);
                }
                Deed::Committed => {
                    for record in written.get(committed..).unwrap_or_default() {
                        image.apply(Line::Record(record.clone()));
                        for (proof, _) in claimed_proofs(record) {
                            book.shelve(&proof);
                        }
                    }
                    committed = written.len();
                }
                Deed::Saved(now) => {
                    image.apply(Line::Snapshot(Box::new(book.snapshot()), now));
                }
            }
        }
        let again = written.iter().map(Record::to_json);
        match again.zip(&self.written).find(|(again, first)| again != *first) {
            Some((again, first)) => Err(format!("{first} and, done again, {again}")),
            None if written.len() != self.written.len() => Err("more or fewer records".to_owned()),
            None => Ok(()),
        }
    }
}

/// The one that writes: the writer of the SQLite store, with a place to die before and after everything.
pub(crate) struct Writer {
    sim: Sim,
    book: Book,
    life: Option<Life>,
    now: Timestamp,
    unsaved: usize,
}

impl Writer {
    /// Takes over the book that is on the disk; nothing if the disk is full.
    pub(crate) fn open(sim: &Sim) -> Option<Self> {
        let now = sim.clock();
        sim.with(|state| {
            let before = state.disk.image.clone();
            let mut book = match before.book(now) {
                Ok(book) => book,
                Err(seq) => {
                    state.breaks(Invariant::Gapless, format!("record {seq} does not follow"));
                    return None;
                }
            };
            if let Err(what) = state.auditor.compare(&before, &book) {
                state.breaks(Invariant::Rebuilt, what);
            }
            if state.planted == Some(Planted::ForgetsProofs) {
                // A snapshot does not contain them.
                book = Book::restore(book.snapshot());
                state.disk.image.forget_proofs();
            }
            if state.disk.full_until > state.now {
                return None;
            }
            let opened = book.open(now);
            state.disk.write(&[Line::Record(opened.clone())]);
            if state.fault(Fault::CrashAtStart) {
                state.lose_power();
                return None;
            }
            state.disk.sync();
            let forgets = state.planted == Some(Planted::ForgetsProofs);
            let life = Life {
                before,
                opened_at: now,
                deeds: vec![Deed::Committed],
                written: vec![opened.to_json()],
            };
            let life = (!forgets).then_some(life);
            Some(Self { sim: sim.clone(), book, life, now, unsaved: 0 })
        })
    }

    /// Works until it may not write any more.
    pub(crate) async fn run(mut self, mut queue: UnboundedReceiver<Asked>) {
        while let Some(first) = queue.recv().await {
            let batch_max = self.sim.between(0, 8);
            let more = (0..batch_max).map_while(|_| queue.try_recv().ok());
            let batch: Vec<Asked> = std::iter::once(first).chain(more).collect();
            if self.work(batch).await.is_none() {
                self.sim.note("the book stops");
                self.sim.with(|state| state.is_stopping = true);
                return;
            }
        }
    }

    /// Decides a batch, writes it, and only then answers; nothing if it could not be written.
    async fn work(&mut self, batch: Vec<Asked>) -> Option<()> {
        let (mut lines, mut replies, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
        for Asked { input, grant, answer } in batch {
            if let Input::Claim(_, now)
            | Input::Enter(_, now)
            | Input::Step(_, now)
            | Input::Subscribe(_, now) = &input
            {
                self.now = *now;
            }
            self.life.iter_mut().for_each(|it| it.deeds.push(Deed::Decided(input.clone())));
            let decided = self.sim.with(|state| decide(&mut self.book, &state.disk.image, input));
            let record = decided.record;
            if let Some(mut record) = record {
                if self.sim.is_planted(Planted::WritesAnotherTime) {
                    record.at = self.sim.clock();
                }
                self.sim.with(|state| state.spoil(&mut record));
                self.life.iter_mut().for_each(|it| it.written.push(record.to_json()));
                proofs.extend(claimed_proofs(&record));
                lines.push(Line::Record(record));
            }
            lines.extend(
                decided.answered.map(|(answered, kept)| Line::Answer(Box::new(answered), kept)),
            );
            lines.extend(decided.note.map(|(name, text)| Line::Note(name, text)));
            replies.extend(answer.map(|answer| (decided.output, grant, answer)));
        }
        if self.sim.is_planted(Planted::AnswersBeforeSync) {
            replies.drain(..).for_each(|reply| self.reply(reply));
        }
        if !lines.is_empty() {
            self.unsaved = self.unsaved.saturating_add(lines.len());
            if self.sim.is_planted(Planted::SkipsARecord) && self.sim.between(0, 30) == 0 {
                Disk::skip(&mut lines);
            }
            self.commit(&lines).await?;
            for (proof, _) in proofs {
                self.book.shelve(&proof);
            }
        }
        for reply in replies {
            self.reply(reply);
        }
        if self.unsaved > 40 {
            self.unsaved = 0;
            let snapshot = Line::Snapshot(Box::new(self.book.snapshot()), self.now);
            self.sync(&[snapshot]).await?;
            self.life.iter_mut().for_each(|it| it.deeds.push(Deed::Saved(self.now)));
        }
        Some(())
    }

    async fn commit(&mut self, lines: &[Line]) -> Option<()> {
        self.sync(lines).await?;
        self.life.iter_mut().for_each(|it| it.deeds.push(Deed::Committed));
        self.sim.pause().await;
        Some(())
    }

    /// Writes and syncs; nothing if the disk refuses.
    async fn sync(&self, lines: &[Line]) -> Option<()> {
        self.sim.pause().await;
        self.sim.with(|state| {
            if state.fault(Fault::DiskFull) {
                let span = state.random.between(1, 120);
                state.disk.full_until = state.now.after(std::time::Duration::from_secs(span));
            }
            (state.disk.full_until <= state.now).then(|| state.disk.write(lines))
        })?;
        self.sim.pause().await;
        if self.sim.fault(Fault::SyncFails) {
            return None;
        }
        self.sim.with(|state| state.disk.sync());
        Some(())
    }

    fn reply(&self, (output, grant, answer): (Output, Option<Grant>, oneshot::Sender<Told>)) {
        let holds = matches!(
            output,
            Output::Claim(Ok(Claim::Fresh
                | Claim::Bought(..)
                | Claim::Unsettled
                | Claim::Abandoned
                | Claim::Undelivered(_)))
        );
        let grant = if holds {
            grant
        } else {
            grant.into_iter().for_each(Grant::keep);
            None
        };
        let kept = if let Output::Answer(payment) = output {
            self.sim.with(|state| state.disk.image.answer(payment))
        } else {
            None
        };
        drop(answer.send(Told { output, grant, kept }));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(Err(what)) = self.life.take().map(Life::again) {
            self.sim.breaks(Invariant::Replayable, what);
        }
    }
}

/// The port of a store whose writer is somewhere else.
pub(crate) fn port(sim: &Sim, jobs: UnboundedSender<Asked>) -> Arc<dyn Store> {
    Arc::new(SimStore::new(sim.clone(), jobs))
}

impl State {
    /// Spoils a record of a session or a subscription, where that is planted.
    fn spoil(&self, record: &mut Record) {
        match (&mut record.event, self.planted) {
            (Event::Claimed { payment, .. }, Some(Planted::ChargesTheLastPeriod)) => {
                if let Some(part) = payment.subscription.as_mut().filter(|it| it.is_charge()) {
                    part.period = part.period.saturating_sub(1);
                }
            }
            (Event::Claimed { payment, .. }, Some(Planted::VoucherGoesBack)) => {
                if let Some(voucher) = &mut payment.voucher {
                    voucher.cumulative = voucher.cumulative.div_ceil(3);
                }
            }
            (
                Event::Channel { step: ChannelEvent::Closed { .. }, .. },
                Some(Planted::KeepsTheRest),
            ) => {
                record.transfers.retain(|it| it.debit.kind != AccountKind::Channel);
            }
            _ => {}
        }
    }
}
