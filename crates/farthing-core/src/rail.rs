//! The port to money, on the seller's side.

use farthing_ledger::{Holder, Money, Payment, Proof, Source};
use farthing_money::{Amount, Timestamp};

use crate::{BoxFuture, Held, Object, Presented, Rejection, Settled};

/// A way for money to move: a prepaid account, a chain, a card network, Lightning.
///
/// Knows its payload schemas and nothing of HTTP or of the books.
pub trait Rail: Send + Sync {
    /// The payment method, as the wire names it: lower-case letters.
    fn method(&self) -> &'static str;

    /// Says on the wire what it takes to pay `amount` to `payee`: the `request` of a charge.
    ///
    /// # Errors
    ///
    /// [`Unquotable`] when this rail cannot move that; the seller's to fix, when the price is set.
    fn quote(&self, amount: &Amount, payee: &Holder) -> Result<Object, Unquotable>;

    /// Decides whether what was presented is the payment its challenge asked for.
    ///
    /// Pure: the same arguments give the same answer, on any machine, forever.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is the payer's to fix and becomes a fresh 402.
    fn check(&self, presented: &Presented, now: Timestamp) -> Result<Evidence, Rejection>;

    /// Moves the money. Never called for [`Money::Book`], which moves with the claim, nor for
    /// [`Money::None`].
    ///
    /// # Idempotency
    ///
    /// Called any number of times with the same [`Held::key`], moves the money at most once and
    /// keeps giving the first answer.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]: the three cases differ in what may be done next.
    fn settle<'a>(&'a self, held: &'a Held) -> BoxFuture<'a, Result<Settled, SettleError>>;

    /// Finds out what became of a payment that was claimed and not finished, from its own
    /// [`Payment::inquiry`]. Only asks: nothing is sent that could move money.
    ///
    /// A rail whose money always lies in the book is never asked.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]. [`SettleError::Declined`] also when it is certain that the money did not
    /// move and never can.
    fn inquire<'a>(&'a self, payment: &'a Payment) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let _ = payment;
        Box::pin(async { Err(SettleError::Unknown) })
    }
}

/// What a rail found in a valid credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Who pays, as the rail has verified it.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// How much.
    pub amount: Amount,
    /// Who else is paid out of it, and how much of it each; the payee gets the rest.
    pub shares: Vec<Share>,
    /// Which account gives.
    pub from: Source,
    /// What else, beside the challenge, must never be accepted again: a transaction hash, a nonce.
    pub proofs: Vec<Proof>,
    /// Who moves the money.
    pub money: Money,
    /// What [`Rail::inquire`] will need. Written down with the claim, so it must not be a secret by
    /// then.
    pub inquiry: Option<Box<str>>,
}

/// A part of the price that belongs to somebody else than the seller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Whose it is.
    pub payee: Holder,
    /// How much, in atoms of the price's asset.
    pub atoms: u128,
}

/// Why a rail cannot ask for an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unquotable {
    /// The rail does not carry the asset.
    #[error("the rail does not carry this asset")]
    Asset,
    /// The amount is zero, or has digits the rail cannot carry.
    #[error("the rail cannot carry this amount; a free route is configured as free")]
    Amount,
}

/// How a settlement failed. The variants are the three things a caller may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The rail said no, finally. Void the hold and ask for another payment.
    #[error("the rail declined")]
    Declined,
    /// Nothing was sent. Settling again is safe.
    #[error("nothing was sent")]
    Unsent,
    /// The request left and no answer came. Neither void nor retry: ask the rail later.
    #[error("the outcome is unknown")]
    Unknown,
}
