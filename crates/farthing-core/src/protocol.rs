//! The port to the wire, on the seller's side.

use farthing_ledger::{Payment, Settlement};
use farthing_money::Timestamp;
use http::HeaderMap;

use crate::{Ask, Managed, Offer, Presented, Rejection, Unsubscribed};

/// One way to ask for payment over HTTP: header names, encodings, and the binding of challenges.
///
/// Knows no rail and no store. Pure: the same arguments give the same answer.
pub trait Protocol: Send + Sync {
    /// The protocol's name, as the books write it.
    fn name(&self) -> &'static str;

    /// Reads the credential in a request's header fields, if there is one of this protocol, and
    /// decides whether it answers an offer of ours for exactly what `ask` is about.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is the payer's to fix: unreadable, ambiguous, expired, altered, issued by
    /// somebody else, or issued for another request. It never says which part did not match.
    fn present(
        &self,
        fields: &HeaderMap,
        ask: &Ask,
        now: Timestamp,
    ) -> Result<Option<Presented>, Rejection>;

    /// Adds offers to the header fields of a 402, in the order the client prefers.
    fn write_offers(&self, offers: &[Offer], request: &HeaderMap, response: &mut HeaderMap);

    /// Adds a receipt to the header fields of a successful answer.
    fn write_receipt(&self, facts: &ReceiptFacts<'_>, response: &mut HeaderMap);

    /// Adds a receipt for something that was done with a session and has bought nothing.
    fn write_session(&self, facts: &ManagedFacts<'_>, response: &mut HeaderMap) {
        let _ = (facts, response);
    }

    /// Adds a receipt for something that was done with a subscription and has bought nothing.
    fn write_subscription(&self, facts: &UnsubscribedFacts<'_>, response: &mut HeaderMap) {
        let _ = (facts, response);
    }
}

/// What the receipt of something says that was done with a subscription.
#[derive(Clone, Copy, Debug)]
pub struct UnsubscribedFacts<'a> {
    /// What was done.
    pub unsubscribed: &'a Unsubscribed,
}

/// What the receipt of something says that was done with a session.
#[derive(Clone, Copy, Debug)]
pub struct ManagedFacts<'a> {
    /// What was done.
    pub managed: &'a Managed,
}

/// What a receipt says.
#[derive(Clone, Copy, Debug)]
pub struct ReceiptFacts<'a> {
    /// The payment.
    pub payment: &'a Payment,
    /// The rail's word.
    pub settlement: &'a Settlement,
    /// How many units were bought at the payment's price: 1, but for an answer that is paid for as it is
    /// given.
    pub units: u64,
}
