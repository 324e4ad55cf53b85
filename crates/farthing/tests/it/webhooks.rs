//! `farthing webhooks`, and what is told over a crash.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::watch;

use crate::world::{World, echo, free_address, gateway_toml, serve};

/// A message's name, what it says, and what it was answered; nothing if it was not answered.
type Arrived = Vec<(String, Value, Option<u16>)>;

/// A receiver that answers as it is told to, or not at all.
struct Receiver {
    address: SocketAddr,
    answer: Arc<Mutex<Option<u16>>>,
    arrived: Arc<watch::Sender<Arrived>>,
}

impl Receiver {
    async fn open(answer: Option<u16>) -> Self {
        let (answer, arrived) =
            (Arc::new(Mutex::new(answer)), Arc::new(watch::channel(Vec::new()).0));
        let (how, log) = (Arc::clone(&answer), Arc::clone(&arrived));
        let router = axum::Router::new().fallback(move |fields: HeaderMap, body: Bytes| {
            let status = *how.lock().unwrap();
            let id = fields["webhook-id"].to_str().unwrap().to_owned();
            let said = serde_json::from_slice(&body).unwrap();
            log.send_modify(|log: &mut Arrived| log.push((id, said, status)));
            async move {
                match status {
                    Some(status) => StatusCode::from_u16(status).unwrap(),
                    None => std::future::pending().await,
                }
            }
        });
        Self { address: serve(router).await, answer, arrived }
    }

    fn answer(&self, status: u16) {
        *self.answer.lock().unwrap() = Some(status);
    }

    async fn until(&self, enough: impl Fn(&Arrived) -> bool) -> Arrived {
        self.arrived.subscribe().wait_for(enough).await.unwrap().clone()
    }

    /// A world whose gateway tells this receiver everything.
    async fn world(&self, more: &str) -> World {
        let upstream = echo().await;
        let world = World::set_up(upstream);
        let admin = format!("\n[admin]\nlisten = \"{}\"\ntoken = \"env:TOKEN\"\n", free_address());
        let text = gateway_toml(upstream, "").replace("\n[store]", &format!("{admin}\n[store]"));
        let address = self.address;
        let webhook = format!(
            "\n[[webhooks]]\nname = \"ops\"\nurl = \"http://{address}/\"\nsecrets = [\"env:HOOK\"]\n\
             retry_ms = [1]\n{more}\n"
        );
        world.write("farthing.toml", &format!("{text}{webhook}"));
        world
    }
}

/// The names of the events that were taken.
fn taken(arrived: &Arrived) -> BTreeSet<String> {
    arrived.iter().filter(|it| it.2 == Some(200)).map(|it| it.0.clone()).collect()
}

/// C-03: `kill -9` after an endpoint was told something and before the gateway noted it. Everything is
/// told in the end, each payment's events in order, and what is told twice has the same name.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_tells_everything() {
    let receiver = Receiver::open(None).await;
    let world = receiver.world("timeout_ms = 3600000\nattempts_max = 1000000").await;
    let shop = world.serve();
    for _ in 0..3 {
        world.pay(&[&shop.url("/quote")]).ok();
    }
    // Three payments' first events have arrived; the gateway will never learn that.
    let told = receiver.until(|arrived| arrived.len() == 3).await;
    let before: BTreeSet<_> = told.iter().map(|it| it.0.clone()).collect();
    shop.kill();
    receiver.answer(200);
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    let told = receiver.until(|arrived| taken(arrived).len() == 8).await;
    assert!(before.is_subset(&taken(&told)), "told again, under the same names");
    let mut last = std::collections::BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (id, said, _) in told.iter().filter(|it| it.2.is_some() && seen.insert(it.0.clone())) {
        let (trace, seq) = (said["data"]["trace"].to_string(), said["data"]["seq"].as_u64());
        assert!(last.insert(trace, seq) < Some(seq), "{id} {said}");
    }
    // Killed once more, at any moment around its note, it loses nothing either.
    world.pay(&[&shop.url("/quote")]).ok();
    receiver.until(|arrived| taken(arrived).len() > 8).await;
    shop.kill();
    let _shop = world.serve();
    receiver.until(|arrived| taken(arrived).len() == 10).await;
}

/// Endpoints are listed and dead letters replayed by command, beside a running gateway and without
/// one.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_lists_and_replays() {
    let receiver = Receiver::open(Some(503)).await;
    let world = receiver.world("attempts_max = 1").await;
    let shop = world.serve();
    world.pay(&[&shop.url("/quote")]).ok();
    let dead = || world.farthing(&["webhooks", "dead", "ops", "--json"]).json();
    while dead().as_array().unwrap().len() < 2 {
        std::thread::yield_now();
    }
    let listed = world.farthing(&["webhooks", "list"]).ok();
    assert!(listed.starts_with("ops: record ") && listed.contains("0 open, 2 dead"), "{listed}");
    let text = world.farthing(&["webhooks", "dead", "ops"]).ok();
    assert!(
        text.contains("payment.settled") && text.contains("1 attempts, answered 503"),
        "{text}"
    );
    receiver.answer(200);
    let event = dead()[0]["event"].as_str().unwrap().to_owned();
    let replayed = world.farthing(&["webhooks", "replay", "ops", "--event", &event]).ok();
    assert_eq!(replayed, "1 events are told again\n");
    receiver.until(|arrived| taken(arrived).contains(&event)).await;
    shop.stop();
    let replayed = world.farthing(&["webhooks", "replay", "ops", "--dead"]).ok();
    assert_eq!(replayed, "1 events are told again\n");
    assert_eq!(dead(), serde_json::json!([]));
    let shop = world.serve();
    receiver.until(|arrived| taken(arrived).len() == 2).await;
    // The gateway has learnt that it was taken.
    let idle = |it: &Value| it["lag"] == 0 && it["open"] == serde_json::json!([]);
    while !idle(&world.farthing(&["webhooks", "list", "--json"]).json()[0]) {
        std::thread::yield_now();
    }
    let count = receiver.arrived.borrow().len();
    let from = world.farthing(&["webhooks", "replay", "ops", "--from", "1"]).ok();
    assert!(from.ends_with(" records of the journal are told again\n"), "{from}");
    receiver.until(|arrived| arrived.len() == count + 2).await;
    let enabled = world.farthing(&["webhooks", "enable", "ops"]).ok();
    assert_eq!(enabled, "it was enabled; nothing has changed\n");
    world.farthing(&["webhooks", "dead", "opps"]).fails(1, "no webhook of this name");
    world.farthing(&["webhooks", "replay", "opps", "--dead"]).fails(1, "404");
    world.farthing(&["webhooks", "replay", "ops", "--event", "evt_1"]).fails(1, "422");
    world.farthing(&["webhooks", "replay", "ops"]).fails(2, "--event");
    shop.stop();
    world.farthing(&["webhooks", "replay", "ops", "--since", "yesterday"]).fails(1, "a time is");
}
