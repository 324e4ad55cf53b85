//! One payment, used more often than it pays for: at a naive gate, which leaks as published, and at ours.
//!
//! The naive gate checks, settles, executes and then marks, as gates do that were measured in the wild. Its
//! settlement answers once everybody has asked, which is the worst that a rail can do to it. Both gates
//! are attacked by the same code over HTTP. A request leaks if it was served and nobody paid for it.
//!
//! `./x leak` runs more rounds and prints the table of `docs/leak.md`.

#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::float_arithmetic,
    reason = "statistics"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::Request;
use farthing_ledger::Event;
use farthing_store_sqlite::Reader;
use http::StatusCode;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::shop::{Shop, Upstream, serve};

/// How often each scenario is gone through where it is not said.
fn rounds(usual: usize) -> usize {
    std::env::var("FARTHING_LEAK_ROUNDS").map_or(usual, |rounds| rounds.parse().unwrap())
}

/// What an attack got, and what was paid.
#[derive(Clone, Copy, Debug, Default)]
struct Leak {
    rounds: usize,
    /// How often it was tried to be served.
    uses: usize,
    served: usize,
    paid: usize,
}

impl Leak {
    fn unpaid(self) -> usize {
        self.served.saturating_sub(self.paid)
    }

    /// Everything costs the same: value leaks as requests do, times the price.
    fn print(self, scenario: &str, gate: &str, price: usize) {
        let Self { rounds, uses, served, paid } = self;
        let unpaid = self.unpaid();
        let share = |of: usize| {
            let (low, high) = clopper_pearson(unpaid, of);
            let share = 100. * unpaid as f64 / of as f64;
            format!("{share:.2} % [{:.3}, {:.3}]", 100. * low, 100. * high)
        };
        let (requests, extra) = (share(served), share(uses - paid));
        let (value, lost) = (served * price, unpaid * price);
        println!(
            "| {scenario} | {gate} | {rounds} | {uses} | {served} | {unpaid} | {requests} | \
             {value} | {lost} | {requests} | {extra} |"
        );
    }
}

/// The exact bounds of a share of which `hits` of `all` were seen, at 95 %.
fn clopper_pearson(hits: usize, all: usize) -> (f64, f64) {
    // The chance of at most `hits` of `all`, each with chance `p`, summed in logarithms.
    let at_most = |hits: usize, p: f64| -> f64 {
        let (yes, no) = (p.ln(), (-p).ln_1p());
        let mut ways = 0.;
        (0..=hits)
            .map(|k| {
                if k > 0 {
                    ways += ((all - k + 1) as f64).ln() - (k as f64).ln();
                }
                (ways + k as f64 * yes + (all - k) as f64 * no).exp()
            })
            .sum()
    };
    let solve = |chance: &dyn Fn(f64) -> f64, wanted: f64| {
        let (mut low, mut high) = (0., 1.);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if chance(middle) > wanted { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    };
    // At most `hits` becomes less likely as `p` grows, and at least `hits` more.
    let high = if hits == all { 1. } else { solve(&|p| at_most(hits, p), 0.025) };
    let low = if hits == 0 { 0. } else { solve(&|p| at_most(hits - 1, p), 0.975) };
    (low, high)
}

#[test]
fn the_bounds_are_those_of_the_tables() {
    let near = |(low, high): (f64, f64), want: (f64, f64)| {
        assert!((low - want.0).abs() < 5e-4 && (high - want.1).abs() < 5e-4, "{low} {high}");
    };
    near(clopper_pearson(0, 20), (0., 0.1684));
    near(clopper_pearson(20, 20), (0.8316, 1.));
    near(clopper_pearson(10, 100), (0.0490, 0.1762));
    near(clopper_pearson(0, 10_000), (0., 0.000_369));
}

/// A gate as it should not be: whoever shows a token that was not used yet is served.
struct Naive {
    used: Mutex<BTreeSet<String>>,
    settled: AtomicUsize,
    /// Where settlements wait for each other.
    race: Mutex<Arc<Barrier>>,
}

impl Naive {
    async fn open() -> (SocketAddr, Arc<Self>) {
        let naive = Arc::new(Self {
            used: Mutex::default(),
            settled: AtomicUsize::default(),
            race: Mutex::new(Arc::new(Barrier::new(1))),
        });
        let own = Arc::clone(&naive);
        let router = axum::Router::new().fallback(move |request: Request| {
            let naive = Arc::clone(&own);
            async move { naive.answer(&request).await }
        });
        (serve(router).await, naive)
    }

    fn answer(
        self: Arc<Self>,
        request: &Request,
    ) -> impl Future<Output = (StatusCode, &'static str)> + use<> {
        // What was used is marked by the resource.
        let path = request.uri().path().to_owned();
        let token = request.headers().get("x-payment");
        let token = token.map(|it| format!("{} {path}", it.to_str().unwrap()));
        async move {
            let Some(token) = token else { return (StatusCode::PAYMENT_REQUIRED, "") };
            let is_used = self.used.lock().unwrap().contains(&token);
            if is_used {
                return (StatusCode::PAYMENT_REQUIRED, "used");
            }
            let race = Arc::clone(&self.race.lock().unwrap());
            race.wait().await;
            // The rail moves the money of one token once, whoever asks.
            self.settled.fetch_add(1, Ordering::SeqCst);
            self.used.lock().unwrap().insert(token);
            (StatusCode::OK, "the answer")
        }
    }

    /// Lets the next `uses` settlements come together.
    fn race(&self, uses: usize) {
        *self.race.lock().unwrap() = Arc::new(Barrier::new(uses));
    }
}

/// Clients enough that nobody waits for a stream.
fn clients() -> Vec<reqwest::Client> {
    let client = || reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    (0..8).map(|_| client()).collect()
}

/// Sends all of `asked` at once, and gives how many were served.
async fn at_once(
    clients: &[reqwest::Client],
    address: SocketAddr,
    field: &'static str,
    asked: Vec<(String, String)>,
) -> usize {
    let mut requests = JoinSet::new();
    let start = Arc::new(Barrier::new(asked.len()));
    for (client, (path, payment)) in clients.iter().cycle().zip(asked) {
        let request = client.get(format!("http://{address}{path}")).header(field, payment);
        let start = Arc::clone(&start);
        requests.spawn(async move {
            start.wait().await;
            let answer = request.send().await.unwrap();
            let again = answer.headers().contains_key("farthing-replayed");
            // The same answer again is not another one.
            answer.status() == 200 && !again
        });
    }
    requests.join_all().await.into_iter().filter(|served| *served).count()
}

const ROUTES: &str = r#"
[[routes]]
name = "sold"
methods = ["GET"]
path = "/sold/{what}"
upstream = "patient"
price = "0.01 usd"

[[routes]]
name = "dear"
methods = ["GET"]
path = "/dear"
upstream = "patient"
price = "1.00 usd"

[[routes]]
name = "scarce"
methods = ["GET"]
path = "/scarce"
upstream = "patient"
price = "0.01 usd"
settle = "after"
"#;

/// A shop before an upstream that is waited for: a thousand at once take their time.
async fn open() -> Shop {
    open_before(Upstream::start().await).await
}

async fn open_before(upstream: Upstream) -> Shop {
    let patient = format!("{ROUTES}\n[upstreams.patient]\nurl = \"http://{}\"\n", upstream.address);
    Shop::open_before(upstream, "", &patient).await
}

/// R-01, B-01: one payment, used many times at once: the naive gate serves all of them, and ours one,
/// whose answer the others are given. Nothing leaks, and the handler runs once for each payment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_payment_many_uses() {
    let (clients, shop) = (clients(), open().await);
    let (naive_at, naive) = Naive::open().await;
    for (uses, usual) in [(20, 5), (50, 3), (248, 2), (1_000, 1)] {
        let rounds = rounds(usual);
        let scenario = format!("F2: {uses} at once");
        let mut leak = Leak { rounds, ..Leak::default() };
        for round in 0..rounds {
            naive.race(uses);
            let asked = vec![("/sold/a".to_owned(), format!("{uses}-{round}")); uses];
            leak.served += at_once(&clients, naive_at, "x-payment", asked).await;
            leak.paid += 1;
            leak.uses += uses;
        }
        assert_eq!(leak.unpaid(), rounds * (uses - 1), "the harness attacks");
        leak.print(&scenario, "naive", 1);
        let (ran, earned) = (shop.upstream.seen().len(), shop.earned());
        let failed = failures(&shop);
        let mut leak = Leak { rounds, ..Leak::default() };
        for _ in 0..rounds {
            let credential = shop.buy("GET /sold/a", "").await;
            let asked = vec![("/sold/a".to_owned(), credential); uses];
            leak.served += at_once(&clients, shop.address, "authorization", asked).await;
            leak.uses += uses;
        }
        leak.paid = usize::try_from(shop.earned() - earned).unwrap();
        assert_eq!((leak.served, leak.paid), (rounds, rounds));
        // An upstream that is too slow for so many has failed, and what failed is run again.
        let ran = shop.upstream.seen().len() - ran;
        assert_eq!(ran, rounds + failures(&shop) - failed, "each payment has one answer");
        leak.print(&scenario, "ours", 1);
    }
}

/// How often a handler has failed, by the book.
fn failures(shop: &Shop) -> usize {
    let records = Reader::open(&shop.book()).unwrap().journal().unwrap();
    records.iter().filter(|it| matches!(it.event, Event::Failed { .. })).count()
}

/// B-01: one payment at four resources of one price, one after the other: the naive gate marks what was
/// used by the resource, as published, and serves all four. Ours serves the one that was paid for.
#[tokio::test(flavor = "multi_thread")]
async fn one_payment_four_siblings() {
    let (clients, shop) = (clients(), open().await);
    let (naive_at, _naive) = Naive::open().await;
    let rounds = rounds(5);
    let siblings = ["/sold/a", "/sold/b", "/sold/c", "/sold/d"];
    let mut leak = Leak { rounds, ..Leak::default() };
    for round in 0..rounds {
        for sibling in siblings {
            let asked = vec![(sibling.to_owned(), round.to_string())];
            leak.served += at_once(&clients, naive_at, "x-payment", asked).await;
        }
        leak.paid += 1;
        leak.uses += siblings.len();
    }
    assert_eq!(leak.unpaid() * 4, leak.served * 3);
    leak.print("F1: 4 siblings", "naive", 1);
    let mut leak = Leak { rounds, ..Leak::default() };
    for _ in 0..rounds {
        let credential = shop.buy("GET /sold/a", "").await;
        for sibling in siblings {
            let asked = vec![(sibling.to_owned(), credential.clone())];
            leak.served += at_once(&clients, shop.address, "authorization", asked).await;
        }
        leak.uses += siblings.len();
    }
    leak.paid = usize::try_from(shop.earned()).unwrap();
    assert_eq!((leak.served, leak.paid, shop.upstream.seen().len()), (rounds, rounds, rounds));
    leak.print("F1: 4 siblings", "ours", 1);
}

/// R-11, R-01: an allowance for five, and ten who spend it at once: the naive gate looks at what is left
/// and takes it later, so that half of the value is not paid. Our account pays for five, and the rest is
/// told so. Five that fit are all served.
#[tokio::test(flavor = "multi_thread")]
async fn one_allowance_many_spenders() {
    let clients = clients();
    let (allowed, spenders) = (5, 10);
    let left = Arc::new(AtomicUsize::new(allowed));
    let race = Arc::new(Barrier::new(spenders));
    let (own, together) = (Arc::clone(&left), Arc::clone(&race));
    let naive = axum::Router::new().fallback(move || {
        let (left, race) = (Arc::clone(&own), Arc::clone(&together));
        async move {
            let seen = left.load(Ordering::SeqCst);
            race.wait().await;
            let taken = |now: usize| Some(now.saturating_sub(1));
            // What is not there cannot be taken.
            let _ = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
            if seen > 0 { StatusCode::OK } else { StatusCode::PAYMENT_REQUIRED }
        }
    });
    let naive_at = serve(naive).await;
    let rounds = rounds(3);
    let mut leak = Leak { rounds, ..Leak::default() };
    for _ in 0..rounds {
        left.store(allowed, Ordering::SeqCst);
        let asked = vec![("/".to_owned(), "allowance".to_owned()); spenders];
        leak.served += at_once(&clients, naive_at, "x-payment", asked).await;
        leak.paid += allowed;
        leak.uses += spenders;
    }
    assert_eq!(leak.unpaid() * 2, leak.served);
    leak.print("F3: allowance of 5, 10 spenders", "naive", 100);
    let mut leak = Leak { rounds, ..Leak::default() };
    for _ in 0..rounds {
        // The account holds ten; five of it are spent first.
        let shop = open().await;
        for _ in 0..allowed {
            assert_eq!(shop.pay("GET /dear", "").await.status, 200);
        }
        let mut asked = Vec::new();
        for _ in 0..spenders {
            asked.push(("/dear".to_owned(), shop.buy("GET /dear", "").await));
        }
        let served = at_once(&clients, shop.address, "authorization", asked).await;
        let paid = usize::try_from(shop.earned()).unwrap() / 100 - allowed;
        assert_eq!((served, paid), (allowed, allowed));
        leak.served += served;
        leak.paid += paid;
        leak.uses += spenders;
    }
    leak.print("F3: allowance of 5, 10 spenders", "ours", 100);
}

/// D-03: twelve honest clients and an upstream with room for three: the naive gate settles first, so that
/// nine pay for nothing. Ours takes money of those who were served, and of nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn more_clients_than_room() {
    let (clients, rounds) = (clients(), rounds(3));
    let (room, honest) = (3, 12);
    let scarce = async |honest: usize| {
        let (inside, race) = (Arc::new(AtomicUsize::default()), Arc::new(Barrier::new(honest)));
        let router = axum::Router::new().fallback(move || {
            let (inside, race) = (Arc::clone(&inside), Arc::clone(&race));
            async move {
                let place = inside.fetch_add(1, Ordering::SeqCst);
                race.wait().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                if place < room { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
            }
        });
        serve(router).await
    };
    // The naive gate: money first, and then whatever comes of it.
    let upstream = scarce(honest).await;
    let settled = Arc::new(AtomicUsize::default());
    let (own, on) = (Arc::clone(&settled), reqwest::Client::new());
    let naive = axum::Router::new().fallback(move || {
        let (settled, on) = (Arc::clone(&own), on.clone());
        async move {
            settled.fetch_add(1, Ordering::SeqCst);
            on.get(format!("http://{upstream}/")).send().await.unwrap().status()
        }
    });
    let naive_at = serve(naive).await;
    let mut denied = Leak { rounds, ..Leak::default() };
    for _ in 0..rounds {
        let asked = vec![("/".to_owned(), "honest".to_owned()); honest];
        denied.paid += at_once(&clients, naive_at, "x-payment", asked).await;
        denied.uses += honest;
    }
    denied.served = settled.load(Ordering::SeqCst);
    assert_eq!(denied.unpaid() * 4, denied.served * 3, "paid and not served");
    denied.print("F4: room for 3, 12 clients (paid, not served)", "naive", 1);
    let shop = open_before(Upstream::at(scarce(honest).await)).await;
    let mut denied = Leak { rounds, ..Leak::default() };
    for _ in 0..rounds {
        let mut asked = Vec::new();
        for _ in 0..honest {
            asked.push(("/scarce".to_owned(), shop.buy("GET /scarce", "").await));
        }
        denied.paid += at_once(&clients, shop.address, "authorization", asked).await;
        denied.uses += honest;
    }
    denied.served = usize::try_from(shop.earned()).unwrap();
    assert_eq!((denied.served, denied.paid), (room * rounds, room * rounds));
    assert_eq!(shop.books().pending, 0, "what was held is given free");
    denied.print("F4: room for 3, 12 clients (paid, not served)", "ours", 1);
}
