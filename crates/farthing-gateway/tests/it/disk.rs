//! A disk that is full, and one that cannot be written.

use std::process::Command;
use std::sync::Arc;

use farthing_gateway::{Gateway, StartError};
use farthing_testkit::disk::Disk;

use crate::shop::{ROUTES, Shop, Upstream, config, config_text, serve};

/// C-08: on a full disk nothing paid is served and nothing acknowledged; what is free goes on, and
/// readiness says so. Before it was full, and with room again, the same credential is good.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_what_is_paid_for() {
    let Some(disk) = Disk::mount("size=4m") else { return };
    let folder = tempfile::tempdir_in(disk.path()).unwrap();
    let book = folder.path().join("book.db");
    let upstream = Upstream::start().await;
    let shop = Shop::open_in(folder, upstream.clone(), "", ROUTES).await;
    assert_eq!(shop.admin("/readyz").await.status, 200);
    let before = shop.buy("GET /quote", "").await;
    assert_eq!(shop.present("GET /quote", &before, "").await.status, 200);
    Disk::fill(disk.path());
    let credential = shop.buy("GET /quote", "").await;
    for _ in 0..3 {
        let answer = shop.present("GET /quote", &credential, "").await;
        assert_eq!(answer.status, 503, "our outage is not the client's to pay for");
        assert!(answer.fields.contains_key("retry-after"));
    }
    let ready = shop.admin("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.body.as_str()), (503, "the book cannot be written\n"));
    assert_eq!(shop.admin("/healthz").await.status, 200);
    assert_eq!(shop.get("/files/public/a").await.status, 200, "what is free goes on");
    assert_eq!(shop.get("/quote").await.status, 402, "and what is paid for is still offered");
    assert_eq!(upstream.seen().len(), 2);
    Disk::clear(disk.path());
    assert_eq!(shop.present("GET /quote", &credential, "").await.status, 503, "until a restart");
    let Shop { gateway, folder, .. } = shop;
    gateway.stop().await;
    let text = config_text(&book, upstream.address, "", ROUTES);
    let again = Gateway::start(&config(&text)).await.unwrap();
    let url = format!("http://{}/quote", again.address());
    for (credential, replayed) in [(&before, true), (&credential, false), (&credential, true)] {
        let asked = reqwest::Client::new().get(&url).header("authorization", credential);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers().contains_key("farthing-replayed"), replayed);
    }
    drop(folder);
}

/// F-05: where the handler comes first and the payment cannot be written, the answer is not given.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_paid_for_is_not_given() {
    let Some(disk) = Disk::mount("size=4m") else { return };
    let folder = tempfile::tempdir_in(disk.path()).unwrap();
    let fills = Arc::new(std::sync::atomic::AtomicBool::default());
    let (own, place) = (Arc::clone(&fills), disk.path().to_owned());
    let router = axum::Router::new().fallback(move || {
        let (fills, place) = (Arc::clone(&own), place.clone());
        async move {
            if fills.load(std::sync::atomic::Ordering::SeqCst) {
                Disk::fill(&place);
            }
            "worth its price"
        }
    });
    let routes =
        ROUTES.replacen("price = \"0.25 usd\"", "price = \"0.25 usd\"\nsettle = \"after\"", 1);
    let shop = Shop::open_in(folder, Upstream::at(serve(router).await), "", &routes).await;
    assert_eq!(shop.pay("GET /quote", "").await.body, "worth its price", "the control");
    fills.store(true, std::sync::atomic::Ordering::SeqCst);
    let answer = shop.pay("GET /quote", "").await;
    assert_eq!(answer.status, 503);
    assert!(!answer.body.contains("worth its price"));
    assert!(!answer.fields.contains_key("payment-receipt"));
    assert_eq!(shop.earned(), 25, "and nobody has paid for it");
}

/// C-08: a book on a disk that cannot be written is not opened.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_is_no_place_to_start() {
    let Some(disk) = Disk::mount("size=4m") else { return };
    let text =
        config_text(&disk.path().join("book.db"), "127.0.0.1:1".parse().unwrap(), "", ROUTES);
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let mount = Command::new("mount").args(["-o", &options]).arg(disk.path()).status();
        assert!(mount.unwrap().success());
    };
    Gateway::start(&config(&text)).await.unwrap().stop().await;
    remount("ro");
    let error = Gateway::start(&config(&text)).await.err().unwrap();
    assert!(matches!(error, StartError::Store(_)), "{error}");
    remount("rw");
    assert!(Gateway::start(&config(&text)).await.is_ok(), "the control");
}
