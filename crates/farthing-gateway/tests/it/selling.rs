//! Selling, end to end.

use farthing_gateway::Gateway;

use crate::shop::{Answer, ROUTES, Shop, config, config_text};

/// CORE.S01, CORE.S08, R-10: asked, paid, answered, receipted, and never again for the same proof.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_buys_one_answer() {
    let shop = Shop::open().await;
    let asked = shop.get("/quote").await;
    assert_eq!(asked.status, 402);
    assert_eq!(asked.fields["cache-control"], "no-store");
    assert_eq!(asked.fields["content-type"], "application/problem+json");
    assert!(shop.upstream.seen().is_empty());
    let credential = shop.credential(&asked.invitations()[0]).await;
    let paid = shop.present("GET /quote", &credential, "").await;
    assert_eq!((paid.status.as_u16(), paid.body.as_str()), (200, "the answer"));
    assert_eq!(paid.fields["cache-control"], "private");
    assert!(paid.fields.contains_key("payment-receipt"));
    let again = shop.present("GET /quote", &credential, "").await;
    assert_eq!((again.status.as_u16(), again.body.as_str()), (200, "the answer"));
    assert_eq!(again.fields["farthing-replayed"], "true");
    assert_eq!(again.fields["payment-receipt"], paid.fields["payment-receipt"]);
    assert_eq!((shop.upstream.seen().len(), shop.earned()), (1, 25));
}

/// CORE.S07, B-02: a POST is paid for one body.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_for_one_body() {
    let shop = Shop::open().await;
    let credential = shop.buy("POST /quote", "{\"q\":1}").await;
    for other in ["", "{\"q\":2}", "{\"q\": 1}", "{\"q\":1}\n"] {
        let answer = shop.present("POST /quote", &credential, other).await;
        assert_eq!(answer.status, 402, "{other:?}");
    }
    assert_eq!(shop.earned(), 0);
    let answer = shop.present("POST /quote", &credential, "{\"q\":1}").await;
    assert_eq!(answer.status, 200);
    assert_eq!(shop.upstream.seen()[0].1, "{\"q\":1}");
    assert_eq!(shop.earned(), 25);
}

/// B-15: a query that decides the price is paid at its price, however it is spelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_dear_query_has_its_own_price() {
    let shop = Shop::open().await;
    let price = |answer: &Answer| answer.invitations()[0].request["amount"].clone();
    assert_eq!(price(&shop.get("/report/2026").await), "25");
    assert_eq!(price(&shop.get("/report/2026?size=small").await), "25");
    for full in ["size=full", "s%69ze=f%75ll", "x=1&size=full", "size=full&x=1"] {
        assert_eq!(price(&shop.get(&format!("/report/2026?{full}")).await), "100", "{full}");
    }
    for twice in ["size=full&size=small", "size=small&size=full", "size=&s%69ze=full"] {
        assert_eq!(shop.get(&format!("/report/2026?{twice}")).await.status, 400, "{twice}");
    }
    let cheap = shop.buy("GET /report/2026?size=small", "").await;
    assert_eq!(shop.present("GET /report/2026?size=full", &cheap, "").await.status, 402);
    assert_eq!(shop.present("GET /report/2025?size=small", &cheap, "").await.status, 402);
    // What is not part of the purchase may differ.
    let answer = shop.present("GET /report/2026?size=small&session=7", &cheap, "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(shop.earned(), 25);
}

/// B-05: a challenge of one realm is nothing at another, even where both share a secret.
#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_stays_in_its_realm() {
    let shop = Shop::open().await;
    let credential = shop.buy("GET /quote", "").await;
    for realm in ["other.example", "SHOP.example", "shop.example.", "shop.example:443"] {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("book.db");
        let text = config_text(&book, shop.upstream.address, "", ROUTES);
        let text = text.replace("realm = \"shop.example\"", &format!("realm = \"{realm}\""));
        let other = Gateway::start(&config(&text)).await.unwrap();
        let url = format!("http://{}/quote", other.address());
        let asked = shop.http.get(url).header("authorization", &credential).send().await.unwrap();
        assert_eq!(asked.status(), 402, "{realm}");
        let body = asked.text().await.unwrap();
        assert!(body.contains("invalid-challenge"), "{body}");
        other.stop().await;
    }
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 200);
    assert_eq!(shop.earned(), 25);
}

/// CORE.S23: the description is in the language the client prefers.
#[tokio::test(flavor = "multi_thread")]
async fn a_description_is_in_the_clients_language() {
    let shop = Shop::open().await;
    for (accepted, description) in [
        (None, "A quote"),
        (Some("de"), "Ein Zitat"),
        (Some("de-AT"), "Ein Zitat"),
        (Some("fr, de;q=0.5"), "Ein Zitat"),
        (Some("de;q=0.5, pt-br;q=0.9"), "Uma citação"),
        (Some("de;q=0, en"), "A quote"),
        (Some("*"), "A quote"),
        (Some(";;q=x,"), "A quote"),
    ] {
        let fields: Vec<_> = accepted.map(|it| ("accept-language", it)).into_iter().collect();
        let asked = shop.send("GET /quote", &fields, "").await;
        let said = asked.invitations()[0].description.clone();
        assert_eq!(said.as_deref(), Some(description), "{accepted:?}");
    }
}

/// CORE.S21: one address that asks without end is slowed down; the limit is the operator's.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_without_end_is_slowed_down() {
    let limits = format!("{ROUTES}\n[limits]\nrequests_per_second = 1\nburst = 3\n");
    let shop = Shop::open_with("", &limits).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(shop.get("/quote").await);
    }
    assert!(answers[..3].iter().all(|answer| answer.status == 402));
    let limited = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(limited.fields.contains_key("retry-after"));
    // What is free is not limited, and neither is another gateway.
    assert_eq!(shop.get("/files/public/a").await.status, 200);
}

/// Money that is not there buys nothing, and the same credential works once it is.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_account_buys_nothing() {
    let shop = Shop::open().await;
    for n in 0..10 {
        assert_eq!(shop.pay(&format!("GET /report/{n}?size=full"), "").await.status, 200);
    }
    let credential = shop.buy("GET /quote", "").await;
    let short = shop.present("GET /quote", &credential, "").await;
    assert_eq!(short.status, 402);
    assert!(short.body.contains("payment-insufficient"), "{}", short.body);
    assert_eq!(shop.earned(), 1_000);
    let fund = r#"{"account":"agent","amount":"0.25","asset":"usd","reference":"second"}"#;
    shop.enter("fund", fund).await;
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 200);
    assert_eq!(shop.earned(), 1_025);
}
