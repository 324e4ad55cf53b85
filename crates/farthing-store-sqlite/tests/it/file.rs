//! What only a file can go through.

use std::sync::Arc;

use farthing_core::Store;
use farthing_ledger::{Claim, ClaimError, Fingerprint, audit};
use farthing_store_sqlite::{OpenError, Options, ReadError, Reader, SqliteStore};
use farthing_testkit::store::{START, Stores, Story, payment, purchase, rail_purchase};
use rusqlite::Connection;

use super::Sqlite;

fn sqlite() -> Sqlite {
    Sqlite::new(Options::default())
}

/// C-11, R-02: a second process is told to go away, and the first does not notice.
#[tokio::test]
async fn a_second_writer_is_refused() {
    let stores = sqlite();
    let story = Story::begin(&stores).await;
    let second = SqliteStore::open(&stores.path(), Options::default(), START);
    assert!(matches!(second, Err(OpenError::Locked)));
    assert_eq!(story.claim(purchase("a", 1)).await, "fresh");
    story.end();
}

#[tokio::test]
async fn a_file_that_is_no_book_is_left_alone() {
    let stores = sqlite();
    std::fs::write(stores.path(), "an important letter").unwrap();
    assert!(SqliteStore::open(&stores.path(), Options::default(), START).is_err());
    assert_eq!(std::fs::read(stores.path()).unwrap(), b"an important letter");

    let stores = sqlite();
    let other = Connection::open(stores.path()).unwrap();
    other.execute_batch("CREATE TABLE mine (x); PRAGMA application_id = 7;").unwrap();
    let opened = SqliteStore::open(&stores.path(), Options::default(), START);
    assert!(matches!(opened, Err(OpenError::NotABook)));

    let stores = sqlite();
    drop(stores.open(START));
    Connection::open(stores.path()).unwrap().execute_batch("PRAGMA user_version = 9").unwrap();
    let opened = SqliteStore::open(&stores.path(), Options::default(), START);
    assert!(matches!(opened, Err(OpenError::Version { found: 9 })));
}

#[cfg(unix)]
#[tokio::test]
async fn a_book_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let stores = sqlite();
    let story = Story::begin(&stores).await;
    for suffix in ["", "-wal", ".lock"] {
        let path = format!("{}{suffix}", stores.path().display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path} has mode {mode:o}");
    }
    story.end();
}

/// The database itself refuses what no code of ours does.
#[tokio::test]
async fn the_journal_cannot_be_changed_in_place() {
    let stores = sqlite();
    Story::begin(&stores).await.end();
    let connection = Connection::open(stores.path()).unwrap();
    for statement in [
        "UPDATE journal SET at = 0",
        "DELETE FROM journal",
        "UPDATE journal SET body = '{}' WHERE seq = 1",
    ] {
        let error = connection.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

/// C-07: a record that was damaged anyway is found at the next start, and named.
#[tokio::test]
async fn a_damaged_record_is_named_and_not_served() {
    let stores = sqlite();
    let mut story = Story::begin(&stores).await;
    story.claim(purchase("a", 1)).await;
    story.restart();
    story.end();
    let damage = |statement: &str| {
        let connection = Connection::open(stores.path()).unwrap();
        connection
            .execute_batch(&format!(
                "DROP TRIGGER journal_is_never_changed; DROP TRIGGER journal_is_never_cut;
                 DELETE FROM snapshot; {statement}"
            ))
            .unwrap();
    };
    damage(
        "UPDATE journal SET body = replace(body, '\"atoms\":\"1\"', '\"atoms\":\"9999\"') WHERE seq = 4",
    );
    let opened = SqliteStore::open(&stores.path(), Options::default(), START);
    assert!(matches!(opened, Err(OpenError::Damaged { seq: 4 })), "{:?}", opened.err());
    let reader = Reader::open(&stores.path()).unwrap();
    assert!(audit(&reader.journal().unwrap()).is_err());
    Connection::open(stores.path())
        .unwrap()
        .execute_batch("UPDATE journal SET body = '{' WHERE seq = 4")
        .unwrap();
    assert!(matches!(reader.journal(), Err(ReadError::Damaged { seq: 4 })));
    assert_eq!(reader.records(1, 3).unwrap().len(), 3);
}

/// C-07: a snapshot that was damaged is passed over: the journal says the same, and is the truth.
#[tokio::test]
async fn a_damaged_snapshot_is_passed_over() {
    let stores = sqlite();
    let story = Story::begin(&stores).await;
    story.claim(purchase("a", 1)).await;
    story.end();
    let connection = || Connection::open(stores.path()).unwrap();
    let snapshot = || -> String {
        connection().query_row("SELECT body FROM snapshot", [], |row| row.get(0)).unwrap()
    };
    let (whole, journal) = (snapshot(), stores.journal().len());
    // Ten times as much money as there is, in a snapshot that reads well.
    let rich = whole.replacen("1000", "9000", 1);
    assert_ne!(rich, whole);
    let reopened = async |body: &str| {
        connection().execute("UPDATE snapshot SET body = ?", [body]).unwrap();
        let store = SqliteStore::open(&stores.path(), Options::default(), START).unwrap();
        let claim = store.claim(purchase("b", 5_000), START).await;
        drop(store);
        claim
    };
    assert_eq!(reopened(&whole).await, Err(ClaimError::Overdrawn), "the control");
    assert_eq!(reopened(&rich).await, Err(ClaimError::Overdrawn));
    assert_eq!(reopened("{").await, Err(ClaimError::Overdrawn));
    assert_eq!(stores.journal().len(), journal + 3, "three openings, and nothing else");
}

/// C-07: a log that was torn anywhere, or of which any byte was flipped, ends where it was last sound:
/// what is read is what was written up to there, and nothing else. Untouched, it is all there.
#[tokio::test]
async fn a_torn_log_ends_at_its_last_commit() {
    let stores = sqlite();
    let store = SqliteStore::open(&stores.path(), Options::default(), START).unwrap();
    for at in 0..8 {
        assert_eq!(store.claim(rail_purchase(&at.to_string(), 1), START).await, Ok(Claim::Fresh));
    }
    let whole = stores.journal();
    let read =
        |suffix: &str| std::fs::read(format!("{}{suffix}", stores.path().display())).unwrap();
    // As a crash leaves it: nobody has closed the file.
    let (book, log) = (read(""), read("-wal"));
    let left = |log: &[u8]| {
        let crashed = sqlite();
        std::fs::write(crashed.path(), &book).unwrap();
        std::fs::write(format!("{}-wal", crashed.path().display()), log).unwrap();
        match SqliteStore::open(&crashed.path(), Options::default(), START) {
            // Even the schema lay in the log: an empty file is a new book.
            Ok(store) => {
                drop(store);
                let mut left = crashed.journal();
                left.pop();
                left
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(left(&log), whole, "the control: the whole log is the whole journal");
    let mut lengths = std::collections::BTreeSet::new();
    for at in (0..log.len()).step_by(log.len() / 61) {
        let torn = left(&log[..at]);
        let mut flipped = log.clone();
        flipped[at] ^= 0x10;
        for found in [torn, left(&flipped)] {
            assert_eq!(found, whole[..found.len()], "cut or flipped at {at}");
            audit(&found).unwrap();
            lengths.insert(found.len());
        }
    }
    assert!(lengths.len() > 4, "some are lost and some are not: {lengths:?}");
}

/// C-07: a byte flipped anywhere in the file itself: money is never what it was not. Either the book is
/// refused, or its journal is, or it says what it said.
#[tokio::test]
async fn a_flipped_byte_makes_no_money() {
    let stores = sqlite();
    let mut story = Story::begin(&stores).await;
    for name in ["a", "b", "c"] {
        story.claim(purchase(name, 7)).await;
        story.deliver(name);
    }
    story.restart();
    story.end();
    // Everything in the file itself, and nothing in its log.
    let connection = Connection::open(stores.path()).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    let (whole, sound) = (std::fs::read(stores.path()).unwrap(), audit(&stores.journal()).unwrap());
    let (mut refused, mut unchanged) = (0, 0);
    for at in (0..whole.len()).step_by(251) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x01;
        let damaged = sqlite();
        std::fs::write(damaged.path(), flipped).unwrap();
        let Ok(store) = SqliteStore::open(&damaged.path(), Options::default(), START) else {
            refused += 1;
            continue;
        };
        drop(store);
        let reader = Reader::open(&damaged.path());
        match reader.ok().and_then(|reader| reader.journal().ok()).map(|journal| audit(&journal)) {
            None | Some(Err(_)) => refused += 1,
            Some(Ok(found)) => {
                assert_eq!(found.accounts, sound.accounts, "flipped at {at}");
                unchanged += 1;
            }
        }
    }
    assert!(refused > 0 && unchanged > 0, "{refused} refused, {unchanged} unchanged");
}

/// C-08: a book that cannot be written refuses everything from then on, and acknowledges nothing.
#[tokio::test]
async fn a_full_disk_stops_the_book() {
    let stores = sqlite();
    let options = Options { lock_wait: std::time::Duration::from_millis(20), ..Options::default() };
    let store = Arc::new(SqliteStore::open(&stores.path(), options, START).unwrap());
    let fund = farthing_ledger::Entry::Fund {
        holder: farthing_ledger::Holder::new("alice").unwrap(),
        amount: farthing_money::Amount::new("usd".parse().unwrap(), 1_000),
        reference: "x".into(),
    };
    assert_eq!(store.enter(fund.clone(), START).await, Ok(true));
    // Another connection holds the write lock for longer than the writer is willing to wait: to
    // the writer that is a disk that does not take the write.
    let blocker = Connection::open(stores.path()).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.claim(rail_purchase("a", 1), START).await;
    assert_eq!(refused, Err(ClaimError::Unavailable));
    blocker.execute_batch("ROLLBACK").unwrap();
    store.stopped().await;
    assert!(!store.is_running());
    assert_eq!(store.claim(rail_purchase("b", 1), START).await, Err(ClaimError::Unavailable));
    drop(store);
    // What was refused was not written; what was acknowledged is there.
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!((sound.records, sound.claimed), (2, 0));
    let store = SqliteStore::open(&stores.path(), Options::default(), START).unwrap();
    assert_eq!(store.enter(fund, START).await, Ok(false));
}

/// Too many waiting callers are told to come back; nothing is queued without bound.
#[tokio::test]
async fn a_full_queue_pushes_back() {
    let stores = sqlite();
    let options = Options { queue_max: 8, ..Options::default() };
    let store = Arc::new(SqliteStore::open(&stores.path(), options, START).unwrap());
    let claims = (0..64).map(|at| {
        let store = Arc::clone(&store);
        async move { store.claim(rail_purchase(&at.to_string(), 1), START).await }
    });
    let mut tasks = tokio::task::JoinSet::new();
    claims.for_each(|claim| drop(tasks.spawn(claim)));
    let answers = tasks.join_all().await;
    let fresh = answers.iter().filter(|answer| **answer == Ok(Claim::Fresh)).count();
    let refused = answers.iter().filter(|answer| **answer == Err(ClaimError::Unavailable)).count();
    assert_eq!(answers.len(), 64);
    assert_eq!(refused, answers.len().saturating_sub(fresh));
    assert!(fresh >= 8 && refused > 0, "{fresh} fresh, {refused} refused");
    assert_eq!(store.queue_len(), 0);
    drop(store);
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!(sound.pending, u64::try_from(fresh).unwrap());
}

#[tokio::test]
async fn a_payment_is_found_by_any_of_its_names() {
    let stores = sqlite();
    let story = Story::begin(&stores).await;
    let mut request = purchase("a", 1);
    request.proofs.push(farthing_ledger::Proof {
        fingerprint: Fingerprint::of("transaction", &[b"0xabc"]),
        keep_until: None,
    });
    let trace = request.payment.trace;
    assert_eq!(story.claim(request).await, "fresh");
    story.deliver("a");
    story.end();
    let reader = Reader::open(&stores.path()).unwrap();
    assert_eq!(reader.trace_of_payment(payment("a")).unwrap(), Some(trace));
    let by_challenge = Fingerprint::of("challenge", &[b"mpp", b"a"]);
    assert_eq!(reader.trace_of(&by_challenge).unwrap(), Some(trace));
    assert_eq!(reader.trace_of_payment(payment("b")).unwrap(), None);
    assert_eq!(reader.of_trace(trace).unwrap().len(), 2);
}
