//! Words that others wrote, made safe to show.

#[cfg(test)]
mod tests;

/// The text without what would move a cursor, ring a bell or turn the direction of reading around: sellers and
/// agents write some of what an owner reads, and what is read has to be what is there.
#[must_use]
pub fn plain(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '\u{fffd}' } else { c }).collect()
}
