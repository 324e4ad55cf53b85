//! An order to erase personal data, as an operator writes it.

use farthing_ledger::{EraseError, Erasure, ErasureKey, SpendingKey, Whose};
use farthing_money::{ParseTimestampError, Timestamp};
use farthing_rail_prepaid::parse_did_key;
use serde::{Deserialize, Serialize};

/// Erases personal data: `POST /v1/erasures`. Either of `payer` and `before` is named.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureOrder {
    /// A payer as its method knows it, or the holder of a prepaid account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Whatever was finished before this moment, such as `2019-01-01T00:00:00Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Why, in words that name nobody: it stays.
    pub reason: String,
}

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
pub enum ErasureOrderError {
    /// Nobody is named, or two are.
    #[error("name a payer or a time, and not both")]
    Which,
    /// The time cannot be read.
    #[error(transparent)]
    Time(#[from] ParseTimestampError),
    /// The time is still to come.
    #[error("what is not over cannot be erased by its age; name a time that has passed")]
    Future,
    /// The book refuses.
    #[error(transparent)]
    Book(#[from] EraseError),
}

impl ErasureOrderError {
    /// The HTTP status that says whose it is to mend.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Which
            | Self::Time(_)
            | Self::Future
            | Self::Book(EraseError::Named | EraseError::TooMany(_)) => 422,
            Self::Book(EraseError::Unknown) => 404,
            Self::Book(EraseError::Open(_)) => 409,
            Self::Book(EraseError::Damaged(_)) => 500,
            Self::Book(EraseError::Unavailable) => 503,
        }
    }
}

impl ErasureOrder {
    /// What a book is asked, with a key that was drawn for it.
    ///
    /// # Errors
    ///
    /// An [`ErasureOrderError`].
    pub fn erasure(self, now: Timestamp) -> Result<Erasure, ErasureOrderError> {
        let whose = match (self.payer, self.before) {
            (Some(name), None) => {
                let key = parse_did_key(&name).ok().map(SpendingKey);
                Whose::Payer { name, key }
            }
            (None, Some(time)) => {
                let before: Timestamp = time.parse()?;
                if before > now {
                    return Err(ErasureOrderError::Future);
                }
                Whose::Before(before)
            }
            (Some(_), Some(_)) | (None, None) => return Err(ErasureOrderError::Which),
        };
        Ok(Erasure { whose, reason: self.reason, key: ErasureKey(rand::random()) })
    }
}
