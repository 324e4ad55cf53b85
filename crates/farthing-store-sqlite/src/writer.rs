//! The one thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use farthing_ledger::{
    Claim, ClaimError, ClaimRequest, Entry, EntryError, Outcome, PaymentId, Record, Settlement,
    VoidReason, claimed_proofs,
};
use farthing_money::Timestamp;
use tokio::sync::oneshot::Sender;

use crate::file::{self, BookFile, OnDisk, OpenError};
use crate::{Grant, Options};

/// One request of the book. Those that carry a sender are waited for.
pub(crate) enum Job {
    Claim(Box<ClaimRequest>, Timestamp, Grant, Sender<ClaimAnswer>),
    Post(PaymentId, Settlement, Timestamp, Sender<()>),
    Void(PaymentId, VoidReason, Timestamp, Sender<()>),
    Enter(Box<Entry>, Timestamp, Sender<Result<bool, EntryError>>),
    Deliver(PaymentId, Outcome, Timestamp),
    GiveBack(PaymentId),
}

/// A claim's answer, with what guards it on its way where there is something to guard.
pub(crate) type ClaimAnswer = (Result<Claim, ClaimError>, Option<Grant>);

/// An answer that may only be given once its batch is on disk.
enum Answer {
    Claim(ClaimAnswer, Sender<ClaimAnswer>),
    Done(Sender<()>),
    Entered(Result<bool, EntryError>, Sender<Result<bool, EntryError>>),
}

pub(crate) struct Writer {
    file: BookFile,
    options: Options,
    counts: Arc<Counts>,
    saved_at_seq: u64,
    now: Timestamp,
}

/// What others may see of the writer's work.
#[derive(Default)]
pub(crate) struct Counts {
    /// Requests that wait for it.
    pub(crate) waiting: AtomicUsize,
    /// Payments that were claimed and are not finished.
    pub(crate) unfinished: AtomicUsize,
}

impl Writer {
    pub(crate) fn new(file: BookFile, options: Options, counts: Arc<Counts>) -> Self {
        let saved_at_seq = file.book.seq();
        Self { file, options, counts, saved_at_seq, now: Timestamp::default() }
    }

    /// Writes down that this writer has the book now.
    pub(crate) fn take_over(&mut self, now: Timestamp) -> Result<(), OpenError> {
        self.now = now;
        let opened = self.file.book.open(now);
        self.commit(&[opened])?;
        Ok(())
    }

    /// Works until the queue is closed, or until a write fails.
    pub(crate) fn run(mut self, queue: &Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let more = queue.try_iter().take(self.options.batch_max.saturating_sub(1));
            let batch: Vec<Job> = std::iter::once(first).chain(more).collect();
            if let Err(error) = self.work(batch) {
                eprintln_once(&error);
                // Dropping the queue drops every answer that is owed, which callers see at once.
                return;
            }
        }
        // Closing: what is not saved now is read from the journal at the next start.
        let _ = file::save(&self.file.connection, &self.file.book, self.now);
    }

    /// Decides a batch, writes it, and only then answers.
    fn work(&mut self, batch: Vec<Job>) -> rusqlite::Result<()> {
        let mut records = Vec::new();
        let mut answers = Vec::with_capacity(batch.len());
        for job in batch {
            self.decide(job, &mut records, &mut answers);
        }
        if !records.is_empty() {
            self.commit(&records)?;
        }
        for answer in answers {
            self.give(answer);
        }
        let unsaved = self.file.book.seq().saturating_sub(self.saved_at_seq);
        if unsaved >= self.options.snapshot_every {
            file::save(&self.file.connection, &self.file.book, self.now)?;
            self.saved_at_seq = self.file.book.seq();
        }
        Ok(())
    }

    fn decide(&mut self, job: Job, records: &mut Vec<Record>, answers: &mut Vec<Answer>) {
        let BookFile { book, connection, .. } = &mut self.file;
        let cold = OnDisk(connection);
        match job {
            Job::Claim(request, now, grant, sender) => {
                self.now = now;
                let answer = book.claim(*request, &cold, now).map(|(claim, record)| {
                    records.extend(record);
                    claim
                });
                let holds = match answer {
                    Ok(Claim::Fresh | Claim::Unsettled | Claim::Undelivered(_)) => true,
                    Ok(Claim::Pending | Claim::Spent) | Err(_) => false,
                };
                let grant = if holds { Some(grant) } else { grant.keep_nothing() };
                answers.push(Answer::Claim((answer, grant), sender));
            }
            Job::Post(payment, settlement, now, sender) => {
                records.extend(book.post(payment, settlement, now));
                answers.push(Answer::Done(sender));
            }
            Job::Void(payment, reason, now, sender) => {
                records.extend(book.void(payment, reason, now));
                answers.push(Answer::Done(sender));
            }
            Job::Enter(entry, now, sender) => {
                self.now = now;
                let answer = book.enter(*entry, &cold, now).map(|record| {
                    let is_new = record.is_some();
                    records.extend(record);
                    is_new
                });
                answers.push(Answer::Entered(answer, sender));
            }
            Job::Deliver(payment, outcome, now) => {
                records.extend(book.deliver(payment, outcome, now));
            }
            Job::GiveBack(payment) => book.give_back(payment),
        }
    }

    fn commit(&mut self, records: &[Record]) -> rusqlite::Result<()> {
        let transaction = self.file.connection.unchecked_transaction()?;
        for record in records {
            file::append(&transaction, record)?;
        }
        transaction.commit()?;
        self.counts.unfinished.store(self.file.book.unfinished(), Ordering::Relaxed);
        self.file.checkpoint.committed(records.len(), &self.file.connection);
        for (proof, _) in records.iter().flat_map(claimed_proofs) {
            self.file.book.shelve(&proof);
        }
        Ok(())
    }

    fn give(&self, answer: Answer) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        match answer {
            Answer::Claim(answer, sender) => drop(sender.send(answer)),
            // Whoever went away meanwhile does not need to know.
            Answer::Done(sender) => drop(sender.send(())),
            Answer::Entered(answer, sender) => drop(sender.send(answer)),
        }
    }
}

/// Says once, where no logger may exist, why the book stopped.
#[expect(clippy::print_stderr, reason = "a book that stops must be heard even without a logger")]
fn eprintln_once(error: &rusqlite::Error) {
    eprintln!("farthing: the book cannot be written and stops: {error}");
}
