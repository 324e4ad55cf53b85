//! Answers that are paid for as they come: what the proxy does about them.
//!
//! ```text
//! request ─► no compression ─► "say what you used" ─► upstream ─► 2xx? ─► metered ─► client
//!                                                                │ no
//!                                                                └─► as it is: only the request was paid
//! ```

use farthing_gate::{Body, Tab};
use farthing_meter::{Asked, Measure, ask_for_usage};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use crate::config::{BodyPolicy, MeterConfig};
use crate::proxy::{Matched, full, problem};

/// The longest request that is read to be changed, where the route does not read it anyway.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// Fields that speak of the bytes of a request.
const OF_THE_BYTES: [HeaderName; 3] = [
    CONTENT_LENGTH,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Makes a request fit to be answered by what can be metered.
pub(crate) async fn prepare(
    matched: &Matched,
    head: &mut Parts,
    body: Body,
) -> Result<Body, Response<Body>> {
    let Some(meter) = &matched.route.meter else { return Ok(body) };
    // What is in a compressed answer cannot be counted.
    head.headers.remove(ACCEPT_ENCODING);
    if !asks_for_usage(meter, matched, head) {
        return Ok(body);
    }
    let bytes_max = match matched.route.body {
        BodyPolicy::Bind { bytes_max, .. } => bytes_max,
        BodyPolicy::Any => REQUEST_BYTES_MAX,
    };
    let Ok(read) = Limited::new(body, bytes_max).collect().await else {
        let detail = "The body is longer than this route reads, or broke off.";
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, detail));
    };
    let bytes = read.to_bytes();
    let Ok(mut request) = serde_json::from_slice(&bytes) else { return Ok(full(bytes)) };
    if ask_for_usage(&mut request) == Asked::Already {
        return Ok(full(bytes));
    }
    for field in &OF_THE_BYTES {
        head.headers.remove(field);
    }
    Ok(full(request.to_string()))
}

/// Whether the request is one for a chat completion that is to say what it used. Of other interfaces, some
/// refuse what they do not know.
fn asks_for_usage(meter: &MeterConfig, matched: &Matched, head: &Parts) -> bool {
    let by_path = || matched.path.matched.ends_with("/chat/completions");
    let kind = head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes().to_ascii_lowercase());
    matches!(meter.terms.measure, Measure::Tokens(_))
        && head.method == Method::POST
        && kind.is_some_and(|kind| kind.starts_with(b"application/json"))
        && meter.ask_for_usage.unwrap_or_else(by_path)
}

/// Meters an answer that has succeeded; nothing if it cannot be charged for, and must not be given.
pub(crate) fn meter(
    route: &str,
    meter: &MeterConfig,
    answer: Response<Body>,
    asked: &HeaderMap,
    tab: Option<Tab>,
) -> Option<Response<Body>> {
    let Some(tab) = tab else {
        tracing::error!(route, "a metered route was paid for otherwise than in a session");
        return None;
    };
    let metered = tab.meter(answer, asked, &meter.terms);
    metered.inspect_err(|error| tracing::warn!(route, %error, "upstream cannot be metered")).ok()
}
