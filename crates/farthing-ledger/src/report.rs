//! One payment, from its challenge to its delivery, as a person reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use farthing_money::{Assets, Timestamp};
use serde::Serialize;

use crate::{
    Account, AccountKind, ChannelEvent, Delivery, Event, Finding, Lifecycle, Matching, OwnerStep,
    Pay, Payment, Payout, Phase, Record, Ruling, SubscriptionEvent, TraceId, Transfer, TransferId,
    Way,
};

#[cfg(test)]
mod tests;

/// The story of one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Story {
    /// Its name.
    pub trace: TraceId,
    /// Where it stands.
    pub standing: StoryStanding,
    /// Where it stands in each respect.
    pub lifecycle: Lifecycle,
    /// What was claimed.
    pub payment: Payment,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Where a story stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoryStanding {
    /// Claimed, and the rail has not spoken, or the handler has not succeeded.
    Pending,
    /// Paid, and the answer is owed.
    Undelivered,
    /// Paid and answered.
    Delivered,
    /// Given up, and nothing was paid.
    Voided,
    /// Paid and given back, or on its way back.
    Refunded,
}

impl StoryStanding {
    const fn of(lifecycle: &Lifecycle) -> Self {
        match (lifecycle.pay, lifecycle.delivery) {
            (Pay::Held, _) => Self::Pending,
            (Pay::Voided, _) => Self::Voided,
            (Pay::Refunding | Pay::Refunded, _) => Self::Refunded,
            (Pay::Settled | Pay::PartlyRefunded, Delivery::Delivered) => Self::Delivered,
            (
                Pay::Settled | Pay::PartlyRefunded,
                Delivery::Awaited | Delivery::Owed | Delivery::Failed | Delivery::Compensated,
            ) => Self::Undelivered,
        }
    }
}

/// Where a payment stands, in a sentence.
fn sentence_of(lifecycle: &Lifecycle) -> String {
    let pay = match lifecycle.pay {
        Pay::Held => "pending: the rail has not said whether the money moved",
        Pay::Settled => "paid",
        Pay::Voided => "given up; nothing was paid",
        Pay::Refunding => "paid, and on its way back",
        Pay::PartlyRefunded => "paid and partly given back",
        Pay::Refunded => "paid and given back",
    };
    let delivery = match lifecycle.delivery {
        Delivery::Awaited | Delivery::Compensated => "",
        Delivery::Owed => ", and the answer is still owed",
        Delivery::Failed => ", and the answer is still owed: the handler failed",
        Delivery::Delivered if lifecycle.pay == Pay::Settled => " and delivered",
        Delivery::Delivered => "; it was delivered",
    };
    let matching = match lifecycle.matching {
        Matching::Internal | Matching::Expected | Matching::Matched => "",
        Matching::Missing => "; the rail does not know it any more",
        Matching::Resolved => "; the rail had disowned it, and somebody has looked into it",
    };
    let payout = match lifecycle.payout {
        Payout::Ineligible | Payout::Eligible => "",
        Payout::Held => "; its payout is held",
        Payout::Paid => "; paid out",
    };
    format!("{pay}{delivery}{matching}{payout}")
}

/// One thing that happened to a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// The journal's record; the challenge has none, since nothing is written for the unpaid.
    pub seq: Option<u64>,
    /// What, in a few words.
    pub what: String,
    /// The money that moved.
    pub transfers: Vec<Transfer>,
}

impl Story {
    /// Tells the story that `records` of one trace make, in the journal's order.
    ///
    /// Nothing if they do not contain a payment's claim.
    #[must_use]
    pub fn tell(records: &[Record]) -> Option<Self> {
        let payment = records.iter().find_map(claimed)?.clone();
        let challenged = Step {
            at: payment.trace.begins_at(),
            seq: None,
            what: format!("challenged: {} for {}", payment.challenge, payment.route),
            transfers: Vec::new(),
        };
        let steps = records.iter().map(|record| Step {
            at: record.at,
            seq: Some(record.seq),
            what: record.summary(),
            transfers: record.transfers.clone(),
        });
        let lifecycle = follow(&payment, records);
        Some(Self {
            trace: payment.trace,
            standing: StoryStanding::of(&lifecycle),
            lifecycle,
            steps: std::iter::once(challenged).chain(steps).collect(),
            payment,
        })
    }

    /// What the payee has earned with the payment and has not been paid out, in atoms of its asset: what
    /// was credited less what was given back.
    #[must_use]
    pub fn due(&self) -> u128 {
        let asset = self.payment.amount.asset().clone();
        let payable = Account::new(AccountKind::Payable, self.payment.payee.clone(), asset);
        let transfers = || self.steps.iter().flat_map(|step| &step.transfers);
        let finished: BTreeSet<TransferId> = transfers().filter_map(finishes).collect();
        let counts = |transfer: &&Transfer| match transfer.phase {
            Phase::Posted | Phase::Post(_) => true,
            // What is on its way back is not paid out.
            Phase::Pending => transfer.debit == payable && !finished.contains(&transfer.id),
            Phase::Void(_) => false,
        };
        let sum = |side: fn(&Transfer) -> &Account| {
            let of = transfers().filter(counts).filter(|it| *side(it) == payable);
            of.fold(0, |sum: u128, it| sum.saturating_add(it.atoms))
        };
        sum(|it| &it.credit).saturating_sub(sum(|it| &it.debit))
    }

    /// Where the money came from.
    #[must_use]
    pub fn from(&self) -> Option<&Account> {
        let first = self.steps.iter().find_map(|step| step.transfers.first());
        first.map(|transfer| &transfer.debit)
    }

    /// The story for people, with amounts as `assets` print them.
    #[must_use]
    pub fn print<'a>(&'a self, assets: &'a Assets) -> impl fmt::Display + 'a {
        Printed { story: self, assets }
    }
}

const fn finishes(transfer: &Transfer) -> Option<TransferId> {
    match transfer.phase {
        Phase::Post(pending) | Phase::Void(pending) => Some(pending),
        Phase::Posted | Phase::Pending => None,
    }
}

fn claimed(record: &Record) -> Option<&Payment> {
    if let Event::Claimed { payment, .. } = &record.event { Some(payment) } else { None }
}

/// Follows a payment through its records. A journal is audited before it is believed; here, what
/// cannot follow is passed over.
fn follow(payment: &Payment, records: &[Record]) -> Lifecycle {
    let mut refunds = BTreeMap::new();
    let mut lifecycle = Lifecycle::begin(payment, None);
    for record in records {
        if let Event::Claimed { settlement, .. } = &record.event {
            lifecycle = Lifecycle::begin(payment, settlement.as_ref());
            continue;
        }
        let refunded = match &record.event {
            Event::Refunded { refund, .. } => {
                refunds.insert(refund.id, refund.amount.atoms());
                refund.amount.atoms()
            }
            Event::RefundPosted { refund, .. } | Event::RefundVoided { refund, .. } => {
                refunds.get(refund).copied().unwrap_or_default()
            }
            // What was taken for this answer is paid as well.
            Event::Channel {
                step: ChannelEvent::Took { .. } | ChannelEvent::Returned { .. },
                ..
            } => record.transfers.iter().fold(0, |sum: u128, it| sum.saturating_add(it.atoms)),
            Event::Claimed { .. }
            | Event::Channel { .. }
            | Event::Subscription { .. }
            | Event::Opened { .. }
            | Event::KeyAttached { .. }
            | Event::KeyDetached { .. }
            | Event::Funded { .. }
            | Event::Posted { .. }
            | Event::Voided { .. }
            | Event::Failed { .. }
            | Event::Resumed { .. }
            | Event::Delivered { .. }
            | Event::Reconciled { .. }
            | Event::PayoutHeld { .. }
            | Event::PayoutReleased { .. }
            | Event::PaidOut { .. }
            | Event::Owner { .. }
            | Event::Erased { .. } => 0,
        };
        lifecycle = lifecycle.after(&record.event, refunded).unwrap_or(lifecycle);
    }
    lifecycle
}

pub(crate) fn sentence(event: &Event) -> String {
    match event {
        Event::Claimed { settlement: Some(settlement), .. } => {
            format!("claimed and posted, reference {}", settlement.reference)
        }
        Event::Claimed { settlement: None, .. } => "claimed, waiting for the rail".to_owned(),
        Event::Posted { settlement, .. } => format!("posted, reference {}", settlement.reference),
        Event::Voided { reason, .. } => format!("voided: {reason:?}").to_lowercase(),
        Event::Failed { outcome, .. } => {
            format!("failed with status {}, still owed", outcome.status)
        }
        Event::Resumed { .. } => "the answer is tried for again".to_owned(),
        Event::Delivered { outcome, .. } => format!("delivered with status {}", outcome.status),
        Event::Opened { epoch } => format!("book opened by writer {epoch}"),
        Event::KeyAttached { holder, .. } => format!("key attached to {holder}"),
        Event::KeyDetached { .. } => "key detached".to_owned(),
        Event::Funded { reference } => format!("funded, reference {reference}"),
        Event::Refunded { refund, settlement } => {
            let what = match (refund.way, settlement) {
                (Way::Credit, _) => "credited to the payer",
                (Way::Back, Some(_)) => "given back",
                (Way::Back, None) => "ordered back, waiting for the rail",
            };
            format!("{what}, reference {}: {}", refund.reference, refund.reason)
        }
        Event::RefundPosted { settlement, .. } => {
            format!("given back, reference {}", settlement.reference)
        }
        Event::RefundVoided { .. } => "not given back: the rail did not move it".to_owned(),
        Event::Reconciled { finding, .. } => match finding {
            Finding::Matched => "confirmed by the rail".to_owned(),
            Finding::Missing => "disowned by the rail".to_owned(),
            Finding::OtherReference { reference } => format!("known to the rail as {reference}"),
            Finding::Resolved { note } => format!("looked into: {note}"),
        },
        Event::PayoutHeld { reason, .. } => format!("payout held: {reason}"),
        Event::PayoutReleased { reason, .. } => format!("payout released: {reason}"),
        Event::PaidOut { reference, .. } => format!("paid out, reference {reference}"),
        Event::Erased { reason, rows, .. } => {
            format!("personal data erased in {} records: {reason}", rows.len())
        }
        Event::Channel { step, .. } => channel_sentence(step),
        Event::Owner { step } => owner_sentence(step),
        Event::Subscription { step, .. } => subscription_sentence(step),
    }
}

fn owner_sentence(step: &OwnerStep) -> String {
    let whom = |agent: &Option<String>| match agent {
        Some(agent) => format!("agent {agent}"),
        None => "everybody".to_owned(),
    };
    match step {
        OwnerStep::Decided(decided) => {
            let said = match decided.ruling {
                Ruling::Allowed => "allowed",
                Ruling::Asked => "to be asked for",
                Ruling::Denied => "denied",
            };
            format!("{said} to {}: {}", decided.agent, decided.rules.join(", "))
        }
        OwnerStep::Frozen { agent, reason } => format!("frozen for {}: {reason}", whom(agent)),
        OwnerStep::Thawed { agent, reason } => format!("thawed for {}: {reason}", whom(agent)),
    }
}

fn subscription_sentence(step: &SubscriptionEvent) -> String {
    match step {
        SubscriptionEvent::Opened { .. } => "subscription begun".to_owned(),
        SubscriptionEvent::Failed { period, retry_at: Some(at), .. } => {
            format!("period {period} not paid, tried again at {at}")
        }
        SubscriptionEvent::Failed { period, retry_at: None, .. } => {
            format!("period {period} not paid")
        }
        SubscriptionEvent::Cancelled { by } => {
            format!("subscription cancelled by {by:?}").to_lowercase()
        }
        SubscriptionEvent::Ended { why } => format!("subscription ended: {why:?}").to_lowercase(),
    }
}

fn channel_sentence(step: &ChannelEvent) -> String {
    match step {
        ChannelEvent::Opened { order: None, .. } => "session opened".to_owned(),
        ChannelEvent::Opened { order: Some(_), .. } => {
            "session is being opened, waiting for the rail".to_owned()
        }
        ChannelEvent::ToppedUp { order: None, .. } => "deposit topped up".to_owned(),
        ChannelEvent::ToppedUp { order: Some(_), .. } => {
            "deposit is being topped up, waiting for the rail".to_owned()
        }
        ChannelEvent::Confirmed { settlement } => {
            format!("deposit confirmed, reference {}", settlement.reference)
        }
        ChannelEvent::Abandoned => "deposit given up: the rail did not move it".to_owned(),
        ChannelEvent::Vouched { voucher } => format!("authorised {} in all", voucher.cumulative),
        ChannelEvent::Took { units, .. } => format!("{units} more units taken"),
        ChannelEvent::Returned { .. } => "given back, since it bought nothing".to_owned(),
        ChannelEvent::CloseRequested { until } => {
            format!("the payer has asked the rail to close, from {until} on")
        }
        ChannelEvent::CloseCancelled => "the payer has thought better of closing".to_owned(),
        ChannelEvent::CloseOverdue => "session is not closed yet, and time runs out".to_owned(),
        ChannelEvent::Settled { settled, settlement } => match settlement {
            Some(it) => format!("{settled} settled in all, reference {}", it.reference),
            None => format!("{settled} settled in all, as the rail says"),
        },
        ChannelEvent::Closing { .. } => "session is being closed".to_owned(),
        ChannelEvent::Closed { settled, settlement: None, .. } => {
            format!("session closed, {settled} settled in all")
        }
        ChannelEvent::Closed { settled, settlement: Some(it), .. } => {
            format!("session closed, {settled} settled in all, reference {}", it.reference)
        }
    }
}

struct Printed<'a> {
    story: &'a Story,
    assets: &'a Assets,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Story { trace, lifecycle, payment, steps, .. } = self.story;
        writeln!(f, "{trace}  {}", sentence_of(lifecycle))?;
        writeln!(f)?;
        for (name, value) in [
            ("payment", payment.id.to_string()),
            ("amount", self.assets.print(&payment.amount)),
            ("payer", payment.payer.clone()),
            ("payee", payment.payee.to_string()),
            ("for", payment.route.clone()),
            ("by", format!("{} {}/{}", payment.protocol, payment.method, payment.intent)),
            ("expires", payment.expires_at.to_string()),
        ] {
            writeln!(f, "  {name:<9}{value}")?;
        }
        writeln!(f)?;
        for step in steps {
            let seq = step.seq.map(|seq| format!("#{seq}")).unwrap_or_default();
            writeln!(f, "  {}  {seq:>6}  {}", millis(step.at), step.what)?;
            for transfer in &step.transfers {
                let amount =
                    farthing_money::Amount::new(transfer.debit.asset.clone(), transfer.atoms);
                let amount = self.assets.print(&amount);
                let phase = phase(transfer.phase);
                writeln!(
                    f,
                    "{:>38}debit  {:<32} {amount:>16}  {phase}",
                    "",
                    transfer.debit.to_string()
                )?;
                writeln!(f, "{:>38}credit {:<32} {amount:>16}", "", transfer.credit.to_string())?;
            }
        }
        Ok(())
    }
}

/// A moment with three decimals of its second, so that columns line up.
fn millis(at: Timestamp) -> String {
    let text = at.floor_to_millis().to_string();
    let whole = text.trim_end_matches('Z');
    let (second, fraction) = whole.split_once('.').unwrap_or((whole, ""));
    format!("{second}.{fraction:0<3}Z")
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Posted => "posted",
        Phase::Pending => "pending",
        Phase::Post(_) => "posts the pending transfer",
        Phase::Void(_) => "voids the pending transfer",
    }
}
