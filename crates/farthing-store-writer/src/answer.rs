//! Answers that were kept, as they are written down.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use farthing_core::{Answer, write_fields};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The fields that [`write_fields`] wrote. What is no field is left out.
#[must_use]
pub fn read_fields(text: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    // A value contains no line break, and a name no colon.
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b": ").unwrap_or(value);
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            fields.append(name, value);
        }
    }
    fields
}

/// An answer in JSON, where bytes have no other spelling.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelt {
    status: u16,
    fields: String,
    body: String,
}

impl From<&Answer> for Spelt {
    fn from(answer: &Answer) -> Self {
        Self {
            status: answer.status,
            fields: BASE64_STANDARD.encode(write_fields(&answer.fields)),
            body: BASE64_STANDARD.encode(&answer.body),
        }
    }
}

impl Spelt {
    fn read(self) -> Result<Answer, base64::DecodeError> {
        Ok(Answer {
            status: self.status,
            fields: read_fields(&BASE64_STANDARD.decode(self.fields)?),
            body: BASE64_STANDARD.decode(self.body)?,
        })
    }
}

/// For `#[serde(with)]`: an answer, if there is one.
pub(crate) mod spelt {
    use serde::{Deserializer, Serializer, de::Error as _};

    use super::{Answer, Deserialize, Serialize, Spelt};

    #[expect(clippy::ref_option, reason = "serde asks by reference")]
    pub(crate) fn serialize<S: Serializer>(
        answer: &Option<Box<Answer>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        answer.as_deref().map(Spelt::from).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<Answer>>, D::Error> {
        let spelt = Option::<Spelt>::deserialize(deserializer)?;
        spelt.map(|spelt| spelt.read().map(Box::new).map_err(D::Error::custom)).transpose()
    }
}
