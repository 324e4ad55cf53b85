//! Finishing what was begun: settlements nobody heard of again, answers that will not come, refunds on
//! their way, and payments the rail is to confirm.
//!
//! ```text
//! work ─► plan (pure) ─► find out   take up ─► ask the rail ─► conclude (pure) ─► post │ void │ leave
//!                     ├► release    give up what was held for a handler that has stopped
//!                     ├► make up    order the money back, or credit it
//!                     ├► conclude   note what was given as it was paid for, and is given no further
//!                     ├► send       carry a refund's order out ─► post │ void │ leave
//!                     └► match      ask the rail once more ─► matched │ missing │ leave
//! ```
//!
//! **Architecture invariant:** what becomes of a payment is only ever asked about here. Nothing that could
//! take money from a payer is sent, so that an unknown outcome is never sent a second time; and a
//! refund is sent only by an order that moves it once, however often it is carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{
    Expected, Finding, Open, Outcome, Payment, PaymentId, Refund, RefundId, RefundLimits, Remedy,
    Unfinished, VoidReason, Way, Work,
};
use farthing_money::{Amount, Assets, Timestamp};

use crate::refund::Order;
use crate::{RailRules, RefundRefusal, Refunds, SettleError, Settled, Till, books};

#[cfg(test)]
mod tests;

/// How long after a step that came to nothing the next one follows; twice as long each time.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// The longest between two steps.
pub(crate) const PAUSE_MAX: Duration = Duration::from_mins(1);

/// What recovery remembers between two looks.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    tried: BTreeMap<Thing, Tried>,
    limits: RefundLimits,
}

/// What a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Payment(PaymentId),
    Refund(RefundId),
    Match(PaymentId),
}

/// How often something was tried in vain.
#[derive(Clone, Copy, Debug)]
struct Tried {
    pause: Duration,
    next_at: Timestamp,
}

/// What a look came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Payments whose money turned out to have moved.
    pub posted: usize,
    /// Payments that were given up: their money did not move and never will.
    pub voided: usize,
    /// Refunds that were ordered, or whose money moved.
    pub refunded: usize,
    /// Streams that broke off with whoever gave them, and were noted as given as far as they were paid for.
    pub concluded: usize,
    /// Payments that the rail confirmed.
    pub matched: usize,
    /// Payments that the rail disowned.
    pub missing: usize,
    /// Steps that came to nothing and will be tried again.
    pub open: usize,
    /// Payments whose money could not be given back now, and why.
    pub owed: Vec<(PaymentId, RefundRefusal)>,
}

/// One thing to do, which can be done any number of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Ask the rail whether a payment's money moved.
    FindOut(&'a Payment),
    /// Give up what was held for a handler that has stopped.
    Release(&'a Payment),
    /// Note that the period was given which a subscription's charge has paid for.
    Grant(&'a Payment),
    /// Make up for an answer that will not come.
    MakeUp(&'a Unfinished, Way),
    /// Note what was given as it was paid for, and is given no further.
    Conclude(&'a Payment),
    /// Carry a refund's order out.
    Send(&'a Refund),
    /// Hold a payment against what the rail says by now.
    Match(&'a Expected),
}

/// What to do with what a rail says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// The money moved.
    Post(Settled),
    /// It did not, and never will.
    Void(VoidReason),
    /// Ask again later.
    Leave,
}

impl Step<'_> {
    const fn thing(&self) -> Thing {
        match self {
            Self::FindOut(payment)
            | Self::Release(payment)
            | Self::Conclude(payment)
            | Self::Grant(payment) => Thing::Payment(payment.id),
            Self::MakeUp(unfinished, _) => Thing::Payment(unfinished.payment.id),
            Self::Send(refund) => Thing::Refund(refund.id),
            Self::Match(expected) => Thing::Match(expected.payment.id),
        }
    }
}

impl Recovery {
    /// Recovery that gives back no more by itself than `limits` allow.
    #[must_use]
    pub fn within(limits: RefundLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Gives back no more by itself than `limits` allow, from now on.
    pub fn limit(&mut self, limits: RefundLimits) {
        self.limits = limits;
    }

    /// What is to be done now. Pure.
    pub fn plan<'a>(
        &self,
        work: &'a Work,
        rules: impl Fn(&str) -> Option<&'static RailRules>,
        now: Timestamp,
    ) -> Vec<Step<'a>> {
        let payments = work.payments.iter().filter_map(|it| match it.open {
            Open::Unsettled => Some(Step::FindOut(&it.payment)),
            Open::Abandoned => Some(Step::Release(&it.payment)),
            Open::Given => Some(Step::Conclude(&it.payment)),
            Open::Owed | Open::Failed | Open::Interrupted
                if it.payment.subscription.is_some_and(|part| part.is_charge()) =>
            {
                Some(Step::Grant(&it.payment))
            }
            Open::Owed | Open::Failed | Open::Interrupted => {
                let way = make_up(it, rules(&it.payment.method), now)?;
                Some(Step::MakeUp(it, way))
            }
            Open::Settling | Open::Delivering | Open::Refunding => None,
        });
        let expected = work.expected.iter().filter(|it| {
            let after = rules(&it.payment.method).and_then(|rules| rules.recheck_after);
            after.is_some_and(|after| it.settled_at.after(after) <= now)
        });
        let steps =
            payments.chain(work.refunds.iter().map(Step::Send)).chain(expected.map(Step::Match));
        steps.filter(|step| self.is_due(step.thing(), now)).collect()
    }

    fn is_due(&self, thing: Thing, now: Timestamp) -> bool {
        self.tried.get(&thing).is_none_or(|tried| tried.next_at <= now)
    }

    /// Notes that a step came to nothing.
    fn tried_in_vain(&mut self, thing: Thing, now: Timestamp) {
        let before = self.tried.get(&thing).map(|tried| tried.pause);
        let pause = before.map_or(PAUSE, |pause| pause.saturating_mul(2).min(PAUSE_MAX));
        self.tried.insert(thing, Tried { pause, next_at: now.after(pause) });
    }

    /// Forgets what is not open any more.
    fn keep(&mut self, work: &Work) {
        let payments = work.payments.iter().map(|it| Thing::Payment(it.payment.id));
        let refunds = work.refunds.iter().map(|refund| Thing::Refund(refund.id));
        let expected = work.expected.iter().map(|it| Thing::Match(it.payment.id));
        let open: BTreeSet<_> = payments.chain(refunds).chain(expected).collect();
        self.tried.retain(|thing, _| open.contains(thing));
    }
}

/// Whether the answer of a payment will not come, and where its money goes then. Pure.
fn make_up(
    unfinished: &Unfinished,
    rules: Option<&'static RailRules>,
    now: Timestamp,
) -> Option<Way> {
    let Unfinished { payment, open, .. } = unfinished;
    let expired = payment.expires_at <= now;
    let is_over = match (open, payment.terms.remedy) {
        (_, Remedy::Review) => false,
        // What may have been done must not be done again: waiting changes nothing.
        (Open::Interrupted, _) => expired || !payment.terms.repeatable,
        (Open::Failed, Remedy::Refund | Remedy::Credit) => true,
        (_, Remedy::Redeliver | Remedy::Refund | Remedy::Credit) => expired,
    };
    let can_go_back = rules.is_some_and(|rules| rules.refunds != Refunds::Never);
    let way = match payment.terms.remedy {
        Remedy::Redeliver | Remedy::Refund | Remedy::Review if can_go_back => Way::Back,
        Remedy::Redeliver | Remedy::Refund | Remedy::Review | Remedy::Credit => Way::Credit,
    };
    is_over.then_some(way)
}

/// What a rail's answer means for a payment. Pure.
#[must_use]
pub fn conclude(
    answer: Result<Settled, SettleError>,
    payment: &Payment,
    now: Timestamp,
) -> Conclusion {
    match answer {
        Ok(settled) => Conclusion::Post(settled),
        Err(SettleError::Declined) => Conclusion::Void(VoidReason::Declined),
        // Nothing was sent, and nobody can present the credential any more.
        Err(SettleError::Unsent) if payment.expires_at <= now => {
            Conclusion::Void(VoidReason::Expired)
        }
        Err(SettleError::Unsent | SettleError::Unknown) => Conclusion::Leave,
    }
}

/// What a step came to.
enum Came {
    Posted,
    Voided,
    Refunded,
    Concluded,
    Matched,
    Missing,
    ToNothing,
    Refused(PaymentId, RefundRefusal),
    /// Somebody else is at it, or was before.
    Elsewhere,
}

impl Till {
    /// Does what is due of everything that is open. One such call at a time.
    ///
    /// # Idempotency
    ///
    /// Each step can be taken any number of times, in any process: a payment is posted, voided and given
    /// back once.
    pub async fn recover(&self, recovery: &mut Recovery, now: Timestamp) -> Recovered {
        let mut recovered = Recovered::default();
        let Ok(work) = self.store.work().await else { return recovered };
        recovery.keep(&work);
        let rules = |method: &str| self.rail(method).ok().map(crate::Rail::rules);
        for step in recovery.plan(&work, rules, now) {
            let count = match self.take(&step, &recovery.limits, now).await {
                Came::Refused(payment, refusal) => {
                    recovered.owed.push((payment, refusal));
                    recovery.tried_in_vain(step.thing(), now);
                    &mut recovered.open
                }
                Came::Posted => &mut recovered.posted,
                Came::Voided => &mut recovered.voided,
                Came::Refunded => &mut recovered.refunded,
                Came::Concluded => &mut recovered.concluded,
                Came::Matched => &mut recovered.matched,
                Came::Missing => {
                    recovery.tried_in_vain(step.thing(), now);
                    &mut recovered.missing
                }
                Came::ToNothing => {
                    recovery.tried_in_vain(step.thing(), now);
                    &mut recovered.open
                }
                Came::Elsewhere => continue,
            };
            *count = count.saturating_add(1);
        }
        recovered
    }

    async fn take(&self, step: &Step<'_>, limits: &RefundLimits, now: Timestamp) -> Came {
        match step {
            Step::FindOut(payment) => self.find_out(payment, now).await,
            Step::Release(payment) => self.release(payment, now).await,
            Step::Grant(payment) => match self.granted(payment.id, now).await {
                Ok(()) => Came::Posted,
                Err(_) => Came::ToNothing,
            },
            Step::MakeUp(unfinished, way) => {
                let Unfinished { payment, open, from, left, refunds_voided } = unfinished;
                let order = Order {
                    payment,
                    from: from.as_ref(),
                    amount: Amount::new(payment.amount.asset().clone(), *left),
                    way: *way,
                    reference: &format!("remedy {}", refunds_voided.saturating_add(1)),
                    reason: reason(*open),
                    // Since the look, somebody may have come again for the answer, and been given it.
                    only_if_owed: true,
                };
                match self.order(&order, limits, now).await {
                    Ok(_) => Came::Refunded,
                    Err(RefundRefusal::InProgress) => Came::Elsewhere,
                    Err(refusal) => Came::Refused(payment.id, refusal),
                }
            }
            Step::Conclude(payment) => {
                let outcome = Outcome { status: 200 };
                match self.store.record_delivery(payment.id, outcome, None, now).await {
                    Ok(()) => Came::Concluded,
                    Err(_) => Came::ToNothing,
                }
            }
            Step::Send(refund) => self.send(refund, now).await,
            Step::Match(expected) => self.hold_against(expected, now).await,
        }
    }

    /// Asks the rail about one payment and writes down what it says.
    async fn find_out(&self, payment: &Payment, now: Timestamp) -> Came {
        // A rail that is not configured any more cannot be asked.
        let Ok(rail) = self.rail(&payment.method) else { return Came::ToNothing };
        let Some(right) = books::take_up(&self.store, payment.id).await else {
            return Came::Elsewhere;
        };
        let written = match conclude(rail.inquire(payment).await, payment, now) {
            Conclusion::Post(settled) => {
                books::found(&self.store, right, settled, now).await.map(|()| Came::Posted)
            }
            Conclusion::Void(reason) => {
                self.store.void(payment.id, reason, now).await.map(|()| Came::Voided)
            }
            Conclusion::Leave => Ok(Came::ToNothing),
        };
        written.unwrap_or(Came::ToNothing)
    }

    /// Gives up what was held for a handler that has stopped; unless another one has begun since, which is
    /// to be paid for.
    async fn release(&self, payment: &Payment, now: Timestamp) -> Came {
        let Some(right) = books::take_up(&self.store, payment.id).await else {
            return Came::Elsewhere;
        };
        let voided = self.store.void(right.payment(), VoidReason::Interrupted, now).await;
        voided.map_or(Came::ToNothing, |()| Came::Voided)
    }

    /// Carries a refund's order out, and writes down what came of it.
    async fn send(&self, refund: &Refund, now: Timestamp) -> Came {
        let Ok(rail) = self.rail(&refund.method) else { return Came::ToNothing };
        let written = match rail.refund(refund).await {
            Ok(settled) => {
                let settlement = settled.written(now);
                let posted = self.store.post_refund(refund.payment, refund.id, settlement, now);
                posted.await.map(|()| Came::Refunded)
            }
            Err(SettleError::Declined) => {
                let voided = self.store.void_refund(refund.payment, refund.id, now);
                voided.await.map(|()| Came::Voided)
            }
            Err(SettleError::Unsent | SettleError::Unknown) => Ok(Came::ToNothing),
        };
        written.unwrap_or(Came::ToNothing)
    }

    /// Carries out the order of a refund that was just made, so that whoever asked for it hears of it.
    pub(crate) async fn send_now(&self, refund: &Refund, now: Timestamp) {
        // What comes to nothing now is tried again by recovery.
        let _ = self.send(refund, now).await;
    }

    /// Asks the rail about a payment once more, and writes down whether it says what the book says.
    async fn hold_against(&self, expected: &Expected, now: Timestamp) -> Came {
        let payment = &expected.payment;
        let Ok(rail) = self.rail(&payment.method) else { return Came::ToNothing };
        let (finding, came) = match rail.inquire(payment).await {
            Ok(settled) if settled.reference == expected.reference => {
                (Finding::Matched, Came::Matched)
            }
            Ok(Settled { reference, .. }) => (Finding::OtherReference { reference }, Came::Missing),
            Err(SettleError::Declined) => (Finding::Missing, Came::Missing),
            Err(SettleError::Unsent | SettleError::Unknown) => return Came::ToNothing,
        };
        match self.store.reconcile(payment.id, finding, now).await {
            Ok(()) => came,
            Err(_) => Came::ToNothing,
        }
    }
}

/// Why money is given back by itself, for people.
const fn reason(open: Open) -> &'static str {
    match open {
        Open::Failed => "the handler failed",
        Open::Interrupted => "the delivery was interrupted",
        Open::Owed
        | Open::Settling
        | Open::Unsettled
        | Open::Abandoned
        | Open::Delivering
        | Open::Refunding
        | Open::Given => "nobody asked for the answer again",
    }
}

/// A payment that is not finished, for people: where it hangs, and what happens next.
#[must_use]
pub fn explain(unfinished: &Unfinished, assets: &Assets, now: Timestamp) -> String {
    let Unfinished { payment, open, .. } = unfinished;
    let amount = assets.print(&payment.amount);
    let of = format!("{amount} for {} from {}", payment.route, payment.payer);
    let method = &payment.method;
    let in_time = payment.expires_at > now;
    let until = payment.expires_at;
    let remedy = payment.terms.remedy;
    let then = match remedy {
        Remedy::Redeliver | Remedy::Refund => {
            "A running gateway gives the money back, or credits it where the rail cannot."
        }
        Remedy::Credit => "A running gateway credits the payer.",
        Remedy::Review => {
            "The route leaves it to a person: give it back with `farthing refund`, or note what was \
             done otherwise."
        }
    };
    match open {
        Open::Settling => format!("{of} is being settled on {method}."),
        Open::Unsettled => format!(
            "{of}: nobody knows whether its money moved on {method}. A running gateway asks the rail \
             again, at least once a minute, and posts or voids it by what it says."
        ),
        Open::Abandoned => format!(
            "{of} was held for a handler that has stopped. Nobody was paid; a running gateway gives \
             the hold up."
        ),
        Open::Delivering => format!("{of} was paid and is being answered."),
        Open::Failed if matches!(remedy, Remedy::Refund | Remedy::Credit) => {
            format!("{of} was paid, and its handler failed. {then}")
        }
        Open::Owed | Open::Failed if in_time => format!(
            "{of} was paid and its answer is owed. The same credential is answered until {until}."
        ),
        Open::Owed | Open::Failed => format!(
            "{of} was paid, its answer is owed, and its credential expired at {until}: nobody can ask \
             for it any more. {then}"
        ),
        Open::Interrupted if payment.terms.repeatable && in_time => format!(
            "{of} was paid, and a crash interrupted its delivery. It may happen twice: the same \
             credential is answered until {until}."
        ),
        Open::Interrupted => format!(
            "{of} was paid, and a crash interrupted its delivery, so that it may have been carried \
             out. It is not begun again. {then}"
        ),
        Open::Refunding => format!("{of} was paid, and its money is on its way back."),
        Open::Given => format!(
            "{of} was paid for as its answer was given, and a crash broke it off: it was given as far \
             as it was paid for. A running gateway notes that."
        ),
    }
}

/// A refund that the rail has not confirmed, for people.
#[must_use]
pub fn explain_refund(refund: &Refund, assets: &Assets) -> String {
    format!(
        "{} on its way back to {} on {}: {}. A running gateway sends it, or finds out whether it was \
         sent, at least once a minute.",
        assets.print(&refund.amount),
        refund.payer,
        refund.method,
        refund.reason,
    )
}

/// A payment that the rail has disowned, for people; nothing for one that is only to be confirmed.
#[must_use]
pub fn explain_missing(expected: &Expected, assets: &Assets) -> Option<String> {
    let Expected { payment, reference, is_missing, .. } = expected;
    is_missing.then(|| {
        format!(
            "{} for {} from {} was settled on {} as {reference}, and the rail does not know it any \
             more, or by another name. What was delivered stays delivered. Look into it, and note \
             what you found with `farthing payments resolve {} --note TEXT`; a running gateway goes on \
             asking.",
            assets.print(&payment.amount),
            payment.route,
            payment.payer,
            payment.method,
            payment.trace,
        )
    })
}
