//! Using a subscription, and cancelling it: what the payer signs for one challenge.
//!
//! The specification leaves it to the application who is within a subscription. Here it is whoever signs for
//! the very request with the account's own key (EIP-712), so that a name that was overheard is good for
//! nothing.

use std::borrow::Cow;

use alloy_primitives::{B256, Bytes, U256};
use alloy_sol_types::{Eip712Domain, SolStruct as _, sol};
use farthing_core::{Object, Presented, Rejection};
use farthing_ledger::SubscriptionId;
use serde_json::Value;
use tempo_primitives::transaction::PrimitiveSignature;

use crate::wire::{Address, parse_did};

#[cfg(test)]
mod tests;

sol! {
    /// What is signed (EIP-712).
    struct Subscription {
        string action;
        address account;
        string subscriptionId;
        string challengeId;
        string realm;
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Answer the request.
    Use,
    /// Charge nothing any more.
    Cancel,
}

impl Act {
    /// The `type` of a payload that asks for it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Use => "subscriptionUse",
            Self::Cancel => "subscriptionCancel",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Use, Self::Cancel].into_iter().find(|act| act.name() == name)
    }
}

/// What is to be signed, for one challenge.
pub(crate) struct Bound<'a> {
    pub(crate) chain_id: u64,
    pub(crate) account: Address,
    pub(crate) subscription: &'a str,
    pub(crate) challenge: &'a str,
    pub(crate) realm: &'a str,
}

/// The digest that the account signs.
pub(crate) fn digest(act: Act, bound: &Bound<'_>) -> B256 {
    let domain = Eip712Domain {
        name: Some(Cow::Borrowed("Farthing")),
        version: Some(Cow::Borrowed("1")),
        chain_id: Some(U256::from(bound.chain_id)),
        ..Eip712Domain::default()
    };
    let message = Subscription {
        action: act.name().to_owned(),
        account: bound.account.0,
        subscriptionId: bound.subscription.to_owned(),
        challengeId: bound.challenge.to_owned(),
        realm: bound.realm.to_owned(),
    };
    message.eip712_signing_hash(&domain)
}

/// The payload that asks for it.
pub(crate) fn payload(act: Act, subscription: &str, signature: &PrimitiveSignature) -> Object {
    let mut payload = Object::new();
    payload.insert("type".into(), act.name().into());
    payload.insert("subscriptionId".into(), subscription.into());
    payload.insert("signature".into(), signature.to_bytes().to_string().into());
    payload
}

/// Which subscription it is about, and who asks; whose it is, the book knows.
pub(crate) fn read(
    act: Act,
    presented: &Presented,
    chain_id: u64,
) -> Result<(SubscriptionId, Address), Rejection> {
    let text = |name: &str| presented.payload.get(name).and_then(Value::as_str);
    let subscription = text("subscriptionId").ok_or(Rejection::Malformed)?;
    let id: SubscriptionId = subscription.parse().map_err(|_| Rejection::Malformed)?;
    let source = presented.source.as_deref().and_then(parse_did).ok_or(Rejection::Malformed)?;
    let (chain, account) = source;
    if chain != chain_id {
        return Err(Rejection::Invalid);
    }
    let written = text("signature").ok_or(Rejection::Malformed)?;
    let bytes: Bytes = written.parse().map_err(|_| Rejection::Malformed)?;
    let signature = PrimitiveSignature::from_bytes(&bytes).map_err(|_| Rejection::Malformed)?;
    // One signature has one spelling.
    if signature.to_bytes() != bytes || bytes.to_string() != written {
        return Err(Rejection::Malformed);
    }
    let (challenge, realm) = (&presented.challenge, &presented.realm);
    let digest = digest(act, &Bound { chain_id, account, subscription, challenge, realm });
    let signer = signature.recover_signer(&digest).map_err(|_| Rejection::Invalid)?;
    if Address(signer) == account { Ok((id, account)) } else { Err(Rejection::Invalid) }
}
