//! Answers that are paid for as they are given: a till's side of [`farthing_meter`].
//!
//! ```text
//! claim ── the first unit ──► upstream ──► Tab::meter ──► Metered ──► client
//!                                              │  take: written down, then given
//!   a voucher, on any connection ── wakes ─────┤  short: a pause, until a voucher comes
//!   a voucher, through another gateway ─ poll ─┘
//!                                              end: what bought nothing goes back, then "delivered"
//! ```
//!
//! The price of the request is that of the first unit: it is taken before the upstream is asked, and is not
//! given back.
//!
//! **Architecture invariant:** before the first byte is given, the book knows that the answer is one that
//! is paid for as it is given. Whoever dies in the middle of it leaves a payment that nobody answers a second
//! time, and whose money nobody gives back.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farthing_core::{Posted, ReceiptFacts, Taken};
use farthing_ledger::{
    Channel, ChannelFigures, ChannelId, ChannelSpent, Outcome, Payment, Settlement,
};
use farthing_meter::ws::Dialect;
use farthing_meter::{
    Balance, Metered, NeedVoucher, PAYMENT_RECEIPT, Settings, Stopped, Summary, Take, Terms,
    Unmeterable, Wanted,
};
use farthing_mpp::Receipt;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::body::{Body, BodyError, BoxError, boxed};
use crate::{Gate, StreamEnd};

/// How long a paused stream waits before it looks again by itself: a voucher may have come through another
/// gateway. Twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The longest between two looks.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(2);

/// How often a store that does not answer is asked.
const ATTEMPTS_MAX: u32 = 6;

/// How long after a store did not answer it is asked again. Twice as long each time.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(100);

/// How many streams may wait for vouchers at once unless the seller says otherwise.
const PAUSED_MAX: usize = 1_024;

/// The streams that are being given. Clones share them, so that gates that follow each other do.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    wakers: Mutex<HashMap<ChannelId, watch::Sender<()>>>,
    /// One permit for each stream that may wait for a voucher.
    pauses: Arc<Semaphore>,
    /// How many are not written down to their end.
    open: watch::Sender<usize>,
}

impl Default for Streams {
    fn default() -> Self {
        Self::with_paused_max(PAUSED_MAX)
    }
}

impl Streams {
    /// Streams of which at most `paused_max` wait for vouchers at once. One more is ended instead.
    #[must_use]
    pub fn with_paused_max(paused_max: usize) -> Self {
        Self(Arc::new(Inner {
            wakers: Mutex::default(),
            pauses: Arc::new(Semaphore::new(paused_max.min(Semaphore::MAX_PERMITS))),
            open: watch::Sender::new(0),
        }))
    }

    /// Waits until every stream that has ended is written down to its end.
    pub async fn settled(&self) {
        // The sender lives as long as this does.
        let _ = self.0.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Something became of a channel: whoever waits for it looks again.
    pub(crate) fn wake(&self, channel: &ChannelId) {
        if let Some(waker) = self.wakers().get(channel) {
            waker.send_replace(());
        }
    }

    fn watch(&self, channel: &ChannelId) -> watch::Receiver<()> {
        let mut wakers = self.wakers();
        wakers.entry(channel.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Forgets a channel whose last stream goes away.
    fn leave(&self, channel: &ChannelId) {
        let mut wakers = self.wakers();
        if wakers.get(channel).is_some_and(|waker| waker.receiver_count() <= 1) {
            wakers.remove(channel);
        }
    }

    fn wakers(&self) -> MutexGuard<'_, HashMap<ChannelId, watch::Sender<()>>> {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Arc<Open> {
        self.0.open.send_modify(|open| *open = open.saturating_add(1));
        Arc::new(Open(self.clone()))
    }
}

/// A stream that is not written down to its end.
struct Open(Streams);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.open.send_modify(|open| *open = open.saturating_sub(1));
    }
}

/// What a request within a session may take more of, for the service behind the gate: an extension of the
/// request. Only what succeeded is worth metering.
#[derive(Clone)]
pub struct Tab {
    gate: Gate,
    payment: Arc<Payment>,
    settlement: Arc<Settlement>,
    channel: ChannelId,
    /// The least by which vouchers advance, in atoms.
    delta_min: u128,
}

impl Tab {
    /// The tab of a payment that was made with a voucher; nothing for any other.
    pub(crate) fn of(gate: &Gate, posted: &Posted, delta_min: u128) -> Option<Self> {
        let payment = posted.payment();
        let channel = payment.voucher.as_ref()?.channel.clone();
        Some(Self {
            gate: gate.clone(),
            payment: Arc::new(payment.clone()),
            settlement: Arc::new(posted.settlement().clone()),
            channel,
            delta_min,
        })
    }

    /// Meters the answer to a request with these fields: it is given as far as vouchers pay for it, each
    /// unit at the price of the request.
    ///
    /// # Errors
    ///
    /// [`Unmeterable`]; nothing of the answer was given, and nothing taken beyond the price.
    pub fn meter<B>(
        self,
        answer: Response<B>,
        request: &HeaderMap,
        terms: &Terms,
    ) -> Result<Response<Body>, Unmeterable>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (gate, payment) = (self.gate.clone(), Arc::clone(&self.payment));
        let open = gate.streams().open();
        let (balance, settled) = Purse::open(self, Arc::clone(&open), Arc::default());
        let answer = farthing_meter::metered(answer, request, terms, balance)?;
        gate.observer().stream_began(&payment.route);
        let tell = move |summary: Summary| {
            gate.observer().stream_ended(&StreamEnd { payment: &payment, summary });
        };
        let mut answer = answer.map(|body| boxed(body.on_end(tell)));
        answer.extensions_mut().insert(Streamed { settled, open });
        Ok(answer)
    }
}

impl Tab {
    /// The same for the messages of a socket, each of which is a frame of the body.
    pub(crate) fn meter_messages<B>(
        self,
        upstream: B,
        terms: &Terms,
        dialect: Dialect,
        is_over: Arc<AtomicBool>,
    ) -> Result<(Body, Streamed), Unmeterable>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let meter = terms.meter_messages(dialect)?;
        let (gate, payment) = (self.gate.clone(), Arc::clone(&self.payment));
        let open = gate.streams().open();
        let (balance, settled) = Purse::open(self, Arc::clone(&open), is_over);
        gate.observer().stream_began(&payment.route);
        let settings = Settings { wait: terms.wait, trailers: false };
        let tell = move |summary: Summary| {
            gate.observer().stream_ended(&StreamEnd { payment: &payment, summary });
        };
        let body = Metered::new(upstream, meter, balance, settings).on_end(tell);
        Ok((boxed(body), Streamed { settled, open }))
    }
}

/// Says of an answer that it is paid for as it is given, and when its books are done.
#[derive(Clone)]
pub(crate) struct Streamed {
    settled: watch::Receiver<()>,
    open: Arc<Open>,
}

// --- the balance -------------------------------------------------------------------------------

/// One stream's side of its channel.
struct Purse {
    tab: Tab,
    account: Arc<tokio::sync::Mutex<Account>>,
    orders: mpsc::UnboundedSender<Order>,
    voucher: tokio::sync::Mutex<Waiting>,
    /// Held for as long as the stream waits for a voucher.
    pause: Mutex<Option<Pause>>,
    /// Whether the client wants no more: then no voucher is waited for.
    is_over: Arc<AtomicBool>,
}

/// What was taken so far. The price of the request is not part of it.
#[derive(Default)]
struct Account {
    /// Whether the unit that the price was paid for was given to the stream.
    began: bool,
    taken: u64,
    returned: u64,
    /// The channel, as it was seen last.
    channel: Option<Box<Channel>>,
}

/// What is done beside the stream, in order.
enum Order {
    GiveBack(u64),
    /// Says when everything before it is done.
    Done(oneshot::Sender<()>),
}

/// Waits for something to become of the channel.
struct Waiting {
    woken: watch::Receiver<()>,
    pause: Duration,
}

/// A stream that waits, counted.
struct Pause {
    gate: Gate,
    route: String,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Pause {
    fn drop(&mut self) {
        self.gate.observer().stream_paused(&self.route, false);
    }
}

impl Purse {
    fn open(tab: Tab, open: Arc<Open>, is_over: Arc<AtomicBool>) -> (Self, watch::Receiver<()>) {
        let (orders, inbox) = mpsc::unbounded_channel();
        let (done, settled) = watch::channel(());
        let account = Arc::new(tokio::sync::Mutex::new(Account::default()));
        let woken = tab.gate.streams().watch(&tab.channel);
        tokio::spawn(keep_books(tab.clone(), Arc::clone(&account), inbox, (done, open)));
        let voucher = tokio::sync::Mutex::new(Waiting { woken, pause: LOOK_AGAIN });
        let pause = Mutex::new(None);
        (Self { tab, account, orders, voucher, pause, is_over }, settled)
    }

    /// Takes `units` from the books; a store that does not answer is asked again.
    async fn take_units(&self, units: u64) -> Result<Result<(), ChannelFigures>, Stopped> {
        let Tab { gate, payment, channel, .. } = &self.tab;
        let atoms = self.tab.price(units);
        let mut pause = ATTEMPT_PAUSE;
        for _ in 0..ATTEMPTS_MAX {
            let (till, now) = (gate.till(), gate.clock().now());
            match till.take_more(channel, payment.id, (units, atoms), now).await {
                Taken::Taken(channel) => {
                    let mut account = self.account.lock().await;
                    account.taken = account.taken.saturating_add(units);
                    account.channel = Some(channel);
                    return Ok(Ok(()));
                }
                Taken::Wait(figures) => return Ok(Err(figures)),
                Taken::Over => return Err(Stopped::Closed),
                Taken::TryAgain => tokio::time::sleep(pause).await,
            }
            pause = pause.saturating_mul(2);
        }
        Err(Stopped::Unavailable)
    }

    /// What a payer is told who has to pay for `units` more.
    fn need(&self, units: u64, figures: ChannelFigures) -> NeedVoucher {
        let advancing = figures.accepted.saturating_add(self.tab.delta_min.max(1));
        let enough = figures.spent.saturating_add(self.tab.price(units));
        NeedVoucher {
            accepted_cumulative: figures.accepted,
            channel_id: self.tab.channel.on_rail().to_owned(),
            deposit: figures.deposit,
            required_cumulative: enough.max(advancing),
        }
    }

    /// Whether the stream may wait for a voucher.
    fn may_pause(&self) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        if pause.is_none() {
            let pauses = Arc::clone(&self.tab.gate.streams().0.pauses);
            let Ok(permit) = pauses.try_acquire_owned() else { return false };
            let (gate, route) = (self.tab.gate.clone(), self.tab.payment.route.clone());
            gate.observer().stream_paused(&route, true);
            *pause = Some(Pause { gate, route, _permit: permit });
        }
        true
    }

    fn go_on(&self) {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Tab {
    fn price(&self, units: u64) -> u128 {
        self.payment.amount.atoms().saturating_mul(units.into())
    }

    /// How many units `atoms` are enough for.
    fn units(&self, atoms: u128) -> u64 {
        let units = atoms.checked_div(self.payment.amount.atoms());
        units.map_or(u64::MAX, |units| u64::try_from(units).unwrap_or(u64::MAX))
    }
}

impl Balance for Purse {
    async fn take(&self, wanted: Wanted) -> Result<Take, Stopped> {
        // Whatever becomes of the channel from here on is news.
        self.voucher.lock().await.woken.mark_unchanged();
        let first = u64::from(!self.account.lock().await.began);
        let least = wanted.least.saturating_sub(first);
        let mut more = wanted.most.saturating_sub(first).max(least);
        while let Err(figures) = self.take_units(more).await? {
            let allowed = self.tab.units(figures.accepted.saturating_sub(figures.spent));
            // Somebody else may take of the channel meanwhile.
            more = allowed.min(more.saturating_sub(1));
            if more < least {
                let need = self.need(least, figures);
                return if self.may_pause() { Ok(Take::Short(need)) } else { Err(Stopped::Unpaid) };
            }
        }
        self.account.lock().await.began = true;
        self.voucher.lock().await.pause = LOOK_AGAIN;
        self.go_on();
        let units = NonZeroU64::new(more.saturating_add(first));
        Ok(Take::Taken(units.unwrap_or(NonZeroU64::MIN)))
    }

    async fn advanced(&self, _: NeedVoucher) {
        let mut waiting = self.voucher.lock().await;
        let pause = waiting.pause;
        waiting.pause = pause.saturating_mul(2).min(LOOK_AGAIN_MAX);
        // Running out of time is what a look is for.
        let _ = tokio::time::timeout(pause, waiting.woken.changed()).await;
    }

    fn give_back(&self, units: u64) {
        // Whoever keeps the books outlives this.
        let _ = self.orders.send(Order::GiveBack(units));
    }

    async fn receipt(&self, units: u64) -> Result<Receipt, Stopped> {
        let (said, done) = oneshot::channel();
        let _ = self.orders.send(Order::Done(said));
        let _ = done.await;
        let account = self.account.lock().await;
        let mut settlement = (*self.tab.settlement).clone();
        if let Some(channel) = &account.channel {
            let (accepted, spent) = (channel.accepted, channel.spent);
            settlement.channel = Some(ChannelSpent { accepted, spent });
        }
        let Tab { gate, payment, .. } = &self.tab;
        let mut fields = HeaderMap::new();
        let facts = ReceiptFacts { payment, settlement: &settlement, units: units.max(1) };
        for protocol in gate.till().protocols.iter().filter(|it| it.name() == payment.protocol) {
            protocol.write_receipt(&facts, &mut fields);
        }
        let written = fields.get(PAYMENT_RECEIPT).and_then(|value| value.to_str().ok());
        written.and_then(|text| Receipt::parse(text).ok()).ok_or(Stopped::Unavailable)
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.tab.gate.streams().leave(&self.tab.channel);
    }
}

/// Gives back what bought nothing, in order, until the stream is gone.
async fn keep_books(
    tab: Tab,
    account: Arc<tokio::sync::Mutex<Account>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    done: (watch::Sender<()>, Arc<Open>),
) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::GiveBack(units) => give_back(&tab, &account, units).await,
            // Whoever asked may have gone.
            Order::Done(said) => drop(said.send(())),
        }
    }
    drop(done);
}

async fn give_back(tab: &Tab, account: &tokio::sync::Mutex<Account>, units: u64) {
    let mut account = account.lock().await;
    account.returned = account.returned.saturating_add(units);
    let keep = tab.price(account.taken.saturating_sub(account.returned));
    let mut pause = ATTEMPT_PAUSE;
    for _ in 0..ATTEMPTS_MAX {
        let (till, now) = (tab.gate.till(), tab.gate.clock().now());
        match till.keep_only(&tab.channel, tab.payment.id, keep, now).await {
            Taken::Taken(channel) => {
                account.channel = Some(channel);
                return;
            }
            Taken::TryAgain => tokio::time::sleep(pause).await,
            Taken::Over | Taken::Wait(_) => break,
        }
        pause = pause.saturating_mul(2);
    }
    let (trace, route) = (tab.payment.trace, &*tab.payment.route);
    tracing::warn!(%trace, route, units, "units that bought nothing could not be given back");
}

// --- the answer --------------------------------------------------------------------------------

/// A metered body on its way to the client. Gone, it is delivered, once its books are done: as far as it was
/// paid for, and not to be given again.
pub(crate) struct Given {
    body: Option<Body>,
    end: Option<Ending>,
}

struct Ending {
    gate: Gate,
    posted: Box<Posted>,
    status: u16,
    streamed: Streamed,
}

impl Given {
    pub(crate) fn new(
        gate: Gate,
        posted: Box<Posted>,
        status: u16,
        body: Body,
        streamed: Streamed,
    ) -> Self {
        Self { body: Some(body), end: Some(Ending { gate, posted, status, streamed }) }
    }
}

impl Ending {
    async fn record(self) {
        let Self { gate, posted, status, streamed: Streamed { mut settled, open } } = self;
        // Nothing is ever sent: its sender goes away with the books.
        let _ = settled.changed().await;
        let payment = posted.payment().id;
        posted.delivered(Outcome { status }, None, gate.clock().now());
        gate.joins().wake(payment);
        drop(open);
    }
}

impl http_body::Body for Given {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // First the stream, so that its books are done.
        self.body = None;
        // Without a runtime nobody can wait for them; recovery notes it as given.
        if let (Some(end), Ok(runtime)) = (self.end.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(end.record());
        }
    }
}
