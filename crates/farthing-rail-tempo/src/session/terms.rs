//! What a session's challenge asks for (draft-tempo-session-00 §7, draft-evm-session-00 §8).

use alloy_primitives::B256;
use farthing_core::{Object, SessionTerms as Understood};
use farthing_money::{Amount, parse_atoms};
use serde_json::{Value, json};

use crate::session::channel::{Descriptor, Escrow, Family, NOBODY, RESERVE};
use crate::wire::{self, Address, Tokens, Unreadable, parse_word, text};

#[cfg(test)]
pub(crate) mod tests;

/// The chain that a challenge of Tempo's means when it names none.
const MAINNET: u64 = 4217;

/// What a session costs, and where its deposit goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// What one unit costs.
    pub amount: Amount,
    /// What is counted, e.g. `request`.
    pub unit: Option<String>,
    /// How much the seller would deposit, in atoms.
    pub suggested_deposit: Option<u128>,
    /// The token.
    pub token: Address,
    /// Who is paid.
    pub recipient: Address,
    /// Who holds the deposit.
    pub escrow: Escrow,
    /// A channel that the seller knows and would go on with.
    pub channel: Option<B256>,
    /// The least by which a voucher has to be more than the one before, in atoms.
    pub delta_min: u128,
    /// Who acts for the seller on the chain, in version 2; nobody's address where nobody does.
    pub operator: Address,
    /// Whether the seller pays the network's fee for openings and top-ups.
    pub sponsored: bool,
    /// How deposits may be made, the seller's favourite first; nothing on Tempo, where there is one way.
    pub means: Vec<Means>,
}

/// How a deposit is made on an EVM chain (draft-evm-session-00 §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// The payer sends it and shows its hash.
    Hash,
    /// The payer signs for the transfer and the seller sends it (EIP-3009).
    Authorization,
}

impl Means {
    const fn name(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Authorization => "authorization",
        }
    }

    /// What a challenge allows. Ways that are not known here are passed over.
    fn read(details: &Object) -> Result<Vec<Self>, Unreadable> {
        let Some(types) = details.get("credentialTypes") else { return Ok(vec![Self::Hash]) };
        let types: Vec<String> =
            serde_json::from_value(types.clone()).map_err(|_| Unreadable::Malformed)?;
        let known = |name: &String| match name.as_str() {
            "hash" => Some(Self::Hash),
            "authorization" => Some(Self::Authorization),
            _ => None,
        };
        Ok(types.iter().filter_map(known).collect())
    }
}

impl SessionTerms {
    /// The channel of `payer`'s that is opened for them where an escrow is a contract, which knows of no operators.
    pub(crate) const fn descriptor(
        &self,
        payer: Address,
        salt: B256,
        authorized_signer: Address,
    ) -> Descriptor {
        Descriptor {
            payer,
            payee: self.recipient,
            operator: NOBODY,
            token: self.token,
            salt,
            authorized_signer,
            expiring_nonce_hash: B256::ZERO,
        }
    }

    /// In the core's words. Vouchers of one session have the same `binding`.
    pub(crate) fn understood(self, binding: String) -> Understood {
        let asset = self.amount.asset().clone();
        Understood {
            unit: self.amount,
            unit_type: self.unit,
            recipient: self.recipient.to_string(),
            suggested_deposit: self.suggested_deposit.map(|it| Amount::new(asset, it)),
            delta_min_atoms: self.delta_min,
            binding,
        }
    }

    /// As they stand in a challenge.
    #[must_use]
    pub fn write(&self) -> Object {
        let mut details = Object::new();
        details.insert("chainId".into(), self.escrow.chain_id.into());
        details.insert("escrowContract".into(), self.escrow.address.to_string().into());
        details.insert("minVoucherDelta".into(), self.delta_min.to_string().into());
        if let Some(channel) = self.channel {
            details.insert("channelId".into(), channel.to_string().into());
        }
        if self.sponsored {
            details.insert("feePayer".into(), true.into());
        }
        match self.escrow.family {
            Family::TempoV1 => drop(details.insert("sessionProtocol".into(), "v1".into())),
            Family::TempoV2 => {
                details.insert("sessionProtocol".into(), "v2".into());
                if self.operator != NOBODY {
                    details.insert("operator".into(), self.operator.to_string().into());
                }
            }
            Family::Evm => {
                let types: Vec<&str> = self.means.iter().map(|it| it.name()).collect();
                details.insert("credentialTypes".into(), json!(types));
            }
        }
        let mut request = Object::new();
        request.insert("amount".into(), self.amount.atoms().to_string().into());
        if let Some(unit) = &self.unit {
            request.insert("unitType".into(), unit.as_str().into());
        }
        if let Some(deposit) = self.suggested_deposit {
            request.insert("suggestedDeposit".into(), deposit.to_string().into());
        }
        request.insert("currency".into(), self.token.to_string().into());
        request.insert("recipient".into(), self.recipient.to_string().into());
        request.insert("methodDetails".into(), json!(details));
        request
    }

    /// Reads a challenge of `method`. What is not known is passed over.
    ///
    /// # Errors
    ///
    /// [`Unreadable`].
    pub fn read(method: &str, request: &Object, tokens: &Tokens) -> Result<Self, Unreadable> {
        let malformed = || Unreadable::Malformed;
        let details = request.get("methodDetails").and_then(Value::as_object);
        let details = details.ok_or_else(malformed)?;
        let escrow = escrow(method, details)?;
        let atoms = |from: &Object, name: &str| match from.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => parse_atoms(text).map(Some).map_err(|_| malformed()),
            Some(_) => Err(malformed()),
        };
        let token = wire::address(request, "currency")?;
        let token = tokens.at(token).ok_or(Unreadable::Token)?;
        let amount = atoms(request, "amount")?.ok_or_else(malformed)?;
        let channel = match details.get("channelId") {
            None => None,
            Some(id) => Some(id.as_str().and_then(parse_word).ok_or_else(malformed)?),
        };
        let operator = match details.get("operator") {
            Some(_) if escrow.family == Family::TempoV2 => wire::address(details, "operator")?,
            _ => NOBODY,
        };
        Ok(Self {
            amount: token.asset.atoms(amount),
            unit: request.get("unitType").and_then(Value::as_str).map(str::to_owned),
            suggested_deposit: atoms(request, "suggestedDeposit")?,
            token: token.address,
            recipient: wire::address(request, "recipient")?,
            escrow,
            channel,
            delta_min: atoms(details, "minVoucherDelta")?.unwrap_or(0),
            operator,
            sponsored: wire::flag(details, "feePayer")?,
            means: if escrow.family == Family::Evm { Means::read(details)? } else { Vec::new() },
        })
    }
}

/// Which escrow a challenge means.
fn escrow(method: &str, details: &Object) -> Result<Escrow, Unreadable> {
    let protocol = match details.get("sessionProtocol") {
        None => None,
        Some(protocol) => Some(protocol.as_str().ok_or(Unreadable::Malformed)?),
    };
    let family = match (method, protocol) {
        ("tempo", None | Some("v1")) => Family::TempoV1,
        ("tempo", Some("v2")) => Family::TempoV2,
        ("evm", _) => Family::Evm,
        _ => return Err(Unreadable::Malformed),
    };
    let chain_id = match (details.get("chainId"), family) {
        (None, Family::TempoV1) => MAINNET,
        (Some(id), _) => id.as_u64().ok_or(Unreadable::Malformed)?,
        (None, Family::TempoV2 | Family::Evm) => return Err(Unreadable::Malformed),
    };
    let address = match (text(details, "escrowContract"), family) {
        (Ok(_), _) => wire::address(details, "escrowContract")?,
        (Err(_), Family::TempoV2) if !details.contains_key("escrowContract") => RESERVE,
        (Err(unreadable), _) => return Err(unreadable),
    };
    Ok(Escrow::new(family, chain_id, address))
}
