use http::HeaderValue;

use super::*;
use crate::Voice;

fn answer(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    let mut map = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        map.append(name, value);
    }
    map
}

fn refused(measure: Measure, fields: &[(&'static str, &'static str)]) -> Option<Unmeterable> {
    Terms::new(measure).meter(&answer(fields)).err()
}

#[test]
fn whatever_a_client_may_take_for_events_is_cut_as_events() {
    for kind in
        ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/plain, text/event-stream"]
    {
        let meter = Terms::new(Measure::Bytes).meter(&answer(&[("content-type", kind)])).unwrap();
        assert!(meter.voice() == Voice::Events, "{kind}");
    }
    let twice = answer(&[("content-type", "text/plain"), ("content-type", "text/event-stream")]);
    assert!(Terms::new(Measure::Bytes).meter(&twice).unwrap().voice() == Voice::Events);
    let lines = answer(&[("content-type", "application/x-ndjson")]);
    assert_eq!(Terms::new(Measure::Lines).meter(&lines).unwrap().voice(), Voice::Silent);
}

#[test]
fn an_answer_of_another_kind_than_the_measure_is_refused() {
    let tokens = || Measure::Tokens(Tokens::default());
    assert_eq!(refused(tokens(), &[("content-type", "text/event-stream")]), None);
    assert_eq!(refused(tokens(), &[("content-type", "application/json")]), None);
    assert_eq!(refused(tokens(), &[("content-type", "application/problem+json")]), None);
    assert_eq!(refused(tokens(), &[("content-type", "text/plain")]), Some(Unmeterable::Kind));
    assert_eq!(refused(tokens(), &[]), Some(Unmeterable::Kind));
    assert_eq!(
        refused(Measure::Events, &[("content-type", "application/json")]),
        Some(Unmeterable::Kind)
    );
    assert_eq!(refused(Measure::Events, &[("content-type", "text/event-stream")]), None);
}

/// W-08: what cannot be looked into is not passed on, since anything could stand in it.
#[test]
fn a_compressed_stream_of_events_is_refused() {
    let events = ("content-type", "text/event-stream");
    let encoded = Some(Unmeterable::Encoded);
    assert_eq!(refused(Measure::Seconds, &[events, ("content-encoding", "gzip")]), encoded);
    assert_eq!(refused(Measure::Events, &[events, ("content-encoding", "identity, br")]), encoded);
    assert_eq!(refused(Measure::Events, &[events, ("content-encoding", "Identity")]), None);
    assert_eq!(refused(Measure::Lines, &[("content-encoding", "gzip")]), encoded);
    assert_eq!(refused(Measure::Bytes, &[("content-encoding", "gzip")]), None);
}

#[test]
fn a_worth_in_a_field_is_one_number() {
    let units = HeaderName::from_static("x-units");
    let refused =
        |fields: &[(&'static str, &'static str)]| refused(Measure::Header(units.clone()), fields);
    assert_eq!(refused(&[("x-units", "12")]), None);
    for fields in [
        &[][..],
        &[("x-units", "")],
        &[("x-units", "-1")],
        &[("x-units", "+1")],
        &[("x-units", "1.5")],
        &[("x-units", "18446744073709551616")],
        &[("x-units", "1"), ("x-units", "1")],
    ] {
        assert_eq!(refused(fields), Some(Unmeterable::Unreported), "{fields:?}");
    }
}

#[test]
fn messages_are_counted_or_weighed_or_timed() {
    for measure in [Measure::Bytes, Measure::Events, Measure::Seconds] {
        assert!(Terms::new(measure).meter_messages(Dialect::Mpp).is_ok());
    }
    assert!(Terms::new(Measure::Tokens(Tokens::default())).meter_messages(Dialect::Mpp).is_err());
}
