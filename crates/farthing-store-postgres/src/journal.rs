//! Writing a book: batches, each behind the fence of its lease.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use farthing_core::Answer;
use farthing_ledger::merkle::{Hash, Tree};
use farthing_ledger::{Book, PaymentId, Proof, Seal, TraceId};
use farthing_money::Timestamp;
use farthing_store_writer::{
    Batch, Journal, Kept, Line, PROOFS_KEPT, bucket, read_fields, write_fields,
};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::{Client, Row, Statement};

use crate::address::Address;
use crate::connection::{ConnectError, connect_to_write, is_passing, told};
use crate::lease::{FENCE, millis, release};

const RECORDS: &str = "
INSERT INTO farthing.journal (book, seq, at, trace, body)
SELECT $1::text, line.* FROM unnest($2::bigint[], $3::bigint[], $4::bytea[], $5::text[]) AS line";

const SEALS: &str = "
INSERT INTO farthing.seal (book, size, root, chain, leaves)
SELECT $1::text, seal.* FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[]) AS seal";

const PROOFS: &str = "
INSERT INTO farthing.proof (book, bucket, key, until, payment, trace)
SELECT $1::text, proof.*
FROM unnest($2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bytea[]) AS proof";

const ANSWERS: &str = "
INSERT INTO farthing.answer (book, payment, kept_until, answered, status, fields, body)
SELECT $1::text, answer.*
FROM unnest($2::bytea[], $3::bigint[], $4::text[], $5::integer[], $6::bytea[], $7::bytea[]) AS answer
ON CONFLICT (book, payment) DO UPDATE SET kept_until = excluded.kept_until,
    answered = excluded.answered, status = excluded.status, fields = excluded.fields,
    body = excluded.body";

const NOTE: &str = "
INSERT INTO farthing.note (book, name, body) VALUES ($1, $2, $3)
ON CONFLICT (book, name) DO UPDATE SET body = excluded.body";

const CLAIMED: &str = "
SELECT proof.key FROM farthing.proof AS proof
JOIN unnest($2::bigint[], $3::bytea[]) AS asked(bucket, key)
ON proof.bucket = asked.bucket AND proof.key = asked.key WHERE proof.book = $1";

const ANSWER: &str = "
SELECT status, fields, body FROM farthing.answer
WHERE book = $1 AND payment = $2 AND body IS NOT NULL";

const LINES: &str = "
SELECT seq, body FROM farthing.journal WHERE book = $1 AND seq > $2 ORDER BY seq LIMIT $3";

const LINES_AT: &str = "
SELECT seq, body FROM farthing.journal WHERE book = $1 AND seq = ANY($2::bigint[]) ORDER BY seq";

/// How many lines are read at once, between two looks at the lease.
const LINES_PAGE: i64 = 5_000;

/// The last record's place; 0 where there is none.
pub(crate) const LAST: &str =
    "SELECT coalesce(max(seq), 0)::bigint FROM farthing.journal WHERE book = $1";

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// How long the book may take to be written down whole.
const SAVE_WAIT: Duration = Duration::from_mins(2);

/// How a book is written.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) address: Arc<Address>,
    pub(crate) book: Arc<str>,
    /// How long the lease lasts without being renewed.
    pub(crate) ttl: Duration,
    /// How long the database may be out of reach before the writer stops.
    pub(crate) give_up: Duration,
    /// Set to end as a crash would.
    pub(crate) crashed: Arc<AtomicBool>,
}

/// A book in the database, for as long as its lease is ours.
pub(crate) struct PgJournal {
    /// Its own, on its own thread: whoever writes waits for the database and for nobody else.
    runtime: Runtime,
    setting: Setting,
    epoch: i64,
    session: Option<Session>,
    /// The last record that is known to be written.
    written: u64,
    /// When the last renewal was sent that succeeded.
    renewed_at: Instant,
    /// The proofs that were looked up ahead, and those of them that are claimed.
    foreseen: BTreeSet<[u8; 32]>,
    claimed: BTreeSet<[u8; 32]>,
}

/// A connection, and what is said over it again and again.
struct Session {
    client: Client,
    fence: Statement,
    records: Statement,
    seals: Statement,
    proofs: Statement,
    answers: Statement,
    note: Statement,
    claimed: Statement,
    answer: Statement,
    last: Statement,
}

impl Session {
    async fn open(setting: &Setting) -> Result<Self, WriteError> {
        let client = connect_to_write(&setting.address, setting.ttl).await?;
        Ok(Self {
            fence: client.prepare(FENCE).await?,
            records: client.prepare(RECORDS).await?,
            seals: client.prepare(SEALS).await?,
            proofs: client.prepare(PROOFS).await?,
            answers: client.prepare(ANSWERS).await?,
            note: client.prepare(NOTE).await?,
            claimed: client.prepare(CLAIMED).await?,
            answer: client.prepare(ANSWER).await?,
            last: client.prepare(LAST).await?,
            client,
        })
    }

    /// Renews the lease. Within a transaction, nobody can acquire it before that is over.
    async fn fence(&self, setting: &Setting, epoch: i64) -> Result<(), WriteError> {
        let ttl_ms = millis(setting.ttl);
        let renewed = self.client.execute(&self.fence, &[&&*setting.book, &epoch, &ttl_ms]).await?;
        if renewed == 1 { Ok(()) } else { Err(WriteError::Fenced) }
    }

    /// Writes a batch. Every statement is on its way before the first is answered; the commit is not
    /// sent before the fence has held.
    async fn write(&self, setting: &Setting, epoch: i64, batch: &Batch) -> Result<(), WriteError> {
        let book = &*setting.book;
        tokio::try_join!(
            biased;
            async { Ok(self.client.batch_execute("BEGIN").await?) },
            self.fence(setting, epoch),
            self.write_records(book, &batch.lines),
            self.write_seals(book, &batch.seals),
            self.write_proofs(book, &batch.lines),
            self.write_answers(book, &batch.kept),
            self.write_notes(book, &batch.notes),
        )?;
        if let Some(erasing) = &batch.erasing {
            crate::erasing::write(&self.client, book, erasing).await?;
        }
        Ok(self.client.batch_execute("COMMIT").await?)
    }

    async fn write_records(&self, book: &str, lines: &[Line]) -> Result<(), WriteError> {
        if lines.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = lines.iter().map(|it| it.record.seq.cast_signed()).collect();
        let ats: Vec<i64> = lines.iter().map(|it| it.record.at.as_micros().cast_signed()).collect();
        let traces: Vec<Option<[u8; 16]>> =
            lines.iter().map(|it| it.record.trace.map(TraceId::to_bytes)).collect();
        let traces: Vec<Option<&[u8]>> =
            traces.iter().map(|it| it.as_ref().map(<[u8; 16]>::as_slice)).collect();
        let bodies: Vec<&str> = lines.iter().map(|it| &*it.json).collect();
        self.client.execute(&self.records, &[&book, &seqs, &ats, &traces, &bodies]).await?;
        Ok(())
    }

    async fn write_seals(&self, book: &str, seals: &[Seal]) -> Result<(), WriteError> {
        if seals.is_empty() {
            return Ok(());
        }
        let sizes: Vec<i64> = seals.iter().map(|seal| seal.size.cast_signed()).collect();
        let roots: Vec<&[u8]> = seals.iter().map(|seal| seal.root.as_bytes().as_slice()).collect();
        let chains: Vec<&[u8]> =
            seals.iter().map(|seal| seal.chain.as_bytes().as_slice()).collect();
        let leaves: Vec<Vec<u8>> = seals.iter().map(|seal| Hash::write_all(&seal.leaves)).collect();
        self.client.execute(&self.seals, &[&book, &sizes, &roots, &chains, &leaves]).await?;
        Ok(())
    }

    async fn write_proofs(&self, book: &str, lines: &[Line]) -> Result<(), WriteError> {
        let all = || {
            lines.iter().flat_map(|line| {
                let trace = line.record.trace.map(TraceId::to_bytes);
                line.proofs.iter().map(move |(proof, payment)| (proof, payment.to_bytes(), trace))
            })
        };
        let buckets: Vec<i64> = all().map(|(proof, ..)| bucket(proof.keep_until)).collect();
        if buckets.is_empty() {
            return Ok(());
        }
        let keys: Vec<&[u8]> =
            all().map(|(proof, ..)| proof.fingerprint.as_bytes().as_slice()).collect();
        let untils: Vec<Option<i64>> = all()
            .map(|(proof, ..)| proof.keep_until.map(|until| until.as_micros().cast_signed()))
            .collect();
        let payments: Vec<[u8; 16]> = all().map(|(_, payment, _)| payment).collect();
        let payments: Vec<&[u8]> = payments.iter().map(<[u8; 16]>::as_slice).collect();
        let traces: Vec<Option<[u8; 16]>> = all().map(|(.., trace)| trace).collect();
        let traces: Vec<Option<&[u8]>> =
            traces.iter().map(|it| it.as_ref().map(<[u8; 16]>::as_slice)).collect();
        let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&book, &buckets, &keys, &untils, &payments, &traces];
        self.client.execute(&self.proofs, row).await?;
        Ok(())
    }

    async fn write_answers(&self, book: &str, kept: &[Kept]) -> Result<(), WriteError> {
        if kept.is_empty() {
            return Ok(());
        }
        let payments: Vec<[u8; 16]> =
            kept.iter().map(|it| it.answered.payment.to_bytes()).collect();
        let payments: Vec<&[u8]> = payments.iter().map(<[u8; 16]>::as_slice).collect();
        let untils: Vec<i64> =
            kept.iter().map(|it| it.answered.kept_until.as_micros().cast_signed()).collect();
        // In-memory data with string keys always serialises.
        let answered: Vec<String> =
            kept.iter().map(|it| serde_json::to_string(&it.answered).unwrap_or_default()).collect();
        let statuses: Vec<Option<i32>> =
            kept.iter().map(|it| it.answer.as_ref().map(|it| i32::from(it.status))).collect();
        let fields: Vec<Option<Vec<u8>>> =
            kept.iter().map(|it| it.answer.as_ref().map(|it| write_fields(&it.fields))).collect();
        let bodies: Vec<Option<&[u8]>> =
            kept.iter().map(|it| it.answer.as_ref().map(|it| &*it.body)).collect();
        let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&book, &payments, &untils, &answered, &statuses, &fields, &bodies];
        self.client.execute(&self.answers, row).await?;
        Ok(())
    }

    async fn write_notes(&self, book: &str, notes: &[(String, String)]) -> Result<(), WriteError> {
        for (name, text) in notes {
            self.client.execute(&self.note, &[&book, name, text]).await?;
        }
        Ok(())
    }

    /// Makes sure of what is written: waits for whatever an earlier connection of ours has not finished,
    /// and for everything before to be as durable as a commit is. Says the last record's place.
    async fn last(&self, setting: &Setting, epoch: i64) -> Result<u64, WriteError> {
        self.client.batch_execute("BEGIN").await?;
        self.fence(setting, epoch).await?;
        let row = self.client.query_one(&self.last, &[&&*setting.book]).await?;
        let last: i64 = row.try_get(0)?;
        self.client.batch_execute("COMMIT").await?;
        Ok(last.cast_unsigned())
    }
}

impl PgJournal {
    /// Connects, under a lease that was acquired in `epoch`, sent for at `asked_at`.
    pub(crate) fn open(
        setting: Setting,
        epoch: i64,
        asked_at: Instant,
    ) -> Result<Self, WriteError> {
        let runtime = crate::wait::runtime()?;
        let session = runtime.block_on(Session::open(&setting))?;
        let mut own = Self {
            runtime,
            setting,
            epoch,
            session: Some(session),
            written: 0,
            renewed_at: asked_at,
            foreseen: BTreeSet::new(),
            claimed: BTreeSet::new(),
        };
        own.written = own.last()?;
        Ok(own)
    }

    /// The last record that is written.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Asks something on the connection, within bounds of time. Whatever goes wrong ends the connection.
    fn try_on<T>(
        &mut self,
        bound: Duration,
        ask: impl AsyncFnOnce(&Session, &Setting, i64) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let (setting, epoch) = (&self.setting, self.epoch);
        let open = self.session.take();
        let (session, result) = self.runtime.block_on(async {
            let session = match open {
                Some(session) if !session.client.is_closed() => session,
                Some(_) | None => match Session::open(setting).await {
                    Ok(session) => session,
                    Err(error) => return (None, Err(error)),
                },
            };
            match timeout(bound, ask(&session, setting, epoch)).await {
                Ok(Ok(said)) => (Some(session), Ok(said)),
                Ok(Err(error)) => (None, Err(error)),
                Err(_) => (None, Err(WriteError::Silent)),
            }
        });
        self.session = session;
        result
    }

    /// How long one exchange with the database may take.
    fn bound(&self) -> Duration {
        self.setting.ttl.max(Duration::from_secs(2))
    }

    /// Asks until there is an answer, or until the database has been out of reach for too long.
    fn insist<T>(
        &mut self,
        ask: &impl AsyncFn(&Session, &Setting, i64) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let until = Instant::now().checked_add(self.setting.give_up);
        loop {
            match self.try_on(self.bound(), ask) {
                Err(error) if error.is_passing() && !self.is_over(until) => {
                    tracing::warn!(book = &*self.setting.book, %error, "the database does not answer");
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    fn is_over(&self, until: Option<Instant>) -> bool {
        let crashed = self.setting.crashed.load(Ordering::Relaxed);
        crashed || until.is_none_or(|until| Instant::now() >= until)
    }

    /// Notes that the lease was renewed by something that was sent at `sent_at`.
    fn renewed(&mut self, sent_at: Instant) {
        self.renewed_at = sent_at;
    }

    /// Makes sure of what is written; see [`Session::last`].
    fn last(&mut self) -> Result<u64, WriteError> {
        let sent_at = Instant::now();
        let last =
            self.insist(&async |session, setting, epoch| session.last(setting, epoch).await)?;
        self.renewed(sent_at);
        Ok(last)
    }

    /// Renews the lease if it was not renewed within `age`.
    pub(crate) fn renew(&mut self, age: Duration) -> Result<(), WriteError> {
        if self.renewed_at.elapsed() < age {
            return Ok(());
        }
        let sent_at = Instant::now();
        self.insist(&async |session, setting, epoch| session.fence(setting, epoch).await)?;
        self.renewed(sent_at);
        Ok(())
    }

    /// Gives the lease up, so that the next one need not wait.
    pub(crate) fn hand_over(&mut self) -> Result<(), WriteError> {
        self.try_on(self.bound(), async |session, setting, epoch| {
            Ok(release(&session.client, &setting.book, epoch).await?)
        })
    }

    /// How old a renewal may get when nothing else happens.
    pub(crate) fn third(&self) -> Duration {
        self.setting.ttl.checked_div(3).unwrap_or(self.setting.ttl)
    }

    /// Reads rows, and keeps the lease meanwhile.
    pub(crate) fn rows(
        &mut self,
        select: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, WriteError> {
        self.renew(self.third())?;
        let select = async |session: &Session, _: &Setting, _| {
            Ok(session.client.query(select, parameters).await?)
        };
        self.insist(&select)
    }
}

impl Journal for PgJournal {
    type Error = WriteError;

    fn commit(&mut self, batch: &Batch) -> Result<(), WriteError> {
        self.foreseen.clear();
        self.claimed.clear();
        let until = Instant::now().checked_add(self.setting.give_up);
        let last = batch.last_seq().unwrap_or(self.written);
        loop {
            let sent_at = Instant::now();
            // Nobody can acquire the lease before the transaction is over.
            let bound = if batch.erasing.is_some() { SAVE_WAIT } else { self.bound() };
            let written = self.try_on(bound, async |session, setting, epoch| {
                session.write(setting, epoch, batch).await
            });
            match written {
                Ok(()) => {
                    self.renewed(sent_at);
                    self.written = last;
                    return Ok(());
                }
                Err(error) if error.is_passing() && !self.is_over(until) => {
                    tracing::warn!(book = &*self.setting.book, %error, "a commit was not confirmed");
                }
                Err(error) => return Err(error),
            }
            // The outcome is open until the database has said what is there.
            match self.last()? {
                there if there == last && last > self.written => {
                    self.written = last;
                    return Ok(());
                }
                there if there == self.written => {}
                there => return Err(WriteError::Lost { written: self.written, there }),
            }
        }
    }

    fn foresee(&mut self, proofs: &[Proof]) -> Result<(), WriteError> {
        let buckets: Vec<i64> = proofs.iter().map(|proof| bucket(proof.keep_until)).collect();
        let keys: Vec<&[u8]> =
            proofs.iter().map(|proof| proof.fingerprint.as_bytes().as_slice()).collect();
        let rows = self.insist(&async |session, setting, _| {
            let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                &[&&*setting.book, &buckets, &keys];
            Ok(session.client.query(&session.claimed, row).await?)
        })?;
        self.foreseen = proofs.iter().map(|proof| *proof.fingerprint.as_bytes()).collect();
        self.claimed = rows.iter().filter_map(|row| bytes(row, 0)).collect();
        Ok(())
    }

    fn is_claimed(&self, proof: &Proof) -> Result<bool, WriteError> {
        let key = proof.fingerprint.as_bytes();
        if self.foreseen.contains(key) {
            return Ok(self.claimed.contains(key));
        }
        let session = self.session.as_ref().ok_or(WriteError::Silent)?;
        let (buckets, keys) = ([bucket(proof.keep_until)].to_vec(), [key.as_slice()].to_vec());
        let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&&*self.setting.book, &buckets, &keys];
        let asked =
            async { timeout(self.bound(), session.client.query(&session.claimed, row)).await };
        let rows = self.runtime.block_on(asked).map_err(|_| WriteError::Silent)??;
        Ok(!rows.is_empty())
    }

    fn answer(&self, payment: PaymentId) -> Result<Option<Answer>, WriteError> {
        let session = self.session.as_ref().ok_or(WriteError::Silent)?;
        let key = payment.to_bytes();
        let row: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&&*self.setting.book, &key.as_slice()];
        let asked =
            async { timeout(self.bound(), session.client.query_opt(&session.answer, row)).await };
        let row = self.runtime.block_on(asked).map_err(|_| WriteError::Silent)??;
        row.map(|row| answer(&row, 0)).transpose()
    }

    fn confirm(&mut self, gives_right: bool) -> Result<(), WriteError> {
        // A right is given by whoever has the book now, and not by whoever had it a moment ago.
        self.renew(if gives_right { Duration::ZERO } else { self.third() })
    }

    fn tend_every(&self) -> Option<Duration> {
        Some(self.third())
    }

    fn tend(&mut self) -> Result<(), WriteError> {
        self.renew(self.third())
    }

    fn save(&mut self, book: &Book, tree: &Tree, now: Timestamp) -> Result<(), WriteError> {
        let snapshot = book.snapshot();
        let outdated = bucket(Some(now.before(PROOFS_KEPT)));
        let over = now.as_micros().cast_signed();
        let saved = self.try_on(SAVE_WAIT, async |session, setting, epoch| {
            let Session { client, .. } = session;
            let book = &*setting.book;
            client.batch_execute("BEGIN").await?;
            session.fence(setting, epoch).await?;
            crate::erasing::keep_snapshot(client, book, &snapshot, tree).await?;
            let proofs =
                "DELETE FROM farthing.proof WHERE book = $1 AND bucket > 0 AND bucket < $2";
            client.execute(proofs, &[&book, &outdated]).await?;
            let answers = "DELETE FROM farthing.answer WHERE book = $1 AND kept_until < $2";
            client.execute(answers, &[&book, &over]).await?;
            Ok(client.batch_execute("COMMIT").await?)
        });
        match saved {
            // The journal has everything; the next one is saved again.
            Err(error) if error.is_passing() => {
                tracing::warn!(book = &*self.setting.book, %error, "no snapshot was written");
                Ok(())
            }
            saved => saved,
        }
    }

    fn each_line(&mut self, each: &mut dyn FnMut(u64, &str)) -> Result<(), WriteError> {
        let (book, mut after) = (Arc::clone(&self.setting.book), 0_i64);
        loop {
            let rows = self.rows(LINES, &[&&*book, &after, &LINES_PAGE])?;
            for row in &rows {
                after = row.try_get(0)?;
                each(after.cast_unsigned(), row.try_get(1)?);
            }
            if i64::try_from(rows.len()).is_ok_and(|rows| rows < LINES_PAGE) {
                return Ok(());
            }
        }
    }

    fn lines_at(&mut self, seqs: &[u64]) -> Result<Vec<(u64, String)>, WriteError> {
        let (book, mut lines) = (Arc::clone(&self.setting.book), Vec::with_capacity(seqs.len()));
        let page = usize::try_from(LINES_PAGE).unwrap_or(usize::MAX);
        for seqs in seqs.chunks(page) {
            let seqs: Vec<i64> = seqs.iter().map(|seq| seq.cast_signed()).collect();
            for row in self.rows(LINES_AT, &[&&*book, &seqs])? {
                lines.push((row.try_get::<_, i64>(0)?.cast_unsigned(), row.try_get(1)?));
            }
        }
        Ok(lines)
    }

    /// Old versions of rows are for the database to clear away, which it does beside the writer: whoever
    /// waited for it could lose the lease.
    fn wipe(&mut self) -> bool {
        crate::erasing::wipe(Arc::clone(&self.setting.address))
    }

    fn close(&mut self, book: &Book, tree: &Tree, now: Timestamp) -> Result<(), WriteError> {
        if self.setting.crashed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.save(book, tree, now)?;
        self.hand_over()
    }
}

/// Bytes of a length that the schema or the code knows.
pub(crate) fn bytes<const N: usize>(row: &Row, at: usize) -> Option<[u8; N]> {
    row.try_get::<_, &[u8]>(at).ok()?.try_into().ok()
}

/// An answer, from its status on.
pub(crate) fn answer(row: &Row, at: usize) -> Result<Answer, WriteError> {
    let status: i32 = row.try_get(at)?;
    let fields: &[u8] = row.try_get(at.saturating_add(1))?;
    Ok(Answer {
        status: u16::try_from(status).unwrap_or_default(),
        fields: read_fields(fields),
        body: row.try_get(at.saturating_add(2))?,
    })
}

/// Why a book can no longer be written by whoever tried.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Another gateway has the book by now.
    #[error("another gateway has taken the book over")]
    Fenced,
    /// The database has lost records that it had confirmed.
    #[error(
        "the database ends at record {there} and had confirmed {written}: a standby that was not \
         synchronous was promoted, or a backup restored. What is missing was acknowledged; restore \
         it, or reconcile with the rails"
    )]
    Lost {
        /// The last record that was confirmed.
        written: u64,
        /// The last record that is there.
        there: u64,
    },
    /// The database does not answer in time.
    #[error("the database does not answer in time")]
    Silent,
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The operating system says no.
    #[error("the database cannot be spoken to: {0}")]
    Io(#[from] io::Error),
    /// The database says no.
    #[error("the book cannot be written: {}", told(.0))]
    Postgres(#[from] tokio_postgres::Error),
}

impl WriteError {
    /// Whether trying again may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Silent => true,
            Self::Connect(ConnectError::Postgres(error)) | Self::Postgres(error) => {
                is_passing(error)
            }
            Self::Fenced
            | Self::Lost { .. }
            | Self::Io(_)
            | Self::Connect(ConnectError::Roots(_)) => false,
        }
    }
}
