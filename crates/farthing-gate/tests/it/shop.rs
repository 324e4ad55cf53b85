//! A shop in a test: a service behind a gate, a customer in front of it, and its books.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use farthing_core::{Buyer, Invitation, Payer, Store};
use farthing_evidence::Notary;
use farthing_gate::{BoundQuery, Clock, Gate, PriceTag, Purchase, RateLimit, Tag};
use farthing_ledger::{Audit, Holder, audit};
use farthing_money::{Amount, Assets, Timestamp};
use farthing_mpp::Secret;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_test::{Dial, TestPayer, TestRail};
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::rail::assets;
use farthing_testkit::store::START;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

/// A clock that a test sets.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

type Served = BoxCloneSyncService<Request<Full<Bytes>>, Response<farthing_gate::Body>, Infallible>;

/// The shop. `/a` and `/b` cost 2,500 usd each; `/bound` is bound to its body; `/taken` leaves
/// `Authorization` to its users; `/free` is free; `/dear` has a price no rail carries.
pub(crate) struct Shop {
    service: Served,
    pub(crate) clock: TestClock,
    pub(crate) dial: Dial,
    pub(crate) payer: TestPayer,
    paper: Paper,
    /// What reached the service behind the gate.
    pub(crate) seen: Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>,
    /// How the service behind the gate answers.
    pub(crate) answer: Arc<Mutex<Response<&'static str>>>,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The problem's type, without its base.
    pub(crate) fn problem(&self) -> String {
        let problem: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(self.fields["content-type"], "application/problem+json");
        let uri = problem["type"].as_str().unwrap();
        uri.strip_prefix("https://paymentauth.org/problems/").unwrap_or(uri).to_owned()
    }

    pub(crate) fn invitations(&self) -> Vec<Invitation> {
        MppBuyer.read_offers(&self.fields)
    }

    pub(crate) fn receipt(&self) -> Option<farthing_core::Object> {
        MppBuyer.read_receipt(&self.fields)
    }
}

fn tag(gate: &Gate, head: &http::request::Parts, known: &Assets) -> Tag {
    let usd = known.get(&"usd".parse().unwrap()).unwrap();
    let seller = Holder::new("seller").unwrap();
    let price = |atoms| gate.quotes(&usd.atoms(atoms), &seller);
    let tag = |name: &str| PriceTag::new(name, price(2_500));
    Tag::Priced(match head.uri.path() {
        "/a" => tag("a"),
        "/b" => tag("b"),
        "/tiered" => {
            let premium = head.uri.query().is_some_and(|query| query.contains("premium"));
            PriceTag::new("tiered", price(if premium { 9_000 } else { 1_000 }))
        }
        "/search" => PriceTag { query: BoundQuery::Only(vec!["q".into()]), ..tag("search") },
        "/bound" => PriceTag { body_bytes_max: Some(1_024), ..tag("bound") },
        "/taken" => PriceTag { authorization_is_taken: true, ..tag("taken") },
        "/dear" => return gate.tag("dear", &Amount::new("eur".parse().unwrap(), 1), &seller),
        _ => return Tag::Free,
    })
}

impl Shop {
    pub(crate) fn open() -> Self {
        Self::open_with(None, Paper::default())
    }

    /// A shop that signs receipts.
    pub(crate) fn open_signing(notary: Notary) -> Self {
        Self::open_as(None, Paper::default(), Some(notary))
    }

    pub(crate) fn open_with(limit: Option<RateLimit>, paper: Paper) -> Self {
        Self::open_as(limit, paper, None)
    }

    fn open_as(limit: Option<RateLimit>, paper: Paper, notary: Option<Notary>) -> Self {
        let clock = TestClock(Arc::new(AtomicU64::new(START.as_micros())));
        let dial = Dial::default();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(paper.clone(), START));
        let secret = Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).unwrap();
        let builder = Gate::builder("shop.example", secret)
            .unwrap()
            .clock(Arc::new(clock.clone()))
            .rail(TestRail::new(assets(), dial.clone()));
        let builder = match limit {
            Some(limit) => builder.limit(limit),
            None => builder,
        };
        let builder = match notary {
            Some(notary) => builder.receipts(Arc::new(notary)),
            None => builder,
        };
        let gate = builder.store(store);
        let seen: Arc<Mutex<Vec<(http::request::Parts, Bytes)>>> = Arc::default();
        let answer = Arc::new(Mutex::new(Response::new("the answer")));
        let (log, next) = (Arc::clone(&seen), Arc::clone(&answer));
        let inner = service_fn(move |request: Request<farthing_gate::Body>| {
            let (log, next) = (Arc::clone(&log), Arc::clone(&next));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                log.lock().unwrap().push((head, body));
                let answer = next.lock().unwrap();
                let mut response = Response::new(Full::new(Bytes::from(*answer.body())));
                *response.status_mut() = answer.status();
                *response.headers_mut() = answer.headers().clone();
                Ok::<_, Infallible>(response)
            }
        });
        let pricing = {
            let (gate, known) = (gate.clone(), assets());
            move |head: &http::request::Parts| tag(&gate, head, &known)
        };
        let service = BoxCloneSyncService::new(gate.layer(pricing).layer(inner));
        let payer = TestPayer::new("alice", assets());
        Self { service, clock, dial, payer, paper, seen, answer }
    }

    /// Sends `METHOD /path` with header fields and a body.
    pub(crate) async fn send(&self, line: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let (method, uri) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        self.call(request).await
    }

    pub(crate) async fn call(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            fields: head.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &[], "").await
    }

    /// Asks, pays what is asked, and gives the credential: not yet presented.
    pub(crate) async fn buy(&self, line: &str, body: &str) -> (String, String) {
        let asked = self.send(line, &[], body).await;
        assert_eq!(asked.status, 402, "{}", asked.body);
        self.pay(&asked.invitations()[0]).await
    }

    /// The header field that answers an invitation.
    pub(crate) async fn pay(&self, invitation: &Invitation) -> (String, String) {
        let paid = self.payer.pay(invitation).await.ok().unwrap();
        let (name, value) = MppBuyer.write_credential(invitation, &paid).unwrap();
        (name.to_string(), value.to_str().unwrap().to_owned())
    }

    /// Presents a credential.
    pub(crate) async fn present(
        &self,
        line: &str,
        credential: &(String, String),
        body: &str,
    ) -> Answer {
        self.send(line, &[(&credential.0, &credential.1)], body).await
    }

    /// How often the service behind the gate was called.
    pub(crate) fn served(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// What the service behind the gate was told of its last sale.
    pub(crate) fn purchase(&self) -> Option<Purchase> {
        self.seen.lock().unwrap().last().unwrap().0.extensions.get().cloned()
    }

    pub(crate) fn answer_with(&self, status: u16, fields: &[(&'static str, &'static str)]) {
        let mut response = Response::new("the answer");
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        *self.answer.lock().unwrap() = response;
    }

    pub(crate) fn paper(&self) -> Paper {
        self.paper.clone()
    }

    /// Waits until a claimed payment waits for the rail.
    pub(crate) async fn until_pending(&self) {
        while audit(&self.paper.records()).unwrap().pending == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The books, checked: what the rail moved is what the seller earned.
    pub(crate) fn books(&self) -> Audit {
        let sound = audit(&self.paper.records()).unwrap();
        let moved: u128 = self.dial.moved().values().map(Amount::atoms).sum();
        assert_eq!(earned(&sound), moved, "the rail and the books agree");
        sound
    }
}

pub(crate) fn earned(audit: &Audit) -> u128 {
    let seller = audit.accounts.get(&"payable/seller/usd".parse().unwrap());
    seller.copied().unwrap_or_default().credits_posted
}
