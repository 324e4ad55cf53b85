#![allow(clippy::arithmetic_side_effects, reason = "the bound is computed on small numbers")]

use std::time::Duration;

use farthing_money::Timestamp;
use proptest::prelude::*;

use super::{Gcra, GcraState};

#[test]
fn a_burst_passes_and_then_the_rate_holds() {
    let limit = Gcra::new(10, 3);
    let mut state = GcraState::default();
    let start = Timestamp::from_micros(1_000_000_000);
    for _ in 0..3 {
        assert_eq!(limit.take(&mut state, start), Ok(()));
    }
    assert_eq!(limit.take(&mut state, start), Err(Duration::from_millis(100)));
    let later = start.after(Duration::from_millis(100));
    assert_eq!(limit.take(&mut state, later), Ok(()));
    assert!(limit.take(&mut state, later).is_err());
    assert!(!limit.is_idle(&state, later));
    assert!(limit.is_idle(&state, later.after(Duration::from_secs(1))));
}

proptest! {
    #[test]
    fn no_window_lets_more_through_than_rate_and_burst(per_second in 1_u32..100, burst in 1_u32..20, gaps in proptest::collection::vec(0_u64..200_000, 1..200)) {
        let limit = Gcra::new(per_second, burst);
        let mut state = GcraState::default();
        let start = Timestamp::from_micros(1_000_000_000);
        let (mut now, mut passed) = (start, 0_u64);
        for gap in gaps {
            now = now.after(Duration::from_micros(gap));
            passed = passed.saturating_add(u64::from(limit.take(&mut state, now).is_ok()));
            let elapsed = u64::try_from(now.since(start).as_micros()).unwrap();
            let allowed = u64::from(burst) + elapsed * u64::from(per_second) / 1_000_000 + 1;
            prop_assert!(passed <= allowed, "{passed} passed, {allowed} allowed");
        }
    }
}
