use standardwebhooks::Webhook;

use super::{UnfitSecret, WebhookSecret, signatures};

/// The standard's own example of a secret.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The standard's own example of a message and its signature.
#[test]
fn the_standards_example_is_signed_as_it_says() {
    let secret = WebhookSecret::parse(SECRET).unwrap();
    let signed = signatures(
        &[secret],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1_614_265_330,
        "{\"test\": 2432232314}",
    );
    assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

/// While secrets are rotated, a receiver may hold either; one who holds neither refuses.
#[test]
fn every_secret_signs() {
    let secrets = [SECRET, OTHER].map(|text| WebhookSecret::parse(text).unwrap());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut fields = http::HeaderMap::new();
    let mut set = |name: &'static str, value: String| fields.insert(name, value.parse().unwrap());
    set("webhook-id", "evt_1".to_owned());
    set("webhook-timestamp", now.as_secs().to_string());
    set("webhook-signature", signatures(&secrets, "evt_1", now.as_secs(), "{}"));
    let verifies = |secret: &str| Webhook::new(secret).unwrap().verify(b"{}", &fields).is_ok();
    assert!(verifies(SECRET) && verifies(OTHER));
    assert!(!verifies("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"));
    assert!(Webhook::new(SECRET).unwrap().verify(b"{ }", &fields).is_err());
}

#[test]
fn a_secret_that_could_be_guessed_is_refused() {
    let parse = |text: &str| WebhookSecret::parse(text).err();
    assert_eq!(parse(SECRET), None);
    for unfit in [
        "",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_",
        "whsec_c2hvcnQ=",
        "whsec_not base64",
        "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ] {
        assert_eq!(parse(unfit), Some(UnfitSecret), "{unfit}");
    }
}
