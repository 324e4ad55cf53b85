//! What a seller is paid out, once.

use crate::book::tests::{Desk, START, holder, purchase, usd};
use crate::*;

fn earned(name: &str) -> Earned {
    let payment = purchase(name, Money::Book).payment;
    let payee = holder("seller");
    Earned { payment: payment.id, trace: payment.trace, payee, given_back: 0 }
}

fn pay_out(reference: &str) -> Entry {
    Entry::PayOut { payment: earned("a"), amount: usd(5), reference: reference.into() }
}

#[test]
fn a_payment_is_paid_out_once() {
    let mut desk = Desk::new();
    desk.run("buy");
    assert_eq!(desk.enter(pay_out("wire 1")), Err(EntryError::OutOfOrder), "it is owed an answer");
    desk.run("deliver");
    assert_eq!(desk.enter(pay_out("wire 1")), Ok(true));
    desk.restart();
    assert_eq!(desk.enter(pay_out("wire 1")), Ok(false));
    assert_eq!(desk.enter(pay_out("wire 2")), Ok(false));
    let balance = |account: &str| desk.book.balances().of(&account.parse().unwrap());
    assert_eq!(balance("payable/seller/usd").available(), 0);
    assert_eq!(balance("paid-out/seller/usd").credits_posted, 5);
    assert_eq!(audit(&desk.journal).unwrap().paid_out, 1);
}

/// What was given back after an operator had read the payment's story is not paid out beside it.
#[test]
fn what_was_given_back_meanwhile_is_not_paid_out() {
    let mut desk = Desk::new();
    for step in ["buy", "deliver", "buy b", "deliver b"] {
        desk.run(step);
    }
    let read_before = pay_out("wire 1");
    assert_eq!(desk.run("part"), "new posted");
    assert_eq!(desk.enter(read_before), Err(EntryError::OutOfOrder));
    let rest = Entry::PayOut {
        payment: Earned { given_back: 2, ..earned("a") },
        amount: usd(3),
        reference: "wire 1".into(),
    };
    assert_eq!(desk.enter(rest), Ok(true));
    assert_eq!(audit(&desk.journal).unwrap().paid_out, 1);
}

/// what is held is not paid out before a person has released it.
#[test]
fn what_is_held_is_not_paid_out() {
    let mut desk = Desk::new();
    desk.run("buy");
    desk.run("deliver");
    let hold = || Entry::HoldPayout { payment: earned("a"), reason: "looks odd".into() };
    let release = || Entry::ReleasePayout { payment: earned("a"), reason: "is fine".into() };
    assert_eq!(desk.enter(release()), Ok(false));
    assert_eq!(desk.enter(hold()), Ok(true));
    assert_eq!(desk.enter(hold()), Ok(false));
    desk.restart();
    assert_eq!(desk.enter(pay_out("wire 1")), Err(EntryError::OutOfOrder));
    assert_eq!(desk.enter(release()), Ok(true));
    assert_eq!(desk.enter(pay_out("wire 1")), Ok(true));
    assert_eq!(desk.enter(hold()), Err(EntryError::OutOfOrder), "it is gone");
    let story = Story::tell(
        &desk.journal.iter().filter(|it| it.trace.is_some()).cloned().collect::<Vec<_>>(),
    );
    assert_eq!(story.unwrap().lifecycle.payout, Payout::Paid);
    let _ = START;
}
