use std::time::Duration;

use farthing_core::{Refusal, Rejection};
use farthing_ledger::{Fingerprint, PaymentId};

use super::{payment_required, refused, too_often};

/// CORE.S10 and the table of §4.2: whose fault it is decides the status; our outage is never a 402.
#[test]
fn refusals_have_the_status_of_whose_turn_it_is() {
    use Rejection::{
        Ambiguous, Expired, Foreign, Insufficient, Invalid, Malformed, OtherBody, Unsupported,
    };
    for (refusal, status, slug) in [
        (Refusal::Payer(Malformed), 402, "malformed-credential"),
        (Refusal::Payer(Ambiguous), 400, "malformed-credential"),
        (Refusal::Payer(Foreign), 402, "invalid-challenge"),
        (Refusal::Payer(Expired), 402, "payment-expired"),
        (Refusal::Payer(Unsupported), 400, "method-unsupported"),
        (Refusal::Payer(Insufficient), 402, "payment-insufficient"),
        (Refusal::Payer(Invalid), 402, "verification-failed"),
        (Refusal::Replayed, 402, "invalid-challenge"),
        (Refusal::GivenBack, 402, "invalid-challenge"),
        (Refusal::Short, 402, "payment-insufficient"),
        (Refusal::Declined, 402, "verification-failed"),
        (Refusal::Unfunded, 402, "session/insufficient-balance"),
        (Refusal::Payer(OtherBody(Fingerprint::of("x", &[]))), 402, "invalid-challenge"),
        (Refusal::Conflict, 409, "about:blank"),
        (Refusal::OtherBody, 409, "about:blank"),
        (Refusal::Answered, 409, "about:blank"),
        (Refusal::KeyMisused, 422, "about:blank"),
        (Refusal::Interrupted, 500, "about:blank"),
        (Refusal::InProgress(PaymentId::from_bytes([0; 16])), 503, "about:blank"),
        (Refusal::TryAgain, 503, "about:blank"),
    ] {
        let answer = refused(&refusal);
        assert_eq!(answer.problem.status, status, "{refusal:?}");
        assert!(answer.problem.uri.ends_with(slug), "{refusal:?}: {}", answer.problem.uri);
        assert_eq!(answer.wants_challenges(), status == 402);
        let response = answer.response();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    }
    assert_eq!(payment_required().problem.status, 402);
}

/// EVS.S02, EVS.S06: what the chain has undone is 409, with a fresh challenge and no word of the chain's.
#[test]
fn what_was_undone_is_told_with_a_fresh_challenge() {
    let answer = refused(&Refusal::Undone(Box::new("evm:0x5f".parse().unwrap())));
    assert_eq!(answer.problem.status, 409);
    assert!(answer.problem.uri.ends_with("/session/transaction-reverted"));
    assert_eq!(answer.problem.extra["channelId"], "0x5f");
    assert!(answer.wants_challenges());
}

#[test]
fn a_wait_is_rounded_up() {
    let response = too_often(Duration::from_millis(1_200)).response();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"2".parse().unwrap())
    );
}
