use super::*;

/// A replacement always pays enough more to be taken for one.
#[test]
fn a_replacement_pays_more() {
    let last = Bid { nonce: 7, fee_max: 100, tip: 0 };
    let now = Bid { nonce: 7, fee_max: 50, tip: 3 };
    assert_eq!(now.above(last), Bid { nonce: 7, fee_max: 126, tip: 3 });
    let dearer = Bid { nonce: 7, fee_max: 900, tip: 3 };
    assert_eq!(dearer.above(last).fee_max, 900);
}
