//! Budgets: what a payment draws from them, and until when that counts.

use std::borrow::Borrow;
use std::fmt;

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

use crate::balance::atoms_text;

/// Names what is counted together. It does not say how much is allowed, so that a limit that changes goes
/// on counting where it was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BudgetKey(String);

impl BudgetKey {
    /// The budget of this name.
    #[must_use]
    pub const fn new(name: String) -> Self {
        Self(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BudgetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for BudgetKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Until when something that was spent counts. What is held counts for as long as it is held: nobody knows
/// yet when it will have been spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// For so many seconds after its end was known, and up to a thousandth longer.
    Rolling(u64),
    /// Until the period is over.
    Until(Timestamp),
    /// For ever.
    Ever,
}

/// What one payment takes from one budget. It is held with the payment's claim, and counts, in whole or in
/// part, or is let go with the payment itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draw {
    /// The budget.
    pub key: BudgetKey,
    /// The rule that set it.
    pub rule: String,
    /// How much, in the budget's own unit.
    #[serde(with = "atoms_text")]
    pub amount: u128,
    /// How much may be held and spent of it in all, this one included.
    #[serde(with = "atoms_text")]
    pub limit: u128,
    /// Until when it counts.
    pub window: Window,
    /// How much was held and spent of it before; the book writes it down with the claim.
    #[serde(with = "atoms_text", default)]
    pub used: u128,
}

/// How much of a budget is held and spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// The budget.
    pub key: BudgetKey,
    /// How much.
    #[serde(with = "atoms_text")]
    pub amount: u128,
}
