//! The meter: what may be given to a client, what has to be paid first, and when more is wanted.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::count::Count;
use crate::forgery::neutralise;
use crate::sse::{Cutter, TooLong};
use crate::terms::{Framing, Measure, Terms};
use crate::voice::Voice;

#[cfg(test)]
mod tests;

/// How many pieces are looked ahead at, to pay for several at once.
const READY_MAX: usize = 64;

/// Meters one answer: a state machine without a clock, a socket or a wallet.
///
/// Whoever drives it asks for the [`Next`] thing to do and does it. Bytes come out only when the units
/// they cost were [`Meter::paid`], and it asks for more of the upstream only when there is nothing
/// left to give. So it never holds more than the last chunk it was pushed, and of what came before it
/// one incomplete event or JSON answer, within [`Limits`](crate::Limits).
#[derive(Debug)]
pub struct Meter {
    terms: Terms,
    framing: Framing,
    count: Count,
    cutter: Cutter,
    /// The last chunk, as far as it is not cut into pieces.
    chunk: Bytes,
    /// A JSON answer, as far as it came.
    answer: Vec<u8>,
    ready: VecDeque<Piece>,
    is_ended: bool,
    error: Option<MeterError>,
    paid: u64,
    /// The count at the end of what was given.
    given: u64,
    /// When the first byte came, in time of streaming.
    began: Option<Duration>,
    /// Units of time that were paid and begun.
    seconds: u64,
    forged: u64,
    /// What was given last lacks so much to end with two LF.
    gap: &'static [u8],
}

/// Bytes that are given together, and the count at their end.
#[derive(Debug)]
struct Piece {
    bytes: Bytes,
    quantity: u64,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give these bytes to the client. They are paid.
    Release(Bytes),
    /// Take units from the channel and say so: [`Meter::paid`].
    Take(Wanted),
    /// Let more of the upstream come: [`Meter::push`], [`Meter::end`] or [`Meter::fail`].
    Upstream,
    /// Everything was given. What is [`Meter::unused`] is the payer's.
    Done,
}

/// How many units are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Without these nothing can be given. At least 1.
    pub least: u64,
    /// With these, everything at hand can. At least [`Wanted::least`].
    pub most: u64,
}

/// The upstream's answer cannot be held: the upstream's fault, or a limit of the seller's that is too
/// low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// An event is longer than [`Limits::event_bytes_max`](crate::Limits::event_bytes_max).
    #[error("an event of the upstream is longer than {0} bytes")]
    EventTooLong(usize),
    /// An answer is longer than [`Limits::answer_bytes_max`](crate::Limits::answer_bytes_max).
    #[error("an answer of the upstream that is charged as a whole is longer than {0} bytes")]
    AnswerTooLong(usize),
}

impl Meter {
    pub(crate) fn new(terms: Terms, framing: Framing, announced: u64) -> Self {
        Self {
            count: Count::new(&terms.measure, terms.every, announced),
            cutter: Cutter::new(terms.limits.event_bytes_max),
            terms,
            framing,
            chunk: Bytes::new(),
            answer: Vec::new(),
            ready: VecDeque::new(),
            is_ended: false,
            error: None,
            paid: 0,
            given: 0,
            began: None,
            seconds: 0,
            forged: 0,
            gap: b"",
        }
    }

    /// The next thing to do, after `streamed` of streaming. Pauses for payment are not part of that.
    ///
    /// # Errors
    ///
    /// A [`MeterError`] when what came before it was given, and from then on. Nothing more is charged.
    pub fn next(&mut self, streamed: Duration) -> Result<Next, MeterError> {
        self.fill();
        let is_empty = self.ready.is_empty() && self.chunk.is_empty();
        if let Some(error) = self.error.filter(|_| is_empty) {
            return Err(error);
        }
        if is_empty && self.is_ended {
            return Ok(Next::Done);
        }
        if let Some(wanted) = self.time(streamed, !is_empty) {
            return Ok(Next::Take(wanted));
        }
        if self.divides() && !self.chunk.is_empty() {
            return Ok(self.next_bytes());
        }
        let (Some(first), Some(last)) = (self.ready.front(), self.ready.back()) else {
            return Ok(Next::Upstream);
        };
        let least = self.lacking(first.quantity);
        if least > 0 {
            return Ok(Next::Take(self.wanted(least, self.lacking(last.quantity))));
        }
        self.given = first.quantity;
        self.gap = match &*first.bytes {
            [.., b'\n', b'\n'] => b"",
            [.., b'\n'] => b"\n",
            _ => b"\n\n",
        };
        Ok(self.ready.pop_front().map_or(Next::Upstream, |piece| Next::Release(piece.bytes)))
    }

    /// The upstream sent more; for messages, one message. To be called when [`Meter::next`] asked for
    /// it.
    pub fn push(&mut self, bytes: Bytes) {
        if let Framing::Messages(_) = self.framing {
            self.count.bytes_of(&bytes);
            let bytes = self.voice().message(bytes);
            self.ready.push_back(Piece { bytes, quantity: self.count.quantity() });
        } else if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            self.chunk = [&*self.chunk, &*bytes].concat().into();
        }
    }

    /// The upstream has ended.
    pub fn end(&mut self) {
        self.is_ended = true;
    }

    /// The upstream broke off: what is incomplete is neither given nor charged.
    pub fn fail(&mut self) {
        self.is_ended = true;
        self.cutter.forget();
        self.answer = Vec::new();
    }

    /// `units` more were taken from the channel.
    pub fn paid(&mut self, units: u64) {
        self.paid = self.paid.saturating_add(units);
    }

    /// Units that were used: what was given costs that much.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.count.units(self.given).max(self.seconds)
    }

    /// Units that were paid and not used.
    #[must_use]
    pub fn unused(&self) -> u64 {
        self.paid.saturating_sub(self.used())
    }

    /// How many names of events were neutralised.
    #[must_use]
    pub fn forged(&self) -> u64 {
        self.forged
    }

    /// How payments may be spoken of between what [`Next::Release`] gives.
    #[must_use]
    pub fn voice(&self) -> Voice {
        match self.framing {
            Framing::Bytes | Framing::Json => Voice::Silent,
            Framing::Events => Voice::Events,
            Framing::Messages(dialect) => Voice::Frames(dialect),
        }
    }

    /// Words of ours as they may stand after what was given.
    ///
    /// In a stream of events with other line ends than LF, a blank line comes first: it means nothing to
    /// a parser of the standard, and some clients find the ends of events by two LF alone.
    #[must_use]
    pub fn spaced(&self, words: Bytes) -> Bytes {
        let apart = !self.gap.is_empty() && self.framing == Framing::Events;
        if apart { [self.gap, &*words].concat().into() } else { words }
    }

    /// In how much more streaming the next unit is due, if time is charged for.
    #[must_use]
    pub fn due_in(&self, streamed: Duration) -> Option<Duration> {
        let paid = Duration::from_secs(self.count.bytes(self.paid));
        (self.terms.measure == Measure::Seconds).then_some(())?;
        Some(self.began?.saturating_add(paid).saturating_sub(streamed))
    }

    /// What has to be taken for time, if anything.
    fn time(&mut self, streamed: Duration, begins: bool) -> Option<Wanted> {
        if self.terms.measure != Measure::Seconds || (self.began.is_none() && !begins) {
            return None;
        }
        let began = *self.began.get_or_insert(streamed);
        let seconds = streamed.saturating_sub(began).as_secs().saturating_add(1);
        let due = self.count.units(seconds);
        let lacking = self.lacking(seconds);
        if lacking > 0 {
            return Some(Wanted { least: lacking, most: lacking });
        }
        self.seconds = self.seconds.max(due);
        None
    }

    /// Bytes by the byte: as many of the chunk as are paid.
    fn next_bytes(&mut self) -> Next {
        let covered = self.count.bytes(self.paid).saturating_sub(self.count.quantity());
        let least = self.lacking(self.count.quantity().saturating_add(1));
        if least > 0 {
            let whole = u64::try_from(self.chunk.len()).unwrap_or(u64::MAX);
            let all = self.lacking(self.count.quantity().saturating_add(whole));
            return Next::Take(self.wanted(least, all));
        }
        let covered = usize::try_from(covered).unwrap_or(usize::MAX);
        let bytes = self.chunk.split_to(covered.min(self.chunk.len()));
        self.count.bytes_of(&bytes);
        self.given = self.count.quantity();
        Next::Release(bytes)
    }

    /// Units that are not paid of what the answer costs up to a count.
    fn lacking(&self, quantity: u64) -> u64 {
        self.count.units(quantity).max(self.terms.reserve_units).saturating_sub(self.paid)
    }

    fn wanted(&self, least: u64, all: u64) -> Wanted {
        Wanted { least, most: all.min(self.terms.limits.batch_units_max).max(least) }
    }

    fn divides(&self) -> bool {
        self.framing == Framing::Bytes && self.terms.measure == Measure::Bytes
    }

    /// Cuts the chunk into pieces, as far as is looked ahead.
    fn fill(&mut self) {
        let filled = match self.framing {
            Framing::Bytes => {
                self.fill_lines();
                Ok(())
            }
            Framing::Events => self.fill_events(),
            Framing::Json => self.fill_answer(),
            Framing::Messages(_) => Ok(()),
        };
        if let Err(error) = filled {
            self.error = Some(error);
            self.is_ended = true;
            self.chunk = Bytes::new();
            self.cutter.forget();
            self.answer = Vec::new();
        }
    }

    fn fill_lines(&mut self) {
        while !self.divides() && !self.chunk.is_empty() && self.ready.len() < READY_MAX {
            let by_line = self.terms.measure == Measure::Lines;
            let length = if by_line { self.count.line(&self.chunk) } else { self.chunk.len() };
            let bytes = self.chunk.split_to(length);
            self.ready.push_back(Piece { bytes, quantity: self.count.quantity() });
        }
    }

    fn fill_events(&mut self) -> Result<(), MeterError> {
        while !self.chunk.is_empty() && self.ready.len() < READY_MAX {
            let cut = self.cutter.cut(&mut self.chunk);
            let too_long = |TooLong| MeterError::EventTooLong(self.terms.limits.event_bytes_max);
            if let Some(event) = cut.map_err(too_long)? {
                self.event(event, b"");
            }
        }
        if self.is_ended
            && self.chunk.is_empty()
            && let Some((event, lacks)) = self.cutter.finish()
        {
            self.event(event, lacks);
        }
        Ok(())
    }

    fn event(&mut self, event: Bytes, lacks: &[u8]) {
        self.count.event(&event);
        let (mut bytes, forged) = neutralise(event);
        self.forged = self.forged.saturating_add(forged);
        if !lacks.is_empty() {
            bytes = [&*bytes, lacks].concat().into();
        }
        self.ready.push_back(Piece { bytes, quantity: self.count.quantity() });
    }

    fn fill_answer(&mut self) -> Result<(), MeterError> {
        let max = self.terms.limits.answer_bytes_max;
        if self.answer.len().saturating_add(self.chunk.len()) > max {
            return Err(MeterError::AnswerTooLong(max));
        }
        self.answer.extend_from_slice(&std::mem::take(&mut self.chunk));
        if self.is_ended && !self.answer.is_empty() {
            let answer = std::mem::take(&mut self.answer);
            self.count.answer(&answer);
            self.ready.push_back(Piece { bytes: answer.into(), quantity: self.count.quantity() });
        }
        Ok(())
    }
}
