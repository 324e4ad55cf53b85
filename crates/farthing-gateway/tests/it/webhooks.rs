//! What others are told of payments.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use farthing_core::Store;
use farthing_gate::{Clock, SystemClock};
use farthing_gateway::{EventId, EventKind, Gateway};
use farthing_ledger::{
    Account, ChannelSeen, ChannelStep, ChargeFailure, ClaimRequest, Earned, Ending, Entry, Finding,
    Outcome, RefundId, RefundRequest, Settlement, Side, Story, SubscriptionFacts, SubscriptionId,
    SubscriptionStep, VoidReason, Way,
};
use farthing_money::Amount;
use farthing_store_sqlite::Reader;
use farthing_testkit::store::{rail_purchase, subscription};
use farthing_testkit::vault;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::receiver::{Manner, Message, Receiver};
use crate::shop::{HOOK, NEW_HOOK, ROUTES, SECRET, Shop, TOKEN, Upstream, config};

/// A shop that tells `receiver` everything, and tries again at once.
async fn shop_with(receiver: &Receiver, more: &str) -> Shop {
    let quick = if more.contains("retry_ms") { "" } else { "retry_ms = [1]" };
    let webhook = receiver.config("ops", &format!("{quick}\n{more}"));
    Shop::open_with("", &format!("{ROUTES}{webhook}")).await
}

/// The names of all events that the journal on disk contains.
fn written(shop: &Shop) -> BTreeSet<String> {
    let journal = Reader::open(&shop.book()).unwrap().journal().unwrap();
    let told = journal.iter().filter(|record| EventKind::of(&record.event).is_some());
    told.map(|record| EventId::of(record).to_string()).collect()
}

/// The same, once there are so many: that an answer was given is written without waiting.
async fn all_written(shop: &Shop, count: usize) -> BTreeSet<String> {
    loop {
        let written = written(shop);
        if written.len() == count {
            return written;
        }
        tokio::task::yield_now().await;
    }
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(Message::id).collect()
}

fn kinds(messages: &[Message]) -> Vec<String> {
    messages.iter().map(Message::kind).collect()
}

/// Panics unless the events of every payment were first taken in the order they happened in.
fn in_order(taken: &[Message]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in taken.iter().filter(|it| seen.insert(it.id())) {
        let before = last.insert(message.trace(), message.seq());
        assert!(before < Some(message.seq()), "{:?}", message.body);
    }
}

/// What the management listener says of the one endpoint.
async fn standing(shop: &Shop) -> Value {
    let (status, list) = shop.operate("GET webhooks", &Value::Null).await;
    assert_eq!(status, 200, "{list}");
    list[0].clone()
}

/// Asks until the endpoint stands as it should.
async fn until_stands(shop: &Shop, stands: impl Fn(&Value) -> bool) -> Value {
    loop {
        let standing = standing(shop).await;
        if stands(&standing) {
            return standing;
        }
        tokio::task::yield_now().await;
    }
}

/// Asks until the gateway has learnt that everything was taken; what is being sent when it is ordered
/// once more is told by that.
async fn until_idle(shop: &Shop) -> Value {
    until_stands(shop, |it| it["lag"] == 0 && it["open"] == json!([])).await
}

/// A purchase on a rail that this gateway does not run, so that nobody else looks after it.
fn elsewhere(name: &str) -> ClaimRequest {
    let mut request = rail_purchase(name, 25);
    let expires_at = SystemClock.now().after(Duration::from_hours(1));
    request.payment.expires_at = expires_at;
    "elsewhere".clone_into(&mut request.payment.method);
    request.payment.inquiry = Some(name.into());
    request.proofs[0].keep_until = Some(expires_at);
    request
}

async fn order(store: &dyn Store, request: &ClaimRequest, reference: &str) -> RefundId {
    let payment = &request.payment;
    let amount = Amount::new(payment.amount.asset().clone(), 5);
    let clearing: Account = "clearing/test/usd".parse().unwrap();
    let mut refund = RefundRequest::new(payment, amount, clearing, Way::Back, reference);
    refund.refund.order = Some("send it".into());
    "late".clone_into(&mut refund.refund.reason);
    let id = refund.refund.id;
    store.refund(refund, SystemClock.now()).await.unwrap();
    id
}

/// One payment's whole life, on a rail elsewhere.
async fn live(store: &dyn Store) {
    let now = SystemClock.now();
    let request = elsewhere("whole");
    let (id, trace) = (request.payment.id, request.payment.trace);
    let settled = |reference: &str| Settlement::new(reference.to_owned(), now);
    store.claim(request.clone(), now).await.unwrap();
    store.post(id, settled("0xpaid"), now).await.unwrap();
    store.fail(id, Outcome { status: 503 }, now);
    store.deliver(id, Outcome { status: 200 }, None, now);
    let back = order(store, &request, "back").await;
    store.post_refund(id, back, settled("0xback"), now).await.unwrap();
    let vain = order(store, &request, "vain").await;
    store.void_refund(id, vain, now).await.unwrap();
    store.reconcile(id, Finding::Missing, now).await.unwrap();
    let enter = async |entry| assert_eq!(store.enter(entry, now).await, Ok(true));
    enter(Entry::Resolve { payment: id, note: "the bank was asked".into() }).await;
    let story = Story::tell(&store.story(trace).await.unwrap()).unwrap();
    let earned = Earned::of(&story);
    enter(Entry::HoldPayout { payment: earned.clone(), reason: "look".into() }).await;
    enter(Entry::ReleasePayout { payment: earned.clone(), reason: "seen".into() }).await;
    let amount = Amount::new(request.payment.amount.asset().clone(), 20);
    enter(Entry::PayOut { payment: earned, amount, reference: "bank-1".into() }).await;
}

/// A subscription that is begun, not paid for, cancelled, and over.
async fn live_by_the_day(store: &dyn Store) -> SubscriptionId {
    let now = SystemClock.now();
    let offered_until = now.after(Duration::from_hours(1));
    let facts = SubscriptionFacts { offered_until, ..subscription("month") };
    let (id, why) = (facts.id, ChargeFailure::Short);
    for step in [
        SubscriptionStep::Open(Box::new(facts)),
        SubscriptionStep::Fail { id, period: 0, failures: 0, why, retry_at: None },
        SubscriptionStep::Cancel { id, by: Side::Seller },
        SubscriptionStep::End { id, why: Ending::Cancelled },
    ] {
        store.subscribe(step, now).await.unwrap();
    }
    id
}

/// What is told of that subscription.
fn of_subscription(taken: &[Message], id: SubscriptionId) {
    let data = |kind: &str| {
        let told = taken.iter().find(|it| it.kind() == kind).unwrap().json();
        assert_eq!(told["data"]["subscription"], json!({ "id": id, "plan": "daily" }));
        assert_eq!(told["data"]["period"], "1 day");
        told["data"].clone()
    };
    assert_eq!(data("subscription.begun")["payer"], "alice");
    assert_eq!(data("subscription.past_due")["reason"], "short");
    assert_eq!(data("subscription.cancelled")["by"], "seller");
    assert_eq!(data("subscription.ended")["reason"], "cancelled");
}

/// Every kind of event arrives, in order, signed so that the standard's own implementation verifies
/// it, with the payment's facts and where it stood; somebody with another secret refuses it.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_event_arrives_signed() {
    let receiver = Receiver::open(Manner::Verify(HOOK.into())).await;
    let shop = shop_with(&receiver, "").await;
    let store = shop.gateway.store().port();
    live(&*store).await;
    let now = SystemClock.now();
    for name in ["matched", "declined"] {
        store.claim(elsewhere(name), now).await.unwrap();
    }
    let [matched, declined] = ["matched", "declined"].map(|name| elsewhere(name).payment.id);
    store.post(matched, Settlement::new("0xmatched".into(), now), now).await.unwrap();
    store.reconcile(matched, Finding::Matched, now).await.unwrap();
    store.void(declined, VoidReason::Declined, now).await.unwrap();
    let id = live_by_the_day(&*store).await;
    let expected = all_written(&shop, 22).await;
    let taken = receiver.until_taken(expected.len()).await;
    assert_eq!(ids(&taken), expected);
    let all = EventKind::ALL.map(EventKind::name).into_iter();
    let all = all.filter(|name| !name.starts_with("session.")).map(str::to_owned);
    let all: BTreeSet<String> = all.collect();
    assert_eq!(kinds(&taken).into_iter().collect::<BTreeSet<_>>(), all);
    in_order(&taken);
    of_subscription(&taken, id);
    let trace = elsewhere("whole").payment.trace.to_string();
    let whole: Vec<_> = taken.iter().filter(|it| it.trace() == trace).cloned().collect();
    assert_eq!(
        kinds(&whole),
        [
            "payment.held",
            "payment.settled",
            "delivery.failed",
            "delivery.succeeded",
            "refund.ordered",
            "refund.settled",
            "refund.ordered",
            "refund.voided",
            "payment.missing",
            "payment.resolved",
            "payout.held",
            "payout.released",
            "payout.paid",
        ]
    );
    let said =
        |at: usize, pointer: &str| whole[at].json()["data"].pointer(pointer).unwrap().clone();
    let facts = json!({"asset": "usd", "atoms": "25", "text": "0.25 usd"});
    for message in &whole {
        let data = &message.json()["data"];
        assert_eq!((&data["amount"], &data["payer"]), (&facts, &json!("alice")));
        assert_eq!((&data["payee"], &data["challenge"]), (&json!("seller"), &json!("whole")));
        assert_eq!(message.fields["content-type"], "application/json");
        assert!(!message.is_signed_with(NEW_HOOK), "the control: another secret");
    }
    assert_eq!((said(0, "/reference"), said(0, "/standing/pay")), (Value::Null, "held".into()));
    assert_eq!(
        (said(1, "/reference"), said(1, "/standing/delivery")),
        ("0xpaid".into(), "owed".into())
    );
    assert_eq!((said(2, "/status"), said(3, "/status")), (503.into(), 200.into()));
    assert_eq!(
        (said(4, "/refund/order"), said(4, "/refund/reference")),
        ("back".into(), Value::Null)
    );
    assert_eq!(
        (said(5, "/refund/reference"), said(5, "/refund/amount/text")),
        ("0xback".into(), "0.05 usd".into())
    );
    assert_eq!(
        (said(7, "/refund/order"), said(8, "/finding/is")),
        ("vain".into(), "missing".into())
    );
    assert_eq!(
        (said(9, "/finding/note"), said(10, "/reason")),
        ("the bank was asked".into(), "look".into())
    );
    assert_eq!(
        (said(12, "/payout/reference"), said(12, "/standing/payout")),
        ("bank-1".into(), "paid".into())
    );
}

/// C-12: what is told of a payment over HTTP names it and no secret: no credential, no signature, no
/// token.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told() {
    let receiver = Receiver::open(Manner::Answer(200)).await;
    let shop = shop_with(&receiver, "").await;
    let credential = shop.buy("GET /quote", "").await;
    let paid = shop.present("GET /quote", &credential, "").await;
    let trace = paid.fields["farthing-trace"].to_str().unwrap();
    let taken = receiver.until_taken(2).await;
    assert_eq!(kinds(&taken), ["payment.settled", "delivery.succeeded"]);
    let token = credential.strip_prefix("Payment ").unwrap();
    let object = farthing_mpp::base64url::decode(token).unwrap();
    let object: Value = serde_json::from_slice(&object).unwrap();
    let signature = object["payload"]["signature"].as_str().unwrap();
    for message in &taken {
        let data = &message.json()["data"];
        assert_eq!((data["trace"].as_str(), data["route"].as_str()), (Some(trace), Some("quote")));
        assert_eq!(data["challenge"], object["challenge"]["id"]);
        let said = format!("{:?} {}", message.fields, String::from_utf8_lossy(&message.body));
        let middle = &token[token.len() / 2..token.len() / 2 + 40];
        for secret in [signature, middle, SECRET, TOKEN, HOOK] {
            assert!(!said.contains(secret), "{said}");
        }
    }
}

/// An endpoint that is down loses nothing: once it is up, everything has arrived, each payment's
/// events in order, and a payment whose event is refused holds up no other.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_loses_nothing() {
    let receiver = Receiver::open(Manner::Answer(503)).await;
    let shop = shop_with(&receiver, "attempts_max = 1000000").await;
    for _ in 0..5 {
        assert_eq!(shop.pay("GET /quote", "").await.status, 200);
    }
    let traces =
        |messages: &[Message]| messages.iter().map(Message::trace).collect::<BTreeSet<_>>().len();
    let refused = receiver.until(|messages| traces(messages) == 5).await;
    assert!(refused.iter().all(|it| it.kind() == "payment.settled"), "deliveries wait for it");
    receiver.behave(Manner::Answer(200));
    let expected = all_written(&shop, 10).await;
    receiver
        .until(|messages| {
            let taken: Vec<_> = messages.iter().filter(|it| it.status == 200).cloned().collect();
            ids(&taken) == expected
        })
        .await;
    in_order(&receiver.taken());
    let first = &refused[0];
    let again = receiver.taken().into_iter().find(|it| it.id() == first.id()).unwrap();
    assert_eq!(again.body, first.body, "the same event is the same bytes");
    let stands = until_idle(&shop).await;
    assert_eq!((&stands["dead"], &stands["disabled_at"]), (&json!(0), &Value::Null));
    let metrics = shop.admin("/metrics").await.body;
    let line = "farthing_webhooks_delivered_total{endpoint=\"ops\"} 10";
    assert!(metrics.lines().any(|it| it == line), "{metrics}");
}

/// What was not taken in as many attempts as there are is listed, and told again by command: one
/// event, all that were given up, or everything since a record or a moment.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_replayed() {
    let receiver = Receiver::open(Manner::Answer(500)).await;
    let shop = shop_with(&receiver, "attempts_max = 2").await;
    shop.pay("GET /quote", "").await;
    until_stands(&shop, |it| it["dead"] == 2).await;
    let refused = receiver.messages();
    assert_eq!((refused.len(), ids(&refused).len()), (4, 2), "two attempts each");
    let (status, dead) = shop.operate("GET webhooks/ops/dead", &Value::Null).await;
    assert_eq!((status, dead[0]["fault"].as_str()), (200, Some("answered 500")));
    assert_eq!((&dead[0]["attempts"], &dead[0]["type"]), (&json!(2), &json!("payment.settled")));
    let listed: BTreeSet<_> = dead
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["event"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, ids(&refused));
    let metrics = shop.admin("/metrics").await.body;
    for line in [
        "farthing_webhooks_dead{endpoint=\"ops\"} 2",
        "farthing_webhooks_failed_total{endpoint=\"ops\"} 4",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{metrics}");
    }

    receiver.behave(Manner::Answer(200));
    let replay = async |what: Value| {
        shop.operate("POST webhooks/replay", &json!({ "name": "ops", "what": what })).await
    };
    let second = dead[1]["event"].as_str().unwrap();
    assert_eq!(replay(json!({ "event": second })).await, (200, json!({ "again": 1 })));
    assert_eq!(receiver.until_taken(1).await[0].id(), second);
    assert_eq!(replay(json!("dead")).await, (200, json!({ "again": 1 })));
    assert_eq!(ids(&receiver.until_taken(2).await), listed);
    assert_eq!(until_idle(&shop).await["dead"], 0);
    // What was taken is told again too, under its name.
    assert_eq!(replay(json!({ "event": second })).await, (200, json!({ "again": 1 })));
    assert_eq!(receiver.until_taken(3).await[2].id(), second);
    until_idle(&shop).await;
    let (status, done) = replay(json!({ "from_seq": 1 })).await;
    assert_eq!((status, done["again"].as_u64() > Some(2)), (200, true), "{done}");
    assert_eq!(ids(&receiver.until_taken(5).await[3..]), listed);
    until_idle(&shop).await;
    let (status, _) = replay(json!({ "since": "2026-01-01T00:00:00Z" })).await;
    assert_eq!(status, 200);
    assert_eq!(ids(&receiver.until_taken(7).await[5..]), listed);
    let future = SystemClock.now().after(Duration::from_hours(1)).to_string();
    assert_eq!(replay(json!({ "since": future })).await, (200, json!({ "again": 0 })));

    let forged = second.replace(&second[second.len() - 4..], "0000");
    for (what, wanted) in [
        (json!({ "event": forged }), 404),
        (json!({ "event": "evt_1" }), 422),
        (json!({ "since": "yesterday" }), 422),
    ] {
        assert_eq!(replay(what.clone()).await.0, wanted, "{what}");
    }
    let unknown = json!({ "name": "opps", "what": "dead" });
    assert_eq!(shop.operate("POST webhooks/replay", &unknown).await.0, 404);
    assert_eq!(shop.operate("GET webhooks/opps/dead", &Value::Null).await.0, 404);
    for path in ["webhooks", "webhooks/ops/dead"] {
        assert_eq!(shop.admin(&format!("/v1/{path}")).await.status, 401, "{path} needs the token");
    }
}

/// K-06: while a secret is rotated, receivers with the old and with the new one verify; afterwards
/// only the new one does.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_webhooks_rotate() {
    let receiver = Receiver::open(Manner::Answer(200)).await;
    let shop = shop_with(&receiver, "secrets = [\"env:NEW_HOOK\", \"env:HOOK\"]").await;
    shop.pay("GET /quote", "").await;
    for message in receiver.until_taken(2).await {
        assert!(message.is_signed_with(HOOK) && message.is_signed_with(NEW_HOOK));
    }
    let webhook = receiver.config("ops", "secrets = [\"env:NEW_HOOK\"]");
    let text = shop.text("", &format!("{ROUTES}{webhook}"));
    shop.gateway.reload(&config(&text)).unwrap();
    shop.pay("GET /quote", "").await;
    let taken = receiver.until_taken(4).await;
    let new: BTreeSet<_> = taken[2..].iter().map(Message::trace).collect();
    assert!(!new.contains(&taken[0].trace()), "nothing is told again for a reload");
    // The reload and the payment race; what is told once it has happened has one signature.
    shop.pay("GET /quote", "").await;
    let last = receiver.until_taken(6).await.pop().unwrap();
    assert!(last.is_signed_with(NEW_HOOK) && !last.is_signed_with(HOOK));
}

/// A receiver that verifies with another secret refuses, and what it refused is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_with_another_secret_refuses() {
    let receiver = Receiver::open(Manner::Verify(NEW_HOOK.into())).await;
    let shop = shop_with(&receiver, "attempts_max = 1").await;
    shop.pay("GET /quote", "").await;
    until_stands(&shop, |it| it["dead"] == 2).await;
    assert_eq!(receiver.taken().len(), 0);
    receiver.behave(Manner::Verify(HOOK.into()));
    let all = json!({ "name": "ops", "what": "dead" });
    assert_eq!(shop.operate("POST webhooks/replay", &all).await.0, 200);
    receiver.until_taken(2).await;
}

/// An endpoint that answers 410 is told nothing more, is listed as disabled, and gets everything once
/// it is enabled.
#[tokio::test(flavor = "multi_thread")]
async fn gone_disables_an_endpoint() {
    let receiver = Receiver::open(Manner::Answer(410)).await;
    let shop = shop_with(&receiver, "").await;
    shop.pay("GET /quote", "").await;
    until_stands(&shop, |it| it["disabled_at"].is_string()).await;
    receiver.behave(Manner::Answer(200));
    shop.pay("GET /quote", "").await;
    // The payments' records stand in the book, and nobody was told of them.
    until_stands(&shop, |it| it["lag"].as_u64() > Some(0) || it["open"][1].is_object()).await;
    assert_eq!(receiver.taken().len(), 0);
    let enable = json!({ "name": "ops" });
    assert_eq!(shop.operate("POST webhooks/enable", &enable).await, (200, json!({ "new": true })));
    assert_eq!(ids(&receiver.until_taken(4).await), all_written(&shop, 4).await);
    assert_eq!(shop.operate("POST webhooks/enable", &enable).await, (200, json!({ "new": false })));
}

/// An endpoint that does not answer holds up neither payments nor other endpoints.
#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_endpoint_holds_nothing_up() {
    let permits = Arc::new(Semaphore::new(0));
    let hanging = Receiver::open(Manner::Hang(Arc::clone(&permits))).await;
    let healthy = Receiver::open(Manner::Answer(200)).await;
    let both = format!(
        "{ROUTES}{}{}",
        hanging.config("hanging", "timeout_ms = 3600000\nparallel = 2"),
        healthy.config("healthy", "events = [\"delivery.*\"]")
    );
    let shop = Shop::open_with("", &both).await;
    shop.pay("GET /quote", "").await;
    hanging.until(|messages| !messages.is_empty()).await;
    for _ in 0..5 {
        assert_eq!(shop.pay("GET /quote", "").await.status, 200);
    }
    let told = healthy.until_taken(6).await;
    assert!(told.iter().all(|it| it.kind() == "delivery.succeeded"), "what was asked for");
    assert!(hanging.messages().len() <= 2, "no more than is sent at once");
    permits.add_permits(1_000);
    assert_eq!(ids(&hanging.until_taken(12).await), all_written(&shop, 12).await);
}

/// C-12, W-05: a redirect is not followed: what was signed for one place goes to no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let other = Receiver::open(Manner::Answer(200)).await;
    for status in [302, 307, 308] {
        let there = format!("http://{}/", other.address);
        let receiver = Receiver::open(Manner::Redirect(status, there)).await;
        let shop = shop_with(&receiver, "attempts_max = 1").await;
        shop.pay("GET /quote", "").await;
        until_stands(&shop, |it| it["dead"] == 2).await;
        let (_, dead) = shop.operate("GET webhooks/ops/dead", &Value::Null).await;
        assert_eq!(dead[0]["fault"], format!("answered {status}"));
    }
    assert_eq!(other.messages().len(), 0);
}

/// A new endpoint begins with what happens from then on; what was before is told if it is asked for.
/// One that is taken away and comes back goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_begins_now_and_goes_on_where_it_was() {
    let receiver = Receiver::open(Manner::Answer(200)).await;
    let shop = Shop::open().await;
    shop.pay("GET /quote", "").await;
    let before = all_written(&shop, 2).await;
    let webhook = receiver.config("ops", "");
    let with = config(&shop.text("", &format!("{ROUTES}{webhook}")));
    shop.gateway.reload(&with).unwrap();
    until_stands(&shop, |it| it["cursor"].as_u64() > Some(0)).await;
    shop.pay("GET /quote", "").await;
    let taken = receiver.until_taken(2).await;
    assert!(ids(&taken).is_disjoint(&before));
    shop.gateway.reload(&config(&shop.text("", ROUTES))).unwrap();
    shop.pay("GET /quote", "").await;
    shop.gateway.reload(&with).unwrap();
    let all = all_written(&shop, 6).await;
    let taken = receiver.until_taken(4).await;
    assert_eq!(ids(&taken), &all - &before, "each once");
    let history = json!({ "name": "ops", "what": { "from_seq": 1 } });
    until_stands(&shop, |it| it["lag"] == 0).await;
    let mut replayed = shop.operate("POST webhooks/replay", &history).await;
    while replayed.0 == 503 {
        replayed = shop.operate("POST webhooks/replay", &history).await;
    }
    receiver.until(|messages| ids(messages) == all).await;
}

/// A gateway that stops in good order has noted what was taken, and tells the rest when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_tells_the_rest() {
    let patient = "attempts_max = 1000000";
    let receiver = Receiver::open(Manner::Answer(200)).await;
    let shop = shop_with(&receiver, patient).await;
    shop.pay("GET /quote", "").await;
    receiver.until_taken(2).await;
    until_idle(&shop).await;
    receiver.behave(Manner::Answer(503));
    shop.pay("GET /quote", "").await;
    receiver.until(|messages| messages.iter().any(|it| it.status == 503)).await;
    let all = all_written(&shop, 4).await;
    let webhook = receiver.config("ops", &format!("retry_ms = [1]\n{patient}"));
    let text = shop.text("", &format!("{ROUTES}{webhook}"));
    let Shop { folder, gateway, .. } = shop;
    gateway.stop().await;
    receiver.behave(Manner::Answer(200));
    let again = Gateway::start(&config(&text)).await.unwrap();
    let taken = receiver.until_taken(4).await;
    assert_eq!((ids(&taken), taken.len()), (all, 4), "what was noted is not told again");
    again.stop().await;
    drop(folder);
}

/// Nothing is delivered to nobody: a gateway without webhooks lists none.
#[tokio::test(flavor = "multi_thread")]
async fn without_webhooks_there_are_none() {
    let shop = Shop::open_before(Upstream::start().await, "", ROUTES).await;
    assert_eq!(shop.operate("GET webhooks", &Value::Null).await, (200, json!([])));
}

/// What happens to a session is told like what happens to a payment: every kind of it, in order, and where
/// the session stood right after it. What is paid in it are payments.
#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_session_is_told() {
    let receiver = Receiver::open(Manner::Verify(HOOK.into())).await;
    let shop = shop_with(&receiver, "").await;
    let store = shop.gateway.store().port();
    let now = SystemClock.now();
    let (channel, settlement) = (vault::channel("a"), || Settlement::new("0xabc".into(), now));
    let until = now.after(Duration::from_mins(15));
    let note = |close_requested| ChannelStep::Note {
        channel: vault::channel("a"),
        seen: ChannelSeen { at: now, settled: 0, close_requested },
    };
    let [open, confirm] = vault::opening("a", 100);
    for step in [
        open,
        confirm.clone(),
        vault::topping_up("a", "b", 50),
        ChannelStep::Abandon { channel: channel.clone() },
        vault::topping_up("a", "c", 20),
        confirm,
        note(Some(until)),
        note(None),
    ] {
        store.step(step, now).await.unwrap();
    }
    store.claim(vault::voucher_purchase("a", 10, 10, vault::SIGNED), now).await.unwrap();
    for step in [
        ChannelStep::Settle { channel: channel.clone(), settled: 10, settlement: settlement() },
        ChannelStep::Close { channel: channel.clone(), voucher: None, exactly: false },
        ChannelStep::Overdue { channel: channel.clone() },
        ChannelStep::Closed { channel: channel.clone(), settled: 10, settlement: settlement() },
    ] {
        store.step(step, now).await.unwrap();
    }
    let taken = receiver.until_taken(13).await;
    let told: Vec<_> = taken.iter().filter(|it| it.kind().starts_with("session.")).collect();
    let standing = |at: usize| {
        let body = told[at].json();
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
        let of = |name: &str| text(&format!("/data/{name}/atoms")).to_owned();
        let figures = ["deposit", "pending", "settled", "returned"].map(of).join(" ");
        assert_eq!(text("/data/session"), "vault:a");
        format!("{} {} {figures}", told[at].kind(), text("/data/standing"))
    };
    assert_eq!(
        (0..told.len()).map(standing).collect::<Vec<_>>(),
        [
            "session.opened opening 0 100 0 0",
            "session.deposit_confirmed open 100 0 0 0",
            "session.topped_up open 100 50 0 0",
            "session.deposit_abandoned open 100 0 0 0",
            "session.topped_up open 100 20 0 0",
            "session.deposit_confirmed open 120 0 0 0",
            "session.close_requested close_requested 120 0 0 0",
            "session.close_cancelled open 120 0 0 0",
            "session.settled open 120 0 10 0",
            "session.closing closing 120 0 10 0",
            "session.close_overdue closing 120 0 10 0",
            "session.closed closed 120 0 10 110",
        ]
    );
    let of_sessions = |kind: &EventKind| kind.name().starts_with("session.");
    let kinds: BTreeSet<String> = told.iter().map(|it| it.kind()).collect();
    assert_eq!(kinds.len(), EventKind::ALL.iter().filter(|kind| of_sessions(kind)).count());
    assert_eq!(told[11].json()["data"]["reference"], "0xabc");
    assert_eq!(told[6].json()["data"]["until"], until.to_string());
    let body = |it: &Message| String::from_utf8_lossy(&it.body).into_owned();
    assert!(!taken.iter().any(|it| body(it).contains(vault::SIGNED)), "no signature is told");
}
