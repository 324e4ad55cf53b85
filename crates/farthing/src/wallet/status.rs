//! `farthing wallet status`: how the wallet stands, once.

use std::fmt::Write as _;

use farthing_policy::OWNER;
use farthing_wallet::{Books, BudgetView, CapLine, Memory, Rules, Sources, WalletStatus, plain};
use farthing_wallet_client::At;

use super::print_json;
use crate::daemon::OWNER_TOKEN;
use crate::failure::{Done, Failure};
use crate::home::Home;
use crate::policy::{self, TOKEN};

/// How wide a bar is, in characters.
const BAR: usize = 20;

pub(super) fn show(home: &Home, json: bool) -> Done {
    let status = Reading::of(home)?.read()?;
    if json {
        return print_json(&serde_json::to_value(&status).map_err(Failure::other)?);
    }
    print!("{}", text(&status));
    Ok(())
}

/// Where a status is read: from a daemon, for whoever shows it a token, or from the wallet's own files.
pub(super) enum Reading {
    Daemon(farthing_wallet_client::Wallet),
    Files(Box<Files>),
}

pub(super) struct Files {
    config: farthing_wallet::WalletConfig,
    books: Books,
    memory: Memory,
    policy: farthing_policy::Policy,
}

impl Reading {
    /// By a daemon where one is named, or a token stands for one that serves here; by the files else.
    pub(super) fn of(home: &Home) -> Result<Self, Failure> {
        let named = std::env::var("FARTHING_WALLET").ok();
        let tokens = [TOKEN, OWNER_TOKEN];
        let token = tokens.into_iter().find_map(|name| std::env::var(name).ok());
        let serves = home.socket().exists().then(|| home.socket().display().to_string());
        if let (Some(at), Some(token)) = (named.or(serves), token) {
            let at = At::parse(&at).map_err(Failure::usage)?;
            return Ok(Self::Daemon(farthing_wallet_client::Wallet::new(at, &token)));
        }
        let config = home.config()?;
        let policy = policy::written(home, &config)?;
        let books = crate::books::open(home, &config)?;
        let memory = Memory::open(&home.memory()).map_err(Failure::other)?;
        Ok(Self::Files(Box::new(Files { config, books, memory, policy })))
    }

    pub(super) fn read(&self) -> Result<WalletStatus, Failure> {
        match self {
            Self::Daemon(wallet) => {
                let status = wallet.status().map_err(Failure::other)?;
                serde_json::from_value(status).map_err(Failure::other)
            }
            Self::Files(files) => {
                let Files { config, books, memory, policy } = &**files;
                let rules: &Rules = &config.rules;
                let (policies, assets) = (std::slice::from_ref(policy), &config.assets);
                let sources = Sources { books, memory, rules, policies, assets };
                sources.status(OWNER).map_err(Failure::other)
            }
        }
    }
}

/// A share, drawn.
fn bar(permille: u16) -> String {
    let full = usize::from(permille).saturating_mul(BAR).div_ceil(1_000).min(BAR);
    format!("{}{}", "█".repeat(full), "·".repeat(BAR.saturating_sub(full)))
}

/// When a budget begins anew.
pub(super) fn reset(budget: &BudgetView) -> String {
    match (budget.resets_at, budget.rolls_s) {
        (Some(at), _) => format!("anew {at}"),
        (None, Some(seconds)) => format!("rolling {}", span(seconds)),
        (None, None) => "for ever".to_owned(),
    }
}

fn span(seconds: u64) -> String {
    for (unit, name) in [(86_400, "d"), (3_600, "h"), (60, "m")] {
        if seconds.checked_rem(unit) == Some(0) {
            return format!("{}{name}", seconds.checked_div(unit).unwrap_or_default());
        }
    }
    format!("{seconds}s")
}

/// Whose a budget is, and what it counts by itself.
pub(super) fn whose(budget: &BudgetView) -> String {
    let each = budget.each.as_ref().map(|each| format!(", {}", plain(each))).unwrap_or_default();
    format!("{}{each}", budget.level)
}

/// What is used of a total cap.
pub(super) fn total(cap: &CapLine) -> Option<(String, u16)> {
    let (used, total) = (cap.used.as_ref()?, cap.total_max.as_ref()?);
    Some((format!("{used} of {total}"), cap.used_permille.unwrap_or_default()))
}

/// The whole status, for people.
fn text(status: &WalletStatus) -> String {
    let mut out = String::new();
    // A string takes whatever is written.
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    if status.frozen {
        line("FROZEN: nothing is signed; `farthing wallet unfreeze` thaws it".to_owned());
    }
    for agent in status.frozen_agents.iter().filter(|agent| *agent != "*") {
        line(format!("frozen: {agent}"));
    }
    for cap in &status.caps {
        if let Some((used, permille)) = total(cap) {
            line(format!("{}  {used} in all", bar(permille)));
        }
    }
    for budget in &status.budgets {
        line(format!(
            "{}  {} of {}  {}  {}",
            bar(budget.used_permille),
            budget.used_text,
            budget.limit_text,
            whose(budget),
            reset(budget)
        ));
    }
    for approval in &status.approvals {
        line(format!(
            "waits: {}  {} to {} for {} ({}), until {}",
            approval.id,
            approval.amount.text,
            plain(&approval.recipient),
            plain(&approval.what),
            approval.agent,
            approval.expires_at
        ));
    }
    for it in &status.outstanding {
        let end = if it.refused { "refused" } else { "unanswered" };
        line(format!("{end}: {}  held until {}  {}", it.payment, it.expires_at, it.origin));
    }
    for deposit in &status.deposits {
        line(format!("deposited in sessions: {}", deposit.text));
    }
    for it in &status.subscriptions {
        line(format!(
            "subscribed: {} each {} at {} ({}), until {}",
            it.amount.text, it.period, it.origin, it.state, it.until
        ));
    }
    for payment in &status.payments {
        line(format!(
            "{}  {:<8}  {:>14} to {}  {}{}",
            payment.at,
            payment.state,
            payment.amount.text,
            plain(&payment.recipient),
            plain(&payment.what),
            payment.agent.as_ref().map(|agent| format!(" ({agent})")).unwrap_or_default()
        ));
    }
    if out.is_empty() {
        "nothing was paid, and no budget or cap stands\n".clone_into(&mut out);
    }
    out
}
