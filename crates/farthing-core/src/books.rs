//! The only place that turns a store's plain answers into stages.

use std::sync::Arc;

use farthing_ledger::{
    Capture, Claim, ClaimError, Money, PaymentId, Settlement, SubscriptionError, VoidReason,
};
use farthing_money::Timestamp;

use crate::stage::Right;
use crate::{Checked, Held, Posted, Refusal, Reserved, Settled, Store, StoreError};

/// Where a claimed payment stands.
pub(crate) enum Standing {
    /// Ours to settle.
    Held(Box<Held>),
    /// Ours to find out about: an earlier settlement ended without an answer.
    Unsettled(Box<Held>),
    /// Ours to run the handler of; the money is held until it has succeeded.
    Reserved(Box<Reserved>),
    /// Held for a handler that somebody else ran and that must not be run twice: ours to give up.
    Abandoned(Box<Held>),
    Posted(Box<Posted>),
    /// Delivered before: the same answer may be given again.
    Delivered(PaymentId),
    Pending(PaymentId),
    Interrupted,
    GivenBack,
    Spent,
}

/// Claims the proof. Money that lies in the book has moved when this returns.
pub(crate) async fn claim(
    store: &Arc<dyn Store>,
    checked: Checked,
    now: Timestamp,
) -> Result<Standing, Refusal> {
    claim_within(store, checked, |_| Refusal::TryAgain, now).await
}

/// The same, for a request within a subscription. `denied` says what the book's word about it means.
pub(crate) async fn claim_within(
    store: &Arc<dyn Store>,
    checked: Checked,
    denied: impl Fn(SubscriptionError) -> Refusal,
    now: Timestamp,
) -> Result<Standing, Refusal> {
    let request = checked.claim();
    let payment = request.payment.clone();
    let own = Arc::clone(store);
    let channel = request.voucher.as_ref().map(|claim| claim.voucher.channel.clone());
    let refused = |error| match (error, channel) {
        (ClaimError::Channel(error), Some(channel)) => Refusal::of(channel, error),
        (ClaimError::Subscription(error), _) => denied(error),
        (error, _) => error.into(),
    };
    let posted = |payment, settlement| {
        Standing::Posted(Box::new(Posted::new(payment, settlement, Arc::clone(store))))
    };
    Ok(match (store.claim(request, now).await.map_err(refused)?, checked.money()) {
        (Claim::Fresh, Money::Rail) => Standing::Held(Box::new(checked.held(payment, own))),
        (Claim::Abandoned, _) => Standing::Abandoned(Box::new(checked.held(payment, own))),
        (Claim::Unsettled, Money::Book) => {
            Standing::Reserved(Box::new(Reserved::new(checked.held(payment, own))))
        }
        (Claim::Unsettled, _) => Standing::Unsettled(Box::new(checked.held(payment, own))),
        (Claim::Fresh, Money::Book) if payment.terms.capture == Capture::After => {
            Standing::Reserved(Box::new(Reserved::new(checked.held(payment, own))))
        }
        (Claim::Fresh, Money::Book) => {
            let reference = payment.id.to_string();
            posted(payment, Settlement::new(reference, now))
        }
        (Claim::Fresh, Money::None) => {
            let paid = checked.reference().map(str::to_owned);
            let reference = paid.unwrap_or_else(|| payment.challenge.clone());
            posted(payment, Settlement::new(reference, now))
        }
        (Claim::Bought(payment, settlement), _) => posted(*payment, settlement),
        (Claim::Undelivered(settlement), _) => posted(payment, settlement),
        (Claim::Delivered(payment, ..), _) => Standing::Delivered(payment),
        (Claim::Pending(payment), _) => Standing::Pending(payment),
        (Claim::Interrupted, _) => Standing::Interrupted,
        (Claim::GivenBack, _) => Standing::GivenBack,
        (Claim::Spent, _) => Standing::Spent,
    })
}

/// Writes down that the money moved.
pub(crate) async fn post(
    store: &Arc<dyn Store>,
    held: Box<Held>,
    settled: Settled,
    now: Timestamp,
) -> Result<Posted, StoreError> {
    let settlement = settled.written(now);
    store.post(held.key(), settlement.clone(), now).await?;
    // From here on it is the right to deliver.
    Ok(Posted::new(held.into_payment(), settlement, Arc::clone(store)))
}

/// Takes up a payment to find out about it; nothing if somebody else is at it.
pub(crate) async fn take_up(store: &Arc<dyn Store>, payment: PaymentId) -> Option<Right> {
    let taken = store.take_up(payment).await.ok()?;
    taken.then(|| Right::new(payment, Arc::clone(store)))
}

/// Writes down that the money of a payment had moved. Nobody delivers it now: it is owed.
pub(crate) async fn found(
    store: &Arc<dyn Store>,
    right: Right,
    settled: Settled,
    now: Timestamp,
) -> Result<(), StoreError> {
    // Dropping the right gives it back, to whoever presents the credential.
    store.post(right.payment(), settled.written(now), now).await
}

/// Gives a hold up.
pub(crate) async fn void(
    store: &Arc<dyn Store>,
    held: &Held,
    reason: VoidReason,
    now: Timestamp,
) -> Result<(), StoreError> {
    store.void(held.key(), reason, now).await
}

impl From<ClaimError> for Refusal {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Overdrawn => Self::Short,
            ClaimError::UnknownKey => Self::Payer(crate::Rejection::Invalid),
            ClaimError::Duplicate => Self::Conflict,
            ClaimError::KeyMisused => Self::KeyMisused,
            ClaimError::OverCap
            | ClaimError::OverBudget { .. }
            | ClaimError::Frozen
            | ClaimError::Legs
            | ClaimError::Channel(_)
            | ClaimError::Subscription(_)
            | ClaimError::Unavailable => Self::TryAgain,
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(StoreError: StoreError) -> Self {
        Self::TryAgain
    }
}
