//! Compact JSON Web Signatures (RFC 7515) with Ed25519 (RFC 8037), and nothing else of JOSE.

use farthing_mpp::base64url;
use serde::{Deserialize, Serialize};

use crate::keys::{PublicKey, SecretKey, TrustedKeys};

#[cfg(test)]
mod tests;

/// The only algorithm.
const EDDSA: &str = "EdDSA";

/// The longest token that is read, in bytes.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// What is signed beside the payload. Whatever else a header could say is refused: no other algorithm,
/// no key that comes along, nothing critical.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Signs `payload` as a `typ` of thing.
pub(crate) fn sign(key: &SecretKey, typ: &str, payload: &[u8]) -> String {
    let header = Header { alg: EDDSA.into(), kid: key.public().kid(), typ: typ.into() };
    // In-memory data with string keys always serialises.
    let header = base64url::encode(serde_json::to_vec(&header).unwrap_or_default());
    let signed = format!("{header}.{}", base64url::encode(payload));
    let signature = base64url::encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Signs `payload` and leaves it out (RFC 7515, appendix F): whoever verifies has it.
pub(crate) fn sign_detached(key: &SecretKey, typ: &str, payload: &[u8]) -> String {
    let whole = sign(key, typ, payload);
    let mut parts = whole.split('.');
    let (header, signature) = (parts.next(), parts.next_back());
    format!("{}..{}", header.unwrap_or_default(), signature.unwrap_or_default())
}

/// The payload of a token, and who signed it, if it is a `typ` of thing and one of `keys` did.
pub(crate) fn open(
    token: &str,
    typ: &str,
    keys: &TrustedKeys,
) -> Result<(Vec<u8>, PublicKey), JwsError> {
    let (header, payload, signature) = parts(token)?;
    let key = signed_by(header, payload, signature, typ, keys)?;
    Ok((decode(payload)?, key))
}

/// Who signed `payload`, if `token` is its detached signature.
pub(crate) fn check_detached(
    token: &str,
    payload: &[u8],
    typ: &str,
    keys: &TrustedKeys,
) -> Result<PublicKey, JwsError> {
    let (header, nothing, signature) = parts(token)?;
    if !nothing.is_empty() {
        return Err(JwsError::Malformed);
    }
    signed_by(header, &base64url::encode(payload), signature, typ, keys)
}

fn parts(token: &str) -> Result<(&str, &str, &str), JwsError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) if token.len() <= TOKEN_BYTES_MAX => {
            Ok((header, payload, signature))
        }
        _ => Err(JwsError::Malformed),
    }
}

fn signed_by(
    header: &str,
    payload: &str,
    signature: &str,
    typ: &str,
    keys: &TrustedKeys,
) -> Result<PublicKey, JwsError> {
    let Header { alg, kid, typ: own } =
        serde_json::from_slice(&decode(header)?).map_err(|_| JwsError::Malformed)?;
    if alg != EDDSA {
        return Err(JwsError::Algorithm);
    }
    if own != typ {
        return Err(JwsError::Type);
    }
    let key = keys.find(&kid).ok_or(JwsError::Key)?;
    let signed = format!("{header}.{payload}");
    let verifies = key.verifies(signed.as_bytes(), &decode(signature)?);
    if verifies { Ok(*key) } else { Err(JwsError::Signature) }
}

/// One value has one spelling: no padding either.
fn decode(text: &str) -> Result<Vec<u8>, JwsError> {
    if text.contains('=') {
        return Err(JwsError::Malformed);
    }
    base64url::decode(text).map_err(|_| JwsError::Malformed)
}

/// Why a signature is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Not a compact JSON Web Signature as they are made here.
    #[error("it is not a compact JSON Web Signature")]
    Malformed,
    /// Signed by another algorithm, or by none.
    #[error("it is not signed with EdDSA")]
    Algorithm,
    /// Something else was signed.
    #[error("something else was signed, and is shown for what it is not")]
    Type,
    /// Signed by a key that is not trusted.
    #[error("it is signed by a key that is not among the trusted ones")]
    Key,
    /// The signature does not fit what was signed.
    #[error("its signature does not verify: it was altered, or somebody else signed it")]
    Signature,
}
