//! Days, weeks and months, as one fixed distance from UTC has them.
//!
//! There are no time zones with summer time here: a day that is 23 hours long would let a budget be
//! spent twice an hour apart, and a rule would depend on somebody's table of zones.

use std::fmt;
use std::str::FromStr;

use farthing_money::Timestamp;
use serde::{Deserialize, Serialize};

const DAY_S: i64 = 86_400;

/// How far a clock is from UTC: `Z`, `+01:00`, `-07:30`; at most fourteen hours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UtcOffset {
    minutes: i32,
}

/// A span of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// From the first to the first.
    Month,
}

/// One day, week or month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Names it: `2026-11-26`, `2026-11-23/7`, `2026-11`.
    pub(crate) name: String,
    /// The first moment after it.
    pub(crate) ends_at: Timestamp,
}

impl UtcOffset {
    fn local_seconds(self, at: Timestamp) -> i64 {
        let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
        seconds.saturating_add(i64::from(self.minutes).saturating_mul(60))
    }

    fn at_local_day(self, day: i64) -> Timestamp {
        let offset = i64::from(self.minutes).saturating_mul(60);
        let seconds = day.saturating_mul(DAY_S).saturating_sub(offset);
        Timestamp::from_micros(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
    }

    /// The minute of the day, and the day of the week with Monday as 1.
    pub(crate) fn minute_and_weekday(self, at: Timestamp) -> (i64, i64) {
        let seconds = self.local_seconds(at);
        let (day, second) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        (second.div_euclid(60), weekday(day).saturating_add(1))
    }

    /// The period around a moment.
    pub(crate) fn span(self, period: Period, at: Timestamp) -> Span {
        let day = self.local_seconds(at).div_euclid(DAY_S);
        let (year, month, _) = civil(day);
        let named = |day: i64| {
            let (year, month, day) = civil(day);
            format!("{year:04}-{month:02}-{day:02}")
        };
        let (name, end) = match period {
            Period::Day => (named(day), day.saturating_add(1)),
            Period::Week => {
                let monday = day.saturating_sub(weekday(day));
                (format!("{}/7", named(monday)), monday.saturating_add(7))
            }
            Period::Month => {
                let next = if month == 12 {
                    (year.saturating_add(1), 1)
                } else {
                    (year, month.saturating_add(1))
                };
                (format!("{year:04}-{month:02}"), days_from_civil(next.0, next.1, 1))
            }
        };
        Span { name, ends_at: self.at_local_day(end) }
    }
}

/// The day of the week of a day since 1970-01-01, which was a Thursday; Monday is 0.
const fn weekday(day: i64) -> i64 {
    day.saturating_add(3).rem_euclid(7)
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar. The year is taken to
/// begin in March, so that the leap day is its last.
#[expect(clippy::arithmetic_side_effects, reason = "a timestamp's days are far from an i64's ends")]
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The inverse of [`civil`].
#[expect(clippy::arithmetic_side_effects, reason = "years here come from timestamps")]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

/// Reads `HH:MM` as minutes.
pub(crate) fn minutes_of(text: &str) -> Option<i32> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|it| it.is_ascii_digit()))
            .then(|| text.parse::<i32>().ok())?
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (minutes < 60).then_some(hours.saturating_mul(60).saturating_add(minutes))
}

impl FromStr for UtcOffset {
    type Err = MalformedOffset;

    fn from_str(text: &str) -> Result<Self, MalformedOffset> {
        if text == "Z" {
            return Ok(Self::default());
        }
        let (sign, rest) = match text.split_at_checked(1) {
            Some(("+", rest)) => (1_i32, rest),
            Some(("-", rest)) => (-1, rest),
            _ => return Err(MalformedOffset),
        };
        let minutes = minutes_of(rest).filter(|it| *it <= 14 * 60).ok_or(MalformedOffset)?;
        Ok(Self { minutes: minutes.saturating_mul(sign) })
    }
}

impl TryFrom<String> for UtcOffset {
    type Error = MalformedOffset;

    fn try_from(text: String) -> Result<Self, MalformedOffset> {
        text.parse()
    }
}

impl From<UtcOffset> for String {
    fn from(offset: UtcOffset) -> Self {
        offset.to_string()
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.minutes == 0 {
            return f.write_str("Z");
        }
        let sign = if self.minutes < 0 { '-' } else { '+' };
        let minutes = self.minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// A text is not a distance from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a distance from UTC is written like \"Z\", \"+01:00\" or \"-07:30\"")]
pub struct MalformedOffset;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn periods_begin_where_the_owner_s_clock_says() {
        let utc = UtcOffset::default();
        let east: UtcOffset = "+01:00".parse().unwrap();
        for (offset, period, moment, name, ends_at) in [
            (utc, Period::Day, "2026-11-26T23:59:59Z", "2026-11-26", "2026-11-27T00:00:00Z"),
            (utc, Period::Day, "2026-11-27T00:00:00Z", "2026-11-27", "2026-11-28T00:00:00Z"),
            (east, Period::Day, "2026-11-26T23:00:00Z", "2026-11-27", "2026-11-27T23:00:00Z"),
            (utc, Period::Week, "2026-11-26T12:00:00Z", "2026-11-23/7", "2026-11-30T00:00:00Z"),
            (utc, Period::Week, "2026-11-23T00:00:00Z", "2026-11-23/7", "2026-11-30T00:00:00Z"),
            (utc, Period::Month, "2026-12-31T23:00:00Z", "2026-12", "2027-01-01T00:00:00Z"),
            (east, Period::Month, "2026-12-31T23:00:00Z", "2027-01", "2027-01-31T23:00:00Z"),
            (utc, Period::Month, "2028-02-29T00:00:00Z", "2028-02", "2028-03-01T00:00:00Z"),
        ] {
            let span = offset.span(period, at(moment));
            assert_eq!((span.name.as_str(), span.ends_at), (name, at(ends_at)), "{moment}");
        }
    }

    #[test]
    fn every_day_of_eight_centuries_is_told_and_found_again() {
        for day in -1_000..300_000_i64 {
            let (year, month, of_month) = civil(day);
            assert_eq!(days_from_civil(year, month, of_month), day);
            assert!((1..=12).contains(&month) && (1..=31).contains(&of_month));
        }
    }

    #[test]
    fn hours_and_days_of_the_week_are_local() {
        let west: UtcOffset = "-07:30".parse().unwrap();
        // A Thursday in London is still a Wednesday evening there.
        assert_eq!(west.minute_and_weekday(at("2026-11-26T04:15:00Z")), (20 * 60 + 45, 3));
        assert_eq!(UtcOffset::default().minute_and_weekday(at("2026-11-29T00:00:00Z")), (0, 7));
    }

    #[test]
    fn a_distance_from_utc_is_read_as_it_is_written() {
        for text in ["Z", "+01:00", "-07:30", "+14:00"] {
            assert_eq!(text.parse::<UtcOffset>().unwrap().to_string(), text);
        }
        for text in ["", "+1:00", "+01:60", "+15:00", "01:00", "UTC", "+0100", "+01:0x", "é"] {
            assert_eq!(text.parse::<UtcOffset>(), Err(MalformedOffset), "{text}");
        }
    }
}
