//! What amounts are counted in.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Amount, ParseAtomsError};

#[cfg(test)]
mod tests;

/// The most decimals an asset may have; 10^38 is the largest power of ten in a `u128`.
const DECIMALS_MAX: u8 = 38;

/// The longest asset name, in bytes; long enough for a CAIP-19 identifier.
const NAME_BYTES_MAX: usize = 128;

/// Names an asset: `usd`, `sat`, `eip155:42431/erc20:0x20c0…0000`.
///
/// Lower-case ASCII letters, digits and `:/._-`, starting with a letter or digit, at most 128
/// bytes. One asset has one name, so names compare by bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetId(Arc<str>);

impl AssetId {
    /// Makes a name.
    ///
    /// # Errors
    ///
    /// [`AssetError::Name`] when `name` is not spelled as described on the type.
    pub fn new(name: &str) -> Result<Self, AssetError> {
        let spelled = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || matches!(b, b':' | b'/' | b'.' | b'_' | b'-')
            });
        if spelled { Ok(Self(name.into())) } else { Err(AssetError::Name) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AssetId {
    type Err = AssetError;

    fn from_str(name: &str) -> Result<Self, AssetError> {
        Self::new(name)
    }
}

impl TryFrom<String> for AssetId {
    type Error = AssetError;

    fn try_from(name: String) -> Result<Self, AssetError> {
        Self::new(&name)
    }
}

impl From<AssetId> for String {
    fn from(id: AssetId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An asset and the number of decimals people write it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    id: AssetId,
    decimals: u8,
}

impl Asset {
    /// Describes an asset: `decimals` digits after the point make one atom.
    ///
    /// # Errors
    ///
    /// [`AssetError::Decimals`] past 38.
    pub fn new(id: AssetId, decimals: u8) -> Result<Self, AssetError> {
        if decimals > DECIMALS_MAX {
            return Err(AssetError::Decimals);
        }
        Ok(Self { id, decimals })
    }

    /// The asset's name.
    #[must_use]
    pub const fn id(&self) -> &AssetId {
        &self.id
    }

    /// Digits after the point.
    #[must_use]
    pub const fn decimals(&self) -> u8 {
        self.decimals
    }

    /// This many atoms of the asset.
    #[must_use]
    pub fn atoms(&self, atoms: u128) -> Amount {
        Amount::new(self.id.clone(), atoms)
    }

    /// Reads a decimal number exactly: `"0.25"` of a 6-decimals asset is 250,000 atoms.
    ///
    /// # Errors
    ///
    /// [`ParseAmountError::TooFine`] when digits would be lost; nothing is ever rounded. Otherwise
    /// [`ParseAmountError::Spelling`] or [`ParseAmountError::TooLarge`].
    pub fn parse(&self, text: &str) -> Result<Amount, ParseAmountError> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(ParseAmountError::Spelling),
            Some(parts) => parts,
            None => (text, ""),
        };
        let whole = crate::parse_atoms(whole)?;
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParseAmountError::Spelling);
        }
        let places = usize::from(self.decimals);
        let (kept, lost) = fraction.split_at(fraction.len().min(places));
        if lost.bytes().any(|b| b != b'0') {
            return Err(ParseAmountError::TooFine { decimals: self.decimals });
        }
        let fraction: u128 = format!("{kept:0<places$}").parse().unwrap_or(0);
        let atoms = self.unit().checked_mul(whole).and_then(|atoms| atoms.checked_add(fraction));
        atoms.map(|atoms| self.atoms(atoms)).ok_or(ParseAmountError::TooLarge)
    }

    /// Writes `atoms` the way people read them, without the asset's name: 250,000 atoms of a
    /// 6-decimals asset are `"0.25"`.
    ///
    /// Trailing zeros are dropped down to two decimals, so prices line up: `"3.00"`, `"0.001"`.
    #[must_use]
    pub fn print(&self, atoms: u128) -> String {
        if self.decimals == 0 {
            return atoms.to_string();
        }
        let places = usize::from(self.decimals);
        let digits = format!("{atoms:0>width$}", width = places.saturating_add(1));
        let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
        let significant = fraction.trim_end_matches('0').len().max(places.min(2));
        let (fraction, _) = fraction.split_at(significant);
        format!("{whole}.{fraction}")
    }

    fn unit(&self) -> u128 {
        10_u128.checked_pow(self.decimals.into()).unwrap_or(u128::MAX)
    }
}

/// The assets a deployment knows, by name.
///
/// Decimals come from here and never from a counterparty, so a caller who declares other decimals
/// cannot rescale a price.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assets(BTreeMap<AssetId, Asset>);

impl Assets {
    /// The asset named `id`, if it is known.
    #[must_use]
    pub fn get(&self, id: &AssetId) -> Option<&Asset> {
        self.0.get(id)
    }

    /// Every asset, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.0.values()
    }

    /// Reads an amount as people write it: `"0.25 usd"`.
    ///
    /// # Errors
    ///
    /// A [`ReadAmountError`].
    pub fn read(&self, text: &str) -> Result<Amount, ReadAmountError> {
        let (number, name) = text.split_once(' ').ok_or(ReadAmountError::Spelling)?;
        let id = AssetId::new(name.trim()).ok();
        let asset = id.and_then(|id| self.get(&id));
        let asset = asset.ok_or_else(|| ReadAmountError::Unknown { asset: name.trim().into() })?;
        Ok(asset.parse(number)?)
    }

    /// Writes an amount for people: `"0.25 usd"`, or atoms where the asset is unknown.
    #[must_use]
    pub fn print(&self, amount: &Amount) -> String {
        match self.get(amount.asset()) {
            Some(asset) => format!("{} {}", asset.print(amount.atoms()), asset.id()),
            None => format!("{} atoms of {}", amount.atoms(), amount.asset()),
        }
    }
}

impl FromIterator<Asset> for Assets {
    fn from_iter<I: IntoIterator<Item = Asset>>(assets: I) -> Self {
        Self(assets.into_iter().map(|asset| (asset.id.clone(), asset)).collect())
    }
}

/// Why an asset cannot be described so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssetError {
    /// The name is empty, too long or has other characters.
    #[error(
        "an asset name is 1 to 128 characters of a-z, 0-9 and ':/._-', starting with a letter or digit"
    )]
    Name,
    /// More decimals than a `u128` has digits.
    #[error("an asset has at most 38 decimals")]
    Decimals,
}

/// Why a text is not an amount of any known asset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadAmountError {
    /// Not a number and an asset.
    #[error("an amount is a number and an asset, like \"0.25 usd\"")]
    Spelling,
    /// Nobody knows the asset.
    #[error("there is no asset called {asset} in [assets]")]
    Unknown {
        /// Its name, as it was written.
        asset: Box<str>,
    },
    /// The number is not one of the asset.
    #[error(transparent)]
    Number(#[from] ParseAmountError),
}

/// Why a text is not an amount of an asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAmountError {
    /// Not a plain decimal number.
    #[error("an amount is written like 12 or 0.25, without sign, exponent or leading zero")]
    Spelling,
    /// There are digits below one atom.
    #[error("the asset has {decimals} decimals and the amount has more")]
    TooFine {
        /// How many decimals the asset has.
        decimals: u8,
    },
    /// More than `u128::MAX` atoms.
    #[error("the amount does not fit in 128 bits of atoms")]
    TooLarge,
}

impl From<ParseAtomsError> for ParseAmountError {
    fn from(error: ParseAtomsError) -> Self {
        match error {
            ParseAtomsError::Spelling => Self::Spelling,
            ParseAtomsError::TooLarge => Self::TooLarge,
        }
    }
}
