//! What the scheme asks of HTTP.

use std::sync::Arc;

use farthing_gate::{ClientAddress, RateLimit};
use farthing_rail_test::TestPayer;
use farthing_store_memory::Paper;
use farthing_testkit::rail::assets;
use http::Request;
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;

use crate::shop::Shop;

/// CORE.S02, CORE.S17: an unpaid request gets challenges, reaches nobody and is written nowhere.
#[tokio::test]
async fn an_unpaid_request_has_no_effect() {
    let shop = Shop::open();
    let before = shop.paper().records().len();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"] {
        let answer = shop.send(&format!("{method} /a"), &[], "body").await;
        assert_eq!(answer.status, 402, "{method}");
        assert!(!answer.invitations().is_empty());
        assert_eq!(answer.fields["cache-control"], "no-store");
    }
    assert_eq!((shop.served(), shop.paper().records().len()), (0, before));
}

/// CORE.S03: whoever must log in first is told to log in, not to pay.
#[tokio::test]
async fn authentication_comes_before_payment() {
    use tower::{Layer, ServiceExt};
    let shop = Shop::open();
    let asked = shop.get("/a").await;
    assert_eq!(asked.status, 402);
    // An authentication layer outside the gate, as a seller would stack it.
    let login = tower::layer::layer_fn(|inner| Login { inner });
    let stack = login.layer(tower::service_fn(|_: Request<()>| async { Ok::<_, ()>(402) }));
    let status = |login: Option<&str>| {
        let mut request = Request::new(());
        if let Some(login) = login {
            request.headers_mut().insert("authorization", login.parse().unwrap());
        }
        stack.clone().oneshot(request)
    };
    assert_eq!(status(None).await, Ok(401));
    assert_eq!(status(Some("Bearer user")).await, Ok(402));
}

#[derive(Clone)]
struct Login<S> {
    inner: S,
}

impl<S: tower::Service<Request<()>, Response = u16, Error = ()> + Clone> tower::Service<Request<()>>
    for Login<S>
where
    S::Future: Send + 'static,
{
    type Response = u16;
    type Error = ();
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<u16, ()>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ()>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let bearer = request.headers().get("authorization");
        if bearer.is_none_or(|value| !value.as_bytes().starts_with(b"Bearer ")) {
            return Box::pin(async { Ok(401) });
        }
        Box::pin(self.inner.call(request))
    }
}

/// CORE.S08: a receipt comes with success only, and only from the gate.
#[tokio::test]
async fn a_receipt_comes_with_success_only() {
    for (status, receipted) in
        [(200, true), (201, true), (204, true), (304, false), (404, false), (500, false)]
    {
        let shop = Shop::open();
        shop.answer_with(status, &[("payment-receipt", "Zm9yZ2Vk")]);
        let credential = shop.buy("GET /a", "").await;
        let answer = shop.present("GET /a", &credential, "").await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.receipt().is_some(), receipted, "{status}");
        assert_eq!(answer.fields.contains_key("payment-receipt"), receipted, "{status}");
    }
}

/// CORE.S11: what this version does not know is ignored.
#[tokio::test]
async fn unknown_members_are_ignored() {
    let shop = Shop::open();
    let (name, value) = shop.buy("GET /a", "").await;
    let token = value.strip_prefix("Payment ").unwrap();
    let json = String::from_utf8(farthing_mpp::base64url::decode(token).unwrap()).unwrap();
    let more = json.replacen('{', "{\"future\":{\"a\":[1]},", 1);
    let more = more.replacen("\"challenge\":{", "\"challenge\":{\"later\":true,", 1);
    let more = (name, format!("Payment {}", farthing_mpp::base64url::encode(more)));
    assert_eq!(shop.present("GET /a", &more, "").await.status, 200);
}

/// CORE.S12, M-03: long credentials are read, endless ones are refused, quickly.
#[tokio::test]
async fn credentials_have_a_limit() {
    let shop = Shop::open();
    let (name, value) = shop.buy("GET /a", "").await;
    let token = value.strip_prefix("Payment ").unwrap();
    let json = String::from_utf8(farthing_mpp::base64url::decode(token).unwrap()).unwrap();
    let padded = |bytes: usize| {
        let json = json.replacen('{', &format!("{{\"pad\":\"{}\",", "x".repeat(bytes)), 1);
        (name.clone(), format!("Payment {}", farthing_mpp::base64url::encode(json)))
    };
    for bytes in [20_000, 1_000_000] {
        let answer = shop.present("GET /a", &padded(bytes), "").await;
        assert_eq!(answer.problem(), "malformed-credential");
    }
    let deep = format!("{{\"challenge\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = (name.clone(), format!("Payment {}", farthing_mpp::base64url::encode(deep)));
    assert_eq!(shop.present("GET /a", &deep, "").await.problem(), "malformed-credential");
    assert_eq!(shop.present("GET /a", &padded(6_000), "").await.status, 200, "control");
    assert_eq!(shop.books().claimed, 1);
}

/// CORE.S14: the service behind the gate never sees a credential, priced or free.
#[tokio::test]
async fn credentials_stop_at_the_gate() {
    let shop = Shop::open();
    let credential = shop.buy("GET /a", "").await;
    shop.present("GET /a", &credential, "").await;
    shop.present("GET /free", &credential, "").await;
    let stray = [("payment-authorization", "Payment eyJ9"), ("authorization", "Bearer user")];
    shop.send("GET /free", &stray, "").await;
    let asked = shop.get("/taken").await;
    let (name, value) = shop.pay(&asked.invitations()[0]).await;
    assert_eq!(name, "payment-authorization");
    let both = [("authorization", "Bearer user"), (name.as_str(), value.as_str())];
    assert_eq!(shop.send("GET /taken", &both, "").await.status, 200);
    let seen = shop.seen.lock().unwrap();
    let logins: Vec<_> = seen.iter().map(|(head, _)| head.headers.get("authorization")).collect();
    let user = http::HeaderValue::from_static("Bearer user");
    assert_eq!(logins, [None, None, Some(&user), Some(&user)], "a user's own login stays");
    assert!(seen.iter().all(|(head, _)| !head.headers.contains_key("payment-authorization")));
}

/// CORE.S16, CHG.S02: a proof is used once, whatever challenge it is put to; the same credential is given
/// the same answer, and nothing runs again.
#[tokio::test]
async fn a_proof_is_used_once() {
    let shop = Shop::open();
    let first = shop.buy("GET /a", "").await;
    let answer = shop.present("GET /a", &first, "").await;
    assert_eq!(answer.status, 200, "control");
    let again = shop.present("GET /a", &first, "").await;
    assert_eq!((again.status, &again.body), (answer.status, &answer.body));
    assert_eq!(again.fields["farthing-replayed"], "true");
    assert_eq!(again.receipt(), answer.receipt());
    assert_eq!(shop.served(), 1);
    // Another payer of the same name makes the same token: the same money, put to a new challenge.
    let mut twin = shop;
    twin.payer = TestPayer::new("alice", assets());
    let second = twin.buy("GET /a", "").await;
    let refused = twin.present("GET /a", &second, "").await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (402, "invalid-challenge"));
    assert!(!refused.invitations().is_empty(), "a fresh challenge each time");
    assert_eq!((twin.served(), twin.books().delivered), (1, 1));
}

/// CORE.S19: nobody needs an account: a payer without a name pays.
#[tokio::test]
async fn nobody_needs_an_account_to_pay() {
    let shop = Shop::open();
    let (name, value) = shop.buy("GET /a", "").await;
    let token = value.strip_prefix("Payment ").unwrap();
    let json = String::from_utf8(farthing_mpp::base64url::decode(token).unwrap()).unwrap();
    let anonymous = json.replace(",\"source\":\"alice\"", "").replace("\"source\":\"alice\",", "");
    assert_ne!(anonymous, json);
    let anonymous = (name, format!("Payment {}", farthing_mpp::base64url::encode(anonymous)));
    assert_eq!(shop.present("GET /a", &anonymous, "").await.status, 200);
    assert_eq!(shop.purchase().unwrap().payer, "anonymous");
}

/// CORE.S20, W-01, W-02: nothing that was paid for may be kept by a shared cache.
#[tokio::test]
async fn answers_say_how_they_may_be_kept() {
    let shop = Shop::open();
    shop.answer_with(200, &[("cache-control", "public, s-maxage=600"), ("etag", "\"v1\"")]);
    let credential = shop.buy("GET /a", "").await;
    let answer = shop.present("GET /a", &credential, "").await;
    assert_eq!(answer.fields["cache-control"], "private");
    // A free client with the paid object's validator, or asking for a part of it, must pay too.
    for (name, value) in [
        ("if-none-match", "\"v1\""),
        ("range", "bytes=0-3"),
        ("if-modified-since", "Sat, 21 Nov 2026 08:00:00 GMT"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = shop.send(&format!("{method} /a"), &[(name, value)], "").await;
            assert_eq!(answer.status, 402, "{method} with {name}");
            assert_eq!(answer.fields["cache-control"], "no-store");
            assert!(!answer.fields.contains_key("etag"));
        }
    }
}

/// CORE.S21: one address is slowed down, and told for how long.
#[tokio::test]
async fn asking_too_often_is_slowed_down() {
    let limit = RateLimit { per_second: 1, burst: 3 };
    let shop = Shop::open_with(Some(limit), Paper::default());
    let ask = |address: &str| {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = "/a".parse().unwrap();
        request.extensions_mut().insert(ClientAddress(address.parse().unwrap()));
        shop.call(request)
    };
    for _ in 0..3 {
        assert_eq!(ask("192.0.2.1").await.status, 402);
    }
    let slowed = ask("192.0.2.1").await;
    assert_eq!(
        (slowed.status.as_u16(), &slowed.fields["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert!(slowed.invitations().is_empty());
    assert_eq!(ask("192.0.2.2").await.status, 402, "others are not");
    assert_eq!(shop.get("/a").await.status, 402, "and nobody is without an address");
}

/// CORE.S22, M-01: two credentials in one request are refused, and neither is spent.
#[tokio::test]
async fn two_credentials_are_refused_and_neither_is_spent() {
    let shop = Shop::open();
    let (name, one) = shop.buy("GET /a", "").await;
    let (_, other) = shop.buy("GET /a", "").await;
    for fields in [
        vec![(name.as_str(), one.as_str()), (name.as_str(), other.as_str())],
        vec![(name.as_str(), one.as_str()), ("payment-authorization", other.as_str())],
        vec![("authorization", "Bearer user"), (name.as_str(), one.as_str())],
    ] {
        let answer = shop.send("GET /a", &fields, "").await;
        assert_eq!(
            (answer.status.as_u16(), answer.problem().as_str()),
            (400, "malformed-credential")
        );
    }
    assert_eq!(shop.books().claimed, 0);
    for credential in [one, other] {
        assert_eq!(shop.present("GET /a", &(name.clone(), credential), "").await.status, 200);
    }
}

/// W-09: an answer to a bad credential repeats nothing of it and does not say which part was bad.
#[tokio::test]
async fn w_09_a_refusal_tells_no_secrets() {
    let shop = Shop::open();
    let (name, value) = shop.buy("GET /a", "").await;
    let token = value.strip_prefix("Payment ").unwrap();
    let json = String::from_utf8(farthing_mpp::base64url::decode(token).unwrap()).unwrap();
    let mut bodies = std::collections::BTreeSet::new();
    for (from, to) in [
        ("\"charge\"", "\"session\""),
        ("shop.example", "shop.example.org"),
        ("\"id\":\"", "\"id\":\"x"),
        ("\"expires\":\"2", "\"expires\":\"3"),
        ("\"opaque\":\"ey", "\"opaque\":\"fy"),
    ] {
        let edited = json.replacen(from, to, 1);
        assert_ne!(edited, json, "{from}");
        let forged =
            (name.clone(), format!("Payment {}", farthing_mpp::base64url::encode(&edited)));
        let answer = shop.present("GET /a", &forged, "").await;
        assert!(!answer.body.contains(to) && !answer.body.contains(token), "{}", answer.body);
        bodies.insert(answer.body);
    }
    assert_eq!(bodies.len(), 1, "every unbound challenge gets the same answer: {bodies:?}");
}

/// A price that no rail carries is the seller's to mend, and is said so.
#[tokio::test]
async fn an_unpayable_price_is_no_402() {
    let shop = Shop::open();
    let answer = shop.get("/dear").await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.contains("none of its rails"), "{}", answer.body);
    assert_eq!(shop.get("/free").await.status, 200);
}

/// A body of which only the beginning ever comes.
struct Endless(Option<&'static [u8]>);

impl http_body::Body for Endless {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        let next = self.0.take().map(|it| Ok(http_body::Frame::data(it.into())));
        next.map_or(std::task::Poll::Pending, |frame| std::task::Poll::Ready(Some(frame)))
    }
}

/// D-04: a body that never comes to its end is given up, on a paid route too: nobody was asked to pay, and
/// nothing runs. One that comes is bound.
#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up() {
    let gate = farthing_gate::Gate::builder(
        "shop.example",
        farthing_mpp::Secret::new("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".into()).unwrap(),
    );
    let assets = farthing_testkit::rail::assets();
    let rail =
        farthing_rail_test::TestRail::new(assets.clone(), farthing_rail_test::Dial::default());
    let paper = Paper::default();
    let store =
        farthing_store_memory::MemoryStore::open(paper.clone(), farthing_testkit::store::START);
    let gate = gate.unwrap().rail(rail).store(Arc::new(store));
    let price = assets.get(&"usd".parse().unwrap()).unwrap().atoms(2_500);
    let quotes = gate.quotes(&price, &farthing_ledger::Holder::new("seller").unwrap());
    let tag = farthing_gate::PriceTag::new("bound", quotes);
    let tag = farthing_gate::PriceTag { body_bytes_max: Some(1_024), ..tag };
    let service =
        gate.layer(move |_: &http::request::Parts| farthing_gate::Tag::Priced(tag.clone()));
    let inner = tower::service_fn(|_: Request<farthing_gate::Body>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(Full::new(bytes::Bytes::new())))
    });
    let service = tower_layer::Layer::layer(&service, inner);
    let post = |body| Request::post("/bound").body(body).unwrap();
    let slow = service.clone().oneshot(post(Endless(Some(b"a")).boxed())).await.unwrap();
    assert_eq!(slow.status(), 408);
    assert!(!slow.headers().contains_key("www-authenticate"));
    let whole = service.oneshot(post(Full::new("a".into()).boxed())).await.unwrap();
    assert_eq!(whole.status(), 402);
    assert!(paper.records().len() <= 1, "nothing but the opening is written");
}
