//! A wire without HTTP's troubles: a credential is one field of JSON.

use std::sync::Arc;

use farthing_core::{
    Ask, Object, Offer, Presented, Protocol, ReceiptFacts, Rejection, SESSION, ScopeDigest,
    identity,
};
use farthing_ledger::{Fingerprint, TraceId};
use farthing_money::Timestamp;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

/// The protocol's name.
const NAME: &str = "sim";

/// The protocol.
pub(crate) struct Wire;

/// What a client says when it answers an offer.
pub(crate) fn credential(offer: &Offer, payer: &str, token: &str) -> String {
    acting(offer, payer, token, &Value::Null)
}

/// The same within a session.
pub(crate) fn acting(offer: &Offer, payer: &str, token: &str, act: &Value) -> String {
    let request: Value = serde_json::from_str(offer.quote.request()).unwrap_or_default();
    json!({
        "challenge": challenge(offer.trace),
        "trace": offer.trace,
        "method": offer.quote.method(),
        "intent": offer.quote.intent(),
        "act": act,
        "scope": offer.scope.to_string(),
        "body": offer.body.map(|body| body.to_vec()),
        "expires": offer.expires_at,
        "request": request,
        "payer": payer,
        "token": token,
    })
    .to_string()
}

/// The challenge of an offer.
pub(crate) fn challenge(trace: TraceId) -> String {
    format!("c-{trace}")
}

pub(crate) fn fields(credential: Option<&str>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if let Some(value) = credential.and_then(|it| HeaderValue::from_str(it).ok()) {
        fields.insert(AUTHORIZATION, value);
    }
    fields
}

fn read(text: &str, ask: &Ask, now: Timestamp) -> Option<Presented> {
    let value: Object = serde_json::from_str(text).ok()?;
    let is_session = value.get("intent")? == SESSION;
    let scope: ScopeDigest =
        if is_session { ask.scope.session_digest() } else { ask.scope.digest() };
    let of = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let expires_at: Timestamp = serde_json::from_value(value.get("expires")?.clone()).ok()?;
    let mut payload = Object::new();
    payload.insert("token".into(), value.get("token")?.clone());
    payload.insert("act".into(), value.get("act")?.clone());
    (of("scope")? == scope.to_string() && expires_at > now).then_some(())?;
    Some(Presented {
        protocol: NAME,
        method: of("method")?,
        intent: of("intent")?,
        realm: "sim".to_owned(),
        challenge: of("challenge")?,
        trace: of("trace")?.parse().ok()?,
        route: Arc::clone(&ask.scope.route),
        scope,
        request: value.get("request")?.as_object()?.clone(),
        payload,
        source: of("payer"),
        expires_at,
        expires: expires_at.to_string(),
        credential: Fingerprint::of("credential", &[text.as_bytes()]),
        idempotency_key: ask.idempotency_key.clone(),
    })
}

impl Protocol for Wire {
    fn name(&self) -> &'static str {
        NAME
    }

    fn present(
        &self,
        fields: &HeaderMap,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        let Some(field) = fields.get(AUTHORIZATION) else { return Ok(None) };
        let text = field.to_str().map_err(|_| Rejection::Malformed)?;
        let presented = read(text, ask, now).ok_or(Rejection::Expired)?;
        let value: Value = serde_json::from_str(text).map_err(|_| Rejection::Malformed)?;
        if presented.intent != SESSION
            && value["body"] != json!(ask.scope.body.map(|body| body.to_vec()))
        {
            return Err(Rejection::OtherBody(identity(NAME, &presented.challenge)));
        }
        Ok(Some(presented))
    }

    fn write_offers(&self, _offers: &[Offer], _request: &HeaderMap, _response: &mut HeaderMap) {}

    fn write_receipt(&self, _facts: &ReceiptFacts<'_>, _response: &mut HeaderMap) {}
}
