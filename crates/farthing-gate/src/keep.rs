//! Keeping an answer while it is given, so that it can be given again.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use farthing_core::{Answer, Posted};
use farthing_ledger::Outcome;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::{Body, BodyError, Gate};

/// A body on its way to the client, and a copy of it on its way to the books. The delivery is noted
/// when the body has ended.
///
/// A client that goes away does not stop it: what is left of the body is read to its end, as far as it
/// is kept, and the client finds it when it comes again.
pub(crate) struct Kept {
    body: Body,
    delivery: Option<Delivery>,
}

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
        let mut kept = Self { body, delivery: Some(delivery) };
        // An empty body may never be asked for anything.
        if kept.body.is_end_stream() {
            kept.end();
        }
        kept
    }

    /// The body has ended: the answer was given.
    fn end(&mut self) {
        if let Some(delivery) = self.delivery.take() {
            delivery.end();
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

    fn end(self) {
        let Self { gate, posted, status, fields, copy, .. } = self;
        let answer = copy.map(|body| Answer { status, fields, body });
        let payment = posted.payment().id;
        posted.delivered(Outcome { status }, answer, gate.clock().now());
        gate.joins().wake(payment);
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
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(delivery), Some(data)) = (&mut self.delivery, frame.data_ref()) {
                    delivery.copy(data);
                }
                if self.body.is_end_stream() {
                    self.end();
                }
            }
            Poll::Ready(Some(Err(_))) => self.break_off(),
            Poll::Ready(None) => self.end(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
