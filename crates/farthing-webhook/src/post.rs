//! Sending one message to one endpoint, once.

use std::time::Duration;

use farthing_money::Timestamp;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use url::{Host, Url};

use crate::WebhookSecret;
use crate::sign::signatures;

#[cfg(test)]
mod tests;

/// The longest wait an endpoint may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// How much of an answer is read, so that its connection can serve the next message.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A message, as it is sent: the same bytes under the same name however often it is.
pub struct Message {
    /// Its name, by which a receiver tells what it has.
    pub id: String,
    /// What it says, as JSON.
    pub body: String,
}

/// What an endpoint made of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// 2xx.
    Taken,
    /// 410: the endpoint wants nothing any more.
    Gone,
    /// Any other status; perhaps with the shortest wait it asks for.
    Refused(StatusCode, Option<Duration>),
    /// It did not answer in time.
    Timeout,
    /// It could not be reached, or broke off.
    Unreachable,
}

/// The client of all endpoints. Redirects are not followed: what an endpoint's operator did not write
/// down is not sent to.
///
/// # Errors
///
/// TLS cannot be set up.
pub fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()
}

/// Whether a URL leads to this very machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Sends a message, signed with every one of `secrets` at the moment `now`. It may have arrived whatever is
/// said here: whoever sends it again sends it under the same name.
pub async fn send(
    client: &reqwest::Client,
    (url, timeout): (&Url, Duration),
    secrets: &[WebhookSecret],
    message: Message,
    now: Timestamp,
) -> Answered {
    let Message { id, body } = message;
    let now_s = now.as_secs();
    let signed = signatures(secrets, &id, now_s, &body);
    let request = client
        .post(url.clone())
        .timeout(timeout)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("farthing/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", now_s)
        .header("webhook-signature", signed)
        .body(body);
    match request.send().await {
        Ok(answer) => {
            let answered = read(answer.status(), answer.headers(), now);
            drain(answer).await;
            answered
        }
        Err(error) if error.is_timeout() => Answered::Timeout,
        Err(_) => Answered::Unreachable,
    }
}

fn read(status: StatusCode, fields: &HeaderMap, now: Timestamp) -> Answered {
    match status {
        StatusCode::GONE => Answered::Gone,
        status if status.is_success() => Answered::Taken,
        status => Answered::Refused(status, asked_wait(fields, now)),
    }
}

/// What the answer says beyond its head changes nothing, nor does how it ends.
async fn drain(mut answer: reqwest::Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(chunk)) = answer.chunk().await {
        let Some(less) = left.checked_sub(chunk.len()) else { break };
        left = less;
    }
}

/// How long an endpoint asks to be left alone: in seconds, or until a date (RFC 9110 §10.2.3).
fn asked_wait(fields: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = fields.get(RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.parse().ok().map(Duration::from_secs);
    let wait = seconds.or_else(|| {
        let until = httpdate::parse_http_date(text).ok()?;
        let until = until.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(until.saturating_sub(Duration::from_micros(now.as_micros())))
    });
    Some(wait?.min(RETRY_AFTER_MAX))
}
