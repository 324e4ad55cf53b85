//! What an operator does to a payment: gives money back, holds and releases what was earned, notes
//! what was found out.
//!
//! The management listener and the command line share it: one speaks to a running gateway, the other
//! to a book that nobody has open.

use std::sync::Arc;

use farthing_core::{RefundAsk, RefundRefusal, Refusal, Store, StoreError, Till};
use farthing_ledger::{
    Channel, ChannelId, Delivery, Earned, Entry, EntryError, Holder, Payout, RefundError, RefundId,
    RefundLimits, RefundStanding, Story, Subscription, SubscriptionId, TraceId, Way,
};
use farthing_money::{Amount, Assets, ReadAmountError, Timestamp};
use serde::{Deserialize, Serialize};

/// Gives money of a payment back: `POST /v1/refunds`.
///
/// # Idempotency
///
/// A payment's reference counts once: the same request again says where the refund stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefundOrder {
    /// The payment's trace.
    pub payment: TraceId,
    /// How much, as people write it, such as `"0.10 usd"`; nothing means all that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// Where it goes.
    #[serde(default = "back")]
    pub way: Way,
    /// The operator's own name for it.
    pub reference: String,
    /// Why, in words for people.
    pub reason: String,
}

const fn back() -> Way {
    Way::Back
}

/// What became of a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundMade {
    /// Its name.
    pub refund: RefundId,
    /// How much, as people write it.
    pub amount: String,
    /// Where it goes: to a credit, where the rail cannot give it back.
    pub way: Way,
    /// Where it stands.
    pub standing: RefundStanding,
}

/// Says what was found out about a payment that its rail has disowned: `POST /v1/payments/resolve`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolution {
    /// The payment's trace.
    pub payment: TraceId,
    /// What was found.
    pub note: String,
}

/// Decides about what was earned with a payment: `POST /v1/payouts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayoutStep {
    /// The payment's trace.
    pub payment: TraceId,
    /// What is done.
    pub step: PayoutKind,
    /// Why it is held or released; the operator's own name for what was paid out.
    pub why: String,
}

/// What is done about what was earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutKind {
    /// It is not paid out for now.
    Hold,
    /// It may be paid out again.
    Release,
    /// It was paid out.
    Paid,
}

/// A session, for operators. Amounts are as people write them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionLine {
    /// Its channel, such as `prepaid:5f0c…`.
    pub channel: ChannelId,
    /// Where it stands.
    pub state: String,
    /// Who pays.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// How much was deposited.
    pub deposit: String,
    /// How much vouchers have authorised in all.
    pub accepted: String,
    /// How much was taken in all.
    pub spent: String,
    /// How much was settled in all.
    pub settled: String,
    /// How much closing would give back.
    pub refundable: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was last used.
    pub used_at: Timestamp,
    /// Names what happened to it, for `farthing trace`'s records.
    pub trace: TraceId,
}

/// Closes a session: `POST /v1/sessions/close`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloseOrder {
    /// Its channel.
    pub channel: ChannelId,
}

/// A subscription, for operators. Amounts are as people write them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubscriptionLine {
    /// Its name.
    pub subscription: SubscriptionId,
    /// Where it stands.
    pub state: String,
    /// What is subscribed to.
    pub plan: String,
    /// The payment method.
    pub method: String,
    /// Who pays.
    pub payer: String,
    /// Who is paid.
    pub payee: Holder,
    /// The price of a period.
    pub price: String,
    /// How long a period is.
    pub period: String,
    /// How many periods were paid for.
    pub charges: u64,
    /// Until when it is paid for.
    pub paid_until: Option<Timestamp>,
    /// When a failed charge is tried again.
    pub retry_at: Option<Timestamp>,
    /// From when on nothing is charged any more.
    pub expires_at: Option<Timestamp>,
    /// When it was begun.
    pub opened_at: Timestamp,
    /// Names what happened to it, for `farthing trace`'s records.
    pub trace: TraceId,
}

/// Cancels a subscription: `POST /v1/subscriptions/cancel`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelOrder {
    /// Its name.
    pub subscription: SubscriptionId,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The book knows no such payment.
    #[error("the book has no payment, session or subscription of this name")]
    Unknown,
    /// The amount cannot be read.
    #[error(transparent)]
    Amount(#[from] ReadAmountError),
    /// The refund was refused.
    #[error(transparent)]
    Refund(#[from] RefundRefusal),
    /// The entry was refused.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Nothing was delivered for it, or all of it was given back.
    #[error("nothing was earned with this payment that could be paid out")]
    NothingEarned,
    /// The book cannot answer. Asking again is safe.
    #[error("the book does not answer; ask again")]
    Unavailable,
}

impl From<StoreError> for DeskError {
    fn from(StoreError: StoreError) -> Self {
        Self::Unavailable
    }
}

impl DeskError {
    /// Whether it is the asker's to mend: a name, an amount, a state that does not fit.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unknown => 404,
            Self::Amount(_) => 422,
            Self::Refund(refusal) => match refusal {
                RefundRefusal::Book(RefundError::Unavailable) | RefundRefusal::Rail(_) => 503,
                RefundRefusal::Book(RefundError::Malformed) | RefundRefusal::Payer => 422,
                RefundRefusal::Book(
                    RefundError::InProgress
                    | RefundError::NotPaid
                    | RefundError::TooMuch
                    | RefundError::OverLimit
                    | RefundError::Short
                    | RefundError::Erased
                    | RefundError::ReferenceTaken,
                )
                | RefundRefusal::InProgress => 409,
            },
            Self::Entry(EntryError::Unavailable) | Self::Unavailable => 503,
            Self::Entry(
                EntryError::ReferenceTaken
                | EntryError::KeyTaken
                | EntryError::OutOfOrder
                | EntryError::Transfer(_),
            )
            | Self::NothingEarned => 409,
        }
    }
}

/// An operator's desk: a till, how much may be given back, and the assets amounts are written in.
pub struct Desk {
    /// The rails and the book.
    pub till: Till,
    /// How much may be given back.
    pub limits: RefundLimits,
    /// The assets amounts are written in.
    pub assets: Assets,
}

impl Desk {
    /// Gives money back.
    ///
    /// # Errors
    ///
    /// A [`DeskError`]; nothing has moved.
    pub async fn refund(
        &self,
        order: RefundOrder,
        now: Timestamp,
    ) -> Result<RefundMade, DeskError> {
        let story = self.story(order.payment).await?;
        let amount = order.amount.map(|text| self.assets.read(&text)).transpose()?;
        let ask = RefundAsk {
            way: order.way,
            reference: order.reference,
            reason: order.reason,
            ..RefundAsk::of(&story, amount)?
        };
        let (refund, standing) = self.till.refund(&ask, &self.limits, now).await?;
        let amount = self.assets.print(&refund.amount);
        Ok(RefundMade { refund: refund.id, amount, way: refund.way, standing })
    }

    /// Notes what was found out about a payment. `true` if it was new.
    ///
    /// # Errors
    ///
    /// A [`DeskError`]; nothing is written.
    pub async fn resolve(&self, note: Resolution, now: Timestamp) -> Result<bool, DeskError> {
        let payment = self.story(note.payment).await?.payment.id;
        let entry = Entry::Resolve { payment, note: note.note };
        Ok(self.store().enter(entry, now).await?)
    }

    /// The sessions that are not closed, and those closed last.
    ///
    /// # Errors
    ///
    /// [`DeskError::Unavailable`].
    pub async fn sessions(&self) -> Result<Vec<SessionLine>, DeskError> {
        let channels = self.store().channels().await?;
        Ok(channels.iter().map(|channel| self.session_line(channel)).collect())
    }

    /// Closes a session and gives back what is left. Closing again says where it stands.
    ///
    /// # Errors
    ///
    /// A [`DeskError`]. Where the rail could not be told now, it is told later.
    pub async fn close_session(
        &self,
        order: CloseOrder,
        now: Timestamp,
    ) -> Result<SessionLine, DeskError> {
        match self.till.close_channel(&order.channel, now).await {
            Ok(channel) => Ok(self.session_line(&channel)),
            Err(Refusal::TryAgain) => Err(DeskError::Unavailable),
            Err(_) => Err(DeskError::Unknown),
        }
    }

    /// The subscriptions that are not over, and those that ended last.
    ///
    /// # Errors
    ///
    /// [`DeskError::Unavailable`].
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionLine>, DeskError> {
        let all = self.store().subscriptions().await?;
        Ok(all.iter().map(|it| self.subscription_line(it)).collect())
    }

    /// Cancels a subscription: nothing is charged any more, and what was paid for can be used. Cancelling
    /// again says where it stands.
    ///
    /// # Errors
    ///
    /// A [`DeskError`].
    pub async fn cancel_subscription(
        &self,
        order: CancelOrder,
        now: Timestamp,
    ) -> Result<SubscriptionLine, DeskError> {
        match self.till.cancel_subscription(order.subscription, now).await {
            Ok(it) => Ok(self.subscription_line(&it)),
            Err(Refusal::TryAgain) => Err(DeskError::Unavailable),
            Err(_) => Err(DeskError::Unknown),
        }
    }

    fn subscription_line(&self, it: &Subscription) -> SubscriptionLine {
        let facts = &it.facts;
        SubscriptionLine {
            subscription: facts.id,
            state: it.state.name().to_owned(),
            plan: facts.plan.clone(),
            method: facts.method.clone(),
            payer: facts.payer.clone(),
            payee: facts.payee.clone(),
            price: self.assets.print(&facts.price()),
            period: facts.period.to_string(),
            charges: it.charges,
            paid_until: it.paid_until(),
            retry_at: it.retry_at,
            expires_at: facts.expires_at,
            opened_at: it.opened_at,
            trace: facts.trace,
        }
    }

    fn session_line(&self, channel: &Channel) -> SessionLine {
        let print = |atoms| self.assets.print(&Amount::new(channel.facts.asset.clone(), atoms));
        SessionLine {
            channel: channel.facts.id.clone(),
            state: channel.state.name().to_owned(),
            payer: channel.facts.payer.clone(),
            payee: channel.facts.payee.clone(),
            deposit: print(channel.deposit),
            accepted: print(channel.accepted),
            spent: print(channel.spent),
            settled: print(channel.settled),
            refundable: print(channel.refundable()),
            opened_at: channel.opened_at,
            used_at: channel.used_at,
            trace: channel.facts.trace,
        }
    }

    /// Decides about what was earned with a payment. `true` if it was new.
    ///
    /// # Errors
    ///
    /// A [`DeskError`]; nothing is written.
    pub async fn payout(&self, step: PayoutStep, now: Timestamp) -> Result<bool, DeskError> {
        let story = self.story(step.payment).await?;
        if step.step == PayoutKind::Paid && story.lifecycle.payout == Payout::Paid {
            return Ok(false);
        }
        let payment = Earned::of(&story);
        let entry = match step.step {
            PayoutKind::Hold => Entry::HoldPayout { payment, reason: step.why },
            PayoutKind::Release => Entry::ReleasePayout { payment, reason: step.why },
            PayoutKind::Paid => {
                let amount = Amount::new(story.payment.amount.asset().clone(), story.due());
                let delivered = story.lifecycle.delivery == Delivery::Delivered;
                if amount.is_zero() || !delivered {
                    return Err(DeskError::NothingEarned);
                }
                Entry::PayOut { payment, amount, reference: step.why }
            }
        };
        Ok(self.store().enter(entry, now).await?)
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.till.store
    }

    async fn story(&self, trace: TraceId) -> Result<Story, DeskError> {
        let records = self.store().story(trace).await?;
        Story::tell(&records).ok_or(DeskError::Unknown)
    }
}
