//! Where an endpoint stands: how far it has come in the journal, what is open, what was given up.
//!
//! All of it is a function of what happened and when; the worker beside it does the waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use farthing_ledger::{Record, TraceId};
use farthing_money::Timestamp;
use farthing_webhook::Retries;
use serde::{Deserialize, Serialize};

use super::event::EventKind;

#[cfg(test)]
mod tests;

/// How many events of one endpoint are open at most. While so many are, the journal waits.
pub(super) const OPEN_MAX: usize = 100;

/// How many given-up events one endpoint lists at most. While so many are, none is given up.
pub(super) const DEAD_MAX: usize = 500;

/// How long an event waits whose payment the book could not tell, because it did not answer.
const BOOK_AGAIN: Duration = Duration::from_secs(1);

/// How many failures in a row are an outage, so that the next success ends the waiting of all.
const OUTAGE: u32 = 3;

/// Why an event was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The endpoint answered with this status.
    Status(u16),
    /// It did not answer in time.
    Timeout,
    /// It could not be reached, or broke off.
    Unreachable,
    /// The book does not tell the payment's story.
    Untold,
}

/// Why an event was not taken, for people.
impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Timeout => f.write_str("did not answer in time"),
            Self::Unreachable => f.write_str("cannot be reached"),
            Self::Untold => f.write_str("the book does not tell the payment's story"),
        }
    }
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// 2xx.
    Taken,
    /// 410: the endpoint wants nothing any more.
    Gone,
    /// Anything else; perhaps with the shortest wait it asks for.
    Failed(Fault, Option<Duration>),
    /// Nothing was sent: the book did not answer.
    Unsent,
}

/// An event that is not taken yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Letter {
    /// Whose story it belongs to; events of one are told in order.
    trace: Option<TraceId>,
    attempts: u32,
    next_at: Timestamp,
    fault: Option<Fault>,
    is_sent: bool,
    haste: Haste,
}

/// Whether an event's waiting may be cut short when the endpoint is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Haste {
    /// It may.
    Free,
    /// It was.
    Hurried,
    /// It was, in vain: this time it waits in full.
    Spent,
}

/// An event that is tried again, as it is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Open {
    pub(super) seq: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) attempts: u32,
    pub(super) next_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) fault: Option<Fault>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// An event that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dead {
    pub(super) seq: u64,
    pub(super) attempts: u32,
    pub(super) at: Timestamp,
    pub(super) fault: Fault,
}

/// Since when an endpoint wants nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Disabled {
    pub(super) at: Timestamp,
}

/// Where an endpoint stands, as it is noted in the store: one text, replaced whole, so that what it
/// says at any moment was true at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standing {
    /// The last record that was taken up: it was told, need not be, or stands below.
    pub(super) cursor: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) open: Vec<Open>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dead: Vec<Dead>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) disabled: Option<Disabled>,
}

impl Standing {
    /// Writes it as a note.
    pub(super) fn to_note(&self) -> String {
        // In-memory data with string keys always serialises.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// An endpoint's outbox.
pub(super) struct Outbox {
    cursor: u64,
    open: BTreeMap<u64, Letter>,
    dead: BTreeMap<u64, Dead>,
    disabled: Option<Disabled>,
    /// Failures since the last success.
    failures: u32,
    /// Whether it differs from what was noted last.
    is_dirty: bool,
}

impl Outbox {
    /// Takes up where the last worker noted that it stood. `trace` says whose story a record belongs to.
    pub(super) fn resume(standing: &Standing, trace: &impl Fn(u64) -> Option<TraceId>) -> Self {
        let letter = |open: &Open| {
            let letter = Letter {
                trace: trace(open.seq),
                attempts: open.attempts,
                next_at: open.next_at,
                fault: open.fault,
                is_sent: false,
                haste: Haste::Free,
            };
            (open.seq, letter)
        };
        let open: BTreeMap<_, _> = standing.open.iter().map(letter).collect();
        let dead = standing.dead.iter().map(|dead| (dead.seq, *dead)).collect();
        let Standing { cursor, disabled, .. } = *standing;
        Self { cursor, open, dead, disabled, failures: 0, is_dirty: false }
    }

    /// What to note.
    pub(super) fn standing(&self) -> Standing {
        let open = self.open.iter().map(|(&seq, letter)| Open {
            seq,
            attempts: letter.attempts,
            next_at: letter.next_at,
            fault: letter.fault,
        });
        Standing {
            cursor: self.cursor,
            open: open.collect(),
            dead: self.dead.values().copied().collect(),
            disabled: self.disabled,
        }
    }

    /// The last record that was taken up.
    pub(super) const fn cursor(&self) -> u64 {
        self.cursor
    }

    pub(super) const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    pub(super) const fn noted(&mut self) {
        self.is_dirty = false;
    }

    pub(super) const fn is_disabled(&self) -> bool {
        self.disabled.is_some()
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn dead(&self) -> usize {
        self.dead.len()
    }

    /// How many more records may be taken up now.
    pub(super) fn room(&self) -> usize {
        if self.is_disabled() { 0 } else { OPEN_MAX.saturating_sub(self.open.len()) }
    }

    /// Takes the next record up. What was given up and is met again, because the journal is told once
    /// more from an earlier place, begins anew.
    pub(super) fn take_up(
        &mut self,
        record: &Record,
        wanted: &BTreeSet<EventKind>,
        now: Timestamp,
    ) {
        self.cursor = record.seq;
        self.is_dirty = true;
        let is_wanted = EventKind::of(&record.event).is_some_and(|kind| wanted.contains(&kind));
        if is_wanted && !self.open.contains_key(&record.seq) {
            self.dead.remove(&record.seq);
            self.put(record.seq, record.trace, now);
        }
    }

    fn put(&mut self, seq: u64, trace: Option<TraceId>, now: Timestamp) {
        let letter = Letter {
            trace,
            attempts: 0,
            next_at: now,
            fault: None,
            is_sent: false,
            haste: Haste::Free,
        };
        self.open.insert(seq, letter);
        self.is_dirty = true;
    }

    /// The events that may be sent, in order: the first open one of each story, once it is due. An
    /// event that waits holds up its own payment and no other.
    fn heads(&self) -> impl Iterator<Item = (u64, &Letter)> {
        let mut seen = BTreeSet::new();
        let mut is_first =
            move |letter: &Letter| letter.trace.is_none_or(|trace| seen.insert(trace));
        let is_enabled = self.disabled.is_none();
        let open = self.open.iter().filter(move |_| is_enabled);
        open.filter(move |(_, letter)| is_first(letter) && !letter.is_sent)
            .map(|(&seq, letter)| (seq, letter))
    }

    /// Marks at most `max` events as being sent, and says which.
    pub(super) fn send(&mut self, max: usize, now: Timestamp) -> Vec<(u64, Option<TraceId>)> {
        let due = self.heads().filter(|(_, letter)| letter.next_at <= now);
        let due: Vec<_> = due.take(max).map(|(seq, letter)| (seq, letter.trace)).collect();
        for (seq, _) in &due {
            if let Some(letter) = self.open.get_mut(seq) {
                letter.is_sent = true;
            }
        }
        due
    }

    /// When the next event is due that is not being sent.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.heads().map(|(_, letter)| letter.next_at).min()
    }

    /// Notes what became of an attempt. `jitter` is what is added to a wait, in thousandths of it.
    /// `true` if the event was given up.
    pub(super) fn ended(
        &mut self,
        seq: u64,
        attempt: Attempt,
        retries: &Retries,
        jitter: u32,
        now: Timestamp,
    ) -> bool {
        let Some(letter) = self.open.get_mut(&seq) else { return false };
        letter.is_sent = false;
        match attempt {
            Attempt::Taken => {
                self.open.remove(&seq);
                self.is_dirty = true;
                self.is_back(now);
                false
            }
            Attempt::Gone => {
                self.disabled = Some(Disabled { at: now });
                self.is_dirty = true;
                false
            }
            Attempt::Unsent => {
                letter.next_at = now.after(BOOK_AGAIN);
                false
            }
            Attempt::Failed(fault, asked) => {
                self.failures = self.failures.saturating_add(1);
                self.is_dirty = true;
                letter.attempts = letter.attempts.saturating_add(1);
                letter.fault = Some(fault);
                letter.haste = match letter.haste {
                    Haste::Hurried => Haste::Spent,
                    Haste::Free | Haste::Spent => Haste::Free,
                };
                let wait = retries.wait(letter.attempts);
                let more = wait.saturating_mul(jitter).checked_div(1_000).unwrap_or_default();
                let wait = wait.saturating_add(more);
                letter.next_at = now.after(wait.max(asked.unwrap_or_default()));
                let attempts = letter.attempts;
                let is_over = attempts >= retries.attempts_max && self.dead.len() < DEAD_MAX;
                if is_over {
                    self.open.remove(&seq);
                    self.dead.insert(seq, Dead { seq, attempts, at: now, fault });
                }
                is_over
            }
        }
    }

    /// After an outage, what waited for its end need not wait longer; once, so that an event that is
    /// refused for its own sake is not tried again with every success.
    fn is_back(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.failures) < OUTAGE {
            return;
        }
        for letter in self.open.values_mut() {
            if letter.next_at > now && letter.haste == Haste::Free {
                letter.next_at = now;
                letter.haste = Haste::Hurried;
            }
        }
    }

    /// Puts one event into the outbox once more.
    pub(super) fn again(&mut self, seq: u64, trace: Option<TraceId>, now: Timestamp) {
        self.dead.remove(&seq);
        match self.open.get_mut(&seq) {
            Some(letter) => {
                (letter.next_at, letter.attempts) = (now, 0);
                self.is_dirty = true;
            }
            None => self.put(seq, trace, now),
        }
    }

    /// What was given up, in order.
    pub(super) fn dead_seqs(&self) -> Vec<u64> {
        self.dead.keys().copied().collect()
    }

    /// Goes back, so that `seq` is the next record taken up. Says how many records will be told anew.
    pub(super) const fn rewind(&mut self, seq: u64) -> u64 {
        let before = seq.saturating_sub(1);
        let records = self.cursor.saturating_sub(before);
        if records > 0 {
            self.cursor = before;
            self.is_dirty = true;
        }
        records
    }

    /// Sends again. `true` if it had stopped.
    pub(super) const fn enable(&mut self) -> bool {
        let was_disabled = self.disabled.is_some();
        self.disabled = None;
        self.is_dirty = self.is_dirty || was_disabled;
        was_disabled
    }
}
