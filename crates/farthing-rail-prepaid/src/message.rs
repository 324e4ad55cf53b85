//! What a payer signs.

use farthing_ledger::Fingerprint;
use serde_json::json;
use sha2::{Digest as _, Sha256};

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

/// Keeps vouchers apart.
const VOUCHER: &str = "mpp-prepaid-voucher-v1";

/// Keeps deposits apart.
const DEPOSIT: &str = "mpp-prepaid-deposit-v1";

/// Keeps the names of channels apart.
const CHANNEL: &str = "mpp-prepaid-channel-v1";

/// Everything a voucher authorises, each part as it is spelled on the wire.
pub(crate) struct VoucherMessage<'a> {
    pub(crate) channel: &'a str,
    pub(crate) cumulative: &'a str,
    pub(crate) currency: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) recipient: &'a str,
}

impl VoucherMessage<'_> {
    /// The bytes to sign.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { channel, cumulative, currency, realm, recipient } = self;
        let object = json!({
            "channel": channel,
            "cumulative": cumulative,
            "currency": currency,
            "domain": VOUCHER,
            "realm": realm,
            "recipient": recipient,
        });
        farthing_mpp::json::canonical(&object).into_bytes()
    }
}

/// Everything a deposit does. What it is for stands in the channel's name.
pub(crate) struct DepositMessage<'a> {
    pub(crate) channel: &'a str,
    pub(crate) challenge: &'a str,
    pub(crate) deposit: &'a str,
}

impl DepositMessage<'_> {
    /// The bytes to sign.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let Self { channel, challenge, deposit } = self;
        let object = json!({
            "challenge": challenge,
            "channel": channel,
            "deposit": deposit,
            "domain": DEPOSIT,
        });
        farthing_mpp::json::canonical(&object).into_bytes()
    }
}

/// Everything a channel is for, which makes its name.
pub(crate) struct ChannelName<'a> {
    pub(crate) currency: &'a str,
    pub(crate) payer: &'a str,
    pub(crate) realm: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) salt: &'a str,
    pub(crate) signer: &'a str,
}

impl ChannelName<'_> {
    /// The name: 64 lower-case hexadecimal digits of a SHA-256.
    pub(crate) fn hex(&self) -> String {
        let Self { currency, payer, realm, recipient, salt, signer } = self;
        let object = json!({
            "currency": currency,
            "domain": CHANNEL,
            "payer": payer,
            "realm": realm,
            "recipient": recipient,
            "salt": salt,
            "signer": signer,
        });
        let digest = Sha256::digest(farthing_mpp::json::canonical(&object));
        Fingerprint::from_bytes(digest.into()).to_string()
    }
}
