//! Which event may follow which.

use crate::book::tests::{START, purchase, usd};
use crate::*;

fn payment() -> Payment {
    let mut payment = purchase("a", Money::Rail).payment;
    payment.inquiry = Some("ask for a".into());
    payment
}

fn settlement() -> Settlement {
    Settlement::new("tx".into(), START)
}

fn events() -> Vec<(&'static str, Event)> {
    let id = payment().id;
    let to = "clearing/test/usd".parse().unwrap();
    let refund = RefundRequest::new(&payment(), usd(5), to, Way::Back, "r").refund;
    let outcome = Outcome { status: 200 };
    vec![
        ("post", Event::Posted { payment: id, settlement: settlement() }),
        ("void", Event::Voided { payment: id, reason: VoidReason::Declined }),
        ("fail", Event::Failed { payment: id, outcome }),
        ("deliver", Event::Delivered { payment: id, outcome, kept: None }),
        ("order", Event::Refunded { refund: Box::new(refund.clone()), settlement: None }),
        ("sent", Event::RefundPosted { payment: id, refund: refund.id, settlement: settlement() }),
        ("lost", Event::RefundVoided { payment: id, refund: refund.id }),
        ("match", Event::Reconciled { payment: id, finding: Finding::Matched }),
        ("miss", Event::Reconciled { payment: id, finding: Finding::Missing }),
        (
            "resolve",
            Event::Reconciled { payment: id, finding: Finding::Resolved { note: "n".into() } },
        ),
        ("hold", Event::PayoutHeld { payment: id, reason: "r".into() }),
        ("release", Event::PayoutReleased { payment: id, reason: "r".into() }),
        ("pay", Event::PaidOut { payment: id, reference: "w".into() }),
    ]
}

/// Where a claimed payment stands after the events named, and which could follow.
fn after(names: &str) -> (Lifecycle, Vec<&'static str>) {
    let known = events();
    let find = |name: &str| &known.iter().find(|(known, _)| *known == name).unwrap().1;
    let begun = Lifecycle::begin(&payment(), None);
    let reached = names.split_whitespace().fold(begun, |at, name| {
        at.after(find(name), 5).unwrap_or_else(|_| panic!("{name} cannot follow in {names}"))
    });
    let follows = known.iter().filter(|(_, event)| reached.after(event, 5).is_ok());
    (reached, follows.map(|(name, _)| *name).collect())
}

#[track_caller]
fn check(names: &str, pay: Pay, delivery: Delivery, rest: (Matching, Payout), may: &str) {
    let (reached, follows) = after(names);
    let got = (reached.pay, reached.delivery, (reached.matching, reached.payout));
    assert_eq!(got, (pay, delivery, rest), "{names}");
    assert_eq!(follows.join(" "), may, "{names}");
}

#[test]
fn four_machines_on_one_payment() {
    use Delivery::{Awaited, Compensated, Delivered, Failed, Owed};
    use Matching::{Expected, Internal, Matched, Missing, Resolved};
    use Payout::{Eligible, Held, Ineligible, Paid};
    check("", Pay::Held, Awaited, (Internal, Ineligible), "post void hold");
    check("void", Pay::Voided, Awaited, (Internal, Ineligible), "hold");
    let owed = "fail deliver order match miss hold";
    check("post", Pay::Settled, Owed, (Expected, Ineligible), owed);
    check("post fail", Pay::Settled, Failed, (Expected, Ineligible), owed);
    check(
        "post deliver",
        Pay::Settled,
        Delivered,
        (Expected, Eligible),
        "order match miss hold pay",
    );
    check("post deliver match pay", Pay::Settled, Delivered, (Matched, Paid), "order");
    check(
        "post deliver miss",
        Pay::Settled,
        Delivered,
        (Missing, Ineligible),
        "order match resolve hold",
    );
    check(
        "post deliver miss resolve",
        Pay::Settled,
        Delivered,
        (Resolved, Eligible),
        "order hold pay",
    );
    check(
        "post deliver hold",
        Pay::Settled,
        Delivered,
        (Expected, Held),
        "order match miss hold release",
    );
    check(
        "post fail order",
        Pay::Refunding,
        Failed,
        (Expected, Ineligible),
        "fail deliver sent lost match miss hold",
    );
    check(
        "post fail order sent",
        Pay::Refunded,
        Compensated,
        (Expected, Ineligible),
        "match miss hold",
    );
    check("post fail order lost", Pay::Settled, Failed, (Expected, Ineligible), owed);
    check("post deliver match order sent", Pay::Refunded, Delivered, (Matched, Ineligible), "hold");
}
