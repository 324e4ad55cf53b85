//! The cells at their small sizes: what they count, and never how long they take.

use super::*;

/// P-01, P-02, P-03, P-04, P-05, P-06: the six scenarios of the published experiment, under each baseline, at the size
/// that was published. Every rejection has honest payments beside it, and both books say the same.
#[tokio::test(flavor = "multi_thread")]
async fn six_scenarios_come_as_they_have_to_under_each_baseline() {
    let folder = tempfile::tempdir().unwrap();
    for scenario in Scenario::ALL {
        for baseline in Baseline::ALL {
            let shop = Shop::open(folder.path()).await.unwrap();
            let cell = cells::run(&shop, baseline, scenario, 22, 2).await.unwrap();
            cell.check(baseline, scenario, 22).unwrap_or_else(|why| {
                panic!("{} {}: {why}: {cell:?}", scenario.name(), baseline.name())
            });
            if (baseline, scenario) == (Baseline::Policy, Scenario::Overspend) {
                let counts = cell.counts;
                assert_eq!((counts.served, counts.denied, counts.spent_atoms), (16, 6, 40_000));
            }
            shop.close().await.unwrap();
        }
    }
}

/// P-05b: of 64 agents at once on one budget of 16 purchases, 16 are served, and not a cent more is spent.
#[tokio::test(flavor = "multi_thread")]
async fn agents_that_share_a_budget_do_not_pass_it() {
    let folder = tempfile::tempdir().unwrap();
    let shop = Shop::open(folder.path()).await.unwrap();
    let shared = cells::shared(&shop, SHARING, SHAPE.1).await.unwrap();
    assert_eq!((shared.served, shared.denied, shared.spent_atoms), (16, 48, 40_000));
}

#[test]
fn bounds_are_those_of_the_tables() {
    for (hits, of, low, high) in [
        (20, 20, 0.8316, 1.0),
        (0, 20, 0.0, 0.1684),
        (10_000, 10_000, 0.999_631, 1.0),
        (16, 22, 0.4978, 0.8927),
        (5, 10, 0.1871, 0.8129),
    ] {
        let (a, b) = clopper_pearson(hits, of, 0.95);
        assert!((a - low).abs() < 1e-4 && (b - high).abs() < 1e-4, "{hits} of {of}: {a} to {b}");
    }
}
