//! The file: its schema, its lock and its settings.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use farthing_core::Answer;
use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{
    Book, Fingerprint, Leaves, PaymentId, Proof, Record, Seal, Sealer, Snapshot,
};
use farthing_money::Timestamp;
use farthing_store_writer::{
    Kept, LastSnapshot, Line, PROOFS_KEPT, REMEMBERED, Sealed, bucket, read_fields, write_fields,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::checkpoint::Checkpoint;

/// Marks the file as a Farthing book: "FRTH".
const APPLICATION_ID: i32 = 0x4652_5448;

/// The schema this code writes.
const SCHEMA_VERSION: i32 = 5;

/// The journal and what is derived from it.
///
/// `proof` is bucketed by the moment at which a proof stops mattering, so that a commit touches the
/// same few pages again and again although fingerprints are random. Bucket 0 is kept for ever.
const SCHEMA: &str = "
CREATE TABLE journal (
    seq   INTEGER PRIMARY KEY,
    at    INTEGER NOT NULL,
    trace BLOB CHECK (trace IS NULL OR length(trace) = 16),
    body  TEXT NOT NULL
) STRICT;
CREATE INDEX journal_trace ON journal (trace) WHERE trace IS NOT NULL;
CREATE TRIGGER journal_is_never_cut BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;

CREATE TABLE proof (
    bucket  INTEGER NOT NULL,
    key     BLOB NOT NULL CHECK (length(key) = 32),
    until   INTEGER,
    payment BLOB NOT NULL CHECK (length(payment) = 16),
    trace   BLOB,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
";

/// What makes an altered line be found: a seal for each commit, and the book as it stood at one record,
/// with the right edge of the journal's tree.
const SEALS: &str = "
CREATE TABLE seal (
    size   INTEGER PRIMARY KEY,
    root   BLOB NOT NULL CHECK (length(root) = 32),
    chain  BLOB NOT NULL CHECK (length(chain) = 32),
    leaves BLOB NOT NULL CHECK (length(leaves) > 0 AND length(leaves) % 32 = 0)
) STRICT;
CREATE TRIGGER seal_is_never_changed BEFORE UPDATE ON seal
BEGIN SELECT RAISE(ABORT, 'seals are append-only'); END;
CREATE TRIGGER seal_is_never_cut BEFORE DELETE ON seal
BEGIN SELECT RAISE(ABORT, 'seals are append-only'); END;

CREATE TABLE snapshot (
    seq  INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    edge BLOB NOT NULL CHECK (length(edge) % 32 = 0)
) STRICT;
";

/// What lets a row be written anew under the record of an erasure, and in no other way: its place has to
/// stand in `erasing`, where nothing can be put unless the journal ends with such a record. The commit
/// that fills it empties it.
const ERASING: &str = "
CREATE TABLE erasing (seq INTEGER PRIMARY KEY) STRICT;
CREATE TRIGGER erasing_is_recorded BEFORE INSERT ON erasing
WHEN coalesce((SELECT instr(substr(body, 1, 200), '\"event\":{\"is\":\"erased\"')
               FROM journal ORDER BY seq DESC LIMIT 1), 0) = 0
BEGIN SELECT RAISE(ABORT, 'rows are written anew under a record of it'); END;
DROP TRIGGER IF EXISTS journal_is_never_changed;
CREATE TRIGGER journal_is_never_changed BEFORE UPDATE ON journal
WHEN NEW.seq <> OLD.seq OR NEW.at <> OLD.at OR NEW.trace IS NOT OLD.trace
     OR NOT EXISTS (SELECT 1 FROM erasing WHERE seq = OLD.seq)
BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
";

/// How many records that were written before there were seals one seal is made over.
const SEALED_AT_ONCE: usize = 65_536;

/// Answers that may be given again, and what the book has to know for it. Nothing here is part of the
/// journal: it holds what was sold, and is gone when it cannot be asked for any more. Rows lie in the order
/// they came: they are long, and in the order of payments each would have a page of its own to change.
const ANSWERS: &str = "
CREATE TABLE answer (
    payment    BLOB PRIMARY KEY CHECK (length(payment) = 16),
    kept_until INTEGER NOT NULL,
    answered   TEXT NOT NULL,
    status     INTEGER,
    fields     BLOB,
    body       BLOB
) STRICT;
CREATE INDEX answer_kept_until ON answer (kept_until);
";

/// How far those have come who follow the book. Nothing here is part of the journal.
const NOTES: &str = "
CREATE TABLE note (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A book's file, locked and open for writing.
pub(crate) struct BookFile {
    pub(crate) connection: Connection,
    pub(crate) checkpoint: Checkpoint,
    /// Held as long as the file is open.
    _lock: File,
}

/// Opens, and if need be makes, the book at `path`, and reads it.
pub(crate) fn open(
    path: &Path,
    lock_wait: Duration,
    now: Timestamp,
) -> Result<(BookFile, Book, Sealer), OpenError> {
    let lock = lock(path)?;
    create_private(path)?;
    let connection = Connection::open(path)?;
    connection.busy_timeout(lock_wait)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA cache_size = -32768;
         PRAGMA secure_delete = FAST;
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;",
    )?;
    migrate(&connection)?;
    let (book, sealer) = read(&connection, now)?;
    let checkpoint = Checkpoint::new(path);
    Ok((BookFile { connection, checkpoint, _lock: lock }, book, sealer))
}

/// Opens a book for reading, beside whoever writes it.
pub(crate) fn open_for_reading(path: &Path) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    match version(&connection)? {
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(connection),
        (APPLICATION_ID, found) => Err(OpenError::Version { found }),
        _ => Err(OpenError::NotABook),
    }
}

/// Takes the lock that keeps a second writer out.
pub(crate) fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = private().truncate(false).open(PathBuf::from(name)).map_err(OpenError::Io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked),
        Err(TryLockError::Error(error)) => Err(OpenError::Io(error)),
    }
}

/// Makes the file readable by its owner alone before SQLite writes to it.
pub(crate) fn create_private(path: &Path) -> Result<(), OpenError> {
    private().truncate(false).open(path).map(drop).map_err(OpenError::Io)
}

/// Makes sure that a file and its name last.
pub(crate) fn sync(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn version(connection: &Connection) -> Result<(i32, i32), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

fn migrate(connection: &Connection) -> Result<(), OpenError> {
    match version(connection)? {
        (APPLICATION_ID, SCHEMA_VERSION) => Ok(()),
        (0, 0) if is_empty(connection)? => {
            connection.execute_batch(&format!(
                "BEGIN IMMEDIATE; {SCHEMA} {ANSWERS} {NOTES} {SEALS} {ERASING}
                 PRAGMA application_id = {APPLICATION_ID};
                 PRAGMA user_version = {SCHEMA_VERSION};
                 COMMIT;"
            ))?;
            Ok(())
        }
        (APPLICATION_ID, 1) => upgrade(connection, &format!("{ANSWERS} {NOTES}")),
        (APPLICATION_ID, 2) => upgrade(connection, NOTES),
        (APPLICATION_ID, 3) => upgrade(connection, ""),
        (APPLICATION_ID, 4) => Ok(connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {ERASING} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        ))?),
        (APPLICATION_ID, found) => Err(OpenError::Version { found }),
        _ => Err(OpenError::NotABook),
    }
}

/// Brings a book without seals up to date, and seals what is there: all of it, or nothing.
fn upgrade(connection: &Connection, tables: &str) -> Result<(), OpenError> {
    let transaction = connection.unchecked_transaction()?;
    // The old snapshot knows no tree; the first start reads the journal from its first line.
    transaction.execute_batch(&format!("{tables} DROP TABLE snapshot; {SEALS}"))?;
    let mut sealer = Sealer::default();
    let mut lines = Vec::new();
    let mut journal = transaction.prepare("SELECT body FROM journal ORDER BY seq")?;
    let mut rows = journal.query(())?;
    while let Some(row) = rows.next()? {
        lines.push(row.get::<_, String>(0)?);
        if lines.len() == SEALED_AT_ONCE {
            seal(&transaction, &sealer.seal(lines.drain(..)))?;
        }
    }
    if !lines.is_empty() {
        seal(&transaction, &sealer.seal(lines))?;
    }
    drop(rows);
    drop(journal);
    transaction.execute_batch(&format!("{ERASING} PRAGMA user_version = {SCHEMA_VERSION};"))?;
    transaction.commit()?;
    Ok(())
}

fn is_empty(connection: &Connection) -> Result<bool, OpenError> {
    let tables = "SELECT count(*) FROM sqlite_schema";
    let count: i64 = connection.query_row(tables, [], |row| row.get(0))?;
    Ok(count == 0)
}

/// Rebuilds the book: the last snapshot, the journal since, and the proofs that still matter. What is
/// read of the journal must be what was sealed.
fn read(connection: &Connection, now: Timestamp) -> Result<(Book, Sealer), OpenError> {
    // The journal is the truth: a snapshot that is not what was saved is passed over.
    let says = last_snapshot(connection)?.and_then(|last| last.says);
    let (mut book, mut tree) = match says {
        Some((snapshot, tree)) => (Book::restore(snapshot), tree),
        None => (Book::default(), Tree::default()),
    };
    let memory_from = now.before(REMEMBERED);
    let mut proofs =
        connection.prepare("SELECT key, until, payment FROM proof WHERE bucket >= ?1")?;
    let mut rows = proofs.query([bucket(Some(memory_from))])?;
    while let Some(row) = rows.next()? {
        let until: Option<i64> = row.get(1)?;
        let proof = Proof {
            fingerprint: Fingerprint::from_bytes(row.get(0)?),
            keep_until: until.map(|until| Timestamp::from_micros(until.cast_unsigned())),
        };
        book.remember(proof, PaymentId::from_bytes(row.get(2)?));
    }
    let (sealed_lines, mut leaves) = (sealed_since(connection, book.seq())?, Leaves::default());
    let mut tail =
        connection.prepare("SELECT seq, body FROM journal WHERE seq > ?1 ORDER BY seq")?;
    let mut rows = tail.query([book.seq().cast_signed()])?;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let body: String = row.get(1)?;
        let damaged = OpenError::Damaged { seq };
        tree.push(leaves.line(seq, sealed_lines.at(seq), &body));
        let Ok(record) = Record::from_json(body.as_bytes()) else { return Err(damaged) };
        let follows = record.seq == seq && book.seq().checked_add(1) == Some(seq);
        if !follows || book.replay(&record).is_err() {
            return Err(damaged);
        }
        leaves.record(&record);
        for (proof, _) in farthing_ledger::claimed_proofs(&record) {
            book.shelve(&proof);
        }
    }
    let mut answers = connection.prepare("SELECT answered FROM answer WHERE kept_until >= ?1")?;
    let mut rows = answers.query([now.as_micros().cast_signed()])?;
    while let Some(row) = rows.next()? {
        let body: String = row.get(0)?;
        // One that cannot be read is refused as used when its credential comes again.
        if let Ok(answered) = serde_json::from_str(&body) {
            book.recall(answered);
        }
    }
    book.forgot_until(memory_from);
    if !leaves.unexplained().is_empty() {
        return Err(OpenError::NotSealed);
    }
    let sealer = sealed(connection, tree)?;
    Ok((book, sealer))
}

/// The last snapshot, if there is one.
pub(crate) fn last_snapshot(connection: &Connection) -> rusqlite::Result<Option<LastSnapshot>> {
    let last = "SELECT seq, body, edge FROM snapshot ORDER BY seq DESC LIMIT 1";
    let row = |row: &rusqlite::Row<'_>| {
        let seq = row.get::<_, i64>(0)?.cast_unsigned();
        let (body, edge): (String, Vec<u8>) = (row.get(1)?, row.get(2)?);
        Ok(LastSnapshot::read(seq, without_digest(&body), &edge))
    };
    connection.query_row(last, [], row).optional()
}

/// What was sealed of the records behind `from`.
fn sealed_since(connection: &Connection, from: u64) -> rusqlite::Result<Sealed> {
    let mut seals =
        connection.prepare("SELECT size, leaves FROM seal WHERE size > ?1 ORDER BY size")?;
    let mut rows = seals.query([from.cast_signed()])?;
    let mut sealed = Sealed::default();
    while let Some(row) = rows.next()? {
        let leaves: Vec<u8> = row.get(1)?;
        // What is no hash seals nothing.
        let leaves = Hash::read_all(&leaves).unwrap_or_default();
        sealed.add(row.get::<_, i64>(0)?.cast_unsigned(), leaves);
    }
    Ok(sealed)
}

/// What goes on behind the last seal, if that seals the journal whose tree is `tree`.
fn sealed(connection: &Connection, tree: Tree) -> Result<Sealer, OpenError> {
    let last = "SELECT size, root, chain FROM seal ORDER BY size DESC LIMIT 1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?));
    let last: Option<(i64, [u8; 32], [u8; 32])> = connection.query_row(last, [], row).optional()?;
    match last {
        None if tree.size() == 0 => Ok(Sealer::default()),
        Some((size, root, chain))
            if size.cast_unsigned() == tree.size() && Hash::from_bytes(root) == tree.root() =>
        {
            Ok(Sealer::after(tree, Hash::from_bytes(chain)))
        }
        Some(_) | None => Err(OpenError::NotSealed),
    }
}

/// Writes the seal of a commit, within the transaction that is open.
pub(crate) fn seal(connection: &Connection, seal: &Seal) -> rusqlite::Result<()> {
    let mut insert = connection
        .prepare_cached("INSERT INTO seal (size, root, chain, leaves) VALUES (?, ?, ?, ?)")?;
    insert.execute(params![
        seal.size.cast_signed(),
        seal.root.as_bytes(),
        seal.chain.as_bytes(),
        Hash::write_all(&seal.leaves)
    ])?;
    Ok(())
}

/// Keeps what is needed to give an answer again, within the transaction that is open.
pub(crate) fn keep_answer(
    connection: &Connection,
    Kept { answered, answer }: &Kept,
) -> rusqlite::Result<()> {
    // In-memory data with string keys always serialises.
    let body = serde_json::to_string(answered).unwrap_or_default();
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO answer (payment, kept_until, answered, status, fields, body)
         VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    insert.execute(params![
        answered.payment.to_bytes(),
        answered.kept_until.as_micros().cast_signed(),
        body,
        answer.as_ref().map(|answer| answer.status),
        answer.as_ref().map(|answer| write_fields(&answer.fields)),
        answer.as_ref().map(|answer| answer.body.as_slice()),
    ])?;
    Ok(())
}

/// Keeps a note, within the transaction that is open.
pub(crate) fn keep_note(connection: &Connection, name: &str, text: &str) -> rusqlite::Result<()> {
    let insert = "INSERT OR REPLACE INTO note (name, body) VALUES (?, ?)";
    connection.prepare_cached(insert)?.execute([name, text])?;
    Ok(())
}

/// The answer that was given for a payment, if it was kept.
pub(crate) fn answer(
    connection: &Connection,
    payment: PaymentId,
) -> rusqlite::Result<Option<Answer>> {
    let select = "SELECT status, fields, body FROM answer WHERE payment = ? AND body IS NOT NULL";
    let mut select = connection.prepare_cached(select)?;
    let row = |row: &rusqlite::Row<'_>| {
        let fields: Vec<u8> = row.get(1)?;
        Ok(Answer { status: row.get(0)?, fields: read_fields(&fields), body: row.get(2)? })
    };
    select.query_row([payment.to_bytes()], row).optional()
}

/// Writes a record and the proofs it claims, within the transaction that is open.
pub(crate) fn append(connection: &Connection, line: &Line) -> rusqlite::Result<()> {
    let Line { record, json, proofs } = line;
    let trace = record.trace.map(farthing_ledger::TraceId::to_bytes);
    let mut journal = connection
        .prepare_cached("INSERT INTO journal (seq, at, trace, body) VALUES (?, ?, ?, ?)")?;
    journal.execute(params![
        record.seq.cast_signed(),
        record.at.as_micros().cast_signed(),
        trace,
        json
    ])?;
    let mut index = connection.prepare_cached(
        "INSERT INTO proof (bucket, key, until, payment, trace) VALUES (?, ?, ?, ?, ?)",
    )?;
    for (proof, payment) in proofs {
        index.execute(params![
            bucket(proof.keep_until),
            proof.fingerprint.as_bytes(),
            proof.keep_until.map(|until| until.as_micros().cast_signed()),
            payment.to_bytes(),
            trace
        ])?;
    }
    Ok(())
}

/// A snapshot's text under its digest.
fn with_digest(body: &str) -> String {
    format!("{}\n{body}", Fingerprint::of("snapshot", &[body.as_bytes()]))
}

/// What stood under its digest, if it is still that.
fn without_digest(text: &str) -> Option<Snapshot> {
    let (digest, body) = text.split_once('\n')?;
    let is_sound = Fingerprint::of("snapshot", &[body.as_bytes()]).to_string() == digest;
    is_sound.then(|| serde_json::from_str(body).ok()).flatten()
}

/// Keeps a snapshot and no older one, within the transaction that is open.
pub(crate) fn keep_snapshot(
    connection: &Connection,
    snapshot: &Snapshot,
    tree: &Tree,
) -> rusqlite::Result<()> {
    // In-memory data with string keys always serialises.
    let body = with_digest(&serde_json::to_string(snapshot).unwrap_or_default());
    let (seq, edge) = (snapshot.seq.cast_signed(), Hash::write_all(tree.edge()));
    let insert = "INSERT OR REPLACE INTO snapshot (seq, body, edge) VALUES (?, ?, ?)";
    connection.execute(insert, params![seq, body, edge])?;
    connection.execute("DELETE FROM snapshot WHERE seq < ?", [seq])?;
    Ok(())
}

/// Writes the book down whole, and drops what nobody can ask for any more.
pub(crate) fn save(
    connection: &Connection,
    book: &Book,
    tree: &Tree,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    keep_snapshot(&transaction, &book.snapshot(), tree)?;
    let outdated = bucket(Some(now.before(PROOFS_KEPT)));
    transaction.execute("DELETE FROM proof WHERE bucket > 0 AND bucket < ?", [outdated])?;
    let over = now.as_micros().cast_signed();
    transaction.execute("DELETE FROM answer WHERE kept_until < ?", [over])?;
    transaction.commit()
}

/// Whether a proof is in the index on disk.
pub(crate) fn is_claimed(connection: &Connection, proof: &Proof) -> rusqlite::Result<bool> {
    let mut select =
        connection.prepare_cached("SELECT 1 FROM proof WHERE bucket = ? AND key = ?")?;
    select.exists(params![bucket(proof.keep_until), proof.fingerprint.as_bytes()])
}

/// Why a book cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open for writing.
    #[error("another process has the book open; stop it, or speak to it through its admin address")]
    Locked,
    /// It is some other file.
    #[error("the file is not a Farthing book")]
    NotABook,
    /// It was written by another version.
    #[error("the book has schema version {found}, and this program writes version 5")]
    Version {
        /// Its version.
        found: i32,
    },
    /// A record cannot be read, or does not follow the one before.
    #[error("the journal is damaged at record {seq}; `farthing ledger verify` says more")]
    Damaged {
        /// Its place.
        seq: u64,
    },
    /// The journal is not what was sealed.
    #[error(
        "the journal does not end where its last seal says: it was altered; `farthing ledger verify` \
         says more"
    )]
    NotSealed,
    /// The operating system says no.
    #[error("the book cannot be opened: {0}")]
    Io(#[source] std::io::Error),
    /// SQLite says no.
    #[error("the book cannot be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
}
