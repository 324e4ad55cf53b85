#![allow(clippy::arithmetic_side_effects, reason = "what is counted here is small")]

use std::num::NonZeroU64;

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use sse_parse::SseParser;

use super::*;
use crate::terms::{Limits, Tokens};
use crate::ws::Dialect;

/// A stream that came to its end, or not.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    given: Vec<u8>,
    used: u64,
    unused: u64,
    forged: u64,
    error: Option<MeterError>,
}

fn events() -> HeaderMap {
    content_type("text/event-stream")
}

fn content_type(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))])
}

/// Runs a stream in these chunks. `pays` answers each wish with the units it takes; none ends it.
fn run(
    terms: &Terms,
    head: &HeaderMap,
    chunks: &[&[u8]],
    mut pays: impl FnMut(Wanted) -> u64,
    mut seen: impl FnMut(&[u8], u64),
) -> Outcome {
    let mut meter = terms.meter(head).unwrap();
    let mut chunks = chunks.iter();
    let (mut given, mut paid, mut error) = (Vec::new(), 0, None);
    loop {
        match meter.next(Duration::ZERO) {
            Ok(Next::Release(bytes)) => {
                given.extend_from_slice(&bytes);
                seen(&given, paid);
                assert!(meter.used() <= paid);
            }
            Ok(Next::Take(wanted)) => {
                assert!(0 < wanted.least && wanted.least <= wanted.most);
                let units = pays(wanted);
                assert!(units == 0 || (wanted.least..=wanted.most).contains(&units));
                if units == 0 {
                    break;
                }
                paid += units;
                meter.paid(units);
            }
            Ok(Next::Upstream) => match chunks.next() {
                Some(chunk) => meter.push(Bytes::copy_from_slice(chunk)),
                None => meter.end(),
            },
            Ok(Next::Done) => break,
            Err(failed) => {
                error = Some(failed);
                break;
            }
        }
    }
    assert_eq!(meter.used() + meter.unused(), paid);
    Outcome { given, used: meter.used(), unused: meter.unused(), forged: meter.forged(), error }
}

fn rich(terms: &Terms, head: &HeaderMap, chunks: &[&[u8]]) -> Outcome {
    run(terms, head, chunks, |wanted| wanted.most, |_, _| {})
}

fn every(measure: Measure, every: u64) -> Terms {
    Terms { every: NonZeroU64::new(every).unwrap(), ..Terms::new(measure) }
}

/// SES.S08: what was paid is given, and nothing beyond it.
#[test]
fn a_stream_stops_where_the_money_ends() {
    let terms = every(Measure::Events, 1);
    let stream = b"data: 1\n\n: hi\n\ndata: 2\n\ndata: 3\n\ndata: [DONE]\n\n";
    for (balance, expected) in [
        (0, &b""[..]),
        (1, b"data: 1\n\n: hi\n\n"),
        (2, b"data: 1\n\n: hi\n\ndata: 2\n\n"),
        (3, &stream[..]),
        (9, &stream[..]),
    ] {
        let mut left = balance;
        let pays = |wanted: Wanted| {
            let units = wanted.most.min(left);
            left -= units;
            units
        };
        let outcome = run(&terms, &events(), &[stream], pays, |_, _| {});
        assert_eq!((&*outcome.given, outcome.used), (expected, balance.min(3)));
        assert_eq!(outcome.unused, 0, "what is taken at once is what is at hand");
    }
}

/// SES.S08: bytes are given to the last one that was paid.
#[test]
fn bytes_are_given_by_the_byte() {
    let terms = every(Measure::Bytes, 10);
    let mut left = 2;
    let pays = |wanted: Wanted| {
        let units = wanted.most.min(left);
        left -= units;
        units
    };
    let stream: Vec<u8> = (0..30).collect();
    let outcome = run(&terms, &HeaderMap::new(), &[&stream[..7], &stream[7..]], pays, |_, _| {});
    assert_eq!(outcome.given, stream[..20]);
    assert_eq!(outcome.used, 2);
}

#[test]
fn lines_are_given_by_the_line_however_long() {
    let terms = every(Measure::Lines, 1);
    let long = "x".repeat(100_000);
    let stream = format!("\r\n{long}\n\n  \n{{}}");
    let head = content_type("application/x-ndjson");
    let outcome = rich(&terms, &head, &[stream.as_bytes()]);
    assert_eq!((outcome.given, outcome.used), (stream.into_bytes(), 2));
    let outcome =
        run(&terms, &head, &[b"a\nb\nc"], |wanted| if wanted.most == 3 { 2 } else { 0 }, |_, _| {});
    assert_eq!((&*outcome.given, outcome.used), (&b"a\nb\n"[..], 2));
}

/// SES.S14: an estimate that was too high is given back, and one that was too low is due before the
/// event that says so.
#[test]
fn reports_settle_the_estimate() {
    let terms = every(Measure::Tokens(Tokens { input: 0, ..Tokens::default() }), 1);
    let text =
        r#"data: {"choices":[{"delta":{"content":"0123456789ABCDEF"}}]}"#.to_owned() + "\n\n";
    let report = |tokens: u64| {
        format!(r#"data: {{"choices":[],"usage":{{"completion_tokens":{tokens}}}}}"#) + "\n\n"
    };
    let end = "data: [DONE]\n\n";
    let low = [text.as_bytes(), report(2).as_bytes(), end.as_bytes()].concat();
    let outcome = rich(&terms, &events(), &[&low]);
    assert_eq!((outcome.used, outcome.unused, outcome.given), (2, 2, low));

    let high = [text.as_bytes(), report(50).as_bytes(), end.as_bytes()].concat();
    let outcome = rich(&terms, &events(), &[&high]);
    assert_eq!((outcome.used, outcome.unused, &outcome.given), (50, 0, &high));
    let poor = |wanted: Wanted| if wanted.least == 4 { 4 } else { 0 };
    let outcome = run(&terms, &events(), &[&high], poor, |_, _| {});
    assert_eq!((outcome.used, outcome.given), (4, text.into_bytes()));
}

/// SES.S14: a reserve is taken before the first byte, and what is left of it given back.
#[test]
fn a_reserve_comes_first() {
    let terms = Terms { reserve_units: 40, ..every(Measure::Events, 1) };
    let mut wishes = Vec::new();
    let pays = |wanted: Wanted| {
        wishes.push(wanted);
        wanted.most
    };
    let outcome = run(&terms, &events(), &[b"data: 1\n\n", b"data: 2\n\n"], pays, |_, _| {});
    assert_eq!((outcome.used, outcome.unused), (2, 38));
    assert_eq!(wishes, [Wanted { least: 40, most: 40 }]);
    let outcome = rich(&terms, &events(), &[]);
    assert_eq!((outcome.used, outcome.unused), (0, 0), "an empty answer costs nothing");
}

#[test]
fn what_a_field_announces_is_due_before_the_first_byte() {
    let units = HeaderName::from_static("x-units");
    let mut head = content_type("application/json");
    head.insert(units.clone(), 12.into());
    let terms = every(Measure::Header(units), 5);
    let outcome = run(&terms, &head, &[b"{}", b"[]"], |wanted| wanted.least, |_, _| {});
    assert_eq!((&*outcome.given, outcome.used), (&b"{}[]"[..], 3));
    let outcome = run(&terms, &head, &[b"{}"], |_| 0, |_, _| {});
    assert_eq!(outcome.given, b"");
}

#[test]
fn a_json_answer_is_given_whole_or_not_at_all() {
    let terms = every(Measure::Tokens(Tokens::default()), 1000);
    let answer = br#"{"content":[],"usage":{"input_tokens":999,"output_tokens":2}}"#;
    let (one, two) = answer.split_at(20);
    let outcome = rich(&terms, &content_type("application/json"), &[one, two]);
    assert_eq!((&*outcome.given, outcome.used), (&answer[..], 2));
    let outcome = run(&terms, &content_type("application/json"), &[one, two], |_| 0, |_, _| {});
    assert_eq!(outcome.given, b"");
}

/// SES.S08: seconds are paid as they begin, whether something comes or not.
#[test]
fn time_is_paid_as_it_begins() {
    let terms = every(Measure::Seconds, 2);
    let mut meter = terms.meter(&HeaderMap::new()).unwrap();
    let at = Duration::from_millis;
    assert_eq!(meter.next(at(700)), Ok(Next::Upstream), "before the first byte nothing runs");
    assert_eq!(meter.due_in(at(700)), None);
    meter.push(Bytes::from_static(b"a"));
    let one = Next::Take(Wanted { least: 1, most: 1 });
    assert_eq!(meter.next(at(1000)), Ok(one.clone()));
    meter.paid(1);
    assert_eq!(meter.next(at(1000)), Ok(Next::Release(Bytes::from_static(b"a"))));
    assert_eq!(meter.next(at(2999)), Ok(Next::Upstream));
    assert_eq!(meter.due_in(at(2500)), Some(at(500)));
    assert_eq!(meter.next(at(3000)), Ok(one), "silence is paid for too");
    meter.paid(1);
    assert_eq!((meter.next(at(3000)), meter.used()), (Ok(Next::Upstream), 2));
    meter.push(Bytes::from_static(b"b"));
    assert_eq!(meter.next(at(9100)), Ok(Next::Take(Wanted { least: 3, most: 3 })));
    meter.paid(3);
    assert_eq!(meter.next(at(9100)), Ok(Next::Release(Bytes::from_static(b"b"))));
    meter.end();
    assert_eq!(meter.next(at(99_000)), Ok(Next::Done), "the end is free");
    assert_eq!((meter.used(), meter.unused()), (5, 0));
}

/// What is too long to hold ends the stream, after what came before it, and costs nothing.
#[test]
fn what_is_too_long_ends_the_stream() {
    let limits = Limits { event_bytes_max: 20, answer_bytes_max: 20, ..Limits::default() };
    let terms = Terms { limits, ..every(Measure::Events, 1) };
    let stream = b"data: 1\n\ndata: 0123456789ABCDEF\n\ndata: 2\n\n";
    for chunk in [1, 12, stream.len()] {
        let chunks: Vec<&[u8]> = stream.chunks(chunk).collect();
        let outcome = rich(&terms, &events(), &chunks);
        assert_eq!((&*outcome.given, outcome.used), (&b"data: 1\n\n"[..], 1));
        assert_eq!(outcome.error, Some(MeterError::EventTooLong(20)));
    }
    let terms = Terms { limits, ..every(Measure::Tokens(Tokens::default()), 1) };
    let outcome =
        rich(&terms, &content_type("application/json"), &[b"{\"content\":", b"\"0123456789\"}"]);
    assert_eq!((&*outcome.given, outcome.used), (&b""[..], 0));
    assert_eq!(outcome.error, Some(MeterError::AnswerTooLong(20)));
}

#[test]
fn an_upstream_that_breaks_off_leaves_no_half_event() {
    let mut meter = every(Measure::Events, 1).meter(&events()).unwrap();
    meter.push(Bytes::from_static(b"data: 1\n\ndata: {\"half"));
    meter.paid(2);
    assert!(matches!(meter.next(Duration::ZERO), Ok(Next::Release(_))));
    assert_eq!(meter.next(Duration::ZERO), Ok(Next::Upstream));
    meter.fail();
    assert_eq!(meter.next(Duration::ZERO), Ok(Next::Done));
    assert_eq!((meter.used(), meter.unused()), (1, 1));
}

#[test]
fn an_end_in_the_middle_of_an_event_leaves_room_for_ours() {
    let outcome = rich(&every(Measure::Events, 1), &events(), &[b"data: [DONE]\n"]);
    assert_eq!(outcome.given, b"data: [DONE]\n\n");
    let outcome = rich(&every(Measure::Events, 1), &events(), &[b"data: a"]);
    assert_eq!((&*outcome.given, outcome.used), (&b"data: a\n\n"[..], 1));
}

#[test]
fn messages_are_given_one_by_one() {
    let mut meter = every(Measure::Events, 1).meter_messages(Dialect::Mpp).unwrap();
    meter.push(Bytes::from_static(b"hello"));
    assert_eq!(meter.next(Duration::ZERO), Ok(Next::Take(Wanted { least: 1, most: 1 })));
    meter.paid(1);
    let Ok(Next::Release(frame)) = meter.next(Duration::ZERO) else { panic!("a frame") };
    let frame: serde_json::Value = serde_json::from_slice(&frame).unwrap();
    assert_eq!(frame, serde_json::json!({ "data": "hello", "mpp": "message" }));
    assert_eq!(meter.next(Duration::ZERO), Ok(Next::Upstream));
}

fn measure() -> impl Strategy<Value = (Measure, &'static str)> {
    let chat = Tokens { input: 0, ..Tokens::default() };
    prop_oneof![
        Just((Measure::Bytes, "text/plain")),
        Just((Measure::Bytes, "text/event-stream")),
        Just((Measure::Lines, "text/plain")),
        Just((Measure::Lines, "text/event-stream")),
        Just((Measure::Events, "text/event-stream")),
        Just((Measure::Tokens(chat.clone()), "text/event-stream")),
        Just((Measure::Tokens(chat), "application/json")),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("data: 1"),
        Just("data: {\"choices\":[{\"delta\":{\"content\":\"hello there\"}}]}"),
        Just("data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}"),
        Just("event: payment-receipt"),
        Just("event: token"),
        Just(": hi"),
        Just("\n"),
        Just("\n\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\u{FEFF}"),
        Just(" "),
        Just("é"),
    ];
    vec(word, 0..40).prop_map(|words| words.concat().into_bytes())
}

fn chunks<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for &length in lengths {
        let (chunk, rest) = bytes.split_at(length.min(bytes.len()));
        chunks.push(chunk);
        bytes = rest;
    }
    chunks.push(bytes);
    chunks
}

/// The events of the protocol that a parser of the standard finds, and how many there are with data.
fn oracle(stream: &[u8]) -> (u64, u64) {
    let mut parser = SseParser::new();
    parser.feed(stream);
    let (mut events, mut payments) = (0, 0);
    while let Some(event) = parser.next_event() {
        events += 1;
        payments += u64::from(event.event.starts_with("payment-"));
    }
    (events, payments)
}

proptest! {
    /// SES.S08, S-13: whatever chunks a stream comes in and however it is paid, the same is given and
    /// charged; all that is left of a forger's words is renamed.
    #[test]
    fn chunks_change_nothing(
        (measure, kind) in measure(),
        stream in stream(),
        lengths in vec(0usize..30, 0..40),
        unit in 1u64..5,
        generous in any::<bool>(),
    ) {
        let (terms, head) = (every(measure, unit), content_type(kind));
        let whole = rich(&terms, &head, &[&stream]);
        let pays = |wanted: Wanted| if generous { wanted.most } else { wanted.least };
        let cut = run(&terms, &head, &chunks(&stream, &lengths), pays, |_, _| {});
        prop_assert_eq!((&cut.given, cut.used, cut.forged), (&whole.given, whole.used, whole.forged));
        if kind == "text/event-stream" {
            let marked = String::from_utf8(whole.given).unwrap();
            prop_assert_eq!(oracle(marked.as_bytes()).1, 0);
            let given = marked.replace(crate::NEUTRALISED_PREFIX, "");
            prop_assert!(given.as_bytes().starts_with(&stream));
            prop_assert!(given.len() <= stream.len() + 2, "and the line ends it lacked");
        } else {
            prop_assert_eq!(whole.given, stream);
        }
    }

    /// SES.S08, S-13: at every step what was served is paid, whenever the money ends.
    #[test]
    fn served_never_exceeds_paid(
        stream in stream(),
        lengths in vec(0usize..30, 0..40),
        unit in 1u64..5,
        grants in vec(0u64..4, 0..20),
    ) {
        for (measure, kind) in [
            (Measure::Events, "text/event-stream"),
            (Measure::Bytes, "text/plain"),
            (Measure::Lines, "text/plain"),
        ] {
            let (terms, head) = (every(measure.clone(), unit), content_type(kind));
            let mut grants = grants.iter().copied();
            let pays = |wanted: Wanted| match grants.next() {
                Some(units) if units > 0 => units.clamp(wanted.least, wanted.most),
                _ => 0,
            };
            let served = |given: &[u8], paid: u64| {
                let text = String::from_utf8_lossy(given);
                let lines = text.split('\n').filter(|line| !line.trim().is_empty());
                let quantity = if measure == Measure::Events {
                    oracle(given).0
                } else if measure == Measure::Lines {
                    u64::try_from(lines.count()).unwrap()
                } else {
                    u64::try_from(given.len()).unwrap()
                };
                assert!(quantity <= paid * unit, "{quantity} for {paid} units of {unit}: {text:?}");
            };
            run(&terms, &head, &chunks(&stream, &lengths), pays, served);
        }
    }
}
