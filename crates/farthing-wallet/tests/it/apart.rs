//! What is asked for apart from the request: a purchase under a name, and a signature alone.

use std::time::Duration;

use farthing_wallet::{Ending, PayFailure, PayOptions, Told};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, StatusCode};

use crate::honest::Seller;
use crate::scene::{Owner, Server, TestClock, answer, challenge, get, offer};

fn named(name: &str) -> PayOptions {
    PayOptions { name: Some(name.to_owned()), ..PayOptions::default() }
}

/// P-06: whoever names a purchase and loses its answer gets it again, over a restart too, and pays once.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_purchase_is_over_once_it_was_answered() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let request = get(&seller.server.url("/quote"));
    let first = owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    let asked = seller.server.seen().len();
    let again = owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    assert_eq!((again.status, &again.body, &again.paid), (first.status, &first.body, &first.paid));
    assert_eq!(again.fields, first.fields);
    assert_eq!(seller.server.seen().len(), asked);
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
    owner.wallet().pay(&request, &named("tuesday's")).await.unwrap();
    assert_eq!(owner.spent_and_held(), (50, 0));
    // A day later, nobody means the same one any more.
    clock.advance(Duration::from_hours(25));
    owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    assert_eq!((seller.earned(), owner.spent_and_held()), (75, (75, 0)));
}

/// A name does not keep an answer that is not final, and a failing seller is asked again.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_purchase_that_hangs_is_resumed() {
    let clock = TestClock::new();
    let (seller, owner) = (Seller::open(&clock).await, Owner::new(&clock));
    let request = get(&seller.server.url("/quote"));
    seller.answer_with(500);
    let failed = owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    assert_eq!(failed.status, 500);
    seller.answer_with(200);
    let outcome = owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    assert!(outcome.paid.unwrap().resumed);
    assert_eq!((seller.earned(), owner.spent_and_held()), (25, (25, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_purchase_with_a_long_answer_is_not_paid_again_either() {
    let clock = TestClock::new();
    let owner = Owner::new(&clock);
    let long = "x".repeat(1024 * 1024 + 1);
    let server = Server::script(vec![offer("25", ""), answer(200, &[], &long)]).await;
    let request = get(&server.url("/long"));
    let first = owner.wallet().pay(&request, &named("monday's")).await.unwrap();
    let error = owner.wallet().pay(&request, &named("monday's")).await.unwrap_err();
    let payment = first.paid.unwrap().payment;
    assert!(matches!(error, PayFailure::Answered { payment: it } if it == payment), "{error}");
    assert_eq!(server.seen().len(), 2);
    assert_eq!(owner.spent_and_held(), (25, 0));
}

/// A credential for somebody else's request is held like any other, and let go on nobody's word.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_for_others_stays_held() {
    let clock = TestClock::new();
    let owner = Owner::new(&clock);
    // Nobody is there to be asked, and nobody is.
    let request = get("http://127.0.0.1:1/quote");
    let refusal = offer("25", "").unwrap();
    let options = PayOptions::default();
    let signed = owner.wallet().sign_for(&request, &options, refusal.headers()).await.unwrap();
    assert!(signed.value.is_sensitive());
    assert_eq!(signed.amount.unwrap().atoms(), 25);
    let again = owner.wallet().sign_for(&request, &options, refusal.headers()).await.unwrap();
    assert_eq!((again.payment, again.value, again.resumed), (signed.payment, signed.value, true));
    assert_eq!(owner.spent_and_held(), (0, 25));
    let told = |status: u16| Told {
        status: StatusCode::from_u16(status).unwrap(),
        fields: HeaderMap::new(),
    };
    let held_until = signed.expires_at;
    let payment = signed.payment;
    assert_eq!(owner.wallet().tell(payment, None).await.unwrap(), Ending::Open { held_until });
    for failing in [429, 500, 503] {
        let ending = owner.wallet().tell(payment, Some(&told(failing))).await.unwrap();
        assert_eq!(ending, Ending::Open { held_until }, "{failing}");
    }
    let ending = owner.wallet().tell(payment, Some(&told(402))).await.unwrap();
    assert_eq!(ending, Ending::Refused { held_until });
    assert_eq!(owner.spent_and_held(), (0, 25));
    clock.advance(Duration::from_mins(6));
    // The offer has expired as well; the wallet begins with what it can give up. Whether it was refused is its
    // holder's word alone, and nobody can be asked: it counts as spent.
    let error = owner.wallet().sign_for(&request, &options, refusal.headers()).await;
    assert!(matches!(error, Err(PayFailure::Objections(_))));
    assert_eq!(owner.spent_and_held(), (25, 0));
    let error = owner.wallet().tell(payment, Some(&told(200))).await.unwrap_err();
    assert!(matches!(error, PayFailure::NoPayment), "{error}");
}

/// What the wallet's own process has seen is the seller's word; what was told before or after changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_to_be_refused_is_free_again() {
    let clock = TestClock::new();
    let owner = Owner::new(&clock);
    let offers = |id: &str| {
        let challenge = challenge(id, "25", "");
        HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge.parse().unwrap())])
    };
    let options = PayOptions::default();
    let refused = Told { status: StatusCode::PAYMENT_REQUIRED, fields: HeaderMap::new() };
    for path in ["seen", "told-then-seen", "seen-then-told"] {
        let request = get(&format!("http://127.0.0.1:1/{path}"));
        let wallet = owner.wallet();
        let payment = wallet.sign_for(&request, &options, &offers(path)).await.unwrap().payment;
        for word in path.split("-then-") {
            let ending = match word {
                "seen" => wallet.saw(payment, &refused).await,
                _ => wallet.tell(payment, Some(&refused)).await,
            };
            assert!(matches!(ending, Ok(Ending::Refused { .. })), "{path}");
        }
    }
    assert_eq!(owner.spent_and_held(), (0, 75));
    clock.advance(Duration::from_mins(6));
    let request = get("http://127.0.0.1:1/later");
    assert!(owner.wallet().sign_for(&request, &options, &offers("later")).await.is_err());
    assert_eq!(owner.spent_and_held(), (0, 0));
}

/// A seller that answered is paid, whatever it answered; and a receipt is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_elsewhere_is_spent() {
    let clock = TestClock::new();
    let owner = Owner::new(&clock);
    let request = get("http://127.0.0.1:1/quote");
    let refusal = offer("25", "").unwrap();
    let options = PayOptions::default();
    let signed = owner.wallet().sign_for(&request, &options, refusal.headers()).await.unwrap();
    let told = Told { status: StatusCode::NOT_FOUND, fields: HeaderMap::new() };
    let ending = owner.wallet().tell(signed.payment, Some(&told)).await.unwrap();
    assert_eq!(ending, Ending::Paid { receipt: None });
    assert_eq!(owner.spent_and_held(), (25, 0));
    let history = owner.wallet().books.history(Some("owner")).unwrap();
    assert_eq!(history.payments.len(), 1);
    assert_eq!(history.payments[0].state.name(), "paid");
    assert!(owner.wallet().books.history(Some("stranger")).unwrap().payments.is_empty());
}
