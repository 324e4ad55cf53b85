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
use farthing_wallet::{Books, Memory, PayOptions, PayRequest, Wallet, WalletConfig};
use tokio::io::AsyncBufReadExt as _;
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

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast"
upstream = "api"
price = "0.01 usd"
description = "A forecast"
"#;

/// A chain, and a gateway that is paid on it.
struct Shop {
    chain: TempoChain,
    gateway: Gateway,
    folder: tempfile::TempDir,
}

impl Shop {
    /// Nothing where there is no chain for this machine.
    async fn open() -> Option<Self> {
        let chain = TempoChain::start(None).await?;
        let folder = tempfile::tempdir().unwrap();
        let text = CONFIG
            .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
            .replace("NODE", &chain.url)
            .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[1])
            .replace("PATH_USD", PATH_USD)
            .replace("UPSTREAM", &upstream().await.to_string());
        let secret = |_: &str| Some("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".to_owned());
        let config = Config::parse(&text, folder.path(), &secret);
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        Some(Self { chain, gateway: Gateway::start(&config).await.unwrap(), folder })
    }

    fn url(&self) -> String {
        format!("http://localhost:{}", self.gateway.address().port())
    }

    /// What the seller earned, in atoms, once the books are closed and found sound.
    async fn close(self) -> u128 {
        self.gateway.stop().await;
        let book = self.folder.path().join("book.db");
        let journal = farthing_store_sqlite::Reader::open(&book).unwrap().journal().unwrap();
        let sound = audit(&journal).unwrap();
        let account = "payable/forecasts-inc/usd".parse().unwrap();
        sound.accounts.get(&account).map_or(0, |balance| balance.credits_posted)
    }
}

/// Runs `mppx` with a development key on the shop's chain.
async fn mppx(peers: &Path, shop: &Shop, args: &[&str]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    // The command asks a public node where it validates; here that node is the shop's.
    let redirect = home.path().join("redirect.mjs");
    std::fs::write(&redirect, REDIRECT).unwrap();
    let mut node = Command::new("node");
    node.arg("--import")
        .arg(&redirect)
        .env("XDG_STATE_HOME", home.path())
        .env("MPPX_PRIVATE_KEY", format!("0x{}", DEVELOPMENT_KEYS[2]))
        .env("MPPX_RPC_URL", &shop.chain.url);
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
    let Some(shop) = Shop::open().await else { return };
    let url = format!("{}/forecast", shop.url());
    let (code, text) = mppx(&peers, &shop, &["-i", &url]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("sunny"), "{text}");
    assert!(text.to_lowercase().contains("payment-receipt"), "{text}");
    assert_eq!(shop.close().await, 10_000);
}

/// CORE.S01, CORE.S16: `mppx validate` pays and finds nothing wrong with challenge, payment, receipt
/// and the refusal of a replay.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_validates_a_paid_route() {
    let Some(peers) = peers() else { return };
    let Some(shop) = Shop::open().await else { return };
    let (code, text) = mppx(&peers, &shop, &["validate", &shop.url(), "-y"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains('✗'), "{text}");
    assert_eq!(shop.close().await, 10_000, "{text}");
}

/// A seller written with the official SDK, in a process of its own.
struct ForeignSeller {
    url: String,
    _process: tokio::process::Child,
    _script: tempfile::TempPath,
}

impl ForeignSeller {
    async fn open(peers: &Path, chain: &TempoChain) -> Self {
        // A module finds the SDK from where it stands.
        let script = tempfile::Builder::new().suffix(".mjs").tempfile_in(peers).unwrap();
        std::fs::write(script.path(), include_str!("../../npm/seller.mjs")).unwrap();
        let script = script.into_temp_path();
        let mut process = Command::new("node")
            .arg(&script)
            .env("RPC", &chain.url)
            .env("RECIPIENT", DEVELOPMENT_ACCOUNTS[1])
            .env("SECRET", "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = tokio::io::BufReader::new(process.stdout.take().unwrap());
        let url = lines.lines().next_line().await.unwrap().expect("the seller says where it is");
        Self { url, _process: process, _script: script }
    }
}

/// A wallet of ours in `folder`, with a development key on `chain`.
fn wallet(folder: &Path, chain: &TempoChain) -> Wallet {
    let text = WALLET
        .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
        .replace("NODE", &chain.url)
        .replace("PATH_USD", PATH_USD);
    let config = WalletConfig::parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let tempo = config.tempo.unwrap();
    let nodes = Nodes::new(tempo.chain_id, tempo.nodes, Duration::from_secs(10)).unwrap();
    let key = SecretKey::from_bytes(development_key(2));
    let payer = TempoPayer::new(key.expose(), Arc::new(nodes), tempo.tokens).unwrap();
    let clock = Arc::new(SystemClock);
    Wallet {
        payers: vec![Arc::new(payer)],
        buyers: vec![Arc::new(MppBuyer)],
        rules: config.rules,
        books: Books::new(&folder.join("wallet.db"), clock.clone()),
        memory: Memory::open(&folder.join("memory.db")).unwrap(),
        key,
        clock,
        http: Wallet::client().unwrap(),
        pause: Wallet::PAUSE,
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

/// CORE.C01, TCH.C01: our wallet pays a seller of theirs, once, and keeps the receipt.
#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_pays_a_mppx_seller() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let seller = ForeignSeller::open(&peers, &chain).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = wallet(folder.path(), &chain);
    let request = PayRequest {
        method: reqwest::Method::GET,
        url: format!("{}/paid", seller.url).parse().unwrap(),
        fields: reqwest::header::HeaderMap::new(),
        body: bytes::Bytes::new(),
    };
    let outcome = wallet.pay(&request, &PayOptions::default()).await;
    let outcome = outcome.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!((outcome.status.as_u16(), &*outcome.body), (200, &b"{\"forecast\":\"sunny\"}"[..]));
    let paid = outcome.paid.expect("it was paid for");
    assert_eq!(paid.amount.map(|amount| amount.atoms()), Some(10_000));
    let receipts = wallet.memory.receipts().unwrap();
    let reference = receipts[0].receipt["reference"].as_str().unwrap();
    assert!(reference.starts_with("0x") && reference.len() == 66, "{reference}");
}
