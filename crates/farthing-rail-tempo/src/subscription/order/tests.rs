//! What an order is, and whose.

use farthing_ledger::Fingerprint;

use super::*;

/// No two charges have the same memo, and none is that of a challenge or of a refund.
#[test]
fn each_charge_has_a_memo_of_its_own() {
    let fingerprint = |name: &str| Fingerprint::of("subscription charge", &[name.as_bytes()]);
    let (one, other) = (charging(&fingerprint("1")), charging(&fingerprint("2")));
    assert_ne!(one, other);
    assert_eq!(one, charging(&fingerprint("1")));
    assert_eq!(one[4], 1);
    let strange = [crate::memo::attribution("realm", "challenge")];
    assert!(strange.iter().all(|it| it[..4] != one[..4]));
}
