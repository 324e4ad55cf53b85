//! A policy: from the owner's text to decisions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use farthing_ledger::{Draw, Fingerprint};
use farthing_money::{AssetId, Assets, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::budget::{ANY, Budget, Usage, known, merged, nano_asset, unknown_asset};
use crate::calendar::UtcOffset;
use crate::cedar::{Engine, SCHEMA, Spoken, Writer};
use crate::decision::{Decision, Reason, Verdict};
use crate::facts::{Facts, NANO_DECIMALS, Unclear, scaled};
use crate::limits::Limits;

#[cfg(test)]
mod tests;
mod threshold;

/// Whoever is at the wallet without a token: its owner, or who has the owner's passphrase.
pub const OWNER: &str = "owner";

/// The longest name of an agent or a task, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Whose limits they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everybody's.
    Wallet,
    /// An agent's.
    Agent(String),
    /// A task's of an agent.
    Task(String, String),
    /// A block's of the token that asks, by the block's own name. A policy with tokens' levels is that
    /// token's alone.
    Token(String),
}

impl Level {
    /// Whether a payment is its business.
    pub(crate) fn covers(&self, facts: &Facts) -> bool {
        match self {
            Self::Wallet | Self::Token(_) => true,
            Self::Agent(agent) => *agent == facts.agent,
            Self::Task(agent, task) => *agent == facts.agent && facts.task.as_ref() == Some(task),
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Wallet => "wallet".to_owned(),
            Self::Agent(agent) => format!("agents.{agent}"),
            Self::Task(agent, task) => format!("agents.{agent}.tasks.{task}"),
            Self::Token(block) => format!("token.{block}"),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wallet => f.write_str("wallet"),
            Self::Agent(agent) => write!(f, "agent {agent}"),
            Self::Task(agent, task) => write!(f, "task {agent}/{task}"),
            Self::Token(block) => write!(f, "token {block}"),
        }
    }
}

/// Which policy decided: its owner's name for it, and the digest of all that it consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyName {
    /// The owner's own name for this version.
    pub version: String,
    /// The SHA-256 of its Cedar, its schema, its budgets and its rates, in hexadecimal digits.
    pub sha256: String,
}

impl PolicyName {
    /// The name of two policies together.
    pub(crate) fn and(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let mut hash = Sha256::new();
        hash.update(&self.sha256);
        hash.update(&other.sha256);
        let version = format!("{} within {}", other.version, self.version);
        Self { version, sha256: hex(hash) }
    }
}

/// A currency that amounts of every asset are compared in, at rates that the owner has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    currency: String,
    rates: BTreeMap<AssetId, u128>,
}

impl Reference {
    /// What one unit is worth, in billionths.
    pub(crate) fn rate(&self, asset: &AssetId) -> Option<u128> {
        self.rates.get(asset).copied()
    }
}

/// What an owner has written, compiled.
#[derive(Clone, Debug)]
pub struct Policy {
    version: String,
    assets: Assets,
    offset: UtcOffset,
    approvers: Vec<String>,
    reference: Option<Reference>,
    categories: BTreeMap<String, String>,
    levels: Vec<(Level, Limits)>,
    extra: Vec<(String, String)>,
    compiled: String,
    engine: Engine,
    budgets: Vec<Budget>,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    version: String,
    #[serde(default)]
    utc_offset: UtcOffset,
    #[serde(default)]
    approvers: Vec<String>,
    reference: Option<RawReference>,
    #[serde(default)]
    categories: BTreeMap<String, Vec<String>>,
    /// Files of Cedar beside this one; whoever reads files brings them.
    #[serde(default)]
    cedar: Vec<String>,
    wallet: Option<Limits>,
    #[serde(default)]
    agents: BTreeMap<String, toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReference {
    currency: String,
    rates: BTreeMap<String, String>,
}

impl Policy {
    /// The files of Cedar that a policy names, so that whoever may read files can bring them.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] that says what to mend.
    pub fn files(text: &str) -> Result<Vec<String>, PolicyError> {
        Ok(raw(text)?.cedar)
    }

    /// Reads a policy, and the Cedar beside it by the names of its files.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] that names the place and says what to mend.
    pub fn parse(
        text: &str,
        files: &[(String, String)],
        assets: &Assets,
    ) -> Result<Self, PolicyError> {
        let raw = raw(text)?;
        for name in &raw.cedar {
            if !files.iter().any(|(file, _)| file == name) {
                return Err(PolicyError::at("cedar", &format!("{name:?} was not read")));
            }
        }
        let mut levels = Vec::new();
        levels.extend(raw.wallet.map(|limits| (Level::Wallet, limits)));
        for (agent, table) in raw.agents {
            levels.extend(agent_levels(&agent, table)?);
        }
        let mut categories = BTreeMap::new();
        for (category, origins) in raw.categories {
            for origin in origins {
                if let Some(other) = categories.insert(origin.clone(), category.clone()) {
                    let what = format!("{origin:?} is filed under {other:?} and {category:?}");
                    return Err(PolicyError::at("categories", &what));
                }
            }
        }
        let mut approvers = raw.approvers;
        approvers.sort();
        approvers.dedup();
        let unbuilt = Unbuilt {
            version: raw.version,
            assets: assets.clone(),
            offset: raw.utc_offset,
            approvers,
            reference: raw.reference.map(|it| it.read(assets)).transpose()?,
            categories,
            levels,
            extra: files.to_vec(),
        };
        unbuilt.build()
    }

    /// The policy of a wallet whose owner has written none beside the caps per payment and deposit:
    /// those caps, for the owner alone.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] for a cap of an asset that nobody knows.
    pub fn of_caps(
        caps: &BTreeMap<AssetId, u128>,
        deposits: &BTreeMap<AssetId, u128>,
        subscriptions: &BTreeMap<AssetId, u128>,
        assets: &Assets,
    ) -> Result<Self, PolicyError> {
        let written = |(id, cap): (&AssetId, &u128)| {
            let asset = assets.get(id).ok_or_else(|| unknown_asset("wallet", id.as_str()))?;
            // Rounded up to what rules count in, or down to the most that they can; the caps themselves are
            // checked to the atom.
            let most: u128 = i64::MAX.unsigned_abs().into();
            let finer = NANO_DECIMALS.saturating_sub(asset.decimals());
            let unit = 10_u128.saturating_pow(finer.into()).max(1);
            let nano =
                scaled(*cap, asset.decimals()).map_or(most, |(_, ceiling)| ceiling.min(most));
            let nano = nano.saturating_sub(nano.checked_rem(unit).unwrap_or_default());
            Ok((id.to_string(), nano_asset().print(nano)))
        };
        let max = caps.iter().map(written).collect::<Result<_, PolicyError>>()?;
        let deposit_max = deposits.iter().map(written).collect::<Result<_, PolicyError>>()?;
        let subscriptions = subscriptions.iter().map(written);
        let subscription_max = subscriptions.collect::<Result<_, PolicyError>>()?;
        let limits = Limits {
            max,
            deposit_max,
            subscription_max,
            recipient_change: Some(crate::Then::Allow),
            ..Limits::default()
        };
        let unbuilt = Unbuilt {
            version: "wallet.toml".to_owned(),
            assets: assets.clone(),
            offset: UtcOffset::default(),
            approvers: Vec::new(),
            reference: None,
            categories: BTreeMap::new(),
            levels: vec![(Level::Wallet, limits)],
            extra: Vec::new(),
        };
        unbuilt.build()
    }

    /// The same policy with more levels: a token's, from its root to its tip. Never does it allow more.
    ///
    /// # Errors
    ///
    /// A [`PolicyError`] where a limit is none, such as of an asset that nobody knows.
    pub fn within(&self, token: Vec<(String, Limits)>) -> Result<Self, PolicyError> {
        let mut levels = self.levels.clone();
        for (block, limits) in token {
            check_name("token", &block)?;
            levels.push((Level::Token(block), limits));
        }
        let unbuilt = Unbuilt {
            version: self.version.clone(),
            assets: self.assets.clone(),
            offset: self.offset,
            approvers: self.approvers.clone(),
            reference: self.reference.clone(),
            categories: self.categories.clone(),
            levels,
            extra: self.extra.clone(),
        };
        unbuilt.build()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> PolicyName {
        PolicyName { version: self.version.clone(), sha256: self.sha256.clone() }
    }

    /// The Cedar it compiles to, without the files beside it.
    #[must_use]
    pub fn cedar(&self) -> &str {
        &self.compiled
    }

    /// Who may approve; anybody with the owner's passphrase, if nobody is named.
    #[must_use]
    pub fn approvers(&self) -> &[String] {
        &self.approvers
    }

    /// The budgets that count a whole level together, as they are at a moment, with nothing drawn from them.
    /// Those for each seller, or of anything else by itself, are not among them: they begin with a payment.
    #[must_use]
    pub fn standing_budgets(&self, at: Timestamp) -> Vec<Draw> {
        merged(self.budgets.iter().filter_map(|it| it.untouched(self.offset, at)).collect())
    }

    /// The currency that limits of `any` asset are in.
    #[must_use]
    pub fn currency(&self) -> Option<&str> {
        self.reference.as_ref().map(|it| it.currency.as_str())
    }

    /// What a seller is filed under.
    #[must_use]
    pub fn category(&self, origin: &str) -> Option<&str> {
        self.categories.get(origin).map(String::as_str)
    }

    /// Whether it matters which key a seller proves to have, so that it has to be asked for.
    #[must_use]
    pub fn asks_identity(&self) -> bool {
        let in_cedar = || self.extra.iter().any(|(_, text)| text.contains("identity"));
        self.levels.iter().any(|(_, limits)| limits.ask_identity()) || in_cedar()
    }

    /// The agents it names.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.levels.iter().filter_map(|(level, _)| match level {
            Level::Agent(agent) => Some(agent.as_str()),
            Level::Wallet | Level::Task(..) | Level::Token(_) => None,
        })
    }

    /// Decides upon a payment. What it may take of its budgets is in [`Decision::draws`]; whether they hold
    /// it is for the ledger to say, in the transaction that holds it.
    #[must_use]
    pub fn decide(&self, facts: &Facts) -> Decision {
        let name = self.name();
        let seen = match facts.see(&self.assets, self.reference.as_ref()) {
            Ok(seen) => seen,
            Err(unclear) => return Decision::denied(name, unknown(unclear)),
        };
        let (verdict, reasons, approvals) = match self.engine.ask(facts, &seen, self.offset) {
            Spoken::Allow(reasons) => (Verdict::Allow, reasons, 0),
            Spoken::Ask(reasons, approvals) => (Verdict::Ask, reasons, approvals),
            Spoken::Deny(reasons) => {
                return Decision {
                    verdict: Verdict::Deny,
                    reasons,
                    approvals: 0,
                    draws: Vec::new(),
                    policy: name,
                };
            }
        };
        let draws = self.budgets.iter().map(|it| it.draw(facts, seen.more, self.offset));
        match draws.collect::<Result<Vec<_>, _>>() {
            Ok(draws) => {
                let draws = merged(draws.into_iter().flatten().collect::<Vec<Draw>>());
                Decision { verdict, reasons, approvals, draws, policy: name }
            }
            Err(unclear) => Decision::denied(name, unknown(unclear)),
        }
    }

    /// Whose money a payment is: the levels, and the agents, tasks and others within them, whose budgets of
    /// money it counts in.
    #[must_use]
    pub fn purses(&self, facts: &Facts) -> BTreeSet<String> {
        self.budgets.iter().filter_map(|budget| budget.purse(facts)).collect()
    }

    /// Decides upon a payment when `usage` is what is held and spent of its budgets: for trying a policy
    /// out, and for making a decision again.
    #[must_use]
    pub fn decide_with(&self, facts: &Facts, usage: &Usage) -> Decision {
        let decision = self.decide(facts);
        let draws = decision.draws.clone();
        draws.iter().fold(decision, |decision, draw| {
            decision.over(draw, usage.get(&draw.key).copied().unwrap_or_default())
        })
    }
}

fn unknown(unclear: Unclear) -> Reason {
    Reason::new("unknown", unclear.to_string())
}

/// A policy that was read and not yet compiled.
struct Unbuilt {
    version: String,
    assets: Assets,
    offset: UtcOffset,
    approvers: Vec<String>,
    reference: Option<Reference>,
    categories: BTreeMap<String, String>,
    levels: Vec<(Level, Limits)>,
    extra: Vec<(String, String)>,
}

impl Unbuilt {
    fn build(self) -> Result<Policy, PolicyError> {
        let currency = self.reference.as_ref().map_or("", |it| it.currency.as_str());
        let compiled = self.compile(currency)?;
        let mut budgets = Vec::new();
        for (level, limits) in &self.levels {
            let place = level.place();
            for (at, rule) in limits.budgets.iter().enumerate() {
                if rule.max.contains_key(ANY) && self.reference.is_none() {
                    let what = "max.any needs a [reference] currency with rates";
                    return Err(PolicyError::at(&format!("{place}.budgets[{at}]"), what));
                }
                budgets.extend(Budget::read(
                    level,
                    &format!("{place}.budgets[{at}]"),
                    rule,
                    &self.assets,
                )?);
            }
            // Who cannot approve together what needs as many approvers would wait for ever.
            let approvals = usize::from(limits.approvals.unwrap_or(1));
            if !self.approvers.is_empty() && self.approvers.len() < approvals {
                let what = format!(
                    "approvals is {approvals}, and there are {} approvers",
                    self.approvers.len()
                );
                return Err(PolicyError::at(&place, &what));
            }
        }
        let mut texts: Vec<(&str, &str)> = vec![("policy.toml", &compiled)];
        texts.extend(self.extra.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let engine = Engine::new(&texts)?;
        let sha256 = self.digest(&compiled);
        let Self { version, assets, offset, approvers, reference, categories, levels, extra } =
            self;
        Ok(Policy {
            version,
            assets,
            offset,
            approvers,
            reference,
            categories,
            levels,
            extra,
            compiled,
            engine,
            budgets,
            sha256,
        })
    }

    fn compile(&self, currency: &str) -> Result<String, PolicyError> {
        let mut writer = Writer::new(&self.assets, currency);
        for (level, _) in &self.levels {
            match level {
                Level::Wallet => writer.permit("wallet", OWNER, "the wallet's owner may pay"),
                Level::Agent(agent) => {
                    writer.permit(&level.place(), agent, "the policy names the agent");
                    let tasks: Vec<&String> = self.tasks(agent).collect();
                    if !tasks.is_empty() {
                        writer.only_tasks(agent, &tasks);
                    }
                }
                Level::Task(..) | Level::Token(_) => {}
            }
        }
        for (level, limits) in &self.levels {
            writer.level(level, &level.place(), limits, self.offset)?;
        }
        Ok(writer.text)
    }

    fn tasks<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = &'a String> {
        self.levels.iter().filter_map(move |(level, _)| match level {
            Level::Task(of, task) if of == agent => Some(task),
            Level::Task(..) | Level::Wallet | Level::Agent(_) | Level::Token(_) => None,
        })
    }

    /// The digest of everything that a decision depends on beside the facts.
    fn digest(&self, compiled: &str) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text.as_bytes());
        };
        part(SCHEMA);
        part(compiled);
        for (name, text) in &self.extra {
            part(name);
            part(text);
        }
        part(&self.offset.to_string());
        for (level, limits) in &self.levels {
            part(&level.place());
            // In-memory data with string keys always serialises.
            part(&serde_json::to_string(limits).unwrap_or_default());
        }
        for (asset, rate) in self.reference.iter().flat_map(|it| &it.rates) {
            part(asset.as_str());
            part(&rate.to_string());
        }
        for asset in self.assets.iter() {
            part(asset.id().as_str());
            part(&asset.decimals().to_string());
        }
        for approver in &self.approvers {
            part(approver);
        }
        hex(hash)
    }
}

fn hex(hash: Sha256) -> String {
    Fingerprint::from_bytes(hash.finalize().into()).to_string()
}

impl RawReference {
    fn read(self, assets: &Assets) -> Result<Reference, PolicyError> {
        let rate = |(name, text): (&String, &String)| {
            let asset =
                known(name, assets).ok_or_else(|| unknown_asset("reference.rates", name))?;
            let rate = nano_asset().parse(text).map_err(|error| {
                PolicyError::at("reference.rates", &format!("{name}: {text}: {error}"))
            })?;
            if rate.is_zero() {
                return Err(PolicyError::at(
                    "reference.rates",
                    &format!("{name}: nothing is worth nothing"),
                ));
            }
            Ok((asset.id().clone(), rate.atoms()))
        };
        let rates = self.rates.iter().map(rate).collect::<Result<_, PolicyError>>()?;
        check_name("reference.currency", &self.currency)?;
        Ok(Reference { currency: self.currency, rates })
    }
}

fn raw(text: &str) -> Result<Raw, PolicyError> {
    toml::from_str(text).map_err(|error| PolicyError(error.to_string().trim_end().to_owned()))
}

/// An agent's limits, and those of its tasks.
fn agent_levels(agent: &str, mut table: toml::Table) -> Result<Vec<(Level, Limits)>, PolicyError> {
    check_name("agents", agent)?;
    let tasks = table.remove("tasks");
    let read = |place: &str, value: toml::Value| {
        let limits = value.try_into::<Limits>();
        limits.map_err(|error| PolicyError::at(place, error.to_string().trim_end()))
    };
    let level = Level::Agent(agent.to_owned());
    let limits = read(&level.place(), toml::Value::Table(table))?;
    let mut levels = vec![(level, limits)];
    let tasks = match tasks {
        None => toml::Table::new(),
        Some(toml::Value::Table(tasks)) => tasks,
        Some(_) => {
            return Err(PolicyError::at(
                &format!("agents.{agent}.tasks"),
                "tasks are tables: [agents.NAME.tasks.NAME]",
            ));
        }
    };
    for (task, value) in tasks {
        check_name(&format!("agents.{agent}.tasks"), &task)?;
        let level = Level::Task(agent.to_owned(), task);
        let limits = read(&level.place(), value)?;
        levels.push((level, limits));
    }
    Ok(levels)
}

/// Names of agents, tasks and blocks stand in the names of budgets and rules.
fn check_name(place: &str, name: &str) -> Result<(), PolicyError> {
    let spelled = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b'@'));
    let what = || format!("{name:?}: a name is 1 to 64 letters, digits and \"-_.@\"");
    if spelled { Ok(()) } else { Err(PolicyError::at(place, &what())) }
}

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    pub(crate) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }

    pub(crate) fn at(place: &str, what: &str) -> Self {
        Self(format!("{place}: {what}"))
    }
}
