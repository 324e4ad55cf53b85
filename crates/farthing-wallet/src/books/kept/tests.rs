//! Two processes, each with a book that it keeps, and steps of both at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_core::{Clock, Store as _};
use farthing_ledger::{Entry, OwnerStep};
use farthing_store_sqlite::Reader;

use super::*;
use crate::Books;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_800_000_000_000_000)
    }
}

fn freeze(name: String) -> OwnerStep {
    OwnerStep::Frozen { agent: Some(name), reason: "odd".to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_keep_a_book_take_turns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.db");
    // An open file description each, as two processes have.
    let books = [OpenBook::new(&path), OpenBook::new(&path)];
    let steps = Arc::new(AtomicUsize::new(0));
    let both = books.each_ref().map(|book| {
        let (book, steps) = (book.clone(), Arc::clone(&steps));
        tokio::spawn(async move {
            for _ in 0..20 {
                let at = steps.fetch_add(1, Ordering::SeqCst);
                let books = Books::keeping(book.clone(), Arc::new(Still));
                assert!(books.step(freeze(at.to_string())).await.unwrap());
            }
        })
    });
    for one in both {
        one.await.unwrap();
    }
    let records = Reader::open(&path).unwrap().journal().unwrap();
    farthing_ledger::audit(&records).unwrap();
    let frozen =
        records.iter().filter(|it| matches!(it.event, farthing_ledger::Event::Owner { .. }));
    assert_eq!(frozen.count(), 40, "each step once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_nobody_uses_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("book.db");
    let book = OpenBook::new(&path);
    let kept = book.store(Still.now()).await.unwrap();
    let again = book.store(Still.now()).await.unwrap();
    assert!(Arc::ptr_eq(&kept, &again), "it is kept");
    let entry = Entry::Owner(Box::new(freeze("a".to_owned())));
    kept.enter(entry, Still.now()).await.unwrap();
    drop((kept, again));
    // Whoever opens it for a step does not ask this process, and gets it.
    let books = Books::new(&path, Arc::new(Still));
    assert!(books.step(freeze("b".to_owned())).await.unwrap());
}
