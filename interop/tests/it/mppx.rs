//! `mppx`, the official command from npm, judges a running gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use farthing_gateway::{Config, Gateway};
use serde_json::Value;
use tokio::process::Command;

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]
title = "Forecasts"
description = "The weather, by the call"
categories = ["data"]
docs = { homepage = "https://forecasts.example/" }

[store]
memory = true

[assets.usd]
decimals = 2

[rails.prepaid]

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://UPSTREAM"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast"
upstream = "api"
price = "0.25 usd"
description = "A forecast"

[[routes]]
name = "ask"
methods = ["POST"]
path = "/ask"
upstream = "api"
price = "0.25 usd"
input_schema = { type = "object", properties = { q = { type = "string" } } }

[[routes]]
name = "terms"
methods = ["GET"]
path = "/terms"
upstream = "api"
free = true
"#;

/// The folder of the peers from npm, or nothing when they are not installed.
pub(crate) fn peers() -> Option<PathBuf> {
    let folder = std::env::var_os("FARTHING_PEERS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: FARTHING_PEERS does not say where mppx is; ./x test installs it");
    }
    folder
}

async fn gateway() -> Gateway {
    let upstream = upstream().await;
    let text = CONFIG.replace("UPSTREAM", &upstream.to_string());
    let secret = |_: &str| Some("q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".to_owned());
    let config = Config::parse(&text, Path::new("."), &secret);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    Gateway::start(&config).await.unwrap()
}

pub(crate) async fn upstream() -> SocketAddr {
    let router = axum::Router::new().fallback(|| async { "sunny" });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Runs `mppx` in a home of its own, and gives its exit code and what it printed.
async fn mppx(peers: &Path, args: &[&str]) -> (i32, String) {
    let home = tempfile::tempdir().unwrap();
    run_mppx(Command::new("node"), peers, home.path(), args).await
}

/// Lets `node` run `mppx` with `home` as its home, and gives its exit code and what it printed.
pub(crate) async fn run_mppx(
    mut node: Command,
    peers: &Path,
    home: &Path,
    args: &[&str],
) -> (i32, String) {
    node.arg(peers.join("node_modules/mppx/dist/bin.js")).args(args);
    node.env("HOME", home).env("NO_COLOR", "1").kill_on_drop(true);
    let output = node.output().await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned())
}

/// CORE.S01, CORE.S04, CORE.S10, DISC.S01: `mppx validate` finds the routes by discovery, and
/// nothing wrong with their challenges and refusals. It does not pay, having no prepaid account.
#[tokio::test(flavor = "multi_thread")]
async fn validate_passes() {
    let Some(peers) = peers() else { return };
    let gateway = gateway().await;
    let url = format!("http://localhost:{}", gateway.address().port());
    let (code, text) = mppx(&peers, &["validate", &url, "-y"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Paid endpoints found (2 endpoint(s))"), "{text}");
    assert!(text.contains("Challenge parseable (prepaid/charge)"), "{text}");
    assert!(text.contains("Malformed credential returns 402"), "{text}");
    assert!(!text.contains('✗'), "{text}");
}

/// DISC.S01, DISC.S03: `mppx discover validate` accepts the document, and refuses it without the
/// 402 response that DISC.S05 asks for.
#[tokio::test(flavor = "multi_thread")]
async fn the_discovery_document_is_valid() {
    let Some(peers) = peers() else { return };
    let gateway = gateway().await;
    let url = format!("http://localhost:{}/openapi.json", gateway.address().port());
    let (code, text) = mppx(&peers, &["discover", "validate", &url]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("Discovery document is valid"), "{text}");
    // The control.
    let document = reqwest_text(&url).await;
    let mut document: Value = serde_json::from_str(&document).unwrap();
    document["paths"]["/forecast"]["get"]["responses"] = serde_json::json!({});
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let (code, text) = mppx(&peers, &["discover", "validate", file.to_str().unwrap()]).await;
    assert_ne!(code, 0, "{text}");
}

async fn reqwest_text(url: &str) -> String {
    reqwest::get(url).await.unwrap().text().await.unwrap()
}
