//! `Accept-Payment`: what a client can pay with (§7.4).

use std::cmp::Reverse;
use std::str::FromStr;

use crate::{is_intent, is_method};

#[cfg(test)]
mod tests;

/// The most ranges read; a client that lists more is not negotiating.
const RANGES_MAX: usize = 64;

/// A client's payment preferences: ranges like `tempo/charge`, `stripe/*;q=0.5`, `*/session;q=0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptPayment(Vec<Range>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    /// `None` is `*`.
    method: Option<String>,
    /// `None` is `*`.
    intent: Option<String>,
    /// The weight in thousandths; 0 is "do not use".
    weight: u16,
}

impl AcceptPayment {
    /// Puts a server's offers into the order the client prefers, dropping those it refuses.
    ///
    /// `offers` are (method, intent) in the server's order; the result is their positions. The most
    /// specific range that matches an offer decides its weight, and of two that are equally specific
    /// the kinder one, as the official SDKs have it; equal weights keep the server's order. Nothing matching at all gives the server's own order back, since a client may know
    /// more than it said.
    #[must_use]
    pub fn rank(&self, offers: &[(&str, &str)]) -> Vec<usize> {
        let weigh = |&(at, &(method, intent)): &(usize, &(&str, &str))| {
            self.weight(method, intent).map(|weight| (Reverse(weight), at))
        };
        let mut ranked: Vec<_> =
            offers.iter().enumerate().filter_map(|offer| weigh(&offer)).collect();
        if ranked.is_empty() {
            return (0..offers.len()).collect();
        }
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, at)| at).collect()
    }

    fn weight(&self, method: &str, intent: &str) -> Option<u16> {
        let matching = self.0.iter().filter(|range| range.matches(method, intent));
        let (_, weight) = matching.map(|range| (range.specificity(), range.weight)).max()?;
        (weight > 0).then_some(weight)
    }
}

impl Range {
    fn matches(&self, method: &str, intent: &str) -> bool {
        self.method.as_deref().is_none_or(|known| known == method)
            && self.intent.as_deref().is_none_or(|known| known == intent)
    }

    /// How many of its two names it gives; a named method says no more than a named intent.
    fn specificity(&self) -> u8 {
        u8::from(self.method.is_some()).saturating_add(u8::from(self.intent.is_some()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(|part| part.trim_matches([' ', '\t']));
        let (method, intent) = parts.next()?.split_once('/')?;
        let weight = match parts.next() {
            Some(weight) => parse_weight(weight)?,
            None => 1_000,
        };
        let known = |name: &str, is_name: fn(&str) -> bool| match name {
            "*" => Some(None),
            name => is_name(name).then(|| Some(name.to_owned())),
        };
        let range =
            Self { method: known(method, is_method)?, intent: known(intent, is_intent)?, weight };
        parts.next().is_none().then_some(range)
    }
}

/// Reads `q=0.5` as thousandths: up to three decimals, at most one (RFC 9110 §12.4.2).
fn parse_weight(text: &str) -> Option<u16> {
    let value = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1_000),
        _ => None,
    }
}

impl FromStr for AcceptPayment {
    type Err = MalformedAcceptPayment;

    fn from_str(value: &str) -> Result<Self, MalformedAcceptPayment> {
        let elements = value.split(',').map(|text| text.trim_matches([' ', '\t']));
        let ranges: Option<Vec<_>> = elements
            .filter(|text| !text.is_empty())
            .take(RANGES_MAX.saturating_add(1))
            .map(Range::parse)
            .collect();
        match ranges {
            Some(ranges) if (1..=RANGES_MAX).contains(&ranges.len()) => Ok(Self(ranges)),
            _ => Err(MalformedAcceptPayment),
        }
    }
}

/// A field value is not a list of payment ranges; a server treats it as absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Accept-Payment is a list like tempo/charge, stripe/*;q=0.5")]
pub struct MalformedAcceptPayment;
