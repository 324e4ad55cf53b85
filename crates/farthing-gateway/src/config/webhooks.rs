//! Who is told what happened to payments, as it is written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use farthing_ledger::Holder;
use farthing_webhook::is_loopback;
use toml::Spanned;
use url::Url;

use super::{Read, Reader, raw};
use crate::webhooks::{EventKind, Retries, WebhookSecret};

/// How long to wait after each failure unless the seller says otherwise, in seconds: what the standard
/// suggests.
const WAITS_S: [u64; 9] =
    [5, 5 * 60, 30 * 60, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];

/// How long an endpoint may take to answer unless the seller says otherwise.
const TIMEOUT_MS: u64 = 15_000;

/// How many events are sent to one endpoint at once unless the seller says otherwise.
const PARALLEL: usize = 8;

/// The most that may be sent at once, which is what memory is bounded by.
const PARALLEL_MAX: usize = 64;

/// The most endpoints there may be: each follows the journal by itself.
const ENDPOINTS_MAX: usize = 16;

/// An endpoint that is told what happened to payments. It has no `Debug`: its address may contain a key.
#[derive(Clone)]
pub struct WebhookConfig {
    /// Its name, in lists and metrics; how far it has come is noted under it.
    pub name: Arc<str>,
    /// Where events are sent.
    pub url: Url,
    /// What they are signed with: each of them signs.
    pub secrets: Vec<WebhookSecret>,
    /// What it is told.
    pub events: BTreeSet<EventKind>,
    /// How long it may take to answer.
    pub timeout: Duration,
    /// How often and when an event is tried again.
    pub retries: Retries,
    /// How many events are sent at once.
    pub parallel: usize,
}

impl Reader<'_> {
    pub(super) fn webhooks(&self, raw: &[Spanned<raw::Webhook>]) -> Read<Vec<Arc<WebhookConfig>>> {
        if let Some(beyond) = raw.get(ENDPOINTS_MAX) {
            let what = format!("there are {ENDPOINTS_MAX} webhooks at most");
            return Err(self.fault(beyond, what));
        }
        let mut seen = BTreeSet::new();
        for webhook in raw {
            let name = &webhook.get_ref().name;
            if !seen.insert(name.get_ref()) {
                return Err(self.fault(name, "two webhooks have this name"));
            }
        }
        raw.iter().map(|webhook| self.webhook(webhook.get_ref()).map(Arc::new)).collect()
    }

    fn webhook(&self, raw: &raw::Webhook) -> Read<WebhookConfig> {
        if Holder::new(raw.name.get_ref()).is_err() {
            return Err(self.fault(&raw.name, "a webhook's name is one printable word without '/'"));
        }
        if raw.secrets.get_ref().is_empty() {
            let what = "at least one secret is needed, such as \"env:WEBHOOK_SECRET\"";
            return Err(self.fault(&raw.secrets, what));
        }
        let secret = |name: &Spanned<String>| {
            let text = zeroize::Zeroizing::new(self.secret(name)?);
            WebhookSecret::parse(&text).map_err(|error| self.fault(name, error.to_string()))
        };
        let timeout_ms = raw.timeout_ms.as_ref().map_or(TIMEOUT_MS, |it| *it.get_ref());
        if let Some(zero) = raw.timeout_ms.as_ref().filter(|_| timeout_ms == 0) {
            return Err(self.fault(zero, "an endpoint needs some time to answer"));
        }
        let parallel = raw.parallel.as_ref().map_or(PARALLEL, |it| *it.get_ref());
        if let Some(odd) = raw.parallel.as_ref().filter(|_| !(1..=PARALLEL_MAX).contains(&parallel))
        {
            return Err(self.fault(odd, format!("between 1 and {PARALLEL_MAX} are sent at once")));
        }
        Ok(WebhookConfig {
            name: raw.name.get_ref().as_str().into(),
            url: self.webhook_url(raw)?,
            secrets: raw.secrets.get_ref().iter().map(secret).collect::<Read<_>>()?,
            events: self.events(raw)?,
            timeout: Duration::from_millis(timeout_ms),
            retries: self.retries(raw)?,
            parallel,
        })
    }

    /// What an endpoint is told is nobody else's business: plain HTTP is for one's own machine.
    fn webhook_url(&self, raw: &raw::Webhook) -> Read<Url> {
        let written = raw.url.get_ref();
        let is_hidden = ["env:", "file:"].iter().any(|place| written.starts_with(place));
        let found = if is_hidden { self.secret(&raw.url)? } else { written.clone() };
        let url = Url::parse(&found).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.filter(Url::has_host).ok_or_else(|| {
            self.fault(&raw.url, "a webhook is sent to an https URL, or env:NAME of one")
        })?;
        if url.scheme() == "http" && !is_loopback(&url) && !raw.plain_http {
            return Err(self.fault(
                &raw.url,
                "events say who paid whom: use https, or set plain_http = true on a network that \
                 is yours alone",
            ));
        }
        Ok(url)
    }

    fn events(&self, raw: &raw::Webhook) -> Read<BTreeSet<EventKind>> {
        let Some(patterns) = &raw.events else { return Ok(EventKind::ALL.into()) };
        let mut events = BTreeSet::new();
        for pattern in patterns.get_ref() {
            let named = EventKind::named(pattern.get_ref());
            if named.is_empty() {
                let all = EventKind::ALL.map(EventKind::name).join(", ");
                let what = format!(
                    "no event has this name; there are {all}, and patterns like \"payment.*\""
                );
                return Err(self.fault(pattern, what));
            }
            events.extend(named);
        }
        if events.is_empty() {
            return Err(self.fault(patterns, "a webhook without events would never be sent"));
        }
        Ok(events)
    }

    fn retries(&self, raw: &raw::Webhook) -> Read<Retries> {
        let waits = match &raw.retry_ms {
            Some(waits) if waits.get_ref().is_empty() => {
                return Err(self.fault(waits, "at least one wait is needed, in milliseconds"));
            }
            Some(waits) => waits.get_ref().iter().copied().map(Duration::from_millis).collect(),
            None => WAITS_S.map(Duration::from_secs).to_vec(),
        };
        let usual = u32::try_from(waits.len().saturating_add(1)).unwrap_or(u32::MAX);
        let attempts_max = raw.attempts_max.as_ref().map_or(usual, |it| *it.get_ref());
        if let Some(zero) = raw.attempts_max.as_ref().filter(|_| attempts_max == 0) {
            return Err(self.fault(zero, "an event is sent once at least"));
        }
        Ok(Retries { attempts_max, waits })
    }
}
