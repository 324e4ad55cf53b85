//! Subscriptions from the wallet's side: what is held, what is believed, and when it begins anew.

use std::time::Duration;

use farthing_core::Clock as _;
use farthing_money::Timestamp;
use farthing_mpp::{Receipt, base64url};
use farthing_wallet::{PayFailure, PayOptions, Told, WalletSubscription, WalletSubscriptionState};
use http::{HeaderMap, StatusCode};

use crate::scene::{Answer, Owner, Server, TestClock, answer, get};

const A: &str = "sub_0000000000000000000000000000000a";
const B: &str = "sub_0000000000000000000000000000000b";

/// An owner who allows 5.00 usd a month, within `total` atoms.
fn owner(clock: &TestClock, total: u128) -> Owner {
    let mut owner = Owner::new(clock);
    owner.rules.subscription.insert("usd".parse().unwrap(), 500);
    owner.rules.total.insert("usd".parse().unwrap(), total);
    owner
}

fn challenge(id: &str, now: Timestamp) -> String {
    let request = r#"{"amount":"500","currency":"usd","externalId":"pro","methodDetails":{"decimals":2},"periodCount":"1","periodUnit":"month","recipient":"seller"}"#;
    let request = base64url::encode(request);
    let expires = now.after(Duration::from_mins(5));
    format!(
        "Payment id=\"{id}\", realm=\"127.0.0.1\", method=\"prepaid\", intent=\"subscription\", \
         request=\"{request}\", expires=\"{expires}\""
    )
}

/// A 402 that offers the subscription under challenge `id`.
fn offer(id: &str, now: Timestamp) -> Answer {
    answer(402, &[("www-authenticate", &challenge(id, now))], "")
}

/// The same, and what the seller says of a subscription.
fn refusal(id: &str, now: Timestamp, subscription: &str, state: &str) -> Answer {
    let problem = format!(
        r#"{{"type":"https://paymentauth.org/problems/payment-required","status":402,"detail":"no","subscriptionId":"{subscription}","state":"{state}","charges":1}}"#
    );
    answer(402, &[("www-authenticate", &challenge(id, now))], &problem)
}

/// An answer within period `period` of a subscription.
fn served(subscription: &str, period: u64, now: Timestamp) -> Answer {
    let receipt = Receipt::new("prepaid", now, "pay_1")
        .with("subscriptionId", subscription)
        .with("period", period)
        .format();
    answer(200, &[("payment-receipt", &receipt)], "served")
}

fn subscriptions(owner: &Owner) -> Vec<WalletSubscription> {
    owner.wallet().memory.subscriptions().unwrap()
}

fn states(owner: &Owner) -> Vec<&'static str> {
    subscriptions(owner).iter().map(|it| it.state.name()).collect()
}

/// The payload of a credential.
fn payload(credential: &str) -> serde_json::Value {
    let token = credential.strip_prefix("Payment ").unwrap();
    let bytes = base64url::decode(token).unwrap();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["payload"].clone()
}

/// SUB.C02: everything that may be charged is held before it is signed, and the end of it is signed; a cap
/// that leaves less is authorised for less, and one that leaves nothing for nothing.
#[tokio::test]
async fn what_may_be_charged_is_held_under_the_total() {
    let clock = TestClock::new();
    let now = clock.now();
    for (total, periods) in [(6_000, 12), (5_999, 6), (1_499, 1), (500, 1)] {
        let owner = owner(&clock, total);
        let seller = Server::script(vec![offer("c1", now), served(A, 0, now)]).await;
        owner.pay(&seller.url("/a")).await.unwrap();
        assert_eq!(owner.spent_and_held(), (0, periods * 500), "of {total}");
        let [it] = subscriptions(&owner).try_into().unwrap();
        assert_eq!((u128::from(it.periods), it.charges), (periods, 1));
        let shown = payload(&seller.credentials()[0]);
        assert_eq!(shown["until"], it.until.to_string());
        let ends = it.period.boundary(now, it.periods).unwrap();
        assert!(it.until < ends, "whatever the clocks say, no further period is begun");
    }
    let owner = owner(&clock, 499);
    let seller = Server::script(vec![offer("c1", now)]).await;
    assert!(matches!(owner.pay(&seller.url("/a")).await, Err(PayFailure::Books(_))));
    assert!(seller.credentials().is_empty(), "nothing was signed");
    assert_eq!(owner.spent_and_held(), (0, 0));
}

/// Each request shows a proof of its own, for its own challenge, and costs nothing.
#[tokio::test]
async fn each_use_is_proved_anew() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_000);
    let script = vec![
        offer("c1", now),
        served(A, 0, now),
        offer("c2", now),
        served(A, 0, now),
        offer("c3", now),
        served(A, 1, now),
    ];
    let seller = Server::script(script).await;
    for path in ["/a", "/b", "/c"] {
        owner.pay(&seller.url(path)).await.unwrap();
    }
    let shown: Vec<_> = seller.credentials().iter().map(|it| payload(it)).collect();
    let actions: Vec<_> = shown.iter().map(|it| it["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["subscribe", "use", "use"]);
    assert_ne!(shown[1]["signature"], shown[2]["signature"]);
    assert_eq!(states(&owner), ["active"]);
    // The seller speaks of a second period on the first day.
    assert_eq!(subscriptions(&owner)[0].charges, 1, "no more than have begun");
    assert_eq!(owner.spent_and_held(), (0, 6_000));
}

/// SUB.C04: a 402 for what is over is a new beginning: what was charged is counted, the rest is free, and
/// another subscription is begun within the same rules.
#[tokio::test]
async fn what_is_over_is_counted_and_begun_anew() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_500);
    let script = vec![
        offer("c1", now),
        served(A, 0, now),
        offer("c2", now),
        refusal("c3", now, A, "ended"),
        offer("c4", now),
        served(B, 0, now),
    ];
    let seller = Server::script(script).await;
    owner.pay(&seller.url("/a")).await.unwrap();
    let outcome = owner.pay(&seller.url("/b")).await.unwrap();
    assert_eq!(outcome.body, "served");
    let mut known: Vec<_> =
        subscriptions(&owner).iter().map(|it| (it.id.clone().unwrap(), it.state)).collect();
    known.sort_by(|a, b| a.0.cmp(&b.0));
    let (over, active) = (WalletSubscriptionState::Over, WalletSubscriptionState::Active);
    assert_eq!(known, [(A.to_owned(), over), (B.to_owned(), active)]);
    assert_eq!(owner.spent_and_held(), (500, 6_000));
}

/// What is past due is not begun anew: the account is to be funded.
#[tokio::test]
async fn what_is_past_due_is_kept() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 60_000);
    let script = vec![
        offer("c1", now),
        served(A, 0, now),
        offer("c2", now),
        refusal("c3", now, A, "past_due"),
        offer("c4", now),
        served(A, 0, now),
    ];
    let seller = Server::script(script).await;
    owner.pay(&seller.url("/a")).await.unwrap();
    assert!(matches!(owner.pay(&seller.url("/b")).await, Err(PayFailure::Refused(_))));
    assert_eq!(states(&owner), ["active"]);
    owner.pay(&seller.url("/b")).await.unwrap();
    assert_eq!((states(&owner), owner.spent_and_held()), (vec!["active"], (0, 6_000)));
}

/// SUB.C03: an answer that was lost is asked for with the same credential, by another process too.
#[tokio::test]
async fn a_lost_answer_is_asked_for_with_the_same_authorisation() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_000);
    let mut script = vec![offer("c1", now)];
    script.extend(std::iter::repeat_n(None, 5));
    script.push(offer("c2", now));
    script.push(served(A, 0, now));
    let seller = Server::script(script).await;
    assert!(matches!(owner.pay(&seller.url("/a")).await, Err(PayFailure::Unknown { .. })));
    assert_eq!(states(&owner), ["beginning"]);
    // Another request does not authorise anything beside it.
    assert!(matches!(owner.pay(&seller.url("/b")).await, Err(PayFailure::Hanging)));
    owner.pay(&seller.url("/a")).await.unwrap();
    let shown = seller.credentials();
    assert!(shown.len() == 6 && shown.iter().all(|it| it == &shown[0]), "{}", shown.len());
    assert_eq!((states(&owner), owner.spent_and_held()), (vec!["active"], (0, 6_000)));
}

/// A purchase with a name finds its lost answer under that name, and once it has it, gives it again.
#[tokio::test]
async fn a_named_purchase_within_a_subscription_is_taken_up_by_its_name() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_000);
    let mut script = vec![offer("c1", now)];
    script.extend(std::iter::repeat_n(None, 5));
    script.push(served(A, 0, now));
    let seller = Server::script(script).await;
    let request = get(&seller.url("/a"));
    let named = PayOptions { name: Some("monday's".to_owned()), ..PayOptions::default() };
    let lost = owner.wallet().pay(&request, &named).await;
    assert!(matches!(lost, Err(PayFailure::Unknown { .. })));
    let first = owner.wallet().pay(&request, &named).await.unwrap();
    let shown = seller.credentials();
    assert!(shown.len() == 6 && shown.iter().all(|it| it == &shown[0]), "{}", shown.len());
    let asked = seller.seen().len();
    let again = owner.wallet().pay(&request, &named).await.unwrap();
    assert_eq!((again.body, again.paid, seller.seen().len()), (first.body, first.paid, asked));
    assert_eq!((states(&owner), owner.spent_and_held()), (vec!["active"], (0, 6_000)));
}

/// What is said of a subscription's beginning by whoever asked for it frees nothing.
#[tokio::test]
async fn nobody_talks_a_subscription_away() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_000);
    let mut script = vec![offer("c1", now)];
    script.extend(std::iter::repeat_n(None, 5));
    let seller = Server::script(script).await;
    let lost = owner.pay(&seller.url("/a")).await;
    let Err(PayFailure::Unknown { payment, .. }) = lost else { panic!("it was answered") };
    let refused = Told { status: StatusCode::PAYMENT_REQUIRED, fields: HeaderMap::new() };
    owner.wallet().tell(payment, Some(&refused)).await.unwrap();
    assert_eq!((states(&owner), owner.spent_and_held()), (vec!["beginning"], (0, 6_000)));
    clock.advance(Duration::from_mins(6));
    let other = Server::script(vec![answer(200, &[], "free")]).await;
    owner.pay(&other.url("/a")).await.unwrap();
    assert_eq!((states(&owner), owner.spent_and_held()), (vec!["lost"], (0, 6_000)));
}

/// What nobody knows stays held until it cannot be charged any more; then it counts as spent.
#[tokio::test]
async fn what_nobody_knows_stays_held() {
    let clock = TestClock::new();
    let owner = owner(&clock, 60_000);
    let mut script = vec![offer("c1", clock.now())];
    script.extend(std::iter::repeat_n(None, 5));
    let seller = Server::script(script).await;
    assert!(owner.pay(&seller.url("/a")).await.is_err());
    clock.advance(Duration::from_hours(1));
    let later = clock.now();
    assert_eq!(owner.spent_and_held(), (0, 6_000));
    let other = Server::script(vec![offer("c2", later), served(B, 0, later)]).await;
    owner.pay(&other.url("/a")).await.unwrap();
    assert_eq!(states(&owner), ["active", "lost"]);
    assert_eq!(owner.spent_and_held(), (0, 12_000), "another origin, another subscription");
    clock.advance(Duration::from_hours(24 * 400));
    let last = clock.now();
    let third = Server::script(vec![offer("c3", last), served(A, 0, last)]).await;
    owner.pay(&third.url("/a")).await.unwrap();
    assert_eq!(
        owner.spent_and_held(),
        (12_000, 6_000),
        "whoever may charge is taken to have done so"
    );
}

/// What the seller has refused is free again once it cannot be taken any more.
#[tokio::test]
async fn what_was_refused_is_free_again() {
    let clock = TestClock::new();
    let now = clock.now();
    let owner = owner(&clock, 6_000);
    let script = vec![offer("c1", now), refusal("c2", now, A, "opening")];
    let seller = Server::script(script).await;
    assert!(matches!(owner.pay(&seller.url("/a")).await, Err(PayFailure::Refused(_))));
    assert_eq!((states(&owner), owner.spent_and_held().1), (vec!["refused"], 6_000));
    clock.advance(Duration::from_mins(6));
    let later = clock.now();
    let seller = Server::script(vec![offer("c3", later), served(A, 0, later)]).await;
    owner.pay(&seller.url("/a")).await.unwrap();
    assert_eq!(owner.spent_and_held(), (0, 6_000), "one of them is held");
}
