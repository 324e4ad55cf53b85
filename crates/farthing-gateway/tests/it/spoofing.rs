//! Requests that mean to be read in two ways.

use crate::shop::{ROUTES, Shop};

/// W-04: whatever a client says of host and scheme, the realm and the price are the operator's.
#[tokio::test(flavor = "multi_thread")]
async fn the_realm_is_the_operators() {
    let shop = Shop::open().await;
    let spoofs = [
        "Host: evil.example",
        "Host: shop.example:1\r\nX-Forwarded-Host: evil.example\r\nX-Forwarded-Proto: https",
        "Host: x\r\nForwarded: host=evil.example;proto=https",
        "Host: x\r\nX-Original-URL: /files/public/a\r\nX-Rewrite-URL: /files/public/a",
    ];
    for spoof in spoofs {
        let request = format!("GET /quote HTTP/1.1\r\n{spoof}\r\nConnection: close\r\n\r\n");
        let answer = shop.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 402"), "{spoof}: {answer}");
        assert!(answer.contains("realm=\"shop.example\""), "{spoof}: {answer}");
        assert!(!answer.contains("evil.example"), "{spoof}: {answer}");
    }
    // The absolute form names another authority; it decides nothing either.
    let absolute = "GET http://evil.example/quote HTTP/1.1\r\nHost: evil.example\r\n\
                    Connection: close\r\n\r\n";
    assert!(shop.raw(absolute).await.contains("realm=\"shop.example\""));
    assert!(shop.upstream.seen().is_empty());
}

/// W-04: the same over HTTP/2, where the host is a pseudo-header.
#[tokio::test(flavor = "multi_thread")]
async fn an_authority_decides_nothing_over_http_2() {
    let shop = Shop::open().await;
    let http = reqwest::Client::builder().http2_prior_knowledge();
    let http = http.resolve("evil.example", shop.address).build().unwrap();
    let url = format!("http://evil.example:{}/quote", shop.address.port());
    let asked = http.get(&url).send().await.unwrap();
    assert_eq!((asked.status().as_u16(), asked.version()), (402, http::Version::HTTP_2));
    let challenge = asked.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("realm=\"shop.example\""), "{challenge}");
    let answer = http.get(url.replace("/quote", "/files/public/a")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let (head, _) = shop.upstream.seen().remove(0);
    assert_eq!(head.headers["host"], shop.upstream.address.to_string());
}

/// W-06: no method and no spelling of a priced path is served unpaid, and no wider or freer route
/// stands in for it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_priced_is_served_free() {
    let shop = Shop::open().await;
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"];
    let paths = [
        "/quote",
        "/quote/",
        "/quote?",
        "/quote?x=1",
        "/%71uote",
        "/QUOTE",
        "//quote",
        "/./quote",
        "/x/../quote",
        "/quote//",
        "/quote/.",
        "/quote;x=1",
        "/quote%2f",
        "/quote%00",
        "/quote%20",
        "/quote\\",
        "/files/secret",
        "/files/public",
        "/files/public/",
        "/files/public/a/b",
        "/files/public/../secret",
        "/files/public/..%2fsecret",
        "/files/public%2fa",
        "/files/public;/a",
        "/files/./public/../secret",
        "http://shop.example/quote",
    ];
    for method in methods {
        for path in paths {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\
                 Connection: close\r\n\r\n"
            );
            let answer = shop.raw(&request).await;
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            let refused = ["400", "402", "404", "405"].contains(&status.as_str());
            assert!(refused, "{method} {path}: {answer}");
            assert!(shop.upstream.seen().is_empty(), "{method} {path}");
        }
    }
    // The control: what is sold is sold, at either spelling, and what is free is free.
    for path in ["/quote", "/quote/", "/%71uote"] {
        assert_eq!(shop.pay(&format!("GET {path}"), "").await.status, 200, "{path}");
    }
    assert_eq!(shop.get("/files/public/a").await.status, 200);
    assert_eq!(shop.upstream.seen().len(), 4);
    assert_eq!(shop.earned(), 75);
}

/// W-06: a method that a path does not have is refused with the ones it has, and never falls back
/// to a pattern that is wider and has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_method_does_not_fall_back() {
    let routes = format!(
        "{ROUTES}\n[[routes]]\nname = \"anything\"\nmethods = [\"DELETE\", \"GET\"]\n\
         path = \"/{{*rest}}\"\nupstream = \"up\"\nfree = true\n"
    );
    let shop = Shop::open_with("", &routes).await;
    assert_eq!(shop.send("DELETE /else", &[], "").await.status, 200);
    let answer = shop.send("DELETE /quote", &[], "").await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.fields["allow"], "GET, HEAD, POST");
    assert_eq!(shop.get("/quote").await.status, 402);
    assert_eq!(shop.upstream.seen().len(), 1);
}

/// W-06: asking for the head of a priced resource costs what the resource costs.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_paid_for() {
    let shop = Shop::open().await;
    let asked = shop.send("HEAD /quote", &[], "").await;
    assert_eq!(asked.status, 402);
    assert_eq!(asked.invitations()[0].request["amount"], "25");
    let read = shop.buy("GET /quote", "").await;
    assert_eq!(shop.present("HEAD /quote", &read, "").await.status, 402, "another purchase");
    assert_eq!(shop.pay("HEAD /quote", "").await.status, 200);
    assert_eq!(shop.upstream.seen()[0].0.method, "HEAD");
}

/// W-07: a message that two servers could cut differently is refused, or read by its transfer
/// coding alone as RFC 9112 §6.3 says; and either way its connection is closed, so that nothing
/// hidden in it is ever read as a request.
#[tokio::test(flavor = "multi_thread")]
async fn smuggled_requests_are_never_read() {
    let shop = Shop::open().await;
    let hidden = "GET /files/public/hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for (lengths, refused) in [
        ("Content-Length: 4\r\nTransfer-Encoding: chunked", false),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", false),
        ("Content-Length: 0\r\nContent-Length: 52", true),
        ("Content-Length: 52\r\nContent-Length: 0", true),
        ("Content-Length: 0, 52", true),
        ("Content-Length: +0", true),
        ("Content-Length: 0x0", true),
        ("Content-Length: ", true),
        ("Transfer-Encoding: xchunked", true),
        ("Transfer-Encoding: chunked, identity", true),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", true),
        ("Transfer-Encoding : chunked", true),
        ("Content-Length\t: 0", true),
    ] {
        let request = format!(
            "POST /files/public/seen HTTP/1.1\r\nHost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{hidden}"
        );
        let answer = shop.raw(&request).await;
        let refusal = answer.starts_with("HTTP/1.1 400");
        let closed = refusal || answer.contains("\r\nconnection: close\r\n");
        assert!(closed, "{lengths:?}: {answer}");
        assert_eq!(refusal, refused, "{lengths:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{lengths:?}: {answer}");
    }
    for (head, body) in shop.upstream.seen() {
        assert!(head.uri.path().ends_with("seen"), "{}", head.uri);
        assert!(body.is_empty(), "the transfer coding says that the body is empty");
        assert!(!head.headers.contains_key("content-length"));
    }
    let before = shop.upstream.seen().len();
    // The control: two requests on one connection, each with one length, are two requests.
    let plain = "POST /files/public/seen HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody\
         GET /files/public/hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(shop.raw(plain).await.matches("HTTP/1.1 200").count(), 2);
    assert_eq!(shop.upstream.seen().len(), before + 2);
}
