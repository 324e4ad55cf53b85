//! The checks of this rail by themselves, over plain JSON: for the SDKs' common conformance suite, and for
//! whoever wants to look at one payment without a chain.

use alloy_consensus::crypto::secp256k1::sign_message;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use farthing_core::Object;
use farthing_money::{Asset, AssetId};
use serde::Deserialize;
use serde_json::{Value, json};
use tempo_primitives::TempoTransaction;
use tempo_primitives::transaction::{
    Call, FEE_PAYER_SIGNATURE_MARKER, PrimitiveSignature, TEMPO_EXPIRING_NONCE_KEY, TempoSignature,
};

use crate::rpc::Log;
use crate::transaction::{Bound, Payment};
use crate::wire::{Address, Terms, Token, Tokens};
use crate::{Sponsor, SponsorLimits, VALID_S_MAX, envelope, owed, receipt, transaction};

#[cfg(test)]
mod tests;

/// Why something does not verify.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unverified(String);

impl Unverified {
    fn because(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

/// A payment that a receipt shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The transaction, as the receipt names it.
    pub reference: String,
}

/// The typed data that an account signs to prove who it is (EIP-712).
///
/// # Errors
///
/// [`Unverified`] for an account that is no address.
pub fn proof_typed_data(
    chain_id: u64,
    account: &str,
    challenge: &str,
    realm: &str,
) -> Result<Value, Unverified> {
    let account: Address = account.parse().map_err(Unverified::because)?;
    Ok(json!({
        "domain": { "name": "MPP", "version": "3", "chainId": chain_id },
        "types": {
            "Proof": [
                { "name": "account", "type": "address" },
                { "name": "challengeId", "type": "string" },
                { "name": "realm", "type": "string" },
            ],
        },
        "primaryType": "Proof",
        "message": { "account": account.to_string(), "challengeId": challenge, "realm": realm },
    }))
}

/// Whether a mined transaction's events pay a challenge's request.
///
/// # Errors
///
/// [`Unverified`], and why.
pub fn verify_receipt(
    realm: &str,
    challenge: &str,
    request: &Object,
    mined: &Value,
) -> Result<Verified, Unverified> {
    let terms = terms(request)?;
    let logs = mined.get("logs").cloned().unwrap_or_default();
    let logs: Vec<Log> = serde_json::from_value(logs).map_err(Unverified::because)?;
    let text = |name| mined.get(name).and_then(Value::as_str);
    if text("status") != Some("0x1") {
        return Err(Unverified::because("the transaction was undone"));
    }
    if !receipt::shows(&logs, terms.token, None, &owed(&terms, realm, challenge)) {
        return Err(Unverified::because("no event shows this challenge's payment"));
    }
    let reference = text("transactionHash").ok_or_else(|| Unverified::because("no hash"))?;
    Ok(Verified { reference: reference.to_owned() })
}

/// What a request asks for, in whichever token and on whichever chain.
fn terms(request: &Object) -> Result<Terms, Unverified> {
    let malformed = || Unverified::because("the request is not one of this method");
    let token = request.get("currency").and_then(Value::as_str).ok_or_else(malformed)?;
    let asset = AssetId::new("token").ok().and_then(|id| Asset::new(id, 6).ok());
    let token = Token {
        asset: asset.ok_or_else(malformed)?,
        address: token.parse().map_err(Unverified::because)?,
    };
    let mut request = request.clone();
    let details = request.entry("methodDetails").or_insert_with(|| json!({}));
    let details = details.as_object_mut().ok_or_else(malformed)?;
    details.entry("chainId").or_insert_with(|| 0.into());
    Terms::read(&request, &Tokens::new(vec![token])).map_err(|_| malformed())
}

/// What a buyer signs and a sponsor is asked to sign behind it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Unsigned {
    chain_id: u64,
    max_priority_fee_per_gas: u128,
    max_fee_per_gas: u128,
    gas_limit: u64,
    calls: Vec<UnsignedCall>,
    access_list: Vec<(alloy_primitives::Address, Vec<B256>)>,
    nonce_key: Value,
    nonce: u64,
    valid_before: Value,
    fee_token: Option<alloy_primitives::Address>,
}

#[derive(Deserialize)]
struct UnsignedCall {
    to: alloy_primitives::Address,
    value: u64,
    data: Bytes,
}

/// Signs a transaction with `payer` and lets a sponsor with `sponsor` find it in order and sign it:
/// what became of it, as the suite describes it. `now_s` is in seconds since 1970.
///
/// # Errors
///
/// [`Unverified`], and what the sponsor has against it.
pub fn cosign(input: &Value, now_s: u64) -> Result<Value, Unverified> {
    let unsigned = input.get("transaction").cloned().unwrap_or_default();
    let unsigned: Unsigned = serde_json::from_value(unsigned).map_err(Unverified::because)?;
    let request = input.get("request").and_then(Value::as_object);
    let terms = terms(request.ok_or_else(|| Unverified::because("no request"))?)?;
    let challenge = |name: &str| {
        let text = input.get("challenge").and_then(|it| it.get(name)?.as_str());
        text.unwrap_or_default().to_owned()
    };
    let asset = AssetId::new("fee").ok().and_then(|id| Asset::new(id, 6).ok());
    let fee_token = input.get("feeToken").and_then(Value::as_str).unwrap_or_default();
    let token = Token {
        asset: asset.ok_or_else(|| Unverified::because("no asset"))?,
        address: fee_token.parse().map_err(Unverified::because)?,
    };
    let limits = SponsorLimits {
        per_payment: u128::MAX,
        per_payer: u128::MAX,
        total: u128::MAX,
        period: std::time::Duration::from_hours(24),
        balance_min: 0,
    };
    let sponsor = Sponsor::local(&secret(input, "feePayerPrivateKey")?, token, limits);
    let sponsor = sponsor.map_err(Unverified::because)?;
    let waiting = sign(unsigned, &secret(input, "payerPrivateKey")?, now_s)?;
    let (signed, _) = transaction::decode(&waiting).map_err(Unverified::because)?;
    sponsor.permits(signed.tx(), now_s).map_err(Unverified::because)?;
    let expires_at_s = now_s.saturating_add(VALID_S_MAX);
    let (realm, id) = (challenge("realm"), challenge("id"));
    let bound = Bound { realm: &realm, challenge: &id, expires_at_s };
    let payment = Payment::read(&waiting, &terms, &bound).map_err(Unverified::because)?;
    let complete = sponsor.foreseen(&payment);
    let complete = complete.ok_or_else(|| Unverified::because("it cannot be signed"))?;
    let tx = complete.tx();
    Ok(json!({
        "type": format!("{:#x}", TempoTransaction::tx_type()),
        "feeToken": tx.fee_token.map(|token| format!("{token:#x}")),
        "feePayerSignaturePresent": tx.fee_payer_signature.is_some(),
        "accessListLength": tx.access_list.len(),
        "callCount": tx.calls.len(),
    }))
}

fn secret(input: &Value, name: &str) -> Result<[u8; 32], Unverified> {
    let text = input.get(name).and_then(Value::as_str).unwrap_or_default();
    let secret: B256 = text.parse().map_err(|_| Unverified::because("a key is 32 bytes"))?;
    Ok(secret.0)
}

/// The envelope of a signed transaction that waits for a sponsor.
fn sign(unsigned: Unsigned, secret: &[u8; 32], now_s: u64) -> Result<String, Unverified> {
    let item = |(address, storage_keys)| json!({ "address": address, "storageKeys": storage_keys });
    let access_list: Vec<Value> = unsigned.access_list.into_iter().map(item).collect();
    let later = unsigned.valid_before.as_str().and_then(|text| text.strip_prefix("now+"));
    let later = later.and_then(|text| text.parse().ok());
    let valid_before = later
        .map(|after: u64| now_s.saturating_add(after))
        .or_else(|| unsigned.valid_before.as_u64());
    let call = |it: UnsignedCall| Call {
        to: TxKind::Call(it.to),
        value: U256::from(it.value),
        input: it.data,
    };
    let tx = TempoTransaction {
        chain_id: unsigned.chain_id,
        max_priority_fee_per_gas: unsigned.max_priority_fee_per_gas,
        max_fee_per_gas: unsigned.max_fee_per_gas,
        gas_limit: unsigned.gas_limit,
        calls: unsigned.calls.into_iter().map(call).collect(),
        access_list: serde_json::from_value(access_list.into()).map_err(Unverified::because)?,
        nonce_key: if unsigned.nonce_key == "max" {
            TEMPO_EXPIRING_NONCE_KEY
        } else {
            U256::from(unsigned.nonce_key.as_u64().unwrap_or_default())
        },
        nonce: unsigned.nonce,
        valid_before: valid_before.and_then(std::num::NonZeroU64::new),
        fee_token: unsigned.fee_token,
        fee_payer_signature: Some(FEE_PAYER_SIGNATURE_MARKER),
        ..TempoTransaction::default()
    };
    let sender = Address::of_secret(secret).ok_or_else(|| Unverified::because("no key"))?;
    let signature = sign_message(B256::from(*secret), tx.signature_hash());
    let signature = signature.map_err(Unverified::because)?;
    let signature = TempoSignature::Primitive(PrimitiveSignature::Secp256k1(signature));
    let waiting = transaction::raw(&tx.into_signed(signature));
    let waiting = envelope::close(&waiting, sender.0);
    let waiting = waiting.ok_or_else(|| Unverified::because("it cannot be signed"))?;
    Ok(alloy_primitives::hex::encode_prefixed(waiting))
}
