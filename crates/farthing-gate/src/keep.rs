//! Keeping an answer while it is given, so that it can be given again.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use farthing_core::{Answer, Posted};
use farthing_ledger::Outcome;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;

use crate::{Body, BodyError, Gate};

/// A body on its way to the client, and a copy of it on its way to the books. The delivery is noted
/// when the body has ended.
///
/// Of what must not happen twice, the client gets the end only once that is durable: whenever the machine
/// stops, whoever has the whole answer is not given the money back as well.
///
/// A client that goes away does not stop it: what is left of the body is read to its end, as far as it
/// is kept, and the client finds it when it comes again.
pub(crate) struct Kept {
    body: Body,
    delivery: Option<Delivery>,
    recording: Option<JoinHandle<bool>>,
    /// The end of the body, while the delivery is being recorded.
    last: Option<Frame<Bytes>>,
}

/// The delivery could not be written down.
#[derive(Debug, thiserror::Error)]
#[error("the store does not answer; present the same credential again")]
struct Unrecorded;

/// A delivery that has begun.
struct Delivery {
    gate: Gate,
    posted: Box<Posted>,
    status: u16,
    fields: HeaderMap,
    /// What came so far; nothing once it is more than is kept.
    copy: Option<Vec<u8>>,
    bytes_max: usize,
}

impl Kept {
    /// Gives `body` to the client of `posted`, and keeps at most `bytes_max` of it.
    pub(crate) fn new(
        gate: Gate,
        posted: Box<Posted>,
        (status, fields): (u16, HeaderMap),
        body: Body,
        bytes_max: usize,
    ) -> Self {
        let copy = (bytes_max > 0).then(Vec::new);
        let delivery = Delivery { gate, posted, status, fields, copy, bytes_max };
        let mut kept = Self { body, delivery: Some(delivery), recording: None, last: None };
        // An empty body may never be asked for anything.
        if kept.body.is_end_stream() {
            kept.end();
        }
        kept
    }

    /// Waits until the head may be given. `false`: it must not be.
    pub(crate) async fn may_begin(&mut self) -> bool {
        match self.recording.take() {
            Some(recording) => recording.await.unwrap_or(false),
            None => true,
        }
    }

    /// The body has ended: the answer was given, but for its end.
    fn end(&mut self) {
        let Some(delivery) = self.delivery.take() else { return };
        if delivery.posted.payment().terms.repeatable {
            delivery.end();
        } else {
            self.recording = Some(tokio::spawn(delivery.record()));
        }
    }

    /// The body broke off: whether the client can do anything with what it got, nobody can tell.
    fn break_off(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.break_off();
        }
    }
}

impl Delivery {
    fn copy(&mut self, data: &Bytes) {
        let Some(copy) = &mut self.copy else { return };
        if copy.len().saturating_add(data.remaining()) > self.bytes_max {
            self.copy = None;
        } else {
            copy.extend_from_slice(data);
        }
    }

    /// What is noted of it, all of it given.
    fn given(self) -> (Gate, Box<Posted>, Outcome, Option<Answer>) {
        let Self { gate, posted, status, fields, copy, .. } = self;
        let answer = copy.map(|body| Answer { status, fields, body });
        (gate, posted, Outcome { status }, answer)
    }

    fn end(self) {
        let (gate, posted, outcome, answer) = self.given();
        let payment = posted.payment().id;
        posted.delivered(outcome, answer, gate.clock().now());
        gate.joins().wake(payment);
    }

    /// As [`Delivery::end`], to its end. `false`: the answer must not be given.
    async fn record(self) -> bool {
        let (gate, posted, outcome, answer) = self.given();
        let payment = posted.payment().id;
        let recorded = posted.recorded(outcome, answer, gate.clock().now()).await;
        gate.joins().wake(payment);
        recorded.is_ok()
    }

    fn break_off(self) {
        let Self { gate, posted, status, .. } = self;
        let payment = posted.payment().id;
        posted.failed(Outcome { status }, gate.clock().now());
        gate.joins().wake(payment);
    }
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.recording.is_none() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let (Some(delivery), Some(data)) = (&mut self.delivery, frame.data_ref()) {
                        delivery.copy(data);
                    }
                    if self.body.is_end_stream() {
                        self.end();
                    }
                    if self.recording.is_none() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                    self.last = Some(frame);
                }
                Some(Err(error)) => {
                    self.break_off();
                    return Poll::Ready(Some(Err(error)));
                }
                None => self.end(),
            }
        }
        if let Some(recording) = &mut self.recording {
            let recorded = ready!(Pin::new(recording).poll(context));
            self.recording = None;
            if !recorded.unwrap_or(false) {
                self.last = None;
                return Poll::Ready(Some(Err(BodyError::new(Unrecorded))));
            }
        }
        Poll::Ready(self.last.take().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.recording.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // Of its last frame nobody knows how long the whole body is, and nobody asks.
        if self.last.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Some(delivery) = self.delivery.take() else { return };
        let rest = std::mem::replace(&mut self.body, crate::body::full(Bytes::new()));
        // Without a runtime nobody can read on, and the delivery counts as interrupted.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(drain(rest, delivery));
        }
    }
}

/// Reads what is left of a body, for nobody but the books.
async fn drain(mut body: Body, mut delivery: Delivery) {
    // What is longer than is kept was given as far as the client wanted it.
    while delivery.copy.is_some() {
        match body.frame().await {
            Some(Ok(frame)) => frame.data_ref().into_iter().for_each(|data| delivery.copy(data)),
            Some(Err(_)) => return delivery.break_off(),
            None => break,
        }
    }
    delivery.end();
}
