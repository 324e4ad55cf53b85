//! One payment, top to bottom.

use std::sync::Arc;

use farthing_ledger::{Fingerprint, PaymentId, VoidReason};
use farthing_money::Timestamp;
use http::HeaderMap;

use crate::books::{self, Standing};
use crate::{
    Answer, Ask, Checked, Managed, Posted, Presented, Protocol, Rail, Refusal, Rejection, Reserved,
    SESSION, SUBSCRIPTION, SettleError, Store, Unsubscribed,
};

#[cfg(test)]
mod tests;

/// One seller's counter: protocols to be spoken to in, rails to be paid on, and books to write it
/// down in.
pub struct Till {
    /// The wires. A request is answered in all of them and read in whichever it came.
    pub protocols: Vec<Arc<dyn Protocol>>,
    /// Where the money comes from, one rail to a method.
    pub rails: Vec<Arc<dyn Rail>>,
    /// Where it is written down.
    pub store: Arc<dyn Store>,
}

/// What to do with a request.
#[derive(Debug)]
pub enum Admission {
    /// Ask for payment.
    Challenge,
    /// Run the handler and attach a receipt.
    Deliver(Box<Posted>),
    /// Run the handler first: its money is held until it has succeeded.
    Execute(Box<Reserved>),
    /// Give the same answer as before, and run nothing.
    Again(Box<Answer>),
    /// Something was done with a session that bought nothing: say so, and run nothing.
    Managed(Box<Managed>),
    /// Something was done with a subscription that bought nothing: say so, and run nothing.
    Unsubscribed(Box<Unsubscribed>),
}

impl Till {
    /// Decides one request: the whole life of a payment, top to bottom.
    ///
    /// # Idempotency
    ///
    /// The same credential moves money at most once and, at any moment, at most one caller holds
    /// the right to deliver for it. Once it was delivered, it is given the same answer until it
    /// expires, across restarts.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]. Whatever the refusal, the books are consistent when this returns.
    pub async fn admit(
        &self,
        ask: &Ask,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let presented = match self.presented(ask, fields, now) {
            Err(Rejection::OtherBody(identity)) => return Err(self.other_body(identity).await?),
            presented => presented?,
        };
        let Some(presented) = presented else { return Ok(Admission::Challenge) };
        if presented.intent == SESSION {
            return self.admit_in_session(presented, ask, now).await;
        }
        if presented.intent == SUBSCRIPTION {
            return self.admit_subscribed(presented, ask, now).await;
        }
        let rail = self.rail(&presented.method)?;
        let checked = Checked::by(rail, presented, ask, now)?;
        let (held, settled) = match books::claim(&self.store, checked, now).await? {
            Standing::Held(held) => {
                let settled = rail.settle(&held).await;
                (held, settled)
            }
            Standing::Unsettled(held) => {
                let settled = match rail.inquire(held.payment()).await {
                    // What was certainly never sent is safe to send now.
                    Err(SettleError::Unsent) => rail.settle(&held).await,
                    answered => answered,
                };
                (held, settled)
            }
            Standing::Reserved(reserved) => return Ok(Admission::Execute(reserved)),
            Standing::Abandoned(held) => {
                books::void(&self.store, &held, VoidReason::Interrupted, now).await?;
                return Err(Refusal::Declined);
            }
            Standing::Posted(posted) => return Ok(Admission::Deliver(posted)),
            Standing::Delivered(payment) => return self.again(payment).await,
            Standing::Pending(payment) => return Err(Refusal::InProgress(payment)),
            Standing::Interrupted => return Err(Refusal::Interrupted),
            Standing::GivenBack => return Err(Refusal::GivenBack),
            Standing::Spent => return Err(Refusal::Replayed),
        };
        let settled = match settled {
            Ok(settled) => settled,
            Err(SettleError::Declined) => {
                books::void(&self.store, &held, VoidReason::Declined, now).await?;
                return Err(Refusal::Declined);
            }
            // The hold is durable: an honest retry, or recovery, asks the rail and finishes what we
            // could not.
            Err(SettleError::Unsent | SettleError::Unknown) => return Err(Refusal::TryAgain),
        };
        let posted = books::post(&self.store, held, settled, now).await?;
        Ok(Admission::Deliver(Box::new(posted)))
    }

    /// What comes of a claim with which everything moves that is to move: no rail is asked.
    pub(crate) async fn admitted(&self, standing: Standing) -> Result<Admission, Refusal> {
        match standing {
            Standing::Posted(posted) => Ok(Admission::Deliver(posted)),
            Standing::Delivered(payment) => self.again(payment).await,
            Standing::Pending(payment) => Err(Refusal::InProgress(payment)),
            Standing::Interrupted => Err(Refusal::Interrupted),
            Standing::GivenBack => Err(Refusal::GivenBack),
            Standing::Spent => Err(Refusal::Replayed),
            // What is settled or captured after its claim is not claimed like that.
            Standing::Held(_)
            | Standing::Unsettled(_)
            | Standing::Reserved(_)
            | Standing::Abandoned(_) => Err(Refusal::TryAgain),
        }
    }

    /// The answer that was given before.
    pub(crate) async fn again(&self, payment: PaymentId) -> Result<Admission, Refusal> {
        let answer = self.store.answer(payment).await?;
        answer.map(|answer| Admission::Again(Box::new(answer))).ok_or(Refusal::Answered)
    }

    /// A credential with another body than its own: whoever only tries again must not pay again.
    async fn other_body(&self, identity: Fingerprint) -> Result<Refusal, Refusal> {
        let used = self.store.is_claimed(identity).await?;
        Ok(if used { Refusal::OtherBody } else { Refusal::Payer(Rejection::Foreign) })
    }

    /// The one credential of a request, read by whichever protocol knows it.
    fn presented(
        &self,
        ask: &Ask,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Presented>, Rejection> {
        let mut found = None;
        for protocol in &self.protocols {
            let presented = protocol.present(fields, ask, now)?;
            if found.is_some() && presented.is_some() {
                return Err(Rejection::Ambiguous);
            }
            found = found.or(presented);
        }
        Ok(found)
    }

    pub(crate) fn rail(&self, method: &str) -> Result<&dyn Rail, Rejection> {
        let rail = self.rails.iter().find(|rail| rail.method() == method);
        rail.map(AsRef::as_ref).ok_or(Rejection::Unsupported)
    }
}
