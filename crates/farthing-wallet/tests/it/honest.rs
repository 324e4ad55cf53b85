//! An honest seller: the gate on the prepaid rail, with books of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use farthing_core::Store;
use farthing_gate::{Gate, PriceTag, Tag};
use farthing_ledger::{Audit, Entry, Holder, SpendingKey, audit};
use farthing_mpp::Secret;
use farthing_rail_prepaid::{PrepaidRail, parse_did_key};
use farthing_store_memory::{MemoryStore, Paper};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tower::{Layer, ServiceExt};

use crate::scene::{KEY, START, Seen, Server, TestClock, assets, sure};

/// A seller of `/quote` for 0.25 usd and of `/report` for 1.01 usd, both bound to their bodies;
/// `/taken` wants credentials in the other field, and everything else is free.
pub(crate) struct Seller {
    pub(crate) server: Server,
    paper: Paper,
    served: Arc<AtomicUsize>,
    /// How many of the next answers get lost on their way, after everything was done for them.
    lose: Arc<AtomicUsize>,
    /// The status the seller's own handler answers with.
    status: Arc<AtomicUsize>,
}

impl Seller {
    /// Opens with 10.00 usd in the buyer's account.
    pub(crate) async fn open(clock: &TestClock) -> Self {
        let paper = Paper::default();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(paper.clone(), START));
        let agent = Holder::new("agent").unwrap();
        let known = assets();
        let usd = known.get(&"usd".parse().unwrap()).unwrap().clone();
        let key = ed25519_public();
        for entry in [
            Entry::AttachKey { key: SpendingKey(key), holder: agent.clone() },
            Entry::Fund { holder: agent, amount: usd.atoms(1_000), reference: "first".into() },
        ] {
            store.enter(entry, START).await.unwrap();
        }
        let secret = Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).unwrap();
        let gate = Gate::builder("127.0.0.1", secret)
            .unwrap()
            .clock(Arc::new(clock.clone()))
            .rail(PrepaidRail::new(assets()))
            .store(store);
        let payee = Holder::new("seller").unwrap();
        let tags = gate.clone();
        let pricing = move |head: &http::request::Parts| {
            let (route, atoms) = match head.uri.path() {
                "/quote" => ("quote", 25),
                "/report" => ("report", 101),
                "/taken" => ("taken", 25),
                _ => return Tag::Free,
            };
            let quotes = tags.quotes(&usd.atoms(atoms), &payee);
            Tag::Priced(PriceTag {
                body_bytes_max: Some(1024),
                authorization_is_taken: route == "taken",
                ..PriceTag::new(route, quotes)
            })
        };
        let served = Arc::new(AtomicUsize::new(0));
        let status = Arc::new(AtomicUsize::new(200));
        let (count, now) = (Arc::clone(&served), Arc::clone(&status));
        let inner = tower::service_fn(move |_: Request<farthing_gate::Body>| {
            count.fetch_add(1, Ordering::SeqCst);
            let mut response = Response::new(Full::new(Bytes::from("the answer")));
            let status = u16::try_from(now.load(Ordering::SeqCst)).unwrap();
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            async { Ok::<_, std::convert::Infallible>(response) }
        });
        let service = tower::util::BoxCloneSyncService::new(gate.layer(pricing).layer(inner));
        let lose = Arc::new(AtomicUsize::new(0));
        let losing = Arc::clone(&lose);
        let server = Server::start(move |seen: Seen| {
            let (service, losing) = (service.clone(), Arc::clone(&losing));
            async move {
                let (method, uri) = seen.line.split_once(' ').unwrap();
                let mut request = Request::builder().method(method).uri(uri);
                *request.headers_mut().unwrap() = seen.fields.clone();
                let request = request.body(Full::new(seen.body.clone())).unwrap();
                let response = sure(service.oneshot(request).await);
                let (head, body) = response.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let lost = seen.credential().is_some()
                    && losing
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                        .is_ok();
                (!lost).then(|| Response::from_parts(head, body))
            }
        })
        .await;
        Self { server, paper, served, lose, status }
    }

    pub(crate) fn lose_answers(&self, count: usize) {
        self.lose.store(count, Ordering::SeqCst);
    }

    pub(crate) fn answer_with(&self, status: usize) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    pub(crate) fn books(&self) -> Audit {
        audit(&self.paper.records()).unwrap()
    }

    /// What the seller has earned, in atoms, by its own books.
    pub(crate) fn earned(&self) -> u128 {
        let account = "payable/seller/usd".parse().unwrap();
        self.books().accounts.get(&account).copied().unwrap_or_default().credits_posted
    }
}

fn ed25519_public() -> [u8; 32] {
    use farthing_core::Payer;
    let did = farthing_rail_prepaid::PrepaidPayer::new(&KEY, assets()).account();
    parse_did_key(&did).unwrap()
}
