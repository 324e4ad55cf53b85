//! A subscription with others, over HTTP and a chain: their buyer at our gateway.

use farthing_gateway::{Config, Gateway};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain,
};
use serde_json::{Value, json};

use crate::matrix::node_script;
use crate::mppx::{peers, upstream};
use crate::tempo::SECRET;

/// The account that sells, the one that buys, and the one that pays the network.
const SELLER: usize = 1;
const BUYER: usize = 2;
const SPONSOR: usize = 4;

/// What a day costs, in atoms.
const PRICE: u128 = 10_000;

async fn ask(node: &str, method: &str, params: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let sent = reqwest::Client::new().post(node);
    let sent = sent.header("content-type", "application/json").body(call.to_string());
    let answer = sent.send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["result"].clone()
}

/// What an account of this number holds of pathUSD.
async fn holds(chain: &TempoChain, number: usize) -> u128 {
    let data = format!("0x70a08231{:0>64}", &DEVELOPMENT_ACCOUNTS[number][2..]);
    let call = json!([{ "to": PATH_USD, "data": data }, "latest"]);
    let balance = ask(&chain.url, "eth_call", call).await;
    u128::from_str_radix(balance.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[rails.tempo]
chain_id = CHAIN_ID
nodes = ["NODE"]
recipient = "RECIPIENT"
tokens = { usd = "PATH_USD" }

[rails.tempo.sponsor]
key = "env:SPONSOR"
asset = "usd"
per_payer_per_day = "5"
total_per_day = "50"

[rails.tempo.subscription]
keys = ["env:SPONSOR"]
periods = 5

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast"
upstream = "api"
intents = ["subscription"]
subscription = { price = "0.01 usd", period = "1 day", plan = "forecasts" }
"#;

/// TSU.S03, TSU.S04, TSU.S08: a buyer of the official SDK subscribes with our gateway; it knows nothing but to
/// authorise again for each request, and is charged once for all of them.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_subscribes_with_our_gateway() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = CONFIG
        .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
        .replace("NODE", &chain.url)
        .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[SELLER])
        .replace("PATH_USD", PATH_USD)
        .replace("UPSTREAM", &upstream().await.to_string());
    let secret = |name: &str| match name {
        "SPONSOR" => Some(DEVELOPMENT_KEYS[SPONSOR].to_owned()),
        _ => Some(SECRET.to_owned()),
    };
    let config = Config::parse(&text, folder.path(), &secret);
    let shop = Gateway::start(&config.unwrap_or_else(|error| panic!("{error}"))).await.unwrap();
    let url = format!("http://localhost:{}/forecast", shop.address().port());
    let before = [holds(&chain, BUYER).await, holds(&chain, SELLER).await];
    let (mut buyer, file) = node_script(&peers, include_str!("../../npm/subscription-buyer.mjs"));
    let key = format!("0x{}", DEVELOPMENT_KEYS[BUYER]);
    buyer.args([&url, "3"]).env("RPC", &chain.url).env("KEY", key);
    let output = buyer.output().await.unwrap();
    drop(file);
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{said}{failed}");
    for line in &lines {
        assert_eq!(line["status"], 200, "{line}");
        assert!(line["body"].as_str().unwrap().contains("sunny"), "{line}");
        assert_eq!(line["receipt"]["subscriptionId"], lines[0]["receipt"]["subscriptionId"]);
        assert_eq!(line["receipt"]["reference"], lines[0]["receipt"]["reference"]);
    }
    let moved = [before[0] - holds(&chain, BUYER).await, holds(&chain, SELLER).await - before[1]];
    assert_eq!(moved, [PRICE, PRICE], "charged once for three requests");
    shop.stop().await;
    let journal = farthing_store_sqlite::Reader::open(&folder.path().join("book.db")).unwrap();
    let sound = farthing_ledger::audit(&journal.journal().unwrap()).unwrap();
    let account = "payable/forecasts-inc/usd".parse().unwrap();
    assert_eq!(sound.accounts.get(&account).map_or(0, |it| it.credits_posted), PRICE);
}
