//! Several gateways on one book in PostgreSQL: they sell as one, and the loss of any loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use farthing_testkit::postgres::Cluster;
use serde_json::Value;

use crate::world::{Serving, World, echo, gateway_toml};

/// Two gateways' worth of configuration around one database.
async fn shared() -> World {
    let (upstream, url) = (echo().await, Cluster::shared().new_database());
    let world = World::set_up(upstream);
    let store = "postgres = \"env:DATABASE\"\nbook = \"shop\"\nlease_ttl_ms = 1000";
    let toml = gateway_toml(upstream, "").replace("sqlite = \"book.db\"", store);
    world.write("farthing.toml", &toml);
    world.write("database", &url);
    let did = world.did();
    world.farthing(&["prepaid", "attach", &did, "agent-inc"]).ok();
    let fund = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "first"];
    world.farthing(&fund).ok();
    world
}

/// A request and what came of it: its status, and whether the answer was one that was given before.
async fn get(url: String, credential: Option<&str>) -> (u16, bool, reqwest::header::HeaderMap) {
    let mut request = reqwest::Client::new().get(url);
    if let Some(credential) = credential {
        request = request.header("authorization", credential);
    }
    let answer = request.send().await.unwrap();
    let fields = answer.headers().clone();
    (answer.status().as_u16(), fields.contains_key("farthing-replayed"), fields)
}

/// The credential that answers a gateway's challenge, by the wallet's key.
async fn credential(url: String) -> String {
    let (status, _, fields) = get(url, None).await;
    assert_eq!(status, 402);
    answer_to(&fields).await
}

/// The credential that answers the challenge in a response's fields.
async fn answer_to(fields: &reqwest::header::HeaderMap) -> String {
    use farthing_core::{Buyer as _, Payer as _};
    let invitation = farthing_protocols::mpp::MppBuyer.read_offers(fields).remove(0);
    let usd = farthing_money::Asset::new("usd".parse().unwrap(), 2).unwrap();
    let payer = farthing_rail_prepaid::PrepaidPayer::new(&[7; 32], [usd].into_iter().collect());
    let paid = payer.pay(&invitation).await.ok().unwrap();
    let credential = farthing_protocols::mpp::MppBuyer.write_credential(&invitation, &paid);
    credential.unwrap().1.to_str().unwrap().to_owned()
}

fn audit(world: &World) -> Value {
    world.farthing(&["ledger", "verify", "--json"]).json()["audit"].clone()
}

/// R-02, S-12, C-11: one credential at two gateways at once is one payment and one delivery; different
/// ones are all served; and the budget is one.
#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_sell_as_one() {
    let world = shared().await;
    let gateways = [world.serve(), world.serve()];
    for uses in [2, 20, 50] {
        let credential = credential(gateways[0].url("/quote")).await;
        let all = (0..uses).map(|at| {
            let (url, credential) = (gateways[at % 2].url("/quote"), credential.clone());
            tokio::spawn(async move { get(url, Some(&credential)).await })
        });
        let mut first = 0;
        for answer in all.collect::<Vec<_>>() {
            let (status, replayed, _) = answer.await.unwrap();
            assert_eq!(status, 200);
            first += usize::from(!replayed);
        }
        assert_eq!(first, 1, "of {uses} uses one ran the handler");
    }
    let sound = audit(&world);
    assert_eq!((&sound["claimed"], &sound["delivered"]), (&3.into(), &3.into()));
    // What is left is 4.25 usd: seventeen of twenty can be paid.
    let many = (0..20).map(|at| {
        let url = gateways[at % 2].url("/quote");
        tokio::spawn(async move {
            let credential = credential(url.clone()).await;
            get(url, Some(&credential)).await.0
        })
    });
    let mut served = 0;
    for answer in many.collect::<Vec<_>>() {
        match answer.await.unwrap() {
            200 => served += 1,
            status => assert_eq!(status, 402),
        }
    }
    assert_eq!(served, 17);
    let account = &audit(&world)["accounts"]["prepaid/agent-inc/usd"];
    assert_eq!(account["debits_posted"], "500");
}

/// C-03, C-11: the gateway that writes is killed under load. The other goes on within seconds, nothing
/// that was acknowledged is lost, and nothing is taken twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_is_replaced() {
    let world = shared().await;
    let writer = world.serve();
    let other = world.serve();
    let before = credential(writer.url("/quote")).await;
    assert_eq!(get(writer.url("/quote"), Some(&before)).await.0, 200);
    let pending = credential(other.url("/quote")).await;
    writer.kill();
    // The same credential, over and over, as an honest client does: never a 402 for our outage.
    let url = other.url("/quote");
    let status = loop {
        match get(url.clone(), Some(&pending)).await.0 {
            503 => tokio::task::yield_now().await,
            status => break status,
        }
    };
    assert_eq!(status, 200);
    assert_eq!(get(url, Some(&before)).await, {
        let (status, replayed, fields) = get(other.url("/quote"), Some(&before)).await;
        (status, replayed, fields)
    });
    let sound = audit(&world);
    assert_eq!((&sound["claimed"], &sound["delivered"]), (&2.into(), &2.into()));
    assert_eq!(sound["accounts"]["payable/seller/usd"]["credits_posted"], "50");
    assert_eq!(world.farthing(&["payments", "stuck"]).ok(), "0 unfinished\n");
}

/// Gateways are restarted one after the other, and their configuration is read again, while buyers buy:
/// whoever keeps trying the same credential at any of them is served, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_nobody() {
    let world = Arc::new(shared().await);
    let gateways: Arc<std::sync::Mutex<Vec<Option<Serving>>>> =
        Arc::new(std::sync::Mutex::new(vec![Some(world.serve()), Some(world.serve())]));
    let (over, bought) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let urls = {
        let gateways = Arc::clone(&gateways);
        move || -> Vec<String> {
            let all = gateways.lock().unwrap();
            all.iter().flatten().map(|gateway| gateway.url("/quote")).collect()
        }
    };
    let buyer = {
        let (over, bought, urls) = (Arc::clone(&over), Arc::clone(&bought), urls.clone());
        tokio::spawn(async move {
            let client = reqwest::Client::new();
            // Whatever happens to one gateway, another one is asked.
            let mut at = 0;
            let mut anywhere = async |credential: Option<&str>| loop {
                at += 1;
                let all = urls();
                let Some(url) = all.get(at % all.len().max(1)) else { continue };
                let mut request = client.get(url);
                if let Some(credential) = credential {
                    request = request.header("authorization", credential);
                }
                match request.send().await {
                    Ok(answer) if answer.status() == 503 => tokio::task::yield_now().await,
                    Ok(answer) => break (answer.status().as_u16(), answer.headers().clone()),
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            while !over.load(Ordering::SeqCst) && bought.load(Ordering::SeqCst) < 15 {
                let (status, fields) = anywhere(None).await;
                assert_eq!(status, 402);
                let credential = answer_to(&fields).await;
                assert_eq!(anywhere(Some(&credential)).await.0, 200);
                bought.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    for round in 0..4 {
        let before = bought.load(Ordering::SeqCst);
        let at = round % 2;
        let old = gateways.lock().unwrap()[at].take().unwrap();
        let (world, stopping) = (Arc::clone(&world), old);
        let (fresh, (code, _)) = tokio::task::spawn_blocking(move || {
            let ended = stopping.stop();
            (world.serve(), ended)
        })
        .await
        .unwrap();
        assert_eq!(code, 0);
        fresh.signal("-HUP");
        gateways.lock().unwrap()[at] = Some(fresh);
        while bought.load(Ordering::SeqCst) < (before + 2).min(15) && !buyer.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::SeqCst);
    buyer.await.unwrap();
    for gateway in gateways.lock().unwrap().drain(..).flatten() {
        gateway.stop();
    }
    let (bought, sound) = (bought.load(Ordering::SeqCst), audit(&world));
    assert!(bought >= 8, "{bought}");
    assert_eq!((&sound["claimed"], &sound["delivered"]), (&bought.into(), &bought.into()));
}

/// A book moves from a file into a database without loss, and a backup of a file is a book again.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_is_moved_and_backed_up() {
    let upstream = echo().await;
    let world = World::set_up(upstream);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    // Beside the running gateway.
    let made = world.farthing(&["store", "backup", "backup.db"]).ok();
    assert!(made.ends_with("records, verified\n"), "{made}");
    world.farthing(&["store", "backup", "backup.db"]).fails(1, "there already");
    world.pay(&[&shop.url("/quote")]).ok();
    world.farthing(&["store", "restore", "backup.db"]).fails(1, "another process has the book");
    shop.stop();
    let sold = |world: &World| audit(world)["claimed"].as_u64().unwrap();
    assert_eq!(sold(&world), 2);
    let check = world.farthing(&["store", "check"]).ok();
    assert!(check.starts_with("sound: "), "{check}");

    // One that syncs, as a check wants it.
    let cluster = Cluster::start(&[]);
    world.write("database", &cluster.new_database());
    let store = "postgres = \"env:DATABASE\"\nbook = \"shop\"\nlease_ttl_ms = 1000";
    let toml = world.read("farthing.toml");
    world.write("there.toml", &toml.replace("sqlite = \"book.db\"", store));
    let copied = world.farthing(&["store", "copy", "--to", "there.toml"]).ok();
    assert!(copied.contains("copied, compared and verified"), "{copied}");
    world.farthing(&["store", "copy", "--to", "there.toml"]).fails(1, "a book of that name");
    let there = ["--config", "there.toml"];
    let check = world.farthing(&[&["store", "check"][..], &there].concat()).ok();
    assert!(check.contains("schema version"), "{check}");
    let verified = world.farthing(&[&["ledger", "verify", "--json"][..], &there].concat()).json();
    assert_eq!(verified["audit"]["claimed"], 2);
    // It goes on there, and doctor finds it well.
    let shop = world.serve_with(&there);
    world.pay(&[&shop.url("/quote")]).ok();
    let report = world.farthing(&[&["doctor", "--json"][..], &there].concat());
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_ne!(report["verdict"], "ill", "{report:#}");
    let verified = world.farthing(&[&["ledger", "verify", "--json"][..], &there].concat()).json();
    assert_eq!(verified["audit"]["claimed"], 3);
    shop.stop();

    let put = world.farthing(&["store", "restore", "backup.db"]).ok();
    assert!(put.contains("book.db.replaced-1"), "{put}");
    assert_eq!(sold(&world), 1, "as it stood then");
}
