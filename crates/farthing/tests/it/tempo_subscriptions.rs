//! Subscriptions on Tempo, as processes: a wallet, a gateway, and a chain that holds a key between them.

use farthing_testkit::chain::{DEVELOPMENT_KEYS, TempoChain};
use serde_json::Value;

use crate::tempo::{add, atoms, set_up};
use crate::world::World;

/// Who pays the network's fees.
const SPONSOR: usize = 4;

/// A gateway that sells its quotes for 0.01 usd a day, and a wallet that subscribes for so much.
async fn selling(chain: &TempoChain, periods: u32) -> World {
    let world = set_up(chain).await;
    world.write("sponsor.key", DEVELOPMENT_KEYS[SPONSOR]);
    world.write("subscription.key", &"5a".repeat(32));
    let settings = format!(
        "[rails.tempo.sponsor]\nkey = \"file:sponsor.key\"\nasset = \"usd\"\n\
         per_payer_per_day = \"5\"\ntotal_per_day = \"50\"\n\
         [rails.tempo.subscription]\nkeys = [\"file:subscription.key\"]\nperiods = {periods}\n"
    );
    add(&world, &settings);
    let plan = "intents = [\"subscription\"]\n\
        subscription = { price = \"0.01 usd\", period = \"1 day\", plan = \"pro\" }";
    let config = world.read("farthing.toml").replace("price = \"0.01 usd\"", plan);
    world.write("farthing.toml", &config);
    let wallet = world.read("home/wallet.toml");
    let caps = "total_max = \"1\"\nsubscription_max = \"0.01\"";
    world.write("home/wallet.toml", &wallet.replace("total_max = \"1\"", caps));
    world
}

fn subscriptions(world: &World) -> Vec<Value> {
    let listed = world.farthing(&["subscriptions", "list", "--all", "--json"]).json();
    listed.as_array().unwrap().clone()
}

fn sold(world: &World) -> Value {
    let listed = world.farthing(&["subscriptions", "list", "--seller", "--all", "--json"]).json();
    listed.as_array().unwrap()[0].clone()
}

/// SUB.S01, TSU.S05, TSU.S08: many processes ask within one subscription on the chain, which is charged once and
/// whose fee the seller pays; its payer takes the key back on the chain and tells the seller.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_on_the_chain_is_shared_and_cancelled() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = selling(&chain, 12).await;
    let (shop, before) = (world.serve(), atoms(&world));
    let first = world.pay(&[&shop.url("/quote?round=1")]);
    assert!(first.err.contains("subscribed: 0.01 usd to 0x70997970c5"), "{}", first.err);
    assert_eq!(first.ok().trim_end(), "GET /quote?round=1");
    for round in 2..=3 {
        let asked = world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
        assert!(asked.err.contains("asked within subscription sub_"), "{}", asked.err);
        asked.ok();
    }
    assert_eq!(before - atoms(&world), 10_000, "the price, and not a fee");
    let all = subscriptions(&world);
    assert_eq!(all.len(), 1);
    assert_eq!((&all[0]["periods"], &all[0]["charges"]), (&12.into(), &1.into()));
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let cancelled = world.farthing(&["subscriptions", "cancel", &id]).ok();
    assert!(cancelled.contains("cancelled: 0.01 usd charged"), "{cancelled}");
    let fee = before - atoms(&world) - 10_000;
    assert!((1..10_000).contains(&fee), "taking it back costs a fee: {fee}");
    world.farthing(&["subscriptions", "cancel", &id]).ok();
    world.pay(&[&shop.url("/quote?round=4")]).ok();
    assert_eq!(shop.stop().0, 0);
    assert_eq!(sold(&world)["state"], "cancelled");
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    let receipts = receipts.as_array().unwrap();
    assert!(receipts.iter().all(|it| it["receipt"]["subscriptionId"] == id.as_str()));
    let hash = receipts[0]["receipt"]["reference"].as_str().unwrap();
    assert!(hash.starts_with("0x") && hash.len() == 66, "{hash}");
    world.farthing(&["ledger", "verify"]).ok();
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
    let balances = world.farthing(&["ledger", "balances"]).ok();
    assert!(balances.contains("spent/fees/usd"), "{balances}");
}

/// A wallet needs no seller to end a subscription: the chain takes the key back.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_leaves_a_seller_who_is_silent() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = selling(&chain, 12).await;
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    drop(shop);
    let id = subscriptions(&world)[0]["id"].as_str().unwrap().to_owned();
    let cancelled = world.farthing(&["subscriptions", "cancel", &id]).ok();
    assert!(cancelled.contains("cancelled: 0.01 usd charged"), "{cancelled}");
    assert_eq!(subscriptions(&world)[0]["state"], "cancelled");
}

/// SUB.C02: what a seller wants to be authorised for longer than the owner allows is not subscribed to.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_authorises_no_longer_than_its_owner_allows() {
    let Some(chain) = TempoChain::start(None).await else { return };
    let world = selling(&chain, 13).await;
    let (shop, before) = (world.serve(), atoms(&world));
    world.pay(&[&shop.url("/quote")]).fails(3, "");
    assert_eq!(atoms(&world), before);
    assert!(subscriptions(&world).is_empty(), "nothing was signed");
    let wallet = world.read("home/wallet.toml");
    let longer = "subscription_max = \"0.01\"\nsubscription_periods_max = 13";
    world.write("home/wallet.toml", &wallet.replace("subscription_max = \"0.01\"", longer));
    world.pay(&[&shop.url("/quote")]).ok();
}
