//! What a mined transaction did, by its events: a status says that nothing failed, not who was paid.

use alloy_primitives::{B256, U256};
use alloy_sol_types::{SolEvent as _, sol};

use crate::rpc::{Log, TxReceipt};
use crate::wire::{Address, Terms};

#[cfg(test)]
mod tests;

sol! {
    /// The two events of a TIP-20 token that tell of a payment. A transfer with a memo emits both.
    event Transfer(address indexed from, address indexed to, uint256 amount);
    event TransferWithMemo(address indexed from, address indexed to, uint256 amount, bytes32 indexed memo);
}

/// Whether the transaction moved exactly the charge from `sender` to the payee, with `memo` if the
/// payment is to carry one.
pub(crate) fn pays(
    receipt: &TxReceipt,
    terms: &Terms,
    sender: Address,
    memo: Option<B256>,
) -> bool {
    let wanted = (sender.0, terms.recipient.0, U256::from(terms.amount.atoms()));
    let paid = |log: &Log| {
        let (topics, data) = (log.topics.iter().copied(), log.data.as_ref());
        match memo {
            Some(memo) => TransferWithMemo::decode_raw_log(topics, data)
                .is_ok_and(|it| (it.from, it.to, it.amount) == wanted && it.memo == memo),
            None => Transfer::decode_raw_log(topics, data)
                .is_ok_and(|it| (it.from, it.to, it.amount) == wanted),
        }
    };
    !failed(receipt) && receipt.logs.iter().any(|log| log.address == terms.token.0 && paid(log))
}

/// Whether the transaction was undone.
pub(crate) fn failed(receipt: &TxReceipt) -> bool {
    receipt.status.to::<u64>() != 1
}
