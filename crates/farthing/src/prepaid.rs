//! `farthing prepaid`.

use farthing_gate::{Clock as _, SystemClock};
use farthing_gateway::{BookConfig, FundRequest, KeyRequest, Made, OpenStore, StoreConfig};
use farthing_ledger::{Entry, Holder, SpendingKey};
use farthing_money::{Amount, Assets};
use farthing_rail_prepaid::parse_did_key;
use reqwest::Method;
use serde::Serialize;

use crate::admin;
use crate::book::read_config;
use crate::cli::{Gateway, Prepaid};
use crate::failure::{Done, Failure};

/// Makes an operator's entry: in the book itself, or through the gateway that has it open.
pub(crate) async fn run(command: Prepaid) -> Done {
    match command {
        Prepaid::Fund { account, amount, reference, at } => {
            let config = read_config(&at.config)?;
            let amount = parse_amount(&amount, &config.assets)?;
            let account = holder(&account)?;
            let request = FundRequest {
                account: account.clone(),
                amount: printed_number(&config.assets, &amount),
                asset: amount.asset().clone(),
                reference: reference.clone(),
            };
            let entry = Entry::Fund { holder: account, amount, reference };
            enter(&at, &config, entry, (Method::POST, "fund"), &request).await
        }
        Prepaid::Attach { key, account, at } => {
            let config = read_config(&at.config)?;
            let holder = holder(&account)?;
            let entry = Entry::AttachKey { key: spending_key(&key)?, holder: holder.clone() };
            let request = KeyRequest { key, account: Some(holder) };
            enter(&at, &config, entry, (Method::POST, "keys"), &request).await
        }
        Prepaid::Detach { key, at } => {
            let config = read_config(&at.config)?;
            let entry = Entry::DetachKey { key: spending_key(&key)? };
            let request = KeyRequest { key, account: None };
            enter(&at, &config, entry, (Method::DELETE, "keys"), &request).await
        }
    }
}

async fn enter(
    at: &Gateway,
    config: &BookConfig,
    entry: Entry,
    endpoint: (Method, &str),
    request: &impl Serialize,
) -> Done {
    if config.store == StoreConfig::Memory {
        return Err(Failure::usage("the configuration keeps its book in memory"));
    }
    let now = SystemClock.now();
    let new = match OpenStore::open(&config.store, now) {
        Ok(store) => store.port().enter(entry, now).await.map_err(Failure::other)?,
        Err(error) if error.is_locked() => {
            let (method, path) = endpoint;
            let path = format!("prepaid/{path}");
            admin::ask::<Made>(&at.config, config, (method, &path), request).await?.new
        }
        Err(error) => return Err(Failure::other(error)),
    };
    println!("{}", if new { "done" } else { "done before; nothing has changed" });
    Ok(())
}

/// Reads an amount as people write it: `"0.25 usd"`.
pub(crate) fn parse_amount(text: &str, assets: &Assets) -> Result<Amount, Failure> {
    assets.read(text).map_err(|error| Failure::usage(format_args!("{text:?}: {error}")))
}

fn printed_number(assets: &Assets, amount: &Amount) -> String {
    assets.get(amount.asset()).map(|asset| asset.print(amount.atoms())).unwrap_or_default()
}

fn holder(name: &str) -> Result<Holder, Failure> {
    Holder::new(name).map_err(|error| Failure::usage(format_args!("{name:?}: {error}")))
}

fn spending_key(did: &str) -> Result<SpendingKey, Failure> {
    parse_did_key(did)
        .map(SpendingKey)
        .map_err(|error| Failure::usage(format_args!("{did:?}: {error}")))
}
