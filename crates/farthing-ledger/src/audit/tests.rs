//! A journal with one line altered is found out, and the line is named.

use std::time::Duration;

use crate::book::tests::{Desk, START, purchase};
use crate::*;

/// opened, key attached, funded, `a` bought and delivered, `b` claimed, posted and delivered.
fn journal() -> Vec<Record> {
    let mut desk = Desk::new();
    let now = desk.now;
    for (name, money) in [("a", Money::Book), ("b", Money::Rail)] {
        let request = purchase(name, money);
        let id = request.payment.id;
        let claimed = desk.book.claim(request, &desk.shelf, now).unwrap().1;
        let settlement = Settlement::new("tx".into(), now);
        let posted = desk.book.post(id, settlement, now);
        let delivered = desk.book.deliver(id, Outcome { status: 200 }, now);
        desk.journal.extend(claimed.into_iter().chain(posted).chain(delivered));
    }
    desk.journal
}

#[track_caller]
fn check(alter: impl FnOnce(&mut Vec<Record>), seq: u64, what: &str) {
    let mut journal = journal();
    alter(&mut journal);
    let fault = audit(&journal).unwrap_err();
    assert_eq!(fault.seq, seq, "{fault}");
    assert!(format!("{:?}", fault.what).starts_with(what), "{fault:?}");
}

fn renumber(journal: &mut [Record]) {
    for (record, seq) in journal.iter_mut().zip(1..) {
        record.seq = seq;
    }
}

#[test]
fn a_sound_journal_adds_up() {
    let audit = audit(&journal()).unwrap();
    assert_eq!((audit.records, audit.claimed, audit.delivered), (8, 2, 2));
    assert_eq!((audit.pending, audit.voided, audit.undelivered), (0, 0, 0));
    let (debits, credits) = audit.totals.values().next().unwrap();
    assert_eq!((debits, credits.atoms()), (credits, 22));
}

#[test]
fn a_deleted_moved_or_inserted_record_leaves_a_gap() {
    check(|journal| drop(journal.remove(3)), 5, "Gap");
    check(|journal| journal.swap(3, 4), 5, "Gap");
    check(|journal| journal.insert(4, journal[3].clone()), 4, "Gap");
}

#[test]
fn renumbering_does_not_hide_it() {
    let deleted = |at: usize| {
        move |journal: &mut Vec<Record>| {
            journal.remove(at);
            renumber(journal);
        }
    };
    check(deleted(2), 3, "Transfer(Overdrawn)");
    check(deleted(3), 4, "NoSuchPayment");
    check(deleted(5), 6, "NoSuchPayment");
    check(deleted(6), 7, "OutOfOrder");
    let doubled = |at: usize| {
        move |journal: &mut Vec<Record>| {
            journal.insert(at, journal[at].clone());
            renumber(journal);
        }
    };
    check(doubled(2), 4, "TransferTwice");
    check(doubled(4), 6, "OutOfOrder");
    check(doubled(6), 8, "TransferTwice");
}

/// U-04: a name that a client gives to its purchases is kept for a time, and may name another one after
/// it; until then it may not.
#[test]
fn a_name_may_be_used_again_once_it_is_forgotten() {
    let mut desk = Desk::new();
    let fingerprint = Fingerprint::of("idempotency key", &[b"daily"]);
    for (challenge, hours) in [("a", 24), ("other", 25), ("b", 50)] {
        let kept_until = desk.now.after(Duration::from_hours(24));
        let name = Proof { fingerprint, keep_until: Some(kept_until) };
        let mut request = purchase(challenge, Money::Rail);
        request.idempotency = (challenge != "other").then_some(name);
        assert_eq!(desk.claim(request), Ok(Claim::Fresh), "{challenge}");
        desk.now = START.after(Duration::from_hours(hours)).after(Duration::from_secs(1));
    }
    assert_eq!(audit(&desk.journal).unwrap().claimed, 3);
    let Event::Claimed { proofs, .. } = &mut desk.journal[3].event else { unreachable!() };
    proofs[1].keep_until = None;
    assert_eq!(audit(&desk.journal).unwrap_err().what, What::ProofTwice(fingerprint));
}

#[test]
fn an_edited_record_does_not_fit() {
    check(|journal| journal[3].transfers[0].atoms = 4, 4, "NotThePrice");
    check(|journal| journal[2].transfers[0].atoms = 4, 4, "Transfer(Overdrawn)");
    check(|journal| journal[3].transfers[0].phase = Phase::Pending, 4, "Phase");
    check(|journal| journal[6].transfers.clear(), 7, "LeftPending");
    check(
        |journal| {
            let stray = journal[2].transfers[0].clone();
            journal[7].transfers = vec![Transfer { id: TransferId::derive(b"x", "y"), ..stray }];
        },
        8,
        "StrayTransfer",
    );
    check(
        |journal| {
            let proofs = claimed_proofs(&journal[3]);
            if let Event::Claimed { proofs: later, .. } = &mut journal[5].event {
                later[0] = proofs[0].0;
            }
        },
        6,
        "ProofTwice",
    );
}
