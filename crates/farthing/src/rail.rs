//! `farthing rail`: how the rails of a gateway are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use farthing_core::SettleError;
use farthing_gateway::{
    BookReadError, BookReader, Config, SponsorConfig, SponsorSigner, TempoConfig, look_up,
    parse_chain_key,
};
use farthing_ledger::{Open, Payment, PaymentId, Refund, RefundId};
use farthing_money::AssetId;
use farthing_rail_tempo::session::deploy;
use farthing_rail_tempo::{Address, NodeHealth, Nodes, Token};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::book::rebuilt;
use crate::cli::{RailCommand, TempoCommand};
use crate::failure::{Done, Exit, Failure};
use crate::serve::read_config;
use crate::wallet::print_json;

mod evm;

pub(crate) async fn run(command: RailCommand) -> Done {
    match command {
        RailCommand::Tempo(TempoCommand::Status { config, json }) => status(&config, json).await,
        RailCommand::Tempo(TempoCommand::DeployEscrow { config, key, fee_asset, json }) => {
            deploy_escrow(&config, key.as_deref(), fee_asset.as_deref(), json).await
        }
        RailCommand::Evm(command) => evm::run(command).await,
    }
}

/// Puts an escrow on the chain, and says what to write into the configuration.
async fn deploy_escrow(
    path: &Path,
    key: Option<&str>,
    fee_asset: Option<&str>,
    json: bool,
) -> Done {
    let config = read_config(path)?;
    let tempo = config.rails.iter().find_map(|rail| rail.tempo());
    let tempo: &TempoConfig = tempo.ok_or_else(|| Failure::usage("there is no [rails.tempo]"))?;
    let key = chosen_key(path, key, tempo.session.as_ref().map(|it| &it.key))?;
    let fee_token: Option<&Token> = match fee_asset {
        Some(name) => name.parse().ok().and_then(|id: AssetId| tempo.tokens.named(&id)),
        None => tempo.tokens.iter().next(),
    };
    let fee_token =
        fee_token.ok_or_else(|| Failure::usage("the fee is paid in one of the tokens"))?;
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes.clone(), tempo.node_timeout);
    let nodes = Arc::new(nodes.map_err(Failure::usage)?);
    let deployed = deploy(&nodes, &key, fee_token).await.map_err(|error| {
        let payer = Address::of_secret(&key).map(|it| it.to_string()).unwrap_or_default();
        undeployed(error, &format!("{payer} has to hold enough for the fee"))
    })?;
    let escrow = deployed.escrow.address;
    let cost = deployed.cost.map(|cost| config.assets.print(&cost)).unwrap_or_default();
    if json {
        return print_json(&json!({
            "escrow": escrow.to_string(),
            "chain_id": tempo.chain_id,
            "transaction": deployed.transaction.to_string(),
            "cost": cost,
        }));
    }
    eprintln!("made on chain {} by {}, for {cost}", tempo.chain_id, deployed.transaction);
    println!("{escrow}");
    Ok(())
}

/// Why there is no escrow, and `what` the payer needs where the chain would not.
fn undeployed(error: SettleError, what: &str) -> Failure {
    match error {
        SettleError::Declined => Failure::other(format_args!("the chain would not; {what}")),
        SettleError::Unsent => {
            Failure::new(Exit::Unreachable, "no node of the chain answers; nothing was sent")
        }
        SettleError::Unknown => {
            let what = "nobody says what became of it; an escrow that is not used does no harm, so \
                        run it again";
            Failure::other(what)
        }
    }
}

/// The key that is named, or that of the configuration at `path`.
fn chosen_key(
    path: &Path,
    named: Option<&str>,
    own: Option<&Zeroizing<[u8; 32]>>,
) -> Result<Zeroizing<[u8; 32]>, Failure> {
    match (named, own) {
        (Some(place), _) => {
            let folder = path.parent().unwrap_or(Path::new("."));
            let text = look_up(place, folder, &|name| std::env::var(name).ok());
            let text = Zeroizing::new(text.map_err(Failure::usage)?);
            parse_chain_key(&text).map_err(Failure::usage)
        }
        (None, Some(own)) => Ok(own.clone()),
        (None, None) => {
            let what = "say whose account pays: --key env:NAME, or --key file:PATH";
            Err(Failure::usage(what))
        }
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
    let refunds = match &tempo.refund_key {
        Some(key) => RefundStatus::ask(key, tempo, &nodes, &config).await,
        None => None,
    };
    let Pending { payments: pending, refunds: going_back } = pending(&config)?;
    if json {
        print_json(&json!({
            "chain_id": tempo.chain_id,
            "recipient": tempo.recipient.to_string(),
            "nodes": health,
            "sponsor": sponsor,
            "refunds": refunds,
            "pending": pending,
            "refunds_pending": going_back,
        }))?;
    } else {
        println!("chain {}, paid to {}", tempo.chain_id, tempo.recipient);
        for node in &health {
            println!("  {}", described(node, tempo.chain_id));
        }
        if let Some(sponsor) = &sponsor {
            println!("  {}", sponsor.described());
        }
        if let Some(refunds) = &refunds {
            println!("  {}", refunds.described());
        }
        println!("{} pending", pending.len());
        for payment in &pending {
            println!("  {} {} from {}", payment.payment, payment.amount, payment.payer);
        }
        for refund in &going_back {
            println!("  {} {} back to {}", refund.refund, refund.amount, refund.payer);
        }
    }
    if !health.iter().any(|node| nodes.serves(node)) {
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
pub(crate) struct SponsorStatus {
    /// The account; nothing where a relay pays.
    pub(crate) account: Option<String>,
    /// What it holds; nothing where nobody says.
    pub(crate) balance: Option<String>,
    balance_min: String,
    pub(crate) is_low: bool,
}

impl SponsorStatus {
    pub(crate) async fn ask(sponsor: &SponsorConfig, nodes: &Nodes, config: &Config) -> Self {
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

/// What money is given back from.
#[derive(Serialize)]
struct RefundStatus {
    account: String,
    /// What it holds of each token; nothing where nobody says.
    balances: BTreeMap<AssetId, Option<String>>,
}

impl RefundStatus {
    /// Nothing for what is no key.
    async fn ask(
        key: &[u8; 32],
        tempo: &TempoConfig,
        nodes: &Nodes,
        config: &Config,
    ) -> Option<Self> {
        let account = Address::of_secret(key)?;
        let mut balances = BTreeMap::new();
        for token in tempo.tokens.iter() {
            let balance = nodes.balance(token.address, account).await.ok();
            let balance = balance.map(|atoms| config.assets.print(&token.asset.atoms(atoms)));
            balances.insert(token.asset.id().clone(), balance);
        }
        Some(Self { account: account.to_string(), balances })
    }

    fn described(&self) -> String {
        let printed = |(asset, balance): (&AssetId, &Option<String>)| {
            balance.clone().unwrap_or_else(|| format!("an unknown amount of {asset}"))
        };
        let balances: Vec<String> = self.balances.iter().map(printed).collect();
        format!("refunds are paid by {}, which holds {}", self.account, balances.join(", "))
    }
}

/// What the book does not know the end of.
#[derive(Default)]
struct Pending {
    payments: Vec<PendingPayment>,
    refunds: Vec<PendingRefund>,
}

/// A refund that was ordered, and that the chain has not confirmed.
#[derive(Serialize)]
struct PendingRefund {
    refund: RefundId,
    payment: PaymentId,
    amount: String,
    payer: String,
}

/// A payment that was claimed and whose end the book does not know.
#[derive(Serialize)]
struct PendingPayment {
    payment: PaymentId,
    amount: String,
    payer: String,
    challenge: String,
}

/// The rail's payments and refunds that are neither settled nor given up.
fn pending(config: &Config) -> Result<Pending, Failure> {
    let reader = match BookReader::open(&config.store) {
        Ok(reader) => reader,
        // Nothing is pending in a book that is not there yet.
        Err(BookReadError::Memory | BookReadError::File { .. }) => return Ok(Pending::default()),
        Err(error) => return Err(Failure::other(error)),
    };
    let book = rebuilt(&reader)?;
    let unfinished = book.all_unfinished();
    let pending = unfinished.filter(|it| match it.open {
        Open::Settling | Open::Unsettled => it.payment.method == "tempo",
        Open::Abandoned
        | Open::Delivering
        | Open::Owed
        | Open::Failed
        | Open::Interrupted
        | Open::Refunding
        | Open::Given => false,
    });
    let shown = |payment: Payment| PendingPayment {
        payment: payment.id,
        amount: config.assets.print(&payment.amount),
        payer: payment.payer,
        challenge: payment.challenge,
    };
    let refunds = book.work().refunds.into_iter().filter(|refund| refund.method == "tempo");
    let going_back = |refund: Refund| PendingRefund {
        refund: refund.id,
        payment: refund.payment,
        amount: config.assets.print(&refund.amount),
        payer: refund.payer,
    };
    Ok(Pending {
        payments: pending.map(|it| shown(it.payment)).collect(),
        refunds: refunds.map(going_back).collect(),
    })
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
