//! Many at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::shop::{Shop, earned};

/// Sends the same request many times at once and counts the statuses.
async fn race(
    shop: &Arc<Shop>,
    requests: Vec<(String, Vec<(String, String)>)>,
) -> BTreeMap<u16, usize> {
    let tasks: Vec<_> = requests
        .into_iter()
        .map(|(line, fields)| {
            let shop = Arc::clone(shop);
            tokio::spawn(async move {
                let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                shop.send(&line, &fields, "").await.status.as_u16()
            })
        })
        .collect();
    let mut statuses = BTreeMap::new();
    for task in tasks {
        *statuses.entry(task.await.unwrap()).or_default() += 1;
    }
    statuses
}

/// R-01, CORE.S18: of any number of concurrent uses of one credential, one is served, and all are given
/// its answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_01_of_concurrent_uses_one_is_served() {
    let shop = Arc::new(Shop::open());
    let mut sold = 0;
    for uses in [2, 20, 50, 248, 1_000] {
        for _ in 0..if uses > 100 { 10 } else { 50 } {
            let credential = shop.buy("GET /a", "").await;
            let statuses = race(&shop, vec![("GET /a".into(), vec![credential]); uses]).await;
            sold += 1;
            assert_eq!(statuses, BTreeMap::from([(200, uses)]));
            assert_eq!(shop.served(), sold, "the handler ran once for {uses} uses");
        }
    }
    let books = shop.books();
    assert_eq!((books.claimed, books.delivered), (170, 170));
    assert_eq!(earned(&books), 170 * 2_500);
}

/// different payments of the same price at the same instant are all served.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_11_different_payments_are_all_served() {
    let shop = Arc::new(Shop::open());
    let mut requests = Vec::new();
    for _ in 0..64 {
        requests.push(("GET /a".to_owned(), vec![shop.buy("GET /a", "").await]));
    }
    assert_eq!(race(&shop, requests).await, BTreeMap::from([(200, 64)]));
    let books = shop.books();
    assert_eq!((books.delivered, earned(&books)), (64, 64 * 2_500));
}

/// eight payments under one Idempotency-Key have one effect and one answer, and one of them is
/// taken. For another request the key is misused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn r_10_an_idempotency_key_has_one_effect() {
    let shop = Arc::new(Shop::open());
    let key = |name: &str| ("idempotency-key".to_owned(), name.to_owned());
    let mut requests = Vec::new();
    for _ in 0..8 {
        requests.push(("POST /a".to_owned(), vec![shop.buy("POST /a", "").await, key("order-1")]));
    }
    let statuses = race(&shop, requests.clone()).await;
    assert_eq!(statuses, BTreeMap::from([(200, 8)]));
    assert_eq!((shop.served(), shop.books().claimed), (1, 1));
    let (name, value) = shop.buy("POST /a?other=1", "").await;
    let fields = [(name.as_str(), value.as_str()), ("idempotency-key", "order-1")];
    assert_eq!(shop.send("POST /a?other=1", &fields, "").await.status, 422);
    assert_eq!((shop.served(), shop.books().claimed), (1, 1));
    // Another key is another order; and what was refused was not spent.
    let mut another = requests.pop().unwrap();
    another.1[1] = key("order-2");
    let again = race(&shop, vec![another]).await;
    assert!(again.contains_key(&200) || again.contains_key(&402), "{again:?}");
    // The same key on a method that cannot do anything twice means nothing.
    let reading = vec![shop.buy("GET /a", "").await, key("order-1")];
    assert_eq!(race(&shop, vec![("GET /a".into(), reading)]).await, BTreeMap::from([(200, 1)]));
    for bad in ["", &"x".repeat(256)] {
        let answer = shop.send("POST /a", &[("idempotency-key", bad)], "").await;
        assert_eq!(answer.status, 400);
    }
    shop.books();
}

/// F-06: a client that hangs up while the rail is at work does not stop the settlement, and finds
/// its answer when it comes back; also one that comes back early.
#[tokio::test]
async fn a_client_that_hangs_up_does_not_tear_a_settlement() {
    let shop = Arc::new(Shop::open());
    let credential = shop.buy("GET /a", "").await;
    shop.dial.hold();
    let hasty = {
        let (shop, credential) = (Arc::clone(&shop), credential.clone());
        tokio::spawn(async move { shop.present("GET /a", &credential, "").await.status })
    };
    shop.until_pending().await;
    hasty.abort();
    assert!(hasty.await.unwrap_err().is_cancelled());
    let early = {
        let (shop, credential) = (Arc::clone(&shop), credential.clone());
        tokio::spawn(async move { shop.present("GET /a", &credential, "").await.status })
    };
    tokio::task::yield_now().await;
    shop.dial.release(1);
    assert_eq!(early.await.unwrap(), 200);
    assert_eq!(shop.present("GET /a", &credential, "").await.status, 200);
    assert_eq!(shop.served(), 1);
    let books = shop.books();
    assert_eq!((books.claimed, books.delivered, shop.dial.settlements()), (1, 1, 1));
}
