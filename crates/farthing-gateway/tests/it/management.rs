//! The management listener.

use farthing_core::Payer;
use http::StatusCode;

use crate::shop::{Shop, TOKEN};

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_have_their_own_door() {
    let shop = Shop::open().await;
    shop.pay("GET /quote", "").await;
    shop.get("/files/public/a").await;
    assert_eq!(shop.admin("/healthz").await.status, 200);
    assert_eq!(shop.admin("/readyz").await.status, 200);
    let metrics = shop.admin("/metrics").await;
    assert!(metrics.fields["content-type"].to_str().unwrap().contains("openmetrics-text"));
    for line in [
        "farthing_decisions_total{route=\"quote\",verdict=\"challenged\"} 1",
        "farthing_decisions_total{route=\"quote\",verdict=\"paid\"} 1",
        "farthing_paid_atoms_total{asset=\"usd\",method=\"prepaid\"} 25",
        "farthing_upstream_answers_total{route=\"quote\",status=\"200\"} 1",
        "farthing_store_up 1",
        "farthing_decision_seconds_count 2",
    ] {
        assert!(metrics.body.lines().any(|it| it == line), "{line}\n{}", metrics.body);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/v1/prepaid/fund"] {
        assert_eq!(shop.get(path).await.status, 404, "{path} is not public");
    }
}

async fn post(shop: &Shop, path: &str, token: Option<&str>, json: &str) -> (StatusCode, String) {
    let mut request = shop.http.post(format!("http://{}/v1/prepaid/{path}", shop.admin));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let request = request.header("content-type", "application/json").body(json.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// An operator's entry needs the token, counts once, and moves money in the book.
#[tokio::test(flavor = "multi_thread")]
async fn entries_need_the_token_and_count_once() {
    let shop = Shop::open().await;
    let fund = r#"{"account":"agent","amount":"1.50","asset":"usd","reference":"inv-7"}"#;
    for wrong in [None, Some(""), Some("x"), Some(&TOKEN[1..])] {
        let (status, _) = post(&shop, "fund", wrong, fund).await;
        assert_eq!(status, 401, "{wrong:?}");
    }
    let held = |shop: &Shop| {
        let account = "prepaid/agent/usd".parse().unwrap();
        shop.books().accounts[&account].credits_posted
    };
    assert_eq!(held(&shop), 1_000);
    let first = post(&shop, "fund", Some(TOKEN), fund).await;
    assert_eq!(first, (StatusCode::OK, r#"{"new":true}"#.to_owned()));
    let second = post(&shop, "fund", Some(TOKEN), fund).await;
    assert_eq!(second, (StatusCode::OK, r#"{"new":false}"#.to_owned()));
    let other = fund.replace("1.50", "1.51");
    assert_eq!(post(&shop, "fund", Some(TOKEN), &other).await.0, 409);
    assert_eq!(held(&shop), 1_150);
}

/// M-04, M-10: an operator's amount is as exact as a payer's.
#[tokio::test(flavor = "multi_thread")]
async fn odd_entries_are_refused() {
    let shop = Shop::open().await;
    let fund = r#"{"account":"agent","amount":"1.50","asset":"usd","reference":"inv-7"}"#;
    for (was, is) in [
        ("1.50", "1.505"),
        ("1.50", "-1.50"),
        ("1.50", "1e2"),
        ("1.50", "0"),
        ("1.50", ""),
        ("\"1.50\"", "1.5"),
        ("usd", "eur"),
        ("agent", ""),
        ("\"reference\"", "\"ref\""),
        ("{", "["),
    ] {
        let (status, body) = post(&shop, "fund", Some(TOKEN), &fund.replacen(was, is, 1)).await;
        assert!(status.is_client_error(), "{was} -> {is}: {status} {body}");
    }
    let (status, _) = post(&shop, "keys", Some(TOKEN), r#"{"key":"z6Mk","account":"a"}"#).await;
    assert_eq!(status, 422);
    assert_eq!(shop.books().accounts[&"prepaid/agent/usd".parse().unwrap()].credits_posted, 1_000);
}

/// A key that is detached spends nothing from then on, whatever it signed before.
#[tokio::test(flavor = "multi_thread")]
async fn a_detached_key_spends_nothing() {
    let shop = Shop::open().await;
    let credential = shop.buy("GET /quote", "").await;
    let did = shop.payer.account();
    let url = format!("http://{}/v1/prepaid/keys", shop.admin);
    let body = format!(r#"{{"key":"{did}"}}"#);
    let request = shop.http.delete(url).bearer_auth(TOKEN).body(body.clone());
    let answer = request.header("content-type", "application/json").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 402);
    assert_eq!(shop.earned(), 0);
    let attach = format!(r#"{{"key":"{did}","account":"agent"}}"#);
    shop.enter("keys", &attach).await;
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 200);
    assert_eq!(shop.earned(), 25);
}
