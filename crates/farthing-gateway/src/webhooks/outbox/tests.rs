use std::collections::BTreeSet;
use std::time::Duration;

use farthing_ledger::{Event, Outcome, PaymentId, Record, TraceId};
use farthing_money::Timestamp;
use farthing_webhook::Retries;

use super::{Attempt, DEAD_MAX, Fault, OPEN_MAX, Outbox, Standing};
use crate::webhooks::EventKind;

const START: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

const NOTHING: [u64; 0] = [];

const DOWN: Attempt = Attempt::Failed(Fault::Status(503), None);

fn trace(name: u64) -> TraceId {
    TraceId::from_bytes(u128::from(name).to_be_bytes())
}

/// A delivery of the payment called `of`.
fn record(seq: u64, of: u64) -> Record {
    let payment: PaymentId = format!("pay_{of:032x}").parse().unwrap();
    let event = Event::Delivered { payment, outcome: Outcome { status: 200 }, kept: None };
    Record { seq, at: START, trace: Some(trace(of)), event, transfers: Vec::new() }
}

fn retries(attempts_max: u32) -> Retries {
    Retries { attempts_max, waits: vec![Duration::from_secs(10), Duration::from_mins(10)] }
}

fn wanted() -> BTreeSet<EventKind> {
    EventKind::ALL.into()
}

/// An outbox that has taken records up, each given by the payment it is about.
fn outbox(payments: &[u64]) -> Outbox {
    let mut outbox = Outbox::resume(&Standing::default(), &|_| None);
    for (seq, of) in (1..).zip(payments) {
        outbox.take_up(&record(seq, *of), &wanted(), START);
    }
    outbox
}

fn places(sent: Vec<(u64, Option<TraceId>)>) -> Vec<u64> {
    sent.into_iter().map(|(seq, _)| seq).collect()
}

/// Events of one payment are told one after the other, whatever becomes of others.
#[test]
fn one_payments_events_keep_their_order() {
    let mut outbox = outbox(&[7, 7, 8, 7, 9]);
    assert_eq!(places(outbox.send(10, START)), [1, 3, 5]);
    assert_eq!(places(outbox.send(10, START)), NOTHING, "what is being sent is not sent twice");
    outbox.ended(3, Attempt::Taken, &retries(5), 0, START);
    outbox.ended(1, DOWN, &retries(5), 0, START);
    assert_eq!(places(outbox.send(10, START)), NOTHING, "2 waits for 1");
    let later = START.after(Duration::from_secs(10));
    assert_eq!(outbox.next_at(), Some(later));
    assert_eq!(places(outbox.send(10, later)), [1]);
    outbox.ended(1, Attempt::Taken, &retries(5), 0, later);
    assert_eq!(places(outbox.send(10, later)), [2]);
    outbox.ended(2, Attempt::Taken, &retries(5), 0, later);
    assert_eq!(places(outbox.send(10, later)), [4]);
}

/// What was given up no longer holds up what follows, and comes back when it is asked for.
#[test]
fn used_up_attempts_are_a_dead_letter() {
    let mut outbox = outbox(&[7, 7]);
    assert_eq!(places(outbox.send(10, START)), [1]);
    assert!(!outbox.ended(1, DOWN, &retries(2), 0, START));
    let later = START.after(Duration::from_secs(10));
    assert_eq!(places(outbox.send(10, later)), [1]);
    assert!(outbox.ended(1, DOWN, &retries(2), 0, later), "the second attempt was the last");
    assert_eq!(places(outbox.send(10, later)), [2]);
    assert_eq!((outbox.open(), outbox.dead_seqs()), (1, vec![1]));
    outbox.again(1, Some(trace(7)), later);
    assert_eq!((outbox.open(), outbox.dead()), (2, 0));
    assert_eq!(places(outbox.send(10, later)), [1]);
    assert!(!outbox.ended(1, DOWN, &retries(2), 0, later), "its attempts begin anew");
}

/// Waits grow, jitter adds to them and never takes away, and an endpoint may ask for more.
#[test]
fn waits_grow() {
    let mut outbox = outbox(&[7]);
    let mut now = START;
    let waits =
        [(0, None, 10), (100, None, 660), (0, None, 600), (0, Some(900), 900), (0, Some(1), 600)];
    for (jitter, asked, expected_s) in waits {
        assert_eq!(places(outbox.send(1, now)), [1]);
        let attempt = Attempt::Failed(Fault::Timeout, asked.map(Duration::from_secs));
        outbox.ended(1, attempt, &retries(99), jitter, now);
        assert_eq!(outbox.next_at(), Some(now.after(Duration::from_secs(expected_s))));
        now = now.after(Duration::from_secs(expected_s));
    }
}

/// What was noted and read back is where it stood; what was being sent is sent again.
#[test]
fn a_note_says_all_of_it() {
    let mut before = outbox(&[7, 8, 9, 9]);
    before.send(10, START);
    before.ended(1, Attempt::Taken, &retries(1), 0, START);
    before.ended(2, DOWN, &retries(1), 0, START);
    let note = before.standing().to_note();
    let read: Standing = serde_json::from_str(&note).unwrap();
    assert_eq!(read, before.standing());
    let mut after = Outbox::resume(&read, &|_| Some(trace(9)));
    assert_eq!((after.cursor(), after.open(), after.dead_seqs()), (4, 2, vec![2]));
    assert_eq!(places(after.send(10, START)), [3]);
}

/// However long an endpoint is gone, a bounded number of events is open and listed; the journal
/// waits, and nothing is given up that there is no room to list.
#[test]
fn an_outage_is_bounded() {
    let mut outbox = outbox(&[]);
    let mut seq = 0;
    let mut now = START;
    let mut longest = 0;
    for _ in 0..50 {
        while outbox.room() > 0 {
            seq += 1;
            outbox.take_up(&record(seq, seq), &wanted(), now);
        }
        for place in places(outbox.send(usize::MAX, now)) {
            outbox.ended(place, DOWN, &retries(1), 0, now);
        }
        longest = longest.max(outbox.standing().to_note().len());
        now = now.after(Duration::from_mins(10));
    }
    assert_eq!((outbox.dead(), outbox.open()), (DEAD_MAX, OPEN_MAX));
    let told = u64::try_from(DEAD_MAX + OPEN_MAX).unwrap();
    assert_eq!((seq, outbox.cursor()), (told, told), "nothing was passed over");
    assert!(longest < 64 * 1024, "{longest}");
}

/// When an endpoint is back, nothing waits out what was meant for its absence; an event that is
/// refused for its own sake is not tried again with every success.
#[test]
fn the_end_of_an_outage_ends_the_waiting() {
    let mut outbox = outbox(&[1, 2, 3, 4]);
    assert_eq!(places(outbox.send(10, START)), [1, 2, 3, 4]);
    for seq in 1..=3 {
        outbox.ended(seq, DOWN, &retries(99), 0, START);
    }
    assert_eq!(places(outbox.send(10, START)), NOTHING);
    outbox.ended(4, Attempt::Taken, &retries(99), 0, START);
    assert_eq!(places(outbox.send(10, START)), [1, 2, 3], "it is back");
    for seq in 1..=3 {
        outbox.ended(seq, DOWN, &retries(99), 0, START);
    }
    outbox.take_up(&record(5, 5), &wanted(), START);
    assert_eq!(places(outbox.send(10, START)), [5]);
    outbox.ended(5, Attempt::Taken, &retries(99), 0, START);
    assert_eq!(places(outbox.send(10, START)), NOTHING, "their waiting was cut short in vain");
}

/// An endpoint that is gone is told nothing, keeps what it has not taken, and gets it when it is
/// enabled.
#[test]
fn gone_is_not_lost() {
    let mut outbox = outbox(&[1, 2]);
    outbox.send(1, START);
    outbox.ended(1, Attempt::Gone, &retries(1), 0, START);
    assert!(outbox.is_disabled());
    assert_eq!(
        (places(outbox.send(10, START)), outbox.next_at(), outbox.room()),
        (vec![], None, 0)
    );
    assert!(outbox.enable());
    assert!(!outbox.enable());
    assert_eq!(places(outbox.send(10, START)), [1, 2]);
}

/// Telling the journal anew from an earlier place brings everything since, given up or taken.
#[test]
fn a_rewind_tells_everything_since() {
    let mut outbox = outbox(&[1, 2, 3]);
    outbox.send(10, START);
    outbox.ended(1, Attempt::Taken, &retries(1), 0, START);
    outbox.ended(2, DOWN, &retries(1), 0, START);
    outbox.ended(3, Attempt::Taken, &retries(1), 0, START);
    assert_eq!(outbox.rewind(9), 0, "nothing to tell again");
    assert_eq!(outbox.rewind(2), 2);
    assert_eq!(outbox.cursor(), 1);
    outbox.take_up(&record(2, 2), &wanted(), START);
    outbox.take_up(&record(3, 3), &BTreeSet::new(), START);
    assert_eq!((places(outbox.send(10, START)), outbox.dead(), outbox.cursor()), (vec![2], 0, 3));
}
