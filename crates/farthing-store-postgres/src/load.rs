//! Reading a book, to write it from then on.

use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{
    Book, Fingerprint, Leaves, PaymentId, Proof, Record, Sealer, Snapshot, claimed_proofs,
};
use farthing_money::Timestamp;
use farthing_store_writer::{REMEMBERED, Sealed, bucket};
use tokio_postgres::Row;

use crate::journal::{PgJournal, WriteError, bytes};

/// How many rows are read at once, between two looks at the lease.
const PAGE: i64 = 5_000;

const SNAPSHOT: &str =
    "SELECT body, edge FROM farthing.snapshot WHERE book = $1 ORDER BY seq DESC LIMIT 1";

const LAST_SEAL: &str =
    "SELECT size, root, chain FROM farthing.seal WHERE book = $1 ORDER BY size DESC LIMIT 1";

const PROOFS: &str = "
SELECT bucket, key, until, payment FROM farthing.proof
WHERE book = $1 AND (bucket, key) > ($2, $3) ORDER BY bucket, key LIMIT $4";

const TAIL: &str = "
SELECT seq, body FROM farthing.journal WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const SEALED: &str = "
SELECT size, leaves FROM farthing.seal WHERE book = $1 AND size > $2 ORDER BY size LIMIT $3";

const ANSWERED: &str = "
SELECT payment, answered FROM farthing.answer
WHERE book = $1 AND payment > $2 AND kept_until >= $3 ORDER BY payment LIMIT $4";

/// Rebuilds a book: the last snapshot, the proofs that still matter, the journal since, and what can be
/// answered again. What is read of the journal must be what was sealed.
pub(crate) fn load(
    journal: &mut PgJournal,
    name: &str,
    now: Timestamp,
) -> Result<(Book, Sealer), LoadError> {
    let (mut book, mut tree) = match journal.rows(SNAPSHOT, &[&name])?.first() {
        Some(row) => {
            let (snapshot, tree) = snapshot(row)?;
            (Book::restore(snapshot), tree)
        }
        None => (Book::default(), Tree::default()),
    };
    let memory_from = now.before(REMEMBERED);
    remember(journal, name, &mut book, bucket(Some(memory_from)))?;
    replay(journal, name, &mut book, &mut tree)?;
    recall(journal, name, &mut book, now)?;
    book.forgot_until(memory_from);
    if book.seq() != journal.written() {
        return Err(LoadError::Damaged { seq: book.seq().saturating_add(1) });
    }
    let sealer = sealed(journal, name, tree)?;
    Ok((book, sealer))
}

fn snapshot(row: &Row) -> Result<(Snapshot, Tree), LoadError> {
    let body: &str = row.try_get(0).map_err(WriteError::from)?;
    let edge: &[u8] = row.try_get(1).map_err(WriteError::from)?;
    let snapshot = serde_json::from_str::<Snapshot>(body).ok();
    let tree = |seq| Hash::read_all(edge).and_then(|edge| Tree::from_edge(seq, edge));
    let read = snapshot.and_then(|snapshot| tree(snapshot.seq).map(|tree| (snapshot, tree)));
    read.ok_or(LoadError::Damaged { seq: 0 })
}

/// What goes on behind the last seal, if that seals the journal whose tree is `tree`.
fn sealed(journal: &mut PgJournal, name: &str, tree: Tree) -> Result<Sealer, LoadError> {
    let rows = journal.rows(LAST_SEAL, &[&name])?;
    let Some(row) = rows.first() else {
        return if tree.size() == 0 { Ok(Sealer::default()) } else { Err(LoadError::NotSealed) };
    };
    let size: i64 = row.try_get(0).map_err(WriteError::from)?;
    let root: Option<[u8; 32]> = bytes(row, 1);
    let fits = size.cast_unsigned() == tree.size()
        && root.is_some_and(|root| Hash::from_bytes(root) == tree.root());
    match bytes(row, 2) {
        Some(chain) if fits => Ok(Sealer::after(tree, Hash::from_bytes(chain))),
        Some(_) | None => Err(LoadError::NotSealed),
    }
}

fn remember(
    journal: &mut PgJournal,
    name: &str,
    book: &mut Book,
    from: i64,
) -> Result<(), LoadError> {
    // Whatever lies in the bucket before comes first, and no key is beyond this one.
    let (mut bucket, mut key) = (from.saturating_sub(1), vec![0xff_u8; 33]);
    loop {
        let rows = journal.rows(PROOFS, &[&name, &bucket, &key, &PAGE])?;
        for row in &rows {
            bucket = row.try_get(0).map_err(WriteError::from)?;
            let until: Option<i64> = row.try_get(2).map_err(WriteError::from)?;
            let known = bytes(row, 1).zip(bytes(row, 3));
            let Some((fingerprint, payment)) = known else { continue };
            key = <[u8]>::to_vec(&fingerprint);
            let proof = Proof {
                fingerprint: Fingerprint::from_bytes(fingerprint),
                keep_until: until.map(|until| Timestamp::from_micros(until.cast_unsigned())),
            };
            book.remember(proof, PaymentId::from_bytes(payment));
        }
        if is_last(&rows) {
            return Ok(());
        }
    }
}

fn replay(
    journal: &mut PgJournal,
    name: &str,
    book: &mut Book,
    tree: &mut Tree,
) -> Result<(), LoadError> {
    let (sealed, mut leaves) = (sealed_since(journal, name, book.seq())?, Leaves::default());
    loop {
        let rows = journal.rows(TAIL, &[&name, &book.seq().cast_signed(), &PAGE])?;
        for row in &rows {
            let record = record(row)?;
            let body: &str = row.try_get(1).map_err(WriteError::from)?;
            tree.push(leaves.line(record.seq, sealed.at(record.seq), body));
            let damaged = LoadError::Damaged { seq: record.seq };
            let follows = book.seq().checked_add(1) == Some(record.seq);
            if !follows || book.replay(&record).is_err() {
                return Err(damaged);
            }
            leaves.record(&record);
            for (proof, _) in claimed_proofs(&record) {
                book.shelve(&proof);
            }
        }
        if is_last(&rows) {
            let is_whole = leaves.unexplained().is_empty();
            return if is_whole { Ok(()) } else { Err(LoadError::NotSealed) };
        }
    }
}

/// What was sealed of the records behind `from`.
fn sealed_since(journal: &mut PgJournal, name: &str, from: u64) -> Result<Sealed, LoadError> {
    let (mut sealed, mut after) = (Sealed::default(), from.cast_signed());
    loop {
        let rows = journal.rows(SEALED, &[&name, &after, &PAGE])?;
        for row in &rows {
            after = row.try_get(0).map_err(WriteError::from)?;
            let leaves: &[u8] = row.try_get(1).map_err(WriteError::from)?;
            // What is no hash seals nothing.
            sealed.add(after.cast_unsigned(), Hash::read_all(leaves).unwrap_or_default());
        }
        if is_last(&rows) {
            return Ok(sealed);
        }
    }
}

/// A record, from its place on.
fn record(row: &Row) -> Result<Record, LoadError> {
    let seq = row.try_get::<_, i64>(0).map_err(WriteError::from)?.cast_unsigned();
    let body: &str = row.try_get(1).map_err(WriteError::from)?;
    let record = Record::from_json(body.as_bytes()).ok().filter(|record| record.seq == seq);
    record.ok_or(LoadError::Damaged { seq })
}

fn recall(
    journal: &mut PgJournal,
    name: &str,
    book: &mut Book,
    now: Timestamp,
) -> Result<(), LoadError> {
    let (mut after, over) = (Vec::<u8>::new(), now.as_micros().cast_signed());
    loop {
        let rows = journal.rows(ANSWERED, &[&name, &after, &over, &PAGE])?;
        for row in &rows {
            after = row.try_get(0).map_err(WriteError::from)?;
            let body: &str = row.try_get(1).map_err(WriteError::from)?;
            // One that cannot be read is refused as used when its credential comes again.
            if let Ok(answered) = serde_json::from_str(body) {
                book.recall(answered);
            }
        }
        if is_last(&rows) {
            return Ok(());
        }
    }
}

fn is_last(rows: &[Row]) -> bool {
    i64::try_from(rows.len()).is_ok_and(|rows| rows < PAGE)
}

/// Why a book cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A record cannot be read, or does not follow the one before.
    #[error("the journal is damaged at record {seq}; `farthing ledger verify` says more")]
    Damaged {
        /// Its place; 0 is the snapshot.
        seq: u64,
    },
    /// The journal is not what was sealed.
    #[error(
        "the journal does not end where its last seal says: it was altered; `farthing ledger verify` \
         says more"
    )]
    NotSealed,
    /// The database says no.
    #[error(transparent)]
    Write(#[from] WriteError),
}
