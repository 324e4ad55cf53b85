//! What a record of the journal is to those who are told of it.

use std::fmt;
use std::str::FromStr;

use farthing_ledger::{
    Event, Finding, Fingerprint, Payment, Record, Refund, RefundId, Settlement, Story,
    SubscriptionEvent, VoidReason,
};
use farthing_money::{Amount, Assets};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::session;

#[cfg(test)]
mod tests;

/// The version of what events say. It changes when a member is taken away or means something else.
const VERSION: u8 = 1;

/// What can be told of a payment, or of a session. One record of the journal is at most one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// Its money is held: the rail has not spoken, or the handler has not succeeded yet.
    PaymentHeld,
    /// Its money moved.
    PaymentSettled,
    /// Its money did not move and never will.
    PaymentVoided,
    /// The rail says what the book says.
    PaymentMatched,
    /// The rail does not know it any more, or by another reference.
    PaymentMissing,
    /// A person has looked into it.
    PaymentResolved,
    /// The answer was given.
    DeliverySucceeded,
    /// The handler failed; the answer is still owed.
    DeliveryFailed,
    /// A refund was ordered; the rail has not spoken.
    RefundOrdered,
    /// A refund's money moved.
    RefundSettled,
    /// A refund's money did not move and never will.
    RefundVoided,
    /// What was earned is not to be paid out for now.
    PayoutHeld,
    /// What was earned may be paid out again.
    PayoutReleased,
    /// What was earned was paid out.
    PayoutPaid,
    /// A session was opened, or is being opened where the rail has not confirmed its deposit.
    SessionOpened,
    /// More was deposited, or is on its way.
    SessionToppedUp,
    /// The rail has confirmed the deposit that was on its way.
    SessionDepositConfirmed,
    /// The deposit that was on its way will not come.
    SessionDepositAbandoned,
    /// The payer has asked the rail to close.
    SessionCloseRequested,
    /// The payer has thought better of it.
    SessionCloseCancelled,
    /// It is to be closed and is not, and time is running out.
    SessionCloseOverdue,
    /// What was taken was settled on the rail.
    SessionSettled,
    /// It is being closed.
    SessionClosing,
    /// It was closed, and what was left was given back.
    SessionClosed,
    /// A subscription was begun; its first charge is still to come.
    SubscriptionBegun,
    /// A period of a subscription was not paid for.
    SubscriptionPastDue,
    /// A subscription is not charged any more.
    SubscriptionCancelled,
    /// A subscription is over.
    SubscriptionEnded,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 28] = [
        Self::PaymentHeld,
        Self::PaymentSettled,
        Self::PaymentVoided,
        Self::PaymentMatched,
        Self::PaymentMissing,
        Self::PaymentResolved,
        Self::DeliverySucceeded,
        Self::DeliveryFailed,
        Self::RefundOrdered,
        Self::RefundSettled,
        Self::RefundVoided,
        Self::PayoutHeld,
        Self::PayoutReleased,
        Self::PayoutPaid,
        Self::SessionOpened,
        Self::SessionToppedUp,
        Self::SessionDepositConfirmed,
        Self::SessionDepositAbandoned,
        Self::SessionCloseRequested,
        Self::SessionCloseCancelled,
        Self::SessionCloseOverdue,
        Self::SessionSettled,
        Self::SessionClosing,
        Self::SessionClosed,
        Self::SubscriptionBegun,
        Self::SubscriptionPastDue,
        Self::SubscriptionCancelled,
        Self::SubscriptionEnded,
    ];

    /// Its name, as events and configurations write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PaymentHeld => "payment.held",
            Self::PaymentSettled => "payment.settled",
            Self::PaymentVoided => "payment.voided",
            Self::PaymentMatched => "payment.matched",
            Self::PaymentMissing => "payment.missing",
            Self::PaymentResolved => "payment.resolved",
            Self::DeliverySucceeded => "delivery.succeeded",
            Self::DeliveryFailed => "delivery.failed",
            Self::RefundOrdered => "refund.ordered",
            Self::RefundSettled => "refund.settled",
            Self::RefundVoided => "refund.voided",
            Self::PayoutHeld => "payout.held",
            Self::PayoutReleased => "payout.released",
            Self::PayoutPaid => "payout.paid",
            Self::SessionOpened => "session.opened",
            Self::SessionToppedUp => "session.topped_up",
            Self::SessionDepositConfirmed => "session.deposit_confirmed",
            Self::SessionDepositAbandoned => "session.deposit_abandoned",
            Self::SessionCloseRequested => "session.close_requested",
            Self::SessionCloseCancelled => "session.close_cancelled",
            Self::SessionCloseOverdue => "session.close_overdue",
            Self::SessionSettled => "session.settled",
            Self::SessionClosing => "session.closing",
            Self::SessionClosed => "session.closed",
            Self::SubscriptionBegun => "subscription.begun",
            Self::SubscriptionPastDue => "subscription.past_due",
            Self::SubscriptionCancelled => "subscription.cancelled",
            Self::SubscriptionEnded => "subscription.ended",
        }
    }

    /// The kinds that a pattern names: `*`, `refund.*`, `payment.settled`. None if it names none.
    pub(crate) fn named(pattern: &str) -> Vec<Self> {
        let stem = pattern.strip_suffix('*').filter(|stem| stem.is_empty() || stem.ends_with('.'));
        let fits = |kind: &Self| match stem {
            Some(stem) => kind.name().starts_with(stem),
            None => kind.name() == pattern,
        };
        Self::ALL.into_iter().filter(fits).collect()
    }

    /// What a record tells, if it tells something about a payment or a session.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Claimed { settlement: None, .. } => Self::PaymentHeld,
            Event::Claimed { settlement: Some(_), .. } | Event::Posted { .. } => {
                Self::PaymentSettled
            }
            Event::Voided { .. } => Self::PaymentVoided,
            Event::Failed { .. } => Self::DeliveryFailed,
            Event::Delivered { .. } => Self::DeliverySucceeded,
            Event::Refunded { settlement: None, .. } => Self::RefundOrdered,
            Event::Refunded { settlement: Some(_), .. } | Event::RefundPosted { .. } => {
                Self::RefundSettled
            }
            Event::RefundVoided { .. } => Self::RefundVoided,
            Event::Reconciled { finding, .. } => match finding {
                Finding::Matched => Self::PaymentMatched,
                Finding::Missing | Finding::OtherReference { .. } => Self::PaymentMissing,
                Finding::Resolved { .. } => Self::PaymentResolved,
            },
            Event::PayoutHeld { .. } => Self::PayoutHeld,
            Event::PayoutReleased { .. } => Self::PayoutReleased,
            Event::PaidOut { .. } => Self::PayoutPaid,
            Event::Channel { step, .. } => return session::kind(step),
            Event::Subscription { step, .. } => match step {
                SubscriptionEvent::Opened { .. } => Self::SubscriptionBegun,
                SubscriptionEvent::Failed { .. } => Self::SubscriptionPastDue,
                SubscriptionEvent::Cancelled { .. } => Self::SubscriptionCancelled,
                SubscriptionEvent::Ended { .. } => Self::SubscriptionEnded,
            },
            Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::Resumed { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => return None,
        })
    }
}

/// Names one event, the same however often it is told, so that receivers can tell what they have.
///
/// Written `evt_17_` and 32 hexadecimal digits: the record's place, and what no other book says at
/// this place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The record's place in the journal.
    pub seq: u64,
    digits: String,
}

impl EventId {
    /// The name of what `record` tells.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        // A trace is random: two books, or two lives of one that was restored, share no name.
        let trace = record.trace.map(farthing_ledger::TraceId::to_bytes).unwrap_or_default();
        let parts: [&[u8]; 2] = [&trace, &record.seq.to_be_bytes()];
        let mut digits = Fingerprint::of("webhook event", &parts).to_string();
        digits.truncate(32);
        Self { seq: record.seq, digits }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{}_{}", self.seq, self.digits)
    }
}

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let parts = text.strip_prefix("evt_").and_then(|rest| rest.split_once('_'));
        let (seq, digits) = parts.ok_or(ParseEventIdError)?;
        let is_hex = digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        if digits.len() != 32 || !is_hex {
            return Err(ParseEventIdError);
        }
        let seq = seq.parse().map_err(|_| ParseEventIdError)?;
        Ok(Self { seq, digits: digits.to_owned() })
    }
}

/// A text is not the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is named like evt_17_ and 32 hexadecimal digits")]
pub struct ParseEventIdError;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    version: u8,
    timestamp: String,
    data: &'a Map<String, Value>,
}

/// An event, as it is sent: the same bytes however often it is.
pub(super) struct Told {
    pub(super) id: EventId,
    pub(super) body: String,
}

/// Tells what the record at `seq` says of the payment or the session whose story `records` are: the facts,
/// and where it stood right after it. Nothing secret stands in a book, and nothing but these members is
/// said.
pub(super) fn tell(records: &[Record], seq: u64, assets: &Assets) -> Option<Told> {
    let until = records.partition_point(|record| record.seq <= seq);
    let records = records.get(..until)?;
    let record = records.last().filter(|record| record.seq == seq)?;
    let kind = EventKind::of(&record.event)?;
    let data = if let Event::Channel { step, .. } = &record.event {
        session::tell(records, step, assets)?
    } else if let Event::Subscription { step, .. } = &record.event {
        subscribed(record, records, step, assets)?
    } else {
        of_payment(record, records, assets)?
    };
    let body =
        Body { kind: kind.name(), version: VERSION, timestamp: record.at.to_string(), data: &data };
    // In-memory data with string keys always serialises.
    Some(Told { id: EventId::of(record), body: serde_json::to_string(&body).unwrap_or_default() })
}

fn of_payment(record: &Record, records: &[Record], assets: &Assets) -> Option<Map<String, Value>> {
    let story = Story::tell(records)?;
    let mut data = facts(&story.payment, assets);
    data.insert("seq".into(), json!(record.seq));
    data.insert("standing".into(), json!(story.lifecycle));
    let settlement = records.iter().find_map(settlement_of);
    data.insert("reference".into(), json!(settlement.map(|it| &it.reference)));
    if let Some(part) = &story.payment.subscription {
        let is_charge = part.is_charge();
        let part = json!({ "id": part.id, "period": part.period, "charge": is_charge });
        data.insert("subscription".into(), part);
    }
    data.extend(particulars(record, records, assets));
    Some(data)
}

/// The facts of a subscription, which its first record tells, and what happened to it.
fn subscribed(
    record: &Record,
    records: &[Record],
    step: &SubscriptionEvent,
    assets: &Assets,
) -> Option<Map<String, Value>> {
    let opened = |record: &Record| {
        if let Event::Subscription { step: SubscriptionEvent::Opened { facts }, .. } = &record.event
        {
            return Some((**facts).clone());
        }
        None
    };
    let facts = records.iter().find_map(opened)?;
    let mut data = members([
        ("trace", json!(facts.trace)),
        ("seq", json!(record.seq)),
        ("subscription", json!({ "id": facts.id, "plan": facts.plan })),
        ("challenge", json!(facts.challenge)),
        ("route", json!(facts.route)),
        ("protocol", json!(facts.protocol)),
        ("method", json!(facts.method)),
        ("payer", json!(facts.payer)),
        ("payee", json!(facts.payee)),
        ("amount", amount(&facts.price(), assets)),
        ("period", json!(facts.period.to_string())),
        ("expires_at", json!(facts.expires_at.map(|it| it.to_string()))),
    ]);
    data.extend(match step {
        SubscriptionEvent::Opened { .. } => Map::new(),
        SubscriptionEvent::Failed { period, why, retry_at } => members([
            ("index", json!(period)),
            ("reason", json!(why)),
            ("retry_at", json!(retry_at.map(|it| it.to_string()))),
        ]),
        SubscriptionEvent::Cancelled { by } => members([("by", json!(by))]),
        SubscriptionEvent::Ended { why } => members([("reason", json!(why))]),
    });
    Some(data)
}

/// What stays the same in a payment's whole story.
fn facts(payment: &Payment, assets: &Assets) -> Map<String, Value> {
    members([
        ("trace", json!(payment.trace)),
        ("payment", json!(payment.id)),
        ("challenge", json!(payment.challenge)),
        ("route", json!(payment.route)),
        ("protocol", json!(payment.protocol)),
        ("method", json!(payment.method)),
        ("intent", json!(payment.intent)),
        ("payer", json!(payment.payer)),
        ("payee", json!(payment.payee)),
        ("amount", amount(&payment.amount, assets)),
    ])
}

/// What only this event says.
fn particulars(record: &Record, records: &[Record], assets: &Assets) -> Map<String, Value> {
    match &record.event {
        Event::Claimed { settlement: Some(settlement), .. } | Event::Posted { settlement, .. } => {
            members([
                ("settled_at", json!(settlement.settled_at.to_string())),
                ("cost", settlement.cost.as_ref().map_or(Value::Null, |it| amount(it, assets))),
            ])
        }
        Event::Voided { reason, .. } => members([("reason", json!(void_reason(*reason)))]),
        Event::Failed { outcome, .. } | Event::Delivered { outcome, .. } => {
            members([("status", json!(outcome.status))])
        }
        Event::Refunded { refund, settlement } => {
            members([("refund", refunded(refund, settlement.as_ref(), assets))])
        }
        Event::RefundPosted { refund, settlement, .. } => {
            let refund = ordered(records, *refund);
            let told = refund.map(|refund| refunded(refund, Some(settlement), assets));
            members([("refund", json!(told))])
        }
        Event::RefundVoided { refund, .. } => {
            let refund = ordered(records, *refund);
            members([("refund", json!(refund.map(|refund| refunded(refund, None, assets))))])
        }
        Event::Reconciled { finding, .. } => members([("finding", json!(finding))]),
        Event::PayoutHeld { reason, .. } | Event::PayoutReleased { reason, .. } => {
            members([("reason", json!(reason))])
        }
        Event::PaidOut { reference, .. } => {
            let paid = record.transfers.first();
            let paid = paid.map(|it| Amount::new(it.debit.asset.clone(), it.atoms));
            let paid = paid.map(|paid| amount(&paid, assets));
            members([("payout", json!({ "reference": reference, "amount": paid }))])
        }
        Event::Claimed { settlement: None, .. }
        | Event::Opened { .. }
        | Event::KeyAttached { .. }
        | Event::Resumed { .. }
        | Event::KeyDetached { .. }
        | Event::Channel { .. }
        | Event::Subscription { .. }
        | Event::Funded { .. }
        | Event::Owner { .. }
        | Event::Erased { .. } => Map::new(),
    }
}

const fn void_reason(reason: VoidReason) -> &'static str {
    match reason {
        VoidReason::Declined => "declined",
        VoidReason::Expired => "expired",
        VoidReason::Failed => "failed",
        VoidReason::Interrupted => "interrupted",
    }
}

fn refunded(refund: &Refund, settlement: Option<&Settlement>, assets: &Assets) -> Value {
    json!({
        "id": refund.id,
        "amount": amount(&refund.amount, assets),
        "way": refund.way,
        "order": refund.reference,
        "reason": refund.reason,
        "reference": settlement.map(|it| &it.reference),
    })
}

fn ordered(records: &[Record], id: RefundId) -> Option<&Refund> {
    records.iter().filter_map(refund_of).find(|refund| refund.id == id)
}

fn refund_of(record: &Record) -> Option<&Refund> {
    if let Event::Refunded { refund, .. } = &record.event { Some(refund) } else { None }
}

fn settlement_of(record: &Record) -> Option<&Settlement> {
    match record {
        Record {
            event:
                Event::Claimed { settlement: Some(settlement), .. } | Event::Posted { settlement, .. },
            ..
        } => Some(settlement),
        Record { .. } => None,
    }
}

/// An amount for machines and for people; atoms are text, since JSON's numbers lose digits.
pub(super) fn amount(amount: &Amount, assets: &Assets) -> Value {
    json!({
        "asset": amount.asset(),
        "atoms": amount.atoms().to_string(),
        "text": assets.print(amount),
    })
}

pub(super) fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
