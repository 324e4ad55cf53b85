//! Sums are told apart by where they come from.

use super::*;

#[test]
fn sums_keep_every_digit_as_json() {
    let sums = Sums { ledger: u128::MAX, ..Sums::default() };
    let json = serde_json::to_string(&sums).unwrap();
    assert!(json.contains("\"ledger\":\"340282366920938463463374607431768211455\""), "{json}");
    assert_eq!(serde_json::from_str::<Sums>(&json).unwrap(), sums);
}

#[test]
fn what_does_not_fit_does_not_agree() {
    let most =
        Sums { settlements: u128::MAX, ledger: u128::MAX, receipts: u128::MAX, ..Sums::default() };
    assert!(most.agree());
    assert!(!Sums { without_receipt: 1, ..most }.agree());
}
