//! Receipts that anybody can check who reads the keys that the gateway publishes.

use farthing_core::Payer as _;
use farthing_evidence::{Expected, ReceiptClaims, TrustedKeys};

use crate::shop::{Answer, ROUTES, Shop, config};

const KEYS: &str = "/.well-known/farthing/jwks.json";

/// The routes of a shop that signs with the first of some development keys.
fn signing(shop: &Shop, keys: &[[u8; 32]]) -> String {
    let places: Vec<String> = keys
        .iter()
        .map(|key| {
            let path = shop.folder.path().join(format!("key-{}", key[0]));
            let secret = farthing_evidence::SecretKey::from_bytes(key);
            std::fs::write(&path, &*secret.expose()).unwrap();
            format!("\"file:{}\"", path.display())
        })
        .collect();
    format!("[receipts]\nkeys = [{}]\n{ROUTES}", places.join(", "))
}

fn receipt(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.fields["farthing-receipt"].to_str().unwrap().to_owned()
}

async fn published(shop: &Shop) -> TrustedKeys {
    let answer = shop.get(KEYS).await;
    assert_eq!(answer.fields["content-type"], "application/jwk-set+json");
    assert_eq!(answer.fields["access-control-allow-origin"], "*");
    TrustedKeys::from_jwks(&answer.body).unwrap()
}

/// Keys rotate without a restart: what the old one signed is believed for as long as it is published.
#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_signed_and_their_keys_published() {
    let shop = Shop::open().await;
    // Who signs nothing publishes nothing, and gives no receipts but the protocol's.
    assert_eq!(shop.get(KEYS).await.status, 404);
    let plain = shop.pay("GET /quote", "").await;
    assert!(!plain.fields.contains_key("farthing-receipt"));
    assert!(plain.fields.contains_key("payment-receipt"));

    let reload = |keys: &[[u8; 32]]| {
        let text = shop.text("", &signing(&shop, keys));
        shop.gateway.reload(&config(&text)).unwrap();
    };
    reload(&[[1; 32]]);
    let first = receipt(&shop.pay("POST /quote", "a question").await);
    let any = Expected { issuer: Some("shop.example"), challenge: None };
    let claims = ReceiptClaims::verify(&first, &published(&shop).await, any).unwrap();
    assert_eq!((claims.amount.atoms(), claims.route.as_str()), (25, "quote"));
    assert!(claims.body.is_some());
    assert_eq!(claims.payer, shop.payer.account());

    reload(&[[2; 32], [1; 32]]);
    let second = receipt(&shop.pay("GET /quote", "").await);
    let both = published(&shop).await;
    ReceiptClaims::verify(&first, &both, any).unwrap();
    ReceiptClaims::verify(&second, &both, any).unwrap();

    reload(&[[2; 32]]);
    let new = published(&shop).await;
    ReceiptClaims::verify(&second, &new, any).unwrap();
    ReceiptClaims::verify(&first, &new, any).unwrap_err();
    assert_eq!(shop.send(&format!("POST {KEYS}"), &[], "").await.status, 405);
}
