//! What stands in a challenge's `request` (draft-tempo-charge-00 §4) and how accounts are named.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::B256;
use farthing_core::Object;
use farthing_money::{Amount, Asset, AssetId, Assets, parse_atoms};
use serde_json::{Value, json};

#[cfg(test)]
mod tests;

/// The most splits of one charge: each costs the network as much as a payment.
pub(crate) const SPLITS_MAX: usize = 10;

/// An account or a token on the chain. Printed with a checksum (EIP-55), compared by its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub(crate) alloy_primitives::Address);

impl Address {
    /// The account that a secret key of secp256k1 is the key of; nothing for bytes that are no key.
    #[must_use]
    pub fn of_secret(secret: &[u8; 32]) -> Option<Self> {
        let key = k256::ecdsa::SigningKey::from_slice(secret).ok()?;
        Self::of_public_key(key.verifying_key().to_encoded_point(true).as_bytes())
    }

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

    /// The token of an asset.
    #[must_use]
    pub fn named(&self, asset: &AssetId) -> Option<&Token> {
        self.0.iter().find(|token| token.asset.id() == asset)
    }

    /// The token of a contract.
    #[must_use]
    pub fn at(&self, address: Address) -> Option<&Token> {
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
    /// What the seller wants the transfer to the recipient to carry.
    pub(crate) memo: Option<B256>,
    /// Who else is paid out of the amount.
    pub(crate) splits: Vec<Transfer>,
    /// Whether the seller pays the network's fee.
    pub(crate) sponsored: bool,
    /// Whether the seller broadcasts what the buyer signed.
    pub(crate) pull: bool,
    /// Whether the buyer may send the payment itself and show its hash.
    pub(crate) push: bool,
}

/// A movement of a token: owed, called for, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) to: Address,
    pub(crate) atoms: u128,
    pub(crate) memo: Option<B256>,
}

/// Why a request cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A field is missing or makes no sense.
    #[error("a field is missing or makes no sense")]
    Malformed,
    /// The token is not known here.
    #[error("the token is not known here")]
    Token,
}

impl Terms {
    /// Everything that is owed: to the recipient first, then the splits.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        let others = self.splits.iter().fold(0, |sum: u128, it| sum.saturating_add(it.atoms));
        let rest = self.amount.atoms().saturating_sub(others);
        let primary = Transfer { to: self.recipient, atoms: rest, memo: self.memo };
        std::iter::once(primary).chain(self.splits.iter().copied()).collect()
    }

    /// Writes the request. The chain is always named: a default would be somebody's guess.
    pub(crate) fn write(&self) -> Object {
        let mut details = Object::new();
        details.insert("chainId".into(), self.chain_id.into());
        if self.sponsored {
            details.insert("feePayer".into(), true.into());
        }
        if let Some(memo) = self.memo {
            details.insert("memo".into(), memo.to_string().into());
        }
        if !self.splits.is_empty() {
            let splits: Vec<Value> = self.splits.iter().map(Transfer::write).collect();
            details.insert("splits".into(), splits.into());
        }
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

    /// Reads a request.
    pub(crate) fn read(request: &Object, tokens: &Tokens) -> Result<Self, Unreadable> {
        let details = request.get("methodDetails").and_then(Value::as_object);
        let details = details.ok_or(Unreadable::Malformed)?;
        let atoms = atoms(request)?;
        let sponsored = flag(details, "feePayer")?;
        let modes = modes(details)?;
        let token = tokens.at(address(request, "currency")?).ok_or(Unreadable::Token)?;
        let chain_id = details.get("chainId").and_then(Value::as_u64);
        let terms = Self {
            amount: token.asset.atoms(atoms),
            token: token.address,
            recipient: address(request, "recipient")?,
            chain_id: chain_id.ok_or(Unreadable::Malformed)?,
            memo: memo(details)?,
            splits: splits(details, atoms)?,
            sponsored,
            pull: modes.iter().any(|mode| mode == "pull"),
            // Whoever sends the payment has paid the fee already (§7.1).
            push: modes.iter().any(|mode| mode == "push") && !sponsored,
        };
        // A price of zero is proved, and modes are for what moves (§5.4).
        let payable = terms.pull || terms.push || terms.amount.is_zero();
        if payable { Ok(terms) } else { Err(Unreadable::Malformed) }
    }
}

impl Transfer {
    fn write(&self) -> Value {
        let mut split = Object::new();
        split.insert("amount".into(), self.atoms.to_string().into());
        split.insert("recipient".into(), self.to.to_string().into());
        if let Some(memo) = self.memo {
            split.insert("memo".into(), memo.to_string().into());
        }
        Value::Object(split)
    }

    fn read(split: &Value) -> Result<Self, Unreadable> {
        let split = split.as_object().ok_or(Unreadable::Malformed)?;
        let atoms = atoms(split)?;
        if atoms == 0 {
            return Err(Unreadable::Malformed);
        }
        Ok(Self { to: address(split, "recipient")?, atoms, memo: memo(split)? })
    }
}

pub(crate) fn text<'a>(object: &'a Object, name: &str) -> Result<&'a str, Unreadable> {
    object.get(name).and_then(Value::as_str).ok_or(Unreadable::Malformed)
}

pub(crate) fn address(object: &Object, name: &str) -> Result<Address, Unreadable> {
    text(object, name)?.parse().map_err(|_| Unreadable::Malformed)
}

pub(crate) fn atoms(object: &Object) -> Result<u128, Unreadable> {
    parse_atoms(text(object, "amount")?).map_err(|_| Unreadable::Malformed)
}

pub(crate) fn flag(object: &Object, name: &str) -> Result<bool, Unreadable> {
    object.get(name).map_or(Some(false), Value::as_bool).ok_or(Unreadable::Malformed)
}

fn memo(object: &Object) -> Result<Option<B256>, Unreadable> {
    let Some(memo) = object.get("memo") else { return Ok(None) };
    let memo = memo.as_str().and_then(parse_word);
    memo.map(Some).ok_or(Unreadable::Malformed)
}

/// 32 bytes, written with 0x and 64 hexadecimal digits.
pub(crate) fn parse_word(text: &str) -> Option<B256> {
    text.starts_with("0x").then(|| text.parse().ok()).flatten()
}

fn modes(details: &Object) -> Result<Vec<String>, Unreadable> {
    match details.get("supportedModes") {
        None => Ok(vec!["pull".to_owned(), "push".to_owned()]),
        Some(modes) => serde_json::from_value(modes.clone()).map_err(|_| Unreadable::Malformed),
    }
}

/// The splits of `total` atoms: together less than all of it (§4.4.3).
fn splits(details: &Object, total: u128) -> Result<Vec<Transfer>, Unreadable> {
    let Some(splits) = details.get("splits") else { return Ok(Vec::new()) };
    let splits = splits.as_array().filter(|it| (1..=SPLITS_MAX).contains(&it.len()));
    let splits = splits.ok_or(Unreadable::Malformed)?.iter().map(Transfer::read);
    let splits: Vec<Transfer> = splits.collect::<Result<_, _>>()?;
    let sum = splits.iter().try_fold(0, |sum: u128, split| sum.checked_add(split.atoms));
    if sum.is_some_and(|sum| sum < total) { Ok(splits) } else { Err(Unreadable::Malformed) }
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
