//! What a record of the journal tells of a session.

use farthing_ledger::{
    Account, AccountKind, ChannelEvent, ChannelFacts, ChannelId, Event, Phase, Record, Settlement,
};
use farthing_money::{Amount, Assets};
use serde_json::{Map, Value, json};

use super::event::{EventKind, amount, members};

/// Where a session stands, by its own records: what was paid in it are payments of their own.
struct Session<'a> {
    facts: &'a ChannelFacts,
    state: &'static str,
    deposit: u128,
    pending: u128,
    settled: u128,
    returned: u128,
}

/// What kind of event a step of a session is; none for what happens with each payment.
pub(super) const fn kind(step: &ChannelEvent) -> Option<EventKind> {
    Some(match step {
        ChannelEvent::Opened { .. } => EventKind::SessionOpened,
        ChannelEvent::ToppedUp { .. } => EventKind::SessionToppedUp,
        ChannelEvent::Confirmed { .. } => EventKind::SessionDepositConfirmed,
        ChannelEvent::Abandoned => EventKind::SessionDepositAbandoned,
        ChannelEvent::CloseRequested { .. } => EventKind::SessionCloseRequested,
        ChannelEvent::CloseCancelled => EventKind::SessionCloseCancelled,
        ChannelEvent::CloseOverdue => EventKind::SessionCloseOverdue,
        ChannelEvent::Settled { .. } => EventKind::SessionSettled,
        ChannelEvent::Closing { .. } => EventKind::SessionClosing,
        ChannelEvent::Closed { .. } => EventKind::SessionClosed,
        ChannelEvent::Vouched { .. }
        | ChannelEvent::Took { .. }
        | ChannelEvent::Returned { .. } => return None,
    })
}

/// Tells what `step`, which the last of `records` took, says of the session whose story they are.
pub(super) fn tell(
    records: &[Record],
    step: &ChannelEvent,
    assets: &Assets,
) -> Option<Map<String, Value>> {
    let session = Session::of(records)?;
    let record = records.last()?;
    let Session { facts, .. } = &session;
    let print = |atoms| amount(&Amount::new(facts.asset.clone(), atoms), assets);
    let mut data = members([
        ("trace", json!(facts.trace)),
        ("session", json!(facts.id)),
        ("method", json!(facts.id.method())),
        ("payer", json!(facts.payer)),
        ("payee", json!(facts.payee)),
        ("seq", json!(record.seq)),
        ("standing", json!(session.state)),
        ("deposit", print(session.deposit)),
        ("pending", print(session.pending)),
        ("settled", print(session.settled)),
        ("returned", print(session.returned)),
    ]);
    data.extend(particulars(step, assets));
    Some(data)
}

/// What only this event says.
fn particulars(step: &ChannelEvent, assets: &Assets) -> Map<String, Value> {
    let by = |settlement: Option<&Settlement>| {
        let cost = settlement.and_then(|it| it.cost.as_ref());
        members([
            ("reference", json!(settlement.map(|it| &it.reference))),
            ("cost", cost.map_or(Value::Null, |it| amount(it, assets))),
        ])
    };
    match step {
        ChannelEvent::Confirmed { settlement } => by(Some(settlement)),
        ChannelEvent::Settled { settlement, .. } | ChannelEvent::Closed { settlement, .. } => {
            by(settlement.as_ref())
        }
        ChannelEvent::CloseRequested { until } => members([("until", json!(until.to_string()))]),
        ChannelEvent::Opened { .. }
        | ChannelEvent::ToppedUp { .. }
        | ChannelEvent::Abandoned
        | ChannelEvent::CloseCancelled
        | ChannelEvent::CloseOverdue
        | ChannelEvent::Closing { .. }
        | ChannelEvent::Vouched { .. }
        | ChannelEvent::Took { .. }
        | ChannelEvent::Returned { .. } => Map::new(),
    }
}

impl<'a> Session<'a> {
    /// Follows a session's records from its opening on.
    fn of(records: &'a [Record]) -> Option<Self> {
        let opened = |record: &'a Record| {
            let Event::Channel { step, .. } = &record.event else { return None };
            if let ChannelEvent::Opened { facts, .. } = step { Some(&**facts) } else { None }
        };
        let facts = records.iter().find_map(opened)?;
        let (deposit, pending, settled, returned) = (0, 0, 0, 0);
        let mut session = Session { facts, state: "open", deposit, pending, settled, returned };
        for record in records {
            if let Event::Channel { channel, step } = &record.event
                && *channel == facts.id
            {
                session.follow(step, record);
            }
        }
        Some(session)
    }

    fn follow(&mut self, step: &ChannelEvent, record: &Record) {
        let id = &self.facts.id;
        let sum = |atoms: &mut dyn Iterator<Item = u128>| atoms.fold(0, u128::saturating_add);
        let into = record.transfers.iter().filter(|it| is_of(&it.credit, id));
        match step {
            ChannelEvent::Opened { .. } | ChannelEvent::ToppedUp { .. } => {
                let waits = into.clone().any(|it| it.phase == Phase::Pending);
                let atoms = sum(&mut into.map(|it| it.atoms));
                let total = if waits { &mut self.pending } else { &mut self.deposit };
                *total = total.saturating_add(atoms);
                if waits && matches!(step, ChannelEvent::Opened { .. }) {
                    self.state = "opening";
                }
            }
            ChannelEvent::Confirmed { .. } => {
                self.deposit = self.deposit.saturating_add(std::mem::take(&mut self.pending));
                if self.state == "opening" {
                    self.state = "open";
                }
            }
            ChannelEvent::Abandoned => {
                self.pending = 0;
                if self.state == "opening" {
                    self.state = "closed";
                }
            }
            ChannelEvent::CloseRequested { .. } => self.state = "close_requested",
            ChannelEvent::CloseCancelled => self.state = "open",
            ChannelEvent::Settled { settled, .. } => self.settled = *settled,
            ChannelEvent::Closing { .. } => self.state = "closing",
            ChannelEvent::Closed { settled, .. } => {
                (self.state, self.settled) = ("closed", *settled);
                let back = record.transfers.iter().filter(|it| is_of(&it.debit, id));
                self.returned = sum(&mut back.map(|it| it.atoms));
            }
            ChannelEvent::CloseOverdue
            | ChannelEvent::Vouched { .. }
            | ChannelEvent::Took { .. }
            | ChannelEvent::Returned { .. } => {}
        }
    }
}

fn is_of(account: &Account, id: &ChannelId) -> bool {
    account.kind == AccountKind::Channel && ChannelId::of(account).as_ref() == Some(id)
}
