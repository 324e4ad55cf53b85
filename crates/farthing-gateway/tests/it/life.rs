//! Starting, reloading, stopping; and TLS.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use farthing_gateway::{Gateway, ReloadError, StartError};
use tokio::sync::Notify;

use crate::shop::{ROUTES, Shop, Upstream, config, config_text, serve};

/// A reload changes what is asked from then on, and what was offered before is still honoured.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_prices() {
    let shop = Shop::open().await;
    let old = shop.buy("GET /quote", "").await;
    let dearer = ROUTES.replacen("\"0.25 usd\"", "\"0.30 usd\"", 1);
    shop.gateway.reload(&config(&shop.text("", &dearer))).unwrap();
    let asked = shop.get("/quote").await;
    assert_eq!(asked.invitations()[0].request["amount"], "30");
    // An offer that was made stands until it expires.
    assert_eq!(shop.present("GET /quote", &old, "").await.status, 200);
    assert_eq!(shop.earned(), 25);
    assert_eq!(shop.pay("GET /quote", "").await.status, 200);
    assert_eq!(shop.earned(), 55);
}

/// K-06: secrets rotate without a restart: the old one is honoured while it is listed, and not
/// after.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_rotate() {
    let shop = Shop::open().await;
    let (one, two) = (shop.buy("GET /quote", "").await, shop.buy("GET /quote", "").await);
    let new = shop.folder.path().join("new-secret");
    std::fs::write(&new, "Zx81Kp4vQm7Wn2Rt6Yb9Lc3Df5Gh0JsA").unwrap();
    let rotate = |list: String| {
        let text = shop.text("", ROUTES).replace("[\"env:SECRET\"]", &list);
        shop.gateway.reload(&config(&text)).unwrap();
    };
    rotate(format!("[\"file:{}\", \"env:SECRET\"]", new.display()));
    assert_eq!(shop.present("GET /quote", &one, "").await.status, 200);
    assert_eq!(shop.pay("GET /quote", "").await.status, 200);
    rotate(format!("[\"file:{}\"]", new.display()));
    assert_eq!(shop.present("GET /quote", &two, "").await.status, 402);
    assert_eq!(shop.pay("GET /quote", "").await.status, 200);
    assert_eq!(shop.earned(), 75);
}

/// What a reload cannot do is said, and nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_cannot_be_changes_nothing() {
    let shop = Shop::open().await;
    let text = shop.text("", ROUTES);
    let elsewhere = text.replacen("127.0.0.1:0", "127.0.0.1:1", 1);
    let error = shop.gateway.reload(&config(&elsewhere)).unwrap_err();
    assert!(matches!(error, ReloadError::Fixed), "{error}");
    let no_key = text.replacen("realm =", "tls = { certificate = \"a\", key = \"b\" }\nrealm =", 1);
    assert!(shop.gateway.reload(&config(&no_key)).is_err());
    assert_eq!(shop.pay("GET /quote", "").await.status, 200);
}

/// Requests that run when the gateway stops are answered, no new ones are taken, and everything
/// that was acknowledged is in the book the next process opens.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_lets_running_requests_finish() {
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, signal) = (Arc::clone(&entered), Arc::clone(&go));
    let router = axum::Router::new().fallback(get(async move || {
        inside.notify_one();
        signal.notified().await;
        "finished"
    }));
    let upstream = Upstream::at(serve(router).await);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    let credential = shop.buy("GET /quote", "").await;
    let url = format!("http://{}/quote", shop.address);
    let request = shop.http.get(url).header("authorization", &credential).send();
    let running = tokio::spawn(request);
    entered.notified().await;
    let (address, book) = (shop.address, shop.book());
    let stopping = tokio::spawn(shop.gateway.stop());
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished(), "it waits for the request that runs");
    go.notify_one();
    let answer = running.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (200, "finished".into()));
    stopping.await.unwrap();
    let text = config_text(&book, shop.upstream.address, "", ROUTES);
    let again = Gateway::start(&config(&text)).await.unwrap();
    let url = format!("http://{}/quote", again.address());
    let replay = shop.http.get(url).header("authorization", &credential).send().await.unwrap();
    assert_eq!(replay.headers()["farthing-replayed"], "true", "what was delivered stays delivered");
    assert_eq!(replay.text().await.unwrap(), "finished");
}

/// The grace period ends too.
#[tokio::test(flavor = "multi_thread")]
async fn stopping_does_not_wait_for_ever() {
    let entered = Arc::new(Notify::new());
    let inside = Arc::clone(&entered);
    let router = axum::Router::new().fallback(get(async move || {
        inside.notify_one();
        std::future::pending::<&str>().await
    }));
    let upstream = Upstream::at(serve(router).await);
    let slow = ROUTES.to_owned();
    let shop = Shop::open_before(upstream, "shutdown_grace_ms = 10", &slow).await;
    let url = format!("http://{}/files/public/a", shop.address);
    let running = tokio::spawn(shop.http.get(url).send());
    entered.notified().await;
    shop.gateway.stop().await;
    assert!(running.await.unwrap().is_err());
}

/// C-11, R-02: a book has one writer.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_one_book_does_not_start() {
    let shop = Shop::open().await;
    let error = Gateway::start(&config(&shop.text("", ROUTES))).await.err().unwrap();
    assert!(matches!(error, StartError::Store(_)), "{error}");
    let address = shop.address;
    let text = shop.text("", ROUTES).replacen("127.0.0.1:0", &address.to_string(), 1);
    let text = text.replace("book.db", "other.db");
    let error = Gateway::start(&config(&text)).await.err().unwrap();
    assert!(matches!(error, StartError::Listen { .. }), "{error}");
}

/// A price that no rail of its route can carry is found at the start, not at the first sale.
#[tokio::test(flavor = "multi_thread")]
async fn an_unpayable_price_keeps_the_gateway_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let text = config_text(&folder.path().join("b.db"), upstream.address, "", ROUTES);
    assert!(Gateway::start(&config(&text)).await.is_ok());
    let text = text.replacen("sqlite = ", "memory = true\n# ", 1);
    assert!(Gateway::start(&config(&text)).await.is_ok());
}

fn certificate(folder: &Path, name: &str) -> rcgen::Certificate {
    let key = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), key.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.signing_key.serialize_pem()).unwrap();
    key.cert
}

fn tls_client(certificate: &rcgen::Certificate, shop: &Shop) -> reqwest::Client {
    let root = reqwest::Certificate::from_der(certificate.der()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).https_only(true);
    client.resolve("shop.example", shop.address).timeout(Duration::from_secs(10)).build().unwrap()
}

/// CORE.S13: TLS from files, HTTP/2 over it, and nothing in the clear on its port; a reload takes
/// a new certificate.
#[tokio::test(flavor = "multi_thread")]
async fn tls_comes_from_files() {
    let files = tempfile::tempdir().unwrap();
    let first = certificate(files.path(), "shop.example");
    let tls = format!(
        "tls = {{ certificate = {:?}, key = {:?} }}",
        files.path().join("cert.pem"),
        files.path().join("key.pem")
    );
    let shop = Shop::open_with(&tls, ROUTES).await;
    let url = format!("https://shop.example:{}/quote", shop.address.port());
    let asked = tls_client(&first, &shop).get(&url).send().await.unwrap();
    assert_eq!((asked.status().as_u16(), asked.version()), (402, http::Version::HTTP_2));
    let free = url.replace("/quote", "/files/public/a");
    assert_eq!(tls_client(&first, &shop).get(&free).send().await.unwrap().status(), 200);
    let (head, _) = shop.upstream.seen().remove(0);
    assert_eq!(head.headers["x-forwarded-proto"], "https");
    assert_eq!(head.headers["x-forwarded-host"], format!("shop.example:{}", shop.address.port()));
    let plain = shop.raw("GET /quote HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("402"), "{plain}");
    let second = certificate(files.path(), "shop.example");
    assert!(tls_client(&second, &shop).get(&url).send().await.is_err());
    shop.gateway.reload(&config(&shop.text(&tls, ROUTES))).unwrap();
    assert_eq!(tls_client(&second, &shop).get(&url).send().await.unwrap().status(), 402);
    assert!(tls_client(&first, &shop).get(&url).send().await.is_err());
    std::fs::write(files.path().join("key.pem"), "no key").unwrap();
    let error = shop.gateway.reload(&config(&shop.text(&tls, ROUTES))).unwrap_err();
    assert!(error.to_string().contains("TLS key cannot be read"), "{error}");
    assert_eq!(tls_client(&second, &shop).get(&url).send().await.unwrap().status(), 402);
}
