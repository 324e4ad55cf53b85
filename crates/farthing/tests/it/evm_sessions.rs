//! Sessions on an EVM chain, as processes: a wallet, a gateway, and a chain with an escrow between them.

use std::time::Duration;

use farthing_rail_tempo::session::{Escrow, Family, Happened};
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, EVM_CHAIN_ID, EvmChain};
use serde_json::{Value, json};

use crate::channels::{PAYEE, opened, stands, told};
use crate::world::{World, echo, free_address, nowhere};

/// Longer than the payee has to answer who asks the escrow for the rest.
const GRACE_S: u64 = 15 * 60 + 5;

/// Who pays.
const PAYER: usize = 2;

const GATEWAY: &str = r#"
[gateway]
listen = "LISTEN"
realm = "localhost"
secrets = ["env:SECRET"]

[admin]
listen = "127.0.0.1:0"
token = "env:TOKEN"

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[assets.eth]
decimals = 18

[rails.evm]
chain_id = 31337
nodes = ["NODE"]
recipient = "RECIPIENT"
tokens = { usd = "TOKEN_ADDRESS" }
settle_timeout_ms = 5000
SESSION

[seller]
name = "seller"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "quote"
methods = ["GET"]
path = "/quote"
upstream = "api"
price = "0.01 usd"
intents = ["session"]
session = { deposit = "0.10 usd" }
"#;

const WALLET: &str = r#"key = "agent"

[assets.usd]
decimals = 6
per_payment_max = "0.05"
total_max = "TOTAL"
session_deposit_max = "0.05"

[evm]
chain_id = 31337
nodes = ["NODE"]
tokens = { usd = "TOKEN_ADDRESS" }
"#;

/// A chain with an escrow and a token, and a wallet and a gateway that know both.
struct Village {
    chain: EvmChain,
    world: World,
    escrow: Escrow,
}

async fn ask(url: &str, method: &str, params: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let sent = reqwest::Client::new().post(url).header("content-type", "application/json");
    let answer = sent.body(call.to_string()).send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["result"].clone()
}

/// The token of the tests, all of it the payer's.
async fn token(chain: &EvmChain) -> String {
    let compiled = include_str!("../../../../contracts/artifacts/TestToken.json");
    let compiled: Value = serde_json::from_str(compiled).unwrap();
    let data = format!("0x{}", compiled["creation"].as_str().unwrap());
    let call = json!([{ "from": DEVELOPMENT_ACCOUNTS[PAYER], "data": data, "gas": "0x600000" }]);
    let hash = ask(&chain.url, "eth_sendTransaction", call).await;
    loop {
        let receipt = ask(&chain.url, "eth_getTransactionReceipt", json!([hash])).await;
        if let Some(address) = receipt["contractAddress"].as_str() {
            return address.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Village {
    /// The gateway's own command makes the escrow. A wallet deposits up to 0.05 usd at once, of `total_max` in
    /// all; a request costs 0.01. With `more` in the gateway's settings of sessions.
    async fn start(total_max: &str, more: &str) -> Option<Self> {
        let chain = EvmChain::start().await?;
        let world = World::empty();
        let import = ["wallet", "import", "agent", "--kind", "secp256k1"];
        world.farthing_with(&import, DEVELOPMENT_KEYS[PAYER]).ok();
        let token = token(&chain).await;
        let upstream = echo().await.to_string();
        let fill = |text: &str| {
            text.replace("NODE", &chain.url)
                .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[PAYEE])
                .replace("TOKEN_ADDRESS", &token)
                .replace("TOTAL", total_max)
                .replace("LISTEN", &free_address().to_string())
                .replace("UPSTREAM", &upstream)
        };
        world.write("payee.key", DEVELOPMENT_KEYS[PAYEE]);
        world.write("home/wallet.toml", &fill(WALLET));
        let (config, bare) = (fill(GATEWAY), ["rail", "evm", "deploy-escrow"]);
        // Nothing can be bought before there is an escrow, and the command needs none.
        world.write("farthing.toml", &config.replace("SESSION\n", ""));
        let address = world.farthing(&[&bare[..], &["--key", "file:payee.key"]].concat()).ok();
        let address = address.trim_end();
        let session = format!(
            "[rails.evm.session]\nescrow = \"{address}\"\nkey = \"file:payee.key\"\n\
             gas_asset = \"eth\"\n{more}"
        );
        world.write("farthing.toml", &config.replace("SESSION\n", &session));
        let escrow = Escrow::new(Family::Evm, EVM_CHAIN_ID, address.parse().unwrap());
        Some(Self { chain, world, escrow })
    }

    /// What the escrow has told of the payee's channels, in order.
    async fn told(&self) -> Vec<Happened> {
        told(&self.chain.url, self.escrow).await
    }

    fn atoms(&self) -> u128 {
        let balance = self.world.farthing(&["wallet", "balance", "--json"]).json();
        balance["atoms"]["usd"].as_str().unwrap().parse().unwrap()
    }

    async fn mining(&self, on: bool) {
        ask(&self.chain.url, "evm_setAutomine", json!([on])).await;
        ask(&self.chain.url, "evm_setIntervalMining", json!([u8::from(on)])).await;
    }

    async fn wait(&self, seconds: u64) {
        ask(&self.chain.url, "evm_increaseTime", json!([seconds])).await;
        ask(&self.chain.url, "evm_mine", json!([])).await;
    }
}

/// S-14, EVS.C01, EVS.C03: many processes pay in one session on a chain of its own: the payer opens and tops up
/// by itself, and what it does not have any more, the seller's account and both books agree about, to the
/// atom. Receipts say on which chain.
#[tokio::test(flavor = "multi_thread")]
async fn one_opening_for_many_payments_on_an_evm_chain() {
    let Some(village) = Village::start("1", "").await else { return };
    let (shop, before) = (village.world.serve(), village.atoms());
    for round in 1..=7_u128 {
        let paid = village.world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
        assert!(paid.err.contains("paid 0.01 usd to 0x70997970C5"), "{}", paid.err);
        assert!(paid.ok().contains(&format!("GET /quote?round={round}")));
        assert_eq!(village.world.stand()[0].3, round * 10_000);
    }
    let told = village.told().await;
    assert!(opened(&told[0], 50_000), "{told:?}");
    assert!(matches!(told[1..], [Happened::ToppedUp { additional: 50_000, .. }]), "{told:?}");
    let receipts = village.world.farthing(&["wallet", "receipts", "--json"]).json();
    let receipt = &receipts[0]["receipt"];
    assert_eq!((receipt["method"].as_str(), &receipt["chainId"]), (Some("evm"), &json!(31_337)));
    let status = village.world.farthing(&["rail", "evm", "status", "--json"]).json();
    assert_eq!(status["session"]["grace_s"], 900);
    let closed = village.world.farthing(&["sessions", "close", "--all"]).ok();
    assert!(closed.contains("closed: 0.07 usd spent, 0.03 usd free again"), "{closed}");
    assert_eq!(village.atoms(), before - 70_000);
    assert_eq!(shop.stop().0, 0);
    village.world.verify(7);
    let balances = village.world.farthing(&["ledger", "balances", "--json"]).json();
    assert!(balances["payable/seller/usd"].to_string().contains("70000"), "{balances}");
    assert!(!balances["spent/fees/eth"].is_null(), "the gas of the close: {balances}");
}

/// EVS.S09, EVS.C01: a wallet without a coin for gas signs, where the seller sends what it has signed.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_without_coins_lets_the_seller_send() {
    let Some(village) = Village::start("1", "relays = true\n").await else { return };
    let broke = json!([DEVELOPMENT_ACCOUNTS[PAYER], "0x0"]);
    ask(&village.chain.url, "anvil_setBalance", broke).await;
    let (shop, before) = (village.world.serve(), village.atoms());
    for round in 1..=6 {
        village.world.pay(&[&shop.url(&format!("/quote?round={round}"))]).ok();
    }
    assert_eq!(village.world.stand(), [stands("open", 100_000, 60_000, 60_000)]);
    village.world.farthing(&["sessions", "close", "--all"]).ok();
    assert_eq!(village.atoms(), before - 60_000);
    drop(shop);
    village.world.verify(6);
    // The same wallet has nothing to pay with where it would have to send.
    let config = village.world.read("farthing.toml");
    village.world.write("farthing.toml", &config.replace("relays = true\n", ""));
    let shop = village.world.serve();
    let paid = village.world.pay(&[&shop.url("/quote?alone")]);
    assert_ne!(paid.code, 0, "{}", paid.err);
}

/// C-03, S-11: the answer to an opening is lost, and its sender is gone: the next command shows the same one
/// again. The deposit moved once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_opening_on_an_evm_chain_is_shown_again() {
    let Some(village) = Village::start("1", "").await else { return };
    let upstream = echo().await;
    village.world.sell(nowhere());
    let shop = village.world.serve();
    // The gateway took the voucher and cannot answer.
    village.world.pay(&[&shop.url("/quote?a")]).fails(5, "does not pay twice");
    assert_eq!(village.world.stand(), [stands("opening", 50_000, 10_000, 0)]);
    drop(shop);
    village.world.sell(upstream);
    let shop = village.world.serve();
    let answered = village.world.pay(&[&shop.url("/quote?a")]).ok();
    assert!(answered.contains("GET /quote?a"), "{answered}");
    assert_eq!(village.world.stand(), [stands("open", 50_000, 10_000, 10_000)]);
    assert_eq!(village.told().await.len(), 1);
    drop(shop);
    village.world.verify(1);
}

/// S-16, S-15: the seller is silent for good: the wallet asks the escrow for the rest, and takes it after the
/// seller's time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_leaves_a_silent_seller_on_an_evm_chain() {
    let Some(village) = Village::start("1", "").await else { return };
    let (shop, before) = (village.world.serve(), village.atoms());
    village.world.pay(&[&shop.url("/quote?a")]).ok();
    drop(shop);
    village.world.farthing(&["sessions", "close", "--all"]).fails(7, "cannot be reached");
    let force = ["sessions", "close", "--all", "--force"];
    let asked = village.world.farthing(&force).ok();
    assert!(asked.contains("leaving: 0.04 usd not back yet"), "{asked}");
    assert!(matches!(village.told().await[..], [_, Happened::CloseRequested { .. }]));
    village.world.farthing(&["sessions", "recover"]).ok();
    assert_eq!(village.told().await.len(), 2, "too early");
    village.wait(GRACE_S).await;
    let left = village.world.farthing(&["sessions", "recover"]).ok();
    assert!(left.contains("closed: 0.00 usd spent, 0.05 usd free again"), "{left}");
    assert_eq!(village.told().await[2], Happened::Closed { to_payee: 0, to_payer: 50_000 });
    assert_eq!(village.atoms(), before);
    village.world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

/// An opening that waits on the chain holds what it deposits, and frees it once it was overtaken.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_waits_is_overtaken() {
    let Some(village) = Village::start("0.05", "").await else { return };
    let shop = village.world.serve();
    village.mining(false).await;
    let mut paying = village.world.command(&["pay", &shop.url("/quote?a")]).spawn().unwrap();
    let waiting = async {
        while ask(&village.chain.url, "txpool_status", json!([])).await["pending"] == "0x0" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it is sent");
    paying.kill().unwrap();
    paying.wait().unwrap();
    assert_eq!(village.world.stand()[0].0, "opening");
    drop(shop);
    village.world.farthing(&["sessions", "close", "--all"]).fails(7, "cannot be reached");
    village.mining(true).await;
    let left = village.world.farthing(&["sessions", "close", "--all", "--force"]).ok();
    assert!(left.contains("closed: 0.00 usd spent, 0.05 usd free again"), "{left}");
    assert_eq!(village.told().await, [], "no opening was mined");
    let shop = village.world.serve();
    village.world.pay(&[&shop.url("/quote?b")]).ok();
    assert_eq!(village.world.stand()[0], stands("open", 50_000, 10_000, 10_000));
}
