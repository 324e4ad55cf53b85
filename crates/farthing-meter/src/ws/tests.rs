#![allow(clippy::arithmetic_side_effects, reason = "what is counted here is small")]

use farthing_money::Timestamp;

use super::*;

fn parse(frame: &Value) -> Option<(ClientFrame, Dialect)> {
    ClientFrame::parse(&frame.to_string()).unwrap()
}

#[test]
fn clients_speak_either_dialect() {
    let credential = || ClientFrame::Credential("Payment eyJ".to_owned());
    let hello = || ClientFrame::Message("hello".into());
    assert_eq!(
        parse(&json!({"mpp": "authorization", "authorization": "Payment eyJ"})),
        Some((credential(), Dialect::Mpp))
    );
    assert_eq!(parse(&json!({"mpp": "message", "data": "hello"})), Some((hello(), Dialect::Mpp)));
    assert_eq!(
        parse(&json!({"mpp": "payment-close-request"})),
        Some((ClientFrame::CloseRequest, Dialect::Mpp))
    );
    assert_eq!(
        parse(&json!({"type": "credential", "credential": "Payment eyJ"})),
        Some((credential(), Dialect::Typed))
    );
    assert_eq!(
        parse(&json!({"type": "message", "data": "hello"})),
        Some((hello(), Dialect::Typed))
    );
}

#[test]
fn what_is_no_frame_of_a_client_says_nothing() {
    for frame in [
        json!({}),
        json!([]),
        json!({"mpp": "authorization"}),
        json!({"mpp": "authorization", "authorization": 1}),
        json!({"mpp": "payment-receipt", "data": {}}),
        json!({"type": "receipt"}),
        // Two dialects at once would be read differently by different readers.
        json!({"mpp": "authorization", "type": "credential", "authorization": "a", "credential": "b"}),
    ] {
        assert_eq!(parse(&frame), None, "{frame}");
    }
    let twice = r#"{"mpp":"authorization","authorization":"a","authorization":"b"}"#;
    assert_eq!(ClientFrame::parse(twice), Ok(None));
}

#[test]
fn a_frame_is_as_long_as_the_limit_at_most() {
    let frame = |length: usize| {
        let text = json!({"mpp": "message", "data": ""}).to_string();
        let data = "x".repeat(length - text.len());
        json!({"mpp": "message", "data": data}).to_string()
    };
    assert!(ClientFrame::parse(&frame(FRAME_BYTES_MAX)).unwrap().is_some());
    assert_eq!(ClientFrame::parse(&frame(FRAME_BYTES_MAX + 1)), Err(FrameTooLong));
}

#[test]
fn frames_are_spelled_as_the_peers_spell_them() {
    let need = NeedVoucher {
        accepted_cumulative: 1,
        channel_id: "0x6d".to_owned(),
        deposit: u128::MAX,
        required_cumulative: 2,
    };
    let read = |frame: ServerFrame<'_>, dialect| -> Value {
        serde_json::from_str(&frame.to_text(dialect)).unwrap()
    };
    let data = json!({
        "acceptedCumulative": "1",
        "channelId": "0x6d",
        "deposit": "340282366920938463463374607431768211455",
        "requiredCumulative": "2",
    });
    let frame = read(ServerFrame::NeedVoucher(&need), Dialect::Mpp);
    assert_eq!(frame, json!({"mpp": "payment-need-voucher", "data": data}));
    let frame = read(ServerFrame::NeedVoucher(&need), Dialect::Typed);
    assert_eq!(frame["type"], "needVoucher");
    assert_eq!(frame["requiredCumulative"], "2");

    let at: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    let receipt = Receipt::new("tempo", at, "0x6d").with("units", 3);
    let frame = read(ServerFrame::CloseReady(&receipt), Dialect::Mpp);
    assert_eq!(frame["mpp"], "payment-close-ready");
    assert_eq!(frame["data"]["units"], 3);
    let frame = read(ServerFrame::Receipt(&receipt), Dialect::Typed);
    assert_eq!(frame["receipt"]["status"], "success");
    let frame = read(ServerFrame::Error { status: 402, message: "no" }, Dialect::Mpp);
    assert_eq!(frame, json!({"mpp": "payment-error", "status": 402, "message": "no"}));
}

/// W-08: a message that looks like a frame of ours is a string within one.
#[test]
fn a_forged_frame_stays_within_its_message() {
    let forged = r#"{"mpp":"payment-need-voucher","data":{"requiredCumulative":"999"}}"#;
    for dialect in [Dialect::Mpp, Dialect::Typed] {
        let text = ServerFrame::Message(forged).to_text(dialect);
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(frame["data"], forged);
        assert!(frame.get("requiredCumulative").is_none());
    }
}
