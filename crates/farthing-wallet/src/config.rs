//! The wallet's configuration: a TOML file its owner writes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use farthing_ledger::Holder;
use farthing_money::{Asset, AssetId, Assets};
use farthing_rail_tempo::{Address, MalformedAddress, Token, Tokens, Url, parse_node};
use serde::Deserialize;

use crate::request::is_loopback;
use crate::{Rules, SellerRules, Waiting};

#[cfg(test)]
mod tests;

/// How long an offer may stay valid unless the owner says otherwise.
const VALIDITY_MAX_S: u64 = 3_600;

/// A unit of gas is priced in billionths.
const WEI_PER_GWEI: u128 = 1_000_000_000;

/// The longest that a request for approval may wait.
const WAIT_MAX: Duration = Duration::from_hours(7 * 24);

/// What the owner of a wallet has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalletConfig {
    /// The key to pay with.
    pub key: String,
    /// The assets the wallet knows.
    pub assets: Assets,
    /// What it may pay.
    pub rules: Rules,
    /// How it pays on Tempo, if it does.
    pub tempo: Option<TempoChain>,
    /// How it pays in sessions on another EVM chain, if it does.
    pub evm: Option<EvmChain>,
    /// The database that its book is kept in, where it is not in its folder.
    pub store: Option<BookPlace>,
    /// How its owner is asked, beside the command line.
    pub approvals: Approvals,
}

/// How an owner is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approvals {
    /// Where the daemon shows a page of what waits.
    pub page: Option<SocketAddr>,
    /// Who is told what is asked and decided.
    pub webhook: Option<ApprovalWebhook>,
}

/// Who is told what is asked and decided.
#[derive(Clone, PartialEq, Eq)]
pub struct ApprovalWebhook {
    /// Where it is sent. It may contain a key.
    pub url: Url,
    /// Where the secret is that it is signed with: `file:PATH` or `env:NAME`.
    pub secret: String,
    /// Whether whoever gets the message may answer by the links in it.
    pub answers: bool,
}

impl fmt::Debug for ApprovalWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApprovalWebhook").field("answers", &self.answers).finish_non_exhaustive()
    }
}

/// A database that a wallet's book is kept in, so that several daemons spend one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookPlace {
    /// Where its address is found: `env:NAME` or `file:PATH`.
    pub postgres: String,
    /// The book's name.
    pub book: String,
    /// Where a daemon listens for the others while it writes the book.
    pub listen: SocketAddr,
    /// Where the others reach that, if it is somewhere else.
    pub advertise: Option<String>,
    /// How long nobody writes after whoever wrote was lost.
    pub lease_ttl: Duration,
}

/// How long nobody writes after the writer was lost, unless the owner says otherwise.
const LEASE_TTL_MS: u64 = 5_000;

/// The shortest lease.
const LEASE_TTL_MS_MIN: u64 = 500;

/// A Tempo chain, as the owner of a wallet names it.
#[derive(Clone, PartialEq, Eq)]
pub struct TempoChain {
    /// The chain's number.
    pub chain_id: u64,
    /// Its nodes, in the order they are asked. They may contain keys.
    pub nodes: Vec<Url>,
    /// The tokens that are the wallet's assets on the chain.
    pub tokens: Tokens,
    /// The account that pays, where the wallet's key is an access key of it and not its own.
    pub account: Option<Address>,
}

impl fmt::Debug for TempoChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TempoChain").field("chain_id", &self.chain_id).finish_non_exhaustive()
    }
}

/// An EVM chain, as the owner of a wallet names it.
#[derive(Clone, PartialEq, Eq)]
pub struct EvmChain {
    /// The chain's number.
    pub chain_id: u64,
    /// Its nodes, in the order they are asked. They may contain keys.
    pub nodes: Vec<Url>,
    /// The tokens that are the wallet's assets on the chain.
    pub tokens: Tokens,
    /// How many blocks deep a deposit has to be before it is shown.
    pub confirmations: u64,
    /// The most that is offered for a unit of gas, in the smallest unit of the chain's coin.
    pub fee_max: Option<u128>,
}

impl fmt::Debug for EvmChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvmChain").field("chain_id", &self.chain_id).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: String,
    validity_max_s: Option<u64>,
    #[serde(default)]
    assets: BTreeMap<String, RawAsset>,
    #[serde(default)]
    sellers: BTreeMap<String, RawSeller>,
    tempo: Option<RawTempo>,
    evm: Option<RawEvm>,
    store: Option<RawStore>,
    #[serde(default)]
    approvals: RawApprovals,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStore {
    postgres: String,
    book: Option<String>,
    listen: Option<SocketAddr>,
    advertise: Option<String>,
    lease_ttl_ms: Option<u64>,
}

impl RawStore {
    fn read(self) -> Result<BookPlace, WalletConfigError> {
        let book = self.book.unwrap_or_else(|| "wallet".to_owned());
        if Holder::new(&book).is_err() {
            let what = "[store]: a book's name is one printable word".to_owned();
            return Err(WalletConfigError(what));
        }
        let lease_ttl_ms = self.lease_ttl_ms.unwrap_or(LEASE_TTL_MS).max(LEASE_TTL_MS_MIN);
        Ok(BookPlace {
            postgres: self.postgres,
            book,
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            advertise: self.advertise,
            lease_ttl: Duration::from_millis(lease_ttl_ms),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApprovals {
    page: Option<SocketAddr>,
    lasts_s: Option<u64>,
    per_agent_max: Option<u32>,
    waiting_max: Option<u32>,
    webhook: Option<String>,
    webhook_secret: Option<String>,
    webhook_answers: Option<bool>,
    #[serde(default)]
    plain_http: bool,
}

impl RawApprovals {
    fn waiting(&self) -> Result<Waiting, WalletConfigError> {
        let usual = Waiting::default();
        let lasts = self.lasts_s.map_or(usual.lasts, Duration::from_secs);
        if lasts.is_zero() || lasts > WAIT_MAX {
            return Err(of_approvals("lasts_s is between 1 and 604800, which is a week"));
        }
        Ok(Waiting {
            lasts,
            per_agent_max: self.per_agent_max.unwrap_or(usual.per_agent_max),
            max: self.waiting_max.unwrap_or(usual.max),
        })
    }

    fn read(self) -> Result<Approvals, WalletConfigError> {
        if self.page.is_some_and(|page| !page.ip().is_loopback()) {
            return Err(of_approvals(
                "the page is for this machine: an address of 127.0.0.1 or ::1",
            ));
        }
        let page = self.page;
        Ok(Approvals { page, webhook: self.webhook()? })
    }

    fn webhook(self) -> Result<Option<ApprovalWebhook>, WalletConfigError> {
        let answers = self.webhook_answers.unwrap_or_default();
        let Some(text) = self.webhook else {
            let is_lone = self.webhook_secret.is_some() || self.webhook_answers.is_some();
            let lone =
                is_lone.then(|| of_approvals("webhook says where to send to, and is missing"));
            return lone.map_or(Ok(None), Err);
        };
        let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.filter(Url::has_host);
        let url = url.ok_or_else(|| of_approvals("a webhook is sent to an https URL"))?;
        if url.scheme() == "http" && !is_loopback(&url) && !self.plain_http {
            return Err(of_approvals(
                "what is asked is nobody else's business: use https, or set plain_http = true on a \
                 network that is yours alone",
            ));
        }
        if answers && self.page.is_none() {
            return Err(of_approvals(
                "webhook_answers needs a page, which the answers are given on",
            ));
        }
        let is_place = |text: &String| ["file:", "env:"].iter().any(|it| text.starts_with(it));
        let secret = self.webhook_secret.filter(is_place);
        let secret = secret.ok_or_else(|| {
            of_approvals("webhook_secret says where the secret is: \"file:PATH\" or \"env:NAME\"")
        })?;
        Ok(Some(ApprovalWebhook { url, secret, answers }))
    }
}

fn of_approvals(what: &str) -> WalletConfigError {
    WalletConfigError(format!("[approvals]: {what}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTempo {
    chain_id: u64,
    nodes: Vec<String>,
    tokens: BTreeMap<String, String>,
    account: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEvm {
    chain_id: u64,
    nodes: Vec<String>,
    tokens: BTreeMap<String, String>,
    confirmations: Option<u64>,
    fee_max_gwei: Option<u64>,
}

/// The nodes of a chain, as they are written in the table `at`.
fn read_nodes(at: &str, nodes: &[String]) -> Result<Vec<Url>, WalletConfigError> {
    let error = |what: &str| WalletConfigError(format!("[{at}]: {what}"));
    let node =
        |text: &String| parse_node(text).ok_or_else(|| error("a node is an http or https URL"));
    let nodes: Vec<Url> = nodes.iter().map(node).collect::<Result<_, _>>()?;
    if nodes.is_empty() { Err(error("at least one node is needed")) } else { Ok(nodes) }
}

/// The tokens of a chain, likewise.
fn read_tokens(
    at: &str,
    tokens: &BTreeMap<String, String>,
    assets: &Assets,
) -> Result<Tokens, WalletConfigError> {
    let error = |what: String| WalletConfigError(format!("[{at}]: {what}"));
    let token = |(name, address): (&String, &String)| {
        let asset = AssetId::new(name).ok().and_then(|id| assets.get(&id));
        let asset = asset.ok_or_else(|| error(format!("there is no [assets.{name}]")))?.clone();
        let address =
            address.parse().map_err(|it: MalformedAddress| error(format!("{name}: {it}")))?;
        Ok(Token { asset, address })
    };
    Ok(Tokens::new(tokens.iter().map(token).collect::<Result<_, WalletConfigError>>()?))
}

impl RawTempo {
    fn read(&self, assets: &Assets) -> Result<TempoChain, WalletConfigError> {
        let nodes = read_nodes("tempo", &self.nodes)?;
        let tokens = read_tokens("tempo", &self.tokens, assets)?;
        let account = self.account.as_ref().map(|account| {
            let malformed =
                |it: MalformedAddress| WalletConfigError(format!("[tempo]: account: {it}"));
            account.parse().map_err(malformed)
        });
        Ok(TempoChain { chain_id: self.chain_id, nodes, tokens, account: account.transpose()? })
    }
}

impl RawEvm {
    fn read(&self, assets: &Assets) -> Result<EvmChain, WalletConfigError> {
        Ok(EvmChain {
            chain_id: self.chain_id,
            nodes: read_nodes("evm", &self.nodes)?,
            tokens: read_tokens("evm", &self.tokens, assets)?,
            confirmations: self.confirmations.unwrap_or(1).max(1),
            fee_max: self.fee_max_gwei.map(|gwei| u128::from(gwei).saturating_mul(WEI_PER_GWEI)),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAsset {
    decimals: u8,
    per_payment_max: Option<String>,
    total_max: Option<String>,
    session_deposit_max: Option<String>,
    session_low: Option<String>,
    stream_lead_max: Option<String>,
    subscription_max: Option<String>,
    subscription_periods_max: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSeller {
    realm: Option<String>,
    #[serde(default)]
    recipients: Vec<String>,
}

impl WalletConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// A [`WalletConfigError`] that says what to mend.
    pub fn parse(text: &str) -> Result<Self, WalletConfigError> {
        let raw: Raw =
            toml::from_str(text).map_err(|error| WalletConfigError(error.to_string()))?;
        let mut assets = Vec::new();
        let mut rules = Rules {
            validity_max: Duration::from_secs(raw.validity_max_s.unwrap_or(VALIDITY_MAX_S)),
            waiting: raw.approvals.waiting()?,
            ..Rules::default()
        };
        for (name, setting) in raw.assets {
            let asset = AssetId::new(&name).and_then(|id| Asset::new(id, setting.decimals));
            let asset =
                asset.map_err(|error| WalletConfigError(format!("[assets.{name}]: {error}")))?;
            for (written, caps) in [
                (&setting.per_payment_max, &mut rules.per_payment),
                (&setting.total_max, &mut rules.total),
                (&setting.session_deposit_max, &mut rules.session_deposit),
                (&setting.session_low, &mut rules.session_low),
                (&setting.stream_lead_max, &mut rules.stream_lead),
                (&setting.subscription_max, &mut rules.subscription),
            ] {
                let Some(written) = written else { continue };
                let cap = asset.parse(written).map_err(|error| {
                    WalletConfigError(format!("[assets.{name}]: {written}: {error}"))
                })?;
                caps.insert(asset.id().clone(), cap.atoms());
            }
            if let Some(periods) = setting.subscription_periods_max {
                rules.subscription_periods.insert(asset.id().clone(), periods.max(1));
            }
            assets.push(asset);
        }
        for (origin, seller) in raw.sellers {
            let url: url::Url = origin.parse().map_err(|_| {
                WalletConfigError(format!("[sellers.{origin:?}]: a seller is named by its origin"))
            })?;
            if url.origin().ascii_serialization() != origin {
                let right = url.origin().ascii_serialization();
                return Err(WalletConfigError(format!(
                    "[sellers.{origin:?}]: the origin is spelled {right:?}"
                )));
            }
            let seller = SellerRules { realm: seller.realm, recipients: seller.recipients };
            rules.sellers.insert(origin, seller);
        }
        let assets: Assets = assets.into_iter().collect();
        let tempo = raw.tempo.map(|tempo| tempo.read(&assets)).transpose()?;
        let evm = raw.evm.map(|evm| evm.read(&assets)).transpose()?;
        let store = raw.store.map(RawStore::read).transpose()?;
        let approvals = raw.approvals.read()?;
        Ok(Self { key: raw.key, assets, rules, tempo, evm, store, approvals })
    }
}

/// What is wrong with a wallet's configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WalletConfigError(String);
