//! The forms a signature can take, and the one that counts.

use ed25519_dalek::{Signer, SigningKey};
use farthing_core::{Invitation, Object, Paid, Payer, Presented, Rail, Rejection, Scope};
use farthing_ledger::{Fingerprint, Holder, TraceId};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_mpp::{base64url, json};
use farthing_rail_prepaid::{MalformedDid, PrepaidPayer, PrepaidRail, did_key, parse_did_key};
use farthing_testkit::rail::assets;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The seed of RFC 8032's first test, known to everybody.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

const DID: &str = "did:key:z6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw";

fn request() -> Object {
    let amount = Amount::new(AssetId::new("usd").unwrap(), 2_500);
    PrepaidRail::new(assets()).quote(&amount, &Holder::new("acme").unwrap()).unwrap()
}

/// Presents `signature` of the well-known key for a price of 2,500 to acme.
fn present(signature: &Value, source: Option<&str>) -> Presented {
    let payload = json!({"type": "signature", "signature": signature});
    Presented {
        protocol: "mpp",
        method: "prepaid".into(),
        intent: "charge".into(),
        realm: "api.example.com".into(),
        challenge: "ch_1".into(),
        trace: TraceId::new(Timestamp::default(), [0; 10]),
        route: "weather".into(),
        scope: Scope::default().digest(),
        request: request(),
        payload: payload.as_object().unwrap().clone(),
        source: source.map(str::to_owned),
        expires_at: Timestamp::default(),
        expires: "2026-01-29T12:05:00Z".into(),
        credential: Fingerprint::of("credential", &[]),
        idempotency_key: None,
    }
}

/// The message of these tests, spelled out as `docs/prepaid-charge.md` does.
const MESSAGE: &str = r#"{"amount":"2500","challenge":"ch_1","currency":"usd","domain":"mpp-prepaid-charge-v1","expires":"2026-01-29T12:05:00Z","realm":"api.example.com","recipient":"acme"}"#;

fn sign(message: &str) -> [u8; 64] {
    SigningKey::from_bytes(&SEED).sign(message.as_bytes()).to_bytes()
}

#[track_caller]
fn check(signature: [u8; 64], want: Option<Rejection>) {
    let presented = present(&base64url::encode(signature).into(), Some(DID));
    let got = PrepaidRail::new(assets()).check(&presented, Timestamp::default()).err();
    assert_eq!(got, want);
}

/// The golden vector of the method's specification.
#[test]
fn the_message_is_what_the_specification_says() {
    check(sign(MESSAGE), None);
    assert_eq!(
        base64url::encode(sign(MESSAGE)),
        "64BQjluiSGYo9zwyzEmDVGZd6LxLLX1cuUKQ8x9m-OieBHAeerIIjrdlpbIZgq6t8eGO1jJ98UZP01SPh77YAw"
    );
}

/// B-13: of all forms a signature can take, one counts.
#[test]
fn only_the_canonical_signature_counts() {
    let good = sign(MESSAGE);
    check(good, None);
    // The scalar's twin: s + L is the same number modulo the group's order.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut twin = good;
    let mut carry = 0_u16;
    for (byte, add) in twin[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    assert_ne!(twin, good);
    check(twin, Some(Rejection::Invalid));
    let zero_scalar = {
        let mut it = good;
        it[32..].fill(0);
        it
    };
    let zero_point = {
        let mut it = good;
        it[..32].fill(0);
        it
    };
    for forged in [zero_scalar, zero_point, [0; 64], [0xff; 64]] {
        check(forged, Some(Rejection::Invalid));
    }
}

/// B-13: another domain, another key, another message.
#[test]
fn a_signature_of_something_else_does_not_count() {
    for (part, other) in [
        ("mpp-prepaid-charge-v1", "mpp-prepaid-charge-v2"),
        ("\"domain\":\"mpp-prepaid-charge-v1\",", ""),
        ("2500", "2501"),
        ("ch_1", "ch_2"),
        ("usd", "sat"),
        ("12:05:00Z", "12:05:01Z"),
        ("api.example.com", "api.example.org"),
        ("acme", "mallory"),
        (",", ", "),
    ] {
        check(sign(&MESSAGE.replace(part, other)), Some(Rejection::Invalid));
    }
    let presented = present(&base64url::encode(sign(MESSAGE)).into(), Some(&did_key(&[1; 32])));
    let got = PrepaidRail::new(assets()).check(&presented, Timestamp::default()).err();
    assert_eq!(got, Some(Rejection::Invalid));
}

/// A key of small order would verify signatures nobody made.
#[test]
fn a_weak_key_does_not_count() {
    for weak in [
        {
            let mut it = [0; 32];
            it[0] = 1;
            it
        },
        [0; 32],
    ] {
        let mut forged = [0; 64];
        forged[0] = 1;
        let presented = present(&base64url::encode(forged).into(), Some(&did_key(&weak)));
        let got = PrepaidRail::new(assets()).check(&presented, Timestamp::default()).err();
        assert_eq!(got, Some(Rejection::Invalid));
    }
}

/// M-07: a signature has one spelling and one length.
#[test]
fn a_signature_has_one_spelling() {
    let good = base64url::encode(sign(MESSAGE));
    let other_spellings = [
        json!(good.replace('_', "/").replace('-', "+") + "=="),
        json!(format!("{good} ")),
        json!(&good[..84]),
        json!(format!("{good}AAAA")),
        json!("00".repeat(64)),
        json!(null),
        json!([good]),
    ];
    for signature in other_spellings {
        let presented = present(&signature, Some(DID));
        let got = PrepaidRail::new(assets()).check(&presented, Timestamp::default()).err();
        assert_eq!(got, Some(Rejection::Malformed), "{signature}");
    }
    for source in [None, Some(""), Some("alice"), Some("did:key:z6Mk"), Some(&*DID.to_uppercase())]
    {
        let presented = present(&good.clone().into(), source);
        let got = PrepaidRail::new(assets()).check(&presented, Timestamp::default()).err();
        assert_eq!(got, Some(Rejection::Malformed), "{source:?}");
    }
}

/// M-10: a counterparty cannot rescale a price by declaring other decimals.
#[tokio::test]
async fn decimals_are_the_wallets_own() {
    let payer = PrepaidPayer::new(&SEED, assets());
    let mut invitation = Invitation {
        protocol: "mpp",
        method: "prepaid".into(),
        intent: "charge".into(),
        realm: "api.example.com".into(),
        challenge: "ch_1".into(),
        request: request(),
        expires_at: Some(Timestamp::default()),
        expires: Some("2026-01-29T12:05:00Z".into()),
        description: None,
        body: None,
        echo: String::new(),
    };
    let Paid { payload, source, .. } = payer.pay(&invitation).await.ok().unwrap();
    assert_eq!(payload["signature"], base64url::encode(sign(MESSAGE)));
    assert_eq!(source.as_deref(), Some(DID));
    for details in [json!({"decimals": 2}), json!({"decimals": "6"}), json!({}), json!(null)] {
        invitation.request.insert("methodDetails".into(), details);
        assert!(payer.price(&invitation).is_err(), "{:?}", invitation.request);
    }
    assert_eq!(
        json::canonical(&request()),
        r#"{"amount":"2500","currency":"usd","methodDetails":{"decimals":6},"recipient":"acme"}"#
    );
}

/// M-05: a key has one name.
#[test]
fn a_key_has_one_name() {
    let key = SigningKey::from_bytes(&SEED).verifying_key().to_bytes();
    assert_eq!(did_key(&key), DID);
    assert_eq!(parse_did_key(DID), Ok(key));
    for other in [
        "",
        "did:key:z",
        "did:key:6MktwupdmLXVVqTzCw4i46r4uGyosGXRnR3XjN4Zq7oMMsw",
        &format!("{DID} "),
        &format!("{DID}1"),
        &DID.replace("z6Mk", "z16Mk"),
        &DID.to_lowercase(),
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:web:example.com",
    ] {
        assert_eq!(parse_did_key(other), Err(MalformedDid), "{other}");
    }
}

proptest! {
    #[test]
    fn every_key_has_a_name(key: [u8; 32]) {
        prop_assert_eq!(parse_did_key(&did_key(&key)), Ok(key));
    }

    #[test]
    fn no_name_panics(text in "(did:key:z)?.{0,80}") {
        let _ = parse_did_key(&text);
    }

    #[test]
    fn any_other_bit_is_another_signature(bit in 0_usize..512) {
        let mut signature = sign(MESSAGE);
        signature[bit / 8] ^= 1 << (bit % 8);
        check(signature, Some(Rejection::Invalid));
    }
}
