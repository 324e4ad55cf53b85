use farthing_ledger::{Account, Fingerprint, Holder, Terms, TraceId};
use farthing_money::{Amount, Asset, AssetId};

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

fn unfinished(name: &str, open: Open) -> Unfinished {
    let fingerprint = Fingerprint::of("challenge", &[name.as_bytes()]);
    let payment = Payment {
        id: PaymentId::of(&fingerprint),
        trace: TraceId::new(NOW, [7; 10]),
        protocol: "mpp".into(),
        method: "tempo".into(),
        intent: "charge".into(),
        challenge: name.into(),
        amount: Amount::new(AssetId::new("usd").unwrap(), 5),
        payer: "alice".into(),
        payee: Holder::new("seller").unwrap(),
        route: "weather".into(),
        scope: "scope".into(),
        credential: fingerprint,
        expires_at: NOW.after(Duration::from_mins(5)),
        request: None,
        inquiry: None,
        terms: Terms::default(),
        voucher: None,
        decision: None,
        subscription: None,
    };
    let from = Some("clearing/tempo/usd".parse::<Account>().unwrap());
    Unfinished { payment, open, from, left: 5, refunds_voided: 0 }
}

const RULES: RailRules = RailRules {
    authorised: "",
    settled: "",
    reversed: "",
    reference: "",
    holds: false,
    refunds: Refunds::Rail,
    recheck_after: Some(Duration::from_secs(30)),
};

const CREDITS: RailRules = RailRules { refunds: Refunds::Never, ..RULES };

fn in_words(step: &Step<'_>) -> String {
    match step {
        Step::FindOut(payment) => format!("find out {}", payment.challenge),
        Step::Release(payment) => format!("release {}", payment.challenge),
        Step::Grant(payment) => format!("grant {}", payment.challenge),
        Step::MakeUp(it, way) => format!("{way:?} {}", it.payment.challenge).to_lowercase(),
        Step::Conclude(payment) => format!("conclude {}", payment.challenge),
        Step::Send(refund) => format!("send {}", refund.reference),
        Step::Match(expected) => format!("match {}", expected.payment.challenge),
    }
}

fn plan(recovery: &Recovery, work: &Work, now: Timestamp) -> Vec<String> {
    recovery.plan(work, |_| Some(&RULES), now).iter().map(in_words).collect()
}

/// SUB.S04: what a subscription's charge has paid for is its period, which was given with it: nothing of it is
/// owed or made up for, however the charge was left.
#[test]
fn the_period_of_a_charge_is_given_and_not_made_up_for() {
    let charge = |open| {
        let mut it = unfinished("charge", open);
        let id = farthing_ledger::SubscriptionId::of("mpp", "charge");
        let part = farthing_ledger::SubscribedPart::Charge { attempt: 0 };
        it.payment.subscription = Some(farthing_ledger::Subscribed { id, period: 0, part });
        it
    };
    let late = NOW.after(Duration::from_hours(1));
    for open in [Open::Owed, Open::Interrupted, Open::Failed] {
        let work = Work { payments: vec![charge(open)], ..Work::default() };
        for now in [NOW, late] {
            assert_eq!(plan(&Recovery::default(), &work, now), ["grant charge"], "{open:?}");
        }
    }
    let work = Work { payments: vec![unfinished("other", Open::Owed)], ..Work::default() };
    assert_eq!(plan(&Recovery::default(), &work, late), ["back other"], "the control");
}

/// Only what nobody is at is done, and less and less often.
#[test]
fn what_nobody_is_at_is_done() {
    let all = [
        Open::Settling,
        Open::Unsettled,
        Open::Delivering,
        Open::Abandoned,
        Open::Refunding,
        Open::Given,
    ];
    let payments = all.map(|open| unfinished(&format!("{open:?}").to_lowercase(), open)).to_vec();
    let id = payments[1].payment.id;
    let work = Work { payments, ..Work::default() };
    let mut recovery = Recovery::default();
    let others = ["release abandoned", "conclude given"];
    assert_eq!(plan(&recovery, &work, NOW), ["find out unsettled", others[0], others[1]]);
    let mut now = NOW;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        recovery.tried_in_vain(Thing::Payment(id), now);
        let pause = Duration::from_secs(seconds);
        let early = now.after(pause).before(Duration::from_millis(1));
        assert_eq!(plan(&recovery, &work, early), others);
        now = now.after(pause);
        assert_eq!(plan(&recovery, &work, now).len(), 3, "{seconds}");
    }
}

/// R-12, F-04: an answer that will not come is made up for, as the seller undertook: at once, or once
/// nobody can ask for it any more; and never by itself where a person is to decide.
#[test]
fn an_answer_that_will_not_come_is_made_up_for() {
    let later = NOW.after(Duration::from_mins(5));
    let of = |remedy, repeatable, open| {
        let mut it = unfinished("a", open);
        it.payment.terms = Terms { remedy, repeatable, ..Terms::default() };
        let work = Work { payments: vec![it], ..Work::default() };
        let at = |now| plan(&Recovery::default(), &work, now).pop().unwrap_or("-".to_owned());
        (at(later.before(Duration::from_millis(1))), at(later))
    };
    let check = |remedy, repeatable, open, now: &str, then: &str| {
        let want = (now.to_owned(), then.to_owned());
        assert_eq!(of(remedy, repeatable, open), want, "{remedy:?} {repeatable} {open:?}");
    };
    for repeatable in [true, false] {
        for open in [Open::Owed, Open::Failed] {
            check(Remedy::Redeliver, repeatable, open, "-", "back a");
            check(Remedy::Review, repeatable, open, "-", "-");
        }
        check(Remedy::Refund, repeatable, Open::Owed, "-", "back a");
        check(Remedy::Refund, repeatable, Open::Failed, "back a", "back a");
        check(Remedy::Credit, repeatable, Open::Owed, "-", "credit a");
        check(Remedy::Credit, repeatable, Open::Failed, "credit a", "credit a");
        check(Remedy::Review, repeatable, Open::Interrupted, "-", "-");
    }
    check(Remedy::Redeliver, true, Open::Interrupted, "-", "back a");
    check(Remedy::Redeliver, false, Open::Interrupted, "back a", "back a");
    // A rail that gives nothing back leaves the payer with a credit, not with nothing.
    let work = Work { payments: vec![unfinished("a", Open::Owed)], ..Work::default() };
    let steps = Recovery::default();
    let steps = steps.plan(&work, |_| Some(&CREDITS), later);
    assert_eq!(steps.iter().map(in_words).collect::<Vec<_>>(), ["credit a"]);
}

/// A payment is held against what the rail says once some time has passed, where the rail is somebody
/// else than the book; and again for as long as the rail disowns it.
#[test]
fn a_payment_is_held_against_the_rail() {
    let expected = |is_missing| Expected {
        payment: unfinished("a", Open::Owed).payment,
        reference: "tx".into(),
        settled_at: NOW,
        is_missing,
    };
    for is_missing in [false, true] {
        let work = Work { expected: vec![expected(is_missing)], ..Work::default() };
        let recovery = Recovery::default();
        assert!(plan(&recovery, &work, NOW.after(Duration::from_secs(29))).is_empty());
        assert_eq!(plan(&recovery, &work, NOW.after(Duration::from_secs(30))), ["match a"]);
        let never = RailRules { recheck_after: None, ..RULES };
        let never: &'static RailRules = Box::leak(Box::new(never));
        assert!(recovery.plan(&work, |_| Some(never), NOW.after(PAUSE_MAX)).is_empty());
    }
}

/// F-07: an unknown outcome is never given up; what was never sent is, once nobody can send it.
#[test]
fn an_unknown_outcome_is_never_given_up() {
    let payment = unfinished("a", Open::Unsettled).payment;
    let (late, settled) = (payment.expires_at, Settled::new("tx".into()));
    for now in [NOW, late] {
        assert_eq!(conclude(Ok(settled.clone()), &payment, now), Conclusion::Post(settled.clone()));
        let declined = Conclusion::Void(VoidReason::Declined);
        assert_eq!(conclude(Err(SettleError::Declined), &payment, now), declined);
        assert_eq!(conclude(Err(SettleError::Unknown), &payment, now), Conclusion::Leave);
    }
    assert_eq!(conclude(Err(SettleError::Unsent), &payment, NOW), Conclusion::Leave);
    let expired = Conclusion::Void(VoidReason::Expired);
    assert_eq!(conclude(Err(SettleError::Unsent), &payment, late), expired);
}

/// Each says where it hangs and what happens next.
#[test]
fn every_open_payment_is_explained() {
    let assets: Assets =
        [Asset::new(AssetId::new("usd").unwrap(), 2).unwrap()].into_iter().collect();
    let later = NOW.after(Duration::from_hours(1));
    for (open, now, part) in [
        (Open::Settling, NOW, "being settled on tempo"),
        (Open::Unsettled, NOW, "asks the rail"),
        (Open::Delivering, NOW, "being answered"),
        (Open::Owed, NOW, "The same credential is answered until"),
        (
            Open::Owed,
            later,
            "nobody can ask for it any more. A running gateway gives the money back",
        ),
        (Open::Failed, NOW, "The same credential is answered until"),
        (Open::Abandoned, NOW, "Nobody was paid"),
        (Open::Refunding, NOW, "on its way back"),
        (Open::Given, NOW, "A running gateway notes that"),
        (Open::Interrupted, NOW, "It is not begun again. A running gateway gives the money back"),
    ] {
        let text = explain(&unfinished("a", open), &assets, now);
        assert!(text.starts_with("0.05 usd for weather from alice"), "{text}");
        assert!(text.contains(part), "{text}");
    }
}
