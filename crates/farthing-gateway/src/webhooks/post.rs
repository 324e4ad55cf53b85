//! Sending one event to one endpoint.

use farthing_core::Store;
use farthing_gate::{Clock as _, SystemClock};
use farthing_ledger::TraceId;
use farthing_money::Assets;
use farthing_webhook::{Answered, Message, send};

use super::event::{Told, tell};
use super::outbox::{Attempt, Fault};
use crate::config::WebhookConfig;

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
    let Some(Told { id, body }) = tell(&records, seq, assets) else {
        return Attempt::Failed(Fault::Untold, None);
    };
    let message = Message { id: id.to_string(), body };
    let to = (&endpoint.url, endpoint.timeout);
    match send(client, to, &endpoint.secrets, message, SystemClock.now()).await {
        Answered::Taken => Attempt::Taken,
        Answered::Gone => Attempt::Gone,
        Answered::Refused(status, wait) => Attempt::Failed(Fault::Status(status.as_u16()), wait),
        Answered::Timeout => Attempt::Failed(Fault::Timeout, None),
        Answered::Unreachable => Attempt::Failed(Fault::Unreachable, None),
    }
}
