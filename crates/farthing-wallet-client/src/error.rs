//! What went wrong, and whether money may have moved.

use std::fmt;
use std::io;

use serde_json::Value;

/// Why there is no answer.
#[derive(Debug)]
pub enum Error {
    /// The request says something impossible. Nothing was sent.
    Request(&'static str),
    /// The seller cannot be reached, or does not speak HTTP. Nothing was signed.
    Seller(io::Error),
    /// The wallet cannot be reached, or does not speak its API. Whether it has paid is not known; the same
    /// request again does not pay twice.
    Wallet(io::Error),
    /// The wallet says no, and why.
    Refused(Box<Problem>),
    /// The seller was asked with a credential and did not take it. Its price stays held until the credential has
    /// expired.
    NotTaken {
        /// The payment.
        payment: String,
        /// What the seller said.
        answer: crate::Answer,
    },
    /// No answer came to the credential. The same request again sends the same one, and does not pay twice.
    Unknown {
        /// The payment.
        payment: String,
        /// Why no answer came the last time.
        error: io::Error,
    },
}

/// The wallet's problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status it came with.
    pub status: u16,
    /// Stable, for programs: `denied`, `waiting`, `frozen`, …; docs/wallet-api.md has them all.
    pub code: String,
    /// For people.
    pub detail: String,
    /// The whole document: the rules that decided, their limits, and where to ask for an approval.
    pub document: Value,
}

impl Problem {
    pub(crate) fn read(status: u16, document: Value) -> Self {
        let text =
            |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { status, code: text("code"), detail: text("detail"), document }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(what) => write!(f, "the request cannot be sent: {what}"),
            Self::Seller(error) => write!(f, "the seller cannot be reached: {error}"),
            Self::Wallet(error) => write!(f, "the wallet cannot be reached: {error}"),
            Self::Refused(problem) => {
                write!(f, "the wallet says {}: {}", problem.code, problem.detail)
            }
            Self::NotTaken { payment, answer } => {
                write!(f, "the seller did not take {payment}: it answered {}", answer.status)
            }
            Self::Unknown { payment, error } => {
                write!(
                    f,
                    "{payment} may or may not have been taken: {error}; the same request again does not \
                           pay twice"
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Seller(error) | Self::Wallet(error) | Self::Unknown { error, .. } => Some(error),
            Self::Request(_) | Self::Refused(_) | Self::NotTaken { .. } => None,
        }
    }
}
