//! The upstream: does its work once for each order that reaches it, and stops where it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::Uri;
use bytes::Bytes;
use http_body::Frame;

/// Where an order is held, for ever: until whoever waits for it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Nowhere.
    #[default]
    Nothing,
    /// In the handler, which has done nothing yet.
    BeforeWork,
    /// In the handler, which has done everything and answered nothing.
    AfterWork,
    /// In the middle of the answer.
    HalfAnswered,
}

/// What the upstream does and did.
#[derive(Default)]
pub(crate) struct Kitchen {
    /// Where orders are held, by route.
    holds: Mutex<BTreeMap<String, Hold>>,
    /// How many are held now or were.
    pub(crate) held: AtomicUsize,
    /// How often the work of an order was done.
    done: Mutex<BTreeMap<String, usize>>,
}

impl Kitchen {
    pub(crate) async fn open() -> (SocketAddr, Arc<Self>) {
        let kitchen = Arc::new(Self::default());
        let own = Arc::clone(&kitchen);
        let router = axum::Router::new().fallback(move |request: Request| {
            let kitchen = Arc::clone(&own);
            async move { kitchen.cook(request.uri()).await }
        });
        (crate::world::serve(router).await, kitchen)
    }

    async fn cook(&self, uri: &Uri) -> Body {
        let route = uri.path().trim_start_matches('/').to_owned();
        let order = uri.query().unwrap_or_default().to_owned();
        let hold = self.holds.lock().unwrap().get(&route).copied().unwrap_or_default();
        if hold == Hold::BeforeWork {
            self.hold().await;
        }
        *self.done.lock().unwrap().entry(order.clone()).or_default() += 1;
        if hold == Hold::AfterWork {
            self.hold().await;
        }
        let answer = answer(&order);
        if hold == Hold::HalfAnswered {
            self.held.fetch_add(1, Ordering::SeqCst);
            return Body::new(Half(Some(answer.split_at(3).0.to_owned().into())));
        }
        answer.into()
    }

    /// A connection that ends drops whoever is held on it.
    async fn hold(&self) {
        self.held.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<()>().await;
    }

    pub(crate) fn hold_at(&self, route: &str, hold: Hold) {
        self.holds.lock().unwrap().insert(route.to_owned(), hold);
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn done(&self, order: &str) -> usize {
        self.done.lock().unwrap().get(order).copied().unwrap_or_default()
    }
}

/// What an order is answered with.
pub(crate) fn answer(order: &str) -> String {
    format!("the answer to {order}")
}

/// The first half of an answer, whose second half never comes.
struct Half(Option<Bytes>);

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.take().map_or(Poll::Pending, |half| Poll::Ready(Some(Ok(Frame::data(half)))))
    }
}
