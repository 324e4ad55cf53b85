//! The layer and the service it makes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_core::{
    Admission, Ask, Managed, ManagedFacts, Posted, Quote, ReceiptFacts, Refusal, Reserved, Scope,
    Unsubscribed, UnsubscribedFacts,
};
use farthing_evidence::ReceiptClaims;
use farthing_ledger::{Outcome, Payment, Terms, TraceId};
use farthing_money::{Amount, Timestamp};
use farthing_mpp::{BodyDigest, Credential, field_text};
use farthing_protocols::mpp::PAYMENT_AUTHORIZATION;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower_layer::Layer;
use tower_service::Service;

use crate::body::{self, Unread, boxed, full};
use crate::keep::Kept;
use crate::problem::{self, Answer};
use crate::streams::{Given, Streamed, Tab};
use crate::{
    Body, BoxError, ClientAddress, Decision, Gate, PriceTag, Pricing, Tag, Verdict, cache,
};

mod sockets;

pub use sockets::Sale;

/// The client's name for one purchase of something that must not happen twice.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("farthing-replayed");

/// Says what is done about an answer that failed after it was paid for.
const REMEDY: HeaderName = HeaderName::from_static("farthing-remedy");

/// Carries the receipt that anybody can check.
pub const FARTHING_RECEIPT: HeaderName = HeaderName::from_static("farthing-receipt");

/// The remedy of money that was only held.
const RELEASED: &str = "released";

/// The longest such name.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Wraps a service with a [`Gate`].
pub struct GateLayer<P> {
    gate: Gate,
    pricing: Arc<P>,
}

impl<P> GateLayer<P> {
    pub(crate) fn new(gate: Gate, pricing: P) -> Self {
        Self { gate, pricing: Arc::new(pricing) }
    }
}

impl<P> Clone for GateLayer<P> {
    fn clone(&self) -> Self {
        Self { gate: self.gate.clone(), pricing: Arc::clone(&self.pricing) }
    }
}

impl<S, P> Layer<S> for GateLayer<P> {
    type Service = GateService<S, P>;

    fn layer(&self, inner: S) -> GateService<S, P> {
        GateService { inner, layer: self.clone() }
    }
}

/// A service behind a [`Gate`].
pub struct GateService<S, P> {
    inner: S,
    layer: GateLayer<P>,
}

impl<S: Clone, P> Clone for GateService<S, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

/// What was bought, for the service behind the gate: an extension of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    /// Names the payment's story.
    pub trace: TraceId,
    /// Who paid, as the rail has verified it.
    pub payer: String,
    /// How much.
    pub amount: Amount,
    /// The payment method.
    pub method: String,
}

impl<S, P, B, R> Service<Request<B>> for GateService<S, P>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    P: Pricing,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to call; a clone takes its place.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let gate = self.layer.gate.clone();
        let (mut head, body) = request.into_parts();
        match self.layer.pricing.price(&head) {
            Tag::Free => {
                take_credentials(&mut head.headers);
                Box::pin(pass(inner, Request::from_parts(head, boxed(body))))
            }
            Tag::Unpayable => Box::pin(async { Ok(problem::unpayable().response()) }),
            Tag::Priced(tag) => Box::pin(sell(gate, tag, inner, head, body)),
        }
    }
}

/// Lets a free request through.
async fn pass<S, R>(mut inner: S, request: Request<Body>) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    Ok(inner.call(request).await?.map(boxed))
}

/// Lets a priced request through if it is paid.
async fn sell<S, B, R>(
    gate: Gate,
    tag: PriceTag,
    inner: S,
    mut head: Parts,
    body: B,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let bytes_max = tag.answer_bytes_max;
    let Paid { right, body, digest, tab } = match decide(&gate, tag, &head, body).await {
        Ok(paid) => paid,
        Err(response) => return Ok(response),
    };
    take_credentials(&mut head.headers);
    head.extensions.insert(purchase(right.payment()));
    if let Some(tab) = tab {
        head.extensions.insert(tab);
    }
    let request = Request::from_parts(head, body);
    let task = tokio::spawn(serve(gate, right, inner, request, Sold { digest, bytes_max }));
    // A panic in there is the handler's: the payment stays undelivered.
    task.await.unwrap_or_else(|_| Ok(problem::interrupted().response()))
}

/// What is known of a sale beside the payment.
#[derive(Clone, Copy)]
struct Sold {
    /// The SHA-256 of the request's body, where the payment is bound to it.
    digest: Option<[u8; 32]>,
    /// The longest body of an answer that is kept.
    bytes_max: usize,
}

/// A request that was paid for.
struct Paid {
    right: Right,
    /// The body to hand on.
    body: Body,
    /// Its digest, if it is bound.
    digest: Option<[u8; 32]>,
    /// What more may be taken for it, within a session.
    tab: Option<Tab>,
}

/// The right to run a handler.
enum Right {
    /// Its answer is paid for.
    Posted(Box<Posted>),
    /// It is paid for once the handler has succeeded.
    Reserved(Box<Reserved>),
}

impl Right {
    const fn payment(&self) -> &Payment {
        match self {
            Self::Posted(posted) => posted.payment(),
            Self::Reserved(reserved) => reserved.payment(),
        }
    }

    const fn begin(&mut self) {
        match self {
            Self::Posted(posted) => posted.begin(),
            Self::Reserved(reserved) => reserved.begin(),
        }
    }
}

/// Runs a paid handler to its end, even if the client goes away meanwhile: its answer is kept, and the
/// client finds it when it comes again.
async fn serve<S, R>(
    gate: Gate,
    mut right: Right,
    mut inner: S,
    request: Request<Body>,
    sold: Sold,
) -> Result<Response<Body>, S::Error>
where
    S: Service<Request<Body>, Response = Response<R>>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    right.begin();
    let response = inner.call(request).await?.map(boxed);
    Ok(match right {
        Right::Posted(posted) => deliver(&gate, posted, response, sold).await,
        Right::Reserved(reserved) => capture(&gate, reserved, response, sold).await,
    })
}

/// Moves the money of a handler that has succeeded, and gives it free where it has failed. An answer
/// that could not be paid for is not given.
async fn capture(
    gate: &Gate,
    reserved: Box<Reserved>,
    mut response: Response<Body>,
    sold: Sold,
) -> Response<Body> {
    let (payment, status) = (reserved.payment().id, response.status());
    let now = gate.clock().now();
    if status.is_success() || status.is_redirection() {
        if let Ok(posted) = reserved.settle(now).await {
            return deliver(gate, Box::new(posted), response, sold).await;
        }
        gate.joins().wake(payment);
        return problem::refused(&Refusal::TryAgain).response();
    }
    // What cannot be given free now, recovery gives free.
    let _ = reserved.release(now).await;
    gate.joins().wake(payment);
    cache::make_private(response.headers_mut());
    remove_forged_receipts(response.headers_mut());
    response.headers_mut().insert(REMEDY, HeaderValue::from_static(RELEASED));
    response
}

/// Decides a priced request: what was paid for, or the answer to give instead.
async fn decide<B>(
    gate: &Gate,
    tag: PriceTag,
    head: &Parts,
    body: B,
) -> Result<Paid, Response<Body>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let started = gate.clock().now();
    let tell = |route: &str, verdict| {
        let took = gate.clock().now().since(started);
        gate.observer().decided(&Decision { route, verdict, took });
    };
    let unfit = |route: &str, answer: &Answer| {
        tell(route, Verdict::Unfit);
        answer.response()
    };
    if let Err(wait) = within_limit(gate, head, started) {
        tell(&tag.route, Verdict::Limited);
        return Err(problem::too_often(wait).response());
    }
    let key = idempotency_key(head)
        .map_err(|BadKey| unfit(&tag.route, &problem::bad_idempotency_key()))?;
    let (digest, body) =
        bind_body(&tag, body).await.map_err(|answer| unfit(&tag.route, &answer))?;
    let ask = Arc::new(ask(tag, head, key, digest));
    let decided = match join(gate, &ask, &head.headers).await {
        Ok(Admission::Deliver(posted)) => {
            tell(&ask.scope.route, Verdict::Paid(posted.payment()));
            let tab = Tab::of(gate, &posted, delta_min(&ask, posted.payment()));
            if let Some(voucher) = &posted.payment().voucher {
                gate.streams().wake(&voucher.channel);
            }
            return Ok(Paid { right: Right::Posted(posted), body, digest, tab });
        }
        Ok(Admission::Execute(reserved)) => {
            tell(&ask.scope.route, Verdict::Reserved(reserved.payment()));
            return Ok(Paid { right: Right::Reserved(reserved), body, digest, tab: None });
        }
        Ok(Admission::Again(answer)) => {
            tell(&ask.scope.route, Verdict::Again);
            return Err(again(*answer));
        }
        Ok(Admission::Managed(managed)) => {
            tell(&ask.scope.route, Verdict::Managed);
            gate.streams().wake(&managed.channel.facts.id);
            return Err(managed_session(gate, &managed));
        }
        Ok(Admission::Unsubscribed(unsubscribed)) => {
            tell(&ask.scope.route, Verdict::Managed);
            return Err(cancelled(gate, &unsubscribed));
        }
        Ok(Admission::Challenge) => None,
        Err(refusal) => Some(refusal),
    };
    let (answer, verdict) = match &decided {
        None => (problem::payment_required(), Verdict::Challenged),
        Some(refusal) => (problem::refused(refusal), Verdict::Refused(refusal)),
    };
    let response = gate.respond(&answer, &ask, &head.headers);
    tell(&ask.scope.route, verdict);
    Err(response)
}

/// Decides, and waits for another request with the same credential if there is one: it is that one's
/// answer that is wanted.
async fn join(gate: &Gate, ask: &Arc<Ask>, fields: &HeaderMap) -> Result<Admission, Refusal> {
    // Waiting is done in the time of the machine, whatever the gate's clock says.
    let since = tokio::time::Instant::now();
    loop {
        match admit(gate, ask, fields).await {
            Err(Refusal::InProgress(payment)) if since.elapsed() < gate.join_wait() => {
                gate.joins().wait(payment).await;
            }
            decided => return decided,
        }
    }
}

/// The answer that was given before.
fn again(answer: farthing_core::Answer) -> Response<Body> {
    let mut response = Response::new(full(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or_default();
    *response.headers_mut() = answer.fields;
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Says what was done with a session. Nothing was bought, and there is nothing to say beside.
fn managed_session(gate: &Gate, managed: &Managed) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let wires = gate.till().protocols.iter().filter(|it| it.name() == managed.protocol);
    for protocol in wires {
        protocol.write_session(&ManagedFacts { managed }, response.headers_mut());
    }
    cache::make_private(response.headers_mut());
    response
}

/// Says that a subscription was cancelled. Nothing was bought, and there is nothing to say beside.
fn cancelled(gate: &Gate, unsubscribed: &Unsubscribed) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let wires = gate.till().protocols.iter().filter(|it| it.name() == unsubscribed.protocol);
    for protocol in wires {
        protocol.write_subscription(&UnsubscribedFacts { unsubscribed }, response.headers_mut());
    }
    cache::make_private(response.headers_mut());
    response
}

/// Runs [`farthing_core::Till::admit`] to its end, even if the client goes away meanwhile: a
/// settlement that is under way must not be dropped half-way.
async fn admit(gate: &Gate, ask: &Arc<Ask>, fields: &HeaderMap) -> Result<Admission, Refusal> {
    let now = gate.clock().now();
    // The common case needs no task: nothing presented, nothing to run to its end.
    if !carries_credential(fields) {
        return gate.till().admit(ask, fields, now).await;
    }
    let (gate, ask, fields) = (gate.clone(), Arc::clone(ask), fields.clone());
    let task = tokio::spawn(async move { gate.till().admit(&ask, &fields, now).await });
    // A panic in there is ours; the books hold whatever was claimed.
    task.await.unwrap_or(Err(Refusal::TryAgain))
}

fn ask(tag: PriceTag, head: &Parts, key: Option<String>, body: Option<[u8; 32]>) -> Ask {
    Ask {
        scope: Scope {
            route: tag.route,
            method: head.method.as_str().to_owned(),
            path: tag.path.unwrap_or_else(|| head.uri.path().to_owned()),
            query: tag.query.of(head.uri.query().unwrap_or_default()),
            body,
        },
        quotes: tag.quotes,
        description: tag.description,
        offer_ttl: tag.offer_ttl,
        authorization_is_taken: tag.authorization_is_taken,
        terms: Terms {
            repeatable: tag.repeatable.unwrap_or_else(|| head.method.is_idempotent()),
            capture: tag.capture,
            remedy: tag.remedy,
        },
        idempotency_key: key,
        vouchers_buy: tag.vouchers_buy.unwrap_or(head.method != Method::HEAD),
    }
}

/// The least by which vouchers advance that pay by the offer a payment was made by, in atoms.
fn delta_min(ask: &Ask, payment: &Payment) -> u128 {
    let its = |quote: &&Arc<Quote>| {
        (quote.method(), quote.intent()) == (&*payment.method, &*payment.intent)
            && *quote.amount() == payment.amount
    };
    let price = ask.quotes.iter().find(its).and_then(|quote| quote.session_price());
    price.map_or(0, |price| price.delta_min_atoms)
}

/// Reads the body if payments of the route are bound to it, and leaves it alone otherwise.
async fn bind_body<B>(tag: &PriceTag, body: B) -> Result<(Option<[u8; 32]>, Body), Answer>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Some(bytes_max) = tag.body_bytes_max else { return Ok((None, boxed(body))) };
    let bytes = body::read(body, bytes_max).await.map_err(|unread| match unread {
        Unread::TooLong => problem::body_too_long(),
        Unread::Broken => problem::body_broken(),
        Unread::Slow => problem::body_slow(),
    })?;
    let digest = *BodyDigest::of(&bytes).as_bytes();
    Ok((Some(digest), full(bytes)))
}

/// Attaches the receipt, if the seller answered, and marks the payment delivered when all of it was.
///
/// A server error is not an answer: the payment stays undelivered, and the same credential can be
/// presented again (§5.3: no receipt on an error).
async fn deliver(
    gate: &Gate,
    posted: Box<Posted>,
    mut response: Response<Body>,
    sold: Sold,
) -> Response<Body> {
    let status = response.status();
    cache::make_private(response.headers_mut());
    remove_forged_receipts(response.headers_mut());
    if status.is_server_error() {
        let payment = posted.payment().id;
        let remedy = posted.payment().terms.remedy.name();
        response.headers_mut().insert(REMEDY, HeaderValue::from_static(remedy));
        posted.failed(Outcome { status: status.as_u16() }, gate.clock().now());
        gate.joins().wake(payment);
        return response;
    }
    if status.is_success() {
        let (payment, settlement) = (posted.payment(), posted.settlement());
        let facts = ReceiptFacts { payment, settlement, units: 1 };
        let wire = posted.payment().protocol.clone();
        for protocol in gate.till().protocols.iter().filter(|it| it.name() == wire) {
            protocol.write_receipt(&facts, response.headers_mut());
        }
        write_signed_receipt(gate, &facts, sold.digest.as_ref(), response.headers_mut());
    }
    if let Some(streamed) = response.extensions_mut().remove::<Streamed>() {
        let given = |body| Given::new(gate.clone(), posted, status.as_u16(), body, streamed);
        return response.map(|body| given(body).boxed_unsync());
    }
    let bytes_max = sold.bytes_max;
    let kept_head = (status.as_u16(), response.headers().clone());
    let (head, body) = response.into_parts();
    let mut kept = Kept::new(gate.clone(), posted, kept_head, body, bytes_max);
    if !kept.may_begin().await {
        return problem::refused(&Refusal::TryAgain).response();
    }
    Response::from_parts(head, kept.boxed_unsync())
}

/// Adds the receipt that anybody can check, where somebody signs such. It is kept with the answer, and
/// given again with it.
fn write_signed_receipt(
    gate: &Gate,
    facts: &ReceiptFacts<'_>,
    digest: Option<&[u8; 32]>,
    fields: &mut HeaderMap,
) {
    let Some(notary) = gate.notary() else { return };
    let ReceiptFacts { payment, settlement, .. } = *facts;
    let receipt = ReceiptClaims::of(notary.realm(), payment, settlement, digest).sign(notary);
    // A token is letters, digits, '-', '_' and '.', which any field value can be.
    if let Ok(receipt) = HeaderValue::try_from(receipt) {
        fields.insert(FARTHING_RECEIPT, receipt);
    }
}

/// Only the gate issues receipts.
fn remove_forged_receipts(fields: &mut HeaderMap) {
    fields.remove(FARTHING_RECEIPT);
    fields.remove(farthing_protocols::mpp::PAYMENT_SESSION);
    fields.remove(farthing_protocols::mpp::PAYMENT_RECEIPT);
}

fn purchase(payment: &Payment) -> Purchase {
    Purchase {
        trace: payment.trace,
        payer: payment.payer.clone(),
        amount: payment.amount.clone(),
        method: payment.method.clone(),
    }
}

fn within_limit(gate: &Gate, head: &Parts, now: Timestamp) -> Result<(), std::time::Duration> {
    match (gate.limiter(), head.extensions.get::<ClientAddress>()) {
        (Some(limiter), Some(client)) => limiter.take(client.0, now),
        (Some(_) | None, _) => Ok(()),
    }
}

/// An `Idempotency-Key` that is empty, too long, not ASCII, or one of several.
struct BadKey;

/// The client's `Idempotency-Key`, where the method is one that could do something twice.
fn idempotency_key(head: &Parts) -> Result<Option<String>, BadKey> {
    let unsafe_methods = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if !unsafe_methods.contains(&head.method) {
        return Ok(None);
    }
    let mut values = head.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default();
    let fits = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len()) && values.next().is_none();
    if fits { Ok(Some(text.to_owned())) } else { Err(BadKey) }
}

fn carries_credential(fields: &HeaderMap) -> bool {
    fields.contains_key(AUTHORIZATION) || fields.contains_key(PAYMENT_AUTHORIZATION)
}

/// Takes payment credentials off a request, and leaves a user's own login where it is.
pub fn take_credentials(fields: &mut HeaderMap) {
    fields.remove(PAYMENT_AUTHORIZATION);
    let pays = |value: &http::HeaderValue| {
        let text = field_text(value.as_bytes());
        text.split(',').any(|part| Credential::token(part).is_some())
    };
    if fields.get_all(AUTHORIZATION).iter().any(pays) {
        fields.remove(AUTHORIZATION);
    }
}
