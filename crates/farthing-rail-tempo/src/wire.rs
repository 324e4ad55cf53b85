//! What stands in a challenge's `request` (draft-tempo-charge-00 §4) and how accounts are named.

use std::fmt;
use std::str::FromStr;

use farthing_core::Object;
use farthing_money::{Amount, Asset, Assets, parse_atoms};
use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// An account or a token on the chain. Printed with a checksum (EIP-55), compared by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(crate) alloy_primitives::Address);

impl Address {
    /// The account that a public key of secp256k1 is the key of (SEC 1, compressed or not).
    #[must_use]
    pub fn of_public_key(key: &[u8]) -> Option<Self> {
        let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
        Some(Self(alloy_primitives::Address::from_public_key(&key)))
    }
}

impl FromStr for Address {
    type Err = MalformedAddress;

    fn from_str(text: &str) -> Result<Self, MalformedAddress> {
        if !text.starts_with("0x") {
            return Err(MalformedAddress);
        }
        text.parse().map(Self).map_err(|_| MalformedAddress)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address is 0x and 40 hexadecimal digits")]
pub struct MalformedAddress;

/// A token, and the asset it is on the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The asset.
    pub asset: Asset,
    /// The contract (TIP-20).
    pub address: Address,
}

/// The tokens both sides of this rail know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens(Vec<Token>);

impl Tokens {
    /// These tokens.
    #[must_use]
    pub const fn new(tokens: Vec<Token>) -> Self {
        Self(tokens)
    }

    /// Their assets.
    #[must_use]
    pub fn assets(&self) -> Assets {
        self.0.iter().map(|token| token.asset.clone()).collect()
    }

    /// These tokens, one by one.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.0.iter()
    }

    pub(crate) fn of(&self, amount: &Amount) -> Option<&Token> {
        self.0.iter().find(|token| token.asset.id() == amount.asset())
    }

    fn at(&self, address: Address) -> Option<&Token> {
        self.0.iter().find(|token| token.address == address)
    }
}

/// A charge, as a request asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) amount: Amount,
    pub(crate) token: Address,
    pub(crate) recipient: Address,
    pub(crate) chain_id: u64,
    /// Whether the seller broadcasts what the buyer signed.
    pub(crate) pull: bool,
    /// Whether the buyer may send the payment itself and show its hash.
    pub(crate) push: bool,
}

/// Why a request cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A field is missing or makes no sense.
    Malformed,
    /// The token is not known here.
    Token,
    /// It asks for something that this rail does not do.
    Unsupported,
}

impl Terms {
    /// Writes the request. The chain is always named: a default would be somebody's guess.
    pub(crate) fn write(&self) -> Object {
        let mut details = Object::new();
        details.insert("chainId".into(), self.chain_id.into());
        let modes = [("pull", self.pull), ("push", self.push)];
        if modes.iter().any(|(_, on)| !on) {
            let modes = modes.into_iter().filter(|(_, on)| *on).map(|(mode, _)| mode);
            details.insert("supportedModes".into(), modes.collect::<Vec<_>>().into());
        }
        let mut request = Object::new();
        request.insert("amount".into(), self.amount.atoms().to_string().into());
        request.insert("currency".into(), self.token.to_string().into());
        request.insert("recipient".into(), self.recipient.to_string().into());
        request.insert("methodDetails".into(), json!(details));
        request
    }

    /// Reads a request. What asks for a sponsor, for splits or for a memo of its own is refused by
    /// name, never passed over.
    pub(crate) fn read(request: &Object, tokens: &Tokens) -> Result<Self, Unreadable> {
        let text = |name| request.get(name).and_then(Value::as_str).ok_or(Unreadable::Malformed);
        let address = |name| text(name)?.parse::<Address>().map_err(|_| Unreadable::Malformed);
        let atoms = parse_atoms(text("amount")?).map_err(|_| Unreadable::Malformed)?;
        let details = match request.get("methodDetails") {
            Some(details) => details.as_object().ok_or(Unreadable::Malformed)?,
            None => return Err(Unreadable::Malformed),
        };
        let chain_id = details.get("chainId").and_then(Value::as_u64);
        let sponsored = details.get("feePayer").is_some_and(|it| it.as_bool() != Some(false));
        if sponsored || details.contains_key("splits") || details.contains_key("memo") {
            return Err(Unreadable::Unsupported);
        }
        let modes = match details.get("supportedModes") {
            Some(modes) => modes.as_array().ok_or(Unreadable::Malformed)?.as_slice(),
            None => &[json!("pull"), json!("push")],
        };
        let token = tokens.at(address("currency")?).ok_or(Unreadable::Token)?;
        Ok(Self {
            amount: token.asset.atoms(atoms),
            token: token.address,
            recipient: address("recipient")?,
            chain_id: chain_id.ok_or(Unreadable::Malformed)?,
            pull: modes.iter().any(|mode| mode == "pull"),
            push: modes.iter().any(|mode| mode == "push"),
        })
    }
}

/// The name of an account across chains: `did:pkh:eip155:CHAIN:ADDRESS`.
pub(crate) fn did(chain_id: u64, account: Address) -> String {
    format!("did:pkh:eip155:{chain_id}:{account}")
}

/// Reads such a name; the chain in its one spelling.
pub(crate) fn parse_did(text: &str) -> Option<(u64, Address)> {
    let (chain, account) = text.strip_prefix("did:pkh:eip155:")?.split_once(':')?;
    let chain_id: u64 = chain.parse().ok().filter(|id: &u64| id.to_string() == chain)?;
    Some((chain_id, account.parse().ok()?))
}
