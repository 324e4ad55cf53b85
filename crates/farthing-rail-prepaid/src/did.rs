//! `did:key` names of Ed25519 keys (W3C did:key, multicodec 0xed).

/// The multicodec prefix of an Ed25519 public key.
const ED25519: [u8; 2] = [0xed, 0x01];

/// The name of a public key: `did:key:z6Mk…`.
#[must_use]
pub fn did_key(key: &[u8; 32]) -> String {
    let mut bytes = ED25519.to_vec();
    bytes.extend(key);
    format!("did:key:z{}", bs58::encode(bytes).into_string())
}

/// The public key that a name names.
///
/// One key has one name: a text that is not what [`did_key`] writes is refused.
///
/// # Errors
///
/// [`MalformedDid`] for any other text.
pub fn parse_did_key(did: &str) -> Result<[u8; 32], MalformedDid> {
    let encoded = did.strip_prefix("did:key:z").ok_or(MalformedDid)?;
    // 34 bytes are at most 47 characters; longer texts are not worth decoding.
    if encoded.len() > 48 {
        return Err(MalformedDid);
    }
    let bytes = bs58::decode(encoded).into_vec().map_err(|_| MalformedDid)?;
    let key = bytes.strip_prefix(&ED25519).ok_or(MalformedDid)?;
    let key: [u8; 32] = key.try_into().map_err(|_| MalformedDid)?;
    if did_key(&key) == did { Ok(key) } else { Err(MalformedDid) }
}

/// A text is not the `did:key` of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the did:key of an Ed25519 key, which starts with did:key:z6Mk")]
pub struct MalformedDid;
