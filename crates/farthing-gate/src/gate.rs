//! A till, joined to HTTP.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Ask, Protocol, Quote, Rail, Store, Till};
use farthing_evidence::Notary;
use farthing_ledger::Holder;
use farthing_money::Amount;
use farthing_mpp::{Secret, Secrets};
use farthing_protocols::mpp::{Mpp, UnfitRealm};
use http::{HeaderMap, Response};

use crate::joins::Joins;
use crate::limiter::Limiter;
use crate::observe::Nobody;
use crate::problem::{self, Answer};
use crate::service::GateLayer;
use crate::{Body, Clock, Observer, PriceTag, Pricing, RateLimit, Streams, SystemClock, Tag};

/// How long a request waits for another one with the same credential.
const JOIN_WAIT: Duration = Duration::from_secs(10);

/// A till, joined to HTTP. Clones share it.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    till: Till,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    limiter: Option<Limiter>,
    notary: Option<Arc<Notary>>,
    joins: Joins,
    join_wait: Duration,
    streams: Streams,
}

/// Puts a gate together.
pub struct GateBuilder {
    protocols: Vec<Arc<dyn Protocol>>,
    rails: Vec<Arc<dyn Rail>>,
    clock: Arc<dyn Clock>,
    observer: Arc<dyn Observer>,
    limit: Option<RateLimit>,
    notary: Option<Arc<Notary>>,
    join_wait: Duration,
    streams: Streams,
}

impl Gate {
    /// Starts a gate that speaks the Payment scheme for `realm`, bound with `secret`.
    ///
    /// # Errors
    ///
    /// [`UnfitRealm`] for a realm that a challenge cannot carry.
    pub fn builder(realm: &str, secret: Secret) -> Result<GateBuilder, UnfitRealm> {
        let mpp = Mpp::new(realm, Secrets::new(secret, Vec::new()))?;
        Ok(GateBuilder::new(vec![Arc::new(mpp)]))
    }

    /// Wraps a service: requests that cost something pass only when they are paid.
    pub fn layer<P: Pricing>(&self, pricing: P) -> GateLayer<P> {
        GateLayer::new(self.clone(), pricing)
    }

    /// Quotes `amount` for `payee` on every rail that carries it.
    ///
    /// Worth keeping for a fixed price; quick enough to call for every request.
    #[must_use]
    pub fn quotes(&self, amount: &Amount, payee: &Holder) -> Vec<Arc<Quote>> {
        let quote = |rail: &Arc<dyn Rail>| {
            let request = rail.quote(amount, payee).ok()?;
            let (amount, payee) = (amount.clone(), payee.clone());
            Some(Arc::new(Quote::new(rail.method(), "charge", amount, payee, &request)))
        };
        self.0.till.rails.iter().filter_map(quote).collect()
    }

    /// The tag of something that costs `amount`, on every rail that carries it.
    #[must_use]
    pub fn tag(&self, route: &str, amount: &Amount, payee: &Holder) -> Tag {
        match self.quotes(amount, payee) {
            quotes if quotes.is_empty() => Tag::Unpayable,
            quotes => Tag::Priced(PriceTag::new(route, quotes)),
        }
    }

    pub(crate) fn till(&self) -> &Till {
        &self.0.till
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.0.observer
    }

    pub(crate) fn joins(&self) -> &Joins {
        &self.0.joins
    }

    pub(crate) fn streams(&self) -> &Streams {
        &self.0.streams
    }

    pub(crate) fn join_wait(&self) -> Duration {
        self.0.join_wait
    }

    pub(crate) fn notary(&self) -> Option<&Notary> {
        self.0.notary.as_deref()
    }

    pub(crate) fn limiter(&self) -> Option<&Limiter> {
        self.0.limiter.as_ref()
    }

    /// An answer as a response, with fresh challenges where they belong.
    pub(crate) fn respond(
        &self,
        answer: &Answer,
        ask: &Ask,
        request: &HeaderMap,
    ) -> Response<Body> {
        let mut response = answer.response();
        if answer.wants_challenges() {
            let offers = ask.offers(self.clock().now(), rand::random);
            for protocol in &self.till().protocols {
                protocol.write_offers(&offers, request, response.headers_mut());
            }
            // A 402 without a challenge would tell nobody how to go on (§4.4.2).
            if !response.headers().contains_key(http::header::WWW_AUTHENTICATE) {
                return problem::unpayable().response();
            }
        }
        response
    }
}

impl GateBuilder {
    /// Starts a gate that speaks `protocols`.
    #[must_use]
    pub fn new(protocols: Vec<Arc<dyn Protocol>>) -> Self {
        Self {
            protocols,
            rails: Vec::new(),
            clock: Arc::new(SystemClock),
            observer: Arc::new(Nobody),
            limit: None,
            notary: None,
            join_wait: JOIN_WAIT,
            streams: Streams::default(),
        }
    }

    /// Accepts payment on `rail`.
    #[must_use]
    pub fn rail(mut self, rail: impl Rail + 'static) -> Self {
        self.rails.push(Arc::new(rail));
        self
    }

    /// Accepts payment on `rails`.
    #[must_use]
    pub fn rails(mut self, rails: impl IntoIterator<Item = Arc<dyn Rail>>) -> Self {
        self.rails.extend(rails);
        self
    }

    /// Tells the time by `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Tells `observer` of every decision.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = observer;
        self
    }

    /// Limits how often one client address may ask.
    #[must_use]
    pub fn limit(mut self, limit: RateLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lets `notary` sign a receipt for every answer that was paid for, in `Farthing-Receipt`.
    #[must_use]
    pub fn receipts(mut self, notary: Arc<Notary>) -> Self {
        self.notary = Some(notary);
        self
    }

    /// How long a request waits for another one with the same credential, to be given its answer.
    #[must_use]
    pub fn join_wait(mut self, wait: Duration) -> Self {
        self.join_wait = wait;
        self
    }

    /// Gives answers that are paid for as they are given among `streams`.
    #[must_use]
    pub fn streams(mut self, streams: Streams) -> Self {
        self.streams = streams;
        self
    }

    /// Writes payments down in `store`, and is complete.
    #[must_use]
    pub fn store(self, store: Arc<dyn Store>) -> Gate {
        Gate(Arc::new(Inner {
            till: Till { protocols: self.protocols, rails: self.rails, store },
            clock: self.clock,
            observer: self.observer,
            limiter: self.limit.map(Limiter::new),
            notary: self.notary,
            joins: Joins::default(),
            join_wait: self.join_wait,
            streams: self.streams,
        }))
    }
}
