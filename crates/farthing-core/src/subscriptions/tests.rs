//! What is planned for subscriptions, and when.

use std::time::Duration;

use farthing_ledger::{
    Ending, Holder, InFlight, Money, PaymentId, Side, Source, SpendingKey, Subscription,
    SubscriptionFacts, SubscriptionId, SubscriptionState, TraceId,
};
use farthing_money::{AssetId, Timestamp};

use super::{Chore, Renewing};
use crate::Dunning;

const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

fn start() -> Timestamp {
    "2026-01-31T08:00:00Z".parse().unwrap()
}

fn after(secs: u64) -> Timestamp {
    start().after(Duration::from_secs(secs))
}

/// A subscription by the day whose first day is paid.
fn subscription(state: SubscriptionState) -> Subscription {
    let id = SubscriptionId::of("mpp", "a");
    Subscription {
        facts: SubscriptionFacts {
            id,
            trace: TraceId::new(start(), [1; 10]),
            protocol: "mpp".into(),
            method: "book".into(),
            challenge: "a".into(),
            offered_until: after(300),
            payer: "alice".into(),
            payee: Holder::new("seller").unwrap(),
            asset: AssetId::new("usd").unwrap(),
            atoms: 5,
            period: "1 day".parse().unwrap(),
            expires_at: None,
            plan: "plan".into(),
            route: "route".into(),
            from: Source::Key(SpendingKey([1; 32])),
            money: Money::Book,
            grant: None,
        },
        state,
        anchor: Some(start()),
        charged: Some(0),
        charges: 1,
        reference: Some("reference".into()),
        in_flight: None,
        attempts: 1,
        failures: 0,
        retry_at: None,
        past_due_since: None,
        opened_at: start(),
    }
}

fn past_due(retry_at: Option<Timestamp>) -> Subscription {
    Subscription {
        failures: 1,
        retry_at,
        past_due_since: Some(after(DAY)),
        ..subscription(SubscriptionState::PastDue)
    }
}

#[track_caller]
fn check(subscription: &Subscription, after_s: u64, planned: &str) {
    let renewing = Renewing::default();
    let all = [subscription.clone()];
    let chores = renewing.plan(&all, after(after_s));
    let words = chores.iter().map(|chore| match chore {
        Chore::Charge(_, period) => format!("charge {period}"),
        Chore::End(_, Ending::Declined) => "declined".into(),
        Chore::End(_, Ending::Lapsed) => "lapsed".into(),
        Chore::End(_, Ending::Expired) => "expired".into(),
        Chore::End(_, Ending::Cancelled) => "cancelled".into(),
    });
    assert_eq!(words.collect::<Vec<_>>().join(" "), planned, "{subscription:?} after {after_s} s");
}

/// SUB.S02: a period is charged once it has begun, and only the one that it is.
#[test]
fn a_period_is_charged_once_it_has_begun() {
    let active = subscription(SubscriptionState::Active);
    check(&active, DAY - 1, "");
    check(&active, DAY, "charge 1");
    check(&active, 5 * DAY + HOUR, "charge 5");
    let (payment, period) = (PaymentId::from_bytes([1; 16]), 1);
    let in_flight = Some(InFlight { payment, period });
    check(&Subscription { in_flight, ..active }, DAY, "");
}

#[test]
fn a_failed_charge_is_tried_again_when_it_is_due() {
    check(&past_due(Some(after(DAY + HOUR))), DAY + HOUR - 1, "");
    check(&past_due(Some(after(DAY + HOUR))), DAY + HOUR, "charge 1");
    check(&past_due(None), DAY + HOUR, "");
}

#[test]
fn whoever_is_past_due_for_too_long_is_out() {
    check(&past_due(Some(after(30 * DAY))), 8 * DAY - 1, "");
    check(&past_due(Some(after(30 * DAY))), 8 * DAY, "lapsed");
    check(&past_due(None), 8 * DAY, "lapsed");
}

/// SUB.S05: what is cancelled is not charged, and ends when what was paid for does.
#[test]
fn what_is_cancelled_ends_when_it_is_used_up() {
    let cancelled = subscription(SubscriptionState::Cancelled { by: Side::Payer });
    check(&cancelled, DAY - 1, "");
    check(&cancelled, DAY, "cancelled");
    check(&subscription(SubscriptionState::Ended { why: Ending::Cancelled }), DAY, "");
}

#[test]
fn what_has_expired_ends_in_whichever_state() {
    for state in [SubscriptionState::Active, SubscriptionState::PastDue] {
        let mut it = subscription(state);
        it.facts.expires_at = Some(after(3 * DAY));
        check(&it, 3 * DAY, "expired");
    }
    let opening = Subscription {
        anchor: None,
        charged: None,
        charges: 0,
        ..subscription(SubscriptionState::Opening)
    };
    check(&opening, 299, "");
    check(&opening, 300, "declined");
}

#[test]
fn retries_follow_the_sellers_schedule() {
    let dunning = Dunning::default();
    let at = |failures| dunning.retry_at(failures, start());
    assert_eq!(at(0), Some(after(HOUR)));
    assert_eq!(at(1), Some(after(DAY)));
    assert_eq!(at(2), Some(after(3 * DAY)));
    assert_eq!(at(3), None);
}
