//! Every buyer at every seller, for everything that both can do, on one chain. What moved on the chain is
//! what decides, and the table of it stands in `docs/interop.md`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use farthing_rail_tempo::{Address, Nodes};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain,
};
use farthing_wallet::{PayOptions, PayRequest};
use mpp::client::{Fetch as _, TempoProvider};
use mpp::server::axum::{ChallengeOptions, ChargeChallenger, PaymentRequired};
use mpp::server::{Mpp, TempoConfig, tempo};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::mppx::peers;
use crate::tempo::{Kind, SECRET, SPONSOR, Shop, wallet};

/// The account that sells, and the one that buys.
const SELLER: usize = 1;
const BUYER: usize = 2;

/// Who buys, or sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Farthing,
    Mppx,
    Pympp,
    MppCrate,
}

impl Party {
    const ALL: [Self; 4] = [Self::Farthing, Self::Mppx, Self::Pympp, Self::MppCrate];

    const fn name(self) -> &'static str {
        match self {
            Self::Farthing => "Farthing",
            Self::Mppx => "`mppx` 0.11",
            Self::Pympp => "`pympp` 0.16",
            Self::MppCrate => "`mpp` 0.18",
        }
    }

    /// What it can be paid by, as a seller.
    fn sells(self) -> Vec<Kind> {
        match self {
            Self::Farthing | Self::Mppx => Kind::ALL.to_vec(),
            Self::Pympp => vec![Kind::Charge, Kind::Sponsored, Kind::Split],
            Self::MppCrate => vec![Kind::Charge, Kind::Zero, Kind::Sponsored],
        }
    }

    /// What it can pay, as a buyer.
    fn buys(self) -> Vec<Kind> {
        match self {
            Self::Farthing | Self::Mppx => Kind::ALL.to_vec(),
            Self::Pympp => vec![Kind::Charge, Kind::Sponsored, Kind::Split],
            // It pulls.
            Self::MppCrate => vec![Kind::Charge, Kind::Zero, Kind::Sponsored, Kind::Split],
        }
    }
}

/// A script of a peer's, in a process of its own, which says where it listens and stops with us.
pub(crate) struct Script {
    pub(crate) said: String,
    _lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
    _file: Option<tempfile::TempPath>,
}

impl Script {
    pub(crate) async fn start(mut command: Command, file: Option<tempfile::TempPath>) -> Self {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = lines.next_line().await.unwrap().expect("a peer says where it listens");
        Self { said, _lines: lines, _process: process, _file: file }
    }
}

/// A script for Node. A module finds the SDK from where it stands.
pub(crate) fn node_script(peers: &Path, text: &str) -> (Command, tempfile::TempPath) {
    let script = tempfile::Builder::new().suffix(".mjs").tempfile_in(peers).unwrap();
    std::fs::write(script.path(), text).unwrap();
    let script = script.into_temp_path();
    let mut node = Command::new("node");
    node.arg(&script);
    (node, script)
}

/// A script for the Python that has the SDK.
fn python_script(peers: &Path, name: &str) -> Command {
    let mut python = Command::new(peers.join("python/bin/python"));
    python.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name));
    python
}

/// One chain, and every seller on it.
struct Market {
    chain: TempoChain,
    peers: PathBuf,
    nodes: Nodes,
    mppx: Script,
    pympp: Script,
    _shim: Script,
    mpp_crate: String,
    shops: Vec<(Kind, Shop)>,
}

impl Market {
    async fn open() -> Option<Self> {
        let peers = peers()?;
        let chain = TempoChain::start(None).await?;
        let (mut shim, file) = node_script(&peers, include_str!("../../npm/shim.mjs"));
        shim.env("RPC", &chain.url);
        let shim = Script::start(shim, Some(file)).await;
        let selling = |mut script: Command, rpc: &str| {
            script
                .env("RPC", rpc)
                .env("RECIPIENT", DEVELOPMENT_ACCOUNTS[SELLER])
                .env("SECRET", SECRET)
                .env("SPONSOR_KEY", format!("0x{}", DEVELOPMENT_KEYS[SPONSOR]))
                .env("SPLIT_A", DEVELOPMENT_ACCOUNTS[5])
                .env("SPLIT_B", DEVELOPMENT_ACCOUNTS[6]);
            script
        };
        let (mppx, file) = node_script(&peers, include_str!("../../npm/seller.mjs"));
        let mppx = Script::start(selling(mppx, &chain.url), Some(file)).await;
        let pympp = selling(python_script(&peers, "seller.py"), &shim.said);
        let pympp = Script::start(pympp, None).await;
        let mut shops = Vec::new();
        for kind in Kind::ALL {
            shops.push((kind, Shop::open(&chain, kind).await));
        }
        let url = chain.url.parse().unwrap();
        let nodes = Nodes::new(TEMPO_CHAIN_ID, vec![url], std::time::Duration::from_secs(10));
        let mpp_crate = mpp_crate(&shim.said).await;
        let nodes = nodes.unwrap();
        Some(Self { chain, peers, nodes, mppx, pympp, _shim: shim, mpp_crate, shops })
    }

    fn url(&self, seller: Party, kind: Kind) -> String {
        let path = match kind {
            Kind::Charge => "paid",
            Kind::Zero => "zero",
            Kind::Sponsored => "sponsored",
            Kind::Split => "split",
            Kind::Push => "push",
        };
        match seller {
            Party::Farthing => {
                let shop = self.shops.iter().find(|(sold, _)| *sold == kind).map(|(_, shop)| shop);
                format!("{}/forecast", shop.unwrap().url())
            }
            Party::Mppx => format!("{}/{path}", self.mppx.said),
            Party::Pympp => format!("{}/{path}", self.pympp.said),
            Party::MppCrate => format!("{}/{path}", self.mpp_crate),
        }
    }

    /// What an account holds, in atoms of pathUSD.
    async fn holds(&self, number: usize) -> u128 {
        let account: Address = DEVELOPMENT_ACCOUNTS[number].parse().unwrap();
        self.nodes.balance(PATH_USD.parse().unwrap(), account).await.unwrap()
    }

    /// Buys once, and says with which status and receipt.
    async fn buy(&self, buyer: Party, kind: Kind, url: &str) -> (u16, Value) {
        let key = format!("0x{}", DEVELOPMENT_KEYS[BUYER]);
        let script = match buyer {
            Party::Farthing => return self.buy_with_our_wallet(url).await,
            Party::MppCrate => return self.buy_with_the_crate(url).await,
            Party::Mppx => {
                let (mut node, file) =
                    node_script(&self.peers, include_str!("../../npm/buyer.mjs"));
                node.arg(if kind == Kind::Push { "push" } else { "pull" }).arg(url);
                node.env("RPC", &self.chain.url).env("KEY", key);
                let said = node.output().await.unwrap();
                drop(file);
                said
            }
            Party::Pympp => {
                let mut python = python_script(&self.peers, "buyer.py");
                python.arg(url).env("RPC", &self.chain.url).env("KEY", key);
                python.output().await.unwrap()
            }
        };
        let said = String::from_utf8_lossy(&script.stdout).into_owned();
        let answer: Value = serde_json::from_str(&said).unwrap_or_else(|_| {
            panic!("{said}{}", String::from_utf8_lossy(&script.stderr));
        });
        let status = answer["status"].as_u64().unwrap_or_else(|| panic!("{answer}"));
        (u16::try_from(status).unwrap(), answer["receipt"].clone())
    }

    async fn buy_with_our_wallet(&self, url: &str) -> (u16, Value) {
        let folder = tempfile::tempdir().unwrap();
        let wallet = wallet(folder.path(), &self.chain, BUYER);
        let request = PayRequest {
            method: reqwest::Method::GET,
            url: url.parse().unwrap(),
            fields: HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let outcome = wallet.pay(&request, &PayOptions::default()).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{url}: {error}"));
        let receipt = outcome.paid.and_then(|paid| paid.receipt).map(Value::Object);
        (outcome.status.as_u16(), receipt.unwrap_or_default())
    }

    async fn buy_with_the_crate(&self, url: &str) -> (u16, Value) {
        let signer: mpp::PrivateKeySigner = DEVELOPMENT_KEYS[BUYER].parse().unwrap();
        let provider = TempoProvider::new(signer, &self.chain.url).unwrap();
        let provider = provider.with_expected_chain_id(TEMPO_CHAIN_ID).with_currencies([PATH_USD]);
        let request = reqwest::Client::new().get(url).header("accept-payment", "tempo/charge");
        let sent = request.send_with_payment(&provider).await;
        let answer = sent.unwrap_or_else(|error| panic!("{url}: {error}"));
        let receipt = answer.headers().get("payment-receipt").and_then(|it| it.to_str().ok());
        let receipt = receipt.and_then(|text| mpp::parse_receipt(text).ok());
        let receipt = receipt.and_then(|receipt| serde_json::to_value(receipt).ok());
        (answer.status().as_u16(), receipt.unwrap_or_default())
    }

    /// One purchase: answered, with a receipt, and paid for on the chain: the price to whoever is owed
    /// it, and the fee by whoever is to pay it.
    async fn trade(&self, buyer: Party, seller: Party, kind: Kind) {
        let cell = format!("{buyer:?} buys from {seller:?}: {kind:?}");
        let accounts = [BUYER, SELLER, SPONSOR, 5, 6];
        let mut before = Vec::new();
        for account in accounts {
            before.push(self.holds(account).await);
        }
        let (status, receipt) = self.buy(buyer, kind, &self.url(seller, kind)).await;
        assert_eq!(status, 200, "{cell}: {receipt}");
        assert_eq!(receipt["status"], "success", "{cell}: {receipt}");
        assert_eq!(receipt["method"], "tempo", "{cell}: {receipt}");
        let mut moved = Vec::new();
        for (account, before) in accounts.into_iter().zip(before) {
            moved.push(self.holds(account).await.cast_signed() - before.cast_signed());
        }
        let [bought, sold, sponsored, a, b] = moved[..] else { unreachable!() };
        assert_eq!(sold.unsigned_abs(), kind.sellers(), "{cell}");
        let others = if kind == Kind::Split { (2_000, 1_000) } else { (0, 0) };
        assert_eq!((a, b), others, "{cell}");
        let price = kind.price().cast_signed();
        match kind {
            Kind::Zero => assert_eq!((bought, sponsored), (0, 0), "{cell}"),
            Kind::Sponsored => {
                assert_eq!(bought, -price, "{cell}: the price and nothing else");
                assert!(sponsored < 0, "{cell}: the sponsor paid the fee");
            }
            Kind::Charge | Kind::Split | Kind::Push => {
                assert!(bought < -price, "{cell}: the price and the fee");
                assert_eq!(sponsored, 0, "{cell}");
            }
        }
    }
}

/// A seller written with the `mpp` crate.
async fn mpp_crate(rpc: &str) -> String {
    let create = |sponsored: bool| -> Arc<dyn ChargeChallenger> {
        let signer: mpp::PrivateKeySigner = DEVELOPMENT_KEYS[SPONSOR].parse().unwrap();
        let builder = tempo(TempoConfig { recipient: DEVELOPMENT_ACCOUNTS[SELLER] })
            .rpc_url(rpc)
            .chain_id(TEMPO_CHAIN_ID)
            .currencies([PATH_USD])
            .realm("localhost")
            .secret_key(SECRET);
        let builder =
            if sponsored { builder.fee_payer(true).fee_payer_signer(signer) } else { builder };
        Arc::new(Mpp::create(builder).unwrap())
    };
    let route = |price: &'static str, sponsored| {
        let sell = async move |State(seller): State<Arc<dyn ChargeChallenger>>,
                               fields: HeaderMap| {
            sell(seller.as_ref(), price, &fields).await
        };
        get(sell).with_state(create(sponsored))
    };
    let router = Router::new()
        .route("/paid", route("0.01", false))
        .route("/zero", route("0", false))
        .route("/sponsored", route("0.01", true));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn sell(seller: &dyn ChargeChallenger, price: &str, fields: &HeaderMap) -> Response {
    let challenge = || {
        let challenge = seller.challenge(price, ChallengeOptions::default()).unwrap();
        PaymentRequired(challenge).into_response()
    };
    let credential = fields.get("authorization").and_then(|value| value.to_str().ok());
    let Some(credential) = credential else { return challenge() };
    match seller.verify_payment_for_amount(credential, price).await {
        Ok(receipt) => {
            let receipt = mpp::format_receipt(&receipt).unwrap();
            ([("payment-receipt", receipt)], "sunny").into_response()
        }
        Err(error) => {
            eprintln!("the crate refuses: {error}");
            challenge()
        }
    }
}

/// TCH.S01 to TCH.S07 and TCH.C01 to TCH.C05, as far as each peer goes: whoever speaks the protocol can
/// pay us, and we can pay whoever speaks it.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_pays_everybody() {
    let Some(market) = Market::open().await else { return };
    let mut table = "| Buyer | Seller | charge | zero-amount | sponsored | split | push |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for buyer in Party::ALL {
        for seller in Party::ALL {
            // What the peers do among themselves is their own affair.
            if buyer != Party::Farthing && seller != Party::Farthing {
                continue;
            }
            let mut row = format!("| {} | {} |", buyer.name(), seller.name());
            for kind in Kind::ALL {
                let able = buyer.buys().contains(&kind) && seller.sells().contains(&kind);
                if able {
                    market.trade(buyer, seller, kind).await;
                }
                row.push_str(if able { " ✓ |" } else { " – |" });
            }
            table.push_str(&row);
            table.push('\n');
        }
    }
    println!("{table}");
    for (kind, shop) in market.shops {
        let buyers = Party::ALL.iter().filter(|it| it.buys().contains(&kind)).count();
        let earned = u128::try_from(buyers).unwrap() * kind.sellers();
        assert_eq!(shop.close().await, earned, "{kind:?}");
    }
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/interop.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    assert!(docs.contains(&table), "docs/interop.md has another table than this:\n{table}");
}
