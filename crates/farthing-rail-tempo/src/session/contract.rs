//! The escrow of our own, ready to be put on a chain.
//!
//! What is kept here is the compiled code of `contracts/src/FarthingEscrow.sol`, so that neither a
//! build nor a seller needs a compiler; a test compiles the source and compares.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{B256, Bytes, TxKind, U64, U256, hex};
use alloy_sol_types::SolValue as _;
use farthing_core::SettleError;
use farthing_money::Amount;
use serde_json::{Value, json};
use tempo_primitives::transaction::Call;

use crate::handover::Handover;
use crate::payer::VALID_S;
use crate::receipt;
use crate::rpc::{CallError, GAS_PERCENT, Nodes};
use crate::session::channel::{Escrow, Family, NOBODY};
use crate::session::voucher::VoucherKey;
use crate::transaction::batch;
use crate::wire::{Address, Token};

/// The compiled escrow.
const COMPILED: &str = include_str!("../../../../contracts/artifacts/FarthingEscrow.json");

/// Where Tempo checks signatures that are not ECDSA's (TIP-1020).
const VERIFIER: Address =
    Address(alloy_primitives::address!("5165300000000000000000000000000000000000"));

/// What makes an escrow for a family of channels, as the data of a transaction that creates a contract.
/// Nothing for version 2 of Tempo's sessions, whose escrow is a part of the chain.
#[must_use]
pub fn creation_code(family: Family) -> Option<Bytes> {
    let verifier = match family {
        Family::TempoV1 => VERIFIER,
        Family::Evm => NOBODY,
        Family::TempoV2 => return None,
    };
    let compiled: Value = serde_json::from_str(COMPILED).ok()?;
    let mut code = hex::decode(compiled.get("creation")?.as_str()?).ok()?;
    code.extend((family.domain(), verifier.0).abi_encode_params());
    Some(code.into())
}

/// How long a transaction that makes an escrow is waited for.
const WAIT: Duration = Duration::from_secs(35);

/// How many times what gas costs now the transaction may pay.
const PRICE_FACTOR: u128 = 2;

/// An escrow that was put on a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    /// Where it is.
    pub escrow: Escrow,
    /// The transaction that made it.
    pub transaction: B256,
    /// What it has cost the account that did, where that is counted.
    pub cost: Option<Amount>,
}

/// Puts an escrow for version 1 of sessions on a Tempo chain, at the expense of the account of `secret`, in
/// `fee_token`. Nobody owns the escrow, that account no more than others.
///
/// # Idempotency
///
/// None: each call makes another escrow. One that is never used costs its fee and nothing more.
///
/// # Errors
///
/// A [`SettleError`]. [`SettleError::Declined`] where the chain would not: most often since the account
/// cannot pay the fee, or the key is none.
pub async fn deploy(
    nodes: &Arc<Nodes>,
    secret: &[u8; 32],
    fee_token: &Token,
) -> Result<Deployed, SettleError> {
    let key = VoucherKey::new(secret).map_err(|_| SettleError::Declined)?;
    let code = creation_code(Family::TempoV1).ok_or(SettleError::Declined)?;
    let now_s = nodes.latest_block_time_s().await.map_err(unsent)?;
    let valid_before = NonZeroU64::new(now_s.saturating_add(VALID_S));
    let valid_before = valid_before.ok_or(SettleError::Declined)?;
    // What is estimated of a transaction's calls does not always count what a contract's code costs.
    let asked = json!([{ "from": key.account().to_string(), "data": code }]);
    let creation = nodes.call::<U64>("eth_estimateGas", asked).await.map_err(unsent)?;
    let call = Call { to: TxKind::Create, value: U256::ZERO, input: code };
    let mut tx = batch(nodes.chain_id(), Some(fee_token.address), vec![call], valid_before);
    let whole = nodes.estimate_gas(key.account(), &tx).await.map_err(unsent)?;
    let gas = whole.max(creation.to());
    tx.gas_limit = gas.saturating_mul(GAS_PERCENT).saturating_div(100);
    tx.max_fee_per_gas = nodes.gas_price().await.map_err(unsent)?.saturating_mul(PRICE_FACTOR);
    let signature = key.seal(tx.signature_hash()).ok_or(SettleError::Declined)?;
    let handover = Handover::new(Arc::clone(nodes), 1);
    let receipt = handover.hand_over(&tx.into_signed(signature), WAIT).await?;
    if receipt::failed(&receipt) {
        return Err(SettleError::Declined);
    }
    let address = Address(receipt.contract_address.ok_or(SettleError::Unknown)?);
    let escrow = Escrow::new(Family::TempoV1, nodes.chain_id(), address);
    // Whatever answers this is an escrow.
    nodes.grace_s(&escrow).await.map_err(|_| SettleError::Unknown)?;
    let fee = receipt::fee(&receipt, fee_token.address, key.account());
    let (transaction, cost) = (receipt.transaction_hash, Some(fee_token.asset.atoms(fee)));
    Ok(Deployed { escrow, transaction, cost })
}

/// What was only asked, and tells nothing but that.
fn unsent(error: CallError) -> SettleError {
    match error {
        CallError::Unsent | CallError::Lost => SettleError::Unsent,
        CallError::Refused(why) => {
            tracing::warn!(why, "the chain would not make the escrow");
            SettleError::Declined
        }
    }
}
