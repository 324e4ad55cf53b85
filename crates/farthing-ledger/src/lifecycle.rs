//! Where a payment stands: four machines on one record, none of which waits for another.
//!
//! ```text
//! pay       held ──► settled ──► refunding ──► refunded        held ──► voided
//! delivery  awaited ──► owed ──► delivered                     owed ◄──► failed, owed ──► compensated
//! matching  internal                                           expected ──► matched │ missing ──► resolved
//! payout    ineligible ──► eligible ◄──► held                  eligible ──► paid
//! ```
//!
//! Money can be given back after the answer was delivered, the rail can contradict the book after the
//! seller was paid out, and a payout can be held at any time before it is made. Which event may follow
//! which is said here and nowhere else: the audit and the stories are made of it.

use farthing_money::Amount;
use serde::Serialize;

use crate::{ChannelEvent, Event, Payment, Settlement};

#[cfg(test)]
mod tests;

/// Where a payment stands in each respect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lifecycle {
    /// Its money.
    pub pay: Pay,
    /// Its answer.
    pub delivery: Delivery,
    /// Whether the rail and the book agree.
    pub matching: Matching,
    /// Whether the seller has it.
    pub payout: Payout,
    #[serde(skip)]
    price: u128,
    /// What was ordered back and not given up, and how much of it has moved.
    #[serde(skip)]
    ordered: u128,
    #[serde(skip)]
    moved: u128,
    /// Whether nothing was given back because nothing was paid.
    #[serde(skip)]
    was_free: bool,
    #[serde(skip)]
    is_external: bool,
}

/// Where a payment's money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pay {
    /// Its place is held; the rail has not spoken, or the handler has not succeeded yet.
    Held,
    /// It moved.
    Settled,
    /// It did not move and never will.
    Voided,
    /// Part of it is on its way back.
    Refunding,
    /// Part of it was given back.
    PartlyRefunded,
    /// All of it was given back.
    Refunded,
}

/// What became of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Nothing is owed: the money has not moved.
    Awaited,
    /// It is owed.
    Owed,
    /// The handler failed; it is owed still.
    Failed,
    /// It was given.
    Delivered,
    /// The money was given back instead.
    Compensated,
}

/// Whether the rail and the book agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// The book itself moved the money: there is nobody to disagree with.
    Internal,
    /// The rail is to be asked again, some time after it has spoken.
    Expected,
    /// The rail says what the book says.
    Matched,
    /// The rail does not know the payment any more, or says something else.
    Missing,
    /// A person has looked into it.
    Resolved,
}

/// Whether the seller has what was earned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Payout {
    /// Nothing is earned yet, or it was given back.
    Ineligible,
    /// It may be paid out.
    Eligible,
    /// A person has stopped it.
    Held,
    /// It was paid out.
    Paid,
}

/// What holding the book against the rail came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Finding {
    /// The rail says what the book says.
    Matched,
    /// The rail does not know the payment any more: a chain that went back further than was waited
    /// for, a bank that took it back. What was delivered stays delivered; a person decides.
    Missing,
    /// The rail knows the payment by another reference.
    OtherReference {
        /// The rail's.
        reference: String,
    },
    /// A person has looked into it.
    Resolved {
        /// What they found.
        note: String,
    },
}

/// An event cannot follow where the payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event cannot follow where the payment stands")]
pub struct OutOfOrder;

impl Lifecycle {
    /// A payment that was claimed, and settled in the same moment where there is a settlement.
    #[must_use]
    pub fn begin(payment: &Payment, settlement: Option<&Settlement>) -> Self {
        let claimed = Self {
            pay: Pay::Held,
            delivery: Delivery::Awaited,
            matching: Matching::Internal,
            payout: Payout::Ineligible,
            price: payment.amount.atoms(),
            ordered: 0,
            moved: 0,
            was_free: false,
            is_external: payment.inquiry.is_some(),
        };
        if settlement.is_some() { claimed.settled() } else { claimed }
    }

    fn settled(self) -> Self {
        let matching = if self.is_external { Matching::Expected } else { Matching::Internal };
        Self { pay: Pay::Settled, delivery: Delivery::Owed, matching, ..self }
    }

    /// How much of the price was neither given back nor is on its way back, in atoms.
    #[must_use]
    pub const fn left(&self) -> u128 {
        self.price.saturating_sub(self.ordered)
    }

    /// How much was given back or is on its way, in atoms.
    #[must_use]
    pub const fn given_back(&self) -> u128 {
        self.ordered
    }

    /// Where the payment stands after `event`. `refunded` is the amount of the refund that the event
    /// is about, or of what was taken on top, in atoms.
    ///
    /// # Errors
    ///
    /// [`OutOfOrder`].
    pub fn after(self, event: &Event, refunded: u128) -> Result<Self, OutOfOrder> {
        let next = match event {
            Event::Posted { settlement, .. } if self.pay == Pay::Held => {
                let price = settlement.moved.as_ref().map_or(self.price, Amount::atoms);
                Self { price, ..self }.settled()
            }
            Event::Voided { .. } if self.pay == Pay::Held => Self { pay: Pay::Voided, ..self },
            Event::Failed { .. } if self.is_owed() => Self { delivery: Delivery::Failed, ..self },
            Event::Resumed { .. } if self.is_owed() => self,
            Event::Delivered { .. } if self.is_owed() => {
                Self { delivery: Delivery::Delivered, ..self }
            }
            Event::Refunded { settlement, .. } => {
                let ordered = self.ordered.checked_add(refunded).ok_or(OutOfOrder)?;
                if !self.is_settled() || ordered > self.price {
                    return Err(OutOfOrder);
                }
                let moved = if settlement.is_some() { refunded } else { 0 };
                let moved = self.moved.saturating_add(moved);
                Self { ordered, moved, was_free: self.price == 0, ..self }
            }
            Event::RefundPosted { .. } if self.moved.saturating_add(refunded) <= self.ordered => {
                Self { moved: self.moved.saturating_add(refunded), ..self }
            }
            Event::RefundVoided { .. } if self.moved.saturating_add(refunded) <= self.ordered => {
                Self { ordered: self.ordered.saturating_sub(refunded), ..self }
            }
            Event::Reconciled { finding, .. } if self.is_external && self.is_settled() => {
                Self { matching: self.matching.after(finding)?, ..self }
            }
            Event::PayoutHeld { .. } if self.payout != Payout::Paid => {
                Self { payout: Payout::Held, ..self }
            }
            Event::PayoutReleased { .. } if self.payout == Payout::Held => {
                Self { payout: Payout::Ineligible, ..self }
            }
            // What was taken for an answer that is being given is paid as well.
            Event::Channel { step: ChannelEvent::Took { .. }, .. } if self.is_owed() => {
                let price = self.price.checked_add(refunded).ok_or(OutOfOrder)?;
                Self { price, ..self }
            }
            // And what of it bought nothing is not.
            Event::Channel { step: ChannelEvent::Returned { .. }, .. } if self.is_owed() => {
                let price = self.price.checked_sub(refunded).ok_or(OutOfOrder)?;
                if price < self.ordered {
                    return Err(OutOfOrder);
                }
                Self { price, ..self }
            }
            Event::PaidOut { .. } if self.payout == Payout::Eligible => {
                Self { payout: Payout::Paid, ..self }
            }
            Event::Posted { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::RefundPosted { .. }
            | Event::RefundVoided { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::PaidOut { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. }
            | Event::Claimed { .. }
            | Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => return Err(OutOfOrder),
        };
        Ok(next.derived())
    }

    /// What follows from the amounts and from the other machines.
    fn derived(mut self) -> Self {
        if self.is_settled() {
            self.pay = match (self.ordered, self.moved) {
                (0, _) if !self.was_free => Pay::Settled,
                (ordered, moved) if moved < ordered => Pay::Refunding,
                (ordered, _) if ordered < self.price => Pay::PartlyRefunded,
                (..) => Pay::Refunded,
            };
        }
        let nothing_left = self.pay == Pay::Refunded;
        if nothing_left && self.is_owed() {
            self.delivery = Delivery::Compensated;
        }
        if matches!(self.payout, Payout::Ineligible | Payout::Eligible) {
            let earned = self.delivery == Delivery::Delivered && !nothing_left;
            let agreed = self.matching != Matching::Missing;
            let is_eligible = earned && agreed;
            self.payout = if is_eligible { Payout::Eligible } else { Payout::Ineligible };
        }
        self
    }

    const fn is_settled(&self) -> bool {
        match self.pay {
            Pay::Settled | Pay::Refunding | Pay::PartlyRefunded | Pay::Refunded => true,
            Pay::Held | Pay::Voided => false,
        }
    }

    const fn is_owed(&self) -> bool {
        match self.delivery {
            Delivery::Owed | Delivery::Failed => true,
            Delivery::Awaited | Delivery::Delivered | Delivery::Compensated => false,
        }
    }
}

impl Matching {
    fn after(self, finding: &Finding) -> Result<Self, OutOfOrder> {
        match (self, finding) {
            (Self::Expected | Self::Missing, Finding::Matched) => Ok(Self::Matched),
            (Self::Expected, Finding::Missing | Finding::OtherReference { .. }) => {
                Ok(Self::Missing)
            }
            (Self::Missing, Finding::Resolved { .. }) => Ok(Self::Resolved),
            (
                Self::Internal | Self::Expected | Self::Matched | Self::Missing | Self::Resolved,
                _,
            ) => Err(OutOfOrder),
        }
    }
}
