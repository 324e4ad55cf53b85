//! RFC 8037's own example is believed, and everything clever is not.

use super::*;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32])
}

fn trusted(key: &SecretKey) -> TrustedKeys {
    TrustedKeys::new(vec![key.public()])
}

/// RFC 8037, appendix A.4: its signature is the one we make over the same bytes.
#[test]
fn the_signature_is_the_one_of_rfc_8037() {
    let secret = base64url::decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let key = SecretKey::from_bytes(&secret.try_into().unwrap());
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = base64url::encode(key.sign(signed.as_bytes()));
    assert_eq!(
        signature,
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    );
}

#[test]
fn what_was_signed_comes_back_and_says_by_whom() {
    let token = sign(&key(1), "thing", b"payload");
    let keys = TrustedKeys::new(vec![key(2).public(), key(1).public()]);
    assert_eq!(open(&token, "thing", &keys), Ok((b"payload".to_vec(), key(1).public())));
    let detached = sign_detached(&key(1), "thing", b"payload");
    assert_eq!(check_detached(&detached, b"payload", "thing", &keys), Ok(key(1).public()));
    assert_eq!(check_detached(&detached, b"other", "thing", &keys), Err(JwsError::Signature));
    assert_eq!(check_detached(&token, b"payload", "thing", &keys), Err(JwsError::Malformed));
}

#[test]
fn what_somebody_else_signed_or_nobody_is_not_believed() {
    let token = sign(&key(1), "thing", b"payload");
    let keys = trusted(&key(1));
    assert_eq!(open(&token, "other thing", &keys), Err(JwsError::Type));
    assert_eq!(open(&token, "thing", &trusted(&key(2))), Err(JwsError::Key));
    let with_header = |header: &str| {
        let signed = format!("{}.{}", base64url::encode(header), base64url::encode("payload"));
        let signature = base64url::encode(key(1).sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    };
    let kid = key(1).public().kid();
    // The control: a header in another order is the same header.
    let control = with_header(&format!(r#"{{"typ":"thing","kid":"{kid}","alg":"EdDSA"}}"#));
    assert!(open(&control, "thing", &keys).is_ok());
    for (header, want) in [
        (format!(r#"{{"alg":"none","kid":"{kid}","typ":"thing"}}"#), JwsError::Algorithm),
        (format!(r#"{{"alg":"HS256","kid":"{kid}","typ":"thing"}}"#), JwsError::Algorithm),
        (r#"{"alg":"EdDSA","typ":"thing"}"#.to_owned(), JwsError::Malformed),
        (
            format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"thing","crit":["x"],"x":1}}"#),
            JwsError::Malformed,
        ),
        (
            format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"thing","jwk":{{}}}}"#),
            JwsError::Malformed,
        ),
    ] {
        assert_eq!(open(&with_header(&header), "thing", &keys), Err(want), "{header}");
    }
}

#[test]
fn no_byte_of_a_token_can_be_altered() {
    let token = sign(&key(1), "thing", b"payload");
    let keys = trusted(&key(1));
    for at in 0..token.len() {
        for byte in [b'A', b'B', b'.', b'=', b'-'] {
            let mut altered = token.clone().into_bytes();
            altered[at] = byte;
            let altered = String::from_utf8(altered).unwrap();
            assert_eq!(open(&altered, "thing", &keys).is_ok(), altered == token, "{altered}");
        }
    }
    for odd in
        ["", "..", ".", &token[..token.len() - 1], &format!("{token}."), &format!("{token}=")]
    {
        assert!(open(odd, "thing", &keys).is_err(), "{odd}");
    }
}
