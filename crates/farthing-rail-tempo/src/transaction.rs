//! The transaction a buyer signs and the seller broadcasts: decoded, and held against the charge.

use std::num::NonZeroU64;

use alloy_consensus::transaction::SignerRecoverable as _;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use alloy_sol_types::{SolCall as _, sol};
use tempo_primitives::transaction::{
    Call, FEE_PAYER_SIGNATURE_MARKER, TEMPO_EXPIRING_NONCE_KEY, TEMPO_TX_TYPE_ID,
};
use tempo_primitives::{AASigned, TempoTransaction};

use crate::envelope::{self, Form};
use crate::memo::{Attribution, attributed};
use crate::wire::{Address, Terms, Transfer};

#[cfg(test)]
pub(crate) mod tests;

/// The longest transaction read, in bytes: a passkey's signature takes two thousand.
const BYTES_MAX: usize = 8 * 1024;

/// How far the price of gas is from the smallest unit of a token: prices are in 10⁻¹⁸ of a dollar.
const PRICE_DECIMALS: u32 = 18;

sol! {
    /// The two calls of a TIP-20 token that pay.
    function transfer(address to, uint256 amount) returns (bool);
    function transferWithMemo(address to, uint256 amount, bytes32 memo);
}

/// A transaction that pays a charge, and nothing else.
#[derive(Debug)]
pub(crate) struct Payment {
    pub(crate) sender: Address,
    /// The access key that signed for the sender, where it is not the sender's own.
    pub(crate) access_key: Option<Address>,
    /// The same for every encoding and signature of the same intention, whoever pays the fee.
    pub(crate) identity: B256,
    /// What it transfers.
    pub(crate) transfers: Vec<Transfer>,
    /// When the chain stops taking it, in seconds since 1970.
    pub(crate) valid_before_s: u64,
    /// As the buyer signed it: complete, or waiting for a sponsor.
    pub(crate) signed: AASigned,
    /// Whether it waits for somebody to pay the fee.
    pub(crate) wants_sponsor: bool,
}

/// What a transaction must agree with, beside the charge itself.
pub(crate) struct Bound<'a> {
    pub(crate) realm: &'a str,
    pub(crate) challenge: &'a str,
    /// When the challenge expires, in whole seconds, rounded down.
    pub(crate) expires_at_s: u64,
}

/// Why a transaction is not the payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    /// It is not a Tempo transaction in its canonical encoding.
    #[error("it is no Tempo transaction in its canonical encoding")]
    Malformed,
    /// Nobody, or somebody else than it says, has signed it.
    #[error("the sender has not signed it")]
    Sender,
    /// It is for another chain.
    #[error("it is for another chain")]
    Chain,
    /// It is valid for longer than the challenge is.
    #[error("it outlives the challenge")]
    Outlives,
    /// It touches more than a payment does.
    #[error("an access list is not allowed, nor is an authorization list")]
    Lists,
    /// It waits for a sponsor, and there is none.
    #[error("it waits for a sponsor and the charge is not sponsored")]
    NotSponsored,
    /// It says in what the sponsor pays.
    #[error("it must not include fee_token: who pays the fee chooses its token")]
    FeeToken,
    /// It could be moved in time, at the sponsor's expense.
    #[error("it must use expiring nonce key, with a nonce of zero and an end")]
    Nonce,
    /// It lets the sponsor pay for a key.
    #[error("a key authorization is not allowed in what is sponsored")]
    KeyAuthorization,
    /// It stays valid for longer than a sponsor allows.
    #[error("its validity window exceeds sponsor policy")]
    Window,
    /// It may burn more than a sponsor pays for.
    #[error("its gas limit exceeds sponsor policy, or its fee does")]
    Gas,
    /// It does more than pay.
    #[error("it contains unauthorized extra calls")]
    ExtraCalls,
    /// It pays somebody else, or in another token, or nobody.
    #[error("no matching payment call found")]
    Calls,
    /// It transfers less than the price.
    #[error("it pays less than the price")]
    Less,
    /// It does not name this challenge: no matching payment call found.
    #[error("no matching payment call found: the memo is not this challenge's")]
    Memo,
}

impl Payment {
    /// Reads a signed transaction from its hexadecimal encoding and holds it against the charge.
    pub(crate) fn read(text: &str, terms: &Terms, bound: &Bound<'_>) -> Result<Self, Mismatch> {
        let payment = Self::signed(text, terms.chain_id, terms.sponsored, bound.expires_at_s)?;
        let tx = payment.signed.tx();
        let owed = terms.transfers().len();
        ensure(tx.calls.len() <= owed, Mismatch::ExtraCalls)?;
        let transfers = tx.calls.iter().map(|call| paying(call, terms.token));
        let transfers: Vec<Transfer> = transfers.collect::<Result<_, _>>()?;
        meets(&transfers, terms)?;
        let says =
            |it: &Transfer| it.memo.map(|memo| attributed(&memo, bound.realm, bound.challenge));
        // A memo for another challenge pays that one. A sponsor sees to it that this one is paid.
        let mut memos = transfers.iter().filter_map(says);
        let named = transfers.iter().any(|it| says(it) == Some(Attribution::Here));
        let bound_here = named || terms.memo.is_some() || !payment.wants_sponsor;
        ensure(memos.all(|it| it != Attribution::Elsewhere) && bound_here, Mismatch::Memo)?;
        Ok(Self { transfers, ..payment })
    }

    /// Reads a signed transaction and holds it against what any of a challenge's has to agree with. What
    /// it transfers is for the caller to find out.
    pub(crate) fn signed(
        text: &str,
        chain_id: u64,
        sponsored: bool,
        expires_at_s: u64,
    ) -> Result<Self, Mismatch> {
        let (signed, form) = decode(text)?;
        let sender = signed.recover_signer().map_err(|_| Mismatch::Sender)?;
        let tx = signed.tx();
        tx.validate().map_err(|_| Mismatch::Malformed)?;
        // A transaction that outlives its challenge could be mined when nobody expects it any more.
        let valid_before_s = tx.valid_before.map_or(u64::MAX, NonZeroU64::get);
        ensure(tx.chain_id == chain_id, Mismatch::Chain)?;
        ensure(valid_before_s <= expires_at_s, Mismatch::Outlives)?;
        let plain = tx.access_list.is_empty() && tx.tempo_authorization_list.is_empty();
        ensure(plain, Mismatch::Lists)?;
        let wants_sponsor = match form {
            // Whoever else pays the fee is the buyer's business, and has to have signed.
            Form::Complete => false,
            Form::Placeholder => true,
            Form::Envelope(named) if named == sender => true,
            Form::Envelope(_) => return Err(Mismatch::Sender),
        };
        ensure(sponsored || !wants_sponsor, Mismatch::NotSponsored)?;
        let access_key = signed.signature().as_keychain().map(|signature| {
            signature.key_id(&signed.signature_hash()).map(Address).map_err(|_| Mismatch::Sender)
        });
        Ok(Self {
            sender: Address(sender),
            access_key: access_key.transpose()?,
            identity: signed.expiring_nonce_hash(sender),
            transfers: Vec::new(),
            valid_before_s,
            wants_sponsor,
            signed,
        })
    }
}

/// The most a transaction can cost, in atoms of a token with this many decimals, rounded up.
pub(crate) fn fee_max(tx: &TempoTransaction, decimals: u8) -> u128 {
    let fee = u128::from(tx.gas_limit).checked_mul(tx.max_fee_per_gas);
    let unit = 10_u128.checked_pow(PRICE_DECIMALS.saturating_sub(u32::from(decimals)));
    fee.zip(unit).map_or(u128::MAX, |(fee, unit)| fee.div_ceil(unit))
}

/// The encoding that a node takes.
pub(crate) fn raw(signed: &AASigned) -> Bytes {
    let mut raw = Vec::new();
    signed.eip2718_encode(&mut raw);
    raw.into()
}

fn ensure(holds: bool, otherwise: Mismatch) -> Result<(), Mismatch> {
    if holds { Ok(()) } else { Err(otherwise) }
}

pub(crate) fn decode(text: &str) -> Result<(AASigned, Form), Mismatch> {
    let digits = text.strip_prefix("0x").ok_or(Mismatch::Malformed)?;
    if digits.len() / 2 > BYTES_MAX {
        return Err(Mismatch::Malformed);
    }
    let bytes = alloy_primitives::hex::decode(digits).map_err(|_| Mismatch::Malformed)?;
    // One transaction has one spelling here, down to the case of its digits.
    if alloy_primitives::hex::encode(&bytes) != digits {
        return Err(Mismatch::Malformed);
    }
    let (bytes, form) = envelope::open(&bytes).ok_or(Mismatch::Malformed)?;
    let Some((&TEMPO_TX_TYPE_ID, mut rest)) = bytes.split_first() else {
        return Err(Mismatch::Malformed);
    };
    let signed = AASigned::rlp_decode(&mut rest).map_err(|_| Mismatch::Malformed)?;
    let canonical = rest.is_empty() && raw(&signed) == bytes;
    if canonical { Ok((signed, form)) } else { Err(Mismatch::Malformed) }
}

/// What a call transfers of `token`, if that is all it does.
pub(crate) fn paying(call: &Call, token: Address) -> Result<Transfer, Mismatch> {
    let plain = call.to == TxKind::Call(token.0) && call.value.is_zero();
    ensure(plain, Mismatch::Calls)?;
    let (to, amount, memo, canonical) = if let Ok(transfer) = transferCall::abi_decode(&call.input)
    {
        let canonical = transfer.abi_encode();
        (transfer.to, transfer.amount, None, canonical)
    } else if let Ok(transfer) = transferWithMemoCall::abi_decode(&call.input) {
        let canonical = transfer.abi_encode();
        (transfer.to, transfer.amount, Some(transfer.memo), canonical)
    } else {
        return Err(Mismatch::Calls);
    };
    ensure(canonical == call.input, Mismatch::Calls)?;
    let atoms = amount.try_into().map_err(|_| Mismatch::Calls)?;
    Ok(Transfer { to: Address(to), atoms, memo })
}

/// Whether `transfers` are what is owed, one for one, in any order.
fn meets(transfers: &[Transfer], terms: &Terms) -> Result<(), Mismatch> {
    let mut open = transfers.to_vec();
    let mut owed = terms.transfers();
    // What wants a memo of its own chooses first.
    owed.sort_by_key(|it| it.memo.is_none());
    for due in owed {
        let fits = |it: &Transfer| {
            (it.to, it.atoms) == (due.to, due.atoms) && (due.memo.is_none() || it.memo == due.memo)
        };
        let Some(at) = open.iter().position(fits) else {
            let short = |it: &Transfer| it.to == due.to && it.atoms < due.atoms;
            return Err(if open.iter().any(short) { Mismatch::Less } else { Mismatch::Calls });
        };
        open.swap_remove(at);
    }
    ensure(open.is_empty(), Mismatch::ExtraCalls)
}

/// A transaction of these calls, to be given limits and signed. Its nonce expires with it, so that no
/// other transaction of the sender waits for it (TIP-1009). Where nobody sponsors it, its fee is paid in
/// `fee_token`; where somebody does, the signature leaves room for the token and for whoever pays.
pub(crate) fn batch(
    chain_id: u64,
    fee_token: Option<Address>,
    calls: Vec<Call>,
    valid_before: NonZeroU64,
) -> TempoTransaction {
    TempoTransaction {
        chain_id,
        fee_token: fee_token.map(|token| token.0),
        fee_payer_signature: fee_token.is_none().then_some(FEE_PAYER_SIGNATURE_MARKER),
        calls,
        nonce_key: TEMPO_EXPIRING_NONCE_KEY,
        valid_before: Some(valid_before),
        ..TempoTransaction::default()
    }
}

/// The transaction that pays `terms`, to be given limits and signed. The transfer to the recipient
/// carries `memo` where the seller wants no other.
pub(crate) fn build(terms: &Terms, memo: B256, valid_before: NonZeroU64) -> TempoTransaction {
    let mut transfers = terms.transfers();
    if let Some(primary) = transfers.first_mut() {
        primary.memo = primary.memo.or(Some(memo));
    }
    let call = |it: &Transfer| {
        let (to, amount) = (it.to.0, U256::from(it.atoms));
        let input = match it.memo {
            Some(memo) => transferWithMemoCall { to, amount, memo }.abi_encode(),
            None => transferCall { to, amount }.abi_encode(),
        };
        Call { to: TxKind::Call(terms.token.0), value: U256::ZERO, input: input.into() }
    };
    let fee_token = (!terms.sponsored).then_some(terms.token);
    batch(terms.chain_id, fee_token, transfers.iter().map(call).collect(), valid_before)
}
