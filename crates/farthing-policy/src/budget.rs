//! Budgets: how much over which time, and what one payment draws from them.
//!
//! A draw's amount is in atoms, in billionths of the reference currency, or one payment. Its key names the
//! level, the time, the unit, and what it is counted for each of.

use std::collections::BTreeMap;

use farthing_ledger::{BudgetKey, Draw, Window};
use farthing_money::{Asset, AssetId, Assets, Timestamp};

use crate::calendar::{Period, UtcOffset};
use crate::facts::{CALL, DEPOSIT, Facts, NANO_DECIMALS, STREAM, Unclear};
use crate::limits::BudgetRule;
use crate::policy::{Level, PolicyError};

/// The name of the reference currency among assets.
pub(crate) const ANY: &str = "any";

/// What budgets of payments count.
const PAYMENTS: &str = "payments";

/// The longest rolling window: ten years.
const ROLLING_S_MAX: u64 = 3_660 * 86_400;

/// What is held and spent of budgets by now. What is not named was not touched.
pub type Usage = BTreeMap<BudgetKey, u128>;

/// One budget of a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub(crate) level: Level,
    pub(crate) rule: String,
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    pub(crate) each: Option<Each>,
    pub(crate) limit: u128,
}

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Asset(AssetId),
    Reference,
    Payments,
}

/// Over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Rolling(u64),
    Calendar(Period),
    Ever,
}

/// For each of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Each {
    Agent,
    Task,
    Seller,
    Recipient,
    Request,
}

impl Per {
    fn read(text: &str) -> Option<Self> {
        let calendar = match text {
            "ever" => return Some(Self::Ever),
            "day" => Some(Period::Day),
            "week" => Some(Period::Week),
            "month" => Some(Period::Month),
            _ => None,
        };
        if let Some(period) = calendar {
            return Some(Self::Calendar(period));
        }
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let factor = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number =
            farthing_money::parse_atoms(number).ok().and_then(|it| u64::try_from(it).ok())?;
        let seconds = number.checked_mul(factor)?;
        (1..=ROLLING_S_MAX).contains(&seconds).then_some(Self::Rolling(seconds))
    }

    /// The part of a key, and until when what is drawn counts.
    fn at(self, offset: UtcOffset, at: Timestamp) -> (String, Window) {
        match self {
            Self::Rolling(seconds) => (format!("{seconds}s"), Window::Rolling(seconds)),
            Self::Calendar(period) => {
                let span = offset.span(period, at);
                (span.name, Window::Until(span.ends_at))
            }
            Self::Ever => ("ever".to_owned(), Window::Ever),
        }
    }
}

impl Each {
    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "agent" => Self::Agent,
            "task" => Self::Task,
            "seller" => Self::Seller,
            "recipient" => Self::Recipient,
            "request" => Self::Request,
            _ => return None,
        })
    }

    fn of(self, facts: &Facts) -> String {
        match self {
            Self::Agent => format!("agent {}", facts.agent),
            // A task is an agent's own; payments without one are counted together.
            Self::Task => {
                format!("task {}/{}", facts.agent, facts.task.as_deref().unwrap_or_default())
            }
            Self::Seller => format!("seller {}", facts.origin),
            Self::Recipient => format!("recipient {}", facts.recipient),
            Self::Request => format!("request {}", facts.intent),
        }
    }
}

impl Budget {
    /// Reads the budgets of one rule, which is named by its `place`.
    pub(crate) fn read(
        level: &Level,
        place: &str,
        rule: &BudgetRule,
        assets: &Assets,
    ) -> Result<Vec<Self>, PolicyError> {
        let wrong = |what: &str| PolicyError::at(place, what);
        let per = Per::read(&rule.per).ok_or_else(|| {
            wrong("per is a time like \"90s\", \"10m\", \"24h\" or \"30d\", or \"day\", \"week\", \"month\" or \"ever\"")
        })?;
        let each = rule.each.as_deref().map(|it| {
            Each::read(it).ok_or_else(|| {
                wrong("each is \"agent\", \"task\", \"seller\", \"recipient\" or \"request\"")
            })
        });
        let each = each.transpose()?;
        let budget = |unit, name: &str, limit| Self {
            level: level.clone(),
            rule: format!("{place}.{name}"),
            unit,
            per,
            each,
            limit,
        };
        let mut budgets = Vec::new();
        for (name, text) in &rule.max {
            let (unit, asset) = if name == ANY {
                (Unit::Reference, nano_asset())
            } else {
                let asset = known(name, assets).ok_or_else(|| unknown_asset(place, name))?;
                (Unit::Asset(asset.id().clone()), asset.clone())
            };
            let limit = asset
                .parse(text)
                .map_err(|error| wrong(&format!("max.{name}: {text}: {error}")))?;
            budgets.push(budget(unit, &format!("max.{name}"), limit.atoms()));
        }
        budgets.extend(rule.payments.map(|it| budget(Unit::Payments, "payments", it.into())));
        if budgets.is_empty() {
            return Err(wrong("a budget needs max or payments"));
        }
        Ok(budgets)
    }

    /// Whether a payment is this budget's business, and not that of the deposit that it is paid from; or the
    /// other way round, since a deposit buys nothing yet.
    fn counts(&self, facts: &Facts) -> bool {
        let is_of_request = self.each == Some(Each::Request);
        match (facts.operation.as_str(), &self.unit) {
            (DEPOSIT, Unit::Payments) => false,
            // A stream that goes on is the same request.
            (DEPOSIT, Unit::Asset(_) | Unit::Reference) | (STREAM, Unit::Payments) => {
                !is_of_request
            }
            (CALL | STREAM, Unit::Asset(_) | Unit::Reference) => {
                self.purse(facts).is_none_or(|purse| !facts.purses.contains(&purse))
            }
            (_, Unit::Payments | Unit::Asset(_) | Unit::Reference) => true,
        }
    }

    /// Whose money it counts; nothing where it counts something else, or what single requests cost.
    pub(crate) fn purse(&self, facts: &Facts) -> Option<String> {
        let counts_money = match self.unit {
            Unit::Asset(_) | Unit::Reference => true,
            Unit::Payments => false,
        };
        if !counts_money || self.each == Some(Each::Request) || !self.level.covers(facts) {
            return None;
        }
        let each = self.each.map(|each| format!("|{}", each.of(facts))).unwrap_or_default();
        Some(format!("{}{each}", self.level))
    }

    /// What a payment draws from this budget; nothing if it is not its business. `more` is what of it was not
    /// decided upon before, in billionths of the reference currency.
    pub(crate) fn draw(
        &self,
        facts: &Facts,
        more: Option<i64>,
        offset: UtcOffset,
    ) -> Result<Option<Draw>, Unclear> {
        if !self.level.covers(facts) || facts.atoms == 0 || !self.counts(facts) {
            return Ok(None);
        }
        let before = facts.before_atoms.unwrap_or_default();
        let (unit, amount) = match &self.unit {
            Unit::Asset(asset) if *asset == facts.asset => {
                (asset.as_str(), facts.atoms.saturating_sub(before))
            }
            Unit::Asset(_) => return Ok(None),
            Unit::Reference => {
                let amount = more.and_then(|it| u128::try_from(it).ok()).ok_or(Unclear::Asset)?;
                (ANY, amount)
            }
            Unit::Payments => (PAYMENTS, 1),
        };
        let (time, window) = self.per.at(offset, facts.at);
        let each = self.each.map(|each| format!("|{}", each.of(facts))).unwrap_or_default();
        let key = BudgetKey::new(format!("{}|{time}|{unit}{each}", self.level));
        Ok(Some(Draw { key, rule: self.rule.clone(), amount, limit: self.limit, window, used: 0 }))
    }
}

impl Budget {
    /// A draw of nothing, where the budget counts its whole level together.
    pub(crate) fn untouched(&self, offset: UtcOffset, at: Timestamp) -> Option<Draw> {
        if self.each.is_some() {
            return None;
        }
        let unit = match &self.unit {
            Unit::Asset(asset) => asset.as_str(),
            Unit::Reference => ANY,
            Unit::Payments => PAYMENTS,
        };
        let (time, window) = self.per.at(offset, at);
        let key = BudgetKey::new(format!("{}|{time}|{unit}", self.level));
        Some(Draw { key, rule: self.rule.clone(), amount: 0, limit: self.limit, window, used: 0 })
    }
}

/// What the name of a budget says, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Whose limit it is, such as `agent bot`.
    pub level: &'a str,
    /// Over which time, such as `2026-11-26` or `3600s`.
    pub time: &'a str,
    /// In what it counts: an asset's name, [`Counted::ANY`] or [`Counted::PAYMENTS`].
    pub unit: &'a str,
    /// What is counted by itself, such as `seller https://api.example.com`.
    pub each: Option<&'a str>,
}

impl<'a> Counted<'a> {
    /// The reference currency, in billionths.
    pub const ANY: &'static str = ANY;

    /// Payments, however large.
    pub const PAYMENTS: &'static str = PAYMENTS;

    /// Reads a budget's name; nothing where no budget of a policy is called so.
    #[must_use]
    pub fn of(key: &'a BudgetKey) -> Option<Self> {
        let mut parts = key.as_str().splitn(4, '|');
        let (level, time, unit) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { level, time, unit, each: parts.next() })
    }
}

/// One draw for each budget, the one with the smallest limit where two rules count the same.
pub(crate) fn merged(draws: Vec<Draw>) -> Vec<Draw> {
    let mut by_key: BTreeMap<BudgetKey, Draw> = BTreeMap::new();
    for draw in draws {
        match by_key.get(&draw.key) {
            Some(known) if known.limit <= draw.limit => {}
            Some(_) | None => {
                by_key.insert(draw.key.clone(), draw);
            }
        }
    }
    by_key.into_values().collect()
}

/// The reference currency as an asset of nine decimals.
pub(crate) fn nano_asset() -> Asset {
    AssetId::new(ANY)
        .and_then(|id| Asset::new(id, NANO_DECIMALS))
        .unwrap_or_else(|_| unreachable!("\"any\" is an asset's name, and nine are few decimals"))
}

pub(crate) fn known<'a>(name: &str, assets: &'a Assets) -> Option<&'a Asset> {
    assets.get(&AssetId::new(name).ok()?)
}

pub(crate) fn unknown_asset(place: &str, name: &str) -> PolicyError {
    PolicyError::at(
        place,
        &format!("{name}: the wallet knows no such asset; wallet.toml names them"),
    )
}
