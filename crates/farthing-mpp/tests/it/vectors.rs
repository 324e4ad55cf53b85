//! `payment-auth.json`: the cross-implementation vectors of the Payment scheme.

use std::path::Path;

use farthing_mpp::{BindingInput, Challenge, Credential, Receipt, base64url, challenge_id, json};
use serde_json::Value;

/// The vectors, or nothing when the folder is not beside the project.
fn vectors() -> Option<Value> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors");
    let path = beside.join("payment-auth.json");
    let bytes = std::fs::read(&path);
    if bytes.is_err() {
        eprintln!("skipped: payment-auth.json is not beside the project");
    }
    bytes.ok().map(|bytes| serde_json::from_slice(&bytes).unwrap())
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn optional<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

/// Runs `check` over a section and says how many vectors it saw.
#[track_caller]
fn each(section: &str, count: usize, check: impl Fn(&str, &Value)) {
    let Some(vectors) = vectors() else { return };
    let entries = vectors[section].as_array().unwrap();
    assert_eq!(entries.len(), count, "{section}: the file has grown or shrunk");
    for entry in entries {
        check(text(entry, "name"), entry);
    }
}

fn from_hex(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}

fn params(challenge: &Challenge) -> Value {
    serde_json::to_value(challenge).unwrap()
}

/// M-09: RFC 8785, number by number and character by character.
#[test]
fn canonicalization() {
    each("canonicalization", 22, |name, entry| {
        if entry["error"] == true {
            assert!(json::parse(text(entry, "input").as_bytes()).is_err(), "{name}");
            return;
        }
        let input: Value = serde_json::from_str(text(entry, "input")).unwrap();
        assert_eq!(json::canonical(&input), text(entry, "canonical"), "{name}");
    });
}

#[test]
fn base64url_strings() {
    each("base64url", 17, |name, entry| {
        let encoded = text(entry, "encoded");
        let decoded = base64url::decode(encoded);
        if entry["error"] == true {
            assert!(decoded.is_err(), "{name}");
            return;
        }
        let bytes = decoded.unwrap();
        assert_eq!(bytes, from_hex(text(entry, "decodedHex")), "{name}");
        assert_eq!(base64url::encode(&bytes) == encoded, entry["canonical"] == true, "{name}");
    });
}

#[test]
fn challenge_headers() {
    each("challengeHeaders", 6, |name, entry| {
        let want = text(entry, "header");
        let challenge: Challenge = serde_json::from_value(entry["params"].clone()).unwrap();
        assert_eq!(challenge.format().unwrap(), want, "{name}");
        assert_eq!(params(&Challenge::parse(want).unwrap()), entry["parsed"], "{name}");
    });
}

#[test]
fn challenge_lists() {
    each("challengeLists", 11, |name, entry| {
        let found = Challenge::parse_all([text(entry, "header")]);
        if entry["error"] == true {
            assert!(found.is_empty(), "{name}");
            return;
        }
        let found: Vec<Value> = found.iter().map(params).collect();
        assert_eq!(Value::Array(found), entry["challenges"], "{name}");
    });
}

#[test]
fn challenge_ids() {
    let Some(all) = vectors() else { return };
    let key = from_hex(text(&all, "hmacSecretHex"));
    each("challengeIds", 4, |name, entry| {
        let slots = &entry["params"];
        let input = BindingInput {
            realm: text(slots, "realm"),
            method: text(slots, "method"),
            intent: text(slots, "intent"),
            request: text(slots, "request"),
            expires: optional(slots, "expires"),
            digest: optional(slots, "digest"),
            header: None,
            opaque: optional(slots, "opaque"),
        };
        assert_eq!(challenge_id(&key, &input), text(slots, "id"), "{name}");
    });
}

#[test]
fn credentials() {
    each("credentials", 11, |name, entry| {
        let read = Credential::parse(text(entry, "header"));
        if entry["error"] == true {
            assert!(read.is_err(), "{name}");
            return;
        }
        let credential = read.ok().unwrap();
        let want: Value = serde_json::from_str(text(entry, "credentialJson")).unwrap();
        assert_eq!(serde_json::to_value(&credential).unwrap(), want, "{name}");
        let again = Credential::parse(&credential.format()).ok().unwrap();
        assert!(again == credential, "{name}");
    });
}

#[test]
fn receipts() {
    each("receipts", 8, |name, entry| {
        let header = text(entry, "header");
        let want: Value = serde_json::from_str(text(entry, "receiptJson")).unwrap();
        assert_eq!(base64url::encode(text(entry, "receiptJson")), header, "{name}");
        if want.get("status").is_none() {
            // An event of the streaming extension: the same encoding, but not a receipt.
            assert_eq!(Value::Object(json::decode(header).unwrap()), want, "{name}");
            assert!(Receipt::parse(header).is_err(), "{name}");
            return;
        }
        let receipt = Receipt::parse(header).unwrap();
        assert_eq!(serde_json::to_value(&receipt).unwrap(), want, "{name}");
        assert_eq!(Receipt::parse(&receipt.format()), Ok(receipt), "{name}");
    });
}
