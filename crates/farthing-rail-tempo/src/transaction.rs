//! The transaction a buyer signs and the seller broadcasts: decoded, and held against the charge.

use std::num::NonZeroU64;

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall as _, sol};
use tempo_primitives::transaction::{Call, TEMPO_TX_TYPE_ID};
use tempo_primitives::{AASigned, TempoTransaction};

use crate::memo::{Attribution, attributed};
use crate::wire::{Address, Terms};

#[cfg(test)]
pub(crate) mod tests;

/// The longest transaction read, in bytes: a passkey's signature takes two thousand.
const BYTES_MAX: usize = 8 * 1024;

sol! {
    /// The two calls of a TIP-20 token that pay.
    function transfer(address to, uint256 amount) returns (bool);
    function transferWithMemo(address to, uint256 amount, bytes32 memo);
}

/// A transaction that pays a charge, and nothing else.
#[derive(Debug)]
pub(crate) struct Payment {
    pub(crate) sender: Address,
    pub(crate) hash: B256,
    /// The same for every encoding and signature of the same intention.
    pub(crate) identity: B256,
    pub(crate) memo: Option<B256>,
    /// When the chain stops taking it, in seconds since 1970.
    pub(crate) valid_before_s: u64,
    pub(crate) raw: Bytes,
}

/// What a transaction must agree with, beside the charge itself.
pub(crate) struct Bound<'a> {
    pub(crate) realm: &'a str,
    pub(crate) challenge: &'a str,
    /// When the challenge expires, in whole seconds, rounded down.
    pub(crate) expires_at_s: u64,
}

/// Why a transaction is not the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It is not a Tempo transaction in its canonical encoding.
    Malformed,
    /// It transfers less than the price.
    Less,
    /// It does something else: another token, payee, chain, memo, window, or more than this.
    Other,
}

impl Payment {
    /// Reads a signed transaction from its hexadecimal encoding and holds it against the charge.
    pub(crate) fn read(text: &str, terms: &Terms, bound: &Bound<'_>) -> Result<Self, Mismatch> {
        let signed = decode(text)?;
        let sender = signed.recover_signer().map_err(|_| Mismatch::Other)?;
        let tx = signed.tx();
        tx.validate().map_err(|_| Mismatch::Malformed)?;
        // A transaction that outlives its challenge could be mined when nobody expects it any more.
        let valid_before_s = tx.valid_before.map_or(u64::MAX, NonZeroU64::get);
        let in_time = valid_before_s <= bound.expires_at_s;
        let plain = tx.fee_payer_signature.is_none()
            && tx.key_authorization.is_none()
            && tx.access_list.is_empty()
            && tx.tempo_authorization_list.is_empty();
        if tx.chain_id != terms.chain_id || !in_time || !plain {
            return Err(Mismatch::Other);
        }
        let [call] = tx.calls.as_slice() else { return Err(Mismatch::Other) };
        let memo = paid(call, terms)?;
        let elsewhere =
            |memo| attributed(memo, bound.realm, bound.challenge) == Attribution::Elsewhere;
        if memo.as_ref().is_some_and(elsewhere) {
            return Err(Mismatch::Other);
        }
        let mut raw = Vec::new();
        signed.eip2718_encode(&mut raw);
        Ok(Self {
            sender: Address(sender),
            hash: *signed.hash(),
            identity: signed.expiring_nonce_hash(sender),
            memo,
            valid_before_s,
            raw: raw.into(),
        })
    }
}

fn decode(text: &str) -> Result<AASigned, Mismatch> {
    let digits = text.strip_prefix("0x").ok_or(Mismatch::Malformed)?;
    if digits.len() / 2 > BYTES_MAX {
        return Err(Mismatch::Malformed);
    }
    let bytes = alloy_primitives::hex::decode(digits).map_err(|_| Mismatch::Malformed)?;
    let Some((&TEMPO_TX_TYPE_ID, mut rest)) = bytes.split_first() else {
        return Err(Mismatch::Malformed);
    };
    let signed = AASigned::rlp_decode(&mut rest).map_err(|_| Mismatch::Malformed)?;
    let mut again = Vec::with_capacity(bytes.len());
    signed.eip2718_encode(&mut again);
    // One transaction has one spelling here, down to the case of its digits.
    let canonical = rest.is_empty() && alloy_primitives::hex::encode(again) == digits;
    if canonical { Ok(signed) } else { Err(Mismatch::Malformed) }
}

/// The memo of a call that pays exactly the charge.
fn paid(call: &Call, terms: &Terms) -> Result<Option<B256>, Mismatch> {
    if call.to != TxKind::Call(terms.token.0) || !call.value.is_zero() {
        return Err(Mismatch::Other);
    }
    let (to, amount, memo, canonical) = if let Ok(transfer) = transferCall::abi_decode(&call.input)
    {
        let canonical = transfer.abi_encode();
        (transfer.to, transfer.amount, None, canonical)
    } else if let Ok(transfer) = transferWithMemoCall::abi_decode(&call.input) {
        let canonical = transfer.abi_encode();
        (transfer.to, transfer.amount, Some(transfer.memo), canonical)
    } else {
        return Err(Mismatch::Other);
    };
    if canonical != call.input || to != terms.recipient.0 {
        return Err(Mismatch::Other);
    }
    match amount.cmp(&U256::from(terms.amount.atoms())) {
        std::cmp::Ordering::Less => Err(Mismatch::Less),
        std::cmp::Ordering::Equal => Ok(memo),
        std::cmp::Ordering::Greater => Err(Mismatch::Other),
    }
}

/// The transaction that pays `terms` and says so in its memo, to be given limits and signed. Its nonce
/// expires with it, so that no other transaction of the wallet waits for it (TIP-1009).
pub(crate) fn build(terms: &Terms, memo: B256, valid_before: NonZeroU64) -> TempoTransaction {
    let amount = U256::from(terms.amount.atoms());
    let transfer = transferWithMemoCall { to: terms.recipient.0, amount, memo };
    TempoTransaction {
        chain_id: terms.chain_id,
        fee_token: Some(terms.token.0),
        calls: vec![Call {
            to: TxKind::Call(terms.token.0),
            value: U256::ZERO,
            input: transfer.abi_encode().into(),
        }],
        nonce_key: U256::MAX,
        valid_before: Some(valid_before),
        ..TempoTransaction::default()
    }
}
