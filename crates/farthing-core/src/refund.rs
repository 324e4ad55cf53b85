//! Giving money back, by rule and by command.

use farthing_ledger::{
    Account, AccountKind, Holder, Pay, Payment, Refund, RefundError, RefundLimits, RefundRequest,
    RefundStanding, Story, Way,
};
use farthing_money::{Amount, Timestamp};

use crate::{NoRefund, Ordered, Refunds, Till};

/// What somebody asks to be given back of a payment whose story they have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundAsk {
    /// The payment, which was paid.
    pub payment: Payment,
    /// Where its money came from.
    pub from: Option<Account>,
    /// How much.
    pub amount: Amount,
    /// Where it goes.
    pub way: Way,
    /// The operator's own name for it: the same name again is the same refund.
    pub reference: String,
    /// Why, in words for people.
    pub reason: String,
}

/// A refund, ready to be ordered.
pub(crate) struct Order<'a> {
    pub(crate) payment: &'a Payment,
    pub(crate) from: Option<&'a Account>,
    pub(crate) amount: Amount,
    pub(crate) way: Way,
    pub(crate) reference: &'a str,
    pub(crate) reason: &'a str,
    /// Whether it makes up for an answer that will not come.
    pub(crate) only_if_owed: bool,
}

/// Why nothing was given back. Nothing is written, and nothing has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefundRefusal {
    /// The payment is being settled or answered.
    #[error("the payment is being settled or answered; ask again when it is finished")]
    InProgress,
    /// The book says no.
    #[error(transparent)]
    Book(RefundError),
    /// The rail says no.
    #[error("{0}; credit the payer instead, or mend it")]
    Rail(NoRefund),
    /// The payer's name cannot name an account.
    #[error("the payer's name cannot name an account to be credited")]
    Payer,
}

impl RefundAsk {
    /// Asks for `amount` of the payment that `story` tells of, or for all that is left of it.
    ///
    /// # Errors
    ///
    /// [`RefundError::NotPaid`], as a refusal.
    pub fn of(story: &Story, amount: Option<Amount>) -> Result<Self, RefundRefusal> {
        match story.lifecycle.pay {
            Pay::Held | Pay::Voided => return Err(RefundRefusal::Book(RefundError::NotPaid)),
            Pay::Settled | Pay::Refunding | Pay::PartlyRefunded | Pay::Refunded => {}
        }
        let left = || Amount::new(story.payment.amount.asset().clone(), story.lifecycle.left());
        Ok(Self {
            payment: story.payment.clone(),
            from: story.from().cloned(),
            amount: amount.unwrap_or_else(left),
            way: Way::Back,
            reference: String::new(),
            reason: String::new(),
        })
    }
}

impl From<RefundError> for RefundRefusal {
    fn from(error: RefundError) -> Self {
        match error {
            RefundError::InProgress => Self::InProgress,
            RefundError::NotPaid
            | RefundError::TooMuch
            | RefundError::OverLimit
            | RefundError::Short
            | RefundError::ReferenceTaken
            | RefundError::Malformed
            | RefundError::Unavailable => Self::Book(error),
        }
    }
}

impl Till {
    /// Gives money of a payment back, by command.
    ///
    /// # Idempotency
    ///
    /// The same reference again is the same refund: where it stands is told, and nothing is sent twice.
    ///
    /// # Crash safety
    ///
    /// What is sent was ordered durably before; recovery carries an order out that was not.
    ///
    /// # Errors
    ///
    /// A [`RefundRefusal`]; nothing has moved.
    pub async fn refund(
        &self,
        ask: &RefundAsk,
        limits: &RefundLimits,
        now: Timestamp,
    ) -> Result<(Refund, RefundStanding), RefundRefusal> {
        let order = Order {
            payment: &ask.payment,
            from: ask.from.as_ref(),
            amount: ask.amount.clone(),
            way: ask.way,
            reference: &ask.reference,
            reason: &ask.reason,
            only_if_owed: false,
        };
        let (refund, Ordered { standing, is_new }) = self.order(&order, limits, now).await?;
        // Only what was written down is ever sent: of one that was ordered before, that is another.
        if is_new && standing == RefundStanding::Pending {
            self.send_now(&refund, now).await;
            // The same order again says what became of it by now.
            let again = self.store.refund(requested(&order, refund.way, limits)?, now).await?;
            return Ok((refund, again.standing));
        }
        Ok((refund, standing))
    }

    /// Orders a refund: writes it down, and moves the money where it lies in the book.
    pub(crate) async fn order(
        &self,
        order: &Order<'_>,
        limits: &RefundLimits,
        now: Timestamp,
    ) -> Result<(Refund, Ordered), RefundRefusal> {
        let rail = self.rail(&order.payment.method).ok();
        // What was paid on a channel lies in the book until the channel is closed.
        let on_a_channel = order.payment.voucher.is_some();
        let by_the_rail =
            rail.filter(|rail| rail.rules().refunds == Refunds::Rail && !on_a_channel);
        let mut way = order.way;
        let mut request = requested(order, way, limits)?;
        if let (Way::Back, Some(rail), false) = (way, by_the_rail, order.amount.is_zero()) {
            match rail.prepare_refund(&request.refund).await {
                Ok(prepared) => request.refund.order = Some(prepared),
                // The rail never can: the payer is not left with nothing.
                Err(NoRefund::Unable) => {
                    way = Way::Credit;
                    request = requested(order, way, limits)?;
                }
                Err(error @ (NoRefund::Short | NoRefund::Later)) => {
                    return Err(RefundRefusal::Rail(error));
                }
            }
        }
        let refund = request.refund.clone();
        let ordered = self.store.refund(request, now).await?;
        Ok((refund, ordered))
    }
}

/// What the book is asked to do for an order.
fn requested(
    order: &Order<'_>,
    way: Way,
    limits: &RefundLimits,
) -> Result<RefundRequest, RefundRefusal> {
    let Order { payment, from, amount, reference, reason, .. } = order;
    let credit = || {
        let holder = Holder::new(&payment.payer).map_err(|_| RefundRefusal::Payer)?;
        Ok::<_, RefundRefusal>(Account::new(AccountKind::Prepaid, holder, amount.asset().clone()))
    };
    let to = match (way, from) {
        (Way::Back, Some(from)) => (*from).clone(),
        // The payer has an account already: no other could be spent by the same key.
        (Way::Credit, Some(from)) if from.kind == AccountKind::Prepaid => (*from).clone(),
        (Way::Back, None) | (Way::Credit, _) => credit()?,
    };
    let mut request = RefundRequest::new(payment, amount.clone(), to, way, reference);
    (*reason).clone_into(&mut request.refund.reason);
    request.limits = limits.clone();
    request.only_if_owed = order.only_if_owed;
    Ok(request)
}
