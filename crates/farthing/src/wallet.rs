//! `farthing wallet`.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use farthing_keys::{KeyInfo, KeyKind, SecretKey};
use farthing_ledger::OwnerStep;
use farthing_money::Assets;
use farthing_rail_prepaid::did_key;
use farthing_rail_tempo::{Address, Nodes, Url};
use farthing_wallet::{EvmChain, Memory, StoredReceipt, TempoChain};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::{Kind, Wallet};
use crate::daemon;
use crate::failure::{Done, Exit, Failure};
use crate::home::{Home, passphrase};

mod dashboard;
mod status;

/// How long a node of a chain may take to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn run(command: Wallet) -> Done {
    let home = Home::find()?;
    match command {
        Wallet::New { name, kind } => store(&home, &name, kind, &SecretKey::generate()?),
        Wallet::Import { name, kind } => store(&home, &name, kind, &typed_secret()?),
        Wallet::Balance { key, json } => balance(&home, key.as_deref(), json).await,
        Wallet::List { json } => list(&home, json),
        Wallet::Receipts { json } => receipts(&home, json),
        Wallet::Outstanding { json } => outstanding(&home, json),
        Wallet::Status { json, watch: false } => status::show(&home, json),
        Wallet::Status { watch: true, .. } | Wallet::Dashboard => dashboard::run(home).await,
        Wallet::Serve(args) => daemon::serve(*args).await,
        Wallet::Token { renew } => daemon::token(renew),
        Wallet::Ca(command) => daemon::ca(command),
        Wallet::Freeze { agent, reason } => freeze(&home, agent, reason).await,
        Wallet::Unfreeze { agent, reason } => unfreeze(&home, agent, reason).await,
    }
}

/// Stores a key, and begins a configuration if there is none.
fn store(home: &Home, name: &str, kind: Kind, secret: &SecretKey) -> Done {
    let passphrase = passphrase(&format!("A passphrase for the key {name}: "))?;
    let kind = match kind {
        Kind::Ed25519 => KeyKind::Ed25519,
        Kind::Secp256k1 => KeyKind::Secp256k1,
    };
    let info = home.keys().store(name, kind, secret, &passphrase)?;
    let path = home.config_path();
    if !path.exists() {
        std::fs::write(&path, starter(name)).map_err(Failure::other)?;
        eprintln!("{} made; it allows no payment until you set a cap in it", path.display());
    }
    println!("{}", account(&info));
    Ok(())
}

/// The configuration of a new wallet: nothing is allowed until its owner says so.
fn starter(key: &str) -> String {
    format!(
        r#"# The wallet's rules. docs/wallet.md explains them all.

# The key to pay with.
key = "{key}"

# What may be spent. An asset without a cap is not paid in.
# [assets.usd]
# decimals = 6
# per_payment_max = "0.10"
# total_max = "20"
"#
    )
}

/// Reads a secret key: 64 hexadecimal digits.
fn typed_secret() -> Result<SecretKey, Failure> {
    let malformed = || {
        Failure::new(
            Exit::Key,
            "a key is 64 hexadecimal digits on standard input, and nothing else",
        )
    };
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().take(4_096).read_to_string(&mut text);
    read.map_err(|_| malformed())?;
    let digits = text.trim().as_bytes();
    let mut bytes = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return Err(malformed());
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| {
            let digit = pair.get(at).and_then(|&it| char::from(it).to_digit(16));
            digit.and_then(|digit| u8::try_from(digit).ok()).ok_or_else(malformed)
        };
        *byte = (digit(0)? << 4) | digit(1)?;
    }
    Ok(SecretKey::from_bytes(*bytes))
}

/// The account a key pays from, as sellers see it.
fn account(info: &KeyInfo) -> String {
    let account = match info.kind {
        KeyKind::Ed25519 => <&[u8; 32]>::try_from(info.public.as_slice()).ok().map(did_key),
        KeyKind::Secp256k1 => Address::of_public_key(&info.public).map(|it| it.to_string()),
    };
    account.unwrap_or_else(|| "(damaged)".to_owned())
}

/// What the chain says that an account holds; no passphrase is needed to ask.
async fn balance(home: &Home, key: Option<&str>, json: bool) -> Done {
    let config = home.config()?;
    let info = home.keys().info(key.unwrap_or(&config.key))?;
    let elsewhere =
        || Failure::usage("the balance of this key is in a seller's books, not on a chain");
    let account = match info.kind {
        KeyKind::Ed25519 => None,
        KeyKind::Secp256k1 => Address::of_public_key(&info.public),
    };
    let account = account.ok_or_else(elsewhere)?;
    let mut chains = Vec::new();
    if let Some(chain) = &config.tempo {
        chains.push(("tempo", nodes(chain)?, &chain.tokens));
    }
    if let Some(chain) = &config.evm {
        chains.push(("evm", evm_nodes(chain)?, &chain.tokens));
    }
    if chains.is_empty() {
        return Err(no_chain());
    }
    let mut held = Vec::new();
    for (method, nodes, tokens) in chains {
        let mut balances = serde_json::Map::new();
        if !json && config.tempo.is_some() && config.evm.is_some() {
            println!("{method}, chain {}:", nodes.chain_id());
        }
        for token in tokens.iter() {
            let atoms = nodes.balance(token.address, account).await;
            let atoms = atoms.map_err(|error| Failure::new(Exit::Unreachable, error))?;
            balances.insert(token.asset.id().to_string(), atoms.to_string().into());
            if !json {
                println!("{:>24} {}", token.asset.print(atoms), token.asset.id());
            }
        }
        held.push(json!({ "method": method, "chain_id": nodes.chain_id(), "atoms": balances }));
    }
    if json {
        // Where there is one chain, nobody has to look for it.
        let first = held.first().and_then(|it| it.get("atoms")).cloned();
        print_json(&json!({ "account": account.to_string(), "atoms": first, "chains": held }))
    } else {
        Ok(())
    }
}

/// The nodes of the wallet's chain.
pub(crate) fn nodes(chain: &TempoChain) -> Result<Arc<Nodes>, Failure> {
    nodes_of(chain.chain_id, &chain.nodes)
}

/// The same of another EVM chain.
pub(crate) fn evm_nodes(chain: &EvmChain) -> Result<Arc<Nodes>, Failure> {
    nodes_of(chain.chain_id, &chain.nodes)
}

fn nodes_of(chain_id: u64, nodes: &[Url]) -> Result<Arc<Nodes>, Failure> {
    let nodes = Nodes::new(chain_id, nodes.to_vec(), NODE_TIMEOUT);
    nodes.map(Arc::new).map_err(Failure::usage)
}

pub(crate) fn no_chain() -> Failure {
    Failure::usage(
        "wallet.toml has neither [tempo] nor [evm], which say how to reach a chain; see \
         docs/wallet.md",
    )
}

fn list(home: &Home, json: bool) -> Done {
    let keys = home.keys().list()?;
    if json {
        let key = |info: &KeyInfo| json!({ "name": info.name, "kind": info.kind, "account": account(info) });
        return print_json(&keys.iter().map(key).collect());
    }
    for info in &keys {
        println!("{:<16} {}", info.name, account(info));
    }
    Ok(())
}

fn receipts(home: &Home, json: bool) -> Done {
    let receipts = memory(home)?.receipts().map_err(Failure::other)?;
    if json {
        return print_json(&serde_json::to_value(&receipts).unwrap_or_default());
    }
    let assets = home.config()?.assets;
    for receipt in &receipts {
        let StoredReceipt { payment, at, url, .. } = receipt;
        println!("{at}  {:>16}  {payment}  {url}", receipt_amount(receipt, &assets));
    }
    Ok(())
}

/// The price on a receipt, where it says one in an asset of ours.
fn receipt_amount(receipt: &StoredReceipt, assets: &Assets) -> String {
    let text = |name: &str| receipt.receipt.get(name).and_then(Value::as_str);
    let amount = || {
        let asset = assets.get(&text("currency")?.parse().ok()?)?;
        let atoms = farthing_money::parse_atoms(text("amount")?).ok()?;
        Some(assets.print(&asset.atoms(atoms)))
    };
    amount().unwrap_or_default()
}

fn outstanding(home: &Home, json: bool) -> Done {
    let all = memory(home)?.all_outstanding().map_err(Failure::other)?;
    if json {
        let line = |it: &farthing_wallet::Outstanding| {
            json!({
                "payment": it.payment, "origin": it.origin, "expiresAt": it.expires_at,
                "refused": it.refused,
            })
        };
        return print_json(&all.iter().map(line).collect());
    }
    for it in &all {
        let end = if it.refused { "refused" } else { "unanswered" };
        println!("{}  {end:<10}  held until {}  {}", it.payment, it.expires_at, it.origin);
    }
    Ok(())
}

/// Stops new signatures. It needs no passphrase: whoever sees something odd can.
async fn freeze(home: &Home, agent: Option<String>, reason: String) -> Done {
    // The memory is asked before each signature; the book tells it later, and to whoever shares it.
    memory(home)?.freeze(agent.as_deref(), true).map_err(Failure::other)?;
    note(home, OwnerStep::Frozen { agent, reason }).await?;
    outstanding(home, false)
}

async fn unfreeze(home: &Home, agent: Option<String>, reason: String) -> Done {
    let name = home.config()?.key;
    home.keys().info(&name)?;
    home.keys().unlock(&name, &passphrase(&format!("The passphrase of {name}: "))?)?;
    note(home, OwnerStep::Thawed { agent: agent.clone(), reason }).await?;
    memory(home)?.freeze(agent.as_deref(), false).map_err(Failure::other)
}

async fn note(home: &Home, step: OwnerStep) -> Done {
    let books = crate::books::open(home, &home.config()?)?;
    books.step(step).await.map(drop).map_err(Failure::other)
}

fn memory(home: &Home) -> Result<Memory, Failure> {
    Memory::open(&home.memory()).map_err(Failure::other)
}

pub(crate) fn print_json(value: &Value) -> Done {
    let text = serde_json::to_string_pretty(value).map_err(Failure::other)?;
    println!("{text}");
    Ok(())
}
