//! The management listener: health, metrics, and an operator's entries.

use std::sync::Arc;

use axum::extract::{Json, Path, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use farthing_gate::{Clock, SystemClock};
use farthing_ledger::{Entry, EntryError, Holder, SpendingKey};
use farthing_money::{Amount, AssetId, Assets, Timestamp};
use farthing_rail_prepaid::parse_did_key;
use serde::{Deserialize, Serialize};
use serde_json::json;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::desk::{CancelOrder, CloseOrder, Desk, DeskError, PayoutStep, RefundOrder, Resolution};
use crate::erasure::{ErasureOrder, ErasureOrderError};
use crate::metrics::Metrics;
use crate::store::OpenStore;
use crate::webhooks::{EnableOrder, Postman, ReplayOrder, WebhookError};

/// The fewest bytes a token may have.
const TOKEN_BYTES_MIN: usize = 32;

/// What an operator shows to make entries. It has no `Debug` and cannot be read back.
#[derive(Clone)]
pub struct AdminToken(Arc<Zeroizing<String>>);

impl AdminToken {
    /// Takes a token.
    ///
    /// # Errors
    ///
    /// [`WeakToken`] for fewer than 32 bytes.
    pub fn new(token: String) -> Result<Self, WeakToken> {
        if token.len() < TOKEN_BYTES_MIN {
            return Err(WeakToken);
        }
        Ok(Self(Arc::new(Zeroizing::new(token))))
    }

    fn admits(&self, fields: &HeaderMap) -> bool {
        let shown = fields.get(AUTHORIZATION).map(axum::http::HeaderValue::as_bytes);
        let shown = shown.and_then(|value| value.strip_prefix(b"Bearer ")).unwrap_or_default();
        shown.ct_eq(self.0.as_bytes()).into()
    }
}

/// A token that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an admin token has at least 32 characters; `openssl rand -base64 32` makes one")]
pub struct WeakToken;

/// Puts money into a prepaid account: `POST /v1/prepaid/fund`.
///
/// # Idempotency
///
/// A reference counts once: the same request again changes nothing, another under the same
/// reference is refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FundRequest {
    /// Whose account.
    pub account: Holder,
    /// How much, as people write it, such as `"12.50"`.
    pub amount: String,
    /// In which asset.
    pub asset: AssetId,
    /// The operator's own name for it.
    pub reference: String,
}

/// Lets a key spend an account, or stops it: `POST` and `DELETE /v1/prepaid/keys`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// The key, as `did:key:z6Mk…`.
    pub key: String,
    /// Whose account; not needed to stop a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Holder>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Whether it was new; `false` if it had been made before.
    pub new: bool,
}

#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) store: OpenStore,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) token: Option<AdminToken>,
    pub(crate) assets: Assets,
    pub(crate) postman: Arc<Postman>,
    /// The desk as the configuration has it at the moment.
    pub(crate) desk: Arc<dyn Fn() -> Desk + Send + Sync>,
}

pub(crate) fn router(office: Office) -> axum::Router {
    axum::Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/prepaid/fund", post(fund))
        .route("/v1/prepaid/keys", post(attach).delete(detach))
        .route("/v1/refunds", post(refund))
        .route("/v1/payments/resolve", post(resolve))
        .route("/v1/payouts", post(payout))
        .route("/v1/erasures", post(erase))
        .route("/v1/sessions", get(sessions))
        .route("/v1/sessions/close", post(close_session))
        .route("/v1/subscriptions", get(subscriptions))
        .route("/v1/subscriptions/cancel", post(cancel_subscription))
        .route("/v1/webhooks", get(webhooks))
        .route("/v1/webhooks/{name}/dead", get(dead_letters))
        .route("/v1/webhooks/replay", post(replay))
        .route("/v1/webhooks/enable", post(enable))
        .with_state(office)
}

async fn ready(State(office): State<Office>) -> Response {
    if office.store.is_running() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the book cannot be written\n").into_response()
}

async fn metrics(State(office): State<Office>) -> Response {
    let text = office.metrics.text(&office.store);
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, media_type)], text).into_response()
}

async fn fund(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(request): Json<FundRequest>,
) -> Response {
    let Some(asset) = office.assets.get(&request.asset) else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "the asset is not one of [assets]");
    };
    let amount: Amount = match asset.parse(&request.amount) {
        Ok(amount) if !amount.is_zero() => amount,
        Ok(_) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, "the amount is zero"),
        Err(error) => return refusal(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    let FundRequest { account, reference, .. } = request;
    office.enter(&fields, Entry::Fund { holder: account, amount, reference }).await
}

async fn attach(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(request): Json<KeyRequest>,
) -> Response {
    let Some(holder) = request.account else {
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "the account is missing");
    };
    match parse_did_key(&request.key) {
        Ok(key) => office.enter(&fields, Entry::AttachKey { key: SpendingKey(key), holder }).await,
        Err(error) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn detach(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(request): Json<KeyRequest>,
) -> Response {
    match parse_did_key(&request.key) {
        Ok(key) => office.enter(&fields, Entry::DetachKey { key: SpendingKey(key) }).await,
        Err(error) => refusal(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn refund(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<RefundOrder>,
) -> Response {
    office.decide(&fields, |desk, now| async move { desk.refund(order, now).await }).await
}

async fn resolve(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(note): Json<Resolution>,
) -> Response {
    let made = |desk: Desk, now| async move { desk.resolve(note, now).await.map(Made::new) };
    office.decide(&fields, made).await
}

async fn payout(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(step): Json<PayoutStep>,
) -> Response {
    let made = |desk: Desk, now| async move { desk.payout(step, now).await.map(Made::new) };
    office.decide(&fields, made).await
}

async fn erase(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<ErasureOrder>,
) -> Response {
    if !office.admits(&fields) {
        return stranger();
    }
    let now = SystemClock.now();
    let erased = async {
        let erasure = order.erasure(now)?;
        Ok::<_, ErasureOrderError>(office.store.port().erase(erasure, now).await?)
    };
    match erased.await {
        Ok(erased) => Json(erased).into_response(),
        Err(error) => {
            let status = StatusCode::from_u16(error.status());
            refusal(status.unwrap_or(StatusCode::CONFLICT), &error.to_string())
        }
    }
}

async fn sessions(State(office): State<Office>, fields: HeaderMap) -> Response {
    office.decide(&fields, |desk, _| async move { desk.sessions().await }).await
}

async fn close_session(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<CloseOrder>,
) -> Response {
    office.decide(&fields, |desk, now| async move { desk.close_session(order, now).await }).await
}

async fn subscriptions(State(office): State<Office>, fields: HeaderMap) -> Response {
    office.decide(&fields, |desk, _| async move { desk.subscriptions().await }).await
}

async fn cancel_subscription(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<CancelOrder>,
) -> Response {
    let act = |desk: Desk, now| async move { desk.cancel_subscription(order, now).await };
    office.decide(&fields, act).await
}

async fn webhooks(State(office): State<Office>, fields: HeaderMap) -> Response {
    office.tell(&fields, async |postman: &Postman| postman.list().await).await
}

async fn dead_letters(
    State(office): State<Office>,
    Path(name): Path<String>,
    fields: HeaderMap,
) -> Response {
    office.tell(&fields, async |postman: &Postman| postman.dead(&name).await).await
}

async fn replay(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<ReplayOrder>,
) -> Response {
    office.tell(&fields, async |postman: &Postman| postman.replay(&order).await).await
}

async fn enable(
    State(office): State<Office>,
    fields: HeaderMap,
    Json(order): Json<EnableOrder>,
) -> Response {
    office
        .tell(&fields, async |postman: &Postman| postman.enable(&order).await.map(Made::new))
        .await
}

impl Made {
    const fn new(new: bool) -> Self {
        Self { new }
    }
}

impl Office {
    /// Does what an operator asks for, if it is one.
    async fn decide<T: Serialize, F: Future<Output = Result<T, DeskError>>>(
        &self,
        fields: &HeaderMap,
        act: impl FnOnce(Desk, Timestamp) -> F,
    ) -> Response {
        if !self.admits(fields) {
            return stranger();
        }
        match act((self.desk)(), SystemClock.now()).await {
            Ok(made) => Json(made).into_response(),
            Err(error) => {
                let status = StatusCode::from_u16(error.status());
                refusal(status.unwrap_or(StatusCode::CONFLICT), &error.to_string())
            }
        }
    }

    /// Answers what an operator asks about webhooks, if it is one.
    async fn tell<T: Serialize>(
        &self,
        fields: &HeaderMap,
        ask: impl AsyncFnOnce(&Postman) -> Result<T, WebhookError>,
    ) -> Response {
        if !self.admits(fields) {
            return stranger();
        }
        match ask(&self.postman).await {
            Ok(told) => Json(told).into_response(),
            Err(error) => {
                let status = StatusCode::from_u16(error.status());
                refusal(status.unwrap_or(StatusCode::CONFLICT), &error.to_string())
            }
        }
    }

    fn admits(&self, fields: &HeaderMap) -> bool {
        self.token.as_ref().is_some_and(|token| token.admits(fields))
    }

    async fn enter(&self, fields: &HeaderMap, entry: Entry) -> Response {
        if !self.admits(fields) {
            return stranger();
        }
        match self.store.port().enter(entry, SystemClock.now()).await {
            Ok(new) => Json(Made { new }).into_response(),
            Err(error @ EntryError::Unavailable) => {
                refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
            }
            Err(
                error @ (EntryError::ReferenceTaken
                | EntryError::KeyTaken
                | EntryError::OutOfOrder
                | EntryError::Transfer(_)),
            ) => refusal(StatusCode::CONFLICT, &error.to_string()),
        }
    }
}

fn stranger() -> Response {
    refusal(StatusCode::UNAUTHORIZED, "show the admin token as a Bearer token")
}

fn refusal(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}
