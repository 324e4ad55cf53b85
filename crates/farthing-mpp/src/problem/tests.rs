use serde_json::{Value, json};

use super::{Problem, ProblemType};

/// CORE.S10: the seven types of §8.2 and those of sessions, their URIs and their statuses.
#[test]
fn problems_are_those_of_the_scheme() {
    let table: Vec<_> = ProblemType::ALL.iter().map(|it| (it.uri(), it.status())).collect();
    let base = "https://paymentauth.org/problems/";
    let want = [
        ("payment-required", 402),
        ("payment-insufficient", 402),
        ("payment-expired", 402),
        ("verification-failed", 402),
        ("method-unsupported", 400),
        ("malformed-credential", 402),
        ("invalid-challenge", 402),
        ("session/invalid-signature", 402),
        ("session/signer-mismatch", 402),
        ("session/amount-exceeds-deposit", 402),
        ("session/delta-too-small", 402),
        ("session/channel-not-found", 410),
        ("session/channel-finalized", 410),
        ("session/insufficient-balance", 402),
        ("session/transaction-reverted", 409),
    ];
    assert_eq!(table, want.map(|(slug, status)| (format!("{base}{slug}"), status)));
}

#[test]
fn a_problem_is_a_problem_document() {
    let mut problem = Problem::new(ProblemType::PaymentExpired, "pay a fresh challenge");
    problem.extra.insert("challengeId".into(), "ch_1".into());
    let value: Value = serde_json::from_slice(&problem.to_json()).unwrap();
    let want = json!({
        "type": "https://paymentauth.org/problems/payment-expired",
        "title": "Payment Expired",
        "status": 402,
        "detail": "pay a fresh challenge",
        "challengeId": "ch_1",
    });
    assert_eq!(value, want);
    assert_eq!(serde_json::from_value::<Problem>(value).unwrap(), problem);
    assert_eq!(Problem::untyped(503, "Try again", "busy").uri, "about:blank");
}
