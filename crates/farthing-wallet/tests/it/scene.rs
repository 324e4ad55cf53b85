//! A wallet in a folder of its own, and servers that do what a test tells them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use farthing_core::Clock;
use farthing_keys::SecretKey;
use farthing_ledger::{Audit, Record, audit};
use farthing_money::{Asset, Assets, Timestamp};
use farthing_policy::Policy;
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_store_sqlite::Reader;
use farthing_wallet::{
    Authority, Books, KnownOffers, Memory, Outcome, PayFailure, PayOptions, PayRequest, Rules,
    Wallet,
};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Far from any edge.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// The secret half of a development key.
pub(crate) const KEY: [u8; 32] = [7; 32];

#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START.as_micros())))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn assets() -> Assets {
    [Asset::new("usd".parse().unwrap(), 2).unwrap()].into_iter().collect()
}

/// An owner's folder, and the wallet that works in it.
pub(crate) struct Owner {
    folder: TempDir,
    pub(crate) clock: TestClock,
    pub(crate) rules: Rules,
    pub(crate) policy: Option<String>,
}

impl Owner {
    /// The same under a policy.
    pub(crate) fn under(clock: &TestClock, policy: &str) -> Self {
        Self { policy: Some(policy.to_owned()), ..Self::new(clock) }
    }

    /// An owner who allows 1.00 usd a payment.
    pub(crate) fn new(clock: &TestClock) -> Self {
        let mut rules = Rules { validity_max: Duration::from_hours(1), ..Rules::default() };
        rules.per_payment.insert("usd".parse().unwrap(), 100);
        Self { folder: tempfile::tempdir().unwrap(), clock: clock.clone(), rules, policy: None }
    }

    /// The wallet, as a fresh process finds it.
    pub(crate) fn wallet(&self) -> Wallet {
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        Wallet {
            payers: vec![Arc::new(PrepaidPayer::new(&KEY, assets()))],
            buyers: vec![Arc::new(MppBuyer)],
            rules: self.rules.clone(),
            authority: self.authority(),
            books: Books::new(&self.book(), Arc::clone(&clock)),
            memory: Memory::open(&self.folder.path().join("memory.db")).unwrap(),
            key: SecretKey::from_bytes(KEY),
            clock,
            http: Wallet::client().unwrap(),
            pause: Duration::from_millis(1),
            offers: KnownOffers::default(),
        }
    }

    /// The owner, under the policy if there is one, and the caps otherwise.
    fn authority(&self) -> Authority {
        let policy = match &self.policy {
            Some(text) => Policy::parse(text, &[], &assets()),
            None => self.rules.policy(&assets()),
        };
        let authority = Authority::owner(vec![policy.unwrap()]);
        authority.working_on(None, None)
    }

    fn book(&self) -> std::path::PathBuf {
        self.folder.path().join("book.db")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn pay(&self, url: &str) -> Result<Outcome, PayFailure> {
        self.wallet().pay(&get(url), &PayOptions::default()).await
    }

    /// Every record of the wallet's book.
    pub(crate) fn journal(&self) -> Vec<Record> {
        if !self.book().exists() {
            return Vec::new();
        }
        Reader::open(&self.book()).unwrap().journal().unwrap()
    }

    /// The wallet's books, checked; nothing if it has never held anything.
    pub(crate) fn books(&self) -> Audit {
        if !self.book().exists() {
            return audit([]).unwrap();
        }
        audit(&Reader::open(&self.book()).unwrap().journal().unwrap()).unwrap()
    }

    /// What the books say was spent, and what they still hold, in atoms.
    pub(crate) fn spent_and_held(&self) -> (u128, u128) {
        let purse = "purse/wallet/usd".parse().unwrap();
        let balance = self.books().accounts.get(&purse).copied().unwrap_or_default();
        (balance.credits_posted, balance.credits_pending)
    }
}

pub(crate) fn get(url: &str) -> PayRequest {
    PayRequest {
        method: Method::GET,
        url: url.parse().unwrap(),
        fields: HeaderMap::new(),
        body: Bytes::new(),
    }
}

/// What a server saw of one request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

impl Seen {
    /// The payment credential, wherever it travels.
    pub(crate) fn credential(&self) -> Option<String> {
        let fields = ["authorization", "payment-authorization"];
        let value = fields.iter().find_map(|name| self.fields.get(*name))?;
        Some(value.to_str().unwrap().to_owned())
    }
}

/// A server on a free port, and what it saw.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What a server says to itself when it cuts a connection.
fn lost() -> std::io::Error {
    std::io::Error::other("the answer is lost")
}

/// An answer; nothing to cut the connection instead.
pub(crate) type Answer = Option<Response<Bytes>>;

impl Server {
    /// Serves what `answer` says to each request.
    pub(crate) async fn start<F, A>(answer: A) -> Self
    where
        A: Fn(Seen) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), seen: Arc::default() };
        let seen = Arc::clone(&server.seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map_err(std::io::Error::other)?;
                        let body = body.to_bytes();
                        let line = format!("{} {}", head.method, head.uri);
                        let request = Seen { line, fields: head.headers, body };
                        seen.lock().unwrap().push(request.clone());
                        let answer = answer(request).await.ok_or_else(lost)?;
                        Ok::<_, std::io::Error>(answer.map(Full::new))
                    }
                });
                tokio::spawn(async move {
                    let io = TokioIo::new(stream);
                    // A test that cuts a connection means it.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(io, service)
                        .await;
                });
            }
        });
        server
    }

    /// Serves the answers in turn, and the last one from then on.
    pub(crate) async fn script(answers: Vec<Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers));
        Self::start(move |_| {
            let answers = Arc::clone(&answers);
            async move {
                let mut answers = answers.lock().unwrap();
                if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The credentials it was shown, in order.
    pub(crate) fn credentials(&self) -> Vec<String> {
        self.seen().iter().filter_map(Seen::credential).collect()
    }
}

pub(crate) fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    Some(response.body(Bytes::from(body.to_owned())).unwrap())
}

/// A 402 that offers one prepaid charge of `atoms` at this machine, with more challenge
/// parameters as they stand.
pub(crate) fn offer(atoms: &str, more: &str) -> Answer {
    let challenge = challenge("c1", atoms, more);
    answer(402, &[("www-authenticate", &challenge)], "")
}

pub(crate) fn challenge(id: &str, atoms: &str, more: &str) -> String {
    let request = format!(
        r#"{{"amount":"{atoms}","currency":"usd","methodDetails":{{"decimals":2}},"recipient":"seller"}}"#
    );
    let request = farthing_mpp::base64url::encode(request);
    let expires = START.after(Duration::from_mins(5));
    format!(
        "Payment id=\"{id}\", realm=\"127.0.0.1\", method=\"prepaid\", intent=\"charge\", \
         request=\"{request}\", expires=\"{expires}\"{more}"
    )
}

/// Never fails, for services whose error is `Infallible`.
pub(crate) fn sure<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
