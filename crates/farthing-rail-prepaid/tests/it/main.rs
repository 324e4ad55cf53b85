//! The prepaid rail against the suite every rail must pass, and what only signatures can go
//! through.

#![allow(clippy::unwrap_used)]

mod sessions;
mod signatures;
mod subscriptions;

use std::sync::Arc;

use farthing_ledger::SpendingKey;
use farthing_rail_prepaid::{PrepaidPayer, PrepaidRail, parse_did_key};
use farthing_testkit::rail::{Railway, assets, funded};

fn railway() -> Railway {
    let payer = PrepaidPayer::new(&[7; 32], assets());
    let key = parse_did_key(&farthing_core::Payer::account(&payer)).unwrap();
    Railway {
        rail: Arc::new(PrepaidRail::new(assets())),
        payer: Arc::new(payer),
        stranger: Arc::new(PrepaidPayer::new(&[8; 32], assets())),
        entries: funded(SpendingKey(key)),
        recipient: "seller".into(),
        guard: None,
    }
}

farthing_testkit::rail_suite!(railway());
