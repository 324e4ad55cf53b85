use proptest::prelude::*;

use super::{BindingInput, NotBound, Secret, Secrets, WeakSecret, challenge_id};
use crate::{CredentialHeader, Terms, base64url};

/// `{"amount":"1000000"}`, encoded.
const REQUEST: &str = "eyJhbW91bnQiOiIxMDAwMDAwIn0";

const PLAIN: BindingInput<'static> = BindingInput {
    realm: "api.example.com",
    method: "tempo",
    intent: "charge",
    request: REQUEST,
    expires: None,
    digest: None,
    header: None,
    opaque: None,
};

/// CORE.S04: the seven slots of §5.1.2.1.1, against ids computed independently of this code.
#[test]
fn ids_are_the_hmac_of_the_seven_slots() {
    let expires = Some("2025-01-06T12:00:00Z");
    let digest = Some("sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE");
    let opaque = base64url::encode(r#"{"pi":"pi_3abc123XYZ"}"#);
    let wide = base64url::encode(
        r#"{"amount":"1000000","currency":"0x1234","methodDetails":{"chainId":42431}}"#,
    );
    for (input, id) in [
        (PLAIN, "X6v1eo7fJ76gAxqY0xN9Jd__4lUyDDYmriryOM-5FO4"),
        (BindingInput { expires, ..PLAIN }, "ChPX33RkKSZoSUyZcu8ai4hhkvjZJFkZVnvWs5s0iXI"),
        (BindingInput { digest, ..PLAIN }, "JHB7EFsPVb-xsYCo8LHcOzeX1gfXWVoUSzQsZhKAfKM"),
        (BindingInput { expires, digest, ..PLAIN }, "m39jbWWCIfmfJZSwCfvKFFtBl0Qwf9X4nOmDb21peLA"),
        (
            BindingInput { opaque: Some(&opaque), ..PLAIN },
            "rxzKZ2qjXvinqCH96RORTZEPs1KXsA-0AUjrCAPFOWc",
        ),
        (
            BindingInput { opaque: Some("e30"), ..PLAIN },
            "vb4IyH-0LdJ3s7L0QAw8jIzcZkyxksPhIvEfmHmzA9k",
        ),
        (BindingInput { request: &wide, ..PLAIN }, "TqujwpuDDg_zsWGINAd5XObO2rRe6uYufpqvtDmr6N8"),
        (BindingInput { request: "e30", ..PLAIN }, "yLN7yChAejW9WNmb54HpJIWpdb1WWXeA3_aCx4dxmkU"),
    ] {
        assert_eq!(challenge_id(b"test-vector-secret", &input), id);
    }
}

/// M-01: the field a challenge asks its credential in is bound into its id.
#[test]
fn the_credential_header_is_bound() {
    let key = b"test-vector-secret-minimum-32-byte-secret";
    assert_eq!(challenge_id(key, &PLAIN), "6QDs0BmhrI_v67iWeCMvGqQJEFQ6ErWKlk7zi5xL6t0");
    let input = BindingInput { header: Some("Payment-Authorization"), ..PLAIN };
    assert_eq!(challenge_id(key, &input), "re8MIMJYpIJ0r_aiizscg6ghtipQM8IpOa_NtpwIU8E");
}

fn secret(seed: u8) -> Secret {
    Secret::new(format!("{seed}-q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf")).unwrap()
}

fn terms() -> Terms {
    Terms {
        realm: "api.example.com".into(),
        method: "tempo".into(),
        intent: "charge".into(),
        request: REQUEST.into(),
        expires: Some("2026-01-29T12:00:00Z".into()),
        digest: Some("sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:".into()),
        description: Some("Weather".into()),
        header: CredentialHeader::Authorization,
        opaque: Some("e30".into()),
    }
}

/// CORE.S04, K-03: every parameter but the description is bound, and so is its absence.
#[test]
fn an_altered_parameter_unbinds_the_id() {
    let secrets = Secrets::new(secret(1), vec![]);
    let issued = secrets.bind(terms());
    assert_eq!(secrets.verify(&issued), Ok(()));
    let alterations: [fn(&mut Terms); 10] = [
        |t| t.realm = "other.example.com".into(),
        |t| t.method = "stripe".into(),
        |t| t.intent = "session".into(),
        |t| t.request = "e30".into(),
        |t| t.expires = Some("2027-01-29T12:00:00Z".into()),
        |t| t.expires = None,
        |t| t.digest = None,
        |t| t.header = CredentialHeader::PaymentAuthorization,
        |t| t.opaque = Some("eyJhIjoiYiJ9".into()),
        |t| t.opaque = None,
    ];
    for alter in alterations {
        let mut altered = issued.clone();
        alter(&mut altered.terms);
        assert_eq!(secrets.verify(&altered), Err(NotBound));
    }
    let mut described = issued.clone();
    described.terms.description = Some("Free!".into());
    assert_eq!(secrets.verify(&described), Ok(()), "the description is display only");
    for id in ["", "x", &issued.id[1..], &issued.id.to_lowercase(), &format!("{}=", issued.id)] {
        let forged = crate::Challenge { id: id.into(), ..issued.clone() };
        assert_eq!(secrets.verify(&forged), Err(NotBound), "{id}");
    }
}

/// Two parameter sets whose slots join to the same string must not share an id.
#[test]
fn the_delimiter_inside_a_slot_is_refused() {
    let secrets = Secrets::new(secret(1), vec![]);
    let shifted = Terms { realm: "a|b".into(), method: "lightning".into(), ..terms() };
    let twin = Terms { realm: "a".into(), method: "b|lightning".into(), ..terms() };
    assert_eq!(secrets.bind(shifted.clone()).id, secrets.bind(twin.clone()).id);
    assert_eq!(secrets.verify(&secrets.bind(shifted)), Err(NotBound));
    assert_eq!(secrets.verify(&secrets.bind(twin)), Err(NotBound));
}

/// CORE.S15, K-06: after a rotation the old key verifies while it is kept, and not a moment longer.
#[test]
fn a_retiring_secret_still_verifies_and_no_longer_signs() {
    let before = Secrets::new(secret(1), vec![]);
    let overlap = Secrets::new(secret(2), vec![secret(1)]);
    let after = Secrets::new(secret(2), vec![]);
    let old = before.bind(terms());
    let new = overlap.bind(terms());
    assert_ne!(old.id, new.id);
    assert_eq!((overlap.verify(&old), overlap.verify(&new)), (Ok(()), Ok(())));
    assert_eq!((after.verify(&old), after.verify(&new)), (Err(NotBound), Ok(())));
    assert_eq!(before.verify(&new), Err(NotBound));
}

/// C-10: a short or placeholder secret is no secret.
#[test]
fn weak_secrets_are_refused() {
    for key in ["", "tmp", "0123456789abcdef0123456789abcde"] {
        let refused = Secret::new(key.into()).err();
        assert_eq!(refused, Some(WeakSecret::Short { bytes: key.len() }));
    }
    for key in [
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "ababababababababababababababababababab",
        "please-changeme-please-changeme-0123456789",
        "test-vector-secret-minimum-32-byte-secret",
    ] {
        assert_eq!(Secret::new(key.into()).err(), Some(WeakSecret::Placeholder), "{key}");
    }
    assert!(Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).is_ok());
}

/// C-09: how long it takes to refuse an id says nothing of where it is wrong: no significant difference
/// between a wrong first and a wrong last character (Welch's t below 4.5), where the same measurement sees
/// a comparison that stops early. What is there to be seen is seen every time, and noise is not.
#[test]
fn a_wrong_first_byte_takes_as_long_as_a_wrong_last_one() {
    const ATTEMPTS: usize = 3;
    let secrets = Secrets::new(secret(1), vec![]);
    let issued = secrets.bind(terms());
    assert_eq!(secrets.verify(&issued), Ok(()), "the control");
    let wrong_at = |at: usize| {
        let mut id = issued.id.clone().into_bytes();
        id[at] = if id[at] == b'A' { b'B' } else { b'A' };
        crate::Challenge { id: String::from_utf8(id).unwrap(), ..issued.clone() }
    };
    let forged = [wrong_at(0), wrong_at(issued.id.len() - 1)];
    let guarded = |which: usize| secrets.verify(std::hint::black_box(&forged[which])).is_ok();
    let careless = |which: usize| {
        let mut pairs = issued.id.bytes().zip(std::hint::black_box(&forged[which]).id.bytes());
        pairs.all(|(a, b)| std::hint::black_box(a) == b)
    };
    let leaks = |check: &dyn Fn(usize) -> bool| {
        (0..ATTEMPTS).all(|attempt| welch(check, u64::try_from(attempt).unwrap()).abs() >= 4.5)
    };
    assert!(leaks(&careless), "the measurement sees what there is to be seen");
    assert!(!leaks(&guarded));
}

/// Welch's t of how long `check` takes for its two cases, in an order that neither can guess. The slowest
/// twentieth, when the machine did something else, is left out.
#[allow(clippy::float_arithmetic, clippy::arithmetic_side_effects, reason = "statistics of times")]
fn welch(check: &dyn Fn(usize) -> bool, seed: u64) -> f64 {
    const SAMPLES: usize = 300_000;
    let mut times = [Vec::with_capacity(SAMPLES), Vec::with_capacity(SAMPLES)];
    let mut random = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    for _ in 0..SAMPLES {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let which = usize::from(random & 1 == 1);
        #[expect(clippy::disallowed_methods, reason = "time is what is measured")]
        let begun = std::time::Instant::now();
        assert!(!check(which));
        times[which].push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    let mut all: Vec<u32> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    let slow = all[all.len() * 19 / 20];
    let of = |times: &[u32]| {
        let kept: Vec<f64> =
            times.iter().filter(|it| **it < slow).map(|it| f64::from(*it)).collect();
        let count = f64::from(u32::try_from(kept.len()).unwrap());
        let mean = kept.iter().sum::<f64>() / count;
        let variance = kept.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((a, a_error), (b, b_error)) = (of(&times[0]), of(&times[1]));
    (a - b) / (a_error + b_error).sqrt()
}

proptest! {
    #[test]
    fn verification_answers_exactly_for_what_was_bound(realm in "[a-z.|]{1,9}", request in "[A-Za-z0-9_-]{0,9}", flip in 0_usize..43) {
        let secrets = Secrets::new(secret(3), vec![secret(4)]);
        let ambiguous = realm.contains('|');
        let issued = secrets.bind(Terms { realm, request, ..terms() });
        prop_assert_eq!(secrets.verify(&issued).is_ok(), !ambiguous);
        let mut id = issued.id.clone().into_bytes();
        id[flip] = if id[flip] == b'A' { b'B' } else { b'A' };
        let forged = crate::Challenge { id: String::from_utf8(id).unwrap(), ..issued };
        prop_assert_eq!(secrets.verify(&forged), Err(NotBound));
    }
}
