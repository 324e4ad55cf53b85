//! The receipt: a server's word that it was paid (§5.3).

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{self, Object};
use crate::{FIELD_BYTES_MAX, base64url};

#[cfg(test)]
mod tests;

/// A payment receipt, as it stands in `Payment-Receipt`.
///
/// There is no failed receipt: only a successful answer carries one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    status: Success,
    /// The payment method used.
    pub method: String,
    /// When the payment settled, as RFC 3339.
    pub timestamp: String,
    /// The method's reference: a transaction hash, an invoice id, a transfer id.
    pub reference: String,
    /// Fields the method adds, such as `challengeId`.
    #[serde(flatten)]
    pub extra: Object,
}

/// The only status there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Success {
    Success,
}

impl Receipt {
    /// A receipt for a payment settled at `timestamp` under `reference`.
    #[must_use]
    pub fn new(method: &str, timestamp: Timestamp, reference: &str) -> Self {
        Self {
            status: Success::Success,
            method: method.to_owned(),
            timestamp: timestamp.to_string(),
            reference: reference.to_owned(),
            extra: Object::new(),
        }
    }

    /// Adds a field of the method's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Reads a field value.
    ///
    /// # Errors
    ///
    /// A [`ReceiptError`] that says what is wrong with it.
    pub fn parse(value: &str) -> Result<Self, ReceiptError> {
        let token = value.trim_matches([' ', '\t']);
        if token.is_empty() || token.len() > FIELD_BYTES_MAX {
            return Err(ReceiptError::Encoding);
        }
        let object = json::decode(token).map_err(|_| ReceiptError::Encoding)?;
        let receipt: Self =
            serde_json::from_value(Value::Object(object)).map_err(|_| ReceiptError::Fields)?;
        let in_time = receipt.timestamp.parse::<Timestamp>().is_ok();
        let complete = !receipt.method.is_empty() && !receipt.reference.is_empty();
        if in_time && complete { Ok(receipt) } else { Err(ReceiptError::Fields) }
    }

    /// Writes the receipt as a field value.
    #[must_use]
    pub fn format(&self) -> String {
        // In-memory JSON with string keys always serialises.
        base64url::encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Why a field value is not a receipt: the seller's to fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not base64url of a JSON object.
    #[error("the receipt is not base64url of a JSON object")]
    Encoding,
    /// A field is missing, is empty, or says something other than success.
    #[error("the receipt lacks a field, or does not say success")]
    Fields,
}
