//! A wallet and a seller on a chain, and answers that never come.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use farthing_gate::{Clock, SystemClock};
use farthing_ledger::audit;
use farthing_money::Timestamp;
use farthing_rail_tempo::Nodes;
use farthing_testkit::chain::{DEVELOPMENT_ACCOUNTS, PATH_USD, TEMPO_CHAIN_ID, TempoChain};
use farthing_wallet::{Books, Outcome, PayFailure, PayOptions, PayRequest, Wallet};
use serde_json::json;

use crate::tempo::{Kind, Shop, wallet};

/// The system's clock, set forward at will.
#[derive(Default)]
struct ShiftedClock(AtomicU64);

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now().after(Duration::from_secs(self.0.load(Ordering::Relaxed)))
    }
}

/// What becomes of a credential on its way to the seller.
#[derive(Clone, Copy, PartialEq)]
enum Road {
    /// It arrives, and so does the answer.
    Open,
    /// It never arrives.
    Closed,
    /// It arrives, and the answer is lost.
    OneWay,
}

/// A road to a seller.
async fn road(seller: String) -> (String, Arc<Mutex<Road>>) {
    let road = Arc::new(Mutex::new(Road::Open));
    let state = (seller, Arc::clone(&road));
    let router = Router::new().fallback(pass).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, road)
}

async fn pass(
    State((seller, road)): State<(String, Arc<Mutex<Road>>)>,
    request: Request,
) -> Response {
    let credential = request.headers().get("authorization").cloned();
    let road = if credential.is_some() { *road.lock().unwrap() } else { Road::Open };
    if road == Road::Closed {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let mut passed = reqwest::Client::new().get(format!("{seller}{}", request.uri().path()));
    if let Some(credential) = credential {
        passed = passed.header("authorization", credential);
    }
    let answer = passed.send().await.unwrap();
    if road == Road::OneWay {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    (answer.status(), answer.headers().clone(), answer.bytes().await.unwrap()).into_response()
}

struct Story {
    chain: TempoChain,
    shop: Shop,
    road: Arc<Mutex<Road>>,
    url: String,
    clock: Arc<ShiftedClock>,
    wallet: Wallet,
    folder: tempfile::TempDir,
}

impl Story {
    async fn begin(kind: Kind) -> Option<Self> {
        let chain = TempoChain::start(None).await?;
        let shop = Shop::open(&chain, kind).await;
        let (url, road) = road(shop.url()).await;
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::<ShiftedClock>::default();
        let mut wallet = wallet(folder.path(), &chain, 2);
        wallet.pause = Duration::from_millis(1);
        wallet.books = Books::new(&folder.path().join("wallet.db"), clock.clone());
        wallet.clock = clock.clone();
        Some(Self { chain, shop, road, url, clock, wallet, folder })
    }

    async fn pay(&self, pay_again: bool) -> Result<Outcome, PayFailure> {
        let request = PayRequest {
            method: reqwest::Method::GET,
            url: format!("{}/forecast", self.url).parse().unwrap(),
            fields: HeaderMap::new(),
            body: bytes::Bytes::new(),
        };
        let options = PayOptions { pay_again, ..PayOptions::default() };
        self.wallet.pay(&request, &options).await
    }

    fn turn(&self, road: Road) {
        *self.road.lock().unwrap() = road;
    }

    /// Lets time pass: on the chain what a transaction is valid for, for the wallet what a challenge is.
    async fn wait(&self) {
        for (method, params) in [("evm_increaseTime", json!([60])), ("evm_mine", json!([]))] {
            let call = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
            let sent = reqwest::Client::new().post(&self.chain.url);
            let sent = sent.header("content-type", "application/json").body(call.to_string());
            sent.send().await.unwrap();
        }
        self.clock.0.store(301, Ordering::Relaxed);
    }

    fn return_to_the_present(&self) {
        self.clock.0.store(0, Ordering::Relaxed);
    }

    /// What the seller holds, in atoms.
    async fn sellers(&self) -> u128 {
        let url = self.chain.url.parse().unwrap();
        let nodes = Nodes::new(TEMPO_CHAIN_ID, vec![url], Duration::from_secs(10)).unwrap();
        let seller = DEVELOPMENT_ACCOUNTS[1].parse().unwrap();
        nodes.balance(PATH_USD.parse().unwrap(), seller).await.unwrap()
    }

    /// What the wallet's book says was spent, and what it holds still.
    fn books(&self) -> (u128, u128) {
        let book = self.folder.path().join("wallet.db");
        let journal = farthing_store_sqlite::Reader::open(&book).unwrap().journal().unwrap();
        let sound = audit(&journal).unwrap();
        let purse = sound.accounts[&"purse/wallet/usd".parse().unwrap()];
        (purse.credits_posted, purse.credits_pending)
    }
}

/// what never moved and never will is not paid for: the hold is released, and the same request is
/// paid for anew, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_finds_out_that_nothing_moved() {
    let Some(story) = Story::begin(Kind::Charge).await else { return };
    let before = story.sellers().await;
    story.turn(Road::Closed);
    assert!(matches!(story.pay(false).await, Err(PayFailure::Unknown { .. })));
    assert_eq!(story.books(), (0, 10_000), "held until its end is known");
    story.wait().await;
    // What the seller offers has expired for a clock so far ahead; but by then the wallet has asked.
    assert!(matches!(story.pay(false).await, Err(PayFailure::Objections(_))));
    assert_eq!((story.books(), story.sellers().await), ((0, 0), before));
    story.return_to_the_present();
    story.turn(Road::Open);
    let paid = story.pay(false).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(paid.status, StatusCode::OK);
    assert_eq!((story.books(), story.sellers().await), ((10_000, 0), before + 10_000));
    assert_eq!(story.shop.close().await, 10_000);
}

/// F-08: what was taken and never answered is not paid for again unawares, however often the command is
/// run, and stands in the book as spent.
#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_finds_out_that_it_was_taken() {
    for kind in [Kind::Charge, Kind::Sponsored] {
        let Some(story) = Story::begin(kind).await else { return };
        let before = story.sellers().await;
        story.turn(Road::OneWay);
        assert!(matches!(story.pay(false).await, Err(PayFailure::Unknown { .. })));
        story.wait().await;
        for _ in 0..2 {
            let Err(PayFailure::Unanswered { reference, .. }) = story.pay(false).await else {
                panic!("{kind:?}: it was taken");
            };
            assert_eq!(reference.len(), 66, "the chain's name for it: {reference}");
            assert_eq!((story.books(), story.sellers().await), ((10_000, 0), before + 10_000));
        }
        // Told to, it would; what the seller offers has expired for a clock so far ahead.
        assert!(matches!(story.pay(true).await, Err(PayFailure::Objections(_))));
        story.return_to_the_present();
        story.turn(Road::Open);
        let paid = story.pay(false).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(paid.status, StatusCode::OK);
        assert_eq!((story.books(), story.sellers().await), ((20_000, 0), before + 20_000));
    }
}
