//! Signed receipts: a seller's word that it was paid, which anybody can check.
//!
//! A compact JSON Web Signature whose payload names everything that was paid for. The protocol's own
//! receipt says as much to whoever got it; this one says it to everybody else.

use farthing_ledger::{Payment, PaymentId, Settlement, TraceId};
use farthing_money::Amount;
use serde::{Deserialize, Serialize};

use crate::jws::{self, JwsError};
use crate::keys::{Notary, TrustedKeys};

#[cfg(test)]
mod tests;

/// What is signed, so that no other signature of ours can be shown as a receipt.
const TYP: &str = "farthing-receipt+jwt";

/// What a receipt says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptClaims {
    /// Who was paid and signs: the seller's realm.
    pub iss: String,
    /// When the money moved, in seconds since 1970.
    pub iat: u64,
    /// The payment.
    pub jti: PaymentId,
    /// The payment's story.
    pub trace: TraceId,
    /// The challenge that was answered.
    pub challenge: String,
    /// The wire protocol.
    pub protocol: String,
    /// The payment method.
    pub method: String,
    /// The intent.
    pub intent: String,
    /// How much.
    pub amount: Amount,
    /// Who paid, as the method knows them.
    pub payer: String,
    /// Who was paid.
    pub payee: String,
    /// What was bought: the route's name.
    pub route: String,
    /// The digest of what was bought: route, method, path and query.
    pub scope: String,
    /// The SHA-256 of the request's body in hexadecimal digits, where the payment was bound to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The rail's reference.
    pub reference: String,
    /// When the money moved, to the microsecond.
    pub settled_at: String,
}

impl ReceiptClaims {
    /// What the seller of `realm` can say of a payment that was settled for a request with this body.
    #[must_use]
    pub fn of(
        realm: &str,
        payment: &Payment,
        settlement: &Settlement,
        body: Option<&[u8; 32]>,
    ) -> Self {
        Self {
            iss: realm.to_owned(),
            iat: settlement.settled_at.as_secs(),
            jti: payment.id,
            trace: payment.trace,
            challenge: payment.challenge.clone(),
            protocol: payment.protocol.clone(),
            method: payment.method.clone(),
            intent: payment.intent.clone(),
            amount: payment.amount.clone(),
            payer: payment.payer.clone(),
            payee: payment.payee.to_string(),
            route: payment.route.clone(),
            scope: payment.scope.clone(),
            body: body.map(|body| farthing_ledger::merkle::Hash::from_bytes(*body).to_string()),
            reference: settlement.reference.clone(),
            settled_at: settlement.settled_at.to_string(),
        }
    }

    /// Signs the receipt. The same claims always make the same receipt.
    #[must_use]
    pub fn sign(&self, notary: &Notary) -> String {
        // In-memory data with string keys always serialises.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        jws::sign(notary.key(), TYP, &payload)
    }

    /// Reads a receipt that one of `keys` has signed, and that is the `expected` one.
    ///
    /// # Errors
    ///
    /// A [`ReceiptFault`].
    pub fn verify(
        token: &str,
        keys: &TrustedKeys,
        expected: Expected<'_>,
    ) -> Result<Self, ReceiptFault> {
        let (payload, _) = jws::open(token.trim(), TYP, keys)?;
        let claims: Self = serde_json::from_slice(&payload).map_err(|_| ReceiptFault::Malformed)?;
        if expected.issuer.is_some_and(|issuer| issuer != claims.iss) {
            return Err(ReceiptFault::Issuer(claims.iss));
        }
        if expected.challenge.is_some_and(|challenge| challenge != claims.challenge) {
            return Err(ReceiptFault::Challenge(claims.challenge));
        }
        Ok(claims)
    }
}

/// What a receipt has to be for; whatever is not said may be anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Who has to have issued it.
    pub issuer: Option<&'a str>,
    /// The challenge it has to be for.
    pub challenge: Option<&'a str>,
}

/// Why a receipt is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptFault {
    /// Its signature is not right.
    #[error("the receipt is not believed: {0}")]
    Signature(#[from] JwsError),
    /// What was signed does not say what a receipt says.
    #[error("what was signed does not say what a receipt says")]
    Malformed,
    /// Somebody else has issued it.
    #[error("the receipt is one of {0}")]
    Issuer(String),
    /// It is for another payment.
    #[error("the receipt is for the challenge {0}")]
    Challenge(String),
}
