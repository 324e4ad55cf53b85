//! Proofs of who a seller is: its realm and a buyer's own nonce, signed before anything is paid.
//!
//! A receipt proves the key after a payment; this proves it before one. What is signed names itself, so that it
//! can be shown as nothing else, and carries the nonce of whoever asked, so that it is of use to nobody else.

use farthing_mpp::base64url;
use serde::{Deserialize, Serialize};

use crate::jws::{self, JwsError};
use crate::keys::{Notary, PublicKey, TrustedKeys};

#[cfg(test)]
mod tests;

/// What is signed, so that no other signature of ours can be shown as a proof.
const TYP: &str = "farthing-identity+jwt";

/// How many bytes a nonce has.
const NONCE_BYTES: usize = 32;

/// What a buyer draws at random, for one proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdentityNonce([u8; NONCE_BYTES]);

impl IdentityNonce {
    /// The nonce of these bytes, which nobody could foresee.
    #[must_use]
    pub const fn new(bytes: [u8; NONCE_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads a nonce as a request spells it: 32 bytes in base64url, without padding. Whatever else is asked for is
    /// signed by nobody.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = base64url::decode(text).ok()?;
        bytes.as_slice().try_into().ok().map(Self)
    }

    /// The same, spelled.
    #[must_use]
    pub fn to_text(&self) -> String {
        base64url::encode(self.0)
    }
}

/// What a proof says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    /// Whose key it is: the seller's realm.
    iss: String,
    /// What the buyer has drawn.
    nonce: String,
}

/// Proves that a seller has its key. The same nonce always gets the same proof.
#[must_use]
pub fn prove_identity(notary: &Notary, nonce: &IdentityNonce) -> String {
    let claims = Claims { iss: notary.realm().to_owned(), nonce: nonce.to_text() };
    // In-memory data with string keys always serialises.
    let payload = serde_json::to_vec(&claims).unwrap_or_default();
    jws::sign(notary.key(), TYP, &payload)
}

/// The key that the seller of `realm` has proven to have, if `proof` answers `nonce` and is signed by one of the
/// `published` keys.
///
/// # Errors
///
/// An [`IdentityFault`].
pub fn verify_identity(
    proof: &str,
    published: &TrustedKeys,
    realm: &str,
    nonce: &IdentityNonce,
) -> Result<PublicKey, IdentityFault> {
    let (payload, key) = jws::open(proof.trim(), TYP, published)?;
    let claims: Claims = serde_json::from_slice(&payload).map_err(|_| IdentityFault::Malformed)?;
    if claims.iss != realm {
        return Err(IdentityFault::Realm(claims.iss));
    }
    if claims.nonce != nonce.to_text() {
        return Err(IdentityFault::Nonce);
    }
    Ok(key)
}

/// Why a proof is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFault {
    /// Its signature is not right.
    #[error("the proof is not believed: {0}")]
    Signature(#[from] JwsError),
    /// What was signed does not say what a proof says.
    #[error("what was signed does not say what a proof says")]
    Malformed,
    /// It is another seller's, who may have been asked in the middle.
    #[error("the proof is one of {0}")]
    Realm(String),
    /// It answers another question.
    #[error("the proof answers another question")]
    Nonce,
}
