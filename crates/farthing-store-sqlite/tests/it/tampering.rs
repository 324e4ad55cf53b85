//! Somebody with the file, the schema and all the time in the world alters one row, and is found.

use std::path::{Path, PathBuf};
use std::time::Duration;

use farthing_core::{Answer, Store};
use farthing_ledger::{Fingerprint, Outcome, Published, Verified};
use farthing_store_sqlite::{OpenError, Options, Reader, SqliteStore, VerifyError};
use farthing_testkit::store::{START, Stores, Story, payment, purchase, rail_purchase};
use rusqlite::Connection;
use tempfile::TempDir;

use super::Sqlite;

/// A book with everything in it that can be altered:
///
/// 1 opened, 2 key, 3 funded; 4 and 5 `a` bought and delivered, its answer kept; 6, 7 and 8 `b` claimed, posted and
/// delivered; 9 opened again; 10 `c` bought and owed.
pub(crate) async fn book() -> Sqlite {
    let stores = Sqlite::new(Options::default());
    let mut story = Story::begin(&stores).await;
    assert_eq!(story.claim(purchase("a", 5)).await, "fresh");
    let answer = Answer { status: 200, fields: http::HeaderMap::new(), body: b"sunny".to_vec() };
    story.store().deliver(payment("a"), Outcome { status: 200 }, Some(answer), START);
    // Whoever is answered knows that what came before is written, in a commit of its own.
    story.store().work().await.unwrap();
    assert_eq!(story.claim(rail_purchase("b", 7)).await, "fresh");
    story.post("b").await;
    story.deliver("b");
    story.store().work().await.unwrap();
    story.restart();
    assert_eq!(story.claim(purchase("c", 11)).await, "fresh");
    drop(story);
    close(&stores);
    stores
}

/// Waits until whoever wrote the book has let go of it.
pub(crate) fn close(stores: &Sqlite) {
    let lock = std::fs::File::open(format!("{}.lock", stores.path().display())).unwrap();
    lock.lock().unwrap();
}

pub(crate) fn verify(path: &Path, published: Vec<Published>) -> Result<Verified, String> {
    let reader = Reader::open(path).unwrap();
    reader.verify(published, START).map_err(|error| match error {
        VerifyError::Wrong(wrong) => wrong.to_string(),
        VerifyError::Read(error) => panic!("{error}"),
    })
}

/// A copy of the book in which somebody who owns the machine has had their way.
pub(crate) fn altered(stores: &Sqlite, sql: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("book.db");
    std::fs::copy(stores.path(), &path).unwrap();
    let attacker = Connection::open(&path).unwrap();
    let triggers: Vec<String> = attacker
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
        .unwrap()
        .query_map((), |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(triggers.len(), 5);
    for trigger in triggers {
        attacker.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    attacker.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    // The digest over a snapshot keeps no secret: who alters one alters the other.
    attacker
        .execute_batch("UPDATE snapshot SET body = substr(body, instr(body, char(10)) + 1)")
        .unwrap();
    attacker.execute_batch(sql).unwrap();
    let bodies: Vec<(i64, String)> = attacker
        .prepare("SELECT seq, body FROM snapshot")
        .unwrap()
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for (seq, body) in bodies {
        let digest = Fingerprint::of("snapshot", &[body.as_bytes()]);
        let signed = "UPDATE snapshot SET body = ? WHERE seq = ?";
        attacker.execute(signed, (format!("{digest}\n{body}"), seq)).unwrap();
    }
    (folder, path)
}

#[tokio::test]
async fn a_book_that_nobody_altered_is_sound_beside_its_writer_and_after_it() {
    let stores = book().await;
    let sound = verify(&stores.path(), Vec::new()).unwrap();
    assert_eq!((sound.audit.records, sound.audit.delivered, sound.audit.undelivered), (10, 2, 1));
    let published = Published { size: 10, root: sound.root };
    let (_folder, copy) = altered(&stores, "SELECT 1");
    assert_eq!(
        verify(&copy, vec![published]).unwrap(),
        sound,
        "dropping the triggers alters nothing"
    );
    let store = SqliteStore::open(&stores.path(), Options::default(), START).unwrap();
    let beside = verify(&stores.path(), vec![published]).unwrap();
    assert_eq!((beside.audit.records, beside.seals), (11, sound.seals + 1));
    drop(store);
    verify(&stores.path(), vec![published]).unwrap();
    // A snapshot may go at any time, since it can be made again, and what is over may be dropped.
    let (_folder, copy) = altered(&stores, "DELETE FROM snapshot");
    verify(&copy, vec![published]).unwrap();
    let (_folder, copy) =
        altered(&stores, "DELETE FROM answer; DELETE FROM proof WHERE bucket > 0");
    let later = START.after(Duration::from_hours(24 * 8));
    Reader::open(&copy).unwrap().verify(vec![published], later).unwrap();
}

/// The seals themselves are append-only by the database's own rule.
#[tokio::test]
async fn seals_cannot_be_changed_in_place() {
    let stores = book().await;
    let connection = Connection::open(stores.path()).unwrap();
    for statement in ["UPDATE seal SET size = 0", "DELETE FROM seal"] {
        let error = connection.execute(statement, []).unwrap_err().to_string();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
}

/// Every alteration, and a word of what has to be said about it.
const ALTERATIONS: &[(&str, &str)] = &[
    // The journal: deleted, inserted, reordered, edited.
    ("DELETE FROM journal WHERE seq = 5", "record 5 was deleted"),
    ("DELETE FROM journal WHERE seq = 10", "record 10 was deleted"),
    ("DELETE FROM journal", "record 1 was deleted"),
    (
        "DELETE FROM journal WHERE seq = 5;
         UPDATE journal SET body = replace(body, '\"seq\":' || seq, '\"seq\":' || (seq - 1)),
                            seq = seq - 1 WHERE seq > 5",
        "record 5 is not the line that was sealed",
    ),
    (
        "INSERT INTO journal SELECT 11, at, trace, replace(body, '\"seq\":9', '\"seq\":11')
         FROM journal WHERE seq = 9",
        "record 11 was never sealed",
    ),
    (
        "UPDATE journal SET seq = -seq - 1 WHERE seq > 3;
         UPDATE journal SET seq = -seq, body = replace(body, '\"seq\":' || (-seq - 1), '\"seq\":' || -seq)
         WHERE seq < 0;
         INSERT INTO journal SELECT 4, at, trace, replace(body, '\"seq\":3', '\"seq\":4')
         FROM journal WHERE seq = 3",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE journal SET seq = 99 WHERE seq = 5;
         UPDATE journal SET seq = 5 WHERE seq = 7;
         UPDATE journal SET seq = 7 WHERE seq = 99",
        "record 5 was sealed as record 7",
    ),
    (
        "UPDATE journal SET body = replace(body, '\"atoms\":\"5\"', '\"atoms\":\"6\"') WHERE seq = 4",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE journal SET body = replace(body, '\"status\":200', '\"status\":500') WHERE seq = 8",
        "record 8 is not the line that was sealed",
    ),
    ("UPDATE journal SET body = body || ' ' WHERE seq = 1", "record 1 is not the line"),
    ("UPDATE journal SET body = '' WHERE seq = 10", "record 10 cannot be read"),
    ("UPDATE journal SET body = CAST(x'ff' AS TEXT) WHERE seq = 10", "record 10 cannot be read"),
    ("UPDATE journal SET at = at + 1 WHERE seq = 6", "record 6: the column `at`"),
    ("UPDATE journal SET trace = NULL WHERE seq = 6", "record 6: the column `trace`"),
    ("UPDATE journal SET trace = x'00' WHERE seq = 6", "record 6: the column `trace`"),
    // The seals.
    ("DELETE FROM seal WHERE size = 5", "the seal over the first 6 records: it does not begin"),
    ("DELETE FROM seal WHERE size = 10", "record 10 was never sealed"),
    ("DELETE FROM seal", "record 1 was never sealed"),
    ("INSERT INTO seal SELECT 11, root, chain, leaves FROM seal WHERE size = 10", "the seal over the first 11"),
    (
        "UPDATE seal SET size = 99 WHERE size = 5;
         UPDATE seal SET size = 5 WHERE size = 6;
         UPDATE seal SET size = 6 WHERE size = 99",
        "the seal over the first 5 records: its leaves do not have its root",
    ),
    ("UPDATE seal SET root = zeroblob(32) WHERE size = 5", "the seal over the first 5 records: its leaves"),
    ("UPDATE seal SET chain = zeroblob(32) WHERE size = 5", "the seal over the first 5 records: its chain"),
    ("UPDATE seal SET leaves = zeroblob(32) WHERE size = 5", "record 5 is not the line that was sealed"),
    ("UPDATE seal SET leaves = zeroblob(31) WHERE size = 5", "the seal over the first 5 records cannot"),
    // The index of proofs.
    ("DELETE FROM proof WHERE bucket = 0", "of record 3 was deleted from the index"),
    ("DELETE FROM proof WHERE bucket > 0", "was deleted from the index: it could be used again"),
    ("UPDATE proof SET bucket = bucket + 1 WHERE bucket > 0", "was deleted from the index"),
    ("UPDATE proof SET until = until + 1 WHERE bucket > 0", "does not stand in the index as it was"),
    ("UPDATE proof SET payment = zeroblob(16) WHERE bucket > 0", "does not stand in the index as it was"),
    ("UPDATE proof SET trace = NULL WHERE bucket > 0", "does not stand in the index as it was"),
    ("UPDATE proof SET payment = zeroblob(3) WHERE bucket > 0", "a row of the table `proof`"),
    (
        "INSERT INTO proof VALUES (0, randomblob(32), NULL, zeroblob(16), NULL)",
        "in the index was never claimed",
    ),
    // The snapshot, which the next start would believe.
    (
        "UPDATE snapshot SET body = replace(body, '\"credits_posted\":\"1000\"', '\"credits_posted\":\"9000\"')",
        "is not what the journal makes: the balance of prepaid/alice/usd",
    ),
    (
        "UPDATE snapshot SET body = json_set(body, '$.keys', json('[]'))",
        "is not what the journal makes: the key ",
    ),
    (
        "UPDATE snapshot SET body = json_set(body, '$.live', json('[]'))",
        "is not what the journal makes: the payment pay_",
    ),
    ("UPDATE snapshot SET edge = zeroblob(64)", "the hashes of the journal's tree"),
    ("UPDATE snapshot SET edge = zeroblob(32)", "the snapshot at record 10 cannot be read"),
    ("UPDATE snapshot SET body = '{}'", "the snapshot at record 10 cannot be read"),
    (
        "INSERT INTO snapshot SELECT 12, json_set(body, '$.seq', 12), edge FROM snapshot",
        "the snapshot at record 12",
    ),
    // The answers that would be given again.
    ("DELETE FROM answer", "the answer kept for pay_"),
    (
        "UPDATE answer SET answered = json_set(answered, '$.outcome.status', 500)",
        "is not what the journal says",
    ),
    ("UPDATE answer SET kept_until = kept_until + 1", "a row of the table `answer`"),
    (
        "UPDATE answer SET payment = zeroblob(16) WHERE payment = (SELECT max(payment) FROM answer)",
        "a row of the table `answer`",
    ),
    // What is kept of an answer is covered by its digest; also that nothing is.
    ("UPDATE answer SET body = CAST('rainy' AS BLOB) WHERE body IS NOT NULL", "is not the one that was given"),
    ("UPDATE answer SET fields = CAST('a: b' AS BLOB) WHERE body IS NOT NULL", "is not the one that was given"),
    ("UPDATE answer SET status = 201 WHERE body IS NOT NULL", "is not the one that was given"),
    ("UPDATE answer SET body = NULL WHERE body IS NOT NULL", "is not the one that was given"),
    (
        "UPDATE answer SET status = 200, fields = x'', body = x'00' WHERE body IS NULL",
        "is not the one that was given",
    ),
    (
        "INSERT INTO answer SELECT zeroblob(16), kept_until,
           json_set(answered, '$.payment', 'pay_00000000000000000000000000000000'), NULL, NULL, NULL
         FROM answer LIMIT 1",
        "an answer is kept for pay_00000000000000000000000000000000, which was never delivered",
    ),
];

/// U-03: whatever row of whatever table was deleted, inserted, reordered or edited is found and named.
#[tokio::test]
async fn an_altered_row_is_found_and_named() {
    let stores = book().await;
    verify(&stores.path(), Vec::new()).unwrap();
    for (sql, want) in ALTERATIONS {
        let (_folder, copy) = altered(&stores, sql);
        let wrong = verify(&copy, Vec::new()).expect_err(sql);
        assert!(wrong.contains(want), "{sql}\n{want:?} is not in\n{wrong}");
    }
}

/// U-03: an attacker who writes the whole book anew, with our own program and all its seals, is found by
/// a checkpoint that was published before; without one, nobody can tell.
#[tokio::test]
async fn a_book_that_was_written_anew_is_found_by_what_was_published() {
    let honest = book().await;
    let root = verify(&honest.path(), Vec::new()).unwrap().root;
    let published = Published { size: 10, root };
    let forged = Sqlite::new(Options::default());
    let mut story = Story::begin(&forged).await;
    story.claim(purchase("a", 500)).await;
    story.deliver("a");
    story.claim(rail_purchase("b", 7)).await;
    story.post("b").await;
    story.deliver("b");
    story.restart();
    story.claim(purchase("c", 11)).await;
    story.end();
    verify(&forged.path(), Vec::new()).unwrap();
    let wrong = verify(&forged.path(), vec![published]).unwrap_err();
    assert!(wrong.contains("the first 10 records are not those of the published"), "{wrong}");
    // An older book in its place, a backup, say, is shorter than what was published.
    let (_folder, older) = altered(
        &honest,
        "DELETE FROM journal WHERE seq > 8; DELETE FROM seal WHERE size > 8; DELETE FROM snapshot",
    );
    let connection = Connection::open(&older).unwrap();
    let owed = payment("c").to_bytes();
    connection.execute("DELETE FROM proof WHERE payment = ?", [owed]).unwrap();
    verify(&older, Vec::new()).unwrap();
    let wrong = verify(&older, vec![published]).unwrap_err();
    assert!(wrong.contains("of 10 records was published, and there are 8"), "{wrong}");
}

/// A book whose end is not what was sealed is not opened for writing, so that nothing is sealed on top.
#[tokio::test]
async fn a_book_that_was_cut_is_not_gone_on_with() {
    let stores = book().await;
    for sql in [
        "DELETE FROM journal WHERE seq = 10; DELETE FROM snapshot",
        "DELETE FROM seal WHERE size = 10",
        "DELETE FROM seal",
        "UPDATE seal SET root = zeroblob(32) WHERE size = 10",
        "UPDATE snapshot SET edge = zeroblob(64)",
        "DELETE FROM snapshot;
         UPDATE journal SET body = replace(body, '\"status\":200', '\"status\":201') WHERE seq = 8",
    ] {
        let (_folder, copy) = altered(&stores, sql);
        let opened = SqliteStore::open(&copy, Options::default(), START);
        assert!(matches!(opened, Err(OpenError::NotSealed)), "{sql}: {:?}", opened.err());
    }
    let (_folder, copy) = altered(&stores, "DELETE FROM snapshot");
    SqliteStore::open(&copy, Options::default(), START).unwrap();
}

/// A book from before there were seals gets one over what is there, and goes on.
#[tokio::test]
async fn a_book_without_seals_is_sealed_at_its_first_start() {
    let stores = book().await;
    let (_folder, old) = altered(
        &stores,
        "DROP TABLE seal; DROP TABLE erasing; ALTER TABLE snapshot DROP COLUMN edge;
         CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
         BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
         PRAGMA user_version = 3;",
    );
    assert!(matches!(Reader::open(&old).err(), Some(OpenError::Version { found: 3 })));
    let store = SqliteStore::open(&old, Options::default(), START).unwrap();
    let sound = verify(&old, Vec::new()).unwrap();
    assert_eq!(
        (sound.audit.records, sound.seals),
        (11, 2),
        "one over ten records, one of the start"
    );
    assert_eq!(store.claim(purchase("a", 5), START).await.map(|_| ()), Ok(()));
    drop(store);
    let seals = "SELECT group_concat(size) FROM seal";
    let connection = Connection::open(&old).unwrap();
    let sizes: String = connection.query_row(seals, [], |row| row.get(0)).unwrap();
    assert_eq!(sizes, "10,11");
    // An empty book of that time too.
    let empty = Sqlite::new(Options::default());
    drop(empty.open(START));
    close(&empty);
    let (_folder, old) = altered(
        &empty,
        "DROP TABLE seal; DROP TABLE erasing; DELETE FROM journal; DELETE FROM snapshot;
         ALTER TABLE snapshot DROP COLUMN edge; PRAGMA user_version = 3;",
    );
    drop(SqliteStore::open(&old, Options::default(), START).unwrap());
    assert_eq!(verify(&old, Vec::new()).unwrap().seals, 1);
}
