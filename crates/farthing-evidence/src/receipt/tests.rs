//! A receipt is believed as it was signed, and in no other form.

use farthing_ledger::{Fingerprint, Holder, Terms};
use farthing_money::Timestamp;
use farthing_mpp::base64url;

use super::*;
use crate::SecretKey;

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_123_456);

fn notary() -> Notary {
    let [old, new] = [[1; 32], [2; 32]].map(|bytes| SecretKey::from_bytes(&bytes));
    Notary::new("api.example.com", new, &[old]).ok().unwrap()
}

pub(crate) fn payment(challenge: &str) -> Payment {
    Payment {
        id: PaymentId::of(&Fingerprint::of("challenge", &[challenge.as_bytes()])),
        trace: TraceId::new(NOW, [7; 10]),
        protocol: "mpp".into(),
        method: "prepaid".into(),
        intent: "charge".into(),
        challenge: challenge.into(),
        amount: Amount::new("usd".parse().unwrap(), 25),
        payer: "did:key:z6Mk".into(),
        payee: Holder::new("seller").unwrap(),
        route: "forecast".into(),
        scope: "0123456789abcdef0123456789abcdef".into(),
        credential: Fingerprint::of("credential", &[challenge.as_bytes()]),
        expires_at: NOW,
        request: None,
        inquiry: None,
        terms: Terms::default(),
        voucher: None,
        decision: None,
        subscription: None,
    }
}

fn claims() -> ReceiptClaims {
    let settlement = Settlement::new("tx-1".into(), NOW);
    ReceiptClaims::of("api.example.com", &payment("c-1"), &settlement, Some(&[0xab; 32]))
}

#[test]
fn a_receipt_names_everything_that_was_paid_for() {
    let token = claims().sign(&notary());
    assert_eq!(token, claims().sign(&notary()), "the same payment, the same receipt");
    let keys = notary().published().clone();
    let expected = Expected { issuer: Some("api.example.com"), challenge: Some("c-1") };
    assert_eq!(ReceiptClaims::verify(&token, &keys, expected), Ok(claims()));
    let payload = base64url::decode(token.split('.').nth(1).unwrap()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(payload["amount"], serde_json::json!({ "asset": "usd", "atoms": "25" }));
    assert_eq!(payload["iat"], 1_763_712_000);
    assert_eq!(payload["settled_at"], "2025-11-21T08:00:00.123456Z");
    assert_eq!(payload["body"], "ab".repeat(32));
}

/// U-01: a receipt with any one thing about it altered, signed by another key, or shown for another
/// challenge is not believed.
#[test]
fn a_receipt_that_was_tampered_with_is_not_believed() {
    let keys = notary().published().clone();
    let any = Expected::default();
    let token = claims().sign(&notary());
    ReceiptClaims::verify(&token, &keys, any).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("{token}") };
    let json: serde_json::Value =
        serde_json::from_slice(&base64url::decode(payload).unwrap()).unwrap();
    let members = json.as_object().unwrap();
    assert_eq!(members.len(), 16);
    for name in members.keys() {
        let mut altered = members.clone();
        let value: serde_json::Value = match (name.as_str(), members[name].as_str()) {
            ("iat", None) => 1_763_712_001.into(),
            ("amount", None) => serde_json::json!({ "asset": "usd", "atoms": "24" }),
            (_, text) => {
                let text = text.unwrap();
                let flipped = if text.ends_with('0') { '1' } else { '0' };
                format!("{}{flipped}", &text[..text.len() - 1]).into()
            }
        };
        altered.insert(name.clone(), value);
        let altered = base64url::encode(serde_json::to_vec(&altered).unwrap());
        let token = format!("{header}.{altered}.{signature}");
        let refused = ReceiptClaims::verify(&token, &keys, any);
        assert_eq!(refused, Err(ReceiptFault::Signature(JwsError::Signature)), "{name}");
    }
    // Another key: unknown, and passed off as a known one.
    let thief = Notary::new("api.example.com", SecretKey::from_bytes(&[3; 32]), &[]).ok().unwrap();
    let stolen = claims().sign(&thief);
    let unknown = Err(ReceiptFault::Signature(JwsError::Key));
    assert_eq!(ReceiptClaims::verify(&stolen, &keys, any), unknown);
    let stolen = format!("{header}.{payload}.{}", stolen.split('.').nth(2).unwrap());
    let forged = Err(ReceiptFault::Signature(JwsError::Signature));
    assert_eq!(ReceiptClaims::verify(&stolen, &keys, any), forged);
    // Another challenge, another issuer.
    let other = Expected { challenge: Some("c-2"), issuer: None };
    let refused = ReceiptClaims::verify(&token, &keys, other);
    assert_eq!(refused, Err(ReceiptFault::Challenge("c-1".into())));
    let other = Expected { issuer: Some("api.example.org"), challenge: None };
    let refused = ReceiptClaims::verify(&token, &keys, other);
    assert_eq!(refused, Err(ReceiptFault::Issuer("api.example.com".into())));
}

#[test]
fn something_else_that_was_signed_is_no_receipt() {
    let payload = serde_json::to_vec(&claims()).unwrap();
    let other = jws::sign(notary().key(), "farthing-evidence+jws", &payload);
    let refused = ReceiptClaims::verify(&other, notary().published(), Expected::default());
    assert_eq!(refused, Err(ReceiptFault::Signature(JwsError::Type)));
    let empty = jws::sign(notary().key(), TYP, b"{}");
    let refused = ReceiptClaims::verify(&empty, notary().published(), Expected::default());
    assert_eq!(refused, Err(ReceiptFault::Malformed));
}

#[test]
fn a_receipt_of_a_retired_key_is_believed_for_as_long_as_it_is_published() {
    let old = Notary::new("api.example.com", SecretKey::from_bytes(&[1; 32]), &[]).ok().unwrap();
    let token = claims().sign(&old);
    assert!(ReceiptClaims::verify(&token, notary().published(), Expected::default()).is_ok());
    let new = Notary::new("api.example.com", SecretKey::from_bytes(&[2; 32]), &[]).ok().unwrap();
    let refused = ReceiptClaims::verify(&token, new.published(), Expected::default());
    assert_eq!(refused, Err(ReceiptFault::Signature(JwsError::Key)));
}
