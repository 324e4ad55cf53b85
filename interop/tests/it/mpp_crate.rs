//! Our codec against the `mpp` crate's: what one writes the other reads, with the same meaning.

use farthing_mpp::{
    AcceptPayment, BindingInput, BodyDigest, Challenge, Credential, CredentialHeader, Receipt,
    Terms, base64url, challenge_id, json,
};
use mpp::protocol::core::accept_payment;
use mpp::protocol::core::{self as theirs, Base64UrlJson, PaymentChallenge, PaymentCredential};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Text as it stands in realms and descriptions: anything printable, and what needs escaping.
fn text() -> impl Strategy<Value = String> {
    "[ -~]{1,24}|[a-z\"\\\\, =]{1,24}|[äß€é日 a-z]{1,12}"
}

/// A realm both can bind: no delimiter.
fn realm() -> impl Strategy<Value = String> {
    "[ -{}~]{1,24}"
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_000_000_i64..1_000_000).prop_map(Value::from),
        "[ -~é€😀]{0,12}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-zA-Z€]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    btree_map("[a-zA-Z]{1,8}", value, 0..4).prop_map(|map| map.into_iter().collect())
}

fn challenge() -> impl Strategy<Value = Challenge> {
    let required = ("[A-Za-z0-9_-]{1,43}", realm(), "[a-z]{1,8}", "[a-z][a-z-]{0,8}", object());
    let optional = (
        option::of(Just("2026-11-21T08:00:00Z".to_owned())),
        option::of(any::<[u8; 32]>()),
        option::of(text()),
        any::<bool>(),
        option::of(object()),
    );
    (required, optional).prop_map(|((id, realm, method, intent, request), optional)| {
        let (expires, digest, description, elsewhere, opaque) = optional;
        let terms = Terms {
            realm,
            method,
            intent,
            request: json::encode(&request),
            expires,
            digest: digest.map(|bytes| BodyDigest::from_bytes(bytes).to_string()),
            description,
            header: if elsewhere {
                CredentialHeader::PaymentAuthorization
            } else {
                CredentialHeader::Authorization
            },
            opaque: opaque.as_ref().map(json::encode),
        };
        Challenge { id, terms }
    })
}

/// The same challenge in the other's words.
fn their_challenge(challenge: &Challenge) -> PaymentChallenge {
    serde_json::from_value(serde_json::to_value(challenge).unwrap()).unwrap()
}

/// Both as JSON, which is the form both write an echo in.
fn same(ours: &Challenge, theirs: &PaymentChallenge) -> bool {
    serde_json::to_value(ours).unwrap() == serde_json::to_value(theirs).unwrap()
}

proptest! {
    /// CORE.S04, CORE.S05: a challenge that one writes the other reads, with every parameter as it was.
    #[test]
    fn challenges_are_read_across(challenge in challenge()) {
        let line = challenge.format().unwrap();
        let read = theirs::parse_www_authenticate(&line).unwrap();
        prop_assert!(same(&challenge, &read), "{line}");
        // It writes what is not ASCII in a form of its own; only displayed text can hold any.
        let mut challenge = challenge;
        challenge.terms.description = challenge.terms.description.filter(|text| text.is_ascii());
        let line = theirs::format_www_authenticate(&their_challenge(&challenge)).unwrap();
        prop_assert_eq!(Challenge::parse(&line).unwrap(), challenge);
    }

    /// CORE.C01: several challenges in one line, or in one line each.
    #[test]
    fn lists_are_read_across(challenges in vec(challenge(), 1..4), joined in any::<bool>()) {
        let lines: Vec<String> = challenges.iter().map(|it| it.format().unwrap()).collect();
        let lines = if joined { vec![lines.join(", ")] } else { lines };
        let ours = Challenge::parse_all(lines.iter().map(String::as_str));
        prop_assert_eq!(&ours, &challenges);
        let theirs = theirs::parse_www_authenticate_all(lines.iter().map(String::as_str));
        prop_assert_eq!(theirs.len(), challenges.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            prop_assert!(same(ours, &theirs.unwrap()));
        }
    }

    /// M-02, M-11: on a line that was damaged at random, both that read it read the same. The damage
    /// adds no separator: only we see that one may start another scheme.
    #[test]
    fn damaged_lines_mean_the_same_or_nothing(
        challenge in challenge(),
        damage in vec((any::<prop::sample::Index>(), "[!-+.-<>-~-]{0,2}"), 1..4),
    ) {
        let mut line: Vec<char> = challenge.format().unwrap().chars().collect();
        for (at, with) in damage {
            let at = at.index(line.len());
            line.splice(at..=at, with.chars());
            if line.is_empty() {
                line.push(' ');
            }
        }
        let line: String = line.into_iter().collect();
        let (ours, theirs) = (Challenge::parse(&line), theirs::parse_www_authenticate(&line));
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert!(same(&ours, &theirs), "{line}\n{ours:?}\n{theirs:?}");
        }
    }

    /// CORE.S04: the id of a challenge is the same under the same key.
    #[test]
    fn ids_agree(challenge in challenge(), key in "[ -~]{1,64}") {
        let terms = &challenge.terms;
        let header = match terms.header {
            CredentialHeader::Authorization => None,
            CredentialHeader::PaymentAuthorization => Some(terms.header.name()),
        };
        let (expires, digest, opaque) =
            (terms.expires.as_deref(), terms.digest.as_deref(), terms.opaque.as_deref());
        let ours = challenge_id(key.as_bytes(), &BindingInput {
            realm: &terms.realm,
            method: &terms.method,
            intent: &terms.intent,
            request: &terms.request,
            expires,
            digest,
            header,
            opaque,
        });
        let theirs = theirs::compute_challenge_id_with_header(
            &key, &terms.realm, &terms.method, &terms.intent, &terms.request, expires, digest,
            opaque, header,
        );
        prop_assert_eq!(ours, theirs);
    }

    /// CORE.C01, CORE.S11: a credential that one writes the other reads.
    #[test]
    fn credentials_are_read_across(
        challenge in challenge(),
        source in option::of("did:[a-z]{3}:[A-Za-z0-9]{1,20}"),
        payload in object(),
    ) {
        let credential = Credential { challenge, source, payload };
        let ours = serde_json::to_value(&credential).unwrap();
        let line = credential.format();
        let read: PaymentCredential = theirs::parse_authorization(&line).unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), ours.clone());
        let line = theirs::format_authorization(&read).unwrap();
        let read = Credential::parse(&line).ok().unwrap();
        prop_assert_eq!(serde_json::to_value(&read).unwrap(), ours);
    }

    /// CORE.S08: a receipt that one writes the other reads.
    #[test]
    fn receipts_are_read_across(method in "[a-z]{1,8}", reference in "[!-~]{1,40}") {
        let at = "2026-11-21T08:00:00Z".parse().unwrap();
        let receipt = Receipt::new(&method, at, &reference);
        let line = receipt.format();
        let read = theirs::parse_receipt(&line).unwrap();
        prop_assert_eq!(&read.reference, &reference);
        prop_assert_eq!(read.method.as_str(), method);
        let line = theirs::format_receipt(&read).unwrap();
        prop_assert_eq!(Receipt::parse(&line).unwrap(), receipt);
    }

    /// M-09: both write one object in one way.
    #[test]
    fn canonical_json_agrees(object in object()) {
        let theirs = Base64UrlJson::from_value(&Value::Object(object.clone())).unwrap();
        prop_assert_eq!(json::encode(&object), theirs.raw());
    }

    /// M-07: both read the same bytes from base64url, or one of them refuses.
    #[test]
    fn base64url_agrees(bytes in vec(any::<u8>(), 0..60), odd in "[A-Za-z0-9_=+/ -]{0,20}") {
        let encoded = base64url::encode(&bytes);
        prop_assert_eq!(&encoded, &theirs::base64url_encode(&bytes));
        prop_assert_eq!(theirs::base64url_decode(&encoded).unwrap(), bytes);
        if let (Ok(ours), Ok(theirs)) = (base64url::decode(&odd), theirs::base64url_decode(&odd)) {
            prop_assert_eq!(ours, theirs, "{}", odd);
        }
    }

    /// CORE.S07: either form of a digest that one writes, the other accepts for the same body only.
    #[test]
    fn digests_are_accepted_across(body in vec(any::<u8>(), 0..60), other in vec(any::<u8>(), 0..60)) {
        let ours = BodyDigest::of(&body);
        prop_assert!(mpp::body_digest::verify(&ours.to_string(), &body));
        let read: BodyDigest = mpp::body_digest::compute(&body).parse().unwrap();
        prop_assert_eq!(read, ours);
        let accepts = mpp::body_digest::verify(&ours.to_string(), &other);
        prop_assert_eq!(accepts, body == other);
    }

    /// CORE.S09: offers are put in the same order for the same preferences.
    #[test]
    fn offers_are_ranked_alike(
        ranges in btree_map(("prepaid|tempo|stripe|\\*", "charge|session|\\*"), 0_u16..=10, 1..5),
        offers in vec(("prepaid|tempo|stripe|evm", "charge|session"), 1..5),
    ) {
        let line: Vec<String> = ranges
            .iter()
            .map(|((method, intent), tenths)| {
                format!("{method}/{intent};q={}.{}", tenths / 10, tenths % 10)
            })
            .collect();
        let line = line.join(", ");
        let pairs: Vec<(&str, &str)> =
            offers.iter().map(|(method, intent)| (method.as_str(), intent.as_str())).collect();
        let ours = line.parse::<AcceptPayment>().unwrap().rank(&pairs);
        let preferences = accept_payment::parse(&line).unwrap();
        let wrapped: Vec<Offer> = pairs.iter().map(|&(method, intent)| Offer(method, intent)).collect();
        let theirs: Vec<(&str, &str)> =
            accept_payment::rank(&wrapped, &preferences).iter().map(|it| (it.0, it.1)).collect();
        // Where nothing matches we give every offer, as §7.4 allows, and they give none.
        if !theirs.is_empty() {
            let ours: Vec<(&str, &str)> = ours.iter().map(|&at| pairs[at]).collect();
            prop_assert_eq!(ours, theirs, "{}", line);
        }
    }
}

struct Offer<'a>(&'a str, &'a str);

impl accept_payment::HasMethodIntent for Offer<'_> {
    fn method(&self) -> &str {
        self.0
    }

    fn intent(&self) -> &str {
        self.1
    }
}
