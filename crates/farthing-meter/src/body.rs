//! The meter around a body: polled by a server, paid from a balance.

#![expect(clippy::disallowed_methods, reason = "this is where time comes from")]

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use farthing_mpp::Receipt;
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use crate::balance::{Balance, NeedVoucher, Stopped, Take};
use crate::ending::{BoxError, End, StreamError, Summary, take_reserved, with_receipt};
use crate::meter::{Meter, Next};
use crate::voice::Voice;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What polling a body comes to: something for the server, or another look.
type Step = ControlFlow<Option<Result<Frame<Bytes>, StreamError>>>;

/// A body that gives its client what was paid for.
///
/// | It ends because | A stream of events, or of [frames](crate::ws) | Any other body |
/// |---|---|---|
/// | the upstream ended | receipt | receipt trailer, if the client takes trailers |
/// | no voucher came in time, or the channel closed | a comment or error frame, receipt, end | [`StreamError`] |
/// | the upstream broke off, or an event was too long | the same, [`StreamError`] | [`StreamError`] |
/// | the books cannot be written | [`StreamError`] | [`StreamError`] |
///
/// A server that gets an error from a body breaks the connection off, so that nobody takes a part for
/// the whole. A stream of events says by its own last event (`[DONE]`, `message_stop`) whether it is
/// whole.
///
/// The upstream is polled only when nothing is left to give, and not at all during a pause: a client
/// that does not pay or does not read stops it, and no more is held than [`Meter`] says.
///
/// Dropping it stops everything: the upstream is dropped, nothing more is charged, and what was paid
/// and not given to the server is given back, even if it is still being taken.
pub struct Metered<B, S: Balance> {
    upstream: Option<Pin<Box<B>>>,
    meter: Meter,
    balance: Arc<S>,
    settings: Settings,
    clock: StreamClock,
    state: State,
    pause: Option<Pause>,
    pauses: u64,
    /// Fields by which the upstream spoke of payments.
    forged_fields: u64,
    trailers: HeaderMap,
    failure: Option<StreamError>,
    end: Option<End>,
    observer: Option<Box<dyn FnOnce(Summary) + Send>>,
}

/// What a body is to do where the meter has no say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long to wait for a voucher.
    pub wait: Duration,
    /// Whether the client takes a trailer with the receipt.
    pub trailers: bool,
}

/// What a body is doing.
enum State {
    /// Giving, or waiting for the upstream, or until a unit of time is due.
    Flowing(Option<Pin<Box<Sleep>>>),
    /// Waiting for the books.
    Taking(Boxed<Result<Take, Stopped>>),
    /// Waiting for the payer.
    Paused(Boxed<()>),
    /// Waiting for the receipt.
    Closing(End, Boxed<Result<Receipt, Stopped>>),
    /// With the last words left to give.
    Last(VecDeque<Result<Frame<Bytes>, StreamError>>),
}

/// A pause for payment, until units are taken.
struct Pause {
    /// What the client was told last.
    shown: NeedVoucher,
    deadline: Pin<Box<Sleep>>,
}

/// How long it streamed, pauses aside.
#[derive(Default)]
struct StreamClock {
    before: Duration,
    since: Option<Instant>,
}

impl StreamClock {
    fn start(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    fn stop(&mut self) {
        self.before = self.streamed();
        self.since = None;
    }

    fn streamed(&self) -> Duration {
        let running = self.since.as_ref().map(Instant::elapsed).unwrap_or_default();
        self.before.saturating_add(running)
    }
}

impl<B, S: Balance> Metered<B, S> {
    /// Meters `upstream`, and pays from `balance`.
    #[must_use]
    pub fn new(upstream: B, meter: Meter, balance: S, settings: Settings) -> Self {
        Self {
            upstream: Some(Box::pin(upstream)),
            meter,
            balance: Arc::new(balance),
            settings,
            clock: StreamClock::default(),
            state: State::Flowing(None),
            pause: None,
            pauses: 0,
            forged_fields: 0,
            trailers: HeaderMap::new(),
            failure: None,
            end: None,
            observer: None,
        }
    }

    /// Calls `observer` once, when the stream has ended in whatever way.
    #[must_use]
    pub fn on_end(mut self, observer: impl FnOnce(Summary) + Send + 'static) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Counts fields of the head by which the upstream spoke of payments.
    pub(crate) fn with_forged_fields(mut self, count: u64) -> Self {
        self.forged_fields = count;
        self
    }

    /// Notes what was taken, or begins to wait.
    fn taken(&mut self, taken: Result<Take, Stopped>) -> Step {
        match taken {
            Ok(Take::Taken(units)) => {
                self.meter.paid(units.get());
                self.pause = None;
                self.state = State::Flowing(None);
            }
            Ok(Take::Short(need)) => return self.pause_for(&need),
            Err(Stopped::Unpaid) => self.close(End::Unpaid),
            Err(Stopped::Closed) => self.close(End::Closed),
            Err(Stopped::Unavailable) => self.close(End::Unavailable),
        }
        Step::Continue(())
    }

    /// Pauses until the channel is no more as `need` says, and tells the client unless it knows.
    fn pause_for(&mut self, need: &NeedVoucher) -> Step {
        self.clock.stop();
        let (balance, seen) = (Arc::clone(&self.balance), need.clone());
        self.state = State::Paused(Box::pin(async move { balance.advanced(seen).await }));
        match &mut self.pause {
            Some(pause) if pause.shown == *need => return Step::Continue(()),
            // Who pays a part of what is needed is told the rest, and has no longer for it.
            Some(pause) => pause.shown = need.clone(),
            None => {
                self.pauses = self.pauses.saturating_add(1);
                let deadline = Box::pin(tokio::time::sleep(self.settings.wait));
                self.pause = Some(Pause { shown: need.clone(), deadline });
            }
        }
        let words = self.meter.voice().need_voucher(need);
        words.map_or(Step::Continue(()), |words| data(self.meter.spaced(words)))
    }

    /// Ends the stream: what was not used is given back, and the receipt is asked for.
    fn close(&mut self, end: End) {
        self.clock.stop();
        self.upstream = None;
        give_back(&*self.balance, self.meter.unused());
        self.note(end);
        self.state = if end == End::Unavailable {
            State::Last([Err(StreamError::Unavailable)].into())
        } else {
            let (balance, units) = (Arc::clone(&self.balance), self.meter.used());
            State::Closing(end, Box::pin(async move { balance.receipt(units).await }))
        };
    }

    /// Tells the observer, once.
    fn note(&mut self, end: End) {
        self.end = Some(end);
        let Some(observer) = self.observer.take() else { return };
        observer(Summary {
            end,
            units: self.meter.used(),
            pauses: self.pauses,
            forged: self.meter.forged().saturating_add(self.forged_fields),
        });
    }

    /// Says why the stream ends, if it has to, and leaves the receipt and the rest for later.
    fn closed(&mut self, end: End, receipt: Option<&Receipt>) -> Step {
        let voice = self.meter.voice();
        let error = match end {
            End::Unpaid | End::Closed => (voice == Voice::Silent).then_some(StreamError::Unpaid),
            End::Upstream | End::TooLong => self.failure.take(),
            End::Complete | End::Unavailable | End::Dropped => None,
        };
        let mut trailers = std::mem::take(&mut self.trailers);
        if self.settings.trailers {
            trailers = with_receipt(trailers, receipt);
        }
        let receipt = receipt.and_then(|receipt| voice.receipt(receipt));
        let last = match error {
            Some(error) => Some(Err(error)),
            None if end == End::Complete && !trailers.is_empty() => {
                Some(Ok(Frame::trailers(trailers)))
            }
            None => None,
        };
        let words = voice.reason(end).into_iter().chain(receipt);
        let words = words.map(|words| Ok(Frame::data(self.meter.spaced(words))));
        self.state = State::Last(words.chain(last).collect());
        Step::Continue(())
    }
}

impl<B, S> Metered<B, S>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    S: Balance,
{
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        match &mut self.state {
            State::Flowing(_) => return self.flow(context),
            State::Taking(taking) => {
                let taken = ready!(taking.as_mut().poll(context));
                return Poll::Ready(self.taken(taken));
            }
            State::Paused(advanced) => {
                if advanced.as_mut().poll(context).is_ready() {
                    self.state = State::Flowing(None);
                } else {
                    let Some(pause) = &mut self.pause else { return Poll::Pending };
                    ready!(pause.deadline.as_mut().poll(context));
                    self.close(End::Unpaid);
                }
            }
            State::Closing(end, receipt) => {
                let receipt = ready!(receipt.as_mut().poll(context)).ok();
                let end = *end;
                return Poll::Ready(self.closed(end, receipt.as_ref()));
            }
            State::Last(words) => return Poll::Ready(Step::Break(words.pop_front())),
        }
        Poll::Ready(Step::Continue(()))
    }

    /// Does the meter's next thing.
    fn flow(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if self.pause.is_none() {
            self.clock.start();
        }
        match self.meter.next(self.clock.streamed()) {
            Ok(Next::Release(bytes)) => return Poll::Ready(data(bytes)),
            Ok(Next::Take(wanted)) => {
                let balance = Arc::clone(&self.balance);
                self.state = State::Taking(Box::pin(async move { balance.take(wanted).await }));
            }
            Ok(Next::Upstream) => ready!(self.read(context)),
            Ok(Next::Done) => {
                let end = if self.failure.is_some() { End::Upstream } else { End::Complete };
                self.close(end);
            }
            Err(error) => {
                self.failure = Some(error.into());
                self.close(End::TooLong);
            }
        }
        Poll::Ready(Step::Continue(()))
    }

    /// Reads a frame of the upstream, or waits until the next unit of time is due.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(upstream) = &mut self.upstream else {
            self.meter.end();
            return Poll::Ready(());
        };
        match upstream.as_mut().poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => self.meter.push(data),
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    let forged = take_reserved(&mut trailers);
                    self.forged_fields = self.forged_fields.saturating_add(forged);
                    self.trailers.extend(trailers);
                }
            },
            Poll::Ready(Some(Err(error))) => {
                self.failure = Some(StreamError::Upstream(error.into()));
                self.upstream = None;
                self.meter.fail();
            }
            Poll::Ready(None) => {
                self.upstream = None;
                self.meter.end();
            }
            Poll::Pending => return self.tick(context),
        }
        Poll::Ready(())
    }

    fn tick(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(due_in) = self.meter.due_in(self.clock.streamed()) else { return Poll::Pending };
        let State::Flowing(timer) = &mut self.state else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(due_in)));
        ready!(timer.as_mut().poll(context));
        self.state = State::Flowing(None);
        Poll::Ready(())
    }
}

impl<B, S> Body for Metered<B, S>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    S: Balance,
{
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        loop {
            if let Step::Break(polled) = ready!(self.step(context)) {
                return Poll::Ready(polled);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.state, State::Last(words) if words.is_empty())
    }
}

impl<B, S: Balance> Drop for Metered<B, S> {
    fn drop(&mut self) {
        if self.end.is_some() {
            return;
        }
        let unused = self.meter.unused();
        let taking = std::mem::replace(&mut self.state, State::Last(VecDeque::new()));
        match (taking, tokio::runtime::Handle::try_current()) {
            (State::Taking(taking), Ok(runtime)) => {
                let balance = Arc::clone(&self.balance);
                runtime.spawn(async move {
                    let late = match taking.await {
                        Ok(Take::Taken(units)) => units.get(),
                        Ok(Take::Short(_)) | Err(_) => 0,
                    };
                    give_back(&*balance, unused.saturating_add(late));
                });
            }
            _ => give_back(&*self.balance, unused),
        }
        self.note(End::Dropped);
    }
}

fn give_back(balance: &impl Balance, units: u64) {
    if units > 0 {
        balance.give_back(units);
    }
}

fn data(bytes: Bytes) -> Step {
    Step::Break(Some(Ok(Frame::data(bytes))))
}
