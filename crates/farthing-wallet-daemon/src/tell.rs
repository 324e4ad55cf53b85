//! What the daemon does about requests for approval beside answering: it ends those that nobody answers, and
//! tells whoever the owner has named.
//!
//! The wallet's memory is the outbox: what is to be told is what it knows, and it notes what was taken. So what
//! another process asks or answers is told too, and a crash tells some things twice, under the same name, and
//! none never.

use std::sync::Arc;
use std::time::Duration;

use farthing_money::{Amount, Assets, Timestamp, parse_atoms};
use farthing_wallet::{
    ApprovalRequest, Asking, BudgetView, Desk, Memory, Notice as Due, NoticeEvent, Quote, TOLD_FOR,
};
use farthing_webhook::{Answered, Message, Retries, WebhookSecret, send};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use crate::keeper::Keeper;
use crate::page::AnswerKey;

/// How often it is looked what there is to do.
const LOOKED: Duration = Duration::from_millis(250);

/// How long to wait when the wallet's files cannot be read.
const AGAIN: Duration = Duration::from_secs(1);

/// How long an endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The version of what events say. It changes when a member is taken away or means something else.
const VERSION: u8 = 1;

/// Who is told.
pub struct Hook {
    /// Where it is sent.
    pub url: Url,
    /// What it is signed with: each of them signs.
    pub secrets: Vec<WebhookSecret>,
    /// When it is sent again.
    pub retries: Retries,
}

/// Who is told, and where they find what they are told of.
pub(crate) struct Telling {
    pub(crate) hook: Hook,
    pub(crate) client: reqwest::Client,
    /// The owner's page, if there is one.
    pub(crate) page: Option<String>,
    /// What links are signed with that answer one request; none are given out without it.
    pub(crate) key: Option<AnswerKey>,
}

/// Ends what nobody has answered in time, until the daemon stops.
pub(crate) async fn expire(keeper: Arc<dyn Keeper>, mut stop: watch::Receiver<bool>) {
    let mut desk = None;
    loop {
        if desk.is_none() {
            desk = open(&keeper).await;
        }
        let wait = match &desk {
            Some(open) => match open.expire().await {
                Ok(()) => LOOKED,
                Err(error) => {
                    tracing::error!(%error, "what has expired is not written down");
                    AGAIN
                }
            },
            None => AGAIN,
        };
        if over(&mut stop, wait).await {
            return;
        }
    }
}

/// Tells what there is to tell, until the daemon stops or the endpoint wants nothing any more.
pub(crate) async fn tell(
    keeper: Arc<dyn Keeper>,
    telling: Telling,
    mut stop: watch::Receiver<bool>,
) {
    let mut desk = None;
    loop {
        if desk.is_none() {
            desk = open(&keeper).await;
        }
        let mut wait = AGAIN;
        if let Some(open) = &desk {
            match telling.round(open, keeper.assets(), &mut stop).await {
                Ok(true) => wait = LOOKED,
                Ok(false) => return,
                Err(error) => tracing::error!(%error, "what is to be told cannot be read"),
            }
        }
        if over(&mut stop, wait).await {
            return;
        }
    }
}

async fn open(keeper: &Arc<dyn Keeper>) -> Option<Desk> {
    let keeper = Arc::clone(keeper);
    let opened = tokio::task::spawn_blocking(move || keeper.desk()).await.ok()?;
    opened
        .inspect_err(|error| tracing::error!(%error, "what waits for approval is not watched"))
        .ok()
}

/// Waits; `true` if the daemon stops meanwhile.
async fn over(stop: &mut watch::Receiver<bool>, wait: Duration) -> bool {
    tokio::time::timeout(wait, stop.wait_for(|stop| *stop)).await.is_ok()
}

impl Telling {
    /// Sends what is due. `false` once the endpoint wants nothing any more.
    async fn round(
        &self,
        desk: &Desk,
        assets: &Assets,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<bool, farthing_wallet::MemoryError> {
        for due in desk.memory.notices(desk.clock.now())? {
            if due.next_at > desk.clock.now() {
                continue;
            }
            let message = self.message(&due, assets);
            let to = (&self.hook.url, TIMEOUT);
            let now = desk.clock.now();
            let sending = send(&self.client, to, &self.hook.secrets, message, now);
            let answered = tokio::select! {
                answered = sending => answered,
                // What may have arrived is told again at the next start.
                _ = stop.wait_for(|stop| *stop) => return Ok(true),
            };
            if !self.note(&desk.memory, &due, answered, desk.clock.now())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn note(
        &self,
        memory: &Memory,
        due: &Due,
        answered: Answered,
        now: Timestamp,
    ) -> Result<bool, farthing_wallet::MemoryError> {
        let asked = match answered {
            Answered::Taken => {
                memory.noticed(due, None)?;
                return Ok(true);
            }
            Answered::Gone => {
                tracing::warn!("the webhook of approvals answered 410 and is told nothing more");
                return Ok(false);
            }
            Answered::Refused(_, wait) => wait,
            Answered::Timeout | Answered::Unreachable => None,
        };
        let failures = due.attempts.saturating_add(1);
        let wait = self.hook.retries.wait(failures).max(asked.unwrap_or_default());
        let again = now.after(wait);
        let is_over = failures >= self.hook.retries.attempts_max
            || again >= due.request.asked_at.after(TOLD_FOR);
        tracing::warn!(approval = due.request.id, ?answered, is_over, "it was not told");
        memory.noticed(due, (!is_over).then_some(again))?;
        Ok(true)
    }

    /// What is told: the same bytes under the same name however often it is.
    fn message(&self, due: &Due, assets: &Assets) -> Message {
        let Due { request, event, .. } = due;
        let asked = &request.asked;
        let decided = |by: &[String], at: Option<Timestamp>| json!({ "outcome": event.name(), "by": by, "at": at.map(|at| at.to_string()) });
        let (kind, at, more) = match event {
            NoticeEvent::Requested => {
                ("approval.requested", request.asked_at, ("links", self.links(request)))
            }
            NoticeEvent::Approved => {
                let at = asked.answered_at;
                let said = decided(&asked.by, at);
                ("approval.decided", at.unwrap_or(request.asked_at), ("decision", said))
            }
            NoticeEvent::Denied => {
                let at = asked.answered_at;
                let said = decided(&[], at);
                ("approval.decided", at.unwrap_or(request.asked_at), ("decision", said))
            }
            NoticeEvent::Expired => {
                let said = decided(&[], asked.answer_by);
                (
                    "approval.decided",
                    asked.answer_by.unwrap_or(request.asked_at),
                    ("decision", said),
                )
            }
        };
        let mut data = facts(request, assets);
        if let Some(members) = data.as_object_mut() {
            members.insert(more.0.to_owned(), more.1);
        }
        let body = Body { kind, version: VERSION, timestamp: at.to_string(), data };
        Message {
            id: format!("evt_{}_{}", request.id, event.name()),
            // In-memory data with string keys always serialises.
            body: serde_json::to_string(&body).unwrap_or_default(),
        }
    }

    /// Where it is looked at, and where it is answered by whoever has this message, if they may.
    fn links(&self, request: &ApprovalRequest) -> Value {
        let Some(page) = &self.page else { return json!({}) };
        let id = &request.id;
        let answer = self.key.as_ref().map(|key| {
            let signature = key.sign(request);
            format!("{page}/answer/{id}?signature={signature}")
        });
        match answer {
            Some(answer) => json!({ "page": format!("{page}/approvals/{id}"), "answer": answer }),
            None => json!({ "page": format!("{page}/approvals/{id}") }),
        }
    }
}

#[derive(Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: &'static str,
    version: u8,
    timestamp: String,
    data: Value,
}

/// What stays the same in every event of a request.
fn facts(request: &ApprovalRequest, assets: &Assets) -> Value {
    let Asking { origin, what, recipient, asset, atoms, approvals, .. } = &request.asked;
    let Asking { task, tool, method, reasons, draws, quote, answer_by, .. } = &request.asked;
    let amount = Amount::new(asset.clone(), parse_atoms(atoms).unwrap_or_default());
    let budget = |draw: &farthing_ledger::Draw| {
        let view = BudgetView::of(draw, draw.used, assets);
        json!({ "rule": view.rule, "used": view.used_text, "limit": view.limit_text })
    };
    let quote = quote.as_ref().map(|Quote { challenge, expires_at, description }| {
        json!({
            "challenge": challenge,
            "expires_at": expires_at.map(|at| at.to_string()),
            "description": description,
        })
    });
    json!({
        "approval": request.id,
        "agent": request.agent,
        "task": task,
        "tool": tool,
        "origin": origin,
        "what": what,
        "recipient": recipient,
        "method": method,
        "amount": { "asset": asset, "atoms": atoms, "text": assets.print(&amount) },
        "reasons": reasons,
        "budgets": draws.iter().map(budget).collect::<Vec<_>>(),
        "quote": quote,
        "approvals": approvals,
        "asked_at": request.asked_at.to_string(),
        "answer_by": answer_by.map(|at| at.to_string()),
    })
}
