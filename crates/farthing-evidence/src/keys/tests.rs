//! Keys are read strictly, named by RFC 8037, and rotated without losing what was signed.

use super::*;

/// RFC 8037, appendix A: known to everybody.
fn known() -> PublicKey {
    let secret = base64url::decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    SecretKey::from_bytes(&secret.try_into().unwrap()).public()
}

#[test]
fn a_key_is_named_by_its_thumbprint() {
    assert_eq!(known().kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let jwks: serde_json::Value =
        serde_json::from_str(&TrustedKeys::new(vec![known()]).to_jwks()).unwrap();
    assert_eq!(jwks["keys"][0]["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    assert_eq!(jwks["keys"][0]["crv"], "Ed25519");
    assert!(jwks["keys"][0].get("d").is_none());
}

#[test]
fn a_secret_is_32_bytes_in_base64() {
    let text = STANDARD.encode([7; 32]);
    assert_eq!(
        SecretKey::parse(&format!("{text}\n")).ok().unwrap().public(),
        SecretKey::from_bytes(&[7; 32]).public()
    );
    assert_eq!(*SecretKey::from_bytes(&[7; 32]).expose(), text);
    for odd in ["", "AA==", &text[1..], &STANDARD.encode([7; 33]), "not a key"] {
        assert_eq!(SecretKey::parse(odd).err(), Some(KeyError::Secret), "{odd:?}");
    }
}

#[test]
fn a_set_is_read_as_it_is_published_and_strictly() {
    let set = TrustedKeys::new(vec![known(), SecretKey::from_bytes(&[7; 32]).public()]);
    let text = set.to_jwks();
    assert_eq!(TrustedKeys::from_jwks(&text), Ok(set));
    let foreign =
        text.replacen("{\"kty\"", "{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"},{\"kty\"", 1);
    assert_eq!(TrustedKeys::from_jwks(&foreign).unwrap().keys().len(), 2, "others are passed over");
    for (text, want) in [
        ("[]".to_owned(), KeyError::Set),
        ("{\"keys\":[]}".to_owned(), KeyError::Empty),
        (text.replacen("kPrK", "kPrX", 1), KeyError::Name),
        (text.replacen("11qY", "====", 1), KeyError::Public),
        (
            text.replace(
                "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                &base64url::encode([0; 32]),
            ),
            KeyError::Public,
        ),
    ] {
        assert_eq!(TrustedKeys::from_jwks(&text), Err(want), "{text}");
    }
}

#[test]
fn retired_keys_stay_published_behind_the_one_that_signs() {
    let [old, new] = [[1; 32], [2; 32]].map(|bytes| SecretKey::from_bytes(&bytes));
    let notary = Notary::new("api.example.com", new.clone(), &[old.clone(), new.clone()]);
    let published = notary.ok().unwrap().published().clone();
    assert_eq!(published.keys(), [new.public(), old.public()]);
    for unfit in ["", "two words", "a+b", "a\nb"] {
        assert_eq!(Notary::new(unfit, new.clone(), &[]).err(), Some(UnfitRealm), "{unfit:?}");
    }
}
