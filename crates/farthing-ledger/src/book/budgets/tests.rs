//! What budgets hold, and until when.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::book::tests::{Desk, START, purchase, usd};
use crate::{
    Book, Claim, ClaimRequest, Decided, Entry, Money, OwnerStep, Ruling, Settlement, VoidReason,
};

/// A purchase for 5 that an owner has allowed `agent`, drawing on one budget.
fn allowed(name: &str, key: &str, amount: u128, limit: u128, window: Window) -> ClaimRequest {
    let draw = Draw {
        key: BudgetKey::new(key.to_owned()),
        rule: "r".into(),
        amount,
        limit,
        window,
        used: 0,
    };
    with_draws(name, vec![draw])
}

fn with_draws(name: &str, draws: Vec<Draw>) -> ClaimRequest {
    let mut request = purchase(name, Money::Rail);
    request.payment.decision = Some(Box::new(Decided {
        agent: "researcher".into(),
        ruling: Ruling::Allowed,
        policy: "1".into(),
        policy_sha256: "00".into(),
        facts: "{}".into(),
        digest: Decided::digest_of("{}"),
        rules: vec!["wallet".into()],
        draws,
        approval: None,
        draft: None,
    }));
    request
}

fn used(desk: &Desk, key: &str) -> u128 {
    desk.book.budgets.used(key, desk.now)
}

fn over(draw: u16, used: u128) -> Result<Claim, ClaimError> {
    Err(ClaimError::OverBudget { draw, used })
}

/// P-12: what is held stays held until its end is known, and is let go once.
#[test]
fn a_budget_holds_what_is_claimed_counts_what_is_posted_and_frees_what_is_not() {
    let mut desk = Desk::new();
    let buy = |name: &str| allowed(name, "day", 5, 10, Window::Ever);
    assert_eq!(desk.claim(buy("a")), Ok(Claim::Fresh));
    assert_eq!(desk.claim(buy("b")), Ok(Claim::Fresh));
    assert_eq!(desk.claim(buy("c")), over(0, 10));
    desk.now = desk.now.after(Duration::from_hours(1_000));
    assert_eq!(desk.claim(buy("c")), over(0, 10), "nobody knows how they ended");
    assert_eq!(desk.run("post a"), "done");
    assert_eq!(desk.run("void b"), "done");
    assert_eq!(desk.run("void b"), "nothing");
    assert_eq!(used(&desk, "day"), 5);
    assert_eq!(desk.claim(buy("c")), Ok(Claim::Fresh));
    assert_eq!(desk.run("post b"), "nothing", "what was let go is not spent later");
    assert_eq!(used(&desk, "day"), 10);
}

/// What is only tried out is counted under its own name and said in the record, and refuses nothing; what the
/// policy that holds counts too is counted once.
#[test]
fn a_draft_counts_and_refuses_nothing() {
    let mut desk = Desk::new();
    let draw = |key: &str, limit| Draw {
        key: BudgetKey::new(key.to_owned()),
        rule: key.into(),
        amount: 5,
        limit,
        window: Window::Ever,
        used: 0,
    };
    let buy = |name: &str| {
        let mut request = with_draws(name, vec![draw("day", 100)]);
        let decided = request.payment.decision.as_mut().unwrap();
        decided.draft = Some(Box::new(Drafted {
            policy: "2".into(),
            policy_sha256: "01".into(),
            ruling: Ruling::Allowed,
            rules: vec!["wallet".into()],
            draws: vec![draw("day", 12), draw("draft|day", 5)],
        }));
        request
    };
    for name in ["a", "b", "c"] {
        assert_eq!(desk.claim(buy(name)), Ok(Claim::Fresh));
    }
    assert_eq!((used(&desk, "day"), used(&desk, "draft|day")), (15, 15));
    desk.run("post a");
    desk.run("void b");
    assert_eq!((used(&desk, "day"), used(&desk, "draft|day")), (10, 10));
    let drafted = |record: &crate::Record| {
        let Event::Claimed { payment, .. } = &record.event else { return None };
        let draft = payment.decision.as_ref()?.draft.as_ref()?;
        let over: Vec<String> = draft.over().map(|draw| draw.key.to_string()).collect();
        Some((draft.would(), over))
    };
    let said: Vec<_> = desk.journal.iter().filter_map(drafted).collect();
    let over = |keys: &[&str]| (Ruling::Denied, keys.iter().map(ToString::to_string).collect());
    let expected: [(Ruling, Vec<String>); 3] =
        [(Ruling::Allowed, vec![]), over(&["draft|day"]), over(&["day", "draft|day"])];
    assert_eq!(said, expected);
}

#[test]
fn the_record_says_what_was_used_before() {
    let mut desk = Desk::new();
    desk.claim(allowed("a", "day", 5, 10, Window::Ever)).unwrap();
    desk.claim(allowed("b", "day", 5, 10, Window::Ever)).unwrap();
    let before = |record: &crate::Record| {
        let Event::Claimed { payment, .. } = &record.event else { return None };
        payment.decision.as_ref().map(|it| it.draws[0].used)
    };
    let before: Vec<u128> = desk.journal.iter().filter_map(before).collect();
    assert_eq!(before, [0, 5]);
}

/// P-11: in no span of the window's length is more spent than its limit.
#[test]
fn a_rolling_window_moves_on_with_what_was_spent() {
    let mut desk = Desk::new();
    let buy = |name: &str| allowed(name, "hour", 5, 5, Window::Rolling(3_600));
    desk.claim(buy("a")).unwrap();
    desk.now = desk.now.after(Duration::from_mins(10));
    desk.run("post a");
    // It counts from when its end was known: an hour after the claim it still does.
    desk.now = START.after(Duration::from_secs(4_199));
    assert_eq!(desk.claim(buy("b")), over(0, 5));
    desk.now = START.after(Duration::from_secs(4_204));
    assert_eq!(desk.claim(buy("b")), Ok(Claim::Fresh));
}

#[test]
fn a_period_that_is_over_leaves_nothing_behind() {
    let mut desk = Desk::new();
    let end = START.after(Duration::from_mins(1));
    for name in ["a", "b"] {
        desk.claim(allowed(name, &format!("today|{name}"), 5, 5, Window::Until(end))).unwrap();
        desk.run(&format!("post {name}"));
    }
    assert_eq!(desk.book.budgets.tallies.len(), 2);
    desk.now = end;
    assert_eq!(used(&desk, "today|a"), 0);
    desk.claim(allowed("c", "tomorrow", 5, 5, Window::Ever)).unwrap();
    assert_eq!(desk.book.budgets.tallies.len(), 1, "{:?}", desk.book.budgets);
    assert!(desk.book.budgets.ends.is_empty());
}

/// P-11: what was decided in one period and is claimed in the next finds nothing left of the one, however little
/// was spent of it: what was is forgotten by then.
#[test]
fn a_period_that_is_over_holds_nothing_more() {
    let mut desk = Desk::new();
    let end = START.after(Duration::from_mins(1));
    let today = |name: &str| allowed(name, "today", 5, 100, Window::Until(end));
    desk.now = end.before(Duration::from_micros(1));
    assert_eq!(desk.claim(today("a")), Ok(Claim::Fresh));
    desk.now = end;
    assert_eq!(desk.claim(today("b")), over(0, 100));
    let tomorrow = Window::Until(end.after(Duration::from_mins(1)));
    assert_eq!(desk.claim(allowed("b", "tomorrow", 5, 100, tomorrow)), Ok(Claim::Fresh));
}

#[test]
fn of_several_budgets_all_hold_or_none() {
    let mut desk = Desk::new();
    let draw = |key: &str, limit| Draw {
        key: BudgetKey::new(key.to_owned()),
        rule: "r".into(),
        amount: 5,
        limit,
        window: Window::Ever,
        used: 0,
    };
    assert_eq!(desk.claim(with_draws("a", vec![draw("x", 100), draw("y", 4)])), over(1, 0));
    assert_eq!(used(&desk, "x"), 0);
    assert_eq!(desk.claim(with_draws("a", vec![draw("x", 100), draw("y", 5)])), Ok(Claim::Fresh));
    assert_eq!((used(&desk, "x"), used(&desk, "y")), (5, 5));
}

#[test]
fn of_a_deposit_only_what_was_spent_counts() {
    let mut desk = Desk::new();
    let payment = purchase("a", Money::Rail).payment.id;
    let two = [("usd", 5_u128), ("payments", 1)].map(|(key, amount)| Draw {
        key: BudgetKey::new(key.to_owned()),
        rule: "r".into(),
        amount,
        limit: 5,
        window: Window::Ever,
        used: 0,
    });
    desk.claim(with_draws("a", two.to_vec())).unwrap();
    let settlement = Settlement { moved: Some(usd(2)), ..Settlement::new("tx".into(), desk.now) };
    let posted = desk.book.post(payment, settlement, desk.now);
    desk.write(posted);
    assert_eq!((used(&desk, "usd"), used(&desk, "payments")), (2, 1));
}

#[test]
fn who_is_frozen_is_paid_nothing_for_until_thawed() {
    let mut desk = Desk::new();
    let step = |freeze: bool, agent: Option<&str>| {
        let (agent, reason) = (agent.map(str::to_owned), "odd".to_owned());
        let step = if freeze {
            OwnerStep::Frozen { agent, reason }
        } else {
            OwnerStep::Thawed { agent, reason }
        };
        Entry::Owner(Box::new(step))
    };
    let buy = |name: &str| allowed(name, "day", 5, 100, Window::Ever);
    assert_eq!(desk.claim(buy("a")), Ok(Claim::Fresh));
    assert_eq!(desk.enter(step(true, Some("other"))), Ok(true));
    assert_eq!(desk.claim(buy("b")), Ok(Claim::Fresh), "somebody else is frozen");
    for whom in [Some("researcher"), None] {
        assert_eq!(desk.enter(step(true, whom)), Ok(true));
        assert_eq!(desk.enter(step(true, whom)), Ok(false));
        desk.restart();
        assert_eq!(desk.claim(buy("c")), Err(ClaimError::Frozen));
        assert_eq!(desk.enter(step(false, whom)), Ok(true));
    }
    assert_eq!(desk.claim(buy("c")), Ok(Claim::Fresh));
    assert_eq!(desk.run("post a"), "done", "what was signed before is still written down");
}

/// What a model knows of one payment.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Open,
    Spent(Timestamp),
    Free,
}

proptest! {
    /// However payments come and end: what counts is at least what a list of them says, at most that and
    /// what a part of the window adds, and never beyond the limit; and the journal makes it anew.
    #[test]
    fn any_story_keeps_within_the_limit(
        steps in proptest::collection::vec((0_u8..4, 0_usize..12, 1_u64..400), 1..60),
    ) {
        const SPAN_S: u64 = 1_000;
        let mut desk = Desk::new();
        let mut known: Vec<(u128, End)> = Vec::new();
        for (what, which, wait) in steps {
            desk.now = desk.now.after(Duration::from_secs(wait));
            let (now, span) = (desk.now, Duration::from_secs(SPAN_S));
            let counts = |end: &End, slack: u64| match end {
                End::Open => true,
                End::Spent(at) => at.after(span).after(Duration::from_secs(slack)) > now,
                End::Free => false,
            };
            let sum = |slack| known.iter().filter(|(_, end)| counts(end, slack)).map(|(n, _)| n).sum::<u128>();
            let (least, most) = (sum(0), sum(2));
            let is = used(&desk, "k");
            prop_assert!(least <= is && is <= most, "{least} {is} {most}");
            prop_assert!(is <= 20);
            let name = which.to_string();
            let payment = purchase(&name, Money::Rail).payment.id;
            match what {
                0 | 1 => {
                    let name = known.len().to_string();
                    let amount = u128::try_from(which).unwrap();
                    let request = allowed(&name, "k", amount, 20, Window::Rolling(SPAN_S));
                    match desk.claim(request) {
                        Ok(Claim::Fresh) => known.push((amount, End::Open)),
                        Err(ClaimError::OverBudget { used, .. }) => prop_assert!(used.saturating_add(amount) > 20),
                        other => prop_assert!(false, "{other:?}"),
                    }
                }
                2 => {
                    let record = desk.book.post(payment, Settlement::new("tx".into(), now), now);
                    if record.is_some() {
                        known[which].1 = End::Spent(now);
                    }
                    desk.write(record);
                }
                _ => {
                    let record = desk.book.void(payment, VoidReason::Declined, now);
                    if record.is_some() {
                        known[which].1 = End::Free;
                    }
                    desk.write(record);
                }
            }
        }
        let mut again = Book::default();
        for record in &desk.journal {
            again.replay(record).unwrap();
        }
        prop_assert_eq!(&again.budgets, &desk.book.budgets);
        let restored = Book::restore(serde_json::from_str(&serde_json::to_string(&desk.book.snapshot()).unwrap()).unwrap());
        prop_assert_eq!(&restored.budgets, &desk.book.budgets);
    }
}
