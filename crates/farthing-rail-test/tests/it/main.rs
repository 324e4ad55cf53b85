//! The test rail against the suite every rail must pass.

use std::sync::Arc;

use farthing_rail_test::{Dial, TestPayer, TestRail};
use farthing_testkit::rail::{Railway, assets};

fn railway() -> Railway {
    Railway {
        rail: Arc::new(TestRail::new(assets(), Dial::default())),
        payer: Arc::new(TestPayer::new("alice", assets())),
        stranger: Arc::new(TestPayer::new("bob", assets())),
        entries: vec![],
        recipient: "seller".into(),
        guard: None,
    }
}

farthing_testkit::rail_suite!(railway());
