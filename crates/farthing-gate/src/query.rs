//! Queries, in one spelling.

use std::fmt::Write;

use percent_encoding::percent_decode_str;

#[cfg(test)]
mod tests;

/// Which part of the query belongs to what is bought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BoundQuery {
    /// All of it: a payment for one query is not one for another.
    #[default]
    All,
    /// These parameters, because the price or the answer depends on nothing else.
    Only(Vec<String>),
    /// None of it.
    None,
}

impl BoundQuery {
    /// The bound part of `query`, normalised.
    #[must_use]
    pub fn of(&self, query: &str) -> String {
        match self {
            Self::All => normalise_query(query),
            Self::Only(names) => normalise(query, |name| names.iter().any(|known| known == name)),
            Self::None => String::new(),
        }
    }
}

/// Spells a query in one way: parameters decoded, sorted by name and encoded again.
///
/// Parameters of one name keep their order, since a server may care for it. Two queries that any
/// server could tell apart stay different.
#[must_use]
pub fn normalise_query(query: &str) -> String {
    normalise(query, |_| true)
}

fn normalise(query: &str, keep: impl Fn(&str) -> bool) -> String {
    let mut pairs: Vec<(Vec<u8>, Option<Vec<u8>>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((name, value)) => (decode(name), Some(decode(value))),
            None => (decode(pair), None),
        })
        .filter(|(name, _)| keep(&String::from_utf8_lossy(name)))
        .collect();
    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut text = String::with_capacity(query.len());
    for (name, value) in &pairs {
        if !text.is_empty() {
            text.push('&');
        }
        encode(&mut text, name);
        if let Some(value) = value {
            text.push('=');
            encode(&mut text, value);
        }
    }
    text
}

/// Undoes percent-encoding and the `+` that forms use for a space.
fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

/// Encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}
