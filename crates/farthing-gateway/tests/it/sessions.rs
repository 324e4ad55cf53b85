//! Sessions over HTTP: one deposit, many requests, and everything that is refused on the way.

use std::sync::Arc;

use farthing_core::{Act, Buyer, Invitation, Payer, PreparedSession, SESSION, SessionPayer};
use farthing_money::{Amount, Asset, Assets};
use farthing_protocols::mpp::{MppBuyer, PAYMENT_SESSION};
use farthing_rail_prepaid::PrepaidPayer;
use serde_json::{Value, json};

use crate::shop::{Answer, Shop, Upstream, config};

/// A cheap route and a dear one, in sessions; one that sells both ways; one that only sells singly.
const ROUTES: &str = r#"
[sessions]
idle_s = 3600

[[routes]]
name = "cheap"
methods = ["GET"]
path = "/cheap/{what}"
upstream = "up"
price = "0.01 usd"
intents = ["session"]
session = { unit = "request", deposit = "1.00 usd", deposit_min = "0.05 usd" }

[[routes]]
name = "dear"
methods = ["GET"]
path = "/dear"
upstream = "up"
price = "0.50 usd"
intents = ["session", "charge"]

[[routes]]
name = "form"
methods = ["POST"]
path = "/form"
upstream = "up"
price = "0.02 usd"
intents = ["session"]

[[routes]]
name = "single"
methods = ["GET"]
path = "/single"
upstream = "up"
price = "0.25 usd"
"#;

fn assets() -> Assets {
    [Asset::new("usd".parse().unwrap(), 2).unwrap()].into_iter().collect()
}

/// A customer with a session.
struct Customer<'a> {
    shop: &'a Shop,
    payer: PrepaidPayer,
    session: PreparedSession,
}

fn invited(answer: &Answer) -> Invitation {
    let offers = answer.invitations();
    offers.into_iter().find(|offer| offer.intent == SESSION).unwrap()
}

impl<'a> Customer<'a> {
    /// A customer who will deposit `atoms`; nothing is sent.
    async fn with(shop: &'a Shop, seed: u8, atoms: u128) -> Self {
        let payer = PrepaidPayer::new(&[seed; 32], assets());
        let asked = shop.get("/cheap/a").await;
        let deposit = Amount::new("usd".parse().unwrap(), atoms);
        let prepared = payer.prepare(&invited(&asked), &deposit, rand_salt(seed, atoms)).await;
        let session = prepared.ok().unwrap();
        Self { shop, payer, session }
    }

    /// The credential for an act, under a fresh challenge of `line`.
    async fn credential(&self, line: &str, act: Act) -> String {
        let asked = self.shop.send(line, &[], "").await;
        assert_eq!(asked.status, 402, "{}", asked.body);
        self.answering(&invited(&asked), act).await
    }

    async fn answering(&self, invitation: &Invitation, act: Act) -> String {
        let paid = self.payer.act(invitation, &self.session, act).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(invitation, &paid).unwrap();
        value.to_str().unwrap().to_owned()
    }

    async fn act(&self, line: &str, act: Act) -> Answer {
        let credential = self.credential(line, act).await;
        self.shop.present(line, &credential, "").await
    }

    async fn open(&self, cumulative: u128) -> Answer {
        self.act("GET /cheap/a", Act::Open { cumulative }).await
    }

    async fn pay(&self, line: &str, cumulative: u128) -> Answer {
        self.act(line, Act::Voucher { cumulative }).await
    }
}

/// A salt that is new for every test's customer.
fn rand_salt(seed: u8, atoms: u128) -> [u8; 32] {
    let mut salt = [seed; 32];
    salt[..16].copy_from_slice(&atoms.to_be_bytes());
    salt
}

fn receipt(answer: &Answer) -> Value {
    MppBuyer.read_receipt(&answer.fields).map(Value::Object).unwrap_or_default()
}

/// A refusal of a session: its status, its problem type without the base, and a fresh challenge.
#[track_caller]
fn refused(answer: &Answer, status: u16, slug: &str) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    let problem = answer.json();
    let uri = problem["type"].as_str().unwrap();
    assert_eq!(uri.strip_prefix("https://paymentauth.org/problems/"), Some(slug));
    assert!(!answer.invitations().is_empty(), "a fresh challenge says how to go on");
    problem
}

/// S-14: opened with the first request, three rounds, more deposited, authorised ahead, and closed.
#[tokio::test(flavor = "multi_thread")]
async fn s_14_one_deposit_pays_for_many_requests() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    let opened = customer.open(1).await;
    assert_eq!((opened.status.as_u16(), opened.body.as_str()), (200, "the answer"));
    let first = receipt(&opened);
    let channel = customer.session.channel.as_str();
    assert_eq!(opened.fields[PAYMENT_SESSION], channel);
    for (name, value) in [
        ("method", "prepaid"),
        ("intent", "session"),
        ("reference", channel),
        ("channelId", channel),
        ("acceptedCumulative", "1"),
        ("spent", "1"),
    ] {
        assert_eq!(first[name], value, "{first}");
    }
    assert_eq!(first["units"], 1);
    assert!(first["challengeId"].is_string());
    // One challenge is answered by many vouchers.
    let invitation = invited(&shop.get("/cheap/a").await);
    for cumulative in 2..=4 {
        let voucher = customer.answering(&invitation, Act::Voucher { cumulative }).await;
        let path = format!("GET /cheap/{cumulative}");
        let paid = shop.present(&path, &voucher, "").await;
        assert_eq!(paid.status, 200, "{}", paid.body);
        assert_eq!(receipt(&paid)["spent"], cumulative.to_string());
    }
    let more = customer.act("GET /cheap/a", Act::TopUp { additional: 60, before: 0 }).await;
    assert_eq!(more.status, 204, "{}", more.body);
    assert_eq!(receipt(&more)["deposit"], "70");
    let ahead = customer.act("HEAD /cheap/a", Act::Voucher { cumulative: 10 }).await;
    assert_eq!(ahead.status, 204);
    assert_eq!(
        (&receipt(&ahead)["acceptedCumulative"], &receipt(&ahead)["spent"]),
        (&json!("10"), &json!("4"))
    );
    let dear = customer.pay("GET /dear", 54).await;
    assert_eq!(dear.status, 200, "{}", dear.body);
    let form = customer.credential("POST /form", Act::Voucher { cumulative: 56 }).await;
    assert_eq!(shop.present("POST /form", &form, "a=1").await.status, 200);
    let (status, listed) = shop.operate("GET sessions", &Value::Null).await;
    assert_eq!(status, 200, "{listed}");
    assert_eq!(
        (&listed[0]["state"], &listed[0]["spent"], &listed[0]["deposit"]),
        (&json!("open"), &json!("0.56 usd"), &json!("0.70 usd"))
    );
    let closed = customer.act("GET /cheap/a", Act::Close { cumulative: 56 }).await;
    assert_eq!(closed.status, 204, "{}", closed.body);
    assert_eq!(
        (&receipt(&closed)["state"], &receipt(&closed)["refunded"]),
        (&json!("closed"), &json!("14"))
    );
    // Closing again is told the same.
    let again = customer.act("GET /cheap/a", Act::Close { cumulative: 56 }).await;
    assert_eq!(receipt(&again)["refunded"], "14");
    assert_eq!(shop.upstream.seen().len(), 6, "what buys nothing reaches nobody");
    assert_eq!(shop.earned(), 56);
    let books = shop.books();
    let left = books.accounts[&"prepaid/agent/usd".parse().unwrap()].available();
    assert_eq!(left, 1_000 - 56);
}

/// R-05: a voucher sent a hundred times is one answer; a lower one buys nothing.
#[tokio::test(flavor = "multi_thread")]
async fn r_05_a_voucher_buys_once() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    let voucher = customer.credential("GET /cheap/b", Act::Voucher { cumulative: 3 }).await;
    let first = shop.present("GET /cheap/b", &voucher, "").await;
    for _ in 0..100 {
        let again = shop.present("GET /cheap/b", &voucher, "").await;
        assert_eq!((again.status.as_u16(), &again.body), (200, &first.body));
        assert_eq!(again.fields["payment-receipt"], first.fields["payment-receipt"]);
    }
    // Also under a fresh challenge: it is the voucher that was spent.
    assert_eq!(customer.pay("GET /cheap/b", 3).await.status, 200);
    assert_eq!(shop.upstream.seen().len(), 2, "served once each");
    let elsewhere = customer.pay("GET /cheap/c", 3).await;
    let problem = refused(&elsewhere, 402, "session/insufficient-balance");
    assert_eq!((&problem["requiredCumulative"], &problem["spent"]), (&json!("4"), &json!("2")));
    assert_eq!(problem["channelId"], customer.session.channel);
    refused(&customer.pay("GET /cheap/c", 2).await, 402, "session/insufficient-balance");
    assert_eq!(customer.pay("GET /cheap/c", 4).await.status, 200, "the control");
    assert_eq!(shop.earned(), 3);
}

/// B-12: what a voucher newly authorises for a cheap route does not buy a dear one.
#[tokio::test(flavor = "multi_thread")]
async fn b_12_a_cheap_voucher_does_not_buy_what_is_dear() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 100).await;
    assert_eq!(customer.open(1).await.status, 200);
    let problem = refused(&customer.pay("GET /dear", 2).await, 402, "session/insufficient-balance");
    assert_eq!(problem["requiredCumulative"], "51");
    // Nor with the challenge of the cheap route.
    let cheap = customer.credential("GET /cheap/a", Act::Voucher { cumulative: 51 }).await;
    refused(&shop.present("GET /dear", &cheap, "").await, 402, "invalid-challenge");
    assert_eq!(customer.pay("GET /dear", 51).await.status, 200, "the control");
    assert_eq!(shop.earned(), 51);
}

/// S-01, S-02, B-04: another's signature, another channel, another seller: refused on every action.
#[tokio::test(flavor = "multi_thread")]
async fn s_01_every_action_is_signed_by_whoever_may() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    // Mallory has a key of their own, and says it is for this channel.
    let mut mallory = Customer::with(&shop, 9, 10).await;
    mallory.session.channel.clone_from(&customer.session.channel);
    for act in [Act::Voucher { cumulative: 5 }, Act::Close { cumulative: 5 }] {
        let answer = mallory.act("GET /cheap/a", act).await;
        refused(&answer, 402, "session/signer-mismatch");
    }
    let ahead = mallory.act("HEAD /cheap/a", Act::Voucher { cumulative: 5 }).await;
    assert_eq!(ahead.status, 402);
    let more = mallory.act("GET /cheap/a", Act::TopUp { additional: 5, before: 0 }).await;
    refused(&more, 402, "session/signer-mismatch");
    let opened = mallory.act("GET /cheap/a", Act::Open { cumulative: 5 }).await;
    refused(&opened, 402, "verification-failed");
    // A signature that is none, on each action.
    for act in [
        Act::Open { cumulative: 1 },
        Act::TopUp { additional: 5, before: 0 },
        Act::Voucher { cumulative: 5 },
        Act::Close { cumulative: 5 },
    ] {
        let invitation = invited(&shop.get("/cheap/a").await);
        let mut paid = customer.payer.act(&invitation, &customer.session, act).await.ok().unwrap();
        for name in ["signature", "depositSignature"] {
            if paid.payload.contains_key(name) {
                let forged = farthing_mpp::base64url::encode([7; 64]);
                paid.payload.insert(name.into(), forged.into());
            }
        }
        let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
        let answer = shop.present("GET /cheap/a", value.to_str().unwrap(), "").await;
        refused(&answer, 402, "session/invalid-signature");
    }
    // An amount that was not signed.
    let invitation = invited(&shop.get("/cheap/a").await);
    let act = Act::Voucher { cumulative: 2 };
    let mut paid = customer.payer.act(&invitation, &customer.session, act).await.ok().unwrap();
    paid.payload.insert("cumulativeAmount".into(), "9".into());
    let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
    let answer = shop.present("GET /cheap/a", value.to_str().unwrap(), "").await;
    refused(&answer, 402, "session/invalid-signature");
    // A channel that never was.
    let unopened = Customer::with(&shop, 7, 11).await;
    refused(&unopened.pay("GET /cheap/a", 1).await, 410, "session/channel-not-found");
    assert_eq!(customer.pay("GET /cheap/a", 2).await.status, 200, "the control");
    assert_eq!(shop.earned(), 2);
}

/// B-04: a voucher for another payee is none here, although both books know the key.
#[tokio::test(flavor = "multi_thread")]
async fn b_04_a_session_is_for_one_seller() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    let invitation = invited(&shop.get("/cheap/a").await);
    for name in ["recipient", "currency"] {
        let mut other = invitation.clone();
        let value = if name == "recipient" { "other-seller" } else { "eur" };
        other.request.insert(name.into(), value.into());
        let Ok(paid) =
            customer.payer.act(&other, &customer.session, Act::Voucher { cumulative: 3 }).await
        else {
            continue;
        };
        // The challenge is ours, and what was signed is for somebody else.
        let (_, value) = MppBuyer.write_credential(&invitation, &paid).unwrap();
        let answer = shop.present("GET /cheap/a", value.to_str().unwrap(), "").await;
        refused(&answer, 402, "session/invalid-signature");
    }
    assert_eq!(customer.pay("GET /cheap/a", 3).await.status, 200, "the control");
}

/// S-04, S-08, S-06, S-03, D-06: within the deposit, which is not of dust; closed for good; never more than was
/// spent.
#[tokio::test(flavor = "multi_thread")]
async fn s_04_a_session_stays_within_its_deposit_and_ends() {
    let shop = Shop::open_with("", ROUTES).await;
    let little = Customer::with(&shop, 7, 4).await;
    refused(&little.open(1).await, 402, "payment-insufficient");
    let beyond = Customer::with(&shop, 7, 2_000).await;
    refused(&beyond.open(1).await, 402, "payment-insufficient");
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    for cumulative in [11, u128::MAX] {
        let answer = customer.pay("GET /cheap/a", cumulative).await;
        let problem = refused(&answer, 402, "session/amount-exceeds-deposit");
        assert_eq!(problem["deposit"], "10");
    }
    assert_eq!(customer.pay("GET /cheap/b", 10).await.status, 200, "the control");
    let closed = customer.act("GET /cheap/a", Act::Close { cumulative: 10 }).await;
    assert_eq!(
        (&receipt(&closed)["spent"], &receipt(&closed)["refunded"]),
        (&json!("2"), &json!("8"))
    );
    for cumulative in [9, 10] {
        let late = customer.pay("GET /cheap/c", cumulative).await;
        refused(&late, 410, "session/channel-finalized");
    }
    let more = customer.act("GET /cheap/a", Act::TopUp { additional: 5, before: 0 }).await;
    refused(&more, 410, "session/channel-finalized");
    refused(&customer.open(1).await, 410, "session/channel-finalized");
    assert_eq!(shop.earned(), 2);
}

/// S-07: 64 vouchers at once in no order: the last one counts, and what was served was paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s_07_vouchers_at_once_lose_nothing() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 100).await;
    assert_eq!(customer.open(1).await.status, 200);
    let invitation = invited(&shop.get("/cheap/a").await);
    let mut requests = tokio::task::JoinSet::new();
    for at in 0..64_u128 {
        let cumulative = (at * 37) % 64 + 2;
        let voucher = customer.answering(&invitation, Act::Voucher { cumulative }).await;
        let (http, url) =
            (shop.http.clone(), format!("http://{}/cheap/{cumulative}", shop.address));
        requests.spawn(async move {
            http.get(url).header("authorization", voucher).send().await.unwrap().status().as_u16()
        });
    }
    let statuses = requests.join_all().await;
    let served = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 402].contains(status)), "{statuses:?}");
    let (_, listed) = shop.operate("GET sessions", &Value::Null).await;
    assert_eq!(listed[0]["accepted"], "0.65 usd");
    assert_eq!(shop.earned(), u128::try_from(served).unwrap() + 1);
    assert_eq!(shop.upstream.seen().len(), served + 1);
}

/// S-22: a price that has changed since is another offer.
#[tokio::test(flavor = "multi_thread")]
async fn s_22_a_price_that_has_changed_is_another_offer() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 100).await;
    assert_eq!(customer.open(1).await.status, 200);
    let invitation = invited(&shop.get("/cheap/a").await);
    for changed in [
        ROUTES.replace("0.01 usd", "0.03 usd"),
        ROUTES.replace("unit = \"request\"", "unit = \"token\""),
    ] {
        shop.gateway.reload(&config(&shop.text("", &changed))).unwrap();
        let voucher = customer.answering(&invitation, Act::Voucher { cumulative: 2 }).await;
        let answer = shop.present("GET /cheap/b", &voucher, "").await;
        refused(&answer, 402, "invalid-challenge");
    }
    shop.gateway.reload(&config(&shop.text("", ROUTES))).unwrap();
    let voucher = customer.answering(&invitation, Act::Voucher { cumulative: 2 }).await;
    assert_eq!(shop.present("GET /cheap/b", &voucher, "").await.status, 200, "the control");
}

/// S-03: after a restart a session is where it was, and a voucher whose answer was lost has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_the_gateway() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    let voucher = customer.credential("GET /cheap/b", Act::Voucher { cumulative: 2 }).await;
    assert_eq!(shop.present("GET /cheap/b", &voucher, "").await.status, 200);
    let session = customer.session.clone();
    drop(customer);
    let Shop { folder, gateway, upstream, payer, .. } = shop;
    gateway.stop().await;
    let shop = Shop::open_in(folder, upstream, "", ROUTES).await;
    let again = shop.present("GET /cheap/b", &voucher, "").await;
    assert_eq!(
        (again.status.as_u16(), &again.fields["farthing-replayed"]),
        (200, &"true".parse().unwrap())
    );
    let customer = Customer { shop: &shop, payer, session };
    assert_eq!(customer.pay("GET /cheap/c", 3).await.status, 200);
    let opened = customer.open(1).await;
    assert!(opened.fields.contains_key("farthing-replayed"), "opening again is the same answer");
    assert_eq!(shop.earned(), 3);
}

/// A handler that failed owes its answer to the same voucher, and takes nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_answer_is_owed_to_its_voucher() {
    let fails = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let state = Arc::clone(&fails);
    let router = axum::Router::new().fallback(move || {
        let fails = state.load(std::sync::atomic::Ordering::SeqCst);
        async move {
            if fails {
                return (http::StatusCode::INTERNAL_SERVER_ERROR, "no");
            }
            (http::StatusCode::OK, "yes")
        }
    });
    let upstream = Upstream::at(crate::shop::serve(router).await);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    let set = |it| fails.store(it, std::sync::atomic::Ordering::SeqCst);
    set(true);
    let voucher = customer.credential("GET /cheap/b", Act::Voucher { cumulative: 2 }).await;
    assert_eq!(shop.present("GET /cheap/b", &voucher, "").await.status, 500);
    set(false);
    let answered = shop.present("GET /cheap/b", &voucher, "").await;
    assert_eq!((answered.status.as_u16(), answered.body.as_str()), (200, "yes"));
    assert_eq!(shop.earned(), 2);
}

/// S-15: a session that nobody uses is closed by its seller, and the customer has the rest again.
#[tokio::test(flavor = "multi_thread")]
async fn s_15_an_idle_session_is_closed_and_the_rest_given_back() {
    let routes = ROUTES.replace("idle_s = 3600", "idle_s = 1");
    let shop = Shop::open_with("", &routes).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(3).await.status, 200);
    loop {
        let (_, listed) = shop.operate("GET sessions", &Value::Null).await;
        if listed[0]["state"] == "closed" {
            assert_eq!(
                (&listed[0]["settled"], &listed[0]["refundable"]),
                (&json!("0.01 usd"), &json!("0.00 usd"))
            );
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    refused(&customer.pay("GET /cheap/b", 4).await, 410, "session/channel-finalized");
    assert_eq!(shop.books().accounts[&"prepaid/agent/usd".parse().unwrap()].available(), 999);
}

/// Only an operator lists and closes sessions.
#[tokio::test(flavor = "multi_thread")]
async fn operators_list_and_close_sessions() {
    let shop = Shop::open_with("", ROUTES).await;
    let customer = Customer::with(&shop, 7, 10).await;
    assert_eq!(customer.open(1).await.status, 200);
    assert_eq!(shop.admin("/v1/sessions").await.status, 401);
    assert_eq!(shop.get("/v1/sessions").await.status, 404, "it is not public");
    let unknown = json!({ "channel": "prepaid:none" });
    assert_eq!(shop.operate("POST sessions/close", &unknown).await.0, 404);
    let order = json!({ "channel": format!("prepaid:{}", customer.session.channel) });
    for _ in 0..2 {
        let (status, closed) = shop.operate("POST sessions/close", &order).await;
        assert_eq!((status, &closed["state"]), (200, &json!("closed")), "{closed}");
        assert_eq!(closed["spent"], "0.01 usd");
    }
    let metrics = shop.admin("/metrics").await;
    assert!(metrics.body.contains("farthing_sessions"), "{}", metrics.body);
}

/// What is sold singly is not sold in a session, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_sells_as_its_seller_says() {
    let shop = Shop::open_with("", ROUTES).await;
    let intents = |answer: &Answer| {
        answer.invitations().iter().map(|it| it.intent.clone()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(intents(&shop.get("/cheap/a").await), "session");
    assert_eq!(intents(&shop.get("/dear").await), "session charge");
    assert_eq!(intents(&shop.get("/single").await), "charge");
    let offers = invited(&shop.get("/cheap/a").await).request;
    assert_eq!(
        (&offers["unitType"], &offers["suggestedDeposit"]),
        (&json!("request"), &json!("100"))
    );
    let openapi = shop.get("/openapi.json").await.json();
    let info = &openapi["paths"]["/dear"]["get"]["x-payment-info"]["offers"];
    assert_eq!((&info[0]["intent"], &info[1]["intent"]), (&json!("session"), &json!("charge")));
    let singly = shop.get("/dear").await.invitations().remove(1);
    let credential = shop.credential(&singly).await;
    assert_eq!(shop.present("GET /dear", &credential, "").await.status, 200);
    assert_eq!(shop.payer.account(), PrepaidPayer::new(&[7; 32], assets()).account());
}
