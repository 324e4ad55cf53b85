//! The binary on both sides of a charge on Tempo, over a chain of its own.

use farthing_testkit::chain::{
    DEVELOPMENT_ACCOUNTS, DEVELOPMENT_KEYS, PATH_USD, TEMPO_CHAIN_ID, TempoChain,
};

use crate::world::{World, echo};

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
async fn set_up(chain: &TempoChain) -> World {
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

fn atoms(world: &World) -> u128 {
    let balance = world.farthing(&["wallet", "balance", "--json"]).json();
    balance["atoms"]["usd"].as_str().unwrap().parse().unwrap()
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
