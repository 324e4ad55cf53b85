//! The buyer's side of subscriptions.

use farthing_money::{Amount, Period, Timestamp};

use crate::{BoxFuture, Invitation, Object, Paid, PayError, Unpayable};

/// One rail's subscriptions, as a buyer has them. [`Payer::subscription`](crate::Payer::subscription) gives
/// it.
pub trait SubscriptionPayer: Send + Sync {
    /// Understands what a subscription invitation asks for. Pure; nothing is signed.
    ///
    /// # Errors
    ///
    /// [`Unpayable`] when this rail cannot or will not pay it.
    fn subscription_terms(&self, invitation: &Invitation) -> Result<SubscriptionTerms, Unpayable>;

    /// Makes the proof of one action. Nothing is sent.
    ///
    /// # Errors
    ///
    /// A [`PayError`].
    fn subscribe<'a>(
        &'a self,
        invitation: &'a Invitation,
        act: SubscriptionAct,
    ) -> BoxFuture<'a, Result<Paid, PayError>>;

    /// Takes the authorisation back at the rail, without the seller: nothing can be charged any more.
    /// `revocable` is what [`SubscriptionTerms::revocable`] said.
    ///
    /// # Idempotency
    ///
    /// Taking it back again changes nothing.
    ///
    /// # Errors
    ///
    /// A [`PayError`]. [`PayError::Refused`] also where the rail does not know the authorisation, so that
    /// nothing was charged by it yet; it may still be, then.
    fn revoke<'a>(&'a self, revocable: &'a Object) -> BoxFuture<'a, Result<(), PayError>> {
        let _ = revocable;
        Box::pin(async { Err(PayError::Invitation(Unpayable::Method)) })
    }
}

/// What a subscription invitation asks for, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionTerms {
    /// The price of a period.
    pub amount: Amount,
    /// How long a period is.
    pub period: Period,
    /// Who is paid, as the rail names them.
    pub recipient: String,
    /// From when on nothing is charged any more, if it is said.
    pub expires_at: Option<Timestamp>,
    /// Whether the payer may say for itself from when on nothing may be charged.
    pub payer_ends: bool,
    /// Stands for everything a subscription is bound to but its price: subscriptions of one origin with the
    /// same binding are one.
    pub binding: String,
    /// What the payer needs to take the authorisation back at the rail, where it can. Not a secret.
    pub revocable: Option<Object>,
}

/// What is to be done about a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionAct {
    /// Begin it; nothing may be charged from `until` on.
    Begin {
        /// From when on nothing may be charged; by the seller's word alone, where nothing is said.
        until: Option<Timestamp>,
    },
    /// Be answered within it.
    Use {
        /// Its name.
        id: String,
    },
    /// Let nothing be charged any more.
    Cancel {
        /// Its name.
        id: String,
    },
}
