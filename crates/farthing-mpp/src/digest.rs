//! The digest that binds a challenge to a request body (§5.1.3, RFC 9530).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The SHA-256 of a request body.
///
/// Written in the form of RFC 9530, `sha-256=:X48E…=:`; read in that form and in the one SDKs in
/// use emit, `sha-256=X48E…=`. Both name the same digest and compare equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// The digest of a whole body.
    #[must_use]
    pub fn of(body: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha-256=:{}:", ENGINE.encode(self.0))
    }
}

impl fmt::Debug for BodyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BodyDigest {
    type Err = MalformedDigest;

    fn from_str(text: &str) -> Result<Self, MalformedDigest> {
        let value = text.strip_prefix("sha-256=").ok_or(MalformedDigest)?;
        let value = match value.strip_prefix(':') {
            Some(sequence) => sequence.strip_suffix(':').ok_or(MalformedDigest)?,
            None => value,
        };
        let bytes = ENGINE.decode(value).map_err(|_| MalformedDigest)?;
        bytes.try_into().map(Self).map_err(|_| MalformedDigest)
    }
}

/// Computes a digest of a body that arrives in pieces.
#[derive(Clone, Default)]
pub struct BodyHasher(Sha256);

impl BodyHasher {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> BodyDigest {
        BodyDigest(self.0.finalize().into())
    }
}

/// A text is not a SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written like sha-256=:X48E9q…=:")]
pub struct MalformedDigest;
