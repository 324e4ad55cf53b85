//! `farthing rail`: how the rails of a gateway are.

use std::path::Path;

use farthing_gateway::{
    BookReadError, BookReader, Config, SponsorConfig, SponsorSigner, TempoConfig,
};
use farthing_ledger::{Open, Payment, PaymentId};
use farthing_rail_tempo::{Address, NodeHealth, Nodes};
use serde::Serialize;
use serde_json::json;

use crate::book::rebuilt;
use crate::cli::{RailCommand, TempoCommand};
use crate::failure::{Done, Exit, Failure};
use crate::serve::read_config;
use crate::wallet::print_json;

pub(crate) async fn run(command: RailCommand) -> Done {
    match command {
        RailCommand::Tempo(TempoCommand::Status { config, json }) => status(&config, json).await,
    }
}

async fn status(path: &Path, json: bool) -> Done {
    let config = read_config(path)?;
    let tempo = config.rails.iter().find_map(|rail| rail.tempo());
    let tempo: &TempoConfig = tempo.ok_or_else(|| Failure::usage("there is no [rails.tempo]"))?;
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes.clone(), tempo.node_timeout);
    let nodes = nodes.map_err(Failure::usage)?;
    let health = nodes.health().await;
    let sponsor = match &tempo.sponsor {
        Some(sponsor) => Some(SponsorStatus::ask(sponsor, &nodes, &config).await),
        None => None,
    };
    let pending = pending(&config)?;
    let serves = |node: &NodeHealth| node.chain_id == Some(tempo.chain_id) && node.block.is_some();
    if json {
        print_json(&json!({
            "chain_id": tempo.chain_id,
            "recipient": tempo.recipient.to_string(),
            "nodes": health,
            "sponsor": sponsor,
            "pending": pending,
        }))?;
    } else {
        println!("chain {}, paid to {}", tempo.chain_id, tempo.recipient);
        for node in &health {
            println!("  {}", described(node, tempo.chain_id));
        }
        if let Some(sponsor) = &sponsor {
            println!("  {}", sponsor.described());
        }
        println!("{} pending", pending.len());
        for payment in &pending {
            println!("  {} {} from {}", payment.payment, payment.amount, payment.payer);
        }
    }
    if !health.iter().any(serves) {
        let what = "no node serves the chain; payments on it will not settle";
        return Err(Failure::new(Exit::Unreachable, what));
    }
    if sponsor.is_some_and(|sponsor| sponsor.is_low) {
        let what = "the sponsor's account is low: fund it, nothing is sponsored until then";
        return Err(Failure::new(Exit::Other, what));
    }
    Ok(())
}

/// Who pays the network's fees, and whether there is enough for it.
#[derive(Serialize)]
struct SponsorStatus {
    /// The account; nothing where a relay pays.
    account: Option<String>,
    /// What it holds; nothing where nobody says.
    balance: Option<String>,
    balance_min: String,
    is_low: bool,
}

impl SponsorStatus {
    async fn ask(sponsor: &SponsorConfig, nodes: &Nodes, config: &Config) -> Self {
        let account = match &sponsor.signer {
            SponsorSigner::Key(key) => Address::of_secret(key),
            SponsorSigner::Relay(_) => None,
        };
        let balance = match account {
            Some(account) => nodes.balance(sponsor.token.address, account).await.ok(),
            None => None,
        };
        let print = |atoms| config.assets.print(&sponsor.token.asset.atoms(atoms));
        Self {
            account: account.map(|account| account.to_string()),
            balance: balance.map(print),
            balance_min: print(sponsor.limits.balance_min),
            is_low: balance.is_some_and(|balance| balance < sponsor.limits.balance_min),
        }
    }

    fn described(&self) -> String {
        let Some(account) = &self.account else { return "fees are paid by a relay".to_owned() };
        let balance = self.balance.as_deref().unwrap_or("an unknown amount");
        format!("fees are paid by {account}, which holds {balance}, at least {}", self.balance_min)
    }
}

/// A payment that was claimed and whose end the book does not know.
#[derive(Serialize)]
struct Pending {
    payment: PaymentId,
    amount: String,
    payer: String,
    challenge: String,
}

/// The rail's payments that are neither settled nor given up.
fn pending(config: &Config) -> Result<Vec<Pending>, Failure> {
    let reader = match BookReader::open(&config.store) {
        Ok(reader) => reader,
        // Nothing is pending in a book that is not there yet.
        Err(BookReadError::Memory | BookReadError::File { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(Failure::other(error)),
    };
    let unfinished = rebuilt(&reader)?;
    let unfinished = unfinished.all_unfinished();
    let pending = unfinished.filter(|it| match it.open {
        Open::Settling | Open::Unsettled => it.payment.method == "tempo",
        Open::Abandoned
        | Open::Delivering
        | Open::Owed
        | Open::Failed
        | Open::Interrupted
        | Open::Refunding => false,
    });
    let shown = |payment: Payment| Pending {
        payment: payment.id,
        amount: config.assets.print(&payment.amount),
        payer: payment.payer,
        challenge: payment.challenge,
    };
    Ok(pending.map(|it| shown(it.payment)).collect())
}

/// A node in a line.
fn described(node: &NodeHealth, chain_id: u64) -> String {
    let port = node.port.map(|port| format!(":{port}")).unwrap_or_default();
    let how = match (node.chain_id, node.block) {
        (Some(other), _) if other != chain_id => format!("serves chain {other} and is not used"),
        (Some(_), Some(block)) => format!("at block {block}"),
        (Some(_), None) => "does not say at which block it is".to_owned(),
        (None, _) => "does not answer".to_owned(),
    };
    format!("{}{port} {how}", node.host)
}
