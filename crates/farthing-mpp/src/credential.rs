//! The credential: proof that a challenge was paid (§5.2).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::json::{self, Object};
use crate::{Challenge, SCHEME, base64url};

#[cfg(test)]
mod tests;

/// The longest credential read, in bytes of base64url. The scheme asks for at least 4 KB (§9.4).
const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;

/// A payment credential, as it stands in `Authorization`.
///
/// It spends money, so it has no `Debug`: it cannot end up in a log by accident (§11.2.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The challenge, echoed as it was received.
    pub challenge: Challenge,
    /// Who pays, preferably as a DID. A claim until the method has verified it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The method's proof.
    pub payload: Object,
}

impl Credential {
    /// Reads a field value: the scheme, spaces, and one base64url token.
    ///
    /// # Errors
    ///
    /// A [`CredentialError`]. It never repeats what it read.
    pub fn parse(value: &str) -> Result<Self, CredentialError> {
        let token = Self::token(value).ok_or(CredentialError::NotPayment)?;
        if token.len() > CREDENTIAL_BYTES_MAX {
            return Err(CredentialError::TooLarge);
        }
        if token.contains([',', ' ', '\t']) {
            return Err(CredentialError::Several);
        }
        // A scheme that allows padding in others' decoders still emits none (`base64url-nopad`).
        let object = json::decode(token).map_err(|_| CredentialError::Encoding)?;
        let credential: Self =
            serde_json::from_value(Value::Object(object)).map_err(|_| CredentialError::Fields)?;
        if credential.challenge.id.is_empty() {
            return Err(CredentialError::Fields);
        }
        Ok(credential)
    }

    /// What follows the `Payment` scheme in a field value; nothing if another scheme stands there.
    #[must_use]
    pub fn token(value: &str) -> Option<&str> {
        let (scheme, token) = value.trim_matches([' ', '\t']).split_once(' ')?;
        let token = token.trim_start_matches(' ');
        (scheme.eq_ignore_ascii_case(SCHEME) && !token.is_empty()).then_some(token)
    }

    /// Writes the credential as a field value.
    #[must_use]
    pub fn format(&self) -> String {
        // In-memory JSON with string keys always serialises.
        let json = serde_json::to_vec(self).unwrap_or_default();
        format!("{SCHEME} {}", base64url::encode(json))
    }
}

/// Why a field value is not a payment credential: the payer's to fix (`malformed-credential`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The value has another scheme, or nothing after it.
    #[error("not a Payment credential")]
    NotPayment,
    /// More than one token stands in the value.
    #[error("more than one credential")]
    Several,
    /// Longer than 16 KiB.
    #[error("the credential is longer than 16 KiB")]
    TooLarge,
    /// Not base64url of a JSON object.
    #[error("the credential is not base64url of a JSON object")]
    Encoding,
    /// A field is missing or has the wrong type.
    #[error("the credential lacks a field of the challenge or the payload")]
    Fields,
}
