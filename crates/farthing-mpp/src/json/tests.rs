use proptest::prelude::*;
use serde_json::json;

use super::{MalformedJson, canonical, decode, encode, parse};

/// M-03: what two readers could read differently, or one could choke on, is refused.
#[test]
fn ambiguous_and_endless_json_is_refused() {
    assert!(parse(br#"{"a":{"b":[1,{"c":null}]}}"#).is_ok());
    for text in [
        r#"{"a":1,"a":2}"#,
        r#"{"a":{"b":1,"b":1}}"#,
        r#"{"a":[{"b":1,"b":1}]}"#,
        "[]",
        "1",
        "null",
        "",
        "{",
        r#"{"a":1}{"#,
        r#"{"a":1} x"#,
        r#"{"a":NaN}"#,
        r#"{"a":1e999}"#,
    ] {
        assert_eq!(parse(text.as_bytes()), Err(MalformedJson), "{text}");
    }
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(nested(31).as_bytes()).is_ok());
    assert_eq!(parse(nested(32).as_bytes()), Err(MalformedJson));
    assert_eq!(parse(nested(10_000).as_bytes()), Err(MalformedJson));
}

#[test]
fn objects_are_written_canonically() {
    let object = json!({"b": 1.0, "a": "<&>", "10": 1e21, "2": []});
    assert_eq!(canonical(&object), r#"{"10":1e+21,"2":[],"a":"<&>","b":1}"#);
    let object = object.as_object().unwrap();
    assert_eq!(decode(&encode(object)).unwrap()["a"], "<&>");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = parse(&bytes);
    }

    #[test]
    fn canonical_form_is_a_fixed_point(text in r#"\{("[a-e]":(-?[0-9]{1,20}|[0-9]\.[0-9]{1,17}|"[ -~é😀]{0,5}")(,"[f-k]":null)?)?\}"#) {
        if let Ok(object) = parse(text.as_bytes()) {
            let once = canonical(&object);
            prop_assert_eq!(canonical(&parse(once.as_bytes()).unwrap()), once);
        }
    }
}
