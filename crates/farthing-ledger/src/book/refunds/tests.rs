//! What is given back, when, and how often.

use std::time::Duration;

use crate::book::tests::{START, check, purchase, usd};
use crate::*;

/// what was paid and not answered is given back once, and the credential buys nothing more.
#[test]
fn what_was_not_answered_is_given_back_once() {
    let desk = check(
        "buy; fail; refund; refund; buy; restart; buy",
        "fresh; done; new posted; ReferenceTaken; givenback; -; givenback",
    );
    assert_eq!((desk.available(), desk.book.unfinished()), (12, 0));
    let sound = audit(&desk.journal).unwrap();
    assert_eq!((sound.refunded, sound.undelivered, sound.delivered), (1, 0, 0));
}

/// What was answered can be given back too: by a person, later, and over a restart.
#[test]
fn what_was_answered_can_be_given_back() {
    let desk = check(
        "buy; deliver; part; part; restart; refund; refund; buy",
        "fresh; done; new posted; known posted; -; new posted; ReferenceTaken; givenback",
    );
    assert_eq!((desk.available(), desk.earned()), (12, 5));
    let sound = audit(&desk.journal).unwrap();
    assert_eq!((sound.refunded, sound.delivered), (1, 1));
}

/// A refund on a rail is pending until the rail has spoken. One that it did not move is ordered anew,
/// under another name.
#[test]
fn a_refund_on_a_rail_waits_for_the_rail() {
    check(
        "rail; post; deliver; order; order; restart; sent; sent; order",
        "fresh; done; done; new pending; known pending; -; done; nothing; known posted",
    );
    let desk = check(
        "rail; post; fail; order; rail; lost; rail; return; order; sent; rail",
        "fresh; done; done; new pending; pending; done; undelivered; -; new pending; done; givenback",
    );
    assert_eq!(desk.book.unfinished(), 0);
}

/// Nothing is given back of what is being settled or answered, nor of what was never paid.
#[test]
fn only_what_was_paid_is_given_back() {
    check("rail; refund; void; refund", "fresh; NotPaid; done; never paid");
    check("buy; refund; return; refund", "fresh; InProgress; -; new posted");
    check("reserve; refund; return; refund", "fresh; NotPaid; -; NotPaid");
}

/// What is given back is the seller's, and a seller who has no more gives nothing.
#[test]
fn a_seller_gives_what_a_seller_has() {
    let mut desk = check("buy; deliver", "fresh; done");
    let earned = Earned {
        payment: purchase("a", Money::Book).payment.id,
        trace: TraceId::new(START, [7; 10]),
        payee: Holder::new("seller").unwrap(),
        given_back: 0,
    };
    let paid_out = Entry::PayOut { payment: earned, amount: usd(5), reference: "wire 1".into() };
    assert_eq!(desk.enter(paid_out), Ok(true));
    assert_eq!(desk.run("refund"), "Short");
}

/// what makes up for an answer is not given beside the answer: whoever came again for it in the
/// meantime, and was given it, has what was paid for.
#[test]
fn what_makes_up_for_an_answer_is_not_given_beside_it() {
    let make_up = |steps: &str, want: &str| {
        let mut desk = check(steps, want);
        let to = "prepaid/alice/usd".parse().unwrap();
        let payment = purchase("a", Money::Book).payment;
        let request = RefundRequest::new(&payment, usd(5), to, Way::Back, "remedy 1");
        let request = RefundRequest { only_if_owed: true, ..request };
        desk.book.refund(request, desk.now).map(|(standing, _)| standing)
    };
    assert!(matches!(make_up("buy; fail", "fresh; done"), Ok(RefundStanding::Posted(_))));
    let refused = Err(RefundError::InProgress);
    assert_eq!(make_up("buy; fail; buy", "fresh; done; undelivered"), refused);
    assert_eq!(make_up("buy; fail; buy; deliver", "fresh; done; undelivered; done"), refused);
}

/// The operator's limits hold in the same moment, for one refund and for a day.
#[test]
fn limits_are_per_refund_and_per_day() {
    let mut desk = check("buy a; deliver a; buy b; deliver b", "fresh; done; fresh; done");
    let limits =
        |each, day| RefundLimits(vec![RefundLimit { each_max: usd(each), per_day_max: usd(day) }]);
    let ask = |desk: &mut crate::book::tests::Desk, name: &str, reference: &str, limits| {
        let payment = purchase(name, Money::Book).payment;
        let to = "prepaid/alice/usd".parse().unwrap();
        let request = RefundRequest::new(&payment, usd(2), to, Way::Back, reference);
        let answer = desk.book.refund(RefundRequest { limits, ..request }, desk.now);
        answer.map(|(standing, record)| {
            desk.journal.extend(record);
            standing != RefundStanding::Pending
        })
    };
    assert_eq!(ask(&mut desk, "a", "1", limits(1, 10)), Err(RefundError::OverLimit));
    assert_eq!(ask(&mut desk, "a", "1", limits(2, 4)), Ok(true));
    assert_eq!(ask(&mut desk, "b", "1", limits(2, 3)), Err(RefundError::OverLimit));
    assert_eq!(ask(&mut desk, "b", "1", limits(2, 4)), Ok(true));
    assert_eq!(ask(&mut desk, "b", "2", limits(2, 4)), Err(RefundError::OverLimit));
    // A restart forgets nothing of the day, and the next day is another.
    desk.restart();
    assert_eq!(ask(&mut desk, "b", "2", limits(2, 4)), Err(RefundError::OverLimit));
    desk.now = desk.now.after(Duration::from_hours(24));
    assert_eq!(ask(&mut desk, "b", "2", limits(2, 4)), Ok(true));
    assert_eq!(ask(&mut desk, "a", "2", limits(2, 4)), Ok(true));
    // A clock that is set back and forth opens no day a second time.
    assert_eq!((desk.run("buy c"), desk.run("deliver c")), ("fresh".into(), "done".into()));
    for now in [START, desk.now] {
        desk.now = now;
        assert_eq!(ask(&mut desk, "c", "1", limits(2, 4)), Err(RefundError::OverLimit));
    }
    audit(&desk.journal).unwrap();
}

/// What costs nothing is closed without anything moving.
#[test]
fn nothing_is_given_back_of_nothing() {
    let mut desk = crate::book::tests::Desk::new();
    let mut request = purchase("a", Money::None);
    request.payment.amount = usd(0);
    request.legs.clear();
    let payment = request.payment.clone();
    desk.claim(request).unwrap();
    desk.run("fail");
    let to: Account = "prepaid/alice/usd".parse().unwrap();
    let request = RefundRequest::new(&payment, usd(0), to, Way::Back, "closed");
    let (_, record) = desk.book.refund(request, desk.now).unwrap();
    desk.journal.extend(record);
    assert_eq!(desk.book.unfinished(), 0);
    assert_eq!(audit(&desk.journal).unwrap().undelivered, 0);
}

/// Money that is only held goes to nobody until the handler has succeeded.
#[test]
fn held_money_moves_when_the_handler_has_succeeded() {
    let desk = check("reserve; reserve; post; deliver", "fresh; pending; done; done");
    assert_eq!((desk.available(), desk.earned()), (7, 5));
    let desk = check("reserve; void; reserve", "fresh; done; spent");
    assert_eq!((desk.available(), desk.earned()), (12, 0));
    // Whoever ran it has stopped: nobody was paid, and it may be run again.
    let desk = check("reserve; restart; reserve; post", "fresh; -; unsettled; done");
    assert_eq!((desk.available(), desk.earned()), (7, 5));
    let desk = check("reserve; restart", "fresh; -");
    assert_eq!(desk.book.work().payments[0].open, Open::Abandoned);
}

/// A forged refund is found out: more than the price, twice, or other money than it says.
#[test]
fn a_forged_refund_is_found() {
    let sound = check("buy; deliver; part", "fresh; done; new posted").journal;
    let forged = |alter: &dyn Fn(&mut Refund, &mut Vec<Transfer>)| {
        let mut journal = sound.clone();
        let last = journal.last_mut().unwrap();
        let Event::Refunded { refund, .. } = &mut last.event else { unreachable!() };
        alter(refund, &mut last.transfers);
        audit(&journal).unwrap_err().what
    };
    assert_eq!(forged(&|refund, _| refund.amount = usd(3)), What::NotThePrice);
    let payment = purchase("a", Money::Book).payment.id;
    assert_eq!(
        forged(&|refund, transfers| {
            refund.amount = usd(6);
            transfers[0].atoms = 6;
        }),
        What::OutOfOrder(payment)
    );
    let mut twice = sound.clone();
    let mut again = twice.last().unwrap().clone();
    again.seq += 1;
    again.transfers[0].id = TransferId::derive(b"x", "y");
    twice.push(again);
    assert!(matches!(audit(&twice).unwrap_err().what, What::RefundTwice(_)));
}
