//! Every test is one credential and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use farthing_core::*;
use farthing_ledger::{Holder, Payment, PaymentId, Settlement};
use farthing_money::{Amount, AssetId, Timestamp};
use farthing_mpp::{BodyDigest, Challenge, Credential, Secret, Secrets, base64url};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ACCEPT_PAYMENT, Mpp, MppBuyer, PAYMENT_AUTHORIZATION, PAYMENT_RECEIPT};

const NOW: Timestamp = Timestamp::from_micros(1_763_712_000_000_000);

fn secret(seed: &str) -> Secret {
    Secret::new(format!("{seed}-q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf")).unwrap()
}

fn mpp() -> Mpp {
    Mpp::new("api.example.com", Secrets::new(secret("one"), vec![])).unwrap()
}

fn quote(method: &str) -> Arc<Quote> {
    let amount = Amount::new(AssetId::new("usd").unwrap(), 2_500);
    let request = json!({"amount": "2500", "currency": "usd", "recipient": "acme"});
    let payee = Holder::new("acme").unwrap();
    Arc::new(Quote::new(method, "charge", amount, payee, request.as_object().unwrap()))
}

fn ask() -> Ask {
    Ask {
        scope: Scope {
            route: "weather".into(),
            method: "GET".into(),
            path: "/weather".into(),
            query: "city=oslo".into(),
            body: None,
        },
        quotes: vec![quote("prepaid")],
        description: Some("Weather".into()),
        offer_ttl: Duration::from_mins(5),
        authorization_is_taken: false,
        idempotency_key: None,
        terms: farthing_ledger::Terms { repeatable: true, ..farthing_ledger::Terms::default() },
        vouchers_buy: true,
    }
}

/// The challenges that `mpp` answers `ask` with.
fn challenges(mpp: &Mpp, ask: &Ask) -> Vec<Challenge> {
    let mut counter = 0_u8;
    let offers = ask.offers(NOW, || {
        counter = counter.wrapping_add(1);
        [counter; 10]
    });
    let mut response = HeaderMap::new();
    mpp.write_offers(&offers, &HeaderMap::new(), &mut response);
    let lines: Vec<_> = response.get_all(WWW_AUTHENTICATE).iter().collect();
    lines.iter().map(|line| Challenge::parse(line.to_str().unwrap()).unwrap()).collect()
}

/// A credential for the first challenge, as an honest client would send it.
fn credential(mpp: &Mpp, ask: &Ask) -> Credential {
    let challenge = challenges(mpp, ask).remove(0);
    let payload = json!({"proof": "x"}).as_object().unwrap().clone();
    Credential { challenge, source: None, payload }
}

fn fields(lines: &[(&'static str, String)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(*name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

fn present(mpp: &Mpp, ask: &Ask, value: &str, now: Timestamp) -> Result<Presented, Rejection> {
    let fields = fields(&[("authorization", value.to_owned())]);
    mpp.present(&fields, ask, now).map(Option::unwrap)
}

/// Lets `alter` change an otherwise honest credential, and expects it to be refused so.
#[track_caller]
fn refused(alter: impl FnOnce(&mut Credential), want: Rejection) {
    let (mpp, ask) = (mpp(), ask());
    let mut credential = credential(&mpp, &ask);
    assert!(present(&mpp, &ask, &credential.format(), NOW).is_ok(), "unaltered, it is accepted");
    alter(&mut credential);
    let got = present(&mpp, &ask, &credential.format(), NOW).err();
    assert_eq!(got, Some(want));
}

#[test]
fn an_honest_credential_is_read() {
    let (mpp, ask) = (mpp(), ask());
    let credential = credential(&mpp, &ask);
    let presented = present(&mpp, &ask, &credential.format(), NOW).unwrap();
    assert_eq!(presented.method, "prepaid");
    assert_eq!(presented.challenge, credential.challenge.id);
    assert_eq!(presented.request["amount"], "2500");
    assert_eq!(presented.payload["proof"], "x");
    assert_eq!(presented.expires_at, NOW.after(Duration::from_mins(5)));
    assert_eq!(presented.scope, ask.scope.digest());
    let again = present(&mpp, &ask, &credential.format(), NOW).unwrap();
    assert_eq!(again.credential, presented.credential, "a retry is recognised");
}

/// B-14, CORE.S04: a client that edits what it was asked for is refused, whatever it edits.
#[test]
fn an_edited_challenge_is_refused() {
    let cheaper = json!({"amount": "1", "currency": "usd", "recipient": "acme"}).to_string();
    let elsewhere =
        json!({"amount": "2500", "currency": "usd", "recipient": "mallory"}).to_string();
    refused(|c| c.challenge.terms.request = base64url::encode(cheaper), Rejection::Foreign);
    refused(|c| c.challenge.terms.request = base64url::encode(elsewhere), Rejection::Foreign);
    refused(|c| c.challenge.terms.request = base64url::encode("{}"), Rejection::Foreign);
    refused(|c| c.challenge.terms.method = "test".into(), Rejection::Foreign);
    refused(|c| c.challenge.terms.intent = "session".into(), Rejection::Foreign);
    refused(
        |c| c.challenge.terms.expires = Some("2099-01-01T00:00:00Z".into()),
        Rejection::Foreign,
    );
    refused(|c| c.challenge.terms.opaque = None, Rejection::Foreign);
    refused(|c| c.challenge.id = "invalid-challenge-id".into(), Rejection::Foreign);
}

/// B-01, B-15: a challenge for one purchase is not one for another, even at the same price.
#[test]
fn a_challenge_for_something_else_is_refused() {
    let mpp = mpp();
    let bought = ask();
    let value = credential(&mpp, &bought).format();
    assert!(present(&mpp, &bought, &value, NOW).is_ok());
    let edits: [fn(&mut Scope); 4] = [
        |scope| scope.route = "news".into(),
        |scope| scope.method = "POST".into(),
        |scope| scope.path = "/weather/".into(),
        |scope| scope.query = "city=rome".into(),
    ];
    for edit in edits {
        let mut other = ask();
        edit(&mut other.scope);
        assert_eq!(present(&mpp, &other, &value, NOW).err(), Some(Rejection::Foreign));
    }
}

/// B-02, CORE.S07: a challenge that is bound to a body is good for that body only.
#[test]
fn a_challenge_is_bound_to_its_body() {
    let mpp = mpp();
    let with_body = |body: Option<&[u8]>| {
        let mut ask = ask();
        ask.scope.body = body.map(|body| *BodyDigest::of(body).as_bytes());
        ask
    };
    let bought = with_body(Some(b"{\"q\":1}"));
    let credential = credential(&mpp, &bought);
    let digest = credential.challenge.terms.digest.clone().unwrap();
    assert!(digest.starts_with("sha-256=:") && digest.ends_with(':'), "{digest}");
    let value = credential.format();
    assert!(present(&mpp, &bought, &value, NOW).is_ok());
    for other in [Some(&b"{\"q\":2}"[..]), Some(b"{\"q\": 1}"), Some(b""), None] {
        let got = present(&mpp, &with_body(other), &value, NOW).err();
        assert!(matches!(got, Some(Rejection::OtherBody(_))), "{other:?}: {got:?}");
    }
    let unbound = self::credential(&mpp, &with_body(None)).format();
    let got = present(&mpp, &bought, &unbound, NOW).err();
    assert!(matches!(got, Some(Rejection::OtherBody(_))), "{got:?}");
}

/// B-05: two realms with one secret do not honour each other's challenges, nor spellings of theirs.
#[test]
fn a_realm_honours_its_own_challenges_alone() {
    let ours = mpp();
    for realm in [
        "api.example.org",
        "API.example.com",
        "api.example.com.",
        "api.example.com:443",
        "example.com",
    ] {
        let theirs = Mpp::new(realm, Secrets::new(secret("one"), vec![])).unwrap();
        let value = credential(&theirs, &ask()).format();
        assert!(present(&theirs, &ask(), &value, NOW).is_ok(), "{realm} honours its own");
        assert_eq!(present(&ours, &ask(), &value, NOW).err(), Some(Rejection::Foreign), "{realm}");
    }
    for realm in ["", "a|b", "é", "a\nb"] {
        assert!(Mpp::new(realm, Secrets::new(secret("one"), vec![])).is_err(), "{realm:?}");
    }
}

/// B-06: a challenge of one method cannot be answered as another's.
#[test]
fn a_challenge_of_one_method_is_not_anothers() {
    let mpp = mpp();
    let both = Ask { quotes: vec![quote("prepaid"), quote("test")], ..ask() };
    let [prepaid, test] = <[Challenge; 2]>::try_from(challenges(&mpp, &both)).unwrap();
    let mut crossed = credential(&mpp, &both);
    crossed.challenge = Challenge { id: test.id, terms: prepaid.terms };
    assert_eq!(present(&mpp, &both, &crossed.format(), NOW).err(), Some(Rejection::Foreign));
}

/// K-01: an offer is void from the very instant it names, and not before.
#[test]
fn an_offer_ends_at_the_instant_it_names() {
    let (mpp, ask) = (mpp(), ask());
    let value = credential(&mpp, &ask).format();
    let end = NOW.after(Duration::from_mins(5));
    let micro = Duration::from_micros(1);
    for (now, want) in [
        (NOW, None),
        (end.before(Duration::from_secs(1)), None),
        (end.before(micro), None),
        (end, Some(Rejection::Expired)),
        (end.after(micro), Some(Rejection::Expired)),
        (end.after(Duration::from_secs(1)), Some(Rejection::Expired)),
        (Timestamp::from_micros(u64::MAX), Some(Rejection::Expired)),
    ] {
        assert_eq!(present(&mpp, &ask, &value, now).err(), want, "{now}");
    }
}

/// K-03: an echo without its expiry fails closed, and so does one with an expiry nobody can read.
#[test]
fn a_missing_expiry_fails_closed() {
    refused(|c| c.challenge.terms.expires = None, Rejection::Foreign);
    let (mpp, ask) = (mpp(), ask());
    for expires in [None, Some("soon"), Some("2099-01-01t00:00:00z"), Some("2099-01-01T00:00:60Z")]
    {
        let mut credential = credential(&mpp, &ask);
        credential.challenge.terms.expires = expires.map(str::to_owned);
        // Bound by our own secret, and still refused.
        credential.challenge = mpp.secrets.bind(credential.challenge.terms);
        let got = present(&mpp, &ask, &credential.format(), NOW).err();
        assert_eq!(got, Some(Rejection::Foreign), "{expires:?}");
    }
}

/// K-06, CORE.S15: challenges of a retiring secret are honoured while it is kept.
#[test]
fn a_rotation_honours_what_was_promised() {
    let with = |signing, retiring: &[&str]| {
        let retiring = retiring.iter().map(|seed| secret(seed)).collect();
        Mpp::new("api.example.com", Secrets::new(secret(signing), retiring)).unwrap()
    };
    let value = credential(&with("one", &[]), &ask()).format();
    assert!(present(&with("two", &["one"]), &ask(), &value, NOW).is_ok());
    assert_eq!(present(&with("two", &[]), &ask(), &value, NOW).err(), Some(Rejection::Foreign));
    let newer = credential(&with("two", &["one"]), &ask()).format();
    assert_eq!(present(&with("one", &[]), &ask(), &newer, NOW).err(), Some(Rejection::Foreign));
}

/// M-01, CORE.S22: nobody can say which of two credentials was meant.
#[test]
fn more_than_one_credential_is_ambiguous() {
    let (mpp, ask) = (mpp(), ask());
    let one = credential(&mpp, &ask).format();
    let other = credential(&mpp, &ask).format();
    let auth = "authorization";
    let alternative = "payment-authorization";
    let ambiguous = [
        vec![(auth, one.clone()), (auth, one.clone())],
        vec![(auth, one.clone()), (auth, other.clone())],
        vec![(auth, format!("{one}, {other}"))],
        vec![(auth, format!("Bearer x, {one}"))],
        vec![(auth, format!("{one}, Bearer x"))],
        vec![(auth, "Bearer x".into()), (auth, one.clone())],
        vec![(auth, one.clone()), (alternative, one.clone())],
        vec![(alternative, one.clone()), (alternative, other)],
    ];
    for lines in ambiguous {
        let got = mpp.present(&fields(&lines), &ask, NOW).err();
        assert_eq!(got, Some(Rejection::Ambiguous), "{lines:?}");
    }
    for lines in [
        vec![],
        vec![(auth, "Bearer x".into())],
        vec![(auth, "Basic Payment".into())],
        vec![(auth, "Bearer x".into()), (auth, "Basic y".into())],
    ] {
        assert!(matches!(mpp.present(&fields(&lines), &ask, NOW), Ok(None)), "{lines:?}");
    }
    for value in ["Payment", "payment ", "Payment !!!", "Payment e30"] {
        let got = mpp.present(&fields(&[(auth, value.into())]), &ask, NOW).err();
        assert_eq!(got, Some(Rejection::Malformed), "{value}");
    }
}

/// M-01: where `Authorization` is taken, the credential travels in `Payment-Authorization`, the
/// user's own login beside it; and a challenge for one field is not answered in the other.
#[test]
fn the_alternative_header_leaves_authorization_alone() {
    let mpp = mpp();
    let taken = Ask { authorization_is_taken: true, ..ask() };
    let value = credential(&mpp, &taken).format();
    let login = ("authorization", "Bearer user".to_owned());
    let paid = fields(&[login, ("payment-authorization", value.clone())]);
    assert!(mpp.present(&paid, &taken, NOW).unwrap().is_some());
    let wrong = fields(&[("authorization", value)]);
    assert_eq!(mpp.present(&wrong, &taken, NOW).err(), Some(Rejection::Foreign));
    let plain = credential(&mpp, &ask()).format();
    let wrong = fields(&[("payment-authorization", plain)]);
    assert_eq!(mpp.present(&wrong, &ask(), NOW).err(), Some(Rejection::Foreign));
}

/// CORE.S01, CORE.S05, CORE.S06, CORE.S12: what a challenge of ours looks like.
#[test]
fn challenges_say_what_the_scheme_asks_for() {
    let mpp = mpp();
    let ask = Ask { quotes: vec![quote("prepaid"), quote("test")], ..ask() };
    let challenges = challenges(&mpp, &ask);
    assert_eq!(challenges.len(), 2);
    assert_ne!(challenges[0].id, challenges[1].id);
    for challenge in &challenges {
        let terms = &challenge.terms;
        assert_eq!(terms.realm, "api.example.com");
        assert_eq!(terms.expires.as_deref(), Some("2025-11-21T08:05:00Z"));
        let request = base64url::decode(&terms.request).unwrap();
        assert_eq!(request, br#"{"amount":"2500","currency":"usd","recipient":"acme"}"#);
        assert!(!terms.request.contains('='));
        let opaque = terms.opaque_object().unwrap();
        assert!(opaque.values().all(Value::is_string), "{opaque:?}");
        assert!(challenge.format().unwrap().len() < 8 * 1024);
    }
}

/// D2: the same question twice gives two challenges, even in the same microsecond.
#[test]
fn two_challenges_are_never_the_same() {
    let (mpp, ask) = (mpp(), ask());
    let mut seen = std::collections::BTreeSet::new();
    let mut counter = 0_u32;
    for _ in 0..1_000 {
        let offers = ask.offers(NOW, || {
            counter += 1;
            let mut entropy = [0; 10];
            entropy[6..].copy_from_slice(&counter.to_be_bytes());
            entropy
        });
        let mut response = HeaderMap::new();
        mpp.write_offers(&offers, &HeaderMap::new(), &mut response);
        seen.insert(response[WWW_AUTHENTICATE].as_bytes().to_vec());
    }
    assert_eq!(seen.len(), 1_000);
}

/// CORE.S09: offers come in the order the client prefers.
#[test]
fn offers_are_ordered_by_preference() {
    let mpp = mpp();
    let ask = Ask { quotes: vec![quote("prepaid"), quote("test")], ..ask() };
    let methods = |preference: Option<&'static str>| {
        let mut request = HeaderMap::new();
        if let Some(preference) = preference {
            request.insert(ACCEPT_PAYMENT, HeaderValue::from_static(preference));
        }
        let mut response = HeaderMap::new();
        mpp.write_offers(&ask.offers(NOW, || [1; 10]), &request, &mut response);
        let lines = response.get_all(WWW_AUTHENTICATE).iter();
        let parsed = lines.map(|line| Challenge::parse(line.to_str().unwrap()).unwrap());
        parsed.map(|challenge| challenge.terms.method).collect::<Vec<_>>()
    };
    assert_eq!(methods(None), ["prepaid", "test"]);
    assert_eq!(methods(Some("test/charge, prepaid/charge;q=0.5")), ["test", "prepaid"]);
    assert_eq!(methods(Some("test/*, prepaid/*;q=0")), ["test"]);
    assert_eq!(methods(Some("lightning/charge")), ["prepaid", "test"]);
    assert_eq!(methods(Some("nonsense")), ["prepaid", "test"]);
}

/// CORE.S08: a receipt cites the challenge, the amount and the rail's reference.
#[test]
fn receipts_can_be_read_by_the_buyer() {
    let (mpp, ask) = (mpp(), ask());
    let presented = present(&mpp, &ask, &credential(&mpp, &ask).format(), NOW).unwrap();
    let payment = Payment {
        id: PaymentId::of(&identity("mpp", &presented.challenge)),
        trace: presented.trace,
        protocol: "mpp".into(),
        method: presented.method,
        intent: presented.intent,
        challenge: presented.challenge,
        amount: Amount::new(AssetId::new("usd").unwrap(), 2_500),
        payer: "alice".into(),
        payee: Holder::new("acme").unwrap(),
        route: "weather".into(),
        scope: presented.scope.to_string(),
        credential: presented.credential,
        expires_at: presented.expires_at,
        request: None,
        inquiry: None,
        terms: farthing_ledger::Terms::default(),
        voucher: None,
        decision: None,
        subscription: None,
    };
    let settlement = Settlement::new("tx_1".into(), NOW);
    let mut response = HeaderMap::new();
    mpp.write_receipt(
        &ReceiptFacts { payment: &payment, settlement: &settlement, units: 1 },
        &mut response,
    );
    let receipt = MppBuyer.read_receipt(&response).unwrap();
    for (name, value) in [
        ("status", "success"),
        ("method", "prepaid"),
        ("reference", "tx_1"),
        ("timestamp", "2025-11-21T08:00:00Z"),
        ("challengeId", &payment.challenge),
        ("amount", "2500"),
        ("currency", "usd"),
        ("trace", &payment.trace.to_string()),
    ] {
        assert_eq!(receipt[name], value, "{name}");
    }
    response.insert(PAYMENT_RECEIPT, HeaderValue::from_static("!!!"));
    assert_eq!(MppBuyer.read_receipt(&response), None);
}

/// A session's challenge is answered by many requests of its route, and by none of another; a charge's is
/// for one.
#[test]
fn a_sessions_challenge_is_for_its_route() {
    let mpp = mpp();
    let unit = Amount::new(AssetId::new("usd").unwrap(), 25);
    let price = SessionPrice {
        unit,
        unit_type: None,
        suggested_deposit: None,
        deposit_min_atoms: 0,
        delta_min_atoms: 0,
    };
    let request = json!({"amount": "25", "currency": "usd", "recipient": "acme"});
    let payee = Holder::new("acme").unwrap();
    let session = Quote::session("prepaid", price, payee, request.as_object().unwrap());
    let bound = Scope { body: Some([7; 32]), ..ask().scope };
    let ask = Ask { scope: bound, quotes: vec![Arc::new(session), quote("prepaid")], ..ask() };
    let challenges = challenges(&mpp, &ask);
    assert_eq!(challenges[0].terms.intent, "session");
    assert_eq!(challenges[0].terms.digest, None, "many bodies are sent within it");
    assert!(challenges[1].terms.digest.is_some(), "the control");
    let other = Scope {
        method: "POST".into(),
        path: "/weather/rome".into(),
        query: String::new(),
        body: None,
        ..ask.scope.clone()
    };
    let elsewhere = Scope { route: "maps".into(), ..ask.scope.clone() };
    for (scope, want) in [(other, None), (elsewhere, Some(Rejection::Foreign))] {
        let ask = Ask { scope, ..ask.clone() };
        let come = |at: usize| {
            let payload = json!({"proof": "x"}).as_object().unwrap().clone();
            let challenge = challenges[at].clone();
            let credential = Credential { challenge, source: None, payload };
            present(&mpp, &ask, &credential.format(), NOW)
        };
        let in_session = come(0);
        if let Ok(presented) = &in_session {
            assert_eq!(presented.scope, ask.scope.digest(), "what is bought is this request");
        }
        assert_eq!(in_session.err(), want);
        assert_eq!(come(1).err(), Some(Rejection::Foreign), "a charge is for one request");
    }
}

/// CORE.C01, CORE.C03: a buyer reads what it can, and echoes it untouched.
#[test]
fn a_buyer_echoes_what_it_was_told() {
    let (mpp, ask) = (mpp(), Ask { authorization_is_taken: true, ..ask() });
    let line = challenges(&mpp, &ask)[0].format().unwrap();
    let response = fields(&[
        ("www-authenticate", "Bearer realm=\"x\"".into()),
        ("www-authenticate", format!("{line}, unknown=\"kept out\"")),
        ("www-authenticate", "Payment id=\"x\", realm=\"y\"".into()),
        ("www-authenticate", line.replace("expires=\"2025", "expires=\"when")),
    ]);
    let invitations = MppBuyer.read_offers(&response);
    assert_eq!(invitations.len(), 1);
    let paid = Paid {
        payload: json!({"proof": 1}).as_object().unwrap().clone(),
        source: None,
        keepsake: None,
    };
    let (name, value) = MppBuyer.write_credential(&invitations[0], &paid).unwrap();
    assert_eq!(name, PAYMENT_AUTHORIZATION);
    assert!(value.is_sensitive());
    let echoed = Credential::parse(value.to_str().unwrap()).ok().unwrap().challenge;
    assert_eq!(echoed.format().unwrap(), line);
    let fields = HeaderMap::from_iter([(name, value)]);
    assert!(mpp.present(&fields, &ask, NOW).unwrap().is_some());
    let mut request = HeaderMap::new();
    MppBuyer.write_preferences(&[("prepaid", "charge"), ("test", "charge")], &mut request);
    assert_eq!(request[ACCEPT_PAYMENT], "prepaid/charge, test/charge");
}

#[test]
fn a_credential_does_not_show_in_debug_output() {
    let (mpp, ask) = (mpp(), ask());
    let presented = present(&mpp, &ask, &credential(&mpp, &ask).format(), NOW).unwrap();
    assert!(!format!("{presented:?}").contains("proof"));
}

proptest! {
    #[test]
    fn no_header_panics(value in "(?s)(Payment |payment )?[ -~é]{0,200}") {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            let fields = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            let _ = mpp().present(&fields, &ask(), NOW);
        }
    }

    #[test]
    fn no_offer_panics(value in "(?s)Payment [ -~]{0,200}") {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            let _ = MppBuyer.read_offers(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value)]));
        }
    }
}
