//! Problem documents: what went wrong and whose turn it is (§8, RFC 9457).

use serde::{Deserialize, Serialize};

use crate::json::Object;

#[cfg(test)]
mod tests;

/// Where the problem types of the scheme live.
const BASE: &str = "https://paymentauth.org/problems/";

/// The problem types of the core scheme (§8.2), and those of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemType {
    /// The resource costs money and no credential came.
    PaymentRequired,
    /// The proof is for less than the price.
    PaymentInsufficient,
    /// The challenge or the authorisation has expired.
    PaymentExpired,
    /// The proof does not verify.
    VerificationFailed,
    /// The method is not accepted here.
    MethodUnsupported,
    /// The credential cannot be read.
    MalformedCredential,
    /// The challenge is unknown, altered, for something else, or used.
    InvalidChallenge,
    /// A voucher's signature does not verify (`draft-tempo-session-00` §11, as all that follow).
    #[serde(rename = "session/invalid-signature")]
    SessionInvalidSignature,
    /// Somebody else has signed than whoever may sign for the channel.
    #[serde(rename = "session/signer-mismatch")]
    SessionSignerMismatch,
    /// The voucher authorises more than was deposited.
    #[serde(rename = "session/amount-exceeds-deposit")]
    SessionAmountExceedsDeposit,
    /// The voucher advances by less than it must.
    #[serde(rename = "session/delta-too-small")]
    SessionDeltaTooSmall,
    /// There is no such channel.
    #[serde(rename = "session/channel-not-found")]
    SessionChannelNotFound,
    /// The channel is closed.
    #[serde(rename = "session/channel-finalized")]
    SessionChannelFinalized,
    /// What is authorised is less than the price.
    #[serde(rename = "session/insufficient-balance")]
    SessionInsufficientBalance,
    /// The chain has undone the transaction that was shown (`draft-evm-session-00` §12.7).
    #[serde(rename = "session/transaction-reverted")]
    SessionTransactionReverted,
}

impl ProblemType {
    /// Every type, in the order of the scheme's table.
    pub const ALL: [Self; 15] = [
        Self::PaymentRequired,
        Self::PaymentInsufficient,
        Self::PaymentExpired,
        Self::VerificationFailed,
        Self::MethodUnsupported,
        Self::MalformedCredential,
        Self::InvalidChallenge,
        Self::SessionInvalidSignature,
        Self::SessionSignerMismatch,
        Self::SessionAmountExceedsDeposit,
        Self::SessionDeltaTooSmall,
        Self::SessionChannelNotFound,
        Self::SessionChannelFinalized,
        Self::SessionInsufficientBalance,
        Self::SessionTransactionReverted,
    ];

    /// The type's name, which ends its URI.
    #[must_use]
    pub const fn slug(self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment-required",
            Self::PaymentInsufficient => "payment-insufficient",
            Self::PaymentExpired => "payment-expired",
            Self::VerificationFailed => "verification-failed",
            Self::MethodUnsupported => "method-unsupported",
            Self::MalformedCredential => "malformed-credential",
            Self::InvalidChallenge => "invalid-challenge",
            Self::SessionInvalidSignature => "session/invalid-signature",
            Self::SessionSignerMismatch => "session/signer-mismatch",
            Self::SessionAmountExceedsDeposit => "session/amount-exceeds-deposit",
            Self::SessionDeltaTooSmall => "session/delta-too-small",
            Self::SessionChannelNotFound => "session/channel-not-found",
            Self::SessionChannelFinalized => "session/channel-finalized",
            Self::SessionInsufficientBalance => "session/insufficient-balance",
            Self::SessionTransactionReverted => "session/transaction-reverted",
        }
    }

    /// The type's title.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::PaymentRequired => "Payment Required",
            Self::PaymentInsufficient => "Payment Insufficient",
            Self::PaymentExpired => "Payment Expired",
            Self::VerificationFailed => "Verification Failed",
            Self::MethodUnsupported => "Method Unsupported",
            Self::MalformedCredential => "Malformed Credential",
            Self::InvalidChallenge => "Invalid Challenge",
            Self::SessionInvalidSignature => "Invalid Signature",
            Self::SessionSignerMismatch => "Signer Mismatch",
            Self::SessionAmountExceedsDeposit => "Amount Exceeds Deposit",
            Self::SessionDeltaTooSmall => "Delta Too Small",
            Self::SessionChannelNotFound => "Channel Not Found",
            Self::SessionChannelFinalized => "Channel Finalized",
            Self::SessionInsufficientBalance => "Insufficient Balance",
            Self::SessionTransactionReverted => "Transaction Reverted",
        }
    }

    /// The HTTP status it comes with: 402, but 400 for an unsupported method, 409 for a
    /// transaction that was undone, and 410 for a channel that is gone.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::MethodUnsupported => 400,
            Self::SessionTransactionReverted => 409,
            Self::SessionChannelNotFound | Self::SessionChannelFinalized => 410,
            Self::PaymentRequired
            | Self::PaymentInsufficient
            | Self::PaymentExpired
            | Self::VerificationFailed
            | Self::MalformedCredential
            | Self::InvalidChallenge
            | Self::SessionInvalidSignature
            | Self::SessionSignerMismatch
            | Self::SessionAmountExceedsDeposit
            | Self::SessionDeltaTooSmall
            | Self::SessionInsufficientBalance => 402,
        }
    }

    /// The type's URI.
    #[must_use]
    pub fn uri(self) -> String {
        format!("{BASE}{}", self.slug())
    }
}

/// A problem document, as it stands in the body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The problem's type, a URI.
    #[serde(rename = "type")]
    pub uri: String,
    /// A short, fixed summary of the type.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time and what to do about it.
    pub detail: String,
    /// Further members, such as `challengeId`.
    #[serde(flatten)]
    pub extra: Object,
}

impl Problem {
    /// The media type of a problem document.
    pub const MEDIA_TYPE: &str = "application/problem+json";

    /// A problem of one of the scheme's types.
    #[must_use]
    pub fn new(problem: ProblemType, detail: &str) -> Self {
        Self {
            uri: problem.uri(),
            title: problem.title().to_owned(),
            status: problem.status(),
            detail: detail.to_owned(),
            extra: Object::new(),
        }
    }

    /// A problem with no type beyond its HTTP status (`about:blank`).
    #[must_use]
    pub fn untyped(status: u16, title: &str, detail: &str) -> Self {
        Self {
            uri: "about:blank".to_owned(),
            title: title.to_owned(),
            status,
            detail: detail.to_owned(),
            extra: Object::new(),
        }
    }

    /// Writes the document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // In-memory JSON with string keys always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}
