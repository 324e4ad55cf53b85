//! The schema, and what the database itself refuses.

use farthing_ledger::Fingerprint;
use farthing_money::Timestamp;
use farthing_store_postgres::{
    Address, Guards, OpenError, Options, PostgresStore, Problem, Reader, SCHEMA_VERSION,
    SchemaError, check, migrate,
};
use farthing_testkit::postgres::{Cluster, ask};
use farthing_testkit::store::{START, Stores as _, Story, payment, purchase};

use super::Postgres;

fn address(url: &str) -> Address {
    Address::parse(url).unwrap()
}

fn wall_clock() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap())
}

/// The database itself refuses what no code of ours does.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_cannot_be_changed_in_place() {
    let stores = Postgres::new(Options::default());
    Story::begin(&stores).await.end();
    let before = stores.journal();
    for statement in [
        "UPDATE farthing.journal SET at = 0 WHERE book = $book",
        "DELETE FROM farthing.journal WHERE book = $book",
        "TRUNCATE farthing.journal",
    ] {
        let error = stores.sql(statement).unwrap_err();
        assert!(error.contains("append-only"), "{statement}: {error}");
    }
    assert_eq!(stores.journal(), before);
    // The control: what only grows may grow.
    let more = "INSERT INTO farthing.journal (book, seq, at, body) VALUES ('another', 1, 0, '{}')";
    assert_eq!(stores.sql(more), Ok(String::new()));
}

/// Versions go up and down again, by anybody and at once; what holds books stays.
#[test]
fn a_schema_is_migrated_in_both_directions() {
    let url = Cluster::shared().new_database();
    let to = |target| migrate(&address(&url), target, Guards::Triggers);
    let tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'farthing'";
    assert_eq!(to(0).unwrap(), 0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| to(SCHEMA_VERSION).unwrap());
        }
    });
    assert_eq!(to(SCHEMA_VERSION).unwrap(), SCHEMA_VERSION);
    assert_eq!(ask(&url, tables).unwrap(), "9");
    assert_eq!(to(1).unwrap(), SCHEMA_VERSION);
    assert_eq!(to(0).unwrap(), 1);
    assert_eq!(ask(&url, tables).unwrap(), "1", "the version itself");
    assert_eq!(to(SCHEMA_VERSION).unwrap(), 0);
    ask(&url, "INSERT INTO farthing.journal (book, seq, at, body) VALUES ('a', 1, 0, '')").unwrap();
    assert!(matches!(to(0), Err(SchemaError::InUse)));
    assert_eq!(to(SCHEMA_VERSION).unwrap(), 1, "all but the last step");
    assert!(matches!(to(9), Err(SchemaError::Version { found: 9 })));
}

/// A schema of another version is left alone, and a gateway that may not make one says so.
#[test]
fn another_schema_is_not_used() {
    let url = Cluster::shared().new_database();
    let open = |migrate| {
        let options = Options { migrate, ..Options::default() };
        PostgresStore::open(address(&url), "main", &options, START)
    };
    let none = open(false).err();
    let version = |found| OpenError::Schema(SchemaError::Version { found }).to_string();
    assert_eq!(none.unwrap().to_string(), version(0));
    assert!(Reader::open(&address(&url), "main").is_err());
    drop(open(true).unwrap());
    drop(open(false).unwrap());
    ask(&url, "UPDATE farthing.version SET version = 9").unwrap();
    assert_eq!(open(true).err().unwrap().to_string(), version(9));
}

/// C-07: a record that was damaged anyway is found at the next start, and named.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_named_and_not_served() {
    let stores =
        Postgres { url: Cluster::shared().new_database(), ..Postgres::new(Options::default()) };
    let mut story = Story::begin(&stores).await;
    story.claim(purchase("a", 1)).await;
    story.restart();
    story.end();
    stores.sql("ALTER TABLE farthing.journal DISABLE TRIGGER ALL").unwrap();
    stores.sql("DELETE FROM farthing.snapshot").unwrap();
    let damage = |statement: &str| {
        stores
            .sql(&format!("UPDATE farthing.journal SET body = {statement} WHERE seq = 4"))
            .unwrap();
        PostgresStore::open(stores.address(), &stores.book, &stores.options, START).err()
    };
    let opened = damage("replace(body, '\"atoms\":\"1\"', '\"atoms\":\"9999\"')").unwrap();
    assert!(opened.to_string().contains("damaged at record 4"), "{opened}");
    assert!(farthing_ledger::audit(&stores.reader().journal().unwrap()).is_err());
    assert!(damage("'{'").unwrap().to_string().contains("damaged at record 4"));
    assert!(stores.reader().journal().is_err());
    assert_eq!(stores.reader().records(1, 3).unwrap().len(), 3);
    let health = check(&stores.address(), &stores.book, wall_clock).unwrap();
    assert!(health.problems.contains(&Problem::Unguarded));
}

/// What is well is called well, and what is not by its name.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_not_as_it_should_be() {
    let stores =
        Postgres { url: Cluster::shared().new_database(), ..Postgres::new(Options::default()) };
    let look = || check(&stores.address(), &stores.book, wall_clock).unwrap();
    let bare = look();
    assert_eq!((bare.schema_version, bare.records, bare.lease), (0, 0, None));
    assert!(bare.problems.contains(&Problem::Version { found: 0 }));

    let story = Story::begin(&stores).await;
    let open = look();
    // The server of the tests does not sync, and says so.
    assert_eq!((open.schema_version, open.problems), (SCHEMA_VERSION, vec![Problem::NotSynced]));
    let lease = open.lease.unwrap();
    assert!(lease.valid_for_ms > 0 && lease.epoch == 1 && !lease.address.is_empty(), "{lease:?}");
    story.end();
    let closed = look();
    assert!(closed.lease.unwrap().valid_for_ms <= 0);
    assert_eq!(closed.records, 4);

    stores.sql("ALTER TABLE farthing.journal DISABLE TRIGGER ALL").unwrap();
    stores.sql("DELETE FROM farthing.journal WHERE seq = 2").unwrap();
    let broken = check(&stores.address(), &stores.book, || START).unwrap();
    assert!(broken.problems.contains(&Problem::Unguarded));
    assert!(broken.problems.contains(&Problem::Gaps { count: 3, first: 1, last: 4 }));
    let apart = |problem: &Problem| matches!(problem, Problem::Clock { .. });
    assert!(broken.problems.iter().any(apart), "{:?}", broken.problems);
}

/// Where an engine has no triggers, everything else works.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_without_triggers_is_used_as_well() {
    let stores =
        Postgres { url: Cluster::shared().new_database(), ..Postgres::new(Options::default()) };
    migrate(&stores.address(), SCHEMA_VERSION, Guards::None).unwrap();
    let story = Story::begin(&stores).await;
    assert_eq!(story.claim(purchase("a", 1)).await, "fresh");
    story.end();
    let health = check(&stores.address(), &stores.book, wall_clock).unwrap();
    assert!(health.problems.contains(&Problem::Unguarded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_found_by_any_of_its_names() {
    let stores = Postgres::new(Options::default());
    let story = Story::begin(&stores).await;
    let mut request = purchase("a", 1);
    request.proofs.push(farthing_ledger::Proof {
        fingerprint: Fingerprint::of("transaction", &[b"0xabc"]),
        keep_until: None,
    });
    let trace = request.payment.trace;
    assert_eq!(story.claim(request).await, "fresh");
    story.deliver("a");
    story.store().note("page", "1".into()).await.unwrap();
    story.end();
    let reader = stores.reader();
    assert_eq!(reader.trace_of_payment(payment("a")).unwrap(), Some(trace));
    let by_challenge = Fingerprint::of("challenge", &[b"mpp", b"a"]);
    assert_eq!(reader.trace_of(&by_challenge).unwrap(), Some(trace));
    assert_eq!(reader.trace_of_payment(payment("b")).unwrap(), None);
    assert_eq!(reader.of_trace(trace).unwrap().len(), 2);
    assert_eq!(reader.noted("page").unwrap().as_deref(), Some("1"));
}

/// Two books in one database know nothing of each other.
#[tokio::test(flavor = "multi_thread")]
async fn books_do_not_touch() {
    let (one, other) = (Postgres::new(Options::default()), Postgres::new(Options::default()));
    let (mine, theirs) = (Story::begin(&one).await, Story::begin(&other).await);
    assert_eq!(mine.claim(purchase("a", 400)).await, "fresh");
    assert_eq!(theirs.claim(purchase("a", 700)).await, "fresh");
    assert_eq!(mine.claim(purchase("b", 600)).await, "fresh");
    assert_eq!(theirs.claim(purchase("b", 600)).await, "Overdrawn");
    assert_eq!((mine.end().delivered, theirs.end().delivered), (0, 0));
}
