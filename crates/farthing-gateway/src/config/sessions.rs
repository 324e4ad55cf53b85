//! Sessions, as the configuration has them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use farthing_core::{SESSION, SUBSCRIPTION, Settling};
use farthing_money::{Amount, AssetId, Assets};
use toml::Spanned;

use super::{Read, Reader, SubscriptionConfig, raw};

/// The longest name of what is counted, in bytes.
const UNIT_BYTES_MAX: usize = 32;

/// How long something may be owed before it is settled, unless the seller says otherwise: a day.
const SETTLE_AFTER_S: u64 = 86_400;

/// How a route can be paid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intents {
    /// Request by request.
    pub charge: bool,
    /// On one deposit, where a rail has sessions.
    pub session: Option<SessionConfig>,
    /// By the period, where a rail has subscriptions.
    pub subscription: Option<SubscriptionConfig>,
}

/// What a route's sessions are like. Amounts are by asset, one at most for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionConfig {
    /// What is counted, such as `request`.
    pub unit: Option<Arc<str>>,
    /// The deposits that are proposed.
    pub deposit: Vec<Amount>,
    /// The least deposits.
    pub deposit_min: Vec<Amount>,
    /// The least by which vouchers must advance.
    pub delta_min: Vec<Amount>,
}

impl SessionConfig {
    /// The amount of `amounts` that is in the asset of `price`.
    #[must_use]
    pub fn of<'a>(amounts: &'a [Amount], price: &Amount) -> Option<&'a Amount> {
        amounts.iter().find(|amount| amount.asset() == price.asset())
    }
}

impl Reader<'_> {
    /// A route is paid request by request, unless it says otherwise.
    pub(super) fn intents(&self, route: &raw::Route, assets: &Assets) -> Read<Intents> {
        let named = |name: &str| match &route.intents {
            Some(intents) => intents.get_ref().iter().any(|it| it == name),
            None => name == "charge",
        };
        if let Some(intents) = &route.intents {
            let known = |name: &String| name == "charge" || name == SESSION || name == SUBSCRIPTION;
            if intents.get_ref().is_empty() || !intents.get_ref().iter().all(known) {
                let what = "intents are \"charge\", \"session\" and \"subscription\"";
                return Err(self.fault(intents, what));
            }
        }
        let session = match (named(SESSION), &route.session) {
            (true, Some(session)) => Some(self.session(session.get_ref(), assets)?),
            (true, None) => Some(SessionConfig::default()),
            (false, Some(session)) => {
                let what = "a route whose intents have no \"session\" has no sessions";
                return Err(self.fault(session, what));
            }
            (false, None) => None,
        };
        let subscription = match (named(SUBSCRIPTION), &route.subscription, &route.intents) {
            (true, Some(raw), _) => Some(self.subscription(route, raw.get_ref(), assets)?),
            (true, None, Some(intents)) => {
                let what = "a subscription has a price and a period: subscription = { … }";
                return Err(self.fault(intents, what));
            }
            (false, Some(raw), _) => {
                let what = "a route whose intents have no \"subscription\" has none";
                return Err(self.fault(raw, what));
            }
            (_, None, _) => None,
        };
        Ok(Intents { charge: named("charge"), session, subscription })
    }

    /// When sessions are settled that stay open.
    pub(super) fn settling(&self, raw: &raw::Sessions, assets: &Assets) -> Read<Settling> {
        let atoms = |price: &Option<Spanned<raw::Price>>| -> Read<BTreeMap<AssetId, u128>> {
            let Some(raw) = price else { return Ok(BTreeMap::new()) };
            let amounts = self.prices(raw, assets)?;
            if amounts.iter().any(Amount::is_zero) {
                return Err(self.fault(raw, "an amount to settle is more than nothing"));
            }
            Ok(amounts.into_iter().map(|it| (it.asset().clone(), it.atoms())).collect())
        };
        let percent = raw.settle_at_percent.as_ref();
        if let Some(percent) = percent.filter(|it| !(1..=100).contains(it.get_ref())) {
            return Err(self.fault(percent, "a share of the deposit is 1 to 100 percent"));
        }
        let at_once = raw.settle_at_once.as_ref();
        if let Some(at_once) = at_once.filter(|it| !(1..=1_000).contains(it.get_ref())) {
            return Err(self.fault(at_once, "1 to 1000 sessions are settled at once"));
        }
        // Nothing is settled by its age where that is nothing.
        let after_s = raw.settle_after_s.unwrap_or(SETTLE_AFTER_S);
        Ok(Settling {
            above: atoms(&raw.settle_above)?,
            payer_above: atoms(&raw.settle_payer_above)?,
            after: (after_s > 0).then(|| Duration::from_secs(after_s)),
            at_percent: percent.map(|it| *it.get_ref()),
            min: atoms(&raw.settle_min)?,
            at_once: at_once.map_or(Settling::default().at_once, |it| *it.get_ref()),
        })
    }

    fn session(&self, raw: &raw::RouteSession, assets: &Assets) -> Read<SessionConfig> {
        let amounts = |price: &Option<Spanned<raw::Price>>| {
            price.as_ref().map_or(Ok(Vec::new()), |price| self.prices(price, assets))
        };
        if let Some(unit) = &raw.unit {
            let text = unit.get_ref();
            let is_word = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            if text.is_empty() || text.len() > UNIT_BYTES_MAX || !is_word {
                return Err(self.fault(unit, "what is counted is one word, like request"));
            }
        }
        Ok(SessionConfig {
            unit: raw.unit.as_ref().map(|unit| unit.get_ref().as_str().into()),
            deposit: amounts(&raw.deposit)?,
            deposit_min: amounts(&raw.deposit_min)?,
            delta_min: amounts(&raw.delta_min)?,
        })
    }
}
