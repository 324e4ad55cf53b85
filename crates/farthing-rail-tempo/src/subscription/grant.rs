//! The authorisation: a key, what it may do, and the payer's signature (draft-tempo-subscription-00 §4.2, §6.5).

use std::num::NonZeroU64;

use alloy_primitives::U256;
use alloy_rlp::{Decodable as _, Encodable as _};
use farthing_core::Rejection;
use farthing_ledger::TraceId;
use serde_json::{Value, json};
use tempo_primitives::transaction::key_authorization::{CallScope, SelectorRule, TokenLimit};
use tempo_primitives::transaction::{KeyAuthorization, SignedKeyAuthorization};

use super::parse_trace;
use super::terms::Asked;
use crate::wire::Address;

#[cfg(test)]
mod tests;

/// `transfer(address,uint256)`.
pub(crate) const TRANSFER: [u8; 4] = [0xa9, 0x05, 0x9c, 0xbb];

/// `transferWithMemo(address,uint256,bytes32)`.
pub(crate) const TRANSFER_WITH_MEMO: [u8; 4] = [0x95, 0x77, 0x7d, 0x59];

/// The longest authorisation read, in bytes: a passkey's signature takes two thousand.
const BYTES_MAX: usize = 4 * 1024;

/// What is kept of an authorisation to charge by. Nobody can use it for anything else.
#[derive(Debug)]
pub(crate) struct Words {
    /// The challenge that the key was made for.
    pub(crate) offer: TraceId,
    /// What the payer has signed, in hexadecimal digits.
    pub(crate) authorization: String,
}

impl Words {
    pub(crate) fn write(&self) -> Box<str> {
        let words = json!({ "authorization": self.authorization, "offer": self.offer.to_string() });
        words.to_string().into()
    }

    pub(crate) fn read(words: &str) -> Option<(TraceId, SignedKeyAuthorization)> {
        let words: Value = serde_json::from_str(words).ok()?;
        let text = |name: &str| words.get(name).and_then(Value::as_str);
        Some((parse_trace(text("offer")?)?, read(text("authorization")?).ok()?))
    }
}

/// Why an authorisation is not what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// It cannot be read, or is not spelled in the one way it can be.
    #[error("it is no signed key authorization in its canonical encoding")]
    Malformed,
    /// It is for another chain.
    #[error("it is for another chain")]
    Chain,
    /// It is for another key than the challenge's, or for one that may authorise others.
    #[error("it is not for the challenge's key alone")]
    Key,
    /// It ends at another moment than the subscription.
    #[error("it does not end when the subscription does")]
    Expiry,
    /// It allows more or less than the price once a period.
    #[error("it does not allow exactly the price, once a period")]
    Limit,
    /// It allows more than to pay the recipient, or not that.
    #[error("it allows something else than to pay the recipient")]
    Scope,
    /// It is bound to another challenge (TIP-1053).
    #[error("it is bound to another challenge")]
    Witness,
    /// Nobody has signed it, or the key itself.
    #[error("no payer has signed it")]
    Signer,
}

impl From<Unfit> for Rejection {
    fn from(unfit: Unfit) -> Self {
        tracing::debug!(%unfit, "an authorisation was refused");
        match unfit {
            Unfit::Malformed => Self::Malformed,
            Unfit::Chain
            | Unfit::Key
            | Unfit::Expiry
            | Unfit::Limit
            | Unfit::Scope
            | Unfit::Witness
            | Unfit::Signer => Self::Invalid,
        }
    }
}

/// What a payer signs: a key that may pay this price to this recipient, once a period, until then.
pub(crate) fn asked_for(asked: &Asked) -> KeyAuthorization {
    let rule = |selector| SelectorRule { selector, recipients: vec![asked.recipient.0] };
    let limit = TokenLimit {
        token: asked.token.0,
        limit: U256::from(asked.amount.atoms()),
        period: asked.period_s,
    };
    let scope = CallScope {
        target: asked.token.0,
        selector_rules: vec![rule(TRANSFER), rule(TRANSFER_WITH_MEMO)],
    };
    KeyAuthorization::unrestricted(asked.chain_id, asked.key_type, asked.key.0)
        .with_expiry(asked.expires_s)
        .with_limits(vec![limit])
        .with_allowed_calls(vec![scope])
}

/// Holds a signed authorisation against what was asked for under a challenge, and says who has signed it.
///
/// One that names the challenge as its witness, as some wallets' do, needs a chain that knows witnesses.
pub(crate) fn verify(
    signed: &SignedKeyAuthorization,
    asked: &Asked,
    challenge: &str,
) -> Result<Address, Unfit> {
    let ours = asked_for(asked);
    let theirs = &signed.authorization;
    ensure(theirs.chain_id == ours.chain_id, Unfit::Chain)?;
    let same_key = (theirs.key_id, theirs.key_type) == (ours.key_id, ours.key_type);
    ensure(same_key && !theirs.is_admin, Unfit::Key)?;
    ensure(theirs.expiry == NonZeroU64::new(asked.expires_s), Unfit::Expiry)?;
    ensure(theirs.limits == ours.limits, Unfit::Limit)?;
    let scopes = theirs.allowed_calls.as_deref().unwrap_or_default();
    let [scope] = scopes else { return Err(Unfit::Scope) };
    // One of the two ways to pay is enough: what allows less is not broader than what was asked for.
    let pays = |rule: &SelectorRule| {
        [TRANSFER, TRANSFER_WITH_MEMO].contains(&rule.selector)
            && rule.recipients == [asked.recipient.0]
    };
    let rules = &scope.selector_rules;
    let distinct = rules.iter().enumerate().all(|(at, rule)| {
        rules.iter().skip(at.saturating_add(1)).all(|other| other.selector != rule.selector)
    });
    let is_narrow = scope.target == asked.token.0 && !rules.is_empty() && rules.iter().all(pays);
    ensure(is_narrow && distinct, Unfit::Scope)?;
    let named = farthing_mpp::base64url::decode(challenge).unwrap_or_default();
    let is_bound = |it: &alloy_primitives::B256| it.as_slice() == named.as_slice();
    ensure(theirs.witness.as_ref().is_none_or(is_bound), Unfit::Witness)?;
    let signer = signed.recover_signer().map_err(|_| Unfit::Signer)?;
    let names_signer = theirs.account.is_none_or(|account| account == signer);
    ensure(!signer.is_zero() && signer != theirs.key_id && names_signer, Unfit::Signer)?;
    Ok(Address(signer))
}

/// Reads a signed authorisation from its hexadecimal encoding, in either case of its digits.
pub(crate) fn read(text: &str) -> Result<SignedKeyAuthorization, Unfit> {
    let digits = text.strip_prefix("0x").filter(|it| it.len() / 2 <= BYTES_MAX);
    let bytes = alloy_primitives::hex::decode(digits.ok_or(Unfit::Malformed)?);
    let bytes = bytes.map_err(|_| Unfit::Malformed)?;
    let mut rest = bytes.as_slice();
    let signed = SignedKeyAuthorization::decode(&mut rest).map_err(|_| Unfit::Malformed)?;
    let canonical = rest.is_empty() && encode(&signed) == bytes;
    if canonical { Ok(signed) } else { Err(Unfit::Malformed) }
}

/// The same, written.
pub(crate) fn write(signed: &SignedKeyAuthorization) -> String {
    alloy_primitives::hex::encode_prefixed(encode(signed))
}

fn encode(signed: &SignedKeyAuthorization) -> Vec<u8> {
    let mut bytes = Vec::new();
    signed.encode(&mut bytes);
    bytes
}

fn ensure(holds: bool, otherwise: Unfit) -> Result<(), Unfit> {
    if holds { Ok(()) } else { Err(otherwise) }
}
