//! Accounts: who holds what, and how far they may go.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use farthing_money::AssetId;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The longest holder name, in bytes.
const HOLDER_BYTES_MAX: usize = 200;

/// What an account is for. The chart of accounts, in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// Money the operator took in to fund prepaid accounts: cash, an invoice, a card payment.
    Funding,
    /// Credit an agent holds with us and spends call by call.
    Prepaid,
    /// What was deposited into a channel and is neither spent nor given back.
    Channel,
    /// Money on its way to us over a rail.
    Clearing,
    /// What a seller has earned and was not yet paid out.
    Payable,
    /// A wallet's own money on a rail.
    Purse,
    /// What a wallet has spent with a seller.
    Spent,
    /// What was paid out to a seller.
    PaidOut,
}

/// How far an account may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// No further than its credits: what we owe somebody can be used up but not overdrawn.
    DebitsWithinCredits,
    /// As far as the other accounts allow.
    Unlimited,
}

impl AccountKind {
    /// Every kind, in the order of a balance sheet.
    pub const ALL: [Self; 8] = [
        Self::Funding,
        Self::Clearing,
        Self::Prepaid,
        Self::Channel,
        Self::Payable,
        Self::Purse,
        Self::Spent,
        Self::PaidOut,
    ];

    /// The kind's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Funding => "funding",
            Self::Prepaid => "prepaid",
            Self::Channel => "channel",
            Self::Clearing => "clearing",
            Self::Payable => "payable",
            Self::Purse => "purse",
            Self::Spent => "spent",
            Self::PaidOut => "paid-out",
        }
    }

    /// How far accounts of this kind may go.
    #[must_use]
    pub const fn rule(self) -> Rule {
        match self {
            Self::Prepaid | Self::Channel | Self::Payable => Rule::DebitsWithinCredits,
            Self::Funding | Self::Clearing | Self::Purse | Self::Spent | Self::PaidOut => {
                Rule::Unlimited
            }
        }
    }

    /// Whether people read the balance as credits less debits: true of what we owe.
    #[must_use]
    pub const fn is_credit_normal(self) -> bool {
        match self {
            Self::Prepaid | Self::Channel | Self::Payable => true,
            Self::Funding | Self::Clearing | Self::Purse | Self::Spent | Self::PaidOut => false,
        }
    }
}

/// Whose account it is: a customer, a seller, a rail, a payee's address.
///
/// One to 200 printable ASCII characters without spaces and without `/`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holder(Arc<str>);

impl Holder {
    /// Makes a name.
    ///
    /// # Errors
    ///
    /// [`ParseAccountError`] for any other text.
    pub fn new(name: &str) -> Result<Self, ParseAccountError> {
        let spelled = (1..=HOLDER_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'/');
        if spelled { Ok(Self(name.into())) } else { Err(ParseAccountError) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One account: a kind, a holder and an asset. Written `prepaid/acme/usd`.
///
/// Accounts need no opening; one that was never used has a balance of zero.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account {
    /// What it is for.
    pub kind: AccountKind,
    /// Whose it is.
    pub holder: Holder,
    /// What is counted in it.
    pub asset: AssetId,
}

impl Account {
    /// The `kind` account of `holder` in `asset`.
    #[must_use]
    pub const fn new(kind: AccountKind, holder: Holder, asset: AssetId) -> Self {
        Self { kind, holder, asset }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.name(), self.holder, self.asset)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Account {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<Self, ParseAccountError> {
        let (kind, rest) = text.split_once('/').ok_or(ParseAccountError)?;
        let (holder, asset) = rest.split_once('/').ok_or(ParseAccountError)?;
        let kind = AccountKind::ALL.into_iter().find(|known| known.name() == kind);
        Ok(Self {
            kind: kind.ok_or(ParseAccountError)?,
            holder: Holder::new(holder)?,
            asset: AssetId::new(asset).map_err(|_| ParseAccountError)?,
        })
    }
}

impl TryFrom<String> for Account {
    type Error = ParseAccountError;

    fn try_from(text: String) -> Result<Self, ParseAccountError> {
        text.parse()
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.to_string()
    }
}

impl FromStr for Holder {
    type Err = ParseAccountError;

    fn from_str(name: &str) -> Result<Self, ParseAccountError> {
        Self::new(name)
    }
}

impl TryFrom<String> for Holder {
    type Error = ParseAccountError;

    fn try_from(name: String) -> Result<Self, ParseAccountError> {
        Self::new(&name)
    }
}

impl From<Holder> for String {
    fn from(holder: Holder) -> Self {
        holder.as_str().to_owned()
    }
}

/// A text is not an account or a holder's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an account is written like prepaid/acme/usd; a name is up to 200 printable characters without spaces or '/'"
)]
pub struct ParseAccountError;
