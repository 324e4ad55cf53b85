//! `standardwebhooks`, the standard's own library from npm, verifies what a gateway tells.

use std::path::Path;
use std::process::Stdio;

use farthing_gateway::{Config, Gateway};
use farthing_testkit::store::{START, rail_purchase};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::mppx::peers;

/// Development secrets of webhooks.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

const CONFIG: &str = r#"
[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:SECRET"]

[store]
memory = true

[assets.usd]
decimals = 2

[seller]
name = "seller"
"#;

/// A receiver that holds one secret, and what it says of each message.
struct Receiver {
    _node: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: u16,
}

impl Receiver {
    async fn open(peers: &Path, secret: &str) -> Self {
        // A module's imports are looked for from where it stands.
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("npm/webhook.mjs");
        let script = peers.join("webhook.mjs");
        std::fs::copy(ours, &script).unwrap();
        let mut node = Command::new("node");
        node.arg(script).arg(secret).stdout(Stdio::piped()).kill_on_drop(true);
        let mut node = node.spawn().unwrap();
        let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().unwrap().parse().unwrap();
        Self { _node: node, lines, port }
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap()
    }

    fn config(&self, name: &str, secrets: &str) -> String {
        let port = self.port;
        format!(
            "\n[[webhooks]]\nname = \"{name}\"\nurl = \"http://127.0.0.1:{port}/\"\nsecrets = {secrets}\n"
        )
    }
}

/// What is signed with a receiver's secret is verified and taken, also while secrets are rotated; what
/// is signed with another is refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_standards_own_library_verifies() {
    let Some(peers) = peers() else { return };
    let mut plain = Receiver::open(&peers, SECRET).await;
    let mut rotated = Receiver::open(&peers, SECRET).await;
    let mut other = Receiver::open(&peers, OTHER).await;
    let text = [
        CONFIG.to_owned(),
        plain.config("plain", "[\"env:HOOK\"]"),
        rotated.config("rotated", "[\"env:OTHER\", \"env:HOOK\"]"),
        other.config("other", "[\"env:HOOK\"]"),
    ]
    .concat();
    let config = Config::parse(&text, Path::new("."), &|name| {
        Some(match name {
            "HOOK" => SECRET.to_owned(),
            "OTHER" => OTHER.to_owned(),
            _ => "q7Jx0v2mZk9TtY5cRbW3nLhE8sUaPdGf".to_owned(),
        })
    });
    let gateway = Gateway::start(&config.unwrap_or_else(|error| panic!("{error}"))).await.unwrap();
    let store = gateway.store().port();
    store.claim(rail_purchase("a", 25), START).await.unwrap();
    let (one, two, three) = (plain.next().await, rotated.next().await, other.next().await);
    assert_eq!(
        (&one["status"], &two["status"], &three["status"]),
        (&204.into(), &204.into(), &401.into())
    );
    assert_eq!((&one["said"]["type"], &one["id"]), (&"payment.held".into(), &three["id"]));
    assert_eq!(one["said"]["data"]["amount"]["text"], "0.25 usd");
    assert_eq!(one["said"], two["said"]);
}
