use std::num::NonZeroU64;

use alloy_primitives::U256;
use farthing_money::{Asset, AssetId};

use super::*;
use crate::transaction::tests::sponsored_payment;

const NOW_S: u64 = 1_763_712_000;

fn token() -> Token {
    let asset = Asset::new(AssetId::new("usd").unwrap(), 6).unwrap();
    Token { asset, address: "0x20c0000000000000000000000000000000000000".parse().unwrap() }
}

fn sponsor(change: impl FnOnce(&mut SponsorLimits)) -> Sponsor {
    let mut limits = SponsorLimits {
        per_payment: 5_000,
        per_payer: 10_000,
        total: 15_000,
        period: Duration::from_hours(24),
        balance_min: 0,
    };
    change(&mut limits);
    Sponsor::local(&[9; 32], token(), limits).unwrap()
}

fn permits(change: impl FnOnce(&mut TempoTransaction)) -> Result<(), Mismatch> {
    // The fields are looked at before anything else is.
    let mut tx = sponsored_payment(|_| {}).unwrap().signed.tx().clone();
    change(&mut tx);
    sponsor(|_| {}).permits(&tx, NOW_S)
}

/// F-13, X-03: what a sponsor does not pay for, each by its name.
#[test]
fn a_sponsor_pays_for_little() {
    assert_eq!(permits(|_| {}), Ok(()), "the control");
    let entry = serde_json::json!([{ "address": token().address.to_string(), "storageKeys": [] }]);
    let list = serde_json::from_value(entry).unwrap();
    assert_eq!(permits(|tx| tx.access_list = list), Err(Mismatch::Lists));
    assert_eq!(permits(|tx| tx.fee_token = Some(token().address.0)), Err(Mismatch::FeeToken));
    assert_eq!(permits(|tx| tx.nonce_key = U256::ZERO), Err(Mismatch::Nonce));
    assert_eq!(permits(|tx| tx.nonce = 1), Err(Mismatch::Nonce));
    assert_eq!(permits(|tx| tx.valid_before = None), Err(Mismatch::Nonce));
    let until = |at| move |tx: &mut TempoTransaction| tx.valid_before = NonZeroU64::new(at);
    assert_eq!(permits(until(NOW_S + VALID_S_MAX)), Ok(()));
    assert_eq!(permits(until(NOW_S + VALID_S_MAX + 1)), Err(Mismatch::Window));
    assert_eq!(permits(|tx| tx.gas_limit = 0), Err(Mismatch::Gas));
    assert_eq!(permits(|tx| tx.gas_limit = GAS_MAX + 1), Err(Mismatch::Gas));
    assert_eq!(permits(|tx| tx.max_fee_per_gas = 0), Err(Mismatch::Gas));
    let greedy = |tx: &mut TempoTransaction| tx.max_priority_fee_per_gas = tx.max_fee_per_gas + 1;
    assert_eq!(permits(greedy), Err(Mismatch::Gas));
    // 100,000 gas at 50 gwei are 5,000 atoms; one wei more is one atom more.
    assert_eq!(permits(|tx| tx.max_fee_per_gas = 50_000_000_000), Ok(()));
    assert_eq!(permits(|tx| tx.max_fee_per_gas = 50_000_000_001), Err(Mismatch::Gas));
}

/// a buyer has a share of the budget, everybody together has the budget, and what was not spent
/// is given back.
#[tokio::test(start_paused = true)]
async fn a_budget_is_shared() {
    let sponsor = sponsor(|_| {});
    let (alice, bob) =
        (Address::of_secret(&[1; 32]).unwrap(), Address::of_secret(&[2; 32]).unwrap());
    let first = sponsor.reserve(alice, 5_000).unwrap();
    let second = sponsor.reserve(alice, 5_000).unwrap();
    assert_eq!(sponsor.reserve(alice, 1).map(drop), Err(SettleError::Declined), "alice's share");
    let third = sponsor.reserve(bob, 5_000).unwrap();
    assert_eq!(sponsor.reserve(bob, 1).map(drop), Err(SettleError::Unsent), "everybody's");
    first.spend(40);
    assert_eq!(sponsor.left(), 4_960);
    second.release();
    third.spend(5_000);
    assert_eq!(sponsor.left(), 9_960);
    assert!(sponsor.reserve(alice, 9_960).is_ok());
    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(sponsor.left(), 15_000, "a new day");
}

/// A sponsor signs the same bytes each time, so that signing again after a crash is no other payment.
#[test]
fn a_sponsor_signs_the_same_each_time() {
    let payment = sponsored_payment(|_| {}).unwrap();
    let one = sponsor(|_| {}).foreseen(&payment).unwrap();
    let two = sponsor(|limits| limits.total = 0).foreseen(&payment).unwrap();
    assert_eq!(transaction::raw(&one), transaction::raw(&two));
    let account = Address::of_secret(&[9; 32]).unwrap();
    let fee_payer = one.tx().recover_fee_payer(payment.sender.0).unwrap();
    assert_eq!(Address(fee_payer), account);
}
