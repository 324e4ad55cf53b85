//! What tests of sessions on chains ask of a wallet, of a gateway, and of the escrow between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farthing_rail_tempo::session::{Escrow, Happened, Watch};
use farthing_rail_tempo::{Nodes, parse_node};
use farthing_testkit::chain::DEVELOPMENT_ACCOUNTS;
use serde_json::Value;

use crate::world::World;

/// Which of the development accounts is paid.
pub(crate) const PAYEE: usize = 1;

/// State, deposit, signed, and spent of a session.
pub(crate) type Stands = (String, u128, u128, u128);

pub(crate) fn stands(state: &str, deposit: u128, signed: u128, spent: u128) -> Stands {
    (state.to_owned(), deposit, signed, spent)
}

pub(crate) fn opened(what: &Happened, atoms: u128) -> bool {
    matches!(what, Happened::Opened { deposit, .. } if *deposit == atoms)
}

/// What an escrow has told of the payee's channels, in order, by the node at `url`.
pub(crate) async fn told(url: &str, escrow: Escrow) -> Vec<Happened> {
    let urls = vec![parse_node(url).unwrap()];
    let nodes = Nodes::new(escrow.chain_id, urls, Duration::from_secs(5)).unwrap();
    let payee = DEVELOPMENT_ACCOUNTS[PAYEE].parse().unwrap();
    let mut watch = Watch::new(Arc::new(nodes), escrow, payee, 0);
    watch.look().await.unwrap().events.iter().map(|it| it.event.what).collect()
}

impl World {
    /// Makes the gateway sell what is at `upstream`.
    pub(crate) fn sell(&self, upstream: SocketAddr) {
        let config = self.read("farthing.toml");
        let line = config.lines().find(|line| line.starts_with("url = ")).unwrap();
        self.write("farthing.toml", &config.replace(line, &format!("url = \"http://{upstream}\"")));
    }

    pub(crate) fn sessions(&self) -> Vec<Value> {
        let listed = self.farthing(&["sessions", "list", "--all", "--json"]).json();
        listed.as_array().unwrap().clone()
    }

    /// How the sessions stand, the latest first.
    pub(crate) fn stand(&self) -> Vec<Stands> {
        let read = |it: &Value| {
            let atoms = |name: &str| it[name]["atoms"].as_str().unwrap().parse().unwrap();
            let state = it["state"].as_str().unwrap().to_owned();
            (state, atoms("deposit"), atoms("signed"), atoms("spent"))
        };
        self.sessions().iter().map(read).collect()
    }

    /// The books of both sides hold.
    pub(crate) fn verify(&self, delivered: u64) {
        let verified = self.farthing(&["ledger", "verify", "--json"]).json();
        assert_eq!(verified["audit"]["delivered"], delivered);
        self.farthing(&["ledger", "verify", "--wallet"]).ok();
    }
}
