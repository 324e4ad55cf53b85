//! How much was measured so far, and how many units that is.

use std::num::NonZeroU64;

use serde_json::Value;

use crate::sse::{Fields, lines};
use crate::terms::{Measure, Report, Tokens};
use crate::usage::{Usage, answer_bytes, written_bytes};

#[cfg(test)]
mod tests;

/// What ends a stream of chat completions, and says nothing.
const DONE: &[u8] = b"[DONE]";

/// A running count. It tells the whole so far, which a report may lower below an estimate.
#[derive(Clone, Debug)]
pub(crate) struct Count {
    every: NonZeroU64,
    of: Of,
}

#[derive(Clone, Debug)]
enum Of {
    Bytes(u64),
    /// Lines so far, and whether the current one was counted.
    Lines(u64, bool),
    Events(u64),
    Tokens(TokenCount),
    /// Nothing of what passes: time, or what was announced.
    Fixed(u64),
    Report(Report, ReportCount),
}

/// Tokens: reported ones, and an estimate of what was written since.
#[derive(Clone, Debug)]
struct TokenCount {
    terms: Tokens,
    usage: Usage,
    /// Bytes and events of text: since the last report of written tokens, and in all.
    since: Written,
    whole_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    bytes: u64,
    events: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct ReportCount {
    reported: u64,
    since: u64,
}

impl Count {
    pub(crate) fn new(measure: &Measure, every: NonZeroU64, announced: u64) -> Self {
        let of = match measure {
            Measure::Bytes => Of::Bytes(0),
            Measure::Lines => Of::Lines(0, false),
            Measure::Events => Of::Events(0),
            Measure::Tokens(terms) => Of::Tokens(TokenCount {
                terms: terms.clone(),
                usage: Usage::default(),
                since: Written::default(),
                whole_bytes: 0,
            }),
            Measure::Seconds | Measure::Header(_) => Of::Fixed(announced),
            Measure::Report(report) => Of::Report(report.clone(), ReportCount::default()),
        };
        Self { every, of }
    }

    /// How many units `quantity` is: a unit is due with its first part.
    pub(crate) fn units(&self, quantity: u64) -> u64 {
        quantity.div_ceil(self.every.get())
    }

    /// How many bytes `units` are, where bytes are counted.
    pub(crate) fn bytes(&self, units: u64) -> u64 {
        units.saturating_mul(self.every.get())
    }

    /// The whole so far.
    pub(crate) fn quantity(&self) -> u64 {
        match &self.of {
            Of::Bytes(count) | Of::Lines(count, _) | Of::Events(count) | Of::Fixed(count) => *count,
            Of::Tokens(tokens) => tokens.quantity(),
            Of::Report(_, count) => count.reported.saturating_add(count.since),
        }
    }

    /// Counts the bytes of one complete event, as the upstream sent them.
    pub(crate) fn event(&mut self, event: &[u8]) {
        match &mut self.of {
            Of::Bytes(count) => add(count, size(event)),
            Of::Lines(count, _) => {
                let is_data = |line: &[u8]| line == b"data" || line.starts_with(b"data:");
                let data = lines(event).filter(|line| event.get(line.clone()).is_some_and(is_data));
                add(count, u64::try_from(data.count()).unwrap_or(u64::MAX));
            }
            Of::Events(count) => {
                let data = Fields::read(event).data;
                add(count, u64::from(data.is_some_and(|data| data.trim_ascii() != DONE)));
            }
            Of::Tokens(tokens) => {
                if let Some(data) = Fields::read(event).data {
                    tokens.event(&data);
                }
            }
            Of::Report(report, count) => count.event(report, &Fields::read(event)),
            Of::Fixed(_) => {}
        }
    }

    /// Counts a message, or bytes where no others are told apart.
    pub(crate) fn bytes_of(&mut self, bytes: &[u8]) {
        match &mut self.of {
            Of::Bytes(count) => add(count, size(bytes)),
            Of::Events(count) => add(count, 1),
            Of::Lines(..) | Of::Tokens(_) | Of::Fixed(_) | Of::Report(..) => {}
        }
    }

    /// Counts the first line of `bytes`, or what there is of it, and says how long that is.
    pub(crate) fn line(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let length = end.map_or(bytes.len(), |at| at.saturating_add(1));
        if let Of::Lines(count, counted) = &mut self.of {
            let line = bytes.get(..length).unwrap_or_default();
            if !*counted && !line.trim_ascii().is_empty() {
                *counted = true;
                add(count, 1);
            }
            *counted &= end.is_none();
        }
        length
    }

    /// Counts a whole answer.
    pub(crate) fn answer(&mut self, answer: &[u8]) {
        if let Of::Tokens(tokens) = &mut self.of {
            tokens.read(answer, answer_bytes);
        }
    }
}

impl TokenCount {
    fn event(&mut self, data: &[u8]) {
        if data.trim_ascii() != DONE {
            self.read(data, written_bytes);
        }
    }

    fn read(&mut self, data: &[u8], written_bytes: fn(&Value) -> Option<u64>) {
        let value: Option<Value> = serde_json::from_slice(data).ok();
        let usage = value.as_ref().and_then(Usage::read);
        // What is of neither family may have been written by a model, every byte of it.
        let written = value.as_ref().and_then(written_bytes);
        let written = written.or_else(|| usage.map(|_| 0)).unwrap_or_else(|| size(data));
        add(&mut self.whole_bytes, written);
        add(&mut self.since.bytes, written);
        add(&mut self.since.events, u64::from(written > 0));
        if let Some(usage) = usage {
            self.usage.merge(usage);
            if usage.output.is_some() {
                self.since = Written::default();
            }
        }
    }

    fn quantity(&self) -> u64 {
        let Tokens { input, output, input_estimate, estimate_bytes, token_bytes_max } = &self.terms;
        let read = self.usage.input.unwrap_or(*input_estimate);
        // A piece of text is a token at least.
        let estimate = self.since.bytes.div_ceil(estimate_bytes.get()).max(self.since.events);
        let written = self.usage.output.unwrap_or(0).saturating_add(estimate);
        let written = written.max(self.whole_bytes.div_ceil(token_bytes_max.get()));
        read.saturating_mul(*input).saturating_add(written.saturating_mul(*output))
    }
}

impl ReportCount {
    fn event(&mut self, report: &Report, fields: &Fields) {
        let Some(data) = &fields.data else { return };
        let named = report.event.is_empty() || report.event.as_bytes() == fields.name;
        let number = if named { number_at(data, &report.pointer) } else { None };
        match number {
            Some(number) if report.cumulative => {
                self.reported = self.reported.max(number);
                self.since = 0;
            }
            Some(number) => {
                add(&mut self.reported, number);
                self.since = 0;
            }
            None => add(&mut self.since, report.estimate),
        }
    }
}

fn number_at(data: &[u8], pointer: &str) -> Option<u64> {
    let value: Value = serde_json::from_slice(data).ok()?;
    value.pointer(pointer)?.as_u64()
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
