use std::net::IpAddr;

use axum::body::Body;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::guard::{Guard, is_off_limits};
use super::{Asked, check_host, outwards, token};

fn asked(scheme: Scheme, authority: &str) -> Asked {
    Asked { token: Zeroizing::default(), scheme, authority: authority.parse().unwrap() }
}

fn fields(name: &http::HeaderName, values: &[&str]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for value in values {
        fields.append(name.clone(), HeaderValue::try_from(*value).unwrap());
    }
    fields
}

#[test]
fn a_token_is_a_password_or_stands_by_itself() {
    let shown = |values: &[&str]| {
        token(&fields(&PROXY_AUTHORIZATION, values)).map(|token| token.as_str().to_owned())
    };
    // "agent:fta1_x.y" and ":fta1_x.y"
    assert_eq!(shown(&["Basic YWdlbnQ6ZnRhMV94Lnk="]).as_deref(), Some("fta1_x.y"));
    assert_eq!(shown(&["basic OmZ0YTFfeC55"]).as_deref(), Some("fta1_x.y"));
    assert_eq!(shown(&["Bearer fta1_x.y"]).as_deref(), Some("fta1_x.y"));
    for none in ["", "Basic", "Basic %", "Basic YWdlbnQ=", "Digest x", "fta1_x.y"] {
        assert_eq!(shown(&[none]), None, "{none:?}");
    }
    assert_eq!(shown(&[]), None);
    assert_eq!(shown(&["Bearer a", "Bearer b"]), None);
}

#[test]
fn a_request_names_one_host() {
    let check = |authority: &str, hosts: &[&str]| {
        check_host(&fields(&HOST, hosts), &asked(Scheme::HTTP, authority)).is_ok()
    };
    assert!(check("shop.example:8080", &["shop.example:8080"]));
    assert!(check("shop.example", &["SHOP.example:80"]));
    assert!(check("[::1]:80", &["[::1]"]));
    assert!(!check("shop.example", &[]));
    assert!(!check("shop.example", &["other.example"]));
    assert!(!check("shop.example", &["shop.example:81"]));
    assert!(!check("shop.example", &["shop.example", "shop.example"]));
    assert!(!check("shop.example", &["shop.example, other.example"]));
    assert!(!check("me@shop.example", &["shop.example"]));
    let https = asked(Scheme::HTTPS, "shop.example:443");
    assert!(check_host(&fields(&HOST, &["shop.example"]), &https).is_ok());
}

#[tokio::test]
async fn some_places_are_off_limits() {
    for wrong in [
        "169.254.169.254",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "100.100.100.200",
        "::",
        "fe80::1",
        "ff02::1",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::169.254.169.254",
    ] {
        assert!(is_off_limits(wrong.parse::<IpAddr>().unwrap()), "{wrong}");
    }
    for right in ["127.0.0.1", "::1", "10.1.2.3", "93.184.216.34", "2606:2800::1"] {
        assert!(!is_off_limits(right.parse::<IpAddr>().unwrap()), "{right}");
    }
    let guard = Guard::new(vec![7_000]);
    let refused = |checked: Result<(), crate::problem::Problem>| {
        checked.is_err_and(|problem| problem.is(StatusCode::FORBIDDEN))
    };
    guard.check("127.0.0.1", 7_001).await.unwrap();
    guard.check("localhost", 7_001).await.unwrap();
    for own in ["127.0.0.1", "127.0.0.2", "::1", "localhost", "::ffff:127.0.0.1"] {
        assert!(refused(guard.check(own, 7_000).await), "{own}");
    }
    assert!(refused(guard.check("169.254.169.254", 80).await));
    assert!(guard.resolve("127.0.0.1", 7_001).await.is_ok());
    assert!(guard.resolve("169.254.169.254", 80).await.is_err());
}

/// A name that points elsewhere by the time of the connection: nothing is said to what is off limits.
#[tokio::test]
async fn a_connection_is_looked_at_before_anything_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://localhost:{port}/");
    let said_to = async |ours: Vec<u16>| {
        let outwards = outwards(Guard::new(ours)).unwrap();
        let request = Request::get(&url).body(Body::empty()).unwrap();
        let asking = tokio::spawn(outwards.request(request));
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut said = [0; 16];
        let length = stream.read(&mut said).await.unwrap();
        // Nobody answers.
        drop(stream);
        assert!(asking.await.unwrap().is_err());
        String::from_utf8_lossy(&said[..length]).into_owned()
    };
    assert_eq!(said_to(vec![port]).await, "");
    // The positive control.
    assert!(said_to(Vec::new()).await.starts_with("GET / HTTP/1.1"));
}
