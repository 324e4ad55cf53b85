use std::collections::BTreeSet;

use farthing_ledger::{Event, Outcome, PaymentId, Record, TraceId};
use farthing_money::Timestamp;

use super::{EventId, EventKind};
use crate::webhooks::LastPlace;

#[test]
fn patterns_name_kinds() {
    let named = |pattern: &str| {
        EventKind::named(pattern).into_iter().map(EventKind::name).collect::<Vec<_>>()
    };
    assert_eq!(named("*").len(), EventKind::ALL.len());
    assert_eq!(named("refund.*"), ["refund.ordered", "refund.settled", "refund.voided"]);
    assert_eq!(named("payment.settled"), ["payment.settled"]);
    for nothing in ["", "payment", "payment*", "payment.", "pay*", "PAYMENT.*", "*.settled"] {
        assert_eq!(named(nothing), [""; 0], "{nothing}");
    }
    let distinct: BTreeSet<_> = EventKind::ALL.map(EventKind::name).into();
    assert_eq!(distinct.len(), EventKind::ALL.len());
}

fn record(seq: u64, trace: u128) -> Record {
    let payment: PaymentId = format!("pay_{trace:032x}").parse().unwrap();
    let event = Event::Delivered { payment, outcome: Outcome { status: 200 }, kept: None };
    let trace = Some(TraceId::from_bytes(trace.to_be_bytes()));
    Record { seq, at: Timestamp::default(), trace, event, transfers: Vec::new() }
}

/// A name is the same for the same event, another for any other, and says where the event stands.
#[test]
fn a_name_is_derived_and_read_back() {
    let id = EventId::of(&record(17, 5));
    assert_eq!(id.to_string(), EventId::of(&record(17, 5)).to_string());
    assert_ne!(id, EventId::of(&record(18, 5)));
    assert_ne!(id, EventId::of(&record(17, 6)), "another book");
    let text = id.to_string();
    assert!(text.starts_with("evt_17_") && !text.contains('.'), "{text}");
    assert_eq!(text.parse(), Ok(id));
    for odd in ["", "evt_17", "evt_x_00", "evt_17_0", &text.to_uppercase(), &text[1..]] {
        assert!(odd.parse::<EventId>().is_err(), "{odd}");
    }
}

#[test]
fn the_last_place_is_found_in_few_steps() {
    for last in (0..70).chain([1_000_000, 12_345_678_901]) {
        for known in [0, last / 2, last] {
            let mut search = LastPlace::from(known);
            let mut steps = 0;
            while let Ok(place) = search.next() {
                search.learn(place, place <= last);
                steps += 1;
            }
            assert_eq!(search.next(), Err(last), "from {known}");
            assert!(steps <= 70, "{steps}");
        }
    }
}
