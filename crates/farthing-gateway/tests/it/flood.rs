//! Many who do not pay.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::shop::Shop;

/// What this process holds in memory, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn send_all(shop: &Shop, count: usize, credential: impl Fn(usize) -> Option<String>) {
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let url = format!("http://{}/quote", shop.address);
        let credentials: Vec<_> = (0..count / 8).map(|at| credential(8 * at + client)).collect();
        clients.spawn(async move {
            let http = reqwest::Client::new();
            for credential in credentials {
                let mut request = http.get(&url);
                if let Some(credential) = credential {
                    request = request.header("authorization", credential);
                }
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 402);
                answer.bytes().await.unwrap();
            }
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

/// How many; more with `FARTHING_FLOOD`, up to the register's 100,000.
fn flood() -> usize {
    std::env::var("FARTHING_FLOOD").map_or(8_000, |count| count.parse().unwrap())
}

/// D-01: a challenge is remembered by nobody: any number of them leaves the book as it was and the memory
/// too. Whoever pays after it is served.
#[tokio::test(flavor = "multi_thread")]
async fn challenges_are_not_remembered() {
    let shop = Shop::open().await;
    // Pools and buffers grow to their size first.
    send_all(&shop, 2_000, |_| None).await;
    let (records, memory) = (shop.books().records, resident_kib());
    send_all(&shop, flood(), |_| None).await;
    // A book of them all would hold at least a hundred bytes for each. Other tests run beside this one.
    let grown = resident_kib().saturating_sub(memory);
    println!("{} challenges, {grown} KiB", flood());
    assert_eq!(shop.books().records, records);
    assert!(shop.upstream.seen().is_empty());
    assert_eq!(shop.pay("GET /quote", "").await.status, 200);
}

/// D-05, D-02: ids that were never given out, and signatures of nobody, are turned away before the book is
/// asked: nothing is kept of them, nothing waits, and nothing is run. The genuine one is good after all.
#[tokio::test(flavor = "multi_thread")]
async fn forgeries_reach_neither_book_nor_upstream() {
    let shop = Shop::open().await;
    let genuine = shop.buy("GET /quote", "").await;
    let records = shop.books().records;
    let token = genuine.strip_prefix("Payment ").unwrap();
    let object = farthing_mpp::base64url::decode(token).unwrap();
    let object: serde_json::Value = serde_json::from_slice(&object).unwrap();
    let forged = |at: usize| {
        let mut object = object.clone();
        if at.is_multiple_of(2) {
            // As good as any id to somebody who cannot compute it.
            let id = object["challenge"]["id"].as_str().unwrap();
            let fresh = format!("{at:08}{}", &id[8..]);
            object["challenge"]["id"] = fresh.into();
        } else {
            let signature = object["payload"]["signature"].as_str().unwrap();
            let other = format!("{at:08}{}", &signature[8..]);
            object["payload"]["signature"] = other.into();
        }
        let text = farthing_mpp::base64url::encode(object.to_string().as_bytes());
        Some(format!("Payment {text}"))
    };
    send_all(&shop, 2_000, forged).await;
    assert_eq!(shop.books().records, records);
    assert!(shop.upstream.seen().is_empty());
    let metrics = shop.admin("/metrics").await.body;
    assert!(metrics.contains("farthing_store_queue 0"), "{metrics}");
    assert_eq!(shop.present("GET /quote", &genuine, "").await.status, 200);
    assert_eq!(shop.earned(), 25);
}

/// D-04: clients that send a paid request a byte at a time, or begin one and stop, hold up nobody, and are
/// let go in the end.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_hold_up_nobody() {
    let shop = Shop::open().await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        stream.write_all(b"GET /quote HTTP/1.1\r\nHost: x\r\nAuthoriz").await.unwrap();
        slow.push(stream);
    }
    assert_eq!(shop.pay("GET /quote", "").await.status, 200, "others are served meanwhile");
    for mut stream in slow {
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let ended = tokio::time::timeout(Duration::from_mins(2), ended).await;
        assert!(ended.is_ok(), "the connection is closed");
        assert!(!String::from_utf8_lossy(&answer).contains("200 OK"));
    }
    assert_eq!((shop.earned(), shop.upstream.seen().len()), (25, 1));
}
