use farthing_money::AssetId;

use super::*;

fn settings(points: &[u16]) -> Settings {
    let split = |(at, &basis_points): (usize, &u16)| Split {
        payee: Holder::new(&format!("partner-{at}")).unwrap(),
        recipient: Address(alloy_primitives::Address::repeat_byte(7)),
        basis_points,
    };
    Settings {
        payee: Holder::new("seller").unwrap(),
        recipient: Address(alloy_primitives::Address::repeat_byte(1)),
        tokens: Tokens::new(Vec::new()),
        push: false,
        confirmations: 1,
        wait: Duration::from_secs(1),
        sponsor: None,
        splits: points.iter().enumerate().map(split).collect(),
        refunder: None,
    }
}

/// CHG.S03: parts are rounded down, and no part is nothing.
#[test]
fn a_price_is_split_in_the_sellers_favour() {
    let split = |points: &[u16], atoms| {
        let amount = Amount::new(AssetId::new("usd").unwrap(), atoms);
        let parts = settings(points).split(&amount);
        parts.map(|parts| parts.iter().map(|it| it.atoms).collect::<Vec<_>>())
    };
    assert_eq!(split(&[], 1), Ok(vec![]));
    assert_eq!(split(&[2_000, 1_000], 10_000), Ok(vec![2_000, 1_000]));
    assert_eq!(split(&[3_333], 10), Ok(vec![3]));
    assert_eq!(split(&[1], 9_999), Err(Unquotable::Amount));
    assert_eq!(split(&[9_999], u128::MAX), Err(Unquotable::Amount));
}
