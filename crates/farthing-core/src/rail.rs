//! The port to money, on the seller's side.

use std::time::Duration;

use farthing_ledger::{Holder, Money, Payment, Proof, Refund, Source};
use farthing_money::{Amount, Timestamp};

use crate::{
    BoxFuture, Held, Object, Presented, Rejection, SessionRail, Settled, SubscriptionRail,
};

/// A way for money to move: a prepaid account, a chain, a card network, Lightning.
///
/// Knows its payload schemas and nothing of HTTP or of the books.
pub trait Rail: Send + Sync {
    /// The payment method, as the wire names it: lower-case letters.
    fn method(&self) -> &'static str;

    /// What counts as what on this rail.
    fn rules(&self) -> &'static RailRules;

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

    /// The sessions of this rail, if it has any.
    fn session(&self) -> Option<&dyn SessionRail> {
        None
    }

    /// The subscriptions of this rail, if it has any.
    fn subscription(&self) -> Option<&dyn SubscriptionRail> {
        None
    }

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

    /// Makes everything ready to give money back, and sends nothing: the order that [`Rail::refund`]
    /// carries out. It is written down before it is carried out, so it must not be a secret.
    ///
    /// # Errors
    ///
    /// [`NoRefund`]; nothing was sent.
    fn prepare_refund<'a>(
        &'a self,
        refund: &'a Refund,
    ) -> BoxFuture<'a, Result<Box<str>, NoRefund>> {
        let _ = refund;
        Box::pin(async { Err(NoRefund::Unable) })
    }

    /// Carries a refund's order out, or finds out how it was carried out before.
    ///
    /// # Idempotency
    ///
    /// Called any number of times with the same order, moves the money at most once.
    ///
    /// # Errors
    ///
    /// See [`SettleError`]. [`SettleError::Declined`] means that this order has not moved the money and
    /// never can: another may be made.
    fn refund<'a>(&'a self, refund: &'a Refund) -> BoxFuture<'a, Result<Settled, SettleError>> {
        let _ = refund;
        Box::pin(async { Err(SettleError::Unknown) })
    }
}

/// What counts as what on a rail: the rules by which its word and the book's are held together. Plain
/// data, so that finance can read them and the core can go by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RailRules {
    /// What counts as the payer's authorisation.
    pub authorised: &'static str,
    /// What counts as settled.
    pub settled: &'static str,
    /// How it can be undone, and what then counts.
    pub reversed: &'static str,
    /// Which reference is the same in the book and at the rail.
    pub reference: &'static str,
    /// Whether money can be held until a handler has succeeded.
    pub holds: bool,
    /// How money is given back.
    pub refunds: Refunds,
    /// How long after it has spoken the rail is asked once more, if it is somebody else than the book.
    pub recheck_after: Option<Duration>,
}

/// How money is given back on a rail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refunds {
    /// The book moves it.
    Book,
    /// The rail moves it, if it is told how.
    Rail,
    /// It cannot be: the payer is credited.
    Never,
}

/// Why a rail cannot give money back. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRefund {
    /// It never can, as it is configured: credit the payer, or configure what is missing.
    #[error("the rail is not configured to give money back")]
    Unable,
    /// The account that refunds are paid from does not hold enough: fund it.
    #[error("the account that refunds are paid from does not hold enough")]
    Short,
    /// It does not answer now.
    #[error("the rail does not answer now")]
    Later,
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
    /// The rail cannot charge by such a period.
    #[error("the rail cannot charge by this period")]
    Period,
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
