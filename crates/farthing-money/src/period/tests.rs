#![allow(clippy::arithmetic_side_effects, reason = "small numbers")]

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn period(text: &str) -> Period {
    text.parse().unwrap()
}

/// SUB.S09: months are counted from the anchor, and a month that is too short ends them on its last day.
#[test]
fn months_are_counted_from_the_anchor() {
    let begins = |period_text: &str, anchor: &str, expected: &[&str]| {
        for (index, expected) in expected.iter().enumerate() {
            let index = u64::try_from(index).unwrap();
            let begins = period(period_text).boundary(at(anchor), index).unwrap();
            assert_eq!(begins.to_string(), *expected, "{period_text} from {anchor}, {index}");
        }
    };
    begins(
        "1 month",
        "2026-01-31T08:30:00Z",
        &[
            "2026-01-31T08:30:00Z",
            "2026-02-28T08:30:00Z",
            "2026-03-31T08:30:00Z",
            "2026-04-30T08:30:00Z",
            "2026-05-31T08:30:00Z",
        ],
    );
    begins(
        "1 month",
        "2028-01-30T23:59:59.999999Z",
        &[
            "2028-01-30T23:59:59.999999Z",
            "2028-02-29T23:59:59.999999Z",
            "2028-03-30T23:59:59.999999Z",
        ],
    );
    begins(
        "12 months",
        "2028-02-29T00:00:00Z",
        &[
            "2028-02-29T00:00:00Z",
            "2029-02-28T00:00:00Z",
            "2030-02-28T00:00:00Z",
            "2031-02-28T00:00:00Z",
            "2032-02-29T00:00:00Z",
        ],
    );
    begins(
        "3 months",
        "2026-11-30T12:00:00Z",
        &["2026-11-30T12:00:00Z", "2027-02-28T12:00:00Z", "2027-05-30T12:00:00Z"],
    );
    begins("1 day", "2026-03-28T12:00:00Z", &["2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"]);
    begins("2 weeks", "2026-12-24T00:00:00Z", &["2026-12-24T00:00:00Z", "2027-01-07T00:00:00Z"]);
}

/// SUB.S09: a boundary belongs to the period that it begins, to the microsecond.
#[test]
fn a_boundary_begins_its_period() {
    for text in ["1 day", "5 days", "1 week", "1 month", "7 months"] {
        let (period, anchor) = (period(text), at("2026-01-31T23:00:00Z"));
        for index in 0..60 {
            let begins = period.boundary(anchor, index).unwrap();
            assert_eq!(period.index(anchor, begins), Some(index), "{text}, {index}");
            let before = Timestamp::from_micros(begins.as_micros() - 1);
            assert_eq!(
                period.index(anchor, before),
                index.checked_sub(1),
                "{text}, before {index}"
            );
            assert_eq!(period.begun_before(anchor, begins), index);
            let after = Timestamp::from_micros(begins.as_micros() + 1);
            assert_eq!(period.begun_before(anchor, after), index + 1);
        }
    }
}

#[test]
fn periods_are_read_as_they_are_written() {
    for (text, written) in
        [("1 month", "1 month"), ("month", "1 month"), ("2 weeks", "2 weeks"), ("1 days", "1 day")]
    {
        assert_eq!(period(text).to_string(), written);
    }
    for text in ["", "0 days", "01 day", "+1 day", "-1 day", "1 year", "1  day", "4294967296 days"]
    {
        assert_eq!(text.parse::<Period>(), Err(ParsePeriodError), "{text:?}");
    }
}

#[test]
fn what_no_calendar_reaches_is_no_boundary() {
    let anchor = at("2026-01-31T00:00:00Z");
    assert_eq!(period("1 month").boundary(anchor, 200_000), None);
    assert_eq!(period("4294967295 weeks").boundary(anchor, u64::MAX), None);
    assert_eq!(period("1 day").index(anchor, at("2026-01-30T23:59:59Z")), None);
}

proptest! {
    /// SUB.S09: boundaries only ever advance, and whatever lies between two of them is in one period.
    #[test]
    fn every_instant_is_in_one_period(
        anchor in 0_u64..4_000_000_000_000_000,
        since in 0_u64..2_000_000_000_000_000,
        unit in prop::sample::select(vec![PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month]),
        count in 1_u32..40,
    ) {
        let period = Period::new(unit, NonZeroU32::new(count).unwrap());
        let (anchor, at) = (Timestamp::from_micros(anchor), Timestamp::from_micros(anchor + since));
        let index = period.index(anchor, at).unwrap();
        let begins = period.boundary(anchor, index).unwrap();
        let ends = period.boundary(anchor, index + 1).unwrap();
        prop_assert!(begins <= at && at < ends);
    }
}
