//! A gateway in front of an upstream that remembers what it was asked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::Request;
use bytes::Bytes;
use farthing_core::{Buyer, Invitation, Payer};
use farthing_gateway::{Config, Gateway};
use farthing_ledger::{Audit, audit};
use farthing_money::{Asset, Assets};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use farthing_store_sqlite::Reader;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A development key; its account holds 10.00 usd.
const KEY: [u8; 32] = [7; 32];

/// A development secret.
pub(crate) const SECRET: &str = "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf";

pub(crate) const TOKEN: &str = "operators-only-operators-only-32";

/// Development secrets of webhooks.
pub(crate) const HOOK: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) const NEW_HOOK: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The routes of most tests.
pub(crate) const ROUTES: &str = r#"
[[routes]]
name = "quote"
methods = ["GET", "POST"]
path = "/quote"
upstream = "up"
price = "0.25 usd"
description = { "" = "A quote", de = "Ein Zitat", "pt-br" = "Uma citação" }

[[routes]]
name = "report"
methods = ["GET"]
path = "/report/{year}"
upstream = "up"
price = "0.25 usd"
query = ["size"]
[[routes.when]]
query = { size = "full" }
price = "1.00 usd"

[[routes]]
name = "upload"
methods = ["POST"]
path = "/upload"
upstream = "up"
price = "0.10 usd"
body = "any"

[[routes]]
name = "files"
methods = ["GET"]
path = "/files/{*path}"
upstream = "up"
price = "0.50 usd"

[[routes]]
name = "public"
methods = ["GET", "POST"]
path = "/files/public/{name}"
upstream = "up"
free = true
"#;

pub(crate) struct Shop {
    pub(crate) folder: TempDir,
    pub(crate) gateway: Gateway,
    pub(crate) upstream: Upstream,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) http: reqwest::Client,
    pub(crate) payer: PrepaidPayer,
}

/// A server behind the gateway, and what it was asked.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<(Parts, Bytes)>>>,
}

impl Upstream {
    /// Answers everything with its own words.
    pub(crate) async fn start() -> Self {
        let seen: Arc<Mutex<Vec<(Parts, Bytes)>>> = Arc::default();
        let log = Arc::clone(&seen);
        let router = axum::Router::new().fallback(move |request: Request| {
            let log = Arc::clone(&log);
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                log.lock().unwrap().push((head, body));
                "the answer"
            }
        });
        let address = serve(router).await;
        Self { address, seen }
    }

    /// A server that does its own remembering.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self { address, seen: Arc::default() }
    }

    pub(crate) fn seen(&self) -> Vec<(Parts, Bytes)> {
        self.seen.lock().unwrap().clone()
    }
}

/// Serves a router on a free port.
pub(crate) async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn invitations(&self) -> Vec<Invitation> {
        MppBuyer.read_offers(&self.fields)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn assets() -> Assets {
    [Asset::new("usd".parse().unwrap(), 2).unwrap()].into_iter().collect()
}

/// A configuration around `routes`, with `more` in `[gateway]`.
pub(crate) fn config_text(book: &Path, upstream: SocketAddr, more: &str, routes: &str) -> String {
    format!(
        r#"
[gateway]
listen = "127.0.0.1:0"
realm = "shop.example"
secrets = ["env:SECRET"]
{more}

[admin]
listen = "127.0.0.1:0"
token = "env:TOKEN"

[store]
sqlite = "{}"

[assets.usd]
decimals = 2

[rails.prepaid]

[seller]
name = "seller"

[upstreams.up]
url = "http://{upstream}"
response_timeout_ms = 1000

{routes}
"#,
        book.display()
    )
}

pub(crate) fn config(text: &str) -> Config {
    let environment = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "TOKEN" => Some(TOKEN.to_owned()),
        "HOOK" => Some(HOOK.to_owned()),
        "NEW_HOOK" => Some(NEW_HOOK.to_owned()),
        _ => None,
    };
    Config::parse(text, Path::new("."), &environment).unwrap_or_else(|error| panic!("{error}"))
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with("", ROUTES).await
    }

    pub(crate) async fn open_with(more: &str, routes: &str) -> Self {
        let upstream = Upstream::start().await;
        Self::open_before(upstream, more, routes).await
    }

    pub(crate) async fn open_before(upstream: Upstream, more: &str, routes: &str) -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), upstream, more, routes).await
    }

    /// A shop whose book lies in `folder`.
    pub(crate) async fn open_in(
        folder: TempDir,
        upstream: Upstream,
        more: &str,
        routes: &str,
    ) -> Self {
        let text = config_text(&folder.path().join("book.db"), upstream.address, more, routes);
        let gateway = Gateway::start(&config(&text)).await.unwrap();
        let (address, admin) = (gateway.address(), gateway.admin_address().unwrap());
        let payer = PrepaidPayer::new(&KEY, assets());
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let http = http.build().unwrap();
        let shop = Self { folder, gateway, upstream, address, admin, http, payer };
        let key = format!(r#"{{"key":"{}","account":"agent"}}"#, shop.payer.account());
        shop.enter("keys", &key).await;
        let fund = r#"{"account":"agent","amount":"10.00","asset":"usd","reference":"first"}"#;
        shop.enter("fund", fund).await;
        shop
    }

    pub(crate) fn book(&self) -> PathBuf {
        self.folder.path().join("book.db")
    }

    /// The configuration of this shop with other routes, for a reload.
    pub(crate) fn text(&self, more: &str, routes: &str) -> String {
        config_text(&self.book(), self.upstream.address, more, routes)
    }

    /// Makes an operator's entry.
    pub(crate) async fn enter(&self, what: &str, json: &str) {
        let url = format!("http://{}/v1/prepaid/{what}", self.admin);
        let request = self.http.post(url).bearer_auth(TOKEN).body(json.to_owned());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    }

    /// Asks for something as an operator: gives the status and what was answered.
    pub(crate) async fn operate(
        &self,
        line: &str,
        json: &serde_json::Value,
    ) -> (u16, serde_json::Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let request = self.http.request(method, format!("http://{}/v1/{path}", self.admin));
        let request = request.bearer_auth(TOKEN).body(json.to_string());
        let answer = request.header("content-type", "application/json").send().await.unwrap();
        let (status, body) = (answer.status().as_u16(), answer.text().await.unwrap());
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Sends `METHOD /path` with header fields and a body.
    pub(crate) async fn send(&self, line: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("http://{}{path}", self.address));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = request.body(body.to_owned()).send().await.unwrap();
        Answer {
            status: answer.status(),
            fields: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(&format!("GET {path}"), &[], "").await
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await.unwrap();
        Answer {
            status: answer.status(),
            fields: answer.headers().clone(),
            body: answer.text().await.unwrap(),
        }
    }

    /// Asks, and answers the first challenge: not yet presented.
    pub(crate) async fn buy(&self, line: &str, body: &str) -> String {
        let asked = self.send(line, &[], body).await;
        assert_eq!(asked.status, 402, "{}", asked.body);
        self.credential(&asked.invitations()[0]).await
    }

    pub(crate) async fn credential(&self, invitation: &Invitation) -> String {
        let paid = self.payer.pay(invitation).await.ok().unwrap();
        let (_, value) = MppBuyer.write_credential(invitation, &paid).unwrap();
        value.to_str().unwrap().to_owned()
    }

    /// Presents a credential.
    pub(crate) async fn present(&self, line: &str, credential: &str, body: &str) -> Answer {
        self.send(line, &[("authorization", credential)], body).await
    }

    /// Asks and pays.
    pub(crate) async fn pay(&self, line: &str, body: &str) -> Answer {
        let credential = self.buy(line, body).await;
        self.present(line, &credential, body).await
    }

    /// What the journal on disk says, checked.
    pub(crate) fn books(&self) -> Audit {
        audit(&Reader::open(&self.book()).unwrap().journal().unwrap()).unwrap()
    }

    /// What the seller has earned, in atoms.
    pub(crate) fn earned(&self) -> u128 {
        let account = "payable/seller/usd".parse().unwrap();
        self.books().accounts.get(&account).copied().unwrap_or_default().credits_posted
    }

    /// Sends bytes as they are, and gives everything that comes back before the connection closes.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // A reset after the answer is an answer too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}
