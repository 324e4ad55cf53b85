//! Subscriptions on accounts in the seller's own books: `docs/prepaid-subscription.md`.
//!
//! The payer signs once what may be charged for each period; the book charges it. Every use is signed anew,
//! for the challenge at hand.

use std::num::NonZeroU32;

use ed25519_dalek::{Signature, Signer, VerifyingKey};
use farthing_core::{
    BoxFuture, Grant, Invitation, Object, Paid, PayError, Payer, Presented, Rejection,
    SUBSCRIPTION, Subscribing, SubscriptionAct, SubscriptionPayer, SubscriptionPrice,
    SubscriptionRail, SubscriptionTerms, Unpayable, Unquotable,
};
use farthing_ledger::{Holder, Money, Source, SpendingKey, SubscriptionId};
use farthing_money::{Period, PeriodUnit, Timestamp};
use farthing_mpp::base64url;
use serde_json::{Value, json};

use crate::{METHOD, PrepaidPayer, PrepaidRail, Terms, parse_did_key};

/// Keeps authorisations apart from every other use of the same key.
const BEGIN: &str = "mpp-prepaid-subscription-v1";

/// Keeps uses apart.
const USE: &str = "mpp-prepaid-subscription-use-v1";

/// Keeps cancellations apart.
const CANCEL: &str = "mpp-prepaid-subscription-cancel-v1";

impl SubscriptionRail for PrepaidRail {
    fn quote_subscription(
        &self,
        price: &SubscriptionPrice,
        payee: &Holder,
    ) -> Result<Object, Unquotable> {
        let mut request = self.quoted(&price.amount, payee)?;
        request.insert("periodUnit".into(), price.period.unit.name().into());
        request.insert("periodCount".into(), price.period.count.to_string().into());
        request.insert("externalId".into(), price.plan.as_ref().into());
        if let Some(expires_at) = price.expires_at {
            request.insert("subscriptionExpires".into(), expires_at.to_string().into());
        }
        Ok(request)
    }

    fn check_subscription(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Subscribing, Rejection> {
        if presented.intent != SUBSCRIPTION {
            return Err(Rejection::Unsupported);
        }
        // The request is our own, bound into the challenge's id; what does not fit is not ours.
        let asked = Asked::read(&presented.request, self).map_err(|_| Rejection::Foreign)?;
        let source = presented.source.as_deref().ok_or(Rejection::Malformed)?;
        let key = parse_did_key(source).map_err(|_| Rejection::Malformed)?;
        let text = |name: &str| {
            let value = presented.payload.get(name);
            value.map(|value| value.as_str().ok_or(Rejection::Malformed)).transpose()
        };
        let named = |name: &str| text(name)?.ok_or(Rejection::Malformed);
        let signature = named("signature")?;
        let about = |domain: &str, id: &str| {
            let message = about(domain, &presented.realm, &presented.challenge, id);
            verify(&key, &message, signature)?;
            id.parse::<SubscriptionId>().map_err(|_| Rejection::Malformed)
        };
        let payer = source.to_owned();
        match named("action")? {
            "subscribe" => {
                let until = text("until")?;
                let expires_at: Option<Timestamp> =
                    until.map(str::parse).transpose().map_err(|_| Rejection::Malformed)?;
                let message = asked.message(
                    &presented.request,
                    &presented.realm,
                    &presented.challenge,
                    until,
                );
                verify(&key, &message, signature)?;
                if expires_at.is_some_and(|at| at <= now) {
                    return Err(Rejection::Invalid);
                }
                Ok(Subscribing::Begin(Box::new(Grant {
                    payer,
                    from: Source::Key(SpendingKey(key)),
                    expires_at,
                    money: Money::Book,
                    words: None,
                    joins: false,
                })))
            }
            "use" => Ok(Subscribing::Use { id: about(USE, named("subscriptionId")?)?, payer }),
            "cancel" => {
                Ok(Subscribing::Cancel { id: about(CANCEL, named("subscriptionId")?)?, payer })
            }
            _ => Err(Rejection::Malformed),
        }
    }
}

impl SubscriptionPayer for PrepaidPayer {
    fn subscription_terms(&self, invitation: &Invitation) -> Result<SubscriptionTerms, Unpayable> {
        if invitation.method != METHOD || invitation.intent != SUBSCRIPTION {
            return Err(Unpayable::Method);
        }
        let rail = PrepaidRail::new(self.assets.clone());
        let asked = Asked::read(&invitation.request, &rail)?;
        let recipient = asked.terms.recipient.to_owned();
        let asset = asked.terms.amount.asset().as_str();
        let plan = invitation.request.get("externalId").and_then(Value::as_str).unwrap_or_default();
        Ok(SubscriptionTerms {
            period: asked.period,
            expires_at: asked.expires_at,
            payer_ends: true,
            binding: format!("{METHOD} {} {recipient} {asset} {plan}", invitation.realm),
            recipient,
            amount: asked.terms.amount,
            revocable: None,
        })
    }

    fn subscribe<'a>(
        &'a self,
        invitation: &'a Invitation,
        act: SubscriptionAct,
    ) -> BoxFuture<'a, Result<Paid, PayError>> {
        Box::pin(async move {
            self.subscription_terms(invitation)?;
            let Invitation { realm, challenge, request, .. } = invitation;
            let sign = |message: &[u8]| base64url::encode(self.key.sign(message).to_bytes());
            let about = |action: &str, domain: &str, id: &str| {
                let signature = sign(&about(domain, realm, challenge, id));
                json!({ "action": action, "subscriptionId": id, "signature": signature })
            };
            let payload = match act {
                SubscriptionAct::Begin { until } => {
                    let rail = PrepaidRail::new(self.assets.clone());
                    let asked = Asked::read(request, &rail)?;
                    let until = until.map(|until| until.to_string());
                    let message = asked.message(request, realm, challenge, until.as_deref());
                    let mut payload = json!({ "action": "subscribe", "signature": sign(&message) });
                    if let (Some(until), Some(payload)) = (until, payload.as_object_mut()) {
                        payload.insert("until".into(), until.into());
                    }
                    payload
                }
                SubscriptionAct::Use { id } => about("use", USE, &id),
                SubscriptionAct::Cancel { id } => about("cancel", CANCEL, &id),
            };
            let payload = payload.as_object().cloned().unwrap_or_default();
            Ok(Paid { payload, source: Some(self.account()), keepsake: None })
        })
    }
}

/// A subscription request of this method, read.
struct Asked<'a> {
    terms: Terms<'a>,
    period: Period,
    expires_at: Option<Timestamp>,
}

impl<'a> Asked<'a> {
    fn read(request: &'a Object, rail: &PrepaidRail) -> Result<Self, Unpayable> {
        const FIELDS: [&str; 9] = [
            "amount",
            "currency",
            "description",
            "externalId",
            "methodDetails",
            "periodCount",
            "periodUnit",
            "recipient",
            "subscriptionExpires",
        ];
        // What is not known may mean anything, and everything that is known is signed.
        if request.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            return Err(Unpayable::Malformed);
        }
        let terms = Terms::read(request, &rail.assets)?;
        let text = |name: &str| {
            let value = request.get(name);
            value.map(|value| value.as_str().ok_or(Unpayable::Malformed)).transpose()
        };
        let named = |name: &str| text(name)?.ok_or(Unpayable::Malformed);
        let unit: PeriodUnit = named("periodUnit")?.parse().map_err(|_| Unpayable::Malformed)?;
        let count = named("periodCount")?;
        let is_plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
        let count: NonZeroU32 =
            count.parse().ok().filter(|_| is_plain).ok_or(Unpayable::Malformed)?;
        let expires_at = text("subscriptionExpires")?.map(str::parse).transpose();
        text("externalId")?;
        Ok(Self {
            terms,
            period: Period::new(unit, count),
            expires_at: expires_at.map_err(|_| Unpayable::Malformed)?,
        })
    }

    /// What a payer signs to begin: everything that is asked for, as it is spelled, for this challenge and
    /// no other; and until when it may be charged at most.
    fn message(
        &self,
        request: &Object,
        realm: &str,
        challenge: &str,
        until: Option<&str>,
    ) -> Vec<u8> {
        let named = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let object = json!({
            "amount": self.terms.amount.atoms().to_string(),
            "challenge": challenge,
            "currency": self.terms.amount.asset().as_str(),
            "domain": BEGIN,
            "periodCount": named("periodCount"),
            "periodUnit": named("periodUnit"),
            "plan": named("externalId"),
            "realm": realm,
            "recipient": self.terms.recipient,
            "subscriptionExpires": named("subscriptionExpires"),
            "until": until.unwrap_or_default(),
        });
        farthing_mpp::json::canonical(&object).into_bytes()
    }
}

/// What a payer signs to use a subscription, or to cancel it: for this challenge and no other.
fn about(domain: &str, realm: &str, challenge: &str, id: &str) -> Vec<u8> {
    let object = json!({
        "challenge": challenge,
        "domain": domain,
        "realm": realm,
        "subscription": id,
    });
    farthing_mpp::json::canonical(&object).into_bytes()
}

/// Whether a key has signed a message, in the one spelling that counts.
fn verify(key: &[u8; 32], message: &[u8], signature: &str) -> Result<(), Rejection> {
    let bytes = base64url::decode(signature).map_err(|_| Rejection::Malformed)?;
    let signature = Signature::from_slice(&bytes).map_err(|_| Rejection::Malformed)?;
    let key = VerifyingKey::from_bytes(key).map_err(|_| Rejection::Invalid)?;
    // Strict: one signature has one spelling, and a key that verifies anything is no key.
    key.verify_strict(message, &signature).map_err(|_| Rejection::Invalid)
}
