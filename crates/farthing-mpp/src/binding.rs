//! The binding of a challenge id to its parameters (§5.1.2.1.1).

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::challenge::{Challenge, Terms};
use crate::{CredentialHeader, base64url};

#[cfg(test)]
mod tests;

/// The fewest bytes a binding secret may have; whoever guesses it can mint challenges.
const SECRET_BYTES_MIN: usize = 32;

/// The fewest different byte values a secret may have; `"aaaa…"` is long and still no secret.
const SECRET_VALUES_MIN: usize = 8;

/// The strings a challenge id is computed over, exactly as they stand on the wire.
///
/// Seven slots joined by `|`; absent optional ones are empty. A credential header other than
/// `Authorization` adds a slot before the last, as current SDKs do.
#[derive(Clone, Copy, Debug)]
pub struct BindingInput<'a> {
    /// The protection space.
    pub realm: &'a str,
    /// The payment method.
    pub method: &'a str,
    /// The payment intent.
    pub intent: &'a str,
    /// The encoded request.
    pub request: &'a str,
    /// When the challenge expires.
    pub expires: Option<&'a str>,
    /// The digest of the request body.
    pub digest: Option<&'a str>,
    /// The field the credential travels in, unless it is `Authorization`.
    pub header: Option<&'a str>,
    /// The encoded correlation data.
    pub opaque: Option<&'a str>,
}

impl BindingInput<'_> {
    /// Whether a slot contains the delimiter, which would let two inputs share an id.
    fn is_ambiguous(&self) -> bool {
        let optional = [self.expires, self.digest, self.header, self.opaque];
        [self.realm, self.method, self.intent, self.request]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .any(|slot| slot.contains('|'))
    }

    fn feed(&self, mac: &mut impl Mac) {
        mac.update(self.realm.as_bytes());
        let required = [self.method, self.intent, self.request];
        let optional = [self.expires, self.digest].map(Option::unwrap_or_default);
        for slot in required.into_iter().chain(optional).chain(self.header) {
            mac.update(b"|");
            mac.update(slot.as_bytes());
        }
        mac.update(b"|");
        mac.update(self.opaque.unwrap_or_default().as_bytes());
    }
}

/// Computes an id under any key; the raw construction, without a say on the key's strength.
///
/// Servers use [`Secrets`]. This is for conformance vectors, some of which have short keys.
#[must_use]
pub fn challenge_id(key: &[u8], input: &BindingInput<'_>) -> String {
    let mut mac = keyed(key);
    input.feed(&mut mac);
    base64url::encode(mac.finalize().into_bytes())
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    // HMAC takes a key of any length: `new_from_slice` has no error to give for it.
    #[expect(clippy::unwrap_used, reason = "HMAC takes a key of any length")]
    Hmac::new_from_slice(key).unwrap()
}

/// A key that binds challenge ids.
///
/// It has no `Debug`, no `Display` and no way to be read back.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl Secret {
    /// Takes a key, and erases the bytes handed in.
    ///
    /// # Errors
    ///
    /// [`WeakSecret`] for fewer than 32 bytes, or for a text that is no secret at all: one
    /// character repeated, or a word everybody uses for a placeholder.
    pub fn new(key: String) -> Result<Self, WeakSecret> {
        let key = Zeroizing::new(key.into_bytes());
        if key.len() < SECRET_BYTES_MIN {
            return Err(WeakSecret::Short { bytes: key.len() });
        }
        if is_placeholder(&key) {
            return Err(WeakSecret::Placeholder);
        }
        Ok(Self(keyed(&key)))
    }

    fn id(&self, input: &BindingInput<'_>) -> [u8; 32] {
        let mut mac = self.0.clone();
        input.feed(&mut mac);
        mac.finalize().into_bytes().into()
    }
}

fn is_placeholder(key: &[u8]) -> bool {
    const WORDS: [&str; 8] = [
        "changeme",
        "change-me",
        "change_me",
        "example",
        "placeholder",
        "your-secret",
        "test-vector",
        "secret-key",
    ];
    let mut values = key.to_vec();
    values.sort_unstable();
    values.dedup();
    let text = Zeroizing::new(String::from_utf8_lossy(key).to_ascii_lowercase());
    values.len() < SECRET_VALUES_MIN || WORDS.iter().any(|word| text.contains(word))
}

/// A key is too weak to bind challenges with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Fewer than 32 bytes.
    #[error(
        "the secret has {bytes} bytes and needs at least 32; `openssl rand -base64 32` makes one"
    )]
    Short {
        /// How many it has.
        bytes: usize,
    },
    /// A placeholder, or hardly more than one character repeated.
    #[error("the secret is a placeholder; `openssl rand -base64 32` makes a real one")]
    Placeholder,
}

/// The keys of a server: one signs, and the ones before it still verify until they retire.
#[derive(Clone)]
pub struct Secrets {
    signing: Secret,
    retiring: Vec<Secret>,
}

impl Secrets {
    /// Signs with `signing`; accepts challenges of `retiring` too (§11.2.2).
    #[must_use]
    pub const fn new(signing: Secret, retiring: Vec<Secret>) -> Self {
        Self { signing, retiring }
    }

    /// Turns terms into a challenge by computing its id.
    #[must_use]
    pub fn bind(&self, terms: Terms) -> Challenge {
        let id = base64url::encode(self.signing.id(&BindingInput::from(&terms)));
        Challenge { id, terms }
    }

    /// Decides whether the id of an echoed challenge is one of ours for exactly these parameters.
    ///
    /// The id is compared as it stands on the wire and in constant time, under every key.
    ///
    /// # Errors
    ///
    /// [`NotBound`] when no key of ours made this id for these parameters.
    pub fn verify(&self, challenge: &Challenge) -> Result<(), NotBound> {
        let input = BindingInput::from(&challenge.terms);
        let presented = challenge.id.as_bytes();
        let bound = std::iter::once(&self.signing)
            .chain(&self.retiring)
            .map(|secret| base64url::encode(secret.id(&input)))
            .fold(Choice::from(0), |found, id| found | id.as_bytes().ct_eq(presented));
        if bool::from(bound) && !input.is_ambiguous() { Ok(()) } else { Err(NotBound) }
    }
}

impl<'a> From<&'a Terms> for BindingInput<'a> {
    fn from(terms: &'a Terms) -> Self {
        Self {
            realm: &terms.realm,
            method: &terms.method,
            intent: &terms.intent,
            request: &terms.request,
            expires: terms.expires.as_deref(),
            digest: terms.digest.as_deref(),
            header: match terms.header {
                CredentialHeader::Authorization => None,
                CredentialHeader::PaymentAuthorization => Some(terms.header.name()),
            },
            opaque: terms.opaque.as_deref(),
        }
    }
}

/// A challenge id is not ours, or not for these parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the challenge was not issued here, or was altered")]
pub struct NotBound;
