//! A payment buys what it was made for, and nothing else.

use crate::shop::{Shop, earned};

/// CORE.S01, CORE.S08: ask, pay, receive.
#[tokio::test]
async fn a_paid_request_is_answered_with_a_receipt() {
    let shop = Shop::open();
    let asked = shop.get("/a").await;
    assert_eq!((asked.status.as_u16(), asked.problem().as_str()), (402, "payment-required"));
    assert_eq!(asked.receipt(), None);
    let credential = shop.pay(&asked.invitations()[0]).await;
    let answer = shop.present("GET /a", &credential, "").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "the answer"));
    let receipt = answer.receipt().unwrap();
    assert_eq!(receipt["challengeId"], asked.invitations()[0].challenge);
    assert_eq!(receipt["amount"], "2500");
    let purchase = shop.purchase().unwrap();
    assert_eq!(receipt["trace"], purchase.trace.to_string());
    assert_eq!((purchase.payer.as_str(), purchase.amount.atoms()), ("alice", 2_500));
    let books = shop.books();
    assert_eq!((books.delivered, earned(&books)), (1, 2_500));
}

/// B-01: a payment for one route buys nothing on another, not even at the same price.
#[tokio::test]
async fn b_01_a_payment_for_one_route_buys_nothing_on_another() {
    let shop = Shop::open();
    let credential = shop.buy("GET /a", "").await;
    for line in ["GET /b", "POST /a", "GET /a?x=1", "HEAD /a"] {
        let answer = shop.present(line, &credential, "").await;
        assert_eq!(answer.status, 402, "{line}");
        assert_eq!(answer.fields["cache-control"], "no-store");
    }
    assert_eq!((shop.served(), shop.books().claimed), (0, 0));
    assert_eq!(shop.present("GET /a", &credential, "").await.status, 200, "control");
    assert_eq!(shop.books().delivered, 1);
}

/// B-02, CORE.S07: a payment that is bound to a body buys the answer to that body.
#[tokio::test]
async fn b_02_a_payment_for_one_body_buys_nothing_for_another() {
    let shop = Shop::open();
    let body = "{\"question\":\"why?\"}";
    let credential = shop.buy("POST /bound", body).await;
    for other in ["{\"question\":\"how?\"}", "{\"question\": \"why?\"}", "", "\u{1f}\u{8b}gzip"] {
        let answer = shop.present("POST /bound", &credential, other).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (402, "invalid-challenge"));
        let fresh = &answer.invitations()[0];
        assert_ne!(fresh.body, None, "the fresh challenge is for the body that came");
    }
    assert_eq!((shop.served(), shop.books().claimed), (0, 0));
    assert_eq!(shop.present("POST /bound", &credential, body).await.status, 200, "control");
    let (_, seen) = shop.seen.lock().unwrap().last().unwrap().clone();
    assert_eq!(seen, body, "the body reaches the service whole");
    assert_eq!(shop.send("POST /bound", &[], &"x".repeat(1_025)).await.status, 413);
    assert_eq!(shop.books().delivered, 1);
}

/// B-05: a shop with the same secret and another realm does not honour this one's challenges.
/// B-14: nor does this one honour an echo that was edited.
#[tokio::test]
async fn b_14_an_edited_echo_buys_nothing() {
    let shop = Shop::open();
    let (name, value) = shop.buy("GET /a", "").await;
    let token = value.strip_prefix("Payment ").unwrap();
    let json = String::from_utf8(farthing_mpp::base64url::decode(token).unwrap()).unwrap();
    let request =
        farthing_mpp::base64url::encode(r#"{"amount":"1","currency":"usd","recipient":"seller"}"#);
    let original = serde_json::from_str::<serde_json::Value>(&json).unwrap();
    let original = original["challenge"]["request"].as_str().unwrap().to_owned();
    for edited in [
        json.replace(&original, &request),
        json.replace("\"shop.example\"", "\"other.example\""),
        json.replace("\"test\"", "\"prepaid\""),
    ] {
        assert_ne!(edited, json);
        let forged = (name.clone(), format!("Payment {}", farthing_mpp::base64url::encode(edited)));
        let answer = shop.present("GET /a", &forged, "").await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (402, "invalid-challenge"));
    }
    assert_eq!((shop.served(), shop.books().claimed), (0, 0));
    assert_eq!(shop.present("GET /a", &(name, value), "").await.status, 200, "control");
}

/// B-15: the query decides the price, so it is part of what was bought, in any spelling.
#[tokio::test]
async fn b_15_a_payment_for_one_query_buys_nothing_for_another() {
    let shop = Shop::open();
    let credential = shop.buy("GET /tiered?tier=basic&page=2", "").await;
    for query in [
        "tier=premium&page=2",
        "tier=basic",
        "tier=basic&page=2&page=2",
        "tier=basic&tier=premium&page=2",
        "",
    ] {
        let line = format!("GET /tiered?{query}");
        assert_eq!(shop.present(&line, &credential, "").await.status, 402, "{query}");
    }
    assert_eq!((shop.served(), shop.books().claimed), (0, 0));
    let respelled = "GET /tiered?page=%32&t%69er=basic";
    assert_eq!(shop.present(respelled, &credential, "").await.status, 200, "control");
    assert_eq!(earned(&shop.books()), 1_000);
    let credential = shop.buy("GET /search?q=rain&utm=x", "").await;
    assert_eq!(shop.present("GET /search?q=snow", &credential, "").await.status, 402);
    assert_eq!(shop.present("GET /search?utm=y&q=rain", &credential, "").await.status, 200);
}

/// F-07, F-08: what the rail says decides, and every answer says whose turn it is. Nothing is settled
/// again while nobody knows, and a late answer counts once.
#[tokio::test]
async fn the_rail_has_the_last_word() {
    use farthing_rail_test::Answer::{Declined, MovedUnknown, Settled, StuckUnknown, Unsent};
    let shop = Shop::open();
    let credential = shop.buy("GET /a", "").await;
    shop.dial.set(Declined);
    let refused = shop.present("GET /a", &credential, "").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (402, "verification-failed"));
    assert!(refused.fields.contains_key("www-authenticate"));
    shop.dial.set(Settled);
    assert_eq!(shop.present("GET /a", &credential, "").await.problem(), "invalid-challenge");
    assert_eq!((shop.served(), shop.dial.settlements()), (0, 1));
    for (answer, settlements, later) in
        [(Unsent, 2, Settled), (StuckUnknown, 1, Settled), (MovedUnknown, 1, MovedUnknown)]
    {
        let shop = Shop::open();
        let credential = shop.buy("GET /a", "").await;
        shop.dial.set(answer);
        let refused = shop.present("GET /a", &credential, "").await;
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "about:blank"));
        assert!(!refused.fields.contains_key("www-authenticate"), "{answer:?}");
        assert_eq!((refused.receipt(), shop.served()), (None, 0));
        let pending = farthing_ledger::audit(&shop.paper().records()).unwrap().pending;
        assert_eq!(pending, 1, "{answer:?}");
        if answer != MovedUnknown {
            assert_eq!(shop.present("GET /a", &credential, "").await.status, 503, "{answer:?}");
        }
        assert_eq!(shop.dial.settlements(), settlements, "{answer:?}");
        shop.dial.set(later);
        let answered = shop.present("GET /a", &credential, "").await;
        assert_eq!(answered.status, 200, "{answer:?}");
        assert!(answered.receipt().is_some());
        assert_eq!(shop.present("GET /a", &credential, "").await.status, 200, "the same answer");
        assert_eq!((shop.served(), shop.dial.moved().len()), (1, 1), "{answer:?}");
        assert_eq!(earned(&shop.books()), 2_500);
    }
}

/// A payment whose answer failed is not lost: the same credential is answered, and charged once.
#[tokio::test]
async fn a_failed_answer_is_owed_and_not_charged_again() {
    let shop = Shop::open();
    let credential = shop.buy("GET /a", "").await;
    shop.answer_with(500, &[]);
    let failed = shop.present("GET /a", &credential, "").await;
    assert_eq!((failed.status.as_u16(), failed.receipt()), (500, None));
    assert_eq!(shop.books().undelivered, 1);
    shop.answer_with(200, &[]);
    let answered = shop.present("GET /a", &credential, "").await;
    assert_eq!(answered.status, 200);
    assert!(answered.receipt().is_some());
    assert_eq!(shop.present("GET /a", &credential, "").await.status, 200);
    assert_eq!(shop.served(), 2, "it failed once and was answered once");
    let books = shop.books();
    assert_eq!((books.claimed, books.delivered, earned(&books)), (1, 1, 2_500));
}
