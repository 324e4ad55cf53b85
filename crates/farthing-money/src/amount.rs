//! A quantity of one asset.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::AssetId;

#[cfg(test)]
mod tests;

/// A quantity of one asset, in atoms.
///
/// Amounts are never negative and never fractional; a direction is an account's business, not an
/// amount's. There is deliberately no `Ord`: two amounts of different assets do not compare.
///
/// Serialised as `{"asset": "usd", "atoms": "2500"}`; atoms travel as a decimal string, because a
/// JSON number loses digits past 2^53.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Amount {
    asset: AssetId,
    atoms: u128,
}

impl Amount {
    /// Makes an amount of `atoms` smallest units of `asset`.
    #[must_use]
    pub const fn new(asset: AssetId, atoms: u128) -> Self {
        Self { asset, atoms }
    }

    /// No atoms of `asset`.
    #[must_use]
    pub const fn zero(asset: AssetId) -> Self {
        Self::new(asset, 0)
    }

    /// The asset counted.
    #[must_use]
    pub const fn asset(&self) -> &AssetId {
        &self.asset
    }

    /// How many atoms.
    #[must_use]
    pub const fn atoms(&self) -> u128 {
        self.atoms
    }

    /// Whether there are no atoms.
    #[must_use]
    pub const fn is_zero(&self) -> bool {
        self.atoms == 0
    }

    /// Adds two amounts.
    ///
    /// # Errors
    ///
    /// [`AmountError::AssetMismatch`] when the assets differ, [`AmountError::Overflow`] past
    /// `u128::MAX` atoms.
    pub fn checked_add(&self, other: &Self) -> Result<Self, AmountError> {
        self.combine(other, u128::checked_add)
    }

    /// Takes `other` away.
    ///
    /// # Errors
    ///
    /// [`AmountError::AssetMismatch`] when the assets differ, [`AmountError::Overflow`] below zero.
    pub fn checked_sub(&self, other: &Self) -> Result<Self, AmountError> {
        self.combine(other, u128::checked_sub)
    }

    /// Multiplies by a count of units, as in a price per token.
    ///
    /// # Errors
    ///
    /// [`AmountError::Overflow`] past `u128::MAX` atoms.
    pub fn checked_mul(&self, count: u128) -> Result<Self, AmountError> {
        let atoms = self.atoms.checked_mul(count).ok_or(AmountError::Overflow)?;
        Ok(Self::new(self.asset.clone(), atoms))
    }

    /// Compares two amounts of the same asset.
    ///
    /// # Errors
    ///
    /// [`AmountError::AssetMismatch`] when the assets differ.
    pub fn compare(&self, other: &Self) -> Result<Ordering, AmountError> {
        if self.asset != other.asset {
            return Err(AmountError::AssetMismatch);
        }
        Ok(self.atoms.cmp(&other.atoms))
    }

    fn combine(
        &self,
        other: &Self,
        operation: fn(u128, u128) -> Option<u128>,
    ) -> Result<Self, AmountError> {
        if self.asset != other.asset {
            return Err(AmountError::AssetMismatch);
        }
        let atoms = operation(self.atoms, other.atoms).ok_or(AmountError::Overflow)?;
        Ok(Self::new(self.asset.clone(), atoms))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.atoms, self.asset)
    }
}

/// Why two amounts could not be combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// The two amounts are in different assets.
    #[error("the amounts are in different assets")]
    AssetMismatch,
    /// The result is below zero or does not fit in a `u128` of atoms.
    #[error("the result is out of range")]
    Overflow,
}

/// Reads a count of atoms: `0`, or digits that do not start with `0`.
///
/// This is the only spelling of an amount the wire formats allow (`^(0|[1-9][0-9]*)$`): no sign, no
/// space, no exponent, no leading zero, ASCII digits only. One number has one spelling, so two
/// parties can never read the same bytes as different prices.
///
/// # Errors
///
/// [`ParseAtomsError::Spelling`] for any other text, [`ParseAtomsError::TooLarge`] past
/// `u128::MAX`.
pub fn parse_atoms(text: &str) -> Result<u128, ParseAtomsError> {
    let canonical = match text.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return Err(ParseAtomsError::Spelling);
    }
    text.parse().map_err(|_| ParseAtomsError::TooLarge)
}

/// Why a text is not a count of atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseAtomsError {
    /// Not `0` and not digits without a leading zero.
    #[error("an amount is a string of digits without sign, point, exponent or leading zero")]
    Spelling,
    /// More than `u128::MAX`.
    #[error("the amount does not fit in 128 bits")]
    TooLarge,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AmountJson {
    asset: AssetId,
    atoms: String,
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AmountJson { asset: self.asset.clone(), atoms: self.atoms.to_string() }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = AmountJson::deserialize(deserializer)?;
        let atoms = parse_atoms(&json.atoms).map_err(serde::de::Error::custom)?;
        Ok(Self::new(json.asset, atoms))
    }
}
