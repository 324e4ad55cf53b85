//! The worker of one endpoint: follows the journal, sends what is due, and notes how far it has come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_core::{Store, StoreError};
use farthing_gate::{Clock as _, SystemClock};
use farthing_ledger::TraceId;
use farthing_money::{Assets, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

use super::outbox::{Attempt, Outbox};
use super::{Order, WebhookError, apply, load, post, traces, webhook_note};
use crate::config::WebhookConfig;
use crate::metrics::Metrics;

/// How many records are read at once.
const PAGE: usize = 256;

/// How many pages are read before anything else is looked at.
const PAGES: usize = 16;

/// How often progress is noted at most. What is told between two notes and a crash is told again.
const NOTED: Duration = Duration::from_millis(500);

/// How long to wait for a book that did not answer.
const BOOK_AGAIN: Duration = Duration::from_secs(1);

/// How long a worker that has nothing to wait for waits to be woken.
const IDLE: Duration = Duration::from_mins(1);

/// How long what is being sent may take when the worker stops; then it is told again at the next start.
const GRACE: Duration = Duration::from_secs(1);

/// The most that is added to a wait, in thousandths of it, so that what failed together is not tried
/// again together.
const JITTER_MAX: u32 = 200;

/// What every worker uses.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) store: Arc<dyn Store>,
    pub(super) client: reqwest::Client,
    pub(super) metrics: Arc<Metrics>,
    pub(super) assets: Arc<Assets>,
}

/// What an operator asks a worker for.
pub(super) struct Asked {
    pub(super) order: Order,
    pub(super) answer: oneshot::Sender<Result<u64, WebhookError>>,
}

/// What wakes a worker.
pub(super) struct Bells {
    /// How long the journal is.
    pub(super) head: watch::Receiver<u64>,
    pub(super) asked: mpsc::Receiver<Asked>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// How much of the journal is left to take up.
enum Left {
    Nothing,
    /// More than is taken up at once.
    More,
    /// The book did not answer.
    Unread,
}

pub(super) struct Worker {
    endpoint: Arc<WebhookConfig>,
    tools: Tools,
    outbox: Outbox,
    sending: JoinSet<Attempt>,
    places: BTreeMap<Id, u64>,
    noted_at: Option<Instant>,
}

/// Serves one endpoint until it is told to stop.
pub(super) async fn serve(endpoint: Arc<WebhookConfig>, tools: Tools, mut bells: Bells) {
    let name = Arc::clone(&endpoint.name);
    let outbox = loop {
        match resume(&endpoint, &*tools.store).await {
            Ok(outbox) => break outbox,
            Err(error) => {
                tracing::error!(webhook = &*name, %error, "where it stands cannot be read");
            }
        }
        let stopped = bells.stopping.wait_for(|stop| *stop);
        if tokio::time::timeout(BOOK_AGAIN, stopped).await.is_ok() {
            return;
        }
    };
    let (sending, places) = (JoinSet::new(), BTreeMap::new());
    let worker = Worker { endpoint, tools, outbox, sending, places, noted_at: None };
    worker.run(bells).await;
}

async fn resume(endpoint: &WebhookConfig, store: &dyn Store) -> Result<Outbox, WebhookError> {
    let standing = load(store, &endpoint.name).await?.unwrap_or_default();
    let traces = traces(store, standing.open.iter().map(|open| open.seq)).await?;
    Ok(Outbox::resume(&standing, &|seq| traces.get(&seq).copied()))
}

impl Worker {
    async fn run(mut self, Bells { mut head, mut asked, mut stopping }: Bells) {
        loop {
            let last = *head.borrow_and_update();
            let left = self.take_up(last).await;
            self.send();
            if self.noted_at.is_none_or(|at| at.elapsed() >= NOTED) {
                // Not noted now is noted later; what is told twice until then keeps its name.
                let _ = self.note().await;
            }
            self.count(last);
            let wait = self.wait(&left, SystemClock.now());
            let stopped = async { drop(stopping.wait_for(|stop| *stop).await) };
            tokio::select! {
                () = stopped => break,
                Some(Asked { order, answer }) = asked.recv() => {
                    let done = self.obey(order).await;
                    // Whoever asked may have gone away.
                    let _ = answer.send(done);
                }
                Some(ended) = self.sending.join_next_with_id() => self.ended(ended),
                Ok(()) = head.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.stop().await;
    }

    /// Takes up what the journal has and the outbox has room for.
    async fn take_up(&mut self, last: u64) -> Left {
        for _ in 0..PAGES {
            let room = self.outbox.room().min(PAGE);
            let cursor = self.outbox.cursor();
            if room == 0 || cursor >= last {
                return Left::Nothing;
            }
            let limit = u32::try_from(room).unwrap_or(u32::MAX);
            let page = self.tools.store.records(cursor.saturating_add(1), limit).await;
            let Some(page) = page.ok().filter(|page| !page.is_empty()) else {
                return Left::Unread;
            };
            let now = SystemClock.now();
            for record in &page {
                self.outbox.take_up(record, &self.endpoint.events, now);
            }
        }
        Left::More
    }

    /// Begins to send what is due, as much of it as may be under way at once.
    fn send(&mut self) {
        let free = self.endpoint.parallel.saturating_sub(self.sending.len());
        for (seq, trace) in self.outbox.send(free, SystemClock.now()) {
            let (tools, endpoint) = (self.tools.clone(), Arc::clone(&self.endpoint));
            let task = self.sending.spawn(async move {
                let to = (&*endpoint, &*tools.assets);
                post::attempt(&tools.client, &*tools.store, to, (seq, trace)).await
            });
            self.places.insert(task.id(), seq);
        }
    }

    fn ended(&mut self, ended: Result<(Id, Attempt), JoinError>) {
        let (id, attempt) = match ended {
            Ok(ended) => ended,
            // One that panicked has sent nothing that counts.
            Err(error) => (error.id(), Attempt::Unsent),
        };
        let Some(seq) = self.places.remove(&id) else { return };
        let name = &*self.endpoint.name;
        let jitter = rand::random_range(0..=JITTER_MAX);
        let (retries, now) = (&self.endpoint.retries, SystemClock.now());
        let is_over = self.outbox.ended(seq, attempt, retries, jitter, now);
        match attempt {
            Attempt::Taken => self.tools.metrics.webhook_delivered(name),
            Attempt::Gone => {
                self.tools.metrics.webhook_failed(name);
                tracing::warn!(
                    webhook = name,
                    "the endpoint answered 410 and is told nothing more"
                );
            }
            Attempt::Failed(fault, _) => {
                self.tools.metrics.webhook_failed(name);
                tracing::debug!(webhook = name, seq, %fault, "an event was not taken");
                if is_over {
                    tracing::warn!(webhook = name, seq, %fault, "an event was given up");
                }
            }
            Attempt::Unsent => {}
        }
    }

    async fn obey(&mut self, order: Order) -> Result<u64, WebhookError> {
        let store = Arc::clone(&self.tools.store);
        let done = apply(&mut self.outbox, &*store, order, SystemClock.now()).await?;
        self.note().await?;
        Ok(done)
    }

    /// Notes how far it has come, if that has changed.
    async fn note(&mut self) -> Result<(), StoreError> {
        if !self.outbox.is_dirty() {
            return Ok(());
        }
        self.noted_at = Some(Instant::now());
        let text = self.outbox.standing().to_note();
        self.tools.store.note(&webhook_note(&self.endpoint.name), text).await?;
        self.outbox.noted();
        Ok(())
    }

    fn count(&self, last: u64) {
        let lag = last.saturating_sub(self.outbox.cursor());
        let (open, dead) = (self.outbox.open(), self.outbox.dead());
        let is_disabled = self.outbox.is_disabled();
        self.tools.metrics.webhook_stands(&self.endpoint.name, lag, (open, dead), is_disabled);
    }

    /// How long there is nothing to do unless somebody rings.
    fn wait(&self, left: &Left, now: Timestamp) -> Duration {
        let reading = match left {
            Left::Nothing => IDLE,
            Left::More => Duration::ZERO,
            Left::Unread => BOOK_AGAIN,
        };
        let is_full = self.sending.len() >= self.endpoint.parallel;
        let due = self.outbox.next_at().filter(|_| !is_full).map(|at| at.since(now));
        let noted = self.noted_at.map(|at| NOTED.saturating_sub(at.elapsed()));
        let noting = self.outbox.is_dirty().then(|| noted.unwrap_or_default());
        [Some(reading), due, noting].into_iter().flatten().min().unwrap_or(IDLE)
    }

    /// Lets what is being sent end, and notes where it stands.
    async fn stop(mut self) {
        let ended = async {
            while let Some(ended) = self.sending.join_next_with_id().await {
                self.ended(ended);
            }
        };
        // What takes longer is told again.
        let _ = tokio::time::timeout(GRACE, ended).await;
        let _ = self.note().await;
    }
}

/// Whose stories the records at these places belong to.
pub(super) type Traces = BTreeMap<u64, TraceId>;
