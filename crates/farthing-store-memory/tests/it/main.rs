//! The memory store against the suite every store must pass.

#![allow(clippy::unwrap_used)]

mod tending;

use std::sync::Arc;

use farthing_core::Store;
use farthing_ledger::Record;
use farthing_money::Timestamp;
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::store::{Opened, Stores};

#[derive(Default)]
struct Memory(Paper);

impl Stores for Memory {
    fn open(&self, now: Timestamp) -> Opened {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(self.0.clone(), now));
        Opened::new(store)
    }

    fn journal(&self) -> Vec<Record> {
        self.0.records()
    }
}

farthing_testkit::store_suite!(Memory::default());
