//! base64url without padding (RFC 4648 §5), strictly.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

#[cfg(test)]
mod tests;

/// Emits no padding; accepts a right padding, and refuses non-zero trailing bits.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Encodes bytes, without padding.
#[must_use]
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    ENGINE.encode(bytes)
}

/// Decodes text, with or without padding.
///
/// One value has one unpadded spelling: line breaks, the `+/` alphabet, padding in the middle and
/// non-zero trailing bits are refused rather than skipped, so a payload cannot be respelled to look
/// like another one.
///
/// # Errors
///
/// [`MalformedBase64`] for any other text.
pub fn decode(text: &str) -> Result<Vec<u8>, MalformedBase64> {
    ENGINE.decode(text).map_err(|_| MalformedBase64)
}

/// A text is not base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64url without padding")]
pub struct MalformedBase64;
