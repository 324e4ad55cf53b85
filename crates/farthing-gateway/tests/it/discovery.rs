//! What the gateway says of itself.

use farthing_mpp::discovery::faults;
use serde_json::Value;

use crate::shop::{ROUTES, Shop};

async fn document(shop: &Shop) -> Value {
    shop.get("/openapi.json").await.json()
}

/// DISC.S01, DISC.S02, DISC.S07, DISC.S08: the document is where it should be, as what it should
/// be, may be kept a while, and may be read by a page of any origin.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_published() {
    let shop = Shop::open().await;
    let answer = shop.get("/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.fields["content-type"], "application/json");
    assert_eq!(answer.fields["cache-control"], "max-age=300");
    assert_eq!(answer.fields["access-control-allow-origin"], "*");
    let document = answer.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert_eq!(document["info"]["title"], "shop.example");
    assert_eq!(faults(document.as_object().unwrap()), []);
    let head = shop.send("HEAD /openapi.json", &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.as_str()), (200, ""));
    assert_eq!(shop.send("POST /openapi.json", &[], "").await.status, 405);
}

/// DISC.S03, DISC.S04, DISC.S05, DISC.S06, DISC.S09: every priced operation says how it is paid,
/// that it answers 402, and what body it takes; what is free says none of it.
#[tokio::test(flavor = "multi_thread")]
async fn every_priced_operation_says_its_price() {
    let shop = Shop::open().await;
    let document = document(&shop).await;
    let operation = |path: &str, method: &str| document["paths"][path][method].clone();
    let quote = operation("/quote", "post");
    let offer = &quote["x-payment-info"]["offers"][0];
    assert_eq!(offer["amount"], "25");
    assert_eq!(offer["currency"], "usd");
    assert_eq!((&offer["method"], &offer["intent"]), (&"prepaid".into(), &"charge".into()));
    assert!(quote["responses"]["402"].is_object());
    assert!(quote["requestBody"]["content"]["application/json"]["schema"].is_object());
    let report = operation("/report/{year}", "get");
    assert_eq!(report["x-payment-info"]["offers"][0]["amount"], Value::Null);
    assert_eq!(report["parameters"][0]["name"], "year");
    let public = operation("/files/public/{name}", "get");
    assert!(public.get("x-payment-info").is_none() && public["responses"].get("402").is_none());
}

/// DISC.C04, DISC.S09: discovery and the 402 agree, on every fixed price.
#[tokio::test(flavor = "multi_thread")]
async fn discovery_agrees_with_the_402() {
    let shop = Shop::open().await;
    let document = document(&shop).await;
    let mut compared = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(info) = operation.get("x-payment-info") else { continue };
            let path = path.replace("{year}", "2026").replace("{path}", "a");
            let asked = shop.send(&format!("{} {path}", method.to_uppercase()), &[], "").await;
            assert_eq!(asked.status, 402, "{method} {path}");
            let invitations = asked.invitations();
            let offers = info["offers"].as_array().unwrap();
            assert_eq!(offers.len(), invitations.len());
            for (offer, invitation) in offers.iter().zip(&invitations) {
                assert_eq!(offer["method"], invitation.method);
                assert_eq!(offer["currency"], invitation.request["currency"]);
                if !offer["amount"].is_null() {
                    assert_eq!(offer["amount"], invitation.request["amount"]);
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn language_models_have_a_document_of_their_own() {
    let title = "title = \"Quotes\"\ndescription = \"Words of others\"";
    let shop = Shop::open_with(title, ROUTES).await;
    let answer = shop.get("/llms.txt").await;
    assert_eq!(answer.fields["content-type"], "text/plain; charset=utf-8");
    for line in [
        "# Quotes",
        "> Words of others",
        "- `GET|HEAD|POST /quote` (0.25 usd): A quote",
        "- `GET|HEAD /report/{year}` (from 0.25 usd, depending on the query)",
        "- `GET|HEAD|POST /files/public/{name}` (free)",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line}\n{}", answer.body);
    }
    let document = document(&shop).await;
    assert_eq!(document["info"]["title"], "Quotes");
}
