//! What goes on to the upstream and what comes back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

use crate::shop::{ROUTES, Shop, Upstream, serve};

/// CORE.S14: the upstream learns who paid what for which story, and never sees a credential.
#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_learns_the_payment_and_not_the_credential() {
    let shop = Shop::open().await;
    let credential = shop.buy("GET /quote", "").await;
    let fields = [
        ("authorization", credential.as_str()),
        ("farthing-payer", "mallory"),
        ("farthing-trace", "forged"),
        ("farthing-anything", "forged"),
        ("x-forwarded-for", "10.1.2.3"),
        ("forwarded", "for=10.1.2.3"),
        ("x-real-ip", "10.1.2.3"),
        ("x-own", "kept"),
    ];
    let paid = shop.send("GET /quote", &fields, "").await;
    assert_eq!(paid.status, 200);
    let (head, _) = shop.upstream.seen().remove(0);
    let text = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(text("authorization"), None);
    assert_eq!(text("farthing-amount").unwrap(), "0.25 usd");
    assert_eq!(text("farthing-method").unwrap(), "prepaid");
    assert!(text("farthing-payer").unwrap().starts_with("did:key:z6Mk"));
    assert_eq!(
        text("farthing-trace"),
        Some(paid.fields["farthing-trace"].to_str().unwrap().into())
    );
    assert_eq!(text("farthing-anything"), None);
    assert_eq!(text("x-forwarded-for").unwrap(), "127.0.0.1");
    assert_eq!(text("x-forwarded-host").unwrap(), shop.address.to_string());
    assert_eq!(text("x-forwarded-proto").unwrap(), "http");
    assert_eq!((text("forwarded"), text("x-real-ip")), (None, None));
    assert_eq!(text("host").unwrap(), shop.upstream.address.to_string());
    assert_eq!(text("x-own").unwrap(), "kept");
    let everything = format!("{head:?}");
    assert!(!everything.contains(credential.strip_prefix("Payment ").unwrap()));
}

/// A login of the upstream's own users is not a credential and goes through, free or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_through() {
    let taken = ROUTES.replacen(
        "price = \"0.25 usd\"",
        "price = \"0.25 usd\"\nauthorization_is_taken = true",
        1,
    );
    let shop = Shop::open_with("", &taken).await;
    let login = ("authorization", "Bearer mine");
    assert_eq!(shop.send("GET /files/public/a", &[login], "").await.status, 200);
    let asked = shop.send("GET /quote", &[login], "").await;
    let credential = shop.credential(&asked.invitations()[0]).await;
    let fields = [login, ("payment-authorization", credential.as_str())];
    assert_eq!(shop.send("GET /quote", &fields, "").await.status, 200);
    for (head, _) in shop.upstream.seen() {
        assert_eq!(head.headers["authorization"], "Bearer mine");
        assert!(!head.headers.contains_key("payment-authorization"));
    }
    assert_eq!((shop.upstream.seen().len(), shop.earned()), (2, 25));
}

/// What speaks of one connection is not passed to the next (RFC 9110 §7.6.1).
#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_stay_where_they_are() {
    let shop = Shop::open().await;
    let request = "GET /files/public/a HTTP/1.1\r\nHost: x\r\nConnection: close, X-Hop\r\n\
                   X-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authorization: Basic eA==\r\n\
                   Upgrade: websocket\r\nTE: trailers\r\nX-End: 1\r\n\r\n";
    let answer = shop.raw(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (head, _) = shop.upstream.seen().remove(0);
    for gone in ["x-hop", "keep-alive", "proxy-authorization", "upgrade", "connection"] {
        assert!(!head.headers.contains_key(gone), "{gone}");
    }
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(head.headers["x-end"], "1");
}

/// The path and the query reach the upstream as they were asked for, in one spelling.
#[tokio::test(flavor = "multi_thread")]
async fn paths_and_queries_go_on() {
    let shop = Shop::open().await;
    shop.get("/files/public/%61%20b?x=%7E&y").await;
    let (head, _) = shop.upstream.seen().remove(0);
    assert_eq!(head.uri.to_string(), "/files/public/a%20b?x=%7E&y");
}

/// An answer streams: its beginning is there before its end exists.
#[tokio::test(flavor = "multi_thread")]
async fn answers_stream() {
    let more = Arc::new(Notify::new());
    let signal = Arc::clone(&more);
    let router = axum::Router::new().fallback(get(async move || {
        let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        tokio::spawn(async move {
            send.send(Ok("first ".into())).await.unwrap();
            signal.notified().await;
            send.send(Ok("second".into())).await.unwrap();
        });
        Body::new(Channel(receive))
    }));
    let upstream = Upstream::at(serve(router).await);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    let credential = shop.buy("GET /quote", "").await;
    let url = format!("http://{}/quote", shop.address);
    let request = shop.http.get(url).header("authorization", credential);
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "first ");
    more.notify_one();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), "second");
    assert_eq!(answer.chunk().await.unwrap(), None);
}

/// A body that payments are not bound to streams too: the upstream has its beginning before the
/// client has made its end.
#[tokio::test(flavor = "multi_thread")]
async fn uploads_stream() {
    let (first, mut arrived) = mpsc::channel::<Bytes>(1);
    let router = axum::Router::new().fallback(post(async move |request: Request| {
        let mut body = request.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            bytes += data.len();
            first.send(data).await.unwrap();
        }
        bytes.to_string()
    }));
    let upstream = Upstream::at(serve(router).await);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    let credential = shop.buy("POST /upload", "").await;
    let (send, receive) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let url = format!("http://{}/upload", shop.address);
    let body = reqwest::Body::wrap(Channel(receive));
    let request = shop.http.post(url).header("authorization", credential).body(body);
    let answer = tokio::spawn(request.send());
    send.send(Ok("first".into())).await.unwrap();
    assert_eq!(arrived.recv().await.unwrap(), "first");
    send.send(Ok("second".into())).await.unwrap();
    assert_eq!(arrived.recv().await.unwrap(), "second");
    drop(send);
    assert_eq!(answer.await.unwrap().unwrap().text().await.unwrap(), "11");
}

/// A body whose frames come from a channel.
struct Channel(mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(context).map(|next| next.map(|data| data.map(http_body::Frame::data)))
    }
}

/// A body that is bound is read whole, and no further than the route says.
#[tokio::test(flavor = "multi_thread")]
async fn a_bound_body_has_a_limit() {
    let routes =
        ROUTES.replacen("price = \"0.25 usd\"", "price = \"0.25 usd\"\nbody_bytes_max = 8", 1);
    let shop = Shop::open_with("", &routes).await;
    assert_eq!(shop.send("POST /quote", &[], "12345678").await.status, 402);
    assert_eq!(shop.send("POST /quote", &[], "123456789").await.status, 413);
    let chunked = "POST /quote HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n";
    assert!(shop.raw(chunked).await.starts_with("HTTP/1.1 413"));
}

/// An upstream that is silent or gone: the payment is kept, and the same credential is good again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_does_not_cost_twice() {
    let (broken, working) = (Arc::new(Notify::new()), Arc::new(std::sync::Mutex::new(false)));
    let (pause, works) = (Arc::clone(&broken), Arc::clone(&working));
    let router = axum::Router::new().fallback(get(async move || {
        let works = *works.lock().unwrap();
        if !works {
            pause.notified().await;
        }
        "at last"
    }));
    let upstream = Upstream::at(serve(router).await);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    let credential = shop.buy("GET /quote", "").await;
    let silent = shop.present("GET /quote", &credential, "").await;
    assert_eq!(silent.status, 504);
    assert!(silent.body.contains("do not pay again"), "{}", silent.body);
    assert!(silent.fields.contains_key("retry-after"));
    assert!(!silent.fields.contains_key("payment-receipt"));
    assert_eq!((shop.earned(), shop.books().undelivered), (25, 1));
    *working.lock().unwrap() = true;
    let answered = shop.present("GET /quote", &credential, "").await;
    assert_eq!((answered.status.as_u16(), answered.body.as_str()), (200, "at last"));
    assert!(answered.fields.contains_key("payment-receipt"));
    let again = shop.present("GET /quote", &credential, "").await;
    assert_eq!((again.status.as_u16(), again.body.as_str()), (200, "at last"));
    assert!(again.fields.contains_key("farthing-replayed"));
    assert_eq!(shop.earned(), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_gone_is_a_502() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let upstream = Upstream::at(address);
    let shop = Shop::open_before(upstream, "", ROUTES).await;
    assert_eq!(shop.get("/files/public/a").await.status, 502);
    let answer = shop.pay("GET /quote", "").await;
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("The payment is kept"), "{}", answer.body);
    assert!(!answer.body.contains(&address.port().to_string()), "no address leaks");
}
