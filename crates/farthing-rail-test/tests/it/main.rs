//! The test rail against the suite every rail must pass, whoever keeps its account.

#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::Arc;

use farthing_rail_test::{Dial, TestPayer, TestRail, teller};
use farthing_testkit::rail::{Railway, assets};

fn railway() -> Railway {
    on(TestRail::new(assets(), Dial::default()))
}

fn on(rail: TestRail) -> Railway {
    Railway {
        rail: Arc::new(rail),
        payer: Arc::new(TestPayer::new("alice", assets())),
        stranger: Arc::new(TestPayer::new("bob", assets())),
        entries: vec![],
        recipient: "seller".into(),
        guard: None,
    }
}

farthing_testkit::rail_suite!(railway());

/// The same stories, with the account in the hands of somebody else.
mod by_teller {
    use super::{Dial, Railway, TcpListener, TestRail, assets, on, teller};

    fn railway() -> Railway {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let serving = tokio::spawn(teller::serve(listener, Dial::default()));
        Railway { guard: Some(Box::new(serving)), ..on(TestRail::at(assets(), address)) }
    }

    farthing_testkit::rail_suite!(railway());
}
