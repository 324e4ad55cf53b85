//! Requests that wait for another with the same credential.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farthing_ledger::PaymentId;
use tokio::sync::Notify;

/// How long a request waits before it looks again by itself: another gateway may have been the one.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Who waits for which payment.
#[derive(Default)]
pub(crate) struct Joins(Mutex<HashMap<PaymentId, Arc<Notify>>>);

impl Joins {
    /// Waits until something became of a payment, or it is time to look again.
    pub(crate) async fn wait(&self, payment: PaymentId) {
        let notify = Arc::clone(self.waiting().entry(payment).or_default());
        // Running out of time is what a look is for.
        let _ = tokio::time::timeout(LOOK_AGAIN, notify.notified()).await;
    }

    /// Something became of a payment: whoever waits for it looks again.
    pub(crate) fn wake(&self, payment: PaymentId) {
        if let Some(notify) = self.waiting().remove(&payment) {
            notify.notify_waiters();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<PaymentId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
