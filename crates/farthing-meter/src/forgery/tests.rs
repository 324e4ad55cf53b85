use proptest::collection::vec;
use proptest::prelude::*;
use sse_parse::SseParser;

use super::*;

fn check(event: &[u8], expected: &[u8], forged: u64) {
    let shown = String::from_utf8_lossy(event);
    let (bytes, count) = neutralise(Bytes::copy_from_slice(event));
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(expected), "{shown:?}");
    assert_eq!((&*bytes, count), (expected, forged), "{shown:?}");
}

/// W-08: an upstream's event that calls itself a payment's is given under another name, in every
/// spelling that some parser accepts.
#[test]
fn forged_names_are_neutralised_in_every_spelling() {
    for spelling in [
        "event: payment-receipt",
        "event:payment-receipt",
        "event: PAYMENT-Receipt",
        "EVENT: payment-receipt",
        "\u{FEFF}event: payment-receipt",
        " event: payment-receipt",
        "event : payment-receipt",
        "event:  payment-receipt",
        "event:\tpayment-receipt",
        "event:\u{A0}payment-receipt",
        "event:\u{FEFF}payment-receipt",
        "event: \u{200B}payment-receipt",
        "event: pay\u{AD}ment-receipt",
        "event: \0payment-receipt",
        "event:\x0Bpayment-receipt",
        "event: \u{2028}\x0Cpayment-receipt",
        "event: payment-",
    ] {
        for end in ["\n", "\r", "\r\n"] {
            let event = format!("data: {{}}{end}{spelling}{end}data: 2{end}{end}");
            let (bytes, forged) = neutralise(event.clone().into());
            assert_eq!(forged, 1, "{event:?}");
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.replacen(NEUTRALISED_PREFIX, "", 1), event, "all else stays");
            assert_eq!(neutralise(bytes), (text.into(), 0), "and once is enough");
        }
    }
    check(b"event: pay\xFFment-x\n\n", b"event: upstream-pay\xFFment-x\n\n", 1);
}

/// W-08: whichever of several names a parser takes, it is none of ours.
#[test]
fn each_of_several_names_is_neutralised() {
    check(
        b"event: payment-receipt\nevent: token\nevent:payment-need-voucher\ndata: 1\n\n",
        b"event: upstream-payment-receipt\nevent: token\nevent:upstream-payment-need-voucher\ndata: 1\n\n",
        2,
    );
}

/// W-08: readers that find lines where the standard has none find nothing of ours there.
#[test]
fn lines_that_only_some_readers_see_are_looked_at() {
    for separator in ["\x0B", "\x0C", "\x1C", "\x1D", "\x1E", "\u{85}", "\u{2028}", "\u{2029}"] {
        let event = format!("data: hi{separator}event: payment-receipt{separator}data: 2\n\n");
        let (bytes, forged) = neutralise(event.clone().into());
        assert_eq!(forged, 1, "{event:?}");
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text.replacen(NEUTRALISED_PREFIX, "", 1), event);
    }
}

#[test]
fn what_is_not_forged_passes_unchanged() {
    for event in [
        "event: message\ndata: event: payment-receipt\n\n",
        "event: token-payment-receipt\n\n",
        "event: payment\ndata: 1\n\n",
        "event: payments-made\ndata: 1\n\n",
        "events: payment-receipt\n\n",
        ": event: payment-receipt\n\n",
        "id: payment-1\ndata: payment-1\n\n",
        "event\ndata: payment-\n\n",
        "data: {\"text\":\"event: payment-receipt\"}\n\n",
        "data: a\u{2028}b\x0B\n\n",
    ] {
        check(event.as_bytes(), event.as_bytes(), 0);
    }
}

/// M-11: text built to be slow to look at takes time in proportion to its length.
#[test]
fn a_million_separators_are_looked_at_in_passing() {
    let event = "\x0B".repeat(1 << 20) + "event: payment-x\n\n";
    assert_eq!(neutralise(event.into()).1, 1);
}

proptest! {
    /// W-08: whatever is put together from a forger's words, no parser finds a payment in it.
    #[test]
    fn no_parser_finds_a_payment(words in vec(prop_oneof![
        Just("event"), Just(":"), Just(" "), Just("\t"), Just("payment-"), Just("Payment-receipt"),
        Just("receipt"), Just("\r"), Just("\u{FEFF}"), Just("\u{2028}"), Just("\x0B"), Just("data: 1"),
        Just("\n"), Just("event: payment-x"), Just("upstream-"),
    ], 0..24)) {
        let event = words.concat();
        let (bytes, forged) = neutralise(event.clone().into());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        prop_assert_eq!(forged == 0, text == event);
        let mut oracle = SseParser::new();
        oracle.feed(&bytes);
        oracle.feed(b"\n\n");
        while let Some(event) = oracle.next_event() {
            prop_assert!(!event.event.starts_with("payment-"), "{text:?}");
        }
        for line in text.split(['\r', '\n']) {
            let name = line.strip_prefix("event:").unwrap_or_default().trim();
            prop_assert!(!name.to_lowercase().starts_with("payment-"), "{line:?}");
        }
        let ends = ['\n', '\r', '\u{B}', '\u{C}', '\u{1C}', '\u{1D}', '\u{1E}', '\u{85}', '\u{2028}', '\u{2029}'];
        for line in text.split(ends) {
            let named = line.trim().trim_start_matches('\u{FEFF}').strip_prefix("event");
            let name = named.and_then(|it| it.trim_start().strip_prefix(':')).unwrap_or_default();
            let name = name.trim_matches(|char: char| char.is_whitespace() || char == '\u{FEFF}');
            prop_assert!(!name.to_lowercase().starts_with("payment-"), "{line:?}");
        }
    }
}
