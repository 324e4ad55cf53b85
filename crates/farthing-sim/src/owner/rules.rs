//! An owner's rules, drawn at random: once as plain numbers, which the auditor reads, and once as a policy.

use std::fmt::Write as _;

use farthing_money::{Asset, AssetId, Assets};

use crate::random::Random;

/// How many agents there are. The first half have tasks.
pub(crate) const AGENTS: usize = 8;

/// How many tasks an agent has that has any. The last task of the first agent buys dust.
pub(crate) const TASKS: usize = 2;

/// How many sellers there are, how many recipients they are paid through, and how many things each sells.
pub(crate) const SELLERS: usize = 4;
pub(crate) const RECIPIENTS: usize = 3;
pub(crate) const THINGS: usize = 3;

/// The assets: their names, their decimals, and what an atom is worth in quintillionths (10⁻¹⁸) of the
/// reference currency.
pub(crate) const ASSETS: [(&str, u8, u128); 3] =
    [("usd", 2, 10_000_000_000_000_000), ("eur", 2, 10_800_000_000_000_000), ("dai", 18, 1)];

/// Quintillionths in a billionth.
pub(crate) const NANO: u128 = 1_000_000_000;

/// Whose rule it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Wallet,
    Agent(usize),
    Task(usize, usize),
}

/// What it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Asset(usize),
    /// Every asset, in quintillionths of the reference currency.
    Any,
    Payments,
}

/// Over which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Per {
    Seconds(u64),
    Day,
    Ever,
}

/// For each of what by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Each {
    All,
    Agent,
    Task,
    Seller,
    Recipient,
    Request,
}

/// One budget. Its limit is in atoms, in quintillionths, or payments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) level: Level,
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    pub(crate) each: Each,
    pub(crate) limit: u128,
}

/// What the owner allows.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) rules: Vec<Rule>,
    /// What is dearer is asked for, in quintillionths.
    pub(crate) ask_above: u128,
}

/// The assets, as the production code knows them.
pub(crate) fn assets() -> Assets {
    let known = |(name, decimals, _): (&str, u8, u128)| {
        AssetId::new(name).and_then(|id| Asset::new(id, decimals)).ok()
    };
    ASSETS.into_iter().filter_map(known).collect()
}

impl Rules {
    /// Draws the rules of one run: some of each kind, as tight as it comes.
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut rules = Vec::new();
        let cents = |random: &mut Random, low: u64, high: u64| {
            u128::from(random.between(low, high)).saturating_mul(NANO).saturating_mul(10_000_000)
        };
        let window = |random: &mut Random| Per::Seconds(random.between(5, 90));
        for each in [Each::All, Each::Seller, Each::Recipient, Each::Agent, Each::Task] {
            if random.chance(5_000) {
                let (per, limit) = (window(random), cents(random, 100, 1_500));
                rules.push(Rule { level: Level::Wallet, unit: Unit::Any, per, each, limit });
            }
        }
        for (at, _) in ASSETS.iter().enumerate().take(2) {
            if random.chance(6_000) {
                let limit = u128::from(random.between(200, 6_000));
                let each = if random.chance(5_000) { Each::All } else { Each::Recipient };
                let unit = Unit::Asset(at);
                rules.push(Rule { level: Level::Wallet, unit, per: Per::Day, each, limit });
            }
        }
        for each in [Each::All, Each::Seller, Each::Request] {
            if random.chance(5_000) {
                let (per, limit) = (window(random), u128::from(random.between(2, 30)));
                rules.push(Rule { level: Level::Wallet, unit: Unit::Payments, per, each, limit });
            }
        }
        for agent in 0..AGENTS {
            let level = Level::Agent(agent);
            if random.chance(5_000) {
                let limit = cents(random, 1_000, 20_000);
                let (unit, each) = (Unit::Any, Each::All);
                rules.push(Rule { level, unit, per: Per::Ever, each, limit });
            }
            if random.chance(3_000) {
                let (per, limit) = (window(random), u128::from(random.between(50, 400)));
                rules.push(Rule { level, unit: Unit::Asset(0), per, each: Each::All, limit });
            }
            if random.chance(2_000) {
                let (per, limit) = (window(random), cents(random, 50, 300));
                rules.push(Rule { level, unit: Unit::Any, per, each: Each::Request, limit });
            }
            for task in 0..tasks_of(agent) {
                if random.chance(5_000) {
                    let (level, limit) = (Level::Task(agent, task), cents(random, 200, 3_000));
                    let (unit, each) = (Unit::Any, Each::All);
                    rules.push(Rule { level, unit, per: Per::Day, each, limit });
                }
            }
        }
        // Dust is cheaper than what limits are written in, so that rounding shows.
        let limit = u128::from(random.between(30, 60)).saturating_mul(NANO);
        let (level, per) = (Level::Task(0, TASKS.saturating_sub(1)), window(random));
        rules.push(Rule { level, unit: Unit::Any, per, each: Each::All, limit });
        Self { rules, ask_above: cents(random, 40, 60) }
    }

    /// The same as a policy.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "version = \"sim\"\n[reference]\ncurrency = \"usd\"\n\
             rates = { usd = \"1\", eur = \"1.08\", dai = \"1\" }\n",
        );
        let _ = write!(
            text,
            "[wallet]\nmax = {{ any = \"1\" }}\ndeposit_max = {{ any = \"5\" }}\n\
             ask_above = {{ any = \"{}\" }}\n",
            decimal(self.ask_above, 18)
        );
        self.budgets(&mut text, Level::Wallet, "wallet");
        for agent in 0..AGENTS {
            let place = format!("agents.{}", agent_name(agent));
            let _ = writeln!(text, "[{place}]");
            self.budgets(&mut text, Level::Agent(agent), &place);
            for task in 0..tasks_of(agent) {
                let place = format!("{place}.tasks.{}", task_name(task));
                let _ = writeln!(text, "[{place}]");
                self.budgets(&mut text, Level::Task(agent, task), &place);
            }
        }
        text
    }

    fn budgets(&self, text: &mut String, level: Level, place: &str) {
        for rule in self.rules.iter().filter(|rule| rule.level == level) {
            let _ = writeln!(text, "[[{place}.budgets]]");
            let _ = match rule.unit {
                Unit::Payments => writeln!(text, "payments = {}", rule.limit),
                Unit::Any => writeln!(text, "max = {{ any = \"{}\" }}", decimal(rule.limit, 18)),
                Unit::Asset(at) => {
                    let (name, decimals, _) = ASSETS.get(at).copied().unwrap_or_default();
                    let limit = decimal(rule.limit, decimals);
                    writeln!(text, "max = {{ {name} = \"{limit}\" }}")
                }
            };
            let _ = match rule.per {
                Per::Seconds(seconds) => writeln!(text, "per = \"{seconds}s\""),
                Per::Day => writeln!(text, "per = \"day\""),
                Per::Ever => writeln!(text, "per = \"ever\""),
            };
            let each = match rule.each {
                Each::All => continue,
                Each::Agent => "agent",
                Each::Task => "task",
                Each::Seller => "seller",
                Each::Recipient => "recipient",
                Each::Request => "request",
            };
            let _ = writeln!(text, "each = \"{each}\"");
        }
    }
}

/// How many tasks an agent has.
pub(crate) const fn tasks_of(agent: usize) -> usize {
    if agent < AGENTS / 2 { TASKS } else { 0 }
}

pub(crate) fn agent_name(agent: usize) -> String {
    format!("agent{agent}")
}

pub(crate) fn task_name(task: usize) -> String {
    format!("task{task}")
}

/// A number of parts as a decimal, without zeros at its end.
fn decimal(parts: u128, decimals: u8) -> String {
    let digits = format!("{parts:0>width$}", width = usize::from(decimals).saturating_add(1));
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(decimals.into()));
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}
