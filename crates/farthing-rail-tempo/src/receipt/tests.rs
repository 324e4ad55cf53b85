use alloy_primitives::{B256, Bytes, U64, U256, address};

use super::*;
use crate::transaction::tests::terms;

fn sender() -> Address {
    Address(address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"))
}

fn log(amount: u64, memo: Option<B256>) -> Log {
    let (from, to, amount) = (sender().0, terms().recipient.0, U256::from(amount));
    let data = match memo {
        Some(memo) => event::TransferWithMemo { from, to, amount, memo }.encode_log_data(),
        None => event::Transfer { from, to, amount }.encode_log_data(),
    };
    Log { address: terms().token.0, topics: data.topics().to_vec(), data: data.data }
}

fn receipt(logs: Vec<Log>) -> TxReceipt {
    TxReceipt {
        transaction_hash: B256::ZERO,
        block_number: U64::from(1),
        status: U64::from(1),
        logs,
        contract_address: None,
        from: None,
        gas_used: None,
        effective_gas_price: None,
        l1_fee: None,
    }
}

fn owed(memo: Option<B256>) -> Vec<Transfer> {
    vec![Transfer { to: terms().recipient, atoms: 2_500, memo }]
}

/// F-03: the events say who was paid what, in which token; anything else is another payment.
#[test]
fn events_show_the_payment() {
    let memo = B256::repeat_byte(3);
    let check = |logs, memo, want| {
        assert_eq!(pays(&receipt(logs), terms().token, sender(), &owed(memo)), want);
    };
    check(vec![log(2_500, None)], None, true);
    check(vec![log(2_500, None), log(2_500, Some(memo))], Some(memo), true);
    check(vec![log(7, None), log(2_500, None)], None, true);
    check(vec![], None, false);
    check(vec![log(2_499, None)], None, false);
    check(vec![log(2_501, None)], None, false);
    check(vec![log(2_500, None)], Some(memo), false);
    check(vec![log(2_500, Some(B256::ZERO))], Some(memo), false);
    let elsewhere = Log { address: sender().0, ..log(2_500, None) };
    check(vec![elsewhere], None, false);
    let cut = Log { data: Bytes::new(), ..log(2_500, None) };
    check(vec![cut], None, false);
    let stranger = terms().recipient;
    assert!(!pays(&receipt(vec![log(2_500, None)]), terms().token, stranger, &owed(None)));
    let undone = TxReceipt { status: U64::ZERO, ..receipt(vec![log(2_500, None)]) };
    assert!(!pays(&undone, terms().token, sender(), &owed(None)));
}

/// two transfers that are owed are two movements, and one movement with a memo is not two for
/// showing in two events, in whichever order they stand.
#[test]
fn each_movement_pays_for_one_transfer() {
    let memo = B256::repeat_byte(3);
    let check = |logs, owed: Vec<Transfer>, want| {
        assert_eq!(pays(&receipt(logs), terms().token, sender(), &owed), want);
    };
    let twice = || [owed(None), owed(None)].concat();
    check(vec![log(2_500, None)], twice(), false);
    check(vec![log(2_500, None), log(2_500, None)], twice(), true);
    check(vec![log(2_500, None), log(2_500, Some(memo))], twice(), false);
    check(vec![log(2_500, Some(memo)), log(2_500, None)], twice(), false);
    let named = || [owed(None), owed(Some(memo))].concat();
    check(vec![log(2_500, Some(memo)), log(2_500, None)], named(), false);
    check(vec![log(2_500, None), log(2_500, Some(memo)), log(2_500, None)], named(), true);
}

/// What the sponsor paid is what went from it to where the chain collects fees.
#[test]
fn a_fee_is_what_the_payer_of_fees_paid() {
    let fee_log = |from: Address, atoms: u64| {
        let (from, to, amount) = (from.0, FEES.0, U256::from(atoms));
        let data = event::Transfer { from, to, amount }.encode_log_data();
        Log { address: terms().token.0, topics: data.topics().to_vec(), data: data.data }
    };
    let mined = receipt(vec![log(2_500, None), fee_log(sender(), 52)]);
    assert_eq!(fee(&mined, terms().token, sender()), 52);
    assert_eq!(fee(&mined, terms().token, terms().recipient), 0);
}
