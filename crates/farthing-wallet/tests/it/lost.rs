//! When no answer comes, or not the one that was paid for.

use std::time::Duration;

use farthing_wallet::{PayFailure, PayOptions};

use crate::honest::Seller;
use crate::scene::{Owner, Server, TestClock, get, offer};

/// F-06: an answer that is lost on its way is asked for again with the same credential.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_fetched_with_the_same_credential() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    seller.answer_with(502);
    // The seller's own service fails once and then recovers, between two attempts of one command.
    let url = seller.server.url("/quote");
    let paying = owner.pay(&url);
    let recovering = async {
        while seller.served() < 2 {
            tokio::task::yield_now().await;
        }
        seller.answer_with(200);
    };
    let (outcome, ()) = tokio::join!(paying, recovering);
    assert_eq!(outcome.unwrap().status, 200);
    let credentials = seller.server.credentials();
    assert!(credentials.len() >= 2, "{}", credentials.len());
    assert!(credentials.iter().all(|it| *it == credentials[0]));
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
}

/// R-06: silence leaves the price held and the credential kept, over a restart too; the same
/// command sends it again and pays once.
#[tokio::test(flavor = "multi_thread")]
async fn silence_is_resumed_after_a_restart() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    seller.answer_with(503);
    let error = owner.pay(&seller.server.url("/quote")).await.unwrap_err();
    assert!(matches!(error, PayFailure::Unknown { .. }), "{error}");
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (0, 25)));
    seller.answer_with(200);
    let outcome = owner.pay(&seller.server.url("/quote")).await.unwrap();
    assert!(outcome.paid.unwrap().resumed);
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
    let credentials = seller.server.credentials();
    assert!(credentials.iter().all(|it| *it == credentials[0]));
}

/// F-06: the answer is lost after delivery: the seller gives it again, and the wallet does not pay
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_answer_that_was_lost_is_not_paid_twice() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    seller.lose_answers(1);
    let outcome = owner.pay(&seller.server.url("/quote")).await.unwrap();
    assert_eq!((outcome.status.as_u16(), &*outcome.body), (200, &b"the answer"[..]));
    assert!(outcome.paid.unwrap().receipt.is_some());
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
}

/// A credential whose end was never known cannot be sent for ever; then the owner decides.
#[tokio::test(flavor = "multi_thread")]
async fn an_unresolved_payment_is_not_repeated_unasked() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let url = seller.server.url("/quote");
    seller.answer_with(503);
    owner.pay(&url).await.unwrap_err();
    clock.advance(Duration::from_mins(6));
    seller.answer_with(200);
    let error = owner.pay(&url).await.unwrap_err();
    assert!(matches!(error, PayFailure::Unresolved { .. }), "{error}");
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (0, 25)));
    let again = PayOptions { pay_again: true, ..PayOptions::default() };
    let outcome = owner.wallet().pay(&get(&url), &again).await.unwrap();
    assert!(!outcome.paid.unwrap().resumed);
    assert_eq!((seller.earned(), owner.spent_and_held()), (50, (25, 25)));
}

/// A refused credential holds its price until it expires, since the seller has it; then the price
/// is free again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_payment_is_released_when_it_cannot_be_taken_any_more() {
    let clock = TestClock::new();
    let owner = Owner::new(&clock);
    let mut no = offer("25", "");
    *no.as_mut().unwrap().body_mut() = r#"{"detail":"The account is empty."}"#.into();
    let server = Server::script(vec![offer("25", ""), no, offer("30", "")]).await;
    let error = owner.pay(&server.url("/")).await.unwrap_err();
    assert!(matches!(error, PayFailure::Refused(_)), "{error}");
    assert!(error.to_string().contains("The account is empty."), "{error}");
    assert_eq!(owner.spent_and_held(), (0, 25));
    clock.advance(Duration::from_mins(5));
    // The next thing the wallet does begins with what has expired. The offer has expired too.
    owner.pay(&server.url("/other")).await.unwrap_err();
    assert_eq!(owner.spent_and_held(), (0, 0));
}

/// R-12, A-05: a seller that fails may have taken the payment: the answer is shown, the credential kept,
/// and the same request sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_seller_is_not_paid_twice() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    seller.answer_with(500);
    let outcome = owner.pay(&seller.server.url("/quote")).await.unwrap();
    assert_eq!(outcome.status.as_u16(), 500);
    assert!(outcome.paid.unwrap().kept_until.is_some());
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (0, 25)));
    seller.answer_with(200);
    let outcome = owner.pay(&seller.server.url("/quote")).await.unwrap();
    assert_eq!(outcome.status.as_u16(), 200);
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
    let credentials = seller.server.credentials();
    assert_eq!(credentials, [credentials[0].clone(), credentials[0].clone()]);
}

/// A seller that cannot be reached was not paid.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_seller_is_not_paid() {
    let owner = Owner::new(&TestClock::new());
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let error = owner.pay(&format!("http://{address}/")).await.unwrap_err();
    assert!(matches!(error, PayFailure::Unreachable(_)), "{error}");
    assert_eq!(owner.spent_and_held(), (0, 0));
}
