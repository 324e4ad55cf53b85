//! One payment, from its challenge to its delivery, as a person reads it.

use std::fmt;

use farthing_money::{Assets, Timestamp};
use serde::Serialize;

use crate::{Event, Payment, Phase, Record, TraceId, Transfer};

#[cfg(test)]
mod tests;

/// The story of one payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Story {
    /// Its name.
    pub trace: TraceId,
    /// Where it stands.
    pub standing: StoryStanding,
    /// What was claimed.
    pub payment: Payment,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Where a story stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoryStanding {
    /// Claimed, and the rail has not spoken.
    Pending,
    /// Paid, and the answer is owed.
    Undelivered,
    /// Paid and answered.
    Delivered,
    /// Given up, and nothing was paid.
    Voided,
}

impl StoryStanding {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Pending => "pending: the rail has not said whether the money moved",
            Self::Undelivered => "paid, and the answer is still owed",
            Self::Delivered => "paid and delivered",
            Self::Voided => "given up; nothing was paid",
        }
    }
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
        Some(Self {
            trace: payment.trace,
            standing: standing(records),
            steps: std::iter::once(challenged).chain(steps).collect(),
            payment,
        })
    }

    /// The story for people, with amounts as `assets` print them.
    #[must_use]
    pub fn print<'a>(&'a self, assets: &'a Assets) -> impl fmt::Display + 'a {
        Printed { story: self, assets }
    }
}

fn claimed(record: &Record) -> Option<&Payment> {
    if let Event::Claimed { payment, .. } = &record.event { Some(payment) } else { None }
}

fn standing(records: &[Record]) -> StoryStanding {
    records.iter().fold(StoryStanding::Pending, |before, record| match &record.event {
        Event::Claimed { settlement: Some(_), .. }
        | Event::Posted { .. }
        | Event::Failed { .. } => StoryStanding::Undelivered,
        Event::Delivered { .. } => StoryStanding::Delivered,
        Event::Voided { .. } => StoryStanding::Voided,
        Event::Claimed { settlement: None, .. }
        | Event::Opened { .. }
        | Event::KeyAttached { .. }
        | Event::KeyDetached { .. }
        | Event::Funded { .. } => before,
    })
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
        Event::Delivered { outcome, .. } => format!("delivered with status {}", outcome.status),
        Event::Opened { epoch } => format!("book opened by writer {epoch}"),
        Event::KeyAttached { holder, .. } => format!("key attached to {holder}"),
        Event::KeyDetached { .. } => "key detached".to_owned(),
        Event::Funded { reference } => format!("funded, reference {reference}"),
    }
}

struct Printed<'a> {
    story: &'a Story,
    assets: &'a Assets,
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Story { trace, standing, payment, steps } = self.story;
        writeln!(f, "{trace}  {}", standing.sentence())?;
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
