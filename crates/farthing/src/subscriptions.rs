//! `farthing subscriptions`: those of the wallet, and those that a gateway sells.

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{CancelOrder, StartError, SubscriptionLine, desk};
use farthing_money::Assets;
use farthing_wallet::{Memory, WalletSubscription, WalletSubscriptionState};
use reqwest::Method;
use serde_json::json;

use crate::admin;
use crate::book::read_config;
use crate::cli::{Gateway, Subscriptions};
use crate::failure::{Done, Failure};
use crate::home::Home;
use crate::pay;
use crate::serve;
use crate::wallet::print_json;

pub(crate) async fn run(command: Subscriptions) -> Done {
    match command {
        Subscriptions::List { json, all, side } if side.seller => {
            let mut lines = sold(&side.at).await?;
            lines.retain(|line| all || !is_over(line));
            lines.sort_by_key(|line| std::cmp::Reverse(line.opened_at));
            if json {
                return print_json(&serde_json::to_value(&lines).map_err(Failure::other)?);
            }
            for line in &lines {
                println!(
                    "{}  {:<9}  {:>14} each {:<10}  {:<12}  {}",
                    line.subscription, line.state, line.price, line.period, line.plan, line.payer
                );
            }
            Ok(())
        }
        Subscriptions::List { json, all, .. } => list(&Home::find()?, json, all),
        Subscriptions::Show { id, json, side } if side.seller => {
            let line = find_sold(&side.at, &id).await?;
            if json {
                return print_json(&serde_json::to_value(&line).map_err(Failure::other)?);
            }
            show_sold(&line);
            Ok(())
        }
        Subscriptions::Show { id, json, .. } => show(&Home::find()?, &id, json),
        Subscriptions::Cancel { id, side, .. } if side.seller => cancel_sold(&side.at, &id).await,
        Subscriptions::Cancel { id, key, .. } => cancel(&Home::find()?, &id, key.as_deref()).await,
    }
}

// --- the wallet's ------------------------------------------------------------------------------

fn all_of(home: &Home) -> Result<Vec<WalletSubscription>, Failure> {
    let memory = Memory::open(&home.memory()).map_err(Failure::other)?;
    memory.subscriptions().map_err(Failure::other)
}

/// The one subscription whose name begins so: the seller's name for it, or the wallet's own.
fn find(home: &Home, id: &str) -> Result<WalletSubscription, Failure> {
    let named = |it: &WalletSubscription| {
        let sellers = it.id.as_deref().is_some_and(|name| name.starts_with(id));
        sellers || it.hold.to_string().starts_with(id)
    };
    let mut found = all_of(home)?.into_iter().filter(named);
    match (found.next(), found.next()) {
        (Some(it), None) => Ok(it),
        (None, _) => Err(Failure::usage(format_args!(
            "the wallet has no subscription {id}; `farthing subscriptions list --all` says which it \
             has"
        ))),
        (Some(_), Some(_)) => Err(several(id)),
    }
}

fn several(id: &str) -> Failure {
    Failure::usage(format_args!("more than one subscription begins with {id}; write more of it"))
}

fn list(home: &Home, json: bool, all: bool) -> Done {
    let mut known = all_of(home)?;
    known.retain(|it| all || it.state != WalletSubscriptionState::Over);
    if json {
        return print_json(&serde_json::to_value(&known).map_err(Failure::other)?);
    }
    let assets = home.config()?.assets;
    for it in &known {
        println!(
            "{}  {:<9}  {:>14} each {:<10}  {}",
            name_of(it),
            it.state.name(),
            assets.print(&it.amount),
            it.period,
            it.origin,
        );
    }
    Ok(())
}

fn name_of(it: &WalletSubscription) -> String {
    it.id.clone().unwrap_or_else(|| it.hold.to_string())
}

fn show(home: &Home, id: &str, json: bool) -> Done {
    let it = find(home, id)?;
    if json {
        return print_json(&serde_json::to_value(&it).map_err(Failure::other)?);
    }
    let assets = home.config()?.assets;
    for (name, value) in [
        ("subscription", name_of(&it)),
        ("state", it.state.name().to_owned()),
        ("seller", it.origin.clone()),
        ("paid to", it.recipient.clone()),
        ("price", format!("{} each {}", assets.print(&it.amount), it.period)),
        ("charged", format!("{} of at most {} times", it.charges, it.periods)),
        ("until", it.until.to_string()),
        ("begun at", it.begun_at.to_string()),
        ("used at", it.used_at.to_string()),
    ] {
        println!("{name:<13} {value}");
    }
    Ok(())
}

async fn cancel(home: &Home, id: &str, key: Option<&str>) -> Done {
    let it = find(home, id)?;
    let config = home.config()?;
    let assets = config.assets.clone();
    let wallet = pay::open(home, config, key)?;
    let cancelled = wallet.cancel_subscription(it.hold).await;
    let it = cancelled.map_err(|error| pay::failure(error, &assets))?;
    println!("{}  {}: {} charged", name_of(&it), it.state.name(), charged(&it, &assets));
    Ok(())
}

fn charged(it: &WalletSubscription, assets: &Assets) -> String {
    assets.print(&it.spent())
}

// --- the seller's ------------------------------------------------------------------------------

fn is_over(line: &SubscriptionLine) -> bool {
    matches!(line.state.as_str(), "expired" | "ended")
}

/// The subscriptions of a book that nobody has open, or of the gateway that has.
async fn sold(at: &Gateway) -> Result<Vec<SubscriptionLine>, Failure> {
    match desk(&serve::read_config(&at.config)?) {
        Ok(desk) => desk.subscriptions().await.map_err(Failure::other),
        Err(StartError::Store(error)) if error.is_locked() => {
            let book = read_config(&at.config)?;
            admin::ask(&at.config, &book, (Method::GET, "subscriptions"), &json!({})).await
        }
        Err(error) => Err(Failure::other(error)),
    }
}

async fn find_sold(at: &Gateway, id: &str) -> Result<SubscriptionLine, Failure> {
    let named = |line: &SubscriptionLine| line.subscription.to_string().starts_with(id);
    let mut found = sold(at).await?.into_iter().filter(named);
    match (found.next(), found.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err(Failure::usage(format_args!("the book has no subscription {id}"))),
        (Some(_), Some(_)) => Err(several(id)),
    }
}

fn show_sold(line: &SubscriptionLine) {
    let time = |at: Option<farthing_money::Timestamp>| {
        at.map_or_else(|| "never".to_owned(), |at| at.to_string())
    };
    for (name, value) in [
        ("subscription", line.subscription.to_string()),
        ("state", line.state.clone()),
        ("plan", line.plan.clone()),
        ("payer", line.payer.clone()),
        ("price", format!("{} each {}", line.price, line.period)),
        ("charged", format!("{} times", line.charges)),
        ("paid until", time(line.paid_until)),
        ("tried again", time(line.retry_at)),
        ("expires", time(line.expires_at)),
        ("begun at", line.opened_at.to_string()),
        ("trace", line.trace.to_string()),
    ] {
        println!("{name:<13} {value}");
    }
}

async fn cancel_sold(at: &Gateway, id: &str) -> Done {
    let subscription = find_sold(at, id).await?.subscription;
    let order = CancelOrder { subscription };
    let line: SubscriptionLine = match desk(&serve::read_config(&at.config)?) {
        Ok(desk) => {
            let cancelled = desk.cancel_subscription(order, SystemClock.now()).await;
            cancelled.map_err(Failure::other)?
        }
        Err(StartError::Store(error)) if error.is_locked() => {
            let book = read_config(&at.config)?;
            let path = (Method::POST, "subscriptions/cancel");
            admin::ask(&at.config, &book, path, &order).await?
        }
        Err(error) => return Err(Failure::other(error)),
    };
    println!("{}  {}: charged {} times", line.subscription, line.state, line.charges);
    Ok(())
}
