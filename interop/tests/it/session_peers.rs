//! Sessions with others, over HTTP and a chain: our wallet at their sellers, and their buyers at our gateway.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use farthing_gateway::{Config, Gateway};
use farthing_money::Amount;
use farthing_rail_tempo::session::{
    Escrow, Family, Happened, RESERVE, Watch, creation_code, deploy,
};
use farthing_rail_tempo::{Nodes, Token};
use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain, development_key,
};
use farthing_wallet::{PayOptions, PayRequest, Wallet, WalletSessionState};
use mpp::client::{Fetch as _, TempoSessionProvider};
use mpp::server::axum::PaymentRequired;
use mpp::server::{
    Mpp, SessionChallengeOptions, SessionChannelStore, SessionMethodConfig, TempoChargeMethod,
    TempoProvider, TempoSessionMethod, deduct_from_channel, tempo_provider,
};
use serde_json::{Value, json};

use crate::matrix::{Script, node_script};
use crate::mppx::{peers, upstream};
use crate::tempo::{SECRET, wallet};

/// The account that sells, and the one that buys.
const SELLER: usize = 1;
const BUYER: usize = 2;

/// What a request costs, in atoms.
const PRICE: u128 = 10_000;

async fn ask(node: &str, method: &str, params: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let sent = reqwest::Client::new().post(node);
    let sent = sent.header("content-type", "application/json").body(call.to_string());
    let answer = sent.send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["result"].clone()
}

fn nodes(chain: &TempoChain) -> Arc<Nodes> {
    let urls = vec![chain.url.parse().unwrap()];
    Arc::new(Nodes::new(TEMPO_CHAIN_ID, urls, Duration::from_secs(10)).unwrap())
}

/// Puts an escrow of ours on the chain.
async fn escrow(chain: &TempoChain) -> Escrow {
    assert!(creation_code(Family::TempoV1).is_some());
    let asset = farthing_money::Asset::new("usd".parse().unwrap(), 6).unwrap();
    let token = Token { asset, address: PATH_USD.parse().unwrap() };
    deploy(&nodes(chain), &development_key(SELLER), &token).await.unwrap().escrow
}

/// What an escrow has told of the seller's channels, in order.
async fn told(chain: &TempoChain, escrow: Escrow) -> Vec<Happened> {
    let payee = DEVELOPMENT_ACCOUNTS[SELLER].parse().unwrap();
    let mut watch = Watch::new(nodes(chain), escrow, payee, 0);
    watch.look().await.unwrap().events.iter().map(|it| it.event.what).collect()
}

/// One opening, and one close that paid this much and gave the rest back.
fn assert_lived(told: &[Happened], deposit: u128, paid: u128) {
    let [Happened::Opened { deposit: opened, .. }, last] = told else { panic!("{told:?}") };
    assert_eq!(*opened, deposit);
    assert_eq!(*last, Happened::Closed { to_payee: paid, to_payer: deposit - paid });
}

/// A wallet of ours, which may deposit 0.05 at once.
fn our_wallet(folder: &std::path::Path, chain: &TempoChain) -> Wallet {
    let mut wallet = wallet(folder, chain, BUYER);
    wallet.rules.session_deposit.insert("usd".parse().unwrap(), 50_000);
    wallet
}

/// Buys three times in a session and closes it.
async fn buy_in_a_session(wallet: &Wallet, url: &str) {
    for time in 1..=3_u128 {
        let request = PayRequest {
            method: reqwest::Method::GET,
            url: format!("{url}?time={time}").parse().unwrap(),
            fields: HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let outcome = wallet.pay(&request, &PayOptions::default()).await;
        let outcome = outcome.unwrap_or_else(|error| panic!("{url}: {error}"));
        let body = String::from_utf8_lossy(&outcome.body).into_owned();
        assert_eq!(outcome.status, 200, "{body}");
        assert!(body.contains("sunny"), "{body}");
        let paid = outcome.paid.unwrap();
        assert_eq!(paid.amount.as_ref().map(Amount::atoms), Some(PRICE));
        let receipt = paid.receipt.expect("a receipt");
        assert_eq!(receipt["spent"], (time * PRICE).to_string(), "{receipt:?}");
        let sessions = wallet.memory.sessions().unwrap();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].spent.atoms(), time * PRICE);
        // What buys has to advance, with some sellers from what the opening has authorised.
        assert!(sessions[0].signed.atoms() - time * PRICE <= 1, "{:?}", sessions[0].signed);
    }
    let channel = wallet.memory.sessions().unwrap()[0].channel.clone();
    let closed = wallet.close_session(&channel).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((closed.state, closed.spent.atoms()), (WalletSessionState::Closed, 3 * PRICE));
}

// --- mppx as a seller --------------------------------------------------------------------------

/// Puts our stand-in where the chain's reserve would be, and lets the buyer's tokens into it.
async fn stand_in(chain: &TempoChain) -> Escrow {
    let compiled = include_str!("../../../contracts/artifacts/ReserveStandIn.json");
    let compiled: Value = serde_json::from_str(compiled).unwrap();
    let code = format!("0x{}", compiled["runtime"].as_str().unwrap());
    ask(&chain.url, "anvil_setCode", json!([RESERVE.to_string(), code])).await;
    let approve = format!("0x095ea7b3{:0>64}{}", &RESERVE.to_string()[2..], "f".repeat(64));
    let approve = json!([{
        "from": DEVELOPMENT_ACCOUNTS[BUYER], "to": PATH_USD, "data": approve, "gas": "0x200000",
    }]);
    ask(&chain.url, "eth_sendTransaction", approve).await;
    Escrow::new(Family::TempoV2, TEMPO_CHAIN_ID, RESERVE)
}

/// Stands in front of a seller, and tells the stand-in which transaction is about to open a channel.
async fn front(seller: String, node: String) -> String {
    let pass = move |request: Request| {
        let (seller, node) = (seller.clone(), node.clone());
        async move { foretell(&seller, &node, request).await }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(pass)).await });
    url
}

async fn foretell(seller: &str, node: &str, request: Request) -> Response {
    let (head, _) = request.into_parts();
    let line = head.headers.get("authorization").map(|it| it.to_str().unwrap());
    if let Some(token) = line.and_then(|line| line.strip_prefix("Payment ")) {
        let credential = farthing_mpp::base64url::decode(token).unwrap();
        let credential: Value = serde_json::from_slice(&credential).unwrap();
        let payload = &credential["payload"];
        if payload["action"] == "open" {
            let descriptor = &payload["descriptor"];
            let payer = &descriptor["payer"].as_str().unwrap()[2..];
            let key = json!([format!("0x{payer:0>64}{:064}", 0)]);
            let slot = ask(node, "web3_sha3", key).await;
            let set = json!([RESERVE.to_string(), slot, descriptor["expiringNonceHash"]]);
            ask(node, "anvil_setStorageAt", set).await;
        }
    }
    let url = format!("{seller}{}", head.uri);
    let mut fields = head.headers.clone();
    fields.remove("host");
    let answer = reqwest::Client::new().request(head.method, url).headers(fields).send();
    let answer = answer.await.unwrap();
    let (status, mut fields) = (answer.status(), answer.headers().clone());
    fields.remove("transfer-encoding");
    fields.remove("content-length");
    (status, fields, answer.bytes().await.unwrap()).into_response()
}

/// TSE.S01, TSE.S07, S-14: our wallet opens a session of version 2 with a seller of the official SDK, pays,
/// and closes; the seller hands the opening over and settles what was spent. A stand-in of ours is where
/// the chain's reserve would be.
#[tokio::test(flavor = "multi_thread")]
async fn our_wallet_pays_in_a_session_of_mppx() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = stand_in(&chain).await;
    let (mut shim, file) = node_script(&peers, include_str!("../../npm/shim.mjs"));
    shim.env("RPC", &chain.url);
    let shim = Script::start(shim, Some(file)).await;
    let (mut seller, file) = node_script(&peers, include_str!("../../npm/session-seller.mjs"));
    let key = format!("0x{}", DEVELOPMENT_KEYS[SELLER]);
    seller.env("RPC", &shim.said).env("KEY", key).env("SECRET", SECRET);
    let seller = Script::start(seller, Some(file)).await;
    let front = front(seller.said.clone(), chain.url.clone()).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = our_wallet(folder.path(), &chain);
    buy_in_a_session(&wallet, &format!("{front}/paid")).await;
    assert_lived(&told(&chain, escrow).await, 50_000, 3 * PRICE);
}

// --- the crate as a seller ---------------------------------------------------------------------

struct Sessions {
    mpp: Mpp<TempoChargeMethod<TempoProvider>, TempoSessionMethod<TempoProvider>>,
    channels: Arc<SessionChannelStore>,
}

/// A seller of sessions of version 1 written with the `mpp` crate.
async fn crate_seller(node: &str, escrow: Escrow) -> String {
    let channels = Arc::new(SessionChannelStore::new());
    let config = SessionMethodConfig {
        escrow_contract: escrow.address.to_string().parse().unwrap(),
        chain_id: TEMPO_CHAIN_ID,
        min_voucher_delta: 0,
    };
    let provider = tempo_provider(node).unwrap();
    let signer: mpp::PrivateKeySigner = DEVELOPMENT_KEYS[SELLER].parse().unwrap();
    let method = TempoSessionMethod::new(provider.clone(), channels.clone(), config);
    let method = method.with_close_signer(signer);
    let mpp = Mpp::new(TempoChargeMethod::new(provider), "localhost", SECRET);
    let sessions = Arc::new(Sessions { mpp: mpp.with_session_method(method), channels });
    let router = Router::new().route("/paid", any(sell)).with_state(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

async fn sell(State(seller): State<Arc<Sessions>>, fields: HeaderMap) -> Response {
    let challenge = || {
        let options = SessionChallengeOptions { unit_type: Some("request"), ..Default::default() };
        let (price, payee) = (PRICE.to_string(), DEVELOPMENT_ACCOUNTS[SELLER]);
        let made = seller.mpp.session_challenge_with_details(&price, PATH_USD, payee, options);
        PaymentRequired(made.unwrap()).into_response()
    };
    let credential = fields.get("authorization").and_then(|value| value.to_str().ok());
    let credential = credential.and_then(|line| mpp::parse_authorization(line).ok());
    let Some(credential) = credential else { return challenge() };
    let verified = match seller.mpp.verify_session(&credential).await {
        Ok(verified) => verified,
        Err(error) => {
            eprintln!("the crate refuses: {error}");
            return challenge();
        }
    };
    let mut receipt = verified.receipt;
    if let Some(managed) = verified.management_response {
        let fields = [("payment-receipt", mpp::format_receipt(&receipt).unwrap())];
        return (StatusCode::OK, fields, managed.to_string()).into_response();
    }
    match deduct_from_channel(&*seller.channels, &receipt.reference, PRICE).await {
        Ok(state) => {
            receipt.extensions.insert("spent".into(), state.spent.to_string().into());
            let fields = [("payment-receipt", mpp::format_receipt(&receipt).unwrap())];
            (fields, "sunny").into_response()
        }
        Err(error) => {
            eprintln!("the crate refuses: {error}");
            challenge()
        }
    }
}

/// TSE.S04, S-14: our wallet opens a session of version 1 with a seller of the `mpp` crate, whose answer to
/// an opening is not what was asked for; it asks again, pays twice more, and closes.
#[tokio::test(flavor = "multi_thread")]
async fn our_wallet_pays_in_a_session_of_the_crate() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = escrow(&chain).await;
    let url = crate_seller(&chain.url, escrow).await;
    let folder = tempfile::tempdir().unwrap();
    let wallet = our_wallet(folder.path(), &chain);
    buy_in_a_session(&wallet, &format!("{url}/paid")).await;
    assert_lived(&told(&chain, escrow).await, 50_000, 3 * PRICE);
}

// --- others as buyers --------------------------------------------------------------------------

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

[rails.tempo.session]
escrow = "ESCROW"
key = "env:PAYEE"
fee_asset = "usd"

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET", "POST"]
path = "/forecast"
upstream = "api"
price = "0.01 usd"
intents = ["session"]
session = { unit = "request", deposit = "0.05 usd" }
"#;

/// A gateway of ours that sells in sessions of version 1.
async fn our_shop(chain: &TempoChain, escrow: Escrow, folder: &std::path::Path) -> Gateway {
    let upstream = upstream().await;
    our_shop_of(CONFIG, upstream, chain, escrow, folder).await
}

/// The same, of something else.
async fn our_shop_of(
    config: &str,
    upstream: std::net::SocketAddr,
    chain: &TempoChain,
    escrow: Escrow,
    folder: &std::path::Path,
) -> Gateway {
    let text = config
        .replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
        .replace("NODE", &chain.url)
        .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[SELLER])
        .replace("PATH_USD", PATH_USD)
        .replace("ESCROW", &escrow.address.to_string())
        .replace("UPSTREAM", &upstream.to_string());
    let secret = |name: &str| match name {
        "PAYEE" => Some(DEVELOPMENT_KEYS[SELLER].to_owned()),
        _ => Some(SECRET.to_owned()),
    };
    let config = Config::parse(&text, folder, &secret);
    Gateway::start(&config.unwrap_or_else(|error| panic!("{error}"))).await.unwrap()
}

/// The books of a shop that was closed are sound, and say this was earned.
async fn assert_earned(shop: Gateway, folder: &std::path::Path, atoms: u128) {
    shop.stop().await;
    let book = folder.join("book.db");
    let journal = farthing_store_sqlite::Reader::open(&book).unwrap().journal().unwrap();
    let sound = farthing_ledger::audit(&journal).unwrap();
    let account = "payable/forecasts-inc/usd".parse().unwrap();
    assert_eq!(sound.accounts.get(&account).map_or(0, |it| it.credits_posted), atoms);
}

/// TSE.S04, S-14: a buyer of the `mpp` crate opens a session with our gateway, pays three times and closes.
#[tokio::test(flavor = "multi_thread")]
async fn the_crate_pays_in_a_session_of_ours() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = escrow(&chain).await;
    let folder = tempfile::tempdir().unwrap();
    let shop = our_shop(&chain, escrow, folder.path()).await;
    let url = format!("http://localhost:{}/forecast", shop.address().port());
    let signer: mpp::PrivateKeySigner = DEVELOPMENT_KEYS[BUYER].parse().unwrap();
    let provider = TempoSessionProvider::new(signer, &chain.url).unwrap();
    let provider = provider
        .with_allow_custom_escrow(true)
        .with_fee_token(PATH_USD.parse().unwrap())
        .with_max_deposit(50_000);
    let client = reqwest::Client::new();
    for time in 1..=3_u128 {
        let request = client.get(format!("{url}?time={time}"));
        let sent = request.header("accept-payment", "tempo/session").send_with_payment(&provider);
        let answer = Box::pin(sent).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(answer.status(), 200);
        let receipt = answer.headers()["payment-receipt"].to_str().unwrap().to_owned();
        let receipt = mpp::parse_receipt(&receipt).unwrap();
        let receipt = serde_json::to_value(receipt).unwrap();
        assert_eq!(receipt["spent"], (time * PRICE).to_string(), "{receipt}");
        assert!(answer.text().await.unwrap().contains("sunny"));
    }
    provider.close(&client, &url).await.unwrap_or_else(|error| panic!("{error}"));
    assert_lived(&told(&chain, escrow).await, 50_000, 3 * PRICE);
    assert_earned(shop, folder.path(), 3 * PRICE).await;
}

/// TSE.S04, S-14: a buyer of the official SDK opens a session of version 1 with our gateway, pays three
/// times and closes.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_pays_in_a_session_of_ours() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = escrow(&chain).await;
    let (mut shim, file) = node_script(&peers, include_str!("../../npm/shim.mjs"));
    shim.env("RPC", &chain.url);
    let shim = Script::start(shim, Some(file)).await;
    let folder = tempfile::tempdir().unwrap();
    let shop = our_shop(&chain, escrow, folder.path()).await;
    let url = format!("http://localhost:{}/forecast", shop.address().port());
    let (mut buyer, file) = node_script(&peers, include_str!("../../npm/session-buyer.mjs"));
    let key = format!("0x{}", DEVELOPMENT_KEYS[BUYER]);
    buyer.args([&url, "3"]).env("RPC", &shim.said).env("KEY", key);
    let output = buyer.output().await.unwrap();
    drop(file);
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4, "{said}{failed}");
    for (time, line) in (1_u128..).zip(&lines[..3]) {
        assert_eq!(line["status"], 200, "{line}");
        assert!(line["body"].as_str().unwrap().contains("sunny"), "{line}");
        assert_eq!(line["receipt"]["spent"], (time * PRICE).to_string(), "{line}");
    }
    assert_lived(&told(&chain, escrow).await, 50_000, 3 * PRICE);
    assert_earned(shop, folder.path(), 3 * PRICE).await;
}

/// S-13, S-14: a buyer of the official SDK pays for a stream of ours as it comes: it is asked for a voucher
/// whenever its money ends, sends it while the stream is open, and each event costs one unit.
#[tokio::test(flavor = "multi_thread")]
async fn mppx_pays_for_a_stream_of_ours() {
    let Some(peers) = peers() else { return };
    let Some(chain) = TempoChain::start(None).await else { return };
    let escrow = escrow(&chain).await;
    let events = [1, 2, 3, 4].map(|at| format!("data: event {at}\n\n")).concat();
    let router = Router::new().fallback(move || {
        let events = events.clone();
        async move { ([("content-type", "text/event-stream")], events) }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let up = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (mut shim, file) = node_script(&peers, include_str!("../../npm/shim.mjs"));
    shim.env("RPC", &chain.url);
    let shim = Script::start(shim, Some(file)).await;
    let folder = tempfile::tempdir().unwrap();
    // Its vouchers come by POST, which buys nothing where nothing is sold by it.
    let metered = CONFIG
        .replace("methods = [\"GET\", \"POST\"]", "methods = [\"GET\"]")
        .replace("unit = \"request\"", "unit = \"event\"")
        + "meter = { measure = \"events\", wait_s = 20 }\n";
    let shop = our_shop_of(&metered, up, &chain, escrow, folder.path()).await;
    let url = format!("http://localhost:{}/forecast", shop.address().port());
    let (mut buyer, file) = node_script(&peers, include_str!("../../npm/session-streamer.mjs"));
    let key = format!("0x{}", DEVELOPMENT_KEYS[BUYER]);
    buyer.arg(&url).env("RPC", &shim.said).env("KEY", key);
    let output = buyer.output().await.unwrap();
    drop(file);
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6, "{said}{failed}");
    for (at, line) in lines[..4].iter().enumerate() {
        assert_eq!(line["event"], format!("event {}", at + 1));
    }
    assert_eq!(lines[4]["receipt"]["spent"], (4 * PRICE).to_string(), "{said}");
    assert_lived(&told(&chain, escrow).await, 50_000, 4 * PRICE);
    assert_earned(shop, folder.path(), 4 * PRICE).await;
}
