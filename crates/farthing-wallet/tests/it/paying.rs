//! Paying, as it goes well.

use bytes::Bytes;
use farthing_wallet::{PayFailure, PayOptions};
use http::Method;

use crate::honest::Seller;
use crate::scene::{Owner, TestClock, get};

/// CORE.C01, CORE.C03: one credential goes out, the answer comes back, and both books agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_402_is_paid_once_and_answered() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let outcome = owner.pay(&seller.server.url("/quote")).await.unwrap();
    assert_eq!((outcome.status.as_u16(), &outcome.body[..]), (200, &b"the answer"[..]));
    let paid = outcome.paid.unwrap();
    assert_eq!(paid.amount.unwrap().atoms(), 25);
    assert_eq!(paid.receipt.as_ref().unwrap()["status"], "success");
    assert_eq!(seller.server.seen().len(), 2);
    assert_eq!(seller.server.credentials().len(), 1);
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
    let receipts = owner.wallet().memory.receipts().unwrap();
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].payment, paid.payment);
    assert!(owner.wallet().memory.all_outstanding().unwrap().is_empty());
}

/// DISC.C01, DISC.C04: what a request costs is what its 402 says; no discovery is asked first.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_for_but_the_resource_itself() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    owner.pay(&seller.server.url("/quote")).await.unwrap();
    let lines: Vec<_> = seller.server.seen().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /quote", "GET /quote"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_free_is_not_paid() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let outcome = owner.pay(&seller.server.url("/free")).await.unwrap();
    assert_eq!(outcome.status, 200);
    assert_eq!(outcome.paid, None);
    assert_eq!((seller.earned(), owner.spent_and_held()), (0, (0, 0)));
}

/// CORE.C02: the body that was offered for is the body that is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_again_as_it_was() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let mut request = get(&seller.server.url("/quote?lang=en"));
    request.method = Method::POST;
    request.body = Bytes::from_static(b"{\"q\": \"why\"}");
    request.fields.insert("content-type", "application/json".parse().unwrap());
    let outcome = owner.wallet().pay(&request, &PayOptions::default()).await.unwrap();
    assert_eq!(outcome.status, 200);
    let seen = seller.server.seen();
    assert_eq!(seen.len(), 2);
    for seen in &seen {
        assert_eq!(seen.line, "POST /quote?lang=en");
        assert_eq!(seen.body, request.body);
        assert_eq!(seen.fields["content-type"], "application/json");
    }
    assert_eq!(seller.earned(), 25);
}

/// CORE.C01: where the challenge asks for the other field, the credential travels there, and the
/// user's own login stays where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_and_a_payment_travel_together() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let mut request = get(&seller.server.url("/taken"));
    request.fields.insert("authorization", "Bearer mine".parse().unwrap());
    let outcome = owner.wallet().pay(&request, &PayOptions::default()).await.unwrap();
    assert_eq!(outcome.status, 200);
    let paid = seller.server.seen().pop().unwrap();
    assert_eq!(paid.fields["authorization"], "Bearer mine");
    assert!(paid.fields["payment-authorization"].to_str().unwrap().starts_with("Payment "));
}

/// F-06: two purchases of the same thing are two purchases, once each is answered.
#[tokio::test(flavor = "multi_thread")]
async fn an_answered_request_can_be_bought_again() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    for spent in [25, 50] {
        owner.pay(&seller.server.url("/quote")).await.unwrap();
        assert_eq!((seller.earned(), owner.spent_and_held()), (spent, (spent, 0)));
    }
    let credentials = seller.server.credentials();
    assert_ne!(credentials[0], credentials[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_total_cap_holds_whoever_pays() {
    let clock = TestClock::new();
    let seller = Seller::open(&clock).await;
    let mut owner = Owner::new(&clock);
    owner.rules.total.insert("usd".parse().unwrap(), 60);
    let url = seller.server.url("/quote");
    // Each of these opens the wallet anew, as a process of its own would.
    let attempts = (0..5).map(|at| {
        let (wallet, url) = (owner.wallet(), format!("{url}?n={at}"));
        tokio::spawn(async move { wallet.pay(&get(&url), &PayOptions::default()).await })
    });
    let mut paid = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(_) => paid += 1,
            Err(error) => {
                assert!(matches!(error, PayFailure::Books(_)), "{error}");
                assert!(error.to_string().contains("total cap"), "{error}");
            }
        }
    }
    assert_eq!(paid, 2);
    assert_eq!((seller.earned(), owner.spent_and_held()), (50, (50, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_pays_nothing() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let request = get(&seller.server.url("/quote"));
    let preview = owner.wallet().preview(&request, &PayOptions::default()).await.unwrap().unwrap();
    assert_eq!(preview.offers.len(), 1);
    let offer = &preview.offers[0];
    assert!(offer.chosen, "{offer:?}");
    assert_eq!(offer.amount.as_ref().unwrap().atoms(), 25);
    assert_eq!(offer.recipient.as_deref(), Some("seller"));
    assert!(seller.server.credentials().is_empty());
    assert_eq!((seller.earned(), owner.spent_and_held()), (0, (0, 0)));
    // The same with what the owner does not allow.
    let request = get(&seller.server.url("/report"));
    let preview = owner.wallet().preview(&request, &PayOptions::default()).await.unwrap().unwrap();
    assert!(!preview.offers[0].chosen);
    assert!(preview.offers[0].objection.as_ref().unwrap().to_string().contains("the cap is 100"));
}
