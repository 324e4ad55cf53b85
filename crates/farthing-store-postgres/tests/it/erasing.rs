//! Somebody is erased from a database: what it holds afterwards, who may do it, and how it moves on.

use std::sync::Arc;

use farthing_core::Store;
use farthing_ledger::{EraseError, Published};
use farthing_store_postgres::{Guards, Options, SCHEMA_VERSION, check, copy, migrate};
use farthing_store_sqlite::SqliteStore;
use farthing_testkit::killed;
use farthing_testkit::postgres::{Cluster, ask};
use farthing_testkit::store::{START, Stores as _, Story, erasure, purchase};
use tempfile::TempDir;

use super::processes::PLACE;
use super::tampering::{altered, book, unguard, verify};
use super::{Postgres, short};

/// A book from which alice is erased: what she had left is spent, and `c` is delivered.
async fn erased() -> (Postgres, Published) {
    let stores = book().await;
    let sound = verify(&stores, Vec::new()).unwrap();
    let published = Published { size: sound.audit.records, root: sound.root };
    let story = Story::resume(&stores);
    assert_eq!(story.claim(purchase("c", 11)).await, "undelivered");
    story.deliver("c");
    assert_eq!(story.claim(purchase("rest", 984)).await, "fresh");
    story.deliver("rest");
    let mut other = farthing_testkit::store::rail_purchase("other", 1);
    other.payment.payer = "bob".into();
    assert_eq!(story.claim(other).await, "fresh");
    story.post("other").await;
    story.deliver("other");
    let known = "SELECT count(*) FROM farthing.journal WHERE book = $book AND body LIKE '%alice%'";
    assert_ne!(stores.sql(known).unwrap(), "0", "the control");
    let erased = story.store().erase(erasure("alice", "case 17"), START).await.unwrap();
    assert_eq!((erased.payments, erased.holders, erased.keys), (4, 1, 1), "{erased:?}");
    for column in [
        "journal AS it WHERE it.body",
        "answer AS it WHERE it.answered",
        "snapshot AS it WHERE it.body",
    ] {
        let left =
            format!("SELECT count(*) FROM farthing.{column} LIKE '%alice%' AND book = $book");
        assert_eq!(stores.sql(&left).unwrap(), "0", "{column}");
    }
    story.close();
    (stores, published)
}

/// Every alteration of a book from which alice is erased, and a word of what has to be said about it.
const ALTERATIONS: &[(&str, &str)] = &[
    (
        "UPDATE farthing.journal SET body = replace(body, '\"atoms\":\"5\"', '\"atoms\":\"6\"')
         WHERE book = $book AND seq = 4",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE farthing.journal SET body = replace(body, '\"payer\":\"bob\"', '\"payer\":\"erased\"')
         WHERE book = $book",
        "is not the line that was sealed",
    ),
    (
        "DELETE FROM farthing.journal WHERE book = $book AND body LIKE '%\"is\":\"erased\"%'",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE farthing.journal SET body = replace(body, 'case 17', 'case 18') WHERE book = $book",
        "record 4 is not the line that was sealed",
    ),
    ("DELETE FROM farthing.journal WHERE book = $book AND seq = 4", "record 4 was deleted"),
];

/// U-03: an edit of an erased row, an erasure that was not recorded and a record that was altered are
/// found and named, in the database too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_after_an_erasure_is_found_and_named() {
    let (stores, published) = erased().await;
    let sound = verify(&stores, vec![published]).unwrap();
    assert!(sound.erased >= 6, "{sound:?}");
    unguard(&stores);
    assert_eq!(verify(&altered(&stores, "SELECT 1"), vec![published]).unwrap(), sound);
    for (sql, want) in ALTERATIONS {
        let wrong = verify(&altered(&stores, sql), Vec::new()).expect_err(sql);
        assert!(wrong.contains(want), "{sql}\n{want:?} is not in\n{wrong}");
    }
}

/// How many moments of an erasure a gateway is killed at.
const MOMENTS: u32 = 8;

/// Not a test: the process that the one below starts and kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
#[expect(clippy::print_stdout, reason = "the parent is told")]
async fn a_gateway_that_will_be_killed() {
    let (Ok(url), Ok(book)) = (std::env::var(PLACE.0), std::env::var(PLACE.1)) else { return };
    let store = Postgres { url, book, options: short() }.store(START);
    println!("{}", killed::BEGUN);
    store.erase(erasure("alice", "case 17"), START).await.unwrap();
    println!("{}", killed::DONE);
}

/// C-01: a gateway that is killed in the middle of an erasure, wherever in it, has erased all of it or
/// nothing, and the next one finishes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erasure_that_is_killed_is_whole_or_did_not_happen() {
    let stores = Postgres::new(short());
    let story = Story::begin(&stores).await;
    for turn in 0..100 {
        let name = format!("turn {turn}");
        assert_eq!(story.claim(purchase(&name, 10)).await, "fresh");
        story.deliver(&name);
    }
    story.close();
    let sound = verify(&stores, Vec::new()).unwrap();
    let published = Published { size: sound.audit.records, root: sound.root };
    let copy = || {
        let copy = altered(&stores, "SELECT 1");
        let mut child = killed::child("erasing::a_gateway_that_will_be_killed");
        child.env(PLACE.0, &copy.url).env(PLACE.1, &copy.book);
        (copy, child)
    };
    let took = killed::takes(&mut copy().1);
    let mut whole = 0;
    for moment in 0..=MOMENTS {
        let (copy, mut child) = copy();
        let done = killed::kill_after(&mut child, took * moment / MOMENTS);
        // Whoever opens the book waits until the one that was killed has lost it.
        let store = copy.store(START);
        let again = store.erase(erasure("alice", "case 17"), START).await;
        assert!(matches!(again, Ok(_) | Err(EraseError::Unknown)), "{moment}: {again:?}");
        assert!(!done || again.is_err(), "{moment}: it said that it was done");
        whole += usize::from(again.is_err());
        drop(store);
        assert!(verify(&copy, vec![published]).unwrap().erased > 100, "{moment}");
        for (table, column) in [("journal", "body"), ("snapshot", "body"), ("answer", "answered")] {
            let known = format!(
                "SELECT count(*) FROM farthing.{table}
                 WHERE book = $book AND {column}::text LIKE '%alice%'"
            );
            assert_eq!(copy.sql(&known).unwrap(), "0", "{moment}: {table}");
        }
    }
    eprintln!("{whole} of {MOMENTS} were whole when they were killed");
}

/// The database's own rule lets a row be written anew under the record of an erasure, and refuses
/// everything else; and without a snapshot the next writer reads every line.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_append_only_beside_erasures() {
    let (stores, published) = erased().await;
    for statement in [
        "UPDATE farthing.journal SET body = '{}' WHERE book = $book AND seq = 4",
        "UPDATE farthing.journal SET at = 0 WHERE book = $book AND seq = 4",
        "DELETE FROM farthing.journal WHERE book = $book AND seq = 4",
        "TRUNCATE farthing.journal",
        "INSERT INTO farthing.erasing VALUES ($book, 4);
         UPDATE farthing.journal SET at = 0 WHERE book = $book AND seq = 4",
    ] {
        let error = stores.sql(statement).unwrap_err();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    stores.sql("DELETE FROM farthing.erasing WHERE book = $book").unwrap();
    stores.sql("DELETE FROM farthing.snapshot WHERE book = $book").unwrap();
    drop(stores.store(START));
    // The journal has gone on: nothing can be announced any more.
    let announced = stores.sql("INSERT INTO farthing.erasing VALUES ($book, 4)").unwrap_err();
    assert!(announced.contains("under a record of it"), "{announced}");
    verify(&stores, vec![published]).unwrap();
    let store = stores.store(START);
    let again = store.erase(erasure("alice", "case 17"), START).await;
    assert_eq!(again, Err(EraseError::Unknown));
}

/// Down to the version before erasures and up again: the rules of each version hold.
#[test]
fn the_rules_follow_the_version() {
    let url = Cluster::shared().new_database();
    let address = farthing_store_postgres::Address::parse(&url).unwrap();
    let to = |target| migrate(&address, target, Guards::Triggers).unwrap();
    let is_refused = || {
        let error = ask(&url, "UPDATE farthing.journal SET at = 1").unwrap_err();
        assert!(error.contains("append-only"), "{error}");
    };
    to(2);
    ask(&url, "INSERT INTO farthing.journal (book, seq, at, body) VALUES ('a', 1, 0, '')").unwrap();
    is_refused();
    to(SCHEMA_VERSION);
    is_refused();
    to(2);
    is_refused();
    to(SCHEMA_VERSION);
    let health = check(&address, "a", || START).unwrap();
    assert!(!health.problems.contains(&farthing_store_postgres::Problem::Unguarded));
}

/// A book from which somebody was erased moves from a file into the database as it stands, with what was
/// sealed of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_erased_book_is_copied_without_loss() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("book.db");
    let file = File(path.clone());
    let story = Story::begin(&file).await;
    assert_eq!(story.claim(purchase("all", 1_000)).await, "fresh");
    story.deliver("all");
    story.store().work().await.unwrap();
    let reader = || farthing_store_sqlite::Reader::open(&path).unwrap();
    let sound = reader().verify(Vec::new(), START).unwrap();
    let published = Published { size: sound.audit.records, root: sound.root };
    story.store().erase(erasure("alice", "case 17"), START).await.unwrap();
    story.close();
    let there = Postgres::new(Options::default());
    migrate(&there.address(), SCHEMA_VERSION, Guards::Triggers).unwrap();
    copy(&mut reader(), &there.address(), &there.book).unwrap();
    let here = reader().verify(vec![published], START).unwrap();
    assert_eq!(verify(&there, vec![published]).unwrap(), here);
    assert!(here.erased > 0);
    assert_eq!(there.journal(), reader().journal().unwrap());
    drop(there.store(START));
    verify(&there, vec![published]).unwrap();
}

struct File(std::path::PathBuf);

impl farthing_testkit::store::Stores for File {
    fn open(&self, now: farthing_money::Timestamp) -> farthing_testkit::store::Opened {
        let options = farthing_store_sqlite::Options::default();
        let store = Arc::new(SqliteStore::open(&self.0, options, now).unwrap());
        let port: Arc<dyn Store> = store.clone();
        farthing_testkit::store::Opened::closed_by(port, move || {
            drop(Arc::try_unwrap(store).unwrap_or_else(|_| panic!("nobody else has it")));
        })
    }

    fn journal(&self) -> Vec<farthing_ledger::Record> {
        farthing_store_sqlite::Reader::open(&self.0).unwrap().journal().unwrap()
    }
}
