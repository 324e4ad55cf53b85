//! Processes that are killed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use farthing_core::Store as _;
use farthing_ledger::audit;
use farthing_store_postgres::{Address, PostgresStore, Role};
use farthing_testkit::killed;
use farthing_testkit::store::{START, Stores as _, Story, purchase, rail_purchase, word};

use super::{Postgres, short};

/// How the child is told where its book is.
pub(crate) const PLACE: (&str, &str) = ("FARTHING_TEST_URL", "FARTHING_TEST_BOOK");

/// How many payments are acknowledged before the child is killed.
const ACKNOWLEDGED: usize = 200;

/// Not a test: the process that the one below starts and kills.
#[test]
#[ignore = "started by another test"]
#[expect(clippy::print_stdout, reason = "what was acknowledged is told to the parent")]
fn a_gateway_that_will_be_killed() {
    let (Ok(url), Ok(book)) = (std::env::var(PLACE.0), std::env::var(PLACE.1)) else { return };
    let address = Address::parse(&url).unwrap();
    let store = PostgresStore::open(address, &book, &short(), START).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for at in 0.. {
            let name = format!("payment {at}");
            let claim = store.claim(rail_purchase(&name, 1), START).await.unwrap();
            println!("acknowledged {name}: {}", word(&claim));
        }
    });
}

/// C-11, C-03: two processes, one of which is killed without a warning: the other writes on, and every
/// payment that was acknowledged is there, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_process_loses_nothing() {
    let stores = Postgres::new(short());
    Story::begin(&stores).await.end();
    let mut child = killed::child("processes::a_gateway_that_will_be_killed");
    child.env(PLACE.0, &stores.url).env(PLACE.1, &stores.book).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = Vec::new();
    let mut hear = |line: &str| {
        let line = line.split("acknowledged ").nth(1)?;
        let (name, how) = line.split_once(": ")?;
        assert_eq!(how, "fresh");
        acknowledged.push(name.to_owned());
        Some(acknowledged.len())
    };
    while lines.next().is_some_and(|line| hear(&line).is_none()) {}

    let other = stores.store(START);
    assert_eq!(other.role(), Role::Forwards);
    while lines.next().is_some_and(|line| hear(&line) != Some(ACKNOWLEDGED)) {}
    let claim = async |request| word(&other.claim(request, START).await.unwrap());
    assert_eq!(claim(purchase("of the other", 1)).await, "fresh");
    child.kill().unwrap();
    child.wait().unwrap();
    lines.for_each(|line| {
        hear(&line);
    });

    // What is asked over a link that breaks is not answered; what is asked afterwards waits.
    while other.role() == Role::Forwards {
        tokio::task::yield_now().await;
    }
    assert_eq!(claim(purchase("afterwards", 1)).await, "fresh");
    assert_eq!(other.role(), Role::Writes);
    for name in &acknowledged {
        assert_eq!(claim(rail_purchase(name, 1)).await, "unsettled", "{name}");
    }
    assert!(acknowledged.len() >= ACKNOWLEDGED);
    drop(other);
    let sound = audit(&stores.journal()).unwrap();
    // What was written when it was killed may not have been acknowledged.
    let written = usize::try_from(sound.pending).unwrap();
    assert!((0..=1).contains(&(written - acknowledged.len())), "{written} written");
}
