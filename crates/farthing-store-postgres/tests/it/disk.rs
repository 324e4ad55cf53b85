//! A database that takes no more.

use std::time::{Duration, Instant};

use farthing_core::Store as _;
use farthing_ledger::{Claim, ClaimError, Event};
use farthing_store_postgres::{Options, PostgresStore};
use farthing_testkit::disk::Disk;
use farthing_testkit::postgres::Cluster;
use farthing_testkit::store::{START, Stores as _, Story, rail_purchase};

use super::Postgres;

/// How long a database is given to come back.
const BACK_WITHIN: Duration = Duration::from_mins(1);

/// A gateway's store that soon says that there is no answer.
fn stores(url: String) -> Postgres {
    let options = Options {
        lease_ttl: Duration::from_secs(1),
        patience: Duration::from_millis(500),
        give_up: Duration::from_millis(500),
        ..Options::default()
    };
    Postgres { url, ..Postgres::new(options) }
}

/// Payments, one after the other, each under a name of its own.
struct Buyer<'a> {
    store: &'a PostgresStore,
    acknowledged: Vec<String>,
    refused: Vec<String>,
}

impl<'a> Buyer<'a> {
    const fn at(store: &'a PostgresStore) -> Self {
        Self { store, acknowledged: Vec::new(), refused: Vec::new() }
    }

    /// Buys something. Nobody is told anything but that it is done, or that it may be tried again.
    async fn buys(&mut self) -> bool {
        let name = format!("{}", self.acknowledged.len() + self.refused.len());
        match self.store.claim(rail_purchase(&name, 1), START).await {
            Ok(Claim::Fresh) => self.acknowledged.push(name),
            Err(ClaimError::Unavailable) => self.refused.push(name),
            other => panic!("{name}: {other:?}"),
        }
        self.refused.is_empty()
    }

    /// Asks for everything once more: what was acknowledged is known, and the rest is there now, by the
    /// same credentials.
    async fn asks_again(&mut self, stores: &Postgres) {
        let until = Instant::now() + BACK_WITHIN;
        for name in self.acknowledged.iter().chain(&self.refused) {
            let is_acknowledged = self.acknowledged.contains(name);
            loop {
                match self.store.claim(rail_purchase(name, 1), START).await {
                    Ok(Claim::Fresh) => assert!(!is_acknowledged, "{name} was lost"),
                    Ok(Claim::Pending(_) | Claim::Unsettled) => {}
                    Err(ClaimError::Unavailable) if Instant::now() < until => continue,
                    other => panic!("{name}: {other:?}"),
                }
                break;
            }
        }
        let journal = stores.journal();
        farthing_ledger::audit(&journal).unwrap();
        let mut claimed = Vec::new();
        for record in &journal {
            if let Event::Claimed { payment, .. } = &record.event {
                claimed.push(payment.challenge.clone());
            }
        }
        let mut all: Vec<_> = self.acknowledged.iter().chain(&self.refused).cloned().collect();
        claimed.sort_unstable();
        all.sort_unstable();
        assert_eq!(claimed, all, "each once");
    }
}

/// C-08: a database that only reads has nothing acknowledged by us, and is written on once it writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_only_reads_is_acknowledged_nothing_of() {
    let cluster = Cluster::start(&["fsync=off"]);
    let stores = stores(cluster.url());
    Story::begin(&stores).await.end();
    let store = stores.store(START);
    let mut buyer = Buyer::at(&store);
    for _ in 0..20 {
        assert!(buyer.buys().await, "the control");
    }
    cluster.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    cluster.sql("SELECT pg_reload_conf()");
    // Each connection reads it when it is next idle.
    while buyer.buys().await {}
    let count = "SELECT count(*) FROM farthing.journal";
    let before = cluster.sql(count);
    for _ in 0..5 {
        assert!(!buyer.buys().await);
    }
    assert_eq!(cluster.sql(count), before);
    cluster.sql("ALTER SYSTEM RESET default_transaction_read_only");
    cluster.sql("SELECT pg_reload_conf()");
    buyer.asks_again(&stores).await;
}

/// C-08: on a full disk of the database's, nothing is acknowledged that is not there; and with room again
/// the same credentials are good.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_of_the_databases_loses_nothing() {
    let Some(disk) = Disk::mount("size=48m") else { return };
    let tables = disk.path().join("tables");
    std::fs::create_dir(&tables).unwrap();
    let cluster = Cluster::start(&["fsync=off"]);
    let stores = stores(cluster.new_database_in(&tables));
    Story::begin(&stores).await.end();
    let store = stores.store(START);
    let mut buyer = Buyer::at(&store);
    for _ in 0..20 {
        assert!(buyer.buys().await, "the control");
    }
    Disk::fill(disk.path());
    // What is left of the last page still takes some.
    while buyer.buys().await {}
    assert!(buyer.acknowledged.len() < 2_000, "{}", buyer.acknowledged.len());
    for _ in 0..5 {
        buyer.buys().await;
    }
    Disk::clear(disk.path());
    buyer.asks_again(&stores).await;
}
