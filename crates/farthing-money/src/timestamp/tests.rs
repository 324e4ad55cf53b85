use std::time::Duration;

use proptest::prelude::*;

use crate::Timestamp;

fn at(text: &str) -> Option<u64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_micros)
}

/// K-02: RFC 3339 is read strictly; whatever leaves room for taste is refused.
#[test]
fn only_full_rfc_3339_is_read() {
    let noon = Some(1_769_688_000_000_000);
    for text in [
        "2026-01-29T12:00:00Z",
        "2026-01-29T12:00:00.0Z",
        "2026-01-29T12:00:00.000000999Z",
        "2026-01-29T14:30:00+02:30",
        "2026-01-29T11:00:00-01:00",
    ] {
        assert_eq!(at(text), noon, "{text}");
    }
    assert_eq!(at("2026-01-29T12:00:00.25Z"), Some(1_769_688_000_250_000));
    for text in [
        "",
        "2026-01-29",
        "2026-01-29T12:00:00",
        "2026-01-29T12:00Z",
        "2026-01-29t12:00:00Z",
        "2026-01-29T12:00:00z",
        "2026-01-29 12:00:00Z",
        "2026-01-29T12:00:60Z",
        "2026-01-29T24:00:00Z",
        "2026-02-29T12:00:00Z",
        "2026-13-01T12:00:00Z",
        "2026-01-29T12:00:00.Z",
        "2026-01-29T12:00:00.0000000000Z",
        "2026-01-29T12:00:00+0200",
        "2026-01-29T12:00:00Z[UTC]",
        "+002026-01-29T12:00:00Z",
        "1769688000",
    ] {
        assert_eq!(at(text), None, "{text}");
    }
}

#[test]
fn the_edges_of_time_do_not_wrap() {
    assert_eq!(at("1969-12-31T23:59:59Z"), Some(0));
    assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
    let last: Timestamp = "9999-12-30T21:00:00Z".parse().unwrap();
    assert!(last.after(Duration::MAX) > last);
    assert_eq!(Timestamp::default().before(Duration::from_secs(1)), Timestamp::default());
    assert_eq!(Timestamp::default().since(last), Duration::ZERO);
    assert!(!Timestamp::from_micros(u64::MAX).to_string().is_empty());
}

#[test]
fn whole_seconds_print_short() {
    assert_eq!(Timestamp::from_micros(1_769_688_000_000_000).to_string(), "2026-01-29T12:00:00Z");
    let odd = Timestamp::from_micros(1_769_688_000_123_456);
    assert_eq!(odd.to_string(), "2026-01-29T12:00:00.123456Z");
    assert_eq!(odd.floor_to_millis().to_string(), "2026-01-29T12:00:00.123Z");
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(micros in 0_u64..253_402_207_200_000_000) {
        let instant = Timestamp::from_micros(micros);
        prop_assert_eq!(instant.to_string().parse::<Timestamp>(), Ok(instant));
    }

    #[test]
    fn no_text_panics(text in "[0-9TZtz:.+\\- \\[\\]]{0,40}") {
        let _ = text.parse::<Timestamp>();
    }
}
