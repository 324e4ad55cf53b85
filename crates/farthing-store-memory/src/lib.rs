//! A book in memory: for tests, demos and embedding without a disk.
//!
//! It keeps every promise of [`Store`] but durability: the journal lives as long as the [`Paper`]
//! it is written on. Opening a second store on the same paper is what a restart would be.
//!
//! **Architecture invariant:** passes the store suite of the testkit; a behaviour that is not in
//! the suite is not relied upon.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_core::{Answer, BoxFuture, Ordered, Store, StoreError};
use farthing_ledger::merkle::Tree;
use farthing_ledger::{
    Book, BudgetKey, Channel, ChannelError, ChannelId, ChannelNews, ChannelStep, ChannelsHeard,
    ChannelsPlace, Claim, ClaimError, ClaimRequest, Cold, Entry, EntryError, EraseError, Erased,
    Erasure, Finding, Fingerprint, Leaves, Outcome, OwnerView, PaymentId, Proof, Record,
    RefundError, RefundId, RefundRequest, Seal, Sealer, Settlement, Subscription,
    SubscriptionError, SubscriptionStep, SubscriptionsDue, Survey, TraceId, VoidReason, Work,
    claimed_proofs,
};
use farthing_money::Timestamp;

/// How many answers are kept before those that nobody can ask for any more are dropped.
const ANSWERS_KEPT: usize = 10_000;

/// A journal in memory, and the answers that were kept. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Paper {
    records: Arc<Mutex<Vec<Record>>>,
    seals: Arc<Mutex<Vec<Seal>>>,
    answers: Arc<Mutex<BTreeMap<PaymentId, Answer>>>,
    notes: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Paper {
    /// The records so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        lock(&self.records).clone()
    }

    /// The seals so far, one for each record.
    #[must_use]
    pub fn seals(&self) -> Vec<Seal> {
        lock(&self.seals).clone()
    }
}

/// A store that forgets everything with its [`Paper`].
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: Book,
    sealer: Sealer,
    index: Index,
    paper: Paper,
}

/// Every proof ever claimed.
#[derive(Debug, Default)]
struct Index(BTreeSet<Fingerprint>);

impl Cold for Index {
    fn is_claimed(&self, proof: &Proof) -> Result<bool, ClaimError> {
        Ok(self.0.contains(&proof.fingerprint))
    }
}

impl MemoryStore {
    /// Takes over the journal on `paper`, as a restarted process would.
    ///
    /// # Panics
    ///
    /// If the paper was not written by this type: its records must follow one another.
    #[must_use]
    pub fn open(paper: Paper, now: Timestamp) -> Self {
        let (book, sealer, index) = Default::default();
        let mut state = State { book, sealer, index, paper };
        let (mut leaves, mut tree) = (Leaves::default(), Tree::default());
        for (record, seal) in state.paper.records().iter().zip(state.paper.seals()) {
            let replayed = state.book.replay(record);
            assert_eq!(replayed, Ok(()), "paper is only ever written by a book");
            state.index.note(record);
            let sealed = seal.leaves.first().copied();
            tree.push(leaves.line(record.seq, sealed, &record.to_json()));
            leaves.record(record);
            state.sealer = Sealer::after(tree.clone(), seal.chain);
        }
        assert_eq!(leaves.unexplained(), Vec::new(), "paper is only ever written by a book");
        let opened = state.book.open(now);
        state.write(Some(opened));
        Self { state: Mutex::new(state) }
    }

    /// A store on fresh paper.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self::open(Paper::default(), now)
    }

    /// The records so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        lock(&self.state).paper.records()
    }

    /// How many payments were claimed and are neither delivered nor given up.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        lock(&self.state).book.unfinished()
    }
}

impl Index {
    fn note(&mut self, record: &Record) {
        self.0.extend(claimed_proofs(record).iter().map(|(proof, _)| proof.fingerprint));
    }
}

impl State {
    fn write(&mut self, record: Option<Record>) {
        if let Some(record) = record {
            self.index.note(&record);
            let seal = self.sealer.seal([record.to_json()]);
            lock(&self.paper.seals).push(seal);
            lock(&self.paper.records).push(record);
        }
    }
}

impl State {
    /// Writes rows anew, and their records.
    fn erase(&mut self, erasure: Erasure, now: Timestamp) -> Result<Erased, EraseError> {
        let mut survey = Survey::begin(erasure);
        let mut records = self.paper.records();
        for record in &records {
            survey.take(record);
        }
        let plan = survey.end(&self.book)?;
        let mut rows = Vec::new();
        for record in &mut records {
            if let Some(row) = plan.rewrite(record.seq, &record.to_json())? {
                // What was just written is a record.
                *record = Record::from_json(row.line.as_bytes())
                    .map_err(|_| EraseError::Damaged(record.seq))?;
                rows.push(row);
            }
        }
        *lock(&self.paper.records) = records;
        for (before, after) in rows.iter().flat_map(|row| &row.proofs) {
            self.index.0.remove(&before.fingerprint);
            self.index.0.insert(after.fingerprint);
        }
        lock(&self.paper.answers).retain(|payment, _| !plan.payments().contains(payment));
        for record in self.book.erase(&plan, &rows, now) {
            self.write(Some(record));
        }
        Ok(Erased { wiped: true, ..plan.counts(&rows) })
    }
}

impl Store for MemoryStore {
    fn erase(&self, erasure: Erasure, now: Timestamp) -> BoxFuture<'_, Result<Erased, EraseError>> {
        Box::pin(async move { lock(&self.state).erase(erasure, now) })
    }

    fn claim(
        &self,
        request: ClaimRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Claim, ClaimError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let State { book, index, .. } = &mut *state;
            let (claim, record) = book.claim(request, index, now)?;
            state.write(record);
            Ok(claim)
        })
    }

    fn post(
        &self,
        payment: PaymentId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let record = state.book.post(payment, settlement, now);
            state.write(record);
            Ok(())
        })
    }

    fn void(
        &self,
        payment: PaymentId,
        reason: VoidReason,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let record = state.book.void(payment, reason, now);
            state.write(record);
            Ok(())
        })
    }

    fn deliver(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) {
        let mut state = lock(&self.state);
        let kept = Answer::digest(answer.as_ref());
        let record = state.book.deliver_kept(payment, outcome, Some(kept), now);
        if let (Some(answer), Some(_)) = (answer, &record) {
            let mut answers = lock(&state.paper.answers);
            answers.insert(payment, answer);
            if answers.len() > ANSWERS_KEPT {
                answers.retain(|payment, _| state.book.answered(*payment).is_some());
            }
        }
        state.write(record);
    }

    fn record_delivery(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.deliver(payment, outcome, answer, now);
            let is_noted = lock(&self.state).book.answered(payment).is_some();
            if is_noted { Ok(()) } else { Err(StoreError) }
        })
    }

    fn fail(&self, payment: PaymentId, outcome: Outcome, now: Timestamp) {
        let mut state = lock(&self.state);
        let record = state.book.fail(payment, outcome, now);
        state.write(record);
    }

    fn answer(&self, payment: PaymentId) -> BoxFuture<'_, Result<Option<Answer>, StoreError>> {
        Box::pin(async move {
            let state = lock(&self.state);
            let answer = lock(&state.paper.answers).get(&payment).cloned();
            Ok(answer)
        })
    }

    fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.work()) })
    }

    fn refund(
        &self,
        request: RefundRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Ordered, RefundError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let (standing, record) = state.book.refund(request, now)?;
            let is_new = record.is_some();
            state.write(record);
            Ok(Ordered { standing, is_new })
        })
    }

    fn post_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let record = state.book.post_refund(payment, refund, settlement, now);
            state.write(record);
            Ok(())
        })
    }

    fn void_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let record = state.book.void_refund(payment, refund, now);
            state.write(record);
            Ok(())
        })
    }

    fn reconcile(
        &self,
        payment: PaymentId,
        finding: Finding,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let record = state.book.reconcile(payment, finding, now);
            state.write(record);
            Ok(())
        })
    }

    fn step(
        &self,
        step: ChannelStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Channel, ChannelError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let State { book, index, .. } = &mut *state;
            let (channel, record) = book.step(step, index, now)?;
            state.write(record);
            Ok(channel)
        })
    }

    fn owner(
        &self,
        budgets: Vec<BudgetKey>,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<OwnerView, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.owner(budgets, now)) })
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<Channel>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.channels().cloned().collect()) })
    }

    fn channel_news(
        &self,
        since: Option<ChannelsPlace>,
        named: Vec<ChannelId>,
    ) -> BoxFuture<'_, Result<ChannelNews, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.channel_news(since, &named)) })
    }

    fn heard_of_channels(&self, heard: ChannelsHeard) -> BoxFuture<'_, Result<(), StoreError>> {
        lock(&self.state).book.heard_of_channels(&heard);
        Box::pin(async { Ok(()) })
    }

    fn subscribe(
        &self,
        step: SubscriptionStep,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Subscription, SubscriptionError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let State { book, index, .. } = &mut *state;
            let (subscription, record) = book.subscribe(step, index, now)?;
            state.write(record);
            Ok(subscription)
        })
    }

    fn subscriptions(&self) -> BoxFuture<'_, Result<Vec<Subscription>, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.subscriptions().cloned().collect()) })
    }

    fn subscriptions_due(
        &self,
        now: Timestamp,
        grace: Duration,
    ) -> BoxFuture<'_, Result<SubscriptionsDue, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.subscriptions_due(now, grace)) })
    }

    fn take_up(&self, payment: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.take_up(payment)) })
    }

    fn is_claimed(&self, proof: Fingerprint) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move { Ok(lock(&self.state).book.knows(&proof)) })
    }

    fn give_back(&self, payment: PaymentId, begun: bool) {
        lock(&self.state).book.give_back(payment, begun);
    }

    fn enter(&self, entry: Entry, now: Timestamp) -> BoxFuture<'_, Result<bool, EntryError>> {
        Box::pin(async move {
            let mut state = lock(&self.state);
            let State { book, index, .. } = &mut *state;
            let record = book.enter(entry, index, now)?;
            let is_new = record.is_some();
            state.write(record);
            Ok(is_new)
        })
    }

    fn records(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        Box::pin(async move {
            let state = lock(&self.state);
            let records = lock(&state.paper.records);
            Ok(records.iter().filter(|it| it.seq >= from).take(wanted).cloned().collect())
        })
    }

    fn story(&self, trace: TraceId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(async move {
            let state = lock(&self.state);
            let records = lock(&state.paper.records);
            Ok(records.iter().filter(|it| it.trace == Some(trace)).cloned().collect())
        })
    }

    fn noted(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let noted = lock(&lock(&self.state).paper.notes).get(name).cloned();
        Box::pin(async move { Ok(noted) })
    }

    fn note(&self, name: &str, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        lock(&lock(&self.state).paper.notes).insert(name.to_owned(), text);
        Box::pin(async move { Ok(()) })
    }
}

/// A panic elsewhere leaves the book as the last whole step left it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
