//! An owner's budgets, as every store must keep them.

use farthing_ledger::{
    BudgetKey, ClaimRequest, Decided, Draw, Entry, OwnerStep, Ruling, Used, VoidReason, Window,
};

use super::{Stores, Story, payment, race, rail_purchase};

/// A purchase on a rail that an owner has allowed, drawing its price on `budget`.
#[must_use]
pub fn allowed_purchase(name: &str, atoms: u128, budget: &str, limit: u128) -> ClaimRequest {
    let mut request = rail_purchase(name, atoms);
    let draw = Draw {
        key: BudgetKey::new(budget.to_owned()),
        rule: format!("budgets.{budget}"),
        amount: atoms,
        limit,
        window: Window::Ever,
        used: 0,
    };
    request.payment.decision = Some(Box::new(Decided {
        agent: "researcher".to_owned(),
        ruling: Ruling::Allowed,
        policy: "1".to_owned(),
        policy_sha256: "0".repeat(64),
        facts: "{}".into(),
        digest: Decided::digest_of("{}"),
        rules: vec!["wallet".to_owned()],
        draws: vec![draw],
        approval: None,
        draft: None,
    }));
    request
}

async fn used(story: &Story<'_>, budget: &str) -> u128 {
    let view = story.store().owner(vec![BudgetKey::new(budget.to_owned())], story.now).await;
    view.unwrap().used.iter().map(|Used { amount, .. }| *amount).sum()
}

/// P-02: of 64 agents with 25 each against a budget of 400, 16 are allowed, whatever comes first.
pub async fn a_budget_is_not_passed_by_a_race(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let requests = (0..64).map(|at| allowed_purchase(&at.to_string(), 25, "day", 400));
    let answers = race(&story, requests).await;
    assert_eq!(answers["fresh"], 16, "{answers:?}");
    assert_eq!(answers.values().sum::<usize>(), 64);
    assert_eq!(used(&story, "day").await, 400);
    story.restart();
    assert_eq!(used(&story, "day").await, 400, "a restart forgets nothing that is held");
    story.end();
}

/// P-12: a hold is let go once, by whoever knows that it came to nothing, and a restart between changes
/// nothing.
pub async fn a_budget_is_held_until_the_end_is_known(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    assert_eq!(story.claim(allowed_purchase("a", 60, "day", 100)).await, "fresh");
    story.restart();
    let refused = story.claim(allowed_purchase("b", 60, "day", 100)).await;
    assert_eq!(refused, "OverBudget { draw: 0, used: 60 }");
    story.store().void(payment("a"), VoidReason::Declined, story.now).await.unwrap();
    assert_eq!(used(&story, "day").await, 0);
    assert_eq!(story.claim(allowed_purchase("b", 60, "day", 100)).await, "fresh");
    story.post("b").await;
    story.restart();
    assert_eq!(used(&story, "day").await, 60);
    story.end();
}

/// Whoever is frozen claims nothing more, at any process, and over a restart.
pub async fn who_is_frozen_claims_nothing(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let agent = Some("researcher".to_owned());
    let freeze = OwnerStep::Frozen { agent: agent.clone(), reason: "odd".to_owned() };
    assert_eq!(story.enter(Entry::Owner(Box::new(freeze.clone()))).await, Ok(true));
    assert_eq!(story.enter(Entry::Owner(Box::new(freeze))).await, Ok(false));
    story.restart();
    assert_eq!(story.claim(allowed_purchase("a", 5, "day", 100)).await, "Frozen");
    let view = story.store().owner(Vec::new(), story.now).await.unwrap();
    assert_eq!(view.frozen, std::slice::from_ref(&agent));
    let thaw = OwnerStep::Thawed { agent, reason: "it was nothing".to_owned() };
    assert_eq!(story.enter(Entry::Owner(Box::new(thaw))).await, Ok(true));
    assert_eq!(story.claim(allowed_purchase("a", 5, "day", 100)).await, "fresh");
    story.end();
}
