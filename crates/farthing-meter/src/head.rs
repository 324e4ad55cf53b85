//! The head of a metered answer, and the answer as a whole.

use http::header::{CONTENT_LENGTH, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::balance::Balance;
use crate::body::{Metered, Settings};
use crate::ending::{PAYMENT_RECEIPT, take_reserved};
use crate::terms::{Terms, Unmeterable};
use crate::voice::Voice;

#[cfg(test)]
mod tests;

/// Fields that would be false once events of ours stand in the body.
const OF_THE_BODY: [HeaderName; 3] = [
    CONTENT_LENGTH,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Meters an upstream's answer to a request with these fields, and pays from `balance`.
///
/// Fields by which the upstream speaks of payments are taken off. The receipt at the head of the
/// answer (tempo-session §13.6) is the gate's to set, before or after.
///
/// # Errors
///
/// [`Unmeterable`]; nothing of the answer was given away, and nothing taken.
pub fn metered<B, S: Balance>(
    answer: Response<B>,
    request: &HeaderMap,
    terms: &Terms,
    balance: S,
) -> Result<Response<Metered<B, S>>, Unmeterable> {
    let meter = terms.meter(answer.headers())?;
    let (mut head, body) = answer.into_parts();
    let forged = take_reserved(&mut head.headers);
    let trailers = takes_trailers(request);
    let is_event_stream = meter.voice() == Voice::Events;
    if is_event_stream {
        for field in &OF_THE_BODY {
            head.headers.remove(field);
        }
    } else if trailers {
        // Trailers need chunks.
        head.headers.remove(CONTENT_LENGTH);
        head.headers.append(TRAILER, HeaderValue::from_name(PAYMENT_RECEIPT));
    }
    let settings = Settings { wait: terms.wait, trailers: trailers && !is_event_stream };
    let body = Metered::new(body, meter, balance, settings).with_forged_fields(forged);
    Ok(Response::from_parts(head, body))
}

/// Whether a client takes trailers (RFC 9110 §10.1.4).
#[must_use]
pub fn takes_trailers(request: &HeaderMap) -> bool {
    let listed = |value: &HeaderValue| {
        let codings = value.as_bytes().split(|&byte| byte == b',');
        codings.map(<[u8]>::trim_ascii).any(|it| it.eq_ignore_ascii_case(b"trailers"))
    };
    request.get_all(TE).iter().any(listed)
}
