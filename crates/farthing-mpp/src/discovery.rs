//! Discovery: what an OpenAPI document says of payments (`draft-payment-discovery-00`).
//!
//! Discovery is advice. The 402 is always authoritative (§5), so nothing here may decide a payment.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use farthing_money::parse_atoms;

use crate::json::Object;

#[cfg(test)]
mod tests;

/// One way to pay for an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// What kind of payment.
    pub intent: Intent,
    /// The payment method.
    pub method: String,
    /// Atoms of the currency as a string of digits, or nothing where the price depends on the
    /// request. For a session, the price of one unit.
    pub amount: Option<String>,
    /// The currency, as the method names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// A note for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The intents discovery knows. It has no word for a subscription, so none is advertised here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Pay once per request.
    Charge,
    /// Pay as you go.
    Session,
}

/// `x-payment-info`: the ways to pay for an operation, each enough by itself (§4.4).
///
/// Read in both of its forms and always written in the one with `offers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PaymentInfo {
    /// At least one.
    pub offers: Vec<Offer>,
}

impl PaymentInfo {
    /// Reads the extension; a single offer in place of the list is a list of one.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it breaks the draft's schema (appendix C).
    pub fn parse(value: &Value) -> Result<Self, Malformed> {
        let list = value.as_object().filter(|object| object.contains_key("offers"));
        let offers = match list {
            Some(object) if object.len() == 1 => serde_json::from_value(value["offers"].clone()),
            Some(_) => return Err(Malformed),
            None => serde_json::from_value(value.clone()).map(|offer| vec![offer]),
        };
        let offers: Vec<Offer> = offers.map_err(|_| Malformed)?;
        let stated =
            |offer: &Offer| offer.amount.as_deref().is_none_or(|it| parse_atoms(it).is_ok());
        // The amount may be null but must be there, which `Option` alone does not see.
        let complete = match list {
            Some(object) => object["offers"].as_array().is_some_and(|it| it.iter().all(has_amount)),
            None => has_amount(value),
        };
        let valid = complete && !offers.is_empty() && offers.iter().all(stated);
        if valid { Ok(Self { offers }) } else { Err(Malformed) }
    }
}

fn has_amount(offer: &Value) -> bool {
    offer.get("amount").is_some()
}

/// `x-service-info`: what a service says of itself (§4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Free-form, such as `data` or `compute`; at most five are of use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Docs::is_empty")]
    pub docs: Docs,
}

/// Links to documentation, each a URI.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Docs {
    /// The API's reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_reference: Option<String>,
    /// The main page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// The page for language models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llms: Option<String>,
}

impl Docs {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The names an operation may have in a path item.
pub const OPERATIONS: [&str; 8] =
    ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Checks a discovery document; an empty list means there is nothing to mend.
///
/// Obeys §4: the required top-level fields, and for each operation with `x-payment-info` a valid
/// extension and a `402` response.
#[must_use]
pub fn faults(document: &Object) -> Vec<Fault> {
    let mut faults = Vec::new();
    let version = document.get("openapi").and_then(Value::as_str).unwrap_or_default();
    if !version.starts_with("3.") {
        faults.push(Fault::at("openapi", "the document is OpenAPI 3.x"));
    }
    for field in ["title", "version"] {
        let info = document.get("info").and_then(|info| info.get(field));
        if info.and_then(Value::as_str).is_none_or(str::is_empty) {
            faults.push(Fault::at(&format!("info.{field}"), "the field is required"));
        }
    }
    let operations = operations(document);
    if operations.is_empty() {
        faults.push(Fault::at("paths", "at least one operation is required"));
    }
    for (path, name, operation) in operations {
        let at = format!("paths.{path}.{name}");
        let Some(info) = operation.get("x-payment-info") else { continue };
        if PaymentInfo::parse(info).is_err() {
            faults.push(Fault::at(&format!("{at}.x-payment-info"), "the extension is malformed"));
        }
        if operation.get("responses").and_then(|responses| responses.get("402")).is_none() {
            faults.push(Fault::at(&format!("{at}.responses"), "a 402 response is required"));
        }
    }
    faults
}

/// Every operation of a document, with its path and its method in lower case.
fn operations(document: &Object) -> Vec<(&str, &str, &Value)> {
    let paths = document.get("paths").and_then(Value::as_object);
    let items = paths.into_iter().flatten();
    items
        .flat_map(|(path, item)| {
            let members = item.as_object().into_iter().flatten();
            members.map(move |(name, operation)| (path.as_str(), name.as_str(), operation))
        })
        .filter(|(_, name, _)| OPERATIONS.contains(name))
        .collect()
}

/// Something to mend in a discovery document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a dotted path.
    pub at: String,
    /// What.
    pub what: &'static str,
}

impl Fault {
    fn at(at: &str, what: &'static str) -> Self {
        Self { at: at.to_owned(), what }
    }
}

/// An extension breaks the draft's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("x-payment-info is an offer, or an object whose one member is a list of offers")]
pub struct Malformed;
