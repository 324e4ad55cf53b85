#![allow(clippy::arithmetic_side_effects, reason = "the model is naive on purpose")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Balances, Phase, Transfer, TransferError, totals};
use crate::{Account, TransferId};

fn account(text: &str) -> Account {
    text.parse().unwrap()
}

fn id(name: &str) -> TransferId {
    TransferId::derive(name.as_bytes(), "test")
}

fn transfer(name: &str, debit: &str, credit: &str, atoms: u128, phase: Phase) -> Transfer {
    Transfer { id: id(name), debit: account(debit), credit: account(credit), atoms, phase }
}

/// Applies transfers one by one and renders what `prepaid/a/usd` looks like after each:
/// `pending+posted debits | pending+posted credits`, or the error.
#[track_caller]
fn check(transfers: &[Transfer], want: &str) {
    let mut balances = Balances::default();
    let got: Vec<String> = transfers
        .iter()
        .map(|transfer| match balances.apply(std::slice::from_ref(transfer)) {
            Ok(()) => {
                let it = balances.of(&account("prepaid/a/usd"));
                format!(
                    "{}+{}|{}+{}",
                    it.debits_pending, it.debits_posted, it.credits_pending, it.credits_posted
                )
            }
            Err(error) => format!("{error:?}"),
        })
        .collect();
    assert_eq!(got.join(" "), want);
    for (debits, credits) in totals(balances.iter()).values() {
        assert_eq!(debits, credits);
    }
}

fn fund(atoms: u128) -> Transfer {
    transfer("fund", "funding/a/usd", "prepaid/a/usd", atoms, Phase::Posted)
}

fn spend(name: &str, atoms: u128, phase: Phase) -> Transfer {
    transfer(name, "prepaid/a/usd", "payable/s/usd", atoms, phase)
}

#[test]
fn a_prepaid_account_cannot_be_overdrawn() {
    check(&[spend("1", 1, Phase::Posted)], "Overdrawn");
    check(
        &[fund(5), spend("1", 5, Phase::Posted), spend("2", 1, Phase::Posted)],
        "0+0|0+5 0+5|0+5 Overdrawn",
    );
}

#[test]
fn a_pending_transfer_holds_the_money() {
    let hold = spend("1", 4, Phase::Pending);
    check(&[fund(5), hold.clone(), spend("2", 2, Phase::Pending)], "0+0|0+5 4+0|0+5 Overdrawn");
    check(
        &[fund(5), hold.clone(), spend("p", 4, Phase::Post(id("1"))), spend("2", 1, Phase::Posted)],
        "0+0|0+5 4+0|0+5 0+4|0+5 0+5|0+5",
    );
    check(
        &[fund(5), hold.clone(), spend("v", 4, Phase::Void(id("1"))), spend("2", 5, Phase::Posted)],
        "0+0|0+5 4+0|0+5 0+0|0+5 0+5|0+5",
    );
    check(&[fund(5), hold, spend("p", 3, Phase::Post(id("1")))], "0+0|0+5 4+0|0+5 0+3|0+5");
}

#[test]
fn a_pending_transfer_is_finished_once_and_as_it_was() {
    let hold = spend("1", 4, Phase::Pending);
    check(&[fund(5), spend("p", 4, Phase::Post(id("1")))], "0+0|0+5 NotPending");
    check(
        &[
            fund(9),
            hold.clone(),
            spend("p", 4, Phase::Post(id("1"))),
            spend("v", 4, Phase::Void(id("1"))),
        ],
        "0+0|0+9 4+0|0+9 0+4|0+9 NotPending",
    );
    check(
        &[
            fund(9),
            hold.clone(),
            spend("p", 5, Phase::Post(id("1"))),
            spend("v", 3, Phase::Void(id("1"))),
        ],
        "0+0|0+9 4+0|0+9 PendingMismatch PendingMismatch",
    );
    let elsewhere = transfer("p", "prepaid/a/usd", "payable/t/usd", 4, Phase::Post(id("1")));
    check(&[fund(9), hold.clone(), elsewhere], "0+0|0+9 4+0|0+9 PendingMismatch");
    check(&[fund(9), hold.clone(), hold], "0+0|0+9 4+0|0+9 Duplicate");
}

#[test]
fn impossible_transfers_are_refused() {
    check(&[transfer("1", "prepaid/a/usd", "prepaid/a/usd", 1, Phase::Posted)], "SameAccount");
    check(&[transfer("1", "funding/a/sat", "prepaid/a/usd", 1, Phase::Posted)], "AssetMismatch");
    let most = format!("0+0|0+{} Overflow", u128::MAX);
    check(
        &[fund(u128::MAX), transfer("2", "funding/b/usd", "prepaid/a/usd", 1, Phase::Posted)],
        &most,
    );
}

#[test]
fn a_batch_is_applied_whole_or_not_at_all() {
    let mut balances = Balances::default();
    balances.apply(&[fund(5), spend("h", 2, Phase::Pending)]).unwrap();
    let before = balances.clone();
    let batch = [
        spend("1", 1, Phase::Posted),
        spend("p", 2, Phase::Post(id("h"))),
        spend("3", 1, Phase::Pending),
        transfer("4", "funding/new/usd", "prepaid/new/usd", 7, Phase::Posted),
        spend("5", 9, Phase::Posted),
    ];
    assert_eq!(balances.apply(&batch), Err(TransferError::Overdrawn));
    assert_eq!(balances, before);
    balances.apply(&batch[..4]).unwrap();
}

#[test]
fn transfers_keep_every_digit_as_json() {
    let transfer = spend("p", u128::MAX, Phase::Post(id("1")));
    let json = serde_json::to_string(&transfer).unwrap();
    assert!(json.contains("\"340282366920938463463374607431768211455\""), "{json}");
    assert!(json.contains("\"phase\":\"post\",\"of\":\"trf_"), "{json}");
    assert_eq!(serde_json::from_str::<Transfer>(&json).unwrap(), transfer);
}

/// A deliberately naive second opinion: balances as signed sums over a list.
#[derive(Default)]
struct Model {
    entries: Vec<(Account, i128, bool)>,
    holds: BTreeMap<TransferId, (Account, Account, i128)>,
}

impl Model {
    fn available(&self, account: &Account) -> i128 {
        let of_account = self.entries.iter().filter(|(known, ..)| known == account);
        of_account.map(|(_, atoms, _)| atoms).sum::<i128>()
            - self.holds.values().filter(|hold| hold.0 == *account).map(|hold| hold.2).sum::<i128>()
    }
}

proptest! {
    #[test]
    fn balances_agree_with_a_naive_model(steps in proptest::collection::vec((0_u8..5, 0_u8..3, 0_u8..3, 1_u64..50, 0_u8..8), 1..60)) {
        let (mut balances, mut model) = (Balances::default(), Model::default());
        for (at, (kind, from, to, atoms, target)) in steps.into_iter().enumerate() {
            let name = at.to_string();
            let (giver, taker) = (format!("prepaid/{from}/usd"), format!("payable/{to}/usd"));
            let atoms = u128::from(atoms);
            let signed = i128::try_from(atoms).unwrap();
            let target = id(&target.to_string());
            let next = match kind {
                0 => transfer(&name, &format!("funding/{from}/usd"), &giver, atoms, Phase::Posted),
                1 => transfer(&name, &giver, &taker, atoms, Phase::Posted),
                2 => transfer(&name, &giver, &taker, atoms, Phase::Pending),
                3 => transfer(&name, &giver, &taker, atoms, Phase::Post(target)),
                _ => transfer(&name, &giver, &taker, atoms, Phase::Void(target)),
            };
            let hold = model.holds.get(&target).cloned();
            let fits = hold.as_ref().is_some_and(|hold| hold.0 == next.debit && hold.1 == next.credit);
            let held = hold.map_or(0, |hold| hold.2);
            let allowed = match kind {
                0 => true,
                1 | 2 => model.available(&next.debit) >= signed,
                3 => fits && signed <= held,
                _ => fits && signed == held,
            };
            prop_assert_eq!(balances.apply(std::slice::from_ref(&next)).is_ok(), allowed);
            if !allowed {
                continue;
            }
            match kind {
                2 => drop(model.holds.insert(next.id, (next.debit.clone(), next.credit.clone(), signed))),
                4 => drop(model.holds.remove(&target)),
                _ => {
                    if kind == 3 {
                        model.holds.remove(&target);
                    }
                    model.entries.push((next.debit.clone(), -signed, true));
                    model.entries.push((next.credit.clone(), signed, true));
                }
            }
            for holder in 0..3 {
                let account = account(&format!("prepaid/{holder}/usd"));
                let available = i128::try_from(balances.of(&account).available()).unwrap();
                prop_assert_eq!(available, model.available(&account));
            }
            for (debits, credits) in totals(balances.iter()).values() {
                prop_assert_eq!(debits, credits);
            }
        }
    }
}
