//! What the API is asked and what it answers, as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use farthing_core::Object;
use farthing_ledger::{PaymentId, TraceId};
use farthing_money::Assets;
use farthing_wallet::{
    Ending, Outcome, PaidFor, PayOptions, PayRequest, Preview, Signed, Sum, When,
};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

use crate::problem::Problem;

/// The longest name of a purchase, a task or a tool, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// How many header fields a request may have, and how many challenges there may be.
const FIELDS_MAX: usize = 100;

/// A purchase to make, to think about, or to sign for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Purchase {
    method: Option<String>,
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_base64: Option<String>,
    max_amount: Option<String>,
    name: Option<String>,
    #[serde(default)]
    pay_again: bool,
    pub(crate) task: Option<String>,
    pub(crate) tool: Option<String>,
    /// The values of the `WWW-Authenticate` fields of a seller's `402`.
    #[serde(default)]
    pub(crate) challenges: Vec<String>,
}

impl Purchase {
    /// The request, and what is wanted of its payment.
    pub(crate) fn read(&self, assets: &Assets) -> Result<(PayRequest, PayOptions), Problem> {
        self.check_length()?;
        let mut url: Url =
            self.url.parse().map_err(|error| Problem::malformed(format_args!("url: {error}")))?;
        url.set_fragment(None);
        let body = match (&self.body, &self.body_base64) {
            (Some(_), Some(_)) => {
                return Err(Problem::malformed("a request has one body: body or bodyBase64"));
            }
            (Some(text), None) => Bytes::from(text.clone()),
            (None, Some(text)) => BASE64
                .decode(text)
                .map_err(|error| Problem::malformed(format_args!("bodyBase64: {error}")))?
                .into(),
            (None, None) => Bytes::new(),
        };
        let method = match &self.method {
            Some(name) => Method::from_bytes(name.as_bytes())
                .map_err(|_| Problem::malformed(format_args!("method: {name:?} is none")))?,
            None if body.is_empty() => Method::GET,
            None => Method::POST,
        };
        let limit = self.max_amount.as_deref().map(|text| assets.read(text)).transpose();
        let limit =
            limit.map_err(|error| Problem::malformed(format_args!("maxAmount: {error}")))?;
        let options = PayOptions { limit, pay_again: self.pay_again, name: self.name.clone() };
        Ok((PayRequest { method, url, fields: self.fields()?, body }, options))
    }

    /// What is kept for long is short.
    fn check_length(&self) -> Result<(), Problem> {
        let named = [("name", &self.name), ("task", &self.task), ("tool", &self.tool)];
        let is_long = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| text.chars().count() > TEXT_CHARS_MAX)
        };
        if let Some((what, _)) = named.into_iter().find(|(_, text)| is_long(text)) {
            let detail = format_args!("{what} has more than {TEXT_CHARS_MAX} characters");
            return Err(Problem::malformed(detail));
        }
        if self.headers.len() > FIELDS_MAX || self.challenges.len() > FIELDS_MAX {
            let detail = format_args!("more than {FIELDS_MAX} headers or challenges");
            return Err(Problem::malformed(detail));
        }
        Ok(())
    }

    fn fields(&self) -> Result<HeaderMap, Problem> {
        let mut fields = HeaderMap::new();
        for (name, value) in &self.headers {
            let wrong = || Problem::malformed(format_args!("headers: {name:?} cannot be sent"));
            let field: HeaderName = name.parse().map_err(|_| wrong())?;
            let value: HeaderValue = value.parse().map_err(|_| wrong())?;
            if [CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING].contains(&field)
                || is_payment(&field, &value)
            {
                return Err(wrong());
            }
            fields.insert(field, value);
        }
        Ok(fields)
    }

    /// The fields of the `402` that are of interest.
    pub(crate) fn asked(&self) -> Result<HeaderMap, Problem> {
        let mut fields = HeaderMap::new();
        for challenge in &self.challenges {
            let value = challenge.parse().map_err(|_| {
                Problem::malformed("challenges: the values of WWW-Authenticate, one a member")
            })?;
            fields.append(http::header::WWW_AUTHENTICATE, value);
        }
        Ok(fields)
    }
}

/// Whether a field is a payment credential.
pub(crate) fn is_payment(name: &HeaderName, value: &HeaderValue) -> bool {
    name.as_str() == "payment-authorization"
        || value.to_str().is_ok_and(|value| farthing_mpp::Credential::token(value).is_some())
}

/// The seller's answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
    paid: Option<PaidLine>,
}

/// What was paid for it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaidLine {
    payment: PaymentId,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    resumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_until: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Object>,
}

impl Answered {
    pub(crate) fn of(outcome: Outcome, assets: &Assets) -> Self {
        let Outcome { status, fields, body, paid, streamed: _ } = outcome;
        let field = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (text, base64) = match String::from_utf8(body.to_vec()) {
            Ok(text) => (Some(text), None),
            Err(_) => (None, Some(BASE64.encode(&body))),
        };
        Self {
            status: status.as_u16(),
            headers: fields.iter().map(field).collect(),
            body: text,
            body_base64: base64,
            paid: paid.map(|paid| PaidLine::of(paid, assets)),
        }
    }
}

impl PaidLine {
    fn of(paid: PaidFor, assets: &Assets) -> Self {
        let PaidFor { payment, trace, amount, recipient, resumed, kept_until, receipt } = paid;
        let amount = amount.map(|amount| Sum::of(&amount, assets));
        let kept_until = kept_until.map(When);
        Self { payment, trace, amount, recipient, resumed, kept_until, receipt }
    }
}

/// What would be paid.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decided {
    /// Whether the seller asks for a payment at all.
    asks: bool,
    offers: Vec<OfferLine>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfferLine {
    method: String,
    intent: String,
    realm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<When>,
    chosen: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    objection: Option<String>,
}

impl Decided {
    pub(crate) fn of(preview: Result<Preview, Outcome>, assets: &Assets) -> Self {
        let Ok(preview) = preview else { return Self { asks: false, offers: Vec::new() } };
        let line = |offer: farthing_wallet::PreviewOffer| OfferLine {
            amount: offer.amount.map(|amount| Sum::of(&amount, assets)),
            objection: offer.objection.map(|objection| objection.explain(assets)),
            method: offer.method,
            intent: offer.intent,
            realm: offer.realm,
            recipient: offer.recipient,
            expires_at: offer.expires_at.map(When),
            chosen: offer.chosen,
        };
        Self { asks: true, offers: preview.offers.into_iter().map(line).collect() }
    }
}

/// A credential for a program that sends it itself.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignedLine {
    payment: PaymentId,
    header: String,
    credential: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Sum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<String>,
    expires_at: When,
    resumed: bool,
}

impl SignedLine {
    pub(crate) fn of(signed: &Signed, assets: &Assets) -> Self {
        Self {
            payment: signed.payment,
            header: signed.name.to_string(),
            credential: signed.value.to_str().unwrap_or_default().to_owned(),
            amount: signed.amount.as_ref().map(|amount| Sum::of(amount, assets)),
            recipient: signed.recipient.clone(),
            expires_at: When(signed.expires_at),
            resumed: signed.resumed,
        }
    }
}

/// What the seller said to a credential.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Told {
    /// The answer's status; nothing if none came.
    pub(crate) status: Option<u16>,
    /// Its receipt's field, as it stands.
    pub(crate) receipt: Option<String>,
}

/// What a payment has become.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    held_until: Option<When>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Object>,
}

impl From<Ending> for Ended {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Paid { receipt } => Self { state: "paid", held_until: None, receipt },
            Ending::Refused { held_until } => {
                Self { state: "refused", held_until: Some(When(held_until)), receipt: None }
            }
            Ending::Open { held_until } => {
                Self { state: "open", held_until: Some(When(held_until)), receipt: None }
            }
        }
    }
}
