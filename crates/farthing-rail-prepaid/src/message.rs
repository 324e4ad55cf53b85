//! What a payer signs.

use serde_json::json;

/// Keeps these signatures apart from every other use of the same key.
const DOMAIN: &str = "mpp-prepaid-charge-v1";

/// Everything a signature pays for, each part as it is spelled on the wire.
pub(crate) struct Message<'a> {
    pub(crate) amount: &'a str,
    pub(crate) challenge: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) expires: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) recipient: &'a str,
}

impl Message<'_> {
    /// The bytes to sign: the canonical JSON (RFC 8785) of all parts and the domain.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { amount, challenge, currency, expires, realm, recipient } = self;
        let object = json!({
            "amount": amount,
            "challenge": challenge,
            "currency": currency,
            "domain": DOMAIN,
            "expires": expires,
            "realm": realm,
            "recipient": recipient,
        });
        farthing_mpp::json::canonical(&object).into_bytes()
    }
}
