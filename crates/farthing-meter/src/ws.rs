//! Payments within a WebSocket: the frames of both sides.
//!
//! Each text frame is a JSON object. The upstream's messages travel inside one as a string, so that
//! nothing it says can be taken for a frame of ours. Two spellings are in use; a server keeps to the
//! one its first client frame is in. The session draft describes no WebSocket, so that peers are
//! the only reference.
//!
//! | Frame | [`Dialect::Mpp`] | [`Dialect::Typed`] |
//! |---|---|---|
//! | a credential | `{"mpp":"authorization","authorization":"Payment …"}` | `{"type":"credential","credential":"Payment …"}` |
//! | a message | `{"mpp":"message","data":"…"}` | `{"type":"message","data":"…"}` |
//! | a voucher is needed | `{"mpp":"payment-need-voucher","data":{…}}` | `{"type":"needVoucher",…}` |
//! | a receipt | `{"mpp":"payment-receipt","data":{…}}` | `{"type":"receipt","receipt":{…}}` |
//! | the client wants to close | `{"mpp":"payment-close-request"}` | |
//! | the last receipt | `{"mpp":"payment-close-ready","data":{…}}` | as a receipt |
//! | an error | `{"mpp":"payment-error","status":402,"message":"…"}` | `{"type":"error","error":"…"}` |

use std::fmt;

use farthing_mpp::{Receipt, json};
use serde_json::{Value, json};

use crate::balance::{NeedVoucher, receipt_json};

#[cfg(test)]
mod tests;

/// The longest frame that is read from a client, in bytes: a credential, or a message.
pub const FRAME_BYTES_MAX: usize = 64 << 10;

/// How frames are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// By a member `mpp`, as the TypeScript SDK has it.
    Mpp,
    /// By a member `type`, as the Rust SDK has it.
    Typed,
}

/// A frame of a client's.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientFrame {
    /// A credential, as `Authorization` would carry it. Not for logs.
    Credential(String),
    /// A message for the upstream.
    Message(Value),
    /// It wants the last receipt, and to close.
    CloseRequest,
}

/// Says what kind of frame it is, and no credential.
impl fmt::Debug for ClientFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credential(_) => "Credential",
            Self::Message(_) => "Message",
            Self::CloseRequest => "CloseRequest",
        })
    }
}

impl ClientFrame {
    /// Reads a text frame: what it says and how it is spelled; nothing if it is none of the protocol.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`], without a look at it.
    pub fn parse(text: &str) -> Result<Option<(Self, Dialect)>, FrameTooLong> {
        if text.len() > FRAME_BYTES_MAX {
            return Err(FrameTooLong);
        }
        let Ok(mut frame) = json::parse(text.as_bytes()) else { return Ok(None) };
        let mut text = |name: &str| match frame.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let read = match (text("mpp").as_deref(), text("type").as_deref()) {
            (Some("authorization"), None) => {
                text("authorization").map(|it| (Self::Credential(it), Dialect::Mpp))
            }
            (Some("message"), None) => {
                text("data").map(|it| (Self::Message(it.into()), Dialect::Mpp))
            }
            (Some("payment-close-request"), None) => Some((Self::CloseRequest, Dialect::Mpp)),
            (None, Some("credential")) => {
                text("credential").map(|it| (Self::Credential(it), Dialect::Typed))
            }
            (None, Some("message")) => {
                frame.remove("data").map(|it| (Self::Message(it), Dialect::Typed))
            }
            _ => None,
        };
        Ok(read)
    }
}

/// A client's frame is longer than [`FRAME_BYTES_MAX`]: the client's to fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame is longer than {FRAME_BYTES_MAX} bytes")]
pub struct FrameTooLong;

/// A frame of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// A message of the upstream's, paid for.
    Message(&'a str),
    /// The balance is used up.
    NeedVoucher(&'a NeedVoucher),
    /// A credential was accepted.
    Receipt(&'a Receipt),
    /// All is said, and this is what it cost.
    CloseReady(&'a Receipt),
    /// Something went wrong; the status is what an HTTP answer would have.
    Error {
        /// An HTTP status: 402 is the payer's to fix, 503 is ours.
        status: u16,
        /// For people.
        message: &'a str,
    },
}

impl ServerFrame<'_> {
    /// The frame's text.
    #[must_use]
    pub fn to_text(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Mpp => self.to_mpp(),
            Dialect::Typed => self.to_typed(),
        }
        .to_string()
    }

    fn to_mpp(&self) -> Value {
        match self {
            Self::Message(data) => json!({ "mpp": "message", "data": data }),
            Self::NeedVoucher(need) => {
                json!({ "mpp": "payment-need-voucher", "data": need.to_json() })
            }
            Self::Receipt(receipt) => {
                json!({ "mpp": "payment-receipt", "data": receipt_json(receipt) })
            }
            Self::CloseReady(receipt) => {
                json!({ "mpp": "payment-close-ready", "data": receipt_json(receipt) })
            }
            Self::Error { status, message } => {
                json!({ "mpp": "payment-error", "status": status, "message": message })
            }
        }
    }

    fn to_typed(&self) -> Value {
        match self {
            Self::Message(data) => json!({ "type": "message", "data": data }),
            Self::NeedVoucher(need) => {
                let mut frame = need.to_json();
                frame["type"] = "needVoucher".into();
                frame
            }
            Self::Receipt(receipt) | Self::CloseReady(receipt) => {
                json!({ "type": "receipt", "receipt": receipt_json(receipt) })
            }
            Self::Error { message, .. } => json!({ "type": "error", "error": message }),
        }
    }
}
