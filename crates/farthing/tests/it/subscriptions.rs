//! A wallet and a gateway with a subscription between them, as processes.

use std::net::SocketAddr;

use serde_json::Value;

use crate::world::{WALLET, World, echo, free_address, gateway_toml, nowhere};

/// The usual gateway, which sells its quotes for 1.00 usd a month, and is managed.
fn selling_by_the_month(upstream: SocketAddr, admin: SocketAddr) -> String {
    let text = gateway_toml(upstream, "");
    let plan = "intents = [\"subscription\"]\nsubscription = { price = \"1.00 usd\", period = \"1 month\", plan = \"pro\" }";
    let admin = format!("\n[admin]\nlisten = \"{admin}\"\ntoken = \"env:TOKEN\"\n");
    text.replace("price = \"0.25 usd\"", plan) + &admin
}

/// A wallet that subscribes for up to 1.00 usd a period, within `total_max` in all.
fn set_up(upstream: SocketAddr, total_max: &str) -> World {
    let world = World::set_up(upstream);
    world.write("farthing.toml", &selling_by_the_month(upstream, free_address()));
    let total = format!("total_max = \"{total_max}\"\nsubscription_max = \"1.00\"");
    world.write("home/wallet.toml", &WALLET.replace("total_max = \"3.00\"", &total));
    world
}

fn subscriptions(world: &World) -> Vec<Value> {
    let listed = world.farthing(&["subscriptions", "list", "--all", "--json"]).json();
    listed.as_array().unwrap().clone()
}

fn sold(world: &World) -> Vec<Value> {
    let listed = world.farthing(&["subscriptions", "list", "--seller", "--all", "--json"]).json();
    listed.as_array().unwrap().clone()
}

fn earned(world: &World) -> String {
    let balances = world.farthing(&["ledger", "balances", "--json"]).json();
    balances["payable/seller/usd"].to_string()
}

/// SUB.S01, SUB.C01: many processes ask within one subscription, which is charged once; its payer is told
/// what follows, and cancels it.
#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_subscription_until_it_is_cancelled() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    let first = world.pay(&[&shop.url("/quote?round=1")]);
    assert!(first.err.contains("subscribed: 1.00 usd to seller now"), "{}", first.err);
    assert!(first.err.contains("without asking"), "{}", first.err);
    assert_eq!(first.ok().trim_end(), "GET /quote?round=1");
    for round in 2..=4 {
        let asked = world.pay(&[&shop.url(&format!("/quote?round={round}"))]);
        assert!(asked.err.contains("asked within subscription sub_"), "{}", asked.err);
        assert_eq!(asked.ok().trim_end(), format!("GET /quote?round={round}"));
    }
    let all = subscriptions(&world);
    assert_eq!(all.len(), 1, "one subscription for all of them");
    assert_eq!((&all[0]["state"], &all[0]["charges"]), (&"active".into(), &1.into()));
    // 3.00 usd are three months of it.
    assert_eq!(all[0]["periods"], 3);
    let id = all[0]["id"].as_str().unwrap().to_owned();
    let listed = world.farthing(&["subscriptions", "list"]).ok();
    assert!(listed.contains(&id) && listed.contains("1.00 usd each 1 month"), "{listed}");
    let shown = world.farthing(&["subscriptions", "show", &id[..12]]).ok();
    assert!(shown.contains("1 of at most 3 times"), "{shown}");
    let theirs = sold(&world);
    assert_eq!((&theirs[0]["state"], &theirs[0]["charges"]), (&"active".into(), &1.into()));
    assert_eq!(theirs[0]["subscription"], id.as_str());
    let shown = world.farthing(&["subscriptions", "show", &id[..12], "--seller"]).ok();
    assert!(shown.contains("plan          pro"), "{shown}");

    let cancelled = world.farthing(&["subscriptions", "cancel", &id]).ok();
    assert!(cancelled.contains("cancelled: 1.00 usd charged"), "{cancelled}");
    world.farthing(&["subscriptions", "cancel", &id]).ok();
    assert_eq!(sold(&world)[0]["state"], "cancelled");
    // What is paid for is served.
    world.pay(&[&shop.url("/quote?round=5")]).ok();
    let (code, _) = shop.stop();
    assert_eq!(code, 0);
    world.farthing(&["ledger", "verify"]).ok();
    assert!(earned(&world).contains("100"), "{}", earned(&world));
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    let receipts = receipts.as_array().unwrap();
    assert_eq!(receipts.len(), 5);
    assert!(receipts.iter().all(|it| it["receipt"]["subscriptionId"] == id.as_str()));
}

/// SUB.C02: nothing is subscribed to that the wallet's owner has not allowed, by the period and in all.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_subscribes_within_its_owners_rules() {
    let world = set_up(echo().await, "0.99");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).fails(3, "total cap");
    world.write("home/wallet.toml", &WALLET.replace("0.50", "5.00"));
    world.pay(&[&shop.url("/quote?a")]).fails(3, "subscription_max");
    let low = WALLET.replace("total_max", "subscription_max = \"0.99\"\ntotal_max");
    world.write("home/wallet.toml", &low);
    world.pay(&[&shop.url("/quote?a")]).fails(3, "subscription_max");
    assert!(subscriptions(&world).is_empty());
    assert!(sold(&world).is_empty(), "nothing was signed");
    world.write("home/wallet.toml", &low.replace("0.99", "1.00"));
    world.pay(&[&shop.url("/quote?a")]).ok();
}

/// What is cancelled is not held any more: the rest of the cap is free again.
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_frees_what_was_held() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let held = || {
        let balances = world.farthing(&["ledger", "balances", "--wallet", "--json"]).json();
        balances.to_string()
    };
    assert!(held().contains("300"), "{}", held());
    let id = subscriptions(&world)[0]["id"].as_str().unwrap().to_owned();
    world.farthing(&["subscriptions", "cancel", &id]).ok();
    assert!(!held().contains("300") && held().contains("100"), "{}", held());
}

/// SUB.S07: the seller cancels, at a running gateway: what is paid for is served, and nothing is charged.
#[tokio::test(flavor = "multi_thread")]
async fn a_seller_cancels_at_a_running_gateway() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let id = sold(&world)[0]["subscription"].as_str().unwrap().to_owned();
    let cancelled = world.farthing(&["subscriptions", "cancel", &id[..12], "--seller"]).ok();
    assert!(cancelled.contains("cancelled: charged 1 times"), "{cancelled}");
    world.pay(&[&shop.url("/quote?b")]).ok();
    world
        .farthing(&["subscriptions", "cancel", "sub_none", "--seller"])
        .fails(2, "no subscription");
    shop.stop();
    // The same with the gateway stopped.
    let again = world.farthing(&["subscriptions", "cancel", &id, "--seller"]).ok();
    assert!(again.contains("cancelled: charged 1 times"), "{again}");
    assert!(earned(&world).contains("100"), "{}", earned(&world));
}

/// SUB.S04: the seller crashes and comes back: the subscription goes on, and is not charged again.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_goes_on_after_the_seller_crashed() {
    let world = set_up(echo().await, "3.00");
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?a")]).ok();
    let port = shop.url.rsplit(':').next().unwrap().to_owned();
    shop.kill();
    let text = world.read("farthing.toml");
    world.write("farthing.toml", &text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
    let shop = world.serve();
    world.pay(&[&shop.url("/quote?b")]).ok();
    assert_eq!((subscriptions(&world).len(), sold(&world)[0]["charges"].clone()), (1, 1.into()));
    shop.stop();
    assert!(earned(&world).contains("100"), "{}", earned(&world));
    world.farthing(&["ledger", "verify"]).ok();
}

/// SUB.S04: an answer that was lost is asked for with the same credential: one subscription, one charge.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_begins_no_second_subscription() {
    let world = set_up(nowhere(), "3.00");
    let shop = world.serve();
    // The upstream is gone: the gateway took the credential and cannot answer.
    world.pay(&[&shop.url("/quote?a")]);
    let port = shop.url.rsplit(':').next().unwrap().to_owned();
    shop.stop();
    let text = selling_by_the_month(echo().await, free_address());
    world.write("farthing.toml", &text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
    let shop = world.serve();
    assert_eq!(world.pay(&[&shop.url("/quote?a")]).ok().trim_end(), "GET /quote?a");
    assert_eq!(world.pay(&[&shop.url("/quote?b")]).ok().trim_end(), "GET /quote?b");
    assert_eq!(subscriptions(&world).len(), 1);
    let theirs = sold(&world);
    assert_eq!((theirs.len(), &theirs[0]["charges"]), (1, &1.into()));
    assert!(earned(&world).contains("100"), "{}", earned(&world));
}
