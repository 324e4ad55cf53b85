//! Streams that are paid for as they come, over sockets: an upstream that is watched, and a client that pays,
//! stops paying, stops reading, or goes away. The journal says what it cost.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use farthing_core::{Act, Buyer, Invitation, PreparedSession, SessionPayer};
use farthing_money::Amount;
use farthing_protocols::mpp::MppBuyer;
use http::request::Parts;
use http_body::Frame;
use serde_json::{Value, json};

use crate::shop::{Shop, Upstream, serve};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A route with a meter, at 0.01 usd a unit.
pub(crate) fn route(name: &str, methods: &str, path: &str, meter: &str) -> String {
    format!(
        r#"
[[routes]]
name = "{name}"
methods = {methods}
path = "{path}"
upstream = "up"
price = "0.01 usd"
intents = ["session"]
meter = {{ {meter} }}
"#
    )
}

fn feed_route(more: &str) -> String {
    route("feed", "[\"GET\"]", "/feed", &format!("measure = \"events\"{more}"))
}

/// A body in pieces, which says how far it was read.
struct Script {
    pieces: VecDeque<Bytes>,
    /// Whether it never ends.
    hangs: bool,
    seen: Arc<Seen>,
}

/// What became of an upstream's answers.
#[derive(Default)]
struct Seen {
    asked: Mutex<Vec<(Parts, Bytes)>>,
    read: AtomicUsize,
    dropped: AtomicUsize,
}

impl Seen {
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.pieces.pop_front() {
            Some(piece) => {
                self.seen.read.fetch_add(1, Ordering::SeqCst);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            None if self.hangs => Poll::Pending,
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// An upstream that answers everything with the same.
async fn upstream(kind: &'static str, pieces: Vec<Bytes>, hangs: bool) -> (Upstream, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let state = Arc::clone(&seen);
    let router = axum::Router::new().fallback(move |request: Request| {
        let (seen, pieces) = (Arc::clone(&state), pieces.clone().into());
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            seen.asked.lock().unwrap().push((head, body));
            let script = Script { pieces, hangs, seen };
            let answer = Response::builder().header("content-type", kind);
            answer.body(axum::body::Body::new(script)).unwrap()
        }
    });
    (Upstream::at(serve(router).await), seen)
}

const EVENTS: &str = "text/event-stream";

fn event(at: usize) -> Bytes {
    format!("id: {at}\ndata: event {at}\n\n").into()
}

fn done() -> Bytes {
    "data: [DONE]\n\n".into()
}

/// A client with a session of its own.
pub(crate) struct Client<'a> {
    shop: &'a Shop,
    line: &'static str,
    invitation: Invitation,
    session: PreparedSession,
}

/// An answer that is read as it comes.
struct Reading {
    response: reqwest::Response,
    text: String,
}

impl<'a> Client<'a> {
    /// A client who deposits `atoms` with its first request.
    pub(crate) async fn new(shop: &'a Shop, line: &'static str, atoms: u128) -> Self {
        let asked = shop.send(line, &[], "").await;
        let invitation = asked.invitations().remove(0);
        let deposit = Amount::new("usd".parse().unwrap(), atoms);
        let session = shop.payer.prepare(&invitation, &deposit, [9; 32]).await.ok().unwrap();
        Self { shop, line, invitation, session }
    }

    pub(crate) async fn credential(&self, act: Act) -> String {
        let paid = self.shop.payer.act(&self.invitation, &self.session, act).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(&self.invitation, &paid).unwrap();
        value.to_str().unwrap().to_owned()
    }

    /// Opens the session and buys with the first voucher.
    async fn open(&self, cumulative: u128, body: &str) -> Reading {
        self.ask(Act::Open { cumulative }, body).await
    }

    async fn buy(&self, cumulative: u128) -> Reading {
        self.ask(Act::Voucher { cumulative }, "").await
    }

    async fn ask(&self, act: Act, body: &str) -> Reading {
        let (method, path) = self.line.split_once(' ').unwrap();
        let url = format!("http://{}{path}", self.shop.address);
        let request = self.shop.http.request(method.parse().unwrap(), url);
        let request = request.header("authorization", self.credential(act).await);
        let request = request.header("content-type", "application/json").body(body.to_owned());
        let response = request.header("accept-encoding", "gzip").send().await.unwrap();
        Reading { response, text: String::new() }
    }

    /// Authorises `cumulative` beside the stream: 204, and nothing is bought.
    async fn authorise(&self, method: &str, cumulative: u128) {
        let (_, path) = self.line.split_once(' ').unwrap();
        let credential = self.credential(Act::Voucher { cumulative }).await;
        let answer = self.shop.present(&format!("{method} {path}"), &credential, "").await;
        assert_eq!(answer.status, 204, "{}", answer.body);
        let receipt = MppBuyer.read_receipt(&answer.fields).unwrap();
        assert_eq!(receipt["acceptedCumulative"], cumulative.to_string());
    }
}

impl Reading {
    /// Reads until what came contains `part`.
    async fn until(&mut self, part: &str) -> &str {
        let reading = async {
            while !self.text.contains(part) {
                let Some(chunk) = self.response.chunk().await.unwrap() else { break };
                self.text.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        };
        let came = tokio::time::timeout(PATIENCE, reading).await;
        assert!(came.is_ok() && self.text.contains(part), "{part:?} is not in {}", self.text);
        &self.text
    }

    /// Reads to the end.
    async fn all(mut self) -> String {
        while let Some(chunk) = self.response.chunk().await.unwrap() {
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.text
    }
}

/// The events of a stream that are the upstream's, and the data of those about payments, by name.
fn apart(text: &str) -> (String, Vec<(String, Value)>) {
    let (mut own, mut payments) = (String::new(), Vec::new());
    for event in text.split_inclusive("\n\n") {
        match event.strip_prefix("event: payment-") {
            Some(rest) => {
                let (name, data) = rest.split_once("\ndata: ").unwrap();
                payments.push((name.to_owned(), serde_json::from_str(data.trim()).unwrap()));
            }
            None => own.push_str(event),
        }
    }
    (own, payments)
}

/// What the seller has earned, what was given back of it taken off.
pub(crate) fn earned(shop: &Shop) -> u128 {
    let account = "payable/seller/usd".parse().unwrap();
    let balance = shop.books().accounts.get(&account).copied().unwrap_or_default();
    balance.credits_posted - balance.debits_posted
}

/// Waits until the books say so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn session(shop: &Shop) -> Value {
    let (status, listed) = shop.operate("GET sessions", &json!({})).await;
    assert_eq!(status, 200, "{listed}");
    listed["sessions"].as_array().or(listed.as_array()).unwrap()[0].clone()
}

/// S-13, SES.S08, SES.S09: a stream pauses where its money ends, says what it needs, and goes on with the
/// very next event when a voucher comes, by `HEAD` or by `POST`; what is forged in it is escaped, the upstream
/// is asked once, and the session is charged for each event to the atom.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_with_each_voucher() {
    let forged = "event: payment-need-voucher\ndata: {\"requiredCumulative\":\"999\"}\n\n";
    let mut pieces: Vec<Bytes> = (1..=5).map(event).collect();
    pieces.insert(2, forged.into());
    pieces.push(done());
    let sent = String::from_utf8(pieces.concat()).unwrap();
    let (up, seen) = upstream(EVENTS, pieces, false).await;
    let shop = Shop::open_before(up, "", &feed_route("")).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let mut stream = client.open(1, "").await;
    assert_eq!(stream.response.status(), 200);
    assert!(stream.response.headers().contains_key("payment-receipt"));
    let text = stream.until("payment-need-voucher").await;
    let (own, payments) = apart(text);
    assert_eq!(own, String::from_utf8(event(1).to_vec()).unwrap(), "one unit, one event");
    let need = json!({
        "acceptedCumulative": "1",
        "channelId": client.session.channel,
        "deposit": "20",
        "requiredCumulative": "2",
    });
    assert_eq!(payments, [("need-voucher".to_owned(), need)]);
    client.authorise("HEAD", 3).await;
    stream.until("\"requiredCumulative\":\"4\"").await;
    client.authorise("POST", 4).await;
    stream.until("\"requiredCumulative\":\"5\"").await;
    client.authorise("HEAD", 12).await;
    let text = stream.all().await;
    let (own, payments) = apart(&text);
    assert_eq!(own, sent.replace("event: payment-", "event: upstream-payment-"));
    let names: Vec<_> = payments.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["need-voucher", "need-voucher", "need-voucher", "receipt"]);
    let receipt = &payments[3].1;
    assert_eq!((&receipt["spent"], &receipt["units"]), (&json!("6"), &json!(6)), "{receipt}");
    assert_eq!((&receipt["amount"], &receipt["status"]), (&json!("6"), &json!("success")));
    assert_eq!(seen.asked(), 1);
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 6);
    let closed = client.credential(Act::Close { cumulative: 12 }).await;
    let closed = shop.present("POST /feed", &closed, "").await;
    assert_eq!(closed.status, 204, "{}", closed.body);
    assert_eq!(MppBuyer.read_receipt(&closed.fields).unwrap()["refunded"], "14");
    let metrics = shop.admin("/metrics").await.body;
    for line in [
        "farthing_streams_ended_total{route=\"feed\",end=\"complete\"} 1",
        "farthing_streams_units_total{route=\"feed\"} 6",
        "farthing_streams_pauses_total{route=\"feed\"} 3",
        "farthing_streams_forged_total{route=\"feed\"} 1",
        "farthing_streams_open{route=\"feed\"} 0",
        "farthing_streams_paused{route=\"feed\"} 0",
        "farthing_paid_atoms_total{asset=\"usd\",method=\"prepaid\"} 6",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

/// S-13: a client that pays no more gets what it paid for, and the stream ends. The same voucher does not buy
/// it again, and the next one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_paying_gets_what_it_paid_for() {
    let (up, seen) = upstream(EVENTS, (1..=9).map(event).collect(), false).await;
    let shop = Shop::open_before(up, "", &feed_route(", wait_s = 1")).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let text = client.open(2, "").await.all().await;
    let (own, payments) = apart(&text);
    let paid = [event(1), event(2), ": ended, as no voucher came in time\n\n".into()].concat();
    assert_eq!(own.as_bytes(), paid);
    assert_eq!(payments[0].1["requiredCumulative"], "3");
    assert_eq!(payments[1].1["spent"], "2");
    until("delivered", || shop.books().delivered == 1).await;
    let again = client.buy(2).await;
    assert_eq!(again.response.status(), 409, "it was answered as far as it was paid for");
    assert_eq!((seen.asked(), earned(&shop)), (1, 2));
    let text = client.buy(4).await.all().await;
    assert!(text.contains("event 1\n") && text.contains("event 2\n"), "the control: {text}");
    assert_eq!((seen.asked(), earned(&shop)), (2, 4));
}

/// S-13: a client that goes away stops the upstream, and is charged for what was given to its connection;
/// what was taken beyond goes back to its session.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_charged_for_what_it_got() {
    let (up, seen) = upstream(EVENTS, (1..=3).map(event).collect(), true).await;
    let shop = Shop::open_before(up, "", &feed_route(", reserve_units = 10")).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let mut stream = client.open(10, "").await;
    stream.until("event 3").await;
    assert_eq!(earned(&shop), 10, "the reserve is taken before the first byte");
    drop(stream);
    until("given back", || earned(&shop) == 3).await;
    until("delivered", || shop.books().delivered == 1).await;
    until("the upstream is let go", || seen.dropped.load(Ordering::SeqCst) == 1).await;
    let session = session(&shop).await;
    assert!(
        session.to_string().contains("\"17\"") || session.to_string().contains("0.17"),
        "{session}"
    );
}

/// S-13: a client that reads no more stops the upstream, with money enough for all of it; when it reads on,
/// it gets every byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_stops_the_upstream() {
    const PIECES: usize = 1_024;
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let (up, seen) = upstream("application/octet-stream", vec![piece; PIECES], false).await;
    let meter = "measure = \"bytes\", every = 1048576";
    let shop = Shop::open_before(up, "", &route("feed", "[\"GET\"]", "/feed", meter)).await;
    let client = Client::new(&shop, "GET /feed", 100).await;
    let mut stream = client.open(100, "").await;
    // Not a moment is waited for, but that nothing is read in one.
    let mut before = (usize::MAX, tokio::time::Instant::now());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while before.1.elapsed() < Duration::from_millis(500) {
        let read = seen.read.load(Ordering::SeqCst);
        if read != before.0 {
            before = (read, tokio::time::Instant::now());
        }
        assert!(tokio::time::Instant::now() < deadline, "the upstream goes on and on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(before.0 < PIECES / 2, "{} of {PIECES} pieces were read", before.0);
    assert!(earned(&shop) < 50, "nothing is charged ahead");
    let mut length = 0;
    while let Some(chunk) = stream.response.chunk().await.unwrap() {
        length += chunk.len();
    }
    assert_eq!(length, PIECES * (64 << 10));
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 64);
}

/// An answer of a chat model is charged for what it reports: the request is made to ask for it, nothing is
/// compressed, and what was estimated too high goes back.
#[tokio::test(flavor = "multi_thread")]
async fn chat_completions_are_charged_by_what_they_report() {
    let chunk = |text: &str| -> Bytes {
        let chunk =
            json!({ "choices": [{ "index": 0, "delta": { "content": text } }], "usage": null });
        format!("data: {chunk}\n\n").into()
    };
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 31, "completion_tokens": 9 } });
    let pieces = vec![chunk("Hello "), chunk("world"), format!("data: {usage}\n\n").into(), done()];
    let (up, seen) = upstream(EVENTS, pieces, false).await;
    let meter = "measure = \"tokens\", every = 10, output = 5";
    let path = "/v1/chat/completions";
    let shop = Shop::open_before(up, "", &route("chat", "[\"POST\"]", path, meter)).await;
    let client = Client::new(&shop, "POST /v1/chat/completions", 50).await;
    let asked = json!({ "model": "m", "stream": true, "messages": [] }).to_string();
    let text = client.open(20, &asked).await.all().await;
    let (_, payments) = apart(&text);
    // 31 tokens read and 9 written at five each are 76, which is 8 units of ten.
    assert_eq!(payments.last().unwrap().1["spent"], "8", "{text}");
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 8);
    let (head, body) = seen.asked.lock().unwrap()[0].clone();
    assert!(!head.headers.contains_key("accept-encoding"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["stream_options"]["include_usage"], true);
    assert_eq!(head.headers["content-length"], body.to_string().len().to_string().as_str());
}

/// So is a message of the other family, whose count is cumulative; what it lacks when the report comes is
/// due before the report is given.
#[tokio::test(flavor = "multi_thread")]
async fn messages_are_charged_by_what_they_report() {
    let event = |value: Value| -> Bytes {
        format!("event: {}\ndata: {value}\n\n", value["type"].as_str().unwrap()).into()
    };
    let usage = json!({ "input_tokens": 25, "output_tokens": 1 });
    let delta = json!({ "type": "text_delta", "text": "Hi" });
    let pieces = vec![
        event(json!({ "type": "message_start", "message": { "usage": usage } })),
        event(json!({ "type": "content_block_delta", "index": 0, "delta": delta })),
        event(json!({ "type": "message_delta", "delta": {}, "usage": { "output_tokens": 15 } })),
        event(json!({ "type": "message_stop" })),
    ];
    let (up, _) = upstream(EVENTS, pieces, false).await;
    let meter = "measure = \"tokens\", every = 10";
    let shop = Shop::open_before(up, "", &route("chat", "[\"POST\"]", "/v1/messages", meter)).await;
    let client = Client::new(&shop, "POST /v1/messages", 50).await;
    let mut stream = client.open(3, "{\"stream\":true}").await;
    let text = stream.until("payment-need-voucher").await;
    assert!(text.contains("text_delta") && !text.contains("message_delta"), "{text}");
    client.authorise("HEAD", 20).await;
    let (own, payments) = apart(&stream.all().await);
    assert!(own.contains("message_stop"));
    assert_eq!(payments.last().unwrap().1["spent"], "4", "25 and 15 tokens");
    assert_eq!(earned(&shop), 4);
}

/// What fails at the upstream is not metered, and what cannot be metered is not given: the answer is owed to
/// the same voucher.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_metered_is_not_given() {
    let (up, seen) = upstream("text/plain", vec!["a secret".into()], false).await;
    let shop = Shop::open_before(up, "", &feed_route("")).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let answer = client.open(1, "").await;
    assert_eq!(answer.response.status(), 502);
    let text = answer.all().await;
    assert!(text.contains("send the same credential again") && !text.contains("secret"), "{text}");
    assert_eq!((seen.asked(), earned(&shop), shop.books().delivered), (1, 1, 0));
    assert_eq!(client.buy(1).await.response.status(), 502, "owed to the same voucher");
    assert_eq!((seen.asked(), earned(&shop)), (2, 1));
}

/// No more streams wait than the seller allows: one more ends at once, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_streams_wait() {
    let (up, _) = upstream(EVENTS, (1..=9).map(event).collect(), false).await;
    let routes = format!("[streams]\npaused_max = 1\n{}", feed_route(""));
    let shop = Shop::open_before(up, "", &routes).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let mut first = client.open(1, "").await;
    first.until("payment-need-voucher").await;
    let text = client.buy(2).await.all().await;
    assert!(text.contains("event 1\n") && text.contains(": ended"), "{text}");
    // The one that waits goes on, and makes room.
    client.authorise("HEAD", 12).await;
    assert!(first.all().await.contains("event 9"));
    until("delivered", || shop.books().delivered == 2).await;
    assert_eq!(earned(&shop), 10);
}

/// A session that is closed in the middle ends the stream; what was taken and not used goes to the payer's
/// account.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session() {
    let (up, _) = upstream(EVENTS, (1..=3).map(event).collect(), true).await;
    let shop = Shop::open_before(up, "", &feed_route(", reserve_units = 8")).await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let mut stream = client.open(8, "").await;
    stream.until("event 3").await;
    let channel = format!("prepaid:{}", client.session.channel);
    let (status, _) = shop.operate("POST sessions/close", &json!({ "channel": channel })).await;
    assert_eq!(status, 200);
    drop(stream);
    until("given back", || earned(&shop) == 3).await;
    until("delivered", || shop.books().delivered == 1).await;
    let account = "prepaid/agent/usd".parse().unwrap();
    let balance = shop.books().accounts[&account];
    assert_eq!(balance.credits_posted - balance.debits_posted, 997);
}

/// SES.S09: an answer that is no stream of events ends with its receipt too, in a trailer, for a client that
/// takes one.
#[tokio::test(flavor = "multi_thread")]
async fn other_answers_end_with_a_trailer() {
    let (up, _) = upstream("text/plain", vec!["one\ntwo\n\nthree".into()], false).await;
    let shop =
        Shop::open_before(up, "", &route("feed", "[\"GET\"]", "/feed", "measure = \"lines\""))
            .await;
    let client = Client::new(&shop, "GET /feed", 20).await;
    let credential = client.credential(Act::Open { cumulative: 5 }).await;
    let answer = shop
        .raw(&format!(
            "GET /feed HTTP/1.1\r\nhost: shop.example\r\nte: trailers\r\nconnection: close, te\r\n\
             authorization: {credential}\r\n\r\n"
        ))
        .await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("trailer: payment-receipt"), "{head}");
    let (_, trailer) = body.split_once("\r\n0\r\npayment-receipt: ").unwrap();
    let receipt = farthing_mpp::Receipt::parse(trailer.trim()).unwrap();
    let receipt = serde_json::to_value(&receipt).unwrap();
    assert_eq!((&receipt["spent"], &receipt["units"]), (&json!("3"), &json!(3)), "{receipt}");
    until("delivered", || shop.books().delivered == 1).await;
    assert_eq!(earned(&shop), 3);
}
