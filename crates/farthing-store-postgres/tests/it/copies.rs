//! The same book in other places.

use std::sync::Arc;

use farthing_core::{Answer, Store};
use farthing_ledger::{Outcome, Record, Settlement, VoidReason};
use farthing_money::Timestamp;
use farthing_store_memory::{MemoryStore, Paper};
use farthing_store_postgres::{CopyError, Options, copy};
use farthing_store_sqlite::SqliteStore;
use farthing_store_writer::Source as _;
use farthing_testkit::store::{START, Stores, Story, payment, purchase, rail_purchase, word};
use http::{HeaderMap, HeaderValue};
use tempfile::TempDir;

use super::Postgres;

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33).checked_rem(sides).unwrap()
    }
}

fn answer(body: &str) -> Answer {
    let mut fields = HeaderMap::new();
    fields.insert("content-type", HeaderValue::from_static("text/plain"));
    Answer { status: 200, fields, body: body.as_bytes().to_vec() }
}

/// Asks a store four hundred things, by the dice, and says what it answered.
async fn play(store: &dyn Store, seed: u64) -> Vec<String> {
    let mut dice = Dice(seed);
    let mut answers = Vec::new();
    let mut held = std::collections::BTreeSet::new();
    for turn in 0..400_u64 {
        let now = START.after(std::time::Duration::from_millis(turn));
        let name = dice.roll(250).to_string();
        let said = match dice.roll(8) {
            0..3 => {
                let atoms = u128::from(dice.roll(3));
                match store.claim(purchase(&name, atoms + 1), now).await {
                    Ok(claim) => word(&claim).to_owned(),
                    Err(error) => error.to_string(),
                }
            }
            3 => match store.claim(rail_purchase(&name, 5), now).await {
                Ok(claim) => word(&claim).to_owned(),
                Err(error) => error.to_string(),
            },
            4 => {
                let settlement = Settlement::new(format!("tx {turn}"), now);
                format!("{:?}", store.post(payment(&name), settlement, now).await)
            }
            5 => format!("{:?}", store.void(payment(&name), VoidReason::Declined, now).await),
            6 => {
                let kept = (dice.roll(2) == 0).then(|| answer(&name));
                store.deliver(payment(&name), Outcome { status: 200 }, kept, now);
                String::new()
            }
            // Only whoever holds a payment can fail at it.
            _ if held.contains(&name) => {
                store.fail(payment(&name), Outcome { status: 503 }, now);
                String::new()
            }
            _ => continue,
        };
        match &*said {
            "fresh" | "undelivered" | "unsettled" => drop(held.insert(name)),
            "" => drop(held.remove(&name)),
            _ => {}
        }
        answers.push(said);
    }
    // What does not wait is written with what comes after it.
    store.note("turns", "400".to_owned()).await.unwrap();
    answers
}

struct Memory(Paper);

impl Stores for Memory {
    fn open(&self, now: Timestamp) -> farthing_testkit::store::Opened {
        farthing_testkit::store::Opened::new(Arc::new(MemoryStore::open(self.0.clone(), now)))
    }

    fn journal(&self) -> Vec<Record> {
        self.0.records()
    }
}

struct Sqlite(TempDir);

impl Sqlite {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn reader(&self) -> farthing_store_sqlite::Reader {
        farthing_store_sqlite::Reader::open(&self.0.path().join("book.db")).unwrap()
    }
}

impl Stores for Sqlite {
    fn open(&self, now: Timestamp) -> farthing_testkit::store::Opened {
        let path = self.0.path().join("book.db");
        let options = farthing_store_sqlite::Options::default();
        let store = Arc::new(SqliteStore::open(&path, options, now).unwrap());
        let port: Arc<dyn Store> = store.clone();
        farthing_testkit::store::Opened::closed_by(port, move || {
            drop(Arc::try_unwrap(store).unwrap_or_else(|_| panic!("nobody else has it")));
        })
    }

    fn journal(&self) -> Vec<Record> {
        self.reader().journal().unwrap()
    }
}

/// C-01: the same requests make the same answers and the same journal, byte for byte, in memory, in a
/// file and in the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_store_writes_the_same_bytes() {
    for seed in 0..4 {
        let (memory, sqlite) = (Memory(Paper::default()), Sqlite::new());
        let postgres = Postgres::new(Options::default());
        let places: [&dyn Stores; 3] = [&memory, &sqlite, &postgres];
        let mut told = Vec::new();
        for place in places {
            let mut story = Story::begin(place).await;
            let mut answers = play(&**story.store(), seed).await;
            story.restart();
            answers.extend(play(&**story.store(), seed + 100).await);
            story.end();
            let lines: Vec<String> = place.journal().iter().map(Record::to_json).collect();
            told.push((answers, lines));
        }
        assert!(told[0].1.len() > 200, "{} records", told[0].1.len());
        assert!(told[0] == told[1], "seed {seed}: memory and SQLite");
        assert!(told[0] == told[2], "seed {seed}: memory and PostgreSQL");
    }
    // The bytes in the database are those of the record.
    let postgres = Postgres::new(Options::default());
    Story::begin(&postgres).await.end();
    let bodies = postgres.sql("SELECT body FROM farthing.journal WHERE book = $book ORDER BY seq");
    let lines: Vec<String> = postgres.journal().iter().map(Record::to_json).collect();
    assert_eq!(bodies.unwrap(), lines.join("\n"));
}

/// A book moves from a file into the database, and on to another, with everything that can be asked of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_book_is_copied_without_loss() {
    let (file, there) = (Sqlite::new(), Postgres::new(Options::default()));
    let mut story = Story::begin(&file).await;
    play(&**story.store(), 7).await;
    assert_eq!(story.claim(purchase("kept", 1)).await, "fresh");
    let kept = answer("sunny");
    story.store().deliver(payment("kept"), Outcome { status: 200 }, Some(kept.clone()), START);
    assert_eq!(story.claim(rail_purchase("open", 1)).await, "fresh");
    story.restart();
    let proof = farthing_ledger::Fingerprint::of("transaction", &[b"0xabc"]);
    let with_hash = |name: &str| {
        let mut request = rail_purchase(name, 1);
        request.proofs.push(farthing_ledger::Proof { fingerprint: proof, keep_until: None });
        request
    };
    assert_eq!(story.claim(with_hash("hash")).await, "fresh");
    story.end();

    farthing_store_postgres::migrate(
        &there.address(),
        farthing_store_postgres::SCHEMA_VERSION,
        farthing_store_postgres::Guards::Triggers,
    )
    .unwrap();
    let copied = copy(&mut file.reader(), &there.address(), &there.book).unwrap();
    assert_eq!(copied.records, u64::try_from(file.journal().len()).unwrap());
    assert!(copied.answers > 1 && copied.notes == 1, "{copied:?}");
    assert_eq!(there.journal(), file.journal());
    assert_eq!(there.reader().kept(None, 9_999).unwrap(), file.reader().kept(None, 9_999).unwrap());

    let again = copy(&mut file.reader(), &there.address(), &there.book);
    assert!(matches!(again, Err(CopyError::NotEmpty)), "{again:?}");
    let onwards = Postgres::new(Options::default());
    assert_eq!(copy(&mut there.reader(), &onwards.address(), &onwards.book).unwrap(), copied);

    for place in [there, onwards] {
        let store = place.store(START);
        let noted = store.noted("turns").await.unwrap();
        assert_eq!(noted.as_deref(), Some("400"), "whoever follows the book goes on");
        let in_use = copy(&mut file.reader(), &place.address(), &place.book);
        assert!(matches!(in_use, Err(CopyError::InUse)), "{in_use:?}");
        let claim = async |request| word(&store.claim(request, START).await.unwrap());
        assert_eq!(claim(purchase("kept", 1)).await, "delivered");
        assert_eq!(store.answer(payment("kept")).await.unwrap().as_ref(), Some(&kept));
        assert_eq!(claim(rail_purchase("open", 1)).await, "unsettled");
        assert_eq!(claim(with_hash("other")).await, "spent", "the hash is remembered");
        assert_eq!(claim(rail_purchase("new", 1)).await, "fresh", "the control");
    }
}
