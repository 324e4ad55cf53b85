//! A primary that dies, and the standby that takes its place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farthing_core::Store as _;
use farthing_ledger::{Claim, Event, audit};
use farthing_store_postgres::{Address, Options, PostgresStore, Reader};
use farthing_testkit::postgres::{Cluster, url};
use farthing_testkit::store::{Opened, START, Stores, Story, rail_purchase};

/// How many payments are acknowledged before the primary dies, and after.
const ACKNOWLEDGED: usize = 100;

/// A book on any of several servers.
struct Servers(Vec<u16>);

impl Servers {
    fn address(&self) -> Address {
        let url = format!("{}?target_session_attrs=read-write", url(&self.0, "postgres"));
        Address::parse(&url).unwrap()
    }

    fn store(&self) -> PostgresStore {
        let options = Options {
            lease_ttl: Duration::from_secs(2),
            patience: Duration::from_mins(1),
            give_up: Duration::from_mins(1),
            ..Options::default()
        };
        PostgresStore::open(self.address(), "main", &options, START).unwrap()
    }
}

impl Stores for Servers {
    fn open(&self, _: farthing_money::Timestamp) -> Opened {
        super::opened(Arc::new(self.store()))
    }

    fn journal(&self) -> Vec<farthing_ledger::Record> {
        Reader::open(&self.address(), "main").unwrap().journal().unwrap()
    }
}

/// C-01, C-02, C-04: a primary killed under load and its synchronous standby promoted: every payment that
/// was acknowledged is there, and none twice; and the same gateways write on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_synchronous_standby_has_everything_that_was_acknowledged() {
    let primary = Cluster::start(&[]);
    let standby = primary.start_standby();
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'");
    primary.sql("SELECT pg_reload_conf()");
    let state = "SELECT coalesce(max(sync_state), '') FROM pg_stat_replication";
    while primary.sql(state) != "sync" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let servers = Servers(vec![primary.port(), standby.port()]);
    Story::begin(&servers).await.end();
    let (one, other) = (Arc::new(servers.store()), Arc::new(servers.store()));

    // Eight buyers at two gateways, each of which tries again until it is answered.
    let stopping = Arc::new(AtomicBool::new(false));
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut buyers = tokio::task::JoinSet::new();
    for buyer in 0..8_usize {
        let store = Arc::clone(if buyer % 2 == 0 { &one } else { &other });
        let (tell, stopping) = (tell.clone(), Arc::clone(&stopping));
        buyers.spawn(async move {
            for at in 0.. {
                let name = format!("{buyer}: {at}");
                loop {
                    match store.claim(rail_purchase(&name, 1), START).await {
                        Ok(Claim::Fresh | Claim::Unsettled | Claim::Pending(_)) => break,
                        Ok(other) => panic!("{name}: {other:?}"),
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                }
                tell.send(name).unwrap();
                if stopping.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
    }
    drop(tell);
    let mut acknowledged = BTreeSet::new();
    while acknowledged.len() < ACKNOWLEDGED {
        assert!(acknowledged.insert(told.recv().await.unwrap()));
    }
    primary.kill();
    while let Ok(name) = told.try_recv() {
        assert!(acknowledged.insert(name));
    }
    standby.promote();
    let before = acknowledged.len();
    while acknowledged.len() < before + ACKNOWLEDGED {
        assert!(acknowledged.insert(told.recv().await.unwrap()));
    }
    stopping.store(true, Ordering::Relaxed);
    while let Some(name) = told.recv().await {
        assert!(acknowledged.insert(name));
    }
    buyers.join_all().await;
    drop((one, other));

    let journal = servers.journal();
    audit(&journal).unwrap();
    let mut claimed = BTreeSet::new();
    for record in &journal {
        if let Event::Claimed { payment, .. } = &record.event {
            assert!(claimed.insert(payment.challenge.clone()), "{} twice", payment.challenge);
        }
    }
    assert_eq!(claimed, acknowledged);
}
