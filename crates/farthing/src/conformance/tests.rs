use serde_json::{Value, json};

use super::respond;

#[track_caller]
fn ask(op: &str, input: &Value) -> Value {
    respond(json!({ "schema": 1, "op": op, "input": input }).to_string().as_bytes())
}

/// Asks and expects a value.
#[track_caller]
fn value(op: &str, input: &Value) -> Value {
    let response = ask(op, input);
    assert_eq!(response["ok"], true, "{op}: {response}");
    response["value"].clone()
}

/// Asks and expects an error of this type, with words.
#[track_caller]
fn fails(op: &str, input: &Value, kind: &str) {
    let response = ask(op, input);
    assert_eq!(response["ok"], false, "{op}: {response}");
    assert_eq!(response["error"]["type"], kind, "{op}: {response}");
    assert!(response["error"]["message"].as_str().is_some_and(|it| !it.is_empty()), "{response}");
}

const HEADER: &str = r#"Payment id="c-1", realm="shop.example", method="prepaid", intent="charge", request="eyJhbW91bnQiOiI3In0", description="A \"fine\" thing""#;

#[test]
fn challenges_are_read_and_written() {
    let challenge = value("challenge.parse", &json!({ "header": HEADER }));
    let want = json!({
        "id": "c-1", "realm": "shop.example", "method": "prepaid", "intent": "charge",
        "request": { "amount": "7" }, "description": "A \"fine\" thing",
    });
    assert_eq!(challenge, want);
    assert_eq!(value("challenge.format", &want), json!({ "header": HEADER }));
    let opaque = format!("{HEADER}, opaque=\"anything\", colour=\"red\"");
    let challenge = value("challenge.parse", &json!({ "header": opaque }));
    assert_eq!(challenge["opaque"], "anything", "a text, whatever it encodes");
    assert_eq!(challenge.get("colour"), None);
}

#[test]
fn what_is_no_challenge_is_a_parse_error() {
    let error =
        |header: &str| fails("challenge.parse", &json!({ "header": header }), "parse_error");
    error("");
    error("Payment");
    error("Bearer x");
    error(&HEADER.replace("id=\"c-1\", ", ""));
    error(&HEADER.replace("c-1", ""));
    error(&HEADER.replace("eyJhbW91bnQiOiI3In0", "bm8ganNvbg"));
    error(&HEADER.replace("eyJhbW91bnQiOiI3In0", "!!!"));
    error(&format!("{HEADER}, id=\"c-2\""));
    let challenge = value("challenge.parse", &json!({ "header": HEADER }));
    for (name, odd) in [("id", ""), ("method", "UPPER"), ("realm", "a\r\nb"), ("intent", "a b")] {
        let mut challenge = challenge.clone();
        challenge[name] = odd.into();
        fails("challenge.format", &challenge, "format_error");
    }
    fails("challenge.format", &json!({ "id": "c" }), "format_error");
}

#[test]
fn credentials_are_read_and_written() {
    let mut credential = json!({
        "challenge": {
            "id": "c-1", "realm": "r", "method": "prepaid", "intent": "charge",
            "request": { "b": 1, "a": [true] }, "header": "Payment-Authorization",
        },
        "payload": { "type": "signature", "signature": "AAAA" },
        "source": "did:key:z6Mk",
    });
    let header = value("credential.format", &credential);
    assert!(header["header"].as_str().unwrap().starts_with("Payment ey"));
    assert_eq!(value("credential.parse", &header), credential);
    credential.as_object_mut().unwrap().remove("source");
    let header = value("credential.format", &credential);
    assert_eq!(value("credential.parse", &header), credential);
    for odd in ["Payment W10", "Payment e30", "Payment ???", "Bearer e30", "Payment", ""] {
        fails("credential.parse", &json!({ "header": odd }), "parse_error");
    }
    credential["challenge"]["id"] = "".into();
    fails("credential.format", &credential, "format_error");
    fails("credential.format", &json!({ "payload": {} }), "format_error");
}

#[test]
fn receipts_are_read_and_written() {
    let receipt = json!({
        "status": "success", "method": "prepaid", "timestamp": "2026-11-21T08:00:00Z",
        "reference": "pay_1", "externalId": "order-7",
    });
    let header = value("receipt.format", &receipt);
    assert_eq!(value("receipt.parse", &header), receipt);
    for (name, odd) in [("status", "failed"), ("timestamp", "yesterday"), ("reference", "")] {
        let mut receipt = receipt.clone();
        receipt[name] = odd.into();
        fails("receipt.format", &receipt, "format_error");
    }
    for odd in ["", "W10", "e30", "!"] {
        fails("receipt.parse", &json!({ "header": odd }), "parse_error");
    }
}

#[test]
fn base64url_is_strict() {
    for (text, encoded) in [("", ""), ("a", "YQ"), ("ü?>", "w7w_Pg"), ("~~~", "fn5-")] {
        let (text, encoded) = (json!({ "text": text }), json!({ "text": encoded }));
        assert_eq!(value("base64url.encode", &text), encoded);
        assert_eq!(value("base64url.decode", &encoded), text);
    }
    for odd in ["YQ=!", "a", "not valid", "_w"] {
        fails("base64url.decode", &json!({ "text": odd }), "encoding_error");
    }
}

/// The ids of §5.1.2.1.1 under a short key: the same as `openssl dgst -sha256 -hmac secret` says
/// of `r|prepaid|charge|e30|||` and of the same with a digest, a field and correlation data.
#[test]
fn ids_are_generated() {
    let input = json!({
        "secretKey": "secret", "realm": "r", "method": "prepaid", "intent": "charge",
        "request": {},
    });
    let id = |input: &Value| value("challenge.id", input)["id"].as_str().unwrap().to_owned();
    assert_eq!(id(&input), "nMuCfQFmj_Zc50wB-yqTv3xalvLlntC9C1AedzTTGvg");
    let mut more = input.clone();
    more["description"] = "not bound".into();
    more["header"] = "Authorization".into();
    assert_eq!(id(&more), id(&input));
    more["expires"] = "2026-11-21T08:00:00Z".into();
    more["digest"] = "sha-256=:AAAA:".into();
    more["header"] = "Payment-Authorization".into();
    more["opaque"] = "o".into();
    assert_eq!(id(&more), "F8xFv04GJ_N29gy2c8eJQBP7KFndnQGEIBTKEOyf1nk");
    fails("challenge.id", &json!({ "secretKey": "s" }), "generation_error");
    fails("challenge.id", &json!({ "realm": "r" }), "generation_error");
}

#[test]
fn what_is_not_understood_is_said_so() {
    fails("tempo.receipt.verify", &json!({}), "unsupported_operation");
    fails("challenge.parse", &json!({ "text": "" }), "unknown_error");
    for odd in ["", "{", "[]", r#"{"schema":2,"op":"challenge.parse","input":{}}"#] {
        let response = respond(odd.as_bytes());
        assert_eq!(response["error"]["type"], "unknown_error", "{odd}: {response}");
    }
}
