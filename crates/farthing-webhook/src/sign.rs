//! Signatures of Standard Webhooks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// How many bytes a key may have: the standard says between 24 and 64.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What an endpoint's messages are signed with. It has no `Debug` and cannot be read back.
#[derive(Clone)]
pub struct WebhookSecret(Hmac<Sha256>);

impl WebhookSecret {
    /// Reads a secret as the standard writes it: `whsec_` and base64.
    ///
    /// # Errors
    ///
    /// [`UnfitSecret`] for any other text.
    pub fn parse(text: &str) -> Result<Self, UnfitSecret> {
        let key = text.strip_prefix("whsec_").ok_or(UnfitSecret)?;
        let key = Zeroizing::new(STANDARD.decode(key).map_err(|_| UnfitSecret)?);
        if !KEY_BYTES.contains(&key.len()) || key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(UnfitSecret);
        }
        Hmac::new_from_slice(&key).map(Self).map_err(|_| UnfitSecret)
    }

    fn sign(&self, parts: &[&[u8]]) -> String {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// A text is not a secret of Standard Webhooks, or one that could be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook's secret is whsec_ and base64 of 24 to 64 random bytes; \
     `echo whsec_$(openssl rand -base64 32)` makes one"
)]
pub struct UnfitSecret;

/// The value of `webhook-signature`: one signature of every secret, so that a receiver may hold any of
/// them while they are rotated.
pub(crate) fn signatures(
    secrets: &[WebhookSecret],
    id: &str,
    timestamp_s: u64,
    body: &str,
) -> String {
    let timestamp = timestamp_s.to_string();
    let parts: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body.as_bytes()];
    let signed = secrets.iter().map(|secret| format!("v1,{}", secret.sign(&parts)));
    signed.collect::<Vec<_>>().join(" ")
}
