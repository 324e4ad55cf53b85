use super::*;

#[test]
fn odd_input_is_refused_calmly() {
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    for odd in
        [json!({}), json!({ "currency": 7 }), json!({ "currency": "0x", "methodDetails": 1 })]
    {
        assert!(verify_receipt("r", "c", &object(odd.clone()), &json!({})).is_err(), "{odd}");
        assert!(cosign(&json!({ "request": odd }), 0).is_err(), "{odd}");
    }
    for odd in [json!(null), json!({ "transaction": {} }), json!({ "transaction": { "calls": 7 } })]
    {
        assert!(cosign(&odd, u64::MAX).is_err(), "{odd}");
    }
    assert!(proof_typed_data(1, "", "c", "r").is_err());
}
