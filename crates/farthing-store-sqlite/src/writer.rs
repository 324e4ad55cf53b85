//! The one thread that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;

use farthing_core::{Answer, Ordered};
use farthing_ledger::{
    Answered, Claim, ClaimError, ClaimRequest, Entry, EntryError, Finding, Fingerprint, Outcome,
    PaymentId, Record, RefundError, RefundId, RefundRequest, Settlement, VoidReason, Work,
    claimed_proofs,
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
    Deliver(PaymentId, Outcome, Option<Box<Answer>>, Timestamp),
    Fail(PaymentId, Outcome, Timestamp),
    GiveBack(PaymentId, bool),
    Answer(PaymentId, Sender<Option<Answer>>),
    IsClaimed(Fingerprint, Sender<bool>),
    Work(Sender<Work>),
    Refund(Box<RefundRequest>, Timestamp, Sender<RefundAnswer>),
    PostRefund(PaymentId, RefundId, Settlement, Timestamp, Sender<()>),
    VoidRefund(PaymentId, RefundId, Timestamp, Sender<()>),
    Reconcile(PaymentId, Finding, Timestamp, Sender<()>),
    TakeUp(PaymentId, Sender<bool>),
    Note(String, String, Sender<()>),
}

/// A claim's answer, with what guards it on its way where there is something to guard.
pub(crate) type ClaimAnswer = (Result<Claim, ClaimError>, Option<Grant>);

/// What became of a refund that was asked for.
pub(crate) type RefundAnswer = Result<Ordered, RefundError>;

/// A reply that may only be given once its batch is on disk.
enum Reply {
    Claim(ClaimAnswer, Sender<ClaimAnswer>),
    Done(Sender<()>),
    /// What is kept is read once the batch that may keep it is on disk.
    Answer(PaymentId, Sender<Option<Answer>>),
    Said(bool, Sender<bool>),
    Work(Work, Sender<Work>),
    Refund(RefundAnswer, Sender<RefundAnswer>),
    Entered(Result<bool, EntryError>, Sender<Result<bool, EntryError>>),
}

/// What a batch of requests came to.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    answers: Vec<(Answered, Option<Box<Answer>>)>,
    notes: Vec<(String, String)>,
    replies: Vec<Reply>,
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
        self.commit(&Batch { records: vec![opened], ..Batch::default() })?;
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
    fn work(&mut self, jobs: Vec<Job>) -> rusqlite::Result<()> {
        let mut batch = Batch { replies: Vec::with_capacity(jobs.len()), ..Batch::default() };
        for job in jobs {
            self.decide(job, &mut batch);
        }
        if !batch.records.is_empty() || !batch.notes.is_empty() {
            self.commit(&batch)?;
        }
        for reply in batch.replies {
            self.give(reply);
        }
        let unsaved = self.file.book.seq().saturating_sub(self.saved_at_seq);
        if unsaved >= self.options.snapshot_every {
            file::save(&self.file.connection, &self.file.book, self.now)?;
            self.saved_at_seq = self.file.book.seq();
        }
        Ok(())
    }

    fn decide(&mut self, job: Job, batch: &mut Batch) {
        let BookFile { book, connection, .. } = &mut self.file;
        let cold = OnDisk(connection);
        match job {
            Job::Claim(request, now, grant, sender) => {
                self.now = now;
                let answer = book.claim(*request, &cold, now).map(|(claim, record)| {
                    batch.records.extend(record);
                    claim
                });
                let holds = match answer {
                    Ok(Claim::Fresh | Claim::Unsettled | Claim::Undelivered(_)) => true,
                    Ok(
                        Claim::Pending(_)
                        | Claim::Interrupted
                        | Claim::Delivered(..)
                        | Claim::GivenBack
                        | Claim::Spent,
                    )
                    | Err(_) => false,
                };
                let grant = if holds { Some(grant) } else { grant.keep_nothing() };
                batch.replies.push(Reply::Claim((answer, grant), sender));
            }
            Job::Post(payment, settlement, now, sender) => {
                batch.records.extend(book.post(payment, settlement, now));
                batch.replies.push(Reply::Done(sender));
            }
            Job::Void(payment, reason, now, sender) => {
                batch.records.extend(book.void(payment, reason, now));
                batch.replies.push(Reply::Done(sender));
            }
            Job::Enter(entry, now, sender) => {
                self.now = now;
                let answer = book.enter(*entry, &cold, now).map(|record| {
                    let is_new = record.is_some();
                    batch.records.extend(record);
                    is_new
                });
                batch.replies.push(Reply::Entered(answer, sender));
            }
            Job::Deliver(payment, outcome, answer, now) => {
                let record = book.deliver(payment, outcome, now);
                if let (Some(_), Some(answered)) = (&record, book.answered(payment)) {
                    batch.answers.push((answered, answer));
                }
                batch.records.extend(record);
            }
            Job::Fail(payment, outcome, now) => {
                batch.records.extend(book.fail(payment, outcome, now));
            }
            Job::GiveBack(payment, begun) => book.give_back(payment, begun),
            Job::Answer(payment, sender) => batch.replies.push(Reply::Answer(payment, sender)),
            Job::IsClaimed(proof, sender) => {
                batch.replies.push(Reply::Said(book.knows(&proof), sender));
            }
            Job::TakeUp(payment, sender) => {
                batch.replies.push(Reply::Said(book.take_up(payment), sender));
            }
            Job::Note(name, text, sender) => {
                batch.notes.push((name, text));
                batch.replies.push(Reply::Done(sender));
            }
            Job::Work(sender) => batch.replies.push(Reply::Work(book.work(), sender)),
            Job::Refund(request, now, sender) => {
                let answer = book.refund(*request, now).map(|(standing, record)| {
                    let is_new = record.is_some();
                    batch.records.extend(record);
                    Ordered { standing, is_new }
                });
                batch.replies.push(Reply::Refund(answer, sender));
            }
            Job::PostRefund(payment, refund, settlement, now, sender) => {
                batch.records.extend(book.post_refund(payment, refund, settlement, now));
                batch.replies.push(Reply::Done(sender));
            }
            Job::VoidRefund(payment, refund, now, sender) => {
                batch.records.extend(book.void_refund(payment, refund, now));
                batch.replies.push(Reply::Done(sender));
            }
            Job::Reconcile(payment, finding, now, sender) => {
                batch.records.extend(book.reconcile(payment, finding, now));
                batch.replies.push(Reply::Done(sender));
            }
        }
    }

    fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let records = &batch.records;
        let transaction = self.file.connection.unchecked_transaction()?;
        for record in records {
            file::append(&transaction, record)?;
        }
        for (answered, answer) in &batch.answers {
            file::keep_answer(&transaction, answered, answer.as_deref())?;
        }
        for (name, text) in &batch.notes {
            file::keep_note(&transaction, name, text)?;
        }
        transaction.commit()?;
        self.counts.unfinished.store(self.file.book.unfinished(), Ordering::Relaxed);
        self.file.checkpoint.committed(records.len(), &self.file.connection);
        for (proof, _) in records.iter().flat_map(claimed_proofs) {
            self.file.book.shelve(&proof);
        }
        Ok(())
    }

    fn give(&self, reply: Reply) {
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        match reply {
            Reply::Claim(answer, sender) => drop(sender.send(answer)),
            // Whoever went away meanwhile does not need to know.
            Reply::Done(sender) => drop(sender.send(())),
            Reply::Answer(payment, sender) => {
                // What cannot be read is not answered, which the asker takes for an outage.
                if let Ok(answer) = file::answer(&self.file.connection, payment) {
                    drop(sender.send(answer));
                }
            }
            Reply::Said(said, sender) => drop(sender.send(said)),
            Reply::Work(work, sender) => drop(sender.send(work)),
            Reply::Refund(answer, sender) => drop(sender.send(answer)),
            Reply::Entered(answer, sender) => drop(sender.send(answer)),
        }
    }
}

/// Says once, where no logger may exist, why the book stopped.
#[expect(clippy::print_stderr, reason = "a book that stops must be heard even without a logger")]
fn eprintln_once(error: &rusqlite::Error) {
    eprintln!("farthing: the book cannot be written and stops: {error}");
}
