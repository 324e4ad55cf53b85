//! Copying a book into the database, without loss.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use farthing_ledger::merkle::Hash;
use farthing_ledger::{Leaves, PaymentId, Seal};
use farthing_store_writer::{Batch, Journal as _, Source};

use crate::address::Address;
use crate::connection::{ConnectError, connect_to_write, told};
use crate::journal::{PgJournal, Setting, WriteError};
use crate::lease::{self, Candidate, Found, TOKEN_BYTES};
use crate::reader::{ReadError, Reader};
use crate::schema::{SCHEMA_VERSION, SchemaError, version};
use crate::wait::{Waiter, apart};

/// How many records, or answers, are copied at once.
const PAGE: u32 = 1_000;

/// How many seals, with their records, are copied at once.
const SEALS: u32 = 100;

/// How long the lease lasts that keeps gateways out meanwhile.
const TTL: Duration = Duration::from_secs(30);

/// What was copied, and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Records of the journal, with every proof they claim.
    pub records: u64,
    /// Answers that are kept.
    pub answers: u64,
    /// Notes of those who follow the book, such as how far each webhook has come.
    pub notes: u64,
}

/// Copies a book from `source` into the database, as the book called `name`, which must not be there yet;
/// then reads it all again and compares. Nobody may write to the source meanwhile.
///
/// # Errors
///
/// A [`CopyError`]. Where it began to write, what is there is not to be used: try again under another
/// name.
pub fn copy<S: Source + Send>(
    source: &mut S,
    address: &Address,
    name: &str,
) -> Result<Copied, CopyError<S::Error>> {
    // Whoever writes waits on its own thread.
    apart(move || copy_here(source, address, name))
}

fn copy_here<S: Source>(
    source: &S,
    address: &Address,
    name: &str,
) -> Result<Copied, CopyError<S::Error>> {
    let mut journal = begin(address, name)?;
    let mut copied = Copied::default();
    records(source, &mut journal, &mut copied)?;
    answers(source, &mut journal, &mut copied)?;
    let notes = source.notes().map_err(CopyError::Source)?;
    copied.notes = u64::try_from(notes.len()).unwrap_or(u64::MAX);
    journal.commit(&Batch { notes, ..Batch::default() })?;
    compare(source, &Reader::open(address, name)?)?;
    journal.hand_over()?;
    Ok(copied)
}

/// Takes the lease of a book that is not there.
fn begin<E: Send>(address: &Address, name: &str) -> Result<PgJournal, CopyError<E>> {
    let waiter = Waiter::new()?;
    let mut token = [0; TOKEN_BYTES];
    getrandom::fill(&mut token).map_err(io::Error::other)?;
    let asked_at = Instant::now();
    let found = waiter.wait(async {
        let client = connect_to_write(address, TTL).await?;
        let found = version(&client).await?;
        if found != SCHEMA_VERSION {
            return Err(CopyError::Schema(SchemaError::Version { found }));
        }
        let candidate =
            Candidate { book: name, holder: "a copy", address: "", token: &token, ttl: TTL };
        Ok(lease::take(&client, &candidate).await?)
    })?;
    let Found::Ours(epoch) = found else { return Err(CopyError::InUse) };
    let setting = Setting {
        address: Arc::new(address.clone()),
        book: name.into(),
        ttl: TTL,
        give_up: TTL,
        crashed: Arc::new(AtomicBool::new(false)),
    };
    let journal = PgJournal::open(setting, epoch, asked_at)?;
    if journal.written() == 0 {
        return Ok(journal);
    }
    let mut journal = journal;
    journal.hand_over()?;
    Err(CopyError::NotEmpty)
}

/// Copies the journal with its seals as they are, so that what was published of one holds for the other.
fn records<S: Source>(
    source: &S,
    journal: &mut PgJournal,
    copied: &mut Copied,
) -> Result<(), CopyError<S::Error>> {
    let mut standing = Leaves::default();
    loop {
        let seals = source.seals(copied.records, SEALS).map_err(CopyError::Source)?;
        let Some(last) = seals.last() else { break };
        let mut batch = Batch::default();
        while copied.records < last.size {
            let next = copied.records.saturating_add(1);
            let left = last.size.saturating_sub(copied.records);
            let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
            let page = source.records(next, limit).map_err(CopyError::Source)?;
            if page.is_empty() {
                return Err(CopyError::Gap { seq: next });
            }
            for (record, seq) in page.into_iter().zip(next..) {
                if record.seq != seq {
                    return Err(CopyError::Gap { seq });
                }
                copied.records = seq;
                batch.write(record);
            }
        }
        if batch.lines.len() != leaves(&seals).count() {
            return Err(CopyError::NotSealed);
        }
        for (line, sealed) in batch.lines.iter().zip(leaves(&seals)) {
            standing.line(line.record.seq, Some(sealed), &line.json);
            standing.record(&line.record);
        }
        batch.seals = seals;
        journal.commit(&batch)?;
    }
    let next = copied.records.saturating_add(1);
    let beyond = source.records(next, 1).map_err(CopyError::Source)?;
    let is_sealed = beyond.is_empty() && standing.unexplained().is_empty();
    if is_sealed { Ok(()) } else { Err(CopyError::NotSealed) }
}

fn leaves(seals: &[Seal]) -> impl Iterator<Item = Hash> {
    seals.iter().flat_map(|seal| seal.leaves.iter().copied())
}

fn answers<S: Source>(
    source: &S,
    journal: &mut PgJournal,
    copied: &mut Copied,
) -> Result<(), CopyError<S::Error>> {
    let mut after = None;
    loop {
        let kept = source.kept(after, PAGE).map_err(CopyError::Source)?;
        let Some(last) = kept.last() else { return Ok(()) };
        after = Some(last.answered.payment);
        let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
        copied.answers = copied.answers.saturating_add(count);
        journal.commit(&Batch { kept, ..Batch::default() })?;
    }
}

/// Reads both to their ends.
fn compare<S: Source>(source: &S, there: &Reader) -> Result<(), CopyError<S::Error>> {
    let mut next = 1;
    loop {
        let here = source.records(next, PAGE).map_err(CopyError::Source)?;
        if here != there.records(next, PAGE)? {
            return Err(CopyError::Differs { seq: next });
        }
        let Some(last) = here.last() else { break };
        next = last.seq.saturating_add(1);
    }
    if source.notes().map_err(CopyError::Source)? != there.notes()? {
        return Err(CopyError::NotesDiffer);
    }
    let mut after: Option<PaymentId> = None;
    loop {
        let here = source.kept(after, PAGE).map_err(CopyError::Source)?;
        if here != there.kept(after, PAGE)? {
            return Err(CopyError::AnswersDiffer);
        }
        let Some(last) = here.last() else { return Ok(()) };
        after = Some(last.answered.payment);
    }
}

/// Why a book was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError<E> {
    /// There is a book of that name.
    #[error("there is a book of that name already; copy to another name")]
    NotEmpty,
    /// Somebody has a book of that name.
    #[error("a gateway has the book of that name; stop it, or copy to another name")]
    InUse,
    /// A record is missing from the source.
    #[error("record {seq} is missing from the source; `farthing ledger verify` says more")]
    Gap {
        /// Its place.
        seq: u64,
    },
    /// The source is not what was sealed.
    #[error("the source was altered since it was sealed; `farthing ledger verify` says more")]
    NotSealed,
    /// What was written is not what was read.
    #[error("the copy differs from record {seq} on; somebody has written to the source meanwhile")]
    Differs {
        /// Its place.
        seq: u64,
    },
    /// What was written is not what was read.
    #[error("the answers that are kept differ; somebody has written to the source meanwhile")]
    AnswersDiffer,
    /// What was written is not what was read.
    #[error("the notes differ; somebody has written to the source meanwhile")]
    NotesDiffer,
    /// The source cannot be read.
    #[error("the source cannot be read: {0}")]
    Source(#[source] E),
    /// The schema cannot be used.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The copy cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The copy cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The operating system says no.
    #[error("the database cannot be spoken to: {0}")]
    Io(#[from] io::Error),
    /// The database says no.
    #[error("the book cannot be copied: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
}
