//! Sending one event to one endpoint.

use std::time::Duration;

use farthing_core::Store;
use farthing_gate::{Clock as _, SystemClock};
use farthing_ledger::TraceId;
use farthing_money::{Assets, Timestamp};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};

use super::event::{Told, tell};
use super::outbox::{Attempt, Fault};
use super::sign::signatures;
use crate::config::WebhookConfig;

/// The longest wait an endpoint may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// How much of an answer is read, so that its connection can serve the next event.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The client of all endpoints. Redirects are not followed: what an endpoint's operator did not write
/// down is not sent to.
pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()
}

/// Tells `endpoint` what the record at `seq` says, once.
pub(super) async fn attempt(
    client: &reqwest::Client,
    store: &dyn Store,
    (endpoint, assets): (&WebhookConfig, &Assets),
    (seq, trace): (u64, Option<TraceId>),
) -> Attempt {
    let records = match trace {
        Some(trace) => store.story(trace).await,
        None => Ok(Vec::new()),
    };
    let Ok(records) = records else { return Attempt::Unsent };
    let Some(told) = tell(&records, seq, assets) else {
        return Attempt::Failed(Fault::Untold, None);
    };
    let now = SystemClock.now();
    match send(client, endpoint, told, now).await {
        Ok((status, _)) if status.is_success() => Attempt::Taken,
        Ok((StatusCode::GONE, _)) => Attempt::Gone,
        Ok((status, fields)) => {
            Attempt::Failed(Fault::Status(status.as_u16()), asked_wait(&fields, now))
        }
        Err(error) if error.is_timeout() => Attempt::Failed(Fault::Timeout, None),
        Err(_) => Attempt::Failed(Fault::Unreachable, None),
    }
}

async fn send(
    client: &reqwest::Client,
    endpoint: &WebhookConfig,
    Told { id, body }: Told,
    now: Timestamp,
) -> Result<(StatusCode, HeaderMap), reqwest::Error> {
    let (id, now_s) = (id.to_string(), now.as_secs());
    let signed = signatures(&endpoint.secrets, &id, now_s, &body);
    let request = client
        .post(endpoint.url.clone())
        .timeout(endpoint.timeout)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("farthing/", env!("CARGO_PKG_VERSION")))
        .header("webhook-id", id)
        .header("webhook-timestamp", now_s)
        .header("webhook-signature", signed)
        .body(body);
    let mut answer = request.send().await?;
    let (status, fields) = (answer.status(), answer.headers().clone());
    let mut left = ANSWER_BYTES_MAX;
    // What the answer says beyond its head changes nothing, nor does how it ends.
    while let Ok(Some(chunk)) = answer.chunk().await {
        let Some(less) = left.checked_sub(chunk.len()) else { break };
        left = less;
    }
    Ok((status, fields))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds and dates are waits, longer ones than a day are a day, and nonsense is none.
    #[test]
    fn an_endpoint_may_ask_to_be_left_alone() {
        let now = Timestamp::from_micros(784_111_777_000_000);
        let asked = |text: &str| {
            let mut fields = HeaderMap::new();
            fields.insert(RETRY_AFTER, text.parse().unwrap());
            asked_wait(&fields, now)
        };
        assert_eq!(asked("120"), Some(Duration::from_mins(2)));
        assert_eq!(asked("99999999"), Some(RETRY_AFTER_MAX));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!((asked("soon"), asked("-1")), (None, None));
    }
}
