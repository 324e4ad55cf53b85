//! The official clients pay a gateway on a Tempo chain of their own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farthing_gate::SystemClock;
use farthing_gateway::{Config, Gateway};
use farthing_keys::SecretKey;
use farthing_ledger::audit;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_tempo::{Nodes, TempoPayer};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain, development_key,
};
use farthing_wallet::{Authority, Books, Memory, Wallet, WalletConfig};
use tokio::process::Command;

use crate::mppx::{peers, run_mppx, upstream};

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]
title = "Forecasts"
description = "The weather, by the call"

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[rails.tempo]
chain_id = CHAIN_ID
nodes = ["NODE"]
recipient = "RECIPIENT"
tokens = { usd = "PATH_USD" }
EXTRA

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast"
upstream = "api"
price = "PRICE usd"
description = "A forecast"
"#;

/// Where fees are paid by the seller, from a development account.
const SPONSORED: &str = r#"
[rails.tempo.sponsor]
key = "env:SPONSOR"
asset = "usd"
per_payer_per_day = "1"
total_per_day = "100"
"#;

/// Where three tenths of a price go to others.
const SPLIT: &str = r#"
[[rails.tempo.splits]]
payee = "partner-a"
recipient = "SPLIT_A"
percent = "20"

[[rails.tempo.splits]]
payee = "partner-b"
recipient = "SPLIT_B"
percent = "10"
"#;

/// How a seller is to be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Charge,
    Zero,
    Sponsored,
    Split,
    Push,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Charge, Self::Zero, Self::Sponsored, Self::Split, Self::Push];

    /// What a buyer pays, in atoms.
    pub(crate) const fn price(self) -> u128 {
        if matches!(self, Self::Zero) { 0 } else { 10_000 }
    }

    /// What of it the seller gets.
    pub(crate) const fn sellers(self) -> u128 {
        if matches!(self, Self::Split) { 7_000 } else { self.price() }
    }

    const fn extra(self) -> &'static str {
        match self {
            Self::Charge | Self::Zero => "",
            Self::Sponsored => SPONSORED,
            Self::Split => SPLIT,
            Self::Push => "push = true",
        }
    }
}

/// A gateway that is paid on a chain.
pub(crate) struct Shop {
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Shop {
    pub(crate) async fn open(chain: &TempoChain, kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let price = if kind == Kind::Zero { "0" } else { "0.01" };
        let text = CONFIG
            .replace("EXTRA", kind.extra())
            .replace("PRICE", price)
            .replace("SPLIT_A", DEVELOPMENT_ACCOUNTS[5])
            .replace("SPLIT_B", DEVELOPMENT_ACCOUNTS[6])
            .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
            .replace("NODE", &chain.url)
            .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[1])
            .replace("PATH_USD", PATH_USD)
            .replace("UPSTREAM", &upstream().await.to_string());
        let secret = |name: &str| match name {
            "SPONSOR" => Some(DEVELOPMENT_KEYS[SPONSOR].to_owned()),
            _ => Some(SECRET.to_owned()),
        };
        let config = Config::parse(&text, folder.path(), &secret);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        Self { gateway: Gateway::start(&config).await.unwrap(), folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://localhost:{}", self.gateway.address().port())
    }

    /// What the seller earned, in atoms, once the books are closed and found sound.
    pub(crate) async fn close(self) -> u128 {
        self.gateway.stop().await;
        let book = self.folder.path().join("book.db");
        let journal = farthing_store_sqlite::Reader::open(&book).unwrap().journal().unwrap();
        let sound = audit(&journal).unwrap();
        let account = "payable/forecasts-inc/usd".parse().unwrap();
        sound.accounts.get(&account).map_or(0, |balance| balance.credits_posted)
    }
}

/// Runs `mppx` with a development key on the shop's chain.
async fn mppx(peers: &Path, chain: &TempoChain, args: &[&str]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    // The command asks a public node where it validates; here that node is the shop's.
    let redirect = home.path().join("redirect.mjs");
    std::fs::write(&redirect, REDIRECT).unwrap();
    let mut node = Command::new("node");
    node.arg("--import")
        .arg(&redirect)
        .env("XDG_STATE_HOME", home.path())
        .env("MPPX_PRIVATE_KEY", format!("0x{}", DEVELOPMENT_KEYS[2]))
        .env("MPPX_RPC_URL", &chain.url);
    run_mppx(node, peers, home.path(), args).await
}

/// What stands between the command and the public test network: its node is the shop's, and its
/// faucet is a development account of the shop's chain.
const REDIRECT: &str = r"
const node = process.env.MPPX_RPC_URL
const real = globalThis.fetch
const isPublic = (url) => /^https:\/\/rpc\.[a-z.]*tempo\.xyz/.test(url)

const rpc = async (method, params) => {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
  const answer = await real(node, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
  return (await answer.json()).result
}

const fund = async (address) => {
  const [, , , , , , , , , from] = await rpc('eth_accounts', [])
  const word = (hex) => hex.replace('0x', '').toLowerCase().padStart(64, '0')
  const data = '0xa9059cbb' + word(address) + word((1_000_000_000).toString(16))
  const tokens = [0, 1, 2, 3].map((n) => '0x20c000000000000000000000000000000000000' + n)
  const hashes = []
  for (const to of tokens) hashes.push(await rpc('eth_sendTransaction', [{ from, to, data }]))
  return hashes
}

globalThis.fetch = async (input, init) => {
  const url = typeof input === 'string' ? input : (input.url ?? String(input))
  if (!isPublic(url) && url !== node) return real(input, init)
  const request = new Request(url, input instanceof Request ? input : init)
  const body = await request.text()
  const call = JSON.parse(body)
  if (call.method === 'tempo_fundAddress') {
    const result = await fund(call.params[0])
    return new Response(JSON.stringify({ jsonrpc: '2.0', id: call.id, result }))
  }
  return real(node, { method: 'POST', headers: { 'content-type': 'application/json' }, body })
}
";

/// TCH.S01, TCH.S07: the official command pays a seller of ours, and the books say so.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_pays_the_gateway() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let shop = Shop::open(&chain, Kind::Charge).await;
    let url = format!("{}/forecast", shop.url());
    let (code, text) = mppx(&peers, &chain, &["-i", &url]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sunny"), "{text}");
    assert!(text.to_lowercase().contains("payment-receipt"), "{text}");
    assert_eq!(shop.close().await, 10_000);
}

/// CORE.S01, CORE.S16, TCH.S03, TCH.S05, CHG.S03: `mppx validate` pays, or proves, and finds nothing wrong
/// with challenge, payment, receipt and the refusal of a replay, however a seller wants to be paid.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_validates_every_kind_of_charge() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    for kind in Kind::ALL {
        let shop = Shop::open(&chain, kind).await;
        let (code, text) = mppx(&peers, &chain, &["validate", &shop.url(), "-y"]).await;
        assert_eq!(code, 0, "{kind:?}: {text}");
        assert!(!text.contains('✗'), "{kind:?}: {text}");
        assert_eq!(shop.close().await, kind.sellers(), "{kind:?}: {text}");
    }
}

/// Who pays the fees, and who signs for the challenges.
pub(crate) const SPONSOR: usize = 4;
pub(crate) const SECRET: &str = "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf";

/// A wallet of ours in `folder`, with a development key on `chain`.
pub(crate) fn wallet(folder: &Path, chain: &TempoChain, number: usize) -> Wallet {
    let text = WALLET
        .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
        .replace("NODE", &chain.url)
        .replace("PATH_USD", PATH_USD);
    let config = WalletConfig::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let tempo = config.tempo.unwrap();
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes, Duration::from_secs(10)).unwrap();
    let key = SecretKey::from_bytes(development_key(number));
    let payer = TempoPayer::new(key.expose(), Arc::new(nodes), tempo.tokens).unwrap();
    let clock = Arc::new(SystemClock);
    let authority = Authority::under_caps(&config.rules, &config.assets).unwrap();
    Wallet {
        authority,
        payers: vec![Arc::new(payer)],
        buyers: vec![Arc::new(MppBuyer)],
        rules: config.rules,
        books: Books::new(&folder.join("wallet.db"), clock.clone()),
        memory: Memory::open(&folder.join("memory.db")).unwrap(),
        key,
        clock,
        http: Wallet::client().unwrap(),
        pause: Wallet::PAUSE,
        offers: farthing_wallet::KnownOffers::default(),
    }
}

const WALLET: &str = r#"key = "agent"

[assets.usd]
decimals = 6
per_payment_max = "0.05"
total_max = "1"

[tempo]
chain_id = CHAIN_ID
nodes = ["NODE"]
tokens = { usd = "PATH_USD" }
"#;
