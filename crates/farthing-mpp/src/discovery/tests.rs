use serde_json::{Value, json};

use super::{Docs, PaymentInfo, ServiceInfo, faults};

fn offer() -> Value {
    json!({"intent": "charge", "method": "prepaid", "amount": "500", "currency": "usd"})
}

/// DISC.C02, DISC.S04: both forms are read, one offer alone is a list of one, and only the list
/// form is written.
#[test]
fn both_forms_of_payment_info_are_read() {
    let alone = PaymentInfo::parse(&offer()).unwrap();
    let listed = PaymentInfo::parse(&json!({"offers": [offer()]})).unwrap();
    assert_eq!(alone, listed);
    assert_eq!(serde_json::to_value(&alone).unwrap(), json!({"offers": [offer()]}));
}

/// DISC.S09: an amount is digits without leading zeros, or null for a price that depends.
#[test]
fn amounts_are_digits_or_null() {
    for (amount, valid) in [
        (json!("0"), true),
        (json!("500"), true),
        (Value::Null, true),
        (json!("007"), false),
        (json!("-1"), false),
        (json!("0.5"), false),
        (json!(""), false),
        (json!(500), false),
    ] {
        let mut offer = offer();
        offer["amount"] = amount;
        assert_eq!(PaymentInfo::parse(&offer).is_ok(), valid, "{offer}");
        assert_eq!(PaymentInfo::parse(&json!({"offers": [offer]})).is_ok(), valid, "{offer}");
    }
}

/// DISC.S03: the schema of appendix C is obeyed member by member.
#[test]
fn payment_info_outside_the_schema_is_refused() {
    let altered = |alter: fn(&mut Value)| {
        let mut offer = offer();
        alter(&mut offer);
        offer
    };
    for value in [
        json!({"offers": []}),
        json!({"offers": [offer()], "note": "x"}),
        json!({"offers": {}}),
        json!([]),
        json!(null),
        altered(|offer| offer["intent"] = "subscription".into()),
        altered(|offer| offer["extra"] = true.into()),
        altered(|offer| drop(offer.as_object_mut().unwrap().remove("amount"))),
        altered(|offer| drop(offer.as_object_mut().unwrap().remove("method"))),
    ] {
        assert!(PaymentInfo::parse(&value).is_err(), "{value}");
    }
}

/// DISC.S01, DISC.S03, DISC.S05: what a document must have is looked for.
#[test]
fn faults_of_a_document_are_named() {
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Weather", "version": "1"},
        "paths": {"/w": {"get": {"x-payment-info": {"offers": [offer()]}, "responses": {"402": {}}}}},
    });
    let check = |alter: fn(&mut Value), want: &[&str]| {
        let mut document = document.clone();
        alter(&mut document);
        let faults = faults(document.as_object().unwrap());
        assert_eq!(faults.iter().map(|fault| fault.at.as_str()).collect::<Vec<_>>(), want);
    };
    check(|_| (), &[]);
    check(|d| d["openapi"] = "2.0".into(), &["openapi"]);
    check(|d| d["info"] = json!({}), &["info.title", "info.version"]);
    check(|d| d["paths"] = json!({}), &["paths"]);
    check(
        |d| d["paths"]["/w"]["get"]["responses"] = json!({"200": {}}),
        &["paths./w.get.responses"],
    );
    check(
        |d| d["paths"]["/w"]["get"]["x-payment-info"] = json!({"offers": []}),
        &["paths./w.get.x-payment-info"],
    );
}

#[test]
fn service_info_leaves_out_what_it_does_not_know() {
    assert_eq!(serde_json::to_value(ServiceInfo::default()).unwrap(), json!({}));
    let docs = Docs { api_reference: Some("https://a.example/r".into()), ..Docs::default() };
    let info = ServiceInfo { categories: vec!["data".into()], docs };
    let want = json!({"categories": ["data"], "docs": {"apiReference": "https://a.example/r"}});
    assert_eq!(serde_json::to_value(info).unwrap(), want);
}
