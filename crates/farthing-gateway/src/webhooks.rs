//! Telling others what happened to payments: webhooks, signed as Standard Webhooks says, at least once.
//!
//! The journal is the outbox. A worker for each endpoint follows it through the store's port, and notes
//! in the store how far it has come: one small text for an endpoint, with the events that are tried
//! again and those that were given up.
//!
//! ```text
//! journal ─► take up (in order) ─► open ─► sent: 2xx ─► forgotten
//!               │ waits while          │ failed: again later, after those of its payment before it
//!               │ too much is open     │ attempts used up ─► dead letters ─► replayed by command
//!               └ a note: cursor, open, dead            410 ─► disabled until enabled by command
//! ```
//!
//! **Architecture invariant:** a record is passed only in the note that says what became of its event,
//! so that a crash at any moment tells some events twice and none never.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farthing_core::{Store, StoreError};
use farthing_ledger::{Record, TraceId};
use farthing_money::{Assets, ParseTimestampError, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{Config, WebhookConfig};
use crate::metrics::Metrics;

pub(crate) mod event;
mod outbox;
mod post;
mod session;
mod worker;

pub use event::{EventId, EventKind, ParseEventIdError};
pub use farthing_webhook::{Retries, UnfitSecret, WebhookSecret};
pub use outbox::Fault;

use outbox::{Outbox, Standing};
use worker::{Asked, Bells, Tools, Traces};

/// How often to look whether the journal has grown.
const LOOKED: Duration = Duration::from_millis(200);

/// How many requests of operators wait for one endpoint.
const ASKED_MAX: usize = 16;

/// How far before a time its records are looked for: clocks that were asked for the records beside each
/// other need not agree.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// Tells events once more: `POST /v1/webhooks/replay`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    /// The endpoint.
    pub name: String,
    /// What is told.
    pub what: Replay,
}

/// What is told once more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// This event, wherever it stands.
    Event(String),
    /// Everything that was given up.
    Dead,
    /// Everything from this record of the journal on.
    FromSeq(u64),
    /// Everything from this moment on, such as `2026-11-21T08:00:00Z`.
    Since(String),
}

/// What a replay will tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// How many events; or records of the journal, where it is told anew from an earlier place.
    pub again: u64,
}

/// Sends to an endpoint again that had wanted nothing any more: `POST /v1/webhooks/enable`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnableOrder {
    /// The endpoint.
    pub name: String,
}

/// Where an endpoint stands: `GET /v1/webhooks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its name.
    pub name: String,
    /// The last record of the journal that was taken up.
    pub cursor: u64,
    /// How many records wait to be taken up.
    pub lag: u64,
    /// Events that are tried again, or wait for an earlier one of their payment.
    pub open: Vec<LetterView>,
    /// How many events were given up.
    pub dead: usize,
    /// Since when it wants nothing any more, if it has said so.
    pub disabled_at: Option<String>,
}

/// An event that an endpoint has not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LetterView {
    /// Its name.
    pub event: String,
    /// Its record's place in the journal.
    pub seq: u64,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The payment's trace.
    pub trace: Option<TraceId>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it was not taken.
    pub fault: Option<String>,
    /// When it is tried again, or was given up.
    pub at: String,
}

/// Why an endpoint was not told to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The configuration has no such endpoint.
    #[error("there is no webhook of this name in [[webhooks]]")]
    Unknown,
    /// The journal has no such event.
    #[error("the journal has no event of this name")]
    UnknownEvent,
    /// The event's name cannot be read.
    #[error(transparent)]
    EventId(#[from] ParseEventIdError),
    /// The time cannot be read.
    #[error(transparent)]
    Time(#[from] ParseTimestampError),
    /// What was noted of the endpoint cannot be read.
    #[error("what was noted of the endpoint cannot be read; another version wrote it")]
    Note,
    /// The book, or the worker, cannot answer. Asking again is safe.
    #[error("the book does not answer, or another process tells its events; ask again")]
    Unavailable,
}

impl From<StoreError> for WebhookError {
    fn from(StoreError: StoreError) -> Self {
        Self::Unavailable
    }
}

impl WebhookError {
    /// The HTTP status that says whose it is to mend.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Unknown | Self::UnknownEvent => 404,
            Self::EventId(_) | Self::Time(_) => 422,
            Self::Note => 500,
            Self::Unavailable => 503,
        }
    }
}

/// What a worker is told to do, with everything looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Tell the event at this place.
    Event(u64, Option<TraceId>),
    /// Tell what was given up.
    Dead,
    /// Go back to this record.
    From(u64),
    /// Send again.
    Enable,
}

/// The name that an endpoint's note stands under in the store.
#[must_use]
pub fn webhook_note(endpoint: &str) -> String {
    format!("webhooks/{endpoint}")
}

async fn load(store: &dyn Store, endpoint: &str) -> Result<Option<Standing>, WebhookError> {
    let note = store.noted(&webhook_note(endpoint)).await?;
    note.map(|text| serde_json::from_str(&text).map_err(|_| WebhookError::Note)).transpose()
}

/// Whose stories the records at these places belong to.
async fn traces(
    store: &dyn Store,
    places: impl Iterator<Item = u64>,
) -> Result<Traces, WebhookError> {
    let mut traces = Traces::new();
    for seq in places {
        let record = one(store, seq).await?;
        traces.extend(record.and_then(|record| Some((seq, record.trace?))));
    }
    Ok(traces)
}

async fn one(store: &dyn Store, seq: u64) -> Result<Option<Record>, StoreError> {
    let found = store.records(seq, 1).await?.into_iter().next();
    Ok(found.filter(|record| record.seq == seq))
}

/// Looks up what a replay needs to know of the journal.
async fn look_up(store: &dyn Store, replay: &Replay) -> Result<Order, WebhookError> {
    Ok(match replay {
        Replay::Event(name) => {
            let id: EventId = name.parse()?;
            let record = one(store, id.seq).await?;
            let is_told = |it: &Record| EventId::of(it) == id && EventKind::of(&it.event).is_some();
            let record = record.filter(is_told).ok_or(WebhookError::UnknownEvent)?;
            Order::Event(record.seq, record.trace)
        }
        Replay::Dead => Order::Dead,
        Replay::FromSeq(seq) => Order::From((*seq).max(1)),
        Replay::Since(time) => {
            let since = time.parse::<Timestamp>()?.before(CLOCKS_APART);
            let before = last(store, 0, &|record| record.at < since).await?;
            Order::From(before.saturating_add(1))
        }
    })
}

/// Does to an outbox what an operator asks for. Says how much will be told again.
async fn apply(
    outbox: &mut Outbox,
    store: &dyn Store,
    order: Order,
    now: Timestamp,
) -> Result<u64, WebhookError> {
    match order {
        Order::Event(seq, trace) => {
            outbox.again(seq, trace, now);
            Ok(1)
        }
        Order::Dead => {
            let seqs = outbox.dead_seqs();
            let traces = traces(store, seqs.iter().copied()).await?;
            for seq in &seqs {
                outbox.again(*seq, traces.get(seq).copied(), now);
            }
            Ok(u64::try_from(seqs.len()).unwrap_or(u64::MAX))
        }
        Order::From(seq) => Ok(outbox.rewind(seq)),
        Order::Enable => Ok(outbox.enable().into()),
    }
}

/// Looks for the last place of which something holds, where it holds of all before and of none after,
/// in a number of steps that grows with the logarithm of the distance.
#[derive(Clone, Copy, Debug)]
pub struct LastPlace {
    /// It holds here, or this is before the first place.
    low: u64,
    high: Option<u64>,
    step: u64,
}

impl LastPlace {
    /// Looks from `low` on, where it is known to hold.
    #[must_use]
    pub const fn from(low: u64) -> Self {
        Self { low, high: None, step: 1 }
    }

    /// The place to look at next, or the one that was looked for.
    ///
    /// # Errors
    ///
    /// The last place: there is nothing more to look at.
    pub const fn next(&self) -> Result<u64, u64> {
        match self.high {
            None => Ok(self.low.saturating_add(self.step)),
            Some(high) if high.saturating_sub(self.low) > 1 => Ok(self.low.midpoint(high)),
            Some(_) => Err(self.low),
        }
    }

    /// Notes whether it holds at the place that was asked for.
    pub const fn learn(&mut self, place: u64, holds: bool) {
        if holds {
            self.low = place;
            self.step = self.step.saturating_mul(2);
        } else {
            self.high = Some(place);
        }
    }
}

/// The last record from `low` on of which `holds` is true.
async fn last(
    store: &dyn Store,
    low: u64,
    holds: &(dyn Fn(&Record) -> bool + Sync),
) -> Result<u64, StoreError> {
    let mut search = LastPlace::from(low);
    loop {
        match search.next() {
            Err(found) => return Ok(found),
            Ok(place) => {
                let record = one(store, place).await?;
                search.learn(place, record.is_some_and(|record| holds(&record)));
            }
        }
    }
}

/// The journal's last record, looked for from a known one on.
async fn head(store: &dyn Store, known: u64) -> Result<u64, StoreError> {
    last(store, known, &|_| true).await
}

/// Notes of endpoints that are new that they begin with what happens from now on.
async fn begin(store: &dyn Store, endpoints: &[Arc<WebhookConfig>]) -> Result<(), WebhookError> {
    for endpoint in endpoints {
        if load(store, &endpoint.name).await?.is_none() {
            let standing = Standing { cursor: head(store, 0).await?, ..Standing::default() };
            store.note(&webhook_note(&endpoint.name), standing.to_note()).await?;
        }
    }
    Ok(())
}

/// What a note says of an endpoint, for people; `record` finds records of the journal.
///
/// # Errors
///
/// [`WebhookError::Note`] if the note cannot be read.
pub fn endpoint_view(
    name: &str,
    note: Option<&str>,
    head: u64,
    record: &dyn Fn(u64) -> Option<Record>,
) -> Result<EndpointView, WebhookError> {
    let standing = read(note)?;
    let open = standing.open.iter().map(|open| {
        letter_view(open.seq, open.attempts, open.fault, open.next_at, record(open.seq))
    });
    let lag = if note.is_some() { head.saturating_sub(standing.cursor) } else { 0 };
    Ok(EndpointView {
        name: name.to_owned(),
        cursor: standing.cursor,
        lag,
        open: open.collect(),
        dead: standing.dead.len(),
        disabled_at: standing.disabled.map(|disabled| disabled.at.to_string()),
    })
}

/// What a note lists as given up, for people; `record` finds records of the journal.
///
/// # Errors
///
/// [`WebhookError::Note`] if the note cannot be read.
pub fn dead_letters(
    note: Option<&str>,
    record: &dyn Fn(u64) -> Option<Record>,
) -> Result<Vec<LetterView>, WebhookError> {
    let dead = read(note)?.dead;
    let view =
        |it: outbox::Dead| letter_view(it.seq, it.attempts, Some(it.fault), it.at, record(it.seq));
    Ok(dead.into_iter().map(view).collect())
}

fn read(note: Option<&str>) -> Result<Standing, WebhookError> {
    let standing = note.map(serde_json::from_str).transpose().map_err(|_| WebhookError::Note)?;
    Ok(standing.unwrap_or_default())
}

fn letter_view(
    seq: u64,
    attempts: u32,
    fault: Option<Fault>,
    at: Timestamp,
    record: Option<Record>,
) -> LetterView {
    let kind = record.as_ref().and_then(|it| EventKind::of(&it.event));
    LetterView {
        event: record.as_ref().map(|it| EventId::of(it).to_string()).unwrap_or_default(),
        seq,
        kind: kind.map(EventKind::name).unwrap_or_default().to_owned(),
        trace: record.and_then(|it| it.trace),
        attempts,
        fault: fault.map(|fault| fault.to_string()),
        at: at.to_string(),
    }
}

/// An operator's desk for webhooks over a book that no gateway has open.
pub struct WebhookDesk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) names: Vec<Arc<str>>,
}

impl WebhookDesk {
    /// Puts events into the outbox once more; the gateway sends them when it runs.
    ///
    /// # Errors
    ///
    /// A [`WebhookError`]; nothing is noted.
    pub async fn replay(&self, order: &ReplayOrder, now: Timestamp) -> Result<u64, WebhookError> {
        let what = look_up(&*self.store, &order.what).await?;
        self.obey(&order.name, what, now).await
    }

    /// Lets the gateway send to an endpoint again. `true` if it had stopped.
    ///
    /// # Errors
    ///
    /// A [`WebhookError`]; nothing is noted.
    pub async fn enable(&self, order: &EnableOrder, now: Timestamp) -> Result<bool, WebhookError> {
        Ok(self.obey(&order.name, Order::Enable, now).await? > 0)
    }

    async fn obey(&self, name: &str, order: Order, now: Timestamp) -> Result<u64, WebhookError> {
        if !self.names.iter().any(|known| **known == *name) {
            return Err(WebhookError::Unknown);
        }
        let standing = match load(&*self.store, name).await? {
            Some(standing) => standing,
            None => Standing { cursor: head(&*self.store, 0).await?, ..Standing::default() },
        };
        let traces = traces(&*self.store, standing.open.iter().map(|open| open.seq)).await?;
        let mut outbox = Outbox::resume(&standing, &|seq| traces.get(&seq).copied());
        let done = apply(&mut outbox, &*self.store, order, now).await?;
        self.store.note(&webhook_note(name), outbox.standing().to_note()).await?;
        Ok(done)
    }
}

/// The endpoints of a configuration, and what amounts are written in.
struct Setup {
    endpoints: Vec<Arc<WebhookConfig>>,
    assets: Arc<Assets>,
}

impl Setup {
    fn of(config: &Config) -> Arc<Self> {
        let assets = Arc::new(config.assets.clone());
        Arc::new(Self { endpoints: config.webhooks.clone(), assets })
    }
}

/// Runs a worker for each endpoint, while this process is the one to tell others anything.
pub(crate) struct Postman {
    store: Arc<dyn Store>,
    client: reqwest::Client,
    metrics: Arc<Metrics>,
    setup: watch::Sender<Arc<Setup>>,
    workers: Mutex<BTreeMap<Arc<str>, mpsc::Sender<Asked>>>,
}

/// Why the endpoints cannot be told anything.
#[derive(Debug, thiserror::Error)]
pub enum PostmanError {
    /// The system's TLS settings are not usable.
    #[error("webhooks: {0}")]
    Client(#[from] reqwest::Error),
    /// How far an endpoint has come is not known.
    #[error("webhooks: {0}")]
    Standing(#[from] WebhookError),
}

/// Why a round of workers ended.
#[derive(PartialEq, Eq)]
enum Ended {
    Stopping,
    Changed,
}

impl Postman {
    /// A postman for the endpoints of `config`. New ones begin with what happens from now on.
    pub(crate) async fn new(
        config: &Config,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PostmanError> {
        let setup = Setup::of(config);
        if store.leads() {
            begin(&*store, &setup.endpoints).await?;
        }
        let (setup, _) = watch::channel(setup);
        let (client, workers) = (farthing_webhook::client()?, Mutex::default());
        Ok(Arc::new(Self { store, client, metrics, setup, workers }))
    }

    /// Goes over to the endpoints of another configuration.
    pub(crate) fn configure(&self, config: &Config) {
        self.setup.send_replace(Setup::of(config));
    }

    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.setup.borrow().endpoints.iter().map(|it| Arc::clone(&it.name)).collect()
    }

    /// Works until it is told to stop.
    pub(crate) async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        let mut setups = self.setup.subscribe();
        loop {
            let setup = Arc::clone(&setups.borrow_and_update());
            let ended = if setup.endpoints.is_empty() {
                rest(None, &mut setups, &mut stopping).await
            } else if self.store.leads() && begin(&*self.store, &setup.endpoints).await.is_ok() {
                self.round(&setup, &mut setups, &mut stopping).await
            } else {
                rest(Some(LOOKED), &mut setups, &mut stopping).await
            };
            if ended == Ended::Stopping {
                return;
            }
        }
    }

    /// Runs the workers until the configuration changes, this process is no longer the one to tell
    /// others, or it is told to stop.
    async fn round(
        &self,
        setup: &Setup,
        setups: &mut watch::Receiver<Arc<Setup>>,
        stopping: &mut watch::Receiver<bool>,
    ) -> Ended {
        let (length, _) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        self.metrics.webhooks_change();
        let tools = Tools {
            store: Arc::clone(&self.store),
            client: self.client.clone(),
            metrics: Arc::clone(&self.metrics),
            assets: Arc::clone(&setup.assets),
        };
        for endpoint in &setup.endpoints {
            let (ask, asked) = mpsc::channel(ASKED_MAX);
            self.workers().insert(Arc::clone(&endpoint.name), ask);
            let bells = Bells { head: length.subscribe(), asked, stopping: stopped.clone() };
            workers.spawn(worker::serve(Arc::clone(endpoint), tools.clone(), bells));
        }
        let ended = loop {
            let known = *length.borrow();
            // A book that does not answer now does so later.
            if let Ok(now) = head(&*self.store, known).await {
                length.send_if_modified(|length| std::mem::replace(length, now) != now);
            }
            match rest(Some(LOOKED), setups, stopping).await {
                Ended::Stopping => break Ended::Stopping,
                Ended::Changed if setups.has_changed().unwrap_or(true) => break Ended::Changed,
                Ended::Changed if !self.store.leads() => break Ended::Changed,
                Ended::Changed => {}
            }
        };
        self.workers().clear();
        stop.send_replace(true);
        while workers.join_next().await.is_some() {}
        ended
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, BTreeMap<Arc<str>, mpsc::Sender<Asked>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells events once more.
    pub(crate) async fn replay(&self, order: &ReplayOrder) -> Result<Replayed, WebhookError> {
        let what = look_up(&*self.store, &order.what).await?;
        Ok(Replayed { again: self.ask(&order.name, what).await? })
    }

    /// Sends to an endpoint again. `true` if it had stopped.
    pub(crate) async fn enable(&self, order: &EnableOrder) -> Result<bool, WebhookError> {
        Ok(self.ask(&order.name, Order::Enable).await? > 0)
    }

    async fn ask(&self, name: &str, order: Order) -> Result<u64, WebhookError> {
        if !self.names().iter().any(|known| **known == *name) {
            return Err(WebhookError::Unknown);
        }
        let worker = self.workers().get(name).cloned().ok_or(WebhookError::Unavailable)?;
        let (answer, answered) = oneshot::channel();
        let asked = Asked { order, answer };
        worker.send(asked).await.map_err(|_| WebhookError::Unavailable)?;
        answered.await.map_err(|_| WebhookError::Unavailable)?
    }

    /// Where every endpoint stands.
    pub(crate) async fn list(&self) -> Result<Vec<EndpointView>, WebhookError> {
        let last = head(&*self.store, 0).await?;
        let mut views = Vec::new();
        for name in self.names() {
            let note = self.store.noted(&webhook_note(&name)).await?;
            let open = read(note.as_deref())?.open;
            let records = self.records(open.iter().map(|open| open.seq)).await?;
            let record = |seq| records.get(&seq).cloned();
            views.push(endpoint_view(&name, note.as_deref(), last, &record)?);
        }
        Ok(views)
    }

    /// What was given up for an endpoint.
    pub(crate) async fn dead(&self, name: &str) -> Result<Vec<LetterView>, WebhookError> {
        if !self.names().iter().any(|known| **known == *name) {
            return Err(WebhookError::Unknown);
        }
        let note = self.store.noted(&webhook_note(name)).await?;
        let dead = read(note.as_deref())?.dead;
        let records = self.records(dead.iter().map(|dead| dead.seq)).await?;
        dead_letters(note.as_deref(), &|seq| records.get(&seq).cloned())
    }

    async fn records(
        &self,
        seqs: impl Iterator<Item = u64>,
    ) -> Result<BTreeMap<u64, Record>, WebhookError> {
        let mut records = BTreeMap::new();
        for seq in seqs {
            records.extend(one(&*self.store, seq).await?.map(|record| (seq, record)));
        }
        Ok(records)
    }
}

/// Waits for another configuration, for the end, or for some time.
async fn rest(
    time: Option<Duration>,
    setups: &mut watch::Receiver<Arc<Setup>>,
    stopping: &mut watch::Receiver<bool>,
) -> Ended {
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let stopped = async { drop(stopping.wait_for(|stop| *stop).await) };
    // A copy, so that the change is left to be seen by whoever reads the configuration next.
    let mut setups = setups.clone();
    tokio::select! {
        () = stopped => Ended::Stopping,
        _ = setups.changed() => Ended::Changed,
        () = over => Ended::Changed,
    }
}
