//! Signing for programs that make their requests themselves.
//!
//! ```text
//! program: request ─► 402 ─► its offers ─► wallet: choose, hold, sign, remember ─► credential
//!                                                                                     │
//! program: the same request with the credential ─► answer ─► what became of it ─► wallet: post, or keep
//! ```
//!
//! The wallet sees neither the connection nor the answer. Whom an offer came from is the program's word; what
//! the offer asks for, to whom, and under which realm is not, and is checked as ever.
//!
//! **Architecture invariant:** what was signed is never let go on the word of whoever has it: it could still
//! be spent. Its price stays held until its credential has expired and the rail was asked; where nobody can be
//! asked, it counts as spent.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use farthing_core::Object;
use farthing_ledger::PaymentId;
use farthing_money::{Amount, Timestamp};
use farthing_policy::OWNER;

use super::{Promise, offer};
use crate::memory::Outstanding;
use crate::request::check_url;
use crate::{PayFailure, PayOptions, PayRequest, Wallet};

/// A credential, and what whoever sends it has to know.
pub struct Signed {
    /// The payment.
    pub payment: PaymentId,
    /// The header field it travels in.
    pub name: HeaderName,
    /// The credential. It is worth the price, and marked as sensitive.
    pub value: HeaderValue,
    /// The price; not said where an earlier attempt was signed for.
    pub amount: Option<Amount>,
    /// Who is paid; not said where an earlier attempt was signed for.
    pub recipient: Option<String>,
    /// Until when it can be sent.
    pub expires_at: Timestamp,
    /// Whether it was made for an earlier attempt.
    pub resumed: bool,
}

/// What the seller said to a credential.
#[derive(Clone, Debug)]
pub struct Told {
    /// The status of its answer.
    pub status: StatusCode,
    /// The answer's header fields; of interest is the receipt.
    pub fields: HeaderMap,
}

/// What a payment has become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is spent, and was answered.
    Paid {
        /// What the seller says it received.
        receipt: Option<Object>,
    },
    /// The seller does not take it. Its price stays held until the credential has expired.
    Refused {
        /// Until when.
        held_until: Timestamp,
    },
    /// Nobody knows. The same credential can be sent again.
    Open {
        /// Until when.
        held_until: Timestamp,
    },
}

impl Wallet {
    /// Signs for one of the offers that `asked`, the header fields of a seller's `402`, makes for a request.
    /// Session offers are not answered: they are a conversation, which the wallet has itself.
    ///
    /// # Idempotency
    ///
    /// For the same request under the same name, the same credential, until its end is told by
    /// [`Wallet::tell`] or it has expired.
    ///
    /// # Crash safety
    ///
    /// The hold and the credential are on disk when this returns.
    ///
    /// # Errors
    ///
    /// A [`PayFailure`], as of [`Wallet::pay`].
    pub async fn sign_for(
        &self,
        request: &PayRequest,
        options: &PayOptions,
        asked: &HeaderMap,
    ) -> Result<Signed, PayFailure> {
        check_url(&request.url)?;
        self.sweep().await?;
        let attempt = self.attempt(request, options);
        let _ours = self.memory.lock(&attempt).await?;
        if let Some(outstanding) = self.earlier(&attempt, options).await? {
            return self.signed_before(request, &outstanding).await;
        }
        let choices = self.choices(request, options, asked).map_err(PayFailure::Objections)?;
        let promise = self.promise_one(request, attempt, choices).await?;
        // Nobody but the program sees the answer: what was signed counts as bought.
        self.learn(&offer(request, &promise.choice), promise.approved)?;
        let Promise { payment, choice, field: (name, value), expires_at, .. } = promise;
        let (amount, recipient) = (Some(choice.price.amount), Some(choice.price.recipient));
        Ok(Signed { payment, name, value, amount, recipient, expires_at, resumed: false })
    }

    async fn signed_before(
        &self,
        request: &PayRequest,
        outstanding: &Outstanding,
    ) -> Result<Signed, PayFailure> {
        let (name, value) = self.again(request, outstanding).await?;
        Ok(Signed {
            payment: outstanding.payment,
            name,
            value,
            amount: None,
            recipient: None,
            expires_at: outstanding.expires_at,
            resumed: true,
        })
    }

    /// Takes down what became of a credential of [`Wallet::sign_for`], as whoever has it says. Nothing told means
    /// that no answer came.
    ///
    /// A refusal is believed as far as it costs nobody but them: its price is held until the credential has
    /// expired. Then the rail says what became of it; where the rail cannot be asked, it counts as spent. What is
    /// said of subscriptions is not believed at all.
    ///
    /// # Idempotency
    ///
    /// Telling the same again changes nothing; what was answered is not known any more, and is
    /// [`PayFailure::NoPayment`].
    ///
    /// # Errors
    ///
    /// A [`PayFailure`]; [`PayFailure::NoPayment`] also for the payments of others.
    pub async fn tell(
        &self,
        payment: PaymentId,
        told: Option<&Told>,
    ) -> Result<Ending, PayFailure> {
        let outstanding = self.own(payment)?;
        let held_until = outstanding.expires_at;
        let Some(told) = told else { return Ok(Ending::Open { held_until }) };
        if told.status == StatusCode::PAYMENT_REQUIRED {
            self.memory.told_refused(payment)?;
            return Ok(Ending::Refused { held_until });
        }
        self.ended(&outstanding, told).await
    }

    /// The same as the wallet's own process has seen it: a refusal is the seller's word.
    ///
    /// # Idempotency
    ///
    /// As of [`Wallet::tell`].
    ///
    /// # Errors
    ///
    /// As of [`Wallet::tell`].
    pub async fn saw(&self, payment: PaymentId, seen: &Told) -> Result<Ending, PayFailure> {
        let outstanding = self.own(payment)?;
        if seen.status == StatusCode::PAYMENT_REQUIRED {
            self.memory.refused(payment)?;
            self.note_unsubscribed(payment, &[]).await?;
            return Ok(Ending::Refused { held_until: outstanding.expires_at });
        }
        let ending = self.ended(&outstanding, seen).await?;
        if let Ending::Paid { receipt } = &ending {
            self.note_subscribed(payment, receipt.as_ref())?;
        }
        Ok(ending)
    }

    /// A credential that was made for whoever asks.
    fn own(&self, payment: PaymentId) -> Result<Outstanding, PayFailure> {
        let known = self.memory.all_outstanding()?.into_iter().find(|it| it.payment == payment);
        let outstanding = known.ok_or(PayFailure::NoPayment)?;
        // What no agent's name is on was the owner's.
        let whose = outstanding.secret(&self.key)?.agent;
        if whose.as_deref().unwrap_or(OWNER) == self.authority.agent() {
            return Ok(outstanding);
        }
        Err(PayFailure::NoPayment)
    }

    /// Takes down an answer that is no refusal.
    async fn ended(&self, outstanding: &Outstanding, told: &Told) -> Result<Ending, PayFailure> {
        let Told { status, fields } = told;
        if status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS {
            return Ok(Ending::Open { held_until: outstanding.expires_at });
        }
        let payment = outstanding.payment;
        let receipt = self.settle(&outstanding.origin, payment, *status, fields).await?;
        self.memory.forget(payment)?;
        Ok(Ending::Paid { receipt })
    }
}
