//! Calendar periods: from when to when something is paid for that is paid for again and again.
//!
//! ```text
//! anchor                 boundary 1             boundary 2
//!   ├──── period 0 ────────┼──── period 1 ────────┼──── period 2 ───►
//! ```
//!
//! Days and weeks are spans of seconds. Months are calendar months in UTC, each counted from the anchor and
//! never from the boundary before: from January 31 they begin on February 28, on March 31 and on April 30.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{Span, Timestamp as Instant};
use serde::{Deserialize, Serialize};

use crate::Timestamp;

#[cfg(test)]
mod tests;

/// What periods are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeriodUnit {
    /// 86 400 seconds.
    Day,
    /// 604 800 seconds.
    Week,
    /// A calendar month in UTC; where it is too short for the anchor's day, its last day.
    Month,
}

impl PeriodUnit {
    /// Its name, as wires and configurations write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// How many seconds it has, where that is always the same.
    #[must_use]
    pub const fn secs(self) -> Option<u64> {
        match self {
            Self::Day => Some(86_400),
            Self::Week => Some(604_800),
            Self::Month => None,
        }
    }
}

impl FromStr for PeriodUnit {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let all = [Self::Day, Self::Week, Self::Month];
        all.into_iter().find(|unit| unit.name() == text).ok_or(ParsePeriodError)
    }
}

/// How long something is paid for at a time: so many days, weeks or months.
///
/// Written `1 month`, read with or without an `s` at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// What is counted.
    pub unit: PeriodUnit,
    /// How many of it.
    pub count: NonZeroU32,
}

impl Period {
    /// So many of a unit.
    #[must_use]
    pub const fn new(unit: PeriodUnit, count: NonZeroU32) -> Self {
        Self { unit, count }
    }

    /// The instant at which period `index` begins, if that is one that can be told.
    #[must_use]
    pub fn boundary(self, anchor: Timestamp, index: u64) -> Option<Timestamp> {
        let units = index.checked_mul(u64::from(self.count.get()))?;
        if let Some(secs) = self.unit.secs() {
            let micros = units.checked_mul(secs)?.checked_mul(1_000_000)?;
            return anchor.as_micros().checked_add(micros).map(Timestamp::from_micros);
        }
        let span = Span::new().try_months(i64::try_from(units).ok()?).ok()?;
        let instant = Offset::UTC.to_timestamp(civil(anchor)?.checked_add(span).ok()?);
        u64::try_from(instant.ok()?.as_microsecond()).ok().map(Timestamp::from_micros)
    }

    /// The period that `at` lies in; none before the anchor.
    #[must_use]
    pub fn index(self, anchor: Timestamp, at: Timestamp) -> Option<u64> {
        if at < anchor {
            return None;
        }
        let since = at.since(anchor);
        if let Some(secs) = self.unit.secs() {
            let each = Duration::from_secs(secs).checked_mul(self.count.get())?;
            return u64::try_from(since.as_micros().checked_div(each.as_micros())?).ok();
        }
        let (from, to) = (civil(anchor)?, civil(at)?);
        let months = |it: DateTime| {
            let years = i64::from(it.year()).checked_mul(12)?;
            years.checked_add(i64::from(it.month()))
        };
        let months = u64::try_from(months(to)?.checked_sub(months(from)?)?).ok()?;
        // The months' names say it but for the last one, which may not have come as far as the anchor's day.
        let index = months.checked_div(u64::from(self.count.get()))?;
        let begun = self.boundary(anchor, index).is_some_and(|begins| begins <= at);
        if begun { Some(index) } else { index.checked_sub(1) }
    }

    /// How many periods begin before `until`.
    #[must_use]
    pub fn begun_before(self, anchor: Timestamp, until: Timestamp) -> u64 {
        match self.index(anchor, until) {
            None => 0,
            Some(index) if self.boundary(anchor, index) == Some(until) => index,
            Some(index) => index.saturating_add(1),
        }
    }
}

fn civil(at: Timestamp) -> Option<DateTime> {
    let instant = Instant::from_microsecond(i64::try_from(at.as_micros()).ok()?).ok()?;
    Some(Offset::UTC.to_datetime(instant))
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count.get() == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.count, self.unit.name())
    }
}

impl FromStr for Period {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let (count, unit) = text.split_once(' ').unwrap_or(("1", text));
        let unit = unit.strip_suffix('s').unwrap_or(unit).parse()?;
        let is_plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
        let count = count.parse().ok().filter(|_| is_plain).ok_or(ParsePeriodError)?;
        Ok(Self { unit, count })
    }
}

/// A text is not a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a period is written like \"1 month\", \"2 weeks\" or \"30 days\"")]
pub struct ParsePeriodError;
