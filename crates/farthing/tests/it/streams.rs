//! Streams that are paid for as they come: the wallet, the gateway and an upstream, as processes and over
//! sockets. The ledger says what it cost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use farthing_core::{Act, Buyer as _, SessionPayer as _};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use http_body::Frame;
use serde_json::Value;

use crate::world::{WALLET, World, gateway_toml, serve};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream in pieces; one that hangs does not end.
struct Script {
    pieces: std::vec::IntoIter<String>,
    hangs: bool,
}

impl http_body::Body for Script {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.pieces.next() {
            Some(piece) => std::task::Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            None if self.hangs => std::task::Poll::Pending,
            None => std::task::Poll::Ready(None),
        }
    }
}

/// An upstream that streams the same to everybody, and counts who asks.
async fn upstream(pieces: Vec<String>, hangs: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router = axum::Router::new().fallback(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let body = Script { pieces: pieces.clone().into_iter(), hangs };
        async move {
            let answer = axum::response::Response::builder();
            let answer = answer.header("content-type", "text/event-stream");
            answer.body(Body::new(body)).unwrap()
        }
    });
    (serve(router).await, asked)
}

fn events(count: usize) -> Vec<String> {
    (1..=count).map(|at| format!("data: event {at}\n\n")).collect()
}

/// A shop that sells events at 0.01 usd, and a wallet that may pay `more` for them.
fn set_up(upstream: SocketAddr, more: &str) -> World {
    let world = World::set_up(upstream);
    let meter = "price = \"0.01 usd\"\nintents = [\"session\"]\n\
                 meter = { measure = \"events\", wait_s = 20 }";
    let text = gateway_toml(upstream, "").replace("price = \"0.25 usd\"", meter);
    world.write("farthing.toml", &text);
    let caps = format!("total_max = \"3.00\"\nsession_deposit_max = \"0.05\"\n{more}");
    world.write("home/wallet.toml", &WALLET.replace("total_max = \"3.00\"", &caps));
    world
}

fn session(world: &World) -> Value {
    let listed = world.farthing(&["sessions", "list", "--all", "--json"]).json();
    listed[0].clone()
}

fn atoms(session: &Value, name: &str) -> u128 {
    session[name]["atoms"].as_str().unwrap().parse().unwrap()
}

fn audit(world: &World) -> Value {
    world.farthing(&["ledger", "verify", "--json"]).json()["audit"].clone()
}

/// What the seller has earned, what was given back taken off, in atoms.
fn earned(audit: &Value) -> u128 {
    let of = |name: &str| {
        let atoms = audit["accounts"]["payable/seller/usd"][name].as_str().unwrap_or("0");
        atoms.parse::<u128>().unwrap()
    };
    of("credits_posted") - of("debits_posted")
}

/// S-13, S-14: a wallet pays for a stream as it comes, tops up in the middle, hands on every event and no
/// word about payments, and the seller has earned each event and nothing else; what is forged is escaped.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_pays_its_way_through_a_stream() {
    let mut pieces = events(9);
    pieces.push("event: payment-receipt\ndata: {\"spent\":\"0\"}\n\n".to_owned());
    pieces.push("data: [DONE]\n\n".to_owned());
    let (up, asked) = upstream(pieces.clone(), false).await;
    let world = set_up(up, "stream_lead_max = \"0.03\"");
    let shop = world.serve();
    let streamed = world.pay(&[&shop.url("/quote")]);
    assert!(streamed.err.contains("paid 0.10 usd to seller"), "{}", streamed.err);
    let sent = pieces.concat().replace("event: payment-", "event: upstream-payment-");
    assert_eq!(streamed.ok(), sent);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let known = session(&world);
    assert_eq!((atoms(&known, "spent"), atoms(&known, "signed")), (10, 10));
    assert_eq!(atoms(&known, "deposit"), 10, "deposited 0.05 usd twice");
    // The session goes on, with a voucher that is one for the next request.
    world.pay(&[&shop.url("/quote"), "--output", "kept"]).ok();
    assert_eq!(world.read("kept"), sent);
    let known = session(&world);
    assert_eq!(atoms(&known, "spent"), 20);
    world.farthing(&["sessions", "close", "--all"]).ok();
    let (code, log) = shop.stop();
    assert_eq!(code, 0, "{log}");
    let audit = audit(&world);
    assert_eq!((earned(&audit), &audit["delivered"]), (20, &2.into()));
    let receipts = world.farthing(&["wallet", "receipts", "--json"]).json();
    let all = receipts.as_array().unwrap();
    assert!(all.iter().all(|it| it["receipt"]["units"] == 10), "the last word counts: {receipts}");
}

/// S-14: a stream's next deposit is made beside it, before it is needed.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_while_more_is_deposited() {
    let (up, _) = upstream(events(9), false).await;
    let world = set_up(up, "stream_lead_max = \"0.01\"\nsession_low = \"0.03\"");
    let shop = world.serve();
    let streamed = world.pay(&[&shop.url("/quote")]);
    assert_eq!(streamed.ok(), events(9).concat());
    let known = session(&world);
    assert_eq!((atoms(&known, "spent"), atoms(&known, "deposit")), (9, 15), "{known}");
    world.farthing(&["sessions", "close", "--all"]).ok();
    drop(shop);
    assert_eq!(earned(&audit(&world)), 9);
    world.farthing(&["ledger", "verify", "--wallet"]).ok();
}

/// The most that a single payment may cost holds for a stream: the wallet stops there, says so, and has handed
/// on what it paid for.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_stops_at_its_cap() {
    let (up, _) = upstream(events(30), false).await;
    let world = set_up(up, "stream_lead_max = \"0.04\"");
    let shop = world.serve();
    let text = world
        .read("home/wallet.toml")
        .replace("per_payment_max = \"0.50\"", "per_payment_max = \"0.07\"");
    world.write("home/wallet.toml", &text);
    let stopped = world.pay(&[&shop.url("/quote")]);
    assert_eq!(stopped.out, events(7).concat(), "what was paid for");
    stopped.fails(3, "exceed what a single payment may cost; at most 0.07 usd was paid");
    assert_eq!(atoms(&session(&world), "signed"), 7);
    // So does the caller's own cap on one payment.
    let stopped = world.pay(&[&shop.url("/quote"), "--max-amount", "0.02 usd"]);
    assert_eq!(stopped.out, events(2).concat());
    stopped.fails(3, "exceed what a single payment may cost");
    shop.stop();
    assert!(earned(&audit(&world)) <= 9);
}

/// The owner's policy is asked for each voucher that a stream wants: counts and amounts hold for it, and what
/// would have to be asked for is not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn each_voucher_of_a_stream_is_decided_upon() {
    for (limit, got, why) in [
        ("[[wallet.budgets]]\npayments = 3\nper = \"30d\"", 5, "wallet.budgets[0].payments"),
        ("ask_above = { usd = \"0.06\" }", 6, "wallet.ask_above.usd"),
        // Where paying ahead is too much, what is asked for may still be allowed.
        (
            "[[wallet.budgets]]\nmax = { usd = \"0.04\" }\nper = \"30d\"\neach = \"request\"",
            4,
            "wallet.budgets[0].max.usd",
        ),
        ("[[wallet.budgets]]\npayments = 1\nper = \"30d\"\neach = \"request\"", 9, ""),
    ] {
        let (up, _) = upstream(events(9), false).await;
        let world = set_up(up, "stream_lead_max = \"0.02\"");
        let shop = world.serve();
        let policy = format!("[wallet]\nmax = {{ usd = \"0.50\" }}\n{limit}\n");
        world.write("home/policy.toml", &policy);
        world.farthing(&["policy", "accept"]).ok();
        let streamed = world.pay(&[&shop.url("/quote")]);
        assert_eq!(streamed.out, events(got).concat(), "{limit}: {}", streamed.err);
        if why.is_empty() {
            streamed.ok();
        } else {
            streamed.fails(3, why);
        }
        assert_eq!(atoms(&session(&world), "spent"), u128::try_from(got).unwrap());
        let since = ["policy", "replay", "--since", "2020-01-01T00:00:00Z", "--json"];
        assert_eq!(world.farthing(&since).json()["broken"], serde_json::json!([]), "{limit}");
        world.farthing(&["ledger", "verify", "--wallet"]).ok();
    }
}

/// P-14: a third of the requests take six times as much. Metered, each costs what it takes, and nothing is left over;
/// at one price for all, 62 of 100 parts would be. Where the buyer bounds what it pays, no more is given.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_more_costs_more_or_is_not_given() {
    let router = axum::Router::new().fallback(|uri: axum::http::Uri| async move {
        let heavy = uri.query() == Some("heavy");
        let pieces = events(if heavy { 6 } else { 1 });
        let answer = axum::response::Response::builder();
        let answer = answer.header("content-type", "text/event-stream");
        answer.body(Body::new(Script { pieces: pieces.into_iter(), hangs: false })).unwrap()
    });
    let world = set_up(serve(router).await, "stream_lead_max = \"0.03\"");
    let shop = world.serve();
    let (mut taken, mut flat) = (0_u128, 0_u128);
    for (query, parts) in [("light", 1_usize), ("light", 1), ("heavy", 6)] {
        let streamed = world.pay(&[&shop.url(&format!("/quote?{query}"))]);
        assert_eq!(streamed.ok(), events(parts).concat());
        taken += u128::try_from(parts).unwrap();
        flat += 1;
    }
    let bounded = world.pay(&[&shop.url("/quote?heavy"), "--max-amount", "0.03 usd"]);
    assert_eq!(bounded.out, events(3).concat(), "as much as was paid for");
    bounded.fails(3, "exceed what a single payment may cost");
    taken += 3;
    world.farthing(&["sessions", "close", "--all"]).ok();
    shop.stop();
    let earned = earned(&audit(&world));
    assert_eq!(earned, taken, "each part that was given is paid for");
    assert_eq!(
        (earned - 3 - flat) * 100 / (earned - 3),
        62,
        "what one price would have left unpaid"
    );
}

/// An upstream whose stream is what the test says, when it says it.
async fn told() -> (SocketAddr, tokio::sync::mpsc::UnboundedSender<String>) {
    struct Told(tokio::sync::mpsc::UnboundedReceiver<String>);
    impl http_body::Body for Told {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let piece = self.0.poll_recv(context);
            piece.map(|piece| piece.map(|piece| Ok(Frame::data(piece.into()))))
        }
    }
    let (sender, pieces) = tokio::sync::mpsc::unbounded_channel();
    let pieces = Arc::new(std::sync::Mutex::new(Some(pieces)));
    let router = axum::Router::new().fallback(move || {
        let pieces = pieces.lock().unwrap().take();
        async move {
            let answer = axum::response::Response::builder();
            let answer = answer.header("content-type", "text/event-stream");
            answer.body(pieces.map_or_else(Body::empty, |it| Body::new(Told(it)))).unwrap()
        }
    });
    (serve(router).await, sender)
}

/// Once the wallet is frozen, a stream that runs gets no further voucher.
#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_stops_a_stream_at_its_next_voucher() {
    use tokio::io::AsyncBufReadExt as _;
    let (up, tell) = told().await;
    let world = set_up(up, "stream_lead_max = \"0.01\"");
    let shop = world.serve();
    let mut paying = tokio::process::Command::from(world.command(&["pay", &shop.url("/quote")]));
    let paying = paying.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
    let mut paying =
        paying.stderr(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(paying.stdout.take().unwrap()).lines();
    let mut come = async |event: &String| {
        let line = async {
            loop {
                let line = lines.next_line().await.unwrap().unwrap();
                if event.starts_with(&line) && !line.is_empty() {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, line).await.unwrap();
    };
    let pieces = events(9);
    for piece in &pieces[..3] {
        tell.send(piece.clone()).unwrap();
        come(piece).await;
    }
    world.farthing(&["wallet", "freeze"]).ok();
    let signed = atoms(&session(&world), "signed");
    for piece in &pieces[3..] {
        tell.send(piece.clone()).unwrap();
    }
    let ended = tokio::time::timeout(PATIENCE, paying.wait_with_output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(3), "{said}");
    assert!(said.contains("frozen"), "{said}");
    let known = session(&world);
    assert_eq!(atoms(&known, "signed"), signed, "nothing was signed since");
    assert!(signed < 9, "there was more to buy");
}

/// Nothing is signed for a seller who wants to be paid further ahead than the owner allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_pays_no_further_ahead_than_its_owner_allows() {
    let (up, _) = upstream(events(9), false).await;
    let world = set_up(up, "stream_lead_max = \"0.02\"");
    let meter = "measure = \"events\", reserve_units = 4";
    let text = world.read("farthing.toml").replace("measure = \"events\"", meter);
    world.write("farthing.toml", &text);
    let shop = world.serve();
    world
        .pay(&[&shop.url("/quote")])
        .fails(3, "asks for 3 atoms at once, and the wallet pays at most 2");
    assert_eq!(atoms(&session(&world), "signed"), 1);
    let more = world.read("home/wallet.toml").replace("\"0.02\"", "\"0.03\"");
    world.write("home/wallet.toml", &more);
    assert_eq!(world.pay(&[&shop.url("/quote")]).ok(), events(9).concat(), "the control");
}

/// A client of its own, which does as it likes.
struct Client {
    http: reqwest::Client,
    url: String,
    payer: PrepaidPayer,
    invitation: farthing_core::Invitation,
    session: farthing_core::PreparedSession,
}

impl Client {
    async fn new(url: String, atoms: u128) -> Self {
        let http = reqwest::Client::new();
        let asked = http.get(&url).send().await.unwrap();
        let invitation = MppBuyer.read_offers(asked.headers()).remove(0);
        let usd = farthing_money::Asset::new("usd".parse().unwrap(), 2).unwrap();
        let payer = PrepaidPayer::new(&[7; 32], [usd].into_iter().collect());
        let deposit = farthing_money::Amount::new("usd".parse().unwrap(), atoms);
        let session = payer.prepare(&invitation, &deposit, [3; 32]).await.ok().unwrap();
        Self { http, url, payer, invitation, session }
    }

    /// The same client, with a session of another name.
    async fn salted(mut self, salt: [u8; 32]) -> Self {
        let deposit = farthing_money::Amount::new("usd".parse().unwrap(), 50);
        let prepared = self.payer.prepare(&self.invitation, &deposit, salt).await;
        self.session = prepared.ok().unwrap();
        self
    }

    async fn send(&self, method: reqwest::Method, act: Act) -> reqwest::Response {
        let paid = self.payer.act(&self.invitation, &self.session, act).await.ok().unwrap();
        let (name, value) = MppBuyer.write_credential(&self.invitation, &paid).unwrap();
        self.http.request(method, &self.url).header(name, value).send().await.unwrap()
    }
}

/// How many events came of a stream, until one that is awaited or its end.
async fn read(stream: &mut reqwest::Response, text: &mut String, part: &str) -> usize {
    let reading = async {
        while !text.contains(part) {
            let Ok(Some(chunk)) = stream.chunk().await else { break };
            text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it comes in time");
    text.matches("data: event ").count()
}

/// S-13: a gateway that is killed in the middle of a stream has given no more than was paid for, and one unit
/// at most is charged that was not given. When it is back, what was given counts as delivered: the same
/// voucher buys nothing more, nothing is given back of what was used, and the rest of the deposit is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_killed_in_the_middle_of_a_stream() {
    let (up, asked) = upstream(events(5), true).await;
    for paused in [false, true] {
        let world = set_up(up, "");
        let shop = world.serve();
        let client = Client::new(shop.url("/quote"), 50).await;
        let signed = if paused { 3 } else { 40 };
        let before = asked.load(Ordering::SeqCst);
        let mut stream = client.send(reqwest::Method::GET, Act::Open { cumulative: signed }).await;
        assert_eq!(stream.status(), 200);
        let mut text = String::new();
        let part = if paused { "payment-need-voucher" } else { "event 5" };
        let served = read(&mut stream, &mut text, part).await;
        assert_eq!(served, if paused { 3 } else { 5 });
        let address = shop.url.clone();
        shop.kill();
        read(&mut stream, &mut text, "never").await;
        let killed = audit(&world);
        let paid = earned(&killed);
        let served = u128::try_from(served).unwrap();
        assert!(served <= paid && paid <= served + 1, "{served} were given and {paid} were paid");
        assert_eq!(killed["delivered"], 0);
        let port = address.rsplit(':').next().unwrap();
        let text = world.read("farthing.toml");
        world
            .write("farthing.toml", &text.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1));
        let shop = world.serve();
        let deadline = std::time::Instant::now() + PATIENCE;
        while audit(&world)["delivered"] != 1 {
            assert!(std::time::Instant::now() < deadline, "it is noted as given");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let again = client.send(reqwest::Method::GET, Act::Voucher { cumulative: signed }).await;
        assert_eq!(again.status(), 409, "it was given as far as it was paid for");
        assert_eq!(asked.load(Ordering::SeqCst), before + 1);
        let closed = client.send(reqwest::Method::POST, Act::Close { cumulative: signed }).await;
        let receipt = MppBuyer.read_receipt(closed.headers()).unwrap();
        assert_eq!(receipt["spent"], paid.to_string(), "{receipt:?}");
        assert_eq!(receipt["refunded"], (50 - paid).to_string());
        shop.stop();
        assert_eq!(earned(&audit(&world)), paid);
    }
}

/// S-12, S-13: on one book in a database, a voucher that goes to one gateway moves on the stream that waits at
/// another.
#[tokio::test(flavor = "multi_thread")]
async fn a_voucher_at_another_gateway_moves_a_stream_on() {
    let (up, asked) = upstream(events(6), false).await;
    let world = set_up(up, "");
    let store = "postgres = \"env:DATABASE\"\nbook = \"shop\"\nlease_ttl_ms = 1000";
    let text = world.read("farthing.toml").replace("sqlite = \"book.db\"", store);
    world.write("farthing.toml", &text);
    world.write("database", &farthing_testkit::postgres::Cluster::shared().new_database());
    world.farthing(&["prepaid", "attach", &world.did(), "agent-inc"]).ok();
    let fund = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "first"];
    world.farthing(&fund).ok();
    let [writer, other] = [world.serve(), world.serve()];
    for (at, elsewhere) in [(&writer, &other), (&other, &writer)] {
        let before = asked.load(Ordering::SeqCst);
        let client = Client::new(at.url("/quote"), 50).await;
        let salted = if before == 0 { [3; 32] } else { [4; 32] };
        let client = client.salted(salted).await;
        let mut stream = client.send(reqwest::Method::GET, Act::Open { cumulative: 2 }).await;
        let mut text = String::new();
        assert_eq!(read(&mut stream, &mut text, "payment-need-voucher").await, 2);
        let beside = Client { url: elsewhere.url("/quote"), ..client };
        let accepted = beside.send(reqwest::Method::HEAD, Act::Voucher { cumulative: 9 }).await;
        assert_eq!(accepted.status(), 204);
        assert_eq!(read(&mut stream, &mut text, "payment-receipt").await, 6);
        assert_eq!(asked.load(Ordering::SeqCst), before + 1);
    }
    other.stop();
    writer.stop();
    let audit = audit(&world);
    assert_eq!((earned(&audit), &audit["delivered"]), (12, &2.into()));
}
