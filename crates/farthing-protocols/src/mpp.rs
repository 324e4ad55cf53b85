//! The Payment HTTP authentication scheme (`draft-httpauth-payment-00`).
//!
//! A challenge says in `opaque` what it is for: `scope`, the digest of route, method, path and
//! query, and `trace`, which is new for every challenge and makes no two of them the same. Both are
//! bound into the id, which the core draft alone does not do for the resource (§5.1.2.1).

use std::sync::Arc;

use farthing_core::{
    Ask, Buyer, Invitation, Managed, ManagedFacts, Object, Offer, Paid, PayError, Presented,
    Protocol, ReceiptFacts, Rejection, SESSION, SUBSCRIPTION, Unpayable, Unsubscribed,
    UnsubscribedFacts, identity,
};
use farthing_ledger::{ChannelId, ChannelState, Fingerprint, TraceId};
use farthing_money::Timestamp;
use farthing_mpp::{
    AcceptPayment, BodyDigest, Challenge, Credential, CredentialError, CredentialHeader, Receipt,
    Secrets, Terms, base64url, field_text, json,
};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

#[cfg(test)]
mod tests;

/// The protocol's name, as the books write it.
const NAME: &str = "mpp";

/// Where a credential travels when `Authorization` is taken.
pub const PAYMENT_AUTHORIZATION: HeaderName = HeaderName::from_static("payment-authorization");

/// What a client can pay with.
pub const ACCEPT_PAYMENT: HeaderName = HeaderName::from_static("accept-payment");

/// The receipt.
pub const PAYMENT_RECEIPT: HeaderName = HeaderName::from_static("payment-receipt");

/// Names the session that an answer was paid in.
pub const PAYMENT_SESSION: HeaderName = HeaderName::from_static("payment-session");

/// The seller's side.
pub struct Mpp {
    realm: Arc<str>,
    secrets: Secrets,
}

impl Mpp {
    /// Challenges for `realm`, bound with `secrets`.
    ///
    /// # Errors
    ///
    /// [`UnfitRealm`] for a realm that a challenge cannot carry, or with a `|`, which delimits what
    /// ids are computed over.
    pub fn new(realm: &str, secrets: Secrets) -> Result<Self, UnfitRealm> {
        let fits =
            !realm.is_empty() && realm.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'|');
        if fits { Ok(Self { realm: realm.into(), secrets }) } else { Err(UnfitRealm) }
    }

    /// Binds a read credential to `ask`: the checks of §5.1.2 and §5.1.3, the cheap ones first.
    fn bind(
        &self,
        credential: Credential,
        digest: Fingerprint,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Presented, Rejection> {
        let challenge = &credential.challenge;
        let terms = &challenge.terms;
        if *terms.realm != *self.realm || self.secrets.verify(challenge).is_err() {
            return Err(Rejection::Foreign);
        }
        let opaque = terms.opaque_object().map_err(|_| Rejection::Foreign)?;
        let member = |name| opaque.get(name).and_then(Value::as_str).ok_or(Rejection::Foreign);
        // A session is opened for a route, and many requests are made within it.
        let is_session = terms.intent == SESSION;
        let scope = ask.scope.digest();
        let bound = if is_session { ask.scope.session_digest() } else { scope };
        if member("scope")? != bound.to_string() {
            return Err(Rejection::Foreign);
        }
        if !is_session && !same_body(terms, ask) {
            return Err(Rejection::OtherBody(identity(NAME, &challenge.id)));
        }
        let trace: TraceId = member("trace")?.parse().map_err(|_| Rejection::Foreign)?;
        let expires = terms.expires.clone().ok_or(Rejection::Foreign)?;
        let expires_at: Timestamp = expires.parse().map_err(|_| Rejection::Foreign)?;
        if now >= expires_at {
            return Err(Rejection::Expired);
        }
        let request = terms.request_object().map_err(|_| Rejection::Foreign)?;
        let Challenge { id, terms } = credential.challenge;
        Ok(Presented {
            protocol: NAME,
            method: terms.method,
            intent: terms.intent,
            realm: terms.realm,
            challenge: id,
            trace,
            route: Arc::clone(&ask.scope.route),
            scope,
            request,
            payload: credential.payload,
            source: credential.source,
            expires_at,
            expires,
            credential: digest,
            idempotency_key: ask.idempotency_key.clone(),
        })
    }

    fn challenge(&self, offer: &Offer) -> Challenge {
        let quote = &offer.quote;
        // Canonical already: two members in order, neither of which needs escaping.
        let opaque = format!(r#"{{"scope":"{}","trace":"{}"}}"#, offer.scope, offer.trace);
        let header = if offer.authorization_is_taken {
            CredentialHeader::PaymentAuthorization
        } else {
            CredentialHeader::Authorization
        };
        self.secrets.bind(Terms {
            realm: self.realm.to_string(),
            method: quote.method().to_owned(),
            intent: quote.intent().to_owned(),
            request: base64url::encode(offer.request().as_ref()),
            expires: Some(offer.expires_at.to_string()),
            digest: offer.body.map(|body| BodyDigest::from_bytes(body).to_string()),
            description: offer.description.as_deref().map(str::to_owned),
            header,
            opaque: Some(base64url::encode(opaque)),
        })
    }
}

/// Whether the challenge is bound to the body of the request at hand, or both to none.
fn same_body(terms: &Terms, ask: &Ask) -> bool {
    match (&terms.digest, ask.scope.body) {
        (Some(digest), Some(body)) => digest.parse() == Ok(BodyDigest::from_bytes(body)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl Protocol for Mpp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn present(
        &self,
        fields: &HeaderMap,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        let Some((header, value)) = credential_field(fields)? else { return Ok(None) };
        let credential = Credential::parse(&value).map_err(|error| match error {
            CredentialError::Several => Rejection::Ambiguous,
            CredentialError::NotPayment
            | CredentialError::TooLarge
            | CredentialError::Encoding
            | CredentialError::Fields => Rejection::Malformed,
        })?;
        if credential.challenge.terms.header != header {
            return Err(Rejection::Foreign);
        }
        let token = Credential::token(&value).unwrap_or_default();
        let digest = Fingerprint::of("credential", &[token.as_bytes()]);
        self.bind(credential, digest, ask, now).map(Some)
    }

    fn write_offers(&self, offers: &[Offer], request: &HeaderMap, response: &mut HeaderMap) {
        let preferred = field_value(request, &ACCEPT_PAYMENT).and_then(|it| it.parse().ok());
        let names: Vec<_> =
            offers.iter().map(|offer| (offer.quote.method(), offer.quote.intent())).collect();
        // An absent or malformed preference accepts everything (§7.4).
        let order = match preferred {
            Some(preferred) => AcceptPayment::rank(&preferred, &names),
            None => (0..offers.len()).collect(),
        };
        for offer in order.into_iter().filter_map(|at| offers.get(at)) {
            let line = self.challenge(offer).format();
            if let Some(value) = line.ok().as_deref().and_then(header_value) {
                response.append(WWW_AUTHENTICATE, value);
            }
        }
    }

    fn write_receipt(&self, facts: &ReceiptFacts<'_>, response: &mut HeaderMap) {
        let payment = facts.payment;
        let settlement = facts.settlement;
        let receipt = Receipt::new(&payment.method, settlement.settled_at, &settlement.reference)
            .with("challengeId", payment.challenge.as_str())
            .with("amount", payment.amount.atoms().saturating_mul(facts.units.into()).to_string())
            .with("currency", payment.amount.asset().as_str())
            .with("trace", payment.trace.to_string());
        let receipt = match (&payment.voucher, settlement.channel) {
            (Some(voucher), Some(behind)) => {
                write_channel(&voucher.channel, response);
                let figures = (behind.accepted, behind.spent);
                in_session(receipt, &voucher.channel, &payment.payer, figures)
                    .with("units", facts.units)
            }
            (Some(_), None) | (None, _) => receipt,
        };
        let receipt = match &payment.subscription {
            Some(part) => receipt
                .with("intent", SUBSCRIPTION)
                .with("subscriptionId", part.id.to_string())
                .with("period", part.period),
            None => receipt,
        };
        if let Some(value) = header_value(&receipt.format()) {
            response.insert(PAYMENT_RECEIPT, value);
        }
    }

    fn write_subscription(&self, facts: &UnsubscribedFacts<'_>, response: &mut HeaderMap) {
        let Unsubscribed { challenge, at, subscription, .. } = facts.unsubscribed;
        let facts = &subscription.facts;
        let id = facts.id.to_string();
        let mut receipt = Receipt::new(&facts.method, *at, &id)
            .with("challengeId", challenge.as_str())
            .with("intent", SUBSCRIPTION)
            .with("subscriptionId", id.as_str())
            .with("state", subscription.state.name())
            .with("charges", subscription.charges);
        if let Some(until) = subscription.paid_until() {
            receipt = receipt.with("paidUntil", until.to_string());
        }
        if let Some(value) = header_value(&receipt.format()) {
            response.insert(PAYMENT_RECEIPT, value);
        }
    }

    fn write_session(&self, facts: &ManagedFacts<'_>, response: &mut HeaderMap) {
        let Managed { challenge, at, channel, reference, .. } = facts.managed;
        let id = &channel.facts.id;
        write_channel(id, response);
        let receipt = Receipt::new(id.method(), *at, id.on_rail())
            .with("challengeId", challenge.as_str())
            .with("deposit", channel.deposit.to_string())
            .with("state", channel.state.name());
        let figures = (channel.accepted, channel.spent);
        let mut receipt = in_session(receipt, id, &channel.facts.payer, figures);
        if let Some(reference) = reference {
            receipt = receipt.with("txHash", reference.as_str());
        }
        if channel.state == ChannelState::Closed {
            receipt = receipt.with("refunded", channel.returned.to_string());
        }
        if let Some(value) = header_value(&receipt.format()) {
            response.insert(PAYMENT_RECEIPT, value);
        }
    }
}

/// What every receipt within a session says of it (`draft-tempo-session-00` §14); on chains that are many, also
/// on which of them (`draft-evm-session-00` §14).
fn in_session(
    receipt: Receipt,
    id: &ChannelId,
    payer: &str,
    (accepted, spent): (u128, u128),
) -> Receipt {
    let chain = chain_of(payer).filter(|_| id.method() == "evm");
    let receipt = match chain {
        Some(chain_id) => receipt.with("chainId", chain_id),
        None => receipt,
    };
    receipt
        .with("intent", SESSION)
        .with("channelId", id.on_rail())
        .with("acceptedCumulative", accepted.to_string())
        .with("spent", spent.to_string())
}

/// The chain in a payer's name, where it is one of an account on such a chain.
fn chain_of(payer: &str) -> Option<u64> {
    payer.strip_prefix("did:pkh:eip155:")?.split(':').next()?.parse().ok()
}

fn write_channel(id: &ChannelId, response: &mut HeaderMap) {
    if let Some(value) = header_value(id.on_rail()) {
        response.insert(PAYMENT_SESSION, value);
    }
}

/// The one field that carries a payment credential, if any does.
///
/// Nobody can say which of two credentials was meant, so two are refused: in two fields, in two
/// lines of one field, or joined in one line, and whatever schemes stand beside them.
fn credential_field(fields: &HeaderMap) -> Result<Option<(CredentialHeader, String)>, Rejection> {
    let mut found = None;
    for (name, header) in [
        (AUTHORIZATION, CredentialHeader::Authorization),
        (PAYMENT_AUTHORIZATION, CredentialHeader::PaymentAuthorization),
    ] {
        let lines: Vec<String> = field_lines(fields, &name);
        let pays = |line: &String| line.split(',').any(|part| Credential::token(part).is_some());
        if !lines.iter().any(pays) {
            // A scheme without a token after it is still an attempt to pay.
            let bare = |line: &String| line.trim().eq_ignore_ascii_case(farthing_mpp::SCHEME);
            if lines.iter().any(bare) {
                return Err(Rejection::Malformed);
            }
            continue;
        }
        let [line] = <[String; 1]>::try_from(lines).map_err(|_| Rejection::Ambiguous)?;
        if found.is_some() || line.contains(',') {
            return Err(Rejection::Ambiguous);
        }
        found = Some((header, line));
    }
    Ok(found)
}

fn field_lines(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = fields.get_all(name).iter();
    values.map(|value| field_text(value.as_bytes()).into_owned()).collect()
}

/// The lines of a list field, joined as RFC 9110 §5.3 allows.
fn field_value(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    fields.contains_key(name).then(|| field_lines(fields, name).join(", "))
}

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

/// The buyer's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct MppBuyer;

impl Buyer for MppBuyer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn write_preferences(&self, methods: &[(&str, &str)], request: &mut HeaderMap) {
        let ranges: Vec<_> =
            methods.iter().map(|(method, intent)| format!("{method}/{intent}")).collect();
        if let Ok(value) = HeaderValue::try_from(ranges.join(", ")) {
            request.insert(ACCEPT_PAYMENT, value);
        }
    }

    fn read_offers(&self, response: &HeaderMap) -> Vec<Invitation> {
        let lines = field_lines(response, &WWW_AUTHENTICATE);
        let challenges = Challenge::parse_all(lines.iter().map(String::as_str));
        challenges.into_iter().filter_map(invitation).collect()
    }

    fn write_credential(
        &self,
        invitation: &Invitation,
        paid: &Paid,
    ) -> Result<(HeaderName, HeaderValue), PayError> {
        let malformed = PayError::Invitation(Unpayable::Malformed);
        let echo = json::parse(invitation.echo.as_bytes()).map_err(|_| malformed)?;
        let challenge: Challenge =
            serde_json::from_value(Value::Object(echo)).map_err(|_| malformed)?;
        let name = match challenge.terms.header {
            CredentialHeader::Authorization => AUTHORIZATION,
            CredentialHeader::PaymentAuthorization => PAYMENT_AUTHORIZATION,
        };
        let Paid { payload, source, .. } = paid.clone();
        let credential = Credential { challenge, source, payload };
        let mut value = HeaderValue::try_from(credential.format()).map_err(|_| malformed)?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    fn read_receipt(&self, response: &HeaderMap) -> Option<Object> {
        let receipt = Receipt::parse(&field_value(response, &PAYMENT_RECEIPT)?).ok()?;
        let value = serde_json::to_value(receipt).ok()?;
        value.as_object().cloned()
    }
}

/// What a challenge offers. Nothing where its parts cannot be read: it is then not payable.
fn invitation(challenge: Challenge) -> Option<Invitation> {
    let echo = serde_json::to_string(&challenge).ok()?;
    let Challenge { id, terms } = challenge;
    let request = terms.request_object().ok()?;
    let expires_at = match &terms.expires {
        Some(expires) => Some(expires.parse().ok()?),
        None => None,
    };
    let body = match &terms.digest {
        Some(digest) => Some(*digest.parse::<BodyDigest>().ok()?.as_bytes()),
        None => None,
    };
    Some(Invitation {
        protocol: NAME,
        method: terms.method,
        intent: terms.intent,
        realm: terms.realm,
        challenge: id,
        request,
        expires_at,
        expires: terms.expires,
        description: terms.description,
        body,
        echo,
    })
}

/// A realm that challenges cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitRealm;

impl std::fmt::Display for UnfitRealm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a realm is printable ASCII without '|', usually the host name")
    }
}

impl std::error::Error for UnfitRealm {}
