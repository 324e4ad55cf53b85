//! A disk that keeps what was synced, and of the rest whatever it likes.
//!
//! The file is lines, each with its checksum: `SUM KIND JSON`. A commit is the lines up to and with a
//! line of kind `C`; a commit whose line is missing or damaged never was. That is how the write-ahead
//! log of a database behaves, which is what stands here in production.

use std::collections::BTreeMap;
use std::time::Duration;

use farthing_core::Answer;
use farthing_ledger::{
    Answered, Book, ClaimError, Cold, Fingerprint, PaymentId, Proof, Record, Snapshot,
    claimed_proofs,
};
use farthing_money::Timestamp;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::random::Random;

/// How long a proof may outlive its use in memory, as in the SQLite store.
const MARGIN: Duration = Duration::from_mins(1);

/// How long outdated proofs stay on disk, as in the SQLite store.
const PROOFS_KEPT: Duration = Duration::from_hours(24 * 7);

/// The disk.
#[derive(Default)]
pub(crate) struct Disk {
    synced: Vec<u8>,
    unsynced: Vec<u8>,
    staged: Vec<Line>,
    /// What is on it, as far as it was synced.
    pub(crate) image: Image,
    /// Until when it is full.
    pub(crate) full_until: Timestamp,
}

/// What is on a disk.
#[derive(Clone, Default)]
pub(crate) struct Image {
    pub(crate) records: Vec<Record>,
    proofs: BTreeMap<(u64, Fingerprint), (Option<Timestamp>, PaymentId)>,
    answers: BTreeMap<PaymentId, (Answered, Option<Answer>)>,
    notes: BTreeMap<String, String>,
    snapshot: Option<Snapshot>,
}

/// One line of the file.
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "nearly every line is the large one")]
pub(crate) enum Line {
    Record(Record),
    Answer(Box<Answered>, Option<Box<Answer>>),
    Note(String, String),
    /// The book whole, and everything swept away that is outdated at the moment.
    Snapshot(Box<Snapshot>, Timestamp),
}

impl Line {
    fn write(&self) -> String {
        match self {
            Self::Record(record) => format!("R {}", record.to_json()),
            Self::Answer(answered, answer) => {
                let answer = answer.as_ref().map(|it| json!([it.status, it.body]));
                format!("A {}", json!([answered, answer]))
            }
            Self::Note(name, text) => format!("N {}", json!([name, text])),
            Self::Snapshot(snapshot, now) => format!("S {}", json!([snapshot, now])),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (kind, json) = text.split_once(' ')?;
        if kind == "R" {
            return Record::from_json(json.as_bytes()).ok().map(Self::Record);
        }
        let [first, second]: [Value; 2] = serde_json::from_str(json).ok()?;
        match kind {
            "A" => {
                let answer: Option<(u16, Vec<u8>)> = serde_json::from_value(second).ok()?;
                let answer = answer.map(|(status, body)| {
                    Box::new(Answer { status, fields: HeaderMap::new(), body })
                });
                Some(Self::Answer(serde_json::from_value(first).ok()?, answer))
            }
            "N" => Some(Self::Note(
                serde_json::from_value(first).ok()?,
                serde_json::from_value(second).ok()?,
            )),
            "S" => Some(Self::Snapshot(
                serde_json::from_value(first).ok()?,
                serde_json::from_value(second).ok()?,
            )),
            _ => None,
        }
    }
}

fn with_sum(text: &str) -> String {
    let sum = Fingerprint::of("line", &[text.as_bytes()]).to_string();
    format!("{} {text}\n", sum.get(..16).unwrap_or_default())
}

impl Disk {
    /// Writes a commit, and syncs nothing.
    pub(crate) fn write(&mut self, lines: &[Line]) {
        for line in lines {
            self.unsynced.extend_from_slice(with_sum(&line.write()).as_bytes());
        }
        self.unsynced.extend_from_slice(with_sum("C").as_bytes());
        self.staged.extend_from_slice(lines);
    }

    /// Makes everything durable that was written.
    pub(crate) fn sync(&mut self) {
        self.synced.append(&mut self.unsynced);
        for line in std::mem::take(&mut self.staged) {
            self.image.apply(line);
        }
    }

    /// Loses power: of what was not synced a part may stay, and its end may be torn or garbage.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let mut tail = std::mem::take(&mut self.unsynced);
        self.staged.clear();
        match random.below(4) {
            0 => tail.clear(),
            1 => {}
            how => {
                tail.truncate(random.place(tail.len().saturating_add(1)));
                if how == 3 && !tail.is_empty() {
                    let place = random.place(tail.len());
                    tail.get_mut(place).into_iter().for_each(|byte| *byte ^= 0x15);
                }
            }
        }
        self.synced.append(&mut tail);
    }

    /// Reads the file from its first line, and cuts it after the last commit that is whole.
    pub(crate) fn open(&mut self) {
        let text = String::from_utf8_lossy(&self.synced).into_owned();
        let mut image = Image::default();
        let (mut at, mut good) = (0_usize, 0);
        let mut commit = Vec::new();
        for line in text.split_inclusive('\n') {
            at = at.saturating_add(line.len());
            let body = line.strip_suffix('\n').and_then(|it| it.get(17..)).unwrap_or_default();
            if with_sum(body) != line {
                break;
            }
            if body == "C" {
                commit.drain(..).for_each(|line| image.apply(line));
                good = at;
            } else if let Some(line) = Line::read(body) {
                commit.push(line);
            } else {
                break;
            }
        }
        // What is not text is damaged, and lies behind the last good commit.
        self.synced.truncate(good);
        self.image = image;
    }

    /// What the bytes of the file are, in short.
    pub(crate) fn digest(&self) -> Fingerprint {
        Fingerprint::of("disk", &[&self.synced])
    }

    /// Takes one record out of what was written and not synced.
    pub(crate) fn skip(lines: &mut Vec<Line>) {
        if let Some(at) = lines.iter().position(|line| matches!(line, Line::Record(_))) {
            lines.remove(at);
        }
    }
}

/// Buckets as in the SQLite store: what is kept for ever lies in the first.
const fn bucket(keep_until: Option<Timestamp>) -> u64 {
    match keep_until {
        None => 0,
        Some(until) => (until.as_micros() >> 16).saturating_add(1),
    }
}

impl Image {
    pub(crate) fn apply(&mut self, line: Line) {
        match line {
            Line::Record(record) => {
                for (proof, payment) in claimed_proofs(&record) {
                    let key = (bucket(proof.keep_until), proof.fingerprint);
                    self.proofs.insert(key, (proof.keep_until, payment));
                }
                self.records.push(record);
            }
            Line::Answer(answered, answer) => {
                self.answers.insert(answered.payment, (*answered, answer.map(|it| *it)));
            }
            Line::Note(name, text) => {
                self.notes.insert(name, text);
            }
            Line::Snapshot(snapshot, now) => {
                self.snapshot = Some(*snapshot);
                let outdated = bucket(Some(now.before(PROOFS_KEPT)));
                self.proofs.retain(|(bucket, _), _| *bucket == 0 || *bucket >= outdated);
                self.answers.retain(|_, (answered, _)| answered.kept_until >= now);
            }
        }
    }

    /// Rebuilds the book, as the SQLite store does: the last snapshot, the proofs that still matter, the
    /// journal since, and the answers that can be given again.
    pub(crate) fn book(&self, now: Timestamp) -> Result<Book, u64> {
        let mut book = self.snapshot.clone().map(Book::restore).unwrap_or_default();
        let memory_from = now.before(MARGIN);
        for ((_, fingerprint), (keep_until, payment)) in
            self.proofs.range((bucket(Some(memory_from)), Fingerprint::from_bytes([0; 32]))..)
        {
            let proof = Proof { fingerprint: *fingerprint, keep_until: *keep_until };
            book.remember(proof, *payment);
        }
        self.tail(&mut book)?;
        for (answered, _) in self.answers.values().filter(|(it, _)| it.kept_until >= now) {
            book.recall(answered.clone());
        }
        book.forgot_until(memory_from);
        Ok(book)
    }

    /// Follows the records that `book` does not contain yet.
    fn tail(&self, book: &mut Book) -> Result<(), u64> {
        let from = book.seq();
        for record in self.records.iter().filter(|record| record.seq > from) {
            let follows = book.seq().checked_add(1) == Some(record.seq);
            if !follows || book.replay(record).is_err() {
                return Err(record.seq);
            }
            for (proof, _) in claimed_proofs(record) {
                book.shelve(&proof);
            }
        }
        Ok(())
    }

    /// The book that the journal alone makes.
    pub(crate) fn whole(&self) -> Result<Book, u64> {
        let mut book = Book::default();
        self.tail(&mut book)?;
        Ok(book)
    }

    /// Forgets which proofs were claimed, on disk and in the snapshot.
    pub(crate) fn forget_proofs(&mut self) {
        self.proofs.clear();
    }

    pub(crate) fn answer(&self, payment: PaymentId) -> Option<Answer> {
        self.answers.get(&payment).and_then(|(_, answer)| answer.clone())
    }

    pub(crate) fn noted(&self, name: &str) -> Option<String> {
        self.notes.get(name).cloned()
    }
}

impl Cold for Image {
    fn is_claimed(&self, proof: &Proof) -> Result<bool, ClaimError> {
        Ok(self.proofs.contains_key(&(bucket(proof.keep_until), proof.fingerprint)))
    }
}
