use proptest::prelude::*;

use super::{Challenge, ChallengeError, CredentialHeader, FormatError, Terms, field_text};

fn challenge() -> Challenge {
    Challenge {
        id: "ch_1".into(),
        terms: Terms {
            realm: "api.example.com".into(),
            method: "tempo".into(),
            intent: "charge".into(),
            request: "e30".into(),
            expires: None,
            digest: None,
            description: None,
            header: CredentialHeader::Authorization,
            opaque: None,
        },
    }
}

const BASIC: &str =
    r#"Payment id="ch_1", realm="api.example.com", method="tempo", intent="charge", request="e30""#;

#[track_caller]
fn check(value: &str, want: Result<&str, ChallengeError>) {
    let got = Challenge::parse(value).map(|challenge| challenge.id);
    assert_eq!(got, want.map(str::to_owned), "{value}");
}

/// CORE.C01: a challenge without an id is refused, unknown parameters are ignored.
#[test]
fn a_challenge_is_read_strictly() {
    check(BASIC, Ok("ch_1"));
    check(&BASIC.replace("Payment", "pAyMeNt"), Ok("ch_1"));
    check(&format!("{BASIC}, foo=bar, baz=\"qux\""), Ok("ch_1"));
    check("", Err(ChallengeError::NotPayment));
    check("Payment", Err(ChallengeError::Missing("id")));
    check("Bearer x", Err(ChallengeError::NotPayment));
    for name in ["id", "realm", "method", "intent", "request"] {
        check(&BASIC.replace(name, "other"), Err(ChallengeError::Missing(name)));
    }
    check(&BASIC.replace("ch_1", ""), Err(ChallengeError::Missing("id")));
    check(&format!("{BASIC}, id=\"b\""), Err(ChallengeError::Duplicate));
    check(&BASIC.replace("e30", "no!"), Err(ChallengeError::Malformed("request")));
    check(&BASIC.replace("e30", "bm90IGpzb24"), Err(ChallengeError::Malformed("request")));
    check(&BASIC.replace("e30", "W10"), Err(ChallengeError::Malformed("request")));
}

/// M-02: control characters and, where the scheme has no use for them, non-ASCII ones are refused.
#[test]
fn text_that_could_split_a_header_is_refused() {
    type Set = fn(&mut Challenge, String);
    let fields: [(&str, Set); 9] = [
        ("id", |c, v| c.id = v),
        ("realm", |c, v| c.terms.realm = v),
        ("method", |c, v| c.terms.method = v),
        ("intent", |c, v| c.terms.intent = v),
        ("request", |c, v| c.terms.request = v),
        ("expires", |c, v| c.terms.expires = Some(v)),
        ("digest", |c, v| c.terms.digest = Some(v)),
        ("description", |c, v| c.terms.description = Some(v)),
        ("opaque", |c, v| c.terms.opaque = Some(v)),
    ];
    for (name, set) in fields {
        for hostile in ["a\rb", "a\nb", "a\0b", "a\r\nSet-Cookie: b", "\u{7f}"] {
            let mut challenge = challenge();
            set(&mut challenge, hostile.into());
            assert_eq!(challenge.format(), Err(FormatError(name)), "{hostile:?}");
            check(&format!("{BASIC}, x=\"{hostile}\""), Err(ChallengeError::NotPayment));
        }
        if !matches!(name, "realm" | "description") {
            let mut challenge = challenge();
            set(&mut challenge, "caf\u{e9}".into());
            assert_eq!(challenge.format(), Err(FormatError(name)));
            let line = BASIC.replace(&format!("{name}=\""), &format!("{name}=\"\u{e9}"));
            if line != BASIC {
                check(&line, Err(ChallengeError::Malformed(name)));
            }
        }
    }
    let mut empty = challenge();
    empty.id.clear();
    assert_eq!(empty.format(), Err(FormatError("id")), "a challenge always has an id");
}

/// CORE.S05: a method is lower-case letters, an intent is a token of the registry's grammar.
#[test]
fn names_are_spelled_as_registered() {
    for (method, intent, want) in [
        ("tempo", "charge", None),
        ("Tempo", "charge", Some("method")),
        ("x402", "charge", Some("method")),
        ("", "charge", Some("method")),
        ("tempo", "char ge", Some("intent")),
        ("tempo", "charge|x", Some("intent")),
        ("tempo", "charge-v2", None),
    ] {
        let mut challenge = challenge();
        challenge.terms.method = method.into();
        challenge.terms.intent = intent.into();
        assert_eq!(challenge.format().err(), want.map(FormatError), "{method}/{intent}");
    }
}

/// M-01: only two fields may carry a credential, whatever a server asks for.
#[test]
fn the_credential_header_is_one_of_two() {
    let with = |name: &str| Challenge::parse(&format!("{BASIC}, header=\"{name}\""));
    let header = |name| with(name).map(|challenge| challenge.terms.header);
    assert_eq!(header("authorization"), Ok(CredentialHeader::Authorization));
    assert_eq!(header("Payment-Authorization"), Ok(CredentialHeader::PaymentAuthorization));
    assert_eq!(header("Cookie"), Err(ChallengeError::Malformed("header")));
    let written = with("payment-authorization").unwrap().format().unwrap();
    assert!(written.contains(r#"header="Payment-Authorization""#), "{written}");
}

/// M-03, CORE.C05, CORE.S12: 4 KB and more are read, 16 KiB + 1 are not.
#[test]
fn requests_have_a_limit() {
    let object =
        |bytes: usize| crate::base64url::encode(format!("{{\"a\":\"{}\"}}", "x".repeat(bytes)));
    let line = |request: &str| BASIC.replace("e30", request);
    check(&line(&object(6_000)), Ok("ch_1"));
    let longest = object(12_280);
    assert_eq!(longest.len(), 16 * 1024);
    check(&line(&longest), Ok("ch_1"));
    check(&line(&object(12_281)), Err(ChallengeError::Malformed("request")));
    check(&line(&object(1024 * 1024)), Err(ChallengeError::NotPayment));
}

/// CORE.C03: several lines and joined lines give the same challenges; what is not ours is skipped.
#[test]
fn every_challenge_of_a_response_is_found() {
    let other = BASIC.replace("ch_1", "ch_2");
    let ids = |lines: &[&str]| {
        Challenge::parse_all(lines.iter().copied()).into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[BASIC, &other]), ["ch_1", "ch_2"]);
    assert_eq!(ids(&[&format!("{BASIC}, {other}")]), ["ch_1", "ch_2"]);
    assert_eq!(ids(&["Bearer realm=\"x\"", &format!("Basic realm=y, {other}")]), ["ch_2"]);
    assert_eq!(ids(&["Payment id=\"broken\"", BASIC]), ["ch_1"]);
    assert_eq!(ids(&["L402 macaroon=\"x\", invoice=\"y\""]), [""; 0]);
    let many: Vec<String> = (0..100).map(|n| BASIC.replace("ch_1", &n.to_string())).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(ids(&many).len(), 64);
}

#[test]
fn latin_1_text_is_readable() {
    assert_eq!(field_text(b"caf\xe9"), "café");
    assert_eq!(field_text("café".as_bytes()), "café");
}

fn text() -> impl Strategy<Value = String> {
    "[ -~\t\u{a1}-\u{ff}é😀]{0,20}"
}

prop_compose! {
    pub(crate) fn any_challenge()(
        id in "[!-~]{1,43}",
        realm in text(),
        method in "[a-z]{1,9}",
        intent in "[A-Za-z0-9-]{1,9}",
        amount: u64,
        expires in proptest::option::of("[0-9TZ:.-]{1,20}"),
        digest in proptest::option::of("sha-256=:[A-Za-z0-9+/]{43}=:"),
        description in proptest::option::of(text()),
        alternative: bool,
        opaque in proptest::option::of("[A-Za-z0-9_-]{1,20}"),
    ) -> Challenge {
        let request = crate::base64url::encode(format!("{{\"amount\":\"{amount}\"}}"));
        let header = if alternative {
            CredentialHeader::PaymentAuthorization
        } else {
            CredentialHeader::Authorization
        };
        let terms = Terms { realm, method, intent, request, expires, digest, description, header, opaque };
        Challenge { id, terms }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(challenge in any_challenge()) {
        let line = challenge.format().unwrap();
        prop_assert_eq!(Challenge::parse(&line), Ok(challenge.clone()));
        let joined = format!("{line}, Basic realm=\"x\", {line}");
        prop_assert_eq!(Challenge::parse_all([joined.as_str()]), [challenge.clone(), challenge]);
    }

    #[test]
    fn no_text_panics(text in "(?s)(Payment )?.{0,200}") {
        let _ = Challenge::parse(&text);
        let _ = Challenge::parse_all([text.as_str()]);
    }
}
