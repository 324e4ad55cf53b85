//! Connections that are cut at the worst moment.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use farthing_core::Store as _;
use farthing_ledger::{ClaimError, audit};
use farthing_store_postgres::{Address, Options, PostgresStore};
use farthing_testkit::postgres::{Cluster, url};
use farthing_testkit::store::{START, Stores as _, Story, payment, purchase, word};

use super::{Postgres, long};

/// When to cut the next `COMMIT` off.
#[derive(Clone, Copy)]
enum Cut {
    /// Before the server has seen it.
    Before,
    /// When the server has done it, and before anybody is told.
    After,
}

/// Stands between a store and its server.
struct Proxy {
    port: u16,
    cut: Arc<AtomicU8>,
}

impl Proxy {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Arc::new(AtomicU8::new(0));
        let seen = Arc::clone(&cut);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, cut) = (client.unwrap(), Arc::clone(&seen));
                let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                std::thread::spawn(move || pass(client, server, &cut));
            }
        });
        Self { port, cut }
    }

    fn cut(&self, cut: Cut) {
        let number = match cut {
            Cut::Before => 1,
            Cut::After => 2,
        };
        self.cut.store(number, Ordering::SeqCst);
    }

    /// Whether it came to a cut.
    fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == 0
    }
}

/// Passes everything on, until it comes to a cut.
fn pass(mut client: TcpStream, mut server: TcpStream, cut: &Arc<AtomicU8>) {
    let silent = Arc::new(AtomicU8::new(0));
    let back = {
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let silent = Arc::clone(&silent);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if silent.load(Ordering::SeqCst) == 1 || to.write_all(&buffer[..count]).is_err() {
                    // What the server says after the cut proves that it has done it.
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
            let _ = from.shutdown(Shutdown::Both);
        })
    };
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let said = &buffer[..count];
        if said.windows(7).any(|window| window == b"COMMIT\0") {
            match cut.swap(0, Ordering::SeqCst) {
                1 => {
                    let _ = client.shutdown(Shutdown::Both);
                    let _ = server.shutdown(Shutdown::Both);
                    break;
                }
                2 => silent.store(1, Ordering::SeqCst),
                _ => {}
            }
        }
        if server.write_all(said).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    back.join().unwrap();
}

/// A store whose connections go through a proxy.
struct Scene {
    stores: Postgres,
    proxy: Proxy,
    store: PostgresStore,
}

async fn scene() -> Scene {
    let stores = Postgres::new(long());
    Story::begin(&stores).await.end();
    let proxy = Proxy::start(Cluster::shared().port());
    let address = Address::parse(&url(&[proxy.port], "postgres")).unwrap();
    let store = PostgresStore::open(address, &stores.book, &stores.options, START).unwrap();
    Scene { stores, proxy, store }
}

/// C-05, C-06: a connection lost at `COMMIT`, before or after the server has seen it, loses no payment and
/// makes none twice: the caller hears what is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_without_an_answer_is_looked_up() {
    let Scene { stores, proxy, store } = scene().await;
    let mut count = 0;
    for cut in [Cut::Before, Cut::After, Cut::After, Cut::Before] {
        for _ in 0..2 {
            let name = count.to_string();
            let claim = store.claim(purchase(&name, 1), START).await;
            assert_eq!(claim.as_ref().map(word), Ok("fresh"), "{name}");
            assert!(proxy.has_cut());
            count += 1;
            // The next round is cut.
            proxy.cut(cut);
        }
    }
    // The last cut is still to come; what need not be written does not meet it.
    let again = store.claim(purchase("0", 1), START).await.unwrap();
    assert_eq!(word(&again), "pending");
    assert!(!proxy.has_cut());
    store.deliver(payment("0"), farthing_ledger::Outcome { status: 200 }, None, START);
    let again = store.claim(purchase("0", 1), START).await.unwrap();
    assert_eq!(word(&again), "delivered");
    assert!(proxy.has_cut());
    drop(store);
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!((sound.claimed, sound.delivered, sound.undelivered), (count, 1, count - 1));
    // One writer wrote all of it: nobody else opened the book.
    assert_eq!(sound.records, 2 + 2 + 1 + count + 1);
}

/// Where somebody else has the book when the outcome could be looked up, nothing is claimed to be so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_is_not_looked_up_for_whoever_was_replaced() {
    let Scene { stores, proxy, store } = scene().await;
    assert_eq!(store.claim(purchase("a", 1), START).await.as_ref().map(word), Ok("fresh"));
    stores.sql("UPDATE farthing.lease SET epoch = epoch + 1 WHERE book = $book").unwrap();
    proxy.cut(Cut::After);
    assert_eq!(store.claim(purchase("b", 1), START).await, Err(ClaimError::Unavailable));
    drop(store);
    let sound = audit(&stores.journal()).unwrap();
    assert_eq!(sound.claimed, 1);
}

/// A database that has lost what it had confirmed is not written on top of.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_database_that_forgot_is_not_believed() {
    let url_of_its_own = Cluster::shared().new_database();
    let stores = Postgres { url: url_of_its_own, ..Postgres::new(Options { ..long() }) };
    Story::begin(&stores).await.end();
    let proxy = Proxy::start(Cluster::shared().port());
    let name = stores.url.rsplit('/').next().unwrap();
    let address = Address::parse(&url(&[proxy.port], name)).unwrap();
    let store = PostgresStore::open(address, &stores.book, &stores.options, START).unwrap();
    for name in ["a", "b"] {
        assert_eq!(store.claim(purchase(name, 1), START).await.as_ref().map(word), Ok("fresh"));
    }
    // As if a standby had been promoted that did not have the last record.
    stores.sql("ALTER TABLE farthing.journal DISABLE TRIGGER ALL").unwrap();
    let last = "(SELECT max(seq) FROM farthing.journal)";
    stores.sql(&format!("DELETE FROM farthing.journal WHERE seq = {last}")).unwrap();
    proxy.cut(Cut::Before);
    assert_eq!(store.claim(purchase("c", 1), START).await, Err(ClaimError::Unavailable));
    let journal = stores.reader().journal().unwrap();
    assert!(!journal.iter().any(|record| record.to_json().contains("\"challenge\":\"c\"")));
    drop(store);
}
