use std::cmp::Ordering;

use proptest::prelude::*;

use crate::{Amount, AmountError, AssetId, ParseAtomsError, parse_atoms};

fn usd(atoms: u128) -> Amount {
    Amount::new(AssetId::new("usd").unwrap(), atoms)
}

fn sat(atoms: u128) -> Amount {
    Amount::new(AssetId::new("sat").unwrap(), atoms)
}

/// M-04: one number has one spelling, and everything else is refused.
#[test]
fn only_plain_digits_are_an_amount() {
    let max = u128::MAX.to_string();
    for (text, want) in [
        ("0", Ok(0)),
        ("1", Ok(1)),
        ("1000", Ok(1000)),
        ("9007199254740993", Ok(9_007_199_254_740_993)),
        (max.as_str(), Ok(u128::MAX)),
        ("340282366920938463463374607431768211456", Err(ParseAtomsError::TooLarge)),
        (
            "115792089237316195423570985008687907853269984665640564039457584007913129639936",
            Err(ParseAtomsError::TooLarge),
        ),
    ] {
        assert_eq!(parse_atoms(text), want, "{text}");
    }
    for text in [
        "", "1e3", " 1000 ", "+1000", "01000", "00", "1_000", "1000.0", "0x3e8", "-1", "-0", "١٠٠",
        "1,000", "1000\n", "NaN", "∞", "１０",
    ] {
        assert_eq!(parse_atoms(text), Err(ParseAtomsError::Spelling), "{text:?}");
    }
}

/// M-10: the same number of atoms in another asset is another amount.
#[test]
fn amounts_of_different_assets_do_not_mix() {
    assert_ne!(usd(5), sat(5));
    assert_eq!(usd(5).checked_add(&sat(5)), Err(AmountError::AssetMismatch));
    assert_eq!(usd(5).compare(&sat(5)), Err(AmountError::AssetMismatch));
    assert_eq!(usd(5).compare(&usd(6)), Ok(Ordering::Less));
}

#[test]
fn nothing_wraps() {
    assert_eq!(usd(u128::MAX).checked_add(&usd(1)), Err(AmountError::Overflow));
    assert_eq!(usd(0).checked_sub(&usd(1)), Err(AmountError::Overflow));
    assert_eq!(usd(u128::MAX).checked_mul(2), Err(AmountError::Overflow));
    assert_eq!(usd(7).checked_mul(3), Ok(usd(21)));
}

#[test]
fn json_keeps_every_digit() {
    let amount = usd(u128::MAX);
    let json = serde_json::to_string(&amount).unwrap();
    assert_eq!(json, r#"{"asset":"usd","atoms":"340282366920938463463374607431768211455"}"#);
    assert_eq!(serde_json::from_str::<Amount>(&json).unwrap(), amount);
    assert!(serde_json::from_str::<Amount>(r#"{"asset":"usd","atoms":5}"#).is_err());
    assert!(serde_json::from_str::<Amount>(r#"{"asset":"usd","atoms":"05"}"#).is_err());
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(atoms: u128) {
        prop_assert_eq!(parse_atoms(&atoms.to_string()), Ok(atoms));
    }

    #[test]
    fn a_text_that_parses_is_the_text_that_prints(text in "[0-9+\\-. eE_x]{0,42}") {
        if let Ok(atoms) = parse_atoms(&text) {
            prop_assert_eq!(atoms.to_string(), text);
        }
    }

    #[test]
    fn adding_then_taking_away_changes_nothing(a: u64, b: u64) {
        let (a, b) = (usd(a.into()), usd(b.into()));
        prop_assert_eq!(a.checked_add(&b).unwrap().checked_sub(&b).unwrap(), a);
    }
}
