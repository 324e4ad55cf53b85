//! What language models report that they used.
//!
//! Two families are read, streamed and whole: that of `OpenAI` (chat completions with `usage` in the last
//! chunk, the Responses API with `response.usage` in its last event) and that of Anthropic (`usage` in
//! `message_start` and, cumulative, in `message_delta`). The names of the members tell them apart.

use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// Tokens of one answer, as far as they were reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens that were read, cached ones included.
    pub input: Option<u64>,
    /// Tokens that were written, those nobody is shown included.
    pub output: Option<u64>,
}

impl Usage {
    /// Reads what an answer, or an event of a streamed one, reports; nothing if it reports nothing.
    #[must_use]
    pub fn read(answer: &Value) -> Option<Self> {
        let places = [&answer["usage"], &answer["message"]["usage"], &answer["response"]["usage"]];
        let mut usage = Self::default();
        for place in places.into_iter().filter_map(Value::as_object) {
            usage.merge(Self::of(place));
        }
        (usage != Self::default()).then_some(usage)
    }

    fn of(usage: &Map<String, Value>) -> Self {
        let number = |name: &str| usage.get(name).and_then(Value::as_u64);
        // Anthropic counts what came from its cache or went there beside the rest.
        let beside = ["cache_creation_input_tokens", "cache_read_input_tokens"];
        let beside = beside.into_iter().filter_map(number).fold(0, u64::saturating_add);
        let input = number("prompt_tokens").or_else(|| number("input_tokens"));
        let input = input.map(|input| input.saturating_add(beside));
        Self { input, output: number("completion_tokens").or_else(|| number("output_tokens")) }
    }

    /// Takes a later report. Reports are cumulative, so none of them lowers an earlier one.
    pub(crate) fn merge(&mut self, later: Self) {
        self.input = self.input.max(later.input);
        self.output = self.output.max(later.output);
    }
}

/// How many bytes of what the model wrote an event of a stream carries.
///
/// Nothing if the event is of neither family: then nobody can say what of it was written by a model.
pub(crate) fn written_bytes(event: &Value) -> Option<u64> {
    let event = event.as_object()?;
    if let Some(choices) = event.get("choices") {
        return Some(in_choices(choices, "delta"));
    }
    match event.get("type").and_then(Value::as_str) {
        Some(kind) if kind.starts_with("response.") || ANTHROPIC.contains(&kind) => {
            Some(event.get("delta").map_or(0, length))
        }
        _ => event.contains_key("error").then_some(0),
    }
}

/// The same of a whole answer.
pub(crate) fn answer_bytes(answer: &Value) -> Option<u64> {
    let answer = answer.as_object()?;
    if let Some(choices) = answer.get("choices") {
        return Some(in_choices(choices, "message"));
    }
    let said = answer.get("content").or_else(|| answer.get("output"))?;
    said.is_array().then(|| length(said))
}

/// Types of Anthropic's events.
const ANTHROPIC: &[&str] = &[
    "content_block_delta",
    "content_block_start",
    "content_block_stop",
    "error",
    "message_delta",
    "message_start",
    "message_stop",
    "ping",
];

fn in_choices(choices: &Value, member: &str) -> u64 {
    let said = |choice: &Value| length(&choice[member]).saturating_add(length(&choice["text"]));
    choices.as_array().into_iter().flatten().map(said).fold(0, u64::saturating_add)
}

/// Members that name things instead of saying them.
const NAMES: &[&str] = &["id", "index", "name", "role", "stop_reason", "stop_sequence", "type"];

/// The length of all texts within a value.
fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => u64::try_from(text.len()).unwrap_or(u64::MAX),
        Value::Array(values) => values.iter().map(length).fold(0, u64::saturating_add),
        Value::Object(members) => {
            let said = members.iter().filter(|(name, _)| !NAMES.contains(&name.as_str()));
            said.map(|(_, value)| length(value)).fold(0, u64::saturating_add)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// Whether a request already asked for what [`ask_for_usage`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It did, or its answer is not streamed and reports without being asked.
    Already,
    /// It does now.
    Now,
}

/// Makes the request for a streamed chat completion ask for `usage` in its last chunk
/// (`stream_options.include_usage`). Without it, an estimate is all there is to charge by.
///
/// It is for chat completions alone: other APIs report without being asked, and some refuse members
/// they do not know. Who changes a request answers for what depends on its bytes, such as
/// `Content-Length` and `Content-Digest`.
pub fn ask_for_usage(request: &mut Value) -> Asked {
    let streams = request["stream"] == Value::Bool(true);
    let Some(request) = request.as_object_mut().filter(|_| streams) else {
        return Asked::Already;
    };
    let options = request.entry("stream_options").or_insert(Value::Null);
    if options["include_usage"] == Value::Bool(true) {
        return Asked::Already;
    }
    match options.as_object_mut() {
        Some(options) => {
            options.insert("include_usage".to_owned(), Value::Bool(true));
        }
        None => *options = serde_json::json!({ "include_usage": true }),
    }
    Asked::Now
}
