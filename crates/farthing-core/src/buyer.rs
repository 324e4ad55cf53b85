//! The buyer's side of the ports: reading offers and paying them.

use farthing_money::{Amount, Timestamp};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{BoxFuture, Object};

mod session;
mod subscription;

pub use session::{Act, PreparedSession, SessionPayer, SessionTerms, Standing};
pub use subscription::{SubscriptionAct, SubscriptionPayer, SubscriptionTerms};

/// An offer as a buyer reads it, from whichever wire it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The wire protocol.
    pub protocol: &'static str,
    /// The payment method.
    pub method: String,
    /// The intent.
    pub intent: String,
    /// The protection space it names.
    pub realm: String,
    /// The challenge to answer.
    pub challenge: String,
    /// What the rail asks for, in its own words.
    pub request: Object,
    /// When it expires; nothing if it does not say.
    pub expires_at: Option<Timestamp>,
    /// The same as it is spelled; signatures cover the spelling.
    pub expires: Option<String>,
    /// Words for people. Never a reason to pay, and never shown as if it were the price.
    pub description: Option<String>,
    /// The SHA-256 the request's body must have, if the offer is bound to one.
    pub body: Option<[u8; 32]>,
    /// The offer as the protocol will echo it.
    pub echo: String,
}

/// One wire, as a buyer speaks it. Pure.
pub trait Buyer: Send + Sync {
    /// The protocol's name.
    fn name(&self) -> &'static str;

    /// Says in a request what can be paid with, so that a server need not guess.
    fn write_preferences(&self, methods: &[(&str, &str)], request: &mut HeaderMap);

    /// Reads the offers of a 402. What cannot be read is passed over.
    fn read_offers(&self, response: &HeaderMap) -> Vec<Invitation>;

    /// The header field that answers `invitation`.
    ///
    /// # Errors
    ///
    /// [`PayError::Invitation`] when the invitation is not one of this protocol's.
    fn write_credential(
        &self,
        invitation: &Invitation,
        paid: &Paid,
    ) -> Result<(HeaderName, HeaderValue), PayError>;

    /// Reads the receipt of a successful answer, as JSON. Nothing if there is none that can be read.
    fn read_receipt(&self, response: &HeaderMap) -> Option<Object>;
}

/// What an invitation asks for, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// How much.
    pub amount: Amount,
    /// Who is paid, as the rail names them.
    pub recipient: String,
    /// Who else is paid out of it.
    pub shares: Vec<PriceShare>,
}

/// A part of a price that goes to somebody else than the recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceShare {
    /// Who, as the rail names them.
    pub recipient: String,
    /// How much.
    pub amount: Amount,
}

/// A rail's proof of payment, ready for the wire. A secret until it is spent.
#[derive(Clone)]
pub struct Paid {
    /// The proof.
    pub payload: Object,
    /// Who pays.
    pub source: Option<String>,
    /// What [`Payer::send`] and [`Payer::fate`] want to be given. Kept by the wallet, sealed, and
    /// never sent; nothing where there is nothing to find out.
    pub keepsake: Option<Object>,
}

/// What became of a payment's money, as the rail knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It moved.
    Moved {
        /// The rail's reference.
        reference: String,
    },
    /// It did not move, and never will.
    Never,
    /// It may still move.
    Open,
}

/// One rail, as a buyer pays on it.
pub trait Payer: Send + Sync {
    /// The payment method.
    fn method(&self) -> &'static str;

    /// Who pays, as the rail names them.
    fn account(&self) -> String;

    /// Understands what an invitation asks for. Pure; nothing is signed.
    ///
    /// # Errors
    ///
    /// [`Unpayable`] when this rail cannot or will not pay it.
    fn price(&self, invitation: &Invitation) -> Result<Price, Unpayable>;

    /// The sessions of this rail, if it has any.
    fn session(&self) -> Option<&dyn SessionPayer> {
        None
    }

    /// The subscriptions of this rail, if it has any.
    fn subscription(&self) -> Option<&dyn SubscriptionPayer> {
        None
    }

    /// Whether there is enough money for a price.
    ///
    /// # Errors
    ///
    /// A [`PayError`], when it cannot be known now.
    fn holds<'a>(&'a self, price: &'a Price) -> BoxFuture<'a, Result<bool, PayError>> {
        let _ = price;
        Box::pin(async { Ok(true) })
    }

    /// Makes the proof. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// A [`PayError`].
    fn pay<'a>(&'a self, invitation: &'a Invitation) -> BoxFuture<'a, Result<Paid, PayError>>;

    /// Moves the money, where the seller has left that to the buyer. Called once the proof is
    /// remembered durably and before it is presented.
    ///
    /// # Idempotency
    ///
    /// Called any number of times with the same keepsake, moves the money at most once.
    ///
    /// # Errors
    ///
    /// A [`PayError`]; whether money may have moved is in the variant.
    fn send<'a>(&'a self, keepsake: &'a Object) -> BoxFuture<'a, Result<(), PayError>> {
        let _ = keepsake;
        Box::pin(async { Ok(()) })
    }

    /// Finds out what became of a payment. Only asks.
    ///
    /// # Errors
    ///
    /// A [`PayError`], when it cannot be known now.
    fn fate<'a>(&'a self, keepsake: &'a Object) -> BoxFuture<'a, Result<Fate, PayError>> {
        let _ = keepsake;
        Box::pin(async { Ok(Fate::Open) })
    }
}

/// Why an invitation cannot be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpayable {
    /// It is for another method or intent.
    #[error("the method or intent is not one this wallet pays")]
    Method,
    /// It lacks a field, or a field makes no sense: the seller's to fix.
    #[error("the offer lacks a field of its method, or says something impossible")]
    Malformed,
    /// The asset is not known here, or is described otherwise than it is known.
    #[error("the asset is not one this wallet knows, or has other decimals than it says")]
    Asset,
}

/// Why no proof was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayError {
    /// The invitation cannot be paid.
    #[error(transparent)]
    Invitation(#[from] Unpayable),
    /// The rail cannot be reached; nothing was sent.
    #[error("the rail cannot be reached; nothing was sent")]
    Unsent,
    /// The rail would not take it, as when there is not enough money; nothing was sent.
    #[error("the rail would not take the payment, as when there is not enough money")]
    Refused,
    /// Something was sent and no answer came.
    #[error("the payment was sent and its outcome is unknown")]
    Unknown,
}
