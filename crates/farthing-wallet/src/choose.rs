//! Which offer to pay, if any. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{
    Invitation, Payer, Price, SESSION, SessionTerms, SubscriptionTerms, Unpayable,
};
use farthing_money::{Amount, AssetId, Assets, Timestamp};
use farthing_policy::{Decision, Policy, PolicyError, Verdict};
use url::Url;

use crate::PayRequest;
use crate::memory::Waiting;
use crate::request::is_loopback;
use crate::subscriptions::is_subscription;

#[cfg(test)]
mod tests;

/// What the owner allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The most a single payment may cost, by asset. What has no cap is not paid.
    pub per_payment: BTreeMap<AssetId, u128>,
    /// The most that may be spent in total, by asset. Held under it in the wallet's book.
    pub total: BTreeMap<AssetId, u128>,
    /// The most that may be deposited into a session at once, by asset. Without it, no session is opened.
    pub session_deposit: BTreeMap<AssetId, u128>,
    /// How little may be left of a session's deposit before more is deposited beside a request, in atoms, by
    /// asset; without it, more is deposited when a request needs it.
    pub session_low: BTreeMap<AssetId, u128>,
    /// The most of a stream that is paid for ahead of what has come, by asset. An eighth of what a payment may
    /// cost, where it is not said.
    pub stream_lead: BTreeMap<AssetId, u128>,
    /// The most that a period of a subscription may cost, by asset. Without it, none is begun.
    pub subscription: BTreeMap<AssetId, u128>,
    /// For how many periods a subscription is authorised at most, by asset; twelve, if nothing is said.
    pub subscription_periods: BTreeMap<AssetId, u32>,
    /// The longest an offer may stay valid: a signature that outlives its purpose is a risk.
    pub validity_max: Duration,
    /// What the owner knows of single sellers, by origin.
    pub sellers: BTreeMap<String, SellerRules>,
    /// How long requests for approval wait, and how many may.
    pub waiting: Waiting,
}

impl Rules {
    /// The caps alone as a policy, for an owner who has written none.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] for a cap of an asset that nobody knows.
    pub fn policy(&self, assets: &Assets) -> Result<Policy, PolicyError> {
        let subscribed = |(asset, most): (&AssetId, &u128)| {
            let periods = self.subscription_periods.get(asset).copied();
            let periods = periods.unwrap_or(SUBSCRIPTION_PERIODS);
            (asset.clone(), most.saturating_mul(periods.into()))
        };
        let subscriptions = self.subscription.iter().map(subscribed).collect();
        Policy::of_caps(&self.per_payment, &self.session_deposit, &subscriptions, assets)
    }
}

/// What the owner knows of one seller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SellerRules {
    /// The realm it challenges for, where that is not its host name.
    pub realm: Option<String>,
    /// Whom it may name as recipient; empty means anybody.
    pub recipients: Vec<String>,
}

/// An offer that may be paid, and by what.
pub struct Choice {
    /// The offer.
    pub invitation: Invitation,
    /// What it asks for.
    pub price: Price,
    /// Who will pay it.
    pub payer: Arc<dyn Payer>,
}

/// For how many periods a subscription is authorised unless the owner says otherwise.
pub(crate) const SUBSCRIPTION_PERIODS: u32 = 12;

/// A subscription offer that may be answered, and by what.
#[derive(Clone)]
pub(crate) struct SubscriptionChoice {
    pub(crate) invitation: Invitation,
    pub(crate) terms: SubscriptionTerms,
    pub(crate) payer: Arc<dyn Payer>,
}

/// The subscription offers that may be answered, in the seller's order. What they cost, whoever begins one
/// looks at: what was begun before may be used whatever it would cost now.
pub(crate) fn choose_subscriptions(
    invitations: Vec<Invitation>,
    request: &PayRequest,
    payers: &[Arc<dyn Payer>],
    rules: &Rules,
    now: Timestamp,
) -> Vec<SubscriptionChoice> {
    let choice = |invitation: Invitation| {
        let payer = payers.iter().find(|payer| payer.method() == invitation.method)?;
        let terms = payer.subscription()?.subscription_terms(&invitation).ok()?;
        let named = rules.sellers.get(&request.origin());
        check_validity(&invitation, rules, now).ok()?;
        check_realm(&invitation, &request.url, named).ok()?;
        if invitation.body.is_some_and(|body| body != request.body_digest()) {
            return None;
        }
        let recipients = named.map(|seller| &seller.recipients).filter(|it| !it.is_empty());
        if recipients.is_some_and(|it| !it.contains(&terms.recipient)) {
            return None;
        }
        Some(SubscriptionChoice { invitation, terms, payer: Arc::clone(payer) })
    };
    invitations.into_iter().filter(is_subscription).filter_map(choice).collect()
}

/// A session offer that may be paid, and by what.
pub(crate) struct SessionChoice {
    pub(crate) invitation: Invitation,
    pub(crate) terms: SessionTerms,
    pub(crate) payer: Arc<dyn Payer>,
}

/// Chooses the session offer that may be paid, the cheapest first: by the same rules as a single payment of
/// its unit's price, and only in assets in which the owner allows deposits.
pub(crate) fn choose_session(
    invitations: Vec<Invitation>,
    request: &PayRequest,
    payers: &[Arc<dyn Payer>],
    rules: &Rules,
    limit: Option<&Amount>,
    now: Timestamp,
) -> Option<SessionChoice> {
    let choice = |invitation: Invitation| {
        let payer = payers.iter().find(|payer| payer.method() == invitation.method)?;
        let terms = payer.session()?.session_terms(&invitation).ok()?;
        let allowed = rules.session_deposit.get(terms.unit.asset()).copied().unwrap_or_default();
        if allowed < terms.unit.atoms() {
            return None;
        }
        let named = rules.sellers.get(&request.origin());
        check_validity(&invitation, rules, now).ok()?;
        check_realm(&invitation, &request.url, named).ok()?;
        let recipients = named.map(|seller| &seller.recipients).filter(|it| !it.is_empty());
        if recipients.is_some_and(|it| !it.contains(&terms.recipient)) {
            return None;
        }
        check_cap(&terms.unit, rules, limit).ok()?;
        Some(SessionChoice { invitation, terms, payer: Arc::clone(payer) })
    };
    let choices = invitations.into_iter().filter(|it| it.intent == SESSION).filter_map(choice);
    choices.min_by_key(|choice| choice.terms.unit.atoms())
}

/// Why an offer is not paid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// It is a session's, and the owner allows none in the asset, or not within the other rules.
    #[error("the offer opens a session; the wallet's owner allows one with session_deposit_max")]
    Session,
    /// It begins a subscription, and the owner allows none in the asset, or not within the other rules.
    #[error("the offer begins a subscription; the wallet's owner allows one with subscription_max")]
    Subscription,
    /// The wallet has no way to pay it.
    #[error("{0}")]
    Unpayable(#[from] Unpayable),
    /// It does not say until when it is valid, or too long.
    #[error("the offer does not expire, or too late")]
    Validity,
    /// It has expired.
    #[error("the offer has expired")]
    Expired,
    /// It is for another realm than the host that made it.
    #[error("the offer is for realm {realm:?}, and the request goes to {host:?}")]
    Realm {
        /// The realm it names.
        realm: String,
        /// The host that made it.
        host: String,
    },
    /// It is bound to another body than the request's.
    #[error("the offer is bound to another body")]
    Body,
    /// There is not enough money for it.
    #[error("there is not enough money for the offer")]
    Funds,
    /// It pays somebody the owner did not name.
    #[error("the offer pays {0:?}, whom the wallet's owner has not named for this seller")]
    Recipient(String),
    /// The owner has set no cap for the asset.
    #[error("the wallet's owner has set no cap for {0}")]
    NoCap(AssetId),
    /// The caller has capped this payment in another asset.
    #[error("this payment is capped in {limit}, and the offer is in {asset}")]
    OtherAsset {
        /// What the caller pays in.
        limit: AssetId,
        /// What the offer asks for.
        asset: AssetId,
    },
    /// It costs more than a single payment may.
    #[error("the offer costs {} atoms and the cap is {} atoms of {}", price.atoms(), cap.atoms(), cap.asset())]
    OverCap {
        /// The price.
        price: Amount,
        /// The cap.
        cap: Amount,
    },
    /// The owner's policy does not let it pass.
    #[error("{}", decided(.0))]
    Policy(Box<Decision>),
}

fn decided(decision: &Decision) -> String {
    let reason = |reason: &farthing_policy::Reason| format!("{} ({})", reason.because, reason.rule);
    let reasons: Vec<String> = decision.reasons.iter().map(reason).collect();
    let said = match decision.verdict {
        Verdict::Deny => "denied",
        Verdict::Ask => "to be approved",
        Verdict::Allow => "allowed",
    };
    format!("{said}: {}", reasons.join("; "))
}

impl Objection {
    /// The objection for people, with amounts as `assets` print them.
    #[must_use]
    pub fn explain(&self, assets: &Assets) -> String {
        match self {
            Self::OverCap { price, cap } => {
                let (price, cap) = (assets.print(price), assets.print(cap));
                format!("the offer costs {price} and the cap is {cap}")
            }
            Self::Unpayable(_)
            | Self::Session
            | Self::Subscription
            | Self::Validity
            | Self::Expired
            | Self::Realm { .. }
            | Self::Body
            | Self::Funds
            | Self::Recipient(_)
            | Self::NoCap(_)
            | Self::Policy(_)
            | Self::OtherAsset { .. } => self.to_string(),
        }
    }
}

/// Chooses the offers that may be paid, the best first: by asset in the seller's order, and within an
/// asset the cheapest first.
///
/// What an offer says in words plays no part, and neither does anything in the body of the answer.
/// `limit` is the caller's own cap on this one payment, in any asset it names.
///
/// # Errors
///
/// The objection to each offer, in the seller's order, if none may be paid; none if there were no
/// offers.
pub fn choose(
    invitations: Vec<Invitation>,
    request: &PayRequest,
    payers: &[Arc<dyn Payer>],
    rules: &Rules,
    limit: Option<&Amount>,
    now: Timestamp,
) -> Result<Vec<Choice>, Vec<(Invitation, Objection)>> {
    let (mut choices, mut objections) = (Vec::<Choice>::new(), Vec::new());
    for invitation in invitations {
        match examine(&invitation, request, payers, rules, limit, now) {
            Ok((payer, price)) => choices.push(Choice { invitation, price, payer }),
            Err(objection) => objections.push((invitation, objection)),
        }
    }
    let mut assets: Vec<AssetId> = Vec::new();
    for choice in &choices {
        if !assets.contains(choice.price.amount.asset()) {
            assets.push(choice.price.amount.asset().clone());
        }
    }
    let place = |amount: &Amount| assets.iter().position(|asset| asset == amount.asset());
    choices.sort_by_key(|it| (place(&it.price.amount), it.price.amount.atoms()));
    if choices.is_empty() { Err(objections) } else { Ok(choices) }
}

/// Checks one offer against every rule (§11.6).
fn examine(
    invitation: &Invitation,
    request: &PayRequest,
    payers: &[Arc<dyn Payer>],
    rules: &Rules,
    limit: Option<&Amount>,
    now: Timestamp,
) -> Result<(Arc<dyn Payer>, Price), Objection> {
    let payer = payers.iter().find(|payer| payer.method() == invitation.method);
    let payer = payer.ok_or(Unpayable::Method)?;
    if invitation.intent == SESSION && payer.session().is_some() {
        return Err(Objection::Session);
    }
    if is_subscription(invitation) && payer.subscription().is_some() {
        return Err(Objection::Subscription);
    }
    let price = payer.price(invitation)?;
    let seller = rules.sellers.get(&request.origin());
    check_validity(invitation, rules, now)?;
    check_realm(invitation, &request.url, seller)?;
    if invitation.body.is_some_and(|body| body != request.body_digest()) {
        return Err(Objection::Body);
    }
    let named = seller.map(|seller| &seller.recipients).filter(|named| !named.is_empty());
    let shares = price.shares.iter().map(|share| &share.recipient);
    let unnamed = std::iter::once(&price.recipient)
        .chain(shares)
        .find(|recipient| named.is_some_and(|named| !named.contains(*recipient)));
    if let Some(unnamed) = unnamed {
        return Err(Objection::Recipient(unnamed.clone()));
    }
    check_cap(&price.amount, rules, limit)?;
    Ok((Arc::clone(payer), price))
}

fn check_validity(invitation: &Invitation, rules: &Rules, now: Timestamp) -> Result<(), Objection> {
    let expires_at = invitation.expires_at.ok_or(Objection::Validity)?;
    if expires_at <= now {
        return Err(Objection::Expired);
    }
    if expires_at > now.after(rules.validity_max) {
        return Err(Objection::Validity);
    }
    Ok(())
}

/// A realm is the host that was asked, or a domain above it; whatever else the owner has named.
fn check_realm(
    invitation: &Invitation,
    url: &Url,
    seller: Option<&SellerRules>,
) -> Result<(), Objection> {
    let host = url.host_str().unwrap_or_default();
    let realm = invitation.realm.as_str();
    let known = if let Some(named) = seller.and_then(|seller| seller.realm.as_deref()) {
        realm == named
    } else {
        let above = host.strip_suffix(realm).is_some_and(|sub| sub.ends_with('.'));
        let domain = above && realm.contains('.');
        realm == host || domain || (realm == "localhost" && is_loopback(url))
    };
    if known {
        return Ok(());
    }
    Err(Objection::Realm { realm: realm.to_owned(), host: host.to_owned() })
}

fn check_cap(price: &Amount, rules: &Rules, limit: Option<&Amount>) -> Result<(), Objection> {
    // What costs nothing says who asks, and needs no cap.
    if price.is_zero() {
        return Ok(());
    }
    let asset = price.asset();
    let owners = rules.per_payment.get(asset).copied();
    let callers = limit.filter(|limit| limit.asset() == asset).map(Amount::atoms);
    if let Some(limit) = limit
        && limit.asset() != asset
    {
        // A caller who caps one asset does not mean to pay any price in another.
        return Err(Objection::OtherAsset { limit: limit.asset().clone(), asset: asset.clone() });
    }
    let cap = match (owners, callers) {
        (Some(owners), Some(callers)) => owners.min(callers),
        (Some(cap), None) => cap,
        (None, _) => return Err(Objection::NoCap(asset.clone())),
    };
    if price.atoms() > cap {
        let cap = Amount::new(asset.clone(), cap);
        return Err(Objection::OverCap { price: price.clone(), cap });
    }
    Ok(())
}
