//! Keys that sign evidence, and how they are published.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use farthing_mpp::base64url;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// The most keys a set may have.
const KEYS_MAX: usize = 64;

/// An Ed25519 key that signs evidence. It has no `Debug` and is erased from memory when dropped.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Reads 32 bytes in base64, as `openssl rand -base64 32` writes them.
    ///
    /// # Errors
    ///
    /// [`KeyError::Secret`] for any other text; it never repeats it.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError::Secret)?);
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| KeyError::Secret)?;
        Ok(Self(SigningKey::from_bytes(bytes)))
    }

    /// Takes 32 bytes that nobody else knows.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The key as [`SecretKey::parse`] reads it, for the file it is kept in.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new(self.0.to_bytes());
        Zeroizing::new(STANDARD.encode(bytes.as_slice()))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

/// The public half of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key with these bytes, if there is one.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        // A key of small order would verify what nobody signed.
        (!key.is_weak()).then_some(Self(key))
    }

    /// The bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Its name: the thumbprint of its JWK (RFC 7638, RFC 8037 §2).
    #[must_use]
    pub fn kid(&self) -> String {
        let x = base64url::encode(self.to_bytes());
        let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        base64url::encode(Sha256::digest(members))
    }

    /// Strictly: one signature has one spelling.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kid())
    }
}

/// A key as JWK sets publish it (RFC 7517, RFC 8037).
#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    kid: String,
    #[serde(rename = "use", default)]
    usage: String,
    #[serde(default)]
    alg: String,
}

#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// Public keys that somebody trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// Trusts these keys.
    #[must_use]
    pub const fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// Trusts the Ed25519 keys of a JWK set (RFC 7517 §5); keys of other kinds are passed over.
    ///
    /// # Errors
    ///
    /// A [`KeyError`] for a text that is no such set, for a key that is none or is called by another
    /// name than its own, and for a set without any key of use here.
    pub fn from_jwks(text: &str) -> Result<Self, KeyError> {
        let set: JwkSet = serde_json::from_str(text).map_err(|_| KeyError::Set)?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeyError::Set);
        }
        let ours = set.keys.iter().filter(|jwk| jwk.kty == "OKP" && jwk.crv == "Ed25519");
        let keys = ours.map(read).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// The keys as a JWK set.
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let jwk = |key: &PublicKey| Jwk {
            kty: "OKP".into(),
            crv: "Ed25519".into(),
            x: base64url::encode(key.to_bytes()),
            kid: key.kid(),
            usage: "sig".into(),
            alg: "EdDSA".into(),
        };
        let set = JwkSet { keys: self.0.iter().map(jwk).collect() };
        // In-memory data with string keys always serialises.
        serde_json::to_string(&set).unwrap_or_default()
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }

    pub(crate) fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.0.iter().find(|key| key.kid() == kid)
    }
}

fn read(jwk: &Jwk) -> Result<PublicKey, KeyError> {
    let bytes = base64url::decode(&jwk.x).ok().and_then(|bytes| bytes.try_into().ok());
    let key = bytes.and_then(|bytes| PublicKey::from_bytes(&bytes)).ok_or(KeyError::Public)?;
    let named = jwk.kid.is_empty() || jwk.kid == key.kid();
    if named { Ok(key) } else { Err(KeyError::Name) }
}

/// Who signs evidence for a seller: a realm, the key that signs, and those that did.
#[derive(Clone)]
pub struct Notary {
    realm: String,
    active: SecretKey,
    published: TrustedKeys,
}

impl Notary {
    /// Signs for `realm` with `active`; signatures of `retired` keys still verify.
    ///
    /// # Errors
    ///
    /// [`UnfitRealm`] for a realm that cannot stand in a checkpoint.
    pub fn new(realm: &str, active: SecretKey, retired: &[SecretKey]) -> Result<Self, UnfitRealm> {
        if !is_name(realm) {
            return Err(UnfitRealm);
        }
        let mut keys = vec![active.public()];
        for key in retired.iter().map(SecretKey::public) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(Self { realm: realm.to_owned(), active, published: TrustedKeys(keys) })
    }

    /// The seller's protection space, which receipts name as their issuer.
    #[must_use]
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The keys to publish: the one that signs first.
    #[must_use]
    pub const fn published(&self) -> &TrustedKeys {
        &self.published
    }

    pub(crate) const fn key(&self) -> &SecretKey {
        &self.active
    }
}

/// Whether a text can name a key of a signed note: it is not empty, and has neither spaces nor `+`.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |char: char| !char.is_whitespace() && !char.is_control() && char != '+';
    !text.is_empty() && text.chars().all(fits)
}

/// A realm that cannot stand in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signed receipts need a realm without spaces and '+', such as api.example.com")]
pub struct UnfitRealm;

/// Why a text is no key, or no set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a secret key.
    #[error("a key that signs receipts is 32 bytes in base64; `openssl rand -base64 32` makes one")]
    Secret,
    /// Not a JWK set.
    #[error("not a JWK set, such as a gateway publishes at /.well-known/farthing/jwks.json")]
    Set,
    /// A JWK set without a key that could have signed anything here.
    #[error("the JWK set has no Ed25519 key")]
    Empty,
    /// A key's bytes are none.
    #[error("a key of the JWK set is not an Ed25519 public key")]
    Public,
    /// A key is called by a name that is not its thumbprint.
    #[error("a key of the JWK set has a kid that is not its thumbprint")]
    Name,
}
