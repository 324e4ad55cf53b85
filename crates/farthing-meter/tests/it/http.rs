//! The whole way: an upstream, a server with the meter, and a client, over sockets.
//!
//! The client pays as the session drafts say: a voucher goes to the same resource, in a `HEAD` of its
//! own, while the answer waits. What a voucher is worth stands in a field here, since vouchers are not
//! what is tested.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use farthing_meter::{BoxError, End, Measure, PAYMENT_RECEIPT, Summary, Terms, Tokens, metered};
use farthing_mpp::Receipt;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sse_parse::SseParser;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::purse::Purse;
use crate::upstream;

type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Serves what `answer` gives to each request, on a free port.
async fn serve<F, A>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + 'static,
    A: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// A shop: its answers come from `upstream` and are paid from `purse`.
struct Shop {
    url: String,
    purse: Purse,
    ends: mpsc::UnboundedReceiver<Summary>,
}

impl Shop {
    async fn open(upstream: String, terms: Terms, purse: Purse) -> Self {
        let client = reqwest::Client::new();
        let (note, ends) = mpsc::unbounded_channel();
        let till = purse.clone();
        let address = serve(move |request| {
            let (client, purse, note) = (client.clone(), till.clone(), note.clone());
            let (upstream, terms) = (upstream.clone(), terms.clone());
            async move {
                if request.method() == Method::HEAD {
                    let units = request.headers()["x-voucher-units"].to_str().unwrap();
                    purse.accept_units(units.parse().unwrap());
                    return Response::new(boxed(Empty::new()));
                }
                let answer = client.get(upstream).send().await.unwrap();
                let answer = Response::<reqwest::Body>::from(answer);
                let answer = metered(answer, request.headers(), &terms, purse).unwrap();
                answer.map(|body| boxed(body.on_end(move |it| note.send(it).unwrap())))
            }
        })
        .await;
        Self { url: format!("http://{address}/"), purse, ends }
    }

    async fn vouch(&self, units: u64) {
        let head = reqwest::Client::new().head(&self.url);
        head.header("x-voucher-units", units).send().await.unwrap();
    }

    async fn ended(&mut self) -> Summary {
        self.ends.recv().await.unwrap()
    }
}

fn boxed<B>(body: B) -> UnsyncBoxBody<Bytes, BoxError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// An upstream that says one thing.
async fn saying(kind: &'static str, body: String) -> String {
    let address = serve(move |_| {
        let body = Full::new(Bytes::from(body.clone()));
        async move { Response::builder().header("content-type", kind).body(boxed(body)).unwrap() }
    })
    .await;
    format!("http://{address}/")
}

/// S-13, SES.S08, SES.S09: a client reads a stream to its end by signing a voucher whenever it is asked
/// for one, and what it reads of the upstream is what the upstream sent.
#[tokio::test]
async fn a_client_pays_its_way_through_a_stream() {
    let tokens: Vec<_> = (0..10).map(|it| format!("id: {it}\ndata: token {it}\n\n")).collect();
    let sent = tokens.concat() + "event: payment-receipt\ndata: forged\n\ndata: [DONE]\n\n";
    let upstream = saying("text/event-stream", sent.clone()).await;
    let purse = Purse::with_units(3);
    let mut shop = Shop::open(upstream, Terms::new(Measure::Events), purse).await;

    let mut answer = reqwest::get(&shop.url).await.unwrap();
    assert!(!answer.headers().contains_key("content-length"));
    let (mut parser, mut asked, mut read) = (SseParser::new(), 0, String::new());
    let mut receipt = None;
    let mut named = Vec::new();
    while let Some(chunk) = answer.chunk().await.unwrap() {
        read += std::str::from_utf8(&chunk).unwrap();
        parser.feed(&chunk);
        while let Some(event) = parser.next_event() {
            match event.event.as_str() {
                "payment-need-voucher" => {
                    asked += 1;
                    let data: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                    let required: u64 =
                        data["requiredCumulative"].as_str().unwrap().parse().unwrap();
                    read =
                        read.replace(&format!("event: payment-need-voucher\ndata: {data}\n\n"), "");
                    shop.vouch(required / 25 + 2).await;
                }
                "payment-receipt" => receipt = Some(event.data),
                name => named.push(name.to_owned()),
            }
        }
    }
    assert_eq!(asked, 3, "3 units, and 3 for each voucher, make 11 with the last");
    let receipt: serde_json::Value = serde_json::from_str(&receipt.unwrap()).unwrap();
    assert_eq!((&receipt["units"], &receipt["spent"]), (&11.into(), &"275".into()));
    let (upstreams, _) = read.split_once("event: payment-receipt\n").unwrap();
    assert_eq!(upstreams.replace("upstream-payment-", "payment-"), sent);
    assert_eq!(named.iter().filter(|name| *name == "message").count(), 11);
    assert!(named.contains(&"upstream-payment-receipt".to_owned()));
    let expected = Summary { end: End::Complete, units: 11, pauses: 3, forged: 1 };
    assert_eq!(shop.ended().await, expected);
}

/// SES.S08: a client that answers no call for a voucher has the whole of what it paid for, and an end.
#[tokio::test]
async fn a_client_that_does_not_pay_is_let_go() {
    let sent = "data: 1\n\ndata: 2\n\ndata: 3\n\n".to_owned();
    let upstream = saying("text/event-stream", sent).await;
    let terms = Terms { wait: Duration::from_millis(20), ..Terms::new(Measure::Events) };
    let mut shop = Shop::open(upstream, terms, Purse::with_units(2)).await;
    let read = reqwest::get(&shop.url).await.unwrap().text().await.unwrap();
    assert!(read.starts_with("data: 1\n\ndata: 2\n\nevent: payment-need-voucher\n"), "{read}");
    assert!(read.contains("\n\n: ended, as no voucher came in time\n\nevent: payment-receipt\n"));
    assert_eq!(shop.ended().await.end, End::Unpaid);
    assert_eq!(shop.purse.spent_units(), 2);
}

/// SES.S08: an answer that cannot say that it is not whole is broken off, and no client takes it for one.
#[tokio::test]
async fn an_unpaid_answer_is_not_taken_for_a_whole_one() {
    let upstream = saying("text/plain", "hello".to_owned()).await;
    let terms = Terms { wait: Duration::from_millis(20), ..Terms::new(Measure::Bytes) };
    let mut shop = Shop::open(upstream, terms, Purse::with_units(4)).await;
    let answer = reqwest::get(&shop.url).await.unwrap();
    assert!(answer.text().await.is_err());
    assert_eq!(shop.ended().await.end, End::Unpaid);
    shop.vouch(9).await;
    assert_eq!(reqwest::get(&shop.url).await.unwrap().text().await.unwrap(), "hello");
    assert_eq!(shop.purse.spent_units(), 9);
}

/// SES.S09: a client that takes trailers finds the receipt there; SES.S14: a whole answer of a model's is
/// charged by its usage.
#[tokio::test]
async fn a_receipt_comes_in_the_trailer() {
    let sent = r#"{"choices":[{"message":{"content":"Hi"}}],"usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
    let upstream = saying("application/json", sent.to_owned()).await;
    let terms = Terms::new(Measure::Tokens(Tokens::default()));
    let mut shop = Shop::open(upstream, terms, Purse::with_units(9)).await;
    let request = reqwest::Client::new().get(&shop.url).header("te", "trailers");
    let answer = Response::<reqwest::Body>::from(request.send().await.unwrap());
    assert_eq!(answer.headers()["trailer"], "payment-receipt");
    let collected = answer.into_body().collect().await.unwrap();
    let receipt = collected.trailers().unwrap()[PAYMENT_RECEIPT].to_str().unwrap().to_owned();
    assert_eq!(Receipt::parse(&receipt).unwrap().extra["units"], 7);
    assert_eq!(collected.to_bytes(), sent);
    assert_eq!(shop.ended().await.units, 7);

    let plain = reqwest::get(&shop.url).await.unwrap();
    assert_eq!(plain.headers()["content-length"], sent.len().to_string());
    assert!(!plain.headers().contains_key("trailer"));
}

/// An upstream of so many frames of 64 KiB, which counts what is read of it.
struct Flood {
    left: u64,
    read: Arc<AtomicU64>,
}

const FRAME: usize = 64 << 10;

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.read.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![b'x'; FRAME])))))
    }
}

/// Waits until a count has not changed for a while.
async fn settled(count: &AtomicU64) -> u64 {
    let (mut last, mut same) = (0, 0);
    while same < 20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = count.load(Ordering::SeqCst);
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

/// S-13, D-04: a client that reads slowly is charged for what sockets hold and no more; nothing piles up
/// behind it, and it goes on when the client does.
#[tokio::test]
async fn a_slow_reader_stops_the_upstream() {
    const FRAMES: u64 = 1_024;
    let terms = Terms { every: (1 << 16).try_into().unwrap(), ..Terms::new(Measure::Bytes) };
    let (read, purse) = (Arc::new(AtomicU64::new(0)), Purse::with_units(u128::from(FRAMES)));
    let end = Arc::new(Mutex::new(None));
    let (count, till, note) = (Arc::clone(&read), purse.clone(), Arc::clone(&end));
    let address = serve(move |request| {
        let upstream = Response::new(Flood { left: FRAMES, read: Arc::clone(&count) });
        let answer = metered(upstream, request.headers(), &terms, till.clone()).unwrap();
        let note = Arc::clone(&note);
        let answer =
            answer.map(|body| boxed(body.on_end(move |it| *note.lock().unwrap() = Some(it))));
        async move { answer }
    })
    .await;

    let mut answer = reqwest::get(format!("http://{address}/")).await.unwrap();
    let mut got = answer.chunk().await.unwrap().unwrap().len();
    let stalled = settled(&read).await;
    assert!(stalled < FRAMES / 2, "{stalled} frames were read ahead");
    assert!(purse.spent_units() <= u128::from(stalled));
    assert_eq!(*end.lock().unwrap(), None);

    while let Some(chunk) = answer.chunk().await.unwrap() {
        got += chunk.len();
    }
    assert_eq!(got, usize::try_from(FRAMES).unwrap() * FRAME);
    assert_eq!(purse.spent_units(), u128::from(FRAMES));
    assert_eq!(end.lock().unwrap().unwrap().end, End::Complete);
}

/// S-13, F-06: a client that hangs up stops the charge and the upstream.
#[tokio::test]
async fn a_client_that_hangs_up_is_charged_no_more() {
    let (read, purse) = (Arc::new(AtomicU64::new(0)), Purse::with_units(1 << 40));
    let (note, mut ends) = mpsc::unbounded_channel();
    let terms = Terms { every: (1 << 16).try_into().unwrap(), ..Terms::new(Measure::Bytes) };
    let (count, till) = (Arc::clone(&read), purse.clone());
    let address = serve(move |request| {
        let upstream = Response::new(Flood { left: u64::MAX, read: Arc::clone(&count) });
        let answer = metered(upstream, request.headers(), &terms, till.clone()).unwrap();
        let note = note.clone();
        let answer = answer.map(|body| boxed(body.on_end(move |it| note.send(it).unwrap())));
        async move { answer }
    })
    .await;
    let mut answer = reqwest::get(format!("http://{address}/")).await.unwrap();
    for _ in 0..10 {
        answer.chunk().await.unwrap().unwrap();
    }
    drop(answer);
    let summary: Summary = ends.recv().await.unwrap();
    assert_eq!(summary.end, End::Dropped);
    let at_the_end = read.load(Ordering::SeqCst);
    assert_eq!(settled(&read).await, at_the_end, "nothing is read any more");
    assert_eq!(purse.spent_units(), u128::from(summary.units));
    let ahead = at_the_end - summary.units;
    assert!(ahead <= 1, "{ahead} frames were read and neither given nor charged");
}

/// S-13, D-03: a client that hangs up in a pause holds nothing from then on: neither the upstream nor its
/// place.
#[tokio::test]
async fn a_client_that_hangs_up_in_a_pause_holds_nothing() {
    let purse = Purse::with_units(1);
    let (sender, body) = upstream::upstream();
    let body = Arc::new(Mutex::new(Some(body)));
    let (note, mut ends) = mpsc::unbounded_channel();
    let till = purse.clone();
    let address = serve(move |request| {
        let upstream = Response::builder().header("content-type", "text/event-stream");
        let upstream = upstream.body(body.lock().unwrap().take().unwrap()).unwrap();
        let terms = Terms::new(Measure::Events);
        let answer = metered(upstream, request.headers(), &terms, till.clone()).unwrap();
        let note = note.clone();
        let answer = answer.map(|body| boxed(body.on_end(move |it| note.send(it).unwrap())));
        async move { answer }
    })
    .await;
    sender.data("data: 1\n\ndata: 2\n\n");
    let mut answer = reqwest::get(format!("http://{address}/")).await.unwrap();
    let mut read = String::new();
    while !read.contains("payment-need-voucher") {
        read += std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap();
    }
    drop(answer);
    sender.until_dropped().await;
    let expected = Summary { end: End::Dropped, units: 1, pauses: 1, forged: 0 };
    assert_eq!(ends.recv().await, Some(expected));
    assert_eq!(purse.spent_units(), 1);
}
