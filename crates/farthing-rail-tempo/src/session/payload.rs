//! What a credential of a session says: open, top up, here is a voucher, or close.

use alloy_primitives::{B256, Bytes};
use farthing_core::{Object, Rejection};
use farthing_money::parse_atoms;
use serde_json::Value;

use crate::session::channel::{Descriptor, Family};
use crate::session::voucher::Voucher;
use crate::wire::{Address, parse_word};

#[cfg(test)]
mod tests;

/// What a payer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A channel was, or is to be, opened.
    Open(Open),
    /// More was, or is to be, deposited.
    TopUp(TopUp),
    /// More is owed.
    Voucher(Shown),
    /// This is all that is owed: settle, and give the rest back.
    Close(Shown, Option<Box<[u8]>>),
}

/// How a transaction on the chain comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Funding {
    /// The payer has signed it and the seller hands it over.
    Transaction(Box<str>),
    /// The payer has sent it.
    Hash(B256),
}

/// An opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The transaction that opens the channel.
    pub funding: Funding,
    /// What the channel is made of, where the payer says so (version 2).
    pub descriptor: Option<Descriptor>,
    /// Who signs vouchers, where the payer says so.
    pub authorized_signer: Option<Address>,
    /// The payer's choice, where the payer says so.
    pub salt: Option<B256>,
    /// The first voucher.
    pub voucher: Voucher,
}

/// A top-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopUp {
    /// The channel.
    pub channel: B256,
    /// What the channel is made of (version 2).
    pub descriptor: Option<Descriptor>,
    /// The transaction that tops the channel up.
    pub funding: Funding,
    /// By how much, in atoms.
    pub additional: u128,
}

/// A voucher that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The voucher.
    pub voucher: Voucher,
    /// What the channel is made of (version 2).
    pub descriptor: Option<Descriptor>,
}

impl Action {
    /// The channel it is about, as the payer says. Nothing about it is true yet.
    #[must_use]
    pub const fn channel(&self) -> B256 {
        match self {
            Self::Open(open) => open.voucher.channel,
            Self::TopUp(top_up) => top_up.channel,
            Self::Voucher(shown) | Self::Close(shown, _) => shown.voucher.channel,
        }
    }

    /// What the payer says the channel is made of.
    #[must_use]
    pub const fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Self::Open(open) => open.descriptor.as_ref(),
            Self::TopUp(top_up) => top_up.descriptor.as_ref(),
            Self::Voucher(shown) | Self::Close(shown, _) => shown.descriptor.as_ref(),
        }
    }

    /// Reads a payload for a family of escrows. Fields that are not known are passed over; unknown
    /// actions are not.
    ///
    /// # Errors
    ///
    /// A [`Rejection`].
    pub fn read(family: Family, payload: &Object) -> Result<Self, Rejection> {
        let action = text(payload, "action").ok_or(Rejection::Malformed)?;
        let descriptor = descriptor(family, payload)?;
        match action {
            "open" => Ok(Self::Open(Open {
                funding: funding(family, payload)?,
                descriptor,
                authorized_signer: optional(payload, "authorizedSigner", |it| it.parse().ok())?,
                salt: optional(payload, "salt", parse_word)?,
                voucher: voucher(payload)?,
            })),
            "topUp" => Ok(Self::TopUp(TopUp {
                channel: channel(payload)?,
                descriptor,
                funding: funding(family, payload)?,
                additional: atoms(payload, "additionalDeposit")?,
            })),
            "voucher" => Ok(Self::Voucher(Shown { voucher: voucher(payload)?, descriptor })),
            "close" => {
                let agreed = optional(payload, "closeSignature", |it| {
                    it.parse::<Bytes>().ok().map(|bytes| bytes.to_vec().into_boxed_slice())
                })?;
                Ok(Self::Close(Shown { voucher: voucher(payload)?, descriptor }, agreed))
            }
            _ => Err(Rejection::Malformed),
        }
    }
}

fn text<'a>(payload: &'a Object, name: &str) -> Option<&'a str> {
    payload.get(name).and_then(Value::as_str)
}

fn optional<T>(
    payload: &Object,
    name: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Rejection> {
    match payload.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().and_then(read).map(Some).ok_or(Rejection::Malformed),
    }
}

fn channel(payload: &Object) -> Result<B256, Rejection> {
    text(payload, "channelId").and_then(parse_word).ok_or(Rejection::Malformed)
}

fn atoms(payload: &Object, name: &str) -> Result<u128, Rejection> {
    let text = text(payload, name).ok_or(Rejection::Malformed)?;
    parse_atoms(text).map_err(|_| Rejection::Malformed)
}

fn voucher(payload: &Object) -> Result<Voucher, Rejection> {
    let signature = text(payload, "signature").filter(|text| text.starts_with("0x"));
    let signature: Option<Bytes> = signature.and_then(|text| text.parse().ok());
    Ok(Voucher {
        channel: channel(payload)?,
        cumulative: atoms(payload, "cumulativeAmount")?,
        signature: signature.ok_or(Rejection::Malformed)?.to_vec().into(),
    })
}

/// A descriptor stands in every payload of version 2, and in no other.
fn descriptor(family: Family, payload: &Object) -> Result<Option<Descriptor>, Rejection> {
    match family {
        Family::TempoV1 | Family::Evm => Ok(None),
        Family::TempoV2 => {
            let object = payload.get("descriptor").and_then(Value::as_object);
            let descriptor = object.and_then(Descriptor::read).ok_or(Rejection::Malformed)?;
            Ok(Some(descriptor))
        }
    }
}

fn funding(family: Family, payload: &Object) -> Result<Funding, Rejection> {
    match (family, text(payload, "type")) {
        (Family::TempoV1 | Family::TempoV2, Some("transaction")) => {
            let transaction = text(payload, "transaction").ok_or(Rejection::Malformed)?;
            Ok(Funding::Transaction(transaction.into()))
        }
        (Family::Evm, Some("hash")) => {
            let hash = text(payload, "hash").and_then(parse_word);
            Ok(Funding::Hash(hash.ok_or(Rejection::Malformed)?))
        }
        (Family::TempoV1 | Family::TempoV2 | Family::Evm, Some(_)) => Err(Rejection::Unsupported),
        (Family::TempoV1 | Family::TempoV2 | Family::Evm, None) => Err(Rejection::Malformed),
    }
}
