//! Subscriptions, as the configuration has them.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::Dunning;
use farthing_ledger::Holder;
use farthing_money::{Amount, Assets, Period, Timestamp};

use toml::Spanned;

use super::{RailConfig, Read, Reader, raw};

/// The longest a subscription may be past due, and the longest between two tries: a year.
const DUNNING_S_MAX: u64 = 31_536_000;

/// The most retries after one charge that came to nothing.
const RETRIES_MAX: usize = 32;

/// What a route's subscription is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionConfig {
    /// The price of a period, one at most in each asset.
    pub price: Vec<Amount>,
    /// How long a period is.
    pub period: Period,
    /// What is subscribed to.
    pub plan: Arc<str>,
    /// From when on nothing is charged any more; nothing where it goes on.
    pub until: Option<Timestamp>,
}

impl Reader<'_> {
    pub(super) fn subscription(
        &self,
        route: &raw::Route,
        raw: &raw::RouteSubscription,
        assets: &Assets,
    ) -> Read<SubscriptionConfig> {
        let price = self.prices(&raw.price, assets)?;
        let distinct = price.iter().all(|it| {
            price.iter().filter(|other| other.asset() == it.asset()).count() == 1 && !it.is_zero()
        });
        if price.is_empty() || !distinct {
            let what = "a subscription has one price in each asset, and costs something";
            return Err(self.fault(&raw.price, what));
        }
        let period: Period =
            raw.period.get_ref().parse().map_err(|error: farthing_money::ParsePeriodError| {
                self.fault(&raw.period, error.to_string())
            })?;
        let plan = raw.plan.as_ref().unwrap_or(&route.name);
        if Holder::new(plan.get_ref()).is_err() {
            return Err(self.fault(plan, "a plan's name is one printable word"));
        }
        let until = raw.until.as_ref().map(|until| {
            let parsed = until.get_ref().parse::<Timestamp>();
            parsed.map_err(|error| self.fault(until, error.to_string()))
        });
        Ok(SubscriptionConfig {
            price,
            period,
            plan: plan.get_ref().as_str().into(),
            until: until.transpose()?,
        })
    }

    /// Whether one of a route's rails charges what is subscribed to, by its period.
    pub(super) fn subscribable<T>(
        &self,
        at: &Spanned<T>,
        subscription: Option<&SubscriptionConfig>,
        rails: &[RailConfig],
    ) -> Read<()> {
        let Some(SubscriptionConfig { price, period, .. }) = subscription else { return Ok(()) };
        let charges = |rail: &RailConfig| match rail {
            RailConfig::Prepaid => true,
            RailConfig::Tempo(tempo) => {
                let in_tokens = |it: &Amount| tempo.tokens.named(it.asset()).is_some();
                let by_seconds = period.unit.secs().is_some();
                tempo.subscription.is_some() && by_seconds && price.iter().any(in_tokens)
            }
            RailConfig::Evm(_) | RailConfig::Test { .. } => false,
        };
        if rails.iter().any(charges) {
            return Ok(());
        }
        Err(self.fault(
            at,
            "none of the route's rails charges this subscription: prepaid charges any; tempo by days \
             and weeks, in its tokens, with [rails.tempo.subscription]",
        ))
    }

    pub(super) fn dunning(&self, raw: &raw::Subscriptions) -> Read<Dunning> {
        let usual = Dunning::default();
        let retries = match &raw.retries_s {
            None => usual.retries,
            Some(retries) => {
                let fits = |secs: &u64| (1..=DUNNING_S_MAX).contains(secs);
                let listed = retries.get_ref();
                if listed.len() > RETRIES_MAX || !listed.iter().all(fits) {
                    let what = "retries_s are at most 32 spans of 1 to 31536000 seconds";
                    return Err(self.fault(retries, what));
                }
                listed.iter().copied().map(Duration::from_secs).collect()
            }
        };
        let grace = match &raw.grace_s {
            None => usual.grace,
            Some(grace) if *grace.get_ref() <= DUNNING_S_MAX => {
                Duration::from_secs(*grace.get_ref())
            }
            Some(grace) => return Err(self.fault(grace, "grace_s is at most 31536000 seconds")),
        };
        Ok(Dunning { retries, grace })
    }
}
