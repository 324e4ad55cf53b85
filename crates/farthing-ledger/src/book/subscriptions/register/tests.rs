//! What is found is what looking at all of them would find.

use proptest::prelude::*;

use super::*;
use crate::book::subscriptions::tests::{at, facts};
use crate::{Ending, InFlight, PaymentId, Side};

const DAY: Duration = Duration::from_hours(24);

/// A subscription by the day, as anything may have left it.
fn some() -> impl Strategy<Value = Subscription> {
    let state = prop_oneof![
        Just(SubscriptionState::Opening),
        Just(SubscriptionState::Active),
        Just(SubscriptionState::PastDue),
        Just(SubscriptionState::Cancelled { by: Side::Payer }),
        Just(SubscriptionState::Ended { why: Ending::Lapsed }),
    ];
    let parts = (0..20_u8, state, 0..5_u64, any::<bool>(), proptest::option::of(0..10_u32));
    parts.prop_map(|(name, state, charged, flies, retry)| {
        let start = at("2026-01-31T10:00:00Z");
        let payer = format!("did:key:z6Mk{}", name % 3);
        let facts = crate::SubscriptionFacts {
            payer,
            expires_at: (name % 2 == 0).then(|| start.after(DAY.saturating_mul(3))),
            ..facts(&name.to_string(), "1 day")
        };
        let payment = PaymentId::of(&facts.charge(charged, 1));
        Subscription {
            facts,
            state,
            anchor: (state != SubscriptionState::Opening).then_some(start),
            charged: (state != SubscriptionState::Opening).then_some(charged),
            charges: 1,
            reference: None,
            in_flight: flies.then_some(InFlight { payment, period: charged }),
            attempts: 1,
            failures: retry.unwrap_or_default(),
            retry_at: retry.map(|days| start.after(DAY.saturating_mul(days))),
            past_due_since: retry.map(|_| start.after(DAY)),
            opened_at: start,
        }
    })
}

proptest! {
    /// However subscriptions come and change, the register says what they say themselves.
    #[test]
    fn it_says_what_all_of_them_say(changes in prop::collection::vec(some(), 0..60), day in 0..12_u32) {
        let mut all = BTreeMap::<SubscriptionId, Subscription>::new();
        let mut register = Register::default();
        for it in changes {
            if let Some(before) = all.insert(it.facts.id, it.clone()) {
                register.strike(&before);
            }
            register.list(&it);
        }
        prop_assert_eq!(&register, &Register::of(all.values()));
        let now = at("2026-01-31T10:00:00Z").after(DAY.saturating_mul(day));
        let found: BTreeSet<_> = register.due(now, DAY).into_iter().collect();
        let is_due = |it: &&Subscription| {
            let due = it.due_at().is_some_and(|at| at <= now);
            due || past_due(it).is_some_and(|since| since.after(DAY) <= now)
        };
        let expected: BTreeSet<_> = all.values().filter(is_due).map(|it| it.facts.id).collect();
        prop_assert_eq!(found, expected);
        let alive = all.values().filter(|it| !it.state.is_over());
        let theirs = |payer: &str| register.of_payer(payer).count();
        let listed: usize = (0..3).map(|at| theirs(&format!("did:key:z6Mk{at}"))).sum();
        prop_assert_eq!(alive.clone().count(), listed);
        let counted: u64 = register.census().iter().map(|(_, _, count)| count).sum();
        prop_assert_eq!(usize::try_from(counted).unwrap(), alive.count());
    }
}
