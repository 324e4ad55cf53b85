//! The binary on both sides of a charge on Tempo, over a chain of its own.

use farthing_testkit::chain::{
    ALPHA_USD, DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain,
};
use serde_json::{Value, json};

use crate::world::{World, echo, free_address};

const GATEWAY: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[rails.prepaid]

[rails.tempo]
chain_id = CHAIN_ID
nodes = ["NODE"]
recipient = "RECIPIENT"
tokens = { usd = "PATH_USD" }

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
"#;

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

/// A gateway and a wallet that know the chain, and the wallet's key, which has money on it.
pub(crate) async fn set_up(chain: &TempoChain) -> World {
    let world = World::empty();
    let import = ["wallet", "import", "agent", "--kind", "secp256k1"];
    let account = world.farthing_with(&import, DEVELOPMENT_KEYS[2]).ok();
    assert_eq!(account.trim_end(), DEVELOPMENT_ACCOUNTS[2]);
    let fill = |text: &str| {
        text.replace("CHAIN_ID", &TEMPO_CHAIN_ID.to_string())
            .replace("NODE", &chain.url)
            .replace("RECIPIENT", DEVELOPMENT_ACCOUNTS[1])
            .replace("PATH_USD", PATH_USD)
    };
    world.write("home/wallet.toml", &fill(WALLET));
    world.write("farthing.toml", &fill(GATEWAY).replace("UPSTREAM", &echo().await.to_string()));
    world
}

pub(crate) fn atoms(world: &World) -> u128 {
    atoms_of(world, "usd")
}

fn atoms_of(world: &World, asset: &str) -> u128 {
    let balance = world.farthing(&["wallet", "balance", "--json"]).json();
    balance["atoms"][asset].as_str().unwrap().parse().unwrap()
}

pub(crate) async fn ask(chain: &TempoChain, method: &str, params: Value) -> Value {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    let sent = reqwest::Client::new().post(&chain.url);
    let sent = sent.header("content-type", "application/json").body(call.to_string());
    let answer = sent.send().await.unwrap().bytes().await.unwrap();
    serde_json::from_slice::<Value>(&answer).unwrap()["result"].clone()
}

/// Adds to the rail's settings.
pub(crate) fn add(world: &World, settings: &str) {
    let config = world.read("farthing.toml");
    world.write("farthing.toml", &config.replace("\n[seller]", &format!("{settings}\n[seller]")));
}

/// The story of a payment, as the gateway's answer names it.
fn trace(paid: &str) -> String {
    let line = paid.lines().find_map(|line| line.strip_prefix("farthing-trace: "));
    line.unwrap_or_else(|| panic!("{paid}")).trim().to_owned()
}

/// TCH.S01, TCH.S07: one command pays in stablecoins; the chain, the seller's book and the wallet's
/// agree about it.
#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_pays_the_gateway_on_tempo() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    let (shop, before) = (world.serve(), atoms(&world));
    let paid = world.pay(&["-i", &shop.url("/quote")]);
    assert!(paid.err.starts_with("farthing: paid 0.01 usd to 0x70997970C5"), "{}", paid.err);
    let text = paid.ok();
    assert!(text.contains("payment-receipt: ") && text.contains("GET /quote"), "{text}");
    let spent = before - atoms(&world);
    assert!((10_000..12_000).contains(&spent), "the price, and a little gas: {spent}");
    drop(shop);
    let balances = world.farthing(&["ledger", "balances"]).ok();
    assert!(balances.contains("payable/seller/usd"), "{balances}");
    world.farthing(&["ledger", "verify"]).ok();
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

/// The owner's rules hold on a chain too, and a chain that is not there is told apart.
#[tokio::test(flavor = "multi_thread")]
async fn the_owners_rules_hold_on_tempo() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    let (shop, before) = (world.serve(), atoms(&world));
    let quote = shop.url("/quote");
    world.pay(&["--max-amount", "0.009 usd", &quote]).fails(3, "the cap is 0.009 usd");
    let wallet = world.read("home/wallet.toml");
    world.write("home/wallet.toml", &wallet.replace(&chain.url, "http://127.0.0.1:1"));
    world.pay(&[&quote]).fails(1, "the rail cannot be reached; nothing was sent");
    world.farthing(&["wallet", "balance"]).fails(7, "no node of the chain answers");
    world.write("home/wallet.toml", &wallet.replace("chain_id = 42431", "chain_id = 4217"));
    world.pay(&[&quote]).fails(3, "no offer may be paid");
    world.write("home/wallet.toml", &wallet);
    assert_eq!(atoms(&world), before, "nothing was paid");
    world.pay(&[&quote]).ok();
}

/// An operator sees which nodes serve the chain, and a script can tell that none does.
#[tokio::test(flavor = "multi_thread")]
async fn the_rails_nodes_are_shown() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    let status = ["rail", "tempo", "status"];
    let text = world.farthing(&status).ok();
    assert!(text.contains("chain 42431, paid to 0x70997970C5"), "{text}");
    assert!(text.contains("127.0.0.1:") && text.contains("at block "), "{text}");
    let json = world.farthing(&["rail", "tempo", "status", "--json"]).json();
    assert_eq!(json["nodes"][0]["chain_id"], TEMPO_CHAIN_ID);
    let config = world.read("farthing.toml");
    let other = config.replace("chain_id = 42431", "chain_id = 4217");
    world.write("farthing.toml", &other);
    world.farthing(&status).fails(7, "no node serves the chain");
    world.write("farthing.toml", &config.replace(&chain.url, "http://127.0.0.1:1"));
    world.farthing(&status).fails(7, "no node serves the chain");
}

/// A wallet pays in the token it holds enough of, price and fee together, in the seller's order; and
/// nothing is taken for an offer that it cannot pay.
#[tokio::test(flavor = "multi_thread")]
async fn the_wallet_pays_in_the_token_it_holds() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    let two = |text: String| {
        let tokens = format!("tokens = {{ usd = \"{PATH_USD}\" }}");
        let both = format!("tokens = {{ usd = \"{PATH_USD}\", alpha = \"{ALPHA_USD}\" }}");
        text.replace(&tokens, &both).replace("\"0.01 usd\"", "[\"0.01 usd\", \"0.02 alpha\"]")
    };
    let gateway = two(world.read("farthing.toml"));
    let alpha = "[assets.alpha]\ndecimals = 6\n";
    world.write(
        "farthing.toml",
        &gateway.replace("[rails.prepaid]", &format!("{alpha}\n[rails.prepaid]")),
    );
    let wallet = two(world.read("home/wallet.toml"));
    let caps = format!("{alpha}per_payment_max = \"0.05\"\ntotal_max = \"1\"\n\n[tempo]");
    world.write("home/wallet.toml", &wallet.replace("[tempo]", &caps));
    let shop = world.serve();
    let quote = shop.url("/quote");
    let paid = |what: &str| {
        let paid = world.pay(&[&quote]);
        assert!(paid.err.starts_with(&format!("farthing: paid {what} to ")), "{}", paid.err);
        paid.ok();
    };
    paid("0.01 usd");
    // The price to the atom, and nothing for the fee.
    leave(&chain, DEVELOPMENT_ACCOUNTS[2], 10_000).await;
    let before = atoms_of(&world, "alpha");
    paid("0.02 alpha");
    leave(&chain, DEVELOPMENT_ACCOUNTS[2], 0).await;
    paid("0.02 alpha");
    let spent = before - atoms_of(&world, "alpha");
    assert!((40_000..45_000).contains(&spent), "two prices, and a little gas: {spent}");
    world.pay(&["--max-amount", "0.05 usd", &quote]).fails(3, "not enough money");
    leave(&chain, DEVELOPMENT_ACCOUNTS[2], 1_000_000).await;
    paid("0.01 usd");
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

/// Leaves an account this much of pathUSD. A TIP-20 token keeps balances in a mapping at slot 9.
pub(crate) async fn leave(chain: &TempoChain, account: &str, atoms: u64) {
    let key = format!("0x{:0>64}{:064x}", &account[2..], 9);
    let slot = ask(chain, "web3_sha3", json!([key])).await;
    let value = format!("0x{atoms:064x}");
    ask(chain, "anvil_setStorageAt", json!([PATH_USD, slot, value])).await;
}

/// Money is given back by one command, whether the gateway runs or not; once for each reference; and the
/// books and the chain agree about it.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_given_back_on_tempo() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    world.write("refunds.key", DEVELOPMENT_KEYS[6]);
    add(&world, "refund_key = \"file:refunds.key\"\n");
    let admin = free_address();
    let desk = format!("[admin]\nlisten = \"{admin}\"\ntoken = \"env:TOKEN\"\n\n[store]");
    world.write("farthing.toml", &world.read("farthing.toml").replace("[store]", &desk));
    let shop = world.serve();
    let trace = trace(&world.pay(&["-i", &shop.url("/quote")]).ok());
    let before = atoms(&world);
    let refund = |amount: &str, reference: &str| {
        let args = ["refund", &trace, "--amount", amount, "--reference", reference];
        world.farthing(&[&args[..], &["--reason", "it was the wrong city"]].concat())
    };
    for _ in 0..2 {
        let text = refund("0.004 usd", "first").ok();
        assert!(text.starts_with("0.004 usd given back, ref_"), "{text}");
    }
    assert_eq!(atoms(&world), before + 4_000);
    refund("0.007 usd", "second").fails(1, "no more can be given back than is left");
    let metrics = reqwest::get(format!("http://{admin}/metrics")).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for name in
        ["farthing_tempo_node_up{node=\"127.0.0.1", "farthing_tempo_refund_balance{asset=\"usd\"}"]
    {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        assert!(value.is_some_and(|value| value > 0), "{name}: {metrics}");
    }
    drop(shop);
    let text = refund("0.006 usd", "second").ok();
    assert!(text.starts_with("0.006 usd given back, ref_"), "{text}");
    assert_eq!(atoms(&world), before + 10_000);
    world.farthing(&["ledger", "verify"]).ok();
    let story = world.farthing(&["trace", &trace]).ok();
    assert!(story.contains("paid and given back"), "{story}");
}

/// An operator sees what pays the fees, what refunds are paid from, and what is pending; and a script can
/// tell that the sponsor's account is low.
#[tokio::test(flavor = "multi_thread")]
async fn the_rails_accounts_are_shown() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = set_up(&chain).await;
    world.write("refunds.key", DEVELOPMENT_KEYS[6]);
    world.write("sponsor.key", DEVELOPMENT_KEYS[4]);
    let sponsor = "[rails.tempo.sponsor]\nkey = \"file:sponsor.key\"\nasset = \"usd\"\n\
        per_payer_per_day = \"1\"\ntotal_per_day = \"10\"\nbalance_min = \"5\"\n";
    add(&world, &format!("settle_timeout_ms = 300\nrefund_key = \"file:refunds.key\"\n{sponsor}"));
    for (number, atoms) in [(4, 7_000_000), (6, 3_500_000)] {
        leave(&chain, DEVELOPMENT_ACCOUNTS[number], atoms).await;
    }
    let status = ["rail", "tempo", "status"];
    let text = world.farthing(&status).ok();
    let fees = format!("fees are paid by {}, which holds 7", DEVELOPMENT_ACCOUNTS[4]);
    let refunds = format!("refunds are paid by {}, which holds 3.5", DEVELOPMENT_ACCOUNTS[6]);
    assert!(text.contains(&fees) && text.contains(&refunds), "{text}");
    assert!(text.contains("0 pending"), "{text}");
    // It comes back at the same place.
    let place = format!("listen = \"{}\"", free_address());
    let config = world.read("farthing.toml").replace("listen = \"127.0.0.1:0\"", &place);
    world.write("farthing.toml", &config);
    let shop = world.serve();
    ask(&chain, "evm_setIntervalMining", json!([0])).await;
    ask(&chain, "evm_setAutomine", json!([false])).await;
    // Nobody knows, and the wallet keeps the credential.
    assert_ne!(world.pay(&[&shop.url("/quote")]).code, 0);
    drop(shop);
    let json = world.farthing(&["rail", "tempo", "status", "--json"]).json();
    assert_eq!(json["pending"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["pending"][0]["amount"], "0.01 usd");
    assert_eq!(json["refunds"]["balances"]["usd"], "3.50 usd", "{json}");
    // Once the chain goes on, a gateway that is started again finds out, and the wallet gets its answer.
    ask(&chain, "evm_mine", json!([])).await;
    let shop = world.serve();
    let answered = world.pay(&[&shop.url("/quote")]).ok();
    assert!(answered.contains("GET /quote"), "{answered}");
    drop(shop);
    assert_eq!(world.farthing(&["rail", "tempo", "status", "--json"]).json()["pending"], json!([]));
    leave(&chain, DEVELOPMENT_ACCOUNTS[4], 4_999_999).await;
    world.farthing(&status).fails(1, "the sponsor's account is low");
}
