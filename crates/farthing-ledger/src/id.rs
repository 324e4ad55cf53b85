//! Names of things, each derived from what it names.

use std::fmt;
use std::str::FromStr;

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[cfg(test)]
mod tests;

/// Names one payment from its challenge to its delivery, on both sides and in every log.
///
/// A UUID of version 7: its first 48 bits are the millisecond the challenge was made, so traces
/// sort by time and an index over them grows at one end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId(u128);

impl TraceId {
    /// Makes a trace for something that begins `now`. `entropy` must be unpredictable and new.
    #[must_use]
    pub fn new(now: Timestamp, entropy: [u8; 10]) -> Self {
        let millis = u128::from(now.as_millis()) & 0xffff_ffff_ffff;
        let mut random = [0; 16];
        random[6..].copy_from_slice(&entropy);
        let random = u128::from_be_bytes(random) & 0x0fff_3fff_ffff_ffff_ffff;
        Self((millis << 80) | random | (0x7 << 76) | (0x2 << 62))
    }

    /// The millisecond the trace begins.
    #[must_use]
    pub fn begins_at(self) -> Timestamp {
        let millis = u64::try_from(self.0 >> 80).unwrap_or(u64::MAX);
        Timestamp::from_micros(millis.saturating_mul(1_000))
    }

    /// The 16 bytes of the UUID.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The trace with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        let group = |range| hex.get(range).unwrap_or_default();
        for range in [0..8, 8..12, 12..16, 16..20] {
            f.write_str(group(range))?;
            f.write_str("-")?;
        }
        f.write_str(group(20..32))
    }
}

impl FromStr for TraceId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let groups: Vec<&str> = text.split('-').collect();
        let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if lengths != [8, 4, 4, 4, 12] {
            return Err(ParseIdError);
        }
        parse_hex(&groups.concat()).map(Self)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What makes a proof single-use: a challenge, a transaction hash, a preimage, a nonce.
///
/// Two credentials with the same fingerprint are the same money. It is the SHA-256 of a kind and
/// its parts, each with its length, so that no two kinds and no two splits can collide.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of `parts` as a `kind` of proof.
    ///
    /// Parts must be canonical: lower-case hex, decoded bytes, one spelling each.
    #[must_use]
    pub fn of(kind: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in std::iter::once(kind.as_bytes()).chain(parts.iter().copied()) {
            hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The fingerprint with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn head(&self) -> u128 {
        self.0.iter().take(16).fold(0, |head, &byte| (head << 8) | u128::from(byte))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (upper, lower) = self.0.split_at(16);
        let half = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
        write!(f, "{:032x}{:032x}", half(upper), half(lower))
    }
}

impl FromStr for Fingerprint {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let (head, tail) = text.split_at_checked(32).ok_or(ParseIdError)?;
        let mut bytes = [0; 32];
        let (upper, lower) = bytes.split_at_mut(16);
        upper.copy_from_slice(&parse_hex(head)?.to_be_bytes());
        lower.copy_from_slice(&parse_hex(tail)?.to_be_bytes());
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names a payment. Derived from the proof, so a retry names the same payment.
///
/// Written `pay_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PaymentId(u128);

impl PaymentId {
    /// The payment that `proof` identifies.
    #[must_use]
    pub fn of(proof: &Fingerprint) -> Self {
        Self(proof.head())
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The payment with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// Names a transfer. Derived from the payment and the step, so repeating a step repeats its id.
///
/// Written `trf_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TransferId(u128);

impl TransferId {
    /// The transfer that does `step` of the thing named by `of`.
    #[must_use]
    pub fn derive(of: &[u8], step: &str) -> Self {
        Self(Fingerprint::of("transfer", &[of, step.as_bytes()]).head())
    }
}

/// Names a refund. Derived from the payment and the reference it is made under, so that ordering it
/// again names the same refund.
///
/// Written `ref_` and 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefundId(u128);

impl RefundId {
    /// The refund of `payment` that is made under `reference`.
    #[must_use]
    pub fn of(payment: PaymentId, reference: &str) -> Self {
        let parts = [&payment.to_bytes()[..], reference.as_bytes()];
        Self(Fingerprint::of("refund", &parts).head())
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Names a subscription. Derived from the challenge that it was begun with, which can be answered once.
///
/// Written `sub_` and 32 hexadecimal digits, which are letters of base64url too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubscriptionId(u128);

impl SubscriptionId {
    /// The subscription that is begun by answering `challenge` of `protocol`.
    #[must_use]
    pub fn of(protocol: &str, challenge: &str) -> Self {
        let parts = [protocol.as_bytes(), challenge.as_bytes()];
        Self(Fingerprint::of("subscription", &parts).head())
    }

    /// The 16 bytes of the id.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// An Ed25519 public key that may spend a prepaid account.
///
/// Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpendingKey(pub [u8; 32]);

impl fmt::Display for SpendingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Fingerprint(self.0).fmt(f)
    }
}

impl FromStr for SpendingKey {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        text.parse::<Fingerprint>().map(|bytes| Self(bytes.0))
    }
}

impl fmt::Debug for SpendingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! prefixed_id {
    ($type:ident, $prefix:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:032x}"), self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text.strip_prefix($prefix).ok_or(ParseIdError)?).map(Self)
            }
        }
    };
}

prefixed_id!(PaymentId, "pay_");
prefixed_id!(TransferId, "trf_");
prefixed_id!(RefundId, "ref_");
prefixed_id!(SubscriptionId, "sub_");

macro_rules! id_as_text {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.to_string()
            }
        }
    )*};
}

id_as_text!(TraceId, Fingerprint, PaymentId, TransferId, RefundId, SubscriptionId, SpendingKey);

/// Reads exactly 32 lower-case hexadecimal digits.
fn parse_hex(text: &str) -> Result<u128, ParseIdError> {
    let canonical =
        text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !canonical {
        return Err(ParseIdError);
    }
    u128::from_str_radix(text, 16).map_err(|_| ParseIdError)
}

/// A text is not an id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct ParseIdError;
