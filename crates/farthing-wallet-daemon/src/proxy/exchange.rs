//! One request and its answer, paid for in between where that is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use farthing_ledger::{Fingerprint, PaymentId};
use farthing_money::Assets;
use farthing_wallet::{
    Ending, Objection, PayFailure, PayOptions, PayRequest, Refused, Signed, Told, Wallet,
};
use http::header::{
    AUTHORIZATION, CONNECTION, EXPECT, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RETRY_AFTER, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::OwnedMutexGuard;

use super::{Asked, Outwards, Proxy, bare, target, usual_port};
use crate::answers::is_payment;
use crate::keeper::Guest;
use crate::problem::Problem;

/// The longest body that is kept to be sent a second time, with the payment. One that is longer is handed on,
/// and not paid for.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a seller may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(2);

/// How often one credential is sent before it is left for later.
const ATTEMPTS_MAX: u32 = 5;

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Names the payment on an answer that was paid for.
const PAYMENT: HeaderName = HeaderName::from_static("farthing-payment");

/// A program's own name for a purchase.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Fields that speak of one connection and never of the next (RFC 9110 §7.6.1).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Proxy {
    pub(super) async fn exchange(
        &self,
        request: Request<Incoming>,
        asked: &Asked,
        guest: Guest,
    ) -> Result<Response, Problem> {
        let uri = target(asked, request.uri())?;
        let port = asked.authority.port_u16().unwrap_or(usual_port(&asked.scheme));
        self.guard.check(&bare(asked.authority.host()), port).await?;
        let (head, body) = request.into_parts();
        let mut fields = head.headers;
        drop_hop_by_hop(&mut fields);
        // Its body is read already.
        fields.remove(EXPECT);
        let paid_by_itself =
            fields.get_all(AUTHORIZATION).iter().any(|it| is_payment(&AUTHORIZATION, it))
                || fields.contains_key("payment-authorization");
        let mut call = Call { method: head.method, uri, fields, body: Bytes::new() };
        match kept(body).await? {
            Kept::Longer(body) => hand_on(&self.outwards, call.request(body)).await,
            Kept::Whole(bytes) => {
                call.body = bytes;
                let answer =
                    ask(&self.outwards, call.request(Body::from(call.body.clone()))).await?;
                if answer.status() != StatusCode::PAYMENT_REQUIRED || paid_by_itself {
                    return Ok(handed_on(answer));
                }
                self.buy(call, guest.wallet, answer).await
            }
        }
    }

    /// Pays for what was asked for, once, and gives the answer; or hands the `402` on where it is none of the
    /// wallet's business.
    async fn buy(
        &self,
        call: Call,
        wallet: Wallet,
        refusal: http::Response<Incoming>,
    ) -> Result<Response, Problem> {
        let Ok(url) = call.uri.to_string().parse() else { return Ok(handed_on(refusal)) };
        let name = call.fields.get(IDEMPOTENCY_KEY).and_then(|it| it.to_str().ok());
        let options = PayOptions { limit: None, pay_again: false, name: name.map(str::to_owned) };
        let (method, body) = (call.method.clone(), call.body.clone());
        let request = PayRequest { method, url, fields: call.fields.clone(), body };
        let (outwards, turns) = (self.outwards.clone(), self.turns.clone());
        let (assets, page) = (self.keeper.assets().clone(), self.page.clone());
        let buying = async move {
            let _turn = turns.take(turn_of(&wallet, &request, &options)).await;
            let buying = Buying { outwards, call, wallet, assets, page };
            Box::pin(buying.buy(&request, &options, refusal)).await
        };
        // What was begun with money is finished, although whoever asked for it has gone.
        tokio::spawn(buying).await.unwrap_or_else(|_| {
            let detail = "The wallet is stopping.";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail))
        })
    }
}

/// A request as it goes out, any number of times.
struct Call {
    method: Method,
    uri: Uri,
    fields: HeaderMap,
    body: Bytes,
}

impl Call {
    fn request(&self, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.fields.clone();
        request
    }
}

/// One purchase.
struct Buying {
    outwards: Outwards,
    call: Call,
    wallet: Wallet,
    assets: Assets,
    page: Option<String>,
}

impl Buying {
    async fn buy(
        self,
        request: &PayRequest,
        options: &PayOptions,
        refusal: http::Response<Incoming>,
    ) -> Result<Response, Problem> {
        let asked = refusal.headers().clone();
        match self.wallet.sign_for(request, options, &asked).await {
            Ok(signed) => self.present(signed).await,
            Err(PayFailure::Unsafe(_)) => Ok(handed_on(refusal)),
            Err(PayFailure::Objections(objections)) if objections.is_empty() => {
                Ok(handed_on(refusal))
            }
            // A session or a subscription is a conversation, which the wallet has itself.
            Err(PayFailure::Objections(objections))
                if objections
                    .iter()
                    .any(|(_, it)| matches!(it, Objection::Session | Objection::Subscription)) =>
            {
                let outcome = self.wallet.pay(request, options).await;
                let outcome = outcome.map_err(|failure| self.problem(&failure))?;
                let mut response = Response::new(Body::from(outcome.body));
                *response.status_mut() = outcome.status;
                *response.headers_mut() = outcome.fields;
                drop_hop_by_hop(response.headers_mut());
                if let Some(paid) = outcome.paid {
                    name_payment(&mut response, paid.payment);
                }
                Ok(response)
            }
            Err(failure) => Err(self.problem(&failure)),
        }
    }

    /// Sends the credential until it is answered, or leaves it for later.
    async fn present(&self, signed: Signed) -> Result<Response, Problem> {
        let mut pause = Wallet::PAUSE;
        for attempt in 1..=ATTEMPTS_MAX {
            let mut request = self.call.request(Body::from(self.call.body.clone()));
            request.headers_mut().insert(signed.name.clone(), signed.value.clone());
            let wait = match ask(&self.outwards, request).await {
                Ok(answer) if is_passing(answer.status()) && attempt < ATTEMPTS_MAX => {
                    retry_after(answer.headers()).unwrap_or(pause)
                }
                Ok(answer) => return self.conclude(&signed, answer).await,
                Err(_) => pause,
            };
            let wait = wait.min(PAUSE_MAX);
            if self.wallet.clock.now().after(wait) >= signed.expires_at {
                break;
            }
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(wait).await;
                pause = pause.saturating_mul(2);
            }
        }
        let Signed { payment, expires_at, .. } = signed;
        Err(self.problem(&PayFailure::Unknown { payment, held_until: expires_at }))
    }

    /// Takes down how the seller answered, and hands its answer on.
    async fn conclude(
        &self,
        signed: &Signed,
        answer: http::Response<Incoming>,
    ) -> Result<Response, Problem> {
        let payment = signed.payment;
        let seen = Told { status: answer.status(), fields: answer.headers().clone() };
        match self.wallet.saw(payment, &seen).await {
            Ok(Ending::Refused { held_until }) => {
                let refused =
                    Refused { payment, status: answer.status(), detail: None, held_until };
                return Err(self.problem(&PayFailure::Refused(refused)));
            }
            Ok(Ending::Paid { .. } | Ending::Open { .. }) => {}
            // The answer is there. What the book does not know yet it finds out when the credential expires.
            Err(error) => tracing::error!(%payment, %error, "answered, and not written down"),
        }
        let mut response = handed_on(answer);
        name_payment(&mut response, payment);
        Ok(response)
    }

    fn problem(&self, failure: &PayFailure) -> Problem {
        Problem::of_failure(failure, &self.assets).shown_at(self.page.as_deref())
    }
}

/// Requests for the same thing take turns, so that each is a purchase of its own; a credential that an earlier
/// one has left behind is another matter, and is used up first.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Fingerprint, Weak<tokio::sync::Mutex<()>>>>>);

impl Turns {
    async fn take(&self, of: Fingerprint) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(&of).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let fresh = Arc::new(tokio::sync::Mutex::new(()));
                turns.insert(of, Arc::downgrade(&fresh));
                fresh
            })
        };
        turn.lock_owned().await
    }
}

fn turn_of(wallet: &Wallet, request: &PayRequest, options: &PayOptions) -> Fingerprint {
    let intent = request.intent();
    let name = options.name.as_deref().unwrap_or_default();
    let agent = wallet.authority.agent();
    Fingerprint::of("turn", &[intent.as_bytes(), agent.as_bytes(), name.as_bytes()])
}

/// A request's body.
enum Kept {
    Whole(Bytes),
    Longer(Body),
}

async fn kept(mut body: Incoming) -> Result<Kept, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Problem::malformed)?;
        let Ok(data) = frame.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() > KEPT_BYTES_MAX {
            return Ok(Kept::Longer(Body::new(Resumed {
                begun: Some(bytes.freeze()),
                rest: body,
            })));
        }
    }
    Ok(Kept::Whole(bytes.freeze()))
}

/// A body whose beginning was read already.
struct Resumed {
    begun: Option<Bytes>,
    rest: Incoming,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, hyper::Error>>> {
        if let Some(begun) = self.begun.take() {
            return std::task::Poll::Ready(Some(Ok(http_body::Frame::data(begun))));
        }
        std::pin::Pin::new(&mut self.rest).poll_frame(context)
    }
}

async fn ask(
    outwards: &Outwards,
    request: Request<Body>,
) -> Result<http::Response<Incoming>, Problem> {
    match tokio::time::timeout(ANSWER_TIMEOUT, outwards.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|it| format!(": {it}"));
            let detail = format!("{error}{}", cause.unwrap_or_default());
            Err(Problem::new(StatusCode::BAD_GATEWAY, "unreachable", detail))
        }
        Err(_) => {
            let detail = "The seller does not answer.";
            Err(Problem::new(StatusCode::GATEWAY_TIMEOUT, "unreachable", detail))
        }
    }
}

async fn hand_on(outwards: &Outwards, request: Request<Body>) -> Result<Response, Problem> {
    Ok(handed_on(ask(outwards, request).await?))
}

fn handed_on(answer: http::Response<Incoming>) -> Response {
    let mut response = answer.map(Body::new);
    drop_hop_by_hop(response.headers_mut());
    response
}

fn name_payment(response: &mut Response, payment: PaymentId) {
    if let Ok(value) = HeaderValue::try_from(payment.to_string()) {
        response.headers_mut().insert(PAYMENT, value);
    }
}

/// Drops what speaks of one connection, and what `Connection` names besides.
fn drop_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// An answer that says "later" and not "no".
fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

fn retry_after(fields: &HeaderMap) -> Option<Duration> {
    let seconds = fields.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
