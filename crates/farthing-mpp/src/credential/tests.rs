use proptest::prelude::*;
use serde_json::json;

use super::{Credential, CredentialError};
use crate::base64url;
use crate::challenge::tests::any_challenge;

fn value() -> serde_json::Value {
    json!({
        "challenge": {"id": "a", "realm": "r", "method": "tempo", "intent": "charge", "request": "e30"},
        "payload": {"proof": "0xabc"},
    })
}

fn header(value: &serde_json::Value) -> String {
    format!("Payment {}", base64url::encode(value.to_string()))
}

#[track_caller]
fn refused(header: &str, want: CredentialError) {
    assert_eq!(Credential::parse(header).err(), Some(want), "{header}");
}

/// CORE.S12: a credential of 4 KB and more is read; one past 16 KiB is refused, quickly.
#[test]
fn a_credential_is_read_strictly() {
    let whole = header(&value());
    assert!(Credential::parse(&whole).is_ok());
    assert!(Credential::parse(&whole.replace("Payment ", "payment   ")).is_ok());
    assert!(Credential::parse(&format!("{whole}===")).is_err(), "no more padding than fits");
    refused("", CredentialError::NotPayment);
    refused("Payment", CredentialError::NotPayment);
    refused("Payment ", CredentialError::NotPayment);
    refused("Bearer abc", CredentialError::NotPayment);
    refused("Payment !!!", CredentialError::Encoding);
    refused("Payment W10", CredentialError::Encoding);
    let mut large = value();
    large["payload"]["proof"] = "x".repeat(6_000).into();
    assert!(Credential::parse(&header(&large)).is_ok());
    large["payload"]["proof"] = "x".repeat(20_000).into();
    refused(&header(&large), CredentialError::TooLarge);
}

/// M-01: two credentials in one value are refused, even the same one twice.
#[test]
fn two_credentials_in_one_value_are_refused() {
    let one = header(&value());
    refused(&format!("{one}, {one}"), CredentialError::Several);
    refused(&format!("{one} {one}"), CredentialError::Several);
    refused(&format!("{one}, Bearer x"), CredentialError::Several);
}

/// M-03: a missing field, a field of another type and a name that stands twice are refused.
#[test]
fn incomplete_credentials_are_refused() {
    for path in
        ["/challenge", "/payload", "/challenge/id", "/challenge/realm", "/challenge/request"]
    {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut value = value();
        value.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        refused(&header(&value), CredentialError::Fields);
    }
    for (path, wrong) in [
        ("/challenge/id", json!("")),
        ("/challenge/id", json!(7)),
        ("/challenge/request", json!({"amount": "1"})),
        ("/challenge/expires", json!(1_769_688_000)),
        ("/challenge", json!("a")),
        ("/payload", json!("0xabc")),
        ("/payload", json!([])),
    ] {
        let mut value = value();
        let slot = value.pointer_mut(path);
        match slot {
            Some(slot) => *slot = wrong,
            None => value["challenge"]["expires"] = wrong,
        }
        refused(&header(&value), CredentialError::Fields);
    }
    let twice = value().to_string().replace(r#""id":"a""#, r#""id":"a","id":"b""#);
    refused(&format!("Payment {}", base64url::encode(twice)), CredentialError::Encoding);
}

/// CORE.C01: an echo keeps every parameter as it was received, the unknown header choice included.
#[test]
fn an_unsupported_credential_header_is_refused() {
    let mut value = value();
    value["challenge"]["header"] = "Payment-Authorization".into();
    assert!(Credential::parse(&header(&value)).is_ok());
    value["challenge"]["header"] = "Cookie".into();
    refused(&header(&value), CredentialError::Fields);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        challenge in any_challenge(),
        source in proptest::option::of("[ -~é]{0,20}"),
        proof in "[ -~\"\\\\]{0,40}",
    ) {
        let payload = json!({"proof": proof}).as_object().unwrap().clone();
        let credential = Credential { challenge, source, payload };
        prop_assert!(Credential::parse(&credential.format()).is_ok_and(|read| read == credential));
    }

    #[test]
    fn no_text_panics(text in "(?s)(Payment )?.{0,200}") {
        let _ = Credential::parse(&text);
    }

    #[test]
    fn no_json_panics(text in "[\\[\\]{}\":,a-z0-9]{0,60}") {
        let _ = Credential::parse(&format!("Payment {}", base64url::encode(text)));
    }
}
