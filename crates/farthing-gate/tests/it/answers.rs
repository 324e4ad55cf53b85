//! Answers that are given while somebody goes away, and given again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_core::{Buyer, Payer, Store};
use farthing_gate::{Body, Gate, PriceTag, Tag};
use farthing_ledger::{Audit, Holder, audit};
use farthing_mpp::Secret;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_test::{Dial, TestPayer, TestRail};
use farthing_store_memory::{MemoryStore, Paper};
use farthing_testkit::rail::assets;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::mpsc;
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;

/// A body that a test writes, piece by piece.
struct Pipe(mpsc::Receiver<Result<&'static str, &'static str>>);

impl http_body::Body for Pipe {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|piece| {
            piece.map(|piece| piece.map(|text| Frame::data(text.into())).map_err(Into::into))
        })
    }
}

type Served = BoxCloneSyncService<Request<Full<Bytes>>, Response<Body>, Infallible>;
type Pen = mpsc::Sender<Result<&'static str, &'static str>>;

/// A service behind a gate, whose answers a test writes.
struct Story {
    service: Served,
    paper: Paper,
    payer: TestPayer,
    /// How often the handler ran.
    served: Arc<AtomicUsize>,
    /// What writes the answer of each run, in order.
    pens: Arc<Mutex<Vec<Pen>>>,
}

impl Story {
    fn begin() -> Self {
        Self::on(Paper::default())
    }

    /// The same books in another process.
    fn on(paper: Paper) -> Self {
        let now = farthing_gate::Clock::now(&farthing_gate::SystemClock);
        let store: Arc<dyn Store> = Arc::new(MemoryStore::open(paper.clone(), now));
        let secret = Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).unwrap();
        let builder = Gate::builder("shop.example", secret).unwrap();
        let gate = builder.rail(TestRail::new(assets(), Dial::default())).store(store);
        let (served, pens) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Vec<Pen>>>::default());
        let handler = {
            let (served, pens) = (Arc::clone(&served), Arc::clone(&pens));
            service_fn(move |_: Request<Body>| {
                served.fetch_add(1, Ordering::SeqCst);
                let (pen, paper) = mpsc::channel(16);
                pens.lock().unwrap().push(pen);
                async move { Ok::<_, Infallible>(Response::new(Pipe(paper))) }
            })
        };
        let seller = Holder::new("seller").unwrap();
        let price = assets().get(&"usd".parse().unwrap()).unwrap().atoms(2_500);
        let quotes = gate.quotes(&price, &seller);
        let pricing = move |_: &http::request::Parts| {
            Tag::Priced(PriceTag { answer_bytes_max: 16, ..PriceTag::new("a", quotes.clone()) })
        };
        let service = BoxCloneSyncService::new(gate.layer(pricing).layer(handler));
        let payer = TestPayer::new("alice", assets());
        Self { service, paper, payer, served, pens }
    }

    async fn send(&self, method: Method, credential: Option<&str>) -> Response<Body> {
        let mut request = Request::builder().method(method).uri("/a");
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        let request = request.body(Full::default()).unwrap();
        self.service.clone().oneshot(request).await.unwrap()
    }

    async fn buy(&self, method: Method) -> String {
        let asked = self.send(method, None).await;
        assert_eq!(asked.status(), 402);
        let offer = MppBuyer.read_offers(asked.headers()).remove(0);
        let paid = self.payer.pay(&offer).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(&offer, &paid).unwrap();
        value.to_str().unwrap().to_owned()
    }

    /// What writes the answer of the handler's run of this number.
    fn pen(&self, run: usize) -> Pen {
        self.pens.lock().unwrap()[run].clone()
    }

    /// Ends the answer of every run.
    fn finish(&self) {
        self.pens.lock().unwrap().clear();
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn books(&self) -> Audit {
        audit(&self.paper.records()).unwrap()
    }
}

async fn text(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

/// F-06: a client that goes away in the middle of its answer finds all of it when it comes back; the
/// handler ran once.
#[tokio::test]
async fn an_answer_outlives_its_client() {
    let story = Story::begin();
    let credential = story.buy(Method::POST).await;
    let mut answer = story.send(Method::POST, Some(&credential)).await;
    story.pen(0).send(Ok("it is ")).await.unwrap();
    assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "it is ");
    drop(answer);
    story.pen(0).send(Ok("sunny")).await.unwrap();
    story.finish();
    for _ in 0..2 {
        let again = story.send(Method::POST, Some(&credential)).await;
        assert_eq!(again.headers()["farthing-replayed"], "true");
        assert!(again.headers().contains_key("payment-receipt"));
        assert_eq!(text(again).await, (200, "it is sunny".into()));
    }
    assert_eq!((story.served(), story.books().delivered), (1, 1));
}

/// An answer is streamed as it comes, and not held back until it is whole.
#[tokio::test]
async fn an_answer_is_streamed() {
    let story = Story::begin();
    let credential = story.buy(Method::GET).await;
    let mut answer = story.send(Method::GET, Some(&credential)).await;
    for piece in ["a", "b", "c"] {
        story.pen(0).send(Ok(piece)).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), piece);
        assert_eq!(story.books().delivered, 0, "it is not over");
    }
    story.finish();
    assert!(answer.frame().await.is_none());
    assert!(answer.body().is_end_stream() || answer.frame().await.is_none());
    assert_eq!(story.books().delivered, 1);
}

/// What is longer than is kept is given once. A second time nothing is taken, nothing runs, and the
/// client is not asked to pay.
#[tokio::test]
async fn a_long_answer_is_given_once() {
    let story = Story::begin();
    let credential = story.buy(Method::GET).await;
    let answer = story.send(Method::GET, Some(&credential)).await;
    story.pen(0).send(Ok("more than sixteen bytes")).await.unwrap();
    story.finish();
    assert_eq!(text(answer).await, (200, "more than sixteen bytes".into()));
    let again = story.send(Method::GET, Some(&credential)).await;
    assert!(!again.headers().contains_key("www-authenticate"));
    let (status, problem) = text(again).await;
    assert_eq!(status, 409);
    assert!(problem.contains("do not pay again"), "{problem}");
    assert_eq!((story.served(), story.books().delivered), (1, 1));
}

/// a handler that breaks off in its answer has failed: the answer is owed, and the same credential
/// gets it.
#[tokio::test]
async fn an_answer_that_breaks_off_is_owed() {
    let story = Story::begin();
    let credential = story.buy(Method::POST).await;
    let mut answer = story.send(Method::POST, Some(&credential)).await;
    story.pen(0).send(Ok("it is")).await.unwrap();
    assert!(answer.frame().await.unwrap().is_ok());
    story.pen(0).send(Err("the handler died")).await.unwrap();
    assert!(answer.frame().await.unwrap().is_err());
    assert_eq!(story.books().undelivered, 1);
    let second = story.send(Method::POST, Some(&credential)).await;
    story.pen(1).send(Ok("sunny")).await.unwrap();
    story.finish();
    assert_eq!(text(second).await, (200, "sunny".into()));
    assert_eq!((story.served(), story.books().delivered), (2, 1));
}

/// F-04: a crash in the middle of a delivery: what may happen twice is begun again, and what may not is
/// not; and neither is ever charged again.
#[tokio::test]
async fn a_crash_does_not_make_anything_happen_twice() {
    for (method, status) in [(Method::GET, 200), (Method::POST, 500)] {
        let crashed = Story::begin();
        let credential = crashed.buy(method.clone()).await;
        let _half = crashed.send(method.clone(), Some(&credential)).await;
        assert_eq!(crashed.served(), 1);
        let restarted = Story::on(crashed.paper.clone());
        let again = restarted.send(method.clone(), Some(&credential)).await;
        assert_eq!(again.status(), status, "{method}");
        assert!(!again.headers().contains_key("www-authenticate"), "never asked to pay again");
        if status == 200 {
            restarted.pen(0).send(Ok("sunny")).await.unwrap();
            restarted.finish();
            assert_eq!(text(again).await.1, "sunny");
        } else {
            assert!(text(again).await.1.contains("not carried out again"));
            assert_eq!(restarted.served(), 0, "{method}");
        }
        let books = restarted.books();
        assert_eq!((books.claimed, books.pending), (1, 0), "{method}");
    }
}

/// Several requests with one credential get one answer, and wait for it.
#[tokio::test]
async fn a_second_request_waits_for_the_first() {
    let story = Arc::new(Story::begin());
    let credential = story.buy(Method::POST).await;
    let first = story.send(Method::POST, Some(&credential)).await;
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (story, credential) = (Arc::clone(&story), credential.clone());
            tokio::spawn(
                async move { text(story.send(Method::POST, Some(&credential)).await).await },
            )
        })
        .collect();
    tokio::task::yield_now().await;
    story.pen(0).send(Ok("sunny")).await.unwrap();
    story.finish();
    assert_eq!(text(first).await, (200, "sunny".into()));
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), (200, "sunny".into()));
    }
    assert_eq!(story.served(), 1);
}
