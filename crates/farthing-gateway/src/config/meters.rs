//! Meters, as the configuration has them.

use std::num::NonZeroU64;
use std::time::Duration;

use farthing_meter::{Limits, Measure, Report, Terms, Tokens};
use farthing_money::Amount;
use http::HeaderName;
use toml::Spanned;

use super::{Intents, Read, Reader, raw};

/// The longest that a stream may wait for a voucher, in seconds: an hour.
const WAIT_S_MAX: u64 = 3_600;

/// What a route's answers are charged by, beyond the price of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeterConfig {
    /// What is charged for.
    pub terms: Terms,
    /// Whether requests for streamed chat completions are made to ask for what they used. Where it is not
    /// said, the path says it.
    pub ask_for_usage: Option<bool>,
}

/// The settings of a meter that go with one measure.
const OF_ONE: [(&str, &str); 10] = [
    ("input", "tokens"),
    ("output", "tokens"),
    ("input_estimate", "tokens"),
    ("estimate_bytes", "tokens"),
    ("token_bytes_max", "tokens"),
    ("ask_for_usage", "tokens"),
    ("field", "header"),
    ("event", "report"),
    ("pointer", "report"),
    ("cumulative", "report"),
];

impl raw::Meter {
    /// Whether a setting of this name is there.
    fn has(&self, name: &str) -> bool {
        match name {
            "input" => self.input.is_some(),
            "output" => self.output.is_some(),
            "input_estimate" => self.input_estimate.is_some(),
            "estimate_bytes" => self.estimate_bytes.is_some(),
            "token_bytes_max" => self.token_bytes_max.is_some(),
            "ask_for_usage" => self.ask_for_usage.is_some(),
            "field" => self.field.is_some(),
            "event" => self.event.is_some(),
            "pointer" => self.pointer.is_some(),
            "cumulative" => self.cumulative.is_some(),
            _ => false,
        }
    }
}

impl Reader<'_> {
    /// A metered route is paid in sessions and in nothing else, and each of its units costs something.
    pub(super) fn meter(
        &self,
        route: &raw::Route,
        intents: &Intents,
        prices: &[&Amount],
    ) -> Read<Option<MeterConfig>> {
        let Some(raw) = &route.meter else { return Ok(None) };
        if intents.session.is_none() || intents.charge || intents.subscription.is_some() {
            return Err(self.fault(
                raw,
                "what is metered is paid for as it is given, which only sessions can: intents = \
                 [\"session\"]",
            ));
        }
        if prices.iter().any(|price| price.is_zero()) {
            return Err(
                self.fault(raw, "the price of a metered route is that of one unit, and not 0")
            );
        }
        let meter = raw.get_ref();
        let wait_s = meter.wait_s.unwrap_or(60);
        if wait_s > WAIT_S_MAX {
            return Err(self.fault(raw, "wait_s is an hour at most"));
        }
        let limits = Limits::default();
        let terms = Terms {
            every: meter.every.unwrap_or(NonZeroU64::MIN),
            reserve_units: meter.reserve_units.unwrap_or(0),
            limits: Limits {
                event_bytes_max: meter.event_bytes_max.unwrap_or(limits.event_bytes_max),
                answer_bytes_max: meter.answer_bytes_max.unwrap_or(limits.answer_bytes_max),
                batch_units_max: meter.batch_units.map_or(limits.batch_units_max, NonZeroU64::get),
            },
            wait: Duration::from_secs(wait_s),
            ..Terms::new(self.measure(raw)?)
        };
        Ok(Some(MeterConfig { terms, ask_for_usage: meter.ask_for_usage }))
    }

    fn measure(&self, raw: &Spanned<raw::Meter>) -> Read<Measure> {
        let meter = raw.get_ref();
        let name = meter.measure.get_ref().as_str();
        let stray = OF_ONE.iter().find(|(setting, of)| *of != name && meter.has(setting));
        if let Some((setting, of)) = stray {
            return Err(self.fault(raw, format!("{setting} goes with measure = \"{of}\"")));
        }
        if meter.estimate.is_some() && name != "report" {
            return Err(self.fault(raw, "estimate goes with measure = \"report\""));
        }
        Ok(match name {
            "bytes" => Measure::Bytes,
            "lines" => Measure::Lines,
            "events" => Measure::Events,
            "seconds" => Measure::Seconds,
            "tokens" => Measure::Tokens(self.tokens(raw)?),
            "header" => Measure::Header(self.header(raw)?),
            "report" => Measure::Report(self.report(raw)?),
            _ => {
                return Err(self.fault(
                    &meter.measure,
                    "a measure is \"bytes\", \"lines\", \"events\", \"tokens\", \"seconds\", \
                     \"header\" or \"report\"",
                ));
            }
        })
    }

    fn tokens(&self, raw: &Spanned<raw::Meter>) -> Read<Tokens> {
        let (meter, usual) = (raw.get_ref(), Tokens::default());
        let tokens = Tokens {
            input: meter.input.unwrap_or(usual.input),
            output: meter.output.unwrap_or(usual.output),
            input_estimate: meter.input_estimate.unwrap_or(usual.input_estimate),
            estimate_bytes: meter.estimate_bytes.unwrap_or(usual.estimate_bytes),
            token_bytes_max: meter.token_bytes_max.unwrap_or(usual.token_bytes_max),
        };
        if (tokens.input, tokens.output) == (0, 0) {
            return Err(self.fault(raw, "input and output are not both 0"));
        }
        Ok(tokens)
    }

    fn header(&self, raw: &Spanned<raw::Meter>) -> Read<HeaderName> {
        let what = "field names the field of the upstream's answer that says how much it is worth, \
                    like \"X-Units\"";
        let field = raw.get_ref().field.as_ref().ok_or_else(|| self.fault(raw, what))?;
        HeaderName::try_from(field.get_ref().as_str()).map_err(|_| self.fault(field, what))
    }

    fn report(&self, raw: &Spanned<raw::Meter>) -> Read<Report> {
        let meter = raw.get_ref();
        let what = "pointer says where in the upstream's events the number stands, like \
                    \"/usage/units\"";
        let pointer = meter.pointer.as_ref().ok_or_else(|| self.fault(raw, what))?;
        if !pointer.get_ref().starts_with('/') {
            return Err(self.fault(pointer, what));
        }
        Ok(Report {
            event: meter.event.clone().unwrap_or_default(),
            pointer: pointer.get_ref().clone(),
            cumulative: meter.cumulative.unwrap_or(false),
            estimate: meter.estimate.unwrap_or(1),
        })
    }
}
