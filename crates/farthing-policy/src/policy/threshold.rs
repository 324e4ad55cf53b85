//! The amount that a rule compares with, for whoever explains a decision.

use super::{ANY, Policy};

impl Policy {
    /// The limit of a rule that compares a single payment's amount, as it is written and in its unit, such as
    /// `0.30 usd` for `wallet.ask_above.usd`. Nothing for rules that compare no amount.
    #[must_use]
    pub fn threshold(&self, rule: &str) -> Option<String> {
        self.levels.iter().find_map(|(level, limits)| {
            let rest = rule.strip_prefix(&level.place())?.strip_prefix('.')?;
            let (what, name) = rest.split_once('.')?;
            let limits = match what {
                "max" => &limits.max,
                "min" => &limits.min,
                "deposit_max" => &limits.deposit_max,
                "subscription_max" => &limits.subscription_max,
                "ask_above" => &limits.ask_above,
                _ => return None,
            };
            let unit = if name == ANY { self.currency()? } else { name };
            limits.get(name).map(|text| format!("{text} {unit}"))
        })
    }
}
