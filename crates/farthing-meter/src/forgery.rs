//! Events of the upstream that call themselves payments.
//!
//! Only the seller's own software may speak of payments in a stream that is paid for: an upstream, or
//! whoever's words it repeats, could otherwise make a client sign a voucher. Names that begin with
//! `payment-` belong to it (tempo-session §12.6, §13.6).

use std::ops::Range;

use bytes::Bytes;

use crate::sse::lines;

#[cfg(test)]
mod tests;

/// What stands before a forged name from then on: `payment-receipt` becomes
/// `upstream-payment-receipt`, which is no event of the protocol.
pub const NEUTRALISED_PREFIX: &str = "upstream-";

/// The names that are ours.
const RESERVED: &str = "payment-";

/// Renames what is forged in the bytes of one event, and says how many names that were. All other
/// bytes stay as they are.
///
/// Every line that names the event is looked at, since parsers differ on which of several counts, and
/// in every spelling that some parser is known to accept: see [`readable`] and [`segments`].
pub(crate) fn neutralise(event: Bytes) -> (Bytes, u64) {
    let mut marks = Vec::new();
    for line in lines(&event) {
        let whole = forged(&event, line.clone(), line.end);
        let inner = segments(&event, line.clone()).skip(1);
        let inner = inner.filter_map(|segment| forged(&event, segment, line.end));
        marks.extend(whole.into_iter().chain(inner));
    }
    if marks.is_empty() {
        return (event, 0);
    }
    // The line and a line within it may say the same.
    marks.sort_unstable();
    marks.dedup();
    let added = marks.len().saturating_mul(NEUTRALISED_PREFIX.len());
    let mut written = Vec::with_capacity(event.len().saturating_add(added));
    let mut from = 0;
    for &mark in &marks {
        written.extend_from_slice(event.get(from..mark).unwrap_or_default());
        written.extend_from_slice(NEUTRALISED_PREFIX.as_bytes());
        from = mark;
    }
    written.extend_from_slice(event.get(from..).unwrap_or_default());
    (written.into(), u64::try_from(marks.len()).unwrap_or(u64::MAX))
}

/// The lines within a line of the standard, for readers that split text as Python's
/// `str.splitlines` does: at vertical tabs, form feeds, separators, NEL, U+2028 and U+2029.
fn segments(event: &[u8], line: Range<usize>) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = Some(line.start);
    std::iter::from_fn(move || {
        let start = from?;
        let separator = (start..line.end).find_map(|at| {
            let length: usize = match event.get(at..line.end)? {
                [0x0B | 0x0C | 0x1C | 0x1D | 0x1E, ..] => 1,
                [0xC2, 0x85, ..] => 2,
                [0xE2, 0x80, 0xA8 | 0xA9, ..] => 3,
                _ => return None,
            };
            Some((at, at.saturating_add(length)))
        });
        from = separator.map(|(_, next)| next);
        Some(start..separator.map_or(line.end, |(at, _)| at))
    })
}

/// Where the mark goes, if `event: payment-…` stands in the event: its name within `line`, and its
/// value from there to `end`. The value may reach beyond the line, since readers that split at a
/// separator and readers that trim it are not the same.
fn forged(event: &[u8], line: Range<usize>, end: usize) -> Option<usize> {
    let text = event.get(line.clone())?;
    let colon = text.iter().position(|&byte| byte == b':')?;
    let name = text.get(..colon)?;
    if name == b"data" || !readable(name).eq("event".chars()) {
        return None;
    }
    let value = line.start.saturating_add(colon).saturating_add(1);
    let mut spelt = readable(event.get(value..end)?);
    let space = usize::from(event.get(value) == Some(&b' '));
    let is_ours = RESERVED.chars().all(|char| spelt.next() == Some(char));
    is_ours.then_some(value.saturating_add(space))
}

/// Text as the most lenient reader takes it: in lower case, without white space, control characters,
/// what cannot be seen, and what is not UTF-8. It is read no further than it is asked for, so that
/// a line full of what cannot be seen is looked at once.
fn readable(mut bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    let chars = std::iter::from_fn(move || {
        let (char, length) = first_char(bytes)?;
        bytes = bytes.get(length..).unwrap_or_default();
        Some(char)
    });
    let seen = chars.filter(|&char| {
        !char.is_whitespace()
            && !char.is_control()
            && !matches!(char, '\u{AD}' | '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}')
            && !matches!(char, '\u{FEFF}' | char::REPLACEMENT_CHARACTER)
    });
    seen.flat_map(char::to_lowercase)
}

/// The first character, and how many bytes it is; U+FFFD for a byte that begins none.
fn first_char(bytes: &[u8]) -> Option<(char, usize)> {
    let length: usize = match bytes.first()? {
        0xC2..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF4 => 4,
        _ => 1,
    };
    let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let char = text.and_then(|text| text.chars().next());
    Some(char.map_or((char::REPLACEMENT_CHARACTER, 1), |char| (char, length)))
}
