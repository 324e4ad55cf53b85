use alloy_primitives::{B256, b256};

use farthing_ledger::{Fingerprint, PaymentId, RefundId};

use super::{Attribution, attributed, attribution, refunding};

const REALM: &str = "api.example.com";
const CHALLENGE: &str = "kM9xPqWvT2nJrHsY4aDfEb";

/// The golden vector, computed independently of this code.
#[test]
fn the_memo_is_what_the_sdks_write() {
    let memo = b256!("ef1ed712011ece072f76bd8b82350e000000000000000000001128fb265e760d");
    assert_eq!(attribution(REALM, CHALLENGE), memo);
}

/// B-07: a memo names one challenge of one realm.
#[test]
fn a_memo_pays_one_challenge() {
    let memo = attribution(REALM, CHALLENGE);
    assert_eq!(attributed(&memo, REALM, CHALLENGE), Attribution::Here);
    assert_eq!(attributed(&memo, REALM, "another"), Attribution::Elsewhere);
    assert_eq!(attributed(&memo, "other.example.com", CHALLENGE), Attribution::Elsewhere);
    assert_eq!(attributed(&B256::ZERO, REALM, CHALLENGE), Attribution::None);
    // A client may say who it is.
    let mut named = memo;
    named[15] = 7;
    assert_eq!(attributed(&named, REALM, CHALLENGE), Attribution::Here);
}

/// A refund's memo names the payment and the refund, and is nobody's payment for a challenge.
#[test]
fn a_refund_is_named_after_its_payment() {
    let payment = |name: &str| PaymentId::of(&Fingerprint::of("challenge", &[name.as_bytes()]));
    let memo = |name: &str, reference: &str| {
        refunding(payment(name), RefundId::of(payment(name), reference))
    };
    let first = memo("a", "one");
    assert_eq!(first[5..21], payment("a").to_bytes());
    assert_eq!(memo("a", "one"), first);
    assert_ne!(memo("a", "two"), first);
    assert_ne!(memo("b", "one"), first);
    assert_eq!(attributed(&first, REALM, CHALLENGE), Attribution::None);
}
