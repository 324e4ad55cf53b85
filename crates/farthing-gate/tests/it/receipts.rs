//! Receipts that anybody can check: with success only, about what was bought, and only from the gate.

use farthing_evidence::{Expected, Notary, ReceiptClaims, ReceiptFault, SecretKey, TrustedKeys};
use farthing_ledger::{Event, Payment, merkle::Hash};
use farthing_mpp::BodyDigest;
use farthing_rail_test::Answer as Rail;

use super::shop::{Answer, Shop};

fn notary() -> Notary {
    Notary::new("shop.example", SecretKey::from_bytes(&[7; 32]), &[]).ok().unwrap()
}

/// The keys as they would be published.
fn published() -> TrustedKeys {
    TrustedKeys::from_jwks(&notary().published().to_jwks()).unwrap()
}

fn token(answer: &Answer) -> Option<&str> {
    answer.fields.get("farthing-receipt").map(|value| value.to_str().unwrap())
}

fn claims(answer: &Answer) -> ReceiptClaims {
    ReceiptClaims::verify(token(answer).unwrap(), &published(), Expected::default()).unwrap()
}

fn payments(shop: &Shop) -> Vec<Payment> {
    let records = shop.paper().records().into_iter();
    let claimed = records.filter_map(|record| match record.event {
        Event::Claimed { payment, .. } => Some(*payment),
        Event::Opened { .. }
        | Event::KeyAttached { .. }
        | Event::KeyDetached { .. }
        | Event::Funded { .. }
        | Event::Posted { .. }
        | Event::Voided { .. }
        | Event::Failed { .. }
        | Event::Resumed { .. }
        | Event::Delivered { .. }
        | Event::Refunded { .. }
        | Event::RefundPosted { .. }
        | Event::RefundVoided { .. }
        | Event::Reconciled { .. }
        | Event::PayoutHeld { .. }
        | Event::PayoutReleased { .. }
        | Event::PaidOut { .. }
        | Event::Channel { .. }
        | Event::Owner { .. }
        | Event::Subscription { .. }
        | Event::Erased { .. } => None,
    });
    claimed.collect()
}

#[tokio::test]
async fn a_receipt_says_what_the_books_say() {
    let shop = Shop::open_signing(notary());
    let credential = shop.buy("POST /bound", "a question").await;
    let answer = shop.present("POST /bound", &credential, "a question").await;
    let claims = claims(&answer);
    let [payment] = &payments(&shop)[..] else { panic!("one was bought") };
    assert_eq!((claims.iss.as_str(), &claims.amount), ("shop.example", &payment.amount));
    assert_eq!((claims.jti, claims.trace), (payment.id, payment.trace));
    assert_eq!((&claims.challenge, &claims.scope), (&payment.challenge, &payment.scope));
    assert_eq!((&claims.payer, claims.payee.as_str()), (&payment.payer, "seller"));
    assert_eq!((claims.route.as_str(), claims.method.as_str()), ("bound", "test"));
    let digest = Hash::from_bytes(*BodyDigest::of(b"a question").as_bytes());
    assert_eq!(claims.body, Some(digest.to_string()));
    // The protocol's own receipt says the same, and the same answer again carries the same receipt.
    assert_eq!(answer.receipt().unwrap()["reference"], claims.reference.as_str());
    let again = shop.present("POST /bound", &credential, "a question").await;
    assert_eq!((again.status.as_u16(), token(&again)), (200, token(&answer)));
    assert!(again.fields.contains_key("farthing-replayed"));
    // What is not bound is not named.
    let credential = shop.buy("GET /a", "").await;
    let answer = shop.present("GET /a", &credential, "").await;
    assert_eq!(ReceiptClaims { body: None, ..self::claims(&answer) }, self::claims(&answer));
}

/// U-01: a receipt is for its own challenge, and by its own seller.
#[tokio::test]
async fn a_receipt_is_for_no_other_payment() {
    let shop = Shop::open_signing(notary());
    let mut bought = Vec::new();
    for path in ["GET /a", "GET /b"] {
        let credential = shop.buy(path, "").await;
        bought.push(shop.present(path, &credential, "").await);
    }
    let challenges: Vec<String> = payments(&shop).into_iter().map(|it| it.challenge).collect();
    for (at, answer) in bought.iter().enumerate() {
        let token = token(answer).unwrap();
        let verify = |keys: &TrustedKeys, challenge: &str| {
            let expected = Expected { issuer: Some("shop.example"), challenge: Some(challenge) };
            ReceiptClaims::verify(token, keys, expected)
        };
        verify(&published(), &challenges[at]).unwrap();
        let other = verify(&published(), &challenges[1 - at]);
        assert_eq!(other, Err(ReceiptFault::Challenge(challenges[at].clone())));
        let stranger = TrustedKeys::new(vec![SecretKey::from_bytes(&[8; 32]).public()]);
        assert!(matches!(verify(&stranger, &challenges[at]), Err(ReceiptFault::Signature(_))));
    }
}

/// U-02: whatever fails has no receipt, and what failed stands in the books.
#[tokio::test]
async fn there_is_no_receipt_for_a_failure() {
    // The control, and an upstream that forges one.
    for (status, receipted) in
        [(200, true), (201, true), (204, true), (304, false), (404, false), (500, false)]
    {
        let shop = Shop::open_signing(notary());
        shop.answer_with(status, &[("farthing-receipt", "e30.e30.Zm9yZ2Vk")]);
        let credential = shop.buy("GET /a", "").await;
        let answer = shop.present("GET /a", &credential, "").await;
        assert_eq!((answer.status.as_u16(), token(&answer).is_some()), (status, receipted));
        if receipted {
            claims(&answer);
        }
        let books = shop.books();
        let failed = u64::from(status == 500);
        assert_eq!((books.undelivered, books.delivered), (failed, 1 - failed));
    }
    // Asked, declined, unknown, and used again by another request.
    let shop = Shop::open_signing(notary());
    let asked = shop.get("/a").await;
    assert_eq!((asked.status.as_u16(), token(&asked)), (402, None));
    for answer in [Rail::Declined, Rail::StuckUnknown] {
        let shop = Shop::open_signing(notary());
        let credential = shop.buy("GET /a", "").await;
        shop.dial.set(answer);
        let refused = shop.present("GET /a", &credential, "").await;
        assert_eq!((refused.status.is_success(), token(&refused)), (false, None), "{answer:?}");
        let books = shop.books();
        assert_eq!((books.pending + books.voided, books.delivered), (1, 0), "{answer:?}");
    }
    let credential = shop.buy("GET /a", "").await;
    let foreign = shop.present("GET /b", &credential, "").await;
    assert_eq!((foreign.status.as_u16(), token(&foreign)), (402, None));
    // Who signs none gives none, and passes none of an upstream's on.
    let shop = Shop::open();
    shop.answer_with(200, &[("farthing-receipt", "e30.e30.Zm9yZ2Vk")]);
    let credential = shop.buy("GET /a", "").await;
    let answer = shop.present("GET /a", &credential, "").await;
    assert_eq!((answer.status.as_u16(), token(&answer)), (200, None));
}
