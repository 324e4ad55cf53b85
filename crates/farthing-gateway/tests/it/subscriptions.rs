//! Subscriptions over HTTP: what is said, what is cached, and what operators see.

use farthing_core::{Buyer, Invitation, SUBSCRIPTION, SubscriptionAct, SubscriptionPayer};
use farthing_protocols::mpp::MppBuyer;
use serde_json::{Value, json};

use crate::shop::{Answer, SECRET, Shop, TOKEN, config_text};

/// Two routes of one plan, one of them sold singly too, and one of another plan.
const ROUTES: &str = r#"
[subscriptions]
retries_s = [60]
grace_s = 3600

[[routes]]
name = "reports"
methods = ["GET"]
path = "/reports/{name}"
upstream = "up"
intents = ["subscription"]
subscription = { price = "2.00 usd", period = "1 month", plan = "pro" }

[[routes]]
name = "search"
methods = ["GET", "POST"]
path = "/search"
upstream = "up"
price = "0.25 usd"
intents = ["subscription", "charge"]
subscription = { price = "2.00 usd", period = "1 month", plan = "pro" }

[[routes]]
name = "gold"
methods = ["GET"]
path = "/gold"
upstream = "up"
intents = ["subscription"]
subscription = { price = "2.00 usd", period = "1 month" }
"#;

fn invited(answer: &Answer) -> Invitation {
    assert_eq!(answer.status, 402, "{}", answer.body);
    let offers = answer.invitations();
    offers.into_iter().find(|offer| offer.intent == SUBSCRIPTION).unwrap()
}

async fn answering(shop: &Shop, invitation: &Invitation, act: SubscriptionAct) -> String {
    let paid = shop.payer.subscribe(invitation, act).await.ok().unwrap();
    let (_, value) = MppBuyer.write_credential(invitation, &paid).unwrap();
    value.to_str().unwrap().to_owned()
}

/// Does something under a fresh challenge of `line`.
async fn act(shop: &Shop, line: &str, act: SubscriptionAct) -> Answer {
    let invitation = invited(&shop.send(line, &[], "").await);
    let credential = answering(shop, &invitation, act).await;
    shop.present(line, &credential, "").await
}

async fn begin(shop: &Shop, line: &str) -> String {
    let answer = act(shop, line, SubscriptionAct::Begin { until: None }).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    receipt(&answer)["subscriptionId"].as_str().unwrap().to_owned()
}

async fn using(shop: &Shop, line: &str, id: &str) -> Answer {
    act(shop, line, SubscriptionAct::Use { id: id.to_owned() }).await
}

fn receipt(answer: &Answer) -> Value {
    MppBuyer.read_receipt(&answer.fields).map(Value::Object).unwrap_or_default()
}

fn usually(answer: &Answer, name: &str) -> String {
    answer.fields[name].to_str().unwrap().to_owned()
}

/// A refusal: its problem, which comes with a fresh challenge that nobody stores.
#[track_caller]
fn refused(answer: &Answer, slug: &str) -> Value {
    assert_eq!(answer.status, 402, "{}", answer.body);
    let problem = answer.json();
    let kind = problem["type"].as_str().unwrap();
    assert_eq!(kind.strip_prefix("https://paymentauth.org/problems/"), Some(slug));
    assert!(!answer.invitations().is_empty(), "a fresh challenge says how to go on");
    assert_eq!(usually(answer, "cache-control"), "no-store");
    problem
}

/// SUB.S01, SUB.S08, SUB.S10: a challenge that expires and nobody stores, then 200 with a receipt that names
/// the subscription and that no shared cache keeps; used at every route of the plan, for nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn one_charge_pays_for_a_month_of_requests() {
    let shop = Shop::open_with("", ROUTES).await;
    let asked = shop.get("/reports/a").await;
    assert_eq!(usually(&asked, "cache-control"), "no-store");
    let invitation = invited(&asked);
    assert!(invitation.expires_at.is_some());
    assert_eq!(
        serde_json::to_string(&invitation.request).unwrap(),
        r#"{"amount":"200","currency":"usd","externalId":"pro","methodDetails":{"decimals":2},"periodCount":"1","periodUnit":"month","recipient":"seller"}"#
    );
    let begin = SubscriptionAct::Begin { until: None };
    let credential = answering(&shop, &invitation, begin).await;
    let answer = shop.present("GET /reports/a", &credential, "").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "the answer"));
    assert!(usually(&answer, "cache-control").contains("private"));
    let said = receipt(&answer);
    assert_eq!((&said["intent"], &said["period"]), (&json!("subscription"), &json!(0)));
    let id = said["subscriptionId"].as_str().unwrap().to_owned();
    assert!(said["reference"].as_str().unwrap().starts_with("pay_"), "the charge: {said}");
    let again = shop.present("GET /reports/a", &credential, "").await;
    assert_eq!(receipt(&again), said, "the same credential, the same answer");
    for line in ["GET /reports/b", "GET /search?q=x", "POST /search"] {
        let used = using(&shop, line, &id).await;
        assert_eq!((used.status.as_u16(), used.body.as_str()), (200, "the answer"), "{line}");
        assert_eq!(receipt(&used)["reference"], said["reference"]);
    }
    assert_eq!(shop.earned(), 200);
    // A single payment is still one.
    let asked = shop.get("/search?q=y").await;
    let charge = asked.invitations().into_iter().find(|it| it.intent == "charge").unwrap();
    let credential = shop.credential(&charge).await;
    assert_eq!(shop.present("GET /search?q=y", &credential, "").await.status, 200);
    assert_eq!(shop.earned(), 225);
}

/// SUB.S06: a fresh challenge for a name that is nobody's, for another plan, and for what is over.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_buy_is_answered_with_a_fresh_challenge() {
    let shop = Shop::open_with("", ROUTES).await;
    let id = begin(&shop, "GET /reports/a").await;
    let nobodys = using(&shop, "GET /reports/a", "sub_00000000000000000000000000000000").await;
    refused(&nobodys, "verification-failed");
    let problem = refused(&using(&shop, "GET /gold", &id).await, "verification-failed");
    assert_eq!((&problem["subscriptionId"], problem.get("state")), (&json!(id), None));
    assert_eq!(using(&shop, "GET /reports/a", &id).await.status, 200, "the control");
    // A use of one request is none of another.
    let invitation = invited(&shop.get("/reports/a").await);
    let act = SubscriptionAct::Use { id: id.clone() };
    let credential = answering(&shop, &invitation, act).await;
    refused(&shop.present("GET /reports/b", &credential, "").await, "invalid-challenge");
    assert_eq!(shop.present("GET /reports/a", &credential, "").await.status, 200, "the control");
    assert_eq!(shop.earned(), 200);
}

/// SUB.S07: the payer cancels with a request that buys nothing; operators see it, and see it no more as
/// active.
#[tokio::test(flavor = "multi_thread")]
async fn cancelling_is_answered_and_listed() {
    let shop = Shop::open_with("", ROUTES).await;
    let id = begin(&shop, "GET /reports/a").await;
    let other = begin(&shop, "GET /gold").await;
    let seen = shop.upstream.seen().len();
    let cancel = SubscriptionAct::Cancel { id: id.clone() };
    let answer = act(&shop, "GET /reports/a", cancel).await;
    assert_eq!(answer.status, 204);
    let said = receipt(&answer);
    assert_eq!((&said["state"], &said["charges"]), (&json!("cancelled"), &json!(1)));
    assert!(said["paidUntil"].is_string(), "{said}");
    assert_eq!(shop.upstream.seen().len(), seen, "it bought nothing");
    let (status, listed) = shop.operate("GET subscriptions", &json!({})).await;
    assert_eq!(status, 200);
    let state = |id: &str| {
        let all = listed.as_array().unwrap();
        all.iter().find(|it| it["subscription"] == id).unwrap()["state"].clone()
    };
    assert_eq!((state(&id), state(&other)), (json!("cancelled"), json!("active")));
    let (status, line) =
        shop.operate("POST subscriptions/cancel", &json!({ "subscription": other })).await;
    assert_eq!((status, &line["state"]), (200, &json!("cancelled")));
    let nobodys = json!({ "subscription": "sub_00000000000000000000000000000000" });
    assert_eq!(shop.operate("POST subscriptions/cancel", &nobodys).await.0, 404);
    assert_eq!(using(&shop, "GET /gold", &other).await.status, 200, "it is paid for");
    let unasked = shop.http.get(format!("http://{}/v1/subscriptions", shop.admin)).send().await;
    assert_eq!(unasked.unwrap().status(), 401);
}

/// Discovery tells of subscriptions beside its offers, which know no such intent.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_tells_of_subscriptions_beside() {
    let shop = Shop::open_with("", ROUTES).await;
    let document = shop.get("/openapi.json").await.json();
    let operation = &document["paths"]["/search"]["get"];
    let offers = operation["x-payment-info"]["offers"].as_array().unwrap();
    assert!(offers.iter().all(|offer| offer["intent"] == "charge"), "{operation}");
    let plan = &operation["x-farthing-subscriptions"][0];
    assert_eq!((&plan["plan"], &plan["amount"]), (&json!("pro"), &json!("200")));
    let alone = &document["paths"]["/gold"]["get"];
    assert_eq!(alone.get("x-payment-info"), None);
    assert_eq!(alone["x-farthing-subscriptions"][0]["plan"], "gold");
    assert!(alone["responses"]["402"].is_object());
}

/// SUB.S09: what cannot be charged as it is written is refused when the configuration is read.
#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let read = |subscription: &str| {
        let route = format!(
            "[[routes]]\nname = \"r\"\nmethods = [\"GET\"]\npath = \"/r\"\nupstream = \"up\"\n{subscription}\n"
        );
        let book = std::path::Path::new("book.db");
        let text = config_text(book, ([127, 0, 0, 1], 1).into(), "", &route);
        let environment = |name: &str| match name {
            "SECRET" => Some(SECRET.to_owned()),
            _ => Some(TOKEN.to_owned()),
        };
        farthing_gateway::Config::parse(&text, std::path::Path::new("."), &environment).map(|_| ())
    };
    let sound = "intents = [\"subscription\"]\nsubscription = { price = \"2.00 usd\", period = \"1 month\" }";
    for (text, why) in [
        ("intents = [\"subscription\"]", "a price and a period"),
        (&*sound.replace("1 month", "1 year"), "a period is written like"),
        (&*sound.replace("1 month", "0 days"), "a period is written like"),
        (&*sound.replace("2.00 usd", "0.00 usd"), "costs something"),
        (&*sound.replace("[\"subscription\"]", "[\"charge\"]"), "has none"),
        (&*format!("price = \"1.00 usd\"\n{sound}"), "price is of a request"),
        (&*sound.replace(" }", ", until = \"soon\" }"), "a time is written like"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert!(read(sound).is_ok(), "the control");
}

const TEMPO: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
sqlite = "book.db"

[assets.usd]
decimals = 6

[rails.tempo]
chain_id = 42431
nodes = ["http://127.0.0.1:1"]
recipient = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
tokens = { usd = "0x20c0000000000000000000000000000000000000" }

[rails.tempo.sponsor]
key = "env:KEY"
asset = "usd"
per_payer_per_day = "5"
total_per_day = "50"

[rails.tempo.subscription]
keys = ["env:KEY", "env:FORMER"]

[seller]
name = "seller"

[upstreams.up]
url = "http://127.0.0.1:1"

[[routes]]
name = "reports"
methods = ["GET"]
path = "/reports"
upstream = "up"
intents = ["subscription"]
subscription = { price = "2.00 usd", period = "1 day" }
"#;

/// TSU.S02: on Tempo subscriptions are by days and weeks, in its tokens, with keys of one's own and a sponsor;
/// what cannot be charged is refused when the configuration is read.
#[test]
fn tempo_charges_by_days_and_weeks_with_a_sponsor() {
    let read = |text: &str| {
        let environment = |name: &str| match name {
            "SECRET" => Some(SECRET.to_owned()),
            "KEY" | "FORMER" => Some("5a".repeat(32)),
            _ => None,
        };
        farthing_gateway::Config::parse(text, std::path::Path::new("."), &environment)
    };
    let config = read(TEMPO).unwrap_or_else(|error| panic!("{error}"));
    let tempo = config.rails.iter().find_map(farthing_gateway::RailConfig::tempo).unwrap();
    let own = tempo.subscription.as_ref().unwrap();
    assert_eq!((own.periods, own.fee_max, own.former.len()), (12, 250_000, 1));
    assert!(read(&TEMPO.replace("1 day", "2 weeks")).is_ok(), "the control");
    let section = "[rails.tempo.subscription]\nkeys = [\"env:KEY\", \"env:FORMER\"]\n";
    let sponsor = TEMPO.find("[rails.tempo.sponsor]").unwrap();
    let unsponsored =
        TEMPO[..sponsor].to_owned() + &TEMPO[TEMPO.find("[rails.tempo.subscription]").unwrap()..];
    for (text, why) in [
        (TEMPO.replace("1 day", "1 month"), "tempo by days and weeks"),
        (TEMPO.replace(section, ""), "tempo by days and weeks"),
        (unsponsored, "need [rails.tempo.sponsor]"),
        (TEMPO.replace("[\"env:KEY\", \"env:FORMER\"]", "[]"), "the current one first"),
        (TEMPO.replace("keys = [\"env:KEY\"", "periods = 0\nkeys = [\"env:KEY\""), "1 to 1000"),
    ] {
        let error = read(&text).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(why), "{why}: {error}");
    }
    let with_prepaid = TEMPO.replace("[rails.tempo]\n", "[rails.prepaid]\n\n[rails.tempo]\n");
    assert!(read(&with_prepaid.replace("1 day", "1 month")).is_ok(), "another rail charges it");
}
