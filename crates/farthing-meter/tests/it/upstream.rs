//! An upstream whose frames a test sends one by one.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_meter::BoxError;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

/// The end that a test holds.
pub(crate) struct Sender {
    frames: mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>,
    read: Arc<AtomicUsize>,
}

/// The body.
pub(crate) struct Upstream {
    frames: mpsc::UnboundedReceiver<Result<Frame<Bytes>, BoxError>>,
    read: Arc<AtomicUsize>,
}

pub(crate) fn upstream() -> (Sender, Upstream) {
    let (sender, frames) = mpsc::unbounded_channel();
    let read = Arc::new(AtomicUsize::new(0));
    (Sender { frames: sender, read: Arc::clone(&read) }, Upstream { frames, read })
}

impl Sender {
    pub(crate) fn data(&self, bytes: impl Into<Bytes>) {
        // Whoever reads may have gone.
        let _ = self.frames.send(Ok(Frame::data(bytes.into())));
    }

    pub(crate) fn frame(&self, frame: Frame<Bytes>) {
        self.frames.send(Ok(frame)).unwrap();
    }

    pub(crate) fn fail(&self) {
        self.frames.send(Err("the model caught fire".into())).unwrap();
    }

    /// How many frames were read.
    pub(crate) fn read(&self) -> usize {
        self.read.load(Ordering::SeqCst)
    }

    /// Waits until the body is dropped.
    pub(crate) async fn until_dropped(&self) {
        self.frames.closed().await;
    }
}

impl Body for Upstream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.frames.poll_recv(context);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.read.fetch_add(1, Ordering::SeqCst);
        }
        polled
    }
}
