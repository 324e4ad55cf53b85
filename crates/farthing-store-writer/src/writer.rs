//! The one who writes.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use farthing_core::Answer;
use farthing_ledger::merkle::Tree;
use farthing_ledger::{
    Book, ChannelStep, ClaimError, Cold, EraseError, Erased, Erasure, PaymentId, Proof, Record,
    Sealer, Standing, SubscriptionStep, Survey,
};
use farthing_money::Timestamp;

use crate::desk::{Asker, Kind};
use crate::{Ask, Batch, Counts, Erasing, Job, Kept, Options, Said};

/// Where a book is written down.
pub trait Journal {
    /// Why it cannot be written or read. The writer stops then, for good.
    type Error: Display;

    /// Writes a batch: all of it, durably, or nothing.
    ///
    /// # Errors
    ///
    /// It is not known to be written, and never will be by this writer.
    fn commit(&mut self, batch: &Batch) -> Result<(), Self::Error>;

    /// Says ahead which proofs a batch may ask [`Journal::is_claimed`] about, so that all of them can be
    /// looked up at once.
    ///
    /// # Errors
    ///
    /// They cannot be looked up.
    fn foresee(&mut self, _proofs: &[Proof]) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Whether a proof is in the index.
    ///
    /// # Errors
    ///
    /// It cannot be known; whoever asked is told to try again.
    fn is_claimed(&self, proof: &Proof) -> Result<bool, Self::Error>;

    /// The answer that was kept for a payment.
    ///
    /// # Errors
    ///
    /// It cannot be read; whoever asked is not answered.
    fn answer(&self, payment: PaymentId) -> Result<Option<Answer>, Self::Error>;

    /// Makes sure that nobody else has the book by now. Asked before anything is said that no commit has
    /// just proved; strictly where it gives a right.
    ///
    /// # Errors
    ///
    /// Somebody else has it, or it cannot be known.
    fn confirm(&mut self, _gives_right: bool) -> Result<(), Self::Error> {
        Ok(())
    }

    /// How long the journal may be left alone; nothing means for ever.
    fn tend_every(&self) -> Option<Duration> {
        None
    }

    /// Called when nothing was asked for that long.
    ///
    /// # Errors
    ///
    /// Somebody else has the book, or the journal is out of reach for good.
    fn tend(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Writes the book down whole, with the tree over its journal, and drops what nobody can ask for any
    /// more.
    ///
    /// # Errors
    ///
    /// It is not written. The journal itself has everything.
    fn save(&mut self, book: &Book, tree: &Tree, now: Timestamp) -> Result<(), Self::Error>;

    /// Reads every line of the journal, in order.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn each_line(&mut self, each: &mut dyn FnMut(u64, &str)) -> Result<(), Self::Error>;

    /// Reads the lines at some places, in order.
    ///
    /// # Errors
    ///
    /// They cannot be read.
    fn lines_at(&mut self, seqs: &[u64]) -> Result<Vec<(u64, String)>, Self::Error>;

    /// Sees to it that nothing is left of rows that were written anew or deleted, where the journal is
    /// kept. Whether that is done; what stands in rows does not depend on it.
    fn wipe(&mut self) -> bool;

    /// Called once, when everything that was asked is answered and nothing more can be.
    ///
    /// # Errors
    ///
    /// As [`Journal::save`].
    fn close(&mut self, book: &Book, tree: &Tree, now: Timestamp) -> Result<(), Self::Error> {
        self.save(book, tree, now)
    }
}

/// A book, its journal, and whoever waits for both.
pub struct Writer<J> {
    book: Book,
    sealer: Sealer,
    journal: J,
    options: Options,
    counts: Arc<Counts>,
    saved_at_seq: u64,
    now: Timestamp,
}

/// A reply that may only be given once its batch is written.
enum Reply {
    Said(Said),
    /// What is kept is read once the batch that may keep it is written.
    Kept(PaymentId),
}

/// Somebody who waits for a reply.
type Waiting = (Asker, Reply);

/// The index of proofs.
struct Index<'a, J>(&'a J);

impl<J: Journal> Cold for Index<'_, J> {
    fn is_claimed(&self, proof: &Proof) -> Result<bool, ClaimError> {
        self.0.is_claimed(proof).map_err(|_| ClaimError::Unavailable)
    }
}

impl<J: Journal> Writer<J> {
    /// Whoever writes `book` into `journal`, where it was read from, and seals each commit behind what
    /// was sealed before.
    pub fn new(
        (book, sealer): (Book, Sealer),
        journal: J,
        options: Options,
        counts: Arc<Counts>,
    ) -> Self {
        let saved_at_seq = book.seq();
        counts.note_unfinished(book.unfinished());
        Self { book, sealer, journal, options, counts, saved_at_seq, now: Timestamp::default() }
    }

    /// Writes down that this writer has the book now.
    ///
    /// # Errors
    ///
    /// It could not be written; the writer must not run.
    pub fn take_over(&mut self, now: Timestamp) -> Result<(), J::Error> {
        self.now = now;
        let mut batch = Batch::default();
        batch.write(self.book.open(now));
        self.commit(&mut batch)
    }

    /// Works until every desk is closed, or until a write fails.
    ///
    /// # Errors
    ///
    /// Why the journal cannot be written. Every answer that is owed is dropped with the queue, which
    /// callers see at once.
    pub fn run(mut self, queue: &Receiver<Job>) -> Result<(), J::Error> {
        loop {
            let first = match self.journal.tend_every() {
                Some(long) => queue.recv_timeout(long),
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(first) => {
                    let more = queue.try_iter().take(self.options.batch_max.saturating_sub(1));
                    let batch = std::iter::once(first).chain(more).collect();
                    self.work(batch)?;
                }
                Err(RecvTimeoutError::Timeout) => self.journal.tend()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // What is not saved now is read from the journal at the next start.
        let _ = self.journal.close(&self.book, self.sealer.tree(), self.now);
        Ok(())
    }

    /// Decides a batch, writes it, and only then answers.
    fn work(&mut self, jobs: Vec<Job>) -> Result<(), J::Error> {
        self.foresee(&jobs)?;
        let mut batch = Batch::default();
        let mut replies = Vec::with_capacity(jobs.len());
        for Job(kind) in jobs {
            match kind {
                Kind::Ask(Ask::Erase(erasure, now), asker) => {
                    // What is erased is in the journal, whole.
                    if !batch.is_empty() {
                        self.commit(&mut std::mem::take(&mut batch))?;
                    }
                    let said = Reply::Said(Said::Erased(self.erase(*erasure, now)?));
                    replies.extend(asker.map(|asker| (asker, said)));
                }
                Kind::Ask(ask, asker) => {
                    let reply = self.decide(ask, &mut batch);
                    replies.extend(asker.map(|asker| (asker, reply)));
                }
                Kind::Abandon(payment) => self.abandon(payment),
            }
        }
        self.settle(&mut batch, &replies)?;
        for waiting in replies {
            self.give(waiting);
        }
        let unsaved = self.book.seq().saturating_sub(self.saved_at_seq);
        if unsaved >= self.options.snapshot_every {
            self.journal.save(&self.book, self.sealer.tree(), self.now)?;
            self.saved_at_seq = self.book.seq();
        }
        Ok(())
    }

    /// Says ahead what the claims among `jobs` will look up.
    fn foresee(&mut self, jobs: &[Job]) -> Result<(), J::Error> {
        let proofs = jobs.iter().flat_map(|Job(kind)| match kind {
            Kind::Ask(ask, _) => asked_about(ask),
            Kind::Abandon(_) => Vec::new(),
        });
        let cold: Vec<Proof> = proofs.filter(|proof| self.book.is_cold(proof)).collect();
        if cold.is_empty() { Ok(()) } else { self.journal.foresee(&cold) }
    }

    /// Makes sure that what is about to be said holds.
    fn settle(&mut self, batch: &mut Batch, replies: &[Waiting]) -> Result<(), J::Error> {
        if !batch.is_empty() {
            return self.commit(batch);
        }
        let gives_right = |(_, reply): &Waiting| match reply {
            Reply::Said(said) => said.gives_right(),
            Reply::Kept(_) => false,
        };
        self.journal.confirm(replies.iter().any(gives_right))
    }

    fn decide(&mut self, ask: Ask, batch: &mut Batch) -> Reply {
        let Self { book, journal, .. } = self;
        let cold = Index(journal);
        Reply::Said(match ask {
            Ask::Claim(request, now) => {
                self.now = now;
                Said::Claim(book.claim(*request, &cold, now).map(|(claim, record)| {
                    batch.extend(record);
                    claim
                }))
            }
            Ask::Post(payment, settlement, now) => {
                batch.extend(book.post(payment, settlement, now));
                Said::Done
            }
            Ask::Void(payment, reason, now) => {
                let record = book.void(payment, reason, now);
                let is_new = record.is_some();
                batch.extend(record);
                Said::Voided(is_new)
            }
            Ask::Enter(entry, now) => {
                self.now = now;
                Said::Entered(book.enter(*entry, &cold, now).map(|record| {
                    let is_new = record.is_some();
                    batch.extend(record);
                    is_new
                }))
            }
            Ask::Deliver(payment, outcome, answer, kept, now) => {
                let record = book.deliver_kept(payment, outcome, Some(kept), now);
                let answered = book.answered(payment);
                // Somebody may have given the money back meanwhile.
                let is_noted = record.is_some() || answered.is_some();
                if let (Some(_), Some(answered)) = (&record, answered) {
                    batch.kept.push(Kept { answered, answer });
                }
                batch.extend(record);
                Said::Known(is_noted)
            }
            Ask::Fail(payment, outcome, now) => {
                batch.extend(book.fail(payment, outcome, now));
                Said::Done
            }
            Ask::GiveBack(payment, begun) => {
                book.give_back(payment, begun);
                Said::Done
            }
            Ask::Answer(payment) => return Reply::Kept(payment),
            Ask::IsClaimed(proof) => Said::Known(book.knows(&proof)),
            Ask::TakeUp(payment) => Said::TakenUp(book.take_up(payment)),
            Ask::Note(name, text) => {
                batch.notes.push((name, text));
                Said::Done
            }
            // Made in a commit of its own, before anything is decided on top of it.
            Ask::Erase(..) => Said::Erased(Err(EraseError::Unavailable)),
            Ask::Work => Said::Work(Box::new(book.work())),
            Ask::Refund(request, now) => {
                Said::Refund(book.refund(*request, now).map(|(standing, record)| {
                    let is_new = record.is_some();
                    batch.extend(record);
                    (standing, is_new)
                }))
            }
            Ask::PostRefund(payment, refund, settlement, now) => {
                batch.extend(book.post_refund(payment, refund, settlement, now));
                Said::Done
            }
            Ask::VoidRefund(payment, refund, now) => {
                batch.extend(book.void_refund(payment, refund, now));
                Said::Done
            }
            Ask::Step(step, now) => {
                self.now = now;
                Said::Channel(book.step(*step, &cold, now).map(|(channel, record)| {
                    batch.extend(record);
                    Box::new(channel)
                }))
            }
            Ask::Owner(budgets, now) => Said::Owner(Box::new(book.owner(budgets, now))),
            Ask::Channels => Said::Channels(book.channels().cloned().collect()),
            Ask::ChannelNews(since, named) => {
                Said::ChannelNews(Box::new(book.channel_news(since, &named)))
            }
            Ask::HeardOfChannels(heard) => {
                book.heard_of_channels(&heard);
                Said::Done
            }
            Ask::Subscribe(step, now) => {
                self.now = now;
                Said::Subscription(book.subscribe(*step, &cold, now).map(|(it, record)| {
                    batch.extend(record);
                    Box::new(it)
                }))
            }
            Ask::Subscriptions => Said::Subscriptions(book.subscriptions().cloned().collect()),
            Ask::SubscriptionsDue(now, grace) => due(book, now, grace),
            Ask::Reconcile(payment, finding, now) => {
                batch.extend(book.reconcile(payment, finding, now));
                Said::Done
            }
        })
    }

    /// Gives back what somebody held who is gone.
    fn abandon(&mut self, payment: PaymentId) {
        let begun = match self.book.standing(payment) {
            // Nobody knows whether its handler ran.
            Some(Standing::Posted(_)) => true,
            Some(Standing::Pending | Standing::Delivered(..)) | None => false,
        };
        self.book.give_back(payment, begun);
    }

    fn commit(&mut self, batch: &mut Batch) -> Result<(), J::Error> {
        if !batch.lines.is_empty() {
            batch.seals.push(self.sealer.seal(batch.lines.iter().map(|line| &line.json)));
        }
        self.journal.commit(batch)?;
        self.counts.note_unfinished(self.book.unfinished());
        for (proof, _) in batch.lines.iter().flat_map(|line| &line.proofs) {
            self.book.shelve(proof);
        }
        Ok(())
    }

    /// Erases, in one commit of its own.
    fn erase(
        &mut self,
        erasure: Erasure,
        now: Timestamp,
    ) -> Result<Result<Erased, EraseError>, J::Error> {
        self.now = now;
        let (mut survey, mut damaged) = (Survey::begin(erasure), None);
        self.journal.each_line(&mut |seq, line| match Record::from_json(line.as_bytes()) {
            Ok(record) => survey.take(&record),
            Err(_) => damaged = damaged.or(Some(seq)),
        })?;
        if let Some(seq) = damaged {
            return Ok(Err(EraseError::Damaged(seq)));
        }
        let plan = match survey.end(&self.book) {
            Ok(plan) => plan,
            Err(error) => {
                if error == EraseError::Unknown {
                    // Erased before, perhaps, and not wiped.
                    self.journal.wipe();
                }
                return Ok(Err(error));
            }
        };
        let lines = self.journal.lines_at(&plan.seqs())?;
        let rewritten = lines.iter().map(|(seq, line)| plan.rewrite(*seq, line));
        let rows = match rewritten.collect::<Result<Vec<_>, _>>() {
            Ok(rows) => rows.into_iter().flatten().collect::<Vec<_>>(),
            Err(error) => return Ok(Err(error)),
        };
        let erased = plan.counts(&rows);
        if !rows.is_empty() {
            let mut batch = Batch::default();
            for record in self.book.erase(&plan, &rows, now) {
                batch.write(record);
            }
            batch.seals.push(self.sealer.seal(batch.lines.iter().map(|line| &line.json)));
            batch.erasing = Some(Box::new(Erasing {
                rows,
                payments: plan.payments().to_vec(),
                snapshot: self.book.snapshot(),
                tree: self.sealer.tree().clone(),
            }));
            self.journal.commit(&batch)?;
            self.saved_at_seq = self.book.seq();
        }
        let wiped = self.journal.wipe();
        Ok(Ok(Erased { wiped, ..erased }))
    }

    fn give(&self, (asker, reply): Waiting) {
        self.counts.answered();
        match reply {
            Reply::Said(said) => asker.say(said),
            Reply::Kept(payment) => {
                // What cannot be read is not answered, which the asker takes for an outage.
                if let Ok(answer) = self.journal.answer(payment) {
                    asker.say(Said::Answer(answer.map(Box::new)));
                }
            }
        }
    }
}

/// The subscriptions that something is to be done about.
fn due(book: &Book, now: Timestamp, grace: Duration) -> Said {
    Said::SubscriptionsDue(Box::new(book.subscriptions_due(now, grace)))
}

/// The proofs that deciding a request may look up.
fn asked_about(ask: &Ask) -> Vec<Proof> {
    match ask {
        Ask::Claim(request, _) => {
            // A voucher of a channel that is not known asks whether it ever was.
            let channel = request.voucher.as_ref().map(|claim| claim.voucher.channel.proof());
            request.proofs.iter().chain(&request.idempotency).copied().chain(channel).collect()
        }
        Ask::Step(step, _) => {
            let deposit = match &**step {
                ChannelStep::Open(opening) => opening.deposit.proofs.as_slice(),
                ChannelStep::TopUp { deposit, .. } => deposit.proofs.as_slice(),
                ChannelStep::Confirm { .. }
                | ChannelStep::Abandon { .. }
                | ChannelStep::Vouch(_)
                | ChannelStep::Take { .. }
                | ChannelStep::Return { .. }
                | ChannelStep::Note { .. }
                | ChannelStep::Overdue { .. }
                | ChannelStep::Settle { .. }
                | ChannelStep::Close { .. }
                | ChannelStep::Closed { .. } => &[],
            };
            std::iter::once(step.channel().proof()).chain(deposit.iter().copied()).collect()
        }
        Ask::Subscribe(step, _) => match &**step {
            SubscriptionStep::Open(facts) => vec![facts.proof()],
            SubscriptionStep::Join(facts) => vec![facts.proof(), facts.answer()],
            SubscriptionStep::Look { .. }
            | SubscriptionStep::Fail { .. }
            | SubscriptionStep::Cancel { .. }
            | SubscriptionStep::End { .. } => Vec::new(),
        },
        Ask::Post(..)
        | Ask::Void(..)
        | Ask::Erase(..)
        | Ask::Enter(..)
        | Ask::Deliver(..)
        | Ask::Fail(..)
        | Ask::GiveBack(..)
        | Ask::Answer(_)
        | Ask::IsClaimed(_)
        | Ask::Work
        | Ask::Refund(..)
        | Ask::PostRefund(..)
        | Ask::VoidRefund(..)
        | Ask::Reconcile(..)
        | Ask::TakeUp(_)
        | Ask::Channels
        | Ask::ChannelNews(..)
        | Ask::HeardOfChannels(_)
        | Ask::Owner(..)
        | Ask::Subscriptions
        | Ask::SubscriptionsDue(..)
        | Ask::Note(..) => Vec::new(),
    }
}
