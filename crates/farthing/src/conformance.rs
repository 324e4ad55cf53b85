//! `farthing conformance`: the adapter that the MPP SDKs' common conformance suite drives.
//!
//! One JSON request on standard input, one JSON response on standard output: the interface of
//! `conformance/HARNESS_SPEC.md` in `tempoxyz/mpp-tools`, schema 1. Every core vector operation is
//! answered by the same code that serves payments.

use std::io::Read;

use farthing_gate::{Clock as _, SystemClock};
use farthing_mpp::{
    BindingInput, Challenge, Credential, Receipt, Terms, base64url, challenge_id, json,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json as value};

use crate::failure::{Done, Failure};

#[cfg(test)]
mod tests;

/// The longest request read, in bytes.
const REQUEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Answers one request.
pub(crate) fn run() -> Done {
    let mut text = Vec::new();
    let read = std::io::stdin().take(REQUEST_BYTES_MAX).read_to_end(&mut text);
    read.map_err(Failure::other)?;
    println!("{}", respond(&text));
    Ok(())
}

#[derive(Deserialize)]
struct Request {
    schema: u8,
    op: String,
    input: Value,
}

/// What an operation came to.
type Answer = Result<Value, Fault>;

/// Why an operation has no value.
struct Fault {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    ParseError,
    FormatError,
    EncodingError,
    GenerationError,
    VerificationError,
    UnsupportedOperation,
    UnknownError,
}

impl Kind {
    fn of(self, message: impl std::fmt::Display) -> Fault {
        Fault { kind: self, message: message.to_string() }
    }
}

/// The response to one request, whatever the request.
fn respond(text: &[u8]) -> Value {
    let answer = serde_json::from_slice(text)
        .map_err(|error| Kind::UnknownError.of(error))
        .and_then(|request: Request| answer(&request));
    match answer {
        Ok(value) => value!({ "ok": true, "value": value }),
        Err(Fault { kind, message }) => {
            value!({ "ok": false, "error": { "type": kind, "message": message } })
        }
    }
}

fn answer(request: &Request) -> Answer {
    if request.schema != 1 {
        return Err(Kind::UnknownError.of("only schema 1 is spoken here"));
    }
    let input = &request.input;
    match request.op.as_str() {
        "challenge.parse" => parse_challenge(&header(input)?),
        "challenge.format" => format_challenge(input),
        "credential.parse" => parse_credential(&header(input)?),
        "credential.format" => format_credential(input),
        "receipt.parse" => parse_receipt(&header(input)?),
        "receipt.format" => format_receipt(input),
        "base64url.encode" => Ok(value!({ "text": base64url::encode(text(input)?) })),
        "base64url.decode" => decode(&text(input)?),
        "challenge.id" => generate_id(input),
        "tempo.proof.typed_data" => typed_data(input),
        "tempo.receipt.verify" | "tempo.transaction.verify" => verify(input),
        "tempo.fee_payer.cosign" => cosign(input),
        op => Err(Kind::UnsupportedOperation.of(op)),
    }
}

fn member(input: &Value, name: &str) -> Result<String, Fault> {
    let text = input.get(name).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or_else(|| Kind::UnknownError.of(format_args!("the input has no text called {name}")))
}

fn header(input: &Value) -> Result<String, Fault> {
    member(input, "header")
}

fn text(input: &Value) -> Result<String, Fault> {
    member(input, "text")
}

fn parse_challenge(header: &str) -> Answer {
    let challenge = Challenge::parse(header).map_err(|error| Kind::ParseError.of(error))?;
    canonical_challenge(&challenge, Kind::ParseError)
}

/// A challenge as the suite writes it: its request decoded.
fn canonical_challenge(challenge: &Challenge, kind: Kind) -> Answer {
    let request = challenge.terms.request_object().map_err(|error| kind.of(error))?;
    let mut canonical = serde_json::to_value(challenge).map_err(|error| kind.of(error))?;
    canonical["request"] = Value::Object(request);
    Ok(canonical)
}

/// Reads what the suite calls a challenge: the same with its request encoded.
fn read_challenge(canonical: &Value, kind: Kind) -> Result<Challenge, Fault> {
    let mut wire = canonical.clone();
    let request = canonical.get("request").and_then(Value::as_object);
    let request = request.ok_or_else(|| kind.of("the challenge has no request"))?;
    wire["request"] = json::encode(request).into();
    read(&wire, kind)
}

fn read<T: DeserializeOwned>(value: &Value, kind: Kind) -> Result<T, Fault> {
    serde_json::from_value(value.clone()).map_err(|error| kind.of(error))
}

fn format_challenge(input: &Value) -> Answer {
    let challenge = read_challenge(input, Kind::FormatError)?;
    let header = challenge.format().map_err(|error| Kind::FormatError.of(error))?;
    Ok(value!({ "header": header }))
}

fn parse_credential(header: &str) -> Answer {
    let credential = Credential::parse(header).map_err(|error| Kind::ParseError.of(error))?;
    let Credential { challenge, source, payload } = credential;
    let mut canonical = Map::new();
    let challenge = canonical_challenge(&challenge, Kind::ParseError)?;
    canonical.insert("challenge".into(), challenge);
    canonical.insert("payload".into(), Value::Object(payload));
    if let Some(source) = source {
        canonical.insert("source".into(), source.into());
    }
    Ok(Value::Object(canonical))
}

fn format_credential(input: &Value) -> Answer {
    let challenge = input.get("challenge").unwrap_or(&Value::Null);
    let challenge = read_challenge(challenge, Kind::FormatError)?;
    // What could not stand in a header cannot have been a challenge.
    challenge.format().map_err(|error| Kind::FormatError.of(error))?;
    let mut wire = input.clone();
    wire["challenge"] = serde_json::to_value(challenge).unwrap_or_default();
    let credential: Credential = read(&wire, Kind::FormatError)?;
    Ok(value!({ "header": credential.format() }))
}

fn parse_receipt(header: &str) -> Answer {
    let receipt = Receipt::parse(header).map_err(|error| Kind::ParseError.of(error))?;
    serde_json::to_value(receipt).map_err(|error| Kind::ParseError.of(error))
}

fn format_receipt(input: &Value) -> Answer {
    let receipt: Receipt = read(input, Kind::FormatError)?;
    let header = receipt.format();
    // Nothing is written that would not be read back.
    Receipt::parse(&header).map_err(|error| Kind::FormatError.of(error))?;
    Ok(value!({ "header": header }))
}

fn decode(encoded: &str) -> Answer {
    let bytes = base64url::decode(encoded).map_err(|error| Kind::EncodingError.of(error))?;
    let text = String::from_utf8(bytes).map_err(|error| Kind::EncodingError.of(error))?;
    Ok(value!({ "text": text }))
}

fn generate_id(input: &Value) -> Answer {
    let kind = Kind::GenerationError;
    let secret = member(input, "secretKey").map_err(|fault| kind.of(fault.message))?;
    let request = input.get("request").and_then(Value::as_object);
    let request = request.ok_or_else(|| kind.of("the input has no request"))?;
    let mut wire = input.clone();
    wire["request"] = json::encode(request).into();
    let terms: Terms = read(&wire, kind)?;
    let id = challenge_id(secret.as_bytes(), &BindingInput::from(&terms));
    Ok(value!({ "id": id }))
}

/// What an account signs to prove who it is.
fn typed_data(input: &Value) -> Answer {
    let chain_id = input.get("chainId").and_then(Value::as_u64);
    let chain_id = chain_id.ok_or_else(|| Kind::GenerationError.of("the input has no chainId"))?;
    let (account, challenge) = (member(input, "account")?, member(input, "challengeId")?);
    let realm = member(input, "realm")?;
    let data = farthing_rail_tempo::proof_typed_data(chain_id, &account, &challenge, &realm);
    data.map_err(|error| Kind::GenerationError.of(error))
}

/// Whether a mined transaction pays a credential's challenge.
fn verify(input: &Value) -> Answer {
    let kind = Kind::VerificationError;
    let challenge = input.get("credential").and_then(|it| it.get("challenge"));
    let challenge = challenge.ok_or_else(|| kind.of("the credential has no challenge"))?;
    let request = challenge.get("request").and_then(Value::as_object);
    let request = request.ok_or_else(|| kind.of("the challenge has no request"))?;
    let (realm, id) = (member(challenge, "realm")?, member(challenge, "id")?);
    let mined = input.get("receipt").unwrap_or(&Value::Null);
    let verified = farthing_rail_tempo::verify_receipt(&realm, &id, request, mined);
    let verified = verified.map_err(|error| kind.of(error))?;
    Ok(value!({ "status": "success", "reference": verified.reference }))
}

/// Whether a sponsor pays for a transaction, and what it then looks like.
fn cosign(input: &Value) -> Answer {
    let now_s = SystemClock.now().as_secs();
    farthing_rail_tempo::cosign(input, now_s).map_err(|error| Kind::VerificationError.of(error))
}
