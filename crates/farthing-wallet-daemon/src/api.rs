//! The HTTP API. [`OPENAPI`] describes it; a test holds the two against each other.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Json, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use farthing_money::Timestamp;
use farthing_policy::OWNER;
use farthing_wallet::{
    AnswerError, ApprovalLine, ApprovalRequest, ApprovalState, PayFailure, PaymentLine,
    SessionLine, SubscriptionLine, Wallet,
};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tower_service::Service;

use crate::answers::{Answered, Decided, Ended, Purchase, SignedLine, Told};
use crate::keeper::{Guest, Keeper, Stranger};
use crate::listen::{Answering, Handler, Place};
use crate::problem::Problem;

/// The description of the API, as OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The longest body of a request, in bytes: a body of 8 MiB to hand on, in base64.
const BODY_BYTES_MAX: usize = 12 * 1024 * 1024;

/// How long a program may take to send the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many payments a page shows unless it is asked for another number, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// The longest that an answer to a request for approval is waited for.
const WAIT_S_MAX: u64 = 60;

/// How often it is looked whether it was answered.
const LOOKED_AGAIN: Duration = Duration::from_millis(200);

#[derive(Clone)]
pub(crate) struct Api {
    keeper: Arc<dyn Keeper>,
    place: Place,
    signs: bool,
    /// The owner's page, if there is one.
    page: Option<String>,
}

/// Method and path of everything the API offers.
#[must_use]
pub fn routes() -> Vec<(&'static str, &'static str)> {
    table().into_iter().map(|(method, path, _)| (method, path)).collect()
}

fn table() -> Vec<(&'static str, &'static str, MethodRouter<Api>)> {
    vec![
        ("GET", "/v1/openapi.json", get(openapi)),
        ("POST", "/v1/pay", post(pay)),
        ("POST", "/v1/decide", post(decide)),
        ("POST", "/v1/credentials", post(credentials)),
        ("POST", "/v1/payments/{payment}/outcome", post(outcome)),
        ("GET", "/v1/status", get(status)),
        ("GET", "/v1/payments", get(payments)),
        ("GET", "/v1/sessions", get(sessions)),
        ("GET", "/v1/subscriptions", get(subscriptions)),
        ("GET", "/v1/approvals", get(approvals)),
        ("GET", "/v1/approvals/{approval}", get(approval)),
        ("POST", "/v1/approvals/{approval}", post(answer_approval)),
    ]
}

impl Api {
    pub(crate) fn new(
        keeper: Arc<dyn Keeper>,
        place: Place,
        signs: bool,
        page: Option<String>,
    ) -> Self {
        Self { keeper, place, signs, page }
    }

    pub(crate) fn handler(self) -> Handler {
        let place = self.place.clone();
        let mut router = Router::new();
        for (_, path, method) in table() {
            router = router.route(path, method);
        }
        let router = router.fallback(nothing).method_not_allowed_fallback(nothing).with_state(self);
        Arc::new(move |request: Request<Incoming>| -> Answering {
            if let Err(problem) = check_browser(&place, request.headers()) {
                return Box::pin(async { problem.into_response() });
            }
            let mut router = router.clone();
            Box::pin(async move {
                let answered = router.call(request.map(Body::new)).await;
                answered.unwrap_or_else(|never| match never {})
            })
        })
    }

    /// Opens the wallet for whoever asks.
    async fn guest(&self, fields: &HeaderMap) -> Result<Guest, Problem> {
        let shown = fields.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            |value: &&str| value.get(..7).is_some_and(|it| it.eq_ignore_ascii_case("bearer "));
        let token = shown.filter(bearer).and_then(|value| value.get(7..));
        let token = token.ok_or(Stranger::Token)?;
        admit(&self.keeper, token.trim().to_owned()).await
    }

    /// Only the owner goes on.
    async fn owner(&self, fields: &HeaderMap) -> Result<Guest, Problem> {
        let guest = self.guest(fields).await?;
        if guest.wallet.authority.agent() == OWNER {
            return Ok(guest);
        }
        Err(Problem::new(StatusCode::FORBIDDEN, "owner", "This is the owner's business."))
    }

    fn failed(&self, failure: &PayFailure) -> Problem {
        Problem::of_failure(failure, self.keeper.assets()).shown_at(self.page.as_deref())
    }
}

/// Opens the wallet for whoever has a token, where blocking is no harm.
pub(crate) async fn admit(keeper: &Arc<dyn Keeper>, token: String) -> Result<Guest, Problem> {
    let keeper = Arc::clone(keeper);
    let token = zeroize::Zeroizing::new(token);
    let admitted = tokio::task::spawn_blocking(move || keeper.admit(&token)).await;
    let stopped = |_| Stranger::Broken("it is stopping".to_owned());
    Ok(admitted.map_err(stopped)??)
}

/// A page in a browser is no program of the owner's: it can reach this machine, under whatever name its own
/// server gives it, and must find nothing here (DNS rebinding).
fn check_browser(place: &Place, fields: &HeaderMap) -> Result<(), Problem> {
    let stranger = || {
        Problem::new(
            StatusCode::FORBIDDEN,
            "browser",
            "The wallet speaks to programs of this machine, and to no page.",
        )
    };
    if fields.contains_key(ORIGIN) || fields.contains_key("sec-fetch-site") {
        return Err(stranger());
    }
    let Some(address) = place.address() else { return Ok(()) };
    let mut hosts = fields.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(stranger()) };
    let port = address.port();
    let ours = [format!("{address}"), format!("localhost:{port}")];
    if ours.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
        return Ok(());
    }
    Err(stranger())
}

/// Reads a request's body as JSON.
async fn read<T: DeserializeOwned>(fields: &HeaderMap, body: Body) -> Result<T, Problem> {
    let kind = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|it| it.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "media-type",
            "The body has to be application/json.",
        ));
    }
    let too_long = || {
        let detail = format!("The body is longer than {BODY_BYTES_MAX} bytes.");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-long", detail)
    };
    // What says that it is too long is not waited for.
    let least = http_body::Body::size_hint(&body).lower();
    if usize::try_from(least).is_ok_and(|least| least > BODY_BYTES_MAX) {
        return Err(too_long());
    }
    let collected = Limited::new(body, BODY_BYTES_MAX).collect();
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_long()),
        Ok(Err(error)) => return Err(Problem::malformed(error)),
        Err(_) => {
            let detail = "The body did not come in time.";
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail));
        }
    };
    serde_json::from_slice(&bytes).map_err(Problem::malformed)
}

/// Lets something go on although whoever asked for it has gone: what was begun with money is finished.
async fn to_its_end<T: Send + 'static>(
    doing: impl Future<Output = Result<T, PayFailure>> + Send + 'static,
    api: &Api,
) -> Result<T, Problem> {
    match tokio::spawn(doing).await {
        Ok(done) => done.map_err(|failure| api.failed(&failure)),
        Err(_) => Err(Stranger::Broken("it is stopping".to_owned()).into()),
    }
}

/// The wallet as it is used for a purchase.
fn working_on(guest: Guest, purchase: &Purchase) -> Wallet {
    let mut wallet = guest.wallet;
    let (task, tool) = (purchase.task.clone(), purchase.tool.clone());
    wallet.authority = wallet.authority.working_on(task, tool);
    wallet
}

async fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing", "There is nothing; see /v1/openapi.json.")
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn pay(
    State(api): State<Api>,
    fields: HeaderMap,
    body: Body,
) -> Result<Json<Answered>, Problem> {
    let guest = api.guest(&fields).await?;
    let purchase: Purchase = read(&fields, body).await?;
    let (request, options) = purchase.read(api.keeper.assets())?;
    let wallet = working_on(guest, &purchase);
    let outcome = to_its_end(async move { wallet.pay(&request, &options).await }, &api).await?;
    Ok(Json(Answered::of(outcome, api.keeper.assets())))
}

async fn decide(
    State(api): State<Api>,
    fields: HeaderMap,
    body: Body,
) -> Result<Json<Decided>, Problem> {
    let guest = api.guest(&fields).await?;
    let purchase: Purchase = read(&fields, body).await?;
    let (request, options) = purchase.read(api.keeper.assets())?;
    let preview = working_on(guest, &purchase).preview(&request, &options).await;
    let preview = preview.map_err(|failure| api.failed(&failure))?;
    Ok(Json(Decided::of(preview, api.keeper.assets())))
}

async fn credentials(
    State(api): State<Api>,
    fields: HeaderMap,
    body: Body,
) -> Result<Json<SignedLine>, Problem> {
    let guest = api.guest(&fields).await?;
    if !api.signs {
        let detail = "This wallet signs for no other program: it makes the requests itself.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "signs-not", detail));
    }
    let purchase: Purchase = read(&fields, body).await?;
    let (request, options) = purchase.read(api.keeper.assets())?;
    let asked = purchase.asked()?;
    let wallet = working_on(guest, &purchase);
    let signing = async move { wallet.sign_for(&request, &options, &asked).await };
    let signed = to_its_end(signing, &api).await?;
    Ok(Json(SignedLine::of(&signed, api.keeper.assets())))
}

async fn outcome(
    State(api): State<Api>,
    Path(payment): Path<String>,
    fields: HeaderMap,
    body: Body,
) -> Result<Json<Ended>, Problem> {
    let guest = api.guest(&fields).await?;
    let told: Told = read(&fields, body).await?;
    let payment = payment.parse().map_err(|_| api.failed(&PayFailure::NoPayment))?;
    let told = told.read()?;
    let wallet = guest.wallet;
    let concluding = async move { wallet.tell(payment, told.as_ref()).await };
    Ok(Json(to_its_end(concluding, &api).await?.into()))
}

impl Told {
    fn read(&self) -> Result<Option<farthing_wallet::Told>, Problem> {
        let Some(status) = self.status else { return Ok(None) };
        let status = StatusCode::from_u16(status).map_err(Problem::malformed)?;
        let mut fields = HeaderMap::new();
        if let Some(receipt) = &self.receipt {
            let value: HeaderValue = receipt.parse().map_err(Problem::malformed)?;
            fields.insert(HeaderName::from_static("payment-receipt"), value);
        }
        Ok(Some(farthing_wallet::Told { status, fields }))
    }
}

/// Reads the wallet's files, where blocking is no harm.
async fn look<T: Send + 'static>(
    api: &Api,
    guest: Guest,
    reading: impl FnOnce(&Wallet) -> Result<T, PayFailure> + Send + 'static,
) -> Result<T, Problem> {
    let looking = tokio::task::spawn_blocking(move || reading(&guest.wallet));
    match looking.await {
        Ok(seen) => seen.map_err(|failure| api.failed(&failure)),
        Err(_) => Err(Stranger::Broken("it is stopping".to_owned()).into()),
    }
}

/// Whose payments somebody sees: their own, or everybody's for the owner.
fn whose(wallet: &Wallet) -> Option<&str> {
    Some(wallet.authority.agent()).filter(|agent| *agent != OWNER)
}

async fn status(State(api): State<Api>, fields: HeaderMap) -> Result<Response, Problem> {
    let guest = api.guest(&fields).await?;
    let assets = api.keeper.assets().clone();
    let seen = look(&api, guest, move |wallet| Ok(wallet.status(&assets)?));
    Ok(Json(seen.await?).into_response())
}

#[derive(Deserialize)]
struct Page {
    limit: Option<usize>,
}

/// A list, with room for more beside it.
#[derive(Serialize)]
struct List<T> {
    items: Vec<T>,
}

async fn payments(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    let guest = api.guest(&fields).await?;
    let page = page.map_err(Problem::malformed)?;
    let most = page.limit.unwrap_or(PAGE).min(PAGE_MAX);
    let assets = api.keeper.assets().clone();
    let seen = look(&api, guest, move |wallet| {
        let payments = wallet.books.history(whose(wallet))?.payments.into_iter().take(most);
        Ok(List { items: payments.map(|past| PaymentLine::of(past, &assets)).collect() })
    });
    Ok(Json(seen.await?).into_response())
}

async fn sessions(State(api): State<Api>, fields: HeaderMap) -> Result<Response, Problem> {
    let guest = api.owner(&fields).await?;
    let assets = api.keeper.assets().clone();
    let seen = look(&api, guest, move |wallet| {
        let sessions = wallet.memory.sessions()?;
        Ok(List { items: sessions.iter().map(|it| SessionLine::of(it, &assets)).collect() })
    });
    Ok(Json(seen.await?).into_response())
}

async fn subscriptions(State(api): State<Api>, fields: HeaderMap) -> Result<Response, Problem> {
    let guest = api.owner(&fields).await?;
    let assets = api.keeper.assets().clone();
    let seen = look(&api, guest, move |wallet| {
        let subscriptions = wallet.memory.subscriptions()?;
        let items = subscriptions.iter().map(|it| SubscriptionLine::of(it, &assets));
        Ok(List { items: items.collect() })
    });
    Ok(Json(seen.await?).into_response())
}

impl Api {
    fn line(&self, request: ApprovalRequest, now: Timestamp) -> ApprovalLine {
        let line = ApprovalLine::of(request, now, self.keeper.assets());
        let link = self.page.as_ref().map(|page| format!("{page}/approvals/{}", line.id));
        ApprovalLine { link, ..line }
    }
}

async fn approvals(State(api): State<Api>, fields: HeaderMap) -> Result<Response, Problem> {
    let guest = api.guest(&fields).await?;
    let now = guest.wallet.clock.now();
    let seen = look(&api, guest, |wallet| {
        let mut items = wallet.memory.approvals()?;
        items.retain(|request| whose(wallet).is_none_or(|agent| agent == request.agent));
        Ok(items)
    });
    let items = seen.await?.into_iter().map(|request| api.line(request, now)).collect();
    Ok(Json(List { items }).into_response())
}

#[derive(Deserialize)]
struct Wait {
    /// For how many seconds to wait for an answer, at most.
    #[serde(default)]
    wait: u64,
}

async fn approval(
    State(api): State<Api>,
    Path(id): Path<String>,
    wait: Result<Query<Wait>, QueryRejection>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    let guest = api.guest(&fields).await?;
    let wait = wait.map_err(Problem::malformed)?.wait.min(WAIT_S_MAX);
    let (begun, wait) = (tokio::time::Instant::now(), Duration::from_secs(wait));
    let wallet = Arc::new(guest.wallet);
    loop {
        let (looking, id) = (Arc::clone(&wallet), id.clone());
        let looked = tokio::task::spawn_blocking(move || looking.memory.approval(&id)).await;
        let stopped = |_| Problem::from(Stranger::Broken("it is stopping".to_owned()));
        let found = looked.map_err(stopped)?;
        let found = found.map_err(|error| api.failed(&PayFailure::from(error)))?;
        let mine = |request: &ApprovalRequest| whose(&wallet).is_none_or(|it| it == request.agent);
        let request = found.filter(mine).ok_or_else(no_approval)?;
        let now = wallet.clock.now();
        let waits = request.state_at(now) == ApprovalState::Waiting;
        if !waits || begun.elapsed() >= wait {
            return Ok(Json(api.line(request, now)).into_response());
        }
        tokio::time::sleep(LOOKED_AGAIN).await;
    }
}

fn no_approval() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no-approval", "There is no such request for approval.")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    approve: bool,
}

async fn answer_approval(
    State(api): State<Api>,
    Path(id): Path<String>,
    fields: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let guest = api.owner(&fields).await?;
    let answer: Answer = read(&fields, body).await?;
    let Some(approver) = guest.approver.clone() else {
        let detail = "The policy names approvers, who answer with keys of their own.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "approvers", detail));
    };
    let keeper = Arc::clone(&api.keeper);
    let opened = tokio::task::spawn_blocking(move || keeper.desk()).await;
    let stopped = |_| Stranger::Broken("it is stopping".to_owned());
    let desk = opened.map_err(stopped)??;
    let answered = desk.answer(&id, &approver, answer.approve).await;
    match answered.map_err(|error| api.failed(&error.into()))? {
        Ok(request) => Ok(Json(api.line(request, desk.clock.now())).into_response()),
        Err(AnswerError::Unknown) => Err(no_approval()),
        Err(error @ AnswerError::Nobody(_)) => {
            Err(Problem::new(StatusCode::FORBIDDEN, "approvers", error))
        }
        Err(error @ (AnswerError::Expired | AnswerError::Answered(_) | AnswerError::Twice(_))) => {
            Err(Problem::new(StatusCode::CONFLICT, "answered", error))
        }
    }
}
