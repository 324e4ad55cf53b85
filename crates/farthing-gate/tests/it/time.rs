//! Clocks, and what they do to a payment.

use std::sync::Arc;
use std::time::Duration;

use farthing_store_memory::Paper;
use farthing_testkit::store::START;

use crate::shop::Shop;

/// K-01: an offer is good until the instant it names.
#[tokio::test]
async fn k_01_an_offer_ends_at_the_instant_it_names() {
    let end = START.after(Duration::from_mins(5));
    for (at, status, problem) in [
        (end.before(Duration::from_secs(1)), 200, ""),
        (end, 402, "payment-expired"),
        (end.after(Duration::from_secs(1)), 402, "payment-expired"),
        (end.after(Duration::from_hours(1_000_000)), 402, "payment-expired"),
    ] {
        let shop = Shop::open();
        let credential = shop.buy("GET /a", "").await;
        shop.clock.set(at);
        let answer = shop.present("GET /a", &credential, "").await;
        assert_eq!(answer.status.as_u16(), status, "{at}");
        if status == 402 {
            assert_eq!(answer.problem(), problem);
            assert_eq!(shop.books().claimed, 0);
        }
    }
}

/// K-04, R-06: no clock, forwards or backwards, and no restart opens a window for a replay.
#[tokio::test]
async fn k_04_a_jumping_clock_opens_no_window() {
    let shop = Shop::open();
    let credential = shop.buy("GET /a", "").await;
    assert_eq!(shop.present("GET /a", &credential, "").await.status, 200, "control");
    let hour = Duration::from_hours(1);
    for at in [START.after(hour), START.before(hour), START.after(hour), START] {
        shop.clock.set(at);
        // While it is in time the same answer is given, which buys nothing.
        let status = shop.present("GET /a", &credential, "").await.status;
        assert!(status == 402 || (at == START && status == 200), "{at}: {status}");
        let other = shop.buy("GET /b", "").await;
        assert_eq!(shop.present("GET /b", &other, "").await.status, 200, "business goes on");
    }
    for seconds in [0, 299, 300, 301, 430] {
        let reopened = Shop::open_with(None, shop.paper());
        reopened.clock.set(START.after(Duration::from_secs(seconds)));
        let status = if seconds < 300 { 200 } else { 402 };
        let again = reopened.present("GET /a", &credential, "").await.status;
        assert_eq!(again, status, "{seconds} s");
        assert_eq!(reopened.served(), 0);
    }
}

/// K-05: a challenge that expires while the rail works was in time: decided once, at admission.
#[tokio::test]
async fn k_05_what_was_in_time_at_admission_is_in_time() {
    let shop = Arc::new(Shop::open());
    let credential = shop.buy("GET /a", "").await;
    shop.dial.hold();
    let slow = {
        let (shop, credential) = (Arc::clone(&shop), credential.clone());
        tokio::spawn(async move { shop.present("GET /a", &credential, "").await })
    };
    shop.until_pending().await;
    shop.clock.set(START.after(Duration::from_hours(1)));
    shop.dial.release(1);
    assert_eq!(slow.await.unwrap().status, 200);
    assert_eq!(shop.books().delivered, 1);
}

/// A crash after the claim and before the answer: the retry is answered, and charged once.
#[tokio::test]
async fn a_retry_after_a_restart_is_answered() {
    let paper = Paper::default();
    let shop = Shop::open_with(None, paper.clone());
    let credential = shop.buy("GET /a", "").await;
    shop.answer_with(502, &[]);
    assert_eq!(shop.present("GET /a", &credential, "").await.status, 502);
    let reopened = Shop::open_with(None, paper);
    let answer = reopened.present("GET /a", &credential, "").await;
    assert_eq!(answer.status, 200);
    assert!(answer.receipt().is_some());
    assert_eq!(reopened.dial.settlements(), 0, "the money had moved before");
    assert_eq!(farthing_ledger::audit(&reopened.paper().records()).unwrap().delivered, 1);
}
