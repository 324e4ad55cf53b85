//! A server that is told what happened to payments, as an operator of one would write it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::sync::{Semaphore, watch};

use crate::shop::serve;

/// A message, as it arrived.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
    /// What it was answered.
    pub(crate) status: u16,
}

impl Message {
    pub(crate) fn id(&self) -> String {
        self.fields["webhook-id"].to_str().unwrap().to_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    pub(crate) fn trace(&self) -> String {
        self.json()["data"]["trace"].as_str().unwrap().to_owned()
    }

    pub(crate) fn seq(&self) -> u64 {
        self.json()["data"]["seq"].as_u64().unwrap()
    }

    /// Whether it is signed with `secret`, as the standard's own implementation finds.
    pub(crate) fn is_signed_with(&self, secret: &str) -> bool {
        Webhook::new(secret).unwrap().verify(&self.body, &self.fields).is_ok()
    }
}

/// How a receiver answers.
#[derive(Clone)]
pub(crate) enum Manner {
    /// With this status.
    Answer(u16),
    /// With 204 to what is signed with this secret, and with 401 to anything else.
    Verify(String),
    /// With this status and where else to go.
    Redirect(u16, String),
    /// Not before there is a permit.
    Hang(Arc<Semaphore>),
}

/// A receiver and what has arrived.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    arrived: Arc<watch::Sender<Vec<Message>>>,
}

impl Receiver {
    pub(crate) async fn open(manner: Manner) -> Self {
        let (manner, arrived) = (Arc::new(Mutex::new(manner)), watch::channel(Vec::new()).0);
        let arrived = Arc::new(arrived);
        let (how, log) = (Arc::clone(&manner), Arc::clone(&arrived));
        let router = axum::Router::new().fallback(move |request: Request| {
            let (how, log) = (how.lock().unwrap().clone(), Arc::clone(&log));
            async move { answer(request, how, &log).await }
        });
        Self { address: serve(router).await, manner, arrived }
    }

    /// A configuration's part that sends to it, with `more` in it.
    pub(crate) fn config(&self, name: &str, more: &str) -> String {
        let Self { address, .. } = self;
        let secrets = if more.contains("secrets") { "" } else { "secrets = [\"env:HOOK\"]" };
        format!(
            "\n[[webhooks]]\nname = \"{name}\"\nurl = \"http://{address}/hook\"\n{secrets}\n{more}\n"
        )
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    pub(crate) fn messages(&self) -> Vec<Message> {
        self.arrived.borrow().clone()
    }

    /// Every message that was taken, in the order of arrival.
    pub(crate) fn taken(&self) -> Vec<Message> {
        self.messages().into_iter().filter(|it| (200..300).contains(&it.status)).collect()
    }

    /// Waits until what has arrived is `enough`.
    pub(crate) async fn until(&self, enough: impl Fn(&[Message]) -> bool) -> Vec<Message> {
        let mut arrived = self.arrived.subscribe();
        arrived.wait_for(|messages| enough(messages)).await.unwrap().clone()
    }

    /// Waits until so many messages were taken.
    pub(crate) async fn until_taken(&self, count: usize) -> Vec<Message> {
        let is_taken = |it: &&Message| (200..300).contains(&it.status);
        self.until(|messages| messages.iter().filter(is_taken).count() >= count).await;
        self.taken()
    }
}

async fn answer(request: Request, manner: Manner, log: &watch::Sender<Vec<Message>>) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let mut message = Message { fields: head.headers, body, status: 0 };
    let location = match &manner {
        Manner::Redirect(_, location) => Some(location.clone()),
        Manner::Answer(_) | Manner::Verify(_) | Manner::Hang(_) => None,
    };
    message.status = match manner {
        Manner::Answer(status) | Manner::Redirect(status, _) => status,
        Manner::Verify(secret) if message.is_signed_with(&secret) => 204,
        Manner::Verify(_) => 401,
        Manner::Hang(permits) => {
            log.send_modify(|log| log.push(message.clone()));
            permits.acquire().await.unwrap().forget();
            204
        }
    };
    let status = StatusCode::from_u16(message.status).unwrap();
    log.send_modify(|log| log.push(message));
    match location {
        Some(location) => (status, [("location", location)]).into_response(),
        None => status.into_response(),
    }
}
