//! `farthing rail evm`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farthing_gateway::{Config, EvmConfig};
use farthing_money::{Amount, Assets};
use farthing_rail_tempo::Nodes;
use farthing_rail_tempo::session::{EvmAccount, GRACE_MIN};
use serde_json::json;

use super::{chosen_key, described, undeployed};
use crate::cli::EvmCommand;
use crate::failure::{Done, Exit, Failure};
use crate::serve::read_config;
use crate::wallet::print_json;

/// How long the transaction that makes an escrow is waited for.
const WAIT: Duration = Duration::from_mins(3);

/// How long it waits before another replaces it that pays more.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(command: EvmCommand) -> Done {
    match command {
        EvmCommand::Status { config, json } => status(&config, json).await,
        EvmCommand::DeployEscrow { config, key, json } => {
            deploy_escrow(&config, key.as_deref(), json).await
        }
    }
}

fn find(config: &Config) -> Result<&EvmConfig, Failure> {
    let evm = config.rails.iter().find_map(|rail| rail.evm());
    evm.map(AsRef::as_ref).ok_or_else(|| Failure::usage("there is no [rails.evm]"))
}

fn nodes(evm: &EvmConfig) -> Result<Arc<Nodes>, Failure> {
    let nodes = Nodes::new(evm.chain_id, evm.nodes.clone(), evm.node_timeout);
    nodes.map(Arc::new).map_err(Failure::usage)
}

async fn deploy_escrow(path: &Path, key: Option<&str>, json: bool) -> Done {
    let config = read_config(path)?;
    let evm = find(&config)?;
    let session = evm.session.as_ref();
    let key = chosen_key(path, key, session.map(|it| &it.key))?;
    let account = EvmAccount::new(&key, nodes(evm)?, evm.confirmations, PATIENCE, WAIT);
    let account = account.map_err(Failure::usage)?;
    let coin = session.and_then(|it| it.gas_asset.clone());
    let account = match coin {
        Some(coin) => account.counting_gas_in(coin),
        None => account,
    };
    let payer = account.address();
    let deployed = account.deploy_escrow().await.map_err(|error| {
        undeployed(error, &format!("{payer} has to hold enough of its coin for the gas"))
    })?;
    let escrow = deployed.escrow.address;
    let cost = deployed.cost.as_ref().map(|cost| config.assets.print(cost));
    if json {
        return print_json(&json!({
            "escrow": escrow.to_string(),
            "chain_id": evm.chain_id,
            "transaction": deployed.transaction.to_string(),
            "cost": cost,
        }));
    }
    let cost = cost.map(|cost| format!(", for {cost}")).unwrap_or_default();
    eprintln!("made on chain {} by {}{cost}", evm.chain_id, deployed.transaction);
    println!("{escrow}");
    Ok(())
}

async fn status(path: &Path, json: bool) -> Done {
    let config = read_config(path)?;
    let evm = find(&config)?;
    let nodes = nodes(evm)?;
    let health = nodes.health().await;
    let session = match &evm.session {
        Some(session) => {
            let (patience, wait) = (session.replace_after, evm.settle_timeout);
            let account = EvmAccount::new(&session.key, Arc::clone(&nodes), 1, patience, wait);
            let account = account.map_err(Failure::usage)?;
            let grace_s = nodes.grace_of(&session.escrow).await.ok();
            Some((session, account.coins().await.ok(), grace_s))
        }
        None => None,
    };
    let has_little_time = session.as_ref().is_some_and(|(_, _, grace_s)| {
        grace_s.is_some_and(|it| Duration::from_secs(it) < GRACE_MIN)
    });
    let is_empty = session.as_ref().is_some_and(|(_, coins, _)| *coins == Some(0));
    if json {
        let session = session.map(|(session, coins, grace_s)| {
            json!({
                "escrow": session.escrow.address.to_string(),
                "grace_s": grace_s,
                "gas": coins.map(|it| it.to_string()),
                "relays": session.relays,
            })
        });
        print_json(&json!({
            "chain_id": evm.chain_id,
            "recipient": evm.recipient.to_string(),
            "nodes": health,
            "session": session,
        }))?;
    } else {
        println!("chain {}, paid to {}", evm.chain_id, evm.recipient);
        for node in &health {
            println!("  {}", described(node, evm.chain_id));
        }
        match &session {
            None => println!("  no escrow: `farthing rail evm deploy-escrow` makes one"),
            Some((session, coins, grace_s)) => {
                let grace =
                    grace_s.map_or_else(|| "an unknown time".to_owned(), |it| format!("{it} s"));
                println!("  escrow {}, which gives the payee {grace}", session.escrow.address);
                let gas = held(*coins, session.gas_asset.as_ref(), &config.assets);
                println!("  gas is paid by {}, which holds {gas}", evm.recipient);
            }
        }
    }
    if !health.iter().any(|node| nodes.serves(node)) {
        let what = "no node serves the chain; sessions on it will not settle";
        return Err(Failure::new(Exit::Unreachable, what));
    }
    if has_little_time {
        let what = "the escrow gives the payee less than ten minutes: the gateway will not use it";
        return Err(Failure::new(Exit::Other, what));
    }
    if is_empty {
        let what = "the account that settles holds nothing to pay gas with: fund it";
        return Err(Failure::new(Exit::Other, what));
    }
    Ok(())
}

fn held(coins: Option<u128>, coin: Option<&farthing_money::Asset>, assets: &Assets) -> String {
    match (coins, coin) {
        (None, _) => "an unknown amount".to_owned(),
        (Some(atoms), None) => format!("{atoms} of the chain's smallest unit"),
        (Some(atoms), Some(coin)) => assets.print(&Amount::new(coin.id().clone(), atoms)),
    }
}
