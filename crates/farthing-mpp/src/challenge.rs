//! The challenge: what a server asks to be paid (§5.1).

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Serialize};

use crate::auth_param::{Scheme, schemes};
use crate::json::{self, MalformedJson, Object};
use crate::{SCHEME, base64url};

#[cfg(test)]
pub(crate) mod tests;

/// The longest `request` or `opaque` read, in bytes of base64url.
const ENCODED_BYTES_MAX: usize = 16 * 1024;

/// The most challenges read from one response.
const CHALLENGES_MAX: usize = 64;

/// Where the credential for a challenge travels.
///
/// `Authorization` is the default and never written out. A server whose `Authorization` is taken by
/// its own users' login asks for `Payment-Authorization` instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialHeader {
    /// `Authorization`.
    #[default]
    Authorization,
    /// `Payment-Authorization`.
    #[serde(rename = "Payment-Authorization")]
    PaymentAuthorization,
}

impl CredentialHeader {
    /// The field's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "Authorization",
            Self::PaymentAuthorization => "Payment-Authorization",
        }
    }

    /// The field called `name`, in any case. No other field may carry a credential, so that a
    /// hostile server cannot choose one that is logged or cached.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Authorization, Self::PaymentAuthorization]
            .into_iter()
            .find(|header| header.name().eq_ignore_ascii_case(name))
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde asks for")]
    fn is_default(&self) -> bool {
        *self == Self::Authorization
    }
}

/// The parameters of a challenge, all but the id that binds them.
///
/// Every string is the wire's own spelling.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The protection space.
    pub realm: String,
    /// The payment method: lower-case letters.
    pub method: String,
    /// The payment intent, such as `charge`.
    pub intent: String,
    /// What to pay: base64url of a canonical JSON object, in the method's own schema.
    pub request: String,
    /// When the challenge expires, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The digest of the body the challenge is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Words for people. Not bound by the id and never a reason to pay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where the credential travels.
    #[serde(default, skip_serializing_if = "CredentialHeader::is_default")]
    pub header: CredentialHeader,
    /// The server's own correlation data, echoed untouched: base64url of a flat JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<String>,
}

/// A payment challenge, as it stands in `WWW-Authenticate` and is echoed in a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Challenge {
    /// Names the challenge; never empty.
    pub id: String,
    /// Everything else.
    #[serde(flatten)]
    pub terms: Terms,
}

impl Challenge {
    /// Reads a field value that is one challenge, strictly.
    ///
    /// # Errors
    ///
    /// A [`ChallengeError`] that names the parameter at fault.
    pub fn parse(value: &str) -> Result<Self, ChallengeError> {
        let schemes = schemes(value);
        let first = schemes.first().filter(|scheme| scheme.is(SCHEME));
        let scheme = first.ok_or(ChallengeError::NotPayment)?;
        if scheme.repeats_a_param() {
            return Err(ChallengeError::Duplicate);
        }
        let challenge = read(scheme)?;
        challenge.terms.request_object().map_err(|_| ChallengeError::Malformed("request"))?;
        Ok(challenge)
    }

    /// Reads every payment challenge of a response, from one or more field values.
    ///
    /// This is how a wallet reads a 402: challenges of other schemes and incomplete ones are passed
    /// over (§7.3), whether they come one to a line or joined by commas, and a parameter that
    /// stands twice counts as the first. What `request` says is for the method to read.
    #[must_use]
    pub fn parse_all<'a>(values: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let read_line = |value| schemes(value).into_iter().filter(|scheme| scheme.is(SCHEME));
        let found = values.into_iter().flat_map(read_line);
        found.filter_map(|scheme| read(&scheme).ok()).take(CHALLENGES_MAX).collect()
    }

    /// Writes the challenge as a field value.
    ///
    /// # Errors
    ///
    /// A [`FormatError`] that names the parameter a header cannot carry: nothing is emitted that
    /// [`Challenge::parse`] would not read back.
    pub fn format(&self) -> Result<String, FormatError> {
        let terms = &self.terms;
        if self.id.is_empty() {
            return Err(FormatError("id"));
        }
        if !is_method(&terms.method) {
            return Err(FormatError("method"));
        }
        if !is_intent(&terms.intent) {
            return Err(FormatError("intent"));
        }
        let header = (!terms.header.is_default()).then_some(terms.header.name());
        let mut line = String::with_capacity(LINE_BYTES);
        line.push_str(SCHEME);
        line.push(' ');
        for (name, value, charset) in [
            ("id", Some(self.id.as_str()), Charset::Visible),
            ("realm", Some(terms.realm.as_str()), Charset::Text),
            ("method", Some(terms.method.as_str()), Charset::Visible),
            ("intent", Some(terms.intent.as_str()), Charset::Visible),
            ("request", Some(terms.request.as_str()), Charset::Base64),
            ("expires", terms.expires.as_deref(), Charset::Visible),
            ("digest", terms.digest.as_deref(), Charset::Visible),
            ("description", terms.description.as_deref(), Charset::Text),
            ("header", header, Charset::Visible),
            ("opaque", terms.opaque.as_deref(), Charset::Visible),
        ] {
            let Some(value) = value else { continue };
            if !charset.allows(value) {
                return Err(FormatError(name));
            }
            push_param(&mut line, name, value);
        }
        Ok(line)
    }
}

impl Terms {
    /// What to pay, decoded.
    ///
    /// # Errors
    ///
    /// [`MalformedJson`] when it is not a JSON object.
    pub fn request_object(&self) -> Result<Object, MalformedJson> {
        json::decode(&self.request)
    }

    /// The server's correlation data, decoded; empty where there is none.
    ///
    /// # Errors
    ///
    /// [`MalformedJson`] when it is not a JSON object.
    pub fn opaque_object(&self) -> Result<Object, MalformedJson> {
        self.opaque.as_deref().map_or(Ok(Object::new()), json::decode)
    }
}

/// Turns the bytes of a field value into text: UTF-8, or else ISO 8859-1 (RFC 9110 §5.5).
#[must_use]
pub fn field_text(bytes: &[u8]) -> Cow<'_, str> {
    match str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().copied().map(char::from).collect()),
    }
}

/// Whether `name` names a payment method: lower-case letters only (§6.1).
#[must_use]
pub fn is_method(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Whether `name` names a payment intent: letters, digits and `-` (§7.1).
#[must_use]
pub fn is_intent(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn read(scheme: &Scheme<'_>) -> Result<Challenge, ChallengeError> {
    let optional = |name: &'static str, charset: Charset| match scheme.param(name) {
        Some(value) if charset.allows(value) => Ok(Some(value.to_string())),
        Some(_) => Err(ChallengeError::Malformed(name)),
        None => Ok(None),
    };
    let required = |name, charset| optional(name, charset)?.ok_or(ChallengeError::Missing(name));
    let id = required("id", Charset::Visible)?;
    if id.is_empty() {
        return Err(ChallengeError::Missing("id"));
    }
    let header = match scheme.param("header") {
        Some(name) => CredentialHeader::named(name).ok_or(ChallengeError::Malformed("header"))?,
        None => CredentialHeader::default(),
    };
    let terms = Terms {
        realm: required("realm", Charset::Text)?,
        method: required("method", Charset::Visible)?,
        intent: required("intent", Charset::Visible)?,
        request: required("request", Charset::Base64)?,
        expires: optional("expires", Charset::Visible)?,
        digest: optional("digest", Charset::Visible)?,
        description: optional("description", Charset::Text)?,
        header,
        opaque: optional("opaque", Charset::Visible)?,
    };
    Ok(Challenge { id, terms })
}

/// What a parameter may contain.
#[derive(Clone, Copy)]
enum Charset {
    /// Printable ASCII.
    Visible,
    /// Anything a quoted-string may hold: no control character but the tab.
    Text,
    /// base64url of at most [`ENCODED_BYTES_MAX`].
    Base64,
}

impl Charset {
    fn allows(self, value: &str) -> bool {
        match self {
            Self::Visible => {
                value.len() <= ENCODED_BYTES_MAX && value.bytes().all(|b| matches!(b, b' '..=b'~'))
            }
            Self::Text => !value.chars().any(|char| char.is_control() && char != '\t'),
            Self::Base64 => value.len() <= ENCODED_BYTES_MAX && base64url::decode(value).is_ok(),
        }
    }
}

/// Room for a usual challenge, so that writing one does not move it again and again.
const LINE_BYTES: usize = 1_024;

fn push_param(line: &mut String, name: &str, value: &str) {
    let separator = if line.ends_with(' ') { "" } else { ", " };
    // Writing to a `String` cannot fail.
    let _ = write!(line, "{separator}{name}=\"");
    for span in value.split_inclusive(['"', '\\']) {
        match span.strip_suffix(['"', '\\']) {
            Some(plain) => {
                line.push_str(plain);
                line.push('\\');
                line.push_str(span.get(plain.len()..).unwrap_or_default());
            }
            None => line.push_str(span),
        }
    }
    line.push('"');
}

/// Why a field value is not a payment challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// The value does not start with the `Payment` scheme.
    #[error("not a Payment challenge")]
    NotPayment,
    /// A parameter stands twice.
    #[error("a parameter stands twice")]
    Duplicate,
    /// A required parameter is absent or empty.
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    /// A parameter is not what the scheme says it is.
    #[error("the parameter {0} is malformed")]
    Malformed(&'static str),
}

/// The named parameter cannot be written into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {0} cannot be written into a header")]
pub struct FormatError(pub &'static str);
