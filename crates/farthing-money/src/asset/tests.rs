use proptest::prelude::*;

use crate::{Asset, AssetError, AssetId, Assets, ParseAmountError};

fn asset(decimals: u8) -> Asset {
    Asset::new(AssetId::new("usd").unwrap(), decimals).unwrap()
}

#[track_caller]
fn check(decimals: u8, text: &str, want: Result<u128, ParseAmountError>) {
    assert_eq!(asset(decimals).parse(text).map(|amount| amount.atoms()), want, "{text:?}");
}

/// M-10: the same text is another number of atoms under other decimals.
#[test]
fn decimals_come_from_the_asset() {
    check(0, "25", Ok(25));
    check(2, "0.25", Ok(25));
    check(6, "0.25", Ok(250_000));
    check(8, "0.25", Ok(25_000_000));
    check(18, "0.25", Ok(250_000_000_000_000_000));
}

/// M-08: a price below one atom is refused, never rounded to nothing.
#[test]
fn nothing_is_rounded() {
    check(2, "0.001", Err(ParseAmountError::TooFine { decimals: 2 }));
    check(0, "0.5", Err(ParseAmountError::TooFine { decimals: 0 }));
    check(2, "0.250000", Ok(25));
    check(0, "7.0", Ok(7));
}

#[test]
fn odd_spellings_are_refused() {
    for text in ["", ".", ".5", "5.", "1e3", "-1", "+1", " 1", "01.5", "1.2.3", "1,5", "0.x"] {
        check(6, text, Err(ParseAmountError::Spelling));
    }
    check(38, "4", Err(ParseAmountError::TooLarge));
}

#[test]
fn amounts_print_for_people() {
    let assets = Assets::from_iter([asset(6)]);
    for (atoms, want) in
        [(0, "0.00 usd"), (1, "0.000001 usd"), (250_000, "0.25 usd"), (3_000_000, "3.00 usd")]
    {
        assert_eq!(assets.print(&asset(6).atoms(atoms)), want);
    }
    assert_eq!(asset(0).print(12), "12");
    assert_eq!(asset(1).print(12), "1.2");
}

#[test]
fn names_have_one_spelling() {
    for name in
        ["usd", "sat", "eip155:42431/erc20:0x20c0000000000000000000000000000000000000", "1inch"]
    {
        assert_eq!(AssetId::new(name).unwrap().as_str(), name);
    }
    for name in ["", "USD", "u sd", ":usd", "usd|sat", "uśd", &"a".repeat(129)] {
        assert_eq!(AssetId::new(name), Err(AssetError::Name), "{name:?}");
    }
    assert_eq!(Asset::new(AssetId::new("usd").unwrap(), 39), Err(AssetError::Decimals));
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(atoms: u128, decimals in 0_u8..=38) {
        let asset = asset(decimals);
        prop_assert_eq!(asset.parse(&asset.print(atoms)), Ok(asset.atoms(atoms)));
    }

    #[test]
    fn no_text_panics(text in ".{0,60}", decimals in 0_u8..=38) {
        let _ = asset(decimals).parse(&text);
    }
}
