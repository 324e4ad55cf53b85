//! A book in one SQLite file: the embedded default.
//!
//! ```text
//! callers ──► queue ──► one writer thread ──► BEGIN … COMMIT + fsync ──► every caller of the batch
//!                        │ drains the queue, no timer: batches form by themselves under load
//!                        └ the Book, in memory: decides each request before it is written
//! ```
//!
//! A second thread copies the write-ahead log into the file beside the writer, and the writer only the
//! rest, so that nobody waits for a checkpoint.
//!
//! The `journal` table is the truth and only ever grows; triggers refuse anything else. Beside it
//! stand an index of claimed `proof`s and, now and then, a `snapshot` of the book, from which a
//! start needs to read only the journal's tail.
//!
//! # Crash safety
//!
//! WAL with `synchronous=FULL`: a caller is answered after the commit that contains its record has
//! been synced. An error while writing stops the writer for good: the book in memory is then ahead
//! of the disk and must not answer again. Whoever opens the file next continues from what is there.
//!
//! **Architecture invariant:** one writer per file, kept by a lock on a file beside it.
//!
//! **Architecture invariant:** passes the store suite of the testkit; a behaviour that is not in
//! the suite is not relied upon.

mod checkpoint;
mod file;
mod reader;
mod writer;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use farthing_core::{Answer, BoxFuture, Ordered, Store, StoreError};
use farthing_ledger::{
    Claim, ClaimError, ClaimRequest, Entry, EntryError, Finding, Fingerprint, Outcome, PaymentId,
    Record, RefundError, RefundId, RefundRequest, Settlement, TraceId, VoidReason, Work,
};
use farthing_money::Timestamp;
use tokio::sync::{oneshot, watch};

pub use file::OpenError;
pub use reader::{ReadError, Reader};

use writer::{Counts, Job, Writer};

/// How the store behaves under load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many requests may wait for the writer; the next one is told to try again later.
    pub queue_max: usize,
    /// How many requests one commit may contain.
    pub batch_max: usize,
    /// After how many records the book is written down whole, so that a start stays quick.
    pub snapshot_every: u64,
    /// How long to wait for another program that has the file locked, such as a backup, before
    /// the disk counts as refusing.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_max: 4_096,
            batch_max: 1_024,
            snapshot_every: 50_000,
            lock_wait: Duration::from_secs(5),
        }
    }
}

/// An open book. Dropping it answers what is queued, writes a snapshot and closes the file.
pub struct SqliteStore {
    jobs: Option<Sender<Job>>,
    counts: Arc<Counts>,
    queue_max: usize,
    stopped: watch::Receiver<bool>,
    writer: Option<JoinHandle<()>>,
    /// Reads beside the writer.
    reader: Arc<Mutex<Reader>>,
}

impl SqliteStore {
    /// Opens the book at `path`, making it if there is none, and takes it over from whoever wrote
    /// it last.
    ///
    /// # Errors
    ///
    /// An [`OpenError`]: another process has it, it is not a book, or the disk says no.
    pub fn open(path: &Path, options: Options, now: Timestamp) -> Result<Self, OpenError> {
        let (jobs, queue) = mpsc::channel();
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let file = file::open(path, options.lock_wait, now)?;
        let mut writer = Writer::new(file, options, Arc::clone(&counts));
        writer.take_over(now)?;
        let run = move || {
            writer.run(&queue);
            // Nobody listening is fine: the store may be gone already.
            let _ = stop.send(true);
        };
        let reader = Reader::open(path)?;
        let thread = std::thread::Builder::new().name("book".into()).spawn(run);
        Ok(Self {
            jobs: Some(jobs),
            counts,
            queue_max: options.queue_max,
            stopped,
            writer: Some(thread.map_err(OpenError::Io)?),
            reader: Arc::new(Mutex::new(reader)),
        })
    }

    /// Whether the writer still runs. Once it has stopped, every request is refused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !*self.stopped.borrow()
    }

    /// Resolves when the writer has stopped, because the store was closed or could not write.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // The sender gone means the writer gone.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// How many requests wait for the writer.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.counts.waiting.load(Ordering::Relaxed)
    }

    /// How many payments were claimed and are neither delivered nor given up.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.counts.unfinished.load(Ordering::Relaxed)
    }

    /// Sends a request that somebody waits for, unless too many wait already.
    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<T>) -> Job) -> Option<T> {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= self.queue_max {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.send(job(answer));
        answered.await.ok()
    }

    /// Reads what is on disk, where it may take its time.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = Arc::clone(&self.reader);
        let read = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|_| StoreError)?.map_err(|_| StoreError)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The writer gone drops the job and with it the answer, which is how the caller knows.
            let _ = jobs.send(job);
        }
    }
}

/// The right to settle or deliver a payment, on its way to the caller who claimed it.
///
/// A caller may go away at any moment, even when the answer was sent and not yet read. The grant
/// then drops on the floor, and the right goes back to the book.
pub(crate) struct Grant {
    payment: PaymentId,
    give_back: Option<Sender<Job>>,
}

impl Grant {
    /// Hands the right over to whoever holds the grant.
    fn keep(mut self) {
        self.give_back = None;
    }

    /// A grant of nothing.
    fn keep_nothing(self) -> Option<Self> {
        self.keep();
        None
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(jobs) = self.give_back.take() {
            // The writer gone, the next one starts with nothing held.
            let _ = jobs.send(Job::GiveBack(self.payment, false));
        }
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to say here.
            let _ = writer.join();
        }
    }
}

impl Store for SqliteStore {
    fn claim(
        &self,
        request: ClaimRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Claim, ClaimError>> {
        let give_back = self.jobs.clone();
        let ask = self.ask(move |answer| {
            let grant = Grant { payment: request.payment.id, give_back };
            Job::Claim(Box::new(request), now, grant, answer)
        });
        Box::pin(async {
            let (claim, grant) = ask.await.unwrap_or((Err(ClaimError::Unavailable), None));
            // The caller has the answer in this very step, and with it what the grant guards.
            grant.into_iter().for_each(Grant::keep);
            claim
        })
    }

    fn post(
        &self,
        payment: PaymentId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.ask(move |answer| Job::Post(payment, settlement, now, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn void(
        &self,
        payment: PaymentId,
        reason: VoidReason,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.ask(move |answer| Job::Void(payment, reason, now, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn deliver(
        &self,
        payment: PaymentId,
        outcome: Outcome,
        answer: Option<Answer>,
        now: Timestamp,
    ) {
        self.send(Job::Deliver(payment, outcome, answer.map(Box::new), now));
    }

    fn fail(&self, payment: PaymentId, outcome: Outcome, now: Timestamp) {
        self.send(Job::Fail(payment, outcome, now));
    }

    fn answer(&self, payment: PaymentId) -> BoxFuture<'_, Result<Option<Answer>, StoreError>> {
        let ask = self.ask(move |answer| Job::Answer(payment, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn work(&self) -> BoxFuture<'_, Result<Work, StoreError>> {
        let ask = self.ask(Job::Work);
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn refund(
        &self,
        request: RefundRequest,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<Ordered, RefundError>> {
        let ask = self.ask(move |answer| Job::Refund(Box::new(request), now, answer));
        Box::pin(async { ask.await.unwrap_or(Err(RefundError::Unavailable)) })
    }

    fn post_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        settlement: Settlement,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.ask(move |answer| Job::PostRefund(payment, refund, settlement, now, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn void_refund(
        &self,
        payment: PaymentId,
        refund: RefundId,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.ask(move |answer| Job::VoidRefund(payment, refund, now, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn reconcile(
        &self,
        payment: PaymentId,
        finding: Finding,
        now: Timestamp,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let ask = self.ask(move |answer| Job::Reconcile(payment, finding, now, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn take_up(&self, payment: PaymentId) -> BoxFuture<'_, Result<bool, StoreError>> {
        let ask = self.ask(move |answer| Job::TakeUp(payment, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn is_claimed(&self, proof: Fingerprint) -> BoxFuture<'_, Result<bool, StoreError>> {
        let ask = self.ask(move |answer| Job::IsClaimed(proof, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }

    fn give_back(&self, payment: PaymentId, begun: bool) {
        self.send(Job::GiveBack(payment, begun));
    }

    fn enter(&self, entry: Entry, now: Timestamp) -> BoxFuture<'_, Result<bool, EntryError>> {
        let ask = self.ask(move |answer| Job::Enter(Box::new(entry), now, answer));
        Box::pin(async { ask.await.unwrap_or(Err(EntryError::Unavailable)) })
    }

    fn records(&self, from: u64, limit: u32) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.read(move |reader| reader.records(from, limit)))
    }

    fn story(&self, trace: TraceId) -> BoxFuture<'_, Result<Vec<Record>, StoreError>> {
        Box::pin(self.read(move |reader| reader.of_trace(trace)))
    }

    fn noted(&self, name: &str) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        let name = name.to_owned();
        Box::pin(self.read(move |reader| reader.noted(&name)))
    }

    fn note(&self, name: &str, text: String) -> BoxFuture<'_, Result<(), StoreError>> {
        let name = name.to_owned();
        let ask = self.ask(move |answer| Job::Note(name, text, answer));
        Box::pin(async { ask.await.ok_or(StoreError) })
    }
}
