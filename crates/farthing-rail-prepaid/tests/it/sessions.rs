//! What is signed within a session, and who is believed.

use std::sync::Arc;

use farthing_core::{
    Act, Action, Invitation, Object, Payer, PreparedSession, Presented, Rail, Rejection, SESSION,
    Scope, SessionPayer, SessionPrice, SessionRail,
};
use farthing_ledger::{Fingerprint, Holder, TraceId};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_rail_prepaid::{PrepaidPayer, PrepaidRail};
use farthing_testkit::rail::assets;
use serde_json::{Value, json};

/// The seed of RFC 8032's first test, known to everybody.
const SEED: [u8; 32] = [
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
];

/// The golden vectors of `docs/prepaid-session.md`, made by another implementation of Ed25519.
const CHANNEL: &str = "945b5fccff544870a440202a167ab04b63cde5bf00df56f60269bf1ae08dbc0d";
const VOUCHER: &str =
    "K6a7ZT1xNefxS8U3PXCJ_1z3wXI63CUMKDNiIna7TFNIz5A_3hrcnHnY53XbP6H2bYqQl8-dTNXgdn7KkOjwCg";
const DEPOSIT: &str =
    "XaVdYs2x_9LgfKu8uu6utSigSRA3qrfnqUGmpGDlEoiK9CN7-0aVRHRAUUb8duCPM6SRP0My2PoJOsgCzIXNCQ";

fn usd(atoms: u128) -> Amount {
    Amount::new(AssetId::new("usd").unwrap(), atoms)
}

fn price() -> SessionPrice {
    SessionPrice {
        unit: usd(25),
        unit_type: Some(Arc::from("request")),
        suggested_deposit: Some(usd(1_000)),
        deposit_min_atoms: 0,
        delta_min_atoms: 5,
    }
}

fn request() -> Object {
    let payee = Holder::new("acme").unwrap();
    PrepaidRail::new(assets()).quote_session(&price(), &payee).unwrap()
}

fn invitation() -> Invitation {
    Invitation {
        protocol: "mpp",
        method: "prepaid".into(),
        intent: SESSION.into(),
        realm: "api.example.com".into(),
        challenge: "ch_1".into(),
        request: request(),
        expires_at: None,
        expires: None,
        description: None,
        body: None,
        echo: String::new(),
    }
}

async fn prepared() -> PreparedSession {
    let payer = PrepaidPayer::new(&SEED, assets());
    payer.prepare(&invitation(), &usd(1_000), [1; 32]).await.ok().unwrap()
}

async fn payload(act: Act) -> Object {
    let payer = PrepaidPayer::new(&SEED, assets());
    payer.act(&invitation(), &prepared().await, act).await.ok().unwrap().payload
}

fn check(payload: Object, change: impl FnOnce(&mut Presented)) -> Result<Action, Rejection> {
    let mut presented = Presented {
        protocol: "mpp",
        method: "prepaid".into(),
        intent: SESSION.into(),
        realm: "api.example.com".into(),
        challenge: "ch_1".into(),
        trace: TraceId::new(Timestamp::default(), [0; 10]),
        route: "weather".into(),
        scope: Scope::default().digest(),
        request: request(),
        payload,
        source: Some(PrepaidPayer::new(&SEED, assets()).account()),
        expires_at: Timestamp::default(),
        expires: "2026-01-29T12:05:00Z".into(),
        credential: Fingerprint::of("credential", &[]),
        idempotency_key: None,
    };
    change(&mut presented);
    let rail = PrepaidRail::new(assets());
    rail.session().unwrap().check_action(&presented, Timestamp::default())
}

/// The golden vectors of the method's specification.
#[tokio::test]
async fn what_is_signed_is_what_the_specification_says() {
    assert_eq!(prepared().await.channel, CHANNEL);
    let open = payload(Act::Open { cumulative: 25 }).await;
    let want = json!({
        "action": "open",
        "channelId": CHANNEL,
        "cumulativeAmount": "25",
        "deposit": "1000",
        "depositSignature": DEPOSIT,
        "salt": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "signature": VOUCHER,
    });
    assert_eq!(Value::Object(open.clone()), want);
    let Ok(Action::Open(opening)) = check(open, |_| {}) else { panic!("it opens") };
    assert_eq!(opening.deposit.atoms, 1_000);
    assert_eq!(opening.voucher.voucher.cumulative, 25);
    assert_eq!(opening.voucher.delta_min, 5);
    assert_eq!(opening.voucher.signer, opening.payer);
}

/// What somebody does to a presented action.
type Alter = fn(&mut Presented);

/// B-04, S-01, S-02: a signature for another realm, payee, asset, channel, amount or challenge is none.
#[tokio::test]
async fn a_signature_says_nothing_about_anything_else() {
    let voucher = payload(Act::Voucher { cumulative: 25 }).await;
    let altered: [(&str, Alter); 5] = [
        ("realm", |it| it.realm = "other.example".into()),
        ("payee", |it| drop(it.request.insert("recipient".into(), "other".into()))),
        ("channel", |it| {
            it.payload.insert("channelId".into(), CHANNEL.replace('9', "8").into());
        }),
        ("amount", |it| drop(it.payload.insert("cumulativeAmount".into(), "26".into()))),
        ("signer", |it| {
            it.source = Some(PrepaidPayer::new(&[9; 32], assets()).account());
        }),
    ];
    for (what, alter) in altered {
        assert_eq!(check(voucher.clone(), alter), Err(Rejection::Signature), "{what}");
    }
    assert!(check(voucher.clone(), |_| {}).is_ok(), "the control");
    let by_value = check(voucher, |it| {
        it.payload.insert("channelId".into(), CHANNEL.to_ascii_uppercase().into());
    });
    assert!(by_value.is_ok(), "a channel's letters may come in either case");
    let top_up = payload(Act::TopUp { additional: 5, before: 0 }).await;
    assert_eq!(
        check(top_up.clone(), |it| it.challenge = "ch_2".into()),
        Err(Rejection::Signature),
        "a deposit answers one challenge"
    );
    assert!(check(top_up, |_| {}).is_ok(), "the control");
    let open = payload(Act::Open { cumulative: 0 }).await;
    let renamed = check(open.clone(), |it| drop(it.request.insert("recipient".into(), "b".into())));
    assert_eq!(renamed, Err(Rejection::Invalid), "a channel's name says what it is for");
    assert!(check(open, |_| {}).is_ok(), "the control");
}

#[tokio::test]
async fn what_cannot_be_read_is_malformed() {
    let voucher = payload(Act::Voucher { cumulative: 25 }).await;
    for (name, value) in [
        ("action", json!("settle")),
        ("action", json!(1)),
        ("channelId", json!("945b")),
        ("cumulativeAmount", json!("-1")),
        ("cumulativeAmount", json!("01")),
        ("cumulativeAmount", json!(25)),
        ("signature", json!("AA")),
        ("signer", json!("did:key:z6Mk")),
    ] {
        let mut broken = voucher.clone();
        broken.insert(name.into(), value.clone());
        assert_eq!(check(broken, |_| {}), Err(Rejection::Malformed), "{name}: {value}");
        let mut without = voucher.clone();
        if without.remove(name).is_some() {
            assert_eq!(check(without, |_| {}), Err(Rejection::Malformed), "without {name}");
        }
    }
    assert!(check(voucher, |_| {}).is_ok(), "the control");
}
