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
    /// The payer has signed the token's part of it, and the seller sends it (EIP-3009).
    Authorization(Box<Authorization>),
}

impl Funding {
    /// As it stands in the book, for whoever carries it out.
    pub(crate) fn order(&self) -> Box<str> {
        match self {
            Self::Transaction(raw) => raw.clone(),
            Self::Hash(hash) => hash.to_string().into(),
            Self::Authorization(it) => {
                let mut order = Object::new();
                order.insert("authorization".into(), it.write().into());
                order.insert("signature".into(), it.signature.to_string().into());
                if let Some(salt) = it.salt {
                    order.insert("salt".into(), salt.to_string().into());
                }
                Value::Object(order).to_string().into()
            }
        }
    }

    /// Reads what stands in the book; nothing for what this has not written.
    pub(crate) fn of_order(family: Family, order: &str) -> Option<Self> {
        match family {
            Family::TempoV1 | Family::TempoV2 => Some(Self::Transaction(order.into())),
            Family::Evm => {
                if let Some(hash) = parse_word(order) {
                    return Some(Self::Hash(hash));
                }
                let order: Object = serde_json::from_str(order).ok()?;
                Some(Self::Authorization(Box::new(Authorization::read(&order).ok()?)))
            }
        }
    }
}

/// What a payer has signed away for one deposit (EIP-3009, draft-evm-session-00 §10.2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Who pays.
    pub from: Address,
    /// Who may take it: the escrow.
    pub to: Address,
    /// How much, in atoms.
    pub value: u128,
    /// After when it may be taken, in seconds since 1970.
    pub valid_after_s: u64,
    /// Before when it may be taken, in seconds since 1970.
    pub valid_before_s: u64,
    /// Stands for what it is for, and is used once.
    pub nonce: B256,
    /// The payer's choice in a nonce of a top-up, where there is one.
    pub salt: Option<B256>,
    /// The signature, which the token verifies.
    pub signature: Bytes,
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
            "open" => {
                let funding = funding(family, payload)?;
                // Where a transfer is signed, that is the signature.
                let signature = match &funding {
                    Funding::Authorization(_) => "voucherSignature",
                    Funding::Transaction(_) | Funding::Hash(_) => "signature",
                };
                Ok(Self::Open(Open {
                    descriptor,
                    authorized_signer: optional(payload, "authorizedSigner", |it| it.parse().ok())?,
                    salt: optional(payload, "salt", parse_word)?,
                    voucher: signed(payload, signature)?,
                    funding,
                }))
            }
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
    signed(payload, "signature")
}

fn signed(payload: &Object, name: &str) -> Result<Voucher, Rejection> {
    Ok(Voucher {
        channel: channel(payload)?,
        cumulative: atoms(payload, "cumulativeAmount")?,
        signature: bytes(payload, name)?.to_vec().into(),
    })
}

fn bytes(payload: &Object, name: &str) -> Result<Bytes, Rejection> {
    let bytes = text(payload, name).filter(|text| text.starts_with("0x"));
    bytes.and_then(|text| text.parse().ok()).ok_or(Rejection::Malformed)
}

impl Authorization {
    /// As it stands in a payload, without its signature.
    #[must_use]
    pub fn write(&self) -> Object {
        let fields = [
            ("from", self.from.to_string()),
            ("to", self.to.to_string()),
            ("value", self.value.to_string()),
            ("validAfter", self.valid_after_s.to_string()),
            ("validBefore", self.valid_before_s.to_string()),
            ("nonce", self.nonce.to_string()),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }

    /// Reads what stands in a payload.
    pub(crate) fn read(payload: &Object) -> Result<Self, Rejection> {
        let said = payload.get("authorization").and_then(Value::as_object);
        let said = said.ok_or(Rejection::Malformed)?;
        let account = |name| text(said, name).and_then(|it| it.parse().ok());
        // Seconds come as decimal text, like all that the token is told, or as numbers.
        let moment = |name: &str| match said.get(name) {
            Some(Value::String(text)) => {
                let atoms = farthing_money::parse_atoms(text).ok();
                atoms.map(|it| u64::try_from(it).unwrap_or(u64::MAX))
            }
            Some(other) => other.as_u64(),
            None => None,
        };
        let malformed = || Rejection::Malformed;
        Ok(Self {
            from: account("from").ok_or_else(malformed)?,
            to: account("to").ok_or_else(malformed)?,
            value: atoms(said, "value")?,
            valid_after_s: moment("validAfter").ok_or_else(malformed)?,
            valid_before_s: moment("validBefore").ok_or_else(malformed)?,
            nonce: text(said, "nonce").and_then(parse_word).ok_or_else(malformed)?,
            salt: optional(payload, "salt", parse_word)?,
            signature: bytes(payload, "signature")?,
        })
    }
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
        (Family::Evm, Some("authorization")) => {
            Ok(Funding::Authorization(Box::new(Authorization::read(payload)?)))
        }
        (Family::TempoV1 | Family::TempoV2 | Family::Evm, Some(_)) => Err(Rejection::Unsupported),
        (Family::TempoV1 | Family::TempoV2 | Family::Evm, None) => Err(Rejection::Malformed),
    }
}
