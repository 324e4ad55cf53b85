//! What a route charges for, and the limits a stream has to keep.

use std::num::NonZeroU64;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};

use crate::Meter;
use crate::ws::Dialect;

#[cfg(test)]
mod tests;

/// What is charged for. What a unit costs is the channel's affair; here are units only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Bytes of the body as the upstream sent them.
    Bytes,
    /// Lines that are not blank. In a stream of events, lines of data.
    Lines,
    /// Server-sent events with data, `[DONE]` aside.
    Events,
    /// Tokens, as the upstream reports them.
    Tokens(Tokens),
    /// Seconds since the first byte, pauses for payment aside. A second is due before it begins.
    Seconds,
    /// The number in a field of the upstream's answer, due before its first byte.
    Header(HeaderName),
    /// Numbers in server-sent events of the upstream's.
    Report(Report),
}

/// How tokens are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// How much a token counts that was read; 0 if it costs nothing.
    pub input: u64,
    /// How much a token counts that was written.
    pub output: u64,
    /// How many tokens are taken to have been read until the upstream says how many. Whoever has the
    /// request can tell better than the default, which is none.
    pub input_estimate: u64,
    /// How many bytes of text are taken for a token until the upstream says how many there were.
    ///
    /// The default is 4: most texts have as many tokens or more, so that nobody pays ahead of what will
    /// be reported. The rest is due with the report, before the event that carries it is given. A smaller
    /// number takes more, and what was too much is given back.
    pub estimate_bytes: NonZeroU64,
    /// How many bytes of text a token has at most, over a whole answer: an upstream that reports
    /// fewer tokens than that is not believed. The default is 16.
    pub token_bytes_max: NonZeroU64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            input: 1,
            output: 1,
            input_estimate: 0,
            estimate_bytes: number(4),
            token_bytes_max: number(16),
        }
    }
}

/// Events in which an upstream says how much it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name of such events; empty for any event.
    pub event: String,
    /// Where in the JSON of their data the number stands (RFC 6901).
    pub pointer: String,
    /// Each number is the whole so far, and not what came since the last one.
    pub cumulative: bool,
    /// What an event with data is taken for until the next report. Something has to be: what was not
    /// charged for when it was given away need not be paid for later.
    pub estimate: u64,
}

/// What a stranger's stream may take of us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest server-sent event, in bytes: it is held until it is complete and paid for. The
    /// default is 1 MiB.
    pub event_bytes_max: usize,
    /// The longest JSON answer that is charged by what it reports, in bytes: it is held until it is
    /// complete and paid for. The default is 8 MiB.
    pub answer_bytes_max: usize,
    /// How many units are taken at once when more than one is due. What was taken and not delivered
    /// is given back. The default is 64.
    pub batch_units_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { event_bytes_max: 1 << 20, answer_bytes_max: 8 << 20, batch_units_max: 64 }
    }
}

/// What a route charges for its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is charged for.
    pub measure: Measure,
    /// How much of it one unit is. A unit is due when its first part is given.
    pub every: NonZeroU64,
    /// How many units are taken before the first byte is given; what is not used of them is given back
    /// at the end (tempo-session §12.5). It covers what an estimate cannot see, such as tokens of
    /// thoughts that are not shown. The default is 0.
    pub reserve_units: u64,
    /// What a stream may take of us.
    pub limits: Limits,
    /// How long a stream waits for a voucher before it ends. The default is a minute
    /// (tempo-session §12.6).
    pub wait: Duration,
}

impl Terms {
    /// One unit for each of what is measured.
    #[must_use]
    pub fn new(measure: Measure) -> Self {
        Self {
            measure,
            every: NonZeroU64::MIN,
            reserve_units: 0,
            limits: Limits::default(),
            wait: Duration::from_mins(1),
        }
    }

    /// A meter for an answer with these fields.
    ///
    /// # Errors
    ///
    /// [`Unmeterable`] when the answer is not of a kind that can be charged so; nothing of it may be
    /// given away then.
    pub fn meter(&self, answer: &HeaderMap) -> Result<Meter, Unmeterable> {
        let (framing, announced) = match (&self.measure, Framing::of(answer)) {
            (Measure::Header(name), framing) => (framing.streamed(), reported(answer, name)?),
            (Measure::Bytes | Measure::Lines | Measure::Seconds, framing) => {
                (framing.streamed(), 0)
            }
            (Measure::Tokens(_), framing @ (Framing::Events | Framing::Json))
            | (Measure::Events | Measure::Report(_), framing @ Framing::Events) => (framing, 0),
            (Measure::Tokens(_) | Measure::Events | Measure::Report(_), _) => {
                return Err(Unmeterable::Kind);
            }
        };
        let is_read = framing != Framing::Bytes || self.measure == Measure::Lines;
        let mut codings = answer.get_all(CONTENT_ENCODING).iter();
        if is_read && codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Unmeterable::Encoded);
        }
        Ok(Meter::new(self.clone(), framing, announced))
    }

    /// A meter for messages of text, each of which is charged for and given whole: for a WebSocket. What
    /// it releases are [frames](crate::ws), one for each message that was pushed.
    ///
    /// # Errors
    ///
    /// [`Unmeterable::Kind`] when the measure knows no messages: it has to be bytes, seconds, or
    /// events, each message being one.
    pub fn meter_messages(&self, dialect: Dialect) -> Result<Meter, Unmeterable> {
        match self.measure {
            Measure::Bytes | Measure::Events | Measure::Seconds => {
                Ok(Meter::new(self.clone(), Framing::Messages(dialect), 0))
            }
            Measure::Lines | Measure::Tokens(_) | Measure::Header(_) | Measure::Report(_) => {
                Err(Unmeterable::Kind)
            }
        }
    }
}

/// Why an answer cannot be charged for: the seller's to fix, or the upstream's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmeterable {
    /// It is neither a stream of events nor, for tokens, a JSON answer.
    #[error("the answer is of a kind that the route's measure does not know")]
    Kind,
    /// It is compressed, and what is in it cannot be seen. Take `Accept-Encoding` off the request.
    #[error("the answer is encoded; ask the upstream for it without `Accept-Encoding`")]
    Encoded,
    /// The field that says how much it is worth is missing, stands twice or is no number.
    #[error("the answer does not say how much it is worth")]
    Unreported,
}

/// How an answer is cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Anywhere, or at line ends.
    Bytes,
    /// At the ends of server-sent events.
    Events,
    /// Not at all.
    Json,
    /// Each push is a message.
    Messages(Dialect),
}

impl Framing {
    /// Whatever any client could take for a stream of events is one.
    fn of(answer: &HeaderMap) -> Self {
        let mut json = false;
        for value in answer.get_all(CONTENT_TYPE) {
            let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
            if value.contains("text/event-stream") {
                return Self::Events;
            }
            let essence = value.split(';').next().unwrap_or_default().trim();
            json |= essence == "application/json" || essence.ends_with("+json");
        }
        if json { Self::Json } else { Self::Bytes }
    }

    /// The same, where what is charged does not depend on the whole.
    fn streamed(self) -> Self {
        match self {
            Self::Json | Self::Bytes => Self::Bytes,
            Self::Events | Self::Messages(_) => self,
        }
    }
}

/// The number in a field that stands there once.
fn reported(answer: &HeaderMap, name: &HeaderName) -> Result<u64, Unmeterable> {
    let mut values = answer.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Unmeterable::Unreported);
    };
    let digits = value.to_str().map_err(|_| Unmeterable::Unreported)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Unmeterable::Unreported);
    }
    digits.parse().map_err(|_| Unmeterable::Unreported)
}

/// A small number that is not zero.
const fn number(value: u64) -> NonZeroU64 {
    match NonZeroU64::new(value) {
        Some(value) => value,
        None => NonZeroU64::MIN,
    }
}
