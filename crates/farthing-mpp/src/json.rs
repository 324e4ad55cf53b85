//! JSON objects as the scheme uses them: read strictly, written canonically.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::base64url;

#[cfg(test)]
mod tests;

/// A JSON object.
pub type Object = Map<String, Value>;

/// How deep arrays and objects may nest.
const DEPTH_MAX: u8 = 32;

/// Reads a JSON object: duplicate member names and nesting past 32 levels are refused.
///
/// Two readers of one text must see the same value; with a duplicate name they need not.
///
/// # Errors
///
/// [`MalformedJson`] when the bytes are not such an object.
pub fn parse(bytes: &[u8]) -> Result<Object, MalformedJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: DEPTH_MAX }.deserialize(&mut deserializer);
    match (value, deserializer.end()) {
        (Ok(Value::Object(object)), Ok(())) => Ok(object),
        _ => Err(MalformedJson),
    }
}

/// Reads a base64url-encoded JSON object, as `request`, `opaque` and credentials are.
///
/// # Errors
///
/// [`MalformedJson`] when the text is not base64url or its bytes are not an object.
pub fn decode(text: &str) -> Result<Object, MalformedJson> {
    parse(&base64url::decode(text).map_err(|_| MalformedJson)?)
}

/// Writes an object in its canonical form (RFC 8785), as base64url.
#[must_use]
pub fn encode(object: &Object) -> String {
    base64url::encode(canonical(object))
}

/// Writes a value in its canonical form (RFC 8785): members sorted by UTF-16 code units, numbers
/// as ECMAScript prints them, no white space.
#[must_use]
pub fn canonical(value: &impl serde::Serialize) -> String {
    // Serialising in-memory JSON to a string has no error to give: every map key is a string.
    serde_json_canonicalizer::to_string(value).unwrap_or_default()
}

/// A text is not a JSON object, strictly read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON object, or one with duplicate names or too deep a nesting")]
pub struct MalformedJson;

/// Builds a [`Value`] while counting depth and watching for duplicate names.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: u8,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("duplicate name"));
            }
        }
        Ok(Value::Object(object))
    }
}
