//! The owner's page: what waits for approval, and an answer to each.
//!
//! ```text
//! farthing approvals link ─► /open/SECRET, once ─► a cookie for /desk/PATH ─► the list ─► approve or deny
//! a signed webhook ────────► /answer/ID?signature=… ────────────────────────► one request, one answer
//! ```
//!
//! It is plain HTML with forms: no script, and nothing from elsewhere. What it does, the desk does; what is said
//! twice is told that it was said.
//!
//! **Architecture invariant:** a token of an agent opens nothing here, and nothing here has one.
//!
//! **Architecture invariant:** a page of another origin answers nothing. The host is this address by its number,
//! forms come from this very origin, and each form is good for one request of one session.
//!
//! **Architecture invariant:** a cookie alone opens nothing. Programs of this machine can listen at other ports
//! of the same host, where browsers would show them the cookie; so that it is for a path that nobody knows.

mod html;
mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use farthing_wallet::{AnswerError, ApprovalRequest, Desk, DeskError};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use maud::Markup;
use serde::Deserialize;
use tower_service::Service;

use crate::keeper::{Keeper, Stranger};
use crate::listen::{Answering, Handler};

use html::{Notice, Viewer};
pub use sessions::AnswerKey;
use sessions::{Session, Sessions};

/// The longest form, in bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;

/// How it looks.
const STYLE: &str = include_str!("page/style.css");

/// What a browser may do with these pages: show them, style them, and send their forms back.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

/// What the owner's page needs.
pub struct Desktop {
    /// Where it listens.
    pub address: SocketAddr,
    /// Signs links that answer one request.
    pub key: AnswerKey,
    /// In whose name those are answered who have such a link.
    pub approver: String,
}

#[derive(Clone)]
pub(crate) struct Pages {
    keeper: Arc<dyn Keeper>,
    host: String,
    key: AnswerKey,
    approver: Arc<str>,
    sessions: Arc<Sessions>,
}

/// Something that is not shown, and why.
struct Unshown(StatusCode, Notice);

impl Unshown {
    #[expect(clippy::needless_pass_by_value, reason = "errors are handed over as they come")]
    fn new(status: StatusCode, title: &str, text: impl ToString) -> Self {
        Self(status, Notice { title: title.to_owned(), text: text.to_string(), back: None })
    }

    fn back(mut self, to: &str) -> Self {
        self.1.back = Some(to.to_owned());
        self
    }

    fn nothing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "There is nothing here", "")
    }

    fn stranger() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This page is for the wallet's owner",
            "It is opened with a link that `farthing approvals link` prints, under exactly the address that \
             the link has.",
        )
    }

    fn outside() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "You are not logged in, or no longer",
            "`farthing approvals link` prints a link that opens this page, once.",
        )
    }

    fn form() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "This form is not good any more",
            "Nothing was answered. Look at the request again, and answer it there.",
        )
    }
}

impl From<Stranger> for Unshown {
    fn from(stranger: Stranger) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The wallet cannot be opened", stranger)
    }
}

impl From<DeskError> for Unshown {
    fn from(error: DeskError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "The wallet does not answer", error)
    }
}

impl From<farthing_wallet::MemoryError> for Unshown {
    fn from(error: farthing_wallet::MemoryError) -> Self {
        DeskError::from(error).into()
    }
}

impl IntoResponse for Unshown {
    fn into_response(self) -> Response {
        show(self.0, &html::notice(&self.1))
    }
}

/// A page, as browsers are allowed to show it.
fn show(status: StatusCode, page: &Markup) -> Response {
    let mut response = Response::new(Body::from(page.0.clone()));
    *response.status_mut() = status;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, html);
    response
}

fn see_other(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

impl Pages {
    pub(crate) fn new(keeper: Arc<dyn Keeper>, desktop: &Desktop, address: SocketAddr) -> Self {
        Self {
            keeper,
            host: address.to_string(),
            key: desktop.key.clone(),
            approver: desktop.approver.as_str().into(),
            sessions: Arc::default(),
        }
    }

    pub(crate) fn handler(self) -> Handler {
        let router = Router::new()
            .route("/style.css", get(style))
            .route("/open/{secret}", get(invite).post(enter))
            .route("/desk/{path}", get(list))
            .route("/desk/{path}/leave", axum::routing::post(leave))
            .route("/desk/{path}/approvals/{id}", get(one).post(answer))
            .route("/approvals/{id}", get(outside))
            .route("/answer/{id}", get(ask).post(answer_once))
            .fallback(async || Unshown::nothing())
            .method_not_allowed_fallback(async || Unshown::nothing())
            .with_state(self.clone());
        Arc::new(move |request: Request<Incoming>| -> Answering {
            let checked = self.check(request.method(), request.uri().path(), request.headers());
            let mut router = router.clone();
            Box::pin(async move {
                let mut response = match checked {
                    Ok(()) => {
                        let answered = router.call(request.map(Body::new)).await;
                        answered.unwrap_or_else(|never| match never {})
                    }
                    Err(unshown) => unshown.into_response(),
                };
                guard(response.headers_mut());
                response
            })
        })
    }

    /// Whether a request may come from whom it comes: to this host by its very address, and where it changes
    /// something, from a form of this origin. A program that answers by a signed link has no origin.
    fn check(&self, method: &Method, path: &str, fields: &HeaderMap) -> Result<(), Unshown> {
        let only = |name: HeaderName| {
            let mut values = fields.get_all(name).iter();
            let value = values.next().and_then(|value| value.to_str().ok());
            value.filter(|_| values.next().is_none())
        };
        if only(HOST) != Some(self.host.as_str()) {
            return Err(Unshown::stranger());
        }
        let site = fields.get("sec-fetch-site").and_then(|value| value.to_str().ok());
        if *method != Method::POST {
            // What is behind the cookie is shown to whoever comes from here, or from nowhere.
            let is_elsewhere = !matches!(site, None | Some("same-origin" | "none"));
            let is_inside = path.starts_with("/desk/");
            return if is_elsewhere && is_inside { Err(Unshown::stranger()) } else { Ok(()) };
        }
        let is_ours = only(ORIGIN).is_some_and(|it| it.strip_prefix("http://") == Some(&self.host));
        let is_program = path.starts_with("/answer/") && !fields.contains_key(ORIGIN);
        let is_same = matches!(site, None | Some("same-origin"));
        if (is_ours || is_program) && is_same { Ok(()) } else { Err(Unshown::stranger()) }
    }

    async fn desk(&self) -> Result<Desk, Unshown> {
        let keeper = Arc::clone(&self.keeper);
        let opened = tokio::task::spawn_blocking(move || keeper.desk()).await;
        Ok(opened.map_err(|_| Stranger::Broken("it is stopping".to_owned()))??)
    }

    /// Whose session it is.
    fn session(&self, path: &str, fields: &HeaderMap, desk: &Desk) -> Result<Session, Unshown> {
        let cookies = fields.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let cookies: Vec<&str> = cookies.flat_map(|value| value.split("; ")).collect();
        let found = self.sessions.find(path, &cookies, desk.clock.now());
        found.ok_or_else(Unshown::outside)
    }
}

/// What every answer says to browsers: keep nothing, guess nothing, be framed by nobody.
fn guard(fields: &mut HeaderMap) {
    let same = HeaderValue::from_static("same-origin");
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (REFERRER_POLICY, same.clone()),
        (HeaderName::from_static("cross-origin-opener-policy"), same.clone()),
        (HeaderName::from_static("cross-origin-resource-policy"), same),
    ] {
        fields.insert(name, value);
    }
}

async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css")], STYLE).into_response()
}

/// A link is opened by a press on its button, and not by whoever looks ahead at what links lead to.
async fn invite(
    State(pages): State<Pages>,
    Path(secret): Path<String>,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let whose = desk.memory.whose_link(&secret, desk.clock.now())?;
    let whose = whose.ok_or_else(Unshown::outside)?;
    Ok(show(StatusCode::OK, &html::invite(&whose)))
}

async fn enter(
    State(pages): State<Pages>,
    Path(secret): Path<String>,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let now = desk.clock.now();
    let whose = desk.memory.open_link(&secret, now)?.ok_or_else(Unshown::outside)?;
    let (path, cookie) = pages.sessions.begin(whose, now);
    let mut response = see_other(&format!("/desk/{path}"));
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn leave(
    State(pages): State<Pages>,
    Path(path): Path<String>,
    fields: HeaderMap,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    pages.session(&path, &fields, &desk)?;
    pages.sessions.end(&path);
    Ok(Unshown::new(
        StatusCode::OK,
        "You have left",
        "The link that you came by opens nothing more.",
    )
    .into_response())
}

async fn list(
    State(pages): State<Pages>,
    Path(path): Path<String>,
    fields: HeaderMap,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let session = pages.session(&path, &fields, &desk)?;
    desk.expire().await?;
    let requests = desk.memory.approvals()?;
    let viewer = pages.viewer(&path, &session, &desk);
    Ok(show(StatusCode::OK, &html::list(&requests, &viewer)))
}

async fn one(
    State(pages): State<Pages>,
    Path((path, id)): Path<(String, String)>,
    fields: HeaderMap,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let session = pages.session(&path, &fields, &desk)?;
    let request = found(&desk, &id)?;
    let viewer = pages.viewer(&path, &session, &desk);
    Ok(show(StatusCode::OK, &html::one(&request, &viewer)))
}

async fn answer(
    State(pages): State<Pages>,
    Path((path, id)): Path<(String, String)>,
    fields: HeaderMap,
    body: Body,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let session = pages.session(&path, &fields, &desk)?;
    let form = Form::read(body).await?;
    let request = found(&desk, &id)?;
    let good = form.seal.as_deref().is_some_and(|seal| session.is_seal(seal, &request));
    let approve = form.approve.filter(|_| good).ok_or_else(Unshown::form)?;
    let answered = desk.answer(&id, &session.approver, approve).await?;
    let here = format!("/desk/{path}/approvals/{id}");
    answered.map_err(|error| unanswered(&error, &request, &desk).back(&here))?;
    Ok(see_other(&here))
}

/// What an agent can show its people: where a request waits, which is nobody's secret and shows nothing.
async fn outside() -> Unshown {
    Unshown::outside()
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    signature: String,
}

/// The request that a signed link is for.
fn signed(pages: &Pages, desk: &Desk, id: &str, by: &Signed) -> Result<ApprovalRequest, Unshown> {
    let request = desk.memory.approval(id)?;
    let is_signed = |request: &ApprovalRequest| pages.key.is_signature(&by.signature, request);
    request.filter(is_signed).ok_or_else(Unshown::stranger)
}

async fn ask(
    State(pages): State<Pages>,
    Path(id): Path<String>,
    Query(by): Query<Signed>,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let request = signed(&pages, &desk, &id, &by)?;
    Ok(show(StatusCode::OK, &html::one(&request, &pages.bare(&desk))))
}

async fn answer_once(
    State(pages): State<Pages>,
    Path(id): Path<String>,
    Query(by): Query<Signed>,
    body: Body,
) -> Result<Response, Unshown> {
    let desk = pages.desk().await?;
    let request = signed(&pages, &desk, &id, &by)?;
    let approve = Form::read(body).await?.approve.ok_or_else(Unshown::form)?;
    let answered = desk.answer(&id, &pages.approver, approve).await?;
    let request = answered.map_err(|error| unanswered(&error, &request, &desk))?;
    Ok(show(StatusCode::OK, &html::one(&request, &pages.bare(&desk))))
}

impl Pages {
    fn bare<'a>(&'a self, desk: &Desk) -> Viewer<'a> {
        Viewer { assets: self.keeper.assets(), now: desk.clock.now(), desk: None }
    }

    fn viewer<'a>(&'a self, path: &str, session: &'a Session, desk: &Desk) -> Viewer<'a> {
        let may = desk.may_answer(&session.approver);
        Viewer { desk: Some((path.to_owned(), session, may)), ..self.bare(desk) }
    }
}

fn found(desk: &Desk, id: &str) -> Result<ApprovalRequest, Unshown> {
    let gone =
        || Unshown::new(StatusCode::NOT_FOUND, "There is no such request", "Nothing was answered.");
    desk.memory.approval(id)?.ok_or_else(gone)
}

/// Why an answer does not count. None of these has changed anything.
fn unanswered(error: &AnswerError, request: &ApprovalRequest, desk: &Desk) -> Unshown {
    let title = match error {
        AnswerError::Unknown => return Unshown::nothing(),
        AnswerError::Expired => {
            let text = "Nobody answered in time, which denied the payment. Nothing was paid.";
            return Unshown::new(StatusCode::GONE, "This request has expired", text);
        }
        AnswerError::Nobody(_) => {
            return Unshown::new(StatusCode::FORBIDDEN, "Somebody else has to answer", error);
        }
        AnswerError::Answered(state) => format!("It was answered already: it is {state}"),
        AnswerError::Twice(_) => "You have approved it already".to_owned(),
    };
    let now = desk.memory.approval(&request.id).ok().flatten();
    let by = now.map(|it| it.asked.by).filter(|by| !by.is_empty());
    let by = by.map(|by| format!(" Approved by {}.", by.join(" and "))).unwrap_or_default();
    let text = format!("Your answer changed nothing, and nothing is approved twice.{by}");
    Unshown::new(StatusCode::CONFLICT, &title, text)
}

/// What a form says.
#[derive(Default)]
struct Form {
    seal: Option<String>,
    approve: Option<bool>,
}

impl Form {
    async fn read(body: Body) -> Result<Self, Unshown> {
        let bytes = to_bytes(body, FORM_BYTES_MAX).await.map_err(|_| Unshown::form())?;
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(&bytes) {
            match (&*name, &*value) {
                ("seal", seal) => form.seal = Some(seal.to_owned()),
                ("answer", "approve") => form.approve = Some(true),
                ("answer", "deny") => form.approve = Some(false),
                _ => return Err(Unshown::form()),
            }
        }
        Ok(form)
    }
}
