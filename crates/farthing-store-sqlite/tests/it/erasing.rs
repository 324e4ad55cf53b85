//! Somebody is erased from a file: what the file holds afterwards, and who may do it.

use std::path::Path;

use farthing_core::{Answer, Store};
use farthing_ledger::{EraseError, Outcome, Published};
use farthing_store_sqlite::{OpenError, Options, Reader, SqliteStore, restore};
use farthing_testkit::killed;
use farthing_testkit::store::{START, Story, erasure, payment, purchase, rail_purchase};
use rusqlite::Connection;

use super::Sqlite;
use super::tampering::{altered, close, verify};

/// A book in which alice has bought until nothing was left, and bob once; alice has not been erased.
async fn book(options: Options) -> Sqlite {
    let stores = Sqlite::new(options);
    let mut story = Story::begin(&stores).await;
    for turn in 0..100 {
        let name = format!("turn {turn}");
        assert_eq!(story.claim(purchase(&name, 10)).await, "fresh");
        let body = format!("for alice, {}", "and nobody else. ".repeat(turn)).into_bytes();
        let answer = Answer { status: 200, fields: http::HeaderMap::new(), body };
        story.store().deliver(payment(&name), Outcome { status: 200 }, Some(answer), START);
    }
    let mut other = rail_purchase("other", 7);
    other.payment.payer = "bob".into();
    assert_eq!(story.claim(other).await, "fresh");
    story.post("other").await;
    story.deliver("other");
    story.restart();
    story.close();
    stores
}

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Options::default(), START).unwrap()
}

/// How often something stands in the files of a book, wherever in them.
fn bytes_of(stores: &Sqlite, what: &[u8]) -> usize {
    let files = std::fs::read_dir(stores.path().parent().unwrap()).unwrap();
    let files = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.map(|bytes| bytes.windows(what.len()).filter(|window| *window == what).count()).sum()
}

/// Nothing of whoever was erased is left in the file or in its log, also not in pages that nobody reads;
/// while the writer goes on, and after it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_erased_payer_is_left_in_the_file() {
    let stores = book(Options { snapshot_every: 20, ..Options::default() }).await;
    let key = Reader::open(&stores.path()).unwrap().journal().unwrap()[1].to_json();
    let key = key.split("\"key\":\"").nth(1).unwrap().get(..64).unwrap().as_bytes().to_vec();
    let store = open(&stores.path());
    for what in [b"alice".as_slice(), b"nobody else", &key] {
        assert!(bytes_of(&stores, what) > 0, "the control");
    }
    let erased = store.erase(erasure("alice", "case 17"), START).await.unwrap();
    assert!(erased.wiped && erased.rows > 100, "{erased:?}");
    for closed in [false, true] {
        for what in [b"alice".as_slice(), b"nobody else", &key] {
            assert_eq!(bytes_of(&stores, what), 0, "closed: {closed}");
        }
        assert!(bytes_of(&stores, b"bob") > 0, "the control");
        verify(&stores.path(), Vec::new()).unwrap();
        if !closed {
            // The book goes on.
            let mut more = rail_purchase("more", 7);
            more.payment.payer = "bob".into();
            store.claim(more, START).await.unwrap();
        }
    }
    drop(store);
}

/// Whoever reads at that moment keeps what they read; it is said, and erasing again clears it away.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_still_reads_is_cleared_away_later() {
    let stores = book(Options::default()).await;
    let options = Options { lock_wait: std::time::Duration::from_millis(10), ..Options::default() };
    let store = SqliteStore::open(&stores.path(), options, START).unwrap();
    let reader = Connection::open(stores.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM journal;").unwrap();
    let erased = store.erase(erasure("alice", "case 17"), START).await.unwrap();
    assert!(!erased.wiped && erased.rows > 100, "{erased:?}");
    assert!(bytes_of(&stores, b"alice") > 0);
    verify(&stores.path(), Vec::new()).unwrap();
    drop(reader);
    let again = store.erase(erasure("alice", "case 17"), START).await;
    assert_eq!(again, Err(EraseError::Unknown), "no row has it any more");
    assert_eq!(bytes_of(&stores, b"alice"), 0);
}

/// The database's own rule lets a row be written anew under the record of an erasure, and refuses
/// everything else.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_append_only_beside_erasures() {
    let stores = book(Options::default()).await;
    let store = open(&stores.path());
    store.erase(erasure("alice", "case 17"), START).await.unwrap();
    store.note("turns", "1".to_owned()).await.unwrap();
    drop(store);
    let connection = Connection::open(stores.path()).unwrap();
    let staged: i64 =
        connection.query_row("SELECT count(*) FROM erasing", [], |row| row.get(0)).unwrap();
    assert_eq!(staged, 0);
    // Nothing is announced: nothing changes.
    for statement in [
        "UPDATE journal SET body = '{}' WHERE seq = 4",
        "UPDATE journal SET at = 0 WHERE seq = 4",
        "DELETE FROM journal WHERE seq = 4",
    ] {
        let error = connection.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    // Behind the record of an erasure, what was announced is a line and no other column, and it is found.
    let transaction = connection.unchecked_transaction().unwrap();
    transaction.execute("INSERT INTO erasing (seq) VALUES (4)", ()).unwrap();
    let moved = transaction.execute("UPDATE journal SET at = 0 WHERE seq = 4", ());
    assert!(moved.unwrap_err().to_string().contains("append-only"));
    transaction.execute("UPDATE journal SET body = body || ' ' WHERE seq = 4", ()).unwrap();
    transaction.rollback().unwrap();
    // Once the journal has gone on, nothing can be announced.
    drop(connection);
    drop(open(&stores.path()));
    let connection = Connection::open(stores.path()).unwrap();
    let error = connection.execute("INSERT INTO erasing (seq) VALUES (4)", ()).unwrap_err();
    assert!(error.to_string().contains("under a record of it"), "{error}");
    verify(&stores.path(), Vec::new()).unwrap();
}

/// C-01: the disk says no in the middle of an erasure: nothing of it happened, the book stops, and the
/// next one erases.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_fails_in_the_middle_did_not_happen() {
    let stores = book(Options::default()).await;
    let sound = verify(&stores.path(), Vec::new()).unwrap();
    let connection = Connection::open(stores.path()).unwrap();
    let full = "CREATE TRIGGER full BEFORE UPDATE ON journal WHEN OLD.seq = 100
                BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    connection.execute_batch(full).unwrap();
    drop(connection);
    let store = open(&stores.path());
    let failed = store.erase(erasure("alice", "case 17"), START).await;
    assert_eq!(failed, Err(EraseError::Unavailable));
    store.stopped().await;
    drop(store);
    let after = verify(&stores.path(), Vec::new()).unwrap();
    assert_eq!((after.erased, after.audit.records), (0, sound.audit.records + 1), "opened again");
    assert!(bytes_of(&stores, b"alice") > 0);
    Connection::open(stores.path()).unwrap().execute_batch("DROP TRIGGER full").unwrap();
    let store = open(&stores.path());
    assert!(store.erase(erasure("alice", "case 17"), START).await.unwrap().wiped);
    drop(store);
    assert!(verify(&stores.path(), Vec::new()).unwrap().erased > 100);
}

/// How many moments of an erasure a process is killed at.
const MOMENTS: u32 = 16;

/// How a child is told where its book is.
const PLACE: &str = "FARTHING_TEST_BOOK";

/// Not a test: the process that the one below starts and kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by another test"]
#[expect(clippy::print_stdout, reason = "the parent is told")]
async fn a_writer_that_will_be_killed() {
    let Ok(path) = std::env::var(PLACE) else { return };
    let store = open(Path::new(&path));
    println!("{}", killed::BEGUN);
    store.erase(erasure("alice", "case 17"), START).await.unwrap();
    println!("{}", killed::DONE);
}

/// C-01: a process that is killed in the middle of an erasure, wherever in it, has erased all of it or
/// nothing; whoever asks again erases the rest of it, from the file too.
#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_is_killed_is_whole_or_did_not_happen() {
    let stores = book(Options::default()).await;
    let sound = verify(&stores.path(), Vec::new()).unwrap();
    let published = Published { size: sound.audit.records, root: sound.root };
    let copy = || {
        let copy = Sqlite::new(Options::default());
        std::fs::copy(stores.path(), copy.path()).unwrap();
        let mut child = killed::child("erasing::a_writer_that_will_be_killed");
        child.env(PLACE, copy.path());
        (copy, child)
    };
    let took = killed::takes(&mut copy().1);
    let mut whole = 0;
    for moment in 0..=MOMENTS {
        let (copy, mut child) = copy();
        let done = killed::kill_after(&mut child, took * moment / MOMENTS);
        let reader = Reader::open(&copy.path()).unwrap();
        let lines = reader.journal().unwrap();
        drop(reader);
        let known = lines.iter().filter(|line| line.to_json().contains("alice")).count();
        let erased = verify(&copy.path(), vec![published]).unwrap().erased;
        assert_eq!(
            known == 0,
            erased > 0,
            "{moment}: {known} lines have the name, {erased} erased"
        );
        assert!(known == 0 || known > 100, "{moment}: {known}");
        assert!(!done || known == 0, "{moment}: it said that it was done");
        whole += usize::from(known == 0);
        let store = open(&copy.path());
        let again = store.erase(erasure("alice", "case 17"), START).await;
        assert_eq!(again.is_ok(), known > 0, "{moment}: {again:?}");
        drop(store);
        assert_eq!(bytes_of(&copy, b"alice"), 0, "{moment}");
        verify(&copy.path(), vec![published]).unwrap();
    }
    eprintln!("{whole} of {MOMENTS} were whole when they were killed");
}

/// What was published before an erasure is continued after it; a backup of the erased book is one, and
/// goes on when it is restored. A snapshot may be missing: the start reads every line.
#[tokio::test(flavor = "multi_thread")]
async fn an_erased_book_is_backed_up_and_restored() {
    let stores = book(Options::default()).await;
    let sound = verify(&stores.path(), Vec::new()).unwrap();
    let published = Published { size: sound.audit.records, root: sound.root };
    let store = open(&stores.path());
    store.erase(erasure("alice", "case 17"), START).await.unwrap();
    let copy = stores.path().with_file_name("backup.db");
    Reader::open(&stores.path()).unwrap().back_up(&copy).unwrap();
    drop(store);
    close(&stores);
    verify(&copy, vec![published]).unwrap();
    restore(&copy, &stores.path()).unwrap();
    drop(open(&stores.path()));
    verify(&stores.path(), vec![published]).unwrap();
    let (_folder, bare) = altered(&stores, "DELETE FROM snapshot");
    drop(open(&bare));
    verify(&bare, vec![published]).unwrap();
    let (_folder, edited) = altered(
        &stores,
        "DELETE FROM snapshot; UPDATE journal SET body = body || ' ' WHERE seq = 4",
    );
    let opened = SqliteStore::open(&edited, Options::default(), START);
    assert!(matches!(opened, Err(OpenError::NotSealed)), "{:?}", opened.err());
}

/// Every alteration of a book from which alice is erased, and a word of what has to be said about it.
const ALTERATIONS: &[(&str, &str)] = &[
    // An erased row, edited since.
    (
        "UPDATE journal SET body = replace(body, '\"atoms\":\"10\"', '\"atoms\":\"11\"') WHERE seq = 4",
        "record 4 is not the line that was sealed",
    ),
    ("UPDATE journal SET body = body || ' ' WHERE seq = 4", "record 4 is not the line that was sealed"),
    ("DELETE FROM journal WHERE seq = 4", "record 4 was deleted"),
    // An erasure that nobody recorded.
    (
        "UPDATE journal SET body = replace(body, '\"payer\":\"bob\"', '\"payer\":\"erased\"')
         WHERE body LIKE '%\"payer\":\"bob\"%'",
        "is not the line that was sealed",
    ),
    // The record of the erasure: deleted, edited.
    (
        "DELETE FROM journal WHERE body LIKE '%\"is\":\"erased\"%'",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE journal SET body = replace(body, 'case 17', 'case 18')
         WHERE body LIKE '%\"is\":\"erased\"%'",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE journal SET body = json_remove(body, '$.event.rows[0]')
         WHERE body LIKE '%\"is\":\"erased\"%'",
        "record 2 is not the line that was sealed",
    ),
    // An answer that an erasure has dropped.
    (
        "INSERT INTO answer SELECT substr(key, 1, 16), until,
           json_set((SELECT answered FROM answer LIMIT 1), '$.payment',
             'pay_' || lower(hex(substr(key, 1, 16))), '$.kept_until', until), NULL, NULL, NULL
         FROM proof WHERE bucket > 0 AND substr(key, 1, 16) NOT IN (SELECT payment FROM answer) LIMIT 1",
        "which was never delivered: it was inserted",
    ),
];

/// U-03: an edit of an erased row, an erasure that was not recorded and a record that was altered are
/// found and named.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_after_an_erasure_is_found_and_named() {
    let stores = book(Options::default()).await;
    let before = stores.path().with_file_name("before.db");
    std::fs::copy(stores.path(), &before).unwrap();
    let store = open(&stores.path());
    store.erase(erasure("alice", "case 17"), START).await.unwrap();
    drop(store);
    close(&stores);
    let (_folder, copy) = altered(&stores, "SELECT 1");
    assert!(verify(&copy, Vec::new()).unwrap().erased > 100, "the control");
    for (sql, want) in ALTERATIONS {
        let (_folder, copy) = altered(&stores, sql);
        let wrong = verify(&copy, Vec::new()).expect_err(sql);
        assert!(wrong.contains(want), "{sql}\n{want:?} is not in\n{wrong}");
    }
    // A record that says that a row was erased which stands as it was.
    let old = format!(
        "ATTACH '{}' AS before;
         UPDATE journal SET body = (SELECT it.body FROM before.journal AS it WHERE it.seq = 4)
         WHERE seq = 4",
        before.display()
    );
    let (_folder, copy) = altered(&stores, &old);
    let wrong = verify(&copy, Vec::new()).unwrap_err();
    assert!(wrong.contains("says that record 4 was erased, and that is not"), "{wrong}");
}

/// A book of the version before erasures is brought up to date, and erased from.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_from_before_there_were_erasures_is_brought_up_to_date() {
    let stores = book(Options::default()).await;
    let (_folder, old) = altered(
        &stores,
        "DROP TABLE erasing;
         CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
         BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
         PRAGMA user_version = 4;",
    );
    assert!(matches!(Reader::open(&old).err(), Some(OpenError::Version { found: 4 })));
    let store = open(&old);
    let erased = store.erase(erasure("alice", "case 17"), START).await.unwrap();
    assert!(erased.rows > 100);
    drop(store);
    verify(&old, Vec::new()).unwrap();
}
