//! What became of a request.

use bytes::Bytes;
use farthing_core::Object;
use farthing_ledger::{PaymentId, TraceId};
use farthing_money::{Amount, Timestamp};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize, Serializer};

use crate::Objection;

/// The seller's answer, and what was paid for it.
#[derive(Debug)]
pub struct Outcome {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub fields: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// What was paid; nothing if nothing was asked.
    pub paid: Option<PaidFor>,
    /// Whether the body was handed on as it came, and is not here.
    pub streamed: bool,
}

/// A payment that was made for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaidFor {
    /// The payment.
    pub payment: PaymentId,
    /// The wallet's own name for its story.
    pub trace: Option<TraceId>,
    /// The price.
    pub amount: Option<Amount>,
    /// Who was paid.
    pub recipient: Option<String>,
    /// Whether a credential from an earlier attempt was sent again.
    pub resumed: bool,
    /// Present when the seller failed (a 5xx) and may not have taken the payment: until then the
    /// same request sends the same credential again.
    pub kept_until: Option<Timestamp>,
    /// What the seller says it received.
    pub receipt: Option<Object>,
}

/// The offers of a seller, and what would be paid: nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// Every offer, in the seller's order.
    pub offers: Vec<PreviewOffer>,
}

/// One offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreviewOffer {
    /// The payment method.
    pub method: String,
    /// The intent.
    pub intent: String,
    /// The realm.
    pub realm: String,
    /// The price, where it can be read.
    pub amount: Option<Amount>,
    /// Who would be paid.
    pub recipient: Option<String>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Whether this one would be paid.
    pub chosen: bool,
    /// Why it would not.
    #[serde(serialize_with = "in_words")]
    pub objection: Option<Objection>,
}

/// A seller that was paid and did not take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The payment.
    pub payment: PaymentId,
    /// The status it answered with.
    pub status: StatusCode,
    /// What it says is wrong.
    pub detail: Option<String>,
    /// Until when the credential could still be spent, and its price is held.
    pub held_until: Timestamp,
}

#[expect(clippy::ref_option, reason = "the shape serde asks for")]
fn in_words<S: Serializer>(
    objection: &Option<Objection>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    objection.as_ref().map(ToString::to_string).serialize(serializer)
}
