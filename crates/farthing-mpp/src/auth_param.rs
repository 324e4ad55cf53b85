//! The grammar of `WWW-Authenticate`: schemes and their parameters (RFC 9110 §11.3, §5.6).

use std::borrow::Cow;

use crate::FIELD_BYTES_MAX;

#[cfg(test)]
mod tests;

/// The most parameters read for one challenge; the scheme defines ten.
const PARAMS_MAX: usize = 64;

/// One challenge of a field value: a scheme and its parameters, names in lower case.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scheme<'a> {
    pub(crate) name: &'a str,
    params: Vec<(String, Cow<'a, str>)>,
}

impl<'a> Scheme<'a> {
    /// The first parameter called `name`.
    ///
    /// RFC 9110 leaves a repeated parameter undefined. The first one counts, so that whoever can
    /// only append to a header cannot override what the origin server said.
    pub(crate) fn param(&self, name: &str) -> Option<&Cow<'a, str>> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Whether a parameter stands twice.
    pub(crate) fn repeats_a_param(&self) -> bool {
        let mut names: Vec<_> = self.params.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Splits a field value into its challenges.
///
/// All of it has to make sense: where a parameter breaks off, nobody can say which challenge it
/// belonged to or what it limited. A value that does not parse to its end, that has control
/// characters, or that is longer than [`FIELD_BYTES_MAX`], has no challenges at all.
///
/// Linear in the length of the value, whatever the value.
pub(crate) fn schemes(value: &str) -> Vec<Scheme<'_>> {
    let hostile = |byte: u8| byte != b'\t' && byte.is_ascii_control();
    if value.len() > FIELD_BYTES_MAX || value.bytes().any(hostile) {
        return Vec::new();
    }
    let mut rest = Cursor { value, last: Last::Nothing, at_end: false };
    let mut found: Vec<Scheme<'_>> = Vec::new();
    while let Some(element) = rest.element() {
        match element {
            Element::Scheme(name) => found.push(Scheme { name, params: Vec::new() }),
            Element::Param(name, value) => match found.last_mut() {
                Some(scheme) if scheme.params.len() < PARAMS_MAX => {
                    scheme.params.push((name.to_ascii_lowercase(), value));
                }
                _ => break,
            },
        }
    }
    if rest.at_end { found } else { Vec::new() }
}

/// A character of a token (RFC 9110 §5.6.2).
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

enum Element<'a> {
    Scheme(&'a str),
    Param(&'a str, Cow<'a, str>),
}

/// What of a field value is still to be read.
struct Cursor<'a> {
    value: &'a str,
    last: Last,
    /// Whether all of it was read, and made sense.
    at_end: bool,
}

/// What was read last, which decides what may follow without a comma.
#[derive(Clone, Copy, PartialEq)]
enum Last {
    Nothing,
    Scheme,
    Param,
}

impl<'a> Cursor<'a> {
    /// The next scheme or parameter, if that is what stands next.
    ///
    /// A scheme stands first or behind a comma; a parameter may also stand right behind its scheme.
    fn element(&mut self) -> Option<Element<'a>> {
        let unseparated = self.value.trim_start_matches([' ', '\t']);
        self.value = unseparated.trim_start_matches([' ', '\t', ',']);
        let behind_comma = self.value.len() < unseparated.len();
        self.at_end = self.value.is_empty();
        let name = self.token()?;
        let after_name = self.value;
        self.skip_space();
        if !self.eat('=') {
            if self.last != Last::Nothing && !behind_comma {
                return None;
            }
            self.last = Last::Scheme;
            self.value = after_name;
            self.skip_token68();
            return Some(Element::Scheme(name));
        }
        if self.last != Last::Scheme && !behind_comma {
            return None;
        }
        self.last = Last::Param;
        self.skip_space();
        let value =
            if self.eat('"') { self.quoted_string()? } else { Cow::Borrowed(self.token()?) };
        Some(Element::Param(name, value))
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.value.bytes().take_while(|&byte| is_tchar(byte)).count();
        let (token, rest) =
            self.value.split_at_checked(end).filter(|(token, _)| !token.is_empty())?;
        self.value = rest;
        Some(token)
    }

    /// Reads up to the closing quote, undoing quoted-pairs.
    fn quoted_string(&mut self) -> Option<Cow<'a, str>> {
        let start = self.value;
        let mut unescaped: Option<String> = None;
        let mut chars = start.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    let (raw, rest) = start.split_at_checked(at)?;
                    self.value = rest.strip_prefix('"')?;
                    return Some(unescaped.map_or(Cow::Borrowed(raw), Cow::Owned));
                }
                '\\' => {
                    let (raw, _) = start.split_at_checked(at)?;
                    let text = unescaped.get_or_insert_with(|| raw.to_owned());
                    text.push(chars.next()?.1);
                }
                _ => {
                    if let Some(text) = &mut unescaped {
                        text.push(char);
                    }
                }
            }
        }
        None
    }

    /// Passes over the token68 of another scheme, as in `Negotiate YII…==`.
    fn skip_token68(&mut self) {
        let Some(text) = self.value.strip_prefix(' ') else { return };
        let text = text.trim_start_matches(' ');
        let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        let end = text.bytes().take_while(|&byte| is_token68(byte)).count();
        let (_, rest) = text.split_at(end);
        let rest = rest.trim_start_matches('=').trim_start_matches([' ', '\t']);
        if end > 0 && (rest.is_empty() || rest.starts_with(',')) {
            self.value = rest;
        }
    }

    fn skip_space(&mut self) {
        self.value = self.value.trim_start_matches([' ', '\t']);
    }

    fn eat(&mut self, char: char) -> bool {
        match self.value.strip_prefix(char) {
            Some(rest) => {
                self.value = rest;
                true
            }
            None => false,
        }
    }
}
