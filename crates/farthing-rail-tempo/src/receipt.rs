//! What a mined transaction did, by its events: a status says that nothing failed, not who was paid.

use alloy_primitives::address;
use alloy_sol_types::SolEvent as _;

use crate::rpc::{Log, TxReceipt};
use crate::wire::{Address, Transfer};

#[cfg(test)]
mod tests;

/// Where the chain collects fees.
const FEES: Address = Address(address!("feec000000000000000000000000000000000000"));

/// The two events of a TIP-20 token that tell of a payment. A transfer with a memo emits both.
pub(crate) mod event {
    alloy_sol_types::sol! {
        event Transfer(address indexed from, address indexed to, uint256 amount);
        event TransferWithMemo(
            address indexed from,
            address indexed to,
            uint256 amount,
            bytes32 indexed memo
        );
    }
}

/// Whether the transaction moved each of `transfers` from `sender`, each by a movement of its own.
pub(crate) fn pays(
    receipt: &TxReceipt,
    token: Address,
    sender: Address,
    transfers: &[Transfer],
) -> bool {
    !failed(receipt) && shows(&receipt.logs, token, Some(sender), transfers)
}

/// Whether events show each of `transfers`, each by a movement of its own; from anybody, if no sender
/// is given.
pub(crate) fn shows(
    logs: &[Log],
    token: Address,
    sender: Option<Address>,
    transfers: &[Transfer],
) -> bool {
    let mut made = movements(logs, token, sender);
    let mut owed = transfers.to_vec();
    // What wants a memo chooses first.
    owed.sort_by_key(|it| it.memo.is_none());
    owed.iter().all(|due| {
        let fits = |it: &Transfer| {
            (it.to, it.atoms) == (due.to, due.atoms) && (due.memo.is_none() || it.memo == due.memo)
        };
        made.iter().position(fits).map(|at| made.swap_remove(at)).is_some()
    })
}

/// Whether the transaction was undone.
pub(crate) fn failed(receipt: &TxReceipt) -> bool {
    receipt.status.to::<u64>() != 1
}

/// What `payer` paid the chain for the transaction, in atoms of `token`.
pub(crate) fn fee(receipt: &TxReceipt, token: Address, payer: Address) -> u128 {
    let fees = movements(&receipt.logs, token, Some(payer)).into_iter().filter(|it| it.to == FEES);
    fees.fold(0, |sum, it| sum.saturating_add(it.atoms))
}

/// What a transaction has cost whoever sent it, in the smallest unit of the chain's coin; nothing where nobody
/// says.
pub(crate) fn gas_cost(receipt: &TxReceipt) -> Option<u128> {
    let (gas, price) = (receipt.gas_used?.to::<u128>(), receipt.effective_gas_price?.to::<u128>());
    let above = receipt.l1_fee.map_or(0, |fee| fee.to::<u128>());
    Some(gas.saturating_mul(price).saturating_add(above))
}

/// What `sender`, or anybody, moved of `token`. A transfer with a memo shows in two events and is one movement.
fn movements(logs: &[Log], token: Address, sender: Option<Address>) -> Vec<Transfer> {
    let logs = logs.iter().filter(|log| log.address == token.0);
    let (mut named, mut plain) = (Vec::new(), Vec::new());
    for log in logs {
        let (topics, data) = (log.topics.iter().copied(), log.data.as_ref());
        if let Ok(it) = event::TransferWithMemo::decode_raw_log(topics.clone(), data) {
            named.extend(movement(it.from, it.to, it.amount, Some(it.memo), sender));
        } else if let Ok(it) = event::Transfer::decode_raw_log(topics, data) {
            plain.extend(movement(it.from, it.to, it.amount, None, sender));
        }
    }
    for it in &named {
        let twin = |plain: &Transfer| (plain.to, plain.atoms) == (it.to, it.atoms);
        if let Some(at) = plain.iter().position(twin) {
            plain.swap_remove(at);
        }
    }
    named.extend(plain);
    named
}

fn movement(
    from: alloy_primitives::Address,
    to: alloy_primitives::Address,
    amount: alloy_primitives::U256,
    memo: Option<alloy_primitives::B256>,
    sender: Option<Address>,
) -> Option<Transfer> {
    let atoms = amount.try_into().ok()?;
    sender.is_none_or(|sender| from == sender.0).then_some(Transfer {
        to: Address(to),
        atoms,
        memo,
    })
}
