//! A book in one SQLite file: the embedded default.
//!
//! ```text
//! callers ──► queue ──► one writer thread ──► BEGIN … COMMIT + fsync ──► every caller of the batch
//! ```
//!
//! A second thread copies the write-ahead log into the file beside the writer, and the writer only the
//! rest, so that nobody waits for a checkpoint.
//!
//! The `journal` table is the truth and only ever grows; triggers refuse anything else, except that a
//! row is written anew from which personal data is erased, under a record that says so. Beside it
//! stand an index of claimed `proof`s and, now and then, a `snapshot` of the book, from which a
//! start needs to read only the journal's tail. Each commit writes a `seal` over everything so far:
//! whatever is altered later, [`Reader::verify`] finds and names.
//!
//! # Crash safety
//!
//! WAL with `synchronous=FULL`: a caller is answered after the commit that contains its record has
//! been synced. An error while writing stops the writer for good: the book in memory is then ahead
//! of the disk and must not answer again. Whoever opens the file next continues from what is there.
//!
//! **Architecture invariant:** one writer per file, kept by a lock on a file beside it.
//!
//! **Architecture invariant:** passes the store suite of the testkit; a behaviour that is not in
//! the suite is not relied upon.

mod backup;
mod checkpoint;
mod erasing;
mod file;
mod reader;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use farthing_core::{Answer, StoreError};
use farthing_ledger::merkle::Tree;
use farthing_ledger::{Book, PaymentId, Proof, Record, TraceId};
use farthing_money::Timestamp;
use farthing_store_writer::{
    Ask, Asks, Batch, Counts, Desk, Journal, Said, Writer, store_that_asks,
};
use tokio::sync::watch;

pub use backup::{BackupError, restore};
pub use file::OpenError;
pub use reader::{ReadError, Reader, VerifyError};

use file::BookFile;

/// How the store behaves under load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many requests may wait for the writer; the next one is told to try again later.
    pub queue_max: usize,
    /// How many requests one commit may contain.
    pub batch_max: usize,
    /// After how many records the book is written down whole, so that a start stays quick.
    pub snapshot_every: u64,
    /// How long to wait for another program that has the file locked, such as a backup, before
    /// the disk counts as refusing.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let farthing_store_writer::Options { queue_max, batch_max, snapshot_every } =
            farthing_store_writer::Options::default();
        Self { queue_max, batch_max, snapshot_every, lock_wait: Duration::from_secs(5) }
    }
}

impl From<Options> for farthing_store_writer::Options {
    fn from(options: Options) -> Self {
        let Options { queue_max, batch_max, snapshot_every, lock_wait: _ } = options;
        Self { queue_max, batch_max, snapshot_every }
    }
}

/// An open book. Dropping it answers what is queued, writes a snapshot and closes the file.
pub struct SqliteStore {
    desk: Option<Desk>,
    counts: Arc<Counts>,
    stopped: watch::Receiver<bool>,
    writer: Option<JoinHandle<()>>,
    /// Reads beside the writer.
    reader: Option<Arc<Mutex<Reader>>>,
}

impl SqliteStore {
    /// Opens the book at `path`, making it if there is none, and takes it over from whoever wrote
    /// it last.
    ///
    /// # Errors
    ///
    /// An [`OpenError`]: another process has it, it is not a book, or the disk says no.
    pub fn open(path: &Path, options: Options, now: Timestamp) -> Result<Self, OpenError> {
        let (file, book, sealer) = file::open(path, options.lock_wait, now)?;
        let options = options.into();
        let (desk, queue) = farthing_store_writer::open(&options);
        let counts = Arc::clone(desk.counts());
        let mut writer = Writer::new((book, sealer), file, options, Arc::clone(&counts));
        writer.take_over(now)?;
        let reader = Some(Arc::new(Mutex::new(Reader::open(path)?)));
        let (stop, stopped) = watch::channel(false);
        let run = move || {
            if let Err(error) = writer.run(&queue) {
                eprintln_once(&error);
            }
            // Nobody listening is fine: the store may be gone already.
            let _ = stop.send(true);
        };
        let thread = std::thread::Builder::new().name("book".into()).spawn(run);
        let writer = Some(thread.map_err(OpenError::Io)?);
        Ok(Self { desk: Some(desk), counts, stopped, writer, reader })
    }

    /// Whether the writer still runs. Once it has stopped, every request is refused.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !*self.stopped.borrow()
    }

    /// Resolves when the writer has stopped, because the store was closed or could not write.
    pub async fn stopped(&self) {
        let mut stopped = self.stopped.clone();
        // The sender gone means the writer gone.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    }

    /// How many requests wait for the writer.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.counts.waiting()
    }

    /// How many payments were claimed and are neither delivered nor given up.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.counts.unfinished()
    }

    /// Reads what is on disk, where it may take its time.
    async fn on_disk<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let reader = self.reader.clone().ok_or(StoreError)?;
        let read = move || read(&reader.lock().unwrap_or_else(PoisonError::into_inner));
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|_| StoreError)?.map_err(|_| StoreError)
    }
}

impl Asks for SqliteStore {
    async fn ask(&self, ask: Ask) -> Option<Said> {
        self.desk.as_ref()?.put(ask).ok()?.await
    }

    fn tell(&self, ask: Ask) {
        if let Some(desk) = &self.desk {
            // The writer gone, the next one finds the payment where it was left.
            let _ = desk.tell(ask);
        }
    }

    async fn read(&self, from: u64, limit: u32) -> Result<Vec<Record>, StoreError> {
        self.on_disk(move |reader| reader.records(from, limit)).await
    }

    async fn read_story(&self, trace: TraceId) -> Result<Vec<Record>, StoreError> {
        self.on_disk(move |reader| reader.of_trace(trace)).await
    }

    async fn read_note(&self, name: String) -> Result<Option<String>, StoreError> {
        self.on_disk(move |reader| reader.noted(&name)).await
    }
}

store_that_asks!(SqliteStore);

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.desk = None;
        // The last to close a file folds its log into it, and a reader cannot.
        self.reader = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to say here.
            let _ = writer.join();
        }
    }
}

impl Journal for BookFile {
    type Error = rusqlite::Error;

    fn commit(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        for line in &batch.lines {
            file::append(&transaction, line)?;
        }
        for seal in &batch.seals {
            file::seal(&transaction, seal)?;
        }
        for kept in &batch.kept {
            file::keep_answer(&transaction, kept)?;
        }
        for (name, text) in &batch.notes {
            file::keep_note(&transaction, name, text)?;
        }
        if let Some(erasing) = &batch.erasing {
            erasing::write(&transaction, erasing)?;
        }
        transaction.commit()?;
        self.checkpoint.committed(batch.lines.len(), &self.connection);
        Ok(())
    }

    fn is_claimed(&self, proof: &Proof) -> rusqlite::Result<bool> {
        file::is_claimed(&self.connection, proof)
    }

    fn answer(&self, payment: PaymentId) -> rusqlite::Result<Option<Answer>> {
        file::answer(&self.connection, payment)
    }

    fn save(&mut self, book: &Book, tree: &Tree, now: Timestamp) -> rusqlite::Result<()> {
        file::save(&self.connection, book, tree, now)
    }

    fn each_line(&mut self, each: &mut dyn FnMut(u64, &str)) -> rusqlite::Result<()> {
        let mut all = self.connection.prepare("SELECT seq, body FROM journal ORDER BY seq")?;
        let mut rows = all.query(())?;
        while let Some(row) = rows.next()? {
            each(row.get::<_, i64>(0)?.cast_unsigned(), row.get_ref(1)?.as_str()?);
        }
        Ok(())
    }

    fn lines_at(&mut self, seqs: &[u64]) -> rusqlite::Result<Vec<(u64, String)>> {
        let mut one = self.connection.prepare("SELECT body FROM journal WHERE seq = ?")?;
        let line = |seq: &u64| Ok((*seq, one.query_row([seq.cast_signed()], |row| row.get(0))?));
        seqs.iter().map(line).collect()
    }

    fn wipe(&mut self) -> bool {
        erasing::wipe(&self.connection)
    }
}

/// Says once, where no logger may exist, why the book stopped.
#[expect(clippy::print_stderr, reason = "a book that stops must be heard even without a logger")]
fn eprintln_once(error: &rusqlite::Error) {
    eprintln!("farthing: the book cannot be written and stops: {error}");
}
