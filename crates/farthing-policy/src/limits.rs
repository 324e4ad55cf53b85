//! What one level allows, as an owner writes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::PolicyError;

/// The limits of one level: the wallet, an agent, a task or a token. What is not named is not limited here;
/// a list that is named and empty allows nothing.
///
/// In a file it is a TOML table, in a token a JSON object, with the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The most a single payment may cost, by asset; `any` counts in the reference currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub max: BTreeMap<String, String>,
    /// The most that may be deposited into a session at once; [`Limits::max`] where it is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub deposit_max: BTreeMap<String, String>,
    /// The most that a subscription may charge in all before it ends; [`Limits::max`] where it is not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subscription_max: BTreeMap<String, String>,
    /// The least a single payment may be.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub min: BTreeMap<String, String>,
    /// What is dearer waits for approval.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ask_above: BTreeMap<String, String>,
    /// How many approvers what waits needs; one if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<u8>,
    /// What may be done: `pay`, `deposit`, `call`, `stream`, `subscribe`, `prove`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<String>>,
    /// Who may be paid, by origin. `https://*.example.com` is every host below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sellers: Option<Vec<String>>,
    /// Who may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_sellers: Vec<String>,
    /// Whose accounts may be paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
    /// Whose may not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_recipients: Vec<String>,
    /// Who may not, by a key that they have proven to have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block_identities: Vec<String>,
    /// Which keys a seller must have proven to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identities: Option<Vec<String>>,
    /// What the sellers must be filed under.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
    /// The paths that may be paid for; `*` stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// The methods of requests that may be paid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// The tools that may be paid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// The payment methods that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rails: Option<Vec<String>>,
    /// The networks that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// The assets that may be paid in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assets: Option<Vec<String>>,
    /// When in a day and a week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
    /// From when on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// Until before when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What to do with the first payment to a seller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_payment: Option<Then>,
    /// What to do when a seller names somebody else to be paid than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient_change: Option<Then>,
    /// What to do when a seller proves another key than when it was first paid, or none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_change: Option<Then>,
    /// What to do when something costs more than it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_rise: Option<PriceRise>,
    /// How much may be spent over time, and how often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetRule>,
}

impl Limits {
    /// Whether they depend on which key a seller proves to have.
    pub(crate) fn ask_identity(&self) -> bool {
        self.identities.is_some()
            || !self.block_identities.is_empty()
            || self.identity_change.is_some()
    }

    /// Reads the limits of one level from TOML.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] that names the place.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        toml::from_str(text).map_err(|error| PolicyError::new(error.to_string().trim_end()))
    }
}

/// When in a day and a week, on the policy's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// From this time of day on, `HH:MM`.
    pub from: String,
    /// Until before this one; earlier than `from`, it is the next day's.
    pub until: String,
    /// The days, `mon` to `sun`; every day if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<String>>,
}

/// What to do in a case that an owner may want to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Nothing.
    Allow,
    /// Wait for approval.
    Ask,
    /// Refuse.
    Deny,
}

/// How far a price may rise over the one that was paid last for the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRise {
    /// The bound, in percent.
    pub percent: u32,
    /// What to do beyond it.
    #[serde(default = "PriceRise::ask")]
    pub then: Then,
}

impl PriceRise {
    const fn ask() -> Then {
        Then::Ask
    }
}

/// How much may be spent over time, or how often.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetRule {
    /// The most, by asset; `any` counts every asset, in the reference currency.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub max: BTreeMap<String, String>,
    /// The most payments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payments: Option<u64>,
    /// Over which time: the last `90s`, `10m`, `24h` or `30d`; the calendar's `day`, `week` or `month`; or
    /// `ever`.
    pub per: String,
    /// For each of what by itself: `agent`, `task`, `seller`, `recipient`, or `request`, which is the same
    /// method, address and body. For the whole level if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
}
