//! Subscriptions, as every store must keep them.

use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::{
    ChargeFailure, Claim, ClaimRequest, PaymentId, Proof, Side, Source, Subscribed, SubscribedPart,
    Subscription, SubscriptionError, SubscriptionFacts, SubscriptionId, SubscriptionState,
    SubscriptionStep,
};

use super::{START, Stores, Story, asset, holder, key, purchase, sums};

/// Alice's subscription called `name`: 10 a day.
#[must_use]
pub fn subscription(name: &str) -> SubscriptionFacts {
    SubscriptionFacts {
        id: SubscriptionId::of("mpp", name),
        trace: farthing_ledger::TraceId::new(START, [8; 10]),
        protocol: "mpp".into(),
        method: "prepaid".into(),
        challenge: name.into(),
        offered_until: START.after(Duration::from_mins(5)),
        payer: "alice".into(),
        payee: holder("seller"),
        asset: asset(),
        atoms: 10,
        period: "1 day".parse().unwrap(),
        expires_at: None,
        plan: "daily".into(),
        route: "weather".into(),
        from: Source::Key(key("alice")),
        money: farthing_ledger::Money::Book,
        grant: None,
    }
}

/// A request to charge its period `period`, as attempt `attempt`.
#[must_use]
pub fn charge(facts: &SubscriptionFacts, period: u64, attempt: u64) -> ClaimRequest {
    let fingerprint = facts.charge(period, attempt);
    let mut request = purchase(&format!("{period} {attempt}"), facts.atoms);
    request.payment.id = PaymentId::of(&fingerprint);
    request.payment.subscription =
        Some(Subscribed { id: facts.id, period, part: SubscribedPart::Charge { attempt } });
    request.proofs = vec![Proof { fingerprint, keep_until: None }];
    request
}

/// A request to be answered within its period `period`.
#[must_use]
pub fn within(facts: &SubscriptionFacts, name: &str, period: u64) -> ClaimRequest {
    let mut request = purchase(name, 0);
    request.payment.subscription =
        Some(Subscribed { id: facts.id, period, part: SubscribedPart::Use });
    request.legs.clear();
    request.money = farthing_ledger::Money::None;
    request
}

async fn step(
    story: &Story<'_>,
    step: SubscriptionStep,
) -> Result<Subscription, SubscriptionError> {
    story.store().subscribe(step, story.now).await
}

/// SUB.S04: what was agreed on and what was charged is known after every restart, and nothing is charged for
/// a second time.
pub async fn a_subscription_lives_through_restarts(stores: &impl Stores) {
    let mut story = Story::begin(stores).await;
    let facts = subscription("a");
    let open = SubscriptionStep::Open(Box::new(facts.clone()));
    step(&story, open.clone()).await.unwrap();
    story.restart();
    assert!(story.claim(within(&facts, "early", 0)).await.contains("Unpaid"));
    assert_eq!(story.claim(charge(&facts, 0, 0)).await, "fresh");
    story.restart();
    assert!(story.claim(charge(&facts, 0, 1)).await.contains("Paid"));
    assert_eq!(story.claim(within(&facts, "use", 0)).await, "fresh");
    let again = step(&story, open).await.unwrap();
    assert_eq!((again.state, again.charges), (SubscriptionState::Active, 1));
    let id = facts.id;
    let (why, retry_at) = (ChargeFailure::Short, None);
    let grace = Duration::from_hours(1);
    let due = |hours: u64| {
        story.store().subscriptions_due(START.after(Duration::from_hours(hours)), grace)
    };
    let not_yet = due(23).await.unwrap();
    assert!(not_yet.due.is_empty(), "{:?}", not_yet.due);
    assert_eq!(not_yet.census, [("prepaid".to_owned(), SubscriptionState::Active, 1)]);
    let [is_due] = due(24).await.unwrap().due.try_into().unwrap();
    assert_eq!((is_due.facts.id, is_due.charged), (id, Some(0)));
    let early = SubscriptionStep::Fail { id, period: 0, failures: 0, why, retry_at };
    assert_eq!(step(&story, early).await.unwrap().failures, 0, "it is paid");
    step(&story, SubscriptionStep::Cancel { id, by: Side::Seller }).await.unwrap();
    story.restart();
    let all = story.store().subscriptions().await.unwrap();
    let [it] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(it.state, SubscriptionState::Cancelled { by: Side::Seller });
    assert_eq!(story.claim(within(&facts, "later", 0)).await, "fresh", "it was paid for");
    let unknown = SubscriptionStep::Look { id: SubscriptionId::of("mpp", "b") };
    assert_eq!(step(&story, unknown).await, Err(SubscriptionError::Unknown));
    assert_eq!(sums(&story.end()), (990, 10));
}

/// SUB.S04: of any number of renewals at once, one is made.
pub async fn of_renewals_at_once_one_is_made(stores: &impl Stores) {
    let story = Story::begin(stores).await;
    let facts = subscription("a");
    step(&story, SubscriptionStep::Open(Box::new(facts.clone()))).await.unwrap();
    let tasks: Vec<_> = (0..64_u64)
        .map(|at| {
            let (store, request) = (Arc::clone(story.store()), charge(&facts, 0, at % 2));
            tokio::spawn(async move { store.claim(request, START).await })
        })
        .collect();
    let mut fresh = 0;
    for task in tasks {
        fresh += u32::from(task.await.unwrap() == Ok(Claim::Fresh));
    }
    assert_eq!(fresh, 1);
    let stands = step(&story, SubscriptionStep::Look { id: facts.id }).await.unwrap();
    assert_eq!((stands.charges, stands.charged), (1, Some(0)));
    assert_eq!(sums(&story.end()), (990, 10));
}
