//! `farthing demo`: an API, a gateway, a wallet and their books, in a folder that is thrown away.
//!
//! Everything is real: a journal on disk, sockets on this machine, and the commands shown are run
//! as processes of their own. A step that does not come out as it should ends the demo with an
//! error.

use std::net::SocketAddr;
use std::process::{Output, Stdio};

use farthing_core::{Buyer, Payer};
use farthing_gateway::{Config, Gateway};
use farthing_keys::SecretKey;
use farthing_money::{Asset, Assets};
use farthing_protocols::mpp::MppBuyer;
use farthing_rail_prepaid::PrepaidPayer;
use http::HeaderMap;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::failure::{Done, Failure};

/// What protects the demo's key: nothing that matters.
const PASSPHRASE: &str = "a passphrase for a demo";

/// A demo's world: the folder, and the binary that works in it.
struct Demo {
    folder: TempDir,
    secret: String,
}

pub(crate) async fn run() -> Done {
    let demo = Demo::new()?;
    let upstream = serve_forecasts().await.map_err(Failure::other)?;
    title("A seller puts a gateway in front of an API");
    demo.write("farthing.toml", &gateway_toml(upstream))?;
    demo.show("farthing.toml", "[[routes]]")?;

    title("An agent's owner makes a wallet and caps it; the operator funds its account");
    let key = SecretKey::generate()?;
    demo.farthing(&["wallet", "import", "agent"], &hex(&key)).await?;
    demo.write("wallet/wallet.toml", WALLET_TOML)?;
    demo.show("wallet/wallet.toml", "key")?;
    let payer = PrepaidPayer::new(key.expose(), assets());
    demo.farthing(&["prepaid", "attach", &payer.account(), "agent-inc"], "").await?;
    let fund = ["prepaid", "fund", "agent-inc", "5.00 usd", "--reference", "invoice-1"];
    demo.farthing(&fund, "").await?;

    println!("\n$ farthing serve &");
    let secret = demo.secret.clone();
    let text = demo.read("farthing.toml")?;
    let config = Config::parse(&text, demo.folder.path(), &move |_| Some(secret.clone()));
    let gateway = Gateway::start(&config.map_err(Failure::other)?).await.map_err(Failure::other)?;
    let url = format!("http://{}", gateway.address());
    println!("listening on {url}");

    let sold = demo.sell(&url, &payer).await;
    gateway.stop().await;
    sold?;
    println!("\nAll of it held. Next: README.md, docs/gateway.md, docs/wallet.md.");
    Ok(())
}

impl Demo {
    fn new() -> Result<Self, Failure> {
        let folder = tempfile::tempdir().map_err(Failure::other)?;
        std::fs::create_dir(folder.path().join("wallet")).map_err(Failure::other)?;
        Ok(Self { folder, secret: hex(&SecretKey::generate()?) })
    }

    /// The story itself.
    async fn sell(&self, url: &str, payer: &PrepaidPayer) -> Done {
        let forecast = format!("{url}/forecast/rome");
        title("A request without payment gets a 402 with an offer");
        let asked = get(&forecast, None).await?;
        expect(asked.status == 402, "the price is asked")?;

        title("The wallet pays, and the answer comes with a receipt");
        let report = "wallet/report.json";
        let pay = ["pay", "-i", "--report", report, &forecast];
        let paid = self.farthing(&pay, "").await?;
        expect(paid.contains("sunny") && paid.contains("payment-receipt"), "paid and receipted")?;
        let report: serde_json::Value =
            serde_json::from_str(&self.read(report)?).map_err(Failure::other)?;
        let payment = report["payment"].as_str().unwrap_or_default().to_owned();

        title("A credential buys once, and an answer that was lost is given again");
        let credential = credential(&asked.fields, payer).await?;
        let first = get(&forecast, Some(&credential)).await?;
        expect(first.status == 200, "the first time it buys an answer")?;
        let second = get(&forecast, Some(&credential)).await?;
        expect(second.status == 200, "the second time it is given the same answer")?;
        let replayed = second.fields.contains_key("farthing-replayed");
        expect(replayed, "and nothing is bought")?;

        title("What the owner has not allowed is not paid");
        let report = format!("{url}/report/2026");
        let refused = self.run(&["pay", &report], "").await?;
        expect(refused.status.code() == Some(3), "the wallet refuses, with its own exit code")?;

        title("One payment, from the challenge to the answer");
        let trace = self.farthing(&["trace", &payment], "").await?;
        expect(trace.contains("paid and delivered"), "the trace tells the whole story")?;

        title("The seller's books, and the wallet's");
        let balances = self.farthing(&["ledger", "balances"], "").await?;
        expect(balances.contains("0.50 usd"), "two answers were paid for")?;
        let verified = self.farthing(&["ledger", "verify"], "").await?;
        expect(verified.contains("sound:"), "the books are sound")?;
        let wallet = self.farthing(&["ledger", "verify", "--wallet"], "").await?;
        expect(wallet.contains("sound:"), "the wallet's books are sound")
    }

    fn write(&self, name: &str, text: &str) -> Done {
        std::fs::write(self.folder.path().join(name), text).map_err(Failure::other)
    }

    fn read(&self, name: &str) -> Result<String, Failure> {
        std::fs::read_to_string(self.folder.path().join(name)).map_err(Failure::other)
    }

    /// Prints a file from the line on that starts with `from`.
    fn show(&self, name: &str, from: &str) -> Done {
        println!("\n$ cat {name}");
        let text = self.read(name)?;
        let lines = text.lines().skip_while(|line| !line.starts_with(from));
        lines.for_each(|line| println!("{line}"));
        Ok(())
    }

    /// Runs `farthing` with these arguments, as a process of its own, and expects it to succeed.
    async fn farthing(&self, args: &[&str], input: &str) -> Result<String, Failure> {
        let output = self.run(args, input).await?;
        if !output.status.success() {
            return Err(Failure::other(format_args!("that was not expected: {}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn run(&self, args: &[&str], input: &str) -> Result<Output, Failure> {
        let spelled = args
            .iter()
            .map(|arg| if arg.contains(' ') { format!("\"{arg}\"") } else { (*arg).to_owned() });
        println!("\n$ farthing {}", spelled.collect::<Vec<_>>().join(" "));
        let binary = std::env::current_exe().map_err(Failure::other)?;
        let mut child = Command::new(binary)
            .args(args)
            .current_dir(self.folder.path())
            .env("FARTHING_HOME", self.folder.path().join("wallet"))
            .env("FARTHING_PASSPHRASE", PASSPHRASE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(Failure::other)?;
        if let Some(mut stdin) = child.stdin.take() {
            tokio::io::AsyncWriteExt::write_all(&mut stdin, input.as_bytes())
                .await
                .map_err(Failure::other)?;
        }
        let output = child.wait_with_output().await.map_err(Failure::other)?;
        for text in [&output.stderr, &output.stdout] {
            print!("{}", String::from_utf8_lossy(text).trim_start_matches('\n'));
        }
        if !output.stdout.ends_with(b"\n") && !output.stdout.is_empty() {
            println!();
        }
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            println!("(exit code {code})");
        }
        Ok(output)
    }
}

fn title(text: &str) {
    println!("\n── {text}");
}

fn expect(holds: bool, what: &str) -> Done {
    if holds { Ok(()) } else { Err(Failure::other(format_args!("the demo failed: {what}"))) }
}

/// An answer to the demo's own client.
struct Answer {
    status: u16,
    fields: HeaderMap,
}

/// Fetches a URL the plain way, showing what goes over the wire.
async fn get(url: &str, credential: Option<&str>) -> Result<Answer, Failure> {
    let shown = credential.map(|it| format!(" -H \"Authorization: {}…\"", it.split_at(24).0));
    println!("\n$ curl -i{} {url}", shown.unwrap_or_default());
    let mut request = reqwest::Client::new().get(url);
    if let Some(credential) = credential {
        request = request.header("authorization", credential);
    }
    let answer = request.send().await.map_err(|error| Failure::other(error.without_url()))?;
    let (status, fields) = (answer.status(), answer.headers().clone());
    println!("HTTP/1.1 {status}");
    for (name, value) in &fields {
        println!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    println!("\n{}", answer.text().await.map_err(Failure::other)?);
    Ok(Answer { status: status.as_u16(), fields })
}

/// Answers the first challenge of a 402 with a signature.
async fn credential(fields: &HeaderMap, payer: &PrepaidPayer) -> Result<String, Failure> {
    let offers = MppBuyer.read_offers(fields);
    let offer = offers.first().ok_or_else(|| Failure::other("no offer"))?;
    let paid = payer.pay(offer).await.map_err(Failure::other)?;
    let (_, value) = MppBuyer.write_credential(offer, &paid).map_err(Failure::other)?;
    value.to_str().map(str::to_owned).map_err(Failure::other)
}

/// The API that is sold.
async fn serve_forecasts() -> std::io::Result<SocketAddr> {
    let router = axum::Router::new()
        .route("/forecast/{city}", axum::routing::get(|| async { "sunny, 24 degrees\n" }))
        .route("/report/{year}", axum::routing::get(|| async { "a long report\n" }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

fn gateway_toml(upstream: SocketAddr) -> String {
    format!(
        r#"[gateway]
listen = "127.0.0.1:0"
realm = "localhost"
secrets = ["env:FARTHING_SECRET"]

[store]
sqlite = "book.db"

[assets.usd]
decimals = 2

[rails.prepaid]

[seller]
name = "forecasts-inc"

[upstreams.api]
url = "http://{upstream}"

[[routes]]
name = "forecast"
methods = ["GET"]
path = "/forecast/{{city}}"
upstream = "api"
price = "0.25 usd"

[[routes]]
name = "report"
methods = ["GET"]
path = "/report/{{year}}"
upstream = "api"
price = "2.00 usd"
"#
    )
}

const WALLET_TOML: &str = r#"key = "agent"

[assets.usd]
decimals = 2
per_payment_max = "0.50"
total_max = "3.00"
"#;

fn assets() -> Assets {
    let usd = "usd".parse().ok().and_then(|id| Asset::new(id, 2).ok());
    usd.into_iter().collect()
}

fn hex(secret: &SecretKey) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('0');
    secret.expose().iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}
