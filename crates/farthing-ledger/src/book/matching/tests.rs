//! The book against the rail, some time later.

use crate::book::tests::{Desk, START, purchase};
use crate::*;

/// A payment whose rail can be asked about it, posted and delivered.
fn settled() -> (Desk, PaymentId) {
    let mut desk = Desk::new();
    let mut request = purchase("a", Money::Rail);
    request.payment.inquiry = Some("ask for a".into());
    let id = request.payment.id;
    desk.claim(request).unwrap();
    desk.run("post");
    desk.run("deliver");
    (desk, id)
}

fn find(desk: &mut Desk, payment: PaymentId, finding: Finding) -> bool {
    let record = desk.book.reconcile(payment, finding, START);
    let written = record.is_some();
    desk.journal.extend(record);
    written
}

#[test]
fn what_the_rail_confirms_is_confirmed_once() {
    let (mut desk, payment) = settled();
    assert_eq!(desk.book.work().expected.len(), 1);
    assert!(find(&mut desk, payment, Finding::Matched));
    assert!(!find(&mut desk, payment, Finding::Matched));
    assert!(!find(&mut desk, payment, Finding::Missing), "it was confirmed");
    assert_eq!(desk.book.work().expected, vec![]);
    assert_eq!(audit(&desk.journal).unwrap().missing, 0);
}

/// F-01: what the rail disowns stays delivered and is a person's to look into; nothing is reversed by
/// itself, and nothing is paid out meanwhile.
#[test]
fn what_the_rail_disowns_is_looked_into() {
    let (mut desk, payment) = settled();
    assert!(find(&mut desk, payment, Finding::Missing));
    desk.restart();
    assert!(desk.book.work().expected[0].is_missing);
    assert_eq!(audit(&desk.journal).unwrap().missing, 1);
    assert_eq!(desk.earned(), 5);
    let earned = Earned {
        payment,
        trace: TraceId::new(START, [7; 10]),
        payee: Holder::new("seller").unwrap(),
        given_back: 0,
    };
    let pay_out = Entry::PayOut {
        payment: earned,
        amount: crate::book::tests::usd(5),
        reference: "wire".into(),
    };
    assert_eq!(desk.enter(pay_out.clone()), Err(EntryError::OutOfOrder));
    let resolve = Entry::Resolve { payment, note: "paid again by hand".into() };
    assert_eq!(desk.enter(resolve.clone()), Ok(true));
    assert_eq!(desk.enter(resolve), Err(EntryError::OutOfOrder));
    assert_eq!(desk.enter(pay_out), Ok(true));
    assert_eq!(audit(&desk.journal).unwrap().missing, 0);
}

#[test]
fn nobody_is_asked_about_money_of_the_book() {
    let mut desk = Desk::new();
    desk.run("buy");
    desk.run("deliver");
    assert_eq!(desk.book.work(), Work::default());
}
