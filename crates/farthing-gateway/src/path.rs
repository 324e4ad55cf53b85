//! Paths, in one spelling.

use std::fmt::Write;

#[cfg(test)]
mod tests;

/// A path in the one spelling that the router, the payment and the upstream all see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    /// As it goes on to the upstream.
    pub forwarded: String,
    /// As routes are matched and payments are bound: without a slash at the end.
    pub matched: String,
}

/// Spells a path in one way, or refuses it.
///
/// Unreserved characters are decoded and other escapes written in upper case (RFC 3986 §6.2.2).
/// Refused is what two servers are known to read differently: empty, `.` and `..` segments, encoded
/// slashes, backslashes and control characters, path parameters (`;x`), and broken escapes. An
/// upstream that is lenient with any of these would otherwise serve for free what the gateway took
/// for another path.
///
/// # Errors
///
/// [`OddPath`], for each of these.
pub fn canonical_path(path: &str) -> Result<CanonicalPath, OddPath> {
    let rest = path.strip_prefix('/').ok_or(OddPath)?;
    let mut forwarded = String::with_capacity(path.len());
    forwarded.push('/');
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = match byte {
            b'%' => (hex(bytes.next(), bytes.next()).ok_or(OddPath)?, true),
            byte => (byte, false),
        };
        match byte {
            b'/' if !escaped => forwarded.push('/'),
            b'/' | b'\\' | b';' | 0..=0x1f | 0x7f => return Err(OddPath),
            byte if is_unreserved(byte) => forwarded.push(char::from(byte)),
            byte if !escaped && is_plain(byte) => forwarded.push(char::from(byte)),
            // Writing to a `String` cannot fail.
            byte if escaped => drop(write!(forwarded, "%{byte:02X}")),
            _ => return Err(OddPath),
        }
    }
    let segments = forwarded.strip_prefix('/').unwrap_or_default();
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let odd = |segment: &str| matches!(segment, "" | "." | "..");
    if !segments.is_empty() && segments.split('/').any(odd) || forwarded == "//" {
        return Err(OddPath);
    }
    Ok(CanonicalPath { matched: format!("/{segments}"), forwarded })
}

fn hex(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    digit(high?)?.checked_mul(16)?.checked_add(digit(low?)?)
}

/// What never needs escaping (RFC 3986 §2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// What may stand in a segment as it is (RFC 3986 §3.3), less `;`.
fn is_plain(byte: u8) -> bool {
    b"!$&'()*+,=:@".contains(&byte)
}

/// A path that two servers could read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the path can be read in more than one way; spell it without escapes of slashes, `..` or `;`"
)]
pub struct OddPath;
