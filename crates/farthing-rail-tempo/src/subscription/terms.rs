//! What stands in a subscription challenge's `request` (draft-tempo-subscription-00 §4).

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{Complete, Object, SubscriptionPrice, Unquotable};
use farthing_ledger::TraceId;
use farthing_money::{Amount, Period, PeriodUnit, Timestamp};
use serde_json::{Value, json};
use tempo_primitives::SignatureType;

use super::keys::KeyRing;
use crate::wire::{self, Address, Tokens, Unreadable, text};

#[cfg(test)]
pub(crate) mod tests;

/// The chain that is meant where none is named (§4.2).
const CHAIN_ID: u64 = 42_431;

/// How far the clocks of a wallet, of a seller and of the chain may be apart: an authorisation ends so much
/// before the period begins that it is not for.
const CLOCKS_APART: Duration = Duration::from_mins(20);

/// A subscription, as a request asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The price of a period.
    pub(crate) amount: Amount,
    pub(crate) token: Address,
    pub(crate) recipient: Address,
    pub(crate) chain_id: u64,
    pub(crate) period: Period,
    /// The same, in seconds.
    pub(crate) period_s: u64,
    /// From when on nothing may be charged, in seconds since 1970.
    pub(crate) expires_s: u64,
    /// Who may charge.
    pub(crate) key: Address,
    pub(crate) key_type: SignatureType,
    /// The seller's name for what is subscribed to.
    pub(crate) plan: Option<String>,
}

/// Writes what all offers of a subscription have in common.
pub(crate) fn write(
    price: &SubscriptionPrice,
    token: Address,
    recipient: Address,
    chain_id: u64,
) -> Result<Object, Unquotable> {
    seconds(price.period).ok_or(Unquotable::Period)?;
    let mut request = Object::new();
    request.insert("amount".into(), price.amount.atoms().to_string().into());
    request.insert("currency".into(), hex(token).into());
    request.insert("recipient".into(), hex(recipient).into());
    request.insert("periodUnit".into(), price.period.unit.name().into());
    request.insert("periodCount".into(), price.period.count.to_string().into());
    request.insert("externalId".into(), price.plan.as_ref().into());
    request.insert("methodDetails".into(), json!({ "chainId": chain_id }));
    if let Some(until) = price.expires_at {
        request.insert("subscriptionExpires".into(), moment(until.as_secs()).to_string().into());
    }
    Ok(request)
}

/// Gives each offer a key of its own, and an end that is so many periods away from it.
pub(crate) struct Rolling {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) periods: u32,
    pub(crate) chain_id: u64,
}

impl Complete for Rolling {
    fn complete(&self, request: &Object, trace: TraceId) -> Object {
        let mut request = request.clone();
        let sellers: Option<Timestamp> =
            text(&request, "subscriptionExpires").ok().and_then(|it| it.parse().ok());
        let own = period(&request).ok().and_then(|it| self.end(it, trace.begins_at()));
        // What cannot be completed is answered by nobody.
        let key = self.keys.of(self.chain_id, trace).and_then(|it| it.address());
        if let Some(expires) = own.map(|own| sellers.map_or(own, |sellers| sellers.min(own))) {
            request.insert("subscriptionExpires".into(), expires.to_string().into());
        }
        let details = request.get_mut("methodDetails").and_then(Value::as_object_mut);
        if let (Some(key), Some(details)) = (key, details) {
            let key = json!({ "accessKeyAddress": hex(key), "keyType": "secp256k1" });
            details.insert("accessKey".into(), key);
        }
        request
    }
}

impl Rolling {
    fn end(&self, period: Period, from: Timestamp) -> Option<Timestamp> {
        let end = period.boundary(from, self.periods.into())?.before(CLOCKS_APART);
        Some(moment(end.as_secs()))
    }
}

impl Asked {
    /// Reads a request, and nothing that has a field more: what is not known may mean anything.
    pub(crate) fn read(request: &Object, tokens: &Tokens) -> Result<Self, Unreadable> {
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
        if request.keys().any(|name| !FIELDS.contains(&name.as_str())) {
            return Err(Unreadable::Malformed);
        }
        let malformed = Unreadable::Malformed;
        let details = request.get("methodDetails").and_then(Value::as_object).ok_or(malformed)?;
        let chain_id = match details.get("chainId") {
            None => CHAIN_ID,
            Some(id) => id.as_u64().ok_or(malformed)?,
        };
        let key = details.get("accessKey").and_then(Value::as_object).ok_or(malformed)?;
        let key_type = match text(key, "keyType")? {
            "secp256k1" => SignatureType::Secp256k1,
            "p256" => SignatureType::P256,
            "webAuthn" => SignatureType::WebAuthn,
            _ => return Err(malformed),
        };
        let token = tokens.at(wire::address(request, "currency")?).ok_or(Unreadable::Token)?;
        let atoms = wire::atoms(request)?;
        let period = period(request)?;
        let expires: Timestamp =
            text(request, "subscriptionExpires")?.parse().map_err(|_| malformed)?;
        let plan = request.get("externalId").map(|plan| plan.as_str().ok_or(malformed));
        let asked = Self {
            amount: token.asset.atoms(atoms),
            token: token.address,
            recipient: wire::address(request, "recipient")?,
            chain_id,
            period,
            period_s: seconds(period).ok_or(malformed)?,
            expires_s: expires.as_secs(),
            key: wire::address(key, "accessKeyAddress")?,
            key_type,
            plan: plan.transpose()?.map(str::to_owned),
        };
        // An end between two seconds is none that a key can have.
        let is_whole = moment(asked.expires_s) == expires;
        if atoms > 0 && is_whole { Ok(asked) } else { Err(malformed) }
    }
}

fn period(request: &Object) -> Result<Period, Unreadable> {
    let unit: PeriodUnit =
        text(request, "periodUnit")?.parse().map_err(|_| Unreadable::Malformed)?;
    let count = text(request, "periodCount")?;
    let is_plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
    let count: NonZeroU32 = count.parse().ok().filter(|_| is_plain).ok_or(Unreadable::Malformed)?;
    Ok(Period::new(unit, count))
}

/// How long a period is, if it is always as long: the chain counts seconds, and months have no number of them
/// (§4.2).
fn seconds(period: Period) -> Option<u64> {
    period.unit.secs()?.checked_mul(u64::from(period.count.get()))
}

/// A whole second since 1970.
pub(crate) fn moment(secs: u64) -> Timestamp {
    Timestamp::from_micros(secs.saturating_mul(1_000_000))
}

/// An address, as this method writes it: in lower case (§4.1).
pub(crate) fn hex(address: Address) -> String {
    format!("{:#x}", address.0)
}
