//! A budget as people read it: whose, over which time, how much of it is used, and when it begins anew.

use farthing_ledger::{Draw, Window};
use farthing_money::{Amount, AssetId, Assets};
use farthing_policy::Counted;
use serde::{Deserialize, Serialize};

use crate::status::When;

#[cfg(test)]
mod tests;

/// Billionths that a unit of the reference currency has.
const NANO: u128 = 1_000_000_000;

/// A budget, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetView {
    /// Its name in the book.
    pub budget: String,
    /// The rule that set it.
    pub rule: String,
    /// Whose it is, such as `agent bot`.
    pub level: String,
    /// What is counted by itself, such as `seller https://api.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// How much is held and spent, in the budget's own unit.
    pub used: String,
    /// How much may be.
    pub limit: String,
    /// How much is held and spent, for people.
    pub used_text: String,
    /// How much may be, for people.
    pub limit_text: String,
    /// How much of it is used, in thousandths, rounded up; at most a thousand.
    pub used_permille: u16,
    /// When it begins anew; nothing where it does not, or goes on from moment to moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<When>,
    /// For how many seconds something counts that was spent, where that goes on from moment to moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolls_s: Option<u64>,
}

impl BudgetView {
    /// A budget of which `used` is held and spent.
    #[must_use]
    pub fn of(draw: &Draw, used: u128, assets: &Assets) -> Self {
        let counted = Counted::of(&draw.key);
        let unit = counted.map_or("", |counted| counted.unit);
        let (resets_at, rolls_s) = match draw.window {
            Window::Until(end) => (Some(When(end)), None),
            Window::Rolling(seconds) => (None, Some(seconds)),
            Window::Ever => (None, None),
        };
        Self {
            budget: draw.key.to_string(),
            rule: draw.rule.clone(),
            level: counted.map_or(draw.rule.as_str(), |counted| counted.level).to_owned(),
            each: counted.and_then(|counted| counted.each).map(str::to_owned),
            used: used.to_string(),
            limit: draw.limit.to_string(),
            used_text: print(unit, used, assets),
            limit_text: print(unit, draw.limit, assets),
            used_permille: permille(used, draw.limit),
            resets_at,
            rolls_s,
        }
    }
}

/// A number of what a budget counts, for people.
fn print(unit: &str, number: u128, assets: &Assets) -> String {
    match unit {
        Counted::PAYMENTS => format!("{number} payments"),
        Counted::ANY => {
            let (whole, rest) = (number / NANO, number % NANO);
            let text = format!("{whole}.{rest:09}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        asset => match AssetId::new(asset) {
            Ok(id) => assets.print(&Amount::new(id, number)),
            Err(_) => number.to_string(),
        },
    }
}

/// A share in thousandths, rounded up; all of it where the limit is nothing.
pub(crate) fn permille(used: u128, limit: u128) -> u16 {
    let share = used.saturating_mul(1_000).checked_add(limit.saturating_sub(1));
    let share = share.and_then(|it| it.checked_div(limit)).unwrap_or(1_000);
    u16::try_from(share.min(1_000)).unwrap_or(1_000)
}
