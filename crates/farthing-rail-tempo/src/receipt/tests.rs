use alloy_primitives::{Bytes, U64, address};

use super::*;
use crate::transaction::tests::terms;

fn sender() -> Address {
    Address(address!("3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"))
}

fn log(amount: u64, memo: Option<B256>) -> Log {
    let (from, to, amount) = (sender().0, terms().recipient.0, U256::from(amount));
    let data = match memo {
        Some(memo) => TransferWithMemo { from, to, amount, memo }.encode_log_data(),
        None => Transfer { from, to, amount }.encode_log_data(),
    };
    Log { address: terms().token.0, topics: data.topics().to_vec(), data: data.data }
}

fn receipt(logs: Vec<Log>) -> TxReceipt {
    let (transaction_hash, block_number) = (B256::ZERO, U64::from(1));
    TxReceipt { transaction_hash, block_number, status: U64::from(1), logs }
}

/// F-03: the events say who was paid what, in which token; anything else is another payment.
#[test]
fn events_show_the_payment() {
    let memo = B256::repeat_byte(3);
    let check = |logs, memo, want| {
        assert_eq!(pays(&receipt(logs), &terms(), sender(), memo), want);
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
    let stranger = Address(terms().recipient.0);
    assert!(!pays(&receipt(vec![log(2_500, None)]), &terms(), stranger, None));
    let undone = TxReceipt { status: U64::ZERO, ..receipt(vec![log(2_500, None)]) };
    assert!(!pays(&undone, &terms(), sender(), None));
}
