//! Somebody with the database, the schema and all the time in the world alters one row, and is found.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use farthing_core::Answer;
use farthing_ledger::{Outcome, Published, Verified};
use farthing_store_postgres::{Options, VerifyError};
use farthing_testkit::postgres::Cluster;
use farthing_testkit::store::{START, Story, payment, purchase, rail_purchase};

use super::Postgres;

/// A book with everything in it that can be altered, in a database of its own:
///
/// 1 opened, 2 key, 3 funded; 4 and 5 `a` bought and delivered, its answer kept; 6, 7 and 8 `b` claimed,
/// posted and delivered; 9 opened again; 10 `c` bought and owed.
pub(crate) async fn book() -> Postgres {
    let stores =
        Postgres { url: Cluster::shared().new_database(), ..Postgres::new(Options::default()) };
    let mut story = Story::begin(&stores).await;
    assert_eq!(story.claim(purchase("a", 5)).await, "fresh");
    let answer = Answer { status: 200, fields: http::HeaderMap::new(), body: b"sunny".to_vec() };
    story.store().deliver(payment("a"), Outcome { status: 200 }, Some(answer), START);
    // Whoever is answered knows that what came before is written, in a commit of its own.
    story.store().note("turns", "1".to_owned()).await.unwrap();
    assert_eq!(story.claim(rail_purchase("b", 7)).await, "fresh");
    story.post("b").await;
    story.deliver("b");
    story.store().note("turns", "2".to_owned()).await.unwrap();
    story.restart();
    assert_eq!(story.claim(purchase("c", 11)).await, "fresh");
    story.close();
    stores
}

pub(crate) fn verify(stores: &Postgres, published: Vec<Published>) -> Result<Verified, String> {
    stores.reader().verify(published, START).map_err(|error| match error {
        VerifyError::Wrong(wrong) => wrong.to_string(),
        VerifyError::Read(error) => panic!("{error}"),
    })
}

/// Lets somebody who owns the database have their way with it from now on.
pub(crate) fn unguard(stores: &Postgres) {
    let unguard = "
        ALTER TABLE farthing.journal DISABLE TRIGGER ALL;
        ALTER TABLE farthing.seal DISABLE TRIGGER ALL;
        DO $$ DECLARE rule record; BEGIN
            FOR rule IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
                WHERE contype = 'c' AND connamespace = 'farthing'::regnamespace
            LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', rule.of, rule.conname); END LOOP;
        END $$;";
    stores.sql(unguard).unwrap();
}

/// A copy of the book, row by row, in which `sql` was done.
pub(crate) fn altered(stores: &Postgres, sql: &str) -> Postgres {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let book = format!("altered {}", COUNT.fetch_add(1, Ordering::Relaxed));
    let columns = [
        ("journal", "seq, at, trace, body"),
        ("proof", "bucket, key, until, payment, trace"),
        ("answer", "payment, kept_until, answered, status, fields, body"),
        ("seal", "size, root, chain, leaves"),
        ("snapshot", "seq, body, edge"),
        ("note", "name, body"),
    ];
    for (table, columns) in columns {
        let copy = format!(
            "INSERT INTO farthing.{table} (book, {columns})
             SELECT '{book}', {columns} FROM farthing.{table} WHERE book = $book"
        );
        stores.sql(&copy).unwrap();
    }
    let copy = Postgres { url: stores.url.clone(), book, options: stores.options.clone() };
    copy.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    copy
}

/// Every alteration, and a word of what has to be said about it.
const ALTERATIONS: &[(&str, &str)] = &[
    // The journal: deleted, inserted, reordered, edited.
    ("DELETE FROM farthing.journal WHERE book = $book AND seq = 5", "record 5 was deleted"),
    ("DELETE FROM farthing.journal WHERE book = $book AND seq = 10", "record 10 was deleted"),
    ("DELETE FROM farthing.journal WHERE book = $book", "record 1 was deleted"),
    (
        "INSERT INTO farthing.journal SELECT book, 11, at, trace, replace(body, '\"seq\":9', '\"seq\":11')
         FROM farthing.journal WHERE book = $book AND seq = 9",
        "record 11 was never sealed",
    ),
    (
        "UPDATE farthing.journal SET seq = 99 WHERE book = $book AND seq = 5;
         UPDATE farthing.journal SET seq = 5 WHERE book = $book AND seq = 7;
         UPDATE farthing.journal SET seq = 7 WHERE book = $book AND seq = 99",
        "record 5 was sealed as record 7",
    ),
    (
        "UPDATE farthing.journal SET body = replace(body, '\"atoms\":\"5\"', '\"atoms\":\"6\"')
         WHERE book = $book AND seq = 4",
        "record 4 is not the line that was sealed",
    ),
    (
        "UPDATE farthing.journal SET body = body || ' ' WHERE book = $book AND seq = 4",
        "record 4 is not the line that was sealed",
    ),
    ("UPDATE farthing.journal SET body = '' WHERE book = $book AND seq = 10", "record 10 cannot be read"),
    (
        "UPDATE farthing.journal SET at = at + 1 WHERE book = $book AND seq = 6",
        "record 6: the column `at`",
    ),
    (
        "UPDATE farthing.journal SET trace = NULL WHERE book = $book AND seq = 6",
        "record 6: the column `trace`",
    ),
    (
        "UPDATE farthing.journal SET trace = '\\x00' WHERE book = $book AND seq = 6",
        "record 6: the column `trace`",
    ),
    // The seals.
    (
        "DELETE FROM farthing.seal WHERE book = $book AND size = 5",
        "it does not begin where the seal before it ends",
    ),
    ("DELETE FROM farthing.seal WHERE book = $book AND size = 10", "record 10 was never sealed"),
    ("DELETE FROM farthing.seal WHERE book = $book", "record 1 was never sealed"),
    (
        "INSERT INTO farthing.seal SELECT book, 11, root, chain, leaves FROM farthing.seal
         WHERE book = $book AND size = 10",
        "the seal over the first 11",
    ),
    (
        "UPDATE farthing.seal SET root = sha256('') WHERE book = $book AND size = 10",
        "the seal over the first 10 records: its leaves",
    ),
    (
        "UPDATE farthing.seal SET chain = sha256('') WHERE book = $book AND size = 10",
        "the seal over the first 10 records: its chain",
    ),
    (
        "UPDATE farthing.seal SET leaves = sha256('') WHERE book = $book AND size = 10",
        "record 10 is not the line that was sealed",
    ),
    (
        "UPDATE farthing.seal SET leaves = '\\x00' WHERE book = $book AND size = 10",
        "the seal over the first 10 records cannot",
    ),
    // The index of proofs.
    (
        "DELETE FROM farthing.proof WHERE book = $book AND bucket = 0",
        "of record 3 was deleted from the index",
    ),
    (
        "DELETE FROM farthing.proof WHERE book = $book AND bucket > 0",
        "was deleted from the index: it could be used again",
    ),
    (
        "UPDATE farthing.proof SET bucket = bucket + 1 WHERE book = $book AND bucket > 0",
        "was deleted from the index",
    ),
    (
        "UPDATE farthing.proof SET until = until + 1 WHERE book = $book AND bucket > 0",
        "does not stand in the index as it was",
    ),
    (
        "UPDATE farthing.proof SET payment = substr(sha256(''), 1, 16) WHERE book = $book AND bucket > 0",
        "does not stand in the index as it was",
    ),
    (
        "UPDATE farthing.proof SET trace = NULL WHERE book = $book AND bucket > 0",
        "does not stand in the index as it was",
    ),
    (
        "UPDATE farthing.proof SET payment = '\\x00' WHERE book = $book AND bucket > 0",
        "a row of the table `proof`",
    ),
    (
        "INSERT INTO farthing.proof VALUES ($book, 0, sha256('new'), NULL, substr(sha256(''), 1, 16), NULL)",
        "in the index was never claimed",
    ),
    // The snapshot, which the next start would believe.
    (
        "UPDATE farthing.snapshot
         SET body = replace(body, '\"credits_posted\":\"1000\"', '\"credits_posted\":\"9000\"')
         WHERE book = $book",
        "is not what the journal makes: the balance of prepaid/alice/usd",
    ),
    (
        "UPDATE farthing.snapshot SET body = jsonb_set(body::jsonb, '{keys}', '[]')::text
         WHERE book = $book",
        "is not what the journal makes: the key ",
    ),
    (
        "UPDATE farthing.snapshot SET body = jsonb_set(body::jsonb, '{live}', '[]')::text
         WHERE book = $book",
        "is not what the journal makes: the payment pay_",
    ),
    (
        "UPDATE farthing.snapshot SET edge = sha256('') || sha256('') WHERE book = $book",
        "the hashes of the journal's tree",
    ),
    (
        "UPDATE farthing.snapshot SET edge = sha256('') WHERE book = $book",
        "the snapshot at record 10 cannot be read",
    ),
    ("UPDATE farthing.snapshot SET body = '{}' WHERE book = $book", "the snapshot at record 10 cannot"),
    (
        "INSERT INTO farthing.snapshot
         SELECT book, 12, jsonb_set(body::jsonb, '{seq}', '12')::text, edge FROM farthing.snapshot
         WHERE book = $book",
        "the snapshot at record 12",
    ),
    // The answers that would be given again.
    ("DELETE FROM farthing.answer WHERE book = $book", "the answer kept for pay_"),
    (
        "UPDATE farthing.answer
         SET answered = jsonb_set(answered::jsonb, '{outcome,status}', '500')::text WHERE book = $book",
        "is not what the journal says",
    ),
    (
        "UPDATE farthing.answer SET kept_until = kept_until + 1 WHERE book = $book",
        "a row of the table `answer`",
    ),
    (
        "UPDATE farthing.answer SET payment = substr(sha256(''), 1, 16)
         WHERE book = $book AND payment = (SELECT payment FROM farthing.answer
                                                   WHERE book = $book ORDER BY payment DESC LIMIT 1)",
        "a row of the table `answer`",
    ),
    (
        "UPDATE farthing.answer SET body = 'rainy' WHERE book = $book AND body IS NOT NULL",
        "is not the one that was given",
    ),
    (
        "UPDATE farthing.answer SET fields = 'a: b' WHERE book = $book AND body IS NOT NULL",
        "is not the one that was given",
    ),
    (
        "UPDATE farthing.answer SET status = 201 WHERE book = $book AND body IS NOT NULL",
        "is not the one that was given",
    ),
    (
        "UPDATE farthing.answer SET body = NULL WHERE book = $book AND body IS NOT NULL",
        "is not the one that was given",
    ),
    (
        "UPDATE farthing.answer SET status = 200, fields = '', body = 'rainy'
         WHERE book = $book AND body IS NULL",
        "is not the one that was given",
    ),
    (
        "INSERT INTO farthing.answer
         SELECT book, '\\x00000000000000000000000000000000', kept_until, jsonb_set(answered::jsonb,
                '{payment}', '\"pay_00000000000000000000000000000000\"')::text, NULL, NULL, NULL
         FROM farthing.answer WHERE book = $book LIMIT 1",
        "an answer is kept for pay_00000000000000000000000000000000, which was never delivered",
    ),
];

/// U-03: whatever row of whatever table of the database was deleted, inserted, reordered or edited is
/// found and named.
#[tokio::test(flavor = "multi_thread")]
async fn an_altered_row_is_found_and_named() {
    let stores = book().await;
    let sound = verify(&stores, Vec::new()).unwrap();
    assert_eq!((sound.audit.records, sound.audit.delivered, sound.audit.undelivered), (10, 2, 1));
    unguard(&stores);
    let published = Published { size: 10, root: sound.root };
    // The control: a copy of every row is as sound as what it is a copy of.
    assert_eq!(verify(&altered(&stores, "SELECT 1"), vec![published]).unwrap(), sound);
    for (sql, want) in ALTERATIONS {
        let wrong = verify(&altered(&stores, sql), Vec::new()).expect_err(sql);
        assert!(wrong.contains(want), "{sql}\n{want:?} is not in\n{wrong}");
    }
    // What can be made again, and what is over, may be gone.
    let gone = "DELETE FROM farthing.snapshot WHERE book = $book;
                DELETE FROM farthing.answer WHERE book = $book;
                DELETE FROM farthing.proof WHERE book = $book AND bucket > 0";
    let later = START.after(Duration::from_hours(24 * 8));
    altered(&stores, gone).reader().verify(vec![published], later).unwrap();
}

/// U-03: a database that was cut back behind what was published is found by it, and by nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_was_cut_is_found_by_what_was_published() {
    let stores = book().await;
    let root = verify(&stores, Vec::new()).unwrap().root;
    unguard(&stores);
    let owed = payment("c").to_string();
    let owed = owed.trim_start_matches("pay_");
    let older = altered(
        &stores,
        &format!(
            "DELETE FROM farthing.journal WHERE book = $book AND seq > 9;
             DELETE FROM farthing.seal WHERE book = $book AND size > 9;
             DELETE FROM farthing.snapshot WHERE book = $book;
             DELETE FROM farthing.proof WHERE book = $book AND payment = '\\x{owed}'"
        ),
    );
    verify(&older, Vec::new()).unwrap();
    let wrong = verify(&older, vec![Published { size: 10, root }]).unwrap_err();
    assert!(wrong.contains("of 10 records was published, and there are 9"), "{wrong}");
}
